//! Environments of ECS services: releases, and releases that come to nothing.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use terraform_tests::client::element;
use terraform_tests::load::Load;
use terraform_tests::stage::{Leads, Stage, forward};
use terraform_tests::terraform::{Terraform, said};

use crate::rollouts::until_share;

/// Both colors as services in groups that a listener has, and their switch.
struct Services {
    stage: Stage,
    terraform: Terraform,
    network: (String, String),
    images: [&'static str; 2],
    active: &'static str,
    service: String,
    more: String,
    switch: String,
    task: String,
}

impl Services {
    async fn new() -> anyhow::Result<Services> {
        let mut stage = Stage::empty().await?;
        // The stage's own servers would be in the way.
        for (color, app) in &stage.apps {
            for address in app.addresses() {
                stage.deregister(stage.group(color), *address).await?;
            }
        }
        let both = forward(1, &[(stage.group("blue"), 100), (stage.group("green"), 0)]);
        stage.listener(Leads::Actions(both)).await?;
        stage.client.ecs("CreateCluster", json!({ "clusterName": "main" })).await?;
        let (_, [subnet, _]) = stage.network().await?;
        let group = element(&stage.client.ec2("DescribeSecurityGroups", &[]).await?, "groupId")?.to_owned();
        let task = json!({
            "family": "api", "cpu": "256", "memory": "512", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
            "containerDefinitions": [
                { "name": "api", "image": "api:0", "memory": 128, "portMappings": [{ "containerPort": 8080 }],
                  "environment": [{ "name": "MODE", "value": "web" }] },
            ],
        });
        let (images, task) = (["api:v1", "api:v1"], task.to_string());
        let (service, more, switch) = (String::new(), String::new(), String::new());
        let network = (subnet, group);
        let terraform = Terraform::new()?;
        Ok(Services { stage, terraform, network, images, active: "blue", service, more, switch, task })
    }

    fn write(&self) -> anyhow::Result<()> {
        let (subnet, group) = &self.network;
        self.terraform.file("task.json", &self.task)?;
        self.terraform.write(&format!(
            r#"{}
locals {{
  groups = {{ blue = "{}", green = "{}" }}
  images = {{ blue = "{}", green = "{}" }}
}}
resource "bluegreen_environment" "app" {{
  for_each         = local.groups
  name             = "myapp"
  color            = each.key
  release          = local.images[each.key]
  target_group_arn = each.value
  service = {{
    cluster            = "main"
    task_definition    = file("task.json")
    image              = local.images[each.key]
    container_name     = "api"
    container_port     = 8080
    desired_count      = 2
    subnet_ids         = ["{subnet}"]
    security_group_ids = ["{group}"]
    {}
  }}
  {}
}}
resource "bluegreen_switch" "app" {{
  name         = "myapp"
  active       = "{}"
  environments = bluegreen_environment.app
  routes       = [{{ listener_arn = "{}" }}]
  parameter    = "/myapp/current-live"
  validation   = {{ healthy = {{ interval = "100ms", timeout = "20s" }} }}
  {}
}}
"#,
            self.stage.provider(),
            self.stage.group("blue"),
            self.stage.group("green"),
            self.images[0],
            self.images[1],
            self.service,
            self.more,
            self.active,
            self.stage.listeners[0],
            self.switch,
        ))
    }

    /// The least sizes of both colors, as Application Auto Scaling has them.
    async fn minimums(&self) -> anyhow::Result<[i64; 2]> {
        let ecs = json!({ "ServiceNamespace": "ecs" });
        let seen = self.stage.client.application_autoscaling("DescribeScalableTargets", ecs).await?;
        let min = |color: &str| {
            let mut targets = seen["ScalableTargets"].as_array().into_iter().flatten();
            let target = targets.find(|target| target["ResourceId"] == format!("service/main/myapp-{color}"));
            target.and_then(|target| target["MinCapacity"].as_i64()).unwrap_or(-1)
        };
        Ok([min("blue"), min("green")])
    }

    async fn apply(&self) -> anyhow::Result<()> {
        self.write()?;
        self.terraform.apply().await?.ok()?;
        self.terraform.plan_is_empty().await
    }

    async fn fails(&self, says: &[&str]) -> anyhow::Result<()> {
        self.write()?;
        let said = self.terraform.apply().await?;
        ensure!(said.code == 1, "{}", said.text);
        said.has(says)
    }
}

/// A release goes to the idle service, then live, under load; the JSON is registered as it stands, and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_round() -> anyhow::Result<()> {
    let mut services = Services::new().await?;
    services.more = "protect_live = true".to_owned();
    services.service = "keep_revisions = 1".to_owned();
    services.apply().await?;
    ensure!(services.stage.answers(0, "/").await? == "blue");
    let load = Load::start(services.stage.address(0)?, 4, Duration::from_millis(2))?;
    for (n, (color, image)) in [("green", "api:v2"), ("blue", "api:v3"), ("green", "api:v4")].into_iter().enumerate() {
        services.images[usize::from(color == "green")] = image;
        services.active = color;
        services.apply().await?;
        ensure!(services.stage.answers(0, "/").await? == color, "{n}");
    }
    let seen = load.stop().await;
    ensure!(seen.failed == 0, "{seen:?}");
    let client = &services.stage.client;
    let state = services.terraform.state("bluegreen_environment.app[\"green\"]").await?;
    let described =
        client.ecs("DescribeTaskDefinition", json!({ "taskDefinition": state["task_definition_arn"] })).await?;
    let container = &described["taskDefinition"]["containerDefinitions"][0];
    ensure!(container["image"] == "api:v4" && container["environment"][0]["value"] == "web", "{described}");
    let active = client.ecs("ListTaskDefinitions", json!({ "status": "ACTIVE" })).await?;
    // Each color keeps what runs and one before it.
    ensure!(active["taskDefinitionArns"].as_array().is_some_and(|arns| arns.len() == 4), "{active}");
    services.images[1] = "api:v5";
    services.write()?;
    let plan = services.terraform.plan().await?;
    ensure!(plan.code == 1);
    plan.has(&["myapp/green is live and would be hurt", "every task would be replaced"])?;
    services.images[1] = "api:v4";
    services.more = "protect_live = false".to_owned();
    services.apply().await?;
    services.terraform.destroy().await?.ok()?;
    let client = &services.stage.client;
    let left = client.ecs("ListServices", json!({ "cluster": "main" })).await?;
    ensure!(left["serviceArns"].as_array().is_some_and(Vec::is_empty), "{left}");
    let left = client.ecs("ListTaskDefinitions", json!({ "status": "ACTIVE" })).await?;
    ensure!(left["taskDefinitionArns"].as_array().is_some_and(Vec::is_empty), "{left}");
    Ok(())
}

/// A release whose tasks stop: the circuit breaker's reason, the events and the exit codes are told; the next one works.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_breaks() -> anyhow::Result<()> {
    let mut services = Services::new().await?;
    services.apply().await?;
    services.images[1] = "api:broken";
    let says = [
        "Failed to update myapp/green",
        "the deployment failed: ECS deployment circuit breaker",
        "event: (service myapp-green)",
        "Essential container in task exited; api exited with 1",
        "Traffic: no user reaches green",
    ];
    services.fails(&says).await?;
    ensure!(services.stage.answers(0, "/").await? == "blue");
    ensure!(services.terraform.plan().await?.code == 2, "the wish is still there");
    services.service = "circuit_breaker = { enable = false }".to_owned();
    services.fails(&["of its tasks stopped", "api exited with 1"]).await?;
    services.images[1] = "api:v2";
    services.apply().await
}

/// A release that never gets stable ends with the operation's time, and says what was seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_never_gets_stable() -> anyhow::Result<()> {
    let mut services = Services::new().await?;
    services.apply().await?;
    services.images[1] = "api:hang";
    services.more = "timeouts = { update = \"2s\" }".to_owned();
    services
        .fails(&[
            "the operation's time ended while the deployment was in progress",
            "unable to consistently start tasks",
        ])
        .await?;
    services.images[1] = "api:v2";
    services.more = String::new();
    services.apply().await
}

/// A service deleted or changed behind our back, and tasks that somebody else deployed.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_changed_by_hand() -> anyhow::Result<()> {
    let services = Services::new().await?;
    services.apply().await?;
    let client = &services.stage.client;
    let delete = json!({ "cluster": "main", "service": "myapp-green", "force": true });
    client.ecs("DeleteService", delete).await?;
    let plan = services.terraform.plan().await?;
    plan.has(&["+ service_arn", "0 to destroy"])?;
    services.apply().await?;
    let other =
        json!({ "family": "other", "containerDefinitions": [{ "name": "api", "image": "api:x", "memory": 128 }] });
    let other = client.ecs("RegisterTaskDefinition", other).await?["taskDefinition"]["taskDefinitionArn"].clone();
    let deploy = json!({ "cluster": "main", "service": "myapp-green", "taskDefinition": other });
    client.ecs("UpdateService", deploy).await?;
    let plan = services.terraform.plan().await?;
    ensure!(plan.code == 2);
    plan.has(&["task-definition/other:1\" -> null"])?;
    services.apply().await?;
    let state = services.terraform.state("bluegreen_environment.app[\"green\"]").await?;
    ensure!(state["task_definition_arn"].as_str().is_some_and(|arn| arn.contains("task-definition/api:")), "{state}");
    let client = &services.stage.client;
    client.ecs("UpdateService", json!({ "cluster": "main", "service": "myapp-green", "loadBalancers": [] })).await?;
    let plan = services.terraform.plan().await?;
    ensure!(plan.code == 2, "{}", plan.text);
    plan.has(&["Warning: myapp/green is detached", "+ target_group_name"])?;
    services.apply().await?;
    let described = json!({ "cluster": "main", "services": ["myapp-green"] });
    let described = services.stage.client.ecs("DescribeServices", described).await?;
    let group = &described["services"][0]["loadBalancers"][0]["targetGroupArn"];
    ensure!(group == services.stage.group("green"), "{described}");
    Ok(())
}

/// Application Auto Scaling keeps both services: while traffic moves neither may become smaller, and afterwards it may again.
#[tokio::test(flavor = "multi_thread")]
async fn no_service_is_scaled_in_while_traffic_moves() -> anyhow::Result<()> {
    let mut services = Services::new().await?;
    services.apply().await?;
    for color in ["blue", "green"] {
        let target = json!({
            "ServiceNamespace": "ecs", "ResourceId": format!("service/main/myapp-{color}"),
            "ScalableDimension": "ecs:service:DesiredCount", "MinCapacity": 1, "MaxCapacity": 6,
        });
        services.stage.client.application_autoscaling("RegisterScalableTarget", target).await?;
    }
    services.switch = "capacity = { before = \"match_live\" }\n  strategy = { canary = { percent = 10, interval = \"2s\" }, settle = \"0s\" }".to_owned();
    services.active = "green";
    services.write()?;
    let child = services.terraform.start(&["apply", "-auto-approve", "-no-color"])?;
    until_share(&services.stage, 10).await?;
    ensure!(services.minimums().await? == [2, 2], "{:?}", services.minimums().await?);
    said(child).await?.ok()?;
    ensure!(services.minimums().await? == [1, 1], "{:?}", services.minimums().await?);
    services.terraform.plan_is_empty().await?;
    // A rollout goes back, and can't give back what it took: a person does.
    let denied = json!({ "error": { "status": 400, "code": "AccessDeniedException", "message": "not allowed" } });
    let fault = json!({ "operation": "RegisterScalableTarget", "skip": 2, "times": null, "action": denied });
    services.stage.aws.add_fault(serde_json::from_value(fault)?);
    let usual = services.switch.clone();
    services.switch += "\n  verification = { http = [{ url = \"http://127.0.0.1:9/\" }] }";
    services.active = "blue";
    services.write()?;
    let back = services.terraform.apply().await?;
    ensure!(back.code == 1 && services.minimums().await? == [2, 2], "{}", back.text);
    back.has(&["The size of blue could not be given back", "The size of green could not be given back"])?;
    services.stage.aws.clear_faults();
    ensure!(services.stage.shell().paste(&back).await? == 4, "{}", back.text);
    ensure!(services.minimums().await? == [1, 1]);
    services.switch = usual;
    services.active = "green";
    services.apply().await?;
    // Whoever may not see it is told, and nothing is refused.
    let fault = json!({ "operation": "DescribeScalableTargets", "times": null, "action": denied });
    services.stage.aws.add_fault(serde_json::from_value(fault)?);
    services.active = "blue";
    services.write()?;
    let said = services.terraform.apply().await?.ok()?;
    said.has(&["The minimum of green's service is not held", "AccessDeniedException: not allowed"])?;
    services.terraform.plan_is_empty().await
}

/// Groups of the environments' own, from nothing in one apply: each is made known to the load balancer by a rule that no
/// request matches, which makes nobody live and goes with its color.
#[tokio::test(flavor = "multi_thread")]
async fn groups_of_their_own() -> anyhow::Result<()> {
    let mut stage = Stage::bare().await?;
    let listener = stage.listener(Leads::Unavailable).await?;
    stage.client.ecs("CreateCluster", json!({ "clusterName": "main" })).await?;
    let (vpc, [subnet, _]) = stage.network().await?;
    let group = element(&stage.client.ec2("DescribeSecurityGroups", &[]).await?, "groupId")?.to_owned();
    let terraform = Terraform::new()?;
    let task = json!({ "family": "api", "networkMode": "awsvpc", "containerDefinitions": [{ "name": "api", "image": "api:1", "memory": 128, "portMappings": [{ "containerPort": 8080 }] }] });
    terraform.file("task.json", &task.to_string())?;
    let text = |active: &str, green: &str, protect: bool| {
        format!(
            r#"{}
resource "bluegreen_environment" "app" {{
  for_each     = {{ blue = "api:v1", green = "{green}" }}
  name         = "myapp"
  color        = each.key
  vpc_id       = "{vpc}"
  protect_live = {protect}
  target_group = {{ port = 8080, health_check = {{ path = "/health", interval = 5, timeout = 2, healthy_threshold = 2 }} }}
  listener_arn = "{listener}"
  service = {{
    cluster            = "main"
    task_definition    = file("task.json")
    image              = each.value
    container_port     = 8080
    desired_count      = 2
    subnet_ids         = ["{subnet}"]
    security_group_ids = ["{group}"]
  }}
}}
resource "bluegreen_switch" "app" {{
  name         = "myapp"
  active       = "{active}"
  environments = bluegreen_environment.app
  routes       = [{{ listener_arn = "{listener}" }}]
  parameter    = "/myapp/current-live"
  validation   = {{ healthy = {{ interval = "100ms", timeout = "20s" }} }}
}}
"#,
            stage.provider()
        )
    };
    for (active, green, protect) in
        [("blue", "api:v1", true), ("blue", "api:v2", true), ("green", "api:v2", true), ("green", "api:v2", false)]
    {
        terraform.write(&text(active, green, protect))?;
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        ensure!(stage.answers(0, "/").await? == active);
    }
    let rules = stage.client.elb("DescribeRules", &[("ListenerArn", &listener)]).await?;
    ensure!(
        rules.contains("myapp-blue.bluegreen.invalid") && rules.contains("myapp-green.bluegreen.invalid"),
        "{rules}"
    );
    terraform.destroy().await?.ok()?;
    let rules = stage.client.elb("DescribeRules", &[("ListenerArn", &listener)]).await?;
    ensure!(!rules.contains("bluegreen.invalid"), "{rules}");
    ensure!(!stage.client.elb("DescribeTargetGroups", &[]).await?.contains("myapp-"));
    Ok(())
}
