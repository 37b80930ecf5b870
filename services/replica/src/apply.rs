//! The engine's thread: carries out committed entries, so that a stall of the engine costs lag
//! and not acknowledgements.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use replication::digest::Sum;
use replication::{Head, Index, Position};
use tokio::sync::mpsc;

use crate::engine::{Engine, EngineError, Step};
use crate::room::Room;

/// Batches that may wait for the engine.
const QUEUE_MAX: usize = 64;
/// Entries of one batch.
pub(crate) const BATCH_MAX: usize = 512;
/// Digests kept for `GET /v1/digest?at=`: the newest entries.
const DIGESTS_MAX: usize = 16_384;

/// What the engine's thread is asked to do.
pub(crate) enum Task {
    /// Consecutive, committed entries.
    Apply(Vec<Arc<Step>>),
    /// Make what is applied survive a power cut.
    Persist,
    /// Look for keys whose time is over.
    Expired { now_ms: u64, limit: usize },
    /// Go on with another engine: a snapshot was installed.
    Switch(Arc<dyn Engine>),
}

/// What it answers, in order.
pub(crate) enum Done {
    Applied {
        through: Index,
        /// A digest of the primary that ours differs from.
        mismatch: Option<Index>,
    },
    Persisted {
        through: Index,
    },
    Expired(Vec<(Bytes, Position)>),
    Failed(EngineError),
}

/// Digests of the newest states. Shared by the engine's thread and readers.
#[derive(Clone, Default)]
pub(crate) struct Digests(Arc<Mutex<VecDeque<(Head, Sum)>>>);

impl Digests {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Head, Sum)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the digest of the next state.
    pub(crate) fn push(&self, head: Head, root: Sum) {
        let mut digests = self.lock();
        if digests.len() == DIGESTS_MAX {
            digests.pop_front();
        }
        digests.push_back((head, root));
    }

    /// The digest of the state after the entry at `index`.
    pub(crate) fn at(&self, index: Index) -> Option<(Head, Sum)> {
        let digests = self.lock();
        let position = digests.partition_point(|(head, _)| head.index() < index);
        digests.get(position).filter(|(head, _)| head.index() == index).copied()
    }

    /// The newest.
    pub(crate) fn last(&self) -> Option<(Head, Sum)> {
        self.lock().back().copied()
    }

    /// Begins anew with another engine's state.
    pub(crate) fn reset(&self, engine: &dyn Engine) {
        let mut digests = self.lock();
        digests.clear();
        digests.push_back((engine.applied().head, engine.root()));
    }
}

/// A handle to the engine's thread. Dropping it waits for the thread to end, so that afterwards
/// nobody here uses the engine. Drop the answers' receiver first: the thread may wait for it.
pub(crate) struct Apply {
    tasks: Option<SyncSender<Task>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Apply {
    fn drop(&mut self) {
        self.tasks = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the engine's thread panicked");
        }
    }
}

impl Apply {
    /// Starts the thread. Answers arrive at the returned receiver.
    ///
    /// `replay` reads entries back: for an engine that lost some because the disk was full.
    pub(crate) fn start(
        engine: Arc<dyn Engine>,
        digests: Digests,
        room: Room,
        replay: Replay,
    ) -> std::io::Result<(Self, mpsc::Receiver<Done>)> {
        let (tasks, inbox) = sync_channel(QUEUE_MAX);
        let (answers, done) = mpsc::channel(QUEUE_MAX);
        digests.reset(&*engine);
        let through = engine.applied().head.index();
        let worker = Worker { engine, digests, answers, room, replay, through };
        let thread =
            std::thread::Builder::new().name("apply".into()).spawn(move || worker.run(&inbox))?;
        Ok((Self { tasks: Some(tasks), thread: Some(thread) }, done))
    }

    /// Hands over a task. Gives it back if too many wait.
    pub(crate) fn try_send(&self, task: Task) -> Result<(), Task> {
        let Some(tasks) = &self.tasks else { return Err(task) };
        tasks.try_send(task).map_err(|error| match error {
            TrySendError::Full(task) | TrySendError::Disconnected(task) => task,
        })
    }
}

/// The entries behind an index, up to another, as far as one read goes.
pub(crate) type Replay =
    Box<dyn Fn(Index, Index) -> Result<Vec<Arc<Step>>, Box<dyn std::error::Error>> + Send>;

struct Worker {
    engine: Arc<dyn Engine>,
    digests: Digests,
    answers: mpsc::Sender<Done>,
    room: Room,
    replay: Replay,
    /// Carried out so far, whatever the engine has lost of it.
    through: Index,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Task>) {
        while let Ok(task) = inbox.recv() {
            if let Task::Switch(engine) = &task {
                self.digests.reset(&**engine);
                self.engine = Arc::clone(engine);
                self.through = engine.applied().head.index();
            }
            let Some(done) = self.perform(&task) else { return };
            let failed = matches!(done, Done::Failed(_));
            if self.answers.blocking_send(done).is_err() || failed {
                return;
            }
        }
    }

    /// `None` if nobody waits for it any more.
    fn perform(&mut self, task: &Task) -> Option<Done> {
        loop {
            let done = match task {
                Task::Apply(steps) => self.apply(steps),
                Task::Persist | Task::Switch(_) => self.persist(),
                Task::Expired { now_ms, limit } => {
                    self.engine.expired(*now_ms, *limit).map(Done::Expired)
                }
            };
            match done {
                Ok(Done::Applied { through, mismatch }) => {
                    self.through = through;
                    return Some(Done::Applied { through, mismatch });
                }
                Ok(done) => return Some(done),
                Err(error) if self.is_for_want_of_space(&error) => {
                    if !self.wait_for_space(error) {
                        return None;
                    }
                }
                Err(error) => return Some(Done::Failed(error)),
            }
        }
    }

    fn is_for_want_of_space(&self, error: &EngineError) -> bool {
        self.room.look();
        error.is_disk_full() || (error.is_aftermath() && self.room.is_low())
    }

    /// Waits until there is space, and brings the engine to where it was. False if the owner has
    /// gone meanwhile.
    fn wait_for_space(&self, error: EngineError) -> bool {
        /// Nobody tells when a disk has room again; and the owner may end.
        const LOOK_AGAIN: Duration = Duration::from_millis(200);
        tracing::error!(error = %crate::chain(&error), "the engine has run out of space, and waits for some");
        self.room.stall(&crate::chain(&error));
        while !self.answers.is_closed() {
            std::thread::park_timeout(LOOK_AGAIN);
            if !self.room.is_enough_to_reopen() {
                continue;
            }
            match self.catch_up() {
                Ok(true) => {
                    self.engine.resume();
                    self.room.resume();
                    tracing::info!("the engine goes on");
                    return true;
                }
                Ok(false) => (),
                Err(error) => tracing::warn!(error, "the engine cannot go on yet"),
            }
        }
        false
    }

    /// Opens the engine again and carries out what it has lost. `Ok(false)`: somebody still reads
    /// from it.
    fn catch_up(&self) -> Result<bool, String> {
        if !self.engine.reopen().map_err(|error| crate::chain(&error))? {
            return Ok(false);
        }
        loop {
            let applied = self.engine.applied().head.index();
            if self.through <= applied {
                return Ok(true);
            }
            let steps = (self.replay)(applied, self.through).map_err(|e| crate::chain(&*e))?;
            if steps.is_empty() {
                return Err(format!("the log has no entry {} any more", applied.next()));
            }
            for batch in steps.chunks(BATCH_MAX) {
                self.engine.apply(batch).map_err(|error| crate::chain(&error))?;
            }
        }
    }

    fn apply(&self, steps: &[Arc<Step>]) -> Result<Done, EngineError> {
        let roots = self.engine.apply(steps)?;
        let mut mismatch = None;
        for (step, root) in steps.iter().zip(roots) {
            if let Some((at, expected)) = step.check
                && self.digests.at(at).is_some_and(|(_, ours)| ours != expected)
            {
                mismatch = mismatch.or(Some(at));
            }
            self.digests.push(step.head, root);
        }
        let through = steps.last().map_or(Index::ZERO, |step| step.head.index());
        Ok(Done::Applied { through, mismatch })
    }

    fn persist(&self) -> Result<Done, EngineError> {
        let through = self.engine.applied().head.index();
        self.engine.persist()?;
        Ok(Done::Persisted { through })
    }
}

#[cfg(test)]
mod tests {
    use replication::Epoch;
    use replication::command::{Change, Command, Space};

    use super::*;
    use crate::engine::memory::Memory;

    /// Entries of one write each, the last of which claims that the digest at 1 was `claimed`.
    fn steps(claimed: Sum) -> Vec<Arc<Step>> {
        let mut head = Head::genesis("g");
        let mut step = |check| {
            let key = Space::User.key(b"a");
            let change =
                Change::Put { key, value: Bytes::new(), content_type: None, expires_at_ms: None };
            let command = Command::Write { changes: vec![change] };
            let entry = head.extend(Epoch(1), command.encode());
            head = entry.head();
            Arc::new(Step { head, mutations: command.mutations(entry.position), check })
        };
        vec![step(None), step(Some((Index(1), claimed)))]
    }

    fn applied(claimed: Sum) -> Option<Index> {
        let room = Room::new(std::env::temp_dir(), 0);
        let replay: Replay = Box::new(|_, _| Ok(Vec::new()));
        let (apply, mut done) =
            Apply::start(Arc::new(Memory::new("g")), Digests::default(), room, replay).unwrap();
        assert!(apply.try_send(Task::Apply(steps(claimed))).is_ok());
        match done.blocking_recv() {
            Some(Done::Applied { through: Index(2), mismatch }) => mismatch,
            _ => panic!("both entries are applied"),
        }
    }

    #[test]
    fn a_state_that_is_not_the_primarys_is_noticed() {
        let other = Memory::new("g");
        let truth = other.apply(&steps(Sum(0))[..1]).unwrap()[0];
        assert_eq!(applied(truth), None);
        assert_eq!(applied(truth.plus(Sum(1))), Some(Index(1)));
    }
}
