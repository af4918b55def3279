//! What a rule of the switch's own does before it forwards.

use super::cohort::{testers, with_cohort};
use super::heart::ok;
use super::rollouts::{careful, told};
use super::{LISTENER, Stage, config, own_rule, stage, world};
use crate::rollout::{
    Authentication, Claim, ClaimFormat, ClientSecret, Cognito, JwtValidation, Observed, Oidc, Processing, Rewrite,
    Session,
};
use crate::run::rollout::in_memory::Fault;
use crate::tf_provider::{Diagnostics, Resource as _, Stored, Value};

const RULE: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/2#10";

fn texts(pairs: &[(&str, &str)]) -> Value {
    Value::object(pairs.iter().map(|(name, text)| ((*name).to_owned(), Value::from(*text))))
}

fn jwt() -> Value {
    texts(&[("issuer", "https://id.example.com"), ("jwks_endpoint", "https://id.example.com/keys")])
}

fn oidc(secret: &str) -> Value {
    let urls = ["issuer", "authorization_endpoint", "token_endpoint", "user_info_endpoint"];
    let urls = urls.map(|name| (name, "https://id.example.com/x"));
    texts(&[&urls[..], &[("client_id", "web"), ("client_secret", secret)]].concat())
}

fn rewrite(regex: &str) -> Value {
    texts(&[("regex", regex), ("replace", "/$1")])
}

/// A switch with one rule of its own that has these arguments.
fn with(stage: &Stage, active: &str, arguments: &[(&str, Value)]) -> Value {
    let mut wish = config(&stage.switch, Value::from(active));
    let mut route = own_rule(10, "/api/*");
    arguments.iter().for_each(|(name, value)| route.set(name, value.clone()));
    wish.set("routes", Value::List(vec![route]));
    wish
}

fn seen(stage: &Stage) -> Observed {
    stage.fake.world().routes[RULE].clone()
}

async fn runbook(stage: &Stage, wish: &Value, stored: &Stored) -> Vec<String> {
    let (planned, diagnostics) = stage.plan(wish, Some(stored)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    if planned.state == stored.state {
        return Vec::new();
    }
    planned.state.unwrap().get("runbook").strings()
}

fn expected_jwt() -> Processing {
    let url = |path: &str| format!("https://id.example.com{path}");
    let jwt = JwtValidation { issuer: url(""), jwks_endpoint: url("/keys"), additional_claims: Vec::new() };
    Processing { authentication: Some(Authentication::Jwt(jwt)), ..Processing::default() }
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_made_with_what_it_does_first_and_kept_so() {
    let stage = stage(world(100, 0));
    let wish = with(&stage, "blue", &[("jwt_validation", jwt()), ("url_rewrite", rewrite("^/api/(.*)$"))]);
    let stored = ok(stage.apply(&wish, None).await);
    let rewritten = Rewrite { regex: "^/api/(.*)$".to_owned(), replace: "/$1".to_owned() };
    let expected = Processing { url_rewrite: Some(rewritten), ..expected_jwt() };
    assert_eq!(seen(&stage).processing, Some(expected.clone()));
    let read = stage.read(&stored).await;
    assert_eq!(runbook(&stage, &wish, &read).await, Vec::<String>::new());
    // Somebody lets everybody in: the next plan tells, and its apply puts it right. Traffic stays where it is.
    stage.fake.meddle(|world| world.routes.get_mut(RULE).unwrap().processing = Some(Processing::default()));
    let read = stage.read(&stored).await;
    let verb =
        |verb: &str| vec![format!("{verb} the authentication, {verb} the url_rewrite of rule 10 of listener web/2")];
    assert_eq!(runbook(&stage, &wish, &read).await, verb("add"));
    stage.fake.forget();
    let stored = ok(stage.apply(&wish, Some(&read)).await);
    assert_eq!(seen(&stage).processing, Some(expected));
    assert!(!stage.fake.calls().iter().any(|call| call.starts_with("set ")), "{:?}", stage.fake.calls());
    // And what is no longer wished goes.
    let plain = with(&stage, "blue", &[]);
    let read = stage.read(&stored).await;
    assert_eq!(runbook(&stage, &plain, &read).await, verb("remove"));
    ok(stage.apply(&plain, Some(&read)).await);
    assert_eq!(seen(&stage).processing, Some(Processing::default()));
}

/// What others let the switch's own rule do is theirs, be it known or not.
#[tokio::test(start_paused = true)]
async fn what_a_switch_did_not_ask_for_it_leaves_alone() {
    let stage = stage(world(100, 0));
    let wish = with(&stage, "blue", &[]);
    let stored = ok(stage.apply(&wish, None).await);
    for theirs in [Some(expected_jwt()), None] {
        stage.fake.meddle(|world| world.routes.get_mut(RULE).unwrap().processing = theirs.clone());
        let read = stage.read(&stored).await;
        assert_eq!(runbook(&stage, &wish, &read).await, Vec::<String>::new());
    }
    // What it can't see whole it does not change.
    let asked = with(&stage, "blue", &[("url_rewrite", rewrite("^/api/(.*)$"))]);
    let (_, diagnostics) = stage.plan(&asked, Some(&stage.read(&stored).await)).await;
    assert!(
        !diagnostics.has_errors() && told(&diagnostics).contains("The rule does something unknown"),
        "{}",
        told(&diagnostics)
    );
    // Beside what is known it puts its own.
    stage.fake.meddle(|world| world.routes.get_mut(RULE).unwrap().processing = Some(expected_jwt()));
    let read = stage.read(&stored).await;
    assert_eq!(runbook(&stage, &asked, &read).await, ["add the url_rewrite of rule 10 of listener web/2"]);
    let stored = ok(stage.apply(&asked, Some(&read)).await);
    let read = stage.read(&stored).await;
    assert_eq!(runbook(&stage, &wish, &read).await, ["remove the url_rewrite of rule 10 of listener web/2"]);
    ok(stage.apply(&wish, Some(&read)).await);
    assert_eq!(seen(&stage).processing, Some(expected_jwt()));
}

/// A rule is closed before anything new comes there, and does what else it is to do before the last watch.
#[tokio::test(start_paused = true)]
async fn what_changes_with_a_release_is_seen_by_its_last_watch() {
    let stage = stage(world(100, 0));
    let stored = ok(stage.apply(&with(&stage, "blue", &[]), None).await);
    let mut green = careful(&stage, "green");
    let both = with(&stage, "green", &[("jwt_validation", jwt()), ("url_rewrite", rewrite("^/api/(.*)$"))]);
    green.set("routes", both.get("routes").clone());
    let steps = runbook(&stage, &green, &stage.read(&stored).await).await;
    let at = |words: &str| {
        steps.iter().position(|step| step.starts_with(words)).unwrap_or_else(|| panic!("{words}: {steps:?}"))
    };
    let last = steps.iter().rposition(|step| step.starts_with("set rule 10")).unwrap();
    assert!(at("add the authentication, add the url_rewrite of rule 10") < at("set rule 10"), "{steps:?}");
    let green = {
        let mut wish = green.clone();
        let rewritten = with(&stage, "green", &[("url_rewrite", rewrite("^/api/(.*)$"))]);
        wish.set("routes", rewritten.get("routes").clone());
        wish
    };
    let steps = runbook(&stage, &green, &stage.read(&stored).await).await;
    let add = steps.iter().position(|step| step.starts_with("add the url_rewrite")).unwrap();
    assert!(
        add > last - 1 && steps[add + 1..].iter().any(|step| step.starts_with("watch green at 100 %")),
        "{steps:?}"
    );
}

/// AWS never tells a secret: which one a rule has is remembered, and another one is a change.
#[tokio::test(start_paused = true)]
async fn another_secret_is_a_change_until_the_rule_has_it() {
    let stage = stage(world(100, 0));
    let wish = |secret: &str| with(&stage, "blue", &[("authenticate_oidc", oidc(secret))]);
    // A rule that is made has its secret at once.
    let (planned, _) = stage.plan(&wish("first-secret"), None).await;
    let steps = planned.state.unwrap().get("runbook").strings();
    assert!(!steps.iter().any(|step| step.contains("authentication")), "{steps:?}");
    let stored = ok(stage.apply(&wish("first-secret"), None).await);
    let read = stage.read(&stored).await;
    assert_eq!(runbook(&stage, &wish("first-secret"), &read).await, Vec::<String>::new());
    let words = ["change the authentication of rule 10 of listener web/2"];
    assert_eq!(runbook(&stage, &wish("second-secret"), &read).await, words);
    // Neither where it could not be written, nor where it is not known whether it was.
    for fault in [Fault::Refused, Fault::LostAnswer] {
        let stage = stage.restarted();
        stage.fake.heal();
        stage.fake.fault(0, fault);
        let (failed, _) = stage.apply(&wish("second-secret"), Some(&read)).await;
        stage.fake.heal();
        let read = stage.read(&failed).await;
        assert_eq!(runbook(&stage, &wish("second-secret"), &read).await, words, "{fault:?}");
        // The first one is not taken for the one that it has, either, where that is in doubt.
        if matches!(fault, Fault::LostAnswer) {
            assert_eq!(runbook(&stage, &wish("first-secret"), &read).await, words);
        }
    }
    let stored = ok(stage.apply(&wish("second-secret"), Some(&read)).await);
    assert_eq!(runbook(&stage, &wish("second-secret"), &stage.read(&stored).await).await, Vec::<String>::new());
    assert_eq!(stage.fake.secrets().last().map(String::as_str), Some("second-secret"));
    // A way back tells AWS the secret that the rule had.
    stage.fake.set_status(500);
    let failing = {
        let mut wish = wish("third-secret");
        wish.set("active", Value::from("green"));
        let http = Value::List(vec![texts(&[("url", "http://{color}.test/")])]);
        wish.set("verification", Value::object([("http", http)]));
        wish
    };
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.apply(&failing, Some(&read)).await;
    let secrets = stage.fake.secrets();
    assert!(
        diagnostics.has_errors() && secrets.ends_with(&["third-secret".to_owned(), "second-secret".to_owned()]),
        "{secrets:?}"
    );
    let private = String::from_utf8(stored.private).unwrap();
    assert!(!private.contains("-secret") && !format!("{:?}", seen(&stage)).contains("-secret"), "{private}");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_fails_puts_it_back() {
    let stage = stage(world(100, 0));
    let stored = ok(stage.apply(&with(&stage, "blue", &[("jwt_validation", jwt())]), None).await);
    stage.fake.set_status(500);
    let stage = stage.restarted();
    let mut green = careful(&stage, "green");
    let mut preview = own_rule(10, "/api/*");
    preview.set("url_rewrite", rewrite("^/api/(.*)$"));
    // As a preview it is put right before the checks.
    green.set("preview_routes", Value::List(vec![preview]));
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.apply(&green, Some(&read)).await;
    assert!(diagnostics.has_errors());
    assert_eq!(seen(&stage).processing, Some(expected_jwt()));
}

/// What stands before a route does what the route does: a cohort is not let in unasked, and gets what it asks for.
#[tokio::test(start_paused = true)]
async fn a_cohorts_rule_does_the_same() {
    let stage = stage(world(100, 0));
    let wish = |active: &str| {
        let mut wish = with_cohort(&stage, active, testers());
        let mut own = own_rule(10, "/api/*");
        own.set("authenticate_oidc", oidc("the-secret"));
        own.set("host_header_rewrite", rewrite("^(.*)$"));
        wish.set("routes", Value::List(vec![own, Value::object([("listener_arn", Value::from(LISTENER))])]));
        wish
    };
    // Whoever made the listener lets users sign in.
    let cognito = Cognito {
        user_pool_arn: "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/eu-central-1_a".to_owned(),
        user_pool_client_id: "web".to_owned(),
        user_pool_domain: "shop".to_owned(),
        session: Session::default(),
    };
    let signed_in = Processing { authentication: Some(Authentication::Cognito(cognito)), ..Processing::default() };
    stage.fake.meddle(|world| world.routes.get_mut(LISTENER).unwrap().processing = Some(signed_in.clone()));
    let stored = ok(stage.apply(&wish("blue"), None).await);
    let made = std::cell::RefCell::new(Vec::new());
    stage.fake.heal();
    let history = stage.fake.history().len();
    ok(stage.apply(&wish("green"), Some(&stage.read(&stored).await)).await);
    for world in stage.fake.history().split_off(history) {
        for (key, seen) in &world.routes {
            let is_testers = seen.conditions.as_ref().is_some_and(|of| of.http_headers.contains_key("x-tester"));
            if is_testers && !made.borrow().iter().any(|(known, _)| known == key) {
                made.borrow_mut().push((key.clone(), seen.processing.clone()));
            }
        }
    }
    let own = seen(&stage).processing;
    assert!(own.as_ref().is_some_and(|own| own.host_header_rewrite.is_some()));
    let mut found: Vec<Option<Processing>> = made.into_inner().into_iter().map(|(_, processing)| processing).collect();
    found.sort();
    let mut expected = vec![own, Some(signed_in)];
    expected.sort();
    assert_eq!(found, expected);
    // With the secret: AWS takes no such rule without one.
    let secrets: Vec<String> = stage.fake.secrets();
    assert_eq!(secrets, ["the-secret", "the-secret"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_nobody_tells_can_not_be_used_for_a_cohort() {
    let stage = stage(world(100, 0));
    let stored = ok(stage.apply(&with_cohort(&stage, "blue", testers()), None).await);
    let text = || "https://id.example.com/x".to_owned();
    let oidc = Oidc {
        issuer: text(),
        authorization_endpoint: text(),
        token_endpoint: text(),
        user_info_endpoint: text(),
        client_id: "web".to_owned(),
        client_secret: ClientSecret::default(),
        session: Session::default(),
    };
    let processing = Processing { authentication: Some(Authentication::Oidc(oidc)), ..Processing::default() };
    stage.fake.meddle(|world| world.routes.get_mut(LISTENER).unwrap().processing = Some(processing.clone()));
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.plan(&with_cohort(&stage, "green", testers()), Some(&read)).await;
    let words = told(&diagnostics);
    assert!(
        diagnostics.has_errors() && words.contains("a client secret (authenticate-oidc) that AWS tells nobody"),
        "{words}"
    );
    stage.fake.meddle(|world| world.routes.get_mut(LISTENER).unwrap().processing = None);
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.plan(&with_cohort(&stage, "green", testers()), Some(&read)).await;
    let words = told(&diagnostics);
    assert!(diagnostics.has_errors() && words.contains("that this provider does not know"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_listener_without_tls_can_not_ask_who_it_is() {
    let stage = stage(world(100, 0));
    let wish = with(&stage, "blue", &[("jwt_validation", jwt())]);
    stage.fake.speak("HTTP");
    let (_, diagnostics) = stage.plan(&wish, None).await;
    let words = told(&diagnostics);
    assert!(diagnostics.has_errors() && words.contains("AWS takes jwt-validation only on HTTPS listeners"), "{words}");
    stage.fake.speak("HTTPS");
    let (_, diagnostics) = stage.plan(&wish, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
}

#[tokio::test]
async fn what_aws_would_refuse_is_told_at_validate() {
    let stage = stage(world(100, 0));
    let claim = |count: usize, value: &str| {
        let values = Value::List(vec![Value::from(value); count]);
        let format = ("format", Value::from("space-separated-values"));
        let mut jwt = jwt();
        let claim = Value::object([("name", Value::from("scope")), format, ("values", values)]);
        jwt.set("additional_claims", Value::List(vec![claim]));
        jwt
    };
    let mut extra = oidc("x");
    let parameters = (0..11).map(|n| (format!("p{n}"), Value::from("x")));
    extra.set("authentication_request_extra_params", Value::object(parameters));
    for (arguments, words) in [
        (
            vec![("jwt_validation", jwt()), ("authenticate_oidc", oidc("x"))],
            "set authenticate_oidc or jwt_validation, not both",
        ),
        (
            vec![("authenticate_oidc", extra)],
            "routes[0].authenticate_oidc.authentication_request_extra_params: there are 11",
        ),
        (
            vec![("jwt_validation", claim(11, "a"))],
            "routes[0].jwt_validation.additional_claims[0].values: there are 11",
        ),
        (vec![("jwt_validation", claim(1, "a b"))], "values that stand between spaces have none in them"),
    ] {
        let mut diagnostics = Diagnostics::new();
        stage.switch.validate(&with(&stage, "blue", &arguments), &mut diagnostics);
        let told = told(&diagnostics);
        assert!(diagnostics.has_errors() && told.contains(words), "{words}: {told}");
    }
    // Others' actions and transforms are theirs.
    let mut others = config(&stage.switch, Value::from("blue"));
    let listener = Value::object([("listener_arn", Value::from(LISTENER)), ("url_rewrite", rewrite("x"))]);
    let rule = LISTENER.replace(":listener/", ":listener-rule/") + "/3";
    let rule = Value::object([("rule_arn", Value::from(rule)), ("jwt_validation", jwt())]);
    others.set("routes", Value::List(vec![listener, rule]));
    let mut network = own_rule(5, "/x");
    network.set("listener_arn", Value::from(LISTENER.replace("/app/", "/net/")));
    network.set("conditions", texts(&[("source_ip_address_type", "ipv4")]));
    network.set("url_rewrite", rewrite("x"));
    others.set("preview_routes", Value::List(vec![network]));
    let mut diagnostics = Diagnostics::new();
    stage.switch.validate(&others, &mut diagnostics);
    let told = told(&diagnostics);
    for words in [
        "url_rewrite belongs to a rule",
        "jwt_validation belongs to a rule",
        "rules of Network Load Balancers only forward",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

/// A cohort does not come in by the way that this very release closes.
#[tokio::test(start_paused = true)]
async fn what_closes_with_a_release_is_closed_for_its_cohort() {
    let stage = stage(world(100, 0));
    let wish = |active: &str, arguments: &[(&str, Value)]| {
        let mut wish = with_cohort(&stage, active, testers());
        wish.set("routes", with(&stage, active, arguments).get("routes").clone());
        wish
    };
    let stored = ok(stage.apply(&wish("blue", &[]), None).await);
    let green = wish("green", &[("jwt_validation", jwt())]);
    let steps = runbook(&stage, &green, &stage.read(&stored).await).await;
    let at = |words: &str| steps.iter().position(|step| step.starts_with(words)).unwrap_or(usize::MAX);
    assert!(at("add the authentication of rule 10") < at("create rule"), "{steps:?}");
    stage.fake.forget();
    ok(stage.apply(&green, Some(&stage.read(&stored).await)).await);
    let history = stage.fake.history();
    let seen = history.iter().flat_map(|world| world.routes.values());
    let testers =
        seen.filter(|seen| seen.conditions.as_ref().is_some_and(|of| of.http_headers.contains_key("x-tester")));
    let does: Vec<Option<Processing>> = testers.map(|seen| seen.processing.clone()).collect();
    assert!(!does.is_empty() && does.iter().all(|does| *does == Some(expected_jwt())), "{does:?}");
}

/// What was there already as it is wished goes with the wish.
#[tokio::test(start_paused = true)]
async fn what_was_there_as_it_is_wished_is_the_switchs_own() {
    let stage = stage(world(100, 0));
    let (plain, asking) = (with(&stage, "blue", &[]), with(&stage, "blue", &[("jwt_validation", jwt())]));
    let stored = ok(stage.apply(&plain, None).await);
    stage.fake.meddle(|world| world.routes.get_mut(RULE).unwrap().processing = Some(expected_jwt()));
    let stored = ok(stage.apply(&asking, Some(&stage.read(&stored).await)).await);
    let read = stage.read(&stored).await;
    assert_eq!(runbook(&stage, &plain, &read).await, ["remove the authentication of rule 10 of listener web/2"]);
}

#[test]
fn who_lets_fewer_in_closes() {
    let jwt = |claims: &[&str]| {
        let claim =
            |name: &&str| Claim { name: (*name).to_owned(), format: ClaimFormat::SingleString, values: Vec::new() };
        let Some(Authentication::Jwt(jwt)) = expected_jwt().authentication else { unreachable!() };
        let additional_claims = claims.iter().map(claim).collect();
        Processing {
            authentication: Some(Authentication::Jwt(JwtValidation { additional_claims, ..jwt })),
            ..Processing::default()
        }
    };
    let open = Processing::default();
    assert!(open.closes(&jwt(&[])) && !jwt(&[]).closes(&open));
    assert!(
        jwt(&["a"]).closes(&jwt(&["a", "b"]))
            && !jwt(&["a", "b"]).closes(&jwt(&["a"]))
            && !jwt(&["a"]).closes(&jwt(&["a"]))
    );
    assert!(jwt(&["a"]).closes(&jwt(&["b"])));
}
