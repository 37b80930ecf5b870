//! From a call's `data` to the request of a registered method.

use std::collections::BTreeMap;

use api::gateway::MethodSpec;
use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use serde_json::Value;
use serde_json::value::RawValue;

use super::template::{FillError, Template, encode, plain_value};

/// What is sent to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    pub method: Method,
    pub uri: Uri,
    pub content_type: Option<HeaderValue>,
    pub body: Bytes,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error(transparent)]
    Fill(#[from] FillError),
    #[error("data must be an object, because its fields go into the path or the query")]
    NotAnObject,
    #[error(
        "the field `{0}` of data goes into the query and must be text, a number or a list of them"
    )]
    NotForQuery(String),
    #[error("the path and query that data makes are too long")]
    TooLong,
}

/// JSON, as bodies are.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Builds the request of one call.
pub(crate) fn build(
    spec: &MethodSpec,
    template: &Template,
    data: Option<&RawValue>,
) -> Result<Built, BuildError> {
    let needs_fields = template.fields().next().is_some();
    let fields = match data {
        Some(data) if needs_fields || !spec.http_method.has_body() => object(data)?,
        _ => BTreeMap::new(),
    };
    let mut target = template.fill(&fields)?;
    let has_body = spec.http_method.has_body();
    if !has_body {
        append_query(&mut target, template, &fields)?;
    }
    let uri = target.parse().map_err(|_| BuildError::TooLong)?;
    let method = spec.http_method.as_str().parse().expect("these are methods of HTTP");
    let body = data.filter(|_| has_body).map(|data| Bytes::from(data.get().to_owned()));
    Ok(Built {
        method,
        uri,
        content_type: body.is_some().then_some(JSON),
        body: body.unwrap_or_default(),
    })
}

fn object(data: &RawValue) -> Result<BTreeMap<String, Value>, BuildError> {
    if data.get() == "null" {
        return Ok(BTreeMap::new());
    }
    serde_json::from_str(data.get()).map_err(|_| BuildError::NotAnObject)
}

/// The fields that are not in the path, as parameters; a list repeats its name.
fn append_query(
    target: &mut String,
    template: &Template,
    fields: &BTreeMap<String, Value>,
) -> Result<(), BuildError> {
    let mut separator = '?';
    for (name, value) in fields {
        if template.fields().any(|field| field == name) || value.is_null() {
            continue;
        }
        let values = match value {
            Value::Array(values) => values.as_slice(),
            single => std::slice::from_ref(single),
        };
        for value in values {
            let text = plain_value(value).ok_or_else(|| BuildError::NotForQuery(name.clone()))?;
            target.push(separator);
            separator = '&';
            target.push_str(&encode(name));
            target.push('=');
            target.push_str(&encode(&text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(http_method: &str, path: &str, data: Option<&str>) -> Result<Built, BuildError> {
        let spec = format!(r#"{{"service":"s","path":"{path}","http_method":"{http_method}"}}"#);
        let spec: MethodSpec = serde_json::from_str(&spec).unwrap();
        let data = data.map(|data| RawValue::from_string(data.to_owned()).unwrap());
        build(&spec, &Template::parse(&spec.path).unwrap(), data.as_deref())
    }

    #[test]
    fn a_body_is_the_data_byte_for_byte() {
        let built = request("POST", "/p/{a}", Some(r#"{"a": 1.00, "b":[ 2 ]}"#)).unwrap();
        assert_eq!(built.uri, "/p/1.0");
        assert_eq!(built.body, r#"{"a": 1.00, "b":[ 2 ]}"#);
        assert_eq!(built.content_type, Some(JSON));
        let built = request("POST", "/p", Some("[1]")).unwrap();
        assert_eq!(built.body, "[1]");
        let built = request("PUT", "/p", None).unwrap();
        assert_eq!((built.body.len(), built.content_type), (0, None));
    }

    #[test]
    fn what_is_read_gets_its_data_in_the_query() {
        let built = request("GET", "/p/{a}", Some(r#"{"a":"x","q":"a&b","n":[1,2],"z":null}"#));
        let built = built.unwrap();
        assert_eq!(built.uri, "/p/x?n=1&n=2&q=a%26b");
        assert!(built.body.is_empty());
        assert_eq!(request("DELETE", "/p", Some("null")).unwrap().uri, "/p");
    }

    #[test]
    fn data_of_the_wrong_form_is_refused() {
        assert!(matches!(request("GET", "/p", Some("[1]")), Err(BuildError::NotAnObject)));
        assert!(matches!(request("POST", "/{a}", Some("7")), Err(BuildError::NotAnObject)));
        let nested = request("GET", "/p", Some(r#"{"q":{"r":1}}"#));
        assert!(matches!(nested, Err(BuildError::NotForQuery(name)) if name == "q"));
        assert!(matches!(request("POST", "/{a}", None), Err(BuildError::Fill(_))));
    }
}
