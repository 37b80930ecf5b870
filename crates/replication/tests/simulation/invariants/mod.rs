//! What must hold after every step. A property a file; each remembers the whole run.

mod acknowledged;
mod commit;
mod convergence;
mod digest;
mod one_history;

use crate::cluster::Cluster;

#[derive(Default)]
pub(crate) struct Invariants {
    one_history: one_history::OneHistory,
    commit: commit::Commit,
    digest: digest::EqualDigests,
}

impl Invariants {
    pub(crate) fn check(&mut self, cluster: &Cluster) -> Result<(), String> {
        self.one_history.check(cluster)?;
        self.commit.check(cluster)?;
        self.digest.check(cluster)?;
        acknowledged::check(cluster, &self.commit)
    }

    pub(crate) fn check_healed(&self, cluster: &Cluster) -> Result<(), String> {
        convergence::check(cluster)?;
        acknowledged::check_survived(cluster)
    }
}
