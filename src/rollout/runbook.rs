//! The steps of one apply: what each does, when it holds, how it is undone, and how it reads.

use std::collections::BTreeMap;
use std::time::Duration;

use super::capacity::{self, Capacity, Scalable};
use super::check::{Check, Checking, Subject};
use super::intent::OnFailure;
use super::journal::{Journal, StepId};
use super::processing::Processing;
use super::route::{Conditions, Observed, Place, RouteSpec, Terminal};
use super::strategy::{Approval, OnTimeout, Prove};
use super::world::World;
use crate::duration::shown;
use crate::secrets::harmless;

/// Stages in order; the steps of a stage are carried out together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runbook {
    /// The stages.
    pub stages: Vec<Stage>,
    /// What happens when a step can't be done.
    pub on_failure: OnFailure,
    /// What happens when the run is stopped.
    pub on_interrupt: OnFailure,
    /// Steps that an earlier run carried out, and that are this one's to take back.
    pub taken_over: Vec<StepId>,
    /// From this stage on the rollout has arrived: what can't be done there is left for the next apply, and undoes nothing.
    pub afterwards: Option<usize>,
    /// With which probability all its metrics together may throw back by chance what keeps their limits; none: the default, 0.01.
    pub error_level: Option<f64>,
    /// The stage that leads a first percent back, to know that it can be done, and how fast.
    pub rehearsed: Option<usize>,
    /// Where it waits for a person, instead of leading all traffic; none where it leads all of it.
    pub waits: Option<Waits>,
}

/// Where a rollout waits for a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Waits {
    /// The color to go live.
    pub color: String,
    /// Its part in tenths of a percent.
    pub permille: u32,
    /// Whose word it waits for.
    pub approval: Option<Approval>,
}

impl Waits {
    /// The part in percent.
    pub fn percent(&self) -> f64 {
        f64::from(self.permille) / 10.0
    }

    /// Whose word it waits for: `an approval by the web team`, `up_to to be raised or left out`.
    pub fn whose(&self) -> String {
        match self.approval.as_ref().map(|approval| approval.by.as_ref()) {
            Some(Some(by)) => format!("an approval by {by}"),
            Some(None) => "an approval".to_owned(),
            None => "up_to to be raised or left out".to_owned(),
        }
    }

    /// In words.
    pub fn summary(&self) -> String {
        let timeout = self.approval.as_ref().and_then(|approval| Some((approval.timeout?, approval.on_timeout)));
        let until = timeout.map(|(timeout, then)| {
            let then = match then {
                OnTimeout::Rollback => "an apply goes back",
                OnTimeout::Continue => "an apply goes on without it",
                OnTimeout::Hold => "an apply says that nobody did",
            };
            format!("; after {} {then}", shown(timeout))
        });
        format!("wait with {} at {} % for {}{}", self.color, self.percent(), self.whose(), until.unwrap_or_default())
    }
}

/// As `verification.error_level` is where it isn't written.
const ERROR_LEVEL: f64 = 0.01;

/// Steps that are carried out together: all of them, or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step: an effect that may be repeated, with a postcondition that can be seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Wait until something holds of a color.
    Check(Checking),
    /// Wait until the load balancer's nodes do what they were told.
    Converge(Convergence),
    /// Stay, and see that what must hold holds.
    Watch(Watch),
    /// Make a route lead somewhere. A rule of our own that isn't there is created.
    Route {
        /// Which route.
        route: RouteSpec,
        /// How it was; none if it isn't there yet.
        before: Option<Observed>,
        /// Where it shall lead.
        after: Terminal,
        /// In words, where it shall lead.
        words: String,
    },
    /// Bring a rule of our own back to its priority.
    Priority {
        /// Which route.
        route: RouteSpec,
        /// The rule's ARN.
        arn: String,
        /// The priority before.
        before: i32,
        /// The priority to be.
        after: i32,
    },
    /// Change the conditions of a rule of our own.
    Conditions {
        /// Which route.
        route: RouteSpec,
        /// The rule's ARN.
        arn: String,
        /// The conditions before.
        before: Conditions,
        /// The conditions to be.
        after: Conditions,
    },
    /// Change what a rule of our own does with a request before it forwards.
    Processing {
        /// Which route.
        route: RouteSpec,
        /// How it was, with its secret where that is known.
        before: Box<Observed>,
        /// What it is to do.
        after: Processing,
    },
    /// Delete a rule of our own.
    Remove {
        /// Which route.
        route: RouteSpec,
        /// How it was.
        before: Observed,
    },
    /// Give a color another size.
    Capacity {
        /// The color.
        color: String,
        /// What keeps its instances or tasks.
        scalable: Scalable,
        /// Its size before.
        before: Capacity,
        /// Its size to be.
        after: Capacity,
    },
    /// Write the record, or delete it.
    Record {
        /// The parameter's name.
        parameter: String,
        /// Its value before; none if it doesn't exist.
        before: Option<String>,
        /// Its value to be; none to delete it.
        after: Option<String>,
    },
}

/// How the nodes are waited for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Convergence {
    /// Parts of one by color.
    pub shares: BTreeMap<String, f64>,
    /// How it is seen; none: it is waited for.
    pub prove: Option<Prove>,
    /// How long it is waited for.
    pub settle: Duration,
    /// Whether it is about the preview routes, by which no weights can be told.
    pub previews: bool,
}

/// A hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Whom it is about.
    pub subject: Subject,
    /// The new color's part in percent.
    pub percent: f64,
    /// How long.
    pub hold: Duration,
    /// How often to look.
    pub interval: Duration,
    /// How many looks may fail.
    pub max_failures: u32,
    /// What must hold.
    pub checks: Vec<Checking>,
    /// How the nodes are waited for: looks begin at once, the hold's time once they do what they were told.
    pub convergence: Option<Convergence>,
    /// Whether it is about the cohort, which has the color before the first step.
    pub of_cohort: bool,
}

impl Watch {
    /// Of whom the color has how much: `green at 10 %`, `green with its cohort`.
    pub fn about(&self) -> String {
        let color = &self.subject.color;
        if self.of_cohort { format!("{color} with its cohort") } else { format!("{color} at {} %", self.percent) }
    }

    /// In words.
    pub fn summary(&self) -> String {
        let about = self.about();
        let hold = if self.hold.is_zero() { String::new() } else { format!(" for {}", shown(self.hold)) };
        if self.checks.is_empty() {
            return format!("hold {about}{hold}");
        }
        let checks = self.checks.iter().map(Checking::summary).collect::<Vec<_>>().join("; ");
        let until = self.convergence.as_ref().map(|convergence| format!(" {}", convergence.before()));
        format!("watch {about}{hold}{}: {checks}", until.unwrap_or_default())
    }
}

impl Convergence {
    /// When what is waited for begins.
    fn before(&self) -> String {
        match &self.prove {
            Some(prove) => {
                let needed = prove.needed(&self.shares);
                format!("once {needed} answers in a row of {} agree with the weights", prove.request.shown_url())
            }
            None => format!("once the load balancer had {} to settle", shown(self.settle)),
        }
    }

    /// In words.
    pub fn summary(&self) -> String {
        match &self.prove {
            Some(prove) => {
                let needed = prove.needed(&self.shares);
                format!("ask {} until {needed} answers in a row agree with the weights", prove.request.shown_url())
            }
            None if self.previews => format!("give the preview routes {} to settle", shown(self.settle)),
            None => format!("give the load balancer {} to settle", shown(self.settle)),
        }
    }
}

impl Step {
    /// Whether the world already is as the step would make it. Checks never hold in advance.
    pub fn holds(&self, world: &World) -> bool {
        match self {
            Step::Check(_) | Step::Converge(_) | Step::Watch(_) => false,
            Step::Route { route, after, .. } => {
                world.routes.get(&route.key()).is_some_and(|observed| observed.terminal.is_same(after))
            }
            Step::Conditions { route, after, .. } => {
                world.routes.get(&route.key()).is_some_and(|observed| observed.conditions.as_ref() == Some(after))
            }
            // AWS never tells which secret it has.
            Step::Processing { route, before, after } => {
                let is_secret = before.processing.as_ref().is_some_and(|before| {
                    before.authentication == after.authentication && before.asks_otherwise(after)
                });
                !is_secret && processes(world, route, after)
            }
            Step::Priority { route, after, .. } => stands_at(world, route, *after),
            Step::Remove { route, before } => {
                // What this very runbook makes has no ARN yet when it is planned.
                let is_it = |observed: &Observed| before.arn.is_empty() || observed.arn == before.arn;
                !world.routes.get(&route.key()).is_some_and(is_it)
            }
            Step::Record { after, .. } => world.record == *after,
            Step::Capacity { color, before, after, .. } => {
                world.capacities.get(color).is_some_and(|now| now.is_reached(*before, *after))
            }
        }
    }

    /// A route whose whole list of actions it writes, and where that leads.
    pub fn writes(&self) -> Option<(&RouteSpec, &Terminal)> {
        match self {
            Step::Route { route, after, .. } => Some((route, after)),
            Step::Processing { route, before, after } => {
                let asks_otherwise = before.processing.as_ref().is_some_and(|before| before.asks_otherwise(after));
                asks_otherwise.then_some((route, &before.terminal))
            }
            _ => None,
        }
    }

    /// Whether it takes something away: that a look doesn't show it is no reason to leave that out, since it may be an old one,
    /// and taking away what is gone does no harm.
    pub fn takes_away(&self) -> bool {
        matches!(self, Step::Remove { .. } | Step::Record { after: None, .. })
    }

    /// Whether the world is as it was before the step; `made` is the rule that it made, where it is known to have made one.
    pub fn is_undone(&self, world: &World, made: Option<&str>) -> bool {
        match self {
            Step::Check(_) | Step::Converge(_) | Step::Watch(_) => true,
            Step::Route { route, before, after, .. } => match (world.routes.get(&route.key()), before, made) {
                (None, None, _) => true,
                (Some(now), Some(before), _) => is_back(&now.terminal, &before.terminal),
                (Some(now), None, Some(made)) => now.arn != made,
                // What stands there and is not what the step makes, somebody else made: it is not ours to delete.
                (Some(now), None, None) => !is_made_by(now, route, after),
                (None, Some(_), _) => false,
            },
            Step::Priority { route, before, .. } => stands_at(world, route, *before),
            Step::Conditions { route, before, .. } => {
                world.routes.get(&route.key()).is_some_and(|observed| observed.conditions.as_ref() == Some(before))
            }
            Step::Processing { route, before, .. } => {
                world.routes.get(&route.key()).is_some_and(|observed| observed.processing == before.processing)
            }
            Step::Remove { route, .. } => world.routes.contains_key(&route.key()),
            Step::Record { before: None, after, .. } => world.record != *after,
            Step::Record { before, .. } => world.record == *before,
            Step::Capacity { color, before, after, .. } => {
                world.capacities.get(color).is_some_and(|now| now.is_reached(*after, *before))
            }
        }
    }

    /// Lets the world be as it will be after the step.
    pub(super) fn foresee(&self, world: &mut World) {
        match self {
            Step::Route { route, after, before, .. } => {
                // What an earlier rollout made is there, though it wasn't before that one.
                let known = before.as_ref().or_else(|| world.routes.get(&route.key()));
                let arn = known.map(|known| known.arn.clone()).unwrap_or_default();
                let (conditions, processing) = match (known, route) {
                    (Some(known), _) => (known.conditions.clone(), known.processing.clone()),
                    (None, RouteSpec::OwnRule { conditions, processing, .. }) => {
                        (Some(conditions.clone()), Some(Processing::clone(processing)))
                    }
                    (None, _) => (None, None),
                };
                let place = known.and_then(|known| known.place.clone());
                let ahead = known.map(|known| known.ahead.clone()).unwrap_or_default();
                let terminal = after.clone();
                let seen = Observed { arn, terminal, conditions, processing, place, ahead };
                world.routes.insert(route.key(), seen);
            }
            Step::Priority { route, after, .. } => {
                if let Some(observed) = world.routes.get_mut(&route.key()) {
                    observed.place = Some(Place { priority: *after, taken_by: None });
                }
            }
            Step::Conditions { route, after, .. } => {
                if let Some(observed) = world.routes.get_mut(&route.key()) {
                    observed.conditions = Some(after.clone());
                }
            }
            Step::Processing { route, after, .. } => {
                if let Some(observed) = world.routes.get_mut(&route.key()) {
                    observed.processing = Some(after.clone());
                }
            }
            Step::Remove { route, .. } => drop(world.routes.remove(&route.key())),
            Step::Record { after, .. } => world.record.clone_from(after),
            Step::Capacity { color, after, .. } => {
                world.capacities.insert(color.clone(), *after);
            }
            Step::Check(_) | Step::Converge(_) | Step::Watch(_) => {}
        }
    }

    /// Whether the step only looks.
    pub fn is_check(&self) -> bool {
        matches!(self, Step::Check(_) | Step::Converge(_) | Step::Watch(_))
    }

    /// The step in words, as a plan shows it.
    pub fn summary(&self) -> String {
        match self {
            Step::Check(check) => format!("check that {}", check.summary()),
            Step::Converge(convergence) => convergence.summary(),
            Step::Watch(watch) => watch.summary(),
            Step::Route { route, before, words, .. } => {
                let verb = if before.is_none() { "create" } else { "set" };
                format!("{verb} {route}: {words}")
            }
            Step::Priority { route, before, after, .. } => {
                format!("move {route} from priority {before} to {after}")
            }
            Step::Conditions { route, .. } => format!("change the conditions of {route}"),
            Step::Processing { route, before, after, .. } => {
                let changes = before.processing.as_ref().map(|before| before.changes(after)).unwrap_or_default();
                format!("{} of {route}", changes.join(", "))
            }
            Step::Remove { route, .. } => format!("delete {route}"),
            Step::Capacity { color, before, after, .. } => capacity::summary(color, *before, *after),
            Step::Record { parameter, before, after } => match (before, after) {
                // Anybody may have written anything there.
                (Some(before), Some(after)) => format!("write {parameter}: {} → {after}", harmless(before)),
                (None, Some(after)) => format!("create {parameter}: {after}"),
                (_, None) => format!("delete {parameter}"),
            },
        }
    }
}

/// Where a route that led there goes back to. Group stickiness beats weights until a client's cookie lapses: a group that had
/// nothing is left out of the action then, since clients would be kept at what has just failed. It joins again when it is to get
/// traffic.
pub fn way_back(before: &Terminal) -> Terminal {
    if before.is_sticky() { before.without_idle() } else { before.clone() }
}

/// Whether a route leads where it led before.
pub(super) fn is_back(now: &Terminal, before: &Terminal) -> bool {
    now.is_same(before) || now.is_same(&way_back(before))
}

fn stands_at(world: &World, route: &RouteSpec, priority: i32) -> bool {
    let place = world.routes.get(&route.key()).and_then(|observed| observed.place.as_ref());
    place.is_some_and(|place| place.priority == priority)
}

/// Whether a rule does this with a request before it forwards.
fn processes(world: &World, route: &RouteSpec, processing: &Processing) -> bool {
    world.routes.get(&route.key()).is_some_and(|observed| observed.processing.as_ref() == Some(processing))
}

/// Whether a rule is what a step that makes this route would leave.
pub fn is_made_by(now: &Observed, route: &RouteSpec, after: &Terminal) -> bool {
    let RouteSpec::OwnRule { conditions, .. } = route else { return false };
    now.terminal.is_same(after) && now.conditions.as_ref() == Some(conditions)
}

impl Runbook {
    /// Adds a stage, unless it would have no step.
    pub(super) fn push(&mut self, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.stages.push(Stage { steps });
        }
    }

    /// Leaves out what a service level leaves: a color that takes users from nobody has nobody to go back to, and none of whose requests to speak of.
    pub(super) fn spare_first(&mut self) {
        let is_part = |check: &Check| matches!(check, Check::Budget(one) if one.budget.max_percent.is_some());
        for watch in self.watches() {
            watch.checks.retain(|one| !is_part(&one.check));
        }
    }

    /// Its holds, the last first.
    fn watches(&mut self) -> impl Iterator<Item = &mut Watch> {
        let steps = self.stages.iter_mut().rev().flat_map(|stage| stage.steps.iter_mut().rev());
        steps.filter_map(|step| if let Step::Watch(watch) = step { Some(watch) } else { None })
    }

    /// Has each budget know how much the color gets after what is watched.
    pub(super) fn tell_what_comes_next(&mut self) {
        let mut next: Option<f64> = None;
        for watch in self.watches() {
            for checking in &mut watch.checks {
                if let Check::Budget(budget) = &mut checking.check {
                    budget.next = next.filter(|next| *next > watch.percent && !watch.of_cohort);
                }
            }
            next = Some(watch.percent);
        }
    }

    /// Whether a stage comes after the rollout has arrived.
    pub fn is_afterwards(&self, stage: usize) -> bool {
        self.afterwards.is_some_and(|first| stage >= first)
    }

    /// The error level of each of its sequential tests: they share one.
    pub fn level_of_a_test(&self) -> f64 {
        let tests = |check: &Check| if let Check::Metric(metric) = check { metric.tests() } else { 0 };
        let of_step = |step: &Step| match step {
            Step::Check(checking) => tests(&checking.check),
            Step::Watch(watch) => watch.checks.iter().map(|one| tests(&one.check)).sum(),
            _ => 0,
        };
        let all: usize = self.steps().map(|(_, step)| of_step(step)).sum();
        self.level() / all.max(1) as f64
    }

    /// The error level of all of them together.
    pub fn level(&self) -> f64 {
        self.error_level.unwrap_or(ERROR_LEVEL)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// All steps with their ids, in order.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = (StepId, &Step)> {
        self.stages.iter().enumerate().flat_map(|(stage, steps)| {
            steps.steps.iter().enumerate().map(move |(step, value)| (StepId { stage, step }, value))
        })
    }

    /// The place of the stage that was added last.
    pub(super) fn last_stage(&self) -> usize {
        self.stages.len().saturating_sub(1)
    }

    /// The world as it is once these of its steps are done.
    pub fn after(&self, world: &World, done: impl Fn(StepId) -> bool) -> World {
        let mut after = world.clone();
        self.steps().filter(|(id, _)| done(*id)).for_each(|(_, step)| step.foresee(&mut after));
        after
    }

    /// How a route was before the first step that moves it, none if that step makes it; nothing at all if no step does.
    pub fn origin(&self, key: &str) -> Option<Option<&Observed>> {
        self.steps().find_map(|(_, step)| match step {
            Step::Route { route, before, .. } if route.key() == key => Some(before.as_ref()),
            _ => None,
        })
    }

    /// The rule that this route is by a step of this runbook, as far as it was told and not taken back.
    pub fn made<'j>(&self, key: &str, journal: &'j Journal) -> Option<&'j str> {
        self.steps().find_map(|(id, step)| match step {
            Step::Route { route, .. } if route.key() == key && !journal.undone(id) => journal.made(id),
            _ => None,
        })
    }

    /// A step by id.
    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.stages.get(id.stage)?.steps.get(id.step)
    }

    /// How long it takes at least, with the parts that it is the sum of; nothing where nothing is watched.
    pub fn least_duration(&self) -> (Duration, Vec<String>) {
        let (mut sum, mut settling, mut parts) = (Duration::ZERO, Duration::ZERO, Vec::new());
        let (mut late, mut is_awaited) = (Duration::ZERO, false);
        let settle = |convergence: &Convergence| match convergence.prove {
            Some(_) => Duration::ZERO,
            None => convergence.settle,
        };
        for (_, step) in self.steps() {
            match step {
                Step::Watch(watch) => {
                    sum += watch.hold;
                    let lags = watch.checks.iter().filter_map(|one| one.check.lag());
                    late += lags.max().unwrap_or_default();
                    // A budget waits until it can be seen, however short the hold is.
                    is_awaited |= watch.checks.iter().any(|one| matches!(one.check, Check::Budget(_)));
                    settling += watch.convergence.as_ref().map_or(Duration::ZERO, settle);
                    if !watch.hold.is_zero() {
                        let of = if watch.of_cohort {
                            "with the cohort".to_owned()
                        } else {
                            format!("at {} %", watch.percent)
                        };
                        parts.push(format!("{} {of}", shown(watch.hold)));
                    }
                }
                Step::Converge(convergence) => settling += settle(convergence),
                _ => {}
            }
        }
        if !settling.is_zero() && !parts.is_empty() {
            parts.push(format!("{} for the load balancer to settle", shown(settling)));
        }
        if !late.is_zero() && (is_awaited || !parts.is_empty()) {
            parts.push(format!("{} until CloudWatch has the last minutes", shown(late)));
        }
        if parts.is_empty() { (Duration::ZERO, parts) } else { (sum + settling + late, parts) }
    }

    /// The steps in words, and where it waits then.
    pub fn summary(&self) -> Vec<String> {
        let steps = self.steps().map(|(_, step)| step.summary());
        steps.chain(self.waits.as_ref().filter(|_| !self.is_empty()).map(Waits::summary)).collect()
    }
}

/// With one decimal where there is one.
fn percent(share: f64) -> String {
    let tenths = (share * 10.0).round() / 10.0;
    format!("{tenths}")
}

/// A terminal action in words, and what its target groups are called.
pub fn terminal_summary(terminal: &Terminal, called: impl Fn(&str) -> String) -> String {
    match terminal {
        Terminal::Forward(forward) => {
            let part = |(arn, _): &(String, u32)| format!("{} {} %", called(arn), percent(terminal.share(arn)));
            forward.groups.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        Terminal::FixedResponse { status, .. } => format!("a fixed {status} answer"),
        Terminal::Redirect(_) => "a redirect".to_owned(),
    }
}
