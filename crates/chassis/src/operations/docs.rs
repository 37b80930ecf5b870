//! `/docs`: the OpenAPI document as one page, without a script, a font or a request elsewhere.

use std::fmt::Write as _;

use serde_json::Value;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem;color:#1b1b1f;background:#fff}h2{margin-top:2rem;border-bottom:1px solid #ccc}\
details{margin:.4rem 0;padding:.4rem .8rem;border:1px solid #ddd;border-radius:.4rem}\
summary{cursor:pointer}code{font:14px ui-monospace,monospace}b{display:inline-block;width:4.5rem}\
table{border-collapse:collapse;margin:.5rem 0}td{padding:.1rem .8rem .1rem 0;vertical-align:top}\
@media(prefers-color-scheme:dark){body{color:#e6e6ea;background:#17171b}\
details{border-color:#444}a{color:#9bf}}";

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "patch", "head", "options"];

/// Lists every operation by tag.
pub(super) fn page(service: &str, document: &Value) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>quartet-{service}</title><style>{STYLE}</style><h1>quartet-{service}</h1>"
    );
    if let Some(description) = document["info"]["description"].as_str() {
        let _ = write!(page, "<p>{}</p>", escape(description));
    }
    page.push_str("<p>For programs: <a href=\"/openapi.json\">/openapi.json</a></p>");
    for (tag, operations) in by_tag(document) {
        let _ = write!(page, "<h2>{}</h2>", escape(&tag));
        for (method, path, operation) in operations {
            write_operation(&mut page, method, path, operation);
        }
    }
    page
}

type Operation<'a> = (&'static str, &'a str, &'a Value);

fn by_tag(document: &Value) -> Vec<(String, Vec<Operation<'_>>)> {
    let mut tags: Vec<(String, Vec<Operation<'_>>)> = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            let tag = operation["tags"][0].as_str().unwrap_or("api").to_owned();
            let entry = (method, path.as_str(), operation);
            match tags.iter_mut().find(|(name, _)| *name == tag) {
                Some((_, operations)) => operations.push(entry),
                None => tags.push((tag, vec![entry])),
            }
        }
    }
    // The service's own operations come first.
    tags.sort_by_key(|(tag, _)| tag == "operations");
    tags
}

fn write_operation(page: &mut String, method: &str, path: &str, operation: &Value) {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let _ = write!(
        page,
        "<details><summary><b><code>{}</code></b><code>{}</code> {}</summary>",
        method.to_uppercase(),
        escape(path),
        text(&operation["summary"])
    );
    if let Some(description) = operation["description"].as_str() {
        let _ = write!(page, "<p>{}</p>", escape(description).replace('\n', "<br>"));
    }
    page.push_str("<table>");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let _ = write!(
            page,
            "<tr><td>{}</td><td><code>{}</code></td><td>{}</td></tr>",
            text(&parameter["in"]),
            text(&parameter["name"]),
            text(&parameter["description"])
        );
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let description = text(&response["description"]);
        let _ = write!(page, "<tr><td>answers</td><td>{status}</td><td>{description}</td></tr>");
    }
    page.push_str("</table></details>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_operation_is_listed_and_text_is_escaped() {
        let document = json!({ "info": { "title": "t", "version": "0" }, "paths": {
            "/v1/kv/{key}": { "put": { "summary": "Store <b>", "responses": {} } } } });
        let page = page("replica", &document);
        assert!(page.contains("<code>PUT</code></b><code>/v1/kv/{key}</code> Store &lt;b&gt;"));
        assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    }
}
