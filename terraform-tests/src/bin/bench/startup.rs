//! From `exec` to the handshake line, beside a static program that prints such a line, and beside hashicorp/aws.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use terraform_tests::terraform::{binaries, repository};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";
/// The floor: what an operating system needs to start a program that says one line.
const FLOOR: &str = "#include <stdio.h>\nint main(void) { puts(\"1|6|unix|/x|grpc|\"); return 0; }\n";
const ROUNDS: usize = 60;
const AWS: &str = "registry.terraform.io/hashicorp/aws/3.39.0/linux_amd64/terraform-provider-aws_v3.39.0_x5";

pub async fn run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let floor = build_floor(&folder)?;
    let ours = binaries().join("terraform-provider-bluegreen");
    let aws = repository().join(".tools/mirror").join(AWS);
    let certificate = certificate()?;
    let (mut floors, mut own, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        floors.push(handshake(&floor, &certificate, folder.path()).await?);
        own.push(handshake(&ours, &certificate, folder.path()).await?);
        // The peer takes long enough to be measured with fewer rounds.
        if round % 6 == 0 {
            peers.push(handshake(&aws, &certificate, folder.path()).await?);
        }
    }
    let (floor, own, peer) = (median(&mut floors), median(&mut own), median(&mut peers));
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    super::tell("exec to handshake, a static C program (the floor)", &ms(floor), None);
    super::tell("exec to handshake, this provider", &ms(own), None);
    super::tell("exec to handshake, hashicorp/aws 3.39.0", &ms(peer), None);
    let times = ratio(own, floor);
    super::tell("  this provider / the floor (reach: 2)", &format!("{times:.2}"), Some(times <= 2.0));
    let times = ratio(peer, own);
    super::tell("  hashicorp/aws / this provider (reach: 50)", &format!("{times:.1}"), Some(times >= 50.0));
    Ok(())
}

fn build_floor(folder: &TempDir) -> anyhow::Result<PathBuf> {
    let (source, program) = (folder.path().join("floor.c"), folder.path().join("floor"));
    std::fs::write(&source, FLOOR)?;
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let built =
        std::process::Command::new(compiler).args(["-O2", "-static", "-o"]).arg(&program).arg(&source).status()?;
    if built.success() { Ok(program) } else { bail!("the floor can't be compiled") }
}

/// A client certificate like the host's: its key's type decides what the server has to set up.
fn certificate() -> anyhow::Result<String> {
    Ok(rcgen::generate_simple_self_signed(["localhost".to_owned()])?.cert.pem())
}

async fn handshake(program: &Path, certificate: &str, folder: &Path) -> anyhow::Result<Duration> {
    let mut command = Command::new(program);
    command.env_clear().env("TF_PLUGIN_MAGIC_COOKIE", COOKIE).env("PLUGIN_CLIENT_CERT", certificate);
    command.env("PLUGIN_PROTOCOL_VERSIONS", "5,6").env("PLUGIN_UNIX_SOCKET_DIR", folder).env("TMPDIR", folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let start = now();
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let stdout = child.stdout.take().context("no stdout")?;
    let line = BufReader::new(stdout).lines().next_line().await?.context("no handshake")?;
    let took = start.elapsed();
    anyhow::ensure!(line.starts_with("1|"), "{} said {line:?}", program.display());
    drop(child.kill().await);
    Ok(took)
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn now() -> Instant {
    Instant::now()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
