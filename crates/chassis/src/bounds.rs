//! Bounds that a service keeps itself, on paths where those of the chassis would be wrong: a body
//! that is a conversation has no length, and whoever waits in line waits for others.

use std::sync::{Arc, OnceLock};

/// What of a path the service bounds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// How long an answer takes. A deadline of the caller's own counts all the same.
    Time,
    /// How long the body is, piece by piece.
    Length,
}

/// Paths with their own bounds. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Bounds(Arc<OnceLock<&'static [(&'static str, Own)]>>);

impl Bounds {
    /// From now on the service keeps these itself. It counts once per process: a service says it
    /// before it serves.
    pub fn set(&self, own: &'static [(&'static str, Own)]) {
        let _ = self.0.set(own);
    }

    /// What the service bounds itself at `path`.
    pub(crate) fn at(&self, path: &str) -> Option<Own> {
        self.0.get()?.iter().find(|(own, _)| *own == path).map(|(_, own)| *own)
    }
}
