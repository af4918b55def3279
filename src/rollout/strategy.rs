//! In which steps traffic moves, how long each holds, and how it is known that a step has arrived at the nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::{Checking, HttpCheck};
use super::statistics;

/// The way to 100 %, which is always the last step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strategy {
    /// The steps before the last one, each larger than the one before.
    pub steps: Vec<Shift>,
    /// How long the nodes are given to follow a step where that can't be seen.
    pub settle: Duration,
    /// How it can be seen.
    pub prove: Option<Prove>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The new colour's part in tenths of a percent, 1 to 999.
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

/// A request by the production route whose answer tells which colour gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prove {
    /// The request.
    pub request: HttpCheck,
    /// Where its answer tells the colour.
    pub by: Tell,
    /// What each colour tells, by colour; its own name where it isn't here.
    pub values: BTreeMap<String, String>,
    /// So many answers in a row must agree with the weights.
    pub answers: u32,
    /// When to give up.
    pub timeout: Duration,
}

/// What of an answer tells the colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// A header's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
    /// The first group of a regular expression, or all that it matches, in the body.
    Body(String),
}

/// More answers than this are never asked for.
const MOST_ANSWERS: u32 = 500;

impl Prove {
    /// The colour that tells itself so.
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
        (seen_once as u32).clamp(self.answers, MOST_ANSWERS)
    }
}

/// How often a share that is there may be missed altogether.
const MISSED: f64 = 0.01;
/// The confidence of the bounds within which the answers of a split must lie.
const CONFIDENCE: f64 = 0.999;

/// Whether the last answers agree with the weights: nothing from a colour without any, and of each other one as many as
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
    /// What must hold; the subjects are filled in when the runbook is made.
    pub checks: Vec<Checking>,
}
