//! The shared way to AWS: configured when it is first used, then kept.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::meta::region::ProvideRegion as _;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig, profile};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_runtime::env_config::file::{EnvConfigFileKind as ProfileFileKind, EnvConfigFiles as ProfileFiles};
use aws_sdk_applicationautoscaling::operation::register_scalable_target::RegisterScalableTargetError;
use aws_sdk_autoscaling::operation::update_auto_scaling_group::UpdateAutoScalingGroupError;
use aws_sdk_ssm::operation::add_tags_to_resource::AddTagsToResourceError;
use aws_sdk_ssm::operation::put_parameter::PutParameterError;
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use aws_types::os_shim_internal::{Env, Fs};
use tokio::sync::OnceCell;

use super::attempts::{Attempts, Presence};
use super::error::call_error;
use super::http::SdkHttp;
use super::identity::{AssumedRole, Confidential, WebIdentityRole};
use super::lifetime::{Identity, Origin, Seen, TOKEN_FILE};
use crate::home;
use crate::network::chain;
use crate::platform::{Lifetime, Platform};
use crate::run::ports::{FailureKind, PortError};
use crate::secrets::{self, Reach};
use crate::settings::{RetryMode, Settings};

/// AWS's control planes answer within a second or two; a connection that is silent for longer is dead.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// Shorter than the SDK's second: a way back shall not wait for a hiccup. It doubles each time, up to 20 s, with jitter.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// AWS, as the provider block describes it, in one region.
#[derive(Debug)]
pub struct Connection {
    settings: Option<Settings>,
    /// The region, where it is another one than the provider's.
    elsewhere: Option<String>,
    /// What all regions share.
    shared: Arc<OfAllRegions>,
    clients: OnceCell<Clients>,
}

/// What connections of one provider block find out once.
#[derive(Debug, Default)]
struct OfAllRegions {
    /// The provider's own region, where block, environment or profile name it.
    named: OnceCell<Option<String>>,
    /// The region that the instance knows on which this runs.
    told: OnceCell<Option<String>>,
    base: OnceCell<Base>,
}

/// What calls are signed with, in whichever region.
#[derive(Debug)]
struct Base {
    config: SdkConfig,
    identity: Identity,
}

#[derive(Debug)]
struct Clients {
    config: SdkConfig,
    application_autoscaling: aws_sdk_applicationautoscaling::Client,
    autoscaling: aws_sdk_autoscaling::Client,
    cloudwatch: aws_sdk_cloudwatch::Client,
    ec2: aws_sdk_ec2::Client,
    ecs: aws_sdk_ecs::Client,
    elbv2: aws_sdk_elasticloadbalancingv2::Client,
    lambda: aws_sdk_lambda::Client,
    sns: aws_sdk_sns::Client,
    ssm: aws_sdk_ssm::Client,
}

impl Connection {
    /// A connection that is made when it is needed. Without settings, since some of them are not known while
    /// planning, every use is an error.
    pub fn new(settings: Option<Settings>) -> Connection {
        Connection { settings, elsewhere: None, shared: Arc::default(), clients: OnceCell::new() }
    }

    /// The same account and credentials in another region.
    pub fn elsewhere(&self, region: &str) -> Connection {
        let (settings, shared) = (self.settings.clone(), self.shared.clone());
        Connection { settings, elsewhere: Some(region.to_owned()), shared, clients: OnceCell::new() }
    }

    pub(super) async fn elbv2(&self) -> Result<&aws_sdk_elasticloadbalancingv2::Client, PortError> {
        Ok(&self.clients().await?.elbv2)
    }

    pub(super) async fn application_autoscaling(&self) -> Result<&aws_sdk_applicationautoscaling::Client, PortError> {
        Ok(&self.clients().await?.application_autoscaling)
    }

    pub(super) async fn autoscaling(&self) -> Result<&aws_sdk_autoscaling::Client, PortError> {
        Ok(&self.clients().await?.autoscaling)
    }

    pub(super) async fn ec2(&self) -> Result<&aws_sdk_ec2::Client, PortError> {
        Ok(&self.clients().await?.ec2)
    }

    pub(super) async fn ecs(&self) -> Result<&aws_sdk_ecs::Client, PortError> {
        Ok(&self.clients().await?.ecs)
    }

    pub(super) async fn ssm(&self) -> Result<&aws_sdk_ssm::Client, PortError> {
        Ok(&self.clients().await?.ssm)
    }

    pub(super) async fn cloudwatch(&self) -> Result<&aws_sdk_cloudwatch::Client, PortError> {
        Ok(&self.clients().await?.cloudwatch)
    }

    pub(super) async fn lambda(&self) -> Result<&aws_sdk_lambda::Client, PortError> {
        Ok(&self.clients().await?.lambda)
    }

    pub(super) async fn sns(&self) -> Result<&aws_sdk_sns::Client, PortError> {
        Ok(&self.clients().await?.sns)
    }

    /// What the clients sign their calls with, and the region.
    pub(super) async fn credentials(&self) -> Result<(SharedCredentialsProvider, String), PortError> {
        let config = &self.clients().await?.config;
        let none = || PortError::new(FailureKind::Denied, "there are no AWS credentials");
        let region = config.region().map(ToString::to_string).unwrap_or_default();
        Ok((config.credentials_provider().ok_or_else(none)?, region))
    }

    async fn clients(&self) -> Result<&Clients, PortError> {
        self.clients.get_or_try_init(|| self.connect()).await
    }

    fn known_settings(&self) -> Result<&Settings, PortError> {
        let unknown = || PortError::new(FailureKind::Other, "the provider's configuration is not known yet");
        self.settings.as_ref().ok_or_else(unknown)
    }

    /// The provider's own region, without asking anybody. While some of the block isn't known, it may name another one than the
    /// environment does.
    async fn named(&self) -> Option<&str> {
        let settings = self.settings.as_ref()?;
        let name = || async {
            let environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(variable);
            match settings.region.clone().or_else(environment) {
                None => in_profile(settings).await,
                explicit => explicit,
            }
        };
        self.shared.named.get_or_init(name).await.as_deref()
    }

    async fn base(&self) -> Result<&Base, PortError> {
        let load = || async {
            let settings = self.known_settings()?;
            // Who a role is assumed by is asked in some region, whichever the calls go to.
            let region = match self.named().await {
                Some(region) => region.to_owned(),
                None => self.region_in_use().await?,
            };
            let base = load(settings, region).await.map_err(|why| PortError::new(FailureKind::Other, why))?;
            check_account(settings, &base.config).await?;
            Ok(base)
        };
        self.shared.base.get_or_try_init(load).await
    }

    async fn connect(&self) -> Result<Clients, PortError> {
        let region = self.region_in_use().await?;
        let config = self.base().await?.config.clone().into_builder().region(Region::new(region)).build();
        let endpoints = &self.known_settings()?.endpoints;
        // Each SDK crate has a builder type of its own, so this can't be a function.
        macro_rules! client {
            ($sdk:ident, $endpoint:expr) => {{
                let builder = $sdk::config::Builder::from(&config).retry_partition(retries());
                let builder = builder.interceptor(Attempts).interceptor(Presence);
                $endpoint.iter().fold(builder, |builder, url| builder.endpoint_url(url))
            }};
        }
        let ssm = client!(aws_sdk_ssm, endpoints.ssm).retry_classifier(ConcurrentWrites);
        let application = client!(aws_sdk_applicationautoscaling, endpoints.applicationautoscaling);
        let application = application.retry_classifier(ConcurrentWrites);
        let autoscaling = client!(aws_sdk_autoscaling, endpoints.autoscaling).retry_classifier(ConcurrentWrites);
        let cloudwatch = client!(aws_sdk_cloudwatch, endpoints.cloudwatch);
        let lambda = client!(aws_sdk_lambda, endpoints.lambda);
        let sns = client!(aws_sdk_sns, endpoints.sns);
        let ecs = client!(aws_sdk_ecs, endpoints.ecs);
        let elbv2 = client!(aws_sdk_elasticloadbalancingv2, endpoints.elbv2);
        Ok(Clients {
            config: config.clone(),
            application_autoscaling: aws_sdk_applicationautoscaling::Client::from_conf(application.build()),
            autoscaling: aws_sdk_autoscaling::Client::from_conf(autoscaling.build()),
            cloudwatch: aws_sdk_cloudwatch::Client::from_conf(cloudwatch.build()),
            ec2: aws_sdk_ec2::Client::from_conf(client!(aws_sdk_ec2, endpoints.ec2).build()),
            ecs: aws_sdk_ecs::Client::from_conf(ecs.build()),
            elbv2: aws_sdk_elasticloadbalancingv2::Client::from_conf(elbv2.build()),
            lambda: aws_sdk_lambda::Client::from_conf(lambda.build()),
            sns: aws_sdk_sns::Client::from_conf(sns.build()),
            ssm: aws_sdk_ssm::Client::from_conf(ssm.build()),
        })
    }
}

#[async_trait]
impl Platform for Connection {
    fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    async fn region(&self) -> Option<String> {
        match &self.elsewhere {
            None => self.named().await.map(str::to_owned),
            region => region.clone(),
        }
    }

    async fn region_in_use(&self) -> Result<String, PortError> {
        if let Some(region) = self.region().await {
            return Ok(region);
        }
        let settings = self.known_settings()?;
        let ask = || async {
            let config = loader(settings)?.load().await;
            Ok(config.region().map(ToString::to_string).filter(|region| !region.is_empty()))
        };
        let told = self.shared.told.get_or_try_init(ask).await;
        let told = told.map_err(|why: String| PortError::new(FailureKind::Other, why))?;
        let none = "no region is configured: set region at the resource or in the provider block, AWS_REGION, or region in \
                    the profile";
        told.clone().ok_or_else(|| PortError::new(FailureKind::Other, none))
    }

    fn profile(&self) -> Option<String> {
        let settings = self.settings.as_ref()?;
        let named = || {
            let has_keys = settings.access_key.is_some() || variable("AWS_ACCESS_KEY_ID").is_some();
            variable("AWS_PROFILE").filter(|_| !has_keys)
        };
        settings.profile.clone().or_else(named)
    }

    async fn lifetime(&self) -> Result<Lifetime, PortError> {
        let identity = &self.base().await?.identity;
        if !identity.is_seen() {
            let (provider, _) = self.credentials().await?;
            let denied =
                |error: CredentialsError| PortError::new(FailureKind::Denied, secrets::outside(&chain(&error)));
            provider.provide_credentials().await.map_err(denied)?;
        }
        Ok(identity.lifetime(variable))
    }

    async fn database_token(&self, host: &str, port: u16, user: &str) -> Result<String, PortError> {
        self.token_for_database(host, port, user).await
    }
}

/// Who asks, and how; a role is assumed in this region.
async fn load(settings: &Settings, region: String) -> Result<Base, String> {
    let (settings, token_file) = with_profile(settings, variable).await;
    let settings = &settings;
    let mut config = loader(settings)?.region(Region::new(region)).load().await;
    let is_own = settings.access_key.is_some() && settings.secret_key.is_some();
    let origin = if is_own { Origin::Keys } else { Origin::Chain };
    let mut identity = Identity { origin, seen: Arc::default(), token_file, role: None };
    // A role is asked for with these: what STS says of it may hold them.
    if let Some(credentials) = config.credentials_provider() {
        config = with_credentials(config, credentials, &identity.seen);
    }
    if let Some(token) = std::env::var(TOKEN_FILE).ok().and_then(|path| std::fs::read_to_string(path).ok()) {
        secrets::learn([token.trim()], Reach::Everywhere);
    }
    if let Some(web) = &settings.web_identity {
        let role = WebIdentityRole::new(web.clone(), sts(settings, &config));
        identity = Identity {
            origin: Origin::Token { text: web.token.clone(), file: web.token_file.clone() },
            seen: Arc::default(),
            token_file: None,
            role: None,
        };
        config = with_credentials(config, role, &identity.seen);
    }
    if let Some(role) = &settings.assume_role {
        let role = AssumedRole::new(role.clone(), sts(settings, &config));
        config = with_credentials(config, role, identity.role.insert(Arc::default()));
    }
    Ok(Base { config, identity })
}

/// Everything that is configured but the roles to assume.
fn loader(settings: &Settings) -> Result<ConfigLoader, String> {
    // Like hashicorp/aws: with back-off up to 20 s it outlasts a long spell of throttling.
    let attempts = settings.max_retries.unwrap_or(24).saturating_add(1);
    // The SDK's adaptive mode holds every call back for about 20 s after a single "too many", also on the way back
    // (measured: a switch with each call throttled twice takes 107 s, and 4 s in standard mode). So it is for those who
    // ask for it.
    let retry = match settings.retry_mode {
        Some(RetryMode::Adaptive) => RetryConfig::adaptive(),
        Some(RetryMode::Standard) | None => RetryConfig::standard(),
    };
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(ATTEMPT_TIMEOUT);
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(SdkHttp::new(settings, CONNECT_TIMEOUT)?)
        .retry_config(retry.with_max_attempts(attempts).with_initial_backoff(FIRST_BACKOFF))
        .timeout_config(timeouts.build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(files) = profile_files(settings) {
        loader = loader.profile_files(files);
    }
    if let (Some(key), Some(secret)) = (&settings.access_key, &settings.secret_key) {
        loader = loader.credentials_provider(Credentials::new(key, secret, settings.token.clone(), None, "provider"));
    }
    if let Some(url) = &settings.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    if let Some(fips) = settings.use_fips_endpoint {
        loader = loader.use_fips(fips);
    }
    if let Some(dual_stack) = settings.use_dualstack_endpoint {
        loader = loader.use_dual_stack(dual_stack);
    }
    Ok(loader)
}

fn with_credentials(config: SdkConfig, provider: impl ProvideCredentials + 'static, seen: &Arc<Seen>) -> SdkConfig {
    let provider = Confidential { provider, seen: seen.clone() };
    config.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}

/// An environment variable; an empty one is none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The settings with what the environment and the profile say of retries and certificate authorities, where the provider block
/// says nothing: our own client and our own number of retries take the place of the SDK's, which would read them.
///
/// And the file with a web identity's token, where the profile names one.
async fn with_profile(settings: &Settings, variable: impl Fn(&str) -> Option<String>) -> (Settings, Option<String>) {
    let files = profile_files(settings).unwrap_or_default();
    let name = settings.profile.clone().map(Cow::Owned);
    // Files that can't be read are told by whoever needs the credentials in them.
    let profiles = profile::load(&Fs::real(), &Env::real(), &files, name).await.ok();
    let written = |key: &str| profiles.as_ref().and_then(|profiles| profiles.get(key)).map(str::to_owned);
    let said = |name: &str, key: &str| variable(name).or_else(|| written(key));
    let mut settings = settings.clone();
    settings.max_retries = settings.max_retries.or_else(|| {
        let attempts: u32 = said("AWS_MAX_ATTEMPTS", "max_attempts")?.trim().parse().ok()?;
        Some(attempts.saturating_sub(1))
    });
    settings.retry_mode = settings.retry_mode.or_else(|| match said("AWS_RETRY_MODE", "retry_mode")?.trim() {
        "adaptive" => Some(RetryMode::Adaptive),
        "standard" => Some(RetryMode::Standard),
        _ => None,
    });
    // The variable is read where the client is made.
    let is_named = variable("AWS_CA_BUNDLE").is_some();
    settings.custom_ca_bundle = settings.custom_ca_bundle.or_else(|| written("ca_bundle").filter(|_| !is_named));
    (settings, written("web_identity_token_file"))
}

/// The region of the profile, or of the one that it takes its credentials from.
async fn in_profile(settings: &Settings) -> Option<String> {
    let mut provider = ProfileFileRegionProvider::builder();
    if let Some(profile) = &settings.profile {
        provider = provider.profile_name(profile);
    }
    if let Some(files) = profile_files(settings) {
        provider = provider.profile_files(files);
    }
    let region = provider.build().region().await?;
    Some(region.to_string()).filter(|region| !region.is_empty())
}

fn profile_files(settings: &Settings) -> Option<ProfileFiles> {
    if settings.shared_config_files.is_empty() && settings.shared_credentials_files.is_empty() {
        return None;
    }
    let mut files = ProfileFiles::builder();
    files = files.include_default_config_file(settings.shared_config_files.is_empty());
    files = files.include_default_credentials_file(settings.shared_credentials_files.is_empty());
    for path in &settings.shared_config_files {
        files = files.with_file(ProfileFileKind::Config, home::expand(path));
    }
    for path in &settings.shared_credentials_files {
        files = files.with_file(ProfileFileKind::Credentials, home::expand(path));
    }
    Some(files.build())
}

fn sts(settings: &Settings, config: &SdkConfig) -> aws_sdk_sts::Client {
    let builder = aws_sdk_sts::config::Builder::from(config).interceptor(Presence);
    let builder = settings.endpoints.sts.iter().fold(builder, |builder, url| builder.endpoint_url(url));
    aws_sdk_sts::Client::from_conf(builder.build())
}

async fn check_account(settings: &Settings, config: &SdkConfig) -> Result<(), PortError> {
    let (allowed, forbidden) = (&settings.allowed_account_ids, &settings.forbidden_account_ids);
    if settings.skip_requesting_account_id || (allowed.is_empty() && forbidden.is_empty()) {
        return Ok(());
    }
    let identity = sts(settings, config).get_caller_identity().send().await;
    let identity = identity.map_err(|error| call_error("sts", "GetCallerIdentity", &error))?;
    let account = identity.account().unwrap_or_default().to_owned();
    let refused = forbidden.contains(&account) || (!allowed.is_empty() && !allowed.contains(&account));
    if refused {
        let message = format!("the account {account} is not allowed by allowed_account_ids or forbidden_account_ids");
        return Err(PortError::new(FailureKind::Denied, message));
    }
    Ok(())
}

/// The SDK shares a budget of about a hundred repeats among all calls of a service. Ten switches that are throttled
/// together would use it up, and leave none for the way back; the operation's own time is the bound here.
fn retries() -> RetryPartition {
    RetryPartition::custom("bluegreen").token_bucket(TokenBucket::unlimited()).build()
}

/// The words of Parameter Store, Auto Scaling and Application Auto Scaling for two changes at a time, which the SDK doesn't know as
/// transient.
#[derive(Debug)]
struct ConcurrentWrites;

/// An Auto Scaling group that is just changing: from the errors of UpdateAutoScalingGroup.
const GROUP_IS_BUSY: [&str; 2] = ["ResourceContention", "ScalingActivityInProgress"];

impl ClassifyRetry for ConcurrentWrites {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(Result::err).and_then(|error| error.as_operation_error());
        let parameter = error.and_then(|error| error.downcast_ref::<PutParameterError>());
        let tags = error.and_then(|error| error.downcast_ref::<AddTagsToResourceError>());
        let target = error.and_then(|error| error.downcast_ref::<RegisterScalableTargetError>());
        let group = error.and_then(|error| error.downcast_ref::<UpdateAutoScalingGroupError>());
        if parameter.is_some_and(PutParameterError::is_too_many_updates)
            || tags.is_some_and(AddTagsToResourceError::is_too_many_updates)
            || target.is_some_and(RegisterScalableTargetError::is_concurrent_update_exception)
            || group.is_some_and(|error| error.code().is_some_and(|code| GROUP_IS_BUSY.contains(&code)))
        {
            RetryAction::throttling_error()
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "concurrent writes"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_block_leaves_out_environment_and_profile_say() {
        let file = std::env::temp_dir().join(format!("bluegreen-profile-{}", std::process::id()));
        let text = "[profile corp]\nmax_attempts = 5\nretry_mode = adaptive\nca_bundle = /etc/corp.pem\n";
        std::fs::write(&file, text).unwrap();
        let files = vec![file.display().to_string()];
        let block = Settings { profile: Some("corp".to_owned()), shared_config_files: files, ..Settings::default() };
        let of = |(settings, _): &(Settings, Option<String>)| {
            (settings.max_retries, settings.retry_mode, settings.custom_ca_bundle.clone())
        };
        let corp = (Some(4), Some(RetryMode::Adaptive), Some("/etc/corp.pem".to_owned()));
        assert_eq!(of(&with_profile(&block, |_| None).await), corp);
        let variable = |name: &str| match name {
            "AWS_MAX_ATTEMPTS" => Some("3".to_owned()),
            "AWS_RETRY_MODE" => Some("standard".to_owned()),
            "AWS_CA_BUNDLE" => Some("/run/ca.pem".to_owned()),
            _ => None,
        };
        let environment = (Some(2), Some(RetryMode::Standard), None);
        assert_eq!(of(&with_profile(&block, variable).await), environment);
        let own = Settings { max_retries: Some(9), custom_ca_bundle: Some("/own.pem".to_owned()), ..block };
        let written = (Some(9), Some(RetryMode::Standard), Some("/own.pem".to_owned()));
        assert_eq!(of(&with_profile(&own, variable).await), written);
        std::fs::remove_file(&file).unwrap();
    }
}
