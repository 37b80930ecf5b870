//! `quartet-gateway`.

fn main() {}
