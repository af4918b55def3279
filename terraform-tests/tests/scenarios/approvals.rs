//! A person has the last word, without a runner that waits; and the way back is rehearsed.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use terraform_tests::load::Load;
use terraform_tests::stage::Stage;
use terraform_tests::terraform::Terraform;

const PAUSE: Duration = Duration::from_millis(4);
const RECORD: &str = "/myapp/current-live";

/// The example, as it stands, with blue live.
async fn on_blue(timeout: &str) -> anyhow::Result<(Stage, Terraform)> {
    let stage = Stage::new().await?;
    let variables = [("hold", "2s"), ("timeout", timeout), ("freeze", "[]")];
    let terraform = stage.example_on_blue("wait-for-approval", &variables).await?;
    Ok((stage, terraform))
}

async fn lock(stage: &Stage) -> anyhow::Result<Value> {
    let text = stage.client.parameter(&format!("{RECORD}.rollout")).await?.context("there is no lock record")?;
    Ok(serde_json::from_str(&text)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_for_a_person() -> anyhow::Result<()> {
    let (stage, mut terraform) = on_blue("24h").await?;
    let load = Load::start(stage.address(0)?, 2, PAUSE)?;
    terraform.plan().await?.has(&[
        "to rehearse the way back",
        "wait with green at 10 % for an approval by the web team; after 24h an apply goes back",
    ])?;
    terraform.apply().await?.ok()?;
    ensure!(stage.weights(0).await?["green"] == 10);
    ensure!(stage.client.parameter(RECORD).await?.as_deref() == Some("blue"));
    let state = terraform.state("bluegreen_switch.app").await?;
    ensure!(state["active"] == "green" && state["live"] == "blue", "{state}");
    ensure!(state["last_rollout"]["status"] == "waiting", "{state}");
    let waiting = lock(&stage).await?;
    ensure!(waiting["status"] == "waiting" && waiting["waiting"]["by"] == "the web team", "{waiting}");
    ensure!(waiting["waiting"]["until"].is_string() && waiting["waiting"]["percent"] == 10.0, "{waiting}");
    // As long as nobody says anything there is nothing to do, and that is told.
    let said = terraform.plan().await?.ok()?;
    said.has(&["A rollout waits for an approval", "for the web team since", "To go back: set active to \"blue\""])?;
    stage.aws.settled().await?;
    stage.until(|_| load.seen().colors.contains_key("green"), "has users on green").await?;
    // Another team's pipeline moves it on: that is shown, and put right.
    stage.set_weights(0, &[("blue", 50), ("green", 50)]).await?;
    let said = terraform.plan().await?;
    ensure!(said.code == 2, "{}", said.text);
    terraform.apply().await?.ok()?;
    ensure!(stage.weights(0).await?["green"] == 10);
    terraform.plan_is_empty().await?;
    terraform.set("TF_VAR_approved", "true");
    terraform
        .plan()
        .await?
        .has(&["check that green has at least 1 healthy target", "blue 90 %, green 10 % → blue 50 %"])?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(stage.client.parameter(RECORD).await?.as_deref() == Some("green"));
    ensure!(lock(&stage).await?["status"] == "free");
    stage.aws.settled().await?;
    load.next().await?;
    let seen = load.stop().await;
    ensure!(seen.failed == 0 && seen.last.as_deref() == Some("green"), "{seen:?}");
    Ok(())
}

/// Nobody approves: the next plan shows the way back, and its apply goes it and fails.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_in_time() -> anyhow::Result<()> {
    let (stage, mut terraform) = on_blue("1s").await?;
    terraform.apply().await?.ok()?;
    // Its second may not be over yet.
    let mut said = terraform.plan().await?;
    for _ in 0..10 {
        if said.code == 2 {
            break;
        }
        said = terraform.plan().await?;
    }
    ensure!(said.code == 2, "{}", said.text);
    said.has(&["Nobody approved in time", "on_timeout is \"rollback\"", "blue 90 %, green 10 % → blue 100 %"])?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["The rollout to green was not approved", "Next: set active to \"blue\""])?;
    ensure!(stage.weights(0).await?["blue"] == 100);
    ensure!(lock(&stage).await?["status"] == "free");
    ensure!(terraform.state("bluegreen_switch.app").await?["active"] == "blue");
    terraform.set("TF_VAR_active", "blue");
    terraform.plan_is_empty().await
}

/// In a freeze nothing begins, and what waits may go back.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_in_a_freeze() -> anyhow::Result<()> {
    let (stage, mut terraform) = on_blue("24h").await?;
    let always = r#"[{ "cron": "* * * * *", "duration": "2h", "time_zone": "Europe/Zurich", "reason": "the sale" }]"#;
    terraform.set("TF_VAR_freeze", always);
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&[
        "No rollout may begin now",
        "freeze[0] lets no rollout begin until",
        "(the sale)",
        "blue serves as before",
    ])?;
    ensure!(stage.changes().is_empty(), "{:?}", stage.changes());
    terraform.set("TF_VAR_freeze", "[]");
    terraform.apply().await?.ok()?;
    ensure!(stage.weights(0).await?["green"] == 10);
    terraform.set("TF_VAR_freeze", always);
    terraform.set("TF_VAR_approved", "true");
    let said = terraform.plan().await?;
    ensure!(said.code == 1, "{}", said.text);
    terraform.set("TF_VAR_active", "blue");
    terraform.apply().await?.ok()?;
    ensure!(stage.weights(0).await?["blue"] == 100);
    terraform.plan_is_empty().await
}

/// Going back is denied: nobody beyond the first percent ever meets the new color.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_is_barred_is_met_by_one_percent() -> anyhow::Result<()> {
    let (stage, mut terraform) = on_blue("24h").await?;
    let denied = json!({
        "operation": "ModifyListener", "skip": 1, "times": null,
        "action": { "error": { "status": 403, "code": "AccessDenied", "message": "not today" } },
    });
    stage.aws.add_fault(serde_json::from_value(denied)?);
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["not today", "ROLLBACK FAILED", "blue 99 %, green 1 %", "aws elbv2 modify-listener"])?;
    ensure!(stage.weights(0).await?["green"] == 1);
    ensure!(stage.client.parameter(RECORD).await?.as_deref() == Some("blue"));
    // Once it is allowed again, it goes back.
    stage.aws.clear_faults();
    terraform.set("TF_VAR_active", "blue");
    terraform.apply().await?.ok()?;
    ensure!(stage.weights(0).await?["blue"] == 100);
    terraform.plan_is_empty().await
}
