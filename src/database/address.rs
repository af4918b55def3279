//! Where a database is and how to get there: its URL, as drivers of all languages take it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{CONNECT_LIMIT, in_time, mysql, postgres};
use crate::migration::Dialect;
use crate::migration::spec::{Tls, TlsMode};
use crate::run::migration::ports::{Database, DatabaseError, Session};
use crate::{home, variables};

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

/// The mode of this name in a URL: libpq's names and MySQL's.
fn mode_of_url(name: &str) -> Option<TlsMode> {
    let of_mysql = TlsMode::NAMES.iter().filter_map(|own| TlsMode::parse(own));
    let of_mysql = of_mysql.into_iter().find(|mode| name.eq_ignore_ascii_case(mysql_name(*mode)));
    let allow = (name == "allow").then_some(TlsMode::Prefer);
    TlsMode::parse(name).or(of_mysql).or(allow)
}

/// A database's address with what it takes to be let in. What it prints holds no password.
#[derive(Clone)]
pub struct Address {
    pub(super) options: Options,
    limit: Duration,
    /// The mode that was asked for beside the URL.
    mode: Option<TlsMode>,
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
        if let Some(name) = variables::obeyed() {
            return Err(format!(
                "the variable {name} in Terraform's environment would change where it leads: unset it"
            ));
        }
        if parsed.username().is_empty() {
            return Err("the URL names no user".to_owned());
        }
        let limit = tidy(&mut parsed, dialect)?;
        let mode = mode(&parsed, tls)?;
        let options = match dialect {
            Dialect::Postgres => Options::Postgres(Box::new(postgres_options(&parsed, mode, tls)?)),
            Dialect::Mysql => Options::Mysql(Box::new(mysql_options(&parsed, mode, tls)?)),
        };
        Ok(Address { options, limit, mode: tls.mode })
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

    /// The same with a token for a password. Whoever is sent a token has it, so it is sent to nobody but the server that the
    /// URL names, unless the configuration itself asks for less.
    #[must_use]
    pub fn with_token(self, token: &str) -> Address {
        let mode = match self.mode {
            Some(mode @ (TlsMode::Require | TlsMode::VerifyCa)) => mode,
            _ => TlsMode::VerifyFull,
        };
        let options = match self.options {
            Options::Postgres(options) => {
                Options::Postgres(Box::new(options.password(token).ssl_mode(postgres_mode(mode))))
            }
            Options::Mysql(options) => {
                let options = options.password(token).enable_cleartext_plugin(true);
                Options::Mysql(Box::new(options.ssl_mode(mysql_mode(mode))))
            }
        };
        Address { options, ..self }
    }
}

/// How the connection is encrypted: as it is asked for, or else so that nobody but the server named can answer.
fn mode(url: &Url, tls: &Tls) -> Result<TlsMode, String> {
    let trusts =
        tls.ca_bundle.is_some() || parameter(url, &["sslrootcert", "ssl-root-cert", "sslca", "ssl-ca"]).is_some();
    let of_url = match parameter(url, &["sslmode", "ssl-mode"]) {
        Some(name) => Some(mode_of_url(&name).ok_or_else(|| {
            format!("there is no sslmode {name:?}; there are disable, prefer, require, verify-ca and verify-full")
        })?),
        None => None,
    };
    // As libpq has it: who names authorities wants them asked.
    let of_url = of_url.map(|mode| if mode == TlsMode::Require && trusts { TlsMode::VerifyCa } else { mode });
    Ok(match tls.mode.or(of_url) {
        Some(TlsMode::Prefer) if !is_near(url) => TlsMode::Require,
        Some(mode) => mode,
        None if is_near(url) && !trusts => TlsMode::Prefer,
        None => TlsMode::VerifyFull,
    })
}

/// Whether a server is on this machine: behind a socket or a loopback address.
fn is_near(url: &Url) -> bool {
    let named = parameter(url, &["host", "socket"]);
    let host = named.as_deref().filter(|host| !host.is_empty()).or(url.host_str()).unwrap_or_default();
    let host = host.replace("%2F", "/").replace("%2f", "/");
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

/// All of it as it is configured: what is left open, the driver would look up elsewhere.
fn postgres_options(url: &Url, mode: TlsMode, tls: &Tls) -> Result<PgConnectOptions, String> {
    // The driver says what is wrong with a parameter, and nothing else of the URL.
    let options = PgConnectOptions::from_str(url.as_str()).map_err(|error| super::words_of(&error))?;
    let mut options = options.disable_statement_logging().ssl_mode(postgres_mode(mode));
    if url.password().is_none() {
        options = options.password("");
    }
    if url.port().is_none() && parameter(url, &["port"]).is_none() {
        options = options.port(5432);
    }
    if options.get_database().is_none() {
        let user = options.get_username().to_owned();
        options = options.database(&user);
    }
    let ca = ca_bundle(url, tls, &["sslrootcert", "ssl-root-cert"]);
    Ok(ca.map_or(options.clone(), |file| options.ssl_root_cert(file)))
}

fn mysql_options(url: &Url, mode: TlsMode, tls: &Tls) -> Result<MySqlConnectOptions, String> {
    let options = MySqlConnectOptions::from_str(url.as_str()).map_err(|error| super::words_of(&error))?;
    let options = options.disable_statement_logging().ssl_mode(mysql_mode(mode));
    let ca = ca_bundle(url, tls, &["sslca", "ssl-ca"]);
    Ok(ca.map_or(options.clone(), |file| options.ssl_ca(file)))
}

/// The file with the authorities to trust, as it is asked for or as the URL has it.
fn ca_bundle(url: &Url, tls: &Tls, names: &[&str]) -> Option<String> {
    let asked = tls.ca_bundle.as_ref().map(|file| file.to_string_lossy().into_owned());
    asked.or_else(|| parameter(url, names)).map(|file| home::expand(&file))
}

/// The first parameter of a URL that has one of these names.
fn parameter(url: &Url, names: &[&str]) -> Option<String> {
    url.query_pairs().find(|(key, _)| names.contains(&key.as_ref())).map(|(_, value)| value.into_owned())
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
        let mode = mode_of_url(&mode).map_or(mode, |mode| mysql_name(mode).to_owned());
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
        f.write_str(&self.summary())
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

    fn summary(&self) -> String {
        let (host, port, user) = self.endpoint();
        let (kind, database) = match &self.options {
            Options::Postgres(options) => ("PostgreSQL", options.get_database()),
            Options::Mysql(options) => ("MySQL", options.get_database()),
        };
        format!("{kind} at {host}:{port}, database {}, user {user}", database.unwrap_or(&user))
    }
}
