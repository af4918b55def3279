//! The sizes of colors: Auto Scaling groups and ECS services.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::future::join;

use super::application_autoscaling::{ApplicationAutoScaling, Bounds, Keeping};
use super::autoscaling::AutoScaling;
use super::connection::Connection;
use super::ecs::{Ecs, cluster_of};
use crate::rollout::{Capacity, PINNED_TAG, Scalable};
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::ports::Capacities;
use crate::run::stack::ports::{Ecs as _, Refresh, Rollout, ScalingGroups as _};

/// Both kinds.
pub(super) struct Sizes {
    autoscaling: AutoScaling,
    ecs: Ecs,
    application: ApplicationAutoScaling,
    /// The services whose minimum is not held.
    unheld: Mutex<BTreeMap<String, Unheld>>,
}

/// Why the minimum of a service is not held.
#[derive(Clone, Debug)]
struct Unheld {
    why: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It can't be seen whether there is one.
    Unseen,
    /// The same, and something is to be given back.
    Noted,
    /// It may not be set.
    Denied,
}

impl Sizes {
    pub(super) fn new(connection: &Arc<Connection>) -> Sizes {
        Sizes {
            autoscaling: AutoScaling::new(connection.clone()),
            ecs: Ecs::new(connection.clone()),
            application: ApplicationAutoScaling::new(connection.clone()),
            unheld: Mutex::default(),
        }
    }

    fn unheld(&self) -> MutexGuard<'_, BTreeMap<String, Unheld>> {
        self.unheld.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_denied(&self, arn: &str) -> bool {
        self.unheld().get(arn).is_some_and(|unheld| unheld.kind == Kind::Denied)
    }

    async fn of_service(&self, arn: &str) -> Result<Option<Capacity>, PortError> {
        let cluster = cluster_of(arn)?;
        let (seen, keeping) = join(self.ecs.find(cluster, arn), self.application.keeping(cluster, arn)).await;
        let Some(seen) = seen? else { return Ok(None) };
        let Some(desired) = seen.service.desired_count else { return Ok(None) };
        if !matches!(keeping, Keeping::Unknown(_)) && !self.is_denied(arn) {
            self.unheld().remove(arn);
        }
        let pinned: Option<i32> = seen.tags.get(PINNED_TAG).and_then(|text| text.parse().ok());
        Ok(Some(match keeping {
            Keeping::Between(Bounds { min, max }) => Capacity { min: Some(min), max, desired, pinned },
            Keeping::Nobody => Capacity { min: None, max: i32::MAX, desired, pinned },
            // What was noted is for whoever sees what it is about.
            Keeping::Unknown(why) => {
                let unheld = match pinned {
                    Some(pinned) => Unheld {
                        why: format!(
                            "{why}. Its tag {PINNED_TAG} says that a rollout has to give a minimum of {pinned} back"
                        ),
                        kind: Kind::Noted,
                    },
                    None => Unheld { why, kind: Kind::Unseen },
                };
                self.unheld().entry(arn.to_owned()).or_insert(unheld);
                Capacity { min: None, max: i32::MAX, desired, pinned: None }
            }
        }))
    }

    /// What has to be given back is noted before it is taken, and struck out after it was given.
    async fn set_service(&self, arn: &str, before: Capacity, after: Capacity) -> Result<(), PortError> {
        let cluster = cluster_of(arn)?;
        let is_struck_out = before.pinned.is_some() && after.pinned.is_none();
        if after.min > before.min {
            match self.hold(cluster, arn, after).await {
                // Without a floor the rollout is as it was without Application Auto Scaling: that is told, and is no reason to stop it.
                Err(error) if error.kind == FailureKind::Denied => {
                    tracing::warn!(%error, "the minimum of the service is not held");
                    self.unheld().insert(arn.to_owned(), Unheld { why: error.message, kind: Kind::Denied });
                    if before.pinned.is_none() {
                        self.strike_out(arn).await.unwrap_or_else(|error| tracing::warn!(%error, "the note stays"));
                    }
                }
                held => held?,
            }
        } else if after.min < before.min || is_struck_out {
            self.lower(cluster, arn, (before, after)).await?;
            if is_struck_out {
                self.strike_out(arn).await?;
            }
        }
        // Within the bounds that hold by now.
        if before.desired != after.desired {
            self.ecs.scale(cluster, arn, after.desired).await?;
        }
        Ok(())
    }

    async fn hold(&self, cluster: &str, arn: &str, size: Capacity) -> Result<(), PortError> {
        if let Some(pinned) = size.pinned {
            let tag = BTreeMap::from([(PINNED_TAG.to_owned(), pinned.to_string())]);
            self.ecs.set_tags(arn, &tag, &[]).await?;
        }
        match size.min {
            Some(min) => self.application.set_min(cluster, arn, min).await,
            None => Ok(()),
        }
    }

    /// Gives a minimum back, as far as it is the one that was set: another one is somebody else's.
    async fn lower(&self, cluster: &str, arn: &str, (before, after): (Capacity, Capacity)) -> Result<(), PortError> {
        let (seen, keeping) = join(self.ecs.find(cluster, arn), self.application.keeping(cluster, arn)).await;
        let bounds = match keeping {
            Keeping::Between(bounds) => bounds,
            Keeping::Nobody => return Ok(()),
            Keeping::Unknown(why) => return Err(PortError::new(FailureKind::Other, why)),
        };
        // What a denied call should have set is not there: the minimum is still the one from before it.
        let is_ours = before.min.is_none_or(|held| held == bounds.min) || self.is_denied(arn);
        let Some(own) = after.min.filter(|own| *own != bounds.min && is_ours) else { return Ok(()) };
        let desired = seen?.and_then(|seen| seen.service.desired_count).unwrap_or_default();
        if desired > bounds.max {
            let why = format!(
                "{arn} has {desired} tasks, and its maximum is {}: whoever touches its bounds makes AWS take the others away",
                bounds.max
            );
            return Err(PortError::new(FailureKind::Other, why));
        }
        self.application.set_min(cluster, arn, own).await
    }

    async fn strike_out(&self, arn: &str) -> Result<(), PortError> {
        self.ecs.set_tags(arn, &BTreeMap::new(), &[PINNED_TAG.to_owned()]).await
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
            Scalable::Service(arn) => self.of_service(arn).await,
        }
    }

    async fn turnover(&self, of: &Scalable) -> Result<Option<String>, PortError> {
        match of {
            Scalable::ScalingGroup(name) => {
                let newest = self.autoscaling.refresh(name, None).await?;
                let running = newest.filter(Refresh::goes_on);
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
                    self.autoscaling.note_minimum(name, pinned).await?;
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
            Scalable::Service(arn) => self.set_service(arn, before, after).await,
        }
    }

    fn unheld(&self, of: &Scalable, is_idle: bool) -> Option<String> {
        let Scalable::Service(arn) = of else { return None };
        let unheld = self.unheld().get(arn).cloned().filter(|unheld| !is_idle || unheld.kind != Kind::Unseen);
        unheld.map(|unheld| unheld.why)
    }
}
