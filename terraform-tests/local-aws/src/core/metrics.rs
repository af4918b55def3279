//! What the load balancers publish: one point for each period in which there were requests, as CloudWatch would tell them: the
//! last ones are not there yet, or not with all that belongs to them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use serde_json::Value;

use crate::core::aws_call::AwsCall;
use crate::core::clock;

const NAMESPACE: &str = "AWS/ApplicationELB";

/// All that was counted, by what it is of: the load balancer's dimension, and a group's.
#[derive(Debug)]
pub(crate) struct Metrics {
    counted: Mutex<HashMap<(String, String), BTreeMap<u64, Second>>>,
    /// The shortest period that was asked for, in seconds.
    grain: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { counted: Mutex::default(), grain: AtomicU64::new(u64::MAX) }
    }
}

#[derive(Clone, Debug, Default)]
struct Second {
    statuses: Vec<u16>,
    /// In seconds.
    latencies: Vec<f64>,
}

/// One query of a GetMetricData, as far as it is answered here.
#[derive(Debug)]
struct Query {
    id: String,
    metric: String,
    of: (String, String),
    period: u64,
    stat: String,
}

fn dimension(arn: &str) -> String {
    let resource = arn.splitn(6, ':').nth(5).unwrap_or(arn);
    resource.trim_start_matches("loadbalancer/").to_owned()
}

impl Metrics {
    /// Counts an answer: a group's, or without one the load balancer's own.
    pub(crate) fn note(&self, load_balancer: &str, group: Option<&str>, status: u16, latency: Duration) {
        let of = (dimension(load_balancer), group.map(dimension).unwrap_or_default());
        let now = clock::epoch_seconds() as u64;
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let second = counted.entry(of).or_default().entry(now).or_default();
        second.statuses.push(status);
        second.latencies.push(latency.as_secs_f64());
    }

    /// The answer to a call that asks for nothing but load balancers' metrics; `None`: moto knows. With a seed what is asked for
    /// arrives late.
    pub(crate) fn answer(&self, call: &AwsCall, late: Option<u64>) -> Option<Response<Bytes>> {
        let queries = queries(&call.parameters)?;
        // However long a period is that is asked for, it comes in the grains in which it is published: the shortest one that
        // anybody asked for.
        let asked = queries.iter().map(|query| query.period).min().unwrap_or_default().max(1);
        let grain = self.grain.fetch_min(asked, Ordering::Relaxed).min(asked);
        let arrival = Arrival { now: clock::epoch_seconds(), late, grain };
        let time = |name: &str| call.parameter(name).and_then(clock::parse);
        let (from, to) = (time("StartTime")?, time("EndTime")?);
        if from >= to {
            return Some(
                call.refuse("ValidationError", "The parameter StartTime must be less than the parameter EndTime."),
            );
        }
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for query in &queries {
            let points =
                counted.get(&query.of).map(|seconds| query.points(seconds, (from, to), arrival)).unwrap_or_default();
            let times: String =
                points.keys().map(|at| format!("<member>{}</member>", clock::rfc3339(*at as f64))).collect();
            let values: String = points.values().map(|value| format!("<member>{value}</member>")).collect();
            let _ = write!(
                text,
                "<member><Id>{id}</Id><Label>{metric}</Label><StatusCode>Complete</StatusCode>\
                 <Timestamps>{times}</Timestamps><Values>{values}</Values></member>",
                id = query.id,
                metric = query.metric
            );
        }
        let body = format!(
            "<GetMetricDataResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"><GetMetricDataResult>\
             <MetricDataResults>{text}</MetricDataResults></GetMetricDataResult><ResponseMetadata><RequestId>local</RequestId>\
             </ResponseMetadata></GetMetricDataResponse>"
        );
        Some(Response::new(Bytes::from(body)))
    }
}

/// The queries of the form; `None` if one of them is not of a load balancer.
fn queries(parameters: &Value) -> Option<Vec<Query>> {
    let field = |name: &str| parameters.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut queries = Vec::new();
    for n in 1.. {
        let prefix = format!("MetricDataQueries.member.{n}");
        let Some(id) = field(&format!("{prefix}.Id")) else { break };
        let stat = format!("{prefix}.MetricStat");
        if field(&format!("{stat}.Metric.Namespace")).as_deref() != Some(NAMESPACE) {
            return None;
        }
        let mut of = (String::new(), String::new());
        for d in 1..=10 {
            let name = field(&format!("{stat}.Metric.Dimensions.member.{d}.Name"));
            let value = field(&format!("{stat}.Metric.Dimensions.member.{d}.Value")).unwrap_or_default();
            match name.as_deref() {
                Some("LoadBalancer") => of.0 = value,
                Some("TargetGroup") => of.1 = value,
                _ => {}
            }
        }
        queries.push(Query {
            id,
            metric: field(&format!("{stat}.Metric.MetricName"))?,
            of,
            period: field(&format!("{stat}.Period"))?.parse().ok()?,
            stat: field(&format!("{stat}.Stat"))?,
        });
    }
    Some(queries)
}

/// How late it is, and whether anything comes late.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    now: f64,
    late: Option<u64>,
    /// How long a period is that is published, in seconds.
    grain: u64,
}

impl Arrival {
    /// How much of a published period that ends then is there: nothing, half, or all of it. AWS's load balancers publish a minute one to
    /// three minutes after it began: up to two periods after its end; and errors in half the time.
    fn share(self, query: &Query, end: u64) -> f64 {
        let Some(seed) = self.late else { return 1.0 };
        let mut hasher = DefaultHasher::new();
        (seed, &query.of, end).hash(&mut hasher);
        let lateness = fastrand::Rng::with_seed(hasher.finish()).f64() * 2.0 * self.grain as f64;
        let lateness = if query.is_of_errors() { lateness / 2.0 } else { lateness };
        let age = self.now - end as f64;
        if age >= lateness {
            1.0
        } else if age >= lateness / 2.0 {
            0.5
        } else {
            0.0
        }
    }
}

impl Query {
    /// A point for each period from one time, included, to another, excluded. What was never seen has none.
    fn points(&self, seconds: &BTreeMap<u64, Second>, (from, to): (u64, u64), arrival: Arrival) -> BTreeMap<u64, f64> {
        let arrived = |(at, mut period): (u64, Second)| {
            let share = arrival.share(self, at + arrival.grain);
            let count = |all: usize| (all as f64 * share) as usize;
            // Errors are there at once when they are there; of requests a part is counted before the rest.
            if !self.is_of_errors() {
                period.statuses.truncate(count(period.statuses.len()));
                period.latencies.truncate(count(period.latencies.len()));
            }
            (share > 0.0 && !period.statuses.is_empty()).then_some((at, period))
        };
        let counted = seconds.range(from..to).map(|(at, second)| (*at, second.clone()));
        let published = grouped(counted, from, arrival.grain);
        let periods = grouped(published.into_iter().filter_map(arrived), from, self.period.max(1));
        periods.into_iter().filter_map(|(at, period)| Some((at, self.value(&period)?))).collect()
    }

    fn is_of_errors(&self) -> bool {
        self.metric.ends_with("5XX_Count")
    }

    fn value(&self, period: &Second) -> Option<f64> {
        let count = |range: std::ops::Range<u16>| {
            let count = period.statuses.iter().filter(|status| range.contains(status)).count();
            // As the real one, which publishes errors only when there are some.
            (count > 0).then_some(count as f64)
        };
        match self.metric.as_str() {
            "RequestCount" => count(0..1000),
            "HTTPCode_Target_5XX_Count" | "HTTPCode_ELB_5XX_Count" => count(500..600),
            "HTTPCode_Target_4XX_Count" => count(400..500),
            "TargetResponseTime" => {
                let mut sorted = period.latencies.clone();
                sorted.sort_by(f64::total_cmp);
                if let Some(bound) = self.stat.strip_prefix("TC(").and_then(|text| text.strip_suffix(":)")) {
                    let bound: f64 = bound.parse().ok()?;
                    let count = sorted.iter().filter(|latency| **latency > bound).count();
                    return (count > 0).then_some(count as f64);
                }
                let percentile = self.stat.strip_prefix('p').and_then(|text| text.parse::<f64>().ok());
                match percentile {
                    Some(percentile) => {
                        let place = ((sorted.len() as f64) * percentile / 100.0).ceil() as usize;
                        sorted.get(place.saturating_sub(1)).copied()
                    }
                    None => Some(sorted.iter().sum::<f64>() / sorted.len() as f64),
                }
            }
            _ => None,
        }
    }
}

/// What was counted, by periods of a length in seconds, the first of which begins then.
fn grouped(counted: impl Iterator<Item = (u64, Second)>, from: u64, length: u64) -> BTreeMap<u64, Second> {
    let mut periods: BTreeMap<u64, Second> = BTreeMap::new();
    for (at, second) in counted {
        let period = periods.entry(from + (at - from) / length * length).or_default();
        period.statuses.extend(second.statuses);
        period.latencies.extend(second.latencies);
    }
    periods
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(metric: &str) -> Query {
        let of = ("app/web/1".to_owned(), "targetgroup/green/1".to_owned());
        Query { id: "a".to_owned(), metric: metric.to_owned(), of, period: 60, stat: "Sum".to_owned() }
    }

    /// A hundred requests in each of ten minutes, of which ten failed.
    fn minutes() -> BTreeMap<u64, Second> {
        let statuses: Vec<u16> = (0..100).map(|n| if n < 10 { 503 } else { 200 }).collect();
        let second = Second { statuses, latencies: vec![0.01; 100] };
        (0..10).map(|minute| (minute * 60 + 30, second.clone())).collect()
    }

    #[test]
    fn minutes_arrive_up_to_two_minutes_after_their_end_and_errors_first() {
        let of =
            |metric: &str, now: f64, late| query(metric).points(&minutes(), (0, 600), Arrival { now, late, grain: 60 });
        let (mut halves, mut ahead) = (0, 0);
        for seed in 0..50 {
            for now in 600..=720 {
                let requests = of("RequestCount", f64::from(now), Some(seed));
                let errors = of("HTTPCode_Target_5XX_Count", f64::from(now), Some(seed));
                assert!((0..8).all(|minute| requests[&(minute * 60)] > 99.0), "two minutes after its end all is there");
                halves += requests.values().filter(|value| **value < 99.0).count();
                ahead += errors.keys().filter(|at| !requests.contains_key(at)).count();
                assert!(requests.keys().all(|at| errors.contains_key(at)), "no error comes after its request");
            }
        }
        assert!(halves > 100 && ahead > 100, "{halves} {ahead}");
        assert_eq!(of("RequestCount", 720.0, Some(7)).len(), 10);
        assert_eq!(of("RequestCount", 600.0, None).len(), 10);
        // Ten minutes as one period are those minutes of them that are there.
        let whole = Query { period: 600, ..query("RequestCount") };
        let some = whole.points(&minutes(), (0, 600), Arrival { now: 600.0, late: Some(7), grain: 60 });
        assert!((800.0..1000.0).contains(&some[&0]), "{some:?}");
    }
}
