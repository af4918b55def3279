//! Keeps one command of the user's, as a process of its own beside the provider: whatever the command began ends with it,
//! also what left its process group, and also when the provider is killed.
//!
//! The provider starts its own binary once more, with the command as arguments and a socket as standard input. The
//! supervisor takes in the command's orphans (it is a subreaper), tells over the socket how the command ended, and ends
//! everything below it once the other end of the socket is closed: by the provider, or by the system when that is gone.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// The first argument of a supervisor; the command follows.
pub const ARGUMENT: &str = "supervise-command";
/// How often what is left is ended before it is left alone: what is in the kernel can't be.
const ROUNDS: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);

static OFFERED: AtomicBool = AtomicBool::new(false);

/// How a command ended, as it is told over the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Its number, told when it has begun: the provider ends its group where the supervisor can't.
    pub pid: Option<i32>,
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Why it could not be started.
    pub failed: Option<String>,
}

/// Says that this program, started with [`ARGUMENT`], is a supervisor. Other programs that have this code in them are none.
pub fn offer() {
    OFFERED.store(true, Ordering::SeqCst);
}

/// The program to start for a supervisor.
pub(super) fn program() -> Option<std::path::PathBuf> {
    if !OFFERED.load(Ordering::SeqCst) {
        return None;
    }
    // The file may have been replaced since this process began; the link leads to what runs.
    let own = std::path::PathBuf::from("/proc/self/exe");
    if own.exists() { Some(own) } else { std::env::current_exe().ok() }
}

/// Is the supervisor of the command in these arguments.
pub fn supervise(command: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut command = command.into_iter();
    let control = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let (Some(program), Ok(mut control)) = (command.next(), control) else { return ExitCode::FAILURE };
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(getpid()));
    let started = Command::new(program).args(command).stdin(Stdio::null()).process_group(0).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            tell(&mut control, &End { failed: Some(error.to_string()), ..End::default() });
            return ExitCode::FAILURE;
        }
    };
    leave_output();
    let pid = i32::try_from(child.id()).ok();
    let group = pid.and_then(Pid::from_raw);
    tell(&mut control, &End { pid, ..End::default() });
    let Ok(mut until_closed) = control.try_clone() else {
        end_all(group);
        return ExitCode::FAILURE;
    };
    let guard = std::thread::spawn(move || {
        // Nothing is ever sent this way: what comes is the end.
        let _ = until_closed.read(&mut [0; 1]);
        end_all(group);
        std::process::exit(0);
    });
    if let Ok(status) = child.wait() {
        tell(&mut control, &End { code: status.code().filter(|_| status.signal().is_none()), ..End::default() });
    }
    // What the command left may go on writing for as long as the provider reads.
    drop(guard.join());
    ExitCode::SUCCESS
}

fn tell(control: &mut UnixStream, end: &End) {
    if let Ok(text) = serde_json::to_string(end) {
        drop(writeln!(control, "{text}"));
    }
}

/// Whoever reads what the command writes learns of its end by nobody having it open any more.
fn leave_output() {
    if let Ok(nowhere) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&nowhere);
        let _ = rustix::stdio::dup2_stderr(&nowhere);
    }
}

/// Ends the command's group and everything else below this process, until nothing is left.
fn end_all(group: Option<Pid>) {
    for _ in 0..ROUNDS {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let left = descendants(getpid());
        // They were seen a moment ago: a number comes back only after all others were used.
        for pid in &left {
            let _ = kill_process(*pid, Signal::KILL);
        }
        while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        if left.is_empty() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Everything below a process, as far as the system shows it; nothing where it doesn't.
fn descendants(of: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // `pid (name) state parent …`; the name may hold anything.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
        let (state, parent) = (fields.next(), fields.next().and_then(|parent| parent.parse::<i32>().ok()));
        if let (Some(state), Some(parent)) = (state, parent)
            && state != "Z"
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut open = vec![of.as_raw_nonzero().get()];
    let mut found = Vec::new();
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            open.push(child);
            found.extend(Pid::from_raw(child));
        }
    }
    found
}
