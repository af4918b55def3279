//! Auto Scaling as AWS has it, where moto's answers lack something: scaling activities, instances that never started,
//! the version that each instance was made of, settings that moto forgets, and refusals.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use quick_xml::escape::escape;

use crate::compute::instances::{Activity, Compute};
use crate::core::aws_call::AwsCall;
use crate::core::clock;
use crate::core::moto::Scope;
use crate::core::xml;
use crate::node::converge::Machines as _;

pub(crate) const NAMESPACE: &str = "http://autoscaling.amazonaws.com/doc/2011-01-01/";

/// Settings that moto drops at creation or at an update, kept here by group.
const FORGOTTEN: [&str; 6] = [
    "HealthCheckGracePeriod",
    "DefaultInstanceWarmup",
    "DefaultCooldown",
    "MaxInstanceLifetime",
    "PlacementGroup",
    "CapacityRebalance",
];

/// Likewise settings of several parts.
const FORGOTTEN_WHOLE: [(&str, &[&str]); 2] = [
    ("InstanceMaintenancePolicy", &["MinHealthyPercentage", "MaxHealthyPercentage"]),
    ("AvailabilityZoneDistribution", &["CapacityDistributionStrategy"]),
];

/// Region and name.
type Key = (String, String);

/// What groups were told and moto does not keep.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    by_group: Mutex<BTreeMap<Key, BTreeMap<String, String>>>,
}

impl Settings {
    /// Notes what a successful call says about a group.
    pub(crate) fn learn(&self, call: &AwsCall) {
        let Some(key) = key(call) else { return };
        let mut by_group = self.by_group.lock().unwrap_or_else(PoisonError::into_inner);
        match call.operation.as_str() {
            "CreateAutoScalingGroup" => drop(by_group.remove(&key)),
            "UpdateAutoScalingGroup" => {}
            "DeleteAutoScalingGroup" => return drop(by_group.remove(&key)),
            _ => return,
        }
        let settings = by_group.entry(key).or_default();
        for name in FORGOTTEN {
            if let Some(value) = call.parameter(name) {
                settings.insert(name.to_owned(), escape(value).into_owned());
            }
        }
        for (name, parts) in FORGOTTEN_WHOLE {
            let said: Vec<(&str, &str)> =
                parts.iter().filter_map(|part| Some((*part, call.parameter(&format!("{name}.{part}"))?))).collect();
            // −1 takes it away.
            if said.iter().any(|(_, value)| *value == "-1") {
                settings.remove(name);
            } else if !said.is_empty() {
                let parts = said.iter().map(|(part, value)| format!("<{part}>{}</{part}>", escape(*value)));
                settings.insert(name.to_owned(), parts.collect());
            }
        }
        let policies: String = (1..=10)
            .map_while(|n| call.parameter(&format!("TerminationPolicies.member.{n}")))
            .map(|policy| format!("<member>{}</member>", escape(policy)))
            .collect();
        if !policies.is_empty() {
            settings.insert("TerminationPolicies".to_owned(), policies);
        }
    }

    fn of(&self, scope: &Scope, group: &str) -> BTreeMap<String, String> {
        let by_group = self.by_group.lock().unwrap_or_else(PoisonError::into_inner);
        by_group.get(&(scope.region.clone(), group.to_owned())).cloned().unwrap_or_default()
    }
}

fn key(call: &AwsCall) -> Option<Key> {
    Some((call.scope.as_ref()?.region.clone(), call.parameter("AutoScalingGroupName")?.to_owned()))
}

/// The answer to a call that moto gets wrong as a whole; `None`: moto has to answer.
pub(crate) async fn answer(compute: &Compute, call: &AwsCall) -> Option<Response<Bytes>> {
    let scope = call.scope.as_ref()?;
    if call.operation == "DescribeScalingActivities" {
        return Some(respond(activities(compute, scope, call).await));
    }
    if let Some(refusal) = refuse_version(compute, scope, call).await {
        return Some(refusal);
    }
    let name = call.parameter("AutoScalingGroupName")?;
    let checked = ["CreateAutoScalingGroup", "SetDesiredCapacity", "DeleteAutoScalingGroup"];
    if !checked.contains(&call.operation.as_str()) {
        return None;
    }
    let group = compute.group(scope, name).await.ok()?;
    match (call.operation.as_str(), group) {
        ("CreateAutoScalingGroup", Some(_)) => {
            let why = "AutoScalingGroup by this name already exists - A group with the name already exists";
            Some(call.refuse("AlreadyExists", &format!("{why}: {name}")))
        }
        ("SetDesiredCapacity", None) => Some(not_found(call)),
        ("SetDesiredCapacity", Some(group)) => {
            let desired: u32 = call.parameter("DesiredCapacity")?.parse().ok()?;
            let (side, bound) = match desired {
                _ if desired > group.max_size => ("above max", group.max_size),
                _ if desired < group.min_size => ("below min", group.min_size),
                _ => return None,
            };
            let why =
                format!("New SetDesiredCapacity value {desired} is {side} value {bound} for the AutoScalingGroup.");
            Some(call.refuse("ValidationError", &why))
        }
        ("DeleteAutoScalingGroup", Some(group)) => {
            let forced = call.parameter("ForceDelete").is_some_and(|forced| forced.eq_ignore_ascii_case("true"));
            let why = "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance \
                       request(s) still in the group.";
            let in_use = !group.ids().is_empty() && !forced;
            in_use.then(|| call.refuse("ResourceInUse", why))
        }
        _ => None,
    }
}

/// moto takes any version of a launch template, and breaks on it later.
async fn refuse_version(compute: &Compute, scope: &Scope, call: &AwsCall) -> Option<Response<Bytes>> {
    let version = call.parameter("LaunchTemplate.Version")?;
    let by = ["LaunchTemplateId", "LaunchTemplateName"].into_iter();
    let (by, template) =
        by.filter_map(|name| Some((name, call.parameter(&format!("LaunchTemplate.{name}"))?))).next()?;
    let parameters = [(by, template), ("LaunchTemplateVersion.1", version)];
    compute.ec2(scope, "DescribeLaunchTemplateVersions", &parameters).await.err()?;
    let why = format!("Could not find the specified version {version} for the launch template {template}.");
    Some(call.refuse("ValidationError", &format!("You must use a valid fully-formed launch template. {why}")))
}

pub(crate) fn not_found(call: &AwsCall) -> Response<Bytes> {
    call.refuse("ValidationError", "AutoScalingGroup name not found - null")
}

pub(crate) fn respond(xml: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(xml));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("text/xml"));
    response
}

async fn activities(compute: &Compute, scope: &Scope, call: &AwsCall) -> String {
    let name = call.parameter("AutoScalingGroupName");
    let most = call.parameter("MaxRecords").and_then(|most| most.parse().ok()).unwrap_or(100);
    // By ARN where the group exists: another account may have one of the same name.
    let group = match name {
        Some(name) => compute.group(scope, name).await.ok().flatten(),
        None => None,
    };
    let wanted = |activity: &Activity| match (&group, name) {
        (Some(group), _) => activity.group_arn == group.arn,
        (None, Some(name)) => activity.group_name == name,
        (None, None) => activity.group_arn.contains(&format!(":{}:", scope.region)),
    };
    let mut list = String::new();
    for activity in compute.activities(wanted).into_iter().take(most) {
        render(&mut list, &activity);
    }
    xml::answer("DescribeScalingActivities", NAMESPACE, &format!("<Activities>{list}</Activities>"))
}

fn render(list: &mut String, activity: &Activity) {
    let at = clock::rfc3339(activity.at);
    let status = if activity.failure.is_some() { "Failed" } else { "Successful" };
    // Writing to a String cannot fail.
    let _ = write!(
        list,
        "<member><ActivityId>{}</ActivityId><AutoScalingGroupName>{}</AutoScalingGroupName>\
         <AutoScalingGroupARN>{}</AutoScalingGroupARN><Description>{}</Description>\
         <Cause>At {at} an instance was launched or ended to match the desired capacity.</Cause>\
         <StartTime>{at}</StartTime><EndTime>{at}</EndTime><StatusCode>{status}</StatusCode>",
        activity.id,
        escape(activity.group_name.as_str()),
        activity.group_arn,
        escape(activity.description.as_str())
    );
    if let Some(failure) = &activity.failure {
        let _ = write!(list, "<StatusMessage>{}</StatusMessage>", escape(failure.as_str()));
    }
    list.push_str("<Progress>100</Progress><Details>{}</Details></member>");
}

/// moto's answer to `DescribeAutoScalingGroups`, corrected.
pub(crate) fn rewrite_groups(compute: &Compute, settings: &Settings, scope: &Scope, xml: &str) -> String {
    const START: &str = "<member><AutoScalingGroupName>";
    let mut parts = xml.split(START);
    let mut rewritten = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rewritten.push_str(START);
        rewritten.push_str(&rewrite_group(compute, settings, scope, part));
    }
    rewritten
}

fn rewrite_group(compute: &Compute, settings: &Settings, scope: &Scope, part: &str) -> String {
    let name = part.split('<').next().unwrap_or_default();
    let mut group = part.to_owned();
    for (name, value) in settings.of(scope, name) {
        let corrected = xml::with_content(&group, &name, &value);
        group = if group.contains(&format!("<{name}")) {
            corrected
        } else {
            group.replacen("<CreatedTime>", &format!("<{name}>{value}</{name}><CreatedTime>"), 1)
        };
    }
    let Some(instances) = xml::text_of(&group, "Instances") else { return group };
    let instances: String =
        instances.split_inclusive("</member>").filter_map(|one| rewrite_one(compute, one)).collect();
    xml::with_content(&group, "Instances", &instances)
}

/// One instance; `None`: it never started.
fn rewrite_one(compute: &Compute, xml: &str) -> Option<String> {
    let id = xml::text_of(xml, "InstanceId").unwrap_or_default();
    if compute.is_dead(id) {
        return None;
    }
    let version = compute.version_of(id);
    Some(version.map_or_else(|| xml.to_owned(), |version| xml::with_content(xml, "Version", &version)))
}
