//! A person who pastes what a message prints, into a shell with the real AWS CLI.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::client::ACCESS_KEY;
use crate::terraform::{Said, repository};

/// A shell whose AWS CLI leads to this endpoint, and to no region of its own.
#[derive(Debug)]
pub struct Shell<'a> {
    /// Where the local AWS listens.
    pub endpoint: String,
    /// A configuration with profiles; none for keys in the environment.
    pub profiles: Option<&'a Path>,
}

/// How AWS says that something else was under way.
const CONTENTION: [&str; 4] =
    ["ConcurrentUpdateException", "ResourceContention", "ScalingActivityInProgress", "TooManyUpdates"];

/// The commands of a message, in order, each on a line of its own.
#[must_use]
pub fn commands(said: &Said) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    // Terraform shows an error of a plan once more where it shows it in JSON or as a summary.
    for line in said.text.lines().map(str::trim).filter(|line| line.starts_with("aws ")) {
        if !commands.iter().any(|command| command == line) {
            commands.push(line.to_owned());
        }
    }
    commands
}

impl Shell<'_> {
    /// Runs all commands of a message as they stand there; how many there are.
    ///
    /// # Errors
    /// What the first one said that failed, or that there is none.
    pub async fn paste(&self, said: &Said) -> anyhow::Result<usize> {
        let commands = commands(said);
        ensure!(!commands.is_empty(), "there is nothing to paste in:\n{}", said.text);
        for command in &commands {
            let mut ran = self.run(command).await;
            // What is refused because something else was just under way is repeated, as a person does.
            if ran.as_ref().is_err_and(|error| CONTENTION.iter().any(|code| error.to_string().contains(code))) {
                ran = self.run(command).await;
            }
            ran?;
        }
        Ok(commands.len())
    }

    /// Runs a line; what it printed.
    ///
    /// # Errors
    /// What it said if it failed.
    pub async fn run(&self, line: &str) -> anyhow::Result<String> {
        let tools = repository().join(".tools/venv/bin");
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env_clear().env("PATH", path).env("HOME", "/nonexistent").env("AWS_PAGER", "");
        shell.env("AWS_ENDPOINT_URL", &self.endpoint).env("AWS_EC2_METADATA_DISABLED", "true");
        match self.profiles {
            Some(file) => shell.env("AWS_CONFIG_FILE", file),
            None => shell.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", "testing"),
        };
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = shell.spawn().context("no shell")?.wait_with_output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "{line}\n{}\n{}", output.status, text(&output.stderr));
        Ok(text(&output.stdout))
    }
}
