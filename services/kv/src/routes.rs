//! What is answered to which request. Nothing here knows of sockets.
//!
//! | method, path | reply |
//! | --- | --- |
//! | GET `/:key` | 200 the value; 404 `Key not found` |
//! | POST `/:key` | 200 empty; logs `key=value` |
//! | GET `/` | 200 `ok`, a health check: the one path that cannot be a key, where `/healthz` can |
//!
//! A trailing `/` makes no difference; keys are percent-decoded.

use std::borrow::Cow;

use hermitage_http::{Method, Reply, Request};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::print_line;
use crate::store::Store;

/// Answers a request.
pub(crate) fn answer(store: &Store, request: &Request) -> Reply {
    match (Target::of(&request.path), request.method) {
        (Target::Root, Method::Get) => Reply::text(200, "ok"),
        (Target::Root, _) => Reply::method_not_allowed("GET, HEAD"),
        (Target::Key(key), Method::Get) => match store.get(&key) {
            Some(value) => Reply::text(200, value),
            None => Reply::text(404, "Key not found"),
        },
        (Target::Key(key), Method::Post) => put(store, &key, request),
        (Target::Key(_), Method::Other) => Reply::method_not_allowed("GET, HEAD, POST"),
        (Target::Malformed, _) => Reply::text(400, "Key is not percent-encoded UTF-8"),
        (Target::Elsewhere, _) => Reply::text(404, "Not found"),
    }
}

fn put(store: &Store, key: &str, request: &Request) -> Reply {
    let value = match value_of(request) {
        Ok(value) => value,
        Err(fault) => return Reply::text(400, fault),
    };
    if store.put(key, &value).is_err() {
        return Reply::text(507, "Store is full");
    }
    print_line(&format!("{}={}", on_one_line(key), on_one_line(&value)));
    Reply::text(200, "")
}

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Root,
    Key(String),
    Malformed,
    Elsewhere,
}

impl Target {
    fn of(path: &str) -> Self {
        let Some(path) = path.strip_prefix('/') else {
            return Self::Elsewhere;
        };
        let segment = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            Self::Root
        } else if segment.is_empty() || segment.contains('/') {
            Self::Elsewhere
        } else {
            decode(segment).map_or(Self::Malformed, Self::Key)
        }
    }
}

/// Percent-decodes a segment; a `%` without two digits, which the crate would keep, is malformed.
fn decode(segment: &str) -> Option<String> {
    let is_hex = |at: usize| segment.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if segment
        .match_indices('%')
        .any(|(at, _)| !is_hex(at + 1) || !is_hex(at + 2))
    {
        return None;
    }
    percent_decode_str(segment)
        .decode_utf8()
        .ok()
        .map(Cow::into_owned)
}

/// The `value` of a form or of a JSON object, which is what a body is taken for if it is not called a form.
fn value_of(request: &Request) -> Result<String, String> {
    let value = if request.content_type == "application/x-www-form-urlencoded" {
        let fields = form_urlencoded::parse(&request.body);
        let mut values = fields
            .filter(|(name, _)| name == "value")
            .map(|(_, value)| value.into_owned());
        values.next().ok_or("Form has no field `value`")?
    } else {
        let body =
            serde_json::from_slice(&request.body).map_err(|error| format!("Body is not JSON: {error}"))?;
        match body {
            Value::Object(mut fields) => match fields.remove("value") {
                Some(Value::String(value)) => value,
                Some(_) => return Err("`value` is not a string".to_owned()),
                None => return Err("Body has no `value`".to_owned()),
            },
            _ => return Err("Body is not a JSON object".to_owned()),
        }
    };
    // Stored, it would read like the answer to a key that nobody registered in the original.
    if value.is_empty() {
        return Err("`value` is empty".to_owned());
    }
    Ok(value)
}

/// A log line must stay one line, whatever a client calls its keys.
fn on_one_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.escape_debug().to_string())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_percent_decoded_with_or_without_a_trailing_slash() {
        let key = |text: &str| Target::Key(text.to_owned());
        for (path, target) in [
            ("/", Target::Root),
            ("/a", key("a")),
            ("/a/", key("a")),
            ("/a%20b%2Fc", key("a b/c")),
            ("/%C3%BC+1", key("ü+1")),
            ("/toString", key("toString")),
            ("/..", key("..")),
            ("//", Target::Elsewhere),
            ("/a/b", Target::Elsewhere),
            ("/a//", Target::Elsewhere),
            ("*", Target::Elsewhere),
            ("/%", Target::Malformed),
            ("/%2", Target::Malformed),
            ("/%+1", Target::Malformed),
            ("/%ff", Target::Malformed),
        ] {
            assert_eq!(Target::of(path), target, "{path}");
        }
    }

    #[test]
    fn a_log_entry_stays_on_one_line() {
        assert_eq!(on_one_line("10.0.2.15:9001"), "10.0.2.15:9001");
        assert_eq!(on_one_line("a\nb=c"), "a\\nb=c");
    }
}
