//! What other members reach, on the peer listener.

use axum::Router;
use raft_node::PeerService;

/// Where members talk to each other.
const PATHS: &str = "/peer/v1/{*path}";

pub(crate) fn router(service: PeerService) -> Router {
    Router::new().route_service(PATHS, service)
}
