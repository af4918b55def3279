//! One configuration for several regions.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use terraform_tests::load::Load;
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Terraform, repository};

/// The regions of the example, in the order of its wave.
const WAVE: [&str; 3] = ["eu-west-1", "eu-central-1", "us-east-1"];

/// Three regions of one AWS, and the example.
async fn three_regions() -> anyhow::Result<(Vec<Stage>, Terraform)> {
    let home = Stage::new().await?;
    let (west, east) = (home.elsewhere(WAVE[0]).await?, home.elsewhere(WAVE[2]).await?);
    let stages = vec![west, home, east];
    let mut terraform = Terraform::new()?;
    let example = std::fs::read_to_string(repository().join("examples/stacks/three-regions/main.tf"))?;
    // These nodes are not as slow as AWS's.
    terraform.write(&example.replace("strategy     = { ", "strategy     = { settle = \"0s\", "))?;
    let stack = |stage: &Stage| json!({ "listener_arn": stage.listeners[0], "target_group_arns": stage.groups });
    let stacks: BTreeMap<&str, _> = WAVE.into_iter().zip(stages.iter().map(stack)).collect();
    terraform.file("terraform.tfvars.json", &json!({ "stacks": stacks, "hold": "2s" }).to_string())?;
    stages[1].lend_to(&mut terraform);
    // Nothing is to be in a region that nobody named.
    terraform.set("AWS_REGION", "ap-southeast-2");
    Ok((stages, terraform))
}

async fn live(stages: &[Stage]) -> anyhow::Result<Vec<String>> {
    let mut live = Vec::new();
    for stage in stages {
        let answer = stage.answers(0, "/").await?;
        let record = stage.client.parameter("/shop/current-live").await?;
        ensure!(record.as_deref() == Some(answer.as_str()), "{answer} serves, and the record says {record:?}");
        live.push(answer);
    }
    Ok(live)
}

/// A region after the other moves, under load; one that breaks goes back and keeps the next ones from beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_wave_of_three() -> anyhow::Result<()> {
    let (stages, mut terraform) = three_regions().await?;
    terraform.set("TF_VAR_active", "blue");
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(live(&stages).await? == ["blue", "blue", "blue"]);
    let loads: Vec<Load> = stages
        .iter()
        .map(|stage| Load::start(stage.address(0)?, 2, Duration::from_millis(5)))
        .collect::<anyhow::Result<_>>()?;

    // The second one is refused its first step, after the two of the first one.
    let error = json!({ "status": 403, "code": "AccessDenied", "message": "not today" });
    let refused = json!({ "operation": "ModifyListener", "skip": 2, "times": 1, "action": { "error": error } });
    stages[1].aws.add_fault(serde_json::from_value(refused)?);
    terraform.set("TF_VAR_active", "green");
    stages[0].aws.clear_calls();
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["bluegreen_switch.second", "AccessDenied: not today"])?;
    ensure!(live(&stages).await? == ["green", "blue", "blue"]);
    let moved: Vec<String> = stages[0]
        .aws
        .calls()
        .into_iter()
        .filter(|call| call.operation == "ModifyListener")
        .filter_map(|call| call.region)
        .collect();
    ensure!(moved == [WAVE[0], WAVE[0], WAVE[1]], "{moved:?}");

    // The wave goes on where it stopped.
    stages[0].aws.clear_calls();
    let plan = terraform.plan().await?;
    plan.has(&["2 to change"])?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(live(&stages).await? == ["green", "green", "green"]);
    let calls = stages[0].aws.calls();
    let moved = |region: &str| {
        let moves =
            |call: &local_aws::Call| call.operation == "ModifyListener" && call.region.as_deref() == Some(region);
        (calls.iter().position(moves), calls.iter().rposition(moves))
    };
    ensure!(moved(WAVE[0]).0.is_none() && moved(WAVE[1]).1 < moved(WAVE[2]).0, "{:?}", WAVE.map(moved));
    let strangers = calls.iter().filter(|call| call.region.as_deref() == Some("ap-southeast-2")).count();
    ensure!(strangers == 0, "{strangers} calls went to the provider's own region");
    for load in loads {
        let seen = load.stop().await;
        ensure!(seen.failed == 0 && seen.colors.len() == 2, "{seen:?}");
    }

    terraform.destroy().await?.ok()?;
    for stage in &stages {
        ensure!(stage.client.parameter("/shop/current-live").await?.is_none());
        ensure!(stage.client.parameter("/shop/current-live.rollout").await?.is_none());
    }
    Ok(())
}

/// Environments of one name in two regions, and one that goes to another region.
#[tokio::test(flavor = "multi_thread")]
async fn environments_are_made_where_they_belong() -> anyhow::Result<()> {
    let home = Stage::bare().await?;
    let mut west = home.elsewhere(WAVE[0]).await?;
    let mut vpcs = BTreeMap::new();
    for (region, stage) in [("eu-central-1", &home), (WAVE[0], &west)] {
        vpcs.insert(region, stage.network().await?.0);
    }
    let targets = west.servers("blue");
    let environment = |name: &str, region: &str, vpc: &str| {
        let region = if region.is_empty() { String::new() } else { format!("  region = \"{region}\"\n") };
        format!(
            "resource \"bluegreen_environment\" \"{name}\" {{\n  name = \"shop\"\n  color = \"blue\"\n{region}  vpc_id = \"{vpc}\"\n  \
             target_group = {{ port = 80, protocol = \"HTTP\" }}\n  targets = {targets}\n}}\n"
        )
    };
    let both = [environment("home", "", &vpcs["eu-central-1"]), environment("west", WAVE[0], &vpcs[WAVE[0]])].concat();
    let terraform = Terraform::new()?;
    terraform.write(&format!("{}{both}", home.provider()))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    for (name, region) in [("home", "eu-central-1"), ("west", WAVE[0])] {
        let state = terraform.state(&format!("bluegreen_environment.{name}")).await?;
        let arn = state["target_group_arn"].as_str().unwrap_or_default();
        ensure!(state["region"] == region && arn.contains(&format!(":{region}:")), "{state}");
    }

    // Found again by an id with a region.
    let again = Terraform::new()?;
    again.write(&format!("{}{both}", home.provider()))?;
    for (name, id) in [("home", "shop/blue,targets".to_owned()), ("west", format!("shop/blue,targets@{}", WAVE[0]))] {
        again.run(&["import", "-no-color", &format!("bluegreen_environment.{name}"), &id]).await?.ok()?;
    }
    again.plan_is_empty().await?;

    // What users reach doesn't go elsewhere; what nobody does is made anew there.
    let group = terraform.state("bluegreen_environment.west").await?["target_group_arn"].clone();
    west.groups.insert("shop".to_owned(), group.as_str().unwrap_or_default().to_owned());
    west.set_weights(0, &[("shop", 100)]).await?;
    let moved =
        [environment("home", "", &vpcs["eu-central-1"]), environment("west", "eu-central-1", &vpcs["eu-central-1"])];
    let moved = moved
        .concat()
        .replace("name = \"shop\"\n  color = \"blue\"\n  region", "name = \"shop\"\n  color = \"green\"\n  region");
    terraform.write(&format!("{}{moved}", home.provider()))?;
    let plan = terraform.plan().await?;
    ensure!(plan.code == 1, "{}", plan.text);
    plan.has(&["shop/blue is live and would be hurt", "region forces replacement"])?;
    west.set_weights(0, &[("blue", 100)]).await?;
    terraform.plan().await?.has(&["1 to add, 0 to change, 1 to destroy", "# forces replacement"])?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    let arn = terraform.state("bluegreen_environment.west").await?["target_group_arn"].clone();
    ensure!(arn.as_str().is_some_and(|arn| arn.contains(":eu-central-1:")), "{arn}");
    terraform.destroy().await?.ok()?;
    let left = west.client.elb("DescribeTargetGroups", &[]).await?;
    ensure!(!left.contains("shop-blue"), "{left}");
    Ok(())
}

/// What is elsewhere is told before anything is called, with what to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_region_is_told_with_its_cure() -> anyhow::Result<()> {
    let home = Stage::bare().await?;
    let west = home.elsewhere(WAVE[0]).await?;
    let terraform = Terraform::new()?;
    terraform.write(&west.switch(Some("blue"), ""))?;
    let plan = terraform.plan().await?;
    ensure!(plan.code == 1, "{}", plan.text);
    plan.has(&["The route is in another region", "Set region = \"eu-west-1\" here"])?;
    terraform.write(&west.switch(Some("blue"), "  region = \"us-east-1\""))?;
    let validated = terraform.run(&["validate", "-no-color"]).await?;
    validated.has(&["this listener is in eu-west-1, but the switch is in us-east-1"])?;
    terraform.write(&west.switch(Some("blue"), "  region = \"Ireland\""))?;
    terraform.run(&["validate", "-no-color"]).await?.has(&["\"Ireland\" is not the name of a region"])?;
    // The cure, and the way back: a region that is written where the provider has it too changes nothing.
    terraform.write(&west.switch(Some("blue"), "  region = \"eu-west-1\""))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    let moved = west.switch(Some("blue"), "").replacen("\"eu-central-1\"", "\"eu-west-1\"", 1);
    terraform.write(&moved)?;
    terraform.plan_is_empty().await?;
    terraform.destroy().await?.ok()?;
    Ok(())
}
