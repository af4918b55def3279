//! What a migration remembers between runs, and the attributes that it computes.

use serde::{Deserialize, Serialize};

use crate::migration::{Entry, Phase, highest};
use crate::run::migration::migrator::Seen;
use crate::tf_provider::Value;

/// What is stored beside the state, for the provider alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PrivateState {
    /// The ledger, as the last refresh or apply saw it.
    pub seen: Option<Seen>,
}

impl PrivateState {
    /// Reads what was stored; nothing of it is needed to go on.
    pub fn read(bytes: &[u8]) -> PrivateState {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// What is to be stored.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Writes what the ledger says into a state.
pub(super) fn set_ledger(state: &mut Value, seen: &Seen) {
    let (ledger, runs) = (&seen.ledger, seen.holder.is_some());
    let name = state.get("name").as_str().unwrap_or_default().to_owned();
    state.set("id", Value::from(name.as_str()));
    state.set("phase", Value::from(highest(ledger).map(Phase::name)));
    let phases = ledger.iter().map(|(phase, entry)| (phase.name(), phase_value(entry, runs)));
    state.set("phases", Value::object(phases));
    let contract = ledger.get(&Phase::Contract).filter(|entry| entry.done && !entry.live.is_empty());
    let contracted = contract.map_or(Value::Null, |entry| {
        Value::object([
            ("color", Value::from(entry.live.as_str())),
            ("at", Value::from(entry.finished_at.as_str())),
            ("migration", Value::from(name.as_str())),
        ])
    });
    state.set("contracted_for", contracted);
}

fn phase_value(entry: &Entry, runs: bool) -> Value {
    let text = |text: &str| Value::from(Some(text).filter(|text| !text.is_empty()));
    let status = match (entry.done, entry.resumable || runs) {
        (true, _) => "done",
        (false, true) => "running",
        (false, false) => "dirty",
    };
    Value::object([
        ("checksum", text(&entry.checksum)),
        ("status", Value::from(status)),
        ("started_at", text(&entry.started_at)),
        ("finished_at", text(&entry.finished_at)),
        ("by", text(&entry.by)),
        ("statements", Value::from(entry.statements)),
        ("rows", Value::from(entry.rows)),
    ])
}
