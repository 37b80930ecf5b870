//! Cold segments: written once, sorted by group and index, so that a replay reads sequentially.
//!
//! Behind the entries stands a footer with every run and its sparse points; a start reads that
//! and not the entries. If the footer is damaged, the entries are read after all.

use std::io;

use consensus::GroupId;

use super::codec::{Decoder, Encoder};
use super::format::{HEADERS, Kind, RECORD, RecordHeader, SegmentHeader, TRAILER, Trailer, seal};
use super::runs::Run;
use super::source::Source;
use crate::file_system::File;
use consensus::Entry;

/// Collected before it is written.
const BUFFER: usize = 1 << 20;

/// Runs by group, as a footer lists them.
pub(crate) type Contents = Vec<(GroupId, Vec<Run>)>;

/// Writes a cold segment from front to back.
pub(crate) struct ColdWriter<'a> {
    file: &'a dyn File,
    header: SegmentHeader,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    at: u64,
    contents: Contents,
}

impl<'a> ColdWriter<'a> {
    pub(crate) fn new(file: &'a dyn File, number: u64, salt: u32) -> Self {
        let header = SegmentHeader {
            cold: true,
            zeroed: false,
            salt,
            number,
            first_lsn: 0,
            checkpoint_bytes: 0,
            chain: 0,
        };
        Self { file, header, buffer: header.encode().to_vec(), at: 0, contents: Vec::new() }
    }

    /// Adds an entry; groups in order, indexes within a group too.
    pub(crate) fn push(&mut self, group: GroupId, entry: &Entry) -> io::Result<()> {
        let header = RecordHeader::entry(group.0, entry);
        let at = self.record(header, &entry.payload)?;
        if self.contents.last().is_none_or(|(last, _)| *last != group) {
            self.contents.push((group, Vec::new()));
        }
        let (_, runs) = self.contents.last_mut().expect("just pushed");
        let (term, index) = (entry.term.0, entry.index.0);
        if runs.last().is_none_or(|run| run.term != term) {
            runs.push(Run::new(term, self.header.number, index));
        }
        let run = runs.last_mut().expect("just pushed");
        run.add(index, at, (RECORD + entry.payload.len()) as u64);
        Ok(())
    }

    fn record(&mut self, header: RecordHeader, payload: &[u8]) -> io::Result<u64> {
        if self.buffer.len() >= BUFFER {
            self.write_out()?;
        }
        let at = self.at + self.buffer.len() as u64;
        let mut header = header.of(payload).encode();
        seal(&mut header, self.header.salt);
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(payload);
        Ok(at)
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Forgets a group whose entries could not all be read. What was written of it is dead.
    pub(crate) fn drop_group(&mut self, group: GroupId) {
        self.contents.retain(|(held, _)| *held != group);
    }

    /// Writes the footer and makes all of it durable. Returns where the footer begins, the length
    /// of the file, and what is in it.
    pub(crate) fn finish(mut self) -> io::Result<(u64, u64, Contents)> {
        let payload = encode_footer(&self.contents);
        let header = RecordHeader::new(Kind::Footer, 0, 0, self.header.number);
        let at = self.record(header, &payload)?;
        let trailer = Trailer {
            lsn: self.header.number,
            bytes: u32::try_from(RECORD + payload.len()).map_err(io::Error::other)?,
            previous_chain: 0,
            chain: 0,
        };
        self.buffer.extend_from_slice(&trailer.encode(self.header.salt));
        self.write_out()?;
        self.file.sync_data()?;
        Ok((at, self.at, self.contents))
    }
}

fn encode_footer(contents: &Contents) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.list(contents, |encoder, (group, runs)| {
        encoder.number(group.0);
        encoder.list(runs, |encoder, run| {
            encoder.run(run);
            encoder.points(&run.points);
        });
    });
    encoder.into_bytes()
}

fn decode_footer(payload: &[u8]) -> Option<Contents> {
    let mut decoder = Decoder::new(payload);
    decoder.list(|decoder| {
        let group = GroupId(decoder.number()?);
        let runs = decoder.list(|decoder| {
            let mut run = decoder.run()?;
            run.points = decoder.points()?;
            Some(run)
        })?;
        Some((group, runs))
    })
}

/// The footer of a cold segment, or `None` if it is damaged.
pub(crate) fn read_footer(
    source: &mut impl Source,
    header: &SegmentHeader,
) -> io::Result<Option<Contents>> {
    let Some(trailer_at) = source.size().checked_sub(TRAILER as u64) else { return Ok(None) };
    let bytes = source.get(trailer_at, TRAILER)?;
    let trailer = if bytes.len() == TRAILER { Trailer::decode(bytes, header.salt) } else { None };
    let Some(trailer) = trailer.filter(|trailer| trailer.lsn == header.number) else {
        return Ok(None);
    };
    let Some(at) = trailer_at.checked_sub(u64::from(trailer.bytes)) else { return Ok(None) };
    let record = source.get(at, trailer.bytes as usize)?;
    let Some((head, payload)) = record.split_at_checked(RECORD) else { return Ok(None) };
    let Some(head) = RecordHeader::decode(head, header.salt) else { return Ok(None) };
    let intact = head.kind == Kind::Footer
        && head.len as usize == payload.len()
        && head.payload_crc == crc32c::crc32c(payload);
    Ok(if intact { decode_footer(payload) } else { None })
}

/// What the entries themselves say, up to the first damaged header. Also where that is, if it is
/// not the end.
pub(crate) fn read_entries(
    source: &mut impl Source,
    header: &SegmentHeader,
    end: u64,
) -> io::Result<(Contents, Option<u64>)> {
    let mut contents: Contents = Vec::new();
    let mut at = HEADERS;
    while at < end {
        let bytes = source.get(at, RECORD)?;
        let decoded =
            if bytes.len() == RECORD { RecordHeader::decode(bytes, header.salt) } else { None };
        let Some(record) = decoded.filter(|record| record.kind == Kind::Entry) else {
            return Ok((contents, Some(at)));
        };
        let group = GroupId(record.group);
        if contents.last().is_none_or(|(last, _)| *last != group) {
            contents.push((group, Vec::new()));
        }
        let (_, runs) = contents.last_mut().expect("just pushed");
        if runs.last().is_none_or(|run| run.term != record.term) {
            runs.push(Run::new(record.term, header.number, record.index));
        }
        runs.last_mut().expect("just pushed").add(record.index, at, record.size());
        at += record.size();
    }
    Ok((contents, None))
}
