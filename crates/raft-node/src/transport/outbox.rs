//! What waits to be written to one peer.
//!
//! The driver puts in and never waits; the connection takes out as fast as the network goes. What
//! does not fit is dropped, or refused where somebody waits for it: a full queue must never stop
//! the other side's queue from being emptied (B31).
//!
//! **Invariant:** at most one heartbeat waits, the newest, and it leaves with the next frame.
//! **Invariant:** messages leave in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use consensus::{GroupId, Heartbeat, Message};
use tokio::sync::Notify;

use super::frame::{self, Forward, ForwardReply, Mark, PeerFrame};
use super::wire::FRAME_MAX;

/// What is kept for a peer without a connection: enough for the votes and probes of many groups
/// while it connects, too little to drown it in old news when it comes back.
const UNCONNECTED_BYTES: usize = 256 * 1024;
/// Answers may exceed the bound by this: they are short, and a caller waits for each.
const REPLIES_EXTRA_BYTES: usize = 1 << 20;
/// Traces that wait for a frame.
const MARKS_MAX: usize = 64;
/// A message that would not fit into a frame, whatever else is in it.
const MESSAGE_MAX: usize = FRAME_MAX - (64 << 10);

pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Wakes the one connection when there is something to take.
    filled: Notify,
    max_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    is_connected: bool,
    /// Counts connections: one that has ended takes nothing any more.
    connection: u64,
    heartbeat: Option<Heartbeat>,
    messages: VecDeque<(GroupId, Message)>,
    forwards: VecDeque<Forward>,
    replies: VecDeque<ForwardReply>,
    /// They leave with the next frame, and are lost where there is no connection.
    marks: Vec<Mark>,
    /// Of messages, forwards and replies.
    bytes: usize,
    forwards_first: bool,
}

/// What did not get in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// Forwards that will not be written.
    pub(super) unsent: Vec<u64>,
    /// For want of a connection; else for want of room.
    pub(super) is_unconnected: bool,
    /// Messages and answers that are gone, older ones included.
    pub(super) dropped: u64,
    /// Of these, messages that no frame could hold.
    pub(super) too_long: u64,
}

impl Outbox {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { waiting: Mutex::default(), filled: Notify::new(), max_bytes }
    }

    /// Puts a frame's parts in line. Never waits.
    pub(super) fn put(&self, frame: PeerFrame) -> Refused {
        let mut refused = Refused::default();
        let mut waiting = self.lock();
        let max = if waiting.is_connected { self.max_bytes } else { usize::MAX };
        if frame.heartbeat.is_some() {
            waiting.heartbeat = frame.heartbeat;
        }
        for reply in frame.replies {
            if waiting.bytes + ForwardReply::COST <= max.saturating_add(REPLIES_EXTRA_BYTES) {
                waiting.bytes += ForwardReply::COST;
                waiting.replies.push_back(reply);
            } else {
                refused.dropped += 1;
            }
        }
        if waiting.is_connected {
            let room = MARKS_MAX.saturating_sub(waiting.marks.len());
            waiting.marks.extend(frame.marks.into_iter().take(room));
        }
        for message in frame.messages {
            let cost = frame::cost(&message);
            if MESSAGE_MAX < cost {
                refused.too_long += 1;
                refused.dropped += 1;
            } else if waiting.bytes + cost <= max {
                waiting.bytes += cost;
                waiting.messages.push_back(message);
            } else {
                refused.dropped += 1;
            }
        }
        refused.is_unconnected = !waiting.is_connected;
        for forward in frame.forwards {
            let cost = forward.cost();
            if waiting.is_connected && cost <= MESSAGE_MAX && waiting.bytes + cost <= max {
                waiting.bytes += cost;
                waiting.forwards.push_back(forward);
            } else {
                refused.unsent.push(forward.id);
            }
        }
        if !waiting.is_connected {
            refused.dropped += waiting.trim(UNCONNECTED_BYTES.min(self.max_bytes));
        }
        drop(waiting);
        self.filled.notify_one();
        refused
    }

    /// What goes into the next frame of this connection: about `max_bytes`, or one message that is
    /// longer. Waits until there is something; `None` once another connection took its place.
    /// Dropping the future loses nothing.
    pub(super) async fn take(&self, connection: u64, max_bytes: usize) -> Option<PeerFrame> {
        loop {
            if !self.is_current(connection) {
                // It may be the other one's wake-up that came here.
                self.filled.notify_one();
                return None;
            }
            if let Some(frame) = self.try_take(max_bytes) {
                return Some(frame);
            }
            self.filled.notified().await;
        }
    }

    fn is_current(&self, connection: u64) -> bool {
        let waiting = self.lock();
        waiting.is_connected && waiting.connection == connection
    }

    fn try_take(&self, max_bytes: usize) -> Option<PeerFrame> {
        let mut waiting = self.lock();
        if waiting.heartbeat.is_none() && waiting.bytes == 0 {
            return None;
        }
        let mut frame = PeerFrame {
            heartbeat: waiting.heartbeat.take(),
            marks: std::mem::take(&mut waiting.marks),
            ..PeerFrame::default()
        };
        waiting.forwards_first = !waiting.forwards_first;
        let forwards_first = waiting.forwards_first;
        let Waiting { messages, forwards, replies, .. } = &mut *waiting;
        let count = replies.len().min(max_bytes / ForwardReply::COST);
        frame.replies.extend(replies.drain(..count));
        let left = max_bytes - count * ForwardReply::COST;
        // They take turns at going first, and who goes first may be longer than a frame should be:
        // so neither waits for all of the other.
        if messages.is_empty() || (forwards_first && !forwards.is_empty()) {
            let taken = take_first(forwards, Forward::cost, left, &mut frame.forwards);
            take_some(messages, frame::cost, left.saturating_sub(taken), &mut frame.messages);
        } else {
            let taken = take_first(messages, frame::cost, left, &mut frame.messages);
            take_some(forwards, Forward::cost, left.saturating_sub(taken), &mut frame.forwards);
        }
        waiting.bytes -= frame.cost();
        Some(frame)
    }

    /// The peer takes what is written from now on. Names the connection.
    pub(super) fn connect(&self) -> u64 {
        let mut waiting = self.lock();
        waiting.is_connected = true;
        waiting.connection += 1;
        waiting.connection
    }

    /// Nothing is written any more. Forwards do not wait for another connection: their callers
    /// are better off asking elsewhere. Says whether there was a connection, and what is unsent.
    pub(super) fn disconnect(&self) -> (bool, Refused) {
        let mut waiting = self.lock();
        let was_connected = std::mem::replace(&mut waiting.is_connected, false);
        let forwards = std::mem::take(&mut waiting.forwards);
        waiting.bytes -= forwards.iter().map(Forward::cost).sum::<usize>();
        let dropped = waiting.trim(UNCONNECTED_BYTES.min(self.max_bytes));
        let unsent = forwards.iter().map(|forward| forward.id).collect();
        (was_connected, Refused { unsent, dropped, is_unconnected: true, ..Refused::default() })
    }

    /// Never held across an await, and consistent after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Drops the oldest until the rest is at most `max` bytes. Says how many.
    fn trim(&mut self, max: usize) -> u64 {
        let mut dropped = 0;
        while max < self.bytes {
            let cost = match self.messages.pop_front() {
                Some(message) => frame::cost(&message),
                None if self.replies.pop_front().is_some() => ForwardReply::COST,
                None => break,
            };
            self.bytes -= cost;
            dropped += 1;
        }
        dropped
    }
}

/// Moves what fits into `max` bytes, but at least the first. Says how many bytes that is.
fn take_first<T>(
    from: &mut VecDeque<T>,
    cost: impl Fn(&T) -> usize,
    max: usize,
    to: &mut Vec<T>,
) -> usize {
    let Some(first) = from.pop_front() else { return 0 };
    let taken = cost(&first);
    to.push(first);
    taken + take_some(from, cost, max.saturating_sub(taken), to)
}

/// Moves what fits into `max` bytes, and says how many bytes that is.
fn take_some<T>(
    from: &mut VecDeque<T>,
    cost: impl Fn(&T) -> usize,
    max: usize,
    to: &mut Vec<T>,
) -> usize {
    let mut taken = 0;
    let fits = |item: &&T| {
        taken += cost(item);
        taken <= max
    };
    let count = from.iter().take_while(fits).count();
    to.extend(from.drain(..count));
    to.iter().rev().take(count).map(cost).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use consensus::{Append, Entry, Index, StepDown, Term};
    use futures_util::FutureExt as _;

    use super::super::frame::ForwardOutcome;
    use super::*;

    const FRAME: usize = 1024;

    fn step_down(term: u64) -> PeerFrame {
        let message = Message::StepDown(StepDown { term: Term(term) });
        PeerFrame { messages: vec![(GroupId(1), message)], ..PeerFrame::default() }
    }

    fn append(index: u64, len: usize) -> PeerFrame {
        let entry = Entry::command(Term(1), Index(index), Bytes::from(vec![0; len]));
        let append = Append {
            term: Term(1),
            prev_index: Index(index - 1),
            prev_term: Term(1),
            commit: Index::ZERO,
            entries: vec![entry],
        };
        let messages = vec![(GroupId(1), Message::Append(append))];
        PeerFrame { messages, ..PeerFrame::default() }
    }

    fn forward(id: u64, len: usize) -> PeerFrame {
        let forward = Forward {
            id,
            group: GroupId(1),
            command: Bytes::from(vec![0; len]),
            freeing: false,
            trace: Bytes::new(),
        };
        PeerFrame { forwards: vec![forward], ..PeerFrame::default() }
    }

    fn reply(id: u64) -> PeerFrame {
        let reply = ForwardReply { id, outcome: ForwardOutcome::Overloaded };
        PeerFrame { replies: vec![reply], ..PeerFrame::default() }
    }

    fn beat(sent_ms: u64) -> PeerFrame {
        let heartbeat = Heartbeat { sent_ms, ..Heartbeat::default() };
        PeerFrame { heartbeat: Some(heartbeat), ..PeerFrame::default() }
    }

    fn terms(frame: &PeerFrame) -> Vec<u64> {
        frame.messages.iter().map(|(_, message)| message.term().0).collect()
    }

    fn take(outbox: &Outbox, connection: u64) -> Option<PeerFrame> {
        outbox.take(connection, FRAME).now_or_never().flatten()
    }

    #[test]
    fn whatever_waits_leaves_together_in_order() {
        let outbox = Outbox::new(1 << 20);
        let connection = outbox.connect();
        for term in 1..=10 {
            assert_eq!(outbox.put(step_down(term)), Refused::default());
        }
        let _ = outbox.put(reply(1));
        let frame = take(&outbox, connection).unwrap();
        assert_eq!(terms(&frame), (1..=10).collect::<Vec<_>>());
        assert_eq!(frame.replies.len(), 1);
        assert_eq!(take(&outbox, connection), None);
    }

    #[test]
    fn a_full_outbox_drops_messages_and_refuses_forwards_but_takes_the_newest_heartbeat() {
        let outbox = Outbox::new(FRAME);
        let connection = outbox.connect();
        let mut refused = Refused::default();
        for term in 0..100 {
            refused.dropped += outbox.put(step_down(term)).dropped;
        }
        assert_eq!(refused.dropped, 100 - 16);
        assert_eq!(outbox.put(forward(7, 1)).unsent, [7]);
        for sent_ms in 0..10 {
            assert_eq!(outbox.put(beat(sent_ms)), Refused::default());
        }
        let frame = take(&outbox, connection).unwrap();
        assert_eq!(frame.heartbeat.map(|heartbeat| heartbeat.sent_ms), Some(9));
        assert_eq!(terms(&frame), (0..16).collect::<Vec<_>>());
        assert_eq!(outbox.put(step_down(1)), Refused::default(), "there is room again");
    }

    #[test]
    fn frames_are_bounded_unless_one_message_is_longer() {
        let outbox = Outbox::new(1 << 20);
        let connection = outbox.connect();
        let _ = outbox.put(append(1, 10_000));
        for index in 2..100 {
            let _ = outbox.put(append(index, 100));
        }
        let first = take(&outbox, connection).unwrap();
        assert_eq!(first.messages.len(), 1, "the long one alone");
        let mut got = 1;
        while let Some(frame) = take(&outbox, connection) {
            assert!(frame.cost() <= FRAME);
            got += frame.messages.len();
        }
        assert_eq!(got, 99);
    }

    #[test]
    fn neither_long_forwards_nor_long_messages_starve() {
        let outbox = Outbox::new(1 << 20);
        let connection = outbox.connect();
        let _ = outbox.put(forward(1, 3 * FRAME));
        let _ = outbox.put(append(1, 3 * FRAME));
        let mut got = (0, 0);
        for _ in 0..4 {
            let _ = outbox.put(append(2, 900));
            let _ = outbox.put(forward(2, 900));
            let frame = take(&outbox, connection).unwrap();
            got = (got.0 + frame.messages.len(), got.1 + frame.forwards.len());
        }
        assert!(2 <= got.0 && 2 <= got.1, "{got:?}");
    }

    #[test]
    fn without_a_connection_the_newest_messages_wait_and_forwards_do_not() {
        let outbox = Outbox::new(64 << 20);
        assert_eq!(outbox.put(forward(3, 1)).unsent, [3]);
        let dropped: u64 = (0..10_000).map(|term| outbox.put(step_down(term)).dropped).sum();
        let kept = (UNCONNECTED_BYTES / 64) as u64;
        assert_eq!(dropped, 10_000 - kept);
        let connection = outbox.connect();
        let first = take(&outbox, connection).unwrap();
        assert_eq!(terms(&first).first(), Some(&(10_000 - kept)));
    }

    #[test]
    fn a_lost_connection_names_the_forwards_that_never_left() {
        let outbox = Outbox::new(1 << 20);
        let connection = outbox.connect();
        let _ = outbox.put(forward(1, 10));
        assert!(take(&outbox, connection).is_some());
        let _ = outbox.put(forward(2, 10));
        let _ = outbox.put(forward(3, 10));
        let (was_connected, lost) = outbox.disconnect();
        assert!(was_connected);
        assert_eq!(lost.unsent, [2, 3]);
        assert!(!outbox.disconnect().0);
        assert_eq!(outbox.lock().bytes, 0);
    }

    #[test]
    fn an_ended_connection_takes_nothing_from_its_successor() {
        let outbox = Outbox::new(1 << 20);
        let old = outbox.connect();
        let waiting = outbox.take(old, FRAME);
        let mut waiting = std::pin::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        outbox.disconnect();
        let new = outbox.connect();
        let _ = outbox.put(step_down(1));
        assert_eq!(waiting.now_or_never(), Some(None));
        let mut next = std::pin::pin!(outbox.take(new, FRAME));
        assert_eq!(terms(&next.as_mut().now_or_never().flatten().unwrap()), [1]);
    }

    #[test]
    fn a_message_that_no_frame_can_hold_is_dropped_and_said_so() {
        let outbox = Outbox::new(usize::MAX / 2);
        outbox.connect();
        let refused = outbox.put(append(1, FRAME_MAX));
        assert_eq!((refused.dropped, refused.too_long), (1, 1));
        assert_eq!(outbox.put(forward(9, FRAME_MAX)).unsent, [9]);
    }
}
