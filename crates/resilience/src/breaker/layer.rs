//! A breaker around the calls to one endpoint.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tower::{Layer, Service, ServiceExt};

use super::{CircuitBreaker, Config, Outcome, Permit, Rejected, State};
use crate::{Clock, Random, SystemClock, system_random};

/// One endpoint's breaker with its clock. Clones share it. The lock is held for a few
/// instructions, never across an await.
#[derive(Clone, Debug)]
pub struct BreakerHandle<C = SystemClock> {
    breaker: Arc<Mutex<CircuitBreaker>>,
    clock: C,
    random: Random,
}

impl BreakerHandle<SystemClock> {
    /// A closed breaker of the running process.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with(config, SystemClock, system_random)
    }
}

impl<C: Clock> BreakerHandle<C> {
    /// A closed breaker with its own clock and randomness.
    #[must_use]
    pub fn with(config: Config, clock: C, random: Random) -> Self {
        let breaker = Arc::new(Mutex::new(CircuitBreaker::new(config, clock.now())));
        Self { breaker, clock, random }
    }

    /// See [`CircuitBreaker::would_admit`].
    #[must_use]
    pub fn would_admit(&self) -> bool {
        self.would_admit_at(self.clock.now())
    }

    /// The same at a time that was read already.
    pub(crate) fn would_admit_at(&self, now: Instant) -> bool {
        self.lock().would_admit(now)
    }

    /// Asks for one call; the guard takes its outcome.
    ///
    /// # Errors
    ///
    /// See [`CircuitBreaker::try_admit`].
    pub fn try_admit(&self) -> Result<Guard<C>, Rejected> {
        let permit = self.lock().try_admit(self.clock.now())?;
        Ok(Guard { handle: self.clone(), permit: Some(permit) })
    }

    /// See [`CircuitBreaker::state`].
    #[must_use]
    pub fn state(&self) -> State {
        self.lock().state(self.clock.now())
    }

    /// See [`CircuitBreaker::retry_after`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.lock().retry_after(self.clock.now())
    }

    fn lock(&self) -> MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock().expect("nobody panics while holding it")
    }
}

/// An admitted call. Dropped without an outcome, it counts as cancelled.
#[derive(Debug)]
pub struct Guard<C: Clock = SystemClock> {
    handle: BreakerHandle<C>,
    permit: Option<Permit>,
}

impl<C: Clock> Guard<C> {
    /// Reports what became of the call.
    pub fn record(mut self, outcome: Outcome) {
        self.report(outcome);
    }

    fn report(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            let handle = &self.handle;
            let random = (handle.random)();
            handle.lock().record(permit, outcome, handle.clock.now(), random);
        }
    }
}

impl<C: Clock> Drop for Guard<C> {
    fn drop(&mut self) {
        self.report(Outcome::Cancelled);
    }
}

/// Says what a result tells about the endpoint.
pub type Judge<T, E> = fn(&Result<T, E>) -> Outcome;

/// Puts [`Breaker`] around a service.
#[derive(Debug)]
pub struct BreakerLayer<T, E, C = SystemClock> {
    handle: BreakerHandle<C>,
    judge: Judge<T, E>,
}

impl<T, E, C: Clock> BreakerLayer<T, E, C> {
    #[must_use]
    pub fn new(handle: BreakerHandle<C>, judge: Judge<T, E>) -> Self {
        Self { handle, judge }
    }
}

impl<S, T, E, C: Clock> Layer<S> for BreakerLayer<T, E, C> {
    type Service = Breaker<S, T, E, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker { inner, handle: self.handle.clone(), judge: self.judge }
    }
}

/// Calls `inner` while its endpoint is well.
#[derive(Debug)]
pub struct Breaker<S, T, E, C = SystemClock> {
    inner: S,
    handle: BreakerHandle<C>,
    judge: Judge<T, E>,
}

impl<S: Clone, T, E, C: Clone> Clone for Breaker<S, T, E, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), handle: self.handle.clone(), judge: self.judge }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BreakerError<E> {
    /// The call was not made.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The call failed.
    #[error("the call failed")]
    Inner(#[source] E),
}

impl<S, Req, C> Service<Req> for Breaker<S, S::Response, S::Error, C>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
    Req: Send + 'static,
    C: Clock,
{
    type Response = S::Response;
    type Error = BreakerError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // A permit is taken when the call begins: one held by an idle service could be the probe.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let (inner, judge) = (self.inner.clone(), self.judge);
        let guard = self.handle.try_admit();
        Box::pin(async move {
            let guard = guard?;
            let result = inner.oneshot(request).await;
            guard.record(judge(&result));
            result.map_err(BreakerError::Inner)
        })
    }
}
