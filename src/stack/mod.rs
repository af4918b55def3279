//! What one colour's stack is made of, and what must change to make it so: pure and synchronous, like [`crate::rollout`].
//!
//! A [`Spec`] is the wish, in the shape of the configuration, or what was seen, in the same shape. [`changes`] compares
//! two of them and says what must be done, in order, in words, and whether it would hurt a colour that serves users.
//! [`live`] reads off the load balancer whether it does. [`mirror`] is what both colours must have in common.

mod changes;
mod live;
mod mirror;
mod names;
mod rules;
mod spec;
mod tags;
mod task_definition;

#[cfg(test)]
mod tests;

pub use changes::{Change, Part, changes, replaced};
pub use live::{Lead, leads, nobody};
pub use mirror::{differences, mirror};
pub use names::name;
pub use rules::{Direction, Peer, Rule, rules};
pub use spec::{
    BlockDevice, CapacityProvider, CircuitBreaker, Counts, GroupHealth, HealthCheck, InstanceRefresh, Instances,
    MetadataOptions, SecurityRule, Service, Spec, Stickiness, Target, TargetGroup,
};
pub use tags::{COLOR_TAG, PREVIEW_TAG, RELEASE_TAG, TAG, is_preview, preview_tag, tags};
pub use task_definition::{TaskDefinition, equal as same_task};
