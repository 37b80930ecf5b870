//! Keeps one instance of a service registered for as long as its process lives.

use std::time::Duration;

use api::coordinator::{InstanceValue, SERVICE_PREFIX};
use bytes::Bytes;
use resilience::retry::Backoff;
use resilience::system_random;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Etcd, Lease, LeaseId, PutRequest};
use crate::Error;

/// Who registers, and under which terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationConfig {
    /// The service, such as `broker`.
    pub service: String,
    /// The instance; unique within its service.
    pub instance: String,
    /// Where it is reached.
    pub value: InstanceValue,
    /// How long the registration outlives a process that is gone.
    pub ttl: Duration,
}

impl RegistrationConfig {
    /// With a ttl of ten seconds.
    #[must_use]
    pub fn new(
        service: impl Into<String>,
        instance: impl Into<String>,
        value: InstanceValue,
    ) -> Self {
        let ttl = Duration::from_secs(10);
        Self { service: service.into(), instance: instance.into(), value, ttl }
    }

    /// The key that stands for this instance.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{SERVICE_PREFIX}{}/{}", self.service, self.instance)
    }
}

/// How the registration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// Not yet there, or the coordinator is away. With the last error, if there was one.
    Pending { error: Option<String> },
    /// The key is there, under this lease.
    Registered { lease: LeaseId },
    /// Deregistered: the process stops.
    Ended,
}

/// A registration that renews itself.
#[derive(Clone, Debug)]
pub struct Registration {
    state: watch::Receiver<RegistrationState>,
}

/// Waits before trying again.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(2) };
/// How long deregistering may hold up the end of the process.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(2);

impl Registration {
    /// Begins to register, on a task of `tasks`. `stop` deregisters: give it the token that is
    /// cancelled first in a drain, so that callers leave before the listener does.
    #[must_use]
    pub fn start(
        etcd: Etcd,
        config: RegistrationConfig,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (publish, state) = watch::channel(RegistrationState::Pending { error: None });
        tasks.spawn(Owner { etcd, config, publish, lease: None }.run(stop));
        Self { state }
    }

    /// How it is, and every change of that.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<RegistrationState> {
        self.state.clone()
    }

    /// Waits until it is registered. Put a bound around it.
    pub async fn registered(&self) {
        let mut state = self.state.clone();
        let done = |state: &RegistrationState| !matches!(state, RegistrationState::Pending { .. });
        // An error means that the owner ended: there is nothing left to wait for.
        let _ = state.wait_for(done).await;
    }
}

/// The task that owns the lease.
struct Owner {
    etcd: Etcd,
    config: RegistrationConfig,
    publish: watch::Sender<RegistrationState>,
    lease: Option<Lease>,
}

impl Owner {
    async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
        if let Some(lease) = self.lease.take() {
            let revoked = tokio::time::timeout(REVOKE_TIMEOUT, self.etcd.revoke(lease.id)).await;
            if !matches!(revoked, Ok(Ok(()))) {
                tracing::warn!("not deregistered in time, the lease will run out by itself");
            }
        }
        self.publish.send_replace(RegistrationState::Ended);
    }

    async fn keep(&mut self) {
        let mut failures = 0;
        loop {
            let wait = match self.renew().await {
                Ok(lease) => {
                    failures = 0;
                    self.set(RegistrationState::Registered { lease: lease.id });
                    // Two renewals may fail before the lease runs out.
                    lease.ttl / 3
                }
                Err(error) => {
                    tracing::debug!(%error, "not registered, trying again");
                    self.set(RegistrationState::Pending { error: Some(error.to_string()) });
                    failures += 1;
                    BACKOFF.delay(failures, system_random())
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Brings the registration up to date: renews the lease, or begins with a new one.
    async fn renew(&mut self) -> Result<Lease, Error> {
        if let Some(lease) = self.lease {
            if self.etcd.keepalive(lease.id).await?.is_some() && self.is_ours(lease.id).await? {
                return Ok(lease);
            }
            // The lease ran out while nobody could be reached, the store was replaced, or someone
            // took the key. What is left of the lease ends by itself.
            tracing::info!(lease = %lease.id, "registration was lost, registering again");
            self.lease = None;
        }
        let lease = self.etcd.grant(self.config.ttl).await?;
        // Kept before the put: should that fail, the next round repeats it under this lease.
        self.lease = Some(lease);
        self.put(lease.id).await?;
        Ok(lease)
    }

    async fn is_ours(&self, lease: LeaseId) -> Result<bool, Error> {
        let key = self.config.key();
        Ok(self.etcd.get(key.as_bytes()).await?.is_some_and(|kv| kv.lease == lease))
    }

    async fn put(&self, lease: LeaseId) -> Result<(), Error> {
        let value = serde_json::to_vec(&self.config.value)
            .map_err(|error| Error::invalid("the registration cannot be written").because(error))?;
        let request = PutRequest::new(self.config.key(), Bytes::from(value)).lease(lease);
        self.etcd.put(&request).await.map(|_| ())
    }

    fn set(&self, state: RegistrationState) {
        self.publish.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }
}
