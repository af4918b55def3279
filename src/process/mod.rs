//! Commands of the user's: started without a shell, with all their children ended at their time.

pub mod supervisor;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Duration, timeout};

use self::supervisor::End;
use crate::rollout::CommandCheck;
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::ports::{CommandEnd, Commands};
use crate::variables;

/// The end of what a command wrote; more than a person reads, so that a secret at the cut is cut off with it.
const KEPT_BYTES: usize = 64 * 1024;
/// How long a command's children may go on writing once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a supervisor may take to end what a command left.
const TIDYING: Duration = Duration::from_secs(3);
/// What every command needs. All else in the environment of a provider may be a secret: it is given what it is told.
const INHERITED: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR"];

/// Whether a variable of this process is for a command.
fn is_inherited(name: &str, asked: &[String]) -> bool {
    variables::is_asked_for(name, &INHERITED) || variables::is_asked_for(name, asked)
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
        let (mut command, control) = match supervisor::program() {
            Some(supervisor) => supervised(&supervisor, program).map_err(|error| fail(error.to_string()))?,
            None => (Command::new(program), None),
        };
        let own = variables::all().into_iter().filter(|(name, _)| is_inherited(name, &check.inherit_environment));
        command.args(arguments).env_clear().envs(own).envs(variables);
        if control.is_none() {
            command.stdin(Stdio::null()).kill_on_drop(true);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(folder) = &check.working_directory {
            command.current_dir(folder);
        }
        let folder = check.working_directory.as_ref().map(|folder| format!(" in {folder}")).unwrap_or_default();
        let not_started = |error: String| fail(format!("`{program}` can't be started{folder}: {error}"));
        let child = command.spawn().map_err(|error| not_started(error.to_string()))?;
        // It has the supervisor's end of the socket, whose closing tells of the supervisor's end.
        drop(command);
        let mut running = Running::new(child, control);
        let mut tail = Vec::new();
        let ended = timeout(check.timeout, running.end(&mut tail)).await;
        running.finish().await;
        let (output, is_cut) = (String::from_utf8_lossy(&tail).into_owned(), tail.len() == KEPT_BYTES);
        match ended {
            Ok(Ok(End { failed: Some(reason), .. })) => Err(not_started(reason)),
            Ok(Ok(End { code, .. })) => Ok(CommandEnd { code, output, is_cut, timed_out: false }),
            Ok(Err(error)) => Err(fail(format!("`{program}`: {error}"))),
            Err(_) => Ok(CommandEnd { code: None, output, is_cut, timed_out: true }),
        }
    }
}

/// A supervisor for a program, and the provider's end of the socket between them.
fn supervised(supervisor: &Path, program: &str) -> std::io::Result<(Command, Option<UnixStream>)> {
    let (own, theirs) = std::os::unix::net::UnixStream::pair()?;
    own.set_nonblocking(true)?;
    let mut command = Command::new(supervisor);
    command.arg(supervisor::ARGUMENT).arg(program).stdin(Stdio::from(OwnedFd::from(theirs)));
    Ok((command, Some(UnixStream::from_std(own)?)))
}

/// A command that runs, with all its children, which end with this value.
struct Running {
    child: Child,
    /// The socket to the supervisor: it ends everything when this is closed.
    control: Option<UnixStream>,
    /// Where there is no supervisor, the group is all that can be ended.
    _group: Group,
}

impl Running {
    fn new(child: Child, control: Option<UnixStream>) -> Running {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = Group(pid.filter(|_| control.is_none()));
        Running { child, control, _group: group }
    }

    /// Waits for its end, and keeps what it writes.
    async fn end(&mut self, tail: &mut Vec<u8>) -> std::io::Result<End> {
        let (mut out, mut err) = (self.child.stdout.take(), self.child.stderr.take());
        let reading = read_both(&mut out, &mut err, tail);
        tokio::pin!(reading);
        let waiting = async {
            match &mut self.control {
                Some(control) => told(control).await,
                None => self.child.wait().await.map(|status| End { code: status.code(), ..End::default() }),
            }
        };
        tokio::pin!(waiting);
        tokio::select! {
            end = &mut waiting => {
                drop(timeout(LAST_WORDS, reading).await);
                end
            }
            // It closed its output, and goes on.
            () = &mut reading => waiting.await,
        }
    }

    /// Ends what is left of it, and waits for that.
    async fn finish(mut self) {
        if self.control.take().is_some() {
            drop(timeout(TIDYING, self.child.wait()).await);
        }
    }
}

/// What the supervisor tells of the command's end.
async fn told(control: &mut UnixStream) -> std::io::Result<End> {
    let (mut lines, mut group) = (BufReader::new(control).lines(), None);
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            End { pid: Some(pid), .. } => group = Pid::from_raw(pid),
            end => return Ok(end),
        }
    }
    // A command can kill its parent; it goes too, as far as it is still in its group.
    drop(Group(group));
    Err(std::io::Error::other("whoever was to supervise it was killed"))
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
        let check = CommandCheck {
            argv,
            environment: BTreeMap::new(),
            inherit_environment: Vec::new(),
            working_directory: None,
            timeout,
        };
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
