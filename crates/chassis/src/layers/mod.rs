//! What every request passes through.

pub(crate) mod body;
