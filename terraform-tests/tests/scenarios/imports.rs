//! Import: by the record, by a listener, by a rule.

use anyhow::ensure;
use terraform_tests::stage::Stage;
use terraform_tests::terraform::Terraform;

/// An existing stack, as a pipeline left it, comes under the switch without a change at the load balancer.
#[tokio::test(flavor = "multi_thread")]
async fn by_record_and_by_listener() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.set_weights(0, &[("blue", 0), ("green", 100)]).await?;
    let record = serde_json::json!({ "Name": "/myapp/current-live", "Value": "green", "Type": "String" });
    stage.client.ssm("PutParameter", record).await?;
    let listener = stage.listeners[0].clone();
    for id in ["/myapp/current-live".to_owned(), format!("/myapp/current-live,{listener}")] {
        let terraform = Terraform::new()?;
        terraform.write(&stage.switch(Some("green"), ""))?;
        stage.aws.clear_calls();
        terraform.run(&["import", "-no-color", "-input=false", "bluegreen_switch.app", &id]).await?.ok()?;
        let state = terraform.state("bluegreen_switch.app").await?;
        ensure!(state["live"] == "green" && state["name"] == "myapp", "{state}");
        ensure!(state["environments"]["blue"]["target_group_arn"] == stage.group("blue"), "{state}");
        terraform.plan_is_empty().await?;
        ensure!(stage.changes().is_empty(), "{:?}", stage.changes());
    }
    // By the listener alone there is no record yet.
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("green"), ""))?;
    terraform.run(&["import", "-no-color", "bluegreen_switch.app", &listener]).await?.ok()?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    Ok(())
}

/// What can't be found or told apart is said, with what there is.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_an_id_is() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    let rule = stage.rule(0, 10, "/api/*", "blue").await?;
    stage.listener(terraform_tests::stage::Leads::Unavailable).await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    let fixed = stage.listeners[1].clone();
    for (id, expected) in [
        ("/nowhere", "There is no parameter /nowhere."),
        ("arn:aws:s3:::bucket", "neither a listener nor a rule"),
        (fixed.as_str(), "does not forward to target groups"),
    ] {
        let said = terraform.run(&["import", "-no-color", "bluegreen_switch.app", id]).await?;
        ensure!(said.code == 1);
        said.has(&["Failed to import", expected])?;
    }
    terraform.run(&["import", "-no-color", "bluegreen_switch.app", &rule]).await?.ok()?;
    Ok(())
}
