//! Messages on their way from the machine to a consumer.
//!
//! Between the moment a message is held for a consumer and the moment its response is handed to
//! the connection, the consumer may leave. Then the message goes back at once, and the delivery
//! does not count: nobody saw it.

use std::sync::Arc;

use messaging::dispatch::Taken;

use crate::directory::Returned;
use crate::route::Port;

/// Taken messages. Dropped before [`Handed::deliver`], they go back.
#[derive(Debug)]
pub(crate) struct Handed<K: Copy, M> {
    of: K,
    taken: Vec<Taken>,
    returned: Arc<Returned<K>>,
    port: Arc<Port<M>>,
}

impl<K: Copy, M> Handed<K, M> {
    pub(crate) fn new(
        of: K,
        taken: Vec<Taken>,
        returned: Arc<Returned<K>>,
        port: Arc<Port<M>>,
    ) -> Self {
        Self { of, taken, returned, port }
    }

    pub(crate) fn taken(&self) -> &[Taken] {
        &self.taken
    }

    /// The first `count` are the consumer's now; the others go back. Either way the keeper is
    /// told: progress is to be reported.
    pub(crate) fn deliver(mut self, count: usize) {
        self.taken.drain(..count.min(self.taken.len()));
        if self.taken.is_empty() {
            self.port.keeper.notify_one();
        }
    }
}

impl<K: Copy, M> Drop for Handed<K, M> {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            self.returned.put(self.of, std::mem::take(&mut self.taken));
            self.port.keeper.notify_one();
        }
    }
}
