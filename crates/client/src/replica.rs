//! The replica service: keys with a choice of durability and freshness.

use api::headers;
use api::replica::{
    AckLevel, BATCH, BatchRequest, CHANGES, Consistency, DIGEST, DigestResponse, KEY, KEYS, Page,
    Position, REPLICATION, ReplicationStatus, Role, Written,
};
use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};

use crate::http::{Call, Client, Events, Path, Query, Reply};
use crate::{Error, Outcome};

/// Calls a replica service, directly or through the gateway (`http://host:8080/replica`). Clones
/// share connections.
#[derive(Clone, Debug)]
pub struct Replica {
    http: Client,
}

/// What a write is conditional on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    None,
    /// The key has this version.
    Version(Position),
    /// The key does not exist.
    Absent,
}

/// How to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// The service's default (`quorum`) if absent.
    pub ack: Option<AckLevel>,
    pub ttl_seconds: Option<u64>,
    pub condition: Condition,
    pub content_type: Option<String>,
    /// Makes a conditional write repeatable: see [`crate::idempotency_key`].
    pub idempotency_key: Option<String>,
}

/// How to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Absent: `session` if there is a token, else `eventual`.
    pub consistency: Option<Consistency>,
    /// At least as new as this: the version of a write, or what another read showed.
    pub session: Option<Position>,
    /// For `bounded`.
    pub max_lag_ms: Option<u64>,
}

impl ReadOptions {
    /// The newest committed state.
    #[must_use]
    pub fn strong() -> Self {
        Self { consistency: Some(Consistency::Strong), ..Self::default() }
    }

    /// At least as new as `token`.
    #[must_use]
    pub fn session(token: Position) -> Self {
        Self { session: Some(token), ..Self::default() }
    }
}

/// A key's value and where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub value: Bytes,
    pub version: Position,
    pub content_type: Option<String>,
    pub read: Freshness,
}

/// Who answered a read, and how far behind it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// Unknown if absent, not zero.
    pub lag_ms: Option<u64>,
    pub served_by: Option<String>,
    pub role: Option<Role>,
    /// The session token after this read.
    pub session: Option<Position>,
}

impl Replica {
    #[must_use]
    pub const fn new(http: Client) -> Self {
        Self { http }
    }

    /// Writes a key.
    ///
    /// # Errors
    ///
    /// `precondition-failed`; [`Outcome::Unknown`] when the level asked for was not reached in
    /// time or the answer was lost.
    pub async fn put(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        options: &WriteOptions,
    ) -> Result<Written, Error> {
        let content_type = options.content_type.as_deref().unwrap_or("application/octet-stream");
        let call = self.http.call(Method::PUT, Path::key(KEY, key)?).body(content_type, value);
        options.put_into(call).send().await?.json()
    }

    /// Reads a key; `None` if it does not exist there.
    ///
    /// # Errors
    ///
    /// `history-lost` for a token of a lost history; when no node can be as fresh as asked.
    pub async fn get(&self, key: &[u8], options: &ReadOptions) -> Result<Option<Value>, Error> {
        let call = self.http.call(Method::GET, Path::key(KEY, key)?);
        let call = call.query(options.query(Query::new()));
        match options.put_into(call).send().await {
            Ok(reply) => Value::read(&reply).map(Some),
            Err(error) if &*error.code == "key-not-found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a key.
    ///
    /// # Errors
    ///
    /// As [`Replica::put`].
    pub async fn delete(&self, key: &[u8], options: &WriteOptions) -> Result<Written, Error> {
        let call = self.http.call(Method::DELETE, Path::key(KEY, key)?);
        options.put_into(call).send().await?.json()
    }

    /// A page of keys. `start` is the `next` of the page before.
    ///
    /// # Errors
    ///
    /// As [`Replica::get`].
    pub async fn list(
        &self,
        prefix: &[u8],
        start: Option<&str>,
        limit: Option<usize>,
        options: &ReadOptions,
    ) -> Result<Page, Error> {
        let query = Query::new().bytes("prefix", prefix);
        let query = query.maybe("start", start).maybe("limit", limit);
        let call = self.http.call(Method::GET, KEYS).query(options.query(query));
        options.put_into(call).send().await?.json()
    }

    /// Several changes, all or not at all.
    ///
    /// # Errors
    ///
    /// As [`Replica::put`].
    pub async fn batch(
        &self,
        batch: &BatchRequest,
        ack: Option<AckLevel>,
        idempotency_key: Option<&str>,
    ) -> Result<Written, Error> {
        let call = self.http.call(Method::POST, BATCH).json(batch);
        call.query(Query::new().maybe("ack", ack.map(AckLevel::as_str)))
            .maybe_header(headers::IDEMPOTENCY_KEY, idempotency_key)
            .send()
            .await?
            .json()
    }

    /// Role, position and lag of the node that answers.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn replication(&self) -> Result<ReplicationStatus, Error> {
        self.http.call(Method::GET, REPLICATION).send().await?.json()
    }

    /// The state's digest, now or at a position.
    ///
    /// # Errors
    ///
    /// When that position is not there yet, or no longer.
    pub async fn digest(&self, at: Option<Position>) -> Result<DigestResponse, Error> {
        let query = Query::new().maybe("at", at);
        self.http.call(Method::GET, DIGEST).query(query).send().await?.json()
    }

    /// Follows the changes behind a position. The events' data is `api::replica::ChangeEvent`.
    ///
    /// # Errors
    ///
    /// `compacted` when the log does not reach back so far.
    pub async fn changes(&self, from: Option<Position>) -> Result<Events, Error> {
        let query = Query::new().maybe("from", from);
        Events::open(self.http.call(Method::GET, CHANGES).query(query)).await
    }
}

impl WriteOptions {
    fn put_into(&self, call: Call) -> Call {
        let query = Query::new().maybe("ack", self.ack.map(AckLevel::as_str));
        let call = call.query(query.maybe("ttl_seconds", self.ttl_seconds));
        let call = call.maybe_header(headers::IDEMPOTENCY_KEY, self.idempotency_key.as_deref());
        match self.condition {
            Condition::None => call,
            Condition::Version(version) => {
                call.header(IF_MATCH.as_str(), &format!("\"{version}\""))
            }
            Condition::Absent => call.header(IF_NONE_MATCH.as_str(), "*"),
        }
    }
}

impl ReadOptions {
    fn query(&self, query: Query) -> Query {
        query
            .maybe("consistency", self.consistency.map(Consistency::as_str))
            .maybe("max_lag_ms", self.max_lag_ms)
    }

    fn put_into(&self, call: Call) -> Call {
        let token = self.session.map(|token| token.to_string());
        call.maybe_header(headers::SESSION, token.as_deref())
    }
}

impl Value {
    fn read(reply: &Reply) -> Result<Self, Error> {
        let etag = reply.header(ETAG.as_str()).unwrap_or_default();
        let version = etag.trim_start_matches("W/").trim_matches('"').parse();
        let version = version.map_err(|error| {
            let mut unread = Error::bad_answer("the answer has no version in its ETag");
            unread.outcome = Outcome::NotDone;
            unread.because(error)
        })?;
        Ok(Self {
            value: reply.body.clone(),
            version,
            content_type: reply.header(CONTENT_TYPE.as_str()).map(str::to_owned),
            read: Freshness {
                lag_ms: reply.header(headers::LAG_MS).and_then(|lag| lag.parse().ok()),
                served_by: reply.header(headers::SERVED_BY).map(str::to_owned),
                role: match reply.header(headers::ROLE) {
                    Some("primary") => Some(Role::Primary),
                    Some("replica") => Some(Role::Replica),
                    _ => None,
                },
                session: reply.header(headers::SESSION).and_then(|token| token.parse().ok()),
            },
        })
    }
}
