//! What the metrics of a rollout will be able to see, by the traffic of the last hour.

use std::collections::BTreeMap;
use std::time::Duration;

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
/// How much worse a color is of which it is told when it is seen.
const TWICE: f64 = 2.0;
/// How much worse a color is that every gate should see.
const MUCH_WORSE: f64 = 5.0;

/// Tells after how long the metrics of a rollout see a color that is worse than its limit, and warns of steps in which they could not even
/// see one that is much worse. What can't be read is left out, and so is what gets no traffic.
pub(super) async fn tell(shared: &Shared, runbook: &Runbook, diagnostics: &mut Diagnostics) {
    let mut watched: BTreeMap<(String, &str), Vec<(&Watch, &Checking)>> = BTreeMap::new();
    for (_, step) in runbook.steps() {
        let Step::Watch(watch) = step else { continue };
        for checking in watch.checks.iter().filter(|one| matches!(&one.check, Check::Metric(_))) {
            watched.entry((checking.place(), &checking.subject.group)).or_default().push((watch, checking));
        }
    }
    let mut known: BTreeMap<(String, String), Sample> = BTreeMap::new();
    let mut sees: Vec<String> = Vec::new();
    for ((place, _), watches) in watched {
        let Some((_, Checking { check: Check::Metric(check), subject, index, .. })) = watches.first() else { continue };
        let Some(limit) = share_allowed(check) else { continue };
        let Some(usual) = usual(shared, (check, subject), &mut known).await else { continue };
        let Some(limit) = limit.or_else(|| Some(check.max_ratio_to_live? * usual.value?)).filter(|limit| *limit > 0.0)
        else {
            continue;
        };
        let (level, dispersion) = (runbook.level_of_a_test(), metrics::dispersion(&usual));
        let needed = |times: f64| {
            let of_chance = draws_to_tell(limit, (times * limit).min(0.95), level, dispersion)?;
            Some(of_chance.max(check.least_requests() as f64))
        };
        let (Some(twice), Some(much)) = (needed(TWICE), needed(MUCH_WORSE)) else { continue };
        let gate = Gate { check, place, color: subject.shown(), an_hour: usual.requests, twice, much };
        let blind: Vec<String> = watches.iter().filter_map(|(watch, _)| gate.blind(watch)).collect();
        let path = Path::attribute("verification").attr("metrics");
        let path = index.map_or(path.clone(), |index| path.index(index));
        if blind.is_empty() {
            let steps: Vec<String> = watches.iter().filter_map(|(watch, _)| gate.sees(watch)).collect();
            sees.extend((!steps.is_empty()).then(|| gate.summary(&steps)));
            continue;
        }
        let detail = format!(
            "{}: {} gets {}. It takes about {much:.0} until {MUCH_WORSE} times as many as allowed are told from chance: what is worse than its limit may pass there. Hold longer, give the step more weight, or add http checks or alarms.",
            gate.head(),
            gate.color,
            blind.join(", and ")
        );
        diagnostics.warning_at(path, "Too few requests for the metric to see anything", detail);
    }
    if !sees.is_empty() {
        let level = (runbook.level() * 1e5).round() / 1e3;
        let detail = format!(
            "{}\n\nA release that keeps all limits is thrown back by chance in {level} % of rollouts at most.",
            sees.join("\n")
        );
        diagnostics.warning_at(Path::attribute("verification").attr("metrics"), "What the metrics will see", detail);
    }
}

/// A metric, and how many requests it needs.
struct Gate<'a> {
    check: &'a MetricCheck,
    /// Where it was written.
    place: String,
    /// Who is watched.
    color: String,
    /// The requests of the last hour to the live color.
    an_hour: f64,
    /// How many requests tell twice as many as allowed from chance, on average.
    twice: f64,
    /// The same of many more.
    much: f64,
}

impl Gate<'_> {
    fn head(&self) -> String {
        format!("{}: at {:.0} requests a minute, as in the last hour", self.place, self.an_hour / 60.0)
    }

    fn summary(&self, steps: &[String]) -> String {
        let Gate { color, .. } = self;
        let what = match self.check.counted() {
            Some(Counted::Slower(_)) => "slow requests",
            _ => "errors",
        };
        format!(
            "{}, {color} with twice as many {what} as allowed is told from chance {}",
            self.head(),
            steps.join("; ")
        )
    }

    /// The requests that count in a second of a step. Of two colors the one with less says how much is known.
    fn a_second(&self, watch: &Watch) -> f64 {
        let share = watch.percent / 100.0;
        let comes = self.an_hour / 3600.0 * share;
        if self.check.max.is_none() && share < 1.0 { comes * (1.0 - share) } else { comes }
    }

    /// A step in which fewer requests come than are needed, in words. A cohort's are not known.
    fn blind(&self, watch: &Watch) -> Option<String> {
        // Whole periods are judged: of a hold one less on average.
        let time = watch.hold.saturating_sub(self.check.period).as_secs_f64();
        let is_blind = !watch.of_cohort && self.an_hour > 0.0 && self.a_second(watch) * time < self.much;
        let comes = self.an_hour / 3600.0 * watch.percent / 100.0 * time;
        is_blind.then(|| format!("{comes:.0} of them at {} % for {}", watch.percent, shown(watch.hold)))
    }

    /// After how much of a step how much worse a color is seen, in words.
    fn sees(&self, watch: &Watch) -> Option<String> {
        let a_second = self.a_second(watch);
        if watch.of_cohort || a_second <= 0.0 || watch.hold.is_zero() {
            return None;
        }
        // No sooner than CloudWatch has the first whole period.
        let after = |needed: f64| Duration::from_secs_f64(needed / a_second).max(self.check.period) + self.check.lag();
        let rounded = |time: Duration| shown(Duration::from_secs(time.as_secs().div_ceil(60) * 60));
        let (twice, much) = (after(self.twice), rounded(after(self.much)));
        let end = watch.hold + self.check.lag();
        let twice = if twice > end { "not at all".to_owned() } else { format!("after about {}", rounded(twice)) };
        Some(format!("at {} % {twice}, with {MUCH_WORSE} times as many after about {much}", watch.percent))
    }
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
    let to = clock::floor(clock::wall() - check.lag(), MINUTE);
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
