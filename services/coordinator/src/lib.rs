//! The coordinator service.

pub mod store;
