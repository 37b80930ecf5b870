//! Compatible faces: paths under which, and headers with which, problems take the form that another
//! protocol gives them.
//!
//! A service cannot shape what is refused before a handler of its own runs: too large, too much
//! to do, too late, no such path. It says here, once, how such a refusal looks.

use std::sync::{Arc, OnceLock};

use api::problem::ProblemDetails;
use axum::response::Response;
use http::{HeaderMap, header};

/// Turns a problem into the answer of a face.
pub type Render = fn(&ProblemDetails) -> Response;

/// Path prefixes and headers with their forms. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faces(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    paths: OnceLock<Vec<(&'static str, Render)>>,
    /// The name is lower case.
    header: OnceLock<(&'static str, Render)>,
}

impl Faces {
    /// From now on problems at and below these paths are rendered so. It counts once per process:
    /// a service says it first of all, before it opens anything.
    pub fn set(&self, faces: impl IntoIterator<Item = (&'static str, Render)>) {
        let _ = self.0.paths.set(faces.into_iter().collect());
    }

    /// The same for every request that has this header, at any path that has no form of its own.
    /// The name is lower case.
    pub fn set_header(&self, name: &'static str, render: Render) {
        let _ = self.0.header.set((name, render));
    }

    /// How problems look to a request, if not as our own.
    pub(crate) fn of(&self, path: &str, headers: &HeaderMap) -> Option<Render> {
        let by_header = || self.0.header.get().filter(|(name, _)| headers.contains_key(*name));
        self.at(path).or_else(|| by_header().map(|(_, render)| *render))
    }

    fn at(&self, path: &str) -> Option<Render> {
        let below = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.paths.get()?.iter().find(|(prefix, _)| below(prefix)).map(|(_, render)| *render)
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

    #[test]
    fn a_header_makes_a_face_where_the_path_has_none() {
        let faces = Faces::default();
        faces.set_header("x-amz-target", |_| http::StatusCode::IM_A_TEAPOT.into_response());
        let mut headers = HeaderMap::new();
        assert!(faces.of("/", &headers).is_none());
        headers.insert("x-amz-target", http::HeaderValue::from_static("any"));
        assert!(faces.of("/", &headers).is_some());
    }
}
