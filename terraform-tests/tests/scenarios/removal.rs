//! Destroy, in both ways, and after things went wrong.

use anyhow::ensure;
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::Terraform;

const RESTORE: &str = "  on_destroy = \"restore\"";

/// `restore` brings back the fixed answer and the record that were there before.
#[tokio::test(flavor = "multi_thread")]
async fn restore_brings_back_what_was_there() -> anyhow::Result<()> {
    let mut stage = Stage::empty().await?;
    stage.listener(Leads::Unavailable).await?;
    let record = serde_json::json!({ "Name": "/myapp/current-live", "Value": "none", "Type": "String" });
    stage.client.ssm("PutParameter", record).await?;
    let before = stage.actions(0).await?;
    let terraform = Terraform::new()?;
    for active in ["blue", "green"] {
        terraform.write(&stage.switch(Some(active), RESTORE))?;
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
    }
    terraform.destroy().await?.ok()?;
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    let after = stage.actions(0).await?;
    ensure!(
        squeeze(&after).contains(&squeeze(terraform_tests::client::element(&before, "FixedResponseConfig")?)),
        "{after}"
    );
    ensure!(stage.answers(0, "/").await? == "503");
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("none"));
    Ok(())
}

/// `keep` leaves the routes, and a record that was there before.
#[tokio::test(flavor = "multi_thread")]
async fn keep_leaves_routes_and_a_record_of_others() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let record = serde_json::json!({ "Name": "/myapp/current-live", "Value": "blue", "Type": "String" });
    stage.client.ssm("PutParameter", record).await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("green"), ""))?;
    terraform.apply().await?.ok()?;
    let before = stage.actions(0).await?;
    terraform.destroy().await?.ok()?;
    ensure!(stage.actions(0).await? == before);
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("green"));
    Ok(())
}

/// A destroy that is refused half-way keeps the state true, and the next one finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_fails_is_finished_by_the_next() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let listener = &stage.listeners[0];
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch_over(Some("blue"), &stage.listener_and_own_rule(), ""))?;
    terraform.apply().await?.ok()?;
    let fault = serde_json::json!({ "operation": "DeleteParameter", "action": { "error": { "status": 400, "code": "AccessDeniedException", "message": "not allowed" } } });
    stage.aws.add_fault(serde_json::from_value(fault)?);
    let said = terraform.destroy().await?;
    ensure!(said.code == 1);
    said.has(&[
        "Failed to remove the switch myapp",
        "AccessDeniedException: not allowed",
        "What was done before stays.",
    ])?;
    terraform.destroy().await?.ok()?;
    ensure!(stage.client.parameter("/myapp/current-live").await?.is_none());
    let rules = stage.client.elb("DescribeRules", &[("ListenerArn", listener)]).await?;
    ensure!(!rules.contains("/api/*"));
    Ok(())
}

/// Replacing the switch itself (taint) moves no traffic of a listener.
#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_moves_no_traffic() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("green"), ""))?;
    terraform.apply().await?.ok()?;
    stage.aws.clear_calls();
    let said = terraform.run(&["apply", "-auto-approve", "-no-color", "-replace=bluegreen_switch.app"]).await?;
    said.ok()?;
    ensure!(!stage.changes().contains(&"ModifyListener".to_owned()), "{:?}", stage.changes());
    ensure!(stage.answers(0, "/").await? == "green");
    terraform.plan_is_empty().await?;
    Ok(())
}

/// The listener deleted behind our back: the plan warns, apply refuses, and destroy still takes away what is ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_gone() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    stage.client.elb("DeleteListener", &[("ListenerArn", &stage.listeners[0])]).await?;
    let plan = terraform.plan().await?;
    ensure!(plan.code == 2);
    plan.has(&["Warning: Route not found", "existed at the last apply and is gone"])?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&["Route not found", "Check the ARN, the region and the account"])?;
    terraform.destroy().await?.ok()?;
    ensure!(stage.client.parameter("/myapp/current-live").await?.is_none());
    Ok(())
}
