//! The typed clients against the real services. What was not built is not asked.

mod broker;
mod coordinator;
mod gateway;
mod replica;

use std::time::Duration;

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(30), future).await;
    done.unwrap_or_else(|_| panic!("not in time: {what}"))
}
