//! Requests and replies as values.

use std::borrow::Cow;

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
    /// The body; empty if there is none.
    pub body: Vec<u8>,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Value of `content-type`.
    pub content_type: &'static str,
    /// Value of `allow`, which a 405 must have.
    pub allow: Option<&'static str>,
    /// The body.
    pub body: Cow<'static, [u8]>,
}

impl Reply {
    /// A reply of plain text.
    pub fn text(status: u16, text: impl Into<Cow<'static, str>>) -> Self {
        let body = match text.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            allow: None,
            body,
        }
    }

    /// 405, with the methods that the resource has.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::text(405, "Method not allowed")
        }
    }

    /// The bytes of the reply. A client that sent `HEAD` wants everything but the body.
    pub(crate) fn encode(&self, head_only: bool, close: bool) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len()
        );
        if let Some(allow) = self.allow {
            head.push_str("allow: ");
            head.push_str(allow);
            head.push_str("\r\n");
        }
        if close {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// The reason phrase of a status; clients must not depend on it, people read it.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reply_has_the_length_but_not_the_body() {
        let reply = Reply::text(200, "abc");
        let full = String::from_utf8(reply.encode(false, false)).unwrap();
        let head = String::from_utf8(reply.encode(true, false)).unwrap();
        assert!(head.contains("content-length: 3\r\n"));
        assert_eq!(full, format!("{head}abc"));
    }

    #[test]
    fn a_last_reply_says_so() {
        let text = String::from_utf8(Reply::method_not_allowed("GET").encode(false, true)).unwrap();
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(text.contains("\r\nallow: GET\r\n"));
        assert!(text.contains("\r\nconnection: close\r\n"));
    }
}
