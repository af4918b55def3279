//! How many failed requests a rollout may cost.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::accepts;
use crate::argument::{Arguments, Field, Holds, Rule};

/// A number of failed requests: a fixed one, or what a service level of a time leaves.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Budget {
    /// The number of failed requests of the new color at which the rollout ends. Conflicts with `max_percent`.
    #[argument(range = 1..=1_000_000_000)]
    pub max_failed_requests: Option<u64>,
    /// The percentage of all requests to all colors in the time `of` that may fail, such as 0.1 for a service level of 99.9 %. The requests that
    /// failed in that time are subtracted; the rest is the number of failed requests of the new color at which the rollout ends. If nothing is
    /// left, no rollout begins but a way back. Requires `of`.
    #[argument(number = accepts::percent_of_requests)]
    pub max_percent: Option<f64>,
    /// The time before the rollout that `max_percent` refers to, in hours or days: `24h`, `30d`; at most 60 days.
    pub of: Option<Past>,
    /// The length of one data point: `1s`, `5s`, `10s`, `20s`, `30s` or whole minutes. Load balancers publish one a minute.
    #[argument(default = "60s", text = accepts::period)]
    pub period: Duration,
}

/// A time that has passed: so many hours, or days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    number: u64,
    unit: char,
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// CloudWatch keeps points of five minutes for 63 days (GetMetricData).
const LONGEST: u64 = 60 * DAY;

impl Past {
    fn parse(text: &str) -> Result<Past, String> {
        let wrong = || format!("{text:?} must be a number of hours or days up to 60 days, such as 24h or 30d");
        let unit = text.chars().last().filter(|unit| matches!(unit, 'h' | 'd')).ok_or_else(wrong)?;
        let digits = &text[..text.len() - 1];
        let is_number = !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let past = Past { number: digits.parse().ok().filter(|_| is_number).ok_or_else(wrong)?, unit };
        if (1..=LONGEST).contains(&past.time().as_secs()) { Ok(past) } else { Err(wrong()) }
    }

    /// How long it is.
    pub fn time(self) -> Duration {
        Duration::from_secs(self.number * if self.unit == 'd' { DAY } else { HOUR })
    }

    /// As it was written.
    pub fn shown(self) -> String {
        format!("{}{}", self.number, self.unit)
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
        for (text, seconds) in [("24h", DAY), ("30d", 30 * DAY), ("36h", 36 * HOUR), ("60d", 60 * DAY)] {
            let past = Past::parse(text).unwrap();
            assert_eq!((past.time().as_secs(), past.shown().as_str()), (seconds, text));
        }
        for wrong in ["", "d", "0d", "61d", "30", "30m", "1.5d", "+3d", "-3d", "99999999999999999999d", "3ü", "ü"] {
            assert!(Past::parse(wrong).unwrap_err().contains("such as 24h or 30d"), "{wrong}");
        }
    }
}
