//! Several target groups per color: a website and its API, each behind a load balancer of its own, move as one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use terraform_tests::load::Load;
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, repository};

/// A website on one load balancer, and its API on another one.
async fn website_and_api() -> anyhow::Result<(Stage, SocketAddr)> {
    let mut stage = Stage::new().await?;
    for color in ["api-blue", "api-green"] {
        stage.color(color).await?;
    }
    let api = stage.load_balancer("internal", Leads::Color("api-blue")).await?;
    Ok((stage, api))
}

/// The example, as it stands: both move in the same steps, no request fails on either, and a destroy leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_website_and_its_api_move_as_one() -> anyhow::Result<()> {
    let (stage, api) = website_and_api().await?;
    let mut terraform = Terraform::new()?;
    terraform.write(&std::fs::read_to_string(repository().join("examples/stacks/website-and-api/main.tf"))?)?;
    let groups = |prefix: &str| {
        let group = |color: &'static str| (color, stage.group(&format!("{prefix}{color}")).to_owned());
        serde_json::to_string(&BTreeMap::from(["blue", "green"].map(group)))
    };
    stage.lend_to(&mut terraform);
    for (name, value) in [
        ("TF_VAR_website_listener_arn", stage.listeners[0].as_str()),
        ("TF_VAR_api_listener_arn", &stage.listeners[1]),
        ("TF_VAR_website_target_group_arns", &groups("")?),
        ("TF_VAR_api_target_group_arns", &groups("api-")?),
        ("TF_VAR_hold", "2s"),
        // A busy machine is slow.
        ("TF_VAR_max_latency", "5"),
        ("TF_VAR_active", "blue"),
    ] {
        terraform.set(name, value);
    }
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    let loads = [stage.address(0)?, api].map(|address| Load::start(address, 2, Duration::from_millis(4)));
    terraform.set("TF_VAR_active", "green");
    terraform.plan().await?.has(&[
        "check that green (api) has at least 1 healthy target",
        "green has at least 1 healthy target and 100 % of the live color's; green (api) has at least 1 healthy target",
        "error_rate of green is at most 1.00 %; error_rate of green (api) is at most 1.00 %; latency_p99 of green (api) is",
    ])?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    stage.aws.settled().await?;
    for (load, last) in loads.into_iter().zip(["green", "api-green"]) {
        let load = load?;
        load.next().await?;
        let seen = load.stop().await;
        ensure!(seen.failed == 0 && seen.colors.len() == 2 && seen.colors.contains_key(last), "{seen:?}");
    }
    ensure!(stage.weights(0).await?["green"] == 100 && stage.weights(1).await?["api-green"] == 100);
    terraform.destroy().await?.ok()?;
    ensure!(stage.client.parameter("/shop/current-live").await?.is_none());
    Ok(())
}

/// The colors of environments, with a further target group each.
fn with_environments(stage: &Stage, active: &str) -> String {
    let group = |color: &str| (stage.group(color).to_owned(), stage.group(&format!("api-{color}")).to_owned());
    let ((blue, api_blue), (green, api_green)) = (group("blue"), group("green"));
    let (web, api) = (&stage.listeners[0], &stage.listeners[1]);
    format!(
        r#"{}
resource "bluegreen_environment" "app" {{
  for_each         = {{ blue = "{blue}", green = "{green}" }}
  name             = "myapp"
  color            = each.key
  target_group_arn = each.value
}}

resource "bluegreen_switch" "app" {{
  name   = "myapp"
  active = "{active}"
  environments = {{
    for color, environment in bluegreen_environment.app :
    color => merge(environment, {{ target_groups = {{ api = {{ blue = "{api_blue}", green = "{api_green}" }}[color] }} }})
  }}
  routes       = [{{ listener_arn = "{web}" }}, {{ listener_arn = "{api}", target_group = "api" }}]
  parameter    = "/myapp/current-live"
  strategy     = {{ steps = [{{ weight = 20, hold = "60s" }}], settle = "1s" }}
  verification = {{ interval = "1s", healthy = {{ min_count = 2 }} }}
}}
"#,
        stage.provider()
    )
}

/// What breaks in the API takes the website back, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_breaks_takes_the_website_back() -> anyhow::Result<()> {
    let (stage, _) = website_and_api().await?;
    let terraform = Terraform::new()?;
    terraform.write(&with_environments(&stage, "blue"))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    terraform.write(&with_environments(&stage, "green"))?;
    stage.aws.clear_calls();
    let breaks = async {
        stage.until(|stage| stage.changes().len() > 1, "moves").await?;
        stage.make_unhealthy("api-green").await
    };
    let (said, broken) = tokio::join!(terraform.apply(), breaks);
    broken?;
    let said = said?;
    ensure!(said.code != 0);
    said.has(&["green (api) has 0 healthy of 2 registered targets", "Rolled back: all routes are as before."])?;
    let weights = (stage.weights(0).await?, stage.weights(1).await?);
    ensure!(weights.0["blue"] == 100 && weights.1["api-blue"] == 100, "{weights:?}");
    ensure!(stage.client.parameter("/myapp/current-live").await?.as_deref() == Some("blue"));
    Ok(())
}
