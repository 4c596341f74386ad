//! What is wrong with a configuration, in the operator's words.

use std::fmt;

/// Everything that is wrong, in the order in which it was found. Printed one problem a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

/// One thing that is wrong: `FILE:LINE: KEY: VALUE: REASON`, without what is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The file and, where known, the line (from 1). Nothing for a flag.
    pub place: Option<String>,
    /// Key as written in the file (`remote_write[0].queue_config.capacity`), or the flag.
    pub key: String,
    /// What was written there. Never a secret.
    pub value: Option<String>,
    /// Why that does not work, and what would.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [
            self.place.as_deref(),
            Some(&self.key),
            self.value.as_deref(),
        ] {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                write!(f, "{part}: ")?;
            }
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
