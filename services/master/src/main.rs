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

use hermitage_http::Limits;
use hermitage_micro::directory::Service;
use hermitage_micro::registration::{self, Advertised};
use hermitage_micro::{Directory, Peer, ServiceError, Settings, service};

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
    let limits = Limits {
        body: service::max_upload(&settings)?,
        connections: MAX_CONNECTIONS,
        silence: service::SILENCE,
    };
    let (listener, port) = service::listen(settings.port("MASTER", Service::Master.default_port())?)?;
    let advertised = Advertised {
        port,
        instead: settings.endpoint("MICRO_ADVERTISE", port)?,
    };
    let master = Master {
        db: Peer::registered(&directory, Service::Db),
        storage: Peer::registered(&directory, Service::Storage),
    };
    let lines = vec![
        "Master endpoint registered".to_owned(),
        format!("Master is listening on {port}"),
    ];
    registration::keep_registered(directory, Service::Master, advertised, lines)
        .map_err(ServiceError::Serve)?;
    hermitage_http::serve_streams(&listener, limits, move |request, body| {
        master.answer(&request, body)
    })
    .map_err(ServiceError::Serve)
}
