//! The replica service.
