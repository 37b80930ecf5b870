use std::sync::Arc;

use consensus::{
    Append, AppendOutcome, AppendReply, Confirm, Entry, EntryKind, Heartbeat, Membership, Message,
    ReadIndex, ReadIndexReply, SnapshotMeta, SnapshotOffer, StepDown, TimeoutNow, Vote, VoteReply,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::frame::{Forward, ForwardOutcome, ForwardReply, Mark};
use super::*;

fn encoded(frame: &PeerFrame) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(frame, &mut bytes);
    bytes
}

fn decode_one(bytes: &[u8]) -> Result<Option<Received>, DecodeError> {
    let mut decoder = Decoder::new(FRAME_MAX);
    decoder.extend(bytes);
    decoder.next()
}

/// A frame of these protobuf bytes.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(crc32c::crc32c(body).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The protobuf bytes of one message to group 5, after the checks that they come back.
fn golden(message: Message) -> String {
    let frame = PeerFrame { messages: vec![(GroupId(5), message)], ..PeerFrame::default() };
    golden_frame(&frame)
}

fn golden_frame(frame: &PeerFrame) -> String {
    let bytes = encoded(frame);
    let received = decode_one(&bytes).unwrap().expect("a whole frame");
    assert_eq!(received.frame, *frame);
    assert_eq!(framed(&bytes[HEADER..]), bytes);
    hex(&bytes[HEADER..])
}

const TERM: Term = Term(3);
const INDEX: Index = Index(300);

#[test]
fn votes_have_these_bytes() {
    let vote =
        Vote { term: TERM, last_index: INDEX, last_term: Term(2), pre: true, transfer: true };
    assert_eq!(golden(Message::Vote(vote)), "1a0f0805120b080310ac02180220012801");
    let reply = VoteReply { term: TERM, pre: true, granted: true };
    assert_eq!(golden(Message::VoteReply(reply)), "1a0a08051a06080310011801");
}

#[test]
fn appends_have_these_bytes() {
    let entry = |index, kind, payload: &'static [u8]| Entry {
        term: TERM,
        index: Index(index),
        kind,
        payload: Bytes::from_static(payload),
    };
    let entries = vec![entry(301, EntryKind::Command, b"abc"), entry(302, EntryKind::Blank, b"")];
    let append =
        Append { term: TERM, prev_index: INDEX, prev_term: Term(2), commit: Index(7), entries };
    assert_eq!(
        golden(Message::Append(append)),
        "1a2708052223080310ac02180220072a0f080310ad0222036162632db73f4b362a07080310ae021801"
    );
    let matched = AppendReply { term: TERM, outcome: AppendOutcome::Matched(INDEX), commit: INDEX };
    assert_eq!(golden(Message::AppendReply(matched)), "1a0c08052a08080310ac0218ac02");
    let outcome =
        AppendOutcome::Rejected { prev_index: INDEX, hint_index: Index(9), hint_term: Term(1) };
    let rejected = AppendReply { term: TERM, outcome, commit: Index(8) };
    assert_eq!(golden(Message::AppendReply(rejected)), "1a1108052a0d08031008220708ac0210091801");
}

#[test]
fn snapshots_and_reads_have_these_bytes() {
    let membership = Arc::new(Membership::of([(NodeId(1), Bytes::from_static(b"one"))]));
    let snapshot = SnapshotMeta { index: INDEX, term: Term(2), membership };
    let offer = SnapshotOffer { term: TERM, snapshot };
    assert_eq!(
        golden(Message::Snapshot(offer)),
        "1a1808053214080310ac021802220b01010100000101036f6e65"
    );
    let confirm = Confirm { term: TERM, round: 4 };
    assert_eq!(golden(Message::Confirm(confirm)), "1a0808053a0408031004");
    assert_eq!(golden(Message::ConfirmReply(confirm)), "1a080805420408031004");
    assert_eq!(
        golden(Message::ReadIndex(ReadIndex { term: TERM, batch: 0x0102 })),
        "1a0f08054a0b0803110201000000000000"
    );
    let reply = ReadIndexReply { term: TERM, batch: 0x0102, index: INDEX };
    assert_eq!(golden(Message::ReadIndexReply(reply)), "1a120805520e080311020100000000000018ac02");
}

#[test]
fn ends_of_leadership_have_these_bytes() {
    let timeout = TimeoutNow { term: TERM, last_index: INDEX, last_term: Term(2) };
    assert_eq!(golden(Message::TimeoutNow(timeout)), "1a0b08055a07080310ac021802");
    assert_eq!(golden(Message::StepDown(StepDown { term: TERM })), "1a06080562020803");
}

#[test]
fn heartbeats_and_forwards_have_these_bytes() {
    let heartbeat = Heartbeat { epoch: 1, sent_ms: 300, echo_epoch: 2, echo_ms: 200 };
    let frame = PeerFrame { heartbeat: Some(heartbeat), ..PeerFrame::default() };
    assert_eq!(golden_frame(&frame), "121809010000000000000010ac0219020000000000000020c801");
    let forward = Forward {
        id: 300,
        group: GroupId(5),
        command: Bytes::from_static(b"abc"),
        freeing: true,
        trace: Bytes::from_static(b"00-"),
    };
    let frame = PeerFrame { forwards: vec![forward], ..PeerFrame::default() };
    assert_eq!(golden_frame(&frame), "221108ac0210051a0361626320012a0330302d");
    let reply = |outcome| ForwardReply { id: 1, outcome };
    let replies = vec![
        reply(ForwardOutcome::Placed { term: TERM, index: INDEX }),
        reply(ForwardOutcome::NotLeader { leader: Some(NodeId(7)) }),
        reply(ForwardOutcome::NotLeader { leader: None }),
        reply(ForwardOutcome::Overloaded),
        reply(ForwardOutcome::DiskFull),
        reply(ForwardOutcome::TooLarge { max: 300 }),
        reply(ForwardOutcome::Stopped),
        reply(ForwardOutcome::Indeterminate),
    ];
    let frame = PeerFrame { replies, ..PeerFrame::default() };
    assert_eq!(
        golden_frame(&frame),
        "2a0908011001180320ac022a0d080110022907000000000000002a04080110022a04080110032a04080110042a070801100530ac022a04080110062a0408011007"
    );
}

#[test]
fn marks_come_back_and_a_trace_of_another_kind_is_skipped() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let mark = Mark { group: GroupId(5), index: INDEX, trace };
    let frame = PeerFrame { marks: vec![mark], ..PeerFrame::default() };
    let hex = golden_frame(&frame);
    assert!(hex.starts_with("323e080510ac021a37"), "{hex}");
    let other = schema::Mark { group: 5, index: 300, trace: "ff".to_owned() };
    assert_eq!(other.read(), None);
}

#[test]
fn a_hello_has_these_bytes() {
    let (from, to, url) = (NodeId(1), NodeId(2), "http://a:1".to_owned());
    let hello = Hello { version: 1, cluster: 0xc1, from, to, epoch: 0xe0, url };
    let bytes = hello.clone().encode();
    assert_eq!(
        hex(&bytes[HEADER..]),
        "0a32080111c10000000000000019010000000000000021020000000000000029e000000000000000320a687474703a2f2f613a31"
    );
    let received = decode_one(&bytes).unwrap().unwrap();
    assert_eq!(received.hello, Some(hello));
    assert!(bytes.len() < HELLO_MAX);
}

#[test]
fn a_keepalive_is_an_empty_frame() {
    let received = decode_one(&KEEPALIVE).unwrap().unwrap();
    assert!(received.hello.is_none() && received.frame.is_empty());
    assert_eq!(encoded(&PeerFrame::default()), KEEPALIVE[..]);
}

#[test]
fn fields_of_a_newer_release_are_skipped() {
    let vote = Message::VoteReply(VoteReply { term: TERM, pre: false, granted: true });
    let frame = PeerFrame { messages: vec![(GroupId(5), vote)], ..PeerFrame::default() };
    let mut body = encoded(&frame).split_off(HEADER).to_vec();
    // Field 100 of the frame, a varint; and an envelope whose one message is field 90.
    body.extend([0xa0, 0x06, 0x01]);
    body.extend([0x1a, 0x06, 0x08, 0x05, 0xd2, 0x05, 0x01, 0x00]);
    let received = decode_one(&framed(&body)).unwrap().unwrap();
    assert_eq!(received.frame, frame);
    assert_eq!(received.unknown, [Unknown::Message]);
}

#[test]
fn an_entry_of_a_newer_kind_takes_its_message_along() {
    let entry = |kind| schema::Entry { term: 1, index: 1, kind, ..schema::Entry::default() };
    let append = |kind| schema::Append { entries: vec![entry(kind)], ..Default::default() };
    let envelope =
        |kind| schema::Envelope { group: 5, body: Some(schema::Body::Append(append(kind))) };
    for kind in [3, 256, u32::MAX] {
        let envelopes = vec![envelope(kind), envelope(1)];
        let frame = schema::Frame { envelopes, ..schema::Frame::default() };
        let received = decode_one(&framed(&frame.encode_to_vec())).unwrap().unwrap();
        assert_eq!(received.unknown, [Unknown::EntryKind(kind)]);
        assert_eq!(received.frame.messages.len(), 1);
    }
}

#[test]
fn an_answer_with_an_unknown_code_is_indeterminate() {
    for code in [0, 8, u32::MAX] {
        let reply = schema::ForwardReply { id: 1, code, ..schema::ForwardReply::default() };
        let outcome = ForwardReply::from(reply).outcome;
        assert_eq!(outcome, ForwardOutcome::Indeterminate, "{code}");
    }
}

#[test]
fn a_damaged_entry_is_named() {
    let entry = schema::Entry {
        term: 3,
        index: 7,
        payload: Bytes::from_static(b"abc"),
        crc: crc32c::crc32c(b"abd"),
        ..schema::Entry::default()
    };
    let append = schema::Append { entries: vec![entry], ..schema::Append::default() };
    let envelope = schema::Envelope { group: 5, body: Some(schema::Body::Append(append)) };
    let frame = schema::Frame { envelopes: vec![envelope], ..schema::Frame::default() };
    let error = decode_one(&framed(&frame.encode_to_vec())).unwrap_err().to_string();
    assert!(error.contains("entry 7 of term 3 of group 5"), "{error}");
}

/// They would be appended to a log that has no gaps, or counted on from.
#[test]
fn positions_that_cannot_be_end_the_stream() {
    let entry = |index| Entry::command(TERM, Index(index), Bytes::new());
    let append = |prev: u64, entries: &[u64]| {
        let (prev_index, prev_term, commit) = (Index(prev), TERM, Index::ZERO);
        let entries = entries.iter().copied().map(entry).collect();
        Message::Append(Append { term: TERM, prev_index, prev_term, commit, entries })
    };
    let vote = |term, last_index| {
        let last_index = Index(last_index);
        Message::Vote(Vote {
            term: Term(term),
            last_index,
            last_term: TERM,
            pre: false,
            transfer: false,
        })
    };
    let matched = |index| {
        let outcome = AppendOutcome::Matched(Index(index));
        Message::AppendReply(AppendReply { term: TERM, outcome, commit: INDEX })
    };
    let decoded = |message| {
        let messages = vec![(GroupId(5), message)];
        decode_one(&encoded(&PeerFrame { messages, ..PeerFrame::default() }))
    };
    for possible in [append(4, &[5, 6]), append(4, &[]), vote(3, NUMBER_MAX), matched(9)] {
        decoded(possible).unwrap();
    }
    for impossible in [
        append(4, &[6]),
        append(4, &[5, 7]),
        append(4, &[5, 5]),
        append(4, &[4]),
        append(u64::MAX, &[u64::MAX]),
        append(u64::MAX - 1, &[u64::MAX]),
        vote(u64::MAX, 3),
        vote(3, u64::MAX),
        matched(u64::MAX),
    ] {
        let error = decoded(impossible.clone()).unwrap_err();
        assert!(matches!(error, DecodeError::Position { .. }), "{impossible:?}: {error}");
    }
}

#[test]
fn a_frame_that_is_too_long_is_refused_by_its_header() {
    let mut decoder = Decoder::new(16);
    decoder.extend(&17u32.to_le_bytes());
    decoder.extend(&[0; 4]);
    assert!(matches!(decoder.next(), Err(DecodeError::TooLong { len: 17, max: 16 })));
}

#[test]
fn a_membership_that_cannot_be_read_ends_the_stream() {
    let offer =
        schema::SnapshotOffer { membership: Bytes::from_static(b"\xff"), ..Default::default() };
    let envelope = schema::Envelope { group: 5, body: Some(schema::Body::Snapshot(offer)) };
    let frame = schema::Frame { envelopes: vec![envelope], ..schema::Frame::default() };
    let error = decode_one(&framed(&frame.encode_to_vec())).unwrap_err();
    assert!(matches!(error, DecodeError::Membership { group: GroupId(5) }), "{error}");
}

#[test]
fn a_small_payload_does_not_keep_its_frame_and_a_large_one_is_not_copied() {
    let entry = |index, len| Entry::command(TERM, Index(index), Bytes::from(vec![7; len]));
    let entries = vec![entry(301, 10), entry(302, 1 << 20)];
    let append = Append { term: TERM, prev_index: INDEX, prev_term: TERM, commit: INDEX, entries };
    let messages = vec![(GroupId(1), Message::Append(append))];
    let bytes = encoded(&PeerFrame { messages, ..PeerFrame::default() });
    let mut decoder = Decoder::new(FRAME_MAX);
    decoder.extend(&bytes);
    let memory = decoder.buffer.as_ptr_range();
    let received = decoder.next().unwrap().unwrap();
    let Some((_, Message::Append(append))) = received.frame.messages.first() else {
        panic!("one append went in")
    };
    let is_shared = |at: usize| memory.contains(&append.entries[at].payload.as_ptr());
    assert_eq!((is_shared(0), is_shared(1)), (false, true));
}

fn term() -> impl Strategy<Value = Term> {
    (0..=NUMBER_MAX).prop_map(Term)
}

fn index() -> impl Strategy<Value = Index> {
    (0..=NUMBER_MAX).prop_map(Index)
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind =
        prop_oneof![Just(EntryKind::Command), Just(EntryKind::Blank), Just(EntryKind::Membership)];
    (term(), index(), kind, payload()).prop_map(|(term, index, kind, payload)| Entry {
        term,
        index,
        kind,
        payload,
    })
}

fn membership() -> impl Strategy<Value = Arc<Membership>> {
    let member = (any::<u64>().prop_map(NodeId), payload());
    (vec(member, 0..4), vec(any::<u64>(), 0..3), vec(any::<u64>(), 0..3)).prop_map(
        |(voters, outgoing, learners)| {
            let mut membership = Membership::of(voters);
            membership.outgoing = outgoing.into_iter().map(NodeId).collect();
            membership.learners = learners.into_iter().map(NodeId).collect();
            Arc::new(membership)
        },
    )
}

fn outcome() -> impl Strategy<Value = AppendOutcome> {
    prop_oneof![
        index().prop_map(AppendOutcome::Matched),
        (index(), index(), term()).prop_map(|(prev_index, hint_index, hint_term)| {
            AppendOutcome::Rejected { prev_index, hint_index, hint_term }
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let confirm = || (term(), any::<u64>()).prop_map(|(term, round)| Confirm { term, round });
    prop_oneof![
        (term(), index(), term(), any::<bool>(), any::<bool>()).prop_map(
            |(term, last_index, last_term, pre, transfer)| {
                Message::Vote(Vote { term, last_index, last_term, pre, transfer })
            }
        ),
        (term(), any::<bool>(), any::<bool>()).prop_map(|(term, pre, granted)| {
            Message::VoteReply(VoteReply { term, pre, granted })
        }),
        (term(), index(), term(), index(), vec(entry(), 0..5)).prop_map(
            |(term, prev_index, prev_term, commit, mut entries)| {
                let indexes = (prev_index.0 + 1..).map(Index);
                entries.iter_mut().zip(indexes).for_each(|(entry, index)| entry.index = index);
                Message::Append(Append { term, prev_index, prev_term, commit, entries })
            }
        ),
        (term(), outcome(), index()).prop_map(|(term, outcome, commit)| {
            Message::AppendReply(AppendReply { term, outcome, commit })
        }),
        (term(), index(), term(), membership()).prop_map(|(term, index, of, membership)| {
            let snapshot = SnapshotMeta { index, term: of, membership };
            Message::Snapshot(SnapshotOffer { term, snapshot })
        }),
        confirm().prop_map(Message::Confirm),
        confirm().prop_map(Message::ConfirmReply),
        (term(), any::<u64>())
            .prop_map(|(term, batch)| Message::ReadIndex(ReadIndex { term, batch })),
        (term(), any::<u64>(), index()).prop_map(|(term, batch, index)| {
            Message::ReadIndexReply(ReadIndexReply { term, batch, index })
        }),
        (term(), index(), term()).prop_map(|(term, last_index, last_term)| {
            Message::TimeoutNow(TimeoutNow { term, last_index, last_term })
        }),
        term().prop_map(|term| Message::StepDown(StepDown { term })),
    ]
}

fn forward() -> impl Strategy<Value = Forward> {
    (any::<u64>(), any::<u64>(), payload(), any::<bool>(), payload()).prop_map(
        |(id, group, command, freeing, trace)| Forward {
            id,
            group: GroupId(group),
            command,
            freeing,
            trace,
        },
    )
}

fn reply() -> impl Strategy<Value = ForwardReply> {
    let outcome = prop_oneof![
        (term(), index()).prop_map(|(term, index)| ForwardOutcome::Placed { term, index }),
        any::<Option<u64>>()
            .prop_map(|leader| ForwardOutcome::NotLeader { leader: leader.map(NodeId) }),
        any::<u64>().prop_map(|max| ForwardOutcome::TooLarge { max }),
        Just(ForwardOutcome::Overloaded),
        Just(ForwardOutcome::DiskFull),
        Just(ForwardOutcome::Stopped),
        Just(ForwardOutcome::Indeterminate),
    ];
    (any::<u64>(), outcome).prop_map(|(id, outcome)| ForwardReply { id, outcome })
}

fn frame() -> impl Strategy<Value = PeerFrame> {
    let heartbeat = any::<[u64; 4]>().prop_map(|[epoch, sent_ms, echo_epoch, echo_ms]| Heartbeat {
        epoch,
        sent_ms,
        echo_epoch,
        echo_ms,
    });
    let envelope = (any::<u64>().prop_map(GroupId), message());
    let parts = (
        proptest::option::of(heartbeat),
        vec(envelope, 0..6),
        vec(forward(), 0..4),
        vec(reply(), 0..4),
    );
    parts.prop_map(|(heartbeat, messages, forwards, replies)| PeerFrame {
        marks: Vec::new(),
        heartbeat,
        messages,
        forwards,
        replies,
    })
}

proptest! {
    #[test]
    fn frames_survive_the_wire_however_it_cuts_them(
        frames in vec(frame(), 1..5),
        piece in 1..400usize,
    ) {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| encode(frame, &mut bytes));
        let mut decoder = Decoder::new(FRAME_MAX);
        let mut received = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.extend(piece);
            while let Some(next) = decoder.next().unwrap() {
                prop_assert!(next.unknown.is_empty());
                received.push(next.frame);
            }
        }
        prop_assert_eq!(received, frames);
    }

    #[test]
    fn a_flipped_bit_is_noticed(frame in frame(), at in any::<proptest::sample::Index>()) {
        let mut bytes = encoded(&frame);
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A length that became longer waits for the rest.
        if let Ok(Some(received)) = decode_one(&bytes) {
            prop_assert!(false, "decoded {received:?}");
        }
    }

    #[test]
    fn garbage_is_an_error_or_waits(
        garbage in vec(any::<u8>(), 0..300),
        with_checksum in any::<bool>(),
    ) {
        let bytes = if with_checksum { framed(&garbage) } else { garbage };
        let mut decoder = Decoder::new(FRAME_MAX);
        decoder.extend(&bytes);
        while let Ok(Some(_)) = decoder.next() {}
    }

    #[test]
    fn half_a_message_with_a_good_checksum_never_panics(
        frame in frame(),
        at in any::<proptest::sample::Index>(),
    ) {
        let body = encoded(&frame).split_off(HEADER);
        let cut = at.index(body.len() + 1);
        let _ = decode_one(&framed(&body[..cut]));
    }
}
