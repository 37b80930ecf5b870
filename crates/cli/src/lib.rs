//! The command quartet.
