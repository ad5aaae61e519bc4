//! Requests and replies.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::DEADLINE;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields, their names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and text: what most tests look at.
    #[must_use]
    pub fn pair(&self) -> (u16, String) {
        (self.status, self.text())
    }

    /// A header field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(key, _)| key == name)?;
        Some(value)
    }
}

/// Asks for a resource.
#[must_use]
pub fn get(url: &str) -> Answer {
    answer(minreq::get(url))
}

/// Posts nothing.
pub fn post(url: &str) -> Answer {
    answer(minreq::post(url))
}

/// Posts a body.
pub fn post_body(url: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    answer(
        minreq::post(url)
            .with_header("content-type", content_type)
            .with_body(body),
    )
}

/// Posts a picture in a form, as curl and browsers do.
pub fn upload(url: &str, picture: &[u8]) -> Answer {
    let head =
        "content-disposition: form-data; name=\"image\"; filename=\"a.png\"\r\ncontent-type: image/png";
    upload_part(url, head, picture)
}

/// Posts a form with one part.
pub fn upload_part(url: &str, head: &str, content: &[u8]) -> Answer {
    let (content_type, body) = form(head, content);
    post_body(url, content_type, body)
}

/// A form with one part: its media type and its bytes.
#[must_use]
pub fn form(head: &str, content: &[u8]) -> (&'static str, Vec<u8>) {
    let mut body = format!("--A-Boundary\r\n{head}\r\n\r\n").into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--A-Boundary--\r\n");
    ("multipart/form-data; boundary=A-Boundary", body)
}

fn answer(request: minreq::Request) -> Answer {
    let reply = request
        .with_timeout(DEADLINE.as_secs())
        .with_follow_redirects(false)
        .send();
    let reply = reply.unwrap_or_else(|error| panic!("no reply: {error}"));
    let fields = reply.headers.iter();
    let fields = fields
        .map(|(name, value)| (name.to_lowercase(), value.clone()))
        .collect();
    Answer {
        status: reply.status_code,
        fields,
        body: reply.into_bytes(),
    }
}

/// A connection to a URL's server, to speak to it as no client would.
#[must_use]
pub fn connect(url: &str) -> TcpStream {
    let address = url.trim_start_matches("http://");
    let stream = TcpStream::connect(address).expect("the service accepts");
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("a time-out can be set");
    stream
}

/// Sends bytes, and reads until the server closes the connection.
#[must_use]
pub fn raw(url: &str, bytes: &[u8]) -> String {
    let mut stream = connect(url);
    stream.write_all(bytes).expect("the service reads");
    let mut text = Vec::new();
    stream
        .read_to_end(&mut text)
        .expect("the service replies, then closes");
    String::from_utf8_lossy(&text).into_owned()
}
