//! Tests only: real processes, real faults.
