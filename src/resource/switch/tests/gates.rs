//! Metrics that are only told, or that leave it to a person; and the way back, rehearsed.

use super::rollouts::{careful, carefully_on_blue, share, told, with_strategy};
use super::{GREEN, LISTENER, Stage, stage, world};
use crate::rollout::metrics::{Count, Sample};
use crate::rollout::{Forward, Stickiness, Terminal};
use crate::run::rollout::in_memory::Fault;
use crate::tf_provider::{Number, Value};

/// A rollout to green that is watched by an error rate of one percent at most, and by whatever else is said of it.
fn measured(stage: &Stage, more: &[(&str, Value)]) -> Value {
    let mut config = careful(stage, "green");
    let plain =
        [("metric", "error_rate".into()), ("max", Value::Number(Number::from_f64(0.01))), ("test", "threshold".into())];
    let metric = Value::object(plain.into_iter().chain(more.iter().cloned()));
    let verification = [("duration", Value::from("2m")), ("metrics", Value::List(vec![metric]))];
    config.set("verification", Value::object(verification));
    config
}

fn rehearsing(stage: &Stage) -> Value {
    with_strategy(careful(stage, "green"), "rehearse", Value::from(true))
}

/// The most that green had at any time.
pub(super) fn most(stage: &Stage) -> f64 {
    stage.fake.history().iter().map(|world| world.routes[LISTENER].terminal.share(GREEN)).fold(0.0, f64::max)
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_and_does_nothing() {
    let (stage, stored) = carefully_on_blue().await;
    let bad = Sample { value: Some(0.5), requests: 1000.0, points: vec![0.5], ..Sample::default() };
    stage.fake.set_sample("targetgroup/green/1", bad);
    let (_, diagnostics) = stage.apply(&measured(&stage, &[]), Some(&stored)).await;
    assert!(diagnostics.has_errors() && share(&stage) < 1e-9, "{}", told(&diagnostics));
    let dry = measured(&stage, &[("dry_run", Value::from(true))]);
    let (plan, _) = stage.plan(&dry, Some(&stored)).await;
    let steps = plan.state.unwrap().get("runbook").strings().join("\n");
    assert!(steps.contains("error_rate of green is at most 1.00 %, only told"), "{steps}");
    let (applied, diagnostics) = stage.apply(&dry, Some(&stored)).await;
    let words = told(&diagnostics);
    assert!(!diagnostics.has_errors() && (share(&stage) - 100.0).abs() < 1e-9, "{words}");
    assert_eq!(applied.state.unwrap().get("last_rollout").get("status"), &Value::from("completed"));
    let told = words.split("A dry run would have stopped the rollout\n").nth(1).expect(&words);
    assert_eq!(told.matches("error_rate of green is 50.00 %").count(), 3, "once for each step: {told}");
    assert!(told.contains("verification.metrics[0] at ") && told.contains("Nothing was done about it"), "{told}");
}

/// An hour ago the live color was quicker, or slower, than it is now: neither is a reason to pass a color that is much slower
/// beside it, nor to throw back one that is not.
#[tokio::test(start_paused = true)]
async fn latencies_are_held_against_the_live_color_of_the_same_time() {
    for (an_hour_ago, live, own, fails) in
        [(0.08, 0.09, 1.0, true), (1.0, 0.08, 0.4, true), (0.08, 0.3, 0.4, false), (0.3, 0.08, 0.1, false)]
    {
        let (stage, stored) = carefully_on_blue().await;
        let start = crate::clock::wall();
        stage.fake.measure(move |group, over, (from, _)| {
            let latency = match group.contains("green") {
                true => own,
                false if from < start => an_hour_ago,
                false => live,
            };
            let counted =
                |limit: &f64| vec![Count { at: 1, of: 500.0, hits: if latency > *limit { 500.0 } else { 0.0 } }];
            let counts = over.iter().map(counted).collect();
            Sample { points: vec![latency], value: Some(latency), requests: 500.0, counts, ..Sample::default() }
        });
        let metric =
            [("metric", Value::from("latency_p90")), ("max_ratio_to_live", Value::Number(Number::from_f64(3.0)))];
        let mut config = careful(&stage, "green");
        let metrics = Value::List(vec![Value::object(metric)]);
        config.set("verification", Value::object([("duration", Value::from("2m")), ("metrics", metrics)]));
        let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
        let words = told(&diagnostics);
        assert_eq!(diagnostics.has_errors(), fails, "{an_hour_ago} {live} {own}: {words}");
        assert!(!fails || words.contains("times as many requests over ") && share(&stage) < 1e-9, "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_clear_is_left_to_a_person() {
    for (counts_as, left) in [("hold", 10.0), ("fail", 0.0), ("pass", 100.0)] {
        let (stage, stored) = carefully_on_blue().await;
        let config = measured(&stage, &[("inconclusive", Value::from(counts_as))]);
        let (applied, diagnostics) = stage.apply(&config, Some(&stored)).await;
        assert_eq!(diagnostics.has_errors(), counts_as != "pass", "{}", told(&diagnostics));
        assert!((share(&stage) - left).abs() < 1e-9, "{counts_as}: {}", told(&diagnostics));
        if counts_as == "hold" {
            assert_eq!(applied.state.as_ref().unwrap().get("last_rollout").get("status"), &Value::from("held"));
            let words = told(&diagnostics);
            assert!(!stage.fake.told().iter().any(|message| message.contains("rolling_back")));
            assert!(words.contains("nothing can be said, so that it stays here (inconclusive = \"hold\")"), "{words}");
            // Who decides to go on lets it pass; who decides to go back names the color.
            let read = stage.read(&applied).await;
            let (_, diagnostics) = stage.apply(&careful(&stage, "blue"), Some(&read)).await;
            assert!(!diagnostics.has_errors() && share(&stage) < 1e-9, "{}", told(&diagnostics));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_way_back_is_rehearsed() {
    let (stage, stored) = carefully_on_blue().await;
    let config = rehearsing(&stage);
    let (plan, _) = stage.plan(&config, Some(&stored)).await;
    let steps = plan.state.unwrap().get("runbook").strings();
    expect_test::expect![[r#"
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 100 %, green 0 % → blue 99 %, green 1 %, to rehearse the way back
        set listener web/2: blue 99 %, green 1 % → blue 100 %, green 0 %, as it is rehearsed
        set listener web/2: blue 100 %, green 0 % → blue 90 %, green 10 %"#]]
    .assert_eq(&steps[..4].join("\n"));
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors() && (share(&stage) - 100.0).abs() < 1e-9, "{}", told(&diagnostics));
}

/// Whatever goes wrong on the way back: nobody but the first percent meets the color.
#[tokio::test(start_paused = true)]
async fn nobody_follows_where_the_way_back_is_barred() {
    for fault in [Fault::Refused, Fault::Late(45), Fault::LostAnswer, Fault::DiesBefore, Fault::DiesAfter] {
        let (stage, stored) = carefully_on_blue().await;
        stage.fake.fault(1, fault);
        let config = rehearsing(&stage);
        let ended = tokio::select! {
            ended = stage.apply(&config, Some(&stored)) => Some(ended),
            () = stage.fake.died() => None,
        };
        tokio::time::sleep(std::time::Duration::from_secs(100)).await;
        if fault == Fault::LostAnswer {
            // What is seen to be back is back.
            continue;
        }
        assert!((most(&stage) - 1.0).abs() < 1e-9, "{fault:?}: {}", most(&stage));
        let Some((_, diagnostics)) = ended else { continue };
        let words = told(&diagnostics);
        assert!(diagnostics.has_errors() && share(&stage) < 1.1, "{fault:?}: {words}");
        if fault == Fault::Late(45) {
            assert!(share(&stage) < 1e-9, "{words}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_would_not_come_back_is_left_out() {
    let mut sticky = world(100, 0);
    let Terminal::Forward(forward) = &sticky.routes[LISTENER].terminal else { panic!() };
    let stickiness = Some(Stickiness { enabled: true, duration_seconds: Some(600) });
    let terminal = Terminal::Forward(Forward { stickiness, ..forward.clone() });
    sticky.routes.get_mut(LISTENER).unwrap().terminal = terminal;
    let stage = stage(sticky);
    let (stored, _) = stage.apply(&careful(&stage, "blue"), None).await;
    let (plan, diagnostics) = stage.plan(&rehearsing(&stage), Some(&stored)).await;
    assert!(told(&diagnostics).contains("The way back is not rehearsed everywhere"), "{}", told(&diagnostics));
    assert!(!plan.state.unwrap().get("runbook").strings().iter().any(|step| step.contains("rehearse")));
    // Stickiness that the switch itself sets is for the steps alone.
    let (stage, stored) = carefully_on_blue().await;
    let mut config = rehearsing(&stage);
    config.set("stickiness", Value::object([("duration", Value::from("1h"))]));
    let (plan, _) = stage.plan(&config, Some(&stored)).await;
    assert!(plan.state.unwrap().get("runbook").strings().iter().any(|step| step.contains("rehearse")));
}

/// A rehearsal whose way back was refused is not gone on from: what it left goes back first.
#[tokio::test(start_paused = true)]
async fn a_rehearsal_that_failed_is_made_again() {
    let (stage, stored) = carefully_on_blue().await;
    stage.fake.fault(1, Fault::Refused);
    stage.fake.fault(2, Fault::Refused);
    let config = rehearsing(&stage);
    let (stuck, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(diagnostics.has_errors() && (share(&stage) - 1.0).abs() < 1e-9, "{}", told(&diagnostics));
    let read = stage.read(&stuck).await;
    stage.fake.heal();
    stage.fake.fault(0, Fault::Refused);
    stage.fake.fault(1, Fault::Refused);
    let (stuck, diagnostics) = stage.apply(&config, Some(&read)).await;
    assert!(diagnostics.has_errors() && (most(&stage) - 1.0).abs() < 1e-9, "{}", told(&diagnostics));
    let read = stage.read(&stuck).await;
    stage.fake.heal();
    let (_, diagnostics) = stage.apply(&config, Some(&read)).await;
    assert!(!diagnostics.has_errors() && (share(&stage) - 100.0).abs() < 1e-9, "{}", told(&diagnostics));
}
