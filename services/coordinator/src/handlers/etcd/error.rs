//! Errors as the etcd gateway writes them, in a form that clients of every version read.

use std::borrow::Cow;
use std::fmt::Display;

use serde_json::json;

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcCode {
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl GrpcCode {
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::Canceled => 408,
            Self::ResourceExhausted => 429,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    const fn http_text(self) -> &'static str {
        match self.status() {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            408 => "Request Timeout",
            429 => "Too Many Requests",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => "Internal Server Error",
        }
    }
}

/// What a call under `/v3` answers when it fails. Clients compare the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EtcdError {
    pub(crate) code: GrpcCode,
    pub(crate) message: Cow<'static, str>,
}

impl EtcdError {
    pub(crate) const fn new(code: GrpcCode, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message) }
    }

    pub(crate) fn malformed(error: impl Display) -> Self {
        Self::with_text(GrpcCode::InvalidArgument, error)
    }

    pub(crate) fn with_text(code: GrpcCode, text: impl Display) -> Self {
        // A parser quotes what it met, and what it met may be long.
        let message: String = text.to_string().chars().take(300).collect();
        Self { code, message: Cow::Owned(message) }
    }

    /// The body of a failed call.
    pub(crate) fn unary(&self) -> Vec<u8> {
        // Written by hand for the order of its fields, which tests of others compare.
        let message = json!(self.message);
        format!(r#"{{"error":{message},"code":{},"message":{message}}}"#, self.code as u8).into()
    }

    /// The last message of a broken stream: the fields of 3.5 and of 3.6.
    pub(crate) fn streamed(&self) -> Vec<u8> {
        let (code, status, text) = (self.code as u8, self.code.status(), self.code.http_text());
        let message = json!(self.message);
        format!(
            "{{\"error\":{{\"grpc_code\":{code},\"code\":{code},\"http_code\":{status},\
             \"http_status\":\"{text}\",\"message\":{message}}}}}\n"
        )
        .into()
    }
}

macro_rules! errors {
    ($($(#[$meta:meta])* $name:ident = $code:ident $text:literal;)+) => {
        $(
            $(#[$meta])*
            pub(crate) const $name: EtcdError = EtcdError::new(GrpcCode::$code, $text);
        )+
    };
}

errors! {
    EMPTY_KEY = InvalidArgument "etcdserver: key is not provided";
    KEY_NOT_FOUND = InvalidArgument "etcdserver: key not found";
    VALUE_PROVIDED = InvalidArgument "etcdserver: value is provided";
    LEASE_PROVIDED = InvalidArgument "etcdserver: lease is provided";
    TOO_MANY_OPS = InvalidArgument "etcdserver: too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument "etcdserver: duplicate key given in txn request";
    TOO_LARGE = InvalidArgument "etcdserver: request is too large";
    BAD_MEMBER_URLS = InvalidArgument "etcdserver: given member URLs are invalid";
    MEMBER_NOT_FOUND = NotFound "etcdserver: member not found";
    LEASE_NOT_FOUND = NotFound "etcdserver: requested lease not found";
    NO_SPACE = ResourceExhausted "etcdserver: mvcc: database space exceeded";
    TOO_MANY_REQUESTS = ResourceExhausted "etcdserver: too many requests";
    LEASE_EXISTS = FailedPrecondition "etcdserver: lease already exists";
    AUTH_NOT_ENABLED = FailedPrecondition "etcdserver: authentication is not enabled";
    COMPACTED = OutOfRange "etcdserver: mvcc: required revision has been compacted";
    USER_EMPTY = InvalidArgument "etcdserver: user name is empty";
    ROLE_EMPTY = InvalidArgument "etcdserver: role name is empty";
    AUTH_FAILED = InvalidArgument "etcdserver: authentication failed, invalid user ID or password";
    INVALID_AUTH_MGMT = InvalidArgument "etcdserver: invalid auth management";
    PERMISSION_NOT_GIVEN = InvalidArgument "etcdserver: permission not given";
    OLD_AUTH_REVISION = InvalidArgument "etcdserver: revision of auth store is old";
    PERMISSION_DENIED = PermissionDenied "etcdserver: permission denied";
    ROOT_USER_MISSING = FailedPrecondition "etcdserver: root user does not exist";
    ROOT_ROLE_MISSING = FailedPrecondition "etcdserver: root user does not have root role";
    USER_EXISTS = FailedPrecondition "etcdserver: user name already exists";
    USER_NOT_FOUND = FailedPrecondition "etcdserver: user name not found";
    ROLE_EXISTS = FailedPrecondition "etcdserver: role name already exists";
    ROLE_NOT_FOUND = FailedPrecondition "etcdserver: role name not found";
    ROLE_NOT_GRANTED = FailedPrecondition "etcdserver: role is not granted to the user";
    PERMISSION_NOT_GRANTED = FailedPrecondition "etcdserver: permission is not granted to the role";
    CORRUPT = DataLoss "etcdserver: corrupt cluster";
    MEMBER_EXISTS = FailedPrecondition "etcdserver: member ID already exist";
    PEER_URL_EXISTS = FailedPrecondition "etcdserver: Peer URLs already exists";
    MEMBER_NOT_STARTED =
        FailedPrecondition "etcdserver: re-configuration failed due to not enough started members";
    MEMBER_NOT_LEARNER = FailedPrecondition "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY =
        FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    TOO_MANY_LEARNERS = FailedPrecondition "etcdserver: too many learner members in cluster";
    BAD_TRANSFEREE = FailedPrecondition "etcdserver: bad leader transferee";
    NO_DOWNGRADE = FailedPrecondition "etcdserver: no inflight downgrade job";
    NOT_CAPABLE = FailedPrecondition "etcdserver: not capable";
    BAD_VERSION = InvalidArgument "etcdserver: wrong downgrade target version format";
    WRONG_TARGET = InvalidArgument "etcdserver: invalid downgrade target version";
    FUTURE_REVISION = OutOfRange "etcdserver: mvcc: required revision is a future revision";
    TTL_TOO_LARGE = OutOfRange "etcdserver: too large lease TTL";
    NO_LEADER = Unavailable "etcdserver: no leader";
    UNHEALTHY = Unavailable "etcdserver: unhealthy cluster";
    STOPPED = Unavailable "etcdserver: server stopped";
    TIMED_OUT = Unavailable "etcdserver: request timed out";
    CANCELED = Canceled "etcdserver: request canceled";
    /// Without a prefix: clients match the bare text.
    DEADLINE_EXCEEDED = DeadlineExceeded "context deadline exceeded";
    INVALID_AUTH_TOKEN = Unauthenticated "etcdserver: invalid auth token";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_has_the_fields_of_every_era() {
        let body = String::from_utf8(LEASE_NOT_FOUND.unary()).unwrap();
        assert_eq!(
            body,
            r#"{"error":"etcdserver: requested lease not found","code":5,"message":"etcdserver: requested lease not found"}"#
        );
        let stream: serde_json::Value = serde_json::from_slice(&STOPPED.streamed()).unwrap();
        assert_eq!(stream["error"]["grpc_code"], 14);
        assert_eq!(stream["error"]["code"], 14);
        assert_eq!(stream["error"]["http_code"], 503);
    }
}
