//! Which directory holds the state.
//!
//! A snapshot is installed into a directory of its own while the old state still serves reads.
//! `CURRENT` then names the new one: written beside, synced, renamed. Whatever else lies around
//! is an install that was cut short, or a state that was replaced; both are removed at start.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::EngineError;
use super::fjall::Store;

const CURRENT: &str = "CURRENT";

/// The directory of all generations of one node.
#[derive(Clone, Debug)]
pub(crate) struct Generations {
    dir: PathBuf,
}

impl Generations {
    /// Opens the current state, an empty one at first, and clears away the others.
    pub(crate) fn open(dir: PathBuf, group: &str) -> Result<(Self, Store), EngineError> {
        let this = Self { dir };
        fs::create_dir_all(&this.dir).map_err(failed("create", &this.dir))?;
        let current = this.current()?;
        this.clear_except(&current)?;
        let store = Store::open(&this.dir.join(&current), group)?;
        // Only the first start: later ones may find the disk full.
        if !this.dir.join(CURRENT).exists() {
            this.choose(&current)?;
        }
        Ok((this, store))
    }

    /// The name of the state that a start would open.
    pub(crate) fn current(&self) -> Result<String, EngineError> {
        let path = self.dir.join(CURRENT);
        match fs::read_to_string(&path) {
            Ok(name) => Ok(name.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(name(1)),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    fn clear_except(&self, current: &str) -> Result<(), EngineError> {
        for entry in fs::read_dir(&self.dir).map_err(failed("list", &self.dir))? {
            let path = entry.map_err(failed("list", &self.dir))?.path();
            let other = path.file_name().is_some_and(|name| name != current);
            if other && path.is_dir() {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// An empty state next to the current one.
    pub(crate) fn create(&self, group: &str) -> Result<(String, Store), EngineError> {
        let used = |number| self.dir.join(name(number)).exists();
        let number = (1..).find(|number| !used(*number)).expect("numbers do not run out");
        let store = Store::open(&self.dir.join(name(number)), group)?;
        Ok((name(number), store))
    }

    /// Makes a complete state the current one, durably.
    pub(crate) fn choose(&self, name: &str) -> Result<(), EngineError> {
        let (path, beside) = (self.dir.join(CURRENT), self.dir.join("CURRENT.new"));
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&beside)?;
            file.write_all(name.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        write().map_err(failed("write", &path))
    }

    /// Removes a state that nobody reads any more, or that was never completed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), EngineError> {
        let path = self.dir.join(name);
        fs::remove_dir_all(&path).map_err(failed("remove", &path))
    }
}

fn name(number: u32) -> String {
    format!("state-{number}")
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Io { action, path, source }
}
