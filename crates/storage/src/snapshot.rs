//! Snapshots of state machines: one checksummed file per group, replaced atomically.
//!
//! A snapshot is written under a temporary name, piece by piece, its header last; then it is synced,
//! renamed over the old one, and the directory is synced: after a crash there is the old one or the
//! new one. The log may be compacted only after [`SnapshotStore::save`] has returned.
//!
//! **Invariant:** [`SnapshotStore::load`] returns exactly the bytes that were saved, or an error
//! that names the file. A damaged snapshot is never treated as a missing one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use consensus::{GroupId, Index, Term};

use crate::file_system::{File, FileSystem};

/// First bytes of every snapshot file.
const MAGIC: [u8; 8] = *b"QTSNAPSH";
/// Newest format this release writes and reads.
const VERSION: u32 = 1;
/// Magic 8, version 4, header crc 4, group 8, index 8, term 8, body length 8, body crc 4.
const HEADER: usize = 52;
/// Bytes written to the file at a time, and held in memory until then.
const PIECE: usize = 256 * 1024;
const SUFFIX: &str = ".snapshot";
const TEMPORARY: &str = ".snapshot-new";

/// A state machine as of `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry it covers.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    /// The state machine's own encoding.
    pub bytes: Bytes,
}

/// A snapshot's file, to be read in pieces. It stays this snapshot when a newer one takes the
/// file's name. Cloning it is cheap.
#[derive(Clone)]
pub struct SnapshotReader {
    file: Arc<dyn File>,
    path: PathBuf,
    group: GroupId,
    header: Header,
}

/// What the file says about its body.
#[derive(Clone, Copy)]
struct Header {
    group: GroupId,
    index: Index,
    term: Term,
    len: u64,
    crc: u32,
}

/// Why a snapshot could not be saved, loaded or removed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes on disk are not those that were saved.
    #[error("the snapshot {} is damaged; remove group {group} on this node and rebuild it from its peers", file.display())]
    Corrupt {
        /// Whose.
        group: GroupId,
        /// The damaged file.
        file: PathBuf,
    },
    /// The file comes from a newer release.
    #[error("{} has format version {found}, this release reads up to {VERSION}; run the release that wrote it", file.display())]
    Version {
        /// The file that says so.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file system refused. After a failed save the former snapshot is still there.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
}

impl SnapshotError {
    /// True if there was no space: the former snapshot stays valid, try again later.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// The snapshots of one process. Every call blocks on the disk; calls for one group must not
/// overlap, calls for different groups may.
#[derive(Clone)]
pub struct SnapshotStore {
    file_system: Arc<dyn FileSystem>,
    dir: PathBuf,
}

impl SnapshotStore {
    /// Opens or creates the directory and removes what unfinished saves left behind. The caller
    /// holds the data directory: there is no lock of its own.
    pub fn open(file_system: Arc<dyn FileSystem>, dir: &Path) -> Result<Self, SnapshotError> {
        let store = Self { file_system, dir: dir.to_owned() };
        store.file_system.create_dir_all(dir).map_err(io_error("create", dir))?;
        for name in store.names()? {
            if name.ends_with(TEMPORARY) {
                let path = dir.join(name);
                store.file_system.remove(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(store)
    }

    /// Saves the state of a group as of `snapshot.index` and drops the former one. Durable once it
    /// returns.
    pub fn save(&self, group: GroupId, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let Snapshot { index, term, bytes } = snapshot;
        self.save_with(group, (*index, *term), |body| body.write_all(bytes))?;
        Ok(())
    }

    /// As [`save`](Self::save), but the state is written by `encode`, in pieces of any size, so
    /// that nobody has to hold all of it. When `encode` fails, the former snapshot stays. Returns
    /// the length of the encoding in bytes.
    pub fn save_with(
        &self,
        group: GroupId,
        through: (Index, Term),
        encode: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, SnapshotError> {
        let temporary = self.dir.join(format!("{:016x}{TEMPORARY}", group.0));
        let path = self.path(group);
        let written = self.write(&temporary, (group, through), encode);
        if written.is_err() {
            // Half a file only takes space; the next open would remove it as well.
            let _ = self.file_system.remove(&temporary);
        }
        let len = written?;
        self.file_system.rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
        self.file_system.sync_dir(&self.dir).map_err(io_error("sync", &self.dir))?;
        Ok(len)
    }

    fn write(
        &self,
        path: &Path,
        (group, (index, term)): (GroupId, (Index, Term)),
        encode: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, SnapshotError> {
        let file = self.file_system.create(path).map_err(io_error("create", path))?;
        let mut body = BodyWriter::new(&*file);
        let written = encode(&mut body).and_then(|()| body.flush());
        written.map_err(io_error("write", path))?;
        let header = Header { group, index, term, len: body.written, crc: body.crc };
        file.write_at(&header.encode(), 0).map_err(io_error("write", path))?;
        file.sync_data().map_err(io_error("sync", path))?;
        Ok(header.len)
    }

    /// The newest snapshot of a group, or `None` if there never was one.
    pub fn load(&self, group: GroupId) -> Result<Option<Snapshot>, SnapshotError> {
        let path = self.path(group);
        let file = match self.file_system.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let bytes = read_all(&*file).map_err(io_error("read", &path))?;
        decode(group, bytes, path).map(Some)
    }

    /// The newest snapshot of a group, to be read in pieces, or `None` if there never was one. Only
    /// the header is checked now: whoever has read all of it compares [`SnapshotReader::crc`].
    pub fn reader(&self, group: GroupId) -> Result<Option<SnapshotReader>, SnapshotError> {
        let path = self.path(group);
        let file = match self.file_system.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let mut bytes = [0; HEADER];
        let read = file.read_at(&mut bytes, 0).map_err(io_error("read", &path))?;
        let header = decode_header(group, &bytes[..read], &path)?;
        Ok(Some(SnapshotReader { file, path, group, header }))
    }

    /// Removes a group's snapshot, if there is one. Durable once it returns.
    pub fn remove(&self, group: GroupId) -> Result<(), SnapshotError> {
        let path = self.path(group);
        match self.file_system.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_error("remove", &path))?,
        }
        self.file_system.sync_dir(&self.dir).map_err(io_error("sync", &self.dir))
    }

    /// The groups that have a snapshot, sorted.
    pub fn groups(&self) -> Result<Vec<GroupId>, SnapshotError> {
        let mut groups: Vec<GroupId> = self
            .names()?
            .iter()
            .filter_map(|name| u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok())
            .map(GroupId)
            .collect();
        groups.sort_unstable();
        Ok(groups)
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        self.file_system.list(&self.dir).map_err(io_error("list", &self.dir))
    }

    fn path(&self, group: GroupId) -> PathBuf {
        self.dir.join(format!("{:016x}{SUFFIX}", group.0))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { action, path: path.clone(), source }
}

/// The body of a snapshot on its way to the file. It is behind the place of the header, which
/// follows when length and checksum are known.
struct BodyWriter<'a> {
    file: &'a dyn File,
    /// Less than [`PIECE`].
    piece: Vec<u8>,
    /// Bytes that are in the file.
    written: u64,
    /// Of those.
    crc: u32,
}

impl<'a> BodyWriter<'a> {
    fn new(file: &'a dyn File) -> Self {
        Self { file, piece: Vec::with_capacity(PIECE), written: 0, crc: 0 }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, HEADER as u64 + self.written)?;
        self.written += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(())
    }
}

impl Write for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if PIECE <= self.piece.len() + bytes.len() {
            self.flush()?;
        }
        match PIECE <= bytes.len() {
            true => self.append(bytes)?,
            false => self.piece.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut piece = std::mem::take(&mut self.piece);
        let appended = if piece.is_empty() { Ok(()) } else { self.append(&piece) };
        piece.clear();
        self.piece = piece;
        appended
    }
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.len.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.crc.to_le_bytes());
        let crc = header_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Covers all of the header but itself.
fn header_crc(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[0..12]), &header[16..HEADER])
}

fn decode(group: GroupId, bytes: Bytes, file: PathBuf) -> Result<Snapshot, SnapshotError> {
    let header = decode_header(group, &bytes, &file)?;
    let body = bytes.slice(HEADER..);
    if header.len != body.len() as u64 || header.crc != crc32c::crc32c(&body) {
        return Err(SnapshotError::Corrupt { group, file });
    }
    Ok(Snapshot { index: header.index, term: header.term, bytes: body })
}

fn decode_header(group: GroupId, bytes: &[u8], file: &Path) -> Result<Header, SnapshotError> {
    let corrupt = || SnapshotError::Corrupt { group, file: file.to_owned() };
    let bytes = bytes.first_chunk::<HEADER>().ok_or_else(corrupt)?;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    if bytes[0..8] != MAGIC || u32_at(12) != header_crc(bytes) {
        return Err(corrupt());
    }
    if u32_at(8) > VERSION {
        return Err(SnapshotError::Version { file: file.to_owned(), found: u32_at(8) });
    }
    let header = Header {
        group: GroupId(u64_at(16)),
        index: Index(u64_at(24)),
        term: Term(u64_at(32)),
        len: u64_at(40),
        crc: u32_at(48),
    };
    if header.group == group { Ok(header) } else { Err(corrupt()) }
}

impl SnapshotReader {
    /// The last entry it covers.
    #[must_use]
    pub fn index(&self) -> Index {
        self.header.index
    }

    /// The term of that entry.
    #[must_use]
    pub fn term(&self) -> Term {
        self.header.term
    }

    /// The length of the state machine's encoding, in bytes.
    #[must_use]
    pub fn body_len(&self) -> u64 {
        self.header.len
    }

    /// CRC-32C of that encoding.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.header.crc
    }

    /// Bytes of that encoding from `position` on: `len`, or fewer where it ends. Blocks on the
    /// disk.
    pub fn read(&self, position: u64, len: usize) -> Result<Bytes, SnapshotError> {
        let left = self.header.len.saturating_sub(position);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        let mut bytes = vec![0; len];
        let at = HEADER as u64 + position;
        let read = self.file.read_at(&mut bytes, at).map_err(io_error("read", &self.path))?;
        if read < len {
            return Err(SnapshotError::Corrupt { group: self.group, file: self.path.clone() });
        }
        Ok(bytes.into())
    }
}

fn read_all(file: &dyn File) -> io::Result<Bytes> {
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::RealFileSystem;

    const GROUP: GroupId = GroupId(0xabc);

    fn snapshot(index: u64, bytes: &'static [u8]) -> Snapshot {
        Snapshot { index: Index(index), term: Term(2), bytes: Bytes::from_static(bytes) }
    }

    fn store(dir: &Path) -> SnapshotStore {
        SnapshotStore::open(Arc::new(RealFileSystem), dir).unwrap()
    }

    #[test]
    fn the_newest_save_is_loaded_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(store(dir.path()).load(GROUP).unwrap(), None);
        store(dir.path()).save(GROUP, &snapshot(7, b"seven")).unwrap();
        store(dir.path()).save(GROUP, &snapshot(9, b"")).unwrap();
        assert_eq!(store(dir.path()).load(GROUP).unwrap(), Some(snapshot(9, b"")));
        assert_eq!(store(dir.path()).groups().unwrap(), [GROUP]);
        store(dir.path()).remove(GROUP).unwrap();
        store(dir.path()).remove(GROUP).unwrap();
        assert_eq!(store(dir.path()).load(GROUP).unwrap(), None);
    }

    /// A body whose pieces fit those of the file in no way.
    fn encode(body: &mut dyn Write) -> io::Result<()> {
        for at in 0..40 {
            body.write_all(&vec![at; usize::from(at) * 1_999])?;
        }
        body.write_all(&[255; 2 * PIECE + 1])?;
        body.write_all(b"end")
    }

    #[test]
    fn what_is_written_in_pieces_is_loaded_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut bytes) = (store(dir.path()), Vec::new());
        encode(&mut bytes).unwrap();
        let len = store.save_with(GROUP, (Index(7), Term(2)), encode).unwrap();
        assert_eq!(len, bytes.len() as u64);
        let expected = Snapshot { index: Index(7), term: Term(2), bytes: bytes.into() };
        assert!(store.load(GROUP).unwrap() == Some(expected));
    }

    #[test]
    fn a_snapshot_that_breaks_off_leaves_the_former_one_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.save(GROUP, &snapshot(7, b"seven")).unwrap();
        let broken = store.save_with(GROUP, (Index(8), Term(2)), |body| {
            encode(body)?;
            Err(io::Error::other("the state cannot be encoded"))
        });
        assert!(matches!(broken, Err(SnapshotError::Io { action: "write", .. })));
        assert_eq!(store.load(GROUP).unwrap(), Some(snapshot(7, b"seven")));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_piece_is_reported_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.save_with(GROUP, (Index(7), Term(2)), encode).unwrap();
        let path = store.path(GROUP);
        let good = std::fs::read(&path).unwrap();
        for at in (HEADER..good.len()).step_by(PIECE / 3).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let loaded = store.load(GROUP);
            assert!(matches!(loaded, Err(SnapshotError::Corrupt { .. })), "byte {at}");
        }
    }

    #[test]
    fn it_is_read_in_pieces_also_after_a_newer_one_has_come() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert!(store.reader(GROUP).unwrap().is_none());
        store.save(GROUP, &snapshot(7, b"0123456789")).unwrap();
        let reader = store.reader(GROUP).unwrap().unwrap();
        store.save(GROUP, &snapshot(8, b"newer")).unwrap();
        assert_eq!((reader.index(), reader.term(), reader.body_len()), (Index(7), Term(2), 10));
        assert_eq!(reader.crc(), crc32c::crc32c(b"0123456789"));
        assert_eq!(reader.read(0, 4).unwrap(), &b"0123"[..]);
        assert_eq!(reader.read(8, 4).unwrap(), &b"89"[..]);
        assert_eq!(reader.read(11, 4).unwrap(), &b""[..]);

        let path = store.path(GROUP);
        std::fs::write(&path, &std::fs::read(&path).unwrap()[..HEADER + 2]).unwrap();
        let cut = store.reader(GROUP).unwrap().unwrap();
        assert!(matches!(cut.read(0, 5), Err(SnapshotError::Corrupt { .. })));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.save(GROUP, &snapshot(7, b"state of the machine")).unwrap();
        let path = store.path(GROUP);
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            let error = store.load(GROUP).unwrap_err();
            assert!(matches!(error, SnapshotError::Corrupt { .. }), "bit {bit}: {error}");
        }
        for len in 0..good.len() {
            std::fs::write(&path, &good[..len]).unwrap();
            assert!(matches!(store.load(GROUP), Err(SnapshotError::Corrupt { .. })), "len {len}");
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.save(GROUP, &snapshot(7, b"x")).unwrap();
        let path = store.path(GROUP);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 2;
        let crc = header_crc(&bytes[..HEADER]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let error = store.load(GROUP).unwrap_err().to_string();
        assert!(error.contains("format version 2"), "{error}");
    }
}
