//! Writes what a container prints in CRI format, one file per attempt, rotated by size.
//!
//! Each line is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; `P` marks a piece of a line that goes on. A log that
//! cannot be written (disk full) loses lines; it never stops the container.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The longest piece of a line in one entry.
pub const LINE_MAX: usize = 16 * 1024;

/// Cuts one stream into entries.
#[derive(Debug)]
pub struct Lines {
    stream: &'static str,
    pending: Vec<u8>,
}

impl Lines {
    pub fn new(stream: &'static str) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// The entries that `bytes` complete.
    pub fn push(&mut self, mut bytes: &[u8], time: &str, out: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.take(&bytes[..end], time, out);
            self.entry(time, 'F', out);
            bytes = &bytes[end + 1..];
        }
        self.take(bytes, time, out);
    }

    /// What is left when the stream ends without a newline.
    pub fn finish(&mut self, time: &str, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.entry(time, 'P', out);
        }
    }

    fn take(&mut self, mut bytes: &[u8], time: &str, out: &mut Vec<u8>) {
        while self.pending.len() + bytes.len() > LINE_MAX {
            let (head, tail) = bytes.split_at(LINE_MAX - self.pending.len());
            self.pending.extend_from_slice(head);
            self.entry(time, 'P', out);
            bytes = tail;
        }
        self.pending.extend_from_slice(bytes);
    }

    fn entry(&mut self, time: &str, tag: char, out: &mut Vec<u8>) {
        // Writing to a vector cannot fail.
        let _ = write!(out, "{time} {} {tag} ", self.stream);
        out.append(&mut self.pending);
        out.push(b'\n');
    }
}

/// One attempt's log file and those rotated away from it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    size_max: u64,
    files_max: u32,
    /// The last write was cut short in the middle of an entry.
    torn: bool,
}

impl Log {
    /// Opens the log; where that fails now it is tried again at each write.
    pub fn open(path: PathBuf, size_max: u64, files_max: u32) -> Self {
        let mut log =
            Self { path, file: None, size: 0, size_max: size_max.max(1), files_max: files_max.max(1), torn: false };
        let _ = log.reopen();
        log
    }

    /// Writes whole entries, and rotates between them.
    pub fn write(&mut self, mut entries: &[u8]) {
        while !entries.is_empty() {
            let room = usize::try_from(self.size_max.saturating_sub(self.size)).unwrap_or(usize::MAX);
            let fits = if entries.len() <= room { entries.len() } else { whole_entries(&entries[..room]) };
            let (now, later) = match fits {
                // Not even one fits: it goes to a new file, or stands alone in this one.
                0 if self.size > 0 => {
                    self.rotate();
                    continue;
                }
                0 => entries.split_at(entries.iter().position(|&b| b == b'\n').map_or(entries.len(), |end| end + 1)),
                fits => entries.split_at(fits),
            };
            self.write_piece(now);
            entries = later;
        }
    }

    fn write_piece(&mut self, entries: &[u8]) {
        // What cannot be written counts as if it had been: a full disk must not make this rotate for ever.
        self.size += entries.len() as u64;
        if self.file.is_none() && self.reopen().is_err() {
            return;
        }
        let Some(mut file) = self.file.as_ref() else { return };
        if self.torn && file.write_all(b"\n").is_err() {
            return;
        }
        let mut written = 0;
        while written < entries.len() {
            match file.write(&entries[written..]) {
                Ok(0) => break,
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.torn = written > 0 && written < entries.len();
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&mut self) {
        self.file = None;
        self.torn = false;
        let kept = self.files_max - 1;
        if kept == 0 {
            let _ = std::fs::remove_file(&self.path);
        }
        for number in (1..kept).rev() {
            let _ = std::fs::rename(rotated(&self.path, number), rotated(&self.path, number + 1));
        }
        if kept > 0 {
            let _ = std::fs::rename(&self.path, rotated(&self.path, 1));
        }
        self.size = 0;
        let _ = self.reopen();
    }
}

/// How many of `bytes` are whole entries.
fn whole_entries(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1)
}

/// `<attempt>.log.<number>`.
fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Now, as CRI logs write it.
pub fn timestamp() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_tagged_whole_or_partial() {
        let (mut lines, mut out) = (Lines::new("stdout"), Vec::new());
        lines.push(b"one\ntw", "T", &mut out);
        lines.push(b"o\nrest", "U", &mut out);
        lines.finish("V", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "T stdout F one\nU stdout F two\nV stdout P rest\n");
    }

    #[test]
    fn a_long_line_is_cut() {
        let (mut lines, mut out) = (Lines::new("stderr"), Vec::new());
        lines.push(&vec![b'x'; LINE_MAX + 1], "T", &mut out);
        lines.push(b"\n", "T", &mut out);
        let text = String::from_utf8(out).unwrap();
        let tags: Vec<_> = text.lines().map(|l| (l.as_bytes()[9] as char, l.len() - 11)).collect();
        assert_eq!(tags, [('P', LINE_MAX), ('F', 1)]);
    }

    #[test]
    fn one_large_write_is_spread_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(path.clone(), 8, 4);
        log.write(b"aaa\nbbb\nccc\na long one\nddd\n");
        let read = |p: PathBuf| std::fs::read_to_string(p).unwrap();
        assert_eq!(read(rotated(&path, 3)), "aaa\nbbb\n");
        assert_eq!(read(rotated(&path, 2)), "ccc\n");
        assert_eq!(read(rotated(&path, 1)), "a long one\n");
        assert_eq!(read(path), "ddd\n");
    }

    #[test]
    fn logs_rotate_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = Log::open(path.clone(), 10, 3);
        for entry in ["first line\n", "second line\n", "third line\n", "fourth line\n"] {
            log.write(entry.as_bytes());
        }
        let read = |p: PathBuf| std::fs::read_to_string(p).unwrap();
        assert_eq!(read(path.clone()), "fourth line\n");
        assert_eq!(read(rotated(&path, 1)), "third line\n");
        assert_eq!(read(rotated(&path, 2)), "second line\n");
        assert!(!rotated(&path, 3).exists());
    }
}
