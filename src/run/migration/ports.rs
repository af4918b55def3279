//! What is needed of a database, free of any driver.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::migration::spec::Tls;
use crate::migration::{Entry, Phase};

/// Why a database did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseError {
    /// What kind of failure.
    pub fault: Fault,
    /// For a person: what the database said, or what happened on the way to it.
    pub message: String,
    /// Where in the statement.
    pub place: Option<Place>,
}

/// The kinds of failure that somebody tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers there, or not a database.
    Unreachable,
    /// The user or the password is not the right one.
    Credentials,
    /// No encryption, or a certificate that is not trusted.
    Tls,
    /// There is no such database.
    NoDatabase,
    /// The user lacks a right.
    Denied,
    /// The statement itself is wrong, or what it names isn't there: nothing of it was begun.
    Invalid,
    /// Others have what it needs: a lock that did not come in time, a deadlock, a transaction that lost. It can be tried
    /// again.
    Busy,
    /// It took longer than it may.
    TooLong,
    /// It was stopped.
    Interrupted,
    /// The connection ended; whether the last statement happened is not known.
    Lost,
    /// Anything else.
    Other,
}

/// Where in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The character, from 1.
    Character(usize),
    /// The line of the statement, from 1.
    Line(usize),
}

impl DatabaseError {
    /// A failure of a kind.
    pub fn new(fault: Fault, message: impl Into<String>) -> DatabaseError {
        DatabaseError { fault, message: message.into(), place: None }
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DatabaseError {}

/// Where databases are reached.
pub trait Databases: Send + Sync {
    /// The database of a URL, with a token for a password if there is one. Nothing is on the network before it is opened.
    ///
    /// # Errors
    /// What is wrong with the URL, without a word of it that could be secret.
    fn at(&self, url: &str, tls: &Tls, token: Option<&str>) -> Result<Arc<dyn Database>, String>;
}

/// A database that can be connected to.
#[async_trait]
pub trait Database: Send + Sync {
    /// Connects. `who` is shown to whoever looks at the database's sessions.
    async fn open(&self, who: &str) -> Result<Box<dyn Session>, DatabaseError>;

    /// User, host and name, without anything secret.
    fn summary(&self) -> String;
}

/// A connection with its ledger of migrations.
#[async_trait]
pub trait Session: Send + Sync {
    /// What the ledger says of a migration; nothing where there is no ledger yet.
    async fn entries(&mut self, migration: &str) -> Result<BTreeMap<Phase, Entry>, DatabaseError>;

    /// Makes the ledger if there is none. Only with the lock.
    async fn prepare(&mut self) -> Result<(), DatabaseError>;

    /// Takes the lock of all migrations of this database, if it is free. It ends with the connection.
    async fn try_lock(&mut self) -> Result<bool, DatabaseError>;

    /// Who has the lock.
    async fn holder(&mut self) -> Result<Option<String>, DatabaseError>;

    /// How long statements from here on may wait for locks, and how long they may take.
    async fn limit(&mut self, lock: Duration, statement: Duration) -> Result<(), DatabaseError>;

    /// Begins a transaction.
    async fn begin(&mut self) -> Result<(), DatabaseError> {
        self.run("BEGIN").await.map(drop)
    }

    /// Ends it: all of it happened.
    async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.run("COMMIT").await.map(drop)
    }

    /// Ends it: nothing of it happened.
    async fn rollback(&mut self) -> Result<(), DatabaseError> {
        self.run("ROLLBACK").await.map(drop)
    }

    /// Runs one statement; how many rows it changed.
    async fn run(&mut self, sql: &str) -> Result<u64, DatabaseError>;

    /// Writes what is known of a phase into the ledger.
    async fn write(&mut self, migration: &str, phase: Phase, entry: &Entry) -> Result<(), DatabaseError>;

    /// Takes a phase out of the ledger.
    async fn erase(&mut self, migration: &str, phase: Phase) -> Result<(), DatabaseError>;

    /// A way to stop what runs here from outside.
    fn interrupter(&self) -> Box<dyn Interrupter>;

    /// Ends the connection in good order.
    async fn close(self: Box<Self>);
}

/// Stops the statement of another connection.
#[async_trait]
pub trait Interrupter: Send + Sync {
    /// Asks the database to stop it.
    async fn interrupt(&self) -> Result<(), DatabaseError>;
}
