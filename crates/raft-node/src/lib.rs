//! Drives groups: owns the log, the apply loop and the snapshots.
