//! What to do now. The same call drives a rollout, its way back, and its recovery.

use super::journal::{Journal, StepId};
use super::runbook::{OnFailure, Runbook, Step, terminal_words};
use super::world::{Terminal, World};

/// The next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Carry these steps out together, then look again.
    Do(Vec<StepId>),
    /// Undo these steps together, then look again.
    Undo(Vec<StepId>),
    /// Somebody else moves what this rollout moves, in these words: look again, to be sure, and then don't go on.
    Crossed(String),
    /// Everything is as it shall be.
    Done,
    /// It failed, and everything is as it was before.
    RolledBack,
    /// It failed, and stays as it is.
    Held,
    /// An undo failed: a person is needed.
    Stuck,
}

/// Decides. Steps whose postcondition holds already are never carried out again.
///
/// Without a world, what is there could not be seen after the last change. Then nothing counts as undone that was not
/// undone by a call that answered.
pub fn next(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    if !journal.is_broken() {
        return way_on(runbook, journal, world);
    }
    if journal.is_crossed() {
        return Decision::Held;
    }
    // On the way back too: what somebody else put there is not to be overwritten.
    if let Some(reason) = world.and_then(|world| crossed(runbook, journal, world)) {
        return Decision::Crossed(reason);
    }
    match if journal.is_interrupted() { runbook.on_interrupt } else { runbook.on_failure } {
        OnFailure::Rollback => way_back(runbook, journal, world),
        OnFailure::Hold => level(runbook, journal, world),
        OnFailure::Leave => Decision::Held,
    }
}

fn way_on(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    // A stage began because all before it were done: what they made may have been moved on since, by a later one.
    let first = journal.last_stage().unwrap_or_default();
    for (stage, steps) in runbook.stages.iter().enumerate().skip(first) {
        let open: Vec<StepId> = steps
            .steps
            .iter()
            .enumerate()
            .map(|(n, step)| (StepId { stage, step: n }, step))
            .filter(|(id, step)| !journal.done(*id) && !world.is_some_and(|world| step.holds(world)))
            .map(|(id, _)| id)
            .collect();
        if open.is_empty() {
            continue;
        }
        let changes = open.iter().any(|id| runbook.step(*id).is_some_and(|step| !step.is_check()));
        let crossed = world.filter(|_| changes).and_then(|world| crossed(runbook, journal, world));
        return crossed.map_or(Decision::Do(open), Decision::Crossed);
    }
    Decision::Done
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
        let Some(mut expected) = expected(runbook, journal, &key) else { continue };
        if journal.is_broken() {
            expected.extend(origin(runbook, &key));
        }
        let Some(seen) = world.routes.get(&key) else {
            // A rule that this rollout made is gone again on its way back.
            if journal.is_broken() && origin(runbook, &key).is_none() {
                continue;
            }
            return Some(format!("{route} is gone"));
        };
        if !expected.iter().any(|terminal| seen.terminal.is_same(terminal)) {
            let leads = terminal_words(&seen.terminal, |_| None);
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

/// Where a route led before the first step that moves it.
fn origin<'r>(runbook: &'r Runbook, key: &str) -> Option<&'r Terminal> {
    runbook.steps().find_map(|(_, step)| match step {
        Step::Route { route, before, .. } if route.key() == key => before.as_ref().map(|before| &before.terminal),
        _ => None,
    })
}

/// Where a route may lead now: where the last step that was done led it, or where it was; or where the next one leads it.
/// None where that is for the step itself to find out.
fn expected<'r>(runbook: &'r Runbook, journal: &Journal, key: &str) -> Option<Vec<&'r Terminal>> {
    let mut expected: Vec<&Terminal> = Vec::new();
    for (id, step) in runbook.steps() {
        let Step::Route { route, before, after, .. } = step else { continue };
        if route.key() != key {
            continue;
        }
        if journal.done(id) {
            expected = vec![after];
            continue;
        }
        if expected.is_empty() {
            expected.push(&before.as_ref()?.terminal);
        }
        expected.push(after);
        return Some(expected);
    }
    Some(expected)
}

/// The latest stage goes back first. A step that began may have had its effect, whatever its call answered. A route that
/// several steps moved goes back at once to where it was before the first of them.
fn way_back(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    let begun: Vec<(StepId, &Step)> =
        runbook.steps().filter(|(id, step)| journal.began(*id) && !step.is_check()).collect();
    // Where a route is in the order: at the last step that moved it.
    let place = |id: StepId| {
        let key = runbook.step(id).and_then(route_key);
        let last = begun.iter().rev().find(|(_, step)| key.is_some() && route_key(step) == key);
        last.map_or(id.stage, |(last, _)| last.stage)
    };
    let is_first = |(id, step): &(StepId, &Step)| {
        let first =
            route_key(step).and_then(|key| begun.iter().find(|(_, other)| route_key(other).as_ref() == Some(&key)));
        first.is_none_or(|(first, _)| first == id)
    };
    // A stage that was passed on the way back stays passed: an earlier stage's undo may look like a later one's effect.
    let passed = journal.undos().map(|id| place(id) + 1).min().unwrap_or(runbook.stages.len());
    for stage in (0..passed).rev() {
        let open: Vec<StepId> = begun
            .iter()
            .filter(|(id, _)| place(*id) == stage)
            .filter(|step| is_first(step))
            .filter(|(id, step)| is_to_undo(*id, step, journal, world))
            .map(|(id, _)| *id)
            .collect();
        if !open.is_empty() {
            return Decision::Undo(open);
        }
    }
    if journal.undo_failures().next().is_none() { Decision::RolledBack } else { Decision::Stuck }
}

/// Whether a step that began is still to be undone, as far as it was not given up.
fn is_to_undo(id: StepId, step: &Step, journal: &Journal, world: Option<&World>) -> bool {
    !journal.undos().any(|undone| undone == id) && !world.is_some_and(|world| step.is_undone(world))
}

fn route_key(step: &Step) -> Option<String> {
    if let Step::Route { route, .. } = step { Some(route.key()) } else { None }
}

/// It stays where it is, but all routes together: those that moved in a stage in which others could not go back.
fn level(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    let Some(stage) = journal.last_stage() else { return Decision::Held };
    let of_stage = || runbook.steps().filter(move |(id, _)| id.stage == stage);
    let is_whole = of_stage().all(|(id, step)| {
        step.is_check() || journal.done(id) || world.is_some_and(|world| step.holds(world) && !step.is_undone(world))
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
