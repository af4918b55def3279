//! The wire layer against real Terraforms, with a provider that says back what it hears.

use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use terraform_tests::terraform::{Said, Terraform, binaries, engine, engines, said};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const REQUIRED: &str = "terraform {\n  required_providers {\n    wire = { source = \"bluegreen/wire\" }\n  }\n}\n";

fn thing(arguments: &str) -> String {
    format!("{REQUIRED}resource \"wire_thing\" \"a\" {{\n  name = \"one\"\n{arguments}\n}}\n")
}

const EVERYTHING: &str = r#"
  single  = { a = "x", n = 12.5, inner = [{ deep = "d", numbers = [1, 100000000000000000000, -3, 0.1] }] }
  list    = [{ a = "l1", inner = [] }, { a = "l2", on = true, n = 9007199254740993 }]
  set     = [{ a = terraform_data.u.id }, { a = terraform_data.u.output }]
  map     = { "a key" = { a = "m", inner = [{ numbers = [] }, {}] } }
  strings = [terraform_data.u.id, terraform_data.u.output]
  any     = { x = [1, "two", true], y = null }
  number  = 100000000000000000000
  password = "hidden-in-output"
}
resource "terraform_data" "u" { input = "x" }
output "joined" { value = provider::wire::join("a", wire_thing.a.single.inner[0].deep) }
output "exact" {
  value = wire_thing.a.single.n * 2 == 25 && wire_thing.a.number - 99999999999999999999 == 1
"#;

/// Nested attributes in all nestings, numbers that no double holds, sets with two unknown members, functions.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_shape_come_back() -> anyhow::Result<()> {
    for engine in engines() {
        let terraform = Terraform::on(engine)?;
        terraform.write(&thing(EVERYTHING))?;
        let said = terraform.apply().await?.ok()?;
        said.has(&["joined = \"ad\"", "exact = true"])?;
        ensure!(!said.text.contains("hidden-in-output"));
        terraform.plan_is_empty().await?;
        let state = terraform.state("wire_thing.a").await?;
        ensure!(state["map"]["a key"]["inner"].as_array().map(Vec::len) == Some(2), "{state}");
        ensure!(state["list"][1]["n"] == 9_007_199_254_740_993_i64, "{state}");
        ensure!(state["strings"].as_array().map(Vec::len) == Some(2), "{state}");
        terraform.write(&thing(&EVERYTHING.replace("\"m\"", "\"changed\"").replace("\"l1\"", "\"l3\"")))?;
        terraform.apply().await?.ok()?;
        terraform.plan_is_empty().await?;
        terraform.destroy().await?.ok()?;
    }
    Ok(())
}

/// A message far beyond gRPC's usual 4 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn five_mebibytes_in_one_attribute() -> anyhow::Result<()> {
    let terraform = Terraform::new()?;
    terraform.file("big.txt", &"0123456789abcdef".repeat(5 * 1024 * 1024 / 16))?;
    terraform.write(&thing("  big = file(\"big.txt\")"))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(terraform.state("wire_thing.a").await?["big"].as_str().map(str::len) == Some(5 * 1024 * 1024));
    Ok(())
}

/// A state of version 0, which called the name a title.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_state_is_upgraded() -> anyhow::Result<()> {
    let terraform = Terraform::new()?;
    terraform.write(&thing(""))?;
    terraform.apply().await?.ok()?;
    let path = terraform.folder().join("terraform.tfstate");
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let instance = &mut state["resources"][0]["instances"][0];
    ensure!(instance["schema_version"] == 1);
    instance["schema_version"] = 0.into();
    let attributes = instance["attributes"].as_object_mut().context("no attributes")?;
    let name = attributes.remove("name").context("no name")?;
    attributes.insert("title".to_owned(), name);
    attributes.insert("gone_since".to_owned(), "whatever".into());
    std::fs::write(&path, state.to_string())?;
    terraform.plan_is_empty().await?;
    // The plan doesn't write it back, and `show` wants the current version.
    terraform.run(&["refresh", "-no-color"]).await?.ok()?;
    ensure!(terraform.state("wire_thing.a").await?["name"] == "one");
    Ok(())
}

/// A write-only secret reaches the provider, and neither plan nor state nor the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_only_secret_is_nowhere() -> anyhow::Result<()> {
    let secret = "correct-horse-battery";
    for version in ["1.11", "1.15"] {
        let Some(engine) = engine(version) else { continue };
        let mut terraform = Terraform::on(engine)?;
        let log = terraform.folder().join("log.txt");
        terraform.set("TF_LOG_PROVIDER", "trace");
        terraform.set("TF_LOG_PATH", &log.display().to_string());
        terraform.write(&thing(&format!("  secret_wo = \"{secret}\"")))?;
        terraform.run(&["plan", "-out=plan", "-no-color"]).await?.ok()?;
        let shown = terraform.run(&["show", "-json", "plan"]).await?.ok()?;
        let planned: Value = serde_json::from_str(&shown.stdout)?;
        ensure!(!planned["planned_values"].to_string().contains(secret), "the plan has it");
        terraform.apply().await?.ok()?;
        let state = terraform.state("wire_thing.a").await?;
        ensure!(state["secret_length"] == secret.len(), "the provider never had it: {state}");
        ensure!(!std::fs::read_to_string(terraform.folder().join("terraform.tfstate"))?.contains(secret));
        ensure!(!std::fs::read_to_string(&log)?.contains(secret), "the log has it");
        terraform.plan_is_empty().await?;
    }
    // An engine that would store it is refused.
    if let Some(engine) = engine("1.8") {
        let terraform = Terraform::on(engine)?;
        terraform.write(&thing("  secret_wo = \"x\""))?;
        let said = terraform.run(&["validate", "-no-color"]).await?;
        ensure!(said.code == 1);
        said.has(&["Write-only attribute needs Terraform 1.11"])?;
    }
    Ok(())
}

/// A panic is a diagnostic; the server lives on, and what was known is in the state.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_diagnostic() -> anyhow::Result<()> {
    for engine in engines() {
        let terraform = Terraform::on(engine)?;
        let other = "}\nresource \"wire_thing\" \"b\" {\n  name = \"two\"";
        for place in ["validate", "plan"] {
            terraform.write(&thing(&format!("  panic_in = \"{place}\"\n{other}")))?;
            let said = terraform.plan().await?;
            ensure!(said.code == 1);
            said.has(&["The provider has a bug", &format!("provoked in {place}")])?;
            ensure!(!said.folded().contains("Plugin did not respond"), "{}", said.text);
        }
        terraform.write(&thing(&format!("  panic_in = \"apply\"\n{other}")))?;
        let said = terraform.apply().await?;
        ensure!(said.code == 1);
        said.has(&["The provider has a bug", "provoked in apply"])?;
        ensure!(terraform.state("wire_thing.b").await?["outcome"] == "done", "the other one was lost");
        ensure!(terraform.state("wire_thing.a").await?["outcome"] == "known so far", "what was known is lost");
    }
    Ok(())
}

/// Ctrl-C during create, to terraform alone and to the whole group as a terminal does it: the state is written.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_during_create_the_state_is_written() -> anyhow::Result<()> {
    for engine in engines() {
        for whole_group in [false, true] {
            let terraform = Terraform::on(engine.clone())?;
            terraform.write(&thing("  slow_ms = 60000"))?;
            let said = interrupt(&terraform, whole_group).await?;
            ensure!(said.code == 1, "{}", said.text);
            let state = terraform.state("wire_thing.a").await?;
            ensure!(state["outcome"] == "stopped", "group {whole_group}: {state}\n{}", said.text);
        }
    }
    Ok(())
}

async fn interrupt(terraform: &Terraform, whole_group: bool) -> anyhow::Result<Said> {
    let mark = terraform.folder().join("create-began");
    let mut command = terraform.command(&["apply", "-auto-approve", "-no-color"]);
    command.env("WIRE_MARK", &mark).as_std_mut().process_group(0);
    let child = command.spawn()?;
    for _ in 0..1200 {
        if mark.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    ensure!(mark.exists(), "create never began");
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).context("no process")?;
    if whole_group {
        kill_process_group(pid, Signal::INT)?
    } else {
        kill_process(pid, Signal::INT)?
    }
    said(child).await
}

/// `-debug` and TF_REATTACH_PROVIDERS, as a debugger needs it.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_provider_can_be_attached() -> anyhow::Result<()> {
    let mut terraform = Terraform::new()?;
    let mut command = tokio::process::Command::new(binaries().join("terraform-provider-wire"));
    command.env("TMPDIR", terraform.folder()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut provider = command.spawn()?;
    let mut lines = BufReader::new(provider.stdout.take().context("no stdout")?).lines();
    let reattach = loop {
        let line = lines.next_line().await?.context("it says nothing")?;
        if let Some(value) = line.trim().strip_prefix("TF_REATTACH_PROVIDERS='") {
            break value.trim_end_matches('\'').to_owned();
        }
    };
    terraform.set("TF_REATTACH_PROVIDERS", &reattach);
    terraform.write(&thing("  number = 3"))?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    ensure!(provider.try_wait()?.is_none(), "it ended with the first terraform");
    Ok(())
}
