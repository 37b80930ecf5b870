//! Names for what is too long to be kept or compared.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::cluster::mix;

/// Only asked for what is in it, so that its order does not matter.
#[expect(clippy::disallowed_types, reason = "never iterated over")]
pub(super) type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Quick>>;

/// A quick hash of two lanes. One is for tables; both together, 128 bits, name what was hashed: among
/// ten million states two are taken for one with a chance of 10^-25.
#[derive(Default)]
pub(crate) struct Quick(u64, u64);

impl Quick {
    pub(crate) fn wide(&self) -> u128 {
        u128::from(self.finish()) << 64 | u128::from(mix(self.1, 0x1405_7b7e_f767_814f))
    }
}

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        mix(self.0, 0x5851_f42d_4c95_7f2d)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0.wrapping_add(1), word);
        let other = (self.1.rotate_left(23) ^ word).wrapping_add(0x2545_f491_4f6c_dd1d);
        self.1 = (other ^ other >> 32).wrapping_mul(0xff51_afd7_ed55_8ccd);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64((word >> 64) as u64);
        self.write_u64(word as u64);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

pub(crate) fn hash_of(value: &impl Hash) -> u128 {
    let mut hasher = Quick::default();
    value.hash(&mut hasher);
    hasher.wide()
}
