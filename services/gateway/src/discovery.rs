//! Keeps the upstreams and the route table up to date.
//!
//! One task owns the change: it takes the configured endpoints, the coordinator's registrations
//! and the user routes, and swaps in what follows from them. When the coordinator is away the
//! last known registrations stay in use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::coordinator::InstanceStatus;
use api::gateway::{EndpointSource, RouteSpec};
use client::etcd::{Instance, Services};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;
use crate::registry::Documents;
use crate::table::{Route, SERVICES, Table, own_upstream};
use crate::upstream::{Authority, EndpointKey, Origin, Wanted, authority_of};

/// How often unused connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What the upstreams follow from.
pub(crate) struct Sources {
    /// From the configuration, by service.
    pub configured: BTreeMap<String, Vec<Authority>>,
    /// From the coordinator; `None` without one.
    pub services: Option<watch::Receiver<Arc<Services>>>,
    pub routes: watch::Receiver<Arc<Documents<RouteSpec>>>,
}

/// Runs until `stop`.
pub(crate) async fn run(gateway: Gateway, mut sources: Sources, stop: CancellationToken) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        sources.apply(&gateway);
        loop {
            tokio::select! {
                () = stop.cancelled() => return gateway.upstreams().clear(),
                _ = sweep.tick() => gateway.upstreams().sweep(),
                () = changed(sources.services.as_mut()) => break,
                () = changed(Some(&mut sources.routes)) => break,
            }
        }
    }
}

/// Waits for a change; forever when there is nobody who could make one.
async fn changed<T>(source: Option<&mut watch::Receiver<T>>) {
    if let Some(source) = source
        && source.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

impl Sources {
    /// Makes the gateway what the sources say now.
    pub(crate) fn apply(&mut self, gateway: &Gateway) {
        let routes = self.routes.borrow_and_update().clone();
        let services = self.services.as_mut().map(|watch| watch.borrow_and_update().clone());
        let wanted = wanted(&self.configured, services.as_deref(), &routes);
        gateway.upstreams().replace(&wanted);
        let table = routes.entries.iter().map(|(name, spec)| Route::new(name, spec));
        gateway.shared.table.store(Arc::new(Table::new(table)));
    }
}

/// The endpoints of every upstream.
fn wanted(
    configured: &BTreeMap<String, Vec<Authority>>,
    services: Option<&Services>,
    routes: &Documents<RouteSpec>,
) -> Wanted {
    let mut wanted: Wanted =
        SERVICES.into_iter().map(|service| (service.to_owned(), BTreeMap::new())).collect();
    for (service, authorities) in configured {
        wanted.entry(service.clone()).or_default().extend(authorities.iter().map(fixed));
    }
    for (service, instances) in services.into_iter().flat_map(|known| &known.services) {
        let endpoints = wanted.entry(service.clone()).or_default();
        for (name, instance) in usable(instances) {
            let Some((key, origin)) = discovered(name, instance) else { continue };
            // The same address by hand and by registration is one endpoint.
            if !endpoints.keys().any(|known| known.authority == key.authority) {
                endpoints.insert(key, origin);
            }
        }
    }
    for (name, spec) in &routes.entries {
        let own = spec.endpoints.iter().filter_map(|url| authority_of(url).ok());
        if spec.service.is_none() {
            wanted.insert(own_upstream(name), own.map(|authority| fixed(&authority)).collect());
        }
    }
    wanted
}

fn fixed(authority: &Authority) -> (EndpointKey, Origin) {
    let key = EndpointKey { authority: authority.clone(), incarnation: 0 };
    (key, Origin { source: EndpointSource::Static, instance: None })
}

/// The instances whose check does not fail; all of them if it fails for all, because a checker
/// may be wrong and a request may still get through.
fn usable(instances: &BTreeMap<String, Instance>) -> Vec<(&String, &Instance)> {
    let well = |instance: &Instance| instance.value.status != Some(InstanceStatus::Failing);
    let any_well = instances.values().any(well);
    instances.iter().filter(|(_, instance)| well(instance) || !any_well).collect()
}

fn discovered(name: &str, instance: &Instance) -> Option<(EndpointKey, Origin)> {
    let authority = authority_of(instance.url.as_str()).ok()?;
    let key = EndpointKey { authority, incarnation: instance.revision };
    let origin = Origin { source: EndpointSource::Discovered, instance: Some(name.to_owned()) };
    Some((key, origin))
}
