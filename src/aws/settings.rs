//! How to reach AWS, as the provider block says it; what is left out, the default chain of AWS fills in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The provider block. Names and meanings are those of the hashicorp/aws provider.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "documented where users read it: in the provider's schema")]
pub struct Settings {
    pub region: Option<String>,
    pub profile: Option<String>,
    pub access_key: Option<String>,
    pub secret_key: Option<String>,
    pub token: Option<String>,
    pub shared_config_files: Vec<String>,
    pub shared_credentials_files: Vec<String>,
    pub assume_role: Option<AssumeRole>,
    pub web_identity: Option<WebIdentity>,
    pub endpoints: Endpoints,
    pub endpoint_url: Option<String>,
    pub max_retries: Option<u32>,
    pub retry_mode: Option<RetryMode>,
    pub default_tags: BTreeMap<String, String>,
    pub allowed_account_ids: Vec<String>,
    pub forbidden_account_ids: Vec<String>,
    pub skip_requesting_account_id: bool,
    pub custom_ca_bundle: Option<String>,
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    pub no_proxy: Option<String>,
    pub insecure: bool,
    pub use_fips_endpoint: Option<bool>,
    pub use_dualstack_endpoint: Option<bool>,
}

impl fmt::Debug for Settings {
    /// Without anything secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("region", &self.region).field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// A role to take on.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "documented where users read it: in the provider's schema")]
pub struct AssumeRole {
    pub role_arn: String,
    pub session_name: Option<String>,
    pub external_id: Option<String>,
    pub duration: Option<Duration>,
}

/// A role to take on with a token of an identity provider.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "documented where users read it: in the provider's schema")]
pub struct WebIdentity {
    pub role_arn: String,
    pub session_name: Option<String>,
    pub token: Option<String>,
    pub token_file: Option<String>,
}

/// Addresses that replace AWS's own, by service.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names of the services")]
pub struct Endpoints {
    pub autoscaling: Option<String>,
    pub cloudwatch: Option<String>,
    pub ec2: Option<String>,
    pub ecs: Option<String>,
    pub elbv2: Option<String>,
    pub lambda: Option<String>,
    pub sns: Option<String>,
    pub ssm: Option<String>,
    pub sts: Option<String>,
}

impl Endpoints {
    /// Each of them.
    pub fn all(&self) -> [&Option<String>; 9] {
        [
            &self.autoscaling,
            &self.cloudwatch,
            &self.ec2,
            &self.ecs,
            &self.elbv2,
            &self.lambda,
            &self.sns,
            &self.ssm,
            &self.sts,
        ]
    }
}

/// How calls are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryMode {
    /// Back-off with jitter.
    Standard,
    /// The same, and fewer calls after AWS said "too many".
    Adaptive,
}
