//! Who serves what: the registrations of all services, as endpoint sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::coordinator::{InstanceStatus, InstanceValue, SERVICE_PREFIX};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::{Host, Url};

use super::{Etcd, KeyValue, Mirror, Snapshot};

/// One registered instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub value: InstanceValue,
    /// `http://address:port`.
    pub url: Url,
    /// Since when: the revision of its registration.
    pub revision: i64,
}

/// Every registered instance, by service and by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Whether this is up to date. When not, it is the last that was known.
    pub connected: bool,
    /// Zero until the coordinator answered for the first time.
    pub revision: i64,
    pub services: BTreeMap<String, BTreeMap<String, Instance>>,
}

/// A live list of base URLs, as [`crate::http::Client::following`] takes it.
pub type Endpoints = watch::Receiver<Arc<Vec<Url>>>;

impl Services {
    /// The instances of one service.
    pub fn instances(&self, service: &str) -> impl Iterator<Item = (&String, &Instance)> {
        self.services.get(service).into_iter().flatten()
    }

    /// The URLs of the instances of one service whose health check does not fail.
    #[must_use]
    pub fn urls(&self, service: &str) -> Vec<Url> {
        let well = |instance: &Instance| instance.value.status != Some(InstanceStatus::Failing);
        let instances = self.instances(service).map(|(_, instance)| instance);
        instances.filter(|instance| well(instance)).map(|instance| instance.url.clone()).collect()
    }

    fn read(snapshot: &Snapshot) -> Self {
        let mut services: BTreeMap<String, BTreeMap<String, Instance>> = BTreeMap::new();
        for kv in snapshot.entries.values() {
            match parse(kv) {
                Some((service, name, instance)) => {
                    services.entry(service).or_default().insert(name, instance);
                }
                None => tracing::debug!(key = ?kv.key, "not a registration, ignored"),
            }
        }
        Self { connected: snapshot.connected, revision: snapshot.revision, services }
    }
}

fn parse(kv: &KeyValue) -> Option<(String, String, Instance)> {
    let key = std::str::from_utf8(&kv.key).ok()?.strip_prefix(SERVICE_PREFIX)?;
    let (service, name) = key.split_once('/').filter(|(_, name)| !name.contains('/'))?;
    let value: InstanceValue = serde_json::from_slice(&kv.value).ok()?;
    // An IPv6 address stands in brackets within a URL.
    let bare = value.address.trim_matches(['[', ']']);
    let host = match bare.parse() {
        Ok(address) => Host::Ipv6(address),
        Err(_) => Host::parse(&value.address).ok()?,
    };
    let url = Url::parse(&format!("http://{host}:{}", value.port)).ok()?;
    let instance = Instance { value, url, revision: kv.mod_revision };
    (!service.is_empty() && !name.is_empty())
        .then(|| (service.to_owned(), name.to_owned(), instance))
}

/// Follows the registrations of all services, or of one.
#[derive(Clone, Debug)]
pub struct Discovery {
    services: watch::Receiver<Arc<Services>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Discovery {
    /// Follows all services, on tasks of `tasks` that end with `stop`.
    #[must_use]
    pub fn start(etcd: Etcd, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        Self::prefix(etcd, SERVICE_PREFIX.to_owned(), tasks, stop)
    }

    /// Follows one service.
    #[must_use]
    pub fn of_service(
        etcd: Etcd,
        service: &str,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self::prefix(etcd, format!("{SERVICE_PREFIX}{service}/"), tasks, stop)
    }

    fn prefix(etcd: Etcd, prefix: String, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let mirror = Mirror::start(etcd, prefix, tasks, stop.clone());
        let services = derive(mirror.watch(), tasks, stop.clone(), Services::read);
        Self { services, tasks: tasks.clone(), stop }
    }

    /// The newest state, and every one after it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Services>> {
        self.services.clone()
    }

    /// The newest state.
    #[must_use]
    pub fn services(&self) -> Arc<Services> {
        self.services.borrow().clone()
    }

    /// The live endpoints of one service.
    #[must_use]
    pub fn endpoints(&self, service: &str) -> Endpoints {
        let service = service.to_owned();
        let urls = move |services: &Services| services.urls(&service);
        derive(self.services.clone(), &self.tasks, self.stop.clone(), urls)
    }

    /// Waits for the first answer of the coordinator. Put a bound around it.
    pub async fn ready(&self) {
        let _ = self.services.clone().wait_for(|services| 0 < services.revision).await;
    }
}

/// A watched value computed from another one, published when it changes.
fn derive<A, B>(
    mut source: watch::Receiver<Arc<A>>,
    tasks: &TaskTracker,
    stop: CancellationToken,
    compute: impl Fn(&A) -> B + Send + 'static,
) -> watch::Receiver<Arc<B>>
where
    A: Send + Sync + 'static,
    B: PartialEq + Send + Sync + 'static,
{
    let first = compute(&source.borrow_and_update());
    let (publish, derived) = watch::channel(Arc::new(first));
    let follow = async move {
        while source.changed().await.is_ok() {
            let next = compute(&source.borrow_and_update());
            publish.send_if_modified(|current| {
                let changed = **current != next;
                *current = Arc::new(next);
                changed
            });
        }
    };
    tasks.spawn(async move { stop.run_until_cancelled(follow).await });
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, value: &str) -> KeyValue {
        KeyValue {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            mod_revision: 3,
            ..KeyValue::default()
        }
    }

    fn url(value: &str) -> Option<String> {
        parse(&kv("quartet/services/broker/b1", value)).map(|(.., found)| found.url.to_string())
    }

    #[test]
    fn a_registration_becomes_a_url() {
        let plain = r#"{"address":"127.0.0.1","port":7070,"tags":[],"meta":{}}"#;
        assert_eq!(url(plain).as_deref(), Some("http://127.0.0.1:7070/"));
        let named = r#"{"address":"broker.local","port":80,"more":1}"#;
        assert_eq!(url(named).as_deref(), Some("http://broker.local/"));
        let v6 = r#"{"address":"::1","port":7070}"#;
        assert_eq!(url(v6).as_deref(), Some("http://[::1]:7070/"));
    }

    #[test]
    fn what_is_no_registration_is_ignored() {
        let good = r#"{"address":"a","port":1}"#;
        for value in ["", "{}", r#"{"address":"a b","port":1}"#, r#"{"address":"a","port":70000}"#]
        {
            assert_eq!(url(value), None, "{value}");
        }
        for key in ["quartet/services/x", "quartet/services//b", "quartet/services/a/b/c", "other"]
        {
            assert!(parse(&kv(key, good)).is_none(), "{key}");
        }
    }

    #[test]
    fn an_instance_that_fails_its_check_gets_no_calls() {
        let mut snapshot = Snapshot::default();
        for (name, status) in [("a", "passing"), ("b", "failing"), ("c", "unknown")] {
            let value = format!(r#"{{"address":"{name}","port":1,"status":"{status}"}}"#);
            let kv = kv(&format!("quartet/services/shop/{name}"), &value);
            snapshot.entries.insert(kv.key.clone(), kv);
        }
        let services = Services::read(&snapshot);
        let hosts: Vec<_> = services.urls("shop").iter().map(|url| url.to_string()).collect();
        assert_eq!(hosts, ["http://a:1/", "http://c:1/"]);
        assert_eq!(services.instances("shop").count(), 3);
    }
}
