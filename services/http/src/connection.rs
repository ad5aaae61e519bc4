//! One connection: bytes to requests, replies to bytes.
//!
//! ```text
//! read head -> read body -> reply -+-> read head ...     keep-alive, pipelined requests included
//!     |            |               `-> close             `connection: close`, HTTP/1.0
//!     |            `-> refuse (400, 413, 501), linger, close
//!     `-> refuse (400, 431), linger, close
//! ```
//! Failure paths: the client goes away or falls silent (the connection is dropped without a reply); the handler
//! cannot fail, it returns a reply.

use std::io::{self, Read, Write};
use std::mem;
use std::time::Duration;

use crate::message::{Method, Reply, Request};

/// Most bytes of a request's line and header fields. Twice what browsers send; the same as nginx's default.
pub const MAX_HEAD: usize = 8 * 1024;

/// Most header fields of a request, as in the web servers that bound it (Apache and hyper: 100).
const MAX_FIELDS: usize = 100;

/// Most bytes that are read and thrown away after a refusal, so that the client, which may still be sending, sees
/// the reply and not a reset.
const MAX_LINGER: usize = 256 * 1024;

/// Most bytes of the line that starts a chunk: 16 hexadecimal digits and a short extension.
const MAX_CHUNK_LINE: usize = 256;

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a body.
    pub body: usize,
    /// Most connections that are served at a time; the next ones wait in the listener's backlog.
    pub connections: usize,
    /// How long a client may be silent, between requests or in one. The guest's kernel does not time sockets out.
    pub silence: Duration,
}

/// Why a connection ends before its client closed it.
enum Ending {
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
pub fn serve<S: Read + Write>(stream: S, limits: Limits, handler: impl Fn(&Request) -> Reply) {
    let mut connection = Connection {
        stream,
        limits,
        unread: Vec::new(),
    };
    loop {
        let (request, manner) = match connection.request() {
            Ok(Some(next)) => next,
            Ok(None) | Err(Ending::Gone) => return,
            Err(Ending::Refused(reply)) => return connection.refuse(&reply),
        };
        let reply = handler(&request).encode(manner.head_only, manner.last);
        if connection.send(&reply).is_err() || manner.last {
            return;
        }
    }
}

/// How a request wants to be answered.
struct Manner {
    /// It was `HEAD`.
    head_only: bool,
    /// The connection ends with the reply.
    last: bool,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
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
    limits: Limits,
    /// Bytes that came in and belong to no request yet; at most `MAX_HEAD` and one read.
    unread: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    /// The next request; `None` when the client closed the connection between two.
    fn request(&mut self) -> Result<Option<(Request, Manner)>, Ending> {
        let head = loop {
            if let Some((head, length)) = parse_head(&self.unread)? {
                self.unread.drain(..length);
                break head;
            }
            if self.unread.len() >= MAX_HEAD {
                return Err(refused(431, "request header is too large"));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        };
        let mut request = head.request;
        if head.framing != Framing::Length(0) {
            if matches!(head.framing, Framing::Length(length) if length > self.limits.body) {
                return Err(self.body_too_large());
            }
            if head.expects_continue {
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            request.body = match head.framing {
                Framing::Length(length) => self.take(length)?,
                Framing::Chunked => self.chunked_body()?,
            };
        }
        Ok(Some((request, head.manner)))
    }

    fn chunked_body(&mut self) -> Result<Vec<u8>, Ending> {
        let mut body = Vec::new();
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.unread) {
                    Ok(httparse::Status::Complete((start, size))) => {
                        self.unread.drain(..start);
                        break size;
                    }
                    Ok(httparse::Status::Partial) if self.unread.len() < MAX_CHUNK_LINE => {
                        self.fill_more()?;
                    }
                    Ok(httparse::Status::Partial) | Err(_) => return Err(refused(400, "malformed chunk")),
                }
            };
            let room = self.limits.body - body.len();
            match usize::try_from(size) {
                Ok(0) => break,
                Ok(size) if size <= room => body.append(&mut self.take(size)?),
                _ => return Err(self.body_too_large()),
            }
            if self.take(2)? != b"\r\n" {
                return Err(refused(400, "malformed chunk"));
            }
        }
        // Trailer fields, which nobody asked for, end with an empty line.
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(body);
            }
        }
    }

    /// The next line without its CRLF.
    fn line(&mut self) -> Result<Vec<u8>, Ending> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let mut line = self.take(end + 2)?;
                line.truncate(end);
                return Ok(line);
            }
            if self.unread.len() >= MAX_HEAD {
                return Err(refused(431, "request trailer is too large"));
            }
            self.fill_more()?;
        }
    }

    /// The next `length` bytes. The caller checked `length`; memory grows with what really came in.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, Ending> {
        while self.unread.len() < length {
            self.fill_more()?;
        }
        let rest = self.unread.split_off(length);
        Ok(mem::replace(&mut self.unread, rest))
    }

    fn fill_more(&mut self) -> Result<(), Ending> {
        match self.fill()? {
            0 => Err(Ending::Gone),
            _ => Ok(()),
        }
    }

    /// Reads once; 0 is the end of what the client sends.
    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(read) => {
                    self.unread.extend_from_slice(&buffer[..read]);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One write for a whole reply: one segment on the wire, one exit from the guest.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    fn refuse(&mut self, reply: &Reply) {
        if self.send(&reply.encode(false, true)).is_err() {
            return;
        }
        let mut lingered = 0;
        while lingered < MAX_LINGER {
            self.unread.clear();
            match self.fill() {
                Ok(1..) => lingered += self.unread.len(),
                Ok(0) | Err(_) => return,
            }
        }
    }

    fn body_too_large(&self) -> Ending {
        refused(413, format!("body is larger than {} bytes", self.limits.body))
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
    let mut content_length = None;
    let mut chunked = false;
    let mut expects_continue = false;
    let mut last = parsed.version == Some(0);
    for field in parsed.headers.iter() {
        let value = String::from_utf8_lossy(field.value).trim().to_ascii_lowercase();
        match field.name.to_ascii_lowercase().as_str() {
            "content-type" => content_type = media_type(&value),
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
            body: Vec::new(),
        },
        manner: Manner {
            head_only: method == "HEAD",
            last,
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

/// Digits alone: `usize::from_str` takes a sign, too. What does not fit is larger than any limit.
fn parse_length(value: &str) -> Option<usize> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(value.parse().unwrap_or(usize::MAX))
}

fn refused(status: u16, text: impl Into<std::borrow::Cow<'static, str>>) -> Ending {
    Ending::Refused(Reply::text(status, text))
}
