//! Blue-green releases on AWS as a Terraform provider.
//!
//! - [`tf_provider`]: Terraform's plugin protocol; knows nothing of blue and green.
//! - [`rollout`]: how traffic moves, decided without doing: pure and synchronous.
//! - [`clock`]: the only place that asks the machine for the time.

pub mod clock;
pub mod rollout;
pub mod tf_provider;
