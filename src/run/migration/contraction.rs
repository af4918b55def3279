//! The way into a contract: its guard holds, and no rollout can begin while it runs.

use std::collections::BTreeMap;

use crate::cancel::Cancel;
use crate::clock;
use crate::duration::shown;
use crate::migration::{Guard, Unmet};
use crate::rollout::LockRecord;
use crate::run::absence::believed;
use crate::run::ports::PortError;
use crate::run::rollout::events::rfc3339;
use crate::run::rollout::lock::{self, Lock, Refused};
use crate::run::rollout::ports::Ports;

/// Why a contract may not run.
#[derive(Clone, Debug, PartialEq)]
pub enum Barred {
    /// The guard does not hold.
    Unmet(Unmet),
    /// It can't be seen whether it holds.
    Unseen(PortError),
    /// The lock that keeps rollouts out can't be had.
    Locked(Refused),
}

/// Whether a guard holds now.
///
/// # Errors
/// Why not.
pub async fn check(ports: &Ports, guard: &Guard) -> Result<(), Barred> {
    let seen = ports.records.get_version(&lock::name(&guard.parameter), None).await.map_err(Barred::Unseen)?;
    let lock_record = match seen.map(|(value, _)| LockRecord::read(&value)) {
        None => None,
        Some(Ok(lock_record)) => Some(lock_record),
        Some(Err(why)) => return Err(Barred::Locked(Refused::Strange(why))),
    };
    holds(ports, guard, lock_record.as_ref()).await
}

async fn holds(ports: &Ports, guard: &Guard, rollout: Option<&LockRecord>) -> Result<(), Barred> {
    let read = || ports.records.recorded(&guard.parameter);
    let record = believed(read, Option::is_some, Option::or).await.map_err(Barred::Unseen)?;
    guard.holds(record.as_ref(), rollout, clock::wall()).map_err(Barred::Unmet)
}

/// Keeps rollouts out for the time of a contract, after its guard was seen to hold.
///
/// # Errors
/// Why it may not run.
pub async fn enter(ports: &Ports, guard: &Guard, migration: &str, cancel: &Cancel) -> Result<Lock, Barred> {
    check(ports, guard).await?;
    let since = rfc3339(clock::wall());
    let mut mine = lock::draft(migration, &format!("contract {migration} {} {since}", std::process::id()), &since);
    mine.what = format!("the contract of the migration {migration}");
    "runs".clone_into(&mut mine.phase);
    let tags = BTreeMap::from([("bluegreen:migration".to_owned(), migration.to_owned())]);
    let lock = lock::acquire(ports, &guard.parameter, mine, &tags, cancel).await.map_err(Barred::Locked)?;
    // A rollout may have come to its end since, or have been left half-way.
    if let Err(barred) = holds(ports, guard, lock.as_found().as_ref()).await {
        told(lock.give_back().await);
        return Err(barred);
    }
    Ok(lock)
}

/// Lets rollouts in again.
pub async fn leave(lock: &Lock) {
    told(lock.release(None).await);
}

fn told(given_up: Result<(), PortError>) {
    if let Err(error) = given_up {
        let lease = shown(lock::LEASE);
        tracing::warn!(%error, "the lock that kept rollouts out is left; it ends by itself within {lease}");
    }
}
