//! Tests only: real processes, real faults.
//!
//! `tests/e2e/` starts the binaries that lie beside the test's own, each with a directory and ports
//! of its own, kills and stops them, and looks at what is left. It knows the services only from
//! outside: by their HTTP interface, their files and their exit.
//!
//! Order: `node` (one process), `load` (writers that remember what was acknowledged), then a file
//! per property.
