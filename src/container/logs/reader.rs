//! The log as a pure reader: files in order of age, lines out of CRI, no waiting.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Options;

const BLOCK: usize = 64 << 10;
/// A line in parts is put together up to this length; then its parts come as they are.
const JOINED_BYTES_MAX: usize = 1 << 20;
/// A line in the file longer than this is handed on in pieces.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Rotated files looked for.
const FILES_MAX: u32 = 1000;
/// Looks again when a rotation happened between two looks.
const LOOKS_MAX: u32 = 10;
/// `2026-01-01T00:00:00.123456789+00:00 stdout F `
const HEAD_BYTES_MAX: usize = 64;

#[derive(Debug)]
pub enum Step {
    Text(Vec<u8>),
    /// Nothing more for now.
    Wait,
    /// All was read.
    Done,
}

pub struct Reader {
    log: PathBuf,
    options: Options,
    /// To be read, oldest first; the front is being read.
    files: VecDeque<Piece>,
    started: bool,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
    /// Parts of a line, of stdout and of stderr.
    parts: [Parts; 2],
    sent: u64,
    full: bool,
}

struct Piece {
    file: File,
    inode: u64,
    position: u64,
}

#[derive(Default)]
struct Parts {
    text: Vec<u8>,
    open: bool,
}

impl Reader {
    pub fn new(log: PathBuf, options: Options) -> Self {
        let parts = [Parts::default(), Parts::default()];
        Self { log, options, files: VecDeque::new(), started: false, rest: Vec::new(), parts, sent: 0, full: false }
    }

    /// Reads on. `over`: nothing more will be written, so what is there now is all.
    pub fn step(&mut self, over: bool) -> io::Result<Step> {
        if !self.started {
            match self.open()? {
                true => self.started = true,
                false if !self.options.follow => return Err(io::ErrorKind::NotFound.into()),
                false if over => return Ok(Step::Done),
                false => return Ok(Step::Wait),
            }
        }
        let mut out = Vec::new();
        let mut block = vec![0; BLOCK];
        while out.len() < BLOCK && !self.full {
            let Some(piece) = self.files.front_mut() else { break };
            let read = piece.file.read_at(&mut block, piece.position)?;
            piece.position += read as u64;
            if read > 0 {
                self.text(&block[..read], &mut out);
            } else if !self.advance()? {
                break;
            }
        }
        if !out.is_empty() {
            return Ok(Step::Text(out));
        }
        if self.full {
            return Ok(Step::Done);
        }
        if !over {
            return Ok(Step::Wait);
        }
        self.finish(&mut out);
        self.full = true;
        Ok(if out.is_empty() { Step::Done } else { Step::Text(out) })
    }

    /// The file at the front is at its end: goes on to the next. False where it is the newest.
    fn advance(&mut self) -> io::Result<bool> {
        if self.files.len() > 1 {
            self.files.pop_front();
            return Ok(true);
        }
        let Some(current) = self.files.front() else { return Ok(false) };
        if inode_of(&self.log)? == Some(current.inode) {
            return Ok(false);
        }
        let newer = look(&self.log)?;
        let after = newer.iter().position(|p| p.inode == current.inode).map_or(0, |at| at + 1);
        let newer: Vec<_> = newer.into_iter().skip(after).collect();
        // Renamed, and the new one not there yet.
        if newer.is_empty() {
            return Ok(false);
        }
        // What was written between the last read and the rename.
        let mut end = vec![0; BLOCK];
        if current.file.read_at(&mut end, current.position)? > 0 {
            self.files.extend(newer);
            return Ok(true);
        }
        self.files.extend(newer);
        self.files.pop_front();
        Ok(true)
    }

    /// Opens what is there and finds where to begin. False where there is no log yet.
    fn open(&mut self) -> io::Result<bool> {
        let mut files = look(&self.log)?;
        if files.is_empty() {
            return Ok(false);
        }
        if let Some(since) = self.options.since {
            // A file last written before then has nothing to say; the newest may still be written.
            while files.len() > 1 && modified(&files[0].file)? < since.0 {
                files.pop_front();
            }
        }
        if let Some(lines) = self.options.tail_lines {
            tail(&mut files, lines)?;
        }
        self.files = files;
        Ok(true)
    }

    fn text(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            if self.rest.is_empty() {
                self.line(&bytes[..end], out);
            } else {
                let mut line = std::mem::take(&mut self.rest);
                line.extend_from_slice(&bytes[..end]);
                self.line(&line, out);
            }
            bytes = &bytes[end + 1..];
        }
        if self.rest.len() + bytes.len() > LINE_BYTES_MAX {
            let line = std::mem::take(&mut self.rest);
            self.line(&line, out);
        }
        self.rest.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(line) = Line::parse(line) else {
            // Not ours, or torn by a crash: better shown than lost.
            let mut text = line.to_vec();
            text.push(b'\n');
            return self.emit(&text, out);
        };
        if self.options.since.is_some_and(|since| line.millis().is_some_and(|at| at < since.0)) {
            return;
        }
        let timestamps = self.options.timestamps;
        let parts = &mut self.parts[usize::from(line.stderr)];
        if !parts.open && timestamps {
            parts.text.extend_from_slice(line.time);
            parts.text.push(b' ');
        }
        parts.open = line.partial;
        parts.text.extend_from_slice(line.text);
        if !line.partial {
            parts.text.push(b'\n');
        }
        if !line.partial || parts.text.len() > JOINED_BYTES_MAX {
            let text = std::mem::take(&mut parts.text);
            self.emit(&text, out);
        }
    }

    fn emit(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let left = self.options.limit_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(self.sent));
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(text.len());
        out.extend_from_slice(&text[..take]);
        self.sent += take as u64;
        self.full = self.options.limit_bytes.is_some_and(|limit| self.sent >= limit);
    }

    /// The container is gone: what has no end will get none.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.rest);
        // A line cut within its head says nothing.
        if Line::parse(&rest).is_some() {
            self.line(&rest, out);
        }
        for stream in 0..self.parts.len() {
            let text = std::mem::take(&mut self.parts[stream].text);
            if !text.is_empty() {
                self.emit(&text, out);
            }
        }
    }
}

/// `TIME STREAM TAG TEXT`
struct Line<'a> {
    time: &'a [u8],
    stderr: bool,
    partial: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |&b| b == b' ');
        let (time, stream, tag) = (fields.next()?, fields.next()?, fields.next()?);
        let stderr = match stream {
            b"stdout" => false,
            b"stderr" => true,
            _ => return None,
        };
        // Further tags may stand behind a colon.
        let partial = match tag.split(|&b| b == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self { time, stderr, partial, text: fields.next().unwrap_or_default() })
    }

    fn millis(&self) -> Option<u64> {
        let time: jiff::Timestamp = std::str::from_utf8(self.time).ok()?.parse().ok()?;
        u64::try_from(time.as_millisecond()).ok()
    }
}

fn rotated(log: &Path, number: u32) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn inode_of(path: &Path) -> io::Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn modified(file: &File) -> io::Result<u64> {
    let modified = file.metadata()?.modified()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // Rounded up: times in the file are finer.
    Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
}

/// All files of the log, oldest first, as they were at one moment.
fn look(log: &Path) -> io::Result<VecDeque<Piece>> {
    let mut files = look_once(log)?;
    for _ in 0..LOOKS_MAX {
        let again = look_once(log)?;
        let same = files.iter().map(|p| p.inode).eq(again.iter().map(|p| p.inode));
        files = again;
        if same {
            break;
        }
    }
    Ok(files)
}

fn look_once(log: &Path) -> io::Result<VecDeque<Piece>> {
    let mut files = VecDeque::new();
    for number in 0..FILES_MAX {
        let path = if number == 0 { log.to_owned() } else { rotated(log, number) };
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                files.push_front(Piece { file, inode, position: 0 });
            }
            // Between the rename and the new file the log itself may be missing.
            Err(e) if e.kind() == io::ErrorKind::NotFound && number == 0 => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(e),
        }
    }
    Ok(files)
}

/// Drops and positions files so that the last `lines` whole lines are left, reading from the end.
fn tail(files: &mut VecDeque<Piece>, lines: u64) -> io::Result<()> {
    let mut left = lines;
    for at in (0..files.len()).rev() {
        if let Some(position) = tail_of(&files[at].file, &mut left)? {
            files[at].position = position;
            files.drain(..at);
            return Ok(());
        }
    }
    Ok(())
}

/// Counts whole lines back from the end of a file. `Some`: where the wanted ones begin.
fn tail_of(file: &File, left: &mut u64) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let (mut block, mut block_end) = (vec![0; BLOCK], length);
    // Where the line begins that we have walked back through, and whether it is whole.
    let mut line_end: Option<u64> = None;
    while block_end > 0 {
        let block_start = block_end.saturating_sub(BLOCK as u64);
        let size = usize::try_from(block_end - block_start).unwrap_or(BLOCK);
        file.read_exact_at(&mut block[..size], block_start)?;
        for at in (0..size).rev().filter(|&i| block[i] == b'\n') {
            let newline = block_start + at as u64;
            if let Some(end) = line_end
                && counts(file, newline + 1, end, left)?
            {
                return Ok(Some(end + 1));
            }
            line_end = Some(newline);
        }
        block_end = block_start;
    }
    match line_end {
        Some(end) if counts(file, 0, end, left)? => Ok(Some(end + 1)),
        _ => Ok(None),
    }
}

/// Whether the line from `start` to `end` is the one too many; else it is counted, if it is the end of a whole line.
fn counts(file: &File, start: u64, end: u64, left: &mut u64) -> io::Result<bool> {
    let mut head = [0; HEAD_BYTES_MAX];
    let size = usize::try_from(end - start).unwrap_or(HEAD_BYTES_MAX).min(HEAD_BYTES_MAX);
    file.read_exact_at(&mut head[..size], start)?;
    if Line::parse(&head[..size]).is_some_and(|l| l.partial) {
        return Ok(false);
    }
    if *left == 0 {
        return Ok(true);
    }
    *left -= 1;
    Ok(false)
}
