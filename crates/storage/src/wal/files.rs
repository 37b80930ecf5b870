//! The files of a data directory, by name.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::format::{HEADERS, SegmentHeader, file_name, parse_name};
use super::recovery::check_version;
use super::segments::Spare;
use crate::error::OpenError;
use crate::file_system::{File, FileSystem};

/// What a directory holds. Names that are not ours are left alone.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) hot: Vec<u64>,
    pub(crate) cold: Vec<u64>,
    spares: Vec<String>,
    unfinished: Vec<String>,
    /// Above every number in use.
    pub(crate) next_number: u64,
}

impl Files {
    pub(crate) fn list(file_system: &dyn FileSystem, dir: &Path) -> Result<Self, OpenError> {
        let mut files = Self { next_number: 1, ..Self::default() };
        for name in file_system.list(dir).map_err(io_error("list", dir))? {
            let number = name.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
            match (parse_name(&name), number) {
                (Some((number, cold)), _) => {
                    if cold { &mut files.cold } else { &mut files.hot }.push(number);
                }
                (None, Some(_)) if name.ends_with(".spare") => files.spares.push(name),
                (None, Some(_)) if name.ends_with(".new") => files.unfinished.push(name),
                _ => continue,
            }
            files.next_number = files.next_number.max(number.unwrap_or(0).saturating_add(1));
        }
        files.hot.sort_unstable();
        files.cold.sort_unstable();
        files.spares.sort_unstable();
        Ok(files)
    }

    /// Removes what a crash left behind, and opens the spares that are long enough.
    pub(crate) fn tidy(
        &self,
        file_system: &dyn FileSystem,
        dir: &Path,
        spare_size: u64,
        known: impl Fn(u64, bool) -> bool,
    ) -> Result<Vec<Spare>, OpenError> {
        let mut remove = self.unfinished.clone();
        let segments = self.hot.iter().map(|n| (*n, false));
        for (number, cold) in segments.chain(self.cold.iter().map(|n| (*n, true))) {
            if !known(number, cold) {
                remove.push(file_name(number, cold));
            }
        }
        let mut spares = Vec::new();
        for name in &self.spares {
            let path = dir.join(name);
            let file = match file_system.open(&path) {
                Ok(file) => file,
                // It became a segment since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error("open", &path)(error)),
            };
            let size = file.size().map_err(io_error("read", &path))?;
            if size >= spare_size && spares.len() < 2 {
                spares.push(Spare { name: name.clone(), file, size, zeroed: false });
            } else {
                remove.push(name.clone());
            }
        }
        for name in &remove {
            let path = dir.join(name);
            file_system.remove(&path).map_err(io_error("remove", &path))?;
        }
        if !remove.is_empty() {
            file_system.sync_dir(dir).map_err(io_error("sync", dir))?;
        }
        Ok(spares)
    }
}

/// A segment file with an intact header.
pub(crate) struct Opened {
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: SegmentHeader,
    /// Where the first two sectors are not what was written, although one copy is intact.
    pub(crate) bad_copy: Option<u64>,
}

impl Opened {
    /// `None` if the file is missing, or its header is damaged or that of another segment.
    pub(crate) fn new(
        file_system: &dyn FileSystem,
        path: &Path,
        number: u64,
    ) -> Result<Option<Self>, OpenError> {
        let file = match file_system.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", path)(error)),
        };
        let mut bytes = [0; HEADERS as usize];
        let read = file.read_at(&mut bytes, 0).map_err(io_error("read", path))?;
        match SegmentHeader::decode(&bytes[..read]) {
            Ok(header) if header.number == number => {
                let mut pairs = header.encode().into_iter().zip(bytes);
                let bad_copy = pairs.position(|(written, read)| written != read);
                Ok(Some(Self { file, header, bad_copy: bad_copy.map(|at| at as u64) }))
            }
            Ok(_) => Ok(None),
            Err(bad) => check_version(bad, path).map(|()| None),
        }
    }
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path: path.clone(), source }
}
