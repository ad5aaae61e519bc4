//! The round of a worker.
//!
//! ```text
//! next --task--> download -> invert -> upload -> finish -> next
//!   |               |          |         |         |
//!   |               `----------`---------`---------`-- fail: told to master, a pause, next
//!   `-- none: a pause, next
//! ```
//! A worker that is asked to stop finishes the task that it has, and takes no other one.
//!
//! Failure paths: whatever goes wrong costs the task a try, which its lease would cost it anyway; a worker that dies
//! is the same as one whose lease ends.

use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hermitage_micro::client::Response;
use hermitage_micro::directory::PeerError;
use hermitage_micro::task::{self, LEASE_FIELD};
use hermitage_micro::{Peer, form, print_line};
use hermitage_runtime::Stop;

use crate::picture::{self, PictureError};

/// How often `finish` is sent: the work is done, and would be done again.
const ATTEMPTS: u32 = 3;
const AGAIN: Duration = Duration::from_secs(1);

/// How often kv is asked for a master that it does not know yet.
const LOOKUP: Duration = Duration::from_secs(1);

/// What a worker needs.
pub(crate) struct Worker {
    pub(crate) master: Peer,
    pub(crate) storage: Peer,
    /// Between rounds that found nothing or failed.
    pub(crate) pause: Duration,
    /// Most bytes of a picture, as it is sent.
    pub(crate) max_picture: u64,
    /// Most bytes of a picture's pixels.
    pub(crate) max_pixels: u64,
    /// The request to stop.
    pub(crate) stop: Stop,
    /// Held while there may be a task that is this worker's.
    pub(crate) busy: Arc<Mutex<()>>,
}

/// What came of a round.
enum Round {
    /// A task was finished; there may be more.
    Finished,
    /// A task failed.
    Failed,
    /// There was none.
    Idle,
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("{what}: {status} {text}")]
    Status {
        what: &'static str,
        status: u16,
        text: String,
    },
    #[error("the download broke off: {0}")]
    Download(io::Error),
    #[error("the picture is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the picture is {0}")]
    Picture(#[from] PictureError),
}

/// A task that this worker has.
struct Lease {
    id: u64,
    /// The query with which it says so; empty if the master is the original's, which knows no leases.
    query: String,
}

impl Worker {
    /// Works until it is asked to stop.
    pub(crate) fn run(&self) {
        loop {
            let round = {
                let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
                if self.stop.requested() {
                    return;
                }
                self.round()
            };
            let pause = match round {
                Ok(Round::Finished) => continue,
                Ok(Round::Failed) => self.pause,
                Ok(Round::Idle) => {
                    print_line("Nothing to do at the moment");
                    self.pause
                }
                Err(PeerError::Lookup(error)) => {
                    print_line(&error.to_string());
                    self.pause.min(LOOKUP)
                }
                Err(error) => {
                    print_line(&format!("Error getting task: {error}"));
                    self.pause
                }
            };
            thread::sleep(pause);
        }
    }

    /// Asks for a task and, if there is one, works on it.
    fn round(&self) -> Result<Round, PeerError> {
        let response = self.master.get("/task/next")?;
        let lease = response.field(LEASE_FIELD).map(str::to_owned);
        let ok = response.is_ok();
        let text = response.text().unwrap_or_default();
        let Some((id, _)) = task::of_json(&text).filter(|_| ok) else {
            return Ok(Round::Idle);
        };
        print_line(&format!("Working on task {id}"));
        let query = lease.map_or(String::new(), |lease| format!("lease={lease}"));
        let lease = Lease { id, query };
        Ok(match self.work(&lease) {
            Ok(()) => {
                print_line("\tdone");
                Round::Finished
            }
            Err(error) => {
                print_line(&format!("\tfailed: {error}"));
                // The original's master does not know this, and the lease ends by itself.
                let _ = self.master.post(&format!("/task/{id}/fail?{}", lease.query));
                Round::Failed
            }
        })
    }

    fn work(&self, lease: &Lease) -> Result<(), WorkError> {
        let id = lease.id;
        let path = format!("/task/{id}/download");
        print_line(&format!("\tprocessing {path}"));
        let response = ok("download", self.master.get(&path)?)?;
        let mut input = Vec::new();
        let mut source = response.into_reader().take(self.max_picture + 1);
        source.read_to_end(&mut input).map_err(WorkError::Download)?;
        if input.len() as u64 > self.max_picture {
            return Err(WorkError::TooLarge(self.max_picture));
        }
        let output = picture::invert(input, self.max_pixels)?;
        let response = form::send_picture(&format!("{id}.png"), &mut output.as_slice(), |content| {
            let path = format!("/upload/{id}?picture=result&{}", lease.query);
            self.storage.post_content(&path, content)
        });
        ok("upload", response?)?;
        self.finish(lease)
    }

    fn finish(&self, lease: &Lease) -> Result<(), WorkError> {
        let mut attempt = 1;
        loop {
            let result = self
                .master
                .post(&format!("/task/{}/finish?{}", lease.id, lease.query))
                .map_err(WorkError::from)
                .and_then(|response| ok("finish", response));
            match result {
                Ok(_) => return Ok(()),
                // Another's by now, or no task at all: asking again does not change that.
                Err(WorkError::Status { status, .. }) if status < 500 => return result.map(|_| ()),
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
            thread::sleep(AGAIN);
        }
    }
}

/// A reply that is 200; the page of an error is no picture.
fn ok(what: &'static str, response: Response) -> Result<Response, WorkError> {
    if response.is_ok() {
        return Ok(response);
    }
    Err(WorkError::Status {
        what,
        status: response.status(),
        text: response.text().unwrap_or_default(),
    })
}
