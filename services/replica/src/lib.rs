//! The replica service.
mod engine;
mod overlay;
