//! HTTP health checks of registered instances.
//!
//! The leader checks. One task schedules all checks; at most so many run at once, and none twice at
//! the same time. A result is written into the instance's key only when it changes what is there.

use std::collections::BTreeMap;
use std::time::Duration;

use api::coordinator::{Instance, InstanceStatus};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::coordinator::{CommandError, Coordinator};
use crate::registry;
use crate::store::{HistoryCompacted, Revision, Store, WatchFilter};

/// Time between two checks when a registration does not say.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// How often it is looked what there is to check.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest an instance may take to answer; the interval if that is shorter.
const TIMEOUT: Duration = Duration::from_secs(5);
/// One failure may be an accident.
const FAILURES_UNTIL_FAILING: u32 = 2;

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// Where an instance is asked how it is: a path on itself, or a whole URL.
pub(crate) fn url(address: &str, port: u16, http: &str) -> Result<http::Uri, String> {
    let text = if http.starts_with('/') {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        format!("http://{host}:{port}{http}")
    } else {
        http.to_owned()
    };
    let wrong = || format!("`{http}` must be a path such as /health, or an http:// URL");
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let is_http =
        uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty());
    if is_http { Ok(uri) } else { Err(wrong()) }
}

#[derive(Clone, Debug)]
struct Target {
    key: Bytes,
    url: http::Uri,
    interval: Duration,
    status: InstanceStatus,
    revision: Revision,
}

struct Probe {
    target: Target,
    due: Instant,
    failures: u32,
    running: bool,
}

struct Outcome {
    key: Bytes,
    passed: bool,
}

pub(crate) async fn run(coordinator: Coordinator, max_running: usize, stop: CancellationToken) {
    let client: HttpClient = Client::builder(TokioExecutor::new()).build_http();
    let mut checks = Checks::new(coordinator);
    let mut running = JoinSet::new();
    let mut look = tokio::time::interval(PERIOD);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = start_due(&mut checks.probes, &mut running, &client, max_running);
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => checks.look().await,
            Some(outcome) = running.join_next() => if let Ok(outcome) = outcome {
                finish(&checks.coordinator, &mut checks.probes, outcome).await;
            },
            () = sleep_until(next) => {}
        }
    }
}

/// What is to be checked. It looks by itself rather than being woken: for whoever is woken, each
/// change of the store would be copied.
struct Checks {
    coordinator: Coordinator,
    probes: BTreeMap<Bytes, Probe>,
    /// The first revision that was not looked at; `None` while another node checks.
    next: Option<Revision>,
}

impl Checks {
    const fn new(coordinator: Coordinator) -> Self {
        Self { coordinator, probes: BTreeMap::new(), next: None }
    }

    async fn look(&mut self) {
        if !self.coordinator.leads() {
            self.probes.clear();
            self.next = None;
            return;
        }
        let store = self.coordinator.recent().await;
        if self.next.is_none_or(|next| has_changed(&store, next)) {
            follow(&mut self.probes, &store);
        }
        self.next = Some(store.revision().next());
    }
}

/// Whether something about an instance has changed from this revision on.
fn has_changed(store: &Store, from: Revision) -> bool {
    let range = registry::keys_of(None);
    let filter = WatchFilter { range, puts: true, deletes: true, previous: false };
    let mut next = from;
    while next <= store.revision() {
        match store.mvcc.events(next, &filter, 1) {
            Ok(batch) if batch.events.is_empty() => next = batch.next,
            Ok(_) | Err(HistoryCompacted { .. }) => return true,
        }
    }
    false
}

async fn sleep_until(next: Option<Instant>) {
    match next {
        Some(next) => tokio::time::sleep_until(next).await,
        None => std::future::pending().await,
    }
}

/// Adds and drops probes as instances come and go.
fn follow(probes: &mut BTreeMap<Bytes, Probe>, store: &Store) {
    let mut old = std::mem::take(probes);
    let range = registry::keys_of(None);
    for record in store.mvcc.scan(&range, None) {
        let Some(instance) = registry::instance(record) else { continue };
        let Some(target) = target(&record.key, &instance, record.mod_revision) else { continue };
        let probe = match old.remove(&target.key) {
            Some(probe) if probe.target.url == target.url => Probe { target, ..probe },
            _ => Probe { target, due: Instant::now(), failures: 0, running: false },
        };
        probes.insert(probe.target.key.clone(), probe);
    }
}

fn target(key: &[u8], instance: &Instance, revision: Revision) -> Option<Target> {
    let check = instance.check.as_ref()?;
    let url = url(&instance.address, instance.port, check.http.as_deref()?).ok()?;
    let interval = check.interval_seconds.map_or(DEFAULT_INTERVAL, Duration::from_secs);
    // Whoever wrote the key by hand may have written anything.
    let interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
    Some(Target {
        key: Bytes::copy_from_slice(key),
        url,
        interval,
        status: instance.status,
        revision,
    })
}

/// Starts what is due and answers when the next one is.
fn start_due(
    probes: &mut BTreeMap<Bytes, Probe>,
    running: &mut JoinSet<Outcome>,
    client: &HttpClient,
    max_running: usize,
) -> Option<Instant> {
    let now = Instant::now();
    let mut waiting: Vec<&mut Probe> = probes.values_mut().filter(|probe| !probe.running).collect();
    waiting.sort_by_key(|probe| probe.due);
    for probe in waiting {
        if now < probe.due {
            return Some(probe.due);
        }
        if max_running <= running.len() {
            // The one that ends next wakes the loop.
            return None;
        }
        probe.running = true;
        probe.due = now + probe.target.interval;
        running.spawn(check(client.clone(), probe.target.clone()));
    }
    None
}

async fn check(client: HttpClient, target: Target) -> Outcome {
    let asked = client.get(target.url);
    let answer = tokio::time::timeout(TIMEOUT.min(target.interval), asked).await;
    let passed = matches!(answer, Ok(Ok(response)) if response.status().is_success());
    Outcome { key: target.key, passed }
}

async fn finish(coordinator: &Coordinator, probes: &mut BTreeMap<Bytes, Probe>, outcome: Outcome) {
    let Some(probe) = probes.get_mut(&outcome.key) else { return };
    probe.running = false;
    probe.failures = if outcome.passed { 0 } else { probe.failures.saturating_add(1) };
    let status = match probe.failures {
        0 => InstanceStatus::Passing,
        failures if failures < FAILURES_UNTIL_FAILING => return,
        _ => InstanceStatus::Failing,
    };
    if status != probe.target.status
        && let Err(error) = write(coordinator, &probe.target, status).await
    {
        // The next check tries again.
        tracing::warn!(%error, "the result of a health check was not stored");
    }
}

/// Changes the status in the instance's value and nothing else in it.
async fn write(
    coordinator: &Coordinator,
    target: &Target,
    status: InstanceStatus,
) -> Result<(), CommandError<crate::store::TxnError>> {
    let key = target.key.clone();
    let record = coordinator.snapshot().await?.mvcc.get(&key).cloned();
    let Some(record) = record.filter(|record| record.mod_revision == target.revision) else {
        return Ok(());
    };
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(&record.value) else {
        return Ok(());
    };
    // Whoever wrote it by hand may have written an array, which has no place for it.
    let Some(fields) = value.as_object_mut() else { return Ok(()) };
    fields.insert("status".to_owned(), serde_json::json!(status));
    let value = value.to_string().into();
    registry::put_if(coordinator, target.key.clone(), target.revision, value, None).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Command, LeaseId, Op, Put, Stamp, Txn};

    fn put(store: &mut Store, key: &'static str, value: &'static str) {
        let put = Put {
            key: key.into(),
            value: Some(value.into()),
            lease: Some(LeaseId::NONE),
            previous: false,
        };
        let stamp = Stamp { now_ms: 0, quota_bytes: u64::MAX };
        store.apply(stamp, Command::Txn(Txn::always(Op::Put(put))));
    }

    #[test]
    fn instances_are_read_again_when_one_has_changed() {
        let mut store = Store::default();
        assert!(!has_changed(&store, Revision(1)));
        (0..5000).for_each(|_| put(&mut store, "other", ""));
        assert!(!has_changed(&store, Revision(1)));
        let seen = store.revision().next();
        put(&mut store, "quartet/services/a/b", "");
        put(&mut store, "other", "");
        assert!(has_changed(&store, seen));
        assert!(!has_changed(&store, store.revision()));
    }

    #[test]
    fn an_interval_is_bounded_whoever_wrote_it() {
        for (written, bounded) in [("0", 1), ("7", 7), ("18446744073709551615", 3600)] {
            let check = format!(r#"{{"http":"/h","interval_seconds":{written}}}"#);
            let value = format!(r#"{{"address":"h","port":1,"check":{check}}}"#);
            let mut store = Store::default();
            put(&mut store, "quartet/services/a/b", value.leak());
            let record = store.mvcc.get(b"quartet/services/a/b").unwrap();
            let instance = registry::instance(record).unwrap();
            let target = target(&record.key, &instance, record.mod_revision).unwrap();
            assert_eq!(target.interval, Duration::from_secs(bounded));
        }
    }

    #[test]
    fn a_check_is_a_path_on_the_instance_or_an_http_url() {
        let of = |address, http| url(address, 80, http).map(|uri| uri.to_string());
        assert_eq!(of("10.0.0.1", "/health").unwrap(), "http://10.0.0.1:80/health");
        assert_eq!(of("::1", "/").unwrap(), "http://[::1]:80/");
        assert_eq!(of("x", "http://other:81/h").unwrap(), "http://other:81/h");
        for bad in ["", "health", "https://x/", "ftp://x/", "http://", "http:// x"] {
            assert!(of("10.0.0.1", bad).is_err(), "{bad}");
        }
    }
}
