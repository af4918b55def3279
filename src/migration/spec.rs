//! A migration in the shape of its configuration: every argument of it, declared once.

use std::path::PathBuf;
use std::time::Duration;

use super::{Phase, Resolve};
use crate::argument::{Arguments, Choice, rules};

/// The whole migration.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Migration {
    /// The name of the migration in the table `bluegreen_migrations`: 1 to 190 characters. It can't be changed: under another
    /// name its phases would run again.
    #[argument(required, text = name, change = Apart)]
    pub name: String,
    /// The region of the record that `guard` names, and of the database for `iam_auth`. If omitted, it is that of the provider.
    #[argument(computed, text = rules::region)]
    pub region: Option<String>,
    /// The database.
    #[argument(required)]
    pub database: Database,
    /// SQL that adds what the next release needs. A phase can have several statements, as `psql` and `mysql` take them, but
    /// none that begins or ends a transaction: where the database can, a phase is one.
    pub expand: Option<String>,
    /// SQL that copies existing data into what `expand` added.
    pub backfill: Option<String>,
    /// SQL that removes what no release needs anymore. It should have a `guard`.
    pub contract: Option<String>,
    /// Whether `backfill` is repeated, each time in a transaction of its own, until it changes no row. Its statement has to
    /// limit itself, and to skip rows that it has changed and rows that have nothing to copy. An interrupted run is continued.
    #[argument(default = false)]
    pub batched: bool,
    /// The phase up to which the migration runs, one that has SQL here. Only forward.
    #[argument(required)]
    pub phase: Phase,
    /// The condition for `contract`. It is evaluated in the plan and again right before the phase. While `contract` runs, no
    /// rollout of that record can begin.
    pub guard: Option<Guard>,
    /// How a phase that died halfway, and that the database can't undo, was settled: `applied` if all of it is in place
    /// (finished by hand if need be), `reverted` if nothing of it is left, so that it runs again. Apply it alone, with `phase` at
    /// that phase, then remove it: while it is set without need, no phase begins.
    pub resolve: Option<Resolve>,
    /// How gentle it is.
    #[argument(flatten)]
    pub pace: Pace,
    /// How long operations may take.
    #[argument(change = Aside)]
    pub timeouts: Option<Timeouts>,
}

/// How gentle a migration is to those who use the database meanwhile.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace, default)]
pub struct Pace {
    /// Time that a statement may wait for locks. All other users of the table wait behind it meanwhile. Then it gives way and
    /// tries again, eight times in all.
    #[argument(default = "2s", lasting = "1s"..="1m")]
    pub lock_timeout: Duration,
    /// Time for a statement of `expand` or `contract`, and for a batch. Indexes that are built `CONCURRENTLY`, and a backfill
    /// that is not batched, have the time of the whole operation.
    #[argument(default = "1m", lasting = "1s"..="168h")]
    pub statement_timeout: Duration,
    /// Time from one batch to the next.
    #[argument(default = "100ms", lasting = "0s"..="1m")]
    pub pause: Duration,
}

/// Where it runs.
#[derive(Clone, Debug, Default, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Database {
    /// The URL, `postgres://user:password@host:5432/database` or `mysql://…`, with the parameters `sslmode`, `sslrootcert` (for
    /// MySQL `ssl-mode`, `ssl-ca`) and `connect_timeout`. It is part of the state; `url_wo` is not. Exactly one of `url` and
    /// `url_wo` is required.
    #[argument(sensitive)]
    pub url: Option<String>,
    /// The URL as a write-only argument, which is neither in the plan nor in the state. It needs Terraform 1.11 or later. A refresh can't
    /// use it; plans do. Exactly one of `url` and `url_wo` is required.
    #[argument(sensitive, write_only)]
    pub url_wo: Option<String>,
    /// How the connection is encrypted.
    pub tls: Option<Tls>,
    /// Whether the password is a token that is made from the credentials of the provider, as RDS and Aurora accept it
    /// (`rds-db:connect`). The URL then has no password. Whoever receives a token can use it, so the connection is always
    /// `verify-full`, unless `tls.mode` is `require` or `verify-ca`.
    #[argument(default = false)]
    pub iam_auth: bool,
}

/// How the connection is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Tls {
    /// The TLS mode, instead of the `sslmode` of the URL. `require` encrypts without asking who answers. To another machine
    /// `prefer` is `require`: nothing is sent in the clear.
    #[argument(
        default_is = "the `sslmode` of the URL, or else to `verify-full`, and to `prefer` for this machine (a socket, `localhost`, a loopback address) where no authorities are named"
    )]
    pub mode: Option<TlsMode>,
    /// A PEM file with the certificate authorities to trust, such as that of RDS; `~` is the home folder.
    pub ca_bundle: Option<PathBuf>,
}

/// How a connection is encrypted, from nothing to everything checked; the names are libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Choice)]
#[choice(kebab)]
pub enum TlsMode {
    /// Not.
    Disable,
    /// If the server can; certificates are not checked. To another machine it is [`TlsMode::Require`]: whoever answers would
    /// only have to say that it can't, to be sent the password in the clear.
    Prefer,
    /// Always; certificates are not checked.
    Require,
    /// Always, with a certificate of a trusted authority.
    VerifyCa,
    /// Always, with a certificate of a trusted authority for this host.
    VerifyFull,
}

/// What must hold before a contract.
#[derive(Clone, Debug, PartialEq, Eq, Arguments)]
#[arguments(change = InPlace)]
pub struct Guard {
    /// The record: the `parameter` of the switch.
    #[argument(required, text = rules::parameter)]
    pub parameter: String,
    /// The color that must be live: the one with the new release.
    #[argument(required)]
    pub live: String,
    /// Time for which that color must have been live, such as `24h`.
    #[argument(default = "0s")]
    pub stable_for: Duration,
}

/// How long operations may take.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = Aside, default)]
pub struct Timeouts {
    /// Time for a create.
    #[argument(default = "1h", lasting = "1s"..="168h")]
    pub create: Duration,
    /// Time for an update.
    #[argument(default = "1h", lasting = "1s"..="168h")]
    pub update: Duration,
}

fn name(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("must not contain a control character, such as a line break".to_owned());
    }
    // What MySQL's indexes hold of four-byte characters.
    let fits = (1..=190).contains(&text.chars().count());
    if fits { Ok(()) } else { Err("must have 1 to 190 characters".to_owned()) }
}
