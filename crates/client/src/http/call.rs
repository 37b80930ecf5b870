//! A call in the making.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use api::headers;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use resilience::balance::Tried;
use resilience::deadline::{Deadline, of_caller};
use resilience::retry::{BodyState, Plan, Repeat};
use resilience::{Clock, SystemClock};
use serde::Serialize;
use url::Url;

use super::attempt::{Answer, Attempt, AttemptError, Body, Reading};
use super::{Client, Path, Query, Reply, Streaming};
use crate::{Error, Outcome};

/// A request that has not been sent. Mistakes in its parts surface when it is.
#[must_use = "nothing happens until it is sent"]
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) client: Client,
    pub(super) method: Method,
    pub(super) path: Path,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    timeout: Option<Duration>,
    repeat: Option<Repeat>,
    /// See [`Call::waits`].
    pub(super) waits: bool,
    mistake: Option<String>,
}

impl Call {
    pub(super) fn new(client: Client, method: Method, path: Path) -> Self {
        Self {
            client,
            method,
            path,
            query: Query::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: None,
            repeat: None,
            waits: false,
            mistake: None,
        }
    }

    /// Sets the query.
    pub fn query(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
            }
            (Err(_), _) => self.mistake = Some(format!("`{name}` cannot be a header name")),
            (_, Err(_)) => {
                self.mistake = Some(format!(
                    "the value of `{name}` has characters that no header \
                     can carry"
                ));
            }
        }
        self
    }

    /// Adds a header if there is a value.
    pub fn maybe_header(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    /// Says who asks. A sensitive value stays out of every text.
    pub fn authorization(mut self, value: HeaderValue) -> Self {
        self.headers.insert(AUTHORIZATION, value);
        self
    }

    /// Sets what the answer should be.
    pub fn accept(self, media_type: &str) -> Self {
        self.header(ACCEPT.as_str(), media_type)
    }

    /// Sets the body, byte for byte.
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE.as_str(), content_type)
    }

    /// Sets a JSON body.
    pub fn json(self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(json) => self.body("application/json", json),
            Err(error) => {
                let mistake = Some(format!("the body cannot be written as JSON: {error}"));
                Self { mistake, ..self }
            }
        }
    }

    /// Sets how long the call may take, retries included.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Says that the service may take its time on purpose, as in a long poll: that is no sign of
    /// a slow endpoint.
    pub const fn waits(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Names the request, so that its repetition answers with its first result.
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header(headers::IDEMPOTENCY_KEY, key)
    }

    /// Overrides what method and headers say about sending it twice.
    pub const fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = Some(repeat);
        self
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    ///
    /// When there is none, or it is neither a 2xx nor a 304.
    pub async fn send(self) -> Result<Reply, Error> {
        let Answer { status, headers, body } = self.run(Reading::Whole).await?;
        match body {
            Body::Whole(body) => Ok(Reply { status, headers, body }),
            Body::Streaming(_) => unreachable!("it was read whole"),
        }
    }

    /// Sends it and hands over the answer as it comes. The timeout counts until its head.
    ///
    /// # Errors
    ///
    /// As [`Call::send`]; later ones come out of the stream.
    pub async fn stream(self) -> Result<Streaming, Error> {
        let idle = self.client.shared.config.stream_idle_timeout;
        let Answer { status, headers, body } = self.run(Reading::Head).await?;
        match body {
            Body::Streaming(body) => Ok(Streaming::new(status, headers, body, idle)),
            Body::Whole(_) => unreachable!("it was not read"),
        }
    }

    /// Boxed, so that policies and transport are compiled into this crate, and not again into
    /// every one that awaits a call.
    fn run(&self, reading: Reading) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(self.repeatedly(reading))
    }

    async fn repeatedly(&self, reading: Reading) -> Result<Answer, Error> {
        if let Some(mistake) = &self.mistake {
            return Err(Error::invalid(mistake.clone()));
        }
        let shared = &self.client.shared;
        self.client.refresh();
        let timeout = self.timeout.unwrap_or(shared.config.timeout);
        let own = Deadline::after(SystemClock.now(), timeout);
        let deadline = of_caller().map_or(own, |callers| callers.sooner(own));
        let _slot = self.client.admit().await?;
        let repeat = self.repeat.unwrap_or_else(|| Repeat::of(&self.method, &self.headers));
        let plan = Plan { repeat, deadline, typical: Duration::ZERO };
        let (tried, unknown) = (Tried::<Url>::default(), AtomicBool::new(false));
        let attempt = |retries| {
            let attempt = Attempt { call: self, deadline, retries, tried: &tried };
            let unknown = &unknown;
            async move {
                let result = attempt.run(reading).await;
                if let Err(AttemptError { error, .. }) = &result {
                    unknown.fetch_or(error.outcome == Outcome::Unknown, Relaxed);
                }
                result
            }
        };
        let result = shared.retrier.run(plan, || BodyState::Complete, attempt).await;
        result.map_err(|failed| {
            let mut error = *failed.error.error;
            // An earlier attempt may have had its effect, whatever the last one says. A read has
            // none.
            let read = matches!(self.method, Method::GET | Method::HEAD);
            error.outcome = match unknown.into_inner() && !read {
                true => Outcome::Unknown,
                false => Outcome::NotDone,
            };
            error
        })
    }
}
