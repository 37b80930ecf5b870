//! The write-ahead log: shared, segmented, group-committed.
