//! Import: by the record, by a listener, by a rule.

use anyhow::ensure;
use terraform_tests::client::element;
use terraform_tests::stage::{Leads, Stage, forward};
use terraform_tests::terraform::{Said, Terraform};

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
    let servers: Vec<String> = stage.apps["green"]
        .addresses()
        .iter()
        .map(|address| format!("{{ id = \"{}\", port = {} }}", address.ip(), address.port()))
        .collect();
    let targets = format!("  targets = [{}]", servers.join(", "));
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

/// A service that somebody else made.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_somebody_elses() -> anyhow::Result<()> {
    let (stage, group, adopted) = with_listener().await?;
    stage.client.ecs("CreateCluster", serde_json::json!({ "clusterName": "main" })).await?;
    let task = serde_json::json!({ "family": "api", "containerDefinitions": [{ "name": "api", "image": "api:1", "memory": 128 }] });
    let task = stage.client.ecs("RegisterTaskDefinition", task).await?["taskDefinition"]["taskDefinitionArn"].clone();
    let service = serde_json::json!({
        "cluster": "main", "serviceName": "old-green", "taskDefinition": task, "desiredCount": 1, "launchType": "EC2",
        "loadBalancers": [{ "targetGroupArn": group, "containerName": "api", "containerPort": 8080 }],
    });
    let service = stage.client.ecs("CreateService", service).await?["service"]["serviceArn"].clone();
    let (service, task) = (service.as_str().unwrap_or_default(), task.as_str().unwrap_or_default());
    let body = format!(
        "{adopted}\n  service = {{\n    cluster = \"main\"\n    task_definition_arn = \"{task}\"\n    container_name = \"api\"\n    container_port = 8080\n    desired_count = 1\n    circuit_breaker = {{ enable = false, rollback = false }}\n  }}"
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
