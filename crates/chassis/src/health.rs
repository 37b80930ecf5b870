//! Health: `/livez` says the process answers, `/readyz` that it can serve.
//!
//! **Invariant:** liveness depends on nothing but this process. A check that needs a quorum, a
//! leader or a disk belongs to readiness: a restart would not bring any of them back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The named readiness checks of a server. Clones share them.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<String, Probe>>>,
}

/// Looks and answers at once; the error says what is missing.
type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// One named check whose owner reports its state.
#[derive(Clone, Debug)]
pub struct Check {
    state: Arc<Mutex<Result<(), String>>>,
}

/// A check and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check's name.
    pub name: String,
    /// Why it fails, if it does.
    pub failure: Option<String>,
}

impl Health {
    /// A check that fails with `reason` until its owner says otherwise.
    pub fn check(&self, name: impl Into<String>, reason: impl Into<String>) -> Check {
        let check = Check { state: Arc::new(Mutex::new(Err(reason.into()))) };
        let state = Arc::clone(&check.state);
        self.probe(name, move || lock(&state).clone());
        check
    }

    /// A check that looks each time it is asked. It must answer at once and never block.
    pub fn probe(
        &self,
        name: impl Into<String>,
        probe: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        lock(&self.checks).insert(name.into(), Arc::new(probe));
    }

    /// Asks every check, in the order of their names.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let probes: Vec<_> =
            lock(&self.checks).iter().map(|(name, probe)| (name.clone(), probe.clone())).collect();
        let ask = |(name, probe): (String, Probe)| Finding { name, failure: probe().err() };
        probes.into_iter().map(ask).collect()
    }

    /// Whether every check passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.findings().iter().all(|finding| finding.failure.is_none())
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.findings()).finish()
    }
}

impl Check {
    /// From now on it passes.
    pub fn pass(&self) {
        *lock(&self.state) = Ok(());
    }

    /// From now on it fails; `reason` is shown to whoever asks.
    pub fn fail(&self, reason: impl Into<String>) {
        *lock(&self.state) = Err(reason.into());
    }

    /// Passes on `Ok`, fails on `Err`.
    pub fn set(&self, state: Result<(), String>) {
        *lock(&self.state) = state;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_every_check_passes() {
        let health = Health::default();
        assert!(health.is_ready());
        let leader = health.check("leader", "no leader yet");
        health.probe("disk", || Ok(()));
        let failure = Some("no leader yet".to_owned());
        assert_eq!(health.findings()[1], Finding { name: "leader".into(), failure });
        assert!(!health.is_ready());
        leader.pass();
        assert!(health.is_ready());
    }
}
