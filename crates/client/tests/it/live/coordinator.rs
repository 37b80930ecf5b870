//! Keys, leases, watches and services of a real coordinator.

use api::coordinator::{
    CampaignRequest, Candidate, Check, Compare, GetOp, LockRequest, Op, OpResult, PutOp,
    RegisterRequest, TxnRequest,
};
use client::coordinator::{Condition, Coordinator, GetOptions, ListOptions, WatchItem};

use super::in_time;
use crate::process::Service;

#[tokio::test]
async fn keys_leases_and_transactions() {
    let Some(service) = Service::start("coordinator", &[]).await else { return };
    let coordinator = Coordinator::new(service.client());
    let lease = coordinator.grant(60).await.unwrap();
    let put = coordinator.put(b"a/1", "one", Some(lease.id), Condition::Absent).await.unwrap();
    let refused = coordinator.put(b"a/1", "two", None, Condition::Absent).await.unwrap_err();
    assert_eq!(&*refused.code, "precondition-failed");
    let changed = Condition::Revision(put.revision);
    coordinator.put(b"a/1", "two", Some(lease.id), changed).await.unwrap();
    coordinator.put(&[b'a', b'/', 0xff], "x", None, Condition::None).await.unwrap();

    let value = coordinator.get(b"a/1", GetOptions::default()).await.unwrap().unwrap();
    assert_eq!(&value.value[..], b"two");
    let before = GetOptions { revision: Some(put.revision), ..GetOptions::default() };
    let old = coordinator.get(b"a/1", before).await.unwrap().unwrap();
    assert_eq!(&old.value[..], b"one");
    assert_eq!(coordinator.get(b"none", GetOptions::default()).await.unwrap(), None);
    let meta = coordinator.get_meta(b"a/1", GetOptions::default()).await.unwrap().unwrap();
    assert_eq!((meta.version, meta.lease), (2, Some(lease.id)));

    let options = ListOptions { limit: Some(1), keys_only: true, ..ListOptions::default() };
    let page = coordinator.list(b"a/", &options).await.unwrap();
    assert_eq!((page.kvs.len(), page.kvs[0].value.is_none()), (1, true));
    let rest = ListOptions { start: page.next, ..ListOptions::default() };
    assert_eq!(coordinator.list(b"a/", &rest).await.unwrap().kvs.len(), 1);

    let key = |key: &str| Some(key.into());
    let txn = TxnRequest {
        compares: vec![Compare { key: key("a/1"), exists: Some(true), ..Compare::default() }],
        success: vec![
            Op::Put(PutOp { key: "t".into(), value: "v".into(), lease: None }),
            Op::Get(GetOp { key: key("t"), ..GetOp::default() }),
        ],
        failure: vec![],
    };
    let reply = coordinator.txn(&txn).await.unwrap();
    assert!(reply.succeeded);
    assert!(matches!(&reply.results[1], OpResult::Get(get) if get.count == 1));

    assert_eq!(coordinator.keepalive(lease.id).await.unwrap().ttl_seconds, 60);
    assert_eq!(coordinator.lease(lease.id).await.unwrap().keys.unwrap().len(), 1);
    assert_eq!(coordinator.leases().await.unwrap().leases.len(), 1);
    assert_eq!(coordinator.revoke(lease.id).await.unwrap().deleted, 1);
    assert_eq!(&*coordinator.keepalive(lease.id).await.unwrap_err().code, "lease-not-found");
    assert_eq!(coordinator.delete(b"t", Condition::None).await.unwrap().deleted, 1);
    assert_eq!(coordinator.delete_prefix(b"a/").await.unwrap().deleted, 1);
    assert!(coordinator.cluster().await.unwrap().leader.is_some());
}

#[tokio::test]
async fn a_watch_shows_the_past_and_the_present() {
    let Some(service) = Service::start("coordinator", &[]).await else { return };
    let coordinator = Coordinator::new(service.client());
    let first = coordinator.put(b"w/1", "a", None, Condition::None).await.unwrap();
    let mut watch = coordinator.watch_prefix(b"w/", Some(first.revision)).await.unwrap();
    coordinator.delete(b"w/1", Condition::None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match in_time("an event", watch.next()).await.unwrap() {
            WatchItem::Put(event) => seen.push(("put", event.revision)),
            WatchItem::Delete(event) => seen.push(("delete", event.revision)),
            WatchItem::Bookmark { .. } => (),
        }
    }
    assert_eq!(seen, [("put", first.revision), ("delete", first.revision + 1)]);
    drop(watch);

    coordinator.compact(first.revision + 1).await.unwrap();
    let gone = match coordinator.watch(b"w/1", Some(1)).await {
        Ok(mut watch) => in_time("an end", watch.next()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(&*gone.code, "compacted");
    assert!(gone.extensions.unwrap().contains_key("oldest_revision"));
}

#[tokio::test]
async fn services_are_registered_and_listed() {
    let Some(service) = Service::start("coordinator", &[]).await else { return };
    let coordinator = Coordinator::new(service.client());
    let request = RegisterRequest {
        address: "127.0.0.1".into(),
        port: 7,
        tags: vec!["blue".into()],
        meta: Default::default(),
        check: Some(Check { ttl_seconds: Some(30), ..Check::default() }),
    };
    coordinator.register("shop", "a", &request).await.unwrap();
    assert_eq!(coordinator.heartbeat("shop", "a").await.unwrap().ttl_seconds, Some(30));
    assert_eq!(coordinator.services().await.unwrap().services[0].instances, 1);
    let shop = coordinator.service("shop", Some(true)).await.unwrap();
    assert_eq!((shop.instances[0].port, shop.instances[0].tags.len()), (7, 1));
    coordinator.deregister("shop", "a").await.unwrap();
    assert_eq!(&*coordinator.heartbeat("shop", "a").await.unwrap_err().code, "service-not-found");
}

#[tokio::test]
async fn locks_and_elections() {
    let Some(service) = Service::start("coordinator", &[]).await else { return };
    let coordinator = Coordinator::new(service.client());
    let ask = LockRequest { ttl_seconds: Some(60), ..LockRequest::default() };
    let first = coordinator.lock("jobs/a", &ask).await.unwrap();
    let held = coordinator.lock("jobs/a", &ask).await.unwrap_err();
    assert_eq!(&*held.code, "held");
    let wait = LockRequest { wait_seconds: Some(30), ..ask };
    let waiting = coordinator.lock("jobs/a", &wait);
    let (second, released) = tokio::join!(waiting, async {
        in_time("the second waits", async {
            while coordinator.lock_state("jobs/a").await.unwrap().waiters.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        coordinator.unlock("jobs/a", first.lease).await
    });
    released.unwrap();
    let second = second.unwrap();
    assert!(first.fencing_token < second.fencing_token);
    let gone = coordinator.unlock("jobs/a", first.lease).await.unwrap_err();
    assert_eq!(&*gone.code, "lock-not-found");

    let mut events = coordinator.observe("e").await.unwrap();
    assert_eq!(events.next().await.unwrap().event, "vacant");
    let ask = CampaignRequest { value: Some("me".into()), ..CampaignRequest::default() };
    let leader = coordinator.campaign("e", &ask).await.unwrap();
    let event = events.next().await.unwrap();
    assert_eq!(serde_json::from_str::<Candidate>(&event.data).unwrap(), leader);
    assert_eq!(coordinator.election("e").await.unwrap().leader, Some(leader.clone()));
    coordinator.resign("e", leader.lease).await.unwrap();
    assert_eq!(coordinator.election("e").await.unwrap().leader, None);
}
