//! What peers reach before the broker serves: members of the catalog must talk to each other to
//! begin.

use std::sync::{Arc, OnceLock};

use crate::broker::Broker;

/// A broker that is to come.
#[derive(Clone, Default)]
pub(crate) struct Late(Arc<OnceLock<Broker>>);

impl Late {
    /// Here it is.
    pub(crate) fn set(&self, broker: &Broker) {
        // It is the same one.
        let _ = self.0.set(broker.clone());
    }

    pub(super) fn get(&self) -> Option<&Broker> {
        self.0.get()
    }
}
