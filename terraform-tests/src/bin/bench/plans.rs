//! What a plan costs that has nothing to do, and how many calls AWS gets.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use terraform_tests::client::{ACCESS_KEY, REGION};
use terraform_tests::stage::Stage;
use terraform_tests::stub::{Stub, group_arn, listener_arn};
use terraform_tests::terraform::{Terraform, engine};
use tokio::time::Instant;

use super::process::{Usage, Watch};
use super::tell;

const PROVIDER: &str = "terraform-provider-bluegreen";
/// The binary's name of every engine; a wrapper script becomes it.
const ENGINE: &str = "terraform";

struct Measured {
    wall: Duration,
    provider: Usage,
    terraform: Usage,
}

fn terraform() -> anyhow::Result<Terraform> {
    Terraform::on(engine("any").context("no engine")?)
}

/// The configuration of so many switches, each with a listener and a record of its own.
fn switches(count: usize, stub: &Stub) -> String {
    let listeners: Vec<String> = (0..count).map(|n| format!("    \"{}\",\n", listener_arn(n))).collect();
    format!(
        r#"terraform {{
  required_providers {{
    bluegreen = {{ source = "bluegreen/bluegreen" }}
  }}
}}
provider "bluegreen" {{
  region       = "{REGION}"
  access_key   = "{ACCESS_KEY}"
  secret_key   = "testing"
  endpoint_url = "http://{}"
}}
locals {{
  listeners = [
{}  ]
}}
resource "bluegreen_switch" "app" {{
  count  = {count}
  name   = "app-${{count.index}}"
  active = "blue"
  environments = {{
    blue  = {{ target_group_arn = "{}" }}
    green = {{ target_group_arn = "{}" }}
  }}
  routes    = [{{ listener_arn = local.listeners[count.index] }}]
  parameter = "/app-${{count.index}}/current-live"
}}
"#,
        stub.address,
        listeners.concat(),
        group_arn("blue"),
        group_arn("green"),
    )
}

fn nothing(count: usize) -> String {
    format!("resource \"terraform_data\" \"app\" {{\n  count = {count}\n  input = \"app-${{count.index}}\"\n}}\n")
}

async fn plan(terraform: &Terraform) -> anyhow::Result<Measured> {
    let (provider, engine) = (Watch::start(PROVIDER), Watch::start(ENGINE));
    let start = Instant::now();
    terraform.plan_is_empty().await?;
    let wall = start.elapsed();
    Ok(Measured { wall, provider: provider.stop().await, terraform: engine.stop().await })
}

pub async fn run() -> anyhow::Result<()> {
    let stub = Stub::start().await?;
    let mut empty = None;
    for count in [1, 100, 200, 1000] {
        let (ours, floor) = (terraform()?, terraform()?);
        ours.write(&switches(count, &stub))?;
        ours.apply().await?.ok()?;
        floor.write(&nothing(count))?;
        floor.apply().await?.ok()?;
        drop(stub.take_calls());
        let measured = plan(&ours).await?;
        let calls: usize = stub.take_calls().values().sum();
        let beside = plan(&floor).await?;
        let ratio = measured.wall.as_secs_f64() / beside.wall.as_secs_f64();
        tell(
            &format!("empty plan of {count} switches / of {count} terraform_data"),
            &format!("{ratio:.2} ({:.2} s / {:.2} s)", measured.wall.as_secs_f64(), beside.wall.as_secs_f64()),
            None,
        );
        let reached = (count == 200).then_some(calls <= 40);
        tell(
            &format!("  AWS calls of its refresh{}", if count == 200 { " (reach: 40)" } else { "" }),
            &calls.to_string(),
            reached,
        );
        if count == 1 {
            empty = Some(measured.provider.cpu_ms);
        }
        if count == 1000 {
            let each = (measured.provider.cpu_ms - empty.unwrap_or_default()) / 1000.0;
            tell("  provider CPU for each switch (reach: 0.5 ms)", &format!("{each:.3} ms"), Some(each <= 0.5));
            let peak = measured.provider.peak_mib;
            tell("  provider's peak memory (reach: 20 MiB)", &format!("{peak:.1} MiB"), Some(peak <= 20.0));
            let width = measured.terraform.cpu_ms / beside.terraform.cpu_ms.max(1.0);
            tell(
                "  Terraform's own CPU beside terraform_data (the schema's width)",
                &format!("{width:.1} ({:.0} ms / {:.0} ms)", measured.terraform.cpu_ms, beside.terraform.cpu_ms),
                None,
            );
        }
    }
    Ok(())
}

/// Calls that change something, of one switch of two listeners and a rule.
pub async fn calls_of_a_switch() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    stage.listener(terraform_tests::stage::Leads::Color("blue")).await?;
    let rule = stage.rule(0, 10, "/api/*", "blue").await?;
    let (first, second) = (stage.listeners[0].clone(), stage.listeners[1].clone());
    let routes =
        format!("[{{ listener_arn = \"{first}\" }}, {{ listener_arn = \"{second}\" }}, {{ rule_arn = \"{rule}\" }}]");
    let terraform = terraform()?;
    terraform.write(&stage.switch_over(Some("blue"), &routes, ""))?;
    terraform.apply().await?.ok()?;
    stage.aws.clear_calls();
    terraform.write(&stage.switch_over(Some("green"), &routes, ""))?;
    terraform.apply().await?.ok()?;
    let changes = stage.changes().len();
    ensure!(changes > 0, "nothing was moved");
    tell(
        "calls of a switch of three routes that change something (reach: 7)",
        &changes.to_string(),
        Some(changes <= 7),
    );
    tell("  all its calls, refresh and plan among them", &stage.aws.calls().len().to_string(), None);
    Ok(())
}

/// Calls of the refresh of fifty environments of instances, which AWS lets be read many at a time, but for the attributes
/// of a target group.
pub async fn calls_of_environments() -> anyhow::Result<()> {
    let stage = Stage::bare().await?;
    let terraform = terraform()?;
    terraform.write(&stage.fifty_environments().await?)?;
    terraform.apply().await?.ok()?;
    stage.aws.clear_calls();
    terraform.plan_is_empty().await?;
    let calls = stage.aws.calls();
    let attributes = calls.iter().filter(|call| call.operation == "DescribeTargetGroupAttributes").count();
    let others = calls.len() - attributes;
    tell(
        "calls of an empty plan of 50 environments (reach: 3 for each)",
        &calls.len().to_string(),
        Some(calls.len() <= 150),
    );
    tell("  those that read many environments at once", &others.to_string(), Some(others <= 100));
    Ok(())
}
