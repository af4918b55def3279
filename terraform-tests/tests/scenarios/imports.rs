//! Import: by the record, by a listener, by a rule.

use anyhow::{Context as _, ensure};
use terraform_tests::client::{Client, element};
use terraform_tests::stage::{Leads, Stage, forward};
use terraform_tests::terraform::{Said, Terraform, engine};

/// An existing stack, as a pipeline left it, comes under the switch without a change at the load balancer.
#[tokio::test(flavor = "multi_thread")]
async fn by_record_and_by_listener() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.set_weights(0, &[("blue", 0), ("green", 100)]).await?;
    let record = serde_json::json!({ "Name": "/myapp/current-live", "Value": "green", "Type": "String" });
    stage.client.ssm("PutParameter", record).await?;
    let listener = stage.listeners[0].clone();
    for id in ["/myapp/current-live".to_owned(), format!("/myapp/current-live,{listener}")] {
        let terraform = Terraform::new()?;
        terraform.write(&stage.switch(Some("green"), ""))?;
        stage.aws.clear_calls();
        terraform.run(&["import", "-no-color", "-input=false", "bluegreen_switch.app", &id]).await?.ok()?;
        let state = terraform.state("bluegreen_switch.app").await?;
        ensure!(state["live"] == "green" && state["name"] == "myapp", "{state}");
        ensure!(state["environments"]["blue"]["target_group_arn"] == stage.group("blue"), "{state}");
        terraform.plan_is_empty().await?;
        ensure!(stage.changes().is_empty(), "{:?}", stage.changes());
    }
    // By the listener alone there is no record yet.
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("green"), ""))?;
    terraform.run(&["import", "-no-color", "bluegreen_switch.app", &listener]).await?.ok()?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    Ok(())
}

/// What can't be found or told apart is said, with what there is.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_an_id_is() -> anyhow::Result<()> {
    let mut stage = Stage::new().await?;
    let rule = stage.rule(0, 10, "/api/*", "blue").await?;
    stage.listener(terraform_tests::stage::Leads::Unavailable).await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    let fixed = stage.listeners[1].clone();
    for (id, expected) in [
        ("/nowhere", "There is no parameter /nowhere."),
        ("arn:aws:s3:::bucket", "neither a listener nor a rule"),
        (fixed.as_str(), "does not forward to target groups"),
    ] {
        let said = terraform.run(&["import", "-no-color", "bluegreen_switch.app", id]).await?;
        ensure!(said.code == 1);
        said.has(&["Failed to import", expected])?;
    }
    terraform.run(&["import", "-no-color", "bluegreen_switch.app", &rule]).await?.ok()?;
    Ok(())
}

/// What an import is to come to.
async fn imported(stage: &Stage, body: &str, id: &str) -> anyhow::Result<Said> {
    let terraform = Terraform::new()?;
    terraform.write(&legacy(stage, body))?;
    let said = terraform.run(&["import", "-no-color", "-input=false", "bluegreen_environment.app", id]).await?;
    if said.code == 0 {
        terraform.plan_is_empty().await?;
    }
    Ok(said)
}

fn legacy(stage: &Stage, body: &str) -> String {
    let head = stage.provider();
    format!(
        "{head}resource \"bluegreen_environment\" \"app\" {{\n  name = \"legacy\"\n  color = \"green\"\n{body}\n}}\n"
    )
}

/// A stage whose listener has both groups, and the group of green, adopted.
async fn with_listener() -> anyhow::Result<(Stage, String, String)> {
    let mut stage = Stage::empty().await?;
    let both = forward(1, &[(stage.group("blue"), 100), (stage.group("green"), 0)]);
    stage.listener(Leads::Actions(both)).await?;
    let group = stage.group("green").to_owned();
    let adopted = format!("  target_group_arn = \"{group}\"");
    Ok((stage, group, adopted))
}

/// A target group that somebody else made, with the servers that are registered in it, adopted or taken over.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_group_of_somebody_elses() -> anyhow::Result<()> {
    let (stage, group, adopted) = with_listener().await?;
    let (vpc, _) = stage.network().await?;
    let check = "health_check = { path = \"/health\", interval = 5, timeout = 2, healthy_threshold = 2, unhealthy_threshold = 2 }";
    let targets = format!("  targets = {}", stage.servers("green"));
    imported(&stage, &adopted, &format!("legacy/green,{group},adopt")).await?.ok()?;
    imported(&stage, &format!("{adopted}\n{targets}"), &format!("legacy/green,{group},adopt,targets")).await?.ok()?;
    let own = format!(
        "  vpc_id = \"{vpc}\"\n  target_group = {{\n    port = 80\n    protocol = \"HTTP\"\n    target_type = \"ip\"\n    {check}\n  }}"
    );
    imported(&stage, &own, &format!("legacy/green,{group}")).await?.ok()?;
    // What isn't there, and what is no id.
    imported(&stage, &adopted, "legacy/green").await?.has(&["There is no target group legacy-green"])?;
    imported(&stage, &adopted, "green").await?.has(&["Failed to import", "An id is NAME/COLOR"])?;
    imported(&stage, &adopted, &format!("legacy/green,{group},asg:none"))
        .await?
        .has(&["there is no Auto Scaling group none"])
}

/// A service that somebody else made, and the revision that it runs.
async fn old_service(stage: &Stage, group: &str) -> anyhow::Result<(String, String)> {
    let (_, [subnet, _]) = stage.network().await?;
    stage.client.ecs("CreateCluster", serde_json::json!({ "clusterName": "main" })).await?;
    let containers = serde_json::json!([{ "name": "api", "image": "api:1", "memory": 128 }]);
    let task = serde_json::json!({ "family": "api", "networkMode": "awsvpc", "containerDefinitions": containers });
    let task = stage.client.ecs("RegisterTaskDefinition", task).await?["taskDefinition"]["taskDefinitionArn"].clone();
    let service = serde_json::json!({
        "cluster": "main", "serviceName": "old-green", "taskDefinition": task, "desiredCount": 1, "launchType": "EC2",
        "loadBalancers": [{ "targetGroupArn": group, "containerName": "api", "containerPort": 8080 }],
        "networkConfiguration": { "awsvpcConfiguration": { "subnets": [subnet] } },
    });
    let service = stage.client.ecs("CreateService", service).await?["service"]["serviceArn"].clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok((text(&service), text(&task)))
}

/// A service that somebody else made.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_somebody_elses() -> anyhow::Result<()> {
    let (stage, group, adopted) = with_listener().await?;
    let (service, task) = old_service(&stage, &group).await?;
    let (_, [subnet, _]) = stage.network().await?;
    let body = format!(
        "{adopted}\n  service = {{\n    cluster = \"main\"\n    task_definition_arn = \"{task}\"\n    launch_type = \"EC2\"\n    subnet_ids = [\"{subnet}\"]\n    container_name = \"api\"\n    container_port = 8080\n    desired_count = 1\n    circuit_breaker = {{ enable = false, rollback = false }}\n    propagate_tags = \"NONE\"\n  }}"
    );
    imported(&stage, &body, &format!("legacy/green,{service},adopt")).await?.ok().map(drop)
}

/// An Auto Scaling group with its launch template. It has no security group of its own yet: that is made, and the instances get
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn instances_of_somebody_elses() -> anyhow::Result<()> {
    let (stage, group, adopted) = with_listener().await?;
    let (vpc, [subnet, _]) = stage.network().await?;
    let client = &stage.client;
    let template = [
        ("LaunchTemplateName", "old"),
        ("LaunchTemplateData.ImageId", "ami-12345678"),
        ("LaunchTemplateData.InstanceType", "t3.small"),
        ("LaunchTemplateData.MetadataOptions.HttpTokens", "required"),
    ];
    let template = element(&client.ec2("CreateLaunchTemplate", &template).await?, "launchTemplateId")?.to_owned();
    let scaling = [
        ("AutoScalingGroupName", "old-green"),
        ("LaunchTemplate.LaunchTemplateId", template.as_str()),
        ("LaunchTemplate.Version", "1"),
        ("MinSize", "1"),
        ("MaxSize", "3"),
        ("DesiredCapacity", "1"),
        ("VPCZoneIdentifier", subnet.as_str()),
        ("HealthCheckType", "ELB"),
        ("HealthCheckGracePeriod", "300"),
        ("TargetGroupARNs.member.1", group.as_str()),
    ];
    client.autoscaling("CreateAutoScalingGroup", &scaling).await?;
    let terraform = Terraform::new()?;
    let body = format!(
        "{adopted}\n  vpc_id = \"{vpc}\"\n  instances = {{\n    image_id = \"ami-12345678\"\n    instance_type = \"t3.small\"\n    subnet_ids = [\"{subnet}\"]\n    min_size = 1\n    max_size = 3\n    desired_capacity = 1\n  }}"
    );
    terraform.write(&legacy(&stage, &body))?;
    let id = format!("legacy/green,{group},adopt,asg:old-green");
    terraform.run(&["import", "-no-color", "bluegreen_environment.app", &id]).await?.ok()?;
    let plan = terraform.plan().await?;
    plan.has(&["+ security_group_id", "0 to destroy"])?;
    ensure!(!plan.folded().contains("instance_type ="), "{}", plan.text);
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await
}

/// A template with settings that no argument has and a tag of its own, and a group of two types with Spot; the template's id.
async fn mixed_group(client: &Client, (subnet, group): (&str, &str)) -> anyhow::Result<String> {
    let template = [
        ("LaunchTemplateName", "old"),
        ("LaunchTemplateData.ImageId", "ami-12345678"),
        ("LaunchTemplateData.InstanceType", "t3.small"),
        ("LaunchTemplateData.MetadataOptions.HttpTokens", "required"),
        ("LaunchTemplateData.CreditSpecification.CpuCredits", "unlimited"),
        ("LaunchTemplateData.TagSpecification.1.ResourceType", "instance"),
        ("LaunchTemplateData.TagSpecification.1.Tag.1.Key", "team"),
        ("LaunchTemplateData.TagSpecification.1.Tag.1.Value", "web"),
    ];
    let template = element(&client.ec2("CreateLaunchTemplate", &template).await?, "launchTemplateId")?.to_owned();
    let mixed = "MixedInstancesPolicy.LaunchTemplate";
    let spread = "MixedInstancesPolicy.InstancesDistribution";
    let scaling = [
        ("AutoScalingGroupName", "old-green"),
        (&format!("{mixed}.LaunchTemplateSpecification.LaunchTemplateId"), template.as_str()),
        (&format!("{mixed}.LaunchTemplateSpecification.Version"), "1"),
        (&format!("{mixed}.Overrides.member.1.InstanceType"), "t3.small"),
        (&format!("{mixed}.Overrides.member.2.InstanceType"), "t3a.small"),
        (&format!("{spread}.OnDemandBaseCapacity"), "1"),
        (&format!("{spread}.SpotAllocationStrategy"), "price-capacity-optimized"),
        ("CapacityRebalance", "true"),
        ("MinSize", "1"),
        ("MaxSize", "3"),
        ("DesiredCapacity", "1"),
        ("VPCZoneIdentifier", subnet),
        ("HealthCheckType", "ELB"),
        ("HealthCheckGracePeriod", "300"),
        ("TargetGroupARNs.member.1", group),
    ];
    client.autoscaling("CreateAutoScalingGroup", &scaling).await?;
    Ok(template)
}

/// Several types, Spot, a template with settings that no argument has and tags of its own: a release changes nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn several_types_of_somebody_elses() -> anyhow::Result<()> {
    let (stage, group, adopted) = with_listener().await?;
    let (vpc, [subnet, _]) = stage.network().await?;
    let client = &stage.client;
    let template = mixed_group(client, (&subnet, &group)).await?;
    let terraform = Terraform::new()?;
    let body = |image: &str| {
        format!(
            r#"{adopted}
  vpc_id = "{vpc}"
  instances = {{
    image_id           = "{image}"
    instance_type      = "t3.small"
    subnet_ids         = ["{subnet}"]
    min_size           = 1
    max_size           = 3
    desired_capacity   = 1
    capacity_rebalance = true
    mixed_instances_policy = {{
      overrides              = [{{ instance_type = "t3.small" }}, {{ instance_type = "t3a.small" }}]
      instances_distribution = {{
        on_demand_base_capacity  = 1
        spot_allocation_strategy = "price-capacity-optimized"
      }}
    }}
  }}"#
        )
    };
    terraform.write(&legacy(&stage, &body("ami-12345678")))?;
    let id = format!("legacy/green,{group},adopt,asg:old-green");
    terraform.run(&["import", "-no-color", "bluegreen_environment.app", &id]).await?.ok()?;
    let plan = terraform.plan().await?;
    plan.has(&["+ security_group_id", "0 to destroy"])?;
    ensure!(!plan.folded().contains("mixed_instances_policy ="), "{}", plan.text);
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    terraform.write(&legacy(&stage, &body("ami-22222222")))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    let named = [("AutoScalingGroupNames.member.1", "old-green")];
    let groups = client.autoscaling("DescribeAutoScalingGroups", &named).await?;
    ensure!(groups.contains("t3a.small") && groups.contains("price-capacity-optimized"), "{groups}");
    let newest = [("LaunchTemplateId", template.as_str()), ("LaunchTemplateVersion.1", "$Latest")];
    let version = client.ec2("DescribeLaunchTemplateVersions", &newest).await?;
    ensure!(version.contains("ami-22222222") && version.contains("unlimited"), "{version}");
    ensure!(version.contains("<key>team</key>") && version.contains("<key>bluegreen:color</key>"), "{version}");
    Ok(())
}

/// A service behind two target groups keeps the one that no switch moves; one that releases by itself is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_two_target_groups() -> anyhow::Result<()> {
    let (stage, group, adopted) = with_listener().await?;
    stage.client.ecs("CreateCluster", serde_json::json!({ "clusterName": "main" })).await?;
    let task = serde_json::json!({
        "family": "api",
        "containerDefinitions": [{ "name": "api", "image": "api:v1", "memory": 128,
            "portMappings": [{ "containerPort": 8080 }, { "containerPort": 8081 }] }],
    });
    let text = task.to_string();
    let task = stage.client.ecs("RegisterTaskDefinition", task).await?["taskDefinition"]["taskDefinitionArn"].clone();
    let other = stage.group("blue");
    let behind = |group: &str, port: u16| serde_json::json!({ "targetGroupArn": group, "containerName": "api", "containerPort": port });
    let service = |name: &str, strategy: &str| {
        serde_json::json!({
            "cluster": "main", "serviceName": name, "taskDefinition": task, "desiredCount": 1, "launchType": "EC2",
            "loadBalancers": [behind(other, 8081), behind(&group, 8080)],
            "deploymentConfiguration": { "strategy": strategy },
        })
    };
    let made = stage.client.ecs("CreateService", service("old-green", "ROLLING")).await?;
    let arn = made["service"]["serviceArn"].as_str().unwrap_or_default().to_owned();
    let body = |image: &str| {
        format!(
            r#"{adopted}
  service = {{
    cluster         = "main"
    task_definition = jsonencode(merge(jsondecode({}), {{ family = "api" }}))
    image           = "{image}"
    container_name  = "api"
    container_port  = 8080
    desired_count   = 1
  }}"#,
            serde_json::json!(text)
        )
    };
    let terraform = Terraform::new()?;
    terraform.write(&legacy(&stage, &body("api:v2")))?;
    let vague = format!("legacy/green,{arn},adopt");
    let vague = terraform.run(&["import", "-no-color", "bluegreen_environment.app", &vague]).await?;
    vague.has(&["The service has several target groups", "Name the one that a switch is to move"])?;
    let id = format!("legacy/green,{arn},{group},adopt");
    terraform.run(&["import", "-no-color", "bluegreen_environment.app", &id]).await?.ok()?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    let named = serde_json::json!({ "cluster": "main", "services": ["old-green"] });
    let services = stage.client.ecs("DescribeServices", named).await?;
    let seen = &services["services"][0]["loadBalancers"];
    ensure!(*seen == serde_json::json!([behind(other, 8081), behind(&group, 8080)]), "{seen}");
    let native = stage.client.ecs("CreateService", service("canary", "CANARY")).await?;
    let native = native["service"]["serviceArn"].as_str().unwrap_or_default().to_owned();
    let id = format!("legacy/green,{native},{group},adopt");
    let terraform = Terraform::new()?;
    terraform.write(&legacy(&stage, &body("api:v2")))?;
    let refused = terraform.run(&["import", "-no-color", "bluegreen_environment.app", &id]).await?;
    ensure!(refused.code == 1);
    refused.has(&["The deployment strategy of the service canary is CANARY"])
}

/// An engine that writes a configuration of all that is in the state, and one that asks the provider for it, as from 1.14 on.
fn both_ways() -> Vec<std::path::PathBuf> {
    ["1.8", "1.15"].into_iter().filter_map(engine).collect()
}

/// The plan of an import for which Terraform writes the configuration, and then the one with that configuration.
async fn generated(head: &str, engine: &std::path::Path, kind: &str, id: &str) -> anyhow::Result<()> {
    let nothing = "Plan: 1 to import, 0 to add, 0 to change, 0 to destroy.";
    let terraform = Terraform::on(engine.to_owned())?;
    terraform.write(&format!("{head}import {{\n  to = {kind}.app\n  id = \"{id}\"\n}}\n"))?;
    let said = terraform.run(&["plan", "-no-color", "-input=false", "-generate-config-out=generated.tf"]).await?;
    let text = std::fs::read_to_string(terraform.folder().join("generated.tf")).unwrap_or_default();
    said.ok().and_then(|said| said.has(&[nothing])).with_context(|| text)?;
    // The file as it is, with nothing done to it by hand.
    terraform.plan().await?.has(&[nothing])?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await
}

/// The configuration that Terraform writes for an import is valid, and has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_generated_for_a_switch() -> anyhow::Result<()> {
    for engine in both_ways() {
        let stage = Stage::new().await?;
        stage.set_weights(0, &[("blue", 0), ("green", 100)]).await?;
        let record = serde_json::json!({ "Name": "/myapp/current-live", "Value": "green", "Type": "String" });
        stage.client.ssm("PutParameter", record).await?;
        let rule = stage.rule(0, 10, "/api/*", "green").await?;
        let both = forward(1, &[(stage.group("blue"), 0), (stage.group("green"), 100)]);
        let both = both.iter().map(|(name, value)| (name.replacen("DefaultActions", "Actions", 1), value.as_str()));
        let both: Vec<(String, &str)> = both.chain([("RuleArn".to_owned(), rule.as_str())]).collect();
        let both: Vec<(&str, &str)> = both.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        stage.client.elb("ModifyRule", &both).await?;
        let listener = &stage.listeners[0];
        for id in [
            "/myapp/current-live".to_owned(),
            format!("/myapp/current-live,{listener}"),
            format!("/myapp/current-live,{rule}"),
            listener.clone(),
        ] {
            generated(&stage.provider(), &engine, "bluegreen_switch", &id).await?;
        }
    }
    Ok(())
}

/// The same for a target group, adopted or taken over, and for what serves behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_generated_for_an_environment() -> anyhow::Result<()> {
    for engine in both_ways() {
        let (stage, group, _) = with_listener().await?;
        let (service, _) = old_service(&stage, &group).await?;
        for id in [
            format!("legacy/green,{group},adopt"),
            format!("legacy/green,{group},adopt,targets"),
            format!("legacy/green,{group},targets"),
            format!("legacy/green,{group}"),
            format!("legacy/green,{service},adopt"),
            format!("legacy/green,{service}"),
        ] {
            generated(&stage.provider(), &engine, "bluegreen_environment", &id).await?;
        }
    }
    Ok(())
}

/// The same for what another state of ours made: instances, a service, targets.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_generated_for_what_was_ours() -> anyhow::Result<()> {
    let (stage, _, _) = with_listener().await?;
    let (vpc, [subnet, _]) = stage.network().await?;
    let listener = &stage.listeners[0];
    stage.client.ecs("CreateCluster", serde_json::json!({ "clusterName": "main" })).await?;
    let task = r#"{"family":"shop","containerDefinitions":[{"name":"shop","image":"shop:1","memory":128,"portMappings":[{"containerPort":80}]}]}"#;
    // Tags that the provider gives are there already.
    let tags = "  default_tags = { tags = { owner = \"web\" } }\n  secret_key";
    let head = stage.provider().replacen("  secret_key", tags, 1);
    let common = format!("  color = \"green\"\n  vpc_id = \"{vpc}\"\n");
    let made = format!(
        r##"{}
resource "bluegreen_environment" "instances" {{
  name = "instances"
{common}
  release      = "7"
  target_group = {{ port = 80, health_check = {{ path = "/health" }}, stickiness = {{ enabled = true, duration = "1h" }} }}
  instances = {{
    image_id = "ami-12345678", instance_type = "t3.small", subnet_ids = ["{subnet}"], min_size = 1, max_size = 2
    user_data = "#!/bin/sh\necho $${{HOME}}\n"
    ingress   = [{{ protocol = "tcp", from_port = 80, to_port = 80, cidr_blocks = ["10.0.0.0/8"] }}]
  }}
  tags = {{ team = "shop" }}
}}
resource "bluegreen_environment" "ignition" {{
  name = "ignition"
{common}
  target_group = {{ port = 80 }}
  instances = {{
    image_id  = "ami-12345678", instance_type = "t3.small", subnet_ids = ["{subnet}"], min_size = 1, max_size = 1
    user_data = "{{\n  \"ignition\": {{ \"version\": \"3.4.0\" }}\n}}\n"
  }}
}}
resource "bluegreen_environment" "service" {{
  name = "service"
{common}
  listener_arn = "{listener}"
  target_group = {{ port = 80 }}
  service      = {{ cluster = "main", task_definition = {task:?}, container_port = 80, desired_count = 1 }}
}}
resource "bluegreen_environment" "targets" {{
  name = "targets"
{common}
  target_group = {{ port = 80, target_type = "ip" }}
  targets      = [{{ id = "127.0.0.9", port = 80 }}]
}}
"##,
        head
    );
    let terraform = Terraform::new()?;
    terraform.write(&made)?;
    terraform.apply().await?.ok()?;
    let service = terraform.state("bluegreen_environment.service").await?["service_arn"].clone();
    let service = format!("service/green,{}", service.as_str().unwrap_or_default());
    for engine in both_ways() {
        for id in ["instances/green", "ignition/green", &service, "targets/green,targets"] {
            generated(&head, &engine, "bluegreen_environment", id).await?;
        }
    }
    Ok(())
}
