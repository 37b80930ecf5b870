//! Snapshots for peers, whole or from where a transfer broke off.

use std::sync::Arc;

use api::problem::{Code, ProblemDetails};
use bytes::Bytes;
use consensus::{GroupId, Index};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use storage::snapshot::{SnapshotError, SnapshotReader};
use telemetry::metrics::Counter;
use tokio::sync::OwnedSemaphorePermit;

use super::peers::Shared;
use super::respond::{self, BodyError, PeerBody, problem};

const PREFIX: &str = "/peer/v1/snapshots/";
/// Bytes read from the disk at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// The term of the last entry that a snapshot covers.
pub(super) const TERM: HeaderName = HeaderName::from_static("x-quartet-term");
/// CRC-32C of the whole snapshot, 8 hex digits.
pub(super) const CRC: HeaderName = HeaderName::from_static("x-quartet-crc32c");
/// Who asks, for the figures.
pub(super) const FROM: &str = "x-quartet-from";

pub(super) fn path(group: GroupId, index: Index) -> String {
    format!("{PREFIX}{group}/{index}")
}

/// Group and index out of a path.
pub(super) fn parse(path: &str) -> Option<(GroupId, Index)> {
    let (group, index) = path.strip_prefix(PREFIX)?.split_once('/')?;
    Some((GroupId(group.parse().ok()?), Index(index.parse().ok()?)))
}

pub(super) async fn serve(
    shared: &Shared,
    group: GroupId,
    index: Index,
    headers: &HeaderMap,
) -> Response<PeerBody> {
    let Ok(permit) = shared.snapshot_permits.clone().try_acquire_owned() else {
        let detail = "enough snapshots are being sent; repeat in a moment";
        let mut response = problem(Code::Overloaded, detail);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    };
    let store = shared.snapshots.clone();
    let opened = tokio::task::spawn_blocking(move || store.reader(group)).await;
    let reader = match opened {
        Ok(Ok(Some(reader))) if reader.index() == index => reader,
        Ok(Ok(found)) => return missing(group, index, found.map(|found| found.index())),
        Ok(Err(error)) => return unreadable(group, &error),
        Err(panic) => return unreadable(group, &panic),
    };
    let etag = etag(&reader);
    if headers.get(header::IF_MATCH).is_some_and(|asked| *asked != etag) {
        let detail = "the snapshot is another one than before; begin again";
        return problem(Code::PreconditionFailed, detail);
    }
    let len = reader.body_len();
    let range = headers.get(header::RANGE).and_then(|range| parse_range(range.to_str().ok()?));
    let (from, end) = match range {
        None => (0, len),
        Some((from, last)) if from < len => (from, last.map_or(len, |last| (last + 1).min(len))),
        Some(_) => {
            let detail = format!("the snapshot has {len} bytes");
            let mut response = problem(Code::RangeNotSatisfiable, detail);
            insert(&mut response, header::CONTENT_RANGE, format!("bytes */{len}"));
            return response;
        }
    };
    let sent = sent_counter(shared, headers);
    let (term, crc) = (reader.term(), reader.crc());
    let mut response = Response::new(pieces(reader, from, end, (permit, sent)));
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let content_range = format!("bytes {from}-{}/{len}", end - 1);
        insert(&mut response, header::CONTENT_RANGE, content_range);
    }
    insert(&mut response, header::CONTENT_LENGTH, end - from);
    insert(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    insert(&mut response, header::ACCEPT_RANGES, "bytes");
    insert(&mut response, TERM, term);
    insert(&mut response, CRC, format!("{crc:08x}"));
    response.headers_mut().insert(header::ETAG, etag);
    response
}

/// Names these very bytes.
fn etag(reader: &SnapshotReader) -> HeaderValue {
    let (index, term, crc) = (reader.index(), reader.term(), reader.crc());
    HeaderValue::try_from(format!("\"{index}-{term}-{crc:08x}\"")).expect("digits are a header")
}

fn insert(response: &mut Response<PeerBody>, name: HeaderName, value: impl ToString) {
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        response.headers_mut().insert(name, value);
    }
}

/// `bytes=<from>-[<last>]`. Anything else is as if it were not there, as RFC 9110 allows.
fn parse_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok()?;
    let last = match last {
        "" => None,
        last => Some(last.parse().ok().filter(|last| (from..u64::MAX).contains(last))?),
    };
    Some((from, last))
}

fn missing(group: GroupId, index: Index, newest: Option<Index>) -> Response<PeerBody> {
    match newest {
        Some(newest) if index < newest => {
            let detail = format!("group {group} has a newer snapshot; wait to be offered it");
            let mut details = ProblemDetails::new(Code::Compacted, detail);
            details.extensions.insert("newest_index".to_owned(), newest.0.into());
            respond::of(&details)
        }
        _ => {
            let detail = format!("there is no snapshot of group {group} as of {index} here");
            problem(Code::NotFound, detail)
        }
    }
}

fn unreadable(group: GroupId, error: &dyn std::error::Error) -> Response<PeerBody> {
    tracing::error!(%group, error = %error, "a snapshot cannot be served");
    problem(Code::Internal, "the snapshot cannot be read; this node's log has the cause")
}

fn sent_counter(shared: &Shared, headers: &HeaderMap) -> Option<Counter> {
    let from = headers.get(FROM)?.to_str().ok()?;
    let node = consensus::NodeId(u64::from_str_radix(from, 16).ok()?);
    Some(shared.peer(node)?.metrics.snapshot_sent_bytes.clone())
}

/// The bytes from `from` to before `end`, a piece at a time. The permit goes with the last one.
fn pieces(
    reader: SnapshotReader,
    from: u64,
    end: u64,
    held: (OwnedSemaphorePermit, Option<Counter>),
) -> PeerBody {
    let reader = Arc::new(reader);
    let pieces = stream::try_unfold((from, held), move |(at, held)| {
        let reader = reader.clone();
        async move {
            if at == end {
                return Ok(None);
            }
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let read = tokio::task::spawn_blocking(move || reader.read(at, len));
            let piece: Bytes = read.await.map_err(BodyError::from)?.map_err(log)?;
            if let Some(sent) = &held.1 {
                sent.add(piece.len() as u64);
            }
            Ok::<_, BodyError>(Some((Frame::data(piece), (at + len as u64, held))))
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(pieces))
}

/// The receiver only sees that the body breaks off.
fn log(error: SnapshotError) -> BodyError {
    tracing::error!(%error, "a snapshot cannot be read on");
    error.into()
}
