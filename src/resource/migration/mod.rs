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

    /// What is shared in this region, or in the provider's own, which is only asked for where AWS has a part in it.
    async fn shared(&self, about: &Value, region: &Value, diagnostics: &mut Diagnostics) -> Option<Shared> {
        match uses_aws(about) {
            true => self.context.shared(region.as_str(), diagnostics).await,
            false => self.context.shared_unasked(region.as_str(), diagnostics),
        }
    }

    /// The region in a plan. Where it means nothing, it stays what it was, wherever Terraform runs.
    fn planned_region(&self, shared: &Shared, config: &Value, prior: Option<&Value>) -> Value {
        match (uses_aws(config), config.get("region"), prior) {
            (false, Value::Null, Some(prior)) => prior.get("region").clone(),
            (false, Value::Null, None) => shared.region.clone().map_or(Value::UNKNOWN, Value::from),
            _ => self.context.planned_region(config, prior),
        }
    }
}

/// Whether a migration asks AWS for anything: the record of a guard, or a token.
fn uses_aws(value: &Value) -> bool {
    !value.get("guard").is_null() || !matches!(value.get("database").get("iam_auth"), Value::Null | Value::Bool(false))
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
        let Some(shared) = self.shared(&state, state.get("region"), diagnostics).await else {
            return unchanged(state, private);
        };
        shared.set_region(&mut state);
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
        let config = &request.config;
        let Some(shared) = self.shared(config, config.get("region"), diagnostics).await else {
            return Planned::default();
        };
        let region = self.planned_region(&shared, config, request.prior.as_ref());
        request.proposed.set("region", region);
        plan::plan(&shared, &self.schema, request, diagnostics).await
    }

    async fn apply(&self, mut request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
        // What Terraform knew of the region by then is in the plan.
        let known = [request.planned.get("region"), request.config.get("region")];
        let region = known.into_iter().find(|region| region.is_set()).unwrap_or(&Value::Null);
        let Some(shared) = self.shared(&request.config, region, diagnostics).await else {
            return Stored { state: request.prior, private: request.private };
        };
        if request.planned.get("region").is_unknown() {
            // What is planned to be none stays so.
            shared.set_region(&mut request.planned);
        }
        apply::apply(&shared, &request, diagnostics).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::testing::World;
    use crate::rollout;
    use crate::run::rollout::in_memory::Fake;
    use crate::run::stack::in_memory::Cloud;

    const HOME: &str = "eu-central-1";

    fn config(migration: &Migration, region: Value, guard: Value) -> Value {
        let mut config = migration.schema.null_object();
        let database = Value::object([("url", Value::from("postgres://me@localhost/shop"))]);
        config.set("name", Value::from("rename"));
        config.set("database", database);
        config.set("region", region);
        config.set("guard", guard);
        config
    }

    fn of(region: Value) -> Value {
        Value::object([("region", region)])
    }

    /// Where AWS has no part in it, it doesn't matter where Terraform runs; where it has, the region is the one that is asked.
    #[tokio::test]
    async fn the_region_is_that_of_the_record() {
        let fake = Fake::new(rollout::World::default(), &[]);
        let world = World::new(&fake, &Cloud::new(fake.clone()));
        let migration = Migration::new(Arc::new(Context::over_regions([(HOME, world)])));
        let guard = Value::object([("parameter", Value::from("/shop/live"))]);
        let west = || Value::from("eu-west-1");
        let planned = async |config: &Value, prior: Option<Value>| {
            let mut told = Diagnostics::new();
            let shared = migration.shared(config, config.get("region"), &mut told).await.unwrap();
            migration.planned_region(&shared, config, prior.as_ref())
        };
        let alone = config(&migration, Value::Null, Value::Null);
        assert_eq!(planned(&alone, None).await, Value::from(HOME));
        assert_eq!(planned(&alone, Some(of(west()))).await, west());
        assert_eq!(planned(&alone, Some(of(Value::Null))).await, Value::Null);
        let guarded = config(&migration, Value::Null, guard.clone());
        assert_eq!(planned(&guarded, Some(of(west()))).await, Value::from(HOME));
        let written = config(&migration, west(), guard.clone());
        assert_eq!(planned(&written, Some(of(Value::from(HOME)))).await, west());
        // Which record is asked is not known: nothing is planned by another one.
        let open = config(&migration, Value::UNKNOWN, guard);
        assert!(planned(&open, None).await.is_unknown() && model::parse(&open).is_none());
    }
}
