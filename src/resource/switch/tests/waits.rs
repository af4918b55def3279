//! A rollout that waits for a person at a part of the traffic.

use std::time::Duration;

use super::rollouts::{careful, carefully_on_blue, share, told, with_strategy};
use super::{BLUE, GREEN, LISTENER, Stage, own_rule, stage, world};
use crate::rollout::lock_record::Status;
use crate::rollout::{Capacity, Forward, LockRecord, Observed, Terminal};
use crate::run::rollout::in_memory::Fault;
use crate::tf_provider::{Diagnostics, Number, Stored, Value};

const LOCK: &str = "/app/live.rollout";

/// Steps of 10 and 50 percent, and no further than this.
pub(super) fn up_to(stage: &Stage, active: &str, percent: Option<f64>) -> Value {
    let percent = percent.map_or(Value::Null, |percent| Value::Number(Number::from_f64(percent)));
    with_strategy(careful(stage, active), "up_to", percent)
}

/// The same, for a day, by the web team.
fn approved(stage: &Stage, percent: Option<f64>, on_timeout: &str) -> Value {
    let approval = [("by", "the web team"), ("timeout", "24h"), ("on_timeout", on_timeout)];
    let approval = Value::object(approval.map(|(name, text)| (name, Value::from(text))));
    with_strategy(up_to(stage, "green", percent), "approval", approval)
}

async fn applied(stage: &Stage, config: &Value, prior: &Stored) -> Stored {
    let (stored, diagnostics) = stage.apply(config, Some(prior)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    stage.read(&stored).await
}

async fn planned(stage: &Stage, config: &Value, prior: &Stored) -> (Value, Diagnostics) {
    let (planned, diagnostics) = stage.plan(config, Some(prior)).await;
    (planned.state.unwrap(), diagnostics)
}

fn lock(stage: &Stage) -> Option<LockRecord> {
    stage.fake.lock(LOCK).map(|text| LockRecord::read(&text).unwrap())
}

#[tokio::test(start_paused = true)]
async fn it_waits_there_and_goes_on_from_the_checks() {
    let (stage, stored) = carefully_on_blue().await;
    let config = approved(&stage, Some(10.0), "rollback");
    let (plan, _) = planned(&stage, &config, &stored).await;
    expect_test::expect![[r#"
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 100 %, green 0 % → blue 90 %, green 10 %
        watch green at 10 % for 2m once the load balancer had 10s to settle: green answers GET http://green.test/
        wait with green at 10 % for an approval by the web team; after 24h an apply goes back"#]]
    .assert_eq(&plan.get("runbook").strings().join("\n"));
    let read = applied(&stage, &config, &stored).await;
    assert!((share(&stage) - 10.0).abs() < 1e-9);
    assert_eq!(stage.fake.world().record.as_deref(), Some("blue"));
    let state = read.state.as_ref().unwrap();
    assert_eq!(state.get("active"), &Value::from("green"), "what was asked for");
    assert_eq!(state.get("live"), &Value::from("blue"), "what is");
    assert_eq!(state.get("last_rollout").get("status"), &Value::from("waiting"));
    let left = lock(&stage).unwrap();
    assert_eq!(left.status, Status::Waiting);
    let waiting = left.waiting.unwrap();
    assert_eq!((waiting.percent, waiting.by.as_deref()), (10.0, Some("the web team")));
    assert!(waiting.until.is_some() && waiting.on_timeout.as_deref() == Some("rollback"));
    // As often as it is planned, it is there.
    let (plan, diagnostics) = planned(&stage, &config, &read).await;
    assert_eq!(Some(&plan), read.state.as_ref());
    let words = told(&diagnostics).replace(&waiting.since, "SINCE").replace(&waiting.until.unwrap(), "UNTIL");
    expect_test::expect![[r#"
        A rollout waits for an approval
        The rollout from blue to green waits with 10 % for the web team since SINCE, until UNTIL. To go on: raise strategy.up_to, or leave it out. To go back: set active to "blue"."#]].assert_eq(&words);
    // Without the limit it goes on, from the checks.
    let config = approved(&stage, None, "rollback");
    let (plan, diagnostics) = planned(&stage, &config, &read).await;
    assert_eq!(told(&diagnostics), "");
    let steps = plan.get("runbook").strings();
    assert!(steps[1].starts_with("check that green has at least"), "{steps:?}");
    let read = applied(&stage, &config, &read).await;
    assert_eq!(stage.fake.world().record.as_deref(), Some("green"));
    assert_eq!(lock(&stage), None, "it is over");
    // The limit is for the next rollout: who is live stays so.
    let (plan, _) = planned(&stage, &approved(&stage, Some(10.0), "rollback"), &read).await;
    assert!(plan.get("runbook").strings().is_empty() || plan.get("runbook") == read.state.unwrap().get("runbook"));
}

#[tokio::test(start_paused = true)]
async fn it_goes_back_at_once_and_further_and_less_far() {
    let (stage, stored) = carefully_on_blue().await;
    let read = applied(&stage, &up_to(&stage, "green", Some(25.0)), &stored).await;
    assert!((share(&stage) - 25.0).abs() < 1e-9);
    let raised = applied(&stage, &up_to(&stage, "green", Some(50.0)), &read).await;
    assert!((share(&stage) - 50.0).abs() < 1e-9);
    let config = up_to(&stage, "green", Some(0.5));
    let (plan, _) = planned(&stage, &config, &raised).await;
    expect_test::expect![[r#"
        check that blue has at least 1 healthy target
        set listener web/2: blue 50 %, green 50 % → blue 99.5 %, green 0.5 %
        give the load balancer 10s to settle
        wait with green at 0.5 % for up_to to be raised or left out"#]]
    .assert_eq(&plan.get("runbook").strings().join("\n"));
    let lowered = applied(&stage, &config, &raised).await;
    assert!((share(&stage) - 0.5).abs() < 1e-9);
    let (plan, _) = planned(&stage, &config, &lowered).await;
    assert_eq!(Some(&plan), lowered.state.as_ref());
    let began = tokio::time::Instant::now();
    applied(&stage, &careful(&stage, "blue"), &lowered).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(share(&stage) < 1e-9 && lock(&stage).is_none());
}

/// A standing split: what somebody else moves is put right, and without anybody to approve nothing is said.
#[tokio::test(start_paused = true)]
async fn a_split_stands() {
    let (stage, stored) = carefully_on_blue().await;
    let config = up_to(&stage, "green", Some(20.0));
    let read = applied(&stage, &config, &stored).await;
    for (blue, green) in [(40, 60), (95, 5), (100, 0)] {
        stage.fake.meddle(|seen| seen.routes = world(blue, green).routes);
        let seen = stage.read(&read).await;
        assert_eq!(seen.state.as_ref().unwrap().get("active"), &Value::from(if green > 50 { "green" } else { "blue" }));
        let again = applied(&stage, &config, &seen).await;
        assert!((share(&stage) - 20.0).abs() < 1e-9, "from {green}");
        let (plan, diagnostics) = planned(&stage, &config, &again).await;
        assert_eq!((Some(&plan), told(&diagnostics).as_str()), (again.state.as_ref(), ""), "from {green}");
    }
    // A rule that comes later leads like the others.
    let mut more = config.clone();
    let listener = Value::object([("listener_arn", Value::from(LISTENER))]);
    more.set("routes", Value::List(vec![listener, own_rule(10, "/api/*")]));
    let seen = stage.read(&read).await;
    applied(&stage, &more, &seen).await;
    let routes = stage.fake.world().routes;
    assert_eq!(routes.len(), 2);
    assert!(routes.values().all(|seen| (seen.terminal.share(GREEN) - 20.0).abs() < 1e-9), "{routes:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_approves() {
    for then in ["rollback", "continue", "hold"] {
        let (stage, stored) = carefully_on_blue().await;
        let config = approved(&stage, Some(10.0), then);
        let read = applied(&stage, &config, &stored).await;
        let since = lock(&stage).unwrap().waiting.unwrap().since;
        // A change beside it is no new beginning.
        let mut beside = config.clone();
        beside.set("on_interrupt", Value::from("hold"));
        tokio::time::advance(Duration::from_secs(23 * 3600)).await;
        let read = applied(&stage, &beside, &read).await;
        assert_eq!(lock(&stage).unwrap().waiting.unwrap().since, since);
        let early = stage.plan(&beside, Some(&read)).await;
        tokio::time::advance(Duration::from_secs(2 * 3600)).await;
        let read = stage.read(&read).await;
        let (plan, diagnostics) = planned(&stage, &beside, &read).await;
        let words = told(&diagnostics).replace(&since, "SINCE");
        let (stored, ended) = stage.apply(&beside, Some(&read)).await;
        let after = told(&ended).replace(&since, "SINCE");
        assert_eq!(early.0.state, read.state, "{then}: before that time nothing is to be done");
        match then {
            "rollback" => {
                assert_eq!(plan.get("runbook").strings().len(), 2, "{plan:?}");
                let plan = "this apply leads all traffic back to blue, and then fails, so that nobody takes it for done. To go on: raise strategy.up_to";
                assert!(
                    words.contains("waits with 10 % for the web team since SINCE, which is longer than 24h")
                        && words.contains(plan)
                );
                let next =
                    "Next: set active to \"blue\". The next apply with active = \"green\" begins the rollout anew.";
                assert!(after.contains("The rollout to green was not approved\n") && after.contains(next), "{after}");
                assert!(ended.has_errors() && share(&stage) < 1e-9);
                let read = stage.read(&stored).await;
                assert_eq!(read.state.as_ref().unwrap().get("active"), &Value::from("blue"));
                assert_eq!(lock(&stage), None);
                let (plan, _) = planned(&stage, &careful(&stage, "blue"), &read).await;
                assert_eq!(plan.get("runbook"), read.state.unwrap().get("runbook"), "nothing is left to do");
            }
            "continue" => {
                assert!(
                    words.contains("this apply leads all traffic to green, from the checks on. To go back"),
                    "{words}"
                );
                assert!(!ended.has_errors(), "{after}");
                assert_eq!(stage.fake.world().record.as_deref(), Some("green"));
            }
            _ => {
                assert!(words.contains("longer than 24h. It waits on. To go on: raise strategy.up_to"), "{words}");
                assert_eq!(Some(&plan), read.state.as_ref());
                assert!((share(&stage) - 10.0).abs() < 1e-9);
            }
        }
    }
}

/// An apply does what its plan told: time that passes between them changes nothing.
#[tokio::test(start_paused = true)]
async fn a_plan_from_before_that_time_is_kept() {
    let (stage, stored) = carefully_on_blue().await;
    let read = applied(&stage, &approved(&stage, Some(10.0), "rollback"), &stored).await;
    let mut beside = approved(&stage, Some(10.0), "rollback");
    beside.set("on_interrupt", Value::from("hold"));
    let saved = stage.plan(&beside, Some(&read)).await;
    tokio::time::advance(Duration::from_secs(25 * 3600)).await;
    let (_, diagnostics) = stage.apply_planned(&beside, Some(&read), saved, crate::tf_provider::Cancel::never()).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert!((share(&stage) - 10.0).abs() < 1e-9);
}

/// What fails after an approval goes back to where the rollout began, and what can't be done leaves it where it waits.
#[tokio::test(start_paused = true)]
async fn what_fails_later_takes_all_of_it_back() {
    let (stage, stored) = carefully_on_blue().await;
    let read = applied(&stage, &up_to(&stage, "green", Some(10.0)), &stored).await;
    stage.fake.set_status(500);
    let (stored, diagnostics) = stage.apply(&up_to(&stage, "green", None), Some(&read)).await;
    assert!(diagnostics.has_errors() && share(&stage) < 1e-9, "{}", told(&diagnostics));
    assert_eq!(lock(&stage), None);
    stage.fake.set_status(200);
    let read = stage.read(&stored).await;
    let waits = applied(&stage, &up_to(&stage, "green", Some(50.0)), &read).await;
    // Who is to get more by a smaller limit is ill: nobody is led there.
    stage.fake.set_health(BLUE, &["unhealthy"]);
    stage.fake.heal();
    let (_, diagnostics) = stage.apply(&up_to(&stage, "green", Some(10.0)), Some(&waits)).await;
    assert!(diagnostics.has_errors() && (share(&stage) - 50.0).abs() < 1e-9, "{}", told(&diagnostics));
    assert_eq!(lock(&stage).map(|left| left.status), Some(Status::Waiting));
    stage.fake.set_health(BLUE, &["healthy"]);
    stage.fake.fault(0, Fault::Refused);
    let (_, diagnostics) = stage.apply(&up_to(&stage, "green", Some(10.0)), Some(&waits)).await;
    assert!(diagnostics.has_errors() && (share(&stage) - 50.0).abs() < 1e-9, "{}", told(&diagnostics));
    let left = lock(&stage).unwrap();
    assert_eq!((left.status, left.waiting.unwrap().percent), (Status::Waiting, 50.0));
}

/// Where nobody has any traffic there is nothing to wait beside.
#[tokio::test(start_paused = true)]
async fn the_first_color_gets_everything() {
    let stage = stage(world(0, 100));
    let (stored, diagnostics) = stage.apply(&up_to(&stage, "green", Some(10.0)), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(stored.state.unwrap().get("live"), &Value::from("green"));
    assert_eq!(share(&stage), 100.0);
}

/// What stopped at that part, or was killed there, has passed nothing: it is looked at again before it waits.
#[tokio::test(start_paused = true)]
async fn what_stopped_there_is_looked_at_again() {
    let (stage, stored) = carefully_on_blue().await;
    let mut held = up_to(&stage, "green", Some(10.0));
    held.set("on_failure", Value::from("hold"));
    stage.fake.set_status(500);
    let (stored, diagnostics) = stage.apply(&held, Some(&stored)).await;
    assert!(diagnostics.has_errors() && (share(&stage) - 10.0).abs() < 1e-9, "{}", told(&diagnostics));
    assert_eq!(lock(&stage).map(|left| left.status), Some(Status::Held));
    let read = stage.read(&stored).await;
    let (again, diagnostics) = stage.apply(&held, Some(&read)).await;
    assert!(diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(lock(&stage).map(|left| left.status), Some(Status::Held));
    stage.fake.set_status(200);
    let read = stage.read(&again).await;
    let read = applied(&stage, &held, &read).await;
    assert_eq!(lock(&stage).map(|left| left.status), Some(Status::Waiting));
    let (plan, _) = planned(&stage, &held, &read).await;
    assert_eq!(Some(&plan), read.state.as_ref());
}

/// What is live is never taken from for a limit that is left in the configuration.
#[tokio::test(start_paused = true)]
async fn what_is_live_gets_everything() {
    for parameter in [Value::from("/app/live"), Value::Null] {
        let stage = stage(world(90, 10));
        let mut config = up_to(&stage, "blue", Some(20.0));
        config.set("parameter", parameter);
        let (_, diagnostics) = stage.apply(&config, None).await;
        assert!(!diagnostics.has_errors() && share(&stage) < 1e-9, "{}", told(&diagnostics));
    }
}

/// What somebody moved meanwhile is not where the rollout began.
#[tokio::test(start_paused = true)]
async fn the_way_back_leads_to_where_it_began() {
    let (stage, stored) = carefully_on_blue().await;
    let read = applied(&stage, &approved(&stage, Some(20.0), "rollback"), &stored).await;
    let since = lock(&stage).unwrap().waiting.unwrap().since;
    for green in [60, 5, 100] {
        stage.fake.meddle(|seen| seen.routes = world(100 - green, green).routes);
        let seen = stage.read(&read).await;
        applied(&stage, &approved(&stage, Some(20.0), "rollback"), &seen).await;
        assert!((share(&stage) - 20.0).abs() < 1e-9, "from {green}: {}", share(&stage));
        let left = lock(&stage).unwrap();
        assert_eq!((left.from.as_deref(), left.waiting.unwrap().since), (Some("blue"), since.clone()), "from {green}");
        assert_eq!(stage.fake.world().record.as_deref(), Some("blue"), "from {green}");
    }
    let seen = stage.read(&read).await;
    stage.fake.set_status(500);
    let (_, diagnostics) = stage.apply(&up_to(&stage, "green", None), Some(&seen)).await;
    assert!(diagnostics.has_errors() && share(&stage) < 1e-9, "{}", told(&diagnostics));
}

/// A route that can't have the part is told of before anything moves, and so is a way back that leads nowhere.
#[tokio::test(start_paused = true)]
async fn what_can_t_wait_is_refused() {
    let other = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/9";
    let mut closed = world(100, 0);
    let fixed = Terminal::FixedResponse { status: "503".to_owned(), content_type: None, body: None };
    closed.routes.insert(other.to_owned(), Observed::leading(other.to_owned(), fixed));
    let both = stage(closed);
    let mut config = up_to(&both, "green", Some(10.0));
    let listeners = [LISTENER, other].map(|arn| Value::object([("listener_arn", Value::from(arn))]));
    config.set("routes", Value::List(listeners.into()));
    let (_, diagnostics) = both.plan(&config, None).await;
    assert!(
        told(&diagnostics).contains("The rollout can't wait there\nlistener web/9 can't have 10 %"),
        "{}",
        told(&diagnostics)
    );
    let mut foreign = world(100, 0);
    let groups = vec![("arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/old/1".to_owned(), 1)];
    let terminal = Terminal::Forward(Forward { groups, stickiness: None });
    foreign.routes.get_mut(LISTENER).unwrap().terminal = terminal;
    let stage = stage(foreign);
    let (_, diagnostics) = stage.plan(&approved(&stage, Some(10.0), "rollback"), None).await;
    assert!(told(&diagnostics).contains("There is no color to go back to\n"), "{}", told(&diagnostics));
    let (_, diagnostics) = stage.plan(&approved(&stage, Some(10.0), "hold"), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
}

/// Testers keep the color as long as a person looks at it.
#[tokio::test(start_paused = true)]
async fn a_cohort_stays_while_it_waits() {
    let (stage, stored) = carefully_on_blue().await;
    let with_cohort = |percent: Option<f64>, active: &str| {
        with_strategy(up_to(&stage, active, percent), "cohort", super::cohort::testers())
    };
    let rules = || stage.fake.world().routes.keys().filter(|key| key.contains('#')).count();
    let read = applied(&stage, &with_cohort(Some(10.0), "green"), &stored).await;
    assert_eq!(rules(), 1);
    let (plan, _) = planned(&stage, &with_cohort(Some(10.0), "green"), &read).await;
    assert_eq!(Some(&plan), read.state.as_ref());
    let read = applied(&stage, &with_cohort(Some(25.0), "green"), &read).await;
    assert_eq!(rules(), 1);
    let (back, _) = planned(&stage, &with_cohort(Some(25.0), "blue"), &read).await;
    assert!(back.get("runbook").strings().iter().any(|step| step.starts_with("delete rule")), "{back:?}");
    applied(&stage, &with_cohort(None, "green"), &read).await;
    assert_eq!((rules(), stage.fake.world().record.as_deref()), (0, Some("green")));
}

/// One record can't say of two switches that one of them only waits.
#[tokio::test(start_paused = true)]
async fn two_switches_with_one_record_don_t_wait() {
    let (stage, stored) = carefully_on_blue().await;
    let (_, diagnostics) = planned(&stage, &up_to(&stage, "green", Some(10.0)), &stored).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let mut other = up_to(&stage, "green", Some(10.0));
    other.set("name", Value::from("api"));
    other.set("routes", Value::List(vec![own_rule(10, "/api/*")]));
    let (_, diagnostics) = stage.plan(&other, None).await;
    assert!(told(&diagnostics).contains("Another switch has the same record\n"), "{}", told(&diagnostics));
    other.set("parameter", Value::from("/api/live"));
    let (_, diagnostics) = stage.plan(&other, None).await;
    assert!(!told(&diagnostics).contains("Another switch"), "{}", told(&diagnostics));
}

/// Nothing is promised of who will be live where it isn't known how far the rollout goes.
#[tokio::test(start_paused = true)]
async fn how_far_it_goes_may_be_unknown() {
    let (stage, stored) = carefully_on_blue().await;
    for path in ["strategy", "up_to"] {
        let mut config = with_strategy(careful(&stage, "green"), "up_to", Value::UNKNOWN);
        if path == "strategy" {
            config.set("strategy", Value::UNKNOWN);
        }
        let (plan, _) = planned(&stage, &config, &stored).await;
        assert!(["live", "idle", "weights"].iter().all(|name| plan.get(name).is_unknown()), "{path}: {plan:?}");
        assert_eq!(plan.get("active"), &Value::from("green"));
    }
}

/// Who destroys the switch while it waits keeps the split, and leaves no lock.
#[tokio::test(start_paused = true)]
async fn a_destroy_ends_the_wait() {
    let (stage, stored) = carefully_on_blue().await;
    let read = applied(&stage, &up_to(&stage, "green", Some(10.0)), &stored).await;
    let (gone, diagnostics) = stage.destroy(&read).await;
    assert!(!diagnostics.has_errors() && gone.state.is_none(), "{}", told(&diagnostics));
    assert!((share(&stage) - 10.0).abs() < 1e-9 && lock(&stage).is_none());
}

/// The way back finds what was there: the floors stay as long as it waits.
#[tokio::test(start_paused = true)]
async fn floors_stay_while_it_waits() {
    let mut sized = world(100, 0);
    for color in ["blue", "green"] {
        sized.capacities.insert(color.to_owned(), Capacity { min: Some(1), desired: 4, max: 8, pinned: None });
    }
    let stage = stage(sized);
    let with_sizes = |active: &str, percent: Option<f64>| {
        let mut config = up_to(&stage, active, percent);
        let environment = |color: &str, group: &str| {
            let of = [("target_group_arn", group), ("autoscaling_group_name", color)];
            (color.to_owned(), Value::object(of.map(|(name, text)| (name, Value::from(text)))))
        };
        config.set("environments", Value::object([environment("blue", BLUE), environment("green", GREEN)]));
        config.set("capacity", Value::object([("before", Value::from("match_live"))]));
        config
    };
    let (stored, diagnostics) = stage.apply(&with_sizes("blue", None), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let waits = applied(&stage, &with_sizes("green", Some(60.0)), &stored).await;
    let floor = |color: &str| stage.fake.world().capacities[color].min;
    assert_eq!((floor("blue"), floor("green")), (Some(4), Some(4)));
    let (plan, _) = planned(&stage, &with_sizes("green", Some(60.0)), &waits).await;
    assert_eq!(Some(&plan), waits.state.as_ref());
    applied(&stage, &with_sizes("blue", None), &waits).await;
    assert_eq!((floor("blue"), floor("green")), (Some(1), Some(1)));
}

/// A record that an earlier rollout could not write does not call live what only waits.
#[tokio::test(start_paused = true)]
async fn a_record_that_was_left_behind_is_put_right() {
    let (stage, stored) = carefully_on_blue().await;
    let read = applied(&stage, &careful(&stage, "green"), &stored).await;
    stage.fake.meddle(|seen| seen.record = Some("blue".to_owned()));
    let seen = stage.read(&read).await;
    let config = up_to(&stage, "blue", Some(10.0));
    let read = applied(&stage, &config, &seen).await;
    assert!((share(&stage) - 90.0).abs() < 1e-9);
    assert_eq!(stage.fake.world().record.as_deref(), Some("green"));
    let (plan, _) = planned(&stage, &config, &read).await;
    assert_eq!(Some(&plan), read.state.as_ref());
}
