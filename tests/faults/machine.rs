//! Parts of a machine that can be taken away: disks that fill up, turn read-only or lose power. All need root;
//! where one cannot be had, a line says why.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Bytes of a disk image.
const DISK_BYTES: u64 = 128 << 20;
const START_LIMIT: Duration = Duration::from_secs(10);

/// Runs a command to its end: what it printed.
fn run(command: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(command)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.map_err(|error| format!("{command}: {error}"))?;
    if status.success() {
        Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
    } else {
        Err(format!(
            "{command} {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&stderr).trim()
        ))
    }
}

/// Says why a scenario is passed over.
fn or_skip<T>(made: Result<T, String>) -> Option<T> {
    made.map_err(|why| println!("SKIP: {why}")).ok()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// Something mounted, until dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    fn new(folder: &Path, args: &[&str]) -> Result<Self, String> {
        let point = folder.join("mount");
        std::fs::create_dir_all(&point).map_err(|error| error.to_string())?;
        run("mount", &[args, &[text(&point)]].concat())?;
        Ok(Self(point))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a program that is being killed may still have files open.
        if let Err(error) = run("umount", &["-l", text(&self.0)]) {
            println!("{error}");
        }
    }
}

/// A file system in memory, of this size.
pub(crate) fn tmpfs(folder: &Path, size: &str) -> Option<Mount> {
    or_skip(Mount::new(
        folder,
        &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"],
    ))
}

/// All that a file system had left, taken.
pub(crate) struct FullDisk(PathBuf);

impl FullDisk {
    pub(crate) fn fill(folder: &Path) -> Self {
        let path = folder.join("ballast");
        let mut file = File::create(&path).expect("a file can be made");
        // To the last page: the error is what is wanted.
        let block = vec![0; 1 << 20];
        for size in [block.len(), 4096] {
            while file.write_all(&block[..size]).is_ok() {}
        }
        Self(path)
    }

    pub(crate) fn empty(self) {
        std::fs::remove_file(&self.0).expect("the ballast is there");
    }
}

/// A fresh ext4 in a file.
fn new_disk(folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join("disk.img");
    let disk = File::create(&path).and_then(|disk| disk.set_len(DISK_BYTES));
    disk.map_err(|error| error.to_string())?;
    run("mkfs.ext4", &["-q", "-F", text(&path)])?;
    Ok(path)
}

/// An ext4 in a file, mounted.
pub(crate) struct Image {
    folder: PathBuf,
    disk: PathBuf,
    mount: Option<Mount>,
}

impl Image {
    pub(crate) fn mount(folder: &Path) -> Option<Self> {
        let make = || {
            let disk = new_disk(folder)?;
            let mount = Some(Mount::new(folder, &["-o", "loop", text(&disk)])?);
            Ok(Self {
                folder: folder.to_owned(),
                disk,
                mount,
            })
        };
        or_skip(make())
    }

    pub(crate) fn path(&self) -> &Path {
        self.mount.as_ref().expect("it is mounted").path()
    }

    /// As after an error that the file system found: read-only at once, whoever has files open.
    pub(crate) fn turn_read_only(&self) {
        run("mount", &["-o", "remount,abort", text(self.path())]).expect("ext4 can be aborted");
    }

    /// What an administrator does then.
    pub(crate) fn mount_anew(&mut self) {
        self.mount = None;
        // 1: errors were corrected.
        let checked = Command::new("e2fsck")
            .args(["-f", "-y", text(&self.disk)])
            .output();
        let checked = checked.expect("there is e2fsck where there is mkfs.ext4");
        assert!(
            checked.status.code().is_some_and(|code| code <= 1),
            "{checked:?}"
        );
        let mount = Mount::new(&self.folder, &["-o", "loop", text(&self.disk)]);
        self.mount = Some(mount.expect("it can be mounted again"));
    }
}

/// An ext4 on a disk with a volatile cache, in user space: nbdkit keeps what was not flushed to itself, and
/// takes it along when it is killed.
///
/// ```text
/// mount -> loop device -> file of nbdfuse -> socket -> nbdkit (cache=writeback) -> disk.img
/// ```
pub(crate) struct Powered {
    folder: PathBuf,
    disk: PathBuf,
    parts: Option<Parts>,
}

struct Parts {
    nbdkit: Child,
    nbdfuse: Child,
    file: PathBuf,
    device: String,
    mount: Option<Mount>,
}

impl Powered {
    pub(crate) fn on(folder: &Path) -> Option<Self> {
        let make = || {
            let disk = new_disk(folder)?;
            let parts = Some(power(folder, &disk)?);
            Ok(Self {
                folder: folder.to_owned(),
                disk,
                parts,
            })
        };
        or_skip(make())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("mount")
    }

    /// Nothing that is written from here on, or was not flushed, is ever seen again.
    pub(crate) fn cut(&mut self) {
        let parts = self.parts.as_mut().expect("the power is on");
        parts.nbdkit.kill().expect("nbdkit runs");
        parts.nbdkit.wait().expect("it ends");
    }

    /// Clears away what is left of the disk, and plugs it in again.
    pub(crate) fn power_on(&mut self) {
        drop(self.parts.take());
        let parts = power(&self.folder, &self.disk);
        self.parts = Some(parts.expect("it worked before"));
    }
}

fn power(folder: &Path, disk: &Path) -> Result<Parts, String> {
    let (socket, file) = (folder.join("disk.sock"), folder.join("disk.fuse"));
    std::fs::remove_file(&socket).ok();
    File::create(&file).map_err(|error| error.to_string())?;
    let nbdkit = Command::new("nbdkit")
        .args([
            "-f",
            "-U",
            text(&socket),
            "--filter=cache",
            "file",
            text(disk),
            "cache=writeback",
        ])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("nbdkit (apt-get install nbdkit libnbd-bin fuse3): {error}"))?;
    let mut nbdkit = Kept(Some(nbdkit));
    until("nbdkit listens", || socket.exists())?;
    let uri = format!("nbd+unix:///?socket={}", text(&socket));
    let nbdfuse = Command::new("nbdfuse")
        .args([text(&file), &uri])
        .stdin(Stdio::null())
        // It ends with a failed assertion when its server dies: nothing that anybody needs to read.
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("nbdfuse (apt-get install libnbd-bin fuse3): {error}"))?;
    let mut nbdfuse = Kept(Some(nbdfuse));
    until("nbdfuse serves", || {
        file.metadata().is_ok_and(|meta| meta.len() == DISK_BYTES)
    })?;
    let device = run("losetup", &["-f", "--show", text(&file)])?;
    let mount = Mount::new(folder, &[&device]);
    let take = |kept: &mut Kept| kept.0.take().expect("it was just started");
    Ok(Parts {
        mount: Some(mount?),
        nbdkit: take(&mut nbdkit),
        nbdfuse: take(&mut nbdfuse),
        file,
        device,
    })
}

/// A child that is killed unless somebody takes it.
struct Kept(Option<Child>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn until(what: &str, reached: impl Fn() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !reached() {
        if began.elapsed() > START_LIMIT {
            return Err(format!("in vain: {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

impl Drop for Parts {
    fn drop(&mut self) {
        // In this order: nothing may be written to the image after the cut.
        self.nbdkit.kill().ok();
        self.nbdkit.wait().ok();
        drop(self.mount.take());
        if let Err(error) = run("losetup", &["-d", &self.device]) {
            println!("{error}");
        }
        self.nbdfuse.kill().ok();
        self.nbdfuse.wait().ok();
        // The file that it served stays a dead mount point until it is taken away.
        if let Err(error) = run("fusermount3", &["-u", "-z", text(&self.file)]) {
            println!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    /// The fault itself, without a program: what was synced is there after the cut, the rest is not.
    #[test]
    #[ignore = "tests/faults/run.sh runs it"]
    fn a_power_cut_takes_what_was_not_synced_and_leaves_what_was() {
        let folder = crate::folder("power-cut");
        let Some(mut disk) = Powered::on(folder.path()) else {
            return;
        };
        let (synced, unsynced) = (disk.path().join("synced"), disk.path().join("unsynced"));
        let file = File::create(&synced).unwrap();
        file.write_all_at(&vec![7; 200_000], 0).unwrap();
        file.sync_all().unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        file.write_all_at(&vec![8; 100_000], 200_000).unwrap();
        std::fs::write(&unsynced, vec![9; 100_000]).unwrap();
        disk.cut();
        drop(file);
        disk.power_on();
        let kept = std::fs::read(&synced).unwrap();
        assert!(kept.len() >= 200_000 && kept[..200_000].iter().all(|byte| *byte == 7));
        assert!(
            kept[200_000..].iter().all(|byte| *byte != 8),
            "what was not synced is still there"
        );
        assert!(std::fs::read(&unsynced).map_or(true, |kept| kept.is_empty()));
        drop(disk);
        folder.done();
    }
}
