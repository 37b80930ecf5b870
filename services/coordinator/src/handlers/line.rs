//! What `/v1/locks` and `/v1/elections` have in common.

use std::time::Duration;

use api::problem::Code;
use bytes::Bytes;
use chassis::deadline::Deadline;
use chassis::problem::Problem;

use super::App;
use super::params::invalid;
use super::refusal::{Refusal as _, refused};
use super::wire;
use crate::line::{Patience, TurnError};
use crate::store::Request;
use crate::store::{
    Delete, EnqueueError, KeyRange, LeaseId, MAX_TTL_SECONDS, Op, OpResult, Revision, Txn,
    place_key,
};

/// What a lease that is made lasts, unless the caller says.
const DEFAULT_TTL_SECONDS: u64 = 60;
const MAX_WAIT_SECONDS: u64 = 60;
const MAX_NAME_BYTES: usize = 512;

/// The name of a lock or an election.
pub(super) fn name(name: &str) -> Result<Bytes, Problem> {
    match name.len() {
        1..=MAX_NAME_BYTES => Ok(Bytes::copy_from_slice(name.as_bytes())),
        _ => Err(invalid(format!("the name must have 1 to {MAX_NAME_BYTES} bytes"))),
    }
}

/// On which lease a place is asked for, and how long one lasts that has to be made.
pub(super) fn lease(
    lease: Option<api::coordinator::LeaseId>,
    ttl_seconds: Option<u64>,
) -> Result<(LeaseId, u64), Problem> {
    match (lease, ttl_seconds) {
        (Some(_), Some(_)) => {
            Err(invalid("a lease has its ttl already; send `lease` or `ttl_seconds`, not both"))
        }
        (lease, None) => Ok((wire::lease_id(lease.map(|lease| lease.0))?, DEFAULT_TTL_SECONDS)),
        (None, Some(ttl @ 1..=MAX_TTL_SECONDS)) => Ok((LeaseId::NONE, ttl)),
        (None, Some(_)) => {
            Err(invalid(format!("ttl_seconds must be between 1 and {MAX_TTL_SECONDS}")))
        }
    }
}

pub(super) fn patience(
    wait_seconds: Option<u64>,
    deadline: Option<Deadline>,
) -> Result<Patience, Problem> {
    match wait_seconds.unwrap_or(0) {
        wait @ 0..=MAX_WAIT_SECONDS => {
            Ok(Patience::Bounded { wait: Duration::from_secs(wait), deadline })
        }
        _ => Err(invalid(format!("wait_seconds must be at most {MAX_WAIT_SECONDS}; ask again"))),
    }
}

/// Gives up the place that a lease has, first in line or not.
pub(super) async fn release(
    app: &App,
    request: Option<Request>,
    name: &Bytes,
    lease: LeaseId,
) -> Result<Revision, Problem> {
    let range = KeyRange::One(place_key(name, lease));
    let delete = Txn::always(Op::Delete(Delete { range, previous: false }));
    let result = app.coordinator().once(request).txn(delete).await.map_err(refused)?;
    match result.results.first() {
        Some(OpResult::Delete { deleted: 1.., .. }) => Ok(result.revision),
        _ => {
            let detail = format!("lease {lease} has no place here; its time may be over");
            Err(Problem::new(Code::LockNotFound, detail))
        }
    }
}

impl From<TurnError> for Problem {
    fn from(error: TurnError) -> Self {
        match &error {
            TurnError::Refused(EnqueueError::LeaseNotFound(error)) => error.problem(),
            TurnError::Refused(EnqueueError::Grant(error)) => error.problem(),
            TurnError::Failed(failure) => (*failure).into(),
            TurnError::Held { holder } => {
                let problem = Self::from_error(Code::Held, &error);
                match holder {
                    Some(record) => problem
                        .with("holder", owner(record))
                        .with("fencing_token", record.create_revision.0),
                    None => problem,
                }
            }
            TurnError::Ended(_) => Self::from_error(Code::LeaseNotFound, &error),
        }
    }
}

/// Who a place says its owner is; one without a word is known by its lease.
pub(super) fn owner(record: &crate::store::Record) -> String {
    if record.value.is_empty() {
        return record.lease.to_string();
    }
    String::from_utf8_lossy(&record.value).into_owned()
}
