//! What AWS refuses and moto lets pass.

use hyper::Response;
use hyper::body::Bytes;

use crate::core::aws_call::AwsCall;
use crate::core::moto::{MotoClient, Scope};

/// AWS's refusal of a call; `None`: it goes on.
pub(super) async fn refuse(moto: &MotoClient, call: &AwsCall) -> Option<Response<Bytes>> {
    let scope = call.scope.as_ref()?;
    match (call.service.as_str(), call.operation.as_str()) {
        ("elasticloadbalancing", "CreateListener" | "ModifyListener") => {
            group_stickiness(moto, scope, call, "DefaultActions").await
        }
        ("elasticloadbalancing", "CreateRule" | "ModifyRule") => group_stickiness(moto, scope, call, "Actions").await,
        _ => None,
    }
}

/// "You must enable group stickiness on a rule if you enabled target stickiness on one of its target groups": from the guide
/// of Application Load Balancers, "Sticky sessions".
async fn group_stickiness(moto: &MotoClient, scope: &Scope, call: &AwsCall, list: &str) -> Option<Response<Bytes>> {
    for action in 1..=5 {
        let forward = format!("{list}.member.{action}.ForwardConfig");
        let group = |n: usize| call.parameter(&format!("{forward}.TargetGroups.member.{n}.TargetGroupArn"));
        let groups: Vec<&str> = (1..=5).map_while(group).collect();
        let enabled = call.parameter(&format!("{forward}.TargetGroupStickinessConfig.Enabled"));
        if groups.len() < 2 || enabled == Some("true") {
            continue;
        }
        for group in groups {
            let asked = [("TargetGroupArn", group)];
            let answer = moto.call(scope, "DescribeTargetGroupAttributes", &asked).await.ok()?;
            if is_sticky(&String::from_utf8_lossy(answer.body())) {
                let words = "You must enable group stickiness on a rule if you enabled target stickiness on one of its target groups";
                return Some(call.refuse("InvalidConfigurationRequest", words));
            }
        }
    }
    None
}

fn is_sticky(attributes: &str) -> bool {
    let after = attributes.split("<Key>stickiness.enabled</Key>").nth(1).unwrap_or_default();
    after.trim_start().starts_with("<Value>true</Value>")
}

#[cfg(test)]
mod tests {
    use crate::testing::{Local, first};

    #[tokio::test]
    async fn several_groups_need_group_stickiness_where_one_keeps_clients_at_a_target() {
        let local = Local::start().await;
        let vpc = first(&local.query("ec2", "DescribeVpcs", &[]).await, "vpcId");
        let mut groups = Vec::new();
        for name in ["blue", "green"] {
            let made = [("Name", name), ("Protocol", "HTTP"), ("Port", "80"), ("VpcId", &*vpc)];
            groups.push(first(&local.elb("CreateTargetGroup", &made).await, "TargetGroupArn"));
        }
        let subnets = local.query("ec2", "DescribeSubnets", &[]).await;
        let subnets: Vec<&str> =
            subnets.split("<subnetId>").skip(1).filter_map(|part| part.split('<').next()).collect();
        let made = [("Name", "web"), ("Subnets.member.1", subnets[0]), ("Subnets.member.2", subnets[1])];
        let balancer = first(&local.elb("CreateLoadBalancer", &made).await, "LoadBalancerArn");
        let listener = async |sticky: &[(&str, &str)]| {
            let mut asked = vec![
                ("LoadBalancerArn", balancer.as_str()),
                ("Protocol", "HTTP"),
                ("Port", "80"),
                ("DefaultActions.member.1.Type", "forward"),
                ("DefaultActions.member.1.ForwardConfig.TargetGroups.member.1.TargetGroupArn", &*groups[0]),
                ("DefaultActions.member.1.ForwardConfig.TargetGroups.member.1.Weight", "1"),
                ("DefaultActions.member.1.ForwardConfig.TargetGroups.member.2.TargetGroupArn", &*groups[1]),
                ("DefaultActions.member.1.ForwardConfig.TargetGroups.member.2.Weight", "0"),
            ];
            asked.extend(sticky);
            local.try_query("elasticloadbalancing", "CreateListener", &asked).await
        };
        let attributes = [
            ("TargetGroupArn", &*groups[1]),
            ("Attributes.member.1.Key", "stickiness.enabled"),
            ("Attributes.member.1.Value", "true"),
        ];
        local.elb("ModifyTargetGroupAttributes", &attributes).await;
        let (_, refused) = listener(&[]).await;
        assert_eq!(first(&refused, "Code"), "InvalidConfigurationRequest");
        let config = "DefaultActions.member.1.ForwardConfig.TargetGroupStickinessConfig";
        let (enabled, seconds) = (format!("{config}.Enabled"), format!("{config}.DurationSeconds"));
        let (_, made) = listener(&[(&enabled, "true"), (&seconds, "1")]).await;
        assert!(made.contains("ListenerArn"), "{made}");
        local.aws.stop().await;
    }
}
