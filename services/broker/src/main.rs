//! `quartet-broker`.

fn main() {}
