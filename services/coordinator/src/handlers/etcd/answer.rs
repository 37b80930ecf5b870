//! Requests in, replies and errors out, as the gateway does it.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::App;
use super::cors;
use super::error::{self, EtcdError};
use super::message::Header;
use super::message::codec::{Int, Uint};
use crate::config::encoded_bytes;
use crate::coordinator::{CommandError, Failure};
use crate::store::{
    Denied, GrantError, LeaseNotFound, Revision, RevisionError, TxnError, TxnInvalid,
};

/// The message of a call. No body is an empty message; what follows the first document is ignored.
pub(super) struct Message<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<App> for Message<T> {
    type Rejection = EtcdError;

    async fn from_request(request: Request, app: &App) -> Result<Self, EtcdError> {
        let chassis::extract::Body(body) =
            chassis::extract::Body::from_request(request, app).await?;
        if encoded_bytes(app.max_request_bytes()) < body.len() {
            return Err(error::TOO_LARGE);
        }
        first_document(&body).map(Self)
    }
}

fn first_document<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, EtcdError> {
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<T>();
    documents.next().unwrap_or_else(|| Ok(T::default())).map_err(EtcdError::malformed)
}

/// Bytes that most replies have room in, so that they are written without being moved.
const MOST_REPLIES: usize = 1024;

/// The reply of a call.
pub(super) struct Reply<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(MOST_REPLIES);
        match serde_json::to_writer(&mut body, &self.0) {
            Ok(()) => success(body.into()),
            Err(error) => EtcdError::internal(&error).into_response(),
        }
    }
}

impl IntoResponse for EtcdError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.unary()));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        cors::open(response)
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The gateway says so of what is behind it.
const BEHIND: (HeaderName, HeaderValue) = (
    HeaderName::from_static("grpc-metadata-content-type"),
    HeaderValue::from_static("application/grpc"),
);

pub(super) fn success(body: Body) -> Response {
    let mut response = Response::new(body);
    let mut headers = HeaderMap::with_capacity(App::HEADERS);
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(BEHIND.0, BEHIND.1);
    *response.headers_mut() = headers;
    cors::open(response)
}

/// A space comes after this much silence: JSON skips it, a caller that is gone is noticed by it, and
/// what is in between keeps the stream open.
const SILENCE_MAX: Duration = chassis::sse::KEEP_ALIVE;

/// Messages as they come.
pub(super) fn live(messages: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    success(Body::from_stream(filled(messages, SILENCE_MAX)))
}

fn filled(
    messages: impl Stream<Item = Bytes> + Send + 'static,
    silence_max: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold(Box::pin(messages), move |mut messages| async move {
        let message = match tokio::time::timeout(silence_max, messages.next()).await {
            Ok(message) => message?,
            Err(_silence) => Bytes::from_static(b" "),
        };
        Some((Ok(message), messages))
    })
}

pub(super) const METHOD_NOT_ALLOWED: &str = "Method Not Allowed\n";
pub(super) const NOT_FOUND: &str = "Not Found\n";

pub(super) fn text(status: StatusCode, text: &'static str) -> Response {
    cors::open((status, [("x-content-type-options", "nosniff")], text).into_response())
}

/// A stream's message: one document, one line, one chunk.
pub(super) fn chunk<T: Serialize>(result: T) -> Bytes {
    let mut line = serde_json::to_vec(&super::message::Streamed { result })
        .expect("a message is plain data with string keys");
    line.push(b'\n');
    line.into()
}

impl App {
    pub(super) fn header(&self, revision: Revision) -> Header {
        Header {
            cluster_id: Uint(self.coordinator().cluster_id()),
            member_id: Uint(self.identity().member_id),
            revision: Int(revision.0.cast_signed()),
            raft_term: Uint(self.coordinator().term()),
        }
    }
}

impl App {
    /// For what was done here just now: this node has it, so nothing can fail any more.
    pub(super) async fn header_now(&self) -> Header {
        self.header(self.coordinator().recent().await.revision())
    }
}

impl EtcdError {
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "request failed");
        Self::new(error::GrpcCode::Internal, "etcdserver: internal error")
    }
}

impl From<Failure> for EtcdError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Overloaded => error::TOO_MANY_REQUESTS,
            Failure::TooLarge { .. } => error::TOO_LARGE,
            Failure::DiskFull => error::NO_SPACE,
            Failure::NoLeader => error::NO_LEADER,
            Failure::Stopped => error::STOPPED,
            Failure::Indeterminate => error::TIMED_OUT,
            Failure::NotRepeated(repeat) => {
                unreachable!("no call of this face has a key that it could repeat: {repeat}")
            }
            Failure::Denied(denied) => denied.into(),
        }
    }
}

impl<E: std::error::Error + Into<Self>> From<CommandError<E>> for EtcdError {
    fn from(error: CommandError<E>) -> Self {
        match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::Failed(failure) => failure.into(),
        }
    }
}

impl From<TxnError> for EtcdError {
    fn from(error: TxnError) -> Self {
        match error {
            TxnError::LeaseNotFound(error) => error.into(),
            TxnError::NothingToKeep => error::KEY_NOT_FOUND,
            TxnError::Revision(error) => error.into(),
            TxnError::NoSpace(_) => error::NO_SPACE,
        }
    }
}

impl From<Denied> for EtcdError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NoToken => error::USER_EMPTY,
            Denied::InvalidToken => error::INVALID_AUTH_TOKEN,
            Denied::Forbidden => error::PERMISSION_DENIED,
            Denied::Corrupt => error::CORRUPT,
        }
    }
}

impl From<TxnInvalid> for EtcdError {
    fn from(error: TxnInvalid) -> Self {
        match error {
            TxnInvalid::EmptyKey => error::EMPTY_KEY,
            TxnInvalid::TooManyOps { .. } => error::TOO_MANY_OPS,
            TxnInvalid::DuplicateKey => error::DUPLICATE_KEY,
        }
    }
}

impl From<RevisionError> for EtcdError {
    fn from(error: RevisionError) -> Self {
        match error {
            RevisionError::Compacted { .. } => error::COMPACTED,
            RevisionError::Future { .. } => error::FUTURE_REVISION,
        }
    }
}

impl From<LeaseNotFound> for EtcdError {
    fn from(LeaseNotFound(_): LeaseNotFound) -> Self {
        error::LEASE_NOT_FOUND
    }
}

impl From<GrantError> for EtcdError {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::Exists(_) => error::LEASE_EXISTS,
            GrantError::TtlTooLarge => error::TTL_TOO_LARGE,
            GrantError::NoSpace(_) => error::NO_SPACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_quiet_stream_says_now_and_then_that_it_is_there() {
        let messages = stream::iter([Bytes::from_static(b"{}\n")]).chain(stream::pending());
        let mut filled = Box::pin(filled(messages, Duration::from_millis(1)));
        for expected in ["{}\n", " ", " "] {
            let Ok(message) = filled.next().await.unwrap();
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn a_message_of_the_limit_fits_in_base64() {
        let max: usize = 1536 << 10;
        assert!(max.div_ceil(3) * 4 + 1000 < encoded_bytes(max));
    }
}
