//! Alarms and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{AlarmType, Dimension, MetricAlarm, MetricDataQuery, MetricStat, ScanBy};

use super::connection::Connection;
use super::error::call_error;
use crate::rollout::gate::AlarmState;
use crate::rollout::metrics::{Count, Sample};
use crate::rollout::{Metric, MetricCheck, MetricSource, fill};
use crate::run::ports::PortError;
use crate::run::rollout::ports::{MetricOf, Monitoring};

/// Where load balancers publish.
const APPLICATION: &str = "AWS/ApplicationELB";
const NETWORK: &str = "AWS/NetworkELB";
/// The id of what is asked for.
const ANSWER: &str = "answer";
/// DescribeAlarms takes at most a hundred names.
const NAMES_PER_CALL: usize = 100;

pub(super) struct CloudWatch {
    connection: Arc<Connection>,
}

impl CloudWatch {
    pub(super) fn new(connection: Arc<Connection>) -> CloudWatch {
        CloudWatch { connection }
    }
}

/// How long something has to last for an alarm to go off: its period, or the longest of its metrics', times the datapoints that have
/// to be beyond the threshold.
fn least_of(alarm: &MetricAlarm) -> Option<Duration> {
    let of_metric = |query: &MetricDataQuery| query.period().or_else(|| query.metric_stat()?.period());
    let period = alarm.period().or_else(|| alarm.metrics().iter().filter_map(of_metric).max())?;
    let count = alarm.datapoints_to_alarm().or(alarm.evaluation_periods())?;
    Some(Duration::from_secs(u64::try_from(period).ok()? * u64::try_from(count).ok()?))
}

#[async_trait]
impl Monitoring for CloudWatch {
    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, PortError> {
        let mut states: BTreeMap<String, AlarmState> = BTreeMap::new();
        for names in names.chunks(NAMES_PER_CALL) {
            let call = self.connection.cloudwatch().await?.describe_alarms().set_alarm_names(Some(names.to_vec()));
            let call = call.alarm_types(AlarmType::MetricAlarm).alarm_types(AlarmType::CompositeAlarm);
            let call = call.max_records(i32::try_from(NAMES_PER_CALL).unwrap_or(i32::MAX));
            let answer = call.send().await.map_err(|error| call_error("cloudwatch", "DescribeAlarms", &error))?;
            let metric = answer.metric_alarms().iter();
            let metric = metric.map(|one| (one.alarm_name(), one.state_value(), one.state_reason(), least_of(one)));
            let composite = answer.composite_alarms().iter();
            let composite = composite.map(|one| (one.alarm_name(), one.state_value(), one.state_reason(), None));
            for (name, state, reason, least) in metric.chain(composite) {
                let name = name.unwrap_or_default().to_owned();
                let state = Some(state.map(|state| state.as_str().to_owned()).unwrap_or_default());
                states.insert(name.clone(), AlarmState { name, state, reason: reason.map(str::to_owned), least });
            }
        }
        let missing = |name: &String| AlarmState { name: name.clone(), state: None, reason: None, least: None };
        Ok(names.iter().map(|name| states.get(name).cloned().unwrap_or_else(|| missing(name))).collect())
    }

    async fn sample(
        &self,
        check: &MetricCheck,
        of: MetricOf<'_>,
        (from, to): (SystemTime, SystemTime),
    ) -> Result<Sample, PortError> {
        let whole = to.duration_since(from).unwrap_or_default().as_secs();
        let period = check.period.as_secs().max(1);
        // Points by period, and, since percentiles don't add up, the whole window as one point.
        let read = self.read(check, &of, period, (from, to)).await?;
        let requests = read.sum("requests");
        if check.metric == Metric::ErrorRate {
            let apart = read.error_rate(false);
            return Ok(match check.load_balancer_errors {
                true => Sample { apart: Some(Box::new(apart)), ..read.error_rate(true) },
                false => apart,
            });
        }
        let points = read.points(if check.metric == Metric::Requests { "requests" } else { ANSWER });
        let value = match check.metric {
            Metric::Latency(_) if is_period(whole) => {
                let of = MetricOf { over: &[], ..of.clone() };
                self.read(check, &of, whole, (from, to)).await?.points(ANSWER).last().copied()
            }
            // The worst of them, of both colors alike.
            Metric::Latency(_) => points.iter().copied().reduce(f64::max),
            Metric::Requests => Some(requests),
            Metric::Query(_) | Metric::ErrorRate => mean(&points),
        };
        let counts = (0..of.over.len()).map(|n| read.counts(ANSWERED, |time| read.at(&over(n), time))).collect();
        Ok(Sample { points, value, requests, counts, apart: None })
    }
}

/// The requests that the color's targets answered.
const ANSWERED: &str = "answered";

/// Those that took longer than the limit of that place.
fn over(place: usize) -> String {
    format!("over_{place}")
}

/// Requests that came to nothing at the color's own targets, and that the load balancer answered for them: connections that were
/// refused, and functions that failed, by their own fault or by Lambda's ("CloudWatch metrics for your Application Load Balancer").
const UNANSWERED: [(&str, &str); 3] = [
    ("refused", "TargetConnectionErrorCount"),
    ("function_failed", "LambdaUserError"),
    ("function_unavailable", "LambdaInternalError"),
];

/// Whether CloudWatch knows points of this length.
fn is_period(seconds: u64) -> bool {
    matches!(seconds, 1 | 5 | 10 | 20 | 30) || (seconds > 0 && seconds.is_multiple_of(60))
}

/// What GetMetricData said: points by id, by time.
#[derive(Debug, Default)]
struct Read(BTreeMap<String, BTreeMap<i64, f64>>);

impl Read {
    fn points(&self, id: &str) -> Vec<f64> {
        self.0.get(id).into_iter().flat_map(|points| points.values().copied()).collect()
    }

    fn sum(&self, id: &str) -> f64 {
        // The sum of no numbers is -0.
        self.points(id).iter().sum::<f64>() + 0.0
    }

    /// For each period with some of these how many there were, and how many of them count.
    fn counts(&self, id: &str, hits: impl Fn(i64) -> f64) -> Vec<Count> {
        let periods = self.0.get(id).into_iter().flatten();
        periods.map(|(at, of)| Count { at: *at, of: *of, hits: hits(*at).min(*of) }).collect()
    }

    fn at(&self, id: &str, time: i64) -> f64 {
        self.0.get(id).and_then(|points| points.get(&time)).copied().unwrap_or_default()
    }

    /// Without a request there is no rate; without an error it is 0, which CloudWatch does not publish. What the load
    /// balancer answered itself may have been counted as a request of the group, or not; what came to nothing at the targets is
    /// among that.
    fn error_rate(&self, with_load_balancer: bool) -> Sample {
        let unanswered = |refused: f64, by_balancer: f64| {
            if with_load_balancer { refused.max(by_balancer) } else { refused }
        };
        let own = |of: &dyn Fn(&str) -> f64| UNANSWERED.iter().map(|(id, _)| of(id)).sum::<f64>() + 0.0;
        let whole = unanswered(own(&|id| self.sum(id)), self.sum("elb_5xx"));
        let requests = self.sum("requests").max(whole);
        let value = (requests > 0.0).then(|| ((self.sum("errors_5xx") + whole) / requests).min(1.0));
        // A minute in which nothing was answered by a target has no request, and is the worst of all.
        let of_balancer = with_load_balancer.then_some("elb_5xx");
        let ids = ["requests", "errors_5xx"].into_iter().chain(UNANSWERED.map(|(id, _)| id)).chain(of_balancer);
        let times: BTreeSet<i64> =
            ids.filter_map(|id| self.0.get(id)).flat_map(|points| points.keys().copied()).collect();
        let count = |time: i64| {
            let unanswered = unanswered(own(&|id| self.at(id, time)), self.at("elb_5xx", time));
            let of = self.at("requests", time).max(unanswered).max(1.0);
            Count { at: time, of, hits: (self.at("errors_5xx", time) + unanswered).min(of) }
        };
        let counts: Vec<Count> = times.into_iter().map(count).collect();
        let points = counts.iter().map(|count| count.hits / count.of).collect();
        Sample { points, value, requests, counts: vec![counts], apart: None }
    }
}

fn mean(points: &[f64]) -> Option<f64> {
    (!points.is_empty()).then(|| points.iter().sum::<f64>() / points.len() as f64)
}

impl CloudWatch {
    async fn read(
        &self,
        check: &MetricCheck,
        of: &MetricOf<'_>,
        period: u64,
        (from, to): (SystemTime, SystemTime),
    ) -> Result<Read, PortError> {
        let queries = queries(check, of, i32::try_from(period).unwrap_or(i32::MAX));
        let call = self.connection.cloudwatch().await?.get_metric_data().set_metric_data_queries(Some(queries));
        let call = call.start_time(DateTime::from(from)).end_time(DateTime::from(to));
        let pages = call.scan_by(ScanBy::TimestampAscending).into_paginator().send().collect::<Result<Vec<_>, _>>();
        let pages = pages.await.map_err(|error| call_error("cloudwatch", "GetMetricData", &error))?;
        let mut read = Read::default();
        for result in pages.iter().flat_map(|page| page.metric_data_results()) {
            let points = read.0.entry(result.id().unwrap_or_default().to_owned()).or_default();
            points.extend(result.timestamps().iter().map(|at| at.secs()).zip(result.values().iter().copied()));
        }
        Ok(read)
    }
}

/// What is asked for: the group's own numbers, and the answer that is made of them.
fn queries(check: &MetricCheck, of: &MetricOf<'_>, period: i32) -> Vec<MetricDataQuery> {
    let namespace = if of.load_balancer.starts_with("net/") { NETWORK } else { APPLICATION };
    let dimensions = |own: bool| {
        let balancer = ("LoadBalancer".to_owned(), of.load_balancer.to_owned());
        let group = own.then(|| ("TargetGroup".to_owned(), of.group.to_owned()));
        BTreeMap::from_iter(std::iter::once(balancer).chain(group))
    };
    let source = |name: &str, stat: &str, own: bool| MetricSource {
        namespace: namespace.to_owned(),
        metric_name: name.to_owned(),
        dimensions: dimensions(own),
        stat: stat.to_owned(),
    };
    let mut sources = vec![("requests", source("RequestCount", "Sum", true))];
    let errors = || ("errors_5xx", source("HTTPCode_Target_5XX_Count", "Sum", true));
    let elb = || ("elb_5xx", source("HTTPCode_ELB_5XX_Count", "Sum", false));
    let mut counted = Vec::new();
    let mut own = Vec::new();
    let mut filled = Vec::new();
    let mut expression = None;
    match &check.metric {
        Metric::Latency(percentile) => {
            sources.push((ANSWER, source("TargetResponseTime", &format!("p{percentile}"), true)));
            counted = longer(of.over, |stat| source("TargetResponseTime", stat, true));
        }
        Metric::Query(query) => {
            // Only what the expression uses: an error that never was is no point, and 0 to metric math.
            let uses = |id: &str| query.expression.contains(id);
            let counts = [
                ("errors_5xx", "HTTPCode_Target_5XX_Count", true),
                ("errors_4xx", "HTTPCode_Target_4XX_Count", true),
                ("connection_errors", "TargetConnectionErrorCount", true),
                ("elb_5xx", "HTTPCode_ELB_5XX_Count", false),
            ];
            for (id, name, own) in counts.into_iter().filter(|(id, _, _)| uses(id)) {
                filled.push((id, source(name, "Sum", own)));
            }
            if uses("response_time") {
                sources.push(("response_time", source("TargetResponseTime", "Average", true)));
            }
            if check.least_requests() == 0 && !uses("requests") {
                sources.clear();
            }
            own.extend(query.metrics.iter());
            expression = Some(query.expression.as_str());
        }
        Metric::ErrorRate => {
            sources.push(errors());
            sources.extend(UNANSWERED.map(|(id, name)| (id, source(name, "Sum", true))));
            sources.extend(check.load_balancer_errors.then(elb));
        }
        Metric::Requests => {}
    }
    let mut queries: Vec<MetricDataQuery> = sources.iter().map(|(id, source)| query(id, source, of, period)).collect();
    queries.extend(counted.iter().map(|(id, source)| query(id, source, of, period)));
    queries.extend(own.into_iter().map(|(id, source)| query(id, source, of, period)));
    for (id, source) in &filled {
        let raw = format!("raw_{id}");
        queries.push(query(&raw, source, of, period));
        let zero = format!("FILL({raw}, 0)");
        queries.push(MetricDataQuery::builder().id(*id).expression(zero).build());
    }
    queries.extend(
        expression
            .map(|expression| MetricDataQuery::builder().id(ANSWER).expression(fill(expression, of.color)).build()),
    );
    queries
}

/// How many requests took longer than each of these times, and how many there were.
fn longer(limits: &[f64], source: impl Fn(&str) -> MetricSource) -> Vec<(String, MetricSource)> {
    // "CloudWatch statistics definitions": a trimmed count is of what is above its lower bound.
    let count = |seconds: f64| source(&format!("TC({seconds:.6}:)"));
    let all = (!limits.is_empty()).then(|| (ANSWERED.to_owned(), count(0.0)));
    all.into_iter().chain(limits.iter().enumerate().map(|(n, seconds)| (over(n), count(*seconds)))).collect()
}

fn query(id: &str, source: &MetricSource, of: &MetricOf<'_>, period: i32) -> MetricDataQuery {
    use aws_sdk_cloudwatch::types::Metric as Named;

    let filled = |value: &str| {
        let value = fill(value, of.color).replace("{target_group}", of.group);
        value.replace("{load_balancer}", of.load_balancer)
    };
    let dimension = |(name, value): (&String, &String)| Dimension::builder().name(name).value(filled(value)).build();
    let metric = Named::builder()
        .namespace(&source.namespace)
        .metric_name(&source.metric_name)
        .set_dimensions(Some(source.dimensions.iter().map(dimension).collect()))
        .build();
    let stat = MetricStat::builder().metric(metric).period(period).stat(&source.stat).build();
    MetricDataQuery::builder().id(id).metric_stat(stat).return_data(true).build()
}
