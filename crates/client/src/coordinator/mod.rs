//! The coordinator's native face: for people, the command line and tests.
//!
//! Our own services use [`crate::etcd`] instead, so that a real etcd can replace the coordinator.

mod kv;
mod leases;
mod locks;
mod watch;

use api::coordinator::{
    CLUSTER, COMPACT, Cluster, CompactReply, CompactRequest, INSTANCE, INSTANCE_HEARTBEAT,
    RegisterRequest, Registered, SERVICE, SERVICE_WATCH, SERVICES, ServiceInstances, ServiceList,
};
use http::Method;
use resilience::retry::Repeat;

use crate::Error;
use crate::http::{Client, Events, Path, Query};

pub use kv::{Condition, GetOptions, ListOptions, Value};
pub use watch::{Watch, WatchItem};

/// Calls a coordinator, directly or through the gateway (`http://host:8080/coordinator`). Clones
/// share connections.
#[derive(Clone, Debug)]
pub struct Coordinator {
    http: Client,
}

impl Coordinator {
    #[must_use]
    pub const fn new(http: Client) -> Self {
        Self { http }
    }

    /// Registers an instance of a service.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn register(
        &self,
        service: &str,
        instance: &str,
        request: &RegisterRequest,
    ) -> Result<Registered, Error> {
        let path = Path::fill(INSTANCE, &[service, instance])?;
        self.http.call(Method::PUT, path).json(request).send().await?.json()
    }

    /// Says that an instance with a TTL check is well.
    ///
    /// # Errors
    ///
    /// `service-not-found` when it came too late.
    pub async fn heartbeat(&self, service: &str, instance: &str) -> Result<Registered, Error> {
        let path = Path::fill(INSTANCE_HEARTBEAT, &[service, instance])?;
        self.http.call(Method::PUT, path).repeat(Repeat::Safe).send().await?.json()
    }

    /// # Errors
    ///
    /// `service-not-found`, or as for every call.
    pub async fn deregister(&self, service: &str, instance: &str) -> Result<(), Error> {
        let path = Path::fill(INSTANCE, &[service, instance])?;
        self.http.call(Method::DELETE, path).send().await.map(|_| ())
    }

    /// All services.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn services(&self) -> Result<ServiceList, Error> {
        self.http.call(Method::GET, SERVICES).send().await?.json()
    }

    /// The instances of one service, or only its healthy ones.
    ///
    /// # Errors
    ///
    /// `service-not-found`, or as for every call.
    pub async fn service(
        &self,
        service: &str,
        healthy: Option<bool>,
    ) -> Result<ServiceInstances, Error> {
        let call = self.http.call(Method::GET, Path::fill(SERVICE, &[service])?);
        call.query(Query::new().maybe("healthy", healthy)).send().await?.json()
    }

    /// Follows the instances of one service.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub async fn watch_service(&self, service: &str) -> Result<Events, Error> {
        let path = Path::fill(SERVICE_WATCH, &[service])?;
        Events::open(self.http.call(Method::GET, path)).await
    }

    /// Members, leader, positions and sizes.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.http.call(Method::GET, CLUSTER).send().await?.json()
    }

    /// Drops history before a revision.
    ///
    /// # Errors
    ///
    /// When that is compacted already, or lies in the future.
    pub async fn compact(&self, revision: u64) -> Result<CompactReply, Error> {
        let request = CompactRequest { revision };
        self.http.call(Method::POST, COMPACT).json(&request).send().await?.json()
    }
}
