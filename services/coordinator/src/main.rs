//! `quartet-coordinator`.

fn main() {}
