//! What the scenarios, the demo and the benchmarks share: a stage with a load balancer, and a real terraform.

pub mod client;
pub mod database;
pub mod load;
pub mod servers;
pub mod shell;
pub mod stage;
pub mod stub;
pub mod terraform;
pub mod wire;
