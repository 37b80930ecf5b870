//! From bytes to a verdict: where a segment ends, and whether it ended well.
//!
//! One batch is in flight at a time, and the next is written only after the fsync of the one
//! before. So what does not validate was either never acknowledged, a *torn tail* (then nothing
//! follows it and some of its sectors were never written) or it is *damage* (B35: cutting there
//! would lose acknowledged entries). A log with nothing to do follows its last batch with an empty
//! one, so only the write of a busy log can look torn.
//!
//! **Invariant:** this is a function of the bytes. It decides; [`super::recovery`] acts.

use std::io;

use super::batch::Position;
use super::format::{
    Kind, RECORD, RecordHeader, SECTOR, SegmentHeader, TRAILER, Trailer, chain, sector_up,
};
use super::source::{Source, for_each_sector};
use crate::mutants::{self, Mutant};

/// A record in its place.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) header: RecordHeader,
    pub(crate) at: u64,
    /// Empty for entries: they stay where they are.
    pub(crate) payload: Vec<u8>,
}

/// Bytes that are not those that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) at: u64,
    /// The group it hit, if the record header is intact; `Some(None)` if it hit no group.
    pub(crate) group: Option<Option<u64>>,
}

/// What a segment's bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Behind the last batch.
    pub(crate) end: Position,
    /// The batch at `end` was never completed; its remains reach up to here.
    pub(crate) torn_until: Option<u64>,
    pub(crate) damage: Vec<Damage>,
}

/// Reads the batches of a segment from `from` on. `sealed` is where a finished segment ends; the
/// one that was being written last has no such end. Calls `visit` with every intact record.
pub(crate) fn scan(
    source: &mut impl Source,
    header: &SegmentHeader,
    from: Position,
    sealed: Option<u64>,
    visit: &mut dyn FnMut(Found),
) -> io::Result<Verdict> {
    let mut verdict = Verdict { end: from, torn_until: None, damage: Vec::new() };
    let limit = sealed.unwrap_or(u64::MAX);
    while verdict.end.at < limit {
        let from = verdict.end;
        let walk = walk_batch(source, header.salt, from.at)?;
        if let Walk::Whole(batch) = &walk
            && batch.follows(from)
        {
            verdict.end = batch.next();
            take(walk, visit);
            continue;
        }
        let survey = Survey::new(source, header.salt, from)?;
        let cut = mutants::is(Mutant::DamageCut);
        let torn = cut || (!survey.later && walk.is_torn(source, header, &survey)?);
        if sealed.is_none() && torn {
            let begun = survey.same.is_some() || walk.failed_at() > from.at;
            let visible = if header.zeroed { survey.data_end > from.at } else { begun };
            verdict.torn_until = visible.then_some(survey.data_end);
            return Ok(verdict);
        }
        let nobodys = survey.same_is_empty || walk.is_empty_batch(from.at);
        let blame = |damage| if nobodys { Damage { group: Some(None), ..damage } } else { damage };
        verdict.damage.extend(walk.damage().into_iter().map(blame));
        match walk {
            Walk::Damaged(batch, _) if batch.follows(from) => {
                verdict.end = batch.next();
                take(Walk::Whole(batch), visit);
            }
            _ => match survey.next {
                Some(next) => verdict.end = next,
                None => {
                    verdict.end.at = sealed.unwrap_or_else(|| survey.data_end.max(from.at));
                    break;
                }
            },
        }
    }
    if let (Some(end), true) = (sealed, header.zeroed) {
        verdict.damage.extend(not_zero(source, sector_up(end))?);
    }
    Ok(verdict)
}

/// A byte in the space that a sealed segment never used: it cost nobody anything.
fn not_zero(source: &mut impl Source, from: u64) -> io::Result<Option<Damage>> {
    let mut found = None;
    for_each_sector(source, from, |at, sector| {
        if found.is_none() && !is_zero(sector) {
            found = Some(Damage { at, group: Some(None) });
        }
    })?;
    Ok(found)
}

fn take(walk: Walk, visit: &mut dyn FnMut(Found)) {
    if let Walk::Whole(batch) = walk {
        batch.records.into_iter().for_each(visit);
    }
}

/// The records of a batch whose commit record is intact.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Found>,
    trailer: Trailer,
    end: u64,
}

impl Batch {
    pub(crate) fn follows(&self, position: Position) -> bool {
        let continues =
            self.trailer.lsn == position.lsn && self.trailer.previous_chain == position.chain;
        continues || mutants::is(Mutant::NoChainCheck)
    }

    fn next(&self) -> Position {
        Position { at: self.end, lsn: self.trailer.lsn + 1, chain: self.trailer.chain }
    }
}

/// What stands at the place of a batch.
#[derive(Debug)]
pub(crate) enum Walk {
    /// A batch.
    Whole(Batch),
    /// A batch, but these bytes (from, to) are not what was written; the record headers, and so
    /// the groups, are certain. `records` has only the intact ones.
    Damaged(Batch, Vec<(Damage, u64)>),
    /// What begins here and would end there is no record.
    Broken { at: u64, end: u64 },
}

impl Walk {
    fn failed_at(&self) -> u64 {
        match self {
            Self::Whole(batch) => batch.end,
            Self::Damaged(_, damage) => damage[0].0.at,
            Self::Broken { at, .. } => *at,
        }
    }

    fn damage(&self) -> Vec<Damage> {
        match self {
            Self::Whole(batch) => {
                vec![Damage { at: batch.end - u64::from(batch.trailer.bytes), group: None }]
            }
            Self::Damaged(_, damage) => damage.iter().map(|(damage, _)| damage.clone()).collect(),
            Self::Broken { at, .. } => vec![Damage { at: *at, group: None }],
        }
    }

    /// Whether this is the commit record of a batch that holds nothing else.
    fn is_empty_batch(&self, begin: u64) -> bool {
        matches!(self, Self::Broken { at, end } if *at == begin && *end == begin + SECTOR)
    }

    /// True if this can be a batch that a crash left unfinished: then what fails to validate lacks
    /// a sector. In a fresh segment that is zeros. A recycled one tells only where all that fails
    /// shares the sector of an intact header of its own: that was written.
    fn is_torn(
        &self,
        source: &mut impl Source,
        header: &SegmentHeader,
        survey: &Survey,
    ) -> io::Result<bool> {
        let failed = match self {
            // Another file's, or another place's: no write of ours ends like that.
            Self::Whole(_) => return Ok(false),
            Self::Damaged(_, damage) => damage.iter().map(|(d, end)| (d.at, *end)).collect(),
            Self::Broken { at, end } => vec![(*at, *end)],
        };
        if !header.zeroed {
            let shared = |(from, to): &(u64, u64)| from / SECTOR == (to - 1) / SECTOR;
            let written = matches!(self, Self::Damaged(..)) && failed.iter().all(shared);
            let whole = survey.same_is_one_sector || self.is_empty_batch(survey.begin);
            return Ok(!written && !whole);
        }
        if survey.same.is_none() && is_hardly_written(source.get(survey.begin, SECTOR as usize)?) {
            return Ok(true);
        }
        for (from, to) in failed {
            // No record header is all zeros, not even a damaged one.
            let unwritten = is_zero(source.get(from, RECORD)?);
            if unwritten || to > survey.data_end || has_zero_sector(source, from, to)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Reads the batch at `from`. Does not look at what it continues.
pub(crate) fn walk_batch(source: &mut impl Source, salt: u32, from: u64) -> io::Result<Walk> {
    let mut records = Vec::new();
    let mut damage = Vec::new();
    let mut headers = Vec::new();
    let mut at = from;
    loop {
        let bytes = source.get(at, RECORD)?;
        let decoded = if bytes.len() == RECORD { RecordHeader::decode(bytes, salt) } else { None };
        let Some(header) = decoded else {
            return Ok(Walk::Broken { at, end: at + RECORD as u64 });
        };
        let end = at + header.size();
        if header.kind == Kind::Commit {
            let payload = source.get(at + RECORD as u64, header.len as usize)?;
            let Some(trailer) = trailer_of(payload, &header, salt) else {
                return Ok(Walk::Broken { at, end });
            };
            let chained = headers.chunks(RECORD).fold(trailer.previous_chain, chain);
            if chained != trailer.chain || end - from != u64::from(trailer.bytes) {
                return Ok(Walk::Broken { at, end });
            }
            if crc32c::crc32c(payload) != header.payload_crc {
                damage.push((Damage { at, group: Some(None) }, end));
            }
            let batch = Batch { records, trailer, end };
            let whole = damage.is_empty();
            return Ok(if whole { Walk::Whole(batch) } else { Walk::Damaged(batch, damage) });
        }
        headers.extend_from_slice(bytes);
        let payload = source.get(at + RECORD as u64, header.len as usize)?;
        if payload.len() < header.len as usize {
            return Ok(Walk::Broken { at, end });
        }
        if crc32c::crc32c(payload) == header.payload_crc {
            let keep = if header.kind == Kind::Entry { &[] } else { payload };
            records.push(Found { header, at, payload: keep.to_vec() });
        } else {
            let group = (header.kind != Kind::Checkpoint && header.kind != Kind::Install)
                .then_some(Some(header.group));
            damage.push((Damage { at, group }, end));
        }
        at = end;
    }
}

/// The trailer at the end of a commit record's payload, if both agree.
fn trailer_of(payload: &[u8], header: &RecordHeader, salt: u32) -> Option<Trailer> {
    let at = payload.len().checked_sub(TRAILER)?;
    let trailer = Trailer::decode(&payload[at..], salt)?;
    (payload.len() == header.len as usize && trailer.lsn == header.index).then_some(trailer)
}

/// Compares with zeros, which is much faster than looking at each byte: a start looks at all the
/// space behind the last batch.
fn is_zero(sector: &[u8]) -> bool {
    const ZEROS: [u8; SECTOR as usize] = [0; SECTOR as usize];
    *sector == ZEROS[..sector.len()]
}

/// Space that was never written, with bits that flipped in it: the first sector of a batch holds
/// checksums, a kind and lengths, which are never that few bytes.
fn is_hardly_written(sector: &[u8]) -> bool {
    sector.iter().filter(|byte| **byte != 0).count() < 8
}

fn has_zero_sector(source: &mut impl Source, from: u64, to: u64) -> io::Result<bool> {
    let mut at = from / SECTOR * SECTOR;
    while at < to {
        if is_zero(source.get(at, SECTOR as usize)?) {
            return Ok(true);
        }
        at += SECTOR;
    }
    Ok(false)
}

/// What lies behind a place that does not validate.
struct Survey {
    /// The place.
    begin: u64,
    /// Behind the last byte that is not zero.
    data_end: u64,
    /// The trailer of the very batch that was expected.
    same: Option<u64>,
    /// It says that the batch is one sector, which is written whole or not at all; and that there
    /// is nothing in it.
    same_is_one_sector: bool,
    same_is_empty: bool,
    /// The trailer of a later batch: the expected one was acknowledged.
    later: bool,
    /// Where reading can go on: behind the expected batch, else at the next later one.
    next: Option<Position>,
}

impl Survey {
    fn new(source: &mut impl Source, salt: u32, from: Position) -> io::Result<Self> {
        let mut survey = Self {
            begin: from.at,
            data_end: from.at,
            same: None,
            same_is_one_sector: false,
            same_is_empty: false,
            later: false,
            next: None,
        };
        for_each_sector(source, from.at, |at, sector| {
            if is_zero(sector) {
                return;
            }
            let last = sector.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            survey.data_end = at + last as u64 + 1;
            survey.look_at(at, sector, salt, from);
        })?;
        Ok(survey)
    }

    fn look_at(&mut self, at: u64, sector: &[u8], salt: u32, from: Position) {
        if sector.len() < SECTOR as usize {
            return;
        }
        let Some(trailer) = Trailer::decode(&sector[SECTOR as usize - TRAILER..], salt) else {
            return;
        };
        let end = at + SECTOR;
        let Trailer { lsn, bytes, previous_chain, chain } = trailer;
        if lsn < from.lsn {
            return;
        }
        self.later |= lsn > from.lsn;
        if lsn == from.lsn {
            self.same = Some(end);
            self.same_is_one_sector = at == from.at && u64::from(bytes) == SECTOR;
            self.same_is_empty = self.same_is_one_sector && chain == previous_chain;
        }
        let start = end.saturating_sub(u64::from(bytes));
        // A later batch can be read from its start, unless that is where reading just failed.
        let next = if lsn > from.lsn && start > from.at {
            Position { at: start, lsn, chain: previous_chain }
        } else {
            Position { at: end, lsn: lsn + 1, chain }
        };
        self.next = self.next.or(Some(next));
    }
}
