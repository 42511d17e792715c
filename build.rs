//! Makes the fully static link work.
//!
//! librocksdb-sys asks for `dylib=stdc++`. Were the linker to take the shared libstdc++, a static program would crash in
//! `_init` before `main` although `ldd` calls it static. A directory that holds the archives alone, searched first,
//! leaves the linker no choice. `make build` checks with `readelf -d` that no NEEDED entry is left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CXX");
    let full = env::var_os("CARGO_FEATURE_FULL").is_some();
    if !full || env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let rocksdb = root.join(".rocksdb/librocksdb.a");
    println!("cargo:rerun-if-changed={}", rocksdb.display());
    assert!(
        rocksdb.exists(),
        "RocksDB is not built: run `scripts/rocksdb.sh` once (or `make build`), then cargo again"
    );

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let archives = out.join("archives");
    fs::create_dir_all(&archives).expect("create the archive directory");
    let cxx = env::var("CXX").unwrap_or_else(|_| "c++".into());
    for name in ["libstdc++.a", "libseccomp.a"] {
        copy_archive(&cxx, name, &archives.join(name));
    }
    println!("cargo:rustc-link-search=native={}", archives.display());
}

/// Copies the archive the compiler would link, which `-print-file-name` names by its path.
fn copy_archive(cxx: &str, name: &str, to: &Path) {
    let answer = Command::new(cxx)
        .arg(format!("-print-file-name={name}"))
        .output()
        .unwrap_or_else(|e| panic!("cannot run {cxx}: {e}: run `scripts/packages.sh`"));
    let path = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    // The compiler echoes the bare name when it knows no such file.
    assert!(path.is_absolute(), "{name} is not installed: run `scripts/packages.sh`");
    fs::copy(&path, to).unwrap_or_else(|e| panic!("cannot copy {}: {e}", path.display()));
}
