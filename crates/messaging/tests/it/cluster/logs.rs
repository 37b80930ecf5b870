//! What happens to the logs of a node: writes on their way to its disk, snapshots made, fetched and
//! installed, bodies filled in, copies begun, ended and cut off by a crash.

use consensus::{Config, Entry, GroupId, Index, NodeId, Raft, SnapshotMeta, Ticket};

use super::Bug;
use super::disk::{Ranges, Snapshot, Write};
use super::machine::Machine;
use super::world::{Check, Copy, ELECTION_MS, HEARTBEAT_MS, Job, Node, What, Wire, World};

impl World {
    pub(super) fn submit(
        &mut self,
        node: usize,
        group: GroupId,
        (ticket, write): (Option<Ticket>, Write),
    ) {
        let at = &mut self.nodes[node];
        at.wal.push_back(Job { group, ticket, write });
        if at.wal.len() == 1 {
            let delay = self.disk_delay();
            self.later(node, delay, What::Sync);
        }
        if self.bug == Bug::AckBeforeSync
            && let Some(ticket) = ticket
        {
            self.later(node, 0, What::Acked(group, ticket));
        }
    }

    pub(super) fn disk_delay(&mut self) -> u64 {
        if self.is_calm { 1 } else { self.rng.range(0..self.plan.disk_ms + 1) }
    }

    /// One sync makes the oldest writes durable, of whichever groups.
    pub(super) fn sync(&mut self, node: usize) {
        let most = 1 + self.rng.index(8);
        let bug = self.bug;
        for _ in 0..most {
            let Node { wal, disks, .. } = &mut self.nodes[node];
            let Some(Job { group, ticket, write }) = wal.pop_front() else { break };
            let Some(disk) = disks.get_mut(&group) else { continue };
            let is_reset = matches!(write, Write::Reset { .. });
            disk.write(write, bug);
            let fills = is_reset && disk.filling;
            let Some(ticket) = ticket else { continue };
            if fills {
                self.later(node, 1, What::Fill { group, ticket });
            }
            if !fills || bug == Bug::TicketBeforeFilled {
                self.persisted(node, group, ticket);
            }
        }
        if !self.nodes[node].wal.is_empty() {
            let delay = self.disk_delay();
            self.later(node, delay, What::Sync);
        }
    }

    pub(super) fn persisted(&mut self, node: usize, group: GroupId, ticket: Ticket) {
        let Some(up) = &mut self.nodes[node].up else { return };
        let Some(raft) = up.multi.touch(group) else { return };
        raft.handle_persisted(ticket);
        let Some(copy) = up.copies.get_mut(&group) else { return };
        let Some((_, waiting)) = copy.held.take_if(|(held, _)| *held <= ticket) else { return };
        for persist in waiting {
            self.submit(node, group, (Some(persist.ticket), Write::Persist(persist)));
        }
    }

    /// A snapshot was read to its end, if whoever offered it still has it and is reached.
    pub(super) fn fetched(
        &mut self,
        node: usize,
        group: GroupId,
        (from, meta): (NodeId, &SnapshotMeta),
    ) {
        let source = from.0 as usize - 1;
        let is_cut = self.network.is_cut(source, node) || self.network.is_cut(node, source);
        let disk = self.nodes[source].disks.get(&group);
        let snapshot = disk.and_then(|disk| disk.snapshot.clone());
        let snapshot = snapshot.filter(|snapshot| snapshot.meta == *meta && !is_cut);
        let Some(snapshot) = snapshot.filter(|_| self.nodes[source].up.is_some()) else { return };
        let Some(up) = &mut self.nodes[node].up else { return };
        if let (Some(copy), Some(raft)) = (up.copies.get_mut(&group), up.multi.touch(group)) {
            copy.fetched = Some(snapshot);
            raft.handle_fetched(meta.clone());
        }
    }

    pub(super) fn install(&mut self, node: usize, group: GroupId, ticket: Ticket) {
        self.counts.installs += 1;
        let copy = self.copy(node, group).expect("it wants to install something");
        let snapshot = copy.fetched.take().expect("only what was fetched is installed");
        copy.machine.restore(&snapshot.machine);
        let trusted = copy.commit.min(snapshot.meta.index);
        copy.applied = snapshot.meta.index;
        copy.commit = copy.commit.max(copy.applied);
        copy.held = Some((ticket, Vec::new()));
        let wanted = copy.machine.retained(copy.applied);
        self.submit(node, group, (None, Write::Save(snapshot)));
        self.submit(node, group, (Some(ticket), Write::Reset { wanted, trusted }));
        self.skipped(node, group);
    }

    /// Entries that a machine reads come from any member that has applied what the snapshot covers.
    /// What that one has not is settled.
    pub(super) fn fill(&mut self, node: usize, group: GroupId, ticket: Ticket) {
        let Node { disks, wal, up: Some(up), .. } = &self.nodes[node] else { return };
        let (Some(disk), Some(copy)) = (disks.get(&group), up.copies.get(&group)) else { return };
        // Another snapshot may have come since.
        let is_held = copy.held.as_ref().is_some_and(|(held, _)| *held == ticket);
        let Some(snapshot) = disk.snapshot.as_ref().filter(|_| disk.filling && is_held) else {
            return;
        };
        if wal.iter().any(|job| job.group == group) {
            return self.later(node, 5, What::Fill { group, ticket });
        }
        let mut machine = copy.machine.fresh();
        machine.restore(&snapshot.machine);
        let through = snapshot.meta.index;
        let wanted: Vec<Index> = disk.missing(&machine.retained(through));
        let source = self.rng.index(self.nodes.len());
        let again = 1 + self.rng.range(0..20);
        self.later(node, again, What::Fill { group, ticket });
        let is_cut = self.network.is_cut(source, node) || self.network.is_cut(node, source);
        let other = &self.nodes[source];
        let has_applied = other.up.as_ref().and_then(|up| up.copies.get(&group));
        let is_whole = |copy: &Copy| copy.held.is_none() && through <= copy.applied;
        let has_applied = has_applied.is_some_and(is_whole);
        let Some(from) = other
            .disks
            .get(&group)
            .filter(|disk| source != node && !is_cut && has_applied && !disk.filling)
        else {
            return;
        };
        let most = 1 + self.rng.index(4);
        let entries: Vec<Entry> =
            wanted.iter().filter_map(|index| from.log.get(index)).take(most).cloned().collect();
        self.counts.refills += entries.len() as u64;
        match entries.is_empty() {
            false => self.submit(node, group, (None, Write::Refill(entries))),
            true => self.submit(node, group, (Some(ticket), Write::Filled)),
        }
    }

    /// Makes a snapshot of what is applied, and lets go what it covers.
    pub(super) fn compact(&mut self, node: usize, group: GroupId, leave: u64) {
        let Node { up: Some(up), disks, .. } = &mut self.nodes[node] else { return };
        let (Some(copy), Some(disk)) = (up.copies.get(&group), disks.get_mut(&group)) else {
            return;
        };
        let newest = disk.snapshot.as_ref().map_or(Index::ZERO, |newest| newest.meta.index);
        if copy.applied <= newest || copy.held.is_some() || disk.filling {
            return;
        }
        let Some(raft) = up.multi.touch(group) else { return };
        let Some(meta) = raft.snapshot_meta(copy.applied) else { return };
        if disk.term(meta.index) != Some(meta.term) {
            return;
        }
        let machine = copy.machine.snapshot();
        disk.snapshot = Some(Snapshot { meta: meta.clone(), machine });
        raft.handle_snapshotted(meta, Index(copy.applied.0.saturating_sub(leave)));
        let through = raft.status().base;
        let keep: Ranges = copy.machine.retained(copy.applied);
        self.counts.snapshots += 1;
        self.submit(node, group, (None, Write::Compact { through, keep }));
    }

    /// Starts a copy from what is on disk of it. A new one is hurried along: by who is `first`.
    pub(super) fn load(
        &mut self,
        node: usize,
        group: GroupId,
        mut machine: Machine,
        first: Option<bool>,
    ) {
        let seed = self.rng.next_u64();
        let local = self.nodes[node].local(self.now);
        let id = self.nodes[node].id;
        let recent_bytes = self.plan.recent_bytes;
        let config = Config {
            election_ms: ELECTION_MS,
            retry_ms: HEARTBEAT_MS * 2,
            recent_bytes,
            max_append_bytes: self.plan.max_append_bytes,
            ..Config::new(id)
        };
        let at = &mut self.nodes[node];
        let disk = at.disks.get(&group).expect("there is a disk");
        let (restored, install) = disk.restored();
        let mut applied = Index::ZERO;
        if let Some(snapshot) = &disk.snapshot {
            machine.restore(&snapshot.machine);
            applied = snapshot.meta.index;
        }
        let mut raft = Raft::new(config, restored, local, seed);
        let wanted = machine.retained(applied);
        let resumed = install.map(|trusted| (raft.resume_install(), trusted));
        if let Some(first) = first {
            raft.hurry(first);
        }
        let held = resumed.map(|(ticket, _)| (ticket, Vec::new()));
        let up = at.up.as_mut().expect("it is up");
        let copy = Copy {
            machine,
            applied,
            commit: applied,
            is_applying: false,
            held,
            fetched: None,
            led: None,
            is_noticed: false,
        };
        up.copies.insert(group, copy);
        up.multi.add(group, raft);
        if let Some((ticket, trusted)) = resumed {
            self.submit(node, group, (Some(ticket), Write::Reset { wanted, trusted }));
        }
    }

    /// The power goes: of what is on its way to the disk some is there, the oldest first.
    pub(super) fn crash(&mut self, node: usize) -> Check {
        let at = &mut self.nodes[node];
        if at.up.take().is_none() {
            return Ok(());
        }
        at.life += 1;
        let kept = self.rng.index(at.wal.len() + 1);
        let kept = if self.rng.chance(1, 2) { 0 } else { kept };
        self.counts.crashes += 1;
        self.counts.lost_writes += (at.wal.len() - kept) as u64;
        let bug = self.bug;
        for Job { group, write, .. } in std::mem::take(&mut at.wal).into_iter().take(kept) {
            if let Some(disk) = at.disks.get_mut(&group) {
                disk.write(write, bug);
            }
        }
        self.network.disconnect(node);
        Ok(())
    }

    /// This copy is here no more.
    pub(super) fn end(&mut self, node: usize, group: GroupId) {
        let at = &mut self.nodes[node];
        at.wal.retain(|job| job.group != group);
        let up = at.up.as_mut().expect("it is up");
        up.copies.remove(&group);
        let Some(raft) = up.multi.remove(group) else { return };
        for (to, message) in raft.end() {
            self.network.send(self.now, node, to.0 as usize - 1, Wire::Raft(group, message));
        }
    }
}
