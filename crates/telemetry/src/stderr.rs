//! Standard error, for words that are not log lines.

use std::fmt;
use std::io::Write as _;

/// `eprintln!` for programs that must not end of it.
///
/// Where nobody can take the words (a log file on a full disk, a pipe whose reader has gone),
/// `eprintln!` panics. Here they are lost.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => { $crate::stderr::line(format_args!($($text)*)) };
}

/// See [`note!`](crate::note).
pub fn line(text: fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
