//! What was seen: where each route leads, and what the record says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::capacity::Capacity;
use super::intent::{Conditions, Environment};
use super::lock_record::LockRecord;

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
}

impl World {
    /// Whether some route has the group, at whatever weight: then its health is known.
    pub fn mentions(&self, group: &str) -> bool {
        self.routes.values().any(|observed| observed.terminal.mentions(group))
    }
}

/// A route as it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The ARN of the listener or rule.
    pub arn: String,
    /// Where it leads, after whatever comes before (authentication).
    pub terminal: Terminal,
    /// A rule's conditions, as far as the switch knows them; nothing for a listener.
    pub conditions: Option<Conditions>,
    /// Where a rule of the switch's own stands among the listener's rules; none for what is not its own, or not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Where a rule stands: people move rules, and a rule is itself wherever it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Its priority now, 1 to 50000.
    pub priority: i32,
    /// The ARN of another rule that has the priority that is configured for this one.
    pub taken_by: Option<String>,
}

/// The action that ends a route's list of actions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Terminal {
    /// To target groups.
    Forward(Forward),
    /// A fixed answer.
    FixedResponse {
        /// The status code, as AWS has it: a string.
        status: String,
        /// The content type.
        content_type: Option<String>,
        /// The body.
        body: Option<String>,
    },
    /// A redirect.
    Redirect(Redirect),
}

/// A redirect's parts; `#{host}` and its like stand for the request's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are AWS's")]
pub struct Redirect {
    pub status: String,
    pub protocol: Option<String>,
    pub port: Option<String>,
    pub host: Option<String>,
    pub path: Option<String>,
    pub query: Option<String>,
}

/// A weighted forward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// Target group ARNs and weights, 0 to 999.
    pub groups: Vec<(String, u32)>,
    /// Group stickiness, if the action says anything about it.
    pub stickiness: Option<Stickiness>,
}

/// How long a client stays with the group that it met first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stickiness {
    /// Whether it is on.
    pub enabled: bool,
    /// 1 to 604800 seconds.
    pub duration_seconds: Option<i32>,
}

impl Terminal {
    /// The percentage of requests that goes to a group; 0 if it isn't there or nothing has any weight.
    pub fn share(&self, group: &str) -> f64 {
        let Terminal::Forward(forward) = self else { return 0.0 };
        let total: u32 = forward.groups.iter().map(|(_, weight)| weight).sum();
        let own: u32 = forward.groups.iter().filter(|(arn, _)| arn == group).map(|(_, weight)| weight).sum();
        if total == 0 { 0.0 } else { f64::from(own) * 100.0 / f64::from(total) }
    }

    /// Whether the group is part of the action, at whatever weight.
    pub fn mentions(&self, group: &str) -> bool {
        matches!(self, Terminal::Forward(forward) if forward.groups.iter().any(|(arn, _)| arn == group))
    }

    /// Whether every group gets the same percentage of requests in both, those that get none left out.
    pub fn shares_like(&self, other: &Terminal) -> bool {
        match (self, other) {
            (Terminal::Forward(x), Terminal::Forward(y)) => {
                let groups = x.groups.iter().chain(&y.groups);
                groups.into_iter().all(|(arn, _)| (self.share(arn) - other.share(arn)).abs() < 0.05)
            }
            _ => self == other,
        }
    }

    /// Equal as far as requests can tell: the same groups with the same shares, weights 1/0 being weights 100/0, and the
    /// same stickiness.
    pub fn is_same(&self, other: &Terminal) -> bool {
        match (self, other) {
            (Terminal::Forward(x), Terminal::Forward(y)) => {
                x.groups.len() == y.groups.len()
                    && x.groups
                        .iter()
                        .all(|(arn, _)| other.mentions(arn) && (self.share(arn) - other.share(arn)).abs() < 0.001)
                    && sticky(x) == sticky(y)
            }
            _ => self == other,
        }
    }

    /// The group stickiness to keep when the weights change.
    pub fn stickiness(&self) -> Option<Stickiness> {
        match self {
            Terminal::Forward(forward) => forward.stickiness.clone(),
            _ => None,
        }
    }
}

/// The seconds of group stickiness where it is on.
fn sticky(forward: &Forward) -> Option<Option<i32>> {
    forward.stickiness.as_ref().filter(|stickiness| stickiness.enabled).map(|stickiness| stickiness.duration_seconds)
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
            *sums.entry(color).or_default() += route.borrow().terminal.share(&environment.target_group_arn);
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
