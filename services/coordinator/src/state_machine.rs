//! The store as a replicated state machine, and as readers see it.
//!
//! The apply task is the only one that changes the store. Readers take clones, which are cheap and
//! shared: one is made when the first reader comes after a change, and let go with the next change;
//! for as long as a clone lives, each change copies what it touches.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raft_node::{Encode, Entry, Group, RestoreError, StateMachine};

use crate::store::{Command, Reply, Snapshot, Store};

/// The store, for any number of readers: never older than an answer that this node gave, and never
/// going back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Newest(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Every answer of the etcd face names it.
    cluster_id: AtomicU64,
    /// Every request asks for it.
    auth_enabled: AtomicBool,
    /// The last stamp, which every command goes on from.
    now_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    store: Store,
    /// Of the store as it is now.
    snapshot: Option<Snapshot>,
}

impl Newest {
    /// Without holding up a thread while a command is applied, which may take long: behind it.
    pub(crate) async fn current(&self, group: &Group<Machine>) -> Snapshot {
        if let Some(newest) = self.try_load() {
            return newest;
        }
        match group.local(|machine| machine.newest()).await {
            Ok(newest) => newest,
            // Then nothing is being applied either.
            Err(_stopped) => self.load(),
        }
    }

    /// `None` while a command is being applied.
    fn try_load(&self) -> Option<Snapshot> {
        match self.0.state.try_lock() {
            Ok(mut state) => Some(state.snapshot()),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => {
                Some(poisoned.into_inner().snapshot())
            }
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// Waits for the command that is being applied: for those who ask rarely.
    pub(crate) fn load(&self) -> Snapshot {
        self.0.lock().snapshot()
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.0.cluster_id.load(Relaxed)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.0.now_ms.load(Relaxed)
    }

    pub(crate) fn is_auth_enabled(&self) -> bool {
        self.0.auth_enabled.load(Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, store: &Store) {
        self.cluster_id.store(store.cluster_id(), Relaxed);
        self.auth_enabled.store(store.auth.is_enabled(), Relaxed);
        self.now_ms.store(store.now_ms(), Relaxed);
    }
}

impl State {
    fn snapshot(&mut self) -> Snapshot {
        Arc::clone(self.snapshot.get_or_insert_with(|| Arc::new(self.store.clone())))
    }
}

#[derive(Debug)]
pub(crate) struct Machine(Arc<Shared>);

impl Machine {
    pub(crate) fn new(newest: &Newest) -> Self {
        Self(Arc::clone(&newest.0))
    }

    fn newest(&self) -> Snapshot {
        self.0.lock().snapshot()
    }
}

impl StateMachine for Machine {
    type Reply = Reply;

    fn apply(&mut self, entry: &Entry) -> Reply {
        // Skipping one would give another state than the members that could read it.
        let (stamp, caller, command) = Command::decode(&entry.payload).unwrap_or_else(|error| {
            panic!("entry {} of the log cannot be applied: {error}", entry.index.0)
        });
        let mut state = self.0.lock();
        state.snapshot = None;
        state.store.enter_term(entry.term.0, stamp);
        let reply = state.store.apply_for(caller, stamp, command);
        self.0.note(&state.store);
        reply
    }

    fn snapshot(&self) -> Encode {
        let store = self.newest();
        Box::new(move |file| store.encode_to(|bytes| file.write_all(bytes)))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let store =
            Store::decode(snapshot).map_err(|error| RestoreError { reason: error.to_string() })?;
        self.0.note(&store);
        *self.0.lock() = State { store, snapshot: None };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_a_clone_until_the_next_change() {
        let newest = Newest::default();
        let mut machine = Machine::new(&newest);
        let first = newest.load();
        assert!(Arc::ptr_eq(&first, &newest.load()));
        machine.restore(&Store::default().encode()).unwrap();
        assert!(!Arc::ptr_eq(&first, &newest.load()));
    }

    #[test]
    fn nobody_waits_for_a_command_without_wanting_to() {
        let newest = Newest::default();
        let applying = newest.0.lock();
        assert!(newest.try_load().is_none());
        drop(applying);
        assert!(newest.try_load().is_some());
    }
}
