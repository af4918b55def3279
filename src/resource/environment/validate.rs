//! What can be told of a configuration before anything is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::stack::TaskDefinition;
use crate::tf_provider::{Diagnostics, Path, Value};

pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    one_group(config, diagnostics);
    one_kind(config, diagnostics);
    target_group(config, diagnostics);
    let instances = config.get("instances");
    if instances.as_map().is_some() {
        needs(config, "vpc_id", "instances", diagnostics);
        sizes(instances, diagnostics);
        if instances.get("user_data").is_set() && instances.get("user_data_base64").is_set() {
            let path = Path::attribute("instances").attr("user_data_base64");
            let detail = format!("{path}: user_data is text, user_data_base64 is anything. Set one of them.");
            diagnostics.error_at(path, "User data twice", detail);
        }
        for list in ["ingress", "egress"] {
            for (n, rule) in instances.get(list).as_list().unwrap_or_default().iter().enumerate() {
                security_rule(rule, &Path::attribute("instances").attr(list).index(n), diagnostics);
            }
        }
    }
    if config.get("service").as_map().is_some() {
        if config.get("target_group").as_map().is_some() && config.get("listener_arn").is_null() {
            let detail = "ECS takes a target group only when a listener or a rule has it. Name a listener of the load balancer \
                          in listener_arn: the environment makes a rule there that no request matches. Or keep the group \
                          elsewhere, in a listener's action, and adopt it with target_group_arn.";
            diagnostics.error_at(Path::attribute("service"), "listener_arn is missing", detail);
        }
        service(config.get("service"), diagnostics);
    }
    crate::resource::reserved_tags(config.get("tags"), &Path::attribute("tags"), diagnostics);
}

fn needs(config: &Value, name: &str, by: &str, diagnostics: &mut Diagnostics) {
    if config.get(name).is_null() {
        let detail = format!("{by} needs {name}.");
        diagnostics.error_at(Path::attribute(by), format!("{name} is missing"), detail);
    }
}

fn one_group(config: &Value, diagnostics: &mut Diagnostics) {
    let (own, adopted) = (config.get("target_group"), config.get("target_group_arn"));
    match (own.is_null() && adopted.is_null(), own.is_set() && adopted.is_set()) {
        (true, _) => {
            let detail = "Set target_group to make one, or target_group_arn to adopt one.";
            diagnostics.error_at(Path::attribute("target_group"), "A target group is missing", detail);
        }
        (_, true) => {
            let detail = "target_group makes one, target_group_arn adopts one. Set one of them.";
            diagnostics.error_at(Path::attribute("target_group_arn"), "Two target groups", detail);
        }
        _ => {}
    }
}

fn one_kind(config: &Value, diagnostics: &mut Diagnostics) {
    let kinds = ["instances", "service", "targets"];
    let given: Vec<&str> = kinds.into_iter().filter(|name| config.get(name).is_set()).collect();
    for second in given.iter().skip(1) {
        let detail = format!(
            "An environment has instances, or a service, or targets, or none of them; {} is there as well.",
            given[0]
        );
        diagnostics.error_at(Path::attribute(second), "Two kinds of targets", detail);
    }
}

fn target_group(config: &Value, diagnostics: &mut Diagnostics) {
    let group = config.get("target_group");
    if group.as_map().is_none() {
        return;
    }
    let base = Path::attribute("target_group");
    let kind = group.get("target_type").as_str();
    let lambda = kind == Some("lambda");
    if !lambda && !group.get("target_type").is_unknown() {
        needs(config, "vpc_id", "target_group", diagnostics);
        if group.get("port").is_null() {
            let path = base.attr("port");
            diagnostics.error_at(
                path.clone(),
                "port is missing",
                format!("{path}: only a group of functions has none."),
            );
        }
    }
    let wanted = config.get("instances").is_set().then_some("instance");
    if let (Some(wanted), Some(kind)) = (wanted, kind.filter(|kind| Some(*kind) != wanted)) {
        let path = base.attr("target_type");
        let detail = format!("{path}: instances are targets of type {wanted}, not {kind}.");
        diagnostics.error_at(path, "The target type doesn't fit", detail);
    }
    let protocol = group.get("protocol").as_str().unwrap_or("HTTP");
    let http = matches!(protocol, "HTTP" | "HTTPS");
    let is_given = |name: &str| group.get(name).is_set();
    let only_http = ["protocol_version", "slow_start", "algorithm", "anomaly_mitigation"];
    let only_network = ["preserve_client_ip", "proxy_protocol_v2", "connection_termination"];
    let known = !group.get("protocol").is_unknown() && !lambda;
    for name in only_http.into_iter().filter(|name| known && !http && is_given(name)) {
        let detail = format!("{}: {protocol} target groups have no {name}.", base.attr(name));
        diagnostics.error_at(base.attr(name), format!("{name} doesn't fit"), detail);
    }
    for name in only_network.into_iter().filter(|name| known && http && is_given(name)) {
        let detail = format!("{}: {protocol} target groups have no {name}.", base.attr(name));
        diagnostics.error_at(base.attr(name), format!("{name} doesn't fit"), detail);
    }
    let weighted = group.get("algorithm").as_str() == Some("weighted_random");
    if group.get("anomaly_mitigation").as_bool() == Some(true) && !weighted && !group.get("algorithm").is_unknown() {
        let path = base.attr("anomaly_mitigation");
        let detail = format!("{path}: it belongs to algorithm = \"weighted_random\".");
        diagnostics.error_at(path, "anomaly_mitigation doesn't fit", detail);
    }
    if weighted && group.get("slow_start").as_i64().is_some_and(|seconds| seconds > 0) {
        let path = base.attr("slow_start");
        let detail = format!("{path}: AWS has no slow start with weighted_random.");
        diagnostics.error_at(path, "slow_start doesn't fit", detail);
    }
    let network = known && !http;
    health_check(group, (lambda, network), &base.attr("health_check"), diagnostics);
    let stickiness = group.get("stickiness");
    if protocol == "TLS" && stickiness.as_map().is_some() && stickiness.get("enabled").as_bool() != Some(false) {
        let path = base.attr("stickiness");
        diagnostics.error_at(
            path.clone(),
            "stickiness doesn't fit",
            format!("{path}: AWS has none for TLS target groups."),
        );
    }
    let app = stickiness.get("type").as_str() == Some("app_cookie");
    if app && stickiness.get("cookie_name").is_null() {
        let path = base.attr("stickiness").attr("cookie_name");
        diagnostics.error_at(path.clone(), "cookie_name is missing", format!("{path}: app_cookie needs it."));
    }
}

/// AWS refuses a check that doesn't end before the next one, also where it is the default that doesn't.
fn health_check(group: &Value, (lambda, network): (bool, bool), path: &Path, diagnostics: &mut Diagnostics) {
    let check = group.get("health_check");
    if check.is_unknown() || group.get("target_type").is_unknown() || group.get("protocol").is_unknown() {
        return;
    }
    if check.get("enabled").as_bool() == Some(false) && !lambda {
        let path = path.attr("enabled");
        let detail = format!("{path}: only of functions can the check be off; AWS checks all other targets.");
        diagnostics.error_at(path, "The check can't be off", detail);
    }
    let by_http = matches!(check.get("protocol").as_str(), Some("HTTP" | "HTTPS"));
    let (interval, timeout) = match (lambda, network) {
        (true, _) => (35, 30),
        (_, true) => (30, if by_http { 6 } else { 10 }),
        _ => (30, 5),
    };
    let number = |name: &str, usual: i64| match check.get(name) {
        value if value.is_unknown() => None,
        Value::Null => Some(usual),
        value => value.as_i64(),
    };
    if let (Some(interval), Some(timeout)) = (number("interval", interval), number("timeout", timeout))
        && timeout >= interval
    {
        let written = if check.get("timeout").is_null() { " (what AWS takes where nothing is said)" } else { "" };
        let path = path.attr("timeout");
        let detail =
            format!("{path}: a check of {timeout} s{written} doesn't end before the next one, after {interval} s.");
        diagnostics.error_at(path, "The timeout is too long", detail);
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
        diagnostics.error_at(path.clone(), "A rule for nobody", detail);
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
    let icmp = rule
        .get("protocol")
        .as_str()
        .is_some_and(|protocol| protocol.starts_with("icmp") || protocol == "1" || protocol == "58");
    if let (Some(first), Some(last)) = (first, last)
        && first > last
        && !icmp
    {
        let path = path.attr("to_port");
        let detail = format!("{path}: the ports end, at {last}, before they begin, at {first}.");
        diagnostics.error_at(path, "The ports are the wrong way round", detail);
    }
    let ported = ["tcp", "udp", "icmp", "icmpv6", "6", "17", "1", "58"];
    let ported = rule.get("protocol").as_str().is_some_and(|protocol| ported.contains(&protocol));
    if ported && rule.get("from_port").is_null() {
        let detail = format!("{path}: from_port is missing; this protocol has ports.");
        diagnostics.error_at(path.clone(), "from_port is missing", detail);
    }
}

fn service(service: &Value, diagnostics: &mut Diagnostics) {
    let base = Path::attribute("service");
    let set = |name: &str| service.get(name).is_set();
    let none = |name: &str| service.get(name).is_null();
    let both = set("task_definition") && set("task_definition_arn");
    if both || none("task_definition") && none("task_definition_arn") {
        let path = base.attr("task_definition");
        let detail = format!("{path}: set either task_definition, the JSON, or task_definition_arn.");
        diagnostics.error_at(path, "One task definition is needed", detail);
    }
    if set("image") && none("task_definition") {
        let path = base.attr("image");
        let detail = format!("{path}: an image has its place in task_definition; a registered one is not changed.");
        diagnostics.error_at(path, "image needs task_definition", detail);
    }
    if set("task_definition_arn") && none("container_name") {
        let path = base.attr("container_name");
        let detail = format!("{path}: with task_definition_arn it must be said which container serves.");
        diagnostics.error_at(path, "container_name is missing", detail);
    }
    if set("launch_type") && set("capacity_provider_strategy") {
        let path = base.attr("launch_type");
        diagnostics.error_at(
            path.clone(),
            "Conflicting arguments",
            format!("{path}: capacity providers take its place."),
        );
    }
    // What is wrong with the text itself, the schema says.
    let Some(definition) = service.get("task_definition").as_str().and_then(|text| TaskDefinition::parse(text).ok())
    else {
        return;
    };
    let names = definition.containers();
    let container = service.get("container_name");
    let missing = container.as_str().filter(|name| !names.contains(name));
    let path = base.attr("container_name");
    if let Some(name) = missing {
        let detail = format!("{path}: there is no container {name:?}; there are {}.", names.join(", "));
        diagnostics.error_at(path, "No such container", detail);
    } else if container.is_null() && names.len() > 1 {
        let detail = format!("{path}: the task definition has several containers ({}).", names.join(", "));
        diagnostics.error_at(path, "container_name is missing", detail);
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
