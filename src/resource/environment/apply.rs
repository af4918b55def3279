//! Creates and updates: looks again, plans anew, and does what the plan told.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::{Duration, Instant, timeout};

use super::diagnostics::{self, Harm};
use super::plan::{IDS, NAMES, there};
use super::private_state::PrivateState;
use super::{Environment, Shared, defaults, limit, model};
use crate::clock;
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::stack::survey::take_name;
use crate::run::stack::{Build, Seen, live_guard, observe};
use crate::stack::{self, Change, Ids, MADE_TAG, Part, RELEASE_TAG, Spec, live_by};
use crate::tf_provider::{ApplyRequest, Diagnostics, Stored, Value};

/// What a create or an update begins with.
struct Begun {
    memory: PrivateState,
    /// What everything is called.
    name: String,
    /// What the state had; what is wished where it had nothing.
    expected: Spec,
    seen: Seen,
    changes: Vec<Change>,
    live: bool,
    /// What is to be: the plan, but for what is left as others made it.
    wish: Spec,
    /// What is left otherwise than the configuration says, for the diagnostics.
    left: Vec<String>,
}

/// What is wished: the plan's values, and the wish that they are.
type Wish<'w> = (&'w Value, &'w Spec);

impl Environment {
    /// A create or an update.
    pub(super) async fn make(
        &self,
        shared: &Shared,
        request: &ApplyRequest,
        (planned, spec): Wish<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Stored {
        let before = Stored { state: request.prior.clone(), private: request.private.clone() };
        let Some(mut begun) = self.begin(shared, request, (planned, spec), diagnostics).await else {
            return before;
        };
        let spec = &begun.wish.clone();
        let operation = if request.prior.is_none() { "create" } else { "update" };
        let mut tags = stack::tags(spec, &defaults(shared), &begun.name, &begun.memory.owner);
        if request.prior.is_some() {
            tags.insert(MADE_TAG.to_owned(), made_since(&begun.seen));
        }
        let gone = gone(request.prior.as_ref(), spec, &tags);
        let gone_from_instances = begun.memory.retag(&gone, &tags);
        let seen_ids = begun.seen.ids();
        let ids = Ids { target_group: seen_ids.target_group.clone().or(spec.target_group_arn.clone()), ..seen_ids };
        claim(shared, &ids, spec, &begun.memory.owner);
        let mut build = Build {
            context: &shared.stack,
            spec,
            name: &begun.name,
            owner: &begun.memory.owner,
            tags: &tags,
            gone: &gone,
            gone_from_instances: &gone_from_instances,
            seen: &begun.seen,
            live: begun.live,
            ids,
            deadline: Instant::now() + limit(planned, operation),
            is_limited: !planned.get("timeouts").get(operation).is_null(),
            cancel: &request.cancel,
            progress: begun.memory.progress(),
            former_failures: None,
        };
        build.note_families(&begun.expected);
        let result = self.carry_out(&mut build, &begun, request, planned).await;
        let (known, progress) = (build.ids.clone(), build.progress.clone());
        drop(build);
        shared.stack.objects.end(&begun.name, &begun.memory.owner);
        shared.stack.objects.claim(&known, &begun.memory.owner);
        begun.memory.note_progress(&progress);
        match result {
            Ok(seen) => {
                begun.memory.note_applied();
                begun.memory.running = None;
                diagnostics::left_for_later(spec, &begun.left, diagnostics);
                let mut state = planned.without_unknowns();
                // A read can be earlier than what was just made: what is known to be there stays.
                model::set_ids(&mut state, &seen.ids().or(&known));
                // What a plan said stays said: what others did since is for the next refresh to see.
                for name in IDS.into_iter().chain(NAMES).filter(|name| planned.get(name).is_wholly_known()) {
                    state.set(name, planned.get(name).clone());
                }
                Stored { state: Some(state), private: begun.memory.bytes() }
            }
            Err(error) => {
                begun.memory.note_attempted();
                let written = request.prior.as_ref().unwrap_or(planned);
                let (registered, stopped_by_hand) = (progress.registered, request.cancel.is_cancelled());
                let stopped = Stopped { operation, written, wish: spec, registered, stopped_by_hand, error };
                self.stopped(shared, stopped, &begun, &known, diagnostics).await
            }
        }
    }

    /// Looks at what is there and what there is to do, and whether it may be done.
    async fn begin(
        &self,
        shared: &Shared,
        request: &ApplyRequest,
        (planned, spec): Wish<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Begun> {
        let mut memory = PrivateState::read(&request.private);
        let prior = request.prior.as_ref();
        let prior_spec = prior.and_then(model::spec).map(Spec::with_defaults);
        let expected = prior_spec.clone().unwrap_or_else(|| spec.clone());
        let looked = look(shared, (spec, &expected), prior, &mut memory).await;
        let (name, seen) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                diagnostics::failed("make", spec, &error, &Ids::default(), None, diagnostics);
                return None;
            }
        };
        let planned_name = planned.get("target_group_name").as_str().or(planned.get("autoscaling_group_name").as_str());
        if prior.is_none() && spec.target_group.is_some() && planned_name.is_some_and(|planned| planned != name) {
            let what =
                format!("another environment {} has the name {} by now", spec.id(), planned_name.unwrap_or_default());
            diagnostics::changed_meanwhile(spec, &what, diagnostics);
            shared.stack.objects.end(&name, &memory.owner);
            return None;
        }
        let from = seen.spec(&expected);
        let mut changes = stack::changes(&from, spec, &seen.there());
        let mut left = Vec::new();
        if let Some((prior, prior_spec)) = prior.zip(prior_spec.as_ref()) {
            if let Some(what) = impossible(planned, prior_spec, spec, &changes) {
                diagnostics::changed_meanwhile(spec, &what, diagnostics);
                return None;
            }
            (changes, left) = told(planned, &stack::changes(prior_spec, spec, &there(prior)), changes);
        }
        memory.note_unfit(&seen);
        if prior.is_some() && diagnostics::unfit(spec, &changes, &memory.unfit, diagnostics) {
            return None;
        }
        let left = left.iter().flat_map(Change::paths).collect();
        let mut begun = Begun { memory, name, expected, wish: spec.clone(), seen, changes, live: false, left };
        begun.is_allowed(shared, (planned, &from), diagnostics).await.then_some(begun)
    }

    async fn carry_out(
        &self,
        build: &mut Build<'_>,
        begun: &Begun,
        request: &ApplyRequest,
        planned: &Value,
    ) -> Result<Seen, PortError> {
        let prior = request.prior.as_ref();
        let formerly = prior.is_some_and(|prior| !prior.get("listener_arn").is_null());
        if build.seen.group.is_some() {
            build.make_known(formerly).await?;
        }
        let mut memory = begun.memory.clone();
        for change in &begun.changes {
            let result = build.carry_out(change).await;
            let mut state = planned.without_unknowns();
            model::set_ids(&mut state, &build.ids);
            memory.note_progress(&build.progress);
            request.checkpoint.set(Stored { state: Some(state), private: memory.bytes() });
            result?;
            if *change == Change::Create(Part::TargetGroup) {
                build.make_known(false).await?;
            }
        }
        // Last, since a create that has these tags is one that got to its end.
        let seen = observe(&build.context.ports, build.spec, &build.ids).await?;
        let mut tags = build.tags.clone();
        tags.entry(MADE_TAG.to_owned()).or_insert_with(|| clock::seconds().to_string());
        build.tag(&seen, &tags, build.gone).await?;
        Ok(seen)
    }

    /// The state after a failure: what is seen, over what was written; none if a create left nothing.
    async fn stopped(
        &self,
        shared: &Shared,
        stopped: Stopped<'_>,
        begun: &Begun,
        known: &Ids,
        diagnostics: &mut Diagnostics,
    ) -> Stored {
        let Stopped { operation, written, wish, registered, stopped_by_hand, error } = stopped;
        let create = operation == "create";
        // What was before holds, but for what is seen to be otherwise.
        let former = begun.memory.known(model::ids(written));
        let mut expected = begun.expected.clone();
        let mut known = known.clone();
        if !create {
            known.template_version = former.template_version;
            known.task_definition.clone_from(&former.task_definition);
        }
        // Whoever stopped it doesn't wait for what AWS has to say.
        let looking = observe(&shared.stack.ports, &expected, &known);
        let mut seen = last_look(stopped_by_hand, looking).await;
        let runs = seen.as_ref().ok().and_then(|seen| seen.ids().task_definition);
        if let (Some(runs), Ok(seen), false) =
            (runs.filter(|runs| Some(runs) == registered.as_ref()), &mut seen, create)
        {
            // What was deployed in this run is known, whatever failed after it.
            take_deployed(&mut expected, wish);
            seen.known.task_definition = Some(runs);
            seen.revision_tags = None;
        }
        if create && seen.as_ref().is_ok_and(|seen| seen.ids().is_empty()) {
            diagnostics::failed(operation, wish, &error, &known, None, diagnostics);
            return Stored::default();
        }
        let mut state = written.without_unknowns();
        match seen {
            Ok(seen) => {
                let after = seen.spec(&expected);
                state = self.observed(state, (&begun.expected, &after), &seen, false);
            }
            Err(_) => model::set_ids(&mut state, &known),
        }
        let leads = match &known.target_group {
            Some(group) => {
                let looking = live_guard::leads_to(&shared.stack, group, Freshness::Now);
                last_look(stopped_by_hand, looking).await.ok()
            }
            None => None,
        };
        diagnostics::failed(operation, wish, &error, &known, leads.as_deref(), diagnostics);
        Stored { state: Some(state), private: begun.memory.bytes() }
    }
}

/// A run that didn't get to its end.
struct Stopped<'s> {
    operation: &'static str,
    written: &'s Value,
    wish: &'s Spec,
    registered: Option<String>,
    /// By a stop signal.
    stopped_by_hand: bool,
    error: PortError,
}

/// How long a last look after a stop may take.
const LAST_LOOK: Duration = Duration::from_secs(5);

async fn last_look<T>(stopped_by_hand: bool, look: impl Future<Output = Result<T, PortError>>) -> Result<T, PortError> {
    if !stopped_by_hand {
        return look.await;
    }
    let late = || PortError::new(FailureKind::Other, "AWS did not answer in time");
    timeout(LAST_LOOK, look).await.unwrap_or_else(|_| Err(late()))
}

fn take_deployed(expected: &mut Spec, wish: &Spec) {
    if let (Some(own), Some(wished)) = (&mut expected.service, &wish.service) {
        own.task_definition.clone_from(&wished.task_definition);
        own.task_definition_arn.clone_from(&wished.task_definition_arn);
        own.image.clone_from(&wished.image);
        own.container_name.clone_from(&wished.container_name);
    }
    expected.release.clone_from(&wish.release);
}

/// Lets other objects of this run know what is this one's.
fn claim(shared: &Shared, ids: &Ids, spec: &Spec, owner: &str) {
    shared.stack.objects.claim(ids, owner);
    if let (Some(group), Some(targets)) = (&ids.target_group, &spec.targets) {
        shared.stack.objects.claim_targets(group, targets, owner);
    }
}

/// The keys of tags that were ours and are wished no more.
fn gone(prior: Option<&Value>, spec: &Spec, tags: &BTreeMap<String, String>) -> Vec<String> {
    let former = prior.map(|prior| prior.get("tags_all").string_map()).unwrap_or_default();
    let release = spec.release.is_none().then(|| RELEASE_TAG.to_owned());
    former.into_keys().filter(|key| !tags.contains_key(key)).chain(release).collect()
}

/// When all of it was there first, as it stands on it; now, where nothing says so.
fn made_since(seen: &Seen) -> String {
    let since = seen.tagged().into_iter().find_map(|tags| tags.get(MADE_TAG).cloned());
    since.unwrap_or_else(|| clock::seconds().to_string())
}

/// Looks at what is there, of a new object at what was left behind under its name.
async fn look(
    shared: &Shared,
    (spec, expected): (&Spec, &Spec),
    prior: Option<&Value>,
    memory: &mut PrivateState,
) -> Result<(String, Seen), PortError> {
    if memory.owner.is_empty() {
        memory.owner = crate::resource::new_owner();
    }
    let (name, mut known) = match prior {
        Some(prior) => (memory.name_of(prior, spec), memory.known(model::ids(prior))),
        None => take_name(&shared.stack, spec, &memory.owner, clock::seconds()).await?,
    };
    known.target_group = known.target_group.or_else(|| spec.target_group_arn.clone());
    let seen = observe(&shared.stack.ports, expected, &known).await?;
    if prior.is_none() {
        let owners = seen.tagged().into_iter().filter_map(|tags| tags.get(stack::OWNER_TAG).cloned());
        memory.heir_of.extend(owners.filter(|owner| *owner != memory.owner).collect::<BTreeSet<String>>());
    }
    memory.name = Some(name.clone());
    Ok((name, seen))
}

/// Why an apply can't do what its plan told, since something changed in between.
fn impossible(planned: &Value, prior: &Spec, spec: &Spec, changes: &[Change]) -> Option<String> {
    if let Some(path) = stack::replaced(prior, spec).into_iter().next() {
        return Some(format!(
            "{} is another than was known when planning, and only a replacement can change it",
            path.join(".")
        ));
    }
    let known = |name: &str| !planned.get(name).is_unknown() && !planned.get(name).is_null();
    let gone = |change: &&Change| match change {
        Change::Create(Part::TargetGroup) => known("target_group_arn"),
        Change::Create(Part::SecurityGroup) => known("security_group_id"),
        Change::Create(Part::LaunchTemplate) => known("launch_template_id"),
        Change::Create(Part::Service) => known("service_arn"),
        _ => false,
    };
    match changes.iter().find(gone)? {
        Change::Create(part) => Some(format!("the {} is gone", part.summary())),
        _ => None,
    }
}

/// The changes that a plan told of, and those that it didn't, which are left for the next one: what others did since it
/// looked, or before, where it didn't look.
fn told(planned: &Value, planned_changes: &[Change], changes: Vec<Change>) -> (Vec<Change>, Vec<Change>) {
    let unknown = |name: &str| planned.get(name).is_unknown();
    let same_kind = |one: &Change| planned_changes.iter().any(|other| one.is_of_kind(other));
    changes.into_iter().partition(|change| match change {
        Change::Roll(_) | Change::Version | Change::Repoint => unknown("launch_template_version"),
        Change::Deploy(_) => unknown("task_definition_arn"),
        Change::Create(_) => true,
        change => change.harm(None).is_none() || same_kind(change),
    })
}

impl Begun {
    /// Leaves a color that serves users as it is, but for what was asked.
    fn leave(&mut self, planned: &Value, from: &Spec) {
        let asked = self.memory.asked_as_planned();
        let (wish, kept) = stack::kept_back(&self.wish, from, &asked);
        let had = |change: &Change| self.changes.iter().any(|one| one.is_of_kind(change));
        let changes: Vec<Change> =
            stack::changes(from, &wish, &self.seen.there()).into_iter().filter(|change| had(change)).collect();
        let (stay, spared) = stack::spared(changes, &asked, self.seen.running());
        let untold = planned.get("launch_template_version").is_wholly_known();
        let stays = |change: &Change| !(change.is_left_over() || untold && *change == Change::Repoint);
        self.changes = stay.into_iter().filter(stays).collect();
        self.left.extend(kept.into_iter().chain(spared.iter().flat_map(Change::paths)));
        self.wish = wish;
    }

    /// Looks right before anything is done whether it may be.
    async fn is_allowed(
        &mut self,
        shared: &Shared,
        (planned, from): (&Value, &Spec),
        diagnostics: &mut Diagnostics,
    ) -> bool {
        let spec = self.wish.clone();
        let Some(group) = &self.seen.group else { return true };
        let leads = match live_guard::leads_to(&shared.stack, &group.arn, Freshness::Now).await {
            Ok(leads) => leads,
            Err(error) => {
                diagnostics::unreadable(&spec.id(), &error, diagnostics);
                return false;
            }
        };
        let Some(routes) = live_by(&leads) else { return true };
        self.live = true;
        if spec.is_protected() {
            self.leave(planned, from);
        }
        let mut told = Diagnostics::new();
        let harm = Harm { before: &spec, spec: &spec, replaced: &[], changes: &self.changes };
        harm.tell(&routes, self.seen.running(), &mut told);
        let refused = told.has_errors();
        if refused {
            diagnostics.extend(told);
        }
        !refused
    }
}
