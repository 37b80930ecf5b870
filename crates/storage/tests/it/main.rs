//! What the log promises, from the outside: one module per way to break it.

#[cfg(test)]
mod wal;
