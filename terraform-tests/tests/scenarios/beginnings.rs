//! What is found out before any traffic moves: whether the very first color can carry it, whether the credentials last, whether
//! somebody else is at it.

use std::time::Duration;

use anyhow::ensure;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use terraform_tests::client::{ACCESS_KEY, REGION};
use terraform_tests::load::Load;
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, said};
use tokio::time::Instant;

use crate::rollouts::until_share;

/// Behind a listener that answers by itself, and by a rule that is still to be made, the first color is checked before users meet it:
/// none of them sees a 502.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_color_is_met_by_nobody_before_it_is_well() -> anyhow::Result<()> {
    for rule in [false, true] {
        let mut stage = Stage::empty().await?;
        let listener = stage.listener(Leads::Unavailable).await?;
        let routes = match rule {
            true => format!(
                "[{{ listener_arn = \"{listener}\", priority = 1, conditions = {{ path_patterns = [\"/*\"] }} }}]"
            ),
            false => format!("[{{ listener_arn = \"{listener}\" }}]"),
        };
        let more = "  validation = { healthy = { timeout = \"3s\", interval = \"1s\" } }";
        let terraform = Terraform::new()?;
        terraform.write(&stage.switch_over(Some("green"), &routes, more))?;
        let load = Load::start(stage.address(0)?, 4, Duration::from_millis(5))?;
        stage.apps["green"].set_failing(Some(500));
        let refused = terraform.apply().await?;
        ensure!(refused.code == 1, "{}", refused.text);
        refused.has(&["Validation of green failed (validation.healthy)", "Rolled back: all routes are as before."])?;
        let seen = load.seen();
        ensure!(seen.failures.keys().eq(["status 503"]) && seen.colors.is_empty(), "rule: {rule}, users met {seen:?}");
        ensure!(rules(&stage, &listener).await? == 0, "a rule is left");
        stage.apps["green"].set_failing(None);
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        ensure!(rules(&stage, &listener).await? == usize::from(rule), "the rule that no request takes is left");
        stage.aws.settled().await?;
        load.next().await?;
        let seen = load.stop().await;
        ensure!(seen.failures.keys().eq(["status 503"]) && seen.colors.keys().eq(["green"]), "{seen:?}");
        terraform.destroy().await?.ok()?;
        ensure!(rules(&stage, &listener).await? == 0);
    }
    Ok(())
}

/// How many rules a listener has beside its default action.
async fn rules(stage: &Stage, listener: &str) -> anyhow::Result<usize> {
    let text = stage.client.elb("DescribeRules", &[("ListenerArn", listener)]).await?;
    Ok(text.matches("<IsDefault>false</IsDefault>").count())
}

/// Credentials that the environment says the end of: what they can't outlast is told at plan, and refused before anything moves.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_have_to_last() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let mut terraform = Terraform::new()?;
    let more = "  strategy = { canary = { percent = 10, interval = \"2h\" } }\n  verification = { http = [{ url = \"http://127.0.0.1:1/\" }] }";
    let keys = format!("  access_key   = \"{ACCESS_KEY}\"\n  secret_key   = \"testing\"\n");
    let wish = |active: &str, more: &str| stage.switch(Some(active), more).replace(&keys, "");
    let end = (OffsetDateTime::now_utc() + Duration::from_secs(3600)).format(&Rfc3339)?;
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_SESSION_TOKEN", "a-session-of-an-hour"),
        ("AWS_REGION", REGION),
        ("AWS_CREDENTIAL_EXPIRATION", &end),
    ] {
        terraform.set(name, value);
    }
    // All at once nothing is long.
    terraform.write(&wish("blue", ""))?;
    terraform.apply().await?.ok()?;
    terraform.write(&wish("green", more))?;
    let planned = terraform.plan().await?;
    ensure!(planned.code == 2, "{}", planned.text);
    planned.has(&["The credentials end before the rollout would", "at least 2h20s: 2h at 10 %"])?;
    stage.aws.clear_calls();
    let refused = terraform.apply().await?;
    ensure!(refused.code == 1, "{}", refused.text);
    refused.has(&["The credentials end before the rollout would", "Nothing was changed."])?;
    ensure!(!stage.aws.calls().iter().any(|call| call.mutating), "something was changed");
    ensure!(!refused.text.contains("a-session-of-an-hour"), "the token is told");
    Ok(())
}

/// Two applies at once of a switch without a record: one of them goes on, the other one is told of it.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_two_applies_are_kept_apart() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = [Terraform::new()?, Terraform::new()?];
    let more = "  strategy = { canary = { percent = 10, interval = \"4s\" }, settle = \"0s\" }";
    let wish = stage.switch(Some("green"), more).replace("  parameter    = \"/myapp/current-live\"\n", "");
    for terraform in &terraform {
        terraform.write(&wish)?;
    }
    let first = terraform[0].start(&["apply", "-auto-approve", "-no-color"])?;
    until_share(&stage, 10).await?;
    let second = terraform[1].apply().await?;
    let first = said(first).await?.ok()?;
    first.has(&["Apply complete!"])?;
    ensure!(second.code == 1, "{}", second.text);
    second.has(&["Another rollout of myapp is under way", "aws ssm delete-parameter --name /bluegreen/routes/"])?;
    terraform[0].destroy().await?.ok()?;
    let left = stage.client.ssm("DescribeParameters", serde_json::json!({})).await?;
    ensure!(left["Parameters"].as_array().is_some_and(Vec::is_empty), "{left}");
    Ok(())
}

/// Credentials whose end nobody could know end while a step is held: traffic stays where it was last led, that is told with what to
/// do, and the next apply with new ones goes on, or back.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_end_in_a_hold_are_told() -> anyhow::Result<()> {
    let more = "  strategy     = { steps = [{ weight = 50, hold = \"600s\" }], settle = \"0s\" }\n  verification = { interval = \"1s\", healthy = {} }";
    for then in ["green", "blue"] {
        let stage = Stage::new().await?;
        let with = |active: &str, key: &str, more: &str| {
            let switch = stage.switch(Some(active), more);
            let own = format!("access_key   = \"{key}\"\n  token        = \"session\"");
            switch.replace(&format!("access_key   = \"{ACCESS_KEY}\""), &own)
        };
        let terraform = Terraform::new()?;
        terraform.write(&with("blue", "ASIAFIRST", more))?;
        terraform.apply().await?.ok()?;
        terraform.write(&with("green", "ASIAFIRST", more))?;
        let ends = async {
            until_share(&stage, 50).await?;
            stage.aws.end_credentials("ASIAFIRST", Instant::now());
            anyhow::Ok(())
        };
        let (said, ended) = tokio::join!(terraform.apply(), ends);
        ended?;
        let said = said?;
        ensure!(said.code == 1, "{}", said.text);
        said.has(&[
            "ExpiredToken",
            "ROLLBACK FAILED",
            "Traffic now: not known, since the routes could not be read. This run led them last to:",
            "blue 50 %, green 50 %",
            "Next: get new credentials, since those of this run have ended, then run `terraform apply`",
            "and goes on from there, or back. Leave /myapp/current-live.rollout: it says where this one began.",
        ])?;
        ensure!(stage.weights(0).await?["green"] == 50, "where it was last led");
        // With new ones it goes on, or back.
        let more = more.replace("600s", "1s");
        terraform.write(&with(then, "ASIASECOND", &more))?;
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        ensure!(stage.weights(0).await?[then] == 100);
        ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some(then));
    }
    Ok(())
}
