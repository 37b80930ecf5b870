//! The bytes of a segment file, and nothing else: no I/O, no state.
//!
//! ```text
//! hot:   header  header  checkpoint batch  checkpoint batch  batch  batch  …  zeros or old bytes
//! cold:  header  header  entry  entry  …  footer  trailer
//! batch: record  record  …  commit record (its payload: zeros up to the sector's end, trailer)
//! ```
//!
//! The header and the checkpoint stand there twice, because without them the rest means nothing.
//! A batch starts and ends at a sector: a torn write of the next one cannot reach into it, and a
//! trailer is found by looking at the end of each sector.
//!
//! **Invariant:** header checksums are seeded with the segment's random salt, so bytes left over
//! from a recycled file, and payloads that imitate records, do not validate.
//! **Invariant:** the chain checksum runs over all record headers, which contain the checksums of
//! the payloads; so it vouches for every byte although it reads few.

use consensus::{Entry, EntryKind};
use crc32c::{crc32c, crc32c_append};

/// The unit that a disk writes whole or not at all.
pub(crate) const SECTOR: u64 = 512;
/// Two header sectors.
pub(crate) const HEADERS: u64 = 2 * SECTOR;
/// Newest format this release writes and reads.
pub(crate) const VERSION: u32 = 1;
/// Bytes before each payload.
pub(crate) const RECORD: usize = 40;
/// Last bytes of each batch.
pub(crate) const TRAILER: usize = 32;
/// What a batch adds to its records at most: commit record, padding, trailer.
pub(crate) const BATCH_OVERHEAD: usize = RECORD + TRAILER + SECTOR as usize;

const MAGIC: [u8; 8] = *b"QTWALSEG";
/// Ends every trailer. No byte of it is zero: a written batch does not end in one.
const END: [u8; 8] = *b"QTCOMMIT";

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// An entry: group, term, index, payload.
    Entry = 1,
    /// Term, vote (payload: one byte, then the node) and commit (the index field).
    HardState = 2,
    /// Drops entries from the index on.
    Truncate = 3,
    /// Entries up to the index are dead except the ranges in the payload.
    Compact = 4,
    /// The log goes on at the index; term is that of the entry before. Payload: what is kept below,
    /// and whether more is to come; or nothing.
    Reset = 5,
    /// The group is gone.
    Remove = 6,
    /// Ends a batch.
    Commit = 7,
    /// Everything a reader has to know before the first batch.
    Checkpoint = 8,
    /// Entries have moved to a cold segment.
    Install = 9,
    /// Index of a cold segment.
    Footer = 10,
    /// What was missing below a reset is there.
    Filled = 11,
}

impl Kind {
    fn parse(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::HardState,
            3 => Self::Truncate,
            4 => Self::Compact,
            5 => Self::Reset,
            6 => Self::Remove,
            7 => Self::Commit,
            8 => Self::Checkpoint,
            9 => Self::Install,
            10 => Self::Footer,
            11 => Self::Filled,
            _ => return None,
        })
    }
}

/// The fixed part of a record.
///
/// ```text
/// 0 crc of 4..40   4 payload length   8 payload crc   12 kind   13 kind of entry
/// 14 zero   16 group   24 term   32 index
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    /// Of an entry; else zero.
    pub(crate) entry_kind: EntryKind,
    pub(crate) len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) group: u64,
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl RecordHeader {
    pub(crate) fn new(kind: Kind, group: u64, term: u64, index: u64) -> Self {
        Self { kind, entry_kind: EntryKind::Command, len: 0, payload_crc: 0, group, term, index }
    }

    /// The header of an entry.
    pub(crate) fn entry(group: u64, entry: &Entry) -> Self {
        let header = Self::new(Kind::Entry, group, entry.term.0, entry.index.0);
        Self { entry_kind: entry.kind, ..header }
    }

    /// With length and checksum of this payload.
    pub(crate) fn of(mut self, payload: &[u8]) -> Self {
        self.len = u32::try_from(payload.len()).expect("a submit is smaller than a segment");
        self.payload_crc = crc32c(payload);
        self
    }

    /// All of it except the header checksum, which needs the segment: see [`seal`].
    pub(crate) fn encode(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[12] = self.kind as u8;
        bytes[13] = self.entry_kind as u8;
        bytes[16..24].copy_from_slice(&self.group.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.term.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    /// `None` if these 40 bytes are not a header of the segment with this salt.
    pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        if u32_at(bytes, 0) != crc32c_append(salt, &bytes[4..RECORD]) {
            return None;
        }
        Some(Self {
            kind: Kind::parse(bytes[12])?,
            entry_kind: EntryKind::from_number(bytes[13])?,
            len: u32_at(bytes, 4),
            payload_crc: u32_at(bytes, 8),
            group: u64_at(bytes, 16),
            term: u64_at(bytes, 24),
            index: u64_at(bytes, 32),
        })
    }

    /// Header and payload.
    pub(crate) fn size(&self) -> u64 {
        RECORD as u64 + u64::from(self.len)
    }
}

/// Puts the checksum into an encoded record header.
pub(crate) fn seal(header: &mut [u8], salt: u32) {
    let crc = crc32c_append(salt, &header[4..RECORD]);
    header[0..4].copy_from_slice(&crc.to_le_bytes());
}

/// Continues the chain with one sealed record header.
pub(crate) fn chain(previous: u32, header: &[u8]) -> u32 {
    crc32c_append(previous, &header[..RECORD])
}

/// The last bytes of a batch. `lsn` counts batches; it never goes back.
///
/// ```text
/// 0 lsn   8 bytes of the batch   12 chain before   16 chain after   20 crc of 0..20   24 end mark
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) lsn: u64,
    /// From the first record to the end of the trailer.
    pub(crate) bytes: u32,
    pub(crate) previous_chain: u32,
    pub(crate) chain: u32,
}

impl Trailer {
    pub(crate) fn encode(&self, salt: u32) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[0..8].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.previous_chain.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.chain.to_le_bytes());
        let crc = crc32c_append(salt, &bytes[0..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        bytes[24..32].copy_from_slice(&END);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let intact =
            bytes[24..32] == END && u32_at(bytes, 20) == crc32c_append(salt, &bytes[0..20]);
        intact.then(|| Self {
            lsn: u64_at(bytes, 0),
            bytes: u32_at(bytes, 8),
            previous_chain: u32_at(bytes, 12),
            chain: u32_at(bytes, 16),
        })
    }
}

/// What a segment file begins with, twice.
///
/// ```text
/// 0 magic   8 version   12 crc of the rest   16 cold   17 zeroed   20 salt   24 number
/// 32 first lsn   40 bytes of a checkpoint batch   44 chain so far
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Sorted by group, written once; else in arrival order.
    pub(crate) cold: bool,
    /// What was not written yet reads as zeros. Recycled files still hold their former bytes.
    pub(crate) zeroed: bool,
    /// Seeds the checksums of this file.
    pub(crate) salt: u32,
    /// Also the file's name. Higher is newer.
    pub(crate) number: u64,
    /// The lsn of the first checkpoint batch; the copy has the next one.
    pub(crate) first_lsn: u64,
    /// Length of each of the two checkpoint batches.
    pub(crate) checkpoint_bytes: u32,
    /// The chain at the end of the segment before: the first batch continues it.
    pub(crate) chain: u32,
}

/// Why a header was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    Version(u32),
}

impl SegmentHeader {
    const LEN: usize = 48;

    /// Both copies.
    pub(crate) fn encode(&self) -> [u8; HEADERS as usize] {
        let mut header = [0; Self::LEN];
        header[0..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[16] = u8::from(self.cold);
        header[17] = u8::from(self.zeroed);
        header[20..24].copy_from_slice(&self.salt.to_le_bytes());
        header[24..32].copy_from_slice(&self.number.to_le_bytes());
        header[32..40].copy_from_slice(&self.first_lsn.to_le_bytes());
        header[40..44].copy_from_slice(&self.checkpoint_bytes.to_le_bytes());
        header[44..48].copy_from_slice(&self.chain.to_le_bytes());
        let crc = Self::crc(&header);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        let mut both = [0; HEADERS as usize];
        both[..Self::LEN].copy_from_slice(&header);
        both[SECTOR as usize..SECTOR as usize + Self::LEN].copy_from_slice(&header);
        both
    }

    /// From the first two sectors of a file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let copy = |at: usize| bytes.get(at..at + Self::LEN).ok_or(BadHeader::Damaged);
        let second = || copy(SECTOR as usize).and_then(Self::decode_one);
        match copy(0).and_then(Self::decode_one) {
            Err(BadHeader::Damaged) => second(),
            other => other,
        }
    }

    fn decode_one(bytes: &[u8]) -> Result<Self, BadHeader> {
        if bytes[0..8] != MAGIC || u32_at(bytes, 12) != Self::crc(bytes) {
            return Err(BadHeader::Damaged);
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(BadHeader::Version(version));
        }
        Ok(Self {
            cold: bytes[16] == 1,
            zeroed: bytes[17] == 1,
            salt: u32_at(bytes, 20),
            number: u64_at(bytes, 24),
            first_lsn: u64_at(bytes, 32),
            checkpoint_bytes: u32_at(bytes, 40),
            chain: u32_at(bytes, 44),
        })
    }

    /// Covers all but itself. Where it stands is the same in every version, so that an old release
    /// tells a newer file from a damaged one.
    fn crc(header: &[u8]) -> u32 {
        crc32c_append(crc32c(&header[0..12]), &header[16..Self::LEN])
    }

    /// Where the batches begin, behind both checkpoints.
    pub(crate) fn data_start(&self) -> u64 {
        HEADERS + 2 * u64::from(self.checkpoint_bytes)
    }
}

/// The next multiple of a sector.
pub(crate) const fn sector_up(bytes: u64) -> u64 {
    bytes.div_ceil(SECTOR) * SECTOR
}

/// Name of the file of a segment.
pub(crate) fn file_name(number: u64, cold: bool) -> String {
    format!("{number:016x}.{}", if cold { "cold" } else { "wal" })
}

/// Number and kind of a segment, from the name of its file.
pub(crate) fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (number, suffix) = name.split_once('.')?;
    let cold = match suffix {
        "wal" => false,
        "cold" => true,
        _ => return None,
    };
    (number.len() == 16).then(|| u64::from_str_radix(number, 16).ok().map(|n| (n, cold)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        cold: false,
        zeroed: true,
        salt: 0x1234_5678,
        number: 9,
        first_lsn: 77,
        checkpoint_bytes: 512,
        chain: 5,
    };

    #[test]
    fn one_damaged_header_copy_is_survived_and_two_are_noticed() {
        let good = HEADER.encode();
        assert_eq!(SegmentHeader::decode(&good), Ok(HEADER));
        for byte in 0..SegmentHeader::LEN {
            let mut bad = good;
            bad[byte] ^= 0x40;
            assert_eq!(SegmentHeader::decode(&bad), Ok(HEADER), "byte {byte}");
            bad[SECTOR as usize + byte] ^= 0x01;
            assert_eq!(SegmentHeader::decode(&bad), Err(BadHeader::Damaged), "byte {byte}");
        }
    }

    #[test]
    fn a_record_of_another_segment_does_not_validate() {
        let header = RecordHeader::new(Kind::Entry, 1, 2, 3).of(b"payload");
        let mut bytes = header.encode();
        seal(&mut bytes, 1);
        assert_eq!(RecordHeader::decode(&bytes, 1), Some(header));
        assert_eq!(RecordHeader::decode(&bytes, 2), None);
    }

    #[test]
    fn no_flipped_bit_of_a_record_header_or_trailer_goes_unnoticed() {
        let mut record = RecordHeader::new(Kind::Entry, 1, 2, 3).of(b"payload").encode();
        seal(&mut record, 7);
        for bit in 0..RECORD * 8 {
            let mut bad = record;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bad, 7), None, "bit {bit}");
        }
        let trailer = Trailer { lsn: 1, bytes: 512, previous_chain: 3, chain: 4 }.encode(7);
        for bit in 0..TRAILER * 8 {
            let mut bad = trailer;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Trailer::decode(&bad, 7), None, "bit {bit}");
        }
    }

    #[test]
    fn names_name_segments() {
        assert_eq!(parse_name(&file_name(0x1f, true)), Some((0x1f, true)));
        assert_eq!(parse_name(&file_name(3, false)), Some((3, false)));
        assert_eq!(parse_name("1.wal"), None);
        assert_eq!(parse_name("0000000000000001.spare"), None);
    }
}
