//! The loop around the attempts: judge, pay, wait, go again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::{Layer, Service, ServiceExt};

use super::{BodyState, Call, Decision, Failure, Policy, Repeat, ReplayBody, ReplayHandle, Stop};
use crate::budget::BudgetHandle;
use crate::deadline::Deadline;
use crate::{Clock, Random, SystemClock, system_random};

/// An error that knows how far its attempt got.
pub trait Failed {
    fn failure(&self) -> Failure;
}

/// What one service's callers share: the policy, the budget, the clock and the randomness.
#[derive(Clone, Debug)]
pub struct Retrier<C = SystemClock> {
    policy: Policy,
    budget: BudgetHandle<C>,
    clock: C,
    random: Random,
}

/// The last attempt's failure, and why there was no further one.
#[derive(Debug)]
pub struct RetryError<E> {
    pub error: E,
    pub stop: Stop,
    /// Attempts after the first.
    pub retries: u32,
}

/// One request, as far as retrying it is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub repeat: Repeat,
    pub deadline: Deadline,
    /// See [`Call::typical`].
    pub typical: Duration,
}

impl Retrier<SystemClock> {
    /// A retrier of the running process.
    #[must_use]
    pub fn new(policy: Policy, budget: BudgetHandle) -> Self {
        Self::with(policy, budget, SystemClock, system_random)
    }
}

impl<C: Clock> Retrier<C> {
    /// A retrier with its own clock and randomness.
    #[must_use]
    pub fn with(policy: Policy, budget: BudgetHandle<C>, clock: C, random: Random) -> Self {
        Self { policy, budget, clock, random }
    }

    /// The shared budget.
    #[must_use]
    pub const fn budget(&self) -> &BudgetHandle<C> {
        &self.budget
    }

    /// Runs `attempt` (which is told how many came before) until it succeeds or must not be
    /// repeated. `body` says what is kept of the request's body.
    ///
    /// # Errors
    ///
    /// The failure of the last attempt.
    pub async fn run<T, E, F>(
        &self,
        plan: Plan,
        body: impl Fn() -> BodyState,
        mut attempt: impl FnMut(u32) -> F,
    ) -> Result<T, RetryError<E>>
    where
        E: Failed,
        F: Future<Output = Result<T, E>>,
    {
        self.budget.record_request();
        let mut retries = 0;
        loop {
            let error = match attempt(retries).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match self.judge(plan, body(), retries, error.failure()) {
                Decision::Stop(stop) => return Err(RetryError { error, stop, retries }),
                Decision::RetryAfter(wait) => tokio::time::sleep(wait).await,
            }
            retries += 1;
        }
    }

    /// Judges one failure and, when the answer is yes, takes it out of the budget.
    #[must_use]
    pub fn judge(&self, plan: Plan, body: BodyState, retries: u32, failure: Failure) -> Decision {
        let remaining = plan.deadline.remaining(self.clock.now()).unwrap_or_default();
        let call = Call { repeat: plan.repeat, body, retries, remaining, typical: plan.typical };
        match self.policy.decide(call, failure, (self.random)()) {
            Decision::RetryAfter(_) if !self.budget.try_take() => Decision::Stop(Stop::Budget),
            decision => decision,
        }
    }
}

/// The number of an attempt, from zero. In the extensions of the request that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptNumber(pub u32);

/// Puts [`Retry`] around a service.
#[derive(Clone, Debug)]
pub struct RetryLayer<C = SystemClock> {
    retrier: Retrier<C>,
    timeout: Duration,
}

impl<C: Clock> RetryLayer<C> {
    /// Requests without a [`Deadline`] among their extensions get `timeout`.
    #[must_use]
    pub const fn new(retrier: Retrier<C>, timeout: Duration) -> Self {
        Self { retrier, timeout }
    }
}

impl<S, C: Clock> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry { inner, retrier: self.retrier.clone(), timeout: self.timeout }
    }
}

/// Repeats requests to `inner` as the policy allows. The answer's head is the last thing that can
/// be judged: once it is returned, its body belongs to the caller and nothing is repeated.
#[derive(Clone, Debug)]
pub struct Retry<S, C = SystemClock> {
    inner: S,
    retrier: Retrier<C>,
    timeout: Duration,
}

/// Either an error of the service, or the answer that would have been retried: it goes to the
/// caller as it is, when nothing better can be had.
enum Attempt<R, E> {
    Error(E),
    Answer(Response<R>, Failure),
}

impl<R, E: Failed> Failed for Attempt<R, E> {
    fn failure(&self) -> Failure {
        match self {
            Self::Error(error) => error.failure(),
            Self::Answer(_, failure) => *failure,
        }
    }
}

impl<S, B, R, C> Service<Request<B>> for Retry<S, C>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Failed + Send,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    R: Send + 'static,
    C: Clock,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Each attempt waits for its own clone: readiness of one says nothing about another.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (retry, (head, body)) = (self.clone(), request.into_parts());
        Box::pin(async move {
            let replay = ReplayHandle::new(body);
            let deadline = head
                .extensions
                .get::<Deadline>()
                .copied()
                .unwrap_or_else(|| Deadline::after(retry.retrier.clock.now(), retry.timeout));
            let repeat = Repeat::of(&head.method, &head.headers);
            let plan = Plan { repeat, deadline, typical: Duration::ZERO };
            let (bodies, inner) = (replay.clone(), retry.inner);
            let attempt = move |number| {
                let body = bodies.attempt().expect("a truncated body is not retried");
                let mut request = Request::from_parts(head.clone(), body);
                request.extensions_mut().insert(AttemptNumber(number));
                let call = inner.clone().oneshot(request);
                async move {
                    let response = call.await.map_err(Attempt::Error)?;
                    match Failure::from_response(response.status(), response.headers()) {
                        Some(failure) => Err(Attempt::Answer(response, failure)),
                        None => Ok(response),
                    }
                }
            };
            match retry.retrier.run(plan, || replay.state(), attempt).await {
                Ok(response) | Err(RetryError { error: Attempt::Answer(response, _), .. }) => {
                    Ok(response)
                }
                Err(RetryError { error: Attempt::Error(error), .. }) => Err(error),
            }
        })
    }
}
