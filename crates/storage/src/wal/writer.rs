//! The thread that owns the log, and the queue in front of it.
//!
//! Group commit without a timer: a batch is what arrived while the last one was being synced. One
//! writer alone pays one fsync per write; a thousand writers share it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::admission::{Admission, Purpose, encoded_len};
use super::jobs::{Job, JobDone};
use super::log::Log;
use super::stats::Stats;
use super::view::LogView;
use crate::config::Config;
use crate::error::{Fault, SubmitError, WriteError};
use crate::types::{Durable, IoToken, Write};

/// While the disk is full, how often to look whether space has come back.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// After so long without a write the newest batch is confirmed. A moment, so that a writer who
/// waits for each write pays for one.
const QUIET: Duration = Duration::from_millis(100);

/// What handles, writer and housekeeping share.
pub(crate) struct Shared {
    pub(crate) view: LogView,
    pub(crate) config: Config,
    queue: Mutex<Queue>,
    /// Something to do for the writer.
    wake: Condvar,
    cancel: AtomicBool,
    durable: watch::Sender<Durable>,
    /// Apart from `durable`, for who waits for nothing else: no batch wakes them.
    failure: watch::Sender<Option<Arc<WriteError>>>,
}

struct Queue {
    submits: VecDeque<(Vec<Write>, usize)>,
    /// Of `submits` and of the batch being written.
    bytes: usize,
    token: IoToken,
    admission: Admission,
    room: Room,
    done: Option<JobDone>,
    stopping: bool,
    failed: bool,
    stats: Stats,
}

/// Why writes are refused right now, if they are.
struct Room {
    grow: Result<(), SubmitError>,
    free: Result<(), SubmitError>,
    upkeep: Result<(), SubmitError>,
}

impl Room {
    fn of(log: &Log) -> Self {
        Self {
            grow: log.space_for(Purpose::Grow),
            free: log.space_for(Purpose::Free),
            upkeep: log.space_for(Purpose::Upkeep),
        }
    }

    fn for_purpose(&self, purpose: Purpose) -> Result<(), SubmitError> {
        match purpose {
            Purpose::Grow => self.grow.clone(),
            Purpose::Free => self.free.clone(),
            Purpose::Upkeep => self.upkeep.clone(),
        }
    }
}

impl Shared {
    pub(crate) fn new(log: &mut Log) -> Self {
        // From here on the queue decides what is admitted; the log takes what it gets.
        let admission = std::mem::take(&mut log.admission);
        let queue = Queue {
            submits: VecDeque::new(),
            bytes: 0,
            token: IoToken(0),
            admission,
            room: Room::of(log),
            done: None,
            stopping: false,
            failed: false,
            stats: log.stats(),
        };
        Self {
            view: log.view(),
            config: log.config.clone(),
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            cancel: AtomicBool::new(false),
            durable: watch::Sender::new(Durable::default()),
            failure: watch::Sender::new(None),
        }
    }

    /// Held for bookkeeping only. Every change under it is complete before it can panic.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn submit(&self, writes: Vec<Write>, freeing: bool) -> Result<IoToken, SubmitError> {
        let (bytes, max) = (encoded_len(&writes), self.config.queue_bytes);
        if bytes > max {
            return Err(SubmitError::TooLarge { bytes, max });
        }
        let mut queue = self.queue();
        if queue.failed || queue.stopping {
            return Err(SubmitError::Failed);
        }
        if queue.bytes + bytes > max {
            return Err(SubmitError::QueueFull);
        }
        queue.room.for_purpose(Purpose::of(&writes, freeing))?;
        queue.admission.admit(&writes)?;
        queue.bytes += bytes;
        queue.submits.push_back((writes, bytes));
        queue.token = IoToken(queue.token.0 + 1);
        let token = queue.token;
        drop(queue);
        self.wake.notify_one();
        Ok(token)
    }

    pub(crate) fn room_for(&self, bytes: usize, freeing: bool) -> Result<(), SubmitError> {
        let (queue, max) = (self.queue(), self.config.queue_bytes);
        if queue.failed || queue.stopping {
            return Err(SubmitError::Failed);
        }
        if queue.bytes + bytes > max {
            return Err(SubmitError::QueueFull);
        }
        queue.room.for_purpose(if freeing { Purpose::Free } else { Purpose::Grow })
    }

    pub(crate) fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }

    pub(crate) fn failure(&self) -> watch::Receiver<Option<Arc<WriteError>>> {
        self.failure.subscribe()
    }

    pub(crate) fn mark(&self, group: consensus::GroupId, fault: Fault) {
        self.queue().admission.mark(group, fault);
    }

    pub(crate) fn stats(&self) -> Stats {
        let queue = self.queue();
        Stats { queue_bytes: queue.bytes as u64, ..queue.stats.clone() }
    }

    /// Nothing is taken any more; whoever waits is told.
    fn fail(&self, error: Arc<WriteError>) {
        self.queue().failed = true;
        self.failure.send_modify(|failure| {
            failure.get_or_insert_with(|| Arc::clone(&error));
        });
        self.durable.send_modify(|durable| {
            durable.failed.get_or_insert(error);
        });
    }

    /// Lets the writer finish what is queued and end.
    pub(crate) fn stop(&self) {
        self.queue().stopping = true;
        self.cancel.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn job_done(&self, done: JobDone) {
        self.queue().done = Some(done);
        self.wake.notify_one();
    }
}

/// The owner of the log.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    jobs: SyncSender<Job>,
    /// When space was last looked for on a full disk.
    retried: Instant,
}

/// Held by a thread of the log: if it panics, the log has failed, and nobody waits for it for ever.
pub(crate) struct Alarm {
    pub(crate) shared: Arc<Shared>,
    pub(crate) dir: PathBuf,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let source = std::io::Error::other("one of its threads has panicked");
            let path = std::mem::take(&mut self.dir);
            self.shared.fail(Arc::new(WriteError { action: "go on with the log", path, source }));
        }
    }
}

/// What the writer found in the queue.
struct Input {
    submits: VecDeque<Vec<Write>>,
    bytes: usize,
    done: Option<JobDone>,
    stopping: bool,
    /// Nothing has come for a while.
    quiet: bool,
}

impl Writer {
    /// With the queue of jobs for a second thread: see [`work`].
    pub(crate) fn new(log: Log, shared: Arc<Shared>) -> (Self, Receiver<Job>) {
        // One job at a time is named, so the sender never waits.
        let (jobs, receiver) = sync_channel(1);
        (Self { shared, log, jobs, retried: now() }, receiver)
    }

    /// Runs until the handles are gone or the log fails.
    pub(crate) fn run(mut self) {
        loop {
            self.look_for_space();
            if let Err(error) = self.give_work() {
                return self.fail(error);
            }
            let input = self.take();
            let stop = input.stopping && input.submits.is_empty();
            if let Err(error) = self.handle(input) {
                return self.fail(error);
            }
            if stop {
                if let Err(error) = self.log.confirm() {
                    self.fail(error);
                }
                return;
            }
        }
    }

    /// Waits for something to do.
    fn take(&mut self) -> Input {
        let patience = match (self.log.is_confirmed(), self.log.is_full()) {
            (false, _) => Some(QUIET),
            (true, true) => Some(FULL_RETRY),
            (true, false) => None,
        };
        let mut quiet = false;
        let mut queue = self.shared.queue();
        loop {
            let idle = queue.submits.is_empty() && queue.done.is_none() && !queue.stopping;
            if !idle || self.log.staged_bytes() > 0 {
                break;
            }
            let Some(patience) = patience else {
                queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.shared.wake.wait_timeout(queue, patience);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            quiet = timeout.timed_out();
            if quiet {
                break;
            }
        }
        let mut taken = Input {
            submits: VecDeque::new(),
            bytes: 0,
            done: queue.done.take(),
            stopping: queue.stopping,
            quiet,
        };
        while taken.bytes < self.shared.config.batch_bytes
            && let Some((writes, bytes)) = queue.submits.pop_front()
        {
            taken.bytes += bytes;
            taken.submits.push_back(writes);
        }
        taken
    }

    fn handle(&mut self, input: Input) -> Result<(), Arc<WriteError>> {
        if let Some(done) = input.done {
            self.log.finish_job(done)?;
            for (group, fault) in self.log.housekeeping.faults.drain(..) {
                self.shared.mark(group, fault);
            }
        }
        for writes in input.submits {
            self.log.stage_admitted(writes);
        }
        if self.log.staged_bytes() > 0 {
            let begin = now();
            let token = self.log.flush()?;
            self.log.stats.last_fsync = begin.elapsed();
            self.publish(token, input.bytes);
        } else {
            if input.quiet {
                self.log.confirm()?;
            }
            // A submit of nothing is durable at once.
            let token = self.log.flush()?;
            self.publish(token, input.bytes);
        }
        Ok(())
    }

    fn publish(&mut self, token: IoToken, written: usize) {
        self.shared.durable.send_if_modified(|durable| {
            let newer = durable.token < token;
            durable.token = token;
            newer
        });
        let room = Room::of(&self.log);
        let stats = self.log.stats();
        let mut queue = self.shared.queue();
        queue.bytes -= written;
        queue.room = room;
        queue.stats = stats;
    }

    fn look_for_space(&mut self) {
        if self.log.is_full() && self.retried.elapsed() >= FULL_RETRY {
            self.retried = now();
            self.log.retry_space();
        }
    }

    fn give_work(&mut self) -> Result<(), Arc<WriteError>> {
        if let Some(job) = self.log.next_job()
            && self.jobs.try_send(job).is_err()
        {
            // The other thread is gone, which only a panic in it explains.
            let source = std::io::Error::other("housekeeping has stopped");
            let path = self.log.dir().to_owned();
            return Err(self.log.fail(WriteError { action: "tidy", path, source }));
        }
        Ok(())
    }

    fn fail(&self, error: Arc<WriteError>) {
        self.shared.fail(error);
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a sync took, and when to look for space")]
fn now() -> Instant {
    Instant::now()
}

/// Does the log's housekeeping until the writer is gone.
pub(crate) fn work(shared: &Shared, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        shared.job_done(job.run(&shared.cancel));
    }
}
