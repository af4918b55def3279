//! What an apply runs, and the state after it.

use super::state::{self, PrivateState};
use super::{database, diagnostics, model};
use crate::migration::Intent;
use crate::resource::Shared;
use crate::run::migration::migrator::{Migrator, Outcome};
use crate::run::migration::ports::Database;
use crate::tf_provider::{ApplyRequest, Diagnostics, Path, Stored, Value};

/// Runs what is missing, and reads what has run.
pub(super) async fn apply(shared: &Shared, request: &ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
    let before = Stored { state: request.prior.clone(), private: request.private.clone() };
    let planned = &request.planned;
    let Some(intent) = model::parse(&request.config) else {
        diagnostics.error("The configuration is not known", "Something about the migration is unknown at apply.");
        return before;
    };
    let database = match database(shared, &request.config).await {
        Some(Ok(database)) => database,
        Some(Err(error)) => {
            diagnostics::unreachable(&request.config, &error, "", diagnostics);
            return before;
        }
        None => {
            let detail = "database is unknown at apply.";
            diagnostics.error_at(Path::attribute("database"), "The database is not known", detail);
            return before;
        }
    };
    let operation = if request.prior.is_some() { "update" } else { "create" };
    let migrator = Migrator {
        intent: &intent,
        database: database.as_ref(),
        ports: &shared.ports,
        limits: model::limits(&request.config, operation),
        cancel: &request.cancel,
    };
    let outcome = migrator.run().await;
    finish((shared, request), planned, &intent, database.as_ref(), outcome, diagnostics)
}

/// The state after an apply.
fn finish(
    (shared, request): (&Shared, &ApplyRequest),
    planned: &Value,
    intent: &Intent,
    database: &dyn Database,
    outcome: Outcome,
    diagnostics: &mut Diagnostics,
) -> Stored {
    let Outcome { seen, failure } = outcome;
    let is_seen = seen.is_some();
    let seen = seen.or_else(|| PrivateState::read(&request.private).seen).unwrap_or_default();
    let private = PrivateState { seen: Some(seen.clone()) }.bytes();
    if let Some(failure) = failure {
        let (config, ledger, shell) = (&request.config, &seen.ledger, &shared.shell(None));
        let told = diagnostics::Told { config, intent, database, shell, ledger, seen: is_seen };
        told.failure(&failure, diagnostics);
        // Without a state before, nothing is lost: what ran is in the ledger, and the next apply finds it there.
        let Some(mut state) = request.prior.clone() else { return Stored::default() };
        state::set_ledger(&mut state, &seen);
        return Stored { state: Some(state), private };
    }
    let mut state = planned.clone();
    state::set_ledger(&mut state, &seen);
    state.set("phase", planned.get("phase").clone());
    if state.get("runbook").is_unknown() {
        state.set("runbook", Value::List(Vec::new()));
    }
    Stored { state: Some(state), private }
}
