//! The sizes of colors: Auto Scaling groups and ECS services.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join;

use super::application_autoscaling::ApplicationAutoScaling;
use super::autoscaling::{AutoScaling, PINNED_TAG};
use super::connection::Connection;
use super::ecs::{Ecs, cluster_of};
use crate::rollout::{Capacity, Scalable};
use crate::run::ports::PortError;
use crate::run::rollout::ports::Capacities;
use crate::run::stack::ports::{Ecs as _, RefreshState, Rollout, ScalingGroups as _};

/// Both kinds.
pub(super) struct Sizes {
    autoscaling: AutoScaling,
    ecs: Ecs,
    application: ApplicationAutoScaling,
}

impl Sizes {
    pub(super) fn new(connection: &Arc<Connection>) -> Sizes {
        Sizes {
            autoscaling: AutoScaling::new(connection.clone()),
            ecs: Ecs::new(connection.clone()),
            application: ApplicationAutoScaling::new(connection.clone()),
        }
    }
}

#[async_trait]
impl Capacities for Sizes {
    async fn get(&self, of: &Scalable) -> Result<Option<Capacity>, PortError> {
        match of {
            Scalable::ScalingGroup(name) => {
                let seen = self.autoscaling.find(name).await?.filter(|seen| !seen.deleting);
                Ok(seen.map(|seen| Capacity {
                    min: Some(seen.min_now),
                    max: seen.instances.max_size,
                    desired: seen.instances.desired_capacity.unwrap_or_default(),
                    pinned: seen.pinned,
                }))
            }
            Scalable::Service(arn) => {
                let cluster = cluster_of(arn)?;
                let (seen, bounds) = join(self.ecs.find(cluster, arn), self.application.bounds(cluster, arn)).await;
                let Some(seen) = seen? else { return Ok(None) };
                let pinned = seen.tags.get(PINNED_TAG).and_then(|text| text.parse().ok());
                Ok(seen.service.desired_count.map(|desired| Capacity {
                    min: bounds.map(|bounds| bounds.min),
                    max: bounds.map_or(i32::MAX, |bounds| bounds.max),
                    desired,
                    pinned,
                }))
            }
        }
    }

    async fn turnover(&self, of: &Scalable) -> Result<Option<String>, PortError> {
        match of {
            Scalable::ScalingGroup(name) => {
                let newest = self.autoscaling.refresh(name, None).await?;
                let running = newest.filter(|refresh| refresh.state == RefreshState::Running);
                Ok(running.map(|refresh| {
                    format!("the instance refresh {} of {name} goes on ({} %)", refresh.id, refresh.percent)
                }))
            }
            Scalable::Service(arn) => {
                let seen = self.ecs.find(cluster_of(arn)?, arn).await?;
                let primary = seen.and_then(|seen| seen.deployments.into_iter().find(|deployment| deployment.primary));
                let running = primary.filter(|primary| primary.state == Rollout::InProgress && primary.is_reported);
                Ok(running.map(|deployment| {
                    let (desired, running, _) = deployment.counts;
                    format!("the deployment {} goes on ({running} of {desired} tasks run)", deployment.id)
                }))
            }
        }
    }

    async fn set(&self, of: &Scalable, before: Capacity, after: Capacity) -> Result<(), PortError> {
        let desired = (before.desired != after.desired).then_some(after.desired);
        match of {
            Scalable::ScalingGroup(name) => {
                // What has to be given back is noted before it is taken, and struck out after it was given.
                if let Some(pinned) = after.pinned {
                    let tag = BTreeMap::from([(PINNED_TAG.to_owned(), pinned.to_string())]);
                    self.autoscaling.set_tags(name, &tag, &[]).await?;
                }
                let min = after.min.filter(|_| before.min != after.min);
                if min.is_some() || desired.is_some() {
                    self.autoscaling.resize(name, min, None, desired).await?;
                }
                if after.pinned.is_none() && before.pinned.is_some() {
                    self.autoscaling.set_tags(name, &BTreeMap::new(), &[PINNED_TAG.to_owned()]).await?;
                }
                Ok(())
            }
            Scalable::Service(arn) => {
                let cluster = cluster_of(arn)?;
                if let Some(pinned) = after.pinned {
                    let tag = BTreeMap::from([(PINNED_TAG.to_owned(), pinned.to_string())]);
                    self.ecs.set_tags(arn, &tag, &[]).await?;
                }
                if let Some(min) = after.min.filter(|_| before.min != after.min) {
                    self.application.set_min(cluster, arn, min).await?;
                }
                if let Some(desired) = desired {
                    self.ecs.scale(cluster, arn, desired).await?;
                }
                if after.pinned.is_none() && before.pinned.is_some() {
                    self.ecs.set_tags(arn, &BTreeMap::new(), &[PINNED_TAG.to_owned()]).await?;
                }
                Ok(())
            }
        }
    }

    fn unseen(&self) -> Option<String> {
        self.application.unseen()
    }
}
