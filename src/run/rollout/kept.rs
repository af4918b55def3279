//! A lock that is held: its renewals, and how it is given up. What somebody else has a right to is told from what comes late
//! by the versions of the parameter.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::cancel::Cancel;
use crate::clock;
use crate::rollout::LockRecord;
use crate::run::call::Call;
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::late_writes::LateWrites;
use crate::run::rollout::ports::Ports;

/// A holder that did not renew its lock for so long is dead.
pub const LEASE: Duration = Duration::from_secs(120);
/// How often a holder renews it, at least; Parameter Store takes three writes a second, for everybody in the account.
const BEAT: Duration = Duration::from_secs(30);
/// How much sooner it may be, so that those who began together don't go on together.
const JITTER: Duration = Duration::from_secs(10);
// Who gives up 20 seconds before its end has missed more than one renewal; older binaries believe no lease above 300.
const _: () = assert!(LEASE.as_secs() > 3 * BEAT.as_secs() + 20 && LEASE.as_secs() <= 300, "no lease that works");
/// How often somebody who waits looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked for before it is believed that it is gone, or somebody else's: an answer may be old.
pub(super) const LOOKS: usize = 4;
/// How often a write is tried again where others use up the account's.
const CROWDED_TRIES: usize = 30;
/// How often a place that changes between look and write is looked at again.
const TRIES: usize = 3;

/// What is held: a renewal that is slow goes on with it by itself.
pub(super) struct Kept {
    pub ports: Ports,
    pub name: String,
    pub tags: BTreeMap<String, String>,
    pub state: Mutex<State>,
    /// When it was taken, in seconds since 1970.
    pub since: u64,
    /// When it was renewed last, by a clock that stops while the machine sleeps, and by one that doesn't: right before that
    /// was sent, since whoever watches may see it from then on.
    pub renewed: std::sync::Mutex<(Instant, SystemTime)>,
    /// Creations of it that may still have their effect, and bring it back when it was deleted.
    pub creations: std::sync::Mutex<LateWrites>,
    /// Renewals of it that may still have their effect. They make nothing anew, since they name no type.
    pub renewals: std::sync::Mutex<LateWrites>,
    /// The signal that ends the run.
    pub cancel: Cancel,
    /// Whether it was refused last since others use up the account's calls.
    pub is_throttled: AtomicBool,
}

/// What was written last.
pub(super) struct State {
    pub lock_record: LockRecord,
    /// The version that says so, or said so before.
    pub version: i64,
    /// How many writes were answered since that one.
    pub answered: i64,
    /// Whether it was given up: no renewal may follow.
    pub is_over: bool,
}

/// What stands in the lock's place.
enum Place {
    /// Ours.
    Ours,
    /// Nothing.
    Empty,
    /// Somebody else's, and its version.
    Other(Box<LockRecord>, i64),
    /// Something that can't be read.
    Strange,
}

fn locked<T>(mutex: &std::sync::Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost(other: &LockRecord) -> PortError {
    PortError::new(FailureKind::Conflict, format!("the rollout's lock was taken over by {}", other.holder))
}

/// A time within a span, spread by name and number: the same for the same, so that whatever happens can be told again.
pub(super) fn spread(name: &str, number: u64, within: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (name, number).hash(&mut hasher);
    within.mul_f64((hasher.finish() % 1000) as f64 / 1000.0)
}

/// A time in seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A lock record as it is written down.
pub(super) fn text(lock_record: &LockRecord) -> Result<String, PortError> {
    lock_record.text().map_err(|why| PortError::new(FailureKind::Other, why))
}

impl Kept {
    /// Writes a change down. What could not be written is in what is written next.
    pub async fn note(&self, change: impl FnOnce(&mut LockRecord) + Send) -> Result<(), PortError> {
        let mut state = self.state.lock().await;
        if state.is_over {
            return Ok(());
        }
        change(&mut state.lock_record);
        state.lock_record.beat += 1;
        state.lock_record.renewed = seconds(clock::wall());
        self.put(&mut state).await
    }

    /// Time to the next renewal.
    pub fn pause(&self, beat: u64) -> Duration {
        BEAT - spread(&self.name, beat, JITTER)
    }

    /// Whether it could not be renewed for no other reason than that others use up the account's calls, and it is still ours:
    /// nobody can have taken it over without a write either.
    pub async fn is_only_crowded_out(&self) -> bool {
        if !self.is_throttled.load(Ordering::Relaxed) {
            return false;
        }
        let run = self.state.lock().await.lock_record.run.clone();
        timeout(LOOK * 4, self.place(&run)).await.is_ok_and(|place| matches!(place, Ok(Place::Ours)))
    }

    /// How long it was not renewed.
    pub fn silent_for(&self) -> Duration {
        let (instant, wall) = *locked(&self.renewed);
        // A machine that slept has a clock that did not.
        instant.elapsed().max(clock::wall().duration_since(wall).unwrap_or_default())
    }

    /// What stands in the lock's place, by several looks where it is not ours.
    async fn place(&self, run: &str) -> Result<Place, PortError> {
        let mut place = Place::Empty;
        for look in 0..LOOKS {
            if look > 0 {
                sleep(LOOK).await;
            }
            let seen = self.ports.records.get_version(&self.name, None).await?;
            place = match seen.map(|(value, version)| (LockRecord::read(&value), version)) {
                Some((Ok(lock_record), _)) if lock_record.run == run => return Ok(Place::Ours),
                Some((Ok(other), version)) => Place::Other(Box::new(other), version),
                Some((Err(_), _)) => Place::Strange,
                None => Place::Empty,
            };
        }
        Ok(place)
    }

    /// The lock record of a version, where it can be read.
    async fn version(&self, version: i64) -> Result<Option<LockRecord>, PortError> {
        let seen = self.ports.records.get_version(&self.name, Some(version)).await?;
        Ok(seen.and_then(|(value, _)| LockRecord::read(&value).ok()))
    }

    /// Whether the parameter was deleted and made anew since we wrote it.
    async fn is_remade(&self, state: &State, latest: i64) -> Result<bool, PortError> {
        for look in 0..LOOKS {
            if look > 0 {
                sleep(LOOK).await;
            }
            match self.version(state.version).await? {
                Some(seen) => return Ok(latest < state.version || seen.run != state.lock_record.run),
                None if latest < state.version => return Ok(true),
                // An old look.
                None => {}
            }
        }
        Ok(true)
    }

    /// Whoever has a right to the lock by now, of those that wrote it since we did, up to that version. What else stands there
    /// came late, of somebody who has it no more or never had it: that is written over.
    async fn successor(&self, state: &State, latest: i64) -> Result<Option<LockRecord>, PortError> {
        let run = &state.lock_record.run;
        let remade = self.is_remade(state, latest).await?;
        let first = if remade { 1 } else { state.version + 1 };
        for version in first..=latest {
            let other = self.version(version).await?.filter(|other| other.run != *run);
            if let Some(other) = other.filter(|other| remade || !self.is_late(other, &state.lock_record)) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// Whether a name was written by somebody without a right to the lock: by the one that we took it over from; by another one
    /// that would have taken it over from somebody else, while we renewed it; or before we had it.
    fn is_late(&self, other: &LockRecord, ours: &LockRecord) -> bool {
        match &other.took_over {
            _ if ours.took_over.as_ref() == Some(&other.run) => true,
            Some(of) => *of != ours.run && self.silent_for() < LEASE,
            None => other.renewed <= self.since,
        }
    }

    /// How many of these versions we wrote.
    async fn own(&self, state: &State, versions: std::ops::Range<i64>) -> Result<i64, PortError> {
        let mut own = 0;
        for version in versions {
            let seen = self.version(version).await?;
            own += i64::from(seen.is_some_and(|seen| seen.run == state.lock_record.run));
        }
        Ok(own)
    }

    async fn put(&self, state: &mut State) -> Result<(), PortError> {
        let value = text(&state.lock_record)?;
        for _ in 0..TRIES {
            let sent = (Instant::now(), clock::wall());
            let (written, is_new) = match self.place(&state.lock_record.run).await? {
                Place::Other(other, latest) if self.successor(state, latest).await?.is_some() => {
                    return Err(lost(&other));
                }
                // It was removed, by hand or by a call of somebody's that came late: it is taken again if it is free. Not
                // after a sleep: then somebody else may have had it, and have come to an end.
                Place::Empty if self.silent_for() >= LEASE => {
                    let words = format!("the rollout's lock {} lapsed, and is gone", self.name);
                    return Err(PortError::new(FailureKind::Conflict, words));
                }
                Place::Empty => {
                    tracing::warn!(name = self.name, "the rollout's lock was removed, and is made again");
                    let work = self.ports.records.create(&self.name, &value, &self.tags);
                    (remembering(&self.creations, work).await, true)
                }
                Place::Ours | Place::Other(..) | Place::Strange => {
                    (remembering(&self.renewals, self.ports.records.write(&self.name, &value)).await, false)
                }
            };
            let version = match written {
                Ok(version) => version,
                // Somebody else has made it; or an earlier attempt of ours did, whose answer was lost.
                Err(error) if is_new && error.kind == FailureKind::Conflict => continue,
                Err(error) => {
                    self.is_throttled.store(error.kind == FailureKind::Throttled, Ordering::Relaxed);
                    return Err(error);
                }
            };
            self.is_throttled.store(false, Ordering::Relaxed);
            state.answered += 1;
            // A write that was repeated since its answer was lost counts twice; one of somebody else's shows in between.
            if !is_new && version != state.version + 1 {
                if let Some(other) = self.successor(state, version - 1).await? {
                    return Err(lost(&other));
                }
                let own = self.own(state, state.version + 1..version + 1).await?;
                locked(&self.renewals).came(own - state.answered);
            }
            (state.version, state.answered) = (version, 0);
            *locked(&self.renewed) = sent;
            return Ok(());
        }
        let words = format!("the rollout's lock {} was removed, and somebody else has it", self.name);
        Err(PortError::new(FailureKind::Conflict, words))
    }

    /// Leaves it with what is left undone. One that is only refused is tried again: others would wait for the lease.
    pub async fn leave(&self, change: impl FnOnce(&mut LockRecord) + Send) -> Result<(), PortError> {
        let mut noted = self.note(change).await;
        for tried in 1.. {
            let Err(error) = &noted else { break };
            let is_crowded = error.kind == FailureKind::Throttled && !self.cancel.is_cancelled();
            if error.kind == FailureKind::Conflict || tried > if is_crowded { CROWDED_TRIES } else { TRIES } {
                break;
            }
            sleep(LOOK + spread(&self.name, tried as u64, 2 * LOOK)).await;
            noted = self.note(|_| {}).await;
        }
        noted?;
        self.state.lock().await.is_over = true;
        Ok(())
    }

    /// Whatever comes late, and hides what was left, is written over again.
    pub async fn watch_over(&self) -> Result<(), PortError> {
        let mut state = self.state.lock().await;
        while locked(&self.renewals).are_awaited() {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.cancel.cancelled() => break,
            }
            let Some((seen, version)) = self.ports.records.get_version(&self.name, None).await? else { break };
            let is_ours = LockRecord::read(&seen).is_ok_and(|seen| seen.run == state.lock_record.run);
            if version > state.version && is_ours {
                self.put(&mut state).await?;
            }
        }
        Ok(())
    }

    /// Deletes it, when nobody is to use it any more. It is kept until no creation of it can bring it back.
    pub async fn remove(&self) -> Result<(), PortError> {
        while locked(&self.creations).are_awaited() {
            tracing::info!(name = self.name, "the lock is kept until a call that was not answered can have no effect");
            tokio::select! {
                () = sleep(BEAT) => {}
                // Somebody wants to leave: what is brought back then lapses, and the next rollout takes it over.
                () = self.cancel.cancelled() => break,
            }
            match self.note(|_| {}).await {
                Err(error) if error.kind == FailureKind::Conflict => return Err(error),
                Err(error) => tracing::warn!(%error, "the rollout's lock could not be renewed"),
                Ok(()) => {}
            }
        }
        // Renewals that are still under way come first, and none follows.
        let mut state = self.state.lock().await;
        state.is_over = true;
        for _ in 0..TRIES {
            match self.place(&state.lock_record.run).await? {
                Place::Ours => {}
                Place::Empty | Place::Other(..) | Place::Strange => return Ok(()),
            }
            // Sent once: by the time it is sent again the lock may be somebody else's.
            let call = Call::once();
            let deleted = call.clone().make(self.ports.records.delete(&self.name)).await;
            if deleted.is_ok() || call.unanswered() == 0 {
                return deleted;
            }
        }
        Err(PortError::new(FailureKind::Other, "no answer came to its deletion"))
    }
}

/// Makes a call that writes the lock; that it was sent without an answer is remembered.
async fn remembering<T: Send>(late: &std::sync::Mutex<LateWrites>, work: impl Future<Output = T> + Send) -> T {
    let call = Call::new();
    let made = call.clone().make(work).await;
    locked(late).note(call.unanswered(), call.patience());
    made
}
