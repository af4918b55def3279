//! How many failed requests a rollout may cost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::freezes::running;
use super::gates::most;
use super::rollouts::{careful, carefully_on_blue, percent as number, share, step, told};
use super::trial::closed;
use super::{GREEN, LISTENER, Stage, stage, world};
use crate::clock;
use crate::rollout::metrics::{Count, Sample};
use crate::tf_provider::{Diagnostics, Value};

/// By so much CloudWatch is late.
const LATE: Duration = Duration::from_secs(60);
/// A minute, until CloudWatch has it, and until the next look.
const UNSEEN: Duration = Duration::from_secs(60 + 120 + 10);
/// Requests a minute.
const TRAFFIC: f64 = 6000.0;

/// A rollout to green that is watched by its budget alone.
fn costing(stage: &Stage, active: &str, budget: &[(&str, Value)]) -> Value {
    let mut config = careful(stage, active);
    let budget = Value::object(budget.iter().cloned());
    config.set("verification", Value::object([("duration", Value::from("5m")), ("budget", budget)]));
    config
}

/// What came to green in each second since 1970.
type Ledger = Arc<Mutex<BTreeMap<u64, (f64, f64)>>>;

fn second(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Users come, and from so many seconds on this share of their requests to green fails; CloudWatch counts them, late, in whole minutes.
fn users(stage: &Stage, (after, failing): (u64, f64)) -> Ledger {
    let ledger = Ledger::default();
    let (fake, written) = (Arc::clone(&stage.fake), Arc::clone(&ledger));
    tokio::spawn(async move {
        for n in 0_u64.. {
            let share = fake.world().routes[LISTENER].terminal.share(GREEN) / 100.0;
            let comes = share * TRAFFIC / 60.0;
            let fails = if n >= after { comes * failing } else { 0.0 };
            written.lock().unwrap().insert(second(clock::wall()), (comes, fails));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let read = Arc::clone(&ledger);
    stage.fake.measure(move |group, _, (from, to)| {
        if !group.contains("green") {
            return Sample::default();
        }
        let visible = second(clock::wall() - LATE) / 60 * 60;
        let (from, to) = (second(from), second(to).min(visible));
        let mut minutes: BTreeMap<u64, Count> = BTreeMap::new();
        for (at, (comes, fails)) in read.lock().unwrap().range(from..to.max(from)) {
            let minute = minutes.entry(at / 60).or_default();
            *minute = Count { at: minute.at, of: minute.of + comes, hits: minute.hits + fails };
        }
        let counts: Vec<Count> = minutes.into_values().collect();
        let requests = counts.iter().map(|one| one.of).sum();
        Sample { requests, counts: vec![counts], ..Sample::default() }
    });
    ledger
}

fn failed(ledger: &Ledger, until: u64) -> f64 {
    ledger.lock().unwrap().range(..until).map(|(_, (_, fails))| fails).sum()
}

/// When green had requests last.
fn end(ledger: &Ledger) -> u64 {
    ledger.lock().unwrap().iter().rev().find(|(_, (comes, _))| *comes > 0.0).map_or(0, |(at, _)| at + 1)
}

/// Fifty rollouts that go bad at some time to some degree: what failed when users were led back is within the budget, but for those in
/// flight, of which nobody could know yet.
#[tokio::test(start_paused = true)]
async fn what_failed_is_within_the_budget_but_for_those_in_flight() {
    let (mut back, mut through) = (0, 0);
    for n in 0..50 {
        let after = n as u64 * 137 % 700;
        let failing = [0.0, 0.004, 0.02, 0.2, 1.0][n % 5];
        let most = [50.0, 200.0, 1000.0][n / 5 % 3];
        let (stage, stored) = carefully_on_blue().await;
        let ledger = users(&stage, (after, failing));
        let config = costing(&stage, "green", &[("max_failed_requests", number(most))]);
        let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
        let words = told(&diagnostics);
        let end = end(&ledger);
        let known = failed(&ledger, end.saturating_sub(UNSEEN.as_secs()));
        assert!(known < most, "{known} of {most} were known to have failed ({after} s, {failing}): {words}");
        if diagnostics.has_errors() {
            back += 1;
            assert!(share(&stage) < 1e-9 && words.contains("verification.budget"), "{words}");
            assert!(words.contains("the budget of ") || words.contains("the budget is "), "{words}");
        } else {
            through += 1;
            assert!(failed(&ledger, end) < most + TRAFFIC / 60.0 * failing * UNSEEN.as_secs_f64(), "{words}");
        }
    }
    assert!(back > 15 && through > 5, "{back} went back, {through} did not");
}

/// What would be used up before anybody sees it is not begun: two percent of a tenth are cheap, of a half they aren't.
#[tokio::test(start_paused = true)]
async fn a_step_that_would_use_it_up_unseen_is_not_taken() {
    let (stage, stored) = carefully_on_blue().await;
    let ledger = users(&stage, (0, 0.02));
    let config = costing(&stage, "green", &[("max_failed_requests", number(100.0))]);
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    let words = told(&diagnostics);
    assert!(diagnostics.has_errors() && share(&stage) < 1e-9, "{words}");
    assert!(words.contains("; at 50 % about 190 more would before that can be seen, and the budget is 100"), "{words}");
    let most = most(&stage);
    assert!((most - 10.0).abs() < 1e-9 && failed(&ledger, u64::MAX) < 100.0, "{most} {}", failed(&ledger, u64::MAX));
}

/// However many looks may fail: what was spent stays spent.
#[tokio::test(start_paused = true)]
async fn no_look_is_tolerated_once_it_is_used_up() {
    let (stage, stored) = carefully_on_blue().await;
    let ledger = users(&stage, (0, 1.0));
    let mut config = costing(&stage, "green", &[("max_failed_requests", number(50.0))]);
    let mut verification = config.get("verification").clone();
    verification.set("max_failures", Value::from(10));
    config.set("verification", verification);
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(diagnostics.has_errors(), "{}", told(&diagnostics));
    let most = TRAFFIC / 60.0 * 0.1 * (UNSEEN.as_secs_f64() + 60.0);
    assert!(failed(&ledger, u64::MAX) < most, "{} of {most}", failed(&ledger, u64::MAX));
}

/// An hour's requests to both colors, and how many of those of thirty days failed.
fn with_history(stage: &Stage, failed: f64) {
    with_usual(stage, failed, 0.0);
}

/// The same, with the part that usually fails.
fn with_usual(stage: &Stage, failed: f64, usual: f64) {
    stage.fake.measure(move |_, _, (from, to)| {
        let hours = to.duration_since(from).unwrap_or_default().as_secs_f64() / 3600.0;
        let (requests, failed) = match hours {
            _ if hours > 24.0 => (500_000.0, failed / 2.0),
            _ if hours >= 1.0 => (42_900.0 * hours, usual * 42_900.0 * hours),
            _ => (0.0, 0.0),
        };
        let value = (requests > 0.0).then(|| failed / requests);
        Sample { requests, value, ..Sample::default() }
    });
}

fn of_a_month(stage: &Stage, active: &str) -> Value {
    let budget = [("max_percent", number(0.1)), ("of", Value::from("30d"))];
    running(costing(stage, active, &budget), "1", "2")
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_with_nothing_left_but_the_way_back() {
    let fresh = stage(world(100, 0));
    let (stored, diagnostics) = fresh.apply(&of_a_month(&fresh, "blue"), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let stage = fresh;
    // A million requests, of which a thousand may fail.
    with_history(&stage, 1200.0);
    let (_, diagnostics) = stage.plan(&of_a_month(&stage, "green"), Some(&stored)).await;
    let words = told(&diagnostics);
    assert!(diagnostics.has_errors() && words.contains("The error budget is used up\n"), "{words}");
    for part in [
        "1200 of the 1000000 requests of the last 30d have failed, and 0.1 % of them may",
        "set active to \"blue\"",
        "blue serves as before",
        "set max_failed_requests in place of max_percent",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    // What a plan saw as left may be gone when it is applied.
    with_history(&stage, 900.0);
    let saved = stage.plan(&of_a_month(&stage, "green"), Some(&stored)).await;
    assert!(
        !saved.1.has_errors() && told(&saved.1).contains("The rollout ends when 100 of them have failed"),
        "{}",
        told(&saved.1)
    );
    with_history(&stage, 1000.0);
    let config = of_a_month(&stage, "green");
    let (_, diagnostics) =
        stage.apply_planned(&config, Some(&stored), saved, crate::tf_provider::Cancel::never()).await;
    assert!(diagnostics.has_errors() && share(&stage) < 1e-9, "{}", told(&diagnostics));
    with_history(&stage, 900.0);
    let (stored, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors() && (share(&stage) - 100.0).abs() < 1e-9, "{}", told(&diagnostics));
    // Green turns out bad, and takes everything that was left, or almost: blue, which was live, gets users whatever it costs.
    for burned in [999.0, 50_000.0] {
        with_usual(&stage, burned, 0.1);
        let (plan, diagnostics) = stage.plan(&of_a_month(&stage, "blue"), Some(&stored)).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
        assert!(!plan.state.unwrap().get("runbook").strings().concat().contains("fewer requests"));
    }
    let (_, diagnostics) = stage.apply(&of_a_month(&stage, "blue"), Some(&stored)).await;
    assert!(!diagnostics.has_errors() && share(&stage) < 1e-9, "{}", told(&diagnostics));
    // Without a request in all that time nothing can be said of a part of them.
    stage.fake.measure(|_, _, _| Sample::default());
    let (_, diagnostics) = stage.plan(&of_a_month(&stage, "green"), Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "it is there: {}", told(&diagnostics));
}

/// The first color takes users from nobody: no history bars it, and none ends it.
#[tokio::test(start_paused = true)]
async fn the_first_color_needs_no_history() {
    for (is_fixed, requests) in [(true, 0.0), (true, 300.0), (false, 0.0)] {
        let stage = stage(if is_fixed { closed() } else { world(0, 0) });
        stage.fake.measure(move |_, _, _| Sample { requests, ..Sample::default() });
        let (_, diagnostics) = stage.apply(&of_a_month(&stage, "blue"), None).await;
        assert!(!diagnostics.has_errors(), "{requests}: {}", told(&diagnostics));
        assert!(!told(&diagnostics).contains("budget"), "{requests}: {}", told(&diagnostics));
    }
}

/// Nodes that follow for minutes, and a hold of seconds: there is something to look ahead by nevertheless.
#[tokio::test(start_paused = true)]
async fn a_short_hold_after_a_long_settling_is_seen() {
    let (stage, stored) = carefully_on_blue().await;
    users(&stage, (0, 0.02));
    let mut config = costing(&stage, "green", &[("max_failed_requests", number(150.0))]);
    let steps = Value::List(vec![step(10.0, "5s"), step(50.0, "5s")]);
    config.set("strategy", Value::object([("settle", Value::from("2m")), ("steps", steps)]));
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    let words = told(&diagnostics);
    assert!(diagnostics.has_errors() && words.contains("; at 50 % about "), "{words}");
}

/// What stopped half-way and goes on with nothing left ends at its first look, and its plan says so.
#[tokio::test(start_paused = true)]
async fn what_goes_on_with_nothing_left_is_taken_back() {
    let (stage, stored) = carefully_on_blue().await;
    users(&stage, (0, 1.0));
    let mut held = costing(&stage, "green", &[("max_failed_requests", number(1.0))]);
    held.set("on_failure", Value::from("hold"));
    let (stored, diagnostics) = stage.apply(&held, Some(&stored)).await;
    assert!(diagnostics.has_errors() && (share(&stage) - 10.0).abs() < 1e-9, "{}", told(&diagnostics));
    with_history(&stage, 1200.0);
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.plan(&of_a_month(&stage, "green"), Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert!(
        told(&diagnostics).contains("nothing is left, so that this rollout, which goes on"),
        "{}",
        told(&diagnostics)
    );
    let (_, diagnostics) = stage.apply(&of_a_month(&stage, "green"), Some(&read)).await;
    assert!(diagnostics.has_errors() && share(&stage) < 1e-9, "{}", told(&diagnostics));
    assert!(told(&diagnostics).contains("the budget of 0 is used up"), "{}", told(&diagnostics));
}

/// A hold of seconds is over before CloudWatch has anything: the budget waits until it has.
#[tokio::test(start_paused = true)]
async fn a_short_hold_waits_until_something_can_be_seen() {
    let (stage, stored) = carefully_on_blue().await;
    let ledger = users(&stage, (0, 1.0));
    let mut config = costing(&stage, "green", &[("max_failed_requests", number(1000.0))]);
    let steps = Value::List(vec![step(1.0, "5s"), step(50.0, "5s")]);
    config.set("strategy", Value::object([("steps", steps)]));
    let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
    let words = told(&diagnostics);
    assert!(diagnostics.has_errors() && words.contains("; at 50 % about "), "{words}");
    assert!(failed(&ledger, u64::MAX) < 1000.0, "{}", failed(&ledger, u64::MAX));
}

#[tokio::test(start_paused = true)]
async fn a_plan_tells_what_each_step_exposes() {
    let (stage, stored) = carefully_on_blue().await;
    with_history(&stage, 0.0);
    let tells = async |most: f64| {
        let config = costing(&stage, "green", &[("max_failed_requests", number(most))]);
        let (plan, diagnostics) = stage.plan(&config, Some(&stored)).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
        (plan.state.unwrap().get("runbook").strings().join("\n"), told(&diagnostics))
    };
    let (steps, words) = tells(200.0).await;
    expect_test::expect![[r#"
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 100 %, green 0 % → blue 90 %, green 10 %
        watch green at 10 % for 2m once the load balancer had 10s to settle: fewer than 200 requests of green fail
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 90 %, green 10 % → blue 50 %, green 50 %
        watch green at 50 % for 2m once the load balancer had 10s to settle: fewer than 200 requests of green fail
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 50 %, green 50 % → blue 0 %, green 100 %
        watch green at 100 % for 5m once the load balancer had 10s to settle: fewer than 200 requests of green fail
        write /app/live: blue → green"#]]
    .assert_eq(&steps);
    expect_test::expect![[r#"
        The first step may cost more than the budget
        verification.budget: at 10 % green gets 453 requests until CloudWatch tells whether they fail (up to 3m10s), and 200 may fail: a color that fails at once costs more than the budget. Begin at 4.4 % or less, or add http or healthy checks, which see it at once.
        ---
        What the rollout may cost
        verification.budget: at 1430 requests a minute, as in the last hour, green gets about 763 at 10 % for 2m, 3813 at 50 % for 2m, 11917 at 100 % for 5m, each with the time until CloudWatch has all of it. The rollout ends when 200 of them have failed; one that fails is seen after up to 3m10s."#]].assert_eq(&words);
    let (_, words) = tells(2000.0).await;
    assert!(!words.contains("The first step may cost more") && !words.contains("What is usual"), "{words}");
    // Half a percent fails whatever the release is.
    with_usual(&stage, 0.0, 0.005);
    let (_, words) = tells(100.0).await;
    let usual = words.split("What is usual may use up the budget\n").nth(1).expect(&words);
    let usual = usual.lines().next().unwrap();
    expect_test::expect!["verification.budget: of the requests of the last hour 0.50 % failed. If green is as good as that, about 82 of its requests fail in this rollout, and 100 may: it would be taken back by what is usual. Allow more, or hold for a shorter time."].assert_eq(usual);
    let (_, words) = tells(2000.0).await;
    assert!(!words.contains("What is usual"), "{words}");
}

#[test]
fn a_budget_needs_one_number_that_can_be_counted() {
    let stage = stage(world(100, 0));
    for (budget, path) in [
        (vec![], "verification.budget"),
        (
            vec![("max_failed_requests", number(5.0)), ("max_percent", number(1.0)), ("of", Value::from("1d"))],
            "verification.budget",
        ),
        (vec![("max_percent", number(1.0))], "verification.budget.of"),
        (vec![("max_failed_requests", number(5.0)), ("of", Value::from("1d"))], "verification.budget.max_percent"),
    ] {
        let mut config = costing(&stage, "blue", &budget);
        let first = |config: &Value| {
            let mut diagnostics = Diagnostics::new();
            crate::resource::switch::budgets::validate(config, &mut diagnostics);
            diagnostics.iter().next().and_then(|one| one.path.clone()).map(|path| path.to_string())
        };
        assert_eq!(first(&config).as_deref(), Some(path));
        // What isn't known yet may be right.
        let unknown = ["max_failed_requests", "max_percent", "of"].map(|name| (name, Value::UNKNOWN));
        let verification = Value::object([("budget", Value::object(unknown))]);
        config.set("verification", verification);
        assert_eq!(first(&config), None);
    }
    let mut config = costing(&stage, "blue", &[("max_failed_requests", number(5.0))]);
    let network = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/net/web/1/2";
    config.set("routes", Value::List(vec![Value::object([("listener_arn", Value::from(network))])]));
    let mut diagnostics = Diagnostics::new();
    crate::resource::switch::budgets::validate(&config, &mut diagnostics);
    assert!(told(&diagnostics).starts_with("A Network Load Balancer has no failed requests"), "{}", told(&diagnostics));
}
