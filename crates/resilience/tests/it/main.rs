//! The layers against scripted services, and the policies together in a simulation.

#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod metastable;
#[cfg(test)]
mod retry;
