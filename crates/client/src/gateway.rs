//! The gateway's own API: calls by method, and what it knows of its upstreams.

use std::time::Duration;

use api::gateway::{
    METHOD, METHODS, MethodList, MethodSpec, ROUTE, ROUTES, RPC, RouteList, RouteSpec, RpcId,
    RpcRequest, RpcResponse, SERVICES, ServiceList, UPSTREAMS, UpstreamList,
};
use api::headers;
use http::Method;
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::Error;
use crate::http::{Client, Path};

/// Calls a gateway. Clones share connections.
#[derive(Clone, Debug)]
pub struct Gateway {
    http: Client,
}

/// How to call a method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcOptions {
    /// Chosen by the caller; comes back with the answer.
    pub id: Option<String>,
    pub timeout: Option<Duration>,
    /// Makes the call repeatable: see [`crate::idempotency_key`].
    pub idempotency_key: Option<String>,
}

impl Gateway {
    #[must_use]
    pub const fn new(http: Client) -> Self {
        Self { http }
    }

    /// Calls a method. A method that answers with an error is an answer: see
    /// [`RpcResponse::status`].
    ///
    /// # Errors
    ///
    /// When the gateway itself gives no such answer.
    pub async fn rpc(
        &self,
        method: &str,
        data: Option<&impl Serialize>,
        options: &RpcOptions,
    ) -> Result<RpcResponse, Error> {
        let data = data.map(to_raw_value).transpose().map_err(|error| {
            Error::invalid("the data of the call cannot be written as JSON").because(error)
        })?;
        let id = options.id.clone().map(RpcId::Text);
        let request = RpcRequest { id, method: method.to_owned(), data };
        let call = self.http.call(Method::POST, RPC).json(&request);
        let call = call.maybe_header(headers::IDEMPOTENCY_KEY, options.idempotency_key.as_deref());
        let call = match options.timeout {
            Some(timeout) => call.timeout(timeout),
            None => call,
        };
        match call.send().await {
            Ok(reply) => reply.json(),
            Err(error) => {
                let answer = error.answer().and_then(|body| serde_json::from_slice(body).ok());
                answer.ok_or(error)
            }
        }
    }

    /// Registers a method.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn put_method(&self, name: &str, spec: &MethodSpec) -> Result<(), Error> {
        let path = Path::fill(METHOD, &[name])?;
        self.http.call(Method::PUT, path).json(spec).send().await.map(|_| ())
    }

    /// # Errors
    ///
    /// As for every call.
    pub async fn methods(&self) -> Result<MethodList, Error> {
        self.http.call(Method::GET, METHODS).send().await?.json()
    }

    /// # Errors
    ///
    /// `method-not-found`, or as for every call.
    pub async fn delete_method(&self, name: &str) -> Result<(), Error> {
        self.http.call(Method::DELETE, Path::fill(METHOD, &[name])?).send().await.map(|_| ())
    }

    /// Creates or changes a route.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn put_route(&self, name: &str, spec: &RouteSpec) -> Result<(), Error> {
        let path = Path::fill(ROUTE, &[name])?;
        self.http.call(Method::PUT, path).json(spec).send().await.map(|_| ())
    }

    /// # Errors
    ///
    /// As for every call.
    pub async fn routes(&self) -> Result<RouteList, Error> {
        self.http.call(Method::GET, ROUTES).send().await?.json()
    }

    /// # Errors
    ///
    /// `route-not-found`, or as for every call.
    pub async fn delete_route(&self, name: &str) -> Result<(), Error> {
        self.http.call(Method::DELETE, Path::fill(ROUTE, &[name])?).send().await.map(|_| ())
    }

    /// Every endpoint with its health, breaker and latency.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn upstreams(&self) -> Result<UpstreamList, Error> {
        self.http.call(Method::GET, UPSTREAMS).send().await?.json()
    }

    /// What is registered, through the coordinator.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn services(&self) -> Result<ServiceList, Error> {
        self.http.call(Method::GET, SERVICES).send().await?.json()
    }
}
