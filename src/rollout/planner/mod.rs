//! From an intent and a world to a runbook.

mod cohort;
mod limit;
mod outline;
mod rehearsal;
mod route_steps;
mod trial;
mod whom;

use std::collections::BTreeMap;

use crate::rollout::capacity::Capacity;
use crate::rollout::check::{Check, Checking, Subject};
use crate::rollout::intent::{Environment, Intent, OnFailure, Removal};
use crate::rollout::journal::StepId;
use crate::rollout::lock_record::LockRecord;
use crate::rollout::route::{NEAR, Observed, RouteSpec, Stickiness, Terminal, short};
use crate::rollout::runbook::{Convergence, Runbook, Step, Watch, terminal_summary};
use crate::rollout::situation::{
    arn, begun, current, idle, is_all_on, is_ours_by_looks, target_color, undoes, unfinished,
};
use crate::rollout::strategy::Shift;
use crate::rollout::world::World;

pub use self::cohort::{Listener, cohort_listeners, placed, unplaced};
pub use self::outline::outline;
pub use self::route_steps::to_be_asked;
use self::route_steps::{
    PutRight, about, attach, attach_anyway, can_be_undone, health_check, join_route, lead, part, put_right, record,
    remove,
};
pub use self::trial::{trial_listeners, tried, unproved};

/// Why there can be no runbook.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// A route of somebody else's isn't there.
    RouteMissing(Box<RouteSpec>),
    /// A rule that the switch is to make has the priority of a rule that it didn't make.
    PriorityTaken(Box<RouteSpec>),
    /// A color can't be made as large as it has to be before it gets traffic.
    TooSmall {
        /// The color.
        color: String,
        /// How large it has to be.
        wanted: i32,
        /// How large it can be.
        max: i32,
    },
    /// No color is named, none is live and the record names none.
    NothingToFollow,
    /// A route can't have the part at which the rollout is to wait: it forwards to nobody, has no room for one more group, or is one
    /// that nobody knows where to lead meanwhile.
    CannotWait {
        /// The route.
        route: Box<RouteSpec>,
        /// The part, in tenths of a percent.
        permille: u32,
    },
    /// A rollout is to go back when nobody approves, and what serves now is no color.
    NoWayBack,
    /// The cohort of a route can't be led by a rule of its own.
    NoCohort {
        /// The route.
        route: Box<RouteSpec>,
        /// Why not.
        why: String,
    },
}

/// How long targets that are counted again, while users are there, may be too few.
pub const RECHECK: std::time::Duration = std::time::Duration::from_secs(20);

/// AWS allows no more target groups in one action.
pub(super) const MAX_GROUPS: usize = 5;

/// Plans the way from what is to what shall be. Deterministic; an empty runbook means that nothing is to be done.
///
/// The order: the color to go live is attached at weight 0 if it is in no route yet, so that its health can be known, and
/// previews are led to it; then the checks; then all routes move, step by step, each step being watched; then the record says so; preview routes
/// and rules no longer wanted come last. Where no route can take the color without taking something away, a rule that no
/// request takes has it meanwhile; where none can be made, health is checked right after the move, and the record waits for it.
///
/// What a rollout left that was killed on its way to the same color is gone on with, from the step where the traffic is.
/// Back to where a rollout came from it goes at once: that color is known to work.
///
/// # Errors
/// See [`Refusal`].
pub fn plan(intent: &Intent, world: &World) -> Result<Runbook, Refusal> {
    refuse(intent, world)?;
    let color = target_color(intent, world);
    if let Some(color) = color.as_deref() {
        refuse_too_small(intent, world, color)?;
    }
    let runbook = Runbook {
        on_failure: intent.on_failure,
        on_interrupt: intent.on_interrupt,
        error_level: intent.verification.as_ref().map(|verification| verification.error_level),
        ..Runbook::default()
    };
    let mut plan = Draft::new(intent, world, runbook);
    let is_first = plan.takes_from_nobody(color.as_deref());
    let moves = match color.as_deref() {
        Some(color) if intent.active.is_some() || current(intent, world).live.is_none() => plan.lead_to(color),
        Some(color) => plan.follow(Some(color)),
        None => {
            let mut routes = intent.routes.iter().chain(&intent.preview_routes);
            if intent.environments.is_empty() || routes.any(|route| !world.routes.contains_key(&route.key())) {
                return Err(Refusal::NothingToFollow);
            }
            plan.follow(None)
        }
    };
    // Whoever is live by then stays so: a verified release, or a way back, is not taken back for a parameter, or for what else a
    // rule is to do.
    if moves {
        plan.runbook.afterwards = Some(plan.runbook.stages.len());
        plan.dismiss();
    }
    for routes in [&intent.routes, &intent.preview_routes] {
        plan.put_right(routes);
    }
    let recorded = if plan.runbook.waits.is_some() {
        // Whoever waits is not live: a record that isn't there, or was left behind by an earlier rollout, names the color before.
        plan.before.clone().filter(|_| plan.world.record.is_none() || plan.world.record == color)
    } else {
        color.clone()
    };
    if let Some(color) = recorded {
        let record = record(intent, &plan.world, &color);
        plan.push(record.into_iter().collect());
    }
    plan.finish(color.as_deref());
    // A rule that led a cohort is not made again for whatever else fails.
    if !moves {
        let first = plan.runbook.stages.len();
        plan.dismiss();
        plan.runbook.afterwards = (plan.runbook.stages.len() > first).then_some(first);
    }
    if is_first {
        plan.runbook.spare_first();
    }
    plan.runbook.tell_what_comes_next();
    plan.refused.map_or(Ok(plan.runbook), Err)
}

/// Plans the end of a switch: its own rules go, and the record is as it shall be.
pub fn plan_removal(removal: &Removal, world: &World) -> Runbook {
    let mut runbook = Runbook { on_failure: OnFailure::Leave, on_interrupt: OnFailure::Leave, ..Runbook::default() };
    let own = removal.own_rules.iter().filter_map(|route| remove(world, route));
    let record = removal.record.as_ref().map(|(parameter, after)| Step::Record {
        parameter: parameter.clone(),
        before: world.record.clone(),
        after: after.clone(),
    });
    let record = record.filter(|step| !step.holds(world));
    runbook.push(own.collect());
    runbook.push(record.into_iter().collect());
    runbook
}

/// Plans the way of routes back to where they led before the switch. Whoever gets traffic by that is checked like any
/// color about to go live; all routes go together.
pub fn plan_restoration(intent: &Intent, originals: &[(RouteSpec, Terminal)], world: &World) -> Runbook {
    let color_of = |arn: &str| intent.color_of(arn);
    let step = |(route, original): &(RouteSpec, Terminal), world: &World| {
        let before = world.routes.get(&route.key())?;
        let mut step = route_steps::step((intent, world), route, Some(before), original.clone());
        if let Step::Route { words, .. } = &mut step {
            words.push_str(", as before");
        }
        (!step.holds(world)).then_some(step)
    };
    let steps: Vec<Step> = originals.iter().filter_map(|original| step(original, world)).collect();
    let mut plan = Draft::new(intent, world, Runbook::default());
    let mut gaining: BTreeMap<(String, String), Vec<&RouteSpec>> = BTreeMap::new();
    for step in &steps {
        let Step::Route { route, before: Some(before), after: after @ Terminal::Forward(forward), .. } = step else {
            continue;
        };
        for (arn, _) in forward.groups.iter().filter(|(arn, _)| after.gives_more(arn, Some(&before.terminal))) {
            let color = color_of(arn).map_or_else(|| short(arn), str::to_owned);
            gaining.entry((color, arn.clone())).or_default().push(route);
        }
    }
    let subjects = gaining.iter().map(|((color, arn), routes)| plan.subject(color, arn, routes, Direction::Start));
    let subjects: Vec<Subject> = subjects.collect();
    for subjects in subjects.chunk_by(|one, other| one.color == other.color) {
        plan.push(subjects.iter().map(|subject| health_check(intent, subject)).collect());
        // The user's own checks are about colors.
        let color = &subjects[0].color;
        let whole = plan.whole(color, Direction::Start);
        let checks = about(intent, &intent.validation.checks, (subjects, &whole));
        if intent.environments.contains_key(color) && !checks.is_empty() {
            plan.show(color);
            plan.push(checks.into_iter().map(Step::Check).collect());
        }
    }
    // A preview that was led to whom its checks are about is no longer where it was.
    let steps = originals.iter().filter_map(|original| step(original, &plan.world)).collect();
    plan.push(steps);
    plan.runbook
}

fn refuse(intent: &Intent, world: &World) -> Result<(), Refusal> {
    for route in intent.routes.iter().chain(&intent.preview_routes) {
        match (route, world.routes.get(&route.key())) {
            (RouteSpec::OwnRule { .. }, None) => {}
            (RouteSpec::OwnRule { .. }, Some(seen)) => {
                let ours = route.is_made(seen) || is_ours_by_looks(intent, route, seen);
                let taken = seen.place.as_ref().is_some_and(|place| place.taken_by.is_some());
                if !ours || taken {
                    return Err(Refusal::PriorityTaken(Box::new(route.clone())));
                }
            }
            (_, None) => return Err(Refusal::RouteMissing(Box::new(route.clone()))),
            (_, Some(_)) => {}
        }
    }
    Ok(())
}

/// A color whose maximum is below what it needs would stand there too small with all the traffic.
fn refuse_too_small(intent: &Intent, world: &World, color: &str) -> Result<(), Refusal> {
    let live = current(intent, world).live.filter(|live| live != color);
    let (Some(policy), Some(live)) = (intent.capacity, live) else { return Ok(()) };
    // The way back is no matter of sizes: the color carried everything a moment ago.
    if intent.active.is_none() || unfinished(intent, world).is_some_and(|lock_record| undoes(lock_record, color)) {
        return Ok(());
    }
    let wanted = policy.before.wanted(world.capacities.get(&live).copied());
    match (world.capacities.get(color), wanted) {
        (Some(now), Some(wanted)) if wanted > now.max => {
            Err(Refusal::TooSmall { color: color.to_owned(), wanted, max: now.max })
        }
        _ => Ok(()),
    }
}

/// A runbook as it grows, and the world as it will be after it.
struct Draft<'i> {
    intent: &'i Intent,
    world: World,
    runbook: Runbook,
    /// The color that loses its traffic.
    left: Option<String>,
    /// Where the previews led before they were led to the color that is checked.
    shown: Vec<(RouteSpec, Terminal)>,
    /// Whom checks are about that are of no target group, as it was before anything moved.
    whole: Subject,
    /// Whether a cohort has the color already.
    has_cohort: bool,
    /// Whether what a rollout that did not come to its end moved is led back.
    is_back: bool,
    /// Why there can be no runbook, where that is only found while it is made.
    refused: Option<Refusal>,
    /// The color that was live before the rollout, where it waits for a person.
    before: Option<String>,
}

impl<'i> Draft<'i> {
    fn new(intent: &'i Intent, world: &World, runbook: Runbook) -> Draft<'i> {
        Draft {
            intent,
            world: world.clone(),
            runbook,
            left: None,
            shown: Vec::new(),
            whole: Subject::default(),
            has_cohort: false,
            is_back: false,
            refused: None,
            before: None,
        }
    }
}

impl Draft<'_> {
    /// Checks the color if it is to gain traffic, and moves the routes to it; whether any traffic is moved.
    fn lead_to(&mut self, color: &str) -> bool {
        let intent = self.intent;
        let gaining: Vec<&RouteSpec> = intent.routes.iter().filter(|route| self.gains(route, color)).collect();
        let moves = !gaining.is_empty();
        let direction = self.direction(color, &gaining);
        self.is_back = matches!(direction, Direction::Rollback | Direction::Return);
        let subjects = self.subjects(color, direction);
        if subjects.is_empty() {
            return false;
        }
        self.whole = self.whole(color, direction);
        if let Some(limit) = self.limit(color, direction) {
            return self.lead_part(color, limit, (&subjects, direction));
        }
        // What is already done comes first: whatever comes after it is still to be done, the checks too.
        let goes_on = moves || direction == Direction::Resume;
        self.take_over(goes_on, matches!(direction, Direction::Resume | Direction::Start));
        self.close();
        let unseen = if moves { self.make_ready(color, &subjects, direction) } else { Vec::new() };
        let shifts = self.steps_left(direction, color);
        self.take(&shifts, color, (&subjects, direction));
        let last: Vec<Step> = intent.routes.iter().filter_map(|route| self.shift(route, color)).collect();
        if (self.has_cohort || !shifts.is_empty()) && !last.is_empty() {
            self.recheck(&subjects, direction);
        }
        self.push(last);
        self.push(unseen.iter().map(|subject| health_check(intent, subject)).collect());
        if moves && !self.is_back {
            self.process();
        }
        if matches!(direction, Direction::Start | Direction::Resume) && (moves || direction == Direction::Resume) {
            self.verify(&subjects);
        }
        moves || direction == Direction::Resume
    }

    /// Whether a route is still to lead more users to the color's target group.
    fn gains(&self, route: &RouteSpec, color: &str) -> bool {
        let Some(Step::Route { before, after, .. }) = self.shift(route, color) else { return false };
        let before = before.as_ref().map(|before| &before.terminal);
        self.intent.group(route, color).is_some_and(|group| after.gives_more(group, before))
    }

    /// What is to be public no longer is closed before anything new comes there. A way back waits for nothing of that.
    fn close(&mut self) {
        if !self.is_back {
            let mut closed = put_right(self.intent, &self.intent.routes, &self.world).closed;
            closed.retain(can_be_undone);
            self.push(closed);
        }
    }

    /// All that comes before a color's first step. What can only be seen of it afterwards.
    fn make_ready<'s>(&mut self, color: &str, subjects: &'s [Subject], direction: Direction) -> Vec<&'s Subject> {
        let unseen = self.validate(subjects, direction);
        self.rehearse(color, direction);
        if direction == Direction::Start {
            self.lead_cohort(color, subjects);
        }
        unseen
    }

    /// Takes steps, one after the other.
    fn take(&mut self, shifts: &[Shift], color: &str, (subjects, direction): (&[Subject], Direction)) {
        for (n, shift) in shifts.iter().enumerate() {
            if n > 0 || self.has_cohort {
                self.recheck(subjects, direction);
            }
            self.step_to(color, *shift, subjects);
        }
    }

    /// Makes room for a color and checks it before it gets a request. What can only be seen of it afterwards.
    fn validate<'s>(&mut self, subjects: &'s [Subject], direction: Direction) -> Vec<&'s Subject> {
        let (intent, color) = (self.intent, subjects[0].color.as_str());
        // The way back waits for no size.
        let sizes = if direction == Direction::Rollback { Vec::new() } else { self.room(color) };
        self.push(sizes);
        let attach = subjects.iter().filter_map(|subject| attach(intent, &self.world, subject)).collect();
        self.push(attach);
        let trials = trial::steps(intent, &self.world, subjects);
        self.push(trials);
        // Where no rule can have it, a route has it at weight 0, whoever's cookie names it.
        let anyway = subjects.iter().filter_map(|subject| attach_anyway(intent, &self.world, subject)).collect();
        self.push(anyway);
        // A group that no action refers to is never checked by the load balancer.
        let (seen, unseen): (Vec<&Subject>, Vec<&Subject>) =
            subjects.iter().partition(|subject| self.world.mentions(&subject.group));
        // What has to come up first has nothing to answer with yet.
        let checks = seen.iter().map(|subject| health_check(intent, &self.measured(subject, direction))).collect();
        self.push(checks);
        // A color that a rollout has not even left yet needs no second look.
        let checks = about(intent, &intent.validation.checks, (subjects, &self.whole));
        if direction != Direction::Rollback && !checks.is_empty() {
            self.show(color);
            self.push(checks.into_iter().map(Step::Check).collect());
        }
        unseen
    }

    /// What was large enough once may have been scaled in since, or broken: targets are counted again before every rise.
    fn recheck(&mut self, subjects: &[Subject], direction: Direction) {
        // Where no route could take a step it was just checked, or can't be. Else all are counted, also those that get everything
        // in the last step.
        if !self.has_cohort && !subjects.iter().any(|subject| self.most(&subject.group) > 0.0) {
            return;
        }
        let known = subjects.iter().filter(|subject| self.world.mentions(&subject.group));
        let recheck = |subject: &Subject| {
            let mut step = health_check(self.intent, &self.measured(subject, direction));
            // Users are there already: nobody waits for a color that is no longer well.
            if let Step::Check(Checking { check: Check::Healthy(policy), .. }) = &mut step {
                policy.timeout = policy.timeout.min(RECHECK);
                policy.sustained = None;
            }
            step
        };
        let steps = known.map(recheck).collect();
        self.push(steps);
    }

    /// Where no color was named nothing moves: colors that a route lacks join it at weight 0, and a new rule leads where
    /// the others do that lead to the same target groups. Where there is none, the live color's target group is checked first; whether
    /// there is such a rule.
    fn follow(&mut self, live: Option<&str>) -> bool {
        let (intent, world) = (self.intent, &self.world);
        let step = |route: &RouteSpec| match world.routes.contains_key(&route.key()) {
            true => join_route(intent, world, route),
            false => self.joined(route),
        };
        let steps: Vec<Step> = intent.routes.iter().filter_map(step).collect();
        let is_new = |route: &&RouteSpec| !world.routes.contains_key(&route.key()) && self.model(route).is_none();
        let new: Vec<&RouteSpec> = intent.routes.iter().filter(is_new).collect();
        self.push(steps);
        let Some(live) = live.filter(|_| !new.is_empty()) else { return false };
        let subjects = self.subjects(live, Direction::Start).into_iter();
        let is_led = |subject: &Subject| new.iter().any(|route| intent.group(route, live) == Some(&subject.group));
        let subjects: Vec<Subject> = subjects.filter(is_led).collect();
        if subjects.is_empty() {
            return false;
        }
        self.whole = self.whole(live, Direction::Start);
        let unseen = self.validate(&subjects, Direction::Start);
        let steps = new.into_iter().filter_map(|route| lead(intent, &self.world, route, live, (None, false))).collect();
        self.push(steps);
        self.push(unseen.iter().map(|subject| health_check(intent, subject)).collect());
        true
    }

    /// What comes once the rollout has arrived and is written down. What fails of it is the next apply's work; where nothing was
    /// moved, it is what the apply is for.
    fn finish(&mut self, color: Option<&str>) {
        let (intent, followed) = (self.intent, self.intent.active.is_none());
        let settled = color.is_some_and(|color| is_all_on(intent, &self.world, color));
        if let Some(color) = color.filter(|_| self.runbook.waits.is_some()) {
            // Who is to say whether it goes on sees by them what it would be.
            self.lead_previews(color);
        } else if let Some(idle) =
            color.and_then(|color| idle(&intent.environments, color)).filter(|_| settled || !followed)
        {
            self.lead_previews(idle);
        } else {
            // Who follows somebody that is still moving leads previews back to where they were.
            let steps = self.shown.iter().filter_map(|(route, was)| {
                let now = self.world.routes.get(&route.key())?;
                let back = route_steps::step((intent, &self.world), route, Some(now), was.clone());
                (!back.holds(&self.world)).then_some(back)
            });
            let steps = steps.collect();
            self.push(steps);
        }
        // As long as a rollout waits, what was there is still needed for the way back.
        let given_back = if self.runbook.waits.is_some() { Vec::new() } else { self.give_back() };
        self.push(given_back);
        let world = self.world.clone();
        let wanted: Vec<&str> =
            intent.routes.iter().chain(&intent.preview_routes).filter_map(|route| arn(&world, route)).collect();
        let removed = intent.removed.iter().filter(|route| !world.cohort.has(route)).filter(|route| {
            let seen = world.routes.get(&route.key());
            // A rule that is now named by its ARN is still wanted.
            let ours = |seen: &Observed| route.is_made(seen) || is_ours_by_looks(intent, route, seen);
            seen.is_some_and(|seen| ours(seen) && !wanted.contains(&seen.arn.as_str()))
        });
        let trial = world.trials.iter().filter(|trial| !intent.removed.iter().any(|route| route.key() == trial.key()));
        let removed = removed.chain(trial).filter_map(|route| remove(&world, route)).collect();
        self.push(removed);
    }

    /// Leads the previews to the color that is about to be checked, which may be by way of them. Of two colors the idle
    /// one has them already, but when they were led there is not known, and nodes follow late: what a preview shows is
    /// given its time before it is believed.
    fn show(&mut self, color: &str) {
        if self.intent.preview_routes.is_empty() {
            return;
        }
        let seen = |route: &RouteSpec| Some((route.clone(), self.world.routes.get(&route.key())?.terminal.clone()));
        self.shown = self.intent.preview_routes.iter().filter_map(seen).collect();
        // What a request must match to come by it, and which rule it meets first, is a part of what it shows.
        let previews = self.intent.preview_routes.as_slice();
        self.put_right(previews);
        self.lead_previews(color);
        let settle = self.intent.strategy.settle;
        if !settle.is_zero() {
            let convergence = Convergence { shares: BTreeMap::new(), prove: None, settle, previews: true };
            self.push(vec![Step::Converge(convergence)]);
        }
    }

    /// Lets the switch's own rules be as they are wished: closed first, then placed, then all the rest.
    fn put_right(&mut self, routes: &[RouteSpec]) {
        let PutRight { closed, placed, processed } = put_right(self.intent, routes, &self.world);
        [closed, placed, processed].into_iter().for_each(|steps| self.push(steps));
    }

    /// What a rule does with the requests that it takes already is another one before the last watch, which sees it.
    fn process(&mut self) {
        let PutRight { placed, mut processed, .. } = put_right(self.intent, &self.intent.routes, &self.world);
        let route = |step: &Step| match step {
            Step::Priority { route, .. } | Step::Conditions { route, .. } | Step::Processing { route, .. } => {
                Some(route.key())
            }
            _ => None,
        };
        processed.retain(|step| can_be_undone(step) && !placed.iter().any(|other| route(other) == route(step)));
        self.push(processed);
    }

    fn lead_previews(&mut self, color: &str) {
        let sticky = |route: &RouteSpec| self.world.routes.get(&route.key())?.terminal.stickiness();
        let previews = self.intent.preview_routes.iter();
        let steps =
            previews.filter_map(|route| lead(self.intent, &self.world, route, color, (sticky(route), false))).collect();
        self.push(steps);
    }

    /// Whether this is a way back, or one that another run began, by the routes that are still to lead more users to the color.
    fn direction(&self, color: &str, gaining: &[&RouteSpec]) -> Direction {
        let moves = !gaining.is_empty();
        let lock_record = unfinished(self.intent, &self.world);
        let undoes = |lock_record: &LockRecord| undoes(lock_record, color);
        // Of what is to get more, each target group of its own: one that serves says nothing of another one.
        let serves = |route: &&RouteSpec| self.intent.group(route, color).is_some_and(|group| self.most(group) > 0.0);
        let has_some = gaining.iter().all(serves);
        match (moves, lock_record.is_some_and(undoes), has_some) {
            (true, true, true) => return Direction::Rollback,
            (true, true, false) => return Direction::Return,
            _ => {}
        }
        // To a target group that a route did not have, a color moves like to another color.
        let is_new = |lock_record: &LockRecord| {
            self.intent.routes.iter().any(|route| {
                let was = lock_record.origin(&route.key(), &self.intent.environments);
                let of_color = |was: &Terminal| self.intent.environments.get(color).map_or(0.0, |one| one.share(was));
                let group = self.intent.group(route, color);
                was.zip(group).is_some_and(|(was, group)| was.share(group) <= 0.0 && of_color(&was) > 0.0)
            })
        };
        let on = lock_record.filter(|lock_record| {
            let is_from = lock_record.from.as_deref() == Some(color);
            lock_record.to.as_deref() == Some(color) && (!is_from || is_new(lock_record))
        });
        // One that was killed before it moved anything has to be begun, not to be gone on with.
        let arrived = self.intent.routes.iter().any(|route| {
            let seen = self.world.routes.get(&route.key());
            let was = on.and_then(|lock_record| lock_record.origin(&route.key(), &self.intent.environments));
            let group = self.intent.group(route, color);
            let gives = |(seen, group): (&Observed, &str)| seen.terminal.gives_more(group, was.as_ref());
            on.is_some() && seen.zip(group).is_some_and(gives)
        });
        let is_recorded = self.world.record.as_deref() == Some(color);
        match (arrived, moves && has_some && is_recorded) {
            (true, _) => Direction::Resume,
            // The color on record that still has a part of the traffic was whole before somebody split it.
            (false, true) => Direction::Return,
            (false, false) => Direction::Start,
        }
    }

    /// What an earlier run moved is this one's to take back, to where it was before that run.
    fn take_over(&mut self, cohort: bool, routes: bool) {
        let intent = self.intent;
        let mut steps = if cohort { self.cohort_left() } else { Vec::new() };
        if let Some(lock_record) = unfinished(intent, &self.world).filter(|_| routes) {
            steps.extend(self.routes_left(lock_record));
        }
        let count = steps.len();
        if count > 0 {
            self.push(steps);
            let stage = self.runbook.last_stage();
            self.runbook.taken_over.extend((0..count).map(|step| StepId { stage, step }));
        }
    }

    /// The routes that an earlier rollout moved.
    fn routes_left(&self, lock_record: &LockRecord) -> Vec<Step> {
        let intent = self.intent;
        let called = |arn: &str| intent.called(arn);
        let mut steps = Vec::new();
        for route in &intent.routes {
            let Some(now) = self.world.routes.get(&route.key()) else { continue };
            let was = lock_record.origin(&route.key(), &intent.environments);
            if was.as_ref().is_some_and(|was| was.shares_like(&now.terminal)) {
                continue;
            }
            let words = format!("{}, as {} left it", terminal_summary(&now.terminal, called), lock_record.summary());
            let before = was.map(|terminal| Observed { terminal, ..now.clone() });
            // A rule of somebody else's can't be taken back to nothing.
            if before.is_none() && !matches!(route, RouteSpec::OwnRule { .. }) {
                continue;
            }
            steps.push(Step::Route { route: route.clone(), before, after: now.terminal.clone(), words });
        }
        steps
    }

    /// The steps before the last one that are still to be taken. Where an earlier run stopped, its hold begins anew.
    fn steps_left(&self, direction: Direction, color: &str) -> Vec<Shift> {
        let split = |route: &&RouteSpec| self.is_shared(route, color);
        let split: Vec<&RouteSpec> = self.intent.routes.iter().filter(split).collect();
        // Whoever follows splits nothing: where no color has anything yet, it is somebody else's to give.
        if matches!(direction, Direction::Rollback | Direction::Return)
            || split.is_empty()
            || self.intent.active.is_none()
        {
            return Vec::new();
        }
        // A route that is ahead waits for the others.
        let now = split.iter().map(|route| self.share(route, color)).fold(100.0, f64::min);
        let steps = self.intent.strategy.steps.iter().copied();
        steps
            .filter(|step| {
                step.percent() > now + 0.01 || (direction == Direction::Resume && step.percent() > now - 0.01)
            })
            .collect()
    }

    /// Leads a part of the traffic to the color, and stays there.
    fn step_to(&mut self, color: &str, shift: Shift, subjects: &[Subject]) {
        let intent = self.intent;
        let steps = intent.routes.iter().filter_map(|route| part(intent, &self.world, route, color, shift)).collect();
        self.push(steps);
        // Routes that can't take one more group go all at once: where none was led so far there is nothing to stay for.
        let is_there = |group: &str| {
            let seen = intent.routes.iter().filter_map(|route| self.world.routes.get(&route.key()));
            seen.into_iter().any(|seen| (seen.terminal.share(group) - shift.percent()).abs() < NEAR)
        };
        let led: Vec<Subject> = subjects.iter().filter(|subject| is_there(&subject.group)).cloned().collect();
        if led.is_empty() {
            return;
        }
        let hold = self.watch(&led, shift.percent(), shift.hold);
        // A step that neither waits nor looks is only passed through.
        if hold.hold.is_zero() && hold.checks.is_empty() {
            self.converge();
        } else {
            self.push_watch(hold);
        }
    }

    /// Looks from the first moment on where there is something to look at: a color that breaks as the traffic comes has failed,
    /// whatever the nodes do.
    fn push_watch(&mut self, watch: Watch) {
        if watch.checks.is_empty() {
            self.converge();
            self.push(vec![Step::Watch(watch)]);
        } else {
            let convergence = self.convergence();
            self.push(vec![Step::Watch(Watch { convergence, ..watch })]);
        }
    }

    /// Whether nobody else has users that a color would take, and no rollout has taken them before.
    fn takes_from_nobody(&self, color: Option<&str>) -> bool {
        let Some(color) = color else { return false };
        let from = begun(self.intent, &self.world).and_then(|left| left.from.as_ref());
        from.is_none() && !self.intent.routes.iter().any(|route| self.is_shared(route, color))
    }

    /// How much of a route a color has by then, by the target group that it has for it.
    fn share(&self, route: &RouteSpec, color: &str) -> f64 {
        let seen = self.world.routes.get(&route.key()).zip(self.intent.group(route, color));
        seen.map_or(0.0, |(seen, group)| seen.terminal.share(group))
    }

    /// How much of a route a target group has by then, at most.
    fn most(&self, group: &str) -> f64 {
        let seen = self.intent.routes.iter().filter_map(|route| self.world.routes.get(&route.key()));
        seen.map(|seen| seen.terminal.share(group)).fold(0.0, f64::max)
    }

    fn watch(&self, subjects: &[Subject], percent: f64, hold: std::time::Duration) -> Watch {
        let verification = self.intent.verification.clone().unwrap_or_default();
        Watch {
            subject: subjects[0].clone(),
            percent,
            hold,
            interval: verification.interval,
            max_failures: verification.max_failures,
            checks: about(self.intent, &verification.checks, (subjects, &self.whole)),
            convergence: None,
            of_cohort: false,
        }
    }

    /// Watches the color once it has everything.
    fn verify(&mut self, subjects: &[Subject]) {
        let Some(verification) = &self.intent.verification else {
            if self.intent.strategy.prove.is_some() {
                self.converge();
            }
            return;
        };
        // Who follows leads no more users anywhere but by new rules.
        let led: Vec<Subject> = subjects.iter().filter(|subject| self.most(&subject.group) > 0.0).cloned().collect();
        if !led.is_empty() {
            let watch = self.watch(&led, 100.0, verification.duration);
            self.push_watch(watch);
        }
    }

    /// Waits until the nodes do what the API says.
    fn converge(&mut self) {
        let convergence = self.convergence();
        self.push(convergence.into_iter().map(Step::Converge).collect());
    }

    /// How the nodes are waited for, if they are.
    fn convergence(&self) -> Option<Convergence> {
        let strategy = &self.intent.strategy;
        if strategy.prove.is_none() && strategy.settle.is_zero() {
            return None;
        }
        let first = self.intent.routes.iter().find_map(|route| self.world.routes.get(&route.key()));
        let share = |environment: &Environment| first.map_or(0.0, |seen| environment.share(&seen.terminal) / 100.0);
        let shares: BTreeMap<String, f64> =
            self.intent.environments.iter().map(|(name, one)| (name.clone(), share(one))).collect();
        Some(Convergence { shares, prove: strategy.prove.clone(), settle: strategy.settle, previews: false })
    }

    /// What a route needs so that the color is live there. Where no color was named, a route that is there leads where
    /// somebody else wants it to.
    fn shift(&self, route: &RouteSpec, color: &str) -> Option<Step> {
        let (intent, world) = (self.intent, &self.world);
        if intent.active.is_none() && world.routes.contains_key(&route.key()) {
            return join_route(intent, world, route);
        }
        lead(intent, world, route, color, (self.stickiness(route), self.is_back))
    }

    /// The stickiness that a route had before traffic was split.
    fn stickiness(&self, route: &RouteSpec) -> Option<Stickiness> {
        let key = route.key();
        let lock_record =
            self.world.lock_record.as_ref().and_then(|lock_record| lock_record.origin(&key, &self.intent.environments));
        // A rule that a dead rollout made has no place before that one: how it was found is how it was before the split.
        let first = self.runbook.steps().find_map(|(_, step)| match step {
            Step::Route { route, before: Some(before), .. } if route.key() == key => Some(before.terminal.clone()),
            _ => None,
        });
        let now = || self.world.routes.get(&key).map(|seen| seen.terminal.clone());
        lock_record.or(first).or_else(now)?.stickiness()
    }

    /// Room for the color to go live, and a floor under both: what has little traffic is scaled in, and the way back needs what
    /// was there.
    fn room(&mut self, color: &str) -> Vec<Step> {
        // Whoever follows changes no size.
        let Some(policy) = self.intent.capacity.filter(|_| self.intent.active.is_some()) else { return Vec::new() };
        let live = current(self.intent, &self.world).live.filter(|live| live != color);
        let size = |color: &str| self.world.capacities.get(color).copied();
        let of_live = live.as_deref().and_then(size);
        let pin = live.as_deref().zip(of_live).and_then(|(live, now)| self.sized(live, now, now.pin()));
        let wanted = policy.before.wanted(of_live);
        let raise = size(color).and_then(|now| {
            let desired = now.desired.max(wanted.unwrap_or(now.desired));
            self.sized(color, now, Capacity { desired, ..now }.pin())
        });
        self.left = live;
        pin.into_iter().chain(raise).collect()
    }

    /// What a rollout took is given back, also one that was killed; the color that was left keeps what it shall keep.
    fn give_back(&self) -> Vec<Step> {
        let (intent, world) = (self.intent, &self.world);
        let active = target_color(intent, world).filter(|_| intent.active.is_some());
        let (Some(policy), Some(active)) = (intent.capacity, active) else { return Vec::new() };
        let active = &active;
        let raised = |color: &String| world.lock_record.as_ref().and_then(|lock_record| lock_record.sizes.get(color));
        let steps = world.capacities.iter().filter_map(|(color, now)| {
            let mut after = now.unpin();
            // A floor that a killed rollout left is under the color that was live then.
            let led_to = world.lock_record.as_ref().and_then(|lock_record| lock_record.to.as_ref());
            let was_live = now.pinned.is_some() && active != color && led_to != Some(color);
            let mut routes = intent.routes.iter().filter_map(|route| world.routes.get(&route.key()));
            let environment = intent.environments.get(color);
            let serves = routes.any(|seen| environment.is_some_and(|one| one.share(&seen.terminal) > 0.0));
            if (self.left.as_ref() == Some(color) || was_live)
                && let Some(keep) = policy.after_idle.filter(|_| !serves)
            {
                after.desired = now.desired.min(keep.max(after.least()));
            } else if let Some(size) = raised(color)
                && active != color
                && world.record.as_ref() != Some(color)
                && now.desired == size.raised
                && !serves
            {
                after.desired = size.before.max(after.least());
            }
            self.sized(color, *now, after)
        });
        steps.collect()
    }

    fn sized(&self, color: &str, before: Capacity, after: Capacity) -> Option<Step> {
        let scalable = self.intent.environments.get(color)?.scalable.clone()?;
        (before != after).then(|| Step::Capacity { color: color.to_owned(), scalable, before, after })
    }

    fn push(&mut self, steps: Vec<Step>) {
        for step in &steps {
            step.foresee(&mut self.world);
        }
        self.runbook.push(steps);
    }
}

/// How a rollout comes to its color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// From the beginning.
    Start,
    /// From where a killed one left it.
    Resume,
    /// Back to a color that may have changed since: all at once, but with its checks.
    Return,
    /// Back to the color that a rollout came from, which still has a part of the traffic.
    Rollback,
}
