//! Names, defaults, rules, changes and mirrors, rendered.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::argument::Field as _;

/// The seed stack of a color with some of its instances' attributes changed.
fn seed(color: &str, changed: serde_json::Value) -> Spec {
    let mut instances = json!({
        "image_id": "ami-1", "instance_type": "t3.medium", "user_data": format!("#!/bin/sh\nexport ENV={color}\n"),
        "subnet_ids": ["subnet-b", "subnet-a"], "min_size": 2, "max_size": 4,
        "ingress": [{ "protocol": "tcp", "from_port": 80, "to_port": 80, "cidr_blocks": ["0.0.0.0/0"] }],
    });
    let (map, changed) = (instances.as_object_mut().expect("an object"), changed.as_object().expect("an object"));
    map.extend(changed.clone());
    let spec = json!({
        "name": "myapp", "color": color, "release": "1", "vpc_id": "vpc-1",
        "target_group": { "port": 80, "health_check": { "path": "/health" } },
        "instances": instances,
    });
    Spec::read(&spec).expect("a spec").with_defaults()
}

fn all() -> BTreeSet<Part> {
    let instances = [Part::SecurityGroup, Part::LaunchTemplate, Part::ScalingGroup, Part::Instances];
    instances.into_iter().chain([Part::TargetGroup, Part::Service, Part::Attachment]).collect()
}

fn check(from: &Spec, to: &Spec, there: &BTreeSet<Part>, expected: &Expect) {
    let mut text = String::new();
    for path in replaced(from, to) {
        text += &format!("replaced by {}\n", path.join("."));
    }
    for change in changes(from, to, there) {
        let harm = change.harm(Some(2)).map_or(String::new(), |harm| format!("  [live: {harm}]"));
        let risk = change.risk().map_or(String::new(), |risk| format!("  [risk: {risk}]"));
        text += &format!("{change:?}{harm}{risk}\n");
    }
    expected.assert_eq(&text);
}

#[test]
fn names_fit_and_stay() {
    assert_eq!(name("myapp", "blue"), "myapp-blue");
    let long = name("a-service-with-a-very-long-name", "green");
    assert_eq!(long, "a-service-with-a-green-9f03f95b");
    assert!(long.len() <= 32);
    assert_ne!(name("a-service-with-a-very-long-nam2", "green"), long);
    assert!(name(&"x".repeat(64), &"y".repeat(32)).len() <= 32);
}

#[test]
fn the_same_wish_in_other_words_changes_nothing() {
    let from = seed("blue", json!({}));
    let to = seed("blue", json!({ "subnet_ids": ["subnet-a", "subnet-b"], "health_check_type": "ELB" }));
    check(&from, &to, &all(), &expect![""]);
}

#[test]
fn changes_come_in_order_and_say_whom_they_hurt() {
    let from = seed("blue", json!({}));
    let to = seed(
        "blue",
        json!({
            "image_id": "ami-2", "min_size": 1, "max_size": 1, "subnet_ids": ["subnet-a", "subnet-c"],
            "ingress": [{ "protocol": "tcp", "from_port": 443, "cidr_blocks": ["10.0.0.0/8"] }],
        }),
    );
    check(
        &from,
        &to,
        &all(),
        &expect![[r#"
            Rules { come: [Rule { direction: Ingress, protocol: "tcp", from_port: 443, to_port: 443, peer: V4("10.0.0.0/8") }], gone: [Rule { direction: Ingress, protocol: "tcp", from_port: 80, to_port: 80, peer: V4("0.0.0.0/0") }], closes: [Rule { direction: Ingress, protocol: "tcp", from_port: 80, to_port: 80, peer: V4("0.0.0.0/0") }] }  [live: its instances would no longer be open for: ingress tcp 80 from 0.0.0.0/0]
            ScalingGroup(["subnet_ids"], ["subnet-b"])  [live: instances in subnet-b would be terminated]
            Roll(["image_id"])  [live: image_id changed, so every instance would be replaced]
            Resize { min: (2, 1), max: 1, desired: None }  [live: it has 2 instances and max_size would be 1]
        "#]],
    );
}

#[test]
fn what_is_gone_is_made_again_and_nothing_else() {
    let spec = seed("blue", json!({}));
    for (gone, expected) in [
        (Part::TargetGroup, expect![["Create(TargetGroup)\nCreate(Attachment)\n"]]),
        (Part::Attachment, expect![["Create(Attachment)\n"]]),
        (
            Part::LaunchTemplate,
            expect![[
                "Create(LaunchTemplate)\nRoll([\"the launch template\"])  [live: the launch template changed, so every instance would be replaced]\n"
            ]],
        ),
        (Part::ScalingGroup, expect![["Version\nCreate(ScalingGroup)\n"]]),
    ] {
        let mut there = all();
        there.remove(&gone);
        check(&spec, &spec, &there, &expected);
    }
}

#[test]
fn a_port_makes_everything_anew() {
    let (from, mut to) = (seed("blue", json!({})), seed("blue", json!({})));
    to.target_group.as_mut().expect("there is one").port = Some(8080);
    to.vpc_id = Some("vpc-2".to_owned());
    check(&from, &to, &all(), &expect![["replaced by vpc_id\nreplaced by target_group.port\n"]]);
}

#[test]
fn user_data_means_the_same_in_either_way_of_writing() {
    let text = "{ \"ignition\": { \"version\": \"3.4.0\" } }\n";
    let encoded = "eyAiaWduaXRpb24iOiB7ICJ2ZXJzaW9uIjogIjMuNC4wIiB9IH0K";
    let mut found = seed("green", json!({ "user_data": text }));
    let other = seed("green", json!({ "user_data": null, "user_data_base64": encoded }));
    let nothing = expect![""];
    check(&found, &other, &all(), &nothing);
    check(&other, &found, &all(), &nothing);
    assert_eq!(mirror(&found), mirror(&other));
    // As it is imported: Terraform would write it as `jsonencode(…)`.
    let instances = found.instances.as_mut().unwrap();
    instances.write_json_data();
    assert_eq!(found, other);
    // What isn't JSON, and what isn't text.
    for plain in [
        json!({ "user_data": "7" }),
        json!({ "user_data": "{ no" }),
        json!({ "user_data": null, "user_data_base64": "/w==" }),
    ] {
        let (mut written, same) = (seed("green", plain.clone()), seed("green", plain));
        written.instances.as_mut().unwrap().write_json_data();
        assert_eq!(written, same);
        assert_eq!(written.instances.as_ref().unwrap().with_plain_data(), same.instances.unwrap());
    }
}

#[test]
fn mirrors_differ_in_what_is_not_meant_to() {
    let blue = seed("blue", json!({ "image_id": "ami-9", "desired_capacity": 4 }));
    let green = seed("green", json!({}));
    assert_eq!(mirror(&blue).neutral, mirror(&green).neutral);
    let check = |one: &Spec, other: &Spec, expected: &Expect| {
        let told = differences(("blue", &mirror(one)), ("green", &mirror(other)));
        expected.assert_eq(&told.join("\n"));
    };
    check(&blue, &green, &expect![""]);
    let user_data = |color: &str, text: &str| seed(color, json!({ "user_data": text }));
    // A color that is wired to the other one at one place.
    let other = json!({ "instance_type": "t3.large", "user_data": "#!/bin/sh\nexport ENV=blue NAME=green\n" });
    let blue = seed("blue", json!({ "user_data": "#!/bin/sh\nexport ENV=blue NAME=blue\n" }));
    let other = seed("green", other);
    check(
        &blue,
        &other,
        &expect![[r#"
            instances.instance_type: blue and green differ
            instances.user_data: blue and green differ from line 2 on"#]],
    );
    // The very same text, whatever colors it names; the name in other letters; and how lines end.
    check(&user_data("blue", "# blue/green\n"), &user_data("green", "# blue/green\n"), &expect![""]);
    check(&user_data("blue", "ENV=BLUE\nBlue"), &user_data("green", "ENV=GREEN\nGreen"), &expect![""]);
    check(
        &user_data("blue", "a\nb\n"),
        &user_data("green", "a\r\nb\n"),
        &expect!["instances.user_data: blue and green differ from line 1 on"],
    );
    let (blue, mut more) = (seed("blue", json!({})), green.clone());
    more.tags.insert("team".to_owned(), "a".to_owned());
    check(&blue, &more, &expect!["tags.team: only green has it"]);
}

#[test]
fn an_image_goes_where_its_container_is() {
    let text = r#"{"family":"api","cpu":"256","somethingNew":{"x":1},"containerDefinitions":[{"name":"api","image":"api:1"},{"name":"proxy","image":"p:1"}]}"#;
    let service = Service {
        task_definition: Some(text.to_owned()),
        image: Some("api:2".to_owned()),
        container_name: Some("api".to_owned()),
        ..Service::default()
    };
    let definition = service.definition().expect("valid").expect("there is one");
    expect![[r#"{"containerDefinitions":[{"image":"api:2","name":"api"},{"image":"p:1","name":"proxy"}],"cpu":"256","family":"api","somethingNew":{"x":1}}"#]]
        .assert_eq(&definition.text());
    let unnamed = Service { container_name: None, ..service.clone() };
    assert!(unnamed.definition().expect_err("which one?").contains("api, proxy"));
    let spaced = Service { task_definition: Some(text.replace(',', " ,\n ")), ..service.clone() };
    assert!(service.runs_like(&spaced));
    for (wrong, says) in [
        ("[]", "JSON object"),
        ("{", "not JSON"),
        (r#"{"family":"x"}"#, "containerDefinitions"),
        (r#"{"ContainerDefinitions":[]}"#, "CloudFormation"),
    ] {
        let error = TaskDefinition::parse(wrong).expect_err(wrong);
        assert!(error.contains(says), "{wrong}: {error}");
    }
}
