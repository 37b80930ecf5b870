//! Typed client of the four services on reqwest and resilience.
