//! The messages of the etcd v3 JSON gateway, and what they mean to the store.
//!
//! Requests know both spellings of every name, `range_end` and `rangeEnd`.

mod auth;
pub(crate) mod codec;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod other;
mod txn;
mod watch;

pub(crate) use auth::{
    AuthRequest, AuthStatusResponse, AuthenticateResponse, GrantPermissionRequest, PasswordRequest,
    PermissionMessage, RevokePermissionRequest, RoleResponse, RolesResponse, UsersResponse,
};
pub(crate) use kv::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, KeyValue, PutRequest, PutResponse,
    RangeRequest, RangeResponse, key_range,
};
pub(crate) use lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
pub(crate) use lock::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, LockRequest,
    LockResponse, ProclaimRequest, ResignRequest, UnlockRequest,
};
pub(crate) use maintenance::{
    Alarm, AlarmAction, AlarmMember, AlarmRequest, AlarmResponse, DowngradeAction,
    DowngradeRequest, Empty, HashKvRequest, HashKvResponse, HashResponse, MoveLeaderRequest,
    SnapshotResponse, StatusResponse,
};
pub(crate) use other::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberRequest, MemberUpdateRequest,
};
pub(crate) use txn::{TxnRequest, TxnResponse};
pub(crate) use watch::{
    EncodedEvent, FilterType, WatchCreateRequest, WatchRequest, WatchResponse, encode_event,
};

use codec::{Int, Uint, zero};
use serde::Serialize;

/// In every reply. Nested replies have only the revision.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Header {
    #[serde(skip_serializing_if = "zero")]
    pub(crate) cluster_id: Uint,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) member_id: Uint,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) revision: Int,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) raft_term: Uint,
}

/// A reply that says nothing but where the store is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct HeaderOnly {
    pub(crate) header: Header,
}

/// One message of a stream.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Streamed<T> {
    pub(crate) result: T,
}
