//! The groups of one process.
//!
//! Groups share what would be wasteful for each: one heartbeat per pair of nodes tells whether a
//! node lives, and the groups that depend on it are told only when that changes. A group without
//! a timer and without inputs is not touched. So the cost of an idle group is its memory.
//!
//! **Invariant:** liveness decides who campaigns and who counts on whom, never what is committed.

mod liveness;

use std::collections::{BTreeMap, BTreeSet};

use liveness::{Change, Liveness};
pub use liveness::{Heartbeat, PeerState};

use crate::effect::Effect;
use crate::ids::{GroupId, NodeId};
use crate::message::Message;
use crate::mutants::{self, Mutant};
use crate::raft::Raft;
use crate::sorted::NodeSet;

/// Settings of a process. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MultiConfig {
    /// This node.
    pub node: NodeId,
    /// A random number that is new in every life of the process.
    pub epoch: u64,
    /// How often nodes tell each other that they live.
    pub heartbeat_ms: u64,
    /// A node that was not heard for this long is down.
    pub election_ms: u64,
}

/// What a group wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEffect {
    /// Which.
    pub group: GroupId,
    /// What.
    pub effect: Effect,
}

/// What is to be done, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// For the groups.
    pub effects: Vec<GroupEffect>,
    /// For other nodes. They may overtake, and be overtaken by, messages of groups.
    pub heartbeats: Vec<(NodeId, Heartbeat)>,
}

/// The groups of one process. Time is given by [`tick`](Self::tick).
#[derive(Clone, Debug)]
pub struct Multi {
    config: MultiConfig,
    groups: BTreeMap<GroupId, Hosted>,
    /// Groups to call when their time has come.
    timers: BTreeSet<(u64, GroupId)>,
    /// Groups that had an input since the last flush.
    touched: BTreeSet<GroupId>,
    liveness: Liveness,
    now_ms: u64,
    scratch: Vec<Effect>,
}

#[derive(Clone, Debug)]
struct Hosted {
    /// Boxed: the nodes of the tree are half empty.
    raft: Box<Raft>,
    /// As it stands in `timers`.
    deadline_ms: Option<u64>,
    /// Those members of it are watched.
    watched: NodeSet,
}

impl Multi {
    /// No groups yet.
    #[must_use]
    pub fn new(config: MultiConfig, now_ms: u64) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            timers: BTreeSet::new(),
            touched: BTreeSet::new(),
            liveness: Liveness::new(config, now_ms),
            now_ms,
            scratch: Vec::new(),
        }
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.config.node
    }

    /// Takes a group in. One of the same id is replaced.
    pub fn add(&mut self, group: GroupId, mut raft: Raft) {
        self.remove(group);
        for node in self.liveness.down() {
            raft.handle_node_down(node);
        }
        let raft = Box::new(raft);
        self.groups.insert(group, Hosted { raft, deadline_ms: None, watched: NodeSet::default() });
        self.touched.insert(group);
        self.watch_members(group);
    }

    /// Lets a group go.
    pub fn remove(&mut self, group: GroupId) -> Option<Raft> {
        let hosted = self.groups.remove(&group)?;
        if let Some(deadline_ms) = hosted.deadline_ms {
            self.timers.remove(&(deadline_ms, group));
        }
        self.touched.remove(&group);
        for node in &hosted.watched {
            self.liveness.release(*node);
        }
        Some(*hosted.raft)
    }

    /// A group, to look at.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<&Raft> {
        Some(&self.groups.get(&group)?.raft)
    }

    /// All of them, ascending.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &Raft)> {
        self.groups.iter().map(|(group, hosted)| (*group, &*hosted.raft))
    }

    /// A group, to give it inputs; it is flushed with the next [`flush`](Self::flush).
    pub fn touch(&mut self, group: GroupId) -> Option<&mut Raft> {
        let hosted = self.groups.get_mut(&group)?;
        self.touched.insert(group);
        hosted.raft.tick(self.now_ms);
        Some(&mut hosted.raft)
    }

    /// A message from another node. False if the group is not here.
    pub fn receive(&mut self, from: NodeId, group: GroupId, message: Message) -> bool {
        let Some(raft) = self.touch(group) else { return false };
        raft.receive(from, message);
        true
    }

    /// A heartbeat from another node.
    pub fn receive_heartbeat(&mut self, from: NodeId, heartbeat: Heartbeat) {
        let changes = self.liveness.receive(from, heartbeat);
        self.apply_changes(changes);
    }

    /// The host knows that a process is gone, such as by a refused connection: nobody needs to
    /// wait for the silence.
    pub fn handle_refused(&mut self, node: NodeId) {
        let changes = self.liveness.handle_refused(node);
        self.apply_changes(changes);
    }

    /// The host can send to this node again: what it sent before may be lost.
    pub fn handle_connected(&mut self, node: NodeId) {
        for (group, hosted) in &mut self.groups {
            if hosted.raft.is_leader() && hosted.raft.knows(node) {
                hosted.raft.handle_connected(node);
                self.touched.insert(*group);
            }
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let changes = self.liveness.tick(self.now_ms);
        self.apply_changes(changes);
        while let Some(&(deadline_ms, group)) = self.timers.first() {
            if self.now_ms < deadline_ms {
                break;
            }
            self.timers.pop_first();
            if let Some(hosted) = self.groups.get_mut(&group) {
                hosted.deadline_ms = None;
            }
            // Touching ticks.
            self.touch(group);
        }
    }

    /// When [`tick`](Self::tick) is needed next.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(deadline_ms, _)| *deadline_ms);
        [timer, self.liveness.deadline_ms()].into_iter().flatten().min()
    }

    /// Appends what is to be done after inputs.
    pub fn flush(&mut self, output: &mut Output) {
        while let Some(group) = self.touched.pop_first() {
            self.flush_group(group, output);
        }
        self.liveness.flush(self.now_ms, &mut output.heartbeats);
    }

    /// Nodes that share a group with this one, and what is known of them.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, PeerState)> {
        self.liveness.peers()
    }

    fn flush_group(&mut self, group: GroupId, output: &mut Output) {
        let Some(hosted) = self.groups.get_mut(&group) else { return };
        hosted.raft.flush(&mut self.scratch);
        // A late message of a node that is silent already: nobody would say so again, and a
        // follower of the dead keeps others from being elected.
        if let Some(leader) = hosted.raft.leader()
            && leader != self.config.node
            && !self.liveness.is_heard(leader)
            && !mutants::is(Mutant::FollowsTheSilent)
        {
            hosted.raft.handle_node_silent(leader);
            hosted.raft.flush(&mut self.scratch);
        }
        let deadline_ms = hosted.raft.deadline_ms();
        if hosted.deadline_ms != deadline_ms {
            if let Some(old) = std::mem::replace(&mut hosted.deadline_ms, deadline_ms) {
                self.timers.remove(&(old, group));
            }
            self.timers.extend(deadline_ms.map(|deadline_ms| (deadline_ms, group)));
        }
        let is_changed =
            self.scratch.iter().any(|effect| matches!(effect, Effect::Membership { .. }));
        let effects = self.scratch.drain(..).map(|effect| GroupEffect { group, effect });
        output.effects.extend(effects);
        if is_changed {
            self.watch_members(group);
        }
    }

    /// Heartbeats go to whoever shares a group with this node.
    fn watch_members(&mut self, group: GroupId) {
        let Some(hosted) = self.groups.get_mut(&group) else { return };
        let mut members = hosted.raft.status().membership.members();
        members.remove(&self.config.node);
        for node in members.difference(&hosted.watched) {
            self.liveness.retain(*node, self.now_ms);
            // The group may have known it before, and not have been told since.
            if mutants::is(Mutant::UnreachableKept) {
                continue;
            }
            match self.liveness.is_up(*node) {
                true => hosted.raft.handle_node_up(*node, false),
                false => hosted.raft.handle_node_down(*node),
            }
            self.touched.insert(group);
        }
        for node in hosted.watched.difference(&members) {
            self.liveness.release(*node);
        }
        hosted.watched = members;
    }

    fn apply_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            for (group, hosted) in &mut self.groups {
                if !hosted.raft.knows(change.node()) {
                    continue;
                }
                hosted.raft.tick(self.now_ms);
                match change {
                    Change::Up { node, is_new_life } => {
                        hosted.raft.handle_node_up(node, is_new_life)
                    }
                    Change::Down { node } => hosted.raft.handle_node_down(node),
                    Change::Silent { node } => hosted.raft.handle_node_silent(node),
                }
                self.touched.insert(*group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::effect::ReadId;
    use crate::ids::{Index, Term};
    use crate::membership::Membership;
    use crate::message::{Append, StepDown};
    use crate::raft::{Config, Restored, RoleName};

    const GROUP: GroupId = GroupId(7);
    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
    const HEARTBEAT_MS: u64 = 100;
    const ELECTION_MS: u64 = 500;

    /// Nodes on a network and disks that lose nothing; a dead one is not stepped.
    struct Cluster {
        nodes: BTreeMap<NodeId, Multi>,
        dead: BTreeSet<NodeId>,
        now_ms: u64,
        effects: Vec<(NodeId, Effect)>,
        messages: usize,
    }

    impl Cluster {
        fn of(size: u64, groups: u64) -> Self {
            let members = Membership::of((1..=size).map(|node| (NodeId(node), Bytes::new())));
            let node = |id| {
                let (node, epoch) = (NodeId(id), 1000 + id);
                let config = MultiConfig {
                    node,
                    epoch,
                    heartbeat_ms: HEARTBEAT_MS,
                    election_ms: ELECTION_MS,
                };
                let mut multi = Multi::new(config, 0);
                for group in 0..groups {
                    let config = Config { election_ms: ELECTION_MS, ..Config::new(node) };
                    let restored = Restored::founded(members.clone());
                    let raft = Raft::new(config, restored, 0, id * 7919 + group);
                    multi.add(GroupId(GROUP.0 + group), raft);
                }
                (node, multi)
            };
            Self {
                nodes: (1..=size).map(node).collect(),
                dead: BTreeSet::new(),
                now_ms: 0,
                effects: Vec::new(),
                messages: 0,
            }
        }

        /// Lets everything happen that needs no time.
        fn settle(&mut self) {
            loop {
                let mut busy = false;
                let alive: Vec<_> =
                    self.nodes.keys().copied().filter(|node| !self.dead.contains(node)).collect();
                for from in alive {
                    let mut output = Output::default();
                    self.nodes.get_mut(&from).unwrap().flush(&mut output);
                    busy |= !output.effects.is_empty() || !output.heartbeats.is_empty();
                    for (to, heartbeat) in output.heartbeats {
                        if !self.dead.contains(&to) {
                            self.nodes.get_mut(&to).unwrap().receive_heartbeat(from, heartbeat);
                        }
                    }
                    for GroupEffect { group, effect } in output.effects {
                        self.carry_out(from, group, effect);
                    }
                }
                if !busy {
                    return;
                }
            }
        }

        fn carry_out(&mut self, from: NodeId, group: GroupId, effect: Effect) {
            match &effect {
                Effect::Persist(persist) => {
                    let raft = self.nodes.get_mut(&from).unwrap().touch(group).unwrap();
                    raft.handle_persisted(persist.ticket);
                }
                Effect::Send { to, message } if !self.dead.contains(to) => {
                    self.messages += 1;
                    self.nodes.get_mut(to).unwrap().receive(from, group, message.clone());
                }
                _ => {}
            }
            self.effects.push((from, effect));
        }

        fn run(&mut self, ms: u64) {
            let end = self.now_ms + ms;
            while self.now_ms < end {
                self.now_ms += 10;
                for (node, multi) in &mut self.nodes {
                    if !self.dead.contains(node) {
                        multi.tick(self.now_ms);
                    }
                }
                self.settle();
            }
        }

        fn raft(&self, node: NodeId) -> &Raft {
            self.nodes[&node].group(GROUP).unwrap()
        }

        fn leader(&self) -> Option<NodeId> {
            let leads = |node: &NodeId| {
                !self.dead.contains(node) && self.raft(*node).role() == RoleName::Leader
            };
            self.nodes.keys().copied().find(leads)
        }

        fn propose(&mut self, node: NodeId, payload: &'static [u8]) -> Index {
            let raft = self.nodes.get_mut(&node).unwrap().touch(GROUP).unwrap();
            let first = raft.propose(vec![Bytes::from_static(payload)]).unwrap().first;
            self.settle();
            first
        }

        fn read(&mut self, node: NodeId) -> Option<Index> {
            self.effects.clear();
            self.nodes.get_mut(&node).unwrap().touch(GROUP).unwrap().read(ReadId(1));
            self.settle();
            self.effects.iter().find_map(|(at, effect)| match effect {
                Effect::ReadReady { index, .. } if *at == node => Some(*index),
                _ => None,
            })
        }
    }

    #[test]
    fn one_voter_commits_what_its_disk_has() {
        let mut cluster = Cluster::of(1, 1);
        cluster.run(2 * ELECTION_MS);
        let node = cluster.leader().expect("it leads");
        let index = cluster.propose(node, b"alone");
        assert_eq!(cluster.raft(node).status().commit, index);
        assert_eq!(cluster.read(node), Some(index));
    }

    #[test]
    fn three_voters_elect_replicate_read_and_fall_silent() {
        let mut cluster = Cluster::of(3, 1);
        cluster.run(3 * ELECTION_MS);
        let leader = cluster.leader().expect("somebody leads");
        let index = cluster.propose(leader, b"all");
        for node in cluster.nodes.keys() {
            assert_eq!(cluster.raft(*node).status().commit, index, "{node}");
        }
        for node in [1, 2, 3] {
            assert_eq!(cluster.read(NodeId(node)), Some(index), "read on {node}");
        }
        let (term, messages) = (cluster.raft(leader).status().term, cluster.messages);
        cluster.run(100 * ELECTION_MS);
        assert_eq!(cluster.messages, messages, "an idle group sends nothing");
        assert_eq!(cluster.raft(leader).status().term, term);
    }

    #[test]
    fn founders_that_hurry_have_a_leader_before_an_election_timeout() {
        let first = NodeId(2);
        let mut cluster = Cluster::of(3, 1);
        let hurry = |cluster: &mut Cluster, node: NodeId| {
            let raft = cluster.nodes.get_mut(&node).unwrap().touch(GROUP).unwrap();
            raft.hurry(node == first);
        };
        NODES.into_iter().for_each(|node| hurry(&mut cluster, node));
        cluster.run(HEARTBEAT_MS);
        assert_eq!(cluster.leader(), Some(first));
        let term = cluster.raft(first).term();
        // Once there has been a leader, nothing is hurried.
        NODES.into_iter().for_each(|node| hurry(&mut cluster, node));
        cluster.run(2 * ELECTION_MS);
        assert_eq!((cluster.leader(), cluster.raft(first).term()), (Some(first), term));

        // Without the first one, the others do not wait for long either.
        let mut cluster = Cluster::of(3, 1);
        cluster.dead.insert(first);
        NODES.into_iter().filter(|node| *node != first).for_each(|node| hurry(&mut cluster, node));
        cluster.run(ELECTION_MS - HEARTBEAT_MS);
        assert!(cluster.leader().is_some());
    }

    #[test]
    fn a_dead_leader_is_replaced_and_comes_back_as_a_follower() {
        let mut cluster = Cluster::of(3, 1);
        cluster.run(3 * ELECTION_MS);
        let old = cluster.leader().expect("somebody leads");
        let kept = cluster.propose(old, b"kept");
        cluster.dead.insert(old);
        cluster.run(3 * ELECTION_MS);
        let new = cluster.leader().expect("a successor");
        assert_eq!(cluster.raft(new).status().commit, kept.next(), "and its blank entry");
        let more = cluster.propose(new, b"more");
        cluster.dead.clear();
        cluster.run(3 * ELECTION_MS);
        assert_eq!(cluster.raft(old).status().commit, more);
        assert_eq!(cluster.raft(old).role(), RoleName::Follower);
    }

    #[test]
    fn a_leader_without_a_majority_steps_down() {
        let mut cluster = Cluster::of(3, 1);
        cluster.run(3 * ELECTION_MS);
        let leader = cluster.leader().expect("somebody leads");
        cluster.dead.extend((1..=3).map(NodeId).filter(|node| *node != leader));
        cluster.run(3 * ELECTION_MS);
        assert_eq!(cluster.leader(), None);
    }

    #[test]
    fn leadership_goes_where_it_is_asked_to() {
        let mut cluster = Cluster::of(3, 1);
        cluster.run(3 * ELECTION_MS);
        let leader = cluster.leader().expect("somebody leads");
        let to = NodeId(leader.0 % 3 + 1);
        cluster.nodes.get_mut(&leader).unwrap().touch(GROUP).unwrap().transfer(to).unwrap();
        cluster.settle();
        assert_eq!(cluster.leader(), Some(to));
    }

    #[test]
    fn whoever_follows_a_leader_that_its_host_lets_go_is_told() {
        let mut cluster = Cluster::of(3, 1);
        cluster.run(3 * ELECTION_MS);
        let leader = cluster.leader().expect("somebody leads");
        let term = cluster.raft(leader).term();
        let ended = cluster.nodes.get_mut(&leader).unwrap().remove(GROUP).expect("it is there");
        for (to, message) in ended.end() {
            assert_eq!(message, Message::StepDown(StepDown { term }));
            cluster.nodes.get_mut(&to).unwrap().receive(leader, GROUP, message);
        }
        let others = NODES.into_iter().filter(|node| *node != leader);
        assert!(others.clone().all(|node| cluster.raft(node).leader().is_none()));
        // They share no other group with it, but it lives.
        cluster.dead.insert(leader);
        cluster.run(3 * ELECTION_MS);
        assert!(cluster.leader().is_some_and(|successor| successor != leader));
    }

    #[test]
    fn reads_of_a_follower_end_with_it() {
        let mut cluster = Cluster::of(3, 1);
        cluster.run(3 * ELECTION_MS);
        let leader = cluster.leader().expect("somebody leads");
        let last = cluster.propose(leader, b"committed");
        let term = cluster.raft(leader).term();
        let follower = NODES.into_iter().find(|node| *node != leader).unwrap();
        let mut raft = cluster.nodes.get_mut(&follower).unwrap().remove(GROUP).unwrap();
        raft.read(ReadId(1));
        let mut effects = Vec::new();
        raft.flush(&mut effects);
        raft.read(ReadId(2));
        // What cannot be: another entry in the place of one that is committed.
        let (prev_index, prev_term, commit) = (last, Term(term.0 + 7), last);
        let append = Append { term, prev_index, prev_term, commit, entries: Vec::new() };
        raft.receive(leader, Message::Append(append));
        effects.clear();
        raft.flush(&mut effects);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Poison { .. })));
        let failed = effects.into_iter().filter_map(|effect| match effect {
            Effect::ReadFailed { reads } => Some(reads),
            _ => None,
        });
        let mut failed: Vec<ReadId> = failed.flatten().collect();
        failed.sort();
        assert_eq!(failed, [ReadId(1), ReadId(2)]);
    }

    #[test]
    fn entries_stay_in_memory_only_while_a_member_lacks_them() {
        let mut cluster = Cluster::of(3, 1);
        cluster.run(3 * ELECTION_MS);
        let leader = cluster.leader().expect("somebody leads");
        let holders = |cluster: &Cluster| -> Vec<NodeId> {
            NODES.into_iter().filter(|node| cluster.raft(*node).holds_entries()).collect()
        };
        cluster.propose(leader, b"everybody has it");
        assert_eq!(holders(&cluster), []);
        let away = NODES.into_iter().find(|node| *node != leader).unwrap();
        cluster.dead.insert(away);
        let last = cluster.propose(leader, b"one lacks it");
        assert_eq!(holders(&cluster), [leader]);
        cluster.dead.clear();
        cluster.run(3 * ELECTION_MS);
        assert_eq!(cluster.raft(away).status().commit, last);
        assert_eq!(holders(&cluster), []);
    }

    #[test]
    fn many_groups_share_their_heartbeats() {
        let mut cluster = Cluster::of(3, 200);
        cluster.run(4 * ELECTION_MS);
        let messages = cluster.messages;
        cluster.run(20 * ELECTION_MS);
        assert_eq!(cluster.messages, messages, "idle groups send nothing");
        let timers: usize = cluster.nodes.values().map(|multi| multi.timers.len()).sum();
        assert_eq!(timers, 0, "and wait for nothing");
    }
}
