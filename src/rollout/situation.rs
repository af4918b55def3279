//! Where a switch stands: who is live, whom its target is, and what an earlier rollout left.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::intent::{Environment, Intent};
use super::lock_record::{LockRecord, Status, Waiting};
use super::route::{ALL, NEAR, Observed, RouteSpec, SAME, Terminal};
use super::strategy::OnTimeout;
use super::world::{Traffic, World, traffic};

/// Who gets the traffic now.
pub fn current(intent: &Intent, world: &World) -> Traffic {
    let routes: Vec<&Observed> = intent.routes.iter().filter_map(|route| world.routes.get(&route.key())).collect();
    traffic(&intent.environments, routes, world.record.as_deref())
}

/// Whether all traffic is with the color on record: then nothing is unfinished, whatever was written before.
pub fn is_settled(intent: &Intent, world: &World) -> bool {
    world.record.as_ref().is_some_and(|color| is_all_on(intent, world, color))
}

/// Whether a color has all the traffic of all routes.
pub fn is_all_on(intent: &Intent, world: &World, color: &str) -> bool {
    intent.environments.contains_key(color)
        && intent.routes.iter().all(|route| {
            let (seen, group) = (world.routes.get(&route.key()), intent.group(route, color));
            seen.zip(group).is_some_and(|(seen, group)| seen.terminal.share(group) > ALL)
        })
}

/// What a rollout left that moved something before it died; one that moved nothing left nothing. Where it never led,
/// somebody else led since: there nothing is left of it to go on with, or to take back.
pub fn unfinished<'w>(intent: &Intent, world: &'w World) -> Option<&'w LockRecord> {
    open(intent, world).filter(|lock_record| is_as_left(intent, world, lock_record))
}

/// What a rollout left whose traffic somebody else has moved since.
pub fn overtaken<'w>(intent: &Intent, world: &'w World) -> Option<&'w LockRecord> {
    open(intent, world).filter(|lock_record| !is_as_left(intent, world, lock_record))
}

/// A rollout of this switch that did not come to its end, where traffic is not as it was before it.
fn open<'w>(intent: &Intent, world: &'w World) -> Option<&'w LockRecord> {
    let lock_record = own(intent, world)?;
    let moved = intent.routes.iter().any(|route| {
        let (seen, was) = (world.routes.get(&route.key()), lock_record.origin(&route.key(), &intent.environments));
        match (seen, was) {
            (Some(seen), Some(was)) => !seen.terminal.is_same(&was),
            (seen, was) => seen.is_some() != was.is_some(),
        }
    });
    moved.then_some(lock_record)
}

/// What an earlier run of this switch left, whatever became of the traffic since. What another switch left, or a contract, is theirs to go
/// on with.
fn own<'w>(intent: &Intent, world: &'w World) -> Option<&'w LockRecord> {
    let own = |lock_record: &&LockRecord| lock_record.what.is_empty() && lock_record.switch == intent.name;
    world.lock_record.as_ref().filter(own).filter(|_| !is_settled(intent, world))
}

fn is_as_left(intent: &Intent, world: &World, lock_record: &LockRecord) -> bool {
    let mut seen = intent.routes.iter().filter_map(|route| Some((route, world.routes.get(&route.key())?)));
    seen.all(|(route, seen)| is_led(intent, lock_record, route, &seen.terminal))
}

/// Whether a route leads where it led before a rollout, or where that rollout led it.
fn is_led(intent: &Intent, lock_record: &LockRecord, route: &RouteSpec, now: &Terminal) -> bool {
    let to = lock_record.to.as_ref().and_then(|to| intent.environments.get(to).zip(intent.group(route, to)));
    let (Some(led), Some((environment, own))) = (&lock_record.led, to) else { return true };
    let was = lock_record.origin(&route.key(), &intent.environments);
    if was.as_ref().is_some_and(|was| was.shares_like(now)) {
        return true;
    }
    // What moves within a color goes to one of its target groups that had nothing, whichever is wished by now.
    let is_within = lock_record.from == lock_record.to;
    let had = |group: &str| was.as_ref().map_or(0.0, |was| was.share(group));
    let mut groups = environment.groups().filter(|group| *group == own || (is_within && had(group) <= 0.0));
    groups.any(|to| {
        let share = now.share(to);
        let is_step = led.iter().any(|permille| (f64::from(*permille) / 10.0 - share).abs() < 0.15);
        let Some(was) = &was else { return is_step };
        // The others have what is left as they had it before.
        let (rest, left) = (100.0 - was.share(to), 100.0 - share);
        let Terminal::Forward(forward) = was else { return is_step };
        let others = forward.groups.iter().filter(|(arn, _)| arn != to);
        let keep = |(arn, _): &(String, u32)| (was.share(arn) / rest * left - now.share(arn)).abs() < 1.1;
        is_step && (rest < 0.1 || others.into_iter().all(keep))
    })
}

/// The rollout to the color that is to be live, or from it, that did not come to its end; one that waits for a person is so, whoever moved the
/// traffic since.
pub fn begun<'w>(intent: &Intent, world: &'w World) -> Option<&'w LockRecord> {
    let waits = |left: &&LockRecord| left.status == Status::Waiting;
    unfinished(intent, world).or_else(|| own(intent, world).filter(waits))
}

/// A rollout that waits for a person, and was not told to go further.
pub fn waiting<'w>(intent: &Intent, world: &'w World) -> Option<(&'w LockRecord, &'w Waiting)> {
    let left = unfinished(intent, world).filter(|left| left.status == Status::Waiting && left.to == intent.active)?;
    let waiting = left.waiting.as_ref()?;
    let is_approved = intent.strategy.up_to.is_none_or(|up_to| f64::from(up_to) / 10.0 > waiting.percent + SAME);
    (!is_approved).then_some((left, waiting))
}

/// Whether a rollout has waited for as long as it was to at a time.
pub fn is_overdue(intent: &Intent, world: &World, now: SystemTime) -> bool {
    let timeout = intent.strategy.approval.as_ref().and_then(|approval| approval.timeout);
    let since = waiting(intent, world).and_then(|(_, waiting)| waiting.began());
    since.zip(timeout).is_some_and(|(since, timeout)| since + timeout <= now)
}

/// What becomes of a rollout that has waited for as long as it was to; none where none has.
pub fn overdue(intent: &Intent, world: &World) -> Option<OnTimeout> {
    let approval = intent.strategy.approval.as_ref().filter(|_| world.overdue)?;
    let (left, _) = waiting(intent, world)?;
    let has_before = left.from.as_ref().is_some_and(|from| intent.environments.contains_key(from));
    // Without a color to go back to it can only be told.
    let goes_back = approval.on_timeout == OnTimeout::Rollback;
    Some(if goes_back && !has_before { OnTimeout::Hold } else { approval.on_timeout })
}

/// Whether the color that is to be live has just the part at which a rollout waits for a person: then it is where it was told to be.
pub fn is_up_to(intent: &Intent, world: &World) -> bool {
    let (Some(active), Some(up_to)) = (&intent.active, intent.strategy.up_to) else { return false };
    let mut routes = intent.routes.iter().filter_map(|route| {
        let (seen, group) = (world.routes.get(&route.key())?, intent.group(route, active)?);
        Some(seen.terminal.share(group))
    });
    let is_there = |share: f64| (share - f64::from(up_to) / 10.0).abs() < NEAR;
    routes.next().is_some_and(is_there) && routes.all(is_there)
}

/// The color that is to be live: the one that was named, or else the one that is, or else the one on record. Nobody's word in time may
/// be a word for the color before.
pub fn target_color(intent: &Intent, world: &World) -> Option<String> {
    if overdue(intent, world) == Some(OnTimeout::Rollback)
        && let Some((left, _)) = waiting(intent, world)
    {
        return left.from.clone();
    }
    let on_record = || world.record.clone().filter(|color| intent.environments.contains_key(color));
    intent.active.clone().or_else(|| current(intent, world).live).or_else(on_record)
}

/// The color that comes after this one in the order of names, round and round: where the next release goes.
pub fn idle<'e, T>(environments: &'e BTreeMap<String, T>, live: &str) -> Option<&'e str> {
    let after = environments.keys().find(|color| color.as_str() > live);
    after.or_else(|| environments.keys().next()).map(String::as_str).filter(|color| *color != live)
}

pub(super) fn arn<'w>(world: &'w World, route: &RouteSpec) -> Option<&'w str> {
    world.routes.get(&route.key()).map(|seen| seen.arn.as_str())
}

/// The target group that gets the most traffic, be it a color's or not; none if no route forwards.
pub fn busiest(intent: &Intent, world: &World) -> Option<String> {
    busiest_but(intent, world, &intent.routes.iter().collect::<Vec<_>>(), &[])
}

/// The same of some routes, and of all groups but some.
pub(super) fn busiest_but(intent: &Intent, world: &World, routes: &[&RouteSpec], but: &[&str]) -> Option<String> {
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for observed in routes.iter().filter_map(|route| world.routes.get(&route.key())) {
        let Terminal::Forward(forward) = &observed.terminal else { continue };
        for (group, _) in forward.groups.iter().filter(|(group, _)| !but.contains(&group.as_str())) {
            *shares.entry(group).or_default() += observed.terminal.share(group);
        }
    }
    // Of two that have as much the live one is meant.
    let live = current(intent, world).live.and_then(|live| intent.environments.get(&live));
    let is_live = |group: &str| live.is_some_and(|live| live.has(group));
    let busiest = shares
        .into_iter()
        .filter(|(_, share)| *share > 0.0)
        .max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| is_live(a.0).cmp(&is_live(b.0))));
    busiest.map(|(group, _)| group.to_owned())
}

/// Whether a rollout to this color would take back another one that did not come to its end.
pub(super) fn undoes(lock_record: &LockRecord, color: &str) -> bool {
    lock_record.from.as_deref() == Some(color) && lock_record.to.as_deref() != Some(color)
}

/// What a rule of our own looks like, also when the run that made it was killed before it could tell.
pub fn is_ours_by_looks(intent: &Intent, route: &RouteSpec, seen: &Observed) -> bool {
    let RouteSpec::OwnRule { conditions, .. } = route else { return false };
    seen.conditions.as_ref() == Some(conditions) && leads_only_to(&intent.environments, seen)
}

/// Whether a rule forwards to target groups of the colors alone.
pub(super) fn leads_only_to(environments: &BTreeMap<String, Environment>, seen: &Observed) -> bool {
    let Terminal::Forward(forward) = &seen.terminal else { return false };
    forward.groups.iter().all(|(arn, _)| environments.values().any(|environment| environment.has(arn)))
}
