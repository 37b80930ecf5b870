//! What goes on by itself: mirrors, registrations, discovery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::coordinator::InstanceValue;
use client::etcd::{
    DeleteRequest, Discovery, Mirror, Registration, RegistrationConfig, RegistrationState, Services,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Server, put};

/// What a process would have.
pub(super) struct Process {
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        eventually("all tasks end", self.tasks.wait()).await;
    }
}

async fn eventually<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(30), future).await;
    done.unwrap_or_else(|_| panic!("not in time: {what}"))
}

pub(super) async fn until<T>(
    what: &str,
    source: &watch::Receiver<T>,
    holds: impl FnMut(&T) -> bool,
) {
    let mut source = source.clone();
    eventually(what, source.wait_for(holds)).await.expect("its owner lives");
}

pub(super) fn config(instance: &str, port: u16) -> RegistrationConfig {
    let value = InstanceValue {
        address: "127.0.0.1".into(),
        port,
        tags: vec![],
        meta: BTreeMap::new(),
        check: None,
        status: None,
    };
    RegistrationConfig {
        ttl: Duration::from_secs(3),
        ..RegistrationConfig::new("shop", instance, value)
    }
}

pub(super) async fn mirror_survives_a_restart(mut server: Server) {
    let process = Process::new();
    let etcd = server.client();
    for number in 0..3 {
        etcd.put(&put(&format!("m/{number}"), "old")).await.unwrap();
    }
    let mirror = Mirror::start(etcd.clone(), "m/", &process.tasks, process.stop.clone());
    eventually("the first answer", mirror.ready()).await;
    assert_eq!(mirror.snapshot().entries.len(), 3);
    etcd.put(&put("m/3", "new")).await.unwrap();
    let snapshots = mirror.watch();
    until("the new key", &snapshots, |snapshot| snapshot.entries.contains_key(&b"m/3"[..])).await;

    server.kill();
    until("it is noticed", &snapshots, |snapshot| !snapshot.connected).await;
    assert_eq!(mirror.snapshot().entries.len(), 4, "the last known state stays");
    server.restart().await;
    server.client().delete(&DeleteRequest::key("m/0")).await.unwrap();
    until("it goes on", &snapshots, |snapshot| {
        snapshot.connected && !snapshot.entries.contains_key(&b"m/0"[..])
    })
    .await;
    assert_eq!(mirror.snapshot().entries.len(), 3);
    process.end().await;
}

pub(super) async fn registrations_come_and_go(mut server: Server) {
    let (watcher, one, two) = (Process::new(), Process::new(), Process::new());
    let discovery = Discovery::start(server.client(), &watcher.tasks, watcher.stop.clone());
    let endpoints = discovery.endpoints("shop");
    let ports = |ports: &[u16]| {
        let ports = ports.to_vec();
        move |urls: &Arc<Vec<client::Url>>| {
            urls.iter().map(|url| url.port().unwrap()).collect::<Vec<_>>() == ports
        }
    };
    let start = |process: &Process, name: &str, port| {
        let config = config(name, port);
        Registration::start(server.client(), config, &process.tasks, process.stop.clone())
    };
    let first = start(&one, "a", 1001);
    start(&two, "b", 1002);
    until("both are there", &endpoints, ports(&[1001, 1002])).await;
    eventually("it says so", first.registered()).await;

    server.kill();
    let connected = |services: &Arc<Services>| services.connected;
    until("it is noticed", &discovery.watch(), |services| !connected(services)).await;
    assert_eq!(discovery.services().urls("shop").len(), 2, "the last good set stays");
    server.restart().await;
    until("connected again", &discovery.watch(), connected).await;
    until("both are there still", &endpoints, ports(&[1001, 1002])).await;

    one.end().await;
    until("one left", &endpoints, ports(&[1002])).await;
    assert_eq!(*first.state().borrow(), RegistrationState::Ended);
    two.end().await;
    until("none is left", &endpoints, ports(&[])).await;
    watcher.end().await;
}

pub(super) async fn a_lost_registration_comes_back(server: Server) {
    let process = Process::new();
    let etcd = server.client();
    let config = config("a", 1001);
    let key = config.key();
    let registration =
        Registration::start(etcd.clone(), config, &process.tasks, process.stop.clone());
    eventually("it is there", registration.registered()).await;
    let before = etcd.get(key.as_bytes()).await.unwrap().unwrap();
    // Its lease ends behind its back.
    etcd.revoke(before.lease).await.unwrap();
    let state = registration.state();
    until(
        "a new lease",
        &state,
        |state| matches!(state, RegistrationState::Registered { lease } if *lease != before.lease),
    )
    .await;
    // Somebody deletes the key: the lease alone is no registration.
    etcd.delete(&DeleteRequest::key(key.as_bytes())).await.unwrap();
    eventually("the key again", async {
        while etcd.get(key.as_bytes()).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    process.end().await;
    assert_eq!(etcd.get(key.as_bytes()).await.unwrap(), None, "deregistered at the end");
}
