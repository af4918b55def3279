//! Carries out the changes of a stack, one after the other, and notes after each what is there.

use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::build::Build;
use crate::run::stack::live_guard;
use crate::run::stack::observe::Seen;
use crate::run::stack::ports::{Tags, failed};
use crate::run::stack::wait::Watch;
use crate::stack::{self, Change, Part};

impl Build<'_> {
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
        let Err(error) = self.create_anew(part).await else { return Ok(()) };
        if error.kind != FailureKind::Conflict {
            return Err(error);
        }
        // It may be what an earlier run made that never got the answer.
        let before = self.ids.clone();
        self.find_own().await?;
        if self.ids == before { Err(error) } else { Ok(()) }
    }

    async fn create_anew(&mut self, part: Part) -> Result<(), PortError> {
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
                self.patiently(true, || ports.autoscaling.create(name, instances, template, group, tags)).await?;
                self.ids.scaling_group = Some(name.to_owned());
                self.wait_in_service(name, None, Watch::Nothing).await
            }
            Part::Service => self.create_service().await,
            Part::Attachment => self.attach().await,
            // They come with their group, and anew by a roll.
            Part::Instances => Ok(()),
        }
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
