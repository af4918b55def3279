//! The conditions of a rule that the switch makes: what AWS would refuse only when traffic is to move.

use std::collections::BTreeMap;

use crate::argument::Field as _;
use crate::arn;
use crate::rollout::{Cohort, Conditions, MOST_VALUES, MOST_WILDCARDS, condition_header, condition_value, wildcards};
use crate::tf_provider::{Diagnostics, Path, Value};

/// The one condition that a rule of a Network Load Balancer can have.
const OF_NETWORK: &str = "source_ip_address_type";

pub(super) fn validate(route: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    let conditions = route.get("conditions");
    let Some(map) = conditions.as_map() else { return };
    let path = path.attr("conditions");
    of_load_balancer(route, map, &path, diagnostics);
    headers(conditions, &path, diagnostics);
    queries(conditions, &path, diagnostics);
    if map.values().all(is_empty) {
        let detail = format!(
            "{path}: a rule needs at least one condition. For all requests, use the listener's default action: leave priority and conditions out."
        );
        diagnostics.error_at(path.clone(), "Conditions are empty", detail);
    }
    let mut values = Vec::new();
    map.iter().filter(|(name, _)| *name != OF_NETWORK).for_each(|(_, value)| gather(value, &mut values));
    let count = values.len();
    if count > MOST_VALUES {
        let detail = format!(
            "{path}: the conditions have {count} values, and AWS allows {MOST_VALUES} in a rule. Use wildcards or several routes."
        );
        diagnostics.error_at(path.clone(), "Too many condition values", detail);
    }
    // In a regular expression these marks are none, and in a network there are none.
    let mut patterns = Vec::new();
    let plain = map.iter().filter(|(name, _)| !name.contains("regex_values") && *name != OF_NETWORK);
    plain.for_each(|(_, value)| gather_patterns(value, &mut patterns));
    let wildcards: usize = patterns.iter().map(|text| wildcards(text)).sum();
    if wildcards > MOST_WILDCARDS {
        let detail = format!(
            "{path}: the conditions have {wildcards} wildcards (* and ?), and AWS allows {MOST_WILDCARDS} in a rule. Use several routes."
        );
        diagnostics.error_at(path, "Too many wildcards", detail);
    }
}

/// The rules of a cohort, one before each route, are such as AWS takes.
pub(super) fn cohort(config: &Value, diagnostics: &mut Diagnostics) {
    let cohort = config.get("strategy").get("cohort");
    if cohort.as_map().is_none() {
        return;
    }
    let path = Path::attribute("strategy").attr("cohort");
    validate(cohort, &path, diagnostics);
    let mut told = |why: String| {
        let detail = format!("{path}: {why}.");
        diagnostics.error_at(path.clone(), "The cohort can't be led", detail);
    };
    if !cohort.get("conditions").get(OF_NETWORK).is_null() {
        told(format!("{OF_NETWORK} is for Network Load Balancers, which see flows, and no requests of a cohort"));
    }
    let Some(cohort) = Cohort::read(&cohort.known_json()).filter(|_| cohort.is_wholly_known()) else { return };
    let mut can_be_led = false;
    for (n, route) in config.get("routes").as_list().unwrap_or_default().iter().enumerate() {
        let arn = ["listener_arn", "rule_arn"].map(|name| route.get(name).as_str()).into_iter().flatten().next();
        can_be_led |= !arn.is_some_and(arn::is_network);
        let conditions = route.get("conditions");
        if arn.is_none_or(arn::is_network) || !conditions.is_wholly_known() || !route.get("rule_arn").is_null() {
            continue;
        }
        let conditions = Conditions::read(&conditions.known_json()).unwrap_or_default();
        let route_path = Path::attribute("routes").index(n);
        if route.get("priority").as_i64() == Some(1) {
            told(format!("{route_path} has priority 1, and a rule for the cohort has to come before it"));
        } else if let Err(why) = cohort.of_route(&conditions) {
            told(format!("{route_path} can't have a rule before it for the cohort: {why}"));
        }
    }
    if !can_be_led {
        told("all routes are on Network Load Balancers, which see flows, and no requests".to_owned());
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null()
        || value.as_list().is_some_and(<[Value]>::is_empty)
        || value.as_map().is_some_and(BTreeMap::is_empty)
}

/// Rules of Network Load Balancers look at nothing but the kind of address.
fn of_load_balancer(route: &Value, map: &BTreeMap<String, Value>, path: &Path, diagnostics: &mut Diagnostics) {
    let Some(listener) = route.get("listener_arn").as_str() else { return };
    let is_network = arn::is_network(listener);
    for (name, _) in map.iter().filter(|(_, value)| !is_empty(value)) {
        let detail = match (is_network, name == OF_NETWORK) {
            (true, false) => {
                format!(
                    "a rule of a Network Load Balancer can have no condition but {OF_NETWORK}: it sees flows, and no requests"
                )
            }
            (false, true) => "only rules of Network Load Balancers have it; use source_ips".to_owned(),
            _ => continue,
        };
        let path = path.attr(name);
        diagnostics.error_at(path.clone(), "Not for this load balancer", format!("{path}: {detail}."));
    }
}

fn told(path: &Path, fits: Result<(), String>, diagnostics: &mut Diagnostics) {
    if let Err(detail) = fits {
        diagnostics.error_at(path.clone(), "Invalid condition", format!("{path}: {detail}."));
    }
}

fn no_values(path: &Path, diagnostics: &mut Diagnostics) {
    let detail = format!("{path}: there is no value, so that no request could match.");
    diagnostics.error_at(path.clone(), "A condition has no value", detail);
}

fn headers(conditions: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    for (name, values) in conditions.get("http_headers").as_map().into_iter().flatten() {
        let path = path.attr("http_headers").key(name);
        told(&path, condition_header(name), diagnostics);
        let Some(list) = values.as_list() else { continue };
        if list.is_empty() {
            no_values(&path, diagnostics);
        }
        for (n, text) in list.iter().enumerate().filter_map(|(n, value)| Some((n, value.as_str()?))) {
            told(&path.index(n), condition_value(text), diagnostics);
        }
    }
    for (n, condition) in conditions.get("http_header_conditions").as_list().into_iter().flatten().enumerate() {
        if is_empty(condition.get("values")) && is_empty(condition.get("regex_values")) {
            no_values(&path.attr("http_header_conditions").index(n), diagnostics);
        }
    }
}

fn queries(conditions: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    for (key, value) in conditions.get("query_strings").as_map().into_iter().flatten() {
        let path = path.attr("query_strings").key(key);
        told(&path, condition_value(key), diagnostics);
        if let Some(text) = value.as_str() {
            told(&path, condition_value(text), diagnostics);
        }
    }
}

/// Every value of a condition, as AWS counts them, known or not: a pair of key and value is one.
fn gather<'v>(value: &'v Value, values: &mut Vec<&'v Value>) {
    match value {
        Value::List(items) => items.iter().for_each(|item| gather(item, values)),
        Value::Map(members) if members.contains_key("value") && members.contains_key("key") => values.push(value),
        Value::Map(members) => {
            members.iter().filter(|(name, _)| *name != "name").for_each(|(_, member)| gather(member, values));
        }
        Value::Null => {}
        one => values.push(one),
    }
}

/// The texts in which `*` and `?` are wildcards.
fn gather_patterns<'v>(value: &'v Value, patterns: &mut Vec<&'v str>) {
    match value {
        Value::List(items) => items.iter().for_each(|item| gather_patterns(item, patterns)),
        Value::Map(members) => members
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "name" | "regex_values"))
            .for_each(|(_, member)| gather_patterns(member, patterns)),
        value => patterns.extend(value.as_str()),
    }
}
