//! Topics, subscriptions, queues and streams as deterministic state machines.
//!
//! A machine is fed log entries, in order, through its `apply`. The same entries always make the
//! same state and the same replies: there is no clock, no randomness and no I/O in here, and time
//! comes with the commands. Between entries the leader of a group also asks its machine to hand
//! out messages; what it keeps for that is its own and is not replicated.
//!
//! | machine | group | holds |
//! | --- | --- | --- |
//! | [`catalog::Catalog`] | one for the cluster | what exists, and in which group it lives |
//! | [`partition::Partition`] | one per partition of a topic | offsets, retention, subscriptions |
//! | [`queue::Queue`] | one per queue | messages, priorities, dedup window |
//! | [`stream::Streams`] | a fixed number of them | streams of bytes, by path |
//!
//! # What is promised
//!
//! | event | promise | how |
//! | --- | --- | --- |
//! | a publish or send is answered | it survives any crash | the reply comes from `apply`, after the log has it on disk |
//! | a message is delivered | at least once, until it is acked, expires or is given up | only a log entry removes it |
//! | an ack is answered `ok` | the message is not delivered again | the reply comes from `apply` |
//! | an ack is late | it is reported, never accepted | see below |
//! | messages share a key or group | the next goes when the one before is settled | [`dispatch`] |
//! | a queue is full | the send is refused whole, nothing is dropped; unless its settings say to drop the oldest | checked in `apply` |
//! | a message is dead-lettered | it is never in neither queue | stored there, once per source, before it is removed here |
//!
//! # Deliveries and restarts
//!
//! Handing out a message costs no write. The leader keeps who holds what in memory, and reports it
//! in batches ([`dispatch::Progress`]) that no consumer waits for; a message settled before the
//! next batch is never reported at all. So when a leader is lost or restarted,
//!
//! * what was reported stays held until its deadline, and its holder may still ack it;
//! * what was delivered since the last batch, some 50 ms at most, is delivered again at once. Its
//!   delivery count may then be too low by the deliveries of that window; it never falls below
//!   what was reported. A change of leaders is no failure of a message: `max_deliveries` counts
//!   deliveries that were given back as failed or held too long, and nothing else. A delivery
//!   that outlives its leader and is then held too long is not counted either: its holder may
//!   have given it back untried to the leader that is gone;
//! * an ack for a delivery of an earlier life is accepted only if that delivery was reported and
//!   is the message's latest. [`ack::AckId`] names the life ([`ids::Epoch`]), so that it cannot
//!   be taken for a newer delivery with the same number.
//!
//! **Invariant:** `apply` depends on nothing but the entries before it, above all not on who holds
//! what.
//! **Invariant:** payloads are opaque. No body is decoded or copied; machines keep where it is.
//! **Invariant:** memory is bounded per message and per group; every limit has a name here.

pub mod ids;

pub mod config;
pub mod filter;
pub mod frame;

pub mod catalog;
pub mod placement;

pub mod partition;
pub mod queue;
pub mod stream;
pub mod subject;
pub mod subscription;

pub mod ack;
pub mod dispatch;

pub mod bits;
pub mod dedup;
pub mod ranges;
pub mod snapshot;
