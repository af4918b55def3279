//! How a color's health is known before it gets traffic where no route can take it at weight 0: behind a fixed answer, a
//! redirect, or a rule that is still to be made. A rule that no request takes has it meanwhile.

use std::collections::BTreeSet;

use super::{MAX_GROUPS, route_steps};
use crate::digest::sha256;
use crate::rollout::check::Subject;
use crate::rollout::intent::Intent;
use crate::rollout::route::{Conditions, Forward, LAST_PRIORITY, Observed, RouteSpec, Terminal};
use crate::rollout::runbook::{Runbook, Step};
use crate::rollout::situation::target_color;
use crate::rollout::world::World;

/// How many of the lowest are tried first: those that begin at the same time on one listener begin at different ones.
const SPREAD: i32 = 2000;
/// A load balancer has no more rules, unless its quota was raised.
const MOST_RULES: usize = 100;

/// The listeners whose rules have to be looked at before the target color can be led anywhere: where it would get traffic before
/// its health could be known, or where a dead rollout may have left a rule that no request takes. None on Network Load Balancers:
/// their listeners always forward, so that a color can join them.
pub fn unproved(intent: &Intent, world: &World, runbook: &Runbook) -> Vec<String> {
    let listeners = trial_listeners(intent);
    if world.lock_record.is_some() {
        return listeners;
    }
    let Some(color) = target_color(intent, world) else { return Vec::new() };
    let production: BTreeSet<String> = intent.routes.iter().map(RouteSpec::key).collect();
    let is_unproved = |name: &Option<&str>| {
        let Some(group) = intent.environments.get(&color).and_then(|one| one.group(*name)) else { return false };
        let first = runbook.steps().find_map(|(_, step)| match step {
            Step::Route { route, after, .. } if production.contains(&route.key()) && after.mentions(group) => {
                Some(after)
            }
            _ => None,
        });
        !world.mentions(group) && first.is_some_and(|first| intent.is_left_out(group) || first.share(group) > 0.0)
    };
    let names = intent.names().into_iter().filter(is_unproved);
    let own: BTreeSet<String> = names.filter_map(|name| listener_of(intent, name)).collect();
    listeners.into_iter().filter(|listener| own.contains(listener)).collect()
}

/// The listeners on which a color is tried out.
pub fn trial_listeners(intent: &Intent) -> Vec<String> {
    let mut met = BTreeSet::new();
    let listeners = intent.names().into_iter().filter_map(|name| listener_of(intent, name));
    listeners.filter(|listener| met.insert(listener.clone())).collect()
}

/// The listener on which target groups of this name are tried out: one that is to have them, since not every listener takes every
/// protocol. None of Network Load Balancers.
fn listener_of(intent: &Intent, name: Option<&str>) -> Option<String> {
    intent.routes_of(name).find(|route| !route.is_network()).map(RouteSpec::listener)
}

/// The world with what the listener's rules tell: groups that one of them has, the rule that an earlier run left, and where one can
/// be made.
pub fn tried(intent: &Intent, world: World, listener: &str, rules: &[Observed]) -> World {
    // Of two switches with one name on one listener, the routes differ.
    let first = intent.routes.iter().map(RouteSpec::key).min().unwrap_or_default();
    let digest = sha256(&format!("{} {first}", intent.name));
    let conditions = Conditions::nobody(&format!("switch-{}", &digest[..12]));
    let start = LAST_PRIORITY - i32::from_str_radix(&digest[12..18], 16).unwrap_or_default() % SPREAD;
    let left = rules.iter().find(|rule| rule.conditions.as_ref() == Some(&conditions));
    let others = rules.iter().filter(|rule| left.is_none_or(|left| left.arn != rule.arn));
    let known = intent.groups().filter(|group| others.clone().any(|rule| rule.terminal.mentions(group)));
    let known: BTreeSet<String> = known.map(str::to_owned).collect();
    let route = |priority, arn: Option<&Observed>| RouteSpec::OwnRule {
        listener: listener.to_owned(),
        priority,
        conditions: conditions.clone(),
        processing: Box::default(),
        arn: arn.map(|rule| rule.arn.clone()),
    };
    let stands = |rule: &Observed| rule.place.as_ref().map(|place| place.priority);
    let taken: BTreeSet<i32> = rules.iter().filter_map(stands).collect();
    let is_free = |priority: &i32| {
        let key = route(*priority, None).key();
        let mut own = intent.routes.iter().chain(&intent.preview_routes);
        !taken.contains(priority) && !own.any(|own| own.key() == key)
    };
    let trial = match left {
        Some(rule) => stands(rule).map(|priority| route(priority, Some(rule))),
        None if rules.len() >= MOST_RULES => None,
        None => {
            let mut from_there = (1..=start).rev().chain((start + 1..=LAST_PRIORITY).rev());
            from_there.find(is_free).map(|priority| route(priority, None))
        }
    };
    let mut world = world;
    world.known.extend(known);
    if let (Some(trial), Some(rule)) = (&trial, left) {
        world.routes.insert(trial.key(), rule.clone());
    }
    world.trials.retain(|other| other.listener() != listener);
    world.trials.extend(trial);
    world
}

/// The steps that give groups that no route has to rules that no request takes, each to that of its own listener.
pub(super) fn steps(intent: &Intent, world: &World, subjects: &[Subject]) -> Vec<Step> {
    let step = |trial: &RouteSpec| {
        let is_its_own = |subject: &&Subject| {
            let own = listener_of(intent, subject.name.as_deref());
            own == Some(trial.listener()) && !world.mentions(&subject.group)
        };
        let groups = subjects.iter().filter(is_its_own).map(|subject| (subject.group.clone(), 1));
        let groups: Vec<(String, u32)> = groups.take(MAX_GROUPS).collect();
        if groups.is_empty() {
            return None;
        }
        let after = Terminal::Forward(Forward { groups, stickiness: None });
        let mut step = route_steps::step((intent, world), trial, world.routes.get(&trial.key()), after);
        if let Step::Route { words, .. } = &mut step {
            words.push_str(", so that its health is known before it gets traffic");
        }
        Some(step)
    };
    world.trials.iter().filter_map(step).collect()
}
