//! A column gets another name while two releases write it through the load balancer: the example stack, from one end to
//! the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use local_aws::app::Handler;
use serde_json::json;
use terraform_tests::database::Database;
use terraform_tests::servers::{Kind, Server};
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, repository};
use tokio::task::JoinHandle;

use super::database;

const USERS: i64 = 5000;
const WRITERS: i64 = 4;

/// A release that knows the preference by this column's name: `POST /preference/ID/VALUE`, `GET /preference/ID`.
fn shop(database: Database, column: &'static str) -> Handler {
    Arc::new(move |method, path| {
        let database = database.clone();
        Box::pin(async move {
            let mut parts = path.strip_prefix("/preference/")?.split('/');
            let id: i64 = parts.next()?.parse().ok()?;
            let answer = if method == "POST" {
                let value = parts.next().filter(|value| value.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
                let sql = format!("UPDATE users SET {column} = '{value}' WHERE id = {id}");
                database.run(&sql).await.map(|rows| (if rows == 1 { 200 } else { 404 }, String::new()))
            } else {
                let sql = format!("SELECT {column} FROM users WHERE id = {id}");
                database.text(&sql).await.map(|text| (200, text.unwrap_or_default()))
            };
            Some(answer.unwrap_or_else(|error| (500, error.to_string())))
        })
    })
}

/// What a writer has seen.
#[derive(Debug, Default)]
struct Written {
    requests: u64,
    /// The last acknowledged value by user.
    last: BTreeMap<i64, String>,
    wrong: Vec<String>,
    colors: BTreeMap<String, u64>,
}

/// Writes and reads users of its own until it is stopped.
async fn write(address: std::net::SocketAddr, of: i64, stop: Arc<AtomicBool>) -> anyhow::Result<Written> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let mut seen = Written::default();
    for n in 0..1_000_000_u64 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Every user of a writer's own, every second of them never written.
        let user = (i64::try_from(n)? * 2 * WRITERS + of) % USERS;
        let value = format!("w{of}n{n}");
        let url = format!("http://{address}/preference/{user}");
        for request in [http.post(format!("{url}/{value}")), http.get(&url)] {
            let reads = request.try_clone().context("no clone")?.build()?.method() == "GET";
            let answer = request.send().await?;
            seen.requests += 1;
            let color = answer.headers().get("x-color").and_then(|color| color.to_str().ok()).unwrap_or("nobody");
            *seen.colors.entry(color.to_owned()).or_default() += 1;
            let (color, status, text) = (color.to_owned(), answer.status(), answer.text().await?);
            if status != 200 || (reads && text != value) {
                seen.wrong.push(format!("{color} answered {status} {text:?} instead of {value}"));
            }
        }
        seen.last.insert(user, value);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    Ok(seen)
}

struct Play {
    stage: Stage,
    terraform: Terraform,
    /// Kept until the end.
    _server: Server,
    database: Database,
    variables: serde_json::Value,
}

impl Play {
    async fn new(kind: Kind) -> anyhow::Result<Play> {
        let (server, database) = database(kind)?;
        database.run("CREATE TABLE users (id int PRIMARY KEY, preference varchar(50))").await?;
        let rows: Vec<String> = (0..USERS).map(|id| format!("({id}, 'p{id}')")).collect();
        database.run(&format!("INSERT INTO users VALUES {}", rows.join(", "))).await?;
        let mut stage = Stage::bare().await?;
        stage.color_with("blue", Some(shop(database.clone(), "preference"))).await?;
        stage.color_with("green", Some(shop(database.clone(), "preferred_theme"))).await?;
        stage.listener(Leads::Color("blue")).await?;
        let terraform = Terraform::new()?;
        let folder = repository().join("examples/stacks/rename-a-column");
        let sql = if kind == Kind::Postgres { "postgres" } else { "mysql" };
        for file in ["001_expand.sql", "002_backfill.sql", "003_contract.sql"].map(|file| format!("{sql}/{file}")) {
            terraform.file(&file, &std::fs::read_to_string(folder.join(&file))?)?;
        }
        terraform.file("main.tf", &std::fs::read_to_string(folder.join("main.tf"))?)?;
        terraform.file("provider.tf", &stage.provider_block())?;
        let variables = json!({
            "listener_arn": stage.listeners[0],
            "target_group_arns": stage.groups,
            "releases": { "blue": "1", "green": "2" },
            "database_url": server.url(),
            "stable_for": "0s",
            "sql": sql,
        });
        Ok(Play { stage, terraform, _server: server, database, variables })
    }

    async fn apply(&self, active: &str, phase: &str) -> anyhow::Result<()> {
        let mut variables = self.variables.clone();
        variables["active"] = json!(active);
        variables["phase"] = json!(phase);
        self.terraform.file("terraform.tfvars.json", &variables.to_string())?;
        self.terraform.apply().await?.ok().with_context(|| format!("active {active}, phase {phase}"))?;
        self.terraform.plan_is_empty().await
    }
}

/// No write is lost and no request fails, in any phase, on either release.
async fn a_column_is_renamed(kind: Kind) -> anyhow::Result<()> {
    let play = Play::new(kind).await?;
    play.apply("blue", "expand").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let address = play.stage.address(0)?;
    let writers: Vec<JoinHandle<_>> = (0..WRITERS).map(|of| tokio::spawn(write(address, of, stop.clone()))).collect();
    play.apply("blue", "backfill").await?;
    let left = play.database.number("SELECT count(*) AS n FROM users WHERE preferred_theme IS NULL").await?;
    ensure!(left == 0, "{left} rows are not copied");
    play.apply("green", "backfill").await?;
    play.stage.aws.settled().await?;
    play.apply("green", "contract").await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut requests, mut colors, mut last) = (0, BTreeMap::new(), BTreeMap::new());
    for writer in writers {
        let seen = writer.await??;
        ensure!(
            seen.wrong.is_empty(),
            "{} of {} went wrong: {:?}",
            seen.wrong.len(),
            seen.requests,
            seen.wrong.first()
        );
        requests += seen.requests;
        seen.colors.into_iter().for_each(|(color, n)| *colors.entry(color).or_insert(0) += n);
        last.extend(seen.last);
    }
    let rows = play.database.pairs("users", ("id", "preferred_theme")).await?;
    for user in 0..USERS {
        let value = rows.get(&user.to_string());
        let expected = last.get(&user).cloned().unwrap_or_else(|| format!("p{user}"));
        ensure!(value == Some(&expected), "user {user} has {value:?} instead of {expected}");
    }
    ensure!(play.database.number("SELECT preference AS n FROM users").await.is_err(), "the old column is gone");
    eprintln!("{kind:?}: {requests} requests {colors:?}, 0 failed; {} users written, none lost", last.len());
    ensure!(colors.len() == 2 && requests > 200, "{requests} {colors:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_is_renamed_under_writes() -> anyhow::Result<()> {
    tokio::try_join!(a_column_is_renamed(Kind::Postgres), a_column_is_renamed(Kind::Mariadb)).map(drop)
}
