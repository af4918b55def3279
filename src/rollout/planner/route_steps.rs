//! The steps that change one route or the record.

use std::collections::{BTreeMap, BTreeSet};

use super::MAX_GROUPS;
use crate::arn;
use crate::rollout::budget::{BudgetCheck, Source};
use crate::rollout::check::{Block, Check, Checking, Groups, Subject};
use crate::rollout::intent::Intent;
use crate::rollout::processing::Processing;
use crate::rollout::route::{Forward, Observed, RouteSpec, Stickiness, Terminal};
use crate::rollout::runbook::{Runbook, Step, terminal_summary};
use crate::rollout::strategy::Shift;
use crate::rollout::world::World;

/// Brings the group of whom the checks are about into a route at weight 0, unless some route has it already or none can take it.
pub(super) fn attach(intent: &Intent, world: &World, subject: &Subject) -> Option<Step> {
    if world.mentions(&subject.group) {
        return None;
    }
    let mut routes = intent.routes_of(subject.name.as_deref());
    routes.find_map(|route| {
        let observed = world.routes.get(&route.key())?;
        let may_join = staying(intent, route, &observed.terminal, None).contains(&subject.group);
        join((intent, world), route, std::slice::from_ref(&subject.group)).filter(|_| may_join)
    })
}

/// The same whatever a way back left out.
pub(super) fn attach_anyway(intent: &Intent, world: &World, subject: &Subject) -> Option<Step> {
    if !intent.is_left_out(&subject.group) || world.mentions(&subject.group) {
        return None;
    }
    let mut routes = intent.routes_of(subject.name.as_deref());
    routes.find_map(|route| join((intent, world), route, std::slice::from_ref(&subject.group)))
}

/// Whether AWS can be told what the rule had before: a secret that nobody knows can't be put back.
pub(super) fn can_be_undone(step: &Step) -> bool {
    let Step::Processing { before, .. } = step else { return true };
    let secret = before.processing.as_ref().and_then(Processing::secret);
    secret.is_none_or(|secret| !secret.text.is_empty())
}

/// The color is measured by what carries the traffic now, be it a color or not.
pub(super) fn health_check(intent: &Intent, subject: &Subject) -> Step {
    Step::Check(Checking {
        block: Block::Validation,
        index: None,
        subject: subject.clone(),
        check: Check::Healthy(intent.validation.healthy.clone()),
    })
}

/// Checks, and whom they are about: what is seen of a target group is looked at for each, everything else is about the color as a
/// whole. Network Load Balancers know no requests.
pub(super) fn about(intent: &Intent, checks: &[Checking], (subjects, whole): (&[Subject], &Subject)) -> Vec<Checking> {
    let network = |subject: &&Subject| subject.route.as_deref().is_some_and(arn::is_network);
    let is_all_network = intent.routes.iter().all(RouteSpec::is_network);
    let of = |checking: &Checking| -> Vec<Checking> {
        let checking = &Checking { check: counted(intent, &checking.check, &whole.color), ..checking.clone() };
        let about = |subject: &Subject| Checking { subject: subject.clone(), ..checking.clone() };
        match checking.check.groups() {
            Groups::Each => subjects.iter().map(about).collect(),
            Groups::EachOfRequests => {
                subjects.iter().filter(|subject| is_all_network || !network(subject)).map(about).collect()
            }
            Groups::Named(name) => {
                subjects.iter().filter(|subject| subject.name.as_deref() == Some(name)).map(about).collect()
            }
            Groups::Any => vec![about(whole)],
        }
    };
    checks.iter().flat_map(of).collect()
}

/// A check that knows where the requests are counted that it is about.
fn counted(intent: &Intent, check: &Check, color: &str) -> Check {
    let Check::Budget(budget) = check else { return check.clone() };
    let source = |route: &RouteSpec, color: &str| {
        let group = Subject::group_dimension(intent.group(route, color)?)?.to_owned();
        Some(Source { group, load_balancer: arn::load_balancer(route.arn())? })
    };
    let of = |color: &str| intent.routes.iter().filter_map(|route| source(route, color)).collect::<BTreeSet<Source>>();
    let all = intent.environments.keys().flat_map(|color| of(color)).collect();
    Check::Budget(BudgetCheck { own: of(color), all, ..budget.clone() })
}

/// The step that gives a color a part of what a route forwards; the others share the rest as they did. None where the
/// route has nothing to split, or has that split already.
pub(super) fn part(intent: &Intent, world: &World, route: &RouteSpec, color: &str, shift: Shift) -> Option<Step> {
    let (before, group) = (world.routes.get(&route.key())?, intent.group(route, color)?);
    if before.terminal.share(group) > shift.percent() + 0.01 {
        return None;
    }
    split(intent, world, route, color, shift)
}

/// The same whatever it has.
pub(super) fn split(intent: &Intent, world: &World, route: &RouteSpec, color: &str, shift: Shift) -> Option<Step> {
    let before = world.routes.get(&route.key())?;
    let Terminal::Forward(forward) = &before.terminal else { return None };
    let group = intent.group(route, color)?;
    let others: Vec<(&String, f64)> = forward
        .groups
        .iter()
        .map(|(arn, _)| arn)
        .filter(|arn| arn.as_str() != group)
        .map(|arn| (arn, before.terminal.share(arn)))
        .filter(|(_, share)| *share > 0.0)
        .collect();
    let rest: f64 = others.iter().map(|(_, share)| share).sum();
    if rest <= 0.0 {
        return None;
    }
    let left = 100_u32.saturating_sub(shift.permille / 10) as usize;
    let is_whole = shift.permille.is_multiple_of(10) && left >= others.len();
    let (own, of) = if is_whole { (shift.permille / 10, 100) } else { (shift.permille, 1000) };
    let rests = divide(of - own, &others, rest);
    let weight = |arn: &String| rests.get(arn).copied().unwrap_or_default();
    let of_colors = staying(intent, route, &before.terminal, Some(group));
    let mut groups: Vec<(String, u32)> =
        of_colors.iter().map(|arn| (arn.clone(), if arn == group { own } else { weight(arn) })).collect();
    let foreign = others.iter().filter(|(arn, _)| !of_colors.contains(arn));
    groups.extend(foreign.map(|(arn, _)| ((*arn).clone(), weight(arn))));
    if groups.len() > MAX_GROUPS {
        return None;
    }
    let sticky = intent
        .stickiness
        .map(|duration| Stickiness { enabled: true, duration_seconds: i32::try_from(duration.as_secs()).ok() });
    let stickiness = sticky.or_else(|| before.terminal.stickiness());
    let step = step((intent, world), route, Some(before), Terminal::Forward(Forward { groups, stickiness }));
    if step.holds(world) { None } else { Some(step) }
}

/// Divides a weight among groups as they have it. What has some of it keeps some of it, as far as there is enough.
pub(super) fn divide<'a>(weight: u32, groups: &[(&'a String, f64)], sum: f64) -> BTreeMap<&'a String, u32> {
    let part = |share: f64| ((f64::from(weight) * share / sum).round() as u32).max(1);
    let mut parts: BTreeMap<&String, u32> = groups.iter().map(|(arn, share)| (*arn, part(*share))).collect();
    let total = |parts: &BTreeMap<&String, u32>| parts.values().sum::<u32>();
    if let Some(largest) = parts.values_mut().max() {
        *largest += weight.saturating_sub(groups.iter().map(|(_, share)| part(*share)).sum());
    }
    while total(&parts) > weight
        && let Some(largest) = parts.values_mut().max()
    {
        *largest = largest.saturating_sub(1);
    }
    parts
}

/// The target groups that the colors have for a route.
fn colors(intent: &Intent, route: &RouteSpec) -> Vec<String> {
    intent.environments.keys().filter_map(|color| intent.group(route, color)).map(str::to_owned).collect()
}

/// Those of them that a forward has, or may have: what clients would be kept at that a rollout left stays out, unless it is to get
/// traffic. Network Load Balancers have no other way to know its health, and their clients are kept by flows.
fn staying(intent: &Intent, route: &RouteSpec, seen: &Terminal, gaining: Option<&str>) -> Vec<String> {
    let out = intent.left_out.get(&route.key()).filter(|_| seen.is_sticky() && !route.is_network());
    let is_out = |group: &String| out.is_some_and(|out| out.contains(group)) && !seen.mentions(group);
    let mut groups = colors(intent, route);
    groups.retain(|group| gaining == Some(group.as_str()) || !is_out(group));
    groups
}

/// A forward with every color in it that a route leads to, those that it lacks at weight 0.
pub(super) fn with_all(intent: &Intent, route: &RouteSpec, terminal: &Terminal) -> Terminal {
    let Terminal::Forward(forward) = terminal else { return terminal.clone() };
    let mut forward = forward.clone();
    for group in colors(intent, route) {
        if forward.groups.len() < MAX_GROUPS && !terminal.mentions(&group) {
            forward.groups.push((group, 0));
        }
    }
    Terminal::Forward(forward)
}

/// Brings the colors that a route lacks into it at weight 0.
pub(super) fn join_route(intent: &Intent, world: &World, route: &RouteSpec) -> Option<Step> {
    let observed = world.routes.get(&route.key())?;
    join((intent, world), route, &staying(intent, route, &observed.terminal, None))
}

/// Brings those groups that a forward lacks into it at weight 0; none if it lacks none or can't take them.
fn join((intent, world): (&Intent, &World), route: &RouteSpec, groups: &[String]) -> Option<Step> {
    let observed = world.routes.get(&route.key())?;
    let Terminal::Forward(forward) = &observed.terminal else { return None };
    let missing: Vec<&String> = groups.iter().filter(|group| !observed.terminal.mentions(group)).collect();
    if missing.is_empty() || forward.groups.len() + missing.len() > MAX_GROUPS {
        return None;
    }
    let mut forward = forward.clone();
    forward.groups.extend(missing.into_iter().map(|group| (group.clone(), 0)));
    Some(step((intent, world), route, Some(observed), Terminal::Forward(forward)))
}

/// The step that leads a route to one color, all others staying at weight 0; none if it already does. On a way back, those at which
/// clients would be kept stay out.
pub(super) fn lead(
    intent: &Intent,
    world: &World,
    route: &RouteSpec,
    color: &str,
    (stickiness, is_back): (Option<Stickiness>, bool),
) -> Option<Step> {
    let before = world.routes.get(&route.key());
    let own = intent.group(route, color)?;
    let groups = match before {
        Some(before) => staying(intent, route, &before.terminal, Some(own)),
        None => colors(intent, route),
    };
    let groups = groups.into_iter().map(|arn| (arn.clone(), if arn == own { 100 } else { 0 }));
    let mut forward = Forward { groups: groups.collect(), stickiness };
    // What has users now is what they are led away from.
    let has_users = |arn: &str| before.is_some_and(|before| before.terminal.share(arn) > 0.0);
    if is_back && forward.is_sticky() && !route.is_network() {
        forward.groups.retain(|(arn, _)| arn == own || !has_users(arn));
    }
    let step = step((intent, world), route, before, Terminal::Forward(forward));
    if step.holds(world) { None } else { Some(step) }
}

/// How clients are kept at a group. AWS lets an action forward to several groups, one of which keeps clients at a target, only if
/// the action keeps them at a group, too; where nobody asked for that, as shortly as can be. Network Load Balancers know no time.
fn sticking(world: &World, route: &RouteSpec, forward: Forward) -> Forward {
    let is_on = forward.is_sticky();
    let Forward { groups, stickiness } = forward;
    let is_needed = groups.len() > 1 && groups.iter().any(|(arn, _)| world.sticky.contains(arn));
    let stickiness = match (stickiness, route.is_network()) {
        (Some(Stickiness { enabled: true, .. }), true) => Some(Stickiness { enabled: true, duration_seconds: None }),
        (_, _) if is_needed && !is_on => Some(Stickiness::shortest(route)),
        (stickiness, _) => stickiness,
    };
    Forward { groups, stickiness }
}

/// The groups of which it has to be known whether they keep clients at a target, for these steps to be what AWS takes.
pub fn to_be_asked(runbook: &Runbook) -> BTreeSet<String> {
    let forwards = runbook.steps().filter_map(|(_, step)| match step {
        Step::Route { after: Terminal::Forward(forward), .. } => Some(forward),
        _ => None,
    });
    let open = forwards.filter(|forward| forward.groups.len() > 1 && !forward.is_sticky());
    open.flat_map(|forward| forward.groups.iter().map(|(arn, _)| arn.clone())).collect()
}

pub(super) fn step(
    (intent, world): (&Intent, &World),
    route: &RouteSpec,
    before: Option<&Observed>,
    after: Terminal,
) -> Step {
    let after = match after {
        Terminal::Forward(forward) => Terminal::Forward(sticking(world, route, forward)),
        other => other,
    };
    let called = |arn: &str| intent.called(arn);
    let to = terminal_summary(&after, called);
    let words = match before {
        Some(before) => format!("{} → {to}", terminal_summary(&before.terminal, called)),
        None => to,
    };
    Step::Route { route: route.clone(), before: before.cloned(), after, words }
}

fn priorities(routes: &[RouteSpec], world: &World) -> Vec<Step> {
    let moved = routes.iter().filter_map(|route| {
        let RouteSpec::OwnRule { priority, .. } = route else { return None };
        let seen = world.routes.get(&route.key())?;
        let before = seen.place.as_ref()?.priority;
        let (arn, after) = (seen.arn.clone(), *priority);
        (before != after).then(|| Step::Priority { route: route.clone(), arn, before, after })
    });
    moved.collect()
}

/// What of the switch's own rules is to be another one than it is, besides where they lead.
#[derive(Default)]
pub(super) struct PutRight {
    /// Those through which no longer everybody comes: before they take other requests.
    pub closed: Vec<Step>,
    /// Which requests they take.
    pub placed: Vec<Step>,
    /// What else they do with them.
    pub processed: Vec<Step>,
}

/// What a route that was seen does with a request, with its secret where that is known, and what it is to do; none where that is of
/// a kind that the switch doesn't know.
pub(super) fn processed(intent: &Intent, route: &RouteSpec, seen: &Observed) -> Option<(Processing, Processing)> {
    let (mut before, made) = (seen.processing.clone()?, intent.processed.get(&route.key()));
    if let Some(made) = made {
        before = before.with_secret_of(made);
    }
    let after = route.processing().map_or_else(|| before.clone(), |wished| before.becoming(wished, made));
    Some((before, after))
}

/// What is to be put right of these.
pub(super) fn put_right(intent: &Intent, routes: &[RouteSpec], world: &World) -> PutRight {
    let mut found = PutRight { placed: priorities(routes, world), ..PutRight::default() };
    for route in routes {
        let RouteSpec::OwnRule { conditions, .. } = route else { continue };
        let Some(seen) = world.routes.get(&route.key()) else { continue };
        // Conditions that the switch doesn't know are not the ones that are wished.
        let before = seen.conditions.clone().unwrap_or_default();
        let (arn, after) = (seen.arn.clone(), conditions.clone());
        if before != after {
            found.placed.push(Step::Conditions { route: route.clone(), arn, before, after });
        }
        // What it does that the switch doesn't know is left as it is; where something is wished besides, a warning says so.
        let Some((before, after)) = processed(intent, route, seen) else { continue };
        let steps = if before.closes(&after) { &mut found.closed } else { &mut found.processed };
        if !before.changes(&after).is_empty() {
            let before = Box::new(Observed { processing: Some(before), ..seen.clone() });
            steps.push(Step::Processing { route: route.clone(), before, after });
        }
    }
    found
}

/// A record that says something else is only overwritten when a color was named: otherwise somebody else keeps it.
pub(super) fn record(intent: &Intent, world: &World, color: &str) -> Option<Step> {
    let parameter = intent.record.clone()?;
    if intent.active.is_none() && world.record.is_some() {
        return None;
    }
    let step = Step::Record { parameter, before: world.record.clone(), after: Some(color.to_owned()) };
    if step.holds(world) { None } else { Some(step) }
}

pub(super) fn remove(world: &World, route: &RouteSpec) -> Option<Step> {
    let before = world.routes.get(&route.key())?.clone();
    Some(Step::Remove { route: route.clone(), before })
}
