//! What no rollout may do: move traffic that nobody asked to move, say what isn't so, be stuck where there is a way, tell
//! what it was told in confidence. Each test is named after the fault that it keeps out.

use std::time::Duration;

use super::rollouts::{LOCK, bury, careful, on_blue, told};
use super::{BLUE, GREEN, LISTENER, Stage, config, own_rule, stage, world};
use crate::cancel::CancelSource;
use crate::resource::switch::validate::validate;
use crate::rollout::gate::HttpAnswer;
use crate::rollout::{Capacity, Conditions, Forward, LockRecord, Observed, Place, Terminal, lock_record};
use crate::run::rollout::in_memory::Fault;
use crate::run::rollout::lock;
use crate::run::rollout::ports::CommandEnd;
use crate::tf_provider::{Cancel, Diagnostics, Number, Stored, Value};

fn text(value: &str) -> Value {
    Value::from(value)
}

fn number(value: i64) -> Value {
    Value::Number(Number::Int(value))
}

fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::List(items.into_iter().collect())
}

fn listener() -> Value {
    Value::object([("listener_arn", text(LISTENER))])
}

fn steps(weights: &[(i64, &str)]) -> Value {
    let step = |(weight, hold): &(i64, &str)| Value::object([("weight", number(*weight)), ("hold", text(hold))]);
    Value::object([("steps", list(weights.iter().map(step)))])
}

fn http(url: &str) -> Value {
    Value::object([("http", list([Value::object([("url", text(url)), ("retries", number(0))])]))])
}

fn rule(path: &str, blue: u32, green: u32) -> Observed {
    let groups = vec![(BLUE.to_owned(), blue), (GREEN.to_owned(), green)];
    Observed {
        conditions: Some(Conditions { path_patterns: vec![path.to_owned()], ..Conditions::default() }),
        ..Observed::leading(format!("{LISTENER}#10"), Terminal::Forward(Forward { groups, stickiness: None }))
    }
}

fn share(stage: &Stage, key: &str, group: &str) -> f64 {
    stage.fake.world().routes.get(key).map_or(-1.0, |seen| seen.terminal.share(group))
}

#[track_caller]
fn assert_all_on(stage: &Stage, group: &str) {
    for (key, seen) in stage.fake.world().routes {
        assert!((seen.terminal.share(group) - 100.0).abs() < 0.01, "{key}: {seen:?}");
    }
}

#[track_caller]
pub(super) fn ok((stored, diagnostics): (Stored, Diagnostics)) -> Stored {
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    stored
}

async fn runbook(stage: &Stage, config: &Value, stored: &Stored) -> Vec<String> {
    stage.plan(config, Some(stored)).await.0.state.unwrap().get("runbook").strings()
}

/// An apply dies at the call that it was told to die at: its lock stays behind, and a refresh sees what is.
async fn die(stage: &Stage, wish: &Value, stored: &Stored) -> Stored {
    tokio::select! {
        _ = stage.apply(wish, Some(stored)) => panic!("it lives"),
        () = stage.fake.died() => {}
    }
    stage.fake.heal();
    bury(stage);
    stage.read(stored).await
}

/// Nothing is believed that comes by a preview before its nodes had time to follow, on any way to a color.
#[tokio::test(start_paused = true)]
async fn p01_a_preview_is_settled_before_it_is_believed() {
    let (stage, stored) = on_blue().await;
    let mut wish = config(&stage.switch, text("green"));
    wish.set("preview_routes", list([own_rule(11, "/preview/*")]));
    wish.set("validation", http("http://test/preview/"));
    let fake = stage.fake.clone();
    // Until it had its time, a preview shows blue, which is well.
    let start = tokio::time::Instant::now();
    let late = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        fake.set_status(500);
    };
    let ((_, diagnostics), ()) = futures::join!(stage.apply(&wish, Some(&stored)), late);
    let said = told(&diagnostics);
    assert!(said.contains("status 500") && start.elapsed() >= Duration::from_secs(10), "{said}");
    assert_all_on(&stage, BLUE);
    // Also where the preview has been there for long, or so it seems.
    stage.fake.set_status(200);
    wish.set("active", text("blue"));
    let stored = ok(stage.apply(&wish, Some(&stored)).await);
    wish.set("active", text("green"));
    let words = runbook(&stage, &wish, &stage.read(&stored).await).await;
    let settle = words.iter().position(|word| word == "give the preview routes 10s to settle").unwrap();
    let check = words.iter().position(|word| word.contains("answers GET")).unwrap();
    assert!(settle < check, "{words:?}");
}

/// What a preview is asked by is put right before it is asked.
#[tokio::test(start_paused = true)]
async fn p01_a_preview_is_put_right_before_it_is_asked() {
    let stage = stage(world(100, 0));
    let mut wish = config(&stage.switch, text("blue"));
    wish.set("preview_routes", list([own_rule(11, "/preview/*")]));
    wish.set("validation", http("http://test/preview/"));
    let stored = stage.read(&ok(stage.apply(&wish, None).await)).await;
    stage.fake.move_rule(&format!("{LISTENER}#11"), &format!("{LISTENER}#60"));
    wish.set("preview_routes", list([own_rule(11, "/other/*")]));
    wish.set("active", text("green"));
    let words = runbook(&stage, &wish, &stage.read(&stored).await).await;
    let at =
        |part: &str| words.iter().position(|word| word.contains(part)).unwrap_or_else(|| panic!("{part}: {words:?}"));
    assert!(at("from priority 60 to 11") < at("answers GET"), "{words:?}");
    assert!(at("change the conditions") < at("answers GET"), "{words:?}");
    assert!(at("to settle") < at("answers GET"), "{words:?}");
}

/// A plan that shows only another change moves nothing when somebody moved the traffic since.
#[tokio::test(start_paused = true)]
async fn p02_a_saved_plan_moves_only_what_it_told() {
    let (stage, stored) = on_blue().await;
    let green = config(&stage.switch, text("green"));
    let stored = stage.read(&ok(stage.apply(&green, Some(&stored)).await)).await;
    let mut changed = green.clone();
    changed.set("on_interrupt", text("hold"));
    let planned = stage.plan(&changed, Some(&stored)).await;
    stage.fake.meddle(|all| {
        let record = Some("blue".to_owned());
        *all = crate::rollout::World { record, ..world(100, 0) };
    });
    stage.fake.heal();
    let (_, diagnostics) = stage.apply_planned(&changed, Some(&stored), planned, Cancel::never()).await;
    let said = told(&diagnostics);
    assert!(said.contains("The traffic of app was moved since the plan"), "{said}");
    assert!(said.contains("blue 0 %, green 100 % when it was planned, blue 100 %, green 0 % now"), "{said}");
    assert_eq!(stage.fake.calls(), Vec::<String>::new());
    assert_eq!(stage.fake.lock(LOCK), None);
    // One that planned the very move which somebody made already has nothing to do.
    let stored = stage.read(&stored).await;
    let planned = stage.plan(&green, Some(&stored)).await;
    stage.fake.meddle(|all| {
        let record = Some("green".to_owned());
        *all = crate::rollout::World { record, ..world(0, 100) };
    });
    ok(stage.apply_planned(&green, Some(&stored), planned, Cancel::never()).await);
    assert_eq!(stage.fake.calls(), Vec::<String>::new());
}

/// One old look is no other hand either.
#[tokio::test(start_paused = true)]
async fn p02_an_old_look_breaks_no_promise() {
    let (stage, stored) = on_blue().await;
    let green = config(&stage.switch, text("green"));
    let stored = stage.read(&ok(stage.apply(&green, Some(&stored)).await)).await;
    let blue = config(&stage.switch, text("blue"));
    let planned = stage.plan(&blue, Some(&stored)).await;
    // Both looks of one moment: the routes and the record.
    stage.fake.be_stale(4);
    ok(stage.apply_planned(&blue, Some(&stored), planned, Cancel::never()).await);
    assert_all_on(&stage, BLUE);
}

/// What this very apply did to a route is no other hand: an environment that is made anew is taken out of it.
#[tokio::test(start_paused = true)]
async fn p02_a_group_that_is_made_anew_is_no_other_hand() {
    let other = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/2";
    let fixed = Terminal::FixedResponse { status: "503".to_owned(), content_type: None, body: None };
    for (after, refused) in [(fixed, false), (world(0, 100).routes[LISTENER].terminal.clone(), true)] {
        let (stage, stored) = on_blue().await;
        let environment = |arn: &str| Value::object([("target_group_arn", text(arn))]);
        let mut wish = config(&stage.switch, text("blue"));
        wish.set("environments", Value::object([("blue", environment(other)), ("green", environment(GREEN))]));
        let stored = stage.read(&stored).await;
        let planned = stage.plan(&wish, Some(&stored)).await;
        stage.fake.set_health(other, &["healthy", "healthy"]);
        stage.fake.meddle(|all| all.routes.get_mut(LISTENER).unwrap().terminal = after);
        let (_, diagnostics) = stage.apply_planned(&wish, Some(&stored), planned, Cancel::never()).await;
        assert_eq!(diagnostics.has_errors(), refused, "{}", told(&diagnostics));
    }
}

#[tokio::test(start_paused = true)]
async fn p03_whoever_follows_moves_nothing() {
    for (blue, green, record) in [(60, 40, "blue"), (40, 60, "blue"), (50, 50, "green"), (0, 100, "blue")] {
        let stage = stage(crate::rollout::World { record: Some(record.to_owned()), ..world(blue, green) });
        let mut wish = config(&stage.switch, Value::Null);
        wish.set(
            "strategy",
            Value::object([("linear", Value::object([("percent", number(10)), ("interval", text("1m"))]))]),
        );
        wish.set("verification", http("http://{color}.test/"));
        let stored = ok(stage.apply(&wish, None).await);
        let stored = stage.read(&stored).await;
        wish.set("routes", list([listener(), own_rule(10, "/api/*")]));
        ok(stage.apply(&wish, Some(&stored)).await);
        // A rule that is new leads where the others do.
        for key in [LISTENER.to_owned(), format!("{LISTENER}#10")] {
            assert!(
                (share(&stage, &key, BLUE) - f64::from(blue)).abs() < 0.01,
                "{blue} {green}: {:?}",
                stage.fake.world()
            );
        }
        assert_eq!(stage.fake.calls(), [format!("create {LISTENER}#10")], "{blue} {green}");
    }
}

/// Blue has four, green two; blue is held at four by a rollout that was killed.
fn sized() -> (Stage, Value) {
    let size = |desired, min, pinned| Capacity { min, max: 6, desired, pinned };
    let capacities = [("blue".to_owned(), size(4, Some(4), Some(2))), ("green".to_owned(), size(4, Some(2), None))];
    let stage = stage(crate::rollout::World {
        record: Some("blue".to_owned()),
        capacities: capacities.into(),
        ..world(100, 0)
    });
    let mut wish = config(&stage.switch, Value::Null);
    let environment = |color: &str, arn: &str| {
        let values = [("target_group_arn", text(arn)), ("autoscaling_group_name", text(color))];
        (color.to_owned(), Value::object(values))
    };
    wish.set("environments", Value::object([environment("blue", BLUE), environment("green", GREEN)]));
    wish.set("capacity", Value::object([("after_idle", text("2"))]));
    (stage, wish)
}

#[tokio::test(start_paused = true)]
async fn p04_whoever_follows_changes_no_size() {
    let (stage, wish) = sized();
    let stored = ok(stage.apply(&wish, None).await);
    let before = stage.fake.world();
    let (planned, diagnostics) = stage.plan(&wish, Some(&stage.read(&stored).await)).await;
    assert!(told(&diagnostics).contains("The minimum of blue is still held"), "{}", told(&diagnostics));
    assert!(planned.state.unwrap().get("runbook").strings().iter().all(|word| !word.contains("minimum")));
    assert_eq!(stage.fake.world().capacities, before.capacities);
    // Named, it is given back, and a color that serves is never lowered.
    let (stage, mut wish) = sized();
    wish.set("active", text("blue"));
    ok(stage.apply(&wish, None).await);
    let blue = stage.fake.world().capacities["blue"];
    assert_eq!((blue.min, blue.desired, blue.pinned), (Some(2), 4, None));
}

/// A switch over routes that led to blue, and lead to green by now.
async fn restorable(change: impl FnOnce(&Stage)) -> (Stage, Stored, Diagnostics) {
    let stage = stage(crate::rollout::World { record: Some("blue".to_owned()), ..world(100, 0) });
    let mut wish = config(&stage.switch, text("green"));
    wish.set("on_destroy", text("restore"));
    let stored = ok(stage.apply(&wish, None).await);
    let stored = stage.read(&stored).await;
    change(&stage);
    let (gone, diagnostics) = stage.destroy(&stored).await;
    assert_eq!(stage.fake.lock(LOCK), None);
    (stage, gone, diagnostics)
}

#[tokio::test(start_paused = true)]
async fn p05_restore_leads_nowhere_that_can_t_carry_it() {
    let (stage, gone, diagnostics) = restorable(|_| {}).await;
    assert!(gone.state.is_none() && diagnostics.iter().next().is_none(), "{}", told(&diagnostics));
    assert_all_on(&stage, BLUE);
    assert_eq!(stage.fake.world().record.as_deref(), Some("blue"));
    for (why, expected) in
        [("unhealthy", "blue has 0 healthy of 2 registered targets"), ("gone", "TargetGroupNotFound")]
    {
        let (stage, gone, diagnostics) = restorable(|stage| match why {
            "gone" => stage.fake.delete_group(BLUE),
            _ => stage.fake.set_health(BLUE, &["unhealthy", "unhealthy"]),
        })
        .await;
        let said = told(&diagnostics);
        assert!(gone.state.is_none() && !diagnostics.has_errors(), "{said}");
        assert!(said.contains("The routes were not restored") && said.contains(expected), "{said}");
        assert_all_on(&stage, GREEN);
        assert_eq!(stage.fake.world().record.as_deref(), Some("green"));
    }
}

/// What somebody moved since the plan is not led back, and nothing of it is destroyed half-way.
#[tokio::test(start_paused = true)]
async fn p05_restore_moves_only_what_the_plan_saw() {
    let (stage, kept, diagnostics) = restorable(|stage| {
        stage.fake.meddle(|all| all.routes = world(37, 63).routes);
    })
    .await;
    assert!(told(&diagnostics).contains("was moved since the plan"), "{}", told(&diagnostics));
    assert!(kept.state.is_some());
    assert!((share(&stage, LISTENER, GREEN) - 63.0).abs() < 0.01);
}

/// The color that was live before may have another target group by now.
#[tokio::test(start_paused = true)]
async fn p05_origins_are_colors() {
    let other = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/2";
    let stage = stage(crate::rollout::World { record: Some("blue".to_owned()), ..world(100, 0) });
    let mut wish = config(&stage.switch, text("green"));
    wish.set("on_destroy", text("restore"));
    let stored = stage.read(&ok(stage.apply(&wish, None).await)).await;
    stage.fake.set_health(other, &["healthy", "healthy"]);
    let environment = |arn: &str| Value::object([("target_group_arn", text(arn))]);
    wish.set("environments", Value::object([("blue", environment(other)), ("green", environment(GREEN))]));
    let stored = stage.read(&ok(stage.apply(&wish, Some(&stored)).await)).await;
    stage.fake.delete_group(BLUE);
    let (gone, diagnostics) = stage.destroy(&stored).await;
    assert!(gone.state.is_none() && diagnostics.iter().next().is_none(), "{}", told(&diagnostics));
    assert_all_on(&stage, other);
}

async fn with_rule(active: &str) -> (Stage, Value, Stored) {
    let stage = stage(world(100, 0));
    let mut wish = config(&stage.switch, text(active));
    wish.set("routes", list([listener(), own_rule(10, "/api/*")]));
    let stored = ok(stage.apply(&wish, None).await);
    stage.fake.heal();
    let stored = stage.read(&stored).await;
    (stage, wish, stored)
}

/// A rule is itself wherever people move it.
#[tokio::test(start_paused = true)]
async fn p06_a_rule_is_known_by_its_arn() {
    for to in [20, 5] {
        let (stage, mut wish, stored) = with_rule("blue").await;
        stage.fake.move_rule(&format!("{LISTENER}#10"), &format!("{LISTENER}#{to}"));
        let stored = stage.read(&stored).await;
        wish.set("active", text("green"));
        let words = runbook(&stage, &wish, &stored).await;
        assert!(words.contains(&format!("move rule 10 of listener web/2 from priority {to} to 10")), "{words:?}");
        let stored = ok(stage.apply(&wish, Some(&stored)).await);
        assert_all_on(&stage, GREEN);
        assert_eq!(stage.fake.world().routes.len(), 2, "{:?}", stage.fake.world());
        let stored = stage.read(&stored).await;
        stage.fake.move_rule(&format!("{LISTENER}#10"), &format!("{LISTENER}#{to}"));
        ok(stage.destroy(&stage.read(&stored).await).await);
        assert_eq!(stage.fake.world().routes.len(), 1, "{:?}", stage.fake.world());
    }
    // Where another rule has the place by now, that is told before anything is done.
    let (stage, mut wish, stored) = with_rule("blue").await;
    stage.fake.move_rule(&format!("{LISTENER}#10"), &format!("{LISTENER}#20"));
    let theirs = Observed { arn: "theirs".to_owned(), ..rule("/theirs/*", 100, 0) };
    stage.fake.meddle(|world| drop(world.routes.insert(format!("{LISTENER}#10"), theirs)));
    let stored = stage.read(&stored).await;
    wish.set("active", text("green"));
    let (_, diagnostics) = stage.plan(&wish, Some(&stored)).await;
    assert!(told(&diagnostics).contains("The priority is taken"), "{}", told(&diagnostics));
    // And a rule that stands where ours stood is not ours to delete.
    ok(stage.destroy(&stored).await);
    assert!(stage.fake.world().routes.values().any(|seen| seen.arn == "theirs"));
    assert_eq!(stage.fake.world().routes.len(), 2);
}

/// Replaced with its heir made first: what the heir goes by is not deleted by the one that goes.
#[tokio::test(start_paused = true)]
async fn p07_what_another_object_owns_is_left_alone() {
    for restarted in [false, true] {
        for restore in [false, true] {
            let (stage, mut wish, stored) = with_rule("green").await;
            wish.set("on_destroy", text(if restore { "restore" } else { "keep" }));
            let stored = stage.read(&ok(stage.apply(&wish, Some(&stored)).await)).await;
            let heir = ok(stage.apply(&wish, None).await);
            let before = stage.fake.world();
            let last = if restarted {
                stage.restarted()
            } else {
                Stage { fake: stage.fake.clone(), switch: stage.switch.clone() }
            };
            let gone = ok(last.destroy(&stored).await);
            assert!(gone.state.is_none());
            assert_eq!(stage.fake.world(), before, "restarted {restarted} restore {restore}");
            // The heir's own end takes all of it away.
            ok(last.destroy(&last.read(&heir).await).await);
            assert_eq!(stage.fake.world().record, None);
            assert!(!stage.fake.world().routes.contains_key(&format!("{LISTENER}#10")));
        }
    }
}

/// An heir that fails gives back what it took over.
#[tokio::test(start_paused = true)]
async fn p07_an_heir_that_fails_takes_nothing() {
    let (stage, wish, stored) = with_rule("blue").await;
    let owner = stage.fake.tags_of(&format!("{LISTENER}#10"));
    let mut other = wish.clone();
    other.set("active", text("green"));
    stage.fake.set_health(GREEN, &["unhealthy"]);
    let (heir, diagnostics) = stage.apply(&other, None).await;
    assert!(diagnostics.has_errors() && heir.state.is_none());
    assert_eq!(stage.fake.tags_of(&format!("{LISTENER}#10")), owner);
    ok(stage.destroy(&stored).await);
    assert_eq!(stage.fake.world().routes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn p08_previews_are_struck_out_with_the_switch() {
    let stage = stage(world(100, 0));
    let mut wish = config(&stage.switch, text("blue"));
    wish.set("preview_routes", list([own_rule(11, "/preview/*")]));
    let stored = ok(stage.apply(&wish, None).await);
    for group in [BLUE, GREEN] {
        assert_eq!(stage.fake.previews(group), [format!("{LISTENER}#11")]);
    }
    ok(stage.destroy(&stage.read(&stored).await).await);
    for group in [BLUE, GREEN] {
        assert_eq!(stage.fake.previews(group), Vec::<String>::new());
    }
}

/// Ctrl-C while a call hangs that has its effect later: at the call of each step, for times around every limit.
#[tokio::test(start_paused = true)]
async fn p09_a_call_without_an_answer_is_not_forgotten() {
    for call in 0..3 {
        for seconds in [2, 10, 19, 25, 50, 90] {
            for hold in [false, true] {
                let (stage, _, stored) = with_rule("blue").await;
                let mut wish = config(&stage.switch, text("green"));
                wish.set("routes", list([listener(), own_rule(10, "/api/*")]));
                wish.set("on_interrupt", text(if hold { "hold" } else { "rollback" }));
                stage.fake.fault(call, Fault::Late(seconds));
                let source = CancelSource::new();
                let stop = async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    source.stop();
                };
                let start = tokio::time::Instant::now();
                let ((_, diagnostics), ()) =
                    futures::join!(stage.apply_until(&wish, Some(&stored), source.token()), stop);
                let (said, took) = (told(&diagnostics), start.elapsed());
                let lock = stage.fake.lock(LOCK);
                let ended = stage.fake.world();
                tokio::time::sleep(Duration::from_secs(120)).await;
                let later = stage.fake.world();
                let point = format!("call {call}, {seconds} s, hold {hold}: after {took:?} {said}");
                if said.contains("IT IS NOT KNOWN") {
                    let left: LockRecord = serde_json::from_str(&lock.unwrap()).unwrap();
                    assert_eq!(left.status, lock_record::Status::Unknown, "{point}");
                    assert!(!said.contains("Rolled back: all routes are as before"), "{point}");
                    assert!(seconds > 60, "{point}");
                } else if call == 2 {
                    // Everything but the record was done: it stays, and what is not known of the record is said.
                    assert_all_on(&stage, GREEN);
                    assert!(seconds <= 60 || said.contains("may still take effect"), "{point}");
                    assert_eq!(later.record.as_deref(), Some("green"), "{point}");
                } else {
                    assert_eq!(ended, later, "{point}");
                    assert_eq!(lock.is_some(), hold, "{point}");
                    if !hold {
                        assert_all_on(&stage, BLUE);
                        assert_eq!(later.record.as_deref(), Some("blue"), "{point}");
                    }
                }
                assert!(took < Duration::from_secs(70), "{point}");
                // Whatever it was, the next apply comes right.
                stage.fake.heal();
                bury(&stage);
                let stored = stage.read(&stored).await;
                wish.set("active", text("blue"));
                ok(stage.apply(&wish, Some(&stored)).await);
                assert_all_on(&stage, BLUE);
                assert_eq!(stage.fake.world().record.as_deref(), Some("blue"), "{point}");
            }
        }
    }
}

/// A call that was sent twice has its effect twice: the second time may come when the next step was taken.
#[tokio::test(start_paused = true)]
async fn p09_an_echo_of_a_step_is_led_on_again() {
    for seconds in [1, 11, 30, 50] {
        let (stage, stored) = on_blue().await;
        let mut wish = config(&stage.switch, text("green"));
        wish.set("strategy", steps(&[(10, "20s"), (50, "5s")]));
        stage.fake.fault(0, Fault::Echo(seconds));
        let stored = ok(stage.apply(&wish, Some(&stored)).await);
        assert_all_on(&stage, GREEN);
        let ended = stage.fake.world();
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(stage.fake.world(), ended, "{seconds}");
        assert_eq!(stored.state.unwrap().get("live"), &text("green"));
    }
}

/// A rule whose making was not answered is taken away when it comes.
#[tokio::test(start_paused = true)]
async fn p09_a_rule_that_comes_late_goes_again() {
    for seconds in [10, 40] {
        let (stage, stored) = on_blue().await;
        let mut wish = config(&stage.switch, text("green"));
        wish.set("routes", list([listener(), own_rule(10, "/api/*")]));
        stage.fake.fault(1, Fault::Late(seconds));
        let source = CancelSource::new();
        let stop = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            source.stop();
        };
        let ((_, diagnostics), ()) = futures::join!(stage.apply_until(&wish, Some(&stored), source.token()), stop);
        assert!(told(&diagnostics).contains("Rolled back: all routes are as before"), "{}", told(&diagnostics));
        assert_all_on(&stage, BLUE);
        assert_eq!(stage.fake.world().routes.len(), 1, "{seconds}");
        assert_eq!(stage.fake.lock(LOCK), None);
    }
}

/// A call that was sent twice is known only when both are: what is seen may be the first one's.
#[tokio::test(start_paused = true)]
async fn p09_two_attempts_in_the_air_are_two() {
    let (stage, stored) = on_blue().await;
    let wish = config(&stage.switch, text("green"));
    stage.fake.fault(0, Fault::Twice(25, 45));
    let source = CancelSource::new();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(22)).await;
        source.stop();
    };
    let ((_, diagnostics), ()) = futures::join!(stage.apply_until(&wish, Some(&stored), source.token()), stop);
    let (said, lock) = (told(&diagnostics), stage.fake.lock(LOCK));
    let ended = stage.fake.world();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(lock.is_some() || ended == stage.fake.world(), "{said}");
    assert!(lock.is_some() || share(&stage, LISTENER, BLUE) > 99.0, "{said}");
}

/// Destroying keeps the lock, too, as long as it is not known what a call did.
#[tokio::test(start_paused = true)]
async fn p09_a_restoration_without_an_answer_keeps_the_lock() {
    let stage = stage(crate::rollout::World { record: Some("blue".to_owned()), ..world(100, 0) });
    let mut wish = config(&stage.switch, text("green"));
    wish.set("on_destroy", text("restore"));
    let stored = stage.read(&ok(stage.apply(&wish, None).await)).await;
    stage.fake.heal();
    stage.fake.fault(0, Fault::Late(110));
    let (kept, diagnostics) = stage.destroy(&stored).await;
    let said = told(&diagnostics);
    assert!(said.contains("IT IS NOT KNOWN") && kept.state.is_some(), "{said}");
    let left: LockRecord = serde_json::from_str(&stage.fake.lock(LOCK).unwrap()).unwrap();
    assert_eq!(left.status, lock_record::Status::Unknown);
    tokio::time::sleep(Duration::from_secs(120)).await;
    stage.fake.heal();
    let gone = ok(stage.destroy(&stage.read(&kept).await).await);
    assert!(gone.state.is_none());
    assert_all_on(&stage, BLUE);
    assert_eq!(stage.fake.lock(LOCK), None);
}

/// Killed at 10 %; whatever spoils the run that takes over, the origin is where the first one began.
#[tokio::test(start_paused = true)]
async fn p10_who_takes_over_knows_where_it_began() {
    for trouble in ["a failed look", "a stop", "an old read of the lock", "another color's failure"] {
        let (stage, stored) = on_blue().await;
        let wish = careful(&stage, "green");
        stage.fake.fault(1, Fault::DiesBefore);
        let stored = die(&stage, &wish, &stored).await;
        match trouble {
            "a failed look" => {
                // The look under the lock, after the first one and the plan's.
                stage.fake.blind_after(1);
                let (_, diagnostics) = stage.apply(&wish, Some(&stored)).await;
                assert!(told(&diagnostics).contains("Failed to read the routes"), "{}", told(&diagnostics));
                assert!(stage.fake.lock(LOCK).is_some());
            }
            "a stop" => {
                let source = CancelSource::new();
                let stop = async {
                    tokio::time::sleep(Duration::from_secs(63)).await;
                    source.stop();
                };
                drop(futures::join!(stage.apply_until(&wish, Some(&stored), source.token()), stop));
            }
            "an old read of the lock" => stage.fake.hide_versions(2),
            _ => {}
        }
        stage.fake.heal();
        bury(&stage);
        let stored = stage.read(&stored).await;
        stage.fake.set_status(500);
        let (_, diagnostics) = stage.apply(&wish, Some(&stored)).await;
        assert!(diagnostics.has_errors(), "{trouble}");
        assert_all_on(&stage, BLUE);
        assert_eq!(stage.fake.lock(LOCK), None, "{trouble}");
    }
}

/// An apply that moves nothing leaves what a killed one left to the apply that does.
#[tokio::test(start_paused = true)]
async fn p10_whoever_follows_leaves_what_was_left() {
    let (stage, stored) = on_blue().await;
    stage.fake.fault(1, Fault::DiesBefore);
    let wish = careful(&stage, "green");
    let stored = die(&stage, &wish, &stored).await;
    let mut follower = careful(&stage, "green");
    follower.set("active", Value::Null);
    follower.set("routes", list([listener(), own_rule(10, "/api/*")]));
    let stored = ok(stage.apply(&follower, Some(&stored)).await);
    assert!((share(&stage, LISTENER, GREEN) - 10.0).abs() < 0.01);
    let left: LockRecord = serde_json::from_str(&stage.fake.lock(LOCK).unwrap()).unwrap();
    assert_eq!((left.status, left.from.as_deref()), (lock_record::Status::Held, Some("blue")));
    stage.fake.set_status(500);
    let (_, diagnostics) = stage.apply(&wish, Some(&stage.read(&stored).await)).await;
    assert!(diagnostics.has_errors());
    assert!((share(&stage, LISTENER, BLUE) - 100.0).abs() < 0.01, "{}", told(&diagnostics));
}

/// Where a dead or held rollout never led, a person did: a failure goes back to there, and to nowhere else.
#[tokio::test(start_paused = true)]
async fn p10_what_a_person_moved_since_is_where_it_begins() {
    for killed in [false, true] {
        let (stage, stored) = on_blue().await;
        let mut wish = careful(&stage, "green");
        wish.set("on_failure", text("hold"));
        let stored = if killed {
            // In its checks: it has led nowhere.
            stage.fake.fault(0, Fault::DiesBefore);
            die(&stage, &wish, &stored).await
        } else {
            stage.fake.set_status(500);
            stage.apply(&wish, Some(&stored)).await.0
        };
        stage.fake.heal();
        stage.fake.set_status(200);
        // On call leads everything to green, and blue dies.
        stage.fake.meddle(|all| all.routes = world(0, 100).routes);
        stage.fake.set_health(BLUE, &["unhealthy", "unhealthy"]);
        let stored = stage.read(&stored).await;
        wish.set("on_failure", text("rollback"));
        stage.fake.set_status(500);
        let mut other = wish.clone();
        other.set("active", text("blue"));
        let (_, diagnostics) = stage.apply(&other, Some(&stored)).await;
        assert!(diagnostics.has_errors(), "{killed}");
        let said = told(&diagnostics).to_lowercase();
        assert!(said.contains("somebody has moved the traffic since"), "{said}");
        assert!((share(&stage, LISTENER, GREEN) - 100.0).abs() < 0.01, "{killed}: {}", told(&diagnostics));
        let (_, diagnostics) = stage.apply(&wish, Some(&stage.read(&stored).await)).await;
        assert!((share(&stage, LISTENER, GREEN) - 100.0).abs() < 0.01, "{killed}: {}", told(&diagnostics));
    }
}

/// What a run left that had come to its end is no part of the next one's beginning.
#[tokio::test(start_paused = true)]
async fn p10_a_lock_that_outlived_its_rollout_is_not_inherited() {
    let (stage, stored) = on_blue().await;
    // The record is written, and then it dies.
    stage.fake.fault(1, Fault::DiesAfter);
    let green = config(&stage.switch, text("green"));
    let stored = die(&stage, &green, &stored).await;
    stage.fake.fault(1, Fault::DiesBefore);
    let blue = careful(&stage, "blue");
    drop(die(&stage, &blue, &stored).await);
    let left: LockRecord = serde_json::from_str(&stage.fake.lock(LOCK).unwrap()).unwrap();
    assert_eq!((left.from.as_deref(), left.to.as_deref()), (Some("green"), Some("blue")));
    assert_eq!((left.led, left.record.as_deref()), (Some(vec![100, 500]), Some("green")));
}

/// What another switch of the same record left is that one's to go on with.
#[tokio::test(start_paused = true)]
async fn p10_what_another_switch_left_is_handed_back() {
    let (stage, stored) = on_blue().await;
    stage.fake.fault(1, Fault::DiesBefore);
    let wish = careful(&stage, "green");
    let stored = die(&stage, &wish, &stored).await;
    let second = format!("{LISTENER}9");
    let there = Observed { arn: second.clone(), ..world(100, 0).routes[LISTENER].clone() };
    stage.fake.meddle(|world| drop(world.routes.insert(second.clone(), there)));
    let mut other = config(&stage.switch, text("green"));
    other.set("name", text("other"));
    other.set("routes", list([Value::object([("listener_arn", text(&second))])]));
    ok(stage.apply(&other, None).await);
    let left: LockRecord = serde_json::from_str(&stage.fake.lock(LOCK).unwrap()).unwrap();
    assert_eq!((left.switch.as_str(), left.from.as_deref(), left.to.as_deref()), ("app", Some("blue"), Some("green")));
    stage.fake.set_status(500);
    let (_, diagnostics) = stage.apply(&wish, Some(&stage.read(&stored).await)).await;
    assert!(diagnostics.has_errors());
    assert!((share(&stage, LISTENER, BLUE) - 100.0).abs() < 0.01, "{}", told(&diagnostics));
}

/// What goes wrong after a preview rule was made is no matter of somebody else's.
#[tokio::test(start_paused = true)]
async fn p11_a_failure_after_a_preview_was_made_goes_back() {
    let (stage, mut wish) = sized();
    wish.set("active", text("green"));
    wish.set("preview_routes", list([own_rule(11, "/preview/*")]));
    wish.set("validation", http("http://test/preview/"));
    let before = stage.fake.world();
    stage.fake.set_status(500);
    let (stored, diagnostics) = stage.apply(&wish, None).await;
    let said = told(&diagnostics);
    assert!(said.contains("Rolled back: all routes are as before."), "{said}");
    assert!(stored.state.is_none(), "a first apply that was put back leaves no object");
    assert_eq!(stage.fake.world(), before);
}

/// Looks are counted, not checks.
#[tokio::test(start_paused = true)]
async fn p12_two_checks_that_fail_at_one_look_are_one() {
    let (stage, stored) = on_blue().await;
    let answer = |status: u16| HttpAnswer {
        status,
        latency: Duration::ZERO,
        excerpt: String::new(),
        matches: None,
        headers: Vec::new(),
        body: String::new(),
    };
    let mut wish = config(&stage.switch, text("green"));
    let check = |path: &str| Value::object([("url", text(&format!("http://test/{path}")))]);
    let verification = |failures: i64| {
        Value::object([
            ("duration", text("1m")),
            ("max_failures", number(failures)),
            ("http", list([check("a"), check("b")])),
        ])
    };
    wish.set("verification", verification(1));
    wish.set("strategy", Value::object([("settle", text("0s"))]));
    // Both at the first look, and never again.
    stage.fake.set_answers(vec![answer(500), answer(500), answer(200)]);
    let stored = ok(stage.apply(&wish, Some(&stored)).await);
    // At two looks, one each.
    stage.fake.set_answers(vec![answer(500), answer(200), answer(200), answer(500), answer(200)]);
    wish.set("active", text("blue"));
    let (_, diagnostics) = stage.apply(&wish, Some(&stage.read(&stored).await)).await;
    assert!(told(&diagnostics).contains("look 2, "), "{}", told(&diagnostics));
    assert!(told(&diagnostics).contains("2 looks failed, 1 may fail"), "{}", told(&diagnostics));
}

#[test]
fn p12_a_hold_that_can_t_fail_is_an_error() {
    let stage = stage(world(100, 0));
    let check = |verification: Vec<(&str, Value)>, strategy: Value| {
        let mut wish = config(&stage.switch, text("green"));
        let http = list([Value::object([("url", text("http://test/"))])]);
        wish.set("verification", Value::object(verification.into_iter().chain([("http", http)])));
        wish.set("strategy", strategy);
        let mut diagnostics = Diagnostics::new();
        validate(&wish, &mut diagnostics);
        told(&diagnostics)
    };
    let said = check(vec![("max_failures", number(1))], Value::Null);
    assert!(said.contains("The verification can't fail") && said.contains("of 0s has 1 look at"), "{said}");
    let said = check(vec![("max_failures", number(7)), ("duration", text("1m"))], Value::Null);
    assert!(said.contains("of 1m has 7 looks at an interval of 10s"), "{said}");
    let said = check(vec![("max_failures", number(6)), ("duration", text("1m"))], Value::Null);
    assert!(!said.contains("can't fail"), "{said}");
    let said = check(vec![("max_failures", number(2)), ("duration", text("1m"))], steps(&[(10, "10s")]));
    assert!(said.contains("the hold at 10 % of 10s has 2 looks"), "{said}");
}

/// The runbook tells what is done, and nothing else.
#[tokio::test(start_paused = true)]
async fn p13_sizes_are_told_as_they_are_changed() {
    // A service has no minimum that could be held.
    let (stage, mut wish) = sized();
    stage.fake.meddle(|world| {
        for size in world.capacities.values_mut() {
            (size.min, size.pinned) = (None, None);
        }
    });
    wish.set("active", text("blue"));
    let stored = stage.read(&ok(stage.apply(&wish, None).await)).await;
    wish.set("active", text("green"));
    let words = runbook(&stage, &wish, &stored).await;
    assert!(words.iter().all(|word| !word.contains("minimum")), "{words:?}");
    // Sizes that were not looked at are not told, and what is not told is not done in silence.
    let (stage, mut wish) = sized();
    let capacity = wish.get("capacity").clone();
    wish.set("capacity", Value::Null);
    wish.set("active", text("blue"));
    let stored = stage.read(&ok(stage.apply(&wish, None).await)).await;
    wish.set("capacity", capacity);
    wish.set("active", text("green"));
    let words = runbook(&stage, &wish, &stored).await;
    assert!(words.iter().any(|word| word.contains("raise green to the size of the live color")), "{words:?}");
}

/// Killed while it checked, and led back: the size that it raised is given back too.
#[tokio::test(start_paused = true)]
async fn p13_a_raise_of_a_killed_run_is_given_back() {
    for active in ["blue", "green"] {
        let (stage, mut wish) = sized();
        stage.fake.meddle(|world| {
            for (color, size) in &mut world.capacities {
                (size.min, size.pinned) = (Some(2), None);
                size.desired = if color == "blue" { 4 } else { 2 };
            }
        });
        wish.set("active", text("blue"));
        let stored = stage.read(&ok(stage.apply(&wish, None).await)).await;
        wish.set("active", text("green"));
        stage.fake.heal();
        // Both sizes, and then it dies at the first step of traffic.
        stage.fake.fault(2, Fault::DiesBefore);
        let stored = die(&stage, &wish, &stored).await;
        assert_eq!(stage.fake.world().capacities["green"].desired, 4);
        wish.set("active", text(active));
        let words = runbook(&stage, &wish, &stored).await;
        let stored = ok(stage.apply(&wish, Some(&stored)).await);
        let sizes = stage.fake.world().capacities;
        let expected = if active == "blue" { (4, 2) } else { (2, 4) };
        assert_eq!((sizes["blue"].desired, sizes["green"].desired), expected, "{active}: {words:?}");
        assert!(sizes.values().all(|size| size.pinned.is_none()), "{sizes:?}");
        let (planned, _) = stage.plan(&wish, Some(&stage.read(&stored).await)).await;
        assert_eq!(planned.state, stored.state);
    }
}

/// Nothing is held and nothing is moved, and still what was told is done: an apply knows what its plan knew.
#[tokio::test(start_paused = true)]
async fn p13_an_apply_knows_what_a_dead_run_left() {
    let (stage, mut wish) = sized();
    stage.fake.meddle(|world| {
        for (color, size) in &mut world.capacities {
            (size.min, size.pinned) = (None, None);
            size.desired = if color == "blue" { 4 } else { 2 };
        }
    });
    wish.set("capacity", Value::object([("before", text("match_live"))]));
    wish.set("active", text("blue"));
    let stored = stage.read(&ok(stage.apply(&wish, None).await)).await;
    wish.set("active", text("green"));
    stage.fake.heal();
    stage.fake.fault(0, Fault::DiesAfter);
    let stored = die(&stage, &wish, &stored).await;
    wish.set("active", text("blue"));
    assert_eq!(runbook(&stage, &wish, &stored).await, ["lower green from 4 to 2"]);
    let stored = ok(stage.apply(&wish, Some(&stored)).await);
    assert_eq!(stage.fake.world().capacities["green"].desired, 2);
    assert_eq!(stage.fake.lock(LOCK), None);
    let (planned, _) = stage.plan(&wish, Some(&stage.read(&stored).await)).await;
    assert_eq!(planned.state, stored.state);
}

/// Whatever is unknown when planning after a kill, the second plan keeps what the first one said.
#[tokio::test(start_paused = true)]
async fn p14_what_is_unknown_after_a_kill_is_not_promised() {
    for call in 0..4 {
        for fault in [Fault::DiesBefore, Fault::DiesAfter] {
            for active in ["green", "blue"] {
                let (stage, stored) = on_blue().await;
                let wish = careful(&stage, "green");
                stage.fake.fault(call, fault);
                let stored = die(&stage, &wish, &stored).await;
                let mut whole = careful(&stage, active);
                whole.set("validation", http("http://{color}.test/"));
                let mut unknown = whole.clone();
                unknown.set("validation", Value::UNKNOWN);
                let (first, _) = stage.plan(&unknown, Some(&stored)).await;
                let (second, _) = stage.plan(&whole, Some(&stored)).await;
                for (name, value) in first.state.unwrap().as_map().unwrap() {
                    if value.is_wholly_known() {
                        let later = second.state.as_ref().unwrap().get(name);
                        assert_eq!(value, later, "call {call} {fault:?} {active}: {name}");
                    }
                }
            }
        }
    }
}

/// Looks that take longer than the first one on the way back may: the rule that was made is known by its name.
#[tokio::test(start_paused = true)]
async fn p16_a_rule_that_was_made_goes_without_a_look() {
    let (stage, stored) = on_blue().await;
    let mut wish = config(&stage.switch, text("green"));
    wish.set("routes", list([listener(), own_rule(10, "/api/*")]));
    wish.set("verification", http("http://{color}.test/"));
    stage.fake.be_slow(Duration::from_millis(2500));
    stage.fake.set_status(500);
    let (_, diagnostics) = stage.apply(&wish, Some(&stored)).await;
    let said = told(&diagnostics);
    assert!(said.contains("Rolled back: all routes are as before."), "{said}");
    assert_all_on(&stage, BLUE);
    assert_eq!(stage.fake.world().routes.len(), 1);
}

/// Back from a canary: the color that carries the most is not measured by the one that it is called back from.
#[tokio::test(start_paused = true)]
async fn p17_the_way_back_is_not_barred_by_the_canary() {
    for (killed, blue) in [(true, 90), (false, 90)] {
        let (stage, mut stored) = on_blue().await;
        if killed {
            stage.fake.fault(1, Fault::DiesBefore);
            let wish = careful(&stage, "green");
            stored = die(&stage, &wish, &stored).await;
        } else {
            stage.fake.meddle(|all| all.routes = world(blue, 100 - blue).routes);
        }
        stage.fake.heal();
        stage.fake.set_health(BLUE, &["healthy", "unhealthy"]);
        stored = stage.read(&stored).await;
        ok(stage.apply(&careful(&stage, "blue"), Some(&stored)).await);
        assert_all_on(&stage, BLUE);
    }
}

/// One odd read of the lock abandons nothing.
#[tokio::test(start_paused = true)]
async fn p18_an_odd_read_of_the_lock_is_no_loss() {
    let late = LockRecord {
        took_over: Some("a dead one".to_owned()),
        machine: "elsewhere".to_owned(),
        ..lock::draft("app", "a late claim", "now")
    };
    let late = serde_json::to_string(&late).unwrap();
    for odd in [vec![None], vec![None, None], vec![Some(late.clone())], vec![Some(late.clone()), None]] {
        let (stage, stored) = on_blue().await;
        let fake = stage.fake.clone();
        let meddle = async {
            tokio::time::sleep(Duration::from_secs(65)).await;
            fake.be_odd(odd.clone());
        };
        let wish = careful(&stage, "green");
        let ((stored, diagnostics), ()) = futures::join!(stage.apply(&wish, Some(&stored)), meddle);
        assert_eq!(ok((stored, diagnostics)).state.unwrap().get("live"), &text("green"), "{odd:?}");
        assert_eq!(stage.fake.lock(LOCK), None);
    }
    // A late claim that stays is overruled; a lock that is removed is made again.
    for place in [Some(late.as_str()), None] {
        let (stage, stored) = on_blue().await;
        let fake = stage.fake.clone();
        let meddle = async {
            tokio::time::sleep(Duration::from_secs(65)).await;
            match place {
                Some(theirs) => fake.set_parameter(LOCK, theirs),
                None => fake.remove_parameter(LOCK),
            }
        };
        let wish = careful(&stage, "green");
        let ((stored, diagnostics), ()) = futures::join!(stage.apply(&wish, Some(&stored)), meddle);
        assert_eq!(ok((stored, diagnostics)).state.unwrap().get("live"), &text("green"));
        assert_eq!(stage.fake.lock(LOCK), None);
    }
}

/// Beats are what counts: a holder whose clock is behind lives as long as it shows it.
#[tokio::test(start_paused = true)]
async fn p19_a_clock_that_is_behind_is_no_death() {
    let (stage, stored) = on_blue().await;
    let mut theirs = lock::draft("app", "another-run", "2026-01-01T00:00:00Z");
    (theirs.machine, theirs.holder) = ("another".to_owned(), "me@elsewhere".to_owned());
    theirs.renewed = theirs.renewed.saturating_sub(390);
    let fake = stage.fake.clone();
    fake.set_parameter(LOCK, &serde_json::to_string(&theirs).unwrap());
    let beats = async {
        for beat in 0..12 {
            fake.set_parameter(LOCK, &serde_json::to_string(&LockRecord { beat, ..theirs.clone() }).unwrap());
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    };
    let wish = careful(&stage, "green");
    let ((_, diagnostics), ()) = futures::join!(stage.apply(&wish, Some(&stored)), beats);
    assert!(told(&diagnostics).contains("me@elsewhere has it under way"), "{}", told(&diagnostics));
    assert_eq!(stage.fake.calls(), Vec::<String>::new());
}

/// What comes after the record is the next apply's work when it fails.
#[tokio::test(start_paused = true)]
async fn p20_what_comes_after_the_record_undoes_nothing() {
    for fault in [Fault::Refused, Fault::LostAnswer, Fault::Late(90)] {
        let (stage, mut wish, stored) = with_rule("blue").await;
        wish.set("active", text("green"));
        wish.set("routes", list([listener()]));
        // The listener, the record, and then the rule that is no longer wanted.
        stage.fake.fault(2, fault);
        let (stored, diagnostics) = stage.apply(&wish, Some(&stored)).await;
        let said = told(&diagnostics);
        assert!(!diagnostics.has_errors(), "{fault:?}: {said}");
        assert!(said.contains("Not everything after the rollout of app was done"), "{fault:?}: {said}");
        assert!(said.contains("delete rule 10 of listener web/2"), "{fault:?}: {said}");
        assert!((share(&stage, LISTENER, GREEN) - 100.0).abs() < 0.01);
        assert_eq!(stage.fake.world().record.as_deref(), Some("green"));
        assert_eq!(stored.state.as_ref().unwrap().get("last_rollout").get("status"), &text("completed"));
        tokio::time::sleep(Duration::from_secs(120)).await;
        stage.fake.heal();
        ok(stage.apply(&wish, Some(&stage.read(&stored).await)).await);
        assert_eq!(stage.fake.world().routes.len(), 1, "{fault:?}");
    }
}

/// A stop after the record leaves what is left to the next apply, which knows of it.
#[tokio::test(start_paused = true)]
async fn p20_a_stop_after_the_record_loses_nothing() {
    for blind in [false, true] {
        let (stage, mut wish, stored) = with_rule("blue").await;
        wish.set("active", text("green"));
        wish.set("routes", list([listener()]));
        stage.fake.fault(2, Fault::Late(110));
        if blind {
            stage.fake.blind(3, 1);
        }
        let source = CancelSource::new();
        let stop = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            source.stop();
        };
        let ((stored, diagnostics), ()) = futures::join!(stage.apply_until(&wish, Some(&stored), source.token()), stop);
        let said = told(&diagnostics);
        assert!(said.contains("Not everything after the rollout of app was done"), "{said}");
        assert!((share(&stage, LISTENER, GREEN) - 100.0).abs() < 0.01, "{said}");
        stage.fake.heal();
        let stored = stage.read(&stored).await;
        assert_eq!(runbook(&stage, &wish, &stored).await, ["delete rule 10 of listener web/2"]);
        ok(stage.apply(&wish, Some(&stored)).await);
        assert_eq!(stage.fake.world().routes.len(), 1);
    }
}

/// Also where the rollout was one that was gone on with.
#[tokio::test(start_paused = true)]
async fn p20_a_rollout_that_was_gone_on_with_has_an_end_too() {
    let (stage, mut wish, stored) = with_rule("blue").await;
    wish.set("active", text("green"));
    wish.set("routes", list([listener()]));
    // It dies at the record, with all the traffic on green.
    stage.fake.fault(1, Fault::DiesBefore);
    let stored = die(&stage, &wish, &stored).await;
    // The record, and then the rule.
    stage.fake.fault(1, Fault::Refused);
    let (_, diagnostics) = stage.apply(&wish, Some(&stored)).await;
    let said = told(&diagnostics);
    assert!(!diagnostics.has_errors() && said.contains("delete rule 10 of listener web/2"), "{said}");
    assert!((share(&stage, LISTENER, GREEN) - 100.0).abs() < 0.01, "{said}");
    assert_eq!(stage.fake.world().record.as_deref(), Some("green"));
}

/// Another provider process of the same Terraform run, as each alias has one, is waited for as long as it shows a sign of life.
#[tokio::test(start_paused = true)]
async fn p15_another_process_of_this_run_is_waited_for() {
    for dies in [false, true] {
        let (stage, stored) = on_blue().await;
        let theirs = lock::draft("other", "a run of a sibling", "now");
        let fake = stage.fake.clone();
        let beats = async {
            for beat in 0..20 {
                fake.set_parameter(LOCK, &serde_json::to_string(&LockRecord { beat, ..theirs.clone() }).unwrap());
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            if !dies {
                fake.remove_parameter(LOCK);
            }
        };
        let start = tokio::time::Instant::now();
        let wish = config(&stage.switch, text("green"));
        fake.set_parameter(LOCK, &serde_json::to_string(&theirs).unwrap());
        let (applied, ()) = futures::join!(stage.apply(&wish, Some(&stored)), beats);
        assert_eq!(ok(applied).state.unwrap().get("live"), &text("green"));
        assert!(start.elapsed() >= Duration::from_secs(if dies { 250 } else { 200 }), "{:?}", start.elapsed());
    }
}

/// A record under another name leaves none of the former name.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_renamed_leaves_none_behind() {
    let (stage, stored) = on_blue().await;
    let mut wish = config(&stage.switch, text("blue"));
    wish.set("parameter", text("/app/other"));
    stage.fake.heal();
    ok(stage.apply(&wish, Some(&stored)).await);
    assert!(stage.fake.calls().contains(&"delete /app/live".to_owned()), "{:?}", stage.fake.calls());
}

/// Two switches that want different colors on one record are told so when they are planned.
#[tokio::test(start_paused = true)]
async fn p15_two_wishes_for_one_record_are_refused() {
    let (stage, stored) = on_blue().await;
    let (_, diagnostics) = stage.plan(&config(&stage.switch, text("green")), Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let mut other = config(&stage.switch, text("blue"));
    other.set("routes", list([Value::object([("listener_arn", text(&format!("{LISTENER}9")))])]));
    let (_, diagnostics) = stage.plan(&other, None).await;
    assert!(told(&diagnostics).contains("Two switches want different colors on one record"), "{}", told(&diagnostics));
}

#[tokio::test(start_paused = true)]
async fn p21_a_switch_whose_record_is_gone_can_go() {
    let (stage, _, stored) = with_rule("green").await;
    stage.fake.meddle(|world| world.record = None);
    let gone = ok(stage.destroy(&stage.read(&stored).await).await);
    assert!(gone.state.is_none());
    assert_eq!(stage.fake.world().routes.len(), 1);
}

/// What a command writes is for the one who reads the error, without what it was told in confidence; no state keeps it.
#[tokio::test(start_paused = true)]
async fn p22_what_a_command_writes_is_in_no_state() {
    let (stage, stored) = on_blue().await;
    let secrets = ["hunter2", "hunter2-and-more", "pw", "for-green"];
    let output = "connecting with hunter2-and-more and hunter2, pw, for-green\nthe marker\n";
    stage.fake.set_commands(vec![CommandEnd {
        code: Some(1),
        output: output.to_owned(),
        is_cut: false,
        timed_out: false,
    }]);
    let environment = Value::object([
        ("A", text("hunter2")),
        ("B", text("hunter2-and-more")),
        ("C", text("pw")),
        ("D", text("for-{color}")),
    ]);
    let command = Value::object([("argv", list([text("smoke")])), ("environment", environment)]);
    for block in ["validation", "verification"] {
        let mut wish = config(&stage.switch, text("green"));
        wish.set(block, Value::object([("command", list([command.clone()]))]));
        wish.set("notify", Value::object([("sns_topic_arn", text("arn:aws:sns:eu-central-1:123456789012:releases"))]));
        let (stored, diagnostics) = stage.apply(&wish, Some(&stored)).await;
        let said = told(&diagnostics);
        assert!(said.contains("the marker") && said.contains("connecting with *** and ***, ***, ***"), "{said}");
        let mut state = stored.state.unwrap();
        state.set("validation", Value::Null);
        state.set("verification", Value::Null);
        let kept = format!("{state:?} {}", stage.fake.told().join(" "));
        let lock = stage.fake.lock(LOCK).unwrap_or_default();
        assert!(kept.contains("ended with exit code 1"), "{kept}");
        for secret in secrets.into_iter().chain(["the marker"]) {
            assert!(!kept.contains(secret) && !lock.contains(secret), "{secret}: {kept}");
        }
        for secret in secrets {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
}

/// An address is one that everybody reads alike, and what is secret in it is not shown.
#[test]
fn p23_an_address_hides_nothing() {
    let stage = stage(world(100, 0));
    for url in [
        "http:user:password@host/health",
        "http:/user:password@host/health",
        "http:\\\\user:password@host/health",
        "ht\ttp://user:password@host/",
        "http:///user:password@host/",
    ] {
        let mut wish = config(&stage.switch, text("green"));
        wish.set("validation", http(url));
        let mut diagnostics = Diagnostics::new();
        validate(&wish, &mut diagnostics);
        let said = told(&diagnostics);
        assert!(said.contains("Invalid URL") && !said.contains("password"), "{url}: {said}");
    }
    let shown = |url: &str| crate::rollout::HttpCheck { url: url.to_owned(), ..Default::default() }.shown_url();
    assert_eq!(shown("https://user:pass@word@host:8443/a?b=c"), "https://host:8443/a");
    assert!(!shown("http:user:password@host/health").contains("password"));
    assert_eq!(shown("http://u:p/l4nt@host/?x=1"), "http://…");
    assert_eq!(shown("http://[::1]:80/a"), "http://[::1]:80/a");
}

/// What no request can carry is told at the header, without its value.
#[test]
fn headers_are_checked_before_they_are_sent() {
    let stage = stage(world(100, 0));
    let mut wish = config(&stage.switch, text("green"));
    let headers = Value::object([("X-Good", text("a b")), ("X Bad", text("a")), ("X-Key", text("hunter22\n"))]);
    let check = Value::object([("url", text("http://green.test/")), ("headers", headers)]);
    wish.set("validation", Value::object([("http", list([check]))]));
    let mut diagnostics = Diagnostics::new();
    validate(&wish, &mut diagnostics);
    let paths: Vec<String> = diagnostics.iter().filter_map(|one| Some(one.path.as_ref()?.to_string())).collect();
    assert_eq!(paths, ["validation.http[0].headers[\"X Bad\"]", "validation.http[0].headers[\"X-Key\"]"]);
    assert!(!told(&diagnostics).contains("hunter22"));
}

/// A place is only where a rule stands, and makes no difference to what it is.
#[test]
fn a_place_is_no_part_of_a_forward() {
    let seen = Observed { place: Some(Place { priority: 7, taken_by: None }), ..rule("/api/*", 1, 0) };
    assert!(seen.terminal.is_same(&rule("/api/*", 1, 0).terminal));
}
