//! A target group's attributes by AWS's keys. The keys are those of the API reference of `TargetGroupAttribute`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::run::rollout::ports::GroupFacts;
use crate::stack::{Counts, Stickiness, TargetGroup};

const DELAY: &str = "deregistration_delay.timeout_seconds";
const SLOW_START: &str = "slow_start.duration_seconds";
const ALGORITHM: &str = "load_balancing.algorithm.type";
const ANOMALY: &str = "load_balancing.algorithm.anomaly_mitigation";
const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";
const CLIENT_IP: &str = "preserve_client_ip.enabled";
const PROXY_PROTOCOL: &str = "proxy_protocol_v2.enabled";
const TERMINATION: &str = "deregistration_delay.connection_termination.enabled";
const MULTI_VALUE: &str = "lambda.multi_value_headers.enabled";
const STICKY: &str = "stickiness.enabled";
const STICKY_TYPE: &str = "stickiness.type";
const LB_COOKIE: &str = "stickiness.lb_cookie.duration_seconds";
const APP_COOKIE: &str = "stickiness.app_cookie.duration_seconds";
const APP_COOKIE_NAME: &str = "stickiness.app_cookie.cookie_name";

/// The keys of a threshold for healthy targets.
fn counts_keys(kind: &str) -> [String; 2] {
    ["count", "percentage"].map(|what| format!("target_group_health.{kind}.minimum_healthy_targets.{what}"))
}

fn on_off(value: bool) -> String {
    if value { "on" } else { "off" }.to_owned()
}

/// What of the attributes matters to a rollout.
pub(super) fn facts(attributes: &BTreeMap<String, String>) -> GroupFacts {
    let seconds = |key: &str| attributes.get(key)?.parse().ok().map(Duration::from_secs);
    let threshold = |kind: &str| {
        let [count, percentage] = counts_keys(kind);
        let set = |key: String| attributes.get(&key).filter(|value| !matches!(value.as_str(), "" | "off")).cloned();
        // The count is 1 unless somebody said otherwise, and the one that is reached first decides.
        set(percentage).map(|percentage| format!("{percentage} %")).or_else(|| set(count))
    };
    GroupFacts {
        deregistration_delay: seconds(DELAY),
        is_sticky: attributes.get(STICKY).is_some_and(|on| on == "true"),
        fail_open_below: threshold("unhealthy_state_routing"),
        dns_failover_below: threshold("dns_failover"),
    }
}

/// The attributes to set to come from one settled group to another, call by call.
pub(super) fn steps(before: &TargetGroup, after: &TargetGroup) -> Vec<BTreeMap<String, String>> {
    let (from, to) = (write(before), write(after));
    let changed: BTreeMap<String, String> = to
        .iter()
        .filter(|(key, value)| from.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    // Only one algorithm has it, so it goes while that one is still there.
    let left = before.anomaly_mitigation == Some(true) && !to.contains_key(ANOMALY);
    let first = left.then(|| BTreeMap::from([(ANOMALY.to_owned(), on_off(false))]));
    first.into_iter().chain([changed]).filter(|step| !step.is_empty()).collect()
}

/// The attributes that a settled group means.
pub(super) fn write(group: &TargetGroup) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            out.insert(key.to_owned(), value);
        }
    };
    put(DELAY, group.deregistration_delay.map(|seconds| seconds.to_string()));
    put(SLOW_START, group.slow_start.map(|seconds| seconds.to_string()));
    put(ALGORITHM, group.algorithm.clone());
    // Anomaly mitigation belongs to one algorithm; the others refuse it.
    let weighted = group.algorithm.as_deref() == Some("weighted_random");
    put(ANOMALY, group.anomaly_mitigation.filter(|_| weighted).map(on_off));
    put(CROSS_ZONE, group.cross_zone.clone());
    put(CLIENT_IP, group.preserve_client_ip.map(|on| on.to_string()));
    put(PROXY_PROTOCOL, group.proxy_protocol_v2.map(|on| on.to_string()));
    put(TERMINATION, group.connection_termination.map(|on| on.to_string()));
    put(MULTI_VALUE, group.multi_value_headers.map(|on| on.to_string()));
    if let Some(stickiness) = &group.stickiness {
        put(STICKY, stickiness.enabled.map(|on| on.to_string()));
        put(STICKY_TYPE, stickiness.r#type.clone());
        let duration = stickiness.cookie_duration.map(|seconds| seconds.to_string());
        match stickiness.r#type.as_deref() {
            Some("app_cookie") => {
                put(APP_COOKIE, duration);
                put(APP_COOKIE_NAME, stickiness.cookie_name.clone());
            }
            Some("lb_cookie") => put(LB_COOKIE, duration),
            _ => {}
        }
    }
    let health = group.target_group_health.clone().unwrap_or_default();
    for (kind, counts) in
        [("dns_failover", health.dns_failover), ("unhealthy_state_routing", health.unhealthy_state_routing)]
    {
        let [count, percentage] = counts_keys(kind);
        let counts = counts.unwrap_or_default();
        put(&count, counts.minimum_healthy_targets_count);
        // Routing has no "off" for its percentage before it was set; it is what AWS begins with.
        put(&percentage, counts.minimum_healthy_targets_percentage);
    }
    out
}

/// Reads AWS's attributes into a group.
pub(super) fn read(attributes: &BTreeMap<String, String>, group: &mut TargetGroup) {
    let text = |key: &str| attributes.get(key).filter(|text| !text.is_empty()).cloned();
    fn parsed<T: FromStr>(text: Option<String>) -> Option<T> {
        text.and_then(|text| text.parse().ok())
    }
    group.deregistration_delay = parsed(text(DELAY));
    group.slow_start = parsed(text(SLOW_START));
    group.algorithm = text(ALGORITHM);
    group.anomaly_mitigation = text(ANOMALY).map(|text| text == "on");
    group.cross_zone = text(CROSS_ZONE);
    group.preserve_client_ip = parsed(text(CLIENT_IP));
    group.proxy_protocol_v2 = parsed(text(PROXY_PROTOCOL));
    group.connection_termination = parsed(text(TERMINATION));
    group.multi_value_headers = parsed(text(MULTI_VALUE));
    let kind = text(STICKY_TYPE);
    let (duration, name) = match kind.as_deref() {
        Some("app_cookie") => (parsed(text(APP_COOKIE)), text(APP_COOKIE_NAME)),
        Some("lb_cookie") => (parsed(text(LB_COOKIE)), None),
        _ => (None, None),
    };
    let enabled: Option<bool> = parsed(text(STICKY));
    group.stickiness = Some(match enabled {
        Some(true) => Stickiness { enabled, r#type: kind, cookie_duration: duration, cookie_name: name },
        _ => Stickiness { enabled, ..Stickiness::default() },
    });
    let mut health = crate::stack::GroupHealth::default();
    for (kind, slot) in
        [("dns_failover", &mut health.dns_failover), ("unhealthy_state_routing", &mut health.unhealthy_state_routing)]
    {
        let [count, percentage] = counts_keys(kind);
        *slot = Some(Counts {
            minimum_healthy_targets_count: text(&count),
            minimum_healthy_targets_percentage: text(&percentage),
        });
    }
    group.target_group_health = Some(health);
}
