//! Puts the gateway together.

use std::collections::BTreeMap;
use std::time::Duration;

use api::gateway::{METHOD_KEYS, ROUTE_KEYS};
use chassis::{Context, Service, StartError};
use client::etcd::Discovery;
use utoipa::OpenApi as _;

use crate::config::Config;
use crate::discovery::{self, Sources};
use crate::gateway::Gateway;
use crate::handlers::{self, Description, Registered, State};
use crate::headers::Pseudonym;
use crate::later::{Later, Worker};
use crate::metrics::Metrics;
use crate::pool::Tasks;
use crate::registry::Registry;
use crate::rpc::Rpc;
use crate::table::SERVICES;
use crate::upstream::{Authority, Parts, Upstreams, authority_of};

/// Starts the gateway. It serves at once: what it does not know yet it answers with 503, and
/// learns from the coordinator as soon as that answers.
///
/// # Errors
///
/// When the coordinator's URLs are none.
pub async fn start(context: Context<Config>) -> Result<Service, StartError> {
    let config = &context.config;
    let etcd = chassis::coordinator(&config.base.coordinator)?;
    let (tasks, stop) = (&context.tasks, &context.stop);
    let discovery = etcd.clone().map(|etcd| Discovery::start(etcd, tasks, stop.clone()));
    if let Some(discovery) = discovery.clone() {
        let check = context.health.check("coordinator", "the coordinator has not answered yet");
        let stop = stop.clone();
        tasks.spawn(async move {
            if stop.run_until_cancelled(discovery.ready()).await.is_some() {
                // From here on the last known state serves, also when the coordinator is away.
                check.pass();
            }
        });
    }
    let methods = Registry::start(etcd.clone(), METHOD_KEYS, tasks, stop);
    let routes = Registry::start(etcd, ROUTE_KEYS, tasks, stop);

    let parts = Parts {
        pool: config.pool.settings(),
        breaker: config.breaker.settings(),
        budget: config.retry_budget.settings(),
        tasks: Tasks { tracker: tasks.clone(), stop: stop.clone() },
    };
    let idle = Duration::from_secs(config.idle_timeout_seconds);
    let metrics = Metrics::new(&context.metrics);
    let us = Pseudonym::new(&context.node, resilience::system_random());
    let ending = (us, context.draining.clone());
    let gateway = Gateway::new(Upstreams::new(parts), metrics, idle, ending);
    let services = discovery.as_ref().map(Discovery::watch);
    let mut sources = Sources {
        configured: configured(config)?,
        services: services.clone(),
        routes: routes.watch(),
    };
    // Before the first request, so that configured endpoints are there for it.
    sources.apply(&gateway);
    tasks.spawn(discovery::run(gateway.clone(), sources, stop.clone()));

    let rpc = Rpc { gateway: gateway.clone(), methods: methods.clone() };
    let services = Registered(services);
    let clock = context.clock.clone();
    let later = Later::new(rpc.clone());
    let worker = Worker {
        later: later.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        draining: context.draining.clone(),
    };
    tasks.spawn(worker.run());
    let state = State { gateway, rpc, later, methods, routes, services, clock };
    Ok(Service {
        public: handlers::router(state),
        peer: None,
        openapi: Description::openapi(),
        failed: Box::pin(std::future::pending()),
    })
}

/// The endpoints of the configuration. The coordinator's are known anyway.
fn configured(config: &Config) -> Result<BTreeMap<String, Vec<Authority>>, StartError> {
    let read = |url: &String| authority_of(url).map_err(|error| StartError::new(error.to_string()));
    let mut configured = BTreeMap::new();
    for (service, endpoints) in &config.upstreams {
        let authorities = endpoints.endpoints.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        configured.insert(service.clone(), authorities);
    }
    let [coordinator, ..] = SERVICES;
    let known = config.base.coordinator.endpoints.iter();
    let known = known.filter_map(|url| authority_of(url).ok()).collect();
    configured.entry(coordinator.to_owned()).or_insert(known);
    Ok(configured)
}
