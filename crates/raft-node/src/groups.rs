//! Handles: what services hold. Cloneable, bounded, no lock.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{
    Change, ChangeRefused, Config as RaftConfig, GroupId, Index, Membership, Multi, MultiConfig,
    NodeId, Raft, Status, Term, TransferRefused,
};
use storage::snapshot::SnapshotStore;
use storage::{
    Entry, EntryKind, ReadError, RealFileSystem, Recovery, SubmitError, Wal, WriteError,
};
use telemetry::metrics::Registry;
use telemetry::trace::Span;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apply::{Apply, ApplyInput, Restored, Visit};
use crate::driver::{Control, Driver, Input, Parts, PendingRead, Proposal};
use crate::error::{ControlError, OpenError, ProposeError, QueryError, RemoveError, StartError};
use crate::machine::StateMachine;
use crate::member::MemberInfo;
use crate::restore::{self, OnDisk};
use crate::snapshots::Snapshotter;
use crate::transport::{self, PeerService, Transport, TransportConfig};
use crate::{Config, identity};

/// Inputs that may wait for the driver before callers are told to back off.
const INBOX_MAX: usize = 4096;
/// Frames that may wait for the driver before peers have to wait.
const INCOMING_MAX: usize = 256;
/// Inputs that may wait for the apply task before nothing new is taken.
const APPLY_INBOX_MAX: usize = 4096;
/// What a new leader writes at most.
const LEAD_BYTES: usize = 1024;
/// How long a call waits for somebody to lead.
const LEADER_WAIT: Duration = Duration::from_secs(5);

/// All groups of this process, on one log.
#[derive(Clone)]
pub struct Groups {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeId,
    wal: Wal,
    snapshots: Arc<SnapshotStore>,
    driver: mpsc::Sender<Input>,
    apply: mpsc::Sender<ApplyInput>,
    transport: Transport,
    recovery: Recovery,
    config: Config,
    started: Instant,
}

/// What the process lends to its groups.
#[derive(Clone)]
pub struct Host {
    /// Runs the owner tasks.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
    /// Ends the connections with peers: before `stop`, when this node has handed over what it led.
    pub links: CancellationToken,
    /// Where figures go.
    pub metrics: Registry,
}

/// One group. `M` is the machine it was started with.
pub struct Group<M> {
    id: GroupId,
    applied: watch::Receiver<Index>,
    leadership: watch::Receiver<Leadership>,
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

/// Who leads a group, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The current term.
    pub term: Term,
    /// Nobody, or nobody known.
    pub leader: Option<NodeId>,
    /// This node.
    pub is_here: bool,
}

impl Groups {
    /// Opens the log and the snapshots under `config.data_dir` and starts the owner tasks, which
    /// end with `host.stop`.
    ///
    /// # Errors
    ///
    /// When another process holds the directory, or the log cannot be read.
    pub fn open(config: Config, host: Host) -> Result<Self, OpenError> {
        let Host { tasks, stop, links, metrics } = host;
        let file_system = Arc::new(RealFileSystem);
        let dir = |name: &str| config.data_dir.join(name);
        let (wal, recovery) = Wal::open(file_system.clone(), &dir("wal"), config.wal.clone())?;
        let node = identity::load_or_draw(&*file_system, &config.data_dir)?;
        let snapshots = Arc::new(SnapshotStore::open(file_system, &dir("snapshots"))?);

        let (driver_sender, driver_inbox) = mpsc::channel(INBOX_MAX);
        let (apply_sender, apply_inbox) = mpsc::channel(APPLY_INBOX_MAX);
        let (incoming_sender, incoming) = mpsc::channel(INCOMING_MAX);
        let epoch = draw();
        let transport = Transport::new(
            TransportConfig::new(config.cluster_id, node, epoch),
            incoming_sender,
            &transport::Host {
                snapshots: snapshots.clone(),
                metrics,
                tasks: tasks.clone(),
                stop: links,
            },
        );
        let multi_config = MultiConfig {
            node,
            epoch,
            heartbeat_ms: config.heartbeat_ms,
            election_ms: config.election_ms,
        };
        let started = Instant::now();
        let driver = Driver::new(Parts {
            multi: Multi::new(multi_config, 0),
            wal: wal.clone(),
            inbox: driver_inbox,
            inputs: driver_sender.downgrade(),
            incoming,
            transport: transport.clone(),
            apply: apply_sender.clone(),
            tasks: tasks.clone(),
            started,
        });
        let snapshotter = Snapshotter::new(
            snapshots.clone(),
            apply_sender.downgrade(),
            driver_sender.downgrade(),
            tasks.clone(),
        );
        let apply = Apply::new(&config, wal.clone(), apply_inbox, snapshotter);
        tasks.spawn(driver.run(stop.clone()));
        tasks.spawn(apply.run(stop));
        let shared = Shared {
            node,
            wal,
            snapshots,
            driver: driver_sender,
            apply: apply_sender,
            transport,
            recovery,
            config,
            started,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The id of this data directory.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node
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

    /// What peers reach, to be mounted on the peer listener.
    #[must_use]
    pub fn peer_service(&self) -> PeerService {
        self.shared.transport.service()
    }

    /// Name and addresses of this node, as it tells them to others that do not know it yet.
    pub async fn introduce(&self, info: MemberInfo) {
        // A driver that has ended tells nobody anything.
        let _ = self.shared.driver.send(Input::Introduce(info)).await;
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.shared.transport
    }

    pub(crate) fn snapshots(&self) -> &SnapshotStore {
        &self.shared.snapshots
    }

    /// Starts a group that has this node as its only member, new or as it was left. When this
    /// returns, every command that was ever acknowledged is applied, and the group has a term of
    /// its own.
    ///
    /// # Errors
    ///
    /// When the group runs already, is damaged, or its machine refuses its snapshot.
    pub async fn start<M: StateMachine>(
        &self,
        group: GroupId,
        machine: M,
    ) -> Result<Group<M>, StartError> {
        // To lead takes a promise and a blank entry.
        if let Err(SubmitError::DiskFull) = self.shared.wal.room_for(LEAD_BYTES, true) {
            return Err(StartError::DiskFull);
        }
        let alone = Membership::of([(self.node(), MemberInfo::default().encode())]);
        let started = self.start_with(group, machine, alone).await?;
        if self.leads_soon(&started).await {
            return Ok(started);
        }
        // It may be started again, from what is on disk.
        let _ = self.shared.driver.send(Input::Abandon { group }).await;
        match self.shared.wal.room_for(LEAD_BYTES, true) {
            Err(SubmitError::DiskFull) => Err(StartError::DiskFull),
            Err(SubmitError::QueueFull) => Err(StartError::Overloaded),
            _ => Err(StartError::Stopped),
        }
    }

    /// Waits until a group of one leads; false if it cannot, for want of space as a rule.
    async fn leads_soon<M: StateMachine>(&self, group: &Group<M>) -> bool {
        /// Between two looks at the disk.
        const PAUSE: Duration = Duration::from_millis(50);
        let led = group.query(|_| ());
        tokio::pin!(led);
        loop {
            tokio::select! {
                led = &mut led => return led.is_ok(),
                () = tokio::time::sleep(PAUSE) => {
                    let room = self.shared.wal.room_for(LEAD_BYTES, true);
                    if matches!(room, Err(SubmitError::DiskFull)) {
                        return false;
                    }
                }
            }
        }
    }

    /// Starts a group as it was left. One that is new here begins with these founders, the same on
    /// each of them, or without any: then it waits to be made a member.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with<M: StateMachine>(
        &self,
        group: GroupId,
        mut machine: M,
        founders: Membership,
    ) -> Result<Group<M>, StartError> {
        let (wal, store) = (self.shared.wal.clone(), self.shared.snapshots.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let OnDisk { raft, machine: state, durable } =
                restore::load(&wal, &store, group, &founders)?;
            if let Some(state) = state {
                machine.restore(&state).map_err(|source| StartError::Restore { group, source })?;
            }
            Ok::<_, StartError>((raft, machine, durable))
        });
        let (raft, machine, durable) = loaded.await.unwrap_or(Err(StartError::Stopped))?;
        if let Some(token) = durable {
            let mut synced = self.shared.wal.durable();
            let done = synced.wait_for(|now| token <= now.token || now.failed.is_some()).await;
            if !done.is_ok_and(|now| now.failed.is_none()) {
                return Err(StartError::Stopped);
            }
        }
        self.run(group, Box::new(machine), raft).await
    }

    async fn run<M: StateMachine>(
        &self,
        group: GroupId,
        machine: Box<M>,
        restored: consensus::Restored,
    ) -> Result<Group<M>, StartError> {
        let snapshot = restored.snapshot.as_ref();
        let (applied, term) =
            snapshot.map_or((Index::ZERO, Term(0)), |snapshot| (snapshot.index, snapshot.term));
        let membership = snapshot.map(|snapshot| snapshot.membership.clone()).unwrap_or_default();
        let now_ms = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(0);
        let raft = Raft::new(self.raft_config(), restored, now_ms, draw());

        let (leads, leadership) = watch::channel(Leadership::default());
        let (done, accepted) = oneshot::channel();
        let input = Input::Reserve { group, done };
        self.shared.driver.send(input).await.map_err(|_| StartError::Stopped)?;
        if !accepted.await.map_err(|_| StartError::Stopped)? {
            return Err(StartError::Running { group });
        }
        let (done, started) = oneshot::channel();
        let machine = Restored { machine, applied, term, membership };
        let input = ApplyInput::Start { group, machine, done };
        self.shared.apply.send(input).await.map_err(|_| StartError::Stopped)?;
        let applied = started.await.map_err(|_| StartError::Stopped)?;
        let (done, started) = oneshot::channel();
        let input = Input::Start { group, raft: Box::new(raft), leadership: leads, done };
        self.shared.driver.send(input).await.map_err(|_| StartError::Stopped)?;
        started.await.map_err(|_| StartError::Stopped)?;
        let shared = self.shared.clone();
        Ok(Group { id: group, applied, leadership, shared, machine: PhantomData })
    }

    fn raft_config(&self) -> RaftConfig {
        let config = &self.shared.config;
        RaftConfig { election_ms: config.election_ms, ..RaftConfig::new(self.shared.node) }
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
}

/// A random number that no other life of a process has.
fn draw() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

impl<M> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            applied: self.applied.clone(),
            leadership: self.leadership.clone(),
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

    /// The newest term that this node knows: higher after every restart of a leader.
    #[must_use]
    pub fn term(&self) -> Term {
        self.leadership.borrow().term
    }

    /// Who leads, now and on every change.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Answers once the command is durable on a majority and applied here. Any member takes it;
    /// while nobody leads, it waits a while.
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
        let (len, max) = (command.len(), self.shared.config.max_command_bytes);
        if len > max {
            return Err(ProposeError::TooLarge { len, max });
        }
        let deadline = Instant::now() + LEADER_WAIT;
        loop {
            match self.propose_once(command.clone(), freeing).await {
                // Nothing was done: it may be tried again when somebody leads.
                Err(ProposeError::NotLeader { leader }) => {
                    let refused = ProposeError::NotLeader { leader };
                    self.wait_for_leader(deadline).await.ok_or(refused)?;
                }
                outcome => return outcome,
            }
        }
    }

    async fn propose_once(
        &self,
        command: Bytes,
        freeing: bool,
    ) -> Result<Applied<M::Reply>, ProposeError> {
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

    /// Waits until somebody leads, a moment at least: who is known may just have gone. `None` when
    /// the time is over.
    async fn wait_for_leader(&self, deadline: Instant) -> Option<()> {
        /// Between two tries with the same leader.
        const PAUSE: Duration = Duration::from_millis(20);
        let mut leadership = self.leadership.clone();
        tokio::time::sleep(PAUSE).await;
        let known = leadership.wait_for(|now| now.leader.is_some());
        tokio::time::timeout_at(deadline, known).await.ok()?.ok()?;
        Some(())
    }

    /// Reads the state on the apply task, which runs nothing else meanwhile: keep it short, clone
    /// what is big. The read is linearizable on every member: it sees whatever was answered,
    /// anywhere, before the call.
    ///
    /// # Errors
    ///
    /// When nobody leads for a while, or the group does not run here.
    pub async fn query<R: Send + 'static>(
        &self,
        read: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        let (mut visit, mut answer) = visit(|machine: &mut M| read(machine));
        let deadline = Instant::now() + LEADER_WAIT;
        loop {
            let (failed, failure) = oneshot::channel();
            let input = Input::Read(PendingRead { group: self.id, visit, failed });
            self.shared.driver.send(input).await.map_err(|_| QueryError::Stopped)?;
            tokio::select! {
                biased;
                answer = &mut answer => return answer.map_err(|_| QueryError::Stopped),
                Ok((error, unserved)) = failure => {
                    if !matches!(error, QueryError::NotLeader { .. }) {
                        return Err(error);
                    }
                    visit = unserved;
                    self.wait_for_leader(deadline).await.ok_or(error)?;
                }
            }
        }
    }

    /// Changes the part of the machine that is not replicated, on the apply task, with whatever is
    /// applied here.
    ///
    /// # Errors
    ///
    /// When the group does not run here.
    pub async fn local<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        let (visit, answer) = visit(change);
        let input = ApplyInput::Visit { group: self.id, from: Index::ZERO, visits: vec![visit] };
        self.shared.apply.send(input).await.map_err(|_| QueryError::Stopped)?;
        answer.await.map_err(|_| QueryError::Stopped)
    }

    /// A moment in the life of the group.
    ///
    /// # Errors
    ///
    /// When the group does not run here.
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.control(Control::Status).await
    }

    /// Changes the membership. The answer says that the leader has begun; the change is through
    /// when [`status`](Self::status) shows it committed and not joint.
    ///
    /// # Errors
    ///
    /// When this node does not lead, or the change makes no sense.
    pub async fn change(
        &self,
        changes: Vec<Change>,
    ) -> Result<Result<Index, ChangeRefused>, ControlError> {
        self.control(|done| Control::Change(changes, done)).await
    }

    /// Hands leadership over.
    ///
    /// # Errors
    ///
    /// When this node does not lead, or the other one cannot.
    pub async fn transfer(&self, to: NodeId) -> Result<Result<(), TransferRefused>, ControlError> {
        self.control(|done| Control::Transfer(to, done)).await
    }

    /// Hands leadership to whoever is best, if this node leads: before it stops.
    pub async fn resign(&self) {
        let input = Input::Control(self.id, Control::Resign);
        // A driver that has ended leads nothing.
        let _ = self.shared.driver.send(input).await;
    }

    async fn control<T>(
        &self,
        control: impl FnOnce(oneshot::Sender<T>) -> Control,
    ) -> Result<T, ControlError> {
        let (done, answer) = oneshot::channel();
        let input = Input::Control(self.id, control(done));
        self.shared.driver.send(input).await.map_err(|_| ControlError::Stopped)?;
        answer.await.map_err(|_| ControlError::Stopped)
    }

    /// Reads commands back from `from` on, up to `max_bytes` but at least one if there is one:
    /// from memory if they are recent, else from the disk on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the log is damaged there, by file and offset.
    pub async fn read(&self, from: Index, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let mut from = from;
        loop {
            let mut entries = self.read_all(from, max_bytes).await?;
            let last = entries.last().map(|entry| entry.index);
            // Blanks and memberships stand in between and are nobody's business.
            entries.retain(|entry| entry.kind == EntryKind::Command);
            match last {
                Some(last) if entries.is_empty() => from = last.next(),
                _ => return Ok(entries),
            }
        }
    }

    async fn read_all(&self, from: Index, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
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

/// A visit of the machine, and its answer.
fn visit<M: StateMachine, R: Send + 'static>(
    change: impl FnOnce(&mut M) -> R + Send + 'static,
) -> (Visit, oneshot::Receiver<R>) {
    let (reply, answer) = oneshot::channel();
    let visit: Visit = Box::new(move |machine: &mut dyn Any| {
        let machine = machine.downcast_mut().expect("the group was started with M");
        // The caller may have left; then nobody is told.
        let _ = reply.send(change(machine));
    });
    (visit, answer)
}
