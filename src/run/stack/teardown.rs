//! Takes a stack away: first what makes AWS refuse while somebody is led there, then what serves.

use crate::run::ports::PortError;
use crate::run::stack::build::Build;
use crate::run::stack::live_guard::detach;
use crate::run::stack::ports::{Tags, failed};
use crate::run::stack::wait::Pauses;
use crate::stack::{Ids, Target};

impl Build<'_> {
    /// Lets go of what another object has by now, as the one that replaces this one; what that is, in words, if it is anything.
    pub fn let_go(&mut self) -> Option<String> {
        let seen = self.seen;
        let mut kept = Ids::default();
        let own_group = seen.group.as_ref().filter(|_| self.spec.target_group.is_some());
        let parts = [
            (&mut kept.target_group, own_group.map(|group| (&group.arn, &seen.group_tags))),
            (&mut kept.security_group, seen.security_group.as_ref().map(|group| (&group.id, &group.tags))),
            (&mut kept.template, seen.template.as_ref().map(|template| (&template.id, &template.tags))),
            (&mut kept.scaling_group, seen.scaling_group.as_ref().map(|group| (&group.name, &group.tags))),
            (&mut kept.service, seen.service.as_ref().map(|service| (&service.arn, &service.tags))),
        ];
        for (kept, part) in parts {
            *kept = part.filter(|(id, tags)| self.is_another_s(id, tags)).map(|(id, _)| id.clone());
        }
        self.ids = std::mem::take(&mut self.ids).without(&kept);
        Some(kept.summary()).filter(|words| !words.is_empty())
    }

    /// Whether another object has a thing by now: by its tags, or, since these can be read late, as this run knows.
    fn is_another_s(&self, id: &str, tags: &Tags) -> bool {
        !self.is_own(tags) || !self.owner.is_empty() && self.context.objects.is_another_s(id, self.owner)
    }

    async fn deregister_own(&mut self) -> Result<Vec<String>, PortError> {
        let used = self.deregister(self.own_revisions().await?).await?;
        self.ids.task_definition = None;
        Ok(used)
    }

    /// Takes everything away. What is gone from `ids` afterwards is gone from AWS; what is given back are revisions that
    /// stay since others run them.
    ///
    /// # Errors
    /// What AWS refused, what was waited for in vain, or that users came.
    pub async fn destroy(&mut self) -> Result<Vec<String>, PortError> {
        self.find_own().await?;
        let own = self.ids.target_group.clone().filter(|_| self.spec.target_group.is_some());
        let mut used = None;
        match own {
            // AWS refuses while a route has the group, so nobody can be led there once it is gone.
            Some(group) => {
                let mut pauses = Pauses::new();
                detach(self.context, &group, self.spec.is_protected()).await?;
                while let Err(error) = self.context.ports.target_groups.delete(&group).await {
                    self.again(error, &mut pauses).await?;
                    detach(self.context, &group, self.spec.is_protected()).await?;
                }
                self.ids.target_group = None;
                self.context.objects.note_deleted(&group);
                // No users can come any more, so the service needs no revision that could be deployed; and a destroy that is
                // killed is begun again by what is found of the stack, which the service is and its revisions are not.
                used = Some(self.deregister_own().await?);
            }
            None => self.leave().await?,
        }
        if let Some(arn) = self.ids.service.clone() {
            self.delete_service(&arn).await?;
        }
        let used = match used {
            Some(used) => used,
            None => self.deregister_own().await?,
        };
        if let Some(name) = self.ids.scaling_group.clone() {
            self.delete_scaling_group(&name).await?;
        }
        if let Some(template) = self.ids.template.take() {
            let deleted = self.context.ports.launch_templates.delete(&template).await;
            self.ids.template = deleted.is_err().then(|| template.clone());
            deleted?;
            self.context.objects.note_deleted(&template);
            self.ids.template_version = None;
        }
        self.ids.target_group = None;
        if let Some(group) = self.ids.security_group.clone() {
            let mut pauses = Pauses::new();
            while let Err(error) = self.context.ports.security_groups.delete(&group).await {
                self.again(error, &mut pauses).await?;
            }
            self.context.objects.note_deleted(&group);
            self.ids.security_group = None;
        }
        Ok(used)
    }

    /// Leaves a target group that stays. AWS wouldn't refuse if users were led there meanwhile, so it is done in a way that
    /// can be undone, and looked at before anything is deleted: without targets in it no switch takes the color.
    async fn leave(&mut self) -> Result<(), PortError> {
        let Some(group) = self.ids.target_group.clone() else { return Ok(()) };
        let ports = &self.context.ports;
        if let Some(name) = self.ids.scaling_group.clone() {
            ports.autoscaling.detach(&name, &group).await?;
            if let Err(error) = self.still_idle().await {
                let back = ports.autoscaling.attach(&name, &group, &[]).await;
                return Err(undone(error, back, "its instances are behind the group again"));
            }
        }
        let count = self.seen.service.as_ref().and_then(|seen| seen.service.desired_count);
        if let (Some(arn), Some(service), Some(count)) = (&self.ids.service, &self.spec.service, count) {
            ports.ecs.scale(&service.cluster, arn, 0).await?;
            if let Err(error) = self.still_idle().await {
                let back = ports.ecs.scale(&service.cluster, arn, count).await;
                return Err(undone(error, back, "its tasks come again"));
            }
        }
        let own = |target: &&Target| !self.context.objects.is_target_of_another(&group, target, self.owner);
        let targets: Vec<Target> = self.spec.targets.iter().flatten().filter(own).cloned().collect();
        if !targets.is_empty() {
            ports.target_groups.deregister(&group, &targets).await?;
            if let Err(error) = self.still_idle().await {
                let back = ports.target_groups.register(&group, &targets).await;
                return Err(undone(error, back, "its targets are in the group again"));
            }
        }
        Ok(())
    }

    async fn delete_scaling_group(&mut self, name: &str) -> Result<(), PortError> {
        let autoscaling = &self.context.ports.autoscaling;
        let mut pauses = Pauses::new();
        let mut is_deleted = autoscaling.find(name).await?.is_some_and(|seen| seen.deleting);
        // Only once it is deleted a read that shows none says that it is gone: an older one may show none that is there.
        loop {
            if !is_deleted {
                // Refused while a scaling activity is in progress.
                if let Err(error) = autoscaling.delete(name).await {
                    self.again(error, &mut pauses).await?;
                    continue;
                }
                is_deleted = true;
            }
            let seen = autoscaling.find(name).await?;
            if seen.is_none() && is_deleted {
                break;
            }
            let what = seen.map_or_else(|| "it was being deleted".to_owned(), |seen| seen.summary());
            self.pause(&mut pauses, &what).await?;
        }
        self.ids.scaling_group = None;
        Ok(())
    }

    async fn delete_service(&mut self, arn: &str) -> Result<(), PortError> {
        let service = self.spec.service.clone().ok_or_else(|| failed("there is no service in the configuration"))?;
        let ecs = &self.context.ports.ecs;
        let mut pauses = Pauses::new();
        while let Err(error) = ecs.delete(&service.cluster, arn).await {
            self.again(error, &mut pauses).await?;
        }
        while let Some(seen) = ecs.find(&service.cluster, arn).await? {
            self.pause(&mut pauses, &format!("{} tasks of the service were stopping", seen.running)).await?;
        }
        self.ids.service = None;
        Ok(())
    }
}

fn undone(error: PortError, back: Result<(), PortError>, words: &str) -> PortError {
    let text = match back {
        Ok(()) => format!("{error}; nothing was deleted, and {words}"),
        Err(back) => format!("{error}; nothing was deleted, but IT COULD NOT BE PUT BACK: {back}"),
    };
    PortError::new(error.kind, text)
}
