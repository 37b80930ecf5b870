//! A member that follows the primary.

use crate::ack::Confirmed;
use crate::handshake::{Hello, Plan, Refusal};
use crate::primary::Tokens;
use crate::wire::FromPrimary;
use crate::{Effect, Entry, Epoch, Epochs, Fault, Hash, Head, Index, IoToken, Recovered};

/// Who this replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    group: String,
    member: String,
}

/// The state machine of a replica: see the crate's note for how to drive it.
#[derive(Debug)]
pub struct Replica {
    me: Identity,
    birth: Option<Hash>,
    /// The highest epoch seen: lower ones are refused.
    epoch: Epoch,
    head: Head,
    base: Index,
    durable: Index,
    commit: Index,
    /// The primary's commit index: ours is that, as far as our disk goes.
    primary_commit: Index,
    /// Whether our head is on the history of the primary that we are connected to.
    agreed: bool,
    epochs: Epochs,
    tokens: Tokens,
    halted: Option<Fault>,
    effects: Vec<Effect>,
}

impl Replica {
    /// A replica with what it found on its disk. `birth` is the hash of its history's first
    /// entry, `base` the oldest index whose hash it knows.
    #[must_use]
    pub fn new(
        (group, member): (String, String),
        recovered: Recovered,
        birth: Option<Hash>,
        base: Index,
    ) -> Self {
        let Recovered { epoch, head, commit, epochs } = recovered;
        Self {
            me: Identity { group, member },
            birth,
            epoch: epoch.max(head.position.epoch),
            head,
            base,
            durable: head.index(),
            commit,
            primary_commit: commit,
            agreed: false,
            epochs,
            tokens: Tokens::default(),
            halted: None,
            effects: Vec::new(),
        }
    }

    /// What to say to a member that may be the primary. Begins a new connection.
    pub fn hello(&mut self) -> Hello {
        self.agreed = false;
        Hello {
            group: self.me.group.clone(),
            member: self.me.member.clone(),
            epoch: self.epoch,
            birth: self.birth,
            head: self.head,
            base: self.base,
            commit: self.commit,
        }
    }

    /// Takes what the primary says, in the order in which it was sent.
    pub fn handle(&mut self, message: FromPrimary) {
        if self.halted.is_some() {
            return self.effects.push(Effect::Leave);
        }
        match message {
            FromPrimary::Refused(refusal) => self.handle_refused(&refusal),
            FromPrimary::Welcome { epoch, plan, at } => self.handle_welcome(epoch, plan, at),
            FromPrimary::Entries { epoch, entries, commit, .. } => {
                if self.follows(epoch) {
                    self.handle_entries(epoch, entries, commit);
                }
            }
            FromPrimary::Heartbeat { epoch, commit, .. } => {
                if self.follows(epoch) {
                    self.take_commit(commit);
                }
            }
            // Answered by the caller, who has the log and the engine.
            FromPrimary::Compare { .. }
            | FromPrimary::Records { .. }
            | FromPrimary::SnapshotEnd { .. } => (),
        }
    }

    fn handle_refused(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::ForeignHistory => self.halt(Fault::ForeignHistory),
            Refusal::NotPrimary
            | Refusal::OtherGroup { .. }
            | Refusal::UnknownMember { .. }
            | Refusal::StalePrimary { .. } => self.effects.push(Effect::Leave),
        }
    }

    /// Whether entries and heartbeats of this epoch count. A paused primary cannot fence itself,
    /// so whoever receives from it must.
    fn follows(&mut self, epoch: Epoch) -> bool {
        let follows = self.agreed && epoch == self.epoch;
        if !follows {
            self.effects.push(Effect::Leave);
        }
        follows
    }

    fn handle_welcome(&mut self, epoch: Epoch, plan: Plan, at: Head) {
        if epoch < self.epoch {
            return self.effects.push(Effect::Leave);
        }
        if self.epoch < epoch {
            self.epoch = epoch;
            // Before any entry of the epoch, so also before any confirmation in it.
            let token = self.tokens.next(self.head.index());
            self.effects.push(Effect::KeepEpoch { token, epoch });
        }
        match plan {
            Plan::Log => self.agree(),
            Plan::TruncateTo(common) if common < self.commit => {
                self.halt(Fault::WouldLoseCommitted { common, commit: self.commit });
            }
            Plan::TruncateTo(_) => {
                self.truncate(at);
                self.agree();
            }
            Plan::Snapshot if at.index() < self.commit => {
                self.halt(Fault::WouldLoseCommitted { common: at.index(), commit: self.commit });
            }
            Plan::Snapshot => self.effects.push(Effect::Install { at }),
        }
    }

    fn agree(&mut self) {
        self.agreed = true;
        self.effects.push(Effect::Report);
    }

    fn truncate(&mut self, last: Head) {
        self.head = last;
        self.durable = self.durable.min(last.index());
        self.epochs.truncate(last.index());
        // Writes on their way reach beyond `last` no more.
        self.tokens.clamp(last.index());
        let token = self.tokens.next(last.index());
        self.effects.push(Effect::Truncate { token, last });
    }

    fn handle_entries(&mut self, epoch: Epoch, entries: Vec<Entry>, commit: Index) {
        let mut head = self.head;
        for entry in &entries {
            if !entry.follows(&head) || epoch < entry.position.epoch {
                // A gap or a broken chain: join anew, and let the handshake find out.
                return self.effects.push(Effect::Leave);
            }
            head = entry.head();
        }
        for entry in &entries {
            self.epochs.push(entry.position);
            if entry.position.index == Index(1) {
                self.birth = Some(entry.hash);
            }
        }
        if head != self.head {
            self.head = head;
            let token = self.tokens.next(head.index());
            self.effects.push(Effect::Append { token, entries });
            self.effects.push(Effect::Report);
        }
        self.take_commit(commit);
    }

    fn take_commit(&mut self, commit: Index) {
        self.primary_commit = self.primary_commit.max(commit);
        let commit = self.primary_commit.min(self.durable);
        if self.agreed && self.commit < commit {
            self.commit = commit;
            self.effects.push(Effect::Commit { through: commit });
        }
    }

    /// The log has made this durable, and everything before it.
    pub fn persisted(&mut self, token: IoToken) {
        if let Some(durable) = self.tokens.durable(token)
            && self.durable < durable
        {
            self.durable = durable;
            if self.agreed {
                self.effects.push(Effect::Report);
            }
            self.take_commit(self.primary_commit);
        }
    }

    /// The snapshot is installed, durable, and the log begins anew after it.
    pub fn installed(&mut self, at: Head, birth: Option<Hash>, epochs: Epochs) {
        self.head = at;
        self.base = at.index();
        self.birth = birth;
        self.epochs = epochs;
        self.durable = at.index();
        self.tokens = self.tokens.emptied();
        self.commit = self.commit.max(at.index());
        self.primary_commit = self.primary_commit.max(at.index());
        self.agree();
        self.effects.push(Effect::Commit { through: self.commit });
    }

    /// The log no longer holds entries up to `base`.
    pub fn compacted(&mut self, base: Index) {
        self.base = self.base.max(base);
    }

    /// Stops following anybody until the process starts again.
    pub fn halt(&mut self, fault: Fault) {
        self.agreed = false;
        self.halted = Some(fault.clone());
        self.effects.push(Effect::Halt(fault));
    }

    /// What to do now, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// What the primary may count on, if our log is known to be its.
    #[must_use]
    pub fn confirmed(&self) -> Option<Confirmed> {
        self.agreed.then(|| Confirmed { received: self.head.index(), durable: self.durable })
    }

    /// The highest epoch seen.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where the log ends, durable or not.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Up to where the log is durable.
    #[must_use]
    pub const fn durable(&self) -> Index {
        self.durable
    }

    /// What is known to be committed.
    #[must_use]
    pub const fn commit(&self) -> Index {
        self.commit
    }

    /// Where the epochs of the log begin.
    #[must_use]
    pub const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Why it stopped, if it did.
    #[must_use]
    pub const fn halted(&self) -> Option<&Fault> {
        self.halted.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::Stamp;

    const STAMP: Stamp = Stamp { last: Index(9), now_ms: 0 };

    fn entries(from: Head, epoch: u64, count: usize) -> Vec<Entry> {
        let mut head = from;
        let next = |_| {
            let entry = head.extend(Epoch(epoch), Bytes::from_static(b"c"));
            head = entry.head();
            entry
        };
        (0..count).map(next).collect()
    }

    /// A replica that streams from a primary of this epoch and has three entries on disk.
    fn streaming(epoch: u64, commit: u64) -> (Replica, Vec<Entry>) {
        let head = Head::genesis("g");
        let recovered =
            Recovered { epoch: Epoch(0), head, commit: Index::ZERO, epochs: Epochs::default() };
        let mut replica = Replica::new(("g".into(), "r".into()), recovered, None, Index::ZERO);
        let _ = replica.hello();
        replica.handle(FromPrimary::Welcome { epoch: Epoch(epoch), plan: Plan::Log, at: head });
        let entries = entries(head, epoch, 3);
        let (epoch, commit) = (Epoch(epoch), Index(commit));
        let append = FromPrimary::Entries { epoch, entries: entries.clone(), commit, stamp: STAMP };
        replica.handle(append);
        (replica, entries)
    }

    fn sync(replica: &mut Replica) -> Vec<Effect> {
        replica.persisted(IoToken(u64::MAX));
        replica.take_effects()
    }

    #[test]
    fn it_confirms_as_durable_only_what_is() {
        let (mut replica, _) = streaming(1, 3);
        assert_eq!(
            replica.confirmed(),
            Some(Confirmed { received: Index(3), durable: Index::ZERO })
        );
        assert_eq!(replica.commit(), Index::ZERO, "committed elsewhere, not yet here");
        assert!(sync(&mut replica).contains(&Effect::Commit { through: Index(3) }));
        assert_eq!(replica.confirmed().map(|it| it.durable), Some(Index(3)));
    }

    #[test]
    fn the_epoch_is_kept_before_the_first_entry_of_it() {
        let (mut replica, _) = streaming(1, 0);
        let effects = replica.take_effects();
        let kept = effects.iter().position(|it| matches!(it, Effect::KeepEpoch { .. }));
        let appended = effects.iter().position(|it| matches!(it, Effect::Append { .. }));
        assert!(kept.is_some() && kept < appended, "{effects:?}");
    }

    #[test]
    fn an_older_primary_is_left() {
        let (mut replica, entries) = streaming(5, 0);
        sync(&mut replica);
        let at = entries[2].head();
        let late = self::entries(at, 5, 1);
        for message in [
            FromPrimary::Heartbeat { epoch: Epoch(4), commit: Index(3), stamp: STAMP },
            FromPrimary::Entries { epoch: Epoch(4), entries: late, commit: Index(4), stamp: STAMP },
            FromPrimary::Welcome { epoch: Epoch(4), plan: Plan::Log, at },
        ] {
            replica.handle(message);
            assert_eq!(replica.take_effects(), [Effect::Leave]);
        }
        assert_eq!((replica.head(), replica.commit()), (at, Index::ZERO));
    }

    #[test]
    fn a_gap_or_a_foreign_entry_is_not_appended() {
        let (mut replica, entries) = streaming(1, 0);
        sync(&mut replica);
        let beyond = self::entries(entries[2].head(), 1, 2).split_off(1);
        let foreign = self::entries(entries[1].head(), 1, 1);
        for entries in [beyond, foreign] {
            let (epoch, commit) = (Epoch(1), Index::ZERO);
            replica.handle(FromPrimary::Entries { epoch, entries, commit, stamp: STAMP });
            assert_eq!(replica.take_effects(), [Effect::Leave]);
        }
    }

    #[test]
    fn it_stops_rather_than_drop_what_is_committed() {
        for (plan, commit, halts) in [
            (Plan::TruncateTo(Index(1)), 2, true),
            (Plan::TruncateTo(Index(2)), 2, false),
            (Plan::Snapshot, 2, true),
        ] {
            let (mut replica, entries) = streaming(1, commit);
            sync(&mut replica);
            let common = if halts { 0 } else { 1 };
            let _ = replica.hello();
            let at = entries[common].head();
            replica.handle(FromPrimary::Welcome { epoch: Epoch(2), plan, at });
            assert_eq!(replica.halted().is_some(), halts, "{plan:?}");
            let truncated =
                replica.take_effects().iter().any(|it| matches!(it, Effect::Truncate { .. }));
            assert_eq!(truncated, !halts, "{plan:?}");
        }
    }
}
