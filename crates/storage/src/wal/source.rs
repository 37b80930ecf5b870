//! Bytes of a segment, wherever they are: recovery reads a file piece by piece, a test has a slice.

use std::io;
use std::sync::Arc;

use super::format::SECTOR;
use crate::file_system::File;

/// Read ahead of the scanner, so that small records cost no system call each.
const READ_AHEAD: usize = 256 * 1024;

/// Bytes by position.
pub(crate) trait Source {
    /// How many there are.
    fn size(&self) -> u64;

    /// `len` bytes at `at`; fewer only where they end.
    fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]>;
}

impl Source for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        Ok(&self[from..from.saturating_add(len).min(self.len())])
    }
}

/// A file behind one buffer.
pub(crate) struct FileSource {
    file: Arc<dyn File>,
    size: u64,
    /// What `buffer` holds starts here.
    start: u64,
    buffer: Vec<u8>,
}

impl FileSource {
    pub(crate) fn new(file: Arc<dyn File>) -> io::Result<Self> {
        let size = file.size()?;
        Ok(Self { file, size, start: 0, buffer: Vec::new() })
    }
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = len.min(left);
        let held = self.start..self.start + self.buffer.len() as u64;
        if at < held.start || at + len as u64 > held.end {
            self.buffer.resize(len.max(READ_AHEAD).min(left), 0);
            self.start = at;
            let read = self.file.read_at(&mut self.buffer, at)?;
            self.buffer.truncate(read);
        }
        let from = usize::try_from(at - self.start).expect("inside the buffer");
        Ok(&self.buffer[from..(from + len).min(self.buffer.len())])
    }
}

/// Calls `each` with every sector from `from` on, which must be the start of one; the last may be
/// shorter.
pub(crate) fn for_each_sector(
    source: &mut impl Source,
    from: u64,
    mut each: impl FnMut(u64, &[u8]),
) -> io::Result<()> {
    let mut at = from;
    while at < source.size() {
        let piece = source.get(at, READ_AHEAD)?;
        if piece.is_empty() {
            break;
        }
        let len = piece.len() as u64;
        for (number, sector) in piece.chunks(SECTOR as usize).enumerate() {
            each(at + number as u64 * SECTOR, sector);
        }
        at += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::{FileSystem as _, RealFileSystem};

    #[test]
    fn a_file_reads_like_a_slice() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFileSystem.create(&dir.path().join("f")).unwrap();
        let bytes: Vec<u8> = (0..700_000u32).map(|i| (i % 251) as u8).collect();
        file.write_at(&bytes, 0).unwrap();
        let mut source = FileSource::new(file).unwrap();
        let mut slice = &bytes[..];
        for (at, len) in [(0, 40), (262_100, 100), (10, 5), (699_990, 100), (800_000, 8)] {
            assert_eq!(source.get(at, len).unwrap(), Source::get(&mut slice, at, len).unwrap());
        }
        let mut sectors = 0;
        for_each_sector(&mut source, 512, |at, sector| {
            sectors += 1;
            let at = usize::try_from(at).unwrap();
            assert_eq!(sector, &bytes[at..(at + 512).min(bytes.len())]);
        })
        .unwrap();
        assert_eq!(sectors, 1367);
    }
}
