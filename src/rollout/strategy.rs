//! In which steps traffic moves, how long each holds, and how it is known that a step has arrived at the nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::accepts;
use super::check::{Checking, HttpCheck};
use super::cohort::Cohort;
use super::statistics;
use crate::argument::{Always, Argument, Arguments, Choice, Field, Holds, rules};

/// The way to 100 %, which is always the last step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strategy {
    /// The steps before the last one, each larger than the one before.
    pub steps: Vec<Shift>,
    /// How long the nodes are given to follow a step where that can't be seen.
    pub settle: Duration,
    /// How it can be seen.
    pub prove: Option<Prove>,
    /// Who gets the new color before the first step.
    pub cohort: Option<Cohort>,
    /// Whether the way back is rehearsed before the first step.
    pub rehearse: bool,
    /// Where the rollout waits for a person, in tenths of a percent, 1 to 999; none where it goes on to all traffic.
    pub up_to: Option<u32>,
    /// Whose word it waits for there, and for how long.
    pub approval: Option<Approval>,
}

/// Whose word a rollout waits for at `up_to`, and what happens without it.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Approval {
    /// Who approves, in your words: a person, a team, a ticket. Told in the plan, in the lock record, and to the topic of `notify`.
    #[argument(text = accepts::line)]
    pub by: Option<String>,
    /// Time that the rollout waits for it. Nothing runs meanwhile: the first apply after it does what `on_timeout` says.
    #[argument(text = rules::some_time)]
    pub timeout: Option<Duration>,
    /// What the first apply after `timeout` does: `rollback` puts everything back and fails, `continue` leads all traffic to the new color
    /// as if it were approved, `hold` waits on and says so.
    #[argument(default = "hold")]
    pub on_timeout: OnTimeout,
}

/// What happens when nobody approves in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Choice)]
pub enum OnTimeout {
    /// Everything is put back.
    Rollback,
    /// The rollout goes on.
    Continue,
    /// It waits on.
    #[default]
    Hold,
}

/// The step at which a rollout waits: it is watched for as long as the first step that it comes in place of, or for so long where it comes
/// in place of none.
pub fn limit(permille: u32, steps: &[Shift], lasting: Duration) -> Shift {
    let in_place = steps.iter().find(|step| step.permille >= permille);
    Shift { permille, hold: in_place.map_or(lasting, |step| step.hold) }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The new color's part in tenths of a percent, 1 to 999.
    pub permille: u32,
    /// How long it stays there before the next one.
    pub hold: Duration,
}

impl Shift {
    /// The part in percent.
    pub fn percent(self) -> f64 {
        f64::from(self.permille) / 10.0
    }
}

/// A request by the production route whose answer tells which color gave it.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Prove {
    /// The request.
    #[argument(flatten, without(body, status, body_matches, max_latency, retries, retry_delay, timeout))]
    pub request: HttpCheck,
    /// Where its answer tells the color.
    #[argument(flatten)]
    pub by: Tell,
    /// What each color tells, by color. A color that is not in it tells its own name.
    pub values: BTreeMap<String, String>,
    /// The number of answers in a row that must agree with the weights. While traffic is split, as many as it takes not to
    /// miss the smaller weight.
    #[argument(range = 1..=500, default = 20)]
    pub answers: u32,
    /// Time until the answers agree with the weights. After that the step has failed.
    #[argument(default = "2m", text = rules::some_time)]
    pub timeout: Duration,
}

/// What of an answer tells the color.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// A header's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
    /// The first group of a regular expression, or all that it matches, in the body.
    Body(String),
}

/// The same as it is written.
#[derive(Arguments)]
#[arguments(change = InPlace)]
struct WrittenTell {
    /// The header of the answer that tells the color. Exactly one of `header`, `cookie` and `body` is required.
    header: Option<String>,
    /// The cookie of the answer that tells the color. Exactly one of `header`, `cookie` and `body` is required.
    cookie: Option<String>,
    /// A regular expression whose first group, or else all that it matches, tells the color in the body of the answer. Exactly
    /// one of `header`, `cookie` and `body` is required.
    #[argument(text = rules::pattern)]
    body: Option<String>,
}

impl Arguments for Tell {
    type Kind = Always;

    fn arguments() -> &'static [Argument] {
        WrittenTell::arguments()
    }

    fn applies(_: &str, _: Always) -> bool {
        true
    }

    fn fill(&mut self, _: Always) {}
}

impl Field for Tell {
    fn holds() -> Holds {
        WrittenTell::holds()
    }

    fn read(value: &serde_json::Value) -> Option<Tell> {
        let WrittenTell { header, cookie, body } = WrittenTell::read(value)?;
        header.map(Tell::Header).or(cookie.map(Tell::Cookie)).or(body.map(Tell::Body))
    }
}

/// A weight in percent. A load balancer's weights go to 999, so that a tenth of a percent is the smallest part.
pub(super) fn weight(percent: f64) -> Result<(), String> {
    let tenths = percent * 10.0;
    match tenths {
        _ if (1.0..=999.0).contains(&tenths) && (tenths - tenths.round()).abs() < 1e-6 => Ok(()),
        _ if tenths >= 1000.0 => Err("must be below 100: the last step to 100 % comes by itself".to_owned()),
        _ => Err("must be a percentage from 0.1 to 99.9 with at most one decimal".to_owned()),
    }
}

/// How far a rollout goes: a weight, or 100 for all of the way.
pub(super) fn up_to(percent: f64) -> Result<(), String> {
    if (percent - 100.0).abs() < 1e-6 || weight(percent).is_ok() {
        return Ok(());
    }
    Err("must be a percentage from 0.1 to 100 with at most one decimal".to_owned())
}

/// More answers than this are never asked for.
const MOST_ANSWERS: u32 = 500;

impl Prove {
    /// The color that tells itself so.
    pub fn color_of<'c>(&self, told: &str, colors: impl IntoIterator<Item = &'c String>) -> Option<&'c str> {
        let tells = |color: &String| self.values.get(color).map_or(color.as_str() == told, |value| value == told);
        colors.into_iter().find(|color| tells(color)).map(String::as_str)
    }

    /// How many answers it takes to tell these weights from none at all: a share of 10 % is missed by twenty answers
    /// once in eight times.
    pub fn needed(&self, weights: &BTreeMap<String, f64>) -> u32 {
        let smallest = weights.values().copied().filter(|share| *share > 0.0).fold(1.0, f64::min);
        if smallest >= 1.0 {
            return self.answers;
        }
        let seen_once = (MISSED.ln() / (1.0 - smallest).ln()).ceil();
        (seen_once as u32).min(MOST_ANSWERS).max(self.answers)
    }
}

/// How often a share that is there may be missed altogether.
const MISSED: f64 = 0.01;
/// The confidence of the bounds within which the answers of a split must lie.
const CONFIDENCE: f64 = 0.999;

/// Whether the last answers agree with the weights: nothing from a color without any, and of each other one as many as
/// chance allows. Otherwise what was seen, in words.
///
/// # Errors
/// What does not agree.
pub fn agrees(answers: &[String], weights: &BTreeMap<String, f64>, needed: u32) -> Result<(), String> {
    let recent = &answers[answers.len().saturating_sub(needed as usize)..];
    let counted = |color: &str| recent.iter().filter(|answer| *answer == color).count() as u64;
    let mut seen: BTreeMap<&str, u64> = weights.keys().map(|color| (color.as_str(), counted(color))).collect();
    for answer in recent {
        seen.entry(answer).or_insert_with(|| counted(answer));
    }
    let words = || {
        let parts: Vec<String> = seen.iter().map(|(color, count)| format!("{color} {count}")).collect();
        format!("of the last {} answers: {}", recent.len(), parts.join(", "))
    };
    if recent.len() < needed as usize {
        return Err(words());
    }
    for (color, count) in &seen {
        let share = weights.get(*color).copied().unwrap_or_default();
        let (low, high) = statistics::binomial_bounds(recent.len() as u64, share, CONFIDENCE);
        if !(low..=high).contains(count) {
            return Err(words());
        }
    }
    Ok(())
}

/// What is watched while traffic is split, and after the last step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// How long to watch after the last step.
    pub duration: Duration,
    /// How often to look.
    pub interval: Duration,
    /// How many looks may fail.
    pub max_failures: u32,
    /// With which probability its metrics, and those before traffic, may throw back by chance what keeps their limits.
    pub error_level: f64,
    /// What must hold; the subjects are filled in when the runbook is made.
    pub checks: Vec<Checking>,
}
