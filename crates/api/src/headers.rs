//! Names of the headers of our own, in the lower case that HTTP/2 demands.

/// The trace this request belongs to, 32 hex digits. On every response, traced or not.
pub const TRACE_ID: &str = "x-trace-id";
/// The node that answered. On every response.
pub const NODE: &str = "x-quartet-node";
/// Milliseconds the caller will still wait. Every hop passes on what is left.
pub const DEADLINE_MS: &str = "x-deadline-ms";
/// A request's time limit as users write it: `2` (seconds), `1.5`, `500ms`, `2s`.
pub const REQUEST_TIMEOUT: &str = "x-request-timeout";
/// A request's time limit as gRPC writes it: up to eight digits and a unit of `H M S m u n`.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";
/// Repeats of an unsafe request with the same key answer with the first result.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Which attempt of one logical request this is; the first is 1. Inner layers then do not retry.
pub const ATTEMPT: &str = "x-attempt";
/// Set on a request that a peer passed on: it is answered or refused, never passed on again.
pub const FORWARDED_BY: &str = "x-quartet-forwarded-by";
/// The W3C trace context of the caller.
pub const TRACEPARENT: &str = "traceparent";
/// Vendor state that travels with [`TRACEPARENT`].
pub const TRACESTATE: &str = "tracestate";
/// Where a stream of server-sent events resumes.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// Broker: the ordering key of a message, chooses its partition.
pub const KEY: &str = "x-key";
/// Broker: prefix of headers that are kept as attributes of a message.
pub const ATTRIBUTE_PREFIX: &str = "x-attr-";
/// Broker: prefix of CloudEvents headers, kept as attributes of a message.
pub const CLOUD_EVENT_PREFIX: &str = "ce-";
/// Broker: priority in a queue; higher is delivered first.
pub const PRIORITY: &str = "x-priority";
/// Broker: milliseconds before a queued message may be delivered.
pub const DELAY_MS: &str = "x-delay-ms";
/// Broker: milliseconds after which an undelivered message expires.
pub const TTL_MS: &str = "x-ttl-ms";
/// Broker: identity of a message for deduplication.
pub const DEDUP_ID: &str = "x-dedup-id";
/// Broker: what a message answers; it is found by that.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// Broker: messages of one group are delivered one at a time, in order.
pub const GROUP: &str = "x-group";
/// Broker: who publishes and numbers its publishes; with [`PRODUCER_EPOCH`] and [`PRODUCER_SEQ`].
pub const PRODUCER_ID: &str = "x-producer-id";
/// Broker: which instance of the producer; a newer one keeps older ones out.
pub const PRODUCER_EPOCH: &str = "x-producer-epoch";
/// Broker: which request of this epoch, from 0. On the answer to a repeat: the newest one taken.
pub const PRODUCER_SEQ: &str = "x-producer-seq";

/// Replica: `<epoch>:<index>`, the position a session has seen.
pub const SESSION: &str = "x-session";
/// Replica: how many nodes had the write on disk when it was answered.
pub const ACKED_BY: &str = "x-acked-by";
/// Replica: how far the answering node was behind its primary.
pub const LAG_MS: &str = "x-lag-ms";
/// Replica: the node that served a read.
pub const SERVED_BY: &str = "x-served-by";
/// Replica: `primary` or `replica`.
pub const ROLE: &str = "x-role";

/// Media type of problem documents (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Media type of batches: one JSON document a line.
pub const NDJSON: &str = "application/x-ndjson";
/// Media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";
