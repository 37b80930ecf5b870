//! The service over real HTTP, each test on servers of its own.

mod bad_input;
mod cluster;
mod kv;
mod replication;
mod streams;
mod support;
mod time;
