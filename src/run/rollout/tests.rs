//! The executor on a world in memory: what goes wrong at every call, and that it always comes right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::cancel::CancelSource;
use crate::rollout::machine::{self, Decision};
use crate::rollout::{
    Before, Block, Capacity, CapacityPolicy, Check, Checking, Conditions, Entry, Environment, Forward, HttpCheck,
    Intent, Journal, Observed, RouteSpec, Runbook, Scalable, StepId, Subject, Terminal, World, lint, planner,
};
use crate::run::rollout::events::RolloutContext;
use crate::run::rollout::executor::{Ending, Outcome, Run, Scope, give_up_counting};
use crate::run::rollout::in_memory::{Fake, Fault};

const GROUPS: [&str; 2] = ["tg-blue", "tg-green"];

fn forward(weights: &[(&str, u32)]) -> Terminal {
    let groups = weights.iter().map(|(color, weight)| (format!("tg-{color}"), *weight)).collect();
    Terminal::Forward(Forward { groups, stickiness: None })
}

fn own_rule() -> RouteSpec {
    let conditions = Conditions { path_patterns: vec!["/api/*".to_owned()], ..Conditions::default() };
    RouteSpec::OwnRule { listener: "web".to_owned(), priority: 10, conditions, processing: Box::default(), arn: None }
}

/// Two listeners that lead to blue alone, a rule to be made, and a record.
fn intent() -> Intent {
    let environment = |color: &str| {
        (color.to_owned(), Environment { target_group_arn: format!("tg-{color}"), ..Environment::default() })
    };
    let listener = |name: &str| RouteSpec::Listener(name.to_owned());
    Intent {
        name: "app".to_owned(),
        active: Some("green".to_owned()),
        environments: BTreeMap::from(["blue", "green"].map(environment)),
        routes: vec![listener("web"), listener("api"), own_rule()],
        record: Some("/app/live".to_owned()),
        ..Intent::default()
    }
}

/// A check before traffic.
fn before(check: Check) -> Checking {
    Checking { block: Block::Validation, index: Some(0), subject: Subject::default(), check }
}

fn world() -> World {
    let observed = |name: &str| {
        let terminal = forward(&[("blue", 1)]);
        (name.to_owned(), Observed::leading(name.to_owned(), terminal))
    };
    World {
        routes: BTreeMap::from(["web", "api"].map(observed)),
        record: Some("blue".to_owned()),
        capacities: BTreeMap::new(),
        ..World::default()
    }
}

async fn run(fake: &Arc<Fake>, intent: &Intent, cancel: &Cancel) -> Outcome {
    let scalable = |(color, one): (&String, &Environment)| Some((color.clone(), one.scalable.clone()?));
    let scalables = intent.environments.iter().filter(|_| intent.capacity.is_some()).filter_map(scalable).collect();
    let scope = Scope { routes: intent.routes.clone(), record: intent.record.clone(), scalables };
    let world = fake.world();
    let runbook = planner::plan(intent, &world).unwrap();
    assert_eq!(lint::lint(&runbook, intent, &world, lint::Purpose::Rollout), Vec::new());
    let run = Run {
        ports: &fake.ports(),
        runbook: &runbook,
        scope: &scope,
        tags: &BTreeMap::new(),
        about: &RolloutContext::default(),
        lock: None,
        cancel,
        watched: std::sync::OnceLock::new(),
        limit: Duration::from_secs(1800),
        lasting: None,
    };
    run.run(world).await
}

#[track_caller]
fn assert_all_on(world: &World, color: &str) {
    assert_eq!(world.record.as_deref(), Some(color));
    for (key, observed) in &world.routes {
        assert!((observed.terminal.share(&format!("tg-{color}")) - 100.0).abs() < 0.001, "{key}: {observed:?}");
    }
}

/// Whatever happened, no route ever led anywhere but to one color.
#[track_caller]
fn assert_history_is_whole(fake: &Fake) {
    for world in fake.history() {
        for observed in world.routes.values() {
            let share = observed.terminal.share("tg-blue") + observed.terminal.share("tg-green");
            assert!((share - 100.0).abs() < 0.001, "{observed:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_switch_makes_one_call_for_each_route_and_the_record() {
    let fake = Fake::new(world(), &GROUPS);
    let outcome = run(&fake, &intent(), &Cancel::never()).await;
    assert_eq!(outcome.ending, Ending::Done);
    assert_all_on(&fake.world(), "green");
    // Green was nowhere: one more call makes its health known.
    assert_eq!(fake.calls(), ["set web", "set web", "set api", "create web#10", "write /app/live"]);
}

#[tokio::test(start_paused = true)]
async fn every_call_may_fail_and_everything_goes_back() {
    for call in 0..5 {
        for fault in [Fault::Refused, Fault::LostAnswer] {
            let fake = Fake::new(world(), &GROUPS);
            fake.fault(call, fault);
            let outcome = run(&fake, &intent(), &Cancel::never()).await;
            assert_history_is_whole(&fake);
            if call == 4 {
                // What was verified is not taken back for a parameter.
                assert_eq!(outcome.ending, Ending::Done, "call {call} {fault:?}");
                let left = usize::from(fault == Fault::Refused);
                assert_eq!(outcome.journal.left().count(), left, "call {call} {fault:?}");
            } else {
                assert_eq!(outcome.ending, Ending::RolledBack, "call {call} {fault:?}");
                assert_eq!(fake.world(), world(), "call {call} {fault:?}");
            }
            fake.heal();
            assert_eq!(run(&fake, &intent(), &Cancel::never()).await.ending, Ending::Done);
            assert_all_on(&fake.world(), "green");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_call_the_next_run_finishes() {
    for call in 0..5 {
        for fault in [Fault::DiesBefore, Fault::DiesAfter] {
            let fake = Fake::new(world(), &GROUPS);
            fake.fault(call, fault);
            let (intent, cancel) = (intent(), Cancel::never());
            tokio::select! {
                outcome = run(&fake, &intent, &cancel) => panic!("call {call} {fault:?}: {outcome:?}"),
                () = fake.died() => {}
            }
            assert_history_is_whole(&fake);
            fake.heal();
            assert_eq!(run(&fake, &intent, &cancel).await.ending, Ending::Done, "call {call} {fault:?}");
            assert_all_on(&fake.world(), "green");
            assert!(planner::plan(&intent, &fake.world()).unwrap().is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_stuck_and_the_next_run_comes_right() {
    for undo in 4..6 {
        let fake = Fake::new(world(), &GROUPS);
        // The rule is refused, and then one of the routes' ways back.
        fake.fault(3, Fault::Refused);
        fake.fault(undo, Fault::Refused);
        let outcome = run(&fake, &intent(), &Cancel::never()).await;
        assert_eq!(outcome.ending, Ending::Stuck, "undo {undo}");
        assert_eq!(outcome.journal.undo_failures().count(), 1);
        assert_history_is_whole(&fake);
        fake.heal();
        assert_eq!(run(&fake, &intent(), &Cancel::never()).await.ending, Ending::Done);
        assert_all_on(&fake.world(), "green");
    }
}

#[tokio::test(start_paused = true)]
async fn unhealthy_targets_stop_it_before_the_first_change() {
    let mut before = world();
    for observed in before.routes.values_mut() {
        observed.terminal = forward(&[("blue", 100), ("green", 0)]);
    }
    let fake = Fake::new(before.clone(), &GROUPS);
    fake.set_health("tg-green", &["healthy", "unhealthy"]);
    let outcome = run(&fake, &intent(), &Cancel::never()).await;
    assert_eq!(outcome.ending, Ending::RolledBack);
    assert_eq!(fake.calls(), Vec::<String>::new());
    let (_, reason) = outcome.journal.reason().unwrap();
    expect_test::expect![[r#"
        green has 1 healthy of 2 registered targets, 2 are needed (100 % of the live color's 2)
          10.0.0.2:80: unhealthy (Target.Timeout: Request timed out)
        after 5m (validation.healthy.timeout)"#]]
    .assert_eq(&reason);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_is_tried_again_and_then_told() {
    let check = HttpCheck {
        url: "http://{color}.example.com/health".to_owned(),
        status: vec![200, 204],
        retries: Some(2),
        retry_delay: Duration::from_secs(1),
        ..HttpCheck::default()
    };
    let mut intent = intent();
    intent.validation.checks.push(before(Check::Http(check)));
    let fake = Fake::new(world(), &GROUPS);
    fake.set_status(500);
    let outcome = run(&fake, &intent, &Cancel::never()).await;
    assert_eq!(outcome.ending, Ending::RolledBack);
    assert_eq!(fake.world(), world());
    let (_, reason) = outcome.journal.reason().unwrap();
    expect_test::expect![[r#"GET http://green.example.com/health answered with status 500 instead of 200 or 204; the body begins "hello" (3 tries)"#]]
    .assert_eq(&reason);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_waiting_goes_back_at_once() {
    let fake = Fake::new(world(), &GROUPS);
    fake.set_health("tg-green", &["initial", "initial"]);
    let source = CancelSource::new();
    let cancel = source.token();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        source.stop();
    };
    let start = tokio::time::Instant::now();
    let intent = intent();
    let (outcome, ()) = futures::future::join(run(&fake, &intent, &cancel), stop).await;
    assert_eq!(outcome.ending, Ending::RolledBack);
    assert_eq!(outcome.journal.reason().unwrap().1, "the run was interrupted");
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(fake.world(), world());
}

#[tokio::test(start_paused = true)]
async fn the_operations_time_ends_a_wait() {
    let fake = Fake::new(world(), &GROUPS);
    fake.set_health("tg-green", &["initial"]);
    let mut intent = intent();
    intent.validation.healthy.timeout = Duration::from_secs(86_400);
    let outcome = run(&fake, &intent, &Cancel::never()).await;
    assert_eq!(outcome.ending, Ending::RolledBack);
    assert_eq!(outcome.journal.reason().unwrap().1, "the operation's time of 30m ended first");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_not_taken_for_undone() {
    // The way back sees again after a while, or never.
    for looks in [1, 3, usize::MAX] {
        for calls in 1..=5 {
            let mut before = world();
            before.routes.insert(
                own_rule().key(),
                Observed {
                    conditions: Some(Conditions { path_patterns: vec!["/api/*".to_owned()], ..Conditions::default() }),
                    ..Observed::leading(own_rule().key(), forward(&[("blue", 1)]))
                },
            );
            let fake = Fake::new(before.clone(), &GROUPS);
            fake.blind(calls, looks);
            let outcome = run(&fake, &intent(), &Cancel::never()).await;
            if outcome.ending == Ending::Done {
                // What was written down is not undone because it can't be seen once more.
                assert!(calls > 1, "a look failed and was not noticed");
                assert_all_on(&fake.world(), "green");
                continue;
            }
            assert_eq!(outcome.ending, Ending::RolledBack, "calls {calls} looks {looks}");
            assert_eq!(fake.world(), before, "calls {calls} looks {looks}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_made_meanwhile_is_not_deleted() {
    let fake = Fake::new(world(), &GROUPS);
    let scope = Scope { routes: intent().routes, record: intent().record, ..Scope::default() };
    let runbook = planner::plan(&intent(), &world()).unwrap();
    // While the checks run, another team takes the priority.
    let theirs = Observed {
        conditions: Some(Conditions { path_patterns: vec!["/theirs/*".to_owned()], ..Conditions::default() }),
        ..Observed::leading("web#10".to_owned(), forward(&[("blue", 1)]))
    };
    fake.insert_unseen("web#10", theirs.clone());
    let run = Run {
        ports: &fake.ports(),
        runbook: &runbook,
        scope: &scope,
        tags: &BTreeMap::new(),
        about: &RolloutContext::default(),
        lock: None,
        cancel: &Cancel::never(),
        watched: std::sync::OnceLock::new(),
        limit: Duration::from_secs(1800),
        lasting: None,
    };
    let outcome = run.run(world()).await;
    assert_eq!(outcome.ending, Ending::RolledBack, "{outcome:?}");
    assert_eq!(fake.world().routes.get("web#10"), Some(&theirs));
    assert!((fake.world().routes["web"].terminal.share("tg-blue") - 100.0).abs() < 0.001);
}

/// Blue has four, green two; the rollout raises green, and leaves blue at its minimum afterwards.
fn sized() -> (Intent, World) {
    let mut intent = intent();
    for (color, one) in &mut intent.environments {
        one.scalable = Some(Scalable::ScalingGroup(color.clone()));
    }
    intent.capacity = Some(CapacityPolicy { before: Before::MatchLive, after_idle: Some(1) });
    let size = |desired| Capacity { min: Some(2), max: 6, desired, pinned: None };
    let capacities = BTreeMap::from([("blue".to_owned(), size(4)), ("green".to_owned(), size(2))]);
    (intent, World { capacities, ..world() })
}

#[track_caller]
fn assert_sized(world: &World, blue: i32, green: i32) {
    let size = |desired| Capacity { min: Some(2), max: 6, desired, pinned: None };
    assert_eq!(world.capacities["blue"], size(blue));
    assert_eq!(world.capacities["green"], size(green));
}

#[tokio::test(start_paused = true)]
async fn room_comes_before_traffic_and_goes_after_it() {
    let (intent, world) = sized();
    let words = planner::plan(&intent, &world).unwrap().summary();
    let expected = expect_test::expect![[r#"
        hold the minimum of blue at 4 (it is 2)
        hold the minimum of green at 4 (it is 2), raise green from 2 to 4
        set listener web: blue 100 % → blue 100 %, green 0 %
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web: blue 100 %, green 0 % → blue 0 %, green 100 %
        set listener api: blue 100 % → blue 0 %, green 100 %
        create rule 10 of listener web: blue 0 %, green 100 %
        write /app/live: blue → green
        give blue its minimum of 2 back, lower blue from 4 to 2
        give green its minimum of 2 back"#]];
    expected.assert_eq(&words.join("\n"));
    let fake = Fake::new(world, &GROUPS);
    assert_eq!(run(&fake, &intent, &Cancel::never()).await.ending, Ending::Done);
    assert_sized(&fake.world(), 2, 4);
    let calls = fake.calls().len();
    for call in 0..calls {
        for fault in [Fault::Refused, Fault::LostAnswer, Fault::DiesBefore, Fault::DiesAfter] {
            let (intent, world) = sized();
            let fake = Fake::new(world.clone(), &GROUPS);
            fake.fault(call, fault);
            let cancel = Cancel::never();
            tokio::select! {
                // The record and what comes after it undo nothing.
                outcome = run(&fake, &intent, &cancel) => { if call + 3 >= calls {
                    assert_eq!(outcome.ending, Ending::Done, "call {call} {fault:?}");
                    // What is seen to be written is, whatever was answered; of sizes a look may be old.
                    let is_seen = call + 3 == calls && fault == Fault::LostAnswer;
                    assert_eq!(outcome.journal.left().count(), usize::from(!is_seen), "call {call} {fault:?}");
                    assert!(fake.world().routes.values().all(|seen| seen.terminal.share("tg-green") > 99.9));
                } else {
                    assert_eq!(outcome.ending, Ending::RolledBack, "call {call} {fault:?}");
                    assert_eq!(fake.world(), world, "call {call} {fault:?}");
                } }
                () = fake.died() => {}
            }
            fake.heal();
            assert_eq!(run(&fake, &intent, &cancel).await.ending, Ending::Done, "call {call} {fault:?}");
            assert_all_on(&fake.world(), "green");
            assert_sized(&fake.world(), 2, 4);
            assert!(planner::plan(&intent, &fake.world()).unwrap().is_empty());
        }
    }
}

#[test]
fn a_color_that_can_t_be_large_enough_is_refused() {
    let (intent, mut world) = sized();
    world.capacities.get_mut("green").unwrap().max = 3;
    let refused = planner::plan(&intent, &world).unwrap_err();
    assert_eq!(refused, planner::Refusal::TooSmall { color: "green".to_owned(), wanted: 4, max: 3 });
}

/// A journal of these, and what is written in the place of an entry that it refuses.
fn refused(runbook: &Runbook, entries: &[Entry], illegal: Entry) -> Journal {
    let mut journal = Journal::default();
    entries.iter().for_each(|entry| journal.push(entry.clone()).unwrap());
    let refused = journal.push(illegal).unwrap_err();
    give_up_counting(runbook, &mut journal, &refused);
    journal
}

#[test]
fn a_run_that_lost_count_goes_back_or_calls_a_person() {
    let (intent, world) = sized();
    let runbook = planner::plan(&intent, &world).unwrap();
    let id = |stage| StepId { stage, step: 0 };
    // Green has traffic when it is noticed: the route goes back to where it was before it was given green at weight 0.
    let begun: Vec<Entry> = (0..4).flat_map(|stage| [Entry::Began(id(stage)), Entry::Done(id(stage))]).collect();
    let journal = refused(&runbook, &begun, Entry::Done(id(3)));
    assert!(journal.reason().unwrap().1.contains("its journal refuses an entry (Done of stage 4, step 1"));
    let moved = runbook.after(&world, |step| step.stage < 4);
    assert_eq!(machine::next(&runbook, &journal, Some(&moved)), Decision::Undo(vec![id(1)]));
    // On the way back the rest is undone, and then it is stuck.
    let undone = [begun.as_slice(), &[Entry::Interrupted, Entry::Undone(id(1))]].concat();
    let journal = refused(&runbook, &undone, Entry::Undone(id(1)));
    assert_eq!(machine::next(&runbook, &journal, None), Decision::Undo(vec![id(0)]));
    let mut journal = refused(&runbook, &undone, Entry::Began(id(4)));
    journal.push(Entry::Undone(id(0))).unwrap();
    assert_eq!(machine::next(&runbook, &journal, None), Decision::Stuck);
    // A size whose call was repeated is not taken back before the route.
    let late = [begun.as_slice(), &[Entry::Repeated(id(0)), Entry::Interrupted]].concat();
    let mut journal = Journal::default();
    late.into_iter().for_each(|entry| journal.push(entry).unwrap());
    assert_eq!(machine::next(&runbook, &journal, Some(&moved)), Decision::Undo(vec![id(1)]));
    // And not for ever, where its undo changes nothing.
    journal.push(Entry::Undone(id(1))).unwrap();
    let back = runbook.after(&world, |step| step.stage < 1);
    for _ in 0..2 {
        assert_eq!(machine::next(&runbook, &journal, Some(&back)), Decision::Undo(vec![id(0)]));
        journal.push(Entry::Undone(id(0))).unwrap();
    }
    // What may still come is waited for, as ever.
    assert_eq!(machine::next(&runbook, &journal, Some(&back)), Decision::Await(vec![id(0)]));
    // Where a route can't go back, its users stay where they are, and no size is taken from under them.
    let mut journal = Journal::default();
    let failed = [begun.as_slice(), &[Entry::Interrupted, Entry::UndoFailed(id(1), "no".to_owned())]].concat();
    failed.into_iter().for_each(|entry| journal.push(entry).unwrap());
    assert_eq!(machine::next(&runbook, &journal, Some(&moved)), Decision::Stuck);
    // One that has arrived stays.
    let last = runbook.afterwards.unwrap();
    let before = runbook.steps().map(|(id, _)| id).filter(|id| id.stage < last);
    let arrived: Vec<Entry> = before.flat_map(|id| [Entry::Began(id), Entry::Done(id)]).collect();
    let journal = refused(&runbook, &arrived, Entry::Done(id(last)));
    assert_eq!(journal.left().map(|(step, _)| step).collect::<Vec<_>>(), [id(last)]);
    assert!(!journal.is_broken());
}
