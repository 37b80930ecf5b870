//! Wire types of the four native HTTP APIs, the problem codes and the header names.
//!
//! Both sides of every connection use these types: the services answer with them and `client`
//! reads them. A handler turns them into domain types in its first line and back in its last.
//!
//! **Invariant:** pure data. No clock, no I/O, no async, no HTTP library.
//! **Invariant:** a published field or code never changes its meaning; new ones are only added.

pub mod headers;
pub mod problem;

pub mod broker;
pub mod coordinator;
pub mod gateway;
pub mod replica;
