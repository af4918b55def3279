//! The nodes of the load balancers: what they are told, whom they check, where they lead requests.

pub(crate) mod checker;
pub(crate) mod choice;
pub(crate) mod config;
pub(crate) mod converge;
pub(crate) mod data_plane;
pub(crate) mod health;
pub(crate) mod pattern;
pub(crate) mod proxy;
pub(crate) mod routing;
pub(crate) mod target_groups;
pub(crate) mod target_health;
