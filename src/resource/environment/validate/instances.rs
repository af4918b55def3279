//! Rules of instances that look at several arguments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{misfit, needs};
use crate::stack::LOWEST_PRICE;
use crate::tf_provider::{Diagnostics, Path, Value};

pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    let instances = config.get("instances");
    if instances.as_map().is_none() {
        return;
    }
    let base = Path::attribute("instances");
    needs(config, "vpc_id", "instances", diagnostics);
    sizes(instances, diagnostics);
    refresh(instances, &base, diagnostics);
    mixed(instances, &base, diagnostics);
    if instances.get("user_data").is_set() && instances.get("user_data_base64").is_set() {
        let path = base.attr("user_data_base64");
        let detail = format!("{path}: user_data is text, user_data_base64 is anything. Set one of them.");
        diagnostics.error_at(path, "user_data and user_data_base64 are both set", detail);
    }
    for (n, device) in instances.get("block_devices").as_list().unwrap_or_default().iter().enumerate() {
        block_device(device, &base.attr("block_devices").index(n), diagnostics);
    }
    for list in ["ingress", "egress"] {
        for (n, rule) in instances.get(list).as_list().unwrap_or_default().iter().enumerate() {
            security_rule(rule, &base.attr(list).index(n), diagnostics);
        }
    }
}

/// A type of volume: its sizes in GiB, its operations per second if they can be set, and whether they must be.
type VolumeType = (&'static str, std::ops::RangeInclusive<i64>, Option<std::ops::RangeInclusive<i64>>, bool);

/// As the API reference of EbsBlockDevice has them.
const VOLUMES: [VolumeType; 7] = [
    ("standard", 1..=1024, None, false),
    ("gp2", 1..=16_384, None, false),
    ("gp3", 1..=65_536, Some(3000..=80_000), false),
    ("io1", 4..=16_384, Some(100..=64_000), true),
    ("io2", 4..=65_536, Some(100..=256_000), true),
    ("st1", 125..=16_384, None, false),
    ("sc1", 125..=16_384, None, false),
];

fn block_device(device: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    let encrypted = device.get("encrypted");
    if device.get("kms_key_id").is_set() && encrypted.as_bool() != Some(true) && !encrypted.is_unknown() {
        misfit(&path.attr("kms_key_id"), "it needs encrypted = true", diagnostics);
    }
    let kind = device.get("volume_type").as_str();
    let Some((kind, sizes, iops, required)) = VOLUMES.iter().find(|volume| Some(volume.0) == kind) else { return };
    if let Some(size) = device.get("volume_size").as_i64().filter(|size| !sizes.contains(size)) {
        let detail = format!("{kind} volumes have {} to {} GiB, not {size}", sizes.start(), sizes.end());
        misfit(&path.attr("volume_size"), &detail, diagnostics);
    }
    if *kind != "gp3" && device.get("throughput").is_set() {
        misfit(&path.attr("throughput"), &format!("{kind} volumes have none; gp3 volumes do"), diagnostics);
    }
    match (iops, device.get("iops")) {
        (None, given) if given.is_set() => {
            misfit(&path.attr("iops"), &format!("{kind} volumes have no provisioned operations"), diagnostics);
        }
        (Some(_), Value::Null) if *required => {
            misfit(&path.attr("iops"), &format!("{kind} volumes need it"), diagnostics);
        }
        (Some(range), given) => {
            if let Some(iops) = given.as_i64().filter(|iops| !range.contains(iops)) {
                let detail = format!("{kind} volumes have {} to {}, not {iops}", range.start(), range.end());
                misfit(&path.attr("iops"), &detail, diagnostics);
            }
        }
        _ => {}
    }
}

fn sizes(instances: &Value, diagnostics: &mut Diagnostics) {
    let number = |name: &str| instances.get(name).as_i64();
    let (min, max, desired) = (number("min_size"), number("max_size"), number("desired_capacity"));
    let mut tell = |name: &str, text: String| {
        let path = Path::attribute("instances").attr(name);
        diagnostics.error_at(path.clone(), format!("{name} doesn't fit"), format!("{path}: {text}."));
    };
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        tell("max_size", format!("{max} is less than min_size, {min}"));
    }
    if let Some(desired) = desired {
        if min.is_some_and(|min| desired < min) {
            tell("desired_capacity", format!("{desired} is less than min_size, {}", min.unwrap_or_default()));
        }
        if max.is_some_and(|max| desired > max) {
            tell("desired_capacity", format!("{desired} is more than max_size, {}", max.unwrap_or_default()));
        }
    }
    for policy in ["instance_refresh", "instance_maintenance_policy"] {
        let healthy = |name: &str| instances.get(policy).get(name).as_i64();
        if let (Some(min), Some(max)) = (healthy("min_healthy_percentage"), healthy("max_healthy_percentage"))
            && max - min > 100
        {
            tell(policy, format!("AWS allows 100 between the percentages, not {}", max - min));
        }
    }
}

/// As RefreshPreferences has them.
fn refresh(instances: &Value, base: &Path, diagnostics: &mut Diagnostics) {
    let (refresh, path) = (instances.get("instance_refresh"), base.attr("instance_refresh"));
    let stops = refresh.get("checkpoint_percentages");
    if let Some(list) = stops.as_list().filter(|list| !list.is_empty()) {
        let numbers: Vec<i64> = list.iter().filter_map(Value::as_i64).collect();
        let is_known = list.iter().all(Value::is_set);
        let ascends =
            numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers.iter().all(|it| (1..=100).contains(it));
        let is_whole = numbers.len() == list.iter().filter(|item| item.is_set()).count();
        if !is_whole || is_known && !(ascends && numbers.last() == Some(&100)) {
            let detail = "whole numbers must ascend from 1 or more to 100, so that all instances are replaced";
            misfit(&path.attr("checkpoint_percentages"), detail, diagnostics);
        }
    } else if refresh.get("checkpoint_delay").is_set() && !stops.is_unknown() {
        misfit(&path.attr("checkpoint_delay"), "it needs checkpoint_percentages", diagnostics);
    }
    let from_parameter = instances.get("image_id").as_str().is_some_and(|image| image.starts_with("resolve:ssm:"));
    if refresh.get("auto_rollback").as_bool() == Some(true) && from_parameter {
        let detail = "Auto Scaling can't roll back where image_id is a parameter, which may say something else by then";
        misfit(&path.attr("auto_rollback"), detail, diagnostics);
    }
}

/// As MixedInstancesPolicy has them.
fn mixed(instances: &Value, base: &Path, diagnostics: &mut Diagnostics) {
    let (policy, path) = (instances.get("mixed_instances_policy"), base.attr("mixed_instances_policy"));
    let overrides = policy.get("overrides");
    let list = overrides.as_list().unwrap_or_default();
    let may_have_types = !list.is_empty() || policy.is_unknown() || overrides.is_unknown();
    if instances.get("instance_type").is_null() && !may_have_types {
        let path = base.attr("instance_type");
        let detail = format!("{path}: name a type here, or several ones in mixed_instances_policy.overrides.");
        diagnostics.error_at(path, "instance_type is missing", detail);
    }
    let at = path.attr("overrides");
    if list.len() > 40 {
        misfit(&at, &format!("Auto Scaling takes at most 40 overrides, not {}", list.len()), diagnostics);
    }
    let weighted = |one: &Value| one.get("weighted_capacity").is_set();
    if list.iter().any(weighted) && !list.iter().all(|one| weighted(one) || one.get("weighted_capacity").is_unknown()) {
        misfit(&at, "all overrides have a weighted_capacity, or none", diagnostics);
    }
    let by_attributes = list.iter().filter(|one| one.get("instance_requirements").is_set()).count();
    if by_attributes > 4 {
        misfit(&at, &format!("Auto Scaling takes at most 4 instance_requirements, not {by_attributes}"), diagnostics);
    }
    for (n, one) in list.iter().enumerate() {
        let path = at.index(n);
        let (kind, wished) = (one.get("instance_type"), one.get("instance_requirements"));
        if kind.is_set() == wished.is_set() && !kind.is_unknown() && !wished.is_unknown() {
            misfit(&path, "it needs one of instance_type and instance_requirements", diagnostics);
        }
        requirements(wished, &path.attr("instance_requirements"), diagnostics);
    }
    let (spread, path) = (policy.get("instances_distribution"), path.attr("instances_distribution"));
    let strategy = spread.get("spot_allocation_strategy");
    let has_pools = strategy.is_null() || strategy.is_unknown() || strategy.as_str() == Some(LOWEST_PRICE);
    if spread.get("spot_instance_pools").is_set() && !has_pools {
        let detail = "only spot_allocation_strategy = \"lowest-price\" has pools";
        misfit(&path.attr("spot_instance_pools"), detail, diagnostics);
    }
    if by_attributes > 0 && strategy.as_str() == Some("capacity-optimized-prioritized") {
        let detail = "where instance_requirements pick the types, they have no order";
        misfit(&path.attr("spot_allocation_strategy"), detail, diagnostics);
    }
}

/// The ranges among the requirements.
const RANGES: [&str; 9] = [
    "vcpu_count",
    "memory_mib",
    "memory_gib_per_vcpu",
    "network_interface_count",
    "network_bandwidth_gbps",
    "baseline_ebs_bandwidth_mbps",
    "total_local_storage_gb",
    "accelerator_count",
    "accelerator_total_memory_mib",
];

/// As InstanceRequirements has them.
fn requirements(wished: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    for name in RANGES {
        let range = wished.get(name);
        if let (Some(min), Some(max)) = (range.get("min").as_f64(), range.get("max").as_f64())
            && min > max
        {
            misfit(&path.attr(name), &format!("max is {max}, less than min, {min}"), diagnostics);
        }
        let is_needed = ["vcpu_count", "memory_mib"].contains(&name);
        if is_needed && range.is_set() && range.get("min").is_null() {
            misfit(&path.attr(name), "it needs a min", diagnostics);
        }
    }
    let pairs = [
        ("excluded_instance_types", "allowed_instance_types"),
        ("spot_max_price_percentage_over_lowest_price", "max_spot_price_as_percentage_of_optimal_on_demand_price"),
    ];
    for (one, other) in pairs {
        if wished.get(one).is_set() && wished.get(other).is_set() {
            misfit(&path.attr(one), &format!("{other} is set as well; set one of them"), diagnostics);
        }
    }
    for name in ["allowed_instance_types", "excluded_instance_types"] {
        let count = wished.get(name).as_list().unwrap_or_default().len();
        if count > 400 {
            misfit(&path.attr(name), &format!("AWS takes at most 400, not {count}"), diagnostics);
        }
    }
}

fn security_rule(rule: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    let peers = ["cidr_blocks", "ipv6_cidr_blocks", "prefix_list_ids", "security_group_ids"];
    let none = peers.iter().all(|name| {
        let peers = rule.get(name);
        peers.is_null() || peers.as_list().is_some_and(<[Value]>::is_empty)
    });
    if rule.as_map().is_some() && none && rule.get("self").as_bool() != Some(true) && !rule.get("self").is_unknown() {
        let detail = format!(
            "{path}: name networks (cidr_blocks, ipv6_cidr_blocks), prefix_list_ids, security_group_ids or self."
        );
        diagnostics.error_at(path.clone(), "The rule names no source", detail);
    }
    for name in ["cidr_blocks", "ipv6_cidr_blocks"] {
        for text in rule.get(name).strings() {
            if let Err(wrong) = network(&text, name == "cidr_blocks") {
                let path = path.attr(name);
                diagnostics.error_at(path.clone(), "Not a network", format!("{path}: {wrong}."));
            }
        }
    }
    let (first, last) = (rule.get("from_port").as_i64(), rule.get("to_port").as_i64());
    let icmp = rule.get("protocol").as_str().is_some_and(|protocol| {
        protocol.to_ascii_lowercase().starts_with("icmp") || protocol == "1" || protocol == "58"
    });
    if let (Some(first), Some(last)) = (first, last)
        && first > last
        && !icmp
    {
        let path = path.attr("to_port");
        let detail = format!("{path}: from_port is {first}, and to_port is {last}.");
        diagnostics.error_at(path, "from_port is above to_port", detail);
    }
    // Without a type, rules for ICMPv6 are for all of them.
    let ported = ["tcp", "udp", "icmp", "6", "17", "1"];
    let protocol = rule.get("protocol").as_str().map(str::to_ascii_lowercase);
    let ported = protocol.is_some_and(|protocol| ported.contains(&protocol.as_str()));
    if ported && rule.get("from_port").is_null() {
        let detail = format!("{path}: from_port is missing; this protocol has ports.");
        diagnostics.error_at(path.clone(), "from_port is missing", detail);
    }
}

/// A network as EC2 keeps it: what it would write otherwise would be drift for ever.
fn network(text: &str, v4: bool) -> Result<(), String> {
    let wrong = || {
        format!(
            "{text:?} is no {} network such as {}",
            if v4 { "IPv4" } else { "IPv6" },
            if v4 { "10.0.0.0/8" } else { "2001:db8::/32" }
        )
    };
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let length: u32 = length.parse().map_err(|_| wrong())?;
    let kept = match (v4, address.parse::<IpAddr>()) {
        (true, Ok(IpAddr::V4(address))) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or_default();
            format!("{}/{length}", Ipv4Addr::from(u32::from(address) & mask))
        }
        (false, Ok(IpAddr::V6(address))) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or_default();
            format!("{}/{length}", Ipv6Addr::from(u128::from(address) & mask))
        }
        _ => return Err(wrong()),
    };
    if kept == text { Ok(()) } else { Err(format!("{text:?}: EC2 keeps this network as {kept:?}; write that")) }
}
