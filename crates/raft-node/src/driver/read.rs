//! Linearizable reads: the group says from which index on, and they may begin once the machine here
//! is that far.

use std::collections::BTreeMap;

use consensus::{GroupId, Index, ReadId};

use super::{Driver, PendingRead};
use crate::apply::{ApplyInput, Visit};
use crate::error::QueryError;

/// Reads that may wait.
const MAX: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Reads {
    next: u64,
    /// Reads that came together share an id.
    open: BTreeMap<ReadId, Vec<PendingRead>>,
    waiting: usize,
}

impl Driver {
    pub(super) fn handle_reads(&mut self, group: GroupId, reads: Vec<PendingRead>) {
        let is_full = MAX < self.reads.waiting + reads.len() || !self.apply_backlog.is_empty();
        match self.multi.touch(group) {
            None => answer(reads, &Err(QueryError::Stopped)),
            Some(_) if is_full => answer(reads, &Err(QueryError::Overloaded)),
            Some(raft) => {
                self.reads.next += 1;
                let id = ReadId(self.reads.next);
                raft.read(id);
                self.reads.waiting += reads.len();
                self.reads.open.insert(id, reads);
            }
        }
    }

    pub(super) fn serve_reads(&mut self, group: GroupId, reads: &[ReadId], index: Index) {
        let reads = self.reads.take(reads);
        let applied = self.applied.get(&group).map(|applied| *applied.borrow());
        if applied.is_some_and(|applied| index <= applied) {
            return answer(reads, &Ok(()));
        }
        let visit: Visit = Box::new(move |_machine| answer(reads, &Ok(())));
        self.hand_to_apply(ApplyInput::Visit { group, from: index, visits: vec![visit] });
    }

    /// The group runs here no more.
    pub(super) fn end_reads(&mut self, group: GroupId) {
        let is_of_it = |reads: &Vec<PendingRead>| reads.iter().any(|read| read.group == group);
        let open = self.reads.open.iter().filter(|(_, reads)| is_of_it(reads));
        let ids: Vec<ReadId> = open.map(|(id, _)| *id).collect();
        answer(self.reads.take(&ids), &Err(QueryError::Stopped));
    }

    pub(super) fn fail_reads(&mut self, group: GroupId, reads: &[ReadId]) {
        let leader = self.leadership_of(group).leader;
        answer(self.reads.take(reads), &Err(QueryError::NotLeader { leader }));
    }
}

impl Reads {
    fn take(&mut self, ids: &[ReadId]) -> Vec<PendingRead> {
        let taken: Vec<_> = ids.iter().filter_map(|id| self.open.remove(id)).flatten().collect();
        self.waiting -= taken.len();
        taken
    }
}

fn answer(reads: Vec<PendingRead>, answer: &Result<(), QueryError>) {
    for read in reads {
        // The reader may have left.
        let _ = read.done.send(answer.clone());
    }
}
