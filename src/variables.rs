//! The environment of this process: what it was given, without what a library would obey behind the configuration's back.
//!
//! The driver of PostgreSQL takes host, user, password, options and certificates from variables of libpq's, wherever a URL
//! is silent. A migration goes where its configuration says, so the process begins anew without them; commands that ask
//! for them still get them.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// What the driver reads (sqlx's `PgConnectOptions`).
const OF_DRIVERS: [&str; 13] = [
    "PGAPPNAME",
    "PGDATABASE",
    "PGHOST",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGUSER",
];
/// Carries what was set aside to the process without it.
const SET_ASIDE: &str = "BLUEGREEN_SET_ASIDE";

/// Begins the process anew, by the same number, if a variable is set that a library would obey. Returns if none is, or if
/// it can't be done.
pub fn set_aside() {
    if std::env::var_os(SET_ASIDE).is_some() || obeyed().is_none() {
        return;
    }
    let found: BTreeMap<String, String> = all().into_iter().filter(|(name, _)| is_of_driver(name)).collect();
    let Ok(found) = serde_json::to_string(&found) else { return };
    // What the path leads to now may be another file by now; this link leads to the one that runs.
    let own = Some("/proc/self/exe".into()).filter(|path: &std::path::PathBuf| path.exists());
    let Some(program) = own.or_else(|| std::env::current_exe().ok()) else { return };
    let mut command = Command::new(program);
    let mut arguments = std::env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(SET_ASIDE, found);
    for name in OF_DRIVERS {
        command.env_remove(name);
    }
    // It only returns when it failed.
    let error = command.exec();
    tracing::warn!(%error, "the variables of libpq could not be set aside");
}

/// A variable that a library would obey and that could not be set aside.
pub fn obeyed() -> Option<&'static str> {
    OF_DRIVERS.into_iter().find(|name| std::env::var_os(name).is_some())
}

/// All variables that are text, those that were set aside too.
pub fn all() -> BTreeMap<String, String> {
    let given =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut variables: BTreeMap<String, String> = given.collect();
    let aside =
        variables.remove(SET_ASIDE).and_then(|text| serde_json::from_str::<BTreeMap<String, String>>(&text).ok());
    // Nothing but those: the variable is another program's to set as well.
    variables.extend(aside.into_iter().flatten().filter(|(name, _)| is_of_driver(name)));
    variables
}

fn is_of_driver(name: &str) -> bool {
    OF_DRIVERS.contains(&name)
}

/// What Terraform and go-plugin tell the provider is never for its children.
const NOT_INHERITED: [&str; 4] =
    ["TF_PLUGIN_MAGIC_COOKIE", "PLUGIN_CLIENT_CERT", "PLUGIN_PROTOCOL_VERSIONS", "TF_REATTACH_PROVIDERS"];

/// Whether a variable of this process is for a command that asks for these; a `*` at the end of a name stands for anything.
pub fn is_asked_for(name: &str, asked: &[impl AsRef<str>]) -> bool {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    asked.iter().any(|pattern| fits(pattern.as_ref())) && !NOT_INHERITED.contains(&name)
}
