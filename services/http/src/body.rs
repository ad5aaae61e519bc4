//! The body of a request, read while it comes in.
//!
//! [`Body`] undoes the framing (a length, or chunks) and keeps to the limit; it holds no more than one read of it.
//! What goes wrong is an `io::Error` for the handler, and is remembered: the connection, and not the handler, then
//! tells the client what was wrong with the request.

use std::io::{self, Read};

use crate::connection::{Ending, MAX_HEAD, refused};
use crate::message::Reply;

/// Most bytes of the line that starts a chunk: 16 hexadecimal digits and a short extension.
const MAX_CHUNK_LINE: usize = 256;

/// Most bytes that are read after a handler that left them: the end of a form, not a picture that was refused.
const MAX_SKIP: usize = 4 * 1024;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// What a body is read from: a connection, whatever its stream.
pub(crate) trait Source {
    /// Bytes that came in and that nobody took yet.
    fn unread(&mut self) -> &mut Vec<u8>;
    /// Reads once into `unread`; 0 is the end of what the client sends.
    fn fill(&mut self) -> io::Result<usize>;
    /// Reads once past `unread`, which is empty.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Gives leave to a client that waits for it before it sends the body.
    fn send_continue(&mut self) -> io::Result<()>;
}

/// Where the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many bytes of the body follow.
    Length(usize),
    /// So many bytes of a chunk follow, then the end of its line.
    Chunk(usize),
    /// A line that starts a chunk follows.
    ChunkLine,
    /// Everything was read.
    End,
}

/// The body of a request. Reading it is optional: what a handler leaves, the connection drops.
pub struct Body<'a> {
    source: &'a mut dyn Source,
    place: Place,
    limit: usize,
    /// Bytes that may still come in chunks.
    room: usize,
    waits_for_leave: bool,
    failure: Option<Ending>,
}

impl<'a> Body<'a> {
    /// A body of which nothing was read. The caller checked a length against the limit.
    pub(crate) fn new(
        source: &'a mut dyn Source,
        framing: Framing,
        limit: usize,
        waits_for_leave: bool,
    ) -> Self {
        Self {
            source,
            place: match framing {
                Framing::Length(0) => Place::End,
                Framing::Length(length) => Place::Length(length),
                Framing::Chunked => Place::ChunkLine,
            },
            limit,
            room: limit,
            waits_for_leave,
            failure: None,
        }
    }

    /// The whole body. Memory grows with what really comes in, not with what is announced.
    ///
    /// # Errors
    /// As of reading: the client is gone, or the body is malformed or too large.
    pub fn read_whole(&mut self) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        self.read_to_end(&mut whole)?;
        Ok(whole)
    }

    /// Drops what a handler may leave without meaning it, such as the end of the last chunk. Whether the next
    /// request then starts where the connection stands.
    pub(crate) fn skip_to_end(&mut self) -> bool {
        let mut skipped = 0;
        let mut buffer = [0; 512];
        while skipped < MAX_SKIP && !self.is_at_end() && !self.waits_for_leave {
            match self.read(&mut buffer) {
                Ok(read) => skipped += read,
                Err(_) => break,
            }
        }
        self.is_at_end()
    }

    fn is_at_end(&self) -> bool {
        self.place == Place::End
    }

    /// Why the body cannot be read on; the handler's reply is not sent then.
    pub(crate) fn into_failure(self) -> Option<Ending> {
        self.failure
    }

    /// Bytes of the body, 0 at its end.
    fn advance(&mut self, buffer: &mut [u8]) -> Result<usize, Ending> {
        loop {
            let available = match self.place {
                Place::End => return Ok(0),
                Place::ChunkLine => {
                    self.chunk_line()?;
                    continue;
                }
                Place::Chunk(0) => {
                    if self.line()? != b"" {
                        return Err(refused(400, "malformed chunk"));
                    }
                    self.place = Place::ChunkLine;
                    continue;
                }
                Place::Length(left) | Place::Chunk(left) => left,
            };
            let most = available.min(buffer.len());
            let read = self.take(&mut buffer[..most])?;
            self.place = match self.place {
                Place::Length(left) if left == read => Place::End,
                Place::Length(left) => Place::Length(left - read),
                _ => Place::Chunk(available - read),
            };
            return Ok(read);
        }
    }

    /// At least one byte of what comes next on the connection.
    fn take(&mut self, buffer: &mut [u8]) -> Result<usize, Ending> {
        let unread = self.source.unread();
        if !unread.is_empty() {
            let taken = unread.len().min(buffer.len());
            buffer[..taken].copy_from_slice(&unread[..taken]);
            unread.drain(..taken);
            return Ok(taken);
        }
        match self.source.read(buffer)? {
            0 => Err(Ending::Gone),
            read => Ok(read),
        }
    }

    fn chunk_line(&mut self) -> Result<(), Ending> {
        let size = loop {
            match httparse::parse_chunk_size(self.source.unread()) {
                Ok(httparse::Status::Complete((start, size))) => {
                    self.source.unread().drain(..start);
                    break size;
                }
                Ok(httparse::Status::Partial) if self.source.unread().len() < MAX_CHUNK_LINE => {
                    self.fill()?;
                }
                Ok(httparse::Status::Partial) | Err(_) => return Err(refused(400, "malformed chunk")),
            }
        };
        self.place = match usize::try_from(size) {
            Ok(0) => {
                // Trailer fields, which nobody asked for, end with an empty line.
                while self.line()? != b"" {}
                Place::End
            }
            Ok(size) if size <= self.room => {
                self.room -= size;
                Place::Chunk(size)
            }
            _ => return Err(Ending::Refused(too_large(self.limit))),
        };
        Ok(())
    }

    /// The next line without its CRLF.
    fn line(&mut self) -> Result<Vec<u8>, Ending> {
        loop {
            let unread = self.source.unread();
            if let Some(end) = unread.windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = unread.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            if unread.len() >= MAX_HEAD {
                return Err(refused(431, "request trailer is too large"));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), Ending> {
        match self.source.fill()? {
            0 => Err(Ending::Gone),
            _ => Ok(()),
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.waits_for_leave && !self.is_at_end() {
            self.waits_for_leave = false;
            if self.source.send_continue().is_err() {
                self.failure = Some(Ending::Gone);
            }
        }
        if self.failure.is_none() {
            match self.advance(buffer) {
                Ok(read) => return Ok(read),
                Err(ending) => self.failure = Some(ending),
            }
        }
        Err(match self.failure {
            Some(Ending::Refused(_)) => io::Error::new(io::ErrorKind::InvalidData, "the body is refused"),
            _ => io::Error::new(io::ErrorKind::UnexpectedEof, "the client is gone"),
        })
    }
}

/// What a client is told whose body is longer than it may be.
pub(crate) fn too_large(limit: usize) -> Reply {
    Reply::text(413, format!("body is larger than {limit} bytes"))
}
