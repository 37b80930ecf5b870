//! The client against scripted servers, and against a real etcd.

#[cfg(test)]
mod breaker;
#[cfg(test)]
mod etcd;
#[cfg(test)]
mod outcome;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod retry;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod typed;
