//! `bluegreen_environment`: one color of a mirrored stack.
//!
//! ```hcl
//! resource "bluegreen_environment" "app" {
//!   for_each = toset(["blue", "green"])
//!   name     = "myapp"
//!   color    = each.key
//!   vpc_id   = var.vpc_id
//!   target_group = { port = 80, protocol = "HTTP", health_check = { path = "/health" } }
//!   instances    = { image_id = "ami-12345678", instance_type = "t3.medium", … }
//! }
//! ```
//!
//! Refresh looks at everything that the state knows of; plan compares the state with the configuration and asks the load
//! balancer only where a change could hurt somebody; apply looks again, plans anew and carries out.

mod apply;
mod destroy;
mod diagnostics;
mod import;
mod model;
mod plan;
mod private_state;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::private_state::PrivateState;
use super::{Context, Shared};
use crate::argument::Field as _;
use crate::run::call::Call;
use crate::run::ports::{Freshness, PortError};
use crate::run::stack::{Seen, live_guard, observe};
use crate::stack::{self, Spec, Timeouts, live_by};
use crate::tf_provider::{
    ApplyRequest, Cancel, DestroyRequest, Diagnostics, PlanRequest, Planned, ReadRequest, Resource, Schema, Stored,
    Value,
};

/// The resource.
pub struct Environment {
    schema: Schema,
    context: Arc<Context>,
}

impl Environment {
    /// The resource over what the provider shares.
    pub fn new(context: Arc<Context>) -> Environment {
        Environment { schema: schema::schema(), context }
    }

    /// The state after a look. `written` is what the state says.
    fn observed(&self, mut state: Value, (written, after): (&Spec, &Spec), seen: &Seen, spared: bool) -> Value {
        model::overlay(&mut state, written, after, &self.schema, spared);
        let managed = state.get("tags_all").string_map();
        model::set_ids(&mut state, &seen.ids());
        if !seen.is_attached() {
            // So that the next plan has something to do: apply attaches it again.
            state.set("target_group_name", Value::Null);
        }
        state.set("id", Value::from(after.id()));
        if !spared {
            set_mirror(&mut state, after);
        }
        state.set("tags_all", strings(seen.tags_of(&managed)));
        state
    }

    async fn refresh(&self, shared: &Shared, request: ReadRequest, diagnostics: &mut Diagnostics) -> Stored {
        let ReadRequest { state, private, .. } = request;
        let Some(spec) = model::spec(&state).filter(|_| shared.platform.is_known()) else {
            return Stored { state: Some(state), private };
        };
        let mut memory = PrivateState::read(&private);
        let (spec, ids) = (spec.with_defaults(), memory.known(model::ids(&state)));
        shared.stack.objects.note(&memory.owner);
        shared.stack.objects.note_there(&spec.id());
        let unchanged = |private| Stored { state: Some(state.clone()), private };
        let seen = match observe(&shared.stack.ports, &spec, &ids).await {
            Ok(seen) => seen,
            Err(error) => {
                diagnostics::unreadable(&spec.id(), &error, diagnostics);
                return unchanged(private);
            }
        };
        if seen.ids().is_empty() {
            return Stored { state: None, private };
        }
        memory.learn(&seen);
        shared.stack.objects.note(&memory.owner);
        let after = seen.spec(&spec);
        memory.note_found(if memory.is_former() { &after } else { &spec });
        if let Err(error) = spare(shared, (&spec, &after), &seen, &mut memory, diagnostics).await {
            diagnostics::unreadable(&spec.id(), &error, diagnostics);
            return unchanged(private);
        }
        memory.note_left(&ids);
        diagnostics::detached(&spec, &seen, diagnostics);
        diagnostics::not_found(&spec, &seen, diagnostics);
        let state = self.observed(state.clone(), (&spec, &after), &seen, memory.spared);
        Stored { state: Some(state), private: memory.bytes() }
    }
}

/// Notes whether a color is to be left as it is for now, since users get there and it isn't as it was applied.
async fn spare(
    shared: &Shared,
    (spec, after): (&Spec, &Spec),
    seen: &Seen,
    memory: &mut PrivateState,
    diagnostics: &mut Diagnostics,
) -> Result<(), PortError> {
    memory.spared = false;
    let differs = if memory.applied.is_empty() { Vec::new() } else { memory.differing(after).into_iter().collect() };
    let former = seen.former_instances();
    let lacks = seen.scaling_group.is_some() && seen.template.is_none();
    let Some(group) = seen.group.as_ref().filter(|_| spec.is_protected()) else { return Ok(()) };
    if differs.is_empty() && former.is_empty() && !lacks && memory.attempted.is_empty() {
        return Ok(());
    }
    let leads = live_guard::leads_to(&shared.stack, &group.arn, Freshness::Shared).await?;
    if let Some(routes) = live_by(&leads) {
        memory.spared = true;
        diagnostics::spared(spec, &routes, &diagnostics::Found { differs, former, lacks_template: lacks }, diagnostics);
    }
    Ok(())
}

fn defaults(shared: &Shared) -> BTreeMap<String, String> {
    shared.platform.settings().map(|settings| settings.default_tags.tags.clone()).unwrap_or_default()
}

fn tags_all(spec: &Spec, defaults: &BTreeMap<String, String>) -> Value {
    let mut tags = defaults.clone();
    tags.extend(spec.tags.clone());
    strings(tags)
}

fn strings(map: BTreeMap<String, String>) -> Value {
    Value::object(map.into_iter().map(|(key, value)| (key, Value::from(value))))
}

fn set_mirror(state: &mut Value, spec: &Spec) {
    let mirror = stack::mirror(spec);
    state.set("mirror", Value::from(mirror.neutral));
    state.set("mirror_verbatim", Value::from(mirror.verbatim));
}

/// How long an operation may take.
fn limit(value: &Value, operation: &str) -> Duration {
    let timeouts = Timeouts::read(&value.get("timeouts").known_json()).unwrap_or_default();
    match operation {
        "create" => timeouts.create,
        "update" => timeouts.update,
        _ => timeouts.delete,
    }
}

#[async_trait]
impl Resource for Environment {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        validate::validate(config, diagnostics);
    }

    fn generate(&self, state: &Value) -> Value {
        let mut config = self.context.without_usual_region(self.schema.configurable(state.clone()));
        if config.get("target_group").is_set() {
            config.set("target_group_arn", Value::Null);
        }
        config
    }

    async fn read(&self, request: ReadRequest, diagnostics: &mut Diagnostics) -> Stored {
        match self.context.shared_by(&request.state, diagnostics).await {
            Some(shared) => shared.with_region(self.refresh(&shared, request, diagnostics).await),
            None => Stored { state: Some(request.state), private: request.private },
        }
    }

    async fn plan(&self, mut request: PlanRequest, diagnostics: &mut Diagnostics) -> Planned {
        let Some(shared) = self.context.shared_in_plan(&request, diagnostics).await else { return Planned::default() };
        request.proposed.set("region", self.context.planned_region(&request.config, request.prior.as_ref()));
        let wanted = self.context.wanted(&request.config);
        plan::plan(&shared, request, wanted, diagnostics).await
    }

    async fn apply(&self, mut request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: request.prior.clone(), private: request.private.clone() };
        let Some(shared) = self.context.shared_in_apply(&mut request, diagnostics).await else { return before };
        if let Some(plan::Beside::Gone) = plan::group_beside(&request.config, request.prior.as_ref()) {
            diagnostics::group_gone(&request.config, true, diagnostics);
            return before;
        }
        // What a plan keeps of the state for now, the intent has there as well.
        let Some(spec) = model::spec(&request.planned) else {
            diagnostics.error("The provider has a bug", "A value is unknown in an apply. Please report this.");
            return before;
        };
        let spec = spec.with_defaults();
        let until = Call::until(request.cancel.clone());
        until.make(self.make(&shared, &request, (&request.planned, &spec), diagnostics)).await
    }

    async fn plan_destroy(&self, request: DestroyRequest, diagnostics: &mut Diagnostics) -> Vec<u8> {
        if let Some(shared) = self.context.shared_by(&request.prior, diagnostics).await {
            plan::plan_destroy(&shared, &request, diagnostics).await;
        }
        request.private
    }

    async fn destroy(&self, request: DestroyRequest, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: Some(request.prior.clone()), private: request.private.clone() };
        let Some(shared) = self.context.shared_by(&request.prior, diagnostics).await else { return before };
        let until = Call::until(request.cancel.clone());
        until.make(destroy::destroy(&shared, &request, diagnostics)).await
    }

    async fn import(&self, id: &str, _: Cancel, diagnostics: &mut Diagnostics) -> Stored {
        let (id, shared) = self.context.shared_by_import(id, diagnostics).await;
        let Some(shared) = shared else { return Stored::default() };
        match import::import(&shared, &self.schema, id).await {
            Ok(stored) => shared.with_region(stored),
            Err(detail) => {
                diagnostics.error(format!("Failed to import {id:?}"), detail);
                Stored::default()
            }
        }
    }
}
