//! Application Auto Scaling: between which sizes it keeps ECS services.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_applicationautoscaling::config::Builder;
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ServiceNamespace};
use aws_smithy_types::retry::RetryConfig;

use super::connection::Connection;
use super::error::call_error;
use crate::run::ports::PortError;

const SERVICE: &str = "application-autoscaling";
/// Whoever keeps no service this way may have no way to ask, or not be allowed to: it is not asked for long.
const ATTEMPTS: u32 = 4;

/// Between which sizes a service is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub min: i32,
    pub max: i32,
}

/// Application Auto Scaling in one account and region.
pub(super) struct ApplicationAutoScaling {
    connection: Arc<Connection>,
    unseen: Mutex<Option<String>>,
}

/// What it calls a service: `service/<cluster>/<name>`.
fn resource(cluster: &str, service: &str) -> String {
    let name = service.rsplit('/').next().unwrap_or(service);
    format!("service/{cluster}/{name}")
}

impl ApplicationAutoScaling {
    pub(super) fn new(connection: Arc<Connection>) -> ApplicationAutoScaling {
        ApplicationAutoScaling { connection, unseen: Mutex::default() }
    }

    /// Why it could not be seen between which sizes a service is kept, when that was asked last.
    pub(super) fn unseen(&self) -> Option<String> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Between which sizes a service is kept; none where it isn't, or where that can't be seen.
    pub(super) async fn bounds(&self, cluster: &str, service: &str) -> Option<Bounds> {
        let read = self.read(cluster, service).await;
        let unseen = read.as_ref().err().map(ToString::to_string);
        if let Some(why) = &unseen {
            tracing::warn!(service, why, "it can't be seen between which sizes the service is kept");
        }
        *self.unseen.lock().unwrap_or_else(PoisonError::into_inner) = unseen;
        read.ok().flatten()
    }

    async fn read(&self, cluster: &str, service: &str) -> Result<Option<Bounds>, PortError> {
        let call = self.connection.application_autoscaling().await?.describe_scalable_targets();
        let call = call.service_namespace(ServiceNamespace::Ecs).resource_ids(resource(cluster, service));
        let call = call.scalable_dimension(ScalableDimension::EcsServiceDesiredCount).customize();
        let patience = Builder::new().retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        let answer = call.config_override(patience).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeScalableTargets", &error))?;
        let target = answer.scalable_targets().first();
        Ok(target.map(|target| Bounds { min: target.min_capacity(), max: target.max_capacity() }))
    }

    /// Sets the least size; the rest of what is registered stays: "Any parameters that you don't specify are not changed"
    /// (`RegisterScalableTarget` in the API reference).
    pub(super) async fn set_min(&self, cluster: &str, service: &str, min: i32) -> Result<(), PortError> {
        let call = self.connection.application_autoscaling().await?.register_scalable_target();
        let call = call.service_namespace(ServiceNamespace::Ecs).resource_id(resource(cluster, service));
        let call = call.scalable_dimension(ScalableDimension::EcsServiceDesiredCount).min_capacity(min);
        let result = call.send().await;
        result.map(drop).map_err(|error| call_error(SERVICE, "RegisterScalableTarget", &error))
    }
}
