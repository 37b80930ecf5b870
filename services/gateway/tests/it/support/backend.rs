//! An upstream that records the exact bytes it gets and answers with exact bytes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which request of this backend, from 0.
    pub(crate) index: usize,
    /// Everything up to and including the empty line.
    pub(crate) head: String,
    /// Everything after it, chunk frames included.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The values of a header, in order.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1);
        let fields = lines.filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }

    /// `PUT /v1/kv/a HTTP/1.1`
    pub(crate) fn request_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// What an upstream does with a request.
pub(crate) enum Reply {
    /// Answers, and waits for the next request.
    Bytes(Vec<u8>),
    /// Answers piece by piece, each after its notification.
    Pieces(Vec<(Vec<u8>, Arc<Notify>)>),
    /// Answers, and closes.
    ThenClose(Vec<u8>),
    /// Answers nothing until the connection is closed by the other end; then notifies.
    Hang(Arc<Notify>),
    /// Answers, then sends back whatever comes.
    ThenEcho(Vec<u8>),
}

impl Reply {
    /// `200 OK` with a body.
    pub(crate) fn ok(body: &str) -> Self {
        Self::Bytes(response("200 OK", body))
    }

    /// Any status with a body.
    pub(crate) fn status(status: &str, body: &str) -> Self {
        Self::Bytes(response(status, body))
    }
}

pub(crate) fn response(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

type Respond = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// A started upstream. Dropping it closes everything at once, like a process that is killed.
pub(crate) struct Backend {
    pub(crate) url: String,
    pub(crate) address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    end: CancellationToken,
}

impl Backend {
    /// Answers every request alike.
    pub(crate) async fn always(body: &'static str) -> Self {
        Self::start(move |_| Reply::ok(body)).await
    }

    /// Answers each request with what `respond` says. `Seen::body` is complete unless the reply
    /// is decided by the head: see [`Backend::early`].
    pub(crate) async fn start(respond: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let free = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        Self::on(TcpListener::bind(free).await.unwrap(), respond, true)
    }

    /// Answers as soon as the head is there; the body is not read.
    pub(crate) async fn early(respond: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let free = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        Self::on(TcpListener::bind(free).await.unwrap(), respond, false)
    }

    /// On an address that was used before.
    pub(crate) async fn again(
        address: std::net::SocketAddr,
        respond: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = super::eventually("the address is free again", async || {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).ok()?;
            socket.listen(64).ok()
        })
        .await;
        Self::on(listener, respond, true)
    }

    /// This one under an address at which it does not listen.
    pub(crate) fn renamed(mut self, address: std::net::SocketAddr) -> Self {
        self.url = format!("http://{address}");
        self.address = address;
        self
    }

    fn on(
        listener: TcpListener,
        respond: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
        read_body: bool,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let backend = Self {
            url: format!("http://{address}"),
            address,
            seen: Arc::default(),
            connections: Arc::default(),
            end: CancellationToken::new(),
        };
        let served = Served {
            respond: Arc::new(respond),
            seen: Arc::clone(&backend.seen),
            connections: Arc::clone(&backend.connections),
            end: backend.end.clone(),
            read_body,
        };
        spawn(served.accept(listener));
        backend
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The only request.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

#[expect(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

#[derive(Clone)]
struct Served {
    respond: Respond,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    end: CancellationToken,
    read_body: bool,
}

impl Served {
    async fn accept(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.end.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { return };
            let served = self.clone();
            self.connections.fetch_add(1, Ordering::SeqCst);
            spawn(async move {
                let end = served.end.clone();
                tokio::select! {
                    () = end.cancelled() => (),
                    _ = served.serve(stream) => (),
                }
            });
        }
    }

    async fn serve(self, mut stream: TcpStream) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let head = read_head(&mut stream, &mut buffer).await?;
            let body = match self.read_body {
                true => read_body(&mut stream, &mut buffer, &head).await?,
                false => Vec::new(),
            };
            let seen = {
                let mut all = self.seen.lock().unwrap();
                let seen = Seen { index: all.len(), head, body };
                all.push(seen.clone());
                seen
            };
            match (self.respond)(&seen) {
                Reply::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
                Reply::Pieces(pieces) => {
                    for (bytes, after) in pieces {
                        after.notified().await;
                        stream.write_all(&bytes).await.ok()?;
                    }
                }
                Reply::ThenClose(bytes) => {
                    stream.write_all(&bytes).await.ok()?;
                    return None;
                }
                Reply::Hang(closed) => {
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest).await;
                    closed.notify_one();
                    return None;
                }
                Reply::ThenEcho(bytes) => {
                    stream.write_all(&bytes).await.ok()?;
                    stream.write_all(&buffer).await.ok()?;
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    return None;
                }
            }
        }
    }
}

/// Everything up to and including the empty line; the rest stays in `buffer`.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    let end = read_until(stream, buffer, |bytes| find(bytes, b"\r\n\r\n").map(|at| at + 4)).await?;
    String::from_utf8(buffer.drain(..end).collect()).ok()
}

async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, head: &str) -> Option<Vec<u8>> {
    let lower = head.to_ascii_lowercase();
    let len = if lower.contains("transfer-encoding: chunked") {
        read_until(stream, buffer, end_of_chunks).await?
    } else {
        let length = lower.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        read_until(stream, buffer, |bytes| (length <= bytes.len()).then_some(length)).await?
    };
    Some(buffer.drain(..len).collect())
}

async fn read_until(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    end: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    loop {
        if let Some(end) = end(buffer) {
            return Some(end);
        }
        if !matches!(stream.read_buf(buffer).await, Ok(1..)) {
            return None;
        }
    }
}

/// Where a chunked body ends, trailers included.
fn end_of_chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at += line + 2;
        if size == 0 {
            if bytes[at..].starts_with(b"\r\n") {
                return Some(at + 2);
            }
            return find(&bytes[at..], b"\r\n\r\n").map(|end| at + end + 4);
        }
        at += size + 2;
        if bytes.len() < at {
            return None;
        }
    }
}

pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
