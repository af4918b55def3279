//! What a plan tells: nothing that the apply could not keep.

use super::budgets::At;
use super::contracts::Outdated;
use super::private_state::{self, PrivateState, TOLD_BY_APPLY};
use super::{budgets, diagnostics, freezes, is_barred_by_label, look, model, name, parity, planned, warnings, wish};
use crate::arn;
use crate::clock;
use crate::resource::{Shared, regions};
use crate::rollout::lint::Purpose;
use crate::rollout::planner::{self, Refusal};
use crate::rollout::situation;
use crate::rollout::{Intent, OnTimeout, RouteSpec, Runbook, World};
use crate::run::ports::Freshness;
use crate::tf_provider::{Diagnostics, Path, PlanRequest, Planned, Value};

/// Plans a switch: what the last refresh saw, and the configuration, as a runbook.
pub(super) async fn plan(shared: &Shared, request: PlanRequest, diagnostics: &mut Diagnostics) -> Planned {
    let PlanRequest { prior, proposed, config, private, .. } = request;
    let mut state = proposed;
    let mut memory = PrivateState::read(&private);
    let before = prior.as_ref().and_then(model::parse);
    let intent = wish(&config, before.as_ref(), &memory);
    let outdated = Outdated::of(&config, prior.as_ref(), &memory.outdated);
    state.set("id", config.get("name").clone());
    parity::check(&config, diagnostics);
    let known = intent.filter(|_| shared.platform.is_known());
    let Some(intent) = known else {
        plan_unknown(&mut state, &config);
        return Planned { state: Some(state), replace: Vec::new(), private };
    };
    if wants_another_color(shared, &intent, diagnostics) || shares_its_wait(shared, &intent, diagnostics) {
        return Planned { state: Some(state), replace: Vec::new(), private };
    }
    if !is_region_right(shared, &intent, diagnostics) {
        return Planned { state: Some(state), replace: Vec::new(), private };
    }
    if let Some(world) = seen_by_refresh(&intent, before.as_ref(), &memory) {
        let overdue = is_overdue(&config, &intent, &world);
        let world = World { overdue, ..world };
        let private = if overdue == std::mem::replace(&mut memory.overdue, overdue) { private } else { memory.bytes() };
        match planned(shared, &intent, world).await {
            Ok((world, runbook)) => {
                diagnostics::is_sound(&runbook, (&intent, &world), Purpose::Rollout, diagnostics);
                is_barred_by_label(shared, &intent, &runbook, diagnostics).await;
                plan_known(&mut state, (prior.as_ref(), &config), &intent, &world, &runbook);
                outdated.bars(&config, (&intent, &world, &runbook), diagnostics);
                freezes::bars(&config, (&intent, &world, &runbook), &memory, clock::wall(), diagnostics);
                budgets::bars(shared, (&intent, &world, &runbook), At::Plan, diagnostics).await;
                warnings::tell(shared, &config, (&intent, &world, &runbook), diagnostics).await;
                warnings::taken_back(&memory.taken_back, (&intent, &runbook), diagnostics);
            }
            Err(Refusal::RouteMissing(route)) => {
                // It was there once. A plan that fails here would also keep people from destroying the switch.
                diagnostics::route_gone(&route, &intent, diagnostics);
                plan_unknown(&mut state, &config);
            }
            Err(refusal) => diagnostics::refusal(&refusal, &intent, diagnostics),
        }
        return Planned { state: Some(state), replace: Vec::new(), private };
    }
    // Terraform plans once more while it applies, and what was known must be the same then. Nothing that is only
    // seen now can be promised: other resources of this apply, or people, may change it in between.
    plan_unknown(&mut state, &config);
    state.set("runbook", Value::from(planner::outline(&intent)));
    if let Some(world) = look(shared, (&intent, before.as_ref()), Freshness::Shared, name(&config), diagnostics).await {
        memory.planned = Some(World { lock_record: None, ..world.clone() });
        match planned(shared, &intent, world).await {
            Err(refusal) => diagnostics::refusal(&refusal, &intent, diagnostics),
            Ok((world, runbook)) => {
                diagnostics::is_sound(&runbook, (&intent, &world), Purpose::Rollout, diagnostics);
                outdated.bars(&config, (&intent, &world, &runbook), diagnostics);
                freezes::bars(&config, (&intent, &world, &runbook), &memory, clock::wall(), diagnostics);
                budgets::bars(shared, (&intent, &world, &runbook), At::Plan, diagnostics).await;
                diagnostics::moves_traffic(situation::busiest(&intent, &world).as_deref(), &intent, diagnostics);
                warnings::tell(shared, &config, (&intent, &world, &runbook), diagnostics).await;
            }
        }
    }
    Planned { state: Some(state), replace: Vec::new(), private: memory.bytes() }
}

/// A switch that goes to another region: what is where it was goes, and it is planned once more as one that is made there.
pub(super) fn plan_move(request: PlanRequest) -> Planned {
    let PlanRequest { proposed: mut state, config, private, .. } = request;
    state.set("id", config.get("name").clone());
    plan_unknown(&mut state, &config);
    Planned { state: Some(state), replace: vec![Path::attribute("region")], private }
}

/// What the last refresh saw, if it saw everything that this wish is about.
fn seen_by_refresh(intent: &Intent, before: Option<&Intent>, memory: &PrivateState) -> Option<World> {
    let before = before?;
    let (looked, wanted) = (model::scope(before), model::scope(intent));
    let keys: Vec<String> = looked.routes.iter().map(RouteSpec::key).collect();
    let routes = wanted.routes.iter().filter(|route| !intent.removed.contains(route));
    let all = routes.into_iter().all(|route| keys.contains(&route.key()));
    // Sizes, too: what was not looked at can't be told, and an apply does only what its plan told.
    let sizes = wanted.scalables.iter().all(|(color, scalable)| looked.scalables.get(color) == Some(scalable));
    memory.world.clone().filter(|_| all && sizes && before.record == intent.record)
}

/// Two switches with one record lead to one color, or the record would be wrong about one of them. Whether that is so is
/// told.
fn wants_another_color(shared: &Shared, intent: &Intent, diagnostics: &mut Diagnostics) -> bool {
    let (Some(record), Some(active), Some(route)) = (&intent.record, &intent.active, intent.routes.first()) else {
        return false;
    };
    let Some(other) = shared.switches.wish(record, &route.key(), active) else { return false };
    let detail = format!(
        "active is {active:?}, and another switch of this configuration that keeps the record {record} wants {other:?} live. A record names one color. Give both the same active, or each a record of its own."
    );
    diagnostics.error_at(Path::attribute("active"), "Two switches want different colors on one record", detail);
    true
}

/// Whether the time for an approval has passed. In a freeze nothing goes on by itself.
fn is_overdue(config: &Value, intent: &Intent, world: &World) -> bool {
    let now = clock::wall();
    let goes_on = intent.strategy.approval.as_ref().is_some_and(|approval| approval.on_timeout == OnTimeout::Continue);
    situation::is_overdue(intent, world, now) && !(goes_on && freezes::now(config, now).is_some())
}

/// Two switches with one record have one lock record, which has room for one rollout that waits; and who goes on first writes the record for
/// both. Whether that is so is told.
fn shares_its_wait(shared: &Shared, intent: &Intent, diagnostics: &mut Diagnostics) -> bool {
    let (Some(record), Some(route)) = (&intent.record, intent.routes.first()) else { return false };
    if intent.strategy.up_to.is_none() || !shared.switches.is_shared(record, &route.key()) {
        return false;
    }
    let path = Path::attribute("strategy").attr("up_to");
    let detail = format!(
        "{path} lets the rollout wait, and another switch of this configuration keeps the record {record}, too: it would say that a color is live of which this switch gives only a part. Give both switches a record of their own, or put the routes of both into one switch."
    );
    diagnostics.error_at(path, "Another switch has the same record", detail);
    true
}

/// A switch works in one region; an ARN of another would only be "not found" there.
fn is_region_right(shared: &Shared, intent: &Intent, diagnostics: &mut Diagnostics) -> bool {
    let Some(region) = &shared.region else { return true };
    let mut right = true;
    for (list, routes) in [("routes", &intent.routes), ("preview_routes", &intent.preview_routes)] {
        for (n, route) in routes.iter().enumerate() {
            let key = route.key();
            let Some(other) = arn::region(&key).filter(|other| other != region) else { continue };
            let path = Path::attribute(list).index(n);
            let detail =
                format!("{path}: {route} is in {other}, but the switch works in {region}. {}", regions::cure(other));
            diagnostics.error_at(path, "The route is in another region", detail);
            right = false;
        }
    }
    right
}

/// Not everything is known: what will be live is, if the color is named; the rest is for the apply to tell.
fn plan_unknown(state: &mut Value, config: &Value) {
    for name in TOLD_BY_APPLY {
        state.set(name, Value::UNKNOWN);
    }
    let active = config.get("active");
    let Some(active) = active.as_str() else {
        if active.is_null() {
            state.set("active", Value::UNKNOWN);
        }
        return;
    };
    // Whether another color has traffic to share is not known.
    if model::strategy(config).wanted().up_to.is_some() || !config.get("strategy").is_wholly_known() {
        return;
    }
    state.set("live", Value::from(active));
    if let Some(environments) = config.get("environments").as_map() {
        private_state::set_all_on(state, environments, active);
    }
    // Whether another color was live before, and when that changed, is for the apply to tell: what a killed rollout left
    // shows only in the looks.
}

/// Everything is known from the last refresh: what will be done is told step by step.
fn plan_known(
    state: &mut Value,
    (prior, config): (Option<&Value>, &Value),
    intent: &Intent,
    world: &World,
    runbook: &Runbook,
) {
    let now = situation::current(intent, world);
    let wish = situation::target_color(intent, world);
    if runbook.is_empty() || runbook.waits.is_some() {
        let after = situation::current(intent, &runbook.after(world, |_| true));
        private_state::set_traffic(state, &intent.environments, &after);
        if let Some(active) = &intent.active {
            state.set("active", Value::from(active.as_str()));
        }
        if !runbook.is_empty() {
            if after.live != now.live {
                state.set("previous", Value::from(now.live));
                state.set("switched_at", Value::UNKNOWN);
            }
            state.set("runbook", Value::from(runbook.summary()));
            state.set("last_rollout", Value::UNKNOWN);
        }
        return;
    }
    let followed = intent.active.is_none();
    match wish.filter(|_| !followed) {
        Some(wish) => {
            // Where nobody approved in time it goes elsewhere than is configured.
            state.set("active", config.get("active").clone());
            private_state::set_all_on(state, &intent.environments, &wish);
            let left = situation::unfinished(intent, world).filter(|left| left.to.as_ref() == Some(&wish));
            let from = left.and_then(|left| left.from.clone()).map(Value::from);
            if now.live.as_ref() != Some(&wish) || from.is_some() {
                let was = from.as_ref().unwrap_or_else(|| prior.map_or(&Value::Null, |prior| prior.get("live")));
                let same = was.as_str() == Some(wish.as_str());
                let before = prior.map_or(&Value::Null, |prior| prior.get("previous"));
                state.set("previous", if same { before.clone() } else { was.clone() });
                state.set("switched_at", Value::UNKNOWN);
            }
        }
        None => {
            private_state::set_traffic(state, &intent.environments, &now);
            // A new route joins the others, which may change the mean over them.
            state.set("weights", Value::UNKNOWN);
            if now.live.is_none() {
                for name in ["active", "live", "idle", "previous", "switched_at"] {
                    state.set(name, Value::UNKNOWN);
                }
            }
        }
    }
    state.set("runbook", Value::from(runbook.summary()));
    state.set("last_rollout", Value::UNKNOWN);
}
