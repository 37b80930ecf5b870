//! Linearizable reads: the group says from which index on, the apply task serves them there.

use std::collections::BTreeMap;

use consensus::{GroupId, Index, ReadId};

use super::{Driver, PendingRead};
use crate::apply::ApplyInput;
use crate::error::QueryError;

/// Reads that may wait.
const MAX: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Reads {
    next: u64,
    open: BTreeMap<ReadId, PendingRead>,
}

impl Driver {
    pub(super) fn handle_read(&mut self, read: PendingRead) {
        let is_full = MAX <= self.reads.open.len() || !self.apply_backlog.is_empty();
        let error = match self.multi.touch(read.group) {
            None => QueryError::Stopped,
            Some(_) if is_full => QueryError::Overloaded,
            Some(raft) => {
                self.reads.next += 1;
                let id = ReadId(self.reads.next);
                raft.read(id);
                self.reads.open.insert(id, read);
                return;
            }
        };
        fail(read, error);
    }

    pub(super) fn serve_reads(&mut self, group: GroupId, reads: &[ReadId], index: Index) {
        let taken = reads.iter().filter_map(|id| self.reads.open.remove(id));
        let visits: Vec<_> =
            taken.filter(|read| !read.failed.is_closed()).map(|read| read.visit).collect();
        if !visits.is_empty() {
            self.hand_to_apply(ApplyInput::Visit { group, from: index, visits });
        }
    }

    pub(super) fn fail_reads(&mut self, group: GroupId, reads: &[ReadId]) {
        let leader = self.leadership_of(group).leader;
        for read in reads.iter().filter_map(|id| self.reads.open.remove(id)) {
            fail(read, QueryError::NotLeader { leader });
        }
    }
}

fn fail(read: PendingRead, error: QueryError) {
    // The reader may have left.
    let _ = read.failed.send((error, read.visit));
}
