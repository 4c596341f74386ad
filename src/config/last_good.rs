//! The last configuration that worked, kept beside the log on disk, for a start that finds a broken one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::endpoint::Secret;
use super::tree;

/// Its name in the folder of the log. The log knows its own files by their names, and leaves others alone.
pub const NAME: &str = "config.last-good.yaml";
/// Its name while it is written.
const NEW: &str = "config.last-good.new";

/// Keeps the text of a configuration file that works, readable to this user only: it may hold passwords.
/// Nothing is written where it is there already.
///
/// # Errors
/// When the folder is not there or does not take it; the one that was there stays.
pub fn keep(folder: &Path, file: &Secret) -> io::Result<()> {
    let same = |there: Option<Secret>| there.is_some_and(|there| there.expose() == file.expose());
    let private = || {
        let there = fs::symlink_metadata(folder.join(NAME));
        there.is_ok_and(|there| there.is_file() && there.permissions().mode() & 0o777 == 0o600)
    };
    if find(folder).is_ok_and(same) && private() {
        return Ok(());
    }
    let new = folder.join(NEW);
    // One that a crash has left may not be ours to read.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    opened.write_all(file.expose().as_bytes())?;
    // Whole or not at all: a name that leads to half of it would be a second broken configuration.
    opened.sync_all()?;
    fs::rename(&new, folder.join(NAME))?;
    File::open(folder)?.sync_all()
}

/// What was kept in the folder, if anything was.
///
/// # Errors
/// When it is there and cannot be read.
pub fn find(folder: &Path) -> io::Result<Option<Secret>> {
    let file = match File::open(folder.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = String::new();
    file.take(tree::MAX_BYTES as u64 + 1)
        .read_to_string(&mut text)?;
    if text.len() > tree::MAX_BYTES {
        return Err(io::Error::other(format!("{NAME} is too large")));
    }
    Ok(Some(Secret::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(find(folder).unwrap().is_none());
        for text in ["remote_write: []\n", "", "remote_write: []\n"] {
            keep(folder, &Secret::new(text)).unwrap();
            assert_eq!(find(folder).unwrap().unwrap().expose(), text);
        }
        let mode = || {
            fs::metadata(folder.join(NAME))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode(), 0o600);
        // Somebody has looked at it, and opened it to all.
        fs::set_permissions(folder.join(NAME), fs::Permissions::from_mode(0o644)).unwrap();
        keep(folder, &Secret::new("remote_write: []\n")).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn what_a_crash_left_half_written_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), &Secret::new("good")).unwrap();
        fs::write(folder.path().join(NEW), "ha").unwrap();
        assert_eq!(find(folder.path()).unwrap().unwrap().expose(), "good");
        keep(folder.path(), &Secret::new("better")).unwrap();
        assert_eq!(find(folder.path()).unwrap().unwrap().expose(), "better");
        assert!(!folder.path().join(NEW).exists());
    }

    #[test]
    fn a_folder_that_takes_nothing_is_an_error_and_loses_nothing() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        fs::write(&file, "not a folder").unwrap();
        assert!(keep(&file, &Secret::new("text")).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "not a folder");
    }
}
