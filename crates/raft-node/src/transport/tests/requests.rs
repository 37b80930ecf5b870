//! Single requests, as curl would make them.

use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1 as client;
use serde_json::json;
use tokio::net::TcpStream;

use super::*;

/// Status and body of a POST to the stream's path that ends after `body`.
pub(super) async fn post(address: SocketAddr, body: Bytes) -> (u16, String) {
    let request = http::Request::post("/peer/v1/stream").body(Full::new(body)).unwrap();
    let (status, _, body) = ask(address, request).await;
    (status, String::from_utf8_lossy(&body).into_owned())
}

pub(super) async fn get(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, http::HeaderMap, Bytes) {
    let request = headers
        .iter()
        .fold(http::Request::get(path), |request, (name, value)| request.header(*name, *value));
    ask(address, request.body(Full::default()).unwrap()).await
}

async fn ask(
    address: SocketAddr,
    mut request: http::Request<Full<Bytes>>,
) -> (u16, http::HeaderMap, Bytes) {
    let host = address.to_string().parse().unwrap();
    request.headers_mut().insert(http::header::HOST, host);
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = client::handshake(TokioIo::new(socket)).await.unwrap();
    // The connection ends with its sender.
    let answer = async move {
        let answer = sender.send_request(request).await.unwrap();
        let (head, body) = answer.into_parts();
        (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes())
    };
    let both = async { tokio::join!(answer, connection).0 };
    tokio::time::timeout(PATIENCE, both).await.expect("an answer in time")
}

fn hello(from: u64, to: u64, version: u32) -> Bytes {
    let (from, to) = (NodeId(from), NodeId(to));
    wire::Hello { version, cluster: CLUSTER, from, to, epoch: 1, url: String::new() }.encode()
}

#[tokio::test]
async fn what_is_no_stream_is_a_bad_request() {
    let node = Node::start(2).await;
    let zeros = wire::KEEPALIVE.to_vec();
    let long = [&[0xff; 4][..], &[0; 4]].concat();
    for body in [b"garbage that is long enough".to_vec(), zeros, long, Vec::new(), vec![1]] {
        let (status, text) = post(node.address, body.into()).await;
        assert_eq!(status, 400, "{text}");
        assert!(text.contains("hello"), "{text}");
    }
}

#[tokio::test]
async fn another_version_is_refused_by_name() {
    let node = Node::start(2).await;
    let (status, text) = post(node.address, hello(1, 2, 9)).await;
    assert_eq!(status, 409);
    assert!(text.contains("speaks version 1 of the peer protocol, the caller 9"), "{text}");
}

#[tokio::test]
async fn the_last_words_of_a_damaged_stream_name_the_damage() {
    let mut node = Node::start(2).await;
    let damaged = {
        let mut bytes = bytes::BytesMut::from(&hello(1, 2, 1)[..]);
        wire::encode(&small(1), &mut bytes);
        let frame_at = bytes.len();
        wire::encode(&small(2), &mut bytes);
        bytes[frame_at + 9] ^= 1;
        bytes.freeze()
    };
    let (status, words) = post(node.address, damaged).await;
    assert_eq!(status, 200);
    assert!(words.contains("a frame does not have its checksum"), "{words}");
    assert_eq!(node.next_messages().await.len(), 1, "what came before it counts");
}

#[tokio::test]
async fn identity_is_what_its_owner_says() {
    let node = Node::start(2).await;
    node.transport.set_identity(json!({"name": "n2", "node": "2"}));
    let (status, headers, body) = get(node.address, "/peer/v1/identity", &[]).await;
    assert_eq!((status, &headers["content-type"]), (200, &"application/json".parse().unwrap()));
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["name"], "n2");
}

#[tokio::test]
async fn other_paths_and_methods_are_problems() {
    let node = Node::start(2).await;
    for (path, status) in [
        ("/peer/v1/stream", 405),
        ("/peer/v1/nothing", 404),
        ("/peer/v1/snapshots/1/2", 404),
        ("/peer/v1/snapshots/1", 404),
        ("/peer/v1/snapshots/x/2", 404),
    ] {
        let (got, headers, body) = get(node.address, path, &[]).await;
        assert_eq!((got, path), (status, path));
        assert_eq!(headers["content-type"], api::headers::PROBLEM_JSON);
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], status);
    }
}

#[tokio::test]
async fn who_means_another_node_is_not_served() {
    let node = Node::start(2).await;
    let (right, wrong) = (format!("{:016x}", 2), format!("{:016x}", 3));
    let ask =
        async |to: &str| get(node.address, "/peer/v1/identity", &[("x-quartet-to", to)]).await.0;
    assert_eq!((ask(&right).await, ask(&wrong).await), (200, 409));
}
