//! Whether the file system of the data directory has room for the engine.
//!
//! The log keeps a reserve of its own. The engine cannot: it writes whenever it flushes or merges
//! its tables. So new values are refused while it could still store what is on its way; and if it
//! runs out all the same, because something else filled the disk, it waits and goes on later.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// The engine needs this much to be opened again and to take its next batches.
const REOPEN_BYTES: u64 = 16 * 1024 * 1024;

/// Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    min_free_bytes: u64,
    free: AtomicU64,
    low: AtomicBool,
    /// Why the engine has stopped taking entries, if it has.
    stalled: Mutex<Option<String>>,
}

impl Room {
    /// Watches the file system that holds `dir`.
    pub(crate) fn new(dir: PathBuf, min_free_bytes: u64) -> Self {
        let (free, low) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let room = Self {
            shared: Arc::new(Shared { dir, min_free_bytes, free, low, stalled: Mutex::default() }),
        };
        room.look();
        room
    }

    /// Looks again. A system call, which answers from memory.
    pub(crate) fn look(&self) {
        let Ok(found) = rustix::fs::statvfs(&self.shared.dir) else { return };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        self.shared.free.store(free, Relaxed);
        let low = free < self.shared.min_free_bytes || self.stalled().is_some();
        if self.shared.low.swap(low, Relaxed) != low {
            match low {
                true => tracing::warn!(free, "the disk is full: only deletes are taken"),
                false => tracing::info!(free, "the disk has room again"),
            }
        }
    }

    /// New values are refused.
    pub(crate) fn is_low(&self) -> bool {
        self.shared.low.load(Relaxed)
    }

    /// Enough to go on after [`stall`](Self::stall).
    pub(crate) fn is_enough_to_reopen(&self) -> bool {
        self.look();
        REOPEN_BYTES <= self.shared.free.load(Relaxed)
    }

    /// The engine has stopped.
    pub(crate) fn stall(&self, reason: &str) {
        *self.lock() = Some(reason.to_owned());
        self.look();
    }

    /// The engine has gone on.
    pub(crate) fn resume(&self) {
        *self.lock() = None;
        self.look();
    }

    /// Why the engine takes no entries, if it does not.
    pub(crate) fn stalled(&self) -> Option<String> {
        self.lock().clone()
    }

    /// For `/readyz`.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(reason) = self.stalled() {
            return Err(format!(
                "the disk is full, the engine waits for space ({reason}): only deletes are taken"
            ));
        }
        let (free, min) = (self.shared.free.load(Relaxed), self.shared.min_free_bytes);
        match self.is_low() {
            true => Err(format!(
                "{free} bytes are free, less than store.min_free_bytes = {min}: only deletes are taken"
            )),
            false => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.shared.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
