//! A database in memory: with a ledger, a lock and transactions, connections that end, and statements that are in the way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::migration::spec::Tls;
use crate::migration::{Entry, Phase};
use crate::run::migration::ports::{Database, DatabaseError, Databases, Fault, Interrupter, Session};
use crate::run::rollout::in_memory::Fault as Trouble;

/// The one database that there is.
#[derive(Default)]
pub(crate) struct Server {
    state: Mutex<State>,
    died: Notify,
}

/// What a transaction changes.
#[derive(Clone, Debug, Default)]
struct Tables {
    ledger: BTreeMap<(String, Phase), Entry>,
    /// The statements that were run, in their order, with what the onlooker saw then.
    ran: Vec<Ran>,
    /// How many rows a statement that changes rows has left to change, two at a time.
    left: BTreeMap<String, u64>,
}

/// A statement that was run.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub sql: String,
    /// What was to be seen elsewhere at that moment.
    pub seen: Option<String>,
}

/// Sees something elsewhere.
type Onlooker = dyn Fn() -> Option<String> + Send;

#[derive(Default)]
struct State {
    onlooker: Option<Box<Onlooker>>,
    tables: Tables,
    is_prepared: bool,
    sessions: usize,
    /// The session that has the lock.
    lock: Option<usize>,
    calls: usize,
    /// By the number of the call that changes something, from 0.
    faults: BTreeMap<usize, Trouble>,
    is_down: bool,
}

fn lost() -> DatabaseError {
    DatabaseError::new(Fault::Lost, "the connection was closed")
}

impl Server {
    pub(crate) fn new() -> Arc<Server> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that changes something has this fault; counted anew from here.
    pub(crate) fn fault(&self, call: usize, fault: Trouble) {
        let mut state = self.state();
        state.calls = 0;
        state.faults = BTreeMap::from([(call, fault)]);
    }

    /// Nothing goes wrong any more; the connections of whoever died have ended.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.faults, state.is_down) = (BTreeMap::new(), false);
    }

    /// Nobody gets in.
    pub(crate) fn be_down(&self) {
        self.state().is_down = true;
    }

    /// Returns when a fault killed the process: whoever runs must be dropped then.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    /// What was run and made final, in its order.
    pub(crate) fn ran(&self) -> Vec<Ran> {
        self.state().tables.ran.clone()
    }

    /// Somebody runs a statement by hand.
    pub(crate) fn run_by_hand(&self, sql: &str) {
        self.state().tables.ran.push(Ran { sql: sql.to_owned(), seen: None });
    }

    /// From now on it is noted with each statement what this sees.
    pub(crate) fn look_at(&self, seen: impl Fn() -> Option<String> + Send + 'static) {
        self.state().onlooker = Some(Box::new(seen));
    }

    /// The phases of a migration as the ledger has them.
    pub(crate) fn ledger(&self, migration: &str) -> BTreeMap<Phase, Entry> {
        let own = self.state().tables.ledger.clone().into_iter().filter(|((name, _), _)| name == migration);
        own.map(|((_, phase), entry)| (phase, entry)).collect()
    }

    /// How many rows a statement has left to change.
    pub(crate) fn set_left(&self, sql: &str, rows: u64) {
        self.state().tables.left.insert(sql.to_owned(), rows);
    }

    /// A call that changes something, made by a session.
    async fn change(&self, effect: impl FnOnce(&mut State)) -> Result<(), DatabaseError> {
        let fault = {
            let mut state = self.state();
            let fault = state.faults.get(&state.calls).copied();
            state.calls += 1;
            fault
        };
        match fault {
            None => effect(&mut self.state()),
            Some(Trouble::Refused) => return Err(DatabaseError::new(Fault::Busy, "a lock did not come in time")),
            Some(Trouble::Twice(..)) => return Err(lost()),
            Some(Trouble::LostAnswer | Trouble::Echo(_)) => {
                effect(&mut self.state());
                return Err(lost());
            }
            Some(Trouble::Late(seconds)) => {
                sleep(Duration::from_secs(seconds)).await;
                effect(&mut self.state());
            }
            Some(kind @ (Trouble::DiesBefore | Trouble::DiesAfter)) => {
                if kind == Trouble::DiesAfter {
                    effect(&mut self.state());
                }
                self.died.notify_one();
                return std::future::pending().await;
            }
        }
        Ok(())
    }
}

/// A way to it.
pub(crate) struct Way(pub Arc<Server>);

impl Databases for Way {
    fn at(&self, _: &str, _: &Tls, _: Option<&str>) -> Result<Arc<dyn Database>, String> {
        Ok(Arc::new(Way(self.0.clone())))
    }
}

#[async_trait]
impl Database for Way {
    async fn open(&self, _: &str) -> Result<Box<dyn Session>, DatabaseError> {
        let mut state = self.0.state();
        if state.is_down {
            return Err(DatabaseError::new(Fault::Unreachable, "nobody answers"));
        }
        state.sessions += 1;
        Ok(Box::new(Connection { id: state.sessions, server: self.0.clone(), open: None, has_ended: false }))
    }

    fn summary(&self) -> String {
        "app@memory/app".to_owned()
    }
}

struct Connection {
    id: usize,
    server: Arc<Server>,
    /// What is seen in the transaction that is open.
    open: Option<Tables>,
    has_ended: bool,
}

impl Connection {
    /// What this connection sees.
    fn tables(&self) -> Tables {
        self.open.clone().unwrap_or_else(|| self.server.state().tables.clone())
    }

    /// Something that a transaction keeps back until its end. A connection that was lost is of no more use.
    async fn alter(&mut self, effect: impl FnOnce(&mut Tables) + Send) -> Result<(), DatabaseError> {
        if self.has_ended {
            return Err(lost());
        }
        let open = self.open.as_mut();
        let changed = match open {
            Some(tables) => self.server.change(|_| effect(tables)).await,
            None => self.server.change(|state| effect(&mut state.tables)).await,
        };
        self.note(changed)
    }

    /// The server rolls back what a connection leaves that ends, and gives its lock to others.
    fn note<T>(&mut self, result: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        if result.as_ref().is_err_and(|error| error.fault == Fault::Lost) {
            self.end();
        }
        result
    }

    fn end(&mut self) {
        (self.open, self.has_ended) = (None, true);
        let mut state = self.server.state();
        state.lock = state.lock.filter(|holder| *holder != self.id);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl Session for Connection {
    async fn entries(&mut self, migration: &str) -> Result<BTreeMap<Phase, Entry>, DatabaseError> {
        if self.has_ended {
            return Err(lost());
        }
        let own = self.tables().ledger.into_iter().filter(|((name, _), _)| name == migration);
        Ok(own.map(|((_, phase), entry)| (phase, entry)).collect())
    }

    async fn prepare(&mut self) -> Result<(), DatabaseError> {
        let changed = self.server.change(|state| state.is_prepared = true).await;
        self.note(changed)
    }

    async fn try_lock(&mut self) -> Result<bool, DatabaseError> {
        let mut state = self.server.state();
        let has = *state.lock.get_or_insert(self.id) == self.id;
        Ok(has)
    }

    async fn holder(&mut self) -> Result<Option<String>, DatabaseError> {
        let holder = self.server.state().lock.filter(|holder| *holder != self.id);
        Ok(holder.map(|holder| format!("session {holder}")))
    }

    async fn limit(&mut self, _: Duration, _: Duration) -> Result<(), DatabaseError> {
        if self.has_ended { Err(lost()) } else { Ok(()) }
    }

    async fn begin(&mut self) -> Result<(), DatabaseError> {
        self.limit(Duration::ZERO, Duration::ZERO).await?;
        self.open = Some(self.server.state().tables.clone());
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), DatabaseError> {
        let Some(tables) = self.open.take() else { return Err(lost()) };
        let changed = self.server.change(|state| state.tables = tables).await;
        self.note(changed)
    }

    async fn rollback(&mut self) -> Result<(), DatabaseError> {
        self.open = None;
        Ok(())
    }

    async fn run(&mut self, sql: &str) -> Result<u64, DatabaseError> {
        let rows = self.tables().left.get(sql).copied().unwrap_or_default().min(2);
        let seen = self.server.state().onlooker.as_ref().and_then(|look| look());
        self.alter(|tables| {
            if let Some(left) = tables.left.get_mut(sql) {
                *left -= rows;
            }
            tables.ran.push(Ran { sql: sql.to_owned(), seen });
        })
        .await?;
        Ok(rows)
    }

    async fn write(&mut self, migration: &str, phase: Phase, entry: &Entry) -> Result<(), DatabaseError> {
        self.alter(|tables| drop(tables.ledger.insert((migration.to_owned(), phase), entry.clone()))).await
    }

    async fn erase(&mut self, migration: &str, phase: Phase) -> Result<(), DatabaseError> {
        self.alter(|tables| drop(tables.ledger.remove(&(migration.to_owned(), phase)))).await
    }

    fn interrupter(&self) -> Box<dyn Interrupter> {
        Box::new(Nothing)
    }

    async fn close(self: Box<Self>) {}
}

/// What runs comes to its end first.
struct Nothing;

#[async_trait]
impl Interrupter for Nothing {
    async fn interrupt(&self) -> Result<(), DatabaseError> {
        Ok(())
    }
}
