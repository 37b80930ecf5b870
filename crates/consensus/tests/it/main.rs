//! The proof of the core, from the outside: simulation, exploration, scenarios.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod explore;
#[cfg(test)]
mod simulation;
