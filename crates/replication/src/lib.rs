//! Primary-replica log shipping and its history rules, without I/O.
