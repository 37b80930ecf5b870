//! The chassis over real sockets: a small service started as every service is.

mod collector;
mod drain;
mod listener;
mod operations;
mod problems;
mod process;
mod service;
mod trial;

use chassis::config::Base;
use chassis::testing::{self, Running};

/// The service with default settings, changed by `change`.
async fn running(change: impl FnOnce(&mut Base)) -> Running<service::Config> {
    let mut config = service::Config::default();
    change(&mut config.base);
    testing::start(config, service::start).await
}
