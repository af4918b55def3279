//! What was seen at one time: every route, the record, sizes, and what an earlier rollout left.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::capacity::Capacity;
use super::cohort::CohortRules;
use super::intent::Environment;
use super::lock_record::LockRecord;
use super::route::{Observed, RouteSpec};

/// Everything that a plan needs to know of the world, at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// The routes by key; a route that was looked for and isn't there is missing.
    pub routes: BTreeMap<String, Observed>,
    /// The record's value; none if the parameter doesn't exist.
    pub record: Option<String>,
    /// The sizes of the colors that the switch is to size.
    #[serde(default)]
    pub capacities: BTreeMap<String, Capacity>,
    /// What a rollout that did not come to its end left.
    #[serde(default)]
    pub lock_record: Option<LockRecord>,
    /// Whether a rollout that waits for a person has waited for as long as it was to, by the clock of the plan: see
    /// [`super::situation::is_overdue`].
    #[serde(skip)]
    pub overdue: bool,
    /// Target groups that keep a client at one target, as far as that was asked: see [`super::planner::to_be_asked`].
    #[serde(default)]
    pub sticky: BTreeSet<String>,
    /// Target groups that some other rule of a listener has, as far as that was asked: see [`super::planner::unproved`].
    #[serde(default)]
    pub known: BTreeSet<String>,
    /// The rules that no request takes by which a color's health is to be known before it gets traffic, or that an earlier run
    /// left: one for each listener at most; none where none is needed, or can be made.
    #[serde(skip)]
    pub trials: Vec<RouteSpec>,
    /// The rules by which a cohort gets the target color first, as far as that was asked: see [`super::planner::cohort_listeners`].
    #[serde(default)]
    pub cohort: CohortRules,
}

impl World {
    /// Whether some route has the group, at whatever weight: then its health is known.
    pub fn mentions(&self, group: &str) -> bool {
        self.known.contains(group) || self.routes.values().any(|observed| observed.terminal.mentions(group))
    }
}

/// Who gets the traffic, over all routes of a switch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Whole percentages by color, the mean over the routes. They add to 100 unless a route leads elsewhere.
    pub weights: BTreeMap<String, u32>,
    /// The color with the most of it; none if no color has any.
    pub live: Option<String>,
}

/// Reads off the routes who gets the traffic. Equal shares are settled by the record, then by name.
pub fn traffic(
    environments: &BTreeMap<String, Environment>,
    routes: impl IntoIterator<Item = impl std::borrow::Borrow<Observed>>,
    record: Option<&str>,
) -> Traffic {
    let mut sums: BTreeMap<&str, f64> = environments.keys().map(|color| (color.as_str(), 0.0)).collect();
    let mut count = 0.0_f64;
    for route in routes {
        count += 1.0;
        for (color, environment) in environments {
            *sums.entry(color).or_default() += environment.share(&route.borrow().terminal);
        }
    }
    let mean = |sum: f64| if count == 0.0 { 0.0 } else { sum / count };
    let live = sums
        .iter()
        .filter(|(_, sum)| **sum > 0.0)
        .max_by(|a, b| {
            a.1.total_cmp(b.1)
                .then_with(|| (Some(*a.0) == record).cmp(&(Some(*b.0) == record)))
                .then_with(|| b.0.cmp(a.0))
        })
        .map(|(color, _)| (*color).to_owned());
    let shares: Vec<(String, f64)> = sums.into_iter().map(|(color, sum)| (color.to_owned(), mean(sum))).collect();
    Traffic { weights: whole_percentages(&shares), live }
}

/// Rounds so that the sum is kept, by the largest remainders; a share that isn't nothing never becomes 0.
fn whole_percentages(shares: &[(String, f64)]) -> BTreeMap<String, u32> {
    let total = shares.iter().map(|(_, share)| share).sum::<f64>().round() as u32;
    let mut parts: Vec<(String, u32, f64)> = shares
        .iter()
        .map(|(color, share)| {
            let floor = if *share > 0.0 { share.floor().max(1.0) } else { 0.0 };
            (color.clone(), floor as u32, share - floor)
        })
        .collect();
    parts.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut sum: u32 = parts.iter().map(|part| part.1).sum();
    for part in &mut parts {
        if sum < total && part.2 > 0.0 {
            part.1 += 1;
            sum += 1;
        }
    }
    // A tiny share that was lifted to 1 is taken from the largest.
    if let Some(largest) = parts.iter_mut().max_by_key(|part| part.1) {
        largest.1 -= sum.saturating_sub(total).min(largest.1);
    }
    parts.into_iter().map(|(color, part, _)| (color, part)).collect()
}
