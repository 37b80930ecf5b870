//! Commands: to the log where this node leads, else to the leader.
//!
//! They go in rounds. While a round is under way, commands wait here and become one batch: one
//! submission to the log, one frame to each member, one fsync on each. Placed one by one they would
//! wait for the same fsync, and cost every member as many wake-ups as there are commands.
//!
//! A round of a leader lasts until it is committed, one of a follower until the leader has placed
//! what was passed on. Where members are far apart that is long, so the next round begins after
//! [`ROUND`] in any case, but for a leader whose own disk is still writing.

use std::collections::BTreeMap;

use consensus::{Entry, GroupId, Index, NodeId, ProposeRefused, Raft};
use storage::IoToken;
use telemetry::trace::TraceContext;
use tokio::time::{Duration, Instant};

use super::{Driver, Proposal};
use crate::apply::Waiter;
use crate::error::ProposeError;
use crate::transport::{Forward, ForwardOutcome, ForwardReply};

/// The longest that a round keeps the next one waiting. Members in one place are through sooner; to
/// those elsewhere it adds little.
const ROUND: Duration = Duration::from_millis(5);
/// Commands that may wait.
const HELD_MAX: usize = 16 << 10;
/// How long they wait while the log has no room: for its queue, or for its next segment, which
/// takes a moment where much is written. A disk that hangs for longer takes nothing.
const ROOM: Duration = Duration::from_secs(1);
/// Between two looks whether there is room.
const ROOM_LOOK: Duration = Duration::from_millis(5);
/// What may wait for room. One command more may come on top.
const ROOM_BYTES: usize = 16 << 20;
/// More than this does not wait: it is a batch.
const HELD_BYTES: usize = 1 << 20;

/// Commands that wait for their round, in the order of their arrival.
#[derive(Default)]
pub(super) struct Held {
    by_group: BTreeMap<GroupId, Vec<Placing>>,
    count: usize,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    /// When the last round began.
    began: Option<Instant>,
    /// What it ends with, where this node leads.
    ends: Vec<(GroupId, Index)>,
    /// What the disk was writing when the first of them came. Not what came later: the members of
    /// other groups keep a disk busy for ever.
    behind: Option<IoToken>,
    /// When those that wait go in any case; nothing if they wait for the disk.
    pub(super) wake: Option<Instant>,
}

/// A command that is about to get its place.
pub(super) enum Placing {
    Own(Proposal),
    /// A follower has passed it on.
    Forwarded {
        from: NodeId,
        forward: Forward,
    },
}

impl Placing {
    fn command(&self) -> &bytes::Bytes {
        match self {
            Self::Own(proposal) => &proposal.command,
            Self::Forwarded { forward, .. } => &forward.command,
        }
    }

    pub(super) fn cost(&self) -> usize {
        cost(self.command())
    }

    pub(super) fn is_freeing(&self) -> bool {
        match self {
            Self::Own(proposal) => proposal.freeing,
            Self::Forwarded { forward, .. } => forward.freeing,
        }
    }
}

impl Driver {
    pub(super) fn propose_all(&mut self, proposals: BTreeMap<GroupId, Vec<Proposal>>) {
        for (group, proposals) in proposals {
            match self.multi.group(group).map(Raft::leader) {
                None => refuse(proposals, &ProposeError::Stopped),
                Some(None) => refuse(proposals, &ProposeError::NotLeader { leader: None }),
                Some(Some(_)) => {
                    for own in proposals {
                        match self.is_in_time(&own) {
                            Ok(()) => self.hold(group, Placing::Own(own)),
                            Err(error) => refuse(vec![own], &error),
                        }
                    }
                }
            }
        }
    }

    pub(super) fn hold(&mut self, group: GroupId, placing: Placing) {
        let is_full = HELD_MAX <= self.held.count || ROOM_BYTES <= self.held.bytes;
        if is_full || !self.apply_backlog.is_empty() {
            return self.decline(placing, &ProposeError::Overloaded);
        }
        if self.held.count == 0 {
            self.held.behind = self.disk.newest();
            self.held.since = Some(Instant::now());
        }
        self.held.count += 1;
        self.held.bytes += placing.cost();
        self.held.by_group.entry(group).or_default().push(placing);
    }

    /// Begins a round with what waits, unless one is under way.
    pub(super) fn place_held(&mut self) {
        self.held.wake = None;
        if self.held.count == 0 || self.waits_for_disk() {
            return;
        }
        if self.waits_for_room() {
            self.held.wake = Some(Instant::now() + ROOM_LOOK);
            return;
        }
        match self.round_ends() {
            Some(at) if self.is_round_open() && Instant::now() < at => self.held.wake = Some(at),
            _ => self.place_all(),
        }
    }

    /// A leader's own disk is the pace of its groups.
    fn waits_for_disk(&self) -> bool {
        let leads = |group| self.multi.group(group).is_some_and(Raft::is_leader);
        self.held.behind.is_some_and(|token| self.disk.awaits(token))
            && self.held.bytes < HELD_BYTES
            && self.held.by_group.keys().all(|group| leads(*group))
    }

    /// Refused now, each of them would come again at once.
    fn waits_for_room(&self) -> bool {
        let is_new = self.held.since.is_some_and(|since| since.elapsed() < ROOM);
        is_new && self.disk.is_crowded(self.held.bytes)
    }

    fn is_round_open(&self) -> bool {
        let is_open = |&(group, end): &(GroupId, Index)| {
            self.multi.group(group).is_some_and(|raft| raft.is_leader() && raft.commit() < end)
        };
        let is_under_way = self.disk.is_writing()
            || !self.forwards.is_empty()
            || self.held.ends.iter().any(is_open);
        is_under_way && self.held.bytes < HELD_BYTES
    }

    /// When the last round keeps nobody waiting any longer.
    fn round_ends(&self) -> Option<Instant> {
        self.held.began.map(|began| began + ROUND)
    }

    pub(super) fn place_all(&mut self) {
        let began = Some(Instant::now());
        let held = std::mem::replace(&mut self.held, Held { began, ..Held::default() });
        for (group, placing) in held.by_group {
            match self.multi.group(group).map(Raft::leader) {
                Some(Some(leader)) if leader != self.multi.node() => {
                    self.pass_on(leader, placing);
                }
                _ => self.place(group, placing),
            }
        }
    }

    fn pass_on(&mut self, leader: NodeId, placing: Vec<Placing>) {
        for placing in placing {
            match placing {
                // Whoever passed it on knows the new leader soon: once is enough. Or it was for
                // this node's own time as the leader.
                Placing::Forwarded { .. } | Placing::Own(Proposal { leading: Some(_), .. }) => {
                    self.decline(placing, &ProposeError::NotLeader { leader: Some(leader) });
                }
                Placing::Own(proposal) => self.forward(leader, proposal),
            }
        }
    }

    /// Gives commands their places in the log of a group that this node leads.
    fn place(&mut self, group: GroupId, mut placing: Vec<Placing>) {
        let late = |placing: &mut Placing| match placing {
            Placing::Own(proposal) => self.is_in_time(proposal).is_err(),
            Placing::Forwarded { .. } => false,
        };
        // It led in another term when it took them.
        let late: Vec<Placing> = placing.extract_if(.., late).collect();
        for placing in late {
            self.decline(placing, &ProposeError::NotLeader { leader: None });
        }
        let (taken, refused) = self.disk.admit(placing);
        for (placing, error) in refused {
            self.way.note(group, &error);
            self.decline(placing, &error);
        }
        if taken.is_empty() {
            return;
        }
        let command = |placing: &Placing| match placing {
            Placing::Own(proposal) => proposal.command.clone(),
            Placing::Forwarded { forward, .. } => self.adopt.adopt(forward.command.clone()),
        };
        let commands = taken.iter().map(command).collect();
        let placed = match self.multi.touch(group) {
            Some(raft) => raft.propose(commands).map_err(ProposeError::from),
            None => Err(ProposeError::Stopped),
        };
        match placed {
            Ok(placed) => {
                let last = Index(placed.first.0 + taken.len() as u64 - 1);
                self.held.ends.push((group, last));
                for (placing, index) in taken.into_iter().zip(placed.first.0..) {
                    self.note_placed(placing, placed.term, Index(index));
                }
            }
            Err(error) => taken.into_iter().for_each(|placing| self.decline(placing, &error)),
        }
    }

    fn note_placed(&mut self, placing: Placing, term: consensus::Term, index: Index) {
        match placing {
            Placing::Own(Proposal { group, reply, span, since, .. }) => {
                if let Some(span) = &span {
                    self.trace(group, index, span.context());
                }
                let waiter = Waiter::new((index, term), since, reply, span);
                self.waiters.entry(group).or_default().push(waiter);
            }
            Placing::Forwarded { from, forward } => {
                if let Ok(trace) = TraceContext::parse(&forward.trace) {
                    self.trace(forward.group, index, trace);
                }
                let outcome = ForwardOutcome::Placed { term, index };
                self.frame_for(from).replies.push(ForwardReply { id: forward.id, outcome });
            }
        }
    }

    /// Nothing was done.
    pub(super) fn decline(&mut self, placing: Placing, error: &ProposeError) {
        match placing {
            Placing::Own(proposal) => refuse(vec![proposal], error),
            Placing::Forwarded { from, forward } => {
                let outcome = ForwardOutcome::of(error);
                self.frame_for(from).replies.push(ForwardReply { id: forward.id, outcome });
            }
        }
    }
}

pub(super) fn refuse(proposals: Vec<Proposal>, error: &ProposeError) {
    for proposal in proposals {
        // The proposer may have left; then nobody is told.
        let _ = proposal.reply.send(Err(error.clone()));
    }
}

impl From<ProposeRefused> for ProposeError {
    fn from(refused: ProposeRefused) -> Self {
        match refused {
            ProposeRefused::NotLeader { leader } => Self::NotLeader { leader },
            // The next leader is about to be known.
            ProposeRefused::Transferring => Self::NotLeader { leader: None },
            ProposeRefused::Overloaded => Self::Overloaded,
        }
    }
}

/// What a command takes in the log.
pub(super) fn cost(command: &[u8]) -> usize {
    command.len() + Entry::OVERHEAD
}
