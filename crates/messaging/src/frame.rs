//! How a command lies in a log entry.
//!
//! ```text
//! version (1 byte) | stamp (8 bytes, little endian) | command (postcard) | record | record | …
//! record = envelope (postcard) | body
//! ```
//!
//! The stamp is the time at which a leader took the command, in milliseconds since 1970. It has a
//! fixed place so that a leader can put its own there for a command that another node took.
//!
//! The command holds the lengths of its records, so applying it touches neither envelopes nor
//! bodies, and a body is handed out as a slice of the entry.

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ids::Millis;

/// The version of commands that this code writes.
pub const VERSION: u8 = 3;
/// Where the command begins: after version and stamp.
const HEAD: usize = 9;

/// What travels with a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The key of a published message, or the group of a queued one.
    pub key: Option<String>,
    /// As the publisher named it.
    pub content_type: String,
    /// In the order they came; names are lower case and distinct.
    pub attributes: Vec<(String, String)>,
    /// Where the message was before, if it was dead-lettered.
    pub dead_letter: Option<Box<DeadLetterNote>>,
}

impl Envelope {
    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why and from where a message was dead-lettered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterNote {
    /// `queue/NAME` or `topic/NAME/subscription/NAME`.
    pub source: String,
    /// The message's id there.
    pub source_id: String,
    /// Why it was given up.
    pub reason: String,
    /// What was said when it was last given back as failed.
    pub failure: Option<String>,
    /// How often it had been delivered.
    pub deliveries: u32,
    /// When it was moved.
    pub moved_ms: u64,
    /// Earlier moves, oldest first.
    pub history: Vec<String>,
}

/// A message as it is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What travels with the body.
    pub envelope: Envelope,
    /// The payload, opaque.
    pub body: Bytes,
}

/// The lengths of one record, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSize {
    /// Of the encoded envelope.
    pub envelope: u32,
    /// Of the body.
    pub body: u32,
}

impl RecordSize {
    /// Both together: what a message counts against capacities and retention.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.envelope as u64 + self.body as u64
    }
}

/// Records encoded one after the other, with their lengths.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// The lengths, in order.
    pub sizes: Vec<RecordSize>,
}

impl Records {
    /// Room for records of about this many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), sizes: Vec::new() }
    }

    /// Appends one record.
    pub fn push(&mut self, envelope: &Envelope, body: &[u8]) {
        let start = self.bytes.len();
        self.bytes = postcard::to_extend(envelope, std::mem::take(&mut self.bytes))
            .expect("an envelope is plain data, a vector grows");
        let envelope = to_u32(self.bytes.len() - start);
        self.bytes.extend_from_slice(body);
        self.sizes.push(RecordSize { envelope, body: to_u32(body.len()) });
    }

    /// Their bytes, all together.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }
}

fn to_u32(len: usize) -> u32 {
    u32::try_from(len).expect("message and attribute limits are far below 4 GiB")
}

/// The payload of a log entry: the command, then the records it speaks of.
pub fn encode(stamp: Millis, command: &impl Serialize, records: &Records) -> Bytes {
    let mut bytes = Vec::with_capacity(HEAD + 32 + records.sizes.len() * 8 + records.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&stamp.to_le_bytes());
    let mut bytes =
        postcard::to_extend(command, bytes).expect("a command is plain data, a vector grows");
    bytes.extend_from_slice(&records.bytes);
    Bytes::from(bytes)
}

/// The payload of a log entry that brings bytes of no further form: the command, then these.
pub fn encode_with(stamp: Millis, command: &impl Serialize, body: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEAD + 64 + body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&stamp.to_le_bytes());
    let mut bytes =
        postcard::to_extend(command, bytes).expect("a command is plain data, a vector grows");
    bytes.extend_from_slice(body);
    Bytes::from(bytes)
}

/// What a payload holds besides its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<C> {
    /// When a leader took the command.
    pub stamp: Millis,
    /// The command.
    pub command: C,
    /// The byte at which the records begin.
    pub records: usize,
}

/// Splits a payload into its parts.
pub fn decode<C: DeserializeOwned>(payload: &[u8]) -> Result<Decoded<C>, DecodeError> {
    let stamp = stamp(payload)?;
    let (command, records) = postcard::take_from_bytes(&payload[HEAD..])
        .map_err(|source| DecodeError::Malformed { source })?;
    Ok(Decoded { stamp, command, records: payload.len() - records.len() })
}

/// When a leader took the command of this payload.
pub fn stamp(payload: &[u8]) -> Result<Millis, DecodeError> {
    match payload {
        [] => Err(DecodeError::Empty),
        [VERSION, rest @ ..] => match rest.first_chunk() {
            Some(stamp) => Ok(Millis::from_le_bytes(*stamp)),
            None => Err(DecodeError::Short),
        },
        [version, ..] => Err(DecodeError::Version { version: *version }),
    }
}

/// The same command with another stamp. What is no command of this version stays as it is:
/// whoever applies it says so.
#[must_use]
pub fn restamp(payload: Bytes, to: Millis) -> Bytes {
    if stamp(&payload).is_err() {
        return payload;
    }
    let mut bytes = BytesMut::from(payload);
    bytes[1..HEAD].copy_from_slice(&to.to_le_bytes());
    bytes.freeze()
}

/// Takes one record out of a payload without copying its body. `None` if it is not there.
#[must_use]
pub fn record(payload: &Bytes, at: usize, size: RecordSize) -> Option<Record> {
    let body_at = at.checked_add(size.envelope as usize)?;
    let end = body_at.checked_add(size.body as usize)?;
    if payload.len() < end {
        return None;
    }
    let envelope = postcard::from_bytes(&payload[at..body_at]).ok()?;
    Some(Record { envelope, body: payload.slice(body_at..end) })
}

/// A log entry that is not a command of this version. Nothing else writes to these groups, so
/// this is a newer version's entry or damage that got past the checksums.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a version that this one does not know.
    #[error(
        "a command of version {version}, this program reads only {VERSION}; start it with the \
         data directory of its own version, or with an empty one"
    )]
    Version {
        /// As written.
        version: u8,
    },
    /// No bytes at all.
    #[error("an empty command")]
    Empty,
    /// Fewer bytes than a stamp takes.
    #[error("a command that ends within its head")]
    Short,
    /// Not what the version says.
    #[error("a command that cannot be decoded")]
    Malformed {
        /// Why not.
        #[source]
        source: postcard::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_as_a_slice_of_the_entry() {
        let envelope = Envelope {
            key: Some("k".into()),
            content_type: "text/plain".into(),
            attributes: vec![("a".into(), "b".into())],
            dead_letter: None,
        };
        let mut records = Records::default();
        records.push(&Envelope::default(), b"first");
        records.push(&envelope, b"second");
        let payload = encode(5, &7_u32, &records);

        let decoded = decode::<u32>(&payload).unwrap();
        let start = decoded.records;
        assert_eq!((decoded.stamp, decoded.command), (5, 7));
        let first = record(&payload, start, records.sizes[0]).unwrap();
        assert_eq!(first.body, "first");
        let at = start + usize::try_from(records.sizes[0].total()).unwrap();
        let second = record(&payload, at, records.sizes[1]).unwrap();
        assert_eq!(second, Record { envelope, body: Bytes::from_static(b"second") });
        assert!(payload.as_ptr_range().contains(&second.body.as_ptr()));
    }

    #[test]
    fn foreign_bytes_are_an_error_and_not_a_panic() {
        let no_number = [&[VERSION, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0xff; 6]].concat();
        for bytes in [&[][..], &[200, 0], &[VERSION], &[VERSION, 0, 0, 0, 0, 0, 0, 0], &no_number] {
            assert!(decode::<u32>(bytes).is_err(), "{bytes:?}");
        }
        let payload = Bytes::from_static(&[1, 2, 3]);
        assert!(record(&payload, 2, RecordSize { envelope: 1, body: 9 }).is_none());
        assert!(record(&payload, usize::MAX, RecordSize { envelope: 1, body: 9 }).is_none());
    }

    #[test]
    fn a_leader_stamps_what_it_was_passed_and_changes_nothing_else() {
        let mut records = Records::default();
        records.push(&Envelope::default(), b"body");
        let payload = encode(5, &7_u32, &records);
        let stamped = restamp(payload.clone(), 6);
        assert_eq!(stamped, encode(6, &7_u32, &records));
        assert_eq!(stamp(&payload).unwrap(), 5, "others still hold the first one");
        let foreign = Bytes::from_static(&[1, 2, 3]);
        assert_eq!(restamp(foreign.clone(), 6), foreign);
    }

    #[test]
    fn an_entry_of_an_earlier_version_says_what_to_do() {
        let error = decode::<u32>(&[1, 7]).unwrap_err();
        assert!(matches!(error, DecodeError::Version { version: 1 }));
        assert!(error.to_string().contains("data directory"), "{error}");
    }
}
