//! One color's stack in the shape of its configuration: every argument of an environment, declared once.
//!
//! Defaults, values and ranges are those of AWS's API references: CreateTargetGroup, TargetGroupAttribute and Matcher of
//! Elastic Load Balancing, RequestLaunchTemplateData of EC2, CreateAutoScalingGroup and RefreshPreferences of Auto Scaling,
//! CreateService of ECS. Where a default is the provider's own, the documentation of the argument says why.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::accepts;
use super::kinds::{CheckKind, GroupKind, ServiceKind};
use crate::argument::{Arguments, rules};

/// The whole stack. What is `None` or empty was not written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Apart)]
pub struct Spec {
    /// The name that all colors of the application share: letters, digits and dashes, a letter first and no dash last, at
    /// most 64 characters, not beginning with `internal-`.
    #[argument(required, text = accepts::name, change = Replaces)]
    pub name: String,
    /// The color of this environment: lower-case letters, digits and dashes, a letter first and no dash last, at most 32
    /// characters.
    #[argument(required, text = rules::color, change = Replaces)]
    pub color: String,
    /// The region. If omitted, it is that of the provider.
    #[serde(skip)]
    #[argument(computed, text = rules::region, change = Replaces)]
    pub region: Option<String>,
    /// The release that runs here, in your words, such as a version or a commit: at most 256 letters, digits, spaces and
    /// `+ - = . _ : / @`. It is tagged on everything that is made.
    /// Instances and tasks carry the tag too, so a new release replaces them even where nothing else changed.
    #[argument(text = rules::tag_value)]
    pub release: Option<String>,
    /// The VPC of the target group and the security group. Required by `instances`, and by every `target_group` that is not
    /// of type `lambda`.
    #[argument(not_empty, change = Replaces)]
    pub vpc_id: Option<String>,
    /// A target group that the environment makes. Adding or removing it forces a new resource. Exactly one of `target_group` and `target_group_arn` is required.
    pub target_group: Option<TargetGroup>,
    /// An existing target group to adopt: its settings are not changed, and it is not deleted. Without it, the ARN of the target
    /// group that the environment makes. Exactly one of `target_group` and
    /// `target_group_arn` is required.
    #[argument(computed, text = accepts::target_group_arn, change = Replaces)]
    pub target_group_arn: Option<String>,
    /// A listener of the Application Load Balancer in front of the colors. The environment makes a rule there that no
    /// request matches, so that the load balancer checks the targets before any traffic goes to them. Required by a
    /// `service` with a `target_group`, since ECS accepts only a target group that a listener uses.
    #[argument(text = accepts::rule_listener_arn)]
    pub listener_arn: Option<String>,
    /// EC2 instances: a security group, a launch template and an Auto Scaling group attached to the target group. Adding
    /// or removing them forces a new resource. At most one
    /// of `instances`, `service` and `targets` can be set.
    pub instances: Option<Instances>,
    /// An ECS service whose tasks are registered in the target group. Adding or removing it forces a new resource. At most one of `instances`, `service` and `targets`
    /// can be set.
    pub service: Option<Service>,
    /// Fixed targets. At most one of `instances`, `service` and `targets` can be set.
    pub targets: Option<Vec<Target>>,
    /// Whether a plan that would replace, shrink or destroy this color while it serves users is an error.
    #[argument(default = true, change = Aside)]
    pub protect_live: Option<bool>,
    /// Tags for everything that is made, in addition to the `default_tags` of the provider block.
    pub tags: BTreeMap<String, String>,
    /// How long operations may take.
    #[serde(skip)]
    #[argument(change = Aside)]
    pub timeouts: Option<Timeouts>,
}

/// How long operations may take.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = Aside, default)]
pub struct Timeouts {
    /// Time for a create.
    #[argument(default = "30m", text = rules::some_time)]
    pub create: Duration,
    /// Time for an update, the replacement of instances or tasks included. If omitted, an instance refresh that has more time than
    /// that has it.
    #[argument(default = "45m", text = rules::some_time)]
    pub update: Duration,
    /// Time for a destroy.
    #[argument(default = "20m", text = rules::some_time)]
    pub delete: Duration,
}

/// A target group. What doesn't apply to its protocol is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(kind = GroupKind, change = InPlace)]
pub struct TargetGroup {
    /// The port of the targets. Required unless `target_type` is `lambda`.
    #[argument(
        range = 1..=65_535,
        not(Lambda),
        change = Replaces
    )]
    pub port: Option<i32>,
    /// The protocol that the targets speak. `HTTP` and `HTTPS` are for an Application Load Balancer, the others for a Network
    /// Load Balancer. With `target_type = "alb"` it is always `TCP`.
    #[argument(
        one_of = ["HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP"],
        default(LoadBalancer = "TCP", _ = "HTTP"),
        not(Lambda),
        change = Replaces
    )]
    pub protocol: Option<String>,
    /// The version of HTTP that the targets speak.
    #[argument(one_of = ["HTTP1", "HTTP2", "GRPC"], default = "HTTP1", only(Application), change = Replaces)]
    pub protocol_version: Option<String>,
    /// The type of the targets.
    #[argument(
        one_of = ["instance", "ip", "alb", "lambda"],
        default_is = "the type of the first of `targets`, to `ip` for a `service` with `subnet_ids`, and to `instance` otherwise",
        change = Replaces
    )]
    pub target_type: Option<String>,
    /// The IP version of the targets.
    #[argument(
        one_of = ["ipv4", "ipv6"],
        default = "ipv4",
        not(Lambda),
        change = Replaces
    )]
    pub ip_address_type: Option<String>,
    /// Seconds that a deregistered target still has for requests in flight.
    #[argument(
        range = 0..=3600,
        default = 300,
        not(LoadBalancer, Lambda)
    )]
    pub deregistration_delay: Option<i32>,
    /// Seconds in which a new target gets a growing share of the requests: 30 to 900, or 0 for none. Only with
    /// `algorithm = "round_robin"`.
    #[argument(number = accepts::slow_start, default = 0, only(Application))]
    pub slow_start: Option<i32>,
    /// The algorithm that picks a target.
    #[argument(
        one_of = ["round_robin", "least_outstanding_requests", "weighted_random"],
        default = "round_robin",
        only(Application)
    )]
    pub algorithm: Option<String>,
    /// Whether targets with unusual errors get fewer requests. Only with `algorithm = "weighted_random"`.
    #[argument(default = false, only(Application))]
    pub anomaly_mitigation: Option<bool>,
    /// Whether requests go to targets in all Availability Zones.
    #[argument(
        one_of = ["true", "false", "use_load_balancer_configuration"],
        default = "use_load_balancer_configuration",
        not(LoadBalancer, Lambda)
    )]
    pub cross_zone: Option<String>,
    /// Whether targets see the address of the client. In UDP and TCP_UDP target groups they always do.
    #[argument(default(NetworkByAddress = false, _ = true), only(Network, NetworkByAddress, NetworkUdp))]
    pub preserve_client_ip: Option<bool>,
    /// Whether connections to targets begin with a header of the proxy protocol, version 2.
    #[argument(default = false, only(Network, NetworkByAddress, NetworkUdp))]
    pub proxy_protocol_v2: Option<bool>,
    /// Whether connections end when `deregistration_delay` is over.
    #[argument(default(NetworkUdp = true, _ = false), only(Network, NetworkByAddress, NetworkUdp))]
    pub connection_termination: Option<bool>,
    /// Whether headers and query parameters reach the function as lists of values.
    #[argument(default = false, only(Lambda))]
    pub multi_value_headers: Option<bool>,
    /// Stickiness of a client to one target of this color. Off if omitted.
    #[argument(not(LoadBalancer, Lambda))]
    pub stickiness: Option<Stickiness>,
    /// Thresholds of healthy targets: below them DNS fails over, or requests go to all targets.
    #[argument(not(LoadBalancer, Lambda))]
    pub target_group_health: Option<GroupHealth>,
    /// The health check of the targets.
    #[argument(change = Apart)]
    pub health_check: Option<HealthCheck>,
}

/// Stickiness of a client to a target within the group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(kind = GroupKind, change = InPlace)]
pub struct Stickiness {
    /// Whether stickiness is on. Where a route has the target group beside others, as a switch's have, group stickiness of a second is
    /// turned on there first, as AWS wants it.
    #[argument(default_is = "`true` where `stickiness` is written")]
    pub enabled: Option<bool>,
    /// How a client is recognized: by a cookie in HTTP and HTTPS target groups, by its address in others. `app_cookie` does not
    /// work while a switch splits the traffic.
    #[argument(one_of = ["lb_cookie", "app_cookie", "source_ip"], default(Application = "lb_cookie", _ = "source_ip"))]
    pub r#type: Option<String>,
    /// Seconds that the cookie is valid.
    #[argument(range = 1..=604_800, default = 86_400, only(Application))]
    pub cookie_duration: Option<i32>,
    /// The name of the cookie that the application sets. Required by `app_cookie`, and not allowed otherwise.
    #[argument(text = accepts::cookie_name, only(Application))]
    pub cookie_name: Option<String>,
}

/// When the group counts as healthy. AWS has counts and percentages as text, since either can be `off`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = InPlace)]
pub struct GroupHealth {
    /// The thresholds below which DNS fails over from a zone of the load balancer. They can't be below those of
    /// `unhealthy_state_routing`. `minimum_healthy_targets_count = "off"` keeps the empty target group of an idle color from
    /// failing the whole load balancer in Route 53.
    pub dns_failover: Option<Counts>,
    /// The thresholds below which requests go to all targets, healthy or not. Their count can't be `off`.
    pub unhealthy_state_routing: Option<Counts>,
}

/// The minimum number and percentage of healthy targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = InPlace)]
pub struct Counts {
    /// The minimum number of healthy targets, 1 or more; for `dns_failover` also `off`.
    #[argument(text = accepts::count_or_off, default = "1")]
    pub minimum_healthy_targets_count: Option<String>,
    /// The minimum percentage of healthy targets, 1 to 100, or `off`.
    #[argument(text = accepts::percent_or_off, default = "off")]
    pub minimum_healthy_targets_percentage: Option<String>,
}

/// How the load balancer checks a target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(kind = CheckKind, change = InPlace)]
pub struct HealthCheck {
    /// Whether targets are checked. Only the check of a function can be off.
    #[argument(default(Lambda = false, _ = true))]
    pub enabled: Option<bool>,
    /// The protocol of the check. Only targets of type `instance` and `ip` in TCP, TLS, UDP and TCP_UDP target groups can be
    /// checked by `TCP`.
    #[argument(
        one_of = ["HTTP", "HTTPS", "TCP"],
        default(Tcp = "TCP", _ = "HTTP"),
        default_is = "`TCP` for targets that can be checked by it and to `HTTP` otherwise",
        not(Lambda)
    )]
    pub protocol: Option<String>,
    /// The port of the check: a number, or `traffic-port` for the port of the target.
    #[argument(
        text = accepts::check_port,
        default = "traffic-port",
        not(Lambda)
    )]
    pub port: Option<String>,
    /// The path of the check, or the method for gRPC. It begins with a slash.
    #[argument(
        text = accepts::path,
        default(Grpc = "/AWS.ALB/healthcheck", _ = "/"),
        not(Tcp)
    )]
    pub path: Option<String>,
    /// The codes that pass, such as `200`, `200,302` or `200-299`: from 200 to 499, gRPC codes from 0 to 99 with
    /// `protocol_version = "GRPC"`, and 200 to 599 in network target groups (TCP, TLS, UDP, TCP_UDP).
    #[argument(
        text = accepts::matcher,
        default(Grpc = "12", NetworkHttp = "200-399", NetworkHttps = "200-399", _ = "200"),
        not(Tcp)
    )]
    pub matcher: Option<String>,
    /// Seconds from one check of a target to the next.
    #[argument(range = 5..=300, default(Lambda = 35, _ = 30))]
    pub interval: Option<i32>,
    /// Seconds after which a check without an answer has failed. Must be less than `interval`; in network target groups (TCP,
    /// TLS, UDP, TCP_UDP) it may be equal.
    #[argument(range = 2..=120, default(Lambda = 30, Tcp = 10, NetworkHttps = 10, NetworkHttp = 6, _ = 5))]
    pub timeout: Option<i32>,
    /// Checks in a row that an unhealthy target has to pass.
    #[argument(range = 2..=10, default = 5)]
    pub healthy_threshold: Option<i32>,
    /// Checks in a row that a healthy target has to fail.
    #[argument(range = 2..=10, default(Lambda = 5, _ = 2))]
    pub unhealthy_threshold: Option<i32>,
}

/// An Auto Scaling group of instances, with their launch template and security group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Rolls)]
pub struct Instances {
    /// The AMI: its ID, or `resolve:ssm:` and the name of a parameter with its ID.
    #[argument(required, text = accepts::image)]
    pub image_id: String,
    /// The instance type, such as `t3.medium`. Required unless `mixed_instances_policy` has `overrides`, which come before it.
    #[argument(not_empty)]
    pub instance_type: Option<String>,
    /// User data as plain text, which the provider encodes. At most 16 KiB.
    #[argument(text = accepts::user_data)]
    pub user_data: Option<String>,
    /// User data in base64, for data that is not text, such as the result of `base64gzip`. At most 16 KiB when decoded.
    /// Conflicts with `user_data`.
    #[argument(text = accepts::user_data_base64)]
    pub user_data_base64: Option<String>,
    /// The name of the key pair.
    pub key_name: Option<String>,
    /// The instance profile, by name or ARN.
    pub iam_instance_profile: Option<String>,
    /// Whether instances get a public IPv4 address. If omitted, the subnet decides.
    pub associate_public_ip_address: Option<bool>,
    /// Whether the instances are EBS-optimized, which gives volumes a bandwidth of their own. Types that always are stay so.
    #[argument(default = false)]
    pub ebs_optimized: Option<bool>,
    /// Whether detailed monitoring is on: metrics every minute.
    #[argument(default = false)]
    pub monitoring: Option<bool>,
    /// The instance metadata service.
    pub metadata_options: Option<MetadataOptions>,
    /// Block devices in addition to those of the AMI, or instead of them where the device name is the same.
    pub block_devices: Vec<BlockDevice>,
    /// Security groups in addition to the one that the environment makes.
    #[argument(set)]
    pub security_group_ids: Vec<String>,
    /// Inbound rules of the security group.
    #[argument(change = Apart)]
    pub ingress: Vec<SecurityRule>,
    /// Outbound rules of the security group.
    #[argument(default_is = "all traffic to everywhere", change = Apart)]
    pub egress: Option<Vec<SecurityRule>>,
    /// The subnets of the instances.
    #[argument(set, required, not_empty, change = InPlace)]
    pub subnet_ids: Vec<String>,
    /// The minimum size of the Auto Scaling group.
    #[argument(required, range = 0..=1_000_000, change = Apart)]
    pub min_size: i32,
    /// The maximum size of the Auto Scaling group.
    #[argument(required, range = 0..=1_000_000, change = Apart)]
    pub max_size: i32,
    /// The desired capacity of the Auto Scaling group at its creation. Scaling policies own it afterwards, so their changes
    /// are no drift. A value that is changed here is set once.
    #[argument(range = 0..=1_000_000, default_is = "`min_size`", change = Apart)]
    pub desired_capacity: Option<i32>,
    /// The health checks of the Auto Scaling group, separated by commas: `EC2`, `EBS`, `ELB`, `VPC_LATTICE`. With `ELB` it also
    /// replaces instances that fail the health check of the target group; AWS's own default is `EC2`.
    #[argument(text = accepts::health_check_type, default = "ELB", change = InPlace)]
    pub health_check_type: Option<String>,
    /// Seconds from the launch of an instance to its first health check. AWS's own default is 0.
    #[argument(range = 0..=1_000_000, default = 300, change = InPlace)]
    pub health_check_grace_period: Option<i32>,
    /// Seconds from the launch of an instance until it counts for metrics and for an instance refresh.
    #[argument(range = 0..=1_000_000, change = InPlace)]
    pub default_instance_warmup: Option<i32>,
    /// The termination policies, in their order, which decide which instance goes first: names such as `OldestInstance`, or the ARN of a function.
    #[argument(each = accepts::termination_policy, default_is = "`[\"Default\"]`", change = InPlace)]
    pub termination_policies: Vec<String>,
    /// Whether instances that have been started are protected from scale-in. Those that are there keep what they have.
    #[argument(default = false, change = InPlace)]
    pub protect_from_scale_in: Option<bool>,
    /// Whether a Spot Instance that is likely to be interrupted is replaced before it is.
    #[argument(default = false, change = InPlace)]
    pub capacity_rebalance: Option<bool>,
    /// Seconds after which an instance is replaced: 86400 to 31536000, or 0 for never.
    #[argument(number = accepts::instance_lifetime, default = 0, change = InPlace)]
    pub max_instance_lifetime: Option<i32>,
    /// What Auto Scaling does when a zone has no capacity: `balanced-best-effort` starts instances in others, `balanced-only` keeps
    /// trying in that zone.
    #[argument(one_of = ["balanced-best-effort", "balanced-only"], default = "balanced-best-effort", change = InPlace)]
    pub capacity_distribution_strategy: Option<String>,
    /// How many instances stay in service whenever Auto Scaling replaces some, such as unhealthy ones.
    #[argument(change = InPlace)]
    pub instance_maintenance_policy: Option<MaintenancePolicy>,
    /// Several instance types, On-Demand and Spot.
    #[argument(change = Apart)]
    pub mixed_instances_policy: Option<MixedInstances>,
    /// The instance refresh that replaces instances when the launch template changed: another image, type, user data, release
    /// or any other of its arguments.
    #[argument(change = Aside)]
    pub instance_refresh: Option<InstanceRefresh>,
}

/// How many instances stay in service while some are replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = InPlace)]
pub struct MaintenancePolicy {
    /// The percentage of the desired capacity that stays in service.
    #[argument(required, range = 0..=100)]
    pub min_healthy_percentage: i32,
    /// The percentage of the desired capacity that may be there meanwhile. At most 100 more than `min_healthy_percentage`.
    #[argument(required, range = 100..=200)]
    pub max_healthy_percentage: i32,
}

/// Several instance types, On-Demand and Spot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Apart)]
pub struct MixedInstances {
    /// How capacity is distributed over On-Demand and Spot Instances, and over the types.
    #[argument(change = InPlace)]
    pub instances_distribution: Option<InstancesDistribution>,
    /// The instance types instead of `instance_type`, the preferred one first: at most 40.
    #[argument(change = Rolls)]
    pub overrides: Vec<InstanceOverride>,
}

/// How capacity is distributed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = InPlace)]
pub struct InstancesDistribution {
    /// How On-Demand Instances get their types: `lowest-price`, or `prioritized` in the order of `overrides`.
    #[argument(
        one_of = ["lowest-price", "prioritized"],
        default_is = "`lowest-price` where `overrides` have `instance_requirements`, and to `prioritized` otherwise"
    )]
    pub on_demand_allocation_strategy: Option<String>,
    /// The capacity that On-Demand Instances have first.
    #[argument(range = 0..=1_000_000, default = 0)]
    pub on_demand_base_capacity: Option<i32>,
    /// The percentage of On-Demand Instances beyond `on_demand_base_capacity`; the others are Spot Instances.
    #[argument(range = 0..=100, default = 100)]
    pub on_demand_percentage_above_base_capacity: Option<i32>,
    /// How Spot Instances get their types and zones. AWS recommends `price-capacity-optimized`.
    #[argument(
        one_of = ["lowest-price", "capacity-optimized", "capacity-optimized-prioritized", "price-capacity-optimized"],
        default = "lowest-price"
    )]
    pub spot_allocation_strategy: Option<String>,
    /// The number of Spot pools in each zone. Only with `spot_allocation_strategy = "lowest-price"`.
    #[argument(range = 1..=20, default_is = "2 with `lowest-price`")]
    pub spot_instance_pools: Option<i32>,
    /// The highest price per hour for a Spot Instance, in US dollars: 0.001 or more. If omitted, the On-Demand price.
    #[argument(text = accepts::spot_price)]
    pub spot_max_price: Option<String>,
}

/// An instance type of a group with several ones, or what it must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Rolls)]
pub struct InstanceOverride {
    /// The instance type. Exactly one of `instance_type` and `instance_requirements` is required.
    #[argument(not_empty)]
    pub instance_type: Option<String>,
    /// The capacity that an instance of this type counts for: 1 to 999. All overrides have one, or none.
    #[argument(range = 1..=999)]
    pub weighted_capacity: Option<i32>,
    /// What a type must have: Auto Scaling picks the types.
    pub instance_requirements: Option<InstanceRequirements>,
}

/// What an instance type must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Rolls)]
pub struct InstanceRequirements {
    /// The number of vCPUs. It needs a `min`.
    #[argument(required)]
    pub vcpu_count: Bounds,
    /// The memory in MiB. It needs a `min`.
    #[argument(required)]
    pub memory_mib: Bounds,
    /// The memory in GiB for each vCPU.
    pub memory_gib_per_vcpu: Option<Span>,
    /// The manufacturers of the processors: `intel`, `amd`, `amazon-web-services`, `apple`.
    #[argument(set, each = accepts::cpu_manufacturer, default_is = "all of them")]
    pub cpu_manufacturers: Vec<String>,
    /// The generations: `current`, `previous`.
    #[argument(set, each = accepts::instance_generation, default_is = "both")]
    pub instance_generations: Vec<String>,
    /// The only types to choose from, `*` standing for anything, such as `c*`: at most 400. Conflicts with `excluded_instance_types`.
    #[argument(set)]
    pub allowed_instance_types: Vec<String>,
    /// Types that are not chosen, `*` standing for anything: at most 400.
    #[argument(set)]
    pub excluded_instance_types: Vec<String>,
    /// Whether bare metal types are taken.
    #[argument(one_of = ["included", "excluded", "required"], default = "excluded")]
    pub bare_metal: Option<String>,
    /// Whether burstable types are taken.
    #[argument(one_of = ["included", "excluded", "required"], default = "excluded")]
    pub burstable_performance: Option<String>,
    /// Whether types have to support hibernation.
    #[argument(default = false)]
    pub require_hibernate_support: Option<bool>,
    /// The number of network interfaces.
    pub network_interface_count: Option<Bounds>,
    /// The network bandwidth in Gbps.
    pub network_bandwidth_gbps: Option<Span>,
    /// The baseline bandwidth to EBS in Mbps.
    pub baseline_ebs_bandwidth_mbps: Option<Bounds>,
    /// Whether types with instance store volumes are taken.
    #[argument(one_of = ["included", "excluded", "required"], default = "included")]
    pub local_storage: Option<String>,
    /// The kinds of instance store volumes: `hdd`, `ssd`.
    #[argument(set, each = accepts::storage_type, default_is = "both")]
    pub local_storage_types: Vec<String>,
    /// The size of all instance store volumes in GB.
    pub total_local_storage_gb: Option<Span>,
    /// The number of accelerators; `max = 0` leaves types with some out.
    pub accelerator_count: Option<Bounds>,
    /// The kinds of accelerators: `gpu`, `fpga`, `inference`.
    #[argument(set, default_is = "all of them")]
    pub accelerator_types: Vec<String>,
    /// The manufacturers of the accelerators, such as `nvidia`.
    #[argument(set, default_is = "all of them")]
    pub accelerator_manufacturers: Vec<String>,
    /// The names of the accelerators, such as `a100`.
    #[argument(set, default_is = "all of them")]
    pub accelerator_names: Vec<String>,
    /// The memory of all accelerators in MiB.
    pub accelerator_total_memory_mib: Option<Bounds>,
    /// How many percent a Spot price may be above that of the cheapest type, as AWS compares them.
    #[argument(range = 0..=999_999, default_is = "100")]
    pub spot_max_price_percentage_over_lowest_price: Option<i32>,
    /// How many percent of the On-Demand price of the cheapest type a Spot price may be. Conflicts with
    /// `spot_max_price_percentage_over_lowest_price`.
    #[argument(range = 0..=999_999)]
    pub max_spot_price_as_percentage_of_optimal_on_demand_price: Option<i32>,
    /// How many percent an On-Demand price may be above that of the cheapest type.
    #[argument(range = 0..=999_999, default = 20)]
    pub on_demand_max_price_percentage_over_lowest_price: Option<i32>,
}

/// A range of whole numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Rolls)]
pub struct Bounds {
    /// The least.
    #[argument(range = 0..=2_147_483_647)]
    pub min: Option<i32>,
    /// The most.
    #[argument(range = 0..=2_147_483_647)]
    pub max: Option<i32>,
}

/// A range of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Rolls)]
pub struct Span {
    /// The least.
    #[argument(number = accepts::amount)]
    pub min: Option<f64>,
    /// The most.
    #[argument(number = accepts::amount)]
    pub max: Option<f64>,
}

/// The instance metadata service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Rolls)]
pub struct MetadataOptions {
    /// Whether the metadata service can be reached over HTTP.
    #[argument(one_of = ["enabled", "disabled"], default = "enabled")]
    pub http_endpoint: Option<String>,
    /// Whether requests need a session token, which is IMDSv2. EC2's own default is that of the account or the AMI; the default
    /// here is the safe one.
    #[argument(one_of = ["required", "optional"], default = "required")]
    pub http_tokens: Option<String>,
    /// The number of network hops that an answer may take; containers need 2. If omitted, AWS decides: the
    /// setting of the account, else 2 for an AMI with `imds-support` `v2.0`, else 1.
    #[argument(range = 1..=64)]
    pub http_put_response_hop_limit: Option<i32>,
    /// Whether the metadata contains the tags of the instance.
    #[argument(one_of = ["enabled", "disabled"], default = "disabled")]
    pub instance_metadata_tags: Option<String>,
}

/// A volume of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Rolls)]
pub struct BlockDevice {
    /// The device name, such as `/dev/xvda`.
    #[argument(required, not_empty)]
    pub device_name: String,
    /// The size in GiB. The least and the most depend on the type: `standard` 1 to 1024, `gp2` 1 to 16384, `gp3` 1 to 65536,
    /// `io1` 4 to 16384, `io2` 4 to 65536, `st1` and `sc1` 125 to 16384.
    #[argument(range = 1..=65_536)]
    pub volume_size: Option<i32>,
    /// The volume type.
    #[argument(one_of = ["standard", "gp2", "gp3", "io1", "io2", "st1", "sc1"])]
    pub volume_type: Option<String>,
    /// The provisioned operations per second: `gp3` 3000 to 80000; `io1` 100 to 64000 and `io2` 100 to 256000, which require it.
    #[argument(range = 100..=256_000)]
    pub iops: Option<i32>,
    /// The provisioned throughput in MiB per second, for `gp3`.
    #[argument(range = 125..=2000)]
    pub throughput: Option<i32>,
    /// Whether the volume is encrypted.
    pub encrypted: Option<bool>,
    /// The KMS key that encrypts the volume. It needs `encrypted = true`.
    pub kms_key_id: Option<String>,
    /// The snapshot that the volume is created from.
    pub snapshot_id: Option<String>,
    /// Whether the volume is deleted with the instance.
    #[argument(default = true)]
    pub delete_on_termination: Option<bool>,
}

/// A rule of a security group as it is written: one protocol and range of ports, many peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = InPlace)]
pub struct SecurityRule {
    /// The protocol: `tcp`, `udp`, `icmp`, `icmpv6`, a protocol number, or `-1` for all.
    #[argument(required, text = accepts::ip_protocol)]
    pub protocol: String,
    /// The first port, or the ICMP type. Required by `tcp`, `udp` and `icmp`.
    #[argument(range = -1..=65_535)]
    pub from_port: Option<i32>,
    /// The last port, or the ICMP code.
    #[argument(range = -1..=65_535, default_is = "`from_port`, and to all codes for ICMP")]
    pub to_port: Option<i32>,
    /// IPv4 networks in CIDR notation.
    #[argument(set)]
    pub cidr_blocks: Vec<String>,
    /// IPv6 networks in CIDR notation.
    #[argument(set)]
    pub ipv6_cidr_blocks: Vec<String>,
    /// Prefix lists.
    #[argument(set)]
    pub prefix_list_ids: Vec<String>,
    /// Security groups whose members may connect, or be reached by an outbound rule, such as that of the load balancer.
    #[argument(set)]
    pub security_group_ids: Vec<String>,
    /// Whether the members of this security group are included.
    #[serde(rename = "self")]
    pub own: Option<bool>,
    /// The description of the rule: at most 255 plain characters.
    #[argument(text = accepts::rule_description)]
    pub description: Option<String>,
}

/// How instances are replaced when their template changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = Aside)]
pub struct InstanceRefresh {
    /// The percentage of the group that stays in service meanwhile. AWS's own default is 90.
    #[argument(range = 0..=100, default_is = "`0` for an idle color, which serves nobody, and to `100` for a live one")]
    pub min_healthy_percentage: Option<i32>,
    /// The percentage that the group may grow to meanwhile. At most 100 more than `min_healthy_percentage`.
    #[argument(range = 100..=200, default_is = "`100` for an idle color and to `110` for a live one")]
    pub max_healthy_percentage: Option<i32>,
    /// Seconds until a new instance counts.
    #[argument(range = 0..=1_000_000, default_is = "`default_instance_warmup`, or else to `health_check_grace_period`")]
    pub instance_warmup: Option<i32>,
    /// Whether instances that have the version and settings already stay as they are.
    #[argument(default = true)]
    pub skip_matching: Option<bool>,
    /// The percentages of replaced instances after which the instance refresh waits for `checkpoint_delay`, in ascending order, the
    /// last one 100.
    pub checkpoint_percentages: Vec<i32>,
    /// Seconds to wait at each of `checkpoint_percentages`.
    #[argument(range = 0..=172_800, default_is = "`3600` with `checkpoint_percentages`")]
    pub checkpoint_delay: Option<i32>,
    /// Seconds to watch all new instances before the instance refresh is done.
    #[argument(range = 0..=172_800, default = 0)]
    pub bake_time: Option<i32>,
    /// CloudWatch alarms that end the instance refresh when they go off: at most 10.
    #[argument(list = accepts::alarms)]
    pub alarms: Vec<String>,
    /// Whether Auto Scaling brings the former instances back after an instance refresh that failed. It needs an `image_id` that is
    /// an ID.
    #[argument(default = false)]
    pub auto_rollback: Option<bool>,
    /// What happens to instances that are protected from scale-in: `Wait` until they are not, `Refresh` or `Ignore` them.
    #[argument(
        one_of = ["Wait", "Refresh", "Ignore"],
        default_is = "`Refresh` with `protect_from_scale_in`, and to `Wait` otherwise"
    )]
    pub scale_in_protected_instances: Option<String>,
    /// What happens to instances on standby: `Wait` until they are not, `Terminate` or `Ignore` them.
    #[argument(one_of = ["Wait", "Terminate", "Ignore"], default = "Wait")]
    pub standby_instances: Option<String>,
    /// Time for the instance refresh.
    #[argument(
        text = rules::time,
        text = rules::some_time,
        default_is = "what it takes to replace all instances, as many at once as the percentages allow, with ten minutes for each such step beyond its warmup, and at least `30m`"
    )]
    pub timeout: Option<String>,
}

/// An ECS service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(kind = ServiceKind, change = Rolls)]
pub struct Service {
    /// The cluster, by name or ARN. Changing this forces a new resource.
    #[argument(required, not_empty, change = Apart)]
    pub cluster: String,
    /// The task definition: the JSON of `register-task-definition`, as `file()` returns it. It is registered as it is
    /// written, with `image` put in and with the tags of this environment. Exactly one of `task_definition` and `task_definition_arn` is required.
    #[argument(text = accepts::task_definition, change = Apart)]
    pub task_definition: Option<String>,
    /// A task definition that is registered elsewhere. Exactly one of `task_definition` and `task_definition_arn` is
    /// required.
    #[argument(change = Apart)]
    pub task_definition_arn: Option<String>,
    /// The image of `container_name`, instead of the image in `task_definition`.
    #[argument(not_empty, change = Apart)]
    pub image: Option<String>,
    /// The container that serves. Required by `task_definition_arn`, and where a task definition has several containers.
    pub container_name: Option<String>,
    /// The port of the container that serves.
    #[argument(required, range = 1..=65_535)]
    pub container_port: Option<i32>,
    /// The desired count of tasks at the creation of the service. Scaling policies own it afterwards, so their changes are no
    /// drift. A value that is changed here is set once.
    #[argument(range = 0..=1_000_000, default_is = "`1`", change = Apart)]
    pub desired_count: Option<i32>,
    /// The launch type. Conflicts with `capacity_provider_strategy`. The default capacity provider strategy of the cluster is not
    /// used.
    #[argument(one_of = ["FARGATE", "EC2"], default(InSubnets = "FARGATE", OnInstances = "EC2"), change = Replaces)]
    pub launch_type: Option<String>,
    /// The platform version of Fargate.
    pub platform_version: Option<String>,
    /// The capacity providers of the tasks, at most 20. Conflicts with `launch_type`.
    pub capacity_provider_strategy: Vec<CapacityProvider>,
    /// The subnets of tasks with network mode `awsvpc`, at most 16.
    #[argument(set)]
    pub subnet_ids: Vec<String>,
    /// The security groups of tasks with network mode `awsvpc`, at most 5.
    #[argument(set)]
    pub security_group_ids: Vec<String>,
    /// Whether tasks with network mode `awsvpc` get a public address.
    #[argument(default = false)]
    pub assign_public_ip: Option<bool>,
    /// The deployment circuit breaker, which ends a deployment whose tasks fail.
    #[argument(change = InPlace)]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Seconds from the start of a task until a failed health check of the load balancer stops it.
    #[argument(range = 0..=2_147_483_647, default = 0, change = InPlace)]
    pub health_check_grace_period: Option<i32>,
    /// The percentage of `desired_count` that keeps running during a deployment.
    #[argument(range = 0..=100, default = 100, change = InPlace)]
    pub minimum_healthy_percent: Option<i32>,
    /// The percentage of `desired_count` that may run during a deployment. More than `minimum_healthy_percent`.
    #[argument(range = 0..=1000, default = 200, change = InPlace)]
    pub maximum_percent: Option<i32>,
    /// Where tasks get tags from. Only tasks that start afterwards get them.
    #[argument(
        one_of = ["TASK_DEFINITION", "SERVICE", "NONE"],
        default_is = "`TASK_DEFINITION` with `task_definition`, whose revisions carry the tags of this environment, and to `SERVICE` with `task_definition_arn`; ECS's own default is `NONE`",
        change = InPlace
    )]
    pub propagate_tags: Option<String>,
    /// Whether tasks get tags of ECS: the names of the cluster and the service.
    #[argument(default = false, change = InPlace)]
    pub enable_ecs_managed_tags: Option<bool>,
    /// Whether ECS moves tasks until they are spread over the Availability Zones: `ENABLED` or `DISABLED`. If omitted, ECS decides.
    #[argument(one_of = ["ENABLED", "DISABLED"], change = InPlace)]
    pub availability_zone_rebalancing: Option<String>,
    /// CloudWatch alarms that end a deployment.
    #[argument(change = InPlace)]
    pub alarms: Option<DeploymentAlarms>,
    /// Whether ECS Exec is on.
    #[argument(default = false)]
    pub enable_execute_command: Option<bool>,
    /// The number of former revisions of the task definition that stay registered, of those that this environment
    /// registered. All of them if omitted.
    #[argument(range = 0..=1_000_000, change = Aside)]
    pub keep_revisions: Option<i32>,
    /// The digest of the definition that was seen to run, where one of ours does.
    #[serde(skip)]
    #[argument(skip)]
    pub running: Option<String>,
}

/// CloudWatch alarms that end a deployment when they go off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = InPlace)]
pub struct DeploymentAlarms {
    /// The names of the alarms.
    #[argument(set, required, not_empty)]
    pub alarm_names: Vec<String>,
    /// Whether they are looked at.
    #[argument(default = true)]
    pub enable: Option<bool>,
    /// Whether the former deployment comes back after one that they ended.
    #[argument(default = true)]
    pub rollback: Option<bool>,
}

/// A part of a capacity provider strategy.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Arguments)]
#[arguments(change = Rolls)]
pub struct CapacityProvider {
    /// The capacity provider, such as `FARGATE_SPOT`.
    #[argument(required, not_empty)]
    pub capacity_provider: String,
    /// The relative number of tasks that it gets. At least one capacity provider needs more than 0.
    #[argument(range = 0..=1000, default = 0)]
    pub weight: Option<i32>,
    /// The number of tasks that it gets first. Only one capacity provider can have a base.
    #[argument(range = 0..=100_000, default = 0)]
    pub base: Option<i32>,
}

/// The deployment circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Arguments)]
#[arguments(change = InPlace)]
pub struct CircuitBreaker {
    /// Whether the circuit breaker is on.
    #[argument(default = true)]
    pub enable: Option<bool>,
    /// Whether the former deployment comes back after a failed one.
    #[argument(default = true)]
    pub rollback: Option<bool>,
}

/// A fixed target.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Arguments)]
#[arguments(change = InPlace)]
pub struct Target {
    /// The address, the instance, the function or the load balancer, by ID or ARN.
    #[argument(required, not_empty)]
    pub id: String,
    /// The port of this target.
    #[argument(range = 1..=65_535, default_is = "the `port` of the target group")]
    pub port: Option<i32>,
    /// The Availability Zone, or `all` for an address outside of the VPC. Not for targets of type `instance` and `alb`.
    pub availability_zone: Option<String>,
}
