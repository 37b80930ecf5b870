//! A cluster under faults: three real coordinators (or brokers: [`broker`]), clients that record what they were told, and a
//! judge that looks for the lie.
//!
//! A run is a cluster ([`cluster`]: processes of [`member`] on a [`network`] that can be cut), a
//! load ([`load`]: registers, transactions, watches, leases, locks and elections, over `/v1` and
//! `/v3`) and faults, one after the other ([`nemesis`]) or by name in a scenario; what befalls the
//! cluster may be a change of its members as well ([`membership`]). When everything has healed, [`run`] reads the whole
//! history of the store from each member and [`verdict`] compares it with what the clients were told
//! ([`record`]).
//!
//! What is random comes from a seed: the load and the choice of faults. When processes are killed
//! and what they do meanwhile does not, so a seed repeats the kind of a run, not its course; the
//! evidence of a run that fails is written to a directory that is printed.
//!
//! **Invariant:** no duration is asserted. What has to come is waited for, with a generous bound.
//! **Invariant:** nothing is left behind: neither processes nor name spaces nor mounts.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod member;
#[cfg(test)]
mod membership;
#[cfg(test)]
mod network;

#[cfg(test)]
mod record;
#[cfg(test)]
mod verdict;

#[cfg(test)]
mod load;

#[cfg(test)]
mod nemesis;
#[cfg(test)]
mod run;

#[cfg(test)]
mod broker;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod lies;
#[cfg(test)]
mod links;
#[cfg(test)]
mod members;
#[cfg(test)]
mod pauses;
