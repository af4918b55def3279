//! From a configuration to a intent free of Terraform.

use std::collections::BTreeMap;

use crate::argument::Field;
use crate::database::Address;
use crate::digest;
use crate::migration::{Dialect, Intent, Phase, Script, Unreadable, spec};
use crate::run::migration::migrator::Limits;
use crate::tf_provider::Value;

/// The URL of a configuration: written to the state, or write-only.
pub(super) fn url(config: &Value) -> &Value {
    let database = config.get("database");
    let url = database.get("url");
    if url.is_null() { database.get("url_wo") } else { url }
}

/// The dialect that a configuration's URL says; none if it is unknown, or no URL.
pub(super) fn dialect(config: &Value) -> Option<Dialect> {
    Dialect::of_url(url(config).as_str()?)
}

/// The URL of a configuration's database and how its server is trusted; none if something about it is unknown.
pub(super) fn place(config: &Value) -> Option<(&str, spec::Tls)> {
    if !config.get("database").is_wholly_known() {
        return None;
    }
    let spec: spec::Database = read(config, "database").unwrap_or_default();
    Some((url(config).as_str()?, spec.tls.unwrap_or_default()))
}

/// The address of a configuration's database; none if something about it is unknown.
pub(super) fn address(config: &Value) -> Option<Result<Address, String>> {
    let (url, tls) = place(config)?;
    Some(Address::parse(url, &tls))
}

/// The text of a phase, taken apart.
pub(super) fn script(config: &Value, phase: Phase, dialect: Dialect) -> Option<Result<Script, Unreadable>> {
    let text = config.get(phase.name()).as_str()?;
    let batched = phase == Phase::Backfill && config.get("batched").as_bool() == Some(true);
    Some(Script::parse(text, dialect, batched, digest::sha256(&Script::canonical(text))))
}

/// The intent of a valid configuration; none if something that decides what runs is unknown.
pub(super) fn parse(config: &Value) -> Option<Intent> {
    let deciding = ["name", "phase", "expand", "backfill", "contract", "batched", "resolve", "guard", "region"];
    if deciding.iter().any(|name| !config.get(name).is_wholly_known()) {
        return None;
    }
    let dialect = dialect(config)?;
    let mut scripts = BTreeMap::new();
    for phase in Phase::ALL {
        if let Some(script) = script(config, phase, dialect) {
            scripts.insert(phase, script.ok()?);
        }
    }
    Some(Intent {
        name: config.get("name").as_str()?.to_owned(),
        phase: read(config, "phase")?,
        scripts,
        resolve: read(config, "resolve"),
        guard: read(config, "guard"),
    })
}

/// An argument, as far as it is known.
fn read<T: Field>(config: &Value, name: &str) -> Option<T> {
    T::read(&config.get(name).known_json())
}

/// How gentle it should be, and how long all of it may take.
pub(super) fn limits(config: &Value, operation: &str) -> Limits {
    let pace = spec::Pace::read(&config.known_json()).unwrap_or_default();
    let timeouts: spec::Timeouts = read(config, "timeouts").unwrap_or_default();
    Limits {
        lock: pace.lock_timeout,
        statement: pace.statement_timeout,
        pause: pace.pause,
        whole: if operation == "create" { timeouts.create } else { timeouts.update },
    }
}
