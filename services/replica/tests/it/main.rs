//! The service over real HTTP, each test on servers of its own.

mod kv;
mod support;
