//! The client against scripted servers, and against a real etcd.

mod breaker;
mod etcd;
mod outcome;
mod peer;
mod retry;
mod stream;
mod typed;
