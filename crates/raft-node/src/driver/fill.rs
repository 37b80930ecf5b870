//! Fetched snapshots on their way into the log: at once, or when the log was filled with what their
//! machines read.

use std::ops::RangeInclusive;

use consensus::{GroupId, Index, NodeId, Term, Ticket};
use tokio_util::task::AbortOnDropHandle;

use super::Driver;
use super::disk::Installed;
use crate::apply::ApplyInput;
use crate::fill::Fill;
use crate::mutants::{self, Mutant};
use crate::needs::Needs;

/// A fetched snapshot is on disk and in the machine: the log may go on behind it.
#[derive(Clone, Debug)]
pub(crate) struct Install {
    pub(crate) ticket: Ticket,
    pub(crate) next: Index,
    pub(crate) term: Term,
    pub(crate) needs: Needs,
}

/// A snapshot whose installation the end of the process has broken off.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    pub(crate) ticket: Ticket,
    /// The log goes on here.
    pub(crate) next: Index,
    /// Below that.
    pub(crate) missing: Vec<RangeInclusive<Index>>,
}

impl Driver {
    pub(super) fn handle_installed(&mut self, group: GroupId, install: Install) {
        let Install { ticket, next, term, needs: Needs { keep, missing } } = install;
        let is_whole = missing.is_empty() || mutants::is(Mutant::TicketBeforeFilled);
        let installed = Installed { next, term, keep, is_whole };
        if !self.disk.handle_installed(group, ticket, installed) {
            return;
        }
        match is_whole {
            true => self.hand_to_apply(ApplyInput::Whole { group, ticket }),
            false => self.fill(group, Resume { ticket, next, missing }),
        }
    }

    /// The process ended while the log was being filled.
    pub(super) fn resume(&mut self, group: GroupId, resume: Resume) {
        self.disk.hold(group, resume.ticket);
        self.fill(group, resume);
    }

    /// Nothing is missing any more.
    pub(super) fn handle_filled(&mut self, group: GroupId, ticket: Ticket) {
        if self.disk.handle_filled(group, ticket) {
            self.filling.remove(&group);
            self.hand_to_apply(ApplyInput::Whole { group, ticket });
        }
    }

    fn fill(&mut self, group: GroupId, resume: Resume) {
        let Resume { ticket, next, missing } = resume;
        let Some(raft) = self.multi.group(group) else { return };
        let me = self.multi.node();
        let members = raft.membership().members();
        let leader = raft.leader();
        let others = members.iter().copied().filter(|node| Some(*node) != leader);
        let sources: Vec<NodeId> =
            leader.into_iter().chain(others).filter(|node| *node != me).collect();
        let fill = Fill { group, ticket, next, missing, sources };
        let filler = self.filler.clone();
        let task = self.tasks.spawn(async move { filler.run(fill).await });
        // An older one ends here.
        self.filling.insert(group, AbortOnDropHandle::new(task));
    }
}
