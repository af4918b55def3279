//! Auto Scaling groups, their instances and their refreshes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_autoscaling::types::{
    AlarmSpecification, AutoScalingGroup, AvailabilityZoneDistribution, CapacityDistributionStrategy,
    DesiredConfiguration, Instance, InstanceMaintenancePolicy, InstanceRefreshStatus, LaunchTemplateSpecification,
    MixedInstancesPolicy, RefreshPreferences, ScaleInProtectedInstances, StandbyInstances, Tag,
    TrafficSourceIdentifier,
};

use super::batch::Gather;
use super::connection::Connection;
use super::error::{call_error, kind_of_words, or_if_gone};
use super::mixed_instances;
use crate::rollout::PINNED_TAG;
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::ports::{Refresh, RefreshOf, RefreshState, ScalingGroups, SeenInstance, SeenScalingGroup, Tags};
use crate::stack::{Instances, MaintenancePolicy};

const SERVICE: &str = "autoscaling";
/// As many as DescribeAutoScalingGroups takes by name.
const BATCH: usize = 50;

/// Auto Scaling in one account and region.
pub struct AutoScaling {
    connection: Arc<Connection>,
    groups: Gather<String, SeenScalingGroup>,
}

fn specification((id, version): (&str, &str)) -> LaunchTemplateSpecification {
    LaunchTemplateSpecification::builder().launch_template_id(id).version(version).build()
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

    /// A group as AWS has it, for what an update would leave out.
    async fn there(&self, name: &str) -> Result<AutoScalingGroup, PortError> {
        let call = self.connection.autoscaling().await?.describe_auto_scaling_groups().auto_scaling_group_names(name);
        let answer = call.send().await.map_err(|error| call_error(SERVICE, "DescribeAutoScalingGroups", &error))?;
        let gone = || PortError::new(FailureKind::Gone, format!("the Auto Scaling group {name} is gone"));
        answer.auto_scaling_groups.and_then(|groups| groups.into_iter().next()).ok_or_else(gone)
    }
}

/// What instances are made of: a policy with several types, or the template alone. One beside the other would end the policy.
fn made_of(
    instances: &Instances,
    there: Option<&AutoScalingGroup>,
    template: (&str, &str),
) -> (Option<MixedInstancesPolicy>, Option<LaunchTemplateSpecification>) {
    let there = there.and_then(|there| there.mixed_instances_policy());
    match &instances.mixed_instances_policy {
        Some(wish) => (Some(mixed_instances::policy(wish, there, specification(template))), None),
        None => (None, Some(specification(template))),
    }
}

/// The template that new instances are made of, whatever their types.
fn used(group: &AutoScalingGroup) -> Option<(String, String)> {
    let mixed = group.mixed_instances_policy().and_then(|policy| policy.launch_template());
    let used = group.launch_template().or(mixed.and_then(|of| of.launch_template_specification()))?;
    Some((used.launch_template_id()?.to_owned(), used.version().unwrap_or("$Default").to_owned()))
}

/// How many instances stay in service whenever some are replaced; −1 ends that.
fn maintenance(instances: &Instances, there: Option<&AutoScalingGroup>) -> Option<InstanceMaintenancePolicy> {
    let had = there.is_some_and(|there| there.instance_maintenance_policy().is_some());
    let wished = instances.instance_maintenance_policy.as_ref();
    let healthy = wished.map(|policy| (policy.min_healthy_percentage, policy.max_healthy_percentage));
    let (min, max) = healthy.or(had.then_some((-1, -1)))?;
    Some(InstanceMaintenancePolicy::builder().min_healthy_percentage(min).max_healthy_percentage(max).build())
}

fn distribution(instances: &Instances) -> Option<AvailabilityZoneDistribution> {
    let strategy = instances.capacity_distribution_strategy.as_deref().map(CapacityDistributionStrategy::from)?;
    // What is usual needn't be said: not every partition knows it.
    let is_usual = strategy == CapacityDistributionStrategy::BalancedBestEffort;
    (!is_usual).then(|| AvailabilityZoneDistribution::builder().capacity_distribution_strategy(strategy).build())
}

/// The kind of a traffic source that is a target group.
const ELBV2: &str = "elbv2";

/// The target groups that a group is attached to, in either of AWS's two ways.
fn target_groups(group: &AutoScalingGroup) -> Vec<String> {
    let mut groups = group.target_group_arns().to_vec();
    for source in group.traffic_sources().iter().filter(|source| source.r#type().is_none_or(|kind| kind == ELBV2)) {
        groups.extend(source.identifier().filter(|arn| arn.contains(":targetgroup/")).map(str::to_owned));
    }
    groups.sort();
    groups.dedup();
    groups
}

#[async_trait]
impl ScalingGroups for AutoScaling {
    async fn find(&self, name: &str) -> Result<Option<SeenScalingGroup>, PortError> {
        let connection = self.connection.clone();
        self.groups.get(name.to_owned(), move |names| describe(connection, names)).await
    }

    async fn create(
        &self,
        name: &str,
        instances: &Instances,
        template: (&str, i64),
        target_group: &str,
        tags: &Tags,
    ) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.create_auto_scaling_group().auto_scaling_group_name(name);
        let (policy, template) = made_of(instances, None, (template.0, &template.1.to_string()));
        let call = call
            .set_mixed_instances_policy(policy)
            .set_launch_template(template)
            .min_size(instances.min_size)
            .max_size(instances.max_size)
            .set_desired_capacity(instances.desired_capacity)
            .vpc_zone_identifier(instances.subnet_ids.join(","))
            .target_group_arns(target_group)
            .set_health_check_type(instances.health_check_type.clone())
            .set_health_check_grace_period(instances.health_check_grace_period)
            .set_default_instance_warmup(instances.default_instance_warmup)
            .set_termination_policies(Some(instances.termination_policies.clone()))
            .set_new_instances_protected_from_scale_in(instances.protect_from_scale_in.filter(|on| *on))
            .set_capacity_rebalance(instances.capacity_rebalance.filter(|on| *on))
            .set_max_instance_lifetime(instances.max_instance_lifetime.filter(|seconds| *seconds > 0))
            .set_instance_maintenance_policy(maintenance(instances, None))
            .set_availability_zone_distribution(distribution(instances))
            .set_tags(Some(tags.iter().map(|(key, value)| to_tag(name, key, Some(value))).collect()));
        call.send().await.map(drop).map_err(|error| call_error(SERVICE, "CreateAutoScalingGroup", &error))
    }

    async fn update(&self, name: &str, instances: &Instances) -> Result<(), PortError> {
        let there = self.there(name).await?;
        let wished = instances.mixed_instances_policy.as_ref();
        let policy =
            wished.zip(there.mixed_instances_policy()).map(|(wish, there)| mixed_instances::spread(wish, there));
        // A strategy that was chosen once is only gone when the usual one is named.
        let usual = there.availability_zone_distribution.clone().map(|mut had| {
            had.capacity_distribution_strategy = Some(CapacityDistributionStrategy::BalancedBestEffort);
            had
        });
        let call = self.connection.autoscaling().await?.update_auto_scaling_group().auto_scaling_group_name(name);
        let call = call
            .set_mixed_instances_policy(policy)
            .set_new_instances_protected_from_scale_in(instances.protect_from_scale_in)
            .set_capacity_rebalance(instances.capacity_rebalance)
            .set_max_instance_lifetime(instances.max_instance_lifetime)
            .set_instance_maintenance_policy(maintenance(instances, Some(&there)))
            .set_availability_zone_distribution(distribution(instances).or(usual))
            .vpc_zone_identifier(instances.subnet_ids.join(","))
            .set_health_check_type(instances.health_check_type.clone())
            .set_health_check_grace_period(instances.health_check_grace_period)
            // −1 takes the default away.
            .default_instance_warmup(instances.default_instance_warmup.unwrap_or(-1))
            .set_termination_policies(Some(instances.termination_policies.clone()));
        call.send().await.map(drop).map_err(|error| call_error(SERVICE, "UpdateAutoScalingGroup", &error))
    }

    async fn set_template(&self, name: &str, instances: &Instances, template: (&str, &str)) -> Result<(), PortError> {
        let there = self.there(name).await?;
        let call = self.connection.autoscaling().await?.update_auto_scaling_group().auto_scaling_group_name(name);
        let (policy, template) = made_of(instances, Some(&there), template);
        let call = call.set_mixed_instances_policy(policy).set_launch_template(template);
        let result = call.send().await;
        result.map(drop).map_err(|error| call_error(SERVICE, "UpdateAutoScalingGroup", &error))
    }

    async fn resize(
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

    async fn attach(&self, name: &str, target_group: &str, others: &[String]) -> Result<(), PortError> {
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

    async fn note_minimum(&self, name: &str, min: i32) -> Result<(), PortError> {
        self.set_tags(name, &BTreeMap::from([(PINNED_TAG.to_owned(), min.to_string())]), &[]).await
    }

    async fn detach(&self, name: &str, target_group: &str) -> Result<(), PortError> {
        let client = self.connection.autoscaling().await?;
        let there = or_if_gone(self.there(name).await.map(Some), None)?;
        // One that was attached as a traffic source is no target group to the older call.
        let by_source = there.is_some_and(|there| {
            !there.target_group_arns().iter().any(|arn| arn == target_group)
                && target_groups(&there).iter().any(|arn| arn == target_group)
        });
        if by_source {
            let source = TrafficSourceIdentifier::builder().identifier(target_group).r#type(ELBV2).build();
            let call = client.detach_traffic_sources().auto_scaling_group_name(name).traffic_sources(source);
            let result = call.send().await.map(drop);
            return or_if_gone(result.map_err(|error| call_error(SERVICE, "DetachTrafficSources", &error)), ());
        }
        let call = client.detach_load_balancer_target_groups();
        let result = call.auto_scaling_group_name(name).target_group_arns(target_group).send().await.map(drop);
        or_if_gone(result.map_err(|error| call_error(SERVICE, "DetachLoadBalancerTargetGroups", &error)), ())
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.delete_auto_scaling_group().auto_scaling_group_name(name);
        let result = call.force_delete(true).send().await;
        or_if_gone(result.map(drop).map_err(|error| call_error(SERVICE, "DeleteAutoScalingGroup", &error)), ())
    }

    async fn set_tags(&self, name: &str, set: &Tags, gone: &[String]) -> Result<(), PortError> {
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

    async fn start_refresh(&self, name: &str, of: RefreshOf<'_>) -> Result<String, PortError> {
        let call = self.connection.autoscaling().await?.start_instance_refresh().auto_scaling_group_name(name);
        let call = call.preferences(preferences(of));
        let call = match of.desired {
            Some(template) => {
                let there = self.there(name).await?;
                let (policy, template) = made_of(of.instances, Some(&there), template);
                let desired = DesiredConfiguration::builder();
                let desired = desired.set_mixed_instances_policy(policy).set_launch_template(template);
                call.desired_configuration(desired.build())
            }
            None => call,
        };
        let answer = call.send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "StartInstanceRefresh", &error))?;
        Ok(answer.instance_refresh_id().unwrap_or_default().to_owned())
    }

    async fn refresh(&self, name: &str, id: Option<&str>) -> Result<Option<Refresh>, PortError> {
        let call = self.connection.autoscaling().await?.describe_instance_refreshes().auto_scaling_group_name(name);
        let call = call.set_instance_refresh_ids(id.map(|id| vec![id.to_owned()]));
        let answer = call.send().await.map_err(|error| call_error(SERVICE, "DescribeInstanceRefreshes", &error))?;
        Ok(answer.instance_refreshes().first().map(|refresh| {
            use InstanceRefreshStatus as Status;
            let state = match refresh.status() {
                Some(Status::Pending | Status::InProgress | Status::Baking | Status::Cancelling) => {
                    RefreshState::Running
                }
                Some(Status::RollbackInProgress) => RefreshState::RollingBack,
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

    async fn roll_back_refresh(&self, name: &str) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.rollback_instance_refresh().auto_scaling_group_name(name);
        let result = call.send().await.map(drop);
        or_if_gone(result.map_err(|error| call_error(SERVICE, "RollbackInstanceRefresh", &error)), ())
    }

    async fn cancel_refresh(&self, name: &str) -> Result<(), PortError> {
        let call = self.connection.autoscaling().await?.cancel_instance_refresh().auto_scaling_group_name(name);
        let result = call.send().await.map(drop);
        or_if_gone(result.map_err(|error| call_error(SERVICE, "CancelInstanceRefresh", &error)), ())
    }

    async fn failures(&self, name: &str) -> Result<Vec<(String, PortError)>, PortError> {
        let call = self.connection.autoscaling().await?.describe_scaling_activities().auto_scaling_group_name(name);
        let answer = call.max_records(20).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeScalingActivities", &error))?;
        let failed = answer.activities().iter().filter(|activity| {
            activity.status_code().is_some_and(|code| matches!(code.as_str(), "Failed" | "Cancelled"))
        });
        let words = failed.filter_map(|activity| {
            let text = activity.status_message().or(activity.description())?;
            let kind = kind_of_words(text).unwrap_or(FailureKind::Other);
            Some((activity.activity_id().unwrap_or_default().to_owned(), PortError::new(kind, text)))
        });
        Ok(words.collect())
    }
}

/// How a refresh goes. What is usual isn't said.
fn preferences(of: RefreshOf<'_>) -> RefreshPreferences {
    let wished = of.instances.instance_refresh.clone().unwrap_or_default();
    let unusual = |text: Option<String>| text.filter(|text| text != "Wait");
    let alarms = (!wished.alarms.is_empty())
        .then(|| AlarmSpecification::builder().set_alarms(Some(wished.alarms.clone())).build());
    let checkpoints = Some(wished.checkpoint_percentages).filter(|percentages| !percentages.is_empty());
    RefreshPreferences::builder()
        .min_healthy_percentage(of.healthy.0)
        .max_healthy_percentage(of.healthy.1)
        .set_instance_warmup(wished.instance_warmup)
        .skip_matching(wished.skip_matching != Some(false))
        .set_checkpoint_delay(wished.checkpoint_delay.filter(|_| checkpoints.is_some()))
        .set_checkpoint_percentages(checkpoints)
        .set_bake_time(wished.bake_time.filter(|seconds| *seconds > 0))
        .set_alarm_specification(alarms)
        .set_auto_rollback(wished.auto_rollback.filter(|on| *on))
        .set_scale_in_protected_instances(
            unusual(wished.scale_in_protected_instances).as_deref().map(ScaleInProtectedInstances::from),
        )
        .set_standby_instances(unusual(wished.standby_instances).as_deref().map(StandbyInstances::from))
        .build()
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
    let name = group.auto_scaling_group_name()?;
    let unfit = group.launch_configuration_name().map(|configuration| {
        format!(
            "the Auto Scaling group {name} makes its instances of the launch configuration {configuration}, which a release would replace; an environment needs a launch template"
        )
    });
    let mixed = group.mixed_instances_policy().filter(|policy| mixed_instances::is_beyond_us(policy));
    let unfit = unfit.or(mixed.map(|_| {
        format!(
            "an override of the mixed instances policy of the Auto Scaling group {name} has a launch template or an image of its own, which a release would not reach"
        )
    }));
    let member = |instance: &Instance| {
        let template = instance.launch_template().and_then(|template| {
            Some((template.launch_template_id()?.to_owned(), template.version().unwrap_or_default().to_owned()))
        });
        Some(SeenInstance {
            weight: instance.weighted_capacity().and_then(|weight| weight.parse().ok()),
            id: instance.instance_id()?.to_owned(),
            state: instance.lifecycle_state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
            healthy: instance.health_status() == Some("Healthy"),
            template,
        })
    };
    let tags: Tags = group.tags().iter().filter_map(pair).collect();
    let pinned = tags.get(PINNED_TAG).and_then(|text| text.parse().ok());
    let min_now = group.min_size().unwrap_or_default();
    Some(SeenScalingGroup {
        pinned,
        min_now,
        unfit,
        name: name.to_owned(),
        instances: Instances {
            subnet_ids: subnets.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
            min_size: pinned.unwrap_or(min_now),
            max_size: group.max_size().unwrap_or_default(),
            desired_capacity: group.desired_capacity(),
            health_check_type: group.health_check_type().map(str::to_owned),
            health_check_grace_period: group.health_check_grace_period(),
            default_instance_warmup: group.default_instance_warmup().filter(|seconds| *seconds >= 0),
            termination_policies: group.termination_policies().to_vec(),
            protect_from_scale_in: group.new_instances_protected_from_scale_in,
            capacity_rebalance: group.capacity_rebalance,
            max_instance_lifetime: group.max_instance_lifetime,
            capacity_distribution_strategy: group
                .availability_zone_distribution()
                .and_then(|it| it.capacity_distribution_strategy())
                .map(|strategy| strategy.as_str().to_owned()),
            instance_maintenance_policy: group.instance_maintenance_policy().and_then(|policy| {
                Some(MaintenancePolicy {
                    min_healthy_percentage: policy.min_healthy_percentage.filter(|percent| *percent >= 0)?,
                    max_healthy_percentage: policy.max_healthy_percentage?,
                })
            }),
            mixed_instances_policy: group.mixed_instances_policy().map(mixed_instances::seen),
            ..Instances::default()
        },
        template: used(group),
        target_groups: target_groups(group),
        tags,
        members: group.instances().iter().filter_map(member).collect(),
        deleting: group.status().is_some_and(|status| !status.is_empty()),
    })
}
