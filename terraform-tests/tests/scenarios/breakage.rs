//! Environments and what goes wrong half-way or behind their backs: the state tells what is there, the next apply goes on.

use anyhow::ensure;
use serde_json::json;
use terraform_tests::client::element;

use super::environments::Stack;

fn refuse(operation: &str, code: &str, times: Option<u64>) -> anyhow::Result<local_aws::FaultSpec> {
    let error = json!({ "status": 400, "code": code, "message": "not today" });
    Ok(serde_json::from_value(json!({ "operation": operation, "times": times, "action": { "error": error } }))?)
}

/// The Auto Scaling group can't be made after the security group was.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_stops_half_way() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.switch = false;
    for operation in ["CreateAutoScalingGroup", "CreateLaunchTemplate", "AuthorizeSecurityGroupIngress"] {
        stack.stage.aws.add_fault(refuse(operation, "AccessDenied", None)?);
        stack.write()?;
        let said = stack.terraform.apply().await?;
        ensure!(said.code == 1);
        said.has(&[
            "Failed to create myapp/blue",
            "AccessDenied: not today",
            "There now, and in the state: target group",
        ])?;
        let state = stack.state("blue").await?;
        ensure!(state["security_group_id"].is_string() && state["autoscaling_group_name"].is_null(), "{state}");
        stack.stage.aws.clear_faults();
        // As a kill -9 of everything would leave it: nothing in the state, all in AWS.
        if operation == "CreateLaunchTemplate" {
            std::fs::remove_file(stack.terraform.folder().join("terraform.tfstate"))?;
        }
        stack.apply().await?;
        stack.terraform.destroy().await?.ok()?;
        let left = stack.left().await?;
        ensure!(left.is_empty(), "{operation}: {left:?}");
    }
    Ok(())
}

/// The provider is killed at each changing call of a create, before and after its effect: the next apply goes on.
async fn create_ring(when: &str) -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.switch = false;
    let mut points = 0;
    for call in 0.. {
        let fault = json!({ "mutating": true, "skip": call, "action": { "kill": when } });
        stack.stage.aws.add_fault(serde_json::from_value(fault)?);
        stack.write()?;
        let said = stack.terraform.apply().await?;
        let hit = stack.stage.aws.faults().iter().any(|fault| fault.fired > 0);
        stack.stage.aws.clear_faults();
        ensure!(said.code == i32::from(hit), "{}", said.text);
        stack.apply().await?;
        stack.terraform.destroy().await?.ok()?;
        let left = stack.left().await?;
        ensure!(left.is_empty(), "killed {when} call {call}: {left:?}");
        if !hit {
            break;
        }
        points += 1;
    }
    ensure!(points >= 8, "only {points} points");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_killed_anywhere_before_an_effect() -> anyhow::Result<()> {
    create_ring("before").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_killed_anywhere_after_an_effect() -> anyhow::Result<()> {
    create_ring("after").await
}

/// Credentials expire in the middle of an update and of a destroy.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.switch = false;
    stack.apply().await?;
    stack.image = "ami-22222222".to_owned();
    stack.write()?;
    let expired = json!({ "skip": 2, "times": null, "service": "autoscaling", "action": { "error": { "status": 403, "code": "ExpiredToken", "message": "The security token included in the request is expired" } } });
    stack.stage.aws.add_fault(serde_json::from_value(expired.clone())?);
    let said = stack.terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&["ExpiredToken", "check the credentials"])?;
    stack.stage.aws.clear_faults();
    stack.apply().await?;
    stack.stage.aws.add_fault(serde_json::from_value(expired)?);
    ensure!(stack.terraform.destroy().await?.code == 1);
    stack.stage.aws.clear_faults();
    stack.terraform.destroy().await?.ok()?;
    ensure!(stack.left().await?.is_empty());
    Ok(())
}

/// Images that don't start or don't get healthy, and a refresh that somebody cancels: told with AWS's reason, gone on with.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_fails() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.apply().await?;
    stack.colors[1].2 = "image_id = \"ami-0000dead\"".to_owned();
    stack.write()?;
    let said = stack.terraform.apply().await?;
    ensure!(said.code == 1);
    said.has(&["Failed to update myapp/green", "ended Failed", "does not exist", "no user reaches green"])?;
    ensure!(stack.stage.answers(0, "/").await? == "blue");
    ensure!(stack.terraform.plan().await?.code == 2, "the next plan must go on");
    stack.colors[1].2 = "image_id = \"ami-33333333\"".to_owned();
    stack.apply().await?;
    stack.colors[1].2 = "image_id = \"ami-4444slow\"".to_owned();
    stack.write()?;
    let child = stack.terraform.start(&["apply", "-auto-approve", "-input=false", "-no-color"])?;
    let group = [("AutoScalingGroupName", "myapp-green")];
    for _ in 0..400 {
        if stack.stage.client.autoscaling("CancelInstanceRefresh", &group).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let said = terraform_tests::terraform::said(child).await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["the instance refresh", "ended Cancelled"])?;
    let plan = stack.terraform.plan().await?;
    ensure!(plan.code == 2, "instances of the version before are still there: {}", plan.text);
    stack.apply().await
}

/// Each thing deleted behind our back, one at a time: the plan makes just that again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_comes_again() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.apply().await?;
    let client = &stack.stage.client;
    let group = [("AutoScalingGroupName", "myapp-green"), ("ForceDelete", "true")];
    client.autoscaling("DeleteAutoScalingGroup", &group).await?;
    mended(&stack, "autoscaling_group_name", &["CreateLaunchTemplateVersion", "CreateAutoScalingGroup"]).await?;

    let template = stack.state("green").await?["launch_template_id"].as_str().unwrap_or_default().to_owned();
    client.ec2("DeleteLaunchTemplate", &[("LaunchTemplateId", &template)]).await?;
    mended(&stack, "launch_template_id", &["CreateLaunchTemplate", "StartInstanceRefresh"]).await?;

    let arn = stack.state("green").await?["target_group_arn"].as_str().unwrap_or_default().to_owned();
    client.autoscaling("DetachLoadBalancerTargetGroups", &[group[0], ("TargetGroupARNs.member.1", &arn)]).await?;
    mended(&stack, "target_group_name", &["AttachLoadBalancerTargetGroups"]).await?;

    // A target group can only be deleted where no route has it.
    stack.switch = false;
    stack.write()?;
    stack.terraform.apply().await?.ok()?;
    let client = &stack.stage.client;
    let listener = stack.stage.listeners[0].clone();
    let answer = [
        ("ListenerArn", listener.as_str()),
        ("DefaultActions.member.1.Type", "fixed-response"),
        ("DefaultActions.member.1.FixedResponseConfig.StatusCode", "503"),
    ];
    client.elb("ModifyListener", &answer).await?;
    client.elb("DeleteTargetGroup", &[("TargetGroupArn", &arn)]).await?;
    mended(&stack, "target_group_arn", &["CreateTargetGroup", "AttachLoadBalancerTargetGroups"]).await?;
    Ok(())
}

/// The same of what only an empty color can lose, and of a target and a rule.
#[tokio::test(flavor = "multi_thread")]
async fn what_else_is_gone_comes_again() -> anyhow::Result<()> {
    let mut stack = Stack::new().await?;
    stack.switch = false;
    stack.colors[1].2 = "min_size = 0, desired_capacity = 0".to_owned();
    stack.apply().await?;
    let client = &stack.stage.client;
    let group = stack.state("green").await?["security_group_id"].as_str().unwrap_or_default().to_owned();
    client.ec2("DeleteSecurityGroup", &[("GroupId", &group)]).await?;
    mended(&stack, "security_group_id", &["CreateSecurityGroup", "CreateLaunchTemplateVersion"]).await?;

    let terraform = terraform_tests::terraform::Terraform::new()?;
    let vpc = stack.stage.network().await?.0;
    terraform.write(&format!(
        "{}resource \"bluegreen_environment\" \"fixed\" {{\n  name = \"fixed\"\n  color = \"blue\"\n  vpc_id = \"{vpc}\"\n  target_group = {{ port = 80 }}\n  targets = [{{ id = \"127.0.0.2\" }}, {{ id = \"127.0.0.3\" }}]\n}}\n",
        stack.stage.provider()
    ))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    let state = terraform.state("bluegreen_environment.fixed").await?;
    let arn = state["target_group_arn"].as_str().unwrap_or_default();
    let target = [("TargetGroupArn", arn), ("Targets.member.1.Id", "127.0.0.2")];
    client.elb("DeregisterTargets", &target).await?;
    terraform.plan().await?.has(&["127.0.0.2", "0 to destroy"])?;
    stack.stage.aws.clear_calls();
    terraform.apply().await?.ok()?;
    ensure!(stack.stage.changes() == ["RegisterTargets"], "{:?}", stack.stage.changes());
    terraform.plan_is_empty().await
}

async fn mended(stack: &Stack, attribute: &str, calls: &[&str]) -> anyhow::Result<()> {
    let plan = stack.terraform.plan().await?;
    ensure!(plan.code == 2, "{attribute}: {}", plan.text);
    ensure!(plan.folded().contains("0 to destroy") && plan.folded().contains(attribute), "{}", plan.text);
    stack.stage.aws.clear_calls();
    stack.terraform.apply().await?.ok()?;
    let changes = stack.stage.changes();
    for call in calls {
        ensure!(changes.iter().any(|change| change == call), "{attribute}: {changes:?}");
    }
    let other: Vec<&String> = changes
        .iter()
        .filter(|change| {
            change.starts_with("Create") && !calls.contains(&change.as_str()) && *change != "CreateOrUpdateTags"
        })
        .collect();
    ensure!(other.is_empty(), "{attribute}: {changes:?}");
    stack.terraform.plan_is_empty().await
}

/// What somebody changed by hand shows in the plan and is put right.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_is_put_right() -> anyhow::Result<()> {
    let stack = Stack::new().await?;
    stack.apply().await?;
    let client = &stack.stage.client;
    let state = stack.state("green").await?;
    let (arn, group) = (
        state["target_group_arn"].as_str().unwrap_or_default(),
        state["security_group_id"].as_str().unwrap_or_default(),
    );
    let check = [("TargetGroupArn", arn), ("HealthCheckPath", "/other"), ("HealthCheckIntervalSeconds", "20")];
    client.elb("ModifyTargetGroup", &check).await?;
    let delay = [
        ("TargetGroupArn", arn),
        ("Attributes.member.1.Key", "deregistration_delay.timeout_seconds"),
        ("Attributes.member.1.Value", "5"),
    ];
    client.elb("ModifyTargetGroupAttributes", &delay).await?;
    let rule = [
        ("GroupId", group),
        ("IpPermissions.1.IpProtocol", "tcp"),
        ("IpPermissions.1.FromPort", "22"),
        ("IpPermissions.1.ToPort", "22"),
        ("IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"),
    ];
    client.ec2("AuthorizeSecurityGroupIngress", &rule).await?;
    let size = [("AutoScalingGroupName", "myapp-green"), ("MinSize", "1"), ("MaxSize", "3")];
    client.autoscaling("UpdateAutoScalingGroup", &size).await?;
    client.elb("RemoveTags", &[("ResourceArns.member.1", arn), ("TagKeys.member.1", "bluegreen:release")]).await?;
    let plan = stack.terraform.plan().await?;
    ensure!(plan.code == 2);
    plan.has(&[
        "path = \"/other\" -> \"/health\"",
        "interval = 20 -> 5",
        "deregistration_delay = 5 -> null",
        "from_port = 22",
        "min_size = 1 -> 2",
        "max_size = 3 -> 4",
    ])?;
    stack.terraform.apply().await?.ok()?;
    stack.terraform.plan_is_empty().await?;
    let rules = client.ec2("DescribeSecurityGroups", &[("GroupId.1", group)]).await?;
    ensure!(!rules.contains("<fromPort>22</fromPort>"));
    ensure!(
        element(&client.elb("DescribeTargetGroups", &[("TargetGroupArns.member.1", arn)]).await?, "HealthCheckPath")?
            == "/health"
    );
    // How many there are belongs to scaling.
    client
        .autoscaling("SetDesiredCapacity", &[("AutoScalingGroupName", "myapp-green"), ("DesiredCapacity", "3")])
        .await?;
    stack.terraform.plan_is_empty().await
}
