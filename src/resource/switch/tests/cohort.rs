//! A cohort that gets the new color before the first step.

use std::collections::BTreeMap;

use super::rollouts::{bury, careful, told, with_strategy};
use super::{BLUE, GREEN, LISTENER, Stage, own_rule, stage, world};
use crate::rollout::{Conditions, Forward, Observed, Terminal};
use crate::run::rollout::in_memory::Fault;
use crate::tf_provider::{Diagnostics, Stored, Value};

/// Testers carry a header; they come first for ten minutes.
pub(super) fn testers() -> Value {
    let headers = Value::object([("x-tester", Value::List(vec![Value::from("1")]))]);
    Value::object([("conditions", Value::object([("http_headers", headers)])), ("hold", Value::from("10m"))])
}

pub(super) fn with_cohort(stage: &Stage, active: &str, cohort: Value) -> Value {
    with_strategy(careful(stage, active), "cohort", cohort)
}

fn by_rules(mut config: Value, rules: &[(i64, &str)]) -> Value {
    config.set("routes", Value::List(rules.iter().map(|(priority, path)| own_rule(*priority, path)).collect()));
    config
}

async fn on_blue() -> (Stage, Stored) {
    let stage = stage(world(100, 0));
    let (stored, diagnostics) = stage.apply(&with_cohort(&stage, "blue", testers()), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    stage.fake.heal();
    stage.fake.forget();
    (stage, stored)
}

/// The rules that are there, by their priorities.
fn rules(stage: &Stage) -> Vec<(i32, Observed)> {
    let world = stage.fake.world();
    let rules = world.routes.into_iter();
    rules.filter_map(|(key, seen)| Some((key.rsplit_once('#')?.1.parse().ok()?, seen))).collect()
}

/// A rule that somebody else made.
fn insert(stage: &Stage, priority: i32, path: &str, groups: &[&str]) {
    let key = format!("{LISTENER}#{priority}");
    let forward = Forward { groups: groups.iter().map(|group| ((*group).to_owned(), 1)).collect(), stickiness: None };
    let conditions = Conditions { path_patterns: vec![path.to_owned()], ..Conditions::default() };
    let observed =
        Observed { conditions: Some(conditions), ..Observed::leading(key.clone(), Terminal::Forward(forward)) };
    stage.fake.meddle(|world| drop(world.routes.insert(key, observed)));
}

async fn planned(stage: &Stage, config: &Value, prior: Option<&Stored>) -> (Vec<String>, Diagnostics) {
    let (planned, diagnostics) = stage.plan(config, prior).await;
    (planned.state.unwrap().get("runbook").strings(), diagnostics)
}

#[tokio::test(start_paused = true)]
async fn it_comes_before_everybody_else_and_leaves_nothing() {
    let (stage, stored) = on_blue().await;
    let config = with_cohort(&stage, "green", testers());
    let (steps, _) = planned(&stage, &config, Some(&stored)).await;
    expect_test::expect![[r#"
        check that green has at least 1 healthy target and 100 % of the live color's
        create rule 1 of listener web/2: green 100 %, for the cohort of listener web/2
        watch green with its cohort for 10m once the load balancer had 10s to settle: green answers GET http://green.test/
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 100 %, green 0 % → blue 90 %, green 10 %
        watch green at 10 % for 2m once the load balancer had 10s to settle: green answers GET http://green.test/
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 90 %, green 10 % → blue 50 %, green 50 %
        watch green at 50 % for 2m once the load balancer had 10s to settle: green answers GET http://green.test/
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 50 %, green 50 % → blue 0 %, green 100 %
        watch green at 100 % for 1m once the load balancer had 10s to settle: green answers GET http://green.test/
        delete rule 1 of listener web/2
        write /app/live: blue → green"#]].assert_eq(&steps.join("\n"));
    let began = tokio::time::Instant::now();
    let (stored, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    // Ten minutes for the cohort, five for the rest, and ten seconds to settle for each.
    assert_eq!(began.elapsed().as_secs(), 15 * 60 + 4 * 10);
    assert_eq!(rules(&stage).len(), 0);
    assert_eq!(stage.fake.world().routes[LISTENER].terminal.share(GREEN), 100.0);
    let read = stage.read(&stored).await;
    let (planned, _) = stage.plan(&config, Some(&read)).await;
    assert_eq!(planned.state, read.state, "a plan right after the apply");
}

#[tokio::test(start_paused = true)]
async fn what_fails_with_it_meets_nobody_else() {
    let (stage, stored) = on_blue().await;
    stage.fake.set_status(500);
    let (_, diagnostics) = stage.apply(&with_cohort(&stage, "green", testers()), Some(&stored)).await;
    let detail = told(&diagnostics);
    let lines: Vec<&str> = detail.lines().filter(|line| !line.contains("verification.http[0] at")).collect();
    expect_test::expect![[r#"
        Failed to switch app to green
        Verification of green with its cohort failed:
          GET http://green.test/ answered with status 500 instead of 200; the body begins "hello" (1 try)

        Rolled back: all routes are as before.

        Users of the cohort reached green, and nobody else.

        Traffic now:
          listener web/2: blue 100 %, green 0 %
        The record /app/live says blue.

        Next: correct the cause and run `terraform apply` again; the plan will show the same change."#]]
    .assert_eq(&lines.join("\n"));
    assert_eq!(rules(&stage).len(), 0);
    let led = stage.fake.history().iter().map(|world| world.routes[LISTENER].terminal.share(GREEN)).fold(0.0, f64::max);
    assert_eq!(led, 0.0);
}

/// Where the rules go: directly before their routes, whatever else the listener has.
#[tokio::test(start_paused = true)]
async fn it_takes_only_what_its_routes_would_have() {
    let stage = stage(world(100, 0));
    // Others have 7, 20 and the last but one.
    for (priority, path) in [(7, "/other/*"), (20, "/more/*"), (49_000, "/last/*")] {
        insert(&stage, priority, path, &[BLUE]);
    }
    let routes = [(10, "/api/*"), (11, "/api2/*"), (21, "/x/*")];
    let (stored, _) = stage.apply(&by_rules(with_cohort(&stage, "blue", testers()), &routes), None).await;
    let green = by_rules(with_cohort(&stage, "green", testers()), &routes);
    // Rule 21 comes right after another's: nothing fits between.
    let (_, diagnostics) = planned(&stage, &green, Some(&stored)).await;
    let told = told(&diagnostics);
    assert!(told.contains("rule 21 of listener web/2 can't have a rule before it for the cohort: no priority is free between it and the rule before it, which has 20"), "{told}");
    let mut both = by_rules(green, &routes[..2]);
    let mut list = both.get("routes").as_list().unwrap().to_vec();
    list.push(Value::object([("listener_arn", Value::from(LISTENER))]));
    both.set("routes", Value::List(list));
    let (steps, diagnostics) = planned(&stage, &both, None).await;
    assert!(!diagnostics.has_errors(), "{steps:?}");
    let (_, diagnostics) = stage.apply(&both, None).await;
    assert!(!diagnostics.has_errors(), "{}", super::rollouts::told(&diagnostics));
    let made: Vec<String> = stage.fake.calls().into_iter().filter(|words| words.starts_with("create")).collect();
    let place = |priority: i32| made.iter().any(|words| words.ends_with(&format!("#{priority}")));
    assert!(place(8) && place(9) && place(49_001), "{made:?}");
    let left: std::collections::BTreeSet<i32> = rules(&stage).iter().map(|(priority, _)| *priority).collect();
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [7, 10, 11, 20, 21, 49_000]);
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_its_rule_does_not_stay() {
    for active in ["green", "blue"] {
        for call in 0..6 {
            for fault in [Fault::Refused, Fault::LostAnswer, Fault::Late(40), Fault::DiesBefore, Fault::DiesAfter] {
                let (stage, stored) = on_blue().await;
                stage.fake.fault(call, fault);
                let green = with_cohort(&stage, "green", testers());
                let stored = tokio::select! {
                    (stored, _) = stage.apply(&green, Some(&stored)) => stored,
                    () = stage.fake.died() => stored,
                };
                stage.fake.heal();
                bury(&stage);
                let stage = stage.restarted();
                // What failed or was killed is applied again, or taken back.
                let config = with_cohort(&stage, active, testers());
                let mut prior = stored;
                for attempt in 0..3 {
                    prior = stage.read(&prior).await;
                    let (planned, _) = stage.plan(&config, Some(&prior)).await;
                    if planned.state == prior.state {
                        break;
                    }
                    let (stored, diagnostics) = stage.apply(&config, Some(&prior)).await;
                    // A deletion of the first run that comes late looks like somebody else's.
                    let is_late =
                        attempt == 0 && matches!(fault, Fault::Late(_)) && told(&diagnostics).contains("is gone");
                    assert!(!diagnostics.has_errors() || is_late, "{active} {call} {fault:?}: {}", told(&diagnostics));
                    prior = stored;
                }
                let world = stage.fake.world();
                assert_eq!(rules(&stage).len(), 0, "{active} call {call} {fault:?}: {world:?}");
                let group = if active == "green" { GREEN } else { BLUE };
                assert_eq!(world.routes[LISTENER].terminal.share(group), 100.0, "{active} call {call} {fault:?}");
            }
        }
    }
}

/// A killed rollout's rule is found by what the rollout noted, also where the cohort is another one by now, or none.
#[tokio::test(start_paused = true)]
async fn the_rule_of_another_cohort_is_found() {
    let query = Value::object([("beta", Value::from("1"))]);
    let conditions = Value::object([("query_strings", query)]);
    let others = Value::object([("conditions", conditions), ("hold", Value::from("1m"))]);
    for (active, cohort) in [("green", Some(others.clone())), ("green", None), ("blue", Some(others))] {
        let (stage, stored) = killed(on_blue().await).await;
        let config = match cohort {
            Some(cohort) => with_cohort(&stage, active, cohort),
            None => careful(&stage, active),
        };
        let read = stage.read(&stored).await;
        let (_, diagnostics) = stage.apply(&config, Some(&read)).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
        assert_eq!(rules(&stage).len(), 0, "{active}: {:?}", stage.fake.world());
    }
}

/// A person's rule, or a preview, for the same requests is not the cohort's.
#[tokio::test(start_paused = true)]
async fn what_only_looks_like_it_stays() {
    let (stage, stored) = on_blue().await;
    insert(&stage, 30, "/", &[BLUE]);
    let key = format!("{LISTENER}#30");
    let headers = BTreeMap::from([("x-tester".to_owned(), vec!["1".to_owned()])]);
    let conditions = Conditions { http_headers: headers, ..Conditions::default() };
    stage.fake.meddle(|world| world.routes.get_mut(&key).unwrap().conditions = Some(conditions));
    let green = with_cohort(&stage, "green", testers());
    let (stored, diagnostics) = stage.apply(&green, Some(&stage.read(&stored).await)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let left = rules(&stage);
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].0, left[0].1.terminal.share(BLUE)), (30, 100.0));
    let mut blue = with_cohort(&stage, "blue", testers());
    let header = Value::object([("x-tester", Value::List(vec![Value::from("1")]))]);
    let preview = Value::object([
        ("listener_arn", Value::from(LISTENER)),
        ("priority", Value::from(40_i64)),
        ("conditions", Value::object([("http_headers", header)])),
    ]);
    blue.set("preview_routes", Value::List(vec![preview]));
    let (_, diagnostics) = stage.apply(&blue, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let left: BTreeMap<i32, f64> =
        rules(&stage).iter().map(|(priority, seen)| (*priority, seen.terminal.share(GREEN))).collect();
    assert_eq!(left, BTreeMap::from([(30, 0.0), (40, 100.0)]));
}

/// Kills a rollout to green at the first call, after its effect: its cohort is led, and no state tells of it.
async fn killed((stage, stored): (Stage, Stored)) -> (Stage, Stored) {
    stage.fake.fault(0, Fault::DiesAfter);
    let config = with_cohort(&stage, "green", testers());
    tokio::select! {
        _ = stage.apply(&config, Some(&stored)) => panic!("it lives"),
        () = stage.fake.died() => {}
    }
    stage.fake.heal();
    bury(&stage);
    assert_eq!(rules(&stage).len(), 1);
    (stage.restarted(), stored)
}

/// What a killed rollout left is this one's to take back: where this one fails, too, nobody is led to what failed.
#[tokio::test(start_paused = true)]
async fn a_second_failure_leaves_nobody_behind() {
    for is_ill in [false, true] {
        let (stage, stored) = killed(on_blue().await).await;
        if is_ill {
            stage.fake.set_health(GREEN, &["unhealthy"]);
        } else {
            stage.fake.set_status(500);
        }
        let read = stage.read(&stored).await;
        let (_, diagnostics) = stage.apply(&with_cohort(&stage, "green", testers()), Some(&read)).await;
        let words = told(&diagnostics);
        assert!(diagnostics.has_errors() && words.contains("Rolled back: all routes are as before."), "{words}");
        assert_eq!(rules(&stage).len(), 0, "{words}");
    }
}

/// Where the very first use of a cohort was killed and taken back, no state ever knew of it.
#[tokio::test(start_paused = true)]
async fn a_first_use_that_was_killed_and_reverted_is_told() {
    let before = super::rollouts::on_blue().await;
    let (stage, stored) = killed(before).await;
    let blue = super::config(&stage.switch, Value::from("blue"));
    let read = stage.read(&stored).await;
    let (steps, _) = planned(&stage, &blue, Some(&read)).await;
    assert_eq!(steps, ["delete rule 1 of listener web/2"]);
    let (stored, diagnostics) = stage.apply(&blue, Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(rules(&stage).len(), 0);
    let read = stage.read(&stored).await;
    let (planned, _) = stage.plan(&blue, Some(&read)).await;
    assert_eq!(planned.state, read.state, "a plan right after the apply");
}

/// A deletion that is refused is shown by the next plan, and never undone.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_deleted_is_not_forgotten() {
    let (stage, stored) = killed(on_blue().await).await;
    let blue = with_cohort(&stage, "blue", testers());
    let read = stage.read(&stored).await;
    stage.fake.fault(0, Fault::Refused);
    let (stored, diagnostics) = stage.apply(&blue, Some(&read)).await;
    assert!(told(&diagnostics).contains("delete rule 1"), "{}", told(&diagnostics));
    stage.fake.heal();
    let read = stage.read(&stored).await;
    let (steps, _) = planned(&stage, &blue, Some(&read)).await;
    assert_eq!(steps, ["delete rule 1 of listener web/2"]);
    // Also where that state is lost.
    let stage = stage.restarted();
    let (_, diagnostics) = stage.apply(&super::config(&stage.switch, Value::from("blue")), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(rules(&stage).len(), 0);
}

/// A destroy finds it, also where the state never knew of a cohort, and where its listener is no route any more.
#[tokio::test(start_paused = true)]
async fn a_destroy_takes_it_away() {
    for is_known in [true, false] {
        let before = if is_known { on_blue().await } else { super::rollouts::on_blue().await };
        let (stage, stored) = killed(before).await;
        let read = stage.read(&stored).await;
        let (_, diagnostics) = stage.destroy(&read).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
        assert_eq!(rules(&stage).len(), 0);
    }
}

/// A rule on a listener that is no route any more is found, too.
#[tokio::test(start_paused = true)]
async fn a_listener_that_left_is_looked_at() {
    let (stage, stored) = killed(on_blue().await).await;
    let other = LISTENER.replace("web/1/2", "web/1/3");
    let mut seen = stage.fake.world().routes[LISTENER].clone();
    seen.arn.clone_from(&other);
    stage.fake.meddle(|world| drop(world.routes.insert(other.clone(), seen)));
    let mut moved = with_cohort(&stage, "green", testers());
    moved.set("routes", Value::List(vec![Value::object([("listener_arn", Value::from(other))])]));
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.apply(&moved, Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(rules(&stage).len(), 0);
}

/// The way back leads the cohort back, too, and at once.
#[tokio::test(start_paused = true)]
async fn a_hold_keeps_it_and_the_way_back_takes_it() {
    let (stage, stored) = on_blue().await;
    let mut config = with_cohort(&stage, "green", testers());
    config.set("on_failure", Value::from("hold"));
    stage.fake.set_status(500);
    let (held, diagnostics) = stage.apply(&config, Some(&stored)).await;
    let words = told(&diagnostics);
    assert!(
        words.contains("for the cohort: green 100 %") && words.contains("Users of the cohort reached green"),
        "{words}"
    );
    assert_eq!(rules(&stage).len(), 1);
    stage.fake.set_status(200);
    let read = stage.read(&held).await;
    let (steps, _) = planned(&stage, &with_cohort(&stage, "blue", testers()), Some(&read)).await;
    assert!(steps.iter().any(|step| step.starts_with("delete rule")), "{steps:?}");
    let (_, diagnostics) = stage.apply(&with_cohort(&stage, "blue", testers()), Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(rules(&stage).len(), 0);
}

#[test]
fn what_can_t_be_led_is_told_at_validate() {
    let stage = stage(world(100, 0));
    let told_of = |cohort: Value, routes: &[(i64, &str)]| {
        let mut config = with_cohort(&stage, "green", cohort);
        if !routes.is_empty() {
            config = by_rules(config, routes);
        }
        let mut diagnostics = Diagnostics::new();
        crate::resource::switch::validate::validate(&config, &mut diagnostics);
        diagnostics
            .iter()
            .map(|one| format!("{}: {}", one.path.clone().unwrap_or_default(), one.summary))
            .collect::<Vec<_>>()
    };
    assert_eq!(told_of(testers(), &[]), Vec::<String>::new());
    let cohort = |conditions: Value| Value::object([("conditions", conditions), ("hold", Value::from("1m"))]);
    let none = told_of(cohort(Value::object::<&str>([])), &[]);
    assert_eq!(none, ["strategy.cohort.conditions: Conditions are empty"]);
    let texts = |texts: &[&str]| Value::List(texts.iter().map(|text| Value::from(*text)).collect());
    let five = cohort(Value::object([(
        "source_ips",
        texts(&["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"]),
    )]));
    assert_eq!(told_of(five.clone(), &[]), Vec::<String>::new());
    let barred = ["strategy.cohort: The cohort can't be led"];
    assert_eq!(told_of(five, &[(10, "/api/*")]), barred);
    assert_eq!(told_of(testers(), &[(1, "/api/*")]), barred);
    assert_eq!(told_of(cohort(Value::object([("path_patterns", texts(&["/beta/*"]))])), &[(10, "/api/*")]), barred);
    assert_eq!(told_of(cohort(Value::object([("source_ip_address_type", Value::from("ipv6"))])), &[]), barred);
    let host = Value::object([("http_headers", Value::object([("host", texts(&["a"]))]))]);
    let named = told_of(cohort(host), &[]);
    assert_eq!(named, ["strategy.cohort.conditions.http_headers[\"host\"]: Invalid condition"]);
}
