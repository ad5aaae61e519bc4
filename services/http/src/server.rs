//! The listener and its threads.
//!
//! One thread accepts; workers, started as they are needed and never ended, serve a connection each. There is no
//! queue: when all workers are busy the next connection waits in the listener's backlog, so the memory that clients
//! can make a guest use is bounded.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
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
/// What accepting a connection, or starting the first worker, failed with. A connection that its client gave up
/// before it was accepted is no failure.
pub fn serve<H>(listener: &TcpListener, limits: Limits, handler: H) -> io::Result<()>
where
    H: Fn(&Request) -> Reply + Send + Sync + 'static,
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
    H: Fn(Request, &mut Body<'_>) -> Reply + Send + Sync + 'static,
{
    let handler = Arc::new(handler);
    let (sender, receiver) = sync_channel::<TcpStream>(0);
    let receiver = Arc::new(Mutex::new(receiver));
    // Workers that wait, less connections that wait for one.
    let idle = Arc::new(AtomicIsize::new(0));
    let mut workers = 0;
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if is_the_clients(&error) => continue,
            Err(error) => return Err(error),
        };
        if idle.fetch_sub(1, Ordering::AcqRel) <= 0 && workers < limits.connections {
            let started = thread::Builder::new().stack_size(WORKER_STACK).spawn({
                let (receiver, handler, idle) = (receiver.clone(), handler.clone(), idle.clone());
                move || work(&receiver, &idle, limits, &*handler)
            });
            match started {
                Ok(_) => workers += 1,
                // The workers that are there go on; the connection waits for one of them.
                Err(_) if workers > 0 => {}
                Err(error) => return Err(error),
            }
        }
        // Workers hold the receiver for ever: this cannot fail while this function runs.
        let _ = sender.send(stream);
    }
}

fn work(
    receiver: &Mutex<Receiver<TcpStream>>,
    idle: &AtomicIsize,
    limits: Limits,
    handler: impl Fn(Request, &mut Body<'_>) -> Reply,
) {
    loop {
        let received = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(stream) = received else { return };
        // Best effort: the guest's kernel has no such time-outs, and a reply is one write in any case.
        let _ = stream.set_read_timeout(Some(limits.silence));
        let _ = stream.set_write_timeout(Some(limits.silence));
        let _ = stream.set_nodelay(true);
        connection::serve(&stream, limits, &handler);
        idle.fetch_add(1, Ordering::AcqRel);
    }
}

/// Whether accepting failed for a reason that lies with one client, and not with the listener.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
