//! The buffer of the batch that is being collected. Records are encoded straight into it; their
//! checksums follow when it is known which segment takes them.

use super::format::{
    BATCH_OVERHEAD, Kind, RECORD, RecordHeader, SECTOR, TRAILER, Trailer, chain, seal,
};

/// Where the log stands: what the next batch continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Offset in the segment.
    pub(crate) at: u64,
    /// Number of the next batch.
    pub(crate) lsn: u64,
    /// Checksum of all record headers so far.
    pub(crate) chain: u32,
}

/// Records of one batch, back to back.
#[derive(Debug, Default)]
pub(crate) struct BatchBuffer {
    bytes: Vec<u8>,
}

impl BatchBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes collected so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes on disk if it were finished now, at most.
    pub(crate) fn len_on_disk(&self) -> u64 {
        (self.bytes.len() + BATCH_OVERHEAD) as u64
    }

    /// Adds a record and returns its offset in the batch.
    pub(crate) fn push(&mut self, header: RecordHeader, payload: &[u8]) -> u32 {
        let at = u32::try_from(self.bytes.len()).expect("a batch is smaller than a segment");
        self.bytes.extend_from_slice(&header.of(payload).encode());
        self.bytes.extend_from_slice(payload);
        at
    }

    /// Seals all records for the segment with this salt, adds the commit record, and returns the
    /// bytes to write and what comes behind them.
    pub(crate) fn finish(&mut self, salt: u32, from: Position) -> (&[u8], Position) {
        let mut chained = from.chain;
        let mut at = 0;
        while at < self.bytes.len() {
            let len = super::format::u32_at(&self.bytes, at + 4) as usize;
            seal(&mut self.bytes[at..at + RECORD], salt);
            chained = chain(chained, &self.bytes[at..at + RECORD]);
            at += RECORD + len;
        }
        let end = (at + RECORD + TRAILER).next_multiple_of(SECTOR as usize);
        let trailer = Trailer {
            lsn: from.lsn,
            bytes: u32::try_from(end).expect("a batch is smaller than a segment"),
            previous_chain: from.chain,
            chain: chained,
        };
        self.bytes.resize(end, 0);
        self.bytes[end - TRAILER..].copy_from_slice(&trailer.encode(salt));
        let commit = RecordHeader::new(Kind::Commit, 0, 0, from.lsn).of(&self.bytes[at + RECORD..]);
        self.bytes[at..at + RECORD].copy_from_slice(&commit.encode());
        seal(&mut self.bytes[at..at + RECORD], salt);
        let next = Position { at: from.at + end as u64, lsn: from.lsn + 1, chain: chained };
        (&self.bytes, next)
    }

    /// Empties it, and gives back memory that only an outsized batch needed.
    pub(crate) fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
    }
}
