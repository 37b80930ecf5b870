//! The store as a replicated state machine.

use bytes::Bytes;
use raft_node::{Entry, RestoreError, StateMachine};

use crate::store::{Command, Reply, Store};

#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) store: Store,
}

impl StateMachine for Machine {
    type Reply = Reply;

    fn apply(&mut self, entry: &Entry) -> Reply {
        // Skipping one would give another state than the members that could read it.
        let (stamp, caller, command) = Command::decode(&entry.payload).unwrap_or_else(|error| {
            panic!("entry {} of the log cannot be applied: {error}", entry.index.0)
        });
        self.store.apply_for(caller, stamp, command)
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Bytes + Send> {
        let store = self.store.clone();
        Box::new(move || store.encode().into())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.store =
            Store::decode(snapshot).map_err(|error| RestoreError { reason: error.to_string() })?;
        Ok(())
    }
}
