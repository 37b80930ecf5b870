//! What goes wrong, as SQS names it.
//!
//! An error has two names. The shape is what clients of the JSON protocol choose an exception by;
//! the code is the older name, which botocore shows as `Error.Code`. Both must be right.

use std::fmt;

/// Every error that this face answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BatchEntryIdsNotDistinct,
    BatchRequestTooLong,
    EmptyBatchRequest,
    InternalFailure,
    InvalidAction,
    InvalidAddress,
    InvalidAttributeName,
    InvalidAttributeValue,
    InvalidBatchEntryId,
    InvalidMessageContents,
    InvalidParameterValue,
    MessageNotInflight,
    MissingParameter,
    OverLimit,
    PurgeQueueInProgress,
    QueueDoesNotExist,
    QueueNameExists,
    ReceiptHandleIsInvalid,
    RequestThrottled,
    ResourceNotFoundException,
    SerializationException,
    ServiceUnavailable,
    TooManyEntriesInBatchRequest,
    UnsupportedOperation,
}

impl Code {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 24] = [
        Self::BatchEntryIdsNotDistinct,
        Self::BatchRequestTooLong,
        Self::EmptyBatchRequest,
        Self::InternalFailure,
        Self::InvalidAction,
        Self::InvalidAddress,
        Self::InvalidAttributeName,
        Self::InvalidAttributeValue,
        Self::InvalidBatchEntryId,
        Self::InvalidMessageContents,
        Self::InvalidParameterValue,
        Self::MessageNotInflight,
        Self::MissingParameter,
        Self::OverLimit,
        Self::PurgeQueueInProgress,
        Self::QueueDoesNotExist,
        Self::QueueNameExists,
        Self::ReceiptHandleIsInvalid,
        Self::RequestThrottled,
        Self::ResourceNotFoundException,
        Self::SerializationException,
        Self::ServiceUnavailable,
        Self::TooManyEntriesInBatchRequest,
        Self::UnsupportedOperation,
    ];

    /// The name of the error's shape.
    pub(crate) const fn shape(self) -> &'static str {
        match self {
            Self::BatchEntryIdsNotDistinct => "BatchEntryIdsNotDistinct",
            Self::BatchRequestTooLong => "BatchRequestTooLong",
            Self::EmptyBatchRequest => "EmptyBatchRequest",
            Self::InternalFailure => "InternalFailure",
            Self::InvalidAction => "InvalidAction",
            Self::InvalidAddress => "InvalidAddress",
            Self::InvalidAttributeName => "InvalidAttributeName",
            Self::InvalidAttributeValue => "InvalidAttributeValue",
            Self::InvalidBatchEntryId => "InvalidBatchEntryId",
            Self::InvalidMessageContents => "InvalidMessageContents",
            Self::InvalidParameterValue => "InvalidParameterValue",
            Self::MessageNotInflight => "MessageNotInflight",
            Self::MissingParameter => "MissingParameter",
            Self::OverLimit => "OverLimit",
            Self::PurgeQueueInProgress => "PurgeQueueInProgress",
            Self::QueueDoesNotExist => "QueueDoesNotExist",
            Self::QueueNameExists => "QueueNameExists",
            Self::ReceiptHandleIsInvalid => "ReceiptHandleIsInvalid",
            Self::RequestThrottled => "RequestThrottled",
            Self::ResourceNotFoundException => "ResourceNotFoundException",
            Self::SerializationException => "SerializationException",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::TooManyEntriesInBatchRequest => "TooManyEntriesInBatchRequest",
            Self::UnsupportedOperation => "UnsupportedOperation",
        }
    }

    /// The older name.
    pub(crate) fn query_code(self) -> String {
        match self {
            Self::QueueDoesNotExist => "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
            Self::QueueNameExists => "QueueAlreadyExists".to_owned(),
            Self::BatchEntryIdsNotDistinct
            | Self::BatchRequestTooLong
            | Self::EmptyBatchRequest
            | Self::InvalidBatchEntryId
            | Self::MessageNotInflight
            | Self::PurgeQueueInProgress
            | Self::TooManyEntriesInBatchRequest
            | Self::UnsupportedOperation => format!("AWS.SimpleQueueService.{}", self.shape()),
            _ => self.shape().to_owned(),
        }
    }

    /// The HTTP status.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::OverLimit | Self::PurgeQueueInProgress => 403,
            Self::ResourceNotFoundException => 404,
            Self::RequestThrottled => 429,
            Self::InternalFailure => 500,
            Self::ServiceUnavailable => 503,
            _ => 400,
        }
    }

    /// Whether another request would fare better, whenever it came.
    pub(crate) const fn is_senders(self) -> bool {
        !matches!(self, Self::InternalFailure | Self::ServiceUnavailable | Self::RequestThrottled)
    }
}

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    /// Says what to do.
    pub(crate) message: String,
    /// Where it is not the code's.
    pub(crate) status: Option<u16>,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), status: None }
    }

    /// A parameter has a value it may not have; in the words AWS uses.
    pub(crate) fn value(parameter: &str, value: impl fmt::Display, reason: &str) -> Self {
        let value: String = value.to_string().chars().take(200).collect();
        let message =
            format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}");
        Self::new(Code::InvalidParameterValue, message)
    }

    /// A parameter is not there.
    pub(crate) fn missing(parameter: &str) -> Self {
        let message = format!("The request must contain the parameter {parameter}.");
        Self::new(Code::MissingParameter, message)
    }

    /// The same for the value of an attribute of a queue.
    pub(crate) fn attribute(name: &str, reason: &str) -> Self {
        let message = format!("Invalid value for the parameter {name}. Reason: {reason}");
        Self::new(Code::InvalidAttributeValue, message)
    }

    pub(crate) fn status(&self) -> u16 {
        self.status.unwrap_or(self.code.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_as_the_older_protocol_does() {
        let code = |code: Code| (code.query_code(), code.status());
        let own = |name: &str, status| (name.to_owned(), status);
        let nonexistent = own("AWS.SimpleQueueService.NonExistentQueue", 400);
        assert_eq!(code(Code::QueueDoesNotExist), nonexistent);
        assert_eq!(code(Code::QueueNameExists), own("QueueAlreadyExists", 400));
        let purge = own("AWS.SimpleQueueService.PurgeQueueInProgress", 403);
        assert_eq!(code(Code::PurgeQueueInProgress), purge);
        let batch = own("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400);
        assert_eq!(code(Code::TooManyEntriesInBatchRequest), batch);
        assert_eq!(code(Code::OverLimit), own("OverLimit", 403));
        assert_eq!(code(Code::ResourceNotFoundException), own("ResourceNotFoundException", 404));
        assert_eq!(code(Code::ReceiptHandleIsInvalid), own("ReceiptHandleIsInvalid", 400));
        assert_eq!(code(Code::RequestThrottled), own("RequestThrottled", 429));
    }

    /// The header has two parts with one semicolon between them.
    #[test]
    fn every_code_can_stand_in_a_header() {
        for code in Code::ALL {
            let text = code.query_code();
            assert!(text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.'), "{text}");
            assert!(text.ends_with(code.shape()) || !code.is_senders() || text != code.shape());
            assert!(code.is_senders() || matches!(code.status(), 429 | 500 | 503), "{text}");
        }
    }
}
