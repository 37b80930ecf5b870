//! One file: what it reads as, what is durable of it, and what lies between.

use super::SECTOR;
use crate::rng::Rng;

#[derive(Clone, Debug, Default)]
pub(crate) struct Inode {
    pub(crate) current: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Allocate(usize),
}

impl Inode {
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self { current: bytes.clone(), durable: bytes, unsynced: Vec::new() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.current.len() as u64
    }

    pub(crate) fn write(&mut self, bytes: &[u8], position: u64) {
        let at = usize::try_from(position).expect("small in tests");
        put(&mut self.current, at, bytes);
        self.unsynced.push(Change::Write { at, bytes: bytes.to_vec() });
    }

    pub(crate) fn allocate(&mut self, len: u64) {
        let len = usize::try_from(len).expect("small in tests");
        grow(&mut self.current, len);
        self.unsynced.push(Change::Allocate(len));
    }

    pub(crate) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { at, bytes } => put(&mut self.durable, at, &bytes),
                Change::Allocate(len) => grow(&mut self.durable, len),
            }
        }
    }

    /// A sync failed: the kernel takes the pages for clean, and the disk never gets them.
    pub(crate) fn forget_unsynced(&mut self) {
        self.unsynced.clear();
    }

    /// Leaves what was synced, and by chance some sectors of what was not, in any order.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let mut sectors = Vec::new();
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { at, bytes } => split(at, &bytes, &mut sectors),
                Change::Allocate(len) => {
                    if rng.chance(1, 2) {
                        grow(&mut self.durable, len);
                    }
                }
            }
        }
        // All, none, the first few, or any of them.
        let kept = match rng.range(0..6) {
            0 => sectors.len(),
            1 => 0,
            2 | 3 => rng.index(sectors.len() + 1),
            _ => {
                rng.shuffle(&mut sectors);
                rng.index(sectors.len() + 1)
            }
        };
        for (at, bytes) in &sectors[..kept] {
            put(&mut self.durable, *at, bytes);
        }
        self.current.clone_from(&self.durable);
    }
}

/// Cuts a write where the sectors of the disk end.
fn split(mut at: usize, mut bytes: &[u8], into: &mut Vec<(usize, Vec<u8>)>) {
    while !bytes.is_empty() {
        let len = (SECTOR - at % SECTOR).min(bytes.len());
        into.push((at, bytes[..len].to_vec()));
        bytes = &bytes[len..];
        at += len;
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    grow(file, at + bytes.len());
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn grow(file: &mut Vec<u8>, len: usize) {
    if file.len() < len {
        file.resize(len, 0);
    }
}
