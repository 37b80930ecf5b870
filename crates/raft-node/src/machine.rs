//! What a service replicates.

use std::any::Any;
use std::io::{self, Write};
use std::ops::RangeInclusive;

use consensus::Index;
use storage::Entry;

/// Writes a state, in pieces of any size. Fails only if the writer does.
pub type Encode = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// A deterministic state machine: the same entries give the same state and the same replies on
/// every node and after every restart. Time and randomness reach it only inside commands.
///
/// A machine may keep a part that is not replicated (leases of deliveries, waiting readers). Only
/// [`Group::local`](crate::Group::local) may change it, snapshots leave it out, and a restart
/// forgets it.
pub trait StateMachine: Send + 'static {
    /// What the proposer is told.
    type Reply: Send + 'static;

    /// Applies one committed entry. It cannot fail: a command that does not fit the state is
    /// answered with a reply that says so, and changes nothing.
    fn apply(&mut self, entry: &Entry) -> Self::Reply;

    /// Takes the state as of the last applied entry. The clone must be cheap; the returned
    /// closure encodes it on another thread, straight to the disk.
    fn snapshot(&self) -> Encode;

    /// Becomes the state that `snapshot` encodes, whatever it was: a fresh machine at a start, or
    /// one that lags behind its leader.
    ///
    /// # Errors
    ///
    /// When the bytes are not a snapshot of this kind of machine or of a version it knows.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError>;

    /// The entries at or below the last applied one whose payloads are still read from the log,
    /// ascending and disjoint. All others may go once a snapshot covers them. What reaches beyond
    /// the last applied one stands for everything up to it, be it a command or not.
    fn retained(&self) -> Vec<RangeInclusive<Index>> {
        Vec::new()
    }
}

/// A snapshot that does not decode.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot cannot be read: {reason}")]
pub struct RestoreError {
    /// What is wrong with it.
    pub reason: String,
}

/// A machine whose type only its [`Group`](crate::Group) knows.
pub(crate) trait AnyMachine: Send {
    fn apply(&mut self, entry: &Entry) -> Box<dyn Any + Send>;
    /// For replay, where nobody waits for the reply.
    fn replay(&mut self, entry: &Entry);
    fn snapshot(&self) -> Encode;
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError>;
    fn retained(&self) -> Vec<RangeInclusive<Index>>;
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<M: StateMachine> AnyMachine for M {
    fn apply(&mut self, entry: &Entry) -> Box<dyn Any + Send> {
        Box::new(StateMachine::apply(self, entry))
    }

    fn replay(&mut self, entry: &Entry) {
        StateMachine::apply(self, entry);
    }

    fn snapshot(&self) -> Encode {
        StateMachine::snapshot(self)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        StateMachine::restore(self, snapshot)
    }

    fn retained(&self) -> Vec<RangeInclusive<Index>> {
        StateMachine::retained(self)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
