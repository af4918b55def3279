//! The failed requests that a rollout may cost: whether any are left, and how many its steps expose.

use std::time::Duration;

use super::freezes::{begins, unknown_way_back};
use super::private_state::PrivateState;
use super::{Shared, model};
use crate::clock;
use crate::duration::shown;
use crate::rollout::spending::{Spent, blind};
use crate::rollout::{BudgetCheck, Check, Intent, Runbook, Step, Watch, World, situation};
use crate::run::rollout::spending::{self, Before};
use crate::tf_provider::{Diagnostics, Path, Value};

fn path() -> Path {
    Path::attribute("verification").attr("budget")
}

/// What is wrong with a budget itself.
pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    let (budget, path) = (config.get("verification").get("budget"), path());
    if budget.as_map().is_none() {
        return;
    }
    let (set, none) = (|name: &str| budget.get(name).is_set(), |name: &str| budget.get(name).is_null());
    let names = ["max_failed_requests", "max_percent"];
    if names.into_iter().all(set) || names.into_iter().all(none) {
        let detail = format!(
            "{path}: set either max_failed_requests, for a number, or max_percent and of, for what a service level leaves."
        );
        diagnostics.error_at(path.clone(), "A budget needs one number", detail);
    }
    for (name, needed) in [("max_percent", "of"), ("of", "max_percent")] {
        if set(name) && none(needed) {
            let detail = format!("{path} has {name}, and no {needed}: of which requests it is a part isn't known.");
            diagnostics.error_at(path.attr(needed), format!("{needed} is missing"), detail);
        }
    }
    let routes = config.get("routes").as_list().unwrap_or_default();
    if !routes.is_empty() && routes.iter().all(model::is_of_network) {
        let detail = format!(
            "{path}: a Network Load Balancer knows no requests, so that none can be counted. Use a query of metrics over your own numbers, alarms, or healthy."
        );
        diagnostics.error_at(path, "A Network Load Balancer has no failed requests", detail);
    }
}

/// Leaves the way back without a budget: a color that runs what it ran when it was live takes users from one that costs more.
pub(super) fn spare_way_back(intent: &mut Intent, memory: &PrivateState) {
    let is_back = intent.active.as_deref().is_some_and(|color| memory.has_served(color, intent));
    if let Some(verification) = intent.verification.as_mut().filter(|_| is_back) {
        verification.checks.retain(|one| !matches!(one.check, Check::Budget(_)));
    }
}

/// When something is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Who plans may not be allowed to read what who applies is.
    Plan,
    Apply,
}

/// Tells if a rollout would begin though the service level has nothing left for it; whether it is refused. The way back is open.
pub(super) async fn bars(
    shared: &Shared,
    (intent, world, runbook): (&Intent, &World, &Runbook),
    at: At,
    diagnostics: &mut Diagnostics,
) -> bool {
    let Some((_, check)) = watched(runbook).next() else { return false };
    let Some((percent, of)) = check.budget.max_percent.zip(check.budget.of) else { return false };
    let Some(color) = begins(intent, world, runbook) else { return false };
    let live = situation::current(intent, world).live;
    let serves = live.as_ref().map(|live| format!(" {live} serves as before.")).unwrap_or_default();
    let (path, of, unchanged) = (path(), of.shown(), format!("Nothing was changed.{serves}"));
    let read = spending::left(&*shared.ports.monitoring, check, &color, clock::wall()).await;
    let (summary, seen) = match read {
        Err(error) => {
            let detail = format!("{path}: {} {unchanged}", error.message);
            let summary = "The error budget can't be read";
            match at {
                At::Plan => diagnostics.warning_at(path, summary, format!("{detail} An apply needs it.")),
                At::Apply => diagnostics.error_at(path, summary, detail),
            }
            return at == At::Apply;
        }
        Ok(Before { left: Some(left), .. }) if left >= 1.0 => return false,
        Ok(Before { spent, left: Some(_) }) if spent.failed >= 1.0 => {
            let Spent { requests, failed } = spent;
            let seen = format!(
                "{failed:.0} of the {requests:.0} requests of the last {of} have failed, and {percent} % of them may"
            );
            ("The error budget is used up", seen)
        }
        Ok(Before { spent, .. }) => {
            let seen = format!("{percent} % of the {:.0} requests of the last {of} are less than one", spent.requests);
            ("The error budget is of too few requests", seen)
        }
    };
    let stay = live.map(|live| format!(", set active to {live:?}")).unwrap_or_default();
    let detail = format!(
        "{path}: {seen}. This rollout would lead users to {color}. {unchanged} Wait until there is something left{stay}, or, if it can't wait, set max_failed_requests in place of max_percent and of.{}",
        unknown_way_back(intent, &color)
    );
    diagnostics.error_at(path, summary, detail);
    true
}

/// The holds of a rollout that has a budget.
fn watched(runbook: &Runbook) -> impl Iterator<Item = (&Watch, &BudgetCheck)> {
    runbook.steps().filter_map(|(_, step)| {
        let Step::Watch(watch) = step else { return None };
        let budget = watch.checks.iter().find_map(|one| match &one.check {
            Check::Budget(check) => Some(check),
            _ => None,
        });
        Some(watch).zip(budget)
    })
}

/// Tells, by the traffic of the last hour, how many requests each step exposes. Warns where the first one may cost more than the budget before
/// anybody can see it, and where a color that is as good as the live one would use it up. What can't be read is left out.
pub(super) async fn tell(shared: &Shared, runbook: &Runbook, diagnostics: &mut Diagnostics) {
    // A cohort's requests are not known.
    let watches: Vec<(&Watch, &BudgetCheck)> = watched(runbook).filter(|(watch, _)| !watch.of_cohort).collect();
    let Some((first, check)) = watches.first() else { return };
    let (monitoring, now) = (&*shared.ports.monitoring, clock::wall());
    let color = &first.subject.color;
    let Ok(hour) = spending::an_hour(monitoring, check, color, now).await else { return };
    let Ok(Before { left: Some(left), .. }) = spending::left(monitoring, check, color, now).await else { return };
    let seen_after = blind(&check.budget, first.interval);
    let costs = Costs { watches: &watches, color, hour, left, seen_after };
    if left < 1.0 {
        let detail = format!(
            "{}: nothing is left, so that this rollout, which goes on, ends at its first look: it is taken back where on_failure is \"rollback\".",
            path()
        );
        diagnostics.warning_at(path(), "The error budget is used up", detail);
    } else if hour.requests > 0.0 {
        costs.tell(diagnostics);
    }
}

/// What the steps of a rollout may cost.
struct Costs<'a> {
    watches: &'a [(&'a Watch, &'a BudgetCheck)],
    color: &'a str,
    /// What came to all colors in the last hour.
    hour: Spent,
    /// How many requests may fail.
    left: f64,
    /// So late a failure is seen.
    seen_after: Duration,
}

impl Costs<'_> {
    fn comes(&self, watch: &Watch, time: Duration) -> f64 {
        self.hour.requests / 3600.0 * watch.percent / 100.0 * time.as_secs_f64()
    }

    /// What comes in a step: its hold, and until CloudWatch has all of it.
    fn exposed(&self, watch: &Watch) -> f64 {
        let settle = watch.convergence.as_ref().map_or(Duration::ZERO, |convergence| convergence.settle);
        self.comes(watch, watch.hold + settle + self.seen_after)
    }

    fn tell(&self, diagnostics: &mut Diagnostics) {
        self.first_step(diagnostics);
        self.usual(diagnostics);
        let Costs { watches, color, hour, left, seen_after } = self;
        let steps: Vec<String> = watches
            .iter()
            .map(|(watch, _)| format!("{:.0} at {} % for {}", self.exposed(watch), watch.percent, shown(watch.hold)))
            .collect();
        let detail = format!(
            "{}: at {:.0} requests a minute, as in the last hour, {color} gets about {}, each with the time until CloudWatch has all of it. The rollout ends when {left:.0} of them have failed; one that fails is seen after up to {}.",
            path(),
            hour.requests / 60.0,
            steps.join(", "),
            shown(*seen_after)
        );
        diagnostics.warning_at(path(), "What the rollout may cost", detail);
    }

    fn first_step(&self, diagnostics: &mut Diagnostics) {
        let Costs { watches, color, left, seen_after, .. } = self;
        let Some((first, _)) = watches.first() else { return };
        let unseen = self.comes(first, *seen_after);
        if unseen < *left {
            return;
        }
        let part = (first.percent * left / unseen * 10.0).floor() / 10.0;
        let less = if part >= 0.1 { format!("at {part} % or less") } else { "with a cohort".to_owned() };
        let detail = format!(
            "{}: at {} % {color} gets {unseen:.0} requests until CloudWatch tells whether they fail (up to {}), and {left:.0} may fail: a color that fails at once costs more than the budget. Begin {less}, or add http or healthy checks, which see it at once.",
            path(),
            first.percent,
            shown(*seen_after)
        );
        diagnostics.warning_at(path(), "The first step may cost more than the budget", detail);
    }

    /// A budget counts what fails whatever the release is.
    fn usual(&self, diagnostics: &mut Diagnostics) {
        let Costs { watches, color, hour, left, .. } = self;
        let exposed: f64 = watches.iter().map(|(watch, _)| self.exposed(watch)).sum();
        let usual = hour.failed / hour.requests * exposed;
        if usual < *left / 2.0 {
            return;
        }
        let detail = format!(
            "{}: of the requests of the last hour {:.2} % failed. If {color} is as good as that, about {usual:.0} of its requests fail in this rollout, and {left:.0} may: it would be taken back by what is usual. Allow more, or hold for a shorter time.",
            path(),
            hour.failed / hour.requests * 100.0
        );
        diagnostics.warning_at(path(), "What is usual may use up the budget", detail);
    }
}
