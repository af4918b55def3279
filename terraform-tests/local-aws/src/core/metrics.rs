//! What the load balancers publish: one point for each second in which there were requests, as CloudWatch would tell them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use serde_json::Value;

use crate::core::aws_call::AwsCall;
use crate::core::clock;

const NAMESPACE: &str = "AWS/ApplicationELB";

/// All that was counted, by what it is of: the load balancer's dimension, and a group's.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<HashMap<(String, String), BTreeMap<u64, Second>>>);

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
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let second = counted.entry(of).or_default().entry(now).or_default();
        second.statuses.push(status);
        second.latencies.push(latency.as_secs_f64());
    }

    /// The answer to a call that asks for nothing but load balancers' metrics; `None`: moto knows.
    pub(crate) fn answer(&self, call: &AwsCall) -> Option<Response<Bytes>> {
        let queries = queries(&call.parameters)?;
        let time = |name: &str| call.parameter(name).and_then(clock::parse);
        let (from, to) = (time("StartTime")?, time("EndTime")?);
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for query in &queries {
            let points = counted.get(&query.of).map(|seconds| query.points(seconds, from, to)).unwrap_or_default();
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

impl Query {
    /// A point for each period from one time, included, to another, excluded. What was never seen has none.
    fn points(&self, seconds: &BTreeMap<u64, Second>, from: u64, to: u64) -> BTreeMap<u64, f64> {
        let mut periods: BTreeMap<u64, Second> = BTreeMap::new();
        let length = self.period.max(1);
        for (at, second) in seconds.range(from..to) {
            let period = periods.entry(from + (at - from) / length * length).or_default();
            period.statuses.extend(&second.statuses);
            period.latencies.extend(&second.latencies);
        }
        periods.into_iter().filter_map(|(at, period)| Some((at, self.value(&period)?))).collect()
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
