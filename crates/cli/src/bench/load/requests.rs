//! Requests that are built before the clock runs.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rand::Rng;
use rand::rngs::StdRng;

use super::Answer;

/// Equally likely requests of one kind, and what a good answer to them is.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    pub(crate) templates: Vec<Request<Full<Bytes>>>,
    /// A shorter body cannot hold what was asked for.
    pub(crate) min_body: usize,
}

impl Requests {
    pub(crate) fn pick(&self, random: &mut StdRng) -> Request<Full<Bytes>> {
        self.templates[random.random_range(0..self.templates.len())].clone()
    }

    pub(crate) fn accepts(&self, answer: &Answer) -> bool {
        answer.status.is_success() && self.min_body <= answer.body.len()
    }
}
