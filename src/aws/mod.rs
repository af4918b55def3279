//! AWS behind the ports: the only room that knows the SDK. One file per service.

mod application_autoscaling;
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
mod lifetime;
mod mixed_instances;
mod rds;
mod sns;
mod ssm;
mod target_groups;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_config::Region;

pub use connection::Connection;
pub use elbv2::Elbv2;

use crate::arn;
use crate::run::rollout::ports::{Commands, HttpProbe, Ports};
use crate::run::stack::ports::StackPorts;

/// The ports of rollouts on AWS, and those that aren't AWS's. Nothing is on the network before one of them is used.
pub fn ports(connection: &Arc<Connection>, http: Arc<dyn HttpProbe>, commands: Arc<dyn Commands>) -> Ports {
    Ports {
        load_balancer: Arc::new(Elbv2::new(connection.clone())),
        records: Arc::new(ssm::Ssm::new(connection.clone())),
        capacities: Arc::new(capacities::Sizes::new(connection)),
        http,
        functions: Arc::new(lambda::Lambda::new(connection.clone())),
        commands,
        monitoring: Arc::new(cloudwatch::CloudWatch::new(connection.clone())),
        notifier: Arc::new(sns::Sns::new(connection.clone())),
    }
}

/// What environments are made of, on AWS.
pub fn stack_ports(connection: &Arc<Connection>) -> StackPorts {
    let ec2 = Arc::new(ec2::Ec2::new(connection.clone()));
    StackPorts {
        target_groups: Arc::new(target_groups::TargetGroups::new(connection.clone())),
        security_groups: ec2.clone(),
        launch_templates: ec2,
        autoscaling: Arc::new(autoscaling::AutoScaling::new(connection.clone())),
        ecs: Arc::new(ecs::Ecs::new(connection.clone())),
    }
}

/// The region that an ARN names: a call of some services is to go there, wherever other calls go.
fn region_of(text: &str) -> Option<Region> {
    arn::region(text).map(|region| Region::new(region.to_owned()))
}

/// A short name for a text: the same text has the same one.
fn digest(text: &str) -> String {
    crate::digest::sha256(text)[..32].to_owned()
}
