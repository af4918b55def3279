//! The first color of all, where no route can have it before it gets everything: a rule that no request takes has it meanwhile.

use super::rollouts::{bury, told};
use super::{BLUE, GREEN, LISTENER, Stage, config, own_rule, stage, world};
use crate::rollout::{Conditions, Forward, Observed, Terminal, World};
use crate::run::rollout::in_memory::Fault;
use crate::tf_provider::{Cancel, Stored, Value};

const TRIAL: &str = "the rule of listener web/2 that no request takes";

/// A listener that answers by itself.
pub(super) fn closed() -> World {
    let mut world = world(100, 0);
    let fixed = Terminal::FixedResponse { status: "503".to_owned(), content_type: None, body: None };
    world.routes.get_mut(LISTENER).unwrap().terminal = fixed;
    world
}

fn by_own_rule(stage: &Stage, active: &str) -> Value {
    let mut config = config(&stage.switch, Value::from(active));
    config.set("routes", Value::List(vec![own_rule(50_000, "/api/*")]));
    config
}

/// Whether users were led to a group at any time.
fn had_users(stage: &Stage, group: &str) -> bool {
    let history = stage.fake.history();
    let mut seen = history.iter().flat_map(|world| world.routes.values());
    seen.any(|seen| !is_trial(seen) && seen.terminal.share(group) > 0.0)
}

fn is_trial(seen: &Observed) -> bool {
    seen.conditions.as_ref().is_some_and(Conditions::is_nobody)
}

fn trials(stage: &Stage) -> usize {
    stage.fake.world().routes.values().filter(|seen| is_trial(seen)).count()
}

#[tokio::test(start_paused = true)]
async fn nobody_meets_a_first_color_that_is_ill() {
    for is_rule in [false, true] {
        let stage = stage(closed());
        stage.fake.set_health(GREEN, &["unhealthy"]);
        let config = if is_rule { by_own_rule(&stage, "green") } else { config(&stage.switch, Value::from("green")) };
        let (stored, diagnostics) = stage.apply(&config, None).await;
        assert!(diagnostics.has_errors() && stored.state.is_none(), "{}", told(&diagnostics));
        assert!(!had_users(&stage, GREEN), "{}", told(&diagnostics));
        assert_eq!(stage.fake.world(), closed(), "nothing is left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_color_is_checked_before_it_gets_everything() {
    for is_rule in [false, true] {
        let stage = stage(closed());
        let config = if is_rule { by_own_rule(&stage, "green") } else { config(&stage.switch, Value::from("green")) };
        let (stored, diagnostics) = stage.apply(&config, None).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
        let steps = stored.state.as_ref().unwrap().get("last_rollout").get("steps").strings();
        let place = |part: &str| {
            steps.iter().position(|step| step.contains(part)).unwrap_or_else(|| panic!("{part}: {steps:#?}"))
        };
        let order = [
            place(&format!("create {TRIAL}: green 100 %, so that its health is known")),
            place("check that"),
            place(if is_rule { "create rule 50000" } else { "set listener" }),
            place("create /app/live"),
            place(&format!("delete {TRIAL}")),
        ];
        assert!(order.is_sorted() && steps.len() == 5, "{steps:#?}");
        assert_eq!(trials(&stage), 0);
        let read = stage.read(&stored).await;
        let (planned, _) = stage.plan(&config, Some(&read)).await;
        assert_eq!(planned.state, read.state, "a plan right after the apply");
    }
}

/// A group that another rule of the listener has, at whatever weight, is checked there.
#[tokio::test(start_paused = true)]
async fn what_another_rule_has_needs_none() {
    let mut world = closed();
    let groups = vec![(BLUE.to_owned(), 1), (GREEN.to_owned(), 0)];
    let terminal = Terminal::Forward(Forward { groups, stickiness: None });
    let key = format!("{LISTENER}#7");
    let other = Observed { conditions: Some(Conditions::default()), ..Observed::leading(key.clone(), terminal) };
    world.routes.insert(key, other);
    let stage = stage(world);
    let (stored, diagnostics) = stage.apply(&config(&stage.switch, Value::from("green")), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let steps = stored.state.unwrap().get("last_rollout").get("steps").strings();
    assert!(steps[0].starts_with("check that") && !steps.iter().any(|step| step.contains("no request")), "{steps:#?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_the_rule_does_not_stay() {
    for call in 0..4 {
        for fault in [Fault::Refused, Fault::LostAnswer, Fault::Late(40), Fault::DiesBefore, Fault::DiesAfter] {
            let stage = stage(closed());
            let config = config(&stage.switch, Value::from("green"));
            stage.fake.fault(call, fault);
            let stored: Stored = tokio::select! {
                (stored, _) = stage.apply(&config, None) => stored,
                () = stage.fake.died() => Stored::default(),
            };
            stage.fake.heal();
            bury(&stage);
            let stage = stage.restarted();
            // What failed or was killed is applied again.
            let mut prior = stored.state.is_some().then_some(stored);
            for _ in 0..2 {
                if let Some(before) = &prior {
                    prior = Some(stage.read(before).await);
                }
                let (stored, diagnostics) = stage.apply(&config, prior.as_ref()).await;
                assert!(!diagnostics.has_errors(), "call {call} {fault:?}: {}", told(&diagnostics));
                prior = Some(stored);
            }
            assert_eq!(trials(&stage), 0, "call {call} {fault:?}: {:?}", stage.fake.world());
            let (_, diagnostics) = stage.destroy(prior.as_ref().unwrap()).await;
            assert!(!diagnostics.has_errors(), "call {call} {fault:?}: {}", told(&diagnostics));
        }
    }
}

/// A destroy finds the rule that a killed rollout left, of which no state tells.
#[tokio::test(start_paused = true)]
async fn a_destroy_takes_the_rule_of_a_killed_rollout_away() {
    let stage = stage(closed());
    let config = config(&stage.switch, Value::from("green"));
    let (stored, _) = stage.apply(&config, None).await;
    // Somebody closes the listener, and the next rollout is killed while it checks.
    stage.fake.meddle(|world| world.routes = closed().routes);
    stage.fake.heal();
    stage.fake.fault(0, Fault::DiesAfter);
    let read = stage.read(&stored).await;
    tokio::select! {
        _ = stage.apply(&config, Some(&read)) => panic!("it lives"),
        () = stage.fake.died() => {}
    }
    stage.fake.heal();
    bury(&stage);
    assert_eq!(trials(&stage), 1);
    let stage = stage.restarted();
    let read = stage.read(&read).await;
    let (_, diagnostics) = stage.destroy(&read).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!((trials(&stage), stage.fake.world().routes.len()), (0, 1), "{:?}", stage.fake.world());
}

/// Somebody else's rule that stands where ours was to be is never taken for ours.
#[tokio::test(start_paused = true)]
async fn a_foreign_rule_in_its_place_stays() {
    let stage = stage(world(100, 0));
    let blue = config(&stage.switch, Value::from("blue"));
    let (stored, _) = stage.apply(&blue, None).await;
    stage.fake.meddle(|world| world.routes = closed().routes);
    let wish = config(&stage.switch, Value::from("green"));
    let read = stage.read(&stored).await;
    let planned = stage.plan(&wish, Some(&read)).await;
    let intent = crate::resource::switch::model::parse(&wish).unwrap();
    let trial = crate::rollout::planner::tried(&intent, closed(), LISTENER, &[]).trials.remove(0);
    let key = trial.key();
    stage.fake.heal();
    // It comes in the very moment in which ours is made.
    let foreign = Observed {
        conditions: Some(Conditions { path_patterns: vec!["/x".to_owned()], ..Conditions::default() }),
        ..Observed::leading("foreign".to_owned(), Terminal::Redirect(Default::default()))
    };
    stage.fake.insert_unseen(&key, foreign);
    let (kept, diagnostics) = stage.apply_planned(&wish, Some(&read), planned, Cancel::never()).await;
    assert!(diagnostics.has_errors(), "{}", told(&diagnostics));
    assert!(stage.fake.world().routes.values().any(|seen| seen.arn == "foreign"), "{:?}", stage.fake.calls());
    // Neither the next apply nor a destroy takes it away.
    let read = stage.read(&kept).await;
    let (green, diagnostics) = stage.apply(&wish, Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let is_there = || stage.fake.world().routes.values().any(|seen| seen.arn == "foreign");
    assert!(is_there(), "{:?}", stage.fake.calls());
    let (_, diagnostics) = stage.destroy(&green).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert!(is_there(), "{:?}", stage.fake.calls());
}
