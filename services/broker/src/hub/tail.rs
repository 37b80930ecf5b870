//! Reads a partition for all who listen to it, for as long as somebody does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use messaging::config::Start;
use tokio::sync::watch;

use super::feed::{Feed, Place};
use super::ring::{Look, Ring, Run};
use crate::broker::Broker;
use crate::directory::PartitionHandle;
use crate::error::MessageError;
use crate::handlers::outgoing;
use crate::read::{Locate, ReadMessage};

/// How long a member is asked to wait at a time.
const WAIT_MS: u64 = 30_000;
/// What it takes to write to one listener, about. So many at a time are given to all of them that
/// they do not keep the processors busy with single messages.
const LISTENER: Duration = Duration::from_micros(25);
/// The longest that messages are held back for that.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// The newest messages of a partition.
#[derive(Debug)]
pub(super) struct Tail {
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Debug)]
enum State {
    Starting,
    Running(Ring),
    /// It was deleted, or cannot be read.
    Over,
}

/// What a tail has for a listener.
#[derive(Debug)]
pub(super) enum Seen {
    Ring(Look),
    Over,
}

impl Default for Tail {
    fn default() -> Self {
        Self { state: Mutex::new(State::Starting), changes: watch::Sender::new(()) }
    }
}

impl Tail {
    /// Tells of every change, and keeps it alive.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn is_heard(&self) -> bool {
        0 < self.changes.receiver_count()
    }

    /// What there is from an offset on.
    pub(super) fn look(&self, offset: u64) -> Seen {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Starting => Seen::Ring(Look::Nothing),
            State::Running(ring) => Seen::Ring(ring.look(offset)),
            State::Over => Seen::Over,
        }
    }

    fn be(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changes.send_replace(());
    }

    fn push(&self, broker: &Broker, run: Run) {
        let hub = &broker.shared.hub;
        if let State::Running(ring) =
            &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let before = ring.bytes();
            ring.push(run, hub.is_full());
            hub.count(before, ring.bytes());
        }
        self.changes.send_replace(());
    }

    fn bytes(&self) -> usize {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Running(ring) => ring.bytes(),
            _ => 0,
        }
    }
}

/// Follows a partition until nobody listens.
pub(super) async fn run(broker: Broker, partition: Arc<PartitionHandle>, tail: Arc<Tail>) {
    let hub = &broker.shared.hub;
    let id = partition.port.id;
    let is_over = loop {
        tokio::select! {
            () = tail.changes.closed() => {
                if hub.end(id, &tail, false) {
                    break false;
                }
            }
            () = broker.shared.stop.cancelled() => break true,
            () = partition.port.gone.cancelled() => break true,
            Err(error) = follow(&broker, &partition, &tail) => {
                tracing::debug!(topic = %partition.topic, partition = partition.number, %error,
                    "a partition is followed no more");
                break true;
            }
        }
    };
    hub.end(id, &tail, is_over);
    hub.count(tail.bytes(), 0);
    tail.be(State::Over);
}

/// Ends with an error.
async fn follow(
    broker: &Broker,
    partition: &Arc<PartitionHandle>,
    tail: &Tail,
) -> Result<(), MessageError> {
    let start = broker.run(partition, Locate { from: Start::Latest }).await?;
    let mut from = Place { offset: start, ..Place::default() };
    tail.be(State::Running(Ring::new(start)));
    let number = partition.number;
    loop {
        let fed = broker.run(partition, Feed { from, wait_ms: WAIT_MS }).await?;
        if fed.messages.is_empty() && fed.next == from {
            continue;
        }
        from = fed.next;
        tail.push(
            broker,
            Run::new(fed.messages, from.offset, |message| {
                outgoing::text(ReadMessage { partition: number, message })
            }),
        );
        let listeners = u32::try_from(tail.changes.receiver_count()).unwrap_or(u32::MAX);
        tokio::time::sleep(LISTENER.saturating_mul(listeners).min(MAX_PAUSE)).await;
    }
}
