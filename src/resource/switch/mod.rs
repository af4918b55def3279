//! `bluegreen_switch`: which color is live.
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
mod contracts;
mod destroy;
mod diagnostics;
mod import;
mod model;
mod parity;
mod private_state;
mod promise;
mod schema;
mod validate;
mod warnings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use self::apply::Apply;
use self::contracts::Outdated;
use self::private_state::PrivateState;
use super::{Context, Shared};
use crate::rollout::lint::Purpose;
use crate::rollout::planner::{self, Refusal};
use crate::rollout::situation;
use crate::rollout::{Intent, RouteSpec, Runbook, World};
use crate::run::ports::Freshness;
use crate::run::rollout::executor;
use crate::tf_provider::{
    ApplyRequest, Cancel, DestroyRequest, Diagnostics, Path, PlanRequest, Planned, ReadRequest, Resource, Schema,
    Stored, Value,
};

/// What the switch makes carries this tag, with the switch's name.
const TAG: &str = "bluegreen:switch";
/// And this one, with the token of the object that made it or took it over last: a name may be used again.
const OWNER_TAG: &str = "bluegreen:owner";
/// What only an apply can tell, unless a plan can.
const TOLD_BY_APPLY: [&str; 7] = ["live", "idle", "previous", "weights", "switched_at", "runbook", "last_rollout"];

/// The resource.
pub struct Switch {
    schema: Schema,
    context: Arc<Context>,
}

impl Switch {
    /// The resource over what the provider shares.
    pub fn new(context: Arc<Context>) -> Switch {
        Switch { schema: schema::schema(), context }
    }
}

fn name(value: &Value) -> &str {
    value.get("name").as_str().unwrap_or("the switch")
}

fn tags(shared: &Shared, name: &str, owner: &str) -> BTreeMap<String, String> {
    let mut tags = shared.platform.settings().map(|settings| settings.default_tags.tags.clone()).unwrap_or_default();
    tags.insert(TAG.to_owned(), name.to_owned());
    if !owner.is_empty() {
        tags.insert(OWNER_TAG.to_owned(), owner.to_owned());
    }
    tags
}

/// The wish of a configuration, with what the state before knows of rules that are ours.
fn wish(config: &Value, before: Option<&Intent>, memory: &PrivateState) -> Option<Intent> {
    let mut intent = model::parse(config)?;
    let former = memory.own_routes(before).into_iter().filter(|_| before.is_some());
    let wanted: Vec<String> = intent.routes.iter().chain(&intent.preview_routes).map(RouteSpec::key).collect();
    intent.routes.iter_mut().chain(&mut intent.preview_routes).for_each(|route| memory.name(route));
    intent.removed = former.filter(|route| !wanted.contains(&route.key())).collect();
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
    match executor::observe(&shared.ports, &model::scope(intent), age).await {
        // Who acts on what is seen gets what a dead rollout left with its lock.
        Ok(world) if age == Freshness::Shared => {
            let lock_record = apply::lock_record_left(shared, intent, &world).await;
            Some(World { lock_record, ..world })
        }
        Ok(world) => Some(world),
        Err(error) => {
            diagnostics::unreadable(name, &error, diagnostics);
            None
        }
    }
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
        let memory = PrivateState::read(&private);
        let before = model::parse(&state);
        let Some(intent) = wish(&state, before.as_ref(), &memory).filter(|_| shared.platform.is_known()) else {
            return unchanged(state, private);
        };
        let Some(world) = look(&shared, &intent, Freshness::Shared, name(&state), diagnostics).await else {
            return unchanged(state, private);
        };
        // Also where no route is left: the record may be ours, and only destroy can take it away.
        let mut memory = memory;
        private_state::set_traffic(&mut state, &intent.environments, &situation::current(&intent, &world));
        memory.world = Some(world);
        Stored { state: Some(state), private: memory.bytes() }
    }

    async fn plan(&self, request: PlanRequest, diagnostics: &mut Diagnostics) -> Planned {
        let PlanRequest { prior, proposed, config, private, .. } = request;
        let mut state = proposed;
        let memory = PrivateState::read(&private);
        let before = prior.as_ref().and_then(model::parse);
        let intent = wish(&config, before.as_ref(), &memory);
        let outdated = Outdated::of(&config, prior.as_ref(), &memory.outdated);
        let Some(shared) = self.context.shared(diagnostics) else { return Planned::default() };
        state.set("id", config.get("name").clone());
        parity::check(&config, diagnostics);
        let known = intent.filter(|_| shared.platform.is_known());
        let Some(intent) = known else {
            plan_unknown(&mut state, &config);
            return Planned { state: Some(state), replace: Vec::new(), private };
        };
        if wants_another_color(&shared, &intent, diagnostics) {
            return Planned { state: Some(state), replace: Vec::new(), private };
        }
        if !is_region_right(&shared, &intent, diagnostics) {
            return Planned { state: Some(state), replace: Vec::new(), private };
        }
        if let Some(world) = seen_by_refresh(&intent, before.as_ref(), &memory) {
            match planner::plan(&intent, &world) {
                Ok(runbook) => {
                    diagnostics::is_sound(&runbook, (&intent, &world), Purpose::Rollout, diagnostics);
                    plan_known(&mut state, prior.as_ref(), &intent, &world, &runbook);
                    outdated.bars(&config, (&intent, &world), diagnostics);
                    warnings::tell(&shared, &config, (&intent, &world, &runbook), diagnostics).await;
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
        let mut memory = memory;
        if let Some(world) = look(&shared, &intent, Freshness::Shared, name(&config), diagnostics).await {
            memory.planned = Some(World { lock_record: None, ..world.clone() });
            match planner::plan(&intent, &world) {
                Err(refusal) => diagnostics::refusal(&refusal, &intent, diagnostics),
                Ok(runbook) => {
                    diagnostics::is_sound(&runbook, (&intent, &world), Purpose::Rollout, diagnostics);
                    outdated.bars(&config, (&intent, &world), diagnostics);
                    diagnostics::moves_traffic(situation::busiest(&intent, &world).as_deref(), &intent, diagnostics);
                    warnings::tell(&shared, &config, (&intent, &world, &runbook), diagnostics).await;
                }
            }
        }
        Planned { state: Some(state), replace: Vec::new(), private: memory.bytes() }
    }

    async fn apply(&self, request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: request.prior.clone(), private: request.private.clone() };
        let Some(shared) = self.context.shared(diagnostics) else { return before };
        // What was not known when planning is looked at now, before anything moves.
        let mut compared = Diagnostics::new();
        validate::validate(&request.config, &mut compared);
        parity::check(&request.config, &mut compared);
        if compared.has_errors() {
            diagnostics.extend(compared);
            return before;
        }
        let prior = request.prior.as_ref().and_then(model::parse);
        let wish = wish(&request.config, prior.as_ref(), &PrivateState::read(&request.private));
        let Some(intent) = wish else {
            diagnostics.error("The provider has a bug", "A value is unknown in an apply. Please report this.");
            return before;
        };
        let apply = Apply { shared: &shared, request: &request, planned: &request.planned, intent };
        apply.run(diagnostics).await
    }

    async fn destroy(&self, request: DestroyRequest, diagnostics: &mut Diagnostics) -> Stored {
        match self.context.shared(diagnostics) {
            Some(shared) => destroy::destroy(&shared, &request, diagnostics).await,
            None => Stored { state: Some(request.prior), private: request.private },
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

/// A provider works in one region; an ARN of another would only be "not found" there.
fn is_region_right(shared: &Shared, intent: &Intent, diagnostics: &mut Diagnostics) -> bool {
    let Some(region) = shared.platform.region() else { return true };
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
    state.set("live", Value::from(active));
    if let Some(environments) = config.get("environments").as_map() {
        private_state::set_all_on(state, environments, active);
    }
    // Whether another color was live before, and when that changed, is for the apply to tell: what a killed rollout left
    // shows only in the looks.
}

/// Everything is known from the last refresh: what will be done is told step by step.
fn plan_known(state: &mut Value, prior: Option<&Value>, intent: &Intent, world: &World, runbook: &Runbook) {
    let now = situation::current(intent, world);
    let wish = situation::target_color(intent, world);
    if runbook.is_empty() {
        private_state::set_traffic(state, &intent.environments, &now);
        if let Some(active) = &intent.active {
            state.set("active", Value::from(active.as_str()));
        }
        return;
    }
    let followed = intent.active.is_none();
    match wish.filter(|_| !followed) {
        Some(wish) => {
            state.set("active", Value::from(wish.as_str()));
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
