//! What is answered to which request.
//!
//! | method, path | reply |
//! | --- | --- |
//! | POST `/task` | 200, field `task-id`; 400 without a picture; 413; 500 |
//! | GET `/task/next` | as db |
//! | GET `/task/:id/download[?picture=input\|result]` | as storage |
//! | GET `/task/:id/ready` | 200 `true` or `false`; 404 |
//! | POST `/task/:id/finish[?lease=n]`, `/task/:id/fail[?lease=n]` | as db |
//! | GET `/tasks` | as db |
//! | GET `/healthz` | 200 |
//!
//! An upload goes through as a stream: `create the task -> store the picture -> ready`. Whatever fails on the way, the
//! client is told, and the task ends as failed: no task waits for a picture that does not come.

use std::io::Read;
use std::thread;
use std::time::Duration;

use hermitage_http::{Body, Bytes, Method, Payload, Reply, Request};
use hermitage_micro::client::Response;
use hermitage_micro::directory::PeerError;
use hermitage_micro::form::{self, Watched};
use hermitage_micro::task::{self, ID_FIELD, LEASE_FIELD, State};
use hermitage_micro::{Peer, print_line};

/// How often a change of a task is sent to db, and how long to wait in between: db is away for a moment when it is
/// restarted.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// The other services.
pub(crate) struct Master {
    pub(crate) db: Peer,
    pub(crate) storage: Peer,
}

impl Master {
    /// Answers a request.
    pub(crate) fn answer(&self, request: &Request, body: &mut Body<'_>) -> Reply {
        let path = request.path.strip_suffix('/').unwrap_or(&request.path);
        let segments: Vec<_> = path.split('/').skip(1).collect();
        let query = request.query.as_deref();
        match (segments.as_slice(), request.method) {
            (["task"], Method::Post) => self.upload(request, body),
            (["task", "next"], Method::Get) => pass_on(self.db.get("/task/next")),
            (["task", id, "download"], Method::Get) => with_id(id, |id| self.download(id, request)),
            (["task", id, "ready"], Method::Get) => with_id(id, |id| self.is_ready(id)),
            (["task", id, change @ ("finish" | "fail")], Method::Post) => with_id(id, |id| {
                pass_on(self.db.post(&with_query(&format!("/task/{id}/{change}"), query)))
            }),
            (["tasks"], Method::Get) => pass_on(self.db.get(&with_query("/tasks", query))),
            (["healthz"], Method::Get) => Reply::text(200, "ok"),
            (["task"] | ["task", _, "finish" | "fail"], _) => Reply::method_not_allowed("POST"),
            (["task", "next"] | ["task", _, "download" | "ready"] | ["tasks" | "healthz"], _) => {
                Reply::method_not_allowed("GET, HEAD")
            }
            _ => Reply::text(404, "Not found"),
        }
    }

    fn upload(&self, request: &Request, body: &mut Body<'_>) -> Reply {
        match form::with_picture(request, body, |picture| self.take(picture)) {
            Ok(reply) => reply,
            Err(fault) => Reply::text(400, fault.to_string()),
        }
    }

    /// Takes a picture: makes a task of it.
    fn take(&self, picture: &mut dyn Read) -> Reply {
        let id = match self.create() {
            Ok(id) => id,
            Err(fault) => return Reply::text(500, format!("Error creating task: {fault}")),
        };
        let mut picture = Watched::new(picture);
        let stored = form::send_picture(&format!("{id}.png"), &mut picture, |content| {
            let path = format!("/upload/{id}?picture=input");
            text_of_ok(self.storage.post_content(&path, content))
        });
        let outcome = match stored {
            Ok(_) => match self.change(id, "ready") {
                Ok(()) => return Reply::text(200, "").with_field(ID_FIELD, id),
                Err(fault) => format!("Error creating task: {fault}"),
            },
            // Not sent: the client is gone, or is told that its request is malformed or too large.
            Err(_) if picture.failed => "Error uploading image: the upload broke off".to_owned(),
            Err(fault) => format!("Error uploading image: {fault}"),
        };
        print_line(&format!("task {id}: {outcome}"));
        if let Err(fault) = self.change(id, "fail") {
            print_line(&format!("task {id} is left as it is: {fault}"));
        }
        Reply::text(500, outcome).with_field(ID_FIELD, id)
    }

    fn create(&self) -> Result<u64, String> {
        let text = text_of_ok(self.db.post("/task"))?;
        task::parse_id(text.trim()).ok_or_else(|| format!("db gave no id, but `{text:.40}`"))
    }

    /// Changes a task's state, which may be tried again: it does the same twice as once.
    fn change(&self, id: u64, change: &str) -> Result<(), String> {
        let mut attempt = 1;
        loop {
            match self.db.post(&format!("/task/{id}/{change}")) {
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                result => return text_of_ok(result).map(|_| ()),
            }
            thread::sleep(PAUSE);
        }
    }

    /// The picture that is asked for; of a finished task its result, of others the input, which is what a worker,
    /// also the original's, is to get, whatever is stored by now.
    fn download(&self, id: u64, request: &Request) -> Reply {
        let kind = match request.parameter("picture") {
            Some(kind @ ("input" | "result")) => kind,
            Some(_) => return Reply::text(400, "`picture` is `input` or `result`"),
            None => match self.state(id) {
                Ok(State::Finished) => "result",
                Ok(_) => "input",
                Err(reply) => return reply,
            },
        };
        pass_on(self.storage.get(&format!("/download/{id}?picture={kind}")))
    }

    fn is_ready(&self, id: u64) -> Reply {
        match self.state(id) {
            Ok(state) => Reply::text(200, if state == State::Finished { "true" } else { "false" }),
            Err(reply) => reply,
        }
    }

    fn state(&self, id: u64) -> Result<State, Reply> {
        let response = match self.db.get(&format!("/task/{id}")) {
            Ok(response) if response.is_ok() => response,
            other => return Err(pass_on(other)),
        };
        let text = response.text().unwrap_or_default();
        match task::of_json(&text) {
            Some((_, state)) => Ok(state),
            None => Err(Reply::text(502, "db's reply is not a task")),
        }
    }
}

fn with_id(segment: &str, answer: impl FnOnce(u64) -> Reply) -> Reply {
    match task::parse_id(segment) {
        Some(id) => answer(id),
        None => Reply::text(400, "Task id is not a number"),
    }
}

fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// The text of a reply that is 200, or what is wrong.
fn text_of_ok(result: Result<Response, PeerError>) -> Result<String, String> {
    let response = result.map_err(|error| error.to_string())?;
    let status = response.status();
    let text = response.text().map_err(|error| error.to_string())?;
    match status {
        200 => Ok(text),
        status => Err(format!("{status} {text}")),
    }
}

/// Another service's reply as ours, its body as a stream.
fn pass_on(result: Result<Response, PeerError>) -> Reply {
    let response = match result {
        Ok(response) => response,
        Err(error) => return Reply::text(500, error.to_string()),
    };
    // A reply has a media type that was known when this was compiled.
    let content_type = match response.field("content-type") {
        Some(value) if value.starts_with("image/") => "image/png",
        Some(value) if value.starts_with("application/json") => "application/json; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let fields: Vec<_> = ["content-disposition", LEASE_FIELD]
        .into_iter()
        .filter_map(|name| Some((name, response.field(name)?.to_owned())))
        .collect();
    let status = response.status();
    let length = response.length();
    let body = match length {
        Some(0) => Payload::Bytes(Bytes::Owned(b"".into())),
        length => Payload::Stream {
            length,
            source: Box::new(response.into_reader()),
        },
    };
    let mut reply = Reply::new(status, content_type, body);
    reply.fields = fields;
    reply
}
