//! Carries a migration out: takes the lock of the database, plans from its ledger, and runs phase after phase.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cancel::Cancel;
use crate::clock;
use crate::migration::{Entry, Intent, Mode, Phase, Refusal, Resolve, Script, Statement, Step, plan};
use crate::run::holder;
use crate::run::migration::contraction::{self, Barred};
use crate::run::migration::ports::{Database, DatabaseError, Fault, Interrupter, Session};
use crate::run::rollout::events::rfc3339;
use crate::run::rollout::ports::Ports;

/// How often somebody who waits for the lock looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long a statement that was stopped has to end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long an end that went wrong may take to look what is left.
const LAST_LOOK: Duration = Duration::from_secs(15);
/// How often what others are in the way of is tried again, with pauses from half a second to ten.
const TRIES: u32 = 8;
/// How often progress is told.
const NEWS: Duration = Duration::from_secs(5);

/// How gentle a migration is.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a statement may wait for locks: so long all others wait behind it.
    pub lock: Duration,
    /// How long a statement may take, unless it is one that keeps nobody waiting.
    pub statement: Duration,
    /// Between two batches.
    pub pause: Duration,
    /// How long all of it may take.
    pub whole: Duration,
}

/// One apply of a migration.
pub struct Migrator<'a> {
    /// What is wished.
    pub intent: &'a Intent,
    /// Where.
    pub database: &'a dyn Database,
    /// The record is read, and rollouts kept out, through these.
    pub ports: &'a Ports,
    /// How gentle it is.
    pub limits: Limits,
    /// The stop signal.
    pub cancel: &'a Cancel,
}

/// Why an apply did not come to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The database can't be reached, or its ledger can't be read or written.
    Database(DatabaseError),
    /// Somebody else migrates this database.
    Locked {
        /// Who, if that can be seen.
        holder: Option<String>,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Nothing may be run.
    Refused(Refusal),
    /// The guard does not hold.
    Barred(Barred),
    /// A statement failed.
    Statement(Box<Broken>),
    /// The run was stopped before a phase began.
    Interrupted,
}

/// A statement that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// The phase.
    pub phase: Phase,
    /// The line of the file.
    pub line: usize,
    /// The statement's number in its file, from 1.
    pub number: usize,
    /// Of how many.
    pub of: usize,
    /// What the database said.
    pub error: DatabaseError,
    /// How often it was tried.
    pub tries: u32,
    /// What is left of the phase.
    pub left: Left,
}

/// What is left of a phase that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Some of it: a person is needed.
    Half,
    /// The batches that were done; the next run goes on with them.
    Batches {
        /// How many.
        batches: i64,
        /// How many rows they changed.
        rows: i64,
    },
    /// All of it or nothing: the connection ended while it was made final.
    Unknown,
}

/// What came of it: the ledger as it is then, if it could be read, and the failure, if there was one.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The ledger.
    pub seen: Option<Seen>,
    /// Why it ended early.
    pub failure: Option<Failure>,
}

type Done<T> = Result<T, Failure>;

/// How a phase is run, and with what.
struct Work<'a> {
    migrator: &'a Migrator<'a>,
    session: Box<dyn Session>,
    until: Instant,
    who: String,
    /// Whether rollouts can begin although they must not: then nothing more is taken away.
    exposed: Arc<AtomicBool>,
}

impl Migrator<'_> {
    /// Runs what is to be run.
    pub async fn run(&self) -> Outcome {
        let who = holder::this().name;
        let session = match self.database.open(&who).await {
            Ok(session) => session,
            Err(error) => return Outcome { seen: None, failure: Some(Failure::Database(error)) },
        };
        let until = Instant::now() + self.limits.whole;
        let mut work = Work { migrator: self, session, until, who, exposed: Arc::default() };
        let failure = work.all().await.err();
        // After a failure the connection may be in any state: what it left is read by a fresh one.
        let seen = match &failure {
            None => see(work.session.as_mut(), &self.intent.name).await.ok(),
            Some(_) => None,
        };
        close(work.session).await;
        let seen = match seen {
            Some(seen) => Some(seen),
            // A database that has fallen silent is not waited for.
            None => timeout(LAST_LOOK, look(self.database, &self.intent.name)).await.ok().and_then(Result::ok),
        };
        Outcome { seen, failure }
    }
}

/// What the ledger says of a migration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// By phase.
    pub ledger: BTreeMap<Phase, Entry>,
    /// Who runs a migration in this database right now; only asked where a phase has not come to its end.
    pub holder: Option<String>,
}

/// Looks at the ledger.
///
/// # Errors
/// When it can't be read.
pub async fn look(database: &dyn Database, migration: &str) -> Result<Seen, DatabaseError> {
    let mut session = database.open(&holder::this().name).await?;
    let seen = see(session.as_mut(), migration).await;
    close(session).await;
    seen
}

async fn close(session: Box<dyn Session>) {
    if timeout(LAST_WORDS, session.close()).await.is_err() {
        tracing::debug!("the connection did not end in good order");
    }
}

async fn see(session: &mut dyn Session, migration: &str) -> Result<Seen, DatabaseError> {
    let ledger = session.entries(migration).await?;
    if ledger.values().all(|entry| entry.done) {
        return Ok(Seen { ledger, holder: None });
    }
    let holder = session.holder().await?;
    // Whoever ran it may have come to the end in between.
    let ledger = if holder.is_none() { session.entries(migration).await? } else { ledger };
    Ok(Seen { ledger, holder })
}

impl Work<'_> {
    async fn all(&mut self) -> Done<()> {
        self.lock().await?;
        self.session.prepare().await.map_err(Failure::Database)?;
        let intent = self.migrator.intent;
        let mut ledger = self.session.entries(&intent.name).await.map_err(Failure::Database)?;
        for step in plan(intent, &ledger).map_err(Failure::Refused)? {
            if self.migrator.cancel.is_cancelled() {
                return Err(Failure::Interrupted);
            }
            match step {
                Step::Resolve(phase, resolve) => self.resolve(phase, resolve, ledger.remove(&phase)).await?,
                Step::Run(phase) => self.phase(phase, None).await?,
                Step::Resume(phase) => self.phase(phase, ledger.remove(&phase)).await?,
            }
        }
        Ok(())
    }

    /// One migration at a time in a database, whatever its name: their locks would meet anyway.
    async fn lock(&mut self) -> Done<()> {
        let started = Instant::now();
        let mut told = false;
        loop {
            if self.session.try_lock().await.map_err(Failure::Database)? {
                return Ok(());
            }
            let holder = self.session.holder().await.map_err(Failure::Database)?;
            if Instant::now() + LOOK >= self.until {
                return Err(Failure::Locked { holder, waited: started.elapsed() });
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(holder, "another migration runs in this database: waiting for it");
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.migrator.cancel.cancelled() => return Err(Failure::Interrupted),
            }
        }
    }

    async fn resolve(&mut self, phase: Phase, resolve: Resolve, entry: Option<Entry>) -> Done<()> {
        let name = &self.migrator.intent.name;
        tracing::warn!(migration = name, %phase, %resolve, by = self.who, "a phase that died half-way is resolved");
        let written = match (resolve, entry) {
            (Resolve::Applied, Some(mut entry)) => {
                if let Some(script) = self.migrator.intent.scripts.get(&phase) {
                    entry.checksum.clone_from(&script.checksum);
                }
                let live = self.guarded(phase);
                entry = Entry { done: true, finished_at: now(), by: self.who.clone(), live, ..entry };
                self.session.write(name, phase, &entry).await
            }
            _ => self.session.erase(name, phase).await,
        };
        written.map_err(Failure::Database)
    }

    /// The color that a contract was guarded by.
    fn guarded(&self, phase: Phase) -> String {
        let guard = self.migrator.intent.guard.as_ref().filter(|_| phase == Phase::Contract);
        guard.map(|guard| guard.live.clone()).unwrap_or_default()
    }

    async fn phase(&mut self, phase: Phase, before: Option<Entry>) -> Done<()> {
        let intent = self.migrator.intent;
        let Some(script) = intent.scripts.get(&phase) else { return Ok(()) };
        let guard = intent.guard.as_ref().filter(|_| phase == Phase::Contract);
        let Some(guard) = guard else { return self.script(phase, script, before).await };
        let ports = self.migrator.ports;
        let lock =
            contraction::enter(ports, guard, &intent.name, self.migrator.cancel).await.map_err(Failure::Barred)?;
        let (exposed, interrupter) = (self.exposed.clone(), self.session.interrupter());
        let mut work = std::pin::pin!(self.script(phase, script, before));
        let done = tokio::select! {
            // After a sleep it is looked whether the lock still holds, before the next statement is sent.
            biased;
            lost = lock.keep() => {
                tracing::warn!(?lost, "the lock that keeps rollouts out was lost while the schema contracts: it stops");
                exposed.store(true, Ordering::Relaxed);
                interrupt(interrupter.as_ref()).await;
                work.await
            }
            done = &mut work => done,
        };
        contraction::leave(&lock).await;
        done
    }

    async fn script(&mut self, phase: Phase, script: &Script, before: Option<Entry>) -> Done<()> {
        let name = &self.migrator.intent.name;
        let statements = i64::try_from(script.statements.len()).unwrap_or(i64::MAX);
        let fresh = Entry {
            checksum: script.checksum.clone(),
            resumable: script.mode == Mode::Batched,
            statements,
            started_at: now(),
            by: self.who.clone(),
            live: self.guarded(phase),
            ..Entry::default()
        };
        let entry = match before {
            Some(before) if before.resumable && fresh.resumable => {
                Entry { checksum: fresh.checksum, by: fresh.by, statements, ..before }
            }
            _ => fresh,
        };
        tracing::info!(migration = name, %phase, statements, rows = entry.rows, "begins");
        let entry = match script.mode {
            Mode::Transaction => self.in_transaction(phase, script, entry).await?,
            Mode::Stepwise => self.step_by_step(phase, script, entry).await?,
            Mode::Batched => self.in_batches(phase, script, entry).await?,
        };
        tracing::info!(migration = name, %phase, rows = entry.rows, "done");
        Ok(())
    }

    async fn in_transaction(&mut self, phase: Phase, script: &Script, entry: Entry) -> Done<Entry> {
        let mut tries = 0;
        loop {
            tries += 1;
            let ended = |rows| Entry {
                rows: entry.rows + rows,
                steps_done: entry.statements,
                done: true,
                finished_at: now(),
                ..entry.clone()
            };
            match self.transaction(phase, script, ended).await {
                Ok(entry) => return Ok(entry),
                Err(stop) => self.may_retry(&stop, tries, phase, script, Left::Nothing).await?,
            }
        }
    }

    /// How long a statement may wait for locks, and how long it may take.
    fn limits_of(&self, phase: Phase, script: &Script, statement: &Statement) -> (Duration, Duration) {
        let limits = self.migrator.limits;
        if statement.is_concurrent(script.dialect) {
            // It waits for others' transactions by a lock, and keeps nobody waiting meanwhile.
            return (limits.whole, limits.whole);
        }
        let patient = phase == Phase::Backfill && script.mode != Mode::Batched;
        (limits.lock, if patient { limits.whole } else { limits.statement })
    }

    /// All statements in one transaction, with the entry that `ended` makes of the rows that they changed.
    async fn transaction(
        &mut self,
        phase: Phase,
        script: &Script,
        ended: impl FnOnce(i64) -> Entry + Send,
    ) -> Result<Entry, Stop> {
        // None of them is built beside the traffic: all have the same limits.
        let (lock, limit) = self.limits_of(phase, script, &script.statements[0]);
        let begun = match self.session.limit(lock, limit).await {
            Ok(()) => self.session.begin().await,
            Err(error) => Err(error),
        };
        begun.map_err(|error| Stop { statement: 0, committing: false, error })?;
        let mut rows = 0;
        for (n, statement) in script.statements.iter().enumerate() {
            match self.statement(phase, script, statement).await {
                Ok(more) => rows += more,
                Err(error) => return Err(self.back_out(n, error).await),
            }
        }
        let (entry, last) = (ended(rows), script.statements.len() - 1);
        let written = match self.may_go_on() {
            Ok(()) => self.session.write(&self.migrator.intent.name, phase, &entry).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            return Err(self.back_out(last, error).await);
        }
        self.session.commit().await.map_err(|error| Stop { statement: last, committing: true, error })?;
        Ok(entry)
    }

    async fn back_out(&mut self, statement: usize, error: DatabaseError) -> Stop {
        if error.fault != Fault::Lost
            && let Err(error) = self.session.rollback().await
        {
            // The server rolls back what its client does not commit.
            tracing::debug!(%error, "the rollback was not confirmed");
        }
        Stop { statement, committing: false, error }
    }

    /// Waits before another try, or says that there is none.
    async fn may_retry(&self, stop: &Stop, tries: u32, phase: Phase, script: &Script, left: Left) -> Done<()> {
        let pause = Duration::from_millis(500 << tries.min(6)).min(Duration::from_secs(10)) / 2;
        let late = Instant::now() + pause >= self.until;
        let stopped = self.migrator.cancel.is_cancelled();
        if stop.error.fault != Fault::Busy || tries >= TRIES || late || stopped {
            let left = if stop.committing && stop.error.fault == Fault::Lost { Left::Unknown } else { left };
            return Err(broken(phase, script, stop, tries, left));
        }
        tracing::info!(%phase, tries, error = %stop.error, "others are in the way: it gives way, and tries again");
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.migrator.cancel.cancelled() => Err(broken(phase, script, stop, tries, left)),
        }
    }

    async fn step_by_step(&mut self, phase: Phase, script: &Script, mut entry: Entry) -> Done<Entry> {
        let name = self.migrator.intent.name.clone();
        self.session.write(&name, phase, &entry).await.map_err(Failure::Database)?;
        for (n, statement) in script.statements.iter().enumerate() {
            let mut tries = 0;
            let rows = loop {
                tries += 1;
                let (lock, limit) = self.limits_of(phase, script, statement);
                let ran = match self.session.limit(lock, limit).await {
                    Ok(()) => self.statement(phase, script, statement).await,
                    Err(error) => Err(error),
                };
                let error = match ran {
                    Ok(rows) => break rows,
                    Err(error) => error,
                };
                // What fails as the first and undoes itself has left nothing. An index whose concurrent build gave up is
                // there, and invalid: it is not to be tried over it.
                let refused = matches!(error.fault, Fault::Invalid | Fault::Denied);
                let undone = statement.undoes_itself(script.dialect);
                let clean = n == 0 && error.fault != Fault::Lost && (refused || undone);
                let left = if clean { Left::Nothing } else { Left::Half };
                let stop = Stop { statement: n, committing: false, error };
                let again = if undone { tries } else { TRIES };
                if let Err(failure) = self.may_retry(&stop, again, phase, script, left).await {
                    self.note_broken(&name, phase, &entry, &stop, left).await;
                    return Err(failure);
                }
            };
            entry.rows += rows;
            entry.steps_done += 1;
            self.session.write(&name, phase, &entry).await.map_err(Failure::Database)?;
        }
        entry = Entry { done: true, finished_at: now(), ..entry };
        self.session.write(&name, phase, &entry).await.map_err(Failure::Database)?;
        Ok(entry)
    }

    async fn note_broken(&mut self, name: &str, phase: Phase, entry: &Entry, stop: &Stop, left: Left) {
        if stop.error.fault == Fault::Lost {
            // Its entry without an end says the same.
            return;
        }
        let noted = if left == Left::Nothing {
            self.session.erase(name, phase).await
        } else {
            let entry = Entry { error: stop.error.message.chars().take(2000).collect(), ..entry.clone() };
            self.session.write(name, phase, &entry).await
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "what came of the phase could not be written down: it counts as half done");
        }
    }

    async fn in_batches(&mut self, phase: Phase, script: &Script, mut entry: Entry) -> Done<Entry> {
        let (mut tries, mut told) = (0, Instant::now());
        let started = (Instant::now(), entry.rows);
        loop {
            tries += 1;
            let left = Left::Batches { batches: entry.steps_done, rows: entry.rows };
            entry = match self.batch(phase, script, &entry).await {
                Ok(entry) => entry,
                Err(stop) => {
                    self.may_retry(&stop, tries, phase, script, left).await?;
                    continue;
                }
            };
            if entry.done {
                return Ok(entry);
            }
            tries = 0;
            let (batches, rows) = (entry.steps_done, entry.rows);
            if told.elapsed() >= NEWS {
                told = Instant::now();
                let per_second = (rows - started.1) as f64 / started.0.elapsed().as_secs_f64();
                tracing::info!(%phase, batches, rows, per_second = per_second.round(), "backfill");
            }
            let words = if Instant::now() >= self.until {
                "the time for all of it is over (timeouts)"
            } else if self.rests().await {
                continue;
            } else {
                "the run was stopped"
            };
            let fault = if self.migrator.cancel.is_cancelled() { Fault::Interrupted } else { Fault::TooLong };
            let stop = Stop { statement: 0, committing: false, error: DatabaseError::new(fault, words) };
            return Err(broken(phase, script, &stop, 1, Left::Batches { batches, rows }));
        }
    }

    /// Leaves the database to others for a while; not if the run is stopped meanwhile.
    async fn rests(&self) -> bool {
        tokio::select! {
            () = sleep(self.migrator.limits.pause) => !self.migrator.cancel.is_cancelled(),
            () = self.migrator.cancel.cancelled() => false,
        }
    }

    /// One batch with the entry that counts it; the one that changes nothing is the last.
    async fn batch(&mut self, phase: Phase, script: &Script, entry: &Entry) -> Result<Entry, Stop> {
        let ended = |rows| {
            let done = rows == 0;
            Entry {
                rows: entry.rows + rows,
                steps_done: entry.steps_done + i64::from(!done),
                done,
                finished_at: if done { now() } else { String::new() },
                ..entry.clone()
            }
        };
        self.transaction(phase, script, ended).await
    }

    /// Whether nothing has changed that must not while a contract runs.
    fn may_go_on(&self) -> Result<(), DatabaseError> {
        if !self.exposed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let words =
            "the lock that keeps rollouts out was lost, so one may have begun to go back to what needs the old schema";
        Err(DatabaseError::new(Fault::Interrupted, words))
    }

    /// Runs a statement, and stops it in the database if the run is stopped or its time is over.
    async fn statement(&mut self, phase: Phase, script: &Script, statement: &Statement) -> Result<i64, DatabaseError> {
        self.may_go_on()?;
        if self.migrator.cancel.is_cancelled() {
            return Err(DatabaseError::new(Fault::Interrupted, "the run was stopped before this statement"));
        }
        let (_, limit) = self.limits_of(phase, script, statement);
        let limit = self.until.min(Instant::now() + limit);
        let counts = statement.counts(script.dialect);
        let count = |rows: u64| if counts { i64::try_from(rows).unwrap_or(i64::MAX) } else { 0 };
        let interrupter = self.session.interrupter();
        let mut running = std::pin::pin!(self.session.run(&statement.text));
        let fault = tokio::select! {
            done = &mut running => return done.map(count),
            () = self.migrator.cancel.cancelled() => Fault::Interrupted,
            () = sleep_until(limit) => Fault::TooLong,
        };
        interrupt(interrupter.as_ref()).await;
        match timeout(LAST_WORDS, running).await {
            // It came to its end first.
            Ok(Ok(rows)) => Ok(count(rows)),
            Ok(Err(error)) if error.fault == Fault::Interrupted => {
                let words = match fault {
                    Fault::TooLong => "it took longer than it may, and was stopped".to_owned(),
                    _ => "the run was stopped, and the statement with it".to_owned(),
                };
                Err(DatabaseError::new(fault, words))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(DatabaseError::new(Fault::Lost, "the database did not answer any more")),
        }
    }
}

/// Where an attempt ended.
struct Stop {
    statement: usize,
    committing: bool,
    error: DatabaseError,
}

fn now() -> String {
    rfc3339(clock::wall())
}

/// Stops what runs in a session, as far as that can be done in time.
async fn interrupt(interrupter: &dyn Interrupter) {
    let late = || DatabaseError::new(Fault::Unreachable, "no answer in time");
    if let Err(error) = timeout(LAST_WORDS, interrupter.interrupt()).await.unwrap_or_else(|_| Err(late())) {
        tracing::warn!(%error, "the statement could not be stopped");
    }
}

fn broken(phase: Phase, script: &Script, stop: &Stop, tries: u32, left: Left) -> Failure {
    use crate::run::migration::ports::Place;
    let number = stop.statement.min(script.statements.len() - 1);
    let statement = &script.statements[number];
    let line = match stop.error.place {
        Some(Place::Character(at)) => statement.line_of(at),
        Some(Place::Line(line)) => statement.line + line.saturating_sub(1),
        None => statement.line,
    };
    let (of, error) = (script.statements.len(), stop.error.clone());
    Failure::Statement(Box::new(Broken { phase, line, number: number + 1, of, error, tries, left }))
}
