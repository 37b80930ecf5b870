//! Errors on the wire: RFC 9457 documents with a stable code.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Every code with its status and title, in one table: a new code does not compile without both.
macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $status:literal $name:literal $title:literal;)+) => {
        /// What went wrong, for programs. Clients match on this, never on the text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])* $variant,)+
        }

        impl Code {
            /// All codes, in the order of their definition.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The HTTP status that always goes with this code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)+
                }
            }

            /// The name on the wire, kebab-case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The document's `title`: the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)+
                }
            }

            /// The document's `type`: a stable URN.
            #[must_use]
            pub const fn urn(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("urn:quartet:problem:", $name),)+
                }
            }

            /// The code of this name, if it is one of ours.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// A parameter, header or field is missing, of the wrong type or out of range.
    InvalidRequest = 400 "invalid-request" "The request is not valid";
    /// The body is not well-formed JSON, or its fields do not fit.
    InvalidJson = 400 "invalid-json" "The body is not the JSON that is expected";
    /// No or unknown credentials.
    Unauthenticated = 401 "unauthenticated" "Credentials are missing or unknown";
    /// Known credentials without the right to do this.
    Forbidden = 403 "forbidden" "These credentials do not allow this";
    /// No such path.
    NotFound = 404 "not-found" "There is nothing at this path";
    KeyNotFound = 404 "key-not-found" "The key does not exist";
    LeaseNotFound = 404 "lease-not-found" "The lease does not exist or has expired";
    ServiceNotFound = 404 "service-not-found" "No such service or instance is registered";
    TopicNotFound = 404 "topic-not-found" "The topic does not exist";
    MemberNotFound = 404 "member-not-found" "The cluster has no such member";
    /// A lease that has no place in a lock or an election.
    LockNotFound = 404 "lock-not-found" "This lease has no such lock or candidacy";
    SubscriptionNotFound = 404 "subscription-not-found" "The subscription does not exist";
    QueueNotFound = 404 "queue-not-found" "The queue does not exist";
    PartitionNotFound = 404 "partition-not-found" "The topic has no such partition";
    MethodNotFound = 404 "method-not-found" "The method is not registered";
    CallNotFound = 404 "call-not-found" "No asynchronous call has this id";
    RouteNotFound = 404 "route-not-found" "No route matches";
    /// The path exists, the HTTP method does not; `Allow` lists those that do.
    MethodNotAllowed = 405 "method-not-allowed" "This path does not take this method";
    NotAcceptable = 406 "not-acceptable" "None of the accepted formats can be produced";
    /// The caller did not send its request in time.
    RequestTimeout = 408 "request-timeout" "The request took too long to arrive";
    /// The request contradicts the present state; the detail says which.
    Conflict = 409 "conflict" "The request contradicts the present state";
    AlreadyExists = 409 "already-exists" "It exists already, with other settings";
    /// A lock or a leadership did not become free in time. Nothing is left of the attempt.
    Held = 409 "held" "Somebody else has it";
    /// A session token of a history that was given up in a promotion.
    HistoryLost = 409 "history-lost" "The session's history no longer exists";
    /// Extension `epoch`: the newest one.
    ProducerFenced = 409 "producer-fenced" "A newer instance of this producer publishes";
    /// Extension `expected`: the sequence to send first.
    ProducerGap = 409 "producer-gap" "The producer left out a sequence";
    /// A newer primary exists: this write must not be carried out.
    Fenced = 409 "fenced" "A newer primary has taken over";
    /// What was asked for has been compacted away.
    Compacted = 410 "compacted" "What was asked for has been compacted";
    PreconditionFailed = 412 "precondition-failed" "A precondition does not hold";
    TooLarge = 413 "too-large" "The request is larger than this server takes";
    UnsupportedMediaType = 415 "unsupported-media-type" "This content type is not understood here";
    /// The offset or revision lies in the future.
    RangeNotSatisfiable = 416 "range-not-satisfiable" "The position does not exist yet";
    /// The request's `Host` is none of the names that this node is known by.
    Misdirected = 421 "misdirected" "This node is not known by this name";
    /// The idempotency key was used before for another request.
    IdempotencyMismatch = 422 "idempotency-mismatch" "The idempotency key belongs to another request";
    /// A queue is at its capacity. Nothing was dropped to make room.
    QueueFull = 429 "queue-full" "The queue is full";
    /// More requests than this caller may make.
    RateLimited = 429 "rate-limited" "Too many requests";
    /// Some other configured maximum is reached.
    LimitReached = 429 "limit-reached" "A configured limit is reached";
    /// The request line and header lines together, or their number.
    HeadTooLarge = 431 "head-too-large" "The request's head is too large";
    /// The caller closed the connection or gave up.
    Cancelled = 499 "cancelled" "The caller gave up";
    /// A mistake of ours. The log has the cause under the trace id.
    Internal = 500 "internal" "The server made a mistake";
    /// An upstream answered with something that is not a valid response, or hung up.
    BadGateway = 502 "bad-gateway" "An upstream gave no valid answer";
    /// No endpoint could be connected to. Nothing was sent.
    Unreachable = 502 "unreachable" "No endpoint could be reached";
    /// This node is at its limit of concurrent work. Nothing was done.
    Overloaded = 503 "overloaded" "The server has too much to do";
    /// This node is further behind than the read allows. Another node may serve it.
    TooStale = 503 "too-stale" "This node is too far behind";
    /// No leader or primary is known right now. Nothing was done.
    NoLeader = 503 "no-leader" "There is no leader right now";
    /// The server is starting, draining or cut off. Nothing was done.
    Unavailable = 503 "unavailable" "The service is not available right now";
    /// The gateway knows no healthy endpoint.
    NoEndpoint = 503 "no-endpoint" "No healthy endpoint is known";
    /// The endpoint's breaker is open. Nothing was sent.
    BreakerOpen = 503 "breaker-open" "The circuit breaker is open";
    /// The caller's time was over before anything was done.
    DeadlineExceeded = 504 "deadline-exceeded" "The deadline has passed";
    /// An upstream did not answer in time.
    UpstreamTimeout = 504 "upstream-timeout" "An upstream did not answer in time";
    /// It may have happened or not: repeat with the same `Idempotency-Key`.
    Indeterminate = 504 "indeterminate" "The outcome is unknown";
    /// Nothing was written. Reads, acknowledgements and deletes still work.
    DiskFull = 507 "disk-full" "The disk is full";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown problem code `{name}`")))
    }
}

/// The body of every error of the native APIs: `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// A stable URN: `urn:quartet:problem:<code>`.
    #[serde(rename = "type", default = "blank")]
    pub kind: String,
    /// The same text for every problem of this type.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What happened this time and what to do about it.
    #[serde(default)]
    pub detail: String,
    /// For programs: see [`Code`]. Kept as text, so that a client reads a newer server's codes.
    #[serde(default)]
    pub code: String,
    /// The trace of the request that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Members that belong to one code, such as `oldest_revision` for `compacted`.
    #[serde(flatten)]
    pub extensions: BTreeMap<String, Value>,
}

/// RFC 9457: an absent `type` means this.
fn blank() -> String {
    "about:blank".to_owned()
}

impl ProblemDetails {
    /// A document with everything that follows from the code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: code.urn().to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code: code.as_str().to_owned(),
            trace_id: None,
            extensions: BTreeMap::new(),
        }
    }

    /// The code, if this version knows it.
    #[must_use]
    pub fn known_code(&self) -> Option<Code> {
        Code::parse(&self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_kebab_case_and_errors() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.status()), "{code}");
            let kebab = |c: u8| c.is_ascii_lowercase() || c == b'-';
            assert!(code.as_str().bytes().all(kebab), "{code}");
        }
    }

    #[test]
    fn a_document_survives_the_wire_with_its_extensions() {
        let mut details = ProblemDetails::new(Code::Compacted, "start at revision 7");
        details.extensions.insert("oldest_revision".into(), 7.into());
        let text = serde_json::to_string(&details).unwrap();
        assert!(text.contains(r#""type":"urn:quartet:problem:compacted""#), "{text}");
        assert_eq!(serde_json::from_str::<ProblemDetails>(&text).unwrap(), details);
    }

    #[test]
    fn a_foreign_document_with_an_unknown_code_is_still_read() {
        let details: ProblemDetails =
            serde_json::from_str(r#"{"status":418,"code":"teapot","detail":"short"}"#).unwrap();
        assert_eq!((details.status, details.known_code()), (418, None));
        assert_eq!(details.kind, "about:blank");
    }
}
