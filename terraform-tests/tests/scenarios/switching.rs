//! The main job: who is live, seen by clients.

use std::time::Duration;

use anyhow::ensure;
use terraform_tests::load::Load;
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Terraform, engines};

/// Adoption, a switch and the way back, on every engine, under load: no request fails, every plan afterwards is empty.
#[tokio::test(flavor = "multi_thread")]
async fn traffic_follows_active_on_every_engine() -> anyhow::Result<()> {
    for engine in engines() {
        let stage = Stage::new().await?;
        let terraform = Terraform::on(engine)?;
        let load = Load::start(stage.address(0)?, 4, Duration::from_millis(2))?;
        for (n, active) in ["blue", "green", "blue", "green"].into_iter().enumerate() {
            stage.aws.clear_calls();
            terraform.write(&stage.switch(Some(active), ""))?;
            let said = terraform.apply().await?.ok()?;
            said.has(&[&format!("live = \"{active}\"")])?;
            terraform.plan_is_empty().await?;
            ensure!(stage.answers(0, "/").await? == active);
            let record = stage.client.parameter("/myapp/current-live").await?;
            ensure!(record.as_deref() == Some(active), "{record:?}");
            ensure!(stage.changes() == ["ModifyListener", "PutParameter"], "switch {n}: {:?}", stage.changes());
        }
        let seen = load.stop().await;
        ensure!(seen.failed == 0, "{seen:?}");
        ensure!(seen.colors.len() == 2, "{seen:?}");
    }
    Ok(())
}

/// Weights moved by hand are drift, and apply puts them back; without `active` they are followed.
#[tokio::test(flavor = "multi_thread")]
async fn weights_moved_by_hand() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    stage.set_weights(0, &[("blue", 10), ("green", 90)]).await?;
    let plan = terraform.plan().await?;
    ensure!(plan.code == 2);
    plan.has(&[
        "~ active = \"green\" -> \"blue\"",
        "~ live = \"green\" -> \"blue\"",
        "blue 10 %, green 90 % → blue 100 %, green 0 %",
        "~ \"blue\" = 10 -> 100",
    ])?;
    terraform.apply().await?.ok()?;
    let weights = stage.weights(0).await?;
    ensure!(weights["blue"] == 100 && weights["green"] == 0, "{weights:?}");
    terraform.plan_is_empty().await?;

    terraform.write(&stage.switch(None, ""))?;
    terraform.plan_is_empty().await?;
    stage.set_weights(0, &[("blue", 0), ("green", 100)]).await?;
    terraform.run(&["apply", "-refresh-only", "-auto-approve", "-no-color"]).await?.ok()?;
    ensure!(terraform.state("bluegreen_switch.app").await?["live"] == "green");
    ensure!(stage.answers(0, "/").await? == "green");
    stage.set_weights(0, &[("blue", 50), ("green", 50)]).await?;
    let plan = terraform.plan().await?;
    plan.has(&["No changes."]).or_else(|_| plan.has(&["live = \"green\" -> \"blue\""]))?;
    ensure!(!plan.folded().contains("will be updated"), "{}", plan.text);
    Ok(())
}

/// A follower adopts what is live, whichever color that is, and makes the record only if there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_adopts_what_is_live() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.set_weights(0, &[("green", 1)]).await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(None, ""))?;
    terraform.apply().await?.ok()?.has(&["live = \"green\""])?;
    terraform.plan_is_empty().await?;
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("green"));
    ensure!(stage.answers(0, "/").await? == "green");
    Ok(())
}

/// The record changed by hand is put right; deleted, it is made again.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_drifts_too() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    let wrong = serde_json::json!({ "Name": "/myapp/current-live", "Value": "green", "Overwrite": true });
    stage.client.ssm("PutParameter", wrong).await?;
    terraform.plan().await?.has(&["write /myapp/current-live: green → blue"])?;
    terraform.apply().await?.ok()?;
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("blue"));
    stage.client.ssm("DeleteParameter", serde_json::json!({ "Name": "/myapp/current-live" })).await?;
    terraform.plan().await?.has(&["create /myapp/current-live: blue"])?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(stage.answers(0, "/").await? == "blue");
    Ok(())
}

/// Three colors: the idle one is the next, and all stay in the forward.
#[tokio::test(flavor = "multi_thread")]
async fn three_colors_go_round() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    stage.color("red").await?;
    let terraform = Terraform::new()?;
    for (active, idle) in [("blue", "green"), ("red", "blue"), ("green", "red")] {
        terraform.write(&stage.switch(Some(active), ""))?;
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        let state = terraform.state("bluegreen_switch.app").await?;
        ensure!(state["live"] == active && state["idle"] == idle, "{state}");
        ensure!(stage.weights(0).await?.len() == 3);
        ensure!(stage.answers(0, "/").await? == active);
    }
    Ok(())
}

/// A first apply that would move live traffic is announced by its plan.
#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_that_moves_traffic_is_announced() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("green"), ""))?;
    terraform.plan().await?.has(&[
        "Warning: This apply moves live traffic",
        "from blue to green",
        "check that green has at least 1 healthy target, unless it has all the traffic already",
        ": blue 0 %, green 100 %",
        "write /myapp/current-live: green",
    ])?;
    // Somebody else is faster: what was planned still holds.
    terraform.run(&["plan", "-out=plan", "-no-color"]).await?.ok()?;
    stage.set_weights(0, &[("blue", 1), ("green", 1)]).await?;
    terraform.run(&["apply", "-no-color", "plan"]).await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(stage.answers(0, "/").await? == "green");
    Ok(())
}
