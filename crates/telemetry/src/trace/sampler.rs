//! Who decides whether a trace is recorded: the caller if there is one, else a share of new traces.

use std::fmt;

use super::{TraceContext, TraceId};

/// `OTEL_TRACES_SAMPLER` with its argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Follow the caller's decision where there is a caller.
    pub parent_based: bool,
    /// Share of the other traces that are recorded, 0 to 1.
    pub ratio: f64,
}

impl Sampler {
    /// Reads the standard's names. `None`: not one that we have.
    #[must_use]
    pub fn parse(name: &str, argument: f64) -> Option<Self> {
        let (parent_based, ratio) = match name {
            "always_on" => (false, 1.0),
            "always_off" => (false, 0.0),
            "traceidratio" => (false, argument),
            "parentbased_always_on" => (true, 1.0),
            "parentbased_always_off" => (true, 0.0),
            "parentbased_traceidratio" => (true, argument),
            _ => return None,
        };
        Some(Self { parent_based, ratio })
    }

    /// Decides before anything is allocated for the span.
    #[must_use]
    pub fn decide(self, parent: Option<TraceContext>, trace_id: TraceId) -> bool {
        match parent {
            Some(parent) if self.parent_based => parent.sampled,
            _ => self.takes(trace_id),
        }
    }

    /// By the id's last 63 bits, so that every service decides alike.
    fn takes(self, trace_id: TraceId) -> bool {
        let low = trace_id.0.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes)) >> 1;
        1.0 <= self.ratio || (low as f64) < self.ratio.max(0.0) * (1_u64 << 63) as f64
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.parent_based { "parentbased_" } else { "" };
        write!(f, "{prefix}traceidratio={}", self.ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_decides_for_the_whole_trace() {
        let sampler = Sampler { parent_based: true, ratio: 0.0 };
        let sampled = TraceContext { sampled: true, ..TraceContext::random() };
        assert!(sampler.decide(Some(sampled), sampled.trace_id));
        assert!(!sampler.decide(None, sampled.trace_id));
        let sampler = Sampler { parent_based: true, ratio: 1.0 };
        let unsampled = TraceContext::random();
        assert!(!sampler.decide(Some(unsampled), unsampled.trace_id));
        assert!(sampler.decide(None, unsampled.trace_id));
    }

    #[test]
    fn a_ratio_takes_about_its_share() {
        let sampler = Sampler { parent_based: false, ratio: 0.25 };
        let step = u64::MAX / 1000;
        let ids = (0..1000_u64).map(|i| TraceId(u128::from(i * step).to_be_bytes()));
        let taken = ids.filter(|id| sampler.decide(None, *id)).count();
        assert!((249..=251).contains(&taken), "{taken}");
    }
}
