//! What can be told of a configuration before anything is asked.

pub(super) mod checks;
mod conditions;
mod processing;

use std::collections::{BTreeMap, BTreeSet};

use crate::argument::rules;
use crate::arn::{self, Kind};
use crate::rollout::called;
use crate::tf_provider::{Diagnostics, Path, Value};

pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    let mut regions = Regions { own: config.get("region").as_str().map(str::to_owned), ..Regions::default() };
    validate_environments(config, &mut regions, diagnostics);
    validate_active(config, diagnostics);
    let mut seen = BTreeSet::new();
    for list in ["routes", "preview_routes"] {
        for (n, route) in config.get(list).as_list().unwrap_or_default().iter().enumerate() {
            let path = Path::attribute(list).index(n);
            validate_route(route, &path, &mut regions, diagnostics);
            target_group(config, route, &path, diagnostics);
            if let Some(key) = key(route).filter(|key| !seen.insert(key.clone())) {
                let detail = format!("{path}: this route ({key}) is there already. Each route can be given once.");
                diagnostics.error_at(path, "Route given twice", detail);
            }
        }
    }
    regions.compare(diagnostics);
    one_load_balancer(config, diagnostics);
    no_nulls(config, diagnostics);
    conditions::cohort(config, diagnostics);
    checks::validate(config, diagnostics);
    super::freezes::validate(config, diagnostics);
    super::budgets::validate(config, diagnostics);
    // What is wrong comes before what is unwise.
    if !diagnostics.has_errors() {
        checks::warn(config, diagnostics);
    }
}

/// The regions that ARNs name, with where they are named.
#[derive(Default)]
struct Regions {
    /// The one that is written.
    own: Option<String>,
    named: Vec<(Path, String, Kind)>,
}

impl Regions {
    /// Reads an ARN; what is wrong with it is told at its path.
    fn arn(&mut self, value: &Value, path: &Path, kind: Kind, diagnostics: &mut Diagnostics) {
        let Some(text) = value.as_str() else { return };
        match arn::parse(text, kind) {
            Ok(arn) => self.named.push((path.clone(), arn.region.to_owned(), kind)),
            Err(detail) => {
                diagnostics.error_at(path.clone(), format!("Invalid {kind} ARN"), format!("{path}: {detail}."));
            }
        }
    }

    /// A load balancer forwards to target groups of its own region only.
    fn compare(&self, diagnostics: &mut Diagnostics) {
        let route = self.named.iter().find(|(_, _, kind)| *kind != Kind::TargetGroup);
        let first = route.or_else(|| self.named.first()).map(|(path, region, _)| (path.to_string(), region.clone()));
        let own = self.own.as_ref().map(|region| ("the switch".to_owned(), region.clone()));
        let Some((first, region)) = own.or(first) else { return };
        for (path, other, kind) in self.named.iter().filter(|(_, other, _)| *other != region) {
            let detail = format!("{path}: this {kind} is in {other}, but {first} is in {region}.");
            diagnostics.error_at(path.clone(), format!("The {kind} is in another region"), detail);
        }
    }
}

/// A target group serves one load balancer only, so all routes to it are on that one.
fn one_load_balancer(config: &Value, diagnostics: &mut Diagnostics) {
    let mut first: BTreeMap<Option<&str>, (Path, String)> = BTreeMap::new();
    for list in ["routes", "preview_routes"] {
        for (n, route) in config.get(list).as_list().unwrap_or_default().iter().enumerate() {
            let name = route.get("target_group");
            if name.is_unknown() {
                continue;
            }
            let arn = route.get("listener_arn").as_str().or_else(|| route.get("rule_arn").as_str());
            let parts = arn.and_then(|arn| arn.splitn(6, ':').nth(5)).map(|resource| resource.split('/'));
            let Some(own) = parts.map(|parts| parts.skip(1).take(3).collect::<Vec<_>>().join("/")) else { continue };
            let path = Path::attribute(list).index(n);
            let (other, load_balancer) = first.entry(name.as_str()).or_insert_with(|| (path.clone(), own.clone()));
            if *load_balancer != own {
                let detail = format!(
                    "{path}: this route is on the load balancer {own}, but {other} is on {load_balancer}. AWS lets a target group serve one load balancer only: name other ones in target_groups of the environments and in target_group of this route."
                );
                diagnostics.error_at(path, "The route is on another load balancer", detail);
            }
        }
    }
}

/// A route leads to target groups that all colors have.
fn target_group(config: &Value, route: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    let Some(name) = route.get("target_group").as_str() else { return };
    let environments = config.get("environments").as_map().into_iter().flatten();
    let lacks = |environment: &Value| match environment.get("target_groups") {
        Value::Null => true,
        groups => groups.as_map().is_some_and(|groups| groups.get(name).is_none_or(Value::is_null)),
    };
    let lacking = environments.filter(|(_, environment)| environment.as_map().is_some() && lacks(environment));
    let lacking: Vec<&str> = lacking.map(|(color, _)| color.as_str()).collect();
    if !lacking.is_empty() {
        let path = path.attr("target_group");
        let verb = if lacking.len() == 1 { "has" } else { "have" };
        let detail = format!(
            "{path} is {name:?}, but {} {verb} no target group of that name in target_groups. Each color needs one, so that all routes move together.",
            lacking.join(" and ")
        );
        diagnostics.error_at(path, "A color lacks the target group", detail);
    }
}

/// A color that is null would be passed over in silence.
fn no_nulls(config: &Value, diagnostics: &mut Diagnostics) {
    let environments = config.get("environments").as_map().into_iter().flatten();
    for (color, _) in environments.filter(|(_, environment)| environment.is_null()) {
        let path = Path::attribute("environments").key(color);
        let detail = format!("{path} is null. Leave the element out instead.");
        diagnostics.error_at(path, "Null element", detail);
    }
}

fn validate_environments(config: &Value, regions: &mut Regions, diagnostics: &mut Diagnostics) {
    let environments = Path::attribute("environments");
    let Some(map) = config.get("environments").as_map() else { return };
    if !(2..=5).contains(&map.len()) {
        let detail = format!(
            "A switch holds two to five colors, {} given. Five is what a load balancer's action can forward to.",
            if map.len() == 1 { "1 was".to_owned() } else { format!("{} were", map.len()) }
        );
        diagnostics.error_at(environments.clone(), "Two to five environments are needed", detail);
    }
    let mut owners: BTreeMap<&str, String> = BTreeMap::new();
    for (color, environment) in map {
        let path = environments.key(color);
        if let Err(detail) = rules::color(color) {
            diagnostics.error_at(path.clone(), "Invalid color", format!("{path}: {detail}."));
        }
        let mut groups = vec![(None, environment.get("target_group_arn"), path.attr("target_group_arn"))];
        let named = environment.get("target_groups").as_map().into_iter().flatten();
        groups.extend(named.map(|(name, group)| (Some(name.as_str()), group, path.attr("target_groups").key(name))));
        for (name, group, path) in groups {
            if let Some(Err(detail)) = name.map(rules::color) {
                diagnostics.error_at(path.clone(), "Invalid name of a target group", format!("{path}: {detail}."));
            }
            regions.arn(group, &path, Kind::TargetGroup, diagnostics);
            let Some(arn) = group.as_str() else { continue };
            if let Some(owner) = owners.insert(arn, called(color, name)) {
                let detail = format!(
                    "{path}: {owner} has the same target group. Each color needs its own, and each name another one."
                );
                diagnostics.error_at(path, "Target group given twice", detail);
            }
        }
    }
}

fn validate_active(config: &Value, diagnostics: &mut Diagnostics) {
    let (active, environments) = (config.get("active"), config.get("environments"));
    let (Some(active), Some(map)) = (active.as_str(), environments.as_map()) else { return };
    if !map.contains_key(active) {
        let known = map.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let detail = format!("active is {active:?}, which is none of the environments ({known}).");
        diagnostics.error_at(Path::attribute("active"), "Unknown color", detail);
    }
}

fn validate_route(route: &Value, path: &Path, regions: &mut Regions, diagnostics: &mut Diagnostics) {
    if route.as_map().is_none() {
        return;
    }
    let set = |name: &str| route.get(name).is_set();
    let none = |name: &str| route.get(name).is_null();
    regions.arn(route.get("listener_arn"), &path.attr("listener_arn"), Kind::Listener, diagnostics);
    regions.arn(route.get("rule_arn"), &path.attr("rule_arn"), Kind::Rule, diagnostics);
    let own = set("priority") || set("conditions");
    match (set("listener_arn"), set("rule_arn")) {
        (false, false) if none("listener_arn") && none("rule_arn") => {
            let detail = format!(
                "{path}: a route is a listener_arn (its default action), a rule_arn (an existing rule), or a listener_arn with priority and conditions (a rule to make)."
            );
            diagnostics.error_at(path.clone(), "A route needs a listener or a rule", detail);
        }
        (true, true) => {
            let detail = format!(
                "{path}: set listener_arn or rule_arn, not both. An existing rule is named by rule_arn alone; its listener follows from it."
            );
            diagnostics.error_at(path.attr("rule_arn"), "Conflicting arguments", detail);
        }
        (false, true) if own && none("listener_arn") => {
            let name = if set("priority") { "priority" } else { "conditions" };
            let detail = format!(
                "{path}: {name} belongs to a rule that the switch makes, and rule_arn names one that is there already."
            );
            diagnostics.error_at(path.attr(name), "Conflicting arguments", detail);
        }
        (true, false) if own && none("rule_arn") => return validate_own_rule(route, path, diagnostics),
        _ => {}
    }
    if none("priority") && none("conditions") {
        processing::none(route, path, diagnostics);
    }
}

fn validate_own_rule(route: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    for (name, other) in [("priority", "conditions"), ("conditions", "priority")] {
        if route.get(name).is_null() {
            let detail = format!("{path}: a rule to make needs a priority and conditions; {name} is missing.");
            diagnostics.error_at(path.attr(other), format!("{name} is missing"), detail);
        }
    }
    let listener = route.get("listener_arn").as_str();
    if listener.is_some_and(|arn| [":listener/app/", ":listener/net/"].iter().all(|kind| !arn.contains(kind))) {
        let detail = format!("{path}: only listeners of Application and of Network Load Balancers have rules.");
        diagnostics.error_at(path.attr("listener_arn"), "This listener can't have rules", detail);
    }
    conditions::validate(route, path, diagnostics);
    processing::validate(route, path, diagnostics);
}

/// What makes two routes the same, as far as it is known.
fn key(route: &Value) -> Option<String> {
    if let Some(rule) = route.get("rule_arn").as_str() {
        return Some(rule.to_owned());
    }
    let listener = route.get("listener_arn").as_str()?;
    match route.get("priority") {
        Value::Null => Some(listener.to_owned()),
        priority => Some(format!("{listener} with priority {}", priority.as_i64()?)),
    }
}
