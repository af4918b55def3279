//! What of a stack is there, in the shape of its wish.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::argument::Field as _;
use crate::run::absence::believed;
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::ports::{
    SeenGroup, SeenScalingGroup, SeenSecurityGroup, SeenService, SeenTemplate, SeenVersion, StackPorts, Tags,
};
use crate::stack::{DEFINITION_TAG, Ids, Instances, Part, RELEASE_TAG, Spec, Target, TargetGroup};

/// Everything that was looked for, and was there.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The target group.
    pub group: Option<SeenGroup>,
    /// Its tags, unless it is adopted.
    pub group_tags: Tags,
    /// The security group.
    pub security_group: Option<SeenSecurityGroup>,
    /// The launch template.
    pub template: Option<SeenTemplate>,
    /// What the Auto Scaling group uses, where it is another version than is known.
    pub version: Option<SeenVersion>,
    /// The Auto Scaling group.
    pub scaling_group: Option<SeenScalingGroup>,
    /// The ECS service.
    pub service: Option<SeenService>,
    /// The tags of the revision that it runs, where it is another one than is known.
    pub revision_tags: Option<Tags>,
    /// The target group's targets, where they are fixed.
    pub targets: Vec<Target>,
    /// What the state knows.
    pub known: Ids,
}

/// Looks at everything that the state knows of. What isn't found is looked for again before it counts as gone.
///
/// # Errors
/// When AWS can't be asked.
pub async fn observe(ports: &StackPorts, spec: &Spec, ids: &Ids) -> Result<Seen, PortError> {
    believed(|| look(ports, spec, ids), |seen| seen.has_all(ids), Seen::or).await
}

/// Looks once, with as few calls as AWS allows.
async fn look(ports: &StackPorts, spec: &Spec, ids: &Ids) -> Result<Seen, PortError> {
    let own_group = spec.target_group.is_some();
    let group = async {
        let Some(arn) = &ids.target_group else { return Ok((None, Tags::new())) };
        let found = ports.target_groups.find(arn);
        let (found, tags) = futures::future::join(found, async {
            if own_group { ports.target_groups.tags(arn).await } else { Ok(Tags::new()) }
        })
        .await;
        let mut found = found?;
        if let Some(seen) = found.as_mut().filter(|_| own_group) {
            match ports.target_groups.attributes(seen).await {
                // Found a moment ago: one of the answers is an old one.
                Err(error) if error.kind == FailureKind::Gone => found = None,
                other => other?,
            }
        }
        Ok::<_, PortError>((found, tags?))
    };
    let targets = async {
        match (&ids.target_group, &spec.targets) {
            (Some(arn), Some(_)) => ports.target_groups.targets(arn).await,
            _ => Ok(Vec::new()),
        }
    };
    let service = service_of(ports, spec, ids);
    let (group, targets, service, instances) = futures::join!(group, targets, service, instances(ports, ids));
    let ((group, group_tags), (service, revision_tags)) = (group?, service?);
    Ok(Seen { group, group_tags, service, revision_tags, targets: targets?, known: ids.clone(), ..instances? })
}

async fn service_of(
    ports: &StackPorts,
    spec: &Spec,
    ids: &Ids,
) -> Result<(Option<SeenService>, Option<Tags>), PortError> {
    let (Some(arn), Some(service)) = (&ids.service, &spec.service) else { return Ok((None, None)) };
    let seen = ports.ecs.find(&service.cluster, arn).await?.filter(|service| !service.draining);
    let runs = seen.as_ref().and_then(|seen| seen.service.task_definition_arn.clone());
    // A revision never changes: only another one is worth a look.
    let tags = match runs.filter(|runs| Some(runs) != ids.task_definition.as_ref()) {
        Some(runs) => Some(ports.ecs.revision_tags(&runs).await?),
        None => None,
    };
    Ok((seen, tags))
}

async fn instances(ports: &StackPorts, ids: &Ids) -> Result<Seen, PortError> {
    let security_group = async {
        match &ids.security_group {
            Some(id) => ports.security_groups.find(id).await,
            None => Ok(None),
        }
    };
    let template = async {
        match &ids.template {
            Some(id) => ports.launch_templates.find(id).await,
            None => Ok(None),
        }
    };
    let scaling_group = async {
        match &ids.scaling_group {
            Some(name) => ports.autoscaling.find(name).await,
            None => Ok(None),
        }
    };
    let (security_group, template, scaling_group) = futures::join!(security_group, template, scaling_group);
    let scaling_group = scaling_group?.filter(|group| !group.deleting);
    // A version never changes: only another one is worth a look.
    let used = scaling_group.as_ref().and_then(|group| group.template.clone());
    let known = ids.template.clone().zip(ids.template_version.map(|version| version.to_string()));
    let version = match used.filter(|used| known.as_ref() != Some(used)) {
        Some((id, version)) => ports.launch_templates.version(&id, &version, ids.security_group.as_deref()).await?,
        None => None,
    };
    Ok(Seen { security_group: security_group?, template: template?, scaling_group, version, ..Seen::default() })
}

impl Seen {
    /// Whether everything that is known was found.
    fn has_all(&self, ids: &Ids) -> bool {
        (ids.target_group.is_none() || self.group.is_some())
            && (ids.security_group.is_none() || self.security_group.is_some())
            && (ids.template.is_none() || self.template.is_some())
            && (ids.scaling_group.is_none() || self.scaling_group.is_some())
            && (ids.service.is_none() || self.service.is_some())
    }

    /// What was seen, and what another look saw of what this one didn't.
    fn or(self, other: Seen) -> Seen {
        let group_tags = if self.group.is_some() { self.group_tags } else { other.group_tags };
        let (scaling_group, version) = match self.scaling_group {
            Some(group) => (Some(group), self.version),
            None => (other.scaling_group, other.version),
        };
        let (service, revision_tags) = match self.service {
            Some(service) => (Some(service), self.revision_tags),
            None => (other.service, other.revision_tags),
        };
        Seen {
            group: self.group.or(other.group),
            group_tags,
            security_group: self.security_group.or(other.security_group),
            template: self.template.or(other.template),
            version,
            scaling_group,
            service,
            revision_tags,
            targets: if self.targets.is_empty() { other.targets } else { self.targets },
            known: self.known,
        }
    }

    /// The parts that are there. A group that is adopted and there counts as one.
    pub fn there(&self) -> BTreeSet<Part> {
        self.ids().parts(self.is_attached())
    }

    /// The template and the number of its version that new instances get.
    pub(super) fn used(&self) -> Option<(String, i64)> {
        let (id, version) = self.scaling_group.as_ref()?.template.clone()?;
        let number = self.version.as_ref().map(|version| version.number).or(version.parse().ok());
        Some((id, number?))
    }

    /// How many instances there are of versions other than the one that new ones get, by what they are.
    pub fn former_instances(&self) -> BTreeMap<(String, String), usize> {
        let used = self.used().map(|(id, number)| (id, number.to_string()));
        let mut versions = self.scaling_group.as_ref().map(SeenScalingGroup::versions).unwrap_or_default();
        versions.retain(|of, _| Some(of) != used.as_ref());
        versions
    }

    /// The ids of what is there.
    pub fn ids(&self) -> Ids {
        // None while there are others: that is what the next plan sees of it.
        let version = self.used().map(|(_, number)| number).filter(|_| self.former_instances().is_empty());
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

    /// What a release would destroy, or can't be done to, by what it is about: the service, the Auto Scaling group, and the
    /// version of the launch template, of which nothing is said where it wasn't looked at.
    pub fn unfit(&self) -> BTreeMap<Part, Option<String>> {
        let service = self.service.as_ref().map(|service| (Part::Service, service.unfit.clone()));
        let group = self.scaling_group.as_ref().map(|group| (Part::ScalingGroup, group.unfit.clone()));
        let version = self.version.as_ref().map(|version| (Part::LaunchTemplate, version.unfit.clone()));
        service.into_iter().chain(group).chain(version).collect()
    }

    /// How many instances or tasks there are to be now.
    pub fn running(&self) -> Option<i32> {
        let instances = self.scaling_group.as_ref().and_then(|group| group.instances.desired_capacity);
        instances.or(self.service.as_ref().and_then(|service| service.service.desired_count))
    }

    /// The tags of each thing that was seen.
    pub fn tagged(&self) -> Vec<&Tags> {
        let group = self.group.is_some() && !self.group_tags.is_empty();
        let all = [
            group.then_some(&self.group_tags),
            self.security_group.as_ref().map(|group| &group.tags),
            self.template.as_ref().map(|template| &template.tags),
            self.scaling_group.as_ref().map(|group| &group.tags),
            self.service.as_ref().map(|service| &service.tags),
        ];
        all.into_iter().flatten().collect()
    }

    /// Of these tags those that everything has, and what the first that differs says instead of it.
    pub fn tags_of(&self, expected: &Tags) -> Tags {
        let things = self.tagged();
        let seen = |(key, value): (&String, &String)| {
            let other = things.iter().find(|tags| tags.get(key) != Some(value));
            let value = other.map_or(Some(value), |tags| tags.get(key));
            value.map(|value| (key.clone(), value.clone()))
        };
        expected.iter().filter_map(seen).collect()
    }

    /// What runs there, read from what runs: tags of the things around it are written last, and may never be.
    fn release(&self, spec: &Spec) -> Option<String> {
        let own = if spec.instances.is_some() {
            self.version.as_ref().map(|version| &version.tags)
        } else if spec.service.is_some() {
            self.revision_tags.as_ref()
        } else {
            (!self.group_tags.is_empty()).then_some(&self.group_tags)
        };
        match own {
            Some(tags) => tags.get(RELEASE_TAG).cloned(),
            None => spec.release.clone(),
        }
    }

    /// The stack as it was seen; what can't be seen is as it is expected to be. Both are settled.
    pub fn spec(&self, expected: &Spec) -> Spec {
        let mut spec = expected.clone();
        if let (Some(group), Some(own)) = (&self.group, &mut spec.target_group) {
            *own = assume(&group.group, own);
            spec.vpc_id = group.vpc_id.clone().or(spec.vpc_id);
        }
        spec.tags = self.tags_of(&expected.tags);
        spec.release = self.release(expected);
        if let Some(instances) = &mut spec.instances {
            if let Some(group) = &self.security_group {
                instances.set_rules(&group.rules);
            }
            if let Some(group) = &self.scaling_group {
                scaling(group, instances);
            }
            if let Some(version) = &self.version {
                template(&version.instances, instances);
            }
        }
        if let (Some(seen), Some(service)) = (&self.service, &mut spec.service) {
            let moved = seen.service.task_definition_arn != self.known.task_definition;
            let behind = self.group.as_ref().map_or_else(|| seen.service.clone(), |group| seen.behind(&group.arn));
            self::service(behind, service, moved);
            service.running = self.revision_tags.as_ref().and_then(|tags| tags.get(DEFINITION_TAG).cloned());
        }
        if spec.targets.is_some() && self.group.is_some() {
            spec.targets = Some(self.fixed_targets(expected));
        }
        spec.with_defaults()
    }

    fn fixed_targets(&self, expected: &Spec) -> Vec<Target> {
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
        seen.collect()
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
    TargetGroup::read(&json).unwrap_or_else(|| seen.clone())
}

fn scaling(seen: &SeenScalingGroup, instances: &mut Instances) {
    instances.take_group(&seen.instances);
    instances.min_size = seen.instances.min_size;
    instances.max_size = seen.instances.max_size;
    // Not the desired capacity: it belongs to scaling.
}

fn template(seen: &Instances, instances: &mut Instances) {
    let seen = seen.clone();
    instances.image_id = seen.image_id;
    instances.instance_type = seen.instance_type;
    // Text can be written either way.
    let encoded =
        seen.user_data.as_ref().map(|text| STANDARD.encode(text)).filter(|_| instances.user_data_base64.is_some());
    instances.user_data = seen.user_data.filter(|_| encoded.is_none());
    instances.user_data_base64 = seen.user_data_base64.or(encoded);
    instances.key_name = seen.key_name;
    instances.iam_instance_profile = seen.iam_instance_profile;
    instances.associate_public_ip_address = seen.associate_public_ip_address;
    instances.ebs_optimized = seen.ebs_optimized;
    instances.monitoring = seen.monitoring;
    instances.metadata_options = seen.metadata_options;
    instances.block_devices = seen.block_devices;
    instances.security_group_ids = seen.security_group_ids;
}

fn service(seen: crate::stack::Service, service: &mut crate::stack::Service, moved: bool) {
    if moved {
        // Another one than is known: what runs is known by its ARN.
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
    service.propagate_tags = seen.propagate_tags.or_else(|| Some("NONE".to_owned()));
    service.enable_ecs_managed_tags = seen.enable_ecs_managed_tags;
    if service.availability_zone_rebalancing.is_some() {
        service.availability_zone_rebalancing = seen.availability_zone_rebalancing;
    }
    service.alarms = seen.alarms;
}
