//! What of a stack is there, in the shape of its wish.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Ids;
use crate::aws::{SeenGroup, SeenScalingGroup, SeenSecurityGroup, SeenService, SeenTemplate, Services};
use crate::run::ports::PortError;
use crate::stack::{Instances, Part, RELEASE_TAG, Spec, Target, TargetGroup};

/// Everything that was looked for, and was there.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub group: Option<SeenGroup>,
    pub group_tags: BTreeMap<String, String>,
    pub security_group: Option<SeenSecurityGroup>,
    pub template: Option<SeenTemplate>,
    /// The template's part of the instances and their tags, where the group uses another version than is known.
    pub version: Option<(Instances, BTreeMap<String, String>)>,
    pub scaling_group: Option<SeenScalingGroup>,
    pub service: Option<SeenService>,
    pub targets: Vec<Target>,
    /// What the state knows.
    pub known: Ids,
}

/// Looks at everything that the state knows of, with as few calls as AWS allows.
pub(super) async fn look(services: &Services, spec: &Spec, ids: &Ids) -> Result<Seen, PortError> {
    let own_group = spec.target_group.is_some();
    let group = async {
        let Some(arn) = &ids.target_group else { return Ok((None, BTreeMap::new())) };
        let found = services.target_groups.find(arn);
        let (found, tags) = futures::future::join(found, async {
            if own_group { services.target_groups.tags(arn).await } else { Ok(BTreeMap::new()) }
        })
        .await;
        let mut found = found?;
        if let Some(found) = found.as_mut().filter(|_| own_group) {
            services.target_groups.attributes(found).await?;
        }
        Ok::<_, PortError>((found, tags?))
    };
    let targets = async {
        match (&ids.target_group, &spec.targets) {
            (Some(arn), Some(_)) => services.target_groups.targets(arn).await,
            _ => Ok(Vec::new()),
        }
    };
    let service = async {
        match (&ids.service, &spec.service) {
            (Some(arn), Some(service)) => services.ecs.find(&service.cluster, arn).await,
            _ => Ok(None),
        }
    };
    let (group, targets, service, instances) = futures::join!(group, targets, service, instances(services, ids));
    let ((group, group_tags), (security_group, template, scaling_group, version)) = (group?, instances?);
    let service = service?.filter(|service| !service.draining);
    Ok(Seen {
        group,
        group_tags,
        security_group,
        template,
        version,
        scaling_group,
        service,
        targets: targets?,
        known: ids.clone(),
    })
}

type SeenInstances = (
    Option<SeenSecurityGroup>,
    Option<SeenTemplate>,
    Option<SeenScalingGroup>,
    Option<(Instances, BTreeMap<String, String>)>,
);

async fn instances(services: &Services, ids: &Ids) -> Result<SeenInstances, PortError> {
    let security_group = async {
        match &ids.security_group {
            Some(id) => services.ec2.security_group(id).await,
            None => Ok(None),
        }
    };
    let template = async {
        match &ids.template {
            Some(id) => services.ec2.template(id).await,
            None => Ok(None),
        }
    };
    let scaling_group = async {
        match &ids.scaling_group {
            Some(name) => services.autoscaling.find(name).await,
            None => Ok(None),
        }
    };
    let (security_group, template, scaling_group) = futures::join!(security_group, template, scaling_group);
    let scaling_group = scaling_group?.filter(|group| !group.going);
    // A version never changes: only another one is worth a look.
    let used = scaling_group.as_ref().and_then(|group| group.template.clone());
    let known = ids.template.clone().zip(ids.template_version.map(|version| version.to_string()));
    let version = match used.filter(|used| known.as_ref() != Some(used)) {
        Some((id, version)) => services.ec2.version(&id, &version, ids.security_group.as_deref()).await?,
        None => None,
    };
    Ok((security_group?, template?, scaling_group, version))
}

impl Seen {
    /// The parts that are there. A group that is adopted and there counts as one.
    pub fn there(&self) -> BTreeSet<Part> {
        self.ids().parts(self.is_attached())
    }

    /// The ids of what is there.
    pub fn ids(&self) -> Ids {
        let used = self.scaling_group.as_ref().and_then(|group| group.template.as_ref());
        // None while there are others: that is what the next plan sees of it.
        let mixed = self.scaling_group.as_ref().is_some_and(|group| group.mixed);
        let version = used.filter(|_| !mixed).and_then(|(_, version)| version.parse().ok());
        let known = self.known.template_version.filter(|_| self.scaling_group.is_none() && self.template.is_some());
        Ids {
            target_group: self.group.as_ref().map(|group| group.arn.clone()),
            security_group: self.security_group.as_ref().map(|group| group.id.clone()),
            template: self.template.as_ref().map(|template| template.id.clone()),
            template_version: version.or(known),
            scaling_group: self.scaling_group.as_ref().map(|group| group.name.clone()),
            service: self.service.as_ref().map(|service| service.arn.clone()),
            task_definition: self.service.as_ref().and_then(|service| service.service.task_definition_arn.clone()),
        }
    }

    /// Whether the instances or tasks are to be found behind the target group.
    pub fn is_attached(&self) -> bool {
        let Some(group) = &self.group else { return true };
        let scaling = self.scaling_group.as_ref().is_none_or(|scaling| scaling.target_groups.contains(&group.arn));
        let service = self.service.as_ref().is_none_or(|service| service.target_groups.contains(&group.arn));
        scaling && service
    }

    /// How many instances or tasks there are to be now.
    pub fn running(&self) -> Option<i32> {
        let instances = self.scaling_group.as_ref().and_then(|group| group.instances.desired_capacity);
        instances.or(self.service.as_ref().and_then(|service| service.service.desired_count))
    }

    /// The stack as it was seen; what can't be seen is as it is expected to be. Both are settled.
    pub fn spec(&self, expected: &Spec) -> Spec {
        let mut spec = expected.clone();
        if let (Some(group), Some(own)) = (&self.group, &mut spec.target_group) {
            *own = assume(&group.group, own);
            spec.vpc_id = group.vpc_id.clone().or(spec.vpc_id);
            tags(&self.group_tags, &mut spec);
        }
        if let Some(instances) = &mut spec.instances {
            if let Some(group) = &self.security_group {
                instances.set_rules(&group.rules);
            }
            if let Some(group) = &self.scaling_group {
                scaling(group, instances);
            }
            if let Some((version, _)) = &self.version {
                template(version, instances);
            }
        }
        if let Some((_, tags)) = &self.version {
            spec.release = tags.get(RELEASE_TAG).cloned();
        }
        if let Some(group) = &self.scaling_group {
            tags(&group.tags, &mut spec);
        }
        if let Some(seen) = &self.service {
            tags(&seen.tags, &mut spec);
            if let Some(service) = &mut spec.service {
                let moved = seen.service.task_definition_arn != self.known.task_definition;
                self::service(&seen.service, service, moved);
            }
        }
        if spec.targets.is_some() && self.group.is_some() {
            let wished = |target: &Target| expected.targets.iter().flatten().find(|wished| wished.id == target.id);
            let seen = self.targets.iter().map(|target| {
                let mut target = target.clone();
                let wished = wished(&target);
                // AWS answers a zone also where none was named.
                target.availability_zone = wished.and_then(|wished| wished.availability_zone.clone());
                // Left out, it is the group's.
                let left_out = wished.is_some_and(|wished| wished.port.is_none());
                if left_out && self.group.as_ref().is_some_and(|group| group.group.port == target.port) {
                    target.port = None;
                }
                target
            });
            spec.targets = Some(seen.collect());
        }
        spec.settled()
    }
}

/// A group as AWS answers it. What an older answer lacks is taken to be as expected.
fn assume(seen: &TargetGroup, expected: &TargetGroup) -> TargetGroup {
    fn fill(seen: &mut serde_json::Value, expected: &serde_json::Value) {
        match (seen, expected) {
            (serde_json::Value::Object(seen), serde_json::Value::Object(expected)) => {
                for (name, value) in expected {
                    fill(seen.entry(name.clone()).or_insert(serde_json::Value::Null), value);
                }
            }
            (seen, expected) if seen.is_null() => *seen = expected.clone(),
            _ => {}
        }
    }
    let (mut json, expected) = (serde_json::json!(seen), serde_json::json!(expected));
    fill(&mut json, &expected);
    // What doesn't apply to the protocol means nothing, whatever is answered.
    for (name, value) in json.as_object_mut().into_iter().flatten() {
        if expected.get(name).is_none_or(serde_json::Value::is_null) {
            value.take();
        }
    }
    serde_json::from_value(json).unwrap_or_else(|_| seen.clone())
}

/// Tags that the user wished and that are missing or say something else. Tags of others are nobody's drift.
fn tags(seen: &BTreeMap<String, String>, spec: &mut Spec) {
    let kept = spec.tags.keys().filter_map(|key| Some((key.clone(), seen.get(key)?.clone())));
    spec.tags = kept.collect();
    if spec.release.is_some() {
        spec.release = seen.get(RELEASE_TAG).cloned();
    }
}

fn scaling(seen: &SeenScalingGroup, instances: &mut Instances) {
    let seen = seen.instances.clone();
    instances.subnet_ids = seen.subnet_ids;
    instances.min_size = seen.min_size;
    instances.max_size = seen.max_size;
    // Not the desired capacity: it belongs to scaling.
    instances.health_check_type = seen.health_check_type;
    instances.health_check_grace_period = seen.health_check_grace_period;
    instances.default_instance_warmup = seen.default_instance_warmup;
    instances.termination_policies = seen.termination_policies;
}

fn template(seen: &Instances, instances: &mut Instances) {
    let seen = seen.clone();
    instances.image_id = seen.image_id;
    instances.instance_type = seen.instance_type;
    instances.user_data = seen.user_data;
    instances.key_name = seen.key_name;
    instances.iam_instance_profile = seen.iam_instance_profile;
    instances.associate_public_ip_address = seen.associate_public_ip_address;
    instances.ebs_optimized = seen.ebs_optimized;
    instances.monitoring = seen.monitoring;
    instances.metadata_options = seen.metadata_options;
    instances.block_devices = seen.block_devices;
    instances.security_group_ids = seen.security_group_ids;
}

fn service(seen: &crate::stack::Service, service: &mut crate::stack::Service, moved: bool) {
    let seen = seen.clone();
    if moved {
        // Somebody else deployed: what runs is known by its ARN.
        service.task_definition = None;
        service.image = None;
        service.task_definition_arn = seen.task_definition_arn;
    }
    if service.container_name.is_some() {
        service.container_name = seen.container_name;
    }
    service.container_port = seen.container_port;
    if seen.capacity_provider_strategy.is_empty() {
        service.launch_type = seen.launch_type.or(service.launch_type.take());
    }
    if service.platform_version.is_some() {
        service.platform_version = seen.platform_version;
    }
    service.capacity_provider_strategy = seen.capacity_provider_strategy;
    service.subnet_ids = seen.subnet_ids;
    service.security_group_ids = seen.security_group_ids;
    service.assign_public_ip = seen.assign_public_ip;
    service.circuit_breaker = seen.circuit_breaker;
    service.health_check_grace_period = seen.health_check_grace_period;
    service.minimum_healthy_percent = seen.minimum_healthy_percent.or(service.minimum_healthy_percent);
    service.maximum_percent = seen.maximum_percent.or(service.maximum_percent);
    service.enable_execute_command = seen.enable_execute_command;
}
