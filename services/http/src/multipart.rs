//! The parts of a `multipart/form-data` body (RFC 7578), one after the other, each read while it comes in.
//!
//! It holds [`WINDOW`] bytes, whatever is sent: a part is as long as it likes, its header is bounded. It looks at a
//! part's name alone: the services take a part called `image` for a picture, with a file name or without.

use std::io::{self, Read};

use memchr::memmem::Finder;

/// How much of the body is held at a time: several times the longest header and the longest delimiter.
const WINDOW: usize = 32 * 1024;

/// Most bytes of a part's header; browsers send 200.
const MAX_PART_HEAD: usize = 8 * 1024;

/// Most header fields of a part. RFC 7578 knows three.
const MAX_FIELDS: usize = 16;

/// Most bytes of a boundary, by RFC 2046.
const MAX_BOUNDARY: usize = 70;

/// Why a body's parts cannot be told apart.
#[derive(Debug, thiserror::Error)]
pub enum MultipartError {
    /// The boundary, which the content type names, is longer than it may be.
    #[error("boundary is longer than {MAX_BOUNDARY} bytes")]
    Boundary,
    /// There is something between a delimiter and the end of its line.
    #[error("malformed delimiter")]
    Delimiter,
    /// A part's header is too long, or is not made of header fields.
    #[error("malformed header of a part")]
    Head,
    /// The body ended in the middle, or could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The parts of a body.
pub struct Multipart<R> {
    source: R,
    /// `\r\n--boundary`.
    delimiter: Finder<'static>,
    /// What was read and is still to be looked at.
    window: Vec<u8>,
    /// Where that begins.
    start: usize,
    /// So many bytes from there are of the part, for sure.
    safe: usize,
    /// The delimiter behind the last part was seen.
    ended: bool,
}

/// A part; reading it gives its content.
pub struct Part<'a, R> {
    /// The name of the form's field.
    pub name: String,
    parts: &'a mut Multipart<R>,
}

impl<R: Read> Multipart<R> {
    /// The parts of a body with this boundary.
    ///
    /// # Errors
    /// The boundary is too long.
    pub fn new(source: R, boundary: &str) -> Result<Self, MultipartError> {
        if boundary.len() > MAX_BOUNDARY {
            return Err(MultipartError::Boundary);
        }
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Ok(Self {
            source,
            delimiter: Finder::new(&delimiter).into_owned(),
            // The first delimiter may stand at the very beginning.
            window: b"\r\n".to_vec(),
            start: 0,
            safe: 0,
            ended: false,
        })
    }

    /// The next part; what was not read of the one before is dropped.
    ///
    /// # Errors
    /// The body is malformed, or cannot be read.
    pub fn next_part(&mut self) -> Result<Option<Part<'_, R>>, MultipartError> {
        if self.ended {
            return Ok(None);
        }
        while self.content()? > 0 {
            self.start += self.safe;
            self.safe = 0;
        }
        self.start += self.delimiter.needle().len();
        self.fill_to(2)?;
        if self.rest().starts_with(b"--") {
            self.ended = true;
            return Ok(None);
        }
        // Spaces may follow a delimiter; then its line ends.
        while matches!(self.rest().first(), Some(b' ' | b'\t')) {
            self.start += 1;
            self.fill_to(2)?;
        }
        if !self.rest().starts_with(b"\r\n") {
            return Err(MultipartError::Delimiter);
        }
        self.start += 2;
        let name = self.head()?;
        Ok(Some(Part { name, parts: self }))
    }

    /// Reads a part's header, and gives the part's name.
    fn head(&mut self) -> Result<String, MultipartError> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            match httparse::parse_headers(self.rest(), &mut fields) {
                Ok(httparse::Status::Complete((length, fields))) => {
                    let disposition = fields
                        .iter()
                        .find(|field| field.name.eq_ignore_ascii_case("content-disposition"));
                    let name = disposition.and_then(|field| name_of(&String::from_utf8_lossy(field.value)));
                    self.start += length;
                    return Ok(name.unwrap_or_default());
                }
                Ok(httparse::Status::Partial) if self.rest().len() < MAX_PART_HEAD => {
                    let more = self.rest().len() + 1;
                    self.fill_to(more)?;
                }
                Ok(httparse::Status::Partial) | Err(_) => return Err(MultipartError::Head),
            }
        }
    }

    /// How many bytes at hand are content; 0 when a delimiter is next.
    fn content(&mut self) -> io::Result<usize> {
        while self.safe == 0 {
            let needle = self.delimiter.needle().len();
            match self.delimiter.find(self.rest()) {
                Some(0) => break,
                Some(at) => self.safe = at,
                // The last bytes may be the beginning of a delimiter.
                None if self.rest().len() >= needle => self.safe = self.rest().len() - needle + 1,
                None => {
                    let more = self.rest().len() + 1;
                    self.fill_to(more)?;
                }
            }
        }
        Ok(self.safe)
    }

    fn rest(&self) -> &[u8] {
        &self.window[self.start..]
    }

    /// Reads until there are `length` bytes, which are fewer than the window has.
    fn fill_to(&mut self, length: usize) -> io::Result<()> {
        while self.rest().len() < length {
            self.window.drain(..self.start);
            self.start = 0;
            let held = self.window.len();
            self.window.resize(WINDOW, 0);
            let read = self.source.read(&mut self.window[held..]);
            self.window.truncate(held + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "body ends in a part",
                    ));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Part<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let given = self.parts.content()?.min(buffer.len());
        let start = self.parts.start;
        buffer[..given].copy_from_slice(&self.parts.window[start..start + given]);
        self.parts.start += given;
        self.parts.safe -= given;
        Ok(given)
    }
}

/// The parameter `name` of a content disposition: `form-data; name="image"; filename="a; \"b\".png"`.
fn name_of(disposition: &str) -> Option<String> {
    let mut rest = disposition.split_once(';')?.1;
    loop {
        let (key, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let mut text = String::new();
        let length = if let Some(quoted) = value.strip_prefix('"') {
            let mut characters = quoted.char_indices();
            loop {
                match characters.next()? {
                    (at, '"') => break 1 + at + 1,
                    (_, '\\') => text.push(characters.next()?.1),
                    (_, character) => text.push(character),
                }
            }
        } else {
            let end = value.find(';').unwrap_or(value.len());
            text.push_str(value[..end].trim_end());
            end
        };
        if key.trim().eq_ignore_ascii_case("name") {
            return Some(text);
        }
        rest = value[length..].split_once(';')?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a body in pieces of a size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(buffer.len());
            self.0.read(&mut buffer[..most])
        }
    }

    type Parts = Vec<(String, Vec<u8>)>;

    fn parts(body: &[u8], piece: usize) -> Result<Parts, MultipartError> {
        let mut multipart = Multipart::new(Pieces(body, piece), "xx")?;
        let mut parts = Vec::new();
        while let Some(mut part) = multipart.next_part()? {
            let mut content = Vec::new();
            part.read_to_end(&mut content)?;
            parts.push((part.name, content));
        }
        Ok(parts)
    }

    #[test]
    fn parts_are_the_same_however_the_body_is_cut() {
        let long = "\r\n--x".repeat(20_000);
        let body = format!(
            "preamble\r\n--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{long}\r\n\
             --xx  \r\ncontent-type: image/png\r\ncontent-disposition: form-data; filename=\"name=b; \\\"\"; name=image\r\n\r\n\
             \r\n--xx\r\n\r\nno name\r\n--xx--\r\nepilogue --xx"
        );
        let expected = [
            ("a".to_owned(), long.into_bytes()),
            ("image".to_owned(), Vec::new()),
            (String::new(), b"no name".to_vec()),
        ];
        for piece in [1, 2, 3, 7, 100, 4096, usize::MAX] {
            assert_eq!(parts(body.as_bytes(), piece).unwrap(), expected, "{piece}");
        }
        assert_eq!(parts(b"--xx--", 1).unwrap(), []);
    }

    #[test]
    fn a_part_that_is_not_read_is_dropped() {
        let body =
            "--xx\r\n\r\nsome text\r\n--xx\r\ncontent-disposition: form-data; name=b\r\n\r\nb\r\n--xx--";
        let mut multipart = Multipart::new(body.as_bytes(), "xx").unwrap();
        multipart.next_part().unwrap().unwrap();
        assert_eq!(multipart.next_part().unwrap().unwrap().name, "b");
        assert!(multipart.next_part().unwrap().is_none());
        assert!(multipart.next_part().unwrap().is_none());
    }

    #[test]
    fn a_body_that_is_cut_off_anywhere_is_an_error() {
        let body = b"--xx\r\ncontent-disposition: form-data; name=a\r\n\r\ntext\r\n--xx--";
        assert_eq!(parts(body, 5).unwrap().len(), 1);
        for length in 0..body.len() {
            assert!(parts(&body[..length], 5).is_err(), "{length}");
        }
    }

    #[test]
    fn headers_and_boundaries_are_bounded() {
        let endless = format!("--xx\r\na: {}", "b".repeat(100_000));
        assert!(matches!(
            parts(endless.as_bytes(), 4096),
            Err(MultipartError::Head)
        ));
        let many = format!("--xx\r\n{}\r\n--xx--", "a: b\r\n".repeat(100));
        assert!(matches!(parts(many.as_bytes(), 4096), Err(MultipartError::Head)));
        assert!(matches!(
            parts(b"--xxy\r\n\r\n--xx--", 9),
            Err(MultipartError::Delimiter)
        ));
        let boundary = "x".repeat(71);
        assert!(matches!(
            Multipart::new(io::empty(), &boundary),
            Err(MultipartError::Boundary)
        ));
    }

    #[test]
    fn names_are_read_with_quotes_and_without() {
        for (disposition, name) in [
            ("form-data; name=\"image\"", Some("image")),
            ("form-data; name=image", Some("image")),
            ("form-data; Name = image ; filename=x", Some("image")),
            ("form-data; filename=\"; name=x\"; name=\"i\\\"m\"", Some("i\"m")),
            ("form-data; name=\"open", None),
            ("form-data; name", None),
            ("form-data", None),
            ("", None),
        ] {
            assert_eq!(name_of(disposition).as_deref(), name, "{disposition}");
        }
    }
}
