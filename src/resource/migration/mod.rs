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

mod apply;
mod diagnostics;
mod model;
mod plan;
mod schema;
mod state;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use self::state::PrivateState;
use super::{Context, Shared};
use crate::migration::{Entry, Phase};
use crate::run::migration::migrator::{self, Seen};
use crate::run::migration::ports::{Database, DatabaseError, Fault};
use crate::tf_provider::{
    ApplyRequest, Cancel, Diagnostics, PlanRequest, Planned, ReadRequest, Resource, Schema, Stored, Value,
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
        let Some(shared) = self.context.shared_by(&state, diagnostics).await else { return unchanged(state, private) };
        if state.get("region").is_null() {
            state.set("region", Value::from(shared.region.clone()));
        }
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

    async fn plan(&self, mut request: PlanRequest, diagnostics: &mut Diagnostics) -> Planned {
        let Some(shared) = self.context.shared(request.config.get("region").as_str(), diagnostics).await else {
            return Planned::default();
        };
        let region = self.context.planned_region(&request.config, request.prior.as_ref());
        // Who has nothing to do with AWS needs no region.
        let is_open = region.is_unknown() && request.config.get("region").is_null();
        request.proposed.set("region", if is_open { Value::Null } else { region });
        plan::plan(&shared, &self.schema, request, diagnostics).await
    }

    async fn apply(&self, request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
        // What Terraform knew of the region by then is in the plan.
        let (planned, written) = (request.planned.get("region"), request.config.get("region"));
        match self.context.shared(planned.as_str().or(written.as_str()), diagnostics).await {
            Some(shared) => apply::apply(&shared, &request, diagnostics).await,
            None => Stored { state: request.prior, private: request.private },
        }
    }
}
