//! What follows from a stack's arguments: which kind each part is, and what a service is to run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::kinds::{CheckKind, GroupKind, ServiceKind};
use super::spec::{HealthCheck, Instances, Service, TargetGroup};
use super::task_definition::TaskDefinition;

impl TargetGroup {
    /// Whether it keeps a client at a target.
    pub fn keeps_clients(&self) -> bool {
        self.stickiness.as_ref().is_some_and(|stickiness| stickiness.enabled != Some(false))
    }

    /// Which kind it is.
    pub fn kind(&self) -> GroupKind {
        let protocol = self.protocol.as_deref().unwrap_or("HTTP");
        match (self.target_type.as_deref(), protocol) {
            (Some("lambda"), _) => GroupKind::Lambda,
            (Some("alb"), _) => GroupKind::LoadBalancer,
            (_, "HTTP" | "HTTPS") => GroupKind::Application,
            (_, "UDP" | "TCP_UDP") => GroupKind::NetworkUdp,
            (Some("ip"), _) => GroupKind::NetworkByAddress,
            _ => GroupKind::Network,
        }
    }
}

impl Instances {
    /// With user data that is text as text, however it is written: what instances get is the same.
    #[must_use]
    pub fn with_plain_data(&self) -> Instances {
        let mut plain = self.clone();
        let decoded = self.user_data_base64.as_ref().and_then(|data| STANDARD.decode(data).ok());
        if let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
            (plain.user_data, plain.user_data_base64) = (Some(text), None);
        }
        plain
    }

    /// With user data as a generated configuration gives it back byte by byte: Terraform writes text that is JSON as
    /// `jsonencode(…)`, which has other white space.
    pub fn write_json_data(&mut self) {
        let is_json = |text: &String| {
            serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object() || value.is_array())
        };
        if let Some(text) = self.user_data.take_if(|text| is_json(text)) {
            self.user_data_base64 = Some(STANDARD.encode(text));
        }
    }

    /// Takes over what belongs to the Auto Scaling group, but for its size.
    pub fn take_group(&mut self, other: &Instances) {
        self.subnet_ids.clone_from(&other.subnet_ids);
        self.health_check_type.clone_from(&other.health_check_type);
        self.health_check_grace_period = other.health_check_grace_period;
        self.default_instance_warmup = other.default_instance_warmup;
        self.termination_policies.clone_from(&other.termination_policies);
        self.protect_from_scale_in = other.protect_from_scale_in;
        self.capacity_rebalance = other.capacity_rebalance;
        self.max_instance_lifetime = other.max_instance_lifetime;
        self.capacity_distribution_strategy.clone_from(&other.capacity_distribution_strategy);
        self.instance_maintenance_policy.clone_from(&other.instance_maintenance_policy);
        self.mixed_instances_policy.clone_from(&other.mixed_instances_policy);
    }
}

impl HealthCheck {
    /// Which kind it is in a target group.
    pub fn kind(&self, group: &TargetGroup) -> CheckKind {
        match (group.kind(), self.protocol.as_deref()) {
            (GroupKind::Lambda, _) => CheckKind::Lambda,
            (GroupKind::Application, _) if group.protocol_version.as_deref() == Some("GRPC") => CheckKind::Grpc,
            (GroupKind::Application, _) => CheckKind::Http,
            (_, Some("HTTPS")) => CheckKind::NetworkHttps,
            (_, Some("HTTP")) | (GroupKind::LoadBalancer, None) => CheckKind::NetworkHttp,
            _ => CheckKind::Tcp,
        }
    }
}

impl Service {
    /// Which kind it is.
    pub fn kind(&self) -> ServiceKind {
        match (self.capacity_provider_strategy.is_empty(), self.subnet_ids.is_empty()) {
            (false, _) => ServiceKind::ByCapacityProviders,
            (true, false) => ServiceKind::InSubnets,
            (true, true) => ServiceKind::OnInstances,
        }
    }

    /// Its task definition with its image in place; none if it names one by ARN.
    ///
    /// # Errors
    /// What is wrong with the text, or why the image has no place in it.
    pub fn definition(&self) -> Result<Option<TaskDefinition>, String> {
        let Some(text) = &self.task_definition else { return Ok(None) };
        let mut definition = TaskDefinition::parse(text)?;
        if let Some(image) = &self.image {
            definition.set_image(image, self.container_name.as_deref())?;
        }
        Ok(Some(definition))
    }

    /// Whether a service that is to be would run the same task, whatever white space their texts have.
    pub fn runs_like(&self, other: &Service) -> bool {
        let wished = other.definition().ok().flatten();
        if let (Some(running), Some(wished)) = (&self.running, &wished) {
            return *running == wished.digest();
        }
        if self.task_definition_arn != other.task_definition_arn {
            return false;
        }
        match (self.definition(), other.definition()) {
            (Ok(one), Ok(other)) => one == other,
            // One of them is no task definition.
            _ => self.task_definition == other.task_definition && self.image == other.image,
        }
    }
}
