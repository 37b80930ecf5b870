//! What members of a group tell each other. Each message has its own fields: none changes its
//! meaning with its type.

use std::sync::Arc;

use crate::entry::Entry;
use crate::ids::{Index, Term};
use crate::membership::Membership;

/// One message. Sender, receiver and group stand on the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Asks for a vote, or whether there would be one.
    Vote(Vote),
    /// Answers [`Vote`].
    VoteReply(VoteReply),
    /// Entries, a probe, or only the news of a commit.
    Append(Append),
    /// Answers [`Append`].
    AppendReply(AppendReply),
    /// A snapshot to fetch, for a follower whose next entry the leader no longer has.
    Snapshot(SnapshotOffer),
    /// Asks whether the sender still leads (§8, read-only requests).
    Confirm(Confirm),
    /// Answers [`Confirm`]: yes.
    ConfirmReply(Confirm),
    /// A follower asks up to where it has to apply for a linearizable read.
    ReadIndex(ReadIndex),
    /// Answers [`ReadIndex`].
    ReadIndexReply(ReadIndexReply),
    /// Asks the receiver to campaign at once.
    TimeoutNow(TimeoutNow),
    /// The sender does not lead any more.
    StepDown(StepDown),
}

/// §5.2 RequestVote; the pre-vote of the dissertation, 9.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vote {
    /// The term of the election; of a pre-vote, the term it would have.
    pub term: Term,
    /// The candidate's last entry.
    pub last_index: Index,
    /// Its term.
    pub last_term: Term,
    /// Only asks: nobody's term or vote changes.
    pub pre: bool,
    /// The leader itself wants this election: that it lives does not speak against it.
    pub transfer: bool,
}

/// The answer to a [`Vote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VoteReply {
    /// If granted, the term asked for; else the voter's own, which the candidate adopts if higher.
    pub term: Term,
    /// Answers a pre-vote.
    pub pre: bool,
    /// The voter is for it.
    pub granted: bool,
}

/// §5.3 AppendEntries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Append {
    /// The leader's.
    pub term: Term,
    /// The entry before the first of `entries`.
    pub prev_index: Index,
    /// Its term.
    pub prev_term: Term,
    /// What the leader knows to be committed.
    pub commit: Index,
    /// Maybe none.
    pub entries: Vec<Entry>,
}

/// The answer to an [`Append`] or to an installed snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendReply {
    /// The follower's.
    pub term: Term,
    /// How it went.
    pub outcome: AppendOutcome,
    /// What the follower knows to be committed: a leader falls silent only when everybody knows.
    pub commit: Index,
}

/// How an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendOutcome {
    /// Equal to the leader's log up to here, and durable.
    Matched(Index),
    /// The follower has nothing that fits before the entries.
    Rejected {
        /// The append this answers.
        prev_index: Index,
        /// The highest index at which the logs may agree.
        hint_index: Index,
        /// The follower's term there.
        hint_term: Term,
    },
}

/// What a snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last entry it covers.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The membership as of `index`.
    pub membership: Arc<Membership>,
}

/// A snapshot that the receiver should fetch from the sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotOffer {
    /// The leader's.
    pub term: Term,
    /// Which.
    pub snapshot: SnapshotMeta,
}

/// A round that proves leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Confirm {
    /// The leader's; in an answer, the same.
    pub term: Term,
    /// Made by the leader, rising within its term: a late answer is never taken for a new one.
    pub round: u64,
}

/// A follower's reads, as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadIndex {
    /// The follower's.
    pub term: Term,
    /// Made by the follower, from a random start in every life: an answer to an earlier life
    /// answers nothing.
    pub batch: u64,
}

/// From where the reads of a [`ReadIndex`] may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadIndexReply {
    /// The leader's.
    pub term: Term,
    /// Of the question.
    pub batch: u64,
    /// Apply up to here, then read.
    pub index: Index,
}

/// §3.10 of the dissertation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeoutNow {
    /// The leader's.
    pub term: Term,
    /// The receiver campaigns only with this entry in its log.
    pub last_index: Index,
    /// The term of that entry.
    pub last_term: Term,
}

/// The end of a leadership, told because nobody would notice otherwise: followers watch the
/// leader's node, not its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepDown {
    /// In which it led.
    pub term: Term,
}

impl Message {
    /// The sender's term, or the one it asks for.
    #[must_use]
    pub const fn term(&self) -> Term {
        match self {
            Self::Vote(message) => message.term,
            Self::VoteReply(message) => message.term,
            Self::Append(message) => message.term,
            Self::AppendReply(message) => message.term,
            Self::Snapshot(message) => message.term,
            Self::Confirm(message) | Self::ConfirmReply(message) => message.term,
            Self::ReadIndex(message) => message.term,
            Self::ReadIndexReply(message) => message.term,
            Self::TimeoutNow(message) => message.term,
            Self::StepDown(message) => message.term,
        }
    }

    /// Bytes that limits count.
    #[must_use]
    pub fn cost(&self) -> usize {
        let entries = match self {
            Self::Append(append) => append.entries.iter().map(Entry::cost).sum(),
            _ => 0,
        };
        64 + entries
    }
}
