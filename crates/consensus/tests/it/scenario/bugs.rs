//! Bugs that others have shipped, and those that our own simulation has found: none of them here.
//! The numbers are those of the list that the design goes by.

use bytes::Bytes;
use consensus::{Change, Index, Message, NodeId};

use super::Cluster;

fn add(node: u64) -> Change {
    Change::AddLearner { node: NodeId(node), info: Bytes::new() }
}

fn promote(node: u64) -> Change {
    Change::Promote { node: NodeId(node) }
}

fn remove(node: u64) -> Change {
    Change::Remove { node: NodeId(node) }
}

/// B1: two leaders that each change one voter must not both commit.
#[test]
fn b01_rival_changes_do_not_both_commit() {
    let mut cluster = Cluster::with_others(4, 1);
    cluster.elect(1);
    // 1 removes 4, which nobody hears of.
    cluster.cut(&[1]);
    assert!(cluster.change(1, remove(4)));
    cluster.settle();
    // 2 leads in the old membership and adds 5.
    cluster.elect(2);
    cluster.cut(&[1]);
    assert!(cluster.change(2, add(5)));
    cluster.settle();
    let committed = cluster.commit(2);
    // 1 comes back with 3 only: it cannot commit its change.
    cluster.cut(&[2, 4, 5]);
    cluster.retry(1);
    cluster.settle();
    assert!(cluster.commit(1) < committed);
    cluster.cut(&[]);
    cluster.elect(2);
    assert_eq!(cluster.log(1), cluster.log(2));
}

/// B1: while a change is not through, there is no second one.
#[test]
pub(crate) fn b01_one_change_at_a_time() {
    let mut cluster = Cluster::of(5);
    cluster.elect(1);
    cluster.cut(&[2, 3, 4, 5]);
    assert!(cluster.change(1, remove(5)));
    assert!(!cluster.change(1, remove(4)));
    cluster.cut(&[]);
    cluster.retry(1);
    cluster.settle();
    assert!(cluster.change(1, remove(4)), "the first is through");
}

/// B1: a new leader changes nothing before it has committed an entry of its own.
#[test]
fn b01_a_new_leader_is_not_ready_for_changes() {
    let mut cluster = Cluster::of(3);
    cluster.timeout(1);
    cluster.settle_but(|_, _, message| matches!(message, Message::Append(_)));
    assert!(cluster.leads(1));
    assert!(!cluster.change(1, remove(3)));
    cluster.settle();
    assert!(cluster.change(1, remove(3)));
}

/// B4: neither a vote nor a request for one leaves before it is durable.
#[test]
fn b04_a_vote_waits_for_the_disk() {
    let mut cluster = Cluster::of(3);
    cluster.stick(&[1, 2, 3]);
    cluster.timeout(1);
    cluster.settle();
    assert!(!cluster.sent(|_, _, _| true), "the candidate's own promise is not durable");
    cluster.stick(&[2, 3]);
    cluster.settle();
    assert!(!cluster.leads(1), "the votes are not durable");
    cluster.stick(&[]);
    cluster.settle();
    assert!(cluster.leads(1));
}

/// B6: an answer to an earlier round confirms no later one.
#[test]
fn b06_an_old_confirmation_confirms_nothing() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let is_reply = |message: &Message| matches!(message, Message::ConfirmReply(_));
    cluster.read(1);
    cluster.settle_but(|from, _, message| from == 3 && is_reply(message));
    assert_eq!(cluster.served(1), Some(Index(2)), "confirmed by 2; the answer of 3 is late");
    // Meanwhile 2 takes over and writes.
    let late = |_: usize, to: usize, message: &Message| to == 1 && is_reply(message);
    cluster.input(1, |_| {});
    cluster.elect_without(2, 1, late);
    cluster.read(1);
    // The late answer arrives at last.
    cluster.settle_but(|_, _, message| !is_reply(message));
    assert_eq!(cluster.served(1), Some(Index(2)), "and nothing else was served");
}

/// B7: a new leader serves no read before it has committed an entry of its own.
#[test]
fn b07_a_new_leader_does_not_know_what_is_committed() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.propose(1);
    cluster.settle();
    cluster.cut(&[1]);
    cluster.input(3, |raft| raft.handle_node_silent(NodeId(1)));
    cluster.timeout(2);
    cluster.settle_but(|_, _, message| matches!(message, Message::AppendReply(_)));
    assert!(cluster.leads(2));
    cluster.read(2);
    cluster.settle_but(|_, _, message| matches!(message, Message::AppendReply(_)));
    assert_eq!(cluster.served(2), None);
    cluster.settle();
    assert_eq!(cluster.served(2), Some(Index(4)));
}

/// B10: a write that was overtaken by a truncation confirms nothing, although its ticket is old and
/// its length fits.
#[test]
fn b10_an_overtaken_write_confirms_nothing() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    // 3 has an entry of 1 on its way to the disk when 2 takes over and writes another one there.
    cluster.stick(&[3]);
    cluster.propose(1);
    cluster.settle_but(|_, to, _| to != 3);
    cluster.lose(|_, _, _| true);
    cluster.stick(&[]);
    cluster.cut(&[1]);
    cluster.stick(&[3]);
    cluster.input(2, |raft| raft.handle_node_silent(NodeId(1)));
    cluster.input(3, |raft| raft.handle_node_silent(NodeId(1)));
    cluster.timeout(3);
    cluster.settle();
    cluster.stick(&[]);
    cluster.settle();
    // Whoever leads: no confirmation was released for what is not on the disk (the oracle looks).
    cluster.cut(&[]);
    cluster.elect(3);
    assert_eq!(cluster.log(1), cluster.log(3));
}

/// B13: an older snapshot than the log is not installed.
#[test]
fn b13_an_old_snapshot_does_not_cut_the_log() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut(&[3]);
    cluster.propose(1);
    cluster.settle();
    assert!(cluster.compact(1));
    cluster.cut(&[]);
    cluster.retry(1);
    cluster.settle();
    // It is told to fetch; before it has, a leader with a longer log sends the entries.
    cluster.cut(&[1]);
    cluster.elect(2);
    assert_eq!(cluster.last(3), 4);
    cluster.cut(&[]);
    cluster.fetch(3);
    cluster.settle();
    assert_eq!(cluster.last(3), 4, "nothing was lost");
}

/// B13: a snapshot replaces a log that contradicts it, also one that is longer.
#[test]
pub(crate) fn b13_a_snapshot_drops_what_contradicts_it() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    // 3 leads alone and writes much that nobody else has.
    cluster.elect(3);
    cluster.cut(&[3]);
    for _ in 0..8 {
        cluster.propose(3);
        cluster.settle();
    }
    cluster.elect(1);
    cluster.propose(1);
    cluster.settle();
    assert!(cluster.compact(1));
    let committed = cluster.commit(1);
    assert!(committed < cluster.last(3));
    cluster.cut(&[]);
    cluster.retry(1);
    cluster.settle();
    assert!(cluster.fetch(3));
    cluster.settle();
    assert_eq!((cluster.last(3), cluster.commit(3)), (committed, committed));
    cluster.propose(1);
    cluster.settle();
    assert_eq!(cluster.log(3).last(), cluster.log(1).last());
}

/// B14: a late confirmation takes back nothing that a newer one has said.
#[test]
pub(crate) fn b14_a_late_confirmation_takes_nothing_back() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.propose(1);
    let is_late = |from: usize, _: usize, message: &Message| {
        let Message::AppendReply(reply) = message else { return false };
        from == 2 && reply.outcome == consensus::AppendOutcome::Matched(Index(3))
    };
    cluster.settle_but(is_late);
    cluster.propose(1);
    cluster.settle_but(is_late);
    let matched = |cluster: &mut Cluster| {
        let mut matched = Index::ZERO;
        cluster.input(1, |raft| {
            let peers = raft.status().peers;
            let peer = peers.iter().find(|peer| peer.node == NodeId(2));
            matched = peer.map_or(Index::ZERO, |peer| peer.matched);
        });
        matched
    };
    assert_eq!(matched(&mut cluster), Index(4));
    assert!(cluster.sent(is_late));
    cluster.deliver(is_late);
    assert_eq!(matched(&mut cluster), Index(4));
}

/// B19: one voter commits nothing that its disk does not have.
#[test]
fn b19_one_voter_waits_for_its_disk() {
    let mut cluster = Cluster::of(1);
    cluster.elect(1);
    cluster.stick(&[1]);
    cluster.propose(1);
    cluster.settle();
    assert_eq!((cluster.last(1), cluster.commit(1)), (3, 2));
    cluster.crash(1);
    assert_eq!(cluster.last(1), 2, "it is gone, and nobody was told otherwise");
}

/// B23: a higher term behind the refusal of a pre-vote is taken over, or nobody is ever elected.
#[test]
pub(crate) fn b23_a_lower_term_with_the_better_log_wins() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    // 3 misses an entry, and is in a higher term than the others.
    cluster.cut(&[3]);
    cluster.propose(1);
    cluster.settle();
    cluster.cut(&[1, 2]);
    cluster.input(3, |raft| {
        let vote = consensus::VoteReply { term: consensus::Term(9), pre: true, granted: false };
        raft.receive(NodeId(2), Message::VoteReply(vote));
    });
    cluster.settle();
    assert_eq!(cluster.term(3).0, 9);
    // 1 is gone for good: 2 has the log, 3 has the term.
    cluster.cut(&[1]);
    cluster.input(2, |raft| raft.handle_node_silent(NodeId(1)));
    for _ in 0..3 {
        cluster.timeout(2);
        cluster.settle();
    }
    assert!(cluster.leads(2));
}

/// B25: a member whose entries are all gone gets the snapshot, also from an idle leader.
#[test]
fn b25_a_member_behind_the_log_gets_the_snapshot() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut(&[3]);
    for _ in 0..4 {
        cluster.propose(1);
        cluster.settle();
    }
    assert!(cluster.compact(1));
    assert!(cluster.compact(2));
    // A new leader knows nothing of what 3 has.
    cluster.elect(2);
    cluster.cut(&[]);
    cluster.retry(2);
    cluster.settle();
    assert!(cluster.fetch(3), "it is offered");
    cluster.settle();
    assert_eq!(cluster.commit(3), cluster.commit(2));
}

/// B26: a request to campaign that comes late elects nobody who lacks entries.
#[test]
fn b26_a_late_transfer_elects_nobody_who_lags() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    assert!(cluster.transfer(1, 2));
    let is_now = |message: &Message| matches!(message, Message::TimeoutNow(_));
    cluster.settle_but(|_, _, message| is_now(message));
    assert!(cluster.sent(|_, to, message| to == 2 && is_now(message)));
    // 2 loses what it had not on disk: nothing here. But it is asked for an entry it never had.
    cluster.lose(|_, _, message| is_now(message));
    cluster.input(2, |raft| {
        let now = consensus::TimeoutNow {
            term: raft.hard_state().term,
            last_index: Index(99),
            last_term: raft.hard_state().term,
        };
        raft.receive(NodeId(1), Message::TimeoutNow(now));
    });
    cluster.settle();
    assert!(!cluster.leads(2));
}

/// B27: a learner that does not answer is not made a voter.
#[test]
fn b27_a_member_that_never_answered_does_not_vote() {
    let mut cluster = Cluster::with_others(1, 1);
    cluster.elect(1);
    cluster.cut(&[2]);
    assert!(cluster.change(1, add(2)));
    cluster.settle();
    assert!(!cluster.change(1, promote(2)), "it has nothing");
    cluster.cut(&[]);
    cluster.retry(1);
    cluster.settle();
    assert!(cluster.change(1, promote(2)));
    cluster.settle();
    assert_eq!(cluster.commit(2), cluster.last(1));
}

/// B27: whoever has what was committed when its promotion was asked for is promoted, also while
/// writes go on: what is committed now, only the leader is sure to have.
#[test]
fn b27_writes_do_not_hold_a_promotion_up() {
    let mut cluster = Cluster::with_others(1, 1);
    cluster.elect(1);
    assert!(cluster.change(1, add(2)));
    cluster.settle();
    let asked = cluster.commit(1);
    cluster.cut(&[2]);
    assert!(cluster.propose(1));
    cluster.settle();
    assert!(asked < cluster.commit(1));
    assert!(!cluster.change(1, promote(2)), "it lacks what is committed now");
    cluster.input(1, |raft| assert!(raft.change_since(&[promote(2)], Index(asked)).is_ok()));
    cluster.cut(&[]);
    cluster.retry(1);
    cluster.settle();
    assert_eq!(cluster.commit(2), cluster.last(1));
}

/// Ours: a round of reads does not wait for a voter that has left meanwhile.
#[test]
pub(crate) fn reads_do_not_wait_for_a_voter_that_left() {
    let mut cluster = Cluster::of(2);
    cluster.elect(1);
    assert!(cluster.change(1, remove(2)));
    let is_confirm = |message: &Message| matches!(message, Message::Confirm(_));
    cluster.read(1);
    cluster.settle_but(|_, _, message| is_confirm(message));
    cluster.cut(&[2]);
    cluster.retry(1);
    cluster.settle();
    assert!(cluster.served(1).is_some());
}

/// §6: a leader that is removed ends when that is committed, and somebody else begins.
#[test]
fn a_removed_leader_ends() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    assert!(cluster.change(1, remove(1)));
    cluster.settle();
    assert!(!cluster.leads(1));
    assert!(cluster.leads(2) || cluster.leads(3), "it has said who may begin at once");
}

/// Dissertation, 4.2.2; found by our simulation: as long as its removal is not committed, a removed
/// leader may have the only log that can win.
#[test]
pub(crate) fn a_removed_leader_with_the_best_log_begins_once_more() {
    let mut cluster = Cluster::of(4);
    cluster.elect(1);
    // The disk of 2 is lost, so that the old voters need 1 as well.
    cluster.cut(&[2]);
    assert!(cluster.change(1, remove(1)));
    let is_end = |message: &Message| matches!(message, Message::Append(append) if append.entries.iter().any(|entry| Index(3) < entry.index));
    cluster.settle_but(|_, _, message| is_end(message));
    assert_eq!(
        (cluster.commit(1), cluster.last(1)),
        (3, 4),
        "the end of the joint phase is only on 1"
    );
    cluster.lose(|_, _, message| is_end(message));
    cluster.crash(1);
    for node in [3, 4] {
        cluster.input(node, |raft| raft.handle_node_silent(NodeId(1)));
    }
    cluster.campaign(3, |_, _, _| false);
    assert!(!cluster.leads(3), "1 has more and does not vote for it");
    cluster.campaign(1, |_, _, _| false);
    assert!(!cluster.leads(1), "it ends as soon as its removal is committed");
    assert!(cluster.leads(3) || cluster.leads(4));
}

/// Ours: 3 confirms that it is replaced by 4, leaves, and comes back with an empty log. 2 has not
/// heard of it and still counts on the vote of 3, while 1, who has, is gone: 3 must not help 2 to
/// lead what the others have moved on from.
#[test]
pub(crate) fn who_comes_back_elects_nobody_who_has_less_than_it_had() {
    let mut cluster = Cluster::with_others(3, 1);
    cluster.elect(1);
    assert!(cluster.change(1, add(4)));
    cluster.settle();
    cluster.cut(&[2]);
    cluster.change_all(1, &[promote(4), remove(3)]);
    cluster.settle();
    cluster.retry(1);
    cluster.settle();
    assert_eq!(cluster.commit(1), cluster.last(1), "1 and 4 decide now");
    cluster.leave(3);
    assert!(cluster.change(1, add(3)));
    // It has met the leader, and has nothing yet.
    cluster.settle_but(|from, _, _| from == 3);
    assert_eq!((cluster.last(3), cluster.term(3)), (0, cluster.term(1)));
    // 1 hears nobody from here on, and 2 hears 3 again.
    cluster.cut(&[1, 4]);
    for node in [2, 3] {
        cluster.input(node, |raft| raft.handle_node_silent(NodeId(1)));
    }
    cluster.campaign(2, |_, _, _| false);
    cluster.campaign(3, |_, _, _| false);
    assert!(!cluster.leads(2) && !cluster.leads(3));
    // With the others there is a leader again, and 3 gets everything.
    cluster.cut(&[]);
    cluster.elect(1);
    cluster.retry(1);
    cluster.settle();
    assert_eq!(cluster.last(3), cluster.last(1));
}

impl Cluster {
    /// `node` leads and writes, while `without` hears nothing; these messages stay on their way.
    fn elect_without(
        &mut self,
        node: usize,
        without: usize,
        keep: impl Fn(usize, usize, &Message) -> bool,
    ) {
        let kept = |from: usize, to: usize, message: &Message| {
            keep(from, to, message) || from == without || to == without
        };
        for other in 1..=3 {
            if other != without {
                self.input(other, |raft| raft.handle_node_silent(NodeId(without as u64)));
            }
        }
        self.timeout(node);
        self.settle_but(kept);
        self.lose(|from, to, message| {
            (from == without || to == without) && !keep(from, to, message)
        });
        assert!(self.leads(node));
        self.propose(node);
        self.settle_but(kept);
        self.lose(|from, to, message| {
            (from == without || to == without) && !keep(from, to, message)
        });
    }
}
