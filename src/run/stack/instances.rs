//! Instances: their security group, launch template and Auto Scaling group, and how they are replaced.

use std::time::Duration;

use tokio::time::Instant;

use crate::duration;
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::build::Build;
use crate::run::stack::by_hand;
use crate::run::stack::ports::{RefreshOf, RefreshState, SeenScalingGroup, Tags, VersionOf, failed};
use crate::run::stack::wait::{Pauses, Watch};
use crate::shell::quoted;
use crate::stack::{self, Instances, Rules};

impl Build<'_> {
    pub(super) async fn create_security_group(&mut self) -> Result<(), PortError> {
        let groups = &self.context.ports.security_groups;
        let vpc = self.spec.vpc_id.as_deref().ok_or_else(|| failed("vpc_id is missing"))?;
        let text = format!("Instances of {}, {}", self.spec.name, self.spec.color);
        let id = groups.create(self.name, &text, vpc, self.tags).await?;
        self.ids.security_group = Some(id.clone());
        // A read can be earlier than what was just made.
        let seen =
            self.there(&format!("the security group {id}"), (false, Watch::Nothing), || groups.find(&id)).await?;
        let before: Rules = seen.rules;
        groups.set_rules(&id, &before, &stack::rules(self.instances()?)).await
    }

    /// What tells this object from others stays with the things that are named after it: instances come and go.
    pub(super) fn tags_of_instances(&self) -> Tags {
        let mut tags = self.tags.clone();
        tags.remove(stack::OWNER_TAG);
        tags.remove(stack::MADE_TAG);
        tags
    }

    pub(super) fn version_of<'v>(&'v self, tags: &'v Tags) -> Result<VersionOf<'v>, PortError> {
        let security_group = Self::need(&self.ids.security_group, "security group")?;
        let used = self.seen.scaling_group.as_ref().and_then(|group| group.template.as_ref());
        let former = used.filter(|(id, _)| self.ids.template.as_ref() == Some(id)).map(|(_, version)| version.as_str());
        Ok(VersionOf { instances: self.instances()?, security_group, tags, former, gone: self.gone_from_instances })
    }

    /// A new version of the template.
    pub(super) async fn add_version(&mut self) -> Result<i64, PortError> {
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
    pub(super) async fn repoint(&mut self) -> Result<(), PortError> {
        let version = self.add_version().await?.to_string();
        let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?;
        let template = Self::need(&self.ids.template, "launch template")?;
        self.context.ports.autoscaling.set_template(name, self.instances()?, (template, &version)).await
    }

    /// A new version of the template, and instances made of it. If that comes to nothing, the group makes instances of the
    /// former version again, whatever is there of the new one.
    pub(super) async fn roll(&mut self) -> Result<(), PortError> {
        let autoscaling = self.context.ports.autoscaling.clone();
        let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?.to_owned();
        let template = Self::need(&self.ids.template, "launch template")?.to_owned();
        let instances = self.instances()?;
        let wished = instances.instance_refresh.as_ref();
        let rolls_back = wished.is_some_and(|refresh| refresh.auto_rollback == Some(true));
        let before = self.seen.scaling_group.as_ref().filter(|_| self.seen.template.is_some());
        // By its number: $Latest would be the new version, also on the way back.
        let former = self.seen.used().filter(|(id, _)| *id == template).map(|(id, number)| (id, number.to_string()));
        let former = before.zip(former);
        if let Some((group, (id, number))) = &former
            && group.template.as_ref().is_some_and(|used| used.1 != *number)
        {
            autoscaling.set_template(&name, &group.instances, (id, number)).await?;
        }
        let version = self.add_version().await?.to_string();
        if rolls_back && former.is_some() {
            // Only of a version that the group doesn't have yet can Auto Scaling bring it back to the former one.
            return self.refresh(&name, Some((&template, &version))).await;
        }
        autoscaling.set_template(&name, instances, (&template, &version)).await?;
        let Err(error) = self.refresh(&name, None).await else { return Ok(()) };
        let Some((group, (id, number))) = former else { return Err(error) };
        let text = match autoscaling.set_template(&name, &group.instances, (&id, &number)).await {
            Ok(()) => format!(
                "{error}\nThe Auto Scaling group {name} makes new instances of version {number} of its template again; instances that were replaced already are of version {version}."
            ),
            Err(undo) => {
                let shell = &self.context.shell;
                let made_of = by_hand::made_of(&group.instances, (&id, &number));
                let command = shell.command(&format!(
                    "autoscaling update-auto-scaling-group --auto-scaling-group-name {} {made_of}",
                    quoted(&name)
                ));
                format!(
                    "{error}\nTHE TEMPLATE COULD NOT BE PUT BACK ({undo}): the Auto Scaling group {name} makes new instances of version {version}. By hand{}:\n  {command}",
                    shell.whose()
                )
            }
        };
        Err(PortError::new(error.kind, text))
    }

    async fn refresh(&mut self, name: &str, desired: Option<(&str, &str)>) -> Result<(), PortError> {
        let instances = self.instances()?;
        let wished = instances.instance_refresh.clone().unwrap_or_default();
        let (min, max) = if self.live { (100, 110) } else { (0, 100) };
        // AWS allows no more than 100 between them.
        let (min_healthy, max_healthy) = match (wished.min_healthy_percentage, wished.max_healthy_percentage) {
            (Some(min), Some(max)) => (min, max),
            (Some(own), None) => (own, max.min(own + 100)),
            (None, Some(own)) => (min.max(own - 100), own),
            (None, None) => (min, max),
        };
        let of = RefreshOf { instances, healthy: (min_healthy, max_healthy), desired };
        let limit = wished.timeout.as_deref().and_then(|text| duration::parse(text).ok());
        let count = self.seen.scaling_group.as_ref().map_or(0, |group| group.members.len());
        let limit = limit.unwrap_or_else(|| time_for(instances, count, of.healthy));
        if !self.is_limited {
            // Nobody said how long the update may take: what the replacement is given comes on top.
            self.deadline = self.deadline.max(Instant::now() + limit + LEEWAY);
        }
        let autoscaling = &self.context.ports.autoscaling;
        let (mut pauses, mut cancelled) = (Pauses::new(), false);
        self.still_idle().await?;
        let started = loop {
            match autoscaling.start_refresh(name, of).await {
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
        let end = self.deadline.min(Instant::now() + limit);
        if let Err((error, goes_on)) = self.follow_refresh(name, &started, (end, limit)).await {
            // Not under users: whoever came goes on with what is there.
            if goes_on && desired.is_some() && error.kind != FailureKind::Conflict {
                let text = match autoscaling.roll_back_refresh(name).await {
                    Ok(()) => format!("{error}\nAuto Scaling brings the former instances back."),
                    Err(back) => format!("{error}\nIT GOES ON, since it could not be rolled back: {back}"),
                };
                return Err(PortError::new(error.kind, text));
            }
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
        self.wait_in_service(name, None, Watch::Idle).await
    }

    /// Waits for the end of a refresh; an error says whether it goes on.
    async fn follow_refresh(
        &self,
        name: &str,
        id: &str,
        (mut end, limit): (Instant, Duration),
    ) -> Result<(), (PortError, bool)> {
        let autoscaling = &self.context.ports.autoscaling;
        let (mut pauses, mut was_seen, mut goes_back) = (Pauses::new(), false, false);
        loop {
            let find = || autoscaling.refresh(name, Some(id));
            let found = self.there(&format!("the instance refresh {id}"), (was_seen, Watch::Idle), find).await;
            let refresh = found.map_err(|error| (error.clone(), error.kind != FailureKind::Gone))?;
            was_seen = true;
            let reason = refresh.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            match &refresh.state {
                RefreshState::Running => {
                    tracing::info!(percent = refresh.percent, "the instance refresh goes on");
                }
                RefreshState::RollingBack => {
                    tracing::info!(reason, "the instance refresh is rolled back");
                    // The way back takes as long as the way there.
                    if !std::mem::replace(&mut goes_back, true) {
                        end = Instant::now() + limit;
                    }
                }
                RefreshState::Done => return Ok(()),
                RefreshState::Ended(word) => {
                    let cause = self.failure(name).await.ok().flatten();
                    let cause = cause.map(|cause| format!("\nThe last scaling activity that failed: {cause}"));
                    let text = format!("the instance refresh {id} ended {word}{reason}{}", cause.unwrap_or_default());
                    return Err((failed(text), false));
                }
            }
            let watch = if goes_back { Watch::Nothing } else { Watch::Idle };
            let waited = self.pause_watching(&mut pauses, "instances were being replaced", watch).await;
            // What AWS takes back by itself is left to it.
            waited.map_err(|error| (error, !goes_back))?;
            if Instant::now() >= end && goes_back {
                let text = format!(
                    "the instance refresh {id} failed{reason}, and Auto Scaling still brings the former instances back"
                );
                return Err((failed(text), false));
            }
            if Instant::now() >= end {
                let text =
                    format!("the instance refresh {id} took longer than instance_refresh.timeout, and was cancelled");
                return Err((failed(text), true));
            }
        }
    }

    /// Other sizes. A minimum that a rollout holds up stays up: what it gives back at its end is what is wished now.
    pub(super) async fn resize(&mut self, min: i32, max: i32, desired: Option<i32>) -> Result<(), PortError> {
        let name = Self::need(&self.ids.scaling_group, "Auto Scaling group")?.to_owned();
        let autoscaling = &self.context.ports.autoscaling;
        let what = format!("the Auto Scaling group {name}");
        let now = self.there(&what, (true, Watch::Nothing), || autoscaling.find(&name)).await?;
        let running = now.instances.desired_capacity;
        let shrinks = desired.zip(running).is_some_and(|(desired, running)| desired < running);
        if shrinks {
            self.still_idle().await?;
        }
        let held = now.pinned.map(|_| now.min_now);
        if held.is_some() {
            autoscaling.note_minimum(&name, min).await?;
        }
        let least = held.unwrap_or(min).max(min);
        let desired = desired.map(|desired| desired.max(held.unwrap_or(desired)));
        autoscaling.resize(&name, Some(least), Some(max.max(least)), desired).await?;
        let watch = if shrinks { Watch::Idle } else { Watch::Nothing };
        match self.wait_in_service(&name, desired, watch).await {
            // Who went live meanwhile goes on with the size that it had.
            Err(error) if shrinks && error.kind == FailureKind::Conflict => self.grow_back(&now, error).await,
            result => result,
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
}

/// What the other waits of an update may take beside an instance refresh.
const LEEWAY: Duration = Duration::from_secs(15 * 60);
/// A refresh has at least as long.
const LEAST: Duration = Duration::from_secs(30 * 60);
/// So long an instance may take to go, with requests that it still has, and another one to boot and to become healthy.
const EACH: Duration = Duration::from_secs(10 * 60);

/// How long it may take to replace so many instances, where nobody said it.
fn time_for(instances: &Instances, count: usize, (min, max): (i32, i32)) -> Duration {
    let wished = instances.instance_refresh.clone().unwrap_or_default();
    let at_once = usize::try_from((max - min).max(0)).unwrap_or(0) * count / 100;
    let steps = u32::try_from(count.div_ceil(at_once.max(1))).unwrap_or(u32::MAX);
    let seconds = |seconds: Option<i32>| Duration::from_secs(u64::try_from(seconds.unwrap_or(0)).unwrap_or(0));
    let warmup = wished.instance_warmup.or(instances.default_instance_warmup).or(instances.health_check_grace_period);
    let stops = u32::try_from(wished.checkpoint_percentages.len()).unwrap_or(u32::MAX);
    let replaced = (EACH + seconds(warmup)).saturating_mul(steps).max(LEAST);
    replaced + seconds(wished.checkpoint_delay).saturating_mul(stops) + seconds(wished.bake_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::InstanceRefresh;

    #[test]
    fn a_refresh_has_the_time_that_it_takes() {
        let with = |refresh: InstanceRefresh| Instances {
            health_check_grace_period: Some(300),
            instance_refresh: Some(refresh),
            ..Instances::default()
        };
        let minutes = |refresh, count, healthy| time_for(&with(refresh), count, healthy).as_secs() / 60;
        let usual = InstanceRefresh::default;
        assert_eq!(minutes(usual(), 2, (0, 100)), 30, "an idle color, all at once");
        assert_eq!(minutes(usual(), 40, (0, 100)), 30);
        assert_eq!(minutes(usual(), 12, (100, 110)), 180, "a live color, one after the other");
        assert_eq!(minutes(usual(), 40, (100, 110)), 150, "four at once");
        let slow = InstanceRefresh {
            checkpoint_percentages: vec![50, 100],
            checkpoint_delay: Some(600),
            bake_time: Some(1200),
            instance_warmup: Some(60),
            ..usual()
        };
        assert_eq!(minutes(slow, 4, (100, 110)), 44 + 20 + 20);
        assert_eq!(minutes(usual(), 0, (100, 110)), 30);
    }
}
