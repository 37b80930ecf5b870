//! Path and query parameters.

use api::problem::Code;
use axum::extract::rejection::PathRejection;
use axum::extract::{self, FromRequestParts};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The path's parameters, percent-decoded and checked by `T`.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(extract::Path(value)) => Ok(Self(value)),
            // A route that does not bind what its handler asks for: ours, not the caller's.
            Err(error @ PathRejection::MissingPathParams(_)) => Err(Problem::internal(&error)),
            Err(error) if error.status().is_server_error() => Err(Problem::internal(&error)),
            Err(error) => {
                let detail = format!("the path does not fit: {}", error.body_text());
                Err(Problem::new(Code::InvalidRequest, detail))
            }
        }
    }
}

/// The query string's parameters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(extract::Query(value)) => Ok(Self(value)),
            Err(error) => {
                let text = error.body_text();
                let cause = text.strip_prefix("Failed to deserialize query string: ");
                let detail = format!("the query does not fit: {}", cause.unwrap_or(&text));
                Err(Problem::new(Code::InvalidRequest, detail))
            }
        }
    }
}
