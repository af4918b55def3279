//! Rollouts in steps, seen by clients: how traffic is split, what happens when the new color is not well, and what is
//! said then.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use terraform_tests::load::{Load, Seen};
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Terraform, said};
use tokio::time::{Instant, sleep};

/// The step that a hold is at: the weight of green at the first listener.
async fn share(stage: &Stage) -> anyhow::Result<u32> {
    let weights = stage.weights(0).await?;
    let (blue, green) = (weights.get("blue").copied().unwrap_or(0), weights.get("green").copied().unwrap_or(0));
    Ok(green * 100 / (blue + green).max(1))
}

pub(super) async fn until_share(stage: &Stage, percent: u32) -> anyhow::Result<()> {
    for _ in 0..2400 {
        if share(stage).await? == percent {
            return Ok(());
        }
        sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("green never had {percent} %")
}

async fn on_blue(more: &str) -> anyhow::Result<(Stage, Terraform)> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), more))?;
    terraform.apply().await?.ok()?;
    stage.aws.clear_calls();
    Ok((stage, terraform))
}

/// Within the bounds that chance leaves to so many draws, 999 times in 1000.
fn is_plausible(before: &Seen, after: &Seen, percent: u32) -> bool {
    let of = |seen: &Seen, color: &str| seen.colors.get(color).copied().unwrap_or(0);
    let green = of(after, "green") - of(before, "green");
    let total = green + of(after, "blue") - of(before, "blue");
    let (low, high) = bluegreen::rollout::statistics::binomial_bounds(total, f64::from(percent) / 100.0, 0.999);
    eprintln!("at {percent} %: {green} of {total} answers were green's; {low} to {high} are plausible");
    total > 200 && (low..=high).contains(&green)
}

/// 10 %, 50 %, 100 %: the split that clients see is the one that is asked for, at each step, and no request fails.
#[tokio::test(flavor = "multi_thread")]
async fn clients_see_the_steps() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let strategy = format!(
        "  strategy = {{\n    steps = [{{ weight = 10, hold = \"6s\" }}, {{ weight = 50, hold = \"6s\" }}]\n    prove = {{ url = \"http://{}/\", header = \"x-color\" }}\n  }}\n  verification = {{ interval = \"1s\", http = [{{ url = \"http://{}/\" }}] }}",
        stage.address(0)?,
        stage.address(0)?
    );
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), &strategy))?;
    terraform.apply().await?.ok()?;
    let load = Load::start(stage.address(0)?, 4, Duration::from_millis(2))?;
    terraform.write(&stage.switch(Some("green"), &strategy))?;
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    for percent in [10, 50] {
        until_share(&stage, percent).await?;
        stage.aws.settled().await?;
        load.next().await?;
        // One window in a thousand lies outside by chance; two in a row don't.
        let mut plausible = false;
        for _ in 0..2 {
            let before = load.seen();
            sleep(Duration::from_millis(2000)).await;
            let after = load.seen();
            ensure!(share(&stage).await? == percent, "the hold ended early");
            plausible = plausible || is_plausible(&before, &after, percent);
        }
        ensure!(plausible, "the split at {percent} %");
    }
    let said = said(child).await?.ok()?;
    said.has(&["Apply complete!"])?;
    ensure!(share(&stage).await? == 100);
    let seen = load.stop().await;
    ensure!(seen.failed == 0, "{seen:?}");
    terraform.plan_is_empty().await?;
    let state = terraform.state("bluegreen_switch.app").await?;
    ensure!(state["last_rollout"]["steps"].as_array().is_some_and(|steps| steps.len() == 10), "{state}");
    Ok(())
}

/// Twenty switches in every way there is, under load: no request of a hundred thousand fails.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_switches_and_no_failed_request() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    let ways = [
        "",
        "  strategy = { canary = { percent = 10, interval = \"1s\" }, settle = \"0s\" }",
        "  strategy = { linear = { percent = 25, interval = \"300ms\" }, settle = \"0s\" }",
        "  strategy = { steps = [{ weight = 0.1 }, { weight = 33.3 }], settle = \"0s\" }\n  stickiness = { duration = \"1s\" }",
        "  strategy = { settle = \"100ms\" }\n  verification = { duration = \"1s\", interval = \"200ms\", healthy = {} }",
    ];
    terraform.write(&stage.switch(Some("blue"), ways[0]))?;
    terraform.apply().await?.ok()?;
    let load = Load::start(stage.address(0)?, 8, Duration::ZERO)?;
    for n in 0..20 {
        let active = ["green", "blue"][n % 2];
        terraform.write(&stage.switch(Some(active), ways[n % ways.len()]))?;
        terraform.apply().await?.ok().with_context(|| format!("switch {n}"))?;
        ensure!(stage.weights(0).await?[active] == 100, "switch {n}");
    }
    let mut waited = 0;
    while load.seen().requests < 100_000 && waited < 2400 {
        sleep(Duration::from_millis(50)).await;
        waited += 1;
    }
    let seen = load.stop().await;
    eprintln!("{} requests over 20 switches, {} failed", seen.requests, seen.failed);
    ensure!(seen.failed == 0 && seen.requests >= 100_000, "{seen:?}");
    terraform.plan_is_empty().await
}

/// Green answers with errors once it has 10 %: traffic is back within an interval and a second, and the whole story is told.
#[tokio::test(flavor = "multi_thread")]
async fn errors_at_ten_percent_lead_back() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let green = stage.apps["green"].addresses()[0];
    let more = format!(
        "  strategy = {{ canary = {{ percent = 10, interval = \"60s\" }}, settle = \"0s\" }}\n  verification = {{ interval = \"1s\", http = [{{ url = \"http://{green}/\" }}] }}"
    );
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), &more))?;
    terraform.apply().await?.ok()?;
    let load = Load::start(stage.address(0)?, 4, Duration::from_millis(2))?;
    terraform.write(&stage.switch(Some("green"), &more))?;
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    until_share(&stage, 10).await?;
    sleep(Duration::from_millis(1500)).await;
    ensure!(load.seen().failed == 0);
    stage.apps["green"].set_broken(Some(500));
    let broke = Instant::now();
    until_share(&stage, 0).await?;
    let back = broke.elapsed();
    ensure!(back < Duration::from_secs(2), "traffic was back after {back:?}");
    let said = said(child).await?;
    ensure!(said.code == 1);
    said.has(&[
        "Failed to switch myapp to green",
        "Verification of green at 10 % failed",
        "answered with status 500 instead of 200",
        "after 10 % of the traffic was led to green",
        "Rolled back: all routes are as before.",
        "Users reached green for",
        "at most 10.0 % of them.",
        "The record /myapp/current-live says blue.",
    ])?;
    stage.aws.settled().await?;
    let failed = load.next().await?.seen().failed;
    let seen = load.next().await?.seen();
    drop(load.stop().await);
    ensure!(seen.failed == failed, "requests still failed after it was back");
    let share = failed as f64 * 100.0 / seen.requests as f64;
    eprintln!(
        "traffic was back {back:?} after green broke; {failed} of {} requests failed ({share:.2} %)",
        seen.requests
    );
    ensure!(failed > 0 && share < 10.0, "{seen:?}");
    let state = terraform.state("bluegreen_switch.app").await?;
    ensure!(state["live"] == "blue" && state["last_rollout"]["status"] == "rolled_back", "{state}");
    ensure!(state["last_rollout"]["reason"].as_str().is_some_and(|reason| reason.contains("status 500")), "{state}");
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("blue"));
    ensure!(stage.client.lock("/myapp/current-live").await?.is_none());
    let next = ["~ active = \"blue\" -> \"green\"", "blue 100 %, green 0 % → blue 90 %, green 10 %"];
    terraform.plan().await?.has(&next)
}

/// What users see of green in CloudWatch decides, beside blue at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_decide() -> anyhow::Result<()> {
    let more = |metrics: &str| {
        format!(
            "  strategy = {{ canary = {{ percent = 50, interval = \"5s\" }}, settle = \"0s\" }}\n  verification = {{ duration = \"4s\", interval = \"1s\", metrics = [{metrics}] }}"
        )
    };
    let errors = "{ metric = \"error_rate\", max = 0.05, min_requests = 20, period = \"1s\" }";
    let latency = "{ metric = \"latency_p90\", max_ratio_to_live = 3, min_requests = 20, period = \"1s\" }";
    let (stage, terraform) = on_blue("").await?;
    let load = Load::start(stage.address(0)?, 12, Duration::from_millis(5))?;
    // Well at first: both take so long that a busy machine makes no difference between them.
    for color in ["blue", "green"] {
        stage.apps[color].set_slow(Duration::from_millis(80));
    }
    for (active, metrics) in [("green", errors), ("blue", latency)] {
        terraform.write(&stage.switch(Some(active), &more(metrics)))?;
        terraform.apply().await?.ok()?;
    }
    stage.apps["green"].set_broken(Some(503));
    terraform.write(&stage.switch(Some("green"), &more(errors)))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1 && stage.weights(0).await?["blue"] == 100, "{}", said.text);
    said.has(&["error_rate of green is ", "at most 5.00 % is allowed", "verification.metrics[0]"])?;
    stage.apps["green"].set_broken(None);
    stage.apps["green"].set_slow(Duration::from_millis(500));
    terraform.write(&stage.switch(Some("green"), &more(latency)))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1 && stage.weights(0).await?["blue"] == 100, "{}", said.text);
    said.has(&["latency_p90 of green is ", "and at most 3 times that is allowed"])?;
    drop(load.stop().await);
    // Nobody asks: nothing can be said, which is a failure unless it is said not to be.
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["nothing can be said, which counts as failed"])?;
    let passes = latency.replace("period", "inconclusive = \"pass\", period");
    terraform.write(&stage.switch(Some("green"), &more(&passes)))?;
    terraform.apply().await?.ok()?;
    Ok(())
}

/// A healthy color costs nothing of its budget; of one that fails as many requests fail as it may cost, and those in flight.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_ends_a_rollout() -> anyhow::Result<()> {
    let more = "  strategy = { canary = { percent = 50, interval = \"3s\" }, settle = \"0s\" }\n  verification = { duration = \"3s\", interval = \"1s\", max_failures = 2, budget = { max_failed_requests = 40, period = \"1s\" } }";
    let (stage, terraform) = on_blue("").await?;
    let load = Load::start(stage.address(0)?, 6, Duration::from_millis(5))?;
    for active in ["green", "blue"] {
        terraform.write(&stage.switch(Some(active), more))?;
        terraform.apply().await?.ok()?;
        ensure!(stage.weights(0).await?[active] == 100);
    }
    terraform.write(&stage.switch(Some("green"), more))?;
    let plan = terraform.plan().await?;
    plan.has(&["fewer than 40 requests of green fail"])?;
    stage.apps["green"].set_broken(Some(503));
    let said = terraform.apply().await?;
    ensure!(said.code == 1 && stage.weights(0).await?["blue"] == 100, "{}", said.text);
    said.has(&[
        "requests of green have failed since the rollout began: the budget of 40 is used up",
        "verification.budget at ",
        "Rolled back: all routes are as before",
    ])?;
    drop(load.stop().await);
    Ok(())
}

/// Each kind of check stops a switch before the first request, in its own words, and passes once it is right.
#[tokio::test(flavor = "multi_thread")]
async fn checks_of_every_kind() -> anyhow::Result<()> {
    let (stage, terraform) = on_blue("").await?;
    let address = |color: &str| stage.apps[color].addresses()[0];
    let script = "echo \"checking $BLUEGREEN_COLOR instead of $BLUEGREEN_LIVE\"; test -e passes";
    let argv = format!("argv = [\"sh\", \"-c\", {}]", serde_json::to_string(script)?);
    let login = format!("login = {{ url = \"http://{}/login\" }}", address("blue"));
    let alarm = json!({
        "AlarmName": "errors", "MetricName": "Errors", "Namespace": "MyApp", "Statistic": "Sum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold",
    });
    stage.client.monitoring("PutMetricAlarm", &alarm).await?;
    let set_alarm = async |state: &str| {
        let change = json!({ "AlarmName": "errors", "StateValue": state, "StateReason": "a test" });
        stage.client.monitoring("SetAlarmState", &change).await
    };
    set_alarm("ALARM").await?;
    stage.aws.set_function("smoke", &["{\"status\":\"pending\"}", "!{\"errorMessage\":\"2 of 9 failed\"}"]);
    stage.apps["green"].set_forgetful(true);
    let checks = [
        (format!("command = [{{ {argv} }}]"), vec!["checking green instead of blue", "ended with exit code 1"]),
        (
            format!("session = {{ {login}, check = {{ url = \"http://{}/whoami\" }} }}", address("green")),
            vec!["green with the cookies of blue (session)", "status 401 instead of 200"],
        ),
        ("alarms = [\"errors\"]".to_owned(), vec!["the alarm errors is ALARM (a test)"]),
        (
            "lambda = [{ function_name = \"smoke\", interval = \"50ms\" }]".to_owned(),
            vec!["the function smoke failed (Unhandled)", "2 of 9 failed"],
        ),
    ];
    for (check, told) in &checks {
        terraform.write(&stage.switch(Some("green"), &format!("  validation = {{ {check} }}")))?;
        stage.aws.clear_calls();
        let said = terraform.apply().await?;
        ensure!(said.code == 1, "{}", said.text);
        said.has(told)?;
        said.has(&["Nothing was changed."])?;
        ensure!(stage.changes().is_empty(), "{check}: {:?}", stage.changes());
    }
    terraform.file("passes", "")?;
    stage.apps["green"].set_forgetful(false);
    stage.aws.set_function(
        "smoke",
        &["{\"hookStatus\":\"IN_PROGRESS\",\"callBackDelay\":0}", "{\"hookStatus\":\"SUCCEEDED\"}"],
    );
    set_alarm("OK").await?;
    let all: Vec<&str> = checks.iter().map(|(check, _)| check.as_str()).collect();
    terraform.write(&stage.switch(Some("green"), &format!("  validation = {{\n{}\n}}", all.join("\n"))))?;
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(0, "/").await? == "green");
    terraform.plan_is_empty().await
}

/// Two applies on one record, from two states: one is refused, and told by whom.
#[tokio::test(flavor = "multi_thread")]
async fn two_applies_at_once() -> anyhow::Result<()> {
    let more = "  strategy = { canary = { percent = 10, interval = \"8s\" }, settle = \"0s\" }";
    let (stage, first) = on_blue(more).await?;
    let second = Terraform::new()?;
    second.write(&stage.switch(Some("blue"), more))?;
    second.apply().await?.ok()?;
    first.write(&stage.switch(Some("green"), more))?;
    second.write(&stage.switch(Some("green"), more))?;
    let child = first.start(&["apply", "-auto-approve", "-no-color"])?;
    until_share(&stage, 10).await?;
    let refused = second.apply().await?;
    ensure!(refused.code == 1, "{}", refused.text);
    refused.has(&[
        "Another rollout of /myapp/current-live is under way",
        "has it under way: the rollout from blue to green that",
        "said last: hold green at 10 % for 8s",
        "aws ssm delete-parameter --name /myapp/current-live.rollout",
    ])?;
    said(child).await?.ok()?;
    second.apply().await?.ok()?;
    second.plan_is_empty().await?;
    first.plan_is_empty().await
}

/// A pipeline moves the listener in the middle of a hold: the rollout stops, says so, and leaves it to them.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_moves_it_too() -> anyhow::Result<()> {
    let more = "  strategy = { canary = { percent = 10, interval = \"4s\" }, settle = \"0s\" }";
    let (stage, terraform) = on_blue(more).await?;
    terraform.write(&stage.switch(Some("green"), more))?;
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    until_share(&stage, 10).await?;
    stage.set_weights(0, &[("blue", 40), ("green", 60)]).await?;
    let said = said(child).await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&[
        "was moved by somebody else in the meantime",
        "neither continued nor rolled back",
        "blue 40 %, green 60 %",
        "The record /myapp/current-live says blue.",
        "find out who else moves it",
    ])?;
    ensure!(share(&stage).await? == 60);
    let plan = terraform.plan().await?;
    plan.has(&["blue 40 %, green 60 %", "A rollout was held"])?;
    terraform.apply().await?.ok()?;
    ensure!(share(&stage).await? == 100);
    terraform.plan_is_empty().await
}

/// The way back is refused too: the text says what is where, and the commands that put it right do so.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_is_barred() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let green = stage.apps["green"].addresses()[0];
    let more = format!(
        "  strategy = {{ canary = {{ percent = 10, interval = \"60s\" }}, settle = \"0s\" }}\n  verification = {{ interval = \"500ms\", http = [{{ url = \"http://{green}/\" }}] }}"
    );
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), &more))?;
    terraform.apply().await?.ok()?;
    terraform.write(&stage.switch(Some("green"), &more))?;
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    until_share(&stage, 10).await?;
    let denied = json!({ "error": { "status": 403, "code": "AccessDenied", "message": "not allowed" } });
    let fault = json!({ "operation": "ModifyListener", "times": null, "action": denied });
    stage.aws.add_fault(serde_json::from_value(fault)?);
    stage.apps["green"].set_broken(Some(500));
    let said = said(child).await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&[
        "ROLLBACK FAILED. Act now:",
        "AccessDenied: not allowed",
        "To put it back by hand:",
        "blue 90 %, green 10 %",
        "then run `terraform apply`: it starts from what is there. To roll back instead, set active = \"blue\" first.",
    ])?;
    let state = terraform.state("bluegreen_switch.app").await?;
    ensure!(state["live"] == "blue" && state["last_rollout"]["status"] == "stuck", "{state}");
    let plan = terraform.plan().await?;
    plan.has(&["A rollout could not go back"])?;
    // The command is complete, and does what it says.
    let command = said.folded();
    let command = command.split("--default-actions '").nth(1).and_then(|rest| rest.split('\'').next());
    let actions: serde_json::Value = serde_json::from_str(command.context("there is no command")?)?;
    stage.aws.clear_faults();
    let groups = actions[0]["ForwardConfig"]["TargetGroups"].as_array().context("no groups")?;
    let weights: Vec<(&str, u32)> = groups
        .iter()
        .filter_map(|group| {
            let color = if group["TargetGroupArn"] == stage.group("blue") { "blue" } else { "green" };
            Some((color, u32::try_from(group["Weight"].as_u64()?).ok()?))
        })
        .collect();
    stage.set_weights(0, &weights).await?;
    ensure!(share(&stage).await? == 0);
    // Back by `active` too, all at once.
    terraform.write(&stage.switch(Some("blue"), &more))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await
}

/// A message for each phase, and a line in the log.
#[tokio::test(flavor = "multi_thread")]
async fn phases_are_published() -> anyhow::Result<()> {
    let (stage, mut terraform) = on_blue("").await?;
    let topic = stage.client.sns("CreateTopic", &[("Name", "releases")]).await?;
    let topic = terraform_tests::client::element(&topic, "TopicArn")?;
    let more = format!(
        "  notify = {{ sns_topic_arn = \"{topic}\" }}\n  strategy = {{ canary = {{ percent = 10, interval = \"100ms\" }}, settle = \"0s\" }}"
    );
    terraform.set("TF_LOG_PROVIDER", "INFO");
    terraform.write(&stage.switch(Some("green"), &more))?;
    let said = terraform.apply().await?.ok()?;
    ensure!(said.text.contains("rollout") && said.text.contains("Shifted"), "{}", said.text);
    let published: Vec<serde_json::Value> = stage
        .aws
        .calls()
        .iter()
        .filter(|call| call.operation == "Publish")
        .filter_map(|call| serde_json::from_str(call.params["Message"].as_str()?).ok())
        .collect();
    let phases: Vec<&str> = published.iter().filter_map(|message| message["phase"].as_str()).collect();
    ensure!(phases == ["started", "validated", "shifted", "watched", "shifted", "completed"], "{phases:?}");
    ensure!(published[2]["weights"] == json!({ "blue": 90, "green": 10 }), "{published:?}");
    ensure!(published.iter().all(|message| message["switch"] == "myapp" && message["to"] == "green"));
    Ok(())
}

/// The example of a careful rollout, as it stands.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_careful_rollout() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let mut terraform = stage.example(Terraform::new()?, "careful-rollout")?;
    for (name, value) in [
        ("TF_VAR_listener_arn", stage.listeners[0].as_str()),
        ("TF_VAR_url", &format!("http://{}", stage.address(0)?)),
        ("TF_VAR_target_group_arns", &serde_json::to_string(&stage.groups)?),
        ("TF_VAR_releases", "{\"green\":\"2\"}"),
        ("TF_VAR_hold", "2s"),
    ] {
        terraform.set(name, value);
    }
    let load = Load::start(stage.address(0)?, 2, Duration::from_millis(5))?;
    for active in ["blue", "green"] {
        terraform.set("TF_VAR_active", active);
        terraform.apply().await?.ok()?;
        ensure!(stage.answers(0, "/").await? == active);
        terraform.plan_is_empty().await?;
    }
    let seen = load.stop().await;
    ensure!(seen.failed == 0 && seen.colors.len() == 2, "{seen:?}");
    Ok(())
}

/// What would be learnt at night is said by the plan before.
#[tokio::test(flavor = "multi_thread")]
async fn warnings_before_a_rollout() -> anyhow::Result<()> {
    let (stage, terraform) = on_blue("").await?;
    let set = async |color: &str, key: &str, value: &str| {
        let parameters = [
            ("TargetGroupArn", stage.group(color)),
            ("Attributes.member.1.Key", key),
            ("Attributes.member.1.Value", value),
        ];
        stage.client.elb("ModifyTargetGroupAttributes", &parameters).await
    };
    set("blue", "deregistration_delay.timeout_seconds", "120").await?;
    set("green", "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "2").await?;
    set("green", "target_group_health.dns_failover.minimum_healthy_targets.count", "2").await?;
    stage.deregister(stage.group("green"), stage.apps["green"].addresses()[0]).await?;
    let more = "  strategy = { canary = { percent = 10, interval = \"10s\" } }\n  stickiness = { duration = \"1h\" }";
    terraform.write(&stage.switch(Some("green"), more))?;
    terraform.plan().await?.has(&[
        "Warning: The deregistration delay is longer than a hold",
        "Targets that are taken out go on with their requests: those of blue for up to 2m, of green for up to 5m",
        "Warning: Clients stick longer than a step holds",
        "stickiness.duration keeps a client at its color for 1h",
        "Warning: Nothing is verified",
        "Warning: green fails open early",
        "Warning: green can take the load balancer out of DNS",
        "Warning: green is smaller than blue",
        "green has 1 registered targets, blue has 2.",
    ])?;
    let more = "  verification = { duration = \"1m\", metrics = [{ metric = \"error_rate\", max = 0.01 }] }";
    terraform.write(&stage.switch(Some("green"), more))?;
    terraform.plan().await?.has(&[
        "Warning: The hold is too short for the metric",
        "in a hold of 1m there may be none, which counts as fail. Hold for at least 3m.",
    ])?;
    terraform.write(&stage.switch(Some("green"), "  verification = { duration = \"1m\" }"))?;
    terraform.plan().await?.has(&["Warning: Nothing is verified", "verification has no check"])?;
    stage.deregister(stage.group("green"), stage.apps["green"].addresses()[1]).await?;
    terraform.plan().await?.has(&["Warning: green is empty", "Route 53 takes the whole load balancer for unhealthy"])
}
