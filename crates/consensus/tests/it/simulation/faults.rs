//! What goes wrong, and what operators do meanwhile.

use bytes::Bytes;
use consensus::{Change, Index, Membership, NodeId, NodeSet, Raft};

use super::plan::Fault;
use super::world::{Check, ELECTION_MS, Event, GROUP, MAX_NODES, Node, World};
use crate::cluster::is_quorum;

impl World {
    pub(crate) fn fault(&mut self) -> Check {
        if self.is_calm {
            return Ok(());
        }
        let gap = self.rng.range(1..2 * self.plan.fault_gap_ms + 1);
        self.events.add(self.now + gap, Event::Fault);
        let node = self.rng.index(self.nodes.len());
        match self.plan.clone().fault(&mut self.rng) {
            None => Ok(()),
            Some(Fault::Crash) => self.crash(node),
            Some(Fault::CrashAll) => (0..self.nodes.len()).try_for_each(|node| self.crash(node)),
            Some(Fault::Pause) => {
                self.nodes[node].paused_until = self.now + self.rng.range(1..4 * ELECTION_MS);
                Ok(())
            }
            Some(Fault::Partition | Fault::OneWay | Fault::Bridge) if self.nodes.len() == 1 => {
                Ok(())
            }
            Some(Fault::Partition) => self.cut(|world, side, _| world.network.partition(side)),
            Some(Fault::Bridge) => self.cut(|world, side, bridge| {
                world.network.bridge(side, bridge);
            }),
            Some(Fault::OneWay) => self.cut(|world, side, other| {
                side.iter().for_each(|from| world.network.cut(*from, other));
            }),
            Some(Fault::Mend) => {
                self.network.heal();
                Ok(())
            }
            Some(Fault::Compact) => self.compact(node),
            Some(Fault::Change) => self.change_something(),
            Some(Fault::Transfer) => self.transfer(node),
            Some(Fault::Resign) => self.with_leader(|world, leader| {
                let multi = world.nodes[leader].multi.as_mut().expect("it leads");
                multi.touch(GROUP).expect("it is here").resign();
            }),
            Some(Fault::Wipe) => self.wipe(node),
            Some(Fault::Refuse) => self.refuse(node),
            Some(Fault::Leave) => self.leave(),
        }
    }

    pub(crate) fn crash(&mut self, node: usize) -> Check {
        if self.nodes[node].multi.take().is_none() {
            return Ok(());
        }
        self.counts.crashes += 1;
        // Some of what was on its way to the disk may have got there.
        let survive = self.rng.index(3);
        for _ in 0..survive {
            if self.nodes[node].store.disk.sync_one().is_some() {
                self.oracle.check_durable(&self.nodes[node].store)?;
            }
        }
        self.nodes[node].store.crash();
        self.clients.forget(self.nodes[node].store.id);
        if self.rng.chance(1, 2) {
            self.network.disconnect(node);
        }
        let longest = if self.rng.chance(1, 4) { 20 * ELECTION_MS } else { 300 };
        let down = self.rng.range(1..longest);
        self.events.add(self.now + down, Event::Start { node });
        Ok(())
    }

    fn cut(&mut self, how: impl FnOnce(&mut Self, &[usize], usize)) -> Check {
        let mut side: Vec<usize> = (0..self.nodes.len()).collect();
        self.rng.shuffle(&mut side);
        let other = side.pop().expect("there are several");
        side.truncate(1 + self.rng.index(side.len()));
        how(self, &side, other);
        self.counts.cuts += 1;
        let until = self.now + self.rng.range(1..10 * ELECTION_MS);
        self.events.add(until, Event::Mend);
        Ok(())
    }

    fn compact(&mut self, node: usize) -> Check {
        let keep = self.rng.range(0..self.plan.keep + 1);
        let state = &mut self.nodes[node];
        let Some(raft) = state.multi.as_mut().and_then(|multi| multi.touch(GROUP)) else {
            return Ok(());
        };
        if state.store.compact(raft, keep)? {
            self.counts.snapshots += 1;
        }
        self.settle(node)
    }

    fn with_leader(&mut self, act: impl FnOnce(&mut Self, usize)) -> Check {
        let Some(leader) = self.leader() else { return Ok(()) };
        if self.now < self.nodes[leader].paused_until {
            return Ok(());
        }
        act(self, leader);
        self.settle(leader)
    }

    fn transfer(&mut self, to: usize) -> Check {
        let to = NodeId(to as u64 + 1);
        self.with_leader(|world, leader| {
            let multi = world.nodes[leader].multi.as_mut().expect("it leads");
            if multi.touch(GROUP).expect("it is here").transfer(to).is_ok() {
                world.counts.transfers += 1;
            }
        })
    }

    /// Asks the leader for a change. True if it was taken.
    pub(crate) fn change(&mut self, changes: &[Change]) -> Result<bool, String> {
        let mut taken = false;
        self.with_leader(|world, leader| {
            let multi = world.nodes[leader].multi.as_mut().expect("it leads");
            taken = multi.touch(GROUP).expect("it is here").change(changes).is_ok();
            world.counts.changes += u64::from(taken);
        })?;
        Ok(taken)
    }

    fn change_something(&mut self) -> Check {
        let Some(leader) = self.leader() else { return Ok(()) };
        let membership = self.nodes[leader].store.membership.clone();
        let mut changes = Vec::new();
        for _ in 0..1 + self.rng.index(2) {
            changes.extend(self.draw_change(&membership));
        }
        // An operator does not hand the majority to disks that are gone.
        if membership.change(&changes).is_ok_and(|next| is_quorum(&next, &self.kept(None))) {
            self.change(&changes)?;
        }
        Ok(())
    }

    /// The nodes that still have their disks, without `but`.
    fn kept(&self, but: Option<usize>) -> NodeSet {
        let kept = |(at, node): &(usize, &Node)| !node.is_wiped && Some(*at) != but;
        self.nodes.iter().enumerate().filter(kept).map(|(_, node)| node.store.id).collect()
    }

    fn draw_change(&mut self, membership: &Membership) -> Option<Change> {
        let info = Bytes::new();
        let learners: Vec<NodeId> = membership.learners.iter().copied().collect();
        match self.rng.index(4) {
            0 if self.nodes.len() < MAX_NODES && learners.len() < 2 => {
                let node = self.add_node(None);
                Some(Change::AddLearner { node, info })
            }
            0 | 1 => self.rng.pick(&learners).map(|node| Change::Promote { node: *node }),
            2 => {
                let voters: Vec<NodeId> = membership.voters.iter().copied().collect();
                let node = *self.rng.pick(&voters)?;
                Some(Change::Remove { node })
            }
            _ => {
                // Somebody who was added in vain, or left.
                let node = NodeId(self.rng.range(1..self.nodes.len() as u64 + 1));
                let is_there = !self.nodes[node.0 as usize - 1].is_wiped;
                is_there.then_some(Change::AddLearner { node, info })
            }
        }
    }

    /// Only where the others are a majority of every membership that anybody knows of.
    fn wipe(&mut self, node: usize) -> Check {
        let kept = self.kept(Some(node));
        let survives = |node: &Node| {
            let on_disk = node.store.disk.memberships();
            let known = on_disk.iter().map(|(_, known)| known).chain([&node.store.membership]);
            node.is_wiped || { known }.all(|known| is_quorum(known, &kept))
        };
        let is_full = self.nodes.len() == MAX_NODES || self.nodes[node].is_wiped;
        if is_full || !self.nodes.iter().all(survives) {
            return Ok(());
        }
        self.crash(node)?;
        self.nodes[node].is_wiped = true;
        self.counts.wipes += 1;
        let id = self.add_node(None);
        self.change(&[Change::AddLearner { node: id, info: Bytes::new() }]).map(drop)
    }

    /// Only who is no member of the newest committed membership, with no change under way; and
    /// nothing of its former life is on its way any more. It is made a member again soon.
    fn leave(&mut self) -> Check {
        let Some(status) = self.leader().and_then(|leader| self.raft(leader)).map(Raft::status)
        else {
            return Ok(());
        };
        let is_settled =
            status.membership_index <= status.commit && status.commit == self.oracle.committed();
        let may_leave = |node: &Node| {
            let id = node.store.id;
            let has_log = node.store.disk.last() != Index::ZERO;
            !node.is_wiped && has_log && !status.membership.is_member(id)
        };
        let gone: Vec<usize> =
            (0..self.nodes.len()).filter(|node| may_leave(&self.nodes[*node])).collect();
        let Some(&node) = self.rng.pick(&gone).filter(|_| is_settled) else {
            return self.change_something();
        };
        self.crash(node)?;
        self.network.disconnect(node);
        self.nodes[node].store.leave();
        self.counts.leaves += 1;
        self.events.add(self.now + 1, Event::Start { node });
        let again = NodeId(node as u64 + 1);
        self.change(&[Change::AddLearner { node: again, info: Bytes::new() }]).map(drop)
    }

    fn refuse(&mut self, node: usize) -> Check {
        if self.nodes[node].multi.is_some() {
            return Ok(());
        }
        let id = self.nodes[node].store.id;
        for other in 0..self.nodes.len() {
            if let Some(multi) = &mut self.nodes[other].multi {
                multi.handle_refused(id);
                self.settle(other)?;
            }
        }
        Ok(())
    }
}
