//! Whoever is logged in stays so: the example apps, with a real Redis, and without one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::json;
use terraform_tests::servers::{Kind, Server};
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Terraform, binaries, repository};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The apps that are there: the one on Express only where there is Node.
fn apps() -> Vec<Vec<PathBuf>> {
    let express = repository().join(".tools/express-app/server.js");
    let mut apps = vec![vec![binaries().join("example-app")]];
    if express.exists() {
        apps.push(vec![PathBuf::from("node"), express]);
    }
    apps
}

/// An app that runs, until this is dropped.
struct Running {
    _child: Child,
    address: SocketAddr,
}

async fn start(program: &[PathBuf], color: &str, redis: Option<&str>) -> anyhow::Result<Running> {
    let mut command = Command::new(&program[0]);
    command
        .args(&program[1..])
        .env("COLOR", color)
        .env("RELEASE", "1")
        .env("SESSION_SECRET", "a secret of both colors");
    command.env("HOST", "127.0.0.2").env("PORT", "0").env_remove("REDIS_URL");
    command.envs(redis.map(|url| ("REDIS_URL", url)));
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
    let line = lines.next_line().await?.context("it ends at once")?;
    let port = line.rsplit(':').next().and_then(|port| port.parse().ok()).context(line.clone())?;
    Ok(Running { _child: child, address: SocketAddr::from(([127, 0, 0, 2], port)) })
}

/// The example stack over two colors of an app. moto tells targets apart by address alone, so each color has one.
async fn play(program: &[PathBuf], redis: Option<&str>) -> anyhow::Result<()> {
    let (blue, green) = (start(program, "blue", redis).await?, start(program, "green", redis).await?);
    let mut stage = Stage::bare().await?;
    stage.color_of("blue", &[blue.address]).await?;
    stage.color_of("green", &[green.address]).await?;
    stage.listener(Leads::Color("blue")).await?;
    let users = format!("http://{}", stage.address(0)?);
    let terraform = Terraform::new()?;
    let main = std::fs::read_to_string(repository().join("examples/app/main.tf"))?;
    terraform.write(&main)?;
    terraform.file("provider.tf", &stage.provider_block())?;
    let apply = async |active: &str| {
        let variables = json!({
            "active": active,
            "listener_arn": stage.listeners[0],
            "target_group_arns": stage.groups,
            "app_url": users,
            "color_url": format!("http://{}", green.address),
        });
        terraform.file("terraform.tfvars.json", &variables.to_string())?;
        terraform.apply().await
    };
    apply("blue").await?.ok()?;

    let http = reqwest::Client::builder().no_proxy().build()?;
    let form = http.post(format!("{users}/login")).header("content-type", "application/x-www-form-urlencoded");
    let login = form.body("user=ada").send().await?;
    ensure!(login.status() == 200, "{login:?}");
    let cookie = login.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok()).context("no cookie")?;
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let whoami = async || -> anyhow::Result<(String, u16, String)> {
        // Some node may still lead where it led before.
        stage.aws.settled().await?;
        let answer = http.get(format!("{users}/whoami")).header("cookie", &cookie).send().await?;
        let color = answer.headers().get("x-color").and_then(|color| color.to_str().ok()).unwrap_or_default();
        Ok((color.to_owned(), answer.status().as_u16(), answer.text().await?))
    };
    ensure!(whoami().await? == ("blue".to_owned(), 200, r#"{"user":"ada"}"#.to_owned()), "{:?}", whoami().await?);

    let said = apply("green").await?;
    if redis.is_some() {
        said.ok()?;
        ensure!(whoami().await? == ("green".to_owned(), 200, r#"{"user":"ada"}"#.to_owned()), "{:?}", whoami().await?);
        return terraform.plan_is_empty().await;
    }
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["green with the cookies of blue (sid)", "status 401 instead of 200"])?;
    ensure!(whoami().await?.0 == "blue", "nobody was moved");
    Ok(())
}

/// With Redis a user logged in on blue is still logged in on green.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_survives_the_switch() -> anyhow::Result<()> {
    let redis = Server::start(Kind::Redis)?;
    for program in apps() {
        play(&program, Some(&redis.url())).await.with_context(|| format!("{program:?}"))?;
    }
    Ok(())
}

/// With sessions in memory the switch is refused.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_memory_refuse_the_switch() -> anyhow::Result<()> {
    for program in apps() {
        play(&program, None).await.with_context(|| format!("{program:?}"))?;
    }
    Ok(())
}
