//! A stack with every default that AWS or the provider would take.

use super::spec::{
    HealthCheck, Instances, MixedInstances, SecurityRule, Service, Spec, Stickiness, Target, TargetGroup,
};
use crate::argument::{Always, Arguments as _};

impl Spec {
    /// With every default, and with lists whose order means nothing sorted: two specs that mean the same are equal then.
    #[must_use]
    pub fn with_defaults(mut self) -> Spec {
        self.fill(Always);
        let target_type = self.usual_target_type();
        if let Some(group) = &mut self.target_group {
            group.target_type.get_or_insert_with(|| target_type.to_owned());
            group.default_all();
            // Where the group is our own its ARN is an outcome, not a wish.
            self.target_group_arn = None;
        }
        if let Some(instances) = &mut self.instances {
            instances.default_all();
        }
        if let Some(service) = &mut self.service {
            service.default_all();
        }
        let port = self.target_group.as_ref().and_then(|group| group.port);
        if let Some(targets) = &mut self.targets {
            for target in targets.iter_mut() {
                target.port = target.port.or(port);
            }
            targets.sort();
            targets.dedup();
        }
        self
    }

    fn usual_target_type(&self) -> &'static str {
        usual_target_type(self.service.as_ref(), self.targets.as_deref())
    }

    /// Whose it is, for people and tags: `name/color`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.name, self.color)
    }

    /// Whether a live color is kept from harm: unless it is known that it isn't to be.
    pub fn is_protected(&self) -> bool {
        self.protect_live != Some(false)
    }
}

/// The type of target group that a service or fixed targets need; without either, instances do.
pub fn usual_target_type(service: Option<&Service>, targets: Option<&[Target]>) -> &'static str {
    match (service, targets) {
        (Some(service), _) if !service.subnet_ids.is_empty() => "ip",
        (None, Some(targets)) => targets.first().map_or("ip", Target::usual_type),
        _ => "instance",
    }
}

impl TargetGroup {
    /// Whether the group is an Application Load Balancer's.
    pub fn is_http(&self) -> bool {
        matches!(self.protocol.as_deref(), Some("HTTP" | "HTTPS"))
    }

    /// Whether its target is a function.
    pub fn is_lambda(&self) -> bool {
        self.target_type.as_deref() == Some("lambda")
    }

    fn default_all(&mut self) {
        let kind = self.kind();
        self.fill(kind);
        // Functions and load balancers as targets have no such attributes, and AWS refuses them.
        if TargetGroup::applies("stickiness", kind) {
            let is_written = self.stickiness.is_some();
            let stickiness = self.stickiness.get_or_insert_default();
            stickiness.enabled.get_or_insert(is_written);
            stickiness.fill(kind);
            if stickiness.enabled == Some(false) {
                // What a stickiness that is off would be like makes no difference.
                *stickiness = Stickiness { enabled: Some(false), ..Stickiness::default() };
            }
        }
        if TargetGroup::applies("target_group_health", kind) {
            let health = self.target_group_health.get_or_insert_default();
            health.dns_failover.get_or_insert_default().fill(Always);
            health.unhealthy_state_routing.get_or_insert_default().fill(Always);
        }
        let mut check = self.health_check.take().unwrap_or_default();
        check.default_all(self);
        self.health_check = Some(check);
    }
}

impl HealthCheck {
    /// Fills in what holds in a target group.
    pub fn default_all(&mut self, group: &TargetGroup) {
        self.fill(self.kind(group));
    }
}

impl Instances {
    fn default_all(&mut self) {
        self.fill(Always);
        self.metadata_options.get_or_insert_default().fill(Always);
        for device in &mut self.block_devices {
            device.fill(Always);
        }
        self.block_devices.sort_by(|a, b| a.device_name.cmp(&b.device_name));
        self.security_group_ids.sort();
        self.subnet_ids.sort();
        if let Some(kinds) = &mut self.health_check_type {
            let mut sorted: Vec<&str> = kinds.split(',').map(str::trim).collect();
            sorted.sort_unstable();
            *kinds = sorted.join(",");
        }
        self.egress.get_or_insert_with(|| {
            let (v4, v6) = (vec!["0.0.0.0/0".to_owned()], vec!["::/0".to_owned()]);
            vec![SecurityRule {
                protocol: "-1".to_owned(),
                cidr_blocks: v4,
                ipv6_cidr_blocks: v6,
                ..SecurityRule::default()
            }]
        });
        if self.termination_policies.is_empty() {
            self.termination_policies = vec!["Default".to_owned()];
        }
        let refresh = self.instance_refresh.get_or_insert_default();
        refresh.fill(Always);
        // All instances are protected then: a refresh that waits for them would never end.
        let protected = if self.protect_from_scale_in == Some(true) { "Refresh" } else { "Wait" };
        refresh.scale_in_protected_instances.get_or_insert_with(|| protected.to_owned());
        if !refresh.checkpoint_percentages.is_empty() {
            refresh.checkpoint_delay.get_or_insert(CHECKPOINT_DELAY);
        }
        if let Some(policy) = &mut self.mixed_instances_policy {
            policy.default_all();
        }
    }
}

/// Seconds, as RefreshPreferences has them.
const CHECKPOINT_DELAY: i32 = 3600;
/// As InstancesDistribution has it.
const SPOT_POOLS: i32 = 2;
/// The strategy that has pools.
pub const LOWEST_PRICE: &str = "lowest-price";

impl MixedInstances {
    fn default_all(&mut self) {
        let by_attributes = self.overrides.iter().any(|one| one.instance_requirements.is_some());
        let distribution = self.instances_distribution.get_or_insert_default();
        distribution.fill(Always);
        let strategy = if by_attributes { LOWEST_PRICE } else { "prioritized" };
        distribution.on_demand_allocation_strategy.get_or_insert_with(|| strategy.to_owned());
        if distribution.spot_allocation_strategy.as_deref() == Some(LOWEST_PRICE) {
            distribution.spot_instance_pools.get_or_insert(SPOT_POOLS);
        }
        for requirements in self.overrides.iter_mut().filter_map(|one| one.instance_requirements.as_mut()) {
            requirements.fill(Always);
            for list in [
                &mut requirements.cpu_manufacturers,
                &mut requirements.instance_generations,
                &mut requirements.allowed_instance_types,
                &mut requirements.excluded_instance_types,
                &mut requirements.local_storage_types,
                &mut requirements.accelerator_types,
                &mut requirements.accelerator_manufacturers,
                &mut requirements.accelerator_names,
            ] {
                list.sort();
                list.dedup();
            }
        }
    }
}

impl Service {
    fn default_all(&mut self) {
        self.fill(self.kind());
        for provider in &mut self.capacity_provider_strategy {
            provider.fill(Always);
        }
        self.capacity_provider_strategy.sort();
        self.subnet_ids.sort();
        self.security_group_ids.sort();
        self.circuit_breaker.get_or_insert_default().fill(Always);
        // A revision that is registered elsewhere has none of our tags.
        let tagged = if self.task_definition_arn.is_some() { "SERVICE" } else { "TASK_DEFINITION" };
        self.propagate_tags.get_or_insert_with(|| tagged.to_owned());
        if let Some(alarms) = &mut self.alarms {
            alarms.fill(Always);
            alarms.alarm_names.sort();
            alarms.alarm_names.dedup();
        }
    }
}

impl Target {
    /// The type of target group that it belongs in.
    fn usual_type(&self) -> &'static str {
        match self.id.as_str() {
            id if id.starts_with("i-") => "instance",
            id if id.starts_with("arn:") && id.contains(":lambda:") => "lambda",
            id if id.starts_with("arn:") && id.contains(":loadbalancer/app/") => "alb",
            _ => "ip",
        }
    }
}
