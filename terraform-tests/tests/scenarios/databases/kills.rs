//! `kill -9` in the middle of each phase, stops, and two at once: the next plan tells the truth, the next apply converges.

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use terraform_tests::database::{Database, kill_provider};
use terraform_tests::servers::{Kind, Server};
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Said, Terraform, said};

use super::{database, guard, migration, offline, on, sql};

const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];
const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, preference varchar(50))";

/// Somebody in a transaction that has used the table, until this is dropped or ends.
enum Blocker {
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    Mariadb(sqlx::Transaction<'static, sqlx::MySql>),
}

impl Blocker {
    async fn uses(database: &Database) -> anyhow::Result<Blocker> {
        Ok(match database {
            Database::Postgres(pool) => {
                let mut held = pool.begin().await?;
                // What a writer has of it, for which a concurrent build waits too.
                sqlx::query("LOCK TABLE users IN ROW EXCLUSIVE MODE").execute(&mut *held).await?;
                Blocker::Postgres(held)
            }
            Database::Mariadb(pool) => {
                let mut held = pool.begin().await?;
                sqlx::query("SELECT count(*) FROM users").fetch_all(&mut *held).await?;
                Blocker::Mariadb(held)
            }
        })
    }

    async fn ends(self) -> anyhow::Result<()> {
        match self {
            Blocker::Postgres(held) => Ok(held.rollback().await?),
            Blocker::Mariadb(held) => Ok(held.rollback().await?),
        }
    }
}

/// Starts an apply, and kills its provider while a statement with this text runs.
async fn killed_in(terraform: &Terraform, database: &Database, part: &str) -> anyhow::Result<Said> {
    let child = terraform.start(&APPLY)?;
    let pid = child.id().context("it has ended")?;
    database.until(&database.running(part)).await?;
    kill_provider(pid)?;
    let said = said(child).await?;
    ensure!(said.code != 0, "{}", said.text);
    Ok(said)
}

/// Until the database has noticed that its client is gone.
async fn forgotten(database: &Database, part: &str) -> anyhow::Result<()> {
    for _ in 0..1200 {
        if database.number(&database.running(part)).await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    anyhow::bail!("{part} runs for ever")
}

/// An expand in a transaction leaves nothing; the next apply begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_transaction() -> anyhow::Result<()> {
    let (server, database) = database(Kind::Postgres)?;
    database.run(USERS).await?;
    let terraform = Terraform::new()?;
    let expand = sql(
        "expand",
        "ALTER TABLE users ADD preferred varchar(50);\nSELECT pg_sleep(30 * (SELECT count(*) FROM users));",
    );
    terraform.write(&(offline() + &migration(&server.url(), "expand", &expand)))?;
    database.run("INSERT INTO users VALUES (1, 'a')").await?;
    killed_in(&terraform, &database, "pg_sleep").await?;
    forgotten(&database, "pg_sleep").await?;
    ensure!(database.number("SELECT count(*) FROM bluegreen_migrations").await? == 0);
    let plan = terraform.plan().await?;
    ensure!(plan.code == 2, "{}", plan.text);
    plan.has(&["# bluegreen_migration.it will be created"])?;
    database.run("DELETE FROM users").await?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(database.number("SELECT count(*) FROM bluegreen_migrations").await? == 1);
    Ok(())
}

/// What no transaction holds together is dirty, and waits for somebody to look.
#[tokio::test(flavor = "multi_thread")]
async fn killed_half_way() -> anyhow::Result<()> {
    let (server, database) = database(Kind::Postgres)?;
    database.run(USERS).await?;
    let index = "CREATE INDEX CONCURRENTLY users_preference ON users (preference)";
    half_way(&server, &database, "SELECT 1", index, "reverted").await?;
    let (server, database) = super::database(Kind::Mariadb)?;
    database.run(USERS).await?;
    let first = "CREATE TABLE preferences (id int)";
    half_way(&server, &database, first, "ALTER TABLE users ADD preferred varchar(50)", "applied").await
}

async fn half_way(
    server: &Server,
    database: &Database,
    first: &str,
    second: &str,
    resolve: &str,
) -> anyhow::Result<()> {
    let terraform = Terraform::new()?;
    let patient = "  lock_timeout = \"60s\"\n";
    let expand = sql("expand", &format!("{first};\n\n-- waits\n{second};")) + patient;
    let write =
        |more: &str| terraform.write(&(offline() + &migration(&server.url(), "expand", &(expand.clone() + more))));
    write("")?;
    let blocker = Blocker::uses(database).await?;
    killed_in(&terraform, database, second).await?;
    blocker.ends().await?;
    forgotten(database, second).await?;

    let plan = terraform.plan().await?;
    ensure!(plan.code == 1, "{}", plan.text);
    plan.has(&[
        "Error: expand of rename-preference died half-way",
        "1 of its 2 statements are known to have run",
        &format!("4 | {second};"),
        "set resolve = \"applied\"",
        "set resolve = \"reverted\"",
    ])?;
    let apply = terraform.apply().await?;
    ensure!(apply.code == 1, "nothing runs: {}", apply.text);
    let undo = "DROP INDEX IF EXISTS users_preference";
    let redo = "ALTER TABLE users ADD COLUMN IF NOT EXISTS preferred varchar(50)";
    database.run(if resolve == "reverted" { undo } else { redo }).await?;
    write(&format!("  resolve = \"{resolve}\"\n"))?;
    terraform.plan().await?.has(&["Warning: expand is resolved"])?;
    terraform.apply().await?.ok()?;
    ensure!(database.number("SELECT count(*) AS n FROM bluegreen_migrations WHERE done").await? == 1);
    write("")?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await
}

/// A backfill in batches goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_batches() -> anyhow::Result<()> {
    tokio::try_join!(killed_between_batches_on(Kind::Postgres), killed_between_batches_on(Kind::Mariadb)).map(drop)
}

async fn killed_between_batches_on(kind: Kind) -> anyhow::Result<()> {
    let (server, database) = database(kind)?;
    database.run(&USERS.replace("varchar(50))", "varchar(50), preferred varchar(50))")).await?;
    let rows: Vec<String> = (0..1000).map(|id| format!("({id}, 'p')")).collect();
    database.run(&format!("INSERT INTO users (id, preference) VALUES {}", rows.join(","))).await?;
    let batch = match kind {
        Kind::Postgres => {
            "UPDATE users SET preferred = preference WHERE id IN (SELECT id FROM users WHERE preferred IS NULL LIMIT 10);"
        }
        _ => "UPDATE users SET preferred = preference WHERE preferred IS NULL LIMIT 10;",
    };
    let terraform = Terraform::new()?;
    let write = |pause: &str| {
        let more = format!("{}  batched = true\n  pause = \"{pause}\"\n", sql("backfill", batch));
        terraform.write(&(offline() + &migration(&server.url(), "backfill", &more)))
    };
    write("200ms")?;
    let child = terraform.start(&APPLY)?;
    let pid = child.id().context("it has ended")?;
    let done = "SELECT count(*) AS n FROM users WHERE preferred IS NOT NULL";
    database.until(&done.replace("count(*)", "greatest(count(*) - 29, 0)")).await?;
    kill_provider(pid)?;
    said(child).await?;
    let before = database.number(done).await?;
    ensure!((30..1000).contains(&before), "{before} rows when it was killed");
    ensure!(database.number("SELECT max(rows_changed) AS n FROM bluegreen_migrations").await? == before);
    // Stopped once, it ends within seconds, and says how far it came.
    let child = terraform.start(&APPLY)?;
    let pid = Pid::from_raw(i32::try_from(child.id().context("it has ended")?)?).context("no process")?;
    let further = format!("SELECT greatest(count(*) - {}, 0) AS n FROM users WHERE preferred IS NOT NULL", before + 9);
    database.until(&further).await?;
    kill_process(pid, Signal::INT)?;
    let stopped = said(child).await?;
    ensure!(stopped.code == 1, "{}", stopped.text);
    stopped.has(&["the run was stopped", "which stay; the next apply goes on from there"])?;

    write("0s")?;
    terraform.plan().await?.has(&["backfill: run 1 statement again and again"])?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    let state = terraform.state("bluegreen_migration.it").await?;
    ensure!(state["phases"]["backfill"]["rows"] == 1000, "each row once: {state}");
    Ok(())
}

/// A contract that was killed keeps no rollout out, and is done by the next apply.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_contract() -> anyhow::Result<()> {
    let (server, database) = database(Kind::Postgres)?;
    database.run(USERS).await?;
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    let more =
        sql("contract", "ALTER TABLE users DROP preference;") + &guard("blue", "0s") + "  lock_timeout = \"60s\"\n";
    let contract = migration(&server.url(), "contract", &more);
    let both = |active: &str| format!("{}\n{contract}", stage.switch(Some(active), ""));
    terraform.write(&both("blue"))?;
    let blocker = Blocker::uses(&database).await?;
    let child = terraform.start(&APPLY)?;
    let pid = child.id().context("it has ended")?;
    database.until(&database.running("DROP preference")).await?;
    // Meanwhile no rollout begins.
    let other = Terraform::new()?;
    other.write(&stage.switch(Some("green"), ""))?;
    let refused = other.apply().await?;
    ensure!(refused.code == 1, "{}", refused.text);
    refused.has(&[
        "Another rollout of /myapp/current-live is under way",
        "the contract of the migration rename-preference that",
    ])?;
    kill_provider(pid)?;
    said(child).await?;
    blocker.ends().await?;
    forgotten(&database, "DROP preference").await?;
    ensure!(stage.client.lock("/myapp/current-live").await?.is_some(), "the lock is left");
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(stage.client.lock("/myapp/current-live").await?.is_none());
    other.apply().await?.ok()?;
    ensure!(stage.answers(0, "/").await? == "green");
    terraform.write(&on(&stage, &contract))?;
    Ok(())
}

/// Of two applies at once one waits for the other, and finds nothing left to do.
#[tokio::test(flavor = "multi_thread")]
async fn two_at_once() -> anyhow::Result<()> {
    tokio::try_join!(two_at_once_on(Kind::Postgres), two_at_once_on(Kind::Mariadb)).map(drop)
}

async fn two_at_once_on(kind: Kind) -> anyhow::Result<()> {
    let (server, database) = database(kind)?;
    database.run(USERS).await?;
    let sleep = if kind == Kind::Postgres { "SELECT pg_sleep(1)" } else { "SELECT sleep(1)" };
    let expand = sql("expand", &format!("{sleep};\nALTER TABLE users ADD preferred varchar(50);"));
    let configuration = offline() + &migration(&server.url(), "expand", &expand);
    let both = [Terraform::new()?, Terraform::new()?];
    both.iter().try_for_each(|one| one.write(&configuration))?;
    let (one, other) = tokio::join!(both[0].apply(), both[1].apply());
    one?.ok()?;
    other?.ok()?;
    ensure!(database.number("SELECT count(*) AS n FROM bluegreen_migrations").await? == 1);
    // One that may not wait that long is told who is in its way.
    let hurried =
        migration(&server.url(), "expand", &(sql("expand", "SELECT 1;") + "  timeouts = { create = \"1s\" }\n"));
    let first = offline()
        + &migration(&server.url(), "expand", &sql("expand", &sleep.replace('1', "6"))).replace("rename-", "a-");
    both[0].run(&["destroy", "-auto-approve", "-no-color"]).await?.ok()?;
    both[0].write(&first)?;
    both[1].run(&["destroy", "-auto-approve", "-no-color"]).await?.ok()?;
    both[1].write(&(offline() + &hurried.replace("rename-", "b-")))?;
    let child = both[0].start(&APPLY)?;
    database.until(&database.running("sleep(6)")).await?;
    let refused = both[1].apply().await?;
    ensure!(refused.code == 1, "{}", refused.text);
    refused.has(&["Another migration is under way", "has the lock"])?;
    said(child).await?.ok()?;
    Ok(())
}

/// An expand that would queue behind somebody's long transaction gives way, tries again, and says who may be in the way.
#[tokio::test(flavor = "multi_thread")]
async fn it_gives_way() -> anyhow::Result<()> {
    tokio::try_join!(it_gives_way_on(Kind::Postgres), it_gives_way_on(Kind::Mariadb)).map(drop)
}

async fn it_gives_way_on(kind: Kind) -> anyhow::Result<()> {
    let (server, database) = database(kind)?;
    database.run(USERS).await?;
    let terraform = Terraform::new()?;
    let expand = sql("expand", "ALTER TABLE users ADD preferred varchar(50);") + "  lock_timeout = \"1s\"\n";
    terraform.write(&(offline() + &migration(&server.url(), "expand", &expand)))?;
    let blocker = Blocker::uses(&database).await?;
    let child = terraform.start(&APPLY)?;
    database.until(&database.running("ADD preferred")).await?;
    // Others get through in between, however long the transaction is.
    database.run("INSERT INTO users (id, preference) VALUES (1, 'a')").await?;
    blocker.ends().await?;
    said(child).await?.ok()?;
    ensure!(database.number("SELECT count(*) AS n FROM bluegreen_migrations WHERE done").await? == 1);
    Ok(())
}
