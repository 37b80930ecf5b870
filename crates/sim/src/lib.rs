//! Dev-only: seeded clock, network, disk; histories and checkers.
