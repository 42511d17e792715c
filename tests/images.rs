//! Images from archives and from a real registry, through the public interface.
#![cfg(feature = "full")]

mod image_support;

use std::path::Path;

use entroos::base::Bytes;
use entroos::container::image::{Config, Error, Images};
use image_support::{ARCH, Fault, Faulty, Layout, Registry, docker_archive, gzip, layer};

fn open(data_dir: &Path) -> Images {
    Images::open(Config { data_dir: data_dir.into(), layer_max: Bytes(64 << 20) }).unwrap()
}

#[tokio::test]
async fn a_docker_archive_is_imported_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("saved.tar");
    let layers = [layer(&[("etc/a", "lower")]), layer(&[("etc/b", "upper")])];
    std::fs::write(&archive, docker_archive(&["hello:1", "localhost:5000/hello"], &layers)).unwrap();
    let images = open(dir.path());
    let imported = images.import(&archive, None).await.unwrap();
    assert_eq!(imported[0].references, ["docker.io/library/hello:1", "localhost:5000/hello:latest"]);
    assert_eq!(imported[0].config.cmd, ["/hello"]);
    drop(images);
    let images = open(dir.path());
    let image = images.find("hello:1").unwrap();
    assert_eq!(image, imported[0]);
    let dirs = images.layer_dirs(&image);
    assert_eq!(std::fs::read_to_string(dirs[0].join("etc/a")).unwrap(), "lower");
    assert_eq!(std::fs::read_to_string(dirs[1].join("etc/b")).unwrap(), "upper");
    let id = &image.id["sha256:".len()..];
    assert_eq!(images.find(&id[..12]).unwrap().id, image.id);
    assert!(matches!(images.find("nothing"), Err(Error::NotFound(_))));
}

#[tokio::test]
async fn layouts_of_every_form_are_the_same_image() {
    let dir = tempfile::tempdir().unwrap();
    let layers = [layer(&[("a", "1")]), layer(&[("b", "2")])];
    let mut layout = Layout::default();
    let ours = layout.image(&layers, ARCH);
    let theirs = layout.image(&[layer(&[("a", "s390x")])], "s390x");
    let index = layout.index(&[(theirs, "s390x"), (ours, ARCH)]);
    layout.name(index, Some("latest"));
    let tar = layout.tar();
    let files = [
        ("plain.tar", tar.clone()),
        ("gzip.tar.gz", gzip(&tar)),
        ("zstd.tar.zst", zstd::encode_all(&tar[..], 1).unwrap()),
    ];
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    layout.write(&dir.path().join("directory"));
    let images = open(dir.path());
    let mut ids = Vec::new();
    for name in ["plain.tar", "gzip.tar.gz", "zstd.tar.zst", "directory"] {
        let imported = images
            .import(&dir.path().join(name), Some(&format!("from/{}", name.split('.').next().unwrap())))
            .await
            .unwrap();
        ids.push(imported[0].id.clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let image = images.find("from/zstd").unwrap();
    assert_eq!(image.references.len(), 4);
    assert_eq!(image.architecture, ARCH);
    assert_eq!(std::fs::read_to_string(images.layer_dirs(&image)[1].join("b")).unwrap(), "2");
    assert_eq!(entries(dir.path(), "images/layers"), 2, "layers are unpacked once");
    assert_eq!(entries(dir.path(), "images/tmp"), 0);
}

fn entries(data_dir: &Path, below: &str) -> usize {
    std::fs::read_dir(data_dir.join(below)).unwrap().count()
}

#[tokio::test]
async fn removing_frees_what_nothing_else_names() {
    let dir = tempfile::tempdir().unwrap();
    let shared = layer(&[("shared", "s")]);
    let images = open(dir.path());
    for name in ["one", "two"] {
        let archive = dir.path().join("saved.tar");
        std::fs::write(
            &archive,
            docker_archive(&[name, &format!("{name}:also")], &[shared.clone(), layer(&[("own", name)])]),
        )
        .unwrap();
        images.import(&archive, None).await.unwrap();
    }
    assert_eq!(entries(dir.path(), "images/layers"), 3);
    let one = images.find("one").unwrap();
    let used = |image: &entroos::container::image::Image| (image.id == one.id).then(|| "default/web".to_owned());
    // One name of several may go while a pod runs; the last, or the image itself, may not.
    images.remove("one:also", &used).await.unwrap();
    for name in ["one", &one.id] {
        let error = images.remove(name, &used).await.unwrap_err();
        assert!(matches!(&error, Error::InUse(_, pod) if pod == "default/web"), "{error}");
    }
    images.remove("one", &|_| None).await.unwrap();
    assert!(images.find("one").is_err());
    assert_eq!(entries(dir.path(), "images/layers"), 2);
    let two = images.find("two").unwrap();
    assert!(images.layer_dirs(&two)[0].join("shared").is_file());
    images.remove(&two.id["sha256:".len()..][..8], &used).await.unwrap();
    assert_eq!((entries(dir.path(), "images/layers"), images.list().len()), (0, 0));
}

#[tokio::test]
async fn a_name_moves_to_the_newer_image() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let archive = dir.path().join("saved.tar");
    std::fs::write(&archive, docker_archive(&["app"], &[layer(&[("v", "1")])])).unwrap();
    let old = images.import(&archive, None).await.unwrap().remove(0);
    std::fs::write(&archive, docker_archive(&["app"], &[layer(&[("v", "2")])])).unwrap();
    let new = images.import(&archive, None).await.unwrap().remove(0);
    assert_eq!(images.find("app").unwrap().id, new.id);
    // Pods may still run the old one: it stays, without the name.
    assert!(images.find(&old.id).unwrap().references.is_empty());
    assert!(images.layer_dirs(&old)[0].join("v").is_file());
}

#[tokio::test]
async fn what_a_crash_left_is_removed_and_what_was_done_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("saved.tar");
    std::fs::write(&archive, docker_archive(&["app"], &[layer(&[("v", "1")])])).unwrap();
    open(dir.path()).import(&archive, None).await.unwrap();
    // Killed while unpacking, before and after the rename, and while writing the index.
    std::fs::create_dir_all(dir.path().join("images/tmp/7/fs")).unwrap();
    std::fs::create_dir_all(dir.path().join("images/layers/0123/fs")).unwrap();
    std::fs::write(dir.path().join("images/index.new"), "{ half").unwrap();
    let images = open(dir.path());
    assert!(images.layer_dirs(&images.find("app").unwrap())[0].join("v").is_file());
    assert_eq!((entries(dir.path(), "images/layers"), entries(dir.path(), "images/tmp")), (1, 0));
    drop(images);
    // An image whose layer a disk lost is not offered.
    let layers = dir.path().join("images/layers");
    let lost = std::fs::read_dir(&layers).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(lost).unwrap();
    assert!(open(dir.path()).list().is_empty());
    // A broken index is an error, never an empty store.
    std::fs::write(dir.path().join("images/index.json"), "{ half").unwrap();
    assert!(Images::open(Config { data_dir: dir.path().into(), layer_max: Bytes(1 << 20) }).is_err());
}

#[tokio::test]
async fn lying_and_broken_archives_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let attempt = async |bytes: Vec<u8>| {
        let archive = dir.path().join("archive");
        std::fs::write(&archive, bytes).unwrap();
        let error = images.import(&archive, Some("x")).await.unwrap_err();
        assert_eq!((entries(dir.path(), "images/layers"), entries(dir.path(), "images/tmp")), (0, 0), "{error}");
        error
    };
    assert!(matches!(attempt(b"not a tar, but long enough to be looked at ".repeat(40)).await, Error::Tar(..)));
    assert!(matches!(attempt(layer(&[("file", "x")])).await, Error::UnknownArchive(_)));
    assert!(matches!(attempt(layer(&[("manifest.json", "{]")])).await, Error::Document { .. }));
    assert!(matches!(attempt(layer(&[("manifest.json", &" ".repeat(5 << 20))])).await, Error::DocumentTooLarge { .. }));
    let escape = r#"[{"Config":"../../etc/passwd","RepoTags":null,"Layers":[]}]"#;
    assert!(matches!(attempt(layer(&[("manifest.json", escape)])).await, Error::Missing(_)));
    let mut layout = Layout::default();
    let image = layout.image(&[layer(&[("a", "1")])], ARCH);
    layout.name(image, None);
    for blob in 0..layout.blobs.len() {
        let mut lying = layout.clone();
        lying.blobs[blob].1.push(b' ');
        assert!(matches!(attempt(lying.tar()).await, Error::Digest { .. }), "blob {blob}");
        let mut missing = layout.clone();
        missing.blobs.remove(blob);
        assert!(matches!(attempt(missing.tar()).await, Error::Missing(_)), "blob {blob}");
    }
    let mut foreign = Layout::default();
    let image = foreign.image(&[layer(&[("a", "1")])], "s390x");
    let index = foreign.index(&[(image, "s390x")]);
    foreign.name(index, None);
    let error = attempt(foreign.tar()).await;
    assert!(error.to_string().contains("linux/s390x"), "{error}");
    assert!(matches!(images.import(Path::new("/dev/zero"), None).await, Err(Error::Archive(..))));
    assert!(matches!(images.import(Path::new("/nonexistent"), None).await, Err(Error::Archive(..))));
}

/// An image of two layers for this machine, within an index with one for another.
fn sample() -> (Layout, serde_json::Value) {
    let mut layout = Layout::default();
    // Larger than one packet, and not compressible to nothing.
    let noise: String =
        (0..40_000u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let ours = layout.image(&[layer(&[("etc/a", &noise)]), layer(&[("etc/.wh.a", ""), ("b", "2")])], ARCH);
    let theirs = layout.image(&[layer(&[("a", "s390x")])], "s390x");
    let index = layout.index(&[(theirs, "s390x"), (ours, ARCH)]);
    (layout, index)
}

#[tokio::test]
async fn a_real_registry_is_pulled_from() {
    let Some(registry) = Registry::start() else { return };
    let (layout, index) = sample();
    registry.push(&layout, "team/app", "v1", &index).await;
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let name = format!("{}/team/app:v1", registry.address);
    let (sender, mut progress) = tokio::sync::mpsc::channel(100);
    let image = images.pull(&name, Some(sender)).await.unwrap();
    assert_eq!(image.references, std::slice::from_ref(&name));
    let mut last = None;
    while let Some(p) = progress.recv().await {
        last = Some(p);
    }
    let last = last.unwrap();
    assert_eq!((last.layer, last.layers, last.bytes), (2, 2, last.total));
    assert!(last.total > 1000);
    let dirs = images.layer_dirs(&image);
    assert!(dirs[0].join("etc/a").is_file() && dirs[1].join("b").is_file());
    assert_eq!(entries(dir.path(), "images/tmp"), 0);
    // By the index's digest: the same image, and found by it.
    let by_digest = format!("{}/team/app@{}", registry.address, index["digest"].as_str().unwrap());
    assert_eq!(images.find(&by_digest).unwrap().id, image.id);
    assert_eq!(images.pull(&by_digest, None).await.unwrap().references.len(), 2);
    let missing = images.pull(&format!("{}/team/app:v2", registry.address), None).await.unwrap_err().to_string();
    assert!(missing.contains(&registry.address) && missing.contains("v2") && missing.contains("check"), "{missing}");
    let localhost = name.replace("127.0.0.1", "localhost");
    assert_eq!(images.pull(&localhost, None).await.unwrap().id, image.id);
}

#[tokio::test]
async fn broken_transfers_are_taken_up_again() {
    for fault in [Fault::None, Fault::TruncateOnce, Fault::TruncateOnceNoRanges] {
        let (layout, index) = sample();
        let registry = Faulty::start(layout, index, fault).await;
        let dir = tempfile::tempdir().unwrap();
        let images = open(dir.path());
        let image = images.pull(&format!("{}/app", registry.address), None).await.unwrap();
        assert_eq!(image.layers.len(), 2, "{fault:?}");
        let expected = if fault == Fault::None { 2 } else { 3 };
        assert_eq!(registry.layers_sent.load(std::sync::atomic::Ordering::SeqCst), expected, "{fault:?}");
    }
}

#[tokio::test]
async fn hostile_registries_get_nothing_in() {
    for (fault, words) in [
        (Fault::TruncateAlways, "after 5 attempts"),
        (Fault::Lie, "tampered"),
        (Fault::TooLong, "did not deliver"),
        (Fault::EndlessManifest, "larger than"),
        (Fault::Unauthorised, "login is not supported yet"),
        (Fault::RateLimit, "rate limit"),
    ] {
        let (layout, index) = sample();
        let registry = Faulty::start(layout, index, fault).await;
        let dir = tempfile::tempdir().unwrap();
        let images = open(dir.path());
        let error = images.pull(&format!("{}/app", registry.address), None).await.unwrap_err().to_string();
        assert!(error.contains(words), "{fault:?}: {error}");
        assert!(images.list().is_empty());
        assert_eq!((entries(dir.path(), "images/layers"), entries(dir.path(), "images/tmp")), (0, 0), "{fault:?}");
    }
}

#[tokio::test]
async fn pulls_of_one_name_share_the_work_and_outlive_the_first() {
    let (layout, index) = sample();
    let registry = Faulty::start(layout, index, Fault::None).await;
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let name = format!("{}/app", registry.address);
    {
        // The first to ask gives up at once.
        let first = images.pull(&name, None);
        tokio::pin!(first);
        let _ = futures_util::poll!(&mut first);
        let others = (0..8).map(|_| images.pull(&name, None));
        let others = futures_util::future::join_all(others);
        tokio::select! { biased; _ = &mut first => {}, () = std::future::ready(()) => {} }
        assert!(others.await.into_iter().all(|r| r.is_ok()));
    }
    assert_eq!(registry.layers_sent.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert_eq!(images.list().len(), 1);
}

#[tokio::test]
async fn where_nobody_listens_the_error_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = open(dir.path()).pull(&format!("{free}/app"), None).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains("cannot be reached") && words.contains(&free.to_string()), "{words}");
}

fn run(dir: &Path, line: &str) {
    let words: Vec<_> = line.split(' ').collect();
    let output =
        std::process::Command::new(words[0]).args(&words[1..]).current_dir(dir).env("HOME", dir).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Images as umoci and skopeo write them: archives of both kinds, a layout, and from a registry they pushed to.
#[tokio::test]
async fn what_other_tools_make_is_read() {
    let missing = |tool: &&str| std::process::Command::new(tool).arg("--version").output().is_err();
    if let Some(tool) = ["umoci", "skopeo"].iter().find(|t| missing(t)) {
        eprintln!("SKIPPED: {tool} is not installed");
        return;
    }
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let rootless = if nix::unistd::geteuid().is_root() { "" } else { " --rootless" };
    run(at, "umoci init --layout made");
    run(at, "umoci new --image made:v1");
    run(at, &format!("umoci unpack{rootless} --image made:v1 bundle"));
    std::fs::create_dir(at.join("bundle/rootfs/etc")).unwrap();
    std::fs::write(at.join("bundle/rootfs/etc/gone"), "x").unwrap();
    std::fs::write(at.join("bundle/rootfs/etc/stays"), "x").unwrap();
    run(at, "umoci repack --refresh-bundle --image made:v1 bundle");
    std::fs::remove_file(at.join("bundle/rootfs/etc/gone")).unwrap();
    run(at, "umoci repack --image made:v1 bundle");
    run(at, "umoci config --image made:v1 --config.entrypoint /bin/sh --config.user 1000:1000");
    run(at, "skopeo copy oci:made:v1 docker-archive:docker.tar:made/by-skopeo:1");
    run(at, "skopeo copy oci:made:v1 oci-archive:oci.tar:made/by-skopeo:2");
    let name = format!("{}/made/by-skopeo:3", registry.address);
    run(at, &format!("skopeo copy --dest-tls-verify=false oci:made:v1 docker://{name}"));

    let images = open(at);
    images.import(&at.join("docker.tar"), None).await.unwrap();
    images.import(&at.join("oci.tar"), None).await.unwrap();
    images.import(&at.join("made"), Some("from-layout")).await.unwrap();
    images.pull(&name, None).await.unwrap();
    for name in ["made/by-skopeo:1", "made/by-skopeo:2", "from-layout", &name] {
        let image = images.find(name).unwrap();
        assert_eq!((image.config.entrypoint[0].as_str(), image.config.user.as_str()), ("/bin/sh", "1000:1000"));
        let dirs = images.layer_dirs(&image);
        assert!(dirs[0].join("etc/stays").is_file(), "{name}");
        let gone = std::fs::symlink_metadata(dirs[1].join("etc/gone")).unwrap();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&gone.file_type()), "{name}: no whiteout");
    }
    assert_eq!(entries(at, "images/layers"), 2, "one image in four forms shares its layers");
}

const CHILD: &str = "ENTROOS_TEST_IMPORTS";

/// Run as a child of the test below: imports and removes until it is killed, and says what is done.
#[tokio::test]
async fn child_imports_until_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let images = open(dir);
    for n in images.list().len().. {
        let archive = dir.join("saved.tar");
        std::fs::write(&archive, docker_archive(&[&format!("n{n}")], &[layer(&[("n", &n.to_string())])])).unwrap();
        images.import(&archive, None).await.unwrap();
        println!("done n{n}");
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_imports_until_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Killed right after an acknowledgement, or some way into the next import.
        let first = lines.by_ref().filter_map(|l| l.rsplit_once("done ").map(|(_, n)| n.to_owned())).nth(round % 3);
        for _ in 0..round * 2000 {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(first);
        acknowledged.extend(lines.filter_map(|l| l.rsplit_once("done ").map(|(_, n)| n.to_owned())));
        let images = open(dir.path());
        for name in &acknowledged {
            let image = images.find(name).unwrap();
            assert_eq!(std::fs::read_to_string(images.layer_dirs(&image)[0].join("n")).unwrap(), name[1..]);
        }
        assert_eq!(entries(dir.path(), "images/layers"), images.list().len(), "a layer without an image is left");
        assert_eq!(entries(dir.path(), "images/tmp"), 0);
    }
    assert!(acknowledged.len() >= 12);
}

/// Other programs' proxy settings must not keep a node from its own registry.
#[tokio::test]
async fn child_pulls_despite_a_proxy() {
    if std::env::var_os("ENTROOS_TEST_PROXIED").is_some() {
        let (layout, index) = sample();
        let registry = Faulty::start(layout, index, Fault::None).await;
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).pull(&format!("{}/app", registry.address), None).await.unwrap();
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_pulls_despite_a_proxy"])
        .envs(["ENTROOS_TEST_PROXIED", "HTTP_PROXY", "http_proxy", "ALL_PROXY"].map(|n| (n, "http://127.0.0.1:1")))
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}
