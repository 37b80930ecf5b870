//! The client against scripted servers, a real etcd and our own services.

#[cfg(test)]
mod peer;
#[cfg(test)]
mod process;

#[cfg(test)]
mod breaker;
#[cfg(test)]
mod etcd;
#[cfg(test)]
mod live;
#[cfg(test)]
mod outcome;
#[cfg(test)]
mod retry;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod typed;
