//! The socket that the host is served on, in a folder of its own; and what earlier ones left, of which nothing is removed
//! that could be somebody else's.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The name of the socket in its folder: short, since the whole path is.
const SOCKET: &str = "sock";
/// What an address of a socket holds without the zero at its end: 108 bytes on Linux, 104 elsewhere (unix(7)).
const MAX_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Six bytes in hexadecimal: nobody can guess them beforehand.
const RANDOM_BYTES: usize = 6;

/// A listening socket in a folder that only this user can enter. Both go when this is dropped.
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    folder: Folder,
}

/// A folder made here. It is locked for as long as its process lives, so that another one can tell.
struct Folder {
    path: PathBuf,
    _lock: Option<File>,
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_file(self.path.join(SOCKET)));
        drop(fs::remove_dir(&self.path));
    }
}

impl Socket {
    /// Binds in the folder that the host names, or else in the one for temporary files.
    pub(super) fn bind(name: &str) -> Result<Socket, String> {
        let mut reasons = Vec::new();
        for base in bases()? {
            match Socket::bind_in(&base, name) {
                Ok(socket) => return Ok(socket),
                Err(reason) => reasons.push(format!("in {}: {reason}", base.display())),
            }
        }
        Err(format!(
            "failed to make a socket {}. Set TMPDIR or PLUGIN_UNIX_SOCKET_DIR to a folder with a short path that this user can \
             write to",
            reasons.join("; ")
        ))
    }

    fn bind_in(base: &Path, name: &str) -> Result<Socket, String> {
        let words = |error: io::Error| error.to_string();
        let path = base.join(format!("{}{}", prefix(name), random()?)).join(SOCKET);
        let length = path.as_os_str().len();
        if length > MAX_PATH_BYTES {
            return Err(format!("the path would have {length} bytes, and a socket's has at most {MAX_PATH_BYTES}"));
        }
        if path.to_str().is_none_or(|text| text.contains('|') || text.contains(char::is_control)) {
            return Err("the path holds a | or a control character, which would break the handshake".to_owned());
        }
        let folder = Folder::make(path.parent().unwrap_or(base)).map_err(words)?;
        let listener = UnixListener::bind(&path).map_err(words)?;
        let socket = Socket { listener, path, folder };
        socket.admit().map_err(|reason| format!("it can't be given to those who may use it: {reason}"))?;
        Ok(socket)
    }

    /// For this user, and for the group that the host names.
    fn admit(&self) -> Result<(), String> {
        let words = |error: io::Error| error.to_string();
        let Some(group) = std::env::var("PLUGIN_UNIX_SOCKET_GROUP").ok().filter(|group| !group.is_empty()) else {
            return fs::set_permissions(&self.path, Permissions::from_mode(0o600)).map_err(words);
        };
        let gid = group_id(&group).ok_or_else(|| format!("there is no group {group:?} (PLUGIN_UNIX_SOCKET_GROUP)"))?;
        std::os::unix::fs::chown(&self.folder.path, None, Some(gid)).map_err(words)?;
        std::os::unix::fs::chown(&self.path, None, Some(gid)).map_err(words)?;
        fs::set_permissions(&self.folder.path, Permissions::from_mode(0o750)).map_err(words)?;
        fs::set_permissions(&self.path, Permissions::from_mode(0o660)).map_err(words)
    }

    /// The folder that its own folder is in.
    pub(super) fn base(&self) -> PathBuf {
        self.folder.path.parent().unwrap_or(Path::new("/")).to_owned()
    }
}

impl Folder {
    fn make(path: &Path) -> io::Result<Folder> {
        DirBuilder::new().mode(0o700).create(path)?;
        let mut folder = Folder { path: path.to_owned(), _lock: None };
        // Where locks don't work, nobody takes one as a sign of death either.
        folder._lock = File::open(path).ok().filter(|file| file.try_lock().is_ok());
        Ok(folder)
    }
}

/// Where to try, in order. A folder that the host named is the only one: it may be all that it shares with this process.
fn bases() -> Result<Vec<PathBuf>, String> {
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The host may be in another working directory.
    let absolute = |path: PathBuf| std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()));
    if let Some(named) = given("PLUGIN_UNIX_SOCKET_DIR") {
        return Ok(vec![absolute(named)?]);
    }
    let mut bases = Vec::new();
    if let Some(temporary) = given("TMPDIR") {
        bases.push(absolute(temporary)?);
    }
    let usual = PathBuf::from("/tmp");
    if !bases.contains(&usual) {
        bases.push(usual);
    }
    Ok(bases)
}

fn prefix(name: &str) -> String {
    format!("tf-{name}-")
}

fn random() -> Result<String, String> {
    let mut bytes = [0; RANDOM_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_random(text: &str) -> bool {
    text.len() == 2 * RANDOM_BYTES && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Removes what processes of ours left that were killed: a killed process can't tidy up after itself.
pub(super) fn remove_stale(base: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        if file_name.to_str().and_then(|file| file.strip_prefix(&prefix(name))).is_some_and(is_random) {
            // Whatever speaks against it, it stays.
            drop(remove_if_dead(&entry.path()));
        }
    }
}

/// Removes a folder if it is provably one of these and dead: of this user alone, with nothing in it but the socket, locked
/// by nobody, and nobody listening. Its name alone says nothing, nor does a number of a process: it may be of another
/// namespace.
fn remove_if_dead(path: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    let seen = rustix::fs::fstat(&folder)?;
    let own = rustix::process::geteuid().as_raw();
    if seen.st_uid != own || seen.st_mode & 0o7777 != 0o700 {
        return Ok(());
    }
    let mut inside = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            inside.push(entry.file_name().to_owned());
        }
        if inside.len() > 1 {
            return Ok(());
        }
    }
    // An empty one may be about to get its socket.
    if inside.first().is_none_or(|file| file.to_bytes() != SOCKET.as_bytes()) {
        return Ok(());
    }
    let socket = rustix::fs::statat(&folder, SOCKET, AtFlags::SYMLINK_NOFOLLOW)?;
    if socket.st_uid != own || FileType::from_raw_mode(socket.st_mode) != FileType::Socket {
        return Ok(());
    }
    let folder = File::from(folder);
    if folder.try_lock().is_err() || is_served(&path.join(SOCKET)) {
        return Ok(());
    }
    rustix::fs::unlinkat(&folder, SOCKET, AtFlags::empty())?;
    fs::remove_dir(path)
}

/// Whether somebody listens, as far as it can be known: only a refusal says that nobody does.
fn is_served(path: &Path) -> bool {
    let connect = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
    };
    connect() != Err(rustix::io::Errno::CONNREFUSED)
}

fn group_id(group: &str) -> Option<u32> {
    if let Ok(gid) = group.parse() {
        return Some(gid);
    }
    let table = fs::read_to_string("/etc/group").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder for one test, which goes with everything in it.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Place {
            let path = std::env::temp_dir().join(format!("bluegreen-socket-test-{}", random().unwrap()));
            fs::create_dir(&path).unwrap();
            Place(path)
        }

        /// A folder as a killed process leaves it.
        fn left(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            DirBuilder::new().mode(mode).create(&path).unwrap();
            drop(UnixListener::bind(path.join(SOCKET)).unwrap());
            path
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn what_a_killed_process_left_goes() {
        let place = Place::new();
        let left = place.left("tf-test-0123456789ab", 0o700);
        remove_stale(&place.0, "test");
        assert!(!left.exists());
    }

    #[test]
    fn nothing_goes_that_could_be_somebody_elses() {
        let place = Place::new();
        let names =
            ["tf-test-77", "tf-test--+77", "tf-test-77.backup", "tf-test-0123456789AB", "tf-other-0123456789ab"];
        let mut kept: Vec<PathBuf> = names.iter().map(|name| place.left(name, 0o700)).collect();
        kept.push(place.left("tf-test-000000000001", 0o755));
        let with_more = place.left("tf-test-000000000002", 0o700);
        fs::write(with_more.join("terraform.tfstate"), "{}").unwrap();
        let no_socket = place.0.join("tf-test-000000000003");
        DirBuilder::new().mode(0o700).create(&no_socket).unwrap();
        let empty = place.0.join("tf-test-000000000004");
        DirBuilder::new().mode(0o700).create(&empty).unwrap();
        fs::write(no_socket.join(SOCKET), "a file").unwrap();
        let elsewhere = place.left("elsewhere", 0o700);
        let link = place.0.join("tf-test-000000000005");
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        kept.extend([with_more.join("terraform.tfstate"), no_socket.join(SOCKET), empty, link, elsewhere.join(SOCKET)]);
        remove_stale(&place.0, "test");
        for path in kept {
            assert!(path.symlink_metadata().is_ok(), "{}", path.display());
        }
    }

    #[test]
    fn a_live_one_stays_whether_it_is_locked_or_only_listens() {
        let place = Place::new();
        let socket = Socket::bind_in(&place.0, "test").unwrap();
        let listening = place.0.join("tf-test-0123456789ab");
        DirBuilder::new().mode(0o700).create(&listening).unwrap();
        let listener = UnixListener::bind(listening.join(SOCKET)).unwrap();
        remove_stale(&place.0, "test");
        assert!(socket.path.exists() && listening.join(SOCKET).exists());
        drop(listener);
        let folder = socket.folder.path.clone();
        drop(socket);
        assert!(!folder.exists());
    }

    #[test]
    fn a_long_path_is_refused_in_words_and_nothing_is_left() {
        let place = Place::new();
        let long = place.0.join("x".repeat(100));
        fs::create_dir(&long).unwrap();
        let reason = Socket::bind_in(&long, "test").err().unwrap();
        assert!(reason.contains("at most 10"), "{reason}");
        assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
    }
}
