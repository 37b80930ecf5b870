//! Leases.

use api::coordinator::{
    LEASE, LEASE_KEEPALIVE, LEASES, Lease, LeaseGrantRequest, LeaseId, LeaseList, LeaseRevoked,
};
use http::Method;
use resilience::retry::Repeat;

use super::Coordinator;
use crate::Error;
use crate::http::Path;

fn path(pattern: &'static str, id: LeaseId) -> Result<Path, Error> {
    Path::fill(pattern, &[&id.to_string()])
}

impl Coordinator {
    /// Makes a lease. If the answer is lost, the lease that may exist ends by itself.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn grant(&self, ttl_seconds: u64) -> Result<Lease, Error> {
        let request = LeaseGrantRequest { ttl_seconds, id: None };
        let call = self.http.call(Method::POST, LEASES).json(&request);
        call.repeat(Repeat::Safe).send().await?.json()
    }

    /// Starts its time anew.
    ///
    /// # Errors
    ///
    /// `lease-not-found`: stop acting as its owner.
    pub async fn keepalive(&self, id: LeaseId) -> Result<Lease, Error> {
        self.http.call(Method::PUT, path(LEASE_KEEPALIVE, id)?).send().await?.json()
    }

    /// A lease with its keys.
    ///
    /// # Errors
    ///
    /// `lease-not-found`, or as for every call.
    pub async fn lease(&self, id: LeaseId) -> Result<Lease, Error> {
        self.http.call(Method::GET, path(LEASE, id)?).send().await?.json()
    }

    /// # Errors
    ///
    /// As for every call.
    pub async fn leases(&self) -> Result<LeaseList, Error> {
        self.http.call(Method::GET, LEASES).send().await?.json()
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    ///
    /// `lease-not-found`, or as for every call.
    pub async fn revoke(&self, id: LeaseId) -> Result<LeaseRevoked, Error> {
        self.http.call(Method::DELETE, path(LEASE, id)?).send().await?.json()
    }
}
