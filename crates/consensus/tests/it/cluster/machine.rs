//! The state machine of the tests: a few registers, and a hash of all it has applied.

use bytes::Bytes;
use consensus::{Entry, EntryKind, Index};

pub(crate) const REGISTERS: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Machine {
    pub(crate) applied: Index,
    pub(crate) hash: u64,
    pub(crate) registers: [u64; REGISTERS],
}

/// Writes `value` into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Command {
    pub(crate) register: u8,
    pub(crate) value: u64,
}

impl Command {
    pub(crate) fn encode(self) -> Bytes {
        let mut bytes = vec![self.register];
        bytes.extend(self.value.to_le_bytes());
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (register, value) = bytes.split_first()?;
        Some(Self { register: *register, value: u64::from_le_bytes(value.try_into().ok()?) })
    }
}

impl Machine {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.index, self.applied.next(), "a machine applies without gaps");
        self.applied = entry.index;
        self.hash = mix(self.hash, content(entry));
        if entry.kind == EntryKind::Command
            && let Some(Command { register, value }) = Command::decode(&entry.payload)
        {
            self.registers[usize::from(register)] = value;
        }
    }
}

/// A number for what an entry says; equal for equal entries.
pub(crate) fn content(entry: &Entry) -> u64 {
    let head = mix(mix(entry.index.0, entry.term.0), entry.kind as u64);
    entry.payload.chunks(8).fold(head, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash, u64::from_le_bytes(word))
    })
}

/// One step of a hash that is quick rather than strong.
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.rotate_left(29) ^ (mixed >> 31)
}
