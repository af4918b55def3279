//! AWS refuses, throttles and breaks; the provider is killed; people press Ctrl-C.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use terraform_tests::load::Load;
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, said};

fn fault(stage: &Stage, spec: Value) -> anyhow::Result<()> {
    stage.aws.add_fault(serde_json::from_value(spec)?);
    Ok(())
}

fn denied() -> Value {
    json!({ "error": { "status": 403, "code": "AccessDenied", "message": "not authorized to perform this" } })
}

/// Three routes, of which the second refuses its change: the others go back, and the state is true.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_routes_refuses() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    stage.listener(Leads::Color("blue")).await?;
    let rule = stage.rule(0, 10, "/api/*", "blue").await?;
    let (first, third) = (stage.listeners[0].clone(), stage.listeners[1].clone());
    let routes =
        format!("[{{ listener_arn = \"{first}\" }}, {{ rule_arn = \"{rule}\" }}, {{ listener_arn = \"{third}\" }}]");
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch_over(Some("blue"), &routes, ""))?;
    terraform.apply().await?.ok()?;
    fault(&stage, json!({ "operation": "ModifyRule", "action": denied() }))?;
    terraform.write(&stage.switch_over(Some("green"), &routes, ""))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&[
        "Failed to switch myapp to green",
        "ModifyRule: AccessDenied: not authorized to perform this",
        "Rolled back: all routes are as before.",
        "The record /myapp/current-live says blue.",
    ])?;
    for listener in [0, 1] {
        ensure!(stage.weights(listener).await?["blue"] == 100);
        ensure!(stage.answers(listener, "/").await? == "blue");
    }
    let state = terraform.state("bluegreen_switch.app").await?;
    ensure!(state["live"] == "blue" && state["last_rollout"]["status"] == "rolled_back", "{state}");
    terraform.plan().await?.has(&["~ active = \"blue\" -> \"green\""])?;
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(1, "/").await? == "green" && stage.answers(0, "/api/x").await? == "green");
    Ok(())
}

/// `kill -9` at each changing call, before and after its effect: clients never notice, the next plan tells what is, the
/// next apply finishes.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_switch() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    let load = Load::start(stage.address(0)?, 2, Duration::from_millis(5))?;
    let (mut live, mut wish) = ("blue", "green");
    for (operation, when) in [
        ("ModifyListener", "before"),
        ("ModifyListener", "after"),
        ("PutParameter", "before"),
        ("PutParameter", "after"),
    ] {
        terraform.write(&stage.switch(Some(wish), ""))?;
        let about = if operation == "PutParameter" { "current-live\"" } else { "" };
        fault(&stage, json!({ "operation": operation, "about": about, "action": { "kill": when } }))?;
        let said = terraform.apply().await?;
        ensure!(said.code == 1, "{operation} {when}: {}", said.text);
        let moved = (operation, when) != ("ModifyListener", "before");
        ensure!(stage.answers(0, "/").await? == if moved { wish } else { live }, "{operation} {when}");
        let plan = terraform.plan().await?;
        match (operation, when) {
            ("ModifyListener", "before") => plan.has(&["set listener", "write /myapp/current-live"])?,
            ("PutParameter", "after") => ensure!(!plan.folded().contains("set listener"), "{}", plan.text),
            _ => {
                plan.has(&[&format!("write /myapp/current-live: {live} → {wish}")])?;
                // What the killed run moved is this one's to take back, should it come to that.
                plan.has(&["as the rollout from", "A rollout has not ended"])?;
            }
        }
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        ensure!(stage.answers(0, "/").await? == wish);
        ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some(wish));
        (live, wish) = (wish, live);
    }
    let seen = load.stop().await;
    ensure!(seen.failed == 0, "{seen:?}");
    Ok(())
}

/// Killed while it creates: nothing is in the state, and the next apply adopts what is there.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_creates() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let listener = &stage.listeners[0];
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch_over(Some("blue"), &stage.listener_and_own_rule(), ""))?;
    for operation in ["CreateRule", "PutParameter"] {
        let about = if operation == "PutParameter" { "current-live\"" } else { "" };
        fault(&stage, json!({ "operation": operation, "about": about, "action": { "kill": "after" } }))?;
        ensure!(terraform.apply().await?.code == 1);
        if operation == "CreateRule" {
            continue;
        }
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
    }
    terraform.destroy().await?.ok()?;
    let rules = stage.client.elb("DescribeRules", &[("ListenerArn", listener)]).await?;
    ensure!(!rules.contains("/api/*"), "the rule of the killed run is left");
    ensure!(stage.client.parameter("/myapp/current-live").await?.is_none(), "the record of the killed run is left");
    Ok(())
}

/// Throttling and transient faults are waited out.
#[tokio::test(flavor = "multi_thread")]
async fn transient_faults_are_waited_out() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    let mut wish = ["green", "blue"].into_iter().cycle();
    for action in [
        json!({ "throttle": true }),
        json!({ "status": 500 }),
        json!({ "reset": "before" }),
        json!({ "reset": "after" }),
        json!({ "truncate": true }),
    ] {
        for operation in ["ModifyListener", "PutParameter", "Describe*", "GetParameters"] {
            fault(&stage, json!({ "operation": operation, "times": 2, "action": action }))?;
        }
        let active = wish.next().unwrap_or_default();
        terraform.write(&stage.switch(Some(active), ""))?;
        terraform.apply().await?.ok()?;
        ensure!(stage.answers(0, "/").await? == active, "{action}");
        ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some(active), "{action}");
        stage.aws.clear_faults();
        terraform.plan_is_empty().await?;
    }
    Ok(())
}

/// A read that is refused is an error that says which call, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_read_is_told() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    for operation in ["DescribeListeners", "GetParameters"] {
        fault(&stage, json!({ "operation": operation, "times": null, "action": denied() }))?;
        let plan = terraform.plan().await?;
        ensure!(plan.code == 1);
        plan.has(&[
            "Failed to read the routes of myapp",
            operation,
            "AccessDenied",
            "Nothing was changed.",
            "the README lists the permissions",
        ])?;
        stage.aws.clear_faults();
        terraform.plan_is_empty().await?;
    }
    Ok(())
}

/// Ctrl-C while it waits for health: it goes back within seconds, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_while_it_waits() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    stage.make_unhealthy("green").await?;
    terraform.write(&stage.switch(Some("green"), ""))?;
    stage.aws.clear_calls();
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    stage.waits_for_health().await?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        kill_process(pid, Signal::INT)?;
    }
    let said = tokio::time::timeout(Duration::from_secs(60), said(child)).await??;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["Failed to switch myapp to green", "The run was interrupted.", "Nothing was changed."])?;
    ensure!(stage.answers(0, "/").await? == "blue");
    ensure!(terraform.state("bluegreen_switch.app").await?["live"] == "blue");
    Ok(())
}
