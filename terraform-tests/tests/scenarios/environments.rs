//! Environments of EC2 instances: made, changed, protected, mended, taken away.

use anyhow::ensure;
use terraform_tests::client::elements;
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, engines};

/// The seed stack for both colors, its switch, and what a test changes in it.
pub struct Stack {
    pub stage: Stage,
    pub terraform: Terraform,
    network: (String, [String; 2]),
    pub active: &'static str,
    /// By color: release, and what goes into `instances` beside the usual.
    pub colors: [(&'static str, String, String); 2],
    pub image: String,
    pub group: String,
    pub more: String,
    pub switch: bool,
}

impl Stack {
    pub async fn new() -> anyhow::Result<Stack> {
        Stack::on(Terraform::new()?).await
    }

    pub async fn on(terraform: Terraform) -> anyhow::Result<Stack> {
        let mut stage = Stage::bare().await?;
        stage.listener(Leads::Unavailable).await?;
        let network = stage.network().await?;
        Ok(Stack {
            stage,
            terraform,
            network,
            active: "blue",
            colors: ["blue", "green"].map(|color| (color, "1.0".to_owned(), String::new())),
            image: "ami-12345678".to_owned(),
            group: String::new(),
            more: String::new(),
            switch: true,
        })
    }

    /// The whole configuration.
    pub fn text(&self) -> String {
        let (vpc, [first, second]) = &self.network;
        let releases: String = self.colors.iter().map(|entry| format!("{} = \"{}\", ", entry.0, entry.1)).collect();
        let instances: String = self.colors.iter().map(|entry| format!("{} = {{ {} }}\n", entry.0, entry.2)).collect();
        let switch = format!(
            r#"
resource "bluegreen_switch" "app" {{
  name         = "myapp"
  active       = "{}"
  environments = bluegreen_environment.app
  routes       = [{{ listener_arn = "{}" }}]
  parameter    = "/myapp/current-live"
  validation   = {{ healthy = {{ interval = "100ms", timeout = "20s" }} }}
}}
"#,
            self.active, self.stage.listeners[0]
        );
        format!(
            r##"{}
locals {{
  releases  = {{ {} }}
  instances = {{
    {instances}  }}
}}
resource "bluegreen_environment" "app" {{
  for_each = toset(["blue", "green"])
  name     = "myapp"
  color    = each.key
  release  = local.releases[each.key]
  vpc_id   = "{vpc}"
  target_group = {{
    port = 80, protocol = "HTTP"
    health_check = {{ path = "/health", interval = 5, timeout = 2, healthy_threshold = 2, unhealthy_threshold = 2 }}
    {}
  }}
  instances = merge({{
    image_id      = "{}"
    instance_type = "t3.medium"
    user_data     = "#!/bin/bash\necho ${{each.key}}\n"
    subnet_ids    = ["{first}", "{second}"]
    min_size = 2, desired_capacity = 2, max_size = 4
    ingress = [{{ protocol = "tcp", from_port = 80, to_port = 80, cidr_blocks = ["0.0.0.0/0"] }}]
  }}, local.instances[each.key])
  {}
}}
{}"##,
            self.stage.provider(),
            releases,
            self.group,
            self.image,
            self.more,
            if self.switch { switch } else { String::new() }
        )
    }

    pub fn write(&self) -> anyhow::Result<()> {
        self.terraform.write(&self.text())
    }

    /// Applies, and sees that nothing is left to do.
    pub async fn apply(&self) -> anyhow::Result<()> {
        self.write()?;
        self.terraform.apply().await?.ok()?;
        self.terraform.plan_is_empty().await
    }

    pub async fn state(&self, color: &str) -> anyhow::Result<serde_json::Value> {
        self.terraform.state(&format!("bluegreen_environment.app[\"{color}\"]")).await
    }

    /// Everything that the state of a color names is in AWS.
    pub async fn is_there(&self, color: &str) -> anyhow::Result<()> {
        self.all_there(&self.state(color).await?).await
    }

    /// Everything that a state names is in AWS.
    pub async fn all_there(&self, state: &serde_json::Value) -> anyhow::Result<()> {
        let client = &self.stage.client;
        let groups = client.elb("DescribeTargetGroups", &[]).await?;
        let mut there: Vec<String> = elements(&groups, "TargetGroupArn").into_iter().map(str::to_owned).collect();
        let groups = client.ec2("DescribeSecurityGroups", &[]).await?;
        there.extend(elements(&groups, "groupId").into_iter().map(str::to_owned));
        let templates = client.ec2("DescribeLaunchTemplates", &[]).await?;
        there.extend(elements(&templates, "launchTemplateId").into_iter().map(str::to_owned));
        let groups = client.autoscaling("DescribeAutoScalingGroups", &[]).await?;
        there.extend(elements(&groups, "AutoScalingGroupName").into_iter().map(str::to_owned));
        for name in ["target_group_arn", "security_group_id", "launch_template_id", "autoscaling_group_name"] {
            let id = state[name].as_str().unwrap_or_default();
            ensure!(there.iter().any(|one| one == id), "{name} {id} is in the state and not in AWS: {there:?}");
        }
        Ok(())
    }

    /// Everything of ours that AWS has.
    pub async fn left(&self) -> anyhow::Result<Vec<String>> {
        let client = &self.stage.client;
        let mut left = Vec::new();
        let groups = client.elb("DescribeTargetGroups", &[]).await?;
        left.extend(elements(&groups, "TargetGroupName").into_iter().map(|name| format!("target group {name}")));
        let groups = client.ec2("DescribeSecurityGroups", &[]).await?;
        let ours = elements(&groups, "groupName").into_iter().filter(|name| *name != "default");
        left.extend(ours.map(|name| format!("security group {name}")));
        let templates = client.ec2("DescribeLaunchTemplates", &[]).await?;
        left.extend(
            elements(&templates, "launchTemplateName").into_iter().map(|name| format!("launch template {name}")),
        );
        let groups = client.autoscaling("DescribeAutoScalingGroups", &[]).await?;
        left.extend(elements(&groups, "AutoScalingGroupName").into_iter().map(|name| format!("scaling group {name}")));
        let reservations = client.ec2("DescribeInstances", &[]).await?;
        let running = elements(&reservations, "instanceState").into_iter().filter(|state| state.contains("running"));
        left.extend(running.map(|_| "an instance".to_owned()));
        left.extend(client.parameter("/myapp/current-live").await?.map(|_| "the record".to_owned()));
        Ok(left)
    }
}

/// One apply from nothing on every engine, an empty plan after it, real traffic, and a destroy that leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_seed_stack_comes_and_goes() -> anyhow::Result<()> {
    for engine in engines() {
        let mut stack = Stack::on(Terraform::on(engine)?).await?;
        stack.apply().await?;
        ensure!(stack.stage.answers(0, "/").await? == "blue");
        let state = stack.state("green").await?;
        ensure!(state["target_group_name"] == "myapp-green" && state["launch_template_version"] == 1, "{state}");
        let refused = stack.terraform.destroy().await?;
        ensure!(refused.code == 1);
        refused.has(&[
            "myapp/blue is live and would be destroyed",
            "Users reach blue through listener web/",
            "(100 %)",
        ])?;
        ensure!(stack.stage.answers(0, "/").await? == "blue");
        stack.more = "protect_live = false".to_owned();
        stack.apply().await?;
        stack.terraform.destroy().await?.ok()?.has(&["myapp/blue is live and will be destroyed"])?;
        let left = stack.left().await?;
        ensure!(left.is_empty(), "{left:?}");
        ensure!(stack.stage.answers(0, "/").await? == "503");
    }
    Ok(())
}

fn index(color: &str) -> usize {
    usize::from(color == "green")
}

/// A new release on the idle color, then the switch: in two applies, and back in one. What is live is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_to_the_idle_color_and_then_live() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.apply().await?;
    let blue = stack.state("blue").await?;
    stack.colors[index("green")].1 = "2.0".to_owned();
    stack.colors[index("green")].2 = "image_id = \"ami-22222222\"".to_owned();
    stack.apply().await?;
    ensure!(stack.stage.answers(0, "/").await? == "blue");
    ensure!(stack.state("blue").await? == blue, "what is live was touched");
    ensure!(stack.state("green").await?["launch_template_version"] == 2);
    stack.active = "green";
    stack.apply().await?;
    ensure!(stack.stage.answers(0, "/").await? == "green");
    // One apply: release to the idle one, then the switch to it.
    stack.colors[index("blue")].1 = "3.0".to_owned();
    stack.colors[index("blue")].2 = "image_id = \"ami-33333333\"".to_owned();
    stack.active = "blue";
    stack.stage.aws.clear_calls();
    stack.apply().await?;
    ensure!(stack.stage.answers(0, "/").await? == "blue");
    let changes = stack.stage.changes();
    let place = |name: &str| changes.iter().position(|change| change == name);
    ensure!(
        place("StartInstanceRefresh").is_some() && place("StartInstanceRefresh") < place("ModifyListener"),
        "{changes:?}"
    );
    Ok(())
}

/// Whatever would hurt a live color is refused when planning, with the routes and a way out; the idle one is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_color_is_protected() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.apply().await?;
    for (edit, says) in [
        ("image_id = \"ami-22222222\"", "image_id changed, so every instance would be replaced"),
        ("instance_type = \"t3.large\"", "instance_type changed, so every instance would be replaced"),
        ("min_size = 1", "min_size would go from 2 to 1, below the 2 that run"),
        ("min_size = 1, max_size = 1, desired_capacity = 1", "it has 2 instances and would be left with 1"),
        ("subnet_ids = [element(split(\",\", local.subnets), 0)]", "would be terminated"),
    ] {
        stack.colors[index("blue")].2 = edit.to_owned();
        let subnets = stack.network.1.join(",");
        stack.terraform.write(&format!("{}\nlocals {{ subnets = \"{subnets}\" }}\n", stack.text()))?;
        let plan = stack.terraform.plan().await?;
        ensure!(plan.code == 1, "{edit}: {}", plan.text);
        plan.has(&[
            "myapp/blue is live and would be hurt",
            says,
            "Users reach blue through listener web/",
            "Next: make the change on the idle color",
        ])?;
    }
    for entry in &mut stack.colors {
        entry.2 = "max_size = 6".to_owned();
    }
    stack.apply().await?;
    stack.group = "slow_start = 60".to_owned();
    stack.apply().await?;
    let said = stack.terraform.run(&["plan", "-no-color", "-replace=bluegreen_environment.app[\"blue\"]"]).await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["myapp/blue is live and would be replaced"])?;
    stack.terraform.run(&["taint", "bluegreen_environment.app[\"blue\"]"]).await?.ok()?;
    let plan = stack.terraform.plan().await?;
    ensure!(plan.code == 1);
    plan.has(&["myapp/blue is live and would be replaced", "terraform untaint"])?;
    stack.terraform.run(&["untaint", "bluegreen_environment.app[\"blue\"]"]).await?.ok()?;
    stack.colors[index("blue")].2 = "max_size = 6".to_owned();
    let text = stack.text().replace("port = 80, protocol", "port = each.key == \"blue\" ? 8080 : 80, protocol");
    stack.terraform.write(&text)?;
    let plan = stack.terraform.plan().await?;
    ensure!(plan.code == 1);
    plan.has(&["target_group.port forces replacement"])?;
    ensure!(stack.stage.answers(0, "/").await? == "blue");
    Ok(())
}

/// With `protect_live = false` it is done in the way that hurts least: instances come before others go.
#[tokio::test(flavor = "multi_thread")]
async fn an_unprotected_color_is_changed_gently() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.more = "protect_live = false".to_owned();
    stack.apply().await?;
    let load = terraform_tests::load::Load::start(stack.stage.address(0)?, 4, std::time::Duration::from_millis(2))?;
    stack.colors[index("blue")].2 = "image_id = \"ami-22222222\"".to_owned();
    stack.write()?;
    let said = stack.terraform.apply().await?.ok()?;
    said.has(&["myapp/blue is live", "image_id changed, so every instance would be replaced", "protect_live = false"])?;
    stack.terraform.plan_is_empty().await?;
    let calls = stack.stage.aws.calls();
    let refresh = calls.iter().rev().find(|call| call.operation == "StartInstanceRefresh");
    let parameters = refresh.map(|call| call.params.to_string()).unwrap_or_default();
    ensure!(parameters.contains(r#""Preferences.MinHealthyPercentage":"100""#), "{parameters}");
    let seen = load.stop().await;
    ensure!(seen.failed == 0, "{seen:?}");
    for entry in &mut stack.colors {
        entry.2 = "min_size = 1, max_size = 1, desired_capacity = 1, image_id = \"ami-22222222\"".to_owned();
    }
    stack.write()?;
    stack.terraform.apply().await?.ok()?.has(&["it has 2 instances and would be left with 1"])?;
    stack.terraform.plan_is_empty().await?;
    ensure!(size(&stack, "blue").await?.1 == "1");
    // Made anew: nobody unchecked gets the traffic meanwhile, and the switch leads it there again.
    let said = stack
        .terraform
        .run(&["apply", "-auto-approve", "-no-color", "-replace=bluegreen_environment.app[\"blue\"]"])
        .await?;
    ensure!(said.code == 0, "{}", said.text);
    stack.terraform.plan_is_empty().await?;
    ensure!(stack.stage.answers(0, "/").await? == "blue");
    Ok(())
}

/// Replacing the idle color in the same apply as a switch to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_idle_color_goes_live_in_one_apply() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.apply().await?;
    let before = stack.state("green").await?["target_group_arn"].clone();
    stack.active = "green";
    let text = stack.text().replace("port = 80, protocol", "port = each.key == \"green\" ? 8080 : 80, protocol");
    stack.terraform.write(&text.replace("  routes   ", "  parity = \"warn\"\n  routes   "))?;
    stack.terraform.apply().await?.ok()?;
    stack.terraform.plan_is_empty().await?;
    ensure!(stack.stage.answers(0, "/").await? == "green");
    ensure!(stack.state("green").await?["target_group_arn"] != before);
    Ok(())
}

/// Colors that are not built alike: told attribute by attribute, and the user decides.
#[tokio::test(flavor = "multi_thread")]
async fn colors_that_differ() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.colors[index("green")].2 = "instance_type = \"t3.large\"".to_owned();
    stack.write()?;
    let plan = stack.terraform.plan().await?;
    ensure!(plan.code == 1);
    plan.has(&["blue and green differ", "instances.instance_type: blue and green differ", "parity = \"warn\""])?;
    let text = |policy: &str| stack.text().replace("  routes   ", &format!("  parity = \"{policy}\"\n  routes   "));
    stack.terraform.write(&text("warn"))?;
    stack.terraform.apply().await?.ok()?.has(&["Warning: blue and green differ"])?;
    stack.terraform.write(&text("off"))?;
    let said = stack.terraform.apply().await?.ok()?;
    ensure!(!said.folded().contains("differ:"), "{}", said.text);
    // A difference that only the apply can know is refused there, before anything moves.
    let unknown = text("error").replace("instance_type = \"t3.large\"", "instance_type = terraform_data.size.output");
    stack.terraform.write(&format!("{unknown}\nresource \"terraform_data\" \"size\" {{ input = \"t3.xlarge\" }}\n"))?;
    let said = stack.terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&["instances.instance_type: blue and green differ"])?;
    ensure!(stack.stage.answers(0, "/").await? == "blue");
    Ok(())
}

/// Made first, destroyed then: the heir has things of its own, whatever way it came to that, and the one that goes takes
/// only its own along.
#[tokio::test(flavor = "multi_thread")]
async fn an_heir_that_is_made_first() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.more = "lifecycle { create_before_destroy = true }".to_owned();
    stack.apply().await?;
    let before = stack.state("green").await?;
    let left = stack.left().await?.len();
    let replace = "-replace=bluegreen_environment.app[\"green\"]";
    stack.terraform.run(&["apply", "-auto-approve", "-no-color", replace]).await?.ok()?;
    stack.terraform.plan_is_empty().await?;
    let after = stack.state("green").await?;
    ensure!(after["target_group_arn"] != before["target_group_arn"], "{after}");
    stack.is_there("green").await?;
    // By an argument that makes it anew, in the same apply as the switch to it.
    stack.active = "green";
    let text = stack.text().replace("port = 80, protocol", "port = each.key == \"green\" ? 8080 : 80, protocol");
    stack.terraform.write(&text.replace("  routes   ", "  parity = \"warn\"\n  routes   "))?;
    stack.terraform.apply().await?.ok()?;
    stack.terraform.plan_is_empty().await?;
    ensure!(stack.stage.answers(0, "/").await? == "green");
    stack.is_there("green").await?;
    ensure!(stack.left().await?.len() == left, "{:?}", stack.left().await?);
    // A live one isn't replaced, this way either.
    let said = stack.terraform.run(&["plan", "-no-color", replace]).await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["myapp/green is live and would be replaced"])?;
    Ok(())
}

/// A resource that was renamed without a moved block: the idle one is made anew, the live one refuses.
#[tokio::test(flavor = "multi_thread")]
async fn renamed_without_a_word() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.switch = false;
    stack.apply().await?;
    let text = stack.text().replace("\"bluegreen_environment\" \"app\"", "\"bluegreen_environment\" \"stack\"");
    let text = text.replace("bluegreen_environment.app", "bluegreen_environment.stack");
    stack.terraform.write(&text)?;
    let said = stack.terraform.apply().await?;
    let names: &[&str] = if said.code == 0 { &["stack"] } else { &["app", "stack"] };
    for name in names {
        for color in ["blue", "green"] {
            if let Ok(state) = stack.terraform.state(&format!("bluegreen_environment.{name}[\"{color}\"]")).await {
                stack.all_there(&state).await?;
            }
        }
    }
    stack.terraform.apply().await?.ok()?;
    stack.terraform.plan_is_empty().await?;
    for color in ["blue", "green"] {
        let state = stack.terraform.state(&format!("bluegreen_environment.stack[\"{color}\"]")).await?;
        stack.all_there(&state).await?;
    }
    stack.terraform.destroy().await?.ok()?;
    let left = stack.left().await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A hotfix by hand on the live color is told and left, bars no switch away from it, and is put right afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_hotfix_bars_no_switch() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.apply().await?;
    let blue = stack.state("blue").await?;
    let (arn, client) = (blue["target_group_arn"].as_str().unwrap_or_default(), &stack.stage.client);
    client.elb("ModifyTargetGroup", &[("TargetGroupArn", arn), ("HealthCheckPath", "/health?hotfix=1")]).await?;
    let sizes = [("AutoScalingGroupName", "myapp-blue"), ("MaxSize", "9")];
    client.autoscaling("UpdateAutoScalingGroup", &sizes).await?;
    // Nothing is planned for it, and nothing refused.
    let plan = stack.terraform.plan().await?;
    plan.has(&["myapp/blue is live, and not as it was applied", "target_group.health_check.path"])?;
    ensure!(!plan.text.contains("will be updated"), "{}", plan.text);
    stack.active = "green";
    stack.write()?;
    stack.terraform.apply().await?.ok()?;
    ensure!(stack.stage.answers(0, "/").await? == "green");
    let most = async |stack: &Stack| {
        let group = [("AutoScalingGroupNames.member.1", "myapp-blue")];
        let xml = stack.stage.client.autoscaling("DescribeAutoScalingGroups", &group).await?;
        terraform_tests::client::element(&xml, "MaxSize").map(str::to_owned)
    };
    ensure!(most(&stack).await? == "9", "it was left as it was while users got there");
    stack.apply().await?;
    ensure!(most(&stack).await? == "4");
    Ok(())
}

/// Things renamed and let go of in the configuration are neither made anew nor destroyed.
#[tokio::test(flavor = "multi_thread")]
async fn moved_and_removed() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.apply().await?;
    let text = stack.text().replace("\"bluegreen_environment\" \"app\"", "\"bluegreen_environment\" \"stack\"");
    let text = text.replace("bluegreen_environment.app", "bluegreen_environment.stack");
    let moved = "moved {\n  from = bluegreen_environment.app\n  to   = bluegreen_environment.stack\n}\n";
    stack.terraform.write(&format!("{text}\n{moved}"))?;
    let said = stack.terraform.apply().await?.ok()?;
    said.has(&["0 added, 0 changed, 0 destroyed"])?;
    let provider = stack.stage.provider();
    let removed = |name: &str| format!("removed {{\n  from = {name}\n  lifecycle {{\n    destroy = false\n  }}\n}}\n");
    let both = removed("bluegreen_environment.stack") + &removed("bluegreen_switch.app");
    stack.terraform.write(&format!("{provider}{both}"))?;
    stack.terraform.apply().await?.ok()?.has(&["0 added, 0 changed, 0 destroyed"])?;
    ensure!(stack.stage.answers(0, "/").await? == "blue");
    // And back, by import, with nothing left to do.
    stack.switch = false;
    stack.write()?;
    for color in ["blue", "green"] {
        let address = format!("bluegreen_environment.app[\"{color}\"]");
        let id = format!("myapp/{color}");
        stack.terraform.run(&["import", "-no-color", "-input=false", &address, &id]).await?.ok()?;
    }
    stack.terraform.plan_is_empty().await
}

/// A preview route gives the idle color all of its requests, and yet no user: the color stays free to change.
#[tokio::test(flavor = "multi_thread")]
async fn a_preview_is_not_live() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    let listener = stack.stage.listener(Leads::Unavailable).await?;
    let with_preview = |stack: &Stack| {
        let own = format!(
            "[{{ listener_arn = \"{listener}\" }}, {{ listener_arn = \"{}\", priority = 5, conditions = {{ path_patterns = [\"/preview/*\"] }} }}]",
            stack.stage.listeners[0]
        );
        stack.text().replace("  routes   ", &format!("  preview_routes = {own}\n  routes   "))
    };
    for (active, idle) in [("blue", "green"), ("green", "blue")] {
        stack.active = active;
        stack.terraform.write(&with_preview(&stack))?;
        stack.terraform.apply().await?.ok()?;
        stack.terraform.plan_is_empty().await?;
        ensure!(stack.stage.answers(1, "/").await? == idle && stack.stage.answers(0, "/preview/x").await? == idle);
        stack.colors[index(idle)].2 = format!("image_id = \"ami-2222{active}\"");
        stack.terraform.write(&with_preview(&stack))?;
        stack.terraform.apply().await?.ok()?;
        stack.terraform.plan_is_empty().await?;
        stack.colors[index(active)].2 = "image_id = \"ami-99999999\"".to_owned();
        stack.terraform.write(&with_preview(&stack))?;
        let plan = stack.terraform.plan().await?;
        ensure!(plan.code == 1 && !plan.folded().contains("rule "), "{}", plan.text);
        plan.has(&[&format!("myapp/{active} is live and would be hurt")])?;
        stack.colors[index(active)].2 = String::new();
    }
    Ok(())
}

/// The minimum and the desired size of a color's Auto Scaling group.
pub async fn size(stack: &Stack, color: &str) -> anyhow::Result<(String, String)> {
    let name = format!("myapp-{color}");
    let group = [("AutoScalingGroupNames.member.1", name.as_str())];
    let xml = stack.stage.client.autoscaling("DescribeAutoScalingGroups", &group).await?;
    let text = |name| terraform_tests::client::element(&xml, name).map(str::to_owned);
    Ok((text("MinSize")?, text("DesiredCapacity")?))
}

/// Room before the traffic, a floor under the live color meanwhile, and everything given back, also after a kill.
#[tokio::test(flavor = "multi_thread")]
async fn sizes_follow_the_traffic() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.apply().await?;
    let with = |stack: &Stack| {
        stack.text().replace("  routes   ", "  capacity = { before = \"match_live\", after_idle = 2 }\n  routes   ")
    };
    let four = |color: &str| format!("myapp-{color}");
    let client = &stack.stage.client;
    let desired = [("AutoScalingGroupName", four("blue")), ("DesiredCapacity", "4".to_owned())];
    let desired: Vec<(&str, &str)> = desired.iter().map(|(name, value)| (*name, value.as_str())).collect();
    client.autoscaling("SetDesiredCapacity", &desired).await?;
    stack.terraform.write(&with(&stack))?;
    stack.terraform.apply().await?.ok()?;
    stack.terraform.plan_is_empty().await?;
    stack.active = "green";
    stack.terraform.write(&with(&stack))?;
    let plan = stack.terraform.plan().await?;
    plan.has(&[
        "hold the minimum of blue at 4 (it is 2)",
        "raise green from 2 to 4",
        "give blue its minimum of 2 back, lower blue from 4 to 2",
    ])?;
    stack.terraform.apply().await?.ok()?;
    stack.terraform.plan_is_empty().await?;
    let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    ensure!(size(&stack, "blue").await? == text("2", "2") && size(&stack, "green").await? == text("2", "4"));
    ensure!(stack.stage.answers(0, "/").await? == "green");
    // Killed when the traffic has just moved: the floor is no drift of the environment's, and the next apply takes it away.
    stack.active = "blue";
    stack.terraform.write(&with(&stack))?;
    let kill = serde_json::json!({ "operation": "ModifyListener", "action": { "kill": "after" } });
    stack.stage.aws.add_fault(serde_json::from_value(kill)?);
    ensure!(stack.terraform.apply().await?.code == 1);
    stack.stage.aws.clear_faults();
    ensure!(size(&stack, "green").await? == text("4", "4"), "{:?}", size(&stack, "green").await?);
    let plan = stack.terraform.plan().await?;
    ensure!(plan.code == 2 && !plan.folded().contains("min_size"), "{}", plan.text);
    plan.has(&["give green its minimum of 2 back, lower green from 4 to 2"])?;
    stack.terraform.apply().await?.ok()?;
    stack.terraform.plan_is_empty().await?;
    ensure!(size(&stack, "green").await? == text("2", "2") && size(&stack, "blue").await? == text("2", "4"));
    Ok(())
}
