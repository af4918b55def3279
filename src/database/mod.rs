//! Databases on sqlx, behind the traits of [`crate::run::migration::ports`]: the only room that knows the driver.

mod address;
mod mysql;
mod postgres;

#[cfg(test)]
mod tests;

pub use address::Address;

use std::sync::Arc;
use std::time::Duration;

use crate::migration::spec::Tls;
use crate::run::migration::ports::{Database, DatabaseError, Databases, Fault};

/// PostgreSQL's and MySQL's, by the scheme of the URL.
#[derive(Debug)]
pub struct Sqlx;

impl Databases for Sqlx {
    fn at(&self, url: &str, tls: &Tls, token: Option<&str>) -> Result<Arc<dyn Database>, String> {
        let address = Address::parse(url, tls)?;
        Ok(Arc::new(match token {
            Some(token) => address.with_token(token),
            None => address,
        }))
    }
}

/// The ledger's table, in the schema or database that the connection works in.
const TABLE: &str = "bluegreen_migrations";

/// How long connecting may take where the URL does not say.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The columns of the ledger in their order.
const COLUMNS: [&str; 12] = [
    "checksum",
    "done",
    "resumable",
    "steps_done",
    "statements",
    "rows_changed",
    "started_at",
    "finished_at",
    "run_by",
    "live",
    "error",
    "phase",
];

/// A row of the ledger; macros, since the drivers' types have no trait in common that would be shorter.
macro_rules! read_entry {
    ($row:expr) => {{
        let row = $row;
        let phase: String = row.try_get("phase")?;
        let entry = Entry {
            checksum: row.try_get("checksum")?,
            done: row.try_get("done")?,
            resumable: row.try_get("resumable")?,
            steps_done: row.try_get("steps_done")?,
            statements: row.try_get("statements")?,
            rows: row.try_get("rows_changed")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            by: row.try_get("run_by")?,
            live: row.try_get("live")?,
            error: row.try_get("error")?,
        };
        Ok(Phase::parse(&phase).map(|phase| (phase, entry)))
    }};
}

/// Binds a row's values in the order of [`COLUMNS`].
macro_rules! bind_entry {
    ($query:expr, $phase:expr, $entry:expr) => {{
        let query = $query.bind(&$entry.checksum).bind($entry.done).bind($entry.resumable).bind($entry.steps_done);
        let query = query.bind($entry.statements).bind($entry.rows).bind(&$entry.started_at).bind(&$entry.finished_at);
        query.bind(&$entry.by).bind(&$entry.live).bind(&$entry.error).bind($phase.name())
    }};
}

use {bind_entry, read_entry};

/// Tells failures on the way to a database from those that it reports itself.
fn fault_of(error: &sqlx::Error, while_connecting: bool) -> Fault {
    match error {
        sqlx::Error::Tls(_) => Fault::Tls,
        sqlx::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Fault::Tls,
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) if while_connecting => Fault::Unreachable,
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => Fault::Lost,
        _ => Fault::Other,
    }
}

/// What the driver says, with what it says it about.
fn words_of(error: &sqlx::Error) -> String {
    let words = match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) | sqlx::Error::Configuration(error) => {
            // A TLS library's error says the cause at its end.
            let mut words = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                let more = error.to_string();
                if !words.contains(&more) {
                    words = format!("{words}: {more}");
                }
                cause = error.source();
            }
            words
        }
        sqlx::Error::Protocol(words) => words.clone(),
        other => other.to_string(),
    };
    // A server with a certificate of its own making, which openssl marks so unless it is told otherwise.
    let words = words.replace(
        "Other(OtherError(CaUsedAsEndEntity))",
        "it is marked as an authority's (CA:TRUE), which a server's must not be",
    );
    crate::secrets::outside(&words)
}

/// Bounds connecting in time.
async fn in_time<T>(
    limit: Duration,
    connect: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    let late = || {
        let words = format!("no answer within {} s", limit.as_secs());
        DatabaseError::new(Fault::Unreachable, words)
    };
    tokio::time::timeout(limit, connect).await.unwrap_or_else(|_| Err(late()))
}
