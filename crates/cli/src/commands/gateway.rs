//! `quartet method`, `quartet route`, `quartet upstream`: what the gateway knows.

use api::gateway::{
    BreakerState, HttpMethod, MethodList, MethodSpec, Name, RouteList, RouteMatch, RoutePolicy,
    RouteSpec, UpstreamList,
};
use clap::Subcommand;

use super::{Session, or_dash};
use crate::cluster::Service;
use crate::http::{Request, encode};
use crate::output::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum MethodCommand {
    /// List methods, built-in ones too.
    Ls,
    /// Register a method, or change it.
    Put {
        name: String,
        /// Which service answers.
        #[arg(long)]
        service: Name,
        /// Where, such as /v1/price/{sku}: a field of the data fills each brace.
        #[arg(long)]
        path: String,
        /// GET, POST, PUT, …
        #[arg(long, default_value = "POST", value_parser = http_method)]
        http_method: HttpMethod,
        #[arg(long, default_value = "15000")]
        timeout_ms: u64,
        /// Twice is the same as once: the gateway may repeat it.
        #[arg(long)]
        idempotent: bool,
    },
    /// Remove a method.
    Rm { name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// List routes.
    Ls,
    /// Create a route, or change it. It takes requests by host, path prefix, or both.
    Put {
        name: String,
        #[arg(long)]
        host: Option<String>,
        #[arg(long, value_name = "/PREFIX")]
        path_prefix: Option<String>,
        /// A registered service that answers.
        #[arg(long, required_unless_present = "endpoint_urls")]
        service: Option<Name>,
        /// A fixed endpoint that answers; may be given several times.
        #[arg(long = "to", value_name = "URL", conflicts_with = "service")]
        endpoint_urls: Vec<String>,
        /// Take the prefix off before the request is passed on.
        #[arg(long)]
        strip_prefix: bool,
        #[arg(long)]
        timeout_ms: Option<u64>,
        #[arg(long)]
        retries: Option<u32>,
    },
    /// Remove a route.
    Rm { name: String },
}

pub(crate) async fn method(session: &Session, command: MethodCommand) -> anyhow::Result<()> {
    let of = |name: &str| session.url(Service::Gateway, &format!("/v1/methods/{}", encode(name)));
    match command {
        MethodCommand::Ls => {
            let request = Request::get(session.url(Service::Gateway, "/v1/methods"));
            let Some(list) = session.ask::<MethodList>(request).await? else { return Ok(()) };
            let mut table = Table::new(["METHOD", "SERVICE", "REQUEST", "WHAT"]);
            for method in list.methods {
                let spec = method.spec;
                table.row([
                    method.name,
                    or_dash(spec.as_ref().map(|spec| &spec.service)),
                    or_dash(
                        spec.as_ref()
                            .map(|spec| format!("{} {}", spec.http_method.as_str(), spec.path)),
                    ),
                    method.summary.unwrap_or_default(),
                ]);
            }
            table.print();
            Ok(())
        }
        MethodCommand::Put { name, service, path, http_method, timeout_ms, idempotent } => {
            let idempotent = idempotent.then_some(true);
            let spec = MethodSpec { service, path, http_method, timeout_ms, idempotent };
            let done = format!("method {name} is registered");
            session.tell(Request::put(of(&name)).json(&spec), &done).await
        }
        MethodCommand::Rm { name } => {
            session.tell(Request::delete(of(&name)), &format!("method {name} is removed")).await
        }
    }
}

pub(crate) async fn route(session: &Session, command: RouteCommand) -> anyhow::Result<()> {
    let of = |name: &str| session.url(Service::Gateway, &format!("/v1/routes/{}", encode(name)));
    match command {
        RouteCommand::Ls => {
            let request = Request::get(session.url(Service::Gateway, "/v1/routes"));
            let Some(list) = session.ask::<RouteList>(request).await? else { return Ok(()) };
            let mut table = Table::new(["ROUTE", "HOST", "PREFIX", "TO"]);
            for route in list.routes {
                let fixed = route.spec.endpoints.join(", ");
                table.row([
                    route.name,
                    or_dash(route.spec.matches.host),
                    or_dash(route.spec.matches.path_prefix),
                    route.spec.service.map_or(fixed, |service| service.to_string()),
                ]);
            }
            table.print();
            Ok(())
        }
        RouteCommand::Put {
            name,
            host,
            path_prefix,
            service,
            endpoint_urls,
            strip_prefix,
            timeout_ms,
            retries,
        } => {
            let spec = RouteSpec {
                matches: RouteMatch { host, path_prefix, methods: Vec::new() },
                service,
                endpoints: endpoint_urls,
                strip_prefix,
                policy: RoutePolicy { timeout_ms, retries, ..RoutePolicy::default() },
            };
            let done = format!("route {name} is live");
            session.tell(Request::put(of(&name)).json(&spec), &done).await
        }
        RouteCommand::Rm { name } => {
            session.tell(Request::delete(of(&name)), &format!("route {name} is removed")).await
        }
    }
}

/// Every endpoint with what the gateway thinks of it.
pub(crate) async fn upstreams(session: &Session) -> anyhow::Result<()> {
    let request = Request::get(session.url(Service::Gateway, "/v1/upstreams"));
    let Some(list) = session.ask::<UpstreamList>(request).await? else { return Ok(()) };
    let mut table = Table::new([
        "SERVICE",
        "ENDPOINT",
        "BREAKER",
        "IN FLIGHT",
        "LATENCY",
        "REQUESTS",
        "FAILED",
    ]);
    for upstream in list.upstreams {
        for of in upstream.endpoints {
            let breaker = match of.breaker {
                BreakerState::Closed => "closed",
                BreakerState::Open => "open",
                BreakerState::HalfOpen => "half open",
                BreakerState::Recovering => "recovering",
            };
            table.row([
                upstream.service.clone(),
                of.endpoint,
                breaker.to_owned(),
                of.in_flight.to_string(),
                or_dash(of.latency_ewma_ms.map(|latency| format!("{latency:.1} ms"))),
                of.requests.to_string(),
                of.failures.to_string(),
            ]);
        }
    }
    table.print();
    Ok(())
}

fn http_method(text: &str) -> Result<HttpMethod, String> {
    let name = serde_json::Value::from(text.to_ascii_uppercase());
    serde_json::from_value(name).map_err(|_| "not an HTTP method of a call".to_owned())
}
