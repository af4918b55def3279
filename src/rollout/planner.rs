//! From a wish and a world to a runbook.

use std::collections::BTreeMap;

use super::capacity::{Before, Capacity};
use super::intent::{Environment, Intent, Removal, RouteSpec};
use super::runbook::{OnFailure, Runbook, Step, terminal_words};
use super::world::{Forward, Observed, Terminal, Traffic, World, traffic};

/// Why there can be no runbook.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// A route of somebody else's isn't there.
    RouteMissing(Box<RouteSpec>),
    /// A rule that the switch is to make has the priority of a rule that it didn't make.
    PriorityTaken(Box<RouteSpec>),
    /// A colour can't be made as large as it has to be before it gets traffic.
    TooSmall {
        /// The colour.
        color: String,
        /// How large it has to be.
        wanted: i32,
        /// How large it can be.
        max: i32,
    },
    /// No colour is named, none is live and the record names none.
    NothingToFollow,
}

/// AWS allows no more target groups in one action.
pub(super) const MAX_GROUPS: usize = 5;

/// Plans the way from what is to what shall be. Deterministic; an empty runbook means that nothing is to be done.
///
/// The order: the colour to go live is attached at weight 0 if it is in no route yet, so that its health can be known;
/// then the checks; then all routes move; then the record says so; preview routes and rules no longer wanted come
/// last. Where no colour can be attached without taking something away, health is checked right after the move, and
/// the record waits for it.
///
/// # Errors
/// See [`Refusal`].
pub fn plan(intent: &Intent, world: &World) -> Result<Runbook, Refusal> {
    refuse(intent, world)?;
    let color = wish(intent, world);
    if let Some(color) = color.as_deref() {
        refuse_too_small(intent, world, color)?;
    }
    let mut plan = Draft { intent, world: world.clone(), runbook: Runbook::default(), left: None };
    match color.as_deref() {
        Some(color) => plan.lead_to(color),
        None => {
            let mut routes = intent.routes.iter().chain(&intent.preview_routes);
            if intent.environments.is_empty() || routes.any(|route| !world.routes.contains_key(&route.key())) {
                return Err(Refusal::NothingToFollow);
            }
            let steps = intent.routes.iter().filter_map(|route| join_route(intent, world, route)).collect();
            plan.push(steps);
        }
    }
    let changed = conditions(intent, &plan.world);
    plan.push(changed);
    if let Some(color) = color.as_deref() {
        let record = record(intent, &plan.world, color);
        plan.push(record.into_iter().collect());
        let idle = idle(&intent.environments, color).map(str::to_owned);
        let preview = intent.preview_routes.iter();
        let preview = preview.filter_map(|route| lead(intent, &plan.world, route, idle.as_deref()?)).collect();
        plan.push(preview);
    }
    let given_back = plan.give_back();
    plan.push(given_back);
    let wanted: Vec<&str> =
        intent.routes.iter().chain(&intent.preview_routes).filter_map(|route| arn(world, route)).collect();
    let removed = intent.removed.iter().filter(|route| {
        let seen = world.routes.get(&route.key());
        // A rule that is now named by its ARN is still wanted.
        seen.is_some_and(|seen| intent.is_ours(route, seen) && !wanted.contains(&seen.arn.as_str()))
    });
    let removed = removed.filter_map(|route| remove(world, route)).collect();
    plan.push(removed);
    Ok(plan.runbook)
}

/// The steps in words, as far as the wish alone tells them: whatever the world is like, these hold.
pub fn outline(intent: &Intent) -> Vec<String> {
    let Some(color) = intent.active.as_deref() else {
        let join = |route: &RouteSpec| format!("add the colours that {route} lacks, at weight 0");
        let record = intent.record.iter().map(|name| format!("create {name} with the live colour, if it isn't there"));
        return intent.routes.iter().map(join).chain(record).collect();
    };
    let share = |color: &str| {
        let part = |name: &String| format!("{name} {} %", if name == color { 100 } else { 0 });
        intent.environments.keys().map(part).collect::<Vec<_>>().join(", ")
    };
    let unless = |step: Step| format!("{}, unless it has all the traffic already", step.words());
    let mut words: Vec<String> = Vec::new();
    match intent.capacity.map(|policy| policy.before) {
        Some(Before::MatchLive) => {
            words.push(format!("raise {color} to the size of the live colour, if it is smaller"))
        }
        Some(Before::Number(number)) => words.push(format!("raise {color} to {number}, if it is smaller")),
        None => {}
    }
    if let Some(environment) = intent.environments.get(color) {
        let health = health_check(intent, color, &environment.target_group_arn, None);
        words.push(unless(health));
    }
    words.extend(http_checks(intent, color).map(unless));
    words.extend(intent.routes.iter().map(|route| format!("set {route}: {}", share(color))));
    words.extend(intent.record.iter().map(|name| format!("write {name}: {color}")));
    if let Some(idle) = idle(&intent.environments, color) {
        words.extend(intent.preview_routes.iter().map(|route| format!("set {route}: {}", share(idle))));
    }
    words.extend(intent.removed.iter().map(|route| format!("delete {route}")));
    words
}

/// Plans the end of a switch: its own rules go, and what was there before comes back where that is wished.
pub fn plan_removal(removal: &Removal, world: &World) -> Runbook {
    let mut runbook = Runbook { stages: Vec::new(), on_failure: OnFailure::Hold };
    let restore = removal.originals.iter().filter_map(|(route, original)| {
        let before = world.routes.get(&route.key())?;
        let color_of = |arn: &str| removal.color_of(arn);
        let words = format!(
            "{} → {}, as before",
            terminal_words(&before.terminal, color_of),
            terminal_words(&original.terminal, color_of)
        );
        let (before, after) = (Some(before.clone()), original.terminal.clone());
        let step = Step::Route { route: route.clone(), before, after, words };
        (!step.holds(world)).then_some(step)
    });
    let own = removal.own_rules.iter().filter_map(|route| remove(world, route));
    let record = removal.record.as_ref().map(|(parameter, after)| Step::Record {
        parameter: parameter.clone(),
        before: world.record.clone(),
        after: after.clone(),
    });
    let record = record.filter(|step| !step.holds(world));
    runbook.push(restore.collect());
    runbook.push(own.collect());
    runbook.push(record.into_iter().collect());
    runbook
}

/// Who gets the traffic now.
pub fn current(intent: &Intent, world: &World) -> Traffic {
    let routes: Vec<&Observed> = intent.routes.iter().filter_map(|route| world.routes.get(&route.key())).collect();
    traffic(&intent.environments, routes, world.record.as_deref())
}

/// The colour that shall be live: the one that was named, or else the one that is, or else the one on record.
pub fn wish(intent: &Intent, world: &World) -> Option<String> {
    let on_record = || world.record.clone().filter(|color| intent.environments.contains_key(color));
    intent.active.clone().or_else(|| current(intent, world).live).or_else(on_record)
}

/// The colour that comes after this one in the order of names, round and round: where the next release goes.
pub fn idle<'e, T>(environments: &'e BTreeMap<String, T>, live: &str) -> Option<&'e str> {
    let after = environments.keys().find(|color| color.as_str() > live);
    after.or_else(|| environments.keys().next()).map(String::as_str).filter(|color| *color != live)
}

fn arn<'w>(world: &'w World, route: &RouteSpec) -> Option<&'w str> {
    world.routes.get(&route.key()).map(|seen| seen.arn.as_str())
}

/// The target group that gets the most traffic, be it a colour's or not; none if no route forwards.
pub fn busiest(intent: &Intent, world: &World) -> Option<String> {
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for observed in intent.routes.iter().filter_map(|route| world.routes.get(&route.key())) {
        let Terminal::Forward(forward) = &observed.terminal else { continue };
        for (group, _) in &forward.groups {
            *shares.entry(group).or_default() += observed.terminal.share(group);
        }
    }
    let busiest = shares.into_iter().filter(|(_, share)| *share > 0.0).max_by(|a, b| a.1.total_cmp(&b.1));
    busiest.map(|(group, _)| group.to_owned())
}

fn refuse(intent: &Intent, world: &World) -> Result<(), Refusal> {
    for route in intent.routes.iter().chain(&intent.preview_routes) {
        match (route, world.routes.get(&route.key())) {
            (RouteSpec::OwnRule { .. }, None) => {}
            (RouteSpec::OwnRule { conditions, .. }, Some(seen)) => {
                let ours = intent.is_ours(route, seen)
                    || (seen.conditions.as_ref() == Some(conditions) && leads_only_to(&intent.environments, seen));
                if !ours {
                    return Err(Refusal::PriorityTaken(Box::new(route.clone())));
                }
            }
            (_, None) => return Err(Refusal::RouteMissing(Box::new(route.clone()))),
            (_, Some(_)) => {}
        }
    }
    Ok(())
}

/// A colour whose maximum is below what it needs would stand there too small with all the traffic.
fn refuse_too_small(intent: &Intent, world: &World, color: &str) -> Result<(), Refusal> {
    let live = current(intent, world).live.filter(|live| live != color);
    let (Some(policy), Some(live)) = (intent.capacity, live) else { return Ok(()) };
    let wanted = policy.before.wanted(world.capacities.get(&live).copied());
    match (world.capacities.get(color), wanted) {
        (Some(now), Some(wanted)) if wanted > now.max => {
            Err(Refusal::TooSmall { color: color.to_owned(), wanted, max: now.max })
        }
        _ => Ok(()),
    }
}

/// What a rule of our own looks like, also when the run that made it was killed before it could tell.
fn leads_only_to(environments: &BTreeMap<String, Environment>, seen: &Observed) -> bool {
    let Terminal::Forward(forward) = &seen.terminal else { return false };
    forward.groups.iter().all(|(arn, _)| environments.values().any(|e| e.target_group_arn == *arn))
}

/// A runbook as it grows, and the world as it will be after it.
struct Draft<'i> {
    intent: &'i Intent,
    world: World,
    runbook: Runbook,
    /// The colour that loses its traffic.
    left: Option<String>,
}

impl Draft<'_> {
    /// Checks the colour if it is to gain traffic, and moves the routes to it.
    fn lead_to(&mut self, color: &str) {
        let intent = self.intent;
        let Some(environment) = intent.environments.get(color) else { return };
        let group = environment.target_group_arn.as_str();
        let moves = intent.routes.iter().filter_map(|route| shift(intent, &self.world, route, color)).any(|step| {
            let Step::Route { before, after, .. } = &step else { return false };
            before.as_ref().is_none_or(|before| after.share(group) > before.terminal.share(group) + 0.001)
        });
        let now = busiest(intent, &self.world).filter(|busiest| busiest != group);
        let mut health_after = false;
        if moves {
            let sizes = self.room(color);
            self.push(sizes);
            let attach = attach(intent, &self.world, group);
            self.push(attach.into_iter().collect());
            // A group that no action refers to is never checked by the load balancer.
            health_after = !self.world.mentions(group);
            let mut checks: Vec<Step> = http_checks(intent, color).collect();
            if !health_after {
                checks.insert(0, health_check(intent, color, group, now.as_deref()));
            }
            self.push(checks);
        }
        let shift = intent.routes.iter().filter_map(|route| shift(intent, &self.world, route, color)).collect();
        self.push(shift);
        if health_after {
            self.push(vec![health_check(intent, color, group, now.as_deref())]);
        }
    }

    /// Room for the colour to go live, and a floor under the one that is.
    fn room(&mut self, color: &str) -> Vec<Step> {
        let Some(policy) = self.intent.capacity else { return Vec::new() };
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

    /// What a rollout took is given back, also one that was killed; the colour that was left keeps what it shall keep.
    fn give_back(&self) -> Vec<Step> {
        let Some(policy) = self.intent.capacity else { return Vec::new() };
        let steps = self.world.capacities.iter().filter_map(|(color, now)| {
            let mut after = now.unpin();
            // A floor that a killed rollout left is under the colour that was live then.
            let was_live = now.pinned.is_some() && self.intent.active.as_ref() != Some(color);
            if (self.left.as_ref() == Some(color) || was_live)
                && let Some(keep) = policy.after_idle
            {
                after.desired = now.desired.min(keep.max(after.min));
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

/// The colour is measured by what carries the traffic now, be it a colour or not.
fn health_check(intent: &Intent, color: &str, group: &str, live: Option<&str>) -> Step {
    Step::CheckHealthy {
        color: color.to_owned(),
        group: group.to_owned(),
        live: live.map(str::to_owned),
        policy: intent.validation.healthy.clone(),
    }
}

fn http_checks(intent: &Intent, color: &str) -> impl Iterator<Item = Step> {
    let checks = intent.validation.http.iter().enumerate();
    checks.map(move |(index, check)| Step::CheckHttp { index, color: color.to_owned(), check: check.for_color(color) })
}

/// What a route needs so that the colour is live there. Where no colour was named, a route that is there leads where
/// somebody else wants it to.
fn shift(intent: &Intent, world: &World, route: &RouteSpec, color: &str) -> Option<Step> {
    if intent.active.is_none() && world.routes.contains_key(&route.key()) {
        return join_route(intent, world, route);
    }
    lead(intent, world, route, color)
}

/// Brings the colours that a route lacks into it at weight 0.
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

/// The step that leads a route to one colour, all others staying at weight 0; none if it already does.
fn lead(intent: &Intent, world: &World, route: &RouteSpec, color: &str) -> Option<Step> {
    let before = world.routes.get(&route.key());
    let group = |(name, environment): (&String, &Environment)| {
        (environment.target_group_arn.clone(), if name == color { 100 } else { 0 })
    };
    let stickiness = before.and_then(|before| before.terminal.stickiness());
    let forward = Forward { groups: intent.environments.iter().map(group).collect(), stickiness };
    let step = step(intent, route, before, Terminal::Forward(forward));
    if step.holds(world) { None } else { Some(step) }
}

fn step(intent: &Intent, route: &RouteSpec, before: Option<&Observed>, after: Terminal) -> Step {
    let color_of = |arn: &str| intent.color_of(arn);
    let to = terminal_words(&after, color_of);
    let words = match before {
        Some(before) => format!("{} → {to}", terminal_words(&before.terminal, color_of)),
        None => to,
    };
    Step::Route { route: route.clone(), before: before.cloned(), after, words }
}

fn conditions(intent: &Intent, world: &World) -> Vec<Step> {
    let routes = intent.routes.iter().chain(&intent.preview_routes);
    let changed = routes.filter_map(|route| {
        let RouteSpec::OwnRule { conditions, .. } = route else { return None };
        // Conditions that the switch doesn't know are not the ones that are wished.
        let before = world.routes.get(&route.key())?.conditions.clone().unwrap_or_default();
        let after = conditions.clone();
        (before != after).then(|| Step::Conditions { route: route.clone(), before, after })
    });
    changed.collect()
}

/// A record that says something else is only overwritten when a colour was named: otherwise somebody else keeps it.
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
