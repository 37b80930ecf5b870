//! Compatible faces: paths under which problems take the form that another protocol gives them.
//!
//! A service cannot shape what is refused before a handler of its own runs: too large, too much
//! to do, too late, no such path. It says here, once, how such a refusal looks.

use std::sync::{Arc, OnceLock};

use api::problem::ProblemDetails;
use axum::response::Response;
use http::header;

/// Turns a problem into the answer of a face.
pub type Render = fn(&ProblemDetails) -> Response;

/// Path prefixes with their forms. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faces(Arc<OnceLock<Vec<(&'static str, Render)>>>);

impl Faces {
    /// From now on problems at and below these paths are rendered so. It counts once per process:
    /// a service says it first of all, before it opens anything.
    pub fn set(&self, faces: impl IntoIterator<Item = (&'static str, Render)>) {
        let _ = self.0.set(faces.into_iter().collect());
    }

    /// How problems look at `path`, if not as our own.
    pub(crate) fn at(&self, path: &str) -> Option<Render> {
        let below = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.get()?.iter().find(|(prefix, _)| below(prefix)).map(|(_, render)| *render)
    }
}

/// Replaces a problem. What tells a client when or how to ask again stays.
pub(crate) fn present(response: &mut Response, details: &ProblemDetails, render: Render) {
    let mut presented = render(details);
    for name in [header::RETRY_AFTER, header::ALLOW] {
        if let Some(value) = response.headers_mut().remove(&name) {
            presented.headers_mut().insert(name, value);
        }
    }
    *response = presented;
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn a_face_begins_at_its_path_and_not_at_a_longer_name() {
        let faces = Faces::default();
        assert!(faces.at("/v3").is_none());
        faces.set([("/v3", (|_| ().into_response()) as Render)]);
        for (path, has_face) in
            [("/v3", true), ("/v3/", true), ("/v3/kv/put", true), ("/v3beta", false), ("/", false)]
        {
            assert_eq!(faces.at(path).is_some(), has_face, "{path}");
        }
    }
}
