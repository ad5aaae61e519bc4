//! ui: the page of the example application.
//!
//! It owns the page ([`page`]) and its routes ([`routes`]); all else it asks master for.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MICRO_MASTER_ENDPOINT` | where master is, with `http://` or without; then kv is not asked, and not needed |
//! | `MICRO_MAX_UPLOAD` | MiB of the largest upload, 64 |

mod page;
mod routes;

use std::process::ExitCode;

use hermitage_micro::directory::Service;
use hermitage_micro::{Directory, Peer, ServiceError, Settings, print_line, service};

use crate::routes::Ui;

const USAGE: &str = "ui [KV_HOST:PORT]";

const DEFAULT_PORT: u16 = 80;

/// A browser opens six at a time.
const MAX_CONNECTIONS: usize = 32;

fn main() -> ExitCode {
    service::run(run)
}

fn run() -> Result<(), ServiceError> {
    let settings = Settings::of_process();
    let master = match settings.endpoint(Service::Master.variable(), Service::Master.default_port())? {
        Some(endpoint) => Peer::fixed(endpoint),
        None => Peer::registered(&Directory::new(settings.kv(USAGE)?), Service::Master),
    };
    let limits = service::upload_limits(&settings, MAX_CONNECTIONS)?;
    let (listener, port) = service::listen(settings.port("UI", DEFAULT_PORT)?)?;
    print_line(&format!("UI is listening on {port}"));
    let ui = Ui { master };
    hermitage_http::serve_streams(&listener, limits, move |request, body| ui.answer(&request, body))
        .map_err(ServiceError::Serve)
}
