//! `quartet-replica`.

fn main() {}
