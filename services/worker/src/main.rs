//! worker: inverts the pictures of the example application.
//!
//! It owns the inversion ([`picture`]) and a worker's round ([`work`]). It keeps nothing, and any number may run. Asked to
//! stop, it finishes the task that it has, takes no other one, and ends with 0.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MICRO_WORKER_PAUSE` | seconds between rounds when there is nothing to do, 5 |
//! | `MICRO_WORKER_PIXELS` | MiB of the pixels of the largest picture, 256; a guest's memory is a bound by itself |
//! | `MICRO_MAX_UPLOAD` | MiB of the largest picture as it was uploaded, 64 |

mod picture;
mod work;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hermitage_micro::directory::Service;
use hermitage_micro::{Directory, Peer, ServiceError, Settings, print_line, service};
use hermitage_runtime::Stop;

use crate::work::Worker;

const USAGE: &str = "worker [KV_HOST:PORT]";

/// As in the original.
const PAUSE: Duration = Duration::from_secs(5);

/// 64 million pixels with alpha: more than a camera's 50 without.
const MAX_PIXELS: usize = 256 * 1024 * 1024;

/// Stack of the thread that works; the decoders need a tenth of it.
const STACK: usize = 1024 * 1024;

fn main() -> ExitCode {
    service::run(run)
}

fn run() -> Result<(), ServiceError> {
    let settings = Settings::of_process();
    let directory = Directory::new(settings.kv(USAGE)?);
    let busy = Arc::new(Mutex::new(()));
    let stop = Stop::take().map_err(ServiceError::Serve)?;
    let until_idle = Arc::clone(&busy);
    // It may be asleep between two rounds: whoever is idle ends at once.
    hermitage_runtime::on_stop(move || {
        let _idle = until_idle.lock().unwrap_or_else(PoisonError::into_inner);
        print_line("worker is stopped");
        std::process::exit(0);
    })
    .map_err(ServiceError::Serve)?;
    let worker = Worker {
        master: Peer::registered(&directory, Service::Master),
        storage: Peer::registered(&directory, Service::Storage),
        pause: settings.seconds("MICRO_WORKER_PAUSE", PAUSE)?,
        max_picture: service::max_upload(&settings)? as u64,
        max_pixels: settings.mebibytes("MICRO_WORKER_PIXELS", MAX_PIXELS)? as u64,
        stop,
        busy,
    };
    let thread = thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || worker.run());
    // By a panic, which in a guest ends the machine, or since it is asked to stop.
    let ended = thread.map_err(ServiceError::Serve)?.join();
    ended.map_err(|_| ServiceError::Serve(std::io::Error::other("the worker panicked")))
}
