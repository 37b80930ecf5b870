//! `/v3/lock/*`.
//!
//! These calls, and elections, are clients inside the server in etcd: whatever fails below them
//! they report as unknown (2), in the words of what failed.

use super::super::caller::Unguarded;
use super::EtcdError;
use super::answer::{Message, Reply};
use super::error::{self, GrpcCode};
use super::message::codec::Blob;
use super::message::{HeaderOnly, LockRequest, LockResponse, UnlockRequest};
use crate::line::{Patience, TurnError};
use crate::store::{Delete, Enqueue, EnqueueError, KeyRange, LeaseId, Op, Txn};

/// What a lease lasts that is made for a caller without one. Nobody renews it.
pub(super) const SESSION_TTL_SECONDS: u64 = 60;

const SESSION_EXPIRED: EtcdError = EtcdError::new(GrpcCode::Unknown, "mutex: session is expired");

/// Blocks until the lock is the caller's.
pub(super) async fn lock(
    Unguarded(app): Unguarded,
    Message(request): Message<LockRequest>,
) -> Result<Reply<LockResponse>, EtcdError> {
    let ask = Enqueue {
        name: request.name.0,
        value: bytes::Bytes::new(),
        lease: LeaseId(request.lease.0),
        ttl_seconds: SESSION_TTL_SECONDS,
        replace: false,
    };
    let turn = app.line().turn(None, ask, Patience::Endless).await?;
    Ok(Reply(LockResponse { header: app.header(turn.revision), key: Blob(turn.place.key) }))
}

/// A plain delete: a lock that is not there is unlocked.
pub(super) async fn unlock(
    Unguarded(app): Unguarded,
    Message(request): Message<UnlockRequest>,
) -> Result<Reply<HeaderOnly>, EtcdError> {
    if request.key.0.is_empty() {
        return Err(error::EMPTY_KEY.as_unknown());
    }
    let delete = Delete { range: KeyRange::One(request.key.0), previous: false };
    let result = app.coordinator().txn(Txn::always(Op::Delete(delete))).await?;
    Ok(Reply(HeaderOnly { header: app.header(result.revision) }))
}

impl From<TurnError> for EtcdError {
    fn from(error: TurnError) -> Self {
        match error {
            TurnError::Refused(EnqueueError::LeaseNotFound(error)) => {
                Self::from(error).as_unknown()
            }
            TurnError::Refused(EnqueueError::Grant(error)) => Self::from(error),
            TurnError::Failed(failure) => failure.into(),
            TurnError::Held { .. } => error::DEADLINE_EXCEEDED,
            TurnError::Ended(_) => SESSION_EXPIRED,
        }
    }
}
