//! What others may see of the driver: figures, and spans of commands that are traced.
//!
//! A traced command shows the time until it was durable on each member: the leader marks the entry
//! in the frame that carries it, and each member makes a span of its own. Marks may be lost, and
//! nothing depends on them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use consensus::{AppendOutcome, GroupId, Index, Message, NodeId, Term};
use telemetry::trace::{ActiveSpan, Span, TraceContext};
use tokio::time::{Duration, Instant};

use super::Driver;
use crate::metrics::Metrics;
use crate::transport::Mark;

/// Entries that are watched at a time. Others are not traced.
const MARKS_MAX: usize = 64;
/// A sample that is not answered for so long was lost on the way.
const SAMPLE_LIFE: Duration = Duration::from_secs(10);
/// A timer that is later than this is a stall: some of them together are an election.
const LATE: Duration = Duration::from_millis(200);
/// Between two warnings about stalls.
const WARN_PERIOD: Duration = Duration::from_secs(10);
/// How often the peers' lag is looked at.
const LAG_PERIOD: Duration = Duration::from_secs(2);

pub(super) struct Observed {
    pub(super) metrics: Metrics,
    term: Term,
    /// The one append to each peer whose answer is timed.
    samples: BTreeMap<NodeId, Sample>,
    /// Traced entries that are not durable here yet.
    marks: VecDeque<(GroupId, Index, ActiveSpan)>,
    lag_at: Option<Instant>,
    stall_warned_at: Option<Instant>,
    /// Whose lag is shown: of a peer that this node leads nothing for, it knows none.
    lagging: BTreeSet<NodeId>,
}

struct Sample {
    group: GroupId,
    index: Index,
    since: Instant,
}

impl Observed {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            term: Term::default(),
            samples: BTreeMap::new(),
            marks: VecDeque::new(),
            lag_at: None,
            stall_warned_at: None,
            lagging: BTreeSet::new(),
        }
    }

    pub(super) fn note_leader(&mut self, term: Term, is_new: bool) {
        if is_new {
            self.metrics.leader_changes.inc();
        }
        self.term = self.term.max(term);
        self.metrics.term.set_count(self.term.0);
    }

    /// The driver was to look at its timers at `due`, and does so `now`. Other nodes take one that is
    /// late again and again for dead, and its own log would say nothing of it.
    pub(super) fn note_woken(&mut self, due: Instant, now: Instant) {
        let late = now.saturating_duration_since(due);
        if late < LATE {
            return;
        }
        self.metrics.stalls.inc();
        if self.stall_warned_at.is_none_or(|at| at + WARN_PERIOD < now) {
            self.stall_warned_at = Some(now);
            tracing::warn!(
                late_ms = late.as_millis() as u64,
                "this node was held up: it gets too little CPU, or was paused; leaders are lost so"
            );
        }
    }

    /// Something is sent to a peer.
    pub(super) fn note_sent(&mut self, to: NodeId, group: GroupId, message: &Message) {
        let Message::Append(append) = message else { return };
        let Some(last) = append.entries.last() else { return };
        let since = Instant::now();
        let is_free = self.samples.get(&to).is_none_or(|sample| sample.since + SAMPLE_LIFE < since);
        if is_free {
            self.samples.insert(to, Sample { group, index: last.index, since });
        }
    }

    /// A peer has said something.
    pub(super) fn note_received(&mut self, from: NodeId, group: GroupId, message: &Message) {
        let Message::AppendReply(reply) = message else { return };
        let AppendOutcome::Matched(matched) = reply.outcome else { return };
        let answers = |sample: &Sample| sample.group == group && sample.index <= matched;
        if self.samples.get(&from).is_some_and(answers)
            && let Some(sample) = self.samples.remove(&from)
        {
            let histogram = self.metrics.append_seconds.with(&[&from.to_string()]);
            histogram.observe(sample.since.elapsed().as_secs_f64());
        }
    }

    /// Begins the span of an entry, if its trace is recorded.
    pub(super) fn mark(&mut self, mark: &Mark) {
        let span = Span::internal("persist").parent(mark.trace);
        if MARKS_MAX <= self.marks.len() || !span.is_recorded() {
            return;
        }
        let span = span
            .attr("quartet.group", mark.group.0.to_string())
            .attr("quartet.index", mark.index.0.to_string())
            .start();
        self.marks.push_back((mark.group, mark.index, span));
    }

    /// Ends the spans of what is durable.
    fn note_durable(&mut self, group: GroupId, last: Index) {
        self.marks.retain(|(of, index, _)| *of != group || last < *index);
    }
}

impl Driver {
    /// A traced command has its place: this node and the other members show when they have it.
    pub(super) fn trace(&mut self, group: GroupId, index: Index, trace: TraceContext) {
        let mark = Mark { group, index, trace };
        self.observed.mark(&mark);
        let me = self.multi.node();
        let Some(raft) = self.multi.group(group) else { return };
        for peer in raft.membership().members().iter().filter(|node| **node != me) {
            self.frame_for(*peer).marks.push(mark);
        }
    }

    pub(super) fn end_marks(&mut self, group: GroupId) {
        if self.observed.marks.is_empty() {
            return;
        }
        if let Some(state) = self.disk.wal().group(group) {
            self.observed.note_durable(group, state.last);
        }
    }

    /// Figures that are looked at rather than counted.
    pub(super) fn look(&mut self, now: Instant) {
        if self.observed.lag_at.is_some_and(|at| now < at) {
            return;
        }
        self.observed.lag_at = Some(now + LAG_PERIOD);
        let (mut led, mut lags) = (0, BTreeMap::<NodeId, u64>::new());
        for group in self.leadership.keys() {
            let Some(raft) = self.multi.group(*group).filter(|raft| raft.is_leader()) else {
                continue;
            };
            led += 1;
            for (node, lag) in raft.lags() {
                *lags.entry(node).or_default() += lag;
            }
        }
        let metrics = &self.observed.metrics;
        metrics.groups.set_count(self.leadership.len() as u64);
        metrics.groups_led.set_count(led);
        for (node, lag) in &lags {
            metrics.lag_entries.with(&[&node.to_string()]).set_count(*lag);
        }
        let lagging = lags.into_keys().collect();
        for gone in self.observed.lagging.difference(&lagging) {
            metrics.lag_entries.remove(&[&gone.to_string()]);
        }
        self.observed.lagging = lagging;
    }
}

#[cfg(test)]
mod tests {
    use telemetry::metrics::{Format, Registry};

    use super::*;

    #[test]
    fn who_comes_late_is_counted() {
        let registry = Registry::default();
        let mut observed = Observed::new(Metrics::new(&registry));
        let due = Instant::now();
        for late in [Duration::ZERO, LATE / 2, LATE, 5 * LATE] {
            observed.note_woken(due, due + late);
        }
        observed.note_woken(due + LATE, due);
        let metrics = registry.encode(Format::Prometheus);
        assert!(metrics.contains("raft_stalls_total 2\n"), "{metrics}");
    }
}
