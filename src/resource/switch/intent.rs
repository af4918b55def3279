//! From a configuration to a wish free of Terraform.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checks::{parse, validate};
use crate::duration;
use crate::rollout::{Before, CapacityPolicy, Conditions, Environment, Intent, OnFailure, RouteSpec, Scalable};
use crate::run::executor::Sight;
use crate::tf_provider::Value;

/// The wish of a valid configuration or state; none if something that decides about traffic is unknown.
pub(super) fn parse(value: &Value) -> Option<Intent> {
    let active = value.get("active");
    if active.is_unknown() || value.get("parameter").is_unknown() {
        return None;
    }
    Some(Intent {
        name: value.get("name").as_str().unwrap_or_default().to_owned(),
        active: active.as_str().map(str::to_owned),
        environments: environments(value.get("environments"))?,
        routes: routes(value.get("routes"))?,
        preview_routes: routes(value.get("preview_routes"))?,
        record: value.get("parameter").as_str().map(str::to_owned),
        validation: parse::validation(value.get("validation"))?,
        strategy: parse::strategy(value.get("strategy"))?,
        verification: parse::verification(value.get("verification"))?,
        stickiness: time(value.get("stickiness"), "duration"),
        on_failure: on(value, "on_failure"),
        on_interrupt: on(value, "on_interrupt"),
        capacity: capacity(value.get("capacity"))?,
        removed: Vec::new(),
    })
}

fn on(value: &Value, name: &str) -> OnFailure {
    if value.get(name).as_str() == Some("hold") { OnFailure::Hold } else { OnFailure::Rollback }
}

/// All routes of a wish, to look at.
pub(super) fn all_routes(intent: &Intent) -> Vec<RouteSpec> {
    intent.routes.iter().chain(&intent.preview_routes).chain(&intent.removed).cloned().collect()
}

/// Everything of a wish that is looked at.
pub(super) fn sight(intent: &Intent) -> Sight {
    let sized = intent.environments.iter().filter(|_| intent.capacity.is_some());
    Sight {
        routes: all_routes(intent),
        record: intent.record.clone(),
        scalables: sized.filter_map(|(color, one)| Some((color.clone(), one.scalable.clone()?))).collect(),
    }
}

/// Nothing wished is a wish, and something unknown is none.
#[expect(clippy::option_option, reason = "unknown, or not wished")]
fn capacity(value: &Value) -> Option<Option<CapacityPolicy>> {
    if value.is_null() {
        return Some(None);
    }
    if !value.is_wholly_known() {
        return None;
    }
    let number = |name: &str| value.get(name).as_str().and_then(|text| text.parse().ok());
    let before = number("before").map_or(Before::MatchLive, Before::Number);
    Some(Some(CapacityPolicy { before, after_idle: number("after_idle") }))
}

fn environments(value: &Value) -> Option<BTreeMap<String, Environment>> {
    let environment = |(color, value): (&String, &Value)| {
        let target_group_arn = value.get("target_group_arn").as_str()?.to_owned();
        // What runs there decides nothing: it may be unknown.
        let release = value.get("release").as_str().map(str::to_owned);
        let group = value.get("autoscaling_group_name").as_str().map(|name| Scalable::ScalingGroup(name.to_owned()));
        let service = value.get("service_arn").as_str().map(|arn| Scalable::Service(arn.to_owned()));
        Some((color.clone(), Environment { target_group_arn, release, scalable: group.or(service) }))
    };
    value.as_map()?.iter().map(environment).collect()
}

fn routes(value: &Value) -> Option<Vec<RouteSpec>> {
    match value {
        Value::Null => Some(Vec::new()),
        value => value.as_list()?.iter().map(route).collect(),
    }
}

fn route(value: &Value) -> Option<RouteSpec> {
    if !value.is_wholly_known() {
        return None;
    }
    if let Some(rule) = value.get("rule_arn").as_str() {
        return Some(RouteSpec::Rule(rule.to_owned()));
    }
    let listener = value.get("listener_arn").as_str()?.to_owned();
    let Some(priority) = value.get("priority").as_i64().and_then(|number| i32::try_from(number).ok()) else {
        return Some(RouteSpec::Listener(listener));
    };
    Some(RouteSpec::OwnRule { listener, priority, conditions: conditions(value.get("conditions")).sorted(), arn: None })
}

fn conditions(value: &Value) -> Conditions {
    let headers = value.get("http_headers").as_map().into_iter().flatten();
    Conditions {
        host_headers: value.get("host_headers").strings(),
        path_patterns: value.get("path_patterns").strings(),
        http_request_methods: value.get("http_request_methods").strings(),
        source_ips: value.get("source_ips").strings(),
        http_headers: headers.map(|(name, values)| (name.clone(), values.strings())).collect(),
        query_strings: value.get("query_strings").string_map(),
    }
}

pub(super) fn number(value: &Value, name: &str) -> Option<u32> {
    value.get(name).as_i64().and_then(|number| u32::try_from(number).ok())
}

pub(super) fn time(value: &Value, name: &str) -> Option<Duration> {
    value.get(name).as_str().and_then(|text| duration::parse(text).ok())
}

/// How long an operation may take: where nothing was said, as long as a rollout takes at least, and half an hour more.
pub(super) fn timeout(value: &Value, operation: &str) -> Duration {
    let default = match operation {
        "delete" => Duration::from_secs(10 * 60),
        _ => Duration::from_secs(30 * 60) + validate::least_duration(value),
    };
    time(value.get("timeouts"), operation).unwrap_or(default)
}
