//! Scripts taken apart, judged, and planned.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use expect_test::{Expect, expect};

use super::*;
use crate::rollout::LockRecord;

fn script(text: &str, dialect: Dialect) -> Script {
    Script::parse(text, dialect, false, "1".to_owned()).unwrap()
}

fn apart(text: &str, dialect: Dialect) -> Vec<(usize, String)> {
    script(text, dialect).statements.into_iter().map(|one| (one.line, one.text)).collect()
}

#[test]
fn statements_end_where_psql_ends_them() {
    let text = "-- one; two\n/* a /* b; */ c; */ create table a (b text default 'it''s; \"');\n\n\
                insert into a values (E'\\';', $$x;$$, $t$ $$;$$ $t$), ('\\');\n\
                create function f() returns int\nlanguage sql begin atomic select case when 1=1 then 1 end; end;\n\
                create rule r as on insert to a do (select 1; select 2);\n;;\nselect a$b$c, $1 -- the end";
    let lines: Vec<(usize, String)> = apart(text, Dialect::Postgres);
    let starts: Vec<(usize, &str)> = lines.iter().map(|(line, text)| (*line, &text[..12])).collect();
    assert_eq!(
        starts,
        [(2, "create table"), (4, "insert into "), (5, "create funct"), (7, "create rule "), (9, "select a$b$c")]
    );
    assert!(lines[2].1.ends_with("end; end"), "{}", lines[2].1);
}

#[test]
fn statements_end_where_mysql_ends_them() {
    let text = "# one;\nset @a = 'it\\'s;', @b = \"x;\"; update `a;` set b = 1--1;\nDELIMITER //\n\
                create procedure p() begin select 1; select 2; end//\ndelimiter ;\ncall p();";
    let lines = apart(text, Dialect::Mysql);
    assert_eq!(lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 2, 4, 6]);
    assert_eq!(lines[1].1, "update `a;` set b = 1--1");
    assert_eq!(lines[2].1, "create procedure p() begin select 1; select 2; end");
}

#[test]
fn what_a_server_can_not_do_is_told_with_its_line() {
    let wrong = |text: &str, dialect| {
        let error = Script::parse(text, dialect, false, String::new()).unwrap_err();
        (error.line, error.why)
    };
    assert_eq!(wrong("select 1;\n\\i other.sql", Dialect::Postgres).0, 2);
    assert_eq!(wrong("select 1;\n\ncopy a from stdin;\n", Dialect::Postgres).0, 3);
    assert_eq!(wrong("select 1;\nselect 'a\nb", Dialect::Postgres), (2, "this string does not end".to_owned()));
    assert_eq!(wrong("select 1;\n$x$ \n", Dialect::Postgres).0, 2);
    assert_eq!(wrong("\n/* a", Dialect::Mysql).0, 2);
    assert_eq!(wrong("delimiter\n", Dialect::Mysql).0, 1);
    assert_eq!(wrong("-- nothing\n;", Dialect::Mysql).1, "there is no statement in it");
}

#[test]
fn a_position_is_a_line_of_the_file() {
    let script = script("\n-- x\nselect é,\n  wrong\n", Dialect::Postgres);
    let statement = &script.statements[0];
    assert_eq!(statement.line_of(1), 3);
    assert_eq!(statement.line_of("select é,\n  wrong".chars().count() - 4), 4);
    assert_eq!(statement.line_of(9999), 4);
}

#[test]
fn what_can_not_be_in_a_transaction_runs_step_by_step() {
    use Dialect::{Mysql, Postgres};
    let mode = |text, dialect| script(text, dialect).mode;
    assert_eq!(mode("alter table a add b int; create index on a (b)", Postgres), Mode::Transaction);
    assert_eq!(mode("create unique /* x */ index concurrently on a (b)", Postgres), Mode::Stepwise);
    assert_eq!(mode("vacuum a", Postgres), Mode::Stepwise);
    for control in ["begin; select 1; commit; select 2", "begin; select 1", "select 1; savepoint a"] {
        assert!(Script::parse(control, Postgres, false, String::new()).is_err(), "{control}");
    }
    assert!(Script::parse("set autocommit=0; update a set b = 1", Mysql, false, String::new()).is_err());
    assert!(Script::parse("select backfill(1000)", Postgres, true, String::new()).is_err());
    assert_eq!(mode("call p()", Mysql), Mode::Stepwise);
    assert_eq!(script("/*!40014 SET a=1 */;\n/* none */", Mysql).statements.len(), 1);
    let wrapped = script("BEGIN;\nalter table a add b int;\nCOMMIT;", Postgres);
    assert_eq!((wrapped.mode, wrapped.statements.len()), (Mode::Transaction, 1));
    assert_eq!(mode("update a set b = 1; insert into c values (1)", Mysql), Mode::Transaction);
    assert_eq!(mode("update a set b = 1; alter table c add d int", Mysql), Mode::Stepwise);
    assert!(Script::parse("vacuum a", Postgres, true, String::new()).is_err());
}

fn check_lint(phase: Phase, dialect: Dialect, batched: bool, text: &str, expected: &Expect) {
    let script = Script::parse(text, dialect, batched, String::new()).unwrap();
    let mut told = String::new();
    for concern in lint(&script, phase) {
        let _ = writeln!(told, "{} {:?}: {}", concern.line, concern.danger, concern.what);
    }
    expected.assert_eq(&told);
}

#[test]
fn an_expand_that_hurts_the_live_release_is_told() {
    check_lint(
        Phase::Expand,
        Dialect::Postgres,
        false,
        "-- drop table a\nalter table a drop column b, rename c to d;\nalter table a add e int not null, add f int default 1 not null;\n\
         alter table a alter g set not null, alter h type int;\ncreate index on a (i);\ncreate index concurrently on a (i);\n\
         create table n (id int); create index on n (id); alter table n add x int not null;\n\
         alter table a add constraint k check (b > 0);\nalter table a add constraint k check (b > 0) not valid;\n\
         alter table a add u uuid default gen_random_uuid(), add v timestamptz default now();\n\
         drop table a, b;\nalter table a rename to b;\nupdate a set b = 1;\nalter table a alter b drop default;\n\
         this is no sql;\nlock table a;\n",
        &expect![[r#"
            2 Breaks: dropping a.b takes it away from the release that is live
            2 Breaks: renaming a.c takes it away from the release that is live
            3 Breaks: a.e is NOT NULL without a default: the live release, which doesn't know it, can't insert
            4 Breaks: a.g becomes NOT NULL: the live release may still write it without a value
            4 Locks: SET NOT NULL reads all rows of the table while it is locked (a.g)
            4 Breaks: a.h gets another definition: values that the live release writes may no longer fit
            4 Locks: a change of a.h's type may write the whole table anew while it is locked
            5 Locks: building an index without CONCURRENTLY keeps all writes to a waiting
            8 Breaks: a check on a refuses what the live release may still write
            8 Locks: all rows of a are checked against a check while the table is locked
            9 Breaks: a check on a refuses what the live release may still write
            10 Locks: a.u has a value for each row from the start: PostgreSQL writes the whole table anew, locked
            11 Breaks: DROP TABLE takes a, b away from the release that is live
            12 Breaks: renaming a takes it away from the release that is live
            13 Locks: this UPDATE without WHERE locks every row of the table until its transaction ends
            14 Breaks: a.b loses its default: the live release may rely on it
            16 Locks: an explicit lock keeps others waiting until the end of the phase
        "#]],
    );
    check_lint(
        Phase::Expand,
        Dialect::Mysql,
        false,
        "alter table a add b int;\nalter table a change b c int not null;\nalter table a modify b varchar(10);\n\
         rename table a to b;\ncreate index i on a (b);\nalter table a add b int not null;",
        &expect![[r#"
            2 Breaks: renaming a.b takes it away from the release that is live
            2 Breaks: a.b gets another definition: values that the live release writes may no longer fit
            2 Breaks: a.b is NOT NULL: the live release may still write it without a value
            2 Locks: a change of a.b's type may write the whole table anew while it is locked
            3 Breaks: a.b gets another definition: values that the live release writes may no longer fit
            3 Locks: a change of a.b's type may write the whole table anew while it is locked
            4 Breaks: renaming a takes it away from the release that is live
            6 Breaks: a.b is NOT NULL without a default: the live release, which doesn't know it, can't insert
        "#]],
    );
}

#[test]
fn later_phases_are_judged_by_what_they_are_for() {
    let drop = "alter table a drop column b;";
    check_lint(Phase::Contract, Dialect::Postgres, false, drop, &expect![""]);
    let safe = "update a set b = c where id in (select id from a where b is null limit 1000)";
    check_lint(Phase::Backfill, Dialect::Postgres, true, safe, &expect![""]);
    check_lint(Phase::Backfill, Dialect::Mysql, true, "update a set b = c where b is null limit 1000", &expect![""]);
    let whole = "update a set b = c where b is null";
    check_lint(
        Phase::Backfill,
        Dialect::Postgres,
        true,
        whole,
        &expect![[r#"
            1 Locks: this UPDATE has no LIMIT: the first batch is the whole table
        "#]],
    );
}

fn intent(phase: Phase) -> Intent {
    let scripts = Phase::ALL.map(|phase| (phase, script("select 1", Dialect::Postgres)));
    Intent { name: "m".to_owned(), phase, scripts: BTreeMap::from(scripts), resolve: None, guard: None }
}

fn ran() -> Entry {
    Entry { checksum: "1".to_owned(), done: true, started_at: "yesterday".to_owned(), ..Entry::default() }
}

fn ledger(entries: &[(Phase, Entry)]) -> BTreeMap<Phase, Entry> {
    entries.iter().cloned().collect()
}

#[test]
fn phases_run_once_and_in_order() {
    use Phase::{Backfill, Contract, Expand};
    let run = |phase, entries: &[(Phase, Entry)]| plan(&intent(phase), &ledger(entries));
    assert_eq!(run(Contract, &[]), Ok(vec![Step::Run(Expand), Step::Run(Backfill), Step::Run(Contract)]));
    assert_eq!(run(Backfill, &[(Expand, ran())]), Ok(vec![Step::Run(Backfill)]));
    assert_eq!(run(Backfill, &[(Expand, ran()), (Backfill, ran())]), Ok(vec![]));
    assert_eq!(run(Expand, &[(Backfill, ran())]), Err(Refusal::Backwards { ran: Backfill }));
    let later = run(Contract, &[(Expand, ran()), (Contract, ran())]);
    assert_eq!(later, Err(Refusal::OutOfOrder { phase: Backfill, ran: Contract }));
    let changed = Entry { checksum: "2".to_owned(), ..ran() };
    let refused = Refusal::Changed { phase: Expand, at: "yesterday".to_owned() };
    assert_eq!(run(Contract, &[(Expand, changed)]), Err(refused.clone()));
    let mut without = intent(Contract);
    without.scripts.remove(&Expand);
    assert_eq!(plan(&without, &ledger(&[(Expand, ran())])), Err(refused));
    assert_eq!(plan(&without, &ledger(&[])), Ok(vec![Step::Run(Backfill), Step::Run(Contract)]));
}

#[test]
fn a_phase_that_died_half_way_waits_for_a_person() {
    let died = Entry { done: false, checksum: "2".to_owned(), steps_done: 1, statements: 3, ..ran() };
    let with = |resolve| Intent { resolve, ..intent(Phase::Expand) };
    let same = Entry { checksum: "1".to_owned(), ..died.clone() };
    let of = |resolve, entry: &Entry| plan(&with(resolve), &ledger(&[(Phase::Expand, entry.clone())]));
    let dirty = Refusal::Dirty { phase: Phase::Expand, entry: Box::new(same.clone()) };
    assert_eq!(of(None, &same), Err(dirty));
    assert!(matches!(of(None, &died), Err(Refusal::Dirty { .. })), "whatever its text is by now");
    let applied = vec![Step::Resolve(Phase::Expand, Resolve::Applied)];
    assert_eq!(of(Some(Resolve::Applied), &died), Ok(applied));
    let again = vec![Step::Resolve(Phase::Expand, Resolve::Reverted), Step::Run(Phase::Expand)];
    assert_eq!(of(Some(Resolve::Reverted), &died), Ok(again));
    assert_eq!(of(Some(Resolve::Reverted), &ran()), Ok(vec![]));
    let further = |entry: &Entry| {
        let intent = Intent { resolve: Some(Resolve::Applied), ..intent(Phase::Backfill) };
        plan(&intent, &ledger(&[(Phase::Expand, entry.clone())]))
    };
    assert_eq!(further(&ran()), Err(Refusal::NothingToResolve));
    assert_eq!(further(&same), Err(Refusal::ResolveAlone { phase: Phase::Expand }));
    let batches = Entry { resumable: true, ..same };
    let mut batched = with(None);
    assert!(matches!(plan(&batched, &ledger(&[(Phase::Expand, batches.clone())])), Err(Refusal::Dirty { .. })));
    batched.scripts.insert(Phase::Expand, Script { mode: Mode::Batched, ..script("select 1", Dialect::Postgres) });
    assert_eq!(plan(&batched, &ledger(&[(Phase::Expand, batches)])), Ok(vec![Step::Resume(Phase::Expand)]));
}

#[test]
fn the_guard_wants_a_color_that_has_been_live_for_long_and_no_rollout() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let day = Duration::from_secs(24 * 3600);
    let guard = Guard { parameter: "/live".to_owned(), live: "green".to_owned(), stable_for: day };
    let record = |color: &str, age: Duration| Recorded { color: color.to_owned(), since: now - age };
    assert_eq!(guard.holds(Some(&record("green", day)), None, now), Ok(()));
    assert_eq!(guard.holds(None, None, now), Err(Unmet::NoRecord));
    let other = guard.holds(Some(&record("blue", day)), None, now);
    assert_eq!(other, Err(Unmet::Other { color: "blue".to_owned() }));
    let young = guard.holds(Some(&record("green", Duration::from_secs(7205))), None, now).unwrap_err();
    assert_eq!(young.to_string(), "it has been live for 2h5s only");
    let future = Recorded { since: now + day, ..record("green", day) };
    assert!(guard.holds(Some(&future), None, now).is_err());
    let (holder, since, was) = ("somebody".to_owned(), "noon".to_owned(), Some("green".to_owned()));
    let rollout = LockRecord { holder, since, record: was, ..LockRecord::default() };
    let unmet = guard.holds(Some(&record("green", day)), Some(&rollout), now).unwrap_err();
    assert_eq!(unmet.to_string(), "the rollout to another color that somebody began at noon has not ended");
    let ended = LockRecord { record: Some("blue".to_owned()), ..rollout.clone() };
    assert_eq!(guard.holds(Some(&record("green", day)), Some(&ended), now), Ok(()));
    let held = LockRecord { status: crate::rollout::lock_record::Status::Held, ..ended };
    assert!(guard.holds(Some(&record("green", day)), Some(&held), now).is_err());
    let contract = LockRecord { what: "the contract of another migration".to_owned(), ..rollout };
    assert_eq!(guard.holds(Some(&record("green", day)), Some(&contract), now), Ok(()));
    assert_eq!(guard.to_string(), "green is live by /live, and has been for 24h");
}
