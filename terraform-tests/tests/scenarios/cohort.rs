//! A cohort meets a release on the production address before anybody else does.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use terraform_tests::load::Load;
use terraform_tests::stage::Stage;
use terraform_tests::terraform::Terraform;

const PAUSE: Duration = Duration::from_millis(4);

/// The example, as it stands, with blue live.
async fn testers_first() -> anyhow::Result<(Stage, Terraform)> {
    let stage = Stage::new().await?;
    // Another team has a rule there, for all paths below /other.
    stage.rule(0, 200, "/other/*", "blue").await?;
    let terraform = stage.example_on_blue("testers-first", &[("hold", "6s")]).await?;
    Ok((stage, terraform))
}

/// How often a listener's weights were changed so far.
fn steps(stage: &Stage) -> usize {
    stage.changes().iter().filter(|call| *call == "ModifyListener").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn testers_meet_a_release_before_all_others() -> anyhow::Result<()> {
    let (stage, terraform) = testers_first().await?;
    terraform.plan().await?.has(&[
        "create rule 99 of listener",
        "create rule 201 of listener",
        "for the cohort of rule 100 of listener",
        "watch green with its cohort for 6s",
    ])?;
    let address = stage.address(0)?;
    let testers = Load::with_cookie(address, 2, PAUSE, "session=7; cohort=testers; theme=dark")?;
    // Who only looks like one is none.
    let others = Load::with_cookie(address, 2, PAUSE, "cohort=others; testers=1")?;
    let meet = async {
        let has_met = |_: &Stage| testers.seen().last.as_deref() == Some("green");
        stage.until(has_met, "leads the testers to green").await?;
        // No step was taken when the others were counted.
        let seen = others.seen();
        anyhow::Ok((seen, steps(&stage)))
    };
    let (said, met) = tokio::join!(terraform.apply(), meet);
    said?.ok()?;
    let (seen, taken) = met?;
    ensure!(taken == 0 && !seen.colors.contains_key("green"), "{taken} {seen:?}");
    terraform.plan_is_empty().await?;
    stage.aws.settled().await?;
    testers.next().await?;
    others.next().await?;
    let (testers, others) = (testers.stop().await, others.stop().await);
    ensure!(testers.failed == 0 && others.failed == 0, "{testers:?} {others:?}");
    ensure!(others.last.as_deref() == Some("green"), "{others:?}");
    ensure!(stage.weights(0).await?["green"] == 100);
    let changes = stage.changes();
    let count = |name: &str| changes.iter().filter(|call| *call == name).count();
    ensure!((count("CreateRule"), count("DeleteRule")) == (2, 2), "{changes:?}");
    terraform.destroy().await?.ok()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_under_testers_meets_nobody_else() -> anyhow::Result<()> {
    let (stage, terraform) = testers_first().await?;
    let address = stage.address(0)?;
    let others = Load::start(address, 2, PAUSE)?;
    let testers = Load::with_cookie(address, 1, PAUSE, "cohort=testers")?;
    let breaks = async {
        stage.until(|_| testers.seen().colors.contains_key("green"), "leads the testers to green").await?;
        stage.make_unhealthy("green").await
    };
    let (said, broken) = tokio::join!(terraform.apply(), breaks);
    broken?;
    let said = said?;
    ensure!(said.code != 0);
    said.has(&[
        "Verification of green with its cohort failed",
        "Rolled back: all routes are as before.",
        "Users of the cohort reached green, and nobody else.",
    ])?;
    let others = others.stop().await;
    ensure!(others.failed == 0 && others.colors.len() == 1 && others.colors.contains_key("blue"), "{others:?}");
    ensure!(stage.weights(0).await?["blue"] == 100 && steps(&stage) == 0);
    let changes = stage.changes();
    let count = |name: &str| changes.iter().filter(|call| *call == name).count();
    ensure!(count("CreateRule") == 2 && count("DeleteRule") == 2, "{changes:?}");
    Ok(())
}

/// A run that is killed while only the testers are led leaves their rules: a plan for the way back shows them, and its apply
/// takes them away.
#[tokio::test(flavor = "multi_thread")]
async fn testers_are_led_back_after_a_kill() -> anyhow::Result<()> {
    let (stage, mut terraform) = testers_first().await?;
    let kill = json!({ "operation": "CreateRule", "skip": 1, "action": { "kill": "after" } });
    stage.aws.add_fault(serde_json::from_value(kill)?);
    ensure!(terraform.apply().await?.code == 1);
    stage.aws.clear_faults();
    ensure!(steps(&stage) == 0);
    terraform.set("TF_VAR_active", "blue");
    let said = terraform.plan().await?;
    ensure!(said.code == 2, "{said:?}");
    said.has(&["delete rule 99 of listener", "delete rule 201 of listener"])?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(stage.answers(0, "/").await?.contains("blue"));
    ensure!(stage.changes().iter().filter(|call| *call == "DeleteRule").count() == 2, "{:?}", stage.changes());
    Ok(())
}
