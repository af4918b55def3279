//! A client of a test's database, and a look at the provider's processes.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row as _};

/// A pool of connections to PostgreSQL or MariaDB.
#[derive(Clone)]
pub enum Database {
    /// PostgreSQL.
    Postgres(PgPool),
    /// MariaDB.
    Mariadb(MySqlPool),
}

impl Database {
    /// A pool that connects when it is used.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn at(url: &str) -> anyhow::Result<Database> {
        let wait = Duration::from_secs(30);
        Ok(if url.starts_with("postgres") {
            Database::Postgres(PgPoolOptions::new().max_connections(12).acquire_timeout(wait).connect_lazy(url)?)
        } else {
            Database::Mariadb(MySqlPoolOptions::new().max_connections(12).acquire_timeout(wait).connect_lazy(url)?)
        })
    }

    /// Runs SQL; how many rows it changed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn run(&self, sql: &str) -> anyhow::Result<u64> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        Ok(match self {
            Database::Postgres(pool) => sql.execute(pool).await?.rows_affected(),
            Database::Mariadb(pool) => sql.execute(pool).await?.rows_affected(),
        })
    }

    /// The first column of the first row as text; none if there is no row, or it is null.
    ///
    /// # Errors
    /// What the database says.
    pub async fn text(&self, sql: &str) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Database::Postgres(pool) => {
                let row = sqlx::query(AssertSqlSafe(format!("SELECT (x.*)::text FROM ({sql}) x")))
                    .fetch_optional(pool)
                    .await?;
                let text: Option<String> = row.map(|row| row.try_get(0)).transpose()?.flatten();
                // A row in text is (value).
                text.map(|text| text.trim_matches(['(', ')', '"']).to_owned()).filter(|text| !text.is_empty())
            }
            Database::Mariadb(pool) => {
                let sql = format!(
                    "SELECT CAST(x.v AS CHAR) FROM (SELECT NULL AS v FROM DUAL WHERE FALSE UNION ALL ({sql})) x"
                );
                let row = sqlx::query(AssertSqlSafe(sql)).fetch_optional(pool).await?;
                row.map(|row| row.try_get(0)).transpose()?.flatten()
            }
        })
    }

    /// Two columns of a table as text.
    ///
    /// # Errors
    /// What the database says.
    pub async fn pairs(&self, table: &str, (one, other): (&str, &str)) -> anyhow::Result<BTreeMap<String, String>> {
        let cast = |column: &str| match self {
            Database::Postgres(_) => format!("coalesce({column}::text, '')"),
            Database::Mariadb(_) => format!("coalesce(CAST({column} AS CHAR), '')"),
        };
        let sql = AssertSqlSafe(format!("SELECT {}, {} FROM {table}", cast(one), cast(other)));
        let pairs: Result<_, sqlx::Error> = match self {
            Database::Postgres(pool) => {
                let rows = sqlx::query(sql).fetch_all(pool).await?;
                rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
            }
            Database::Mariadb(pool) => {
                let rows = sqlx::query(sql).fetch_all(pool).await?;
                rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
            }
        };
        Ok(pairs?)
    }

    /// The first column of the first row as a number; 0 if there is none.
    ///
    /// # Errors
    /// What the database says.
    pub async fn number(&self, sql: &str) -> anyhow::Result<i64> {
        let text = self.text(sql).await?;
        text.map_or(Ok(0), |text| text.parse().with_context(|| format!("{sql} gave {text}")))
    }

    /// Waits until a query gives more than nothing.
    ///
    /// # Errors
    /// When it never does.
    pub async fn until(&self, sql: &str) -> anyhow::Result<()> {
        for _ in 0..1200 {
            if self.number(sql).await? > 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        bail!("it never came to {sql}")
    }

    /// Sessions that run a statement with this text in it right now.
    #[must_use]
    pub fn running(&self, part: &str) -> String {
        match self {
            Database::Postgres(_) => format!(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{part}%' \
                 AND query NOT LIKE '%pg_stat_activity%'"
            ),
            Database::Mariadb(_) => format!(
                "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%{part}%' \
                 AND info NOT LIKE '%processlist%'"
            ),
        }
    }
}

/// Kills every provider that this terraform started.
///
/// # Errors
/// When there is none.
pub fn kill_provider(terraform: u32) -> anyhow::Result<()> {
    let mut killed = 0;
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let program = fs::read_link(process.path().join("exe")).unwrap_or_default();
        let is_provider =
            program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("terraform-provider-"));
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if is_provider && parent == Some(terraform) {
            kill_process(Pid::from_raw(pid).context("no process")?, Signal::KILL)?;
            killed += 1;
        }
    }
    if killed == 0 { bail!("terraform has no provider") } else { Ok(()) }
}
