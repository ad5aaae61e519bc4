//! storage: the pictures of the example application.
//!
//! It owns which picture is kept of a task ([`pictures`]), the routes ([`routes`]) and where pictures are
//! ([`memory`], [`volume`]).
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MICRO_MAX_UPLOAD` | MiB of the largest upload, 64 |
//! | `MICRO_STORAGE_MEMORY` | MiB of all pictures in memory, 512; a guest's memory is a bound by itself |
//!
//! With a volume `storage` attached, pictures are kept in a data base on it; otherwise in memory.

mod memory;
mod pictures;
mod routes;
mod volume;

use std::process::ExitCode;

use hermitage_micro::directory::Service;
use hermitage_micro::{Directory, ServiceError, Settings, print_line, registration, service};

use crate::memory::Memory;
use crate::pictures::Pictures;
use crate::volume::OnVolume;

const USAGE: &str = "storage [KV_HOST:PORT]";

/// Pictures in memory, if nobody says otherwise: some hundred photographs.
const MEMORY: usize = 512 * 1024 * 1024;

/// As many as workers and uploads that are under way; a connection needs 0.2 MB, not the picture's size.
const MAX_CONNECTIONS: usize = 32;

fn main() -> ExitCode {
    service::run(run)
}

fn run() -> Result<(), ServiceError> {
    let settings = Settings::of_process();
    let directory = Directory::new(settings.kv(USAGE)?);
    let limit = settings.mebibytes("MICRO_STORAGE_MEMORY", MEMORY)?;
    let on_volume = OnVolume::open().map_err(|error| ServiceError::Keep {
        what: "pictures",
        reason: error.to_string(),
    })?;
    let pictures: Box<dyn Pictures> = match on_volume {
        Some(volume) => Box::new(volume),
        None => Box::new(Memory::new(limit)),
    };
    let limits = service::upload_limits(&settings, MAX_CONNECTIONS)?;
    print_line(&format!("Pictures are kept {}", pictures.describe()));
    let listener = registration::listen(&settings, directory, Service::Storage)?;
    hermitage_http::serve_streams(&listener, limits, move |request, body| {
        routes::answer(&*pictures, &request, body)
    })
    .map_err(ServiceError::Serve)
}
