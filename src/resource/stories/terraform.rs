//! Terraform around a provider process, as far as it matters here: refresh, plan, plan once more, apply, one resource after
//! the other, with the state written after each.

use std::sync::Arc;

use crate::cancel::Cancel;
use crate::resource::Context;
use crate::resource::environment::Environment;
use crate::resource::migration::Migration;
use crate::resource::switch::Switch;
use crate::resource::testing::{
    apply_request, assert_kept, assert_same_where_known, destroy_request, plan_request, read_request, words,
};
use crate::run::migration::in_memory::Server;
use crate::run::rollout::in_memory::Fake;
use crate::run::stack::in_memory::Cloud;
use crate::tf_provider::{Diagnostics, Planned, Resource, Stored, Value, msgpack};

/// A machine with a provider process.
pub(super) struct Machine {
    context: Arc<Context>,
    environment: Environment,
    migration: Migration,
    switch: Switch,
}

/// What is configured.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub colors: [serde_json::Value; 2],
    /// What the schema of their database is to become, if there is one.
    pub migration: Option<serde_json::Value>,
    /// Without its environments, which are those of the colors.
    pub switch: serde_json::Value,
}

/// The state file.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub colors: [Option<Stored>; 2],
    pub migration: Option<Stored>,
    pub switch: Option<Stored>,
    /// What was asked of a color, began and was not brought to its end.
    pub broken: [Option<serde_json::Value>; 2],
}

/// What a state file has of a resource.
fn value(stored: &Option<Stored>) -> Option<&Value> {
    stored.as_ref()?.state.as_ref()
}

impl State {
    /// What there is of a color.
    pub fn color(&self, n: usize) -> Option<&Value> {
        value(&self.colors[n])
    }
}

/// What says that a plan would hurt who is live.
pub(super) const HURTS: &str = "is live and would be hurt";

pub(super) const NAMES: [&str; 2] = ["blue", "green"];

/// What a switch is given of an environment.
const OUTPUTS: [&str; 6] =
    ["target_group_arn", "release", "mirror", "mirror_verbatim", "autoscaling_group_name", "service_arn"];

/// What a plan says of each resource.
pub(super) struct Plan {
    pub colors: [Planned; 2],
    pub migration: Option<Planned>,
    pub switch: Planned,
}

impl Plan {
    /// Whether it tells that nothing is to be done.
    pub fn is_empty(&self, state: &State) -> bool {
        let same = |(planned, stored): (&Planned, &Option<Stored>)| planned.state.as_ref() == value(stored);
        let migrated = self.migration.as_ref().is_none_or(|planned| same((planned, &state.migration)));
        migrated && self.colors.iter().zip(&state.colors).all(same) && !self.moves(state)
    }

    /// Whether it tells that the switch does anything.
    pub fn moves(&self, state: &State) -> bool {
        self.switch.state.as_ref() != value(&state.switch)
    }
}

impl Machine {
    pub fn new() -> Machine {
        let context = Arc::new(Context::default());
        Machine {
            environment: Environment::new(context.clone()),
            migration: Migration::new(context.clone()),
            switch: Switch::new(context.clone()),
            context,
        }
    }

    /// A new process, over this world.
    pub fn restart(&self, routes: &Arc<Fake>, cloud: &Arc<Cloud>, database: &Arc<Server>) {
        self.context.set(routes, cloud, database);
    }

    fn migration_config(&self, json: &serde_json::Value) -> Value {
        msgpack::from_json(json, self.migration.schema().ty()).expect("a configuration")
    }

    fn color_config(&self, json: &serde_json::Value) -> Value {
        msgpack::from_json(json, self.environment.schema().ty()).expect("a configuration")
    }

    /// The switch's configuration over what is known of the environments and the migration.
    fn switch_config(&self, json: &serde_json::Value, colors: [&Value; 2], migration: Option<&Value>) -> Value {
        let mut config: Value = msgpack::from_json(json, self.switch.schema().ty()).expect("a configuration");
        let outputs = |value: &Value| Value::object(OUTPUTS.map(|name| (name, value.get(name).clone())));
        config.set("environments", Value::object([(NAMES[0], outputs(colors[0])), (NAMES[1], outputs(colors[1]))]));
        if let Some(migration) = migration {
            config.set("contracted_for", migration.get("contracted_for").clone());
        }
        config
    }

    /// Reads everything; what is gone is gone from the state.
    pub async fn refresh(&self, state: &mut State, told: &mut Diagnostics) {
        for stored in &mut state.colors {
            refresh(&self.environment, stored, told).await;
        }
        refresh(&self.migration, &mut state.migration, told).await;
        refresh(&self.switch, &mut state.switch, told).await;
    }

    /// Plans everything; nothing if something speaks against it.
    pub async fn plan(&self, config: &Config, state: &State, told: &mut Diagnostics) -> Option<Plan> {
        let mut planned = Vec::new();
        for (json, prior) in config.colors.iter().zip(&state.colors) {
            planned.push(plan(&self.environment, &self.color_config(json), prior.as_ref(), told).await);
        }
        let colors: [Planned; 2] = planned.try_into().ok()?;
        let migration = match &config.migration {
            Some(json) => {
                Some(plan(&self.migration, &self.migration_config(json), state.migration.as_ref(), told).await)
            }
            None => None,
        };
        if told.has_errors() {
            return None;
        }
        let values = [0, 1].map(|n| colors[n].state.as_ref().expect("a plan"));
        let migrated = migration.as_ref().and_then(|planned| planned.state.as_ref());
        let own = self.switch_config(&config.switch, values, migrated);
        let switch = plan(&self.switch, &own, state.switch.as_ref(), told).await;
        (!told.has_errors()).then_some(Plan { colors, migration, switch })
    }

    /// Applies a plan: what changes, in the order of dependence, until something fails.
    pub async fn apply(
        &self,
        config: &Config,
        plan: &Plan,
        state: &mut State,
        cancel: &Cancel,
        told: &mut Diagnostics,
    ) {
        for n in 0..2 {
            let own = self.color_config(&config.colors[n]);
            let was_whole = !told.has_errors();
            apply(&self.environment, &own, &plan.colors[n], &mut state.colors[n], cancel, told).await;
            if was_whole {
                let begun = told.has_errors() && !words(told).contains(HURTS);
                state.broken[n] = begun.then(|| config.colors[n].clone());
            }
        }
        if let (Some(json), Some(planned)) = (&config.migration, &plan.migration) {
            let own = self.migration_config(json);
            apply(&self.migration, &own, planned, &mut state.migration, cancel, told).await;
        }
        let (Some(blue), Some(green)) = (state.color(0), state.color(1)) else { return };
        if told.has_errors() {
            return;
        }
        let own = self.switch_config(&config.switch, [blue, green], value(&state.migration));
        apply(&self.switch, &own, &plan.switch, &mut state.switch, cancel, told).await;
    }

    /// Makes the migration alone.
    pub async fn migrate(&self, json: &serde_json::Value) -> Diagnostics {
        let (own, mut told) = (self.migration_config(json), Diagnostics::new());
        let planned = plan(&self.migration, &own, None, &mut told).await;
        apply(&self.migration, &own, &planned, &mut None, &Cancel::never(), &mut told).await;
        told
    }

    /// Destroys everything, the switch first.
    pub async fn destroy(&self, state: &mut State, told: &mut Diagnostics) {
        destroy(&self.switch, &mut state.switch, told).await;
        destroy(&self.migration, &mut state.migration, told).await;
        for stored in &mut state.colors {
            destroy(&self.environment, stored, told).await;
        }
    }
}

async fn refresh(resource: &dyn Resource, stored: &mut Option<Stored>, told: &mut Diagnostics) {
    let Some(before) = stored.clone() else { return };
    let state = before.state.clone().expect("a state");
    let read = resource.read(read_request(state, &before.private), told).await;
    *stored = Some(read).filter(|read| read.state.is_some());
}

async fn plan(resource: &dyn Resource, config: &Value, prior: Option<&Stored>, told: &mut Diagnostics) -> Planned {
    resource.validate(config, told);
    resource.plan(plan_request(resource.schema(), config, prior), told).await
}

async fn apply(
    resource: &dyn Resource,
    config: &Value,
    planned: &Planned,
    stored: &mut Option<Stored>,
    cancel: &Cancel,
    told: &mut Diagnostics,
) {
    let unchanged = planned.state.as_ref() == value(stored);
    if unchanged || told.has_errors() {
        return;
    }
    // Now everything of the configuration is known, and Terraform plans again.
    let again = plan(resource, config, stored.as_ref(), told).await;
    if told.has_errors() {
        return;
    }
    let promised = again.state.clone().expect("a plan");
    assert_same_where_known(planned.state.as_ref().expect("a plan"), &promised);
    let request = apply_request(config, stored.as_ref(), again, cancel.clone());
    let before = stored.is_some();
    let left = resource.apply(request, told).await;
    if !told.has_errors() {
        assert_kept(&promised, left.state.as_ref().expect("a state"));
    }
    *stored = Some(left).filter(|left| left.state.is_some());
    // A create that failed and left something is tainted: it goes before another one comes.
    if told.has_errors() && !before && stored.is_some() {
        let mut said = Diagnostics::new();
        destroy(resource, stored, &mut said).await;
    }
}

async fn destroy(resource: &dyn Resource, stored: &mut Option<Stored>, told: &mut Diagnostics) {
    // It stays in the state file until it is gone, also where the process dies.
    let Some(before) = stored.clone() else { return };
    let left = resource.destroy(destroy_request(&before), told).await;
    *stored = Some(left).filter(|left| left.state.is_some());
}
