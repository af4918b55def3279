//! From a configuration to an intent free of Terraform.

use std::collections::BTreeMap;
use std::time::Duration;

use super::validate;
use crate::argument::{self, Always, Arguments as _, Field};
use crate::arn;
use crate::digest::sha256;
use crate::rollout::spec::{self, Timeouts, Trouble};
use crate::rollout::{Environment, Intent, RouteSpec, Scalable, World};
use crate::run::rollout::executor::Scope;
use crate::run::rollout::lock;
use crate::tf_provider::Value;

/// The intent of a valid configuration or state; none if something that decides about traffic is unknown.
pub(super) fn parse(value: &Value) -> Option<Intent> {
    let active = value.get("active");
    if [active, value.get("parameter"), value.get("region")].into_iter().any(Value::is_unknown) {
        return None;
    }
    Some(Intent {
        name: value.get("name").as_str().unwrap_or_default().to_owned(),
        active: active.as_str().map(str::to_owned),
        environments: environments(value.get("environments"))?,
        routes: routes(value.get("routes"))?,
        preview_routes: routes(value.get("preview_routes"))?,
        names: names(value)?,
        record: value.get("parameter").as_str().map(str::to_owned),
        validation: block::<spec::Validation>(value, "validation")?.unwrap_or_default().wanted(),
        strategy: block::<spec::Strategy>(value, "strategy")?.unwrap_or_default().wanted(),
        verification: block::<spec::Verification>(value, "verification")?.map(spec::Verification::wanted),
        stickiness: block::<spec::Stickiness>(value, "stickiness")?.map(|stickiness| stickiness.duration),
        on_failure: declared::<Trouble>(value, "on_failure")?.into(),
        on_interrupt: declared::<Trouble>(value, "on_interrupt")?.into(),
        capacity: block::<spec::Capacity>(value, "capacity")?.map(|capacity| capacity.wanted()),
        removed: Vec::new(),
        left_out: BTreeMap::new(),
        processed: BTreeMap::new(),
    })
}

/// Whether a route of a configuration is known to be on a Network Load Balancer.
pub(super) fn is_of_network(route: &Value) -> bool {
    ["listener_arn", "rule_arn"].into_iter().any(|name| route.get(name).as_str().is_some_and(arn::is_network))
}

/// An argument, as far as it is known.
pub(super) fn read<T: Field>(value: &Value, name: &str) -> Option<T> {
    T::read(&value.get(name).known_json())
}

/// An argument of the switch itself, or the default that is declared.
pub(super) fn declared<T: Field>(value: &Value, name: &str) -> Option<T> {
    argument::argument::<spec::Switch, T>(&Value::object([(name, value.get(name).clone())]).known_json(), name)
}

/// The steps in which traffic moves, as far as they are known.
pub(super) fn strategy(value: &Value) -> spec::Strategy {
    read(value, "strategy").unwrap_or_default()
}

/// A block. Nothing written is an intent, and something unknown is none.
#[expect(clippy::option_option, reason = "unknown, or not written")]
fn block<T: Field>(value: &Value, name: &str) -> Option<Option<T>> {
    match value.get(name) {
        Value::Null => Some(None),
        known if known.is_wholly_known() => T::read(&known.known_json()).map(Some),
        _ => None,
    }
}

/// All routes of a wish, to look at.
pub(super) fn all_routes(intent: &Intent) -> Vec<RouteSpec> {
    intent.routes.iter().chain(&intent.preview_routes).chain(&intent.removed).cloned().collect()
}

/// The name of the parameter that keeps rollouts apart: the record's, or, without one, that of the routes.
pub(super) fn lock(intent: &Intent) -> String {
    lock::name(&locked(intent))
}

/// What the lock is about.
pub(super) fn locked(intent: &Intent) -> String {
    intent.record.clone().unwrap_or_else(|| {
        // Routes come and go; the switch stays, and the load balancer of those that name no target group.
        let by_name = intent.routes.iter().map(|route| (intent.name(route), route.listener())).min();
        let listener = by_name.map(|(_, listener)| listener).unwrap_or_default();
        let load_balancer = arn::load_balancer(&listener).unwrap_or(listener);
        format!("/bluegreen/routes/{}", &sha256(&format!("{load_balancer} {}", intent.name))[..16])
    })
}

/// Everything of a wish that is looked at, and the rules that no request takes, or only a cohort, where there are some.
pub(super) fn scope_of(intent: &Intent, world: &World) -> Scope {
    let mut scope = scope(intent);
    let noted: Vec<RouteSpec> = world.cohort.noted_rules().collect();
    for rule in world.trials.iter().chain(world.cohort.rules()).chain(&noted) {
        if !scope.routes.iter().any(|own| own.key() == rule.key()) {
            scope.routes.push(rule.clone());
        }
    }
    scope
}

/// Everything of a wish that is looked at.
pub(super) fn scope(intent: &Intent) -> Scope {
    let sized = intent.environments.iter().filter(|_| intent.capacity.is_some());
    Scope {
        routes: all_routes(intent),
        record: intent.record.clone(),
        scalables: sized.filter_map(|(color, one)| Some((color.clone(), one.scalable.clone()?))).collect(),
    }
}

fn environments(value: &Value) -> Option<BTreeMap<String, Environment>> {
    let environment = |(color, value): (&String, &Value)| {
        let target_group_arn = value.get("target_group_arn").as_str()?.to_owned();
        let target_groups = match value.get("target_groups") {
            Value::Null => BTreeMap::new(),
            groups if groups.is_wholly_known() => Field::read(&groups.known_json())?,
            _ => return None,
        };
        // What runs there decides nothing: it may be unknown.
        let release = value.get("release").as_str().map(str::to_owned);
        let group = value.get("autoscaling_group_name").as_str().map(|name| Scalable::ScalingGroup(name.to_owned()));
        let service = value.get("service_arn").as_str().map(|arn| Scalable::Service(arn.to_owned()));
        Some((color.clone(), Environment { target_group_arn, target_groups, release, scalable: group.or(service) }))
    };
    value.as_map()?.iter().map(environment).collect()
}

fn routes(value: &Value) -> Option<Vec<RouteSpec>> {
    match value {
        Value::Null => Some(Vec::new()),
        value => value.as_list()?.iter().map(route).collect(),
    }
}

/// The names of the target groups that routes lead to, by the keys of the routes.
fn names(value: &Value) -> Option<BTreeMap<String, String>> {
    let lists = ["routes", "preview_routes"].map(|list| value.get(list).as_list().unwrap_or_default());
    let named = lists.into_iter().flatten().filter_map(|value| match value.get("target_group") {
        Value::Null => None,
        name => Some(name.as_str().and_then(|name| Some((route(value)?.key(), name.to_owned())))),
    });
    named.collect()
}

fn route(value: &Value) -> Option<RouteSpec> {
    if !value.is_wholly_known() {
        return None;
    }
    if let Some(rule) = value.get("rule_arn").as_str() {
        return Some(RouteSpec::Rule(rule.to_owned()));
    }
    let spec::Route { listener_arn, priority, conditions, processing, .. } = Field::read(&value.known_json())?;
    let listener = listener_arn?;
    let Some(priority) = priority else { return Some(RouteSpec::Listener(listener)) };
    let (conditions, processing) = (conditions.unwrap_or_default().normal(), Box::new(processing.into()));
    Some(RouteSpec::OwnRule { listener, priority, conditions, processing, arn: None })
}

/// How long an operation may take: where nothing was said, as long as a rollout takes at least, and half an hour more.
pub(super) fn timeout(value: &Value, operation: &str) -> Duration {
    let mut timeouts = read::<Timeouts>(value, "timeouts").unwrap_or_default();
    timeouts.fill(Always);
    let written = match operation {
        "create" => timeouts.create,
        "update" => timeouts.update,
        _ => timeouts.delete,
    };
    written.unwrap_or_else(|| Duration::from_secs(30 * 60) + validate::checks::least_duration(value))
}
