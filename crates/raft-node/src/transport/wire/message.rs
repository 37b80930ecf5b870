//! Consensus messages, to the wire and back.

use std::sync::Arc;

use bytes::Bytes;
use consensus::{
    Append, AppendOutcome, AppendReply, Confirm, Entry, EntryKind, GroupId, Heartbeat, Index,
    Membership, Message, ReadIndex, ReadIndexReply, SnapshotMeta, SnapshotOffer, StepDown, Term,
    TimeoutNow, Vote, VoteReply,
};

use super::schema::{self, Body};
use super::{DecodeError, NUMBER_MAX, Unknown};

impl From<Heartbeat> for schema::Heartbeat {
    fn from(heartbeat: Heartbeat) -> Self {
        let Heartbeat { epoch, sent_ms, echo_epoch, echo_ms } = heartbeat;
        Self { epoch, sent_ms, echo_epoch, echo_ms }
    }
}

impl From<schema::Heartbeat> for Heartbeat {
    fn from(heartbeat: schema::Heartbeat) -> Self {
        let schema::Heartbeat { epoch, sent_ms, echo_epoch, echo_ms } = heartbeat;
        Self { epoch, sent_ms, echo_epoch, echo_ms }
    }
}

pub(super) fn encode(group: GroupId, message: &Message) -> schema::Envelope {
    let body = match message {
        Message::Vote(vote) => Body::Vote(encode_vote(vote)),
        Message::VoteReply(VoteReply { term, pre, granted }) => {
            Body::VoteReply(schema::VoteReply { term: term.0, pre: *pre, granted: *granted })
        }
        Message::Append(append) => Body::Append(encode_append(append)),
        Message::AppendReply(reply) => Body::AppendReply(encode_append_reply(reply)),
        Message::Snapshot(offer) => Body::Snapshot(encode_offer(offer)),
        Message::Confirm(confirm) => Body::Confirm(encode_confirm(confirm)),
        Message::ConfirmReply(confirm) => Body::ConfirmReply(encode_confirm(confirm)),
        Message::ReadIndex(ReadIndex { term, batch }) => {
            Body::ReadIndex(schema::ReadIndex { term: term.0, batch: *batch })
        }
        Message::ReadIndexReply(ReadIndexReply { term, batch, index }) => {
            let (term, batch, index) = (term.0, *batch, index.0);
            Body::ReadIndexReply(schema::ReadIndexReply { term, batch, index })
        }
        Message::TimeoutNow(TimeoutNow { term, last_index, last_term }) => {
            let (term, last_index, last_term) = (term.0, last_index.0, last_term.0);
            Body::TimeoutNow(schema::TimeoutNow { term, last_index, last_term })
        }
        Message::StepDown(StepDown { term }) => Body::StepDown(schema::StepDown { term: term.0 }),
    };
    schema::Envelope { group: group.0, body: Some(body) }
}

fn encode_vote(vote: &Vote) -> schema::Vote {
    schema::Vote {
        term: vote.term.0,
        last_index: vote.last_index.0,
        last_term: vote.last_term.0,
        pre: vote.pre,
        transfer: vote.transfer,
    }
}

fn encode_append(append: &Append) -> schema::Append {
    schema::Append {
        term: append.term.0,
        prev_index: append.prev_index.0,
        prev_term: append.prev_term.0,
        commit: append.commit.0,
        entries: append.entries.iter().map(encode_entry).collect(),
    }
}

fn encode_entry(entry: &Entry) -> schema::Entry {
    schema::Entry {
        term: entry.term.0,
        index: entry.index.0,
        kind: u32::from(entry.kind as u8),
        payload: entry.payload.clone(),
        crc: crc32c::crc32c(&entry.payload),
    }
}

fn encode_append_reply(reply: &AppendReply) -> schema::AppendReply {
    let outcome = match reply.outcome {
        AppendOutcome::Matched(index) => schema::AppendOutcome::Matched(index.0),
        AppendOutcome::Rejected { prev_index, hint_index, hint_term } => {
            schema::AppendOutcome::Rejected(schema::Rejected {
                prev_index: prev_index.0,
                hint_index: hint_index.0,
                hint_term: hint_term.0,
            })
        }
    };
    schema::AppendReply { term: reply.term.0, commit: reply.commit.0, outcome: Some(outcome) }
}

fn encode_offer(offer: &SnapshotOffer) -> schema::SnapshotOffer {
    schema::SnapshotOffer {
        term: offer.term.0,
        snapshot_index: offer.snapshot.index.0,
        snapshot_term: offer.snapshot.term.0,
        membership: offer.snapshot.membership.encode(),
    }
}

fn encode_confirm(confirm: &Confirm) -> schema::Confirm {
    schema::Confirm { term: confirm.term.0, round: confirm.round }
}

/// The message, or why there is none: an error ends the stream, an [`Unknown`] is skipped.
pub(super) fn decode(
    envelope: schema::Envelope,
) -> Result<Result<(GroupId, Message), Unknown>, DecodeError> {
    let group = GroupId(envelope.group);
    let Some(body) = envelope.body else { return Ok(Err(Unknown::Message)) };
    let message = match body {
        Body::Vote(vote) => Message::Vote(decode_vote(&vote)),
        Body::VoteReply(schema::VoteReply { term, pre, granted }) => {
            Message::VoteReply(VoteReply { term: Term(term), pre, granted })
        }
        Body::Append(append) => match decode_append(group, append)? {
            Ok(append) => Message::Append(append),
            Err(unknown) => return Ok(Err(unknown)),
        },
        Body::AppendReply(reply) => match decode_append_reply(&reply) {
            Some(reply) => Message::AppendReply(reply),
            None => return Ok(Err(Unknown::Message)),
        },
        Body::Snapshot(offer) => Message::Snapshot(decode_offer(group, &offer)?),
        Body::Confirm(confirm) => Message::Confirm(decode_confirm(confirm)),
        Body::ConfirmReply(confirm) => Message::ConfirmReply(decode_confirm(confirm)),
        Body::ReadIndex(schema::ReadIndex { term, batch }) => {
            Message::ReadIndex(ReadIndex { term: Term(term), batch })
        }
        Body::ReadIndexReply(schema::ReadIndexReply { term, batch, index }) => {
            let (term, index) = (Term(term), Index(index));
            Message::ReadIndexReply(ReadIndexReply { term, batch, index })
        }
        Body::TimeoutNow(schema::TimeoutNow { term, last_index, last_term }) => {
            let (term, last_index, last_term) = (Term(term), Index(last_index), Term(last_term));
            Message::TimeoutNow(TimeoutNow { term, last_index, last_term })
        }
        Body::StepDown(schema::StepDown { term }) => {
            Message::StepDown(StepDown { term: Term(term) })
        }
    };
    match is_possible(&message) {
        true => Ok(Ok((group, message))),
        false => Err(DecodeError::Position { group }),
    }
}

/// No term or index comes close to where counting on would overflow, and entries follow each
/// other.
fn is_possible(message: &Message) -> bool {
    let numbers: &[u64] = match message {
        Message::Vote(vote) => &[vote.last_index.0, vote.last_term.0],
        Message::Append(append) => {
            let Append { prev_index, prev_term, commit, entries, .. } = append;
            let follows =
                |(at, entry): (u64, &Entry)| prev_index.0.checked_add(at) == Some(entry.index.0);
            let in_order = (1..).zip(entries).all(follows);
            let terms = entries.iter().all(|entry| entry.term.0 <= NUMBER_MAX);
            if !in_order || !terms {
                return false;
            }
            &[prev_index.0, prev_term.0, commit.0]
        }
        Message::AppendReply(reply) => match &reply.outcome {
            AppendOutcome::Matched(index) => &[index.0, reply.commit.0],
            AppendOutcome::Rejected { prev_index, hint_index, hint_term } => {
                &[prev_index.0, hint_index.0, hint_term.0, reply.commit.0]
            }
        },
        Message::Snapshot(offer) => &[offer.snapshot.index.0, offer.snapshot.term.0],
        Message::ReadIndexReply(reply) => &[reply.index.0],
        Message::TimeoutNow(now) => &[now.last_index.0, now.last_term.0],
        Message::VoteReply(_)
        | Message::Confirm(_)
        | Message::ConfirmReply(_)
        | Message::ReadIndex(_)
        | Message::StepDown(_) => &[],
    };
    message.term().0 <= NUMBER_MAX && numbers.iter().all(|number| *number <= NUMBER_MAX)
}

fn decode_vote(vote: &schema::Vote) -> Vote {
    Vote {
        term: Term(vote.term),
        last_index: Index(vote.last_index),
        last_term: Term(vote.last_term),
        pre: vote.pre,
        transfer: vote.transfer,
    }
}

fn decode_append(
    group: GroupId,
    append: schema::Append,
) -> Result<Result<Append, Unknown>, DecodeError> {
    let mut entries = Vec::with_capacity(append.entries.len());
    for entry in append.entries {
        match decode_entry(group, entry)? {
            Ok(entry) => entries.push(entry),
            // An entry cannot be left out: the whole message is.
            Err(unknown) => return Ok(Err(unknown)),
        }
    }
    Ok(Ok(Append {
        term: Term(append.term),
        prev_index: Index(append.prev_index),
        prev_term: Term(append.prev_term),
        commit: Index(append.commit),
        entries,
    }))
}

fn decode_entry(
    group: GroupId,
    entry: schema::Entry,
) -> Result<Result<Entry, Unknown>, DecodeError> {
    let (term, index) = (Term(entry.term), Index(entry.index));
    if crc32c::crc32c(&entry.payload) != entry.crc {
        return Err(DecodeError::Entry { group, term, index });
    }
    let kind = u8::try_from(entry.kind).ok().and_then(EntryKind::from_number);
    let Some(kind) = kind else { return Ok(Err(Unknown::EntryKind(entry.kind))) };
    Ok(Ok(Entry { term, index, kind, payload: entry.payload }))
}

fn decode_append_reply(reply: &schema::AppendReply) -> Option<AppendReply> {
    let outcome = match reply.outcome? {
        schema::AppendOutcome::Matched(index) => AppendOutcome::Matched(Index(index)),
        schema::AppendOutcome::Rejected(rejected) => AppendOutcome::Rejected {
            prev_index: Index(rejected.prev_index),
            hint_index: Index(rejected.hint_index),
            hint_term: Term(rejected.hint_term),
        },
    };
    Some(AppendReply { term: Term(reply.term), outcome, commit: Index(reply.commit) })
}

fn decode_offer(
    group: GroupId,
    offer: &schema::SnapshotOffer,
) -> Result<SnapshotOffer, DecodeError> {
    let membership =
        Membership::decode(&offer.membership).ok_or(DecodeError::Membership { group })?;
    let snapshot = SnapshotMeta {
        index: Index(offer.snapshot_index),
        term: Term(offer.snapshot_term),
        membership: Arc::new(membership),
    };
    Ok(SnapshotOffer { term: Term(offer.term), snapshot })
}

fn decode_confirm(confirm: schema::Confirm) -> Confirm {
    Confirm { term: Term(confirm.term), round: confirm.round }
}

/// Takes the payload out of the frame's memory, unless it is most of it: else one small entry that
/// stays in a cache would keep its whole frame.
pub(super) fn detach(payload: &mut Bytes, frame_len: usize) {
    const SHARED_MIN: usize = 64 * 1024;
    if payload.len() < SHARED_MIN || payload.len() < frame_len / 4 {
        *payload = Bytes::copy_from_slice(payload);
    }
}
