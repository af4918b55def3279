//! The rings: the process dies, or a call goes wrong, at every single AWS call of a rollout with three steps and two routes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Said, Terraform, repository};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PARAMETER: &str = "/myapp/current-live";
const STEPS: &str =
    "  strategy = { steps = [{ weight = 10 }, { weight = 50 }], settle = \"0s\" }\n  verification = { healthy = {} }";

/// A listener and a rule that lead to blue, and a switch over both.
struct Ring {
    stage: Stage,
    terraform: Terraform,
    rule: String,
    /// Where the provider finds AWS, if not at the stage.
    endpoint: Option<String>,
}

impl Ring {
    async fn new() -> anyhow::Result<Ring> {
        let stage = Stage::new().await?;
        let rule = stage.rule(0, 10, "/api/*", "blue").await?;
        let ring = Ring { stage, terraform: Terraform::new()?, rule, endpoint: None };
        ring.wish("blue")?;
        ring.terraform.apply().await?.ok()?;
        Ok(ring)
    }

    fn wish(&self, active: &str) -> anyhow::Result<()> {
        let routes =
            format!("[{{ listener_arn = \"{}\" }}, {{ rule_arn = \"{}\" }}]", self.stage.listeners[0], self.rule);
        let text = self.stage.switch_over(Some(active), &routes, STEPS);
        let endpoint = self.endpoint.clone().unwrap_or_else(|| self.stage.aws.endpoint());
        self.terraform.write(&text.replace(&self.stage.aws.endpoint(), &endpoint))
    }

    fn fault(&self, spec: Value) -> anyhow::Result<()> {
        self.stage.aws.add_fault(serde_json::from_value(spec)?);
        Ok(())
    }

    /// Everything is on this color, and nothing is left of the rollout.
    async fn is_on(&self, color: &str) -> anyhow::Result<()> {
        self.leads_to(color).await?;
        ensure!(self.stage.client.lock(PARAMETER).await?.is_none(), "the lock is left");
        Ok(())
    }

    /// Everything is on this color.
    async fn leads_to(&self, color: &str) -> anyhow::Result<()> {
        for weights in [self.stage.weights(0).await?, self.stage.rule_weights(&self.rule).await?] {
            ensure!(weights[color] == 100, "{weights:?}");
        }
        ensure!(self.stage.client.parameter(PARAMETER).await?.as_deref() == Some(color));
        Ok(())
    }

    /// Every split that was asked for is one of the runbook's steps.
    fn only_steps(&self) -> anyhow::Result<()> {
        for call in self.stage.aws.calls().iter().filter(|call| call.operation.starts_with("Modify")) {
            let fields = call.params.as_object().into_iter().flatten();
            let weights: Vec<u32> = fields
                .filter(|(name, _)| name.ends_with(".Weight"))
                .filter_map(|(_, value)| value.as_str()?.parse().ok())
                .collect();
            let mut sorted = weights.clone();
            sorted.sort_unstable();
            ensure!([vec![0, 100], vec![10, 90], vec![50, 50]].contains(&sorted), "{weights:?} is no step");
        }
        Ok(())
    }

    /// The AWS calls of one whole apply: service and operation, and whether they change something.
    async fn calls(&self, active: &str) -> anyhow::Result<Vec<(String, bool)>> {
        self.wish(active)?;
        self.stage.aws.clear_calls();
        self.terraform.apply().await?.ok()?;
        Ok(self.stage.aws.calls().into_iter().map(|call| (call.operation, call.mutating)).collect())
    }
}

fn other(color: &str) -> &'static str {
    if color == "blue" { "green" } else { "blue" }
}

/// Each call that changes something, and each kind of reading, when planning and in the middle of the rollout; what stands
/// between two such is the same to whoever comes after. Every single one takes twenty minutes more.
fn points(calls: &[(String, bool)]) -> Vec<(usize, &(String, bool))> {
    let all = std::env::var_os("BLUEGREEN_EVERY_CALL").is_some();
    let mut points: Vec<(usize, &(String, bool))> = Vec::new();
    for (k, call) in calls.iter().enumerate() {
        let is_first = !points.iter().any(|(_, known)| known.0 == call.0);
        let is_last = !calls[k + 1..].iter().any(|other| other.0 == call.0);
        if all || call.1 || is_first || is_last {
            points.push((k, call));
        }
    }
    points
}

/// `kill -9` at these calls, before and after their effect: the next plan is truthful, the next apply converges.
async fn crash_ring(part: usize, of: usize) -> anyhow::Result<()> {
    let ring = Ring::new().await?;
    let calls = ring.calls("green").await?;
    let mut live = "green";
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (_, (k, (operation, mutating))) in points(&calls).into_iter().enumerate().filter(|(n, _)| n % of == part) {
        for when in if *mutating { vec!["before", "after"] } else { vec!["before"] } {
            let wish = other(live);
            ring.wish(wish)?;
            ring.stage.aws.clear_calls();
            ring.fault(json!({ "skip": k, "action": { "kill": when } }))?;
            let said = ring.terraform.apply().await?;
            let point = format!("call {k} {operation} {when}");
            // What is killed while it reads for the plan, or after everything was done, has other calls then.
            let fired = ring.stage.aws.faults().iter().any(|fault| fault.fired > 0);
            ensure!(!fired || said.code == 1, "{point}: {}", said.text);
            ring.stage.aws.clear_faults();
            let row = table.entry(format!("{operation} {when}")).or_default();
            row.0 += usize::from(fired);
            let is_done = is_truthful(&ring, wish).await.with_context(|| point.clone())?;
            ring.terraform.apply().await?.ok().with_context(|| point.clone())?;
            ring.leads_to(wish).await.with_context(|| point.clone())?;
            // Where nothing was left to do, a dead lock waits for the next rollout, which takes it over.
            if !is_done {
                ring.is_on(wish).await.with_context(|| point.clone())?;
            }
            ring.only_steps().with_context(|| point.clone())?;
            row.1 += usize::from(fired);
            live = wish;
        }
    }
    eprintln!("crash ring, part {part}: points tried, converged");
    for (point, (tried, converged)) in &table {
        eprintln!("  {point:<40} {tried:>3} {converged:>3}");
    }
    ensure!(table.values().map(|row| row.0).sum::<usize>() > 10, "{table:?}");
    Ok(())
}

/// The plan after a kill says where the traffic is, and what is left to do; or nothing, if nothing is.
async fn is_truthful(ring: &Ring, wish: &str) -> anyhow::Result<bool> {
    let (first, second) = (ring.stage.weights(0).await?, ring.stage.rule_weights(&ring.rule).await?);
    let plan = ring.terraform.plan().await?;
    let arrived = first[wish] == 100 && second[wish] == 100;
    let recorded = ring.stage.client.parameter(PARAMETER).await?.as_deref() == Some(wish);
    if arrived && recorded {
        ensure!(plan.code == 0, "{}", plan.text);
        return Ok(true);
    }
    ensure!(plan.code == 2, "{}", plan.text);
    for weights in [&first, &second] {
        if weights[wish] > 0 {
            plan.has(&[
                &format!("blue {} %, green {} %", weights["blue"], weights["green"]),
                "A rollout has not ended",
            ])?;
        }
    }
    plan.has(&[&format!("write {PARAMETER}: {} → {wish}", other(wish))])?;
    Ok(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_call_one() -> anyhow::Result<()> {
    crash_ring(0, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_call_two() -> anyhow::Result<()> {
    crash_ring(1, 2).await
}

/// What can be wrong with a call, and whether it is expected to be waited out.
fn faults() -> Vec<(&'static str, u64, Value, bool)> {
    let error =
        |status: u16, code: &str| json!({ "error": { "status": status, "code": code, "message": "not this time" } });
    vec![
        ("throttled three times", 3, json!({ "throttle": true }), true),
        ("500 twice", 2, json!({ "status": 500 }), true),
        ("reset", 1, json!({ "reset": "before" }), true),
        ("answer cut after the effect", 1, json!({ "truncate": true }), true),
        ("access denied", 1, error(403, "AccessDenied"), false),
        ("expired token", 1, error(403, "ExpiredToken"), false),
    ]
}

/// It came to its end, or it went back or stopped with an error that names the cause; and the next apply comes right.
async fn settles(ring: &Ring, said: &Said, wish: &str, transient: bool, point: &str) -> anyhow::Result<bool> {
    ring.stage.aws.clear_faults();
    let converged = said.code == 0;
    ensure!(converged || !transient, "{point} should have been waited out: {}", said.text);
    if !converged {
        ensure!(said.text.contains("not this time"), "{point}: the error does not say why: {}", said.text);
        let record = ring.stage.client.parameter(PARAMETER).await?;
        let weights = ring.stage.weights(0).await?;
        let live = record.as_deref().context("no record")?;
        ensure!(weights[live] == 100, "{point}: the record says {live}, and the weights are {weights:?}");
    }
    ring.terraform.apply().await?.ok().with_context(|| point.to_owned())?;
    // A lock that could not be given up is told, and waits for the next rollout, which takes it over.
    if said.text.contains("The lock record is left") {
        ring.leads_to(wish).await.with_context(|| point.to_owned())?;
    } else {
        ring.is_on(wish).await.with_context(|| point.to_owned())?;
    }
    Ok(converged)
}

/// Every call × every fault: it converges, or goes back with a true error.
async fn fault_ring(part: usize, of: usize) -> anyhow::Result<()> {
    let ring = Ring::new().await?;
    let calls = ring.calls("green").await?;
    let mut live = "green";
    let mut table: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (n, (k, (operation, _))) in points(&calls).into_iter().enumerate().filter(|(n, _)| n % of == part) {
        for (name, times, action, transient) in faults() {
            let wish = other(live);
            ring.wish(wish)?;
            ring.fault(json!({ "skip": k, "times": times, "action": action }))?;
            let said = ring.terraform.apply().await?;
            let point = format!("point {n}, call {k} {operation}, {name}");
            let converged = settles(&ring, &said, wish, transient, &point).await?;
            let row = table.entry(name).or_default();
            row.0 += 1;
            row.1 += usize::from(converged);
            live = wish;
        }
    }
    eprintln!("fault ring, part {part}: points tried, converged at once (the others went back, and converged then)");
    for (name, (tried, converged)) in &table {
        eprintln!("  {name:<30} {tried:>3} {converged:>3}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_goes_wrong_one() -> anyhow::Result<()> {
    fault_ring(0, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_goes_wrong_two() -> anyhow::Result<()> {
    fault_ring(1, 2).await
}

/// Half a minute of silence at a call: it is asked again, and the switch converges.
#[tokio::test(flavor = "multi_thread")]
async fn silence() -> anyhow::Result<()> {
    let silent = [
        ("ModifyListener", ""),
        ("ModifyRule", ""),
        ("PutParameter", "current-live\""),
        ("PutParameter", ".rollout\""),
        ("DescribeTargetHealth", ""),
        ("DescribeListeners", ""),
        ("DescribeRules", ""),
        ("GetParameters", ""),
        ("GetParameter", ""),
        ("DeleteParameter", ""),
    ];
    let mut tasks = JoinSet::new();
    for (operation, about) in silent {
        tasks.spawn(async move {
            let ring = Ring::new().await?;
            ring.wish("green")?;
            ring.fault(json!({ "operation": operation, "about": about, "action": { "hang_ms": 30_000 } }))?;
            let said = timeout(Duration::from_secs(240), ring.terraform.apply()).await??;
            settles(&ring, &said, "green", true, &format!("silence at {operation} {about}")).await
        });
    }
    for result in tasks.join_all().await {
        ensure!(result?, "it did not converge");
    }
    Ok(())
}

/// A fault injector of somebody else's between the provider and the local AWS.
struct Injector {
    endpoint: String,
    http: reqwest::Client,
    _child: Child,
}

impl Injector {
    async fn start(upstream: &str) -> anyhow::Result<Injector> {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new(repository().join(".tools/venv/bin/python"))
            .args(["-m", "microburst", "--upstream", upstream, "--host", "127.0.0.1", "--port", &free.to_string()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let endpoint = format!("http://127.0.0.1:{free}");
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let injector = Injector { endpoint, http, _child: child };
        for _ in 0..400 {
            if injector.rules(&json!([])).await.is_ok() {
                return Ok(injector);
            }
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("microburst does not start")
    }

    async fn rules(&self, rules: &Value) -> anyhow::Result<()> {
        let url = format!("{}/_microburst/rules", self.endpoint);
        let answer = self.http.post(url).body(rules.to_string()).header("content-type", "application/json");
        let answer = answer.send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(())
    }
}

/// The same through microburst, which others wrote: one call in three is refused, late or cut off.
#[tokio::test(flavor = "multi_thread")]
async fn through_microburst() -> anyhow::Result<()> {
    let mut ring = Ring::new().await?;
    let injector = Injector::start(&ring.stage.aws.endpoint()).await?;
    ring.endpoint = Some(injector.endpoint.clone());
    let mut live = "blue";
    let throttled = json!({ "code": "Throttling", "status": 400, "message": "Rate exceeded" });
    let busy = json!({ "code": "ThrottlingException", "status": 400, "message": "Rate exceeded" });
    let broken = json!({ "code": "InternalFailure", "status": 500, "message": "not this time" });
    for rules in [
        json!([{ "service": "elbv2", "probability": 0.34, "error": throttled }, { "service": "ssm", "probability": 0.34, "error": busy }]),
        json!([{ "probability": 0.34, "error": broken }]),
        json!([{ "probability": 0.25, "reset": true }]),
        json!([{ "probability": 0.5, "latency": { "min": 20, "max": 200 } }]),
    ] {
        let wish = other(live);
        injector.rules(&rules).await?;
        ring.wish(wish)?;
        let said = timeout(Duration::from_secs(120), ring.terraform.apply()).await??;
        said.ok().with_context(|| rules.to_string())?;
        injector.rules(&json!([])).await?;
        ring.is_on(wish).await.with_context(|| rules.to_string())?;
        ring.terraform.plan_is_empty().await?;
        live = wish;
    }
    Ok(())
}
