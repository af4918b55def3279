//! What went wrong, for the person on call: what failed, what was seen, where the traffic is now, what to do next.

use std::fmt::Write as _;

use super::{commands, model};
use crate::duration::shown;
use crate::resource::capitalized;
use crate::rollout::lint::{Finding, Purpose, lint};
use crate::rollout::planner::Refusal;
use crate::rollout::{
    Check, Intent, Journal, OnFailure, RouteSpec, Runbook, Step, StepId, Terminal, World, short, situation,
    terminal_summary,
};
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::executor::{Ending, Outcome};
use crate::run::rollout::lock::{self, Refused};
use crate::shell::{Shell, quoted};
use crate::tf_provider::{Diagnostics, Path, Value};

/// Why there is no runbook.
pub(super) fn refusal(refusal: &Refusal, intent: &Intent, diagnostics: &mut Diagnostics) {
    match refusal {
        Refusal::RouteMissing(route) => {
            let path = route_path(route, intent);
            let detail = format!(
                "{route} ({}) does not exist. Check the ARN, the region and the account. If it was deleted, remove it from the routes or create it again.",
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
        Refusal::CannotWait { route, permille } => {
            let path = Path::attribute("strategy").attr("up_to");
            let percent = f64::from(*permille) / 10.0;
            let detail = format!(
                "{route} can't have {percent} % of its requests led to the color: it answers by itself, its action is full (five target groups), or no other route leads to its target groups yet, so that nobody serves there beside the color. Nothing was changed. Leave the route out until the rollout is over, or leave out up_to for this apply."
            );
            diagnostics.error_at(path, "The rollout can't wait there", detail);
        }
        Refusal::NoWayBack => {
            let path = Path::attribute("strategy").attr("approval").attr("on_timeout");
            let detail = format!(
                "{path} is \"rollback\", and what serves now is no color of this switch, so that there is none to go back to later. Nothing was changed. Use \"hold\" or \"continue\" for this rollout."
            );
            diagnostics.error_at(path, "There is no color to go back to", detail);
        }
        Refusal::NoCohort { route, why } => {
            let path = Path::attribute("strategy").attr("cohort");
            let detail = format!(
                "{route} can't have a rule before it for the cohort: {why}. Nothing was changed. Remove the reason, or leave the cohort out, so that all users come by the steps."
            );
            diagnostics.error_at(path, "The cohort can't be led", detail);
        }
        Refusal::NothingToFollow => {
            let detail = "active is not set, so the switch follows whichever color is live, but no color gets any traffic and the record names none. Set active to the color that is to be live first.";
            diagnostics.error_at(Path::attribute("active"), "No color is live", detail);
        }
    }
}

/// What checks would have stopped the rollout for that do nothing.
pub(super) fn dry_runs(journal: &Journal, diagnostics: &mut Diagnostics) {
    let notes: Vec<&str> = journal.notes().collect();
    if notes.is_empty() {
        return;
    }
    let detail = format!(
        "{}\n\nNothing was done about it, since dry_run is true there. Where that is what you want to be told of, take dry_run out.",
        notes.join("\n\n")
    );
    diagnostics.warning("A dry run would have stopped the rollout", detail);
}

/// A rollout that nobody approved in time was taken back, as its plan told: no apply that leads elsewhere than is configured is a success.
pub(super) fn nobody_approved(before: &World, (intent, world): (&Intent, &World), diagnostics: &mut Diagnostics) {
    let Some((left, waiting)) = situation::waiting(intent, before) else { return };
    let (to, from) = (left.to.as_deref().unwrap_or_default(), left.from.as_deref().unwrap_or_default());
    let detail = format!(
        "The rollout {}waited {}, and nobody approved in time: it went back, as on_timeout says.\n\n{}\n\nNext: set active to {from:?}. The next apply with active = {to:?} begins the rollout anew.",
        left.way(),
        waiting.summary(),
        traffic_now(intent, Some(world))
    );
    diagnostics.error_at(Path::attribute("active"), format!("The rollout to {to} was not approved"), detail);
}

/// Whether a runbook keeps every rule, so that it may be carried out. What is only odd is for the log.
pub(super) fn is_sound(
    runbook: &Runbook,
    (intent, world): (&Intent, &World),
    purpose: Purpose<'_>,
    diagnostics: &mut Diagnostics,
) -> bool {
    let (faults, odd): (Vec<Finding>, Vec<Finding>) =
        lint(runbook, intent, world, purpose).into_iter().partition(Finding::is_fault);
    for finding in odd {
        tracing::warn!(%finding, "the runbook is odd");
    }
    if faults.is_empty() {
        return true;
    }
    let faults: String = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    let detail =
        format!("Nothing was changed. The runbook breaks the provider's own rules:{faults}\n\nPlease report this.");
    diagnostics.error("The provider has a bug", detail);
    false
}

/// A route that was there at the last apply and isn't any more.
pub(super) fn route_gone(route: &RouteSpec, intent: &Intent, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "{route} ({}) existed at the last apply and is gone. An apply fails unless it is back by then. Remove it from the routes, or destroy the switch.",
        route.key()
    );
    diagnostics.warning_at(route_path(route, intent), "Route not found", detail);
}

/// A switch that takes over where another color is live moves traffic with its very first apply.
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
            "{live} is live now, and active is {active:?}: this apply moves the traffic from {live} to {active}. To adopt the routes as they are, set active to {live:?}, or remove it."
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

/// Which switch a message is about, and where its commands are meant.
pub(super) type Place<'a> = (&'a Intent, &'a Shell);

/// The lock could not be had.
pub(super) fn refused(refused: &Refused, (intent, shell): Place<'_>, diagnostics: &mut Diagnostics) {
    let path = lock_path(intent);
    let (lock, what) = (model::lock(intent), intent.record.as_deref().unwrap_or(&intent.name));
    let delete = shell.delete_parameter(&lock);
    match refused {
        Refused::Held(lock_record) => {
            let detail = format!(
                "{} has it under way: {}. It {}.\n\nNothing was changed. Wait until it has ended, then plan again. If it is dead for sure, its lock ends {} s after its last sign of life; to end it at once{}:\n  {delete}",
                lock_record.holder,
                lock_record.summary(),
                if lock_record.phase.is_empty() {
                    "has just begun".to_owned()
                } else {
                    format!("said last: {}", lock_record.phase)
                },
                lock_record.lease_seconds,
                shell.whose()
            );
            diagnostics.error_at(path, format!("Another rollout of {what} is under way"), detail);
        }
        Refused::Strange(why) => {
            let detail = format!(
                "The parameter {lock} keeps rollouts apart, and can't be read: {why}. Nothing was changed. If a newer version of this provider wrote it, use that one. If nothing is under way, delete it{}:\n  {delete}",
                shell.whose()
            );
            diagnostics.error_at(path, "The lock record can't be read", detail);
        }
        Refused::Failed(error) => {
            let detail = format!(
                "{error}.\n\nNothing was changed. A rollout notes in {lock} that it is under way, so that no other one moves the same routes.{}",
                advice(error.kind)
            );
            diagnostics.error_at(path, format!("Failed to lock {what}"), detail);
        }
        Refused::Interrupted { in_doubt } => {
            let late = if *in_doubt {
                format!(
                    " The call that creates it was not answered: {lock} may still appear, and then expires by itself."
                )
            } else {
                String::new()
            };
            let detail = format!(
                "The run was interrupted while it waited for the lock record {lock}. Nothing was changed.{late}"
            );
            diagnostics.error_at(path, "The run was interrupted", detail);
        }
    }
}

/// The lock could not be given up. That of a rollout that is not over says where it began, and is not to be removed.
pub(super) fn not_released(
    error: &PortError,
    is_over: bool,
    (intent, shell): Place<'_>,
    diagnostics: &mut Diagnostics,
) {
    let (lock, lease) = (model::lock(intent), shown(lock::LEASE));
    let then = if is_over {
        let delete = shell.delete_parameter(&lock);
        format!("Then the next one takes over. To remove it at once{}:\n  {delete}", shell.whose())
    } else {
        format!(
            "Then the next one takes over, and goes on from there, or back. Leave {lock}: it says where this one began."
        )
    };
    let detail = format!("{error}. It keeps other rollouts waiting until it expires, {lease} from now. {then}");
    diagnostics.warning_at(lock_path(intent), "The lock record is left", detail);
}

/// What an earlier object made could not be taken over.
pub(super) fn unclaimed(name: &str, error: &PortError, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "{error}.\n\nNothing was changed. Rules and the record carry the tag bluegreen:owner, so that the object that goes when this one is replaced leaves them alone; here it has to be written anew.{}",
        advice(error.kind)
    );
    diagnostics.error(format!("Failed to take over what {name} made before"), detail);
}

/// A parameter that takes no further version.
pub(super) fn barred_by_label(
    name: &str,
    (label, version): (String, i64),
    (intent, shell): Place<'_>,
    diagnostics: &mut Diagnostics,
) {
    let label = quoted(&label);
    let command = shell.command(&format!(
        "ssm unlabel-parameter-version --name {name} --parameter-version {version} --labels {label}"
    ));
    let detail = format!(
        "The parameter {name} has 100 versions, and the oldest one that Parameter Store would drop for another has the label {label}. A rollout could not write it down. Nothing was changed.\n\nNext: take the label away{}, or move it to a later version, and run it again:\n  {command}",
        shell.whose()
    );
    diagnostics.error_at(lock_path(intent), "A label bars the next version of the parameter", detail);
}

/// Where a person looks for what the lock is about.
fn lock_path(intent: &Intent) -> Path {
    Path::attribute(if intent.record.is_some() { "parameter" } else { "routes" })
}

/// That two rollouts of these routes are not kept apart.
pub(super) fn unlocked(error: &PortError, intent: &Intent, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "{error}.\n\nA switch without parameter keeps rollouts apart by {}, which can't be used. This apply goes on without: see that no other one moves the same routes meanwhile, and apply again at once if it is killed. Allow ssm:GetParameter, ssm:PutParameter, ssm:AddTagsToResource and ssm:DeleteParameter for it, or set parameter to one that can be written.",
        model::lock(intent)
    );
    diagnostics.warning_at(Path::attribute("routes"), "Nothing keeps two rollouts apart", detail);
}

/// What was left undone after the rollout had arrived.
pub(super) fn left(runbook: &Runbook, outcome: &Outcome, name: &str, diagnostics: &mut Diagnostics) {
    let mut text = String::new();
    let mut unwritten = None;
    for (id, reason) in outcome.journal.left() {
        if let Some(Step::Record { parameter, before, after }) = runbook.step(id) {
            unwritten =
                Some((parameter, before.as_deref().unwrap_or("nothing"), after.as_deref().unwrap_or("nothing")));
        }
        let words = runbook.step(id).map(Step::summary).unwrap_or_default();
        let _ = write!(text, "\n  {words}: {reason}");
        if outcome.journal.doubts().contains(&id) {
            text.push_str(" (its call was not answered, and may still take effect)");
        }
    }
    if text.is_empty() {
        return;
    }
    let (is_so, next) = match unwritten {
        Some((parameter, before, after)) => (
            "traffic is as planned",
            format!(
                "The record {parameter} may still say {before}, and whoever goes by it, such as a pipeline or the guard of a bluegreen_migration, takes that for live instead of {after}.\n\nNext: correct the cause above and run `terraform apply` again; the plan shows what is left."
            ),
        ),
        None => (
            "traffic and record are as planned",
            "Next: run `terraform apply` again; the plan shows what is left.".to_owned(),
        ),
    };
    let detail = format!("The rollout has completed: {is_so}. Some of what comes after it failed:{text}\n\n{next}");
    diagnostics.warning(format!("Not everything after the rollout of {name} was done"), detail);
}

/// The place in the configuration that a route comes from.
fn route_path(route: &RouteSpec, intent: &Intent) -> Path {
    let position = |routes: &[RouteSpec]| routes.iter().position(|other| other == route);
    if let Some(n) = position(&intent.routes) {
        return Path::attribute("routes").index(n);
    }
    if let Some(n) = position(&intent.preview_routes) {
        return Path::attribute("preview_routes").index(n);
    }
    match route {
        RouteSpec::OwnRule { conditions, .. } if intent.strategy.cohort.is_some() && !conditions.is_nobody() => {
            Path::attribute("strategy").attr("cohort")
        }
        _ => Path::attribute("routes"),
    }
}

fn step_path(step: &Step, intent: &Intent, config: &Value) -> Option<Path> {
    match step {
        // It is on by default.
        Step::Check(checking)
            if matches!(checking.check, Check::Healthy(_)) && config.get("validation").get("healthy").is_null() =>
        {
            None
        }
        Step::Check(checking) => {
            let path = Path::attribute(checking.block.name()).attr(checking.check.attribute());
            Some(checking.index.map_or(path.clone(), |index| path.index(index)))
        }
        Step::Converge(_) if config.get("strategy").get("prove").is_null() => None,
        Step::Converge(_) => Some(Path::attribute("strategy").attr("prove")),
        Step::Watch(_) => Some(Path::attribute("verification")),
        Step::Route { route, .. }
        | Step::Priority { route, .. }
        | Step::Conditions { route, .. }
        | Step::Processing { route, .. }
        | Step::Remove { route, .. } => Some(route_path(route, intent)),
        Step::Record { .. } => Some(Path::attribute("parameter")),
        Step::Capacity { .. } => Some(Path::attribute("capacity")),
    }
}

/// Where the traffic is, route by route, and what the record says.
pub(super) fn traffic_now(intent: &Intent, world: Option<&World>) -> String {
    traffic_with((intent, &[]), world)
}

/// The same, with these rules of a cohort.
fn traffic_with((intent, cohort): (&Intent, &[&RouteSpec]), world: Option<&World>) -> String {
    let Some(world) = world else {
        return "Traffic now: not known, since the routes could not be read.".to_owned();
    };
    let mut text = "Traffic now:".to_owned();
    for route in model::all_routes(intent) {
        let words = match world.routes.get(&route.key()) {
            Some(observed) => terminal_summary(&observed.terminal, |arn| intent.called(arn)),
            None => "not there".to_owned(),
        };
        let _ = write!(text, "\n  {route}: {words}");
    }
    for route in cohort {
        let RouteSpec::OwnRule { conditions, .. } = route else { continue };
        // What stands there by now may be somebody else's.
        if let Some(seen) = world.routes.get(&route.key()).filter(|seen| seen.conditions.as_ref() == Some(conditions)) {
            let words = terminal_summary(&seen.terminal, |arn| intent.called(arn));
            let _ = write!(text, "\n  {route}, for the cohort: {words}");
        }
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
    pub shell: &'a Shell,
    pub intent: &'a Intent,
    pub config: &'a Value,
    pub runbook: &'a Runbook,
    pub outcome: &'a Outcome,
    /// The color that was live.
    pub from: Option<&'a str>,
    /// Whether it is a first apply, whose failure Terraform takes for a broken object.
    pub is_new: bool,
}

impl Failure<'_> {
    /// One error that tells the whole story: what failed and what it saw, what was done about it, what users saw, where
    /// the traffic is now, and what to do next.
    pub fn tell(&self, diagnostics: &mut Diagnostics) {
        let journal = &self.outcome.journal;
        let first = journal.failures().next();
        let path = first.and_then(|(id, _)| step_path(self.runbook.step(id)?, self.intent, self.config));
        let mut parts: Vec<String> = journal.failures().map(|(id, reason)| self.failed_step(id, reason)).collect();
        if journal.is_interrupted() {
            parts.insert(0, "The run was interrupted.".to_owned());
        }
        if journal.has_external_change() {
            let (_, reason) = journal.reason().unwrap_or_default();
            parts.insert(0, format!("{}.", capitalized(&reason)));
        }
        parts.push(match self.outcome.ending {
            Ending::Stuck => self.undo_failures(),
            Ending::Held => self.held(),
            Ending::Unknown => self.unknown(),
            Ending::RolledBack if self.changed_anything() => self.rolled_back(),
            Ending::RolledBack => "Nothing was changed.".to_owned(),
            Ending::Done => String::new(),
        });
        if self.outcome.ending == Ending::Held && !journal.doubts().is_empty() {
            let steps = journal.doubts().into_iter().filter_map(|id| self.runbook.step(id)).map(Step::summary);
            let steps = steps.collect::<Vec<_>>().join("\n  ");
            parts.push(format!("These calls were not answered and may still take effect:\n  {steps}"));
        }
        parts.extend(self.exposed());
        let cohort = self.cohort();
        parts.push(traffic_with((self.intent, &cohort), self.outcome.world.as_ref()) + &self.led_last());
        parts.push(self.next());
        let detail = parts.join("\n\n");
        match path {
            Some(path) => diagnostics.error_at(path, self.summary.clone(), detail),
            None => diagnostics.error(self.summary.clone(), detail),
        }
    }

    fn failed_step(&self, id: StepId, reason: &str) -> String {
        let what = self.runbook.step(id).map(failure).unwrap_or_default();
        let mut text = format!("{what}:\n  {}", reason.replace('\n', "\n  "));
        if let Some(wrote) = self.outcome.journal.evidence(id) {
            let _ = write!(text, "\n  It wrote last:\n  {}", wrote.replace('\n', "\n  "));
        }
        text
    }

    /// What can't be known, said as such.
    fn unknown(&self) -> String {
        let journal = &self.outcome.journal;
        let mut text = "IT IS NOT KNOWN HOW THIS ENDS. These calls were sent and not answered: each of them may still take effect, now or later.".to_owned();
        for id in journal.doubts() {
            let words = self.runbook.step(id).map(Step::summary).unwrap_or_default();
            let _ = write!(text, "\n  {words}");
        }
        let policy = if journal.is_interrupted() { self.runbook.on_interrupt } else { self.runbook.on_failure };
        if policy == OnFailure::Rollback && journal.undos().next().is_some() {
            text.push_str("\nEverything else that this rollout had changed was put back.");
        }
        let _ = write!(text, "\nThe rollout is noted as open in {}.", model::lock(self.intent));
        text
    }

    /// Where the routes were led last, where it can't be seen where they lead.
    fn led_last(&self) -> String {
        let journal = &self.outcome.journal;
        if self.outcome.world.is_some() {
            return String::new();
        }
        let mut text = String::new();
        for route in self.intent.routes.iter().chain(self.cohort()) {
            let steps = self.runbook.steps().filter_map(|(id, step)| match step {
                Step::Route { route: own, after, .. } if own == route && journal.done(id) => Some((id, after)),
                _ => None,
            });
            let steps: Vec<(StepId, &Terminal)> = steps.collect();
            // The way back is one call for each route, noted at its first step.
            let is_back = steps.iter().any(|(id, _)| journal.undone(*id));
            let Some((_, after)) = steps.last().filter(|(id, _)| !is_back && !self.runbook.taken_over.contains(id))
            else {
                continue;
            };
            let _ = write!(text, "\n  {route}: {}", terminal_summary(after, |arn| self.intent.called(arn)));
        }
        if text.is_empty() { text } else { format!("\nThis run led them last to:{text}") }
    }

    /// The rules that lead a cohort.
    fn cohort(&self) -> Vec<&RouteSpec> {
        let own: Vec<String> = model::all_routes(self.intent).iter().map(RouteSpec::key).collect();
        let made = self.runbook.steps().filter_map(|(_, step)| match step {
            Step::Route { route: route @ RouteSpec::OwnRule { conditions, .. }, .. } => {
                (!conditions.is_nobody() && !own.contains(&route.key())).then_some(route)
            }
            _ => None,
        });
        made.collect()
    }

    /// Whether the credentials have ended: each service has its own word for that.
    fn has_lost_credentials(&self) -> bool {
        let journal = &self.outcome.journal;
        let ended = |reason: &str| ["ExpiredToken", "RequestExpired"].iter().any(|code| reason.contains(code));
        journal.failures().any(|(_, reason)| ended(reason)) || journal.undo_failures().any(|(_, reason)| ended(reason))
    }

    fn changed_anything(&self) -> bool {
        self.runbook.steps().any(|(id, step)| self.outcome.journal.began(id) && !step.is_check())
    }

    /// That it went back, and what differs all the same: clients would have been kept at what failed.
    fn rolled_back(&self) -> String {
        let mut text = "Rolled back: all routes are as before.".to_owned();
        for route in self.intent.routes.iter().chain(&self.intent.preview_routes) {
            let seen = self.outcome.world.as_ref().and_then(|world| world.routes.get(&route.key()));
            let Some((Some(before), seen)) = self.runbook.origin(&route.key()).zip(seen) else { continue };
            let Terminal::Forward(forward) = &before.terminal else { continue };
            let left_out = forward.groups.iter().map(|(arn, _)| arn).filter(|arn| !seen.terminal.mentions(arn));
            for arn in left_out {
                let name = self.intent.called(arn);
                let next = match route.is_network() {
                    true => "the next apply adds it again, with weight 0",
                    false => "it is added again when it is to get traffic",
                };
                let _ = write!(
                    text,
                    "\n{name} is left out of the action of {route}, whose stickiness would keep clients there: {next}."
                );
            }
        }
        for (id, reason) in self.outcome.journal.undo_failures() {
            if let Some(Step::Capacity { color, .. }) = self.runbook.step(id) {
                let _ = write!(
                    text,
                    "\nThe size of {color} could not be given back: {reason}. The next apply tries again."
                );
                let commands = self.runbook.step(id).map(|step| commands::undo(step, (None, None))).unwrap_or_default();
                if !commands.is_empty() {
                    let _ = write!(text, " By hand{}:", self.shell.whose());
                }
                for words in commands {
                    let _ = write!(text, "\n  {}", self.shell.command(&words));
                }
            }
        }
        text
    }

    /// How long users saw what failed, and what of it may go on.
    fn exposed(&self) -> Option<String> {
        let color = self.intent.active.as_deref().filter(|active| self.from != Some(*active))?;
        let (time, most) = match self.outcome.exposure.filter(|_| self.runbook.on_failure != OnFailure::Leave) {
            Some((time, most)) => (shown(time), most),
            None => {
                let (journal, cohort) = (&self.outcome.journal, self.cohort());
                let is_led = |id| journal.done(id) || journal.may_come_late(id);
                let mut led = self.runbook.steps().filter(|(id, _)| is_led(*id));
                let leads = |step: &Step| matches!(step, Step::Route { route, .. } if cohort.contains(&route));
                return led
                    .find(|(_, step)| leads(step))
                    .map(|_| format!("Users of the cohort reached {color}, and nobody else."));
            }
        };
        let still = if self.outcome.ending == Ending::RolledBack { "" } else { " so far" };
        let network = self.intent.routes.iter().any(RouteSpec::is_network);
        let open = if network { "Connections" } else { "WebSockets and other long requests" };
        let goes_on = if self.outcome.ending == Ending::RolledBack {
            format!(" {open} that are open there stay until they end.")
        } else {
            String::new()
        };
        Some(format!("Users reached {color} for {time}{still}, at most {most:.1} % of them.{goes_on}"))
    }

    fn held(&self) -> String {
        let journal = &self.outcome.journal;
        if journal.has_external_change() {
            return "This rollout stopped where it was. It neither continued nor rolled back, so that it does not work against that change."
                .to_owned();
        }
        if self.runbook.on_failure == OnFailure::Leave {
            return "What was done before stays.".to_owned();
        }
        let why = match (journal.is_interrupted(), self.runbook.on_interrupt, self.runbook.on_failure) {
            (true, OnFailure::Hold, _) => " (on_interrupt = \"hold\")",
            (false, _, OnFailure::Hold) => " (on_failure = \"hold\")",
            _ => "",
        };
        format!("Traffic stays where it is{why}.")
    }

    fn undo_failures(&self) -> String {
        let mut text = "ROLLBACK FAILED. Act now:".to_owned();
        for id in self.outcome.journal.doubts() {
            let words = self.runbook.step(id).map(Step::summary).unwrap_or_default();
            let _ = write!(text, "\n  \"{words}\" was not answered: it may still take effect");
        }
        let (mut commands, mut is_whole) = (Vec::new(), true);
        for (id, reason) in self.outcome.journal.undo_failures() {
            let Some(step) = self.runbook.step(id) else { continue };
            let _ = write!(text, "\n  could not undo \"{}\": {reason}", step.summary());
            is_whole &= !matches!(step, Step::Route { before: Some(before), .. } if !before.ahead.is_whole);
            let origin = step.writes().and_then(|(route, _)| self.runbook.origin(&route.key())).flatten();
            let origin = origin.map(|before| &before.terminal);
            let words = commands::undo(step, (self.outcome.world.as_ref(), origin));
            for command in words.iter().map(|words| self.shell.command(words)) {
                // What was tried twice is told once.
                if !commands.contains(&command) {
                    commands.push(command);
                }
            }
        }
        for (id, step) in self.runbook.steps() {
            if let Step::Capacity { color, .. } = step
                && self.outcome.journal.done(id)
                && !self.outcome.journal.undone(id)
            {
                let _ =
                    write!(text, "\n  {color} keeps its size, since users may be there: the next apply gives it back");
            }
        }
        if !commands.is_empty() {
            let _ = write!(text, "\n\nTo put it back by hand{}:", self.shell.whose());
            for command in commands {
                let _ = write!(text, "\n  {command}");
            }
            if !is_whole {
                text.push_str(
                    "\nA command replaces the list of actions as a whole, and there are actions before the last one that are not known here: put them in front, as `aws elbv2 describe-listeners` or `describe-rules` shows them.",
                );
            }
        }
        text
    }

    fn next(&self) -> String {
        let back = match self.from {
            Some(from) if self.intent.active.as_deref() != Some(from) => format!("active = \"{from}\""),
            _ => "active to the old color".to_owned(),
        };
        let cause = if self.has_lost_credentials() {
            "get new credentials, since those of this run have ended"
        } else {
            "remove the cause above"
        };
        match self.outcome.ending {
            Ending::Stuck => format!(
                "Next: {cause}, then run `terraform apply`: it starts from what is there. To roll back instead, set {back} first. If Terraform calls the switch tainted, run `terraform untaint` before that, so that it is not replaced."
            ),
            Ending::Unknown => format!(
                "Next: look where the traffic is in a minute, then run `terraform apply`: it starts from what is there. To roll back, set {back} first. If Terraform calls the switch tainted, run `terraform untaint` before that, so that it is not replaced."
            ),
            Ending::Held if self.outcome.journal.has_external_change() => {
                "Next: find out who else moves it (another pipeline, another Terraform, a person), and end that. Then plan again: it starts from what is there.".to_owned()
            }
            Ending::Held if self.runbook.on_failure == OnFailure::Leave => {
                "Next: correct the cause and run it again; it goes on from what is there.".to_owned()
            }
            Ending::Held => {
                let first = if self.is_new {
                    "run `terraform untaint` first, or Terraform replaces the switch. Then, "
                } else {
                    ""
                };
                format!(
                    "Next: {first}to continue from here, run `terraform apply`: it repeats the step where it stopped. To roll back, set {back} and run `terraform apply`: all traffic moves back at once."
                )
            }
            _ if self.outcome.journal.is_interrupted() => {
                "Next: run `terraform apply` again when it may run to its end; the plan will show the same change.".to_owned()
            }
            _ => "Next: correct the cause and run `terraform apply` again; the plan will show the same change.".to_owned(),
        }
    }
}

/// What failed about a step, without what else was checked: that would read as if it were the cause.
fn failure(step: &Step) -> String {
    match step {
        Step::Check(checking) => {
            let block = capitalized(checking.block.name());
            format!("{block} of {} failed ({})", checking.subject.color, checking.place())
        }
        Step::Watch(watch) => format!("Verification of {} failed", watch.about()),
        other => format!("Failed to {}", other.summary()),
    }
}
