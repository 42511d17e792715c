//! Reading container logs: CRI lines, over rotated files, followed as they grow.
//!
//! `reader.rs` is the whole of it without waiting; here is the task that waits: for the kernel to say that something in
//! the log's directory changed, for the container's end, for the receiver to take what was read.

mod reader;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::base::{Uid, UnixMillis};
use reader::{Reader, Step};

/// Pieces read ahead of the receiver.
const PIECES_MAX: usize = 4;
/// How often to look where the kernel does not tell: the directory is not there yet, or no watch can be had.
const POLL: Duration = Duration::from_millis(100);
/// How often to look all the same.
const POLL_WATCHED: Duration = Duration::from_secs(2);

/// `logs/<namespace>_<name>_<uid>/`
pub fn pod_dir(data_dir: &Path, namespace: &str, name: &str, uid: &Uid) -> PathBuf {
    data_dir.join("logs").join(format!("{namespace}_{name}_{uid}"))
}
/// `<container>/<attempt>.log`; rotated ones are `<attempt>.log.1` (newest) and up.
pub fn file(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join(container).join(format!("{attempt}.log"))
}

/// As kubectl asks.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub follow: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub since: Option<UnixMillis>,
    pub timestamps: bool,
}

/// Reads the log of one attempt as plain text pieces. With `follow`, waits for more until `ended` resolves (container gone)
/// and everything written has been sent, or the receiver is dropped; a log that is not there yet is waited for, too.
/// Without, a log that is not there is an error.
///
/// The task behind it ends with the receiver.
pub fn read(
    log: PathBuf,
    options: Options,
    ended: impl Future<Output = ()> + Send + 'static,
) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let closed = sender.clone();
        let work = run(log, options, ended, &sender);
        tokio::select! {
            () = closed.closed() => {}
            result = work => if let Err(error) = result {
                let _ = sender.send(Err(error)).await;
            },
        }
    });
    receiver
}

async fn run(
    log: PathBuf,
    options: Options,
    ended: impl Future<Output = ()>,
    sender: &mpsc::Sender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    tokio::pin!(ended);
    let follow = options.follow;
    let mut over = false;
    let mut watch = None;
    let mut reader = Reader::new(log.clone(), options);
    loop {
        if follow && watch.is_none() {
            watch = Watch::new(&log).ok();
        }
        // Seen before reading: what was written by then is read.
        over = over || !follow || futures_util::poll!(&mut ended).is_ready();
        let step;
        (reader, step) = tokio::task::spawn_blocking(move || {
            let step = reader.step(over);
            (reader, step)
        })
        .await
        .map_err(io::Error::other)?;
        match step? {
            Step::Text(text) => {
                if sender.send(Ok(text)).await.is_err() {
                    return Ok(());
                }
            }
            Step::Done => return Ok(()),
            Step::Wait => {
                let poll = tokio::time::sleep(if watch.is_some() { POLL_WATCHED } else { POLL });
                tokio::select! {
                    () = &mut ended, if !over => over = true,
                    () = poll => {}
                    () = changed(watch.as_ref()) => {}
                }
            }
        }
    }
}

async fn changed(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Tells when something happens in a log's directory. An inotify descriptor is read like a pipe.
struct Watch(pipe::Receiver);

impl Watch {
    fn new(log: &Path) -> io::Result<Self> {
        use inotify::{CreateFlags, WatchFlags};
        let dir = log.parent().ok_or(io::ErrorKind::NotFound)?;
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, dir, events)?;
        pipe::Receiver::from_owned_fd_unchecked(fd).map(Self)
    }

    /// One wake for all that happened; what it was does not matter.
    async fn changed(&self) {
        if self.0.readable().await.is_ok() {
            let mut events = [0u8; 4096];
            while self.0.try_read(&mut events).is_ok_and(|read| read > 0) {}
        }
    }
}
