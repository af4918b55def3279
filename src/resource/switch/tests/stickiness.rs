//! Clients that are kept: at a target, so that AWS wants them kept at a group, too, and at a group, whatever its weight is.

use super::rollouts::told;
use super::{BLUE, GREEN, LISTENER, Stage, config, stage, world};
use crate::rollout::{Forward, Stickiness, Terminal};
use crate::tf_provider::{Stored, Value};

fn canary(stage: &Stage, active: &str) -> Value {
    let mut config = config(&stage.switch, Value::from(active));
    let canary = Value::object([("percent", Value::from(10)), ("interval", Value::from("30s"))]);
    config.set("strategy", Value::object([("canary", canary)]));
    config
}

fn terminal(stage: &Stage) -> Forward {
    match &stage.fake.world().routes[LISTENER].terminal {
        Terminal::Forward(forward) => forward.clone(),
        other => panic!("{other:?}"),
    }
}

fn sticky(seconds: i32) -> Option<Stickiness> {
    Some(Stickiness { enabled: true, duration_seconds: Some(seconds) })
}

fn lead(stage: &Stage, groups: &[(&str, u32)], stickiness: Option<Stickiness>) {
    let groups = groups.iter().map(|(group, weight)| ((*group).to_owned(), *weight)).collect();
    let after = Terminal::Forward(Forward { groups, stickiness });
    stage.fake.meddle(|world| world.routes.get_mut(LISTENER).unwrap().terminal = after);
}

async fn applied(stage: &Stage, config: &Value, prior: Option<&Stored>) -> Stored {
    let (stored, diagnostics) = stage.apply(config, prior).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let read = stage.read(&stored).await;
    let (planned, _) = stage.plan(config, Some(&read)).await;
    assert_eq!(planned.state, read.state, "a plan right after the apply");
    read
}

#[tokio::test(start_paused = true)]
async fn a_group_that_keeps_clients_at_a_target_is_switched_like_any_other() {
    for kept in [&[BLUE, GREEN][..], &[GREEN], &[BLUE]] {
        let stage = stage(world(100, 0));
        lead(&stage, &[(BLUE, 1)], None);
        stage.fake.meddle(|world| world.sticky = kept.iter().map(|group| (*group).to_owned()).collect());
        let blue = applied(&stage, &canary(&stage, "blue"), None).await;
        assert_eq!(terminal(&stage).stickiness, sticky(1), "as shortly as can be");
        let (_, diagnostics) = stage.plan(&canary(&stage, "green"), Some(&blue)).await;
        assert!(!told(&diagnostics).contains("group stickiness"), "{}", told(&diagnostics));
        let green = applied(&stage, &canary(&stage, "green"), Some(&blue)).await;
        let forward = terminal(&stage);
        assert_eq!(forward.stickiness, sticky(1));
        assert_eq!(forward.groups.iter().filter(|(_, weight)| *weight > 0).count(), 1);
        applied(&stage, &canary(&stage, "blue"), Some(&green)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_that_routes_get_stickiness() {
    let stage = stage(world(100, 0));
    lead(&stage, &[(BLUE, 1)], None);
    stage.fake.meddle(|world| world.sticky = [GREEN.to_owned()].into());
    let (_, diagnostics) = stage.plan(&canary(&stage, "blue"), None).await;
    let words = told(&diagnostics);
    assert!(words.contains("green keeps clients at a target") && words.contains("1s"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn clients_are_not_kept_at_a_color_that_failed() {
    let stage = stage(world(100, 0));
    lead(&stage, &[(BLUE, 100), (GREEN, 0)], sticky(3600));
    let blue = applied(&stage, &canary(&stage, "blue"), None).await;
    let mut config = canary(&stage, "green");
    let check = Value::object([("url", Value::from("http://app.test/"))]);
    config.set("verification", Value::object([("http", Value::List(vec![check]))]));
    stage.fake.set_status(500);
    let (failed, diagnostics) = stage.apply(&config, Some(&blue)).await;
    let words = told(&diagnostics);
    assert!(diagnostics.has_errors() && words.contains("Rolled back"), "{words}");
    assert!(words.contains("green is left out of the action of listener web/2"), "{words}");
    assert_eq!(terminal(&stage).groups, [(BLUE.to_owned(), 100)], "a cookie for green leads to blue by now");
    assert_eq!(terminal(&stage).stickiness, sticky(3600));
    // It goes on from there, either way.
    stage.fake.set_status(200);
    let read = stage.read(&failed).await;
    applied(&stage, &config, Some(&read)).await;
    assert_eq!(terminal(&stage).groups.iter().find(|(group, _)| group == GREEN).map(|(_, weight)| *weight), Some(100));
}
