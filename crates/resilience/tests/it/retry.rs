//! The retry layer, and the breaker's, around services that follow a script.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use resilience::breaker::{self, BreakerError, BreakerHandle, BreakerLayer, Outcome, State};
use resilience::budget::{self, BudgetHandle};
use resilience::retry::{
    AttemptNumber, Failed, Failure, Policy, REPLAY_BYTES_MAX, ReplayBody, Retrier, RetryLayer,
};
use resilience::{SystemClock, system_random};
use tower::{Layer, ServiceExt, service_fn};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken(Failure);

impl Failed for Broken {
    fn failure(&self) -> Failure {
        self.0
    }
}

/// What the service does with one attempt.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Reads the whole body, then answers.
    Answer(u16),
    /// Fails before it reads anything.
    Refuse,
    /// Reads the whole body, then breaks.
    Break,
}

/// Attempts as the service saw them: their number and how many bytes it read.
type Seen = Arc<Mutex<Vec<(u32, usize)>>>;

async fn run<B>(script: &[Step], request: Request<B>) -> (Result<u16, Broken>, Vec<(u32, usize)>)
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let seen = Seen::default();
    let (steps, log) = (Arc::new(script.to_vec()), Arc::clone(&seen));
    let service = service_fn(move |request: Request<ReplayBody<B>>| {
        let (steps, log) = (Arc::clone(&steps), Arc::clone(&log));
        async move {
            let AttemptNumber(number) = *request.extensions().get().unwrap();
            let step = steps[(number as usize).min(steps.len() - 1)];
            let read = match step {
                Step::Refuse => 0,
                _ => request.into_body().collect().await.unwrap().to_bytes().len(),
            };
            log.lock().unwrap().push((number, read));
            match step {
                Step::Answer(status) => {
                    let status = StatusCode::from_u16(status).unwrap();
                    Ok(Response::builder().status(status).body(()).unwrap())
                }
                Step::Refuse => Err(Broken(Failure::NotSent)),
                Step::Break => Err(Broken(Failure::NoResponse)),
            }
        }
    });
    let budget = BudgetHandle::new(budget::Config::default(), SystemClock);
    let layer = RetryLayer::new(Retrier::new(Policy::default(), budget), Duration::from_secs(15));
    let result = layer.layer(service).oneshot(request).await;
    let seen = seen.lock().unwrap().clone();
    (result.map(|response| response.status().as_u16()), seen)
}

fn request(method: Method, bytes: usize) -> Request<Full<Bytes>> {
    Request::builder().method(method).body(Full::new(Bytes::from(vec![b'x'; bytes]))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_whole_body_is_sent_again() {
    let (result, seen) = run(&[Step::Break, Step::Answer(200)], request(Method::PUT, 1000)).await;
    assert_eq!(result, Ok(200));
    assert_eq!(seen, [(0, 1000), (1, 1000)]);
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_the_callers_when_nothing_better_can_be_had() {
    let (result, seen) = run(&[Step::Answer(503)], request(Method::GET, 0)).await;
    assert_eq!(result, Ok(503));
    assert_eq!(seen.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_request_is_repeated_only_if_it_was_never_sent() {
    let (result, seen) = run(&[Step::Refuse, Step::Answer(200)], request(Method::POST, 10)).await;
    assert_eq!((result, seen), (Ok(200), vec![(0, 0), (1, 10)]));
    let (result, seen) = run(&[Step::Break, Step::Answer(200)], request(Method::POST, 10)).await;
    assert_eq!((result, seen.len()), (Err(Broken(Failure::NoResponse)), 1));
    let (result, seen) = run(&[Step::Answer(503)], request(Method::POST, 10)).await;
    assert_eq!((result, seen.len()), (Ok(503), 1));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_outgrew_its_copy_is_sent_once() {
    let big = request(Method::PUT, REPLAY_BYTES_MAX + 1);
    let (result, seen) = run(&[Step::Break, Step::Answer(200)], big).await;
    assert_eq!(result, Err(Broken(Failure::NoResponse)));
    assert_eq!(seen, [(0, REPLAY_BYTES_MAX + 1)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_body_was_read_is_no_judgement_of_it() {
    let frames = (0..3).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"part"))));
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let request = Request::builder().method(Method::PUT).body(body).unwrap();
    let early = service_fn(|_: Request<ReplayBody<_>>| async {
        Ok::<_, Broken>(Response::builder().status(503).body(()).unwrap())
    });
    let budget = BudgetHandle::new(budget::Config::default(), SystemClock);
    let retrier = Retrier::new(Policy::default(), budget.clone());
    let layer = RetryLayer::new(retrier, Duration::from_secs(15));
    let response = layer.layer(early).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 503);
    // Three a second are free: had there been a retry, one would be gone.
    assert!((0..3).all(|_| budget.try_take()));
}

#[tokio::test(start_paused = true)]
async fn all_callers_together_stay_within_the_budget() {
    let config = budget::Config { permille: 100, floor_per_second: 0 };
    let retrier = Retrier::with(
        Policy::default(),
        BudgetHandle::new(config, SystemClock),
        SystemClock,
        system_random,
    );
    let attempts = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&attempts);
    let failing = service_fn(move |_: Request<ReplayBody<Full<Bytes>>>| {
        *counted.lock().unwrap() += 1;
        async { Err::<Response<()>, _>(Broken(Failure::NotSent)) }
    });
    let service = RetryLayer::new(retrier, Duration::from_secs(15)).layer(failing);
    for _ in 0..100 {
        service.clone().oneshot(request(Method::GET, 0)).await.unwrap_err();
    }
    let attempts = *attempts.lock().unwrap();
    assert!((105..=110).contains(&attempts), "{attempts} attempts of 100 requests");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_around_a_service_rejects_without_calling_it() {
    let handle = BreakerHandle::new(breaker::Config::default());
    let layer = BreakerLayer::new(handle.clone(), |result: &Result<(), ()>| match result {
        Ok(()) => Outcome::Success,
        Err(()) => Outcome::Failure,
    });
    let service = layer.layer(service_fn(|well: bool| async move { well.then_some(()).ok_or(()) }));
    for _ in 0..5 {
        let failed = service.clone().oneshot(false).await;
        assert!(matches!(failed, Err(BreakerError::Inner(()))));
    }
    assert!(matches!(service.clone().oneshot(true).await, Err(BreakerError::Rejected(_))));
    tokio::time::advance(Duration::from_secs(2)).await;
    // A caller who leaves in the middle of the probe does not keep the next one out.
    drop(handle.try_admit().unwrap());
    assert!(service.clone().oneshot(true).await.is_ok());
    assert_eq!(handle.state(), State::Ramping);
}
