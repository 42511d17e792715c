//! Layers as tools write them, and as attackers do: nothing may be written outside of the layer's directory.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::document::sha256;
use super::error::{Error, LayerProblem as Problem};
use super::layers::{Cancel, Hold, Layer, Layers};

const MAX: u64 = 1 << 20;

/// A directory of layers, and one beside it that must stay as it is.
struct Ground {
    dir: tempfile::TempDir,
    layers: Arc<Layers>,
    hold: Hold,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("images")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/victim"), "untouched").unwrap();
        let layers = Arc::new(Layers::open(&dir.path().join("images"), MAX).unwrap());
        let hold = Hold::new(layers.clone());
        Self { dir, layers, hold }
    }
    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }
    fn unpack(&mut self, tar: &[u8]) -> Result<Layer, Error> {
        self.unpack_over(tar, &[])
    }
    fn unpack_over(&mut self, tar: &[u8], below: &[Layer]) -> Result<Layer, Error> {
        let diff = sha256(tar);
        let mut ids: Vec<String> = below.iter().map(|l| l.diff_id.clone()).collect();
        ids.push(diff.clone());
        let chain = super::layers::chain_ids(&ids).pop().unwrap();
        let result = self.hold.unpack(tar, &diff, &chain, below, &Cancel::default());
        assert_eq!(fs::read_to_string(self.outside().join("victim")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 1, "something was written outside");
        result
    }
    fn root(&self, layer: &Layer) -> PathBuf {
        self.layers.fs(&layer.dir)
    }
    fn refused(&mut self, tar: &[u8]) -> Problem {
        match self.unpack(tar) {
            Err(Error::Layer { problem, .. }) => {
                let left = fs::read_dir(self.dir.path().join("images/tmp")).unwrap().count();
                assert_eq!(left, 0, "a refused layer left something behind");
                problem
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn root_user() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A tar of entries with any path, also those that the builder would not write.
#[derive(Default)]
struct Maker(Vec<u8>);

impl Maker {
    fn raw(mut self, kind: EntryType, path: &[u8], link: &[u8], mode: u32, body: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(if root_user() { 1234 } else { 0 });
        header.set_gid(if root_user() { 567 } else { 0 });
        header.set_mtime(1_000_000_000);
        header.set_size(body.len() as u64);
        let old = header.as_old_mut();
        old.name[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        old.linkname[..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.data(body)
    }
    fn data(mut self, body: &[u8]) -> Self {
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    fn file(self, path: &str, body: &str) -> Self {
        self.raw(EntryType::Regular, path.as_bytes(), b"", 0o644, body.as_bytes())
    }
    fn dir(self, path: &str, mode: u32) -> Self {
        self.raw(EntryType::Directory, path.as_bytes(), b"", mode, b"")
    }
    fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Symlink, path.as_bytes(), target.as_bytes(), 0o777, b"")
    }
    fn link(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Link, path.as_bytes(), target.as_bytes(), 0o644, b"")
    }
    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..9).map(|digits| rest + digits).find(|l| l.to_string().len() + rest == *l).unwrap();
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.raw(EntryType::XHeader, b"pax", b"", 0o644, &body)
    }
    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

#[test]
fn what_is_in_the_tar_is_on_the_disk() {
    let mut ground = Ground::new();
    let tar = Maker::default()
        .dir("./", 0o755)
        .dir("bin/", 0o755)
        .raw(EntryType::Regular, b"bin/su", b"", 0o4755, b"setuid")
        .link("bin/su2", "bin/su")
        .symlink("sh", "/bin/su")
        .symlink("dangling", "../../nowhere")
        .raw(EntryType::Fifo, b"fifo", b"", 0o600, b"")
        .dir("tmp", 0o1777)
        .pax(&[("SCHILY.xattr.user.note", b"hi"), ("mtime", b"1000000001.5")])
        .file("tmp/x", "x")
        .end();
    let layer = ground.unpack(&tar).unwrap();
    let root = ground.root(&layer);
    let su = fs::metadata(root.join("bin/su")).unwrap();
    assert_eq!(su.mode() & 0o7777, 0o4755);
    assert_eq!((su.nlink(), su.mtime()), (2, 1_000_000_000));
    if root_user() {
        assert_eq!((su.uid(), su.gid()), (1234, 567));
    }
    assert_eq!(fs::read_link(root.join("sh")).unwrap(), Path::new("/bin/su"));
    assert_eq!(fs::read_link(root.join("dangling")).unwrap(), Path::new("../../nowhere"));
    assert!(fs::metadata(root.join("fifo")).unwrap().file_type().is_fifo());
    let tmp = fs::metadata(root.join("tmp")).unwrap();
    assert_eq!((tmp.permissions().mode() & 0o7777, tmp.mtime()), (0o1777, 1_000_000_000));
    let x = fs::metadata(root.join("tmp/x")).unwrap();
    assert_eq!((x.mtime(), x.mtime_nsec()), (1_000_000_001, 500_000_000));
    let mut note = [0; 8];
    if let Ok(length) = rustix::fs::getxattr(root.join("tmp/x"), "user.note", &mut note) {
        assert_eq!(&note[..length], b"hi");
    }
    assert_eq!((layer.bytes, layer.implied, layer.opaque_root), (7, false, false));
}

#[test]
fn whiteouts_become_overlays() {
    let mut ground = Ground::new();
    let tar = Maker::default()
        .dir("etc", 0o755)
        .file("etc/.wh.gone", "")
        .dir("var", 0o755)
        .file("var/.wh..wh..opq", "")
        .file(".wh.new", "")
        .dir("new", 0o700)
        .file(".wh..wh.plnk", "")
        .end();
    let layer = ground.unpack(&tar).unwrap();
    let root = ground.root(&layer);
    let gone = fs::symlink_metadata(root.join("etc/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let key = if root_user() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    for opaque in ["var", "new"] {
        let mut value = [0; 4];
        let length = rustix::fs::lgetxattr(root.join(opaque), key, &mut value).unwrap();
        assert_eq!(&value[..length], b"y", "{opaque} hides what is below");
    }
    assert!(fs::read_dir(&root).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().starts_with(".wh.")));
    let root_opaque = Maker::default().file(".wh..wh..opq", "").end();
    assert!(ground.unpack(&root_opaque).unwrap().opaque_root);
}

#[test]
fn whiteouts_of_the_directory_itself_are_refused() {
    for name in [".wh...", ".wh..", ".wh.", "a/.wh..."] {
        assert!(matches!(Ground::new().refused(&Maker::default().file(name, "").end()), Problem::Escape(_)), "{name}");
    }
}

#[test]
fn upward_paths_are_refused() {
    for path in ["../outside/evil", "a/../../../outside/evil", "/../outside/evil", ".."] {
        let problem = Ground::new().refused(&Maker::default().file(path, "evil").end());
        assert!(matches!(problem, Problem::Escape(_)), "{path}: {problem}");
    }
}

#[test]
fn absolute_paths_stay_inside() {
    let mut ground = Ground::new();
    let target = ground.outside().join("evil");
    let layer = ground.unpack(&Maker::default().file(target.to_str().unwrap(), "evil").end()).unwrap();
    assert!(ground.root(&layer).join(target.strip_prefix("/").unwrap()).is_file());
}

#[test]
fn a_file_through_a_symlink_stays_inside() {
    let mut ground = Ground::new();
    let outside = ground.outside();
    let upward = "../".repeat(20) + outside.strip_prefix("/").unwrap().to_str().unwrap();
    for target in [outside.to_str().unwrap(), &upward] {
        let tar = Maker::default().symlink("s", target).file("s/evil", "evil").file("s", "not a link").end();
        let layer = ground.unpack(&tar).unwrap();
        assert_eq!(fs::read_to_string(ground.root(&layer).join("s")).unwrap(), "not a link", "the link is replaced");
    }
    // The file itself being a link: it is replaced, not written through.
    let victim = outside.join("victim");
    let tar = Maker::default().symlink("v", victim.to_str().unwrap()).file("v", "evil").end();
    let layer = ground.unpack(&tar).unwrap();
    assert!(fs::symlink_metadata(ground.root(&layer).join("v")).unwrap().is_file());
    // And a directory over a link, whose mode and time are set last.
    let tar = Maker::default().dir("d", 0o700).symlink("d", outside.to_str().unwrap()).end();
    assert!(ground.unpack(&tar).is_ok());
    let mode = fs::metadata(&outside).unwrap().permissions().mode() & 0o7777;
    assert_ne!(mode, 0o700, "the mode went through the link");
}

#[test]
fn links_in_a_circle_are_refused() {
    let tar = Maker::default().symlink("a", "b").symlink("b", "a").file("a/x", "").end();
    assert!(matches!(Ground::new().refused(&tar), Problem::Parent(_)));
}

#[test]
fn hard_links_to_the_outside_are_refused() {
    for target in ["../outside/victim", "/outside/victim", "nothing", "s/victim", "."] {
        let mut ground = Ground::new();
        let outside = ground.outside();
        let tar = Maker::default().symlink("s", outside.to_str().unwrap()).link("evil", target).end();
        let problem = ground.refused(&tar);
        assert!(matches!(problem, Problem::HardLink(..) | Problem::Escape(_)), "{target}: {problem}");
    }
    let mut ground = Ground::new();
    let victim = ground.outside().join("victim");
    // A link to a link is that link, not what it points to.
    let tar = Maker::default().symlink("s", victim.to_str().unwrap()).link("t", "s").file("u", "").end();
    let layer = ground.unpack(&tar).unwrap();
    assert!(fs::symlink_metadata(ground.root(&layer).join("t")).unwrap().is_symlink());
    assert_eq!(fs::metadata(victim).unwrap().nlink(), 1);
}

#[test]
fn impossible_names_are_refused() {
    let nul = Maker::default().pax(&[("path", b"a\0b")]).file("x", "").end();
    assert!(matches!(Ground::new().refused(&nul), Problem::Name(_)));
    let empty = Maker::default().file("", "").end();
    assert!(matches!(Ground::new().refused(&empty), Problem::Name(_)));
    let root_file = Maker::default().file("/", "").end();
    assert!(Ground::new().unpack(&root_file).is_ok_and(|l| l.bytes == 0));
    let long = Maker::default().pax(&[("path", &[b'a'; 5000])]).file("x", "").end();
    assert!(matches!(Ground::new().refused(&long), Problem::Tar(_)));
    let part = Maker::default().pax(&[("path", &[b'a'; 300])]).file("x", "").end();
    assert!(matches!(Ground::new().refused(&part), Problem::Write { .. }));
}

#[test]
fn devices_are_made_by_root_alone() {
    let mut ground = Ground::new();
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Block);
    header.set_device_major(8).unwrap();
    header.set_device_minor(0).unwrap();
    header.set_mode(0o666);
    header.set_size(0);
    let mut builder = Builder::new(Vec::new());
    builder.append_data(&mut header, "sda", std::io::empty()).unwrap();
    let layer = ground.unpack(&builder.into_inner().unwrap()).unwrap();
    let made = fs::symlink_metadata(ground.root(&layer).join("sda"));
    assert_eq!(made.is_ok_and(|m| m.file_type().is_block_device()), root_user());
}

#[test]
fn absurd_sizes_are_refused() {
    let mut header = Header::new_gnu();
    header.set_path("huge").unwrap();
    header.set_size(1 << 60);
    header.set_cksum();
    assert!(matches!(Ground::new().refused(header.as_bytes()), Problem::Tar(_)));
    // An extension header that would be read into memory.
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 33);
    header.set_cksum();
    assert!(matches!(Ground::new().refused(header.as_bytes()), Problem::Tar(_)));
}

#[test]
fn bombs_are_stopped() {
    let large = vec![0; usize::try_from(MAX).unwrap() + 1];
    let tar = Maker::default().raw(EntryType::Regular, b"zeros", b"", 0o644, &large).end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut tar.as_slice(), &mut gzip).unwrap();
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 10_000);
    let mut ground = Ground::new();
    let diff = sha256(&tar);
    let result = ground.hold.unpack(bomb.as_slice(), &diff, &diff, &[], &Cancel::default());
    assert!(matches!(result, Err(Error::Layer { problem: Problem::TooLarge(MAX), .. })));
    // Zeros without end behind the end of the archive.
    let endless = Maker::default().file("a", "1").end();
    let endless = endless.as_slice().chain(std::io::repeat(0));
    let result = ground.hold.unpack(endless, &diff, &diff, &[], &Cancel::default());
    assert!(matches!(result, Err(Error::Layer { problem: Problem::TooLarge(MAX), .. })));
    let rules = super::unpack::Rules { bytes_max: MAX, entries_max: 1, privileged: false };
    let dir = tempfile::tempdir().unwrap();
    let tar = Maker::default().file("a", "1").file("b", "2").end();
    let result = super::unpack::unpack(tar.as_slice(), fs::File::open(dir.path()).unwrap().into(), &[], rules);
    assert!(matches!(result, Err(Problem::TooMany(1))));
}

#[test]
fn damage_is_noticed() {
    let mut ground = Ground::new();
    let tar = Maker::default().file("a", "body").end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut tar.as_slice(), &mut gzip).unwrap();
    let gzip = gzip.finish().unwrap();
    let diff = sha256(&tar);
    for cut in 1..gzip.len() {
        assert!(ground.hold.unpack(&gzip[..cut], &diff, &diff, &[], &Cancel::default()).is_err(), "cut at {cut}");
    }
    let lie = sha256(b"something else");
    let result = ground.hold.unpack(gzip.as_slice(), &lie, &lie, &[], &Cancel::default());
    assert!(matches!(result, Err(Error::Layer { problem: Problem::DiffId(_), .. })));
    assert!(ground.hold.unpack(gzip.as_slice(), &diff, &diff, &[], &Cancel::default()).is_ok());
    let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
    assert!(Ground::new().hold.unpack(zstd.as_slice(), &diff, &diff, &[], &Cancel::default()).is_ok());
}

#[test]
fn attributes_that_steer_overlayfs_are_dropped() {
    let mut ground = Ground::new();
    let tar = Maker::default()
        .pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc"), ("SCHILY.xattr.user.overlay.opaque", b"y")])
        .dir("d", 0o755)
        .end();
    let layer = ground.unpack(&tar).unwrap();
    let mut names = [0u8; 256];
    let length = rustix::fs::llistxattr(ground.root(&layer).join("d"), &mut names).unwrap();
    assert!(!String::from_utf8_lossy(&names[..length]).contains("overlay"));
}

#[test]
fn sparse_files_have_their_holes() {
    let mut ground = Ground::new();
    // PAX 1.0: the map stands before the data.
    let mut body = b"2\n0\n1\n4096\n3\n".to_vec();
    body.resize(512, 0);
    body.extend_from_slice(b"Aend");
    let tar = Maker::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"holes"),
            ("GNU.sparse.realsize", b"8192"),
        ])
        .raw(EntryType::Regular, b"GNUSparseFile.0/holes", b"", 0o644, &body)
        .file("after", "x")
        .end();
    let layer = ground.unpack(&tar).unwrap();
    let content = fs::read(ground.root(&layer).join("holes")).unwrap();
    assert_eq!((content.len(), content[0], &content[4096..4099]), (8192, b'A', &b"end"[..]));
    assert!(ground.root(&layer).join("after").is_file());
    // A map that lies.
    for map in ["1\n0\n99\n", "1\n9000\n4\n", "2\n4\n2\n0\n2\n", "99999999\n", "1\n18446744073709551615\n4\n"] {
        let mut body = map.as_bytes().to_vec();
        body.resize(512, 0);
        body.extend_from_slice(b"Aend");
        let tar = Maker::default()
            .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"8192")])
            .raw(EntryType::Regular, b"x", b"", 0o644, &body)
            .end();
        assert!(matches!(Ground::new().refused(&tar), Problem::Tar(_)), "{map:?}");
    }
}

/// `/tmp` of the base has mode 1777; a layer that holds `tmp/x` but not `tmp` must not change that.
#[test]
fn implied_directories_look_like_those_below() {
    let mut ground = Ground::new();
    let base = ground.unpack(&Maker::default().dir("tmp", 0o1777).end()).unwrap();
    let other = ground.unpack(&Maker::default().dir("tmp", 0o700).end()).unwrap();
    let tar = Maker::default().file("tmp/x", "x").file("new/y", "y").end();
    let top = ground.unpack_over(&tar, std::slice::from_ref(&base)).unwrap();
    let mode = |l: &Layer, p: &str, g: &Ground| fs::metadata(g.root(l).join(p)).unwrap().permissions().mode() & 0o7777;
    assert!(top.implied);
    assert_eq!((mode(&top, "tmp", &ground), mode(&top, "new", &ground)), (0o1777, 0o755));
    // Over another base it looks different, so it is another directory.
    let second = ground.unpack_over(&tar, std::slice::from_ref(&other)).unwrap();
    assert_eq!(mode(&second, "tmp", &ground), 0o700);
    assert_ne!(top.dir, second.dir);
}

#[test]
fn a_parent_may_be_a_link_to_what_a_lower_layer_holds() {
    let mut ground = Ground::new();
    let tar = Maker::default()
        .symlink("lib", "usr/lib")
        .file("lib/a", "a")
        .symlink("run", "/var/run")
        .file("run/b", "b")
        .end();
    let layer = ground.unpack(&tar).unwrap();
    assert!(ground.root(&layer).join("usr/lib/a").is_file());
    assert!(ground.root(&layer).join("var/run/b").is_file());
}

#[test]
fn what_nothing_names_is_swept() {
    let mut ground = Ground::new();
    let layer = ground.unpack(&Maker::default().file("a", "a").end()).unwrap();
    let named = ground.unpack(&Maker::default().file("b", "b").end()).unwrap();
    ground.layers.name([&named.dir]);
    ground.hold = Hold::new(ground.layers.clone());
    assert!(!ground.root(&layer).exists());
    assert!(ground.root(&named).exists());
    ground.layers.unname([&named.dir]);
    assert!(!ground.root(&named).exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Entries of every kind whose names and targets are made of the parts attacks are made of.
    #[test]
    fn no_tar_writes_outside(entries in prop::collection::vec(
        (0..7u8, prop::collection::vec("a|b|c|\\.\\.|\\.|\\.wh\\.a|\\.wh\\.\\.wh\\.\\.opq|", 1..4), "(/|\\.\\./\\.\\./\\.\\./)?(outside|a|b)(/(victim|a|b))?"), 0..12)) {
        let mut ground = Ground::new();
        let mut tar = Maker::default();
        for (kind, path, target) in entries {
            let kind = [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link, EntryType::Fifo, EntryType::Symlink, EntryType::Regular][usize::from(kind)];
            let target = match target.strip_prefix('/') {
                Some(rest) => ground.dir.path().join(rest).to_str().unwrap().to_owned(),
                None => target,
            };
            let body: &[u8] = if kind == EntryType::Regular { b"evil" } else { b"" };
            tar = tar.raw(kind, path.join("/").as_bytes(), target.as_bytes(), 0o755, body);
        }
        let _ = ground.unpack(&tar.end());
    }

    #[test]
    fn any_bytes_are_a_layer_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), at in 0..1000usize, with: u8) {
        let mut ground = Ground::new();
        let _ = ground.unpack(&bytes);
        // A good tar with one byte changed, and one cut short.
        bytes = Maker::default().pax(&[("path", b"x/y")]).file("a", "body").symlink("l", "a").end();
        let at = at % bytes.len();
        let _ = ground.unpack(&bytes[..at]);
        bytes[at] ^= with;
        let _ = ground.unpack(&bytes);
    }
}
