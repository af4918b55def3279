//! What to do now. The same call drives a rollout, its way back, and its recovery.

use super::intent::OnFailure;
use super::journal::{Journal, StepId};
use super::route::{RouteSpec, Terminal, short};
use super::runbook::{Runbook, Step, is_back, terminal_summary};
use super::world::World;

/// The next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Carry these steps out together, then look again.
    Do(Vec<StepId>),
    /// Undo these steps together, then look again.
    Undo(Vec<StepId>),
    /// Calls of these steps went without an answer, and their effect may still come: wait, looking, until it is known.
    Await(Vec<StepId>),
    /// The undo of these steps was answered, and what is seen does not show it: look again, to be sure.
    Unseen(Vec<StepId>),
    /// Somebody else moves what this rollout moves, in these words: look again, to be sure, and then don't go on.
    ExternalChange(String),
    /// Everything is as it shall be.
    Done,
    /// It failed, and everything is as it was before.
    RolledBack,
    /// It failed, and stays as it is.
    Held,
    /// An undo failed: a person is needed.
    Stuck,
    /// It failed, and a call without an answer may still have its effect.
    Unknown,
}

/// Decides. Steps whose postcondition holds already are never carried out again.
///
/// Without a world, what is there could not be seen after the last change. Then nothing counts as undone that was not
/// undone by a call that answered. As long as a call without an answer may have its effect, nothing is over.
pub fn next(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    if !journal.is_broken() {
        return way_on(runbook, journal, world);
    }
    if journal.has_external_change() {
        return Decision::Held;
    }
    // On the way back too: what somebody else put there is not to be overwritten.
    if let Some(reason) = world.and_then(|world| crossed(runbook, journal, world)) {
        return Decision::ExternalChange(reason);
    }
    let decision = match policy(runbook, journal) {
        OnFailure::Rollback => way_back(runbook, journal, world),
        OnFailure::Hold => level(runbook, journal, world),
        OnFailure::Leave => Decision::Held,
    };
    match decision {
        Decision::RolledBack | Decision::Held => in_doubt(journal).or_else(|| echoing(journal)).unwrap_or(decision),
        // A person is called once it is known what to.
        Decision::Stuck => match in_doubt(journal) {
            Some(wait @ Decision::Await(_)) => wait,
            _ => decision,
        },
        other => other,
    }
}

/// What is to become of a rollout that can't go on.
pub fn policy(runbook: &Runbook, journal: &Journal) -> OnFailure {
    match (journal.is_interrupted(), journal.is_unclear()) {
        (true, _) => runbook.on_interrupt,
        (false, true) => OnFailure::Hold,
        (false, false) => runbook.on_failure,
    }
}

/// What went back, or stays, is watched as long as a call that was sent twice may still lead it on again.
fn echoing(journal: &Journal) -> Option<Decision> {
    let echoes = journal.echoes();
    (!echoes.is_empty()).then_some(Decision::Await(echoes))
}

/// What is to be done about calls without an answer; none if there are none.
fn in_doubt(journal: &Journal) -> Option<Decision> {
    let doubts = journal.doubts();
    let open: Vec<StepId> = doubts.iter().copied().filter(|id| !journal.is_expired(*id)).collect();
    match (doubts.is_empty(), open.is_empty()) {
        (true, _) => None,
        (false, true) => Some(Decision::Unknown),
        (false, false) => Some(Decision::Await(open)),
    }
}

/// Whether the rollout has arrived: all that is left to do comes after it, and a failure there undoes nothing.
pub fn has_arrived(runbook: &Runbook, journal: &Journal) -> bool {
    if journal.is_broken() {
        return false;
    }
    let reached = journal.last_stage();
    let before = runbook.steps().filter(|(id, _)| !runbook.is_afterwards(id.stage));
    // A later stage began because all before it were done.
    let mut open = before.filter(|(id, _)| !journal.finished(*id) && reached.is_none_or(|stage| id.stage >= stage));
    !runbook.is_empty() && open.next().is_none()
}

fn way_on(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    let late = world.map(|world| echoed(runbook, journal, world)).unwrap_or_default();
    if !late.is_empty() {
        return Decision::Do(late);
    }
    // A stage began because all before it were done: what they made may have been moved on since, by a later one.
    let first = journal.last_stage().unwrap_or_default();
    for (stage, steps) in runbook.stages.iter().enumerate().skip(first) {
        let open: Vec<StepId> = steps
            .steps
            .iter()
            .enumerate()
            .map(|(n, step)| (StepId { stage, step: n }, step))
            .filter(|(id, step)| {
                // Nor is what a rehearsal leads back: it is where it was before it was led over.
                let is_told = step.takes_away() || runbook.rehearsed == Some(stage);
                !journal.finished(*id) && !world.is_some_and(|world| !is_told && step.holds(world))
            })
            .map(|(id, _)| id)
            .collect();
        if open.is_empty() {
            continue;
        }
        let changes = open.iter().any(|id| runbook.step(*id).is_some_and(|step| !step.is_check()));
        let crossed = world.filter(|_| changes).and_then(|world| crossed(runbook, journal, world));
        return crossed.map_or(Decision::Do(open), Decision::ExternalChange);
    }
    // What is called done is what is seen, not only what was answered.
    if let Some(reason) = world.and_then(|world| crossed(runbook, journal, world)) {
        return Decision::ExternalChange(reason);
    }
    let echoes = journal.echoes().into_iter().filter(|id| leads_elsewhere(runbook, *id));
    // A record that is written late would name a color that the next rollout has left.
    let is_record = |id: &StepId| matches!(runbook.step(*id), Some(Step::Record { .. }));
    let records = journal.doubts().into_iter().filter(|id| is_record(id) && !journal.is_expired(*id));
    let open: Vec<StepId> = echoes.chain(records).collect();
    if open.is_empty() { Decision::Done } else { Decision::Await(open) }
}

/// Whether a route was led on since this step, so that a late effect of it would lead it back.
fn leads_elsewhere(runbook: &Runbook, id: StepId) -> bool {
    let Some((route, after)) = runbook.step(id).and_then(Step::writes) else { return false };
    let last = runbook.steps().rev().find_map(|(_, step)| match step {
        Step::Route { route: other, after, .. } if other.key() == route.key() => Some(after),
        _ => None,
    });
    last.is_some_and(|last| !last.is_same(after))
}

/// The steps to take again, since an earlier step's call had its effect a second time after them.
pub fn echoed(runbook: &Runbook, journal: &Journal, world: &World) -> Vec<StepId> {
    let mut again = Vec::new();
    for (id, step) in runbook.steps().filter(|(id, _)| journal.done(*id)) {
        let Step::Route { route, after, .. } = step else { continue };
        let of_route = |other: &Step| route_key(other) == Some(route.key());
        let is_last = !runbook.steps().any(|(later, other)| later > id && of_route(other) && journal.done(later));
        let Some(seen) = world.routes.get(&route.key()).filter(|_| is_last) else { continue };
        let is_echo = |(early, other): (StepId, &Step)| {
            let leads_there =
                |(other, to): (&RouteSpec, &Terminal)| other.key() == route.key() && seen.terminal.is_same(to);
            early < id && journal.may_come_late(early) && other.writes().is_some_and(leads_there)
        };
        if !seen.terminal.is_same(after) && runbook.steps().any(is_echo) {
            again.push(id);
        }
    }
    again
}

/// Whether somebody else moved a route or the record since this rollout began, in words.
pub fn crossed(runbook: &Runbook, journal: &Journal, world: &World) -> Option<String> {
    let mut looked: Vec<String> = Vec::new();
    for (_, step) in runbook.steps() {
        let Step::Route { route, .. } = step else { continue };
        let key = route.key();
        if looked.contains(&key) {
            continue;
        }
        looked.push(key.clone());
        let Some(expected) = expected(runbook, journal, &key) else { continue };
        // What this rollout deletes in the end is not looked for then.
        if runbook
            .steps()
            .any(|(id, step)| journal.began(id) && matches!(step, Step::Remove { route, .. } if route.key() == key))
        {
            continue;
        }
        let origin = origin(runbook, &key).filter(|_| journal.is_broken());
        let Some(seen) = world.routes.get(&key) else {
            // A rule that this rollout makes may not be there yet, and is gone again on its way back.
            if journal.is_broken() && origin.is_none() {
                continue;
            }
            return Some(format!("{route} is gone"));
        };
        let went_back = origin.is_some_and(|origin| is_back(&seen.terminal, origin));
        if !went_back && !expected.iter().any(|terminal| seen.terminal.is_same(terminal)) {
            let leads = terminal_summary(&seen.terminal, short);
            return Some(format!("{route} was moved by somebody else in the meantime: {leads}"));
        }
    }
    runbook.steps().find_map(|(id, step)| match step {
        Step::Record { parameter, before, after } if !journal.done(id) && !journal.undone(id) => {
            let fits = world.record == *before || world.record == *after;
            let says = world.record.as_deref().unwrap_or("nothing");
            (!fits)
                .then(|| format!("the record {parameter} was written by somebody else in the meantime: it says {says}"))
        }
        _ => None,
    })
}

/// Where a route led before the first step that moves it; none if that step makes it.
fn origin<'r>(runbook: &'r Runbook, key: &str) -> Option<&'r Terminal> {
    runbook.origin(key)?.map(|before| &before.terminal)
}

/// Where a route may lead now: where the last step that was done led it, or where it was; or where the next one leads it;
/// or where a call leads it that is late. None where that is for the step itself to find out.
fn expected<'r>(runbook: &'r Runbook, journal: &Journal, key: &str) -> Option<Vec<&'r Terminal>> {
    let mut late: Vec<&Terminal> = Vec::new();
    let mut expected: Vec<&Terminal> = Vec::new();
    for (id, step) in runbook.steps() {
        if let Some((route, to)) = step.writes()
            && route.key() == key
            && journal.may_come_late(id)
        {
            late.push(to);
        }
        let Step::Route { route, before, after, .. } = step else { continue };
        if route.key() != key {
            continue;
        }
        if journal.done(id) {
            expected = vec![after];
            // One step back, where others could not be taken.
            expected.extend(before.iter().map(|before| &before.terminal).filter(|_| journal.undone(id)));
            continue;
        }
        if expected.is_empty() {
            expected.push(&before.as_ref()?.terminal);
        }
        expected.push(after);
        break;
    }
    expected.extend(late);
    Some(expected)
}

/// The latest stage goes back first. A step that began may have had its effect, whatever its call answered. A route that
/// several steps moved goes back at once to where it was before the first of them.
fn way_back(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    let begun: Vec<(StepId, &Step)> =
        runbook.steps().filter(|(id, step)| journal.began(*id) && !step.is_check()).collect();
    let is_of = |step: &Step, other: &Step| route_key(step).is_some_and(|key| route_key(other) == Some(key));
    // Where a route is in the order: at the last step that moved it.
    let place = |(id, step): &(StepId, &Step)| {
        begun.iter().rev().find(|(_, other)| is_of(step, other)).map_or(id.stage, |(last, _)| last.stage)
    };
    let is_size = |id: StepId| matches!(runbook.step(id), Some(Step::Capacity { .. }));
    let (sizes, units): (Vec<_>, Vec<_>) = begun
        .iter()
        .filter(|(id, step)| begun.iter().find(|(_, other)| is_of(step, other)).is_none_or(|(first, _)| first == id))
        .partition(|unit| is_size(unit.0));
    let is_late = |(id, step): &(StepId, &Step)| {
        let moves =
            |other: &Step| other.writes().map(|(route, _)| route.key()).is_some_and(|key| route_key(step) == Some(key));
        journal.may_come_late(*id) || begun.iter().any(|(other, moved)| moves(moved) && journal.may_come_late(*other))
    };
    // What comes late is put back whenever it is seen.
    let again: Vec<StepId> = units
        .iter()
        .filter(|unit| is_late(unit) && !is_given_up(unit.0, journal))
        .filter(|unit| is_there(unit, journal, world) || (journal.undone(unit.0) && !journal.is_taken_back(unit.0)))
        .map(|unit| unit.0)
        .collect();
    if !again.is_empty() {
        return Decision::Undo(again);
    }
    // A stage that was passed on the way back stays passed: an earlier stage's undo may look like a later one's effect.
    let undone = |unit: &&(StepId, &Step)| journal.undos().any(|id| id == unit.0);
    let passed = units.iter().filter(undone).map(|unit| place(unit) + 1).min().unwrap_or(runbook.stages.len());
    for stage in (0..passed).rev() {
        let of_stage = units.iter().filter(|unit| place(unit) == stage);
        let open: Vec<StepId> =
            of_stage.filter(|unit| is_to_undo(unit.0, unit.1, journal, world)).map(|unit| unit.0).collect();
        if !open.is_empty() {
            return Decision::Undo(open);
        }
    }
    // Users are led back before any size is taken from under them; where a route could not go back, its color keeps it.
    let is_route = |id: StepId| matches!(runbook.step(id), Some(Step::Route { .. }));
    if !journal.undo_failures().any(|(id, _)| is_route(id) && !journal.undone(id)) {
        // Twice at most: what somebody else sets meanwhile is never as it was.
        let is_tried = |id: StepId| journal.undos().filter(|undone| *undone == id).count() > 1;
        let open = sizes.iter().filter(|(id, step)| !is_tried(*id) && is_to_undo(*id, step, journal, world));
        let open: Vec<StepId> = open.map(|unit| unit.0).collect();
        if !open.is_empty() {
            return Decision::Undo(open);
        }
    }
    // A size that can't be given back hurts no user, and the next apply tries again: nobody is called for it.
    if journal.undo_failures().any(|(id, _)| !is_size(id)) {
        return Decision::Stuck;
    }
    let is_traffic = |step: &Step| matches!(step, Step::Route { .. } | Step::Record { .. });
    let unseen = units.iter().filter(|unit| is_traffic(unit.1) && is_there(unit, journal, world));
    let unseen: Vec<StepId> = unseen.map(|unit| unit.0).collect();
    if unseen.is_empty() { Decision::RolledBack } else { Decision::Unseen(unseen) }
}

/// Whether a step's effect can be seen.
fn is_there((id, step): &(StepId, &Step), journal: &Journal, world: Option<&World>) -> bool {
    world.is_some_and(|world| !step.is_undone(world, journal.made(*id)))
}

/// Whether the undo of a step was given up: what comes late is worth a second try.
fn is_given_up(id: StepId, journal: &Journal) -> bool {
    journal.undo_failures().filter(|(failed, _)| *failed == id).count() > 1
}

/// Whether a step that began is still to be undone, as far as it was not given up. One that was done is undone by a call,
/// whatever one look shows: it may be an old one.
fn is_to_undo(id: StepId, step: &Step, journal: &Journal, world: Option<&World>) -> bool {
    if journal.is_taken_back(id) {
        let is_late = journal.may_come_late(id) && !is_given_up(id, journal);
        return is_late && is_there(&(id, step), journal, world);
    }
    let seen_undone = world.is_some_and(|world| step.is_undone(world, journal.made(id)));
    journal.done(id) || !seen_undone
}

fn route_key(step: &Step) -> Option<String> {
    if let Step::Route { route, .. } = step { Some(route.key()) } else { None }
}

/// It stays where it is, but all routes together: those that moved in a stage in which others could not go back.
fn level(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    let Some(stage) = journal.last_stage() else { return Decision::Held };
    let of_stage = || runbook.steps().filter(move |(id, _)| id.stage == stage);
    let is_whole = of_stage().all(|(id, step)| {
        let made = journal.made(id);
        let is_there = |world: &World| step.holds(world) && !step.is_undone(world, made);
        step.is_check() || (journal.done(id) && !journal.undone(id)) || world.is_some_and(is_there)
    });
    if is_whole {
        return Decision::Held;
    }
    let open: Vec<StepId> = of_stage()
        .filter(|(id, step)| matches!(step, Step::Route { .. }) && journal.began(*id))
        .filter(|(id, step)| is_to_undo(*id, step, journal, world))
        .map(|(id, _)| id)
        .collect();
    match (open.is_empty(), journal.undo_failures().next().is_none()) {
        (false, _) => Decision::Undo(open),
        (true, true) => Decision::Held,
        (true, false) => Decision::Stuck,
    }
}
