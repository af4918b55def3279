//! What to do now. The same call drives a rollout, its way back, and its recovery.

use super::journal::{Journal, StepId};
use super::runbook::{OnFailure, Runbook};
use super::world::World;

/// The next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Carry these steps out together, then look again.
    Do(Vec<StepId>),
    /// Undo these steps together, then look again.
    Undo(Vec<StepId>),
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
    match (journal.is_broken(), runbook.on_failure) {
        (false, _) => way_on(runbook, journal, world),
        (true, OnFailure::Rollback) => way_back(runbook, journal, world),
        (true, OnFailure::Hold) => Decision::Held,
    }
}

fn way_on(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    for (stage, steps) in runbook.stages.iter().enumerate() {
        let open: Vec<StepId> = steps
            .steps
            .iter()
            .enumerate()
            .map(|(n, step)| (StepId { stage, step: n }, step))
            .filter(|(id, step)| !journal.done(*id) && !world.is_some_and(|world| step.holds(world)))
            .map(|(id, _)| id)
            .collect();
        if !open.is_empty() {
            return Decision::Do(open);
        }
    }
    Decision::Done
}

/// The latest stage goes back first. A step that began may have had its effect, whatever its call answered.
fn way_back(runbook: &Runbook, journal: &Journal, world: Option<&World>) -> Decision {
    let gave_up: Vec<StepId> = journal.undo_failures().map(|(id, _)| id).collect();
    // A stage that was passed on the way back stays passed: an earlier stage's undo may look like a later one's effect.
    let passed = journal.undos().map(|id| id.stage + 1).min().unwrap_or(runbook.stages.len());
    for stage in (0..passed).rev() {
        let open: Vec<StepId> = runbook
            .steps()
            .filter(|(id, step)| id.stage == stage && journal.began(*id) && !step.is_check())
            .filter(|(id, _)| !journal.undone(*id) && !gave_up.contains(id))
            .filter(|(_, step)| !world.is_some_and(|world| step.is_undone(world)))
            .map(|(id, _)| id)
            .collect();
        if !open.is_empty() {
            return Decision::Undo(open);
        }
    }
    if gave_up.is_empty() { Decision::RolledBack } else { Decision::Stuck }
}
