//! One group, as one node sees it.
//!
//! `mod` holds the state, the inputs of the host, and the flush that turns what has changed into
//! effects; `term` sorts incoming messages by their term, then each concern has its file.

mod election;
mod explore;
mod follower;
mod founding;
mod leader;
mod members;
mod persist;
mod read;
mod replicate;
mod snapshot;
mod status;
mod term;
mod transfer;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::effect::{Effect, ReadId};
use crate::entry::{Entry, EntryKind};
use crate::ids::{HardState, Index, NodeId, Term};
use crate::log::{Log, TermRun};
use crate::membership::Membership;
use crate::message::{Message, SnapshotMeta};
use crate::sorted::NodeSet;
use election::Candidate;
use follower::Ack;
use leader::Leader;
pub use leader::{ProposeRefused, Proposed};
pub use members::ChangeRefused;
use members::Memberships;
use persist::Pending;
use read::RemoteReads;
pub use status::{PeerStatus, RoleName, Status};
pub use transfer::TransferRefused;

/// Settings of a group. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// §5.2: a follower without a leader campaigns after one to two of these.
    pub election_ms: u64,
    /// What was not answered for this long is sent again.
    pub retry_ms: u64,
    /// Bytes of entries in one append; one entry may be more.
    pub max_append_bytes: usize,
    /// Appends and bytes on the way to one follower.
    pub max_in_flight_appends: usize,
    /// See [`max_in_flight_appends`](Self::max_in_flight_appends).
    pub max_in_flight_bytes: usize,
    /// Entries kept in memory after they are settled, while a member may ask for them.
    pub recent_bytes: usize,
    /// Proposals that are not committed yet; more are refused.
    pub max_uncommitted_bytes: usize,
}

impl Config {
    /// The defaults for a node: elections after 1 to 2 s, appends of 1 MiB, 256 of them or 16 MiB
    /// on the way to each follower, 64 MiB not committed, 4 MiB of settled entries in memory.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self {
            node,
            election_ms: 1000,
            retry_ms: 300,
            max_append_bytes: 1 << 20,
            max_in_flight_appends: 256,
            max_in_flight_bytes: 16 << 20,
            recent_bytes: 4 << 20,
            max_uncommitted_bytes: 64 << 20,
        }
    }
}

/// What the disk holds of a group when its node starts. The default is a group that is new here.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The promise.
    pub hard_state: HardState,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotMeta>,
    /// The last entry that cannot be read any more, and its term: at most the snapshot's.
    pub base: (Index, Term),
    /// The terms of the entries behind `base`.
    pub runs: VecDeque<TermRun>,
    /// The last entry.
    pub last: Index,
    /// Every membership entry of the log, and before them the one in force at `base`.
    pub memberships: Vec<(Index, Arc<Membership>)>,
}

impl Restored {
    /// The first entry of a group that these members found. Each of them writes it to its empty
    /// log, durably, with a promise of the same term, before it starts: so it is committed from
    /// the beginning, and whoever joins later gets it like any other entry.
    #[must_use]
    pub fn founding(founders: &Membership) -> (HardState, Entry) {
        let (term, index) = (Term(1), Index(1));
        let payload = founders.encode();
        let entry = Entry { term, index, kind: EntryKind::Membership, payload };
        (HardState { term, commit: index, ..HardState::default() }, entry)
    }

    /// What the disk holds after [`founding`](Self::founding).
    #[must_use]
    pub fn founded(founders: Membership) -> Self {
        let (hard_state, entry) = Self::founding(&founders);
        let first = TermRun { first: entry.index, term: entry.term };
        Self {
            hard_state,
            runs: VecDeque::from([first]),
            last: entry.index,
            memberships: vec![(entry.index, Arc::new(founders))],
            ..Self::default()
        }
    }
}

/// A group, as one node sees it. See the [crate] for how to drive it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    config: Config,
    hard_state: HardState,
    log: Log,
    memberships: Memberships,
    snapshot: Option<SnapshotMeta>,
    role: Role,
    leader: Option<NodeId>,
    /// Nodes that the host does not hear.
    unreachable: NodeSet,
    now_ms: u64,
    /// When to act unless something happens: to campaign, to send again, to give reads up.
    deadline_ms: Option<u64>,
    random: u64,
    /// What waits for the disk.
    pending: Pending,
    /// What a follower owes its leader.
    ack: Option<Ack>,
    /// Reads passed on to the leader.
    remote_reads: RemoteReads,
    /// The last commit and leader the host was told.
    told_commit: Index,
    /// While a founded group waits for its first leader: until it asks again.
    hurry_ms: Option<u64>,
    told_leader: (Term, Option<NodeId>),
    poisoned: bool,
    effects: Vec<Effect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    Follower,
    Candidate(Candidate),
    Leader(Box<Leader>),
}

impl Raft {
    /// A group from what the disk holds. `seed` is random, and new in every life of the process.
    #[must_use]
    pub fn new(config: Config, restored: Restored, now_ms: u64, seed: u64) -> Self {
        let Restored { mut hard_state, snapshot, base, runs, last, memberships } = restored;
        let snapshotted = snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.index);
        // The hint may point behind what a cut tail has left.
        hard_state.commit = hard_state.commit.min(last).max(snapshotted);
        let log = Log::new(base, runs, last);
        if hard_state.term < log.last_term() {
            // A log that was not written by this group's own life: a restored backup.
            hard_state.term = log.last_term();
            hard_state.voted_for = None;
        }
        let mut raft = Self {
            config,
            hard_state,
            log,
            memberships: Memberships::new(memberships),
            snapshot,
            role: Role::Follower,
            leader: None,
            unreachable: NodeSet::default(),
            now_ms,
            deadline_ms: None,
            random: seed,
            pending: Pending::new(last),
            ack: None,
            remote_reads: RemoteReads::new(seed),
            told_commit: snapshotted,
            hurry_ms: None,
            told_leader: (hard_state.term, None),
            poisoned: false,
            effects: Vec::new(),
        };
        let membership = raft.membership();
        let is_alone = membership.voters.len() == 1 && !membership.is_joint();
        match is_alone && membership.is_voter(raft.node()) {
            // There is nobody to wait for.
            true => raft.deadline_ms = Some(now_ms),
            false => raft.arm_election(),
        }
        raft
    }

    /// Time passes. Needed when [`deadline_ms`](Self::deadline_ms) has come, harmless else. It
    /// never goes back.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.poisoned || self.deadline_ms.is_none_or(|deadline| self.now_ms < deadline) {
            return;
        }
        self.deadline_ms = None;
        match &self.role {
            Role::Leader(_) => self.handle_retry_time(),
            Role::Follower if self.leader.is_some() => self.fail_remote_reads(),
            Role::Follower | Role::Candidate(_) => self.campaign_first(),
        }
    }

    /// When [`tick`](Self::tick) is needed next; `None` for an idle group.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// This node and that one hear each other, after a silence or in a new life of it: what it was
    /// sent before may be lost, and what it led before it may not lead any more.
    pub fn handle_node_up(&mut self, node: NodeId, is_new_life: bool) {
        self.unreachable.remove(&node);
        match &mut self.role {
            Role::Leader(leader) => leader.poke(node),
            _ if is_new_life && self.leader == Some(node) => self.lose_leader(),
            _ => {}
        }
    }

    /// What was sent to that node lately may be lost.
    pub fn handle_connected(&mut self, node: NodeId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.retry(node);
        }
    }

    /// That node has not answered for an election timeout: whoever leads must not count on it.
    pub fn handle_node_down(&mut self, node: NodeId) {
        self.unreachable.insert(node);
        if let Role::Leader(leader) = &mut self.role {
            leader.handle_unreachable(node);
            self.check_quorum();
        }
    }

    /// Nothing was heard of that node for an election timeout: whoever follows it must look for
    /// another leader.
    pub fn handle_node_silent(&mut self, node: NodeId) {
        if self.leader == Some(node) && !self.is_leader() {
            self.lose_leader();
        }
    }

    /// Appends what is to be done. Call it after inputs, once for many of them: what they changed
    /// is written and sent together.
    pub fn flush(&mut self, effects: &mut Vec<Effect>) {
        if !self.poisoned {
            self.start_reads();
            self.flush_persist();
            self.flush_appends();
            self.flush_ack();
            self.flush_transfer();
            self.flush_remote_reads();
            self.flush_commit();
            self.shrink_log();
            self.arm_retry();
        }
        self.flush_leader();
        effects.append(&mut self.effects);
        // An idle group holds on to nothing.
        self.effects = Vec::new();
    }

    /// Takes `payloads` as the next entries, in order.
    ///
    /// # Errors
    ///
    /// When this node does not lead, is handing leadership over, or too much waits already.
    pub fn propose(&mut self, payloads: Vec<Bytes>) -> Result<Proposed, ProposeRefused> {
        self.propose_entries(payloads)
    }

    /// Asks from which index on a read is linearizable, on any member; the answer is
    /// [`Effect::ReadReady`] or [`Effect::ReadFailed`].
    pub fn read(&mut self, read: ReadId) {
        self.take_read(read);
    }

    fn node(&self) -> NodeId {
        self.config.node
    }

    /// The newest term that this node knows.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// As far as this node knows.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.hard_state.commit
    }

    /// This node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who belongs to the group: the newest that this node has of it, committed or not.
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        self.memberships.current()
    }

    /// Up to here nothing can change any more and nothing needs it in memory for its safety.
    fn settled(&self) -> Index {
        self.commit().min(self.log.durable())
    }

    /// Nobody will ask for entries that every member has, or that a follower has settled: whoever
    /// leads next reads them from its disk, if a member should lack one.
    fn shrink_log(&mut self) {
        let (last, settled) = (self.log.last(), self.settled());
        let all_have_it = match &self.role {
            Role::Leader(leader) => leader.peers.values().all(|peer| peer.matched == last),
            Role::Follower | Role::Candidate(_) => true,
        };
        let is_at_rest = settled == last && all_have_it;
        self.log.shrink(if is_at_rest { 0 } else { self.config.recent_bytes }, settled);
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.effects.push(Effect::Send { to, message });
    }

    fn flush_commit(&mut self) {
        let through = self.settled();
        if self.told_commit < through {
            self.told_commit = through;
            self.effects.push(Effect::Commit { through });
        }
    }

    fn flush_leader(&mut self) {
        let now = (self.term(), self.leader);
        if self.told_leader != now {
            self.told_leader = now;
            self.effects.push(Effect::Leader { term: now.0, leader: now.1 });
        }
    }

    /// The host lets the group go: what those who follow have to be told, for they would follow
    /// this node for as long as it lives.
    #[must_use]
    pub fn end(mut self) -> Vec<(NodeId, Message)> {
        self.step_down();
        let sends = self.effects.into_iter().filter_map(|effect| match effect {
            Effect::Send { to, message } => Some((to, message)),
            _ => None,
        });
        sends.collect()
    }

    /// What cannot happen has happened: taking part would spread it.
    fn poison(&mut self, reason: &'static str) {
        self.step_down();
        self.forget_leader();
        self.poisoned = true;
        self.deadline_ms = None;
        self.effects.push(Effect::Poison { reason });
    }

    /// A number below `bound`, from the seed (splitmix64).
    fn draw(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
