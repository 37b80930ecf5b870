//! Keys of a real replica service, running alone.

use api::replica::{AckLevel, BatchRequest, Operation, Position, Role};
use client::Outcome;
use client::replica::{Condition, ReadOptions, Replica, WriteOptions};

use super::in_time;
use crate::process::Service;

fn if_version(version: Position) -> WriteOptions {
    WriteOptions { condition: Condition::Version(version), ..WriteOptions::default() }
}

#[tokio::test]
async fn keys_are_written_compared_read_and_listed() {
    let Some(service) = Service::start("replica", &[]).await else { return };
    let replica = Replica::new(service.client());
    let absent = WriteOptions { condition: Condition::Absent, ..WriteOptions::default() };
    let first = replica.put(b"a/ color", "blue", &absent).await.unwrap();
    assert_eq!((first.acked_by, first.ack), (1, AckLevel::Quorum));
    let again = replica.put(b"a/ color", "red", &absent).await.unwrap_err();
    assert_eq!((&*again.code, again.outcome), ("precondition-failed", Outcome::NotDone));
    let second = replica.put(b"a/ color", "red", &if_version(first.version)).await.unwrap();
    replica.put(b"a/ color", "green", &if_version(first.version)).await.unwrap_err();

    let read = ReadOptions::session(second.version);
    let value = replica.get(b"a/ color", &read).await.unwrap().unwrap();
    assert_eq!((&value.value[..], value.version), (&b"red"[..], second.version));
    assert_eq!(value.read.role, Some(Role::Primary));
    assert_eq!(replica.get(b"missing", &ReadOptions::strong()).await.unwrap(), None);

    replica.put(&[b'a', b'/', 0xff], vec![0_u8, 255], &WriteOptions::default()).await.unwrap();
    let binary = replica.get(&[b'a', b'/', 0xff], &ReadOptions::default()).await.unwrap();
    assert_eq!(&binary.unwrap().value[..], [0, 255]);
    let page = replica.list(b"a/", None, Some(1), &ReadOptions::strong()).await.unwrap();
    assert_eq!(page.items[0].key, client::http::encode_key(b"a/ color"));
    let next = replica.list(b"a/", page.next.as_deref(), None, &ReadOptions::strong()).await;
    assert_eq!(next.unwrap().items[0].key, "a/%FF");

    let operations = vec![Operation::Delete { key: "a/%20color".into() }];
    let batch = BatchRequest { operations, ..BatchRequest::default() };
    replica.batch(&batch, Some(AckLevel::Async), None).await.unwrap();
    assert_eq!(replica.get(b"a/ color", &ReadOptions::strong()).await.unwrap(), None);
    replica.delete(&[b'a', b'/', 0xff], &WriteOptions::default()).await.unwrap();
    // Acknowledged is not applied yet; the digests are of what is.
    assert_eq!(replica.get(&[b'a', b'/', 0xff], &ReadOptions::strong()).await.unwrap(), None);

    let status = replica.replication().await.unwrap();
    assert_eq!(status.role, Role::Primary);
    let digest = replica.digest(None).await.unwrap();
    assert_eq!(digest.digest, status.digest);
}

#[tokio::test]
async fn a_keyed_write_is_done_once() {
    let Some(service) = Service::start("replica", &[]).await else { return };
    let replica = Replica::new(service.client());
    let idempotency_key = Some(client::idempotency_key());
    let options = WriteOptions { idempotency_key, ..WriteOptions::default() };
    let first = in_time("a write", replica.put(b"n", "1", &options)).await.unwrap();
    replica.put(b"n", "2", &WriteOptions::default()).await.unwrap();
    let repeated = replica.put(b"n", "1", &options).await.unwrap();
    assert_eq!((repeated.version, repeated.replayed), (first.version, true));
    let now = replica.get(b"n", &ReadOptions::strong()).await.unwrap().unwrap();
    assert_eq!(&now.value[..], b"2");
}
