//! An environment in a region of its own.

use std::sync::Arc;

use serde_json::json;

use super::{Environment, Stage, group, instances, text};
use crate::resource::Context;
use crate::resource::testing::{World, apply_request, read_request, words};
use crate::rollout;
use crate::run::rollout::in_memory::Fake;
use crate::run::stack::in_memory::Cloud;
use crate::tf_provider::{Cancel, Diagnostics, Resource as _, Stored, Value};

const HOME: &str = "eu-central-1";
const WEST: &str = "eu-west-1";

/// The provider's own region, and another one.
fn two_regions() -> (Stage, Arc<Cloud>) {
    let worlds = [HOME, WEST].map(|region| {
        let fake = Fake::new(rollout::World::default(), &[]);
        let cloud = Cloud::new(fake.clone());
        (region, World::new(&fake, &cloud))
    });
    let ((_, home), (_, west)) = (worlds[0].clone(), worlds[1].clone());
    let environment = Arc::new(Environment::new(Arc::new(Context::over_regions(worlds))));
    (Stage { environment, cloud: home.cloud, fake: home.routes }, west.cloud)
}

async fn made(stage: &Stage, config: &Value) -> Stored {
    let (planned, mut told) = stage.plan(config, None).await;
    let stored = stage.environment.apply(apply_request(config, None, planned, Cancel::never()), &mut told).await;
    assert!(!told.has_errors(), "{}", words(&told));
    let request = read_request(stored.state.clone().unwrap(), &stored.private);
    stage.environment.read(request, &mut told).await
}

#[tokio::test(start_paused = true)]
async fn it_is_made_kept_and_ended_in_its_region() {
    let (stage, west) = two_regions();
    let mut wish = instances("blue", &json!({}));
    wish["region"] = json!(WEST);
    let config = stage.config(&wish);
    let read = made(&stage, &config).await;
    assert_eq!(text(&read, "region"), WEST);
    assert!(west.has(&group(&read)) && stage.cloud.calls().is_empty(), "{:?}", stage.cloud.calls());
    let (planned, _) = stage.plan(&config, Some(&read)).await;
    assert_eq!(planned.state, read.state);
    let (stored, told) = stage.destroy_here(&read).await;
    assert!(stored.state.is_none() && !told.has_errors(), "{}", words(&told));
    assert!(!west.has(&group(&read)));
}

/// What goes to another region is made anew there; a color that serves users does not go.
#[tokio::test(start_paused = true)]
async fn another_region_is_another_stack() {
    let (stage, west) = two_regions();
    let read = made(&stage, &stage.config(&instances("blue", &json!({})))).await;
    assert_eq!(text(&read, "region"), HOME);
    let mut wish = instances("blue", &json!({}));
    wish["region"] = json!(WEST);
    let there = stage.config(&wish);
    let (planned, told) = stage.plan(&there, Some(&read)).await;
    assert!(!told.has_errors(), "{}", words(&told));
    assert_eq!(planned.replace.iter().map(ToString::to_string).collect::<Vec<_>>(), ["region"]);
    stage.lead(&[(&group(&read), 100)]);
    let (_, told) = stage.plan(&there, Some(&read)).await;
    assert!(told.has_errors() && words(&told).contains("region forces replacement"), "{}", words(&told));
    // It is the color that is there whose users are told of.
    wish["color"] = json!("green");
    let (_, told) = stage.plan(&stage.config(&wish), Some(&read)).await;
    assert!(words(&told).contains("myapp/blue is live and would be hurt"), "{}", words(&told));
    assert!(words(&told).contains("Users reach blue through"), "{}", words(&told));
    assert!(west.calls().is_empty());
    // A state of a former release says nothing: it was always the provider's.
    let mut old = read.clone();
    old.state.as_mut().unwrap().set("region", Value::Null);
    let (planned, _) = stage.plan(&stage.config(&instances("blue", &json!({}))), Some(&old)).await;
    assert!(planned.replace.is_empty());
    let request = read_request(old.state.clone().unwrap(), &old.private);
    let again = stage.environment.read(request, &mut Diagnostics::new()).await;
    assert_eq!(again.state, read.state);
}

#[tokio::test(start_paused = true)]
async fn what_is_elsewhere_is_told_with_its_cure() {
    let (stage, _) = two_regions();
    let mut wish = instances("blue", &json!({}));
    wish["listener_arn"] = json!(super::LISTENER.replace(HOME, WEST));
    let (_, told) = stage.plan(&stage.config(&wish), None).await;
    let text = words(&told);
    assert!(text.contains("this listener is in eu-west-1, but the environment is in eu-central-1"), "{text}");
    assert!(text.contains("Set region = \"eu-west-1\" here"), "{text}");
    wish["region"] = json!("us-east-1");
    let mut told = Diagnostics::new();
    stage.environment.validate(&stage.config(&wish), &mut told);
    assert!(words(&told).contains("but the environment is in us-east-1"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn an_import_goes_where_its_id_says() {
    let (stage, _) = two_regions();
    let mut wish = instances("blue", &json!({}));
    wish["region"] = json!(WEST);
    made(&stage, &stage.config(&wish)).await;
    let mut told = Diagnostics::new();
    let stored = stage.environment.import("myapp/blue@eu-west-1", Cancel::never(), &mut told).await;
    assert!(!told.has_errors(), "{}", words(&told));
    assert_eq!(text(&stored, "region"), WEST);
    let stored = stage.environment.import("myapp/blue", Cancel::never(), &mut told).await;
    assert!(stored.state.is_none() && told.has_errors());
}
