//! Follows each shim's records, and notices when a shim dies.

use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::protocol::{self, Reply, Request};
use super::sandbox::Sandbox;
use super::{decode, link};

/// A shim that lives and yet hangs up is asked again after this long.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// A sandbox to follow, and a connection to its shim.
pub struct Watcher {
    pub sandbox: Sandbox,
    pub connection: StdStream,
}

/// Follows every sandbox that comes in.
pub async fn run(mut incoming: mpsc::Receiver<Watcher>, stop: CancellationToken) {
    let mut followers = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = followers.join_next(), if !followers.is_empty() => {}
            watcher = incoming.recv() => match watcher {
                Some(watcher) => { followers.spawn(follow(watcher)); }
                // Every handle is gone: nobody asks any more. The scope goes on without us.
                None => return stop.cancelled().await,
            },
        }
    }
}

async fn follow(Watcher { sandbox, connection }: Watcher) {
    let mut connection = Some(connection);
    while let Some(stream) = connection.take() {
        if let Err(error) = read_records(&sandbox, stream).await {
            tracing::debug!(uid = %sandbox.spec().uid, %error, "connection to the shim ended");
        }
        if sandbox.is_leaving() {
            return;
        }
        let again = sandbox.clone();
        let settled = tokio::task::spawn_blocking(move || {
            if let Some(stream) = again.reconnect() {
                return Some(stream);
            }
            let _lock = link::lock(again.pod_dir());
            if !again.is_leaving()
                && let Err(error) = again.settle()
            {
                tracing::warn!(uid = %again.spec().uid, %error, "what a dead sandbox left cannot be settled");
                again.bury(again.last_records());
            }
            None
        });
        connection = settled.await.ok().flatten();
        if connection.is_some() {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

/// Until the connection ends.
async fn read_records(sandbox: &Sandbox, stream: StdStream) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    stream.write_all(&protocol::frame(&Request::Watch)?).await?;
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let length = u32::from_le_bytes(head) as usize;
        if length > protocol::LIMIT {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "frame is larger than its limit"));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        match decode(&body)? {
            Reply::Records(records) => sandbox.publish(records),
            Reply::Record(record) => sandbox.update(record),
            _ => {}
        }
    }
}
