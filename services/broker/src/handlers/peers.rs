//! What other brokers reach.

use std::convert::Infallible;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::Response;
use axum::routing::{Route, post};
use chassis::problem::Problem;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use raft_node::PeerService;
use tower::{Service, service_fn};

use crate::route::{self, Late};

/// Where members of groups talk to each other.
const MEMBERS: &str = "/peer/v1/{*path}";

/// Operations for each other, and the members of groups.
pub(crate) fn router(late: &Late, members: PeerService) -> Router {
    Router::new()
        .route(route::PATH, post(serve))
        .layer(DefaultBodyLimit::max(route::MAX_BYTES))
        .with_state(late.clone())
        .route_service(MEMBERS, members)
}

type Answer = ([(HeaderName, HeaderValue); 1], Vec<u8>);

async fn serve(State(late): State<Late>, body: Bytes) -> Result<Answer, Problem> {
    let answer = route::serve(&late, &body).await?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static(route::MEDIA_TYPE))], answer))
}

/// Puts the name of the broker that answered into the response. Without one it is this one.
pub(super) fn name_who_answered(
    mut inner: Route,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync
{
    service_fn(move |request: Request| {
        let work = route::who_answers(inner.call(request));
        async move {
            let (outcome, name) = work.await;
            let mut response = outcome?;
            if let Some(name) = name
                && let Ok(name) = HeaderValue::from_str(&name)
            {
                response.headers_mut().insert(HeaderName::from_static(api::headers::NODE), name);
            }
            Ok(response)
        }
    })
}
