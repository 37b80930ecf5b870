//! The broker over HTTP: a real server on a free port, with a directory of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod bad_input;
mod cluster;
mod consumers;
mod events;
mod live;
mod push;
mod queues;
mod requests;
mod restart;
mod server;
mod sqs;
mod streams;
mod subjects;
mod topics;
mod trace;
mod trio;
mod webhook;
