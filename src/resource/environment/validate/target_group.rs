//! Rules of a target group that look at several arguments.

use super::{misfit, needs};
use crate::argument::{Always, Arguments, Field as _, Kind as _};
use crate::stack::{
    CheckKind, Counts, GroupKind, HealthCheck, Service, Stickiness, Target, TargetGroup, usual_target_type,
};
use crate::tf_provider::{Diagnostics, Path, Value};

pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    let group = config.get("target_group");
    if group.as_map().is_none() {
        return;
    }
    let base = Path::attribute("target_group");
    let written_type = group.get("target_type").as_str();
    // What isn't known yet may be anything.
    let unknown = ["target_type", "service", "targets"].iter().any(|name| {
        let at = if *name == "target_type" { group.get(name) } else { config.get(name) };
        at.is_unknown()
    });
    let read_part = |name: &str| config.get(name).known_json();
    let (service, fixed) = (Service::read(&read_part("service")), Vec::<Target>::read(&read_part("targets")));
    let target_type = written_type.unwrap_or_else(|| usual_target_type(service.as_ref(), fixed.as_deref()));
    if target_type != "lambda" && !unknown {
        needs(config, "vpc_id", "target_group", diagnostics);
        if group.get("port").is_null() {
            let path = base.attr("port");
            let detail = format!("{path}: every target group needs it, but those of type lambda.");
            diagnostics.error_at(path, "port is missing", detail);
        }
    }
    let wanted = config.get("instances").is_set().then_some("instance");
    if let (Some(wanted), Some(kind)) = (wanted, written_type.filter(|kind| Some(*kind) != wanted)) {
        let path = base.attr("target_type");
        let detail = format!("{path}: instances are targets of type {wanted}, not {kind}.");
        diagnostics.error_at(path, "The target type doesn't fit", detail);
    }
    algorithm(group, &base, diagnostics);
    // Which kind it is decides the rest.
    if unknown || ["protocol", "protocol_version"].iter().any(|name| group.get(name).is_unknown()) {
        return;
    }
    let Some(mut written) = TargetGroup::read(&group.known_json()) else { return };
    written.target_type = Some(target_type.to_owned());
    misfits::<TargetGroup>(group, written.kind(), &base, diagnostics);
    protocol(&written, &base, diagnostics);
    targets(config, &written, diagnostics);
    thresholds(group.get("target_group_health"), &base.attr("target_group_health"), diagnostics);
    health_check(group.get("health_check"), &written, &base.attr("health_check"), diagnostics);
    stickiness(group.get("stickiness"), &written, &base.attr("stickiness"), diagnostics);
}

/// What each algorithm can't be combined with.
fn algorithm(group: &Value, base: &Path, diagnostics: &mut Diagnostics) {
    let chosen = group.get("algorithm");
    let weighted = chosen.as_str() == Some("weighted_random");
    if group.get("anomaly_mitigation").as_bool() == Some(true) && !weighted && !chosen.is_unknown() {
        misfit(&base.attr("anomaly_mitigation"), "only algorithm = \"weighted_random\" has it", diagnostics);
    }
    let other = chosen.as_str().filter(|algorithm| *algorithm != "round_robin");
    if let Some(other) = other.filter(|_| group.get("slow_start").as_i64().is_some_and(|seconds| seconds > 0)) {
        misfit(&base.attr("slow_start"), &format!("AWS has no slow start with {other}"), diagnostics);
    }
    let stickiness = group.get("stickiness");
    let is_sticky =
        stickiness.as_map().is_some() && !matches!(stickiness.get("enabled"), Value::Bool(false) | Value::Unknown(_));
    if weighted && is_sticky {
        misfit(&base.attr("stickiness"), "AWS has no stickiness with weighted_random", diagnostics);
    }
    let http = matches!(group.get("protocol"), Value::Null)
        || group.get("protocol").as_str().is_some_and(|one| one.starts_with("HTTP"));
    if is_sticky && http && group.get("cross_zone").as_str() == Some("false") {
        misfit(&base.attr("cross_zone"), "AWS has no stickiness while requests stay in a zone", diagnostics);
    }
}

fn protocol(group: &TargetGroup, base: &Path, diagnostics: &mut Diagnostics) {
    let protocol = group.protocol.as_deref();
    match (group.kind(), protocol) {
        (GroupKind::LoadBalancer, Some(other)) if other != "TCP" => {
            misfit(&base.attr("protocol"), &format!("target groups of type alb are TCP, not {other}"), diagnostics);
        }
        (GroupKind::NetworkUdp, Some(udp)) if group.preserve_client_ip == Some(false) => {
            let detail = format!("targets of {udp} target groups always see the address of the client");
            misfit(&base.attr("preserve_client_ip"), &detail, diagnostics);
        }
        _ => {}
    }
}

/// What a target can't say in a group of its kind.
fn targets(config: &Value, group: &TargetGroup, diagnostics: &mut Diagnostics) {
    let Some(kind) = group.target_type.as_deref() else { return };
    for (n, target) in config.get("targets").as_list().unwrap_or_default().iter().enumerate() {
        let path = Path::attribute("targets").index(n);
        if kind == "lambda" && target.get("port").is_set() {
            misfit(&path.attr("port"), "functions have no port", diagnostics);
        }
        if matches!(kind, "instance" | "alb") && target.get("availability_zone").is_set() {
            misfit(&path.attr("availability_zone"), &format!("targets of type {kind} have none"), diagnostics);
        }
        if matches!(kind, "lambda" | "alb") && n > 0 {
            let detail = format!("{path}: a target group of type {kind} has one target.");
            diagnostics.error_at(path, "Too many targets", detail);
        }
    }
}

/// AWS wants DNS to fail over no later than requests go everywhere.
fn thresholds(value: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    if value.as_map().is_none() || !value.is_wholly_known() {
        return;
    }
    let counts = |name: &str| {
        let mut counts = Counts::read(&value.get(name).known_json()).unwrap_or_default();
        counts.fill(Always);
        counts
    };
    let (dns, routing) = (counts("dns_failover"), counts("unhealthy_state_routing"));
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<u32>().ok());
    let count = "minimum_healthy_targets_count";
    if routing.minimum_healthy_targets_count.as_deref() == Some("off") {
        misfit(&path.attr("unhealthy_state_routing").attr(count), "only that of dns_failover can be off", diagnostics);
    }
    let pairs = [
        (count, &dns.minimum_healthy_targets_count, &routing.minimum_healthy_targets_count),
        (
            "minimum_healthy_targets_percentage",
            &dns.minimum_healthy_targets_percentage,
            &routing.minimum_healthy_targets_percentage,
        ),
    ];
    for (name, dns, routing) in pairs {
        if let (Some(dns), Some(routing)) = (number(dns), number(routing))
            && dns < routing
        {
            let detail = format!("{dns} is less than that of unhealthy_state_routing, {routing}");
            misfit(&path.attr("dns_failover").attr(name), &detail, diagnostics);
        }
    }
}

/// Tells which arguments are written that mean nothing for a kind: AWS refuses them.
fn misfits<A: Arguments>(value: &Value, kind: A::Kind, path: &Path, diagnostics: &mut Diagnostics) {
    let written = A::arguments().iter().filter(|argument| value.get(argument.name).is_set());
    for argument in written.filter(|argument| !A::applies(argument.name, kind)) {
        let fits = argument.fits().unwrap_or_default();
        misfit(&path.attr(argument.name), &format!("{fits} This is one of {}", kind.plural()), diagnostics);
    }
}

fn stickiness(value: &Value, group: &TargetGroup, path: &Path, diagnostics: &mut Diagnostics) {
    if value.as_map().is_none() || value.get("enabled").as_bool() == Some(false) {
        return;
    }
    let kind = group.kind();
    if !TargetGroup::applies("stickiness", kind) {
        return;
    }
    let protocol = group.protocol.as_deref().unwrap_or("HTTP");
    if protocol == "TLS" {
        misfit(path, "AWS has no stickiness for TLS target groups", diagnostics);
        return;
    }
    misfits::<Stickiness>(value, kind, path, diagnostics);
    let cookies = kind == GroupKind::Application;
    if let Some(kind) = value.get("type").as_str().filter(|kind| kind.ends_with("cookie") != cookies) {
        misfit(&path.attr("type"), &format!("{protocol} target groups don't have {kind}"), diagnostics);
    }
    let app = value.get("type").as_str() == Some("app_cookie");
    if app && value.get("cookie_name").is_null() {
        let path = path.attr("cookie_name");
        diagnostics.error_at(path.clone(), "cookie_name is missing", format!("{path}: app_cookie needs it."));
    }
    if cookies && !app && !value.get("type").is_unknown() && value.get("cookie_name").is_set() {
        misfit(&path.attr("cookie_name"), "only app_cookie has it", diagnostics);
    }
}

fn health_check(value: &Value, group: &TargetGroup, path: &Path, diagnostics: &mut Diagnostics) {
    if value.is_unknown() || value.get("protocol").is_unknown() {
        return;
    }
    let mut check = HealthCheck::read(&value.known_json()).unwrap_or_default();
    let kind = check.kind(group);
    if check.enabled == Some(false) && kind != CheckKind::Lambda {
        let path = path.attr("enabled");
        let detail = format!("{path}: only for target groups of type lambda can the health check be off.");
        diagnostics.error_at(path, "The health check can't be off", detail);
    }
    misfits::<HealthCheck>(value, kind, path, diagnostics);
    let can_connect = !matches!(group.kind(), GroupKind::Application | GroupKind::LoadBalancer | GroupKind::Lambda);
    if check.protocol.as_deref() == Some("TCP") && !can_connect {
        let detail =
            "only targets of type instance and ip in TCP, TLS, UDP and TCP_UDP target groups are checked by TCP";
        misfit(&path.attr("protocol"), detail, diagnostics);
    }
    codes(check.matcher.as_deref(), kind, &path.attr("matcher"), diagnostics);
    // AWS refuses a check that doesn't end before the next one, also where it is the default that doesn't.
    if ["interval", "timeout"].iter().any(|name| value.get(name).is_unknown()) {
        return;
    }
    check.default_all(group);
    let may_be_equal = matches!(kind, CheckKind::Tcp | CheckKind::NetworkHttp | CheckKind::NetworkHttps);
    if let (Some(interval), Some(timeout)) = (check.interval, check.timeout)
        && (timeout > interval || timeout == interval && !may_be_equal)
    {
        let default = |name: &str| if value.get(name).is_null() { " (the default)" } else { "" };
        let path = path.attr(if value.get("timeout").is_null() { "interval" } else { "timeout" });
        let detail = format!(
            "{path}: the timeout of {timeout} s{} must {} the interval of {interval} s{}.",
            default("timeout"),
            if may_be_equal { "not be longer than" } else { "be shorter than" },
            default("interval")
        );
        diagnostics.error_at(path, "The timeout is too long", detail);
    }
}

/// The codes that a check can wait for, as the Matcher of the API reference has them.
fn codes(matcher: Option<&str>, kind: CheckKind, path: &Path, diagnostics: &mut Diagnostics) {
    let allowed = match kind {
        CheckKind::Http | CheckKind::Lambda => 200..=499,
        CheckKind::Grpc => 0..=99,
        CheckKind::NetworkHttp | CheckKind::NetworkHttps => 200..=599,
        CheckKind::Tcp => return,
    };
    let written = matcher.into_iter().flat_map(|text| text.split([',', '-']));
    let mut numbers = written.filter_map(|code| code.parse::<u16>().ok());
    if let Some(code) = numbers.find(|code| !allowed.contains(code)) {
        let detail =
            format!("{code} is not from {} to {}, which {} have", allowed.start(), allowed.end(), kind.plural());
        misfit(path, &detail, diagnostics);
    }
}
