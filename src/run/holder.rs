//! Who this process is, for others to know whether it is still there.

use std::fs;

/// A process, as a ledger names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// For people: the user, the machine, and the run of a pipeline if there is one.
    pub name: String,
    /// The machine as far as process ids reach.
    pub machine: String,
    /// The process.
    pub pid: u32,
    /// The process that started it.
    pub parent: u32,
}

/// This process.
pub fn this() -> Holder {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let user =
        ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_else(|| "somebody".to_owned());
    let pid = std::process::id();
    let pipeline = pipeline().map(|run| format!(", {run}")).unwrap_or_default();
    Holder { name: format!("{user}@{host} (process {pid}{pipeline})"), machine: machine(&host), pid, parent: parent() }
}

fn parent() -> u32 {
    let pid = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    u32::try_from(pid).unwrap_or_default()
}

/// Whether a process of this machine was started by the one that started this one: another resource of the same Terraform
/// run holds what is asked for, and will be done with it.
pub fn is_sibling(machine: &str, parent: u32) -> bool {
    let this = this();
    // A process whose parent has gone is the first one's child, and no sibling of others like it.
    !machine.is_empty() && machine == this.machine && parent > 1 && parent == this.parent
}

/// The pipeline's own name for this run.
fn pipeline() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(run) = variable("TFC_RUN_ID") {
        return Some(format!("Terraform Cloud run {run}"));
    }
    if let (Some(server), Some(repository), Some(run)) =
        (variable("GITHUB_SERVER_URL"), variable("GITHUB_REPOSITORY"), variable("GITHUB_RUN_ID"))
    {
        return Some(format!("{server}/{repository}/actions/runs/{run}"));
    }
    variable("CI_JOB_URL").or_else(|| variable("BUILD_URL"))
}

#[cfg(test)]
tokio::task_local! {
    /// Another machine than this one, for a test that plays two.
    pub(crate) static MACHINE: String;
}

/// Process ids mean something within one boot of one machine, and there within one namespace. Where that can't be told
/// the name of the machine says nothing.
fn machine(host: &str) -> String {
    #[cfg(test)]
    if let Ok(machine) = MACHINE.try_with(Clone::clone) {
        return machine;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    if boot.is_empty() || namespace.is_empty() {
        return String::new();
    }
    format!("{host} {} {namespace}", boot.trim())
}

/// Whether another process of this machine is there; none if it is one of another machine, of which nothing is known.
pub fn is_alive(machine: &str, pid: u32) -> Option<bool> {
    if machine.is_empty() || machine != this().machine {
        return None;
    }
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)?;
    match rustix::process::test_kill_process(pid) {
        // Somebody else's process has the number now, or has had it all along.
        Ok(()) | Err(rustix::io::Errno::PERM) => Some(!is_defunct(pid)),
        Err(_) => Some(false),
    }
}

/// A process that has ended and that nobody has asked for yet.
fn is_defunct(pid: rustix::process::Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_ends() {
        let own = this();
        assert_eq!(is_alive(&own.machine, own.pid), Some(true));
        assert_eq!(is_alive("another machine", own.pid), None);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(is_alive(&own.machine, pid), Some(false));
    }
}
