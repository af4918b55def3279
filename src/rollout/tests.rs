//! Rendered runbooks and transitions of the machine.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::machine::{Decision, next};
use super::*;

fn listener(weights: &[(&str, u32)]) -> Observed {
    let groups = weights.iter().map(|(color, weight)| (format!("tg-{color}"), *weight)).collect();
    Observed::leading("web".to_owned(), Terminal::Forward(Forward { groups, stickiness: None }))
}

fn intent(active: &str) -> Intent {
    let environment = |color: &str| {
        let environment = Environment { target_group_arn: format!("tg-{color}"), ..Environment::default() };
        (color.to_owned(), environment)
    };
    Intent {
        name: "app".to_owned(),
        active: Some(active.to_owned()),
        environments: BTreeMap::from([environment("blue"), environment("green")]),
        routes: vec![RouteSpec::Listener("web".to_owned())],
        record: Some("/app/live".to_owned()),
        ..Intent::default()
    }
}

fn world(weights: &[(&str, u32)], record: Option<&str>) -> World {
    let routes = BTreeMap::from([("web".to_owned(), listener(weights))]);
    World { routes, record: record.map(str::to_owned), ..World::default() }
}

#[track_caller]
fn check(intent: &Intent, world: &World, expected: Expect) {
    let runbook = planner::plan(intent, world).unwrap();
    assert_eq!(lint::lint(&runbook, intent, world, lint::Purpose::Rollout), Vec::new());
    expected.assert_eq(&runbook.summary().join("\n"));
}

#[test]
fn a_switch_validates_then_moves_then_records() {
    check(
        &intent("green"),
        &world(&[("blue", 100), ("green", 0)], Some("blue")),
        expect![[r#"
            check that green has at least 1 healthy target and 100 % of the live color's
            set listener web: blue 100 %, green 0 % → blue 0 %, green 100 %
            write /app/live: blue → green"#]],
    );
}

#[test]
fn a_color_that_is_missing_joins_before_it_is_checked() {
    check(
        &intent("green"),
        &world(&[("blue", 1)], None),
        expect![[r#"
            set listener web: blue 100 % → blue 100 %, green 0 %
            check that green has at least 1 healthy target and 100 % of the live color's
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
    assert_eq!(next(&runbook, &journal, Some(&before)), Decision::Do(vec![id(0)]));
    journal.push(Entry::Began(id(0))).unwrap();
    journal.push(Entry::Done(id(0))).unwrap();
    assert_eq!(next(&runbook, &journal, Some(&before)), Decision::Do(vec![id(1)]));
    journal.push(Entry::Began(id(1))).unwrap();
    let moved = world(&[("blue", 0), ("green", 100)], Some("blue"));
    assert_eq!(next(&runbook, &journal, Some(&moved)), Decision::Do(vec![id(2)]));
    journal.push(Entry::Began(id(2))).unwrap();
    journal.push(Entry::Failed(id(2), "denied".to_owned())).unwrap();
    assert_eq!(next(&runbook, &journal, Some(&moved)), Decision::Undo(vec![id(1)]));
    assert_eq!(next(&runbook, &journal, Some(&before)), Decision::RolledBack);
    // Unseen, a step that began may have had its effect.
    assert_eq!(next(&runbook, &journal, None), Decision::Undo(vec![id(2)]));
    journal.push(Entry::UndoFailed(id(1), "denied".to_owned())).unwrap();
    assert_eq!(next(&runbook, &journal, Some(&moved)), Decision::Stuck);
}

#[test]
fn small_shares_are_never_rounded_away() {
    let intent = intent("blue");
    let seen = traffic(&intent.environments, [listener(&[("blue", 999), ("green", 1)])], None);
    assert_eq!(seen.weights, BTreeMap::from([("blue".to_owned(), 99), ("green".to_owned(), 1)]));
    assert_eq!(seen.live.as_deref(), Some("blue"));
}

/// One whose ARN is known.
fn made_rule(priority: i32, path: &str, made: &str) -> RouteSpec {
    let RouteSpec::OwnRule { listener, priority, conditions, .. } = own_rule(priority, path) else { unreachable!() };
    RouteSpec::OwnRule { listener, priority, conditions, processing: Box::default(), arn: Some(made.to_owned()) }
}

fn own_rule(priority: i32, path: &str) -> RouteSpec {
    let conditions = Conditions { path_patterns: vec![path.to_owned()], ..Conditions::default() };
    RouteSpec::OwnRule { listener: "web".to_owned(), priority, conditions, processing: Box::default(), arn: None }
}

#[test]
fn where_nothing_can_be_attached_health_is_checked_before_the_record() {
    let mut world = world(&[], None);
    let fixed = Terminal::FixedResponse { status: "503".to_owned(), content_type: None, body: None };
    world.routes.get_mut("web").unwrap().terminal = fixed;
    check(
        &intent("green"),
        &world,
        expect![[r#"
            set listener web: a fixed 503 answer → blue 0 %, green 100 %
            check that green has at least 1 healthy target
            create /app/live: green"#]],
    );
}

#[test]
fn a_follower_moves_nothing_and_overwrites_nothing() {
    let follower = Intent { active: None, ..intent("blue") };
    check(&follower, &world(&[("blue", 30), ("green", 70)], Some("blue")), expect![""]);
    check(
        &follower,
        &world(&[("green", 1)], None),
        expect![[r#"
            set listener web: green 100 % → green 100 %, blue 0 %
            create /app/live: green"#]],
    );
}

#[test]
fn rules_of_our_own_come_change_and_go_with_the_wish() {
    let mut wish = intent("green");
    wish.routes.push(own_rule(10, "/api/*"));
    wish.preview_routes.push(own_rule(11, "/preview/*"));
    let mut seen = world(&[("blue", 100), ("green", 0)], Some("blue"));
    check(
        &wish,
        &seen,
        expect![[r#"
            check that green has at least 1 healthy target and 100 % of the live color's
            set listener web: blue 100 %, green 0 % → blue 0 %, green 100 %
            create rule 10 of listener web: blue 0 %, green 100 %
            write /app/live: blue → green
            create rule 11 of listener web: blue 100 %, green 0 %"#]],
    );
    // A check may go by way of the preview: that one is there first, and leads to the color that is checked.
    let http = Check::Http(HttpCheck { url: "http://x.org/preview/health".to_owned(), ..HttpCheck::default() });
    let checking = Checking { block: Block::Validation, index: Some(0), subject: Subject::default(), check: http };
    let mut checked = wish.clone();
    checked.validation.checks.push(checking);
    check(
        &checked,
        &seen,
        expect![[r#"
        check that green has at least 1 healthy target and 100 % of the live color's
        create rule 11 of listener web: blue 0 %, green 100 %
        check that green answers GET http://x.org/preview/health
        set listener web: blue 100 %, green 0 % → blue 0 %, green 100 %
        create rule 10 of listener web: blue 0 %, green 100 %
        write /app/live: blue → green
        set rule 11 of listener web: blue 0 %, green 100 % → blue 100 %, green 0 %"#]],
    );
    let ours = |path: &str| Observed {
        conditions: Some(Conditions { path_patterns: vec![path.to_owned()], ..Conditions::default() }),
        ..listener(&[("blue", 100), ("green", 0)])
    };
    seen.routes.insert("web#10".to_owned(), ours("/other/*"));
    assert_eq!(planner::plan(&wish, &seen), Err(planner::Refusal::PriorityTaken(Box::new(own_rule(10, "/api/*")))));
    wish.routes[1] = made_rule(10, "/api/*", "web");
    wish.preview_routes.clear();
    wish.removed.push(made_rule(11, "/preview/*", "web#11"));
    seen.routes.insert("web#11".to_owned(), ours("/preview/*"));
    check(
        &wish,
        &seen,
        expect![[r#"
            check that green has at least 1 healthy target and 100 % of the live color's
            set listener web: blue 100 %, green 0 % → blue 0 %, green 100 %
            set rule 10 of listener web: blue 100 %, green 0 % → blue 0 %, green 100 %
            change the conditions of rule 10 of listener web
            write /app/live: blue → green"#]],
    );
}

#[test]
fn a_rule_that_a_killed_run_made_is_known_by_its_looks() {
    let mut wish = intent("blue");
    wish.routes.push(own_rule(10, "/api/*"));
    let mut seen = world(&[("blue", 100), ("green", 0)], Some("blue"));
    let conditions = Some(Conditions { path_patterns: vec!["/api/*".to_owned()], ..Conditions::default() });
    let made = Observed { conditions, ..listener(&[("blue", 100), ("green", 0)]) };
    seen.routes.insert("web#10".to_owned(), made);
    check(&wish, &seen, expect![""]);
}

#[test]
fn the_end_takes_away_what_was_made_and_restores_what_was_there() {
    let seen = world(&[("blue", 0), ("green", 100)], Some("green"));
    let wish = intent("green");
    let originals = [(wish.routes[0].clone(), listener(&[("blue", 1)]).terminal)];
    let runbook = planner::plan_restoration(&wish, &originals, &seen);
    expect![[r#"
        check that blue has at least 1 healthy target and 100 % of the live color's
        set listener web: blue 0 %, green 100 % → blue 100 %, as before"#]]
    .assert_eq(&runbook.summary().join("\n"));
    let removal = Removal { own_rules: vec![own_rule(10, "/api/*")], record: Some(("/app/live".to_owned(), None)) };
    let runbook = planner::plan_removal(&removal, &seen);
    assert_eq!(runbook.on_failure, OnFailure::Leave);
    expect!["delete /app/live"].assert_eq(&runbook.summary().join("\n"));
    // A look that doesn't show it may be an old one.
    let blind = World { record: None, ..seen };
    let id = StepId { stage: 0, step: 0 };
    assert_eq!(next(&runbook, &Journal::default(), Some(&blind)), Decision::Do(vec![id]));
}

#[test]
fn the_idle_color_is_the_next_one() {
    let colors: BTreeMap<String, ()> = ["blue", "green", "red"].map(|color| (color.to_owned(), ())).into();
    assert_eq!(situation::idle(&colors, "blue"), Some("green"));
    assert_eq!(situation::idle(&colors, "red"), Some("blue"));
    assert_eq!(situation::idle(&BTreeMap::from([("blue".to_owned(), ())]), "blue"), None);
}

#[test]
fn whoever_gains_traffic_is_checked_whatever_it_had() {
    check(
        &intent("green"),
        &world(&[("blue", 49), ("green", 51)], Some("green")),
        expect![[r#"
            check that green has at least 1 healthy target
            set listener web: blue 49 %, green 51 % → blue 0 %, green 100 %"#]],
    );
    check(
        &intent("blue"),
        &world(&[("legacy", 90), ("blue", 10)], Some("blue")),
        expect![[r#"
            check that blue has at least 1 healthy target and 100 % of the live color's
            set listener web: tg-legacy 90 %, blue 10 % → blue 100 %, green 0 %"#]],
    );
}

#[test]
fn a_rule_that_is_wanted_by_its_arn_is_not_deleted() {
    let mut wish = intent("blue");
    let mut seen = world(&[("blue", 100), ("green", 0)], Some("blue"));
    let rule = Observed { arn: "rule-arn".to_owned(), ..listener(&[("blue", 100), ("green", 0)]) };
    seen.routes.insert("web#10".to_owned(), rule.clone());
    seen.routes.insert("rule-arn".to_owned(), rule);
    wish.routes.push(RouteSpec::Rule("rule-arn".to_owned()));
    wish.removed.push(made_rule(10, "/api/*", "rule-arn"));
    check(&wish, &seen, expect![""]);
    // One that somebody else put in the place of ours is not ours to delete either.
    wish.routes.pop();
    wish.removed = vec![made_rule(10, "/api/*", "another-arn")];
    check(&wish, &seen, expect![""]);
}

#[test]
fn secrets_in_an_address_are_not_shown() {
    let check =
        HttpCheck { url: "https://me:secret@x.org:8443/health?key=secret#secret".to_owned(), ..HttpCheck::default() };
    assert_eq!(check.shown_url(), "https://x.org:8443/health");
    assert_eq!(HttpCheck { url: "http://x.org?key=secret".to_owned(), ..check }.shown_url(), "http://x.org");
}

fn shifts(permilles: &[u32]) -> Vec<Shift> {
    let hold = std::time::Duration::from_secs(60);
    permilles.iter().map(|permille| Shift { permille: *permille, hold }).collect()
}

#[test]
fn a_follower_splits_nothing_where_no_color_is_live() {
    let mut follower = Intent { active: None, ..intent("blue") };
    follower.strategy.steps = shifts(&[100]);
    check(
        &follower,
        &world(&[("legacy", 1)], Some("blue")),
        expect!["set listener web: tg-legacy 100 % → tg-legacy 100 %, blue 0 %, green 0 %"],
    );
}

#[test]
fn a_route_that_cannot_be_split_is_not_watched_at_a_step() {
    let mut wish = intent("green");
    wish.strategy.steps = shifts(&[100]);
    check(
        &wish,
        &world(&[("blue", 1), ("a", 1), ("b", 1), ("c", 1), ("d", 1)], Some("blue")),
        expect![[r#"
            set listener web: blue 20 %, tg-a 20 %, tg-b 20 %, tg-c 20 %, tg-d 20 % → blue 0 %, green 100 %
            check that green has at least 1 healthy target and 100 % of the live color's
            write /app/live: blue → green"#]],
    );
}

#[test]
fn what_is_left_by_a_step_is_divided_without_a_remainder() {
    let mut wish = intent("green");
    wish.strategy.steps = shifts(&[990, 999]);
    let seen = world(&[("blue", 50), ("a", 25), ("b", 25), ("green", 0)], Some("blue"));
    let runbook = planner::plan(&wish, &seen).unwrap();
    let weights = |step: &Step| match step {
        Step::Route { after: Terminal::Forward(forward), .. } => Some(forward.groups.clone()),
        _ => None,
    };
    let told: Vec<String> = runbook.steps().filter_map(|(_, step)| Some(format!("{:?}", weights(step)?))).collect();
    expect![[r#"
        [("tg-blue", 4), ("tg-green", 990), ("tg-a", 3), ("tg-b", 3)]
        [("tg-blue", 0), ("tg-green", 999), ("tg-a", 1), ("tg-b", 0)]
        [("tg-blue", 0), ("tg-green", 100)]"#]]
    .assert_eq(&told.join("\n"));
    check(
        &wish,
        &seen,
        expect![[r#"
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web: blue 50 %, tg-a 25 %, tg-b 25 %, green 0 % → blue 0.4 %, green 99 %, tg-a 0.3 %, tg-b 0.3 %
        hold green at 99 % for 1m
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web: blue 0.4 %, green 99 %, tg-a 0.3 %, tg-b 0.3 % → blue 0 %, green 99.9 %, tg-a 0.1 %, tg-b 0 %
        hold green at 99.9 % for 1m
        check that green has at least 1 healthy target and 100 % of the live color's
        set listener web: blue 0 %, green 99.9 %, tg-a 0.1 %, tg-b 0 % → blue 0 %, green 100 %
        write /app/live: blue → green"#]],
    );
}

#[test]
fn a_rule_that_a_dead_rollout_made_does_not_keep_the_splits_stickiness() {
    let mut wish = intent("green");
    wish.routes.push(own_rule(10, "/api/*"));
    wish.strategy.steps = shifts(&[100]);
    wish.stickiness = Some(std::time::Duration::from_secs(300));
    let origin = listener(&[("blue", 100), ("green", 0)]);
    let (from, to) = (Some("red".to_owned()), Some("blue".to_owned()));
    let mut left =
        LockRecord { version: lock_record::VERSION, switch: "app".to_owned(), from, to, ..LockRecord::default() };
    left.note_origins([("web".to_owned(), &origin)], &wish.environments);
    let conditions = Some(Conditions { path_patterns: vec!["/api/*".to_owned()], ..Conditions::default() });
    let mut seen = world(&[("blue", 100), ("green", 0)], Some("red"));
    seen.routes.insert("web#10".to_owned(), Observed { conditions, ..origin });
    seen.lock_record = Some(left);
    let runbook = planner::plan(&wish, &seen).unwrap();
    assert_eq!(runbook.taken_over.len(), 1);
    assert_eq!(lint::lint(&runbook, &wish, &seen, lint::Purpose::Rollout), Vec::new());
    let after = runbook.after(&seen, |_| true);
    assert_eq!(after.routes["web#10"].terminal.stickiness(), None);
}

#[test]
fn a_preview_that_showed_a_color_for_its_checks_is_restored_too() {
    let mut wish = intent("green");
    wish.preview_routes.push(RouteSpec::Listener("preview".to_owned()));
    let http = Check::Http(HttpCheck { url: "http://x.org/".to_owned(), ..HttpCheck::default() });
    let checking = Checking { block: Block::Validation, index: Some(0), subject: Subject::default(), check: http };
    wish.validation.checks.push(checking);
    let mut seen = world(&[("blue", 0), ("green", 100)], Some("green"));
    let legacy = listener(&[("legacy", 1)]);
    seen.routes.insert("preview".to_owned(), legacy.clone());
    let originals = [
        (wish.routes[0].clone(), listener(&[("blue", 1)]).terminal),
        (wish.preview_routes[0].clone(), legacy.terminal),
    ];
    let runbook = planner::plan_restoration(&wish, &originals, &seen);
    assert_eq!(lint::lint(&runbook, &wish, &seen, lint::Purpose::Restoration(&originals)), Vec::new());
    expect![[r#"
        check that blue has at least 1 healthy target and 100 % of the live color's
        set listener preview: tg-legacy 100 % → blue 100 %, green 0 %
        check that blue answers GET http://x.org/
        set listener web: blue 0 %, green 100 % → blue 100 %, as before
        set listener preview: blue 100 %, green 0 % → tg-legacy 100 %, as before"#]]
    .assert_eq(&runbook.summary().join("\n"));
}
