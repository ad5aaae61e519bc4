//! Requests to other services.
//!
//! One connection for each: the requests are few, and a kept connection whose other end went away makes the next
//! request fail.

use std::io::{self, Read};
use std::time::Duration;

use ureq::SendBody;

/// How long a connection may take to come about, and how long its other end may be silent. A service that works on
/// a reply (db, at most for milliseconds) or writes a picture to its disk is not silent for long.
const CONNECT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(20);

/// Most bytes of a reply that is not a picture: the longest is a list of tasks.
const MAX_TEXT: u64 = 1024 * 1024;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ClientError(Box<ureq::Error>);

impl From<ureq::Error> for ClientError {
    fn from(error: ureq::Error) -> Self {
        Self(Box::new(error))
    }
}

impl ClientError {
    /// Whether the request did not get as far as the service, so that sending it again does nothing twice.
    #[must_use]
    pub fn is_unreached(&self) -> bool {
        match &*self.0 {
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => true,
            ureq::Error::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            ),
            _ => false,
        }
    }
}

/// A reply of another service: its head; its body is still to be read.
pub struct Response {
    inner: ureq::http::Response<ureq::Body>,
}

impl Response {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    /// Whether the status is 200.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status() == 200
    }

    /// The value of a header field, if it is text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// The length of the body, if it was told.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.inner.body().content_length()
    }

    /// The body as text, which must not be longer than a list of tasks.
    ///
    /// # Errors
    /// The connection broke, or the body is longer, or is not UTF-8.
    pub fn text(self) -> Result<String, ClientError> {
        let mut body = self.inner.into_body();
        Ok(body.with_config().limit(MAX_TEXT).read_to_string()?)
    }

    /// The body as a stream.
    pub fn into_reader(self) -> impl Read + Send + 'static {
        self.inner.into_body().into_reader()
    }
}

/// What is sent with a request.
pub struct Content<'a> {
    /// Its media type.
    pub content_type: &'a str,
    /// Its bytes.
    pub source: &'a mut dyn Read,
}

/// Sends requests.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
}

impl Default for Client {
    fn default() -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .build();
        Self { agent: config.into() }
    }
}

impl Client {
    /// Asks for a resource.
    ///
    /// # Errors
    /// There is no reply.
    pub fn get(&self, url: &str) -> Result<Response, ClientError> {
        let inner = self.agent.get(url).call()?;
        Ok(Response { inner })
    }

    /// Posts something, or nothing.
    ///
    /// # Errors
    /// There is no reply.
    pub fn post(&self, url: &str, content: Option<Content<'_>>) -> Result<Response, ClientError> {
        let request = self.agent.post(url);
        let inner = match content {
            None => request.send_empty()?,
            Some(content) => request
                .header("content-type", content.content_type)
                .send(SendBody::from_reader(content.source))?,
        };
        Ok(Response { inner })
    }

    /// Posts a value to kv.
    ///
    /// # Errors
    /// There is no reply.
    pub fn post_json(&self, url: &str, value: &serde_json::Value) -> Result<Response, ClientError> {
        let request = self.agent.post(url).header("content-type", "application/json");
        let inner = request.send(value.to_string())?;
        Ok(Response { inner })
    }
}
