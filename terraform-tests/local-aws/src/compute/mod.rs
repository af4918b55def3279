//! What runs behind the load balancers: instances of Auto Scaling groups and tasks of ECS services, as small applications.

pub mod app;
pub(crate) mod autoscaling;
mod describe;
pub(crate) mod ec2;
pub(crate) mod ecs;
mod ecs_model;
pub(crate) mod hosts;
pub(crate) mod instance_refresh;
pub(crate) mod instances;
