//! What the accept loop does with peers that are slow, silent, many or modern.

use std::time::Duration;

use chassis::testing::Running;
use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::running;
use crate::service::Config;

/// Longer than anything here takes; what has not happened by then does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

const REQUEST: &[u8] = b"GET /items/7 HTTP/1.1\r\nhost: trial\r\n\r\n";

async fn connect(server: &Running<Config>) -> TcpStream {
    TcpStream::connect(server.context.listen).await.unwrap()
}

/// Reads until the peer closes. A reset is a way of closing.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it is closed in time");
    bytes
}

async fn one_answer(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n7") {
        let read = timeout(PATIENCE, stream.read_buf(&mut bytes)).await.expect("an answer in time");
        assert_ne!(read.unwrap(), 0, "{}", String::from_utf8_lossy(&bytes));
    }
    assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn a_peer_that_says_nothing_or_too_little_is_cut_off() {
    let server = running(|base| base.limits.header_timeout_seconds = 1).await;
    for beginning in [&b""[..], b"PRI * HT", b"P", b"GET /items/7 HT", b"GET / HTTP/1.1\r\nx: y"] {
        let mut stream = connect(&server).await;
        stream.write_all(beginning).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn one_byte_at_a_time_does_not_buy_more_time() {
    let server = running(|base| base.limits.header_timeout_seconds = 1).await;
    let mut stream = connect(&server).await;
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, drip).await.expect("the connection breaks while the head still arrives");
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = running(|_| ()).await;
    let mut stream = connect(&server).await;
    for _ in 0..3 {
        stream.write_all(REQUEST).await.unwrap();
        one_answer(&mut stream).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = running(|base| base.limits.idle_timeout_seconds = 1).await;
    let mut stream = connect(&server).await;
    stream.write_all(REQUEST).await.unwrap();
    one_answer(&mut stream).await;
    assert!(until_closed(&mut stream).await.is_empty());
}

#[tokio::test]
async fn http_2_works_without_an_upgrade() {
    let server = running(|_| ()).await;
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let response = client.get(format!("{}/items/7", server.url)).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.text().await.unwrap(), "7");
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_for_its_turn() {
    let server = running(|base| base.limits.max_connections = 1).await;
    let mut first = connect(&server).await;
    first.write_all(REQUEST).await.unwrap();
    one_answer(&mut first).await;
    let mut second = connect(&server).await;
    second.write_all(REQUEST).await.unwrap();
    first.write_all(REQUEST).await.unwrap();
    one_answer(&mut first).await;
    drop(first);
    one_answer(&mut second).await;
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_given_up() {
    let server = running(|base| base.limits.body_timeout_seconds = 1).await;
    let mut stream = connect(&server).await;
    let head = b"POST /echo HTTP/1.1\r\nhost: trial\r\ncontent-length: 10\r\n\r\nhalf";
    stream.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_server_goes_on() {
    let server = running(|_| ()).await;
    let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'y'; 128 * 1024]].concat();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)).into_bytes();
    let two = b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx".to_vec();
    for head in [b"GARBAGE\r\n\r\n".to_vec(), long, many, two, b"\x16\x03\x01\x00".to_vec()] {
        let mut stream = connect(&server).await;
        let _ = stream.write_all(&head).await;
        let _ = stream.shutdown().await;
        let answer = until_closed(&mut stream).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    let mut stream = connect(&server).await;
    stream.write_all(REQUEST).await.unwrap();
    one_answer(&mut stream).await;
}
