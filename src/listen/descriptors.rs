//! File descriptors: connections must not take those that the log and the receivers need.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Most that is asked for: a system without a limit counts in billions.
const MOST: u64 = 1 << 20;

/// Raises this process' limit as far as the system lets it, and says what it is then. Many systems start a
/// process with 1,024 and let it have half a million.
pub fn raise() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let current = now.current.unwrap_or(MOST);
    let wanted = now.maximum.unwrap_or(MOST).min(MOST);
    if wanted <= current {
        return current;
    }
    let mut raised = now;
    raised.current = Some(wanted);
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => current,
    }
}

/// Connections of senders, of those that the configuration allows, if `kept` descriptors are kept for others.
pub fn connections(allowed: usize, descriptors: u64, kept: u64) -> usize {
    let rest = usize::try_from(descriptors.saturating_sub(kept)).unwrap_or(usize::MAX);
    // With next to none of them it still has to serve somebody.
    allowed.min(rest.max(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_for_what_is_not_a_sender() {
        assert_eq!(connections(1_024, 524_288, 200), 1_024);
        assert_eq!(connections(1_024, 1_024, 200), 824);
        assert_eq!(connections(1_024, 64, 200), 8);
        assert_eq!(connections(3, 64, 200), 3);
    }
}
