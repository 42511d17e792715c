//! `entroos applets install DIR`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::NAMES;
use crate::cli::output;

/// What stands where a link is to be.
enum Found {
    Nothing,
    /// A link to this very program.
    Ours,
    /// A link to another `entroos`, from before a move or an upgrade.
    Older,
}

/// Links the names to this program.
///
/// # Errors
/// Where the directory cannot be written, or holds a file of the name that is not ours; nothing is changed then.
pub fn run(dir: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find out where this program is")?;
    for (name, linked) in link(dir, &program)? {
        output::line(format!("{} {}", dir.join(name).display(), if linked { "linked" } else { "unchanged" }))?;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let same =
        |entry: PathBuf| fs::canonicalize(entry).ok().is_some_and(|entry| Some(entry) == fs::canonicalize(dir).ok());
    if !std::env::split_paths(&path).any(same) {
        eprintln!("hint: {} is not on PATH: call the names by their path, or add it", dir.display());
    }
    Ok(())
}

/// Which names were linked anew, and which were already.
fn link(dir: &Path, program: &Path) -> anyhow::Result<Vec<(&'static str, bool)>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    // All are looked at before one is changed.
    let found = NAMES.map(|name| look(&dir.join(name), program).map(|found| (name, found)));
    let mut done = Vec::new();
    for found in found.into_iter().collect::<anyhow::Result<Vec<_>>>()? {
        let (name, found) = found;
        let path = dir.join(name);
        if let Found::Nothing | Found::Older = found {
            // Made beside and moved into place, so that the name never is without a program.
            let temporary = dir.join(format!(".{name}.{}", std::process::id()));
            let made = symlink(program, &temporary).and_then(|()| fs::rename(&temporary, &path));
            if made.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            made.with_context(|| format!("cannot make the link {}", path.display()))?;
        }
        done.push((name, !matches!(found, Found::Ours)));
    }
    Ok(done)
}

fn look(path: &Path, program: &Path) -> anyhow::Result<Found> {
    let foreign = "it is not ours, so it stays: move it away or choose another directory";
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Err(e) => Err(e).with_context(|| format!("cannot look at {}", path.display())),
        Ok(there) if there.is_symlink() => match fs::read_link(path) {
            Ok(target) if target == program => Ok(Found::Ours),
            Ok(target) if target.file_name().is_some_and(|name| name == "entroos") => Ok(Found::Older),
            Ok(target) => bail!("{} is a link to {}: {foreign}", path.display(), target.display()),
            Err(e) => Err(e).with_context(|| format!("cannot read the link {}", path.display())),
        },
        Ok(_) => bail!("{} is there already: {foreign}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_once_and_renewed_after_a_move() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        let (first, second) = (dir.path().join("a/entroos"), dir.path().join("b/entroos"));
        assert!(link(&bin, &first).unwrap().iter().all(|(_, linked)| *linked));
        assert!(link(&bin, &first).unwrap().iter().all(|(_, linked)| !linked));
        assert!(link(&bin, &second).unwrap().iter().all(|(_, linked)| *linked));
        for name in NAMES {
            assert_eq!(fs::read_link(bin.join(name)).unwrap(), second);
        }
    }

    #[test]
    fn a_foreign_file_stays_and_nothing_else_is_made() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("morphdb"), "mine").unwrap();
        let error = link(dir.path(), Path::new("/x/entroos")).unwrap_err().to_string();
        assert!(error.contains("morphdb") && error.contains("not ours"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::remove_file(dir.path().join("morphdb")).unwrap();
        symlink("/bin/true", dir.path().join("nko")).unwrap();
        assert!(link(dir.path(), Path::new("/x/entroos")).is_err());
    }
}
