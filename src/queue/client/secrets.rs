//! Secrets: never printed, and read again when their file changes.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A file is looked at no more often than this.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Far above any token. A mistaken path must not be read into memory whole.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A value that no log, page or error may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself. Its users mark what they make of it as sensitive.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration.
    Inline(Secret),
    /// In a file, which may change or be replaced at any time, as mounted Kubernetes secrets are.
    File(PathBuf),
}

/// A secret that follows its source.
pub(super) struct Watched {
    source: SecretSource,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    checked: Option<Instant>,
    /// The file that `value` was read from. `None`: read again at the next check.
    stamp: Option<Stamp>,
    value: Option<Arc<Secret>>,
    problem: Option<String>,
}

/// Tells one content of a file from another without reading it. The inode is what changes when a
/// mounted secret is swapped by its symbolic links.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: (u64, u64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let inode = (0, 0);
        Self {
            modified: metadata.modified().ok(),
            bytes: metadata.len(),
            inode,
        }
    }
}

impl Watched {
    pub(super) fn new(source: SecretSource) -> Self {
        Self {
            source,
            state: Mutex::default(),
        }
    }

    /// The value to use now: the last good one while the file cannot be read.
    ///
    /// Blocks for one `stat` a second, and for a small read after a change: too short to be worth
    /// a thread of its own.
    ///
    /// # Errors
    /// When the file could never be read. The text names the path and the reason.
    pub(super) fn get(&self, now: Instant) -> Result<Arc<Secret>, String> {
        let path = match &self.source {
            SecretSource::Inline(secret) => return Ok(Arc::new(secret.clone())),
            SecretSource::File(path) => path,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .checked
            .is_none_or(|checked| now >= checked + CHECK_INTERVAL)
        {
            state.checked = Some(now);
            state.refresh(path);
        }
        match (&state.value, &state.problem) {
            (Some(value), _) => Ok(Arc::clone(value)),
            (None, problem) => Err(problem.clone().unwrap_or_default()),
        }
    }

    /// Why the file cannot be read, if so, as of the last use.
    pub(super) fn problem(&self) -> Option<String> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .problem
            .clone()
    }
}

impl State {
    fn refresh(&mut self, path: &Path) {
        match self.read_if_changed(path) {
            Ok(()) => {
                if self.problem.take().is_some() {
                    tracing::info!(path = %path.display(), "secret file is readable again");
                }
            }
            Err(problem) => {
                if self.problem.as_ref() != Some(&problem) {
                    let kept = self.value.is_some();
                    tracing::warn!(problem, kept_last_value = kept, "secret file is not usable");
                }
                self.stamp = None;
                self.problem = Some(problem);
            }
        }
    }

    fn read_if_changed(&mut self, path: &Path) -> Result<(), String> {
        let failed = |error| format!("secret file {}: {error}", path.display());
        let mut file = File::open(path).map_err(failed)?;
        // Of the open file, so that the stamp and the content belong together.
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        if self.stamp.as_ref() == Some(&stamp) {
            return Ok(());
        }
        let mut text = String::new();
        file.by_ref()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format!(
                "secret file {}: larger than 64 KiB",
                path.display()
            ));
        }
        // Editors and `echo` leave a newline; Prometheus trims all white space too.
        let text = text.trim();
        if text.is_empty() {
            // A file that is being rewritten is empty for a moment.
            return Err(format!("secret file {}: empty", path.display()));
        }
        self.value = Some(Arc::new(Secret::new(text)));
        self.stamp = Some(stamp);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Clock(Instant);

    impl Clock {
        fn new() -> Self {
            Self(Instant::now())
        }

        fn next_check(&mut self) -> Instant {
            self.0 += CHECK_INTERVAL;
            self.0
        }
    }

    fn exposed(watched: &Watched, now: Instant) -> String {
        watched.get(now).unwrap().expose().to_owned()
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let source = SecretSource::Inline(Secret::new("hunter2"));
        assert!(!format!("{source:?}").contains("hunter2"));
    }

    #[test]
    fn a_changed_file_is_noticed_within_a_second_and_not_looked_at_sooner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let watched = Watched::new(SecretSource::File(path.clone()));
        let mut clock = Clock::new();
        assert_eq!(exposed(&watched, clock.0), "one");

        fs::write(&path, "three\r\n").unwrap();
        assert_eq!(exposed(&watched, clock.0 + CHECK_INTERVAL / 2), "one");
        assert_eq!(exposed(&watched, clock.next_check()), "three");
    }

    #[cfg(unix)]
    #[test]
    fn a_swapped_symbolic_link_is_noticed() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, token) in [("v1", "aaa"), ("v2", "bbb")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("token"), token).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/token", at("token")).unwrap();
        let watched = Watched::new(SecretSource::File(at("token")));
        let mut clock = Clock::new();
        assert_eq!(exposed(&watched, clock.0), "aaa");

        symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_eq!(exposed(&watched, clock.next_check()), "bbb");
    }

    #[test]
    fn the_last_good_value_outlives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "good").unwrap();
        let watched = Watched::new(SecretSource::File(path.clone()));
        let mut clock = Clock::new();
        assert_eq!(exposed(&watched, clock.0), "good");
        assert_eq!(watched.problem(), None);

        fs::remove_file(&path).unwrap();
        assert_eq!(exposed(&watched, clock.next_check()), "good");
        assert!(watched.problem().unwrap().contains("token: No such file"));

        fs::write(&path, " \n").unwrap();
        assert_eq!(exposed(&watched, clock.next_check()), "good");
        assert!(watched.problem().unwrap().ends_with("token: empty"));

        fs::write(&path, "better").unwrap();
        assert_eq!(exposed(&watched, clock.next_check()), "better");
        assert_eq!(watched.problem(), None);
    }

    #[test]
    fn a_file_that_never_held_a_secret_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let watched = Watched::new(SecretSource::File(path.clone()));
        let mut clock = Clock::new();
        assert!(
            watched
                .get(clock.0)
                .unwrap_err()
                .contains("token: No such file")
        );

        fs::write(&path, vec![b'x'; 65 * 1024]).unwrap();
        assert!(
            watched
                .get(clock.next_check())
                .unwrap_err()
                .ends_with("larger than 64 KiB")
        );

        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(
            watched
                .get(clock.next_check())
                .unwrap_err()
                .contains("UTF-8")
        );
    }
}
