//! From a configuration to a wish free of Terraform.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::database::{Address, Tls, TlsMode};
use crate::digest;
use crate::duration;
use crate::migration::{Dialect, Guard, Phase, Resolve, Script, Unreadable, Wish};
use crate::run::migrator::Limits;
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

/// How the connection is to be encrypted.
fn tls(config: &Value) -> Tls {
    let tls = config.get("database").get("tls");
    Tls {
        mode: tls.get("mode").as_str().and_then(TlsMode::parse),
        ca_bundle: tls.get("ca_bundle").as_str().map(PathBuf::from),
    }
}

/// The database of a configuration; none if something about it is unknown.
pub(super) fn address(config: &Value) -> Option<Result<Address, String>> {
    if !config.get("database").is_wholly_known() {
        return None;
    }
    Some(Address::parse(url(config).as_str()?, &tls(config)))
}

/// The text of a phase, taken apart.
pub(super) fn script(config: &Value, phase: Phase, dialect: Dialect) -> Option<Result<Script, Unreadable>> {
    let text = config.get(phase.name()).as_str()?;
    let batched = phase == Phase::Backfill && config.get("batched").as_bool() == Some(true);
    Some(Script::parse(text, dialect, batched, digest::sha256(&Script::canonical(text))))
}

/// The wish of a valid configuration; none if something that decides what runs is unknown.
pub(super) fn parse(config: &Value) -> Option<Wish> {
    let deciding = ["name", "phase", "expand", "backfill", "contract", "batched", "resolve", "guard"];
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
    Some(Wish {
        name: config.get("name").as_str()?.to_owned(),
        phase: Phase::parse(config.get("phase").as_str()?)?,
        scripts,
        resolve: match config.get("resolve").as_str() {
            Some("applied") => Some(Resolve::Applied),
            Some("reverted") => Some(Resolve::Reverted),
            _ => None,
        },
        guard: guard(config.get("guard")),
    })
}

fn guard(value: &Value) -> Option<Guard> {
    Some(Guard {
        parameter: value.get("parameter").as_str()?.to_owned(),
        live: value.get("live").as_str()?.to_owned(),
        stable_for: time(value, "stable_for").unwrap_or_default(),
    })
}

fn time(value: &Value, name: &str) -> Option<Duration> {
    value.get(name).as_str().and_then(|text| duration::parse(text).ok())
}

/// How gentle it shall be, and how long all of it may take.
pub(super) fn limits(config: &Value, operation: &str) -> Limits {
    let or = |name: &str, default| time(config, name).unwrap_or(default);
    Limits {
        lock: or("lock_timeout", Duration::from_secs(2)),
        statement: or("statement_timeout", Duration::from_secs(60)),
        pause: or("pause", Duration::from_millis(100)),
        whole: time(config.get("timeouts"), operation).unwrap_or(Duration::from_secs(3600)),
    }
}
