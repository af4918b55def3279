//! Reads of target groups, once for whoever moves traffic and whoever makes a stack.

use std::collections::HashMap;

use aws_sdk_elasticloadbalancingv2::types::{Tag, TargetGroup, TargetGroupAttribute, TargetHealthDescription};

use crate::aws::batch::all_that_are_there;
use crate::aws::connection::Connection;
use crate::aws::error::call_error;
use crate::run::ports::PortError;
use crate::run::stack::ports::Tags;

pub const SERVICE: &str = "elasticloadbalancing";
/// DescribeTags takes at most twenty ARNs; DescribeTargetGroups takes them as well.
pub const BATCH: usize = 20;

/// Target groups by their ARNs; those that are gone are missing.
///
/// # Errors
/// Why AWS did not say.
pub async fn target_groups(connection: &Connection, arns: Vec<String>) -> Result<Vec<TargetGroup>, PortError> {
    let client = connection.elbv2().await?;
    let read = |arns: Vec<String>| async move {
        let answer = client.describe_target_groups().set_target_group_arns(Some(arns)).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeTargetGroups", &error))?;
        Ok(answer.target_groups().to_vec())
    };
    all_that_are_there(arns, read).await
}

/// The tags of load balancers' things by ARN; those that are gone are missing.
///
/// # Errors
/// Why AWS did not say.
pub async fn tags(connection: &Connection, arns: &[String]) -> Result<HashMap<String, Tags>, PortError> {
    let client = connection.elbv2().await?;
    let read = |arns: Vec<String>| async move {
        let answer = client.describe_tags().set_resource_arns(Some(arns)).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeTags", &error))?;
        Ok(answer.tag_descriptions().to_vec())
    };
    let pair = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    let mut found = HashMap::new();
    for some in arns.chunks(BATCH) {
        let descriptions = all_that_are_there(some.to_vec(), &read).await?;
        found.extend(descriptions.iter().filter_map(|description| {
            let tags = description.tags().iter().filter_map(pair).collect();
            Some((description.resource_arn()?.to_owned(), tags))
        }));
    }
    Ok(found)
}

/// A target group's attributes, by AWS's keys.
///
/// # Errors
/// Why AWS did not say.
pub async fn attributes(connection: &Connection, group: &str) -> Result<Tags, PortError> {
    let answer = connection.elbv2().await?.describe_target_group_attributes().target_group_arn(group).send().await;
    let answer = answer.map_err(|error| call_error(SERVICE, "DescribeTargetGroupAttributes", &error))?;
    let pair = |one: &TargetGroupAttribute| Some((one.key()?.to_owned(), one.value().unwrap_or_default().to_owned()));
    Ok(answer.attributes().iter().filter_map(pair).collect())
}

/// A target group's targets and how they are.
///
/// # Errors
/// Why AWS did not say.
pub async fn health(connection: &Connection, group: &str) -> Result<Vec<TargetHealthDescription>, PortError> {
    let answer = connection.elbv2().await?.describe_target_health().target_group_arn(group).send().await;
    let answer = answer.map_err(|error| call_error(SERVICE, "DescribeTargetHealth", &error))?;
    Ok(answer.target_health_descriptions().to_vec())
}
