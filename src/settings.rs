//! How to reach AWS, as the provider block says it; what is left out, the default chain of AWS fills in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::argument::{Arguments, Choice, rules};

/// The provider block. Names and meanings are those of the hashicorp/aws provider.
#[derive(Clone, Arguments)]
#[arguments(change = Aside, default)]
pub struct Settings {
    /// The region, such as `eu-central-1`. If omitted, `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile names it.
    pub region: Option<String>,
    /// The profile in the shared configuration files. If omitted, `AWS_PROFILE` names it.
    pub profile: Option<String>,
    /// The access key. Requires `secret_key`. Without it, credentials come from AWS's default chain:
    /// environment variables, the profile, single sign-on, a web identity, the container or the instance.
    pub access_key: Option<String>,
    /// The secret key. Requires `access_key`.
    #[argument(sensitive)]
    pub secret_key: Option<String>,
    /// The session token of temporary credentials, for `access_key` and `secret_key`.
    #[argument(sensitive)]
    pub token: Option<String>,
    /// Shared configuration files.
    #[argument(default_is = "`~/.aws/config`")]
    pub shared_config_files: Vec<String>,
    /// Shared credentials files.
    #[argument(default_is = "`~/.aws/credentials`")]
    pub shared_credentials_files: Vec<String>,
    /// An IAM role to assume.
    pub assume_role: Option<AssumeRole>,
    /// An IAM role to assume with a web identity token.
    #[argument(name = "assume_role_with_web_identity")]
    pub web_identity: Option<WebIdentity>,
    /// Endpoint URLs that replace those of AWS, by service.
    pub endpoints: Endpoints,
    /// An endpoint URL for all services. If omitted, `AWS_ENDPOINT_URL` names it.
    #[argument(text = rules::endpoint)]
    pub endpoint_url: Option<String>,
    /// The number of retries of a call. If omitted, `AWS_MAX_ATTEMPTS` or `max_attempts` in the profile names one more. A host
    /// that never took a connection is given up after 8 attempts.
    #[argument(range = 0..=1000, default_is = "`24`")]
    pub max_retries: Option<u32>,
    /// How calls are retried: `standard` is back-off with jitter; `adaptive` also holds calls back after AWS throttled one, for
    /// about 20 seconds each. If omitted, `AWS_RETRY_MODE` or the profile names it.
    #[argument(default_is = "`standard`")]
    pub retry_mode: Option<RetryMode>,
    /// Tags for everything that is made.
    pub default_tags: DefaultTags,
    /// The only accounts to work in. Conflicts with `forbidden_account_ids`.
    pub allowed_account_ids: Vec<String>,
    /// Accounts never to work in. Conflicts with `allowed_account_ids`.
    pub forbidden_account_ids: Vec<String>,
    /// Accepted for configurations that are shared with `hashicorp/aws`: credentials are never validated in advance.
    #[argument(default = false)]
    pub skip_credentials_validation: bool,
    /// Accepted for configurations that are shared with `hashicorp/aws`: the account ID is asked for only with
    /// `allowed_account_ids` or `forbidden_account_ids`, with which `true` conflicts.
    #[argument(default = false)]
    pub skip_requesting_account_id: bool,
    /// A PEM file with further certificate authorities. If omitted, `AWS_CA_BUNDLE` or `ca_bundle` in the profile names
    /// it.
    pub custom_ca_bundle: Option<String>,
    /// The proxy for HTTP, `""` for none, and for HTTPS where neither `https_proxy` nor `HTTPS_PROXY` names one. If omitted,
    /// `HTTP_PROXY` names it. This machine (`localhost`, loopback addresses) and the link-local addresses that hand out
    /// credentials are never reached through a proxy.
    #[argument(sensitive, text = rules::proxy)]
    pub http_proxy: Option<String>,
    /// The proxy for HTTPS; `""` for none. If omitted, `HTTPS_PROXY` names it.
    #[argument(sensitive, text = rules::proxy)]
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas: names (with all names below them), addresses and networks,
    /// each with a port if need be; `*` for all. If omitted, `NO_PROXY` names them.
    pub no_proxy: Option<String>,
    /// Whether any TLS certificate is accepted. For tests.
    #[argument(default = false)]
    pub insecure: bool,
    /// Whether FIPS endpoints are used. If omitted, `AWS_USE_FIPS_ENDPOINT` or the profile decides.
    pub use_fips_endpoint: Option<bool>,
    /// Whether dual-stack endpoints are used. If omitted, `AWS_USE_DUALSTACK_ENDPOINT` or the profile decides.
    pub use_dualstack_endpoint: Option<bool>,
}

impl fmt::Debug for Settings {
    /// Without anything secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("region", &self.region).field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// A role to assume.
#[derive(Clone, Debug, Default, Arguments)]
#[arguments(change = Aside)]
pub struct AssumeRole {
    /// The ARN of the role.
    #[argument(required)]
    pub role_arn: String,
    /// The name of the session: 2 to 64 letters, digits and `_ = , . @ + -`.
    #[argument(text = session_name)]
    pub session_name: Option<String>,
    /// The external ID that the trust policy of the role asks for.
    #[argument(text = external_id)]
    pub external_id: Option<String>,
    /// The duration of a session, such as `1h`.
    #[argument(lasting = "15m"..="12h")]
    pub duration: Option<Duration>,
}

/// A role to assume with a token of an identity provider.
#[derive(Clone, Default, Arguments)]
#[arguments(change = Aside)]
pub struct WebIdentity {
    /// The ARN of the role.
    #[argument(required)]
    pub role_arn: String,
    /// The name of the session: 2 to 64 letters, digits and `_ = , . @ + -`.
    #[argument(text = session_name)]
    pub session_name: Option<String>,
    /// The token of the identity provider. Exactly one of `web_identity_token` and `web_identity_token_file` is required.
    #[argument(name = "web_identity_token", sensitive)]
    pub token: Option<String>,
    /// A file with the token, which is read whenever it is needed. Exactly one of `web_identity_token` and
    /// `web_identity_token_file` is required.
    #[argument(name = "web_identity_token_file")]
    pub token_file: Option<String>,
    /// The duration of a session, such as `1h`: how long a rollout can be carried out with a token that is not renewed.
    #[argument(lasting = "15m"..="12h")]
    pub duration: Option<Duration>,
}

/// Tags for everything that is made.
#[derive(Clone, Debug, Default, Arguments)]
#[arguments(change = Aside)]
pub struct DefaultTags {
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

/// Endpoint URLs that replace those of AWS, by service.
#[derive(Clone, Debug, Default, Arguments)]
#[arguments(change = Aside)]
pub struct Endpoints {
    /// The endpoint for Application Auto Scaling.
    #[argument(text = rules::endpoint)]
    pub applicationautoscaling: Option<String>,
    /// The endpoint for Auto Scaling.
    #[argument(text = rules::endpoint)]
    pub autoscaling: Option<String>,
    /// The endpoint for CloudWatch.
    #[argument(text = rules::endpoint)]
    pub cloudwatch: Option<String>,
    /// The endpoint for EC2.
    #[argument(text = rules::endpoint)]
    pub ec2: Option<String>,
    /// The endpoint for ECS.
    #[argument(text = rules::endpoint)]
    pub ecs: Option<String>,
    /// The endpoint for Elastic Load Balancing.
    #[argument(text = rules::endpoint)]
    pub elbv2: Option<String>,
    /// The endpoint for Lambda.
    #[argument(text = rules::endpoint)]
    pub lambda: Option<String>,
    /// The endpoint for SNS.
    #[argument(text = rules::endpoint)]
    pub sns: Option<String>,
    /// The endpoint for Systems Manager.
    #[argument(text = rules::endpoint)]
    pub ssm: Option<String>,
    /// The endpoint for STS.
    #[argument(text = rules::endpoint)]
    pub sts: Option<String>,
}

impl Endpoints {
    /// Each of them.
    pub fn all(&self) -> [&Option<String>; 10] {
        // One that is forgotten here would keep a password in its address unmasked.
        let Self { applicationautoscaling, autoscaling, cloudwatch, ec2, ecs, elbv2, lambda, sns, ssm, sts } = self;
        [applicationautoscaling, autoscaling, cloudwatch, ec2, ecs, elbv2, lambda, sns, ssm, sts]
    }
}

/// How calls are retried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Choice)]
pub enum RetryMode {
    /// Back-off with jitter.
    #[default]
    Standard,
    /// The same, and fewer calls after AWS throttled one.
    Adaptive,
}

/// As AssumeRole has it.
fn session_name(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_=,.@+-".contains(c);
    if text.is_empty() || (2..=64).contains(&text.len()) && text.chars().all(fits) {
        return Ok(());
    }
    Err(format!("{text:?} must have 2 to 64 characters: letters, digits and _ = , . @ + -"))
}

/// As AssumeRole has it.
fn external_id(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_=,.@:/+-".contains(c);
    if text.is_empty() || (2..=1224).contains(&text.len()) && text.chars().all(fits) {
        return Ok(());
    }
    Err("must have 2 to 1224 characters: letters, digits and _ = , . @ : / + -".to_owned())
}
