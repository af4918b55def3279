//! How a color's health is known before it gets traffic where no route can take it at weight 0: behind a fixed answer, a
//! redirect, or a rule that is still to be made. A rule that no request takes has it meanwhile.

use std::collections::BTreeSet;

use super::route_steps;
use crate::digest::sha256;
use crate::rollout::intent::Intent;
use crate::rollout::route::{Conditions, Forward, LAST_PRIORITY, Observed, RouteSpec, Terminal};
use crate::rollout::runbook::{Runbook, Step};
use crate::rollout::situation::target_color;
use crate::rollout::world::World;

/// How many of the lowest are tried first: those that begin at the same time on one listener begin at different ones.
const SPREAD: i32 = 2000;
/// A load balancer has no more rules, unless its quota was raised.
const MOST_RULES: usize = 100;

/// The listener whose rules have to be looked at before the target color can be led anywhere: where it would get traffic before
/// its health could be known, or where a dead rollout may have left a rule that no request takes. None on Network Load Balancers:
/// their listeners always forward, so that a color can join them.
pub fn unproved(intent: &Intent, world: &World, runbook: &Runbook) -> Option<String> {
    let listener = trial_listener(intent)?;
    if world.lock_record.is_some() {
        return Some(listener);
    }
    let color = target_color(intent, world)?;
    let group = intent.environments.get(&color)?.target_group_arn.as_str();
    let production: BTreeSet<String> = intent.routes.iter().map(RouteSpec::key).collect();
    let first = runbook.steps().find_map(|(_, step)| match step {
        Step::Route { route, after, .. } if production.contains(&route.key()) && after.mentions(group) => Some(after),
        _ => None,
    })?;
    (!world.mentions(group) && first.share(group) > 0.0).then_some(listener)
}

/// The listener on which a color is tried out; none where all are on Network Load Balancers.
pub fn trial_listener(intent: &Intent) -> Option<String> {
    intent.routes.iter().find(|route| !route.is_network()).map(RouteSpec::listener)
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
    let groups = intent.environments.values().map(|one| &one.target_group_arn);
    let known = groups.filter(|group| others.clone().any(|rule| rule.terminal.mentions(group))).cloned().collect();
    let route = |priority, arn: Option<&Observed>| RouteSpec::OwnRule {
        listener: listener.to_owned(),
        priority,
        conditions: conditions.clone(),
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
    let mut world = World { known, trial, ..world };
    if let (Some(trial), Some(rule)) = (&world.trial, left) {
        world.routes.insert(trial.key(), rule.clone());
    }
    world
}

/// The step that gives the group to the rule that no request takes, where no route has it.
pub(super) fn step(intent: &Intent, world: &World, group: &str) -> Option<Step> {
    let trial = world.trial.as_ref().filter(|_| !world.mentions(group))?;
    let after = Terminal::Forward(Forward { groups: vec![(group.to_owned(), 1)], stickiness: None });
    let mut step = route_steps::step((intent, world), trial, world.routes.get(&trial.key()), after);
    if let Step::Route { words, .. } = &mut step {
        words.push_str(", so that its health is known before it gets traffic");
    }
    Some(step)
}
