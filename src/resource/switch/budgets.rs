//! The failed requests that a rollout may cost: whether any are left, and how many its steps expose.

use std::time::Duration;

use super::freezes::begins;
use super::private_state::PrivateState;
use super::{Shared, model};
use crate::arn;
use crate::clock;
use crate::duration::shown;
use crate::rollout::spending::blind;
use crate::rollout::{BudgetCheck, Check, Intent, Runbook, Step, Watch, World, situation};
use crate::run::rollout::spending;
use crate::tf_provider::{Diagnostics, Path, Value};

/// How often load balancers publish their numbers.
const A_MINUTE: Duration = Duration::from_secs(60);

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
    let is_network = |route: &Value| {
        ["listener_arn", "rule_arn"].into_iter().any(|name| route.get(name).as_str().is_some_and(arn::is_network))
    };
    if !routes.is_empty() && routes.iter().all(is_network) {
        let detail = format!(
            "{path}: a Network Load Balancer knows no requests, so that none can be counted. Use a query of metrics over your own numbers, alarms, or healthy."
        );
        diagnostics.error_at(path, "A Network Load Balancer has no failed requests", detail);
    }
}

/// What is unwise about it.
pub(super) fn warn(config: &Value, diagnostics: &mut Diagnostics) {
    let period =
        model::read::<crate::rollout::Budget>(config.get("verification"), "budget").map(|budget| budget.period);
    if period.is_some_and(|period| period < A_MINUTE) {
        let path = path().attr("period");
        let detail = format!(
            "{path}: load balancers publish a point per minute; there is nothing to see in less. Leave it out."
        );
        diagnostics.warning_at(path, "Load balancers publish minutes", detail);
    }
}

/// Tells if a rollout would begin though the service level has nothing left for it; whether it is refused. The way back is open.
pub(super) async fn bars(
    shared: &Shared,
    (intent, world, runbook): (&Intent, &World, &Runbook),
    memory: &PrivateState,
    diagnostics: &mut Diagnostics,
) -> bool {
    let Some((_, check)) = watched(runbook).next() else { return false };
    let Some((percent, of)) = check.budget.max_percent.zip(check.budget.of) else { return false };
    let Some(color) = begins(intent, world, runbook).filter(|color| !memory.has_served(color, intent)) else {
        return false;
    };
    let serves =
        situation::current(intent, world).live.map(|live| format!(" {live} serves as before.")).unwrap_or_default();
    let (of, unchanged) = (of.shown(), format!("Nothing was changed.{serves}"));
    let (summary, detail) = match spending::left(&*shared.ports.monitoring, check, &color, clock::wall()).await {
        Ok(Some(left)) if left >= 1.0 => return false,
        Ok(Some(left)) => {
            let over = if left < 0.0 { format!(", {:.0} more than that", -left) } else { String::new() };
            let detail = format!(
                "{}: {percent} % of the requests of the last {of} have failed already{over}, and this rollout would lead users to {color}. {unchanged} Wait until there is something left, or set max_failed_requests instead for this run, if it can't wait.",
                path()
            );
            ("The error budget is used up", detail)
        }
        Ok(None) => {
            let detail = format!(
                "{}: CloudWatch has no requests of the last {of}, so that {percent} % of them are none. {unchanged} Set max_failed_requests instead until there are some.",
                path()
            );
            ("The error budget is of no requests", detail)
        }
        Err(error) => {
            let detail = format!("{}: {} {unchanged}", path(), error.message);
            ("The error budget can't be read", detail)
        }
    };
    diagnostics.error_at(path(), summary, detail);
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

/// Tells, by the traffic of the last hour, how many requests each step exposes, and warns where the first one may cost more than the budget
/// before anybody can see it. What can't be read is left out.
pub(super) async fn tell(shared: &Shared, runbook: &Runbook, diagnostics: &mut Diagnostics) {
    // A cohort's requests are not known.
    let watches: Vec<(&Watch, &BudgetCheck)> = watched(runbook).filter(|(watch, _)| !watch.of_cohort).collect();
    let Some((first, check)) = watches.first() else { return };
    let (monitoring, color, now) = (&*shared.ports.monitoring, &first.subject.color, clock::wall());
    let Ok(hour) = spending::an_hour(monitoring, check, color, now).await else { return };
    let Ok(Some(left)) = spending::left(monitoring, check, color, now).await else { return };
    if hour.requests <= 0.0 || left < 1.0 {
        return;
    }
    let comes = |watch: &Watch, time: Duration| hour.requests / 3600.0 * watch.percent / 100.0 * time.as_secs_f64();
    let seen_after = blind(&check.budget, first.interval);
    let unseen = comes(first, seen_after);
    if unseen >= left {
        let part = (first.percent * left / unseen * 10.0).floor() / 10.0;
        let less = if part >= 0.1 { format!("at {part} % or less") } else { "with a cohort".to_owned() };
        let detail = format!(
            "{}: at {} % {color} gets {unseen:.0} requests until CloudWatch tells whether they fail (up to {}), and {left:.0} may fail: a color that fails at once costs more than the budget. Begin {less}, or add http or healthy checks, which see it at once.",
            path(),
            first.percent,
            shown(seen_after)
        );
        diagnostics.warning_at(path(), "The first step may cost more than the budget", detail);
    }
    let steps: Vec<String> = watches
        .iter()
        .map(|(watch, _)| format!("{:.0} at {} % for {}", comes(watch, watch.hold), watch.percent, shown(watch.hold)))
        .collect();
    let detail = format!(
        "{}: at {:.0} requests a minute, as in the last hour, {color} gets {}. The rollout ends when {left:.0} of them have failed; CloudWatch tells of one that fails after up to {}.",
        path(),
        hour.requests / 60.0,
        steps.join(", "),
        shown(seen_after)
    );
    diagnostics.warning_at(path(), "What the rollout may cost", detail);
}
