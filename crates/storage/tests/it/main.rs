//! What the log promises, from the outside: one module per way to break it.

#[cfg(test)]
mod model;
#[cfg(test)]
mod world;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod disk_matrix;
#[cfg(test)]
mod full_disk;
#[cfg(all(test, feature = "mutants"))]
mod mutants;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod wal;
