//! The service over real HTTP, each test on servers of its own.

mod cluster;
mod kv;
mod replication;
mod support;
