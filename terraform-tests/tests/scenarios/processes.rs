//! What the provider leaves and what outlives it: nothing, however it ends.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use terraform_tests::stage::Stage;
use terraform_tests::terraform::{Terraform, binaries, said};
use tokio::time::{Instant, sleep, timeout};

const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

fn pid_of(child: &tokio::process::Child) -> anyhow::Result<Pid> {
    child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).context("it has ended")
}

/// The processes whose command line has this in it.
fn processes(pattern: &str) -> anyhow::Result<Vec<Pid>> {
    let found = Command::new("pgrep").args(["-f", pattern]).output()?;
    let found = String::from_utf8(found.stdout)?;
    Ok(found.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect())
}

/// The children of a process, and theirs.
fn below(pid: Pid) -> anyhow::Result<Vec<Pid>> {
    let found = Command::new("pgrep").args(["-P", &pid.as_raw_nonzero().to_string()]).output()?;
    let children: Vec<Pid> =
        String::from_utf8(found.stdout)?.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect();
    let mut all = children.clone();
    for child in children {
        all.extend(below(child)?);
    }
    Ok(all)
}

/// One that has ended may wait for somebody to ask how.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

async fn within(limit: Duration, what: &str, holds: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    while !holds()? {
        ensure!(Instant::now() < end, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

/// A plan, a refresh and an import while AWS says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_only_looks_ends_with_ctrl_c() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    let listener = stage.listeners[0].clone();
    let fresh = Terraform::new()?;
    fresh.write(&stage.switch(Some("blue"), ""))?;
    let hang = serde_json::json!({ "mutating": false, "times": null, "action": { "hang_ms": 120_000 } });
    stage.aws.add_fault(serde_json::from_value(hang)?);
    let import = ["import", "-no-color", "-input=false", "bluegreen_switch.app", listener.as_str()];
    for (terraform, arguments) in [
        (&terraform, &["plan", "-no-color", "-input=false"][..]),
        (&terraform, &["apply", "-refresh-only", "-auto-approve", "-no-color"][..]),
        (&fresh, &["plan", "-no-color", "-input=false"][..]),
        (&fresh, &import[..]),
    ] {
        stage.aws.clear_calls();
        // As a terminal has it: Ctrl-C goes to the whole group.
        let child = terraform.command(arguments).process_group(0).spawn()?;
        let asked = |stage: &Stage| stage.aws.calls().iter().any(|call| !call.mutating);
        stage.until(asked, "asks").await?;
        kill_process_group(pid_of(&child)?, Signal::INT)?;
        let stopped = Instant::now();
        let said = timeout(Duration::from_secs(60), said(child)).await.context("it does not end")??;
        let took = stopped.elapsed();
        eprintln!("{arguments:?}: ended after {took:?}");
        // An attempt that nobody stops goes on for twenty seconds.
        ensure!(said.code != 0 && took < Duration::from_secs(15), "{arguments:?}: {took:?}: {}", said.text);
    }
    Ok(())
}

/// Killed, Terraform can tell its provider nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_provider_ends_with_its_host() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    let hang = serde_json::json!({ "times": null, "action": { "hang_ms": 120_000 } });
    stage.aws.add_fault(serde_json::from_value(hang)?);
    stage.aws.clear_calls();
    let mut child = terraform.start(&["plan", "-no-color", "-input=false"])?;
    stage.until(|stage| !stage.aws.calls().is_empty(), "asks").await?;
    let providers = below(pid_of(&child)?)?;
    ensure!(!providers.is_empty());
    child.kill().await?;
    let gone = || Ok(providers.iter().all(|pid| !is_alive(*pid)));
    within(Duration::from_secs(4), "the providers are gone", gone).await?;
    let left: Vec<_> = std::fs::read_dir(terraform.folder())?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(left.iter().all(|name| !name.to_string_lossy().starts_with("tf-bluegreen-")), "{left:?}");
    Ok(())
}

/// The first process of a container has no parent that it could see go.
#[tokio::test]
async fn the_first_process_of_a_namespace_ends_with_its_host() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root can make a namespace");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let provider = binaries().join("terraform-provider-bluegreen");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork"]).arg(&provider).env("TF_PLUGIN_MAGIC_COOKIE", COOKIE);
    command.env("PLUGIN_CLIENT_CERT", certificate.cert.pem()).env("TMPDIR", folder.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let unshare = Pid::from_raw(i32::try_from(child.id())?).context("no number")?;
    let line = first_line(child.stdout.as_mut().context("no output")?)?;
    if !line.starts_with("1|6|unix|") {
        eprintln!("left out: no namespace can be made here");
        return Ok(());
    }
    let inside = below(unshare)?;
    ensure!(inside.len() == 1, "{inside:?}");
    // The host is gone: its ends of the pipes are closed. Whoever stands between goes too.
    drop((child.stdout.take(), child.stderr.take()));
    within(Duration::from_secs(4), "it is gone", || Ok(!is_alive(inside[0]))).await?;
    child.wait()?;
    Ok(())
}

fn first_line(mut from: impl std::io::Read) -> anyhow::Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while from.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8(line)?)
}

/// What a command began ends with it: in its time, with Ctrl-C, and when the provider is killed, also where it has left for a
/// session of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_children_of_a_command_end_with_it() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    let mark = format!("93.{}", stage.apps["green"].addresses()[0].port());
    let script = format!("setsid sleep {mark} & (setsid setsid sleep {mark} &) ; sleep {mark}");
    let check = |limit: &str| {
        let command = format!("{{ argv = [\"sh\", \"-c\", \"{script}\"], timeout = \"{limit}\" }}");
        stage.switch(Some("green"), &format!("  validation = {{ command = [{command}] }}"))
    };
    let pattern = format!("^sleep {mark}");
    let none = || Ok(processes(&pattern)?.is_empty());
    for how in ["time", "stop", "kill"] {
        terraform.write(&check(if how == "time" { "3s" } else { "60s" }))?;
        let child = terraform.start(&["apply", "-auto-approve", "-no-color"])?;
        within(Duration::from_secs(60), "it runs", || Ok(processes(&pattern)?.len() == 3)).await?;
        match how {
            "stop" => kill_process(pid_of(&child)?, Signal::INT)?,
            "kill" => {
                for provider in below(pid_of(&child)?)?.into_iter().filter(|pid| is_provider(*pid)) {
                    kill_process(provider, Signal::KILL)?;
                }
                within(Duration::from_secs(4), "all of it is gone", none).await?;
            }
            _ => {}
        }
        let said = said(child).await?;
        ensure!(said.code == 1, "{how}: {}", said.text);
        within(Duration::from_secs(2), "all of it is gone", none).await?;
        if how == "time" {
            said.has(&["was not done after 3s and was killed"])?;
        }
    }
    Ok(())
}

fn is_provider(pid: Pid) -> bool {
    let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    line.contains("terraform-provider-bluegreen") && !line.contains("supervise-command")
}

/// A command tells how it ended as before: its code, its words, that it can't be started.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_tells_how_it_ended() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    terraform.apply().await?.ok()?;
    for (argv, words) in [
        ("[\"sh\", \"-c\", \"echo the last words; exit 7\"]", &["ended with exit code 7", "the last words"][..]),
        ("[\"sh\", \"-c\", \"kill -9 $$\"]", &["was killed"][..]),
        (
            "[\"sh\", \"-c\", \"sleep 0.5; kill -9 $PPID; exec sleep 94.7\"]",
            &["whoever was to supervise it was killed"][..],
        ),
        ("[\"no-such-program\"]", &["`no-such-program` can't be started", "No such file"][..]),
    ] {
        let more = format!("  validation = {{ command = [{{ argv = {argv} }}] }}");
        terraform.write(&stage.switch(Some("green"), &more))?;
        let said = terraform.apply().await?;
        ensure!(said.code == 1, "{}", said.text);
        said.has(words)?;
    }
    within(Duration::from_secs(2), "the last one is gone", || Ok(processes("^sleep 94.7")?.is_empty())).await
}

/// The folder for temporary files is other people's as well.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_others_is_touched() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let mut terraform = Terraform::new()?;
    terraform.write(&stage.switch(Some("blue"), ""))?;
    let shared = tempfile::tempdir()?;
    let theirs: Vec<_> =
        ["tf-bluegreen-4000000", "tf-bluegreen--+77", "tf-bluegreen-77.backup", "tf-bluegreen-0123456789ab"]
            .map(|name| shared.path().join(name).join("terraform.tfstate"))
            .to_vec();
    for file in &theirs {
        std::fs::create_dir(file.parent().context("no folder")?)?;
        std::fs::write(file, "{}")?;
    }
    terraform.set("TMPDIR", &shared.path().to_string_lossy());
    terraform.apply().await?.ok()?;
    ensure!(theirs.iter().all(|file| file.exists()), "something is gone");
    ensure!(std::fs::read_dir(shared.path())?.count() == theirs.len(), "something is left");
    // No folder for it is no reason for the one where Terraform runs.
    terraform.set("TMPDIR", "");
    terraform.set("PLUGIN_UNIX_SOCKET_DIR", "");
    let plan = terraform.start(&["plan", "-no-color"])?;
    let said = said(plan).await?;
    ensure!(said.code == 0, "{}", said.text);
    ensure!(
        !Path::new(terraform.folder())
            .read_dir()?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("sock"))
    );
    // A folder whose path is too long is left for another one; one that the host names is told in words.
    let long = shared.path().join("x".repeat(100));
    std::fs::create_dir(&long)?;
    terraform.set("TMPDIR", &long.to_string_lossy());
    terraform.plan_is_empty().await?;
    terraform.set("PLUGIN_UNIX_SOCKET_DIR", &long.to_string_lossy());
    let refused = terraform.plan().await?;
    refused.has(&["failed to make a socket", "a socket's has at most 107"])?;
    ensure!(std::fs::read_dir(&long)?.count() == 0, "something is left");
    Ok(())
}

/// An apply and a destroy of an environment while AWS says nothing: what it reads is let go, what it has sent is not sent
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn an_environment_ends_with_ctrl_c() -> anyhow::Result<()> {
    let stage = Stage::empty().await?;
    let (vpc, _) = stage.network().await?;
    let environment = |port: u16| {
        format!(
            "{}resource \"bluegreen_environment\" \"blue\" {{\n  name = \"other\"\n  color = \"blue\"\n  vpc_id = \"{vpc}\"\n  \
             target_group = {{ port = {port}, protocol = \"HTTP\", health_check = {{ path = \"/\", timeout = 5 }} }}\n}}\n",
            stage.provider()
        )
    };
    let terraform = Terraform::new()?;
    let plan = ["plan", "-out=plan", "-no-color"];
    for (reads, limit) in [(true, 9), (false, 28)] {
        let destroy = ["plan", "-destroy", "-out=plan", "-no-color"];
        // Until the call's own time is over, its answer may come.
        for (what, arguments) in
            [("create", &plan[..]), ("destroy", &destroy[..])].into_iter().take(if reads { 2 } else { 1 })
        {
            terraform.write(&environment(80))?;
            if what == "destroy" {
                terraform.apply().await?.ok()?;
            }
            terraform.run(arguments).await?.ok()?;
            let hang = serde_json::json!({
                "service": "elbv2", "mutating": !reads, "times": null, "action": { "hang_ms": 120_000 },
            });
            stage.aws.add_fault(serde_json::from_value(hang)?);
            stage.aws.clear_calls();
            let child = terraform.start(&["apply", "-no-color", "plan"])?;
            stage.until(|stage| stage.aws.calls().iter().any(|call| call.mutating != reads), "calls").await?;
            sleep(Duration::from_millis(500)).await;
            kill_process(pid_of(&child)?, Signal::INT)?;
            let stopped = Instant::now();
            let said = timeout(Duration::from_secs(60), said(child)).await.context("it does not end")??;
            let took = stopped.elapsed();
            eprintln!("{what}, reads {reads}: ended after {took:?}");
            ensure!(said.code == 1 && took < Duration::from_secs(limit), "{what}: {took:?}: {}", said.text);
            stage.aws.clear_faults();
            terraform.destroy().await?.ok()?;
        }
    }
    Ok(())
}
