//! How many failed requests a rollout may cost.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::accepts;
use crate::argument::{Arguments, Field, Holds, Rule};
use crate::duration;

/// A number of failed requests: a fixed one, or what a service level of a time leaves.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Budget {
    /// The number of failed requests of the color at which the rollout ends. Conflicts with `max_percent`.
    #[argument(range = 1..=1_000_000_000)]
    pub max_failed_requests: Option<u64>,
    /// The percentage of the requests of the time `of` that may fail, to all colors together, such as 0.1 for a service level of 99.9 %.
    /// What failed in that time is taken off; what is left is the number of failed requests at which the rollout ends. Where nothing is left
    /// no rollout begins, and the way back is open. Needs `of`.
    #[argument(number = accepts::percent_of_requests)]
    pub max_percent: Option<f64>,
    /// The time before the rollout of which `max_percent` is, in hours or days: `24h`, `30d`; at most 60 days.
    pub of: Option<Past>,
    /// The length of one data point: `1s`, `5s`, `10s`, `20s`, `30s` or whole minutes. Load balancers publish one a minute.
    #[argument(default = "60s", text = accepts::period)]
    pub period: Duration,
}

/// A time that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past(pub Duration);

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// CloudWatch keeps points of five minutes for 63 days (GetMetricData).
const LONGEST: u64 = 60 * DAY;

impl Past {
    fn parse(text: &str) -> Result<Past, String> {
        let wrong = || format!("{text:?} must be a number of hours or days up to 60 days, such as 24h or 30d");
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
        let unit = match unit {
            "h" => HOUR,
            "d" => DAY,
            _ => return Err(wrong()),
        };
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = number.parse().ok().filter(|_| is_number).and_then(|number: u64| number.checked_mul(unit));
        let seconds = seconds.filter(|seconds| (1..=LONGEST).contains(seconds)).ok_or_else(wrong)?;
        Ok(Past(Duration::from_secs(seconds)))
    }

    /// As users write it.
    pub fn shown(self) -> String {
        let seconds = self.0.as_secs();
        if seconds.is_multiple_of(DAY) { format!("{}d", seconds / DAY) } else { duration::shown(self.0) }
    }
}

impl Field for Past {
    fn holds() -> Holds {
        Holds::String
    }

    fn rules() -> Vec<Rule> {
        vec![Rule::Text(|text| Past::parse(text).map(drop))]
    }

    fn read(value: &Value) -> Option<Past> {
        Past::parse(value.as_str()?).ok()
    }
}

/// What CloudWatch has numbers of: the requests by a load balancer to a target group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The target group's dimension.
    pub group: String,
    /// The load balancer's dimension.
    pub load_balancer: String,
}

/// A budget, and of whom it is.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetCheck {
    /// How much.
    pub budget: Budget,
    /// Where the color's requests are counted.
    pub own: BTreeSet<Source>,
    /// Where those of all colors are.
    pub all: BTreeSet<Source>,
    /// The color's percentage in the step after the one that is watched, where it gets more then.
    pub next: Option<f64>,
}

impl Budget {
    /// What must hold, as part of a sentence.
    pub fn summary(&self, color: &str) -> String {
        match (self.max_failed_requests, self.max_percent.zip(self.of)) {
            (Some(most), _) => format!("fewer than {most} requests of {color} fail"),
            (None, Some((percent, of))) => {
                format!("fewer requests of {color} fail than {percent} % of those of {} leave", of.shown())
            }
            (None, None) => format!("no request of {color} fails"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_hours_and_days() {
        for (text, seconds, shown) in
            [("24h", DAY, "1d"), ("30d", 30 * DAY, "30d"), ("36h", 36 * HOUR, "36h"), ("60d", 60 * DAY, "60d")]
        {
            let past = Past::parse(text).unwrap();
            assert_eq!((past.0.as_secs(), past.shown().as_str()), (seconds, shown));
        }
        for wrong in ["", "d", "0d", "61d", "30", "30m", "1.5d", "+3d", "-3d", "99999999999999999999d", "3ü", "ü"] {
            assert!(Past::parse(wrong).unwrap_err().contains("such as 24h or 30d"), "{wrong}");
        }
    }
}
