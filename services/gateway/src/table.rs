//! Which upstream a request goes to: the services by their first path segment, then user routes.
//!
//! The table is immutable and swapped as a whole, so a request sees one state of it.

use std::sync::Arc;
use std::time::Duration;

use api::gateway::{Balance, RoutePolicy, RouteSpec};
use http::uri::PathAndQuery;
use resilience::balance::Strategy;

/// Path prefixes that belong to the gateway or its services; user routes cannot take them.
pub(crate) const RESERVED: &[&str] = &[
    "/v1",
    "/v3",
    "/coordinator",
    "/broker",
    "/replica",
    "/livez",
    "/readyz",
    "/metrics",
    "/version",
    "/openapi.json",
    "/docs",
    "/ui",
];

/// Services that have a path of their own.
pub(crate) const SERVICES: [&str; 3] = ["coordinator", "broker", "replica"];

/// How requests of one route are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub timeout: Duration,
    pub per_try: Option<Duration>,
    pub retries: u32,
    pub strategy: Strategy,
}

/// A service waits up to a minute in a long poll; its answer must still get through.
pub(crate) const SERVICE_POLICY: Policy = Policy {
    timeout: Duration::from_secs(75),
    per_try: None,
    retries: 2,
    strategy: Strategy::LeastLatency,
};

impl Policy {
    /// A user's policy over the safe defaults.
    pub(crate) fn of(policy: &RoutePolicy) -> Self {
        let timeout_ms = policy.timeout_ms.unwrap_or(api::gateway::default_timeout_ms());
        Self {
            timeout: Duration::from_millis(timeout_ms),
            per_try: policy.per_try_timeout_ms.map(Duration::from_millis),
            retries: policy.retries.unwrap_or(2),
            strategy: match policy.balance.unwrap_or_default() {
                Balance::RoundRobin => Strategy::RoundRobin,
                Balance::LeastLatency => Strategy::LeastLatency,
            },
        }
    }
}

/// One user route, ready to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    name: String,
    host: Option<HostPattern>,
    prefix: String,
    methods: Vec<&'static str>,
    strip_prefix: bool,
    upstream: String,
    policy: Policy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Exact(String),
    /// What follows the star, with its dot.
    Below(String),
}

impl Route {
    /// A checked route.
    pub(crate) fn new(name: &str, spec: &RouteSpec) -> Self {
        let upstream = match &spec.service {
            Some(service) => service.to_string(),
            None => own_upstream(name),
        };
        let prefix = spec.matches.path_prefix.as_deref().unwrap_or("/");
        Self {
            name: name.to_owned(),
            host: spec.matches.host.as_deref().map(host_pattern),
            prefix: prefix.trim_end_matches('/').to_owned(),
            methods: spec.matches.methods.iter().map(|method| method.as_str()).collect(),
            strip_prefix: spec.strip_prefix,
            upstream,
            policy: Policy::of(&spec.policy),
        }
    }

    fn takes(&self, host: Option<&str>, path: &str, method: &str) -> bool {
        let host_fits = match &self.host {
            None => true,
            Some(HostPattern::Exact(exact)) => host == Some(exact),
            Some(HostPattern::Below(suffix)) => host.is_some_and(|host| host.ends_with(suffix)),
        };
        host_fits
            && is_below(path, &self.prefix)
            && (self.methods.is_empty() || self.methods.contains(&method))
    }

    /// Narrow routes are asked before wide ones: host, then path, then methods, then name.
    fn rank(&self) -> impl Ord + use<> {
        let host = match &self.host {
            Some(HostPattern::Exact(_)) => 0,
            Some(HostPattern::Below(suffix)) => usize::MAX - suffix.len(),
            None => usize::MAX,
        };
        (host, usize::MAX - self.prefix.len(), self.methods.is_empty(), self.name.clone())
    }
}

fn host_pattern(host: &str) -> HostPattern {
    let host = host.to_ascii_lowercase();
    match host.strip_prefix('*') {
        Some(suffix) => HostPattern::Below(suffix.to_owned()),
        None => HostPattern::Exact(host),
    }
}

/// The upstream of a route that names its own endpoints.
pub(crate) fn own_upstream(route: &str) -> String {
    format!("route:{route}")
}

/// Whether `path` is `prefix` or continues it by whole segments.
pub(crate) fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub upstream: String,
    pub target: PathAndQuery,
    pub policy: Policy,
    /// Whether the upstream is one of ours, whose paths may hold any encoded byte.
    pub ours: bool,
}

/// All routes, narrow ones first.
#[derive(Debug, Default)]
pub(crate) struct Table {
    routes: Vec<Arc<Route>>,
}

impl Table {
    pub(crate) fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
        routes.sort_by_cached_key(|route| route.rank());
        Self { routes }
    }

    /// The destination of a request, if it has one.
    pub(crate) fn find(
        &self,
        host: Option<&str>,
        target: &PathAndQuery,
        method: &str,
    ) -> Option<Destination> {
        let path = target.path();
        if let Some(service) = service_of(path) {
            return Some(Destination {
                upstream: service.to_owned(),
                target: without(target, service.len() + 1)?,
                policy: SERVICE_POLICY,
                ours: true,
            });
        }
        if RESERVED.iter().any(|prefix| is_below(path, prefix)) {
            return None;
        }
        let route = self.routes.iter().find(|route| route.takes(host, path, method))?;
        let cut = if route.strip_prefix { route.prefix.len() } else { 0 };
        Some(Destination {
            upstream: route.upstream.clone(),
            target: without(target, cut)?,
            policy: route.policy,
            ours: false,
        })
    }
}

/// The service that the first segment names, byte for byte: `/%62roker` is not the broker.
fn service_of(path: &str) -> Option<&'static str> {
    let first = path.strip_prefix('/')?.split('/').next()?;
    SERVICES.into_iter().find(|service| *service == first)
}

/// The target without its first `cut` bytes, which end at a segment.
fn without(target: &PathAndQuery, cut: usize) -> Option<PathAndQuery> {
    let rest = target.as_str().get(cut..)?;
    if rest.starts_with('/') {
        return rest.parse().ok();
    }
    format!("/{rest}").parse().ok()
}

#[cfg(test)]
mod tests {
    use api::gateway::{HttpMethod, Name, RouteMatch};

    use super::*;

    fn route(name: &str, host: Option<&str>, prefix: Option<&str>) -> (String, RouteSpec) {
        let matches = RouteMatch {
            host: host.map(Into::into),
            path_prefix: prefix.map(Into::into),
            methods: vec![],
        };
        let spec = RouteSpec {
            matches,
            service: Some(name.parse::<Name>().unwrap()),
            endpoints: vec![],
            strip_prefix: true,
            policy: RoutePolicy::default(),
        };
        (name.to_owned(), spec)
    }

    fn table(routes: &[(String, RouteSpec)]) -> Table {
        Table::new(routes.iter().map(|(name, spec)| Route::new(name, spec)))
    }

    fn found(table: &Table, host: &str, target: &str) -> Option<(String, String)> {
        let destination = table.find(Some(host), &target.parse().unwrap(), "GET")?;
        Some((destination.upstream, destination.target.as_str().to_owned()))
    }

    fn to(upstream: &str, target: &str) -> Option<(String, String)> {
        Some((upstream.into(), target.into()))
    }

    #[test]
    fn the_first_segment_names_a_service_and_is_taken_off() {
        let table = Table::default();
        assert_eq!(found(&table, "h", "/broker/v1/topics?a=b"), to("broker", "/v1/topics?a=b"));
        assert_eq!(found(&table, "h", "/replica"), to("replica", "/"));
        assert_eq!(found(&table, "h", "/replica?x"), to("replica", "/?x"));
        assert_eq!(found(&table, "h", "/coordinator/"), to("coordinator", "/"));
        let keys = to("replica", "/v1/kv//a%2Fb%00");
        assert_eq!(found(&table, "h", "/replica/v1/kv//a%2Fb%00"), keys);
        for nowhere in ["/", "/brokers", "/Broker", "/%62roker/x", "//broker/x", "/x/broker"] {
            assert_eq!(found(&table, "h", nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn narrow_routes_come_before_wide_ones() {
        let routes = [
            route("any-shop", None, Some("/shop")),
            route("cart", None, Some("/shop/cart/")),
            route("exact", Some("a.example"), None),
            route("below", Some("*.example"), Some("/shop/cart")),
        ];
        let table = table(&routes);
        assert_eq!(found(&table, "a.example", "/shop/cart"), to("exact", "/shop/cart"));
        assert_eq!(found(&table, "b.example", "/shop/cart/1"), to("below", "/1"));
        assert_eq!(found(&table, "example", "/shop/cart/1?q"), to("cart", "/1?q"));
        assert_eq!(found(&table, "x", "/shop"), to("any-shop", "/"));
        assert_eq!(found(&table, "x", "/shopping"), None);
    }

    #[test]
    fn a_route_may_be_for_some_methods_only() {
        let (name, mut spec) = route("reads", None, Some("/r"));
        spec.matches.methods = vec![HttpMethod::Get, HttpMethod::Head];
        let table = table(&[(name, spec)]);
        let target = "/r".parse().unwrap();
        assert!(table.find(None, &target, "HEAD").is_some());
        assert!(table.find(None, &target, "POST").is_none());
    }

    #[test]
    fn user_routes_cannot_take_a_services_path() {
        let table = table(&[route("mine", None, None)]);
        assert_eq!(found(&table, "h", "/broker/x"), to("broker", "/x"));
        assert_eq!(found(&table, "h", "/other"), to("mine", "/other"));
    }
}
