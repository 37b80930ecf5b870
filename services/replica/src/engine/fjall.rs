//! Records on disk, in one fjall keyspace.
//!
//! | key | value |
//! |---|---|
//! | space byte, name | the record, postcard |
//! | `d`, bucket (2 bytes, big endian) | the bucket's sum, 16 bytes, little endian |
//! | `m` | what the records are the state of, postcard |
//! | `x`, expiry in ms (8 bytes, big endian), key | the record's version, postcard |
//!
//! Batches go to the engine's journal without an fsync of their own: the log has them. Only
//! [`Engine::persist`] syncs, and the log is not compacted beyond that.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::{BufMut, Bytes, BytesMut};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use replication::Position;
use replication::command::{Record, Space};
use replication::digest::{BUCKETS, Digest, Sum};

use super::{Applied, Batch, Engine, EngineError, Records, Snapshot, Step};

const META: &[u8] = b"m";
const BUCKET: u8 = b'd';
const EXPIRY: u8 = b'x';

/// Blocks of tables that stay in memory. The default of the library would be the whole budget of
/// an idle service.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// What the engine's own journal may take on disk.
const JOURNAL_BYTES: u64 = 128 * 1024 * 1024;

/// A store. There is one writer.
pub(crate) struct Store {
    dir: PathBuf,
    group: String,
    state: RwLock<State>,
    written: Mutex<Written>,
}

/// The library refuses every write after one that failed, so a full disk means to open it anew.
struct State {
    /// `None` only while, or after, that fails.
    opened: Option<Arc<Opened>>,
    /// It has everything that readers have seen already.
    serves: bool,
}

/// The library's handles. Whoever reads holds them for a moment, or pins a state with them.
struct Opened {
    database: Database,
    keyspace: Keyspace,
}

/// What the writer knows of what it wrote.
#[derive(Clone)]
struct Written {
    applied: Applied,
    digest: Digest,
}

impl Opened {
    /// Also what is in it.
    fn new(dir: &Path, group: &str) -> Result<(Self, Written), EngineError> {
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = database.keyspace("state", options)?;
        let applied = match keyspace.get(META)? {
            Some(bytes) => postcard::from_bytes(&bytes)?,
            None => Applied::nothing(group),
        };
        let digest = read_digest(&database.snapshot(), &keyspace)?;
        Ok((Self { database, keyspace }, Written { applied, digest }))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Record>, EngineError> {
        match self.keyspace.get(key)? {
            Some(bytes) => Ok(Some(postcard::from_bytes(&bytes)?)),
            None => Ok(None),
        }
    }
}

impl Store {
    /// Opens or creates the store in `dir`. A new one is the empty state of `group`.
    pub(crate) fn open(dir: &Path, group: &str) -> Result<Self, EngineError> {
        let (opened, written) = Opened::new(dir, group)?;
        let state = State { opened: Some(Arc::new(opened)), serves: true };
        Ok(Self {
            dir: dir.to_owned(),
            group: group.to_owned(),
            state: RwLock::new(state),
            written: Mutex::new(written),
        })
    }

    /// For readers.
    fn reader(&self) -> Result<Arc<Opened>, EngineError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.opened.clone().filter(|_| state.serves).ok_or(EngineError::Reopening)
    }

    /// For the one writer.
    fn writer(&self) -> Result<Arc<Opened>, EngineError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.opened.clone().ok_or(EngineError::Reopening)
    }

    /// Whether a state was ever written: an install that was cut short leaves none.
    #[cfg(test)]
    pub(crate) fn is_complete(&self) -> Result<bool, EngineError> {
        Ok(self.reader()?.keyspace.get(META)?.is_some())
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        batch: &Batch,
        digest: &Digest,
        applied: Option<&Applied>,
    ) -> Result<(), EngineError> {
        let opened = self.writer()?;
        let keyspace = &opened.keyspace;
        let mut writes = opened.database.batch();
        for (key, (old, new)) in &batch.changes {
            if let Some(at) = old.as_ref().and_then(|record| record.expires_at_ms) {
                writes.remove(keyspace, &*expiry_key(at, key));
            }
            match new {
                None => writes.remove(keyspace, &**key),
                Some(record) => {
                    writes.insert(keyspace, &**key, encode(record));
                    if let Some(at) = record.expires_at_ms {
                        let version = encode(&record.version);
                        writes.insert(keyspace, &*expiry_key(at, key), version);
                    }
                }
            }
        }
        for &bucket in &batch.buckets {
            let sum = digest.bucket(bucket).0.to_le_bytes();
            writes.insert(keyspace, bucket_key(bucket), sum);
        }
        if let Some(applied) = applied {
            writes.insert(keyspace, META, encode(applied));
        }
        Ok(writes.commit()?)
    }
}

impl Engine for Store {
    fn get(&self, key: &[u8]) -> Result<Option<Record>, EngineError> {
        self.reader()?.get(key)
    }

    fn apply(&self, steps: &[Arc<Step>]) -> Result<Vec<Sum>, EngineError> {
        let mut next = self.written().clone();
        let opened = self.writer()?;
        let batch = Batch::new(steps, &mut next.digest, |key| opened.get(key))?;
        steps.iter().for_each(|step| next.applied.advance(step.head));
        self.write(&batch, &next.digest, Some(&next.applied))?;
        *self.written() = next;
        Ok(batch.roots)
    }

    fn applied(&self) -> Applied {
        self.written().applied.clone()
    }

    fn root(&self) -> Sum {
        self.written().digest.root()
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, EngineError> {
        let opened = self.reader()?;
        let snapshot = opened.database.snapshot();
        let applied = match snapshot.get(&opened.keyspace, META)? {
            Some(bytes) => postcard::from_bytes(&bytes)?,
            None => self.applied(),
        };
        let root = read_digest(&snapshot, &opened.keyspace)?.root();
        Ok(Arc::new(Pinned { snapshot, opened, applied, root }))
    }

    fn expired(&self, now_ms: u64, limit: usize) -> Result<Vec<(Bytes, Position)>, EngineError> {
        // An expiry of exactly `now_ms` is over: see `Record::is_live`.
        let range = [EXPIRY].to_vec()..expiry_key(now_ms.saturating_add(1), &[]).to_vec();
        let mut expired = Vec::new();
        for guard in self.writer()?.keyspace.range(range).take(limit) {
            let (key, version) = guard.into_inner()?;
            let key = Bytes::copy_from_slice(&key[1 + size_of::<u64>()..]);
            expired.push((key, postcard::from_bytes(&version)?));
        }
        Ok(expired)
    }

    fn persist(&self) -> Result<(), EngineError> {
        Ok(self.writer()?.database.persist(PersistMode::SyncAll)?)
    }

    fn reopen(&self) -> Result<bool, EngineError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.opened.as_ref().is_some_and(|opened| 1 < Arc::strong_count(opened)) {
            return Ok(false);
        }
        // The library locks the directory: the old one has to go first.
        (state.opened, state.serves) = (None, false);
        drop(state);
        let (opened, written) = Opened::new(&self.dir, &self.group)?;
        *self.written() = written;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.opened = Some(Arc::new(opened));
        Ok(true)
    }

    fn resume(&self) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).serves = true;
    }

    fn load(&self, records: Vec<(Bytes, Record)>) -> Result<(), EngineError> {
        let mut next = self.written().clone();
        let step = Step {
            head: next.applied.head,
            mutations: records.into_iter().map(|(key, record)| (key, Some(record))).collect(),
            check: None,
        };
        let batch = Batch::new(&[Arc::new(step)], &mut next.digest, |_| Ok(None))?;
        self.write(&batch, &next.digest, None)?;
        *self.written() = next;
        Ok(())
    }

    fn loaded(&self, applied: Applied) -> Result<(), EngineError> {
        self.writer()?.keyspace.insert(META, encode(&applied))?;
        self.written().applied = applied;
        self.persist()
    }
}

struct Pinned {
    snapshot: fjall::Snapshot,
    opened: Arc<Opened>,
    applied: Applied,
    root: Sum,
}

impl Snapshot for Pinned {
    fn applied(&self) -> &Applied {
        &self.applied
    }

    fn root(&self) -> Sum {
        self.root
    }

    fn records(&self, start: Bound<Bytes>) -> Records<'_> {
        let spaces = [Space::Request, Space::User];
        let records = spaces.into_iter().flat_map(move |space| {
            let first = Bytes::copy_from_slice(&[space as u8]);
            let end = Bytes::copy_from_slice(&[space as u8 + 1]);
            let start = match &start {
                Bound::Included(key) | Bound::Excluded(key) if *key < first => {
                    Bound::Included(first)
                }
                Bound::Unbounded => Bound::Included(first),
                // Past this space: an empty range, which must still be a valid one.
                Bound::Included(key) | Bound::Excluded(key) if end <= *key => {
                    Bound::Included(end.clone())
                }
                within => within.clone(),
            };
            self.snapshot.range::<Bytes, _>(&self.opened.keyspace, (start, Bound::Excluded(end)))
        });
        Box::new(records.map(|guard| {
            let (key, value) = guard.into_inner()?;
            Ok((Bytes::copy_from_slice(&key), postcard::from_bytes(&value)?))
        }))
    }
}

fn read_digest(snapshot: &fjall::Snapshot, keyspace: &Keyspace) -> Result<Digest, EngineError> {
    let mut buckets = Vec::new();
    for guard in snapshot.prefix(keyspace, [BUCKET]) {
        let (key, value) = guard.into_inner()?;
        let bucket = key[1..].try_into().map(u16::from_be_bytes);
        let sum = (*value).try_into().map(u128::from_le_bytes);
        let (Ok(bucket), Ok(sum)) = (bucket, sum) else {
            return Err(postcard::Error::DeserializeBadEncoding.into());
        };
        if usize::from(bucket) < BUCKETS {
            buckets.push((usize::from(bucket), Sum(sum)));
        }
    }
    Ok(Digest::from_buckets(buckets))
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("records are plain data, which postcard always encodes")
}

fn bucket_key(bucket: usize) -> [u8; 3] {
    let [high, low] = (bucket as u16).to_be_bytes();
    [BUCKET, high, low]
}

fn expiry_key(at_ms: u64, key: &[u8]) -> Bytes {
    let mut expiry = BytesMut::with_capacity(1 + size_of::<u64>() + key.len());
    expiry.put_u8(EXPIRY);
    expiry.put_u64(at_ms);
    expiry.put_slice(key);
    expiry.freeze()
}
