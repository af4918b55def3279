//! Each step by itself, and beside those of its stage.

use std::collections::BTreeSet;

use super::{Kind, Purpose, SAME, Walk};
use crate::rollout::check::Subject;
use crate::rollout::intent::Intent;
use crate::rollout::journal::StepId;
use crate::rollout::planner::MAX_GROUPS;
use crate::rollout::route::{Observed, RouteSpec, Terminal, short};
use crate::rollout::runbook::{Step, terminal_summary};
use crate::rollout::situation;
use crate::rollout::world::World;

/// AWS allows no larger weight.
const MAX_WEIGHT: u32 = 999;

pub(super) fn judge(walk: &mut Walk<'_>) {
    for (id, step) in walk.steps() {
        if let Step::Route { route, after, .. } = step {
            forward(walk, id, route, after);
        }
        if let Some(route) = foreign(step) {
            let message = format!("{route} is not one of the switch's own rules, and would be changed like one");
            walk.find(Kind::ForeignRule, Some(id), message);
        }
        before(walk, id, step);
        let is_taken_over = walk.is_taken_over(id);
        if step.holds(walk.before(id.stage)) && !is_taken_over {
            walk.find(Kind::NothingToDo, Some(id), format!("this step would change nothing: {}", step.summary()));
        }
        match step {
            Step::Check(checking) => subject(walk, id, &checking.subject),
            Step::Watch(watch) => subject(walk, id, &watch.subject),
            _ => {}
        }
    }
    stages(walk);
}

/// What a forward may be.
fn forward(walk: &mut Walk<'_>, id: StepId, route: &RouteSpec, after: &Terminal) {
    let Terminal::Forward(forward) = after else { return };
    let at = Some(id);
    let total: u32 = forward.groups.iter().fold(0, |sum, (_, weight)| sum.saturating_add(*weight));
    let former = walk.before(id.stage).routes.get(&route.key()).map(|observed| observed.terminal.clone());
    // One that had no weight before loses nothing by a group that joins it, nor by a restoration of just that.
    let had_some = former.as_ref().is_none_or(has_weight);
    if total == 0 && had_some && !restores(walk, route, after) {
        walk.find(Kind::NoWeight, at, format!("{route} would have no weight at all"));
    }
    if forward.groups.len() > MAX_GROUPS {
        let count = forward.groups.len();
        walk.find(
            Kind::TooManyGroups,
            at,
            format!("{route} would forward to {count} groups, {MAX_GROUPS} are allowed"),
        );
    }
    let keeps = |group: &str| walk.before(id.stage).sticky.contains(group);
    if !walk.is_taken_over(id)
        && !forward.is_sticky()
        && forward.groups.len() > 1
        && forward.groups.iter().any(|(group, _)| keeps(group))
    {
        let message = format!("{route} would keep clients at no group, and one of its groups keeps them at a target");
        walk.find(Kind::NotSticky, at, message);
    }
    let mut names = BTreeSet::new();
    for (group, weight) in &forward.groups {
        let name = walk.name(group);
        if *weight > MAX_WEIGHT {
            let message = format!("{route} would give {name} the weight {weight}, {MAX_WEIGHT} is the most");
            walk.find(Kind::WeightOutOfRange, at, message);
        }
        if !names.insert(group) {
            walk.find(Kind::GroupTwice, at, format!("{route} would forward to {name} twice"));
        }
    }
    let Some(color) = walk.target().filter(|_| !walk.follows()) else { return };
    let share = walk.intent.group(route, &color).map_or(0.0, |group| after.share(group));
    let splits = share > SAME && share < super::ALL && former.is_none_or(|former| !former.shares_like(after));
    if splits && walk.is_production(route) && !walk.is_taken_over(id) && total != 100 && total != 1000 {
        let message = format!("the weights of {route} would add up to {total}, which makes {share:.2} % for {color}");
        walk.find(Kind::WeightsDoNotAddUp, at, message);
    }
}

/// Whether a restoration is to bring just that back.
fn restores(walk: &Walk<'_>, route: &RouteSpec, after: &Terminal) -> bool {
    let Purpose::Restoration(originals) = walk.purpose else { return false };
    let is_so = |original: &Terminal| match (original, after) {
        // Stickiness may have to be on by now.
        (Terminal::Forward(original), Terminal::Forward(after)) => original.groups == after.groups,
        _ => original == after,
    };
    originals.iter().any(|(other, original)| other == route && is_so(original))
}

/// Whether a route sends requests anywhere, or answers them.
fn has_weight(terminal: &Terminal) -> bool {
    match terminal {
        Terminal::Forward(forward) => forward.groups.iter().any(|(_, weight)| *weight > 0),
        Terminal::FixedResponse { .. } | Terminal::Redirect(_) => true,
    }
}

/// The route that a step changes as only one of the switch's own may be changed, where it is another's.
fn foreign(step: &Step) -> Option<&RouteSpec> {
    let route = match step {
        Step::Route { route, before: None, .. }
        | Step::Priority { route, .. }
        | Step::Conditions { route, .. }
        | Step::Processing { route, .. }
        | Step::Remove { route, .. } => route,
        _ => return None,
    };
    (!matches!(route, RouteSpec::OwnRule { .. })).then_some(route)
}

/// Whether a step was planned on what is there: its undo leads to what it says was before.
fn before(walk: &mut Walk<'_>, id: StepId, step: &Step) {
    let world = walk.before(id.stage);
    let told = if walk.is_taken_over(id) { origin(walk, step) } else { differs(step, walk.intent, world) };
    if let Some(message) = told {
        walk.find(Kind::BeforeDiffers, Some(id), message);
    }
}

/// What a step says was before and was not.
fn differs(step: &Step, intent: &Intent, world: &World) -> Option<String> {
    let observed = |route: &RouteSpec| world.routes.get(&route.key());
    let is_so = |before: &Observed, now: &Observed| before.arn == now.arn && before.terminal.is_same(&now.terminal);
    match step {
        Step::Route { route, before, .. } => {
            let fits = match (before, observed(route)) {
                (None, None) => true,
                (Some(before), Some(now)) => is_so(before, now),
                _ => false,
            };
            let summary = |observed: Option<&Observed>| {
                observed.map_or_else(
                    || "nothing".to_owned(),
                    |one| terminal_summary(&one.terminal, |arn| intent.called(arn)),
                )
            };
            let (was, is) = (summary(before.as_ref()), summary(observed(route)));
            (!fits).then(|| format!("{route} is at {is} by then, but its undo would restore {was}"))
        }
        Step::Remove { route, before } => {
            let fits = observed(route).is_some_and(|now| is_so(before, now));
            (!fits).then(|| format!("{route} is another one by then than its undo would make again"))
        }
        Step::Priority { route, before, arn, .. } => {
            let now = observed(route).filter(|now| now.arn == *arn).and_then(|now| now.place.as_ref());
            let fits = now.is_some_and(|place| place.priority == *before);
            (!fits)
                .then(|| format!("{route} has another priority by then than the {before} that its undo would restore"))
        }
        Step::Conditions { route, before, arn, .. } => {
            let now = observed(route).filter(|now| now.arn == *arn);
            let fits = now.is_some_and(|now| now.conditions.clone().unwrap_or_default() == *before);
            (!fits).then(|| format!("{route} has other conditions by then than its undo would restore"))
        }
        Step::Processing { route, before, .. } => {
            let now = observed(route).filter(|now| now.arn == before.arn && !now.arn.is_empty());
            let fits = now.is_some_and(|now| now.processing == before.processing);
            (!fits).then(|| format!("{route} does something else by then than its undo would restore"))
        }
        Step::Capacity { color, before, .. } => {
            let fits = world.capacities.get(color) == Some(before);
            (!fits).then(|| format!("{color} has another size by then than its undo would restore"))
        }
        Step::Record { parameter, before, .. } => {
            let fits = world.record == *before;
            (!fits).then(|| format!("{parameter} has another value by then than its undo would restore"))
        }
        Step::Check(_) | Step::Converge(_) | Step::Watch(_) => None,
    }
}

/// What a dead rollout's step says was before and was not, by what that rollout wrote down.
fn origin(walk: &Walk<'_>, step: &Step) -> Option<String> {
    let Step::Route { route, before, .. } = step else { return None };
    let lock_record = situation::unfinished(walk.intent, walk.before(0));
    let was = lock_record.and_then(|lock_record| lock_record.origin(&route.key(), &walk.intent.environments));
    let fits = match (before, &was) {
        (Some(before), Some(was)) => before.terminal.is_same(was),
        (before, was) => before.is_none() && was.is_none(),
    };
    (!fits).then(|| format!("the undo of {route} would not restore what it was before the dead rollout"))
}

/// Whether a check is about whom it should be.
fn subject(walk: &mut Walk<'_>, id: StepId, subject: &Subject) {
    let color = &subject.color;
    let wrong = match (walk.intent.environments.get(color), walk.target()) {
        // What serves beside a color that waits is counted before it gets back what that one has beyond its part.
        (Some(environment), Some(target))
            if target != *color && walk.runbook.waits.is_some() && environment.has(&subject.group) =>
        {
            None
        }
        (_, Some(target)) if target != *color => Some(format!("{color} is checked, but {target} is to go live")),
        (Some(environment), Some(_)) if environment.group(subject.name.as_deref()) != Some(subject.group.as_str()) => {
            Some(format!("{} is checked by {}, which is another target group", subject.shown(), short(&subject.group)))
        }
        (Some(environment), _) if !environment.has(&subject.group) => {
            Some(format!("{color} is checked by {}, which is not its target group", short(&subject.group)))
        }
        _ if subject.live_group.as_ref() == Some(&subject.group) => Some(format!("{color} is compared with itself")),
        _ => None,
    };
    if let Some(message) = wrong {
        walk.find(Kind::ChecksWrongSubject, Some(id), message);
    }
}

/// What steps of one stage may not share.
fn stages(walk: &mut Walk<'_>) {
    for (stage, steps) in walk.runbook.stages.iter().enumerate() {
        if steps.steps.is_empty() {
            walk.find(Kind::EmptyStage, None, format!("stage {} has no step", stage + 1));
        }
        let mut met: BTreeSet<(Kind, String)> = BTreeSet::new();
        for (step, value) in steps.steps.iter().enumerate() {
            let id = StepId { stage, step };
            for (kind, thing, message) in touches(value) {
                if !met.insert((kind, thing)) {
                    walk.find(kind, Some(id), message);
                }
            }
        }
    }
}

/// What a step changes, as far as no other of its stage may change it, and what is wrong where one does. A rule's priority
/// and its conditions are changed by calls of their own, which may go together; where it leads and what it does before are one list.
fn touches(step: &Step) -> Vec<(Kind, String, String)> {
    let of = |route: &RouteSpec, what: &str| {
        (Kind::RouteTwiceInStage, format!("{} {what}", route.key()), format!("{route} is changed twice in one stage"))
    };
    match step {
        Step::Route { route, .. } | Step::Processing { route, .. } => vec![of(route, "actions")],
        Step::Priority { route, .. } => vec![of(route, "priority")],
        Step::Conditions { route, .. } => vec![of(route, "conditions")],
        Step::Remove { route, .. } => ["actions", "priority", "conditions"].map(|what| of(route, what)).into(),
        Step::Record { parameter, .. } => {
            let message = format!("{parameter} is written twice in one stage");
            vec![(Kind::ParameterTwiceInStage, parameter.clone(), message)]
        }
        Step::Capacity { color, .. } => {
            vec![(Kind::ColorTwiceInStage, color.clone(), format!("{color} is sized twice in one stage"))]
        }
        Step::Check(_) | Step::Converge(_) | Step::Watch(_) => Vec::new(),
    }
}
