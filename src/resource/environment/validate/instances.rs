//! Rules of instances that look at several arguments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{misfit, needs};
use crate::tf_provider::{Diagnostics, Path, Value};

pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    let instances = config.get("instances");
    if instances.as_map().is_none() {
        return;
    }
    let base = Path::attribute("instances");
    needs(config, "vpc_id", "instances", diagnostics);
    sizes(instances, diagnostics);
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
    let refresh = instances.get("instance_refresh");
    let healthy = |name: &str| refresh.get(name).as_i64();
    if let (Some(min), Some(max)) = (healthy("min_healthy_percentage"), healthy("max_healthy_percentage"))
        && max - min > 100
    {
        tell("instance_refresh", format!("AWS allows 100 between the percentages, not {}", max - min));
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
