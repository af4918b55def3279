//! The provider block: names and meanings as in the hashicorp/aws provider.

use std::sync::Arc;

use async_trait::async_trait;

use super::Context;
use super::environment::Environment;
use super::functions::Other;
use super::migration::Migration;
use super::switch::Switch;
use crate::argument::{Arguments as _, Field as _};
use crate::network;
use crate::platform::Compose;
use crate::secrets::{self, Reach};
use crate::settings::Settings;
use crate::tf_provider::{Attribute, Diagnostics, Function, Path, Provider, Resource, Schema, Value};

/// The provider.
pub struct Bluegreen {
    schema: Schema,
    compose: Compose,
    context: Arc<Context>,
    resources: Vec<(&'static str, Arc<dyn Resource>)>,
    functions: Vec<(&'static str, Arc<dyn Function>)>,
}

impl Bluegreen {
    /// The provider, not yet configured, with what makes its adapters.
    pub fn new(compose: Compose) -> Bluegreen {
        let context = Arc::new(Context::default());
        let environment: Arc<dyn Resource> = Arc::new(Environment::new(context.clone()));
        let migration: Arc<dyn Resource> = Arc::new(Migration::new(context.clone()));
        let switch: Arc<dyn Resource> = Arc::new(Switch::new(context.clone()));
        let other: Arc<dyn Function> = Arc::new(Other);
        Bluegreen {
            schema: schema(),
            compose,
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
        if let Some(settings) = &settings {
            warn(settings, diagnostics);
        }
        let regions = (self.compose)(settings);
        let home = regions.home();
        let region = home.platform.region().await;
        self.context.configure(regions, home, region);
    }

    fn resources(&self) -> &[(&'static str, Arc<dyn Resource>)] {
        &self.resources
    }

    fn functions(&self) -> &[(&'static str, Arc<dyn Function>)] {
        &self.functions
    }
}

/// What of the settings can be seen to be wrong without asking anybody.
fn warn(settings: &Settings, diagnostics: &mut Diagnostics) {
    if let Some((name, path, reason)) = network::wrong_bundle(settings) {
        let summary = "The file with certificate authorities can't be used";
        let detail = format!("{name} = {path:?}: {reason}.");
        match name {
            "AWS_CA_BUNDLE" => diagnostics.error(summary, detail),
            argument => diagnostics.error_at(Path::attribute(argument), summary, detail),
        }
    }
    if network::Proxies::is_https_guessed(settings) {
        let detail = "http_proxy is set, and https_proxy is not: the same proxy is used for HTTPS. Set https_proxy to it, or to \"\" for no proxy.";
        diagnostics.warning_at(Path::attribute("http_proxy"), "HTTPS uses the HTTP proxy", detail);
    }
}

fn schema() -> Schema {
    let description = "Zero-downtime releases on AWS with two mirrored environments. Where no argument says otherwise, \
                       credentials and region come from the default chain of AWS: environment variables, profiles, SSO, web \
                       identity, container, instance. Names and meanings are those of the `hashicorp/aws` provider.";
    Schema::new(description, Attribute::all(Settings::arguments()))
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

/// Nothing if something that matters is unknown: then nothing can be reached yet.
fn settings(config: &Value) -> Option<Settings> {
    let mut json = config.to_json()?;
    without_empty(&mut json);
    Settings::read(&json)
}

/// An empty text is none, as where a variable wasn't set; only an empty proxy is one: none.
fn without_empty(json: &mut serde_json::Value) {
    let serde_json::Value::Object(members) = json else { return };
    members.retain(|name, value| value.as_str() != Some("") || name.ends_with("_proxy") && name != "no_proxy");
    members.values_mut().filter(|value| value.is_object()).for_each(without_empty);
}
