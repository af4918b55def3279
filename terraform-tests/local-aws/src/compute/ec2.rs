//! EC2 as AWS has it, where moto is too lenient or forgets: security groups in use, launch templates.

use std::sync::Arc;

use hyper::Response;
use hyper::body::Bytes;

use crate::compute::instances::Compute;
use crate::core::aws_call::AwsCall;
use crate::core::moto::Scope;
use crate::core::xml;

/// The refusal of a call that moto would accept; `None`: moto has to answer.
pub(crate) async fn answer(compute: &Arc<Compute>, call: &AwsCall) -> Option<Response<Bytes>> {
    let scope = call.scope.as_ref()?;
    match call.operation.as_str() {
        "DeleteSecurityGroup" => {
            let group = call.parameter("GroupId")?;
            let why = format!("resource {group} has a dependent object");
            is_in_use(compute, scope, group).await.then(|| call.refuse("DependencyViolation", &why))
        }
        "DescribeLaunchTemplates" => {
            let (asked, filter, code) =
                match (call.parameter("LaunchTemplateId.1"), call.parameter("LaunchTemplateName.1")) {
                    (Some(id), _) => (id, "LaunchTemplateId.1", "InvalidLaunchTemplateId.NotFound"),
                    (None, Some(name)) => (name, "LaunchTemplateName.1", "InvalidLaunchTemplateName.NotFoundException"),
                    (None, None) => return None,
                };
            let found = compute.ec2(scope, "DescribeLaunchTemplates", &[(filter, asked)]).await.ok()?;
            let why = format!("The specified launch template, with template ID or name {asked}, does not exist.");
            (!found.contains("<launchTemplateId>")).then(|| call.refuse(code, &why))
        }
        _ => None,
    }
}

/// Whether instances that run, or rules of other groups, use a security group.
async fn is_in_use(compute: &Compute, scope: &Scope, group: &str) -> bool {
    let filter = |name| [("Filter.1.Name", name), ("Filter.1.Value.1", group)];
    let running = [("Filter.2.Name", "instance-state-name"), ("Filter.2.Value.1", "running")];
    let instances = [filter("instance.group-id"), running].concat();
    let found = compute.ec2(scope, "DescribeInstances", &instances).await.unwrap_or_default();
    if found.contains("<instanceId>") {
        return true;
    }
    for name in ["ip-permission.group-id", "egress.ip-permission.group-id"] {
        let found = compute.ec2(scope, "DescribeSecurityGroups", &filter(name)).await.unwrap_or_default();
        // Each group is shown with one ARN; the rest are references.
        let mut arns = found.split("<securityGroupArn>").skip(1).filter_map(|rest| rest.split('<').next());
        if arns.any(|arn| !arn.ends_with(group)) {
            return true;
        }
    }
    false
}

/// moto's answer to `DescribeLaunchTemplates` with the tags of now: moto shows those of the creation.
pub(crate) async fn rewrite_templates(compute: &Compute, scope: &Scope, xml: &str) -> String {
    const START: &str = "<item><launchTemplateId>";
    let mut parts = xml.split(START);
    let mut rewritten = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rewritten.push_str(START);
        let id = part.split('<').next().unwrap_or_default();
        let filter = [("Filter.1.Name", "resource-id"), ("Filter.1.Value.1", id)];
        let tags = compute.ec2(scope, "DescribeTags", &filter).await.unwrap_or_default();
        let tags: String = tags
            .split("<item>")
            .skip(1)
            .filter_map(|tag| Some((xml::text_of(tag, "key")?, xml::text_of(tag, "value").unwrap_or_default())))
            .map(|(key, value)| format!("<item><key>{key}</key><value>{value}</value></item>"))
            .collect();
        rewritten.push_str(&xml::with_content(part, "tagSet", &tags));
    }
    rewritten
}

#[cfg(test)]
mod tests {
    use crate::testing::{Local, first};

    #[tokio::test]
    async fn security_groups_in_use_stay_and_templates_show_their_tags() {
        let local = Local::start().await;
        let vpc = first(&local.query("ec2", "DescribeVpcs", &[]).await, "vpcId");
        let mut groups = Vec::new();
        for name in ["one", "two"] {
            let parameters = [("GroupName", name), ("GroupDescription", "d"), ("VpcId", &*vpc)];
            groups.push(first(&local.query("ec2", "CreateSecurityGroup", &parameters).await, "groupId"));
        }
        let rule = [
            ("GroupId", groups[0].as_str()),
            ("IpPermissions.1.IpProtocol", "-1"),
            ("IpPermissions.1.Groups.1.GroupId", groups[1].as_str()),
        ];
        local.query("ec2", "AuthorizeSecurityGroupIngress", &rule).await;
        let (_, refused) = local.try_query("ec2", "DeleteSecurityGroup", &[("GroupId", &groups[1])]).await;
        assert_eq!(first(&refused, "Code"), "DependencyViolation");
        local.query("ec2", "DeleteSecurityGroup", &[("GroupId", &groups[0])]).await;
        local.query("ec2", "DeleteSecurityGroup", &[("GroupId", &groups[1])]).await;

        let parameters = [("LaunchTemplateName", "template"), ("LaunchTemplateData.ImageId", "ami-1")];
        let id = first(&local.query("ec2", "CreateLaunchTemplate", &parameters).await, "launchTemplateId");
        let parameters = [("ResourceId.1", id.as_str()), ("Tag.1.Key", "color"), ("Tag.1.Value", "blue")];
        local.query("ec2", "CreateTags", &parameters).await;
        let shown = local.query("ec2", "DescribeLaunchTemplates", &[("LaunchTemplateId.1", &id)]).await;
        assert!(shown.contains("<item><key>color</key><value>blue</value></item>"), "{shown}");
        let (_, refused) = local.try_query("ec2", "DescribeLaunchTemplates", &[("LaunchTemplateId.1", "lt-0")]).await;
        assert_eq!(first(&refused, "Code"), "InvalidLaunchTemplateId.NotFound");
        local.aws.stop().await;
    }
}
