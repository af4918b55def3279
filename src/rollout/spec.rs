//! A switch in the shape of its configuration: every argument of it, declared once.
//!
//! What a check or a step itself can be told is declared at `check` and `strategy`. From here to an
//! [`super::Intent`] it is only a change of shape.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::budget::{Budget, BudgetCheck};
use super::capacity::{Before, CapacityPolicy};
use super::check::{
    AlarmCheck, AlarmPolicy, Block, Check, Checking, CommandCheck, HealthyPolicy, HttpCheck, LambdaCheck, MetricCheck,
    SessionCheck, Subject,
};
use super::cohort::Cohort;
use super::freeze::Freeze;
use super::intent::OnFailure;
use super::route::Conditions;
use super::strategy::{Approval, Prove, Shift};
use super::{accepts, intent, processing, strategy};
use crate::argument::{Arguments, Choice, rules};

/// The whole switch.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Switch {
    /// The name of the switch, for people and tags: 1 to 128 letters, digits, spaces and `+ - = . _ : / @`.
    #[argument(required, text = rules::name)]
    pub name: String,
    /// The region of the routes, the target groups and everything else that the switch calls. If omitted, it is that of the
    /// provider.
    #[argument(computed, text = rules::region, change = Replaces)]
    pub region: Option<String>,
    /// The color that gets the traffic: a key of `environments`. If omitted, the switch follows whichever color is
    /// live and moves nothing.
    #[argument(computed)]
    pub active: Option<String>,
    /// The two to five colors by name: a map of objects with a `target_group_arn`. Attributes that the switch doesn't know are
    /// ignored, so that a `bluegreen_environment` with `for_each`, or the outputs of a module, can be passed as they are.
    #[argument(required)]
    pub environments: BTreeMap<String, Environment>,
    /// The routes whose traffic the switch moves. Each is the default action of a listener (`listener_arn`), an existing rule
    /// (`rule_arn`), or a rule that the switch makes and owns (`listener_arn`, `priority` and `conditions`).
    #[argument(required, not_empty)]
    pub routes: Vec<Route>,
    /// Routes that always forward to the idle color, in the same shapes as `routes`.
    pub preview_routes: Vec<Route>,
    /// The record: the name of an SSM parameter whose value is the live color, for pipelines to read. It is made if it doesn't
    /// exist. While a rollout runs, the parameter with `.rollout` after that name keeps other rollouts out; without a record
    /// nothing does.
    #[argument(text = rules::parameter)]
    pub parameter: Option<String>,
    /// How a plan treats a difference between the `mirror`s of the environments: as an error, as a warning, or not at all.
    /// Environments without a `mirror` are not compared.
    #[argument(default = "error")]
    pub parity: Parity,
    /// The checks that a color has to pass before it gets any request of a route in `routes`.
    pub validation: Option<Validation>,
    /// The steps in which traffic moves: `steps`, `canary` or `linear`. All routes move together. If omitted, all
    /// traffic moves at once.
    pub strategy: Option<Strategy>,
    /// The checks that the new color has to pass during every hold and after the last step. What happens when it
    /// fails more looks than `max_failures`, `on_failure` says.
    pub verification: Option<Verification>,
    /// Times in which no rollout begins: a plan that would lead users to another color is refused, and so is the apply of an earlier one. The way
    /// back is always open: to the color before of a rollout that did not come to its end, by a smaller `up_to`, and to a color that runs
    /// the `release` that it ran when it was live.
    pub freeze: Vec<Freeze>,
    /// What happens when a step or a check fails: `rollback` puts everything back, `hold` stops where it is and says so.
    #[argument(default = "rollback")]
    pub on_failure: Trouble,
    /// What happens when the run is stopped: `rollback` puts everything back, `hold` stops where it is and says so.
    #[argument(default = "rollback")]
    pub on_interrupt: Trouble,
    /// Target group stickiness while traffic is split, so that a client stays with the color that it met first. The last step
    /// brings back what was there before.
    pub stickiness: Option<Stickiness>,
    /// Notifications about rollouts.
    pub notify: Option<Notify>,
    /// The sizes of the colors, for environments with an Auto Scaling group or an ECS service: the size of a color before it
    /// gets traffic, and what the other one keeps. During a rollout the minimum of both Auto Scaling groups is held at what
    /// they have, and that of services which Application Auto Scaling keeps, so that no scale-in takes anything away. The tag
    /// `bluegreen:pinned-min` notes what is to be given back: a provider that manages the group or the service should ignore it.
    pub capacity: Option<Capacity>,
    /// The attribute of that name of a `bluegreen_migration`. A color that still has the release that it had when the database
    /// contracted can then not become live.
    #[argument(plain)]
    pub contracted_for: Option<Contracted>,
    /// Whether a color can become live that still has the release that it had when the database contracted, because that
    /// release works with the contracted schema.
    #[argument(default = false)]
    pub allow_after_contract: bool,
    /// What a destroy does with the routes: `keep` leaves them as they are, `restore` brings back what was there before the
    /// switch. Rules and the record that the switch made are deleted either way.
    #[argument(default = "keep")]
    pub on_destroy: OnDestroy,
    /// How long operations may take.
    #[argument(change = Aside)]
    pub timeouts: Option<Timeouts>,
}

/// One color.
#[derive(Clone, Debug, Default, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Environment {
    /// The target group of the color, for routes without `target_group`.
    #[argument(required)]
    pub target_group_arn: String,
    /// Further target groups of the color by name, for routes that name one: of an API beside a website, of an internal load balancer
    /// beside a public one, for gRPC beside HTTP. All colors have the same names.
    pub target_groups: BTreeMap<String, String>,
    /// The release that runs there, in your words, for logs and reports, and for `contracted_for` to compare.
    pub release: Option<String>,
    /// Everything that must be equal in all colors, as `bluegreen_environment` computes it.
    pub mirror: Option<String>,
    /// The values in `mirror` that contain the name of the color, as `bluegreen_environment` computes it.
    pub mirror_verbatim: Option<String>,
    /// The Auto Scaling group of the color, for `capacity`.
    pub autoscaling_group_name: Option<String>,
    /// The ECS service of the color, for `capacity`.
    pub service_arn: Option<String>,
}

/// A place where traffic comes from.
#[derive(Clone, Debug, Default, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Route {
    /// The listener whose default action is meant, or on which the switch makes a rule.
    pub listener_arn: Option<String>,
    /// An existing rule. Conflicts with `listener_arn`, `priority` and `conditions`.
    pub rule_arn: Option<String>,
    /// The name of the target groups that this route leads to, a key of `target_groups` in all `environments`. If omitted, it leads to
    /// the `target_group_arn` of the colors. All routes move together, whichever target groups they lead to.
    pub target_group: Option<String>,
    /// The priority of the rule that the switch makes.
    #[argument(range = 1..=50_000)]
    pub priority: Option<i32>,
    /// The conditions of the rule that the switch makes. A request has to meet all conditions that are set; together they may have
    /// at most five values, and six wildcards in them.
    pub conditions: Option<Conditions>,
    /// What that rule does before it forwards.
    #[argument(flatten)]
    pub processing: processing::Written,
}

/// What is checked before a color gets traffic.
#[derive(Clone, Debug, Default, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Validation {
    /// The number of healthy targets that the color needs. This check is on even where nothing is written.
    pub healthy: Option<HealthyPolicy>,
    /// A session that begins on the live color and has to go on in the idle one.
    pub session: Option<Box<SessionCheck>>,
    /// What both blocks have.
    #[argument(flatten)]
    pub checks: Checks,
}

/// What is checked while a color gets traffic.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace, default)]
pub struct Verification {
    /// Time to watch after the last step.
    #[argument(default_is = "`5m` with `metrics` or a `budget` and to `0s`, which is one look, without")]
    pub duration: Option<Duration>,
    /// Time from one look to the next.
    #[argument(default = "10s", text = rules::some_time)]
    pub interval: Duration,
    /// The number of looks that may fail in a hold.
    #[argument(range = 0..=1000, default = 0)]
    pub max_failures: u32,
    /// The probability with which `error_rate` and latencies may throw back, by chance, a color that keeps their limits: over all of them, all
    /// looks, steps and target groups of one rollout together, those of `validation` too. More than 0 and less than 0.5. What is smaller needs more
    /// requests to tell that a color is worse.
    #[argument(number = accepts::level, default = 0.01)]
    pub error_level: f64,
    /// The failed requests that a rollout may cost, over all steps and all target groups of `routes`. When they are used up, the rollout ends at
    /// once, whatever `max_failures` says. 5xx answers of the color's targets count, connections that they refuse, and functions that fail.
    /// A step is not taken if the requests that are likely to fail before CloudWatch shows them would use up the rest, by the percentage
    /// that failed in the step before. An apply that continues a rollout starts with the whole budget.
    pub budget: Option<Budget>,
    /// The number of healthy targets that the color needs at each look.
    #[argument(without(sustained, timeout, interval))]
    pub healthy: Option<HealthyPolicy>,
    /// What both blocks have.
    #[argument(flatten)]
    pub checks: Checks,
}

/// The checks that can be made before and with traffic.
#[derive(Clone, Debug, Default, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Checks {
    /// HTTP requests, and what their answers must be. In `url`, `headers`, `body`, `connect_to` and `body_matches`, `{color}` stands
    /// for the color that is checked.
    pub http: Vec<HttpCheck>,
    /// Lambda functions that must not fail. A function that takes long answers `{"status": "pending"}` and is asked again;
    /// `hookStatus` and `callBackDelay`, as for ECS deployments, are understood too.
    pub lambda: Vec<LambdaCheck>,
    /// Commands that must exit with 0, run where Terraform runs. Their environment has `BLUEGREEN_COLOR`, `BLUEGREEN_LIVE`,
    /// `BLUEGREEN_SWITCH`, `BLUEGREEN_ROLLOUT` and `BLUEGREEN_TARGET_GROUP_ARN`.
    pub command: Vec<CommandCheck>,
    /// The names of CloudWatch alarms that must not be in `ALARM`; `{color}` in a name stands for the color that is checked.
    #[argument(list = alarm_names)]
    pub alarms: Vec<String>,
    /// What an alarm without data, or one that can't be read, counts as.
    pub alarm_policy: Option<AlarmPolicy>,
    /// CloudWatch metrics, each with at least one limit. They are measured over whole periods since traffic moved; before that, over
    /// `window`.
    pub metrics: Vec<MetricCheck>,
}

/// The steps in which traffic moves.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace, default)]
pub struct Strategy {
    /// The steps in order, each with more weight than the one before. A last step to 100% always follows.
    pub steps: Vec<Step>,
    /// One step: `percent` of the traffic for `interval`, then all of it. Conflicts with `steps` and `linear`.
    pub canary: Option<Regular>,
    /// Equal steps: `percent` more of the traffic every `interval`. Conflicts with `steps` and `canary`.
    pub linear: Option<Regular>,
    /// The percentage of the traffic at which the rollout waits for a person, 0.1 to 100. The apply ends well there, as often as it is run,
    /// and the record goes on naming the color before. Raised, or left out, it lets the next apply go on, from the checks; lowered, it takes traffic
    /// back; `active` set to the color before takes all of it back. Without anybody to approve it is a standing split for an A/B test. What
    /// is to become live where no other color has traffic gets all of it.
    #[argument(number = strategy::up_to, default_is = "100, which is all of the way")]
    pub up_to: Option<f64>,
    /// Whose approval is waited for at `up_to`, for how long, and what happens without it. To approve is to raise `up_to`, or leave it out.
    pub approval: Option<Approval>,
    /// Users who get the new color before the first step. The switch makes a rule before each route for them, watches `verification` for
    /// `hold`, and deletes the rules once all traffic has moved, or is back. Routes of Network Load Balancers, and those that forward
    /// nothing yet, have none.
    pub cohort: Option<Cohort>,
    /// Whether the way back is rehearsed after the checks, before the cohort and the first step: 1% of the traffic (or the first step, where that
    /// is less) goes over and back at once. If it can't be led back, or that takes more than 30 seconds, nobody else ever gets the new color.
    /// Routes with group stickiness are left out: their clients would not come back.
    #[argument(default = false)]
    pub rehearse: bool,
    /// Time for the nodes of the load balancer to follow a step before the time of its hold counts, where `prove` doesn't show it. Checks
    /// that ask the color itself (`healthy`, `alarms`, and requests to an address with `{color}`) count from the first second on.
    #[argument(default = "10s")]
    pub settle: Duration,
    /// A request by the production route whose answers tell which color gave them, so its `url` is the same for all colors, and with
    /// status 200. The time of a hold counts once the answers agree with the weights.
    pub prove: Option<Prove>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Step {
    /// The percentage of the traffic that the new color gets, 0.1 to 99.9, with at most one decimal.
    #[argument(required, number = strategy::weight)]
    pub weight: f64,
    /// Time to stay at this step.
    #[argument(default = "0s")]
    pub hold: Duration,
}

/// Steps that are all alike.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Regular {
    /// The percentage of the traffic that moves in a step, 0.1 to 99.9, with at most one decimal.
    #[argument(required, number = strategy::weight)]
    pub percent: f64,
    /// Time to stay at a step.
    #[argument(required, text = rules::some_time)]
    pub interval: Duration,
}

/// Stickiness to a target group.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Stickiness {
    /// How long a client stays with a color, in whole seconds.
    #[argument(required, text = accepts::whole_seconds, lasting = "1s"..="168h")]
    pub duration: Duration,
}

/// Who is told of rollouts.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Notify {
    /// An SNS topic that gets a JSON message at each phase of a rollout: `started`, `validated`, `shifted`, `watched`,
    /// `rolling_back`, `completed`, `waiting`, `rolled_back`, `held`, `stuck`, `unknown`.
    #[argument(required, text = topic)]
    pub sns_topic_arn: String,
}

/// The sizes of the colors.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Capacity {
    /// The size of a color before it gets traffic: `match_live` for as many instances or tasks as the live color has, or a
    /// number. A color that is larger stays so.
    #[argument(default = "match_live", text = match_live_or_number)]
    pub before: String,
    /// The size of the color that lost the traffic: `keep` for what it has, or a number, though not below its `min_size`.
    #[argument(default = "keep", text = keep_or_number)]
    pub after_idle: String,
}

/// What a contract of a database says.
#[derive(Clone, Debug, Default, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Contracted {
    /// The color that was live when the database contracted.
    pub color: Option<String>,
    /// When (RFC 3339).
    pub at: Option<String>,
    /// The migration.
    pub migration: Option<String>,
}

/// How long operations may take.
#[derive(Clone, Debug, Default, PartialEq, Arguments)]
#[arguments(change = Aside)]
pub struct Timeouts {
    /// Time for a create.
    #[argument(text = rules::some_time, default_is = "`30m` plus the time that the steps and the verification take")]
    pub create: Option<Duration>,
    /// Time for an update.
    #[argument(text = rules::some_time, default_is = "`30m` plus the time that the steps and the verification take")]
    pub update: Option<Duration>,
    /// Time for a destroy.
    #[argument(text = rules::some_time, default = "10m")]
    pub delete: Option<Duration>,
}

/// What a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Choice)]
pub enum Parity {
    /// It keeps the plan from being applied.
    Error,
    /// It is told.
    Warn,
    /// It is nothing.
    Off,
}

/// What happens when a rollout can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Choice)]
pub enum Trouble {
    /// What was done is undone.
    Rollback,
    /// It stops where it is.
    Hold,
}

impl From<Trouble> for OnFailure {
    fn from(trouble: Trouble) -> OnFailure {
        match trouble {
            Trouble::Rollback => OnFailure::Rollback,
            Trouble::Hold => OnFailure::Hold,
        }
    }
}

/// What a destroy does with the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Choice)]
pub enum OnDestroy {
    /// They stay.
    Keep,
    /// They become what they were before the switch.
    Restore,
}

impl Validation {
    /// What must hold, each check with its place in the configuration.
    pub fn wanted(self) -> intent::Validation {
        let healthy = self.healthy.unwrap_or_default();
        intent::Validation { healthy, checks: self.checks.wanted(Block::Validation, self.session) }
    }
}

impl Verification {
    /// Time to watch after the last step: where metrics are to be judged, there must be some.
    pub fn lasts(&self) -> Duration {
        let measures = !self.checks.metrics.is_empty() || self.budget.is_some();
        self.duration.unwrap_or(if measures { Duration::from_secs(300) } else { Duration::ZERO })
    }

    /// What must hold, each check with its place in the configuration.
    pub fn wanted(self) -> strategy::Verification {
        let (duration, block) = (self.lasts(), Block::Verification);
        let healthy = self.healthy.map(Check::Healthy);
        let of_rollout = |budget| BudgetCheck { budget, own: BTreeSet::new(), all: BTreeSet::new(), next: None };
        let budget = self.budget.map(|budget| Check::Budget(of_rollout(budget)));
        let own = healthy.into_iter().chain(budget).map(|check| checking(block, None, check));
        let checks = own.chain(self.checks.wanted(block, None)).collect();
        strategy::Verification {
            duration,
            interval: self.interval,
            max_failures: self.max_failures,
            error_level: self.error_level,
            checks,
        }
    }
}

fn checking(block: Block, index: Option<usize>, check: Check) -> Checking {
    Checking { block, index, subject: Subject::default(), check }
}

impl Checks {
    fn wanted(self, block: Block, session: Option<Box<SessionCheck>>) -> Vec<Checking> {
        // A kind of check that is forgotten here would be accepted, and never run.
        let Self { http, lambda, command, alarms, alarm_policy, metrics } = self;
        let http = http.into_iter().map(|mut check| {
            check.fill(block);
            Check::Http(check)
        });
        let metrics = metrics.into_iter().map(|mut check| {
            check.fill(check.metric.kind());
            Check::Metric(check)
        });
        let numbered = |checks: Vec<Check>| {
            checks.into_iter().enumerate().map(move |(n, check)| checking(block, Some(n), check)).collect::<Vec<_>>()
        };
        let mut all = numbered(http.collect());
        all.extend(session.map(|check| checking(block, None, Check::Session(check))));
        all.extend(numbered(lambda.into_iter().map(Check::Lambda).collect()));
        all.extend(numbered(command.into_iter().map(Check::Command).collect()));
        if !alarms.is_empty() {
            let check = AlarmCheck { names: alarms, policy: alarm_policy.unwrap_or_default() };
            all.push(checking(block, None, Check::Alarms(check)));
        }
        all.extend(numbered(metrics.collect()));
        all
    }
}

impl Strategy {
    /// The steps, whichever way they were written.
    pub fn shifts(&self) -> Vec<Shift> {
        let permille = |percent: f64| (percent * 10.0).round() as u32;
        let written = self.steps.iter().map(|step| Shift { permille: permille(step.weight), hold: step.hold });
        let mut shifts: Vec<Shift> = written.collect();
        for (regular, most) in [(&self.canary, 1), (&self.linear, usize::MAX)] {
            let Some(Regular { percent, interval }) = regular else { continue };
            // A state may hold what no configuration may: no weight at all would never come to an end.
            let part = permille(*percent).max(1);
            let weights = (1..1000_u32).map(|n| n.saturating_mul(part)).take_while(|sum| *sum < 1000).take(most);
            shifts.extend(weights.map(|permille| Shift { permille, hold: *interval }));
        }
        shifts
    }

    /// The same for a rollout.
    pub fn wanted(self) -> strategy::Strategy {
        let up_to = self.up_to.map(|percent| (percent * 10.0).round() as u32).filter(|permille| *permille < 1000);
        strategy::Strategy {
            steps: self.shifts(),
            settle: self.settle,
            prove: self.prove,
            cohort: self.cohort,
            rehearse: self.rehearse,
            up_to,
            approval: self.approval,
        }
    }
}

impl Capacity {
    /// The same for a rollout.
    pub fn wanted(&self) -> CapacityPolicy {
        CapacityPolicy {
            before: self.before.parse().map_or(Before::MatchLive, Before::Number),
            after_idle: self.after_idle.parse().ok(),
        }
    }
}

fn alarm_names(names: &[Option<&str>]) -> Result<(), String> {
    if names.contains(&Some("")) { Err("an alarm has no name".to_owned()) } else { Ok(()) }
}

fn word_or_number(text: &str, word: &str) -> Result<(), String> {
    if text == word || text.parse::<u16>().is_ok() {
        return Ok(());
    }
    Err(format!("{text:?} is neither {word:?} nor a whole number"))
}

fn match_live_or_number(text: &str) -> Result<(), String> {
    word_or_number(text, "match_live")
}

fn keep_or_number(text: &str) -> Result<(), String> {
    word_or_number(text, "keep")
}

fn topic(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(':').collect();
    if matches!(parts.as_slice(), ["arn", _, "sns", _, _, name] if !name.is_empty()) {
        return Ok(());
    }
    Err(format!("{text:?} is not the ARN of an SNS topic"))
}
