//! A server that answers from a script and remembers what it was asked.

use std::sync::{Arc, Mutex};

use client::Url;
use client::http::{Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What to do with one request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// These bytes, then close.
    Send(String),
    /// Close without a byte.
    HangUp,
    /// Never answer.
    Hang,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    head: String,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        lines
            .filter_map(|line| line.split_once(':'))
            .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then(|| value.trim()))
    }
}

/// Runs until it is dropped. The last step is repeated for every further request.
pub(crate) struct Peer {
    url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub(crate) async fn start(script: impl IntoIterator<Item = Step>) -> Self {
        let script: Vec<Step> = script.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, script, Arc::clone(&seen)));
        Self { url, seen, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> Url {
        self.url.clone()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, script: Vec<Step>, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut connections = JoinSet::new();
    let script = Arc::new(script);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(answer(stream, Arc::clone(&script), Arc::clone(&seen)));
    }
}

async fn answer(mut stream: TcpStream, script: Arc<Vec<Step>>, seen: Arc<Mutex<Vec<Seen>>>) {
    let Some(request) = read(&mut stream).await else { return };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request);
        seen.len() - 1
    };
    match &script[number.min(script.len() - 1)] {
        Step::Send(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Step::HangUp => (),
        Step::Hang => std::future::pending().await,
    }
}

/// Reads one request with a `Content-Length` body; `None` if the connection ends first.
async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut seen = Seen { line: head.lines().next()?.to_owned(), head, body: String::new() };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = String::from_utf8_lossy(&bytes[head_end..]).into_owned();
    Some(seen)
}

/// An answer with a body of known length.
pub(crate) fn answer_with(status: u16, headers: &str, body: &str) -> Step {
    let length = body.len();
    Step::Send(format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    ))
}

pub(crate) fn ok(body: &str) -> Step {
    answer_with(200, "", body)
}

/// A problem document.
pub(crate) fn problem(status: u16, code: &str) -> Step {
    let body = format!(r#"{{"code":"{code}","detail":"because","status":{status}}}"#);
    answer_with(status, "content-type: application/problem+json\r\n", &body)
}

pub(crate) fn client(peers: &[&Peer]) -> Client {
    Client::new(Config::default(), peers.iter().map(|peer| peer.url())).unwrap()
}

/// An address where nobody listens.
pub(crate) async fn nowhere() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
}
