//! Rollouts in steps over a world in memory: what they say, what they do when something goes wrong, and that at most one
//! runs at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{BLUE, GREEN, LISTENER, Stage, config, own_rule, stage, world};
use crate::cancel::CancelSource;
use crate::resource::switch::{apply, model};
use crate::resource::testing::frozen;
use crate::rollout::gate::{FunctionAnswer, HttpAnswer};
use crate::rollout::metrics::Sample;
use crate::rollout::{Capacity, LockRecord, lock_record};
use crate::run::holder::MACHINE;
use crate::run::rollout::in_memory::{Bucket, Fault};
use crate::run::rollout::lock;
use crate::run::rollout::ports::CommandEnd;
use crate::tf_provider::{Cancel, Diagnostics, Number, Resource as _, Stored, Value};

pub(super) const LOCK: &str = "/app/live.rollout";

fn text(value: &str) -> Value {
    Value::from(value)
}

pub(super) fn percent(value: f64) -> Value {
    Value::Number(Number::from_f64(value))
}

pub(super) fn step(weight: f64, hold: &str) -> Value {
    Value::object([("weight", percent(weight)), ("hold", text(hold))])
}

/// 10 %, 50 %, 100 %, and a request to green every ten seconds.
pub(super) fn careful(stage: &Stage, active: &str) -> Value {
    let mut config = config(&stage.switch, text(active));
    let steps = Value::List(vec![step(10.0, "2m"), step(50.0, "2m")]);
    config.set("strategy", Value::object([("steps", steps)]));
    let http = Value::List(vec![Value::object([("url", text("http://{color}.test/"))])]);
    config.set("verification", Value::object([("duration", text("1m")), ("http", http)]));
    config
}

/// A configuration with another argument of `strategy`.
pub(super) fn with_strategy(mut config: Value, name: &str, value: Value) -> Value {
    let mut strategy = config.get("strategy").clone();
    strategy.set(name, value);
    config.set("strategy", strategy);
    config
}

/// Blue is live by a switch that is careful.
pub(super) async fn carefully_on_blue() -> (Stage, Stored) {
    let stage = stage(world(100, 0));
    let (stored, diagnostics) = stage.apply(&careful(&stage, "blue"), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    stage.fake.heal();
    stage.fake.forget();
    (stage, stored)
}

/// How much of the traffic green has.
pub(super) fn share(stage: &Stage) -> f64 {
    stage.fake.world().routes[LISTENER].terminal.share(GREEN)
}

pub(super) async fn on_blue() -> (Stage, Stored) {
    let stage = stage(world(100, 0));
    let (stored, diagnostics) = stage.apply(&config(&stage.switch, text("blue")), None).await;
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    stage.fake.heal();
    (stage, stored)
}

/// Green is to go live, and while its first step is held something happens.
async fn switch_while(stage: &Stage, stored: &Stored, happens: impl Future<Output = ()>) -> (Stored, Diagnostics) {
    let config = careful(stage, "green");
    let later = async {
        tokio::time::sleep(Duration::from_secs(65)).await;
        happens.await;
    };
    futures::join!(stage.apply(&config, Some(stored)), later).0
}

pub(super) fn told(diagnostics: &Diagnostics) -> String {
    let texts = diagnostics.iter().map(|one| format!("{}\n{}", one.summary, one.detail));
    texts.collect::<Vec<_>>().join("\n---\n")
}

#[tokio::test(start_paused = true)]
async fn a_careful_rollout_says_what_it_will_do_and_does_it() {
    let (stage, stored) = on_blue().await;
    let config = careful(&stage, "green");
    let (planned, _) = stage.plan(&config, Some(&stored)).await;
    expect_test::expect![[r#"
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 100 %, green 0 % → blue 90 %, green 10 %
        watch green at 10 % for 2m once the load balancer had 10s to settle: green answers GET http://green.test/
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 90 %, green 10 % → blue 50 %, green 50 %
        watch green at 50 % for 2m once the load balancer had 10s to settle: green answers GET http://green.test/
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 50 %, green 50 % → blue 0 %, green 100 %
        watch green at 100 % for 1m once the load balancer had 10s to settle: green answers GET http://green.test/
        write /app/live: blue → green"#]]
    .assert_eq(&planned.state.unwrap().get("runbook").strings().join("\n"));
    let start = tokio::time::Instant::now();
    let (applied, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    assert_eq!(applied.state.unwrap().get("live"), &text("green"));
    assert_eq!(start.elapsed().as_secs(), 2 * 120 + 60 + 3 * 10);
    // Every ten seconds and once at the end, in three holds, and more often while the nodes follow.
    assert_eq!(stage.fake.asked().len(), 13 + 13 + 7 + 3 * 5);
    assert_eq!(stage.fake.lock(LOCK), None);
}

/// The nodes are given ten seconds to follow, and a color that breaks under its first requests none.
#[tokio::test(start_paused = true)]
async fn a_color_that_breaks_as_the_traffic_comes_is_seen_at_once() {
    for after in [0, 2, 5] {
        let (stage, stored) = on_blue().await;
        let config = careful(&stage, "green");
        let fake = stage.fake.clone();
        let breaks = async {
            while fake.world().routes[LISTENER].terminal.share(GREEN) <= 0.0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_secs(after)).await;
            fake.set_status(500);
        };
        let start = tokio::time::Instant::now();
        let ((_, diagnostics), ()) = futures::join!(stage.apply(&config, Some(&stored)), breaks);
        let took = start.elapsed().as_secs();
        assert!(told(&diagnostics).contains("Verification of green at 10 % failed"), "{}", told(&diagnostics));
        assert!(took <= 2 * after + 1, "broken after {after} s, back after {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_color_that_fails_at_ten_percent_goes_back_at_once() {
    let (stage, stored) = on_blue().await;
    let fake = stage.fake.clone();
    let breaks = async {
        fake.set_status(500);
    };
    let start = tokio::time::Instant::now();
    let (applied, diagnostics) = switch_while(&stage, &stored, breaks).await;
    assert_eq!(start.elapsed().as_secs(), 66, "the look after it broke");
    let said = told(&diagnostics);
    for part in [
        "Failed to switch app to green",
        "Verification of green at 10 % failed",
        "GET http://green.test/ answered with status 500 instead of 200",
        "verification.http[0] at ",
        "look 7, 1m6s after 10 % of the traffic was led to green",
        "Rolled back: all routes are as before.",
        "Users reached green for 1m6s, at most 10.0 % of them.",
        "listener web/2: blue 100 %, green 0 %",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let state = applied.state.unwrap();
    assert_eq!(state.get("live"), &text("blue"));
    assert_eq!(state.get("last_rollout").get("status"), &text("rolled_back"));
    assert_eq!(stage.fake.calls(), [format!("set {LISTENER}"), format!("set {LISTENER}")]);
    assert_eq!(stage.fake.lock(LOCK), None);
}

#[tokio::test(start_paused = true)]
async fn held_it_can_go_on_and_back() {
    for active in ["green", "blue"] {
        let (stage, stored) = on_blue().await;
        let mut config = careful(&stage, "green");
        config.set("on_failure", text("hold"));
        let fake = stage.fake.clone();
        let breaks = async {
            tokio::time::sleep(Duration::from_secs(200)).await;
            fake.set_status(500);
        };
        let ((held, diagnostics), ()) = futures::join!(stage.apply(&config, Some(&stored)), breaks);
        let said = told(&diagnostics);
        assert!(said.contains("Traffic stays where it is (on_failure = \"hold\")."), "{said}");
        assert!(
            said.contains("set active = \"blue\" and run `terraform apply`: all traffic moves back at once"),
            "{said}"
        );
        assert_eq!(held.state.as_ref().unwrap().get("last_rollout").get("status"), &text("held"));
        let left: LockRecord = serde_json::from_str(&stage.fake.lock(LOCK).unwrap()).unwrap();
        assert_eq!((left.status, left.from.as_deref()), (lock_record::Status::Held, Some("blue")));
        stage.fake.set_status(200);
        stage.fake.heal();
        let read = stage.read(&held).await;
        config.set("active", text(active));
        let (planned, diagnostics) = stage.plan(&config, Some(&read)).await;
        assert!(told(&diagnostics).contains("A rollout was held"), "{}", told(&diagnostics));
        let words = planned.state.unwrap().get("runbook").strings();
        if active == "blue" {
            assert!(words.last().unwrap().contains("blue 50 %, green 50 % → blue 100 %, green 0 %"), "{words:?}");
            assert!(!words.join(" ").contains("watch"), "{words:?}");
        } else {
            assert!(words[0].contains("blue 50 %, green 50 %, as the rollout from blue to green"), "{words:?}");
            assert!(words[1].starts_with("check that green has"), "{words:?}");
            assert!(words[2].starts_with("watch green at 50 %"), "{words:?}");
        }
        let (applied, diagnostics) = stage.apply(&config, Some(&read)).await;
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        assert_eq!(applied.state.unwrap().get("live"), &text(active));
        assert_eq!(stage.fake.world().record.as_deref(), Some(active));
        assert_eq!(stage.fake.lock(LOCK), None);
    }
}

/// What a killed process leaves: its lock, that nobody renews.
pub(super) fn bury(stage: &Stage) {
    bury_lock(stage, LOCK);
}

fn bury_lock(stage: &Stage, name: &str) {
    let Some(left) = stage.fake.lock(name) else { return };
    let mut left: LockRecord = serde_json::from_str(&left).unwrap();
    left.machine = "one that is gone".to_owned();
    stage.fake.set_parameter(name, &serde_json::to_string(&left).unwrap());
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_call_it_goes_on_or_back() {
    for active in ["green", "blue"] {
        for call in 0..4 {
            for fault in [Fault::DiesBefore, Fault::DiesAfter] {
                let (stage, stored) = on_blue().await;
                let mut config = careful(&stage, "green");
                stage.fake.fault(call, fault);
                tokio::select! {
                    _ = stage.apply(&config, Some(&stored)) => panic!("call {call} {fault:?}"),
                    () = stage.fake.died() => {}
                }
                stage.fake.heal();
                bury(&stage);
                let read = stage.read(&stored).await;
                config.set("active", text(active));
                let (planned, diagnostics) = stage.plan(&config, Some(&read)).await;
                let words = planned.state.unwrap().get("runbook").strings();
                let share = stage.fake.world().routes[LISTENER].terminal.share(GREEN);
                let is_split = share > 0.0 && share < 100.0;
                assert_eq!(
                    told(&diagnostics).contains("A rollout has not ended"),
                    is_split || (share > 99.0 && call < 3 || call == 3 && fault == Fault::DiesBefore),
                    "call {call} {fault:?} {share}: {}",
                    told(&diagnostics)
                );
                let (applied, diagnostics) = stage.apply(&config, Some(&read)).await;
                assert!(!diagnostics.has_errors(), "call {call} {fault:?}: {diagnostics:?}");
                assert_eq!(applied.state.unwrap().get("live"), &text(active), "{words:?}");
                assert_eq!(stage.fake.world().record.as_deref(), Some(active));
                for seen in stage.fake.history() {
                    let share = seen.routes[LISTENER].terminal.share(GREEN);
                    assert!([0.0, 10.0, 50.0, 90.0, 100.0].iter().any(|step| (share - step).abs() < 0.01), "{share}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_was_taken_over_goes_back_to_the_beginning() {
    let (stage, stored) = on_blue().await;
    let config = careful(&stage, "green");
    stage.fake.fault(2, Fault::DiesBefore);
    tokio::select! {
        _ = stage.apply(&config, Some(&stored)) => panic!("it lives"),
        () = stage.fake.died() => {}
    }
    stage.fake.heal();
    bury(&stage);
    stage.fake.set_status(500);
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.apply(&config, Some(&read)).await;
    let said = told(&diagnostics);
    assert!(said.contains("Rolled back: all routes are as before."), "{said}");
    assert!((stage.fake.world().routes[LISTENER].terminal.share(BLUE) - 100.0).abs() < 0.01);
    assert_eq!(stage.fake.calls().len(), 1, "{:?}", stage.fake.calls());
}

/// A release that is put into a held rollout is checked like any other.
#[tokio::test(start_paused = true)]
async fn who_slept_takes_nothing_from_his_heir() {
    for asleep in [15, 65, 135, 200] {
        let (stage, stored) = on_blue().await;
        let config = careful(&stage, "green");
        let own = MACHINE.scope("one".to_owned(), stage.apply(&config, Some(&stored)));
        let heir = async {
            tokio::time::sleep(Duration::from_secs(asleep + 1)).await;
            let other = stage.restarted();
            let seen = other.read(&stored).await;
            MACHINE.scope("two".to_owned(), other.apply(&config, Some(&seen))).await
        };
        let ((_, own), (_, heir)) = futures::join!(frozen(Some(asleep), own), heir);
        assert!(!heir.has_errors(), "{asleep}: {}", told(&heir));
        let words = told(&own);
        assert!(own.has_errors() && words.contains("neither continued nor rolled back"), "{asleep}: {words}");
        let share = stage.fake.world().routes[LISTENER].terminal.share(GREEN);
        assert!(share > 99.9, "{asleep}: green has {share} %: {words}");
    }
}

#[tokio::test(start_paused = true)]
async fn going_on_checks_again_what_gets_the_traffic() {
    let (stage, stored) = on_blue().await;
    let mut config = careful(&stage, "green");
    config.set("on_interrupt", text("hold"));
    let source = CancelSource::new();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(200)).await;
        source.stop();
    };
    let ((held, _), ()) = futures::join!(stage.apply_until(&config, Some(&stored), source.token()), stop);
    assert_eq!(held.state.as_ref().unwrap().get("last_rollout").get("status"), &text("held"));
    stage.fake.heal();
    stage.fake.set_health(GREEN, &["unhealthy", "unhealthy"]);
    let read = stage.read(&held).await;
    let (_, diagnostics) = stage.apply(&config, Some(&read)).await;
    let said = told(&diagnostics);
    assert!(
        said.contains("green has 0 healthy of 2 registered targets, 2 are needed (100 % of the live color's 2)"),
        "{said}"
    );
    assert!(said.contains("Rolled back: all routes are as before."), "{said}");
    assert!((stage.fake.world().routes[LISTENER].terminal.share(BLUE) - 100.0).abs() < 0.01);
}

/// Two that find the same dead lock: one has it, and keeps it; the other is told so.
#[tokio::test(start_paused = true)]
async fn of_two_heirs_one_has_the_lock() {
    let (stage, _) = on_blue().await;
    let mut dead = lock::draft("app", "the-dead-one", "2026-01-01T00:00:00Z");
    (dead.machine, dead.renewed) = ("one that is gone".to_owned(), 0);
    stage.fake.set_parameter(LOCK, &serde_json::to_string(&dead).unwrap());
    let (ports, tags, cancel) = (stage.fake.ports(), std::collections::BTreeMap::new(), Cancel::never());
    // On machines of their own: another resource of this very run would be waited for.
    let heir = async |run: &str| {
        let mine = LockRecord { machine: format!("the machine of {run}"), ..lock::draft("app", run, "now") };
        let lock = lock::acquire(&ports, "/app/live", mine, &tags, &cancel).await?;
        tokio::select! {
            lost = lock.keep() => panic!("{lost:?}"),
            () = tokio::time::sleep(Duration::from_secs(100)) => Ok::<_, lock::Refused>(lock),
        }
    };
    let (one, other) = futures::join!(heir("one"), heir("other"));
    let (winner, loser) = match (one, other) {
        (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
        (one, other) => panic!("{:?} {:?}", one.map(|_| ()), other.map(|_| ())),
    };
    assert!(matches!(loser, lock::Refused::Held(_)), "{loser:?}");
    assert_eq!(winner.found.as_ref().map(|found| found.run.as_str()), Some("the-dead-one"));
    winner.note(|lock_record| "goes on".clone_into(&mut lock_record.phase)).await.unwrap();
    winner.release(None).await.unwrap();
    assert_eq!(stage.fake.lock(LOCK), None);
}

/// A write of the lock that was given up has its effect when the rollout has come to its end: nothing brings the lock back,
/// and what the lock says in the end is what is left.
#[tokio::test(start_paused = true)]
async fn a_write_of_the_lock_that_comes_late_brings_nothing_back() {
    let failed = [Fault::Late(55), Fault::Echo(55), Fault::Late(25), Fault::Echo(3), Fault::LostAnswer];
    for (number, fault) in (0..9).flat_map(|number| failed.map(|fault| (number, fault))) {
        let (stage, stored) = on_blue().await;
        stage.fake.lock_fault(number, fault);
        let start = tokio::time::Instant::now();
        let (_, diagnostics) = stage.apply(&config(&stage.switch, text("green")), Some(&stored)).await;
        let took = start.elapsed();
        assert!(took < Duration::from_secs(120), "{fault:?} at {number}: {took:?}");
        let said = told(&diagnostics);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(stage.fake.lock(LOCK), None, "{fault:?} at {number}: {said}");
    }
}

/// The same where something is left undone: a late renewal doesn't write over it.
#[tokio::test(start_paused = true)]
async fn a_write_of_the_lock_that_comes_late_hides_nothing() {
    for number in 0..9 {
        let (stage, stored) = on_blue().await;
        stage.fake.lock_fault(number, Fault::Echo(55));
        stage.fake.fault(stage.fake.calls().len() + 1, Fault::Refused);
        let (_, diagnostics) = stage.apply(&config(&stage.switch, text("green")), Some(&stored)).await;
        let said = told(&diagnostics);
        let before = stage.fake.lock(LOCK);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(stage.fake.lock(LOCK), before, "{number}: {said}");
    }
}

/// A run on a machine of its own that takes the lock, and keeps it for so long.
async fn holds(stage: &Stage, run: &str, seconds: u64) -> Result<lock::Lock, lock::Refused> {
    let (tags, cancel) = (std::collections::BTreeMap::new(), Cancel::never());
    let mine = LockRecord { machine: format!("the machine of {run}"), ..lock::draft("app", run, "now") };
    let lock = lock::acquire(&stage.fake.ports(), "/app/live", mine, &tags, &cancel).await?;
    tokio::select! {
        lost = lock.keep() => panic!("{run} lost it: {lost:?}"),
        () = tokio::time::sleep(Duration::from_secs(seconds)) => Ok(lock),
    }
}

/// The claim of one heir is late: it stands over the name of the other one, who has the lock and runs already.
#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_late_takes_nothing_from_the_first() {
    for fault in [Fault::Late(22), Fault::Late(25), Fault::Echo(25), Fault::Twice(22, 24), Fault::Twice(31, 22)] {
        let (stage, _) = on_blue().await;
        let mut dead = lock::draft("app", "the-dead-one", "2026-01-01T00:00:00Z");
        (dead.machine, dead.status) = ("one that is gone".to_owned(), lock_record::Status::Held);
        stage.fake.set_parameter(LOCK, &serde_json::to_string(&dead).unwrap());
        stage.fake.lock_fault(0, fault);
        let late = holds(&stage, "the late one", 10);
        let other = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            holds(&stage, "the other one", 200).await
        };
        let (late, other) = futures::join!(late, other);
        let winners = usize::from(late.is_ok()) + usize::from(other.is_ok());
        assert_eq!(winners, 1, "{fault:?}: {:?} {:?}", late.err(), other.err());
    }
}

/// A renewal of a rollout that was over comes late, over the lock of the next one: that one goes on.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_comes_late_stops_no_other_rollout() {
    let (stage, _) = on_blue().await;
    stage.fake.lock_fault(1, Fault::Echo(55));
    let first = holds(&stage, "the first one", 15).await.unwrap();
    first.release(None).await.unwrap();
    assert_eq!(stage.fake.lock(LOCK), None, "nothing is waited for: a renewal makes nothing anew");
    let second = holds(&stage, "the second one", 120).await.unwrap();
    second.release(None).await.unwrap();
    assert_eq!(stage.fake.lock(LOCK), None);
}

/// A lock that was removed is made again, also when the answer to that is lost and it is made twice.
#[tokio::test(start_paused = true)]
async fn a_lock_that_is_removed_is_made_again() {
    for fault in [None, Some(Fault::Twice(1, 21)), Some(Fault::LostAnswer), Some(Fault::Late(9))] {
        let (stage, _) = on_blue().await;
        if let Some(fault) = fault {
            stage.fake.lock_fault(1, fault);
        }
        let removed = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            stage.fake.delete_parameter(LOCK);
        };
        let (held, ()) = futures::join!(holds(&stage, "the one", 100), removed);
        assert!(held.is_ok(), "{fault:?}");
        assert!(stage.fake.lock(LOCK).is_some(), "{fault:?}");
    }
}

/// What is left of a rollout that came to its end is no reason to let the next one pass.
#[tokio::test(start_paused = true)]
async fn a_lock_that_outlived_its_rollout_shortens_no_other() {
    let (stage, stored) = on_blue().await;
    let config = careful(&stage, "green");
    let (applied, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    let mut left = lock::draft("app", "an-earlier-run", "2026-01-01T00:00:00Z");
    left.machine = "one that is gone".to_owned();
    (left.from, left.to) = (Some("blue".to_owned()), Some("green".to_owned()));
    let weights = Some([("blue".to_owned(), 100), ("green".to_owned(), 0)].into());
    left.origins = vec![lock_record::Origin { routes: vec!["2".to_owned()], weights, sticky: None, other: None }];
    stage.fake.set_parameter(LOCK, &serde_json::to_string(&left).unwrap());
    stage.fake.heal();
    let asked = stage.fake.asked().len();
    let (applied, diagnostics) = stage.apply(&careful(&stage, "blue"), Some(&applied)).await;
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    assert_eq!(applied.state.unwrap().get("live"), &text("blue"));
    assert_eq!(stage.fake.calls().len(), 4, "three steps and the record: {:?}", stage.fake.calls());
    assert_eq!(stage.fake.asked().len() - asked, 13 + 13 + 7 + 3 * 5);
    assert_eq!(stage.fake.lock(LOCK), None);
}

/// Parameter Store is gone: before anybody else can take the lock over, everything is back.
#[tokio::test(start_paused = true)]
async fn a_lock_that_can_t_be_renewed_leads_back_in_time() {
    let (stage, stored) = on_blue().await;
    let gone = async {
        stage.fake.lose_parameters();
        // Nobody else can have the lock before its lease is over.
        let (renewed, _) = stage.fake.lock_writes().pop().unwrap();
        tokio::time::sleep_until(renewed + lock::LEASE - Duration::from_secs(1)).await;
        let share = stage.fake.world().routes[LISTENER].terminal.share(BLUE);
        assert!((share - 100.0).abs() < 0.01, "blue has {share} %");
    };
    let (applied, diagnostics) = switch_while(&stage, &stored, gone).await;
    let said = told(&diagnostics);
    assert!(said.contains("could not be renewed for"), "{said}");
    assert!(said.contains("Rolled back: all routes are as before."), "{said}");
    assert_eq!(applied.state.unwrap().get("live"), &text("blue"));
}

/// It falls silent instead: nobody waits for it on the way back.
#[tokio::test(start_paused = true)]
async fn a_lock_that_falls_silent_leads_back_in_time() {
    let (stage, stored) = on_blue().await;
    let gone = async {
        stage.fake.silence_parameters();
        // Nobody else can have the lock before its lease is over.
        let (renewed, _) = stage.fake.lock_writes().pop().unwrap();
        tokio::time::sleep_until(renewed + lock::LEASE - Duration::from_secs(1)).await;
        let share = stage.fake.world().routes[LISTENER].terminal.share(BLUE);
        assert!((share - 100.0).abs() < 0.01, "blue has {share} %");
    };
    let (_, diagnostics) = switch_while(&stage, &stored, gone).await;
    assert!(told(&diagnostics).contains("Rolled back: all routes are as before."), "{}", told(&diagnostics));
}

/// Two switches with one record in one apply: the second one waits for the first, and both lead to the same color.
#[tokio::test(start_paused = true)]
async fn p15_a_second_switch_of_this_run_waits_for_the_first() {
    let (stage, stored) = on_blue().await;
    let config = careful(&stage, "green");
    let start = tokio::time::Instant::now();
    let second = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        stage.apply(&config, Some(&stored)).await
    };
    let ((one, first), (two, second)) = futures::join!(stage.apply(&config, Some(&stored)), second);
    assert!(!first.has_errors() && !second.has_errors(), "{first:?} {second:?}");
    assert!(start.elapsed().as_secs() >= 2 * 120 + 60 + 3 * 10, "{:?}", start.elapsed());
    for applied in [one, two] {
        assert_eq!(applied.state.unwrap().get("live"), &text("green"));
    }
    assert_eq!(stage.fake.lock(LOCK), None);
}

#[tokio::test(start_paused = true)]
async fn a_lock_of_another_machine_is_waited_for_and_taken_over() {
    let (stage, stored) = on_blue().await;
    let config = careful(&stage, "green");
    let mut theirs = lock::draft("app", "another-run", "2026-01-01T00:00:00Z");
    theirs.machine = "another".to_owned();
    theirs.holder = "me@elsewhere".to_owned();
    (theirs.from, theirs.to) = (Some("blue".to_owned()), Some("green".to_owned()));
    theirs.phase = "watch green at 10 % for 2m".to_owned();
    stage.fake.set_parameter(LOCK, &serde_json::to_string(&theirs).unwrap());
    // One that lives shows it.
    let beat = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        stage.fake.set_parameter(LOCK, &serde_json::to_string(&LockRecord { beat: 1, ..theirs.clone() }).unwrap());
    };
    let ((_, diagnostics), ()) = futures::join!(stage.apply(&config, Some(&stored)), beat);
    let said = told(&diagnostics);
    for part in [
        "Another rollout of /app/live is under way",
        "me@elsewhere has it under way: the rollout from blue to green",
        "said last: watch green at 10 % for 2m",
        "Nothing was changed.",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert_eq!(stage.fake.calls(), Vec::<String>::new());
    // One that doesn't is dead after its lease.
    let start = tokio::time::Instant::now();
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    assert!(start.elapsed() > Duration::from_secs(60));
    assert_eq!(stage.fake.lock(LOCK), None);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_somebody_takes_stops_it_where_it_is() {
    let (stage, stored) = on_blue().await;
    let taken = async {
        let theirs = LockRecord { holder: "me@elsewhere".to_owned(), ..lock::draft("app", "another-run", "now") };
        stage.fake.set_parameter(LOCK, &serde_json::to_string(&theirs).unwrap());
    };
    let (applied, diagnostics) = switch_while(&stage, &stored, taken).await;
    let said = told(&diagnostics);
    assert!(said.contains("The rollout's lock was taken over by me@elsewhere."), "{said}");
    assert_eq!(applied.state.unwrap().get("last_rollout").get("status"), &text("held"));
    assert_eq!(stage.fake.calls().len(), 1, "{:?}", stage.fake.calls());
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_moves_is_left_to_them() {
    let (stage, stored) = on_blue().await;
    let meddling = async {
        let theirs = world(30, 70);
        stage.fake.meddle(|world| world.routes = theirs.routes);
    };
    let start = tokio::time::Instant::now();
    let (_, diagnostics) = switch_while(&stage, &stored, meddling).await;
    assert!(start.elapsed() < Duration::from_secs(85), "{:?}", start.elapsed());
    let said = told(&diagnostics);
    assert!(
        said.contains("Listener web/2 was moved by somebody else in the meantime: blue 30 %, green 70 %."),
        "{said}"
    );
    assert!(said.contains("neither continued nor rolled back"), "{said}");
    assert!((stage.fake.world().routes[LISTENER].terminal.share(GREEN) - 70.0).abs() < 0.01);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_any_phase_goes_back_or_holds() {
    for (seconds, hold) in [(5, false), (5, true), (60, false), (60, true), (200, true), (305, false), (305, true)] {
        let (stage, stored) = on_blue().await;
        let mut config = careful(&stage, "green");
        config.set("on_interrupt", text(if hold { "hold" } else { "rollback" }));
        let source = CancelSource::new();
        let stop = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            source.stop();
        };
        let start = tokio::time::Instant::now();
        let ((_, diagnostics), ()) = futures::join!(stage.apply_until(&config, Some(&stored), source.token()), stop);
        assert!(start.elapsed() < Duration::from_secs(seconds + 2), "{seconds}: {:?}", start.elapsed());
        let said = told(&diagnostics);
        assert!(said.contains("The run was interrupted."), "{said}");
        let share = stage.fake.world().routes[LISTENER].terminal.share(BLUE);
        assert_eq!(share > 99.0, !hold, "{seconds} {share}");
        assert_eq!(said.contains("(on_interrupt = \"hold\")"), hold, "{said}");
    }
}

/// A validation with one more check, which must stop the switch before its first change.
async fn refused(more: Value) -> String {
    let (stage, stored) = on_blue().await;
    say(&stage);
    let mut config = config(&stage.switch, text("green"));
    config.set("validation", more);
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(diagnostics.has_errors());
    assert_eq!(stage.fake.calls(), Vec::<String>::new());
    let said = told(&diagnostics);
    said.split("\n\nNothing was changed.").next().unwrap().to_owned()
}

fn say(stage: &Stage) {
    let answer = |payload: &str, status: &str| FunctionAnswer {
        payload: payload.to_owned(),
        status: Some(status.to_owned()),
        call_back: Some(Duration::from_secs(60)),
        error: None,
    };
    stage.fake.set_functions(vec![answer("{}", "IN_PROGRESS"), answer("{\"hookStatus\":\"FAILED\"}", "FAILED")]);
    let output = "1 of 9 failed\n".to_owned();
    stage.fake.set_commands(vec![CommandEnd { code: Some(1), output, is_cut: false, timed_out: false }]);
    stage.fake.set_alarm("errors", "ALARM");
    let sample = |value: f64| Sample { points: vec![value], value: Some(value), requests: 500.0, ..Sample::default() };
    stage.fake.set_sample("targetgroup/blue/1", sample(0.2));
    stage.fake.set_sample("targetgroup/green/1", sample(0.3));
}

fn list(one: Value) -> Value {
    Value::List(vec![one])
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_check_tells_what_it_saw() {
    let lambda = Value::object([("function_name", text("smoke")), ("qualifier", text("live"))]);
    expect_test::expect![[r#"
        Failed to switch app to green
        Validation of green failed (validation.lambda[0]):
          the function smoke:live says: {"hookStatus":"FAILED"}"#]]
    .assert_eq(&refused(Value::object([("lambda", list(lambda))])).await);
    let argv = Value::List(["npm", "test", "{color}"].map(text).to_vec());
    let said = refused(Value::object([("command", list(Value::object([("argv", argv)])))])).await;
    let said = said.replace(said.split("BLUEGREEN_ROLLOUT=").nth(1).unwrap().split(' ').next().unwrap(), "ID");
    expect_test::expect![[r#"
        Failed to switch app to green
        Validation of green failed (validation.command[0]):
          `npm` (2 arguments) ended with exit code 1, with BLUEGREEN_COLOR=green BLUEGREEN_LIVE=blue BLUEGREEN_ROLLOUT=ID BLUEGREEN_SWITCH=app BLUEGREEN_TARGET_GROUP_ARN=arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/green/1
          It wrote last:
          1 of 9 failed"#]]
    .assert_eq(&said);
    expect_test::expect![[r#"
        Failed to switch app to green
        Validation of green failed (validation.alarms):
          the alarm errors is ALARM; there is no alarm gone"#]]
    .assert_eq(&refused(Value::object([("alarms", Value::List(["errors", "gone"].map(text).to_vec()))])).await);
    let metric = Value::object([("metric", text("latency_p99")), ("max_ratio_to_live", percent(1.2))]);
    expect_test::expect![[r#"
        Failed to switch app to green
        Validation of green failed (validation.metrics[0]):
          latency_p99 of green is 300 ms over 500 requests, blue's is 200 ms, and at most 1.2 times that is allowed"#]]
    .assert_eq(&refused(Value::object([("metrics", list(metric))])).await);
    let request = |url: &str| Value::object([("url", text(url))]);
    let session =
        Value::object([("login", request("http://{color}.test/login")), ("check", request("http://{color}.test/me"))]);
    expect_test::expect![[r#"
        Failed to switch app to green
        Validation of green failed (validation.session):
          logging in on blue: GET http://blue.test/login set no cookie"#]]
    .assert_eq(&refused(Value::object([("session", session)])).await);
}

#[tokio::test(start_paused = true)]
async fn a_session_takes_its_cookies_along() {
    let (stage, stored) = on_blue().await;
    let answer = |status: u16, cookies: &[&str]| HttpAnswer {
        status,
        latency: Duration::ZERO,
        excerpt: String::new(),
        matches: None,
        headers: cookies.iter().map(|cookie| ("set-cookie".to_owned(), (*cookie).to_owned())).collect(),
        body: String::new(),
    };
    let cookies = ["sid=abc; Path=/; HttpOnly", "AWSALBTG=x; Path=/", "theme=dark"];
    stage.fake.set_answers(vec![answer(200, &cookies), answer(401, &[])]);
    let request = |url: &str| Value::object([("url", text(url))]);
    let session =
        Value::object([("login", request("http://{color}.test/login")), ("check", request("http://{color}.test/me"))]);
    let mut config = config(&stage.switch, text("green"));
    config.set("validation", Value::object([("session", session)]));
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    let said = told(&diagnostics);
    let expected = "green with the cookies of blue (sid, theme): GET http://green.test/me answered with status 401";
    assert!(said.contains(expected), "{said}");
    let asked = stage.fake.asked();
    assert_eq!(asked[1].headers["Cookie"], "sid=abc; theme=dark");
    assert!(!said.contains("abc"), "a session's id is a secret: {said}");
}

#[tokio::test(start_paused = true)]
async fn phases_are_told_in_their_order() {
    let (stage, stored) = on_blue().await;
    let mut config = careful(&stage, "green");
    let topic = "arn:aws:sns:eu-central-1:123456789012:releases";
    config.set("notify", Value::object([("sns_topic_arn", text(topic))]));
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    let told: Vec<serde_json::Value> =
        stage.fake.told().iter().map(|message| serde_json::from_str(message).unwrap()).collect();
    let phases: Vec<String> =
        told.iter().map(|message| format!("{} {}", message["phase"].as_str().unwrap(), message["weights"])).collect();
    expect_test::expect![[r#"
        started {"blue":100,"green":0}
        validated {"blue":100,"green":0}
        shifted {"blue":90,"green":10}
        watched {"blue":90,"green":10}
        shifted {"blue":50,"green":50}
        watched {"blue":50,"green":50}
        shifted {"blue":0,"green":100}
        watched {"blue":0,"green":100}
        completed {"blue":0,"green":100}"#]]
    .assert_eq(&phases.join("\n"));
    assert!(told.iter().all(|message| message["rollout"] == told[0]["rollout"]));
}

#[test]
fn ids_differ() {
    let stage = stage(world(100, 0));
    let intent = model::parse(&config(&stage.switch, text("green"))).unwrap();
    let id = || apply::about(&intent, &stage.fake.world(), "app", &Value::Null).id;
    assert_ne!(id(), id());
}

#[tokio::test(start_paused = true)]
async fn a_color_that_is_being_replaced_gets_no_traffic() {
    let stage = stage(world(100, 0));
    let mut config = config(&stage.switch, Value::from("green"));
    let environment = |arn: &str, name: &str| {
        Value::object([("target_group_arn", Value::from(arn)), ("autoscaling_group_name", Value::from(name))])
    };
    config.set(
        "environments",
        Value::object([("blue", environment(BLUE, "blue")), ("green", environment(GREEN, "green"))]),
    );
    stage.fake.roll("green");
    let (_, diagnostics) = stage.apply(&config, None).await;
    let told: String = diagnostics.iter().map(|one| one.detail.clone()).collect();
    assert!(told.contains("green is being replaced: the instance refresh r-1 goes on (40 %)"), "{told}");
    assert_eq!(stage.fake.world(), world(100, 0), "nothing was moved");
    // The way back to one that is live already asks nobody.
    stage.fake.roll("blue");
    config.set("active", Value::from("blue"));
    let (_, diagnostics) = stage.apply(&config, None).await;
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
}

/// Users whose route can't go back keep what carries them, and the next apply gives it back.
#[tokio::test(start_paused = true)]
async fn no_size_is_taken_from_users_that_can_not_go_back() {
    let mut before = world(100, 0);
    let size = |desired| Capacity { min: Some(1), max: 6, desired, pinned: None };
    before.capacities = BTreeMap::from([("blue".to_owned(), size(4)), ("green".to_owned(), size(2))]);
    let stage = stage(before.clone());
    let environment = |arn: &str, name: &str| {
        Value::object([("target_group_arn", Value::from(arn)), ("autoscaling_group_name", Value::from(name))])
    };
    let environments = Value::object([("blue", environment(BLUE, "blue")), ("green", environment(GREEN, "green"))]);
    let wish = |active: &str| {
        let mut wish = config(&stage.switch, text(active));
        wish.set("environments", environments.clone());
        wish.set("capacity", Value::object([("before", text("match_live"))]));
        wish
    };
    let (applied, _) = stage.apply(&wish("blue"), None).await;
    stage.fake.heal();
    stage.fake.set_status(500);
    // Both sizes, the step, and then the way back.
    stage.fake.fault(3, Fault::Refused);
    let mut watched = wish("green");
    let check = Value::object([("url", Value::from("http://{color}.test/"))]);
    watched.set("verification", Value::object([("http", Value::List(vec![check]))]));
    let (stored, diagnostics) = stage.apply(&watched, Some(&applied)).await;
    let words = told(&diagnostics);
    assert!(words.contains("ROLLBACK FAILED"), "{words}");
    assert!(words.contains("green keeps its size, since users may be there"), "{words}");
    assert_eq!(stage.fake.world().capacities["green"], Capacity { min: Some(4), pinned: Some(1), ..size(4) });
    stage.fake.heal();
    stage.fake.set_status(200);
    let (_, diagnostics) = stage.apply(&wish("blue"), Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(stage.fake.world().capacities, before.capacities);
}

#[tokio::test(start_paused = true)]
async fn either_form_of_a_route_may_be_unknown() {
    let stage = stage(world(100, 0));
    let mut config = config(&stage.switch, Value::from("green"));
    let route = |listener: Value, rule: Value, priority: Value| {
        Value::List(vec![Value::object([("listener_arn", listener), ("rule_arn", rule), ("priority", priority)])])
    };
    for routes in [
        route(Value::UNKNOWN, Value::UNKNOWN, Value::UNKNOWN),
        route(Value::from(LISTENER), Value::UNKNOWN, Value::Null),
        route(Value::UNKNOWN, Value::from(RULE), Value::UNKNOWN),
    ] {
        config.set("routes", routes);
        let mut diagnostics = Diagnostics::new();
        stage.switch.validate(&config, &mut diagnostics);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    }
}

const RULE: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener-rule/app/web/1/2/3";

/// What Terraform computed, such as `100 * 0.3`, comes with more digits than a double has. Dropped, it would be a rollout
/// without steps, and a limit that nothing exceeds.
#[tokio::test(start_paused = true)]
async fn computed_numbers_count() {
    let (stage, stored) = on_blue().await;
    let mut config = careful(&stage, "green");
    let number = |text: &str| Value::Number(Number::from_decimal(text).unwrap());
    let step = Value::object([("weight", number("30.00000000000000000001")), ("hold", text("2m"))]);
    config.set("strategy", Value::object([("steps", Value::List(vec![step]))]));
    let metric = Value::object([("metric", text("error_rate")), ("max", number("0.01000000000000000000001"))]);
    config.set("verification", Value::object([("metrics", Value::List(vec![metric]))]));
    let (planned, diagnostics) = stage.plan(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let runbook = planned.state.unwrap().get("runbook").strings().join("\n");
    assert!(runbook.contains("blue 100 %, green 0 % → blue 70 %, green 30 %"), "{runbook}");
    assert!(runbook.contains("error_rate of green is at most 1.00 %"), "{runbook}");
}

/// Fifty rollouts begin at once in one account, which takes three writes of parameters a second from all of them together: they
/// take turns, and none of them goes back for it.
#[tokio::test(start_paused = true)]
async fn fifty_rollouts_share_an_account() {
    let bucket = Bucket::new(3.0);
    let rollout = |n: usize| {
        let bucket = bucket.clone();
        async move {
            let stage = stage(world(100, 0));
            let of = |active: &str| {
                let mut config = careful(&stage, active);
                config.set("parameter", text(&format!("/app-{n}/live")));
                config
            };
            let (stored, _) = stage.apply(&of("blue"), None).await;
            stage.fake.share(&bucket);
            let (applied, diagnostics) = stage.apply(&of("green"), Some(&stored)).await;
            assert!(diagnostics.iter().next().is_none(), "{n}: {}", told(&diagnostics));
            assert_eq!(applied.state.unwrap().get("live"), &text("green"), "{n}");
            assert_eq!(stage.fake.lock(&format!("/app-{n}/live.rollout")), None, "{n}");
        }
    };
    futures::future::join_all((0..50).map(rollout)).await;
    assert!(bucket.refused() > 50, "there was no contention: {}", bucket.refused());
}

/// A switch without a record keeps rollouts apart by its routes.
#[tokio::test(start_paused = true)]
async fn without_a_record_the_routes_are_locked() {
    let without = |stage: &Stage, active: &str| {
        let mut config = careful(stage, active);
        config.set("parameter", Value::Null);
        config
    };
    let stage = stage(world(100, 0));
    let (stored, diagnostics) = stage.apply(&without(&stage, "blue"), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let read = stage.read(&stored).await;
    let wish = without(&stage, "green");
    let other = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        MACHINE.scope("two".to_owned(), stage.restarted().apply(&wish, Some(&read))).await
    };
    let own = MACHINE.scope("one".to_owned(), stage.apply(&wish, Some(&read)));
    let ((green, own), (_, other)) = futures::join!(own, other);
    assert!(!own.has_errors(), "{}", told(&own));
    let words = told(&other);
    assert!(other.has_errors() && words.starts_with("Another rollout of app is under way"), "{words}");
    assert!(words.contains("aws ssm delete-parameter --name /bluegreen/routes/"), "{words}");
    assert!(words.contains(".rollout --region eu-central-1"), "{words}");
    // What a killed one left is gone on with, and a destroy takes the lock away.
    let (wish, green) = (without(&stage, "blue"), stage.read(&green).await);
    stage.fake.heal();
    stage.fake.fault(1, Fault::DiesBefore);
    tokio::select! {
        _ = MACHINE.scope("one".to_owned(), stage.apply(&wish, Some(&green))) => panic!("it lives"),
        () = stage.fake.died() => {}
    }
    stage.fake.heal();
    let stage = stage.restarted();
    let read = stage.read(&green).await;
    let (planned, diagnostics) = stage.plan(&wish, Some(&read)).await;
    assert!(told(&diagnostics).contains("A rollout has not ended"), "{}", told(&diagnostics));
    let steps = planned.state.as_ref().unwrap().get("runbook").strings();
    assert!(steps[0].contains("as the rollout from green to blue"), "{steps:#?}");
    let (blue, diagnostics) = stage.apply(&wish, Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    // What was gone on with is over: the next release takes its steps.
    let read = stage.read(&blue).await;
    let (planned, _) = stage.plan(&wish, Some(&read)).await;
    assert_eq!(planned.state, read.state);
    let (planned, _) = stage.plan(&without(&stage, "green"), Some(&read)).await;
    let steps = planned.state.as_ref().unwrap().get("runbook").strings();
    assert!(steps.iter().filter(|step| step.starts_with("watch green")).count() == 3, "{steps:#?}");
    let (_, diagnostics) = stage.destroy(&blue).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(stage.fake.parameters(), Vec::<String>::new());
}

/// Without a record nothing but the lock says that a rollout was killed while it was verified.
#[tokio::test(start_paused = true)]
async fn without_a_record_a_verification_is_gone_on_with() {
    let (stage, _) = on_blue().await;
    let without = |active: &str| {
        let mut config = careful(&stage, active);
        config.set("parameter", Value::Null);
        config
    };
    let (stored, _) = stage.apply(&without("blue"), None).await;
    let (wish, read) = (without("green"), stage.read(&stored).await);
    // All of it is moved, and the process ends in the midst of the last hold.
    let killed = tokio::time::timeout(Duration::from_secs(2 * 130 + 30), stage.apply(&wish, Some(&read))).await;
    assert!(killed.is_err() && stage.fake.world().routes[LISTENER].terminal.share(GREEN) > 99.9);
    let name = stage.fake.parameters().into_iter().find(|name| name.starts_with("/bluegreen/")).unwrap();
    bury_lock(&stage, &name);
    let stage = stage.restarted();
    let read = stage.read(&stored).await;
    let (planned, _) = stage.plan(&wish, Some(&read)).await;
    let steps = planned.state.as_ref().unwrap().get("runbook").strings();
    assert!(steps.iter().any(|step| step.starts_with("watch green at 100 %")), "{steps:#?}");
    let (_, diagnostics) = stage.apply(&wish, Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
}

/// By the front door either color answers until the nodes have followed.
#[tokio::test(start_paused = true)]
async fn a_check_by_the_front_door_waits_for_the_nodes() {
    let (stage, stored) = on_blue().await;
    let mut config = config(&stage.switch, text("green"));
    let check = Value::object([("url", text("http://app.test/")), ("body_matches", text("{color}"))]);
    config.set("verification", Value::object([("http", Value::List(vec![check]))]));
    let fake = stage.fake.clone();
    let shown = |body: &str| crate::rollout::gate::HttpAnswer {
        status: 200,
        latency: Duration::ZERO,
        excerpt: body.to_owned(),
        body: body.to_owned(),
        matches: Some(body == "green"),
        headers: Vec::new(),
    };
    stage.fake.set_answers(vec![shown("blue")]);
    let follow = async {
        while fake.world().routes[LISTENER].terminal.share(GREEN) <= 0.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        fake.set_answers(vec![shown("green")]);
    };
    let ((_, diagnostics), ()) = futures::join!(stage.apply(&config, Some(&stored)), follow);
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
}

/// Who may not write to Parameter Store at all can switch all the same, and is told.
#[tokio::test(start_paused = true)]
async fn without_a_record_and_a_permission_it_is_said() {
    let stage = stage(world(100, 0));
    stage.fake.deny_parameters();
    let mut config = config(&stage.switch, Value::from("green"));
    config.set("parameter", Value::Null);
    let (stored, diagnostics) = stage.apply(&config, None).await;
    let words = told(&diagnostics);
    assert!(!diagnostics.has_errors() && words.contains("Nothing keeps two rollouts apart"), "{words}");
    let (_, diagnostics) = stage.destroy(&stored).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
}

/// Two hands that move the same listener are told of each other, with the cure.
#[tokio::test(start_paused = true)]
async fn traffic_that_is_led_back_again_and_again_is_told() {
    let (stage, mut stored) = on_blue().await;
    let wish = config(&stage.switch, text("green"));
    for time in 0..4 {
        let read = stage.read(&stored).await;
        let (_, diagnostics) = stage.plan(&wish, Some(&read)).await;
        let words = told(&diagnostics);
        assert_eq!(words.contains("led back again and again"), time >= 2, "{time}: {words}");
        let (green, diagnostics) = stage.apply(&wish, Some(&read)).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
        // A refresh that finds it in its place counts for nothing.
        stored = stage.read(&green).await;
        stage.fake.meddle(|seen| seen.routes = world(100, 0).routes);
    }
    // What this switch does itself is no other hand.
    let read = stage.read(&stored).await;
    let (blue, _) = stage.apply(&config(&stage.switch, text("blue")), Some(&read)).await;
    let (_, diagnostics) = stage.plan(&config(&stage.switch, text("blue")), Some(&stage.read(&blue).await)).await;
    assert_eq!(told(&diagnostics), "");
}

/// A rule that only forwards, on a listener that finds out who is asking, is open to everybody.
#[tokio::test(start_paused = true)]
async fn a_rule_without_its_listeners_authentication_is_told() {
    let stage = stage(world(100, 0));
    stage.fake.authenticate("authenticate-oidc");
    let mut wish = config(&stage.switch, text("blue"));
    wish.set("routes", Value::List(vec![own_rule(10, "/api/*")]));
    let (stored, diagnostics) = stage.apply(&wish, None).await;
    let words = told(&diagnostics);
    assert!(words.contains("routes[0]: the default action of listener web/2 has authenticate-oidc"), "{words}");
    // Once it is there, that was told.
    let (_, diagnostics) = stage.plan(&wish, Some(&stage.read(&stored).await)).await;
    assert_eq!(told(&diagnostics), "");
}

/// What an alarm says too late for a hold is told before that.
#[tokio::test(start_paused = true)]
async fn an_alarm_that_is_slower_than_a_hold_is_told() {
    let (stage, stored) = on_blue().await;
    stage.fake.set_alarm("green-5xx", "OK");
    stage.fake.set_least("green-5xx", Duration::from_secs(180));
    let watched = |hold: &str| {
        let mut wish = config(&stage.switch, text("green"));
        let canary = Value::object([("percent", Value::from(10)), ("interval", text(hold))]);
        wish.set("strategy", Value::object([("canary", canary)]));
        let alarms = Value::List(vec![text("{color}-5xx")]);
        wish.set("verification", Value::object([("alarms", alarms), ("duration", text("10m"))]));
        wish
    };
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.plan(&watched("2m"), Some(&read)).await;
    let words = told(&diagnostics);
    let says = "green-5xx goes off when something has lasted for 3m at least, and the shortest hold is 2m";
    assert!(words.contains(says), "{words}");
    let (_, diagnostics) = stage.plan(&watched("3m"), Some(&read)).await;
    assert!(!told(&diagnostics).contains("green-5xx"), "{}", told(&diagnostics));
}

/// What was there is looked for again before it is said to be gone, and nothing is made twice.
#[tokio::test(start_paused = true)]
async fn what_a_look_misses_is_not_gone() {
    let stage = stage(world(100, 0));
    let mut wish = config(&stage.switch, text("blue"));
    wish.set("routes", Value::List(vec![own_rule(10, "/api/*")]));
    let (stored, diagnostics) = stage.apply(&wish, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let rule = format!("{LISTENER}#10");
    for missed in ["/app/live", &rule] {
        stage.fake.overlook(missed, 2);
        let read = stage.read(&stored).await;
        let (planned, diagnostics) = stage.plan(&wish, Some(&read)).await;
        assert_eq!((planned.state, told(&diagnostics).as_str()), (read.state, ""), "{missed}");
        let calls = stage.fake.calls().len();
        stage.fake.overlook(missed, 2);
        let (_, diagnostics) = stage.apply(&wish, Some(&stage.read(&stored).await)).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
        assert_eq!(stage.fake.calls().len(), calls, "{missed}");
    }
}

/// A gRPC call that fails is a success to the load balancer.
#[tokio::test(start_paused = true)]
async fn an_error_rate_that_sees_no_failure_is_told() {
    let (stage, stored) = on_blue().await;
    let mut config = config(&stage.switch, text("green"));
    let metric = Value::object([("metric", text("error_rate")), ("max", Value::from(1))]);
    config.set("verification", Value::object([("metrics", Value::List(vec![metric]))]));
    let (_, diagnostics) = stage.plan(&config, Some(&stored)).await;
    assert!(!told(&diagnostics).contains("gRPC"), "{}", told(&diagnostics));
    stage.fake.set_grpc(GREEN);
    let (_, diagnostics) = stage.plan(&config, Some(&stored)).await;
    let words = told(&diagnostics);
    assert!(words.contains("verification.metrics[0]: green speaks gRPC"), "{words}");
}

/// How many requests a metric will have is foreseen from the last hour: too few show nothing, and that is told.
#[tokio::test(start_paused = true)]
async fn a_metric_that_can_t_see_anything_is_told() {
    for (an_hour, max, is_told) in [
        (600.0, Some(0.01), true),
        (600_000.0, Some(0.01), false),
        // A limit that is far away is seen by fewer; one beside the live color goes by its own rate.
        (6_000.0, Some(0.01), true),
        (6_000.0, Some(0.2), false),
        (600.0, None, true),
        // Where nobody comes nothing is foreseen.
        (0.0, Some(0.01), false),
    ] {
        let (stage, stored) = on_blue().await;
        let value = (an_hour > 0.0).then_some(0.005);
        stage.fake.set_sample("targetgroup/blue/1", Sample { value, requests: an_hour, ..Sample::default() });
        let limit = match max {
            Some(max) => ("max", percent(max)),
            None => ("max_ratio_to_live", percent(1.5)),
        };
        let metric = Value::object([("metric", text("error_rate")), limit]);
        let mut config = careful(&stage, "green");
        config.set("verification", Value::object([("duration", text("5m")), ("metrics", list(metric))]));
        let (_, diagnostics) = stage.plan(&config, Some(&stored)).await;
        let told = told(&diagnostics);
        assert_eq!(told.contains("Too few requests for the metric"), is_told, "{an_hour} {max:?}: {told}");
        if is_told && an_hour < 1000.0 && max.is_some() {
            let said = told.split("Too few requests").nth(1).unwrap().lines().nth(1).unwrap();
            expect_test::expect!["verification.metrics[0]: at 10 requests a minute, as in the last hour: green gets 1 of them at 10 % for 2m, and 5 of them at 50 % for 2m, and 40 of them at 100 % for 5m. It takes about 204 until 5 times as many as allowed are told from chance: what is worse than its limit may pass there. Hold longer, give the step more weight, or add http checks or alarms."].assert_eq(said);
        }
    }
}

/// CloudWatch has a minute when it is over for two: what is younger is not judged, and what the hold ended with is.
#[tokio::test(start_paused = true)]
async fn a_hold_is_judged_to_its_last_whole_minute() {
    let (stage, stored) = on_blue().await;
    let mut config = config(&stage.switch, text("green"));
    let metric = Value::object([("metric", text("error_rate")), ("max", Value::from(1))]);
    let verification = [("duration", text("5m")), ("metrics", Value::List(vec![metric]))];
    config.set("verification", Value::object(verification));
    let sample = Sample { points: vec![0.0], value: Some(0.0), requests: 100.0, ..Sample::default() };
    stage.fake.set_sample("targetgroup/green/1", sample);
    let start = crate::clock::wall();
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let sampled = stage.fake.sampled();
    let lag = Duration::from_secs(120);
    assert!(sampled.iter().all(|(to, asked)| *to + lag <= *asked), "{sampled:?}");
    // Ten seconds for the nodes, and five minutes.
    let end = start + Duration::from_secs(310);
    let (last, asked) = sampled.last().unwrap();
    assert!(end.duration_since(*last).unwrap_or_default() < Duration::from_secs(60), "{sampled:?}");
    assert!(asked.duration_since(end).unwrap() < Duration::from_secs(140), "{sampled:?}");
}

/// After the last step the color is measured by the one that was live, which has nothing left by then.
#[tokio::test(start_paused = true)]
async fn the_last_watch_knows_who_was_live() {
    let (stage, stored) = on_blue().await;
    let end = CommandEnd { code: Some(0), output: String::new(), is_cut: false, timed_out: false };
    stage.fake.set_commands(vec![end]);
    let sample = |value: f64| Sample { points: vec![value], value: Some(value), requests: 500.0, ..Sample::default() };
    stage.fake.set_sample("targetgroup/blue/1", sample(1.0));
    stage.fake.set_sample("targetgroup/green/1", sample(3.0));
    let orders = [("namespace", text("MyApp")), ("metric_name", text("Orders"))];
    let query = [("expression", text("orders")), ("metrics", Value::object([("orders", Value::object(orders))]))];
    let metric = Value::object([("query", Value::object(query)), ("max_ratio_to_live", percent(1.5))]);
    let command = Value::object([("argv", list(text("smoke")))]);
    let mut config = config(&stage.switch, text("green"));
    let verification = [("duration", text("5m")), ("metrics", list(metric)), ("command", list(command))];
    config.set("verification", Value::object(verification));
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    let told = told(&diagnostics);
    assert!(diagnostics.has_errors() && told.contains("orders of green is 3.0000"), "{told}");
    let ran = stage.fake.ran();
    assert!(!ran.is_empty() && ran.iter().all(|variables| variables["BLUEGREEN_LIVE"] == "blue"), "{ran:?}");
}

/// Where routes can't be read any more, it is told where they were led last; one that went back is at none of the steps.
#[tokio::test(start_paused = true)]
async fn what_went_back_is_not_told_as_led() {
    for is_back in [true, false] {
        let (stage, stored) = on_blue().await;
        stage.fake.set_answers(vec![]);
        let fake = stage.fake.clone();
        let breaks = async {
            tokio::time::sleep(Duration::from_secs(200)).await;
            fake.set_status(500);
        };
        // The third call leads it back.
        if is_back {
            stage.fake.blind(3, 999);
        } else {
            stage.fake.fault(2, Fault::Refused);
            stage.fake.blind(2, 999);
        }
        let config = careful(&stage, "green");
        let ((_, diagnostics), ()) = futures::join!(stage.apply(&config, Some(&stored)), breaks);
        let told = told(&diagnostics);
        assert!(told.contains("Traffic now: not known"), "{told}");
        let led = "This run led them last to:\n  listener web/2: blue 50 %, green 50 %";
        assert_eq!(told.contains(led), !is_back, "{told}");
    }
}
