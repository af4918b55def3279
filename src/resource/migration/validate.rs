//! What can be told of a configuration before anything is asked.

use super::model;
use crate::migration::{Dialect, Phase};
use crate::tf_provider::{Diagnostics, Path, Value};

pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    database(config, diagnostics);
    phases(config, diagnostics);
    if let Some(dialect) = model::dialect(config) {
        scripts(config, dialect, diagnostics);
    }
    if config.get("batched").as_bool() == Some(true) && config.get("backfill").is_null() {
        let detail = "batched is about backfill, which is not set.";
        diagnostics.error_at(Path::attribute("batched"), "There is no backfill", detail);
    }
    if config.get("guard").as_map().is_some() && config.get("contract").is_null() {
        let detail = "guard is about contract, which is not set. Nothing waits for it.";
        diagnostics.warning_at(Path::attribute("guard"), "There is no contract", detail);
    }
}

fn database(config: &Value, diagnostics: &mut Diagnostics) {
    let (database, path) = (config.get("database"), Path::attribute("database"));
    if database.as_map().is_none() {
        return;
    }
    let (url, write_only) = (database.get("url"), database.get("url_wo"));
    if url.is_null() == write_only.is_null() && !url.is_unknown() && !write_only.is_unknown() {
        let detail = "database: set exactly one of url and url_wo.";
        diagnostics.error_at(path, "One URL is needed", detail);
        return;
    }
    let weak = ["disable", "prefer"];
    let mode = database.get("tls").get("mode").as_str();
    if let Some(mode) = mode.filter(|mode| weak.contains(mode) && database.get("iam_auth").as_bool() == Some(true)) {
        let path = path.attr("tls").attr("mode");
        let detail = format!(
            "{path} is {mode}, and iam_auth is set: whoever is sent the token has it. Leave it out (verify-full), or say verify-ca or require."
        );
        diagnostics.error_at(path, "The token would be sent in the clear", detail);
    }
    let name = if url.is_null() { "url_wo" } else { "url" };
    let path = path.attr(name);
    let Some(Err(why)) = model::address(config) else { return };
    // Nothing of the URL itself: it may hold a password.
    diagnostics.error_at(path.clone(), "Invalid database URL", format!("{path}: {why}."));
}

fn phases(config: &Value, diagnostics: &mut Diagnostics) {
    let missing = |phase: Phase| config.get(phase.name()).is_null();
    if Phase::ALL.into_iter().all(missing) {
        let detail = "Set at least one of expand, backfill and contract.";
        diagnostics.error_at(Path::attribute("phase"), "There is nothing to run", detail);
        return;
    }
    if let Some(phase) = config.get("phase").as_str().and_then(Phase::parse).filter(|phase| missing(*phase)) {
        let detail = format!("phase is {phase}, and {phase} is not set.");
        diagnostics.error_at(Path::attribute("phase"), "This phase has no text", detail);
    }
}

fn scripts(config: &Value, dialect: Dialect, diagnostics: &mut Diagnostics) {
    for phase in Phase::ALL {
        let Some(Err(unreadable)) = model::script(config, phase, dialect) else { continue };
        let detail = format!("Line {} of {phase}: {}.", unreadable.line, unreadable.why);
        diagnostics.error_at(Path::attribute(phase.name()), format!("{phase} can't be run"), detail);
    }
}
