//! What the kernel tells about a process and about this machine. Linux; elsewhere nothing is known.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::output::say;

/// Of `/proc/<pid>/stat`. The kernel reports them in this unit on every architecture.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of a process.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    cpu_ticks(&stat).map(|ticks| Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Time that processes of this machine, and others on the same hardware, have taken from all cores.
pub(crate) fn busy_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    busy_ticks(&stat).map(|ticks| Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// `cpu user nice system idle iowait irq softirq steal …`. Interrupts are left out: most are ours.
fn busy_ticks(stat: &str) -> Option<u64> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = all.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    Some(ticks.get(..3)?.iter().sum::<u64>() + ticks.get(7)?)
}

/// What a process holds in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// All pages that are there, those of mapped files too.
    pub(crate) resident_bytes: u64,
    /// Of these, what no file backs: heap and stacks.
    pub(crate) anonymous_bytes: u64,
}

pub(crate) fn memory(pid: u32) -> Option<Memory> {
    fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|status| resident(&status))
}

fn resident(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some(Memory { resident_bytes: bytes("VmRSS:")?, anonymous_bytes: bytes("RssAnon:")? })
}

/// As many open files as this user may have: every connection is one.
pub(crate) fn raise_open_files() {
    let limits = getrlimit(Resource::Nofile);
    // If that fails, opening connections does, too, and says why.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
}

/// Space that everything below a directory takes on disk, whatever length the files claim.
pub(crate) fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => disk_bytes(&entry.path()),
            // In units of 512 bytes, on every file system.
            Ok(about) => about.blocks() * 512,
            // Just removed.
            Err(_) => 0,
        })
        .sum()
}

/// The machine, and whether something else used it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// What holds the data: device, mount point and type.
    pub(crate) file_system: String,
    /// Of the last minute, before the start. Above 0.5 something else runs here.
    pub(crate) load_average: Option<f64>,
}

impl Machine {
    pub(crate) fn look(data: &Path) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            file_system: file_system(&mounts, data).unwrap_or_default(),
            load_average: load.split(' ').next().and_then(|load| load.parse().ok()),
        }
    }

    /// Fails where fsync means nothing.
    pub(crate) fn check(&self, data: &Path) -> anyhow::Result<()> {
        if self.file_system.ends_with(" tmpfs") || self.file_system.ends_with(" ramfs") {
            bail!(
                "{} is on {}, where fsync costs nothing; name a directory on a disk with --data",
                data.display(),
                self.file_system
            );
        }
        Ok(())
    }

    pub(crate) fn print(&self) {
        say!(
            "{} cores, Linux {}, data on {}, load average before: {}",
            self.cores,
            self.kernel,
            self.file_system,
            self.load_average.map_or_else(|| "unknown".to_owned(), |load| load.to_string())
        );
    }
}

/// The mount with the longest path that holds `data`.
fn file_system(mounts: &str, data: &Path) -> Option<String> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| 3 <= fields.len() && data.starts_with(fields[1]))
        .max_by_key(|fields| fields[1].len())
        .map(|fields| fields[..3].join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 21 34 0 0";
        assert_eq!(cpu_ticks(stat), Some(55));
    }

    #[test]
    fn stolen_time_is_busy_and_waiting_for_the_disk_is_not() {
        assert_eq!(busy_ticks("cpu  1 2 3 100 200 10 20 4 0 0\ncpu0 1 1 1\n"), Some(10));
    }

    #[test]
    fn memory_is_told_in_kibibytes() {
        let status = "Name:\tx\nVmRSS:\t    12 kB\nRssAnon:\t     4 kB\n";
        let memory = Memory { resident_bytes: 12 << 10, anonymous_bytes: 4 << 10 };
        assert_eq!(resident(status), Some(memory));
    }

    #[test]
    fn the_deepest_mount_holds_the_data() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        let at = |path| file_system(mounts, Path::new(path)).unwrap();
        assert_eq!(at("/tmp/bench"), "tmpfs /tmp tmpfs");
        assert_eq!(at("/tmpx"), "/dev/a / ext4");
    }
}
