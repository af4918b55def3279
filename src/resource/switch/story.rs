//! What went wrong, for the person on call: what failed, what was seen, where the traffic is now, what to do next.

use std::fmt::Write as _;

use super::intent;
use crate::rollout::planner::Refusal;
use crate::rollout::{Intent, Journal, RouteSpec, Runbook, Step, StepId, World, short, terminal_words};
use crate::run::executor::Ending;
use crate::run::ports::{FailureKind, PortError};
use crate::tf_provider::{Diagnostics, Path, Value};

/// Why there is no runbook.
pub(super) fn refusal(refusal: &Refusal, intent: &Intent, diagnostics: &mut Diagnostics) {
    match refusal {
        Refusal::RouteMissing(route) => {
            let path = route_path(route, intent);
            let detail = format!(
                "{route} ({}) isn't there. Check the ARN, the region and the account; if it was deleted, take it out of the routes or make it again.",
                route.key()
            );
            diagnostics.error_at(path, "Route not found", detail);
        }
        Refusal::PriorityTaken(route) => {
            let path = route_path(route, intent).attr("priority");
            let detail = format!(
                "{route} exists already and is not one that this switch made. Choose a free priority, or adopt the rule with rule_arn instead of listener_arn, priority and conditions."
            );
            diagnostics.error_at(path, "The priority is taken", detail);
        }
        Refusal::TooSmall { color, wanted, max } => {
            let detail = format!(
                "{color} has to be {wanted} large before it gets the traffic, and its maximum is {max}. Raise the maximum of {color}, or set capacity.before to a number."
            );
            diagnostics.error_at(Path::attribute("capacity"), format!("{color} can't be large enough"), detail);
        }
        Refusal::NothingToFollow => {
            let detail = "active is left out, so the switch follows whatever is live, but no colour gets any traffic and the record names none. Set active to the colour that shall be live first.";
            diagnostics.error_at(Path::attribute("active"), "No colour is live", detail);
        }
    }
}

/// A route that was there at the last apply and isn't any more.
pub(super) fn route_gone(route: &RouteSpec, intent: &Intent, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "{route} ({}) was there at the last apply and is gone. Apply will fail unless it is back by then; take it out of the routes, or destroy the switch.",
        route.key()
    );
    diagnostics.warning_at(route_path(route, intent), "Route not found", detail);
}

/// A switch that takes over where another colour is live moves traffic with its very first apply.
pub(super) fn moves_traffic(busiest: Option<&str>, intent: &Intent, diagnostics: &mut Diagnostics) {
    let (Some(group), Some(active)) = (busiest, intent.active.as_deref()) else { return };
    let Some(live) = intent.color_of(group) else {
        let live = short(group);
        let detail = format!(
            "The target group {live}, which is none of the environments, gets the traffic now, and active is {active:?}: this apply moves the traffic from {live} to {active}."
        );
        diagnostics.warning_at(Path::attribute("active"), "This apply moves live traffic", detail);
        return;
    };
    if live != active {
        let detail = format!(
            "{live} is live now, and active is {active:?}: this apply moves the traffic from {live} to {active}. To take the routes over as they are, set active to {live:?}, or leave it out."
        );
        diagnostics.warning_at(Path::attribute("active"), "This apply moves live traffic", detail);
    }
}

/// What could not be read.
pub(super) fn unreadable(name: &str, error: &PortError, diagnostics: &mut Diagnostics) {
    let mut detail = format!("{error}.\n\nNothing was changed.");
    detail.push_str(advice(error.kind));
    diagnostics.error(format!("Failed to read the routes of {name}"), detail);
}

fn advice(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Denied => {
            " Check the credentials and that they are allowed this call; the README lists the permissions."
        }
        FailureKind::Throttled => " AWS throttles the account's calls; run it again in a minute.",
        _ => "",
    }
}

/// The place in the configuration that a route comes from.
fn route_path(route: &RouteSpec, intent: &Intent) -> Path {
    let position = |routes: &[RouteSpec]| routes.iter().position(|other| other == route);
    if let Some(n) = position(&intent.routes) {
        return Path::attribute("routes").index(n);
    }
    position(&intent.preview_routes)
        .map_or_else(|| Path::attribute("routes"), |n| Path::attribute("preview_routes").index(n))
}

fn step_path(step: &Step, intent: &Intent, config: &Value) -> Option<Path> {
    let validation = config.get("validation");
    match step {
        Step::CheckHealthy { .. } if !validation.get("healthy").is_null() => {
            Some(Path::attribute("validation").attr("healthy"))
        }
        Step::CheckHealthy { .. } => None,
        Step::CheckHttp { index, .. } => Some(Path::attribute("validation").attr("http").index(*index)),
        Step::Route { route, .. } | Step::Conditions { route, .. } | Step::Remove { route, .. } => {
            Some(route_path(route, intent))
        }
        Step::Record { .. } => Some(Path::attribute("parameter")),
        Step::Capacity { .. } => Some(Path::attribute("capacity")),
    }
}

/// Where the traffic is, route by route, and what the record says.
pub(super) fn traffic_now(intent: &Intent, world: Option<&World>) -> String {
    let Some(world) = world else {
        return "Where the traffic is now could not be seen.".to_owned();
    };
    let mut text = "Traffic now:".to_owned();
    for route in intent::all_routes(intent) {
        let words = match world.routes.get(&route.key()) {
            Some(observed) => terminal_words(&observed.terminal, |arn| intent.color_of(arn)),
            None => "not there".to_owned(),
        };
        let _ = write!(text, "\n  {route}: {words}");
    }
    match (&intent.record, &world.record) {
        (Some(name), Some(value)) => drop(write!(text, "\nThe record {name} says {value}.")),
        (Some(name), None) => drop(write!(text, "\nThe record {name} does not exist.")),
        (None, _) => {}
    }
    text
}

/// A failed run.
pub(super) struct Failure<'a> {
    pub summary: String,
    pub intent: &'a Intent,
    pub config: &'a Value,
    pub runbook: &'a Runbook,
    pub journal: &'a Journal,
    pub ending: Ending,
    pub world: Option<&'a World>,
}

impl Failure<'_> {
    /// One error for each step that failed; the whole story in the first.
    pub fn tell(&self, diagnostics: &mut Diagnostics) {
        let mut failed = self.journal.failures();
        let first = failed.next();
        let path = first.and_then(|(id, _)| step_path(self.runbook.step(id)?, self.intent, self.config));
        let mut detail = match first {
            Some((id, reason)) => self.failed_step(id, reason),
            None => "The run was interrupted.".to_owned(),
        };
        for (id, reason) in failed {
            detail.push_str("\n\n");
            detail.push_str(&self.failed_step(id, reason));
        }
        let undone = match self.ending {
            Ending::Stuck => self.undo_failures(),
            Ending::Held => "What was done before stays.".to_owned(),
            Ending::RolledBack if self.changed_anything() => "Everything was put back as it was before.".to_owned(),
            Ending::RolledBack => "Nothing was changed.".to_owned(),
            Ending::Done => String::new(),
        };
        let _ = write!(detail, "\n\n{undone}\n\n{}\n\n{}", traffic_now(self.intent, self.world), self.next());
        match path {
            Some(path) => diagnostics.error_at(path, self.summary.clone(), detail),
            None => diagnostics.error(self.summary.clone(), detail),
        }
    }

    fn failed_step(&self, id: StepId, reason: &str) -> String {
        let words = self.runbook.step(id).map(Step::words).unwrap_or_default();
        format!("Failed to {words}:\n  {}", reason.replace('\n', "\n  "))
    }

    fn changed_anything(&self) -> bool {
        self.runbook.steps().any(|(id, step)| self.journal.began(id) && !step.is_check())
    }

    fn undo_failures(&self) -> String {
        let mut text = "PUTTING IT BACK FAILED TOO. A person is needed:".to_owned();
        for (id, reason) in self.journal.undo_failures() {
            let words = self.runbook.step(id).map(Step::words).unwrap_or_default();
            let _ = write!(text, "\n  could not undo \"{words}\": {reason}");
        }
        text
    }

    fn next(&self) -> &'static str {
        match self.ending {
            Ending::Stuck => {
                "Next: see that the cause above is gone, then run `terraform apply`: it starts from what is there. To go \
                 back instead, set active to the old colour first. If Terraform calls the switch tainted, run `terraform \
                 untaint` before that, so that it is not replaced."
            }
            _ => "Next: correct the cause and run `terraform apply` again; the plan will show the same wish.",
        }
    }
}
