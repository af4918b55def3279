//! AWS behind the ports: the only room that knows the SDK. One file per service.

mod attempts;
mod autoscaling;
mod batch;
mod capacities;
mod cloudwatch;
mod connection;
mod ec2;
mod ecs;
mod elbv2;
mod error;
mod group_attributes;
mod http;
mod identity;
mod lambda;
mod probe;
mod rds;
mod settings;
mod sns;
mod ssm;
mod target_groups;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use autoscaling::{AutoScaling, Refresh, RefreshState, SeenScalingGroup};
pub use connection::Connection;
pub use ec2::{Ec2, Rules, SeenSecurityGroup, SeenTemplate, VersionOf};
pub use ecs::{Deployment, Ecs, Rollout, SeenService, cluster_of};
pub use elbv2::Elbv2;
pub use settings::{AssumeRole, Endpoints, RetryMode, Settings, WebIdentity};
pub use target_groups::{SeenGroup, TargetGroups};

use crate::run::command::Processes;
use crate::run::ports::Ports;

/// The ports on AWS. Nothing is on the network before one of them is used.
pub fn ports(connection: &Arc<Connection>) -> Ports {
    Ports {
        load_balancer: Arc::new(Elbv2::new(connection.clone())),
        records: Arc::new(ssm::Ssm::new(connection.clone())),
        capacities: Arc::new(capacities::Sizes::new(connection)),
        http: Arc::new(probe::Probe::new(connection.clone())),
        functions: Arc::new(lambda::Lambda::new(connection.clone())),
        commands: Arc::new(Processes),
        monitoring: Arc::new(cloudwatch::CloudWatch::new(connection.clone())),
        notifier: Arc::new(sns::Sns::new(connection.clone())),
    }
}

/// The services that environments are made of.
pub struct Services {
    /// Target groups.
    pub target_groups: TargetGroups,
    /// Security groups and launch templates.
    pub ec2: Ec2,
    /// Auto Scaling groups.
    pub autoscaling: AutoScaling,
    /// ECS services.
    pub ecs: Ecs,
    /// Held while routes are read, changed and written back outside of a rollout.
    pub routes: tokio::sync::Mutex<()>,
}

impl Services {
    /// Nothing is on the network before one of them is used.
    pub fn new(connection: &Arc<Connection>) -> Services {
        Services {
            target_groups: TargetGroups::new(connection.clone()),
            ec2: Ec2::new(connection.clone()),
            autoscaling: AutoScaling::new(connection.clone()),
            ecs: Ecs::new(connection.clone()),
            routes: tokio::sync::Mutex::default(),
        }
    }
}

/// A short name for a text: the same text has the same one.
fn digest(text: &str) -> String {
    crate::digest::sha256(text)[..32].to_owned()
}
