//! A change of a database's schema in three phases, so that both colors can work with it all the time: expand (add what
//! the next release needs), backfill (copy), contract (take away what no release needs any more). What is to be run is
//! decided here without doing: pure and synchronous, no clock, no I/O.

mod guard;
mod lint;
mod plan;
mod script;
pub mod spec;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::argument::Choice;

pub use guard::{Recorded, Unmet};
pub use lint::{Concern, Danger, lint};
pub use plan::{Entry, Intent, Refusal, Resolve, Step, highest, outline, plan};
pub use script::{Mode, Script, Statement, Unreadable};
pub use spec::Guard;

/// The SQL that a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL, Aurora PostgreSQL.
    Postgres,
    /// MySQL, MariaDB, Aurora MySQL.
    Mysql,
}

impl Dialect {
    /// The dialect of a database's URL, by its scheme.
    pub fn of_url(url: &str) -> Option<Dialect> {
        match url.split_once("://")?.0 {
            "postgres" | "postgresql" => Some(Dialect::Postgres),
            "mysql" | "mariadb" => Some(Dialect::Mysql),
            _ => None,
        }
    }
}

/// A phase, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Choice)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Adds; both releases can work with what is there afterwards.
    Expand,
    /// Copies what is there into what was added.
    Backfill,
    /// Takes away; only the new release can work with what is left.
    Contract,
}

impl Phase {
    /// All, in their order.
    pub const ALL: [Phase; 3] = [Phase::Expand, Phase::Backfill, Phase::Contract];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
