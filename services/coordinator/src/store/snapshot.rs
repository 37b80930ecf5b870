//! The whole store as bytes, and back.
//!
//! Layout: one byte version, then postcard of [`Image`]. The log by revision and the keys of each
//! lease are not written; they follow from the records.

use std::borrow::Cow;

use imbl::OrdSet;
use serde::{Deserialize, Serialize};

use super::Store;
use super::command::AlarmKind;
use super::ids::{LeaseId, Revision};
use super::lease::{Lease, Leases};
use super::mvcc::{Mvcc, Record};

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Image<'a> {
    now_ms: u64,
    cluster_id: u64,
    revision: Revision,
    compacted: Revision,
    leases_chosen: u64,
    leases: Vec<Lease>,
    alarms: Vec<(u64, AlarmKind)>,
    /// By key, the changes of one key oldest first.
    records: Vec<Cow<'a, Record>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(
        "a snapshot of version {0} was written by a newer program; this one knows up to {VERSION}"
    )]
    Version(u8),
    #[error("a snapshot is empty")]
    Empty,
    #[error("a snapshot cannot be decoded")]
    Malformed(#[source] postcard::Error),
    #[error("a snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
}

impl Store {
    /// Equal stores give equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (leases_chosen, leases) = self.leases.image();
        let image = Image {
            now_ms: self.now_ms,
            cluster_id: self.cluster_id,
            revision: self.mvcc.revision,
            compacted: self.mvcc.compacted,
            leases_chosen,
            leases,
            alarms: self.alarms().collect(),
            records: self.mvcc.records().map(Cow::Borrowed).collect(),
        };
        postcard::to_extend(&image, vec![VERSION])
            .expect("a snapshot is plain data, and a Vec grows as needed")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut image: Image<'_> = match bytes.split_first() {
            Some((&VERSION, body)) => {
                postcard::from_bytes(body).map_err(SnapshotError::Malformed)?
            }
            Some((version, _)) => return Err(SnapshotError::Version(*version)),
            None => return Err(SnapshotError::Empty),
        };
        let mut mvcc = Mvcc::new();
        mvcc.revision = image.revision;
        mvcc.compacted = image.compacted;
        for record in std::mem::take(&mut image.records) {
            if image.revision < record.mod_revision {
                return Err(SnapshotError::Inconsistent("a record is newer than the store"));
            }
            mvcc.load(record.into_owned());
        }
        let mut leases = Leases::from_image(image.leases_chosen, std::mem::take(&mut image.leases));
        for record in mvcc.scan(&super::KeyRange::all(), None) {
            if record.lease != LeaseId::NONE {
                leases.attach(record.lease, &record.key);
            }
        }
        let alarms: OrdSet<_> = std::mem::take(&mut image.alarms).into_iter().collect();
        let Image { cluster_id, now_ms, .. } = image;
        Ok(Self { mvcc, leases, alarms, cluster_id, now_ms })
    }

    /// A checksum over everything: equal on every member that has applied the same commands.
    #[must_use]
    pub fn digest(&self) -> u32 {
        crc32c::crc32c(&self.encode())
    }
}
