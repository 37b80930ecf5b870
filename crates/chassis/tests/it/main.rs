//! The chassis over real sockets: a small service started as every service is.

#[cfg(test)]
mod collector;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod heads;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod problems;
#[cfg(test)]
mod process;
#[cfg(test)]
mod raw;
mod service;
#[cfg(test)]
mod trial;
#[cfg(test)]
mod unread;

use chassis::config::Base;
use chassis::testing::{self, Running};

/// The service with default settings, changed by `change`.
#[cfg(test)]
async fn running(change: impl FnOnce(&mut Base)) -> Running<service::Config> {
    let mut config = service::Config::default();
    change(&mut config.base);
    testing::start(config, service::start).await
}
