//! Requests that are built before the clock runs.

use bytes::Bytes;
use http::Request;
use rand::Rng;
use rand::rngs::StdRng;

use super::Answer;
use super::exchange::Written;

/// Equally likely requests of one kind, and what a good answer to them is.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    templates: Vec<Written>,
    /// A shorter body cannot hold what was asked for.
    min_body: usize,
}

impl Requests {
    pub(crate) fn new(requests: impl IntoIterator<Item = Request<Bytes>>, min_body: usize) -> Self {
        let templates = requests.into_iter().map(|request| Written::new(&request)).collect();
        Self { templates, min_body }
    }

    pub(super) fn pick(&self, random: &mut StdRng) -> &Written {
        &self.templates[random.random_range(0..self.templates.len())]
    }

    pub(super) fn accepts(&self, answer: &Answer) -> bool {
        answer.status.is_success() && self.min_body <= answer.body.len()
    }
}
