//! One rollout at a time: the lock record as a lock, in a parameter beside the record.
//!
//! Parameter Store has no compare-and-set. It does have "create, unless it is there", which takes a free lock, and it
//! numbers the versions of a parameter, by which two that take over the same dead lock find out who was first.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::cancel::Cancel;
use crate::clock;
use crate::duration::shown;
use crate::rollout::LockRecord;
use crate::rollout::lock_record::{MOST_BYTES, Status, VERSION};
use crate::run::call::{Call, SILENCE};
use crate::run::holder;
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::late_writes::LateWrites;
use crate::run::rollout::ports::Ports;

/// A holder that did not renew its lock for so long is dead.
const LEASE: Duration = Duration::from_secs(60);
/// A holder that could not renew it for so long gives up, while nobody else can have taken it over yet.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long a renewal is waited for; one that takes longer goes on, and keeps its place before those that follow.
const BEAT_LIMIT: Duration = Duration::from_secs(10);
/// How long a call that takes it may still take once the run was stopped.
const GRACE: Duration = Duration::from_secs(4);
/// How long giving it up may take, beside what is waited out: it lapses by itself.
const RELEASE_LIMIT: Duration = Duration::from_secs(20);
/// How often a holder renews it.
const BEAT: Duration = Duration::from_secs(10);
/// How often somebody who waits looks.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked for before it is believed that it is gone, or somebody else's: an answer may be old, and one
/// that came second takes its name back within moments.
const LOOKS: usize = 4;
/// A lease that somebody else wrote is believed within these bounds.
const LEASES: (u64, u64) = (LEASE.as_secs(), 300);
/// Time for another one that takes over at the same moment to show.
const SETTLE: Duration = Duration::from_millis(1500);
/// A lock that comes and goes for so long is no lock.
const MOST_WAIT: Duration = Duration::from_secs(400);
/// How long another resource of this very Terraform run is waited for.
const SIBLING_WAIT: Duration = Duration::from_secs(6 * 3600);

/// The name of the lock of a record.
pub fn name(parameter: &str) -> String {
    format!("{parameter}.rollout")
}

/// A lock that is held, until it is released or lost.
pub struct Lock {
    kept: Arc<Kept>,
    /// What goes on by itself; it ends with this.
    works: std::sync::Mutex<JoinSet<()>>,
    /// What a dead holder left.
    pub found: Option<LockRecord>,
}

/// What is held: a renewal that is slow goes on with it by itself.
struct Kept {
    ports: Ports,
    name: String,
    tags: BTreeMap<String, String>,
    state: Mutex<State>,
    /// When it was renewed last, by a clock that stops while the machine sleeps, and by one that doesn't.
    renewed: std::sync::Mutex<(Instant, SystemTime)>,
    /// What may still have its effect, also when the lock is given up.
    late: std::sync::Mutex<LateWrites>,
    /// The signal that ends the run.
    cancel: Cancel,
}

struct State {
    lock_record: LockRecord,
    version: i64,
}

/// What stands in the lock's place.
enum Place {
    /// Ours.
    Ours,
    /// Nothing.
    Empty,
    /// Somebody else's.
    Other(Box<LockRecord>),
    /// Something that can't be read.
    Strange,
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
    Held(Box<LockRecord>),
    /// There is something else in its place.
    Strange(String),
    /// It could not be read or written.
    Failed(PortError),
    /// The run was stopped while it waited.
    Interrupted {
        /// Whether a call that takes it may still have its effect.
        in_doubt: bool,
    },
}

/// What a lock says of itself.
pub fn read(value: &str) -> Result<LockRecord, String> {
    let lock_record: LockRecord = serde_json::from_str(value).map_err(|error| error.to_string())?;
    if lock_record.version == VERSION {
        Ok(lock_record)
    } else {
        Err(format!("it has version {}", lock_record.version))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A lock record that this process could hold.
pub fn draft(switch: &str, run: &str, since: &str) -> LockRecord {
    let holder = holder::this();
    LockRecord {
        version: VERSION,
        run: run.to_owned(),
        switch: switch.to_owned(),
        holder: holder.name,
        machine: holder.machine,
        pid: holder.pid,
        parent: holder.parent,
        since: since.to_owned(),
        renewed: seconds(clock::wall()),
        lease_seconds: LEASE.as_secs(),
        led: Some(Vec::new()),
        ..LockRecord::default()
    }
}

fn text(lock_record: &LockRecord) -> Result<String, PortError> {
    let text =
        serde_json::to_string(lock_record).map_err(|error| PortError::new(FailureKind::Other, error.to_string()))?;
    if text.len() > MOST_BYTES {
        let words = format!(
            "the rollout's lock record would have {} bytes, and a parameter holds {MOST_BYTES}: the routes lead to too many different places",
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
    mine: LockRecord,
    tags: &BTreeMap<String, String>,
    cancel: &Cancel,
) -> Result<Lock, Refused> {
    let (name, call, stop) = (name(parameter), Call::new(), cancel.clone());
    let (ports, tags, made) = (ports.clone(), tags.clone(), call.clone());
    // It goes on by itself: a call that was sent is not called back by forgetting it.
    let work = async move {
        let lock = take(&ports, &name, mine, &tags, stop).await?;
        lock.kept.late().note(made);
        Ok(lock)
    };
    let mut work = tokio::spawn(call.clone().make(work));
    let taken = tokio::select! {
        taken = &mut work => taken,
        () = cancel.cancelled() => {
            call.give_up();
            let late = timeout(GRACE, &mut work).await;
            let in_doubt = late.is_err();
            tokio::spawn(async move {
                let taken = match late {
                    Ok(taken) => taken,
                    Err(_) => work.await,
                };
                if let Ok(Ok(lock)) = taken
                    && let Err(error) = lock.give_back().await
                {
                    tracing::warn!(%error, "a lock that was taken after the run was stopped is left; it lapses by itself");
                }
            });
            return Err(Refused::Interrupted { in_doubt });
        }
    };
    let ended = |_| Refused::Failed(PortError::new(FailureKind::Other, "the work ended without an answer"));
    taken.unwrap_or_else(|error| Err(ended(error)))
}

async fn take(
    ports: &Ports,
    name: &str,
    mine: LockRecord,
    tags: &BTreeMap<String, String>,
    cancel: Cancel,
) -> Result<Lock, Refused> {
    let held = |lock_record: LockRecord, version, found| {
        let kept = Kept {
            ports: ports.clone(),
            name: name.to_owned(),
            tags: tags.clone(),
            state: Mutex::new(State { lock_record, version }),
            renewed: std::sync::Mutex::new((Instant::now(), clock::wall())),
            late: std::sync::Mutex::default(),
            cancel: cancel.clone(),
        };
        Lock { kept: Arc::new(kept), works: std::sync::Mutex::default(), found }
    };
    let value = text(&mine).map_err(Refused::Failed)?;
    let mut watched: Option<Watched> = None;
    let mut ours = Claim { lock_record: mine, found: None };
    let (start, mut sibling, mut absent) = (Instant::now(), false, true);
    let mut unanswered: Option<(PortError, Instant)> = None;
    while start.elapsed() < if sibling { SIBLING_WAIT } else { MOST_WAIT } {
        // Written only where there is nothing: writes are scarce, and others wait too.
        if absent {
            match ports.records.create(name, &value, tags).await {
                Ok(version) => return Ok(held(ours.lock_record, version, ours.found)),
                Err(error) if error.kind == FailureKind::Conflict => absent = false,
                // It may still have its effect: then it is ours, and what would be left without us.
                Err(error) if doubt().is_some() => (absent, unanswered) = (false, Some((error, Instant::now()))),
                Err(error) => return Err(Refused::Failed(error)),
            }
        }
        let seen = ports.records.get_version(name, None).await.map_err(Refused::Failed)?;
        let Some((seen, version)) = seen else {
            absent = match &unanswered {
                Some((error, since)) if doubt().is_none_or(|patience| since.elapsed() > patience) => {
                    return Err(Refused::Failed(error.clone()));
                }
                Some(_) => false,
                None => true,
            };
            sleep(LOOK).await;
            continue;
        };
        let theirs = read(&seen).map_err(Refused::Strange)?;
        // The answer to our own call was lost, and the call was repeated; or the look that was to confirm it was an old one.
        if theirs.run == ours.lock_record.run {
            return Ok(held(ours.lock_record, version, ours.found));
        }
        match is_dead(&theirs, version, &mut watched) {
            Some(false) if holder::is_sibling(&theirs.machine, theirs.parent) => {
                (sibling, watched) = (true, None);
                sleep(LOOK).await;
            }
            Some(false) => return Err(Refused::Held(Box::new(theirs))),
            None => sleep(LOOK).await,
            Some(true) => {
                ours = Claim { lock_record: heir(&theirs, &ours.lock_record), found: Some(theirs.clone()) };
                match take_over(ports, name, version, &ours.lock_record).await? {
                    Some(version) => return Ok(held(ours.lock_record, version, ours.found)),
                    None => sleep(LOOK).await,
                }
            }
        }
    }
    Err(Refused::Strange("it comes and goes".to_owned()))
}

/// How long what was written without an answer may still have its effect; none if everything was answered.
fn doubt() -> Option<Duration> {
    Call::current().filter(|call| call.unanswered() > 0).map(|call| call.patience())
}

/// What is claimed, and of whom.
struct Claim {
    lock_record: LockRecord,
    found: Option<LockRecord>,
}

/// A holder that is watched for a sign of life.
struct Watched {
    run: String,
    sign: (u64, i64),
    since: Instant,
}

/// Whether the holder is dead; none if it has to be watched for longer. What it says of the time is never believed: clocks
/// differ, and one that lives shows it within its lease.
fn is_dead(theirs: &LockRecord, version: i64, watched: &mut Option<Watched>) -> Option<bool> {
    if theirs.status != Status::Running {
        return Some(true);
    }
    // A process of this Terraform run lives as long as the run does: of its rollout the beats tell.
    match holder::is_alive(&theirs.machine, theirs.pid) {
        Some(false) => return Some(true),
        Some(true) if !holder::is_sibling(&theirs.machine, theirs.parent) => return Some(false),
        _ => {}
    }
    let sign = (theirs.beat, version);
    match watched {
        Some(known) if known.run == theirs.run => {
            if known.sign != sign {
                return Some(false);
            }
            let lease = Duration::from_secs(theirs.lease_seconds.clamp(LEASES.0, LEASES.1));
            (known.since.elapsed() > lease).then_some(true)
        }
        _ => {
            *watched = Some(Watched { run: theirs.run.clone(), sign, since: Instant::now() });
            None
        }
    }
}

/// Whether it is known, without waiting, that nobody runs this any more.
pub fn is_surely_dead(lock_record: &LockRecord) -> bool {
    lock_record.status != Status::Running || holder::is_alive(&lock_record.machine, lock_record.pid) == Some(false)
}

/// Our name with what a dead one knew: until this run has looked, that is what is known.
fn heir(theirs: &LockRecord, mine: &LockRecord) -> LockRecord {
    LockRecord {
        from: theirs.from.clone(),
        to: theirs.to.clone(),
        record: theirs.record.clone(),
        origins: theirs.origins.clone(),
        sizes: theirs.sizes.clone(),
        led: theirs.led.clone(),
        took_over: Some(theirs.run.clone()),
        phase: format!("takes over from {}", theirs.holder),
        ..mine.clone()
    }
}

/// Writes our name over a dead one's. Of two that do so the first one has it; the other one puts that back.
async fn take_over(ports: &Ports, name: &str, version: i64, heir: &LockRecord) -> Result<Option<i64>, Refused> {
    let value = text(heir).map_err(Refused::Failed)?;
    match ports.records.write(name, &value).await {
        // It may have had its effect, or still have it: what is there tells.
        Err(error) if doubt().is_none() => return Err(Refused::Failed(error)),
        Ok(_) | Err(_) => sleep(SETTLE).await,
    }
    for _ in 0..LOOKS {
        let first = ports.records.get_version(name, Some(version + 1)).await.map_err(Refused::Failed)?;
        match first.and_then(|(value, _)| Some((read(&value).ok()?, value))) {
            Some((lock_record, _)) if lock_record.run == heir.run => {
                return reclaim(ports, name, heir, &value).await.map(Some);
            }
            Some((_, theirs)) => {
                ports.records.write(name, &theirs).await.map_err(Refused::Failed)?;
                return Ok(None);
            }
            // An old look; or it was released and made anew in between: then begin again.
            None => sleep(LOOK).await,
        }
    }
    Ok(None)
}

/// The one that was second may have written over the first for a moment, and puts its name back; or died before it did.
async fn reclaim(ports: &Ports, name: &str, mine: &LockRecord, value: &str) -> Result<i64, Refused> {
    for _ in 0..5 {
        let seen = ports.records.get_version(name, None).await.map_err(Refused::Failed)?;
        match seen.and_then(|(seen, version)| Some((read(&seen).ok()?, version))) {
            Some((lock_record, at)) if lock_record.run == mine.run => return Ok(at),
            _ => sleep(LOOK).await,
        }
    }
    ports.records.write(name, value).await.map_err(Refused::Failed)
}

impl Kept {
    async fn note(&self, change: impl FnOnce(&mut LockRecord) + Send) -> Result<(), PortError> {
        let mut state = self.state.lock().await;
        let mut lock_record = state.lock_record.clone();
        change(&mut lock_record);
        lock_record.beat += 1;
        lock_record.renewed = seconds(clock::wall());
        self.put(&mut state, lock_record).await
    }

    /// What stands in the lock's place, by several looks where it is not ours.
    async fn place(&self, run: &str) -> Result<Place, PortError> {
        let mut place = Place::Empty;
        for look in 0..LOOKS {
            if look > 0 {
                sleep(LOOK).await;
            }
            let seen = self.ports.records.get_version(&self.name, None).await?;
            place = match seen.map(|(value, _)| read(&value)) {
                Some(Ok(lock_record)) if lock_record.run == run => return Ok(Place::Ours),
                Some(Ok(other)) => Place::Other(Box::new(other)),
                Some(Err(_)) => Place::Strange,
                None => Place::Empty,
            };
        }
        Ok(place)
    }

    async fn put(&self, state: &mut State, lock_record: LockRecord) -> Result<(), PortError> {
        let value = text(&lock_record)?;
        let version = match self.place(&lock_record.run).await? {
            // What somebody else holds by now is not to be written over.
            Place::Other(other) if !self.is_late_claim(&other, &lock_record) => return Err(lost(&other)),
            // It was removed, by hand or by a call of somebody's that came late: it is taken again if it is free. Not after a
            // sleep: then somebody else may have had it, and have come to an end.
            Place::Empty if self.silent_for() >= LEASE => {
                let words = format!("the rollout's lock {} lapsed, and is gone", self.name);
                return Err(PortError::new(FailureKind::Conflict, words));
            }
            Place::Empty => {
                tracing::warn!(name = self.name, "the rollout's lock was removed, and is made again");
                let made = self.remembering(self.ports.records.create(&self.name, &value, &self.tags)).await;
                let removed = |error: PortError| match error.kind {
                    FailureKind::Conflict => {
                        let words = format!("the rollout's lock {} was removed, and somebody else has it", self.name);
                        PortError::new(FailureKind::Conflict, words)
                    }
                    _ => error,
                };
                made.map_err(removed)?
            }
            Place::Ours | Place::Other(_) | Place::Strange => {
                self.remembering(self.ports.records.write(&self.name, &value)).await?
            }
        };
        // A write that was repeated since its answer was lost counts twice; one of somebody else's shows in between.
        for between in state.version + 1..version {
            let seen = self.ports.records.get_version(&self.name, Some(between)).await?;
            let other = seen.and_then(|(value, _)| read(&value).ok()).filter(|other| other.run != lock_record.run);
            if let Some(other) = other.filter(|other| !self.is_late_claim(other, &lock_record)) {
                return Err(lost(&other));
            }
        }
        self.late().came(version - state.version - 1);
        (state.lock_record, state.version) = (lock_record, version);
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), clock::wall());
        Ok(())
    }

    /// Whether a name that stands in the place of ours has no right to it: that of the one that we took it over from, or
    /// of one that took it over from somebody else while we renewed it.
    fn is_late_claim(&self, other: &LockRecord, ours: &LockRecord) -> bool {
        match &other.took_over {
            _ if ours.took_over.as_ref() == Some(&other.run) => true,
            Some(of) => *of != ours.run && self.silent_for() < LEASE,
            None => false,
        }
    }

    fn silent_for(&self) -> Duration {
        let (instant, wall) = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        // A machine that slept has a clock that did not.
        instant.elapsed().max(clock::wall().duration_since(wall).unwrap_or_default())
    }

    fn late(&self) -> std::sync::MutexGuard<'_, LateWrites> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call that writes the lock; that it was sent without an answer is remembered.
    async fn remembering<T>(&self, work: impl Future<Output = T> + Send) -> T {
        let call = Call::new();
        let made = call.clone().make(work).await;
        self.late().note(call);
        made
    }

    /// Waits until nothing that was written without an answer can have its effect any more. The lock is kept meanwhile: what
    /// comes after it was deleted would bring it back, and nobody would be there to give it up.
    async fn outwait(&self) -> Result<(), PortError> {
        // Renewals that are still under way come first.
        drop(self.state.lock().await);
        while self.late().are_awaited() {
            tracing::info!(name = self.name, "the lock is kept until a call that was not answered can have no effect");
            tokio::select! {
                () = sleep(BEAT) => {}
                // Somebody wants to leave: what is brought back then lapses, and the next rollout takes it over.
                () = async { self.cancel.cancelled().await; sleep(GRACE).await } => return Ok(()),
            }
            match self.note(|_| {}).await {
                Err(error) if error.kind == FailureKind::Conflict => return Err(error),
                Err(error) => tracing::warn!(%error, "the rollout's lock could not be renewed"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    async fn leave(&self, left: Option<(Status, String)>) -> Result<(), PortError> {
        self.outwait().await?;
        if let Some((status, phase)) = left {
            return self
                .note(|lock_record| {
                    lock_record.status = status;
                    lock_record.phase = phase;
                })
                .await;
        }
        let run = self.state.lock().await.lock_record.run.clone();
        match self.place(&run).await? {
            Place::Ours => self.ports.records.delete(&self.name).await,
            Place::Empty | Place::Other(_) | Place::Strange => Ok(()),
        }
    }
}

impl Lock {
    /// Writes down what is to be done from here on, and from where.
    ///
    /// # Errors
    /// When it can't be written, or is somebody else's by now.
    pub async fn note(&self, change: impl FnOnce(&mut LockRecord) + Send) -> Result<(), PortError> {
        self.kept.note(change).await
    }

    /// What a dead holder left, as it stands now: nobody runs it any more.
    pub fn as_found(&self) -> Option<LockRecord> {
        self.found.clone().map(|left| match left.status {
            Status::Running => {
                let phase = format!("was killed, and has been left since: {}", left.phase);
                LockRecord { status: Status::Held, phase, ..left }
            }
            _ => left,
        })
    }

    /// Gives it up as it was found: what a dead rollout left is still to be gone on with, or taken back.
    ///
    /// # Errors
    /// When it can't be written or deleted.
    pub async fn give_back(&self) -> Result<(), PortError> {
        let Some(found) = self.as_found() else { return self.release(None).await };
        let kept = self.kept.clone();
        let change = move |lock_record: &mut LockRecord| {
            let ours = std::mem::take(lock_record);
            *lock_record = LockRecord { run: ours.run, beat: ours.beat, ..found };
        };
        let work = async move {
            kept.outwait().await?;
            kept.note(change).await
        };
        self.in_time(RELEASE_LIMIT + SILENCE, work).await
    }

    /// What is written down.
    pub async fn lock_record(&self) -> LockRecord {
        self.kept.state.lock().await.lock_record.clone()
    }

    /// Renews it, bounded in time: what takes longer goes on by itself, before whatever comes after it.
    async fn beat(&self, phase: Option<String>) -> Result<(), PortError> {
        let kept = self.kept.clone();
        let change =
            move |lock_record: &mut LockRecord| lock_record.phase = phase.unwrap_or_else(|| lock_record.phase.clone());
        self.in_time(BEAT_LIMIT, async move { kept.note(change).await }).await
    }

    /// Writes down where the traffic is about to be led: the parts, in tenths of a percent, that the color to go live gets
    /// by the weights of `forward`, which tells the part of a color. That it could not be written is no reason to stop, as
    /// long as the lock is held.
    ///
    /// # Errors
    /// When it is held no more.
    pub async fn lead(&self, forward: impl Fn(&str) -> Vec<u32> + Send + 'static) -> Result<(), Lost> {
        let kept = self.kept.clone();
        let change = move |lock_record: &mut LockRecord| {
            let parts = lock_record.to.as_deref().map(forward).unwrap_or_default();
            let led = lock_record.led.get_or_insert_default();
            for part in parts {
                if !led.contains(&part) {
                    led.push(part);
                }
            }
        };
        let noted = self.in_time(BEAT_LIMIT, async move { kept.note(change).await }).await;
        self.judge(noted)
    }

    /// Waits so long for work that goes on by itself: a call that was sent is not called back by forgetting it.
    async fn in_time(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<(), PortError>> + Send + 'static,
    ) -> Result<(), PortError> {
        let failed = |words: &str| PortError::new(FailureKind::Other, words);
        let (done, answer) = oneshot::channel();
        self.works.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move { drop(done.send(work.await)) });
        match timeout(limit, answer).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(failed("the work ended without an answer")),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    /// Writes down what is being done. That it could not be written is no reason to stop, as long as the lock is held.
    pub async fn tell(&self, phase: &str) -> Result<(), Lost> {
        let noted = self.beat(Some(phase.to_owned())).await;
        self.judge(noted)
    }

    /// Makes sure that it is still held, before something is changed.
    pub async fn confirm(&self) -> Result<(), Lost> {
        if self.kept.silent_for() < LEASE / 2 {
            return Ok(());
        }
        let noted = self.beat(None).await;
        self.judge(noted)
    }

    fn judge(&self, noted: Result<(), PortError>) -> Result<(), Lost> {
        match noted {
            Ok(()) => Ok(()),
            Err(error) if error.kind == FailureKind::Conflict => Err(Lost::Taken(error.message)),
            Err(error) => {
                tracing::warn!(%error, "the rollout's lock could not be renewed");
                let silent = self.kept.silent_for();
                if silent < PATIENCE {
                    return Ok(());
                }
                let silent = shown(Duration::from_secs(silent.as_secs()));
                Err(Lost::Silent(format!(
                    "the rollout's lock {} could not be renewed for {silent}: {error}",
                    self.kept.name
                )))
            }
        }
    }

    /// Renews it as long as it is polled; returns when it is lost.
    pub async fn keep(&self) -> Lost {
        loop {
            sleep(BEAT).await;
            let beaten = self.beat(None).await;
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
        let kept = self.kept.clone();
        self.in_time(RELEASE_LIMIT + SILENCE, async move { kept.leave(left).await }).await
    }
}

fn lost(other: &LockRecord) -> PortError {
    PortError::new(FailureKind::Conflict, format!("the rollout's lock was taken over by {}", other.holder))
}
