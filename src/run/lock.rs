//! One rollout at a time: the ledger as a lock, in a parameter beside the record.
//!
//! Parameter Store has no compare-and-set. It does have "create, unless it is there", which takes a free lock, and it
//! numbers the versions of a parameter, by which two that take over the same dead lock find out who was first.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::holder;
use super::ports::{FailureKind, PortError, Ports};
use crate::clock;
use crate::rollout::Ledger;
use crate::rollout::ledger::{MOST_BYTES, Status, VERSION};
use crate::tf_provider::Cancel;

/// A holder that did not renew its lock for so long is dead.
const LEASE: Duration = Duration::from_secs(60);
/// A holder that could not renew it for so long gives up, while nobody else can have taken it over yet.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long one renewal may take.
const BEAT_LIMIT: Duration = Duration::from_secs(5);
/// How long giving it up may take: it lapses by itself.
const RELEASE_LIMIT: Duration = Duration::from_secs(20);
/// How often a holder renews it.
const BEAT: Duration = Duration::from_secs(10);
/// How often somebody who waits looks.
const LOOK: Duration = Duration::from_secs(1);
/// Clocks of machines differ; beyond this a lapsed lease is one by anybody's clock.
const SKEW: u64 = 300;
/// Time for another one that takes over at the same moment to show.
const SETTLE: Duration = Duration::from_millis(1500);
/// A parameter that was just deleted may be there, or not, for some seconds.
const MOST_TRIES: usize = 90;

/// The name of the lock of a record.
pub fn name(parameter: &str) -> String {
    format!("{parameter}.rollout")
}

/// A lock that is held, until it is released or lost.
pub struct Lock {
    ports: Ports,
    name: String,
    state: Mutex<State>,
    /// When it was renewed last, by a clock that stops while the machine sleeps, and by one that doesn't.
    renewed: std::sync::Mutex<(Instant, SystemTime)>,
    /// What a dead holder left.
    pub found: Option<Ledger>,
}

struct State {
    ledger: Ledger,
    version: i64,
}

/// Why a lock is no longer held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Somebody else has it, or has removed it.
    Taken(String),
    /// It could not be renewed for too long.
    Silent(String),
}

/// Why a lock could not be had.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// Somebody else has it.
    Held(Box<Ledger>),
    /// There is something else in its place.
    Strange(String),
    /// It could not be read or written.
    Failed(PortError),
    /// The run was stopped while it waited.
    Interrupted,
}

/// What a lock says of itself.
pub fn read(value: &str) -> Result<Ledger, String> {
    let ledger: Ledger = serde_json::from_str(value).map_err(|error| error.to_string())?;
    if ledger.version == VERSION { Ok(ledger) } else { Err(format!("it has version {}", ledger.version)) }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A ledger that this process could hold.
pub fn draft(switch: &str, run: &str, since: &str) -> Ledger {
    let holder = holder::this();
    Ledger {
        version: VERSION,
        run: run.to_owned(),
        switch: switch.to_owned(),
        holder: holder.name,
        machine: holder.machine,
        pid: holder.pid,
        since: since.to_owned(),
        renewed: seconds(clock::wall()),
        lease_seconds: LEASE.as_secs(),
        ..Ledger::default()
    }
}

fn text(ledger: &Ledger) -> Result<String, PortError> {
    let text = serde_json::to_string(ledger).map_err(|error| PortError::new(FailureKind::Other, error.to_string()))?;
    if text.len() > MOST_BYTES {
        let words = format!(
            "the rollout's ledger would have {} bytes, and a parameter holds {MOST_BYTES}: the routes lead to too many different places",
            text.len()
        );
        return Err(PortError::new(FailureKind::Other, words));
    }
    Ok(text)
}

/// Takes the lock, waiting out a holder of which it can't be known whether it is dead.
///
/// # Errors
/// See [`Refused`].
pub async fn acquire(
    ports: &Ports,
    parameter: &str,
    mine: Ledger,
    tags: &BTreeMap<String, String>,
    cancel: &Cancel,
) -> Result<Lock, Refused> {
    let name = name(parameter);
    let work = take(ports, &name, mine, tags);
    tokio::select! {
        taken = work => taken,
        () = cancel.cancelled() => Err(Refused::Interrupted),
    }
}

async fn take(ports: &Ports, name: &str, mine: Ledger, tags: &BTreeMap<String, String>) -> Result<Lock, Refused> {
    let held = |ledger: Ledger, version, found| {
        let state = Mutex::new(State { ledger, version });
        let renewed = std::sync::Mutex::new((Instant::now(), clock::wall()));
        Lock { ports: ports.clone(), name: name.to_owned(), state, renewed, found }
    };
    let value = text(&mine).map_err(Refused::Failed)?;
    let mut watched: Option<(String, u64, Instant)> = None;
    for _ in 0..MOST_TRIES {
        match ports.records.create(name, &value, tags).await {
            Ok(version) => return Ok(held(mine, version, None)),
            Err(error) if error.kind == FailureKind::Conflict => {}
            Err(error) => return Err(Refused::Failed(error)),
        }
        let seen = ports.records.get_version(name, None).await.map_err(Refused::Failed)?;
        let Some((seen, version)) = seen else {
            sleep(LOOK).await;
            continue;
        };
        let theirs = read(&seen).map_err(Refused::Strange)?;
        // The answer to our own call was lost, and the call was repeated.
        if theirs.run == mine.run {
            return Ok(held(mine, version, None));
        }
        match is_dead(&theirs, &mut watched) {
            Some(false) => return Err(Refused::Held(Box::new(theirs))),
            None => sleep(LOOK).await,
            Some(true) => match take_over(ports, name, &theirs, version, &mine).await? {
                Some(version) => return Ok(held(mine, version, Some(theirs))),
                None => sleep(LOOK).await,
            },
        }
    }
    Err(Refused::Strange("it comes and goes".to_owned()))
}

/// Whether the holder is dead; none if it has to be watched for longer. What it says of the time is believed only where
/// it is long past: clocks differ, and one that lives shows it within its lease.
fn is_dead(theirs: &Ledger, watched: &mut Option<(String, u64, Instant)>) -> Option<bool> {
    if theirs.is_lapsed(seconds(clock::wall()).saturating_sub(SKEW)) {
        return Some(true);
    }
    if let Some(alive) = holder::is_alive(&theirs.machine, theirs.pid) {
        return Some(!alive);
    }
    match watched {
        Some((run, beat, since)) if *run == theirs.run => {
            if *beat != theirs.beat {
                return Some(false);
            }
            (since.elapsed() > Duration::from_secs(theirs.lease_seconds)).then_some(true)
        }
        _ => {
            *watched = Some((theirs.run.clone(), theirs.beat, Instant::now()));
            None
        }
    }
}

/// Writes our name over a dead one's. Of two that do so the first one has it; the other one puts that back.
async fn take_over(
    ports: &Ports,
    name: &str,
    theirs: &Ledger,
    version: i64,
    mine: &Ledger,
) -> Result<Option<i64>, Refused> {
    // Until this run has looked, what the dead one knew is what is known.
    let heir = Ledger {
        from: theirs.from.clone(),
        to: theirs.to.clone(),
        record: theirs.record.clone(),
        origins: theirs.origins.clone(),
        phase: format!("takes over from {}", theirs.holder),
        ..mine.clone()
    };
    let value = text(&heir).map_err(Refused::Failed)?;
    ports.records.write(name, &value).await.map_err(Refused::Failed)?;
    sleep(SETTLE).await;
    let first = ports.records.get_version(name, Some(version + 1)).await.map_err(Refused::Failed)?;
    let first = first.and_then(|(value, _)| Some((read(&value).ok()?, value)));
    match first {
        Some((ledger, _)) if ledger.run == mine.run => reclaim(ports, name, mine, &value).await.map(Some),
        Some((_, theirs)) => {
            ports.records.write(name, &theirs).await.map_err(Refused::Failed)?;
            Ok(None)
        }
        // Released and made anew in between: begin again.
        None => Ok(None),
    }
}

/// The one that was second may have written over the first for a moment, and puts its name back; or died before it did.
async fn reclaim(ports: &Ports, name: &str, mine: &Ledger, value: &str) -> Result<i64, Refused> {
    for _ in 0..5 {
        let seen = ports.records.get_version(name, None).await.map_err(Refused::Failed)?;
        match seen.and_then(|(seen, version)| Some((read(&seen).ok()?, version))) {
            Some((ledger, at)) if ledger.run == mine.run => return Ok(at),
            _ => sleep(LOOK).await,
        }
    }
    ports.records.write(name, value).await.map_err(Refused::Failed)
}

impl Lock {
    /// Writes down what is to be done from here on, and from where.
    ///
    /// # Errors
    /// When it can't be written, or is somebody else's by now.
    pub async fn note(&self, change: impl FnOnce(&mut Ledger) + Send) -> Result<(), PortError> {
        let mut state = self.state.lock().await;
        let mut ledger = state.ledger.clone();
        change(&mut ledger);
        ledger.beat += 1;
        ledger.renewed = seconds(clock::wall());
        self.put(&mut state, ledger).await
    }

    async fn put(&self, state: &mut State, ledger: Ledger) -> Result<(), PortError> {
        let value = text(&ledger)?;
        // What somebody else holds by now is not to be written over.
        let Some((seen, _)) = self.ports.records.get_version(&self.name, None).await? else {
            let words = format!("the rollout's lock {} was removed", self.name);
            return Err(PortError::new(FailureKind::Conflict, words));
        };
        if let Some(other) = read(&seen).ok().filter(|other| other.run != ledger.run) {
            return Err(PortError::new(FailureKind::Conflict, lost(&other)));
        }
        let version = self.ports.records.write(&self.name, &value).await?;
        // A write that was repeated since its answer was lost counts twice; one of somebody else's shows in between.
        for between in state.version + 1..version {
            let seen = self.ports.records.get_version(&self.name, Some(between)).await?;
            let other = seen.and_then(|(value, _)| read(&value).ok()).filter(|other| other.run != ledger.run);
            if let Some(other) = other {
                return Err(PortError::new(FailureKind::Conflict, lost(&other)));
            }
        }
        (state.ledger, state.version) = (ledger, version);
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), clock::wall());
        Ok(())
    }

    fn silent_for(&self) -> Duration {
        let (instant, wall) = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        // A machine that slept has a clock that did not.
        instant.elapsed().max(clock::wall().duration_since(wall).unwrap_or_default())
    }

    /// As [`Lock::note`], bounded in time.
    async fn beat(&self, change: impl FnOnce(&mut Ledger) + Send) -> Result<(), PortError> {
        in_time(BEAT_LIMIT, self.note(change)).await
    }

    /// Writes down what is being done. That it could not be written is no reason to stop, as long as the lock is held.
    pub async fn tell(&self, phase: &str) -> Result<(), Lost> {
        let noted = self.beat(|ledger| phase.clone_into(&mut ledger.phase)).await;
        self.judge(noted)
    }

    /// Makes sure that it is still held, before something is changed.
    pub async fn confirm(&self) -> Result<(), Lost> {
        if self.silent_for() < LEASE / 2 {
            return Ok(());
        }
        let noted = self.beat(|_| {}).await;
        self.judge(noted)
    }

    fn judge(&self, noted: Result<(), PortError>) -> Result<(), Lost> {
        match noted {
            Ok(()) => Ok(()),
            Err(error) if error.kind == FailureKind::Conflict => Err(Lost::Taken(error.message)),
            Err(error) => {
                tracing::warn!(%error, "the rollout's lock could not be renewed");
                let silent = self.silent_for();
                if silent < PATIENCE {
                    return Ok(());
                }
                let silent = humantime::format_duration(Duration::from_secs(silent.as_secs()));
                Err(Lost::Silent(format!(
                    "the rollout's lock {} could not be renewed for {silent}: {error}",
                    self.name
                )))
            }
        }
    }

    /// Renews it as long as it is polled; returns when it is lost.
    pub async fn keep(&self) -> Lost {
        loop {
            sleep(BEAT).await;
            let beaten = self.beat(|_| {}).await;
            if let Err(lost) = self.judge(beaten) {
                return lost;
            }
        }
    }

    /// Gives it up; what is left undone stays written down.
    ///
    /// # Errors
    /// When it can't be written or deleted.
    pub async fn release(&self, left: Option<(Status, String)>) -> Result<(), PortError> {
        in_time(RELEASE_LIMIT, self.leave(left)).await
    }

    async fn leave(&self, left: Option<(Status, String)>) -> Result<(), PortError> {
        if let Some((status, phase)) = left {
            return self
                .note(|ledger| {
                    ledger.status = status;
                    ledger.phase = phase;
                })
                .await;
        }
        let run = self.state.lock().await.ledger.run.clone();
        let seen = self.ports.records.get_version(&self.name, None).await?;
        match seen.map(|(value, _)| read(&value)) {
            Some(Ok(ledger)) if ledger.run == run => self.ports.records.delete(&self.name).await,
            _ => Ok(()),
        }
    }
}

async fn in_time(limit: Duration, work: impl Future<Output = Result<(), PortError>>) -> Result<(), PortError> {
    let late = || PortError::new(FailureKind::Other, "no answer in time");
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

fn lost(other: &Ledger) -> String {
    format!("the rollout's lock was taken over by {}", other.holder)
}
