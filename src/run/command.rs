//! Commands of the user's: started without a shell, with all their children ended at their time.

use std::collections::BTreeMap;
use std::process::Stdio;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::{Duration, timeout};

use super::ports::{CommandEnd, Commands, FailureKind, PortError};
use crate::rollout::CommandCheck;

/// The end of what a command wrote; more than a person reads, so that a secret at the cut is cut off with it.
const KEPT_BYTES: usize = 64 * 1024;
/// How long a command's children may go on writing once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What Terraform and go-plugin tell the provider is never for its children.
const NOT_INHERITED: [&str; 4] =
    ["TF_PLUGIN_MAGIC_COOKIE", "PLUGIN_CLIENT_CERT", "PLUGIN_PROTOCOL_VERSIONS", "TF_REATTACH_PROVIDERS"];
/// What every command needs. All else in the environment of a provider may be a secret: it is given what it is told.
const INHERITED: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR"];

/// Whether a variable of this process is for a command.
fn is_inherited(name: &str, asked: &[String]) -> bool {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    let wanted = INHERITED.into_iter().chain(asked.iter().map(String::as_str)).any(fits);
    wanted && !NOT_INHERITED.contains(&name)
}

/// Commands on this machine.
pub struct Processes;

/// A process with all its children, which ends with this value.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[async_trait]
impl Commands for Processes {
    async fn run(&self, check: &CommandCheck, variables: &BTreeMap<String, String>) -> Result<CommandEnd, PortError> {
        let fail = |text: String| PortError::new(FailureKind::Other, text);
        let Some((program, arguments)) = check.argv.split_first() else {
            return Err(fail("argv is empty".to_owned()));
        };
        let mut command = Command::new(program);
        let own = std::env::vars_os()
            .filter(|(name, _)| name.to_str().is_some_and(|name| is_inherited(name, &check.inherit)));
        command.args(arguments).env_clear().envs(own).envs(variables);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = &check.working_directory {
            command.current_dir(folder);
        }
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            let folder = check.working_directory.as_ref().map(|folder| format!(" in {folder}")).unwrap_or_default();
            fail(format!("`{program}` can't be started{folder}: {error}"))
        })?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = Group(pid);
        let mut tail = Vec::new();
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        let ended = timeout(check.timeout, async {
            let reading = read_both(&mut out, &mut err, &mut tail);
            tokio::pin!(reading);
            tokio::select! {
                status = child.wait() => {
                    drop(timeout(LAST_WORDS, reading).await);
                    status
                }
                // It closed its output, and goes on.
                () = &mut reading => child.wait().await,
            }
        });
        let ended = ended.await;
        drop(group);
        let output = String::from_utf8_lossy(&tail).into_owned();
        match ended {
            Ok(Ok(status)) => Ok(CommandEnd { code: status.code(), output, timed_out: false }),
            Ok(Err(error)) => Err(fail(format!("`{program}`: {error}"))),
            Err(_) => Ok(CommandEnd { code: None, output, timed_out: true }),
        }
    }
}

/// Reads what comes, and keeps the end of it.
async fn read_both(
    out: &mut Option<impl AsyncRead + Unpin>,
    err: &mut Option<impl AsyncRead + Unpin>,
    tail: &mut Vec<u8>,
) {
    let (mut from_out, mut from_err) = ([0; 4096], [0; 4096]);
    while out.is_some() || err.is_some() {
        let (part, is_out) = tokio::select! {
            read = next(out, &mut from_out) => (read, true),
            read = next(err, &mut from_err) => (read, false),
        };
        match (part, is_out) {
            (0, true) => *out = None,
            (0, false) => *err = None,
            (count, true) => tail.extend_from_slice(&from_out[..count]),
            (count, false) => tail.extend_from_slice(&from_err[..count]),
        }
        let beyond = tail.len().saturating_sub(KEPT_BYTES);
        tail.drain(..beyond);
    }
}

async fn next(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str, timeout: Duration) -> CommandEnd {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let check =
            CommandCheck { argv, environment: BTreeMap::new(), inherit: Vec::new(), working_directory: None, timeout };
        let variables = BTreeMap::from([("BLUEGREEN_COLOR".to_owned(), "green".to_owned())]);
        Processes.run(&check, &variables).await.unwrap()
    }

    #[tokio::test]
    async fn it_ends_with_its_code_and_its_last_words() {
        let end = run("echo $BLUEGREEN_COLOR; echo wrong >&2; exit 3", Duration::from_secs(20)).await;
        assert_eq!(end.code, Some(3));
        assert!(end.output.contains("green\n") && end.output.contains("wrong\n"), "{end:?}");
        let end = run("yes | head -c 100000; echo the end", Duration::from_secs(20)).await;
        assert!(end.code == Some(0) && end.output.len() <= KEPT_BYTES && end.output.ends_with("the end\n"), "{end:?}");
    }

    #[tokio::test]
    async fn p22_it_gets_a_clean_environment() {
        let end = run("env | cut -d= -f1 | sort | tr '\\n' ' '", Duration::from_secs(20)).await;
        let names: Vec<&str> = end.output.split_whitespace().collect();
        let shell = ["PWD", "OLDPWD", "SHLVL", "_", "BLUEGREEN_COLOR"];
        let fits = |name: &&str| is_inherited(name, &[]) || shell.contains(name);
        assert!(names.contains(&"BLUEGREEN_COLOR") && names.iter().all(fits), "{names:?}");
        assert!(is_inherited("AWS_PROFILE", &["AWS_*".to_owned()]) && !is_inherited("AWS_PROFILE", &[]));
        assert!(!is_inherited("PLUGIN_CLIENT_CERT", &["*".to_owned()]));
    }

    #[tokio::test]
    async fn its_children_end_with_it() {
        let end = run("sleep 1000 & echo $!; wait", Duration::from_millis(300)).await;
        assert!(end.timed_out, "{end:?}");
        let pid = Pid::from_raw(end.output.trim().parse().unwrap()).unwrap();
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            stat.map_or(true, |stat| stat.contains(") Z"))
        };
        for _ in 0..200 {
            if is_gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{pid:?} is still there");
    }
}
