//! Which region is asked.

use std::collections::BTreeMap;

use serde_json::json;

use super::{GROUP, REGION, Stub, settings};
use crate::argument::Field as _;
use crate::compose;
use crate::platform::Regions;
use crate::rollout::LambdaCheck;
use crate::settings::{AssumeRole, Settings};

fn anything(_: &BTreeMap<String, String>) -> (u16, String) {
    (403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>".to_owned())
}

/// The region of the last call.
fn last(stub: &Stub) -> String {
    stub.asked().last().and_then(|call| call.get(REGION).cloned()).unwrap_or_default()
}

fn at(stub: &Stub, region: Option<&str>) -> Box<dyn Regions> {
    compose::on_aws(Some(Settings { region: region.map(str::to_owned), ..settings(&stub.endpoint, 0) }))
}

#[tokio::test]
async fn a_region_of_ones_own_is_asked() {
    let stub = Stub::start(anything).await;
    let regions = at(&stub, Some("eu-central-1"));
    for (adapters, region) in [(regions.home(), "eu-central-1"), (regions.elsewhere("eu-west-1"), "eu-west-1")] {
        assert_eq!(adapters.platform.region().await.as_deref(), Some(region));
        assert_eq!(adapters.platform.region_in_use().await.as_deref(), Ok(region));
        assert!(adapters.ports.load_balancer.target_health(GROUP, false).await.is_err());
        assert_eq!(last(&stub), region);
        assert!(adapters.stacks.autoscaling.find("web").await.is_err());
        assert_eq!(last(&stub), region);
        assert!(adapters.ports.records.get("/app/live", crate::run::ports::Freshness::Now).await.is_err());
        assert_eq!(last(&stub), region);
    }
}

/// Whoever sets the region of each resource needs none at the provider.
#[tokio::test]
async fn no_region_of_the_provider_is_needed() {
    let stub = Stub::start(anything).await;
    let regions = at(&stub, None);
    let adapters = regions.elsewhere("eu-west-1");
    assert!(adapters.ports.load_balancer.target_health(GROUP, false).await.is_err());
    assert_eq!(last(&stub), "eu-west-1");
}

fn sts(call: &BTreeMap<String, String>) -> (u16, String) {
    let credentials = "<Credentials><AccessKeyId>role</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
                       <SessionToken>token</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>";
    match call.get("Action").map(String::as_str) {
        Some(action) if action.starts_with("AssumeRole") => {
            (200, format!("<{action}Response><{action}Result>{credentials}</{action}Result></{action}Response>"))
        }
        _ => anything(call),
    }
}

/// A role is assumed for all regions in one of them, also where the provider has none.
#[tokio::test]
async fn a_role_is_assumed_without_a_region_of_the_provider() {
    let stub = Stub::start(sts).await;
    for region in [None, Some("eu-central-1".to_owned())] {
        let role = AssumeRole { role_arn: "arn:aws:iam::123456789012:role/deploy".to_owned(), ..AssumeRole::default() };
        let settings = Settings { region, assume_role: Some(role), ..settings(&stub.endpoint, 0) };
        let regions = compose::on_aws(Some(settings));
        // Whoever is in doubt asks first which one the provider's is.
        let home = regions.home();
        let named = home.platform.region().await;
        for wanted in ["eu-west-1", "us-east-1"] {
            let adapters = regions.elsewhere(wanted);
            assert!(adapters.ports.load_balancer.target_health(GROUP, false).await.is_err());
            assert_eq!(last(&stub), wanted);
            assert!(adapters.ports.load_balancer.target_health(GROUP, false).await.is_err());
        }
        let assumed: Vec<String> = stub
            .asked()
            .iter()
            .filter(|call| call.get("Action").is_some_and(|action| action == "AssumeRole"))
            .filter_map(|call| call.get(REGION).cloned())
            .collect();
        assert_eq!(assumed.last().map(String::as_str), Some(named.as_deref().unwrap_or("eu-west-1")), "{assumed:?}");
    }
}

/// The region of a profile is that of the one that it takes its credentials from, where it has none itself.
#[tokio::test]
async fn a_profile_takes_the_region_of_its_source() {
    let file = std::env::temp_dir().join(format!("bluegreen-regions-{}", std::process::id()));
    let text = "[profile corp]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\n\n[profile base]\nregion = sa-east-1\n";
    std::fs::write(&file, text).unwrap();
    let settings = Settings {
        profile: Some("corp".to_owned()),
        shared_config_files: vec![file.display().to_string()],
        ..Settings::default()
    };
    let regions = compose::on_aws(Some(settings));
    assert_eq!(regions.home().platform.region().await.as_deref(), Some("sa-east-1"));
    assert_eq!(regions.home().platform.region_in_use().await.as_deref(), Ok("sa-east-1"));
    assert_eq!(regions.elsewhere("eu-west-1").platform.region().await.as_deref(), Some("eu-west-1"));
    std::fs::remove_file(&file).unwrap();
}

/// A topic and a function may be in another region than the routes: AWS takes the calls only there.
#[tokio::test]
async fn a_topic_and_a_function_are_called_where_they_are() {
    let stub = Stub::start(anything).await;
    let ports = &stub.ports;
    for (region, account) in [("us-east-1", "123456789012"), ("eu-central-1", "123456789012")] {
        let topic = format!("arn:aws:sns:{region}:{account}:releases");
        assert!(ports.notifier.publish(&topic, "subject", "message").await.is_err());
        assert_eq!(last(&stub), region);
        let function = format!("arn:aws:lambda:{region}:{account}:function:smoke");
        let check = LambdaCheck::read(&json!({ "function_name": function })).unwrap();
        assert!(ports.functions.invoke(&check, "{}").await.is_err());
        assert_eq!(last(&stub), region);
    }
    let check = LambdaCheck::read(&json!({ "function_name": "smoke" })).unwrap();
    assert!(ports.functions.invoke(&check, "{}").await.is_err());
    assert_eq!(last(&stub), "eu-central-1");
}
