//! `bluegreen_migration`: expand, backfill, contract.
//!
//! ```hcl
//! resource "bluegreen_migration" "preference" {
//!   name     = "rename-user-preference"
//!   database = { url = var.database_url }
//!   expand   = file("migration_001_expand.sql")
//!   contract = file("migration_003_contract.sql")
//!   phase    = "expand"
//!   guard    = { parameter = "/myapp/current-live", live = "green", stable_for = "24h" }
//! }
//! ```
//!
//! The ledger in the database is the truth: refresh reads it, plan says what of the intent is missing there, and apply reads
//! it once more under the lock before it runs anything. A destroy leaves the database as it is, and what is written there.

mod diagnostics;
mod model;
mod schema;
mod state;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use self::state::PrivateState;
use super::{Context, Shared};
use crate::migration::{Entry, Intent, Phase, Step, lint, outline, plan};
use crate::run::migration::contraction;
use crate::run::migration::migrator::{self, Migrator, Outcome, Seen};
use crate::run::migration::ports::{Database, DatabaseError, Fault};
use crate::tf_provider::{
    ApplyRequest, Cancel, Diagnostics, Path, PlanRequest, Planned, ReadRequest, Resource, Schema, Stored, Value,
};

/// The resource.
pub struct Migration {
    schema: Schema,
    context: Arc<Context>,
}

impl Migration {
    /// The resource over what the provider shares.
    pub fn new(context: Arc<Context>) -> Migration {
        Migration { schema: schema::schema(), context }
    }
}

/// The ledger's entries of one migration.
type Ledger = BTreeMap<Phase, Entry>;

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).as_str().unwrap_or_default()
}

/// The database, with a token for a password where that is wished.
async fn database(shared: &Shared, config: &Value) -> Option<Result<Arc<dyn Database>, DatabaseError>> {
    let (url, tls) = model::place(config)?;
    let unreadable = |why: String| DatabaseError::new(Fault::Unreachable, why);
    if config.get("database").get("iam_auth").as_bool() != Some(true) {
        return Some(shared.databases.at(url, &tls, None).map_err(unreadable));
    }
    if !shared.platform.is_known() {
        return None;
    }
    let (host, port, user) = match model::address(config)? {
        Ok(address) => address.endpoint(),
        Err(why) => return Some(Err(unreadable(why))),
    };
    let token = shared.platform.database_token(&host, port, &user).await;
    Some(match token {
        Ok(token) => shared.databases.at(url, &tls, Some(&token)).map_err(unreadable),
        Err(error) => {
            Err(DatabaseError::new(Fault::Credentials, format!("no token for the user {user} could be made: {error}")))
        }
    })
}

/// What the ledger says; none where it can't be known yet where the database is.
async fn look(shared: &Shared, config: &Value, cancel: &Cancel) -> Option<Result<Seen, DatabaseError>> {
    let database = match database(shared, config).await? {
        Ok(database) => database,
        Err(error) => return Some(Err(error)),
    };
    let stopped = || DatabaseError::new(Fault::Interrupted, "the run was stopped");
    Some(tokio::select! {
        seen = migrator::look(database.as_ref(), text(config, "name")) => seen,
        () = cancel.cancelled() => Err(stopped()),
    })
}

#[async_trait]
impl Resource for Migration {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        validate::validate(config, diagnostics);
    }

    async fn read(&self, request: ReadRequest, diagnostics: &mut Diagnostics) -> Stored {
        let ReadRequest { mut state, private, cancel } = request;
        let unchanged = |state: Value, private| Stored { state: Some(state), private };
        let Some(shared) = self.context.shared(diagnostics) else { return unchanged(state, private) };
        match look(&shared, &state, &cancel).await {
            // Write-only: only a plan can look.
            None => unchanged(state, private),
            Some(Ok(seen)) => {
                state::set_ledger(&mut state, &seen);
                Stored { state: Some(state), private: PrivateState { seen: Some(seen) }.bytes() }
            }
            // A database that is down must not keep anybody from switching back.
            Some(Err(error)) => {
                diagnostics::unseen(text(&state, "name"), &error, diagnostics);
                unchanged(state, private)
            }
        }
    }

    async fn plan(&self, request: PlanRequest, diagnostics: &mut Diagnostics) -> Planned {
        let PlanRequest { prior, proposed, config, private, cancel } = request;
        let mut state = proposed;
        let planned = |state, private| Planned { state: Some(state), private, ..Planned::default() };
        state.set("id", config.get("name").clone());
        let Some(shared) = self.context.shared(diagnostics) else { return planned(state, private) };
        let renamed = |prior: &&Value| !config.get("name").is_unknown() && prior.get("name") != config.get("name");
        if let Some(prior) = prior.as_ref().filter(renamed) {
            diagnostics::renamed(text(prior, "name"), diagnostics);
            return planned(state, private);
        }
        let Some(intent) = model::parse(&config) else {
            for name in ["runbook", "phases", "contracted_for"] {
                state.set(name, Value::UNKNOWN);
            }
            return planned(state, private);
        };
        // A refresh has looked right before, unless it had no URL to look with, or looked elsewhere.
        let same = prior.as_ref().is_some_and(|prior| prior.get("database") == config.get("database"));
        let refreshed = same && !config.get("database").get("url").is_null();
        let seen = match PrivateState::read(&private).seen.filter(|_| refreshed) {
            Some(seen) => Some(seen),
            None => look_for_plan(&shared, &config, &cancel, diagnostics).await,
        };
        let kept = self.schema.without_write_only(state.clone());
        let changed = prior.as_ref().is_some_and(|prior| kept != *prior);
        let draft =
            Draft { shared: &shared, config: &config, prior: prior.as_ref(), intent: &intent, refreshed, changed };
        draft.fill(&mut state, seen.as_ref(), diagnostics).await;
        planned(state, private)
    }

    async fn apply(&self, request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: request.prior.clone(), private: request.private.clone() };
        let planned = &request.planned;
        let Some(shared) = self.context.shared(diagnostics) else { return before };
        let Some(intent) = model::parse(&request.config) else {
            diagnostics.error("The configuration is not known", "Something about the migration is unknown at apply.");
            return before;
        };
        let database = match database(&shared, &request.config).await {
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
        finish(&request, planned, &intent, database.as_ref(), outcome, diagnostics)
    }
}

/// The state after an apply.
fn finish(
    request: &ApplyRequest,
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
        diagnostics::Told { config: &request.config, intent, database, ledger: &seen.ledger, seen: is_seen }
            .failure(&failure, diagnostics);
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

/// A look at the database for a plan that has none from a refresh. A plan that can't look is still one: runners that only
/// plan often have no way to the database.
async fn look_for_plan(
    shared: &Shared,
    config: &Value,
    cancel: &Cancel,
    diagnostics: &mut Diagnostics,
) -> Option<Seen> {
    match look(shared, config, cancel).await? {
        Ok(seen) => Some(seen),
        Err(error) => {
            diagnostics::unseen_by_plan(config, &error, diagnostics);
            None
        }
    }
}

/// A plan in the making.
struct Draft<'a> {
    shared: &'a Shared,
    config: &'a Value,
    prior: Option<&'a Value>,
    intent: &'a Intent,
    /// Whether what was seen stays the same while Terraform plans a second time.
    refreshed: bool,
    /// Whether anything of the configuration differs from the state before.
    changed: bool,
}

impl Draft<'_> {
    async fn fill(&self, state: &mut Value, seen: Option<&Seen>, diagnostics: &mut Diagnostics) {
        let under_way = seen.and_then(|seen| seen.holder.as_deref());
        if let Some(holder) = under_way {
            diagnostics::under_way(holder, diagnostics);
        }
        // What somebody is just running has neither run nor died: the apply waits, and looks again.
        let seen = seen.filter(|_| under_way.is_none()).map(|seen| &seen.ledger);
        let known = self.prior.and_then(|prior| Phase::parse(text(prior, "phase")));
        let missing = |phase: &Phase| *phase <= self.intent.phase && known.is_none_or(|known| *phase > known);
        // What the state alone tells: the same whenever Terraform plans, whatever somebody else runs in between.
        let expected = Phase::ALL.into_iter().any(|phase| missing(&phase));
        let steps = match seen {
            Some(ledger) => match plan(self.intent, ledger) {
                Ok(steps) => steps,
                Err(refusal) => return diagnostics::refused(self.config, self.intent, ledger, &refusal, diagnostics),
            },
            None => Phase::ALL.into_iter().filter(missing).map(Step::Run).collect(),
        };
        self.warn(&steps, seen, diagnostics);
        if self.prior.is_some() && steps.is_empty() && (self.refreshed || !expected) {
            // An apply that has nothing to run still reads what is there, which only a refresh could have told.
            if !self.refreshed && self.changed {
                state.set("phases", Value::UNKNOWN);
                state.set("contracted_for", Value::UNKNOWN);
            }
            if self.intent.resolve.is_some() {
                diagnostics::resolved(self.config, diagnostics);
            }
            return;
        }
        // What is seen while a migration is made may be another thing when Terraform plans again.
        let runbook = if self.refreshed && under_way.is_none() {
            Value::from(steps.iter().map(|step| self.summary(*step)).collect::<Vec<String>>())
        } else if expected || self.prior.is_none() {
            Value::from(outline(self.intent, known))
        } else {
            Value::UNKNOWN
        };
        state.set("runbook", runbook);
        state.set("phases", Value::UNKNOWN);
        state.set("contracted_for", Value::UNKNOWN);
        let contracts = steps.contains(&Step::Run(Phase::Contract));
        if let Some(guard) = self.intent.guard.as_ref().filter(|_| contracts && self.shared.platform.is_known())
            && let Err(barred) = contraction::check(&self.shared.ports, guard).await
        {
            diagnostics::barred(&barred, guard, diagnostics);
        }
        if contracts && self.intent.guard.is_none() {
            diagnostics::unguarded(diagnostics);
        }
    }

    fn summary(&self, step: Step) -> String {
        let script = |phase: Phase| {
            let script = self.intent.scripts.get(&phase);
            script.map(|script| script.summary(phase, self.intent.guard.as_ref())).unwrap_or_default()
        };
        match step {
            Step::Resolve(phase, resolve) => format!("{phase}: write down that it was {resolve}"),
            Step::Resume(phase) => format!("{phase}: go on where it was interrupted"),
            Step::Run(phase) => script(phase),
        }
    }

    /// What is doubtful about the phases that have not run yet.
    fn warn(&self, steps: &[Step], seen: Option<&Ledger>, diagnostics: &mut Diagnostics) {
        for step in steps {
            if let Step::Resolve(phase, resolve) = step {
                let entry = seen.and_then(|ledger| ledger.get(phase));
                diagnostics::resolves(*phase, *resolve, entry, diagnostics);
            }
        }
        for (phase, script) in &self.intent.scripts {
            let ran = seen.is_some_and(|ledger| ledger.contains_key(phase));
            if !ran {
                diagnostics::concerns(*phase, &lint(script, *phase), text(self.config, phase.name()), diagnostics);
            }
        }
    }
}
