//! The whole system from outside. `scripts/test` builds the binaries first.

#[cfg(test)]
mod load;
#[cfg(test)]
mod node;
#[cfg(test)]
mod otlp_sink;

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod config_files;
#[cfg(test)]
mod corruption;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod data_dir;
#[cfg(test)]
mod disk_full;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod members;
#[cfg(test)]
mod trace;
