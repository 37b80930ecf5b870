//! A file system of its own for one data directory, so that its disk can be full.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system, until it is dropped.
#[derive(Debug)]
pub struct Disk {
    mounted_at: PathBuf,
}

impl Disk {
    /// A small file system at `at`, of a size such as `size=64m`. `None`, with a reason printed,
    /// where mounting is not allowed.
    ///
    /// # Panics
    ///
    /// If the mount point cannot be made.
    #[must_use]
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("the mount point");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: cannot mount a tmpfs; this test takes root");
            return None;
        }
        Some(Self { mounted_at: at.to_owned() })
    }

    /// Something else takes all that is left.
    ///
    /// # Panics
    ///
    /// If there is no room for a file's name either.
    pub fn fill(&self) {
        let mut file = File::create(self.rest()).expect("a file for the rest");
        let piece = vec![1; 1 << 16];
        for piece in [&piece[..], &piece[..1]] {
            while file.write_all(piece).is_ok() {}
        }
    }

    /// And gives it back.
    ///
    /// # Panics
    ///
    /// If nothing was taken.
    pub fn clear(&self) {
        fs::remove_file(self.rest()).expect("the file with the rest");
    }

    fn rest(&self) -> PathBuf {
        self.mounted_at.join("somebody-elses")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the service may not have ended yet.
        let unmounted = Command::new("umount").arg("-l").arg(&self.mounted_at).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the tmpfs is still mounted");
    }
}
