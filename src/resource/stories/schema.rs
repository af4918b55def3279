//! The database of a story: its scripts, the person who puts right what died half-way, and what must hold of what was run.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use crate::migration::{Phase, Resolve};
use crate::run::migration::in_memory::{Ran, Server};

/// The migration's name.
pub(super) const NAME: &str = "rename";
/// The color that the guard waits for.
pub(super) const GUARDED: &str = "green";

const EXPAND: [&str; 2] = ["ALTER TABLE users ADD COLUMN b int", "CREATE INDEX users_b ON users (b)"];
const BACKFILL: &str = "UPDATE users SET b = a WHERE b IS NULL";
const CONTRACT: [&str; 2] = ["ALTER TABLE users DROP COLUMN a", "ALTER TABLE users DROP COLUMN z"];

/// What kind of database there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// One whose schema can't be changed in a transaction.
    pub mysql: bool,
    /// Whether rows are moved in batches.
    pub batched: bool,
}

/// The migration of a story, as far as a phase.
pub(super) fn config(kind: Kind, record: &str) -> serde_json::Value {
    let scheme = if kind.mysql { "mysql" } else { "postgres" };
    json!({
        "name": NAME, "phase": "expand", "database": { "url": format!("{scheme}://app@127.0.0.1/app") },
        "expand": EXPAND.join(";\n"), "backfill": BACKFILL, "batched": kind.batched, "contract": CONTRACT.join(";\n"),
        "guard": { "parameter": record, "live": GUARDED, "stable_for": "1m" },
    })
}

/// An empty database with rows to move; it notes which color the record names whenever something is run.
pub(super) fn server(record: impl Fn() -> Option<String> + Send + 'static) -> Arc<Server> {
    let server = Server::new();
    server.set_left(BACKFILL, 5);
    server.look_at(record);
    server
}

fn statements(phase: Phase) -> &'static [&'static str] {
    match phase {
        Phase::Expand => &EXPAND,
        Phase::Backfill => &[BACKFILL],
        Phase::Contract => &CONTRACT,
    }
}

/// A phase that died half-way is brought to its end by hand, and that is said for one apply.
pub(super) fn tend(config: &mut serde_json::Value, server: &Server) {
    let died = server.ledger(NAME).into_iter().find(|(_, entry)| !entry.done && !entry.resumable);
    let Some((phase, _)) = died else {
        config["resolve"].take();
        return;
    };
    for sql in statements(phase) {
        if !server.ran().iter().any(|ran| ran.sql == *sql) {
            server.run_by_hand(sql);
        }
    }
    (config["phase"], config["resolve"]) = (json!(phase.name()), json!(Resolve::Applied.to_string()));
}

/// No more is asked for than has run.
pub(super) fn give_in(config: &mut serde_json::Value, server: &Server) {
    let done = server.ledger(NAME).into_iter().rfind(|(_, entry)| entry.done);
    config["phase"] = json!(done.map_or(Phase::Expand, |(phase, _)| phase).name());
}

/// Whether the schema has contracted, or is to contract.
pub(super) fn contracts(config: Option<&serde_json::Value>, server: &Server) -> bool {
    config.is_some_and(|config| config["phase"] == Phase::Contract.name()) || is_contracted(server)
}

/// Whether the schema has lost what older releases need.
pub(super) fn is_contracted(server: &Server) -> bool {
    server.ran().iter().any(|ran| CONTRACT.contains(&ran.sql.as_str()))
}

/// What holds of all that was run.
pub(super) fn check(server: &Server) -> Result<(), TestCaseError> {
    let ran = server.ran();
    let phase = |ran: &Ran| Phase::ALL.into_iter().find(|phase| statements(*phase).contains(&ran.sql.as_str()));
    let phases: Vec<Phase> = ran.iter().filter_map(phase).collect();
    prop_assert!(phases.is_sorted(), "in another order: {ran:?}");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &ran {
        *counts.entry(&one.sql).or_default() += 1;
    }
    let twice = counts.iter().find(|(sql, count)| **sql != BACKFILL && **count > 1);
    prop_assert!(twice.is_none(), "run more than once: {twice:?}");
    for one in ran.iter().filter(|one| CONTRACT.contains(&one.sql.as_str())) {
        let guarded = one.seen.as_deref().is_none_or(|live| live == GUARDED);
        prop_assert!(guarded, "{} was run while {:?} was live", one.sql, one.seen);
    }
    for (phase, _) in server.ledger(NAME).iter().filter(|(_, entry)| entry.done) {
        let missing = statements(*phase).iter().find(|sql| !ran.iter().any(|ran| ran.sql == **sql));
        prop_assert!(missing.is_none(), "the ledger has {phase}, and {missing:?} was never run");
    }
    Ok(())
}
