//! An endpoint that does as it is told, and remembers what it was sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What an endpoint does with a call.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A status line and headers.
    Answer(&'static str),
    /// Takes the call and says nothing, for ever.
    Hang,
    /// Takes the call and closes the connection.
    HangUp,
}

pub(crate) const OK: Act = Act::Answer("204 No Content\r\n");

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Whether somebody with this secret has signed it: as a receiver checks it.
    pub(crate) fn is_signed(&self, secret: &str) -> bool {
        let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let (id, at) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let mut block = [0_u8; 64];
        block[..key.len()].copy_from_slice(&key);
        let inner = Sha256::new()
            .chain_update(block.map(|byte| byte ^ 0x36))
            .chain_update(format!("{id}.{at}."))
            .chain_update(&self.body)
            .finalize();
        let outer = Sha256::new()
            .chain_update(block.map(|byte| byte ^ 0x5c))
            .chain_update(inner)
            .finalize();
        let wanted = format!("v1,{}", BASE64.encode(outer));
        self.header("webhook-signature").split(' ').any(|signature| signature == wanted)
    }
}

pub(crate) struct Endpoint {
    pub(crate) url: String,
    calls: watch::Receiver<Vec<Received>>,
    script: Arc<Mutex<(VecDeque<Act>, Act)>>,
    /// Ends the endpoint with it.
    _end: tokio_util::sync::DropGuard,
}

impl Endpoint {
    /// Does what the script says, then `rest` for ever.
    pub(crate) async fn start(script: &[Act], rest: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new((script.iter().cloned().collect(), rest)));
        let (sender, calls) = watch::channel(Vec::new());
        let end = tokio_util::sync::CancellationToken::new();
        let (ended, acts) = (end.clone(), script.clone());
        let sender = Arc::new(sender);
        let tasks = tokio_util::task::TaskTracker::new();
        let calling = tasks.clone();
        tasks.spawn(end.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serve = serve(stream, acts.clone(), sender.clone());
                calling.spawn(ended.clone().run_until_cancelled_owned(serve));
            }
        }));
        Self { url, calls, script, _end: end.drop_guard() }
    }

    /// From now on it does this.
    pub(crate) fn now(&self, rest: Act) {
        *self.script.lock().unwrap() = (VecDeque::new(), rest);
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.borrow().len()
    }

    /// All calls, as soon as there are so many.
    pub(crate) async fn calls(&self, count: usize) -> Vec<Received> {
        let mut calls = self.calls.clone();
        let enough = calls.wait_for(|calls| count <= calls.len());
        let enough = tokio::time::timeout(Duration::from_secs(60), enough).await;
        enough.unwrap_or_else(|_| panic!("{} of {count} calls came", self.count())).unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Mutex<(VecDeque<Act>, Act)>>,
    calls: Arc<watch::Sender<Vec<Received>>>,
) {
    while let Some(received) = read(&mut stream).await {
        let act = {
            let mut script = script.lock().unwrap();
            let rest = script.1.clone();
            script.0.pop_front().unwrap_or(rest)
        };
        calls.send_modify(|calls| calls.push(received));
        match act {
            Act::Answer(head) => {
                let answer = format!("HTTP/1.1 {head}content-length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Act::Hang => std::future::pending().await,
            Act::HangUp => return,
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let headers: Vec<(String, String)> = text
        .lines()
        .skip(1)
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, length)| length.parse().unwrap());
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        stream.read_buf(&mut body).await.ok()?;
    }
    Some(Received { headers, body })
}
