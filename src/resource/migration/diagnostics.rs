//! What is said when something goes wrong, for the person on call: what failed, what was seen, what is left, what to do.

use std::fmt::Write as _;

use super::{Ledger, model, text};
use crate::duration::shown;
use crate::migration::{Concern, Danger, Dialect, Entry, Guard, Intent, Phase, Refusal, Resolve, Unmet, highest};
use crate::run::migration::contraction::Barred;
use crate::run::migration::migrator::{Broken, Failure, Left};
use crate::run::migration::ports::{Database, DatabaseError, Fault};
use crate::run::rollout::lock::{self, Refused};
use crate::shell::Shell;
use crate::tf_provider::{Diagnostics, Path, Value};

/// A destroy plans first, and is refused what a plan is refused.
const DESTROY: &str = "To destroy all the same: terraform destroy -refresh=false.";

/// The line of a text with its number, as compilers show it.
fn excerpt(source: &str, line: usize) -> String {
    let text = source.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let short: String = text.chars().take(160).collect();
    format!("  {line} | {}", short.trim_end())
}

fn url_path(config: &Value) -> Path {
    let name = if config.get("database").get("url").is_null() { "url_wo" } else { "url" };
    Path::attribute("database").attr(name)
}

/// What a failure on the way to the database means, and what to do.
fn advice(fault: Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::Unreachable => (
            "Failed to reach the database",
            "Check host and port, that the database runs, and that this machine has a way to it (security group, VPN).",
        ),
        Fault::Credentials => (
            "The database refuses the user",
            "Check user and password; for RDS with IAM also the right rds-db:connect.",
        ),
        Fault::Tls => (
            "Failed to encrypt the connection",
            "The server's certificate must be one of a trusted authority, for the host in the URL (verify-full). For RDS set \
             tls.ca_bundle to the file of its authorities, which AWS offers; for a server with an authority of its own, to that \
             one's. tls = { mode = \"require\" } encrypts without asking who answers, \"disable\" doesn't encrypt.",
        ),
        Fault::NoDatabase => ("There is no such database", "Check the name at the end of the URL."),
        Fault::Denied => (
            "The user lacks a right",
            "The user needs the rights of the statements themselves, and to create and write the table bluegreen_migrations.",
        ),
        Fault::Lost => {
            ("The connection to the database was lost", "Plan again: the ledger in the database tells what ran.")
        }
        _ => ("The database failed", "Plan again once its cause is gone: the ledger in the database tells what ran."),
    }
}

/// A refresh that could not look.
pub(super) fn unseen(name: &str, error: &DatabaseError, diagnostics: &mut Diagnostics) {
    let (summary, advice) = advice(error.fault);
    let detail = format!(
        "{error}. The migration {name} is shown as it was last seen; everything else can be planned and applied. {advice}"
    );
    diagnostics.warning_at(Path::attribute("database"), summary, detail);
}

/// A plan that could not look. Database, user or password may come to be in the same apply, and a switch may have to go back
/// meanwhile: it is no error yet.
pub(super) fn unseen_by_plan(config: &Value, error: &DatabaseError, diagnostics: &mut Diagnostics) {
    let (summary, advice) = advice(error.fault);
    let path = url_path(config);
    let detail = format!("{path}: {error}. {advice}");
    let detail = format!("{detail} What has run there already is seen when this is applied.");
    diagnostics.warning_at(path, summary, detail);
}

/// An apply that did not get to the database.
pub(super) fn unreachable(config: &Value, error: &DatabaseError, place: &str, diagnostics: &mut Diagnostics) {
    let (summary, advice) = advice(error.fault);
    let path = url_path(config);
    let place = if place.is_empty() { String::new() } else { format!("\n\nThe database: {place}.") };
    diagnostics.error_at(path.clone(), summary, format!("{path}: {error}.{place}\n\n{advice}"));
}

pub(super) fn under_way(holder: &str, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "{holder} runs one in this database right now. An apply waits for its end, and then looks what is left to do."
    );
    diagnostics.warning_at(Path::attribute("database"), "A migration is under way", detail);
}

pub(super) fn renamed(before: &str, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "The database knows this migration as {before:?}; under another name its phases would run a second time. Keep the name; the resource itself can be moved with a moved block."
    );
    diagnostics.error_at(Path::attribute("name"), "A migration can't be renamed", detail);
}

pub(super) fn resolved(config: &Value, diagnostics: &mut Diagnostics) {
    let detail = format!("resolve = {:?} has nothing left to do: remove it.", text(config, "resolve"));
    diagnostics.warning_at(Path::attribute("resolve"), "There is nothing to resolve", detail);
}

pub(super) fn resolves(phase: Phase, resolve: Resolve, entry: Option<&Entry>, diagnostics: &mut Diagnostics) {
    let state = entry.map(half).unwrap_or_default();
    let what = match resolve {
        Resolve::Applied => format!("{phase} will count as done, without running anything of it."),
        Resolve::Reverted => format!("{phase} will count as not begun, and run from its beginning."),
    };
    diagnostics.warning_at(Path::attribute("resolve"), format!("{phase} is resolved"), format!("{state} {what}"));
}

pub(super) fn unguarded(diagnostics: &mut Diagnostics) {
    let detail = "contract takes away what the color that is not live may still need, for its way back. Without a guard it \
                  runs whoever is live: set guard = { parameter = …, live = …, stable_for = \"24h\" }.";
    diagnostics.warning_at(Path::attribute("contract"), "contract has no guard", detail);
}

/// All that is doubtful about a phase's text, in one warning for each kind.
pub(super) fn concerns(phase: Phase, concerns: &[Concern], source: &str, diagnostics: &mut Diagnostics) {
    for (danger, summary) in [
        (Danger::Breaks, format!("{phase} may break the release that is live")),
        (Danger::Locks, format!("{phase} may keep others waiting")),
    ] {
        let mut detail = String::new();
        for concern in concerns.iter().filter(|concern| concern.danger == danger) {
            let Concern { line, what, instead, .. } = concern;
            let _ = write!(detail, "\n{}\nLine {line}: {what}.\nSafe: {instead}.\n", excerpt(source, *line));
        }
        if !detail.is_empty() {
            diagnostics.warning_at(Path::attribute(phase.name()), summary, detail.trim_start_matches('\n').to_owned());
        }
    }
}

/// How far a phase came that died.
fn half(entry: &Entry) -> String {
    let error = if entry.error.is_empty() { String::new() } else { format!(" The database said: {}.", entry.error) };
    format!(
        "It was begun at {} by {}, and {} of its {} statements are known to have run.{error}",
        entry.started_at, entry.by, entry.steps_done, entry.statements
    )
}

/// Why nothing is run.
pub(super) fn refused(
    config: &Value,
    intent: &Intent,
    ledger: &Ledger,
    refusal: &Refusal,
    diagnostics: &mut Diagnostics,
) {
    let name = &intent.name;
    match refusal {
        Refusal::Changed { phase, at } => {
            let path = Path::attribute(phase.name());
            let gone = config.get(phase.name()).is_null();
            let how = if gone { "is gone from the configuration" } else { "is another one now" };
            let detail = format!(
                "The text of {phase} {how}, but the one that the database's table bluegreen_migrations knows ran at {at}. What ran is not run again: put the text back as it was, and write what is to come into a migration of its own. {DESTROY}"
            );
            diagnostics.error_at(path, format!("{phase} of {name} has run with another text"), detail);
        }
        Refusal::Backwards { ran } => {
            let detail = format!(
                "phase is {}, but {ran} has run already, and what it did is not undone by going back. Set phase = \"{ran}\"; to undo it, write another migration.",
                intent.phase
            );
            diagnostics.error_at(Path::attribute("phase"), "A migration only goes forward", detail);
        }
        Refusal::OutOfOrder { phase, ran } => {
            let detail = format!(
                "{phase} has not run, but {ran}, which comes after it, has. Write {phase} into a migration of its own."
            );
            let path = Path::attribute(phase.name());
            diagnostics.error_at(path, format!("{phase} comes too late"), detail);
        }
        Refusal::Dirty { phase, entry } => dirty(config, intent, *phase, entry, ledger, diagnostics),
        Refusal::ResolveAlone { phase } => {
            let detail = format!(
                "resolve says what became of {phase}; no phase after it runs in the same apply, since resolve would also hold for that one if it dies. Set phase = \"{phase}\" and apply; then remove resolve and go on."
            );
            diagnostics.error_at(Path::attribute("resolve"), "A phase is resolved alone", detail);
        }
        Refusal::NothingToResolve => {
            let detail = "No phase is half done. Remove resolve: a phase that dies from now on must not be resolved before \
                          somebody has looked at it.";
            diagnostics.error_at(Path::attribute("resolve"), "There is nothing to resolve", detail);
        }
    }
}

fn dirty(config: &Value, intent: &Intent, phase: Phase, entry: &Entry, ledger: &Ledger, diagnostics: &mut Diagnostics) {
    let name = &intent.name;
    let source = text(config, phase.name());
    let script = intent.scripts.get(&phase);
    let next = script.and_then(|script| script.statements.get(usize::try_from(entry.steps_done).ok()?));
    let next = next.map_or(String::new(), |statement| {
        format!(" The one after them may have run or not:\n\n{}\n", excerpt(source, statement.line))
    });
    let back = highest(ledger)
        .filter(|ran| *ran < phase)
        .map_or(String::new(), |ran| format!(" Everything else can be applied meanwhile with phase = \"{ran}\"."));
    let detail = format!(
        "{}{next}\nNothing runs until somebody has looked at the database. Either do by hand what is missing and set resolve = \"applied\"; or undo by hand what is there and set resolve = \"reverted\", and it runs from its beginning.{back} {DESTROY}",
        half(entry)
    );
    diagnostics.error_at(Path::attribute(phase.name()), format!("{phase} of {name} died half-way"), detail);
}

/// Why a contract does not run.
pub(super) fn barred(barred: &Barred, guard: &Guard, shell: &Shell, diagnostics: &mut Diagnostics) {
    let path = Path::attribute("guard");
    let lock = lock::name(&guard.parameter);
    let (delete, whose) = (shell.delete_parameter(&lock), shell.whose());
    let (summary, detail) = match barred {
        Barred::Unmet(unmet) => {
            let then = match unmet {
                Unmet::Young { age } => {
                    let rest = guard.stable_for.saturating_sub(*age);
                    format!("Plan again in {}.", shown(rest))
                }
                Unmet::Other { .. } | Unmet::NoRecord => {
                    format!("Switch to {} first, and let it be for long enough to be sure.", guard.live)
                }
                Unmet::Rollout { .. } => {
                    format!(
                        "Bring it to its end first: apply the switch. If it is none any more, delete its lock{whose}:\n  {delete}\n"
                    )
                }
            };
            let detail = format!(
                "guard: contract waits until {guard}; but {unmet}. Nothing was changed. {then} To apply everything else now, set phase back."
            );
            ("contract would run before its guard holds", detail)
        }
        Barred::Unseen(error) => {
            let detail = format!("guard: it can't be seen whether {guard}: {error}. Nothing was changed.");
            ("The guard can't be looked at", detail)
        }
        Barred::Locked(Refused::Held(ledger)) => {
            let detail = format!(
                "guard: {} is under way; it said last: {}. contract runs only while no rollout can begin. Nothing was changed. Wait until it has ended, then apply again.",
                ledger.summary(),
                ledger.phase
            );
            ("A rollout is under way", detail)
        }
        Barred::Locked(Refused::Strange(why)) => {
            let detail = format!(
                "guard: the parameter {lock}, which keeps rollouts apart, can't be read: {why}. Nothing was changed. If nothing is under way, delete it{whose}:\n  {delete}"
            );
            ("The lock record can't be read", detail)
        }
        Barred::Locked(Refused::Failed(error)) => {
            let detail = format!(
                "guard: contract keeps rollouts out with the parameter {lock} while it runs, which failed: {error}. Nothing was changed."
            );
            ("Failed to keep rollouts out", detail)
        }
        Barred::Locked(Refused::Interrupted { .. }) => (
            "The run was interrupted",
            format!("guard: it was stopped while it waited for {lock}. Nothing was changed."),
        ),
    };
    diagnostics.error_at(path, summary, detail);
}

/// An apply that did not come to its end.
pub(super) struct Told<'a> {
    pub config: &'a Value,
    pub intent: &'a Intent,
    pub database: &'a dyn Database,
    pub shell: &'a Shell,
    pub ledger: &'a Ledger,
    /// Whether that is how it is now.
    pub seen: bool,
}

impl Told<'_> {
    fn dialect(&self) -> Dialect {
        model::dialect(self.config).unwrap_or(Dialect::Postgres)
    }

    pub fn failure(&self, failure: &Failure, diagnostics: &mut Diagnostics) {
        let name = &self.intent.name;
        match failure {
            Failure::Database(error) => unreachable(self.config, error, &self.database.summary(), diagnostics),
            Failure::Locked { holder, waited } => {
                let holder = holder.as_deref().unwrap_or("a session that this user can't see");
                let detail = format!(
                    "Migrations of one database run one after the other, and {holder} has the lock; it was waited for {} s. Nothing was changed. Apply again once that one has ended.",
                    waited.as_secs()
                );
                diagnostics.error_at(Path::attribute("database"), "Another migration is under way", detail);
            }
            Failure::Refused(refusal) => refused(self.config, self.intent, self.ledger, refusal, diagnostics),
            Failure::Barred(barred_by) => match &self.intent.guard {
                Some(guard) => barred(barred_by, guard, self.shell, diagnostics),
                None => diagnostics.error("contract was barred", format!("{barred_by:?}")),
            },
            Failure::Statement(broken) => self.broken(broken, diagnostics),
            Failure::Interrupted => {
                let detail = format!("The migration {name} was stopped between two phases.{}", self.so_far());
                diagnostics.error("The run was interrupted", detail);
            }
        }
    }

    fn is_concurrent(&self, broken: &Broken) -> bool {
        let statement =
            self.intent.scripts.get(&broken.phase).and_then(|script| script.statements.get(broken.number - 1));
        statement.is_some_and(|statement| statement.is_concurrent(self.dialect()))
    }

    fn so_far(&self) -> String {
        if !self.seen {
            return " What has run can't be seen now: plan again once the database answers.".to_owned();
        }
        match highest(self.ledger) {
            None => " No phase has run.".to_owned(),
            Some(phase) => format!(" {phase} has run, and what comes after it has not."),
        }
    }

    fn broken(&self, broken: &Broken, diagnostics: &mut Diagnostics) {
        let Broken { phase, line, number, of, error, tries, left } = broken;
        let source = text(self.config, phase.name());
        let tried = if *tries > 1 { format!(", tried {tries} times") } else { String::new() };
        let left = match left {
            Left::Nothing => format!("Nothing of {phase} is left in the database.{}", self.so_far()),
            Left::Half if self.is_concurrent(broken) => "An index that was built concurrently and gave up is there, and INVALID (\\d in psql shows it). DROP INDEX CONCURRENTLY it and set resolve = \"reverted\".".to_owned(),
            Left::Half => format!(
                "The statements before it stay, since {} can't undo them: {phase} is half done, and nothing runs until resolve says what became of it. Plan again to be told what to look at.",
                if self.dialect() == Dialect::Mysql { "MySQL" } else { "a script that is no transaction" }
            ),
            Left::Batches { batches, rows } => format!(
                "{batches} batches changed {rows} rows, which stay; the next apply goes on from there."
            ),
            Left::Unknown => "The connection ended while it was made final. Plan again: the ledger in the database tells whether it has happened.".to_owned(),
        };
        let todo = match error.fault {
            Fault::Busy => {
                " Others held what it needs for longer than lock_timeout: see who does, try again at a quieter time, or raise lock_timeout (all others wait so long behind it)."
            }
            Fault::TooLong => " Raise statement_timeout or timeouts if it may take longer.",
            Fault::Denied => " The user of the URL needs this right.",
            Fault::Interrupted => " The run was stopped.",
            _ => "",
        };
        let detail = format!(
            "Line {line} of {phase} (statement {number} of {of}){tried}: {error}.\n\n{}\n\n{left}{todo}\n\nThe database: {}.",
            excerpt(source, *line),
            self.database.summary()
        );
        let summary = format!("Failed to {phase} {}", self.intent.name);
        diagnostics.error_at(Path::attribute(phase.name()), summary, detail);
    }
}
