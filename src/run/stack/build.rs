//! Carries out the changes of a stack, one after the other, and notes after each what is there.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::cancel::Cancel;
use crate::duration;
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::ports::{Deploy, RefreshPace, RefreshState, SeenScalingGroup, Tags, VersionOf};
use crate::run::stack::wait::{Pauses, Unstable, Watch, failed};
use crate::run::stack::{Seen, StackContext, live_guard};
use crate::stack::{self, Change, DEFINITION_TAG, Ids, Instances, Part, Rules, Service, Spec, TAG, TaskDefinition};

/// A stack as it is being made.
pub struct Build<'a> {
    /// What it is made with.
    pub context: &'a StackContext,
    /// The wish, settled.
    pub spec: &'a Spec,
    /// What everything of it is called.
    pub name: &'a str,
    /// The object's token.
    pub owner: &'a str,
    /// The tags of everything that is made.
    pub tags: &'a Tags,
    /// What was there before.
    pub seen: &'a Seen,
    /// Whether the color serves users.
    pub live: bool,
    /// What is there now.
    pub ids: Ids,
    /// When it must be done.
    pub deadline: Instant,
    /// Terraform's request to stop.
    pub cancel: &'a Cancel,
    /// What is remembered of it.
    pub progress: Progress,
    /// Scaling activities that had failed before this run, once they were asked for: they are nobody's reason now.
    pub former_failures: Option<Vec<String>>,
}

/// What a run notes for the runs after it.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The families that revisions were registered in.
    pub families: BTreeSet<String>,
    /// The tokens of objects whose things this one took over.
    pub heir_of: BTreeSet<String>,
    /// The revision that was registered in this run.
    pub registered: Option<String>,
    /// Whether the launch template was made in this run, and says already what is wished.
    fresh_template: bool,
}

impl Progress {
    /// Of a run that comes after others which noted this.
    pub fn after(families: BTreeSet<String>, heir_of: BTreeSet<String>) -> Progress {
        Progress { families, heir_of, ..Progress::default() }
    }
}

impl Build<'_> {
    pub(super) fn instances(&self) -> Result<&Instances, PortError> {
        self.spec.instances.as_ref().ok_or_else(|| failed("there are no instances in the configuration"))
    }

    pub(super) fn service(&self) -> Result<&Service, PortError> {
        self.spec.service.as_ref().ok_or_else(|| failed("there is no service in the configuration"))
    }

    /// The id of something that must be there by now.
    fn need<'i>(id: &'i Option<String>, what: &str) -> Result<&'i str, PortError> {
        id.as_deref().ok_or_else(|| failed(format!("there is no {what}")))
    }

    /// Notes the family of a stack as it was, whose revisions may be ours.
    pub fn note_families(&mut self, before: &Spec) {
        let definition = before.service.as_ref().and_then(|service| TaskDefinition::of(service).ok().flatten());
        self.progress.families.extend(definition.map(|definition| definition.family().to_owned()));
    }

    /// Lets the load balancer know the group, or forget that it was told of it.
    ///
    /// # Errors
    /// When a rule can't be made or deleted.
    pub async fn make_known(&self, formerly: bool) -> Result<(), PortError> {
        let listener = self.spec.listener_arn.as_deref();
        match &self.ids.target_group {
            Some(group) if listener.is_some() || formerly => {
                live_guard::make_known(self.context, group, (self.name, listener), self.tags).await
            }
            _ => Ok(()),
        }
    }

    /// Carries out one change.
    ///
    /// # Errors
    /// What AWS refused, or what was waited for in vain.
    pub async fn carry_out(&mut self, change: &Change) -> Result<(), PortError> {
        if self.cancel.is_cancelled() {
            return Err(failed("interrupted"));
        }
        tracing::info!(?change, "begins");
        if change.harm(self.seen.running()).is_some() {
            // Minutes may have gone by since it was looked at last.
            self.still_idle().await?;
        }
        if let (Some(name), None) = (&self.ids.scaling_group, &self.former_failures) {
            let failures = self.context.ports.autoscaling.failures(name).await?;
            self.former_failures = Some(failures.into_iter().map(|(id, _)| id).collect());
        }
        match change {
            Change::Create(part) => self.create(*part).await,
            Change::TargetGroup(what) => self.modify_target_group(what).await,
            Change::Rules { .. } => {
                let after = stack::rules(self.instances()?);
                let before = self.seen.security_group.as_ref().map(|group| group.rules.clone()).unwrap_or_default();
                let id = Self::need(&self.ids.security_group, "security group")?;
                self.context.ports.security_groups.set_rules(id, &before, &after).await
            }
            Change::Version => self.add_version().await.map(drop),
            Change::Repoint => self.repoint().await,
            Change::Roll(_) => self.roll().await,
            Change::ScalingGroup(..) => {
                let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?;
                self.context.ports.autoscaling.update(name, self.instances()?).await
            }
            Change::Resize { min, max, desired } => self.resize(min.1, *max, *desired).await,
            Change::Deploy(_) => self.deploy().await,
            Change::Service(_) => {
                let arn = Self::need(&self.ids.service, "service")?;
                self.context.ports.ecs.update(arn, self.service()?).await
            }
            Change::Scale(count) => self.scale(*count).await,
            Change::Register(targets) => {
                let arn = Self::need(&self.ids.target_group, "target group")?;
                self.context.objects.claim_targets(arn, targets, self.owner);
                self.context.ports.target_groups.register(arn, targets).await
            }
            Change::Deregister(targets) => {
                let arn = Self::need(&self.ids.target_group, "target group")?;
                self.context.ports.target_groups.deregister(arn, targets).await
            }
        }
    }

    async fn create(&mut self, part: Part) -> Result<(), PortError> {
        let ports = &self.context.ports;
        match part {
            Part::TargetGroup => self.create_target_group().await,
            Part::SecurityGroup => self.create_security_group().await,
            Part::LaunchTemplate => {
                let tags = self.tags_of_instances();
                let of = self.version_of(&tags)?;
                let id = ports.launch_templates.create(self.name, self.tags, of).await?;
                self.ids.template = Some(id);
                self.ids.template_version = Some(1);
                self.progress.fresh_template = true;
                Ok(())
            }
            Part::ScalingGroup => {
                let group = Self::need(&self.ids.target_group, "target group")?;
                let template = Self::need(&self.ids.template, "launch template")?;
                let template = (template, self.ids.template_version.unwrap_or(1));
                let (name, instances, tags) = (self.name, self.instances()?, self.tags);
                self.patiently(|| ports.autoscaling.create(name, instances, template, group, tags)).await?;
                self.ids.scaling_group = Some(name.to_owned());
                self.wait_in_service(name, Watch::Nothing).await
            }
            Part::Service => self.create_service().await,
            Part::Attachment => self.attach().await,
            // They come with their group, and anew by a roll.
            Part::Instances => Ok(()),
        }
    }

    async fn create_target_group(&mut self) -> Result<(), PortError> {
        let ports = &self.context.ports;
        let group = self.spec.target_group.as_ref().ok_or_else(|| failed("there is no target group"))?;
        let vpc = self.spec.vpc_id.as_deref();
        let arn = ports.target_groups.create(self.name, group, vpc, self.tags).await?;
        self.ids.target_group = Some(arn.clone());
        // What AWS begins with is what a group has that says nothing.
        let usual = stack::TargetGroup {
            protocol: group.protocol.clone(),
            target_type: group.target_type.clone(),
            ..stack::TargetGroup::default()
        };
        let usual = Spec { target_group: Some(usual), ..Spec::default() }.with_defaults().target_group;
        ports.target_groups.set_attributes(&arn, group, &usual.unwrap_or_default()).await
    }

    async fn create_security_group(&mut self) -> Result<(), PortError> {
        let groups = &self.context.ports.security_groups;
        let vpc = self.spec.vpc_id.as_deref().ok_or_else(|| failed("vpc_id is missing"))?;
        let text = format!("Instances of {}, {}", self.spec.name, self.spec.color);
        let id = groups.create(self.name, &text, vpc, self.tags).await?;
        self.ids.security_group = Some(id.clone());
        // A read can be earlier than what was just made.
        let mut pauses = Pauses::new();
        let before: Rules = loop {
            if let Some(seen) = groups.find(&id).await? {
                break seen.rules;
            }
            self.pause(&mut pauses, "the security group was not to be seen yet").await?;
        };
        groups.set_rules(&id, &before, &stack::rules(self.instances()?)).await
    }

    async fn modify_target_group(&self, what: &[String]) -> Result<(), PortError> {
        let arn = Self::need(&self.ids.target_group, "target group")?;
        let group = self.spec.target_group.as_ref().ok_or_else(|| failed("there is no target group"))?;
        let before = self.seen.group.as_ref().map(|seen| seen.group.clone()).unwrap_or_default();
        if what.iter().any(|name| name.starts_with("health_check.")) {
            self.context.ports.target_groups.set_health_check(arn, group).await?;
        }
        self.context.ports.target_groups.set_attributes(arn, group, &before).await
    }

    /// What tells this object from others stays with the things that are named after it: instances come and go.
    fn tags_of_instances(&self) -> Tags {
        let mut tags = self.tags.clone();
        tags.remove(stack::OWNER_TAG);
        tags.remove(stack::MADE_TAG);
        tags
    }

    fn version_of<'v>(&'v self, tags: &'v Tags) -> Result<VersionOf<'v>, PortError> {
        let security_group = Self::need(&self.ids.security_group, "security group")?;
        Ok(VersionOf { instances: self.instances()?, security_group, tags })
    }

    /// A new version of the template.
    async fn add_version(&mut self) -> Result<i64, PortError> {
        let tags = self.tags_of_instances();
        let template = Self::need(&self.ids.template, "launch template")?;
        // One that was made in this run says already what is wished.
        let version = match self.progress.fresh_template {
            true => 1,
            false => self.context.ports.launch_templates.add_version(template, self.version_of(&tags)?).await?,
        };
        self.ids.template_version = Some(version);
        Ok(version)
    }

    /// Gives the group a template again; instances stay as they are.
    async fn repoint(&mut self) -> Result<(), PortError> {
        let version = self.add_version().await?.to_string();
        let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?;
        let template = Self::need(&self.ids.template, "launch template")?;
        self.context.ports.autoscaling.set_template(name, (template, &version)).await
    }

    /// A new version of the template, and instances made of it. If that comes to nothing, the group makes instances of the
    /// former version again, whatever is there of the new one.
    async fn roll(&mut self) -> Result<(), PortError> {
        let former = self.seen.scaling_group.as_ref().and_then(|group| group.template.clone());
        let version = self.add_version().await?.to_string();
        let autoscaling = &self.context.ports.autoscaling;
        let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?.to_owned();
        let template = Self::need(&self.ids.template, "launch template")?.to_owned();
        autoscaling.set_template(&name, (&template, &version)).await?;
        let Err(error) = self.refresh(&name).await else { return Ok(()) };
        let former = former.filter(|(id, _)| *id == template && self.seen.template.is_some());
        let Some((id, number)) = former else { return Err(error) };
        let text = match autoscaling.set_template(&name, (&id, &number)).await {
            Ok(()) => format!(
                "{error}\nThe Auto Scaling group {name} makes new instances of version {number} of its template again; instances that were replaced already are of version {version}."
            ),
            Err(undo) => format!(
                "{error}\nTHE TEMPLATE COULD NOT BE PUT BACK ({undo}): the Auto Scaling group {name} makes new instances of version {version}. By hand: aws autoscaling update-auto-scaling-group --auto-scaling-group-name {name} --launch-template LaunchTemplateId={id},Version={number}"
            ),
        };
        Err(PortError::new(error.kind, text))
    }

    async fn refresh(&self, name: &str) -> Result<(), PortError> {
        let wished = self.instances()?.instance_refresh.clone().unwrap_or_default();
        let autoscaling = &self.context.ports.autoscaling;
        let (min, max) = if self.live { (100, 110) } else { (0, 100) };
        // AWS allows no more than 100 between them.
        let (min_healthy, max_healthy) = match (wished.min_healthy_percentage, wished.max_healthy_percentage) {
            (Some(min), Some(max)) => (min, max),
            (Some(own), None) => (own, max.min(own + 100)),
            (None, Some(own)) => (min.max(own - 100), own),
            (None, None) => (min, max),
        };
        let pace = RefreshPace { min_healthy, max_healthy, warmup: wished.instance_warmup };
        let (mut pauses, mut cancelled) = (Pauses::new(), false);
        self.still_idle().await?;
        let started = loop {
            match autoscaling.start_refresh(name, pace).await {
                // One of a run that was killed: it makes instances of a version that nobody wants any more.
                Err(error) if error.kind == FailureKind::Conflict => {
                    if !std::mem::replace(&mut cancelled, true) {
                        autoscaling.cancel_refresh(name).await?;
                    }
                    let what = "a former instance refresh was being cancelled";
                    self.pause_watching(&mut pauses, what, Watch::Idle).await?;
                }
                other => break other?,
            }
        };
        let limit = wished.timeout.as_deref().and_then(|text| duration::parse(text).ok());
        let end = limit.map_or(self.deadline, |limit| self.deadline.min(Instant::now() + limit));
        if let Err((error, goes_on)) = self.follow_refresh(name, &started, end).await {
            if goes_on {
                // It must not go on behind everybody's back.
                autoscaling.cancel_refresh(name).await.map_err(|cancel| {
                    PortError::new(
                        error.kind,
                        format!("{error}\nIT GOES ON, since it could not be cancelled: {cancel}"),
                    )
                })?;
            }
            return Err(error);
        }
        self.wait_in_service(name, Watch::Idle).await
    }

    /// Waits for the end of a refresh; an error says whether it goes on.
    async fn follow_refresh(&self, name: &str, id: &str, end: Instant) -> Result<(), (PortError, bool)> {
        let autoscaling = &self.context.ports.autoscaling;
        let mut pauses = Pauses::new();
        loop {
            let seen = autoscaling.refresh(name, Some(id)).await.map_err(|error| (error, true))?;
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
                    return Err((failed(text), false));
                }
                None => return Err((failed(format!("the instance refresh {id} is gone")), false)),
            }
            let waited = self.pause_watching(&mut pauses, "instances were being replaced", Watch::Idle).await;
            waited.map_err(|error| (error, true))?;
            if Instant::now() >= end {
                let text =
                    format!("the instance refresh {id} took longer than instance_refresh.timeout, and was cancelled");
                return Err((failed(text), true));
            }
        }
    }

    /// Other sizes. A minimum that a rollout holds up stays up: what it gives back at its end is what is wished now.
    async fn resize(&mut self, min: i32, max: i32, desired: Option<i32>) -> Result<(), PortError> {
        let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?.to_owned();
        let autoscaling = &self.context.ports.autoscaling;
        let now = autoscaling.find(&name).await?;
        let shrinks = desired.is_some_and(|desired| {
            now.as_ref().and_then(|now| now.instances.desired_capacity).is_some_and(|running| desired < running)
        });
        if shrinks {
            self.still_idle().await?;
        }
        let held = now.as_ref().filter(|now| now.pinned.is_some()).map(|now| now.min_now);
        if held.is_some() {
            autoscaling.note_minimum(&name, min).await?;
        }
        let least = held.unwrap_or(min).max(min);
        let desired = desired.map(|desired| desired.max(held.unwrap_or(desired)));
        autoscaling.resize(&name, Some(least), Some(max.max(least)), desired).await?;
        let watch = if shrinks { Watch::Idle } else { Watch::Nothing };
        match (self.wait_in_service(&name, watch).await, now) {
            // Who went live meanwhile goes on with the size that it had.
            (Err(error), Some(now)) if shrinks && error.kind == FailureKind::Conflict => {
                self.grow_back(&now, error).await
            }
            (result, _) => result,
        }
    }

    async fn grow_back(&self, former: &SeenScalingGroup, error: PortError) -> Result<(), PortError> {
        let of = &former.instances;
        let sizes = (Some(former.min_now), Some(of.max_size), of.desired_capacity);
        let back = self.context.ports.autoscaling.resize(&former.name, sizes.0, sizes.1, sizes.2).await;
        let text = match back {
            Ok(()) => format!("{error}\nThe Auto Scaling group {} has its former size again.", former.name),
            Err(back) => format!("{error}\nITS SIZE COULD NOT BE PUT BACK: {back}"),
        };
        Err(PortError::new(error.kind, text))
    }

    /// Puts the instances behind the target group again.
    async fn attach(&self) -> Result<(), PortError> {
        let group = Self::need(&self.ids.target_group, "target group")?;
        let Some(scaling) = &self.seen.scaling_group else { return Ok(()) };
        let mut gone = Vec::new();
        for other in &scaling.target_groups {
            // One of somebody else's, who has more than us behind it, stays.
            if self.context.ports.target_groups.find(other).await?.is_none() {
                gone.push(other.clone());
            }
        }
        self.context.ports.autoscaling.attach(&scaling.name, group, &gone).await
    }

    /// The task definition to run: the one that is named, or a new revision.
    async fn revision(&mut self, service: &Service) -> Result<String, PortError> {
        let Some(definition) = TaskDefinition::of(service).map_err(failed)? else {
            return service.task_definition_arn.clone().ok_or_else(|| failed("there is no task definition"));
        };
        self.progress.families.insert(definition.family().to_owned());
        let mut tags = self.tags.clone();
        tags.remove(stack::MADE_TAG);
        tags.insert(DEFINITION_TAG.to_owned(), definition.digest());
        let arn = self.context.ports.ecs.register(&definition, &tags).await?;
        self.progress.registered = Some(arn.clone());
        Ok(arn)
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

    async fn create_service(&mut self) -> Result<(), PortError> {
        let service = self.service()?.clone();
        let container = Self::container(&service)?;
        let revision = self.revision(&service).await?;
        let group = Self::need(&self.ids.target_group, "target group")?;
        let (ecs, name, tags) = (&self.context.ports.ecs, self.name, self.tags);
        let of = Deploy {
            service: &service,
            task_definition: &revision,
            target_group: group,
            container: &container,
            force: true,
        };
        let arn = self.patiently(|| ecs.create(name, of, tags)).await?;
        self.ids.service = Some(arn.clone());
        self.ids.task_definition = Some(revision.clone());
        let stable = self.wait_stable(&arn, Some(&revision), None, Watch::Nothing).await;
        stable.map_err(|unstable| unstable.error)
    }

    /// A new deployment. One that comes to nothing, or must not go on, doesn't: what ran before is what is wanted again.
    async fn deploy(&mut self) -> Result<(), PortError> {
        let service = self.service()?.clone();
        let arn = Self::need(&self.ids.service, "service")?.to_owned();
        let group = Self::need(&self.ids.target_group, "target group")?.to_owned();
        let container = Self::container(&service)?;
        let revision = self.revision(&service).await?;
        self.still_idle().await?;
        let of = Deploy {
            service: &service,
            task_definition: &revision,
            target_group: &group,
            container: &container,
            force: true,
        };
        let begun = self.context.ports.ecs.deploy(&arn, of).await?;
        match self.wait_stable(&arn, Some(&revision), begun, Watch::Idle).await {
            Ok(()) => {
                self.ids.task_definition = Some(revision);
                self.tidy_revisions(&service).await
            }
            Err(Unstable { error, goes_on: false }) => Err(error),
            Err(Unstable { error, goes_on: true }) => Err(self.undeploy(&arn, &group, error).await),
        }
    }

    /// Has the service run what it ran before.
    async fn undeploy(&self, arn: &str, group: &str, error: PortError) -> PortError {
        let former = self.seen.service.as_ref().map(|seen| &seen.service);
        let Some((former, revision)) = former.and_then(|it| Some((it, it.task_definition_arn.as_deref()?))) else {
            return error;
        };
        let container = former.container_name.clone().unwrap_or_default();
        let of = Deploy {
            service: former,
            task_definition: revision,
            target_group: group,
            container: &container,
            force: false,
        };
        let short = crate::rollout::short(revision);
        let text = match self.context.ports.ecs.deploy(arn, of).await {
            Ok(_) => format!("{error}\nThe deployment doesn't go on: the service goes back to {short}."),
            Err(undo) => {
                format!("{error}\nTHE DEPLOYMENT GOES ON, since the service could not be put back to {short}: {undo}")
            }
        };
        PortError::new(error.kind, text)
    }

    async fn scale(&self, count: i32) -> Result<(), PortError> {
        let (service, arn) = (self.service()?, Self::need(&self.ids.service, "service")?);
        let former = self.seen.service.as_ref().and_then(|seen| seen.service.desired_count);
        let shrinks = former.is_some_and(|former| count < former);
        if shrinks {
            self.still_idle().await?;
        }
        let ecs = &self.context.ports.ecs;
        ecs.scale(&service.cluster, arn, count).await?;
        let watch = if shrinks { Watch::Idle } else { Watch::Nothing };
        let Err(Unstable { error, .. }) = self.wait_stable(arn, None, None, watch).await else { return Ok(()) };
        let Some(former) = former.filter(|_| shrinks && error.kind == FailureKind::Conflict) else { return Err(error) };
        // Who went live meanwhile goes on with the size that it had.
        let text = match ecs.scale(&service.cluster, arn, former).await {
            Ok(()) => format!("{error}\nThe service has its {former} tasks again."),
            Err(back) => format!("{error}\nITS SIZE COULD NOT BE PUT BACK: {back}"),
        };
        Err(PortError::new(error.kind, text))
    }

    async fn tidy_revisions(&self, service: &Service) -> Result<(), PortError> {
        let Some(keep) = service.keep_revisions.and_then(|keep| usize::try_from(keep).ok()) else { return Ok(()) };
        let ours = self.own_revisions().await?;
        let former = ours.into_iter().filter(|arn| self.ids.task_definition.as_ref() != Some(arn));
        let former: Vec<String> = former.skip(keep).collect();
        self.deregister(former).await.map(drop)
    }

    /// Takes revisions out of use, but for those that others run, which are given back.
    pub(super) async fn deregister(&self, revisions: Vec<String>) -> Result<Vec<String>, PortError> {
        if revisions.is_empty() {
            return Ok(Vec::new());
        }
        let ecs = &self.context.ports.ecs;
        let cluster = self.spec.service.as_ref().map(|service| service.cluster.as_str()).unwrap_or_default();
        let others = ecs.revisions_of_others(cluster, self.ids.service.as_deref()).await?;
        let (used, free): (Vec<String>, Vec<String>) = revisions.into_iter().partition(|arn| others.contains(arn));
        for arn in free {
            ecs.deregister(&arn).await?;
        }
        Ok(used)
    }

    /// The revisions that this object registered and that are still active, the newest of the present family first.
    pub(super) async fn own_revisions(&self) -> Result<Vec<String>, PortError> {
        let definition = self.spec.service.as_ref().and_then(|service| TaskDefinition::of(service).ok().flatten());
        let present = definition.map(|definition| definition.family().to_owned());
        let former = self.progress.families.iter().filter(|family| Some(*family) != present.as_ref());
        let mut ours = Vec::new();
        for family in present.iter().chain(former) {
            let found = self.context.ports.ecs.revisions(family, (TAG, &self.spec.id())).await?;
            let own = found.into_iter().filter(|(_, tags)| self.is_own(tags));
            ours.extend(own.map(|(arn, _)| arn));
        }
        Ok(ours)
    }

    /// Whether a thing with these tags belongs to this object: by its token, or since it has none.
    pub(super) fn is_own(&self, tags: &Tags) -> bool {
        stack::is_own(tags, self.owner, &self.progress.heir_of)
    }

    /// Sets the tags of everything that is there: those that differ, and away with those that are no longer wished.
    ///
    /// # Errors
    /// What AWS refused.
    pub async fn tag(&self, seen: &Seen, tags: &Tags, gone: &[String]) -> Result<(), PortError> {
        let ports = &self.context.ports;
        let missing = |seen: &Tags| -> Tags {
            let differs = tags.iter().filter(|(key, value)| seen.get(*key) != Some(value));
            differs.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let gone =
            |seen: &Tags| -> Vec<String> { gone.iter().filter(|key| seen.contains_key(*key)).cloned().collect() };
        if let (Some(group), true) = (&seen.group, self.spec.target_group.is_some()) {
            let tags = &seen.group_tags;
            ports.target_groups.set_tags(&group.arn, &missing(tags), &gone(tags)).await?;
        }
        if let Some(group) = &seen.security_group {
            ports.security_groups.set_tags(&group.id, &missing(&group.tags), &gone(&group.tags)).await?;
        }
        if let Some(template) = &seen.template {
            ports.launch_templates.set_tags(&template.id, &missing(&template.tags), &gone(&template.tags)).await?;
        }
        if let Some(group) = &seen.scaling_group {
            ports.autoscaling.set_tags(&group.name, &missing(&group.tags), &gone(&group.tags)).await?;
        }
        if let Some(service) = &seen.service {
            ports.ecs.set_tags(&service.arn, &missing(&service.tags), &gone(&service.tags)).await?;
        }
        Ok(())
    }
}
