//! The resource over a world in memory: what it plans, applies and reads, without a Terraform.

mod budgets;
mod cohort;
mod credentials;
mod freezes;
mod gates;
mod groups;
mod heart;
mod processing;
mod random;
mod regions;
mod rollouts;
mod stickiness;
mod trial;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Switch;
use crate::resource::Context;
use crate::resource::testing::{apply_request, assert_kept, destroy_request, plan_request, read_request};
use crate::rollout::{Ahead, Forward, Observed, Terminal, World};
use crate::run::rollout::in_memory::{Fake, Fault};
use crate::run::stack::in_memory::Cloud;
use crate::tf_provider::{Cancel, Diagnostics, Planned, Resource as _, Stored, Value};

const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/2";
const BLUE: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/1";
const GREEN: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/green/1";

struct Stage {
    fake: Arc<Fake>,
    switch: Arc<Switch>,
}

fn world(blue: u32, green: u32) -> World {
    let groups = vec![(BLUE.to_owned(), blue), (GREEN.to_owned(), green)];
    let terminal = Terminal::Forward(Forward { groups, stickiness: None });
    let observed = Observed::leading(LISTENER.to_owned(), terminal);
    World {
        routes: BTreeMap::from([(LISTENER.to_owned(), observed)]),
        record: None,
        capacities: BTreeMap::new(),
        ..World::default()
    }
}

fn stage(world: World) -> Stage {
    let fake = Fake::new(world, &[BLUE, GREEN]);
    let switch = Arc::new(Switch::new(Arc::new(Context::over(&fake, &Cloud::new(fake.clone())))));
    Stage { fake, switch }
}

fn config(switch: &Switch, active: Value) -> Value {
    let mut config = switch.schema.null_object();
    let environment = |arn: Value| Value::object([("target_group_arn", arn)]);
    config.set("name", Value::from("app"));
    config.set("active", active);
    config.set(
        "environments",
        Value::object([("blue", environment(Value::from(BLUE))), ("green", environment(Value::from(GREEN)))]),
    );
    config.set("routes", Value::List(vec![Value::object([("listener_arn", Value::from(LISTENER))])]));
    config.set("parameter", Value::from("/app/live"));
    config
}

/// A route of the switch's own, for a path.
fn own_rule(priority: i64, path: &str) -> Value {
    let paths = Value::List(vec![Value::from(path)]);
    Value::object([
        ("listener_arn", Value::from(LISTENER)),
        ("priority", Value::from(priority)),
        ("conditions", Value::object([("path_patterns", paths)])),
    ])
}

impl Stage {
    async fn plan(&self, config: &Value, prior: Option<&Stored>) -> (Planned, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let request = plan_request(&self.switch.schema, config, prior);
        (self.switch.plan(request, &mut diagnostics).await, diagnostics)
    }

    async fn apply(&self, config: &Value, prior: Option<&Stored>) -> (Stored, Diagnostics) {
        self.apply_until(config, prior, Cancel::never()).await
    }

    async fn apply_until(&self, config: &Value, prior: Option<&Stored>, cancel: Cancel) -> (Stored, Diagnostics) {
        let (planned, diagnostics) = self.plan(config, prior).await;
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        self.apply_planned(config, prior, (planned, diagnostics), cancel).await
    }

    /// Applies what was planned before.
    async fn apply_planned(
        &self,
        config: &Value,
        prior: Option<&Stored>,
        (planned, mut diagnostics): (Planned, Diagnostics),
        cancel: Cancel,
    ) -> (Stored, Diagnostics) {
        let state = planned.state.clone();
        let request = apply_request(config, prior, planned, cancel);
        let stored = self.switch.apply(request, &mut diagnostics).await;
        if !diagnostics.has_errors() {
            assert_kept(state.as_ref().unwrap(), stored.state.as_ref().unwrap());
        }
        (stored, diagnostics)
    }

    async fn destroy(&self, stored: &Stored) -> (Stored, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let request = destroy_request(stored);
        (self.switch.destroy(request, &mut diagnostics).await, diagnostics)
    }

    /// Another process of the provider over the same world.
    fn restarted(&self) -> Stage {
        let switch = Arc::new(Switch::new(Arc::new(Context::over(&self.fake, &Cloud::new(self.fake.clone())))));
        Stage { fake: self.fake.clone(), switch }
    }

    async fn read(&self, stored: &Stored) -> Stored {
        let mut diagnostics = Diagnostics::new();
        let state = stored.state.clone().unwrap();
        let request = read_request(state, &stored.private);
        let stored = self.switch.read(request, &mut diagnostics).await;
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        stored
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_right_after_an_apply_is_empty() {
    let stage = stage(world(100, 0));
    let mut stored: Option<Stored> = None;
    for active in [Value::from("blue"), Value::from("green"), Value::Null, Value::from("blue")] {
        let config = config(&stage.switch, active);
        let (applied, diagnostics) = stage.apply(&config, stored.as_ref()).await;
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        let read = stage.read(&applied).await;
        assert_eq!(read.state, applied.state, "a refresh found what the apply left");
        let (planned, _) = stage.plan(&config, Some(&read)).await;
        assert_eq!(planned.state, read.state);
        stored = Some(read);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_schema_gets_no_more_traffic() {
    let stage = stage(world(0, 100));
    let (stored, _) = stage.apply(&config(&stage.switch, Value::from("green")), None).await;
    let mut contracted = config(&stage.switch, Value::from("blue"));
    let contract = [("color", "green"), ("at", "2026-01-01T00:00:00Z"), ("migration", "rename")];
    contracted.set("contracted_for", Value::object(contract.map(|(name, text)| (name, Value::from(text)))));
    // Also not if somebody made it the busiest one by hand.
    for blue in [0, 51, 99] {
        stage.fake.meddle(|seen| seen.routes = world(blue, 100 - blue).routes);
        let read = stage.read(&stored).await;
        let (_, diagnostics) = stage.plan(&contracted, Some(&read)).await;
        let words = rollouts::told(&diagnostics);
        assert!(words.starts_with("blue has a release from before the contract\n"), "{blue}: {words}");
        let serves = if blue == 0 { "green serves as before" } else { "blue serves" };
        assert!(diagnostics.has_errors() && words.contains(serves), "{blue}: {words}");
    }
    // What it has is not taken from it by that.
    stage.fake.meddle(|seen| seen.routes = world(100, 0).routes);
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.plan(&contracted, Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
}

#[tokio::test(start_paused = true)]
async fn anything_may_be_unknown_when_planning() {
    let stage = stage(world(100, 0));
    let whole = config(&stage.switch, Value::from("green"));
    let (applied, _) = stage.apply(&config(&stage.switch, Value::from("blue")), None).await;
    for name in ["name", "active", "environments", "routes", "parameter", "validation", "preview_routes"] {
        let mut unknown = whole.clone();
        unknown.set(name, Value::UNKNOWN);
        for prior in [None, Some(&applied)] {
            let (planned, diagnostics) = stage.plan(&unknown, prior).await;
            assert!(!diagnostics.has_errors(), "{name}: {diagnostics:?}");
            // The apply may make a known value of an unknown one, and nothing else.
            let (later, _) = stage.plan(&whole, prior).await;
            for (attribute, value) in planned.state.as_ref().unwrap().as_map().unwrap() {
                if value.is_wholly_known() && attribute != name && attribute != "id" {
                    assert_eq!(value, later.state.as_ref().unwrap().get(attribute), "{name} unknown: {attribute}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_was_put_back_leaves_no_object() {
    let stage = stage(world(100, 0));
    stage.fake.fault(0, Fault::Refused);
    let (stored, diagnostics) = stage.apply(&config(&stage.switch, Value::from("green")), None).await;
    assert!(diagnostics.has_errors());
    assert_eq!(stored.state, None);
    assert_eq!(stage.fake.world(), world(100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_switch_tells_the_whole_story() {
    let stage = stage(world(100, 0));
    let (applied, _) = stage.apply(&config(&stage.switch, Value::from("blue")), None).await;
    stage.fake.heal();
    stage.fake.fault(0, Fault::Refused);
    let (stored, diagnostics) = stage.apply(&config(&stage.switch, Value::from("green")), Some(&applied)).await;
    let told: Vec<String> = diagnostics
        .iter()
        .map(|d| format!("{} {}\n{}", d.path.clone().unwrap_or_default(), d.summary, d.detail))
        .collect();
    expect_test::expect![[r#"
        routes[0] Failed to switch app to green
        Failed to set listener web/2: blue 100 %, green 0 % → blue 0 %, green 100 %:
          it broke

        Rolled back: all routes are as before.

        Traffic now:
          listener web/2: blue 100 %, green 0 %
        The record /app/live says blue.

        Next: correct the cause and run `terraform apply` again; the plan will show the same change."#]]
    .assert_eq(&told.join("\n---\n"));
    let state = stored.state.unwrap();
    assert_eq!(state.get("live"), &Value::from("blue"));
    assert_eq!(state.get("active"), &Value::from("blue"));
    assert_eq!(state.get("last_rollout").get("status"), &Value::from("rolled_back"));
}

#[tokio::test(start_paused = true)]
async fn a_verified_release_stays_where_the_record_can_t_be_written() {
    let stage = stage(world(100, 0));
    let (applied, _) = stage.apply(&config(&stage.switch, Value::from("blue")), None).await;
    stage.fake.heal();
    stage.fake.fault(1, Fault::Refused);
    let green = config(&stage.switch, Value::from("green"));
    let (stored, diagnostics) = stage.apply(&green, Some(&applied)).await;
    expect_test::expect![[r#"
        Not everything after the rollout of app was done
        The rollout has completed: traffic is as planned. Some of what comes after it failed:
          write /app/live: blue → green: it broke

        The record /app/live may still say blue, and whoever goes by it, such as a pipeline or the guard of a bluegreen_migration, takes that for live instead of green.

        Next: correct the cause above and run `terraform apply` again; the plan shows what is left."#]].assert_eq(&rollouts::told(&diagnostics));
    assert!(!diagnostics.has_errors());
    assert_eq!(stored.state.as_ref().unwrap().get("live"), &Value::from("green"));
    assert_eq!(stage.fake.world().record.as_deref(), Some("blue"));
    // The next plan shows it, and its apply writes it.
    let read = stage.read(&stored).await;
    let (planned, _) = stage.plan(&green, Some(&read)).await;
    assert_eq!(planned.state.unwrap().get("runbook").strings(), ["write /app/live: blue → green"]);
    stage.apply(&green, Some(&read)).await;
    assert_eq!(stage.fake.world().record.as_deref(), Some("green"));
}

#[tokio::test(start_paused = true)]
async fn a_parameter_that_takes_no_further_version_bars_a_rollout_before_it_moves() {
    for name in ["/app/live", "/app/live.rollout"] {
        let stage = stage(world(100, 0));
        let (stored, _) = stage.apply(&config(&stage.switch, Value::from("blue")), None).await;
        stage.fake.bar(name, "prod", 3);
        let green = config(&stage.switch, Value::from("green"));
        let (_, diagnostics) = stage.plan(&green, Some(&stage.read(&stored).await)).await;
        let told = rollouts::told(&diagnostics);
        let command = format!("--name {name} --parameter-version 3 --labels prod --region eu-central-1");
        assert!(diagnostics.has_errors() && told.contains(&command), "{told}");
        // What moves nothing is not barred.
        let (_, diagnostics) = stage.plan(&config(&stage.switch, Value::from("blue")), Some(&stored)).await;
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_put_back_is_told_with_where_it_is() {
    let mut before = world(100, 0);
    let cognito = serde_json::json!({ "Order": 1, "Type": "authenticate-cognito" });
    let ahead = Ahead { actions: vec![cognito], ..Ahead::default() };
    before.routes.values_mut().for_each(|seen| seen.ahead = ahead.clone());
    let stage = stage(before);
    let (applied, _) = stage.apply(&config(&stage.switch, Value::from("blue")), None).await;
    stage.fake.heal();
    stage.fake.set_status(500);
    stage.fake.fault(1, Fault::Refused);
    let mut watched = config(&stage.switch, Value::from("green"));
    let check = Value::object([("url", Value::from("http://{color}.test/"))]);
    watched.set("verification", Value::object([("http", Value::List(vec![check]))]));
    let (stored, diagnostics) = stage.apply(&watched, Some(&applied)).await;
    let detail = &diagnostics.iter().next().unwrap().detail;
    // Without the line that says when.
    let lines: Vec<&str> = detail.lines().filter(|line| !line.contains("verification.http[0] at")).collect();
    expect_test::expect![[r#"
        Verification of green at 100 % failed:
          GET http://green.test/ answered with status 500 instead of 200; the body begins "hello" (1 try)

        ROLLBACK FAILED. Act now:
          could not undo "set listener web/2: blue 100 %, green 0 % → blue 0 %, green 100 %": it broke

        To put it back by hand:
          aws elbv2 modify-listener --listener-arn arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/2 --default-actions '[{"Order":1,"Type":"authenticate-cognito"},{"ForwardConfig":{"TargetGroups":[{"TargetGroupArn":"arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/1","Weight":100},{"TargetGroupArn":"arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/green/1","Weight":0}]},"Order":2,"Type":"forward"}]' --region eu-central-1

        Users reached green for 0s so far, at most 100.0 % of them.

        Traffic now:
          listener web/2: blue 0 %, green 100 %
        The record /app/live says blue.

        Next: remove the cause above, then run `terraform apply`: it starts from what is there. To roll back instead, set active = "blue" first. If Terraform calls the switch tainted, run `terraform untaint` before that, so that it is not replaced."#]]
    .assert_eq(&lines.join("\n"));
    let state = stored.state.unwrap();
    assert_eq!(state.get("live"), &Value::from("green"));
    assert_eq!(state.get("last_rollout").get("status"), &Value::from("stuck"));
}
