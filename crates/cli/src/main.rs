//! `quartet`.

fn main() {}
