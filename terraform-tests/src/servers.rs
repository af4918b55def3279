//! Real database and session servers, each on a port and in a folder of its own, ended with the value.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The password of `app`, which is no secret, but must never be shown all the same.
pub const PASSWORD: &str = "pa55-w0rd-0f-app";

/// How often a server is tried on another port: between finding a free one and using it somebody else may take it.
const TRIES: usize = 5;

/// A server of some kind.
pub struct Server {
    child: Child,
    folder: TempDir,
    kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
    /// Redis.
    Redis,
}

impl Server {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// When it isn't installed or doesn't start.
    pub fn start(kind: Kind) -> anyhow::Result<Server> {
        Server::with(kind, &[])
    }

    /// Starts a server with more options of its own.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn with(kind: Kind, options: &[&str]) -> anyhow::Result<Server> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Server::prepared(kind, |_| Ok(options))
    }

    /// Starts a server that speaks TLS, with a certificate for 127.0.0.1 of an authority of its own: `ca.pem` in its folder.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn with_tls(kind: Kind) -> anyhow::Result<Server> {
        Server::prepared(kind, |folder| {
            let key = rcgen::KeyPair::generate()?;
            let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let authority = parameters.self_signed(&key)?;
            let issuer = rcgen::Issuer::from_params(&parameters, &key);
            let own = rcgen::KeyPair::generate()?;
            let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&own, &issuer)?;
            let user = user_of(kind)?;
            write_for(&folder.join("ca.pem"), &authority.pem(), user)?;
            write_for(&folder.join("server.pem"), &certificate.pem(), user)?;
            write_for(&folder.join("server.key"), &own.serialize_pem(), user)?;
            let (cert, key) = (folder.join("server.pem"), folder.join("server.key"));
            Ok(match kind {
                Kind::Postgres => {
                    let file = |name: &str, path: &Path| ["-c".to_owned(), format!("{name}={}", path.display())];
                    let files = [file("ssl_cert_file", &cert), file("ssl_key_file", &key)].concat();
                    [vec!["-c".to_owned(), "ssl=on".to_owned()], files].concat()
                }
                _ => vec![format!("--ssl-cert={}", cert.display()), format!("--ssl-key={}", key.display())],
            })
        })
    }

    fn prepared(kind: Kind, options: impl FnOnce(&Path) -> anyhow::Result<Vec<String>>) -> anyhow::Result<Server> {
        let folder = tempfile::Builder::new().prefix("bluegreen-server-").tempdir()?;
        if kind == Kind::Postgres {
            init_postgres(folder.path())?;
        }
        if kind == Kind::Mariadb {
            init_mariadb(folder.path())?;
        }
        let options = options(folder.path())?;
        let mut last = String::new();
        for _ in 0..TRIES {
            let address = free_port()?;
            let mut child = launch(kind, folder.path(), address, &options)?;
            let ready = (kind == Kind::Mariadb).then(|| ready_file(folder.path()));
            if answers(&mut child, address, ready.as_deref())? {
                return Ok(Server { child, folder, kind, address });
            }
            drop(child.kill());
            child.wait()?;
            last = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        }
        bail!("{kind:?} does not start:\n{last}")
    }

    /// The URL of the database `app` for its owner of the same name.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.kind == Kind::Postgres { "postgres" } else { "mysql" };
        match self.kind {
            Kind::Redis => format!("redis://{}", self.address),
            Kind::Postgres | Kind::Mariadb => format!("{scheme}://app:{PASSWORD}@{}/app", self.address),
        }
    }

    /// The URL for who may do everything.
    #[must_use]
    pub fn root_url(&self) -> String {
        self.url().replacen("app:", "root:", 1)
    }

    /// A file in its folder that the server can read.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn file(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        write_for(&path, text, user_of(self.kind)?)?;
        Ok(path)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // PostgreSQL's children end only if their parent tells them; the others have none.
        let signal = if self.kind == Kind::Postgres { Signal::QUIT } else { Signal::KILL };
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ended = kill_process(pid, signal);
        }
        drop(self.child.wait());
    }
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A program of a server: on PATH, or where Debian puts it.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    versions.sort();
    folders.extend(versions);
    let found = folders.into_iter().rev().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed: `make setup-servers` installs it"))
}

/// PostgreSQL refuses to run as root; then it runs as the user that its package made.
fn user_of(kind: Kind) -> anyhow::Result<Option<(u32, u32)>> {
    if kind != Kind::Postgres || !rustix::process::getuid().is_root() {
        return Ok(None);
    }
    let id = |flag: &str| -> anyhow::Result<u32> {
        let said = Command::new("id").args([flag, "postgres"]).output()?;
        let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        text.parse().context("there is no user postgres, and PostgreSQL does not run as root")
    };
    Ok(Some((id("-u")?, id("-g")?)))
}

fn write_for(path: &Path, text: &str, user: Option<(u32, u32)>) -> anyhow::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    if let Some((user, group)) = user {
        chown(path, Some(user), Some(group))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let said = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}

fn init_postgres(folder: &Path) -> anyhow::Result<()> {
    let user = user_of(Kind::Postgres)?;
    if let Some((user, group)) = user {
        chown(folder, Some(user), Some(group))?;
    }
    let secret = folder.join("secret");
    write_for(&secret, PASSWORD, user)?;
    let mut initdb = as_user(&program("initdb")?, user);
    initdb.arg("--pgdata").arg(folder.join("data")).args(["--username=root", "--auth=scram-sha-256", "--no-sync"]);
    initdb
        .args(["--encoding=UTF8", "--no-locale", "--no-instructions"])
        .arg("--pwfile")
        .arg(&secret)
        .current_dir(folder);
    run(&mut initdb)?;
    // In single-user mode there is nobody to wait for.
    let sql = format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}';\nCREATE DATABASE app OWNER app;\n");
    let mut single = as_user(&program("postgres")?, user);
    single.args(["--single", "-j", "-F", "-D"]).arg(folder.join("data")).arg("postgres").current_dir(folder);
    let mut child = single.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    // With -j a statement ends where a semicolon is followed by an empty line.
    let lines = sql.replace(";\n", ";\n\n");
    std::io::Write::write_all(&mut child.stdin.take().context("no standard input")?, lines.as_bytes())?;
    let said = child.wait_with_output()?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

fn init_mariadb(folder: &Path) -> anyhow::Result<()> {
    let mut init = Command::new(program("mariadb-install-db").or_else(|_| program("mysql_install_db"))?);
    init.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    init.args(["--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]);
    init.arg(format!("--datadir={}", folder.join("data").display()));
    init.arg(format!("--tmpdir={}", scratch(folder)?.display()));
    run(&mut init)?;
    let sql = format!(
        "ALTER USER root@localhost IDENTIFIED BY '{PASSWORD}';\nCREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\nCREATE DATABASE app;\n\
         CREATE USER app@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON app.* TO app@'127.0.0.1';\n\
         SELECT 1 INTO OUTFILE '{}';\n",
        ready_file(folder).display()
    );
    write_for(&folder.join("init.sql"), &sql, None)
}

/// Where MariaDB puts temporary tables: one that starts removes what it finds there, also that of another one.
fn scratch(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("tmp");
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn launch(kind: Kind, folder: &Path, address: SocketAddr, options: &[String]) -> anyhow::Result<Child> {
    let log = fs::File::create(folder.join("log"))?;
    let port = address.port();
    let data = folder.join("data");
    let mut command = match kind {
        Kind::Postgres => {
            let mut command = as_user(&program("postgres")?, user_of(kind)?);
            command.arg("-D").arg(&data).args(["-c", "listen_addresses=127.0.0.1", "-c"]).arg(format!("port={port}"));
            command.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=60"]);
            command
        }
        Kind::Mariadb => {
            let mut command = Command::new(program("mariadbd").or_else(|_| program("mysqld"))?);
            command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
            command.arg(format!("--datadir={}", data.display())).arg(format!("--port={port}"));
            command.arg(format!("--socket={}", folder.join("socket").display()));
            command.arg(format!("--tmpdir={}", scratch(folder)?.display()));
            command.arg(format!("--init-file={}", folder.join("init.sql").display()));
            command.args(["--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]);
            if rustix::process::getuid().is_root() {
                command.arg("--user=root");
            }
            command
        }
        Kind::Redis => {
            let mut command = Command::new(program("redis-server")?);
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]).arg(port.to_string());
            command.arg("--dir").arg(folder);
            command
        }
    };
    command.args(options).current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot start {kind:?}"))
}

/// MariaDB listens before it has made its users; then it writes this file.
fn ready_file(folder: &Path) -> PathBuf {
    folder.join("ready")
}

/// Whether it listens; not if it ended.
fn answers(child: &mut Child, address: SocketAddr, ready: Option<&Path>) -> anyhow::Result<bool> {
    for _ in 0..600 {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        if ready.is_none_or(Path::exists) && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(false)
}
