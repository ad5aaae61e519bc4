//! A small HTTP/1.1 server on the standard library's sockets, the same for guests and hosts.
//!
//! It owns connections: accepting them, their bounds in number, size and time, and the framing of requests and
//! replies. The grammar is `httparse`'s. It does not own routes: a service is one function from [`Request`] to
//! [`Reply`]. Whatever a client sends, the server neither panics nor holds more memory than [`Limits`] allows: a
//! guest has 32 MB, and a panic there ends the machine.
//!
//! - [`message`]: requests and replies as values;
//! - [`connection`]: bytes of a connection to requests, replies to bytes;
//! - [`body`]: the body of a request, read while it comes in;
//! - [`multipart`]: the parts of a form's body, one after the other, without holding them;
//! - [`server`]: the listener and its threads.
//!
//! Start reading at [`server::serve`].

pub mod body;
pub mod connection;
pub mod message;
pub mod multipart;
pub mod server;

pub use body::Body;
pub use connection::Limits;
pub use message::{Bytes, Method, Payload, Reply, Request};
pub use server::{serve, serve_streams};
