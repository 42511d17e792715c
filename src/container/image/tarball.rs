//! Reading tar as images come: ustar, old, PAX and GNU, long names, sparse files.
//!
//! Headers are decoded by the crate `tar`; the walk over them is ours, because its own reads extension headers of any
//! length into memory and knows no PAX sparse files. Every length that comes from the archive is bounded here.

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// Longest extension header (PAX records with their extended attributes, GNU long names).
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Longest path the kernel takes.
const PATH_BYTES_MAX: usize = 4096;
/// Most pieces of one sparse file.
const SPARSE_PIECES_MAX: usize = 1 << 16;
/// Most extended attributes of one entry, and the size of one: more than the kernel takes.
const XATTRS_MAX: usize = 128;
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Largest file, holes counted: what ext4 can hold.
const FILE_BYTES_MAX: u64 = 1 << 44;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it cannot be read to its end")]
    Read(#[from] io::Error),
    #[error("it is not a well-formed tar: {0}")]
    Malformed(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Character,
    Block,
    Fifo,
}

/// A piece of a sparse file: (offset, length).
type Piece = (u64, u64);

#[derive(Debug)]
pub struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes that follow in the archive.
    pub stored: u64,
    /// Bytes of the file, holes counted.
    pub size: u64,
    pub sparse: Option<Vec<Piece>>,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Walks over an archive. Between two calls of [`Tar::entry`], reading gives the entry's stored bytes.
pub struct Tar<R> {
    inner: R,
    /// Stored bytes of the current entry not read yet, and the padding behind them.
    left: u64,
    padding: u64,
    position: u64,
    global: Extensions,
}

/// What PAX and GNU extension headers said of the next entry.
#[derive(Clone, Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_version: (u64, u64),
    sparse_size: Option<u64>,
    sparse_name: Option<Vec<u8>>,
    sparse_map: Option<Vec<u64>>,
}

impl<R: Read> Read for Tar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        self.position += read as u64;
        Ok(read)
    }
}

impl<R: Read> Tar<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, position: 0, global: Extensions::default() }
    }

    /// Where the next stored byte lies in the archive.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next entry; what was not read of the one before is skipped. `None` at the end of the archive.
    pub fn entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = self.global.clone();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| Error::Malformed("size is not a number"))?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name(size)?),
                EntryType::XHeader => {
                    let records = self.extension(size)?;
                    pax(&records, &mut extensions)?;
                }
                EntryType::XGlobalHeader => {
                    let records = self.extension(size)?;
                    let mut global = std::mem::take(&mut self.global);
                    pax(&records, &mut global)?;
                    self.global = global;
                    extensions = self.global.clone();
                }
                _ => return self.describe(&header, size, extensions).map(Some),
            }
        }
    }

    /// Gives back the reader: what follows the end of the archive is still to come.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn describe(&mut self, header: &Header, stored: u64, extensions: Extensions) -> Result<Entry, Error> {
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extensions
            .link
            .unwrap_or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default());
        let kind = kind(header.entry_type(), &path)?;
        // Only files have bytes; some writers give directories and links a size all the same.
        let has_bytes = kind == Kind::File;
        let stored = if has_bytes { extensions.size.unwrap_or(stored) } else { 0 };
        if stored > FILE_BYTES_MAX {
            return Err(Error::Malformed("an entry is absurdly large"));
        }
        let number = |n: io::Result<u64>, pax: Option<u64>| pax.or(n.ok()).unwrap_or(0);
        let id = |n: u64| u32::try_from(n).map_err(|_| Error::Malformed("owner is out of range"));
        let mut entry = Entry {
            path,
            link,
            kind,
            mode: header.mode().unwrap_or(0) & 0o7777,
            uid: id(number(header.uid(), extensions.uid))?,
            gid: id(number(header.gid(), extensions.gid))?,
            mtime: extensions.mtime.unwrap_or((header.mtime().unwrap_or(0).cast_signed(), 0)),
            stored,
            size: stored,
            sparse: None,
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            xattrs: extensions.xattrs,
        };
        self.body(stored);
        if header.entry_type() == EntryType::GNUSparse {
            self.gnu_sparse(header, &mut entry)?;
        } else if extensions.sparse_version == (1, 0) || extensions.sparse_map.is_some() {
            if let Some(name) = extensions.sparse_name {
                entry.path = name;
            }
            let numbers = match extensions.sparse_map {
                Some(numbers) => numbers,
                None => self.sparse_map_in_body()?,
            };
            entry.stored = self.left;
            entry.size = extensions.sparse_size.ok_or(Error::Malformed("sparse file without a size"))?;
            entry.sparse = Some(pieces(&numbers)?);
        }
        check_sparse(&entry)?;
        if entry.path.len() > PATH_BYTES_MAX || entry.link.len() > PATH_BYTES_MAX {
            return Err(Error::Malformed("a path is longer than 4096 bytes"));
        }
        Ok(entry)
    }

    fn body(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    fn header(&mut self) -> Result<Option<Header>, Error> {
        let mut block = [0u8; 512];
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                // Some writers leave out the two empty blocks at the end.
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.position += BLOCK;
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&b| u32::from(b)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(Error::Malformed("header checksum is wrong"));
        }
        Ok(Some(header.clone()))
    }

    /// Skips what is left of the current entry.
    fn skip(&mut self) -> Result<(), Error> {
        let rest = self.left + self.padding;
        let skipped = io::copy(&mut (&mut self.inner).take(rest), &mut io::sink())?;
        if skipped < rest {
            // Only the padding of the very last entry may be missing.
            if skipped < self.left {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        self.position += skipped;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > EXTENSION_BYTES_MAX {
            return Err(Error::Malformed("an extension header is absurdly large"));
        }
        self.body(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut name = self.extension(size)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// Old GNU sparse files: up to four pieces in the header, then blocks of 21.
    fn gnu_sparse(&mut self, header: &Header, entry: &mut Entry) -> Result<(), Error> {
        let malformed = |_| Error::Malformed("sparse map");
        let gnu = header.as_gnu().ok_or(Error::Malformed("sparse file without a GNU header"))?;
        let mut numbers = Vec::new();
        for piece in gnu.sparse.iter().filter(|p| !p.is_empty()) {
            numbers.extend([piece.offset().map_err(malformed)?, piece.length().map_err(malformed)?]);
        }
        let mut extended = gnu.is_extended();
        while extended {
            let mut block = tar::GnuExtSparseHeader::new();
            self.inner.read_exact(block.as_mut_bytes())?;
            self.position += BLOCK;
            for piece in block.sparse.iter().filter(|p| !p.is_empty()) {
                numbers.extend([piece.offset().map_err(malformed)?, piece.length().map_err(malformed)?]);
            }
            if numbers.len() > 2 * SPARSE_PIECES_MAX {
                return Err(Error::Malformed("a sparse file has too many pieces"));
            }
            extended = block.is_extended();
        }
        entry.size = gnu.real_size().map_err(malformed)?;
        entry.sparse = Some(pieces(&numbers)?);
        Ok(())
    }

    /// PAX sparse 1.0: decimal numbers, one a line, in whole blocks before the data.
    fn sparse_map_in_body(&mut self) -> Result<Vec<u64>, Error> {
        let (mut numbers, mut current, mut wanted) = (Vec::new(), None::<u64>, None);
        while wanted.is_none_or(|w| numbers.len() < w) {
            let mut block = [0u8; 512];
            self.read_exact(&mut block)?;
            for byte in block {
                match byte {
                    b'0'..=b'9' => {
                        let digit = u64::from(byte - b'0');
                        let next = current.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit));
                        current = Some(next.ok_or(Error::Malformed("sparse map"))?);
                    }
                    b'\n' => {
                        let number = current.take().ok_or(Error::Malformed("sparse map"))?;
                        if wanted.is_none() {
                            let count = usize::try_from(number).unwrap_or(usize::MAX);
                            if count > SPARSE_PIECES_MAX {
                                return Err(Error::Malformed("a sparse file has too many pieces"));
                            }
                            wanted = Some(2 * count);
                        } else {
                            numbers.push(number);
                        }
                    }
                    _ => {}
                }
                if wanted.is_some_and(|w| numbers.len() >= w) {
                    break;
                }
            }
        }
        Ok(numbers)
    }
}

fn kind(kind: EntryType, path: &[u8]) -> Result<Kind, Error> {
    Ok(match kind {
        // Before ustar a directory was a file whose name ends in a slash.
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Char => Kind::Character,
        EntryType::Block => Kind::Block,
        EntryType::Fifo => Kind::Fifo,
        _ => return Err(Error::Malformed("an entry is of an unknown type")),
    })
}

fn pieces(numbers: &[u64]) -> Result<Vec<Piece>, Error> {
    if !numbers.len().is_multiple_of(2) || numbers.len() > 2 * SPARSE_PIECES_MAX {
        return Err(Error::Malformed("sparse map"));
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Pieces must ascend, lie in the file, and be as long as what is stored.
fn check_sparse(entry: &Entry) -> Result<(), Error> {
    if entry.size > FILE_BYTES_MAX {
        return Err(Error::Malformed("an entry is absurdly large"));
    }
    let Some(pieces) = &entry.sparse else { return Ok(()) };
    let (mut end, mut sum) = (0u64, 0u64);
    for &(offset, length) in pieces {
        if offset < end {
            return Err(Error::Malformed("sparse map overlaps"));
        }
        end = offset.checked_add(length).ok_or(Error::Malformed("sparse map"))?;
        sum += length;
    }
    if end > entry.size || sum != entry.stored {
        return Err(Error::Malformed("sparse map does not fit the file"));
    }
    Ok(())
}

/// Reads PAX records (`length key=value\n`) into `to`.
fn pax(mut records: &[u8], to: &mut Extensions) -> Result<(), Error> {
    let malformed = || Error::Malformed("PAX record");
    while !records.is_empty() {
        let space = records.iter().position(|&b| b == b' ').ok_or_else(malformed)?;
        let length: usize =
            std::str::from_utf8(&records[..space]).ok().and_then(|n| n.parse().ok()).ok_or_else(malformed)?;
        if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
            return Err(malformed());
        }
        let record = &records[space + 1..length - 1];
        let equals = record.iter().position(|&b| b == b'=').ok_or_else(malformed)?;
        pax_record(&record[..equals], &record[equals + 1..], to)?;
        records = &records[length..];
    }
    Ok(())
}

fn pax_record(key: &[u8], value: &[u8], to: &mut Extensions) -> Result<(), Error> {
    let text = || std::str::from_utf8(value).map_err(|_| Error::Malformed("PAX value"));
    let number = || text()?.parse::<u64>().map_err(|_| Error::Malformed("PAX number"));
    match key {
        b"path" => to.path = Some(value.to_vec()),
        b"linkpath" => to.link = Some(value.to_vec()),
        b"size" => to.size = Some(number()?),
        b"uid" => to.uid = Some(number()?),
        b"gid" => to.gid = Some(number()?),
        b"mtime" => to.mtime = Some(time(text()?)?),
        b"GNU.sparse.major" => to.sparse_version.0 = number()?,
        b"GNU.sparse.minor" => to.sparse_version.1 = number()?,
        b"GNU.sparse.name" => to.sparse_name = Some(value.to_vec()),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => to.sparse_size = Some(number()?),
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
            let map = to.sparse_map.get_or_insert_default();
            if map.len() >= 2 * SPARSE_PIECES_MAX {
                return Err(Error::Malformed("a sparse file has too many pieces"));
            }
            map.push(number()?);
        }
        b"GNU.sparse.map" => {
            let numbers = text()?.split(',').filter(|n| !n.is_empty()).map(str::parse);
            to.sparse_map = Some(numbers.collect::<Result<_, _>>().map_err(|_| Error::Malformed("sparse map"))?);
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                to.xattrs.retain(|(n, _)| n != name);
                if to.xattrs.len() >= XATTRS_MAX || value.len() > XATTR_BYTES_MAX {
                    return Err(Error::Malformed("an entry has too many or too large extended attributes"));
                }
                to.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

/// `1700000000.25`, perhaps negative.
fn time(text: &str) -> Result<(i64, u32), Error> {
    let malformed = |_| Error::Malformed("PAX time");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(malformed)?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Malformed("PAX time"));
    }
    let nanos: u32 = format!("{fraction:0<9}")[..9].parse().map_err(malformed)?;
    Ok(match (text.starts_with('-'), nanos) {
        (true, 1..) => (seconds.saturating_sub(1), 1_000_000_000 - nanos),
        _ => (seconds, nanos),
    })
}
