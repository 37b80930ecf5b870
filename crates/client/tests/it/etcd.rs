//! The same questions to a real etcd and to our coordinator. Who is not installed is not asked.

mod auth;
mod mirror;
mod server;

use std::time::Duration;

use client::etcd::{
    Compare, DeleteRequest, Etcd, EventKind, LeaseId, PutRequest, RangeRequest, TxnOp, TxnRequest,
    TxnResult, WatchRequest,
};

use server::{Kind, Server};

/// Runs `question` against each server that can be started here.
macro_rules! ask {
    ($($name:ident)+) => {
        mod real_etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(server) = super::Server::start(super::Kind::Etcd).await {
                    super::$name(server).await;
                }
            })+
        }

        mod coordinator {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(server) = super::Server::start(super::Kind::Coordinator).await {
                    super::$name(server).await;
                }
            })+
        }
    };
}

ask! {
    keys_are_written_read_and_deleted
    a_transaction_takes_one_of_two_branches
    a_lease_takes_its_keys_with_it
    a_watch_misses_nothing
    mirror_survives_a_restart
    registrations_come_and_go
    a_lost_registration_comes_back
    a_user_is_let_in_again_whenever_its_token_is_refused
    a_registration_outlives_its_token
}

use auth::{
    a_registration_outlives_its_token, a_user_is_let_in_again_whenever_its_token_is_refused,
};

use mirror::{
    a_lost_registration_comes_back, mirror_survives_a_restart, registrations_come_and_go,
};

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest::new(key, value.to_owned())
}

async fn keys_are_written_read_and_deleted(server: Server) {
    let etcd = server.client();
    let first = etcd.put(&put("a/1", "one")).await.unwrap();
    etcd.put(&put("a/2", "")).await.unwrap();
    let last = etcd.put(&PutRequest::new([0xff, 0x00], vec![0, 1, 255])).await.unwrap();
    assert_eq!(first.revision + 2, last.revision);

    let page = etcd.range(&RangeRequest::prefix(b"a/").limit(1)).await.unwrap();
    assert_eq!((page.kvs.len(), page.more, page.count), (1, true, 2));
    assert_eq!((&page.kvs[0].key[..], &page.kvs[0].value[..]), (&b"a/1"[..], &b"one"[..]));
    assert_eq!(page.kvs[0].mod_revision, first.revision);
    let all = etcd.range(&RangeRequest::prefix(b"").keys_only()).await.unwrap();
    assert_eq!(all.kvs.last().unwrap().key, &[0xff, 0x00][..]);
    let binary = etcd.get(&[0xff, 0x00]).await.unwrap().unwrap();
    assert_eq!(binary.value, &[0, 1, 255][..]);
    assert_eq!(etcd.get(b"missing").await.unwrap(), None);

    let then = RangeRequest::prefix(b"a/").revision(first.revision);
    assert_eq!(etcd.range(&then).await.unwrap().count, 1);
    assert_eq!(etcd.delete(&DeleteRequest::prefix(b"a/")).await.unwrap().deleted, 2);
    assert_eq!(etcd.delete(&DeleteRequest::key("a/1")).await.unwrap().deleted, 0);
    let future = RangeRequest::key("a/1").revision(1 << 40);
    assert_eq!(etcd.range(&future).await.unwrap_err().etcd_code(), Some(11));
}

async fn a_transaction_takes_one_of_two_branches(server: Server) {
    let etcd = server.client();
    let take = TxnRequest {
        compare: vec![Compare::absent("leader")],
        success: vec![TxnOp::Put(put("leader", "me"))],
        failure: vec![TxnOp::Range(RangeRequest::key("leader"))],
    };
    let first = etcd.txn(&take).await.unwrap();
    assert!(first.succeeded);
    assert!(matches!(first.responses[..], [TxnResult::Put { .. }]));
    let second = etcd.txn(&take).await.unwrap();
    assert!(!second.succeeded);
    let [TxnResult::Range(range)] = &second.responses[..] else { panic!("{second:?}") };
    assert_eq!(range.kvs[0].value, "me");

    let unchanged = |revision| TxnRequest {
        compare: vec![Compare::unchanged("leader", revision)],
        success: vec![TxnOp::Delete(DeleteRequest::key("leader"))],
        failure: vec![],
    };
    let revision = range.kvs[0].mod_revision;
    assert!(!etcd.txn(&unchanged(revision - 1)).await.unwrap().succeeded);
    assert!(etcd.txn(&unchanged(revision)).await.unwrap().succeeded);
    assert_eq!(etcd.get(b"leader").await.unwrap(), None);
}

async fn a_lease_takes_its_keys_with_it(server: Server) {
    let etcd = server.client();
    let lease = etcd.grant(Duration::from_secs(60)).await.unwrap();
    assert_eq!(lease.ttl, Duration::from_secs(60));
    etcd.put(&put("mine", "x").lease(lease.id)).await.unwrap();
    assert_eq!(etcd.get(b"mine").await.unwrap().unwrap().lease, lease.id);
    assert_eq!(etcd.keepalive(lease.id).await.unwrap(), Some(Duration::from_secs(60)));
    etcd.revoke(lease.id).await.unwrap();
    assert_eq!(etcd.get(b"mine").await.unwrap(), None);
    assert_eq!(etcd.keepalive(lease.id).await.unwrap(), None);
    etcd.revoke(lease.id).await.unwrap();
    let error = etcd.put(&put("mine", "x").lease(LeaseId(12_345))).await.unwrap_err();
    assert_eq!(error.etcd_code(), Some(5), "{error}");
}

async fn a_watch_misses_nothing(server: Server) {
    let etcd = server.client();
    let before = etcd.put(&put("w/1", "a")).await.unwrap().revision;
    etcd.put(&put("other", "b")).await.unwrap();
    let mut watch = etcd.watch(&WatchRequest::prefix(b"w/", before)).await.unwrap();
    etcd.put(&put("w/2", "c")).await.unwrap();
    etcd.delete(&DeleteRequest::prefix(b"w/")).await.unwrap();
    let mut events = Vec::new();
    let mut created = 0;
    while events.len() < 4 {
        let next = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        let message = next.expect("in time").unwrap().expect("no end");
        created += u32::from(message.created);
        events.extend(message.events);
    }
    assert_eq!(created, 1);
    let seen: Vec<_> = events.iter().map(|event| (event.kind, &event.kv.key[..])).collect();
    let put = |key: &'static [u8]| (EventKind::Put, key);
    let delete = |key: &'static [u8]| (EventKind::Delete, key);
    assert_eq!(seen, [put(b"w/1"), put(b"w/2"), delete(b"w/1"), delete(b"w/2")]);
    assert_eq!(events[0].kv.mod_revision, before);
    assert_eq!(events[2].kv.mod_revision, events[3].kv.mod_revision, "one revision");
}

/// Code 14 and a dead node mean the same: ask the next one.
#[tokio::test]
async fn a_node_that_is_away_is_passed_over() {
    let Some(server) = Server::start(Kind::Etcd).await else { return };
    let nodes = [crate::peer::nowhere().await, server.url()];
    let etcd = Etcd::new(nodes).unwrap();
    for number in 0..10 {
        etcd.put(&put("k", &number.to_string())).await.unwrap();
    }
    let no_leader =
        r#"{"error":"etcdserver: no leader","code":14,"message":"etcdserver: no leader"}"#;
    let peer = crate::peer::Peer::start([crate::peer::answer_with(503, "", no_leader)]).await;
    let etcd = Etcd::new([peer.url(), server.url()]).unwrap();
    for _ in 0..4 {
        assert_eq!(etcd.get(b"k").await.unwrap().unwrap().value, "9");
    }
}
