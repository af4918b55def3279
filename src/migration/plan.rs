//! What is to be run, from what is wished and what the ledger in the database says.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::script::{Mode, Script};
use super::{Guard, Phase};
use crate::argument::Choice;

/// What is wished of one migration.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The migration's name, under which the ledger knows it.
    pub name: String,
    /// The phase up to which it shall have run.
    pub phase: Phase,
    /// The texts.
    pub scripts: BTreeMap<Phase, Script>,
    /// What came of a phase that died half-way.
    pub resolve: Option<Resolve>,
    /// What must hold before it contracts.
    pub guard: Option<Guard>,
}

/// What a person found out about a phase that died half-way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Choice)]
pub enum Resolve {
    /// All of it has happened, be it by hand.
    Applied,
    /// Nothing of it is left, be it by hand.
    Reverted,
}

/// A phase as the ledger in the database knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The checksum of the text that ran.
    pub checksum: String,
    /// Whether it ran to its end. One that didn't is running, or died.
    pub done: bool,
    /// Whether half of it can't have stayed behind: a backfill in batches.
    pub resumable: bool,
    /// How many of its statements ran, or how many batches.
    pub steps_done: i64,
    /// How many statements it has.
    pub statements: i64,
    /// How many rows it changed.
    pub rows: i64,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// When it ended (RFC 3339); empty if it didn't.
    pub finished_at: String,
    /// Who ran it.
    pub by: String,
    /// The color that its guard named.
    pub live: String,
    /// Why it stopped, if that could still be written down.
    pub error: String,
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write down what became of a phase that died half-way.
    Resolve(Phase, Resolve),
    /// Run a phase from its beginning.
    Run(Phase),
    /// Go on with a backfill.
    Resume(Phase),
}

/// Why nothing is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The text of a phase that ran is another one now, or is gone.
    Changed {
        /// The phase.
        phase: Phase,
        /// When it began.
        at: String,
    },
    /// More has run than is wished.
    Backwards {
        /// The last phase that has run.
        ran: Phase,
    },
    /// An earlier phase has not run, and a later one has.
    OutOfOrder {
        /// The phase that would have to run now.
        phase: Phase,
        /// The later one.
        ran: Phase,
    },
    /// A phase died half-way.
    Dirty {
        /// The phase.
        phase: Phase,
        /// What is known of it.
        entry: Box<Entry>,
    },
    /// There is nothing to resolve, and something to run.
    NothingToResolve,
    /// A phase is resolved, and a later one would run with it.
    ResolveAlone {
        /// The phase.
        phase: Phase,
    },
}

/// The last phase that ran to its end.
pub fn highest(ledger: &BTreeMap<Phase, Entry>) -> Option<Phase> {
    ledger.iter().rfind(|(_, entry)| entry.done).map(|(phase, _)| *phase)
}

/// What is to be done, in order.
///
/// # Errors
/// Why nothing may be done.
pub fn plan(intent: &Intent, ledger: &BTreeMap<Phase, Entry>) -> Result<Vec<Step>, Refusal> {
    // What has not come to its end may be put right: a smaller batch, a typing error after half of the statements.
    for (phase, entry) in ledger.iter().filter(|(_, entry)| entry.done) {
        if intent.scripts.get(phase).is_none_or(|script| script.checksum != entry.checksum) {
            return Err(Refusal::Changed { phase: *phase, at: entry.started_at.clone() });
        }
    }
    let ran = highest(ledger);
    if let Some(ran) = ran.filter(|ran| *ran > intent.phase) {
        return Err(Refusal::Backwards { ran });
    }
    let mut steps = Vec::new();
    let mut resolved = None;
    for phase in Phase::ALL.into_iter().filter(|phase| *phase <= intent.phase) {
        match ledger.get(&phase) {
            Some(entry) if entry.done => continue,
            Some(entry)
                if entry.resumable && intent.scripts.get(&phase).is_some_and(|one| one.mode == Mode::Batched) =>
            {
                steps.push(Step::Resume(phase));
                continue;
            }
            Some(entry) => {
                let Some(resolve) = intent.resolve else {
                    return Err(Refusal::Dirty { phase, entry: Box::new(entry.clone()) });
                };
                resolved = Some(phase);
                steps.push(Step::Resolve(phase, resolve));
                if resolve == Resolve::Applied {
                    continue;
                }
            }
            None if !intent.scripts.contains_key(&phase) => continue,
            None => {}
        }
        if let Some(ran) = ran.filter(|ran| *ran > phase) {
            return Err(Refusal::OutOfOrder { phase, ran });
        }
        steps.push(Step::Run(phase));
    }
    // What was found out is about that phase: the next one that dies shall not be waved through.
    let later = |step: &Step| matches!(step, Step::Run(phase) | Step::Resume(phase) if Some(*phase) > resolved);
    match (intent.resolve, resolved) {
        (Some(_), None) if !steps.is_empty() => Err(Refusal::NothingToResolve),
        (Some(_), Some(phase)) if steps.iter().any(later) => Err(Refusal::ResolveAlone { phase }),
        _ => Ok(steps),
    }
}

/// What a plan can say before the ledger is seen: the phases that shall have run in the end, whoever runs them. `done` is
/// the phase that the state before knows to have run.
pub fn outline(intent: &Intent, done: Option<Phase>) -> Vec<String> {
    let phases = Phase::ALL.into_iter().filter(|phase| *phase <= intent.phase && done.is_none_or(|done| *phase > done));
    phases.filter_map(|phase| Some(intent.scripts.get(&phase)?.summary(phase, intent.guard.as_ref()))).collect()
}

impl Script {
    /// What running it means, in words.
    pub fn summary(&self, phase: Phase, guard: Option<&Guard>) -> String {
        let count = match self.statements.len() {
            1 => "1 statement".to_owned(),
            more => format!("{more} statements"),
        };
        let how = match self.mode {
            Mode::Transaction => "in one transaction",
            Mode::Stepwise => "one by one, not in a transaction",
            Mode::Batched => "again and again, until no row is changed",
        };
        let guarded = guard.filter(|_| phase == Phase::Contract);
        let guarded = guarded.map(|guard| format!("check that {guard}; ")).unwrap_or_default();
        format!("{phase}: {guarded}run {count} {how}, unless that has been done")
    }
}

impl fmt::Display for Resolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resolve::Applied => "applied",
            Resolve::Reverted => "reverted",
        })
    }
}
