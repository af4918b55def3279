//! Application Auto Scaling: between which sizes it keeps ECS services.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_applicationautoscaling::config::Builder;
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ServiceNamespace};
use aws_smithy_types::retry::RetryConfig;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, FIRST_BACKOFF};
use super::error::call_error;
use crate::run::ports::{FailureKind, PortError};

const SERVICE: &str = "application-autoscaling";
/// Whoever keeps no service this way may have no way to ask, or not be allowed to: it is not asked for long.
const ATTEMPTS: u32 = 4;
/// How long an answer is waited for as long as none ever came: everything else is read beside it, and users may wait for it.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long one is waited for after that.
const ANSWER: Duration = Duration::from_secs(10);
/// Who did not answer is asked again after so long, and for a moment only.
const REST: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(1500);

/// Between which sizes a service is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub min: i32,
    pub max: i32,
}

/// Who keeps a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    /// Application Auto Scaling.
    Between(Bounds),
    /// Nobody.
    Nobody,
    /// That can't be seen, and why.
    Unknown(String),
}

/// Whether anything was ever answered.
#[derive(Clone, Debug, Default)]
enum Reach {
    #[default]
    Unasked,
    Answers,
    /// It does not, since then.
    Silent(String, Instant),
}

/// Application Auto Scaling in one account and region.
pub(super) struct ApplicationAutoScaling {
    connection: Arc<Connection>,
    reach: Mutex<Reach>,
}

/// What it calls a service: `service/<cluster>/<name>`.
fn resource(cluster: &str, service: &str) -> String {
    let name = service.rsplit('/').next().unwrap_or(service);
    format!("service/{cluster}/{name}")
}

impl ApplicationAutoScaling {
    pub(super) fn new(connection: Arc<Connection>) -> ApplicationAutoScaling {
        ApplicationAutoScaling { connection, reach: Mutex::default() }
    }

    /// Who keeps a service.
    pub(super) async fn keeping(&self, cluster: &str, service: &str) -> Keeping {
        let reach = || self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reach().clone();
        let limit = match known {
            Reach::Silent(why, since) if since.elapsed() < REST => return Keeping::Unknown(why),
            Reach::Silent(..) => MOMENT,
            Reach::Unasked => FIRST_ANSWER,
            Reach::Answers => ANSWER,
        };
        // Credentials and connections are made for everybody.
        if let Err(error) = self.connection.application_autoscaling().await {
            return Keeping::Unknown(error.message);
        }
        let read = timeout(limit, self.read(cluster, service)).await;
        let late = |_| Err(PortError::new(FailureKind::Other, format!("{SERVICE} DescribeScalableTargets: no answer")));
        match read.unwrap_or_else(late) {
            Ok(bounds) => {
                *reach() = Reach::Answers;
                bounds.map_or(Keeping::Nobody, Keeping::Between)
            }
            Err(error) => {
                tracing::warn!(service, %error, "it can't be seen between which sizes the service is kept");
                // Another read of the same refresh may have been answered meanwhile.
                if error.kind != FailureKind::Throttled && !matches!(*reach(), Reach::Answers) {
                    *reach() = Reach::Silent(error.message.clone(), Instant::now());
                }
                Keeping::Unknown(error.message)
            }
        }
    }

    async fn read(&self, cluster: &str, service: &str) -> Result<Option<Bounds>, PortError> {
        let call = self.connection.application_autoscaling().await?.describe_scalable_targets();
        let call = call.service_namespace(ServiceNamespace::Ecs).resource_ids(resource(cluster, service));
        let call = call.scalable_dimension(ScalableDimension::EcsServiceDesiredCount).customize();
        let patience = RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_BACKOFF);
        let answer = call.config_override(Builder::new().retry_config(patience)).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeScalableTargets", &error))?;
        let target = answer.scalable_targets().first();
        Ok(target.map(|target| Bounds { min: target.min_capacity(), max: target.max_capacity() }))
    }

    /// Sets the least size; the rest of what is registered stays: "Any parameters that you don't specify are not changed"
    /// (`RegisterScalableTarget` in the API reference). A service that is out of its bounds is brought into them by the same call.
    pub(super) async fn set_min(&self, cluster: &str, service: &str, min: i32) -> Result<(), PortError> {
        let call = self.connection.application_autoscaling().await?.register_scalable_target();
        let call = call.service_namespace(ServiceNamespace::Ecs).resource_id(resource(cluster, service));
        let call = call.scalable_dimension(ScalableDimension::EcsServiceDesiredCount).min_capacity(min);
        let result = call.send().await;
        result.map(drop).map_err(|error| call_error(SERVICE, "RegisterScalableTarget", &error))
    }
}
