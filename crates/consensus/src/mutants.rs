//! Bugs to plant, to see that the tests would notice: `cargo test -p consensus --features mutants`.
//!
//! Without the feature every question here is answered with a constant `false`.

/// One deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public with the feature"))]
pub enum Mutant {
    /// Entries of earlier terms are committed by counting (B2).
    CommitsOldTerms,
    /// A vote leaves before it is durable (B4).
    VoteTooEarly,
    /// Term and vote are two records (B4).
    TwoRecords,
    /// Stepping down within a term forgets the vote (B4).
    ForgetsVote,
    /// Somebody else's vote does not speak against one's own.
    VotesTwice,
    /// A confirmation leaves before the entries are durable (B11).
    ConfirmsTooEarly,
    /// The leader counts itself before its disk is done (B11, B19).
    LeaderCountsEarly,
    /// The longer log wins an election, whatever its terms (B15).
    LongerLogWins,
    /// What follows an append is dropped without a conflict (B14).
    TruncatesAlways,
    /// What a follower has is set, not raised (B14).
    MatchGoesBack,
    /// A write that was overtaken by a truncation counts (B10).
    OldWritesCount,
    /// A follower takes over the commit index beyond what it has checked.
    CommitBeyondMatch,
    /// A membership is in force one entry late (B3).
    MembershipLate,
    /// A truncated membership stays in force (B3).
    MembershipKept,
    /// While joint, the new voters alone decide (B1).
    NewMajorityOnly,
    /// A change may begin before the last one is through (B1).
    SecondChange,
    /// Half is a majority (B16).
    HalfIsMajority,
    /// Learners count (B16).
    LearnersCount,
    /// A new leader serves reads before it has committed anything (B7).
    ReadsTooEarly,
    /// Any answer confirms the present round of reads (B6).
    AnyRoundConfirms,
    /// Nobody is asked whether the leader still leads (B7).
    ReadsUnconfirmed,
    /// A snapshot leaves what contradicts it in the log (B13).
    SuffixKept,
    /// A snapshot that is older than the log replaces it (B13).
    OldSnapshotInstalled,
    /// The term of somebody who refuses a pre-vote is not taken over (B23).
    RefusalIgnored,
    /// Who needs entries that are gone is asked for older ones forever (B25).
    ProbesForever,
    /// A leader without a majority goes on (B24).
    NoCheckQuorum,
    /// A round of reads waits for a voter that has left.
    ReadsWaitForTheGone,
    /// A late message of a node that fell silent makes it the leader again.
    FollowsTheSilent,
    /// A node that leaves and comes back stays unreachable.
    UnreachableKept,
    /// Who is removed does not campaign, even if only its log can win.
    RemovedKeepQuiet,
    /// A node does not answer those of whom it does not know that they share a group with it.
    StrangersIgnored,
    /// A node that leaves a group forgets what it has promised and confirmed there.
    LeavingForgets,
    /// Who has let its log go votes like one that has just begun.
    ForgottenIgnored,
}

#[cfg(feature = "mutants")]
mod planted {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants a bug in every group of this thread, or takes it out again.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub(crate) use planted::is;
#[cfg(feature = "mutants")]
pub use planted::plant;

#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
