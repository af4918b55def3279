//! Whether a rollout has used up the failed requests that it may cost.

use std::time::Duration;

use super::budget::Budget;
use super::check::{Inconclusive, Metric, MetricCheck, MetricTest, lag};
use super::gate::Verdict;

/// What came to a color.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// The requests.
    pub requests: f64,
    /// Those that failed.
    pub failed: f64,
}

/// What a step more would lead to a color.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exposed {
    /// The color's percentage then.
    pub percent: f64,
    /// The requests of the hold so far, and those that failed.
    pub seen: Spent,
    /// How many requests would come until it is seen whether they fail.
    pub unseen: f64,
}

/// What is measured, in points of that length: the failed requests that can be told by color, since a rollout must not end for another
/// service's.
pub fn measured(period: Duration) -> MetricCheck {
    MetricCheck {
        metric: Metric::ErrorRate,
        target_group: None,
        max: None,
        min: None,
        max_ratio_to_live: None,
        significance: None,
        test: MetricTest::Threshold,
        min_requests: None,
        inconclusive: Inconclusive::Fail,
        dry_run: false,
        load_balancer_errors: false,
        period,
        window: period,
    }
}

/// How many requests may fail, given those of the time before. None where that says nothing.
pub fn allowed(budget: &Budget, before: Option<Spent>) -> Option<f64> {
    if let Some(most) = budget.max_failed_requests {
        return Some(most as f64);
    }
    let before = before?;
    Some((budget.max_percent? / 100.0 * before.requests).floor() - before.failed)
}

/// How long requests may fail until that is seen: a period, and until CloudWatch has it, and until the next look.
pub fn blind(budget: &Budget, interval: Duration) -> Duration {
    budget.period + lag(budget.period) + interval
}

/// Whether something is left of a budget: now, and where it is asked, once the next step has begun and before anything can be seen of it.
pub fn judge(color: &str, allowed: f64, spent: Spent, next: Option<Exposed>) -> Verdict {
    let Spent { failed, requests } = spent;
    let seen = format!("{failed:.0} of {requests:.0} requests of {color} have failed since the rollout began");
    if failed >= allowed {
        return Verdict::Fail(format!("{seen}: the budget of {:.0} is used up", allowed.max(0.0)));
    }
    let Some(Exposed { percent, seen: hold, unseen }) = next else { return Verdict::Pass };
    let more = if hold.requests > 0.0 { (hold.failed / hold.requests).min(1.0) * unseen } else { 0.0 };
    if failed + more < allowed {
        return Verdict::Pass;
    }
    Verdict::Fail(format!(
        "{seen}; at {percent} % about {more:.0} more would before that can be seen, and the budget is {allowed:.0}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argument::Field as _;
    use crate::rollout::budget::Past;

    fn budget(most: Option<u64>, percent: Option<f64>) -> Budget {
        let of = percent.and_then(|_| Past::read(&"30d".into()));
        Budget { max_failed_requests: most, max_percent: percent, of, period: Duration::from_secs(60) }
    }

    #[test]
    fn what_a_service_level_leaves_is_what_has_not_failed_yet() {
        let before = Some(Spent { requests: 1_000_500.0, failed: 400.0 });
        assert_eq!(allowed(&budget(None, Some(0.1)), before), Some(600.0));
        assert_eq!(allowed(&budget(None, Some(0.01)), before), Some(-300.0));
        assert_eq!(allowed(&budget(None, Some(0.1)), None), None);
        assert_eq!(allowed(&budget(Some(200), None), None), Some(200.0));
    }

    #[test]
    fn it_ends_when_it_is_used_up_or_would_be_unseen() {
        let judged =
            |failed: f64, next: Option<Exposed>| judge("green", 40.0, Spent { requests: 1430.0, failed }, next);
        assert_eq!(judged(39.0, None), Verdict::Pass);
        assert_eq!(
            judged(40.0, None),
            Verdict::Fail(
                "40 of 1430 requests of green have failed since the rollout began: the budget of 40 is used up"
                    .to_owned()
            )
        );
        let next =
            |failed: f64| Some(Exposed { percent: 50.0, seen: Spent { requests: 1000.0, failed }, unseen: 2100.0 });
        assert_eq!(judged(12.0, next(10.0)), Verdict::Pass);
        let Verdict::Fail(words) = judged(12.0, next(15.0)) else { panic!("passes") };
        assert_eq!(
            words,
            "12 of 1430 requests of green have failed since the rollout began; at 50 % about 32 more would before that can be seen, and the budget is 40"
        );
        // Nothing of the hold is known: nothing is foreseen.
        let unknown = Exposed { percent: 50.0, seen: Spent::default(), unseen: 2100.0 };
        assert_eq!(judged(12.0, Some(unknown)), Verdict::Pass);
        // Of a service level nothing may be left for a rollout that goes on.
        let Verdict::Fail(words) = judge("green", -3.0, Spent::default(), None) else { panic!("passes") };
        assert!(words.ends_with("the budget of 0 is used up"), "{words}");
    }
}
