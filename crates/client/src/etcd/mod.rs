//! What services ask of a coordinator: keys, leases and watches over the etcd v3 JSON API.
//!
//! Only the paths that every etcd since 3.4 serves are used, so that a real etcd can take the
//! coordinator's place by changing one URL. Replies of every era are read: integers as strings or
//! numbers, missing fields as zero, both shapes of an error, decided by its numeric code.
//!
//! [`Mirror`] keeps a prefix in memory: it reads the range, then watches from the next revision,
//! and starts over whenever the watch ends. [`Registration`] keeps one key alive under a lease;
//! [`Discovery`] turns the keys of all registrations into endpoint sets.
//!
//! **Invariant:** code 14 means "ask another node", never "the answer is no".
//! **Invariant:** a mirror shows the last state it knew for as long as nobody can tell it a newer
//! one.

mod client;
mod documents;
mod kv;
mod lease;
mod session;
mod watch;
mod wire;

mod discovery;
mod mirror;
mod registration;

pub use client::Etcd;
pub use discovery::{Discovery, Endpoints, Instance, Services};
pub use documents::Documents;
pub use kv::{
    Compare, DeleteRequest, DeleteResponse, KeyValue, Operand, PutRequest, RangeRequest,
    RangeResponse, Relation, TxnOp, TxnRequest, TxnResponse, TxnResult, prefix_end,
};
pub use lease::{Lease, LeaseId};
pub use mirror::{Mirror, Snapshot};
pub use registration::{Registration, RegistrationConfig, RegistrationState};
pub use session::Credentials;
pub use watch::{EventKind, WatchEvent, WatchMessage, WatchRequest, WatchStream};
pub use wire::Header;

pub(crate) use wire::error_from_answer;
