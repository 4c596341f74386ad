//! The folder that a demo's log lies in.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::log::disk::medium::Medium;

/// A thread that still writes may put a file into a folder that is being removed.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// A new folder for nobody else; gone when it is dropped.
pub(super) fn make() -> io::Result<TempDir> {
    let own = Permissions::from_mode(0o700);
    let mut builder = tempfile::Builder::new();
    builder.prefix("sluicegate-demo-").permissions(own);
    builder.tempdir_in(place())
}

/// Bytes that are free where a folder lies, for others than root. `None`: the system does not say.
pub(super) fn free(path: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(path).ok()?;
    Some(told.f_bavail.saturating_mul(told.f_frsize))
}

/// Where temporary files go. If that is in memory, and nobody asked for it, the other usual place: this is
/// about a log on disk.
fn place() -> PathBuf {
    let usual = std::env::temp_dir();
    let lasting = Path::new("/var/tmp");
    let in_memory = |path: &Path| !Medium::of(path).survives_node();
    let asked = std::env::var_os("TMPDIR").is_some();
    if !asked && in_memory(&usual) && lasting.is_dir() && !in_memory(lasting) {
        lasting.to_owned()
    } else {
        usual
    }
}

/// Removes it.
///
/// # Errors
/// It is still there.
pub(super) fn remove(folder: TempDir) -> io::Result<()> {
    let path = folder.keep();
    let mut result = std::fs::remove_dir_all(&path);
    for _ in 0..TRIES {
        if result.is_ok() || !path.exists() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
        result = std::fs::remove_dir_all(&path);
    }
    result
}
