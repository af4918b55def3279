//! What every runbook must keep, whatever made it: each rule is a [`Kind`], each breach a [`Finding`].
//!
//! A runbook is walked through on paper: every stage is held against the world as the stages before it leave it. Nothing is
//! taken from the planner but what it says of the world (which color is live, what a dead rollout left), so a bug in how it
//! makes steps can't hide in how they are judged.

mod order;
mod sizes;
mod steps;
mod traffic;

#[cfg(test)]
mod tests;

use std::fmt;

use super::intent::{Environment, Intent};
use super::journal::StepId;
use super::route::{ALL, RouteSpec, SAME, Terminal};
use super::runbook::{Runbook, Step};
use super::situation;
use super::world::World;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Odd, and worth a line in the log: users are not hurt by it.
    Warning,
    /// The runbook must not be carried out.
    Fault,
}

/// Declares the kinds with their severities, so that none can be left out of [`Kind::ALL`].
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $severity:ident $kind:ident,)+) => {
        /// A rule, and why it is one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// Every rule.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),+];

            /// How much a breach matters.
            pub fn severity(self) -> Severity {
                match self {
                    $(Kind::$kind => Severity::$severity,)+
                }
            }
        }
    };
}

kinds! {
    // Each step by itself.
    /// A step doesn't take the last weight from a route: its requests would be answered with 503.
    Fault NoWeight,
    /// A forward has at most five target groups: AWS refuses more, in the middle of a rollout.
    Fault TooManyGroups,
    /// A weight is 0 to 999: AWS refuses any other.
    Fault WeightOutOfRange,
    /// A forward names a target group once: AWS refuses it twice.
    Fault GroupTwice,
    /// Where a group keeps clients at a target, a forward to several keeps them at a group, too: AWS refuses it otherwise, in the
    /// midst of a rollout.
    Fault NotSticky,
    /// The weights of a split add up to 100 or 1000: else the target color gets another percentage than its step says.
    Warning WeightsDoNotAddUp,
    /// Only a rule of the switch's own is made, moved, given conditions or deleted: all others belong to somebody else.
    Fault ForeignRule,
    /// What a step was planned on is what the steps before it leave: it is what its undo restores.
    Fault BeforeDiffers,
    /// A step changes something: one that doesn't was planned on something else than what is there.
    Warning NothingToDo,
    /// A check or watch is about the target color, with its own target group, and compared with another one: compared with
    /// itself, everything passes.
    Fault ChecksWrongSubject,

    // What is together in a stage.
    /// A stage has steps: the planner makes no other.
    Warning EmptyStage,
    /// The steps of a stage run together, so none of them changes a route that another one changes: the order of the calls
    /// would decide.
    Fault RouteTwiceInStage,
    /// No two steps of a stage write the same parameter: the order of the calls would decide.
    Fault ParameterTwiceInStage,
    /// No two steps of a stage size the same color: the order of the calls would decide.
    Fault ColorTwiceInStage,

    // The traffic.
    /// A target group gains production traffic only after a check of its targets' health, unless no route had it so that its
    /// health could not be known: ARCHITECTURE.md's first invariant.
    Fault TrafficBeforeChecks,
    /// The user's own checks come before the first request, too, except on a rollback to a color that a dead rollout has not
    /// left altogether: that one works already.
    Fault ValidationSkipped,
    /// A color whose health could not be known before it got traffic is checked right after: the record waits for it.
    Fault FirstColorNotProved,
    /// The target color's weight never falls in a rollout: clients that it has already would move back and forth.
    Fault TargetLosesWeight,
    /// In the end every route forwards to the target color alone, or to what a restoration is to restore.
    Fault NotArrived,
    /// In the end a route has the group stickiness that it had before traffic was split: the split's own must not stay.
    Fault StickinessNotRestored,
    /// A watch is about a color that has production traffic by then: without any, nothing can be seen to fail.
    Fault WatchWithoutTraffic,
    /// A watch is about the percentage that a route has by then.
    Warning WatchAtOtherWeight,
    /// The nodes are to converge to weights that a route has by then: to any others they never do.
    Fault ConvergesToOtherWeights,
    /// With `active` omitted no weight and no stickiness of an existing route changes: somebody else moves the traffic.
    Fault FollowerMovesTraffic,

    // The order of the stages.
    /// A production route moves before the record is written: the record says what is.
    Fault RecordBeforeRoutes,
    /// Nothing is checked after the record: a failure there would take back what is already told.
    Fault CheckAfterRecord,
    /// Where a color is named, the record says so in the end: it is what other pipelines read.
    Fault RecordNotWritten,
    /// The record is the switch's own, and it gets the target color's name.
    Fault RecordNamesAnotherColor,
    /// With `active` omitted a record that is there stays: somebody else writes it.
    Fault FollowerOverwritesRecord,
    /// A preview moves before production only to be checked: until then it shows the idle color, as its users expect.
    Fault PreviewMovedTooEarly,
    /// A rule that is no longer wanted is deleted last: a rollback would have to make it anew.
    Fault RemovedTooEarly,
    /// A rule that is still a route is not deleted, whatever it was called before.
    Fault RemovesWantedRule,
    /// A rule that an earlier rollout made for a cohort is this one's to take back: a rollback would leave it.
    Fault CohortNotTakenBack,
    /// In the end no rule of a cohort is left: it would go on leading users when everybody else moves on.
    Fault CohortStays,
    /// What comes afterwards holds no check: the rollout has arrived, and nothing is undone for it.
    Fault AfterwardsHoldsCheck,
    /// What comes afterwards moves no production traffic: it is left for the next apply when it fails.
    Fault AfterwardsMovesTraffic,
    /// Where traffic moved, the record and everything after it is `afterwards`: else a failure there would undo the rollout.
    Fault AfterwardsMissing,
    /// What a dead rollout did is a prefix of the steps: the machine takes all that is before a begun stage for done.
    Fault TakenOverNotFirst,
    /// What a dead rollout is said to have done moved a production route, and is there.
    Fault TakenOverNotThere,
    /// The end of a switch takes its rules and its record away, and touches nothing else.
    Fault RemovalTouchesTraffic,

    // Sizes.
    /// Sizes and minimums are lowered after the traffic and the record have moved: until then everything may go back.
    Fault ShrinksBeforeRecord,
    /// A color that serves production is not made smaller.
    Fault ShrinksLiveColor,
    /// Room is made before the traffic comes: afterwards it is too late.
    Warning RaisedAfterTraffic,
    /// With `active` omitted no size and no minimum changes: nothing is to go live.
    Fault FollowerSizes,
}

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which rule.
    pub kind: Kind,
    /// Where; none where it is about the whole runbook.
    pub at: Option<StepId>,
    /// What is wrong, in one sentence.
    pub message: String,
}

impl Finding {
    /// Whether the runbook must not be carried out.
    pub fn is_fault(&self) -> bool {
        self.kind.severity() == Severity::Fault
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "stage {}, step {}: ", at.stage + 1, at.step + 1)?;
        }
        write!(f, "{} ({:?})", self.message, self.kind)
    }
}

/// What a runbook is for: not every rule is about all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose<'a> {
    /// To move the traffic as the intent says.
    Rollout,
    /// To restore what these routes were before the switch.
    Restoration(&'a [(RouteSpec, Terminal)]),
    /// To take away what the switch made.
    Removal,
}

/// Holds a runbook that was made of this intent and this world against every rule. Nothing is found, unless the planner has
/// a bug.
pub fn lint(runbook: &Runbook, intent: &Intent, world: &World, purpose: Purpose<'_>) -> Vec<Finding> {
    let mut worlds = vec![world.clone()];
    for stage in &runbook.stages {
        let mut next = worlds.last().cloned().unwrap_or_default();
        stage.steps.iter().for_each(|step| step.foresee(&mut next));
        worlds.push(next);
    }
    let mut walk = Walk { runbook, intent, purpose, worlds, findings: Vec::new() };
    steps::judge(&mut walk);
    order::judge(&mut walk);
    traffic::judge(&mut walk);
    sizes::judge(&mut walk);
    walk.findings
}

/// A runbook, walked through on paper.
struct Walk<'a> {
    runbook: &'a Runbook,
    intent: &'a Intent,
    purpose: Purpose<'a>,
    /// The world before each stage, and the one after the last.
    worlds: Vec<World>,
    findings: Vec<Finding>,
}

/// A group that gets a larger part of a production route by a step.
struct Gain<'a> {
    at: StepId,
    route: &'a RouteSpec,
    /// How the route was before; none if the step makes it.
    before: Option<&'a Terminal>,
    after: &'a Terminal,
    group: &'a str,
}

impl<'a> Walk<'a> {
    fn find(&mut self, kind: Kind, at: Option<StepId>, message: impl Into<String>) {
        self.findings.push(Finding { kind, at, message: message.into() });
    }

    /// All steps in order.
    fn steps(&self) -> impl DoubleEndedIterator<Item = (StepId, &'a Step)> + use<'a> {
        self.runbook.steps()
    }

    /// The world as the stages before this one leave it.
    fn before(&self, stage: usize) -> &World {
        &self.worlds[stage.min(self.worlds.len() - 1)]
    }

    /// The world in the end.
    fn end(&self) -> &World {
        self.before(self.runbook.stages.len())
    }

    fn is_rollout(&self) -> bool {
        self.purpose == Purpose::Rollout
    }

    /// Whether `active` is omitted, so that the switch follows whatever is live.
    fn follows(&self) -> bool {
        self.is_rollout() && self.intent.active.is_none()
    }

    /// The target color of a rollout.
    fn target(&self) -> Option<String> {
        let color = situation::target_color(self.intent, &self.worlds[0]).filter(|_| self.is_rollout())?;
        self.intent.environments.contains_key(&color).then_some(color)
    }

    /// Whether a route carries production traffic.
    fn is_production(&self, route: &RouteSpec) -> bool {
        !self.is_preview(route) && !self.is_trial(route)
    }

    fn is_preview(&self, route: &RouteSpec) -> bool {
        self.intent.preview_routes.iter().any(|preview| preview.key() == route.key())
    }

    /// Whether it is the rule that no request takes.
    fn is_trial(&self, route: &RouteSpec) -> bool {
        self.worlds[0].trials.iter().any(|trial| trial.key() == route.key())
    }

    /// Whether a dead rollout did this step.
    fn is_taken_over(&self, id: StepId) -> bool {
        self.runbook.taken_over.contains(&id)
    }

    /// The steps that are to move production routes.
    fn production(&self) -> impl DoubleEndedIterator<Item = (StepId, &'a RouteSpec, &'a Terminal)> {
        self.steps().filter_map(|(id, step)| match step {
            Step::Route { route, after, .. } if self.is_production(route) && !self.is_taken_over(id) => {
                Some((id, route, after))
            }
            _ => None,
        })
    }

    /// The steps that write the record.
    fn records(&self) -> impl DoubleEndedIterator<Item = StepId> {
        self.steps().filter(|(_, step)| matches!(step, Step::Record { .. })).map(|(id, _)| id)
    }

    /// The last stage that moves production traffic or writes the record.
    fn arrival(&self) -> Option<usize> {
        let last = self.production().map(|(id, ..)| id.stage).max();
        last.max(self.records().map(|id| id.stage).max())
    }

    /// How much of a production route a color has before a stage, at most.
    fn most(&self, stage: usize, environment: &Environment) -> f64 {
        let routes = self.intent.routes.iter().filter_map(|route| self.before(stage).routes.get(&route.key()));
        routes.map(|observed| environment.share(&observed.terminal)).fold(0.0, f64::max)
    }

    /// The groups that gain production traffic, in order.
    fn gains(&self) -> Vec<Gain<'_>> {
        let target = self.target();
        let mut gains = Vec::new();
        for (at, route, after) in self.production() {
            let Terminal::Forward(forward) = after else { continue };
            let before = self.before(at.stage).routes.get(&route.key()).map(|observed| &observed.terminal);
            let target = target.as_ref().and_then(|color| self.intent.group(route, color));
            let total = forward.groups.iter().fold(0_u32, |sum, (_, weight)| sum.saturating_add(*weight));
            for (group, _) in &forward.groups {
                let had = before.map_or(0.0, |before| before.share(group));
                // The others share what is left as they did, in whole weights: that rounds a little up, or down.
                let rounded = if self.is_rollout() && had > 0.0 && target != Some(group) {
                    2.0 * 100.0 / f64::from(total.max(1))
                } else {
                    0.0
                };
                if after.share(group) > had + rounded + SAME {
                    gains.push(Gain { at, route, before, after, group });
                }
            }
        }
        gains
    }

    /// With `active` omitted, and where a rollout waits, a new rule forwards as the other routes do: nobody gains anything that it had
    /// not. What gains otherwise then has a rule of its own.
    fn is_exempt(&self, gain: &Gain<'_>) -> bool {
        let routes = self.intent.routes.iter().filter_map(|route| self.before(gain.at.stage).routes.get(&route.key()));
        let mut alike = routes.filter(|observed| observed.terminal.shares_like(gain.after));
        match gain.before {
            Some(_) => self.follows(),
            None => (self.follows() || self.runbook.waits.is_some()) && alike.next().is_some(),
        }
    }

    /// A color's name for its target group, or the group's own.
    fn name(&self, group: &str) -> String {
        self.intent.called(group)
    }
}
