//! Pictures in forms: what browsers, the original's services and ours send a picture in.

use std::io::{self, Cursor, Read};

use hermitage_http::multipart::{Multipart, MultipartError};
use hermitage_http::{Body, Request};

use crate::client::Content;

/// The name of the field that a picture is in.
const FIELD: &str = "image";

/// Between the parts of the forms that we send. It need not be random: the one part is a picture, in which these
/// bytes after a line's end do not occur by chance.
const BOUNDARY: &str = "hermitage-5f0c2a9d7be14c38a6e3-picture";

/// Why there is no picture in a request.
#[derive(Debug, thiserror::Error)]
pub enum NoPicture {
    /// It is not a form, or has no such field, or the field is empty.
    #[error("Image not found")]
    Missing,
    /// The form is malformed, or the client went away.
    #[error("Image not found: {0}")]
    Form(#[from] MultipartError),
}

/// Finds the picture in a form, and gives it to `take` as a stream that has at least one byte. A part that is named
/// `image` is the picture, with a file name or without.
///
/// # Errors
/// There is no picture; `take` was not called.
pub fn with_picture<T>(
    request: &Request,
    body: &mut Body<'_>,
    take: impl FnOnce(&mut dyn Read) -> T,
) -> Result<T, NoPicture> {
    let boundary = match &request.boundary {
        Some(boundary) if request.content_type == "multipart/form-data" => boundary,
        _ => return Err(NoPicture::Missing),
    };
    let mut parts = Multipart::new(body, boundary)?;
    while let Some(mut part) = parts.next_part()? {
        if part.name != FIELD {
            continue;
        }
        let mut first = [0];
        if part.read(&mut first).map_err(MultipartError::Io)? == 0 {
            return Err(NoPicture::Missing);
        }
        let taken = take(&mut first.as_slice().chain(&mut part));
        // What the form has behind the picture, so that the connection can go on.
        let _ = parts.next_part();
        return Ok(taken);
    }
    Err(NoPicture::Missing)
}

/// Makes a form of a picture, and gives it to `send`.
pub fn send_picture<T>(name: &str, picture: &mut dyn Read, send: impl FnOnce(Content<'_>) -> T) -> T {
    let head = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{FIELD}\"; filename=\"{name}\"\r\n\
         content-type: application/octet-stream\r\n\r\n"
    );
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    let mut source = Cursor::new(head).chain(picture).chain(Cursor::new(tail));
    send(Content {
        content_type: &format!("multipart/form-data; boundary={BOUNDARY}"),
        source: &mut source,
    })
}

/// A stream that remembers whether it failed: a client that ran away in the middle is not the next service's fault.
pub struct Watched<'a> {
    source: &'a mut dyn Read,
    /// Whether reading failed.
    pub failed: bool,
}

impl<'a> Watched<'a> {
    /// Watches a stream.
    pub fn new(source: &'a mut dyn Read) -> Self {
        Self {
            source,
            failed: false,
        }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.source.read(buffer);
        self.failed |= result.is_err();
        result
    }
}
