//! The proof of the core, from the outside: simulation, exploration, scenarios.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod explore;
#[cfg(all(test, feature = "mutants"))]
mod mutants;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod simulation;
