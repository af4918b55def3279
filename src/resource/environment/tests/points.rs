//! What environments must never do again, point by point.

use std::time::Duration;

use serde_json::json;

use super::{LISTENER, Stage, assert_there, group, instances, service, stage, text};
use crate::cancel::CancelSource;
use crate::resource::testing::words;
use crate::rollout::Stickiness;
use crate::run::rollout::in_memory::Fault;
use crate::stack::{MADE_TAG, OWNER_TAG, RELEASE_TAG};
use crate::tf_provider::{Cancel, Stored, Value};

/// Applies, and wants no error.
async fn applied(stage: &Stage, json: &serde_json::Value, prior: &Stored) -> Stored {
    let (stored, told) = stage.apply(&stage.config(json), Some(prior)).await;
    assert!(!told.has_errors(), "{}", words(&told));
    stored
}

async fn refreshed(stage: &Stage, stored: &Stored) -> Stored {
    stage.restarted().read(stored).await.0
}

/// After so much time, while something is applied.
async fn meanwhile(seconds: u64, act: impl FnOnce()) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    act();
}

#[tokio::test(start_paused = true)]
async fn p01_an_heir_that_is_made_first_has_things_of_its_own() {
    let stage = stage();
    let json = instances("green", &json!({}));
    let old = stage.made(&json).await;
    stage.lead(&[(&group(&old), 0), ("blue", 100)]);
    // One process refreshes the old one and plans the new one; another one applies.
    let process = stage.restarted();
    let (read, _) = process.read(&old).await;
    let config = stage.config(&json);
    let (planned, told) = process.plan(&config, None).await;
    assert!(!told.has_errors(), "{}", words(&told));
    let (new, told) = stage.apply_planned(&config, None, (planned, told), Cancel::never()).await;
    assert!(!told.has_errors(), "{}", words(&told));
    let (gone, told) = stage.destroy(&read).await;
    assert!(!told.has_errors() && gone.state.is_none(), "{}", words(&told));
    assert_there(&stage, &new);
    assert_eq!(stage.cloud.inventory().len(), 4, "{:?}", stage.cloud.inventory());
    // And once more, back to the usual name.
    let process = stage.restarted();
    let (read, _) = process.read(&new).await;
    let planned = process.plan(&config, None).await;
    assert!(!planned.1.has_errors(), "{}", words(&planned.1));
    let (newer, told) = stage.apply_planned(&config, None, planned, Cancel::never()).await;
    assert!(!told.has_errors(), "{}", words(&told));
    stage.destroy(&read).await;
    assert_there(&stage, &newer);
    assert_eq!(text(&newer, "target_group_name"), "myapp-green");
}

#[tokio::test(start_paused = true)]
async fn p01_what_no_state_of_the_run_has_is_told_and_left_alone() {
    let stage = stage();
    let json = instances("green", &json!({}));
    let old = stage.made(&json).await;
    stage.lead(&[(&group(&old), 0), ("blue", 100)]);
    let (_, told) = stage.restarted().plan(&stage.config(&json), None).await;
    assert!(words(&told).contains("myapp/green exists already"), "{}", words(&told));
    assert!(words(&told).contains("terraform import"), "{}", words(&told));
    let (new, told) = stage.apply(&stage.config(&json), None).await;
    assert!(!told.has_errors(), "{}", words(&told));
    assert_there(&stage, &old);
    assert_there(&stage, &new);
    assert_ne!(group(&new), group(&old));
    // And a live one is not even planned beside.
    stage.lead(&[(&group(&old), 100)]);
    let (_, told) = stage.restarted().plan(&stage.config(&json), None).await;
    assert!(words(&told).contains("myapp/green is live and would be replaced"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn p01_renamed_in_one_run() {
    // The heir comes first; the other one goes first; the heir comes while the other one is half gone.
    for (create_at, destroy_at) in [(0, 10), (60_000, 0), (1500, 0), (2500, 0)] {
        let stage = stage();
        let json = instances("green", &json!({}));
        let old = stage.made(&json).await;
        let process = stage.restarted();
        let (read, _) = process.read(&old).await;
        let config = stage.config(&json);
        let planned = process.plan(&config, None).await;
        assert!(planned.0.state.as_ref().unwrap().get("target_group_name").is_unknown());
        // One goes and the other comes, in the same process.
        let process = stage.restarted();
        stage.cloud.be_slow(Duration::from_secs(1));
        let create = async {
            tokio::time::sleep(Duration::from_millis(create_at)).await;
            process.apply_here(&config, planned).await
        };
        let destroy = async {
            tokio::time::sleep(Duration::from_millis(destroy_at)).await;
            process.destroy_here(&read).await
        };
        let ((new, told), (gone, words_of_destroy)) = tokio::join!(create, destroy);
        assert!(!told.has_errors(), "{create_at}: {}", words(&told));
        assert!(gone.state.is_none(), "{create_at}: {}", words(&words_of_destroy));
        assert_there(&stage, &new);
        assert_eq!(stage.cloud.inventory().len(), 4, "{create_at}: {:?}", stage.cloud.inventory());
    }
}

#[tokio::test(start_paused = true)]
async fn p01_an_heir_of_leftovers_keeps_them_from_the_one_that_goes() {
    let stage = stage();
    let json = instances("green", &json!({}));
    // The create fails at the scaling group: the object is tainted, its heir is made first.
    stage.cloud.fault(5, Fault::Refused);
    let config = stage.config(&json);
    let (old, told) = stage.apply(&config, None).await;
    assert!(told.has_errors() && old.state.is_some());
    stage.cloud.heal();
    let (new, told) = stage.apply(&config, None).await;
    assert!(!told.has_errors(), "{}", words(&told));
    let (gone, told) = stage.destroy(&old).await;
    assert!(gone.state.is_none() && !told.has_errors(), "{}", words(&told));
    assert!(words(&told).contains("Another object of the same name"), "{}", words(&told));
    assert_there(&stage, &new);
}

#[tokio::test(start_paused = true)]
async fn p01_an_adopted_live_group_is_not_replaced_unasked() {
    let stage = stage();
    let arn = stage.cloud.adoptable("blue");
    stage.lead(&[(&arn, 100)]);
    let mut json = instances("blue", &json!({}));
    json["target_group"] = json!(null);
    json["target_group_arn"] = json!(arn);
    let old = stage.made(&json).await;
    let process = stage.restarted();
    process.read(&old).await;
    let (_, told) = process.plan(&stage.config(&json), None).await;
    assert!(words(&told).contains("myapp/blue is live and would be replaced"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn p13_fixed_targets_of_a_live_group_are_not_replaced_unasked() {
    let stage = stage();
    let arn = stage.cloud.adoptable("blue");
    stage.lead(&[(&arn, 100)]);
    let json = json!({ "name": "myapp", "color": "blue", "target_group_arn": arn, "targets": [{ "id": "10.0.0.7", "port": 80 }] });
    let old = stage.made(&json).await;
    let process = stage.restarted();
    let (read, _) = process.read(&old).await;
    process.plan(&process.config(&json), Some(&read)).await;
    let (_, told) = process.plan(&process.config(&json), None).await;
    assert!(words(&told).contains("myapp/blue is live and would be replaced"), "{}", words(&told));
}

/// What was just made may not be seen for a while.
#[tokio::test(start_paused = true)]
async fn what_a_create_made_is_waited_for() {
    let service_arn = "arn:aws:ecs:eu-central-1:123456789012:service/main/myapp-green";
    let kinds = [(instances("green", &json!({})), "myapp-green"), (service("green", &json!({})), service_arn)];
    for (json, thing) in kinds {
        let stage = stage();
        stage.cloud.hide(thing, 12);
        stage.made(&json).await;
    }
}

/// What was just deleted may still be seen, without a word whose it was.
#[tokio::test(start_paused = true)]
async fn what_was_just_deleted_takes_no_name() {
    let stage = stage();
    stage.cloud.linger("myapp-green", 2);
    let made = stage.made(&instances("green", &json!({}))).await;
    assert_eq!(text(&made, "target_group_name"), "myapp-green");
}

/// Reads that are older than the call before them neither end a deployment nor fail it.
#[tokio::test(start_paused = true)]
async fn a_deployment_is_what_its_own_call_began() {
    let stage = stage();
    let made = stage.made(&service("green", &json!({}))).await;
    stage.cloud.be_behind(3);
    for changed in [json!({ "image": "app:2" }), json!({ "image": "app:2", "desired_count": 3 })] {
        let begun = tokio::time::Instant::now();
        let (read, _) = stage.restarted().read(&made).await;
        let (stored, told) = stage.apply(&stage.config(&service("green", &changed)), Some(&read)).await;
        assert!(!told.has_errors(), "{}", words(&told));
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert!(stored.state.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn p02_a_group_that_is_not_found_twice_is_not_gone() {
    let stage = stage();
    let arn = stage.cloud.adoptable("blue");
    stage.lead(&[(&arn, 100)]);
    let mut adopted = instances("blue", &json!({}));
    adopted["target_group"] = json!(null);
    adopted["target_group_arn"] = json!(arn);
    for json in [adopted, instances("green", &json!({}))] {
        let made = stage.made(&json).await;
        let ids = ["target_group_arn", "security_group_id", "launch_template_id", "autoscaling_group_name"];
        for id in ids.map(|name| text(&made, name)) {
            stage.cloud.hide(&id, 2);
            let (read, _) = stage.read(&made).await;
            assert_eq!(read.state, made.state, "{id}");
            stage.cloud.hide(&id, 0);
        }
    }
    // Also where it is never found, what is configured stays configured, and the guard asks about it.
    let mut json = instances("blue", &json!({}));
    json["target_group"] = json!(null);
    json["target_group_arn"] = json!(arn);
    let made = stage.restarted().imported(&json).await;
    stage.cloud.hide(&arn, 99);
    let (read, told) = stage.read(&made).await;
    assert_eq!(group(&read), arn);
    assert!(words(&told).contains("does not exist"), "{}", words(&told));
    let (planned, told) = stage.plan(&stage.config(&json), Some(&read)).await;
    assert!(planned.replace.is_empty() && !told.has_errors(), "{}", words(&told));
}

impl Stage {
    /// The state of an environment that exists already, by an import.
    async fn imported(&self, json: &serde_json::Value) -> Stored {
        use crate::tf_provider::Resource as _;
        let id =
            format!("myapp/{},adopt,{}", json["color"].as_str().unwrap(), json["target_group_arn"].as_str().unwrap());
        let mut told = crate::tf_provider::Diagnostics::new();
        let stored = self.environment.import(&id, Cancel::never(), &mut told).await;
        assert!(!told.has_errors(), "{}", words(&told));
        stored
    }
}

#[tokio::test(start_paused = true)]
async fn p02_that_nobody_leads_there_needs_a_second_witness() {
    let stage = stage();
    let made = stage.made(&instances("blue", &json!({}))).await;
    stage.lead(&[(&group(&made), 100)]);
    stage.fake.set_health(&group(&made), &["healthy", "healthy"]);
    stage.cloud.be_mute();
    let told = stage.plan_destroy(&made).await;
    assert!(words(&told).contains("myapp/blue is live and would be destroyed"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn p03_a_roll_that_meets_traffic_leaves_the_template_as_it_was() {
    let stage = stage();
    let made = stage.made(&instances("green", &json!({}))).await;
    let wish = instances("green", &json!({ "image_id": "ami-2" }));
    let arn = group(&made);
    let apply = async { stage.apply(&stage.config(&wish), Some(&made)).await };
    let ((stored, told), ()) = tokio::join!(apply, meanwhile(60, || stage.lead(&[(&arn, 100)])));
    assert!(words(&told).contains("it got traffic meanwhile"), "{}", words(&told));
    assert!(words(&told).contains("makes new instances of version 1 of its template again"), "{}", words(&told));
    let (versions, template) = stage.cloud.versions("myapp-green");
    assert_eq!(template, "1");
    assert_eq!(versions, ["1", "2"]);
    // With the wish as it is nothing bars a plan, such as one that switches away: it waits until users are gone.
    let read_on = refreshed(&stage, &stored).await;
    let (planned, told) = stage.plan(&stage.config(&wish), Some(&read_on)).await;
    assert!(!told.has_errors() && planned.replace.is_empty(), "{}", words(&told));
    assert_eq!(planned.state.as_ref().unwrap().get("instances"), read_on.state.as_ref().unwrap().get("instances"));
    // A wish beyond that is refused.
    let other = stage.config(&instances("green", &json!({ "image_id": "ami-3" })));
    assert!(stage.plan(&other, Some(&read_on)).await.1.has_errors());
    // With the configuration reverted nothing bars a plan either, and what is there is told.
    let (read, told) = stage.restarted().read(&stored).await;
    assert!(words(&told).contains("1 of its instances are of version 2"), "{}", words(&told));
    let config = stage.config(&instances("green", &json!({})));
    let (planned, told) = stage.plan(&config, Some(&read)).await;
    assert!(!told.has_errors(), "{}", words(&told));
    assert_eq!(planned.state, read.state);
    // Once it is idle, it is made whole.
    stage.lead(&[(&arn, 0), ("blue", 100)]);
    let read = refreshed(&stage, &read).await;
    let after = applied(&stage, &instances("green", &json!({})), &read).await;
    assert_eq!(stage.cloud.versions("myapp-green").0, ["3", "3"]);
    assert_there(&stage, &after);
}

#[tokio::test(start_paused = true)]
async fn p03_a_roll_that_is_stopped_leaves_the_template_as_it_was() {
    let stage = stage();
    let made = stage.made(&instances("green", &json!({}))).await;
    let config =
        stage.config(&instances("green", &json!({ "image_id": "ami-2", "instance_refresh": { "timeout": "50s" } })));
    let source = CancelSource::new();
    let planned = stage.plan(&config, Some(&made)).await;
    let apply = stage.apply_planned(&config, Some(&made), planned, source.token());
    let ((_, told), ()) = tokio::join!(apply, meanwhile(20, || source.stop()));
    assert!(words(&told).contains("interrupted while instances were being replaced"), "{}", words(&told));
    assert_eq!(stage.cloud.versions("myapp-green").1, "1");
    // Its own time-out is no other matter.
    let (_, told) = stage.apply(&config, Some(&refreshed(&stage, &made).await)).await;
    assert!(words(&told).contains("took longer than instance_refresh.timeout"), "{}", words(&told));
    assert_eq!(stage.cloud.versions("myapp-green").1, "1");
}

#[tokio::test(start_paused = true)]
async fn p04_what_others_did_to_a_live_color_bars_nobody() {
    for hotfix in ["image", "template gone", "size", "key", "check"] {
        let stage = stage();
        let json = instances("blue", &json!({}));
        let made = stage.made(&json).await;
        let (arn, template) = (group(&made), text(&made, "launch_template_id"));
        stage.lead(&[(&arn, 100)]);
        match hotfix {
            "image" | "key" => {
                let version = stage.cloud.add_version(&template, |instances, _| match hotfix {
                    "image" => "ami-9".clone_into(&mut instances.image_id),
                    _ => instances.key_name = Some("ops".to_owned()),
                });
                stage.cloud.meddle("myapp-blue", |group| group.template.1 = version.to_string());
            }
            "template gone" => stage.cloud.remove(&template),
            "check" => stage.cloud.meddle_with_group(&arn, |group| {
                if let Some(check) = &mut group.health_check {
                    check.path = Some("/ok".to_owned());
                }
            }),
            _ => stage.cloud.meddle("myapp-blue", |group| {
                (group.settings.min_size, group.settings.desired_capacity) = (4, Some(4));
            }),
        }
        let (read, told) = stage.restarted().read(&made).await;
        assert!(words(&told).contains("myapp/blue is live, and not as it was applied"), "{hotfix}: {}", words(&told));
        let (planned, told) = stage.plan(&stage.config(&json), Some(&read)).await;
        assert!(!told.has_errors(), "{hotfix}: {}", words(&told));
        let calls = stage.cloud.summary().len();
        let (after, told) =
            stage.apply_planned(&stage.config(&json), Some(&read), (planned, told), Cancel::never()).await;
        assert!(!told.has_errors(), "{hotfix}: {}", words(&told));
        let done = stage.cloud.summary()[calls..].to_vec();
        assert!(
            !done.iter().any(|call| call.starts_with("refresh") || call.starts_with("resize")),
            "{hotfix}: {done:?}"
        );
        if hotfix == "template gone" {
            assert!(done.iter().any(|call| call.starts_with("create launch template")), "{done:?}");
            assert!(stage.cloud.has(&text(&after, "launch_template_id")));
        }
        // Once idle it is put right.
        stage.lead(&[(&arn, 0), ("green", 100)]);
        let read = refreshed(&stage, &after).await;
        let after = applied(&stage, &json, &read).await;
        let read = refreshed(&stage, &after).await;
        let (planned, _) = stage.plan(&stage.config(&json), Some(&read)).await;
        assert_eq!(planned.state, read.state, "{hotfix}");
        let (versions, template) = stage.cloud.versions("myapp-blue");
        assert!(versions.iter().all(|version| *version == template), "{hotfix}: {versions:?} {template}");
        assert_eq!(stage.cloud.size("myapp-blue").unwrap().1, 2, "{hotfix}");
    }
}

#[tokio::test(start_paused = true)]
async fn p04_what_the_configuration_asks_of_a_live_color_is_refused() {
    let stage = stage();
    let made = stage.made(&instances("blue", &json!({}))).await;
    stage.lead(&[(&group(&made), 100)]);
    let version = stage.cloud.add_version(&text(&made, "launch_template_id"), |instances, _| {
        "ami-9".clone_into(&mut instances.image_id);
    });
    stage.cloud.meddle("myapp-blue", |group| group.template.1 = version.to_string());
    let read = refreshed(&stage, &made).await;
    let config = stage.config(&instances("blue", &json!({ "image_id": "ami-3" })));
    let (_, told) = stage.plan(&config, Some(&read)).await;
    assert!(words(&told).contains("myapp/blue is live and would be hurt"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn p05_the_group_goes_before_what_serves() {
    let stage = stage();
    stage.lead(&[("blue", 100)]);
    let made = stage.made(&service("green", &json!({}))).await;
    stage.cloud.heal();
    let (gone, told) = stage.destroy(&made).await;
    assert!(gone.state.is_none() && !told.has_errors(), "{}", words(&told));
    let calls = stage.cloud.summary();
    let place = |what: &str| calls.iter().position(|call| call.contains(what)).expect(what);
    assert!(place("targetgroup/myapp-green") < place("service/main/myapp-green"), "{calls:?}");
    assert_eq!(stage.cloud.inventory(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn p05_an_adopted_group_is_left_in_a_way_that_can_be_undone() {
    let kinds = [instances("green", &json!({})), service("green", &json!({}))];
    for (n, mut json) in kinds.into_iter().enumerate() {
        let stage = stage();
        let arn = stage.cloud.adoptable("green");
        stage.lead(&[(&arn, 0), ("blue", 100)]);
        json["target_group"] = json!(null);
        json["listener_arn"] = json!(null);
        json["target_group_arn"] = json!(arn);
        let made = stage.made(&json).await;
        stage.cloud.heal();
        // Users are led there right after the first call.
        let other = stage.restarted();
        stage.cloud.after(0, move || other.lead(&[(&arn, 100)]));
        let (kept, told) = stage.destroy(&made).await;
        assert!(kept.state.is_some() && words(&told).contains("nothing was deleted"), "{n}: {}", words(&told));
        assert_there(&stage, &kept);
        assert!(stage.cloud.summary().iter().all(|call| !call.starts_with("delete")), "{:?}", stage.cloud.summary());
    }
}

#[tokio::test(start_paused = true)]
async fn p06_a_deployment_that_must_not_go_on_does_not() {
    for reason in ["traffic", "stop", "time"] {
        let stage = stage();
        stage.lead(&[("blue", 100)]);
        let made = stage.made(&service("green", &json!({}))).await;
        let broken = r#"{"family":"app","containerDefinitions":[{"name":"app","portMappings":[{"containerPort":80}],"image":"x","command":["broken"]}]}"#;
        let mut json = service("green", &json!({ "image": "app:2", "task_definition": broken }));
        json["timeouts"] = json!({ "update": "5m" });
        let (arn, was) = (group(&made), stage.cloud.runs(&text(&made, "service_arn")).unwrap());
        let source = CancelSource::new();
        let config = stage.config(&json);
        let planned = stage.plan(&config, Some(&made)).await;
        let apply = stage.apply_planned(&config, Some(&made), planned, source.token());
        let act = || match reason {
            "traffic" => stage.lead(&[(&arn, 100)]),
            "stop" => source.stop(),
            _ => {}
        };
        let ((stored, told), ()) = tokio::join!(apply, meanwhile(20, act));
        assert!(words(&told).contains("the service goes back to task-definition/app:1"), "{reason}: {}", words(&told));
        let why = match reason {
            "traffic" => "it got traffic meanwhile",
            "stop" => "interrupted while",
            _ => "the operation's time ended",
        };
        assert!(words(&told).contains(why), "{reason}: {}", words(&told));
        assert_eq!(stage.cloud.runs(&text(&made, "service_arn")).unwrap(), was, "{reason}");
        assert_eq!(text(&stored, "task_definition_arn"), text(&made, "task_definition_arn"));
    }
}

#[tokio::test(start_paused = true)]
async fn p06_each_change_that_would_hurt_looks_once_more() {
    let mut check = instances("green", &json!({ "image_id": "ami-2" }));
    check["target_group"]["health_check"]["path"] = json!("/other");
    let rules = instances("green", &json!({ "image_id": "ami-2", "ingress": [] }));
    let subnets = instances("green", &json!({ "image_id": "ami-2", "subnet_ids": ["subnet-a"] }));
    for (json, call) in [(check, "health check"), (rules, "rules"), (subnets, "update myapp-green")] {
        let stage = stage();
        let made = stage.made(&instances("green", &json!({}))).await;
        let arn = group(&made);
        stage.cloud.heal();
        // Users come right after the first call, whatever that is.
        let other = stage.restarted();
        let mut wish = json.clone();
        wish["target_group"]["deregistration_delay"] = json!(7);
        stage.cloud.after(0, move || other.lead(&[(&arn, 100)]));
        let (_, told) = stage.apply(&stage.config(&wish), Some(&made)).await;
        assert!(words(&told).contains("it got traffic meanwhile"), "{call}: {}", words(&told));
        let done = stage.cloud.summary();
        assert!(done.iter().skip(1).all(|done| !done.starts_with(call) && !done.starts_with("refresh")), "{done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p07_a_left_over_is_told_where_nothing_protects() {
    let stage = stage();
    let mut json = instances("blue", &json!({}));
    json["protect_live"] = json!(false);
    let made = stage.made(&json).await;
    stage.lead(&[(&group(&made), 100)]);
    stage.cloud.meddle("myapp-blue", |group| "$Latest".clone_into(&mut group.template.1));
    let read = refreshed(&stage, &made).await;
    assert_eq!(read.state, made.state, "$Latest is the version that it is");
    // A version that says the same: only the instances are of another one.
    stage.cloud.add_version(&text(&made, "launch_template_id"), |_, _| {});
    let read = refreshed(&stage, &made).await;
    let (_, told) = stage.plan(&stage.config(&json), Some(&read)).await;
    assert!(words(&told).contains("there are still instances"), "{}", words(&told));
    stage.cloud.add_version(&text(&made, "launch_template_id"), |instances, _| {
        "ami-9".clone_into(&mut instances.image_id);
    });
    let read = refreshed(&stage, &made).await;
    let (_, told) = stage.plan(&stage.config(&json), Some(&read)).await;
    assert!(words(&told).contains("image_id and the template before"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn p07_a_held_minimum_stays_held() {
    let stage = stage();
    let made = stage.made(&instances("blue", &json!({}))).await;
    stage.lead(&[(&group(&made), 100)]);
    stage.cloud.meddle("myapp-blue", |group| {
        (group.settings.min_size, group.settings.desired_capacity) = (4, Some(4));
    });
    stage.cloud.retag("myapp-blue", |tags| drop(tags.insert("bluegreen:pinned-min".to_owned(), "2".to_owned())));
    let read = refreshed(&stage, &made).await;
    let json = instances("blue", &json!({ "min_size": 3, "desired_capacity": 3 }));
    let mut allowed = json.clone();
    allowed["protect_live"] = json!(false);
    applied(&stage, &allowed, &read).await;
    assert_eq!(stage.cloud.size("myapp-blue"), Some((4, 4)));
    assert_eq!(stage.cloud.tags_of("myapp-blue")["bluegreen:pinned-min"], "3");
}

#[tokio::test(start_paused = true)]
async fn p08_closing_or_failing_a_live_color_is_refused() {
    let stage = stage();
    let made = stage.made(&instances("blue", &json!({}))).await;
    stage.lead(&[(&group(&made), 1), ("green", 999)]);
    let mut check = instances("blue", &json!({}));
    check["target_group"]["health_check"]["path"] = json!("/nowhere");
    let narrower = json!({ "ingress": [{ "protocol": "tcp", "from_port": 80, "cidr_blocks": ["10.0.0.0/8"] }] });
    for (json, says) in [
        (instances("blue", &json!({ "ingress": [] })), "no longer be open for: ingress tcp 80 from 0.0.0.0/0"),
        (instances("blue", &narrower), "no longer be open for"),
        (instances("blue", &json!({ "egress": [] })), "no longer be open for: egress all"),
        (check, "health_check.path changed"),
    ] {
        let (_, told) = stage.plan(&stage.config(&json), Some(&made)).await;
        assert!(told.has_errors() && words(&told).contains(says), "{}", words(&told));
        assert!(words(&told).contains("(0.1 %)"), "{}", words(&told));
    }
    let wider = json!({ "ingress": [
        { "protocol": "-1", "cidr_blocks": ["0.0.0.0/0"] }, { "protocol": "tcp", "from_port": 22, "cidr_blocks": ["10.0.0.0/8"] }
    ] });
    let open = applied(&stage, &instances("blue", &wider), &made).await;
    let no_ssh = json!({ "ingress": [{ "protocol": "-1", "cidr_blocks": ["0.0.0.0/0"] }] });
    applied(&stage, &instances("blue", &no_ssh), &open).await;
}

#[tokio::test(start_paused = true)]
async fn p09_tags_come_go_and_are_seen() {
    for mut json in [instances("green", &json!({})), service("green", &json!({}))] {
        let stage = stage();
        stage.lead(&[("blue", 100)]);
        json["tags"] = json!({ "team": "a", "cost": "1" });
        let made = stage.made(&json).await;
        let ids =
            ["target_group_arn", "security_group_id", "launch_template_id", "autoscaling_group_name", "service_arn"];
        let ids: Vec<String> = ids.iter().map(|name| text(&made, name)).filter(|id| !id.is_empty()).collect();
        for id in &ids {
            stage.cloud.retag(id, |tags| drop(tags.remove("team")));
            let read = refreshed(&stage, &made).await;
            assert!(read.state.as_ref().unwrap().get("tags_all").get("team").is_null(), "{id}");
            let after = applied(&stage, &json, &read).await;
            assert_eq!(stage.cloud.tags_of(id)["team"], "a");
            assert_eq!(refreshed(&stage, &after).await.state, made.state);
        }
        let mut other = json.clone();
        other["tags"] = json!({ "team": "b" });
        other["release"] = json!(null);
        let after = applied(&stage, &other, &made).await;
        for id in &ids {
            let tags = stage.cloud.tags_of(id);
            assert_eq!(tags["team"], "b", "{id}");
            assert!(!tags.contains_key("cost") && !tags.contains_key(RELEASE_TAG), "{id}: {tags:?}");
        }
        let read = refreshed(&stage, &after).await;
        let (planned, _) = stage.plan(&stage.config(&other), Some(&read)).await;
        assert_eq!(planned.state, read.state);
    }
}

#[tokio::test(start_paused = true)]
async fn p10_what_runs_is_read_from_what_runs() {
    let stage = stage();
    let made = stage.made(&instances("green", &json!({}))).await;
    let mut wish = instances("green", &json!({}));
    wish["release"] = json!("2");
    stage.cloud.heal();
    // The roll comes to its end; the tags don't.
    stage.cloud.fault(3, Fault::Refused);
    let (stored, told) = stage.apply(&stage.config(&wish), Some(&made)).await;
    assert!(told.has_errors(), "{:?}", stage.cloud.summary());
    stage.cloud.heal();
    let read = refreshed(&stage, &stored).await;
    assert_eq!(text(&read, "release"), "2");
    // The same wish: nothing is rolled again.
    applied(&stage, &wish, &read).await;
    assert!(!stage.cloud.summary().iter().any(|call| call.starts_with("refresh")), "{:?}", stage.cloud.summary());
    // Another one: it is.
    applied(&stage, &instances("green", &json!({})), &refreshed(&stage, &read).await).await;
    assert!(stage.cloud.summary().iter().any(|call| call.starts_with("refresh")));
}

#[tokio::test(start_paused = true)]
async fn p10_what_a_service_runs_is_read_from_what_it_runs() {
    for fault in [Fault::Refused, Fault::DiesAfter] {
        let stage = stage();
        stage.lead(&[("blue", 100)]);
        let made = stage.made(&service("green", &json!({}))).await;
        let mut wish = service("green", &json!({ "image": "app:2" }));
        wish["release"] = json!("2");
        stage.cloud.heal();
        // It is deployed; the tags, or the very answer, are lost.
        stage.cloud.fault(if fault == Fault::DiesAfter { 1 } else { 2 }, fault);
        let config = stage.config(&wish);
        let apply = stage.apply(&config, Some(&made));
        let stored = tokio::select! {
            (stored, told) = apply => { assert!(told.has_errors(), "{:?}", stage.cloud.summary()); stored }
            () = stage.cloud.died() => made.clone(),
        };
        stage.cloud.heal();
        tokio::time::sleep(Duration::from_secs(100)).await;
        let read = refreshed(&stage, &stored).await;
        assert_eq!(text(&read, "release"), "2", "{fault:?}");
        let after = applied(&stage, &wish, &read).await;
        assert!(
            !stage.cloud.summary().iter().any(|call| call.starts_with("deploy")),
            "{fault:?} {:?}",
            stage.cloud.summary()
        );
        let read = refreshed(&stage, &after).await;
        let (planned, _) = stage.plan(&config, Some(&read)).await;
        assert_eq!(planned.state, read.state, "{fault:?}");
        applied(&stage, &service("green", &json!({})), &read).await;
        assert!(stage.cloud.summary().iter().any(|call| call.starts_with("deploy")));
    }
}

#[tokio::test(start_paused = true)]
async fn p12_an_apply_does_what_its_plan_told() {
    let stage = stage();
    let made = stage.made(&instances("green", &json!({}))).await;
    // Planned without a refresh, while there is drift: what the plan doesn't tell is not done, and nothing is refused.
    let version = stage.cloud.add_version(&text(&made, "launch_template_id"), |instances, _| {
        "ami-9".clone_into(&mut instances.image_id);
    });
    stage.cloud.meddle("myapp-green", |group| group.template.1 = version.to_string());
    let config = stage.config(&instances("green", &json!({ "max_size": 6 })));
    let (stored, told) = stage.apply(&config, Some(&made)).await;
    assert!(!told.has_errors(), "{}", words(&told));
    assert!(words(&told).contains("myapp/green was changed by others"), "{}", words(&told));
    assert!(!stage.cloud.summary().iter().any(|call| call.starts_with("refresh")), "{:?}", stage.cloud.summary());
    // The next plan tells it.
    let read = refreshed(&stage, &stored).await;
    let (planned, _) = stage.plan(&config, Some(&read)).await;
    assert!(planned.state.unwrap().get("launch_template_version").is_unknown());
}

#[tokio::test(start_paused = true)]
async fn p13_names_that_collide_are_told_when_planning() {
    let stage = stage();
    let named = |name: &str, color: &str| {
        let mut json = instances(color, &json!({}));
        json["name"] = json!(name);
        stage.config(&json)
    };
    let (_, told) = stage.plan(&named("a-b", "c"), None).await;
    assert!(!told.has_errors(), "{}", words(&told));
    let (_, told) = stage.plan(&named("a", "b-c"), None).await;
    assert!(words(&told).contains("Two environments with one name"), "{}", words(&told));
    // Also where something else has the name.
    stage.cloud.adoptable("myapp-blue");
    let (_, told) = stage.plan(&stage.config(&instances("blue", &json!({}))), None).await;
    assert!(words(&told).contains("The name is taken"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn p14_what_is_unknown_is_neither_set_nor_missing() {
    let stage = stage();
    let whole = stage.config(&instances("blue", &json!({})));
    for names in [["target_group", "target_group_arn"], ["service", "instances"], ["targets", "instances"]] {
        let mut config = whole.clone();
        names.iter().for_each(|name| config.set(name, Value::UNKNOWN));
        let (_, told) = stage.plan(&config, None).await;
        assert!(!told.has_errors(), "{names:?}: {}", words(&told));
    }
    let mut config = stage.config(&service("blue", &json!({})));
    let mut either = config.get("service").clone();
    for name in ["task_definition", "task_definition_arn", "image", "container_name", "launch_type"] {
        either.set(name, Value::UNKNOWN);
    }
    either.set("capacity_provider_strategy", Value::UNKNOWN);
    config.set("service", either);
    config.set("listener_arn", Value::UNKNOWN);
    let (_, told) = stage.plan(&config, None).await;
    assert!(!told.has_errors(), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn p15_what_is_there_keeps_its_ids_in_a_plan() {
    let stage = stage();
    let made = stage.made(&instances("green", &json!({}))).await;
    let state = made.state.clone().unwrap();
    for name in ["release", "vpc_id", "tags", "target_group", "instances"] {
        let mut config = stage.config(&instances("green", &json!({})));
        config.set(name, Value::UNKNOWN);
        let (planned, told) = stage.plan(&config, Some(&made)).await;
        assert!(!told.has_errors(), "{name}: {}", words(&told));
        let planned = planned.state.unwrap();
        for id in ["id", "target_group_arn", "target_group_name", "security_group_id", "autoscaling_group_name"] {
            assert_eq!(planned.get(id), state.get(id), "{name} unknown: {id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p16_small_things() {
    let stage = stage();
    stage.lead(&[("blue", 100)]);
    let made = stage.made(&service("green", &json!({}))).await;
    let by_arn = service("green", &json!({ "cluster": "arn:aws:ecs:eu-central-1:123456789012:cluster/main" }));
    let (planned, told) = stage.plan(&stage.config(&by_arn), Some(&made)).await;
    assert!(planned.replace.is_empty() && !told.has_errors(), "{}", words(&told));
    assert_eq!(planned.state.unwrap().get("mirror"), made.state.as_ref().unwrap().get("mirror"));
    // An instance on standby is out of service on purpose.
    let made = stage.made(&instances("green", &json!({ "max_size": 5 }))).await;
    stage.cloud.meddle("myapp-green", |group| "Standby".clone_into(&mut group.members[0].0.state));
    let after = applied(&stage, &instances("green", &json!({ "max_size": 5, "desired_capacity": 3 })), &made).await;
    assert_there(&stage, &after);
    let mut json = instances("red", &json!({}));
    json["target_group"]["health_check"] = json!({ "interval": 5 });
    let (_, told) = stage.plan(&stage.config(&json), None).await;
    assert!(words(&told).contains("The timeout is too long"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn p18_nothing_of_a_task_definition_is_shown() {
    let stage = stage();
    stage.lead(&[("blue", 100)]);
    let secret = r#"{"family":"app","containerDefinitions":[{"name":"app","portMappings":[{"containerPort":80}],"image":"x","command":["--token=hush"],
        "logConfiguration":{"logDriver":"awslogs","options":{"key":"hush"}},"dockerLabels":{"a":"hush"},"environment":[{"name":"K","value":"hush"}]}]}"#;
    let made = stage.made(&service("green", &json!({ "task_definition": secret }))).await;
    for name in ["mirror", "mirror_verbatim"] {
        assert!(!text(&made, name).contains("hush") && !text(&made, name).contains("token"), "{}", text(&made, name));
    }
}

#[tokio::test(start_paused = true)]
async fn p19_revisions_are_not_left_behind_nor_taken_from_others() {
    let stage = stage();
    stage.lead(&[("blue", 100)]);
    let made = stage.made(&service("green", &json!({ "keep_revisions": 0 }))).await;
    let first = text(&made, "task_definition_arn");
    stage.cloud.foreign_service("main", "batch", &first);
    let other = r#"{"family":"other","containerDefinitions":[{"name":"app","portMappings":[{"containerPort":80}],"image":"x"}]}"#;
    let changed = service("green", &json!({ "task_definition": other, "keep_revisions": 0 }));
    let after = applied(&stage, &changed, &made).await;
    assert!(stage.cloud.inventory().contains(&"revision task-definition/app:1".to_owned()), "another service runs it");
    let by_arn = json!({
        "task_definition": null, "task_definition_arn": "arn:aws:ecs:eu-central-1:123456789012:task-definition/app:1",
        "container_name": "app", "image": null, "keep_revisions": 0,
    });
    let read = refreshed(&stage, &after).await;
    let after = applied(&stage, &service("green", &by_arn), &read).await;
    assert!(
        !stage.cloud.inventory().contains(&"revision task-definition/other:1".to_owned()),
        "{:?}",
        stage.cloud.inventory()
    );
    let (gone, told) = stage.destroy(&refreshed(&stage, &after).await).await;
    assert!(gone.state.is_none() && !told.has_errors(), "{}", words(&told));
    assert_eq!(stage.cloud.inventory(), ["service service/main/batch", "revision task-definition/app:1"]);
    assert!(words(&told).contains("Revisions are still in use"), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn a_create_is_finished_by_the_next_one_wherever_it_died() {
    for json in [instances("green", &json!({})), service("green", &json!({}))] {
        for call in 0.. {
            let stage = stage();
            stage.lead(&[("blue", 100)]);
            let (call, fault) = (call / 2, if call % 2 == 0 { Fault::DiesBefore } else { Fault::DiesAfter });
            stage.cloud.fault(call, fault);
            let config = stage.config(&json);
            let died = tokio::select! {
                _ = stage.apply(&config, None) => false,
                () = stage.cloud.died() => true,
            };
            if !died {
                assert!(call > 5, "the whole create was tried");
                break;
            }
            stage.cloud.heal();
            let (stored, told) = stage.restarted().apply(&config, None).await;
            assert!(!told.has_errors(), "{call} {fault:?}: {}", words(&told));
            assert_there(&stage, &stored);
            let (gone, told) = stage.destroy(&stored).await;
            assert!(gone.state.is_none(), "{}", words(&told));
            assert_eq!(stage.cloud.inventory(), Vec::<String>::new(), "{call} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn everything_says_whose_it_is() {
    let stage = stage();
    let made = stage.made(&instances("green", &json!({}))).await;
    let ids = ["target_group_arn", "security_group_id", "launch_template_id", "autoscaling_group_name"];
    let owners: Vec<String> = ids.iter().map(|id| stage.cloud.tags_of(&text(&made, id))[OWNER_TAG].clone()).collect();
    assert!(owners.iter().all(|owner| *owner == owners[0] && !owner.is_empty()), "{owners:?}");
    assert!(ids.iter().all(|id| stage.cloud.tags_of(&text(&made, id)).contains_key(MADE_TAG)));
    assert!(LISTENER.contains("listener"));
}

#[tokio::test(start_paused = true)]
async fn drift_of_a_live_color_is_no_difference_between_the_colors() {
    let stage = stage();
    let json = instances("blue", &json!({}));
    let made = stage.made(&json).await;
    stage.lead(&[(&group(&made), 100)]);
    stage.cloud.meddle_with_group(&group(&made), |group| {
        if let Some(check) = &mut group.health_check {
            check.path = Some("/hotfix".to_owned());
        }
    });
    let read = refreshed(&stage, &made).await;
    let (planned, told) = stage.plan(&stage.config(&json), Some(&read)).await;
    assert!(!told.has_errors(), "{}", words(&told));
    assert_eq!(planned.state.as_ref().unwrap().get("mirror"), made.state.as_ref().unwrap().get("mirror"));
    assert_eq!(planned.state, read.state, "nothing is planned");
}

#[tokio::test(start_paused = true)]
async fn what_others_deployed_is_not_forgotten_by_an_apply() {
    for ecs in [true, false] {
        let stage = stage();
        stage.lead(&[("elsewhere", 100)]);
        let json = if ecs { service("blue", &json!({})) } else { instances("blue", &json!({})) };
        let made = stage.made(&json).await;
        let arn = group(&made);
        stage.lead(&[(&arn, 100)]);
        if ecs {
            stage.cloud.foreign_deployment(
                &text(&made, "service_arn"),
                "arn:aws:ecs:eu-central-1:123456789012:task-definition/fo:7",
            );
        } else {
            // Of an attribute that the configuration doesn't have.
            let version = stage.cloud.add_version(&text(&made, "launch_template_id"), |instances, _| {
                instances.key_name = Some("ops".to_owned());
            });
            stage.cloud.meddle("myapp-blue", |group| {
                group.template.1 = version.to_string();
                group.members.clear();
            });
        }
        let mut other = json.clone();
        other["tags"] = json!({ "round": "2" });
        let after = applied(&stage, &other, &refreshed(&stage, &made).await).await;
        let (read, told) = stage.restarted().read(&after).await;
        assert!(words(&told).contains("not as it was applied"), "{ecs}: {}", words(&told));
        // Once it is idle, it is put right.
        stage.lead(&[(&arn, 0), ("green", 100)]);
        let read = refreshed(&stage, &read).await;
        let (planned, _) = stage.plan(&stage.config(&other), Some(&read)).await;
        assert_ne!(planned.state, read.state, "{ecs}");
        let calls = stage.cloud.summary().len();
        applied(&stage, &other, &read).await;
        let done = stage.cloud.summary()[calls..].to_vec();
        assert!(done.iter().any(|call| call.starts_with("deploy") || call.starts_with("refresh")), "{ecs}: {done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_color_is_left_as_it_is_but_for_what_was_asked() {
    let stage = stage();
    let made = stage.made(&instances("blue", &json!({}))).await;
    let arn = group(&made);
    stage.lead(&[(&arn, 100)]);
    // In an incident: attributes that the configuration has, and such that it hasn't.
    stage.cloud.meddle("myapp-blue", |group| {
        group.settings.health_check_type = Some("EC2".to_owned());
        (group.settings.min_size, group.settings.max_size, group.settings.desired_capacity) = (3, 9, Some(3));
    });
    stage.cloud.meddle_with_group(&arn, |group| {
        if let Some(check) = &mut group.health_check {
            (check.path, check.unhealthy_threshold) = (Some("/ok".to_owned()), Some(10));
        }
    });
    let read = refreshed(&stage, &made).await;
    // What is asked beside it is done, and nothing else.
    let mut json = instances("blue", &json!({ "health_check_grace_period": 77 }));
    json["target_group"]["deregistration_delay"] = json!(7);
    let after = applied(&stage, &json, &read).await;
    let seen = stage.cloud.settings("myapp-blue");
    assert_eq!((seen.health_check_type.as_deref(), seen.health_check_grace_period), (Some("EC2"), Some(77)));
    assert_eq!((seen.min_size, seen.max_size), (3, 9));
    let group = stage.cloud.group(&arn);
    let check = group.health_check.unwrap();
    assert_eq!(
        (check.path.as_deref(), check.unhealthy_threshold, group.deregistration_delay),
        (Some("/ok"), Some(10), Some(7))
    );
    // And once it is idle, all of it is put right.
    stage.lead(&[(&arn, 0), ("green", 100)]);
    let after = applied(&stage, &json, &refreshed(&stage, &after).await).await;
    let seen = stage.cloud.settings("myapp-blue");
    assert_eq!((seen.health_check_type.as_deref(), seen.min_size, seen.max_size), (Some("ELB"), 2, 4));
    assert_eq!(stage.cloud.group(&arn).health_check.unwrap().path.as_deref(), Some("/health"));
    let read = refreshed(&stage, &after).await;
    assert_eq!(stage.plan(&stage.config(&json), Some(&read)).await.0.state, read.state);
}

#[tokio::test(start_paused = true)]
async fn an_imported_color_is_spared_as_well() {
    let stage = stage();
    let arn = stage.cloud.adoptable("blue");
    stage.lead(&[(&arn, 100)]);
    let mut json = instances("blue", &json!({}));
    json["target_group"] = json!(null);
    json["target_group_arn"] = json!(arn);
    stage.made(&json).await;
    let imported = stage.restarted().imported(&json).await;
    let version = stage.cloud.add_version(&text(&imported, "launch_template_id"), |instances, _| {
        "ami-9".clone_into(&mut instances.image_id);
    });
    stage.cloud.meddle("myapp-blue", |group| group.template.1 = version.to_string());
    let read = refreshed(&stage, &imported).await;
    let (_, told) = stage.plan(&stage.config(&json), Some(&read)).await;
    assert!(!told.has_errors(), "{}", words(&told));
}

#[tokio::test(start_paused = true)]
async fn p01_of_fixed_targets_the_heir_keeps_its_own() {
    let stage = stage();
    let arn = stage.cloud.adoptable("green");
    stage.lead(&[(&arn, 0), ("blue", 100)]);
    let json = json!({ "name": "myapp", "color": "green", "target_group_arn": arn, "targets": [{ "id": "10.0.0.7", "port": 80 }] });
    let old = stage.made(&json).await;
    // One run makes the heir and destroys the other one.
    let (config, process) = (stage.config(&json), stage.restarted());
    let planned = process.plan(&config, None).await;
    let (new, told) = process.apply_here(&config, planned).await;
    assert!(!told.has_errors(), "{}", words(&told));
    let (gone, told) = process.destroy_here(&old).await;
    assert!(gone.state.is_none() && !told.has_errors(), "{}", words(&told));
    let read = refreshed(&stage, &new).await;
    assert_eq!(stage.plan(&config, Some(&read)).await.0.state, read.state, "its targets are there");
}

#[tokio::test(start_paused = true)]
async fn p01_the_second_name_is_as_good_as_the_first() {
    use crate::tf_provider::Resource as _;
    let stage = stage();
    let json = instances("green", &json!({}));
    let old = stage.made(&json).await;
    stage.lead(&[(&group(&old), 0), ("blue", 100)]);
    let config = stage.config(&json);
    let (new, _) = stage.apply(&config, None).await;
    stage.destroy(&old).await;
    // It is imported under its name and color, with everything of it.
    let mut told = crate::tf_provider::Diagnostics::new();
    let imported = stage.restarted().environment.import("myapp/green", Cancel::never(), &mut told).await;
    assert!(!told.has_errors(), "{}", words(&told));
    for name in ["target_group_arn", "security_group_id", "launch_template_id", "autoscaling_group_name"] {
        assert_eq!(text(&imported, name), text(&new, name), "{name}");
    }
    // And where it is live, it isn't replaced.
    stage.lead(&[(&group(&new), 100)]);
    let process = stage.restarted();
    process.read(&new).await;
    let (_, told) = process.plan(&config, None).await;
    assert!(words(&told).contains("myapp/green is live and would be replaced"), "{}", words(&told));
}

/// A group that begins to keep clients at a target where a route has it beside another one: AWS wants that route to keep them at a
/// group first.
#[tokio::test(start_paused = true)]
async fn a_group_becomes_sticky_behind_a_route_with_several() {
    for own in [0, 100] {
        let stage = stage();
        let made = stage.made(&instances("green", &json!({}))).await;
        let arn = group(&made);
        stage.lead(&[(&arn, own), ("arn:other", 100 - own)]);
        let mut changed = instances("green", &json!({}));
        changed["target_group"]["stickiness"] = json!({ "cookie_duration": 60 });
        let stored = applied(&stage, &changed, &refreshed(&stage, &made).await).await;
        let seen = stage.fake.world().routes[LISTENER].terminal.clone();
        assert_eq!(seen.stickiness(), Some(Stickiness { enabled: true, duration_seconds: Some(1) }));
        assert!((seen.share(&arn) - f64::from(own)).abs() < 0.01, "{seen:?}");
        let (planned, _) = stage.plan(&stage.config(&changed), Some(&stored)).await;
        assert_eq!(planned.state, stored.state);
    }
}
