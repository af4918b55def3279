//! The process that started this one, and whether it is still there.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The process that started this one, as it was at the start.
pub(super) struct Host {
    parent: u32,
    connections: Connections,
}

/// Counts the connections that are open.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<AtomicUsize>);

/// A connection, for as long as it is open.
pub(super) struct Open(Arc<AtomicUsize>);

impl Connections {
    pub(super) fn open(&self) -> Open {
        self.0.fetch_add(1, Ordering::SeqCst);
        Open(self.0.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Host {
    /// The process that has just started this one.
    pub(super) fn new(connections: Connections) -> Host {
        Host { parent: std::os::unix::process::parent_id(), connections }
    }

    /// Whether it is gone. Who is started by another namespace's process (the first of a container is) sees no parent, nor
    /// does who was orphaned before it could look: there the pipes tell, whose other end only the host has. They are
    /// believed only without a connection, since a host may read no more than the first line.
    pub(super) fn is_gone(&self) -> bool {
        self.is_orphan() || (self.connections.0.load(Ordering::SeqCst) == 0 && nobody_reads())
    }

    /// Whether it is gone, for one who was started from a shell: only a parent that was there can go.
    pub(super) fn is_orphan(&self) -> bool {
        self.parent > 1 && std::os::unix::process::parent_id() != self.parent
    }
}

/// Whether both standard streams are pipes whose other ends are closed.
fn nobody_reads() -> bool {
    is_broken(std::io::stdout()) && is_broken(std::io::stderr())
}

fn is_broken(stream: impl AsFd) -> bool {
    let is_pipe = rustix::fs::fstat(&stream)
        .is_ok_and(|seen| rustix::fs::FileType::from_raw_mode(seen.st_mode) == rustix::fs::FileType::Fifo);
    let mut look = [PollFd::new(&stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    is_pipe && poll(&mut look, Some(&at_once)).is_ok() && look[0].revents().contains(PollFlags::ERR)
}
