//! Tests only: real processes, real faults.
//!
//! `tests/e2e/` starts the binaries that lie beside the test's own, each with a directory and ports
//! of its own, kills and stops them, and looks at what is left. `tests/faults/` puts a cluster of
//! coordinators under load and faults at once, and judges what its clients were told. Both know
//! the services only from outside: by their HTTP interface, their files and their exit.
//!
//! Order in `e2e`: `node` (one process), `load` (writers that remember what was acknowledged), then
//! a file per property. In `faults`: see its `main.rs`. What both need is here.

mod binary;
mod disk;
mod hanging_disk;
mod ports;

pub use binary::binary;
pub use disk::Disk;
pub use hanging_disk::HangingDisk;
pub use ports::free_ports;
