//! The rules of the paper, one test each.

use consensus::{Message, RoleName, Term};

use super::Cluster;

fn is_vote(message: &Message) -> bool {
    matches!(message, Message::Vote(vote) if !vote.pre)
}

fn is_append(message: &Message) -> bool {
    matches!(message, Message::Append(_))
}

/// §5.1: a server's term only rises, and a stale leader learns the new one.
#[test]
fn a_leader_that_was_replaced_follows_the_new_term() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut(&[1]);
    cluster.elect(2);
    assert!(cluster.leads(1), "it does not know yet");
    cluster.cut(&[]);
    cluster.propose(1);
    cluster.settle();
    assert!(!cluster.leads(1));
    assert_eq!(cluster.term(1), cluster.term(2));
}

/// §5.2: whoever gets the votes of a majority leads.
#[test]
fn a_majority_elects() {
    let mut cluster = Cluster::of(5);
    cluster.cut(&[4, 5]);
    cluster.elect(1);
    cluster.cut(&[1, 2, 3]);
    cluster.timeout(4);
    cluster.settle();
    assert_eq!(cluster.role(4), RoleName::Candidate, "two of five elect nobody");
}

/// §5.2: a server votes for one candidate per term, also after it has started again.
#[test]
fn a_vote_is_not_forgotten() {
    let mut cluster = Cluster::of(3);
    // Both have won their pre-votes before either asks for votes.
    cluster.timeout(1);
    cluster.timeout(3);
    cluster.settle_but(|_, _, message| is_vote(message));
    cluster.settle_but(|from, to, message| is_vote(message) && (from, to) != (1, 2));
    assert!(cluster.leads(1), "2 has voted for 1");
    cluster.crash(2);
    cluster.cut(&[1]);
    cluster.settle();
    assert!(!cluster.leads(3), "2 has no vote left in this term");
}

/// §5.2: a candidate that hears of a leader of its term follows it.
#[test]
fn a_candidate_follows_the_leader_of_its_term() {
    let mut cluster = Cluster::of(3);
    cluster.timeout(1);
    cluster.timeout(3);
    cluster.settle_but(|_, _, message| is_vote(message));
    cluster.settle_but(|from, to, message| is_vote(message) && (from, to) != (1, 2));
    assert_eq!((cluster.role(1), cluster.role(3)), (RoleName::Leader, RoleName::Follower));
}

/// §5.3: an entry is committed when a majority has it, and followers learn that.
#[test]
fn an_entry_is_committed_by_a_majority() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut(&[3]);
    cluster.propose(1);
    cluster.settle();
    assert_eq!((cluster.commit(1), cluster.commit(2)), (3, 3));
    cluster.cut(&[2, 3]);
    cluster.propose(1);
    cluster.settle();
    assert_eq!((cluster.last(1), cluster.commit(1)), (4, 3), "alone it commits nothing");
}

/// §5.3, figure 7: a new leader makes all logs equal its own.
#[test]
fn figure_7() {
    let mut cluster = Cluster::with_logs(&[
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ]);
    cluster.elect(1);
    assert_eq!(cluster.term(1), Term(8));
    for node in 1..=7 {
        assert_eq!(cluster.log(node), [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8], "{node}");
        assert_eq!(cluster.commit(node), 11);
    }
}

/// §5.4.1: nobody leads who lacks what is committed.
#[test]
fn a_log_that_lacks_committed_entries_does_not_win() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut(&[3]);
    cluster.propose(1);
    cluster.settle();
    cluster.cut(&[1]);
    cluster.input(2, |raft| raft.handle_node_silent(consensus::NodeId(1)));
    cluster.timeout(3);
    cluster.settle();
    assert!(!cluster.leads(3));
    cluster.elect(2);
}

/// §5.4.1: the last term decides before the length.
#[test]
fn a_shorter_log_of_a_newer_term_wins() {
    let mut cluster = Cluster::with_logs(&[&[1, 3], &[1, 2, 2, 2], &[1, 3]]);
    cluster.campaign(2, |_, _, _| false);
    assert!(!cluster.leads(2), "the others are further");
    cluster.elect(1);
    assert_eq!(cluster.log(2), [1, 3, 4]);
}

/// §5.4.2, figure 8: an entry of an earlier term is not committed by counting.
#[test]
fn figure_8() {
    let mut cluster = Cluster::one_by_one(5);
    // (a) 1 leads and reaches only 2.
    cluster.cut(&[3, 4, 5]);
    cluster.state_of_figure_8();
    assert_eq!((cluster.log(1), cluster.log(2)), (vec![1, 2], vec![1, 2]));
    // (b) 5 leads with the votes of 3 and 4, and writes something else there.
    cluster.cut(&[1, 2]);
    cluster.campaign(5, |_, _, message| is_append(message));
    cluster.lose(|_, _, message| is_append(message));
    assert!(cluster.leads(5) && cluster.log(5) == [1, 3]);
    // (c) 1 leads again; its old entry reaches 3 and so a majority.
    cluster.cut(&[4, 5]);
    cluster.crash(1);
    cluster.crash(3);
    let is_new = |message: &Message| matches!(message, Message::Append(append) if append.entries.iter().any(|entry| Term(3) < entry.term));
    cluster.campaign(1, |_, _, message| is_new(message));
    assert!(cluster.leads(1));
    // 3 refuses what does not fit, and gets the old entry first.
    cluster.deliver(|_, to, message| to == 3 && is_new(message));
    cluster.settle_but(|_, _, message| is_new(message));
    assert_eq!(cluster.log(3), [1, 2], "a majority has the old entry");
    assert_eq!(cluster.commit(1), 1, "and it is not committed");
    // (e) With an entry of its own term on a majority, both are.
    cluster.settle();
    assert_eq!(cluster.commit(1), cluster.last(1));
}

/// §5.5: a request that is answered twice, or not at all, changes nothing.
#[test]
fn appends_are_idempotent() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.propose(1);
    cluster.lose(|_, to, _| to == 3);
    cluster.settle();
    for _ in 0..3 {
        cluster.retry(1);
        cluster.settle();
    }
    assert_eq!(cluster.log(3), cluster.log(1));
    assert_eq!(cluster.commit(3), 3);
}

/// §7: who lags behind the log gets the snapshot, and goes on from there.
#[test]
fn a_snapshot_replaces_the_log_that_lags() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut(&[3]);
    for _ in 0..5 {
        cluster.propose(1);
        cluster.settle();
    }
    assert!(cluster.compact(1));
    cluster.cut(&[]);
    cluster.retry(1);
    cluster.settle();
    assert!(cluster.fetch(3));
    cluster.settle();
    cluster.propose(1);
    cluster.settle();
    assert_eq!((cluster.commit(3), cluster.last(3)), (8, 8));
}

/// §8: a leader begins with an entry of its own, which commits what its predecessors left.
#[test]
fn a_blank_entry_commits_the_past() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.propose(1);
    cluster.settle_but(|_, _, message| matches!(message, Message::AppendReply(_)));
    cluster.lose(|_, _, _| true);
    assert_eq!(cluster.commit(1), 2);
    cluster.cut(&[1]);
    cluster.elect(2);
    assert_eq!((cluster.commit(2), cluster.last(2)), (4, 4), "the entry and the blank one");
}

/// §8: a leader that was replaced serves no reads.
#[test]
fn a_deposed_leader_serves_no_reads() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.cut(&[1]);
    cluster.elect(2);
    cluster.propose(2);
    cluster.settle();
    cluster.read(1);
    cluster.settle();
    assert_eq!(cluster.served(1), None);
    cluster.read(2);
    cluster.settle();
    assert_eq!(cluster.served(2).map(|index| index.0), Some(4));
}

/// Dissertation, 3.10: leadership goes to whom it is handed, and only with the whole log.
#[test]
fn leadership_is_handed_over() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.propose(1);
    assert!(cluster.transfer(1, 2));
    assert!(!cluster.propose(1), "no proposals meanwhile");
    cluster.settle();
    assert!(cluster.leads(2) && !cluster.leads(1));
    assert_eq!(cluster.commit(2), 4);
}

/// Dissertation, 9.6: who cannot win does not raise anybody's term.
#[test]
fn a_lonely_node_does_not_disturb() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let term = cluster.term(1);
    cluster.cut(&[3]);
    for _ in 0..5 {
        cluster.timeout(3);
        cluster.settle();
    }
    assert_eq!(cluster.term(3), term);
    cluster.cut(&[]);
    cluster.timeout(3);
    cluster.settle();
    assert!(cluster.leads(1));
    assert_eq!(cluster.term(1), term);
}

impl Cluster {
    /// 1 leads in term 2 and has its first entry on 1 and 2 only, with nothing confirmed.
    fn state_of_figure_8(&mut self) {
        self.cut(&[4, 5]);
        self.timeout(1);
        self.settle_but(|_, _, message| is_append(message));
        self.lose(|_, to, message| is_append(message) && to != 2);
        self.settle_but(|_, _, message| matches!(message, Message::AppendReply(_)));
        self.lose(|_, _, _| true);
        assert!(self.leads(1));
    }
}
