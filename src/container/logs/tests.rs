//! Logs as the shim writes them: whole and in parts, rotated, growing.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

use super::*;

struct Log {
    dir: tempfile::TempDir,
    file: File,
    second: u32,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("0.log")).unwrap();
        Self { dir, file, second: 0 }
    }
    fn path(&self) -> PathBuf {
        self.dir.path().join("0.log")
    }
    fn line(&mut self, stream: &str, tag: &str, text: &str) {
        writeln!(self.file, "2026-01-01T00:{:02}:{:02}.5Z {stream} {tag} {text}", self.second / 60, self.second % 60)
            .unwrap();
        self.second += 1;
    }
    fn out(&mut self, text: &str) {
        self.line("stdout", "F", text);
    }
    /// As the shim: the files move up by one, and the log begins anew.
    fn rotate(&mut self) {
        let name = |n: u32| self.dir.path().join(format!("0.log.{n}"));
        for n in (1..20).rev().filter(|n| name(*n).exists()).collect::<Vec<_>>() {
            fs::rename(name(n), name(n + 1)).unwrap();
        }
        fs::rename(self.path(), name(1)).unwrap();
        self.file = OpenOptions::new().create_new(true).append(true).open(self.path()).unwrap();
    }
}

async fn all(mut pieces: mpsc::Receiver<io::Result<Vec<u8>>>) -> String {
    let mut text = Vec::new();
    while let Some(piece) = pieces.recv().await {
        text.extend(piece.unwrap());
    }
    String::from_utf8(text).unwrap()
}

async fn text(log: &Path, options: Options) -> String {
    all(read(log.to_owned(), options, std::future::pending())).await
}

fn tail(lines: u64) -> Options {
    Options { tail_lines: Some(lines), ..Options::default() }
}

#[tokio::test]
async fn rotated_files_come_oldest_first_and_parts_are_joined() {
    let mut log = Log::new();
    log.out("one");
    log.line("stdout", "P", "tw");
    log.rotate();
    log.line("stderr", "F", "between");
    log.line("stdout", "F", "o");
    log.rotate();
    log.out("");
    log.line("stdout", "P", "no end");
    assert_eq!(text(&log.path(), Options::default()).await, "one\nbetween\ntwo\n\nno end");
    let stamped = text(&log.path(), Options { timestamps: true, ..Options::default() }).await;
    assert!(stamped.contains("2026-01-01T00:00:01.5Z two\n"), "{stamped}");
}

#[tokio::test]
async fn the_tail_counts_whole_lines_over_files() {
    let mut log = Log::new();
    for n in 0..30 {
        log.line("stdout", "P", "line ");
        log.out(&n.to_string());
        if n % 10 == 9 {
            log.rotate();
        }
    }
    for (lines, first) in [(1, 29), (5, 25), (10, 20), (11, 19), (30, 0), (99, 0)] {
        let expected = (first..30).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
        assert_eq!(text(&log.path(), tail(lines)).await, expected, "{lines} lines");
    }
    assert_eq!(text(&log.path(), tail(0)).await, "");
}

#[tokio::test]
async fn a_long_log_is_read_from_its_end() {
    let mut log = Log::new();
    let filler = "x".repeat(10_000);
    for n in 0..300 {
        log.out(&format!("{n} {filler}"));
    }
    assert_eq!(text(&log.path(), tail(2)).await, format!("298 {filler}\n299 {filler}\n"));
    assert_eq!(text(&log.path(), Options::default()).await.lines().count(), 300);
}

#[tokio::test]
async fn since_and_limit_cut() {
    let mut log = Log::new();
    for n in 0..10 {
        log.out(&n.to_string());
    }
    let noon: jiff::Timestamp = "2026-01-01T00:00:07Z".parse().unwrap();
    let since = Some(UnixMillis(u64::try_from(noon.as_millisecond()).unwrap()));
    assert_eq!(text(&log.path(), Options { since, ..Options::default() }).await, "7\n8\n9\n");
    assert_eq!(text(&log.path(), Options { limit_bytes: Some(5), ..Options::default() }).await, "0\n1\n2");
}

#[tokio::test]
async fn following_survives_rotation_and_ends_with_the_container() {
    let mut log = Log::new();
    log.out("before");
    let (end, ended) = oneshot::channel::<()>();
    let follow = Options { follow: true, ..Options::default() };
    let mut pieces = read(log.path(), follow, async move {
        let _ = ended.await;
    });
    let mut next = async || String::from_utf8(pieces.recv().await.unwrap().unwrap()).unwrap();
    assert_eq!(next().await, "before\n");
    log.out("live");
    assert_eq!(next().await, "live\n");
    log.out("last of the first");
    log.rotate();
    log.out("whole second");
    log.rotate();
    log.out("third");
    let mut seen = String::new();
    while !seen.ends_with("third\n") {
        seen += &next().await;
    }
    assert_eq!(seen, "last of the first\nwhole second\nthird\n");
    log.out("last words");
    end.send(()).unwrap();
    assert_eq!(all(pieces).await, "last words\n");
}

#[tokio::test]
async fn a_log_that_is_not_there_yet_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web/0.log");
    let (end, ended) = oneshot::channel::<()>();
    let follow = Options { follow: true, ..Options::default() };
    let pieces = read(path.clone(), follow.clone(), async move {
        let _ = ended.await;
    });
    fs::create_dir(dir.path().join("web")).unwrap();
    fs::write(&path, "2026-01-01T00:00:00Z stdout F hello\n").unwrap();
    end.send(()).unwrap();
    assert_eq!(all(pieces).await, "hello\n");
    // One that never comes ends with the container.
    assert_eq!(all(read(dir.path().join("none/0.log"), follow, std::future::ready(()))).await, "");
    let mut pieces = read(dir.path().join("none/0.log"), Options::default(), std::future::ready(()));
    assert_eq!(pieces.recv().await.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_no_log_line_is_shown_and_a_torn_one_not_invented() {
    let mut log = Log::new();
    writeln!(log.file, "garbage").unwrap();
    log.out("fine");
    write!(log.file, "2026-01-01T00:00:00Z std").unwrap();
    assert_eq!(text(&log.path(), Options::default()).await, "garbage\nfine\n");
}

/// Many lines while the log is rotated over and over: each comes once, in order.
#[tokio::test]
async fn nothing_is_lost_or_doubled_under_rotation() {
    let mut log = Log::new();
    let (end, ended) = oneshot::channel::<()>();
    let pieces = read(log.path(), Options { follow: true, ..Options::default() }, async move {
        let _ = ended.await;
    });
    let writer = tokio::task::spawn_blocking(move || {
        for n in 0..1500 {
            log.out(&n.to_string());
            if n % 100 == 99 {
                log.rotate();
            }
        }
        end.send(()).unwrap();
        log
    });
    let expected = (0..1500).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
    assert_eq!(all(pieces).await, expected);
    drop(writer.await.unwrap());
}
