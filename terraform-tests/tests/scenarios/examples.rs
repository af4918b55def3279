//! Example stacks, each through its whole life: made, released, switched under load, found again from nothing, gone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use terraform_tests::client::elements;
use terraform_tests::load::Load;
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, engines};

/// An example in a folder of its own, with its variables.
struct Example {
    stage: Stage,
    engine: PathBuf,
    name: &'static str,
    variables: Value,
    terraform: Terraform,
}

impl Example {
    fn new(stage: Stage, engine: PathBuf, name: &'static str, variables: Value) -> anyhow::Result<Example> {
        let terraform = Example::folder(&stage, &engine, name)?;
        Ok(Example { stage, engine, name, variables, terraform })
    }

    fn folder(stage: &Stage, engine: &Path, name: &str) -> anyhow::Result<Terraform> {
        stage.example(Terraform::on(engine.to_owned())?, name)
    }

    /// Applies with some variables set anew, and sees that nothing is left to do.
    async fn apply(&mut self, changed: Value) -> anyhow::Result<()> {
        for (name, value) in changed.as_object().into_iter().flatten() {
            self.variables[name] = value.clone();
        }
        self.terraform.file("terraform.tfvars.json", &self.variables.to_string())?;
        self.terraform.apply().await?.ok().with_context(|| changed.to_string())?;
        self.terraform.plan_is_empty().await
    }

    /// A state that knows nothing but these imports has nothing to change but its tags on what is there.
    async fn is_found_again(&self, imports: &[(&str, &str)]) -> anyhow::Result<Terraform> {
        let again = Example::folder(&self.stage, &self.engine, self.name)?;
        again.file("terraform.tfvars.json", &self.variables.to_string())?;
        for (address, id) in imports {
            again.run(&["import", "-no-color", "-input=false", address, id]).await?.ok()?;
        }
        self.stage.aws.clear_calls();
        again.apply().await?.ok()?;
        let changes = self.stage.changes();
        ensure!(changes.iter().all(|call| call.contains("Tags")), "{changes:?}");
        again.plan_is_empty().await?;
        Ok(again)
    }

    /// A release on the idle color, and the switch to it, under load; a second state, and with it the end of it all.
    async fn lives(mut self, release: Value, imports: &[(&str, &str)]) -> anyhow::Result<Stage> {
        self.apply(json!({ "active": "blue" })).await?;
        ensure!(self.stage.answers(0, "/").await? == "blue");
        let load = Load::start(self.stage.address(0)?, 2, Duration::from_millis(5))?;
        self.apply(release).await?;
        ensure!(self.stage.answers(0, "/").await? == "blue", "a release moves nobody");
        self.apply(json!({ "active": "green" })).await?;
        ensure!(self.stage.answers(0, "/").await? == "green");
        // From now on everything is that state's, as after a lost one.
        self.terraform = self.is_found_again(imports).await?;
        load.next().await?;
        let seen = load.stop().await;
        ensure!(seen.failed == 0 && seen.colors.len() == 2, "{seen:?}");
        let refused = self.terraform.destroy().await?;
        ensure!(refused.code == 1);
        refused.has(&["shop/green is live and would be destroyed", "protect_live = false"])?;
        self.apply(json!({ "protect_live": false })).await?;
        self.terraform.destroy().await?.ok()?;
        ensure!(self.stage.client.parameter("/shop/current-live").await?.is_none());
        let groups = self.stage.client.elb("DescribeTargetGroups", &[]).await?;
        ensure!(elements(&groups, "TargetGroupArn").is_empty(), "{groups}");
        Ok(self.stage)
    }
}

/// EC2 instances of several types, On-Demand and Spot, behind an Application Load Balancer.
#[tokio::test(flavor = "multi_thread")]
async fn spot_instances() -> anyhow::Result<()> {
    for engine in engines() {
        let mut stage = Stage::bare().await?;
        let listener = stage.listener(Leads::Unavailable).await?;
        let (vpc, subnets) = stage.network().await?;
        let variables = json!({
            "releases": { "blue": "1", "green": "1" }, "images": { "blue": "ami-11111111", "green": "ami-11111111" },
            "vpc_id": vpc, "subnet_ids": subnets, "listener_arn": listener,
        });
        let example = Example::new(stage, engine, "spot-instances", variables)?;
        let release = json!({
            "releases": { "blue": "1", "green": "2" }, "images": { "blue": "ami-11111111", "green": "ami-22222222" },
        });
        let imports = [
            ("bluegreen_environment.shop[\"blue\"]", "shop/blue"),
            ("bluegreen_environment.shop[\"green\"]", "shop/green"),
            ("bluegreen_switch.shop", "/shop/current-live"),
        ];
        let stage = example.lives(release, &imports).await?;
        let groups = stage.client.autoscaling("DescribeAutoScalingGroups", &[]).await?;
        ensure!(elements(&groups, "AutoScalingGroupName").is_empty(), "{groups}");
        let templates = stage.client.ec2("DescribeLaunchTemplates", &[]).await?;
        ensure!(!templates.contains("shop"), "{templates}");
    }
    Ok(())
}
