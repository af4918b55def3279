//! The provider block: names and meanings as in the hashicorp/aws provider.

use std::sync::Arc;

use async_trait::async_trait;

use super::Context;
use super::environment::Environment;
use super::functions::Other;
use super::migration::Migration;
use super::switch::Switch;
use crate::aws::{AssumeRole, Connection, Endpoints, RetryMode, Settings, WebIdentity, is_proxy};
use crate::duration;
use crate::secrets::{self, Reach};
use crate::tf_provider::{Attribute, Diagnostics, Function, Nesting, Path, Provider, Resource, Schema, Type, Value};

/// The services whose endpoint can be replaced.
const SERVICES: [&str; 9] = ["elbv2", "ssm", "ec2", "autoscaling", "ecs", "cloudwatch", "lambda", "sts", "sns"];

/// The provider.
pub struct Bluegreen {
    schema: Schema,
    context: Arc<Context>,
    resources: Vec<(&'static str, Arc<dyn Resource>)>,
    functions: Vec<(&'static str, Arc<dyn Function>)>,
}

impl Bluegreen {
    /// The provider, not yet configured.
    pub fn new() -> Bluegreen {
        let context = Arc::new(Context::default());
        let environment: Arc<dyn Resource> = Arc::new(Environment::new(context.clone()));
        let migration: Arc<dyn Resource> = Arc::new(Migration::new(context.clone()));
        let switch: Arc<dyn Resource> = Arc::new(Switch::new(context.clone()));
        let other: Arc<dyn Function> = Arc::new(Other);
        Bluegreen {
            schema: schema(),
            context,
            resources: vec![
                ("bluegreen_environment", environment),
                ("bluegreen_migration", migration),
                ("bluegreen_switch", switch),
            ],
            functions: vec![("other", other)],
        }
    }
}

impl Default for Bluegreen {
    fn default() -> Bluegreen {
        Bluegreen::new()
    }
}

#[async_trait]
impl Provider for Bluegreen {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        validate(config, diagnostics);
    }

    async fn configure(&self, config: &Value, terraform_version: &str, diagnostics: &mut Diagnostics) {
        tracing::debug!(terraform_version, "configured");
        let settings = settings(config);
        if let Some(settings) = &settings {
            // Proxies and endpoints may have a password in their addresses.
            let endpoints = settings.endpoints.all();
            let addresses =
                [&settings.http_proxy, &settings.https_proxy, &settings.endpoint_url].into_iter().chain(endpoints);
            let with_scheme =
                |text: &String| if text.contains("://") { text.clone() } else { format!("http://{text}") };
            secrets::learn(addresses.flatten().map(with_scheme), Reach::Everywhere);
            secrets::learn_whole(&settings.access_key);
        }
        let connection = Connection::new(settings);
        for (argument, detail) in connection.faults() {
            let summary = "The file with certificate authorities can't be used";
            match argument {
                Some(argument) => diagnostics.error_at(Path::attribute(argument), summary, detail),
                None => diagnostics.error(summary, detail),
            }
        }
        if connection.is_https_proxy_guessed() {
            let detail = "http_proxy is set, and https_proxy is not: the same proxy is used for HTTPS. Set https_proxy to it, or to \"\" for no proxy.";
            diagnostics.warning_at(Path::attribute("http_proxy"), "HTTPS goes by way of the HTTP proxy", detail);
        }
        self.context.configure(connection);
    }

    fn resources(&self) -> &[(&'static str, Arc<dyn Resource>)] {
        &self.resources
    }

    fn functions(&self) -> &[(&'static str, Arc<dyn Function>)] {
        &self.functions
    }
}

fn schema() -> Schema {
    let description = "Zero-downtime releases on AWS with two mirrored environments. Without any argument the \
                       credentials and the region come from AWS's default chain: environment variables, profiles, SSO, web \
                       identity, container, instance. Names and meanings are those of the `hashicorp/aws` provider.";
    let mut attributes = credentials();
    attributes.extend(calls());
    attributes.extend(accounts_and_network());
    Schema::new(description, attributes)
}

fn credentials() -> Vec<Attribute> {
    let role = |more: Vec<Attribute>| {
        let mut attributes = vec![
            Attribute::string("role_arn").required().describe("The role to take on."),
            Attribute::string("session_name").describe("The name of the session."),
        ];
        attributes.extend(more);
        attributes
    };
    let assume_role = role(vec![
        Attribute::string("external_id").describe("What the role's trust policy asks for."),
        Attribute::string("duration").check(duration::check).describe("How long a session lasts, such as `1h`."),
    ]);
    let web_identity = role(vec![
        Attribute::string("web_identity_token").sensitive().describe("The identity provider's token."),
        Attribute::string("web_identity_token_file").describe("A file with the token, read whenever it is needed."),
    ]);
    vec![
        Attribute::string("region").describe("The region, such as `eu-central-1`."),
        Attribute::string("profile").describe("The profile in the shared configuration files."),
        Attribute::string("access_key").describe("The access key; `secret_key` belongs to it."),
        Attribute::string("secret_key").sensitive().describe("The secret key."),
        Attribute::string("token").sensitive().describe("The session token of temporary credentials."),
        Attribute::strings("shared_config_files").describe("Instead of `~/.aws/config`."),
        Attribute::strings("shared_credentials_files").describe("Instead of `~/.aws/credentials`."),
        Attribute::nested("assume_role", Nesting::Single, assume_role).describe("A role to take on."),
        Attribute::nested("assume_role_with_web_identity", Nesting::Single, web_identity)
            .describe("A role to take on with a token of an identity provider."),
    ]
}

fn calls() -> Vec<Attribute> {
    let endpoints =
        SERVICES.map(|service| Attribute::string(service).check(url).describe("The address of this service."));
    let tags = Attribute::plain("tags", Type::map(Type::String)).describe("The tags.");
    vec![
        Attribute::nested("endpoints", Nesting::Single, endpoints.to_vec())
            .describe("Addresses that replace AWS's own, by service."),
        Attribute::string("endpoint_url").check(url).describe("One address for all services."),
        Attribute::number("max_retries").check(count).describe("How often a call is repeated; 24 if left out."),
        Attribute::string("retry_mode").check(retry_mode).describe("`standard` (the default): back-off with jitter; or `adaptive`, which also holds calls back after AWS throttled one, for 20 seconds or so each."),
        Attribute::nested("default_tags", Nesting::Single, vec![tags]).describe("Tags for everything that is made."),
    ]
}

fn accounts_and_network() -> Vec<Attribute> {
    vec![
        Attribute::strings("allowed_account_ids").describe("Work in these accounts only."),
        Attribute::strings("forbidden_account_ids").describe("Never work in these accounts."),
        Attribute::bool("skip_credentials_validation")
            .describe("Accepted for configurations shared with `hashicorp/aws`; credentials are never tried ahead."),
        Attribute::bool("skip_requesting_account_id").describe("Don't ask for the account's id."),
        Attribute::string("custom_ca_bundle")
            .describe("A PEM file with further certificate authorities. Left out, `AWS_CA_BUNDLE` counts."),
        Attribute::string("http_proxy").check(proxy).sensitive().describe(
            "The proxy for HTTP, and for HTTPS where neither `https_proxy` nor `HTTPS_PROXY` names one. Left out, \
             `HTTP_PROXY` counts. This machine (`localhost`, loopback addresses) and the link-local addresses that hand out \
             credentials are never asked by way of a proxy.",
        ),
        Attribute::string("https_proxy")
            .check(proxy)
            .sensitive()
            .describe("The proxy for HTTPS; `\"\"` for none. Left out, `HTTPS_PROXY` counts."),
        Attribute::string("no_proxy").describe(
            "Hosts that need no proxy, separated by commas: names (with all names below), addresses, networks, each with a \
             port if need be; `*` for all. Left out, `NO_PROXY` counts.",
        ),
        Attribute::bool("insecure").describe("Accept any TLS certificate. For tests."),
        Attribute::bool("use_fips_endpoint").describe("Use FIPS endpoints."),
        Attribute::bool("use_dualstack_endpoint").describe("Use dual-stack endpoints."),
    ]
}

fn url(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str().filter(|text| !text.is_empty()) else { return Ok(()) };
    match reqwest::Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Err("it must begin with http:// or https://".to_owned())
        }
        Ok(url) if url.has_host() => Ok(()),
        // Without the value: a proxy's may hold a password.
        Ok(_) => Err("the URL has no host".to_owned()),
        Err(error) => Err(format!("not a URL: {error}")),
    }
}

fn proxy(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str().filter(|text| !text.is_empty()) else { return Ok(()) };
    // Without the value: it may hold a password.
    if is_proxy(text) {
        Ok(())
    } else {
        Err("not the address of a proxy, such as http://proxy.example.com:3128".to_owned())
    }
}

fn count(value: &Value) -> Result<(), String> {
    match value.as_i64() {
        Some(0..=1000) => Ok(()),
        _ => Err("must be a whole number from 0 to 1000".to_owned()),
    }
}

fn retry_mode(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("standard" | "adaptive") | None => Ok(()),
        Some(other) => Err(format!("{other:?} is neither \"standard\" nor \"adaptive\"")),
    }
}

fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    let set = |name: &str| config.get(name).is_set();
    for (one, other) in [("access_key", "secret_key"), ("secret_key", "access_key")] {
        if set(one) && config.get(other).is_null() {
            let detail = format!("{one} is set, and {other}, which belongs to it, is not.");
            diagnostics.error_at(Path::attribute(one), format!("{other} is missing"), detail);
        }
    }
    if set("allowed_account_ids") && set("forbidden_account_ids") {
        let detail = "Say which accounts are allowed, or which are forbidden, not both.";
        diagnostics.error_at(Path::attribute("forbidden_account_ids"), "Conflicting arguments", detail);
    }
    let lists = ["allowed_account_ids", "forbidden_account_ids"];
    if config.get("skip_requesting_account_id").as_bool() == Some(true) && lists.iter().any(|name| set(name)) {
        let detail = "The account can only be checked if its id may be asked for.";
        diagnostics.error_at(Path::attribute("skip_requesting_account_id"), "Conflicting arguments", detail);
    }
    let path = Path::attribute("default_tags").attr("tags");
    super::reserved_tags(config.get("default_tags").get("tags"), &path, diagnostics);
    let identity = config.get("assume_role_with_web_identity");
    let tokens = ["web_identity_token", "web_identity_token_file"];
    let given = tokens.iter().filter(|name| identity.get(name).is_set()).count();
    let none = tokens.iter().all(|name| identity.get(name).is_null());
    if identity.as_map().is_some() && (none || given > 1) {
        let detail = "Set exactly one of web_identity_token and web_identity_token_file.";
        diagnostics.error_at(Path::attribute("assume_role_with_web_identity"), "One token is needed", detail);
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Nothing if something that matters is unknown: then nothing can be reached yet.
fn settings(config: &Value) -> Option<Settings> {
    if !config.is_wholly_known() {
        return None;
    }
    let role = config.get("assume_role");
    let identity = config.get("assume_role_with_web_identity");
    let endpoints = config.get("endpoints");
    Some(Settings {
        region: text(config, "region"),
        profile: text(config, "profile"),
        access_key: text(config, "access_key"),
        secret_key: text(config, "secret_key"),
        token: text(config, "token"),
        shared_config_files: config.get("shared_config_files").strings(),
        shared_credentials_files: config.get("shared_credentials_files").strings(),
        assume_role: text(role, "role_arn").map(|role_arn| AssumeRole {
            role_arn,
            session_name: text(role, "session_name"),
            external_id: text(role, "external_id"),
            duration: role.get("duration").as_str().and_then(|text| duration::parse(text).ok()),
        }),
        web_identity: text(identity, "role_arn").map(|role_arn| WebIdentity {
            role_arn,
            session_name: text(identity, "session_name"),
            token: text(identity, "web_identity_token"),
            token_file: text(identity, "web_identity_token_file"),
        }),
        endpoints: Endpoints {
            autoscaling: text(endpoints, "autoscaling"),
            cloudwatch: text(endpoints, "cloudwatch"),
            ec2: text(endpoints, "ec2"),
            ecs: text(endpoints, "ecs"),
            elbv2: text(endpoints, "elbv2"),
            lambda: text(endpoints, "lambda"),
            sns: text(endpoints, "sns"),
            ssm: text(endpoints, "ssm"),
            sts: text(endpoints, "sts"),
        },
        endpoint_url: text(config, "endpoint_url"),
        max_retries: config.get("max_retries").as_i64().and_then(|count| u32::try_from(count).ok()),
        retry_mode: match config.get("retry_mode").as_str() {
            Some("standard") => Some(RetryMode::Standard),
            Some("adaptive") => Some(RetryMode::Adaptive),
            _ => None,
        },
        default_tags: config.get("default_tags").get("tags").string_map(),
        allowed_account_ids: config.get("allowed_account_ids").strings(),
        forbidden_account_ids: config.get("forbidden_account_ids").strings(),
        skip_requesting_account_id: config.get("skip_requesting_account_id").as_bool().unwrap_or_default(),
        custom_ca_bundle: text(config, "custom_ca_bundle"),
        // Set to nothing they mean none.
        http_proxy: config.get("http_proxy").as_str().map(str::to_owned),
        https_proxy: config.get("https_proxy").as_str().map(str::to_owned),
        no_proxy: text(config, "no_proxy"),
        insecure: config.get("insecure").as_bool().unwrap_or_default(),
        use_fips_endpoint: config.get("use_fips_endpoint").as_bool(),
        use_dualstack_endpoint: config.get("use_dualstack_endpoint").as_bool(),
    })
}
