//! Handles: what services hold. Cloneable, bounded, no lock.

use std::any::Any;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{GroupId, Index, Term};
use storage::snapshot::SnapshotStore;
use storage::{Entry, ReadError, RealFileSystem, Recovery, Wal, WriteError};
use telemetry::trace::Span;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apply::{Apply, ApplyInput, Visit};
use crate::driver::{Driver, Input, Proposal};
use crate::error::{OpenError, ProposeError, QueryError, RemoveError, StartError};
use crate::machine::StateMachine;
use crate::{Config, snapshots};

/// Commands that may wait for the driver before callers are told to back off.
const INBOX_MAX: usize = 4096;
/// Inputs that may wait for the apply task before the driver and readers wait.
const APPLY_INBOX_MAX: usize = 1024;

/// All groups of this process, on one log.
#[derive(Clone)]
pub struct Groups {
    shared: Arc<Shared>,
}

struct Shared {
    wal: Wal,
    snapshots: Arc<SnapshotStore>,
    driver: mpsc::Sender<Input>,
    apply: mpsc::Sender<ApplyInput>,
    recovery: Recovery,
    max_command_bytes: usize,
}

/// One group. `M` is the machine it was started with.
pub struct Group<M> {
    id: GroupId,
    term: Term,
    applied: watch::Receiver<Index>,
    shared: Arc<Shared>,
    machine: PhantomData<fn() -> M>,
}

/// A command that is durable and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied<R> {
    /// Where it stands in the group's log.
    pub index: Index,
    /// What the machine answered.
    pub reply: R,
}

impl Groups {
    /// Opens the log and the snapshots under `config.data_dir` and starts the owner tasks, which
    /// end with `stop`.
    ///
    /// # Errors
    ///
    /// When another process holds the directory, or the log cannot be read.
    pub fn open(
        config: Config,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, OpenError> {
        let file_system = Arc::new(RealFileSystem);
        let dir = |name: &str| config.data_dir.join(name);
        let (wal, recovery) = Wal::open(file_system.clone(), &dir("wal"), config.wal.clone())?;
        let snapshots = Arc::new(open_snapshots(file_system, &dir("snapshots"))?);

        let (driver_sender, driver_inbox) = mpsc::channel(INBOX_MAX);
        let (apply_sender, apply_inbox) = mpsc::channel(APPLY_INBOX_MAX);
        let driver = Driver::new(wal.clone(), driver_inbox, apply_sender.clone());
        let snapshotter = snapshots::Snapshotter::new(
            wal.clone(),
            snapshots.clone(),
            apply_sender.downgrade(),
            tasks.clone(),
        );
        let apply = Apply::new(&config, apply_inbox, snapshotter);
        tasks.spawn(driver.run(stop.clone()));
        tasks.spawn(apply.run(stop));
        let shared = Shared {
            wal,
            snapshots,
            driver: driver_sender,
            apply: apply_sender,
            recovery,
            max_command_bytes: config.max_command_bytes,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What opening the log found: cut tails, damaged groups.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// The log, for figures and metrics.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.shared.wal
    }

    /// Starts a group, new or from its snapshot and log. When this returns, every command that
    /// was ever acknowledged is applied, and the group has a term of its own.
    ///
    /// # Errors
    ///
    /// When the group runs already, is damaged, or its machine refuses its snapshot.
    pub async fn start<M: StateMachine>(
        &self,
        group: GroupId,
        machine: M,
    ) -> Result<Group<M>, StartError> {
        let term = self.lead(group).await?;
        let (wal, store) = (self.shared.wal.clone(), self.shared.snapshots.clone());
        let rebuilt =
            tokio::task::spawn_blocking(move || snapshots::rebuild(&wal, &store, group, machine))
                .await
                .unwrap_or(Err(StartError::Stopped));
        let rebuilt = match rebuilt {
            Ok(rebuilt) => rebuilt,
            Err(error) => {
                let resign = Input::Resign { group };
                self.shared.driver.send(resign).await.map_err(|_| StartError::Stopped)?;
                return Err(error);
            }
        };
        let (done, started) = oneshot::channel();
        let input = ApplyInput::Start { group, term, rebuilt, done };
        self.shared.apply.send(input).await.map_err(|_| StartError::Stopped)?;
        let applied = started.await.map_err(|_| StartError::Stopped)?;
        let shared = self.shared.clone();
        Ok(Group { id: group, term, applied, shared, machine: PhantomData })
    }

    /// Ends a group and deletes its log and snapshot. Its id is never used again.
    ///
    /// # Errors
    ///
    /// When the node is stopping or too much waits.
    pub async fn remove(&self, group: GroupId) -> Result<(), RemoveError> {
        let (done, removed) = oneshot::channel();
        let input = ApplyInput::Remove { group, done };
        self.shared.apply.send(input).await.map_err(|_| RemoveError::Stopped)?;
        removed.await.map_err(|_| RemoveError::Stopped)?;
        let (done, removed) = oneshot::channel();
        let input = Input::Remove { group, done };
        self.shared.driver.send(input).await.map_err(|_| RemoveError::Stopped)?;
        removed.await.map_err(|_| RemoveError::Stopped)??;
        let snapshots = self.shared.snapshots.clone();
        tokio::task::spawn_blocking(move || snapshots.remove(group))
            .await
            .map_err(|_| RemoveError::Stopped)??;
        Ok(())
    }

    /// Resolves when the log has failed. The process must end then: a write whose fsync failed
    /// may or may not survive, and nothing after it can be promised.
    pub fn failed(&self) -> impl Future<Output = Arc<WriteError>> + Send + 'static {
        let mut durable = self.shared.wal.durable();
        async move {
            loop {
                let failed = durable.borrow_and_update().failed.clone();
                if let Some(error) = failed {
                    return error;
                }
                if durable.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    async fn lead(&self, group: GroupId) -> Result<Term, StartError> {
        let (done, led) = oneshot::channel();
        let input = Input::Lead { group, done };
        self.shared.driver.send(input).await.map_err(|_| StartError::Stopped)?;
        led.await.map_err(|_| StartError::Stopped)?
    }
}

fn open_snapshots(
    file_system: Arc<RealFileSystem>,
    dir: &Path,
) -> Result<SnapshotStore, storage::snapshot::SnapshotError> {
    SnapshotStore::open(file_system, dir)
}

impl<M> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            term: self.term,
            applied: self.applied.clone(),
            shared: self.shared.clone(),
            machine: PhantomData,
        }
    }
}

impl<M: StateMachine> Group<M> {
    /// Which group this is.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// The term in which this node leads it: higher after every restart.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Answers once the command is durable and applied.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Indeterminate`] when it may have been applied; every other error means
    /// that nothing was done.
    pub async fn propose(&self, command: Bytes) -> Result<Applied<M::Reply>, ProposeError> {
        self.propose_as(command, false).await
    }

    /// Like [`propose`](Self::propose), for a small command that lets others go, such as an
    /// acknowledgement or a delete: on a full disk it is taken as long as the log's reserve lasts.
    ///
    /// # Errors
    ///
    /// As [`propose`](Self::propose).
    pub async fn propose_freeing(&self, command: Bytes) -> Result<Applied<M::Reply>, ProposeError> {
        self.propose_as(command, true).await
    }

    async fn propose_as(
        &self,
        command: Bytes,
        freeing: bool,
    ) -> Result<Applied<M::Reply>, ProposeError> {
        let (len, max) = (command.len(), self.shared.max_command_bytes);
        if len > max {
            return Err(ProposeError::TooLarge { len, max });
        }
        let (reply, outcome) = oneshot::channel();
        let span = Span::internal("append").attr("quartet.group", self.id.0.to_string()).start();
        let span = span.is_recorded().then(|| Box::new(span));
        let input = Input::Propose(Proposal { group: self.id, command, reply, freeing, span });
        self.shared.driver.try_send(input).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })?;
        // Before the hand-over a failure is certain; after it, silence means unknown.
        let applied = outcome.await.map_err(|_| ProposeError::Indeterminate)??;
        let reply = applied.reply.downcast::<M::Reply>();
        Ok(Applied { index: applied.index, reply: *reply.expect("the group was started with M") })
    }

    /// Reads the applied state on the apply task, which runs nothing else meanwhile: keep it
    /// short, clone what is big. It sees whatever was answered before the call.
    ///
    /// # Errors
    ///
    /// When the group does not run here.
    pub async fn query<R: Send + 'static>(
        &self,
        read: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        self.local(move |machine| read(machine)).await
    }

    /// Changes the part of the machine that is not replicated, on the apply task.
    ///
    /// # Errors
    ///
    /// When the group does not run here.
    pub async fn local<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        let (reply, answer) = oneshot::channel();
        let visit: Visit = Box::new(move |machine: &mut dyn Any| {
            let machine = machine.downcast_mut().expect("the group was started with M");
            // The caller may have left; then nobody is told.
            let _ = reply.send(change(machine));
        });
        let input = ApplyInput::Visit { group: self.id, visit };
        self.shared.apply.send(input).await.map_err(|_| QueryError::Stopped)?;
        answer.await.map_err(|_| QueryError::Stopped)
    }

    /// Reads entries back from `from` on, up to `max_bytes` but at least one if there is one:
    /// from memory if they are recent, else from the disk on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the log is damaged there, by file and offset.
    pub async fn read(&self, from: Index, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        if let Some(entries) = self.shared.wal.cached(self.id, from, max_bytes) {
            return Ok(entries);
        }
        let (wal, group) = (self.shared.wal.clone(), self.id);
        tokio::task::spawn_blocking(move || wal.read(group, from, max_bytes))
            .await
            .expect("reading does not panic, and the runtime outlives its tasks")
    }

    /// The highest applied index; wakes whoever waits for something new.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Index> {
        self.applied.clone()
    }
}
