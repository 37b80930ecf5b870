//! One process with one group, alone with its disk: what its view of other nodes leads to.

use bytes::Bytes;
use consensus::{
    Change, Config, Effect, GroupId, Message, Multi, MultiConfig, NodeId, Output, Raft, Restored,
    RoleName,
};

const GROUP: GroupId = GroupId(1);
const ELECTION_MS: u64 = 100;

struct Process {
    multi: Multi,
    now_ms: u64,
}

impl Process {
    /// Node 1 of a group with these founders.
    fn of(founders: u64) -> Self {
        let node = NodeId(1);
        let (heartbeat_ms, election_ms) = (20, ELECTION_MS);
        let mut multi = Multi::new(MultiConfig { node, epoch: 7, heartbeat_ms, election_ms }, 0);
        let config = Config { election_ms, ..Config::new(node) };
        let restored = Restored::founded(crate::cluster::founders(1..=founders));
        multi.add(GROUP, Raft::new(config, restored, 0, 7));
        Self { multi, now_ms: 0 }
    }

    fn raft(&self) -> &Raft {
        self.multi.group(GROUP).expect("it was added")
    }

    fn input(&mut self, input: impl FnOnce(&mut Raft)) {
        input(self.multi.touch(GROUP).expect("it was added"));
        self.settle();
    }

    /// The disk does everything at once; messages go nowhere.
    fn settle(&mut self) {
        loop {
            let mut output = Output::default();
            self.multi.flush(&mut output);
            if output.effects.is_empty() {
                return;
            }
            for change in output.effects {
                if let Effect::Persist(persist) = change.effect {
                    let raft = self.multi.touch(GROUP).expect("it was added");
                    raft.handle_persisted(persist.ticket);
                }
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 10;
            self.multi.tick(self.now_ms);
            self.settle();
        }
    }

    fn change(&mut self, change: Change) {
        self.input(|raft| assert!(raft.change(&[change]).is_ok(), "it leads"));
    }

    fn reaches(&self, node: u64) -> bool {
        let peers = self.raft().status().peers;
        peers.iter().any(|peer| peer.node == NodeId(node) && peer.reachable)
    }
}

/// B24: a leader whose majority is gone does not go on.
#[test]
pub(crate) fn a_leader_that_hears_nobody_ends() {
    let mut process = Process::of(3);
    process.wait(3 * ELECTION_MS);
    // 2 grants the pre-vote, then the vote.
    for pre in [true, false] {
        process.input(|raft| {
            let term = raft.hard_state().term;
            let term = if pre { consensus::Term(term.0 + 1) } else { term };
            let reply = consensus::VoteReply { term, pre, granted: true };
            raft.receive(NodeId(2), Message::VoteReply(reply));
        });
    }
    assert_eq!(process.raft().role(), RoleName::Leader);
    process.input(|raft| {
        raft.handle_node_down(NodeId(2));
        raft.handle_node_down(NodeId(3));
    });
    assert_ne!(process.raft().role(), RoleName::Leader);
}

/// Ours: a node that was silent, left and came back is not taken for silent for ever.
#[test]
pub(crate) fn a_member_that_comes_back_is_tried_again() {
    let mut process = Process::of(1);
    process.wait(3 * ELECTION_MS);
    assert_eq!(process.raft().role(), RoleName::Leader);
    let add = Change::AddLearner { node: NodeId(2), info: Bytes::new() };
    process.change(add.clone());
    assert!(process.reaches(2));
    process.wait(3 * ELECTION_MS);
    assert!(!process.reaches(2), "it never answered");
    let remove = Change::Remove { node: NodeId(2) };
    process.change(remove);
    process.change(add);
    assert!(process.reaches(2), "until proven otherwise");
}

/// Ours: a late append of a node that is silent already does not make it the leader, for nobody
/// would say once more that it is silent.
#[test]
pub(crate) fn a_late_append_of_the_silent_is_not_followed() {
    let mut process = Process::of(3);
    process.wait(3 * ELECTION_MS);
    process.input(|raft| {
        let append = consensus::Append {
            term: consensus::Term(9),
            prev_index: consensus::Index(1),
            prev_term: consensus::Term(1),
            commit: consensus::Index(1),
            entries: Vec::new(),
        };
        raft.receive(NodeId(2), Message::Append(append));
    });
    assert_eq!(process.raft().hard_state().term, consensus::Term(9));
    assert_eq!(process.raft().leader(), None);
    assert!(process.raft().deadline_ms().is_some(), "it campaigns if nobody else does");
}
