//! Carries out the changes of a stack, one after the other, and notes after each what is there.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::look::Seen;
use super::model::Ids;
use super::{Shared, interlock};
use crate::aws::{RefreshState, Rollout, Rules, SeenService, VersionOf};
use crate::resource::duration;
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::stack::{self, Change, Instances, Part, Service, Spec, TAG, TaskDefinition};
use crate::tf_provider::Cancel;

/// How often things that take minutes are looked at. They are quick at first, where tests and small changes end.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A stack as it is being made.
pub(super) struct Build<'a> {
    pub shared: &'a Shared,
    /// The wish, settled.
    pub spec: &'a Spec,
    pub tags: &'a BTreeMap<String, String>,
    pub seen: &'a Seen,
    /// Whether the colour serves users.
    pub live: bool,
    pub ids: Ids,
    pub deadline: Instant,
    pub cancel: &'a Cancel,
    /// Whether the launch template was made in this run, and says already what is wished.
    pub fresh_template: bool,
    /// Scaling activities that had failed before this run, once they were asked for: they are nobody's reason now.
    pub former_failures: Option<Vec<String>>,
}

fn failed(message: impl Into<String>) -> PortError {
    PortError::new(FailureKind::Other, message)
}

/// Pauses that grow.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Pauses {
        Pauses(FIRST_PAUSE)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 3 / 2).min(LONGEST_PAUSE);
        pause
    }
}

impl Build<'_> {
    fn name(&self) -> String {
        stack::name(&self.spec.name, &self.spec.color)
    }

    fn instances(&self) -> Result<&Instances, PortError> {
        self.spec.instances.as_ref().ok_or_else(|| failed("there are no instances in the configuration"))
    }

    fn service(&self) -> Result<&Service, PortError> {
        self.spec.service.as_ref().ok_or_else(|| failed("there is no service in the configuration"))
    }

    /// The id of something that must be there by now.
    fn need<'i>(id: &'i Option<String>, what: &str) -> Result<&'i str, PortError> {
        id.as_deref().ok_or_else(|| failed(format!("there is no {what}")))
    }

    /// Waits a little; an error when the time is over or Terraform was asked to stop.
    async fn pause(&self, pauses: &mut Pauses, what: &str) -> Result<(), PortError> {
        if Instant::now() >= self.deadline {
            return Err(failed(format!("the operation's time ended while {what}")));
        }
        tokio::select! {
            () = sleep(pauses.next()) => Ok(()),
            () = self.cancel.cancelled() => Err(failed(format!("interrupted while {what}"))),
        }
    }

    /// Lets the load balancer know the group, or forget that it was told of it.
    pub async fn make_known(&self, formerly: bool) -> Result<(), PortError> {
        let listener = self.spec.listener_arn.as_deref();
        match &self.ids.target_group {
            Some(group) if listener.is_some() || formerly => {
                interlock::make_known(self.shared, group, (&self.name(), listener), self.tags).await
            }
            _ => Ok(()),
        }
    }

    /// Carries out one change.
    pub async fn carry_out(&mut self, change: &Change) -> Result<(), PortError> {
        if self.cancel.is_cancelled() {
            return Err(failed("interrupted"));
        }
        tracing::info!(?change, "begins");
        if let (Some(name), None) = (&self.ids.scaling_group, &self.former_failures) {
            let failures = self.shared.services.autoscaling.failures(name).await?;
            self.former_failures = Some(failures.into_iter().map(|(id, _)| id).collect());
        }
        match change {
            Change::Create(part) => self.create(*part).await,
            Change::TargetGroup(what) => self.modify_target_group(what).await,
            Change::Rules(..) => {
                let after = stack::rules(self.instances()?);
                let before = self.seen.security_group.as_ref().map(|group| group.rules.clone()).unwrap_or_default();
                let id = Self::need(&self.ids.security_group, "security group")?;
                self.shared.services.ec2.set_rules(id, &before, &after).await
            }
            Change::Version => self.add_version().await.map(drop),
            Change::Roll(_) => self.roll().await,
            Change::ScalingGroup(..) => {
                let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?;
                self.shared.services.autoscaling.update(name, self.instances()?).await
            }
            Change::Resize { min, max, desired } => {
                let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?.to_owned();
                let autoscaling = &self.shared.services.autoscaling;
                autoscaling.resize(&name, Some(min.1), Some(*max), *desired).await?;
                self.wait_in_service(&name).await
            }
            Change::Deploy(_) => self.deploy().await,
            Change::Service(_) => {
                let arn = Self::need(&self.ids.service, "service")?;
                self.shared.services.ecs.update(arn, self.service()?).await
            }
            Change::Scale(count) => {
                let (service, arn) = (self.service()?, Self::need(&self.ids.service, "service")?.to_owned());
                self.shared.services.ecs.scale(&service.cluster, &arn, *count).await?;
                self.wait_stable(&arn, None).await
            }
            Change::Register(targets) => {
                let arn = Self::need(&self.ids.target_group, "target group")?;
                self.shared.services.target_groups.register(arn, targets).await
            }
            Change::Deregister(targets) => {
                let arn = Self::need(&self.ids.target_group, "target group")?;
                self.shared.services.target_groups.deregister(arn, targets).await
            }
        }
    }

    async fn create(&mut self, part: Part) -> Result<(), PortError> {
        let (services, name) = (&self.shared.services, self.name());
        match part {
            Part::TargetGroup => {
                let group = self.spec.target_group.as_ref().ok_or_else(|| failed("there is no target group"))?;
                let vpc = self.spec.vpc_id.as_deref();
                let arn = services.target_groups.create(&name, group, vpc, self.tags).await?;
                self.ids.target_group = Some(arn.clone());
                // What AWS begins with is what a group has that says nothing.
                let usual = stack::TargetGroup {
                    protocol: group.protocol.clone(),
                    target_type: group.target_type.clone(),
                    ..stack::TargetGroup::default()
                };
                let usual = Spec { target_group: Some(usual), ..Spec::default() }.settled().target_group;
                services.target_groups.set_attributes(&arn, group, &usual.unwrap_or_default()).await
            }
            Part::SecurityGroup => {
                let vpc = self.spec.vpc_id.as_deref().ok_or_else(|| failed("vpc_id is missing"))?;
                let text = format!("Instances of {}, {}", self.spec.name, self.spec.color);
                let id = services.ec2.create_security_group(&name, &text, vpc, self.tags).await?;
                self.ids.security_group = Some(id.clone());
                // A read can be earlier than what was just made.
                let mut pauses = Pauses::new();
                let before: Rules = loop {
                    if let Some(seen) = services.ec2.security_group(&id).await? {
                        break seen.rules;
                    }
                    self.pause(&mut pauses, "the security group was not to be seen yet").await?;
                };
                services.ec2.set_rules(&id, &before, &stack::rules(self.instances()?)).await
            }
            Part::LaunchTemplate => {
                let group = Self::need(&self.ids.security_group, "security group")?;
                let of = VersionOf { instances: self.instances()?, security_group: group, tags: self.tags };
                self.ids.template = Some(services.ec2.create_template(&name, of).await?);
                self.ids.template_version = Some(1);
                self.fresh_template = true;
                Ok(())
            }
            Part::ScalingGroup => {
                let group = Self::need(&self.ids.target_group, "target group")?;
                let template = Self::need(&self.ids.template, "launch template")?;
                let template = (template, self.ids.template_version.unwrap_or(1));
                let (instances, tags) = (self.instances()?, self.tags);
                self.patiently(|| services.autoscaling.create(&name, instances, template, group, tags)).await?;
                self.ids.scaling_group = Some(name.clone());
                self.wait_in_service(&name).await
            }
            Part::Service => self.create_service(&name).await,
            Part::Attachment => self.attach().await,
            // They come with their group, and anew by a roll.
            Part::Instances => Ok(()),
        }
    }

    /// Repeats a call while what it refers to, an instance profile or a role, is so new that not every part of AWS knows it.
    async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, PortError>
    where
        F: Future<Output = Result<T, PortError>>,
    {
        let young =
            ["Invalid IAM Instance Profile", "unable to assume the role", "Unable to assume the service linked role"];
        let end = self.deadline.min(Instant::now() + PATIENCE);
        let mut pauses = Pauses::new();
        loop {
            match call().await {
                Err(error) if young.iter().any(|words| error.message.contains(words)) && Instant::now() < end => {
                    tracing::info!(%error, "it may be too new; tries again");
                    self.pause(&mut pauses, "AWS did not know a role yet").await?;
                }
                other => return other,
            }
        }
    }

    async fn modify_target_group(&self, what: &[String]) -> Result<(), PortError> {
        let arn = Self::need(&self.ids.target_group, "target group")?;
        let group = self.spec.target_group.as_ref().ok_or_else(|| failed("there is no target group"))?;
        let before = self.seen.group.as_ref().map(|seen| seen.group.clone()).unwrap_or_default();
        if what.iter().any(|name| name.starts_with("health_check.")) {
            self.shared.services.target_groups.set_health_check(arn, group).await?;
        }
        self.shared.services.target_groups.set_attributes(arn, group, &before).await
    }

    /// A new version of the template.
    async fn add_version(&mut self) -> Result<i64, PortError> {
        let template = Self::need(&self.ids.template, "launch template")?;
        let group = Self::need(&self.ids.security_group, "security group")?;
        let of = VersionOf { instances: self.instances()?, security_group: group, tags: self.tags };
        // One that was made in this run says already what is wished.
        let fresh = self.fresh_template;
        let version = if fresh { 1 } else { self.shared.services.ec2.add_version(template, of).await? };
        self.ids.template_version = Some(version);
        Ok(version)
    }

    /// An error if the colour has got traffic since it was seen to be idle.
    async fn still_idle(&self) -> Result<(), PortError> {
        let Some(group) = self.ids.target_group.as_ref().filter(|_| !self.live && self.spec.is_protected()) else {
            return Ok(());
        };
        let leads = interlock::leads_to(self.shared, group, Freshness::Now).await?;
        match interlock::live_by(&leads) {
            Some(routes) => {
                Err(PortError::new(FailureKind::Conflict, format!("it got traffic meanwhile, by {routes}")))
            }
            None => Ok(()),
        }
    }

    /// A new version of the template, and instances made of it.
    async fn roll(&mut self) -> Result<(), PortError> {
        let version = self.add_version().await?;
        let services = &self.shared.services;
        let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?.to_owned();
        let template = Self::need(&self.ids.template, "launch template")?.to_owned();
        services.autoscaling.set_template(&name, (&template, version)).await?;
        let refresh = self.instances()?.instance_refresh.clone().unwrap_or_default();
        let (min, max) = if self.live { (100, 110) } else { (0, 100) };
        // AWS allows no more than 100 between them.
        let healthy = match (refresh.min_healthy_percentage, refresh.max_healthy_percentage) {
            (Some(min), Some(max)) => (min, max),
            (Some(own), None) => (own, max.min(own + 100)),
            (None, Some(own)) => (min.max(own - 100), own),
            (None, None) => (min, max),
        };
        let (mut pauses, mut cancelled) = (Pauses::new(), false);
        self.still_idle().await?;
        let started = loop {
            match services.autoscaling.start_refresh(&name, healthy, refresh.instance_warmup).await {
                // One of a run that was killed: it makes instances of a version that nobody wants any more.
                Err(error) if error.kind == FailureKind::Conflict => {
                    if !std::mem::replace(&mut cancelled, true) {
                        services.autoscaling.cancel_refresh(&name).await?;
                    }
                    self.pause(&mut pauses, "a former instance refresh was being cancelled").await?;
                }
                other => break other?,
            }
        };
        let limit = refresh.timeout.as_deref().and_then(|text| duration::parse(text).ok());
        let end = limit.map_or(self.deadline, |limit| self.deadline.min(Instant::now() + limit));
        self.follow_refresh(&name, &started, end).await?;
        self.wait_in_service(&name).await
    }

    async fn follow_refresh(&self, name: &str, id: &str, end: Instant) -> Result<(), PortError> {
        let autoscaling = &self.shared.services.autoscaling;
        let mut pauses = Pauses::new();
        loop {
            let seen = autoscaling.refresh(name, Some(id)).await?;
            let reason = seen.as_ref().and_then(|refresh| refresh.reason.clone());
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            match seen {
                Some(refresh) if refresh.state == RefreshState::Running => {
                    tracing::info!(percent = refresh.percent, "the instance refresh goes on");
                }
                Some(refresh) if refresh.state == RefreshState::Done => return Ok(()),
                Some(refresh) => {
                    let RefreshState::Ended(word) = &refresh.state else { continue };
                    let cause = self.failure(name).await.ok().flatten();
                    let cause = cause.map(|cause| format!("\nThe last scaling activity that failed: {cause}"));
                    let text = format!("the instance refresh {id} ended {word}{reason}{}", cause.unwrap_or_default());
                    return Err(failed(text));
                }
                None => return Err(failed(format!("the instance refresh {id} is gone"))),
            }
            let waited = self.pause(&mut pauses, "instances were being replaced").await;
            let waited = match waited {
                Ok(()) => self.still_idle().await,
                stopped => stopped,
            };
            let late = Instant::now() >= end;
            if late || waited.is_err() {
                // It must not go on behind everybody's back.
                autoscaling.cancel_refresh(name).await?;
                waited?;
                let text =
                    format!("the instance refresh {id} took longer than instance_refresh.timeout, and was cancelled");
                return Err(failed(text));
            }
        }
    }

    /// Why an instance could not be started in this run.
    async fn failure(&self, name: &str) -> Result<Option<String>, PortError> {
        let failures = self.shared.services.autoscaling.failures(name).await?;
        let former = self.former_failures.as_deref().unwrap_or_default();
        Ok(failures.into_iter().find(|(id, _)| !former.contains(id)).map(|(_, words)| words))
    }

    /// Ready means that as many instances are in service as there are to be.
    async fn wait_in_service(&self, name: &str) -> Result<(), PortError> {
        let autoscaling = &self.shared.services.autoscaling;
        let mut pauses = Pauses::new();
        loop {
            let Some(seen) = autoscaling.find(name).await? else {
                return Err(failed(format!("the Auto Scaling group {name} is gone")));
            };
            let wanted = seen.instances.desired_capacity.unwrap_or_default();
            if seen.in_service >= wanted && seen.present <= wanted {
                return Ok(());
            }
            let what = format!("{} of {wanted} instances of {name} were in service", seen.in_service);
            tracing::info!(seen = what, "waiting for instances");
            let cause = self.failure(name).await?.filter(|_| seen.in_service < wanted);
            let young = cause.as_ref().is_some_and(|cause| cause.contains("Invalid IAM Instance Profile"));
            if let (Some(cause), true) = (&cause, seen.present == 0 && !young) {
                return Err(failed(format!("no instance of {name} can be started: {cause}")));
            }
            if let Err(error) = self.pause(&mut pauses, &what).await {
                let cause = cause.map(|cause| format!("\nThe last scaling activity that failed: {cause}"));
                return Err(failed(format!("{error}{}", cause.unwrap_or_default())));
            }
        }
    }

    /// Puts the instances behind the target group again.
    async fn attach(&self) -> Result<(), PortError> {
        let group = Self::need(&self.ids.target_group, "target group")?;
        let Some(scaling) = &self.seen.scaling_group else { return Ok(()) };
        let mut gone = Vec::new();
        for other in &scaling.target_groups {
            // One of somebody else's, who has more than us behind it, stays.
            if self.shared.services.target_groups.find(other).await?.is_none() {
                gone.push(other.clone());
            }
        }
        self.shared.services.autoscaling.attach(&scaling.name, group, &gone).await
    }

    /// The task definition to run: the one that is named, or a new revision.
    async fn revision(&self, service: &Service) -> Result<String, PortError> {
        match TaskDefinition::of(service).map_err(failed)? {
            Some(definition) => self.shared.services.ecs.register(&definition, self.tags).await,
            None => service.task_definition_arn.clone().ok_or_else(|| failed("there is no task definition")),
        }
    }

    fn container(service: &Service) -> Result<String, PortError> {
        if let Some(name) = &service.container_name {
            return Ok(name.clone());
        }
        let definition = TaskDefinition::of(service).map_err(failed)?;
        let only = definition.as_ref().map(TaskDefinition::containers).filter(|names| names.len() == 1);
        only.and_then(|names| names.first().map(|name| (*name).to_owned()))
            .ok_or_else(|| failed("container_name is missing, and the task definition doesn't tell"))
    }

    async fn create_service(&mut self, name: &str) -> Result<(), PortError> {
        let service = self.service()?;
        let group = Self::need(&self.ids.target_group, "target group")?;
        let container = Self::container(service)?;
        let revision = self.revision(service).await?;
        let (ecs, tags) = (&self.shared.services.ecs, self.tags);
        let arn = self.patiently(|| ecs.create(name, service, &revision, group, &container, tags)).await?;
        self.ids.service = Some(arn.clone());
        self.ids.task_definition = Some(revision.clone());
        self.wait_stable(&arn, Some(&revision)).await
    }

    async fn deploy(&mut self) -> Result<(), PortError> {
        let service = &self.service()?.clone();
        let arn = Self::need(&self.ids.service, "service")?.to_owned();
        let group = Self::need(&self.ids.target_group, "target group")?;
        let container = Self::container(service)?;
        self.still_idle().await?;
        let revision = self.revision(service).await?;
        self.shared.services.ecs.deploy(&arn, service, &revision, group, &container).await?;
        let stable = self.wait_stable(&arn, Some(&revision)).await;
        if stable.is_ok() {
            self.ids.task_definition = Some(revision);
            self.tidy_revisions(service).await?;
        }
        stable
    }

    async fn tidy_revisions(&self, service: &Service) -> Result<(), PortError> {
        let Some(keep) = service.keep_revisions.and_then(|keep| usize::try_from(keep).ok()) else { return Ok(()) };
        let ours = self.revisions().await?;
        let former = ours.iter().filter(|arn| self.ids.task_definition.as_ref() != Some(arn));
        for arn in former.skip(keep) {
            self.shared.services.ecs.deregister(arn).await?;
        }
        Ok(())
    }

    /// The revisions that this environment registered and that are still active, the newest first.
    async fn revisions(&self) -> Result<Vec<String>, PortError> {
        let definition = self.spec.service.as_ref().and_then(|service| TaskDefinition::of(service).ok().flatten());
        let Some(definition) = definition else { return Ok(Vec::new()) };
        self.shared.services.ecs.revisions(definition.family(), (TAG, &self.spec.id())).await
    }

    /// Waits until a deployment is completed; its own words say when it failed.
    async fn wait_stable(&self, arn: &str, revision: Option<&str>) -> Result<(), PortError> {
        let cluster = self.service()?.cluster.clone();
        let (mut pauses, mut own) = (Pauses::new(), None::<String>);
        loop {
            let Some(seen) = self.shared.services.ecs.find(&cluster, arn).await? else {
                return Err(failed(format!("the service {arn} is gone")));
            };
            let primary = seen.deployments.iter().find(|deployment| deployment.primary);
            if own.is_none() {
                let ours =
                    primary.filter(|primary| revision.is_none_or(|revision| primary.task_definition == revision));
                own = ours.map(|deployment| deployment.id.clone());
            }
            let deployment = seen.deployments.iter().find(|deployment| Some(&deployment.id) == own.as_ref());
            let state = deployment.map_or(Rollout::InProgress, |deployment| deployment.state);
            let settled = primary.is_none_or(|primary| primary.counts.1 >= primary.counts.0);
            if state == Rollout::Completed && settled {
                return Ok(());
            }
            let replaced = own.is_some() && primary.is_some_and(|primary| Some(&primary.id) != own.as_ref());
            let failures = deployment.map_or(0, |deployment| deployment.counts.2);
            // Without a circuit breaker ECS would go on trying for ever.
            if state == Rollout::Failed || replaced || failures >= MOST_FAILED_TASKS {
                let reason = deployment.filter(|_| state == Rollout::Failed).and_then(|it| it.reason.clone());
                let why = reason.unwrap_or_else(|| match failures {
                    0 => "another deployment took its place".to_owned(),
                    count => format!("{count} of its tasks stopped"),
                });
                let first = format!("the deployment failed: {why}");
                return Err(failed(self.unstable(&cluster, &seen, own.as_deref(), &first).await));
            }
            let what = "the deployment was in progress";
            if let Err(error) = self.pause(&mut pauses, what).await {
                return Err(failed(self.unstable(&cluster, &seen, own.as_deref(), &error.message).await));
            }
        }
    }

    /// Why a service is not stable: its deployments, its last events, its stopped tasks.
    async fn unstable(&self, cluster: &str, seen: &SeenService, own: Option<&str>, first: &str) -> String {
        let mut text = first.to_owned();
        for deployment in &seen.deployments {
            let (desired, running, failed) = deployment.counts;
            let role = if deployment.primary { "wanted" } else { "former" };
            let definition = crate::rollout::short(&deployment.task_definition);
            text +=
                &format!("\n- {role} deployment of {definition}: {running} of {desired} tasks run, {failed} failed");
        }
        for event in &seen.events {
            text += &format!("\n- event: {event}");
        }
        let name = seen.arn.rsplit('/').next().unwrap_or_default();
        for task in self.shared.services.ecs.stopped_tasks(cluster, name, own).await.unwrap_or_default() {
            text += &format!("\n- {task}");
        }
        text
    }

    /// Sets the tags of everything that is there: those that differ, and away with those that are no longer wished.
    pub async fn tag(&self, gone: &[String]) -> Result<(), PortError> {
        let services = &self.shared.services;
        let missing = |seen: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            let differs = self.tags.iter().filter(|(key, value)| seen.get(*key) != Some(value));
            differs.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let gone = |seen: &BTreeMap<String, String>| -> Vec<String> {
            gone.iter().filter(|key| seen.contains_key(*key)).cloned().collect()
        };
        if let (Some(group), true) = (&self.seen.group, self.spec.target_group.is_some()) {
            let tags = &self.seen.group_tags;
            services.target_groups.set_tags(&group.arn, &missing(tags), &gone(tags)).await?;
        }
        if let Some(group) = &self.seen.security_group {
            services.ec2.set_tags(&group.id, &missing(&group.tags), &gone(&group.tags)).await?;
        }
        if let Some(template) = &self.seen.template {
            services.ec2.set_tags(&template.id, &missing(&template.tags), &gone(&template.tags)).await?;
        }
        if let Some(group) = &self.seen.scaling_group {
            services.autoscaling.set_tags(&group.name, &missing(&group.tags), &gone(&group.tags)).await?;
        }
        if let Some(service) = &self.seen.service {
            services.ecs.set_tags(&service.arn, &missing(&service.tags), &gone(&service.tags)).await?;
        }
        Ok(())
    }

    /// Takes everything away. What is gone from `ids` afterwards is gone from AWS.
    pub async fn destroy(&mut self) -> Result<(), PortError> {
        let services = &self.shared.services;
        let own = self.ids.target_group.clone().filter(|_| self.spec.target_group.is_some());
        if let Some(group) = &own {
            interlock::detach(self.shared, group, self.spec.is_protected()).await?;
        }
        if let Some(arn) = self.ids.service.clone() {
            self.delete_service(&arn).await?;
        }
        self.deregister_revisions().await?;
        // Before its instances: AWS refuses while a route has the group, so nobody can switch to it in between.
        if let Some(group) = &own {
            let mut pauses = Pauses::new();
            while let Err(error) = services.target_groups.delete(group).await {
                self.again(error, &mut pauses).await?;
                interlock::detach(self.shared, group, self.spec.is_protected()).await?;
            }
            self.ids.target_group = None;
        }
        if let Some(name) = self.ids.scaling_group.clone() {
            self.delete_scaling_group(&name).await?;
        }
        if let (Some(group), Some(targets)) = (&self.ids.target_group, &self.spec.targets)
            && self.spec.target_group.is_none()
            && !targets.is_empty()
        {
            services.target_groups.deregister(group, targets).await?;
        }
        if let Some(template) = self.ids.template.take() {
            let deleted = services.ec2.delete_template(&template).await;
            self.ids.template = deleted.is_err().then_some(template);
            deleted?;
            self.ids.template_version = None;
        }
        self.ids.target_group = None;
        if let Some(group) = self.ids.security_group.clone() {
            let mut pauses = Pauses::new();
            while let Err(error) = services.ec2.delete_security_group(&group).await {
                self.again(error, &mut pauses).await?;
            }
            self.ids.security_group = None;
        }
        Ok(())
    }

    /// Something still uses it: a listener that goes at the same time, an instance on its way out.
    async fn again(&self, error: PortError, pauses: &mut Pauses) -> Result<(), PortError> {
        if error.kind != FailureKind::Conflict {
            return Err(error);
        }
        self.pause(pauses, "it was in use").await.map_err(|stop| failed(format!("{error} ({stop})")))
    }

    async fn delete_scaling_group(&mut self, name: &str) -> Result<(), PortError> {
        let autoscaling = &self.shared.services.autoscaling;
        let mut pauses = Pauses::new();
        loop {
            match autoscaling.find(name).await? {
                None => break,
                Some(seen) if seen.going => {}
                Some(_) => match autoscaling.delete(name).await {
                    Err(error) if error.kind == FailureKind::Conflict => tracing::info!(%error, "it is still in use"),
                    other => other?,
                },
            }
            self.pause(&mut pauses, "the instances were terminating").await?;
        }
        self.ids.scaling_group = None;
        Ok(())
    }

    async fn delete_service(&mut self, arn: &str) -> Result<(), PortError> {
        let service = self.service()?.clone();
        let ecs = &self.shared.services.ecs;
        ecs.delete(&service.cluster, arn).await?;
        let mut pauses = Pauses::new();
        while ecs.find(&service.cluster, arn).await?.is_some() {
            self.pause(&mut pauses, "the service's tasks were stopping").await?;
        }
        self.ids.service = None;
        Ok(())
    }

    /// Also those of a service that could not be made.
    async fn deregister_revisions(&mut self) -> Result<(), PortError> {
        for revision in self.revisions().await? {
            self.shared.services.ecs.deregister(&revision).await?;
        }
        self.ids.task_definition = None;
        Ok(())
    }
}

/// So long a new role or instance profile may take to be known everywhere; hashicorp/aws waits as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// ECS counts tasks that stopped; after so many a release is broken, whatever its breaker thinks.
const MOST_FAILED_TASKS: i32 = 10;
