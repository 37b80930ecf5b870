//! Connections to one endpoint.
//!
//! HTTP/1.1, one request at a time on each. A connection is lent to one request and comes back
//! when its response has been read to the end; whatever else happens to it closes it. The number
//! lent at once is bounded, and so is the number of requests that wait for one.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use resilience::retry::ReplayBody;
use resilience::system_random;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Inbound;

/// What goes upstream: the client's body, possibly sent again.
pub(crate) type OutboundBody = ReplayBody<Inbound>;

/// How many connections, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct PoolConfig {
    pub max_connections: usize,
    pub max_idle: usize,
    pub max_waiting: usize,
    pub wait: Duration,
    pub idle_timeout: Duration,
    /// A connection this old carries no further request: a name may mean another address by now.
    pub max_age: Duration,
    pub connect_timeout: Duration,
}

/// Where the pool's tasks run and when they end.
#[derive(Clone)]
pub(crate) struct Tasks {
    pub tracker: TaskTracker,
    pub stop: CancellationToken,
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckoutError {
    #[error("all {max} connections are in use and {waiting} requests wait already")]
    Busy { max: usize, waiting: usize },
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("the endpoint does not speak HTTP/1.1")]
    Handshake(#[source] hyper::Error),
}

/// The connections to one endpoint. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    /// `host:port`; a name is looked up for every new connection.
    authority: String,
    config: PoolConfig,
    tasks: Tasks,
    lent: Arc<Semaphore>,
    waiting: AtomicUsize,
    open: Arc<AtomicUsize>,
    /// Most recently used last.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    sender: SendRequest<OutboundBody>,
    retires: Instant,
    since: Instant,
}

/// What a pool is doing, for display.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolStats {
    pub open: usize,
    pub idle: usize,
    pub max: usize,
    pub waiting: usize,
}

/// Which connections will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Any,
    /// A used one has just turned out to be dead: the others may be as well.
    Fresh,
}

/// A connection on loan. Dropped, it is closed; see [`Connection::give_back`].
pub(crate) struct Connection {
    pub sender: SendRequest<OutboundBody>,
    /// It has carried a request before, so its other end may have closed it meanwhile.
    pub reused: bool,
    retires: Instant,
    pool: Pool,
    _lent: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(authority: String, config: PoolConfig, tasks: Tasks) -> Self {
        let lent = Arc::new(Semaphore::new(config.max_connections));
        let inner = Inner {
            authority,
            config,
            tasks,
            lent,
            waiting: AtomicUsize::new(0),
            open: Arc::new(AtomicUsize::new(0)),
            idle: Mutex::new(Vec::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Lends a connection: the one used last if it is still good, else a new one.
    pub(crate) async fn checkout(
        &self,
        want: Want,
        now: Instant,
    ) -> Result<Connection, CheckoutError> {
        let lent = self.permit().await?;
        let used = match want {
            Want::Any => self.take_idle(now),
            Want::Fresh => None,
        };
        let reused = used.is_some();
        let (sender, retires) = match used {
            Some(used) => (used.sender, used.retires),
            None => (self.connect().await?, self.retires(now)),
        };
        Ok(Connection { sender, reused, retires, pool: self.clone(), _lent: lent })
    }

    pub(crate) fn stats(&self) -> PoolStats {
        PoolStats {
            open: self.inner.open.load(Relaxed),
            idle: self.idle().len(),
            max: self.inner.config.max_connections,
            waiting: self.inner.waiting.load(Relaxed),
        }
    }

    /// Closes connections that have not been used for too long, or that the other end closed.
    pub(crate) fn sweep(&self, now: Instant) {
        let timeout = self.inner.config.idle_timeout;
        self.idle().retain(|idle| {
            !idle.sender.is_closed() && now.saturating_duration_since(idle.since) < timeout
        });
    }

    /// Closes every connection that is not in use.
    pub(crate) fn clear(&self) {
        self.idle().clear();
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, CheckoutError> {
        let inner = &self.inner;
        if let Ok(permit) = Arc::clone(&inner.lent).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = Waiting::begin(&inner.waiting);
        let busy =
            CheckoutError::Busy { max: inner.config.max_connections, waiting: waiting.before };
        if inner.config.max_waiting <= waiting.before {
            return Err(busy);
        }
        let acquired = Arc::clone(&inner.lent).acquire_owned();
        match tokio::time::timeout(inner.config.wait, acquired).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(busy),
        }
    }

    fn take_idle(&self, now: Instant) -> Option<Idle> {
        let mut idle = self.idle();
        while let Some(used) = idle.pop() {
            if self.inner.config.idle_timeout <= now.saturating_duration_since(used.since) {
                // The rest has been idle for even longer.
                idle.clear();
                return None;
            }
            if used.sender.is_ready() && now < used.retires {
                return Some(used);
            }
        }
        None
    }

    /// When a connection made now carries its last request. Spread, so that connections made
    /// together do not end together.
    fn retires(&self, now: Instant) -> Instant {
        let spread = 0.8 + 0.4 * (system_random() % 1000) as f64 / 1000.0;
        now + self.inner.config.max_age.mul_f64(spread)
    }

    async fn connect(&self) -> Result<SendRequest<OutboundBody>, CheckoutError> {
        let timeout = self.inner.config.connect_timeout;
        let connecting = TcpStream::connect(&self.inner.authority);
        let stream = tokio::time::timeout(timeout, connecting)
            .await
            .map_err(|_| CheckoutError::ConnectTimeout(timeout))?
            .map_err(CheckoutError::Connect)?;
        stream.set_nodelay(true).map_err(CheckoutError::Connect)?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(CheckoutError::Handshake)?;
        let open = OpenGuard::begin(Arc::clone(&self.inner.open));
        let stop = self.inner.tasks.stop.clone();
        self.inner.tasks.tracker.spawn(async move {
            let _open = open;
            tokio::select! {
                // Whoever waits for the response gets the error; it is not lost here.
                _ = connection.with_upgrades() => (),
                () = stop.cancelled() => (),
            }
        });
        Ok(sender)
    }

    fn put_idle(&self, used: Idle) {
        let mut idle = self.idle();
        if idle.len() < self.inner.config.max_idle && !self.inner.tasks.stop.is_cancelled() {
            idle.push(used);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // A panic cannot leave a half-changed list behind.
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection is ready again as soon as hyper's task has seen the end of the response; one
/// that takes longer is still sending a request that was answered early, and is closed (F6).
const READY_WITHIN: Duration = Duration::from_millis(100);

impl Connection {
    /// Where work that outlives the request runs.
    pub(crate) fn tasks(&self) -> Tasks {
        self.pool.inner.tasks.clone()
    }

    /// Returns the connection for the next request, once it is ready for one.
    pub(crate) fn give_back(self, now: Instant) {
        let Self { sender, retires, pool, _lent: lent, .. } = self;
        let mut used = Idle { sender, retires, since: now };
        if used.sender.is_ready() {
            return pool.put_idle(used);
        }
        let tasks = pool.inner.tasks.clone();
        tasks.tracker.spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(READY_WITHIN, used.sender.ready()).await {
                pool.put_idle(used);
            }
            drop(lent);
        });
    }
}

/// Counts a waiting request for as long as it waits, also when it is cancelled.
struct Waiting<'a> {
    counter: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(counter: &'a AtomicUsize) -> Self {
        Self { before: counter.fetch_add(1, Relaxed), counter }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Relaxed);
    }
}

/// Counts an open connection for as long as its task runs.
struct OpenGuard(Arc<AtomicUsize>);

impl OpenGuard {
    fn begin(counter: Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Relaxed);
        Self(counter)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
