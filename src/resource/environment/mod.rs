//! `bluegreen_environment`: one colour of a mirrored stack.
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

mod build;
mod import;
mod interlock;
mod look;
mod model;
mod schema;
mod story;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use self::build::Build;
use self::look::{Seen, look};
use self::model::Ids;
use super::{Context, Shared, duration};
use crate::run::ports::{Freshness, PortError};
use crate::stack::{self, Change, Lead, Part, Spec, TAG};
use crate::tf_provider::{
    ApplyRequest, Cancel, Diagnostics, Path, PlanRequest, Planned, ReadRequest, Resource, Schema, Stored, Value,
};

/// The resource.
pub struct Environment {
    schema: Schema,
    context: Arc<Context>,
}

impl Environment {
    /// The resource over the provider's connection.
    pub fn new(context: Arc<Context>) -> Environment {
        Environment { schema: schema::schema(), context }
    }

    /// The state after a look.
    fn observed(&self, mut state: Value, spec: &Spec, seen: &Seen, defaults: &BTreeMap<String, String>) -> Value {
        let after = seen.spec(spec);
        model::overlay(&mut state, spec, &after, &self.schema);
        seen.ids().write(&mut state);
        if !seen.is_attached() {
            // So that the next plan has something to do: apply attaches it again.
            state.set("target_group_name", Value::Null);
        }
        state.set("id", Value::from(spec.id()));
        state.set("mirror", Value::from(stack::mirror(&after)));
        state.set("tags_all", tags_all(&after, defaults));
        state
    }
}

fn defaults(shared: &Shared) -> BTreeMap<String, String> {
    shared.connection.settings().map(|settings| settings.default_tags.clone()).unwrap_or_default()
}

fn tags_all(spec: &Spec, defaults: &BTreeMap<String, String>) -> Value {
    let mut tags = defaults.clone();
    tags.extend(spec.tags.clone());
    Value::object(tags.into_iter().map(|(key, value)| (key, Value::from(value))))
}

/// What an apply would do that its plan didn't tell, since something changed in between.
fn unplanned(planned: &Value, prior: Option<&Spec>, spec: &Spec, changes: &[Change]) -> Option<String> {
    if let Some(path) = prior.and_then(|prior| stack::replaced(prior, spec).into_iter().next()) {
        return Some(format!(
            "{} is another than was known when planning, and only a replacement can change it",
            path.join(".")
        ));
    }
    let known = |name: &str| !planned.get(name).is_unknown() && !planned.get(name).is_null();
    let told = |change: &&Change| match change {
        Change::Roll(_) | Change::Version => known("launch_template_version") && !change.is_left_over(),
        Change::Deploy(_) => known("task_definition_arn"),
        Change::Create(Part::TargetGroup) => known("target_group_arn"),
        Change::Create(Part::SecurityGroup) => known("security_group_id"),
        Change::Create(Part::LaunchTemplate) => known("launch_template_id"),
        Change::Create(Part::Service) => known("service_arn"),
        _ => false,
    };
    let found = changes.iter().find(told)?;
    Some(match found {
        Change::Create(part) => format!("the {} is gone", part.words()),
        _ => "somebody else changed what runs there".to_owned(),
    })
}

/// How long an operation may take.
fn limit(value: &Value, operation: &str) -> Duration {
    let minutes = match operation {
        "create" => 30,
        "update" => 45,
        _ => 20,
    };
    let written = value.get("timeouts").get(operation).as_str().and_then(|text| duration::parse(text).ok());
    written.unwrap_or(Duration::from_secs(minutes * 60))
}

/// The parts that a state has. A target group without its name is one that nothing is attached to.
fn there(state: &Value) -> BTreeSet<Part> {
    Ids::read(state).parts(!state.get("target_group_name").is_null())
}

#[async_trait]
impl Resource for Environment {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        validate::validate(config, diagnostics);
    }

    async fn read(&self, request: ReadRequest, diagnostics: &mut Diagnostics) -> Stored {
        let ReadRequest { state, private, .. } = request;
        let unchanged = |state: Value, private| Stored { state: Some(state), private };
        let Some(shared) = self.context.shared(diagnostics) else { return unchanged(state, private) };
        let Some(spec) = model::spec(&state).filter(|_| shared.connection.is_known()) else {
            return unchanged(state, private);
        };
        let (spec, ids) = (spec.settled(), Ids::read(&state));
        match look(&shared.services, &spec, &ids).await {
            Ok(seen) if seen.ids().is_empty() => Stored { state: None, private },
            Ok(seen) => {
                story::detached(&spec, &seen, diagnostics);
                Stored { state: Some(self.observed(state, &spec, &seen, &defaults(&shared))), private }
            }
            Err(error) => {
                story::unreadable(&spec.id(), &error, diagnostics);
                unchanged(state, private)
            }
        }
    }

    async fn plan(&self, request: PlanRequest, diagnostics: &mut Diagnostics) -> Planned {
        let PlanRequest { prior, proposed, config, private, .. } = request;
        let Some(shared) = self.context.shared(diagnostics) else { return Planned::default() };
        let Some(mut state) = proposed else {
            if let Some(spec) = prior.as_ref().and_then(model::spec) {
                plan_destroy(&shared, &spec.settled(), prior.as_ref(), diagnostics).await;
            }
            return Planned { private, ..Planned::default() };
        };
        let wish = model::spec(&config).filter(|_| shared.connection.is_known());
        let before = prior.as_ref().and_then(model::spec).map(Spec::settled);
        let Some(wish) = wish.map(Spec::settled) else {
            plan_unknown(&mut state, &config, prior.as_ref());
            let replace = plan_known_part(&shared, &config, prior.as_ref(), diagnostics).await;
            return Planned { state: Some(state), replace, private };
        };
        state.set("id", Value::from(wish.id()));
        state.set("mirror", Value::from(stack::mirror(&wish)));
        state.set("tags_all", tags_all(&wish, &defaults(&shared)));
        let Some((prior, before)) = prior.zip(before) else {
            plan_ids(&mut state, &config, &Value::Null, &wish, &[]);
            plan_create(&shared, &wish, diagnostics).await;
            return Planned { state: Some(state), replace: Vec::new(), private };
        };
        let (replace, changes) = compare(&shared, (&prior, &before), &wish, diagnostics).await;
        plan_ids(&mut state, &config, &prior, &wish, &changes);
        Planned { state: Some(state), replace, private }
    }

    async fn apply(&self, request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: request.prior.clone(), private: request.private.clone() };
        let Some(shared) = self.context.shared(diagnostics) else { return before };
        match (&request.planned, &request.prior) {
            (Some(planned), _) => {
                let Some(spec) = model::spec(&request.config) else {
                    diagnostics.error("The provider has a bug", "A value is unknown in an apply. Please report this.");
                    return before;
                };
                self.make(&shared, &request, planned, &spec.settled(), diagnostics).await
            }
            (None, Some(prior)) => self.destroy(&shared, prior, &request, diagnostics).await,
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

/// Whether it depends on what runs now if the change hurts.
fn sizes(change: &Change) -> bool {
    matches!(change, Change::Resize { .. } | Change::Scale(_))
}

/// What makes everything anew, and what else there is to do; whom it would hurt is told, if there is anybody.
async fn compare(
    shared: &Shared,
    (prior, before): (&Value, &Spec),
    wish: &Spec,
    diagnostics: &mut Diagnostics,
) -> (Vec<Path>, Vec<Change>) {
    let replaced = stack::replaced(before, wish);
    let mut changes = stack::changes(before, wish, &there(prior));
    let matters = |change: &Change| change.harm(None).is_some() || change.risk().is_some() || sizes(change);
    if !replaced.is_empty() || changes.iter().any(matters) {
        let harm = story::Harm { spec: wish, replaced: &replaced, changes: &changes };
        let live = guard(shared, prior, harm, diagnostics).await.iter().any(Lead::is_live);
        if live && wish.is_protected() {
            changes.retain(|change| !change.is_left_over());
        }
    }
    (replaced.iter().map(|steps| model::path(steps)).collect(), changes)
}

/// Looks who would be hurt, and tells. What can't be read is an error: nobody may be hurt by mistake.
async fn guard(shared: &Shared, prior: &Value, harm: story::Harm<'_>, diagnostics: &mut Diagnostics) -> Vec<Lead> {
    let ids = Ids::read(prior);
    let Some(group) = &ids.target_group else { return Vec::new() };
    let leads = match interlock::leads_to(shared, group, Freshness::Shared).await {
        Ok(leads) => leads,
        Err(error) => {
            story::unreadable(&harm.spec.id(), &error, diagnostics);
            return Vec::new();
        }
    };
    let Some(routes) = interlock::live_by(&leads) else { return leads };
    let running = if harm.changes.iter().any(sizes) {
        match look(&shared.services, harm.spec, &ids).await {
            Ok(seen) => seen.running(),
            Err(error) => {
                story::unreadable(&harm.spec.id(), &error, diagnostics);
                return leads;
            }
        }
    } else {
        None
    };
    harm.tell(&routes, running, diagnostics);
    leads
}

/// A new environment must not take the place of one that serves users, which is what replacing it comes to.
async fn plan_create(shared: &Shared, wish: &Spec, diagnostics: &mut Diagnostics) {
    if wish.target_group.is_none() {
        return;
    }
    let name = stack::name(&wish.name, &wish.color);
    let found = async {
        let Some(group) = shared.services.target_groups.named(&name).await? else { return Ok(None) };
        let tags = shared.services.target_groups.tags(&group.arn).await?;
        let leads = interlock::leads_to(shared, &group.arn, Freshness::Shared).await?;
        Ok::<_, PortError>(Some((group, tags, leads)))
    };
    match found.await {
        Ok(None) => {}
        Ok(Some((group, tags, _))) if tags.get(TAG) != Some(&wish.id()) => {
            story::taken("target group", &name, &group.arn, wish, diagnostics);
        }
        Ok(Some((_, _, leads))) => {
            if let Some(routes) = interlock::live_by(&leads) {
                story::exists_live(wish, &routes, diagnostics);
            }
        }
        Err(error) => story::unreadable(&wish.id(), &error, diagnostics),
    }
}

async fn plan_destroy(shared: &Shared, spec: &Spec, prior: Option<&Value>, diagnostics: &mut Diagnostics) {
    let Some(group) = prior.map(Ids::read).and_then(|ids| ids.target_group) else { return };
    if !shared.connection.is_known() || !harms_by_going(spec) {
        return;
    }
    match interlock::leads_to(shared, &group, Freshness::Shared).await {
        Ok(leads) => {
            if let Some(routes) = interlock::live_by(&leads) {
                story::destroys_live(spec, &routes, spec.is_protected(), diagnostics);
            }
        }
        Err(error) => story::unreadable(&spec.id(), &error, diagnostics),
    }
}

/// A group of somebody else's with nothing of ours behind it is only let go of.
fn harms_by_going(spec: &Spec) -> bool {
    spec.target_group.is_some() || spec.instances.is_some() || spec.service.is_some() || spec.targets.is_some()
}

/// Every id that only an apply can tell.
const IDS: [&str; 6] = [
    "target_group_arn",
    "security_group_id",
    "launch_template_id",
    "launch_template_version",
    "service_arn",
    "task_definition_arn",
];

/// Whether an environment of this configuration has such a thing.
fn has(config: &Value, name: &str) -> bool {
    match name {
        "target_group_arn" | "target_group_name" => true,
        "service_arn" | "task_definition_arn" => !config.get("service").is_null(),
        _ => !config.get("instances").is_null(),
    }
}

fn plan_ids(state: &mut Value, config: &Value, prior: &Value, wish: &Spec, changes: &[Change]) {
    let rolls = changes
        .iter()
        .any(|change| matches!(change, Change::Roll(_) | Change::Version | Change::Create(Part::LaunchTemplate)));
    let deploys = changes.iter().any(|change| matches!(change, Change::Deploy(_) | Change::Create(Part::Service)));
    let left_over = !prior.is_null() && !rolls;
    for name in IDS {
        let again = match name {
            "launch_template_version" => rolls,
            "task_definition_arn" => deploys,
            _ => false,
        };
        let known = prior.get(name);
        // A version that is null only tells of instances of a former one, which may have to stay for now.
        let stays = name == "launch_template_version" && left_over;
        let value = match (has(config, name), known.is_null() && !stays || again) {
            (false, _) => Value::Null,
            (true, true) => Value::UNKNOWN,
            (true, false) => known.clone(),
        };
        state.set(name, value);
    }
    if let (None, Some(arn)) = (&wish.target_group, &wish.target_group_arn) {
        state.set("target_group_arn", Value::from(arn.as_str()));
    }
    let own = wish.target_group.as_ref().map(|_| stack::name(&wish.name, &wish.color));
    let group = match (prior.get("target_group_name"), own) {
        (Value::Null, Some(name)) => Value::from(name),
        (Value::Null, None) => {
            wish.target_group_arn.as_deref().map_or(Value::UNKNOWN, |arn| crate::rollout::short(arn).into())
        }
        (known, _) => known.clone(),
    };
    state.set("target_group_name", group);
    let scaling = match (has(config, "autoscaling_group_name"), prior.get("autoscaling_group_name")) {
        (false, _) => Value::Null,
        (true, Value::Null) => Value::from(stack::name(&wish.name, &wish.color)),
        (true, known) => known.clone(),
    };
    state.set("autoscaling_group_name", scaling);
}

/// What of the part of a configuration that is known already makes everything anew; whom it would hurt is told.
async fn plan_known_part(
    shared: &Shared,
    config: &Value,
    prior: Option<&Value>,
    diagnostics: &mut Diagnostics,
) -> Vec<Path> {
    let Some((prior, before)) = prior.and_then(|prior| Some((prior, model::spec(prior)?.settled()))) else {
        return Vec::new();
    };
    let known = model::spec(&model::known_part(config, prior)).filter(|_| shared.connection.is_known());
    let Some(wish) = known.map(Spec::settled) else { return Vec::new() };
    compare(shared, (prior, &before), &wish, diagnostics).await.0
}

/// Not everything is known: what may change is for the apply to tell.
fn plan_unknown(state: &mut Value, config: &Value, prior: Option<&Value>) {
    let prior = prior.unwrap_or(&Value::Null);
    let may_change = ["id", "mirror", "tags_all", "launch_template_version", "task_definition_arn", "target_group_arn"];
    let names = IDS.iter().chain(&["autoscaling_group_name", "target_group_name"]).chain(&may_change);
    for name in names {
        let configured = *name == "target_group_arn" && !config.get("target_group_arn").is_null();
        if configured {
            continue;
        }
        let wanted = ["id", "mirror", "tags_all"].contains(name) || has(config, name);
        let known = prior.get(name);
        let value = match wanted {
            false => Value::Null,
            true if known.is_null() || may_change.contains(name) => Value::UNKNOWN,
            true => known.clone(),
        };
        state.set(name, value);
    }
}

impl Environment {
    /// A create or an update.
    async fn make(
        &self,
        shared: &Shared,
        request: &ApplyRequest,
        planned: &Value,
        spec: &Spec,
        diagnostics: &mut Diagnostics,
    ) -> Stored {
        let before = Stored { state: request.prior.clone(), private: request.private.clone() };
        let prior = request.prior.as_ref();
        let prior_spec = prior.and_then(model::spec).map(Spec::settled);
        let known = left_behind(shared, spec, prior.map(Ids::read).unwrap_or_default()).await;
        let expected = prior_spec.clone().unwrap_or_else(|| spec.clone());
        let seen = match known {
            Ok(known) => look(&shared.services, &expected, &known).await,
            Err(error) => Err(error),
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                story::failed("make", spec, &error, &Ids::default(), None, diagnostics);
                return before;
            }
        };
        // What a killed run left is taken as it is found, not as it is expected.
        let from = if prior.is_none() && seen.version.is_none() && seen.scaling_group.is_some() {
            Spec { release: None, ..seen.spec(&expected) }
        } else {
            seen.spec(&expected)
        };
        let changes = stack::changes(&from, spec, &seen.there());
        if prior.is_some()
            && let Some(what) = unplanned(planned, prior_spec.as_ref(), spec, &changes)
        {
            story::changed_meanwhile(spec, &what, diagnostics);
            return before;
        }
        let Some((live, changes)) = self.allowed(shared, spec, &seen, changes, diagnostics).await else {
            return before;
        };
        let operation = if prior.is_none() { "create" } else { "update" };
        let defaults = defaults(shared);
        let tags = stack::tags(spec, &defaults);
        let ids = Ids { target_group: seen.ids().target_group.or(spec.target_group_arn.clone()), ..seen.ids() };
        let mut build = Build {
            shared,
            spec,
            tags: &tags,
            seen: &seen,
            live,
            ids,
            deadline: Instant::now() + limit(planned, operation),
            cancel: &request.cancel,
            fresh_template: false,
            former_failures: None,
        };
        let result = self.carry_out(&mut build, &changes, request, planned, prior).await;
        let known = build.ids.clone();
        let Err(error) = result else { return self.made(shared, planned, spec, &known).await };
        match prior.zip(prior_spec) {
            Some((prior, prior_spec)) => {
                // What was before holds, but for what is seen to be otherwise.
                let former = Ids::read(prior);
                let known =
                    Ids { template_version: former.template_version, task_definition: former.task_definition, ..known };
                self.stopped(shared, operation, (prior, &prior_spec), &known, &error, diagnostics).await
            }
            None => self.stopped(shared, operation, (planned, spec), &known, &error, diagnostics).await,
        }
    }

    /// Looks right before anything is done whether it may be.
    async fn allowed(
        &self,
        shared: &Shared,
        spec: &Spec,
        seen: &Seen,
        mut changes: Vec<Change>,
        diagnostics: &mut Diagnostics,
    ) -> Option<(bool, Vec<Change>)> {
        let Some(group) = &seen.group else { return Some((false, changes)) };
        let leads = match interlock::leads_to(shared, &group.arn, Freshness::Now).await {
            Ok(leads) => leads,
            Err(error) => {
                story::unreadable(&spec.id(), &error, diagnostics);
                return None;
            }
        };
        let routes = interlock::live_by(&leads);
        if let Some(routes) = &routes {
            if spec.is_protected() {
                changes.retain(|change| !change.is_left_over());
            }
            let mut told = Diagnostics::new();
            let harm = story::Harm { spec, replaced: &[], changes: &changes };
            harm.tell(routes, seen.running(), &mut told);
            let refused = told.has_errors();
            if refused {
                diagnostics.extend(told);
                return None;
            }
        }
        Some((routes.is_some(), changes))
    }

    async fn carry_out(
        &self,
        build: &mut Build<'_>,
        changes: &[Change],
        request: &ApplyRequest,
        planned: &Value,
        prior: Option<&Value>,
    ) -> Result<(), PortError> {
        let former = prior.map(|prior| prior.get("tags_all").string_map()).unwrap_or_default();
        let gone: Vec<String> = former.keys().filter(|key| !build.tags.contains_key(*key)).cloned().collect();
        let formerly = prior.is_some_and(|prior| !prior.get("listener_arn").is_null());
        if build.seen.group.is_some() {
            build.make_known(formerly).await?;
        }
        for change in changes {
            let result = build.carry_out(change).await;
            let mut state = planned.without_unknowns();
            build.ids.write(&mut state);
            request.checkpoint.set(Stored { state: Some(state), private: request.private.clone() });
            result?;
            if *change == Change::Create(Part::TargetGroup) {
                build.make_known(false).await?;
            }
        }
        // Last, since they say which release runs here.
        build.tag(&gone).await
    }

    /// The state after everything was done: what was planned, completed by what is seen.
    async fn made(&self, shared: &Shared, planned: &Value, spec: &Spec, known: &Ids) -> Stored {
        // A read can be earlier than what was just made: what is known to be there stays.
        let ids = match look(&shared.services, spec, known).await {
            Ok(seen) => seen.ids().or(known),
            Err(_) => known.clone(),
        };
        let mut state = planned.without_unknowns();
        ids.write(&mut state);
        Stored { state: Some(state), private: Vec::new() }
    }

    /// The state after a failure: what is seen, over what was written; none if a create left nothing.
    async fn stopped(
        &self,
        shared: &Shared,
        operation: &str,
        (written, spec): (&Value, &Spec),
        known: &Ids,
        error: &PortError,
        diagnostics: &mut Diagnostics,
    ) -> Stored {
        let seen = look(&shared.services, spec, known).await;
        if operation == "create" && seen.as_ref().is_ok_and(|seen| seen.ids().is_empty()) {
            story::failed(operation, spec, error, known, None, diagnostics);
            return Stored::default();
        }
        let mut state = written.without_unknowns();
        match seen {
            Ok(seen) => state = self.observed(state, spec, &seen, &defaults(shared)),
            Err(_) => known.write(&mut state),
        }
        let leads = match &known.target_group {
            Some(group) => interlock::leads_to(shared, group, Freshness::Now).await.ok(),
            None => None,
        };
        story::failed(operation, spec, error, known, leads.as_deref(), diagnostics);
        Stored { state: Some(state), private: Vec::new() }
    }

    async fn destroy(
        &self,
        shared: &Shared,
        prior: &Value,
        request: &ApplyRequest,
        diagnostics: &mut Diagnostics,
    ) -> Stored {
        let before = Stored { state: Some(prior.clone()), private: request.private.clone() };
        let Some(spec) = model::spec(prior).map(Spec::settled) else { return before };
        let ids = Ids::read(prior);
        if let Some(group) = ids.target_group.as_ref().filter(|_| harms_by_going(&spec)) {
            match interlock::leads_to(shared, group, Freshness::Now).await {
                Ok(leads) => {
                    let routes = interlock::live_by(&leads).filter(|_| spec.is_protected());
                    if let Some(routes) = routes {
                        story::destroys_live(&spec, &routes, true, diagnostics);
                        return before;
                    }
                }
                Err(error) => {
                    story::unreadable(&spec.id(), &error, diagnostics);
                    return before;
                }
            }
        }
        let mut build = Build {
            shared,
            spec: &spec,
            tags: &BTreeMap::new(),
            seen: &Seen::default(),
            live: false,
            ids,
            deadline: Instant::now() + limit(prior, "delete"),
            cancel: &request.cancel,
            fresh_template: false,
            former_failures: None,
        };
        let Err(error) = build.destroy().await else { return Stored::default() };
        let mut state = prior.clone();
        build.ids.write(&mut state);
        story::failed("destroy", &spec, &error, &build.ids, None, diagnostics);
        Stored { state: Some(state), private: request.private.clone() }
    }
}

/// Completes what the state knows by what a run left behind that was killed before it could tell: things with our names
/// and our tags that no route leads to. What a route leads to belongs to somebody, and is not taken over.
async fn left_behind(shared: &Shared, spec: &Spec, mut ids: Ids) -> Result<Ids, PortError> {
    let (services, name, own) = (&shared.services, stack::name(&spec.name, &spec.color), spec.id());
    let conflict = |text: String| PortError::new(crate::run::ports::FailureKind::Conflict, text);
    let ours = |what: &str, tags: &BTreeMap<String, String>| {
        if tags.get(TAG) == Some(&own) {
            return Ok(());
        }
        Err(conflict(format!("there is a {what} named {name} already, and it isn't tagged {TAG} = {own}")))
    };
    ids.target_group = ids.target_group.or_else(|| spec.target_group_arn.clone());
    if spec.target_group.is_some()
        && ids.target_group.is_none()
        && let Some(group) = services.target_groups.named(&name).await?
    {
        ours("target group", &services.target_groups.tags(&group.arn).await?)?;
        let leads = interlock::leads_to(shared, &group.arn, Freshness::Now).await?;
        if let Some(lead) = leads.iter().find(|lead| !lead.nobody) {
            return Err(conflict(format!(
                "an environment {own} exists already and {} leads to it. If it is this one, import it: terraform import <address> {own}. If it is another configuration's, choose another name. (create_before_destroy can't work here: a colour has one target group.)",
                lead.route
            )));
        }
        ids.target_group = Some(group.arn);
    }
    if spec.instances.is_some() {
        let vpc = spec.vpc_id.as_deref().unwrap_or_default();
        if ids.security_group.is_none()
            && let Some(group) = services.ec2.security_group_named(&name, vpc).await?
        {
            ours("security group", &group.tags)?;
            ids.security_group = Some(group.id);
        }
        if ids.template.is_none()
            && let Some(template) = services.ec2.template_named(&name).await?
        {
            ours("launch template", &template.tags)?;
            ids.template = Some(template.id);
        }
        if ids.scaling_group.is_none()
            && let Some(group) = services.autoscaling.find(&name).await?
        {
            ours("Auto Scaling group", &group.tags)?;
            ids.scaling_group = Some(group.name);
        }
    }
    if let Some(service) = &spec.service
        && ids.service.is_none()
        && let Some(seen) = services.ecs.find(&service.cluster, &name).await?
    {
        ours("service", &seen.tags)?;
        ids.service = Some(seen.arn);
    }
    Ok(ids)
}
