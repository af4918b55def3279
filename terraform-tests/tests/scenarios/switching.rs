//! The main job: who is live, seen by clients.

use anyhow::ensure;
use terraform_tests::stage::Stage;
use terraform_tests::terraform::Terraform;

/// Adoption, a switch and the way back, each an apply and each followed by an empty plan.
#[tokio::test(flavor = "multi_thread")]
async fn traffic_follows_active() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    let said = terraform.apply().await?.ok()?;
    println!("{}", said.text);
    terraform.plan_is_empty().await?;
    ensure!(stage.answers(0, "/").await? == "blue");
    terraform.write(&stage.switch(Some("green"), ""))?;
    let said = terraform.apply().await?.ok()?;
    println!("{}", said.text);
    ensure!(stage.answers(0, "/").await? == "green");
    terraform.plan_is_empty().await?;
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("green"));
    Ok(())
}
