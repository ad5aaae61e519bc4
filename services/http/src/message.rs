//! Requests and replies as values.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`, and `HEAD`, whose reply goes out without its body.
    Get,
    /// `POST`.
    Post,
    /// Any other.
    Other,
}

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// The path as it was sent: percent-encoded, without the query, with its leading `/`.
    pub path: String,
    /// What follows the first `?`, if there is one.
    pub query: Option<String>,
    /// The body's media type in lower case, without parameters; empty if the client gave none.
    pub content_type: String,
    /// The parameter `boundary` of the content type: between the parts of a `multipart/form-data` body.
    pub boundary: Option<String>,
    /// The body; empty if there is none, or if the handler reads it as a stream.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a parameter of the query, as it was sent.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let parameters = self.query.as_deref()?.split('&');
        parameters
            .filter_map(|parameter| parameter.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// The body of a reply.
pub enum Payload {
    /// Bytes that are there.
    Bytes(Bytes),
    /// Bytes that are read while they are sent.
    Stream {
        /// How many, if that is known. A source that gives fewer ends the connection.
        length: Option<u64>,
        /// Where they come from.
        source: Box<dyn Read + Send>,
    },
}

/// Bytes of which nobody makes a copy to send them.
#[derive(Clone)]
pub enum Bytes {
    /// Of this reply alone.
    Owned(Cow<'static, [u8]>),
    /// Of others, too.
    Shared(Arc<[u8]>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Payload {
    /// The number of bytes, if it is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Stream { length, .. } => *length,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Self::Stream { length, .. } => write!(f, "a stream of {length:?} bytes"),
        }
    }
}

/// A reply.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Value of `content-type`.
    pub content_type: &'static str,
    /// Value of `allow`, which a 405 must have.
    pub allow: Option<&'static str>,
    /// Further header fields: names in lower case, values on one line.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Payload,
}

impl Reply {
    /// A reply of plain text.
    pub fn text(status: u16, text: impl Into<Cow<'static, str>>) -> Self {
        let body = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self::new(
            status,
            "text/plain; charset=utf-8",
            Payload::Bytes(Bytes::Owned(body)),
        )
    }

    /// A reply with a body of any kind.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: Payload) -> Self {
        Self {
            status,
            content_type,
            allow: None,
            fields: Vec::new(),
            body,
        }
    }

    /// The reply with one more header field. `value` must be one line; what is not goes out as a space.
    #[must_use]
    pub fn with_field(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        let value = value.to_string().replace(|c: char| c.is_control(), " ");
        self.fields.push((name, value));
        self
    }

    /// 405, with the methods that the resource has.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::text(405, "Method not allowed")
        }
    }

    /// The head of the reply, up to and with the empty line.
    pub(crate) fn encode_head(&self, chunked: bool, close: bool) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {}\r\n",
            self.status,
            reason(self.status),
            self.content_type,
        );
        if let Some(length) = self.body.length() {
            head.push_str(&format!("content-length: {length}\r\n"));
        } else if chunked {
            head.push_str("transfer-encoding: chunked\r\n");
        }
        if let Some(allow) = self.allow {
            head.push_str("allow: ");
            head.push_str(allow);
            head.push_str("\r\n");
        }
        for (name, value) in &self.fields {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        if close {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// The reason phrase of a status; clients must not depend on it, people read it.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        303 => "See Other",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(reply: &Reply, chunked: bool, close: bool) -> String {
        String::from_utf8(reply.encode_head(chunked, close)).unwrap()
    }

    #[test]
    fn a_last_reply_says_so() {
        let text = head(&Reply::method_not_allowed("GET"), false, true);
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(text.contains("\r\nallow: GET\r\n"));
        assert!(text.contains("\r\nconnection: close\r\n"));
    }

    #[test]
    fn a_length_that_is_not_known_is_not_told() {
        let stream = |length| Payload::Stream {
            length,
            source: Box::new(std::io::empty()),
        };
        let known = head(&Reply::new(200, "image/png", stream(Some(5))), false, false);
        assert!(known.contains("\r\ncontent-length: 5\r\n") && !known.contains("chunked"));
        let unknown = head(&Reply::new(200, "image/png", stream(None)), true, false);
        assert!(
            !unknown.contains("content-length") && unknown.contains("\r\ntransfer-encoding: chunked\r\n")
        );
    }

    #[test]
    fn a_field_stays_on_its_line() {
        let text = head(
            &Reply::text(200, "").with_field("x-a", "1\r\nx-b: 2"),
            false,
            false,
        );
        assert!(text.contains("\r\nx-a: 1  x-b: 2\r\n"), "{text}");
    }
}
