//! Which region is asked.

use std::collections::BTreeMap;

use serde_json::json;

use super::{GROUP, REGION, Stub, settings};
use crate::argument::Field as _;
use crate::compose;
use crate::platform::Regions;
use crate::rollout::LambdaCheck;
use crate::settings::Settings;

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
    let adapters = at(&stub, None).elsewhere("eu-west-1");
    assert!(adapters.ports.load_balancer.target_health(GROUP, false).await.is_err());
    assert_eq!(last(&stub), "eu-west-1");
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
