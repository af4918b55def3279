//! The end of a switch: what it made goes, unless another object has taken it over; what was there before comes back where
//! that is wished and can be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::diagnostics::{self, Failure, Place};
use super::private_state::PrivateState;
use super::promise::Promise;
use super::{OWNER_TAG, Shared, TAG, apply, cohort_of, look, model, name, shell, wish, with_stickiness};
use crate::rollout::lint::Purpose;
use crate::rollout::planner;
use crate::rollout::situation::is_ours_by_looks;
use crate::rollout::spec::OnDestroy;
use crate::rollout::{
    Intent, Observed, Removal, RouteSpec, Runbook, Step, Terminal, World, labeled, short, terminal_summary,
};
use crate::run::absence::believed;
use crate::run::call::Call;
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::rollout::events::RolloutContext;
use crate::run::rollout::executor::{Ending, Outcome, Run};
use crate::run::rollout::lock::{Lock, Refused, is_surely_dead};
use crate::shell::Shell;
use crate::tf_provider::{DestroyRequest, Diagnostics, Path, Stored, Value};

/// A switch that goes.
struct End<'a> {
    shared: &'a Shared,
    prior: &'a Value,
    request: &'a DestroyRequest,
    intent: Intent,
    memory: PrivateState,
    shell: Shell,
}

/// What of a switch's things is still its own.
#[derive(Default)]
struct Owned {
    rules: Vec<RouteSpec>,
    /// Whether the record is, where there is one.
    record: bool,
    /// Whether another object has taken something over: then routes and previews are that one's business.
    heir: bool,
}

/// Destroys.
pub(super) async fn destroy(shared: &Shared, request: &DestroyRequest, diagnostics: &mut Diagnostics) -> Stored {
    let prior = &request.prior;
    let before = Stored { state: Some(prior.clone()), private: request.private.clone() };
    let memory = PrivateState::read(&request.private);
    let own = model::parse(prior);
    let Some(intent) = wish(prior, own.as_ref(), &memory) else {
        diagnostics
            .error("The provider has a bug", "The state can't be read, so nothing was destroyed. Please report this.");
        return before;
    };
    let looking = look(shared, (&intent, Some(&intent)), Freshness::Now, name(prior), diagnostics);
    let Some(world) = Call::until(request.cancel.clone()).make(looking).await else { return before };
    let shell = shell(shared, &intent);
    let end = End { shared, prior, request, intent, memory, shell };
    end.run(world, diagnostics).await
}

impl End<'_> {
    fn place(&self) -> Place<'_> {
        (&self.intent, &self.shell)
    }

    async fn run(mut self, world: World, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: Some(self.prior.clone()), private: self.request.private.clone() };
        // What is read until then tells nobody anything once the run was stopped.
        let until = || Call::until(self.request.cancel.clone());
        let (world, owned, is_left) = match until().make(self.survey(world)).await {
            Ok(found) => found,
            Err(error) => {
                diagnostics::unreadable(name(self.prior), &error, diagnostics);
                return before;
            }
        };
        let planning = self.restoration_as_planned(world, &owned, diagnostics);
        let Some((world, restoration)) = until().make(planning).await else {
            return before;
        };
        let cohort = world.cohort.clone();
        let removal = self.removal(&owned, true);
        if self.request.cancel.is_cancelled() {
            diagnostics::refused(&Refused::Interrupted { in_doubt: false }, self.place(), diagnostics);
            return before;
        }
        let runbook = planner::plan_removal(&removal, &world);
        if !diagnostics::is_sound(&runbook, (&self.intent, &world), Purpose::Removal, diagnostics) {
            return before;
        }
        let nothing = restoration.is_empty() && runbook.is_empty() && !is_left;
        let about = apply::about(&self.intent, &world, name(self.prior), &Value::Null);
        let lock = if nothing { Ok(None) } else { self.lock(&world, &about, diagnostics).await };
        let lock = match lock {
            Ok(lock) => lock,
            Err(refused) => {
                diagnostics::refused(&refused, self.place(), diagnostics);
                return before;
            }
        };
        let outcome = self.carry_out((world, restoration), &owned, &about, lock.as_ref(), diagnostics).await;
        if let Some(lock) = &lock {
            // What an unfinished rollout left is still to be known if the switch stays.
            match (outcome.ending, apply::as_found(lock)) {
                (Ending::Done, _) if owned.heir => apply::release(lock, None, self.place(), diagnostics).await,
                (Ending::Done, _) => apply::delete(lock, self.place(), diagnostics).await,
                (Ending::Held, found @ Some(_)) => apply::release(lock, found, self.place(), diagnostics).await,
                // A removal that stopped half-way left nothing that a rollout would have to know.
                (Ending::Held, None)
                    if !outcome.journal.has_external_change() && outcome.journal.doubts().is_empty() =>
                {
                    apply::release(lock, None, self.place(), diagnostics).await;
                }
                _ => apply::end(lock, &outcome, (self.place(), &cohort, None), diagnostics).await,
            }
        }
        let is_unmarked = owned.heir || self.unmark(diagnostics).await;
        if outcome.ending == Ending::Done && is_unmarked {
            return Stored::default();
        }
        self.memory.world = outcome.world;
        Stored { state: Some(self.prior.clone()), private: self.memory.bytes() }
    }

    /// What is the switch's own, with the rules that a killed rollout left, and whether that one's lock is left, too.
    async fn survey(&self, world: World) -> Result<(World, Owned, bool), PortError> {
        let owned = self.owned(&world).await?;
        let left = apply::lock_parameter(self.shared, &self.intent).await?;
        let is_left = left.as_ref().is_some_and(is_surely_dead);
        let world = World { lock_record: None, ..apply::with_left(world, left, &self.intent) };
        let (world, owned) = self.with_left_rules(world, owned).await?;
        Ok((world, owned, is_left))
    }

    /// Rules that no request takes, which a killed rollout left, go, too.
    async fn with_left_rules(&self, mut world: World, mut owned: Owned) -> Result<(World, Owned), PortError> {
        for listener in planner::trial_listeners(&self.intent) {
            let rules = match self.shared.ports.load_balancer.rules_of(&listener).await {
                Ok(rules) => rules,
                Err(error) => {
                    tracing::warn!(%error, listener, "it can't be seen whether a rollout left a rule there");
                    continue;
                }
            };
            let seen = planner::tried(&self.intent, world.clone(), &listener, &rules);
            let is_left = |trial: &&RouteSpec| trial.listener() == listener && seen.routes.contains_key(&trial.key());
            let Some(left) = seen.trials.iter().find(is_left).filter(|_| !owned.heir).cloned() else { continue };
            if !owned.rules.iter().any(|own| own.key() == left.key()) {
                owned.rules.push(left);
            }
            world = seen;
        }
        self.with_cohort(world, owned).await
    }

    /// And those of its cohort. Where some were noted, they have to be seen: nothing tells of them once the switch is gone.
    async fn with_cohort(&self, mut world: World, mut owned: Owned) -> Result<(World, Owned), PortError> {
        let listeners = self.intent.routes.iter().filter(|route| !route.is_network()).map(RouteSpec::listener);
        let noted: BTreeSet<String> = world.cohort.noted_rules().map(|rule| rule.listener()).collect();
        let listeners: BTreeSet<String> = listeners.filter(|_| self.intent.strategy.cohort.is_some()).collect();
        for listener in &listeners | &noted {
            match cohort_of(self.shared, &self.intent, world.clone(), &listener).await {
                Ok(seen) => world = seen,
                Err(error) if noted.contains(&listener) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, listener, "it can't be seen whether a rollout left its cohort there")
                }
            }
        }
        let left = world.cohort.rules().filter(|rule| !owned.heir && world.routes.contains_key(&rule.key()));
        for rule in left {
            if !owned.rules.iter().any(|own| own.key() == rule.key()) {
                owned.rules.push(rule.clone());
            }
        }
        Ok((world, owned))
    }

    async fn lock(
        &self,
        world: &World,
        about: &RolloutContext,
        diagnostics: &mut Diagnostics,
    ) -> Result<Option<Lock>, Refused> {
        apply::lock(self.shared, &self.intent, (world, &Runbook::default()), about, &self.request.cancel, diagnostics)
            .await
    }

    /// What was there before comes back, and then what was made goes.
    async fn carry_out(
        &self,
        (world, restoration): (World, Runbook),
        owned: &Owned,
        about: &RolloutContext,
        lock: Option<&Lock>,
        diagnostics: &mut Diagnostics,
    ) -> Outcome {
        let (mut world, mut restored) = (world, true);
        if !restoration.is_empty() {
            let outcome = self.perform(&restoration, world.clone(), about, lock).await;
            match outcome.ending {
                Ending::Done => {
                    let seen = outcome.world.unwrap_or_else(|| restoration.after(&world, |_| true));
                    world = with_what_was_there(seen, world);
                }
                Ending::RolledBack if !outcome.journal.is_interrupted() => {
                    self.kept(&restoration, &outcome, diagnostics);
                    let seen = outcome.world.unwrap_or_else(|| world.clone());
                    (world, restored) = (with_what_was_there(seen, world), false);
                }
                _ => {
                    self.failed(&restoration, &outcome, diagnostics);
                    return outcome;
                }
            }
        }
        let runbook = planner::plan_removal(&self.removal(owned, restored), &world);
        let outcome = self.perform(&runbook, world, about, lock).await;
        if outcome.ending != Ending::Done {
            self.failed(&runbook, &outcome, diagnostics);
        }
        outcome
    }

    async fn perform(&self, runbook: &Runbook, world: World, about: &RolloutContext, lock: Option<&Lock>) -> Outcome {
        let run = Run {
            ports: &self.shared.ports,
            runbook,
            scope: &model::scope_of(&self.intent, &world),
            tags: &BTreeMap::new(),
            about,
            lock,
            cancel: &self.request.cancel,
            watched: OnceLock::new(),
            limit: model::timeout(self.prior, "delete"),
            lasting: None,
        };
        run.run(world).await
    }

    fn failed(&self, runbook: &Runbook, outcome: &Outcome, diagnostics: &mut Diagnostics) {
        let failure = Failure {
            summary: format!("Failed to remove the switch {}", name(self.prior)),
            shell: &self.shell,
            intent: &self.intent,
            config: &Value::Null,
            runbook,
            outcome,
            from: None,
            is_new: false,
        };
        failure.tell(diagnostics);
    }

    /// Asks the things themselves whose they are: another object may have taken them over since.
    async fn owned(&self, world: &World) -> Result<Owned, PortError> {
        let (intent, mine) = (&self.intent, self.memory.owner.as_str());
        let routes = intent.routes.iter().chain(&intent.preview_routes).chain(&intent.removed);
        let seen = |route: &RouteSpec| world.routes.get(&route.key());
        let keys: Vec<String> = routes.clone().map(RouteSpec::key).collect();
        let mut owned = Owned { heir: self.shared.switches.is_claimed_by_another(&keys, mine), ..Owned::default() };
        let rules: Vec<(&RouteSpec, &Observed)> = routes
            .filter_map(|route| Some((route, seen(route)?)))
            .filter(|(route, seen)| route.is_made(seen) || is_ours_by_looks(intent, route, seen))
            .collect();
        let arns: Vec<String> = rules.iter().map(|(_, seen)| seen.arn.clone()).collect();
        let has_all = |tags: &BTreeMap<String, _>| arns.iter().all(|arn| tags.contains_key(arn));
        let read = || self.shared.ports.load_balancer.rule_tags(&arns);
        let tags = match believed(read, has_all, |later, _| later).await {
            // Who may not read tags goes by what is known of the rules themselves.
            Err(error) if error.kind == FailureKind::Denied => {
                arns.iter().map(|arn| (arn.clone(), BTreeMap::new())).collect()
            }
            tags => tags?,
        };
        for (route, seen) in rules {
            // One that says nothing of itself is ours as far as we know.
            let unknown = BTreeMap::new();
            let tags = tags.get(&seen.arn).unwrap_or(&unknown);
            let known = route.is_made(seen) || tags.get(TAG).map(String::as_str) == Some(name(self.prior));
            if tags.get(OWNER_TAG).is_some_and(|owner| !owner.is_empty() && owner != mine) {
                owned.heir = true;
            } else if known
                && !owned.rules.contains(route)
                && !self.shared.switches.is_claimed_by_another([&route.key()], mine)
            {
                owned.rules.push(route.clone());
            }
        }
        if let Some(parameter) = &intent.record {
            // The tag says who made it, also where an earlier run was killed before it could.
            let tags = match self.shared.ports.records.tags(parameter).await {
                Ok(tags) => tags,
                Err(error) if error.kind == FailureKind::Gone => BTreeMap::new(),
                Err(error) => return Err(error),
            };
            let other = tags.get(OWNER_TAG).is_some_and(|owner| !owner.is_empty() && owner != mine);
            let same_name = tags.get(TAG).map(String::as_str) == Some(name(self.prior));
            owned.record = !other && (self.memory.made_record.as_ref() == Some(parameter) || same_name);
            owned.heir |= other && same_name;
        }
        Ok(owned)
    }

    /// Whether the routes become what they were before the switch.
    fn restores(&self) -> bool {
        model::declared(self.prior, "on_destroy") == Some(OnDestroy::Restore)
    }

    fn removal(&self, owned: &Owned, restored: bool) -> Removal {
        let restore = self.restores() && restored && !owned.heir;
        let known = self.memory.original_record_of == self.intent.record;
        let before = self.memory.originals.record.clone().filter(|_| restore && known);
        let record = self.intent.record.clone().and_then(|parameter| match (owned.record, before) {
            (true, _) => Some((parameter, None)),
            (false, Some(value)) => Some((parameter, Some(value))),
            (false, None) => None,
        });
        Removal { own_rules: owned.rules.clone(), record }
    }

    /// How the routes come back to where they led before the switch: by colors, which may have other groups by now. None
    /// where that must not be carried out.
    fn restoration(&self, world: &World, owned: &Owned, diagnostics: &mut Diagnostics) -> Option<Runbook> {
        if !self.restores() {
            return Some(Runbook::default());
        }
        if owned.heir {
            let detail = "Another object has taken over what this one made, as where a switch is replaced. The routes are that one's now, and stay as they are.";
            diagnostics.warning_at(Path::attribute("on_destroy"), "The routes are another switch's by now", detail);
            return Some(Runbook::default());
        }
        let routes = self.intent.routes.iter().chain(&self.intent.preview_routes);
        let foreign = routes.filter(|route| !matches!(route, RouteSpec::OwnRule { .. }));
        let original = |route: &RouteSpec| {
            Some((route.clone(), self.by_color(&self.memory.originals.routes.get(&route.key())?.terminal)))
        };
        let originals: Vec<(RouteSpec, Terminal)> = foreign.filter_map(original).collect();
        let runbook = planner::plan_restoration(&self.intent, &originals, world);
        let purpose = Purpose::Restoration(&originals);
        diagnostics::is_sound(&runbook, (&self.intent, world), purpose, diagnostics).then_some(runbook)
    }

    /// The same with the groups that the colors have now.
    fn by_color(&self, terminal: &Terminal) -> Terminal {
        let Terminal::Forward(forward) = terminal else { return terminal.clone() };
        let mut forward = forward.clone();
        for (arn, _) in &mut forward.groups {
            // One that is still a color's is what it was, whatever name it has by now.
            let label = self.memory.original_colors.get(arn).filter(|_| self.intent.color_of(arn).is_none());
            if let Some(now) = label.and_then(|label| labeled(&self.intent.environments, label)) {
                now.clone_into(arn);
            }
        }
        Terminal::Forward(forward)
    }

    /// Traffic that is elsewhere than the plan saw it is not led back to where it once was. One look may be an old one.
    async fn restoration_as_planned(
        &self,
        world: World,
        owned: &Owned,
        diagnostics: &mut Diagnostics,
    ) -> Option<(World, Runbook)> {
        let (mut world, prior) = (world, model::parse(self.prior));
        for seen in 1.. {
            let mut said = Diagnostics::new();
            let mut restoration = self.restoration(&world, owned, &mut said);
            if let Some(runbook) = &restoration
                && let Some(more) = with_stickiness(self.shared, runbook, &world).await
            {
                (world, said) = (more, Diagnostics::new());
                restoration = self.restoration(&world, owned, &mut said);
            }
            let Some(restoration) = restoration else {
                diagnostics.extend(said);
                return None;
            };
            let barred = self.memory.world.as_ref().zip(prior.as_ref()).is_some_and(|(planned, prior)| {
                let promise = Promise { world: planned, prior };
                promise.bars(name(self.prior), (&self.intent, &world, &restoration), &mut said)
            });
            if !barred || seen == apply::LOOKS {
                diagnostics.extend(said);
                return (!barred).then_some((world, restoration));
            }
            tokio::time::sleep(apply::LOOK_PAUSE).await;
            let seen =
                look(self.shared, (&self.intent, Some(&self.intent)), Freshness::Now, name(self.prior), diagnostics)
                    .await?;
            // The rules that an earlier rollout left are no routes of the wish.
            let left: Vec<RouteSpec> = world.trials.iter().chain(world.cohort.rules()).cloned().collect();
            let (trials, cohort, routes) = (world.trials, world.cohort, world.routes);
            world = World { trials, cohort, ..seen };
            for route in left {
                if let Some(rule) = routes.get(&route.key()) {
                    world.routes.entry(route.key()).or_insert_with(|| rule.clone());
                }
            }
        }
        None
    }

    /// The routes could not be led back: that is told, and the rest goes.
    fn kept(&self, restoration: &Runbook, outcome: &Outcome, diagnostics: &mut Diagnostics) {
        let why = outcome.journal.reason().map(|(_, reason)| reason).unwrap_or_default();
        let called = |arn: &str| self.intent.called(arn);
        let wanted = restoration.steps().filter_map(|(_, step)| match step {
            Step::Route { route, after, .. } => Some(format!("\n  {route}: {}", terminal_summary(after, called))),
            _ => None,
        });
        let detail = format!(
            "on_destroy = \"restore\" would have led the routes back to where they led before the switch:{}\nThat can't be done:\n  {}\n\nThe routes stay as they are, and so does the record where it is not the switch's own.\n\n{}",
            wanted.collect::<String>(),
            why.replace('\n', "\n  "),
            diagnostics::traffic_now(&self.intent, outcome.world.as_ref())
        );
        diagnostics.warning_at(Path::attribute("on_destroy"), "The routes were not restored", detail);
    }

    /// Strikes the previews from the environments' groups: a note that stays would let another listener's traffic pass for a
    /// preview's.
    async fn unmark(&self, diagnostics: &mut Diagnostics) -> bool {
        if self.memory.previews.is_empty() && self.intent.preview_routes.is_empty() {
            return true;
        }
        let groups: Vec<String> = self.intent.groups().map(str::to_owned).collect();
        let routes = self.intent.preview_routes.iter();
        let seen = |route: &RouteSpec| match route {
            RouteSpec::Listener(arn) | RouteSpec::Rule(arn) => Some(arn.clone()),
            RouteSpec::OwnRule { arn, .. } => arn.clone(),
        };
        let former: Vec<String> = self.memory.previews.iter().cloned().chain(routes.filter_map(seen)).collect();
        let Err(error) = self.shared.ports.load_balancer.mark_previews(&groups, &former, &[]).await else {
            return true;
        };
        let names = groups.iter().map(|group| short(group)).collect::<Vec<_>>().join(", ");
        let detail = format!(
            "{error}.\n\nThe target groups ({names}) are tagged with the switch's preview routes, and a tag that stays would turn protect_live off where another switch uses these routes. Everything else is gone; run `terraform destroy` again once the cause is mended."
        );
        diagnostics.error_at(Path::attribute("preview_routes"), "Failed to strike out the preview routes", detail);
        false
    }
}

/// What a look after a restoration lacks is taken for there: it may be an old one, and deleting what is gone does no harm.
fn with_what_was_there(seen: World, before: World) -> World {
    let mut world = World { record: seen.record.clone().or(before.record), ..seen };
    for (key, observed) in before.routes {
        world.routes.entry(key).or_insert(observed);
    }
    world
}
