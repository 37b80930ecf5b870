//! Locks and elections.

use std::time::Duration;

use api::coordinator::{
    CAMPAIGN, CampaignRequest, Candidate, ELECTION, Election, LOCK, LeaseId, Lock, LockRequest,
    LockState, OBSERVE, RESIGN, Released, ResignRequest,
};
use http::Method;

use super::Coordinator;
use crate::Error;
use crate::http::{Events, Path, Query};

/// What an answer may take beyond the wait that was asked for.
const MARGIN: Duration = Duration::from_secs(10);

fn patience(wait_seconds: Option<u64>) -> Duration {
    MARGIN.saturating_add(Duration::from_secs(wait_seconds.unwrap_or(0)))
}

impl Coordinator {
    /// Takes a lock. Hand its fencing token to what it protects. A lost answer is asked for again:
    /// the call has a name, so that it never stands in line twice.
    ///
    /// # Errors
    ///
    /// `held` when it is not free in time, or as for every call.
    pub async fn lock(&self, name: &str, request: &LockRequest) -> Result<Lock, Error> {
        let call = self.http.call(Method::POST, Path::fill(LOCK, &[name])?).json(request);
        let call = call.timeout(patience(request.wait_seconds)).waits();
        call.idempotency_key(&crate::idempotency_key()).send().await?.json()
    }

    /// Gives a lock up.
    ///
    /// # Errors
    ///
    /// `lock-not-found` when the lease did not have it (any more).
    pub async fn unlock(&self, name: &str, lease: LeaseId) -> Result<Released, Error> {
        let call = self.http.call(Method::DELETE, Path::fill(LOCK, &[name])?);
        let call = call.query(Query::new().with("lease", lease));
        call.idempotency_key(&crate::idempotency_key()).send().await?.json()
    }

    /// Who holds a lock, and who waits for it.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn lock_state(&self, name: &str) -> Result<LockState, Error> {
        self.http.call(Method::GET, Path::fill(LOCK, &[name])?).send().await?.json()
    }

    /// Becomes the leader. Repeatable as [`Coordinator::lock`] is.
    ///
    /// # Errors
    ///
    /// `held` when somebody else leads for all that time, or as for every call.
    pub async fn campaign(
        &self,
        name: &str,
        request: &CampaignRequest,
    ) -> Result<Candidate, Error> {
        let call = self.http.call(Method::POST, Path::fill(CAMPAIGN, &[name])?).json(request);
        let call = call.timeout(patience(request.wait_seconds)).waits();
        call.idempotency_key(&crate::idempotency_key()).send().await?.json()
    }

    /// Gives leadership up, or a candidacy.
    ///
    /// # Errors
    ///
    /// `lock-not-found` when the lease did not have it (any more).
    pub async fn resign(&self, name: &str, lease: LeaseId) -> Result<Released, Error> {
        let call = self.http.call(Method::POST, Path::fill(RESIGN, &[name])?);
        let call = call.json(&ResignRequest { lease });
        call.idempotency_key(&crate::idempotency_key()).send().await?.json()
    }

    /// Who leads, and who waits to.
    ///
    /// # Errors
    ///
    /// As for every call.
    pub async fn election(&self, name: &str) -> Result<Election, Error> {
        self.http.call(Method::GET, Path::fill(ELECTION, &[name])?).send().await?.json()
    }

    /// Who leads now, then every change: events `leader` (a [`Candidate`]) and `vacant`.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub async fn observe(&self, name: &str) -> Result<Events, Error> {
        Events::open(self.http.call(Method::GET, Path::fill(OBSERVE, &[name])?)).await
    }
}
