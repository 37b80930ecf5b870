//! What each failure is to a client.

use api::problem::Code;
use chassis::problem::Problem;
use messaging::catalog::CatalogRefused;
use messaging::partition::{Fenced, MAX_PRODUCERS};
use messaging::queue::Refused;
use raft_node::MemberError;

use crate::error::{AdminError, LogError, MessageError, NotFound};

impl From<NotFound> for Problem {
    fn from(error: NotFound) -> Self {
        let code = match &error {
            NotFound::Unsure => Code::Unavailable,
            NotFound::Topic(_) => Code::TopicNotFound,
            NotFound::Subscription { .. } => Code::SubscriptionNotFound,
            NotFound::Queue(_) => Code::QueueNotFound,
            NotFound::Partition { .. } => Code::PartitionNotFound,
        };
        Self::from_error(code, &error)
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        let code = match &error {
            LogError::Overloaded => Code::Overloaded,
            LogError::TooLarge { .. } => Code::TooLarge,
            LogError::DiskFull => Code::DiskFull,
            LogError::NoLeader { .. } => Code::NoLeader,
            LogError::NotHere
            | LogError::OutOfReach { .. }
            | LogError::Stopped
            | LogError::Damaged { .. }
            | LogError::NotYet { .. } => Code::Unavailable,
            LogError::Indeterminate => Code::Indeterminate,
            LogError::Unreadable { .. } | LogError::Misunderstood => Code::Internal,
        };
        Self::from_error(code, &error)
    }
}

fn member(error: &MemberError) -> Code {
    match error {
        MemberError::Unknown { .. } | MemberError::NoSuchName { .. } => Code::MemberNotFound,
        MemberError::Exists { .. }
        | MemberError::UrlTaken { .. }
        | MemberError::NameTaken { .. } => Code::AlreadyExists,
        MemberError::BadUrl { .. } => Code::InvalidRequest,
        MemberError::TooManyLearners { .. }
        | MemberError::NotStarted { .. }
        | MemberError::Unhealthy { .. }
        | MemberError::Behind { .. } => Code::PreconditionFailed,
        MemberError::NotLearner { .. }
        | MemberError::LastVoter { .. }
        | MemberError::InFlight
        | MemberError::NotVoter { .. }
        | MemberError::NotTaken { .. }
        | MemberError::NotAdded { .. }
        | MemberError::Claimed { .. }
        | MemberError::OtherName { .. } => Code::Conflict,
        MemberError::NoLeader => Code::NoLeader,
        MemberError::Stopped => Code::Unavailable,
        MemberError::Indeterminate => Code::Indeterminate,
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let refused = match error {
            AdminError::Log(error) => return error.into(),
            AdminError::Member(error) => return Self::from_error(member(&error), &error),
            AdminError::Overloaded => return Self::from_error(Code::Overloaded, &error),
            AdminError::Refused(refused) => refused,
        };
        let code = match &refused {
            CatalogRefused::NoTopic(_) => Code::TopicNotFound,
            CatalogRefused::NoSubscription { .. } => Code::SubscriptionNotFound,
            CatalogRefused::NoQueue(_) => Code::QueueNotFound,
            CatalogRefused::NoDeadLetterQueue(_)
            | CatalogRefused::OwnDeadLetterQueue(_)
            | CatalogRefused::Notes
            | CatalogRefused::Partitions
            | CatalogRefused::Replicas
            | CatalogRefused::TooFewBrokers { .. }
            | CatalogRefused::BrokerText
            | CatalogRefused::TooManyPreferred => Code::InvalidRequest,
            CatalogRefused::InUse { .. }
            | CatalogRefused::QueueChanged(_)
            | CatalogRefused::NoPush { .. }
            | CatalogRefused::FewerPartitions { .. }
            | CatalogRefused::NameTaken { .. }
            | CatalogRefused::Forgotten(_)
            | CatalogRefused::TooOld { .. }
            | CatalogRefused::StillNeeded { .. }
            | CatalogRefused::NoMove { .. }
            | CatalogRefused::NotCancelled(_) => Code::Conflict,
            CatalogRefused::NoBroker(_) => Code::MemberNotFound,
            CatalogRefused::NoGroup(_) => Code::NotFound,
            CatalogRefused::NoBrokers => Code::Unavailable,
            CatalogRefused::Limit { .. } => Code::LimitReached,
            CatalogRefused::NotUnderstood => Code::Internal,
        };
        Self::from_error(code, &refused)
    }
}

impl From<MessageError> for Problem {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::NotFound(error) => error.into(),
            MessageError::Log(error) => error.into(),
            MessageError::Priority(refused) => Self::from_error(Code::InvalidRequest, &refused),
            MessageError::TooManyTopics { max } => Self::from_error(Code::LimitReached, &error)
                .with("limit", "topics")
                .with("max", max),
            MessageError::SeveralPartitions => Self::from_error(Code::InvalidRequest, &error),
            MessageError::Fenced { fenced, .. } => match fenced {
                Fenced::Stale { known } => {
                    Self::from_error(Code::ProducerFenced, &error).with("epoch", known)
                }
                Fenced::Gap { expected } => {
                    Self::from_error(Code::ProducerGap, &error).with("expected", expected)
                }
                Fenced::TooMany => Self::from_error(Code::LimitReached, &error)
                    .with("limit", "producers")
                    .with("max", MAX_PRODUCERS),
            },
            MessageError::Future { .. } => Self::from_error(Code::RangeNotSatisfiable, &error),
            MessageError::MoveRuns { id, .. } => {
                Self::from_error(Code::Conflict, &error).with("task", id)
            }
            MessageError::NoMove { .. } => Self::from_error(Code::NotFound, &error),
            MessageError::Stream(_) | MessageError::NoSuchPosition => {
                Self::from_error(Code::Conflict, &error)
            }
            MessageError::TooManyWaiting { .. } => Self::from_error(Code::Overloaded, &error),
            MessageError::QueueFull { ref queue, refused } => {
                let problem =
                    Self::from_error(Code::QueueFull, &error).with("queue", queue.as_str());
                with_limit(problem, refused)
            }
        }
    }
}

/// Which limit, by its name in the queue's settings, and where the queue is.
fn with_limit(problem: Problem, refused: Refused) -> Problem {
    let (limit, max, value) = match refused {
        Refused::TooMany { len, max } => ("capacity.messages", max, len),
        Refused::TooBig { bytes, max } => ("capacity.bytes", max, bytes),
        Refused::Priority { priority, max } => ("max_priority", max.into(), priority.into()),
        Refused::Unconfigured => return problem,
    };
    problem.with("limit", limit).with("max", max).with("value", value)
}
