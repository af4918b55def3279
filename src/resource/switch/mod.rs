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
mod budgets;
mod commands;
mod contracts;
mod credentials;
mod destroy;
mod diagnostics;
mod foresight;
mod freezes;
mod import;
mod model;
mod parity;
mod plan;
mod private_state;
mod promise;
mod schema;
mod validate;
mod warnings;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;

use self::apply::Apply;
use self::private_state::PrivateState;
use super::{Context, Shared};
use crate::rollout::planner::{self, Refusal};
use crate::rollout::{Intent, Observed, RouteSpec, Runbook, Scalable, Step, World};
use crate::run::absence::{ages, believed};
use crate::run::ports::{Freshness, PortError};
use crate::run::rollout::executor::{self, Scope};
use crate::shell::Shell;
use crate::tf_provider::{
    ApplyRequest, Cancel, DestroyRequest, Diagnostics, PlanRequest, Planned, ReadRequest, Resource, Schema, Stored,
    Value,
};

/// What the switch makes carries this tag, with the switch's name.
const TAG: &str = "bluegreen:switch";
/// And this one, with the token of the object that made it or took it over last: a name may be used again.
const OWNER_TAG: &str = "bluegreen:owner";
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
    intent.left_out = memory.left_out.clone();
    let former_routes = before.into_iter().flat_map(|before| before.routes.iter().chain(&before.preview_routes));
    intent.processed = memory.processed(intent.routes.iter().chain(&intent.preview_routes).chain(former_routes));
    intent.removed = former.filter(|route| !wanted.contains(&route.key())).collect();
    budgets::spare_way_back(&mut intent, memory);
    Some(intent)
}

/// Looks at everything that a wish is about; what can't be read is told. What an object has had for some time, its routes and its
/// record, is looked for again before it counts as gone.
async fn look(
    shared: &Shared,
    (intent, before): (&Intent, Option<&Intent>),
    age: Freshness,
    name: &str,
    diagnostics: &mut Diagnostics,
) -> Option<World> {
    let scope = model::scope(intent);
    let of_look = ages(age);
    let once = || executor::observe(&shared.ports, &scope, of_look());
    let before = before.map(model::scope);
    let has_all = |seen: &World| has_all_of(seen, &scope, before.as_ref());
    // Of two looks the later one is told, whatever the one before had seen.
    match believed(once, has_all, |later, _| later).await {
        // Who acts on what is seen gets what a dead rollout left with its lock.
        Ok(world) if age == Freshness::Shared => Some(apply::with_what_was_left(shared, intent, world).await),
        Ok(world) => Some(world),
        Err(error) => {
            diagnostics::unreadable(name, &error, diagnostics);
            None
        }
    }
}

/// Whether everything of a wish was seen that is to be there: listeners, rules of others and those that the switch is known to have
/// made; and what belonged to the wish before as well.
fn has_all_of(seen: &World, scope: &Scope, before: Option<&Scope>) -> bool {
    let is_made = |route: &&RouteSpec| !matches!(route, RouteSpec::OwnRule { arn: None, .. });
    let is_old = |of: fn(&Scope) -> &Option<String>| before.is_some_and(|before| of(before) == of(scope));
    let has_size = |(color, scalable): (&String, &Scalable)| {
        let is_old = before.is_some_and(|before| before.scalables.get(color) == Some(scalable));
        !is_old || seen.capacities.contains_key(color)
    };
    scope.routes.iter().filter(is_made).all(|route| seen.routes.contains_key(&route.key()))
        && (scope.record.is_none() || seen.record.is_some() || !is_old(|scope| &scope.record))
        && scope.scalables.iter().all(has_size)
}

/// A runbook, with what more of the world it had to know: whether groups keep clients at a target is asked only where actions are
/// to change, and a listener's rules only where a color's health could not be known otherwise.
async fn planned(shared: &Shared, intent: &Intent, world: World) -> Result<(World, Runbook), Refusal> {
    let mut world = world;
    let mut runbook = planner::plan(intent, &world)?;
    if let Some(more) = with_trials(shared, intent, &runbook, &world).await {
        (runbook, world) = (planner::plan(intent, &more)?, more);
    }
    if let Some(more) = with_cohort(shared, intent, &runbook, &world).await {
        (runbook, world) = (planner::plan(intent, &more)?, more);
    }
    if let Some(more) = with_stickiness(shared, &runbook, &world).await {
        (runbook, world) = (planner::plan(intent, &more)?, more);
    }
    Ok((world, runbook))
}

/// For commands to paste: of the region of the routes, and of everything else that a switch calls.
fn shell(shared: &Shared, intent: &Intent) -> Shell {
    let region = intent.routes.first().and_then(|route| Shell::of(&route.key()).region);
    shared.shell(region)
}

/// Whether what a rollout has to write of itself can't be written: that is found out before any traffic moves, and told.
async fn is_barred_by_label(
    shared: &Shared,
    intent: &Intent,
    runbook: &Runbook,
    diagnostics: &mut Diagnostics,
) -> bool {
    if !runbook.steps().any(|(_, step)| matches!(step, Step::Route { .. })) {
        return false;
    }
    let writes = runbook.steps().any(|(_, step)| matches!(step, Step::Record { before: Some(_), .. }));
    let mut is_barred = false;
    for name in intent.record.clone().filter(|_| writes).into_iter().chain([model::lock(intent)]) {
        match shared.ports.records.barring_label(&name).await {
            Ok(None) => {}
            Ok(Some(label)) => {
                diagnostics::barred_by_label(&name, label, (intent, &shell(shared, intent)), diagnostics);
                is_barred = true;
            }
            // Whoever may not read it is told by the write.
            Err(error) => {
                tracing::warn!(%error, name, "it can't be seen whether the parameter takes a further version")
            }
        }
    }
    is_barred
}

/// The world with a listener's rules, where one is needed that no request takes; none where none is.
async fn with_trials(shared: &Shared, intent: &Intent, runbook: &Runbook, world: &World) -> Option<World> {
    let mut tried: Option<World> = None;
    for listener in planner::unproved(intent, world, runbook) {
        match shared.ports.load_balancer.rules_of(&listener).await {
            Ok(rules) => {
                let so_far = tried.take().unwrap_or_else(|| world.clone());
                tried = Some(planner::tried(intent, so_far, &listener, &rules));
            }
            Err(error) => {
                tracing::warn!(%error, listener, "the listener's rules can't be seen: health is checked after the move");
            }
        }
    }
    tried
}

/// The world with what a cohort's rules have to know of their listeners; none where there is no cohort to lead, and none was left.
async fn with_cohort(shared: &Shared, intent: &Intent, runbook: &Runbook, world: &World) -> Option<World> {
    let mut placed: Option<World> = None;
    for arn in planner::cohort_listeners(intent, world, runbook) {
        let so_far = placed.take().unwrap_or_else(|| world.clone());
        placed = Some(match cohort_of(shared, intent, so_far.clone(), &arn).await {
            Ok(world) => world,
            Err(error) => planner::unplaced(intent, so_far, &arn, &error.to_string()),
        });
    }
    placed
}

/// The same of one listener.
async fn cohort_of(shared: &Shared, intent: &Intent, world: World, arn: &str) -> Result<World, PortError> {
    let load_balancer = &shared.ports.load_balancer;
    // What was noted may have been made a moment ago.
    let noted = world.cohort.noted_rules().filter(|rule| rule.listener() == arn).map(|rule| rule.key());
    let noted: Vec<String> = noted.collect();
    let has_all = |rules: &Vec<Observed>| {
        let stands = |rule: &Observed| Some(format!("{arn}#{}", rule.place.as_ref()?.priority));
        let there: BTreeSet<String> = rules.iter().filter_map(stands).collect();
        noted.iter().all(|key| there.contains(key))
    };
    let both = |mut later: Vec<Observed>, earlier: Vec<Observed>| {
        let missed = earlier.into_iter().filter(|rule| !later.iter().any(|other| other.arn == rule.arn));
        let missed: Vec<Observed> = missed.collect();
        later.extend(missed);
        later
    };
    let rules = believed(|| load_balancer.rules_of(arn), has_all, both).await?;
    let listener = planner::Listener { arn, rules: &rules, foreign: &[] };
    let placed = planner::placed(intent, world.clone(), listener);
    let seen = placed.cohort.rules().filter_map(|rule| placed.routes.get(&rule.key()));
    let seen: Vec<String> = seen.map(|seen| seen.arn.clone()).collect();
    if seen.is_empty() {
        return Ok(placed);
    }
    // What looks like one of ours may be a person's: it is ours by its tag, by what was noted, or by what the state knows.
    let tags = apply::tolerated(load_balancer.rule_tags(&seen).await)?;
    let known = |arn: &str| {
        let mut rules = placed.cohort.rules();
        let rule = rules.find(|rule| placed.routes.get(&rule.key()).is_some_and(|seen| seen.arn == arn));
        let is_made = |route: &RouteSpec| matches!(route, RouteSpec::OwnRule { arn: Some(own), .. } if own == arn);
        rule.is_some_and(|rule| noted.contains(&rule.key())) || intent.removed.iter().any(is_made)
    };
    let is_foreign = |arn: &String| tags.get(arn).and_then(|tags| tags.get(TAG)) != Some(&intent.name) && !known(arn);
    let foreign: Vec<String> = seen.into_iter().filter(is_foreign).collect();
    Ok(planner::placed(intent, world, planner::Listener { foreign: &foreign, ..listener }))
}

/// The world with the groups of these steps that keep clients at a target; none where there are no further ones.
async fn with_stickiness(shared: &Shared, runbook: &Runbook, world: &World) -> Option<World> {
    let asked = planner::to_be_asked(runbook).into_iter().map(|group| async move {
        match shared.ports.load_balancer.group_facts(&group).await {
            Ok(facts) => facts.is_sticky.then_some(group),
            Err(error) => {
                tracing::warn!(%error, "it can't be seen whether a target group keeps clients at a target");
                None
            }
        }
    });
    let sticky: BTreeSet<String> = join_all(asked).await.into_iter().flatten().collect();
    let is_more = !sticky.is_subset(&world.sticky);
    is_more.then(|| World { sticky: &world.sticky | &sticky, ..world.clone() })
}

#[async_trait]
impl Resource for Switch {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        validate::validate(config, diagnostics);
    }

    fn generate(&self, state: &Value) -> Value {
        self.context.without_usual_region(self.schema.configurable(state.clone()))
    }

    async fn read(&self, request: ReadRequest, diagnostics: &mut Diagnostics) -> Stored {
        let ReadRequest { mut state, private, .. } = request;
        let unchanged = |state: Value, private| Stored { state: Some(state), private };
        let Some(shared) = self.context.shared_by(&state, diagnostics).await else { return unchanged(state, private) };
        let memory = PrivateState::read(&private);
        let before = model::parse(&state);
        let Some(intent) = wish(&state, before.as_ref(), &memory).filter(|_| shared.platform.is_known()) else {
            return unchanged(state, private);
        };
        let Some(world) = look(&shared, (&intent, before.as_ref()), Freshness::Shared, name(&state), diagnostics).await
        else {
            return unchanged(state, private);
        };
        // Also where no route is left: the record may be ours, and only destroy can take it away.
        let mut memory = memory;
        private_state::set_seen(&mut state, &intent, &world);
        memory.note_taken_back(&intent, &world);
        memory.world = Some(world);
        shared.with_region(Stored { state: Some(state), private: memory.bytes() })
    }

    async fn plan(&self, mut request: PlanRequest, diagnostics: &mut Diagnostics) -> Planned {
        let Some(shared) = self.context.shared_in_plan(&request, diagnostics).await else { return Planned::default() };
        request.proposed.set("region", self.context.planned_region(&request.config, request.prior.as_ref()));
        match self.context.moves(&request.config, request.prior.as_ref()) {
            true => plan::plan_move(request),
            false => plan::plan(&shared, request, diagnostics).await,
        }
    }

    async fn apply(&self, mut request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: request.prior.clone(), private: request.private.clone() };
        let Some(shared) = self.context.shared_in_apply(&mut request, diagnostics).await else { return before };
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
        let shell = shell(&shared, &intent);
        let apply = Apply { shared: &shared, request: &request, planned: &request.planned, intent, shell };
        apply.run(diagnostics).await
    }

    async fn destroy(&self, request: DestroyRequest, diagnostics: &mut Diagnostics) -> Stored {
        match self.context.shared_by(&request.prior, diagnostics).await {
            Some(shared) => destroy::destroy(&shared, &request, diagnostics).await,
            None => Stored { state: Some(request.prior), private: request.private },
        }
    }

    async fn import(&self, id: &str, _: Cancel, diagnostics: &mut Diagnostics) -> Stored {
        let (id, shared) = self.context.shared_by_import(id, diagnostics).await;
        let Some(shared) = shared else { return Stored::default() };
        match import::import(&shared, &self.schema, id).await {
            Ok(state) => shared.with_region(Stored { state: Some(state), private: Vec::new() }),
            Err(detail) => {
                diagnostics.error(format!("Failed to import {id:?}"), detail);
                Stored::default()
            }
        }
    }
}
