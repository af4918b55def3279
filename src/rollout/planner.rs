//! From a wish and a world to a runbook.

use std::collections::BTreeMap;

use super::intent::{Intent, RouteSpec};
use super::runbook::{Runbook, Stage, Step, terminal_words};
use super::world::{Forward, Observed, Terminal, Traffic, World, traffic};

/// Why there can be no runbook.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// A route of somebody else's isn't there.
    RouteMissing(RouteSpec),
}

/// Plans the way from what is to what shall be. Deterministic; an empty runbook means that nothing is to be done.
///
/// The order: the colours are attached at weight 0 where they are missing, so that their health can be known; then
/// the checks; then all routes move; then the record says so; the preview routes come last.
///
/// # Errors
/// A route that isn't there and that the switch doesn't own.
pub fn plan(intent: &Intent, world: &World) -> Result<Runbook, Refusal> {
    for route in intent.routes.iter().chain(&intent.preview_routes) {
        if !matches!(route, RouteSpec::OwnRule { .. }) && !world.routes.contains_key(&route.key()) {
            return Err(Refusal::RouteMissing(route.clone()));
        }
    }
    let now = current(intent, world);
    let mut world = world.clone();
    let mut runbook = Runbook::default();
    let attach = attach(intent, &world, &now);
    push(&mut runbook, &mut world, attach);
    if intent.routes.iter().any(|route| gains(intent, &world, route)) && now.live.as_ref() != Some(&intent.active) {
        runbook.stages.push(Stage { steps: checks(intent, &now) });
    }
    let shift = intent.routes.iter().filter_map(|route| lead(intent, &world, route, &intent.active)).collect();
    push(&mut runbook, &mut world, shift);
    let conditions = conditions(intent, &world);
    push(&mut runbook, &mut world, conditions);
    let record = record(intent, &world);
    push(&mut runbook, &mut world, record);
    let idle = intent.environments.keys().find(|color| **color != intent.active).cloned();
    let preview = idle.iter().flat_map(|idle| intent.preview_routes.iter().map(move |route| (route, idle)));
    let preview = preview.filter_map(|(route, idle)| lead(intent, &world, route, idle)).collect();
    push(&mut runbook, &mut world, preview);
    Ok(runbook)
}

/// Who gets the traffic now.
pub fn current(intent: &Intent, world: &World) -> Traffic {
    let routes: Vec<&Observed> = intent.routes.iter().filter_map(|route| world.routes.get(&route.key())).collect();
    traffic(&intent.environments, routes, world.record.as_deref())
}

/// Adds a stage and lets the world be as it will be after it.
fn push(runbook: &mut Runbook, world: &mut World, steps: Vec<Step>) {
    for step in &steps {
        match step {
            Step::Route { route, after, before, .. } => {
                let arn = before.as_ref().map(|before| before.arn.clone()).unwrap_or_default();
                let conditions = match (before, route) {
                    (Some(before), _) => before.conditions.clone(),
                    (None, RouteSpec::OwnRule { conditions, .. }) => Some(conditions.clone()),
                    (None, _) => None,
                };
                world.routes.insert(route.key(), Observed { arn, terminal: after.clone(), conditions });
            }
            Step::Conditions { route, after, .. } => {
                if let Some(observed) = world.routes.get_mut(&route.key()) {
                    observed.conditions = Some(after.clone());
                }
            }
            Step::Record { after, .. } => world.record = Some(after.clone()),
            Step::CheckHealthy { .. } | Step::CheckHttp { .. } => {}
        }
    }
    if !steps.is_empty() {
        runbook.stages.push(Stage { steps });
    }
}

/// Where something is live and a colour is missing, the colour joins at weight 0. Where the next stage changes the
/// route anyway and the colour can be known elsewhere, that call would be one too many.
fn attach(intent: &Intent, world: &World, now: &Traffic) -> Vec<Step> {
    let target = intent.environments.get(&intent.active).map(|environment| environment.target_group_arn.as_str());
    let known = |group: &str| world.routes.values().any(|observed| observed.terminal.mentions(group));
    let (Some(target), Some(_)) = (target, &now.live) else { return Vec::new() };
    if known(target) {
        return Vec::new();
    }
    let first = intent.routes.iter().find_map(|route| Some((route, world.routes.get(&route.key())?)));
    let Some((route, observed)) = first else { return Vec::new() };
    let Terminal::Forward(forward) = &observed.terminal else { return Vec::new() };
    let mut forward = forward.clone();
    forward.groups.push((target.to_owned(), 0));
    vec![step(intent, route, Some(observed), Terminal::Forward(forward))]
}

/// Whether the route would bring the wished colour more than it has.
fn gains(intent: &Intent, world: &World, route: &RouteSpec) -> bool {
    let Some(environment) = intent.environments.get(&intent.active) else { return false };
    world.routes.get(&route.key()).is_none_or(|seen| seen.terminal.share(&environment.target_group_arn) < 99.999)
}

fn checks(intent: &Intent, now: &Traffic) -> Vec<Step> {
    let Some(environment) = intent.environments.get(&intent.active) else { return Vec::new() };
    let live = now.live.as_ref().and_then(|live| intent.environments.get(live));
    let healthy = Step::CheckHealthy {
        color: intent.active.clone(),
        group: environment.target_group_arn.clone(),
        live: live.map(|live| live.target_group_arn.clone()),
        policy: intent.validation.healthy.clone(),
    };
    // Where no colour is live, the group may be in no route: its health is unknown until it is, and no user is there
    // to be hurt. Then the requests decide alone.
    let healthy = live.map(|_| healthy);
    let http = intent.validation.http.iter();
    healthy
        .into_iter()
        .chain(http.map(|check| Step::CheckHttp { color: intent.active.clone(), check: check.clone() }))
        .collect()
}

/// The step that leads a route to one colour, all others staying at weight 0; none if it already does.
fn lead(intent: &Intent, world: &World, route: &RouteSpec, color: &str) -> Option<Step> {
    let before = world.routes.get(&route.key());
    let group = |(name, environment): (&String, &super::intent::Environment)| {
        (environment.target_group_arn.clone(), if name == color { 100 } else { 0 })
    };
    let stickiness = before.and_then(|before| before.terminal.stickiness());
    let forward = Forward { groups: intent.environments.iter().map(group).collect(), stickiness };
    let step = step(intent, route, before, Terminal::Forward(forward));
    if step.holds(world) { None } else { Some(step) }
}

fn step(intent: &Intent, route: &RouteSpec, before: Option<&Observed>, after: Terminal) -> Step {
    let names: BTreeMap<&str, &str> =
        intent.environments.iter().map(|(color, e)| (e.target_group_arn.as_str(), color.as_str())).collect();
    let color_of = |arn: &str| names.get(arn).copied();
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
        let before = world.routes.get(&route.key())?.conditions.clone()?;
        let after = conditions.clone();
        (before != after).then(|| Step::Conditions { route: route.clone(), before, after })
    });
    changed.collect()
}

fn record(intent: &Intent, world: &World) -> Vec<Step> {
    let Some(parameter) = &intent.record else { return Vec::new() };
    let step =
        Step::Record { parameter: parameter.clone(), before: world.record.clone(), after: intent.active.clone() };
    if step.holds(world) { Vec::new() } else { vec![step] }
}
