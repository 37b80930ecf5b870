//! Entries of one member's log for another: those at some indexes that are still there.
//!
//! ```text
//! POST /peer/v1/entries/{group}?through={index}     first u64, last u64, of each range, ascending
//! 200                                               entries, ascending; then one with index 0
//! entry: index u64, term u64, length u32, kind u8, crc32c u32 of all else, payload
//! ```
//! Numbers are little-endian. The end is said, so that a body that broke off is not taken for whole.
//! Whoever has not applied everything up to `through` refuses: it cannot know what is still needed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use api::problem::Code;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use consensus::{EntryKind, GroupId, Index, NodeId, Term};
use futures_util::stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming as IncomingBody};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use storage::{Entry, Wal};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Transport;
use super::connect::{LinkError, authority, dial, words};
use super::peers::Shared;
use super::respond::{BodyError, PeerBody, problem};
use super::service;
use super::silence::heard_within;

const PREFIX: &str = "/peer/v1/entries/";
/// Ranges in one request.
pub(crate) const RANGES_MAX: usize = 4096;
/// Bytes of one range.
const RANGE: usize = 16;
/// The longest request, in bytes.
pub(super) const REQUEST_MAX: usize = RANGES_MAX * RANGE;
/// Bytes before each payload.
const HEAD: usize = 25;
/// Bytes of entries read from the log at a time.
const PIECE_BYTES: usize = 256 << 10;
/// A longer entry is no entry.
const ENTRY_MAX: usize = 256 << 20;

/// The log of this node, and how far its machines are.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) wal: Wal,
    pub(crate) applied: Applied,
}

/// How far the machines of this node are, and their logs with them.
pub(crate) type Applied = Arc<Mutex<BTreeMap<GroupId, watch::Receiver<Index>>>>;

/// Why entries were not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntriesError {
    #[error("node {0} is not a peer")]
    UnknownPeer(NodeId),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the body broke off or is damaged")]
    Broken,
}

/// Group and last index out of path and query.
pub(super) fn parse(path: &str, query: Option<&str>) -> Option<(GroupId, Index)> {
    let group = path.strip_prefix(PREFIX)?.parse().ok()?;
    let through = query?.strip_prefix("through=")?.parse().ok()?;
    Some((GroupId(group), Index(through)))
}

pub(super) fn is_path(path: &str) -> bool {
    path.starts_with(PREFIX)
}

impl Source {
    fn has_applied(&self, group: GroupId, through: Index) -> bool {
        let all = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&group).is_some_and(|applied| through <= *applied.borrow())
    }
}

pub(super) fn serve(
    shared: &Shared,
    source: Source,
    (group, through): (GroupId, Index),
    ranges: &Bytes,
) -> Response<PeerBody> {
    let Some(ranges) = decode_ranges(ranges.clone(), through) else {
        return problem(
            Code::InvalidRequest,
            "send ascending ranges up to `through`, 16 bytes each",
        );
    };
    if !source.has_applied(group, through) {
        let detail =
            format!("group {group} is not applied up to {through} here; ask another member");
        return problem(Code::Conflict, detail);
    }
    let Ok(permit) = shared.snapshot_permits.clone().try_acquire_owned() else {
        let detail = "enough is being sent to peers; repeat in a moment";
        let mut response = problem(Code::Overloaded, detail);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    };
    let mut response = Response::new(pieces(source.wal, group, ranges, permit));
    let binary = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, binary);
    response
}

fn decode_ranges(mut bytes: Bytes, through: Index) -> Option<Vec<RangeInclusive<Index>>> {
    let mut ranges: Vec<RangeInclusive<Index>> = Vec::with_capacity(bytes.len() / RANGE);
    while bytes.has_remaining() {
        let (first, last) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
        let after = ranges.last().map_or(0, |range| range.end().0);
        if first <= after || last < first || through.0 < last {
            return None;
        }
        ranges.push(Index(first)..=Index(last));
    }
    Some(ranges)
}

/// The permit goes with the last piece.
fn pieces(
    wal: Wal,
    group: GroupId,
    ranges: Vec<RangeInclusive<Index>>,
    permit: OwnedSemaphorePermit,
) -> PeerBody {
    let pieces = stream::try_unfold(Some((ranges, permit)), move |rest| {
        let wal = wal.clone();
        async move {
            let Some((ranges, permit)) = rest else { return Ok(None) };
            let read = tokio::task::spawn_blocking(move || {
                let read = wal.read_ranges(group, &ranges, PIECE_BYTES);
                (ranges, read)
            });
            let (ranges, read) = read.await.map_err(BodyError::from)?;
            let entries = read.map_err(|error| {
                // The receiver only sees that the body breaks off.
                tracing::error!(%group, %error, "entries for a member cannot be read");
                BodyError::from(error)
            })?;
            let mut piece = BytesMut::new();
            entries.iter().for_each(|entry| encode(entry, &mut piece));
            let rest = match entries.last() {
                Some(last) => Some((behind(ranges, last.index), permit)),
                None => {
                    encode(&Entry::command(Term(0), Index::ZERO, Bytes::new()), &mut piece);
                    None
                }
            };
            Ok::<_, BodyError>(Some((Frame::data(piece.freeze()), rest)))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// What of the ranges lies behind an index.
fn behind(ranges: Vec<RangeInclusive<Index>>, index: Index) -> Vec<RangeInclusive<Index>> {
    let left = ranges.into_iter().filter(|range| index < *range.end());
    left.map(|range| (*range.start()).max(index.next())..=*range.end()).collect()
}

fn encode(entry: &Entry, to: &mut BytesMut) {
    let begin = to.len();
    to.put_u64_le(entry.index.0);
    to.put_u64_le(entry.term.0);
    to.put_u32_le(u32::try_from(entry.payload.len()).expect("an entry is smaller than a segment"));
    to.put_u8(entry.kind as u8);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&to[begin..]), &entry.payload);
    to.put_u32_le(crc);
    to.extend_from_slice(&entry.payload);
}

/// Entries as they arrive.
pub(crate) struct Entries {
    body: IncomingBody,
    bytes: BytesMut,
    silence: std::time::Duration,
    _connection: AbortOnDropHandle<()>,
}

impl Entries {
    /// The next one; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Entry>, EntriesError> {
        loop {
            if let Some(entry) = decode(&mut self.bytes)? {
                return Ok((entry.index != Index::ZERO).then_some(entry));
            }
            let next = heard_within(self.silence, self.body.frame()).await;
            let frame = next.ok_or(LinkError::Silent)?.ok_or(EntriesError::Broken)?;
            let data = frame.map_err(LinkError::from)?.into_data().unwrap_or_default();
            self.bytes.extend_from_slice(&data);
        }
    }
}

/// One entry, if it is there whole.
fn decode(bytes: &mut BytesMut) -> Result<Option<Entry>, EntriesError> {
    let Some(mut head) = bytes.get(..HEAD) else { return Ok(None) };
    let (index, term) = (Index(head.get_u64_le()), Term(head.get_u64_le()));
    let len = head.get_u32_le() as usize;
    let kind = EntryKind::from_number(head.get_u8()).ok_or(EntriesError::Broken)?;
    let crc = head.get_u32_le();
    if ENTRY_MAX < len {
        return Err(EntriesError::Broken);
    }
    if bytes.len() < HEAD + len {
        bytes.reserve(HEAD + len - bytes.len());
        return Ok(None);
    }
    let record = bytes.split_to(HEAD + len).freeze();
    let payload = record.slice(HEAD..);
    let actual = crc32c::crc32c_append(crc32c::crc32c(&record[..HEAD - 4]), &payload);
    if actual != crc {
        return Err(EntriesError::Broken);
    }
    Ok(Some(Entry { term, index, kind, payload }))
}

impl Transport {
    /// Asks a peer for what its log has of these indexes, ascending, [`RANGES_MAX`] at most, all of
    /// them at or below `through`, which it has to have applied.
    pub(crate) async fn entries(
        &self,
        from: NodeId,
        group: GroupId,
        through: Index,
        ranges: &[RangeInclusive<Index>],
    ) -> Result<Entries, EntriesError> {
        let peer = self.shared.peer(from).ok_or(EntriesError::UnknownPeer(from))?;
        let authority = authority(&peer.url.borrow())?;
        let config = &self.shared.config;
        let limit = config.connect_timeout;
        let socket = dial(&authority, limit).await?;
        let opened = http1::handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = opened.map_err(LinkError::from)?;
        let connection = AbortOnDropHandle::new(self.shared.tasks.spawn(async move {
            // Its end shows at the body.
            let _ = connection.await;
        }));
        let mut body = BytesMut::with_capacity(ranges.len() * RANGE);
        for range in ranges {
            body.put_u64_le(range.start().0);
            body.put_u64_le(range.end().0);
        }
        let request = Request::post(format!("{PREFIX}{group}?through={through}"))
            .header(header::HOST, &authority)
            .header(service::CLUSTER, format!("{:016x}", config.cluster))
            .header(service::TO, format!("{:016x}", from.0))
            .body(Full::new(body.freeze()))
            .expect("its parts are numbers, constants and a parsed authority");
        let answer = timeout(limit, sender.send_request(request)).await;
        let answer = answer.map_err(|_elapsed| LinkError::Timeout)?.map_err(LinkError::from)?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            let detail = timeout(limit, words(body)).await.unwrap_or_default();
            return Err(LinkError::Status { status: head.status, detail }.into());
        }
        let silence = config.silence;
        Ok(Entries { body, bytes: BytesMut::new(), silence, _connection: connection })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_way_and_damage_is_noticed() {
        let entries = [
            Entry::command(Term(3), Index(7), Bytes::from_static(b"body")),
            Entry::command(Term(4), Index(9), Bytes::new()),
        ];
        let mut bytes = BytesMut::new();
        entries.iter().for_each(|entry| encode(entry, &mut bytes));
        for cut in 0..HEAD + 4 {
            assert!(decode(&mut BytesMut::from(&bytes[..cut])).unwrap().is_none(), "{cut}");
        }
        for bit in 0..8 * (HEAD + 4) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&mut damaged), Ok(Some(_))), "bit {bit}");
        }
        assert_eq!(decode(&mut bytes).unwrap().as_ref(), Some(&entries[0]));
        assert_eq!(decode(&mut bytes).unwrap().as_ref(), Some(&entries[1]));
        assert!(bytes.is_empty());
    }

    #[test]
    fn ranges_ascend_and_end_at_the_snapshot() {
        let encode = |ranges: &[(u64, u64)]| -> Bytes {
            ranges.iter().flat_map(|(a, b)| [a.to_le_bytes(), b.to_le_bytes()].concat()).collect()
        };
        assert!(decode_ranges(encode(&[(1, 2), (4, 9)]), Index(9)).is_some());
        for bad in [&[(0, 2)][..], &[(3, 2)], &[(1, 4), (4, 5)], &[(1, 10)]] {
            assert_eq!(decode_ranges(encode(bad), Index(9)), None, "{bad:?}");
        }
        assert_eq!(decode_ranges(Bytes::from_static(b"short"), Index(9)), None);
    }
}
