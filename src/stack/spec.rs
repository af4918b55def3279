//! One colour's stack in the shape of its configuration, with the defaults that hold where nothing is said.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The whole stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct Spec {
    pub name: String,
    pub color: String,
    pub release: Option<String>,
    pub vpc_id: Option<String>,
    pub target_group: Option<TargetGroup>,
    /// Adopted if `target_group` isn't there.
    pub target_group_arn: Option<String>,
    pub listener_arn: Option<String>,
    pub instances: Option<Instances>,
    pub service: Option<Service>,
    pub targets: Option<Vec<Target>>,
    pub protect_live: Option<bool>,
    pub tags: BTreeMap<String, String>,
}

/// A target group. What doesn't apply to its protocol is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct TargetGroup {
    pub port: Option<i32>,
    pub protocol: Option<String>,
    pub protocol_version: Option<String>,
    pub target_type: Option<String>,
    pub ip_address_type: Option<String>,
    pub deregistration_delay: Option<i32>,
    pub slow_start: Option<i32>,
    pub algorithm: Option<String>,
    pub anomaly_mitigation: Option<bool>,
    pub cross_zone: Option<String>,
    pub preserve_client_ip: Option<bool>,
    pub proxy_protocol_v2: Option<bool>,
    pub connection_termination: Option<bool>,
    pub multi_value_headers: Option<bool>,
    pub stickiness: Option<Stickiness>,
    pub target_group_health: Option<GroupHealth>,
    pub health_check: Option<HealthCheck>,
}

/// Stickiness of a client to a target within the group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct Stickiness {
    pub enabled: Option<bool>,
    pub r#type: Option<String>,
    pub cookie_duration: Option<i32>,
    pub cookie_name: Option<String>,
}

/// When the group counts as healthy. AWS has counts and percentages as text, since either can be `off`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct GroupHealth {
    pub dns_failover: Option<Counts>,
    pub unhealthy_state_routing: Option<Counts>,
}

/// The least number and share of healthy targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct Counts {
    pub minimum_healthy_targets_count: Option<String>,
    pub minimum_healthy_targets_percentage: Option<String>,
}

/// How the load balancer checks a target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct HealthCheck {
    pub enabled: Option<bool>,
    pub protocol: Option<String>,
    pub port: Option<String>,
    pub path: Option<String>,
    pub matcher: Option<String>,
    pub interval: Option<i32>,
    pub timeout: Option<i32>,
    pub healthy_threshold: Option<i32>,
    pub unhealthy_threshold: Option<i32>,
}

/// An Auto Scaling group of instances, with their launch template and security group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct Instances {
    pub image_id: String,
    pub instance_type: String,
    pub user_data: Option<String>,
    pub user_data_base64: Option<String>,
    pub key_name: Option<String>,
    pub iam_instance_profile: Option<String>,
    pub associate_public_ip_address: Option<bool>,
    pub ebs_optimized: Option<bool>,
    pub monitoring: Option<bool>,
    pub metadata_options: Option<MetadataOptions>,
    pub block_devices: Vec<BlockDevice>,
    pub security_group_ids: Vec<String>,
    pub ingress: Vec<SecurityRule>,
    pub egress: Option<Vec<SecurityRule>>,
    pub subnet_ids: Vec<String>,
    pub min_size: i32,
    pub max_size: i32,
    pub desired_capacity: Option<i32>,
    pub health_check_type: Option<String>,
    pub health_check_grace_period: Option<i32>,
    pub default_instance_warmup: Option<i32>,
    pub termination_policies: Vec<String>,
    pub instance_refresh: Option<InstanceRefresh>,
}

/// The instance metadata service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct MetadataOptions {
    pub http_endpoint: Option<String>,
    pub http_tokens: Option<String>,
    pub http_put_response_hop_limit: Option<i32>,
    pub instance_metadata_tags: Option<String>,
}

/// A volume of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct BlockDevice {
    pub device_name: String,
    pub volume_size: Option<i32>,
    pub volume_type: Option<String>,
    pub iops: Option<i32>,
    pub throughput: Option<i32>,
    pub encrypted: Option<bool>,
    pub kms_key_id: Option<String>,
    pub snapshot_id: Option<String>,
    pub delete_on_termination: Option<bool>,
}

/// A rule of a security group as it is written: one protocol and range of ports, many peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct SecurityRule {
    pub protocol: String,
    pub from_port: Option<i32>,
    pub to_port: Option<i32>,
    pub cidr_blocks: Vec<String>,
    pub ipv6_cidr_blocks: Vec<String>,
    pub prefix_list_ids: Vec<String>,
    pub security_group_ids: Vec<String>,
    #[serde(rename = "self")]
    pub own: Option<bool>,
    pub description: Option<String>,
}

/// How instances are replaced when their template changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct InstanceRefresh {
    pub min_healthy_percentage: Option<i32>,
    pub max_healthy_percentage: Option<i32>,
    pub instance_warmup: Option<i32>,
    pub timeout: Option<String>,
}

/// An ECS service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct Service {
    pub cluster: String,
    pub task_definition: Option<String>,
    pub task_definition_arn: Option<String>,
    pub image: Option<String>,
    pub container_name: Option<String>,
    pub container_port: Option<i32>,
    pub desired_count: Option<i32>,
    pub launch_type: Option<String>,
    pub platform_version: Option<String>,
    pub capacity_provider_strategy: Vec<CapacityProvider>,
    pub subnet_ids: Vec<String>,
    pub security_group_ids: Vec<String>,
    pub assign_public_ip: Option<bool>,
    pub circuit_breaker: Option<CircuitBreaker>,
    pub health_check_grace_period: Option<i32>,
    pub minimum_healthy_percent: Option<i32>,
    pub maximum_percent: Option<i32>,
    pub enable_execute_command: Option<bool>,
    pub keep_revisions: Option<i32>,
    /// The digest of the definition that was seen to run, where one of ours does.
    #[serde(skip)]
    pub running: Option<String>,
}

/// A part of a capacity provider strategy.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct CapacityProvider {
    pub capacity_provider: String,
    pub weight: Option<i32>,
    pub base: Option<i32>,
}

/// The deployment circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct CircuitBreaker {
    pub enable: Option<bool>,
    pub rollback: Option<bool>,
}

/// A fixed target.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented where users read it: in the resource's schema")]
pub struct Target {
    pub id: String,
    pub port: Option<i32>,
    pub availability_zone: Option<String>,
}

fn fill<T>(slot: &mut Option<T>, default: T) {
    slot.get_or_insert(default);
}

fn text(slot: &mut Option<String>, default: &str) {
    slot.get_or_insert_with(|| default.to_owned());
}

impl Spec {
    /// With every default that AWS or the provider would take, and with lists whose order means nothing sorted: two
    /// specs that mean the same are equal then.
    #[must_use]
    pub fn settled(mut self) -> Spec {
        fill(&mut self.protect_live, true);
        let target_type = self.usual_target_type();
        if let Some(group) = &mut self.target_group {
            group.settle(target_type);
        }
        if self.target_group.is_some() {
            // Where the group is our own its ARN is an outcome, not a wish.
            self.target_group_arn = None;
        }
        if let Some(instances) = &mut self.instances {
            instances.settle();
        }
        if let Some(service) = &mut self.service {
            service.settle();
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
        match (&self.service, &self.targets) {
            (Some(service), _) if !service.subnet_ids.is_empty() => "ip",
            (None, Some(_)) => "ip",
            _ => "instance",
        }
    }

    /// Whose it is, for people and tags: `name/color`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.name, self.color)
    }

    /// Whether a live colour is kept from harm.
    pub fn is_protected(&self) -> bool {
        self.protect_live != Some(false)
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

    /// Defaults as the API reference of CreateTargetGroup and of the group's attributes has them.
    fn settle(&mut self, target_type: &str) {
        text(&mut self.target_type, target_type);
        let lambda = self.is_lambda();
        if !lambda {
            text(&mut self.protocol, "HTTP");
            text(&mut self.ip_address_type, "ipv4");
            fill(&mut self.deregistration_delay, 300);
        }
        text(&mut self.cross_zone, "use_load_balancer_configuration");
        let http = self.is_http();
        if http {
            text(&mut self.protocol_version, "HTTP1");
            fill(&mut self.slow_start, 0);
            text(&mut self.algorithm, "round_robin");
            fill(&mut self.anomaly_mitigation, false);
        } else if lambda {
            fill(&mut self.multi_value_headers, false);
        } else {
            let udp = matches!(self.protocol.as_deref(), Some("UDP" | "TCP_UDP"));
            let ip_tcp = self.target_type.as_deref() == Some("ip") && !udp;
            fill(&mut self.preserve_client_ip, !ip_tcp);
            fill(&mut self.proxy_protocol_v2, false);
            fill(&mut self.connection_termination, false);
        }
        if !lambda {
            self.stickiness.get_or_insert_default().settle(http);
        }
        let health = self.target_group_health.get_or_insert_default();
        for counts in [&mut health.dns_failover, &mut health.unhealthy_state_routing] {
            let counts = counts.get_or_insert_default();
            text(&mut counts.minimum_healthy_targets_count, "1");
            text(&mut counts.minimum_healthy_targets_percentage, "off");
        }
        let grpc = self.protocol_version.as_deref() == Some("GRPC");
        let kind = if lambda {
            Checked::Lambda
        } else if grpc {
            Checked::Grpc
        } else if http {
            Checked::Http
        } else {
            Checked::Network
        };
        self.health_check.get_or_insert_default().settle(kind);
    }
}

/// What is checked decides what is usual.
#[derive(Clone, Copy, PartialEq)]
enum Checked {
    Http,
    Grpc,
    Network,
    Lambda,
}

impl Stickiness {
    fn settle(&mut self, http: bool) {
        // Whoever writes the block wants it on.
        let written = *self != Stickiness::default();
        fill(&mut self.enabled, written);
        text(&mut self.r#type, if http { "lb_cookie" } else { "source_ip" });
        if self.r#type.as_deref().is_some_and(|kind| kind.ends_with("cookie")) {
            fill(&mut self.cookie_duration, 86_400);
        }
        if self.enabled == Some(false) {
            // What a stickiness that is off would be like makes no difference.
            *self = Stickiness { enabled: Some(false), ..Stickiness::default() };
        }
    }
}

impl HealthCheck {
    fn settle(&mut self, checked: Checked) {
        fill(&mut self.enabled, checked != Checked::Lambda);
        if checked != Checked::Lambda {
            text(&mut self.protocol, if checked == Checked::Network { "TCP" } else { "HTTP" });
            text(&mut self.port, "traffic-port");
        }
        let by_http = checked == Checked::Lambda || matches!(self.protocol.as_deref(), Some("HTTP" | "HTTPS"));
        if by_http {
            text(&mut self.path, if checked == Checked::Grpc { "/AWS.ALB/healthcheck" } else { "/" });
            let codes = match checked {
                Checked::Grpc => "12",
                Checked::Network => "200-399",
                _ => "200",
            };
            text(&mut self.matcher, codes);
        }
        fill(&mut self.interval, if checked == Checked::Lambda { 35 } else { 30 });
        let patience = match (checked, by_http) {
            (Checked::Lambda, _) => 30,
            (Checked::Network, true) => 6,
            (Checked::Network, false) => 10,
            _ => 5,
        };
        fill(&mut self.timeout, patience);
        fill(&mut self.healthy_threshold, 5);
        fill(&mut self.unhealthy_threshold, 2);
    }
}

impl Instances {
    fn settle(&mut self) {
        fill(&mut self.ebs_optimized, false);
        fill(&mut self.monitoring, false);
        let metadata = self.metadata_options.get_or_insert_default();
        text(&mut metadata.http_endpoint, "enabled");
        text(&mut metadata.http_tokens, "required");
        fill(&mut metadata.http_put_response_hop_limit, 1);
        text(&mut metadata.instance_metadata_tags, "disabled");
        for device in &mut self.block_devices {
            fill(&mut device.delete_on_termination, true);
        }
        self.block_devices.sort_by(|a, b| a.device_name.cmp(&b.device_name));
        self.security_group_ids.sort();
        self.subnet_ids.sort();
        self.egress.get_or_insert_with(|| {
            let (v4, v6) = (vec!["0.0.0.0/0".to_owned()], vec!["::/0".to_owned()]);
            vec![SecurityRule {
                protocol: "-1".to_owned(),
                cidr_blocks: v4,
                ipv6_cidr_blocks: v6,
                ..SecurityRule::default()
            }]
        });
        text(&mut self.health_check_type, "ELB");
        fill(&mut self.health_check_grace_period, 300);
        if self.termination_policies.is_empty() {
            self.termination_policies = vec!["Default".to_owned()];
        }
        let refresh = self.instance_refresh.get_or_insert_default();
        text(&mut refresh.timeout, "30m");
    }
}

impl Service {
    fn settle(&mut self) {
        if self.capacity_provider_strategy.is_empty() {
            text(&mut self.launch_type, if self.subnet_ids.is_empty() { "EC2" } else { "FARGATE" });
        }
        for provider in &mut self.capacity_provider_strategy {
            fill(&mut provider.weight, 0);
            fill(&mut provider.base, 0);
        }
        self.capacity_provider_strategy.sort();
        self.subnet_ids.sort();
        self.security_group_ids.sort();
        fill(&mut self.assign_public_ip, false);
        let breaker = self.circuit_breaker.get_or_insert_default();
        fill(&mut breaker.enable, true);
        fill(&mut breaker.rollback, true);
        fill(&mut self.health_check_grace_period, 0);
        fill(&mut self.minimum_healthy_percent, 100);
        fill(&mut self.maximum_percent, 200);
        fill(&mut self.enable_execute_command, false);
    }
}
