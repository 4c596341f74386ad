//! What a folder lies on: what it survives. Read from `/proc/self/mountinfo` (proc(5)).

use std::path::Path;

/// What a folder lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A volume of its own, or a disk of the machine.
    Volume,
    /// Kubernetes' `emptyDir`: gone with the pod.
    EmptyDir,
    /// A container's own layer: gone with the container, which outlives its process.
    Overlay,
    /// The same in a pod, where a container does not outlive its process.
    PodLayer,
    /// Memory: gone with the node.
    Memory,
    /// The same in a pod: an `emptyDir` too.
    PodMemory,
}

/// Kubernetes sets this in every container of a pod.
const POD_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";

impl Medium {
    /// What this folder, or the nearest one above it that is there, lies on. A disk, if nothing is known.
    pub fn of(path: &Path) -> Self {
        let there = path.ancestors().find_map(|path| path.canonicalize().ok());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo");
        let found = match (there, mounts) {
            (Some(path), Ok(mounts)) => Self::in_mounts(&path, &mounts),
            _ => Self::Volume,
        };
        if std::env::var_os(POD_VARIABLE).is_some() {
            found.in_pod()
        } else {
            found
        }
    }

    fn in_pod(self) -> Self {
        match self {
            Self::Overlay => Self::PodLayer,
            Self::Memory => Self::PodMemory,
            other => other,
        }
    }

    /// What an absolute path without links lies on, by the text of a mountinfo.
    fn in_mounts(path: &Path, mounts: &str) -> Self {
        let holding = mounts.lines().filter_map(Mount::parse);
        let holding = holding.filter(|mount| path.starts_with(mount.point));
        // Of mounts on the same point the last one is on top.
        let Some(mount) = holding.max_by_key(|mount| Path::new(mount.point).components().count())
        else {
            return Self::Volume;
        };
        match mount.kind {
            _ if mount.root.contains("/kubernetes.io~empty-dir/") => Self::EmptyDir,
            "tmpfs" | "ramfs" => Self::Memory,
            "overlay" | "overlayfs" | "aufs" => Self::Overlay,
            _ => Self::Volume,
        }
    }

    /// It is there for the next process, whatever ends this one.
    pub fn survives_process(self) -> bool {
        self != Self::PodLayer
    }

    /// It is there for the next process after a stop: nobody knows whether that is a restart or the pod's end.
    pub fn survives_stop(self) -> bool {
        matches!(self, Self::Volume | Self::Overlay | Self::Memory)
    }

    /// What is synced here outlives the node's power.
    pub fn survives_node(self) -> bool {
        !matches!(self, Self::Memory | Self::PodMemory)
    }

    /// It outlives the pod.
    pub fn survives_pod(self) -> bool {
        self == Self::Volume
    }
}

/// A line of a mountinfo.
struct Mount<'l> {
    /// What of the file system is mounted.
    root: &'l str,
    point: &'l str,
    kind: &'l str,
}

impl<'l> Mount<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let (head, tail) = line.split_once(" - ")?;
        let mut fields = head.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let kind = tail.split(' ').next()?;
        Some(Self { root, point, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
611 500 0:88 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/x
620 611 254:1 /var/lib/kubelet/pods/4c/volumes/kubernetes.io~empty-dir/buffer /buffer rw - ext4 /dev/vda1 rw
621 611 8:16 / /data rw,relatime - ext4 /dev/sdb rw
622 621 0:91 / /data/fast rw - tmpfs tmpfs rw,size=4m
623 611 0:92 /kubernetes.io~empty-dir/ram /ram rw - tmpfs tmpfs rw";

    #[test]
    fn a_folder_survives_what_the_nearest_mount_above_it_survives() {
        for (path, medium) in [
            ("/buffer/log", Medium::EmptyDir),
            ("/bufferless", Medium::Overlay),
            ("/data", Medium::Volume),
            ("/data/fast/log", Medium::Memory),
            ("/var/lib", Medium::Overlay),
        ] {
            assert_eq!(Medium::in_mounts(Path::new(path), MOUNTS), medium, "{path}");
        }
        assert_eq!(
            Medium::in_mounts(Path::new("/x"), "nonsense"),
            Medium::Volume
        );
        assert!(Medium::of(Path::new("/proc/none")).survives_node());
    }

    #[test]
    fn in_a_pod_a_container_and_its_layer_go_with_the_process_and_memory_with_the_pod() {
        for (medium, process, stop, node, pod) in [
            (Medium::Volume, true, true, true, true),
            (Medium::EmptyDir, true, false, true, false),
            (Medium::Overlay, true, true, true, false),
            (Medium::Overlay.in_pod(), false, false, true, false),
            (Medium::Memory, true, true, false, false),
            (Medium::Memory.in_pod(), true, false, false, false),
        ] {
            let survives = (
                medium.survives_process(),
                medium.survives_stop(),
                medium.survives_node(),
                medium.survives_pod(),
            );
            assert_eq!(survives, (process, stop, node, pod), "{medium:?}");
        }
    }
}
