//! One connection: bytes to requests, replies to bytes.
//!
//! ```text
//! read head -> handler, which reads the body -> reply -+-> read head ...   keep-alive, pipelined requests included
//!     |            |                                   |-> close           `connection: close`, HTTP/1.0
//!     |            |                                   `-> linger, close   the handler left some of the body
//!     |            `-> refuse (400, 413, 431), linger, close
//!     `-> refuse (400, 431, 501), linger, close
//! ```
//! Failure paths: the client goes away or falls silent (the connection is dropped without a reply); the handler
//! cannot fail, it returns a reply.

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::body::{self, Body, Framing, Source};
use crate::message::{Method, Payload, Reply, Request};

/// Most bytes of a request's line and header fields. Twice what browsers send; the same as nginx's default.
pub const MAX_HEAD: usize = 8 * 1024;

/// Most header fields of a request, as in the web servers that bound it (Apache and hyper: 100).
const MAX_FIELDS: usize = 100;

/// Most bytes that are read and thrown away after a refusal, so that the client, which may still be sending, sees
/// the reply and not a reset: four times the largest upload that a service takes. They cost time alone, which a
/// client can have with requests that are not refused, too.
const MAX_LINGER: usize = 256 * 1024 * 1024;

/// Replies up to this size go out in one write: one segment on the wire, one exit from the guest. The bytes of a
/// larger one are not copied for that.
const ONE_WRITE: usize = 16 * 1024;

/// How much of a streamed reply is held at a time.
const PIECE: usize = 32 * 1024;

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a body.
    pub body: usize,
    /// Most connections that are served at a time; the next ones wait in the listener's backlog.
    pub connections: usize,
    /// How long a client may be silent, between requests or in one.
    pub silence: Duration,
}

/// Why a connection ends before its client closed it.
pub(crate) enum Ending {
    /// The client is gone, or silent for too long: nobody hears a reply.
    Gone,
    /// The request is refused with this reply; where the next one starts is not known.
    Refused(Reply),
}

impl From<io::Error> for Ending {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Serves the requests of one connection until it ends.
pub fn serve<S: Read + Write>(stream: S, limits: Limits, handler: impl Fn(Request, &mut Body<'_>) -> Reply) {
    let mut connection = Connection {
        stream,
        unread: Vec::new(),
    };
    loop {
        let head = match connection.head() {
            Ok(Some(head)) => head,
            Ok(None) | Err(Ending::Gone) => return,
            Err(Ending::Refused(reply)) => return connection.refuse(reply),
        };
        if matches!(head.framing, Framing::Length(length) if length > limits.body) {
            return connection.refuse(body::too_large(limits.body));
        }
        let mut body = Body::new(&mut connection, head.framing, limits.body, head.expects_continue);
        let reply = handler(head.request, &mut body);
        let whole = body.skip_to_end();
        match body.into_failure() {
            Some(Ending::Gone) => return,
            Some(Ending::Refused(reply)) => return connection.refuse(reply),
            None => {}
        }
        let manner = Manner {
            last: head.manner.last || !whole,
            ..head.manner
        };
        if connection.reply(reply, manner).is_err() {
            return;
        }
        if !whole {
            return connection.linger();
        }
        if manner.last {
            return;
        }
    }
}

/// How a request wants to be answered.
#[derive(Clone, Copy)]
struct Manner {
    /// It was `HEAD`.
    head_only: bool,
    /// The connection ends with the reply.
    last: bool,
    /// The client knows chunks (HTTP/1.1).
    chunks: bool,
}

/// The part of a request before its body.
struct Head {
    request: Request,
    manner: Manner,
    framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    expects_continue: bool,
}

struct Connection<S> {
    stream: S,
    /// Bytes that came in and belong to no request yet; at most `MAX_HEAD` and one read.
    unread: Vec<u8>,
}

impl<S: Read + Write> Source for Connection<S> {
    fn unread(&mut self) -> &mut Vec<u8> {
        &mut self.unread
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let read = self.read(&mut buffer)?;
        self.unread.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn send_continue(&mut self) -> io::Result<()> {
        self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    }
}

impl<S: Read + Write> Connection<S> {
    /// The head of the next request; `None` when the client closed the connection between two.
    fn head(&mut self) -> Result<Option<Head>, Ending> {
        loop {
            if let Some((head, length)) = parse_head(&self.unread)? {
                self.unread.drain(..length);
                return Ok(Some(head));
            }
            if self.unread.len() >= MAX_HEAD {
                return Err(refused(431, "request header is too large"));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    fn reply(&mut self, reply: Reply, mut manner: Manner) -> io::Result<()> {
        // Without chunks, the end of the connection is the end of a reply whose length is not known.
        let chunked = reply.body.length().is_none() && manner.chunks;
        manner.last |= reply.body.length().is_none() && !chunked;
        let mut head = reply.encode_head(chunked, manner.last);
        if manner.head_only {
            return self.send(&head);
        }
        match reply.body {
            Payload::Bytes(bytes) if bytes.len() <= ONE_WRITE => {
                head.extend_from_slice(&bytes);
                self.send(&head)
            }
            Payload::Bytes(bytes) => {
                self.stream.write_all(&head)?;
                self.send(&bytes)
            }
            Payload::Stream { length, source } => {
                self.stream.write_all(&head)?;
                self.stream(source, length, chunked)
            }
        }
    }

    /// Sends a stream to its end. One that is shorter than it said, or fails, ends the connection: the client sees
    /// that something is missing.
    fn stream(&mut self, mut source: impl Read, length: Option<u64>, chunked: bool) -> io::Result<()> {
        let mut left = length.unwrap_or(u64::MAX);
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let read = match source.read(&mut piece[..most]) {
                Ok(0) if length.is_some() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            left -= read as u64;
            if chunked {
                self.stream.write_all(format!("{read:x}\r\n").as_bytes())?;
                self.stream.write_all(&piece[..read])?;
                self.stream.write_all(b"\r\n")?;
            } else {
                self.stream.write_all(&piece[..read])?;
            }
        }
        if chunked {
            self.stream.write_all(b"0\r\n\r\n")?;
        }
        self.stream.flush()
    }

    fn refuse(&mut self, reply: Reply) {
        let manner = Manner {
            head_only: false,
            last: true,
            chunks: false,
        };
        if self.reply(reply, manner).is_ok() {
            self.linger();
        }
    }

    /// Drops what the client still sends, within a bound.
    fn linger(&mut self) {
        let mut lingered = 0;
        while lingered < MAX_LINGER {
            self.unread.clear();
            match self.fill() {
                Ok(1..) => lingered += self.unread.len(),
                Ok(0) | Err(_) => return,
            }
        }
    }
}

/// Reads a request's line and header fields, and their length; `None` while they are not complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Ending> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(refused(431, "too many header fields")),
        Err(error) => return Err(refused(400, format!("malformed request: {error}"))),
    };
    let method = parsed.method.unwrap_or_default();
    let (path, query) = split_target(parsed.path.unwrap_or_default());
    let mut content_type = String::new();
    let mut boundary = None;
    let mut content_length = None;
    let mut chunked = false;
    let mut expects_continue = false;
    let mut last = parsed.version == Some(0);
    for field in parsed.headers.iter() {
        let value = String::from_utf8_lossy(field.value).trim().to_ascii_lowercase();
        match field.name.to_ascii_lowercase().as_str() {
            "content-type" => {
                content_type = media_type(&value);
                // As it was sent: a boundary has upper and lower case.
                boundary = parse_boundary(&String::from_utf8_lossy(field.value));
            }
            "content-length" => {
                let length = parse_length(&value).ok_or_else(|| refused(400, "malformed content-length"))?;
                if content_length.is_some_and(|other| other != length) {
                    return Err(refused(400, "two values of content-length"));
                }
                content_length = Some(length);
            }
            "transfer-encoding" if value == "chunked" && !chunked => chunked = true,
            "transfer-encoding" => return Err(refused(501, "transfer-encoding is not `chunked`")),
            "expect" => expects_continue = value == "100-continue",
            "connection" => last |= value.split(',').any(|option| option.trim() == "close"),
            _ => {}
        }
    }
    let framing = match (chunked, content_length) {
        // Two opinions on where the next request starts are how requests are smuggled past proxies.
        (true, Some(_)) => return Err(refused(400, "both transfer-encoding and content-length")),
        (true, None) => Framing::Chunked,
        (false, length) => Framing::Length(length.unwrap_or(0)),
    };
    let head = Head {
        request: Request {
            method: match method {
                "GET" | "HEAD" => Method::Get,
                "POST" => Method::Post,
                _ => Method::Other,
            },
            path,
            query,
            content_type,
            boundary,
            body: Vec::new(),
        },
        manner: Manner {
            head_only: method == "HEAD",
            last,
            chunks: parsed.version == Some(1),
        },
        framing,
        expects_continue,
    };
    Ok(Some((head, length)))
}

/// Splits a request's target into path and query. A proxy's absolute form loses its scheme and authority.
fn split_target(target: &str) -> (String, Option<String>) {
    let path = match target.split_once("://") {
        Some(("http" | "https", rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    match path.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (path.to_owned(), None),
    }
}

fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

/// The parameter `boundary` of a content type.
fn parse_boundary(value: &str) -> Option<String> {
    let mut parameters = value.split(';').skip(1);
    let boundary = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| value.trim().trim_matches('"'))
    })?;
    (!boundary.is_empty()).then(|| boundary.to_owned())
}

/// Digits alone: `usize::from_str` takes a sign, too. What does not fit is larger than any limit.
fn parse_length(value: &str) -> Option<usize> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(value.parse().unwrap_or(usize::MAX))
}

/// The request is refused with this status and text.
pub(crate) fn refused(status: u16, text: impl Into<std::borrow::Cow<'static, str>>) -> Ending {
    Ending::Refused(Reply::text(status, text))
}
