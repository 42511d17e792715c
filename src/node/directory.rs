//! The data directory: one node's at a time, its owner's alone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::base::key::random;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the data directory {}: {doing} (--data-dir or ENTROOS_DATA_DIR chooses another)", path.display())]
    Io { path: PathBuf, doing: String, source: io::Error },
    #[error(
        "a node runs on {} already{}: stop it first, or choose another directory by --data-dir",
        path.display(), if pid.is_empty() { String::new() } else { format!(" (process {pid})") }
    )]
    Locked { path: PathBuf, pid: String },
    #[error("the token file {} does not hold 64 hexadecimal digits: remove it to get a new token", path.display())]
    Token { path: PathBuf },
}

/// An open data directory, locked while this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory where it is missing, and takes its lock.
    ///
    /// # Errors
    /// [`Error::Locked`] where another node has it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |doing: &str| {
            let doing = doing.to_owned();
            move |source| Error::Io { path: path.to_owned(), doing, source }
        };
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(path).map_err(failed("making it"))?;
        // The parents made along the way are private too; one that was there keeps its mode, the directory itself does not.
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed("making it private"))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed("opening its lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&lock).take(20).read_to_string(&mut pid);
                return Err(Error::Locked { path: path.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(e)) => return Err(failed("locking it")(e)),
        }
        let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(failed("writing its lock"))?;
        private.create(path.join("run")).map_err(failed("making run/"))?;
        let directory = Self { path: path.to_owned(), _lock: lock };
        // Of a process that was killed: nobody listens there now.
        directory.withdraw_address();
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, doing: &str) -> impl FnOnce(io::Error) -> Error {
        let (path, doing) = (self.path.clone(), doing.to_owned());
        move |source| Error::Io { path, doing, source }
    }

    /// The operator's bearer token: 64 hexadecimal digits in `token`, made at the first start.
    ///
    /// # Errors
    /// Where the file cannot be used or holds something else.
    pub fn token(&self) -> Result<String, Error> {
        let path = self.path.join("token");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let token = text.trim();
                let fits = token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit());
                if fits { Ok(token.to_owned()) } else { Err(Error::Token { path }) }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let secret = random::<32>().map_err(self.failed("making a token"))?;
                let token = crate::base::id::hex(&secret);
                self.replace("token", format!("{token}\n").as_bytes(), 0o600)
                    .map_err(self.failed("writing the token"))?;
                Ok(token)
            }
            Err(e) => Err(self.failed("reading the token")(e)),
        }
    }

    /// Writes a file so that a crash leaves the old one or the new one.
    fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let path = self.path.join(name);
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    }

    /// Listens on `run/api.sock`. Any user of the machine may connect where the directory lets them: peer credentials
    /// decide what they may do.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub fn socket(&self) -> Result<UnixListener, Error> {
        let run = self.path.join("run");
        let path = run.join("api.sock");
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("removing an old run/api.sock")(e));
            }
            _ => {}
        }
        // A socket's path has room for 107 bytes; the way through the descriptor is short whatever the directory is called.
        let dir = File::open(&run).map_err(self.failed("opening run/"))?;
        let short = format!("/proc/self/fd/{}/api.sock", dir.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(self.failed("listening on run/api.sock"))?;
        fs::set_permissions(&path, Permissions::from_mode(0o666)).map_err(self.failed("opening run/api.sock"))?;
        Ok(listener)
    }

    /// Tells in `run/api` where the API listens.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn publish_address(&self, addr: SocketAddr) -> Result<(), Error> {
        self.replace("run/api", format!("{addr}\n").as_bytes(), 0o644).map_err(self.failed("writing run/api"))
    }

    /// Nobody listens any more.
    pub fn withdraw_address(&self) {
        for name in ["run/api", "run/api.sock"] {
            let _ = fs::remove_file(self.path.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_nodes_and_private() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than a socket's path may be.
        let path = dir.path().join("d".repeat(120)).join("data");
        let first = Directory::open(&path).unwrap();
        let refused = Directory::open(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let token = first.token().unwrap();
        assert_eq!((token.len(), fs::metadata(path.join("token")).unwrap().permissions().mode() & 0o777), (64, 0o600));
        let _listener = first.socket().unwrap();
        assert!(path.join("run/api.sock").exists());
        drop(first);
        let again = Directory::open(&path).unwrap();
        assert_eq!(again.token().unwrap(), token);
        let _rebound = again.socket().unwrap();
        fs::write(path.join("token"), "short").unwrap();
        assert!(matches!(again.token(), Err(Error::Token { .. })));
    }
}
