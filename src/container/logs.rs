//! Reading container logs: CRI lines, over rotated files, followed as they grow.

use crate::base::{Uid, UnixMillis};
use std::path::{Path, PathBuf};

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
/// and everything written has been sent, or the receiver is dropped.
pub fn read(
    _log: PathBuf,
    _options: Options,
    _ended: impl Future<Output = ()> + Send + 'static,
) -> tokio::sync::mpsc::Receiver<std::io::Result<Vec<u8>>> {
    todo!()
}
