//! What happened so far in one rollout.

use serde::{Deserialize, Serialize};

/// A step's place in its runbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepId {
    /// The stage, from 0.
    pub stage: usize,
    /// The step in its stage, from 0.
    pub step: usize,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// The step's effect may be there from now on.
    Began(StepId),
    /// The step's postcondition was seen.
    Done(StepId),
    /// The step can't be done.
    Failed(StepId, String),
    /// What others wrote about a step that failed: for the diagnostics alone, and never for a state.
    Saw(StepId, String),
    /// The step's call was given up on, or ended without an answer: it may have had its effect, or have it later.
    Unanswered(StepId),
    /// Its answer came after all.
    Answered(StepId),
    /// So much time has passed that no answer will come; whether it has its effect is still unknown.
    Expired(StepId),
    /// The step was done, and its call had been sent before without an answer: that one may have its effect again.
    Repeated(StepId),
    /// The step made the rule with this ARN.
    Made(StepId, String),
    /// The rollout has arrived, and this step after it can't be done: it is left for the next apply.
    Left(StepId, String),
    /// Somebody asked to stop.
    Interrupted,
    /// Somebody else moves what the rollout moves: it must not go on, nor back.
    Crossed(String),
    /// The step's undo was seen.
    Undone(StepId),
    /// The undo can't be done: a person is needed.
    UndoFailed(StepId, String),
}

/// The entries in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    entries: Vec<Entry>,
}

impl Journal {
    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// The entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether a step began.
    pub fn began(&self, id: StepId) -> bool {
        self.entries.contains(&Entry::Began(id))
    }

    /// The step that began last.
    pub fn last_began(&self) -> Option<StepId> {
        self.entries.iter().rev().find_map(|entry| if let Entry::Began(id) = entry { Some(*id) } else { None })
    }

    /// The latest stage of which a step began.
    pub fn last_stage(&self) -> Option<usize> {
        self.entries.iter().filter_map(|entry| if let Entry::Began(id) = entry { Some(id.stage) } else { None }).max()
    }

    /// Whether a step was done.
    pub fn done(&self, id: StepId) -> bool {
        self.entries.contains(&Entry::Done(id))
    }

    /// Whether a step is finished: done, or left for the next apply.
    pub fn finished(&self, id: StepId) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::Done(done) => *done == id,
            Entry::Left(left, _) => *left == id,
            _ => false,
        })
    }

    /// The steps that were left for the next apply.
    pub fn left(&self) -> impl Iterator<Item = (StepId, &str)> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Left(id, reason) => Some((*id, reason.as_str())),
            _ => None,
        })
    }

    /// The rule that a step made, as far as it was told.
    pub fn made(&self, id: StepId) -> Option<&str> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Made(made, arn) if *made == id => Some(arn.as_str()),
            _ => None,
        })
    }

    /// Whether a call of the step ever went without an answer, so that its effect may come at any time.
    pub fn may_come_late(&self, id: StepId) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::Unanswered(late) => *late == id,
            Entry::Repeated(late) => *late == id,
            _ => false,
        })
    }

    /// The steps whose effect is unknown: no answer came, and none of it can be told from what is seen now.
    pub fn doubts(&self) -> Vec<StepId> {
        let mut open: Vec<StepId> = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::Unanswered(id) if !open.contains(id) => open.push(*id),
                Entry::Answered(id) => open.retain(|one| one != id),
                _ => {}
            }
        }
        open
    }

    /// The steps that were sent twice, and whose first call may still have its effect.
    pub fn echoes(&self) -> Vec<StepId> {
        let expired = |id: &StepId| self.is_expired(*id);
        let repeated = |entry: &Entry| if let Entry::Repeated(id) = entry { Some(*id) } else { None };
        self.entries.iter().filter_map(repeated).filter(|id| !expired(id)).collect()
    }

    /// Whether a step's call was waited for as long as it makes sense.
    pub fn is_expired(&self, id: StepId) -> bool {
        self.entries.contains(&Entry::Expired(id))
    }

    /// Whether a step was undone.
    pub fn undone(&self, id: StepId) -> bool {
        self.entries.contains(&Entry::Undone(id))
    }

    /// Whether the rollout can't go on.
    pub fn is_broken(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Failed(..) | Entry::Interrupted | Entry::Crossed(_)))
    }

    /// Whether somebody else moves what the rollout moves.
    pub fn is_crossed(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Crossed(_)))
    }

    /// Whether somebody asked to stop, before anything failed.
    pub fn is_interrupted(&self) -> bool {
        let first = self.entries.iter().find(|entry| matches!(entry, Entry::Failed(..) | Entry::Interrupted));
        matches!(first, Some(Entry::Interrupted))
    }

    /// The first reason for which the rollout can't go on.
    pub fn reason(&self) -> Option<(Option<StepId>, String)> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Failed(id, reason) => Some((Some(*id), reason.clone())),
            Entry::Interrupted => Some((None, "the run was interrupted".to_owned())),
            Entry::Crossed(reason) => Some((None, reason.clone())),
            _ => None,
        })
    }

    /// What others wrote about a step that failed.
    pub fn evidence(&self, id: StepId) -> Option<&str> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Saw(of, text) if *of == id => Some(text.as_str()),
            _ => None,
        })
    }

    /// The steps that failed.
    pub fn failures(&self) -> impl Iterator<Item = (StepId, &str)> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Failed(id, reason) => Some((*id, reason.as_str())),
            _ => None,
        })
    }

    /// Whether the undo of a step was tried since it was done last: an answer that comes late does it once more.
    pub fn is_taken_back(&self, id: StepId) -> bool {
        let last = |of: &dyn Fn(&Entry) -> bool| self.entries.iter().rposition(of);
        let undone = last(&|entry| match entry {
            Entry::Undone(undone) => *undone == id,
            Entry::UndoFailed(failed, _) => *failed == id,
            _ => false,
        });
        undone > last(&|entry| *entry == Entry::Done(id))
    }

    /// The steps whose undo was tried, whatever came of it.
    pub fn undos(&self) -> impl Iterator<Item = StepId> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Undone(id) | Entry::UndoFailed(id, _) => Some(*id),
            _ => None,
        })
    }

    /// The undos that failed.
    pub fn undo_failures(&self) -> impl Iterator<Item = (StepId, &str)> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::UndoFailed(id, reason) => Some((*id, reason.as_str())),
            _ => None,
        })
    }
}
