//! Secrets planted in every place that takes one, told back by whoever was sent them, and looked for in every place that
//! shows something: no cell of that table but the allowed ones may have one.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use terraform_tests::database::Database;
use terraform_tests::servers::{Kind, Server};
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Said, Terraform};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What is planted where. Each is used in one place only, so that a find tells the leak.
const PLANTED: [(&str, &str); 18] = [
    ("secret_key", "pl4nt-secret-key-aa"),
    ("token", "pl4nt-session-token-bb"),
    ("a header", "pl4nt-api-key-cc"),
    ("the password in Authorization: Basic", "pl4nt-basic-dd"),
    ("a header with {color}", "pl4nt-for-green-ee"),
    ("a short header", "q7z"),
    ("a header of five letters", "x9k2w"),
    ("the body", "pl4nt-body-ff"),
    ("the password in a URL", "pl4nt-url-gg"),
    ("a query", "pl4nt-query-hh"),
    ("a cookie", "pl4nt-cookie-ii"),
    ("a payload", "pl4nt-payload-jj"),
    ("a command's environment", "pl4nt-env-kk"),
    ("the same and more", "pl4nt-env-kk-and-more"),
    ("AWS_* inherited by a command", "pl4nt-aws-ll"),
    ("TF_VAR_* inherited by a command", "pl4nt-tfvar-mm"),
    ("a variable inherited by its name", "pl4nt-named-nn"),
    ("the password of a database", "pl4nt-database-oo"),
];

/// A server as debug pages are: it tells everything back that it was sent, in several spellings.
async fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.8:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                let mut length = 0;
                // What comes within a moment is all of it.
                while let Ok(Ok(count @ 1..)) =
                    tokio::time::timeout(std::time::Duration::from_millis(150), stream.read(&mut buffer[length..]))
                        .await
                {
                    length += count;
                }
                let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let basic =
                    request.lines().find_map(|line| line.split_once("Basic ").map(|(_, pair)| pair.trim().to_owned()));
                let basic = basic.and_then(|pair| STANDARD.decode(pair).ok()).unwrap_or_default();
                let login = request.starts_with("POST /login");
                let body = format!("{} {}", String::from_utf8_lossy(&basic), request.replace("\r\n", " "));
                let (status, cookie) = if login {
                    ("200 OK", "set-cookie: sid=pl4nt-cookie-ii; Path=/; HttpOnly\r\n")
                } else {
                    ("500 Internal Server Error", "")
                };
                let head =
                    format!("HTTP/1.1 {status}\r\n{cookie}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
                drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
            });
        }
    });
    Ok(address)
}

/// Everything that is shown, by the place.
struct Shown(Vec<(String, String)>);

impl Shown {
    fn add(&mut self, place: &str, text: impl Into<String>) {
        self.0.push((place.to_owned(), text.into()));
    }

    async fn gather(
        &mut self,
        what: &str,
        said: &Said,
        stage: Option<&Stage>,
        terraform: &Terraform,
    ) -> anyhow::Result<()> {
        self.add(&format!("{what}: what Terraform prints"), &said.text);
        let log = terraform.folder().join("provider.log");
        self.add(&format!("{what}: the log"), std::fs::read_to_string(&log).unwrap_or_default());
        let state = std::fs::read_to_string(terraform.folder().join("terraform.tfstate")).unwrap_or_default();
        let state: Value = serde_json::from_str(&state).unwrap_or_default();
        for resource in state["resources"].as_array().into_iter().flatten() {
            for instance in resource["instances"].as_array().into_iter().flatten() {
                // What was configured is in the state: that cell is allowed.
                let own =
                    ["last_rollout", "runbook", "phases", "id"].map(|name| instance["attributes"][name].to_string());
                self.add(&format!("{what}: computed attributes of the state"), own.join(" "));
                let private = STANDARD.decode(instance["private"].as_str().unwrap_or_default()).unwrap_or_default();
                self.add(&format!("{what}: private data of the state"), String::from_utf8_lossy(&private));
            }
        }
        if let Some(stage) = stage {
            let lock = stage.client.parameter("/myapp/current-live.rollout").await?.unwrap_or_default();
            self.add(&format!("{what}: the lock record"), lock);
            // Messages to a topic, parameters, tags: all but what a function is to be given.
            let calls = stage.aws.calls();
            ensure!(calls.iter().any(|call| call.operation == "Publish"), "nobody was told");
            let sent = calls.iter().filter(|call| call.service != "lambda").map(|call| call.params.to_string());
            self.add(&format!("{what}: calls to AWS"), sent.collect::<Vec<_>>().join(" "));
        }
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for (place, text) in &self.0 {
            for (name, secret) in PLANTED {
                let encoded = [STANDARD.encode(secret), secret.to_owned()];
                let shown = if secret.len() < 4 {
                    text.split(|c: char| !c.is_alphanumeric()).any(|word| word == secret)
                } else {
                    encoded.iter().any(|form| text.contains(form.as_str()))
                };
                if shown {
                    let at = text.find(secret).unwrap_or_default();
                    let near: String = text.get(at.saturating_sub(80)..).unwrap_or(text).chars().take(200).collect();
                    found.push(format!("{name} ({secret}) in {place}: {near}"));
                }
            }
        }
        ensure!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    }
}

/// Values come from variables in a file of their own: Terraform shows the lines that a diagnostic points at.
fn variables() -> String {
    let basic = STANDARD.encode("admin:pl4nt-basic-dd");
    let values = [
        ("secret_key", "pl4nt-secret-key-aa"),
        ("token", "pl4nt-session-token-bb"),
        ("api_key", "pl4nt-api-key-cc"),
        ("basic", &format!("Basic {basic}")),
        ("colored", "pl4nt-for-{color}-ee"),
        ("short", "q7z"),
        ("five", "x9k2w"),
        ("body", "{\\\"user\\\": \\\"app\\\", \\\"password\\\": \\\"pl4nt-body-ff\\\"}"),
        ("payload", "{\\\"key\\\": \\\"pl4nt-payload-jj\\\"}"),
        ("environment", "pl4nt-env-kk"),
    ];
    let variable = |(name, value): (&str, &str)| {
        format!("variable \"{name}\" {{\n  default   = \"{value}\"\n  sensitive = true\n}}\n")
    };
    values.into_iter().map(variable).collect()
}

fn configured(stage: &Stage, active: &str, more: &str) -> String {
    let own = stage.switch(Some(active), more);
    own.replace("secret_key   = \"testing\"", "secret_key   = var.secret_key\n  token        = var.token")
}

/// Checks that send something planted: what they are, as they are written, and what is told of their failure.
fn checks(echo: SocketAddr) -> Vec<(&'static str, String, &'static str)> {
    let headers = "{ X-Api-Key = var.api_key, Authorization = var.basic, X-Color = var.colored, X-Short = var.short, X-Five = var.five }";
    let plain = format!("url = \"http://{echo}/check\", headers = {headers}, retries = 0");
    let body = format!("url = \"http://{echo}/check\", method = \"POST\", body = var.body, retries = 0");
    let address = "url = var.address, retries = 0";
    let session = format!(
        "session = {{ login = {{ url = \"http://{echo}/login\", method = \"POST\", body = var.body }}, check = {{ url = \"http://{echo}/whoami\" }} }}"
    );
    let script = "env; echo $MY_KEY $MORE $MY_NAMED $TF_VAR_anything; printf '%s' \\\"$MY_KEY\\\" | base64; exit 3";
    let command = format!(
        "command = [{{ argv = [\"sh\", \"-c\", \"{script}\"], environment = {{ MY_KEY = var.environment, MORE = \"${{var.environment}}-and-more\" }}, inherit_environment = [\"AWS_*\", \"TF_VAR_*\", \"MY_NAMED\"] }}]"
    );
    let lambda = "lambda = [{ function_name = \"smoke\", payload = var.payload }]".to_owned();
    vec![
        ("headers", format!("http = [{{ {plain} }}]"), "the body begins"),
        ("a body", format!("http = [{{ {body} }}]"), "the body begins"),
        ("an address", format!("http = [{{ {address} }}]"), "the body begins"),
        ("a session", session, "with the cookies of blue (sid)"),
        ("a command", command, "It wrote last:"),
        ("a function", lambda, "smoke"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_shown_wherever_it_was_planted() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let echo = echo().await?;
    let mut terraform = Terraform::new()?;
    let log = terraform.folder().join("provider.log");
    terraform.set("TF_LOG_PROVIDER", "trace");
    terraform.set("TF_LOG_PATH", &log.to_string_lossy());
    terraform.set("AWS_SESSION_TOKEN", "pl4nt-aws-ll");
    terraform.set("TF_VAR_anything", "pl4nt-tfvar-mm");
    terraform.set("MY_NAMED", "pl4nt-named-nn");
    terraform.file("variables.tf", &variables())?;
    terraform.write(&configured(&stage, "blue", ""))?;
    terraform.apply().await?.ok()?;
    let mut shown = Shown(Vec::new());

    stage.aws.set_function(
        "smoke",
        &["!{\"errorMessage\":\"no pl4nt-payload-jj\",\"event\":{\"key\":\"pl4nt-payload-jj\"}}"],
    );
    let secret_url = format!("http://admin:pl4nt-url-gg@{echo}/check?api_key=pl4nt-query-hh&n=1");
    let variable = format!("variable \"address\" {{\n  default   = \"{secret_url}\"\n  sensitive = true\n}}\n");
    terraform.file("address.tf", &variable)?;
    // A plan shows what is configured, but for what the schema marks as sensitive.
    let literal = format!("  validation = {{ http = [{{ url = \"{secret_url}\" }}] }}");
    terraform.write(&configured(&stage, "green", &literal))?;
    let planned = terraform.plan().await?;
    planned.has(&[&format!("http://{echo}/check")])?;
    shown.gather("an address that is written down, plan", &planned, None, &terraform).await?;
    let topic = stage.client.sns("CreateTopic", &[("Name", "releases")]).await?;
    let topic = terraform_tests::client::element(&topic, "TopicArn")?.to_owned();
    for (what, check, expected) in checks(echo) {
        for block in ["validation", "verification"] {
            if block == "verification" && what == "a session" {
                continue;
            }
            terraform.write(&configured(
                &stage,
                "green",
                &format!("  {block} = {{ {check} }}\n  strategy = {{ settle = \"0s\" }}\n  notify = {{ sns_topic_arn = \"{topic}\" }}"),
            ))?;
            let planned = terraform.plan().await?;
            shown.gather(&format!("{what} in {block}, plan"), &planned, None, &terraform).await?;
            let said = terraform.apply().await?;
            ensure!(said.code == 1, "{what}: {}", said.text);
            said.has(&[expected, "***"]).with_context(|| format!("{what} in {block}"))?;
            shown.gather(&format!("{what} in {block}"), &said, Some(&stage), &terraform).await?;
        }
    }

    // AWS tells back what it was sent, with a terminal's orders and a runner's.
    for (operation, message) in [
        ("DescribeListeners", "no: pl4nt-secret-key-aa and pl4nt-session-token-bb\n::error::planted"),
        ("GetParameters", "no: pl4nt-secret-key-aa and pl4nt-session-token-bb\u{1b}[31m\n::error::planted"),
    ] {
        let error = json!({ "status": 400, "code": "ValidationException", "message": message });
        let fault = json!({ "operation": operation, "times": null, "action": { "error": error } });
        stage.aws.add_fault(serde_json::from_value(fault)?);
        let said = terraform.plan().await?;
        stage.aws.clear_faults();
        ensure!(said.code == 1 && !said.text.contains('\u{1b}'), "{}", said.text);
        ensure!(!said.stdout.lines().any(|line| line.trim_start().starts_with("::")), "{}", said.text);
        said.has(&["no: *** and ***"])?;
        shown.gather(operation, &said, Some(&stage), &terraform).await?;
    }
    shown.check()
}

/// A database that tells back what it was sent, and one that doesn't let anybody in.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_tells_no_password() -> anyhow::Result<()> {
    let server = Server::start(Kind::Postgres)?;
    let url = server.url();
    let (scheme, rest) = url.split_once("://").context("no URL")?;
    let (user, place) = rest.split_once('@').context("no user")?;
    let user = user.split(':').next().unwrap_or_default();
    Database::at(&url)?.run(&format!("ALTER ROLE {user} PASSWORD 'pl4nt-database-oo'")).await?;
    let mut terraform = Terraform::new()?;
    let log = terraform.folder().join("provider.log");
    terraform.set("TF_LOG_PROVIDER", "trace");
    terraform.set("TF_LOG_PATH", &log.to_string_lossy());
    let mut shown = Shown(Vec::new());
    // libpq's variables lead nowhere else, and none of them is obeyed.
    for (name, value) in [
        ("PGPASSWORD", "pl4nt-database-oo"),
        ("PGOPTIONS", "-c default_transaction_read_only=on"),
        ("PGSSLMODE", "verify-full"),
        ("PGHOST", "192.0.2.1"),
    ] {
        terraform.set(name, value);
    }
    let migration = |url: &str, sql: &str| {
        format!(
            "terraform {{\n  required_providers {{\n    bluegreen = {{ source = \"bluegreen/bluegreen\" }}\n  }}\n}}\n\
             provider \"bluegreen\" {{\n  region = \"eu-central-1\"\n  access_key = \"a\"\n  secret_key = \"b\"\n}}\n\
             variable \"url\" {{\n  default   = \"{url}\"\n  sensitive = true\n}}\n\n\
             resource \"bluegreen_migration\" \"it\" {{\n  name = \"it\"\n  database = {{ url = var.url }}\n  phase = \"expand\"\n  expand = \"{sql}\"\n}}\n"
        )
    };
    let good = format!("{scheme}://{user}:pl4nt-database-oo@{place}");
    let raise = "DO $$ BEGIN RAISE EXCEPTION 'it was %', 'pl4nt-' || 'database-oo'; END $$;";
    terraform.write(&migration(&good, raise))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["it was ***"])?;
    shown.gather("a database's error", &said, None, &terraform).await?;
    terraform.write(&migration(&format!("{scheme}://nobody:pl4nt-database-oo@{place}"), "CREATE TABLE a (b int);"))?;
    let said = terraform.plan().await?;
    shown.gather("a database's refusal", &said, None, &terraform).await?;
    terraform.write(&migration(&good, "CREATE TABLE a (b int);"))?;
    let said = terraform.apply().await?.ok()?;
    shown.gather("a database", &said, None, &terraform).await?;
    let ledger = "SELECT string_agg(bluegreen_migrations::text, ' ') FROM bluegreen_migrations";
    let owner = Database::at(&good)?;
    shown.add("the ledger", owner.text(ledger).await?.context("there is no ledger")?);
    shown.check()
}
