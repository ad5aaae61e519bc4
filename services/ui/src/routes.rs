//! What is answered to which request.
//!
//! | method, path | reply |
//! | --- | --- |
//! | GET `/` | the form and the newest tasks; `?before=id` older ones |
//! | GET `/?taskId=N` | the task with its result inlined; otherwise `NO RESULT FOUND!` |
//! | GET `/upload`, POST `/upload` | the form; 400 without a picture, 413, 500 |
//! | GET `/picture/:id?of=input\|result` | the picture |
//! | GET `/healthz` | 200 |

use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hermitage_http::{Body, Bytes, Method, Payload, Reply, Request};
use hermitage_micro::client::Response;
use hermitage_micro::directory::PeerError;
use hermitage_micro::form::{self, Watched};
use hermitage_micro::task::{self, ID_FIELD, State};
use hermitage_micro::{Peer, print_line};
use serde_json::Value;

use crate::page::{self, List, Task};

/// Tasks of a page.
const PAGE: usize = 24;

const HTML: &str = "text/html; charset=utf-8";

/// The page of the application.
pub(crate) struct Ui {
    pub(crate) master: Peer,
}

impl Ui {
    /// Answers a request.
    pub(crate) fn answer(&self, request: &Request, body: &mut Body<'_>) -> Reply {
        let path = request.path.strip_suffix('/').unwrap_or(&request.path);
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match (segments.as_slice(), request.method) {
            ([], Method::Get) => match request.parameter("taskId") {
                Some(id) => self.task(id),
                None => html(page::home(&self.list(request))),
            },
            (["upload"], Method::Get) => html(page::upload()),
            (["upload"], Method::Post) => self.upload(request, body),
            (["picture", id], Method::Get) => self.picture(id, request),
            (["healthz"], Method::Get) => Reply::text(200, "ok"),
            (["upload"], _) => Reply::method_not_allowed("GET, HEAD, POST"),
            ([] | ["picture", _] | ["healthz"], _) => Reply::method_not_allowed("GET, HEAD"),
            _ => Reply::text(404, "Not found"),
        }
    }

    fn task(&self, id: &str) -> Reply {
        let Some(id) = task::parse_id(id) else {
            return html(page::without_result(None, None, "A task is a number."));
        };
        let state = match self.state(id) {
            Ok(Some(state)) => state,
            Ok(None) => {
                return html(page::without_result(
                    None,
                    None,
                    &format!("There is no task {id}."),
                ));
            }
            Err(fault) => return html(page::without_result(None, None, &fault)),
        };
        if state == State::Finished {
            if let Ok(response) = self.master.get(&format!("/task/{id}/download")) {
                if response.is_ok() {
                    return inlined(id, response);
                }
            }
        }
        html(page::without_result(Some(id), Some(state), ""))
    }

    /// The state of a task; `None` if there is no such task.
    fn state(&self, id: u64) -> Result<Option<State>, String> {
        let ready = self.ask(&format!("/task/{id}/ready"))?;
        match (ready.0, ready.1.trim()) {
            (200, "true") => return Ok(Some(State::Finished)),
            (200, _) => {}
            (404, _) => return Ok(None),
            (status, text) => return Err(format!("{status} {text}")),
        }
        // Which of the other states it is, our master knows; the original's does not, and then it is ready at most.
        let (status, text) = self.ask(&format!("/tasks?before={}&limit=1", id.saturating_add(1)))?;
        let list: Value = serde_json::from_str(&text).unwrap_or_default();
        let entry = list.get("tasks").and_then(|tasks| task::of_value(tasks.get(0)?));
        match entry {
            Some((other, state)) if status == 200 && other == id => Ok(Some(state)),
            _ => Ok(Some(State::Ready)),
        }
    }

    fn list(&self, request: &Request) -> Result<List, String> {
        let before = request.parameter("before").and_then(task::parse_id);
        let before = before.map_or(String::new(), |id| format!("&before={id}"));
        // One more than is shown tells whether there are more.
        let (status, text) = self.ask(&format!("/tasks?limit={}{before}", PAGE + 1))?;
        if status != 200 {
            return Err("This master keeps no list.".to_owned());
        }
        parse_list(&text).ok_or_else(|| "master's list makes no sense.".to_owned())
    }

    fn ask(&self, path: &str) -> Result<(u16, String), String> {
        let response = self.master.get(path).map_err(|error| error.to_string())?;
        let status = response.status();
        Ok((status, response.text().map_err(|error| error.to_string())?))
    }

    fn upload(&self, request: &Request, body: &mut Body<'_>) -> Reply {
        let sent = form::with_picture(request, body, |picture| {
            let mut picture = Watched::new(picture);
            form::send_picture("picture", &mut picture, |content| {
                self.master.post_content("/task", content)
            })
        });
        let fault = match sent {
            Ok(Ok(response)) if response.is_ok() => {
                let id = response.field(ID_FIELD).and_then(task::parse_id);
                return html(page::uploaded(id));
            }
            Ok(Ok(response)) => {
                let status = response.status();
                format!("{status} {}", response.text().unwrap_or_default())
            }
            Ok(Err(error)) => error.to_string(),
            Err(fault) => return Reply::text(400, format!("Error uploading image: {fault}")),
        };
        print_line(&format!("Error uploading image: {fault}"));
        Reply::text(500, format!("Error uploading image: {fault}"))
    }

    fn picture(&self, id: &str, request: &Request) -> Reply {
        let kind = request.parameter("of").unwrap_or("result");
        match (task::parse_id(id), kind) {
            (Some(id), "input" | "result") => {
                pass_on(self.master.get(&format!("/task/{id}/download?picture={kind}")))
            }
            _ => Reply::text(400, "A picture is `/picture/NUMBER?of=input|result`"),
        }
    }
}

fn pass_on(result: Result<Response, PeerError>) -> Reply {
    match result {
        Ok(response) if response.is_ok() => {
            let body = Payload::Stream {
                length: response.length(),
                source: Box::new(response.into_reader()),
            };
            Reply::new(200, "image/png", body)
        }
        Ok(response) => Reply::text(404, response.text().unwrap_or_default()),
        Err(error) => Reply::text(500, error.to_string()),
    }
}

fn parse_list(text: &str) -> Option<List> {
    let list: Value = serde_json::from_str(text).ok()?;
    let mut tasks: Vec<_> = list
        .get("tasks")?
        .as_array()?
        .iter()
        .filter_map(|entry| task::of_value(entry).map(|(id, state)| Task { id, state }))
        .collect();
    let more = tasks.len() > PAGE;
    tasks.truncate(PAGE);
    let counts = State::ALL
        .into_iter()
        .filter_map(|state| Some((state, list.get("counts")?.get(state.to_string())?.as_u64()?)))
        .filter(|(_, count)| *count > 0)
        .collect();
    Some(List { tasks, counts, more })
}

fn html(page: String) -> Reply {
    Reply::new(200, HTML, Payload::Bytes(Bytes::Owned(page.into_bytes().into())))
}

/// The page of a task with its result inside, which is sent while it comes in.
fn inlined(id: u64, picture: Response) -> Reply {
    let halves = page::with_result(id);
    let length = picture
        .length()
        .map(|length| (halves.before.len() + halves.after.len()) as u64 + length.div_ceil(3) * 4);
    let source = io::Cursor::new(halves.before)
        .chain(Encoded::new(picture.into_reader()))
        .chain(io::Cursor::new(halves.after));
    let body = Payload::Stream {
        length,
        source: Box::new(source),
    };
    Reply::new(200, HTML, body)
}

/// Encodes a stream in base64.
struct Encoded<R> {
    source: R,
    text: Vec<u8>,
    at: usize,
}

/// Bytes that are encoded at a time: a multiple of 3, so that only the last have padding.
const STEP: u64 = 12 * 1024;

impl<R: Read> Encoded<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            text: Vec::new(),
            at: 0,
        }
    }
}

impl<R: Read> Read for Encoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.text.len() {
            let mut bytes = Vec::new();
            (&mut self.source).take(STEP).read_to_end(&mut bytes)?;
            self.text = STANDARD.encode(bytes).into_bytes();
            self.at = 0;
        }
        let read = buffer.len().min(self.text.len() - self.at);
        buffer[..read].copy_from_slice(&self.text[self.at..self.at + read]);
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_base64_is_what_the_whole_is() {
        for length in [0, 1, 2, 3, 12 * 1024, 12 * 1024 + 1, 100_000] {
            let bytes: Vec<_> = (0..length).map(|n: usize| (n * 7) as u8).collect();
            let mut text = String::new();
            Encoded::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
            assert_eq!(text, STANDARD.encode(&bytes));
            assert_eq!(text.len(), length.div_ceil(3) * 4);
        }
    }

    #[test]
    fn a_list_tells_whether_there_is_more() {
        let list = |count: u64| {
            let tasks: Vec<_> = (0..count)
                .map(|id| task::to_list_entry(id, State::Ready, 0))
                .collect();
            parse_list(&serde_json::json!({ "tasks": tasks, "counts": { "ready": count } }).to_string())
                .unwrap()
        };
        assert!(!list(24).more && list(25).more);
        assert_eq!(list(25).tasks.len(), 24);
        assert_eq!(list(3).counts, [(State::Ready, 3)]);
        assert_eq!(parse_list("{}"), None);
    }
}
