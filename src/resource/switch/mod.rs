//! `bluegreen_switch`: which colour is live.
//!
//! ```hcl
//! resource "bluegreen_switch" "app" {
//!   name         = "myapp"
//!   active       = "green"
//!   environments = {
//!     blue  = { target_group_arn = aws_lb_target_group.blue.arn }
//!     green = { target_group_arn = aws_lb_target_group.green.arn }
//!   }
//!   routes    = [{ listener_arn = aws_lb_listener.https.arn }]
//!   parameter = "/myapp/current-live"
//! }
//! ```
//!
//! Refresh reads the load balancer and leaves what it saw in private state; plan turns that and the configuration into
//! a runbook without asking again; apply looks once more, plans anew and runs.

mod apply;
mod checks;
mod concerns;
mod contracts;
mod import;
mod intent;
mod parity;
mod schema;
mod state;
mod story;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use self::apply::Apply;
use self::contracts::Outdated;
use self::state::Memory;
use self::story::Failure;
use super::{Context, Shared};
use crate::rollout::planner::{self, Refusal};
use crate::rollout::{Intent, Removal, RouteSpec, Runbook, World};
use crate::run::executor::{self, Ending, Run};
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::tf_provider::{
    ApplyRequest, Cancel, Diagnostics, Path, PlanRequest, Planned, ReadRequest, Resource, Schema, Stored, Value,
};

pub(in crate::resource) use self::schema::parameter;

/// What the switch makes carries this tag, with the switch's name.
const TAG: &str = "bluegreen:switch";
/// What only an apply can tell, unless a plan can.
const TOLD_BY_APPLY: [&str; 7] = ["live", "idle", "previous", "weights", "switched_at", "runbook", "last_rollout"];

/// The resource.
pub struct Switch {
    schema: Schema,
    context: Arc<Context>,
}

impl Switch {
    /// The resource over the provider's connection.
    pub fn new(context: Arc<Context>) -> Switch {
        Switch { schema: schema::schema(), context }
    }
}

fn name(value: &Value) -> &str {
    value.get("name").as_str().unwrap_or("the switch")
}

fn tags(shared: &Shared, name: &str) -> BTreeMap<String, String> {
    let mut tags = shared.connection.settings().map(|settings| settings.default_tags.clone()).unwrap_or_default();
    tags.insert(TAG.to_owned(), name.to_owned());
    tags
}

/// The wish of a configuration, with what the state before knows of rules that are ours.
fn wish(config: &Value, before: Option<&Intent>, memory: &Memory) -> Option<Intent> {
    let mut intent = intent::parse(config)?;
    let wanted: Vec<String> = intent::own_rules(&intent).map(RouteSpec::key).collect();
    let mut own: Vec<RouteSpec> = before.into_iter().flat_map(intent::own_rules).cloned().collect();
    let known: Vec<String> = own.iter().map(RouteSpec::key).collect();
    own.extend(memory.own_routes().filter(|route| before.is_some() && !known.contains(&route.key())));
    let arn = |route: &RouteSpec| memory.own.get(&route.key()).cloned().unwrap_or_default();
    intent.owned = own.iter().map(|route| (route.key(), arn(route))).collect();
    intent.removed = own.into_iter().filter(|route| !wanted.contains(&route.key())).collect();
    Some(intent)
}

/// Looks at everything that a wish is about; what can't be read is told.
async fn look(
    shared: &Shared,
    intent: &Intent,
    age: Freshness,
    name: &str,
    diagnostics: &mut Diagnostics,
) -> Option<World> {
    match executor::observe(&shared.ports, &intent::sight(intent), age).await {
        // Who acts on what is seen gets what a dead rollout left with its lock.
        Ok(world) if age == Freshness::Shared => {
            let ledger = apply::ledger_left(shared, intent, &world).await;
            Some(World { ledger, ..world })
        }
        Ok(world) => Some(world),
        Err(error) => {
            story::unreadable(name, &error, diagnostics);
            None
        }
    }
}

/// What the last refresh saw, if it saw everything that this wish is about.
fn seen_by_refresh(intent: &Intent, before: Option<&Intent>, memory: &Memory) -> Option<World> {
    let before = before?;
    let looked: Vec<String> = intent::all_routes(before).iter().map(RouteSpec::key).collect();
    let wanted = intent.routes.iter().chain(&intent.preview_routes);
    let all = wanted.into_iter().all(|route| looked.contains(&route.key()));
    memory.world.clone().filter(|_| all && before.record == intent.record)
}

#[async_trait]
impl Resource for Switch {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        validate::validate(config, diagnostics);
    }

    async fn read(&self, request: ReadRequest, diagnostics: &mut Diagnostics) -> Stored {
        let ReadRequest { mut state, private, .. } = request;
        let unchanged = |state: Value, private| Stored { state: Some(state), private };
        let Some(shared) = self.context.shared(diagnostics) else { return unchanged(state, private) };
        let Some(intent) = intent::parse(&state).filter(|_| shared.connection.is_known()) else {
            return unchanged(state, private);
        };
        let Some(world) = look(&shared, &intent, Freshness::Shared, name(&state), diagnostics).await else {
            return unchanged(state, private);
        };
        // Also where no route is left: the record may be ours, and only destroy can take it away.
        let mut memory = Memory::read(&private);
        state::set_traffic(&mut state, &intent.environments, &planner::current(&intent, &world));
        memory.world = Some(world);
        Stored { state: Some(state), private: memory.bytes() }
    }

    async fn plan(&self, request: PlanRequest, diagnostics: &mut Diagnostics) -> Planned {
        let PlanRequest { prior, proposed, config, private, .. } = request;
        let Some(mut state) = proposed else { return Planned { private, ..Planned::default() } };
        let memory = Memory::read(&private);
        let before = prior.as_ref().and_then(intent::parse);
        let intent = wish(&config, before.as_ref(), &memory);
        let outdated = Outdated::of(&config, prior.as_ref(), &memory.outdated);
        let Some(shared) = self.context.shared(diagnostics) else { return Planned::default() };
        state.set("id", config.get("name").clone());
        parity::check(&config, diagnostics);
        let known = intent.filter(|_| shared.connection.is_known());
        let Some(intent) = known else {
            plan_unknown(&mut state, &config, prior.as_ref());
            return Planned { state: Some(state), replace: Vec::new(), private };
        };
        if !is_region_right(&shared, &intent, diagnostics) {
            return Planned { state: Some(state), replace: Vec::new(), private };
        }
        if let Some(world) = seen_by_refresh(&intent, before.as_ref(), &memory) {
            match planner::plan(&intent, &world) {
                Ok(runbook) => {
                    plan_known(&mut state, prior.as_ref(), &intent, &world, &runbook);
                    outdated.bars(&config, (&intent, &world), diagnostics);
                    concerns::tell(&shared, &config, (&intent, &world, &runbook), diagnostics).await;
                }
                Err(Refusal::RouteMissing(route)) => {
                    // It was there once. A plan that fails here would also keep people from destroying the switch.
                    story::route_gone(&route, &intent, diagnostics);
                    plan_unknown(&mut state, &config, prior.as_ref());
                }
                Err(refusal) => story::refusal(&refusal, &intent, diagnostics),
            }
            return Planned { state: Some(state), replace: Vec::new(), private };
        }
        // Terraform plans once more while it applies, and what was known must be the same then. Nothing that is only
        // seen now can be promised: other resources of this apply, or people, may change it in between.
        plan_unknown(&mut state, &config, prior.as_ref());
        state.set("runbook", Value::from(planner::outline(&intent)));
        if let Some(world) = look(&shared, &intent, Freshness::Shared, name(&config), diagnostics).await {
            match planner::plan(&intent, &world) {
                Err(refusal) => story::refusal(&refusal, &intent, diagnostics),
                Ok(runbook) => {
                    outdated.bars(&config, (&intent, &world), diagnostics);
                    story::moves_traffic(planner::busiest(&intent, &world).as_deref(), &intent, diagnostics);
                    concerns::tell(&shared, &config, (&intent, &world, &runbook), diagnostics).await;
                }
            }
        }
        Planned { state: Some(state), replace: Vec::new(), private }
    }

    async fn apply(&self, request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: request.prior.clone(), private: request.private.clone() };
        let Some(shared) = self.context.shared(diagnostics) else { return before };
        match (&request.planned, &request.prior) {
            (Some(planned), prior) => {
                // What was not known when planning is compared now, before anything moves.
                let mut compared = Diagnostics::new();
                parity::check(&request.config, &mut compared);
                if compared.has_errors() {
                    diagnostics.extend(compared);
                    return before;
                }
                let prior = prior.as_ref().and_then(intent::parse);
                let wish = wish(&request.config, prior.as_ref(), &Memory::read(&request.private));
                let Some(intent) = wish else {
                    diagnostics.error("The provider has a bug", "A value is unknown in an apply. Please report this.");
                    return before;
                };
                let apply = Apply { shared: &shared, request: &request, planned, intent };
                apply.run(diagnostics).await
            }
            (None, Some(prior)) => destroy(&shared, prior, &request, diagnostics).await,
            (None, None) => before,
        }
    }

    async fn import(&self, id: &str, _: Cancel, diagnostics: &mut Diagnostics) -> Stored {
        let Some(shared) = self.context.shared(diagnostics) else { return Stored::default() };
        match import::import(&shared, &self.schema, id).await {
            Ok(state) => Stored { state: Some(state), private: Vec::new() },
            Err(detail) => {
                diagnostics.error(format!("Failed to import {id:?}"), detail);
                Stored::default()
            }
        }
    }
}

/// A provider works in one region; an ARN of another would only be "not found" there.
fn is_region_right(shared: &Shared, intent: &Intent, diagnostics: &mut Diagnostics) -> bool {
    let Some(region) = shared.connection.explicit_region() else { return true };
    let mut right = true;
    for (list, routes) in [("routes", &intent.routes), ("preview_routes", &intent.preview_routes)] {
        for (n, route) in routes.iter().enumerate() {
            let key = route.key();
            let Some(other) = key.split(':').nth(3).filter(|other| *other != region) else { continue };
            let path = Path::attribute(list).index(n);
            let detail = format!(
                "{path}: {route} is in {other}, but the provider works in {region}. Use a provider of that region (provider = bluegreen.<alias>)."
            );
            diagnostics.error_at(path, "The route is in another region", detail);
            right = false;
        }
    }
    right
}

/// Not everything is known: what will be live is, if the colour is named; the rest is for the apply to tell.
fn plan_unknown(state: &mut Value, config: &Value, prior: Option<&Value>) {
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
    state.set("live", Value::from(active));
    if let Some(environments) = config.get("environments").as_map() {
        state::set_all_on(state, environments, active);
    }
    if let Some(prior) = prior {
        let live = prior.get("live");
        let same = live.as_str() == Some(active);
        state.set("previous", if same { prior.get("previous").clone() } else { live.clone() });
        // A group that is made anew has no traffic yet: this apply leads it there, though the colour is the same.
        let groups = config.get("environments").as_map().into_iter().flatten();
        let known =
            groups.clone().count() > 0 && groups.clone().all(|(_, one)| !one.get("target_group_arn").is_unknown());
        if same && known {
            state.set("switched_at", prior.get("switched_at").clone());
        }
    }
}

/// Everything is known from the last refresh: what will be done is told step by step.
fn plan_known(state: &mut Value, prior: Option<&Value>, intent: &Intent, world: &World, runbook: &Runbook) {
    let now = planner::current(intent, world);
    let wish = planner::wish(intent, world);
    if runbook.is_empty() {
        state::set_traffic(state, &intent.environments, &now);
        if let Some(active) = &intent.active {
            state.set("active", Value::from(active.as_str()));
        }
        return;
    }
    let followed = intent.active.is_none();
    match wish.filter(|_| !followed) {
        Some(wish) => {
            state.set("active", Value::from(wish.as_str()));
            state::set_all_on(state, &intent.environments, &wish);
            let left = planner::unfinished(intent, world).filter(|left| left.to.as_ref() == Some(&wish));
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
            state::set_traffic(state, &intent.environments, &now);
            // A new route joins the others, which may change the mean over them.
            state.set("weights", Value::UNKNOWN);
            if now.live.is_none() {
                for name in ["active", "live", "idle", "previous", "switched_at"] {
                    state.set(name, Value::UNKNOWN);
                }
            }
        }
    }
    state.set("runbook", Value::from(runbook.words()));
    state.set("last_rollout", Value::UNKNOWN);
}

/// What is to be left: nothing that the switch made, and what was before where that is wished.
async fn removal(
    shared: &Shared,
    prior: &Value,
    (intent, world): (&Intent, &World),
    memory: &Memory,
) -> Result<Removal, PortError> {
    let ours = |route: &&RouteSpec| world.routes.get(&route.key()).is_some_and(|seen| intent.is_ours(route, seen));
    let own = intent::own_rules(intent).chain(&intent.removed).filter(ours).cloned().collect();
    let restore = prior.get("on_destroy").as_str() == Some("restore");
    let routes = intent.routes.iter().chain(&intent.preview_routes);
    let foreign = routes.filter(|route| restore && !matches!(route, RouteSpec::OwnRule { .. }));
    let original = |route: &RouteSpec| Some((route.clone(), memory.originals.routes.get(&route.key())?.clone()));
    let mut removal = Removal {
        environments: intent.environments.clone(),
        own_rules: own,
        originals: foreign.filter_map(original).collect(),
        record: None,
    };
    if let Some(parameter) = &intent.record {
        // The tag says who made it, also where an earlier run was killed before it could.
        let tags = match shared.ports.records.tags(parameter).await {
            Ok(tags) => tags,
            Err(error) if error.kind == FailureKind::Gone => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let ours =
            memory.made_record.as_ref() == Some(parameter) || tags.get(TAG).map(String::as_str) == Some(name(prior));
        let known = memory.original_record_of.as_ref() == Some(parameter);
        let before = memory.originals.record.clone().filter(|_| restore && known);
        removal.record = match (ours, before) {
            (true, _) => Some((parameter.clone(), None)),
            (false, Some(value)) => Some((parameter.clone(), Some(value))),
            (false, None) => None,
        };
    }
    Ok(removal)
}

async fn destroy(shared: &Shared, prior: &Value, request: &ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
    let before = Stored { state: Some(prior.clone()), private: request.private.clone() };
    let mut memory = Memory::read(&request.private);
    let own = intent::parse(prior);
    let Some(intent) = wish(prior, own.as_ref(), &memory) else { return Stored::default() };
    let Some(world) = look(shared, &intent, Freshness::Now, name(prior), diagnostics).await else { return before };
    let runbook = match removal(shared, prior, (&intent, &world), &memory).await {
        Ok(removal) => planner::plan_removal(&removal, &world),
        Err(error) => {
            story::unreadable(name(prior), &error, diagnostics);
            return before;
        }
    };
    let about = apply::about(&intent, &world, name(prior), &Value::Null);
    let lock = match apply::lock(shared, &intent, &world, &about, &request.cancel).await {
        Ok(lock) => lock,
        Err(refused) => {
            story::refused(&refused, &intent, diagnostics);
            return before;
        }
    };
    let run = Run {
        ports: &shared.ports,
        runbook: &runbook,
        sight: &intent::sight(&intent),
        tags: &BTreeMap::new(),
        about: &about,
        lock: lock.as_ref(),
        cancel: &request.cancel,
        limit: intent::timeout(prior, "delete"),
    };
    let outcome = run.run(world).await;
    if let Some(lock) = &lock {
        // What an unfinished rollout left is still to be known if the switch stays.
        let left = apply::as_found(lock).filter(|_| outcome.ending != Ending::Done);
        apply::release(lock, left, &intent, diagnostics).await;
    }
    if outcome.ending == Ending::Done {
        return Stored::default();
    }
    let failure = Failure {
        summary: format!("Failed to remove the switch {}", name(prior)),
        intent: &intent,
        config: &Value::Null,
        runbook: &runbook,
        outcome: &outcome,
        from: None,
        is_new: false,
    };
    failure.tell(diagnostics);
    memory.world = outcome.world;
    Stored { state: Some(prior.clone()), private: memory.bytes() }
}
