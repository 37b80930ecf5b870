//! From what went wrong to what the caller is told: one exhaustive match per operation.

use api::problem::{Code, ProblemDetails};
use chassis::problem::Problem;

use super::input::encode;
use crate::engine::EngineError;
use crate::read::ReadError;
use crate::status::position as wire;
use crate::write::WriteError;

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let code = match &error {
            WriteError::NoPrimary | WriteError::NotOpen => Code::NoLeader,
            WriteError::Fenced { .. } => Code::Fenced,
            WriteError::Overloaded | WriteError::TailFull { .. } => Code::Overloaded,
            WriteError::DiskFull => Code::DiskFull,
            WriteError::Precondition { .. } => Code::PreconditionFailed,
            WriteError::IdempotencyMismatch => Code::IdempotencyMismatch,
            WriteError::Indeterminate { .. } => Code::Indeterminate,
            WriteError::Engine(EngineError::Reopening) | WriteError::Stopped => Code::Unavailable,
            WriteError::Engine(_) => Code::Internal,
        };
        let problem = Self::from_error(code, &error);
        match error {
            WriteError::Precondition { key, version } => {
                // The first byte of a stored key is its space.
                let key = encode(key.get(1..).unwrap_or_default());
                let version = version.map(|version| wire(version).to_string());
                problem.with("key", key).with("version", version)
            }
            WriteError::Indeterminate { position, applied, acked } => problem
                .with("state", "indeterminate")
                .with("applied", applied)
                .with("acked", acked)
                .with("position", position.map(|position| wire(position).to_string())),
            _ => problem,
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let code = match &error {
            ReadError::TooStale { .. } | ReadError::Behind { .. } => Code::TooStale,
            ReadError::HistoryLost { .. } => Code::HistoryLost,
            ReadError::Unconfirmed { .. }
            | ReadError::Quarantined(_)
            | ReadError::Engine(EngineError::Reopening) => Code::Unavailable,
            ReadError::Fenced { .. } => Code::Fenced,
            ReadError::NoPrimary => Code::NoLeader,
            ReadError::Engine(_) => Code::Internal,
        };
        let problem = Self::from_error(code, &error);
        match error {
            ReadError::TooStale { lag_ms, position, .. } => {
                problem.with("lag_ms", lag_ms).with("position", wire(position).to_string())
            }
            ReadError::Behind { position, .. } | ReadError::HistoryLost { position, .. } => {
                problem.with("position", wire(position).to_string())
            }
            ReadError::Unconfirmed { position, commit } => {
                problem.with("position", wire(position).to_string()).with("commit_index", commit.0)
            }
            _ => problem,
        }
    }
}

/// What the primary answered to a request that was passed on, or why it did not.
pub(super) fn passed_on(error: client::Error) -> Problem {
    let known = Code::parse(&error.code).unwrap_or(Code::BadGateway);
    // Our side's failures speak of endpoints and breakers; the caller asked for a key.
    let code = match (error.status, error.outcome) {
        (Some(_), _) => known,
        (None, client::Outcome::NotDone) => Code::NoLeader,
        (None, client::Outcome::Unknown) => Code::Indeterminate,
    };
    let detail = match error.status {
        Some(_) => error.detail.to_string(),
        None => format!("this node cannot reach the primary: {}", error.detail),
    };
    let mut details = ProblemDetails::new(code, detail);
    details.trace_id = error.trace_id.map(String::from);
    details.extensions = error.extensions.map(|extensions| *extensions).unwrap_or_default();
    Problem::from(details)
}
