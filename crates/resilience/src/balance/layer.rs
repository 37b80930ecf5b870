//! A live set of endpoints: each with its load and its breaker, swapped as a whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::{InFlight, Load, LoadConfig, RoundRobin, Sample, least_latency};
use crate::breaker::{self, BreakerHandle, Guard, Outcome, State};
use crate::{Clock, Random, SystemClock, system_random};

/// How to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    RoundRobin,
    #[default]
    LeastLatency,
}

/// One address of a service, with what is known about it. `K` names it, `V` is what the caller
/// needs to call it (a URL, a connection pool).
#[derive(Debug)]
pub struct Endpoint<K, V, C = SystemClock> {
    pub key: K,
    pub value: V,
    load: Arc<Load>,
    breaker: BreakerHandle<C>,
}

impl<K, V, C: Clock> Endpoint<K, V, C> {
    /// Its breaker's state, for display.
    #[must_use]
    pub fn state(&self) -> State {
        self.breaker.state()
    }

    /// How long its breaker still rejects calls, for display; `None` when it does not.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.breaker.retry_after()
    }

    /// Calls in flight, for display.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.load.pending()
    }

    /// The estimate of its latency, for display.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Duration {
        self.load.latency(now)
    }
}

/// The endpoints that one request has tried. Shared by its attempts.
#[derive(Debug)]
pub struct Tried<K>(Mutex<Vec<K>>);

impl<K> Default for Tried<K> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<K: Clone + PartialEq> Tried<K> {
    /// Those of `indices` whose key was not tried yet.
    fn leave_out<'a>(&self, indices: &[usize], key: impl Fn(usize) -> &'a K) -> Vec<usize>
    where
        K: 'a,
    {
        let tried = self.0.lock().expect("nobody panics while holding it");
        indices.iter().copied().filter(|index| !tried.contains(key(*index))).collect()
    }

    fn add(&self, key: &K) {
        self.0.lock().expect("nobody panics while holding it").push(key.clone());
    }
}

/// Nobody can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// The set is empty.
    #[error("no endpoint is known")]
    Empty,
    /// All are known, and all fail.
    #[error("all endpoints failed lately; ask again in {} ms", retry_after.as_millis())]
    AllRejected {
        /// When the first of them may be asked again.
        retry_after: Duration,
    },
}

/// The endpoints of one service.
#[derive(Debug)]
pub struct EndpointSet<K, V, C = SystemClock> {
    endpoints: ArcSwap<Vec<Arc<Endpoint<K, V, C>>>>,
    strategy: Strategy,
    robin: RoundRobin,
    breaker: breaker::Config,
    load: LoadConfig,
    clock: C,
    random: Random,
}

impl<K: Ord + Clone, V> EndpointSet<K, V> {
    /// An empty set of the running process.
    #[must_use]
    pub fn new(strategy: Strategy, breaker: breaker::Config) -> Self {
        Self::with(strategy, breaker, SystemClock, system_random)
    }
}

impl<K: Ord + Clone, V, C: Clock> EndpointSet<K, V, C> {
    /// An empty set with its own clock and randomness.
    #[must_use]
    pub fn with(strategy: Strategy, breaker: breaker::Config, clock: C, random: Random) -> Self {
        let (endpoints, robin, load) = Default::default();
        Self { endpoints, strategy, robin, breaker, load, clock, random }
    }

    /// Makes `keys` the set. Who stays keeps load and breaker; who is new gets `value(key)`.
    /// Callers that hold an endpoint that left finish with it.
    pub fn replace(&self, keys: impl IntoIterator<Item = K>, mut value: impl FnMut(&K) -> V) {
        let known = self.endpoints.load();
        let known: BTreeMap<&K, _> = known.iter().map(|old| (&old.key, old)).collect();
        let mut next: BTreeMap<K, _> = BTreeMap::new();
        for key in keys {
            let endpoint = known.get(&key).map_or_else(
                || {
                    let load = Arc::new(Load::new(self.load, self.clock.now()));
                    let breaker =
                        BreakerHandle::with(self.breaker, self.clock.clone(), self.random);
                    Arc::new(Endpoint { value: value(&key), key: key.clone(), load, breaker })
                },
                |old| Arc::clone(old),
            );
            next.insert(key, endpoint);
        }
        self.endpoints.store(Arc::new(next.into_values().collect()));
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Vec<Arc<Endpoint<K, V, C>>>> {
        self.endpoints.load_full()
    }

    /// Chooses one for the next attempt of a request, marks it as tried and takes its permit.
    /// One that was tried before is taken only when there is no other.
    ///
    /// # Errors
    ///
    /// When there is none, or every breaker rejects.
    pub fn pick(&self, tried: &Tried<K>) -> Result<Picked<K, V, C>, PickError> {
        self.pick_by(self.strategy, tried)
    }

    /// Like [`EndpointSet::pick`], by a strategy of the caller: users of one set may differ.
    ///
    /// # Errors
    ///
    /// See [`EndpointSet::pick`].
    pub fn pick_by(
        &self,
        strategy: Strategy,
        tried: &Tried<K>,
    ) -> Result<Picked<K, V, C>, PickError> {
        let endpoints = self.endpoints.load();
        if endpoints.is_empty() {
            return Err(PickError::Empty);
        }
        // Between the look and the admission another caller may take the probe: look again.
        for _ in 0..=endpoints.len() {
            let now = self.clock.now();
            let open = |index: &usize| endpoints[*index].breaker.would_admit_at(now);
            let open: Vec<usize> = (0..endpoints.len()).filter(open).collect();
            let fresh = tried.leave_out(&open, |index| &endpoints[index].key);
            let usable = if fresh.is_empty() { &open } else { &fresh };
            let index = match strategy {
                Strategy::RoundRobin => self.robin.pick(usable.len(), |_| true),
                Strategy::LeastLatency => {
                    let cost = |index: usize| endpoints[usable[index]].load.cost(now);
                    least_latency(usable.len(), |_| true, cost, (self.random)())
                }
            };
            let Some(index) = index else { break };
            if let Some(picked) = self.admit(&endpoints[usable[index]]) {
                tried.add(&picked.endpoint.key);
                return Ok(picked);
            }
        }
        self.last_resort(&endpoints, tried)
    }

    fn admit(&self, endpoint: &Arc<Endpoint<K, V, C>>) -> Option<Picked<K, V, C>> {
        let permit = endpoint.breaker.try_admit().ok();
        permit.map(|permit| self.picked(endpoint, Some(permit)))
    }

    /// Nobody admits. One that merely ramps up answers: to refuse in its place would make the ramp
    /// an outage. Otherwise the caller hears when to come back.
    fn last_resort(
        &self,
        endpoints: &[Arc<Endpoint<K, V, C>>],
        tried: &Tried<K>,
    ) -> Result<Picked<K, V, C>, PickError> {
        if let Some(ramping) = endpoints.iter().find(|one| one.state() == State::Ramping) {
            tried.add(&ramping.key);
            return Ok(self.picked(ramping, None));
        }
        let rejected = endpoints.iter().filter_map(|one| one.breaker.try_admit().err());
        let retry_after = rejected.map(|rejected| rejected.retry_after).min().unwrap_or_default();
        Err(PickError::AllRejected { retry_after })
    }

    fn picked(
        &self,
        endpoint: &Arc<Endpoint<K, V, C>>,
        permit: Option<Guard<C>>,
    ) -> Picked<K, V, C> {
        Picked {
            in_flight: endpoint.load.begin(),
            endpoint: Arc::clone(endpoint),
            permit,
            began: self.clock.now(),
            clock: self.clock.clone(),
        }
    }
}

/// How a call to a picked endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It answered, with whatever status that is the caller's concern.
    Answered,
    /// It answered after a wait that was asked for, as in a long poll: how long that took says
    /// nothing about it.
    Waited,
    /// It did not, or said that it cannot serve.
    Failed { retry_after: Option<Duration> },
}

/// An endpoint with the right to call it once. Dropped without a report, the call counts as
/// cancelled: no failure, no measurement.
#[derive(Debug)]
pub struct Picked<K, V, C: Clock = SystemClock> {
    pub endpoint: Arc<Endpoint<K, V, C>>,
    in_flight: InFlight,
    permit: Option<Guard<C>>,
    began: Instant,
    clock: C,
}

impl<K, V, C: Clock> Picked<K, V, C> {
    /// Ends the call: at the head of its answer, or when it failed.
    pub fn report(self, report: Report) {
        let now = self.clock.now();
        let (sample, outcome) = match report {
            Report::Answered => {
                (Sample::Answered(now.saturating_duration_since(self.began)), Outcome::Success)
            }
            Report::Waited => (Sample::Cancelled, Outcome::Success),
            Report::Failed { retry_after } => (Sample::Failed { retry_after }, Outcome::Failure),
        };
        self.in_flight.finish(sample, now);
        if let Some(permit) = self.permit {
            permit.record(outcome);
        }
    }
}
