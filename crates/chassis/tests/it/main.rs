//! The chassis over real sockets: a small service started as every service is.

mod problems;
mod service;
