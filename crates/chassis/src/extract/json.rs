//! JSON in and out.

use api::problem::Code;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::read;
use crate::problem::Problem;

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON body: decoded from a request, or encoded into a response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        check_content_type(request.headers())?;
        let body = read(request).await?;
        check_object(&body)?;
        decode(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => ([(header::CONTENT_TYPE, APPLICATION_JSON)], text).into_response(),
            Err(error) => Problem::internal(&error).into_response(),
        }
    }
}

/// A JSON document that is encoded already.
#[derive(Clone, Debug)]
pub struct JsonBytes(pub Bytes);

impl IntoResponse for JsonBytes {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, APPLICATION_JSON)], self.0).into_response()
    }
}

/// An absent body, as from `curl -X POST`, is the default of its type.
impl<T: DeserializeOwned + Default, S: Send + Sync> axum::extract::OptionalFromRequest<S>
    for Json<T>
{
    type Rejection = Problem;

    async fn from_request(mut request: Request, _state: &S) -> Result<Option<Self>, Problem> {
        let headers = std::mem::take(request.headers_mut());
        let body = read(request).await?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        check_content_type(&headers)?;
        check_object(&body)?;
        decode(&body).map(Self).map(Some)
    }
}

/// JSON by its name, or no name, or the one that `curl -d` gives to everything. The last is what a
/// web page may send across origins without asking, so it is refused from browsers.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().ok().and_then(|text| text.split(';').next()).unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    let from_browser = headers.contains_key("sec-fetch-site") || headers.contains_key("origin");
    let accepted = essence == "application/json"
        || essence.ends_with("+json")
        || (essence == "application/x-www-form-urlencoded" && !from_browser);
    if accepted {
        return Ok(());
    }
    let detail = "send the body as JSON with the header `content-type: application/json`";
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

/// Every request of ours is an object. Serde would take an array as its fields, in order.
fn check_object(body: &[u8]) -> Result<(), Problem> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => {
            let detail = "the body is a JSON array; send an object with named fields";
            Err(Problem::new(Code::InvalidJson, detail))
        }
        _ => Ok(()),
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Err(Problem::new(Code::InvalidJson, "the body is empty; send a JSON document"));
    }
    serde_json::from_slice(body).map_err(|error| {
        // Serde quotes what it met. What it met may be long.
        let cause: String = error.to_string().chars().take(200).collect();
        Problem::new(Code::InvalidJson, format!("the body does not fit: {cause}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], accepted: bool) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        assert_eq!(check_content_type(&map).is_ok(), accepted, "{headers:?}");
    }

    #[test]
    fn json_is_taken_under_the_names_that_tools_give_it() {
        check(&[], true);
        check(&[("content-type", "application/json; charset=utf-8")], true);
        check(&[("content-type", "application/cloudevents+json")], true);
        let form = ("content-type", "application/x-www-form-urlencoded");
        check(&[form], true);
        check(&[form, ("sec-fetch-site", "cross-site")], false);
        check(&[("content-type", "text/plain")], false);
    }

    #[test]
    fn fields_have_names() {
        assert!(check_object(b" [1, 2]").is_err());
        assert!(check_object(b" {}").is_ok());
    }

    #[test]
    fn a_decoding_error_names_the_place_and_stays_short() {
        let error = decode::<Vec<u8>>(b"[1,\n2,]").unwrap_err();
        assert!(error.details().detail.contains("line 2"), "{error}");
        let long = format!("{:?}", "x".repeat(10_000));
        let error = decode::<u8>(long.as_bytes()).unwrap_err();
        assert!(error.details().detail.len() < 300);
    }
}
