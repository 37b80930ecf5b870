//! The generator of load: plain HTTP/1.1 connections, one request at a time on each.
//!
//! It shares the machine with the servers it measures, so it is kept light: requests written before
//! the clock runs, connections that keep their buffers, a thread without work stealing.
//!
//! **Invariant:** a closed loop: a connection sends its next request when the last is answered.
//! What a server does not take, nobody sends; a late answer counts with all of its time.

mod connection;
mod exchange;
mod requests;
mod stream;
mod tally;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use connection::{Answer, Connection, Target};
pub(crate) use exchange::{Exchange, Written};
pub(crate) use requests::Requests;
pub(crate) use stream::{Space, Stream};
pub(crate) use tally::Tally;

/// How long an answer may take that was asked for before the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between a failure and the next attempt.
const PAUSE: Duration = Duration::from_millis(10);

/// What is sent, by how many, and when.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Connection `i` goes to target `i` modulo their number.
    pub(crate) targets: Vec<Target>,
    pub(crate) connections: usize,
    pub(crate) requests: Arc<Requests>,
    pub(crate) window: Window,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
}

/// What is answered in here counts. Requests are sent from now on: before `begin` to warm up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Window {
    pub(crate) fn after(warm_up: Duration, length: Duration) -> Self {
        let begin = Instant::now() + warm_up;
        Self { begin, end: begin + length }
    }

    pub(crate) fn length(self) -> Duration {
        self.end - self.begin
    }
}

/// Runs `work` on a thread and a runtime of its own, which no other work slows down.
pub(crate) async fn on_thread<T, F>(name: &str, work: F) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        LocalSet::new().block_on(&runtime, work())
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody listens any more after Ctrl-C.
            let _ = sender.send(run());
        })
        .context("cannot start a thread")?;
    receiver.await.context("a thread of the generator panicked")?
}

/// Sends until the window ends, on threads of its own.
pub(crate) async fn drive(load: Load) -> anyhow::Result<Tally> {
    let load = Arc::new(load);
    let mut threads = Vec::new();
    for thread in 0..load.threads {
        let (load, (sender, receiver)) = (load.clone(), oneshot::channel());
        std::thread::Builder::new()
            .name(format!("load-{thread}"))
            .spawn(move || {
                // Nobody listens any more after Ctrl-C.
                let _ = sender.send(run_thread(&load, thread));
            })
            .context("cannot start a thread")?;
        threads.push(receiver);
    }
    let mut total = Tally::new();
    for thread in threads {
        total.add(&thread.await.context("a thread of the generator panicked")??);
    }
    Ok(total)
}

/// The connections of one thread.
fn run_thread(load: &Arc<Load>, thread: usize) -> anyhow::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let tally = Rc::new(RefCell::new(Tally::new()));
    LocalSet::new().block_on(&runtime, async {
        let mut loops = JoinSet::new();
        for number in (thread..load.connections).step_by(load.threads) {
            loops.spawn_local(keep_asking(load.clone(), number, tally.clone()));
        }
        let all = async { while loops.join_next().await.is_some() {} };
        if timeout_at(load.window.end + PATIENCE, all).await.is_err() {
            let missing = loops.len() as u64;
            tally.borrow_mut().fail(missing, || format!("no answer within {PATIENCE:?}"));
        }
    });
    // The loops that never ended still hold it.
    Ok(tally.replace(Tally::new()))
}

/// One connection, opened again when it breaks.
async fn keep_asking(load: Arc<Load>, number: usize, tally: Rc<RefCell<Tally>>) {
    let target = &load.targets[number % load.targets.len()];
    let mut random = StdRng::seed_from_u64(load.seed.wrapping_add(number as u64));
    let mut open = None;
    loop {
        let connection = match &mut open {
            Some(connection) => connection,
            closed => match Exchange::open(target).await {
                Ok(connection) => closed.insert(connection),
                Err(error) => {
                    tally.borrow_mut().fail(1, || format!("{target}: {error:#}"));
                    sleep(PAUSE).await;
                    if load.window.end <= Instant::now() {
                        return;
                    }
                    continue;
                }
            },
        };
        let sent = Instant::now();
        if load.window.end <= sent {
            return;
        }
        let answer = connection.ask(load.requests.pick(&mut random)).await;
        let now = Instant::now();
        let mut tally = tally.borrow_mut();
        match answer {
            Ok(answer) if load.requests.accepts(&answer) => tally.record(load.window, sent, now),
            Ok(answer) => tally.fail(1, || format!("{target}: {answer}")),
            Err(error) => {
                tally.fail(1, || format!("{target}: {error:#}"));
                open = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every read, which is one request, with the same bytes.
    async fn serve(listener: TcpListener, answer: &'static str) {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read != 0) {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    async fn run(answer: &'static str) -> Tally {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let request = http::Request::get("/").body(bytes::Bytes::new()).unwrap();
        let load = Load {
            targets: vec![Target::parse(&url).unwrap()],
            connections: 3,
            requests: Arc::new(Requests::new([request], 2)),
            window: Window::after(Duration::from_millis(20), Duration::from_millis(100)),
            threads: 2,
            seed: 1,
        };
        tokio::select! {
            tally = drive(load) => tally.unwrap(),
            () = serve(listener, answer) => unreachable!("the listener stays open"),
        }
    }

    #[tokio::test]
    async fn good_answers_count_and_others_are_errors() {
        let good = run("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert!(0 < good.answered && good.errors == 0, "{good:?}");
        for bad in [
            "HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n!",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            let tally = run(bad).await;
            assert!(tally.answered == 0 && 0 < tally.errors, "{bad:?}: {tally:?}");
        }
    }
}
