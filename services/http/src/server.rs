//! The listener and its threads.
//!
//! Each worker accepts a connection, serves it to its end, and accepts the next: no connection is handed from one thread
//! to another. The worker after which none waits for a connection starts one more, up to the limit. There is no
//! queue: when all workers are busy the next connection waits in the listener's backlog, so the memory that clients
//! can make a guest use is bounded.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, Scope};
use std::{io, thread};

use crate::body::Body;
use crate::connection::{self, Limits};
use crate::message::{Reply, Request};

/// Stack of a worker. A request's path through this crate and a service needs less than a quarter of it, also
/// without optimization; std's own choice of 1 MiB for a guest's threads would fill the guest's memory.
const WORKER_STACK: usize = 128 * 1024;

/// Serves connections until the listener fails; the handler gets requests with their whole body.
///
/// # Errors
/// What accepting a connection failed with. A connection that its client gave up before it was accepted is no failure.
pub fn serve<H>(listener: &TcpListener, limits: Limits, handler: H) -> io::Result<()>
where
    H: Fn(&Request) -> Reply + Send + Sync,
{
    serve_streams(listener, limits, move |mut request, body| {
        match body.read_whole() {
            Ok(whole) => {
                request.body = whole;
                handler(&request)
            }
            // Not sent: the connection answers for a body that it could not read.
            Err(_) => Reply::text(400, "Body is not complete"),
        }
    })
}

/// Serves connections until the listener fails; the handler reads the body, or leaves it.
///
/// # Errors
/// As [`serve`].
pub fn serve_streams<H>(listener: &TcpListener, limits: Limits, handler: H) -> io::Result<()>
where
    H: Fn(Request, &mut Body<'_>) -> Reply + Send + Sync,
{
    let crew = Crew {
        listener,
        limits,
        handler,
        waiting: AtomicUsize::new(0),
        workers: AtomicUsize::new(1),
    };
    thread::scope(|scope| crew.work(scope))
}

/// Those who serve a listener's connections.
struct Crew<'a, H> {
    listener: &'a TcpListener,
    limits: Limits,
    handler: H,
    /// Workers that wait for a connection.
    waiting: AtomicUsize,
    /// All workers, the thread that called [`serve`] included.
    workers: AtomicUsize,
}

impl<H> Crew<'_, H>
where
    H: Fn(Request, &mut Body<'_>) -> Reply + Send + Sync,
{
    /// Serves one connection after the other.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> io::Result<()> {
        loop {
            self.waiting.fetch_add(1, Ordering::AcqRel);
            let accepted = self.listener.accept();
            let others_wait = self.waiting.fetch_sub(1, Ordering::AcqRel) > 1;
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_the_clients(&error) => continue,
                Err(error) => return Err(error),
            };
            if !others_wait {
                self.enlarge(scope);
            }
            // Best effort: a socket that cannot be told has a client that has gone, and reading finds out.
            let _ = stream.set_read_timeout(Some(self.limits.silence));
            let _ = stream.set_write_timeout(Some(self.limits.silence));
            let _ = stream.set_nodelay(true);
            connection::serve(&stream, self.limits, &self.handler);
        }
    }

    /// Starts one more worker, if there may be one. Without memory for it, the workers that are there go on.
    fn enlarge<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let more = |workers| (workers < self.limits.connections).then_some(workers + 1);
        let place = self
            .workers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        if place.is_err() {
            return;
        }
        let thread = Builder::new().stack_size(WORKER_STACK);
        // The listener's failure is everybody's: the caller of `serve` hears of it, too.
        if thread.spawn_scoped(scope, || self.work(scope)).is_err() {
            self.workers.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Whether accepting failed for a reason that lies with one client, and not with the listener.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
