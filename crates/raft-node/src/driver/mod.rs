//! The owner of the groups: feeds them what comes from callers, the disk, the network and the
//! clock, and carries out what they want done.
//!
//! There is no timer and no batch size to tune: whatever waits in the inboxes when the driver
//! looks becomes one submission to the log and one frame per peer, and commands that come during a
//! round share the next one ([`propose`]).
//!
//! It never waits for anything but the next input: not for the disk, nor the network, nor the
//! machines. So a node whose disk hangs still says that it lives, and can hand over what it leads.

mod backlog;
mod carry;
mod contacts;
mod disk;
mod fill;
mod forward;
mod input;
mod lead;
mod observe;
mod propose;
mod read;
mod snapshot;
mod way;

use std::collections::{BTreeMap, BTreeSet};

use consensus::{GroupId, Index, Message, Multi, NodeId, Output};
use storage::Wal;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::apply::{ApplyInput, Waiter};
use crate::config::Adopt;
use crate::error::ProposeError;
use crate::fill::Filler;
use crate::group::Leadership;
use crate::identity::NodeCard;
use crate::member::MemberInfo;
use crate::metrics::Metrics;
use crate::transport::{Incoming, PeerFrame, Transport};
use backlog::Backlog;
use carry::Ended;
use contacts::Contacts;
use disk::Disk;
pub(crate) use fill::{Install, Resume};
use forward::Forwards;
pub(crate) use input::{Control, Input, PendingRead, Proposal, ReplySender, Snapshotted, Start};
use observe::Observed;
use propose::Held;
use read::Reads;
use snapshot::Fetched;
use way::Way;

/// Inputs taken from an inbox at a time.
const BATCH_MAX: usize = 1024;
/// How long to wait before something that the log had no room for is tried again.
const RETRY: Duration = Duration::from_millis(100);

pub(crate) struct Driver {
    multi: Multi,
    /// Closed before whoever watches a group is told that it is gone: so the end of the driver
    /// differs from that of the group.
    inbox: mpsc::Receiver<Input>,
    incoming: mpsc::Receiver<Incoming>,
    transport: Transport,
    apply: mpsc::Sender<ApplyInput>,
    /// What the apply task had no room for, in order. Nothing new is taken while there is any.
    apply_backlog: Backlog,
    disk: Disk,
    reads: Reads,
    forwards: Forwards,
    fetched: BTreeMap<GroupId, Fetched>,
    /// Groups that run or are about to.
    reserved: BTreeSet<GroupId>,
    leadership: BTreeMap<GroupId, watch::Sender<Leadership>>,
    /// Groups that have ended here, and their terms then.
    ended: Ended,
    /// How far the machines are.
    applied: BTreeMap<GroupId, watch::Receiver<Index>>,
    /// Who waits for entries that are placed and not committed: handed on with the commit.
    waiters: BTreeMap<GroupId, Vec<Waiter>>,
    held: Held,
    observed: Observed,
    contacts: Contacts,
    started: Instant,
    output: Output,
    /// What goes to the peers with this flush.
    frames: BTreeMap<NodeId, PeerFrame>,
    /// For tasks that answer later. Weak, so that the driver ends when its handles are gone.
    inputs: mpsc::WeakSender<Input>,
    tasks: TaskTracker,
    fetching: BTreeMap<GroupId, JoinHandle<()>>,
    filler: Filler,
    filling: BTreeMap<GroupId, AbortOnDropHandle<()>>,
    /// What this node tells about itself.
    card: NodeCard,
    adopt: Adopt,
    max_command_bytes: usize,
    way: Way,
}

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) multi: Multi,
    pub(crate) wal: Wal,
    pub(crate) inbox: mpsc::Receiver<Input>,
    pub(crate) inputs: mpsc::WeakSender<Input>,
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    pub(crate) transport: Transport,
    pub(crate) apply: mpsc::Sender<ApplyInput>,
    pub(crate) tasks: TaskTracker,
    pub(crate) adopt: Adopt,
    pub(crate) max_command_bytes: usize,
    pub(crate) metrics: Metrics,
    /// A write that takes longer hangs.
    pub(crate) disk_patience: Duration,
    pub(crate) started: Instant,
    /// See the configuration.
    pub(crate) fill_bytes_per_second: u64,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let card = NodeCard::new(parts.multi.node(), MemberInfo::default());
        let Parts {
            multi,
            wal,
            inbox,
            inputs,
            incoming,
            transport,
            apply,
            tasks,
            adopt,
            max_command_bytes,
            metrics,
            started,
            disk_patience,
            fill_bytes_per_second,
        } = parts;
        let filler =
            Filler::new(wal.clone(), transport.clone(), inputs.clone(), fill_bytes_per_second);
        Self {
            multi,
            inbox,
            incoming,
            transport,
            apply,
            apply_backlog: Backlog::default(),
            disk: Disk::new(wal, metrics.persist_seconds.clone()),
            reads: Reads::default(),
            forwards: Forwards::new(),
            fetched: BTreeMap::new(),
            reserved: BTreeSet::new(),
            leadership: BTreeMap::new(),
            ended: Ended::default(),
            applied: BTreeMap::new(),
            waiters: BTreeMap::new(),
            held: Held::default(),
            observed: Observed::new(metrics),
            contacts: Contacts::default(),
            started,
            output: Output::default(),
            frames: BTreeMap::new(),
            inputs,
            tasks,
            fetching: BTreeMap::new(),
            filler,
            filling: BTreeMap::new(),
            card,
            adopt,
            max_command_bytes,
            way: Way::new(disk_patience),
        }
    }

    /// Runs until told to stop, or until the log fails: then nothing more can be promised, and
    /// whoever waits learns that the outcome is unknown.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut durable = self.disk.durable();
        let apply = self.apply.clone();
        let mut inputs = Vec::with_capacity(BATCH_MAX);
        let mut frames = Vec::with_capacity(BATCH_MAX);
        loop {
            let (wake, is_apply_full) = (self.wake_at(), !self.apply_backlog.is_empty());
            let mut synced = None;
            tokio::select! {
                () = stop.cancelled() => return,
                () = apply.closed() => return,
                changed = durable.changed() => {
                    let now = durable.borrow_and_update().clone();
                    if changed.is_err() || now.failed.is_some() {
                        return;
                    }
                    synced = Some(now.token);
                }
                taken = self.inbox.recv_many(&mut inputs, BATCH_MAX) => {
                    if taken == 0 {
                        return;
                    }
                }
                Some(first) = self.incoming.recv() => frames.push(first),
                permit = apply.reserve(), if is_apply_full => {
                    let Ok(permit) = permit else { return };
                    permit.send(self.apply_backlog.pop().expect("there is some"));
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            self.observed.note_woken(wake, Instant::now());
            // Whatever else is there already shares the flush.
            while frames.len() < BATCH_MAX
                && let Ok(frame) = self.incoming.try_recv()
            {
                frames.push(frame);
            }
            self.multi.tick(self.now_ms());
            synced.into_iter().for_each(|token| self.handle_durable(token));
            frames.drain(..).for_each(|frame| self.handle_incoming(frame));
            self.handle_inputs(inputs.drain(..));
            self.place_held();
            self.make_way();
            self.look(Instant::now());
            self.flush();
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("a process lives less than that")
    }

    fn wake_at(&self) -> Instant {
        let timer = self.multi.deadline_ms().map(|ms| self.started + Duration::from_millis(ms));
        let far = Instant::now() + Duration::from_secs(1);
        let retry = self.disk.is_behind().then(|| Instant::now() + RETRY);
        [timer, retry, self.held.wake].into_iter().flatten().min().unwrap_or(far).min(far)
    }

    /// The log has come this far.
    fn handle_durable(&mut self, token: storage::IoToken) {
        for (group, ticket) in self.disk.finished(token) {
            if let Some(raft) = self.multi.touch(group) {
                raft.handle_persisted(ticket);
            }
            self.end_marks(group);
        }
    }

    fn handle_incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Frame { from, frame } => {
                // A reply names an index before the entries around it commit.
                frame.replies.into_iter().for_each(|reply| self.handle_forward_reply(reply));
                if let Some(heartbeat) = frame.heartbeat {
                    self.multi.receive_heartbeat(from, heartbeat);
                }
                frame.marks.iter().for_each(|mark| self.observed.mark(mark));
                for (group, message) in frame.messages {
                    self.observed.note_received(from, group, &message);
                    self.receive(from, group, message);
                }
                frame.forwards.into_iter().for_each(|forward| self.handle_forward(from, forward));
            }
            Incoming::Met { node, url } => self.meet(node, url),
            Incoming::Refused { node } => self.multi.handle_refused(node),
            // Its answers may be lost.
            Incoming::Unheard { node } => self.give_up_forwards_to(node),
            Incoming::Connected { node } => self.multi.handle_connected(node),
            Incoming::Disconnected { node, unsent } => {
                for id in unsent {
                    self.fail_forward(id, ProposeError::NotLeader { leader: None });
                }
                self.give_up_forwards_to(node);
            }
        }
    }

    fn receive(&mut self, from: NodeId, group: GroupId, message: Message) {
        let asks = matches!(message, Message::ReadIndex(_));
        if self.disk.takes(&message) && !self.multi.receive(from, group, message) && asks {
            self.refer(from, group);
        }
    }

    fn handle_inputs(&mut self, inputs: impl Iterator<Item = Input>) {
        let mut proposals: BTreeMap<GroupId, Vec<Proposal>> = BTreeMap::new();
        let mut reads: BTreeMap<GroupId, Vec<PendingRead>> = BTreeMap::new();
        for input in inputs {
            match input {
                Input::Propose(proposal) => {
                    proposals.entry(proposal.group).or_default().push(proposal);
                }
                Input::Read(read) => reads.entry(read.group).or_default().push(read),
                Input::Introduce(info, seed) => {
                    self.card.info = info;
                    self.card.seed = seed;
                    self.transport.set_identity(self.card.to_json());
                    self.transport.set_own_url(self.card.info.peer_url.clone());
                }
                Input::Met(digest) => {
                    self.card.met = Some(digest);
                    self.transport.set_identity(self.card.to_json());
                }
                Input::Know(nodes) => self.know(nodes),
                Input::ResignAll => {
                    self.propose_all(std::mem::take(&mut proposals));
                    self.place_all();
                    self.resign_all();
                }
                Input::Reserve { group, done } => {
                    let is_free = self.reserved.insert(group);
                    if done.send(is_free).is_err() && is_free {
                        self.reserved.remove(&group);
                    }
                }
                Input::Start(start) => self.start(*start),
                Input::Abandon { group } => {
                    self.end(group);
                    self.reserved.remove(&group);
                }
                Input::Broken { group } => {
                    tracing::error!(%group, "a group cannot go on here; rebuild it");
                    self.end(group);
                }
                Input::Remove { group, is_left, done } => {
                    // In order: what was proposed before the removal goes before it.
                    self.propose_all(std::mem::take(&mut proposals));
                    self.place_all();
                    self.handle_remove(group, is_left, done);
                }
                Input::Control(group, control) => {
                    self.propose_all(std::mem::take(&mut proposals));
                    self.place_all();
                    self.handle_control(group, control);
                }
                Input::Snapshotted(snapshotted) => self.handle_snapshotted(snapshotted),
                Input::Loaded { group, from, entries } => {
                    if let Some(raft) = self.multi.touch(group) {
                        raft.handle_loaded(from, entries);
                    }
                }
                Input::Fetched { group, snapshot, bytes } => {
                    self.handle_fetched(group, snapshot, bytes);
                }
                Input::Installed { group, install } => self.handle_installed(group, install),
                Input::Filled { group, ticket } => self.handle_filled(group, ticket),
            }
        }
        self.propose_all(proposals);
        reads.into_iter().for_each(|(group, reads)| self.handle_reads(group, reads));
    }

    fn start(&mut self, start: Start) {
        let Start { group, raft, leadership, applied, resume, done } = start;
        self.ended.remove(group);
        self.leadership.insert(group, leadership);
        self.applied.insert(group, applied);
        let membership = raft.membership().clone();
        self.multi.add(group, raft);
        self.note_members(group, &membership);
        if membership.members().is_empty() {
            // Whoever leads it may have been here already.
            self.contacts.touch();
        }
        if let Some(resume) = resume {
            self.resume(group, resume);
        }
        // The starter may have left; the group runs all the same.
        let _ = done.send(());
    }

    fn flush(&mut self) {
        let mut output = std::mem::take(&mut self.output);
        self.multi.flush(&mut output);
        self.carry_out(&mut output);
        self.output = output;
        let poisoned = self.disk.take_poisoned();
        if !poisoned.is_empty() {
            poisoned.into_iter().for_each(|group| self.end(group));
            self.send_frames();
        }
    }

    /// Hands something to the apply task without waiting for it.
    fn hand_to_apply(&mut self, input: ApplyInput) {
        if self.apply_backlog.is_empty() {
            match self.apply.try_send(input) {
                // The apply task has ended: then the driver ends, too.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(input)) => self.apply_backlog.push(input),
            }
            return;
        }
        self.apply_backlog.push(input);
    }

    fn leadership_of(&self, group: GroupId) -> Leadership {
        self.leadership.get(&group).map(|sender| *sender.borrow()).unwrap_or_default()
    }
}
