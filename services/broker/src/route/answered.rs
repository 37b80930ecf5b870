//! Which broker answered a request: the one that had the group, if there was one such.

use std::cell::RefCell;
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};

tokio::task_local! {
    static ANSWERED: RefCell<Answered>;
}

#[derive(Default)]
enum Answered {
    #[default]
    Nobody,
    One(Arc<str>),
    Several,
}

/// Part of the answer came from this broker.
pub(super) fn note(name: &Arc<str>) {
    // Work of the keepers belongs to no request.
    let _ = ANSWERED.try_with(|answered| {
        let mut answered = answered.borrow_mut();
        *answered = match std::mem::take(&mut *answered) {
            Answered::Nobody => Answered::One(name.clone()),
            Answered::One(one) if one == *name => Answered::One(one),
            _ => Answered::Several,
        };
    });
}

/// Puts the name of the broker that answered into the response. Without one it is this one.
pub(crate) async fn name_who_answered(request: Request, next: Next) -> Response {
    let work = async {
        let response = next.run(request).await;
        (response, ANSWERED.with(RefCell::take))
    };
    let (mut response, answered) = ANSWERED.scope(RefCell::default(), work).await;
    if let Answered::One(name) = answered
        && let Ok(name) = HeaderValue::from_str(&name)
    {
        response.headers_mut().insert(HeaderName::from_static(api::headers::NODE), name);
    }
    response
}
