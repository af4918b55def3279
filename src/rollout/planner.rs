//! From a wish and a world to a runbook.

use std::collections::BTreeMap;

use super::capacity::{Before, Capacity};
use super::check::{Block, Check, Checking, Subject};
use super::intent::{Environment, Intent, Removal, RouteSpec, short};
use super::journal::StepId;
use super::lock_record::LockRecord;
use super::runbook::{Convergence, OnFailure, Runbook, Step, Watch, span, terminal_summary};
use super::strategy::Shift;
use super::world::{Forward, Observed, Stickiness, Terminal, Traffic, World, traffic};

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
}

/// AWS allows no more target groups in one action.
pub(super) const MAX_GROUPS: usize = 5;

/// Plans the way from what is to what shall be. Deterministic; an empty runbook means that nothing is to be done.
///
/// The order: the color to go live is attached at weight 0 if it is in no route yet, so that its health can be known, and
/// previews are led to it; then the checks; then all routes move, step by step, each step being watched; then the record says so; preview routes
/// and rules no longer wanted come last. Where no color can be attached without taking something away, health is checked
/// right after the move, and the record waits for it.
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
    let runbook = Runbook { on_failure: intent.on_failure, on_interrupt: intent.on_interrupt, ..Runbook::default() };
    let mut plan = Draft { intent, world: world.clone(), runbook, left: None };
    let moves = match color.as_deref() {
        Some(color) if intent.active.is_some() || current(intent, world).live.is_none() => plan.lead_to(color),
        Some(_) => plan.follow(),
        None => {
            let mut routes = intent.routes.iter().chain(&intent.preview_routes);
            if intent.environments.is_empty() || routes.any(|route| !world.routes.contains_key(&route.key())) {
                return Err(Refusal::NothingToFollow);
            }
            plan.follow()
        }
    };
    for routes in [&intent.routes, &intent.preview_routes] {
        let changed = priorities(routes, &plan.world).into_iter().chain(conditions(routes, &plan.world)).collect();
        plan.push(changed);
    }
    if let Some(color) = color.as_deref() {
        let record = record(intent, &plan.world, color);
        plan.push(record.into_iter().collect());
    }
    plan.finish(color.as_deref(), moves);
    Ok(plan.runbook)
}

/// The steps in words, as far as the wish alone tells them: whatever the world is like, these hold.
pub fn outline(intent: &Intent) -> Vec<String> {
    let Some(color) = intent.active.as_deref() else {
        let join = |route: &RouteSpec| format!("add the colors that {route} lacks, at weight 0");
        let record = intent.record.iter().map(|name| format!("create {name} with the live color, if it isn't there"));
        return intent.routes.iter().map(join).chain(record).collect();
    };
    let share = |color: &str| {
        let part = |name: &String| format!("{name} {} %", if name == color { 100 } else { 0 });
        intent.environments.keys().map(part).collect::<Vec<_>>().join(", ")
    };
    let mut words: Vec<String> = Vec::new();
    match intent.capacity.map(|policy| policy.before) {
        Some(Before::MatchLive) => words.push(format!("raise {color} to the size of the live color, if it is smaller")),
        Some(Before::Number(number)) => words.push(format!("raise {color} to {number}, if it is smaller")),
        None => {}
    }
    let group = intent.environments.get(color).map(|one| one.target_group_arn.clone()).unwrap_or_default();
    let subject = Subject { color: color.to_owned(), group, ..Subject::default() };
    let checks = std::iter::once(Check::Healthy(intent.validation.healthy.clone()));
    let checks = checks.chain(intent.validation.checks.iter().map(|checking| checking.check.clone()));
    words.extend(
        checks.map(|check| format!("check that {}, unless it has all the traffic already", check.summary(&subject))),
    );
    if !intent.preview_routes.is_empty() && !intent.validation.checks.is_empty() && !intent.strategy.settle.is_zero() {
        let settle = span(intent.strategy.settle);
        words.push(format!("lead the preview routes to {color} and give them {settle} to settle, before those checks"));
    }
    for shift in &intent.strategy.steps {
        let (percent, hold) = (shift.percent(), span(shift.hold));
        words.push(format!("lead {percent} % of the traffic to {color} for {hold}, unless it has more already"));
    }
    words.extend(intent.routes.iter().map(|route| format!("set {route}: {}", share(color))));
    if let Some(verification) = intent.verification.as_ref().filter(|one| !one.duration.is_zero()) {
        let duration = span(verification.duration);
        words.push(format!("watch {color} at 100 % for {duration}, unless it has all the traffic already"));
    }
    words.extend(intent.record.iter().map(|name| format!("write {name}: {color}")));
    if let Some(idle) = idle(&intent.environments, color) {
        words.extend(intent.preview_routes.iter().map(|route| format!("set {route}: {}", share(idle))));
    }
    words.extend(intent.removed.iter().map(|route| format!("delete {route}")));
    words
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
        let words = format!(
            "{} → {}, as before",
            terminal_summary(&before.terminal, color_of),
            terminal_summary(original, color_of)
        );
        let step = Step::Route { route: route.clone(), before: Some(before.clone()), after: original.clone(), words };
        (!step.holds(world)).then_some(step)
    };
    let steps: Vec<Step> = originals.iter().filter_map(|original| step(original, world)).collect();
    let mut plan = Draft { intent, world: world.clone(), runbook: Runbook::default(), left: None };
    let mut gaining: BTreeMap<String, String> = BTreeMap::new();
    for step in &steps {
        let Step::Route { before: Some(before), after: after @ Terminal::Forward(forward), .. } = step else {
            continue;
        };
        let gains = forward.groups.iter().filter(|(arn, _)| after.share(arn) > before.terminal.share(arn) + 0.001);
        gaining.extend(gains.map(|(arn, _)| (arn.clone(), color_of(arn).map_or_else(|| short(arn), str::to_owned))));
    }
    for (group, color) in gaining {
        let subject = plan.subject(&color, &group, Direction::Start);
        plan.push(vec![health_check(intent, &subject)]);
        // The user's own checks are about colors.
        if color_of(&group).is_some() && !intent.validation.checks.is_empty() {
            plan.show(&color);
            plan.push(intent.validation.checks.iter().map(|checking| about(checking, &subject)).collect());
        }
    }
    // A preview that was led to whom its checks are about is no longer where it was.
    let steps = originals.iter().filter_map(|original| step(original, &plan.world)).collect();
    plan.push(steps);
    plan.runbook
}

/// Who gets the traffic now.
pub fn current(intent: &Intent, world: &World) -> Traffic {
    let routes: Vec<&Observed> = intent.routes.iter().filter_map(|route| world.routes.get(&route.key())).collect();
    traffic(&intent.environments, routes, world.record.as_deref())
}

/// Whether all traffic is with the color on record: then nothing is unfinished, whatever was written before.
pub fn is_settled(intent: &Intent, world: &World) -> bool {
    world.record.as_ref().is_some_and(|color| is_all_on(intent, world, color))
}

/// Whether a color has all the traffic of all routes.
pub fn is_all_on(intent: &Intent, world: &World, color: &str) -> bool {
    intent.environments.get(color).is_some_and(|environment| {
        let mut seen = intent.routes.iter().map(|route| world.routes.get(&route.key()));
        seen.all(|seen| seen.is_some_and(|seen| seen.terminal.share(&environment.target_group_arn) > 99.999))
    })
}

/// What a rollout left that moved something before it died; one that moved nothing left nothing. Where it never led,
/// somebody else led since: there nothing is left of it to go on with, or to take back.
pub fn unfinished<'w>(intent: &Intent, world: &'w World) -> Option<&'w LockRecord> {
    open(intent, world).filter(|lock_record| is_as_left(intent, world, lock_record))
}

/// What a rollout left whose traffic somebody else has moved since.
pub fn overtaken<'w>(intent: &Intent, world: &'w World) -> Option<&'w LockRecord> {
    open(intent, world).filter(|lock_record| !is_as_left(intent, world, lock_record))
}

/// A rollout of this switch that did not come to its end, where traffic is not as it was before it.
fn open<'w>(intent: &Intent, world: &'w World) -> Option<&'w LockRecord> {
    // What another switch left, or a contract, is theirs to go on with.
    let own = |lock_record: &&LockRecord| lock_record.what.is_empty() && lock_record.switch == intent.name;
    let lock_record = world.lock_record.as_ref().filter(own).filter(|_| !is_settled(intent, world))?;
    let moved = intent.routes.iter().any(|route| {
        let (seen, was) = (world.routes.get(&route.key()), lock_record.origin(&route.key(), &intent.environments));
        match (seen, was) {
            (Some(seen), Some(was)) => !seen.terminal.is_same(&was),
            (seen, was) => seen.is_some() != was.is_some(),
        }
    });
    moved.then_some(lock_record)
}

fn is_as_left(intent: &Intent, world: &World, lock_record: &LockRecord) -> bool {
    let mut seen = intent.routes.iter().filter_map(|route| Some((route, world.routes.get(&route.key())?)));
    seen.all(|(route, seen)| is_led(intent, lock_record, &route.key(), &seen.terminal))
}

/// Whether a route leads where it led before a rollout, or where that rollout led it.
fn is_led(intent: &Intent, lock_record: &LockRecord, key: &str, now: &Terminal) -> bool {
    let to =
        lock_record.to.as_ref().and_then(|to| intent.environments.get(to)).map(|one| one.target_group_arn.as_str());
    let (Some(led), Some(to)) = (&lock_record.led, to) else { return true };
    let was = lock_record.origin(key, &intent.environments);
    let share = now.share(to);
    let is_step = led.iter().any(|permille| (f64::from(*permille) / 10.0 - share).abs() < 0.15);
    match was {
        Some(was) if was.shares_like(now) => true,
        Some(was) if is_step => {
            // The others have what is left as they had it before.
            let (rest, left) = (100.0 - was.share(to), 100.0 - share);
            let Terminal::Forward(forward) = &was else { return true };
            rest < 0.1
                || forward
                    .groups
                    .iter()
                    .filter(|(arn, _)| arn != to)
                    .all(|(arn, _)| (was.share(arn) / rest * left - now.share(arn)).abs() < 1.1)
        }
        Some(_) => false,
        None => is_step,
    }
}

/// The color that is to be live: the one that was named, or else the one that is, or else the one on record.
pub fn target_color(intent: &Intent, world: &World) -> Option<String> {
    let on_record = || world.record.clone().filter(|color| intent.environments.contains_key(color));
    intent.active.clone().or_else(|| current(intent, world).live).or_else(on_record)
}

/// The color that comes after this one in the order of names, round and round: where the next release goes.
pub fn idle<'e, T>(environments: &'e BTreeMap<String, T>, live: &str) -> Option<&'e str> {
    let after = environments.keys().find(|color| color.as_str() > live);
    after.or_else(|| environments.keys().next()).map(String::as_str).filter(|color| *color != live)
}

fn arn<'w>(world: &'w World, route: &RouteSpec) -> Option<&'w str> {
    world.routes.get(&route.key()).map(|seen| seen.arn.as_str())
}

/// The target group that gets the most traffic, be it a color's or not; none if no route forwards.
pub fn busiest(intent: &Intent, world: &World) -> Option<String> {
    busiest_but(intent, world, None)
}

/// The same, of all groups but one.
fn busiest_but(intent: &Intent, world: &World, but: Option<&str>) -> Option<String> {
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for observed in intent.routes.iter().filter_map(|route| world.routes.get(&route.key())) {
        let Terminal::Forward(forward) = &observed.terminal else { continue };
        for (group, _) in forward.groups.iter().filter(|(group, _)| Some(group.as_str()) != but) {
            *shares.entry(group).or_default() += observed.terminal.share(group);
        }
    }
    // Of two that have as much the live one is meant.
    let live = current(intent, world).live.and_then(|live| intent.environments.get(&live));
    let is_live = |group: &str| live.is_some_and(|live| live.target_group_arn == group);
    let busiest = shares
        .into_iter()
        .filter(|(_, share)| *share > 0.0)
        .max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| is_live(a.0).cmp(&is_live(b.0))));
    busiest.map(|(group, _)| group.to_owned())
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

/// Whether a rollout to this color would take back another one that did not come to its end.
fn undoes(lock_record: &LockRecord, color: &str) -> bool {
    lock_record.from.as_deref() == Some(color) && lock_record.to.as_deref() != Some(color)
}

/// What a rule of our own looks like, also when the run that made it was killed before it could tell.
pub fn is_ours_by_looks(intent: &Intent, route: &RouteSpec, seen: &Observed) -> bool {
    let RouteSpec::OwnRule { conditions, .. } = route else { return false };
    seen.conditions.as_ref() == Some(conditions) && leads_only_to(&intent.environments, seen)
}

fn leads_only_to(environments: &BTreeMap<String, Environment>, seen: &Observed) -> bool {
    let Terminal::Forward(forward) = &seen.terminal else { return false };
    forward.groups.iter().all(|(arn, _)| environments.values().any(|e| e.target_group_arn == *arn))
}

/// A runbook as it grows, and the world as it will be after it.
struct Draft<'i> {
    intent: &'i Intent,
    world: World,
    runbook: Runbook,
    /// The color that loses its traffic.
    left: Option<String>,
}

impl Draft<'_> {
    /// Checks the color if it is to gain traffic, and moves the routes to it; whether any traffic is moved.
    fn lead_to(&mut self, color: &str) -> bool {
        let intent = self.intent;
        let Some(environment) = intent.environments.get(color) else { return false };
        let group = environment.target_group_arn.as_str();
        let moves = intent.routes.iter().filter_map(|route| self.shift(route, color)).any(|step| {
            let Step::Route { before, after, .. } = &step else { return false };
            before.as_ref().is_none_or(|before| after.share(group) > before.terminal.share(group) + 0.001)
        });
        let direction = self.direction(color, group, moves);
        let subject = self.subject(color, group, direction);
        // What is already done comes first: whatever comes after it is still to be done, the checks too.
        if matches!(direction, Direction::Resume | Direction::Start) {
            self.take_over();
        }
        let health_after = moves && self.validate(&subject, direction);
        for shift in self.steps_left(direction, group) {
            self.step_to(color, shift, &subject);
        }
        let last = intent.routes.iter().filter_map(|route| self.shift(route, color)).collect();
        self.push(last);
        if health_after {
            self.push(vec![health_check(intent, &subject)]);
        }
        if matches!(direction, Direction::Start | Direction::Resume) && (moves || direction == Direction::Resume) {
            self.verify(&subject);
        }
        moves || direction == Direction::Resume
    }

    /// Makes room for a color and checks it before it gets a request. Whether its health can only be known afterwards.
    fn validate(&mut self, subject: &Subject, direction: Direction) -> bool {
        let intent = self.intent;
        // The way back waits for no size.
        let sizes = if direction == Direction::Rollback { Vec::new() } else { self.room(&subject.color) };
        self.push(sizes);
        let attach = attach(intent, &self.world, &subject.group);
        self.push(attach.into_iter().collect());
        // A group that no action refers to is never checked by the load balancer.
        let health_after = !self.world.mentions(&subject.group);
        // What has to come up first has nothing to answer with yet.
        if !health_after {
            let measured = self.measured(subject, direction);
            self.push(vec![health_check(intent, &measured)]);
        }
        // A color that a rollout has not even left yet needs no second look.
        if direction != Direction::Rollback && !intent.validation.checks.is_empty() {
            self.show(&subject.color);
            self.push(intent.validation.checks.iter().map(|checking| about(checking, subject)).collect());
        }
        health_after
    }

    /// By whom a color's health is measured: by the one that carries the most. A color that carries the most itself, or
    /// that carried everything before the rollout that is taken back, is measured by nobody: the way back from a canary is
    /// not barred by the canary.
    fn measured(&self, subject: &Subject, direction: Direction) -> Subject {
        let share = |group: &str| {
            let seen = self.intent.routes.iter().filter_map(|route| self.world.routes.get(&route.key()));
            seen.map(|seen| seen.terminal.share(group)).sum::<f64>()
        };
        let carries_most = subject.live_group.as_deref().is_some_and(|live| share(&subject.group) >= share(live));
        if direction == Direction::Rollback || (direction == Direction::Return && carries_most) {
            return Subject { live_color: None, live_group: None, ..subject.clone() };
        }
        subject.clone()
    }

    /// Where no color was named nothing moves: colors that a route lacks join it at weight 0, and a new rule leads where
    /// the others do.
    fn follow(&mut self) -> bool {
        let (intent, world) = (self.intent, &self.world);
        let mut seen = intent.routes.iter().filter_map(|route| world.routes.get(&route.key()));
        let serves = |seen: &&Observed| {
            let mut groups = intent.environments.values().map(|one| &one.target_group_arn);
            groups.any(|group| seen.terminal.share(group) > 0.0)
        };
        let model = seen.find(serves).map(|seen| seen.terminal.clone());
        let step = |route: &RouteSpec| match (world.routes.get(&route.key()), &model) {
            (Some(_), _) => join_route(intent, world, route),
            (None, Some(model)) => Some(step(intent, route, None, with_all(intent, model))),
            (None, None) => None,
        };
        let steps = intent.routes.iter().filter_map(step).collect();
        self.push(steps);
        false
    }

    /// What comes once the rollout has arrived. What fails of it is the next apply's work; where nothing was moved, it is
    /// what the apply is for.
    fn finish(&mut self, color: Option<&str>, moves: bool) {
        if moves {
            self.runbook.afterwards = Some(self.runbook.stages.len());
        }
        let (intent, followed) = (self.intent, self.intent.active.is_none());
        let settled = color.is_some_and(|color| is_all_on(intent, &self.world, color));
        if let Some(idle) = color.and_then(|color| idle(&intent.environments, color)).filter(|_| settled || !followed) {
            self.lead_previews(idle);
        }
        let given_back = self.give_back();
        self.push(given_back);
        let world = self.world.clone();
        let wanted: Vec<&str> =
            intent.routes.iter().chain(&intent.preview_routes).filter_map(|route| arn(&world, route)).collect();
        let removed = intent.removed.iter().filter(|route| {
            let seen = world.routes.get(&route.key());
            // A rule that is now named by its ARN is still wanted.
            let ours = |seen: &Observed| route.is_made(seen) || is_ours_by_looks(intent, route, seen);
            seen.is_some_and(|seen| ours(seen) && !wanted.contains(&seen.arn.as_str()))
        });
        let removed = removed.filter_map(|route| remove(&world, route)).collect();
        self.push(removed);
    }

    /// Leads the previews to the color that is about to be checked, which may be by way of them. Of two colors the idle
    /// one has them already, but when they were led there is not known, and nodes follow late: what a preview shows is
    /// given its time before it is believed.
    fn show(&mut self, color: &str) {
        if self.intent.preview_routes.is_empty() {
            return;
        }
        // What a request must match to come by it, and which rule it meets first, is a part of what it shows.
        let previews = self.intent.preview_routes.as_slice();
        let put_right =
            priorities(previews, &self.world).into_iter().chain(conditions(previews, &self.world)).collect();
        self.push(put_right);
        self.lead_previews(color);
        let settle = self.intent.strategy.settle;
        if !settle.is_zero() {
            let convergence = Convergence { shares: BTreeMap::new(), prove: None, settle, previews: true };
            self.push(vec![Step::Converge(convergence)]);
        }
    }

    fn lead_previews(&mut self, color: &str) {
        let sticky = |route: &RouteSpec| self.world.routes.get(&route.key())?.terminal.stickiness();
        let previews = self.intent.preview_routes.iter();
        let steps = previews.filter_map(|route| lead(self.intent, &self.world, route, color, sticky(route))).collect();
        self.push(steps);
    }

    /// Whether this is a way back, or one that another run began.
    fn direction(&self, color: &str, group: &str, moves: bool) -> Direction {
        let lock_record = unfinished(self.intent, &self.world);
        let undoes = |lock_record: &LockRecord| undoes(lock_record, color);
        let seen = self.intent.routes.iter().filter_map(|route| self.world.routes.get(&route.key()));
        let has_some = seen.into_iter().any(|seen| seen.terminal.share(group) > 0.0);
        match (moves, lock_record.is_some_and(undoes), has_some) {
            (true, true, true) => return Direction::Rollback,
            (true, true, false) => return Direction::Return,
            _ => {}
        }
        let on = lock_record.filter(|lock_record| {
            lock_record.to.as_deref() == Some(color) && lock_record.from.as_deref() != Some(color)
        });
        // One that was killed before it moved anything has to be begun, not to be gone on with.
        let arrived = self.intent.routes.iter().any(|route| {
            let seen = self.world.routes.get(&route.key());
            let was = on.and_then(|lock_record| lock_record.origin(&route.key(), &self.intent.environments));
            let before = was.map_or(0.0, |was| was.share(group));
            on.is_some() && seen.is_some_and(|seen| seen.terminal.share(group) > before + 0.001)
        });
        let is_recorded = self.world.record.as_deref() == Some(color);
        match (arrived, moves && has_some && is_recorded) {
            (true, _) => Direction::Resume,
            // The color on record that still has a part of the traffic was whole before somebody split it.
            (false, true) => Direction::Return,
            (false, false) => Direction::Start,
        }
    }

    fn subject(&self, color: &str, group: &str, direction: Direction) -> Subject {
        let from = self
            .world
            .lock_record
            .as_ref()
            .filter(|_| direction == Direction::Resume)
            .and_then(|lock_record| lock_record.from.as_ref());
        let from = from.and_then(|from| self.intent.environments.get(from)).map(|one| one.target_group_arn.clone());
        let now = from.or_else(|| busiest_but(self.intent, &self.world, Some(group)));
        let route = self.intent.routes.first().map(|route| match route {
            RouteSpec::Listener(arn) | RouteSpec::Rule(arn) | RouteSpec::OwnRule { listener: arn, .. } => arn.as_str(),
        });
        Subject {
            color: color.to_owned(),
            group: group.to_owned(),
            live_color: now.as_deref().and_then(|now| self.intent.color_of(now)).map(str::to_owned),
            live_group: now,
            route: route.map(str::to_owned),
        }
    }

    /// What an earlier run moved is this one's to take back, to where it was before that run.
    fn take_over(&mut self) {
        let intent = self.intent;
        let Some(lock_record) = unfinished(intent, &self.world).cloned() else { return };
        let color_of = |arn: &str| intent.color_of(arn);
        let mut steps = Vec::new();
        for route in &intent.routes {
            let Some(now) = self.world.routes.get(&route.key()) else { continue };
            let was = lock_record.origin(&route.key(), &intent.environments);
            if was.as_ref().is_some_and(|was| was.shares_like(&now.terminal)) {
                continue;
            }
            let words = format!("{}, as {} left it", terminal_summary(&now.terminal, color_of), lock_record.summary());
            let before = was.map(|terminal| Observed { terminal, ..now.clone() });
            // A rule of somebody else's can't be taken back to nothing.
            if before.is_none() && !matches!(route, RouteSpec::OwnRule { .. }) {
                continue;
            }
            steps.push(Step::Route { route: route.clone(), before, after: now.terminal.clone(), words });
        }
        let count = steps.len();
        if count > 0 {
            self.push(steps);
            let stage = self.runbook.last_stage();
            self.runbook.taken_over.extend((0..count).map(|step| StepId { stage, step }));
        }
    }

    /// The steps before the last one that are still to be taken. Where an earlier run stopped, its hold begins anew.
    fn steps_left(&self, direction: Direction, group: &str) -> Vec<Shift> {
        let shares = self.intent.routes.iter().filter_map(|route| self.world.routes.get(&route.key()));
        let shares: Vec<&Observed> = shares.collect();
        let split = |seen: &Observed| {
            let Terminal::Forward(forward) = &seen.terminal else { return false };
            forward.groups.iter().any(|(other, _)| other != group && seen.terminal.share(other) > 0.0)
        };
        let splits = shares.iter().any(|seen| split(seen));
        // Whoever follows splits nothing: where no color has anything yet, it is somebody else's to give.
        if matches!(direction, Direction::Rollback | Direction::Return) || !splits || self.intent.active.is_none() {
            return Vec::new();
        }
        // A route that is ahead waits for the others.
        let now = shares.iter().filter(|seen| split(seen)).map(|seen| seen.terminal.share(group)).fold(100.0, f64::min);
        let steps = self.intent.strategy.steps.iter().copied();
        steps
            .filter(|step| {
                step.percent() > now + 0.01 || (direction == Direction::Resume && step.percent() > now - 0.01)
            })
            .collect()
    }

    /// Leads a part of the traffic to the color, and stays there.
    fn step_to(&mut self, color: &str, shift: Shift, subject: &Subject) {
        let intent = self.intent;
        let steps = intent.routes.iter().filter_map(|route| part(intent, &self.world, route, color, shift)).collect();
        self.push(steps);
        // Routes that can't take one more group go all at once: where none was led so far there is nothing to stay for.
        if !intent.routes.iter().any(|route| (self.share(route, &subject.group) - shift.percent()).abs() < 0.05) {
            return;
        }
        let hold = self.watch(subject, shift.percent(), shift.hold);
        self.converge();
        // A step that neither waits nor looks is only passed through.
        if !(hold.hold.is_zero() && hold.checks.is_empty()) {
            self.push(vec![Step::Watch(hold)]);
        }
    }

    /// How much of a route a group has by then.
    fn share(&self, route: &RouteSpec, group: &str) -> f64 {
        self.world.routes.get(&route.key()).map_or(0.0, |seen| seen.terminal.share(group))
    }

    fn watch(&self, subject: &Subject, percent: f64, hold: std::time::Duration) -> Watch {
        let verification = self.intent.verification.clone().unwrap_or_default();
        let of = |one: Checking| Checking { subject: subject.clone(), ..one };
        Watch {
            subject: subject.clone(),
            percent,
            hold,
            interval: verification.interval,
            max_failures: verification.max_failures,
            checks: verification.checks.into_iter().map(of).collect(),
        }
    }

    /// Watches the color once it has everything.
    fn verify(&mut self, subject: &Subject) {
        let Some(verification) = &self.intent.verification else {
            if self.intent.strategy.prove.is_some() {
                self.converge();
            }
            return;
        };
        self.converge();
        let watch = self.watch(subject, 100.0, verification.duration);
        self.push(vec![Step::Watch(watch)]);
    }

    /// Waits until the nodes do what the API says.
    fn converge(&mut self) {
        let strategy = &self.intent.strategy;
        if strategy.prove.is_none() && strategy.settle.is_zero() {
            return;
        }
        let first = self.intent.routes.iter().find_map(|route| self.world.routes.get(&route.key()));
        let share = |environment: &Environment| {
            first.map_or(0.0, |seen| seen.terminal.share(&environment.target_group_arn) / 100.0)
        };
        let shares: BTreeMap<String, f64> =
            self.intent.environments.iter().map(|(name, one)| (name.clone(), share(one))).collect();
        let convergence =
            Convergence { shares, prove: strategy.prove.clone(), settle: strategy.settle, previews: false };
        self.push(vec![Step::Converge(convergence)]);
    }

    /// What a route needs so that the color is live there. Where no color was named, a route that is there leads where
    /// somebody else wants it to.
    fn shift(&self, route: &RouteSpec, color: &str) -> Option<Step> {
        let (intent, world) = (self.intent, &self.world);
        if intent.active.is_none() && world.routes.contains_key(&route.key()) {
            return join_route(intent, world, route);
        }
        lead(intent, world, route, color, self.stickiness(route))
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

    /// Room for the color to go live, and a floor under the one that is.
    fn room(&mut self, color: &str) -> Vec<Step> {
        // Whoever follows changes no size.
        let Some(policy) = self.intent.capacity.filter(|_| self.intent.active.is_some()) else { return Vec::new() };
        let live = current(self.intent, &self.world).live.filter(|live| live != color);
        let size = |color: &str| self.world.capacities.get(color).copied();
        let of_live = live.as_deref().and_then(size);
        let pin = live.as_deref().zip(of_live).and_then(|(live, now)| self.sized(live, now, now.pin()));
        let wanted = policy.before.wanted(of_live);
        let raise = size(color).zip(wanted).filter(|(now, wanted)| now.desired < *wanted);
        let raise = raise.and_then(|(now, wanted)| self.sized(color, now, Capacity { desired: wanted, ..now }));
        self.left = live;
        pin.into_iter().chain(raise).collect()
    }

    /// What a rollout took is given back, also one that was killed; the color that was left keeps what it shall keep.
    fn give_back(&self) -> Vec<Step> {
        let (intent, world) = (self.intent, &self.world);
        let (Some(policy), Some(active)) = (intent.capacity, intent.active.as_ref()) else { return Vec::new() };
        let raised = |color: &String| world.lock_record.as_ref().and_then(|lock_record| lock_record.sizes.get(color));
        let steps = world.capacities.iter().filter_map(|(color, now)| {
            let mut after = now.unpin();
            // A floor that a killed rollout left is under the color that was live then.
            let was_live = now.pinned.is_some() && active != color;
            let group = intent.environments.get(color).map(|one| one.target_group_arn.as_str()).unwrap_or_default();
            let mut routes = intent.routes.iter().filter_map(|route| world.routes.get(&route.key()));
            let serves = routes.any(|seen| seen.terminal.share(group) > 0.0);
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

/// Brings the group into a route at weight 0, unless some route has it already or none can take it.
fn attach(intent: &Intent, world: &World, group: &str) -> Option<Step> {
    if world.mentions(group) {
        return None;
    }
    intent.routes.iter().find_map(|route| join(intent, world.routes.get(&route.key())?, route, [group]))
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

/// The color is measured by what carries the traffic now, be it a color or not.
fn health_check(intent: &Intent, subject: &Subject) -> Step {
    Step::Check(Checking {
        block: Block::Validation,
        index: None,
        subject: subject.clone(),
        check: Check::Healthy(intent.validation.healthy.clone()),
    })
}

fn about(checking: &Checking, subject: &Subject) -> Step {
    Step::Check(Checking { subject: subject.clone(), ..checking.clone() })
}

/// The step that gives a color a part of what a route forwards; the others share the rest as they did. None where the
/// route has nothing to split, or has that split already.
fn part(intent: &Intent, world: &World, route: &RouteSpec, color: &str, shift: Shift) -> Option<Step> {
    let before = world.routes.get(&route.key())?;
    let Terminal::Forward(forward) = &before.terminal else { return None };
    let group = &intent.environments.get(color)?.target_group_arn;
    let others: Vec<(&String, f64)> = forward
        .groups
        .iter()
        .map(|(arn, _)| arn)
        .filter(|arn| *arn != group)
        .map(|arn| (arn, before.terminal.share(arn)))
        .filter(|(_, share)| *share > 0.0)
        .collect();
    let rest: f64 = others.iter().map(|(_, share)| share).sum();
    if rest <= 0.0 || before.terminal.share(group) > shift.percent() + 0.01 {
        return None;
    }
    let left = 100_u32.saturating_sub(shift.permille / 10) as usize;
    let is_whole = shift.permille.is_multiple_of(10) && left >= others.len();
    let (own, of) = if is_whole { (shift.permille / 10, 100) } else { (shift.permille, 1000) };
    let rests = divide(of - own, &others, rest);
    let weight = |arn: &String| rests.get(arn).copied().unwrap_or_default();
    let mut groups: Vec<(String, u32)> = intent
        .environments
        .values()
        .map(|one| &one.target_group_arn)
        .map(|arn| (arn.clone(), if arn == group { own } else { weight(arn) }))
        .collect();
    let foreign = others.iter().filter(|(arn, _)| intent.color_of(arn).is_none());
    groups.extend(foreign.map(|(arn, _)| ((*arn).clone(), weight(arn))));
    if groups.len() > MAX_GROUPS {
        return None;
    }
    let sticky = intent
        .stickiness
        .map(|duration| Stickiness { enabled: true, duration_seconds: i32::try_from(duration.as_secs()).ok() });
    let stickiness = sticky.or_else(|| before.terminal.stickiness());
    let step = step(intent, route, Some(before), Terminal::Forward(Forward { groups, stickiness }));
    if step.holds(world) { None } else { Some(step) }
}

/// Divides a weight among groups as they have it. What has some of it keeps some of it, as far as there is enough.
fn divide<'a>(weight: u32, groups: &[(&'a String, f64)], sum: f64) -> BTreeMap<&'a String, u32> {
    let part = |share: f64| ((f64::from(weight) * share / sum).round() as u32).max(1);
    let mut parts: BTreeMap<&String, u32> = groups.iter().map(|(arn, share)| (*arn, part(*share))).collect();
    let total = |parts: &BTreeMap<&String, u32>| parts.values().sum::<u32>();
    if let Some(largest) = parts.values_mut().max() {
        *largest += weight.saturating_sub(groups.iter().map(|(_, share)| part(*share)).sum());
    }
    while total(&parts) > weight
        && let Some(largest) = parts.values_mut().max()
    {
        *largest = largest.saturating_sub(1);
    }
    parts
}

/// A forward with every color in it, those that it lacks at weight 0.
fn with_all(intent: &Intent, terminal: &Terminal) -> Terminal {
    let Terminal::Forward(forward) = terminal else { return terminal.clone() };
    let mut forward = forward.clone();
    for environment in intent.environments.values() {
        let group = &environment.target_group_arn;
        if forward.groups.len() < MAX_GROUPS && !terminal.mentions(group) {
            forward.groups.push((group.clone(), 0));
        }
    }
    Terminal::Forward(forward)
}

/// Brings the colors that a route lacks into it at weight 0.
fn join_route(intent: &Intent, world: &World, route: &RouteSpec) -> Option<Step> {
    let groups = intent.environments.values().map(|environment| environment.target_group_arn.as_str());
    join(intent, world.routes.get(&route.key())?, route, groups)
}

/// Brings those groups that a forward lacks into it at weight 0; none if it lacks none or can't take them.
fn join<'g>(
    intent: &Intent,
    observed: &Observed,
    route: &RouteSpec,
    groups: impl IntoIterator<Item = &'g str>,
) -> Option<Step> {
    let Terminal::Forward(forward) = &observed.terminal else { return None };
    let missing: Vec<&str> = groups.into_iter().filter(|group| !observed.terminal.mentions(group)).collect();
    if missing.is_empty() || forward.groups.len() + missing.len() > MAX_GROUPS {
        return None;
    }
    let mut forward = forward.clone();
    forward.groups.extend(missing.into_iter().map(|group| (group.to_owned(), 0)));
    Some(step(intent, route, Some(observed), Terminal::Forward(forward)))
}

/// The step that leads a route to one color, all others staying at weight 0; none if it already does.
fn lead(
    intent: &Intent,
    world: &World,
    route: &RouteSpec,
    color: &str,
    stickiness: Option<Stickiness>,
) -> Option<Step> {
    let before = world.routes.get(&route.key());
    let group = |(name, environment): (&String, &Environment)| {
        (environment.target_group_arn.clone(), if name == color { 100 } else { 0 })
    };
    let forward = Forward { groups: intent.environments.iter().map(group).collect(), stickiness };
    let step = step(intent, route, before, Terminal::Forward(forward));
    if step.holds(world) { None } else { Some(step) }
}

fn step(intent: &Intent, route: &RouteSpec, before: Option<&Observed>, after: Terminal) -> Step {
    let color_of = |arn: &str| intent.color_of(arn);
    let to = terminal_summary(&after, color_of);
    let words = match before {
        Some(before) => format!("{} → {to}", terminal_summary(&before.terminal, color_of)),
        None => to,
    };
    Step::Route { route: route.clone(), before: before.cloned(), after, words }
}

fn priorities(routes: &[RouteSpec], world: &World) -> Vec<Step> {
    let moved = routes.iter().filter_map(|route| {
        let RouteSpec::OwnRule { priority, .. } = route else { return None };
        let seen = world.routes.get(&route.key())?;
        let before = seen.place.as_ref()?.priority;
        let (arn, after) = (seen.arn.clone(), *priority);
        (before != after).then(|| Step::Priority { route: route.clone(), arn, before, after })
    });
    moved.collect()
}

fn conditions(routes: &[RouteSpec], world: &World) -> Vec<Step> {
    let changed = routes.iter().filter_map(|route| {
        let RouteSpec::OwnRule { conditions, .. } = route else { return None };
        let seen = world.routes.get(&route.key())?;
        // Conditions that the switch doesn't know are not the ones that are wished.
        let before = seen.conditions.clone().unwrap_or_default();
        let (arn, after) = (seen.arn.clone(), conditions.clone());
        (before != after).then(|| Step::Conditions { route: route.clone(), arn, before, after })
    });
    changed.collect()
}

/// A record that says something else is only overwritten when a color was named: otherwise somebody else keeps it.
fn record(intent: &Intent, world: &World, color: &str) -> Option<Step> {
    let parameter = intent.record.clone()?;
    if intent.active.is_none() && world.record.is_some() {
        return None;
    }
    let step = Step::Record { parameter, before: world.record.clone(), after: Some(color.to_owned()) };
    if step.holds(world) { None } else { Some(step) }
}

fn remove(world: &World, route: &RouteSpec) -> Option<Step> {
    let before = world.routes.get(&route.key())?.clone();
    Some(Step::Remove { route: route.clone(), before })
}
