//! What the disk holds of a group, when it starts: its snapshot, and the terms and memberships of
//! the entries behind it. The entries themselves are applied later, when it is known that they are
//! committed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{EntryKind, GroupId, Index, Membership, Restored, SnapshotMeta, Term, TermRun};
use storage::snapshot::{Snapshot, SnapshotStore};
use storage::{GroupState, IoToken, Wal, Write};

use crate::error::StartError;
use crate::needs::Needs;
use crate::snapshots::Envelope;

/// Bytes of log looked through per read.
const SCAN_BYTES: usize = 4 << 20;

/// A group as it was left.
pub(crate) struct OnDisk {
    pub(crate) raft: Restored,
    /// The machine's bytes, if there is a snapshot.
    pub(crate) machine: Option<Bytes>,
    /// What has to be durable before the group may start.
    pub(crate) durable: Option<IoToken>,
    /// The log does not go on behind the snapshot yet, or lacks entries that its machine reads: then
    /// up to here what the log has is what is committed. See [`go_on`].
    pub(crate) trusted: Option<Index>,
}

/// Loads a group; one that is not there is founded by `founders`, or is empty if there are none.
pub(crate) fn load(
    wal: &Wal,
    store: &SnapshotStore,
    group: GroupId,
    founders: &Membership,
) -> Result<OnDisk, StartError> {
    let loaded = store.load(group).map_err(|source| StartError::Snapshot { group, source })?;
    let snapshot = loaded.map(|snapshot| split(group, snapshot)).transpose()?;
    let state = wal.group(group);
    if let Some(GroupState { faulty: Some(fault), .. }) = &state {
        return Err(StartError::Damaged { group, detail: fault.to_string() });
    }
    match (state, snapshot) {
        (None, None) => found(wal, group, founders),
        (None, Some((snapshot, machine))) => {
            Ok(begun(Default::default(), snapshot, machine, Index::ZERO))
        }
        (Some(state), None) => scan(wal, group, &state, None),
        (Some(state), Some((snapshot, machine))) => {
            let is_in_log = state.first <= snapshot.index.next()
                && wal.term(group, snapshot.index) == Some(snapshot.term);
            let below = Index(state.first.0 - 1);
            let trusted = below.max(state.hard_state.commit.min(state.last));
            match is_in_log {
                true if state.filling => Ok(begun(state.hard_state, snapshot, machine, trusted)),
                true => scan(wal, group, &state, Some((snapshot, machine))),
                // Saved, and the crash came before the log went on behind it.
                false if state.last < snapshot.index || state.first <= snapshot.index => {
                    Ok(begun(state.hard_state, snapshot, machine, trusted))
                }
                false => Err(missing(group, snapshot.index.next())),
            }
        }
    }
}

fn split(group: GroupId, snapshot: Snapshot) -> Result<(SnapshotMeta, Bytes), StartError> {
    let Snapshot { index, term, bytes } = snapshot;
    let envelope =
        Envelope::decode(&bytes).map_err(|source| StartError::Restore { group, source })?;
    let membership = envelope.membership;
    Ok((SnapshotMeta { index, term, membership }, envelope.machine))
}

fn submit(wal: &Wal, writes: Vec<Write>) -> Result<IoToken, StartError> {
    wal.submit_freeing(writes).map_err(|error| match error {
        storage::SubmitError::DiskFull => StartError::DiskFull,
        storage::SubmitError::QueueFull => StartError::Overloaded,
        _ => StartError::Stopped,
    })
}

fn found(wal: &Wal, group: GroupId, founders: &Membership) -> Result<OnDisk, StartError> {
    if founders.voters.is_empty() {
        let (machine, durable, trusted) = (None, None, None);
        return Ok(OnDisk { raft: Restored::default(), machine, durable, trusted });
    }
    let (hard_state, entry) = Restored::founding(founders);
    let entries = vec![entry];
    let writes = vec![Write::HardState { group, hard_state }, Write::Append { group, entries }];
    let durable = Some(submit(wal, writes)?);
    let raft = Restored::founded(founders.clone());
    Ok(OnDisk { raft, machine: None, durable, trusted: None })
}

/// Lets the log go on behind the snapshot, which was begun and not ended. What has to be durable.
pub(crate) fn go_on(
    wal: &Wal,
    group: GroupId,
    (index, term): (Index, Term),
    needs: &Needs,
) -> Result<IoToken, StartError> {
    let (keep, filling) = (needs.keep.clone(), !needs.missing.is_empty());
    submit(wal, vec![Write::Reset { group, next: index.next(), term, keep, filling }])
}

/// A snapshot that was being installed. Of what the log held only the machine knows what is needed.
fn begun(
    hard_state: consensus::HardState,
    snapshot: SnapshotMeta,
    machine: Bytes,
    trusted: Index,
) -> OnDisk {
    let (index, term) = (snapshot.index, snapshot.term);
    let trusted = Some(trusted.min(index));
    let raft = Restored {
        hard_state,
        base: (index, term),
        runs: VecDeque::new(),
        last: index,
        memberships: vec![(index, snapshot.membership.clone())],
        snapshot: Some(snapshot),
    };
    OnDisk { raft, machine: Some(machine), durable: None, trusted }
}

fn scan(
    wal: &Wal,
    group: GroupId,
    state: &GroupState,
    snapshot: Option<(SnapshotMeta, Bytes)>,
) -> Result<OnDisk, StartError> {
    let (snapshot, machine) = snapshot.unzip();
    let base = (Index(state.first.0 - 1), state.compacted_term);
    let covered = snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.index);
    if covered < base.0 {
        return Err(missing(group, covered.next()));
    }
    let mut raft = Restored {
        hard_state: state.hard_state,
        base,
        runs: VecDeque::new(),
        last: base.0,
        memberships: Vec::new(),
        snapshot: snapshot.clone(),
    };
    raft.memberships.extend(snapshot.map(|snapshot| (snapshot.index, snapshot.membership)));
    while raft.last < state.last {
        let from = raft.last.next();
        let entries = wal
            .read(group, from, SCAN_BYTES)
            .map_err(|source| StartError::Read { group, source })?;
        if entries.is_empty() {
            return Err(missing(group, from));
        }
        for entry in entries {
            if entry.index != raft.last.next() {
                return Err(missing(group, raft.last.next()));
            }
            note(&mut raft, entry.index, entry.term);
            if entry.kind == EntryKind::Membership && covered < entry.index {
                let membership = Membership::decode(&entry.payload).ok_or_else(|| {
                    let detail = format!("the membership in entry {} is unreadable", entry.index);
                    StartError::Damaged { group, detail }
                })?;
                raft.memberships.push((entry.index, Arc::new(membership)));
            }
        }
    }
    Ok(OnDisk { raft, machine, durable: None, trusted: None })
}

fn note(raft: &mut Restored, index: Index, term: Term) {
    if raft.runs.back().is_none_or(|run| run.term != term) {
        raft.runs.push_back(TermRun { first: index, term });
    }
    raft.last = index;
}

/// A gap between the snapshot and the log: something acknowledged may be in it.
fn missing(group: GroupId, index: Index) -> StartError {
    StartError::Damaged { group, detail: format!("entry {index} is missing after the snapshot") }
}
