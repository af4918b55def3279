//! PostgreSQL.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgErrorPosition};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

use super::{COLUMNS, TABLE, bind_entry, fault_of, read_entry, words_of};
use crate::migration::{Entry, Phase};
use crate::run::migration::ports::{DatabaseError, Fault, Interrupter, Place, Session};
use crate::secrets;

/// The key of the lock of all migrations; advisory locks are kept apart by database. It is arbitrary, and never changes.
const LOCK: i64 = 0x626c_7565_6772_6e31;
/// PostgreSQL cuts names off after so many bytes.
const NAME_BYTES: usize = 63;

/// What makes a session end soon after its client is gone, so that a dead one keeps no locks. The first is younger than
/// some servers.
const MANNERS: [&str; 4] = [
    "SET client_connection_check_interval = '2s'",
    "SET tcp_keepalives_idle = 30",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
];

pub(super) struct Postgres {
    connection: PgConnection,
    options: PgConnectOptions,
    process: i32,
    /// The schema of the ledger: scripts may set another search path.
    schema: String,
}

pub(super) async fn open(options: &PgConnectOptions, who: &str) -> Result<Box<dyn Session>, DatabaseError> {
    let mut name = format!("bluegreen {who}");
    while name.len() > NAME_BYTES {
        name.pop();
    }
    let named = options.clone().application_name(&name);
    let mut connection = PgConnection::connect_with(&named).await.map_err(|error| failure(&error, true))?;
    for statement in MANNERS {
        if let Err(error) = connection.execute(statement).await {
            tracing::debug!(statement, error = words_of(&error), "the server doesn't know it");
        }
    }
    as_configured(&mut connection).await.map_err(|error| failure(&error, true))?;
    let row = sqlx::query("SELECT pg_backend_pid(), current_schema()::text").fetch_one(&mut connection).await;
    let row = row.map_err(|error| failure(&error, true))?;
    let schema: Option<String> = row.try_get(1).map_err(|error| failure(&error, true))?;
    let Some(schema) = schema else {
        let words = "no schema of the search path exists: set one for the user (ALTER ROLE … SET search_path)";
        return Err(DatabaseError::new(Fault::NoDatabase, words));
    };
    let process = row.try_get(0).map_err(|error| failure(&error, true))?;
    let options = options.clone();
    Ok(Box::new(Postgres { connection, options, process, schema }))
}

/// The driver sets time zone and date style of its own, over what the role or the database has: a script is to do what it
/// does in psql. Later rows count more.
async fn as_configured(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = "SELECT set_config(split_part(s, '=', 1), substr(s, strpos(s, '=') + 1), false) \
               FROM (SELECT unnest(setconfig) AS s, setrole, setdatabase FROM pg_db_role_setting \
               WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
               AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user)) \
               ORDER BY setrole <> 0, setdatabase <> 0) x \
               WHERE lower(split_part(s, '=', 1)) IN ('timezone', 'datestyle')";
    sqlx::query(sql).execute(connection).await.map(drop)
}

fn failure(error: &sqlx::Error, while_connecting: bool) -> DatabaseError {
    let Some(error) = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) else {
        return DatabaseError::new(fault_of(error, while_connecting), words_of(error));
    };
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    let code = error.code();
    let fault = match code {
        "28P01" | "28000" => Fault::Credentials,
        "3D000" => Fault::NoDatabase,
        "42501" => Fault::Denied,
        "55P03" | "40P01" | "40001" => Fault::Busy,
        "57014" if error.message().contains("statement timeout") => Fault::TooLong,
        "57014" => Fault::Interrupted,
        "57P03" | "53300" if while_connecting => Fault::Unreachable,
        _ if code.starts_with("42") => Fault::Invalid,
        _ if code.starts_with("08") || code.starts_with("57P") => Fault::Lost,
        _ => Fault::Other,
    };
    let mut message = format!("{} (SQLSTATE {code})", error.message());
    // The details of a violated constraint quote the row.
    if let Some(detail) = error.detail().filter(|_| !code.starts_with("23")) {
        message = format!("{message}. {detail}");
    }
    if let Some(hint) = error.hint() {
        message = format!("{message}. {hint}");
    }
    let place = match error.position() {
        Some(PgErrorPosition::Original(at)) => Some(Place::Character(at)),
        _ => None,
    };
    DatabaseError { fault, message: secrets::outside(&message), place }
}

impl Postgres {
    fn table(&self) -> String {
        format!("\"{}\".{TABLE}", self.schema.replace('"', "\"\""))
    }

    async fn has_ledger(&mut self) -> Result<bool, DatabaseError> {
        let table = self.table();
        let row = sqlx::query("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(&mut self.connection).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| failure(&error, false))
    }

    /// A script may have taken on another role, which is not the ledger's; that one is given back.
    async fn own_role(&mut self) -> Result<String, DatabaseError> {
        let row = sqlx::query("SELECT current_setting('role')").fetch_one(&mut self.connection).await;
        let role = row.and_then(|row| row.try_get(0)).map_err(|error| failure(&error, false))?;
        self.execute("RESET ROLE").await?;
        Ok(role)
    }

    async fn other_role(&mut self, role: &str) -> Result<(), DatabaseError> {
        let set = sqlx::query("SELECT set_config('role', $1, false)").bind(role).execute(&mut self.connection).await;
        set.map(drop).map_err(|error| failure(&error, false))
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, DatabaseError> {
        let result = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await;
        result.map(|done| done.rows_affected()).map_err(|error| failure(&error, false))
    }
}

#[async_trait]
impl Session for Postgres {
    async fn entries(&mut self, migration: &str) -> Result<BTreeMap<Phase, Entry>, DatabaseError> {
        if !self.has_ledger().await? {
            return Ok(BTreeMap::new());
        }
        let table = self.table();
        let sql = format!("SELECT {} FROM {table} WHERE migration = $1", COLUMNS.join(", "));
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(migration).fetch_all(&mut self.connection).await;
        let rows = rows.map_err(|error| failure(&error, false))?;
        let entries: Result<Vec<_>, sqlx::Error> = rows.iter().map(|row| read_entry!(row)).collect();
        Ok(entries.map_err(|error| failure(&error, false))?.into_iter().flatten().collect())
    }

    async fn prepare(&mut self) -> Result<(), DatabaseError> {
        // IF NOT EXISTS asks for the right to create even where it exists.
        if self.has_ledger().await? {
            return Ok(());
        }
        let sql = format!(
            "CREATE TABLE {} (migration text NOT NULL, phase text NOT NULL, checksum text NOT NULL, \
             done boolean NOT NULL, resumable boolean NOT NULL, steps_done bigint NOT NULL, statements bigint NOT NULL, \
             rows_changed bigint NOT NULL, started_at text NOT NULL, finished_at text NOT NULL, run_by text NOT NULL, \
             live text NOT NULL, error text NOT NULL, PRIMARY KEY (migration, phase))",
            self.table()
        );
        self.execute(&sql).await.map(drop)
    }

    async fn try_lock(&mut self) -> Result<bool, DatabaseError> {
        let row = sqlx::query("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut self.connection).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| failure(&error, false))
    }

    async fn holder(&mut self) -> Result<Option<String>, DatabaseError> {
        let sql = "SELECT concat(regexp_replace(a.application_name, '^bluegreen ', ''), ' as ', a.usename, \
                   ' since ', to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')) \
                   FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted \
                   AND l.objsubid = 1 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                   AND (l.classid::bigint << 32) | l.objid::bigint = $1 AND l.pid <> pg_backend_pid()";
        let row = sqlx::query(sql).bind(LOCK).fetch_optional(&mut self.connection).await;
        let row = row.map_err(|error| failure(&error, false))?;
        row.map(|row| row.try_get(0)).transpose().map_err(|error| failure(&error, false))
    }

    async fn limit(&mut self, lock: Duration, statement: Duration) -> Result<(), DatabaseError> {
        let sql = format!(
            "SET lock_timeout = '{}ms'; SET statement_timeout = '{}ms'",
            lock.as_millis().max(1),
            statement.as_millis().clamp(1, i32::MAX as u128)
        );
        self.execute(&sql).await.map(drop)
    }

    async fn run(&mut self, sql: &str) -> Result<u64, DatabaseError> {
        self.execute(sql).await
    }

    async fn write(&mut self, migration: &str, phase: Phase, entry: &Entry) -> Result<(), DatabaseError> {
        let role = self.own_role().await?;
        let values: Vec<String> = (2..=COLUMNS.len() + 1).map(|n| format!("${n}")).collect();
        let sets: Vec<String> = COLUMNS.iter().map(|column| format!("{column} = EXCLUDED.{column}")).collect();
        let sql = format!(
            "INSERT INTO {} (migration, {}) VALUES ($1, {}) ON CONFLICT (migration, phase) DO UPDATE SET {}",
            self.table(),
            COLUMNS.join(", "),
            values.join(", "),
            sets.join(", ")
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(migration);
        let done = bind_entry!(query, phase, entry).execute(&mut self.connection).await;
        done.map_err(|error| failure(&error, false))?;
        self.other_role(&role).await
    }

    async fn erase(&mut self, migration: &str, phase: Phase) -> Result<(), DatabaseError> {
        let sql = format!("DELETE FROM {} WHERE migration = $1 AND phase = $2", self.table());
        let role = self.own_role().await?;
        let query = sqlx::query(AssertSqlSafe(sql)).bind(migration).bind(phase.name());
        query.execute(&mut self.connection).await.map_err(|error| failure(&error, false))?;
        self.other_role(&role).await
    }

    fn interrupter(&self) -> Box<dyn Interrupter> {
        Box::new(Stop { options: self.options.clone(), process: self.process })
    }

    async fn close(self: Box<Self>) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(error = words_of(&error), "the connection did not end in good order");
        }
    }
}

struct Stop {
    options: PgConnectOptions,
    process: i32,
}

#[async_trait]
impl Interrupter for Stop {
    async fn interrupt(&self) -> Result<(), DatabaseError> {
        let mut connection = PgConnection::connect_with(&self.options).await.map_err(|error| failure(&error, true))?;
        let stopped = sqlx::query("SELECT pg_cancel_backend($1)").bind(self.process).execute(&mut connection).await;
        stopped.map(drop).map_err(|error| failure(&error, false))
    }
}
