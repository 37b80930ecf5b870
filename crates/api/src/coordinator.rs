//! The native API of the coordinator: keys, transactions, watches, leases, locks, elections,
//! services, cluster.
//!
//! Keys and values are bytes. In JSON they are a plain string where they are UTF-8, else
//! `{"base64": "…"}`; both forms are accepted everywhere ([`Text`]). In paths and query strings
//! they are percent-encoded, any byte allowed; in bodies they travel raw.
//!
//! Revisions are one global counter: every change of any key gets the next one. Lease ids are
//! decimal strings, because they do not fit a JavaScript number.
//!
//! **Invariant:** requests refuse unknown fields; replies may gain fields.

mod cluster;
mod kv;
mod lease;
mod lock;
mod service;
mod text;
mod txn;
mod watch;

pub use cluster::{
    Cluster, CompactReply, CompactRequest, Member, MemberAddRequest, MemberAdded,
    MemberMoveRequest, MemberRemoved, MemberRole, MemberStart, TransferRequest, Transferred,
};
pub use kv::{DeleteReply, KeyPage, KeyValue, PutReply};
pub use lease::{Lease, LeaseGrantRequest, LeaseId, LeaseList, LeaseRevoked};
pub use lock::{
    CampaignRequest, Candidate, Election, Lock, LockPlace, LockRequest, LockState, Released,
    ResignRequest, VacantEvent,
};
pub use service::{
    Check, Instance, InstanceStatus, InstanceValue, RegisterRequest, Registered, ServiceInstances,
    ServiceList, ServiceSummary,
};
pub use text::Text;
pub use txn::{
    Compare, CompareOp, DeleteResult, GetOp, GetResult, Op, OpResult, PutOp, PutResult, RangeOp,
    TxnReply, TxnRequest,
};
pub use watch::{BookmarkEvent, CompactedEvent, WatchEvent};

/// One key: `GET`, `PUT`, `DELETE`. The key is everything after `/v1/kv/`, slashes included.
pub const KEY: &str = "/v1/kv/{*key}";
/// Keys by prefix, in pages: `GET`.
pub const KEYS: &str = "/v1/kv";
pub const TXN: &str = "/v1/txn";
pub const WATCH: &str = "/v1/watch";
pub const LEASES: &str = "/v1/leases";
pub const LEASE: &str = "/v1/leases/{id}";
pub const LEASE_KEEPALIVE: &str = "/v1/leases/{id}/keepalive";
pub const LOCK: &str = "/v1/locks/{name}";
pub const ELECTION: &str = "/v1/elections/{name}";
pub const CAMPAIGN: &str = "/v1/elections/{name}/campaign";
pub const OBSERVE: &str = "/v1/elections/{name}/observe";
pub const RESIGN: &str = "/v1/elections/{name}/resign";
pub const SERVICES: &str = "/v1/services";
pub const SERVICE: &str = "/v1/services/{service}";
pub const SERVICE_WATCH: &str = "/v1/services/{service}/watch";
pub const INSTANCE: &str = "/v1/services/{service}/{instance}";
pub const INSTANCE_HEARTBEAT: &str = "/v1/services/{service}/{instance}/heartbeat";
pub const CLUSTER: &str = "/v1/cluster";
pub const MEMBERS: &str = "/v1/cluster/members";
/// By id or by name.
pub const MEMBER: &str = "/v1/cluster/members/{id}";
pub const MEMBER_PROMOTE: &str = "/v1/cluster/members/{id}/promote";
pub const TRANSFER: &str = "/v1/cluster/transfer";
pub const COMPACT: &str = "/v1/compact";
pub const SNAPSHOT: &str = "/v1/snapshot";

/// Response header: the store's revision the reply is about, as a decimal number.
pub const REVISION_HEADER: &str = "x-revision";

/// Where service instances live in the key space: `quartet/services/<service>/<instance>`.
pub const SERVICE_PREFIX: &str = "quartet/services/";
/// Longest key the native face accepts, in bytes.
pub const MAX_KEY_BYTES: usize = 4096;
/// Longest `Idempotency-Key`, in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
/// How long the answer to a request with an `Idempotency-Key` is remembered, in seconds.
pub const IDEMPOTENCY_WINDOW_SECONDS: u64 = 300;
/// Longest service or instance name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
