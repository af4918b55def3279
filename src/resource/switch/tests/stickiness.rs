//! Clients that are kept: at a target, so that AWS wants them kept at a group, too, and at a group, whatever its weight is.

use super::rollouts::{bury, told};
use super::{BLUE, GREEN, LISTENER, Stage, config, stage, world};
use crate::rollout::{Forward, Stickiness, Terminal};
use crate::run::rollout::in_memory::Fault;
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
    // Whoever takes the release back does not lead them there again, at whatever weight.
    stage.fake.set_status(200);
    let read = stage.read(&failed).await;
    let back = applied(&stage, &canary(&stage, "blue"), Some(&read)).await;
    assert_eq!(terminal(&stage).groups, [(BLUE.to_owned(), 100)]);
    // And the next release is known to be well before it gets anything: a rule that no request takes has it meanwhile.
    stage.fake.forget();
    let green = applied(&stage, &config, Some(&back)).await;
    let calls = stage.fake.calls();
    let first = calls.iter().position(|call| call.starts_with("set ")).unwrap();
    assert!(calls[..first].iter().any(|call| call.starts_with("create ")), "{calls:?}");
    let share = |group: &str| terminal(&stage).groups.iter().find(|(arn, _)| arn == group).map(|(_, weight)| *weight);
    assert_eq!((share(GREEN), share(BLUE)), (Some(100), Some(0)));
    // From then on it is a color like any other.
    applied(&stage, &canary(&stage, "blue"), Some(&green)).await;
    assert_eq!((share(GREEN), share(BLUE)), (Some(0), Some(100)));
}

/// A rollout that was killed is led back by the next apply: clients whose cookies name what it led them to are not kept there.
#[tokio::test(start_paused = true)]
async fn a_killed_rollouts_clients_are_not_kept_either() {
    for call in 1..4 {
        let stage = stage(world(100, 0));
        lead(&stage, &[(BLUE, 100), (GREEN, 0)], sticky(3600));
        let blue = applied(&stage, &canary(&stage, "blue"), None).await;
        stage.fake.heal();
        stage.fake.fault(call, Fault::DiesAfter);
        let green = canary(&stage, "green");
        tokio::select! {
            _ = stage.apply(&green, Some(&blue)) => continue,
            () = stage.fake.died() => {}
        }
        stage.fake.heal();
        bury(&stage);
        let stage = stage.restarted();
        // With the record written it was over.
        let is_unfinished = stage.fake.world().record.as_deref() == Some("blue");
        let was_led =
            is_unfinished && terminal(&stage).groups.iter().any(|(group, weight)| group == GREEN && *weight > 0);
        let read = stage.read(&blue).await;
        applied(&stage, &canary(&stage, "blue"), Some(&read)).await;
        let is_out = !terminal(&stage).groups.iter().any(|(group, _)| group == GREEN);
        assert_eq!((is_out, terminal(&stage).stickiness), (was_led, sticky(3600)), "{call}");
    }
}
