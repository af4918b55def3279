//! A real terraform in a folder of its own, with the provider that was just built.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// No command of a scenario takes nearly this long.
const LIMIT: Duration = Duration::from_secs(240);

/// The repository's folder.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The folder with the built binaries: the one named by BLUEGREEN_BIN, or the one that this program was built into.
#[must_use]
pub fn binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os("BLUEGREEN_BIN") {
        return folder.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") { folder.parent().unwrap_or(folder).to_path_buf() } else { folder.to_path_buf() }
}

/// The engine of this version that setup.py installed; none if it could not have it.
#[must_use]
pub fn engine(version: &str) -> Option<PathBuf> {
    let path = repository().join(".tools/engines").join(version).join("terraform");
    path.exists().then_some(path)
}

/// The engines that scenarios are played on: the machine's own 1.11 where there is one, an older and the newest.
#[must_use]
pub fn engines() -> Vec<PathBuf> {
    ["1.11", "1.8", "1.15"].iter().filter_map(|version| engine(version)).collect()
}

/// A folder with a configuration, and an engine.
pub struct Terraform {
    folder: TempDir,
    engine: PathBuf,
    variables: Vec<(String, String)>,
}

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Standard output and error, without the frames that Terraform draws, in lines as wide as they were written.
    pub text: String,
    /// Standard output as it was.
    pub stdout: String,
}

impl Said {
    /// Goes on only if the command succeeded.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn ok(self) -> anyhow::Result<Said> {
        if self.code == 0 { Ok(self) } else { bail!("exit code {}:\n{}", self.code, self.text) }
    }

    /// The text with every run of white space folded, since Terraform breaks lines where it likes.
    #[must_use]
    pub fn folded(&self) -> String {
        self.text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Whether all these can be read in it.
    ///
    /// # Errors
    /// Names what is missing and shows the text.
    pub fn has(&self, parts: &[&str]) -> anyhow::Result<()> {
        let folded = self.folded();
        for part in parts {
            if !folded.contains(part) {
                bail!("{part:?} is not in (exit code {}):\n{}", self.code, self.text);
            }
        }
        Ok(())
    }
}

impl Terraform {
    /// On the default engine.
    ///
    /// # Errors
    /// When there is none.
    pub fn new() -> anyhow::Result<Terraform> {
        let engine = engines().into_iter().next().context("no engine: run terraform-tests/tools/setup.py")?;
        Terraform::on(engine)
    }

    /// On this engine.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn on(engine: PathBuf) -> anyhow::Result<Terraform> {
        let folder = tempfile::Builder::new().prefix("bluegreen-test-").tempdir()?;
        let binaries = binaries();
        let overrides =
            ["bluegreen/bluegreen", "bluegreen/wire"].map(|source| format!("    {source:?} = {binaries:?}\n"));
        let rc = format!("provider_installation {{\n  dev_overrides {{\n{}  }}\n}}\n", overrides.concat());
        std::fs::write(folder.path().join("terraform.rc"), rc)?;
        Ok(Terraform { folder, engine, variables: Vec::new() })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sets an environment variable for the commands to come.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Writes `main.tf`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, configuration: &str) -> anyhow::Result<()> {
        self.file("main.tf", configuration)
    }

    /// Writes a file, with its folders.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn file(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(self.folder()))?;
        std::fs::write(path, text).with_context(|| format!("failed to write {name}"))
    }

    /// The command, not yet started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.engine);
        let kept = std::env::vars().filter(|(name, _)| {
            !name.starts_with("AWS_") && !name.starts_with("TF_") && !name.to_ascii_lowercase().ends_with("_proxy")
        });
        command.args(arguments).current_dir(self.folder()).env_clear().envs(kept);
        command.env("TF_CLI_CONFIG_FILE", self.folder().join("terraform.rc")).env("CHECKPOINT_DISABLE", "1");
        command.env("TF_IN_AUTOMATION", "1").env("AWS_EC2_METADATA_DISABLED", "true");
        // Sockets of the provider go here, where they can be looked at and go with the folder.
        command.env("TMPDIR", self.folder());
        command.envs(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Starts a command.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        self.command(arguments).spawn().with_context(|| format!("cannot start {}", self.engine.display()))
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it can't be started or doesn't end.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        said(self.start(arguments)?).await.with_context(|| format!("terraform {}", arguments.join(" ")))
    }

    /// `terraform apply`.
    ///
    /// # Errors
    /// As [`Terraform::run`].
    pub async fn apply(&self) -> anyhow::Result<Said> {
        self.run(&["apply", "-auto-approve", "-input=false", "-no-color"]).await
    }

    /// `terraform plan`: exit code 0 if it is empty, 2 if not.
    ///
    /// # Errors
    /// As [`Terraform::run`].
    pub async fn plan(&self) -> anyhow::Result<Said> {
        self.run(&["plan", "-input=false", "-no-color", "-detailed-exitcode"]).await
    }

    /// Goes on only if the plan is empty.
    ///
    /// # Errors
    /// Shows the plan.
    pub async fn plan_is_empty(&self) -> anyhow::Result<()> {
        let said = self.plan().await?;
        if said.code == 0 { Ok(()) } else { bail!("the plan is not empty (exit code {}):\n{}", said.code, said.text) }
    }

    /// `terraform destroy`.
    ///
    /// # Errors
    /// As [`Terraform::run`].
    pub async fn destroy(&self) -> anyhow::Result<Said> {
        self.run(&["destroy", "-auto-approve", "-input=false", "-no-color"]).await
    }

    /// The attributes of a resource in the state.
    ///
    /// # Errors
    /// When there is no state.
    pub async fn state(&self, address: &str) -> anyhow::Result<Value> {
        let said = self.run(&["show", "-json", "-no-color"]).await?.ok()?;
        let state: Value = serde_json::from_str(&said.stdout)?;
        let resources = state["values"]["root_module"]["resources"].as_array().cloned().unwrap_or_default();
        let found = resources.into_iter().find(|resource| resource["address"] == address);
        Ok(found.map_or(Value::Null, |resource| resource["values"].clone()))
    }
}

/// Waits for a command's end.
///
/// # Errors
/// When it doesn't end.
pub async fn said(child: Child) -> anyhow::Result<Said> {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.context("it does not end")??;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let both = format!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines = both.lines().map(|line| line.trim_start_matches(['│', '╷', '╵', ' ']));
    let text = lines.collect::<Vec<_>>().join("\n");
    Ok(Said { code: output.status.code().unwrap_or(-1), text, stdout })
}
