//! What is refused, and how it is told.

use anyhow::ensure;
use serde_json::json;
use terraform_tests::database::Database;
use terraform_tests::servers::{Kind, PASSWORD, Server};
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Said, Terraform};

use super::{database, guard, migration, offline, sql};

const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, preference varchar(50))";

/// Nothing that a run says holds the password, and the diagnostic points at this line of the configuration.
fn points(said: &Said, at: &str) -> anyhow::Result<()> {
    ensure!(!said.text.contains(PASSWORD), "the password is shown:\n{}", said.text);
    let pointed = said.text.lines().any(|line| line.contains(": ") && line.contains(at) && !line.contains("Line "));
    ensure!(pointed, "nothing points at {at:?}:\n{}", said.text);
    Ok(())
}

/// Wrong password, nobody there, no such database, a table that isn't there in line 7, a right that is missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_at_its_place() -> anyhow::Result<()> {
    for kind in [Kind::Postgres, Kind::Mariadb] {
        let (server, database) = database(kind)?;
        database.run(USERS).await?;
        let terraform = Terraform::new()?;
        let expand = sql("expand", "ALTER TABLE users ADD preferred varchar(50);");
        let write = |url: &str, more: &str| terraform.write(&(offline() + &migration(url, "expand", more)));

        write(&server.url().replace(PASSWORD, "another-s3cret"), &expand)?;
        terraform.plan().await?.has(&["Warning: The database refuses the user"])?;
        let said = terraform.apply().await?;
        ensure!(said.code == 1 && !said.text.contains("another-s3cret"), "{}", said.text);
        said.has(&["Error: The database refuses the user", "database.url: "])?;
        points(&said, "database = {")?;

        write(&server.url().replace(&format!(":{}/", server.address.port()), ":9/"), &expand)?;
        let said = terraform.plan().await?;
        ensure!(said.code == 2, "a plan needs no database: {}", said.text);
        said.has(&["Warning: Failed to reach the database"])?;
        let said = terraform.apply().await?;
        ensure!(said.code == 1, "{}", said.text);
        said.has(&["Error: Failed to reach the database", "127.0.0.1:9, database app, user app"])?;
        points(&said, "database = {")?;

        write(&server.url().replace("/app", "/nowhere"), &expand)?;
        let said = terraform.apply().await?;
        ensure!(said.code == 1, "{}", said.text);

        let lines = "-- 1\n-- 2\nALTER TABLE users ADD preferred varchar(50);\n\n-- 5\n\
                     UPDATE users SET\n  prefered = preference;\n-- 8";
        write(&server.url(), &sql("expand", lines))?;
        let said = terraform.apply().await?;
        ensure!(said.code == 1, "{}", said.text);
        said.has(&["Failed to expand rename-preference", "(statement 2 of 2)", "prefered"])?;
        points(&said, "expand = <<-SQL")?;
        let line = if kind == Kind::Postgres { "Line 7 of expand" } else { "Line 6 of expand" };
        said.has(&[line])?;
        if kind == Kind::Postgres {
            said.has(&["7 | prefered = preference;", "Nothing of expand is left in the database"])?;
        } else {
            said.has(&["expand is half done"])?;
            terraform
                .plan()
                .await?
                .has(&["Error: expand of rename-preference died half-way", "1 of its 2 statements"])?;
            database.run("DROP TABLE bluegreen_migrations; ALTER TABLE users DROP preferred").await?;
        }

        let syntax = "SELECT 1;\n\n\n\n\nALTER TABLE users\n  ADDD preferred varchar(50);";
        write(&server.url(), &sql("expand", syntax))?;
        terraform.apply().await?.has(&["Line 7 of expand", "ADDD preferred"])?;
        database.run("DROP TABLE IF EXISTS bluegreen_migrations").await?;
        rights(&server, &terraform, &expand).await?;
    }
    Ok(())
}

/// A user who may log in, and no more.
async fn rights(server: &Server, terraform: &Terraform, expand: &str) -> anyhow::Result<()> {
    let root = Database::at(&if server.root_url().starts_with("mysql") {
        server.root_url()
    } else {
        server.root_url().replace("/app", "/app?options=-c%20search_path%3Dpublic")
    })?;
    let user = if server.root_url().starts_with("mysql") {
        format!("CREATE USER guest@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON app.* TO guest@'127.0.0.1'")
    } else {
        format!("CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    };
    root.run(&user).await?;
    let url = server.url().replace("//app:", "//guest:");
    terraform.write(&(offline() + &migration(&url, "expand", expand)))?;
    let said = terraform.apply().await?;
    ensure!(said.code == 1, "{}", said.text);
    said.has(&["Error: The user lacks a right", "bluegreen_migrations"])?;
    points(&said, "database = {")
}

/// Bad input without a database.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_before_anybody_is_asked() -> anyhow::Result<()> {
    let terraform = Terraform::new()?;
    let url = "postgres://app:s3cret@127.0.0.1:9/app";
    let expand = sql("expand", "SELECT 1;");
    let cases = [
        (migration("oracle://app:s3cret@db/app", "expand", &expand), "must begin with postgres://", "database = {"),
        (migration(&format!("{url}?sslmod=x"), "expand", &expand), "\"sslmod\" is not known", "database = {"),
        (migration(url, "contract", &expand), "This phase has no text", "phase"),
        (migration(url, "expnd", &expand), "must be one of expand, backfill, contract", "phase"),
        (migration(url, "expand", ""), "There is nothing to run", "phase"),
        (
            migration(url, "expand", &sql("expand", "SELECT 1;\n\\i x.sql")),
            "Line 2 of expand: \\i is a command",
            "expand =",
        ),
        (migration(url, "expand", &format!("{expand}  batched = true")), "There is no backfill", "batched"),
        (
            migration(url, "expand", &format!("{expand}  resolve = \"maybe\"")),
            "must be one of applied, reverted",
            "resolve",
        ),
        (migration(url, "expand", &format!("{expand}  lock_timeout = \"2\"")), "it has no unit", "lock_timeout"),
        (migration(url, "expand", &format!("{expand}  pause = \"2m\"")), "must be from 0s to 1m", "pause"),
        (
            migration(url, "expand", &format!("{expand}  guard = {{ parameter = \"myapp/live\", live = \"green\" }}")),
            "must begin with a slash",
            "guard",
        ),
    ];
    for (configuration, what, line) in cases {
        terraform.write(&(offline() + &configuration))?;
        // Variables are unknown to `validate`; a plan validates once more with their values.
        let said = terraform.plan().await?;
        ensure!(said.code == 1 && !said.text.contains("s3cret"), "{what}: {}", said.text);
        said.has(&[what])?;
        ensure!(said.text.lines().any(|text| text.contains(": ") && text.contains(line)), "{line}: {}", said.text);
    }
    Ok(())
}

/// A text that has run is not to be changed, phases only go forward, names stay, and the plan lints what is to run.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_run_has_run() -> anyhow::Result<()> {
    let (server, database) = database(Kind::Postgres)?;
    database.run(USERS).await?;
    let terraform = Terraform::new()?;
    let expand = sql("expand", "ALTER TABLE users ADD preferred varchar(50);");
    let backfill = sql("backfill", "UPDATE users SET preferred = preference;");
    let write = |phase: &str, more: &str| terraform.write(&(offline() + &migration(&server.url(), phase, more)));
    write("expand", &(expand.clone() + &backfill))?;
    let said = terraform.apply().await?.ok()?;
    said.has(&[
        "expand: run 1 statement in one transaction, unless that has been done",
        "Warning: backfill may keep others waiting",
        "UPDATE users SET preferred = preference;",
        "batched = true and a statement with LIMIT",
    ])?;
    terraform.plan_is_empty().await?;
    let state = terraform.state("bluegreen_migration.it").await?;
    ensure!(state["phases"]["expand"]["status"] == "done" && state["contracted_for"].is_null(), "{state}");

    // Another state adopts what has run.
    let other = Terraform::new()?;
    other.write(&(offline() + &migration(&server.url(), "expand", &expand)))?;
    other.apply().await?.ok()?;
    other.plan_is_empty().await?;
    other.write(&(offline() + &migration(&server.url(), "backfill", &(expand.clone() + &backfill))))?;
    other.apply().await?.ok()?;
    // The first one sees it as drift, and does not go back.
    let said = terraform.plan().await?;
    said.has(&["Error: A migration only goes forward", "Set phase = \"backfill\""])?;
    write("backfill", &(expand.clone() + &backfill))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(database.number("SELECT count(*) FROM bluegreen_migrations").await? == 2);

    write("backfill", &(sql("expand", "ALTER TABLE users ADD preferred varchar(60);") + &backfill))?;
    let said = terraform.plan().await?;
    said.has(&["Error: expand of rename-preference has run with another text", "put the text back as it was"])?;
    points(&said, "expand = <<-SQL")?;
    write("backfill", &backfill)?;
    terraform.plan().await?.has(&["has run with another text", "is gone from the configuration"])?;

    let renamed =
        migration(&server.url(), "backfill", &(expand.clone() + &backfill)).replace("rename-pref", "other-pref");
    terraform.write(&(offline() + &renamed))?;
    terraform.plan().await?.has(&["Error: A migration can't be renamed"])?;
    let stale = format!("{expand}{backfill}  resolve = \"applied\"\n");
    write("backfill", &stale)?;
    terraform.apply().await?.ok()?.has(&["Warning: There is nothing to resolve"])?;
    write("contract", &format!("{stale}{}", sql("contract", "ALTER TABLE users DROP preference;")))?;
    terraform.plan().await?.has(&["Error: There is nothing to resolve", "Remove resolve"])?;

    // Another place has a ledger of its own: what runs there is planned, not taken for done.
    database.run("CREATE SCHEMA other; CREATE TABLE other.users (id int PRIMARY KEY, preference varchar(50))").await?;
    let elsewhere = format!("{}?options=-c%20search_path%3Dother", server.url());
    terraform.write(&(offline() + &migration(&elsewhere, "backfill", &(expand.clone() + &backfill))))?;
    terraform.plan().await?.has(&["expand: run 1 statement in one transaction", "~ phases"])?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(database.number("SELECT count(*) FROM other.bluegreen_migrations").await? == 2);

    // A database that is down is no reason not to plan the rest.
    write("backfill", &(expand + &backfill))?;
    terraform.apply().await?.ok()?;
    drop(server);
    let said = terraform.plan().await?;
    ensure!(said.code == 0, "{}", said.text);
    said.has(&["Warning: Failed to reach the database", "is shown as it was last seen"])
}

/// A write-only URL reaches no state; an engine that would store it is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_only_url_is_kept_nowhere() -> anyhow::Result<()> {
    let (server, database) = database(Kind::Mariadb)?;
    database.run(USERS).await?;
    let expand = sql("expand", "ALTER TABLE users ADD preferred varchar(50);");
    let configuration = offline() + &migration(&server.url(), "expand", &expand).replace("{ url =", "{ url_wo =");
    let terraform = Terraform::new()?;
    terraform.write(&configuration)?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    let state = std::fs::read_to_string(terraform.folder().join("terraform.tfstate"))?;
    ensure!(!state.contains(PASSWORD), "{state}");
    database.run("UPDATE bluegreen_migrations SET checksum = 'x'").await?;
    terraform.plan().await?.has(&["has run with another text"])?;
    // A destroy plans first; the way around what that refuses is in its text.
    let refused = terraform.destroy().await?;
    refused.has(&["terraform destroy -refresh=false"])?;
    terraform.run(&["destroy", "-auto-approve", "-no-color", "-refresh=false"]).await?.ok()?;
    ensure!(database.number("SELECT count(*) FROM bluegreen_migrations").await? == 1, "the ledger stays");
    if let Some(old) = terraform_tests::terraform::engine("1.8") {
        let old = Terraform::on(old)?;
        old.write(&configuration)?;
        old.plan().await?.has(&["Write-only attribute needs Terraform 1.11"])?;
    }
    Ok(())
}

/// `contract` waits for its guard, and a switch does not go back behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_contract_waits_for_its_guard_and_bars_the_way_back() -> anyhow::Result<()> {
    let (server, database) = database(Kind::Postgres)?;
    database.run(USERS).await?;
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    let contract = sql("contract", "ALTER TABLE users DROP preference;");
    let releases = |blue: &str| {
        let mut switch = stage.switch(None, "  contracted_for = bluegreen_migration.it.contracted_for\n");
        for (color, release) in [("blue", blue), ("green", "2")] {
            let group = format!("target_group_arn = \"{}\"", stage.group(color));
            switch = switch.replace(&group, &format!("{group}, release = \"{release}\""));
        }
        switch
    };
    let write = |active: &str, blue: &str, guard: &str, more: &str| {
        let switch =
            releases(blue).replace("  environments", &format!("  active = \"{active}\"\n{more}  environments"));
        let migration = migration(&server.url(), "contract", &(contract.clone() + guard));
        terraform.write(&format!("{switch}\n{migration}"))
    };
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;

    write("green", "1", &guard("green", "0s"), "")?;
    let said = terraform.plan().await?;
    said.has(&["Error: contract would run before its guard holds", "the record says that blue is live"])?;
    points(&said, "guard")?;
    terraform.write(&stage.switch(Some("green"), ""))?;
    terraform.apply().await?.ok()?;
    write("green", "1", &guard("green", "24h"), "")?;
    terraform.plan().await?.has(&["it has been live for", "only. Nothing was changed. Plan again in 23h59m"])?;

    // The same value written again does not make it younger, a rollout under way does bar it.
    let value = json!({ "Name": "/myapp/current-live", "Value": "green", "Overwrite": true });
    stage.client.ssm("PutParameter", value).await?;
    let held =
        json!({ "version": 1, "run": "r", "holder": "me@elsewhere", "since": "noon", "status": "held", "to": "green" });
    let lock = json!({ "Name": "/myapp/current-live.rollout", "Type": "String", "Value": held.to_string(), "Overwrite": true });
    stage.client.ssm("PutParameter", lock).await?;
    write("green", "1", &guard("green", "0s"), "")?;
    let barred = terraform.plan().await?;
    barred.has(&["the rollout to green that me@elsewhere began at noon was stopped half-way"])?;
    ensure!(stage.shell().paste(&barred).await? == 1);
    ensure!(stage.client.parameter("/myapp/current-live.rollout").await?.is_none());

    stage.aws.clear_calls();
    let said = terraform.apply().await?.ok()?;
    said.has(&["contract: check that green is live by /myapp/current-live; run 1 statement"])?;
    let kept_out = |call: &local_aws::Call| call.params["Name"] == "/myapp/current-live.rollout" && call.mutating;
    ensure!(stage.aws.calls().iter().filter(|call| kept_out(call)).count() == 2, "taken, and given up");
    terraform.plan_is_empty().await?;
    let state = terraform.state("bluegreen_migration.it").await?;
    ensure!(state["contracted_for"]["color"] == "green", "{state}");

    write("blue", "1", &guard("green", "0s"), "")?;
    let said = terraform.plan().await?;
    said.has(&["Error: blue has a release from before the contract", "rename-preference", "allow_after_contract"])?;
    ensure!(stage.answers(0, "/").await? == "green");
    write("blue", "1", &guard("green", "0s"), "  allow_after_contract = true\n")?;
    terraform.plan().await?.has(&["Warning: blue has a release from before the contract"])?;
    write("blue", "3", &guard("green", "0s"), "")?;
    terraform.apply().await?.ok()?;
    ensure!(stage.answers(0, "/").await? == "blue", "a newer release may go live");
    terraform.plan_is_empty().await
}

/// Certificates are checked where that is wished, against the authorities that are named.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_as_wished() -> anyhow::Result<()> {
    for kind in [Kind::Postgres, Kind::Mariadb] {
        let server = Server::with_tls(kind)?;
        Database::at(&server.url())?.run(USERS).await?;
        let terraform = Terraform::new()?;
        let expand = sql("expand", "ALTER TABLE users ADD preferred varchar(50);");
        let apply = async |url: &str, tls: &str| {
            let database = format!("{{ url = var.database_url, tls = {{ {tls} }} }}");
            let text = migration(url, "expand", &expand).replace("{ url = var.database_url }", &database);
            terraform.write(&(offline() + &text))?;
            terraform.apply().await
        };
        let untrusted = apply(&server.url(), "mode = \"verify-full\"").await?;
        ensure!(untrusted.code == 1, "{}", untrusted.text);
        untrusted.has(&["Error: Failed to encrypt the connection", "set tls.ca_bundle"])?;
        points(&untrusted, "database = {")?;
        let bundle = format!("ca_bundle = \"{}\"", server.folder().join("ca.pem").display());
        let elsewhere = apply(&server.url().replace("127.0.0.1", "localhost"), &bundle).await?;
        ensure!(elsewhere.code == 1, "a certificate for 127.0.0.1 is none for localhost: {}", elsewhere.text);
        apply(&server.url(), &bundle).await?.ok()?;
        terraform.plan_is_empty().await?;
    }
    let bare = Server::start(Kind::Postgres)?;
    let terraform = Terraform::new()?;
    let url = format!("{}?sslmode=require", bare.url());
    terraform.write(&(offline() + &migration(&url, "expand", &sql("expand", "SELECT 1;"))))?;
    terraform.apply().await?.has(&["Error: Failed to encrypt the connection"])
}
