//! Waiting for what AWS takes its time for: with pauses that grow, a deadline, an ear for Terraform's request to stop, and an
//! eye on who is live meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::run::absence::believed;
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::build::Build;
use crate::run::stack::live_guard::live;
use crate::run::stack::ports::{Deployment, Rollout, SeenScalingGroup, SeenService, failed};

/// How often things that take minutes are looked at. They are quick at first, where tests and small changes end.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// So long what is new, a role or what a call just made, may take to be known everywhere; hashicorp/aws waits as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// So long a read may show what was before the call that was just answered.
const LAG: Duration = Duration::from_secs(30);

/// ECS counts tasks that stopped; after so many a release is broken, whatever its breaker thinks.
const MOST_FAILED_TASKS: i32 = 10;

/// Pauses that grow.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Pauses {
        Pauses(FIRST_PAUSE)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 3 / 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Who looks around while something is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nobody: what goes on hurts no one.
    Nothing,
    /// What goes on must end when users come.
    Idle,
}

/// How a wait for a deployment ended.
#[derive(Debug)]
pub(super) struct Unstable {
    pub error: PortError,
    /// Whether it would go on if nobody stopped it.
    pub goes_on: bool,
}

impl Build<'_> {
    /// Waits a little; an error when the time is over or Terraform was asked to stop.
    pub(super) async fn pause(&self, pauses: &mut Pauses, what: &str) -> Result<(), PortError> {
        if Instant::now() >= self.deadline {
            return Err(failed(format!("the operation's time ended while {what}")));
        }
        tokio::select! {
            () = sleep(pauses.next()) => Ok(()),
            () = self.cancel.cancelled() => Err(failed(format!("interrupted while {what}"))),
        }
    }

    /// Waits a little, and looks whether users came.
    pub(super) async fn pause_watching(&self, pauses: &mut Pauses, what: &str, watch: Watch) -> Result<(), PortError> {
        self.pause(pauses, what).await?;
        match watch {
            Watch::Nothing => Ok(()),
            Watch::Idle => self.still_idle().await,
        }
    }

    /// An error if the color has got traffic since it was seen to be idle.
    pub(super) async fn still_idle(&self) -> Result<(), PortError> {
        let Some(group) = self.ids.target_group.as_ref().filter(|_| !self.live && self.spec.is_protected()) else {
            return Ok(());
        };
        match live(self.context, group).await? {
            Some(routes) => {
                Err(PortError::new(FailureKind::Conflict, format!("it got traffic meanwhile, by {routes}")))
            }
            None => Ok(()),
        }
    }

    /// Repeats a call while what it refers to is so new that not every part of AWS knows it: an instance profile, a role, the load
    /// balancer of a target group, and, where the call `makes` something, also what it is made in and of.
    pub(super) async fn patiently<T, F>(&self, makes: bool, call: impl Fn() -> F) -> Result<T, PortError>
    where
        F: Future<Output = Result<T, PortError>>,
    {
        // Where nobody is to lead there, no patience helps.
        let balanced = self.spec.listener_arn.is_some()
            || self.seen.group.as_ref().is_some_and(|group| !group.load_balancers.is_empty());
        let passes = |kind| match kind {
            FailureKind::Passing => true,
            FailureKind::NeedsListener => balanced,
            FailureKind::Gone => makes,
            _ => false,
        };
        self.while_new(passes, "not every part of AWS knew what it needs", call).await
    }

    /// Repeats a call while it fails in such a way, as it does where something is new.
    pub(super) async fn while_new<T, F>(
        &self,
        passes: impl Fn(FailureKind) -> bool,
        what: &str,
        call: impl Fn() -> F,
    ) -> Result<T, PortError>
    where
        F: Future<Output = Result<T, PortError>>,
    {
        let end = self.deadline.min(Instant::now() + PATIENCE);
        let mut pauses = Pauses::new();
        loop {
            match call().await {
                Err(error) if passes(error.kind) && Instant::now() < end => {
                    tracing::info!(%error, "it may be too new; tries again");
                    self.pause(&mut pauses, what).await.map_err(|stop| failed(format!("{error} ({stop})")))?;
                }
                other => return other,
            }
        }
    }

    /// What a wait is about. As long as nobody has seen it, it may just be new; what was seen is gone when looks agree on it.
    pub(super) async fn there<T, F>(
        &self,
        what: &str,
        (was_seen, watch): (bool, Watch),
        find: impl Fn() -> F,
    ) -> Result<T, PortError>
    where
        F: Future<Output = Result<Option<T>, PortError>>,
    {
        let end = Instant::now() + PATIENCE;
        let mut pauses = Pauses::new();
        loop {
            if let Some(found) = believed(&find, Option::is_some, Option::or).await? {
                return Ok(found);
            }
            if was_seen || Instant::now() >= end {
                return Err(PortError::new(FailureKind::Gone, format!("{what} is gone")));
            }
            self.pause_watching(&mut pauses, &format!("{what} was not to be seen yet"), watch).await?;
        }
    }

    /// Something still uses it: a listener that goes at the same time, an instance on its way out.
    pub(super) async fn again(&self, error: PortError, pauses: &mut Pauses) -> Result<(), PortError> {
        if error.kind != FailureKind::Conflict {
            return Err(error);
        }
        tracing::info!(%error, "it is still in use; tries again");
        self.pause(pauses, "it was in use").await.map_err(|stop| failed(format!("{error} ({stop})")))
    }

    /// Why an instance could not be started in this run.
    pub(super) async fn failure(&self, name: &str) -> Result<Option<PortError>, PortError> {
        let failures = self.context.ports.autoscaling.failures(name).await?;
        let former = self.former_failures.as_deref().unwrap_or_default();
        Ok(failures.into_iter().find(|(id, _)| !former.contains(id)).map(|(_, why)| why))
    }

    /// Ready means that as many instances are in service as there are to be; those that a person put on standby are out of it
    /// on purpose. Where a call has just `told` how many that are, a read that shows another number may be an older one.
    pub(super) async fn wait_in_service(&self, name: &str, told: Option<i32>, watch: Watch) -> Result<(), PortError> {
        let autoscaling = &self.context.ports.autoscaling;
        let (mut pauses, mut was_seen) = (Pauses::new(), self.seen.scaling_group.is_some());
        let believed_from = Instant::now() + LAG;
        loop {
            let what = format!("the Auto Scaling group {name}");
            let seen = self.there(&what, (was_seen, watch), || autoscaling.find(name)).await?;
            was_seen = true;
            let desired = seen.instances.desired_capacity.unwrap_or_default();
            let standby = seen.in_standby();
            // Whoever puts one on standby says whether the group makes another in its place.
            let wanted = desired.min((seen.present() - standby).max(desired - standby));
            let is_old = told.is_some_and(|told| told != desired) && Instant::now() < believed_from;
            // Instances that are protected from scale-in stay, however few are wished.
            let stay = seen.instances.protect_from_scale_in == Some(true);
            let is_small = stay || seen.present() - standby - seen.excess() <= desired;
            if !is_old && seen.in_service() >= wanted && is_small {
                return Ok(());
            }
            let what = not_in_service(name, &seen, wanted);
            tracing::info!(seen = what, "waiting for instances");
            let cause = self.failure(name).await?.filter(|_| seen.in_service() < wanted);
            // In one zone alone a type that it doesn't have stays so.
            let one_zone = seen.instances.subnet_ids.len() < 2;
            let has_type = |cause: &PortError| !cause.message.contains("not supported in your requested");
            let passes = |cause: &PortError| cause.kind == FailureKind::Passing && (!one_zone || has_type(cause));
            let lasting = cause.as_ref().filter(|cause| !passes(cause));
            if let Some(cause) = lasting.filter(|_| seen.present() == 0) {
                return Err(failed(format!("no instance of {name} can be started: {cause}")));
            }
            if let Err(error) = self.pause_watching(&mut pauses, &what, watch).await {
                let cause = cause.map(|cause| format!("\nThe last scaling activity that failed: {cause}"));
                return Err(PortError::new(error.kind, format!("{error}{}", cause.unwrap_or_default())));
            }
        }
    }

    /// Waits until a deployment is completed; its own words say when it failed.
    pub(super) async fn wait_stable(
        &self,
        arn: &str,
        (revision, told): (Option<&str>, Option<i32>),
        begun: Option<String>,
        watch: Watch,
    ) -> Result<(), Unstable> {
        let over = |error| Unstable { error, goes_on: false };
        let cluster = self.service().map_err(over)?.cluster.clone();
        let (mut pauses, mut own, mut was_seen) = (Pauses::new(), begun, self.seen.service.is_some());
        let (believed_from, mut own_was_seen) = (Instant::now() + LAG, false);
        loop {
            let find = || self.context.ports.ecs.find(&cluster, arn);
            let found = self.there(&format!("the service {arn}"), (was_seen, watch), find).await;
            let seen = found.map_err(|error| Unstable { goes_on: error.kind != FailureKind::Gone, error })?;
            was_seen = true;
            let primary = seen.deployments.iter().find(|deployment| deployment.primary);
            if own.is_none() {
                let ours =
                    primary.filter(|primary| revision.is_none_or(|revision| primary.task_definition == revision));
                own = ours.map(|deployment| deployment.id.clone());
            }
            let deployment = seen.deployments.iter().find(|deployment| Some(&deployment.id) == own.as_ref());
            own_was_seen |= deployment.is_some();
            // A read may be older than the call that began the deployment, or told the number of its tasks.
            let is_old = Instant::now() < believed_from
                && (!own_was_seen || told.zip(primary).is_some_and(|(told, primary)| told != primary.counts.0));
            if !is_old && is_stable(deployment, primary) {
                return Ok(());
            }
            let ended = came_to_nothing(deployment, primary, own.as_deref()).filter(|_| !is_old);
            if let Some((why, goes_on)) = ended {
                let first = format!("the deployment failed: {why}");
                let error = failed(self.unstable(&cluster, &seen, own.as_deref(), &first).await);
                return Err(Unstable { error, goes_on });
            }
            if let Err(error) = self.pause_watching(&mut pauses, "the deployment was in progress", watch).await {
                let text = self.unstable(&cluster, &seen, own.as_deref(), &error.message).await;
                return Err(Unstable { error: PortError::new(error.kind, text), goes_on: true });
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
        for task in self.context.ports.ecs.stopped_tasks(cluster, name, own).await.unwrap_or_default() {
            text += &format!("\n- {task}");
        }
        text
    }
}

fn is_stable(deployment: Option<&Deployment>, primary: Option<&Deployment>) -> bool {
    let completed = deployment.is_some_and(|deployment| deployment.state == Rollout::Completed);
    completed && primary.is_none_or(|primary| primary.counts.1 >= primary.counts.0)
}

/// Why a deployment won't come to its end, and whether it would go on trying.
fn came_to_nothing(
    deployment: Option<&Deployment>,
    primary: Option<&Deployment>,
    own: Option<&str>,
) -> Option<(String, bool)> {
    let is_failed = deployment.is_some_and(|deployment| deployment.state == Rollout::Failed);
    let replaced = own.is_some() && primary.is_some_and(|primary| Some(primary.id.as_str()) != own);
    let failures = deployment.map_or(0, |deployment| deployment.counts.2);
    // Without a circuit breaker ECS would go on trying for ever.
    if !is_failed && !replaced && failures < MOST_FAILED_TASKS {
        return None;
    }
    let reason = deployment.filter(|_| is_failed).and_then(|it| it.reason.clone());
    let why = reason.unwrap_or_else(|| match failures {
        0 => "another deployment took its place".to_owned(),
        count => format!("{count} of its tasks stopped"),
    });
    Some((why, !replaced))
}

/// Which instances are waited for, by what they do instead of serving.
fn not_in_service(name: &str, seen: &SeenScalingGroup, wanted: i32) -> String {
    let others = seen.states(|member| !member.is_in_service());
    let others = if others.is_empty() { String::new() } else { format!(" ({others})") };
    format!("{} of {wanted} instances of {name} were in service{others}", seen.in_service())
}
