//! What comes before what.

use super::{Kind, Purpose, Walk};
use crate::rollout::check::{Block, Check, Checking};
use crate::rollout::journal::StepId;
use crate::rollout::route::{Observed, RouteSpec, Terminal};
use crate::rollout::runbook::Step;

pub(super) fn judge(walk: &mut Walk<'_>) {
    record(walk);
    taken_over(walk);
    if walk.is_rollout() {
        record_of_rollout(walk);
        removed(walk);
        cohort(walk);
        afterwards(walk);
    }
    if walk.purpose == Purpose::Removal {
        removal(walk);
    } else {
        previews(walk);
    }
}

/// The record comes after the traffic, and after every check.
fn record(walk: &mut Walk<'_>) {
    let Some(first) = walk.records().map(|id| id.stage).min() else { return };
    let late: Vec<_> =
        walk.production().filter(|(id, ..)| id.stage >= first).map(|(id, route, _)| (id, route)).collect();
    for (id, route) in late {
        walk.find(Kind::RecordBeforeRoutes, Some(id), format!("{route} would move after the record is written"));
    }
    for (id, step) in walk.steps().filter(|(id, step)| step.is_check() && id.stage >= first) {
        walk.find(
            Kind::CheckAfterRecord,
            Some(id),
            format!("this check would come after the record: {}", step.summary()),
        );
    }
}

/// What the record says in the end.
fn record_of_rollout(walk: &mut Walk<'_>) {
    let (intent, follows) = (walk.intent, walk.follows());
    let Some(color) = walk.target() else { return };
    for (id, step) in walk.steps() {
        let Step::Record { parameter, before, after } = step else { continue };
        let names = after.as_deref() == Some(color.as_str());
        if intent.record.as_ref() != Some(parameter) || names == walk.runbook.waits.is_some() {
            let says = after.as_deref().unwrap_or("nothing");
            let goes = if walk.runbook.waits.is_some() { "is to wait" } else { "is to go live" };
            let message = format!("{parameter} would be {says}, but {color} {goes}");
            walk.find(Kind::RecordNamesAnotherColor, Some(id), message);
        }
        if follows && before.is_some() {
            let message = format!("{parameter} would be overwritten, although active is omitted");
            walk.find(Kind::FollowerOverwritesRecord, Some(id), message);
        }
    }
    if let Some(parameter) = &intent.record
        && !follows
        && walk.runbook.waits.is_none()
        && walk.records().next().is_none()
        && walk.end().record.as_ref() != Some(&color)
    {
        walk.find(Kind::RecordNotWritten, None, format!("{parameter} would not name {color} in the end"));
    }
}

/// What a dead rollout did is done: it is what the runbook begins with.
fn taken_over(walk: &mut Walk<'_>) {
    let first: Vec<StepId> = walk.steps().map(|(id, _)| id).take(walk.runbook.taken_over.len()).collect();
    if first != walk.runbook.taken_over {
        let message = "the steps that a dead rollout did are not the first ones";
        walk.find(Kind::TakenOverNotFirst, walk.runbook.taken_over.first().copied(), message);
    }
    for (id, step) in walk.steps().filter(|(id, _)| walk.is_taken_over(*id)).collect::<Vec<_>>() {
        let is_there = match step {
            Step::Route { route, after, .. } => {
                let now = walk.before(0).routes.get(&route.key());
                walk.is_production(route) && now.is_some_and(|now| now.terminal.is_same(after))
            }
            _ => false,
        };
        if !is_there {
            let message = format!("this step of a dead rollout is not done: {}", step.summary());
            walk.find(Kind::TakenOverNotThere, Some(id), message);
        }
    }
}

/// Rules that are no longer wanted are deleted last, and no others.
fn removed(walk: &mut Walk<'_>) {
    let moved = walk.production().map(|(id, ..)| id.stage).max();
    let all = walk.arrival();
    for (id, step) in walk.steps() {
        let Step::Remove { route, before } = step else { continue };
        // A cohort is not to wait for the record.
        let arrival = if walk.worlds[0].cohort.has(route) { moved } else { all };
        if arrival.is_some_and(|arrival| id.stage <= arrival) {
            walk.find(
                Kind::RemovedTooEarly,
                Some(id),
                format!("{route} would be deleted before the traffic has moved"),
            );
        }
        let mut wanted = walk.intent.routes.iter().chain(&walk.intent.preview_routes);
        // What this very runbook makes has no ARN yet.
        let is_it = |one: &Observed| one.arn == before.arn && !one.arn.is_empty();
        if wanted.any(|route| walk.before(id.stage).routes.get(&route.key()).is_some_and(is_it)) {
            walk.find(
                Kind::RemovesWantedRule,
                Some(id),
                format!("{route} would be deleted, but it is still one of the routes"),
            );
        }
    }
}

/// Whoever came first is led by the routes in the end, like all others.
fn cohort(walk: &mut Walk<'_>) {
    let rules: Vec<&RouteSpec> = walk.worlds[0].cohort.rules().collect();
    let is_kept = walk.runbook.waits.is_some() && walk.intent.strategy.cohort.is_some();
    let stay = rules.into_iter().filter(|rule| !is_kept && walk.end().routes.contains_key(&rule.key()));
    let stay: Vec<String> = stay.map(|rule| format!("{rule} would stay, and go on leading the cohort")).collect();
    for message in stay {
        walk.find(Kind::CohortStays, None, message);
    }
    // Whoever follows goes on with nothing, and takes nothing back.
    if walk.follows() || walk.gains().is_empty() {
        return;
    }
    let is_taken = |rule: &RouteSpec| {
        walk.steps().any(|(id, step)| match step {
            Step::Route { route, before: None, .. } => walk.is_taken_over(id) && route.key() == rule.key(),
            _ => false,
        })
    };
    let there = walk.worlds[0].cohort.rules().filter(|rule| walk.worlds[0].routes.contains_key(&rule.key()));
    let left = there.filter(|rule| !is_taken(rule));
    let left: Vec<String> = left.map(|rule| format!("a rollback would leave {rule} to lead the cohort")).collect();
    for message in left {
        walk.find(Kind::CohortNotTakenBack, None, message);
    }
}

/// What comes after the record is left for the next apply where it fails: it may hold nothing that a rollback is for.
fn afterwards(walk: &mut Walk<'_>) {
    for (id, step) in walk.steps().filter(|(id, _)| walk.runbook.is_afterwards(id.stage)).collect::<Vec<_>>() {
        if step.is_check() {
            let message = format!("this check would come when the rollout is over: {}", step.summary());
            walk.find(Kind::AfterwardsHoldsCheck, Some(id), message);
        }
        if matches!(step, Step::Route { route, .. } if walk.is_production(route)) {
            let message = format!("the rollout would count as over before this: {}", step.summary());
            walk.find(Kind::AfterwardsMovesTraffic, Some(id), message);
        }
    }
    // Where nothing gains traffic, what comes after the record may be what the apply is for.
    if walk.gains().iter().all(|gain| walk.is_exempt(gain)) {
        return;
    }
    let checked = walk.steps().filter(|(_, step)| step.is_check()).map(|(id, _)| id.stage).max();
    let arrival = walk.arrival().max(checked);
    for (id, step) in walk.steps() {
        let is_after = arrival.is_some_and(|arrival| id.stage > arrival) && !walk.runbook.is_afterwards(id.stage);
        let counts =
            matches!(step, Step::Route { .. } | Step::Capacity { .. } | Step::Remove { .. } | Step::Record { .. });
        if is_after && counts {
            let message =
                format!("a failure of this would undo the rollout, although the traffic has moved: {}", step.summary());
            walk.find(Kind::AfterwardsMissing, Some(id), message);
        }
    }
}

/// A preview that moves first forwards to the color that the next of the user's checks is about.
fn previews(walk: &mut Walk<'_>) {
    let Some(last) = walk.production().map(|(id, ..)| id.stage).max() else { return };
    for (id, step) in walk.steps().filter(|(id, _)| id.stage < last) {
        let Step::Route { route, after, .. } = step else { continue };
        if !walk.is_preview(route) {
            continue;
        }
        let checked = walk.steps().find_map(|(later, step)| match step {
            Step::Check(checking) if later.stage > id.stage && is_users(checking) => Some(&checking.subject.color),
            _ => None,
        });
        if !checked.and_then(|color| walk.intent.group(route, color)).is_some_and(|group| is_all_on(after, group)) {
            let message = format!("the preview {route} would move before production, and not for a check");
            walk.find(Kind::PreviewMovedTooEarly, Some(id), message);
        }
    }
}

/// Whether a check before traffic is one that the user wrote.
fn is_users(checking: &Checking) -> bool {
    checking.block == Block::Validation && !matches!(checking.check, Check::Healthy(_))
}

fn is_all_on(terminal: &Terminal, group: &str) -> bool {
    terminal.share(group) > super::ALL
}

/// The end of a switch.
fn removal(walk: &mut Walk<'_>) {
    for (id, step) in walk.steps() {
        if !matches!(step, Step::Remove { .. } | Step::Record { .. }) {
            let message = format!("a switch that is destroyed would do more than delete its own: {}", step.summary());
            walk.find(Kind::RemovalTouchesTraffic, Some(id), message);
        }
    }
}
