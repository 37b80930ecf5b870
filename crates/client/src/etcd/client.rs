//! The client: one method per path that our services use.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use resilience::balance::Strategy;
use resilience::retry::Repeat;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use url::Url;

use super::kv::{
    DeleteRequest, DeleteResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    TxnRequest, TxnResponse,
};
use super::lease::{GrantReply, KeepaliveReply, Lease, LeaseId, LeaseRequest};
use super::session::{self, Credentials, Session};
use super::watch::{WatchRequest, WatchStream};
use super::{Header, kv};
use crate::Error;
use crate::http::{Call, Client, Config, Dialect};

/// How long one unary call may take, unless told otherwise: less than the shortest useful lease.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Calls the nodes of one coordinator, or of one etcd. Clones share connections.
#[derive(Clone, Debug)]
pub struct Etcd {
    http: Client,
    session: Option<Session>,
}

impl Etcd {
    /// A client of these nodes.
    ///
    /// # Errors
    ///
    /// When there is none, or one is not `http://host[:port]`.
    pub fn new(nodes: impl IntoIterator<Item = Url>) -> Result<Self, Error> {
        let nodes: Vec<Url> = nodes.into_iter().collect();
        if nodes.is_empty() {
            return Err(Error::invalid("no coordinator URL was given"));
        }
        let config = Config {
            timeout: TIMEOUT,
            // Followers answer as well as the leader; long watches say nothing about latency.
            strategy: Strategy::RoundRobin,
            // The next node may lead when this one does not.
            retry: resilience::retry::Policy { retries_max: 3, ..Default::default() },
            breaker: resilience::breaker::Config {
                open_max: Duration::from_secs(2),
                ramp: Duration::from_millis(500),
                ..Config::default().breaker
            },
            // Registration, discovery and a few readers: the share of so little is nothing.
            budget: resilience::budget::Config { permille: 500, floor_per_second: 5 },
            ..Config::default()
        };
        let (_, source) = watch::channel(Arc::new(nodes));
        Ok(Self { http: Client::with_dialect(config, source, Dialect::Etcd)?, session: None })
    }

    /// The same client, acting for a user where authentication is on. Where it is off, nobody asks.
    #[must_use]
    pub fn acting_for(self, user: Credentials) -> Self {
        Self { session: Some(Session::new(self.http.clone(), user)), ..self }
    }

    /// Reads keys.
    ///
    /// # Errors
    ///
    /// When no node answers, or the answer is no.
    pub async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.unary("/v3/kv/range", request, Repeat::Safe).await
    }

    /// The newest value of one key.
    ///
    /// # Errors
    ///
    /// As [`Etcd::range`].
    pub async fn get(&self, key: &[u8]) -> Result<Option<kv::KeyValue>, Error> {
        Ok(self.range(&RangeRequest::key(key)).await?.kvs.pop())
    }

    /// Writes one key. Sent again when its answer is lost: the key then has the same value, with a
    /// higher revision.
    ///
    /// # Errors
    ///
    /// As [`Etcd::range`]; code 5 when the lease is gone.
    pub async fn put(&self, request: &PutRequest) -> Result<Header, Error> {
        let reply: PutResponse = self.unary("/v3/kv/put", request, Repeat::Safe).await?;
        Ok(reply.header)
    }

    /// Deletes keys. Sent again when its answer is lost: it then says that nothing was deleted.
    ///
    /// # Errors
    ///
    /// As [`Etcd::range`].
    pub async fn delete(&self, request: &DeleteRequest) -> Result<DeleteResponse, Error> {
        self.unary("/v3/kv/deleterange", request, Repeat::Safe).await
    }

    /// Compares, and carries out one of two branches. Never sent again once it may have been
    /// carried out: its own first attempt could fail the comparison.
    ///
    /// # Errors
    ///
    /// As [`Etcd::range`].
    pub async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        self.unary("/v3/kv/txn", request, Repeat::Unsafe).await
    }

    /// Makes a lease. If the answer is lost, the lease that may exist ends by itself.
    ///
    /// # Errors
    ///
    /// As [`Etcd::range`].
    pub async fn grant(&self, ttl: Duration) -> Result<Lease, Error> {
        let seconds = ttl.as_secs().max(1);
        let request = LeaseRequest { id: LeaseId(0), ttl: Some(seconds.to_string()) };
        let reply: GrantReply = self.unary("/v3/lease/grant", &request, Repeat::Safe).await?;
        reply.into_lease()
    }

    /// Renews a lease. `None`: it is gone; stop acting as its owner.
    ///
    /// # Errors
    ///
    /// When no node answers.
    pub async fn keepalive(&self, id: LeaseId) -> Result<Option<Duration>, Error> {
        let request = LeaseRequest { id, ttl: None };
        let call = self.call("/v3/lease/keepalive", &request, Repeat::Safe);
        // It is a stream, so it may say no with a success.
        let send = |call: Call| async { call.send().await?.json::<KeepaliveReply>()?.into_ttl() };
        self.as_user(call, send).await
    }

    /// Ends a lease and deletes its keys. A lease that is gone already is no error.
    ///
    /// # Errors
    ///
    /// When no node answers.
    pub async fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        let request = LeaseRequest { id, ttl: None };
        let reply: Result<serde::de::IgnoredAny, Error> =
            self.unary("/v3/lease/revoke", &request, Repeat::Safe).await;
        match reply {
            Err(error) if error.etcd_code() == Some(5) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Opens a watch. The stream ends when the connection breaks: see [`super::Mirror`] for one
    /// that goes on.
    ///
    /// # Errors
    ///
    /// When no node answers.
    pub async fn watch(&self, request: &WatchRequest) -> Result<WatchStream, Error> {
        let call = self.call("/v3/watch", &request.document(), Repeat::Safe);
        self.as_user(call, Call::stream).await.map(WatchStream::new)
    }

    async fn unary<T: DeserializeOwned>(
        &self,
        path: &'static str,
        request: &impl Serialize,
        repeat: Repeat,
    ) -> Result<T, Error> {
        let call = self.call(path, request, repeat);
        self.as_user(call, |call: Call| async { call.send().await?.json() }).await
    }

    fn call(&self, path: &'static str, request: &impl Serialize, repeat: Repeat) -> Call {
        self.http.call(Method::POST, path).json(request).repeat(repeat)
    }

    /// Sends a call with the user's token; if that is refused, once more with a new one.
    async fn as_user<T, F>(&self, call: Call, send: impl Fn(Call) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let Some(session) = &self.session else { return send(call).await };
        let token = session.token(None).await?;
        match send(token.put_on(call.clone())).await {
            Err(error) if session::is_refused(&error) => {
                let token = session.token(Some(&token)).await?;
                send(token.put_on(call)).await
            }
            outcome => outcome,
        }
    }
}
