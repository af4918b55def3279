//! What the metrics of a rollout will be able to see, by the traffic of the last hour.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::Shared;
use crate::clock;
use crate::duration::shown;
use crate::rollout::metrics::{self, Sample};
use crate::rollout::statistics::draws_to_tell;
use crate::rollout::{Check, Checking, Counted, Metric, MetricCheck, Runbook, Step, Subject, Watch};
use crate::run::rollout::ports::MetricOf;
use crate::tf_provider::{Diagnostics, Path};

/// How far back traffic is asked for.
const HOUR: Duration = Duration::from_secs(3600);
/// As load balancers publish.
const MINUTE: Duration = Duration::from_secs(60);
/// How much worse a color is that every gate should see.
const MUCH_WORSE: f64 = 5.0;

/// Tells in which steps a metric could not even see a color that is much worse than its limit. What can't be read is left out, and so is
/// what gets no traffic.
pub(super) async fn tell(shared: &Shared, runbook: &Runbook, diagnostics: &mut Diagnostics) {
    let mut watched: BTreeMap<(String, &str), Vec<(&Watch, &Checking)>> = BTreeMap::new();
    for (_, step) in runbook.steps() {
        let Step::Watch(watch) = step else { continue };
        for checking in watch.checks.iter().filter(|one| matches!(&one.check, Check::Metric(_))) {
            watched.entry((checking.place(), &checking.subject.group)).or_default().push((watch, checking));
        }
    }
    let mut known: BTreeMap<(String, String), Sample> = BTreeMap::new();
    for ((place, _), watches) in watched {
        let Some((_, Checking { check: Check::Metric(check), subject, index, .. })) = watches.first() else { continue };
        let Some(limit) = share_allowed(check) else { continue };
        let Some(usual) = usual(shared, (check, subject), &mut known).await else { continue };
        let Some(limit) = limit.or_else(|| Some(check.max_ratio_to_live? * usual.value?)).filter(|limit| *limit > 0.0)
        else {
            continue;
        };
        let (level, dispersion) = (runbook.level_of_a_test(), metrics::dispersion(&usual));
        let Some(of_chance) = draws_to_tell(limit, (MUCH_WORSE * limit).min(0.95), level, dispersion) else { continue };
        let needed = of_chance.max(check.least_requests() as f64);
        let color = subject.shown();
        let blind: Vec<String> =
            watches.iter().filter_map(|(watch, _)| blind(watch, check, (usual.requests, needed))).collect();
        if blind.is_empty() {
            continue;
        }
        let detail = format!(
            "{place}: at {:.0} requests a minute, as in the last hour, {color} gets {}. It takes about {needed:.0} until {MUCH_WORSE} times as many as allowed are told from chance: what is worse than its limit may pass there. Hold longer, give the step more weight, or add http checks or alarms.",
            usual.requests / 60.0,
            blind.join(", and ")
        );
        let path = Path::attribute("verification").attr("metrics");
        let path = index.map_or(path.clone(), |index| path.index(index));
        diagnostics.warning_at(path, "Too few requests for the metric to see anything", detail);
    }
}

/// A step in which fewer requests come than are needed, in words. A cohort's are not known.
fn blind(watch: &Watch, check: &MetricCheck, (an_hour, needed): (f64, f64)) -> Option<String> {
    let share = watch.percent / 100.0;
    // Whole periods are judged: of a hold one less on average.
    let time = watch.hold.saturating_sub(check.period);
    let comes = an_hour * share * time.as_secs_f64() / 3600.0;
    // Of two colors the one with less says how much is known.
    let counts = if check.max.is_none() && share < 1.0 { comes * (1.0 - share) } else { comes };
    let is_blind = !watch.of_cohort && an_hour > 0.0 && counts < needed;
    is_blind.then(|| format!("{comes:.0} of them at {} % for {}", watch.percent, shown(watch.hold)))
}

/// The share of requests that may fail or be slow, where that is told by the check alone; none of it is judged by evidence: nothing.
fn share_allowed(check: &MetricCheck) -> Option<Option<f64>> {
    match check.counted()? {
        Counted::Failed => Some(check.max),
        Counted::Slower(percentile) => Some(Some(1.0 - f64::from(percentile) / 100.0)),
    }
}

/// The error rate and the requests of the live color in the last hour.
async fn usual(
    shared: &Shared,
    (check, subject): (&MetricCheck, &Subject),
    known: &mut BTreeMap<(String, String), Sample>,
) -> Option<Sample> {
    let group = Subject::group_dimension(subject.live_group.as_deref()?)?;
    let load_balancer = subject.load_balancer_dimension()?;
    let key = (group.to_owned(), load_balancer.clone());
    if let Some(sample) = known.get(&key) {
        return Some(sample.clone());
    }
    let color = subject.live_name();
    let of = MetricOf { color: &color, group, load_balancer: &load_balancer, over: &[] };
    let period = check.period.max(MINUTE);
    let check = MetricCheck { metric: Metric::ErrorRate, load_balancer_errors: false, period, ..check.clone() };
    let to = minute(clock::wall() - check.lag());
    match shared.ports.monitoring.sample(&check, of, (to - HOUR, to)).await {
        Ok(sample) => {
            known.insert(key, sample.clone());
            Some(sample)
        }
        Err(error) => {
            tracing::warn!(%error, "the traffic of the last hour can't be read");
            None
        }
    }
}

/// The minute that this is in.
fn minute(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds / 60 * 60)
}
