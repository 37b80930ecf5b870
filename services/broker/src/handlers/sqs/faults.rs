//! What each failure is to a client of SQS.

use messaging::catalog::CatalogRefused;
use messaging::queue::Refused;

use crate::error::{AdminError, LogError, MessageError, NotFound};
use crate::sqs::{Code, Fault};

impl From<NotFound> for Fault {
    fn from(error: NotFound) -> Self {
        let code = match &error {
            NotFound::Queue(_) => {
                return Self::new(Code::QueueDoesNotExist, "The specified queue does not exist.");
            }
            NotFound::Unsure => Code::ServiceUnavailable,
            NotFound::Topic(_) | NotFound::Subscription { .. } | NotFound::Partition { .. } => {
                Code::ResourceNotFoundException
            }
        };
        Self::new(code, error)
    }
}

impl From<LogError> for Fault {
    fn from(error: LogError) -> Self {
        let code = match &error {
            LogError::Overloaded
            | LogError::DiskFull
            | LogError::NoLeader { .. }
            | LogError::NotHere
            | LogError::OutOfReach { .. }
            | LogError::Stopped
            | LogError::Damaged { .. }
            | LogError::NotYet { .. } => Code::ServiceUnavailable,
            LogError::TooLarge { .. } => Code::BatchRequestTooLong,
            LogError::Indeterminate => {
                let message = "The outcome is unknown: it may or may not have been done.";
                return Self { status: Some(504), ..Self::new(Code::InternalFailure, message) };
            }
            LogError::Unreadable { .. } | LogError::Misunderstood => {
                tracing::error!(error = chassis::problem::chain(&error), "request failed");
                Code::InternalFailure
            }
        };
        Self::new(code, error)
    }
}

impl From<AdminError> for Fault {
    fn from(error: AdminError) -> Self {
        let refused = match error {
            AdminError::Log(error) => return error.into(),
            AdminError::Overloaded | AdminError::Member(_) => {
                return Self::new(Code::ServiceUnavailable, error);
            }
            AdminError::Refused(refused) => refused,
        };
        let code = match &refused {
            CatalogRefused::NoQueue(_) => {
                return Self::new(Code::QueueDoesNotExist, "The specified queue does not exist.");
            }
            CatalogRefused::NoDeadLetterQueue(_)
            | CatalogRefused::OwnDeadLetterQueue(_)
            | CatalogRefused::Notes => Code::InvalidAttributeValue,
            CatalogRefused::InUse { .. } => Code::UnsupportedOperation,
            CatalogRefused::Limit { .. } => Code::OverLimit,
            CatalogRefused::QueueChanged(_) | CatalogRefused::NoBrokers => Code::ServiceUnavailable,
            // None of these comes of what this face asks.
            CatalogRefused::NoTopic(_)
            | CatalogRefused::NoSubscription { .. }
            | CatalogRefused::NoPush { .. }
            | CatalogRefused::FewerPartitions { .. }
            | CatalogRefused::Partitions
            | CatalogRefused::Replicas
            | CatalogRefused::TooFewBrokers { .. }
            | CatalogRefused::BrokerText
            | CatalogRefused::NoBroker(_)
            | CatalogRefused::NameTaken { .. }
            | CatalogRefused::Forgotten(_)
            | CatalogRefused::TooOld { .. }
            | CatalogRefused::StillNeeded { .. }
            | CatalogRefused::NoGroup(_)
            | CatalogRefused::NoMove { .. }
            | CatalogRefused::NotCancelled(_)
            | CatalogRefused::TooManyPreferred
            | CatalogRefused::NotUnderstood => Code::InternalFailure,
        };
        Self::new(code, refused)
    }
}

impl From<MessageError> for Fault {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::NotFound(error) => error.into(),
            MessageError::Log(error) => error.into(),
            MessageError::QueueFull { refused: Refused::Priority { .. }, .. }
            | MessageError::Priority(_)
            | MessageError::Fenced { .. }
            | MessageError::SeveralPartitions
            | MessageError::TooManyTopics { .. }
            | MessageError::Stream(_)
            | MessageError::NoSuchPosition
            | MessageError::Future { .. } => Self::new(Code::InvalidParameterValue, error),
            MessageError::MoveRuns { .. } => Self::new(Code::UnsupportedOperation, error),
            MessageError::NoMove { .. } => Self::new(Code::ResourceNotFoundException, error),
            MessageError::QueueFull { .. } | MessageError::TooManyWaiting { .. } => {
                Self::new(Code::RequestThrottled, error)
            }
        }
    }
}
