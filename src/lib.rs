//! Blue-green releases on AWS as a Terraform provider.
//!
//! - [`tf_provider`]: Terraform's plugin protocol; knows nothing of blue and green.
//! - [`rollout`]: how traffic moves, decided without doing: pure and synchronous.
//! - [`migration`]: what of a database's change of schema is to be run: pure and synchronous.
//! - [`stack`]: what one color is made of and what must change to make it so: pure and synchronous.
//! - [`run`]: carries out what was decided, through ports.
//! - [`aws`]: the ports on AWS.
//! - [`database`]: databases behind the ports, for migrations.
//! - [`resource`]: what users write, one file or folder for each resource and for the provider block.
//! - [`platform`]: what is to be known of the platform, and everything behind the ports.
//! - [`process`]: commands of the user's behind their port.
//! - [`compose`]: which adapters are behind the ports.
//! - [`settings`]: the provider block.
//! - [`network`]: requests as the provider block wants them.
//! - [`secrets`]: what was told in confidence, and texts without it.
//! - [`variables`]: the environment of this process.
//! - [`argument`]: what is known of an argument, declared once, at the field that holds it.
//! - [`arn`]: the shapes of ARNs.
//! - [`shell`]: commands of the AWS CLI that a person pastes.
//! - [`cancel`]: the stop signal of a run.
//! - [`clock`]: the only place that asks the machine for the time.

pub mod argument;
pub mod arn;
pub mod aws;
pub mod cancel;
pub mod clock;
pub mod compose;
pub mod database;
mod digest;
mod duration;
mod home;
pub mod migration;
pub mod network;
pub mod platform;
pub mod process;
pub mod resource;
pub mod rollout;
pub mod run;
pub mod secrets;
pub mod settings;
pub mod shell;
pub mod stack;
pub mod tf_provider;
pub mod variables;

#[cfg(test)]
mod tidy;
