//! The limit around a service.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service, ServiceExt};

use super::{Config, Places, Shed};

/// One limit. Clones share it.
#[derive(Clone, Debug)]
pub struct LimitHandle {
    config: Config,
    running: Arc<Semaphore>,
    waiting: Arc<Places>,
}

impl LimitHandle {
    #[must_use]
    pub fn new(config: Config) -> Self {
        let running = Arc::new(Semaphore::new(config.max_in_flight.min(Semaphore::MAX_PERMITS)));
        Self { config, running, waiting: Arc::new(Places::new(config.max_waiting)) }
    }

    /// Takes a slot, after a bounded wait.
    ///
    /// # Errors
    ///
    /// When there is none and none comes free in time.
    pub async fn acquire(&self) -> Result<Slot, Shed> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(Slot(permit));
        }
        let _place = self.waiting.try_enter().ok_or(Shed::QueueFull)?;
        let permit = Arc::clone(&self.running).acquire_owned();
        match tokio::time::timeout(self.config.wait_timeout, permit).await {
            Ok(permit) => Ok(Slot(permit.expect("nobody closes it"))),
            Err(_) => Err(Shed::WaitedTooLong),
        }
    }

    /// Calls that run now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.config.max_in_flight.saturating_sub(self.running.available_permits())
    }

    /// Calls that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.taken()
    }
}

/// The right to run; dropping it lets the next one in.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Puts [`Limit`] around a service.
#[derive(Clone, Debug)]
pub struct LimitLayer(LimitHandle);

impl LimitLayer {
    #[must_use]
    pub const fn new(handle: LimitHandle) -> Self {
        Self(handle)
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        Limit { inner, handle: self.0.clone() }
    }
}

/// Runs at most so many calls of `inner` at once. A slot is held until the answer's head: a body
/// that streams for hours does not occupy one.
#[derive(Clone, Debug)]
pub struct Limit<S> {
    inner: S,
    handle: LimitHandle,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LimitError<E> {
    /// The call was not made.
    #[error(transparent)]
    Shed(#[from] Shed),
    /// The call failed.
    #[error("the call failed")]
    Inner(#[source] E),
}

impl<S, Req> Service<Req> for Limit<S>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
{
    type Response = S::Response;
    type Error = LimitError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let _slot = this.handle.acquire().await?;
            this.inner.oneshot(request).await.map_err(LimitError::Inner)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn handle(max_in_flight: usize, max_waiting: usize) -> LimitHandle {
        let wait_timeout = Duration::from_millis(50);
        LimitHandle::new(Config { max_in_flight, max_waiting, wait_timeout })
    }

    #[tokio::test(start_paused = true)]
    async fn above_the_limit_it_waits_and_then_gives_up() {
        let handle = handle(1, 1);
        let slot = handle.acquire().await.unwrap();
        assert_eq!(handle.acquire().await.unwrap_err(), Shed::WaitedTooLong);
        drop(slot);
        assert!(handle.acquire().await.is_ok());
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_slot_that_comes_free() {
        let handle = handle(1, 1);
        let slot = handle.acquire().await.unwrap();
        let (waited, ()) = tokio::join!(handle.acquire(), async { drop(slot) });
        assert!(waited.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once() {
        let handle = handle(1, 1);
        let _slot = handle.acquire().await.unwrap();
        let (first, second) = tokio::join!(handle.acquire(), handle.acquire());
        assert_eq!(first.unwrap_err(), Shed::WaitedTooLong);
        assert_eq!(second.unwrap_err(), Shed::QueueFull);
    }
}
