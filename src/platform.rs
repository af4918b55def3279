//! The platform that the provider block describes, as all domains need it, and what is made of it to carry things out.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::run::migration::ports::Databases;
use crate::run::ports::PortError;
use crate::run::rollout::ports::Ports;
use crate::run::stack::ports::StackPorts;
use crate::settings::Settings;

/// How long the credentials last that calls are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// They have no end, or are renewed before it.
    Renewed,
    /// They end then.
    Until(SystemTime, Renewal),
    /// They are temporary, and nothing tells until when.
    Unknown,
}

/// What may make credentials last longer than it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Nothing.
    Never,
    /// Somebody who writes the token in this file anew.
    ByFile(String),
}

/// What is to be known of the platform itself.
#[async_trait]
pub trait Platform: Send + Sync {
    /// What was configured; none while some of it is not known, when nothing can be reached.
    fn settings(&self) -> Option<&Settings>;

    /// The region that is named, by the resource, the provider block, the environment or the profile, without asking anybody.
    async fn region(&self) -> Option<String>;

    /// The region that calls go to.
    ///
    /// # Errors
    /// Why there is none.
    async fn region_in_use(&self) -> Result<String, PortError>;

    /// The profile that is named explicitly, by the provider block or the environment.
    fn profile(&self) -> Option<String>;

    /// A token that a database takes for a password.
    ///
    /// # Errors
    /// Why there is none.
    async fn database_token(&self, host: &str, port: u16, user: &str) -> Result<String, PortError>;

    /// How long calls can be signed.
    ///
    /// # Errors
    /// Why there are no credentials.
    async fn lifetime(&self) -> Result<Lifetime, PortError>;

    /// Whether the provider's configuration is known.
    fn is_known(&self) -> bool {
        self.settings().is_some()
    }
}

/// Everything behind the ports.
pub struct Adapters {
    /// The platform itself.
    pub platform: Arc<dyn Platform>,
    /// What rollouts need.
    pub ports: Ports,
    /// What stacks need.
    pub stacks: StackPorts,
    /// What migrations need.
    pub databases: Arc<dyn Databases>,
}

/// The adapters of each region. Nothing is on the network before one of them is used.
pub trait Regions: Send + Sync {
    /// Of the provider's own region.
    fn home(&self) -> Adapters;

    /// Of another one, with the same credentials.
    fn elsewhere(&self, region: &str) -> Adapters;
}

/// Makes the adapters for a provider block.
pub type Compose = fn(Option<Settings>) -> Box<dyn Regions>;
