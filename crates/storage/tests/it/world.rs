//! One log on a simulated disk, next to the model of what it owes its user.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sim::Rng;
use sim::disk::SimDisk;
use storage::{Config, Log, Recovery, SubmitError};

use crate::model::{Model, User};

pub(crate) const DIR: &str = "/data";

/// Everything small, so that a few hundred writes fill, seal, rewrite and drop segments.
pub(crate) fn tiny() -> Config {
    Config {
        segment_bytes: 32 << 10,
        queue_bytes: 8 << 10,
        batch_bytes: 4 << 10,
        cache_bytes: 4 << 10,
        hot_segments: 3,
        rewrite_live_percent: 50,
    }
}

pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) config: Config,
    log: Option<Log>,
    pub(crate) user: User,
    rng: Rng,
    /// What was acknowledged.
    pub(crate) acked: Model,
    /// What was staged, and may be on disk or not.
    pub(crate) staged: Model,
    /// Flushes that succeeded.
    pub(crate) flushes: u64,
}

impl World {
    pub(crate) fn new(seed: u64, config: Config) -> Self {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new(rng.next_u64());
        let groups = rng.range(1..9);
        let user = User::new(rng.fork(), groups);
        let (acked, staged) = (Model::default(), Model::default());
        Self { disk, config, log: None, user, rng, acked, staged, flushes: 0 }
    }

    pub(crate) fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("opened")
    }

    pub(crate) fn try_open(&mut self) -> Result<Recovery, String> {
        let disk = Arc::new(self.disk.clone());
        match Log::open(disk, Path::new(DIR), self.config.clone()) {
            Ok((log, recovery)) => {
                self.log = Some(log);
                Ok(recovery)
            }
            Err(error) => Err(format!("{error} ({:?})", std::error::Error::source(&error))),
        }
    }

    /// Opens, and demands what a crash alone must not destroy: everything acknowledged.
    pub(crate) fn open_intact(&mut self) -> Result<Recovery, String> {
        let recovery = self.try_open()?;
        self.settle(&recovery)?;
        Ok(recovery)
    }

    /// Compares what was recovered with what was acknowledged, and goes on from there.
    pub(crate) fn settle(&mut self, recovery: &Recovery) -> Result<(), String> {
        if !recovery.damage.is_empty() || !recovery.faulty.is_empty() {
            return Err(format!("a crash looks like damage: {recovery:?}"));
        }
        let view = self.log().view();
        // One batch is in flight at a time: all of it is there, or nothing.
        if let Err(difference) = self.acked.compare(&view, &mut self.rng) {
            self.staged.compare(&view, &mut self.rng).map_err(|other| {
                format!("neither what was acknowledged ({difference}) nor one batch more ({other})")
            })?;
            self.acked = self.staged.clone();
        }
        self.staged = self.acked.clone();
        Ok(())
    }

    /// Stages one submit. `Ok(false)` if there was no room.
    pub(crate) fn stage(&mut self) -> Result<bool, String> {
        let mut model = self.staged.clone();
        let writes = self.user.submit(&mut model);
        match self.log().stage(writes) {
            Ok(_) => {
                self.staged = model;
                Ok(true)
            }
            Err(SubmitError::QueueFull | SubmitError::TooLarge { .. } | SubmitError::DiskFull) => {
                Ok(false)
            }
            Err(error) => Err(format!("refused a good write: {error}")),
        }
    }

    /// `Ok(false)` if the disk failed.
    pub(crate) fn flush(&mut self) -> bool {
        let flushed = self.log().flush().is_ok();
        if flushed {
            self.acked = self.staged.clone();
            self.flushes += 1;
        }
        flushed
    }

    /// Does a piece of housekeeping. `false` if the disk failed.
    pub(crate) fn tidy(&mut self) -> bool {
        let Some(job) = self.log().next_job() else { return true };
        let done = job.run(&AtomicBool::new(false));
        self.log().finish_job(done).is_ok()
    }

    /// A few random steps; ends early when the disk fails.
    pub(crate) fn steps(&mut self, count: u64) -> Result<(), String> {
        for _ in 0..count {
            for _ in 0..self.rng.range(1..4) {
                self.stage()?;
            }
            if !self.flush() {
                return Ok(());
            }
            if self.rng.chance(2, 3) && !self.tidy() {
                return Ok(());
            }
            if self.rng.chance(1, 3) && self.log().confirm().is_err() {
                return Ok(());
            }
            if self.rng.chance(1, 10) {
                self.check()?;
            }
        }
        Ok(())
    }

    /// What readers see is what was acknowledged, no more and no less.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let view = self.log().view();
        self.acked.compare(&view, &mut self.rng)
    }

    /// The machine loses power now.
    pub(crate) fn crash(&mut self) {
        self.log = None;
        self.disk.crash();
    }

    /// The process ends now; what the kernel holds stays.
    pub(crate) fn kill(&mut self) {
        self.log = None;
        self.disk.kill();
    }
}
