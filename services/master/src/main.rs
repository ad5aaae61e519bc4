//! master: the front of the example application: takes pictures, hands out tasks.
//!
//! It owns the routes ([`routes`]) and keeps nothing: tasks are db's, pictures storage's. Any number of masters may
//! run; workers and users find the one that registered last.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MICRO_MAX_UPLOAD` | MiB of the largest upload, 64 |

mod routes;

use std::process::ExitCode;

use hermitage_micro::directory::Service;
use hermitage_micro::{Directory, Peer, ServiceError, Settings, registration, service};

use crate::routes::Master;

const USAGE: &str = "master [KV_HOST:PORT]";

/// 20 uploads at once, and workers that ask for tasks; a connection needs 0.3 MB, not the picture's size.
const MAX_CONNECTIONS: usize = 32;

fn main() -> ExitCode {
    service::run(run)
}

fn run() -> Result<(), ServiceError> {
    let settings = Settings::of_process();
    let directory = Directory::new(settings.kv(USAGE)?);
    let limits = service::upload_limits(&settings, MAX_CONNECTIONS)?;
    let master = Master {
        db: Peer::registered(&directory, Service::Db),
        storage: Peer::registered(&directory, Service::Storage),
    };
    let listener = registration::listen(&settings, directory, Service::Master)?;
    hermitage_http::serve_streams(&listener, limits, move |request, body| {
        master.answer(&request, body)
    })
    .map_err(ServiceError::Serve)
}
