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

/// What an Auto Scaling group of several types is made of goes there and back.
#[tokio::test(start_paused = true)]
async fn several_types_and_what_belongs_to_them() {
    let stage = stage();
    let policy = json!({
        "instances_distribution": { "on_demand_base_capacity": 1, "on_demand_percentage_above_base_capacity": 0,
            "spot_allocation_strategy": "price-capacity-optimized" },
        "overrides": [{ "instance_type": "m7g.large" }, { "instance_type": "c7g.large" }],
    });
    let more = json!({
        "instance_type": null, "mixed_instances_policy": policy, "capacity_rebalance": true, "protect_from_scale_in": true,
        "max_instance_lifetime": 604_800, "capacity_distribution_strategy": "balanced-only",
        "instance_maintenance_policy": { "min_healthy_percentage": 90, "max_healthy_percentage": 120 },
    });
    let made = stage.made(&instances("green", &more)).await;
    // Another share of Spot Instances replaces none of those that are there.
    let mut other = more.clone();
    other["mixed_instances_policy"]["instances_distribution"]["on_demand_percentage_above_base_capacity"] = json!(20);
    let before = stage.cloud.calls().len();
    let after = stage.apply(&stage.config(&instances("green", &other)), Some(&made)).await;
    assert!(!after.1.has_errors(), "{}", words(&after.1));
    let calls: Vec<String> = stage.cloud.calls()[before..].iter().map(|call| call.what.clone()).collect();
    assert_eq!(calls, ["update myapp-green"]);
    // Another type does.
    other["mixed_instances_policy"]["overrides"][1]["instance_type"] = json!("r7g.large");
    let made = stage.apply(&stage.config(&instances("green", &other)), Some(&after.0)).await;
    assert!(!made.1.has_errors(), "{}", words(&made.1));
    assert_eq!(stage.cloud.versions("myapp-green").1, "2");
    let policy = stage.cloud.settings("myapp-green").mixed_instances_policy.unwrap();
    assert_eq!(policy.overrides[1].instance_type.as_deref(), Some("r7g.large"));
    // It comes back as it is written, and the plan after that is empty.
    let (stored, told) = imported(&stage, "myapp/green").await;
    assert!(!told.has_errors(), "{}", words(&told));
    let state = stored.state.as_ref().unwrap().get("instances").clone();
    assert!(state.get("instance_type").is_null() && state.get("capacity_rebalance").as_bool() == Some(true));
    let (planned, told) = stage.plan(&stage.config(&instances("green", &other)), Some(&stored)).await;
    assert!(!told.has_errors(), "{}", words(&told));
    assert_eq!(
        planned.state.unwrap().get("launch_template_version"),
        stored.state.unwrap().get("launch_template_version")
    );
}

/// A version that Auto Scaling can bring the group back from is one that it doesn't have before.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_rolls_back_by_itself() {
    let stage = stage();
    let with =
        |image: &str| instances("green", &json!({ "image_id": image, "instance_refresh": { "auto_rollback": true } }));
    let made = stage.made(&with("ami-1")).await;
    let before = stage.cloud.calls().len();
    let (after, told) = stage.apply(&stage.config(&with("ami-2")), Some(&made)).await;
    assert!(!told.has_errors(), "{}", words(&told));
    let calls: Vec<String> = stage.cloud.calls()[before..].iter().map(|call| call.what.clone()).collect();
    assert!(calls.iter().any(|call| call.starts_with("refresh")), "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("template")), "{calls:?}");
    assert_eq!(stage.cloud.versions("myapp-green"), (vec!["2".to_owned(), "2".to_owned()], "2".to_owned()));
    let (read, told) = stage.restarted().read(&after).await;
    assert!(told.iter().next().is_none(), "{}", words(&told));
    let (planned, _) = stage.plan(&stage.config(&with("ami-2")), Some(&read)).await;
    assert_eq!(planned.state, read.state);
}

fn types(second: &str) -> serde_json::Value {
    json!({ "mixed_instances_policy": { "overrides": [{ "instance_type": "m7g.large" }, { "instance_type": second }] } })
}

#[tokio::test(start_paused = true)]
async fn other_types_replace_no_instance_that_serves_users() {
    let stage = stage();
    let made = stage.made(&instances("green", &types("c7g.large"))).await;
    stage.lead(&[(&super::group(&made), 100)]);
    let (_, told) = stage.plan(&stage.config(&instances("green", &types("r7g.large"))), Some(&made)).await;
    assert!(words(&told).contains("myapp/green is live and would be hurt"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_was_ours_is_nobody_elses() {
    let stage = stage();
    let with = |image: &str, tags: &serde_json::Value| {
        let mut wish = instances("green", &json!({ "image_id": image }));
        wish["tags"] = tags.clone();
        wish
    };
    let made = stage.made(&with("ami-1", &json!({ "team": "a", "cost": "1" }))).await;
    let template = super::text(&made, "launch_template_id");
    stage.cloud.add_version(&template, |_, tags| drop(tags.insert("Name".to_owned(), "web".to_owned())));
    stage.cloud.meddle("myapp-green", |group| group.template.1 = "2".to_owned());
    // Taken out first, released later.
    for wish in [with("ami-1", &json!({ "cost": "1" })), with("ami-3", &json!({ "cost": "1" }))] {
        let (read, _) = stage.restarted().read(&made).await;
        let (_, told) = stage.apply(&stage.config(&wish), Some(&read)).await;
        assert!(!told.has_errors(), "{}", words(&told));
    }
    let ports = stage.cloud.ports();
    let newest = ports.launch_templates.version(&template, "$Latest", None).await.unwrap().unwrap();
    assert!(newest.tags.contains_key("Name") && newest.tags.contains_key("cost"), "{:?}", newest.tags);
    assert!(!newest.tags.contains_key("team"), "{:?}", newest.tags);
}

/// A state of a release that knew fewer arguments: what is there of the others is nobody's change.
#[tokio::test(start_paused = true)]
async fn a_live_color_of_a_former_release_is_as_it_was_applied() {
    let stage = stage();
    let wish = instances("green", &json!({}));
    let mut made = stage.made(&wish).await;
    let mut private: serde_json::Value = serde_json::from_slice(&made.private).unwrap();
    private["version"] = json!(0);
    let applied = private["applied"].as_object_mut().unwrap();
    let before = applied.len();
    applied.retain(|path, _| !path.contains("capacity_rebalance") && !path.contains("bake_time"));
    assert!(applied.len() < before, "{applied:?}");
    made.private = serde_json::to_vec(&private).unwrap();
    stage.lead(&[(&super::group(&made), 100)]);
    let (read, told) = stage.restarted().read(&made).await;
    assert!(told.iter().next().is_none(), "{}", words(&told));
    let (planned, told) = stage.plan(&stage.config(&wish), Some(&read)).await;
    assert!(!told.has_errors() && planned.state == read.state, "{}", words(&told));
    // From then on a change of theirs is one.
    stage.cloud.meddle("myapp-green", |group| group.settings.capacity_rebalance = Some(true));
    let (_, told) = stage.restarted().read(&read).await;
    assert!(words(&told).contains("instances.capacity_rebalance changed since"), "{}", words(&told));
}

/// Terraform before 1.14 writes the ARN of an imported target group beside what it is made of: that is the same group until it is gone.
#[tokio::test(start_paused = true)]
async fn an_arn_beside_its_own_group() {
    let stage = stage();
    let wish = instances("blue", &json!({}));
    let made = stage.made(&wish).await;
    let mut generated = wish.clone();
    generated["region"] = json!("eu-central-1");
    generated["target_group_arn"] = json!(super::group(&made));
    let generated = stage.config(&generated);
    let (planned, told) = stage.plan(&generated, Some(&made)).await;
    assert!(!told.has_errors() && planned.state == made.state, "{}", words(&told));
    // Any other one is another one, and so it is where nothing is there yet.
    let mut other = generated.clone();
    other.set("target_group_arn", crate::tf_provider::Value::from(super::group(&made).replace("blue", "other")));
    for (config, prior) in [(&other, Some(&made)), (&generated, None)] {
        let (_, told) = stage.plan(config, prior).await;
        assert!(words(&told).contains("Two target groups"), "{}", words(&told));
    }
    // A destroy that failed after the group had gone can be repeated: Terraform plans before it.
    let mut gone = made.clone();
    gone.state.as_mut().unwrap().set("target_group_arn", crate::tf_provider::Value::Null);
    let planned = stage.plan(&generated, Some(&gone)).await;
    assert!(!planned.1.has_errors() && words(&planned.1).contains("The target group is gone"), "{}", words(&planned.1));
    let calls = stage.cloud.calls().len();
    let (stored, told) = stage.apply_planned(&generated, Some(&gone), planned, Cancel::never()).await;
    assert!(words(&told).contains("Nothing was changed") && stored.state == gone.state, "{}", words(&told));
    assert_eq!(stage.cloud.calls().len(), calls, "{:?}", stage.cloud.calls());
}

/// What decides the defaults of a service is known before they are filled in.
#[tokio::test(start_paused = true)]
async fn a_service_by_capacity_providers_is_imported_as_it_is() {
    let stage = stage();
    let strategy = json!([{ "capacity_provider": "FARGATE_SPOT", "weight": 1 }]);
    let wish = service("blue", &json!({ "capacity_provider_strategy": strategy }));
    let made = stage.made(&wish).await;
    let (stored, told) = imported(&stage, &format!("myapp/blue,{}", super::text(&made, "service_arn"))).await;
    assert!(!told.has_errors(), "{}", words(&told));
    let state = stored.state.as_ref().unwrap().get("service").clone();
    assert!(state.get("launch_type").is_null(), "{state:?}");
    let config = stage.environment.generate(stored.state.as_ref().unwrap());
    let mut told = Diagnostics::new();
    stage.environment.validate(&config, &mut told);
    assert!(!told.has_errors(), "{}", words(&told));
    let (planned, told) = stage.plan(&config, Some(&stored)).await;
    assert!(!told.has_errors() && planned.replace.is_empty(), "{}", words(&told));
    assert_eq!(planned.state, stored.state);
}

/// What a configuration writes of tags, a state that is made by an import knows, too.
#[tokio::test(start_paused = true)]
async fn tags_are_imported() {
    let stage = stage();
    let mut wish = instances("blue", &json!({}));
    wish["tags"] = json!({ "team": "web" });
    stage.made(&wish).await;
    let (stored, told) = imported(&stage, "myapp/blue").await;
    assert!(!told.has_errors(), "{}", words(&told));
    let state = stored.state.as_ref().unwrap();
    let team = std::collections::BTreeMap::from([("team".to_owned(), "web".to_owned())]);
    assert_eq!((state.get("tags").string_map(), state.get("tags_all").string_map()), (team.clone(), team));
    let config = stage.environment.generate(state);
    let (planned, told) = stage.plan(&config, Some(&stored)).await;
    assert!(!told.has_errors() && planned.state == stored.state, "{}", words(&told));
}
