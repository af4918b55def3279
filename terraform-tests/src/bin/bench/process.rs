//! What processes cost, read from /proc while they run.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

/// What one process had used when it was seen last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time of all its threads, in milliseconds.
    pub cpu_ms: f64,
    /// The most memory that it ever had resident, in MiB.
    pub peak_mib: f64,
}

/// Watches the children of this program's children by the name of their binary, until it is stopped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeMap<u32, Usage>>>,
    task: JoinHandle<()>,
}

/// Linux counts processes' times in hundredths of a second for everybody who reads /proc.
const MS_PER_TICK: f64 = 10.0;
/// Often enough that the last look comes within a few milliseconds of a process's end.
const EVERY: Duration = Duration::from_millis(4);

impl Watch {
    pub fn start(name: &'static str) -> Watch {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
        let (stopped, found) = (stop.clone(), seen.clone());
        let task = tokio::task::spawn_blocking(move || {
            let mut known = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                find(name, &mut known);
                for pid in known.iter().filter(|(_, ours)| **ours).map(|(pid, _)| *pid) {
                    if let Some(usage) = usage(pid) {
                        found.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, usage);
                    }
                }
                std::thread::sleep(EVERY);
            }
        });
        Watch { stop, seen, task }
    }

    /// The sum of their CPU times, and the most memory that one of them had.
    pub async fn stop(self) -> Usage {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.task.await);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.values().fold(Usage::default(), |sum, one| Usage {
            cpu_ms: sum.cpu_ms + one.cpu_ms,
            peak_mib: sum.peak_mib.max(one.peak_mib),
        })
    }
}

/// Looks at each process's name once.
fn find(name: &str, known: &mut BTreeMap<u32, bool>) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if known.get(&pid) == Some(&true) {
            continue;
        }
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let ours = program.and_then(|path| Some(path.file_name()?.to_str()? == name)).unwrap_or_default();
        known.insert(pid, ours);
    }
}

fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything: the 12th and 13th fields are user and system time in ticks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(Usage { cpu_ms: ticks * MS_PER_TICK, peak_mib: kib / 1024.0 })
}
