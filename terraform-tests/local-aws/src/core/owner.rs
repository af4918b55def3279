//! Finds the process at the other end of a local TCP connection, to kill a provider in the middle of a call.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::process::{Pid, kill_process};

use crate::core::faults::Signal;
use crate::core::serve::Peer;

/// Only such programs are ever killed.
const KILLABLE: &str = "terraform-provider-";

/// Sends a signal to the provider that made this connection.
///
/// # Errors
/// When no process is found, or it is no provider.
pub(crate) fn kill_client(peer: Peer, signal: Signal) -> anyhow::Result<()> {
    let (pid, program) = client_process(peer).context("no process has the other end of the connection")?;
    if !program.starts_with(KILLABLE) {
        bail!("the caller is {program:?} (process {pid}), no {KILLABLE}*: it is left alone");
    }
    let pid = Pid::from_raw(pid).context("a process has no number")?;
    let signal = match signal {
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Int => rustix::process::Signal::INT,
    };
    kill_process(pid, signal)?;
    Ok(())
}

/// The number and the program's file name of the process that has the client's end.
fn client_process(peer: Peer) -> Option<(i32, String)> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let wanted = format!("socket:[{}]", inode(&table, peer.client, peer.local)?);
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if has_socket(&process.path(), &wanted) {
            let program = fs::read_link(process.path().join("exe")).ok()?;
            return Some((pid, program.file_name()?.to_string_lossy().into_owned()));
        }
    }
    None
}

fn has_socket(process: &Path, wanted: &str) -> bool {
    // Other users' processes cannot be read; they are not ours to kill either.
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted))
}

/// The inode of the socket whose own end is `local`, from the text of `/proc/net/tcp`.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (in_hex(local)?, in_hex(remote)?);
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let (own, other) = (columns.nth(1)?, columns.next()?);
        // After the two addresses: state, queues, timer, retransmits, user, timeout, inode.
        if own == local && other == remote { columns.nth(6)?.parse().ok().filter(|&inode| inode != 0) } else { None }
    })
}

fn in_hex(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    // The kernel prints the address as a number in its own byte order.
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_other_end_of_a_connection_is_found_and_spared() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("an address");
        let client = TcpStream::connect(local).expect("a connection");
        let _accepted = listener.accept().expect("accepted");
        let peer = Peer { client: client.local_addr().expect("an address"), local };
        let (pid, program) = client_process(peer).expect("this very process");
        assert_eq!(u32::try_from(pid).ok(), Some(std::process::id()));
        assert!(!program.is_empty());
        let refusal = kill_client(peer, Signal::Kill).expect_err("a test is no provider");
        assert!(refusal.to_string().contains("left alone"));
    }
}
