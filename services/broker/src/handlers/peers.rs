//! What other brokers reach.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::post;
use chassis::problem::Problem;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use raft_node::PeerService;

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
pub(super) async fn name_who_answered(request: Request, next: Next) -> Response {
    let (mut response, name) = route::who_answers(next.run(request)).await;
    if let Some(name) = name
        && let Ok(name) = HeaderValue::from_str(&name)
    {
        response.headers_mut().insert(HeaderName::from_static(api::headers::NODE), name);
    }
    response
}
