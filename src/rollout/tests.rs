//! Rendered runbooks and transitions of the machine.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::machine::{Decision, next};
use super::*;

fn listener(weights: &[(&str, u32)]) -> Observed {
    let groups = weights.iter().map(|(color, weight)| (format!("tg-{color}"), *weight)).collect();
    Observed {
        arn: "web".to_owned(),
        terminal: Terminal::Forward(Forward { groups, stickiness: None }),
        conditions: None,
    }
}

fn intent(active: &str) -> Intent {
    let environment = |color: &str| {
        let environment = Environment { target_group_arn: format!("tg-{color}"), release: None };
        (color.to_owned(), environment)
    };
    Intent {
        active: active.to_owned(),
        environments: BTreeMap::from([environment("blue"), environment("green")]),
        routes: vec![RouteSpec::Listener("web".to_owned())],
        preview_routes: Vec::new(),
        record: Some("/app/live".to_owned()),
        validation: Validation::default(),
    }
}

fn world(weights: &[(&str, u32)], record: Option<&str>) -> World {
    let routes = BTreeMap::from([("web".to_owned(), listener(weights))]);
    World { routes, record: record.map(str::to_owned) }
}

#[track_caller]
fn check(intent: &Intent, world: &World, expected: Expect) {
    let runbook = planner::plan(intent, world).unwrap();
    assert_eq!(lint::lint(&runbook), Vec::<String>::new());
    expected.assert_eq(&runbook.words().join("\n"));
}

#[test]
fn a_switch_validates_then_moves_then_records() {
    check(
        &intent("green"),
        &world(&[("blue", 100), ("green", 0)], Some("blue")),
        expect![[r#"
            check that green has at least 1 healthy target and 100 % of the live colour's
            set listener web: blue 100 %, green 0 % → blue 0 %, green 100 %
            write /app/live: blue → green"#]],
    );
}

#[test]
fn a_colour_that_is_missing_joins_before_it_is_checked() {
    check(
        &intent("green"),
        &world(&[("blue", 1)], None),
        expect![[r#"
            set listener web: blue 100 % → blue 100 %, green 0 %
            check that green has at least 1 healthy target and 100 % of the live colour's
            set listener web: blue 100 %, green 0 % → blue 0 %, green 100 %
            create /app/live: green"#]],
    );
}

#[test]
fn nothing_is_done_where_nothing_is_to_be_done() {
    check(&intent("blue"), &world(&[("blue", 1), ("green", 0)], Some("blue")), expect![""]);
}

#[test]
fn a_failed_step_leads_back_and_a_failed_undo_is_stuck() {
    let before = world(&[("blue", 100), ("green", 0)], Some("blue"));
    let runbook = planner::plan(&intent("green"), &before).unwrap();
    let id = |stage| StepId { stage, step: 0 };
    let mut journal = Journal::default();
    assert_eq!(next(&runbook, &journal, &before), Decision::Do(vec![id(0)]));
    journal.push(Entry::Began(id(0)));
    journal.push(Entry::Done(id(0)));
    assert_eq!(next(&runbook, &journal, &before), Decision::Do(vec![id(1)]));
    journal.push(Entry::Began(id(1)));
    let moved = world(&[("blue", 0), ("green", 100)], Some("blue"));
    assert_eq!(next(&runbook, &journal, &moved), Decision::Do(vec![id(2)]));
    journal.push(Entry::Began(id(2)));
    journal.push(Entry::Failed(id(2), "denied".to_owned()));
    assert_eq!(next(&runbook, &journal, &moved), Decision::Undo(vec![id(1)]));
    assert_eq!(next(&runbook, &journal, &before), Decision::RolledBack);
    journal.push(Entry::UndoFailed(id(1), "denied".to_owned()));
    assert_eq!(next(&runbook, &journal, &moved), Decision::Stuck);
}

#[test]
fn small_shares_are_never_rounded_away() {
    let intent = intent("blue");
    let seen = traffic(&intent.environments, [listener(&[("blue", 999), ("green", 1)])], None);
    assert_eq!(seen.weights, BTreeMap::from([("blue".to_owned(), 99), ("green".to_owned(), 1)]));
    assert_eq!(seen.live.as_deref(), Some("blue"));
}
