//! Services on ECS: revisions of their task definition, and their deployments.

use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::build::Build;
use crate::run::stack::ports::{Deploy, failed};
use crate::run::stack::wait::{Unstable, Watch};
use crate::stack::{self, DEFINITION_TAG, Service, TAG, TaskDefinition};

impl Build<'_> {
    /// The task definition to run: the one that is named, or a new revision.
    async fn revision(&mut self, service: &Service) -> Result<String, PortError> {
        let Some(definition) = service.definition().map_err(failed)? else {
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
        let definition = service.definition().map_err(failed)?;
        let only = definition.as_ref().map(TaskDefinition::containers).filter(|names| names.len() == 1);
        only.and_then(|names| names.first().map(|name| (*name).to_owned()))
            .ok_or_else(|| failed("container_name is missing, and the task definition doesn't tell"))
    }

    pub(super) async fn create_service(&mut self) -> Result<(), PortError> {
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
        let arn = self.patiently(true, || ecs.create(name, of, tags)).await?;
        self.ids.service = Some(arn.clone());
        self.ids.task_definition = Some(revision.clone());
        let stable = self.wait_stable(&arn, (Some(&revision), None), None, Watch::Nothing).await;
        stable.map_err(|unstable| unstable.error)
    }

    /// A new deployment. One that comes to nothing, or must not go on, doesn't: what ran before is what is wanted again.
    pub(super) async fn deploy(&mut self) -> Result<(), PortError> {
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
        let ecs = &self.context.ports.ecs;
        let begun = self.patiently(false, || ecs.deploy(&arn, of)).await?;
        match self.wait_stable(&arn, (Some(&revision), None), begun, Watch::Idle).await {
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
        let former = self.seen.service.as_ref().map(|seen| seen.behind(group));
        let Some((former, revision)) = former.as_ref().and_then(|it| Some((it, it.task_definition_arn.as_deref()?)))
        else {
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

    pub(super) async fn scale(&self, count: i32) -> Result<(), PortError> {
        let (service, arn) = (self.service()?, Self::need(&self.ids.service, "service")?);
        let former = self.seen.service.as_ref().and_then(|seen| seen.service.desired_count);
        let shrinks = former.is_some_and(|former| count < former);
        if shrinks {
            self.still_idle().await?;
        }
        let ecs = &self.context.ports.ecs;
        ecs.scale(&service.cluster, arn, count).await?;
        let watch = if shrinks { Watch::Idle } else { Watch::Nothing };
        let Err(Unstable { error, .. }) = self.wait_stable(arn, (None, Some(count)), None, watch).await else {
            return Ok(());
        };
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
        let definition = self.spec.service.as_ref().and_then(|service| service.definition().ok().flatten());
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
}
