//! How much memory the process may have: cgroup v2, cgroup v1, or the machine.

use std::fs;
use std::path::Path;

use crate::units::ByteSize;

/// Below this, one request of the largest size does not fit.
pub(super) const LEAST: ByteSize = ByteSize(32 << 20);
/// Above this, a typing error is likelier.
pub(super) const MOST: ByteSize = ByteSize(1 << 40);
/// More is only taken when asked for.
const MOST_BY_DEFAULT: u64 = 1 << 30;

/// 75 % of what there is, in whole MiB, between 32 MiB and 1 GiB. The rest is for code, stacks,
/// sockets, and what the allocator keeps.
pub(super) fn default_limit(available: Option<u64>) -> ByteSize {
    let share = available.map_or(MOST_BY_DEFAULT, |bytes| bytes / 4 * 3);
    let whole = share.min(MOST_BY_DEFAULT) >> 20 << 20;
    ByteSize(whole.max(LEAST.0))
}

/// Bytes this process may use. `root` is `/`, except in tests.
pub(super) fn available(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| {
        // `hierarchy:controllers:path`; version 2 has hierarchy 0 and no controllers.
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if hierarchy == "0" && controllers.is_empty() {
            return lowest(root, "sys/fs/cgroup", path, "memory.max");
        }
        let memory = controllers
            .split(',')
            .any(|controller| controller == "memory");
        memory.then(|| lowest(root, "sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))?
    });
    limits.chain(machine(root)).min()
}

/// The lowest limit on the way from a group up to the mount. In a container the mount often *is*
/// the group while the path is the host's, so that only the last step finds a file.
fn lowest(root: &Path, mount: &str, group: &str, file: &str) -> Option<u64> {
    let mount = root.join(mount);
    let group = Path::new(group.trim_start_matches('/'));
    let steps = group.ancestors().map(|step| mount.join(step).join(file));
    // `max` in version 2 and a number near 2^63 in version 1 mean: no limit.
    steps
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
        .min()
}

fn machine(root: &Path) -> Option<u64> {
    let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_lowest_limit_up_the_tree_counts_in_both_versions() {
        let v2 = host(&[
            ("proc/self/cgroup", "0::/pod/container\n"),
            ("proc/meminfo", "MemTotal:       16000000 kB\n"),
            ("sys/fs/cgroup/pod/container/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "268435456\n"),
        ]);
        assert_eq!(available(v2.path()), Some(256 << 20));
        let v1 = host(&[
            ("proc/self/cgroup", "5:cpu:/x\n4:memory:/x/y\n0::/\n"),
            (
                "sys/fs/cgroup/memory/x/y/memory.limit_in_bytes",
                "134217728\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(available(v1.path()), Some(128 << 20));
        let namespaced = host(&[
            ("proc/self/cgroup", "0::/host/path/that/is/not/mounted\n"),
            ("sys/fs/cgroup/memory.max", "67108864\n"),
        ]);
        assert_eq!(available(namespaced.path()), Some(64 << 20));
    }

    #[test]
    fn without_a_cgroup_limit_the_machine_counts_and_without_that_nothing() {
        let machine = host(&[("proc/meminfo", "MemFree: 1 kB\nMemTotal:  1048576 kB\n")]);
        assert_eq!(available(machine.path()), Some(1 << 30));
        assert_eq!(available(host(&[]).path()), None);
    }

    #[test]
    fn the_default_is_three_quarters_between_32_mib_and_1_gib() {
        for (available, limit) in [
            (None, "1GiB"),
            (Some(64 << 30), "1GiB"),
            (Some(256 << 20), "192MiB"),
            (Some((256 << 20) + 4096), "192MiB"),
            (Some(16 << 20), "32MiB"),
        ] {
            assert_eq!(default_limit(available).to_string(), limit, "{available:?}");
        }
    }
}
