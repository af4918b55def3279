//! Several target groups per color, which move as one: a website and its API, each on a load balancer of its own.

use super::rollouts::{bury, careful, told};
use super::{BLUE, GREEN, LISTENER, Stage, config, own_rule, world};
use crate::rollout::metrics::Sample;
use crate::rollout::{Forward, Observed, Terminal, World};
use crate::run::migration::in_memory::Server;
use crate::run::rollout::in_memory::{Fake, Fault};
use crate::run::stack::in_memory::Cloud;
use crate::tf_provider::{Diagnostics, Number, Resource as _, Stored, Value};

const INNER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/inner/3/4";
const BLUE_API: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue-api/2";
const GREEN_API: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/green-api/2";

fn led(arn: &str, blue: (&str, u32), green: (&str, u32)) -> Observed {
    let groups = vec![(blue.0.to_owned(), blue.1), (green.0.to_owned(), green.1)];
    let terminal = Terminal::Forward(Forward { groups, stickiness: None });
    Observed::leading(arn.to_owned(), terminal)
}

/// Blue has all traffic of both.
fn both() -> World {
    let mut world = world(100, 0);
    world.routes.insert(INNER.to_owned(), led(INNER, (BLUE_API, 100), (GREEN_API, 0)));
    world
}

fn stage(world: World) -> Stage {
    let fake = Fake::new(world, &[BLUE, GREEN, BLUE_API, GREEN_API]);
    let stage = super::stage(super::world(100, 0));
    stage.switch.context.set(&fake, &Cloud::new(fake.clone()), &Server::new());
    Stage { fake, switch: stage.switch }
}

fn of_api(mut route: Value) -> Value {
    route.set("target_group", Value::from("api"));
    route
}

/// The same switch with the API's target groups, and its listener.
fn with_api(mut config: Value) -> Value {
    let color = |main: &str, api: &str| {
        let named = Value::object([("api", Value::from(api))]);
        Value::object([("target_group_arn", Value::from(main)), ("target_groups", named)])
    };
    let colors = [("blue", color(BLUE, BLUE_API)), ("green", color(GREEN, GREEN_API))];
    config.set("environments", Value::object(colors));
    let listener = |arn: &str| Value::object([("listener_arn", Value::from(arn))]);
    config.set("routes", Value::List(vec![listener(LISTENER), of_api(listener(INNER))]));
    config
}

async fn on_blue() -> (Stage, Stored) {
    let stage = stage(both());
    let (stored, diagnostics) = stage.apply(&with_api(config(&stage.switch, Value::from("blue"))), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    stage.fake.heal();
    stage.fake.forget();
    (stage, stored)
}

fn shares(stage: &Stage, green: bool) -> [f64; 2] {
    let world = stage.fake.world();
    let groups = if green { [GREEN, GREEN_API] } else { [BLUE, BLUE_API] };
    [world.routes[LISTENER].terminal.share(groups[0]), world.routes[INNER].terminal.share(groups[1])]
}

#[tokio::test(start_paused = true)]
async fn they_move_together_each_to_its_own() {
    let (stage, stored) = on_blue().await;
    let config = with_api(careful(&stage, "green"));
    let (planned, _) = stage.plan(&config, Some(&stored)).await;
    expect_test::expect![[r#"
        check that green has at least 1 healthy target and 100 % of the live color's
        check that green (api) has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 100 %, green 0 % → blue 90 %, green 10 %
        set listener inner/4: blue (api) 100 %, green (api) 0 % → blue (api) 90 %, green (api) 10 %
        watch green at 10 % for 2m once the load balancer had 10s to settle: green answers GET http://green.test/
        check that green has at least 1 healthy target and 100 % of the live color's
        check that green (api) has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 90 %, green 10 % → blue 50 %, green 50 %
        set listener inner/4: blue (api) 90 %, green (api) 10 % → blue (api) 50 %, green (api) 50 %
        watch green at 50 % for 2m once the load balancer had 10s to settle: green answers GET http://green.test/
        check that green has at least 1 healthy target and 100 % of the live color's
        check that green (api) has at least 1 healthy target and 100 % of the live color's
        set listener web/2: blue 50 %, green 50 % → blue 0 %, green 100 %
        set listener inner/4: blue (api) 50 %, green (api) 50 % → blue (api) 0 %, green (api) 100 %
        watch green at 100 % for 1m once the load balancer had 10s to settle: green answers GET http://green.test/
        write /app/live: blue → green"#]]
    .assert_eq(&planned.state.unwrap().get("runbook").strings().join("\n"));
    let (stored, diagnostics) = stage.apply(&config, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(shares(&stage, true), [100.0, 100.0]);
    let read = stage.read(&stored).await;
    let (planned, _) = stage.plan(&config, Some(&read)).await;
    assert_eq!(planned.state, read.state, "a plan right after the apply");
    let state = read.state.unwrap();
    assert_eq!((state.get("live"), state.get("weights").get("green").as_i64()), (&Value::from("green"), Some(100)));
}

#[tokio::test(start_paused = true)]
async fn none_moves_where_one_is_ill() {
    let (stage, stored) = on_blue().await;
    stage.fake.set_health(GREEN_API, &["unhealthy"]);
    let (_, diagnostics) = stage.apply(&with_api(careful(&stage, "green")), Some(&stored)).await;
    let told = told(&diagnostics);
    assert!(told.contains("green (api) has 0 healthy of 1 registered targets"), "{told}");
    assert_eq!(stage.fake.moves().len(), 0);
    assert_eq!(shares(&stage, false), [100.0, 100.0]);
}

/// What breaks in one takes both back, also where one look or one call is missing.
#[tokio::test(start_paused = true)]
async fn what_breaks_in_one_takes_both_back() {
    for fault in [None, Some(Fault::LostAnswer), Some(Fault::Refused)] {
        let (stage, stored) = on_blue().await;
        let config = with_api(careful(&stage, "green"));
        let fake = stage.fake.clone();
        let breaks = async {
            tokio::time::sleep(std::time::Duration::from_secs(65)).await;
            // Between the first step and the second one.
            fake.set_health(GREEN_API, &["unhealthy"]);
        };
        if let Some(fault) = fault {
            stage.fake.fault(1, fault);
        }
        let ((stored, diagnostics), ()) = futures::join!(stage.apply(&config, Some(&stored)), breaks);
        assert!(diagnostics.has_errors());
        assert_eq!(shares(&stage, false), [100.0, 100.0], "{}", told(&diagnostics));
        assert_eq!(stored.state.unwrap().get("last_rollout").get("status"), &Value::from("rolled_back"));
    }
}

/// A rollout that died between the two is gone on with, or taken back, by what the lock says of both.
#[tokio::test(start_paused = true)]
async fn killed_between_them_the_next_one_goes_on_or_back() {
    for (then, green) in [("green", true), ("blue", false)] {
        for call in 0..8 {
            let (stage, stored) = on_blue().await;
            stage.fake.fault(call, Fault::DiesAfter);
            let config = with_api(careful(&stage, "green"));
            tokio::select! {
                _ = stage.apply(&config, Some(&stored)) => {}
                () = stage.fake.died() => {}
            }
            bury(&stage);
            stage.fake.heal();
            let stage = stage.restarted();
            let read = stage.read(&stored).await;
            let (_, diagnostics) = stage.apply(&with_api(careful(&stage, then)), Some(&read)).await;
            assert!(!diagnostics.has_errors(), "call {call}: {}", told(&diagnostics));
            assert_eq!(shares(&stage, green), [100.0, 100.0], "call {call}");
            assert_eq!(stage.fake.world().record.as_deref(), Some(then));
        }
    }
}

/// A metric is measured for each, or for the one that is named.
#[tokio::test(start_paused = true)]
async fn each_is_measured_by_itself() {
    for (named, ill, fails) in [
        (None, "targetgroup/green-api/2", true),
        (None, "targetgroup/green/1", true),
        (Some("api"), "targetgroup/green-api/2", true),
        (Some("api"), "targetgroup/green/1", false),
    ] {
        let (stage, stored) = on_blue().await;
        for group in ["targetgroup/green/1", "targetgroup/green-api/2"] {
            let rate = if group == ill { 0.5 } else { 0.0 };
            let sample = Sample { points: vec![rate], value: Some(rate), requests: 1000.0, ..Sample::default() };
            stage.fake.set_sample(group, sample);
        }
        let mut metric =
            Value::object([("metric", Value::from("error_rate")), ("max", Value::Number(Number::from_f64(0.01)))]);
        metric.set("target_group", Value::from(named));
        let mut config = with_api(careful(&stage, "green"));
        let verification = [("duration", Value::from("5m")), ("metrics", Value::List(vec![metric]))];
        config.set("verification", Value::object(verification));
        let (_, diagnostics) = stage.apply(&config, Some(&stored)).await;
        let told = told(&diagnostics);
        assert_eq!(diagnostics.has_errors(), fails, "{named:?} {ill}: {told}");
        let who = if ill.contains("api") { "error_rate of green (api)" } else { "error_rate of green is" };
        assert_eq!(told.contains(who), fails, "{told}");
    }
}

/// Behind a rule that is still to be made a color's API is known before anybody is led there, on its own load balancer.
#[tokio::test(start_paused = true)]
async fn a_group_that_no_route_has_is_checked_first() {
    for (healthy, active) in [(true, Some("blue")), (false, Some("blue")), (true, None), (false, None)] {
        let stage = stage(world(100, 0));
        stage.fake.meddle(|world| world.record = Some("blue".to_owned()));
        if !healthy {
            stage.fake.set_health(BLUE_API, &["unhealthy"]);
        }
        let mut config = with_api(config(&stage.switch, Value::from(active)));
        let mut rule = of_api(own_rule(10, "/api/*"));
        rule.set("listener_arn", Value::from(INNER));
        let listener = config.get("routes").as_list().unwrap()[0].clone();
        config.set("routes", Value::List(vec![listener, rule]));
        let (_, diagnostics) = stage.apply(&config, None).await;
        let told = told(&diagnostics);
        assert_eq!(diagnostics.has_errors(), !healthy, "{active:?}: {told}");
        let world = stage.fake.world();
        let made = world.routes.get(&format!("{INNER}#10")).map(|seen| seen.terminal.share(BLUE_API));
        assert_eq!(made, healthy.then_some(100.0), "{told}");
        assert_eq!(world.routes.len(), if healthy { 2 } else { 1 }, "{:?}", world.routes.keys());
        let had_users = stage.fake.history().iter().any(|world| world.routes.contains_key(&format!("{INNER}#10")));
        assert_eq!(had_users, healthy, "{told}");
    }
}

#[test]
fn what_can_t_be_is_told_at_validate() {
    let stage = stage(both());
    let good = with_api(config(&stage.switch, Value::from("green")));
    let says = |config: &Value| {
        let mut diagnostics = Diagnostics::new();
        stage.switch.validate(config, &mut diagnostics);
        let one =
            |one: &crate::tf_provider::Diagnostic| format!("{}: {}", one.path.clone().unwrap_or_default(), one.detail);
        diagnostics.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(says(&good), "");
    let with = |change: &dyn Fn(&mut Value, &mut Vec<Value>)| {
        let mut config = good.clone();
        let mut routes = config.get("routes").as_list().unwrap().to_vec();
        let mut environments = config.get("environments").clone();
        change(&mut environments, &mut routes);
        config.set("environments", environments);
        config.set("routes", Value::List(routes));
        says(&config)
    };
    let color = |named: Value| Value::object([("target_group_arn", Value::from(GREEN)), ("target_groups", named)]);
    let named = |name: &str, arn: &str| Value::object([(name, Value::from(arn))]);
    let told = [
        with(&|environments, _| environments.set("green", color(Value::Null))),
        with(&|environments, _| environments.set("green", color(Value::object([("api", Value::Null)])))),
        with(&|environments, _| environments.set("green", color(named("api", GREEN)))),
        with(&|environments, _| environments.set("green", color(named("api", "web")))),
        with(&|environments, _| environments.set("green", color(named("A/b", GREEN_API)))),
        with(&|_, routes| routes[1].set("target_group", Value::Null)),
        with(&|_, routes| routes[1].set("target_group", Value::from("grpc"))),
    ];
    expect_test::expect![[r#"
        routes[1].target_group: routes[1].target_group is "api", but green has no target group of that name in target_groups. Each color needs one, so that all routes move together.
        ---
        routes[1].target_group: routes[1].target_group is "api", but green has no target group of that name in target_groups. Each color needs one, so that all routes move together.
        ---
        environments["green"].target_groups["api"]: environments["green"].target_groups["api"]: green has the same target group. Each color needs its own, and each name another one.
        ---
        environments["green"].target_groups["api"]: environments["green"].target_groups["api"]: "web" is not the ARN of a target group: one looks like arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web-blue/73e2d6bc24d8a067.
        ---
        environments["green"].target_groups["A/b"]: environments["green"].target_groups["A/b"]: "A/b" must be lower-case letters, digits and dashes, a letter first and no dash last, at most 32.
        routes[1].target_group: routes[1].target_group is "api", but green has no target group of that name in target_groups. Each color needs one, so that all routes move together.
        ---
        routes[1]: routes[1]: this route is on the load balancer app/inner/3, but routes[0] is on app/web/1. AWS lets a target group serve one load balancer only: name other ones in target_groups of the environments and in target_group of this route.
        ---
        routes[1].target_group: routes[1].target_group is "grpc", but blue and green have no target group of that name in target_groups. Each color needs one, so that all routes move together."#]]
    .assert_eq(&told.join("\n---\n"));
    // What isn't known yet is no mistake.
    assert_eq!(with(&|environments, _| environments.set("green", color(Value::UNKNOWN))), "");
    assert_eq!(with(&|environments, _| environments.set("green", Value::UNKNOWN)), "");
    assert_eq!(with(&|_, routes| routes[1].set("target_group", Value::UNKNOWN)), "");
}

/// Behind a rule that is still to be made, with steps for the rest.
fn with_new_rule(mut config: Value) -> Value {
    let mut rule = of_api(own_rule(10, "/api/*"));
    rule.set("listener_arn", Value::from(INNER));
    let listener = config.get("routes").as_list().unwrap()[0].clone();
    config.set("routes", Value::List(vec![rule, listener]));
    config
}

/// What can't take the steps gets everything in the last one: its targets are counted right before that.
#[tokio::test(start_paused = true)]
async fn what_takes_no_steps_is_counted_again_before_it_gets_everything() {
    let stage = stage(world(100, 0));
    let (stored, _) = stage.apply(&config(&stage.switch, Value::from("blue")), None).await;
    let stage = stage.restarted();
    let config = with_new_rule(with_api(careful(&stage, "green")));
    let fake = stage.fake.clone();
    let breaks = async {
        tokio::time::sleep(std::time::Duration::from_secs(65)).await;
        fake.set_health(GREEN_API, &["unhealthy"]);
    };
    let ((_, diagnostics), ()) = futures::join!(stage.apply(&config, Some(&stored)), breaks);
    let told = told(&diagnostics);
    assert!(told.contains("green (api) has 0 healthy of 1 registered targets"), "{told}");
    let history = stage.fake.history();
    assert!(history.iter().all(|world| !world.routes.contains_key(&format!("{INNER}#10"))), "{told}");
    assert_eq!(stage.fake.world().routes[LISTENER].terminal.share(BLUE), 100.0, "{told}");
}

/// A color that moves from one of its target groups to another one does so in steps, and is gone on with when it was killed.
#[tokio::test(start_paused = true)]
async fn a_live_color_moves_to_another_target_group_in_steps() {
    for call in [None, Some(0), Some(1), Some(2)] {
        let stage = stage(world(100, 0));
        let (stored, _) = stage.apply(&config(&stage.switch, Value::from("blue")), None).await;
        stage.fake.heal();
        let mut config = with_api(careful(&stage, "blue"));
        let listener = config.get("routes").as_list().unwrap()[0].clone();
        config.set("routes", Value::List(vec![of_api(listener)]));
        let (planned, _) = stage.plan(&config, Some(&stored)).await;
        let runbook = planned.state.unwrap().get("runbook").strings().join("\n");
        assert!(runbook.contains("→ blue (api) 10 %, green (api) 0 %, blue 90 %"), "{runbook}");
        if let Some(call) = call {
            stage.fake.fault(call, Fault::DiesAfter);
        }
        tokio::select! {
            _ = stage.apply(&config, Some(&stored)) => {}
            () = stage.fake.died() => {}
        }
        let stage = if call.is_some() {
            bury(&stage);
            stage.fake.heal();
            stage.restarted()
        } else {
            stage
        };
        let (stored, diagnostics) = stage.apply(&config, Some(&stage.read(&stored).await)).await;
        let told = told(&diagnostics);
        assert!(!diagnostics.has_errors() && !told.contains("somebody has moved"), "{call:?}: {told}");
        assert_eq!(stage.fake.world().routes[LISTENER].terminal.share(BLUE_API), 100.0);
        let state = stored.state.unwrap();
        assert_eq!((state.get("live"), state.get("weights").get("blue").as_i64()), (&Value::from("blue"), Some(100)));
        if call == Some(1) {
            let steps = state.get("last_rollout").get("steps").strings().join("\n");
            assert!(steps.contains("watch blue at 50 %"), "it is gone on with: {steps}");
        }
    }
}

/// What is about a color as a whole is measured by what serves by any route, whichever route comes first.
#[tokio::test(start_paused = true)]
async fn a_session_is_asked_whichever_route_comes_first() {
    let stage = stage(world(100, 0));
    let (stored, _) = stage.apply(&config(&stage.switch, Value::from("blue")), None).await;
    let stage = stage.restarted();
    let mut config = with_new_rule(with_api(config(&stage.switch, Value::from("green"))));
    let request = |path: &str| Value::object([("url", Value::from(format!("http://{{color}}.test{path}").as_str()))]);
    let session = Value::object([("login", request("/login")), ("check", request("/whoami"))]);
    config.set("validation", Value::object([("session", session)]));
    drop(stage.apply(&config, Some(&stored)).await);
    assert!(stage.fake.asked().iter().any(|asked| asked.url.contains("blue.test/login")), "{:?}", stage.fake.asked());
}

/// Who follows leads a new rule to the target groups that it names, whatever leads elsewhere by that name.
#[tokio::test(start_paused = true)]
async fn a_follower_s_new_rule_leads_to_what_it_names() {
    let mut before = both();
    // Somebody has led the API's listener to the website.
    before.routes.insert(INNER.to_owned(), led(INNER, (BLUE, 100), (GREEN, 0)));
    let stage = stage(before);
    let mut config = with_api(config(&stage.switch, Value::Null));
    let mut rule = of_api(own_rule(10, "/api/v2/*"));
    rule.set("listener_arn", Value::from(INNER));
    let mut routes = config.get("routes").as_list().unwrap().to_vec();
    routes.push(rule);
    config.set("routes", Value::List(routes));
    let (_, diagnostics) = stage.apply(&config, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(stage.fake.world().routes[&format!("{INNER}#10")].terminal.share(BLUE_API), 100.0);
}

/// What is restored is the target group that was there, whatever it is called by then; one that was made anew is found by its name.
#[tokio::test(start_paused = true)]
async fn a_restoration_leads_to_the_group_that_was_there() {
    let stage = stage(world(100, 0));
    let mut first = config(&stage.switch, Value::from("green"));
    first.set("on_destroy", Value::from("restore"));
    let (stored, diagnostics) = stage.apply(&first, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    // The website's groups have a name from now on, and the API's have none.
    let color = |main: &str, web: &str| {
        let named = Value::object([("web", Value::from(web))]);
        Value::object([("target_group_arn", Value::from(main)), ("target_groups", named)])
    };
    let mut second = first.clone();
    let colors = [("blue", color(BLUE_API, BLUE)), ("green", color(GREEN_API, GREEN))];
    second.set("environments", Value::object(colors));
    let mut listener = first.get("routes").as_list().unwrap()[0].clone();
    listener.set("target_group", Value::from("web"));
    second.set("routes", Value::List(vec![listener]));
    let moves = stage.fake.moves().len();
    let (stored, diagnostics) = stage.apply(&second, Some(&stage.read(&stored).await)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(stage.fake.moves().len(), moves, "the same target groups by other names");
    let (gone, diagnostics) = stage.destroy(&stage.read(&stored).await).await;
    assert!(gone.state.is_none(), "{}", told(&diagnostics));
    assert_eq!(stage.fake.world().routes[LISTENER].terminal.share(BLUE), 100.0);
}

/// Without a record the lock stays the same when further load balancers come.
#[tokio::test(start_paused = true)]
async fn a_further_load_balancer_leaves_the_lock_where_it_is() {
    let stage = stage(both());
    let mut one = config(&stage.switch, Value::from("blue"));
    one.set("parameter", Value::Null);
    let mut more = with_api(one.clone());
    more.set("parameter", Value::Null);
    let lock =
        |config: &Value| crate::resource::switch::model::lock(&crate::resource::switch::model::parse(config).unwrap());
    assert_eq!(lock(&one), lock(&more));
}

/// A move within a color that was killed is this switch's own to take back.
#[tokio::test(start_paused = true)]
async fn a_move_within_a_color_is_taken_back() {
    let stage = stage(world(100, 0));
    let (stored, _) = stage.apply(&config(&stage.switch, Value::from("blue")), None).await;
    stage.fake.heal();
    let mut config = with_api(careful(&stage, "blue"));
    let listener = config.get("routes").as_list().unwrap()[0].clone();
    config.set("routes", Value::List(vec![of_api(listener.clone())]));
    // The first call joins the color's other target group at weight 0.
    stage.fake.fault(1, Fault::DiesAfter);
    tokio::select! {
        _ = stage.apply(&config, Some(&stored)) => {}
        () = stage.fake.died() => {}
    }
    assert_eq!(stage.fake.world().routes[LISTENER].terminal.share(BLUE_API), 10.0);
    bury(&stage);
    stage.fake.heal();
    let stage = stage.restarted();
    config.set("routes", Value::List(vec![listener]));
    let read = stage.read(&stored).await;
    let (_, diagnostics) = stage.plan(&config, Some(&read)).await;
    assert!(!told(&diagnostics).contains("somebody has moved"), "{}", told(&diagnostics));
    let (_, diagnostics) = stage.apply(&config, Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(stage.fake.world().routes[LISTENER].terminal.share(BLUE), 100.0);
}
