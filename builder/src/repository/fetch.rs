//! Files from a web server: whole, or not at all.
//!
//! A file is fetched in as many requests as it takes. Each has a limited time; one that brought something is followed by
//! one for the rest (`Range`), one that brought nothing ends the matter. A server that does not know of ranges sends all
//! of it again, which is taken from its start.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use minreq::ResponseLazy;

use super::RepositoryError;
use crate::cache::failed;
use crate::event::{Event, Observer, Stage, Unit};

/// How long a request may take. What is not done by then is asked for anew, from where it was.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a server that begins anew each time may do so.
const FROM_THE_START: usize = 3;

/// Most bytes of an answer's headers; common ones have some hundred.
const MAX_HEADERS: usize = 16 << 10;

/// Most bytes of an archive: what is unpacked from it is bounded by the same.
const MAX_ARCHIVE: u64 = 8 << 30;

/// Gets a small text; `None` if there is none.
pub(super) fn text(url: &str, max: usize, patience: Duration) -> Result<Option<String>, RepositoryError> {
    let response = request(url, 0, patience)?;
    match response.status_code {
        200 => {}
        404 => return Ok(None),
        _ => return Err(status(url, &response)),
    }
    let length = length(&response);
    let mut bytes = Vec::new();
    let read = response.take(max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| broken(url, error, patience))?;
    let have = bytes.len() as u64;
    match length {
        _ if bytes.len() > max => Err(RepositoryError::TooLarge {
            url: url.to_owned(),
            max: max as u64,
        }),
        Some(total) if have < total => Err(cut_off(url, have, total)),
        _ => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| RepositoryError::Text(url.to_owned())),
    }
}

/// Gets a file, or what is missing of it: what is in `file`, which is at `path`, is its beginning. False if there is no
/// such file.
pub(super) fn file(
    url: &str,
    file: &mut File,
    path: &Path,
    patience: Duration,
    observer: &dyn Observer,
) -> Result<bool, RepositoryError> {
    let stored = |error| failed("write", path)(error);
    let mut have = file.seek(SeekFrom::End(0)).map_err(stored)?;
    let mut from_the_start = 0;
    loop {
        let mut response = request(url, have, patience)?;
        match response.status_code {
            206 if range_starts_at(&response) == Some(have) => {}
            404 => return Ok(false),
            // It ignores ranges, or what is there is longer than all of it: anew.
            200 | 206 | 416 if from_the_start < FROM_THE_START => {
                from_the_start += 1;
                let again = response.status_code != 200;
                file.set_len(0).and_then(|()| file.rewind()).map_err(stored)?;
                have = 0;
                if again {
                    continue;
                }
            }
            200 | 206 => return Err(cut_off(url, have, length(&response).unwrap_or(have))),
            _ => return Err(status(url, &response)),
        }
        let total = length(&response).map(|rest| rest.saturating_add(have));
        let before = have;
        let mut buffer = vec![0; 64 << 10];
        let ended = loop {
            if have.max(total.unwrap_or(0)) > MAX_ARCHIVE {
                return Err(RepositoryError::TooLarge {
                    url: url.to_owned(),
                    max: MAX_ARCHIVE,
                });
            }
            match response.read(&mut buffer) {
                Ok(0) => break None,
                Ok(length) => {
                    file.write_all(&buffer[..length]).map_err(stored)?;
                    have += length as u64;
                    observer.event(&Event::Progress {
                        stage: Stage::Download,
                        unit: Unit::Bytes,
                        done: have,
                        total,
                        current: String::new(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        match (ended, total) {
            (None, None) => return Ok(true),
            (None, Some(total)) if have >= total => return Ok(true),
            // What came is kept, and the rest asked for.
            _ if have > before && accepts_ranges(&response) => {}
            (None, Some(total)) => return Err(cut_off(url, have, total)),
            (Some(error), _) => return Err(broken(url, error, patience)),
        }
    }
}

fn request(url: &str, from: u64, patience: Duration) -> Result<ResponseLazy, RepositoryError> {
    let mut request = minreq::get(url)
        .with_timeout(patience.as_secs().max(1))
        .with_max_headers_size(MAX_HEADERS);
    if from > 0 {
        request = request.with_header("Range", format!("bytes={from}-"));
    }
    request.send_lazy().map_err(|source| match source {
        minreq::Error::IoError(error) => broken(url, error, patience),
        source => RepositoryError::Request {
            url: url.to_owned(),
            source: source.into(),
        },
    })
}

/// What a failed read means.
fn broken(url: &str, error: io::Error, patience: Duration) -> RepositoryError {
    let url = url.to_owned();
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            RepositoryError::Silent { url, time: patience }
        }
        _ => RepositoryError::Request {
            url,
            source: error.into(),
        },
    }
}

fn status(url: &str, response: &ResponseLazy) -> RepositoryError {
    RepositoryError::Status {
        url: url.to_owned(),
        status: response.status_code,
        reason: response.reason_phrase.clone(),
    }
}

fn cut_off(url: &str, have: u64, total: u64) -> RepositoryError {
    RepositoryError::CutOff {
        url: url.to_owned(),
        have,
        total,
    }
}

fn header<'a>(response: &'a ResponseLazy, name: &str) -> Option<&'a str> {
    let mut headers = response.headers.iter();
    headers
        .find(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn length(response: &ResponseLazy) -> Option<u64> {
    header(response, "Content-Length")?.parse().ok()
}

/// The first byte of a part: `Content-Range: bytes 100-199/200`.
fn range_starts_at(response: &ResponseLazy) -> Option<u64> {
    let range = header(response, "Content-Range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

fn accepts_ranges(response: &ResponseLazy) -> bool {
    response.status_code == 206 || header(response, "Accept-Ranges") == Some("bytes")
}
