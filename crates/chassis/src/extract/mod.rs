//! Extractors like axum's, except that they reject with a [`Problem`].
//!
//! A handler that uses them answers `application/problem+json` for every malformed input without
//! a line of its own.

mod body;
mod json;
mod params;

pub use body::{Body, Whole, unreadable};
pub use json::{Json, JsonBytes};
pub use params::{Path, Query};

pub(crate) use body::{read, too_large};
