//! MySQL and MariaDB.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::{COLUMNS, TABLE, bind_entry, fault_of, read_entry, words_of};
use crate::digest;
use crate::migration::{Entry, Phase};
use crate::run::migration::ports::{DatabaseError, Fault, Interrupter, Place, Session};
use crate::secrets;

/// A session that is silent for so long, in seconds, has lost its client: the server ends it, and its lock with it. The
/// longest pause between two batches is half of that.
const SILENCE: u32 = 120;

pub(super) struct Mysql {
    connection: MySqlConnection,
    options: MySqlConnectOptions,
    id: u64,
    /// The ledger's database: scripts may use another one.
    database: String,
    is_maria: bool,
}

pub(super) async fn open(options: &MySqlConnectOptions) -> Result<Box<dyn Session>, DatabaseError> {
    // As the server has it, and not as the driver likes it: a script is to do what it does in the mysql client.
    let plain = options.clone().timezone(None).pipes_as_concat(false).no_engine_substitution(false);
    let mut connection = MySqlConnection::connect_with(&plain).await.map_err(|error| failure(&error, true))?;
    let row = sqlx::query("SELECT CONNECTION_ID(), DATABASE(), VERSION()").fetch_one(&mut connection).await;
    let row = row.map_err(|error| failure(&error, true))?;
    let unreadable = |error: sqlx::Error| failure(&error, true);
    let database: Option<String> = row.try_get(1).map_err(unreadable)?;
    let Some(database) = database else {
        let words = "the URL names no database, as in mysql://user@host:3306/app";
        return Err(DatabaseError::new(Fault::NoDatabase, words));
    };
    let version: String = row.try_get(2).map_err(unreadable)?;
    // One is BIGINT, the other BIGINT UNSIGNED.
    let id =
        row.try_get::<u64, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(i64::unsigned_abs)).map_err(unreadable)?;
    let is_maria = version.contains("MariaDB");
    let mut session = Mysql { connection, options: options.clone(), id, database, is_maria };
    session.execute(&format!("SET SESSION wait_timeout = {SILENCE}")).await?;
    Ok(Box::new(session))
}

fn failure(error: &sqlx::Error, while_connecting: bool) -> DatabaseError {
    let Some(error) = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>()) else {
        return DatabaseError::new(fault_of(error, while_connecting), words_of(error));
    };
    // https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html; from 1900 on MariaDB's own.
    let fault = match error.number() {
        1045 | 1698 => Fault::Credentials,
        1044 if while_connecting => Fault::Denied,
        1049 => Fault::NoDatabase,
        1044 | 1142 | 1143 | 1227 | 1370 | 1410 => Fault::Denied,
        1205 | 1213 | 3572 => Fault::Busy,
        1050 | 1051 | 1054 | 1060 | 1061 | 1064 | 1091 | 1146 | 1149 => Fault::Invalid,
        1317 => Fault::Interrupted,
        1969 | 3024 => Fault::TooLong,
        1040 | 1203 if while_connecting => Fault::Unreachable,
        1053 | 1927 | 2006 | 2013 | 3169 | 4031 => Fault::Lost,
        _ => Fault::Other,
    };
    let message = secrets::outside(&format!("{} (error {})", error.message(), error.number()));
    DatabaseError { fault, message, place: line_of(error.message()).map(Place::Line) }
}

/// `… near 'x' at line 3`
fn line_of(message: &str) -> Option<usize> {
    message.rsplit_once(" at line ")?.1.trim_end_matches('.').parse().ok()
}

impl Mysql {
    fn table(&self) -> String {
        format!("`{}`.{TABLE}", self.database.replace('`', "``"))
    }

    /// Locks are kept apart by name only, for the whole server; a name has at most 64 characters.
    fn lock(&self) -> String {
        format!("{TABLE} {}", &digest::sha256(&self.database)[..16])
    }

    async fn has_ledger(&mut self) -> Result<bool, DatabaseError> {
        let sql = "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ?";
        let there = sqlx::query(sql).bind(&self.database).bind(TABLE).fetch_optional(&mut self.connection).await;
        there.map(|row| row.is_some()).map_err(|error| failure(&error, false))
    }

    async fn execute(&mut self, sql: &str) -> Result<u64, DatabaseError> {
        let result = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await;
        result.map(|done| done.rows_affected()).map_err(|error| failure(&error, false))
    }
}

#[async_trait]
impl Session for Mysql {
    async fn entries(&mut self, migration: &str) -> Result<BTreeMap<Phase, Entry>, DatabaseError> {
        if !self.has_ledger().await? {
            return Ok(BTreeMap::new());
        }
        let sql = format!("SELECT {} FROM {} WHERE migration = ?", COLUMNS.join(", "), self.table());
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(migration).fetch_all(&mut self.connection).await;
        let rows = rows.map_err(|error| failure(&error, false))?;
        let entries: Result<Vec<_>, sqlx::Error> = rows.iter().map(|row| read_entry!(row)).collect();
        Ok(entries.map_err(|error| failure(&error, false))?.into_iter().flatten().collect())
    }

    async fn prepare(&mut self) -> Result<(), DatabaseError> {
        if self.has_ledger().await? {
            return Ok(());
        }
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} (migration varchar(190) NOT NULL, phase varchar(16) NOT NULL, \
             checksum varchar(64) NOT NULL, done boolean NOT NULL, resumable boolean NOT NULL, \
             steps_done bigint NOT NULL, statements bigint NOT NULL, rows_changed bigint NOT NULL, \
             started_at varchar(40) NOT NULL, finished_at varchar(40) NOT NULL, run_by varchar(1000) NOT NULL, \
             live varchar(200) NOT NULL, error text NOT NULL, PRIMARY KEY (migration, phase)) \
             ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin",
            self.table()
        );
        self.execute(&sql).await.map(drop)
    }

    async fn try_lock(&mut self) -> Result<bool, DatabaseError> {
        let row = sqlx::query("SELECT GET_LOCK(?, 0)").bind(self.lock()).fetch_one(&mut self.connection).await;
        let taken = row.and_then(|row| row.try_get::<Option<i64>, _>(0)).map_err(|error| failure(&error, false))?;
        Ok(taken == Some(1))
    }

    async fn holder(&mut self) -> Result<Option<String>, DatabaseError> {
        let sql = "SELECT CONCAT(USER, '@', HOST, ' (connection ', ID, ')') FROM information_schema.PROCESSLIST \
                   WHERE ID = IS_USED_LOCK(?) AND ID <> CONNECTION_ID()";
        let row = sqlx::query(sql).bind(self.lock()).fetch_optional(&mut self.connection).await;
        if let Some(row) = row.map_err(|error| failure(&error, false))? {
            return row.try_get(0).map_err(|error| failure(&error, false));
        }
        // Without the right PROCESS the list has one's own sessions only.
        let sql = "SELECT CAST(IS_USED_LOCK(?) AS CHAR) WHERE IS_USED_LOCK(?) <> CONNECTION_ID()";
        let query = sqlx::query(sql).bind(self.lock()).bind(self.lock());
        let row = query.fetch_optional(&mut self.connection).await.map_err(|error| failure(&error, false))?;
        let id: Option<String> = row.and_then(|row| row.try_get(0).ok());
        Ok(id.map(|id| format!("connection {id}")))
    }

    async fn limit(&mut self, lock: Duration, statement: Duration) -> Result<(), DatabaseError> {
        let seconds = lock.as_secs().max(1);
        let mut sql = format!("SET SESSION lock_wait_timeout = {seconds}, innodb_lock_wait_timeout = {seconds}");
        if self.is_maria {
            // MySQL's own limit is for SELECT only; there it is kept from outside alone.
            sql = format!("{sql}, max_statement_time = {}", statement.as_secs_f64().max(0.001));
        }
        self.execute(&sql).await.map(drop)
    }

    async fn run(&mut self, sql: &str) -> Result<u64, DatabaseError> {
        self.execute(sql).await
    }

    async fn write(&mut self, migration: &str, phase: Phase, entry: &Entry) -> Result<(), DatabaseError> {
        let marks = vec!["?"; COLUMNS.len() + 1].join(", ");
        let sets: Vec<String> = COLUMNS.iter().map(|column| format!("{column} = VALUES({column})")).collect();
        let sql = format!(
            "INSERT INTO {} (migration, {}) VALUES ({marks}) ON DUPLICATE KEY UPDATE {}",
            self.table(),
            COLUMNS.join(", "),
            sets.join(", ")
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(migration);
        let done = bind_entry!(query, phase, entry).execute(&mut self.connection).await;
        done.map(drop).map_err(|error| failure(&error, false))
    }

    async fn erase(&mut self, migration: &str, phase: Phase) -> Result<(), DatabaseError> {
        let sql = format!("DELETE FROM {} WHERE migration = ? AND phase = ?", self.table());
        let query = sqlx::query(AssertSqlSafe(sql)).bind(migration).bind(phase.name());
        query.execute(&mut self.connection).await.map(drop).map_err(|error| failure(&error, false))
    }

    fn interrupter(&self) -> Box<dyn Interrupter> {
        Box::new(Stop { options: self.options.clone(), id: self.id })
    }

    async fn close(self: Box<Self>) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(error = words_of(&error), "the connection did not end in good order");
        }
    }
}

struct Stop {
    options: MySqlConnectOptions,
    id: u64,
}

#[async_trait]
impl Interrupter for Stop {
    async fn interrupt(&self) -> Result<(), DatabaseError> {
        let connection = MySqlConnection::connect_with(&self.options).await;
        let mut connection = connection.map_err(|error| failure(&error, true))?;
        let sql = format!("KILL QUERY {}", self.id);
        let stopped = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        stopped.map(drop).map_err(|error| failure(&error, false))
    }
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn the_line_is_at_the_end_of_the_message() {
        let text = "You have an error in your SQL syntax; check … near 'at line 9' at line 3";
        assert_eq!(line_of(text), Some(3));
        assert_eq!(line_of("Table 'a.b' doesn't exist"), None);
    }
}
