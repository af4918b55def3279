//! A backfill of a million rows in batches, beside writers who must not notice much of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use terraform_tests::database::Database;
use terraform_tests::servers::{Kind, Server};
use terraform_tests::terraform::{Terraform, engine};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::tell;

const ROWS: u64 = 1_000_000;
const WRITERS: u64 = 4;
/// As many writes a second as a small shop has, spread evenly.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the writers are watched without a backfill.
const IDLE: Duration = Duration::from_secs(20);

/// The million-row backfill on PostgreSQL: the 99th percentile of concurrent writes, as a ratio to that without it.
pub(super) async fn run() -> anyhow::Result<()> {
    let server = Server::with(Kind::Postgres, &["-c", "shared_buffers=256MB"])?;
    let database = Database::at(&server.url())?;
    database.run("CREATE TABLE users (id int PRIMARY KEY, preference text, preferred_theme text, visits int)").await?;
    let fill = format!("INSERT INTO users SELECT n, 'p' || n, NULL, 0 FROM generate_series(1, {ROWS}) n");
    database.run(&fill).await?;
    database.run("CREATE INDEX users_left ON users (id) WHERE preferred_theme IS NULL").await?;
    database.run("VACUUM ANALYZE users").await?;
    // The first writes after so much news are those of a cold cache.
    drop(watched(&database, sleep(Duration::from_secs(3))).await?);
    let (idle, ()) = watched(&database, sleep(IDLE)).await?;

    let terraform = Terraform::on(engine("any").context("no engine")?)?;
    terraform.write(&configuration(&server.url()))?;
    let started = Instant::now();
    let (busy, said) = watched(&database, terraform.apply()).await?;
    said?.ok()?;
    let took = started.elapsed();
    let left = database.number("SELECT count(*) FROM users WHERE preferred_theme IS NULL").await?;
    ensure!(left == 0, "{left} rows are left");
    let (before, during) = (percentile(&idle), percentile(&busy));
    let ratio = during.as_secs_f64() / before.as_secs_f64();
    let rate = ROWS as f64 / took.as_secs_f64();
    let figure = format!(
        "{ratio:.2} ({:.2} ms of {} writes, {:.2} ms of {}; {rate:.0} rows a second)",
        during.as_secs_f64() * 1e3,
        busy.len(),
        before.as_secs_f64() * 1e3,
        idle.len()
    );
    tell("backfill of a million rows: p99 of other writes, to idle", &figure, Some(ratio <= 2.0));
    Ok(())
}

fn configuration(url: &str) -> String {
    format!(
        r#"terraform {{
  required_providers {{
    bluegreen = {{ source = "bluegreen/bluegreen" }}
  }}
}}
resource "bluegreen_migration" "preference" {{
  name     = "rename-user-preference"
  database = {{ url = "{url}" }}
  backfill = <<-SQL
    UPDATE users SET preferred_theme = preference
    WHERE id IN (SELECT id FROM users WHERE preferred_theme IS NULL ORDER BY id LIMIT 500 FOR UPDATE);
  SQL
  batched  = true
  phase    = "backfill"
}}
"#
    )
}

/// How long writes took while something went on.
async fn watched<T>(database: &Database, work: impl Future<Output = T>) -> anyhow::Result<(Vec<Duration>, T)> {
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<JoinHandle<anyhow::Result<Vec<Duration>>>> =
        (0..WRITERS).map(|of| tokio::spawn(write(database.clone(), of, stop.clone()))).collect();
    let result = work.await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await??);
    }
    Ok((all, result))
}

async fn write(database: Database, of: u64, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for n in 0..1_000_000_u64 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Users all over the table, never two writers at one.
        let user = ((n * 7919) % (ROWS / WRITERS)) * WRITERS + of + 1;
        let started = Instant::now();
        database.run(&format!("UPDATE users SET visits = visits + 1 WHERE id = {user}")).await?;
        took.push(started.elapsed());
        sleep(PAUSE).await;
    }
    Ok(took)
}

/// The 99th percentile.
fn percentile(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}
