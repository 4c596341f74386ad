//! What is wrong with a configuration, in the operator's words.

use std::collections::HashSet;
use std::fmt;

/// Everything that is wrong, by line. Printed one problem a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

/// One thing that is wrong: `FILE:LINE: KEY: VALUE: REASON`, without what is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The file. Nothing for a flag.
    pub file: Option<String>,
    /// Line in the file, from 1, where known.
    pub line: Option<u64>,
    /// Key as written in the file (`remote_write[0].queue_config.capacity`), or the flag.
    pub key: String,
    /// What was written there. Never a secret.
    pub value: Option<String>,
    /// Why that does not work, and what would.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, _) => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, "{value}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Who said it: a key of the file with its line, or a flag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// `server.listen`, `remote_write[0].url` or `--listen`.
    pub(super) key: String,
    /// Only for a key of the file.
    pub(super) line: Option<u64>,
}

impl Source {
    pub(super) fn flag(flag: &str) -> Self {
        Self {
            key: flag.to_owned(),
            line: None,
        }
    }

    /// A key below this one, at a line of its own. Flags have nothing below them.
    pub(super) fn below(&self, key: &str, line: Option<u64>) -> Self {
        let key = match self.key.as_str() {
            "" => key.to_owned(),
            flag if self.is_flag() => flag.to_owned(),
            above => format!("{above}.{key}"),
        };
        Self { key, line }
    }

    /// A key of the file can look like one, but has a line.
    fn is_flag(&self) -> bool {
        self.line.is_none() && self.key.starts_with("--")
    }
}

/// A value, and who said it.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) source: Source,
}

/// Collects problems while a configuration is read.
#[derive(Clone)]
pub(super) struct Problems {
    file: Option<String>,
    found: Vec<Problem>,
}

impl Problems {
    /// `file` is how the operator named it.
    pub(super) fn new(file: Option<String>) -> Self {
        Self {
            file,
            found: Vec::new(),
        }
    }

    /// A problem with a value that may be shown.
    pub(super) fn refuse(
        &mut self,
        source: &Source,
        value: impl fmt::Display,
        reason: impl AsRef<str>,
    ) {
        let value = Some(shorten(&value.to_string())).filter(|value| !value.is_empty());
        let value = value.unwrap_or_else(|| "\"\"".to_owned());
        self.push(source, Some(value), reason.as_ref());
    }

    /// A problem without a value: it is secret, missing, or says nothing.
    pub(super) fn note(&mut self, source: &Source, reason: impl AsRef<str>) {
        self.push(source, None, reason.as_ref());
    }

    fn push(&mut self, source: &Source, value: Option<String>, reason: &str) {
        if self.is_full() {
            return;
        }
        let file = if source.is_flag() {
            None
        } else {
            self.file.clone()
        };
        let line = source.line;
        // The YAML library's own words may take several lines.
        let reason = reason.replace(|c: char| c.is_control(), " ");
        self.found.push(Problem {
            file,
            line,
            key: shorten(&source.key),
            value,
            reason,
        });
    }

    /// Whether there are so many that more would help nobody.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= 1_000
    }

    /// Whether something at or below this key was refused already.
    pub(super) fn about(&self, key: &str) -> bool {
        self.found
            .iter()
            .any(|problem| problem.key.starts_with(key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Flags first, then the file from top to bottom; once each, though a flag is about all queues.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        self.found
            .sort_by_key(|problem| (problem.file.is_some(), problem.line));
        let mut told = HashSet::new();
        self.found.retain(|problem| told.insert(problem.clone()));
        ConfigErrors(self.found)
    }
}

/// One line, of bearable length: a problem is a line of text.
fn shorten(value: &str) -> String {
    const MOST: usize = 120;
    let mut shown: String = value
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if value.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}
