//! What no rollout may do, with a real terraform: each story is named after the fault that it keeps out.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Said, Terraform, said};
use tokio::time::{sleep, timeout};

const RECORD: &str = "/myapp/current-live";

async fn on_blue(stage: &Stage, more: &str) -> anyhow::Result<Terraform> {
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), more))?;
    terraform.apply().await?.ok()?;
    Ok(terraform)
}

/// Nodes follow three seconds late; a check by the preview asks the color that it is about, and not the one before.
#[tokio::test(flavor = "multi_thread")]
async fn p01_a_preview_shows_the_color_that_is_checked() -> anyhow::Result<()> {
    let stage = Stage::late(Duration::from_secs(3)).await?;
    stage.until(|stage| stage.address(0).is_ok(), "serves").await?;
    let listener = stage.listeners[0].clone();
    let preview = format!(
        "  preview_routes = [{{ listener_arn = \"{listener}\", priority = 10, conditions = {{ path_patterns = [\"/preview/*\"] }} }}]\n  \
         validation = {{ http = [{{ url = \"http://{}/preview/x\", retries = 0, body_matches = \"^blue\" }}] }}",
        stage.address(0)?
    );
    let terraform = on_blue(&stage, "").await?;
    // What only blue answers must not let green pass.
    terraform.write(&stage.switch(Some("green"), &preview))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "blue's answer let green go live: {}", said.text);
    ensure!(stage.weights(0).await?["blue"] == 100);
    ensure!(stage.answers(0, "/").await? == "blue");
    Ok(())
}

/// On call moved everything to blue; a plan from before that shows another change is refused.
#[tokio::test(flavor = "multi_thread")]
async fn p02_a_saved_plan_moves_only_what_it_told() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = on_blue(&stage, "").await?;
    terraform.write(&stage.switch(Some("green"), ""))?;
    terraform.apply().await?.ok()?;
    terraform.write(&stage.switch(Some("green"), "  on_interrupt = \"hold\""))?;
    terraform.run(&["plan", "-out=saved.tfplan", "-no-color"]).await?.ok()?;
    stage.set_weights(0, &[("blue", 100), ("green", 0)]).await?;
    let record = json!({ "Name": RECORD, "Value": "blue", "Overwrite": true });
    stage.client.ssm("PutParameter", record).await?;
    let said = terraform.run(&["apply", "-no-color", "saved.tfplan"]).await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&[
        "The traffic of myapp was moved since the plan",
        "blue 0 %, green 100 % when it was planned, blue 100 %, green 0 % now",
        "Nothing was changed.",
    ])?;
    ensure!(stage.weights(0).await?["blue"] == 100);
    // A plan of now says what it does, and does it.
    let plan = terraform.run(&["plan", "-out=saved.tfplan", "-no-color", "-detailed-exitcode"]).await?;
    plan.has(&["blue 100 %, green 0 % → blue 0 %, green 100 %"])?;
    terraform.run(&["apply", "-no-color", "saved.tfplan"]).await?.ok()?;
    ensure!(stage.weights(0).await?["green"] == 100);
    terraform.plan_is_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_whoever_follows_moves_nothing() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = on_blue(&stage, "").await?;
    let linear = "  strategy = { linear = { percent = 10, interval = \"1s\" }, settle = \"0s\" }";
    for (blue, green) in [(60, 40), (40, 60)] {
        stage.set_weights(0, &[("blue", blue), ("green", green)]).await?;
        terraform.write(&stage.switch(None, linear))?;
        stage.aws.clear_calls();
        terraform.apply().await?.ok()?;
        let weights = stage.weights(0).await?;
        ensure!(weights["blue"] == blue && weights["green"] == green, "{weights:?}");
        ensure!(!stage.changes().iter().any(|call| call.starts_with("Modify")), "{:?}", stage.changes());
        terraform.plan_is_empty().await?;
    }
    Ok(())
}

/// What was there before is deleted: destroy says so, and leaves the traffic where it is.
#[tokio::test(flavor = "multi_thread")]
async fn p05_restore_leads_to_no_deleted_group() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    stage.color("red").await?;
    let environments = |colors: [&str; 2]| {
        let parts = colors.map(|color| format!("    {color} = {{ target_group_arn = \"{}\" }}\n", stage.group(color)));
        format!("{{\n{}  }}", parts.concat())
    };
    let text = |colors: [&str; 2], active: &str| {
        let whole = stage.switch(Some(active), "  on_destroy = \"restore\"");
        whole.replace(&stage.environments(), &environments(colors))
    };
    let terraform = Terraform::new()?;
    terraform.write(&text(["blue", "green"], "green"))?;
    terraform.apply().await?.ok()?;
    terraform.write(&text(["green", "red"], "green"))?;
    terraform.apply().await?.ok()?;
    stage.client.elb("DeleteTargetGroup", &[("TargetGroupArn", stage.group("blue"))]).await?;
    let said = terraform.destroy().await?;
    said.has(&["The routes were not restored", "on_destroy = \"restore\" would have led the routes back"])?;
    said.ok()?;
    ensure!(stage.answers(0, "/").await? == "green");
    Ok(())
}

/// A rule of the switch's own, moved by hand to another priority, is still that rule.
#[tokio::test(flavor = "multi_thread")]
async fn p06_a_rule_is_known_wherever_it_stands() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let routes = stage.listener_and_own_rule();
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch_over(Some("blue"), &routes, ""))?;
    terraform.apply().await?.ok()?;
    let listener = stage.listeners[0].clone();
    let rules = async || stage.client.elb("DescribeRules", &[("ListenerArn", &listener)]).await;
    let of_switch = |xml: &str| terraform_tests::client::elements(xml, "RuleArn").len() - 1;
    for priority in ["20", "5"] {
        let xml = rules().await?;
        let own = xml.split("<RuleArn>").find(|rule| rule.contains("/api/*")).context("no rule")?;
        let arn = own.split('<').next().unwrap_or_default().to_owned();
        let pair = [("RulePriorities.member.1.RuleArn", arn.as_str()), ("RulePriorities.member.1.Priority", priority)];
        stage.client.elb("SetRulePriorities", &pair).await?;
        terraform.plan().await?.has(&[&format!("from priority {priority} to 10")])?;
        let wish = if priority == "20" { "green" } else { "blue" };
        terraform.write(&stage.switch_over(Some(wish), &routes, ""))?;
        terraform.apply().await?.ok()?;
        ensure!(of_switch(&rules().await?) == 1, "{}", rules().await?);
        ensure!(stage.answers(0, "/api/x").await? == wish && stage.answers(0, "/").await? == wish);
        terraform.plan_is_empty().await?;
    }
    terraform.destroy().await?.ok()?;
    ensure!(of_switch(&rules().await?) == 0, "the rule is left");
    Ok(())
}

/// The heir is made before the old object goes, and keeps what it goes by.
#[tokio::test(flavor = "multi_thread")]
async fn p07_replaced_with_its_heir_made_first() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let routes = stage.listener_and_own_rule();
    let first = "  on_destroy = \"restore\"\n  lifecycle { create_before_destroy = true }";
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch_over(Some("green"), &routes, first))?;
    terraform.apply().await?.ok()?;
    let said = terraform.run(&["apply", "-auto-approve", "-no-color", "-replace=bluegreen_switch.app"]).await?;
    said.ok()?;
    ensure!(stage.answers(0, "/").await? == "green" && stage.answers(0, "/api/x").await? == "green");
    ensure!(stage.client.parameter(RECORD).await?.as_deref() == Some("green"));
    terraform.plan_is_empty().await?;
    terraform.destroy().await?.ok()?;
    let rules = stage.client.elb("DescribeRules", &[("ListenerArn", &stage.listeners[0])]).await?;
    ensure!(!rules.contains("/api/*"), "the rule is left");
    ensure!(stage.client.parameter(RECORD).await?.is_none(), "the record is left");
    Ok(())
}

/// Ctrl-C while a call of a switch to green hangs.
async fn interrupted(
    stage: &Stage,
    terraform: &Terraform,
    (operation, about): (&str, &str),
    hang: u64,
) -> anyhow::Result<Said> {
    let fault = json!({ "operation": operation, "about": about, "action": { "hang_ms": hang } });
    stage.aws.add_fault(serde_json::from_value(fault)?);
    terraform.write(&stage.switch(Some("green"), ""))?;
    let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    stage.until(|stage| stage.aws.faults().iter().any(|fault| fault.fired > 0), "hangs").await?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).context("it has ended")?;
    kill_process(pid, Signal::INT)?;
    timeout(Duration::from_secs(100), said(child)).await?
}

/// The effect of the call comes seconds later: it is seen, and led back, before anything is called so.
async fn stopped_while(operation: &str, about: &str, hang: u64) -> anyhow::Result<Said> {
    let stage = Stage::new().await?;
    let terraform = on_blue(&stage, "").await?;
    stage.aws.clear_calls();
    let said = interrupted(&stage, &terraform, (operation, about), hang).await?;
    ensure!(said.code == 1, "{}", said.text);
    let lock = stage.client.lock(RECORD).await?;
    let put_back = said.text.contains("Rolled back") || said.text.contains("Nothing was changed");
    ensure!(put_back != lock.is_some(), "{} {lock:?}", said.text);
    sleep(Duration::from_secs(2)).await;
    if put_back {
        ensure!(stage.weights(0).await?["blue"] == 100, "{:?} {}", stage.weights(0).await?, said.text);
        ensure!(stage.client.parameter(RECORD).await?.as_deref() == Some("blue"));
        ensure!(stage.aws.calls().iter().any(|call| call.operation == operation));
    }
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(0, "/").await? == "blue");
    terraform.plan_is_empty().await?;
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn p09_stopped_while_traffic_is_being_moved() -> anyhow::Result<()> {
    stopped_while("ModifyListener", "", 10_000)
        .await?
        .has(&["The run was interrupted.", "Rolled back: all routes are as before"])
}

/// Everything was verified by then: it is written all the same, and nothing goes back.
#[tokio::test(flavor = "multi_thread")]
async fn p09_stopped_while_the_record_is_being_written() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = on_blue(&stage, "").await?;
    let said = interrupted(&stage, &terraform, ("PutParameter", "current-live\""), 10_000).await?;
    ensure!(!said.text.contains("Rolled back"), "{}", said.text);
    ensure!(stage.weights(0).await?["green"] == 100, "{}", said.text);
    ensure!(stage.client.parameter(RECORD).await?.as_deref() == Some("green"), "{}", said.text);
    ensure!(stage.client.lock(RECORD).await?.is_none(), "{}", said.text);
    terraform.plan_is_empty().await
}

/// What goes wrong after a preview rule was made is nobody else's hand; a first apply that was put back leaves no object.
#[tokio::test(flavor = "multi_thread")]
async fn p11_a_failure_after_a_preview_was_made() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let listener = stage.listeners[0].clone();
    let preview = format!(
        "  preview_routes = [{{ listener_arn = \"{listener}\", priority = 10, conditions = {{ path_patterns = [\"/preview/*\"] }} }}]\n  \
         strategy = {{ settle = \"0s\" }}\n  validation = {{ command = [{{ argv = [\"false\"] }}] }}"
    );
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("green"), &preview))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&["`false` ended with exit code 1", "Rolled back: all routes are as before."])?;
    ensure!(!said.text.contains("somebody else"), "{}", said.text);
    let rules = stage.client.elb("DescribeRules", &[("ListenerArn", &listener)]).await?;
    ensure!(!rules.contains("/preview/*"), "the preview is left");
    ensure!(terraform.run(&["state", "list"]).await?.text.trim().is_empty(), "an object is left, tainted");
    Ok(())
}

/// Two switches with one record in one apply come to the same color.
#[tokio::test(flavor = "multi_thread")]
async fn p15_two_switches_with_one_record() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    stage.listener(terraform_tests::stage::Leads::Color("blue")).await?;
    let (one, two) = (stage.listeners[0].clone(), stage.listeners[1].clone());
    let text = |active: &str| {
        let first = stage.switch(Some(active), "");
        let start = first.find("resource ").unwrap_or_default();
        let end = first.find("output ").unwrap_or(first.len());
        let second = first[start..end].replace("\"app\"", "\"other\"").replace(&one, &two);
        format!("{first}\n{second}")
    };
    let terraform = Terraform::new()?;
    for active in ["blue", "green", "blue"] {
        terraform.write(&text(active))?;
        terraform.apply().await?.ok()?;
        for listener in [0, 1] {
            ensure!(stage.weights(listener).await?[active] >= 1, "{active} {listener}");
            ensure!(stage.answers(listener, "/").await? == active, "{active} {listener}");
        }
        ensure!(stage.client.parameter(RECORD).await?.as_deref() == Some(active));
        terraform.plan_is_empty().await?;
    }
    terraform.destroy().await?.ok()?;
    ensure!(stage.client.parameter(RECORD).await?.is_none(), "the record is left");
    Ok(())
}

/// A record that somebody deleted keeps nobody from destroying; a listener with one group is imported by its record.
#[tokio::test(flavor = "multi_thread")]
async fn p21_a_record_that_is_gone_and_a_listener_with_one_group() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = on_blue(&stage, "").await?;
    stage.client.ssm("DeleteParameter", json!({ "Name": RECORD })).await?;
    terraform.destroy().await?.ok()?;
    let stage = Stage::new().await?;
    let record = json!({ "Name": RECORD, "Value": "blue", "Type": "String" });
    stage.client.ssm("PutParameter", record).await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.run(&["import", "-no-color", "-input=false", "bluegreen_switch.app", RECORD]).await?.ok()?;
    let state = terraform.state("bluegreen_switch.app").await?;
    ensure!(state["live"] == "blue", "{state}");
    ensure!(state["environments"]["green"]["target_group_arn"] == stage.group("green"), "{state}");
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await
}

/// A command is told what it is given, and what it writes is shown without what is secret, and kept nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn p22_a_command_knows_and_tells_nothing_that_it_was_not_given() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let check = r#"  validation = { command = [{ argv = ["sh", "-c", "env; echo key=$MY_KEY more=$MY_KEY-and-more marker-9; exit 3"], environment = { MY_KEY = var.key, OTHER = var.other, SHORT = "pw" } }] }"#;
    // Terraform shows the lines of a file as they are: what is secret comes from elsewhere.
    let secret = |name: &str, value: &str| {
        format!("variable \"{name}\" {{\n  default   = \"{value}\"\n  sensitive = true\n}}\n")
    };
    let variables = secret("key", "s3cr3t") + &secret("other", "s3cr3t-and-more");
    let text = |active: &str| format!("{variables}{}", stage.switch(Some(active), check));
    let mut terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    terraform.set("TF_VAR_password", "from-the-pipeline");
    terraform.set("AWS_SESSION_TOKEN", "from-the-shell");
    terraform.write(&text("green"))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&["ended with exit code 3", "It wrote last:", "key=*** more=*** marker-9", "BLUEGREEN_COLOR=green"])?;
    for secret in ["s3cr3t", "from-the-pipeline", "from-the-shell", "TF_VAR_", "=pw\n"] {
        ensure!(!said.text.contains(secret), "{secret} in {}", said.text);
    }
    let state = terraform.state("bluegreen_switch.app").await?;
    let reason = state["last_rollout"]["reason"].as_str().context("no reason")?;
    ensure!(reason.contains("ended with exit code 3") && !reason.contains("marker-9"), "{reason}");
    Ok(())
}
