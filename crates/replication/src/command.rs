//! What an entry does to the state. Everything that depends on the moment (conditions, expiry,
//! repeats) was decided by the primary before it logged the entry, so applying is a function of
//! the entry alone.
//!
//! Keys here begin with a byte for their [`Space`]. An idempotency key is a record like any
//! other, in its own space: it is replicated, digested, listed in snapshots and expires by the
//! same rules as users' keys.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{Index, Position, digest::Sum};

/// What a key is for: the first byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Space {
    /// Idempotency keys. The value is a fingerprint of the request, the version its outcome.
    Request = b'i',
    /// Users' keys.
    User = b'k',
}

impl Space {
    /// `name` in this space.
    #[must_use]
    pub fn key(self, name: &[u8]) -> Bytes {
        let mut key = BytesMut::with_capacity(1 + name.len());
        key.put_u8(self as u8);
        key.put_slice(name);
        key.freeze()
    }
}

/// One entry's content. Variants and fields are only ever added at the end: postcard numbers
/// them by their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of a history. The nonce makes its hash, hence the whole history, unlike
    /// any other, so that a primary that lost its disk is not taken for its former self.
    Found {
        /// Random, from the caller.
        nonce: u128,
    },
    /// The first entry of every later epoch: once it is committed, so is all before it.
    Begin,
    /// Changes that happen together.
    Write {
        /// In order; of several on one key the last one stays.
        changes: Vec<Change>,
    },
    /// Keys whose time was over when the primary looked.
    Expire {
        /// With their space.
        keys: Vec<Bytes>,
    },
    /// What the state's digest was on the primary, for replicas to compare.
    Digest {
        /// When.
        at: Index,
        /// The root.
        root: Sum,
    },
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Sets it.
    Put {
        /// With its space.
        key: Bytes,
        /// The payload, never looked into.
        value: Bytes,
        /// What a reader is told it is.
        content_type: Option<String>,
        /// Milliseconds since 1970.
        expires_at_ms: Option<u64>,
    },
    /// Removes it.
    Delete {
        /// With its space.
        key: Bytes,
    },
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The entry that wrote it.
    pub version: Position,
    /// Milliseconds since 1970.
    pub expires_at_ms: Option<u64>,
    /// See [`Change::Put`].
    pub content_type: Option<String>,
    /// See [`Change::Put`].
    pub value: Bytes,
}

impl Record {
    /// Whether readers see it at `now_ms`. Until the primary logs its expiry it stays in the
    /// state, so that digests do not depend on anyone's clock.
    #[must_use]
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|at| now_ms < at)
    }
}

/// A record was set, or a key removed.
pub type Mutation = (Bytes, Option<Record>);

/// A log entry's command that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("the command at {at} is of format {format}, which this version does not read")]
pub struct UnknownCommand {
    at: Position,
    format: u8,
    #[source]
    source: Option<postcard::Error>,
}

/// The first byte of every command.
const FORMAT: u8 = 1;

impl Command {
    /// For the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![FORMAT])
            .expect("a command is plain data, which postcard always encodes")
            .into()
    }

    /// From the log.
    pub fn decode(at: Position, bytes: &[u8]) -> Result<Self, UnknownCommand> {
        let (&format, rest) =
            bytes.split_first().ok_or(UnknownCommand { at, format: 0, source: None })?;
        if format != FORMAT {
            return Err(UnknownCommand { at, format, source: None });
        }
        postcard::from_bytes(rest).map_err(|source| UnknownCommand {
            at,
            format,
            source: Some(source),
        })
    }

    /// Whether it lets records go or is an epoch's own, so that a full disk takes it.
    #[must_use]
    pub fn is_freeing(&self) -> bool {
        let deletes = |change: &Change| match change {
            Change::Delete { .. } => true,
            // A delete may carry an idempotency key.
            Change::Put { key, .. } => key.first() == Some(&(Space::Request as u8)),
        };
        match self {
            Self::Found { .. } | Self::Begin | Self::Expire { .. } => true,
            Self::Write { changes } => changes.iter().all(deletes),
            Self::Digest { .. } => false,
        }
    }

    /// What it does to the state when it stands at `at`, in order.
    #[must_use]
    pub fn mutations(self, at: Position) -> Vec<Mutation> {
        match self {
            Self::Found { .. } | Self::Begin | Self::Digest { .. } => Vec::new(),
            Self::Expire { keys } => keys.into_iter().map(|key| (key, None)).collect(),
            Self::Write { changes } => changes
                .into_iter()
                .map(|change| match change {
                    Change::Delete { key } => (key, None),
                    Change::Put { key, value, content_type, expires_at_ms } => {
                        (key, Some(Record { version: at, expires_at_ms, content_type, value }))
                    }
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_the_log() {
        let put = Change::Put {
            key: Space::User.key(b"\xff/a"),
            value: Bytes::from_static(b"\0"),
            content_type: Some("text/plain".into()),
            expires_at_ms: Some(5),
        };
        let delete = Change::Delete { key: Space::User.key(b"b") };
        let command = Command::Write { changes: vec![put, delete] };
        let at = Position::default();
        assert_eq!(Command::decode(at, &command.encode()).unwrap(), command);
    }

    #[test]
    fn garbage_and_newer_formats_are_refused_not_guessed() {
        let at = Position::default();
        for bytes in [&b""[..], b"\x02\x01", b"\x01\xee", b"\x01"] {
            assert!(Command::decode(at, bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn expiry_is_the_moment_itself() {
        let mut record = Record {
            version: Position::default(),
            expires_at_ms: Some(10),
            content_type: None,
            value: Bytes::new(),
        };
        assert!(record.is_live(9) && !record.is_live(10));
        record.expires_at_ms = None;
        assert!(record.is_live(u64::MAX));
    }
}
