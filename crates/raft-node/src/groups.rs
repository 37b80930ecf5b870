//! Handles: what services hold. Cloneable, bounded, no lock.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, MutexGuard, PoisonError};

use consensus::{
    Config as RaftConfig, GroupId, Index, Membership, Multi, MultiConfig, NodeId, Raft, Term,
};
use storage::snapshot::SnapshotStore;
use storage::{RealFileSystem, Recovery, SubmitError, Wal};
use telemetry::metrics::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarm::Alarm;
use crate::apply::{Apply, ApplyInput, Restored};
use crate::beginning::Beginning;
use crate::driver::{Driver, Input, Parts, Resume, Start};
use crate::error::{Failure, OpenError, RemoveError, StartError};
use crate::group::{Group, Leadership};
use crate::identity::Identity;
use crate::machine::StateMachine;
use crate::member::MemberInfo;
use crate::members::{self, Members};
use crate::metrics::Metrics;
use crate::mutants::{self, Mutant};
use crate::needs::Needs;
use crate::restore::{self, OnDisk};
use crate::snapshots::Snapshotter;
use crate::transport::{self, AppliedBy, PeerService, Source, Transport, TransportConfig};
use crate::{Config, identity};

/// Inputs that may wait for the driver before callers are told to back off.
const INBOX_MAX: usize = 4096;
/// Frames that may wait for the driver before peers have to wait.
const INCOMING_MAX: usize = 256;
/// Inputs that may wait for the apply task before nothing new is taken.
const APPLY_INBOX_MAX: usize = 4096;
/// What a new leader writes at most.
const LEAD_BYTES: usize = 1024;
/// A write that takes at least so long, and at least three election timeouts, hangs.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// All groups of this process, on one log.
#[derive(Clone)]
pub struct Groups {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) node: NodeId,
    /// Since which entry it has its place, if it was added.
    pub(crate) joined: Option<Index>,
    pub(crate) wal: Wal,
    pub(crate) snapshots: Arc<SnapshotStore>,
    pub(crate) driver: mpsc::Sender<Input>,
    pub(crate) apply: mpsc::Sender<ApplyInput>,
    pub(crate) transport: Transport,
    pub(crate) recovery: Recovery,
    pub(crate) config: Config,
    pub(crate) started: Instant,
    /// How far the machines are, for members that lack entries of their logs.
    applied: AppliedBy,
    alarm: Alarm,
}

impl Shared {
    /// Held for a look or a change of one group.
    fn applied_by(&self) -> MutexGuard<'_, BTreeMap<GroupId, watch::Receiver<Index>>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

impl Groups {
    /// Opens the log and the snapshots under `config.data_dir` and starts the owner tasks, which
    /// end with `host.stop`.
    ///
    /// # Errors
    ///
    /// When another process holds the directory, or the log cannot be read.
    pub fn open(config: Config, host: Host) -> Result<Self, OpenError> {
        let Host { tasks, stop, links, metrics } = host;
        config.check()?;
        let file_system = Arc::new(RealFileSystem);
        let dir = |name: &str| config.data_dir.join(name);
        let (wal, recovery) = Wal::open(file_system.clone(), &dir("wal"), config.wal.clone())?;
        let Identity { node, joined } = identity::load_or_draw(&*file_system, &config.data_dir)?;
        let snapshots = Arc::new(SnapshotStore::open(file_system, &dir("snapshots"))?);

        let (driver_sender, driver_inbox) = mpsc::channel(INBOX_MAX);
        let (apply_sender, apply_inbox) = mpsc::channel(APPLY_INBOX_MAX);
        let (incoming_sender, incoming) = mpsc::channel(INCOMING_MAX);
        let epoch = draw();
        let figures = Metrics::new(&metrics);
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
        let started = Instant::now();
        let driver = Driver::new(Parts {
            multi: Multi::new(multi_config(&config, node, epoch), 0),
            wal: wal.clone(),
            inbox: driver_inbox,
            inputs: driver_sender.downgrade(),
            incoming,
            transport: transport.clone(),
            apply: apply_sender.clone(),
            tasks: tasks.clone(),
            adopt: config.adopt.clone(),
            max_command_bytes: config.max_command_bytes,
            metrics: figures.clone(),
            disk_patience: DISK_PATIENCE.max(Duration::from_millis(3 * config.election_ms)),
            started,
            fill_bytes_per_second: config.fill_bytes_per_second,
        });
        let alarm = Alarm::new();
        let snapshotter = Snapshotter::new(
            snapshots.clone(),
            apply_sender.downgrade(),
            driver_sender.downgrade(),
            tasks.clone(),
            alarm.clone(),
        );
        let apply =
            Apply::new(&config, wal.clone(), apply_inbox, snapshotter, figures.proposal_seconds);
        tasks.spawn(alarm.clone().watch("driver", driver.run(stop.clone())));
        tasks.spawn(alarm.clone().watch("apply", apply.run(stop)));
        let shared = Shared {
            node,
            joined,
            wal,
            snapshots,
            driver: driver_sender,
            apply: apply_sender,
            transport,
            recovery,
            config,
            started,
            applied: AppliedBy::default(),
            alarm,
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
        let (wal, applied) = (self.shared.wal.clone(), self.shared.applied.clone());
        let service = self.shared.transport.service().with_entries(Source { wal, applied });
        service.with_members(members::asked(self.shared.clone()))
    }

    /// The members of a group, to look at and to change.
    #[must_use]
    pub fn members(&self, group: GroupId) -> Members {
        Members::new(group, self.shared.clone())
    }

    /// Whether this node was added to a running cluster, and not one of its founders.
    #[must_use]
    pub fn was_added(&self) -> bool {
        self.shared.joined.is_some()
    }

    /// Name and addresses of this node, as it tells them to others that do not know it yet.
    /// `seed` is the digest of what was planted here, if the group has not begun.
    pub async fn introduce(&self, info: MemberInfo, seed: Option<String>) {
        // A driver that has ended tells nobody anything.
        let _ = self.shared.driver.send(Input::Introduce(info, seed)).await;
    }

    /// Says whom this node has met as a founder.
    pub(crate) async fn say_met(&self, digest: String) {
        // As above.
        let _ = self.shared.driver.send(Input::Met(digest)).await;
    }

    pub(crate) fn data_dir(&self) -> &std::path::Path {
        &self.shared.config.data_dir
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
        let started = self.start_with(group, machine, Beginning::Met(alone)).await?;
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
        let led = group.barrier();
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

    /// Starts a group as it was left. One that is new here begins as `beginning` says.
    ///
    /// When this returns, the machine is as its snapshot left it; what is committed behind that is
    /// applied when a leader says so. [`Group::barrier`] waits for it.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); [`StartError::NotFounder`] when the founders do not include this
    /// node: it would wait for a membership that nobody gives it.
    pub async fn start_with<M: StateMachine>(
        &self,
        group: GroupId,
        mut machine: M,
        beginning: Beginning,
    ) -> Result<Group<M>, StartError> {
        let (founders, first) = beginning.founders();
        if first.is_some() && !founders.voters.contains(&self.node()) {
            return Err(StartError::NotFounder { group });
        }
        let hurries = first.map(|first| first == self.node());
        let (wal, store) = (self.shared.wal.clone(), self.shared.snapshots.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let OnDisk { raft, machine: state, mut durable, trusted } =
                restore::load(&wal, &store, group, &founders)?;
            if let Some(state) = state {
                machine.restore(&state).map_err(|source| StartError::Restore { group, source })?;
            }
            let mut needs = Needs::default();
            if let (Some(trusted), Some(snapshot)) = (trusted, &raft.snapshot) {
                let reads = (machine.retained(), snapshot.index);
                needs = Needs::of(&wal, group, reads, trusted);
                let members = raft.memberships.last().map(|(_, newest)| newest.members());
                // Nobody could give it what is missing.
                if let Some(first) =
                    needs.missing.first().filter(|_| members.is_some_and(|all| all.len() < 2))
                {
                    let detail = format!("entry {} is missing below its snapshot", first.start());
                    return Err(StartError::Damaged { group, detail });
                }
                if mutants::is(Mutant::ResumedAsWhole) {
                    needs.missing.clear();
                }
                let at = (snapshot.index, snapshot.term);
                durable = Some(restore::go_on(&wal, group, at, &needs)?);
            }
            Ok::<_, StartError>((raft, machine, durable, needs.missing))
        });
        let (raft, machine, durable, missing) = loaded.await.unwrap_or(Err(StartError::Stopped))?;
        if let Some(token) = durable {
            let mut synced = self.shared.wal.durable();
            let done = synced.wait_for(|now| token <= now.token || now.failed.is_some()).await;
            if !done.is_ok_and(|now| now.failed.is_none()) {
                return Err(StartError::Stopped);
            }
        }
        self.run(group, Box::new(machine), (raft, missing), hurries).await
    }

    async fn run<M: StateMachine>(
        &self,
        group: GroupId,
        machine: Box<M>,
        (restored, missing): (consensus::Restored, Vec<RangeInclusive<Index>>),
        hurries: Option<bool>,
    ) -> Result<Group<M>, StartError> {
        let snapshot = restored.snapshot.as_ref();
        let (applied, term) =
            snapshot.map_or((Index::ZERO, Term(0)), |snapshot| (snapshot.index, snapshot.term));
        let membership = snapshot.map(|snapshot| snapshot.membership.clone()).unwrap_or_default();
        let now_ms = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(0);
        let mut raft = Raft::new(self.raft_config(), restored, now_ms, draw());
        hurries.into_iter().for_each(|first| raft.hurry(first));
        let installing = (!missing.is_empty()).then(|| raft.resume_install());

        let (leads, leadership) = watch::channel(Leadership::default());
        let (done, accepted) = oneshot::channel();
        let input = Input::Reserve { group, done };
        self.shared.driver.send(input).await.map_err(|_| StartError::Stopped)?;
        if !accepted.await.map_err(|_| StartError::Stopped)? {
            return Err(StartError::Running { group });
        }
        let (done, started) = oneshot::channel();
        let next = applied.next();
        let resume = installing.map(|ticket| Resume { ticket, next, missing });
        let machine = Restored { machine, applied, term, membership, installing };
        let input = ApplyInput::Start { group, machine, done };
        self.shared.apply.send(input).await.map_err(|_| StartError::Stopped)?;
        let applied = started.await.map_err(|_| StartError::Stopped)?;
        let (done, started) = oneshot::channel();
        let applied_here = applied.clone();
        let start = Start { group, raft, leadership: leads, applied: applied_here, resume, done };
        let input = Input::Start(Box::new(start));
        self.shared.driver.send(input).await.map_err(|_| StartError::Stopped)?;
        started.await.map_err(|_| StartError::Stopped)?;
        self.shared.applied_by().insert(group, applied.clone());
        let shared = self.shared.clone();
        Ok(Group::new(group, applied, leadership, shared))
    }

    fn raft_config(&self) -> RaftConfig {
        let config = &self.shared.config;
        RaftConfig { election_ms: config.election_ms, ..RaftConfig::new(self.shared.node) }
    }

    /// Where other nodes are reached: the base URL of the peer listener by node, all that are known,
    /// in place of what was said before. This node may be among them. The book goes before what
    /// memberships say; groups begun with [`Beginning::Founders`] are reached by it alone, and the
    /// `info` of their members stays empty.
    ///
    /// Connections are opened to all of them, also before they share a group with this node.
    pub async fn know(&self, nodes: BTreeMap<NodeId, String>) {
        // A driver that has ended reaches nobody.
        let _ = self.shared.driver.send(Input::Know(nodes)).await;
    }

    /// Asks every group that this node leads to go to a reachable voter that has everything, drawn
    /// among equals; what nobody else can lead is given up. For a drain. Returns when all are asked;
    /// [`Group::leadership`] shows when each is gone, an election timeout later at most. What other
    /// nodes hand over afterwards comes here all the same: a drain repeats the call.
    pub async fn resign_all(&self) {
        // A driver that has ended leads nothing.
        let _ = self.shared.driver.send(Input::ResignAll).await;
    }

    /// Ends a group that this node is no member of any more: deletes its entries and its snapshot,
    /// and with them what the machine knew. What was promised stays (some 50 bytes), so that the
    /// node may be made a member again, by [`start_with`](Self::start_with) with
    /// [`Beginning::Member`]: it comes back empty, but neither votes twice in a term nor lets
    /// somebody be elected who lacks what it had confirmed. Wait 60 s before that, so that no
    /// message of its former life is under way. A group that is not here, or damaged: the same.
    ///
    /// To be called only when the removal of this node is committed: a group may have counted on
    /// this copy until then.
    ///
    /// # Errors
    ///
    /// When the node is stopping, or a file cannot be deleted: to be repeated.
    pub async fn leave(&self, group: GroupId) -> Result<(), RemoveError> {
        self.end(group).await?;
        // First the file: if the crash comes before the log, the copy is damaged and left again.
        self.delete_snapshot(group).await?;
        self.forget(group, true).await
    }

    /// Ends a group and deletes its log and snapshot, and what was promised: for groups that exist
    /// nowhere any more. Its id is never used again.
    ///
    /// # Errors
    ///
    /// When the node is stopping, or a file cannot be deleted: to be repeated.
    pub async fn remove(&self, group: GroupId) -> Result<(), RemoveError> {
        self.end(group).await?;
        self.forget(group, false).await?;
        self.delete_snapshot(group).await
    }

    async fn end(&self, group: GroupId) -> Result<(), RemoveError> {
        let (done, ended) = oneshot::channel();
        let input = ApplyInput::Remove { group, done };
        self.shared.apply.send(input).await.map_err(|_| RemoveError::Stopped)?;
        ended.await.map_err(|_| RemoveError::Stopped)?;
        self.shared.applied_by().remove(&group);
        Ok(())
    }

    async fn forget(&self, group: GroupId, is_left: bool) -> Result<(), RemoveError> {
        let (done, removed) = oneshot::channel();
        let input = Input::Remove { group, is_left, done };
        self.shared.driver.send(input).await.map_err(|_| RemoveError::Stopped)?;
        removed.await.map_err(|_| RemoveError::Stopped)?
    }

    async fn delete_snapshot(&self, group: GroupId) -> Result<(), RemoveError> {
        let snapshots = self.shared.snapshots.clone();
        tokio::task::spawn_blocking(move || snapshots.remove(group))
            .await
            .map_err(|_| RemoveError::Stopped)??;
        Ok(())
    }

    /// Resolves when the process must end: the log has failed, or a task of this host has
    /// panicked.
    /// Never while it stops on purpose.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + 'static {
        let mut failure = self.shared.wal.failure();
        let mut broken = self.shared.alarm.subscribe();
        async move {
            let log = async {
                let failed = failure.wait_for(Option::is_some).await;
                failed.ok().and_then(|failed| failed.clone())
            };
            let task = async {
                let broken = broken.wait_for(Option::is_some).await;
                broken.ok().and_then(|broken| *broken)
            };
            tokio::select! {
                Some(error) = log => Failure::Log(error),
                Some(name) = task => Failure::Task(name),
                else => std::future::pending().await,
            }
        }
    }
}

fn multi_config(config: &Config, node: NodeId, epoch: u64) -> MultiConfig {
    let Config { heartbeat_ms, election_ms, .. } = *config;
    MultiConfig { node, epoch, heartbeat_ms, election_ms }
}

/// A random number that no other life of a process has.
fn draw() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}
