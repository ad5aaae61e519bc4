//! What is answered to which request.
//!
//! | method, path | reply |
//! | --- | --- |
//! | POST `/task` | 200 the id, also as field `task-id`; 507 |
//! | GET `/task/next` | 200 the task, field `task-lease`; 404 `{"id":-1,"state":0}` |
//! | GET `/task/:id` | 200 the task; 404 |
//! | POST `/task/:id/ready` | 200; 404; 409 unless it is created or ready |
//! | POST `/task/:id/finish[?lease=n]` | 200; 404; 409 unless it is leased (by that lease) |
//! | POST `/task/:id/fail[?lease=n]` | the same; a created task fails for good |
//! | GET `/tasks[?before=id][&limit=n]` | 200 JSON: the newest tasks, and how many are in each state |
//! | GET `/metrics`, `/healthz` | 200 |
//!
//! An id that is no number, or a lease that is none, is 400.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hermitage_http::{Bytes, Method, Payload, Reply, Request};
use hermitage_micro::task::{self, ID_FIELD, LEASE_FIELD, State};
use serde_json::{Map, Value, json};

use crate::tasks::{Refusal, Tasks};

/// Most tasks of one list, 60 bytes each.
const MAX_LIST: usize = 1000;

/// Tasks of a list if nobody says how many.
const LIST: usize = 100;

/// The tasks, and the clock by which leases end.
pub(crate) struct Db {
    tasks: Mutex<Tasks>,
    start: Instant,
}

impl Db {
    pub(crate) fn new(tasks: Tasks, start: Instant) -> Self {
        Self {
            tasks: Mutex::new(tasks),
            start,
        }
    }

    /// Answers a request.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let path = request.path.strip_suffix('/').unwrap_or(&request.path);
        let segments: Vec<_> = path.split('/').skip(1).collect();
        let now = self.start.elapsed();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match (segments.as_slice(), request.method) {
            (["task"], Method::Post) => create(&mut tasks),
            (["task", "next"], Method::Get) => next(&mut tasks, now),
            (["task", id], Method::Get) => with_id(id, |id| {
                let record = tasks.get(id, now)?;
                Ok(json_text(200, task::to_json(id, record.state)))
            }),
            (["task", id, change @ ("ready" | "finish" | "fail")], Method::Post) => with_id(id, |id| {
                let Ok(lease) = request.parameter("lease").map(str::parse).transpose() else {
                    return Ok(Reply::text(400, "Lease is not a number"));
                };
                match *change {
                    "ready" => tasks.ready(id, now)?,
                    "finish" => tasks.finish(id, lease, now)?,
                    _ => tasks.fail(id, lease, now)?,
                }
                Ok(Reply::text(200, ""))
            }),
            (["tasks"], Method::Get) => list(&mut tasks, request, now),
            (["metrics"], Method::Get) => metrics(&mut tasks, now),
            (["healthz"], Method::Get) => Reply::text(200, "ok"),
            (["task", _, "ready" | "finish" | "fail"] | ["task"], _) => Reply::method_not_allowed("POST"),
            (["task", _] | ["tasks" | "metrics" | "healthz"], _) => Reply::method_not_allowed("GET, HEAD"),
            _ => Reply::text(404, "Not found"),
        }
    }
}

/// Answers for the task that a segment names.
fn with_id(segment: &str, answer: impl FnOnce(u64) -> Result<Reply, Refusal>) -> Reply {
    match task::parse_id(segment) {
        Some(id) => answer(id).unwrap_or_else(|refusal| refused(&refusal)),
        None => Reply::text(400, "Task id is not a number"),
    }
}

fn refused(refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::Unknown => Reply::text(404, "Task not found"),
        Refusal::Conflict(state) => Reply::text(409, format!("Task is {state}")),
        Refusal::Full => Reply::text(507, "Too many tasks"),
        Refusal::Keep(error) => Reply::text(507, format!("Task cannot be kept: {error}")),
    }
}

fn create(tasks: &mut Tasks) -> Reply {
    match tasks.create() {
        Ok(id) => Reply::text(200, id.to_string()).with_field(ID_FIELD, id),
        Err(refusal) => refused(&refusal),
    }
}

fn next(tasks: &mut Tasks, now: Duration) -> Reply {
    match tasks.next(now) {
        Ok(Some((id, lease))) => {
            json_text(200, task::to_json(id, State::Leased)).with_field(LEASE_FIELD, lease)
        }
        Ok(None) => json_text(404, r#"{"id":-1,"state":0}"#.to_owned()),
        Err(refusal) => refused(&refusal),
    }
}

fn list(tasks: &mut Tasks, request: &Request, now: Duration) -> Reply {
    let number = |name| request.parameter(name).map(str::parse::<u64>).transpose();
    let (Ok(before), Ok(limit)) = (number("before"), number("limit")) else {
        return Reply::text(400, "`before` and `limit` are numbers");
    };
    let most = limit.map_or(LIST, |limit| {
        usize::try_from(limit).map_or(MAX_LIST, |limit| limit.min(MAX_LIST))
    });
    let entries: Vec<_> = tasks
        .list(before, most, now)
        .into_iter()
        .map(|(id, record)| task::to_list_entry(id, record.state, record.tries))
        .collect();
    let counts: Map<_, _> = State::ALL
        .iter()
        .zip(tasks.counts(now))
        .map(|(state, count)| (state.to_string(), Value::from(count)))
        .collect();
    json_text(200, json!({ "tasks": entries, "counts": counts }).to_string())
}

/// In the text format of Prometheus.
fn metrics(tasks: &mut Tasks, now: Duration) -> Reply {
    let mut text = "# TYPE tasks gauge\n".to_owned();
    for (state, count) in State::ALL.iter().zip(tasks.counts(now)) {
        text.push_str(&format!("tasks{{state=\"{state}\"}} {count}\n"));
    }
    Reply::text(200, text)
}

fn json_text(status: u16, text: String) -> Reply {
    let body = Payload::Bytes(Bytes::Owned(text.into_bytes().into()));
    Reply::new(status, "application/json; charset=utf-8", body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::Memory;

    fn db() -> Db {
        let tasks = Tasks::load(Box::new(Memory), Duration::from_secs(20), Duration::ZERO);
        Db::new(tasks.unwrap(), Instant::now())
    }

    fn ask(db: &Db, method: Method, target: &str) -> (u16, String) {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let reply = db.answer(&Request {
            method,
            path: path.to_owned(),
            query,
            content_type: String::new(),
            boundary: None,
            body: Vec::new(),
        });
        let Payload::Bytes(body) = &reply.body else {
            panic!("{reply:?}");
        };
        (reply.status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn bug_8_an_id_that_is_no_number_is_refused() {
        let db = db();
        for id in ["..%2F..%2Fx", "-1", "1x", "%30", "99999999999999999999"] {
            for (method, rest) in [
                (Method::Get, ""),
                (Method::Post, "/ready"),
                (Method::Post, "/finish"),
            ] {
                assert_eq!(
                    ask(&db, method, &format!("/task/{id}{rest}")).0,
                    400,
                    "{id}{rest}"
                );
            }
        }
        assert_eq!(ask(&db, Method::Post, "/task/0/finish?lease=x").0, 400);
        assert_eq!(ask(&db, Method::Get, "/tasks?limit=x").0, 400);
    }

    #[test]
    fn lists_tasks_and_counts_them() {
        let db = db();
        for _ in 0..3 {
            ask(&db, Method::Post, "/task");
        }
        ask(&db, Method::Post, "/task/1/ready");
        let (status, text) = ask(&db, Method::Get, "/tasks?limit=2");
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 200);
        assert_eq!(
            list["tasks"],
            json!([
                { "id": 2, "state": -1, "name": "created", "tries": 0 },
                { "id": 1, "state": 0, "name": "ready", "tries": 0 },
            ])
        );
        assert_eq!(list["counts"]["created"], 2);
        let (_, text) = ask(&db, Method::Get, "/metrics");
        assert!(text.contains("tasks{state=\"ready\"} 1\n"), "{text}");
    }
}
