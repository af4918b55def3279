//! In modules of existing repositories: for_each, outputs of other modules, nothing known at first.

use anyhow::ensure;
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Terraform, binaries, engines};

const COLOR: &str = r#"
variable "arn" { type = string }
resource "terraform_data" "group" { input = var.arn }
output "target_group_arn" { value = terraform_data.group.output }
output "something_else" { value = 42 }
"#;

const APP: &str = r#"
terraform {
  required_providers {
    bluegreen = { source = "bluegreen/bluegreen" }
  }
}
variable "name" { type = string }
variable "active" { type = string }
variable "environments" {}
variable "listener_arn" { type = string }
resource "bluegreen_switch" "this" {
  name         = var.name
  active       = var.active
  environments = var.environments
  routes       = [{ listener_arn = var.listener_arn }]
  parameter    = "/${var.name}/current-live"
}
output "live" { value = bluegreen_switch.this.live }
"#;

fn root(stage: &Stage, active: &str) -> String {
    let color = |color: &str| format!("{color} = \"{}\"", stage.group(color));
    let listener = |n: usize| &stage.listeners[n];
    format!(
        r#"{}
locals {{
  groups    = {{ {}, {} }}
  listeners = {{ one = "{}", two = "{}" }}
}}
resource "terraform_data" "listener" {{
  for_each = local.listeners
  input    = each.value
}}
resource "terraform_data" "active" {{ input = "{active}" }}
module "color" {{
  source   = "./color"
  for_each = local.groups
  arn      = each.value
}}
module "app" {{
  source       = "./app"
  for_each     = local.listeners
  name         = "app-${{each.key}}"
  active       = terraform_data.active.output
  environments = module.color
  listener_arn = terraform_data.listener[each.key].output
}}
output "live" {{ value = {{ for name, app in module.app : name => app.live }} }}
"#,
        stage.provider(),
        color("blue"),
        color("green"),
        listener(0),
        listener(1),
    )
}

/// One apply from nothing known, then an empty plan; and installed from a filesystem mirror, as teams do.
#[tokio::test(flavor = "multi_thread")]
async fn everything_unknown_at_first() -> anyhow::Result<()> {
    for engine in engines() {
        let mut stage = Stage::new().await?;
        stage.listener(terraform_tests::stage::Leads::Color("blue")).await?;
        let terraform = Terraform::on(engine)?;
        let mirror = terraform.folder().join("mirror");
        let version = env!("CARGO_PKG_VERSION");
        let place = mirror.join(format!("registry.terraform.io/bluegreen/bluegreen/{version}/linux_amd64"));
        std::fs::create_dir_all(&place)?;
        let binary = "terraform-provider-bluegreen";
        std::os::unix::fs::symlink(binaries().join(binary), place.join(format!("{binary}_v{version}")))?;
        let rc = format!("provider_installation {{\n  filesystem_mirror {{\n    path = {mirror:?}\n  }}\n}}\n");
        terraform.file("terraform.rc", &rc)?;
        terraform.file("color/main.tf", COLOR)?;
        terraform.file("app/main.tf", APP)?;
        terraform.write(&root(&stage, "blue"))?;
        terraform.run(&["init", "-no-color", "-input=false"]).await?.ok()?;
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        ensure!(stage.answers(0, "/").await? == "blue" && stage.answers(1, "/").await? == "blue");
        terraform.write(&root(&stage, "green"))?;
        terraform.apply().await?.ok()?.has(&["\"one\" = \"green\"", "\"two\" = \"green\""])?;
        terraform.plan_is_empty().await?;
        ensure!(stage.answers(0, "/").await? == "green" && stage.answers(1, "/").await? == "green");
        terraform.destroy().await?.ok()?;
        ensure!(stage.client.parameter("/app-one/current-live").await?.is_none());
    }
    Ok(())
}
