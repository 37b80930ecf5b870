//! What has to hold after every step, whatever happened.
//!
//! The oracle remembers what the nodes may forget: who led each term, who was voted for, what was
//! committed. It looks only at what a step has changed, so that it costs little.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use consensus::{
    AppendOutcome, Effect, Entry, HardState, Index, Message, NodeId, NodeSet, Persist, Raft,
    RoleName, SnapshotMeta, Term, VoteReply,
};

use super::machine::content;
use super::{Store, is_quorum};

/// What is known of an entry with this index and term, wherever it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    term: Term,
    content: u64,
    /// The term of the entry before it.
    previous: Term,
}

/// What a node last showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Shown {
    term: Term,
    commit: Index,
    is_leader: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Per index, from 1: every entry that ever was in a log.
    entries: Arc<Vec<Vec<Known>>>,
    /// Per index, from 1: the term of what is committed.
    committed: Vec<Term>,
    /// The same: the term in which a leader committed it.
    committed_in: Vec<Term>,
    /// Per index, from 1: the machine's hash behind it.
    states: Vec<u64>,
    shown: BTreeMap<NodeId, Shown>,
    /// No read that begins now may be served from below.
    read_floor: Index,
}

type Check = Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*));
        }
    };
}

/// What the future is judged by; not what a node last showed, which the node itself says.
impl Hash for Oracle {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.leaders, &self.votes, &self.entries).hash(hasher);
        (&self.committed, &self.committed_in, &self.states, self.read_floor).hash(hasher);
    }
}

impl Oracle {
    /// The founders' first entry is committed from the beginning.
    pub(crate) fn new(first: &Entry) -> Self {
        let mut oracle = Self::default();
        oracle.see_entry(first, Term(0)).expect("the first entry contradicts nothing");
        oracle.committed.push(first.term);
        oracle.committed_in.push(first.term);
        oracle
    }

    /// The highest index that is known to be committed.
    pub(crate) fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// What was elected so far.
    pub(crate) fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// Checks what a node wants done, before it is done.
    pub(crate) fn check_effect(&mut self, store: &Store, raft: &Raft, effect: &Effect) -> Check {
        match effect {
            Effect::Persist(persist) => self.check_persist(store, raft, persist),
            Effect::Send { message, .. } => self.check_send(store, effect, message),
            Effect::Install { snapshot, .. } => self.check_snapshot(store, snapshot),
            Effect::Commit { through } => self.check_commit(store, *through),
            Effect::Poison { reason } => Err(format!("{} is poisoned: {reason}", store.id)),
            _ => Ok(()),
        }
    }

    fn check_persist(&mut self, store: &Store, raft: &Raft, persist: &Persist) -> Check {
        let id = store.id;
        if let Some(from) = persist.truncate_from {
            ensure!(store.commit < from, "{id} drops {from}, which it knows to be committed");
            self.check_truncation(store, from)?;
        }
        let Some(first) = persist.entries.first() else { return Ok(()) };
        let before = Index(first.index.0 - 1);
        let Some(mut previous) = raft.term_at(before) else {
            // Legal only when a snapshot has replaced the log in the same step.
            ensure!(before < raft.status().base, "{id} appends {} to nothing", first.index);
            return Ok(());
        };
        for entry in &persist.entries {
            self.see_entry(entry, previous)?;
            previous = entry.term;
        }
        Ok(())
    }

    /// What is committed is not dropped by anybody who has it.
    fn check_truncation(&self, store: &Store, from: Index) -> Check {
        let last = store.disk.last().min(self.committed());
        for index in from.0..=last.0 {
            let committed = self.committed[index as usize - 1];
            let lost = store.disk.term(Index(index)) == Some(committed);
            ensure!(!lost, "{} drops {index}, which is committed", store.id);
        }
        Ok(())
    }

    /// §5.1, §5.2: one vote per term, however often the node starts again. Called when the disk
    /// has written something: only then it is a vote.
    pub(crate) fn check_durable(&mut self, store: &Store) -> Check {
        let (id, HardState { term, voted_for, .. }) = (store.id, store.disk.hard_state);
        let Some(voted_for) = voted_for else {
            let earlier = self.votes.get(&(id, term));
            ensure!(earlier.is_none(), "{id} forgets its vote of term {term}");
            return Ok(());
        };
        let first = *self.votes.entry((id, term)).or_insert(voted_for);
        ensure!(first == voted_for, "{id} voted for {first} and {voted_for} in term {term}");
        Ok(())
    }

    /// §5.3, Log Matching: index and term say what the entry is and all that came before it.
    fn see_entry(&mut self, entry: &Entry, previous: Term) -> Check {
        let at = entry.index.0 as usize - 1;
        let seen = Known { term: entry.term, content: content(entry), previous };
        let known = self.entries.get(at).map_or(&[][..], |known| known);
        match known.iter().find(|known| known.term == entry.term) {
            None => {
                let entries = Arc::make_mut(&mut self.entries);
                entries.resize(entries.len().max(at + 1), Vec::new());
                entries[at].push(seen);
                entries[at].sort_unstable_by_key(|known| known.term);
            }
            Some(known) => ensure!(
                *known == seen,
                "two entries at index {} of term {}: {known:?}, {seen:?}",
                entry.index,
                entry.term
            ),
        }
        Ok(())
    }

    /// Nothing leaves that promises what is not durable (B4, B11).
    fn check_send(&self, store: &Store, effect: &Effect, message: &Message) -> Check {
        let Effect::Send { to, .. } = effect else { return Ok(()) };
        let (id, durable) = (store.id, store.disk.hard_state);
        let promised = |term: Term, to: NodeId| {
            term < durable.term || term == durable.term && durable.voted_for == Some(to)
        };
        match message {
            Message::Vote(vote) if !vote.pre => {
                ensure!(promised(vote.term, id), "{id} campaigns in {} too early", vote.term);
            }
            Message::VoteReply(VoteReply { term, pre: false, granted: true }) => {
                ensure!(promised(*term, *to), "{id} votes for {to} in {term} before it is durable");
            }
            Message::AppendReply(reply) => {
                let AppendOutcome::Matched(matched) = reply.outcome else { return Ok(()) };
                let last = store.disk.last();
                ensure!(matched <= last, "{id} confirms {matched}; durable are {last}");
            }
            Message::Append(append) => {
                let leader = self.leaders.get(&append.term);
                ensure!(leader == Some(&id), "{id} appends in {}, which it never led", append.term);
            }
            _ => {}
        }
        Ok(())
    }

    /// A snapshot stands for what is committed.
    fn check_snapshot(&self, store: &Store, snapshot: &SnapshotMeta) -> Check {
        let SnapshotMeta { index, term, .. } = snapshot;
        let committed = self.committed.get(index.0 as usize - 1);
        ensure!(committed == Some(term), "{} installs {index}, not committed", store.id);
        ensure!(store.commit < *index, "{} installs {index}, older than its commit", store.id);
        Ok(())
    }

    /// What a node is told to apply is committed and durable on it.
    fn check_commit(&self, store: &Store, through: Index) -> Check {
        let id = store.id;
        ensure!(through <= self.committed(), "{id} commits {through}, which nobody did");
        let last = store.disk.last();
        ensure!(through <= last, "{id} commits {through}; durable are {last}");
        let term = self.committed[through.0 as usize - 1];
        ensure!(store.disk.has(through, term), "{id} commits another entry at {through}");
        Ok(())
    }

    /// What a node last showed, when another history has led to the same.
    pub(crate) fn recall(&mut self, id: NodeId, raft: &Raft) {
        let HardState { term, commit, .. } = raft.hard_state();
        let is_leader = raft.role() == RoleName::Leader;
        self.shown.insert(id, Shown { term, commit, is_leader });
    }

    /// Checks a node after a step of it, before its effects are carried out.
    pub(crate) fn check_node<'a>(
        &mut self,
        store: &Store,
        raft: &Raft,
        others: impl Iterator<Item = &'a Store> + Clone,
    ) -> Check {
        let id = store.id;
        let HardState { term, commit, .. } = raft.hard_state();
        let is_leader = raft.role() == RoleName::Leader;
        let before = self.shown.insert(id, Shown { term, commit, is_leader }).unwrap_or_default();
        ensure!(before.term <= term, "{id} went back from term {} to {term}", before.term);
        ensure!(before.commit <= commit, "{id} went back from {} to {commit}", before.commit);
        if is_leader && (!before.is_leader || before.term < term) {
            self.see_leader(id, raft, term)?;
        }
        if self.committed() < commit {
            // One that was removed ends with the commit that says so.
            let may = is_leader || before.is_leader;
            ensure!(may, "{id} knows that {commit} is committed before any leader");
            self.see_commit(raft, store, commit, others)?;
        } else if before.commit < commit {
            let expected = self.committed[commit.0 as usize - 1];
            let actual = raft.term_at(commit);
            ensure!(actual == Some(expected), "{id} commits {commit} of {actual:?}, {expected}");
        }
        ensure!(
            store.disk.base.0 <= store.machine.applied,
            "{id} has cut {} and applied {}",
            store.disk.base.0,
            store.machine.applied
        );
        Ok(())
    }

    /// §5.2 Election Safety; §5.4 Leader Completeness: what was committed in a term is in the logs
    /// of the leaders of all later terms. One of an earlier term may be elected after that, by a
    /// vote that was long on its way: it will not commit anything.
    fn see_leader(&mut self, id: NodeId, raft: &Raft, term: Term) -> Check {
        let first = *self.leaders.entry(term).or_insert(id);
        ensure!(first == id, "{first} and {id} both led term {term}");
        let earlier = self.committed_in.iter().rposition(|by| *by <= term);
        let last = Index(earlier.map_or(0, |at| at as u64 + 1));
        if last == Index::ZERO {
            return Ok(());
        }
        let has = raft.term_at(last);
        let expected = self.committed[last.0 as usize - 1];
        ensure!(
            has == Some(expected) || last < raft.status().base,
            "{id} leads term {term} with {has:?} at {last}, where {expected} is committed"
        );
        Ok(())
    }

    /// §5.3, §5.4.2: a majority has it on disk, and the last of it is of the leader's term.
    fn see_commit<'a>(
        &mut self,
        raft: &Raft,
        store: &Store,
        commit: Index,
        others: impl Iterator<Item = &'a Store> + Clone,
    ) -> Check {
        for index in self.committed().next().0..=commit.0 {
            let Some(term) = raft.term_at(Index(index)) else {
                return Err(format!("{} commits {index}, which it does not have", store.id));
            };
            self.committed.push(term);
            self.committed_in.push(raft.hard_state().term);
        }
        let (id, term) = (store.id, raft.hard_state().term);
        let last = *self.committed.last().expect("it was just added");
        ensure!(last == term, "{id} commits {commit} of term {last} in term {term}");
        let have: NodeSet =
            others.filter(|other| other.disk.had(commit, last)).map(|other| other.id).collect();
        let membership = &store.membership;
        ensure!(is_quorum(membership, &have), "{id} commits {commit}, durable only on {have:?}");
        Ok(())
    }

    /// §5.4.3, State Machine Safety: everybody applies the same.
    pub(crate) fn check_applied(&mut self, store: &Store) -> Check {
        let (index, hash) = (store.machine.applied.0 as usize, store.machine.hash);
        if self.states.len() < index {
            // A hole is filled when somebody applies it.
            self.states.resize(index, 0);
        }
        let first = &mut self.states[index - 1];
        if *first == 0 {
            *first = hash;
        }
        ensure!(*first == hash, "{} applied something else at {index}", store.id);
        Ok(())
    }

    /// A client was told that an entry is applied: later reads see it.
    pub(crate) fn acknowledge(&mut self, index: Index) {
        self.read_floor = self.read_floor.max(index);
    }

    /// A read begins: what it has to see.
    pub(crate) fn read_floor(&self) -> Index {
        self.read_floor
    }

    /// A read that began at `floor` is served as of `index`.
    pub(crate) fn check_read(&mut self, id: NodeId, floor: Index, index: Index) -> Check {
        ensure!(floor <= index, "{id} serves a read from {index}; it has to see {floor}");
        ensure!(index <= self.committed(), "{id} serves a read from {index}, not committed");
        self.acknowledge(index);
        Ok(())
    }

    /// A node starts again with what its disk holds.
    pub(crate) fn check_start(&mut self, store: &Store, raft: &Raft) -> Check {
        let id = store.id;
        let HardState { term, commit, .. } = raft.hard_state();
        ensure!(commit <= store.disk.last(), "{id} starts with {commit} beyond its log");
        ensure!(commit <= self.committed(), "{id} starts with {commit}, not committed");
        ensure!(store.disk.hard_state.term <= term, "{id} starts in an old term");
        self.shown.insert(id, Shown { term, commit, is_leader: false });
        Ok(())
    }

    /// §6: the membership in force is the newest in the log, durable or on its way.
    pub(crate) fn check_membership(&self, store: &Store) -> Check {
        if !store.disk.pending.is_empty() {
            return Ok(());
        }
        let newest = store.disk.memberships().pop();
        let newest = newest.map(|(_, membership)| membership).unwrap_or_default();
        ensure!(
            newest == store.membership,
            "{} follows {:?}, not {newest:?}",
            store.id,
            store.membership
        );
        Ok(())
    }
}
