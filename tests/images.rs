//! Images from archives and from a real registry, through the public interface.
#![cfg(feature = "full")]

mod image_support;

use std::path::Path;

use entroos::base::Bytes;
use entroos::container::image::{Config, Error, Images};
use image_support::{Layout, docker_archive, layer};

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
