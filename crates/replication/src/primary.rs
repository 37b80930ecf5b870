//! The member that takes the writes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::ack::{Confirmed, Reached, Waiting, count};
use crate::command::Command;
use crate::{
    AckLevel, Effect, Entry, Epoch, Epochs, Head, Index, IoToken, MemberId, Position, Ticket,
};

/// What a node finds on its disk when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The highest epoch it has kept.
    pub epoch: Epoch,
    /// Where its log ends. All of it is durable.
    pub head: Head,
    /// A lower bound of what is committed.
    pub commit: Index,
    /// Where the epochs of its log begin.
    pub epochs: Epochs,
}

/// Why a command was not appended. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A newer primary exists.
    #[error("epoch {by} has begun elsewhere")]
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
    /// Too much waits to be confirmed.
    #[error("too many writes wait to be confirmed")]
    Full,
}

/// What the primary knows of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The connection that reports now; reports of older ones are late and ignored.
    session: u64,
    /// Whether it streams now.
    pub connected: bool,
    /// What it confirmed of this epoch's history; none before its first report.
    pub confirmed: Option<Confirmed>,
    /// How far its engine is.
    pub applied: Option<Index>,
}

/// Writers that may wait at once, whatever they wait for.
pub(crate) const WAITING_MAX: usize = 65_536;

/// The state machine of a primary: see the crate's note for how to drive it.
#[derive(Debug)]
pub struct Primary {
    epoch: Epoch,
    fenced_by: Option<Epoch>,
    head: Head,
    /// The first entry of this epoch.
    begin: Index,
    durable: Index,
    commit: Index,
    epochs: Epochs,
    replicas: BTreeMap<MemberId, Progress>,
    sessions: u64,
    waiting: Waiting,
    tokens: Tokens,
    /// Appended by the present input, not yet handed to the log.
    unlogged: Vec<Entry>,
    effects: Vec<Effect>,
}

impl Primary {
    /// Begins a new epoch. Nobody may hear of it before [`Self::is_open`].
    ///
    /// `nonce` is random; it names the history if this is its first entry.
    #[must_use]
    pub fn start(replicas: u32, recovered: Recovered, nonce: u128) -> Self {
        Self::with_members((0..replicas).map(MemberId), recovered, nonce)
    }

    /// The same with replicas of these numbers.
    #[must_use]
    pub fn with_members(
        replicas: impl IntoIterator<Item = MemberId>,
        recovered: Recovered,
        nonce: u128,
    ) -> Self {
        let Recovered { epoch, head, commit, epochs } = recovered;
        // A new epoch in every run: what the last run sent without keeping it has other names.
        let epoch = epoch.max(head.position.epoch).next();
        let mut primary = Self {
            epoch,
            fenced_by: None,
            head,
            begin: head.index().next(),
            durable: head.index(),
            commit,
            epochs,
            replicas: replicas.into_iter().map(|id| (id, Progress::default())).collect(),
            sessions: 0,
            waiting: Waiting::default(),
            tokens: Tokens::default(),
            unlogged: Vec::new(),
            effects: Vec::new(),
        };
        let token = primary.tokens.next(head.index());
        primary.effects.push(Effect::KeepEpoch { token, epoch });
        let first = match head.index() {
            Index::ZERO => Command::Found { nonce },
            _ => Command::Begin,
        };
        primary.extend(first.encode());
        primary
    }

    fn extend(&mut self, command: Bytes) -> Position {
        let entry = self.head.extend(self.epoch, command);
        self.head = entry.head();
        self.epochs.push(entry.position);
        self.unlogged.push(entry);
        self.head.position
    }

    /// Appends a command. All that is appended between two calls of [`Self::take_effects`] is
    /// one write to the log.
    pub fn append(&mut self, command: Bytes) -> Result<Position, Refused> {
        match self.fenced_by {
            Some(by) => Err(Refused::Fenced { by }),
            None if WAITING_MAX <= self.waiting.len() => Err(Refused::Full),
            None => Ok(self.extend(command)),
        }
    }

    /// Answers `ticket` once `index` has reached `level`, which may be at once.
    pub fn wait(&mut self, ticket: Ticket, index: Index, level: AckLevel) {
        if self.fenced_by.is_some() {
            return self.effects.push(Effect::Lost { ticket });
        }
        self.waiting.add(level, index, ticket);
        self.answer_reached();
    }

    /// The log refused the last append, for want of space: takes it back. Returns who waited.
    pub fn take_back(&mut self, last: Head) -> Vec<Ticket> {
        assert!(self.durable <= last.index(), "what is durable cannot be taken back");
        self.head = last;
        self.epochs.truncate(last.index());
        self.tokens.take_back(last.index());
        self.waiting.take_after(last.index())
    }

    /// The log has made this durable, and everything before it.
    pub fn persisted(&mut self, token: IoToken) {
        if let Some(durable) = self.tokens.durable(token) {
            self.durable = self.durable.max(durable);
            self.progress();
        }
    }

    /// A replica has joined and will stream. Returns the name of the connection.
    pub fn connected(&mut self, member: MemberId) -> u64 {
        self.sessions += 1;
        let progress = Progress { session: self.sessions, connected: true, ..Progress::default() };
        self.replicas.insert(member, progress);
        self.sessions
    }

    /// The connection is gone. What it confirmed stays confirmed.
    pub fn disconnected(&mut self, member: MemberId, session: u64) {
        if let Some(progress) = self.streaming(member, session) {
            progress.connected = false;
        }
    }

    /// A replica says how far it is. Returns whether it may be true: if not, hang up.
    #[must_use]
    pub fn report(
        &mut self,
        member: MemberId,
        session: u64,
        confirmed: Confirmed,
        applied: Index,
    ) -> bool {
        let head = self.head.index();
        let Some(progress) = self.streaming(member, session) else { return false };
        if head < confirmed.received || confirmed.received < confirmed.durable {
            return false;
        }
        progress.confirmed = Some(confirmed);
        progress.applied = Some(applied);
        self.progress();
        true
    }

    fn streaming(&mut self, member: MemberId, session: u64) -> Option<&mut Progress> {
        self.replicas.get_mut(&member).filter(|progress| progress.session == session)
    }

    /// Somebody follows another epoch. If that is newer, this primary's time is over.
    pub fn observe(&mut self, epoch: Epoch) {
        if epoch <= self.epoch || self.fenced_by.is_some_and(|by| epoch <= by) {
            return;
        }
        self.fenced_by = Some(epoch);
        for ticket in self.waiting.take_after(Index::ZERO) {
            self.effects.push(Effect::Lost { ticket });
        }
    }

    fn progress(&mut self) {
        if self.fenced_by.is_some() {
            return;
        }
        let quorum = self.reached().up_to(AckLevel::Quorum);
        // Entries of earlier epochs are committed by the first of ours, never by counting
        // their copies: a later primary might still drop them.
        if self.begin <= quorum && self.commit < quorum {
            self.commit = quorum;
            self.effects.push(Effect::Commit { through: quorum });
        }
        self.answer_reached();
    }

    fn answer_reached(&mut self) {
        let reached = self.reached();
        if reached.up_to(AckLevel::Async) < self.begin {
            return;
        }
        let replicas = self.confirmed();
        for (level, index, ticket) in self.waiting.take_reached(&reached) {
            let acked_by = count(level, index, self.durable, &replicas);
            self.effects.push(Effect::Acked { ticket, acked_by });
        }
    }

    fn confirmed(&self) -> Vec<Confirmed> {
        self.replicas.values().map(|progress| progress.confirmed.unwrap_or_default()).collect()
    }

    fn reached(&self) -> Reached {
        Reached::new(self.durable, &self.confirmed())
    }

    /// How many members have `index` as `level` asks.
    #[must_use]
    pub fn acked_by(&self, level: AckLevel, index: Index) -> u32 {
        count(level, index, self.durable, &self.confirmed())
    }

    /// What to do now, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        if !self.unlogged.is_empty() {
            let entries = std::mem::take(&mut self.unlogged);
            let token = self.tokens.next(self.head.index());
            // In front: nobody is answered before the log was asked.
            let at = usize::from(matches!(self.effects.first(), Some(Effect::KeepEpoch { .. })));
            self.effects.insert(at, Effect::Append { token, entries });
        }
        std::mem::take(&mut self.effects)
    }

    /// Whether the epoch and its first entry are durable. Before that nobody may see either.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.begin <= self.durable
    }

    /// The epoch of this primary.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newer epoch that ended this primary's time, if one did.
    #[must_use]
    pub const fn fenced_by(&self) -> Option<Epoch> {
        self.fenced_by
    }

    /// Where the log ends, durable or not.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Up to where the own log is durable.
    #[must_use]
    pub const fn durable(&self) -> Index {
        self.durable
    }

    /// Up to where a quorum has the log.
    #[must_use]
    pub const fn commit(&self) -> Index {
        self.commit
    }

    /// Where the epochs of the log begin.
    #[must_use]
    pub const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Every configured replica.
    pub fn replicas(&self) -> impl Iterator<Item = (MemberId, &Progress)> {
        self.replicas.iter().map(|(member, progress)| (*member, progress))
    }
}

/// Tokens on their way to the disk, and how far the log is once each is there.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    last: IoToken,
    pending: VecDeque<(IoToken, Index)>,
}

impl Tokens {
    pub(crate) fn next(&mut self, head: Index) -> IoToken {
        self.last = IoToken(self.last.0 + 1);
        self.pending.push_back((self.last, head));
        self.last
    }

    /// Where the durable log ends, if `token` is news.
    pub(crate) fn durable(&mut self, token: IoToken) -> Option<Index> {
        let mut durable = None;
        while let Some(&(pending, head)) = self.pending.front()
            && pending <= token
        {
            self.pending.pop_front();
            durable = Some(head);
        }
        durable
    }

    /// Writes on their way reach no further than `last`, because the log is cut there after them.
    pub(crate) fn clamp(&mut self, last: Index) {
        for (_, head) in &mut self.pending {
            *head = last.min(*head);
        }
    }

    /// The same numbering with nothing on its way.
    pub(crate) const fn emptied(&self) -> Self {
        Self { last: self.last, pending: VecDeque::new() }
    }

    /// Forgets writes that reached beyond `last` and were refused.
    pub(crate) fn take_back(&mut self, last: Index) {
        self.pending.retain(|(_, head)| *head <= last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(replicas: u32) -> Primary {
        let recovered = Recovered {
            epoch: Epoch(0),
            head: Head::genesis("g"),
            commit: Index::ZERO,
            epochs: Epochs::default(),
        };
        Primary::start(replicas, recovered, 7)
    }

    /// Everything the primary has asked of its log is on disk now.
    fn settle(primary: &mut Primary) -> Vec<Effect> {
        let mut all = Vec::new();
        loop {
            let effects = primary.take_effects();
            let Some(last) = effects.iter().rev().find_map(|effect| match effect {
                Effect::KeepEpoch { token, .. } | Effect::Append { token, .. } => Some(*token),
                _ => None,
            }) else {
                all.extend(effects);
                return all;
            };
            all.extend(effects);
            primary.persisted(last);
        }
    }

    fn confirm(
        primary: &mut Primary,
        member: u32,
        session: u64,
        received: u64,
        durable: u64,
    ) -> bool {
        let confirmed = Confirmed { received: Index(received), durable: Index(durable) };
        primary.report(MemberId(member), session, confirmed, Index::ZERO)
    }

    #[test]
    fn the_epoch_is_kept_before_its_first_entry_and_both_before_anyone_hears_of_it() {
        let mut primary = fresh(0);
        let effects = primary.take_effects();
        assert!(
            matches!(effects[..], [Effect::KeepEpoch { .. }, Effect::Append { .. }]),
            "{effects:?}"
        );
        assert!(!primary.is_open());
        primary.persisted(IoToken(1));
        assert!(!primary.is_open());
        primary.persisted(IoToken(2));
        assert!(primary.is_open());
        assert_eq!(primary.commit(), Index(1), "alone, its own disk is the quorum");
    }

    #[test]
    fn a_restart_begins_a_new_epoch() {
        let mut primary = fresh(0);
        settle(&mut primary);
        let recovered = Recovered {
            epoch: Epoch(1),
            head: primary.head(),
            commit: Index(1),
            epochs: primary.epochs().clone(),
        };
        let again = Primary::start(0, recovered, 8);
        assert_eq!(again.head().position, Position { epoch: Epoch(2), index: Index(2) });
    }

    #[test]
    fn each_level_is_answered_when_it_is_reached_and_not_before() {
        let mut primary = fresh(2);
        settle(&mut primary);
        let [one, two] = [0, 1].map(|member| primary.connected(MemberId(member)));
        let index = primary.append(Bytes::from_static(b"w")).unwrap().index;
        for (ticket, level) in AckLevel::ALL.into_iter().enumerate() {
            primary.wait(Ticket(ticket as u64), index, level);
        }
        let answered = |primary: &mut Primary| -> Vec<_> {
            let acked = |effect| match effect {
                Effect::Acked { ticket, acked_by } => Some((ticket.0, acked_by)),
                _ => None,
            };
            settle(primary).into_iter().filter_map(acked).collect()
        };
        assert_eq!(answered(&mut primary), [(0, 1)], "async");
        assert!(confirm(&mut primary, 0, one, 2, 1));
        assert_eq!(answered(&mut primary), [(1, 2)], "semi");
        assert!(confirm(&mut primary, 0, one, 2, 2));
        assert_eq!(answered(&mut primary), [(2, 2)], "quorum");
        assert!(confirm(&mut primary, 1, two, 2, 2));
        assert_eq!(answered(&mut primary), [(3, 3)], "all");
    }

    #[test]
    fn a_late_report_of_an_old_connection_counts_for_nothing() {
        let mut primary = fresh(1);
        settle(&mut primary);
        let old = primary.connected(MemberId(0));
        let new = primary.connected(MemberId(0));
        assert!(!confirm(&mut primary, 0, old, 1, 1));
        assert_eq!(primary.commit(), Index::ZERO);
        primary.disconnected(MemberId(0), old);
        assert!(confirm(&mut primary, 0, new, 1, 1));
        assert_eq!(primary.commit(), Index(1));
    }

    #[test]
    fn a_report_beyond_the_log_is_a_lie() {
        let mut primary = fresh(1);
        settle(&mut primary);
        let session = primary.connected(MemberId(0));
        assert!(!confirm(&mut primary, 0, session, 9, 9));
        assert!(!confirm(&mut primary, 0, session, 0, 1));
    }

    #[test]
    fn a_newer_epoch_ends_its_time() {
        let mut primary = fresh(2);
        settle(&mut primary);
        let index = primary.append(Bytes::from_static(b"w")).unwrap().index;
        primary.wait(Ticket(1), index, AckLevel::Quorum);
        primary.observe(Epoch(1));
        assert_eq!(primary.fenced_by(), None);
        primary.observe(Epoch(2));
        assert!(settle(&mut primary).contains(&Effect::Lost { ticket: Ticket(1) }));
        let refused = primary.append(Bytes::new());
        assert_eq!(refused, Err(Refused::Fenced { by: Epoch(2) }));
        let session = primary.connected(MemberId(0));
        confirm(&mut primary, 0, session, 2, 2);
        assert_eq!(primary.commit(), Index::ZERO, "it confirms nothing any more");
    }

    #[test]
    fn a_refused_append_leaves_no_trace() {
        let mut primary = fresh(0);
        settle(&mut primary);
        let before = primary.head();
        let index = primary.append(Bytes::from_static(b"w")).unwrap().index;
        primary.wait(Ticket(1), index, AckLevel::Async);
        primary.take_effects();
        assert_eq!(primary.take_back(before), [Ticket(1)]);
        assert_eq!(primary.append(Bytes::from_static(b"x")).unwrap().index, index);
        settle(&mut primary);
        assert_eq!(primary.commit(), index);
    }
}
