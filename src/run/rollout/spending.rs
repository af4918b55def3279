//! What a rollout has cost so far, as CloudWatch has it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures::future::try_join_all;

use crate::clock::floor;
use crate::rollout::spending::{Spent, allowed, measured};
use crate::rollout::{BudgetCheck, MetricCheck, Source};
use crate::run::ports::PortError;
use crate::run::rollout::ports::{MetricOf, Monitoring};

/// The requests of a color, and those that failed, in each whole period that has anything of that time.
///
/// # Errors
/// What could not be read.
pub(super) async fn spent(
    monitoring: &dyn Monitoring,
    check: &BudgetCheck,
    color: &str,
    (from, to): (SystemTime, SystemTime),
) -> Result<Spent, PortError> {
    let metric = measured(check.budget.period);
    let end = floor(to, metric.period);
    let end = if end < to { end + metric.period } else { end };
    counted(monitoring, &metric, (color, &check.own), (floor(from, metric.period), end)).await
}

/// What the time before a rollout that began then says of its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Before {
    /// The requests to all colors, and those that failed; nothing where the budget is a number of its own.
    pub spent: Spent,
    /// How many requests may fail; none where CloudWatch has no requests.
    pub left: Option<f64>,
}

/// How many failed requests a rollout that began then may cost.
///
/// # Errors
/// What could not be read.
pub async fn left(
    monitoring: &dyn Monitoring,
    check: &BudgetCheck,
    color: &str,
    began: SystemTime,
) -> Result<Before, PortError> {
    let budget = &check.budget;
    let Some(of) = budget.of else {
        return Ok(Before { left: allowed(budget, None), ..Before::default() });
    };
    let (hour, minute) = (floor(began, HOUR), floor(began, MINUTE));
    let before = counted(monitoring, &measured(HOUR), (color, &check.all), (hour - of.time(), hour)).await?;
    // The hour that is not over yet counts, too: it may hold what was spent last.
    let since = counted(monitoring, &measured(MINUTE), (color, &check.all), (hour, minute)).await?;
    let spent = Spent { requests: before.requests + since.requests, failed: before.failed + since.failed };
    Ok(Before { spent, left: allowed(budget, Some(spent).filter(|spent| spent.requests > 0.0)) })
}

/// The requests of an hour to all colors before that time.
///
/// # Errors
/// What could not be read.
pub async fn an_hour(
    monitoring: &dyn Monitoring,
    check: &BudgetCheck,
    color: &str,
    until: SystemTime,
) -> Result<Spent, PortError> {
    let metric = measured(MINUTE);
    let end = floor(until - metric.lag(), MINUTE);
    counted(monitoring, &metric, (color, &check.all), (end - HOUR, end)).await
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

async fn counted(
    monitoring: &dyn Monitoring,
    metric: &MetricCheck,
    (color, sources): (&str, &BTreeSet<Source>),
    time: (SystemTime, SystemTime),
) -> Result<Spent, PortError> {
    // CloudWatch refuses a time that is none.
    if time.0 >= time.1 {
        return Ok(Spent::default());
    }
    let of = |source: &Source| {
        let Source { group, load_balancer } = source.clone();
        async move {
            let of = MetricOf { color, group: &group, load_balancer: &load_balancer, over: &[] };
            monitoring.sample(metric, of, time).await
        }
    };
    let samples = try_join_all(sources.iter().map(of)).await?;
    let requests = samples.iter().map(|sample| sample.requests).sum();
    Ok(Spent { requests, failed: samples.iter().map(|sample| sample.failed()).sum() })
}
