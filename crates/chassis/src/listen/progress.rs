//! Where a connection stands: what its socket, its service and its timer tell each other.
//!
//! All three run in the connection's task, so these are notes rather than synchronization. They
//! hold no time: the timer counts its own ticks, and a request costs no look at a clock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};

/// Between which of its messages an HTTP/1 connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Nothing has arrived yet.
    Opened,
    /// Some bytes of a request's head have arrived.
    Head,
    /// A request was handed to the service, and its answer is not written yet.
    Answering,
    /// The answer is in hyper's hands, not yet on the wire as a whole.
    Answered,
    /// The answer is on the wire; the next request may come.
    Idle,
    /// HTTP/2 or a tunnel: what passes is not ours to read.
    Free,
}

impl Stage {
    const ALL: [Self; 6] =
        [Self::Opened, Self::Head, Self::Answering, Self::Answered, Self::Idle, Self::Free];
}

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stage: AtomicU8,
    moved: AtomicBool,
    late: AtomicBool,
    lingers: AtomicBool,
    requests: AtomicUsize,
}

impl Progress {
    pub(super) fn stage(&self) -> Stage {
        Stage::ALL[usize::from(self.stage.load(Relaxed))]
    }

    fn enter(&self, stage: Stage) {
        if self.stage() != Stage::Free {
            self.stage.store(stage as u8, Relaxed);
        }
    }

    /// Whether no request is being answered: whatever is written now, the service did not say it.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.stage(), Stage::Opened | Stage::Head | Stage::Idle)
    }

    /// Bytes have come in.
    pub(super) fn read(&self) {
        self.moved.store(true, Relaxed);
        if self.is_between_requests() {
            self.enter(Stage::Head);
        }
    }

    /// Bytes have gone out.
    pub(super) fn wrote(&self) {
        self.moved.store(true, Relaxed);
    }

    /// Everything that hyper had to write has gone out.
    pub(super) fn flushed(&self) {
        if self.stage() == Stage::Answered {
            self.enter(Stage::Idle);
        }
    }

    /// The head of a request is complete.
    pub(super) fn answering(&self) {
        self.enter(Stage::Answering);
    }

    /// hyper has taken the last of an answer.
    pub(super) fn answered(&self) {
        self.enter(Stage::Answered);
    }

    /// From here on it is no HTTP/1 connection.
    pub(super) fn set_free(&self) {
        self.stage.store(Stage::Free as u8, Relaxed);
    }

    /// Counts a request until its answer begins.
    pub(super) fn begin(&self) -> InProgress<'_> {
        self.requests.fetch_add(1, Relaxed);
        InProgress(&self.requests)
    }

    /// What follows of an answer that has begun is still to come from the service.
    pub(super) fn await_service(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// It has come, or nobody waits for it any more.
    pub(super) fn served(&self) {
        self.requests.fetch_sub(1, Relaxed);
    }

    /// Whether an answer is being made.
    pub(super) fn is_busy(&self) -> bool {
        0 < self.requests.load(Relaxed)
    }

    /// Whether bytes have moved since this was last asked.
    pub(super) fn take_moved(&self) -> bool {
        self.moved.swap(false, Relaxed)
    }

    /// The head of the request was waited for long enough.
    pub(super) fn set_late(&self) {
        self.late.store(true, Relaxed);
    }

    pub(super) fn is_late(&self) -> bool {
        self.late.load(Relaxed)
    }

    /// The peer may still be sending when the connection is closed.
    pub(super) fn linger(&self) {
        self.lingers.store(true, Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.lingers.load(Relaxed)
    }
}

/// A request whose answer has not begun.
pub(super) struct InProgress<'a>(&'a AtomicUsize);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What the timer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// The head of a request took too long.
    HeadLate,
    /// Nothing has happened for too long.
    Silent,
}

/// Counts ticks of a connection's timer. A limit of n ticks is reached when n whole ones passed.
#[derive(Debug)]
pub(super) struct Patience {
    pub(super) head_ticks: u32,
    pub(super) idle_ticks: u32,
    head: u32,
    silent: u32,
}

impl Patience {
    pub(super) fn new(head_ticks: u32, idle_ticks: u32) -> Self {
        Self { head_ticks, idle_ticks, head: 0, silent: 0 }
    }

    /// One tick is over.
    pub(super) fn tick(&mut self, progress: &Progress) -> Verdict {
        let awaits_head = matches!(progress.stage(), Stage::Opened | Stage::Head);
        self.head = if awaits_head { self.head + 1 } else { 0 };
        let silent = !progress.take_moved() && !progress.is_busy();
        self.silent = if silent { self.silent + 1 } else { 0 };
        // The first tick was not whole: what is counted began within it.
        if self.head_ticks < self.head {
            return Verdict::HeadLate;
        }
        if self.idle_ticks < self.silent { Verdict::Silent } else { Verdict::Fine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_its_time_however_slowly_it_drips_and_an_answer_is_waited_for() {
        let (progress, mut patience) = (Progress::default(), Patience::new(4, 8));
        let ticks = |patience: &mut Patience, read: bool| {
            (1..100).find(|_| {
                if read {
                    progress.read();
                }
                patience.tick(&progress) != Verdict::Fine
            })
        };
        assert_eq!(ticks(&mut patience, true), Some(5));
        progress.answering();
        let answer = progress.begin();
        assert_eq!(ticks(&mut patience, false), None);
        drop(answer);
        progress.answered();
        progress.flushed();
        assert_eq!(ticks(&mut patience, false), Some(9));
    }

    #[test]
    fn a_quiet_stream_is_no_idle_connection() {
        let (progress, mut patience) = (Progress::default(), Patience::new(4, 8));
        progress.answering();
        progress.await_service();
        assert!((1..100).all(|_| patience.tick(&progress) == Verdict::Fine));
        progress.served();
        assert_eq!((1..100).find(|_| patience.tick(&progress) != Verdict::Fine), Some(9));
    }

    #[test]
    fn a_tunnel_stays_one() {
        let progress = Progress::default();
        progress.set_free();
        progress.read();
        progress.answering();
        assert_eq!(progress.stage(), Stage::Free);
        assert!(!progress.is_between_requests());
    }
}
