//! Judging CloudWatch's numbers: samples and limits in, a verdict with the numbers out.

use super::check::{Metric, MetricCheck};
use super::gate::Verdict;
use super::statistics;

/// What was measured of one color in one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// One value for each period with data, the oldest first.
    pub points: Vec<f64>,
    /// The value over the whole window; none without data.
    pub value: Option<f64>,
    /// How many requests there were.
    pub requests: f64,
    /// The same without what the load balancer answered itself, where that differs: it can't be told apart by color,
    /// so it is left out of a comparison.
    pub apart: Option<Box<Sample>>,
}

impl Sample {
    /// What of it may be compared with another color's.
    pub fn compared(&self) -> &Sample {
        self.apart.as_deref().unwrap_or(self)
    }
}

/// What was measured of both colors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The color that is checked.
    pub color: Sample,
    /// The live one; none where nothing is live.
    pub live: Option<Sample>,
    /// When the live one was measured, if not at the same time.
    pub live_when: Option<&'static str>,
    /// Whether a whole period has passed since traffic moved.
    pub is_complete: bool,
}

/// Where a number is. Below the least number of requests, and before a whole period has passed, nothing can be said.
pub fn judge(check: &MetricCheck, color: &str, live: &str, measured: &Measured) -> Verdict {
    let name = check.metric.name();
    let requests = measured.color.requests;
    if !measured.is_complete {
        return Verdict::Inconclusive(format!("{name} of {color}: CloudWatch has no whole period yet"));
    }
    if requests < check.least_requests() as f64 && check.metric != Metric::Requests {
        let seen = format!("{name} of {color}: {requests:.0} requests, {} are needed to judge", check.least_requests());
        return Verdict::Inconclusive(seen);
    }
    // No request is a number of requests; no error rate, no latency, is none.
    let value = measured.color.value.or(matches!(check.metric, Metric::Requests).then_some(0.0));
    let Some(value) = value else {
        return Verdict::Inconclusive(format!("{name} of {color}: CloudWatch has no data"));
    };
    let shown = check.metric.shown(value);
    let seen = format!("{name} of {color} is {shown} over {requests:.0} requests");
    if let Some(max) = check.max.filter(|max| value > *max) {
        return Verdict::Fail(format!("{seen}, at most {} is allowed", check.metric.shown(max)));
    }
    if let Some(min) = check.min.filter(|min| value < *min) {
        return Verdict::Fail(format!("{seen}, at least {} is needed", check.metric.shown(min)));
    }
    if check.max_ratio_to_live.is_none() && check.significance.is_none() {
        return Verdict::Pass;
    }
    compare(check, (live, &seen), value, measured)
}

fn compare(check: &MetricCheck, (live, seen): (&str, &str), value: f64, measured: &Measured) -> Verdict {
    let Some(other) = measured.live.as_ref().map(Sample::compared) else { return Verdict::Pass };
    let own = measured.color.compared();
    let value = own.value.unwrap_or(value);
    let counts = !matches!(check.metric, Metric::Requests);
    let when = measured.live_when.map(|when| format!(" {when}")).unwrap_or_default();
    if counts && other.requests < check.least_requests() as f64 {
        let few = format!(
            "{seen}; {live} has {:.0} requests{when}, {} are needed to compare",
            other.requests,
            check.least_requests()
        );
        return Verdict::Inconclusive(few);
    }
    let Some(base) = other.value else {
        return Verdict::Inconclusive(format!("{seen}; of {live}{when} CloudWatch has no data to compare"));
    };
    let base_shown = check.metric.shown(base);
    if let Some(ratio) = check.max_ratio_to_live {
        // A live color without a single error leaves no room for a ratio; an absolute limit says what is allowed then.
        let allowed = base * ratio;
        if value > allowed && (base > 0.0 || check.max.is_none()) {
            return Verdict::Fail(format!(
                "{seen}, {live}'s is {base_shown}{when}, and at most {ratio} times that is allowed"
            ));
        }
    }
    if let Some(level) = check.significance {
        match statistics::mann_whitney(&own.points, &other.points, level) {
            Some(p) if p < level => {
                return Verdict::Fail(format!(
                    "{seen}, {live}'s is {base_shown}{when}: significantly more (Mann-Whitney over {} and {} points, p = {p:.4} < {level})",
                    own.points.len(),
                    other.points.len()
                ));
            }
            Some(_) => {}
            None if check.max_ratio_to_live.is_some() || check.max.is_some() => {}
            None => {
                let (mine, others) = (own.points.len(), other.points.len());
                return Verdict::Inconclusive(format!("{seen}; {mine} and {others} points are too few to compare"));
            }
        }
    }
    Verdict::Pass
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rollout::check::CountsAs;

    fn check() -> MetricCheck {
        MetricCheck {
            target_group: None,
            metric: Metric::ErrorRate,
            max: Some(0.01),
            min: None,
            max_ratio_to_live: None,
            significance: None,
            min_requests: Some(100),
            inconclusive: CountsAs::Fail,
            load_balancer_errors: true,
            period: Duration::from_secs(60),
            window: Duration::from_secs(300),
        }
    }

    fn sample(points: &[f64], requests: f64) -> Sample {
        let value = (!points.is_empty()).then(|| points.iter().sum::<f64>() / points.len() as f64);
        Sample { points: points.to_vec(), value, requests, apart: None }
    }

    #[track_caller]
    fn judged(check: &MetricCheck, color: Sample, live: Sample, expected: &expect_test::Expect) {
        let measured = Measured { color, live: Some(live), is_complete: true, ..Measured::default() };
        expected.assert_eq(&format!("{:?}", judge(check, "green", "blue", &measured)));
    }

    #[test]
    fn numbers_are_told() {
        let none = || sample(&[], 0.0);
        judged(&check(), sample(&[0.005], 400.0), none(), &expect_test::expect!["Pass"]);
        judged(
            &check(),
            sample(&[0.05], 400.0),
            none(),
            &expect_test::expect![[
                r#"Fail("error_rate of green is 5.00 % over 400 requests, at most 1.00 % is allowed")"#
            ]],
        );
        judged(
            &check(),
            sample(&[0.05], 40.0),
            none(),
            &expect_test::expect![[r#"Inconclusive("error_rate of green: 40 requests, 100 are needed to judge")"#]],
        );
        let ratio = MetricCheck { metric: Metric::Latency(99), max: None, max_ratio_to_live: Some(1.2), ..check() };
        judged(
            &ratio,
            sample(&[0.3], 400.0),
            sample(&[0.2], 400.0),
            &expect_test::expect![[
                r#"Fail("latency_p99 of green is 300 ms over 400 requests, blue's is 200 ms, and at most 1.2 times that is allowed")"#
            ]],
        );
        judged(&ratio, sample(&[0.22], 400.0), sample(&[0.2], 400.0), &expect_test::expect!["Pass"]);
        judged(
            &ratio,
            sample(&[0.22], 400.0),
            sample(&[0.2], 4.0),
            &expect_test::expect![[
                r#"Inconclusive("latency_p99 of green is 220 ms over 400 requests; blue has 4 requests, 100 are needed to compare")"#
            ]],
        );
    }

    #[test]
    fn significance_needs_points() {
        let check = MetricCheck { metric: Metric::Latency(50), max: None, significance: Some(0.01), ..check() };
        let slow = sample(&[0.21, 0.22, 0.23, 0.24, 0.25, 0.26], 600.0);
        let quick = sample(&[0.11, 0.12, 0.13, 0.14, 0.15, 0.16], 600.0);
        judged(
            &check,
            slow.clone(),
            quick.clone(),
            &expect_test::expect![[
                r#"Fail("latency_p50 of green is 235 ms over 600 requests, blue's is 135 ms: significantly more (Mann-Whitney over 6 and 6 points, p = 0.0011 < 0.01)")"#
            ]],
        );
        judged(&check, quick.clone(), quick, &expect_test::expect!["Pass"]);
        judged(
            &check,
            slow,
            sample(&[0.1, 0.2], 600.0),
            &expect_test::expect![[
                r#"Inconclusive("latency_p50 of green is 235 ms over 600 requests; 6 and 2 points are too few to compare")"#
            ]],
        );
    }
}
