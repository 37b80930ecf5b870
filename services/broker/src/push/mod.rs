//! Push: the leader of each partition takes messages as a consumer would, and calls an endpoint.
//!
//! Leases, counts, backoff and dead letters are those of every subscription; here is decided when
//! an endpoint is called and what its answer means. A pusher lives as long as this node leads in
//! one term: what it was about to settle afterwards, the log refuses, and the next leader sends
//! the message again under the same `webhook-id`.
//!
//! **Invariant:** nothing is taken while the endpoint must not be called, so waiting costs no
//! delivery.
//! **Invariant:** redirects are not followed, and addresses within the site are not called unless
//! the configuration says so.

mod endpoint;
mod judge;
mod letter;
mod pusher;
pub(crate) mod sign;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Url;
use client::webhook::{Caller, Reach};
use messaging::ids::Name;
use telemetry::trace::{TraceContext, current};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::broker::Broker;
use crate::config::Config;
use crate::directory::{PartitionHandle, SubscriptionHandle};
use crate::route::At;
use endpoint::Endpoints;
use judge::{Judgement, judge};
use pusher::Pusher;

/// What pushers share.
#[derive(Debug)]
pub(crate) struct Pushing {
    pub(crate) caller: Caller,
    endpoints: Endpoints,
}

impl Pushing {
    pub(crate) fn new(config: &Config) -> Self {
        let reach = match (config.broker.webhooks.allow_private, config.base.listen.ip()) {
            (true, _) => Reach::Everything,
            // Whoever can ask for it is on this machine already.
            (false, listen) if listen.is_loopback() => Reach::Loopback,
            (false, _) => Reach::Public,
        };
        let caller = Caller::new(reach).expect("a client without TLS asks nothing of the system");
        Self { caller, endpoints: Endpoints::default() }
    }
}

/// The pushers of one partition, in one term. They end when this is dropped.
#[derive(Default)]
pub(crate) struct Pushers(BTreeMap<Name, (Arc<SubscriptionHandle>, DropGuard)>);

impl Pushers {
    /// Replaces those whose settings have changed, and starts those that are missing. Who is
    /// replaced takes nothing more, and its calls end as they would.
    pub(crate) fn follow(&mut self, at: &At<PartitionHandle>) {
        let Some(topic) = at.handle.topic_in(&at.broker.directory()) else {
            return self.0.clear();
        };
        let is_same = |name: &Name, known: &Arc<SubscriptionHandle>| {
            topic.subscriptions.get(name).is_some_and(|now| Arc::ptr_eq(known, now))
        };
        let replaced: Vec<Name> = self
            .0
            .iter()
            .filter(|(name, (known, _))| !is_same(name, known))
            .map(|(name, _)| name.clone())
            .collect();
        for name in replaced {
            if let Some((_, end)) = self.0.remove(&name) {
                end.disarm();
            }
        }
        for (name, subscription) in &topic.subscriptions {
            if !self.0.contains_key(name)
                && let Some(end) = spawn(at, subscription)
            {
                self.0.insert(name.clone(), (subscription.clone(), end));
            }
        }
    }
}

/// None if it does not push.
fn spawn(at: &At<PartitionHandle>, subscription: &Arc<SubscriptionHandle>) -> Option<DropGuard> {
    let push = subscription.entry.push.clone().filter(|push| push.paused.is_none())?;
    let url: Url = push.url.parse().ok()?;
    let endpoints = &at.broker.shared.pushing.endpoints;
    let (gate, slots) = (endpoints.gate(&url), endpoints.slots(subscription.entry.id));
    let subscription = subscription.clone();
    let pusher = Pusher { at: at.clone(), subscription, push, url, gate, slots };
    let (end, stop) = (CancellationToken::new(), at.broker.shared.stop.clone());
    let guard = end.clone().drop_guard();
    at.broker.shared.tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => (),
            () = end.cancelled() => (),
            () = pusher.run() => (),
        }
    });
    Some(guard)
}

/// What an endpoint made of a made-up message.
pub(crate) struct Tested {
    pub(crate) delivered: bool,
    pub(crate) status: Option<u16>,
    pub(crate) detail: String,
}

impl Broker {
    /// Calls the endpoint of a subscription once, with a made-up message. None: it has no endpoint.
    pub(crate) async fn test_push(&self, subscription: &SubscriptionHandle) -> Option<Tested> {
        /// As much of an answer as is shown.
        const SHOWN: usize = 1_024;
        let push = subscription.entry.push.as_ref()?;
        let url: Url = push.url.parse().ok()?;
        let context = current().unwrap_or_else(TraceContext::random);
        let letter = letter::test((&url, push), self.now_ms(), context);
        let called = self.shared.pushing.caller.post(letter).await;
        let (judgement, ..) = judge(&called);
        let detail = match &called {
            Ok(answered) => {
                let shown = &answered.body[..answered.body.len().min(SHOWN)];
                String::from_utf8_lossy(shown).into_owned()
            }
            Err(error) => error.to_string(),
        };
        let status = called.ok().map(|answered| answered.status);
        Some(Tested { delivered: judgement == Judgement::Delivered, status, detail })
    }
}
