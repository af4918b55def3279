//! The adapters against a small HTTP server that says what AWS would: shapes of requests, meaning of errors, how many
//! calls are made.

mod lossless;
mod regions;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::compose;
use crate::network;
use crate::rollout::metrics::Count;
use crate::rollout::{
    Capacity, Conditions, Forward, Inconclusive, Metric, MetricCheck, MetricTest, Processing, RouteSpec, Scalable,
    Stickiness, Terminal,
};
use crate::run::call::Call;
use crate::run::ports::{FailureKind, Freshness};
use crate::run::rollout::ports::{MetricOf, Ports};
use crate::run::stack::ports::StackPorts;
use crate::settings::Settings;

const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1111/2222";
const GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/3333";

/// Which region a call was signed for, beside what was asked.
const REGION: &str = "signed for";

/// What was asked, in order; and an answer to each by the operation's name.
struct Stub {
    asked: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
    ports: Ports,
    stack: StackPorts,
    endpoint: String,
}

type Answers = fn(&BTreeMap<String, String>) -> (u16, String);

/// Ports to an endpoint, with so many repeats.
fn ports_to(endpoint: &str, retries: u32) -> (Ports, StackPorts) {
    let adapters = compose::on_aws(Some(settings(endpoint, retries))).home();
    (adapters.ports, adapters.stacks)
}

/// A provider block with keys, in eu-central-1.
fn settings(endpoint: &str, retries: u32) -> Settings {
    Settings {
        region: Some("eu-central-1".to_owned()),
        access_key: Some("key".to_owned()),
        secret_key: Some("secret".to_owned()),
        endpoint_url: Some(endpoint.to_owned()),
        max_retries: Some(retries),
        ..Settings::default()
    }
}

impl Stub {
    async fn start(answers: Answers) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, log.clone(), answers));
            }
        });
        let endpoint = format!("http://{address}");
        let (ports, stack) = ports_to(&endpoint, 1);
        Stub { asked, ports, stack, endpoint }
    }

    fn asked(&self) -> Vec<BTreeMap<String, String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn operations(&self) -> Vec<String> {
        self.asked().iter().map(|call| call["Action"].clone()).collect()
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<BTreeMap<String, String>>>>, answers: Answers) {
    let mut buffer = Vec::new();
    loop {
        let Some((head, body)) = read_request(&mut stream, &mut buffer).await else { return };
        let target = head.lines().find_map(|line| line.strip_prefix("x-amz-target: ")?.rsplit('.').next());
        let mut call: BTreeMap<String, String> = match target {
            Some(action) => BTreeMap::from([("Action".to_owned(), action.to_owned()), ("body".to_owned(), body)]),
            None => reqwest::Url::parse(&format!("http://x/?{body}")).unwrap().query_pairs().into_owned().collect(),
        };
        let signed = head.split("Credential=").nth(1).and_then(|credential| credential.split('/').nth(2));
        call.extend(signed.map(|region| (REGION.to_owned(), region.to_owned())));
        let (status, text) = answers(&call);
        log.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", text.len());
        if stream.write_all(format!("{head}{text}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_owned();
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.unwrap_or(0);
            if body.len() >= length {
                let body = body[..length].to_owned();
                buffer.clear();
                return Some((head, body));
            }
        }
        let mut part = [0; 8192];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => buffer.extend_from_slice(&part[..count]),
        }
    }
}

fn with_oidc(call: &BTreeMap<String, String>) -> (u16, String) {
    let actions = format!(
        "<member><Type>authenticate-oidc</Type><Order>1</Order><AuthenticateOidcConfig><Issuer>https://id.example.com</Issuer>\
         <AuthorizationEndpoint>https://id.example.com/a</AuthorizationEndpoint><TokenEndpoint>https://id.example.com/t</TokenEndpoint>\
         <UserInfoEndpoint>https://id.example.com/u</UserInfoEndpoint><ClientId>me</ClientId><Scope>openid email</Scope>\
         <SessionTimeout>3600</SessionTimeout><OnUnauthenticatedRequest>authenticate</OnUnauthenticatedRequest>\
         <AuthenticationRequestExtraParams><entry><key>display</key><value>page</value></entry></AuthenticationRequestExtraParams>\
         </AuthenticateOidcConfig></member>\
         <member><Type>forward</Type><Order>2</Order><TargetGroupArn>{GROUP}</TargetGroupArn></member>"
    );
    let listener = format!(
        "<member><ListenerArn>{LISTENER}</ListenerArn><Port>443</Port><DefaultActions>{actions}</DefaultActions></member>"
    );
    let action = &call["Action"];
    (
        200,
        format!(
            "<{action}Response><{action}Result><Listeners>{listener}</Listeners></{action}Result></{action}Response>"
        ),
    )
}

#[tokio::test]
async fn what_comes_before_the_forward_is_sent_back_to_the_letter() {
    let stub = Stub::start(with_oidc).await;
    let route = RouteSpec::Listener(LISTENER.to_owned());
    let stickiness = Some(Stickiness { enabled: true, duration_seconds: Some(60) });
    let terminal = Terminal::Forward(Forward { groups: vec![(GROUP.to_owned(), 100)], stickiness });
    stub.ports.load_balancer.set_terminal(&route, LISTENER, &terminal).await.unwrap();
    let sent = stub.asked().pop().unwrap();
    let shown: Vec<String> = sent
        .iter()
        .filter_map(|(name, value)| Some(format!("{} = {value}", name.strip_prefix("DefaultActions.member.")?)))
        .collect();
    expect_test::expect![[r#"
        1.AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.1.key = display
        1.AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.1.value = page
        1.AuthenticateOidcConfig.AuthorizationEndpoint = https://id.example.com/a
        1.AuthenticateOidcConfig.ClientId = me
        1.AuthenticateOidcConfig.Issuer = https://id.example.com
        1.AuthenticateOidcConfig.OnUnauthenticatedRequest = authenticate
        1.AuthenticateOidcConfig.Scope = openid email
        1.AuthenticateOidcConfig.SessionTimeout = 3600
        1.AuthenticateOidcConfig.TokenEndpoint = https://id.example.com/t
        1.AuthenticateOidcConfig.UseExistingClientSecret = true
        1.AuthenticateOidcConfig.UserInfoEndpoint = https://id.example.com/u
        1.Order = 1
        1.Type = authenticate-oidc
        2.ForwardConfig.TargetGroupStickinessConfig.DurationSeconds = 60
        2.ForwardConfig.TargetGroupStickinessConfig.Enabled = true
        2.ForwardConfig.TargetGroups.member.1.TargetGroupArn = arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/3333
        2.ForwardConfig.TargetGroups.member.1.Weight = 100
        2.Order = 2
        2.Type = forward"#]]
    .assert_eq(&shown.join("\n"));
}

/// Ports to a server that lets each call but the reads end so, and counts them.
async fn broken(how: &'static [u8]) -> (Ports, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                if read_request(&mut stream, &mut Vec::new()).await.is_some() {
                    *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    drop(stream.write_all(how).await);
                }
            });
        }
    });
    (ports_to(&format!("http://{address}"), 1).0, asked)
}

/// What was sent and not answered may have its effect; an answer that broke off is one; what is given up is not sent again.
#[tokio::test]
async fn p09_attempts_without_an_answer_are_noted() {
    let closed: &[u8] = b"";
    let cut: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n<half";
    for (how, unanswered) in [(closed, 2), (cut, 0)] {
        let (ports, asked) = broken(how).await;
        let call = Call::new();
        let failed = call.clone().make(ports.load_balancer.set_conditions("arn", &Conditions::default())).await;
        assert!(failed.is_err());
        assert_eq!((call.unanswered(), call.fell_silent()), (unanswered, false), "{how:?}");
        assert_eq!(*asked.lock().unwrap(), 2);
    }
    let (ports, asked) = broken(closed).await;
    let once = Call::once();
    assert!(once.clone().make(ports.records.delete("/app/live.rollout")).await.is_err());
    assert_eq!((once.unanswered(), *asked.lock().unwrap()), (1, 1), "it is not sent again");
    let (ports, asked) = broken(closed).await;
    // Reads change nothing, so nothing is unknown of them.
    let call = Call::new();
    assert!(call.clone().make(ports.load_balancer.target_health(GROUP, false)).await.is_err());
    assert_eq!(call.unanswered(), 0);
    let before = *asked.lock().unwrap();
    let call = Call::new();
    call.give_up();
    let refused = call.clone().make(ports.load_balancer.delete_rule("arn")).await.unwrap_err();
    assert!(refused.message.contains("stopped before it was sent"), "{refused}");
    assert_eq!((call.unanswered(), *asked.lock().unwrap()), (0, before));
    // Nobody is there: it never left.
    let ports = ports_to("http://127.0.0.1:9", 0).0;
    let call = Call::new();
    assert!(call.clone().make(ports.load_balancer.delete_rule("arn")).await.is_err());
    assert_eq!(call.unanswered(), 0);
}

/// An endpoint that was never there is told soon, whatever the retries; one that was there is waited for.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_was_never_there_is_told() {
    let ports = ports_to("http://127.0.0.1:9", 24).0;
    let began = tokio::time::Instant::now();
    let failed = ports.load_balancer.target_health(GROUP, false).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(failed.message.contains("failed to reach 127.0.0.1"), "{failed}");
    assert!(failed.message.contains("8 attempts") && failed.message.contains("endpoint_url"), "{failed}");
    let call = Call::new();
    let failed = call.clone().make(ports.load_balancer.delete_rule("arn")).await.unwrap_err();
    assert!(failed.message.contains("8 attempts") && call.unanswered() == 0, "{failed}");
}

#[tokio::test]
async fn an_endpoint_that_was_there_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let once = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream, &mut Vec::new()).await;
        drop(stream.write_all(b"HTTP/1.1 403 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await);
    });
    let ports = ports_to(&format!("http://{address}"), 9).0;
    assert!(ports.load_balancer.target_health(GROUP, false).await.is_err());
    once.await.unwrap();
    tokio::time::pause();
    let failed = ports.load_balancer.target_health(GROUP, false).await.unwrap_err();
    assert!(!failed.message.contains("attempts came to nothing"), "{failed}");
}

/// What is no answer of AWS's is told in words, and was answered all the same: nothing is unknown of it.
#[tokio::test]
async fn an_answer_that_is_none_is_told_in_words() {
    let redirect: &[u8] =
        b"HTTP/1.1 307 X\r\nlocation: https://me:hunter22@elsewhere.example.com/login?token=abc\r\ncontent-length: 0\r\n\r\n";
    let long: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n<";
    for (answer, words) in [
        (redirect, "answered with a redirect (307) to https://elsewhere.example.com/login, which AWS never does"),
        (long, "the answer is longer than 32 MiB"),
    ] {
        let (ports, asked) = broken(answer).await;
        let call = Call::new();
        let error =
            call.clone().make(ports.load_balancer.set_conditions("arn", &Conditions::default())).await.unwrap_err();
        assert!(error.message.contains(words) && !error.message.contains("hunter22"), "{error}");
        assert_eq!((call.unanswered(), *asked.lock().unwrap()), (0, 1));
    }
}

/// A proxy with a password is told it, and a loopback address is never asked by way of one.
#[tokio::test]
async fn a_proxy_is_used_with_its_password() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap();
        drop(stream.write_all(b"HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n").await);
        String::from_utf8_lossy(&part[..count]).into_owned()
    });
    let settings = Settings {
        region: Some("eu-central-1".to_owned()),
        access_key: Some("key".to_owned()),
        secret_key: Some("secret".to_owned()),
        https_proxy: Some(format!("http://me:hunter22@{address}")),
        max_retries: Some(0),
        ..Settings::default()
    };
    let ports = compose::on_aws(Some(settings)).home().ports;
    assert!(ports.load_balancer.target_health(GROUP, false).await.is_err());
    let head = heads.await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("connect elasticloadbalancing.eu-central-1.amazonaws.com:443"), "{head}");
    assert!(head.contains("proxy-authorization: basic bwu6ahvudgvymji="), "{head}");
}

/// A file with certificate authorities that is none is told before anything is asked.
#[test]
fn a_bundle_without_a_certificate_is_a_fault() {
    let faults = |path: &str| {
        let settings = Settings { custom_ca_bundle: Some(path.to_owned()), ..Settings::default() };
        network::wrong_bundle(&settings)
    };
    let write = |text: &str| {
        let path = std::env::temp_dir().join(format!("bluegreen-bundle-{}-{}.pem", std::process::id(), text.len()));
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (empty, odd) = (write(""), write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    for (path, words) in [
        ("/no/such.pem", "the file can't be read"),
        ("/dev/null", "it is not a file"),
        (empty.as_str(), "there is no certificate in the file"),
        (odd.as_str(), "certificate 1 can't be read"),
    ] {
        let (name, _, reason) = faults(path).expect(words);
        assert!(name == "custom_ca_bundle" && reason.contains(words), "{name}: {reason}");
    }
    std::fs::remove_file(empty).unwrap();
    std::fs::remove_file(odd).unwrap();
}

fn refused(call: &BTreeMap<String, String>) -> (u16, String) {
    let code = match call["Action"].as_str() {
        "DescribeListeners" => "LoadBalancerNotFound",
        "CreateRule" => "PriorityInUse",
        "DeleteRule" => "RuleNotFound",
        _ => "AccessDenied",
    };
    (400, format!("<ErrorResponse><Error><Code>{code}</Code><Message>No.</Message></Error></ErrorResponse>"))
}

#[tokio::test]
async fn errors_are_told_apart_and_read_well() {
    let stub = Stub::start(refused).await;
    let load_balancer = &stub.ports.load_balancer;
    let route = RouteSpec::Listener(LISTENER.to_owned());
    let gone = load_balancer.observe(&[route], Freshness::Now).await;
    assert_eq!(gone, Ok(BTreeMap::new()));
    let forward = Terminal::Forward(Forward::default());
    let of = (&Conditions::default(), &Processing::default());
    let made = load_balancer.create_rule(LISTENER, 1, of, &forward, &BTreeMap::new()).await;
    assert_eq!(made.map_err(|error| error.kind), Err(FailureKind::Conflict));
    assert_eq!(load_balancer.delete_rule("rule").await, Ok(()));
    let denied = load_balancer.target_health(GROUP, false).await.unwrap_err();
    assert_eq!(denied.kind, FailureKind::Denied);
    assert_eq!(denied.message, "elasticloadbalancing DescribeTargetHealth: AccessDenied: No.");
}

fn parameters(call: &BTreeMap<String, String>) -> (u16, String) {
    let body: serde_json::Value = serde_json::from_str(&call["body"]).unwrap();
    let found: Vec<_> = body["Names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|name| *name != "/app/7/live")
        .map(|name| serde_json::json!({ "Name": name, "Value": "blue", "Type": "String" }))
        .collect();
    (200, serde_json::json!({ "Parameters": found }).to_string())
}

#[tokio::test]
async fn records_that_are_read_together_share_calls() {
    let stub = Stub::start(parameters).await;
    let names: Vec<String> = (0..25).map(|n| format!("/app/{n}/live")).collect();
    let reads = names.iter().map(|name| stub.ports.records.get(name, Freshness::Shared));
    let values = futures::future::join_all(reads).await;
    for (n, value) in values.into_iter().enumerate() {
        let expected = (n != 7).then(|| "blue".to_owned());
        assert_eq!(value, Ok(expected), "{n}");
    }
    assert_eq!(stub.operations(), ["GetParameters"; 3]);
}

const SERVICE: &str = "arn:aws:ecs:eu-central-1:123456789012:service/main/web";

/// A service of four tasks that is kept between 4 and 6, with the note that its own minimum is 1.
fn kept(call: &BTreeMap<String, String>) -> (u16, String) {
    let answer = match call["Action"].as_str() {
        "DescribeServices" => {
            let note = serde_json::json!([{ "key": "bluegreen:pinned-min", "value": "1" }]);
            let service = serde_json::json!({ "serviceName": "web", "serviceArn": SERVICE, "status": "ACTIVE", "desiredCount": 4, "tags": note });
            serde_json::json!({ "services": [service] })
        }
        "DescribeScalableTargets" => serde_json::json!({ "ScalableTargets": [{
            "ServiceNamespace": "ecs", "ResourceId": "service/main/web", "ScalableDimension": "ecs:service:DesiredCount",
            "MinCapacity": 4, "MaxCapacity": 6, "RoleARN": "arn:aws:iam::123456789012:role/x", "CreationTime": 0,
        }] }),
        _ => serde_json::json!({}),
    };
    (200, answer.to_string())
}

fn kept_by_others(call: &BTreeMap<String, String>) -> (u16, String) {
    let (status, answer) = kept(call);
    (status, answer.replace("\"MinCapacity\":4", "\"MinCapacity\":5"))
}

fn too_large(call: &BTreeMap<String, String>) -> (u16, String) {
    let (status, answer) = kept(call);
    (status, answer.replace("\"desiredCount\":4", "\"desiredCount\":8"))
}

fn denied(call: &BTreeMap<String, String>, operation: &str) -> (u16, String) {
    if call["Action"] == operation {
        return (400, r#"{"__type":"AccessDeniedException","message":"no"}"#.to_owned());
    }
    kept(call)
}

const HELD: Capacity = Capacity { min: Some(4), max: 6, desired: 4, pinned: Some(1) };
const FREE: Capacity = Capacity { min: Some(1), max: 6, desired: 4, pinned: None };

/// What a rollout took is given back and struck out, unless somebody set another minimum meanwhile.
#[tokio::test]
async fn the_minimum_of_a_service_is_given_back() {
    let service = Scalable::Service(SERVICE.to_owned());
    let stub = Stub::start(kept).await;
    let capacities = &stub.ports.capacities;
    assert_eq!(capacities.get(&service).await.unwrap(), Some(HELD));
    capacities.set(&service, HELD, FREE).await.unwrap();
    let changes = |stub: &Stub| {
        stub.operations().into_iter().filter(|operation| !operation.starts_with("Describe")).collect::<Vec<_>>()
    };
    assert_eq!(changes(&stub), ["RegisterScalableTarget", "UntagResource"]);
    // A second hold, on top of one that a killed run left, is undone to that one.
    capacities.set(&service, HELD, Capacity { min: Some(2), ..HELD }).await.unwrap();
    assert_eq!(changes(&stub)[2..], ["RegisterScalableTarget"]);
    let stub = Stub::start(kept_by_others).await;
    stub.ports.capacities.set(&service, HELD, FREE).await.unwrap();
    assert_eq!(changes(&stub), ["UntagResource"]);
    // AWS would shrink what is larger than its maximum.
    let stub = Stub::start(too_large).await;
    let refused = stub.ports.capacities.set(&service, HELD, FREE).await.unwrap_err();
    assert!(refused.message.contains("has 8 tasks, and its maximum is 6"), "{refused}");
    assert!(changes(&stub).is_empty(), "{:?}", stub.operations());
}

/// Whoever may not hold it goes on without, gives nothing back that was not taken, and is told.
#[tokio::test]
async fn a_minimum_that_may_not_be_held_stops_nothing() {
    let service = Scalable::Service(SERVICE.to_owned());
    let stub = Stub::start(|call| denied(call, "RegisterScalableTarget")).await;
    let capacities = &stub.ports.capacities;
    capacities.set(&service, FREE, HELD).await.unwrap();
    let asked = ["TagResource", "RegisterScalableTarget", "UntagResource"];
    assert_eq!(stub.operations(), asked);
    // What could not be taken is still to be given back where it is there from before: that is told.
    assert!(capacities.set(&service, HELD, FREE).await.is_err());
    assert!(capacities.unheld(&service, true).unwrap().contains("AccessDeniedException: no"));
}

/// Where it can't be seen who keeps a service, the note of what was taken stays for whoever can; and it is asked once.
#[tokio::test]
async fn a_note_stays_where_nobody_sees_what_it_is_about() {
    let service = Scalable::Service(SERVICE.to_owned());
    let stub = Stub::start(|call| denied(call, "DescribeScalableTargets")).await;
    let capacities = &stub.ports.capacities;
    for _ in 0..2 {
        let seen = capacities.get(&service).await.unwrap().unwrap();
        assert_eq!((seen.min, seen.pinned), (None, None));
    }
    assert!(capacities.unheld(&service, true).unwrap().contains("AccessDeniedException: no"));
    let asked = stub.operations();
    assert_eq!(asked.iter().filter(|operation| *operation == "DescribeScalableTargets").count(), 1, "{asked:?}");
}

/// What authenticates is there for a command to paste, without what is not said.
#[tokio::test]
async fn what_comes_before_the_forward_can_be_pasted() {
    let stub = Stub::start(with_oidc).await;
    let route = RouteSpec::Listener(LISTENER.to_owned());
    let seen = stub.ports.load_balancer.observe(std::slice::from_ref(&route), Freshness::Now).await.unwrap();
    let ahead = &seen[LISTENER].ahead;
    assert!(ahead.is_whole);
    let config = &ahead.actions[0]["AuthenticateOidcConfig"];
    assert_eq!((&ahead.actions[0]["Type"], &ahead.actions[0]["Order"]), (&"authenticate-oidc".into(), &1.into()));
    assert_eq!((&config["ClientId"], &config["UseExistingClientSecret"]), (&"me".into(), &true.into()));
    assert_eq!(config["AuthenticationRequestExtraParams"], serde_json::json!({ "display": "page" }));
}

#[tokio::test]
async fn listeners_that_are_read_together_share_a_call() {
    let stub = Stub::start(with_oidc).await;
    let route = [RouteSpec::Listener(LISTENER.to_owned())];
    let load_balancer = &stub.ports.load_balancer;
    let reads = (0..10).map(|_| load_balancer.observe(&route, Freshness::Shared));
    for seen in futures::future::join_all(reads).await {
        assert!(seen.unwrap()[LISTENER].terminal.mentions(GROUP));
    }
    assert_eq!(stub.operations(), ["DescribeListeners"]);
    load_balancer.observe(&route, Freshness::Now).await.unwrap();
    assert_eq!(stub.operations().len(), 2);
}

/// A hundred requests to a function, of which eight came to nothing there, and as many answers of the load balancer.
fn measured(call: &BTreeMap<String, String>) -> (u16, String) {
    minutes(call, |query| match call[&format!("{query}.Metric.MetricName")].as_str() {
        "RequestCount" => &[100],
        "LambdaUserError" => &[5],
        "LambdaInternalError" => &[3],
        _ => &[],
    })
}

/// What GetMetricData says to each of its queries: a value for each minute.
fn minutes(call: &BTreeMap<String, String>, values: impl Fn(&str) -> &'static [u32]) -> (u16, String) {
    let result = |n: usize| {
        let query = format!("MetricDataQueries.member.{n}");
        let id = call.get(&format!("{query}.Id"))?;
        let values = values(&format!("{query}.MetricStat"));
        let times: String = (0..values.len()).map(|n| format!("<member>2026-01-01T00:0{n}:00Z</member>")).collect();
        let values: String = values.iter().map(|value| format!("<member>{value}</member>")).collect();
        let points = format!("<Timestamps>{times}</Timestamps><Values>{values}</Values>");
        Some(format!("<member><Id>{id}</Id><StatusCode>Complete</StatusCode>{points}</member>"))
    };
    let results: String = (1..).map_while(result).collect();
    let body = format!("<GetMetricDataResult><MetricDataResults>{results}</MetricDataResults></GetMetricDataResult>");
    (200, format!("<GetMetricDataResponse>{body}</GetMetricDataResponse>"))
}

#[tokio::test]
async fn a_function_that_fails_is_an_error_of_its_color() {
    let stub = Stub::start(measured).await;
    let check = error_rate();
    let of = MetricOf { color: "green", group: "targetgroup/green/1", load_balancer: "app/web/1", over: &[] };
    let now = crate::clock::wall();
    let window = (now - check.window, now);
    let sample = stub.ports.monitoring.sample(&check, of, window).await.unwrap();
    assert_eq!((sample.value, sample.requests, sample.points), (Some(0.08), 100.0, vec![0.08]));
    let counts: Vec<_> = sample.counts.iter().flatten().map(|count| (count.of, count.hits)).collect();
    assert_eq!(counts, [(100.0, 8.0)]);
}

fn error_rate() -> MetricCheck {
    MetricCheck {
        target_group: None,
        metric: Metric::ErrorRate,
        max: Some(0.01),
        min: None,
        max_ratio_to_live: None,
        significance: None,
        test: MetricTest::Sequential,
        min_requests: None,
        inconclusive: Inconclusive::Fail,
        dry_run: false,
        load_balancer_errors: false,
        period: Duration::from_secs(60),
        window: Duration::from_secs(300),
    }
}

/// A thousand requests in two minutes, 30 of which took more than 300 ms, and 9 more than 1.5 s; in the second one nobody waited so long.
fn timed(call: &BTreeMap<String, String>) -> (u16, String) {
    minutes(call, |query| match call[&format!("{query}.Stat")].as_str() {
        "Sum" | "TC(0.000000:)" => &[400, 600],
        "TC(0.300000:)" => &[10, 20],
        "TC(1.500000:)" => &[9],
        _ => &[],
    })
}

#[tokio::test]
async fn requests_that_take_long_are_counted() {
    let stub = Stub::start(timed).await;
    let check = MetricCheck { metric: Metric::Latency(99), max: Some(0.3), ..error_rate() };
    let of = MetricOf { color: "green", group: "targetgroup/green/1", load_balancer: "app/web/1", over: &[0.3, 1.5] };
    let now = crate::clock::wall();
    let window = (now - check.window, now);
    let sample = stub.ports.monitoring.sample(&check, of.clone(), window).await.unwrap();
    let told = |counts: &[Count]| counts.iter().map(|one| (one.of, one.hits)).collect::<Vec<_>>();
    let counts: Vec<_> = sample.counts.iter().map(|counts| told(counts)).collect();
    assert_eq!(counts, [[(400.0, 10.0), (600.0, 20.0)], [(400.0, 9.0), (600.0, 0.0)]]);
    // Nothing is asked for that nobody needs.
    let none = MetricOf { over: &[], ..of };
    assert_eq!(stub.ports.monitoring.sample(&check, none, window).await.unwrap().counts, Vec::<Vec<Count>>::new());
}

/// Every change finds something else under way once.
fn contended(call: &BTreeMap<String, String>) -> (u16, String) {
    static MET: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let (action, mut met) = (call["Action"].clone(), MET.lock().unwrap_or_else(PoisonError::into_inner));
    let is_second = met.contains(&action);
    let code = match action.as_str() {
        "UpdateAutoScalingGroup" => "ScalingActivityInProgress",
        "CreateOrUpdateTags" | "DeleteTags" => "ResourceContention",
        "PutParameter" | "AddTagsToResource" => "TooManyUpdates",
        _ => return measured(call),
    };
    if !is_second {
        met.push(action);
        return match code.starts_with("Too") {
            true => (400, format!("{{\"__type\":\"{code}\",\"message\":\"not now\"}}")),
            false => (
                if code == "ResourceContention" { 500 } else { 400 },
                format!("<ErrorResponse><Error><Code>{code}</Code><Message>not now</Message></Error></ErrorResponse>"),
            ),
        };
    }
    (200, if code.starts_with("Too") { "{\"Version\":1}".to_owned() } else { format!("<{action}Response/>") })
}

#[tokio::test]
async fn what_is_refused_because_something_else_is_under_way_is_asked_again() {
    let stub = Stub::start(contended).await;
    let records = &stub.ports.records;
    records.write("/app/live", "green").await.unwrap();
    records.add_tags("/app/live", &BTreeMap::from([("a".to_owned(), "b".to_owned())])).await.unwrap();
    let (before, after) = (
        Capacity { min: Some(1), max: 9, desired: 2, pinned: None },
        Capacity { min: Some(2), max: 9, desired: 3, pinned: Some(1) },
    );
    let group = Scalable::ScalingGroup("app".to_owned());
    stub.ports.capacities.set(&group, before, after).await.unwrap();
    let asked = stub.operations();
    for action in ["PutParameter", "AddTagsToResource", "UpdateAutoScalingGroup", "CreateOrUpdateTags"] {
        assert!(asked.iter().filter(|asked| *asked == action).count() >= 2, "{action}: {asked:?}");
    }
}
