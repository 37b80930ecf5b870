//! The whole store as bytes, and back.
//!
//! Layout: one byte version, then postcard of [`Head`], the number of records, each record (by
//! key, the changes of one key oldest first), and (from version 2 on) postcard of a list of
//! [`Section`]s. The log by revision and the keys of each lease are not written; they follow from
//! the records. What the store learns to hold gets a section of its own, left out while it is
//! empty, so that nothing that was written before changes its form.

use std::convert::Infallible;

use bytes::Bytes;
use imbl::OrdSet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Store;
use super::auth::Auth;
use super::command::AlarmKind;
use super::ids::{LeaseId, Revision};
use super::lease::{Lease, Leases};
use super::mvcc::{Mvcc, Record};
use super::requests::Requests;

const VERSION: u8 = 2;
/// Snapshots of this version end behind the records.
const WITHOUT_SECTIONS: u8 = 1;

/// One thing the store holds besides head and records. Tags are never used again.
#[derive(Serialize, Deserialize)]
struct Section {
    tag: u8,
    /// Postcard of what the tag says.
    body: Bytes,
}

/// Requests that may come again.
const REQUESTS: u8 = 1;
/// Users, roles, tokens.
const AUTH: u8 = 2;
/// The write that found no space.
const SPACE: u8 = 3;
/// Leases that end with their last key.
const SCOPED_LEASES: u8 = 4;
/// In which term the last command was made.
const TERM: u8 = 5;

#[derive(Serialize, Deserialize)]
struct Head {
    now_ms: u64,
    cluster_id: u64,
    revision: Revision,
    compacted: Revision,
    leases_chosen: u64,
    leases: Vec<Lease>,
    alarms: Vec<(u64, AlarmKind)>,
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(
        "a snapshot of version {0} was written by a newer program; this one knows up to {VERSION}"
    )]
    Version(u8),
    #[error("a snapshot holds a section {0} of a newer program")]
    Section(u8),
    #[error("a snapshot is empty")]
    Empty,
    #[error("a snapshot cannot be decoded")]
    Malformed(#[from] postcard::Error),
    #[error("a snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
}

impl Store {
    /// Equal stores give equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // What the quota counts is somewhat more than this takes, and untouched pages cost nothing:
        // growing step by step would hold it twice.
        let mut all = Vec::with_capacity(usize::try_from(self.used_bytes()).unwrap_or(0));
        let outcome: Result<(), Infallible> = self.encode_to(|bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        });
        let Ok(()) = outcome;
        all
    }

    /// As [`Store::encode`], a record at a time, so that nobody holds all of it.
    pub fn encode_to<E>(&self, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut buffer = write(&self.head(), vec![VERSION]);
        buffer = write(&(self.mvcc.record_count() as u64), buffer);
        sink(&buffer)?;
        for record in self.mvcc.records() {
            buffer.clear();
            buffer = write(record, buffer);
            sink(&buffer)?;
        }
        sink(&write(&self.sections(), Vec::new()))
    }

    fn head(&self) -> Head {
        let (leases_chosen, leases) = self.leases.image();
        Head {
            now_ms: self.now_ms,
            cluster_id: self.cluster_id,
            revision: self.mvcc.revision,
            compacted: self.mvcc.compacted,
            leases_chosen,
            leases,
            alarms: self.alarms.iter().copied().collect(),
        }
    }

    fn sections(&self) -> Vec<Section> {
        let section = |tag, body: Vec<u8>| Section { tag, body: body.into() };
        let mut sections = Vec::new();
        if !self.requests.is_empty() {
            sections.push(section(REQUESTS, write(&self.requests.image(), Vec::new())));
        }
        if !self.auth.is_new() {
            sections.push(section(AUTH, write(&self.auth.image(), Vec::new())));
        }
        if let Some(wanted) = self.space_wanted {
            sections.push(section(SPACE, write(&wanted, Vec::new())));
        }
        let scoped = self.leases.scoped();
        if !scoped.is_empty() {
            sections.push(section(SCOPED_LEASES, write(&scoped, Vec::new())));
        }
        if self.term != 0 {
            sections.push(section(TERM, write(&self.term, Vec::new())));
        }
        sections
    }

    fn read_section(&mut self, section: &Section) -> Result<(), SnapshotError> {
        match section.tag {
            REQUESTS => self.requests = Requests::from_image(read(&section.body)?),
            AUTH => self.auth = Auth::from_image(read(&section.body)?),
            SPACE => self.space_wanted = Some(read(&section.body)?),
            SCOPED_LEASES => self.leases.set_scoped(read(&section.body)?),
            TERM => self.term = read(&section.body)?,
            tag => return Err(SnapshotError::Section(tag)),
        }
        Ok(())
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (version, body) = match bytes.split_first() {
            Some((&version @ WITHOUT_SECTIONS..=VERSION, body)) => (version, body),
            Some((version, _)) => return Err(SnapshotError::Version(*version)),
            None => return Err(SnapshotError::Empty),
        };
        let (head, rest) = postcard::take_from_bytes::<Head>(body)?;
        let (mut store, rest) = Self::from_head(head, rest)?;
        if version != WITHOUT_SECTIONS {
            let sections: Vec<Section> = read(rest)?;
            sections.iter().try_for_each(|section| store.read_section(section))?;
        }
        Ok(store)
    }

    /// The store with its records, and what follows them.
    fn from_head(head: Head, rest: &[u8]) -> Result<(Self, &[u8]), SnapshotError> {
        let (count, mut rest) = postcard::take_from_bytes::<u64>(rest)?;
        let mvcc = Mvcc::between(head.compacted, head.revision, count);
        let mut mvcc = mvcc.ok_or(SnapshotError::Inconsistent("there are too few records"))?;
        for _ in 0..count {
            let (record, behind) = postcard::take_from_bytes::<Record>(rest)?;
            if head.revision < record.mod_revision {
                return Err(SnapshotError::Inconsistent("a record is newer than the store"));
            }
            mvcc.load(record);
            rest = behind;
        }
        let mut leases = Leases::from_image(head.leases_chosen, head.leases);
        for record in mvcc.scan(&super::KeyRange::all(), None) {
            if record.lease != LeaseId::NONE {
                leases.attach(record.lease, &record.key);
            }
        }
        let alarms: OrdSet<_> = head.alarms.into_iter().collect();
        let Head { cluster_id, now_ms, .. } = head;
        let store = Self { mvcc, leases, alarms, cluster_id, now_ms, ..Self::default() };
        Ok((store, rest))
    }
}

fn write(data: &impl Serialize, buffer: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(data, buffer).expect("a snapshot is plain data, and a Vec grows as needed")
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SnapshotError> {
    Ok(postcard::from_bytes(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Delete, KeyRange, Op, Put, Request, Stamp, Txn};
    use super::*;

    const STAMP: Stamp = Stamp { now_ms: 5, quota_bytes: u64::MAX };

    fn put(key: &'static str) -> Command {
        let value = Some("v".into());
        let lease = Some(LeaseId::NONE);
        Command::Txn(Txn::always(Op::Put(Put { key: key.into(), value, lease, previous: false })))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the first programs wrote: disks hold it.
    #[test]
    fn no_lease_runs_between_two_leaders_whatever_their_clocks_say() {
        let at = |now_ms| Stamp { now_ms, quota_bytes: u64::MAX };
        let mut store = Store::default();
        store.enter_term(1, at(1_000));
        let grant = Command::Grant { id: LeaseId(7), ttl_seconds: 2 };
        store.apply(at(1_000), grant);
        // Whoever reads a snapshot knows in which term it was made.
        let mut store = Store::decode(&store.encode()).unwrap();
        store.enter_term(1, at(1_500));
        store.apply(at(1_500), Command::Tick);
        store.enter_term(2, at(9_000));
        store.apply(at(9_000), Command::Tick);
        let left = store.leases.get(LeaseId(7)).unwrap().deadline_ms - store.now_ms();
        assert_eq!(left, 1_500);
    }

    #[test]
    fn a_snapshot_of_version_1_is_read() {
        let mut store = Store::default();
        store.apply(STAMP, Command::Found { cluster_id: 3 });
        store.apply(STAMP, put("k"));
        let old = [1, 5, 3, 2, 0, 0, 0, 0, 1, 1, b'k', 1, b'v', 2, 2, 1, 0, 0];
        assert_eq!(Store::decode(&old).unwrap().encode(), store.encode());
    }

    /// Disks hold these bytes as well: see the layout above before changing any.
    #[test]
    fn the_encoding_is_stable() {
        let mut store = Store::default();
        let once = |key: &'static str, command| Command::Once {
            request: Request { key: key.into(), fingerprint: 9 },
            command: Box::new(command),
        };
        let delete = Delete { range: KeyRange::all(), previous: false };
        store.apply(STAMP, once("a", put("k")));
        store.apply(STAMP, once("b", Command::Txn(Txn::always(Op::Delete(delete)))));
        store.apply(STAMP, once("c", Command::Grant { id: LeaseId(7), ttl_seconds: 1 }));
        let encoded = store.encode();
        // Version and numbers, the lease, no alarm, two records, then one section of 48 bytes.
        let image = "020500030000\
                     010e01ed0700\
                     00\
                     02016b01760202010000016b000003000000";
        let requests = "010130\
                        03\
                        016109e5a712000102010102016b00020201000000\
                        016209e5a7120001030102030100\
                        016309e5a712020e01ed0700";
        assert_eq!(hex(&encoded), format!("{image}{requests}"));
        assert_eq!(Store::decode(&encoded).unwrap().encode(), encoded);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let encoded = Store::default().encode();
        for len in 1..encoded.len() {
            let cut = Store::decode(&encoded[..len]);
            assert!(matches!(cut, Err(SnapshotError::Malformed(_))), "{len}");
        }
        assert!(matches!(Store::decode(&[]), Err(SnapshotError::Empty)));
        assert!(matches!(Store::decode(&[3]), Err(SnapshotError::Version(3))));
        let head = Head { revision: Revision(u64::MAX), ..Store::default().head() };
        let endless = write(&(head, 0u64), vec![VERSION]);
        assert!(matches!(Store::decode(&endless), Err(SnapshotError::Inconsistent(_))));
        let unknown = [&encoded[..encoded.len() - 1], &[1, 99, 0]].concat();
        assert!(matches!(Store::decode(&unknown), Err(SnapshotError::Section(99))));
    }
}
