//! What the actions share: who asks, how requests are read, which queue is meant.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::deadline::Deadline;
use http::{HeaderMap, header};
use messaging::catalog::CatalogRefused;
use messaging::ids::{Millis, Name};
use serde::de::DeserializeOwned;

use crate::broker::Broker;
use crate::directory::QueueHandle;
use crate::error::AdminError;
use crate::sqs::{Attempts, Code, Fault, Home, Notes, Settings};

/// How often a change is tried when others change the same queue.
const TRIES: u32 = 20;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(25);

/// A request of a client.
pub(super) struct Call {
    pub(super) broker: Broker,
    pub(super) home: Home,
    pub(super) deadline: Option<Deadline>,
    attempts: Arc<Mutex<Attempts>>,
}

impl Call {
    pub(super) fn new(
        broker: Broker,
        attempts: Arc<Mutex<Attempts>>,
        deadline: Option<Deadline>,
        headers: &HeaderMap,
    ) -> Self {
        let settings = &broker.limits().sqs;
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let base = host.map_or_else(
            || broker.shared.announced.client_url.clone(),
            |host| format!("http://{host}"),
        );
        let region = signed_region(headers).unwrap_or_else(|| settings.region.clone());
        let home = Home { base, account: settings.account.clone(), region };
        Self { broker, home, deadline, attempts }
    }

    /// Answers that may be asked for again. Locked for a look only.
    pub(super) fn attempts<R>(&self, look: impl FnOnce(&mut Attempts, Millis) -> R) -> R {
        let now = self.broker.now_ms();
        look(&mut self.attempts.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// The queue that a request names.
    pub(super) fn queue(&self, url: Option<&str>) -> Result<Arc<QueueHandle>, Fault> {
        let url = url.filter(|url| !url.is_empty()).ok_or_else(|| Fault::missing("QueueUrl"))?;
        let name = self.home.queue_of_url(url)?;
        Ok(self.broker.directory().queue(&name)?)
    }

    /// Changes a queue. `edit` sees it as it is, once more when somebody else was faster.
    pub(super) async fn change(
        &self,
        name: &Name,
        mut edit: impl FnMut(&mut Settings) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for _ in 0..TRIES {
            let queue = self.broker.directory().queue(name)?;
            let before = settings(&queue);
            let mut after = before.clone();
            edit(&mut after)?;
            if after == before {
                return Ok(());
            }
            let seen = Some((queue.entry.group, queue.entry.version));
            let notes = after.notes.text();
            match self.broker.put_queue_as(name.clone(), seen, after.config, notes).await {
                Err(AdminError::Refused(CatalogRefused::QueueChanged(_))) => {
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result.map(|_changed| ()).map_err(Fault::from),
            }
        }
        let message = "The queue is being changed by many at once; repeat.";
        Err(Fault::new(Code::ServiceUnavailable, message))
    }
}

/// A queue as SQS sees it.
pub(super) fn settings(queue: &QueueHandle) -> Settings {
    Settings { config: queue.entry.config.clone(), notes: Notes::read(&queue.entry.notes) }
}

/// A request's members. Those that are not known are newer than this broker, and left alone.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        Fault::new(Code::SerializationException, format!("The request cannot be read: {error}"))
    })
}

/// The region in the credential of a signature: `KEY/DATE/REGION/sqs/aws4_request`.
fn signed_region(headers: &HeaderMap) -> Option<String> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (_, credential) = header.split_once("Credential=")?;
    let region = credential.split(',').next()?.split('/').nth(2)?;
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    let is_region = (1..=32).contains(&region.len()) && region.bytes().all(fits);
    is_region.then(|| region.to_owned())
}

/// A number of a request within its bounds.
pub(super) fn bounded(
    name: &str,
    given: Option<i64>,
    (min, max): (u32, u32),
    default: u32,
) -> Result<u32, Fault> {
    let Some(given) = given else { return Ok(default) };
    let number = u32::try_from(given).ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| {
        let reason = format!("Must be between {min} and {max}, if provided.");
        Fault::value(name, given, &reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_one_that_was_signed_for() {
        let mut headers = HeaderMap::new();
        assert_eq!(signed_region(&headers), None);
        let signature = "AWS4-HMAC-SHA256 Credential=AKID/20261123/eu-central-1/sqs/aws4_request, \
                         SignedHeaders=host, Signature=00";
        headers.insert(header::AUTHORIZATION, signature.parse().unwrap());
        assert_eq!(signed_region(&headers).as_deref(), Some("eu-central-1"));
        headers.insert(header::AUTHORIZATION, "Bearer x".parse().unwrap());
        assert_eq!(signed_region(&headers), None);
    }
}
