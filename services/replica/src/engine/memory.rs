//! The oracle: the same contract on an ordered map, simple enough to be right by looking at it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use replication::Position;
use replication::command::Record;
use replication::digest::{Digest, Sum};

use super::{Applied, Engine, EngineError, Records, Snapshot, Step};

pub(crate) struct Memory(Mutex<State>);

#[derive(Clone)]
struct State {
    applied: Applied,
    records: BTreeMap<Bytes, Record>,
}

impl Memory {
    pub(crate) fn new(group: &str) -> Self {
        Self(Mutex::new(State { applied: Applied::nothing(group), records: BTreeMap::new() }))
    }
}

impl State {
    /// From scratch every time: nothing incremental to get wrong.
    fn root(&self) -> Sum {
        let mut digest = Digest::default();
        for (key, record) in &self.records {
            digest.replace(key, None, Some(record));
        }
        digest.root()
    }
}

impl Engine for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Record>, EngineError> {
        Ok(self.0.lock().unwrap().records.get(key).cloned())
    }

    fn apply(&self, steps: &[Arc<Step>]) -> Result<Vec<Sum>, EngineError> {
        let mut state = self.0.lock().unwrap();
        let mut roots = Vec::new();
        for step in steps {
            for (key, record) in step.mutations.iter().cloned() {
                match record {
                    Some(record) => state.records.insert(key, record),
                    None => state.records.remove(&key),
                };
            }
            state.applied.advance(step.head);
            roots.push(state.root());
        }
        Ok(roots)
    }

    fn applied(&self) -> Applied {
        self.0.lock().unwrap().applied.clone()
    }

    fn root(&self) -> Sum {
        self.0.lock().unwrap().root()
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, EngineError> {
        Ok(Arc::new(self.0.lock().unwrap().clone()))
    }

    fn expired(&self, now_ms: u64, limit: usize) -> Result<Vec<(Bytes, Position)>, EngineError> {
        let state = self.0.lock().unwrap();
        let mut expired: Vec<_> =
            state.records.iter().filter(|(_, record)| !record.is_live(now_ms)).collect();
        expired.sort_by_key(|(key, record)| (record.expires_at_ms, (*key).clone()));
        Ok(expired.into_iter().take(limit).map(|(k, r)| (k.clone(), r.version)).collect())
    }

    fn persist(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn reopen(&self) -> Result<bool, EngineError> {
        Ok(true)
    }

    fn resume(&self) {}

    fn load(&self, records: Vec<(Bytes, Record)>) -> Result<(), EngineError> {
        self.0.lock().unwrap().records.extend(records);
        Ok(())
    }

    fn loaded(&self, applied: Applied) -> Result<(), EngineError> {
        self.0.lock().unwrap().applied = applied;
        Ok(())
    }
}

impl Snapshot for State {
    fn applied(&self) -> &Applied {
        &self.applied
    }

    fn root(&self) -> Sum {
        Self::root(self)
    }

    fn records(&self, start: Bound<Bytes>) -> Records<'_> {
        let records = self.records.range((start, Bound::Unbounded));
        Box::new(records.map(|(key, record)| Ok((key.clone(), record.clone()))))
    }
}
