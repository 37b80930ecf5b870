//! Repeats a request while its service is away.
//!
//! Only for requests that may be repeated: those with an idempotency key, those that set
//! something to a value, compare-and-sets, and reads.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};

use crate::http::{Http, HttpError, Request, Response};

/// Longer than a broker needs to come back; a service that is away longer is a failed demo.
const GIVE_UP_AFTER: Duration = Duration::from_secs(45);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Returns the first answer that is not about the service being away or busy.
pub(crate) async fn persist(http: &Http, request: &Request) -> anyhow::Result<Response> {
    let deadline = Instant::now() + GIVE_UP_AFTER;
    let mut pause = FIRST_PAUSE;
    loop {
        let failure = match http.send(request.clone()).await {
            Ok(response) => return Ok(response),
            Err(error) if error.status.is_some_and(|status| !passes(status)) => {
                return Err(error.into());
            }
            Err(error) => error,
        };
        if deadline <= Instant::now() {
            return Err(failure)
                .with_context(|| format!("no success within {} s", GIVE_UP_AFTER.as_secs()));
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Whether it is an answer of this status.
pub(crate) fn is_status(error: &anyhow::Error, status: u16) -> bool {
    error.downcast_ref::<HttpError>().is_some_and(|error| error.status == Some(status))
}

/// Whether a later repeat may succeed.
fn passes(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}
