//! db: the tasks of the example application, and which is next.
//!
//! It owns what becomes of a task ([`tasks`]), the routes ([`routes`]) and where tasks are kept ([`keep`]).
//!
//! | variable | meaning |
//! | --- | --- |
//! | `MICRO_DB_LEASE` | seconds until a leased task is ready again, 20 |
//!
//! With a volume `db` attached, tasks are kept in a data base on it; otherwise in memory.

mod keep;
mod routes;
mod tasks;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hermitage_http::Limits;
use hermitage_micro::directory::Service;
use hermitage_micro::{Directory, ServiceError, Settings, print_line, registration, service};

use crate::keep::{Keep, Memory, OnVolume};
use crate::routes::Db;
use crate::tasks::Tasks;

const USAGE: &str = "db [KV_HOST:PORT]";

/// How long a worker has for a task, as in the original.
const LEASE: Duration = Duration::from_secs(20);

/// Requests to db have no body.
const MAX_BODY: usize = 4 * 1024;

/// Every worker, and every upload through master, has at most one at a time.
const MAX_CONNECTIONS: usize = 32;

fn main() -> ExitCode {
    service::run(run)
}

fn run() -> Result<(), ServiceError> {
    let settings = Settings::of_process();
    let directory = Directory::new(settings.kv(USAGE)?);
    let lease = settings.seconds("MICRO_DB_LEASE", LEASE)?;
    let start = Instant::now();
    let unkept = |error: io::Error| ServiceError::Keep {
        what: "tasks",
        reason: error.to_string(),
    };
    let keep: Box<dyn Keep> = match OnVolume::open().map_err(unkept)? {
        Some(volume) => Box::new(volume),
        None => Box::new(Memory),
    };
    print_line(&format!("Tasks are kept {}", keep.describe()));
    let tasks = Tasks::load(keep, lease, start.elapsed()).map_err(unkept)?;
    let listener = registration::listen(&settings, directory, Service::Db)?;

    let db = Db::new(tasks, start);
    let limits = Limits {
        body: MAX_BODY,
        connections: MAX_CONNECTIONS,
        silence: service::SILENCE,
    };
    hermitage_http::serve(&listener, limits, move |request| db.answer(request)).map_err(ServiceError::Serve)
}
