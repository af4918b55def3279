//! Effects: carries out what was decided, through ports. One room for each domain; what they share is here.

pub mod absence;
pub mod call;
pub(crate) mod holder;
pub mod migration;
pub mod ports;
pub mod rollout;
pub mod stack;
