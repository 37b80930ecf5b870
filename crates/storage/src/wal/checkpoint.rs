//! The payloads of control records: operations, and the checkpoint at the head of each segment.

use std::collections::BTreeMap;

use consensus::{GroupId, HardState, Index, NodeId, Term};

use super::codec::{Decoder, Encoder};
use super::format::{Kind, RecordHeader};
use super::ranges::Ranges;
use super::state::{Group, Install, Op, Segment, State};
use crate::error::Fault;

/// Everything that a reader has to know before the first batch of a segment.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) segments: Vec<Listed>,
}

/// A segment as the checkpoint lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) number: u64,
    pub(crate) cold: bool,
    /// Behind its last record.
    pub(crate) end: u64,
}

/// Encodes the state as a checkpoint. The segment being written is listed with its end so far.
pub(crate) fn encode(state: &State) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let segments: Vec<(&u64, &Segment)> = state.segments.iter().collect();
    encoder.list(&segments, |encoder, (number, segment)| {
        encoder.number(**number);
        encoder.flag(segment.cold);
        encoder.number(segment.end);
    });
    let groups: Vec<(&GroupId, &Group)> = state.groups.iter().collect();
    encoder.list(&groups, |encoder, (id, group)| {
        encoder.number(id.0);
        encode_group(encoder, group);
    });
    encoder.into_bytes()
}

/// What is special about a group.
const HAS_FAULT: u64 = 1;
const IS_FILLING: u64 = 2;

fn encode_group(encoder: &mut Encoder, group: &Group) {
    let HardState { term, commit, .. } = group.hard_state;
    encoder.number(term.0);
    encode_promise(encoder, &group.hard_state);
    encoder.number(commit.0);
    for number in [group.base, group.base_term, group.last, group.last_term] {
        encoder.number(number);
    }
    let has_fault = u64::from(group.fault.is_some());
    encoder.number(HAS_FAULT * has_fault + IS_FILLING * u64::from(group.filling));
    if let Some(fault) = &group.fault {
        encoder.text(&fault.file);
        encoder.number(fault.offset);
    }
    encoder.ranges(&group.retained);
    encoder.list(&group.runs, Encoder::run);
}

/// What follows in the bytes of a promise.
const HAS_VOTED: u64 = 1;
const HAS_FORGOTTEN: u64 = 2;

/// The vote, and what was forgotten, which is rare.
fn encode_promise(encoder: &mut Encoder, hard_state: &HardState) {
    let HardState { voted_for, forgotten: (term, index), .. } = *hard_state;
    let has_forgotten = (term, index) != Default::default();
    encoder.number(
        HAS_VOTED * u64::from(voted_for.is_some()) + HAS_FORGOTTEN * u64::from(has_forgotten),
    );
    encoder.number(voted_for.unwrap_or_default().0);
    if has_forgotten {
        encoder.number(term.0);
        encoder.number(index.0);
    }
}

fn decode_promise(decoder: &mut Decoder<'_>) -> Option<(Option<NodeId>, (Term, Index))> {
    let has = decoder.number()?;
    if HAS_VOTED + HAS_FORGOTTEN < has {
        return None;
    }
    let node = NodeId(decoder.number()?);
    let forgotten = match has & HAS_FORGOTTEN {
        0 => Default::default(),
        _ => (Term(decoder.number()?), Index(decoder.number()?)),
    };
    Some(((has & HAS_VOTED != 0).then_some(node), forgotten))
}

/// `None` if the payload is no checkpoint.
pub(crate) fn decode(payload: &[u8]) -> Option<Checkpoint> {
    let mut decoder = Decoder::new(payload);
    let segments = decoder.list(|decoder| {
        Some(Listed { number: decoder.number()?, cold: decoder.flag()?, end: decoder.number()? })
    })?;
    let groups =
        decoder.list(|decoder| Some((GroupId(decoder.number()?), decode_group(decoder)?)))?;
    decoder.is_empty().then(|| Checkpoint { groups: groups.into_iter().collect(), segments })
}

fn decode_group(decoder: &mut Decoder<'_>) -> Option<Group> {
    let term = Term(decoder.number()?);
    let (voted_for, forgotten) = decode_promise(decoder)?;
    let hard_state = HardState { term, voted_for, commit: Index(decoder.number()?), forgotten };
    let mut group = Group {
        hard_state,
        base: decoder.number()?,
        base_term: decoder.number()?,
        last: decoder.number()?,
        last_term: decoder.number()?,
        ..Group::default()
    };
    let has = decoder.number()?;
    if HAS_FAULT + IS_FILLING < has {
        return None;
    }
    group.filling = has & IS_FILLING != 0;
    if has & HAS_FAULT != 0 {
        group.fault = Some(Fault { file: decoder.text()?, offset: decoder.number()? });
    }
    group.retained = decoder.ranges()?;
    group.runs = decoder.list(Decoder::run)?;
    Some(group)
}

/// The record of an operation.
pub(crate) fn encode_op(op: &Op) -> (RecordHeader, Vec<u8>) {
    let mut encoder = Encoder::default();
    let header = match op {
        Op::HardState { group, hard_state } => {
            encode_promise(&mut encoder, hard_state);
            RecordHeader::new(Kind::HardState, group.0, hard_state.term.0, hard_state.commit.0)
        }
        Op::Truncate { group, from } => RecordHeader::new(Kind::Truncate, group.0, 0, *from),
        Op::Compact { group, through, keep } => {
            encoder.ranges(keep);
            RecordHeader::new(Kind::Compact, group.0, 0, *through)
        }
        Op::Reset { group, next, term, keep, filling } => {
            encoder.ranges(keep);
            encoder.flag(*filling);
            RecordHeader::new(Kind::Reset, group.0, *term, *next)
        }
        Op::Filled { group } => RecordHeader::new(Kind::Filled, group.0, 0, 0),
        Op::Remove { group } => RecordHeader::new(Kind::Remove, group.0, 0, 0),
        Op::Install(install) => {
            encoder.number(install.end);
            encoder.list(&install.sources, |encoder, number| encoder.number(*number));
            encoder.list(&install.groups, |encoder, (group, runs)| {
                encoder.number(group.0);
                encoder.list(runs, Encoder::run);
            });
            RecordHeader::new(Kind::Install, 0, 0, install.cold)
        }
    };
    (header, encoder.into_bytes())
}

/// The operation of a record, or `None` if it is none.
pub(crate) fn decode_op(header: &RecordHeader, payload: &[u8]) -> Option<Op> {
    let mut decoder = Decoder::new(payload);
    let group = GroupId(header.group);
    Some(match header.kind {
        Kind::HardState => {
            let (voted_for, forgotten) = decode_promise(&mut decoder)?;
            let (term, commit) = (Term(header.term), Index(header.index));
            let hard_state = HardState { term, voted_for, commit, forgotten };
            Op::HardState { group, hard_state }
        }
        Kind::Truncate => Op::Truncate { group, from: header.index },
        Kind::Compact => Op::Compact { group, through: header.index, keep: decoder.ranges()? },
        Kind::Reset => {
            let (next, term) = (header.index, header.term);
            let (keep, filling) = match decoder.is_empty() {
                true => (Ranges::default(), false),
                false => (decoder.ranges()?, decoder.flag()?),
            };
            Op::Reset { group, next, term, keep, filling }
        }
        Kind::Filled => Op::Filled { group },
        Kind::Remove => Op::Remove { group },
        Kind::Install => Op::Install(Install {
            cold: header.index,
            end: decoder.number()?,
            sources: decoder.list(Decoder::number)?,
            groups: decoder
                .list(|decoder| Some((GroupId(decoder.number()?), decoder.list(Decoder::run)?)))?,
        }),
        Kind::Entry | Kind::Commit | Kind::Checkpoint | Kind::Footer => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::ranges::Span;
    use super::super::runs::Run;
    use super::*;

    #[test]
    fn every_operation_survives_its_encoding() {
        let group = GroupId(7);
        let forgotten = (Term(2), Index(300));
        let hard_state =
            HardState { term: Term(3), voted_for: Some(NodeId(2)), commit: Index(9), forgotten };
        let keep = Ranges::from_spans(vec![Span::new(2, 4), Span::new(90, 90)]);
        let runs = vec![Run { entries: 3, bytes: 200, ..Run::new(3, 8, 2) }];
        let install =
            Install { cold: 8, end: 4096, sources: vec![1, 2], groups: vec![(group, runs)] };
        for op in [
            Op::HardState { group, hard_state },
            Op::Truncate { group, from: 5 },
            Op::Compact { group, through: 100, keep: keep.clone() },
            Op::Reset { group, next: 12, term: 4, keep, filling: true },
            Op::Reset { group, next: 1, term: 0, keep: Ranges::default(), filling: false },
            Op::Filled { group },
            Op::Remove { group },
            Op::Install(install),
        ] {
            let (header, payload) = encode_op(&op);
            assert_eq!(decode_op(&header, &payload), Some(op));
        }
    }
}
