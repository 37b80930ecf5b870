//! The whole system from outside. `scripts/test` builds the binaries first.

mod load;
mod node;
mod otlp_sink;

mod bad_input;
mod command_line;
mod config_files;
mod corruption;
mod crash;
mod data_dir;
mod drain;
mod trace;
