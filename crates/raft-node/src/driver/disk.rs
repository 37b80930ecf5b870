//! The log, as the driver uses it: everything of one flush in one submission, in order, and again
//! later where the log had no room.
//!
//! What is new is refused early, when the log says that it is full or busy; what was promised goes
//! to the log in any case, out of the reserve if need be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use consensus::{Entry, GroupId, HardState, Index, Message, Persist, Term, Ticket};
use storage::{Durable, GroupState, IoToken, SubmitError, Wal, Write};
use telemetry::metrics::Histogram;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::propose::Placing;
use crate::error::{ProposeError, RemoveError};

/// Bytes of entries in one write: more is split, for a submission has to fit the log's queue.
const WRITE_BYTES: usize = 4 << 20;

pub(super) struct Disk {
    wal: Wal,
    /// How long writes take.
    seconds: Histogram,
    /// Submitted, in order, and when.
    in_flight: VecDeque<(IoToken, Instant, Done)>,
    /// Collected by this flush, and what the log had no room for before.
    waiting: VecDeque<Chunk>,
    /// Groups that wait for a snapshot to be written.
    installing: BTreeMap<GroupId, Hold>,
    poisoned: BTreeSet<GroupId>,
    is_refused: bool,
}

/// A group whose log waits for a snapshot.
struct Hold {
    /// Of the newest snapshot: an older one does not count any more.
    ticket: Ticket,
    /// What was promised since an older one.
    promise: Option<HardState>,
    /// What comes behind the snapshot.
    behind: Vec<Persist>,
}

/// How the log goes on behind a snapshot that is on disk.
pub(super) struct Installed {
    pub(super) next: Index,
    pub(super) term: Term,
    /// Entries below it that stay.
    pub(super) keep: Vec<RangeInclusive<Index>>,
    /// Nothing has to be filled in.
    pub(super) is_whole: bool,
}

/// Writes that go together, and what is durable with them.
#[derive(Default)]
struct Chunk {
    writes: Vec<Write>,
    bytes: usize,
    done: Done,
}

/// Who is told when a chunk is durable.
#[derive(Default)]
pub(super) struct Done {
    pub(super) tickets: Vec<(GroupId, Ticket)>,
    removed: Vec<oneshot::Sender<Result<(), RemoveError>>>,
}

impl Disk {
    pub(super) fn new(wal: Wal, seconds: Histogram) -> Self {
        Self {
            wal,
            seconds,
            in_flight: VecDeque::new(),
            waiting: VecDeque::new(),
            installing: BTreeMap::new(),
            poisoned: BTreeSet::new(),
            is_refused: false,
        }
    }

    pub(super) fn wal(&self) -> &Wal {
        &self.wal
    }

    pub(super) fn durable(&self) -> watch::Receiver<Durable> {
        self.wal.durable()
    }

    /// Since when the oldest write has been waiting to be durable.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.in_flight.front().map(|(_, since, _)| *since)
    }

    /// Something is on its way to the disk.
    pub(super) fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// The last that is on its way.
    pub(super) fn newest(&self) -> Option<IoToken> {
        self.in_flight.back().map(|(token, _, _)| *token)
    }

    /// It is not durable yet.
    pub(super) fn awaits(&self, token: IoToken) -> bool {
        self.in_flight.front().is_some_and(|(oldest, _, _)| *oldest <= token)
    }

    /// The log had no room for something: it has to be tried again, before anything new.
    pub(super) fn is_behind(&self) -> bool {
        self.is_refused
    }

    /// There is no room for so much now, and there will be.
    pub(super) fn is_crowded(&self, bytes: usize) -> bool {
        matches!(self.room(bytes, false), Err(ProposeError::Overloaded))
    }

    /// Splits commands into those that the log has room for, and the others with the reason.
    pub(super) fn admit(
        &self,
        commands: Vec<Placing>,
    ) -> (Vec<Placing>, Vec<(Placing, ProposeError)>) {
        let (mut taken, mut refused) = (Vec::with_capacity(commands.len()), Vec::new());
        let mut bytes = 0;
        for placing in commands {
            let with_it = bytes + placing.cost();
            match self.room(with_it, placing.is_freeing()) {
                Ok(()) => {
                    bytes = with_it;
                    taken.push(placing);
                }
                Err(error) => refused.push((placing, error)),
            }
        }
        (taken, refused)
    }

    fn room(&self, bytes: usize, freeing: bool) -> Result<(), ProposeError> {
        if self.is_behind() {
            return Err(ProposeError::Overloaded);
        }
        self.wal.room_for(bytes, freeing).map_err(|error| match error {
            SubmitError::DiskFull => ProposeError::DiskFull,
            SubmitError::Failed => ProposeError::Stopped,
            _ => ProposeError::Overloaded,
        })
    }

    /// Entries that this node has no room for are left to be sent again; the leader waits.
    pub(super) fn takes(&self, message: &Message) -> bool {
        match message {
            Message::Append(append) if !append.entries.is_empty() => {
                let bytes = append.entries.iter().map(Entry::cost).sum();
                self.room(bytes, true).is_ok()
            }
            _ => true,
        }
    }

    pub(super) fn persist(&mut self, group: GroupId, persist: Persist) {
        if let Some(hold) = self.installing.get_mut(&group) {
            return hold.behind.push(persist);
        }
        let Persist { ticket, hard_state, truncate_from, entries } = persist;
        if let Some(hard_state) = hard_state {
            self.collect(Write::HardState { group, hard_state }, 64);
        }
        if let Some(from) = truncate_from {
            self.collect(Write::Truncate { group, from }, 64);
        }
        for (entries, bytes) in split(entries) {
            self.collect(Write::Append { group, entries }, bytes);
        }
        // Durable with its last write.
        self.chunk().done.tickets.push((group, ticket));
    }

    /// Adds a write that is not a persist: nobody waits for it.
    pub(super) fn collect(&mut self, write: Write, bytes: usize) {
        if self.waiting.back().is_some_and(|chunk| WRITE_BYTES < chunk.bytes + bytes) {
            self.waiting.push_back(Chunk::default());
        }
        let chunk = self.chunk();
        chunk.bytes += bytes;
        chunk.writes.push(write);
    }

    fn chunk(&mut self) -> &mut Chunk {
        if self.waiting.is_empty() {
            self.waiting.push_back(Chunk::default());
        }
        self.waiting.back_mut().expect("there is one now")
    }

    /// From here on the group's log waits for its snapshot. If it waits for an older one, the
    /// entries behind that are not needed any more, but what was promised is.
    pub(super) fn hold(&mut self, group: GroupId, ticket: Ticket) {
        let older = self.installing.remove(&group);
        let promise = older.and_then(|hold| {
            let newest = hold.behind.iter().rev().find_map(|persist| persist.hard_state);
            newest.or(hold.promise)
        });
        self.installing.insert(group, Hold { ticket, promise, behind: Vec::new() });
    }

    /// The snapshot is on disk: the log goes on behind it, unless it waits for a newer one; then
    /// this is false. If something has to be filled in first, what comes behind goes on waiting.
    pub(super) fn handle_installed(
        &mut self,
        group: GroupId,
        ticket: Ticket,
        installed: Installed,
    ) -> bool {
        let Installed { next, term, keep, is_whole } = installed;
        let hold = self.installing.get_mut(&group).filter(|hold| hold.ticket == ticket);
        let Some(hold) = hold else { return false };
        if let Some(hard_state) = hold.promise.take() {
            self.collect(Write::HardState { group, hard_state }, 64);
        }
        let (bytes, filling) = (64 + 20 * keep.len(), !is_whole);
        self.collect(Write::Reset { group, next, term, keep, filling }, bytes);
        if is_whole {
            self.go_on(group, ticket);
        }
        true
    }

    /// Nothing is missing any more below the snapshot with this ticket. False if the group waits for
    /// a newer one.
    pub(super) fn handle_filled(&mut self, group: GroupId, ticket: Ticket) -> bool {
        if self.installing.get(&group).is_none_or(|hold| hold.ticket != ticket) {
            return false;
        }
        self.collect(Write::Filled { group }, 64);
        self.go_on(group, ticket);
        true
    }

    /// What waited for the snapshot goes behind it.
    fn go_on(&mut self, group: GroupId, ticket: Ticket) {
        self.chunk().done.tickets.push((group, ticket));
        let hold = self.installing.remove(&group);
        let behind = hold.map(|hold| hold.behind).unwrap_or_default();
        behind.into_iter().for_each(|persist| self.persist(group, persist));
    }

    /// Forgets a group.
    pub(super) fn remove(
        &mut self,
        group: GroupId,
        done: oneshot::Sender<Result<(), RemoveError>>,
    ) {
        self.installing.remove(&group);
        self.collect(Write::Remove { group }, 64);
        self.chunk().done.removed.push(done);
    }

    /// Lets the entries of a group go and keeps what was promised, and how far its log had come.
    /// What is not durable yet was promised to nobody.
    pub(super) fn leave(&mut self, group: GroupId, done: oneshot::Sender<Result<(), RemoveError>>) {
        self.forget(group);
        let state = self.wal.group(group);
        if let Some(GroupState { hard_state, last, last_term, .. }) = state {
            let hard_state = hard_state.left(last_term, last);
            self.collect(Write::reset(group, Index(1), Term(0)), 64);
            self.collect(Write::HardState { group, hard_state }, 64);
        }
        self.chunk().done.removed.push(done);
    }

    /// Hands over what was collected, as far as the log takes it.
    pub(super) fn submit(&mut self) {
        self.is_refused = false;
        while let Some(chunk) = self.waiting.pop_front() {
            if chunk.writes.is_empty() {
                chunk.done.removed.into_iter().for_each(|done| drop(done.send(Ok(()))));
                continue;
            }
            match self.wal.submit_freeing(chunk.writes.clone()) {
                Ok(token) => self.in_flight.push_back((token, Instant::now(), chunk.done)),
                Err(SubmitError::Faulty { group, fault }) => {
                    tracing::error!(%group, %fault, "a damaged group takes part no more");
                    self.poison(group);
                    self.waiting.push_front(chunk.without(group));
                }
                Err(SubmitError::OutOfOrder { group, expected, found }) => {
                    tracing::error!(%group, %expected, %found, "a group lost its place in the log");
                    self.poison(group);
                    self.waiting.push_front(chunk.without(group));
                }
                // It will never fit, however often it is tried.
                Err(SubmitError::TooLarge { bytes, max }) => {
                    for write in &chunk.writes {
                        let group = write.group();
                        tracing::error!(%group, bytes, max, "a group writes more than its log takes");
                        self.poison(group);
                    }
                }
                // No room, or the end: then the driver ends too.
                Err(SubmitError::QueueFull | SubmitError::DiskFull | SubmitError::Failed) => {
                    self.waiting.push_front(chunk);
                    self.is_refused = true;
                    return;
                }
            }
        }
    }

    /// What a group still had to write is not written any more.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.installing.remove(&group);
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting.into_iter().map(|chunk| chunk.without(group)).collect();
    }

    fn poison(&mut self, group: GroupId) {
        self.poisoned.insert(group);
        self.installing.remove(&group);
    }

    pub(super) fn take_poisoned(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.poisoned)
    }

    /// Tokens are durable in order, so this one stands for all before it.
    pub(super) fn finished(&mut self, token: IoToken) -> Vec<(GroupId, Ticket)> {
        let mut tickets = Vec::new();
        while let Some((_, since, done)) =
            self.in_flight.pop_front_if(|(waits, _, _)| *waits <= token)
        {
            self.seconds.observe(since.elapsed().as_secs_f64());
            tickets.extend(done.tickets);
            for removed in done.removed {
                let _ = removed.send(Ok(()));
            }
        }
        tickets
    }
}

impl Chunk {
    fn without(mut self, group: GroupId) -> Self {
        self.writes.retain(|write| write.group() != group);
        self.done.tickets.retain(|(of, _)| *of != group);
        self
    }
}

/// Entries in pieces that the log takes, with their sizes.
fn split(entries: Vec<Entry>) -> Vec<(Vec<Entry>, usize)> {
    let mut pieces: Vec<(Vec<Entry>, usize)> = Vec::new();
    for entry in entries {
        let cost = entry.cost();
        match pieces.last_mut() {
            Some((piece, bytes)) if *bytes + cost <= WRITE_BYTES => {
                *bytes += cost;
                piece.push(entry);
            }
            _ => pieces.push((vec![entry], cost)),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use storage::RealFileSystem;
    use telemetry::metrics::Registry;
    use tempfile::TempDir;

    use super::*;
    use crate::metrics::Metrics;

    const GROUP: GroupId = GroupId(1);

    fn disk(dir: &TempDir) -> Disk {
        let config = storage::Config::default();
        let (wal, _) = Wal::open(Arc::new(RealFileSystem), dir.path(), config).unwrap();
        Disk::new(wal, Metrics::new(&Registry::default()).persist_seconds)
    }

    fn persist(ticket: u64, term: Option<u64>, indexes: RangeInclusive<u64>) -> Persist {
        let promise = |term| HardState { term: Term(term), ..HardState::default() };
        let entry = |index| Entry::command(Term(1), Index(index), Bytes::from_static(b"x"));
        Persist {
            ticket: Ticket(ticket),
            hard_state: term.map(promise),
            truncate_from: None,
            entries: indexes.map(entry).collect(),
        }
    }

    fn installed(next: u64) -> Installed {
        Installed { next: Index(next), term: Term(1), keep: Vec::new(), is_whole: true }
    }

    #[tokio::test]
    async fn nothing_is_confirmed_while_entries_are_missing_below_a_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = disk(&dir);
        disk.persist(GROUP, persist(1, Some(2), 1..=9));
        disk.hold(GROUP, Ticket(2));
        disk.persist(GROUP, persist(3, Some(5), 21..=22));
        let keep = vec![Index(2)..=Index(3)];
        let filling = Installed { keep, is_whole: false, ..installed(21) };
        assert!(disk.handle_installed(GROUP, Ticket(2), filling));
        assert_eq!(settled(&mut disk).await, [Ticket(1)]);
        let group = disk.wal().group(GROUP).unwrap();
        assert!(group.filling && group.last == Index(20) && group.hard_state.term == Term(2));
        assert_eq!(group.retained, [Index(2)..=Index(3)]);

        assert!(!disk.handle_filled(GROUP, Ticket(1)));
        assert!(disk.handle_filled(GROUP, Ticket(2)));
        assert_eq!(settled(&mut disk).await, [Ticket(2), Ticket(3)]);
        let group = disk.wal().group(GROUP).unwrap();
        assert!(!group.filling && group.last == Index(22) && group.hard_state.term == Term(5));
    }

    /// What is durable when all that the log was handed is.
    async fn settled(disk: &mut Disk) -> Vec<Ticket> {
        disk.submit();
        let Some(last) = disk.in_flight.back().map(|(token, _, _)| *token) else {
            return Vec::new();
        };
        let now = disk.durable().wait_for(|now| last <= now.token).await.unwrap().token;
        disk.finished(now).into_iter().map(|(_, ticket)| ticket).collect()
    }

    /// Else every group would be told for ever that too much waits.
    #[tokio::test]
    async fn what_never_fits_ends_its_group_and_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = disk(&dir);
        let mut huge = persist(1, Some(2), 1..=1);
        huge.entries[0].payload = vec![0; storage::Config::default().queue_bytes].into();
        disk.persist(GROUP, huge);
        disk.persist(GroupId(2), persist(1, Some(2), 1..=1));
        assert_eq!(settled(&mut disk).await, [Ticket(1)]);
        assert!(!disk.is_behind());
        assert_eq!(disk.take_poisoned(), BTreeSet::from([GROUP]));
        assert!(disk.wal().group(GROUP).is_none_or(|group| group.last == Index::ZERO));
    }

    #[tokio::test]
    async fn a_log_that_waits_for_a_newer_snapshot_does_not_go_on_behind_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = disk(&dir);
        disk.persist(GROUP, persist(1, Some(2), 1..=3));
        disk.hold(GROUP, Ticket(2));
        disk.persist(GROUP, persist(3, Some(5), 11..=12));
        disk.persist(GROUP, persist(4, None, 13..=14));
        disk.hold(GROUP, Ticket(5));
        disk.persist(GROUP, persist(6, None, 21..=22));
        assert_eq!(settled(&mut disk).await, [Ticket(1)]);

        assert!(!disk.handle_installed(GROUP, Ticket(2), installed(11)));
        disk.persist(GROUP, persist(7, None, 23..=23));
        assert_eq!(settled(&mut disk).await, [], "the newer one is on no disk");

        assert!(disk.handle_installed(GROUP, Ticket(5), installed(21)));
        assert_eq!(settled(&mut disk).await, [Ticket(5), Ticket(6), Ticket(7)]);
        let group = disk.wal().group(GROUP).unwrap();
        assert_eq!((group.first, group.last), (Index(21), Index(23)));
        assert_eq!(group.hard_state.term, Term(5), "what was promised meanwhile");
    }
}
