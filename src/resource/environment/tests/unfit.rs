//! Things that an environment can't release to: told at import, at plan and at apply, and never touched.

use serde_json::json;

use super::{Stage, instances, service, stage};
use crate::resource::testing::words;
use crate::tf_provider::{Cancel, Diagnostics, Resource as _, Stored};

const CANARY: &str = "the deployment strategy of the service myapp-blue is CANARY";

async fn imported(stage: &Stage, id: &str) -> (Stored, Diagnostics) {
    let mut told = Diagnostics::new();
    let stored = stage.environment.import(id, Cancel::never(), &mut told).await;
    (stored, told)
}

#[tokio::test(start_paused = true)]
async fn a_service_that_moves_its_traffic_itself() {
    let stage = stage();
    let wish = service("blue", &json!({}));
    let made = stage.made(&wish).await;
    let other = stage.config(&service("blue", &json!({ "image": "app:2" })));
    let planned = stage.plan(&other, Some(&made)).await;
    stage.cloud.make_unfit("myapp-blue", CANARY);
    // A plan that was made before.
    let before = stage.cloud.calls().len();
    let (_, told) = stage.apply_planned(&other, Some(&made), planned, Cancel::never()).await;
    assert!(words(&told).contains("The deployment strategy of the service myapp-blue is CANARY"), "{}", words(&told));
    assert!(words(&told).contains("Nothing was changed"), "{}", words(&told));
    assert_eq!(stage.cloud.calls().len(), before, "{:?}", stage.cloud.calls());
    // And one that is made now: only what would change it is refused, at its attribute.
    let (read, told) = stage.restarted().read(&made).await;
    assert!(!told.has_errors(), "{}", words(&told));
    let (_, told) = stage.plan(&other, Some(&read)).await;
    assert!(words(&told).contains("service myapp/blue can't be released to"), "{}", words(&told));
    let (planned, told) = stage.plan(&stage.config(&wish), Some(&read)).await;
    assert!(!told.has_errors() && planned.state == read.state, "{}", words(&told));
    // It comes into no state.
    let arn = super::text(&made, "service_arn");
    let (stored, told) = imported(&stage, &format!("myapp/blue,{arn}")).await;
    assert!(stored.state.is_none() && words(&told).contains("CANARY"), "{}", words(&told));
    // A destroy needs none of it.
    assert!(!stage.destroy(&read).await.1.has_errors());
}

#[tokio::test(start_paused = true)]
async fn a_group_without_a_template() {
    let stage = stage();
    let wish = instances("green", &json!({}));
    let made = stage.made(&wish).await;
    stage.cloud.make_unfit("myapp-green", "the Auto Scaling group myapp-green has a launch configuration");
    let (read, _) = stage.restarted().read(&made).await;
    let other = stage.config(&instances("green", &json!({ "image_id": "ami-2" })));
    let (_, told) = stage.plan(&other, Some(&read)).await;
    assert!(words(&told).contains("instances myapp/green can't be released to"), "{}", words(&told));
    // Its size is nobody else's.
    let (planned, told) = stage.plan(&stage.config(&instances("green", &json!({ "max_size": 5 }))), Some(&read)).await;
    assert!(!told.has_errors() && planned.state != read.state, "{}", words(&told));
    let (stored, told) = imported(&stage, "myapp/green").await;
    assert!(stored.state.is_none() && words(&told).contains("The Auto Scaling group"), "{}", words(&told));
}
