//! Errors of the store and of the coordinator as problem documents.

use api::problem::Code;
use chassis::problem::Problem;
use raft_node::MemberError;

use crate::coordinator::{CommandError, Failure};
use crate::registry::RegistryError;
use crate::store::{
    Denied, GrantError, HistoryCompacted, LeaseNotFound, NoSpace, RepeatError, RevisionError,
    TxnError, TxnInvalid,
};

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let code = match failure {
            Failure::Overloaded => Code::Overloaded,
            Failure::TooLarge { .. } => Code::TooLarge,
            Failure::DiskFull => Code::DiskFull,
            Failure::NoLeader => Code::NoLeader,
            Failure::Stopped | Failure::Denied(Denied::Corrupt) => Code::Unavailable,
            Failure::Indeterminate => Code::Indeterminate,
            Failure::NotRepeated(RepeatError::OtherRequest) => Code::IdempotencyMismatch,
            Failure::NotRepeated(RepeatError::AnswerTooLarge { revision }) => {
                return Self::from_error(Code::Conflict, &failure).with("revision", revision.0);
            }
            Failure::Denied(Denied::NoToken | Denied::InvalidToken) => Code::Unauthenticated,
            Failure::Denied(Denied::Forbidden) => Code::Forbidden,
        };
        Self::from_error(code, &failure)
    }
}

/// What the state refuses, with a code of its own.
pub(super) trait Refusal: std::error::Error + 'static {
    fn problem(&self) -> Problem;
}

pub(super) fn refused<E: Refusal>(error: CommandError<E>) -> Problem {
    match error {
        CommandError::Refused(refusal) => refusal.problem(),
        CommandError::Failed(failure) => failure.into(),
    }
}

impl Refusal for MemberError {
    fn problem(&self) -> Problem {
        let code = match self {
            Self::Unknown { .. } | Self::NoSuchName { .. } => Code::MemberNotFound,
            Self::Exists { .. } | Self::UrlTaken { .. } | Self::NameTaken { .. } => {
                Code::AlreadyExists
            }
            Self::BadUrl { .. } => Code::InvalidRequest,
            Self::TooManyLearners { .. }
            | Self::NotStarted { .. }
            | Self::Unhealthy { .. }
            | Self::Behind { .. } => Code::PreconditionFailed,
            Self::NotLearner { .. }
            | Self::LastVoter { .. }
            | Self::InFlight
            | Self::NotVoter { .. }
            | Self::NotTaken { .. }
            | Self::NotAdded { .. }
            | Self::Claimed { .. }
            | Self::OtherName { .. } => Code::Conflict,
            Self::NoLeader => Code::NoLeader,
            Self::Stopped => Code::Unavailable,
            Self::Indeterminate => Code::Indeterminate,
        };
        Problem::from_error(code, self)
    }
}

impl Refusal for TxnError {
    fn problem(&self) -> Problem {
        match self {
            Self::LeaseNotFound(error) => error.problem(),
            Self::NothingToKeep => Problem::from_error(Code::KeyNotFound, self),
            Self::Revision(error) => error.problem(),
            Self::NoSpace(error) => error.problem(),
        }
    }
}

impl Refusal for RevisionError {
    fn problem(&self) -> Problem {
        match self {
            Self::Compacted { oldest } => {
                Problem::from_error(Code::Compacted, self).with("oldest_revision", oldest.0)
            }
            Self::Future { newest, .. } => {
                Problem::from_error(Code::RangeNotSatisfiable, self).with("revision", newest.0)
            }
        }
    }
}

impl Refusal for HistoryCompacted {
    fn problem(&self) -> Problem {
        Problem::from_error(Code::Compacted, self).with("oldest_revision", self.oldest.0)
    }
}

impl Refusal for LeaseNotFound {
    fn problem(&self) -> Problem {
        Problem::from_error(Code::LeaseNotFound, self)
    }
}

impl Refusal for NoSpace {
    fn problem(&self) -> Problem {
        Problem::from_error(Code::LimitReached, self)
    }
}

impl Refusal for GrantError {
    fn problem(&self) -> Problem {
        match self {
            Self::Exists(_) => Problem::from_error(Code::AlreadyExists, self),
            Self::TtlTooLarge => Problem::from_error(Code::InvalidRequest, self),
            Self::NoSpace(error) => error.problem(),
        }
    }
}

impl Refusal for TxnInvalid {
    fn problem(&self) -> Problem {
        Problem::from_error(Code::InvalidRequest, self)
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        match &error {
            RegistryError::NotFound { .. } => Self::from_error(Code::ServiceNotFound, &error),
            RegistryError::NoHeartbeat { .. } => Self::from_error(Code::Conflict, &error),
            RegistryError::Lease(error) => error.problem(),
            RegistryError::Failed(failure) => (*failure).into(),
        }
    }
}
