//! Target groups: their settings as AWS has them, and as a stack says them.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::types::{
    Matcher, ProtocolEnum, Tag, TargetDescription, TargetGroup as AwsGroup, TargetGroupAttribute,
    TargetGroupIpAddressTypeEnum, TargetTypeEnum,
};

use super::batch::Gather;
use super::connection::Connection;
use super::elbv2::describe::{self, SERVICE};
use super::error::{call_error, or_if_gone};
use super::group_attributes;
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::ports::{self, SeenGroup, Tags};
use crate::stack::{HealthCheck, Target, TargetGroup};

/// Sets a group's health check on a call; making a group and changing it have the same parameters and different types.
macro_rules! with_health_check {
    ($call:expr, $group:expr) => {{
        let check = $group.health_check.clone().unwrap_or_default();
        $call
            .set_health_check_enabled(check.enabled)
            .set_health_check_protocol(check.protocol.as_deref().map(ProtocolEnum::from))
            .set_health_check_port(check.port.clone())
            .set_health_check_path(check.path.clone())
            .set_health_check_interval_seconds(check.interval)
            .set_health_check_timeout_seconds(check.timeout)
            .set_healthy_threshold_count(check.healthy_threshold)
            .set_unhealthy_threshold_count(check.unhealthy_threshold)
            .set_matcher(matcher($group, &check))
    }};
}

/// The target groups of one account and region.
pub struct TargetGroups {
    connection: Arc<Connection>,
    groups: Gather<String, SeenGroup>,
    tags: Gather<String, Tags>,
}

impl TargetGroups {
    /// Nothing is called before it is needed.
    pub fn new(connection: Arc<Connection>) -> TargetGroups {
        TargetGroups { connection, groups: Gather::new(describe::BATCH), tags: Gather::new(describe::BATCH) }
    }
}

#[async_trait]
impl ports::TargetGroups for TargetGroups {
    async fn find(&self, arn: &str) -> Result<Option<SeenGroup>, PortError> {
        let connection = self.connection.clone();
        self.groups.get(arn.to_owned(), async move |arns| by_arn(&connection, arns).await).await
    }

    async fn named(&self, name: &str) -> Result<Option<SeenGroup>, PortError> {
        let answer = self.connection.elbv2().await?.describe_target_groups().names(name).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeTargetGroups", &error));
        let groups = or_if_gone(answer.map(|answer| answer.target_groups().to_vec()), Vec::new())?;
        Ok(groups.first().and_then(seen))
    }

    async fn attributes(&self, seen: &mut SeenGroup) -> Result<(), PortError> {
        let attributes = describe::attributes(&self.connection, &seen.arn).await?;
        group_attributes::read(&attributes, &mut seen.group);
        Ok(())
    }

    async fn tags(&self, arn: &str) -> Result<Tags, PortError> {
        let connection = self.connection.clone();
        let tags = self.tags.get(arn.to_owned(), async move |arns| describe::tags(&connection, &arns).await).await?;
        Ok(tags.unwrap_or_default())
    }

    async fn create(
        &self,
        name: &str,
        group: &TargetGroup,
        vpc_id: Option<&str>,
        tags: &Tags,
    ) -> Result<String, PortError> {
        let call = self.connection.elbv2().await?.create_target_group().name(name);
        let call = call.set_tags(Some(to_tags(tags)).filter(|tags| !tags.is_empty()));
        let call = call.set_target_type(group.target_type.as_deref().map(TargetTypeEnum::from));
        let lambda = group.is_lambda();
        let call = call.set_vpc_id(vpc_id.filter(|_| !lambda).map(str::to_owned)).set_port(group.port);
        let call = call.set_protocol(group.protocol.as_deref().map(ProtocolEnum::from));
        let call = call.set_protocol_version(group.protocol_version.clone());
        let kind = group.ip_address_type.as_deref().filter(|kind| *kind != "ipv4");
        let call = call.set_ip_address_type(kind.map(TargetGroupIpAddressTypeEnum::from));
        let call = with_health_check!(call, group);
        let answer = call.send().await.map_err(|error| call_error(SERVICE, "CreateTargetGroup", &error))?;
        let arn = answer.target_groups().first().and_then(|group| group.target_group_arn());
        arn.map(str::to_owned)
            .ok_or_else(|| PortError::new(FailureKind::Other, format!("{SERVICE} CreateTargetGroup named no ARN")))
    }

    async fn set_health_check(&self, arn: &str, group: &TargetGroup) -> Result<(), PortError> {
        let call = self.connection.elbv2().await?.modify_target_group().target_group_arn(arn);
        let call = with_health_check!(call, group);
        call.send().await.map(drop).map_err(|error| call_error(SERVICE, "ModifyTargetGroup", &error))
    }

    async fn set_attributes(&self, arn: &str, group: &TargetGroup, before: &TargetGroup) -> Result<(), PortError> {
        for step in group_attributes::steps(before, group) {
            let attribute = |(key, value)| TargetGroupAttribute::builder().key(key).value(value).build();
            let call = self.connection.elbv2().await?.modify_target_group_attributes().target_group_arn(arn);
            let result = call.set_attributes(Some(step.into_iter().map(attribute).collect())).send().await;
            result.map_err(|error| call_error(SERVICE, "ModifyTargetGroupAttributes", &error))?;
        }
        Ok(())
    }

    async fn set_tags(&self, arn: &str, set: &Tags, gone: &[String]) -> Result<(), PortError> {
        let client = self.connection.elbv2().await?;
        if !gone.is_empty() {
            let result = client.remove_tags().resource_arns(arn).set_tag_keys(Some(gone.to_vec())).send().await;
            result.map_err(|error| call_error(SERVICE, "RemoveTags", &error))?;
        }
        if !set.is_empty() {
            let result = client.add_tags().resource_arns(arn).set_tags(Some(to_tags(set))).send().await;
            result.map_err(|error| call_error(SERVICE, "AddTags", &error))?;
        }
        Ok(())
    }

    async fn register(&self, arn: &str, targets: &[Target]) -> Result<(), PortError> {
        let call = self.connection.elbv2().await?.register_targets().target_group_arn(arn);
        let result = call.set_targets(Some(targets.iter().map(described).collect())).send().await;
        result.map(drop).map_err(|error| call_error(SERVICE, "RegisterTargets", &error))
    }

    async fn deregister(&self, arn: &str, targets: &[Target]) -> Result<(), PortError> {
        let call = self.connection.elbv2().await?.deregister_targets().target_group_arn(arn);
        let result = call.set_targets(Some(targets.iter().map(described).collect())).send().await;
        let result = result.map(drop).map_err(|error| call_error(SERVICE, "DeregisterTargets", &error));
        or_if_gone(result, ())
    }

    async fn targets(&self, arn: &str) -> Result<Vec<Target>, PortError> {
        let seen = or_if_gone(describe::health(&self.connection, arn).await, Vec::new())?;
        let stays = seen.iter().filter(|target| {
            target.target_health().and_then(|health| health.state()).is_none_or(|state| state.as_str() != "draining")
        });
        let target = stays.filter_map(|description| description.target()).filter_map(|target| {
            let zone = target.availability_zone().map(str::to_owned);
            Some(Target { id: target.id()?.to_owned(), port: target.port(), availability_zone: zone })
        });
        Ok(target.collect())
    }

    async fn delete(&self, arn: &str) -> Result<(), PortError> {
        let result = self.connection.elbv2().await?.delete_target_group().target_group_arn(arn).send().await;
        or_if_gone(result.map(drop).map_err(|error| call_error(SERVICE, "DeleteTargetGroup", &error)), ())
    }
}

fn to_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn described(target: &Target) -> TargetDescription {
    let builder = TargetDescription::builder().id(&target.id).set_port(target.port);
    builder.set_availability_zone(target.availability_zone.clone()).build()
}

fn matcher(group: &TargetGroup, check: &HealthCheck) -> Option<Matcher> {
    let codes = check.matcher.as_deref()?;
    let grpc = group.protocol_version.as_deref() == Some("GRPC");
    let builder = Matcher::builder();
    Some(if grpc { builder.grpc_code(codes) } else { builder.http_code(codes) }.build())
}

async fn by_arn(connection: &Connection, arns: Vec<String>) -> Result<HashMap<String, SeenGroup>, PortError> {
    let groups = describe::target_groups(connection, arns).await?;
    Ok(groups.iter().filter_map(seen).map(|group| (group.arn.clone(), group)).collect())
}

fn seen(group: &AwsGroup) -> Option<SeenGroup> {
    let lambda = group.target_type() == Some(&TargetTypeEnum::Lambda);
    let protocol = group.protocol().map(|protocol| protocol.as_str().to_owned()).filter(|_| !lambda);
    let check_protocol = group.health_check_protocol().map(|protocol| protocol.as_str().to_owned());
    let codes = group.matcher().and_then(|matcher| matcher.http_code().or(matcher.grpc_code())).map(str::to_owned);
    let by_http = lambda || matches!(check_protocol.as_deref(), Some("HTTP" | "HTTPS"));
    let http = matches!(protocol.as_deref(), Some("HTTP" | "HTTPS"));
    let ip_address_type = group.ip_address_type().map_or("ipv4", |kind| kind.as_str()).to_owned();
    let spec = TargetGroup {
        port: group.port().filter(|_| !lambda),
        protocol,
        protocol_version: group.protocol_version().filter(|_| http).map(str::to_owned),
        target_type: group.target_type().map(|kind| kind.as_str().to_owned()),
        ip_address_type: (!lambda).then_some(ip_address_type),
        health_check: Some(HealthCheck {
            enabled: group.health_check_enabled(),
            protocol: check_protocol.filter(|_| !lambda),
            port: group.health_check_port().filter(|_| !lambda).map(str::to_owned),
            path: group.health_check_path().filter(|_| by_http).map(str::to_owned),
            matcher: codes.filter(|_| by_http),
            interval: group.health_check_interval_seconds(),
            timeout: group.health_check_timeout_seconds(),
            healthy_threshold: group.healthy_threshold_count(),
            unhealthy_threshold: group.unhealthy_threshold_count(),
        }),
        ..TargetGroup::default()
    };
    Some(SeenGroup {
        arn: group.target_group_arn()?.to_owned(),
        name: group.target_group_name()?.to_owned(),
        vpc_id: group.vpc_id().map(str::to_owned),
        load_balancers: group.load_balancer_arns().to_vec(),
        group: spec,
    })
}
