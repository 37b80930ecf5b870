//! Keys and transactions.

use api::coordinator::{
    DeleteReply, KEY, KEYS, KeyPage, KeyValue, LeaseId, PutReply, TXN, TxnReply, TxnRequest,
};
use bytes::Bytes;
use http::Method;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};

use super::Coordinator;
use crate::Error;
use crate::http::{Call, Path, Query};

/// What a write is conditional on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    None,
    /// The key's last change was at this revision.
    Revision(u64),
    /// The key does not exist.
    Absent,
}

impl Condition {
    fn put_into(self, call: Call) -> Call {
        match self {
            Self::None => call,
            Self::Revision(revision) => call.header(IF_MATCH.as_str(), &format!("\"{revision}\"")),
            Self::Absent => call.header(IF_NONE_MATCH.as_str(), "*"),
        }
    }
}

/// A value and the revision of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub value: Bytes,
    pub mod_revision: u64,
}

/// How to read a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// From the asked node's own state, however old.
    pub serializable: bool,
    /// As of this revision.
    pub revision: Option<u64>,
}

impl GetOptions {
    fn query(self) -> Query {
        let consistency = self.serializable.then_some("serializable");
        Query::new().maybe("consistency", consistency).maybe("revision", self.revision)
    }
}

/// How to list keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// The `next` of the page before.
    pub start: Option<String>,
    pub limit: Option<u64>,
    pub keys_only: bool,
    /// The `revision` of the first page, to read all at one point in time.
    pub revision: Option<u64>,
}

impl Coordinator {
    /// Writes a key; with a lease it goes when that ends.
    ///
    /// # Errors
    ///
    /// `precondition-failed`, `lease-not-found`, or as for every call.
    pub async fn put(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        lease: Option<LeaseId>,
        condition: Condition,
    ) -> Result<PutReply, Error> {
        let call = self.http.call(Method::PUT, Path::key(KEY, key)?);
        let call = call.body("application/octet-stream", value);
        let call = call.query(Query::new().maybe("lease", lease));
        condition.put_into(call).send().await?.json()
    }

    /// Reads a key; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn get(&self, key: &[u8], options: GetOptions) -> Result<Option<Value>, Error> {
        let call = self.http.call(Method::GET, Path::key(KEY, key)?).query(options.query());
        let reply = match call.send().await {
            Err(error) if &*error.code == "key-not-found" => return Ok(None),
            reply => reply?,
        };
        let etag = reply.header(ETAG.as_str()).unwrap_or_default().trim_matches('"');
        let mod_revision = etag.parse::<u64>().map_err(|error| {
            Error::bad_answer("the answer has no revision in its ETag").because(error)
        })?;
        Ok(Some(Value { value: reply.body.clone(), mod_revision }))
    }

    /// Reads a key with everything known about it.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn get_meta(
        &self,
        key: &[u8],
        options: GetOptions,
    ) -> Result<Option<KeyValue>, Error> {
        let call = self.http.call(Method::GET, Path::key(KEY, key)?);
        match call.query(options.query().with("meta", true)).send().await {
            Err(error) if &*error.code == "key-not-found" => Ok(None),
            reply => reply?.json().map(Some),
        }
    }

    /// Deletes a key. Deleting what is not there is no error.
    ///
    /// # Errors
    ///
    /// `precondition-failed`, or as for every call.
    pub async fn delete(&self, key: &[u8], condition: Condition) -> Result<DeleteReply, Error> {
        let call = self.http.call(Method::DELETE, Path::key(KEY, key)?);
        condition.put_into(call).send().await?.json()
    }

    /// Deletes all keys that begin with `prefix`.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn delete_prefix(&self, prefix: &[u8]) -> Result<DeleteReply, Error> {
        let call = self.http.call(Method::DELETE, Path::key(KEY, prefix)?);
        call.query(Query::new().with("prefix", true)).send().await?.json()
    }

    /// A page of the keys that begin with `prefix`.
    ///
    /// # Errors
    ///
    /// `compacted` when the revision asked for is gone.
    pub async fn list(&self, prefix: &[u8], options: &ListOptions) -> Result<KeyPage, Error> {
        let query = Query::new().bytes("prefix", prefix);
        let query = match &options.start {
            Some(start) => query.encoded("start", start),
            None => query,
        };
        let query = query
            .maybe("limit", options.limit)
            .maybe("keys_only", options.keys_only.then_some(true))
            .maybe("revision", options.revision);
        self.http.call(Method::GET, KEYS).query(query).send().await?.json()
    }

    /// If all comparisons hold, one list of operations, else the other. Never sent again once it
    /// may have been carried out.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn txn(&self, request: &TxnRequest) -> Result<TxnReply, Error> {
        self.http.call(Method::POST, TXN).json(request).send().await?.json()
    }
}
