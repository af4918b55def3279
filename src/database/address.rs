//! Where a database is and how to get there: its URL, as drivers of all languages take it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{CONNECT_LIMIT, in_time, mysql, postgres};
use crate::migration::Dialect;
use crate::run::database::{Database, DatabaseError, Session};

/// Parameters that the driver knows.
const POSTGRES: [&str; 10] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
    "host",
    "port",
];
const MYSQL: [&str; 8] = ["sslmode", "ssl-mode", "sslca", "ssl-ca", "charset", "collation", "socket", "timezone"];
/// Parameters of pools and other drivers, which mean nothing for one connection.
const IGNORED: [&str; 14] = [
    "channel_binding",
    "connection_limit",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "max_connections",
    "parseTime",
    "pgbouncer",
    "pool_timeout",
    "statement_cache_size",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// How a connection is encrypted, from nothing to everything checked; the names are libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Not.
    Disable,
    /// If the server can; certificates are not checked.
    Prefer,
    /// Always; certificates are not checked.
    Require,
    /// Always, with a certificate of a trusted authority.
    VerifyCa,
    /// Always, with a certificate of a trusted authority for this host.
    VerifyFull,
}

impl TlsMode {
    /// The names in order.
    pub const NAMES: [(&'static str, TlsMode); 5] = [
        ("disable", TlsMode::Disable),
        ("prefer", TlsMode::Prefer),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];

    /// The mode of this name.
    pub fn parse(name: &str) -> Option<TlsMode> {
        TlsMode::NAMES.into_iter().find(|(own, _)| *own == name).map(|(_, mode)| mode)
    }
}

/// What is wished beyond the URL.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The mode, instead of the URL's.
    pub mode: Option<TlsMode>,
    /// A PEM file with the authorities to trust, instead of the URL's and the system's.
    pub ca_bundle: Option<PathBuf>,
}

/// A database's address with what it takes to be let in. What it prints holds no password.
#[derive(Clone)]
pub struct Address {
    pub(super) options: Options,
    limit: Duration,
}

#[derive(Clone)]
pub(super) enum Options {
    Postgres(Box<PgConnectOptions>),
    Mysql(Box<MySqlConnectOptions>),
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it that could be secret.
    pub fn parse(url: &str, tls: &Tls) -> Result<Address, String> {
        let dialect = Dialect::of_url(url)
            .ok_or("it must begin with postgres://, postgresql://, mysql:// or mariadb://".to_owned())?;
        let mut parsed = Url::parse(url).map_err(|error| {
            format!(
                "not a URL: {error}. Special characters in a user name or password are written as %40 for @ and so on"
            )
        })?;
        // What would belong to a password is not to be taken for a path, or told in an error.
        let strays = |part: &str| part.contains('@');
        if strays(parsed.path()) || parsed.query().is_some_and(strays) || parsed.fragment().is_some() {
            return Err("special characters in a user name or password are written as %3F for ?, %2F for /, %23 for #"
                .to_owned());
        }
        if !parsed.has_host() && !parsed.query_pairs().any(|(key, _)| key == "host" || key == "socket") {
            return Err("the URL has no host".to_owned());
        }
        let limit = tidy(&mut parsed, dialect)?;
        let asked = parsed.query_pairs().any(|(key, _)| matches!(key.as_ref(), "sslmode" | "ssl-mode"));
        let trusts = tls.ca_bundle.is_some()
            || parsed
                .query_pairs()
                .any(|(key, _)| matches!(key.as_ref(), "sslrootcert" | "ssl-root-cert" | "sslca" | "ssl-ca"));
        // Whoever names authorities wants them asked.
        let mode = tls.mode.or((trusts && !asked).then_some(TlsMode::VerifyFull));
        // The driver says what is wrong with a parameter, and nothing else of the URL.
        let wrong = |error: sqlx::Error| super::words_of(&error);
        let options = match dialect {
            Dialect::Postgres => {
                let options = PgConnectOptions::from_str(parsed.as_str()).map_err(wrong)?.disable_statement_logging();
                let options = mode.map_or(options.clone(), |mode| options.ssl_mode(postgres_mode(mode)));
                let ca = tls.ca_bundle.as_ref();
                Options::Postgres(Box::new(ca.map_or(options.clone(), |file| options.ssl_root_cert(file))))
            }
            Dialect::Mysql => {
                let options =
                    MySqlConnectOptions::from_str(parsed.as_str()).map_err(wrong)?.disable_statement_logging();
                let options = mode.map_or(options.clone(), |mode| options.ssl_mode(mysql_mode(mode)));
                let ca = tls.ca_bundle.as_ref();
                Options::Mysql(Box::new(ca.map_or(options.clone(), |file| options.ssl_ca(file))))
            }
        };
        Ok(Address { options, limit })
    }

    /// The dialect that is spoken there.
    pub fn dialect(&self) -> Dialect {
        match self.options {
            Options::Postgres(_) => Dialect::Postgres,
            Options::Mysql(_) => Dialect::Mysql,
        }
    }

    /// Host, port and user, for a token that lets this user in.
    pub fn endpoint(&self) -> (String, u16, String) {
        match &self.options {
            Options::Postgres(options) => {
                (options.get_host().to_owned(), options.get_port(), options.get_username().to_owned())
            }
            Options::Mysql(options) => {
                (options.get_host().to_owned(), options.get_port(), options.get_username().to_owned())
            }
        }
    }

    /// The same with a token for a password. A token is sent as it is, so never without encryption.
    #[must_use]
    pub fn with_token(self, token: &str) -> Address {
        let options = match self.options {
            Options::Postgres(options) => {
                let options = options.password(token);
                let bare = matches!(options.get_ssl_mode(), PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer);
                Options::Postgres(Box::new(if bare { options.ssl_mode(PgSslMode::Require) } else { options }))
            }
            Options::Mysql(options) => {
                let options = options.password(token).enable_cleartext_plugin(true);
                let bare = matches!(options.get_ssl_mode(), MySqlSslMode::Disabled | MySqlSslMode::Preferred);
                Options::Mysql(Box::new(if bare { options.ssl_mode(MySqlSslMode::Required) } else { options }))
            }
        };
        Address { options, limit: self.limit }
    }
}

/// Takes out what the driver does not know; how long connecting may take.
fn tidy(url: &mut Url, dialect: Dialect) -> Result<Duration, String> {
    let known: &[&str] = match dialect {
        Dialect::Postgres => &POSTGRES,
        Dialect::Mysql => &MYSQL,
    };
    let mut limit = CONNECT_LIMIT;
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in url.query_pairs() {
        if matches!(key.as_ref(), "connect_timeout" | "connectTimeout") {
            let seconds = value.parse().ok().filter(|seconds| (1..=300).contains(seconds));
            limit = Duration::from_secs(seconds.ok_or(format!("{key} must be 1 to 300 seconds"))?);
        } else if known.contains(&key.as_ref()) {
            kept.insert(key.into_owned(), value.into_owned());
        } else if !IGNORED.contains(&key.as_ref()) {
            return Err(format!("the URL's parameter {key:?} is not known; there are {}", known.join(", ")));
        }
    }
    if dialect == Dialect::Mysql
        && let Some(mode) = kept.remove("sslmode").or_else(|| kept.remove("ssl-mode"))
    {
        // MySQL has names of its own; libpq's are understood as well.
        let mode = TlsMode::parse(&mode).map_or(mode, |mode| mysql_name(mode).to_owned());
        kept.insert("ssl-mode".to_owned(), mode);
    }
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    Ok(limit)
}

fn mysql_name(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "DISABLED",
        TlsMode::Prefer => "PREFERRED",
        TlsMode::Require => "REQUIRED",
        TlsMode::VerifyCa => "VERIFY_CA",
        TlsMode::VerifyFull => "VERIFY_IDENTITY",
    }
}

fn mysql_mode(mode: TlsMode) -> MySqlSslMode {
    match mode {
        TlsMode::Disable => MySqlSslMode::Disabled,
        TlsMode::Prefer => MySqlSslMode::Preferred,
        TlsMode::Require => MySqlSslMode::Required,
        TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
        TlsMode::VerifyFull => MySqlSslMode::VerifyIdentity,
    }
}

fn postgres_mode(mode: TlsMode) -> PgSslMode {
    match mode {
        TlsMode::Disable => PgSslMode::Disable,
        TlsMode::Prefer => PgSslMode::Prefer,
        TlsMode::Require => PgSslMode::Require,
        TlsMode::VerifyCa => PgSslMode::VerifyCa,
        TlsMode::VerifyFull => PgSslMode::VerifyFull,
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

#[async_trait]
impl Database for Address {
    async fn open(&self, who: &str) -> Result<Box<dyn Session>, DatabaseError> {
        match &self.options {
            Options::Postgres(options) => in_time(self.limit, postgres::open(options, who)).await,
            Options::Mysql(options) => in_time(self.limit, mysql::open(options)).await,
        }
    }

    fn words(&self) -> String {
        let (host, port, user) = self.endpoint();
        let (kind, database) = match &self.options {
            Options::Postgres(options) => ("PostgreSQL", options.get_database()),
            Options::Mysql(options) => ("MySQL", options.get_database()),
        };
        format!("{kind} at {host}:{port}, database {}, user {user}", database.unwrap_or(&user))
    }
}
