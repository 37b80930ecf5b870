//! A file system of its own for one data directory, so that its disk can hang.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const BYTES: u64 = 512 << 20;

/// A mounted file system, until it is dropped.
#[derive(Debug)]
pub struct HangingDisk {
    mounted_at: PathBuf,
    image: PathBuf,
}

impl HangingDisk {
    /// A small ext4 at `at`, in a file beside it. `None`, with a reason printed, where that is not
    /// possible.
    ///
    /// # Panics
    ///
    /// If the mount point cannot be made.
    #[must_use]
    pub fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("the mount point");
        let image = at.with_extension("image");
        let made = File::create(&image).and_then(|file| file.set_len(BYTES));
        let done = made.is_ok()
            && run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))
            && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(at));
        if !done {
            println!("skipped: cannot mount a file; this test takes root and loop devices");
            return None;
        }
        let disk = Self { mounted_at: at.to_owned(), image };
        // Whether it can hang is known before anybody depends on it.
        if !disk.freeze() {
            println!("skipped: cannot freeze a file system");
            return None;
        }
        disk.thaw();
        Some(disk)
    }

    /// From now on every write and every sync waits. Whoever waits cannot be killed.
    pub fn freeze(&self) -> bool {
        run(Command::new("fsfreeze").arg("-f").arg(&self.mounted_at))
    }

    /// And goes on.
    pub fn thaw(&self) {
        run(Command::new("fsfreeze").arg("-u").arg(&self.mounted_at));
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        self.thaw();
        // Lazily: the service may not have ended yet.
        run(Command::new("umount").arg("-l").arg(&self.mounted_at));
        let _ = fs::remove_file(&self.image);
    }
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
