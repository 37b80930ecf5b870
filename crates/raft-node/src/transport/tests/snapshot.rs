//! Snapshots, whole and in the middle.

use storage::snapshot::Snapshot;

use super::network::Proxy;
use super::requests::get;
use super::*;
use crate::transport::fetch::FetchError;

fn bytes(len: usize) -> Bytes {
    (0..len).map(|at| (at >> 8) as u8 ^ at as u8).collect::<Vec<_>>().into()
}

fn save(node: &Node, index: u64, bytes: Bytes) -> Snapshot {
    let snapshot = Snapshot { index: Index(index), term: Term(3), bytes };
    node.transport.shared.snapshots.save(GROUP, &snapshot).unwrap();
    snapshot
}

/// Two nodes, the first reaching the second through a proxy.
async fn through_proxy() -> (Node, Node, Proxy) {
    let (mut one, two) = (Node::start(1).await, Node::start(2).await);
    let proxy = Proxy::to(two.address).await;
    one.know(&[(two.id, proxy.address)]);
    one.until_connected(two.id).await;
    (one, two, proxy)
}

#[tokio::test]
async fn a_snapshot_is_fetched_whole() {
    let (one, two, _proxy) = through_proxy().await;
    for len in [0, 1, 256 * 1024, 3_000_001] {
        let saved = save(&two, 7, bytes(len));
        let fetched = one.transport.fetch(two.id, GROUP, Index(7)).await.unwrap();
        assert!(fetched == saved, "{len}");
    }
    let (got, sent) = (one.figures(two.id), two.figures(one.id));
    assert_eq!(got.snapshot_received_bytes.get(), 1 + 256 * 1024 + 3_000_001);
    assert_eq!(sent.snapshot_sent_bytes.get(), 0, "the second node knows no peers");
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_broke() {
    let (one, two, proxy) = through_proxy().await;
    let saved = save(&two, 7, bytes(5 << 20));
    proxy.cut_after(700_000);
    let fetched = one.transport.fetch(two.id, GROUP, Index(7)).await.unwrap();
    assert!(fetched == saved);
    let transferred = one.figures(two.id).snapshot_received_bytes.get();
    assert_eq!(transferred, 5 << 20, "nothing came twice");
    assert!(7 < proxy.connections(), "{} connections", proxy.connections());
}

#[tokio::test]
async fn a_fetch_without_progress_is_given_up() {
    let mut settings = config(1);
    settings.backoff_max = Duration::from_millis(20);
    let one = Node::start_with(settings, 64).await;
    let mut two = Node::start(2).await;
    save(&two, 7, bytes(100));
    two.kill_listener().await;
    one.know(&[(two.id, two.address)]);
    let error = one.transport.fetch(two.id, GROUP, Index(7)).await.unwrap_err();
    assert!(matches!(error, FetchError::GaveUp { .. }), "{error}");
    let unknown = one.transport.fetch(NodeId(9), GROUP, Index(7)).await.unwrap_err();
    assert!(matches!(unknown, FetchError::UnknownPeer(NodeId(9))), "{unknown}");
}

#[tokio::test]
async fn what_is_not_there_is_gone() {
    let (one, two, _proxy) = through_proxy().await;
    let gone = async |index| {
        let error = one.transport.fetch(two.id, GROUP, Index(index)).await.unwrap_err();
        assert!(matches!(error, FetchError::Gone { .. }), "{error}");
    };
    gone(7).await;
    save(&two, 9, bytes(10));
    gone(10).await;
    gone(8).await;
    let (status, _, body) = get(two.address, "/peer/v1/snapshots/1/8", &[]).await;
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &problem["newest_index"]), (410, &9.into()));
}

#[tokio::test]
async fn a_damaged_snapshot_is_not_taken() {
    let (one, two, _proxy) = through_proxy().await;
    save(&two, 7, bytes(1000));
    let file = std::fs::read_dir(two.dir.path()).unwrap().next().unwrap().unwrap().path();
    let mut damaged = std::fs::read(&file).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let error = one.transport.fetch(two.id, GROUP, Index(7)).await.unwrap_err();
    assert!(matches!(error, FetchError::Damaged), "{error}");
}

#[tokio::test]
async fn one_that_is_too_long_is_refused_before_it_comes() {
    let mut settings = config(1);
    settings.max_snapshot_bytes = 999;
    let one = Node::start_with(settings, 64).await;
    let two = Node::start(2).await;
    one.know(&[(two.id, two.address)]);
    save(&two, 7, bytes(1000));
    let error = one.transport.fetch(two.id, GROUP, Index(7)).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { len: 1000, max: 999 }), "{error}");
}

#[tokio::test]
async fn ranges_are_as_http_has_them() {
    let two = Node::start(2).await;
    save(&two, 7, bytes(1000));
    let path = "/peer/v1/snapshots/1/7";
    let (status, headers, body) = get(two.address, path, &[]).await;
    assert_eq!((status, body.len()), (200, 1000));
    assert_eq!(headers["accept-ranges"], "bytes");
    assert_eq!(headers["x-quartet-term"], "3");
    let crc = format!("{:08x}", crc32c::crc32c(&body));
    assert_eq!(headers["x-quartet-crc32c"].to_str().unwrap(), crc);
    let etag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"7-3-{crc}\""));

    for (range, status, content_range, len) in [
        ("bytes=0-", 206, Some("bytes 0-999/1000"), 1000),
        ("bytes=990-", 206, Some("bytes 990-999/1000"), 10),
        ("bytes=10-19", 206, Some("bytes 10-19/1000"), 10),
        ("bytes=990-5000", 206, Some("bytes 990-999/1000"), 10),
        ("bytes=-5", 200, None, 1000),
        ("bytes=9-5", 200, None, 1000),
        ("lines=1-2", 200, None, 1000),
    ] {
        let headers = [("range", range), ("if-match", etag.as_str())];
        let (got, headers, part) = get(two.address, path, &headers).await;
        assert_eq!((got, part.len()), (status, len), "{range}");
        let said = headers.get("content-range").map(|value| value.to_str().unwrap());
        assert_eq!(said, content_range, "{range}");
    }
    let (status, headers, _) = get(two.address, path, &[("range", "bytes=1000-")]).await;
    assert_eq!((status, headers["content-range"].to_str().unwrap()), (416, "bytes */1000"));
    let (status, ..) = get(two.address, path, &[("if-match", "\"other\"")]).await;
    assert_eq!(status, 412);
}
