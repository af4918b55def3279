//! What happened so far in one rollout, and what can follow what.

use std::fmt;

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
    /// It failed for nothing could be said: the rollout is to stay where it is, for a person to decide.
    Unclear(StepId),
    /// What a check saw for which nothing is done, in words.
    Noted(String),
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
    ExternalChange(String),
    /// The step's undo was seen.
    Undone(StepId),
    /// The undo can't be done: a person is needed.
    UndoFailed(StepId, String),
}

impl Entry {
    /// The step that it is about; none where it is about the whole rollout.
    pub fn step(&self) -> Option<StepId> {
        match self {
            Entry::Began(id)
            | Entry::Done(id)
            | Entry::Failed(id, _)
            | Entry::Saw(id, _)
            | Entry::Unclear(id)
            | Entry::Unanswered(id)
            | Entry::Answered(id)
            | Entry::Expired(id)
            | Entry::Repeated(id)
            | Entry::Made(id, _)
            | Entry::Left(id, _)
            | Entry::Undone(id)
            | Entry::UndoFailed(id, _) => Some(*id),
            Entry::Noted(_) | Entry::Interrupted | Entry::ExternalChange(_) => None,
        }
    }

    /// Its name, without what others wrote into it.
    fn name(&self) -> &'static str {
        match self {
            Entry::Began(_) => "Began",
            Entry::Done(_) => "Done",
            Entry::Failed(..) => "Failed",
            Entry::Saw(..) => "Saw",
            Entry::Unclear(_) => "Unclear",
            Entry::Noted(_) => "Noted",
            Entry::Unanswered(_) => "Unanswered",
            Entry::Answered(_) => "Answered",
            Entry::Expired(_) => "Expired",
            Entry::Repeated(_) => "Repeated",
            Entry::Made(..) => "Made",
            Entry::Left(..) => "Left",
            Entry::Interrupted => "Interrupted",
            Entry::ExternalChange(_) => "ExternalChange",
            Entry::Undone(_) => "Undone",
            Entry::UndoFailed(..) => "UndoFailed",
        }
    }
}

/// An entry that can't follow what the journal has: whoever writes it lost count of what happened.
#[derive(Clone, Debug, PartialEq)]
pub struct IllegalEntry {
    /// What was to be written.
    pub entry: Entry,
    /// Why it can't be.
    pub reason: Illegal,
}

/// Why an entry can't follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Illegal {
    /// The step never began.
    NotBegun,
    /// The step has no attempt that could end so: it began never, or that attempt has ended.
    NotUnderWay,
    /// The step began before, and no call is late for which it would be taken again.
    BegunBefore,
    /// A step of a later stage began already, so this one is past.
    StagePassed,
    /// The rollout can't go on, so nothing more of it begins, is left, or stops it.
    Broken,
    /// The rollout goes on, so nothing is undone.
    NotBroken,
    /// A call of the step has no answer yet: no further one may begin.
    InDoubt,
    /// No call of the step is without an answer.
    NotInDoubt,
    /// The step is neither done nor undone, so no call of it was sent twice.
    NotEnded,
    /// The step is not done, so it made nothing.
    NotDone,
    /// The step didn't fail, so there is nothing to see of its failure.
    NotFailed,
    /// No call of the step can come late, so none is waited for.
    NeverLate,
    /// The step's call was given up already.
    ExpiredBefore,
    /// The step is over: done, or left for the next apply.
    Finished,
    /// The step was taken back, and nothing can have come late since.
    TakenBack,
}

impl fmt::Display for IllegalEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.entry.name();
        match self.entry.step() {
            Some(id) => write!(f, "{name} of stage {}, step {}: {}", id.stage + 1, id.step + 1, self.reason),
            None => write!(f, "{name}: {}", self.reason),
        }
    }
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Illegal::NotBegun => "the step never began",
            Illegal::NotUnderWay => "the step is not under way",
            Illegal::BegunBefore => "the step began before, and no call is late",
            Illegal::StagePassed => "a later stage began before",
            Illegal::Broken => "the rollout can't go on",
            Illegal::NotBroken => "the rollout goes on",
            Illegal::InDoubt => "a call of the step has no answer yet",
            Illegal::NotInDoubt => "no call of the step is without an answer",
            Illegal::NotEnded => "the step is neither done nor undone",
            Illegal::NotDone => "the step is not done",
            Illegal::NotFailed => "the step did not fail",
            Illegal::NeverLate => "no call of the step can come late",
            Illegal::ExpiredBefore => "the step's call was given up before",
            Illegal::Finished => "the step is over",
            Illegal::TakenBack => "the step was undone before, and no call is late",
        })
    }
}

impl std::error::Error for IllegalEntry {}

/// The entries in order. What is read from elsewhere is taken as it is, since it happened whatever wrote it down: only what
/// is added must follow from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    entries: Vec<Entry>,
}

impl Journal {
    /// Adds an entry.
    ///
    /// # Errors
    /// It can't follow what is there, and is not added.
    pub fn push(&mut self, entry: Entry) -> Result<(), IllegalEntry> {
        match self.refuse(&entry) {
            Some(reason) => Err(IllegalEntry { entry, reason }),
            None => {
                self.entries.push(entry);
                Ok(())
            }
        }
    }

    /// Why an entry can't follow what is there; none if it can.
    fn refuse(&self, entry: &Entry) -> Option<Illegal> {
        let first = |rules: &[(bool, Illegal)]| rules.iter().find(|(is_broken, _)| *is_broken).map(|(_, why)| *why);
        match entry {
            Entry::Began(id) => self.refuse_begin(*id),
            // The steps of a stage end one by one, whatever became of the others; and an answer may come at any time.
            Entry::Done(id) => first(&[
                (!self.began(*id), Illegal::NotBegun),
                (!self.is_under_way(*id) && !self.is_in_doubt(*id), Illegal::NotUnderWay),
            ]),
            // What stops a rollout is put down to the step that began last, or to none that began.
            Entry::Failed(id, _) => first(&[(self.is_broken() && !self.is_under_way(*id), Illegal::Broken)]),
            Entry::Saw(id, _) | Entry::Unclear(id) => first(&[(!self.has_failed(*id), Illegal::NotFailed)]),
            Entry::Unanswered(id) => first(&[
                (!self.began(*id), Illegal::NotBegun),
                (!self.is_under_way(*id), Illegal::NotUnderWay),
                (self.is_in_doubt(*id), Illegal::InDoubt),
            ]),
            Entry::Answered(id) => first(&[(!self.is_in_doubt(*id), Illegal::NotInDoubt)]),
            Entry::Expired(id) => {
                first(&[(!self.may_come_late(*id), Illegal::NeverLate), (self.is_expired(*id), Illegal::ExpiredBefore)])
            }
            // A call of the step or of its undo was answered, and had been sent before.
            Entry::Repeated(id) => {
                first(&[(!self.done(*id) && !self.undos().any(|undone| undone == *id), Illegal::NotEnded)])
            }
            Entry::Made(id, _) => first(&[(!self.done(*id), Illegal::NotDone)]),
            // One that never began is left where the run stops; one that is taken again may be left, though it was done.
            Entry::Left(id, _) => first(&[
                (self.is_broken(), Illegal::Broken),
                (self.finished(*id) && !self.is_under_way(*id), Illegal::Finished),
            ]),
            Entry::Interrupted => first(&[(self.is_broken(), Illegal::Broken)]),
            // Somebody else moves things whatever is written here, and several steps may meet them at once.
            Entry::ExternalChange(_) => None,
            // What was seen was seen, whatever became of the rollout.
            Entry::Noted(_) => None,
            Entry::Undone(id) => self.refuse_undo(*id, self.is_taken_back(*id)),
            // The undo of a step was answered, and is not seen after all.
            Entry::UndoFailed(id, _) => self.refuse_undo(*id, self.has_undo_failed(*id)),
        }
    }

    /// A step begins once, in a stage that is not passed; again only where a call is late: it may have moved what was done
    /// since. No further attempt of a call begins once that was given up.
    fn refuse_begin(&self, id: StepId) -> Option<Illegal> {
        if self.is_broken() {
            return Some(Illegal::Broken);
        }
        if self.is_in_doubt(id) {
            return Some(Illegal::InDoubt);
        }
        if self.began(id) {
            return (!self.is_late()).then_some(Illegal::BegunBefore);
        }
        let is_passed = self.last_stage().is_some_and(|last| id.stage < last);
        is_passed.then_some(Illegal::StagePassed)
    }

    /// A step is undone once, when the rollout can't go on; again where a call is late, of it or of another step of the same
    /// route, since a route is undone as a whole.
    fn refuse_undo(&self, id: StepId, is_over: bool) -> Option<Illegal> {
        match (self.began(id), self.is_broken()) {
            (false, _) => Some(Illegal::NotBegun),
            (true, false) => Some(Illegal::NotBroken),
            (true, true) => (is_over && !self.is_late()).then_some(Illegal::TakenBack),
        }
    }

    /// Whether any call may have its effect later than it was believed to.
    fn is_late(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Unanswered(_) | Entry::Repeated(_)))
    }

    /// Whether a step began and has not come to an end since.
    fn is_under_way(&self, id: StepId) -> bool {
        let last = self.entries.iter().rev().find(|entry| match entry {
            Entry::Began(of) | Entry::Done(of) | Entry::Failed(of, _) | Entry::Left(of, _) => *of == id,
            Entry::Undone(of) | Entry::UndoFailed(of, _) => *of == id,
            _ => false,
        });
        matches!(last, Some(Entry::Began(_)))
    }

    /// Whether a call of the step is without an answer.
    fn is_in_doubt(&self, id: StepId) -> bool {
        self.doubts().contains(&id)
    }

    fn has_failed(&self, id: StepId) -> bool {
        self.failures().any(|(failed, _)| failed == id)
    }

    fn has_undo_failed(&self, id: StepId) -> bool {
        self.undo_failures().any(|(failed, _)| failed == id)
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

    /// The steps that were left for the next apply, and whose effect has not come after all.
    pub fn left(&self) -> impl Iterator<Item = (StepId, &str)> {
        let came = |after: usize, id: StepId| self.entries[after..].contains(&Entry::Done(id));
        self.entries.iter().enumerate().filter_map(move |(n, entry)| match entry {
            Entry::Left(id, reason) if !came(n, *id) => Some((*id, reason.as_str())),
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
        self.entries
            .iter()
            .any(|entry| matches!(entry, Entry::Failed(..) | Entry::Interrupted | Entry::ExternalChange(_)))
    }

    /// Whether somebody else moves what the rollout moves.
    pub fn has_external_change(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::ExternalChange(_)))
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
            Entry::ExternalChange(reason) => Some((None, reason.clone())),
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

    /// Whether what stopped the rollout was that nothing could be said.
    pub fn is_unclear(&self) -> bool {
        let first = self.entries.iter().find(|entry| matches!(entry, Entry::Failed(..) | Entry::Interrupted));
        matches!(first, Some(Entry::Failed(id, _)) if self.entries.contains(&Entry::Unclear(*id)))
    }

    /// What checks saw for which nothing is done.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Noted(words) => Some(words.as_str()),
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
