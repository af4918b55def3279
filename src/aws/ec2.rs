//! EC2: security groups and launch templates.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ec2::types::builders::IpPermissionBuilder;
use aws_sdk_ec2::types::{
    Filter, IpPermission, IpRange, Ipv6Range, PrefixListId, ResourceType, SecurityGroup, Tag, TagSpecification,
    UserIdGroupPair,
};

use super::batch::Gather;
use super::connection::Connection;
use super::error::{call_error, or_if_gone};
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::ports::{SecurityGroups, SeenSecurityGroup, SeenTemplate, Tags};
use crate::stack::{Peer, Rule, RuleDirection, Rules};

mod templates;
mod unmodeled;

const SERVICE: &str = "ec2";
/// EC2 takes more; this is what fits a request well.
const BATCH: usize = 100;

/// EC2 in one account and region.
pub struct Ec2 {
    connection: Arc<Connection>,
    security_groups: Gather<String, SeenSecurityGroup>,
    templates: Gather<String, SeenTemplate>,
}

/// What is done to rules.
#[derive(Clone, Copy)]
enum Verb {
    Authorize,
    Describe,
    Revoke,
}

fn spoiled(operation: &str) -> PortError {
    PortError::new(FailureKind::Other, format!("{SERVICE} {operation} named no id"))
}

fn to_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn from_tags(tags: &[Tag]) -> Tags {
    let pair = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    tags.iter().filter_map(pair).collect()
}

fn specification(kind: ResourceType, tags: &Tags) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(to_tags(tags))).build()
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

impl Ec2 {
    /// Nothing is called before it is needed.
    pub fn new(connection: Arc<Connection>) -> Ec2 {
        Ec2 { connection, security_groups: Gather::new(BATCH), templates: Gather::new(BATCH) }
    }

    /// One call about rules.
    async fn change_rules(
        &self,
        id: &str,
        verb: Verb,
        direction: RuleDirection,
        permissions: Vec<IpPermission>,
    ) -> Result<(), PortError> {
        let client = self.connection.ec2().await?;
        // The six calls take the same, and each has a builder type of its own.
        macro_rules! send {
            ($call:ident, $operation:literal) => {{
                let call = client.$call().group_id(id).set_ip_permissions(Some(permissions));
                call.send().await.map(drop).map_err(|error| call_error(SERVICE, $operation, &error))
            }};
        }
        match (verb, direction) {
            (Verb::Authorize, RuleDirection::Ingress) => {
                send!(authorize_security_group_ingress, "AuthorizeSecurityGroupIngress")
            }
            (Verb::Authorize, RuleDirection::Egress) => {
                send!(authorize_security_group_egress, "AuthorizeSecurityGroupEgress")
            }
            (Verb::Describe, RuleDirection::Ingress) => {
                send!(update_security_group_rule_descriptions_ingress, "UpdateSecurityGroupRuleDescriptionsIngress")
            }
            (Verb::Describe, RuleDirection::Egress) => {
                send!(update_security_group_rule_descriptions_egress, "UpdateSecurityGroupRuleDescriptionsEgress")
            }
            (Verb::Revoke, RuleDirection::Ingress) => {
                send!(revoke_security_group_ingress, "RevokeSecurityGroupIngress")
            }
            (Verb::Revoke, RuleDirection::Egress) => send!(revoke_security_group_egress, "RevokeSecurityGroupEgress"),
        }
    }

    /// Sets tags and takes others away, of anything in EC2.
    async fn set_any_tags(&self, id: &str, set: &Tags, gone: &[String]) -> Result<(), PortError> {
        let client = self.connection.ec2().await?;
        if !gone.is_empty() {
            let keys = gone.iter().map(|key| Tag::builder().key(key).build()).collect();
            let result = client.delete_tags().resources(id).set_tags(Some(keys)).send().await;
            result.map_err(|error| call_error(SERVICE, "DeleteTags", &error))?;
        }
        if !set.is_empty() {
            let result = client.create_tags().resources(id).set_tags(Some(to_tags(set))).send().await;
            result.map_err(|error| call_error(SERVICE, "CreateTags", &error))?;
        }
        Ok(())
    }
}

#[async_trait]
impl SecurityGroups for Ec2 {
    async fn find(&self, id: &str) -> Result<Option<SeenSecurityGroup>, PortError> {
        let connection = self.connection.clone();
        self.security_groups.get(id.to_owned(), move |ids| describe(connection, ids)).await
    }

    async fn named(&self, name: &str, vpc_id: &str) -> Result<Option<SeenSecurityGroup>, PortError> {
        let call = self.connection.ec2().await?.describe_security_groups();
        let answer = call.filters(filter("group-name", name)).filters(filter("vpc-id", vpc_id)).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeSecurityGroups", &error))?;
        Ok(answer.security_groups().first().and_then(seen))
    }

    async fn create(&self, name: &str, description: &str, vpc_id: &str, tags: &Tags) -> Result<String, PortError> {
        let call = self.connection.ec2().await?.create_security_group().group_name(name).description(description);
        let call = call.vpc_id(vpc_id).tag_specifications(specification(ResourceType::SecurityGroup, tags));
        let answer = call.send().await.map_err(|error| call_error(SERVICE, "CreateSecurityGroup", &error))?;
        answer.group_id().map(str::to_owned).ok_or_else(|| spoiled("CreateSecurityGroup"))
    }

    async fn set_rules(&self, id: &str, before: &Rules, after: &Rules) -> Result<(), PortError> {
        for direction in [RuleDirection::Ingress, RuleDirection::Egress] {
            let of = |rule: &&Rule| rule.direction == direction;
            let come: Vec<&Rule> = after.keys().filter(of).filter(|rule| !before.contains_key(rule)).collect();
            let told: Vec<&Rule> = after
                .keys()
                .filter(of)
                .filter(|rule| before.get(rule).is_some_and(|text| *text != after[*rule]))
                .collect();
            let gone: Vec<&Rule> = before.keys().filter(of).filter(|rule| !after.contains_key(rule)).collect();
            let permissions = |rules: &[&Rule], texts: &Rules| merged(rules, texts, id);
            if !come.is_empty() {
                match self.change_rules(id, Verb::Authorize, direction, permissions(&come, after)).await {
                    // One that is there already, as after a read that was too early, must not keep the others out.
                    Err(error) if error.kind == FailureKind::Conflict => {
                        for rule in &come {
                            match self.change_rules(id, Verb::Authorize, direction, permissions(&[rule], after)).await {
                                Err(error) if error.kind == FailureKind::Conflict => {}
                                other => other?,
                            }
                        }
                    }
                    other => other?,
                }
            }
            if !told.is_empty() {
                self.change_rules(id, Verb::Describe, direction, permissions(&told, after)).await?;
            }
            if !gone.is_empty() {
                self.change_rules(id, Verb::Revoke, direction, permissions(&gone, &Rules::new())).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, id: &str) -> Result<(), PortError> {
        let result = self.connection.ec2().await?.delete_security_group().group_id(id).send().await;
        or_if_gone(result.map(drop).map_err(|error| call_error(SERVICE, "DeleteSecurityGroup", &error)), ())
    }

    async fn set_tags(&self, id: &str, set: &Tags, gone: &[String]) -> Result<(), PortError> {
        self.set_any_tags(id, set, gone).await
    }
}

async fn describe(
    connection: Arc<Connection>,
    ids: Vec<String>,
) -> Result<HashMap<String, SeenSecurityGroup>, PortError> {
    // As a filter, since an id that is gone would spoil the answer for all.
    let filter = Filter::builder().name("group-id").set_values(Some(ids)).build();
    let pages = connection.ec2().await?.describe_security_groups().filters(filter).into_paginator().items().send();
    let groups = pages.collect::<Result<Vec<_>, _>>().await;
    let groups = groups.map_err(|error| call_error(SERVICE, "DescribeSecurityGroups", &error))?;
    Ok(groups.iter().filter_map(seen).map(|group| (group.id.clone(), group)).collect())
}

fn seen(group: &SecurityGroup) -> Option<SeenSecurityGroup> {
    let id = group.group_id()?.to_owned();
    let mut rules = Rules::new();
    for (direction, permissions) in
        [(RuleDirection::Ingress, group.ip_permissions()), (RuleDirection::Egress, group.ip_permissions_egress())]
    {
        for permission in permissions {
            rules.extend(split(permission, direction, &id));
        }
    }
    Some(SeenSecurityGroup { id, rules, tags: from_tags(group.tags()) })
}

fn split(permission: &IpPermission, direction: RuleDirection, own: &str) -> Vec<(Rule, Option<String>)> {
    let protocol = permission.ip_protocol().unwrap_or("-1").to_owned();
    let all = protocol == "-1";
    let port = |port: Option<i32>| if all { -1 } else { port.unwrap_or(-1) };
    let (from_port, to_port) = (port(permission.from_port()), port(permission.to_port()));
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let mut peers: Vec<(Peer, Option<String>)> = Vec::new();
    for range in permission.ip_ranges() {
        peers.extend(range.cidr_ip().map(|cidr| (Peer::V4(cidr.to_owned()), text(range.description()))));
    }
    for range in permission.ipv6_ranges() {
        peers.extend(range.cidr_ipv6().map(|cidr| (Peer::V6(cidr.to_owned()), text(range.description()))));
    }
    for list in permission.prefix_list_ids() {
        peers.extend(list.prefix_list_id().map(|id| (Peer::Prefixes(id.to_owned()), text(list.description()))));
    }
    for pair in permission.user_id_group_pairs() {
        let peer = pair.group_id().map(|id| if id == own { Peer::Own } else { Peer::Group(id.to_owned()) });
        peers.extend(peer.map(|peer| (peer, text(pair.description()))));
    }
    let rule = |(peer, text)| (Rule { direction, protocol: protocol.clone(), from_port, to_port, peer }, text);
    peers.into_iter().map(rule).collect()
}

/// Rules of the same protocol and ports as one permission with many peers, as EC2 has them.
fn merged(rules: &[&Rule], texts: &Rules, own: &str) -> Vec<IpPermission> {
    let mut permissions: BTreeMap<(&str, i32, i32), Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        permissions.entry((&rule.protocol, rule.from_port, rule.to_port)).or_default().push(rule);
    }
    let permission = |((protocol, from, to), rules): ((&str, i32, i32), Vec<&Rule>)| {
        let all = protocol == "-1";
        let builder = IpPermission::builder().ip_protocol(protocol);
        let builder = builder.set_from_port((!all).then_some(from)).set_to_port((!all).then_some(to));
        rules
            .iter()
            .fold(builder, |builder, rule| with_peer(builder, rule, texts.get(*rule).cloned().flatten(), own))
            .build()
    };
    permissions.into_iter().map(permission).collect()
}

fn with_peer(builder: IpPermissionBuilder, rule: &Rule, text: Option<String>, own: &str) -> IpPermissionBuilder {
    let pair = |id: &str, text| UserIdGroupPair::builder().group_id(id).set_description(text).build();
    match &rule.peer {
        Peer::V4(cidr) => builder.ip_ranges(IpRange::builder().cidr_ip(cidr).set_description(text).build()),
        Peer::V6(cidr) => builder.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).set_description(text).build()),
        Peer::Prefixes(id) => {
            builder.prefix_list_ids(PrefixListId::builder().prefix_list_id(id).set_description(text).build())
        }
        Peer::Group(id) => builder.user_id_group_pairs(pair(id, text)),
        Peer::Own => builder.user_id_group_pairs(pair(own, text)),
    }
}
