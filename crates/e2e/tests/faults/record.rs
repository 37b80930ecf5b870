//! What the clients of a run asked and were told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use sim::elections::Observed;
use sim::fencing::Grant;
use sim::history::{Call, History, Outcome};
use sim::leases::Tenancy;
use sim::linearizability::{kv, lock};
use sim::serializable::Read;
use sim::watch::{Event, Watched};
use tokio::time::Instant;

/// Shared by all clients of a run.
pub(crate) struct Recorder {
    name: String,
    started: Instant,
    record: Mutex<Record>,
}

/// All that a verdict is about.
#[derive(Clone, Default)]
pub(crate) struct Record {
    /// Registers and transactions.
    pub(crate) kv: History<kv::Op, kv::Ret>,
    /// What writes were told: that this key got this value in this revision.
    pub(crate) acknowledged: Vec<Event>,
    pub(crate) locks: History<lock::Op, lock::Ret>,
    /// What members answered without asking the others.
    pub(crate) serializable: Vec<Read>,
    /// By lock or election.
    pub(crate) grants: BTreeMap<String, Vec<Grant>>,
    pub(crate) observed: Vec<Observed>,
    /// Keys on leases that nobody renews any more.
    pub(crate) tenancies: Vec<Tenancy>,
    /// Contradictions that a client met by itself.
    pub(crate) contradictions: Vec<String>,
    pub(crate) watched: Vec<Watched>,
    /// The history of the store, as each member tells it in the end.
    pub(crate) told: Vec<Vec<Event>>,
    /// Where the logs of the members are.
    pub(crate) logs: Vec<PathBuf>,
}

/// What came of an operation on registers.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome<kv::Ret>,
    /// The store's revision that it made or saw, as it was told.
    pub(crate) revision: Option<u64>,
    /// What an acknowledged write put where.
    pub(crate) written: Vec<Event>,
}

impl Ended {
    /// It answered this and wrote nothing.
    pub(crate) fn saw(ret: kv::Ret, revision: Option<u64>) -> Self {
        Self { outcome: Outcome::Done(ret), revision, written: Vec::new() }
    }

    /// It answered this and wrote that.
    pub(crate) fn wrote(ret: kv::Ret, written: Vec<Event>) -> Self {
        let revision = written.first().map(|event| event.revision);
        Self { outcome: Outcome::Done(ret), revision, written }
    }

    /// There is no answer to it.
    pub(crate) fn without(outcome: Outcome<kv::Ret>) -> Self {
        Self { outcome, revision: None, written: Vec::new() }
    }
}

impl Recorder {
    pub(crate) fn new(name: String) -> Self {
        Self { name, started: Instant::now(), record: Mutex::default() }
    }

    /// Microseconds since the run began, on the one clock that all clients share.
    pub(crate) fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nobody panics with it")
    }

    pub(crate) fn call(&self, process: u64, op: kv::Op) -> Call {
        let now = self.now();
        self.record().kv.call(process, now, op)
    }

    pub(crate) fn end(&self, call: Call, ended: Ended) {
        let now = self.now();
        let mut record = self.record();
        record.kv.end(call, now, ended.outcome);
        if let Some(revision) = ended.revision {
            record.kv.place(call, revision);
        }
        record.acknowledged.extend(ended.written);
    }

    pub(crate) fn call_lock(&self, process: u64, op: lock::Op) -> Call {
        let now = self.now();
        self.record().locks.call(process, now, op)
    }

    pub(crate) fn end_lock(&self, call: Call, outcome: Outcome<lock::Ret>) {
        let now = self.now();
        self.record().locks.end(call, now, outcome);
    }

    fn write(&self, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        let record = self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        record.kv.write(File::create(to.join("kv.ndjson"))?)?;
        record.locks.write(File::create(to.join("locks.ndjson"))?)?;
        lines(&to.join("acknowledged.ndjson"), &record.acknowledged)?;
        lines(&to.join("serializable.ndjson"), &record.serializable)?;
        lines(&to.join("observed.ndjson"), &record.observed)?;
        lines(&to.join("leases.ndjson"), &record.tenancies)?;
        lines(&to.join("watched.ndjson"), &record.watched)?;
        lines(&to.join("grants.ndjson"), record.grants.iter())?;
        for (member, told) in record.told.iter().enumerate() {
            lines(&to.join(format!("told-by-{}.ndjson", member + 1)), told)?;
        }
        for (member, log) in record.logs.iter().enumerate() {
            fs::copy(log, to.join(format!("coordinator-{}.log", member + 1)))?;
        }
        Ok(())
    }
}

/// Dropped in a panic, it writes down what was recorded.
pub(crate) struct Evidence(pub(crate) Arc<Recorder>);

impl Drop for Evidence {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = &self.0.name;
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults").join(name);
            match self.0.write(&path) {
                Ok(()) => println!("the history of {name} is in {}", path.display()),
                Err(error) => println!("the history of {name} is lost: {error}"),
            }
        }
    }
}

fn lines<T: serde::Serialize>(path: &Path, items: impl IntoIterator<Item = T>) -> io::Result<()> {
    let mut file = io::BufWriter::new(File::create(path)?);
    for item in items {
        serde_json::to_writer(&mut file, &item)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}
