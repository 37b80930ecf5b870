//! §5.3, the leader's side: who gets what next.
//!
//! Appends are made in one place, when inputs have been handled: entries that came together go
//! together, and the news of a commit rides on entries where there are any.

use super::{Raft, Role};
use crate::effect::Effect;
use crate::entry::Entry;
use crate::ids::{Index, NodeId};
use crate::log::Slice;
use crate::message::{Append, Message, SnapshotOffer};
use crate::progress::{Mode, Progress};

impl Raft {
    /// Entries that [`Effect::Load`] has asked for, from their first index on. None if they could
    /// not be read: they are asked for again.
    pub fn handle_loaded(&mut self, from: Index, entries: Vec<Entry>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.loading == Some(from) {
            leader.loading = None;
            let fits = |entry: &Entry| self.log.matches(entry.index, entry.term);
            if entries.iter().all(fits) {
                leader.loaded = entries;
            }
        }
    }

    pub(super) fn flush_appends(&mut self) {
        let Role::Leader(role) = &mut self.role else { return };
        let peers: Vec<NodeId> = role
            .peers
            .iter()
            .filter(|(_, progress)| progress.reachable)
            .map(|(node, _)| *node)
            .collect();
        for peer in peers {
            while self.send_next(peer) {}
        }
        if let Role::Leader(role) = &mut self.role {
            role.loaded = Vec::new();
        }
    }

    /// Sends one append or offer if there is one to send. False when there is nothing more.
    fn send_next(&mut self, to: NodeId) -> bool {
        let (commit, last, config) = (self.commit(), self.log.last(), self.config);
        let Role::Leader(role) = &mut self.role else { return false };
        let Some(progress) = role.peer(to) else { return false };
        if progress.paused {
            return false;
        }
        let prev_index = Index(progress.next.0 - 1);
        let known = self.log.term(prev_index);
        let Some(prev_term) = known.filter(|_| !matches!(progress.mode, Mode::Snapshot(_))) else {
            return self.offer_snapshot(to);
        };
        let has_room =
            progress.in_flight.has_room(config.max_in_flight_appends, config.max_in_flight_bytes);
        let has_entries = progress.next <= last && has_room;
        let has_news = progress.poke || progress.sent_commit < commit.min(prev_index);
        let entries = match has_entries {
            true => self.entries_for(to),
            false => Some(Vec::new()),
        };
        let entries = entries.unwrap_or_default();
        if entries.is_empty() && !has_news {
            return false;
        }
        let Role::Leader(role) = &mut self.role else { return false };
        let Some(progress) = role.peer(to) else { return false };
        note_sent(progress, &entries, commit);
        let append = Append { term: self.hard_state.term, prev_index, prev_term, commit, entries };
        self.send(to, Message::Append(append));
        true
    }

    /// The next entries for a member, from memory. `None` if they have to be loaded first.
    fn entries_for(&mut self, to: NodeId) -> Option<Vec<Entry>> {
        let max_bytes = self.config.max_append_bytes;
        let Role::Leader(role) = &mut self.role else { return None };
        let next = role.progress(to)?.next;
        match self.log.slice(next, max_bytes) {
            Slice::Entries(entries) => Some(entries),
            Slice::Gone => None,
            Slice::OnDisk => {
                if role.loaded.first().is_some_and(|entry| entry.index == next) {
                    return Some(role.loaded.clone());
                }
                if role.loading.is_none() {
                    role.loading = Some(next);
                    let through = self.log.durable();
                    self.effects.push(Effect::Load { from: next, through, max_bytes });
                }
                None
            }
        }
    }

    fn offer_snapshot(&mut self, to: NodeId) -> bool {
        let Some(snapshot) = self.snapshot.clone() else { return false };
        let Role::Leader(role) = &mut self.role else { return false };
        let Some(progress) = role.peer(to) else { return false };
        progress.fetch(snapshot.index);
        progress.poke = false;
        let offer = SnapshotOffer { term: self.hard_state.term, snapshot };
        self.send(to, Message::Snapshot(offer));
        false
    }

    /// Nothing was heard for a while: what is still to be confirmed is sent again.
    pub(super) fn handle_retry_time(&mut self) {
        let (last, commit) = (self.log.last(), self.commit());
        let Role::Leader(role) = &mut self.role else { return };
        for progress in role.peers.values_mut() {
            if !progress.heard && progress.is_waiting(last, commit) {
                progress.retry();
            }
            progress.heard = false;
        }
        self.expire_transfer();
        self.resend_confirms();
    }

    /// A leader with something outstanding looks after it; one without has no timer.
    pub(super) fn arm_retry(&mut self) {
        let (last, commit) = (self.log.last(), self.commit());
        let Role::Leader(role) = &self.role else { return };
        let waits = role.peers.iter().any(|(_, progress)| progress.is_waiting(last, commit))
            || role.reads.is_waiting()
            || role.transfer.is_some();
        self.deadline_ms = match (waits, self.deadline_ms) {
            (false, _) => None,
            (true, None) => Some(self.now_ms + self.config.retry_ms),
            (true, armed) => armed,
        };
    }
}

fn note_sent(progress: &mut Progress, entries: &[Entry], commit: Index) {
    progress.poke = false;
    progress.sent_commit = progress.sent_commit.max(commit);
    match progress.mode {
        Mode::Probe => progress.paused = true,
        Mode::Replicate => {
            if let Some(last) = entries.last() {
                progress.next = last.index.next();
                progress.in_flight.push(last.index, entries.iter().map(Entry::cost).sum());
            }
        }
        Mode::Snapshot(_) => {}
    }
}
