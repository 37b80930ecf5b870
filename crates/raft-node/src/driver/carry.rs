//! Carries out what the groups want done.

use std::collections::{BTreeMap, VecDeque};

use consensus::{Effect, GroupEffect, GroupId, Message, NodeId, Output, StepDown, Term};

use super::Driver;
use crate::apply::ApplyInput;
use crate::error::ProposeError;
use crate::group::Leadership;
use crate::transport::PeerFrame;

/// Groups that have ended here and are remembered.
const ENDED_MAX: usize = 4096;

/// Groups that have ended here, and their terms then: the newest. Who follows this node in another
/// one finds that out when its process ends, or when somebody campaigns.
#[derive(Default)]
pub(super) struct Ended {
    terms: BTreeMap<GroupId, Term>,
    order: VecDeque<GroupId>,
}

impl Ended {
    fn insert(&mut self, group: GroupId, term: Term) {
        if self.terms.insert(group, term).is_none() {
            self.order.push_back(group);
        }
        if ENDED_MAX < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.terms.remove(&oldest);
        }
    }

    /// It runs again.
    pub(super) fn remove(&mut self, group: GroupId) {
        if self.terms.remove(&group).is_some() {
            self.order.retain(|other| *other != group);
        }
    }

    fn term(&self, group: GroupId) -> Option<Term> {
        self.terms.get(&group).copied()
    }
}

impl Driver {
    pub(super) fn carry_out(&mut self, output: &mut Output) {
        for GroupEffect { group, effect } in output.effects.drain(..) {
            self.carry(group, effect);
        }
        for (to, heartbeat) in output.heartbeats.drain(..) {
            self.frame_for(to).heartbeat = Some(heartbeat);
        }
        self.disk.submit();
        self.connect();
        self.send_frames();
    }

    fn carry(&mut self, group: GroupId, effect: Effect) {
        match effect {
            Effect::Persist(persist) => self.disk.persist(group, persist),
            Effect::Send { to, message } => {
                self.observed.note_sent(to, group, &message);
                self.frame_for(to).messages.push((group, message));
            }
            Effect::Commit { through } => {
                let waiters = self.waiters.remove(&group).unwrap_or_default();
                self.hand_to_apply(ApplyInput::Commit { group, through, waiters });
            }
            Effect::ReadReady { reads, index } => self.serve_reads(group, &reads, index),
            Effect::ReadFailed { reads } => self.fail_reads(group, &reads),
            Effect::Load { from, through, max_bytes } => {
                self.load(group, from..=through, max_bytes);
            }
            Effect::Fetch { from, snapshot } => self.fetch(group, from, snapshot),
            Effect::Install { ticket, snapshot } => self.install(group, ticket, snapshot),
            Effect::Leader { term, leader } => {
                let is_here = leader == Some(self.multi.node());
                self.give_up_forwards(group, leader);
                if let Some(leadership) = self.leadership.get(&group) {
                    let before = leadership.send_replace(Leadership { term, leader, is_here });
                    let is_new = leader.is_some() && leader != before.leader;
                    self.observed.note_leader(term, is_new);
                }
                self.contacts.note_leader();
            }
            Effect::Membership { membership, .. } => self.note_members(group, &membership),
            Effect::Poison { reason } => {
                tracing::error!(%group, reason, "a group takes part no more; rebuild it");
                self.end(group);
            }
        }
    }

    /// What goes to a peer with this flush.
    pub(super) fn frame_for(&mut self, to: NodeId) -> &mut PeerFrame {
        self.frames.entry(to).or_default()
    }

    pub(super) fn send_frames(&mut self) {
        for (to, frame) in std::mem::take(&mut self.frames) {
            // Messages may be lost.
            let unsent = self.transport.send(to, frame);
            let error = match unsent.is_unconnected {
                true => ProposeError::NotLeader { leader: None },
                false => ProposeError::Overloaded,
            };
            for id in unsent.forwards {
                self.fail_forward(id, error.clone());
            }
        }
    }

    /// A group takes part no more, and who waits for it is told. What it has on disk stays.
    pub(super) fn end(&mut self, group: GroupId) {
        self.disk.forget(group);
        self.let_go(group);
        self.hand_to_apply(ApplyInput::Ended { group });
    }

    /// Whoever follows looks for another leader, and whoever waits here learns that in vain.
    pub(super) fn let_go(&mut self, group: GroupId) {
        if let Some(raft) = self.multi.remove(group) {
            let term = raft.term();
            if 1 < raft.membership().members().len() {
                self.ended.insert(group, term);
            }
            for (to, message) in raft.end() {
                self.frame_for(to).messages.push((group, message));
            }
            if let Some(leadership) = self.leadership.remove(&group) {
                leadership.send_replace(Leadership { term, leader: None, is_here: false });
            }
        }
        self.waiters.remove(&group);
        self.applied.remove(&group);
        self.filling.remove(&group);
        self.give_up_forwards(group, None);
        self.end_reads(group);
    }

    /// Somebody takes this node for the leader of a group that has ended here.
    pub(super) fn refer(&mut self, from: NodeId, group: GroupId) {
        if let Some(term) = self.ended.term(group) {
            let message = Message::StepDown(StepDown { term });
            self.frame_for(from).messages.push((group, message));
        }
    }
}
