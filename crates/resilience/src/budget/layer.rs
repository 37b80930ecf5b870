//! A budget with its clock, as callers hold it.

use std::sync::Arc;

use super::{Budget, Config};
use crate::{Clock, SystemClock};

/// One service's budget. Clones share it.
#[derive(Clone, Debug)]
pub struct BudgetHandle<C = SystemClock> {
    budget: Arc<Budget>,
    clock: C,
}

impl<C: Clock> BudgetHandle<C> {
    /// An empty budget that begins now.
    #[must_use]
    pub fn new(config: Config, clock: C) -> Self {
        Self { budget: Arc::new(Budget::new(config, clock.now())), clock }
    }

    /// See [`Budget::record_request`].
    pub fn record_request(&self) {
        self.budget.record_request(self.clock.now());
    }

    /// See [`Budget::try_take`].
    #[must_use]
    pub fn try_take(&self) -> bool {
        self.budget.try_take(self.clock.now())
    }

    /// See [`Budget::left`].
    #[must_use]
    pub fn left(&self) -> u64 {
        self.budget.left(self.clock.now())
    }
}
