//! One rollout at a time: the lock record as a lock, in a parameter beside the record.
//!
//! Parameter Store has no compare-and-set. It does have "create, unless it is there", which makes the lock once, and it numbers
//! the versions of a parameter, by which two that take the same free or dead lock find out who was first. A lock that is given
//! up stays there and says that it is free: AWS doesn't say what reads show after a deletion, nor when a name can be used again.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::cancel::Cancel;
use crate::clock;
use crate::duration::shown;
use crate::rollout::LockRecord;
use crate::rollout::lock_record::{SUFFIX, Status, VERSION, Waiting};
use crate::run::call::{Call, SILENCE};
use crate::run::holder;
use crate::run::ports::{FailureKind, PortError};
pub use crate::run::rollout::kept::LEASE;
use crate::run::rollout::kept::{Kept, LOOK, LOOKS, State, seconds, spread, text};
use crate::run::rollout::late_writes::LateWrites;
use crate::run::rollout::ports::Ports;

/// A holder that could not renew it for so long gives up, while nobody else can have taken it over yet.
const PATIENCE: Duration = LEASE.saturating_sub(Duration::from_secs(20));
/// How long a renewal is waited for; one that takes longer goes on, and keeps its place before those that follow.
const BEAT_LIMIT: Duration = Duration::from_secs(10);
// Who gives up goes back at once, and takes no time to find out whether it slept.
const _: () =
    assert!(PATIENCE.as_secs() < LEASE.as_secs() - BEAT_LIMIT.as_secs(), "a holder that gives up would wait first");
/// How long a call that takes it may still take once the run was stopped.
const GRACE: Duration = Duration::from_secs(4);
/// How long giving it up may take, beside what is waited out: it lapses by itself.
const RELEASE_LIMIT: Duration = Duration::from_secs(20);
/// How long where others use up the account's writes: whoever comes next would wait for the lease.
const CROWDED_LIMIT: Duration = Duration::from_secs(60);
/// How long one read may take while it is taken.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// A lease that somebody else wrote is believed within these bounds.
const LEASES: (u64, u64) = (LEASE.as_secs(), 5 * LEASE.as_secs());
/// Time for another one that takes over at the same moment to show.
const SETTLE: Duration = Duration::from_millis(1500);
/// A lock that comes and goes for so long is no lock.
const MOST_WAIT: Duration = Duration::from_secs(LEASES.1 + 100);
/// How long another resource of this very Terraform run is waited for.
const SIBLING_WAIT: Duration = Duration::from_secs(6 * 3600);

/// The name of the lock of a record.
pub fn name(parameter: &str) -> String {
    format!("{parameter}{SUFFIX}")
}

/// A lock that is held, until it is released or lost.
pub struct Lock {
    kept: Arc<Kept>,
    /// What goes on by itself; it ends with this.
    works: std::sync::Mutex<JoinSet<()>>,
    /// What a dead holder left.
    pub found: Option<LockRecord>,
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

fn failed(words: &str) -> Refused {
    Refused::Failed(PortError::new(FailureKind::Other, words))
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
    let (ports, tags) = (ports.clone(), tags.clone());
    // It goes on by itself: a call that was sent is not called back by forgetting it.
    let work = async move { Taking::new(ports, name, tags, stop).take(mine).await };
    let mut work = tokio::spawn(call.clone().make(work));
    let taken = tokio::select! {
        taken = &mut work => taken,
        () = cancel.cancelled() => {
            call.give_up();
            let in_doubt = match timeout(GRACE, give_back(&mut work)).await {
                Ok(is_clear) => !is_clear,
                Err(_) => {
                    tokio::spawn(async move { give_back(&mut work).await });
                    true
                }
            };
            return Err(Refused::Interrupted { in_doubt });
        }
    };
    taken.unwrap_or_else(|_| Err(failed("the work ended without an answer")))
}

/// Gives a lock back that is being taken, as it was found; whether nothing of ours is left there.
async fn give_back(work: &mut JoinHandle<Result<Lock, Refused>>) -> bool {
    match work.await {
        Ok(Ok(lock)) => match lock.give_back().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "a lock that was taken after the run was stopped is left; it lapses by itself");
                false
            }
        },
        Ok(Err(Refused::Held(_) | Refused::Strange(_))) => true,
        // It may have been written before.
        Ok(Err(_)) | Err(_) => false,
    }
}

/// A lock that is being taken.
struct Taking {
    ports: Ports,
    name: String,
    tags: BTreeMap<String, String>,
    cancel: Cancel,
    /// Creations of it that may still have their effect.
    creations: LateWrites,
    /// The same for claims, written over what was there, and whether the last one was answered.
    claims: LateWrites,
    is_answered: bool,
    /// When our name was sent last.
    sent_at: (Instant, SystemTime),
    /// A creation that was not answered, and until when its effect is looked for.
    unanswered: Option<(PortError, Instant)>,
    /// The last refusal that says "too many calls", and how many there were.
    throttled: Option<PortError>,
    tries: u64,
}

impl Taking {
    fn new(ports: Ports, name: String, tags: BTreeMap<String, String>, cancel: Cancel) -> Taking {
        let sent_at = (Instant::now(), clock::wall());
        let (creations, claims) = (LateWrites::default(), LateWrites::default());
        let is_answered = false;
        Taking {
            ports,
            name,
            tags,
            cancel,
            creations,
            claims,
            is_answered,
            sent_at,
            unanswered: None,
            throttled: None,
            tries: 0,
        }
    }

    fn held(self, claim: Claim, version: i64) -> Lock {
        let kept = Kept {
            ports: self.ports,
            name: self.name,
            tags: self.tags,
            state: Mutex::new(State { lock_record: claim.lock_record, version, answered: 0, is_over: false }),
            since: seconds(clock::wall()),
            renewed: std::sync::Mutex::new(self.sent_at),
            creations: std::sync::Mutex::new(self.creations),
            renewals: std::sync::Mutex::new(self.claims),
            cancel: self.cancel,
            is_throttled: AtomicBool::new(false),
        };
        Lock { kept: Arc::new(kept), works: std::sync::Mutex::default(), found: claim.found }
    }

    async fn take(mut self, mine: LockRecord) -> Result<Lock, Refused> {
        let value = text(&mine).map_err(Refused::Failed)?;
        let mut watched: Option<Watched> = None;
        let mut ours = Claim { lock_record: mine.clone(), found: None };
        let (start, mut sibling, mut absent) = (Instant::now(), false, false);
        while start.elapsed() < if sibling { SIBLING_WAIT } else { MOST_WAIT } || self.unanswered.is_some() {
            // Written only where there is nothing: writes are scarce, and others wait too.
            if absent {
                match self.create(&value).await? {
                    Some(version) => return Ok(self.held(ours, version)),
                    None => absent = false,
                }
            }
            let Some((seen, version)) = self.look(None).await? else {
                absent = self.is_free()?;
                sleep(LOOK).await;
                continue;
            };
            let theirs = LockRecord::read(&seen).map_err(Refused::Strange)?;
            if theirs.run == ours.lock_record.run {
                if self.is_right(&ours, version).await? {
                    return Ok(self.held(ours, version));
                }
                sleep(LOOK).await;
                continue;
            }
            self.unanswered = None;
            match is_dead(&theirs, version, &mut watched) {
                Some(false) if holder::is_sibling(&theirs.machine, theirs.parent) => {
                    (sibling, watched) = (true, None);
                    sleep(LOOK).await;
                }
                Some(false) => return Err(Refused::Held(Box::new(theirs))),
                None => sleep(LOOK).await,
                Some(true) => {
                    self.sent_at = (Instant::now(), clock::wall());
                    let lock_record = heir(&theirs, &mine);
                    ours = Claim { lock_record, found: theirs.unless_free() };
                    match self.take_over(version, (&ours.lock_record, &seen)).await? {
                        Some(version) => return Ok(self.held(ours, version)),
                        None => sleep(LOOK).await,
                    }
                }
            }
        }
        Err(match self.throttled {
            Some(error) => Refused::Failed(error),
            None => Refused::Strange("it comes and goes".to_owned()),
        })
    }

    /// Others use up the account's writes of parameters: nothing was written, and it is tried again in a moment, not by all of
    /// them at the same one.
    async fn wait_for_writes(&mut self, error: PortError) {
        tracing::info!(%error, "the lock is taken once the account has a write to spare");
        self.throttled = Some(error);
        self.tries += 1;
        sleep(LOOK + spread(&self.name, self.tries, 4 * LOOK)).await;
    }

    /// Makes it; its version, or none where it is to be looked at.
    async fn create(&mut self, value: &str) -> Result<Option<i64>, Refused> {
        let before = sent();
        self.sent_at = (Instant::now(), clock::wall());
        let created = self.ports.records.create(&self.name, value, &self.tags).await;
        let attempts = sent() - before;
        self.creations.note(attempts, patience());
        match created {
            Ok(version) => Ok(Some(version)),
            Err(error) if error.kind == FailureKind::Conflict => Ok(None),
            Err(error) if error.kind == FailureKind::Throttled && attempts == 0 => {
                self.wait_for_writes(error).await;
                Ok(None)
            }
            // It may still have its effect: then it is ours, and what would be left without us.
            Err(error) if attempts > 0 => {
                self.unanswered = Some((error, Instant::now() + patience()));
                Ok(None)
            }
            Err(error) => Err(Refused::Failed(error)),
        }
    }

    /// Whether it may be made, where nothing is seen.
    fn is_free(&self) -> Result<bool, Refused> {
        match &self.unanswered {
            Some((error, until)) if Instant::now() > *until => Err(Refused::Failed(error.clone())),
            unanswered => Ok(unanswered.is_none()),
        }
    }

    /// Whether our name stands there by right. The answer to our creation was lost, and it was repeated, or the look that was to
    /// confirm it was an old one; or a claim of ours came late.
    async fn is_right(&mut self, ours: &Claim, version: i64) -> Result<bool, Refused> {
        match &ours.lock_record.took_over {
            Some(former) => {
                let is_right = self.was_first(version, (&ours.lock_record, former)).await?;
                self.claims.came(i64::from(is_right && !self.is_answered));
                Ok(is_right)
            }
            None => {
                self.creations.came(1);
                Ok(true)
            }
        }
    }

    /// The value and its version, or those of that version; not for longer than a read may take.
    async fn look(&self, version: Option<i64>) -> Result<Option<(String, i64)>, Refused> {
        let seen = timeout(READ_LIMIT, self.ports.records.get_version(&self.name, version)).await;
        seen.map_err(|_| failed("no answer in time"))?.map_err(Refused::Failed)
    }

    /// Whether our claim, which stands in the lock, was the first one after the dead one's: our write may have come late, over that
    /// of another one, which has the lock then, and gets its name back.
    async fn was_first(&self, version: i64, (ours, former): (&LockRecord, &str)) -> Result<bool, Refused> {
        for before in (1..version).rev() {
            // An old look; the next one tells.
            let Some((value, _)) = self.look(Some(before)).await? else { return Ok(false) };
            match LockRecord::read(&value) {
                Ok(one) if one.run == ours.run => {}
                Ok(one) if one.run == former => return Ok(true),
                _ => {
                    self.write_over(&value).await?;
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    /// Writes our name over a dead one's. Of two that do so the first one has it; the other one puts that back.
    async fn take_over(&mut self, version: i64, (heir, dead): (&LockRecord, &str)) -> Result<Option<i64>, Refused> {
        let (value, before) = (text(heir).map_err(Refused::Failed)?, sent());
        let written = self.write_over(&value).await;
        self.claims.note(sent() - before, patience());
        self.is_answered = matches!(written, Ok(Some(_)));
        match written {
            Err(Refused::Failed(error)) if sent() == before && error.kind == FailureKind::Throttled => {
                self.wait_for_writes(error).await;
                return Ok(None);
            }
            // It may have had its effect, or still have it: what is there tells.
            Err(refused) if sent() == before => return Err(refused),
            Ok(None) => return Ok(None),
            // Nobody wrote in between.
            Ok(Some(written)) if written == version + 1 && sent() == before => return Ok(Some(written)),
            Ok(Some(_)) | Err(_) => sleep(SETTLE).await,
        }
        let claimed = self.claim(version, (heir, &value)).await;
        self.claims.came(i64::from(!self.is_answered && matches!(claimed, Ok(Some(_)))));
        if claimed.is_err()
            && let Err(error) = self.write_over(dead).await
        {
            tracing::warn!(?error, "what a dead rollout left can't be put back");
        }
        claimed
    }

    /// Whether the claim that was written is the first one.
    async fn claim(&self, version: i64, (heir, value): (&LockRecord, &str)) -> Result<Option<i64>, Refused> {
        for _ in 0..LOOKS {
            let first = self.look(Some(version + 1)).await?;
            match first.and_then(|(value, _)| Some((LockRecord::read(&value).ok()?, value))) {
                Some((lock_record, _)) if lock_record.run == heir.run => {
                    return self.reclaim(heir, value).await;
                }
                Some((_, theirs)) => {
                    self.write_over(&theirs).await?;
                    return Ok(None);
                }
                // An old look; or it was released and made anew in between: then begin again.
                None => sleep(LOOK).await,
            }
        }
        Ok(None)
    }

    /// The one that was second may have written over the first for a moment, and puts its name back; or died before it did.
    async fn reclaim(&self, mine: &LockRecord, value: &str) -> Result<Option<i64>, Refused> {
        for _ in 0..5 {
            let seen = self.look(None).await?;
            match seen.and_then(|(seen, version)| Some((LockRecord::read(&seen).ok()?, version))) {
                Some((lock_record, at)) if lock_record.run == mine.run => return Ok(Some(at)),
                _ => sleep(LOOK).await,
            }
        }
        self.write_over(value).await
    }

    /// Writes a lock that is there; its version, or none where it is gone: AWS makes none without a type.
    async fn write_over(&self, value: &str) -> Result<Option<i64>, Refused> {
        match self.ports.records.write(&self.name, value).await {
            Ok(version) => Ok(Some(version)),
            Err(error) => match self.look(None).await? {
                Some(_) => Err(Refused::Failed(error)),
                None => Ok(None),
            },
        }
    }
}

/// How many attempts of this acquisition went without an answer.
fn sent() -> u32 {
    Call::current().map_or(0, |call| call.unanswered())
}

/// How long those may still have their effect.
fn patience() -> Duration {
    Call::current().map_or(Duration::ZERO, |call| call.patience())
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
    let mut mine = mine.clone();
    for (switch, keys) in &theirs.cohort {
        mine.note_cohort(switch, keys.iter().cloned());
    }
    if theirs.status == Status::Free {
        return LockRecord { took_over: Some(theirs.run.clone()), ..mine };
    }
    LockRecord {
        from: theirs.from.clone(),
        to: theirs.to.clone(),
        record: theirs.record.clone(),
        origins: theirs.origins.clone(),
        sizes: theirs.sizes.clone(),
        led: theirs.led.clone(),
        waiting: theirs.waiting.clone(),
        took_over: Some(theirs.run.clone()),
        phase: format!("takes over from {}", theirs.holder),
        ..mine
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
    /// When it can't be written.
    pub async fn give_back(&self) -> Result<(), PortError> {
        let Some(found) = self.as_found() else { return self.release(None).await };
        let change = move |lock_record: &mut LockRecord| {
            let ours = std::mem::take(lock_record);
            *lock_record = LockRecord { run: ours.run, beat: ours.beat, ..found };
        };
        self.leave(change).await
    }

    /// What is written down.
    pub async fn lock_record(&self) -> LockRecord {
        self.kept.state.lock().await.lock_record.clone()
    }

    /// Notes what is waited for once it is given up.
    pub async fn wait_for(&self, waiting: Waiting) {
        self.kept.state.lock().await.lock_record.waiting = Some(waiting);
    }

    /// Strikes out the rules of a switch's cohort that are known to be gone, by their keys, when it is given up.
    pub async fn forget_cohort(&self, switch: &str, is_gone: impl Fn(&str) -> bool) {
        let cohort = &mut self.kept.state.lock().await.lock_record.cohort;
        if let Some(keys) = cohort.get_mut(switch) {
            keys.retain(|key| !is_gone(key));
        }
        cohort.retain(|_, keys| !keys.is_empty());
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
        self.judge(noted).await
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
        self.judge(noted).await
    }

    /// Makes sure that it is still held, before something is changed.
    ///
    /// # Errors
    /// When it is held no more.
    pub async fn confirm(&self) -> Result<(), Lost> {
        if self.kept.silent_for() < LEASE / 2 {
            return Ok(());
        }
        let noted = self.beat(None).await;
        self.judge(noted).await
    }

    /// Whether somebody else may have it by now, or before the next call is made.
    pub fn has_lapsed(&self) -> bool {
        self.kept.silent_for() >= LEASE - BEAT_LIMIT
    }

    async fn judge(&self, noted: Result<(), PortError>) -> Result<(), Lost> {
        match noted {
            Ok(()) => Ok(()),
            Err(error) if error.kind == FailureKind::Conflict => Err(Lost::Taken(error.message)),
            Err(error) => {
                tracing::warn!(%error, "the rollout's lock could not be renewed");
                let is_ours = self.kept.silent_for() < PATIENCE || self.kept.is_only_crowded_out().await;
                if is_ours { Ok(()) } else { Err(self.silent(&error.message)) }
            }
        }
    }

    fn silent(&self, why: &str) -> Lost {
        let silent = shown(Duration::from_secs(self.kept.silent_for().as_secs()));
        Lost::Silent(format!("the rollout's lock {} could not be renewed for {silent}: {why}", self.kept.name))
    }

    /// Renews it as long as it is polled; returns when it is lost.
    pub async fn keep(&self) -> Lost {
        let silence = async {
            loop {
                match PATIENCE.saturating_sub(self.kept.silent_for()) {
                    Duration::ZERO if self.kept.is_only_crowded_out().await => sleep(LOOK).await,
                    Duration::ZERO => return self.silent("no answer came"),
                    left => sleep(left).await,
                }
            }
        };
        tokio::select! {
            biased;
            lost = self.beats(true) => lost,
            lost = silence => lost,
        }
    }

    /// Renews it, however long it was not, until somebody else has it.
    pub async fn keep_on(&self) -> Lost {
        self.beats(false).await
    }

    async fn beats(&self, gives_up: bool) -> Lost {
        let mut beat = 0;
        loop {
            sleep(self.kept.pause(beat)).await;
            beat += 1;
            let beaten = self.beat(None).await;
            match self.judge(beaten).await {
                Err(lost) if gives_up || matches!(lost, Lost::Taken(_)) => return lost,
                Err(_) | Ok(()) => {}
            }
        }
    }

    /// Gives it up; what is left undone stays written down, else that it is free.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn release(&self, left: Option<(Status, String)>) -> Result<(), PortError> {
        match left {
            None => self.leave(|lock_record| *lock_record = lock_record.freed()).await,
            Some((status, phase)) => {
                let change = move |lock_record: &mut LockRecord| {
                    (lock_record.status, lock_record.phase) = (status, phase);
                    lock_record.waiting.take_if(|_| status != Status::Waiting);
                };
                self.leave(change).await
            }
        }
    }

    /// Gives it up and takes it away, with what it is for.
    ///
    /// # Errors
    /// When it can't be deleted.
    pub async fn delete(&self) -> Result<(), PortError> {
        let kept = self.kept.clone();
        self.in_time(RELEASE_LIMIT + SILENCE, async move { kept.remove().await }).await
    }

    async fn leave(&self, change: impl FnOnce(&mut LockRecord) + Send + 'static) -> Result<(), PortError> {
        let kept = self.kept.clone();
        let limit = if kept.cancel.is_cancelled() { RELEASE_LIMIT } else { CROWDED_LIMIT };
        self.in_time(limit, async move { kept.leave(change).await }).await?;
        let kept = self.kept.clone();
        if let Err(error) = self.in_time(RELEASE_LIMIT + SILENCE, async move { kept.watch_over().await }).await {
            tracing::warn!(%error, "a late renewal of the lock may hide what is left in it");
        }
        Ok(())
    }
}
