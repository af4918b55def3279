//! Judging CloudWatch's numbers: samples and limits in, a verdict with the numbers out.

use super::check::{Counted, Metric, MetricCheck, MetricTest};
use super::gate::Verdict;
use super::statistics::{self, Draws, at_least, evidence};

/// What was measured of one color in one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// One value for each period with data, the oldest first.
    pub points: Vec<f64>,
    /// The value over the whole window; none without data.
    pub value: Option<f64>,
    /// How many requests there were.
    pub requests: f64,
    /// The requests of each period that failed, or that took longer than each of the limits that were asked for. Empty where CloudWatch
    /// did not count them.
    pub counts: Vec<Vec<Count>>,
    /// The same without what the load balancer answered itself, where that differs: it can't be told apart by color,
    /// so it is left out of a comparison.
    pub apart: Option<Box<Sample>>,
}

/// The requests of a period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    /// When the period began, in seconds since 1970.
    pub at: i64,
    /// How many there were.
    pub of: f64,
    /// How many of them failed, or took too long.
    pub hits: f64,
}

impl Sample {
    /// What of it may be compared with another color's.
    pub fn compared(&self) -> &Sample {
        self.apart.as_deref().unwrap_or(self)
    }

    /// How many of the requests failed, of an error rate.
    pub fn failed(&self) -> f64 {
        match self.counted(0) {
            [] => self.value.unwrap_or_default() * self.requests,
            counts => total(counts).1,
        }
    }

    fn counted(&self, n: usize) -> &[Count] {
        self.counts.get(n).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A limit of seconds that requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// `max`.
    Max(f64),
    /// `max_ratio_to_live` times the live color's percentile.
    Ratio(f64),
    /// The live color's percentile.
    Live(f64),
}

impl Limit {
    /// In seconds.
    pub fn seconds(self) -> f64 {
        let (Limit::Max(seconds) | Limit::Ratio(seconds) | Limit::Live(seconds)) = self;
        seconds
    }
}

/// By which limits the requests of a color are counted, where the check is of a latency. Whether a percentile is above a limit is whether more
/// of the requests than it leaves take longer: so latencies are judged like errors, whatever their distribution. `live` is the live
/// color's [`percentile`]; where nothing is known of it, nothing is compared with it.
pub fn limits(check: &MetricCheck, live: Option<f64>) -> Vec<Limit> {
    if !is_of_latency(check) {
        return Vec::new();
    }
    let ratio = check.max_ratio_to_live.zip(live).map(|(ratio, live)| Limit::Ratio(ratio * live));
    let live = live.filter(|_| check.significance.is_some()).map(Limit::Live);
    check.max.map(Limit::Max).into_iter().chain(ratio).chain(live).collect()
}

/// The percentile of the live color, in seconds, by which requests are counted: of the very time in which both are measured. Of another
/// time it may be such that all of its requests take longer, or none, which would leave nothing to compare. The middle one of the
/// periods, since a short incident makes the whole time's.
pub fn percentile(check: &MetricCheck, live: &Sample) -> Option<f64> {
    if !is_of_latency(check) {
        return None;
    }
    let mut sorted = live.points.clone();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().or(live.value)
}

fn is_of_latency(check: &MetricCheck) -> bool {
    matches!(check.counted(), Some(Counted::Slower(_)))
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
    /// By which limits the requests of the color were counted, in the order of their counts. Those of the live color are counted once, by
    /// its own percentile.
    pub limits: Vec<Limit>,
    /// The live color's percentile of a latency, by which its requests were counted, in seconds.
    pub percentile: Option<f64>,
    /// How many times as much as single requests what is counted of the live color varies from period to period.
    pub dispersion: f64,
    /// The error level of each test.
    pub level: f64,
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
    if let Some(max) = check.max {
        let allowed = check.metric.shown(max);
        match above(check, measured, max) {
            Some(Some(least)) => {
                let shown = shown_least(check, least, measured.level);
                return Verdict::Fail(format!("{seen} ({shown}), at most {allowed} is allowed"));
            }
            Some(None) => {}
            None if value > max => return Verdict::Fail(format!("{seen}, at most {allowed} is allowed")),
            None => {}
        }
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
    let beside = format!("{seen}, {live}'s is {base_shown}{when}");
    if let Some(ratio) = check.max_ratio_to_live {
        let level = measured.level;
        // A live color without a single error leaves no room for a ratio; an absolute limit says what is allowed then.
        let has_room = base > 0.0 || check.max.is_none();
        match more_than_live(check, measured, (ratio, level), |limit| matches!(limit, Limit::Ratio(_))) {
            _ if !has_room => {}
            Some(Some(sure)) => {
                return Verdict::Fail(format!("{beside}, and at most {ratio} times that is allowed ({sure})"));
            }
            Some(None) => {}
            None if value > base * ratio => {
                return Verdict::Fail(format!("{beside}, and at most {ratio} times that is allowed"));
            }
            None => {}
        }
    }
    check.significance.map_or(Verdict::Pass, |level| {
        let tested =
            more_than_live(check, measured, (1.0, level.min(measured.level)), |limit| matches!(limit, Limit::Live(_)));
        match tested {
            Some(Some(sure)) => Verdict::Fail(format!("{beside}: significantly more ({sure})")),
            Some(None) => Verdict::Pass,
            None => by_points(check, (seen, &beside), (own, other), (level, measured.level)),
        }
    })
}

/// Whether the points of one color are above those of another one.
fn by_points(
    check: &MetricCheck,
    (seen, beside): (&str, &str),
    (own, other): (&Sample, &Sample),
    levels: (f64, f64),
) -> Verdict {
    let (mine, others) = (own.points.len(), other.points.len());
    let level = match check.test {
        MetricTest::Sequential => statistics::spent(levels.0.min(levels.1), mine),
        MetricTest::Threshold => levels.0,
    };
    match statistics::mann_whitney(&own.points, &other.points, level) {
        Some(p) if p < level => Verdict::Fail(format!(
            "{beside}: significantly more (Mann-Whitney over {mine} and {others} points, p = {p:.4} < {level:.4})"
        )),
        Some(_) => Verdict::Pass,
        None if check.max_ratio_to_live.is_some() || check.max.is_some() => Verdict::Pass,
        None => Verdict::Inconclusive(format!("{seen}; {mine} and {others} points are too few to compare")),
    }
}

/// Whether what was counted shows that the color is above its limit, and how much it is at least then: a share of the requests. None
/// where nothing was counted.
fn above(check: &MetricCheck, measured: &Measured, max: f64) -> Option<Option<f64>> {
    let (place, limit) = match check.counted()? {
        Counted::Failed => (0, max),
        Counted::Slower(percentile) => {
            (measured.limits.iter().position(|limit| matches!(limit, Limit::Max(_)))?, left(percentile))
        }
    };
    let counts = measured.color.counted(place);
    if counts.is_empty() {
        return None;
    }
    let (of, hits) = total(counts);
    let seen = |limit: f64| evidence(&[Draws { hits, misses: of - hits, limit }], measured.dispersion);
    Some(at_least(measured.level, (limit, 1.0), seen))
}

/// Whether what was counted shows that the color is more than so many times as bad as the live one, in words then. None where nothing was
/// counted.
fn more_than_live(
    check: &MetricCheck,
    measured: &Measured,
    (ratio, level): (f64, f64),
    is_meant: impl Fn(&Limit) -> bool,
) -> Option<Option<String>> {
    let (own, live) = (measured.color.compared(), measured.live.as_ref()?.compared());
    let (place, ratio, what) = match check.counted()? {
        Counted::Failed => (0, ratio, "errors".to_owned()),
        // The limit is a longer time already: no more requests may take longer than those of the live color that take longer than theirs.
        Counted::Slower(_) => {
            let place = measured.limits.iter().position(is_meant)?;
            let [limit, own] =
                [measured.limits[place].seconds(), measured.percentile?].map(|time| check.metric.shown(time));
            (place, 1.0, format!("requests over {limit} as of the live color over {own}"))
        }
    };
    let (own, live) = (own.counted(place), live.counted(0));
    if own.is_empty() || live.is_empty() {
        return None;
    }
    // Of all hits of a period so many are the color's as it has requests, if it is as bad as allowed: whatever else went up and down
    // for both.
    let pairs: Vec<(Count, Count)> = match measured.live_when {
        None => own.iter().filter_map(|one| Some((*one, *live.iter().find(|other| other.at == one.at)?))).collect(),
        Some(_) => vec![(whole(own), whole(live))],
    };
    if pairs.is_empty() {
        return None;
    }
    let draws = |ratio: f64| -> Vec<Draws> {
        let draw = |(own, live): &(Count, Count)| {
            let limit = ratio * own.of / (ratio * own.of + live.of);
            Draws { hits: own.hits, misses: live.hits, limit: if limit.is_finite() { limit } else { 1.0 } }
        };
        pairs.iter().map(draw).collect()
    };
    let least = at_least(level, (ratio, ratio * 1000.0), |ratio| evidence(&draws(ratio), measured.dispersion));
    Some(
        least.map(|least| {
            format!("at least {least:.1} times as many {what}, at an error level of {}", shown_level(level))
        }),
    )
}

fn whole(counts: &[Count]) -> Count {
    let (of, hits) = total(counts);
    Count { at: 0, of, hits }
}

fn total(counts: &[Count]) -> (f64, f64) {
    let (of, hits) = counts.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.of, sum.1 + one.hits));
    (of, hits.min(of))
}

/// The share of the requests that a percentile leaves above it.
fn left(percentile: u8) -> f64 {
    1.0 - f64::from(percentile) / 100.0
}

fn shown_least(check: &MetricCheck, least: f64, level: f64) -> String {
    let level = shown_level(level);
    match check.counted() {
        Some(Counted::Slower(percentile)) => format!(
            "at least {:.2} % of the requests took longer, where p{percentile} leaves {:.0} %, at an error level of {level}",
            least * 100.0,
            left(percentile) * 100.0
        ),
        _ => format!("at least {}, at an error level of {level}", check.metric.shown(least)),
    }
}

fn shown_level(level: f64) -> String {
    format!("{:.2} %", level * 100.0)
}

/// How a color's requests vary that are counted like this: each limit of a latency by itself would say the same.
pub fn dispersion(usual: &Sample) -> f64 {
    let periods: Vec<(f64, f64)> = usual.counted(0).iter().map(|one| (one.of, one.hits)).collect();
    statistics::dispersion(&periods)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rollout::check::Inconclusive;
    use crate::rollout::statistics::Chance;

    fn check() -> MetricCheck {
        MetricCheck {
            target_group: None,
            metric: Metric::ErrorRate,
            max: Some(0.01),
            min: None,
            max_ratio_to_live: None,
            significance: None,
            test: MetricTest::Sequential,
            min_requests: Some(100),
            inconclusive: Inconclusive::Fail,
            dry_run: false,
            load_balancer_errors: true,
            period: Duration::from_secs(60),
            window: Duration::from_secs(300),
        }
    }

    fn sample(points: &[f64], requests: f64) -> Sample {
        let value = (!points.is_empty()).then(|| points.iter().sum::<f64>() / points.len() as f64);
        Sample { points: points.to_vec(), value, requests, ..Sample::default() }
    }

    #[track_caller]
    fn judged(check: &MetricCheck, color: Sample, live: Sample, expected: &expect_test::Expect) {
        let limits = limits(check, Some(0.2));
        let measured = Measured {
            color,
            live: Some(live),
            is_complete: true,
            limits,
            percentile: Some(0.2),
            level: 0.005,
            ..Measured::default()
        };
        expected.assert_eq(&format!("{:?}", judge(check, "green", "blue", &measured)));
    }

    /// The live color's percentile is of the same requests that are compared with it, and anew at each look.
    #[test]
    fn two_colors_of_the_same_latency_are_hardly_ever_told_apart() {
        let check = MetricCheck { metric: Metric::Latency(90), max: None, max_ratio_to_live: Some(1.0), ..check() };
        let mut chance = Chance(5);
        let (looks, requests, level) = (20, 50, 0.01);
        let of = |minutes: &[Vec<f64>], over: &[f64]| {
            let counted = |limit: &f64| {
                let hits = |minute: &Vec<f64>| minute.iter().filter(|latency| *latency > limit).count() as f64;
                let each = minutes.iter().enumerate();
                each.map(|(n, one)| Count { at: n as i64, of: one.len() as f64, hits: hits(one) }).collect()
            };
            let points: Vec<f64> = minutes.iter().map(|minute| minute[minute.len() * 9 / 10]).collect();
            let requests = (minutes.len() * requests) as f64;
            Sample {
                value: points.first().copied(),
                points,
                requests,
                counts: over.iter().map(counted).collect(),
                apart: None,
            }
        };
        let mut thrown_back = |slower: f64, rollouts: usize| {
            let one = |_: &usize| {
                let mut minute = |times: f64| {
                    let mut latencies: Vec<f64> = (0..requests).map(|_| times * chance.next()).collect();
                    latencies.sort_by(f64::total_cmp);
                    latencies
                };
                let (mut own, mut live) = (Vec::new(), Vec::new());
                (0..looks).any(|_| {
                    own.push(minute(slower));
                    live.push(minute(1.0));
                    let percentile = percentile(&check, &of(&live, &[]));
                    let limits = limits(&check, percentile);
                    let over: Vec<f64> = limits.iter().map(|limit| limit.seconds()).collect();
                    let measured = Measured {
                        color: of(&own, &over),
                        live: Some(of(&live, percentile.as_slice())),
                        is_complete: true,
                        limits,
                        percentile,
                        level,
                        ..Measured::default()
                    };
                    matches!(judge(&check, "green", "blue", &measured), Verdict::Fail(_))
                })
            };
            (0..rollouts).filter(one).count()
        };
        assert!(thrown_back(1.0, 600) <= 6);
        assert_eq!(thrown_back(1.5, 20), 20);
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

    /// Ten minutes of so many requests, of which these many are counted by each limit.
    fn counted(requests: f64, value: f64, hits: &[f64]) -> Sample {
        let minutes = |hits: &f64| (0..10).map(|n| Count { at: n * 60, of: requests, hits: *hits }).collect();
        let points = vec![value; 10];
        let counts = hits.iter().map(minutes).collect();
        Sample { points, value: Some(value), requests: requests * 10.0, counts, apart: None }
    }

    #[test]
    fn what_was_counted_decides() {
        // Two errors of a hundred requests, where one is allowed, are chance; three times as many as allowed of a thousand are not.
        judged(&check(), counted(10.0, 0.02, &[0.2]), counted(90.0, 0.0, &[0.0]), &expect_test::expect!["Pass"]);
        judged(
            &check(),
            counted(100.0, 0.03, &[3.0]),
            counted(900.0, 0.01, &[9.0]),
            &expect_test::expect![[
                r#"Fail("error_rate of green is 3.00 % over 1000 requests (at least 1.39 %, at an error level of 0.50 %), at most 1.00 % is allowed")"#
            ]],
        );
        let threshold = MetricCheck { test: MetricTest::Threshold, ..check() };
        judged(
            &threshold,
            counted(10.0, 0.02, &[0.2]),
            counted(90.0, 0.0, &[0.0]),
            &expect_test::expect![[
                r#"Fail("error_rate of green is 2.00 % over 100 requests, at most 1.00 % is allowed")"#
            ]],
        );
        let ratio = MetricCheck { max: None, max_ratio_to_live: Some(1.5), ..check() };
        judged(&ratio, counted(100.0, 0.01, &[1.0]), counted(900.0, 0.006, &[5.4]), &expect_test::expect!["Pass"]);
        judged(
            &ratio,
            counted(100.0, 0.05, &[5.0]),
            counted(900.0, 0.005, &[4.5]),
            &expect_test::expect![[
                r#"Fail("error_rate of green is 5.00 % over 1000 requests, blue's is 0.50 %, and at most 1.5 times that is allowed (at least 4.6 times as many errors, at an error level of 0.50 %)")"#
            ]],
        );
        // A live color without a single error.
        judged(
            &ratio,
            counted(100.0, 0.01, &[1.0]),
            counted(900.0, 0.0, &[0.0]),
            &expect_test::expect![[
                r#"Fail("error_rate of green is 1.00 % over 1000 requests, blue's is 0.00 %, and at most 1.5 times that is allowed (at least 9.9 times as many errors, at an error level of 0.50 %)")"#
            ]],
        );
        // The absolute limit says what is allowed then; and minutes without the live color compare nothing.
        let both = MetricCheck { max: Some(0.05), ..ratio.clone() };
        judged(&both, counted(100.0, 0.03, &[3.0]), counted(900.0, 0.0, &[0.0]), &expect_test::expect!["Pass"]);
        let mut gone = counted(900.0, 0.005, &[4.5]);
        gone.counts[0].iter_mut().for_each(|count| count.at += 6000);
        judged(
            &ratio,
            counted(100.0, 0.05, &[5.0]),
            gone,
            &expect_test::expect![[
                r#"Fail("error_rate of green is 5.00 % over 1000 requests, blue's is 0.50 %, and at most 1.5 times that is allowed")"#
            ]],
        );
        assert_eq!((check().tests(), threshold.tests()), (1, 0));
    }

    #[test]
    fn whoever_takes_longer_is_counted() {
        let slow = MetricCheck { metric: Metric::Latency(99), max: Some(0.3), max_ratio_to_live: Some(1.2), ..check() };
        judged(&slow, counted(100.0, 0.31, &[1.2, 1.1]), counted(900.0, 0.2, &[9.0]), &expect_test::expect!["Pass"]);
        judged(
            &slow,
            counted(100.0, 0.4, &[6.0, 9.0]),
            counted(900.0, 0.2, &[9.0]),
            &expect_test::expect![[
                r#"Fail("latency_p99 of green is 400 ms over 1000 requests (at least 3.57 % of the requests took longer, where p99 leaves 1 %, at an error level of 0.50 %), at most 300 ms is allowed")"#
            ]],
        );
        judged(
            &slow,
            counted(100.0, 0.28, &[0.5, 6.0]),
            counted(900.0, 0.2, &[9.0]),
            &expect_test::expect![[
                r#"Fail("latency_p99 of green is 280 ms over 1000 requests, blue's is 200 ms, and at most 1.2 times that is allowed (at least 3.2 times as many requests over 240 ms as of the live color over 200 ms, at an error level of 0.50 %)")"#
            ]],
        );
        let compared = MetricCheck { max: None, max_ratio_to_live: None, significance: Some(0.01), ..slow };
        judged(
            &compared,
            counted(100.0, 0.28, &[6.0]),
            counted(900.0, 0.2, &[9.0]),
            &expect_test::expect![[
                r#"Fail("latency_p99 of green is 280 ms over 1000 requests, blue's is 200 ms: significantly more (at least 3.2 times as many requests over 200 ms as of the live color over 200 ms, at an error level of 0.50 %)")"#
            ]],
        );
        assert_eq!(compared.tests(), 1);
    }

    #[test]
    fn significance_needs_points() {
        let test = MetricTest::Threshold;
        let check = MetricCheck { metric: Metric::Latency(50), max: None, significance: Some(0.01), test, ..check() };
        let slow = sample(&[0.21, 0.22, 0.23, 0.24, 0.25, 0.26], 600.0);
        let quick = sample(&[0.11, 0.12, 0.13, 0.14, 0.15, 0.16], 600.0);
        judged(
            &check,
            slow.clone(),
            quick.clone(),
            &expect_test::expect![[
                r#"Fail("latency_p50 of green is 235 ms over 600 requests, blue's is 135 ms: significantly more (Mann-Whitney over 6 and 6 points, p = 0.0011 < 0.0100)")"#
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
