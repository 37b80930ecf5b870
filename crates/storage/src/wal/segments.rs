//! The segment being written, and what happens when it is full.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::admission::Purpose;
use super::batch::{BatchBuffer, Position};
use super::checkpoint;
use super::format::{HEADERS, Kind, RecordHeader, SegmentHeader, file_name, sector_up};
use super::log::Log;
use super::state::{OpenFile, Segment};
use crate::error::{SubmitError, WriteError};
use crate::file_system::{File, FileSystem};
use crate::mutants::{self, Mutant};

/// The segment that takes the next batch.
pub(crate) struct Active {
    pub(crate) number: u64,
    pub(crate) open: OpenFile,
    pub(crate) position: Position,
    /// Where its first batch begins, behind the checkpoints.
    pub(crate) start: u64,
    /// Space reserved for it.
    pub(crate) size: u64,
}

impl Active {
    pub(crate) fn file_name(&self) -> String {
        file_name(self.number, false)
    }

    /// How the readers' state lists it.
    pub(crate) fn segment(&self) -> Segment {
        Segment {
            cold: false,
            start: self.start,
            end: self.position.at,
            size: self.size,
            live_bytes: 0,
            open: Some(self.open.clone()),
        }
    }
}

/// A file with reserved space that waits for its turn.
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) file: Arc<dyn File>,
    pub(crate) size: u64,
    /// Everything in it reads as zeros.
    pub(crate) zeroed: bool,
}

/// Name of a spare that is complete. Found after a restart, it may hold anything.
pub(crate) fn spare_name(number: u64) -> String {
    format!("{number:016x}.spare")
}

/// What the next segment begins with.
pub(crate) struct Head {
    pub(crate) number: u64,
    /// Where the segment before ended; only lsn and chain matter.
    pub(crate) after: Position,
    pub(crate) checkpoint: Vec<u8>,
    /// Bytes that must fit behind.
    pub(crate) room: u64,
}

/// Makes a segment of a spare. It gets its name only when its head is durable: a segment with a
/// bad head is damaged, not unfinished.
pub(crate) fn begin(
    file_system: &dyn FileSystem,
    dir: &Path,
    spare: Spare,
    head: &Head,
) -> Result<Active, WriteError> {
    let (bytes, header) = encode_head(file_system, &spare, head);
    let name = file_name(head.number, false);
    let (from, to) = (dir.join(&spare.name), dir.join(&name));
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| WriteError { action, path, source }
    };
    let size = spare.size.max(sector_up(bytes.len() as u64 + head.room));
    spare.file.allocate(size).map_err(failed("reserve space in", &from))?;
    spare.file.write_at(&bytes, 0).map_err(failed("write", &from))?;
    spare.file.sync_data().map_err(failed("sync", &from))?;
    file_system.rename(&from, &to).map_err(failed("rename", &from))?;
    if !mutants::is(Mutant::NoDirectorySync) {
        file_system.sync_dir(dir).map_err(failed("sync", dir))?;
    }
    let start = header.data_start();
    let position = Position { at: start, lsn: header.first_lsn + 2, chain: header.chain };
    let open = OpenFile { file: spare.file, salt: header.salt };
    Ok(Active { number: head.number, open, position, start, size })
}

/// Both headers, both checkpoints.
fn encode_head(
    file_system: &dyn FileSystem,
    spare: &Spare,
    head: &Head,
) -> (Vec<u8>, SegmentHeader) {
    let mut header = SegmentHeader {
        cold: false,
        zeroed: spare.zeroed,
        salt: (file_system.nonce() >> 32) as u32,
        number: head.number,
        first_lsn: head.after.lsn,
        checkpoint_bytes: 0,
        chain: head.after.chain,
    };
    let mut bytes = vec![0; HEADERS as usize];
    for copy in 0..2 {
        let mut batch = BatchBuffer::default();
        batch.push(RecordHeader::new(Kind::Checkpoint, 0, 0, 0), &head.checkpoint);
        let from = Position { at: 0, lsn: header.first_lsn + copy, chain: header.chain };
        let (batch, _) = batch.finish(header.salt, from);
        header.checkpoint_bytes = u32::try_from(batch.len()).expect("far below 4 GiB");
        bytes.extend_from_slice(batch);
    }
    bytes[..HEADERS as usize].copy_from_slice(&header.encode());
    (bytes, header)
}

/// Makes a spare here and now, reserved but not yet written once.
pub(crate) fn create_spare(
    file_system: &dyn FileSystem,
    dir: &Path,
    number: u64,
    size: u64,
) -> Result<Spare, WriteError> {
    let name = spare_name(number);
    let path = dir.join(&name);
    let create = || {
        let file = file_system.create(&path)?;
        file.allocate(size)?;
        Ok(file)
    };
    let failed = |source| WriteError { action: "create", path: path.clone(), source };
    Ok(Spare { name, file: create().map_err(failed)?, size, zeroed: true })
}

impl Log {
    /// Goes on in a new segment.
    pub(crate) fn rotate(&mut self) -> Result<(), WriteError> {
        let head = Head {
            number: self.housekeeping.take_number(),
            after: self.active.position,
            checkpoint: checkpoint::encode(&self.view.state()),
            room: self.batch.len_on_disk(),
        };
        let spare = match self.housekeeping.take_spare() {
            Some(spare) => spare,
            // The first start, or the disk is faster than housekeeping.
            None => create_spare(&*self.file_system, &self.dir, head.number, self.spare_size())?,
        };
        self.active = begin(&*self.file_system, &self.dir, spare, &head)?;
        self.stats.fsyncs += 2;
        self.stats.written_bytes += self.active.start;
        let mut state = self.view.state_mut();
        state.segments.insert(self.active.number, self.active.segment());
        state.recount();
        drop(state);
        self.housekeeping.note_change();
        Ok(())
    }

    /// Room for the checkpoints besides the configured size. Grows in steps, so that spares of
    /// slightly different states are interchangeable.
    pub(crate) fn spare_size(&self) -> u64 {
        spare_size(self.config.segment_bytes, self.active.start)
    }

    /// Refuses early what could not be written later. The last spare is reserved for what frees
    /// space.
    pub(crate) fn space_for(&self, purpose: Purpose) -> Result<(), SubmitError> {
        let left = self.active.size.saturating_sub(self.active.position.at);
        self.housekeeping.space(left, purpose, self.config.queue_bytes as u64)
    }
}

/// Length of a file that takes `segment_bytes` of batches behind a head like this.
pub(crate) fn spare_size(segment_bytes: u64, head: u64) -> u64 {
    sector_up(segment_bytes) + 2 * head.next_power_of_two()
}
