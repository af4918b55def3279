//! What environments are made of, in memory: with time that passes, calls that fail, and processes that die.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::rollout::gate::TargetHealth;
use crate::rollout::{Conditions, Scalable, Terminal};
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::in_memory::{ATTEMPT, Fake, Fault, Hook, Stacks};
use crate::run::stack::ports::{
    Deploy, Deployment, Ecs, LaunchTemplates, Refresh, RefreshOf, RefreshState, Rollout, ScalingGroups, SecurityGroups,
    SeenGroup, SeenInstance, SeenScalingGroup, SeenSecurityGroup, SeenService, SeenTemplate, SeenVersion, StackPorts,
    Tags, TargetGroups, VersionOf,
};
use crate::stack::{Instances, Peer, Rule, RuleDirection, Rules, Service, Target, TargetGroup, TaskDefinition};

/// So long an instance or task takes until it serves.
pub(crate) const BOOT: Duration = Duration::from_secs(40);

/// The stacks of an account.
#[derive(Debug)]
pub(crate) struct Cloud {
    state: Arc<Mutex<State>>,
    /// The load balancer.
    pub routes: Arc<Fake>,
    died: Notify,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<String, Group>,
    security: BTreeMap<String, Security>,
    templates: BTreeMap<String, Template>,
    scaling: BTreeMap<String, Scaling>,
    services: BTreeMap<String, Running>,
    revisions: BTreeMap<String, Revision>,
    made: usize,
    calls: Vec<Call>,
    faults: BTreeMap<usize, Fault>,
    /// So many reads don't find a thing that is there.
    hidden: BTreeMap<String, usize>,
    /// So many reads by name find a group that was deleted, without tags.
    lingering: BTreeMap<String, usize>,
    /// So many reads after a change of a service show it as it was before.
    lag: usize,
    /// Those reads, by service.
    behind: BTreeMap<String, (usize, Running)>,
    /// Whether groups say which load balancers have them.
    mute: bool,
    /// Why a thing can't be released to, by its name.
    unfit: BTreeMap<String, String>,
    /// How long a call that changes something takes.
    slow: Duration,
    /// What happens right after the call of this number.
    after: Option<(usize, Hook)>,
}

/// A call that changed something.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What it was, such as `resize myapp-blue`.
    pub what: String,
    /// Whether users got to the stack that it was about right then.
    pub live: bool,
}

impl Call {
    /// Whether a color that serves users may have it done to it: it hurts nobody, or puts back what did.
    pub(crate) fn is_harmless(&self) -> bool {
        let words = [
            "tags",
            "attributes",
            "cancel",
            "note minimum",
            "update",
            "template",
            "attach",
            "rules",
            "resize",
            "scale",
            "deploy",
        ];
        words.iter().any(|word| self.what.starts_with(word))
    }
}

#[derive(Clone, Debug)]
struct Group {
    name: String,
    vpc: Option<String>,
    group: TargetGroup,
    tags: Tags,
    targets: Vec<Target>,
}

#[derive(Clone, Debug)]
struct Security {
    name: String,
    vpc: String,
    rules: Rules,
    tags: Tags,
}

#[derive(Clone, Debug)]
struct Template {
    name: String,
    tags: Tags,
    versions: Vec<(Instances, Tags)>,
}

#[derive(Clone, Debug)]
struct Scaling {
    settings: Instances,
    template: (String, String),
    groups: Vec<String>,
    tags: Tags,
    members: Vec<(SeenInstance, Instant)>,
    refresh: Option<(String, RefreshState, Instant)>,
    /// What the refresh makes instances of, where the group hasn't got it yet.
    desired: Option<(String, String)>,
}

#[derive(Clone, Debug)]
struct Running {
    service: Service,
    groups: Vec<String>,
    tags: Tags,
    /// The newest first: its id, its revision, since when, and how it stands.
    deployments: Vec<(String, String, Instant, Rollout)>,
}

#[derive(Clone, Debug)]
struct Revision {
    definition: TaskDefinition,
    tags: Tags,
    active: bool,
}

const PINNED: &str = "bluegreen:pinned-min";

fn gone(what: &str) -> PortError {
    PortError::new(FailureKind::Gone, format!("{what} is not found"))
}

fn conflict(what: &str) -> PortError {
    PortError::new(FailureKind::Conflict, what)
}

impl Cloud {
    pub(crate) fn new(routes: Arc<Fake>) -> Arc<Cloud> {
        Arc::new(Cloud { state: Arc::default(), routes, died: Notify::new() })
    }

    pub(crate) fn ports(self: &Arc<Cloud>) -> StackPorts {
        StackPorts {
            target_groups: self.clone(),
            security_groups: Arc::new(Ec2(self.clone())),
            launch_templates: Arc::new(Ec2(self.clone())),
            autoscaling: Arc::new(Asg(self.clone())),
            ecs: Arc::new(Containers(self.clone())),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tick(Instant::now());
        state
    }

    pub(crate) fn fault(&self, call: usize, fault: Fault) {
        self.state().faults.insert(call, fault);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.calls.clear();
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    pub(crate) fn summary(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.what).collect()
    }

    /// Returns when a fault killed the process: whoever runs must be dropped then.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    /// Calls that change something take so long from now on.
    pub(crate) fn be_slow(&self, time: Duration) {
        self.state().slow = time;
    }

    /// Right after the call of this number, counted from 0, somebody else does this.
    pub(crate) fn after(&self, call: usize, act: impl FnOnce() + Send + 'static) {
        self.state().after = Some((call, Hook(Box::new(act))));
    }

    /// So many reads find a group of this name that was deleted.
    pub(crate) fn linger(&self, name: &str, reads: usize) {
        self.state().lingering.insert(name.to_owned(), reads);
    }

    /// From now on so many reads after each change of a service show what was before it.
    pub(crate) fn be_behind(&self, reads: usize) {
        self.state().lag = reads;
    }

    /// A release can't be made to this group or service from now on.
    pub(crate) fn make_unfit(&self, thing: &str, why: &str) {
        self.state().unfit.insert(thing.to_owned(), why.to_owned());
    }

    /// So many reads don't find this thing.
    pub(crate) fn hide(&self, thing: &str, reads: usize) {
        self.state().hidden.insert(thing.to_owned(), reads);
    }

    /// Groups no longer say which load balancers have them.
    pub(crate) fn be_mute(&self) {
        self.state().mute = true;
    }

    /// Everything that there is, in words.
    pub(crate) fn inventory(&self) -> Vec<String> {
        let state = self.state();
        let groups = state.groups.values().map(|group| format!("target group {}", group.name));
        let security = state.security.values().map(|group| format!("security group {}", group.name));
        let templates = state.templates.values().map(|template| format!("launch template {}", template.name));
        let scaling = state.scaling.keys().map(|name| format!("scaling group {name}"));
        let services = state.services.keys().map(|arn| format!("service {}", crate::rollout::short(arn)));
        let active = state.revisions.iter().filter(|(_, revision)| revision.active);
        let revisions = active.map(|(arn, _)| format!("revision {}", crate::rollout::short(arn)));
        groups.chain(security).chain(templates).chain(scaling).chain(services).chain(revisions).collect()
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        let state = self.state();
        state.groups.contains_key(id)
            || state.security.contains_key(id)
            || state.templates.contains_key(id)
            || state.scaling.contains_key(id)
            || state.services.contains_key(id)
    }

    /// The tags of a thing, by its id.
    pub(crate) fn tags_of(&self, id: &str) -> Tags {
        self.state().tags_mut(id).cloned().unwrap_or_default()
    }

    /// Changes the tags of a thing, as somebody else would.
    pub(crate) fn retag(&self, id: &str, change: impl FnOnce(&mut Tags)) {
        if let Some(tags) = self.state().tags_mut(id) {
            change(tags);
        }
    }

    /// Changes a scaling group, as somebody else would.
    pub(crate) fn meddle(&self, name: &str, change: impl FnOnce(&mut Meddled<'_>)) {
        let mut state = self.state();
        if let Some(group) = state.scaling.get_mut(name) {
            let Scaling { settings, template, members, .. } = group;
            change(&mut Meddled { settings, template, members });
        }
    }

    /// Changes a target group's settings, as somebody else would.
    pub(crate) fn meddle_with_group(&self, arn: &str, change: impl FnOnce(&mut TargetGroup)) {
        if let Some(group) = self.state().groups.get_mut(arn) {
            change(&mut group.group);
        }
    }

    /// Deletes something, as somebody else would.
    pub(crate) fn remove(&self, id: &str) {
        let mut state = self.state();
        state.groups.remove(id);
        state.security.remove(id);
        state.templates.remove(id);
        state.scaling.remove(id);
        state.services.remove(id);
    }

    /// Deletes what a finished create made under a name, as somebody would who knows that no state has it.
    pub(crate) fn clear_finished(&self, name: &str) {
        let mut state = self.state();
        let is_finished = |tags: &Tags| tags.contains_key(crate::stack::MADE_TAG);
        let groups = state.groups.iter().filter(|(_, group)| group.name == name && is_finished(&group.tags));
        let arns: Vec<String> = groups.map(|(arn, _)| arn.clone()).collect();
        let services = state.services.iter().filter(|(arn, _)| arn.ends_with(&format!("/{name}")));
        let services = services.map(|(_, running)| &running.tags);
        let security = state.security.values().filter(|group| group.name == name).map(|group| &group.tags);
        let templates =
            state.templates.values().filter(|template| template.name == name).map(|template| &template.tags);
        let scaling = state.scaling.get(name).map(|scaling| &scaling.tags);
        let mut tags = services.chain(security).chain(templates).chain(scaling);
        if arns.is_empty() && !tags.any(is_finished) {
            return;
        }
        state.groups.retain(|arn, _| !arns.contains(arn));
        state.security.retain(|_, group| group.name != name);
        state.templates.retain(|_, template| template.name != name);
        state.scaling.remove(name);
        state.services.retain(|arn, _| !arn.ends_with(&format!("/{name}")));
        for revision in state.revisions.values_mut() {
            revision.active &=
                revision.tags.get(crate::stack::TAG).map(String::as_str) != Some(&name.replace('-', "/"));
        }
        drop(state);
        self.routes.meddle(|world| world.routes.retain(|_, seen| !arns.iter().any(|arn| seen.terminal.mentions(arn))));
    }

    /// A new version of a template, as somebody else makes one.
    pub(crate) fn add_version(&self, id: &str, change: impl FnOnce(&mut Instances, &mut Tags)) -> i64 {
        let mut state = self.state();
        let Some(template) = state.templates.get_mut(id) else { return 0 };
        let Some((mut instances, mut tags)) = template.versions.last().cloned() else { return 0 };
        change(&mut instances, &mut tags);
        template.versions.push((instances, tags));
        i64::try_from(template.versions.len()).unwrap_or(0)
    }

    /// A target group that somebody else keeps.
    pub(crate) fn adoptable(&self, name: &str) -> String {
        let arn = format!("arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/{name}/1");
        let group = Group {
            name: name.to_owned(),
            vpc: Some("vpc-1".to_owned()),
            group: TargetGroup::default(),
            tags: Tags::new(),
            targets: Vec::new(),
        };
        self.state().groups.insert(arn.clone(), group);
        arn
    }

    /// The versions of a group's instances, and the one that new ones get.
    pub(crate) fn versions(&self, name: &str) -> (Vec<String>, String) {
        let state = self.state();
        let Some(group) = state.scaling.get(name) else { return (Vec::new(), String::new()) };
        let of = |member: &SeenInstance| member.template.as_ref().map(|(_, version)| version.clone());
        let mut versions: Vec<String> = group.members.iter().filter_map(|(member, _)| of(member)).collect();
        versions.sort();
        (versions, group.template.1.clone())
    }

    /// How many instances a group has, and its minimum.
    pub(crate) fn size(&self, name: &str) -> Option<(usize, i32)> {
        let state = self.state();
        state.scaling.get(name).map(|group| (group.members.len(), group.settings.min_size))
    }

    /// What a service runs or is about to run, and how many tasks there are to be.
    pub(crate) fn runs(&self, arn: &str) -> Option<(String, i32)> {
        let state = self.state();
        let service = &state.services.get(arn)?.service;
        Some((service.task_definition_arn.clone()?, service.desired_count.unwrap_or_default()))
    }

    /// A service of somebody else's that runs a revision.
    pub(crate) fn foreign_service(&self, cluster: &str, name: &str, revision: &str) {
        let service = Service {
            cluster: cluster.to_owned(),
            task_definition_arn: Some(revision.to_owned()),
            desired_count: Some(1),
            ..Service::default()
        };
        let running = Running { service, groups: Vec::new(), tags: Tags::new(), deployments: Vec::new() };
        self.state()
            .services
            .insert(format!("arn:aws:ecs:eu-central-1:123456789012:service/{cluster}/{name}"), running);
    }

    /// Somebody else has a service run another revision.
    pub(crate) fn foreign_deployment(&self, service: &str, revision: &str) {
        let now = Instant::now();
        if let Some(running) = self.state().services.get_mut(service) {
            running.service.task_definition_arn = Some(revision.to_owned());
            running.deployments.insert(0, ("ecs-svc/foreign".to_owned(), revision.to_owned(), now, Rollout::Completed));
            running.deployments.truncate(1);
        }
    }

    /// Somebody else replaces the instances or tasks behind a group, by the same ones.
    pub(crate) fn replace_by_hand(&self, group: &str) {
        let (mut state, begins) = (self.state(), Instant::now() + 3 * BOOT);
        let id = state.id("by-hand");
        let own = |groups: &[String]| groups.iter().any(|own| own == group);
        if let Some(scaling) = state.scaling.values_mut().find(|it| own(&it.groups)) {
            scaling.refresh = Some((id, RefreshState::Running, begins));
        } else if let Some(service) = state.services.values_mut().find(|it| own(&it.groups))
            && let Some((_, revision, ..)) = service.deployments.first().cloned()
        {
            service.deployments.insert(0, (id, revision, begins, Rollout::InProgress));
        }
    }

    /// The settings of a scaling group.
    pub(crate) fn settings(&self, name: &str) -> Instances {
        self.state().scaling.get(name).map(|group| group.settings.clone()).unwrap_or_default()
    }

    /// The settings of a target group.
    pub(crate) fn group(&self, arn: &str) -> TargetGroup {
        self.state().groups.get(arn).map(|group| group.group.clone()).unwrap_or_default()
    }

    fn is_live(&self, group: &str) -> bool {
        self.routes.world().routes.values().any(|seen| {
            !seen.conditions.as_ref().is_some_and(Conditions::is_nobody) && seen.terminal.share(group) > 0.0
        })
    }

    fn is_hidden(&self, id: &str) -> bool {
        let mut state = self.state();
        match state.hidden.get_mut(id) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    /// A call that changes something about the stack of a group.
    async fn change<T: Send + 'static>(
        &self,
        what: String,
        group: Option<String>,
        effect: impl FnOnce(&mut State) -> Result<T, PortError> + Clone + Send + 'static,
    ) -> Result<T, PortError> {
        let slow = self.state().slow;
        if !slow.is_zero() {
            sleep(slow).await;
        }
        let live = group.as_ref().is_some_and(|group| self.is_live(group));
        let lost = |why: &str| Err(PortError::new(FailureKind::Other, why));
        let (fault, result, hook) = {
            let mut state = self.state();
            let number = state.calls.len();
            let hook = state.after.take_if(|(call, _)| *call == number);
            let fault = state.faults.get(&number).copied();
            state.calls.push(Call { what, live });
            let later = matches!(fault, Some(Fault::Refused | Fault::DiesBefore | Fault::Late(_) | Fault::Twice(..)));
            (fault, (!later).then(|| (effect.clone())(&mut state)), hook)
        };
        if let Some((_, Hook(act))) = hook {
            act();
        }
        match fault {
            None => result.unwrap_or_else(|| lost("it broke")),
            Some(Fault::Refused | Fault::LostAnswer) => lost("it broke"),
            Some(Fault::DiesBefore | Fault::DiesAfter) => {
                self.died.notify_one();
                std::future::pending().await
            }
            Some(Fault::Late(seconds)) => match timeout(ATTEMPT, self.come_late(seconds, effect)).await {
                Ok(answer) => answer.unwrap_or_else(|_| lost("it broke")),
                Err(_) => lost("no answer in time"),
            },
            Some(Fault::Twice(first, second)) => {
                drop(self.come_late(first, effect.clone()));
                sleep(ATTEMPT).await;
                let rest = second.saturating_sub(ATTEMPT.as_secs());
                self.come_late(rest, effect).await.unwrap_or_else(|_| lost("it broke"))
            }
            Some(Fault::Echo(seconds)) => {
                drop(self.come_late(seconds, effect));
                result.unwrap_or_else(|| lost("it broke"))
            }
        }
    }

    /// The effect, later, whoever waits for it.
    fn come_late<T: Send + 'static>(
        &self,
        seconds: u64,
        effect: impl FnOnce(&mut State) -> Result<T, PortError> + Send + 'static,
    ) -> JoinHandle<Result<T, PortError>> {
        let state = self.state.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            effect(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    fn group_of(&self, name: &str) -> Option<String> {
        let state = self.state();
        let attached = state.scaling.get(name).and_then(|group| group.groups.first().cloned());
        attached.or_else(|| state.groups.iter().find(|(_, group)| group.name == name).map(|(arn, _)| arn.clone()))
    }

    fn group_of_thing(&self, id: &str) -> Option<String> {
        let name = {
            let state = self.state();
            let security = state.security.get(id).map(|group| group.name.clone());
            security.or_else(|| state.templates.get(id).map(|template| template.name.clone()))
        };
        self.group_of(&name?)
    }

    fn group_of_service(&self, arn: &str) -> Option<String> {
        self.state().services.get(arn).and_then(|running| running.groups.first().cloned())
    }
}

impl Stacks for Cloud {
    /// How the targets of a group are.
    fn health_of(&self, group: &str) -> Vec<TargetHealth> {
        let state = self.state();
        let target = |target: String, healthy: bool| TargetHealth {
            target,
            state: if healthy { "healthy" } else { "initial" }.to_owned(),
            reason: None,
            zone: Some("zone-1".to_owned()),
        };
        let attached = state.scaling.values().filter(|it| it.groups.iter().any(|own| own == group));
        let members = attached.flat_map(|it| &it.members);
        let instances = members.map(|(member, _)| target(member.id.clone(), member.state == "InService"));
        let services = state.services.values().filter(|it| it.groups.iter().any(|own| own == group));
        let tasks = services.flat_map(|it| {
            let up = it.deployments.iter().any(|(_, _, _, rollout)| *rollout == Rollout::Completed);
            let count = it.service.desired_count.unwrap_or_default();
            (0..count).map(move |n| (format!("10.0.1.{n}:80"), up))
        });
        let tasks = tasks.map(|(name, up)| target(name, up));
        instances.chain(tasks).collect()
    }

    fn turnover_of(&self, group: &str) -> Option<String> {
        let state = self.state();
        let own = |groups: &[String]| groups.iter().any(|own| own == group);
        let scaling = state.scaling.iter().find(|(_, it)| own(&it.groups)).map(|(name, _)| name.clone());
        let service = state.services.iter().find(|(_, it)| own(&it.groups)).map(|(arn, _)| arn.clone());
        drop(state);
        let of = scaling.map(Scalable::ScalingGroup).or(service.map(Scalable::Service))?;
        self.turnover(&of)
    }

    fn turnover(&self, of: &Scalable) -> Option<String> {
        let state = self.state();
        match of {
            Scalable::ScalingGroup(name) => {
                let (id, refresh, _) = state.scaling.get(name)?.refresh.as_ref()?;
                (*refresh == RefreshState::Running).then(|| format!("the instance refresh {id} goes on"))
            }
            Scalable::Service(arn) => {
                let (id, _, _, rollout) = state.services.get(arn)?.deployments.first()?;
                (*rollout == Rollout::InProgress).then(|| format!("the deployment {id} goes on"))
            }
        }
    }
}

/// What somebody else can change about a scaling group.
pub(crate) struct Meddled<'m> {
    pub settings: &'m mut Instances,
    pub template: &'m mut (String, String),
    pub members: &'m mut Vec<(SeenInstance, Instant)>,
}

impl State {
    fn id(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}-{:04}", self.made)
    }

    fn tags_mut(&mut self, id: &str) -> Option<&mut Tags> {
        if let Some(group) = self.groups.get_mut(id) {
            return Some(&mut group.tags);
        }
        if let Some(group) = self.security.get_mut(id) {
            return Some(&mut group.tags);
        }
        if let Some(template) = self.templates.get_mut(id) {
            return Some(&mut template.tags);
        }
        if let Some(group) = self.scaling.get_mut(id) {
            return Some(&mut group.tags);
        }
        self.services.get_mut(id).map(|service| &mut service.tags)
    }

    fn set_tags(&mut self, id: &str, set: &Tags, away: &[String]) -> Result<(), PortError> {
        let tags = self.tags_mut(id).ok_or_else(|| gone(id))?;
        tags.retain(|key, _| !away.contains(key));
        tags.extend(set.clone());
        Ok(())
    }

    /// The number of a version that is named.
    fn number(&self, (id, version): &(String, String)) -> String {
        let newest = self.templates.get(id).map_or(0, |template| template.versions.len());
        if version.starts_with('$') { newest.to_string() } else { version.clone() }
    }

    /// Time has passed.
    fn tick(&mut self, now: Instant) {
        let names: Vec<String> = self.scaling.keys().cloned().collect();
        for name in names {
            self.tick_group(&name, now);
        }
        for running in self.services.values_mut() {
            let broken = |revision: &String| {
                self.revisions.get(revision).is_some_and(|it| it.definition.text().contains("broken"))
            };
            let Some((_, revision, since, state)) = running.deployments.first_mut() else { continue };
            if *state == Rollout::InProgress && now.saturating_duration_since(*since) >= BOOT && !broken(revision) {
                *state = Rollout::Completed;
                running.deployments.truncate(1);
            }
        }
    }

    fn tick_group(&mut self, name: &str, now: Instant) {
        let Some(group) = self.scaling.get(name).cloned() else { return };
        let Scaling { settings, mut template, mut members, mut refresh, mut desired, .. } = group;
        let wanted = usize::try_from(settings.desired_capacity.unwrap_or(settings.min_size)).unwrap_or(0);
        let version = (template.0.clone(), self.number(&template));
        let can_launch = self.templates.contains_key(&template.0);
        // A refresh replaces one instance after the other, as long as each takes to boot.
        if let Some((_, state, since)) = &mut refresh
            && *state == RefreshState::Running
        {
            let version = match &desired {
                Some(desired) => (desired.0.clone(), self.number(desired)),
                None => version.clone(),
            };
            while now.saturating_duration_since(*since) >= BOOT {
                let Some((old, at)) = members.iter_mut().find(|(it, _)| it.template.as_ref() != Some(&version)) else {
                    *state = RefreshState::Done;
                    break;
                };
                *since += BOOT;
                *old = SeenInstance { template: Some(version.clone()), ..self.instance() };
                *at = *since;
            }
            if now >= *since && members.iter().all(|(it, _)| it.template.as_ref() == Some(&version)) {
                *state = RefreshState::Done;
            }
            if *state == RefreshState::Done
                && let Some(desired) = desired.take()
            {
                template = desired;
            }
        }
        while members.len() > wanted {
            members.remove(0);
        }
        while members.len() < wanted && can_launch {
            members.push((SeenInstance { template: Some(version.clone()), ..self.instance() }, now));
        }
        for (member, since) in &mut members {
            let booted = member.state == "Pending" && now.saturating_duration_since(*since) >= BOOT;
            if booted {
                "InService".clone_into(&mut member.state);
            }
        }
        if let Some(group) = self.scaling.get_mut(name) {
            (group.members, group.refresh) = (members, refresh);
            (group.template, group.desired) = (template, desired);
        }
    }

    /// What a service is now is what the next reads show of it.
    fn fall_behind(&mut self, arn: &str) {
        if let Some(now) = self.services.get(arn).filter(|_| self.lag > 0) {
            self.behind.insert(arn.to_owned(), (self.lag, now.clone()));
        }
    }

    fn instance(&mut self) -> SeenInstance {
        SeenInstance { id: self.id("i"), state: "Pending".to_owned(), healthy: true, ..SeenInstance::default() }
    }
}

#[async_trait]
impl TargetGroups for Cloud {
    async fn find(&self, arn: &str) -> Result<Option<SeenGroup>, PortError> {
        if self.is_hidden(arn) {
            return Ok(None);
        }
        let leads = self.routes.world().routes.values().any(|seen| seen.terminal.mentions(arn));
        let state = self.state();
        let mute = state.mute;
        Ok(state.groups.get(arn).map(|group| SeenGroup {
            arn: arn.to_owned(),
            name: group.name.clone(),
            vpc_id: group.vpc.clone(),
            load_balancers: (leads && !mute).then(|| "lb".to_owned()).into_iter().collect(),
            group: group.group.clone(),
        }))
    }

    async fn named(&self, name: &str) -> Result<Option<SeenGroup>, PortError> {
        if let Some(left) = self.state().lingering.get_mut(name).filter(|left| **left > 0) {
            *left -= 1;
            let arn = format!("arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/{name}/gone");
            return Ok(Some(SeenGroup {
                arn,
                name: name.to_owned(),
                vpc_id: None,
                load_balancers: Vec::new(),
                group: TargetGroup::default(),
            }));
        }
        let arn = self.state().groups.iter().find(|(_, group)| group.name == name).map(|(arn, _)| arn.clone());
        match arn {
            Some(arn) => TargetGroups::find(self, &arn).await,
            None => Ok(None),
        }
    }

    async fn attributes(&self, _: &mut SeenGroup) -> Result<(), PortError> {
        Ok(())
    }

    async fn tags(&self, arn: &str) -> Result<Tags, PortError> {
        Ok(self.tags_of(arn))
    }

    async fn create(
        &self,
        name: &str,
        group: &TargetGroup,
        vpc_id: Option<&str>,
        tags: &Tags,
    ) -> Result<String, PortError> {
        let (vpc, group, tags) = (vpc_id.map(str::to_owned), group.clone(), tags.clone());
        let name = name.to_owned();
        self.change(format!("create target group {name}"), None, move |state| {
            if state.groups.values().any(|other| other.name == name) {
                return Err(conflict("DuplicateTargetGroupName"));
            }
            let id = state.id("tg");
            let arn = format!("arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/{name}/{id}");
            let group = Group { name: name.to_owned(), vpc, group, tags, targets: Vec::new() };
            state.groups.insert(arn.clone(), group);
            Ok(arn)
        })
        .await
    }

    async fn set_health_check(&self, arn: &str, group: &TargetGroup) -> Result<(), PortError> {
        let (arn, group) = (arn.to_owned(), group.clone());
        self.change(format!("health check {arn}"), Some(arn.to_owned()), move |state| {
            let own = state.groups.get_mut(&arn).ok_or_else(|| gone(&arn))?;
            own.group.health_check.clone_from(&group.health_check);
            Ok(())
        })
        .await
    }

    async fn set_attributes(&self, arn: &str, group: &TargetGroup, before: &TargetGroup) -> Result<(), PortError> {
        if group == before {
            return Ok(());
        }
        // As AWS does: an action with several groups keeps clients at a group where one of them keeps them at a target.
        let is_open = |terminal: &Terminal| match terminal {
            Terminal::Forward(forward) => forward.groups.len() > 1 && !forward.is_sticky() && terminal.mentions(arn),
            _ => false,
        };
        if group.keeps_clients() && self.routes.world().routes.values().any(|seen| is_open(&seen.terminal)) {
            return Err(PortError::new(FailureKind::Other, "You must enable group stickiness on a rule"));
        }
        let (arn, group) = (arn.to_owned(), group.clone());
        self.change(format!("attributes {arn}"), Some(arn.to_owned()), move |state| {
            let own = state.groups.get_mut(&arn).ok_or_else(|| gone(&arn))?;
            let check = own.group.health_check.clone();
            own.group = TargetGroup { health_check: check, ..group.clone() };
            Ok(())
        })
        .await
    }

    async fn set_tags(&self, arn: &str, set: &Tags, away: &[String]) -> Result<(), PortError> {
        if set.is_empty() && away.is_empty() {
            return Ok(());
        }
        let (arn, set, away) = (arn.to_owned(), set.clone(), away.to_vec());
        self.change(format!("tags {arn}"), None, move |state| state.set_tags(&arn, &set, &away)).await
    }

    async fn register(&self, arn: &str, targets: &[Target]) -> Result<(), PortError> {
        let (arn, targets) = (arn.to_owned(), targets.to_vec());
        self.change(format!("register {arn}"), Some(arn.to_owned()), move |state| {
            let group = state.groups.get_mut(&arn).ok_or_else(|| gone(&arn))?;
            group.targets.extend(targets.iter().cloned());
            Ok(())
        })
        .await
    }

    async fn deregister(&self, arn: &str, targets: &[Target]) -> Result<(), PortError> {
        let (arn, targets) = (arn.to_owned(), targets.to_vec());
        self.change(format!("deregister {arn}"), Some(arn.to_owned()), move |state| {
            if let Some(group) = state.groups.get_mut(&arn) {
                group.targets.retain(|target| !targets.contains(target));
            }
            Ok(())
        })
        .await
    }

    async fn targets(&self, arn: &str) -> Result<Vec<Target>, PortError> {
        Ok(self.state().groups.get(arn).map(|group| group.targets.clone()).unwrap_or_default())
    }

    async fn delete(&self, arn: &str) -> Result<(), PortError> {
        let (arn, routes) = (arn.to_owned(), self.routes.clone());
        self.change(format!("delete {arn}"), Some(arn.to_owned()), move |state| {
            if routes.world().routes.values().any(|seen| seen.terminal.mentions(&arn)) {
                return Err(conflict("ResourceInUse"));
            }
            if state.groups.remove(&arn).is_some() {
                routes.delete_group(&arn);
            }
            Ok(())
        })
        .await
    }
}

#[derive(Debug)]
struct Ec2(Arc<Cloud>);

#[async_trait]
impl SecurityGroups for Ec2 {
    async fn find(&self, id: &str) -> Result<Option<SeenSecurityGroup>, PortError> {
        if self.0.is_hidden(id) {
            return Ok(None);
        }
        let state = self.0.state();
        let seen = |group: &Security| SeenSecurityGroup {
            id: id.to_owned(),
            rules: group.rules.clone(),
            tags: group.tags.clone(),
        };
        Ok(state.security.get(id).map(seen))
    }

    async fn named(&self, name: &str, vpc_id: &str) -> Result<Option<SeenSecurityGroup>, PortError> {
        let of = |(_, group): &(&String, &Security)| group.name == name && group.vpc == vpc_id;
        let id = self.0.state().security.iter().find(of).map(|(id, _)| id.clone());
        match id {
            Some(id) => SecurityGroups::find(self, &id).await,
            None => Ok(None),
        }
    }

    async fn create(&self, name: &str, _: &str, vpc_id: &str, tags: &Tags) -> Result<String, PortError> {
        let everything = Rule {
            direction: RuleDirection::Egress,
            protocol: "-1".to_owned(),
            from_port: -1,
            to_port: -1,
            peer: Peer::V4("0.0.0.0/0".to_owned()),
        };
        let rules = Rules::from([(everything, None)]);
        let group = Security { name: name.to_owned(), vpc: vpc_id.to_owned(), rules, tags: tags.clone() };
        let name = name.to_owned();
        self.0
            .change(format!("create security group {name}"), None, move |state| {
                if state.security.values().any(|other| other.name == name) {
                    return Err(conflict("InvalidGroup.Duplicate"));
                }
                let id = state.id("sg");
                state.security.insert(id.clone(), group);
                Ok(id)
            })
            .await
    }

    async fn set_rules(&self, id: &str, _: &Rules, after: &Rules) -> Result<(), PortError> {
        let group = self.0.group_of_thing(id);
        let (id, after) = (id.to_owned(), after.clone());
        self.0
            .change(format!("rules {id}"), group, move |state| {
                state.security.get_mut(&id).ok_or_else(|| gone(&id))?.rules.clone_from(&after);
                Ok(())
            })
            .await
    }

    async fn delete(&self, id: &str) -> Result<(), PortError> {
        let name = self.0.state().security.get(id).map(|group| group.name.clone()).unwrap_or_default();
        let group = self.0.group_of_thing(id);
        let id = id.to_owned();
        self.0
            .change(format!("delete {id}"), group, move |state| {
                if state.scaling.contains_key(&name) {
                    return Err(conflict("DependencyViolation"));
                }
                state.security.remove(&id);
                Ok(())
            })
            .await
    }

    async fn set_tags(&self, id: &str, set: &Tags, away: &[String]) -> Result<(), PortError> {
        if set.is_empty() && away.is_empty() {
            return Ok(());
        }
        let (id, set, away) = (id.to_owned(), set.clone(), away.to_vec());
        self.0.change(format!("tags {id}"), None, move |state| state.set_tags(&id, &set, &away)).await
    }
}

/// The template's part of instances.
fn template_part(instances: &Instances) -> Instances {
    Instances {
        image_id: instances.image_id.clone(),
        instance_type: instances.instance_type.clone(),
        user_data: instances.user_data.clone(),
        user_data_base64: instances.user_data_base64.clone(),
        key_name: instances.key_name.clone(),
        iam_instance_profile: instances.iam_instance_profile.clone(),
        associate_public_ip_address: instances.associate_public_ip_address,
        ebs_optimized: instances.ebs_optimized,
        monitoring: instances.monitoring,
        metadata_options: instances.metadata_options.clone(),
        block_devices: instances.block_devices.clone(),
        security_group_ids: instances.security_group_ids.clone(),
        ..Instances::default()
    }
}

#[async_trait]
impl LaunchTemplates for Ec2 {
    async fn find(&self, id: &str) -> Result<Option<SeenTemplate>, PortError> {
        if self.0.is_hidden(id) {
            return Ok(None);
        }
        let state = self.0.state();
        Ok(state.templates.get(id).map(|template| SeenTemplate {
            id: id.to_owned(),
            latest_version: i64::try_from(template.versions.len()).unwrap_or(0),
            tags: template.tags.clone(),
        }))
    }

    async fn named(&self, name: &str) -> Result<Option<SeenTemplate>, PortError> {
        let id = self.0.state().templates.iter().find(|(_, it)| it.name == name).map(|(id, _)| id.clone());
        match id {
            Some(id) => LaunchTemplates::find(self, &id).await,
            None => Ok(None),
        }
    }

    async fn create(&self, name: &str, tags: &Tags, of: VersionOf<'_>) -> Result<String, PortError> {
        let versions = vec![(template_part(of.instances), of.tags.clone())];
        let tags = tags.clone();
        let name = name.to_owned();
        self.0
            .change(format!("create launch template {name}"), None, move |state| {
                if state.templates.values().any(|other| other.name == name) {
                    return Err(conflict("InvalidLaunchTemplateName.AlreadyExistsException"));
                }
                let id = state.id("lt");
                state.templates.insert(id.clone(), Template { name: name.to_owned(), tags, versions });
                Ok(id)
            })
            .await
    }

    async fn add_version(&self, id: &str, of: VersionOf<'_>) -> Result<i64, PortError> {
        let (instances, own, gone_tags) = (template_part(of.instances), of.tags.clone(), of.gone.to_vec());
        let (id, former) = (id.to_owned(), of.former.map(str::to_owned));
        self.0
            .change(format!("add version {id}"), None, move |state| {
                let former = former.map(|former| state.number(&(id.clone(), former)));
                let template = state.templates.get_mut(&id).ok_or_else(|| gone(&id))?;
                let former = former.and_then(|number| number.parse::<usize>().ok()?.checked_sub(1));
                // Tags of others stay.
                let mut tags =
                    former.and_then(|at| template.versions.get(at)).map(|it| it.1.clone()).unwrap_or_default();
                tags.retain(|key, _| !gone_tags.contains(key));
                tags.extend(own);
                template.versions.push((instances, tags));
                Ok(i64::try_from(template.versions.len()).unwrap_or(0))
            })
            .await
    }

    async fn version(&self, id: &str, version: &str, _: Option<&str>) -> Result<Option<SeenVersion>, PortError> {
        let state = self.0.state();
        let number = state.number(&(id.to_owned(), version.to_owned()));
        let Some(template) = state.templates.get(id) else { return Ok(None) };
        let found = number.parse::<usize>().ok().and_then(|number| template.versions.get(number.checked_sub(1)?));
        let number = number.parse().unwrap_or(0);
        Ok(found.map(|(instances, tags)| SeenVersion {
            number,
            instances: instances.clone(),
            tags: tags.clone(),
            unfit: None,
        }))
    }

    async fn delete(&self, id: &str) -> Result<(), PortError> {
        let group = self.0.group_of_thing(id);
        let id = id.to_owned();
        self.0
            .change(format!("delete {id}"), group, move |state| {
                state.templates.remove(&id);
                Ok(())
            })
            .await
    }

    async fn set_tags(&self, id: &str, set: &Tags, away: &[String]) -> Result<(), PortError> {
        SecurityGroups::set_tags(self, id, set, away).await
    }
}

#[derive(Debug)]
struct Asg(Arc<Cloud>);

impl Asg {
    async fn of_group(
        &self,
        what: String,
        name: &str,
        effect: impl FnOnce(&mut Scaling) -> Result<(), PortError> + Clone + Send + 'static,
    ) -> Result<(), PortError> {
        let group = self.0.group_of(name);
        let name = name.to_owned();
        self.0.change(what, group, move |state| effect(state.scaling.get_mut(&name).ok_or_else(|| gone(&name))?)).await
    }
}

#[async_trait]
impl ScalingGroups for Asg {
    async fn find(&self, name: &str) -> Result<Option<SeenScalingGroup>, PortError> {
        if self.0.is_hidden(name) {
            return Ok(None);
        }
        let state = self.0.state();
        Ok(state.scaling.get(name).map(|group| {
            let pinned = group.tags.get(PINNED).and_then(|text| text.parse().ok());
            let min_now = group.settings.min_size;
            let mut instances = group.settings.clone();
            instances.min_size = pinned.unwrap_or(min_now);
            SeenScalingGroup {
                name: name.to_owned(),
                instances,
                template: Some(group.template.clone()),
                target_groups: group.groups.clone(),
                tags: group.tags.clone(),
                members: group.members.iter().map(|(member, _)| member.clone()).collect(),
                deleting: false,
                pinned,
                min_now,
                unfit: state.unfit.get(name).cloned(),
            }
        }))
    }

    async fn create(
        &self,
        name: &str,
        instances: &Instances,
        template: (&str, i64),
        target_group: &str,
        tags: &Tags,
    ) -> Result<(), PortError> {
        let mut settings = Instances {
            subnet_ids: instances.subnet_ids.clone(),
            min_size: instances.min_size,
            max_size: instances.max_size,
            desired_capacity: Some(instances.desired_capacity.unwrap_or(instances.min_size)),
            ..Instances::default()
        };
        settings.take_group(instances);
        let group = Scaling {
            settings,
            template: (template.0.to_owned(), template.1.to_string()),
            groups: vec![target_group.to_owned()],
            tags: tags.clone(),
            members: Vec::new(),
            refresh: None,
            desired: None,
        };
        let name = name.to_owned();
        self.0
            .change(format!("create scaling group {name}"), None, move |state| {
                if state.scaling.contains_key(&name) {
                    return Err(conflict("AlreadyExists"));
                }
                state.scaling.insert(name.to_owned(), group);
                Ok(())
            })
            .await
    }

    async fn update(&self, name: &str, instances: &Instances) -> Result<(), PortError> {
        let instances = instances.clone();
        self.of_group(format!("update {name}"), name, move |group| {
            group.settings.take_group(&instances);
            Ok(())
        })
        .await
    }

    async fn set_template(&self, name: &str, instances: &Instances, template: (&str, &str)) -> Result<(), PortError> {
        let template = (template.0.to_owned(), template.1.to_owned());
        let policy = instances.mixed_instances_policy.clone();
        self.of_group(format!("template {name} {}", template.1), name, move |group| {
            group.template = template;
            group.settings.mixed_instances_policy = policy;
            Ok(())
        })
        .await
    }

    async fn resize(
        &self,
        name: &str,
        min: Option<i32>,
        max: Option<i32>,
        desired: Option<i32>,
    ) -> Result<(), PortError> {
        self.of_group(format!("resize {name} {min:?} {max:?} {desired:?}"), name, move |group| {
            let settings = &mut group.settings;
            settings.min_size = min.unwrap_or(settings.min_size);
            settings.max_size = max.unwrap_or(settings.max_size);
            let desired = desired.or(settings.desired_capacity).unwrap_or_default();
            // Auto Scaling keeps what there is to be between the two.
            settings.desired_capacity = Some(desired.clamp(settings.min_size, settings.max_size));
            Ok(())
        })
        .await
    }

    async fn note_minimum(&self, name: &str, min: i32) -> Result<(), PortError> {
        self.of_group(format!("note minimum {name} {min}"), name, move |group| {
            group.tags.insert(PINNED.to_owned(), min.to_string());
            Ok(())
        })
        .await
    }

    async fn attach(&self, name: &str, target_group: &str, others: &[String]) -> Result<(), PortError> {
        let (target_group, others) = (target_group.to_owned(), others.to_vec());
        self.of_group(format!("attach {name}"), name, move |group| {
            group.groups.retain(|own| !others.contains(own) && *own != target_group);
            group.groups.push(target_group);
            Ok(())
        })
        .await
    }

    async fn detach(&self, name: &str, target_group: &str) -> Result<(), PortError> {
        let target_group = target_group.to_owned();
        self.of_group(format!("detach {name}"), name, move |group| {
            group.groups.retain(|own| *own != target_group);
            Ok(())
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        let group = self.0.group_of(name);
        let name = name.to_owned();
        self.0
            .change(format!("delete {name}"), group, move |state| {
                state.scaling.remove(&name);
                Ok(())
            })
            .await
    }

    async fn set_tags(&self, name: &str, set: &Tags, away: &[String]) -> Result<(), PortError> {
        if set.is_empty() && away.is_empty() {
            return Ok(());
        }
        let (name, set, away) = (name.to_owned(), set.clone(), away.to_vec());
        self.0.change(format!("tags {name}"), None, move |state| state.set_tags(&name, &set, &away)).await
    }

    async fn start_refresh(&self, name: &str, of: RefreshOf<'_>) -> Result<String, PortError> {
        let desired = of.desired.map(|(id, version)| (id.to_owned(), version.to_owned()));
        let group = self.0.group_of(name);
        let name = name.to_owned();
        self.0
            .change(format!("refresh {name}"), group, move |state| {
                let id = state.id("refresh");
                let group = state.scaling.get_mut(&name).ok_or_else(|| gone(&name))?;
                if group.refresh.as_ref().is_some_and(|(_, it, _)| *it == RefreshState::Running) {
                    return Err(conflict("InstanceRefreshInProgress"));
                }
                group.refresh = Some((id.clone(), RefreshState::Running, Instant::now()));
                group.desired = desired;
                Ok(id)
            })
            .await
    }

    async fn refresh(&self, name: &str, _: Option<&str>) -> Result<Option<Refresh>, PortError> {
        let state = self.0.state();
        let refresh = state.scaling.get(name).and_then(|group| group.refresh.clone());
        Ok(refresh.map(|(id, state, _)| Refresh { id, state, percent: 0, reason: None }))
    }

    async fn roll_back_refresh(&self, name: &str) -> Result<(), PortError> {
        self.of_group(format!("roll back {name}"), name, move |group| {
            if let Some((_, state, _)) = group.refresh.as_mut().filter(|(_, it, _)| *it == RefreshState::Running) {
                *state = RefreshState::Ended("RollbackSuccessful".to_owned());
                group.desired = None;
                let template = group.template.clone();
                group.members.iter_mut().for_each(|(member, _)| member.template = Some(template.clone()));
            }
            Ok(())
        })
        .await
    }

    async fn cancel_refresh(&self, name: &str) -> Result<(), PortError> {
        self.of_group(format!("cancel {name}"), name, move |group| {
            if let Some((_, state, _)) = group.refresh.as_mut().filter(|(_, it, _)| *it == RefreshState::Running) {
                *state = RefreshState::Ended("Cancelled".to_owned());
            }
            Ok(())
        })
        .await
    }

    async fn failures(&self, _: &str) -> Result<Vec<(String, PortError)>, PortError> {
        Ok(Vec::new())
    }
}

#[derive(Debug)]
struct Containers(Arc<Cloud>);

fn service_arn(cluster: &str, name: &str) -> String {
    let (cluster, name) = (cluster.rsplit('/').next().unwrap_or(cluster), name.rsplit('/').next().unwrap_or(name));
    format!("arn:aws:ecs:eu-central-1:123456789012:service/{cluster}/{name}")
}

#[async_trait]
impl Ecs for Containers {
    async fn find(&self, cluster: &str, service: &str) -> Result<Option<SeenService>, PortError> {
        let arn = service_arn(cluster, service);
        if self.0.is_hidden(&arn) {
            return Ok(None);
        }
        let mut state = self.0.state();
        let old = state.behind.get_mut(&arn).filter(|(left, _)| *left > 0).map(|(left, old)| {
            *left -= 1;
            old.clone()
        });
        let unfit = state.unfit.get(service.rsplit('/').next().unwrap_or(service)).cloned();
        let Some(running) = old.as_ref().or_else(|| state.services.get(&arn)) else { return Ok(None) };
        let now = Instant::now();
        let desired = running.service.desired_count.unwrap_or_default();
        let deployment = |(n, (id, revision, since, rollout)): (usize, &(String, String, Instant, Rollout))| {
            let done = *rollout == Rollout::Completed;
            let failed = if done { 0 } else { (now - *since).as_secs() / 60 };
            let failed = i32::try_from(failed).unwrap_or(0);
            let counts = if n == 0 { (desired, if done { desired } else { 0 }, failed) } else { (0, 0, 0) };
            Deployment {
                id: id.clone(),
                primary: n == 0,
                task_definition: revision.clone(),
                state: *rollout,
                is_reported: true,
                reason: None,
                counts,
            }
        };
        Ok(Some(SeenService {
            arn,
            service: running.service.clone(),
            target_groups: running.groups.clone(),
            containers: BTreeMap::new(),
            unfit,
            tags: running.tags.clone(),
            running: desired,
            draining: false,
            deployments: running.deployments.iter().enumerate().map(deployment).collect(),
            events: Vec::new(),
        }))
    }

    async fn register(&self, definition: &TaskDefinition, tags: &Tags) -> Result<String, PortError> {
        let (definition, tags) = (definition.clone(), tags.clone());
        self.0
            .change(format!("register {}", definition.family()), None, move |state| {
                let prefix = format!("arn:aws:ecs:eu-central-1:123456789012:task-definition/{}:", definition.family());
                let number = state.revisions.keys().filter(|arn| arn.starts_with(&prefix)).count() + 1;
                let arn = format!("{prefix}{number}");
                state.revisions.insert(arn.clone(), Revision { definition, tags, active: true });
                Ok(arn)
            })
            .await
    }

    async fn revisions(&self, family: &str, tag: (&str, &str)) -> Result<Vec<(String, Tags)>, PortError> {
        let state = self.0.state();
        let of = |(arn, revision): &(&String, &Revision)| {
            revision.active
                && arn.contains(&format!("/{family}:"))
                && revision.tags.get(tag.0).map(String::as_str) == Some(tag.1)
        };
        let found = state.revisions.iter().filter(of).map(|(arn, revision)| (arn.clone(), revision.tags.clone()));
        let mut found: Vec<(String, Tags)> = found.collect();
        found.reverse();
        Ok(found)
    }

    async fn revision_tags(&self, arn: &str) -> Result<Tags, PortError> {
        Ok(self.0.state().revisions.get(arn).map(|revision| revision.tags.clone()).unwrap_or_default())
    }

    async fn revisions_of_others(&self, cluster: &str, service: Option<&str>) -> Result<Vec<String>, PortError> {
        let state = self.0.state();
        let in_cluster = format!(":service/{}/", cluster.rsplit('/').next().unwrap_or(cluster));
        let others =
            state.services.iter().filter(|(arn, _)| arn.contains(&in_cluster) && Some(arn.as_str()) != service);
        Ok(others.filter_map(|(_, running)| running.service.task_definition_arn.clone()).collect())
    }

    async fn deregister(&self, arn: &str) -> Result<(), PortError> {
        let arn = arn.to_owned();
        self.0
            .change(format!("deregister {}", crate::rollout::short(&arn)), None, move |state| {
                if let Some(revision) = state.revisions.get_mut(&arn) {
                    revision.active = false;
                }
                Ok(())
            })
            .await
    }

    async fn create(&self, name: &str, of: Deploy<'_>, tags: &Tags) -> Result<String, PortError> {
        let arn = service_arn(&of.service.cluster, name);
        let service = deployed(of, of.service.desired_count.unwrap_or(1));
        let running = (of.target_group.to_owned(), tags.clone(), of.task_definition.to_owned());
        self.0
            .change(format!("create service {name}"), None, move |state| {
                let (group, tags, revision) = running;
                let deployments = vec![(state.id("ecs-svc"), revision, Instant::now(), Rollout::InProgress)];
                state.services.insert(arn.clone(), Running { service, groups: vec![group], tags, deployments });
                Ok(arn)
            })
            .await
    }

    async fn update(&self, arn: &str, service: &Service) -> Result<(), PortError> {
        let group = self.0.group_of_service(arn);
        let (arn, service) = (arn.to_owned(), service.clone());
        self.0
            .change(format!("update service {arn}"), group, move |state| {
                let running = state.services.get_mut(&arn).ok_or_else(|| gone(&arn))?;
                running.service.circuit_breaker.clone_from(&service.circuit_breaker);
                running.service.health_check_grace_period = service.health_check_grace_period;
                running.service.minimum_healthy_percent = service.minimum_healthy_percent;
                running.service.maximum_percent = service.maximum_percent;
                Ok(())
            })
            .await
    }

    async fn deploy(&self, arn: &str, of: Deploy<'_>) -> Result<Option<String>, PortError> {
        let group = self.0.group_of_service(arn);
        let (arn, new, target_group) = (arn.to_owned(), of.task_definition.to_owned(), of.target_group.to_owned());
        let (short, service) = (crate::rollout::short(&new), deployed(of, 0));
        self.0
            .change(format!("deploy {short}"), group, move |state| {
                let id = state.id("ecs-svc");
                state.fall_behind(&arn);
                let running = state.services.get_mut(&arn).ok_or_else(|| gone(&arn))?;
                running.service = Service { desired_count: running.service.desired_count, ..service };
                running.groups = vec![target_group];
                running.deployments.insert(0, (id.clone(), new, Instant::now(), Rollout::InProgress));
                Ok(Some(id))
            })
            .await
    }

    async fn scale(&self, _: &str, arn: &str, count: i32) -> Result<(), PortError> {
        let group = self.0.group_of_service(arn);
        let arn = arn.to_owned();
        self.0
            .change(format!("scale {arn} {count}"), group, move |state| {
                state.fall_behind(&arn);
                state.services.get_mut(&arn).ok_or_else(|| gone(&arn))?.service.desired_count = Some(count);
                Ok(())
            })
            .await
    }

    async fn delete(&self, _: &str, arn: &str) -> Result<(), PortError> {
        let group = self.0.group_of_service(arn);
        let arn = arn.to_owned();
        self.0
            .change(format!("delete {arn}"), group, move |state| {
                state.services.remove(&arn);
                Ok(())
            })
            .await
    }

    async fn set_tags(&self, arn: &str, set: &Tags, away: &[String]) -> Result<(), PortError> {
        if set.is_empty() && away.is_empty() {
            return Ok(());
        }
        let (arn, set, away) = (arn.to_owned(), set.clone(), away.to_vec());
        self.0.change(format!("tags {arn}"), None, move |state| state.set_tags(&arn, &set, &away)).await
    }

    async fn stopped_tasks(&self, _: &str, _: &str, _: Option<&str>) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }
}

fn deployed(of: Deploy<'_>, count: i32) -> Service {
    Service {
        task_definition: None,
        image: None,
        keep_revisions: None,
        running: None,
        task_definition_arn: Some(of.task_definition.to_owned()),
        container_name: Some(of.container.to_owned()),
        desired_count: Some(count),
        ..of.service.clone()
    }
}
