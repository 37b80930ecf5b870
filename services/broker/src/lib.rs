//! The broker service.
