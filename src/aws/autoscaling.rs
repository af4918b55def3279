//! Auto Scaling groups, their instances and their refreshes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_sdk_autoscaling::types::{
    AutoScalingGroup, InstanceRefreshStatus, LaunchTemplateSpecification, LifecycleState, RefreshPreferences, Tag,
};

use super::batch::Gather;
use super::connection::Connection;
use super::error::{call_error, or_if_gone};
use crate::run::ports::PortError;
use crate::stack::Instances;

const SERVICE: &str = "autoscaling";
/// On a group whose minimum a rollout holds up: the minimum to give back.
pub(super) const PINNED_TAG: &str = "bluegreen:pinned-min";
/// As many as DescribeAutoScalingGroups takes by name.
const BATCH: usize = 50;

/// An Auto Scaling group that is there.
#[derive(Clone, Debug, Default)]
pub struct SeenScalingGroup {
    /// Its name.
    pub name: String,
    /// The size, subnets and checks; nothing of the template.
    pub instances: Instances,
    /// The launch template's id and the version that new instances get.
    pub template: Option<(String, String)>,
    /// The target groups that it is attached to.
    pub target_groups: Vec<String>,
    /// The tags.
    pub tags: BTreeMap<String, String>,
    /// How many instances are in service.
    pub in_service: i32,
    /// How many instances there are, whatever their state.
    pub present: i32,
    /// Whether it is being deleted.
    pub going: bool,
    /// The minimum that a rollout took away and has to give back; `instances` has it as if it were there.
    pub pinned: Option<i32>,
    /// The minimum as it is now.
    pub min_now: i32,
    /// Whether there are instances of another version than new ones get.
    pub mixed: bool,
}

/// How an instance refresh stands.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: RefreshState,
    /// How far it is, in percent.
    pub percent: i32,
    /// Why it is in this state.
    pub reason: Option<String>,
}

/// The states of a refresh that make a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshState {
    /// It goes on.
    Running,
    /// All instances are replaced.
    Done,
    /// It ended otherwise: AWS's word for it.
    Ended(String),
}

/// Auto Scaling in one account and region.
pub struct AutoScaling {
    connection: Arc<Connection>,
    groups: Gather<String, SeenScalingGroup>,
}

fn specification(template: (&str, i64)) -> LaunchTemplateSpecification {
    LaunchTemplateSpecification::builder().launch_template_id(template.0).version(template.1.to_string()).build()
}

/// Instances and volumes are tagged by the launch template.
fn to_tag(group: &str, key: &str, value: Option<&str>) -> Tag {
    Tag::builder()
        .resource_id(group)
        .resource_type("auto-scaling-group")
        .key(key)
        .set_value(value.map(str::to_owned))
        .propagate_at_launch(false)
        .build()
}

impl AutoScaling {
    /// Nothing is called before it is needed.
    pub fn new(connection: Arc<Connection>) -> AutoScaling {
        AutoScaling { connection, groups: Gather::new(BATCH) }
    }

    /// A group by its name.
    ///
    /// # Errors
    /// When AWS can't be asked.
    pub async fn find(&self, name: &str) -> Result<Option<SeenScalingGroup>, PortError> {
        let connection = self.connection.clone();
        self.groups.get(name.to_owned(), move |names| describe(connection, names)).await
    }

    /// Makes a group, attached to a target group.
    ///
    /// # Errors
    /// When AWS refuses.
    pub async fn create(
        &self,
        name: &str,
        instances: &Instances,
        template: (&str, i64),
        target_group: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.create_auto_scaling_group().auto_scaling_group_name(name);
        let call = call
            .launch_template(specification(template))
            .min_size(instances.min_size)
            .max_size(instances.max_size)
            .set_desired_capacity(instances.desired_capacity)
            .vpc_zone_identifier(instances.subnet_ids.join(","))
            .target_group_arns(target_group)
            .set_health_check_type(instances.health_check_type.clone())
            .set_health_check_grace_period(instances.health_check_grace_period)
            .set_default_instance_warmup(instances.default_instance_warmup)
            .set_termination_policies(Some(instances.termination_policies.clone()))
            .set_tags(Some(tags.iter().map(|(key, value)| to_tag(name, key, Some(value))).collect()));
        call.send().await.map(drop).map_err(|error| call_error(SERVICE, "CreateAutoScalingGroup", &error))
    }

    /// Sets everything but the size.
    ///
    /// # Errors
    /// When AWS refuses.
    pub async fn update(&self, name: &str, instances: &Instances) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.update_auto_scaling_group().auto_scaling_group_name(name);
        let call = call
            .vpc_zone_identifier(instances.subnet_ids.join(","))
            .set_health_check_type(instances.health_check_type.clone())
            .set_health_check_grace_period(instances.health_check_grace_period)
            // −1 takes the default away.
            .default_instance_warmup(instances.default_instance_warmup.unwrap_or(-1))
            .set_termination_policies(Some(instances.termination_policies.clone()));
        call.send().await.map(drop).map_err(|error| call_error(SERVICE, "UpdateAutoScalingGroup", &error))
    }

    /// Sets the version that new instances get.
    ///
    /// # Errors
    /// When AWS refuses.
    pub async fn set_template(&self, name: &str, template: (&str, i64)) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.update_auto_scaling_group().auto_scaling_group_name(name);
        let result = call.launch_template(specification(template)).send().await;
        result.map(drop).map_err(|error| call_error(SERVICE, "UpdateAutoScalingGroup", &error))
    }

    /// Sets the size; what is none stays.
    ///
    /// # Errors
    /// When AWS refuses.
    pub async fn resize(
        &self,
        name: &str,
        min: Option<i32>,
        max: Option<i32>,
        desired: Option<i32>,
    ) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.update_auto_scaling_group().auto_scaling_group_name(name);
        let result = call.set_min_size(min).set_max_size(max).set_desired_capacity(desired).send().await;
        result.map(drop).map_err(|error| call_error(SERVICE, "UpdateAutoScalingGroup", &error))
    }

    /// Attaches the group to a target group, and from others.
    ///
    /// # Errors
    /// When AWS refuses.
    pub async fn attach(&self, name: &str, target_group: &str, others: &[String]) -> Result<(), PortError> {
        let client = self.connection.autoscaling().await?;
        if !others.is_empty() {
            let call = client.detach_load_balancer_target_groups().auto_scaling_group_name(name);
            let result = call.set_target_group_arns(Some(others.to_vec())).send().await.map(drop);
            // Mostly they are gone, which is why there is a new one.
            or_if_gone(result.map_err(|error| call_error(SERVICE, "DetachLoadBalancerTargetGroups", &error)), ())?;
        }
        let call = client.attach_load_balancer_target_groups().auto_scaling_group_name(name);
        let result = call.target_group_arns(target_group).send().await;
        result.map(drop).map_err(|error| call_error(SERVICE, "AttachLoadBalancerTargetGroups", &error))
    }

    /// Deletes a group and its instances; one that is gone already is no failure.
    ///
    /// # Errors
    /// When AWS refuses.
    pub async fn delete(&self, name: &str) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.delete_auto_scaling_group().auto_scaling_group_name(name);
        let result = call.force_delete(true).send().await;
        or_if_gone(result.map(drop).map_err(|error| call_error(SERVICE, "DeleteAutoScalingGroup", &error)), ())
    }

    /// Sets tags and takes others away.
    ///
    /// # Errors
    /// When AWS refuses.
    pub async fn set_tags(&self, name: &str, set: &BTreeMap<String, String>, gone: &[String]) -> Result<(), PortError> {
        let client = self.connection.autoscaling().await?;
        if !gone.is_empty() {
            let tags = gone.iter().map(|key| to_tag(name, key, None)).collect();
            let result = client.delete_tags().set_tags(Some(tags)).send().await;
            result.map_err(|error| call_error(SERVICE, "DeleteTags", &error))?;
        }
        if !set.is_empty() {
            let tags = set.iter().map(|(key, value)| to_tag(name, key, Some(value))).collect();
            let result = client.create_or_update_tags().set_tags(Some(tags)).send().await;
            result.map_err(|error| call_error(SERVICE, "CreateOrUpdateTags", &error))?;
        }
        Ok(())
    }

    /// Starts to replace all instances by such of the group's present template, and gives the refresh's id.
    ///
    /// # Errors
    /// A conflict while another one goes on.
    pub async fn start_refresh(
        &self,
        name: &str,
        (min_healthy, max_healthy): (i32, i32),
        warmup: Option<i32>,
    ) -> Result<String, PortError> {
        let preferences = RefreshPreferences::builder()
            .min_healthy_percentage(min_healthy)
            .max_healthy_percentage(max_healthy)
            .set_instance_warmup(warmup)
            .skip_matching(true)
            .build();
        let call = self.connection.autoscaling().await?.start_instance_refresh().auto_scaling_group_name(name);
        let answer = call.preferences(preferences).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "StartInstanceRefresh", &error))?;
        Ok(answer.instance_refresh_id().unwrap_or_default().to_owned())
    }

    /// How a refresh stands; without an id the newest.
    ///
    /// # Errors
    /// When AWS can't be asked.
    pub async fn refresh(&self, name: &str, id: Option<&str>) -> Result<Option<Refresh>, PortError> {
        let call = self.connection.autoscaling().await?.describe_instance_refreshes().auto_scaling_group_name(name);
        let call = call.set_instance_refresh_ids(id.map(|id| vec![id.to_owned()]));
        let answer = call.send().await.map_err(|error| call_error(SERVICE, "DescribeInstanceRefreshes", &error))?;
        Ok(answer.instance_refreshes().first().map(|refresh| {
            use InstanceRefreshStatus as Status;
            let state = match refresh.status() {
                Some(Status::Pending | Status::InProgress | Status::Baking | Status::Cancelling) => {
                    RefreshState::Running
                }
                Some(Status::RollbackInProgress) => RefreshState::Running,
                Some(Status::Successful) => RefreshState::Done,
                other => RefreshState::Ended(other.map_or("unknown", Status::as_str).to_owned()),
            };
            Refresh {
                id: refresh.instance_refresh_id().unwrap_or_default().to_owned(),
                state,
                percent: refresh.percentage_complete().unwrap_or_default(),
                reason: refresh.status_reason().map(str::to_owned),
            }
        }))
    }

    /// Stops a refresh; if none goes on, that is no failure.
    ///
    /// # Errors
    /// When AWS refuses.
    pub async fn cancel_refresh(&self, name: &str) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.cancel_instance_refresh().auto_scaling_group_name(name);
        let result = call.send().await.map(drop);
        or_if_gone(result.map_err(|error| call_error(SERVICE, "CancelInstanceRefresh", &error)), ())
    }

    /// The last activities that failed, the newest first: their ids and what they say.
    ///
    /// # Errors
    /// When AWS can't be asked.
    pub async fn failures(&self, name: &str) -> Result<Vec<(String, String)>, PortError> {
        let call = self.connection.autoscaling().await?.describe_scaling_activities().auto_scaling_group_name(name);
        let answer = call.max_records(20).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeScalingActivities", &error))?;
        let failed = answer.activities().iter().filter(|activity| {
            activity.status_code().is_some_and(|code| matches!(code.as_str(), "Failed" | "Cancelled"))
        });
        let words = failed.filter_map(|activity| {
            let text = activity.status_message().or(activity.description())?;
            Some((activity.activity_id().unwrap_or_default().to_owned(), text.to_owned()))
        });
        Ok(words.collect())
    }
}

async fn describe(
    connection: Arc<Connection>,
    names: Vec<String>,
) -> Result<HashMap<String, SeenScalingGroup>, PortError> {
    let call = connection.autoscaling().await?.describe_auto_scaling_groups();
    let pages = call.set_auto_scaling_group_names(Some(names)).into_paginator().items().send();
    let groups = pages.collect::<Result<Vec<_>, _>>().await;
    let groups = groups.map_err(|error| call_error(SERVICE, "DescribeAutoScalingGroups", &error))?;
    Ok(groups.iter().filter_map(seen).map(|group| (group.name.clone(), group)).collect())
}

fn seen(group: &AutoScalingGroup) -> Option<SeenScalingGroup> {
    let subnets = group.vpc_zone_identifier().unwrap_or_default();
    let pair =
        |tag: &aws_sdk_autoscaling::types::TagDescription| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
    let in_service = group.instances().iter().filter(|instance| {
        instance.lifecycle_state() == Some(&LifecycleState::InService) && instance.health_status() == Some("Healthy")
    });
    let template = group.launch_template().and_then(|template| {
        Some((template.launch_template_id()?.to_owned(), template.version().unwrap_or("$Default").to_owned()))
    });
    let of = |instance: &aws_sdk_autoscaling::types::Instance| {
        instance.launch_template().and_then(|template| {
            Some((template.launch_template_id()?.to_owned(), template.version().unwrap_or_default().to_owned()))
        })
    };
    let stays = |instance: &&aws_sdk_autoscaling::types::Instance| {
        !instance.lifecycle_state().is_some_and(|state| state.as_str().starts_with("Terminat"))
    };
    let mixed = group.instances().iter().filter(stays).any(|instance| of(instance) != template);
    let tags: BTreeMap<String, String> = group.tags().iter().filter_map(pair).collect();
    let pinned = tags.get(PINNED_TAG).and_then(|text| text.parse().ok());
    let min_now = group.min_size().unwrap_or_default();
    Some(SeenScalingGroup {
        pinned,
        min_now,
        mixed,
        name: group.auto_scaling_group_name()?.to_owned(),
        instances: Instances {
            subnet_ids: subnets.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
            min_size: pinned.unwrap_or(min_now),
            max_size: group.max_size().unwrap_or_default(),
            desired_capacity: group.desired_capacity(),
            health_check_type: group.health_check_type().map(str::to_owned),
            health_check_grace_period: group.health_check_grace_period(),
            default_instance_warmup: group.default_instance_warmup().filter(|seconds| *seconds >= 0),
            termination_policies: group.termination_policies().to_vec(),
            ..Instances::default()
        },
        template,
        target_groups: group.target_group_arns().to_vec(),
        tags,
        in_service: i32::try_from(in_service.count()).unwrap_or(i32::MAX),
        present: i32::try_from(group.instances().len()).unwrap_or(i32::MAX),
        going: group.status().is_some_and(|status| !status.is_empty()),
    })
}
