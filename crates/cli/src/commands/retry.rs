//! How failed messages wait, as flags.

use api::broker::Retry;

#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// How long a failed message waits; twice as long after each failure.
    #[arg(long, value_name = "MS")]
    retry_initial_ms: Option<u64>,
    /// But never longer than this.
    #[arg(long, value_name = "MS")]
    retry_max_ms: Option<u64>,
    /// Instead: how long after the first, the second, … failure.
    #[arg(long, value_name = "MS,…", value_delimiter = ',',
        conflicts_with_all = ["retry_initial_ms", "retry_max_ms"])]
    retry_delays_ms: Vec<u64>,
}

impl RetryArgs {
    /// None, if nothing was said.
    pub(crate) fn retry(&self) -> Option<Retry> {
        let retry = Retry {
            initial_ms: self.retry_initial_ms.unwrap_or(0),
            max_ms: self.retry_max_ms.unwrap_or(0),
            delays_ms: self.retry_delays_ms.clone(),
        };
        (retry != Retry::default()).then_some(retry)
    }
}
