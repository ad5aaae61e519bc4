//! The original's bugs that show from outside, in the order of the contract; those of one module alone (13) are tested
//! there.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hermitage_http::{Method, Reply};
use hermitage_suite::fake::Fake;
use hermitage_suite::process::Process;
use hermitage_suite::stack::{Service, Stack};
use hermitage_suite::{ask, picture, wait_for};

fn picture() -> Vec<u8> {
    picture::noise(1, "30x20", "png24")
}

#[test]
fn bug_1_twenty_uploads_at_once_are_twenty_tasks_and_each_has_its_picture() {
    let stack = Stack::start(0);
    let pictures: Vec<_> = (0..20)
        .map(|seed| picture::noise(seed, "64x48", "png24"))
        .collect();
    let ids = stack.upload_all(&pictures);
    for (id, picture) in ids.iter().zip(&pictures) {
        assert_eq!(stack.state(*id), 0);
        assert_eq!(&stack.download(*id), picture);
    }
    let mut handed: Vec<_> = (0..20).map(|_| stack.master.get("/task/next").text()).collect();
    handed.sort();
    handed.dedup();
    assert_eq!(handed.len(), 20);
    assert_eq!(stack.master.get("/task/next").status, 404);
}

#[test]
fn bug_1_a_task_is_not_ready_before_its_picture_is_stored() {
    let stack = Stack::start(0);
    let (content_type, body) = ask::form("content-disposition: form-data; name=\"image\"", &picture());
    let mut stream = ask::connect(&stack.master.url);
    let head = format!(
        "POST /task HTTP/1.1\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let (now, later) = body.split_at(body.len() / 2);
    stream.write_all(head.as_bytes()).expect("master reads");
    stream.write_all(now).expect("master reads");
    wait_for("the task", || {
        (stack.db.get("/task/0").status == 200).then_some(())
    });
    assert_eq!(stack.state(0), -1);
    assert_eq!(stack.master.get("/task/next").status, 404);
    stream.write_all(later).expect("master reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("master replies");
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert_eq!(stack.state(0), 0);
}

/// A worker that stored its result, and then died.
#[test]
fn bug_2_a_second_lease_inverts_the_input_and_not_the_result() {
    let mut stack = Stack::start(0);
    let input = picture();
    let id = stack.upload(&input);
    assert_eq!(stack.master.get("/task/next").status, 200);
    let first = picture::convert(&input, &["-", "-negate", "png24:-"]);
    assert_eq!(stack.storage.upload(&format!("/upload/{id}"), &first).status, 200);
    assert_eq!(stack.master.post(&format!("/task/{id}/fail")).status, 200);
    // What the next worker gets is the input, whatever is stored.
    assert_eq!(stack.download(id), input);
    stack.add_worker();
    stack.wait_state(id, 2);
    assert_eq!(picture::pixels(&stack.download(id)), picture::inverse(&input));
    let kept = stack.master.get(&format!("/task/{id}/download?picture=input"));
    assert_eq!(kept.body, input);
}

#[test]
fn bug_3_a_late_worker_neither_finishes_nor_overwrites() {
    let stack = Stack::with_lease(0, "6");
    let id = stack.upload(&picture());
    let lease = |answer: &ask::Answer| {
        answer
            .field("task-lease")
            .expect("a lease has a number")
            .to_owned()
    };
    let first = lease(&stack.master.get("/task/next"));
    let second = wait_for("the lease to end", || {
        let next = stack.master.get("/task/next");
        (next.status == 200).then(|| lease(&next))
    });
    let upload = |lease: &str, picture: &[u8]| {
        let path = format!("/upload/{id}?picture=result&lease={lease}");
        stack.storage.upload(&path, picture).status
    };
    let finish = |lease: &str| {
        stack
            .master
            .post(&format!("/task/{id}/finish?lease={lease}"))
            .status
    };
    let (late, right) = (
        picture::noise(2, "5x5", "png24"),
        picture::noise(3, "5x5", "png24"),
    );
    assert_eq!(finish(&first), 409);
    assert_eq!(stack.state(id), 1);
    assert_eq!(upload(&first, &late), 200);
    assert_eq!(upload(&second, &right), 200);
    assert_eq!(upload(&first, &late), 409);
    // The original's late worker does not say which lease it had.
    assert_eq!(stack.storage.upload(&format!("/upload/{id}"), &late).status, 200);
    assert_eq!(finish(&second), 200);
    assert_eq!(finish(&second), 200);
    assert_eq!(finish(&first), 409);
    assert_eq!(stack.download(id), right);
    assert_eq!(stack.db.post(&format!("/task/{id}/ready")).status, 409);
    assert_eq!(stack.state(id), 2);
}

/// A db that fails at one path, so often.
fn failing_db(kv: &Service, path: &'static str, times: usize) -> Fake {
    let failures = Arc::new(AtomicUsize::new(0));
    let db = Fake::start(move |request| match (request.method, request.path.as_str()) {
        (_, asked) if asked.ends_with(path) && failures.fetch_add(1, Ordering::Relaxed) < times => {
            Reply::text(500, "db is out of order")
        }
        (Method::Post, "/task") => Reply::text(200, "0"),
        (Method::Post, _) => Reply::text(200, ""),
        _ => Reply::text(200, r#"{"id":0,"state":1}"#),
    });
    ask::post_body(
        &kv.at("/dbendpoint"),
        "application/json",
        format!(r#"{{"value":"{}"}}"#, db.endpoint),
    );
    db
}

#[test]
fn bug_4_a_failure_of_ready_or_finish_is_told() {
    let kv = Service::kv();
    let _storage = Service::storage(kv.endpoint());
    let master = Service::master(kv.endpoint());
    let db = failing_db(&kv, "/ready", usize::MAX);
    let answer = master.upload("/task", &picture());
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().starts_with("Error creating task: "),
        "{}",
        answer.text()
    );
    assert!(
        db.asked().contains(&"Post /task/0/fail".to_owned()),
        "{:?}",
        db.asked()
    );

    let kv = Service::kv();
    let master = Service::master(kv.endpoint());
    let _db = failing_db(&kv, "/finish", usize::MAX);
    assert_eq!(master.post("/task/0/finish").status, 500);
}

#[test]
fn bug_4_a_worker_asks_again_when_finish_fails() {
    let kv = Service::kv();
    let storage = Service::storage(kv.endpoint());
    let _master = Service::master(kv.endpoint());
    storage.upload("/upload/0", &picture());
    let db = failing_db(&kv, "/finish", 1);
    let worker = Process::start("worker", &[kv.endpoint()], &[]);
    let _ = worker.line("\tdone");
    let finishes = db
        .asked()
        .iter()
        .filter(|line| line.starts_with("Post /task/0/finish"))
        .count();
    assert!(finishes >= 2, "{:?}", db.asked());
}

#[test]
fn a_worker_that_is_asked_to_stop_finishes_its_task_and_takes_no_other() {
    let kv = Service::kv();
    let storage = Service::storage(kv.endpoint());
    let _master = Service::master(kv.endpoint());
    storage.upload("/upload/0", &picture());
    let db = failing_db(&kv, "/finish", 1);
    let mut worker = Process::start("worker", &[kv.endpoint()], &[]);
    let asked = |what: &str| db.asked().iter().filter(|line| line.starts_with(what)).count();
    wait_for("a finish that fails", || {
        (asked("Post /task/0/finish") > 0).then_some(())
    });
    worker.ask_to_stop();
    assert_eq!(worker.wait(), Some(0));
    assert_eq!(asked("Post /task/0/finish"), 2);
    assert_eq!(asked("Get /task/next"), 1);
    // Who has nothing to do ends at once.
    let mut idle = Process::start("worker", &["127.0.0.1:1"], &[("MICRO_WORKER_PAUSE", "3600")]);
    let _ = idle.line("");
    idle.ask_to_stop();
    assert_eq!(idle.wait(), Some(0));
}

#[test]
fn bug_5_a_key_that_nobody_registered_is_not_found() {
    let kv = Service::kv();
    assert_eq!(kv.get("/nobody").pair(), (404, "Key not found".to_owned()));
}

#[test]
fn bug_6_a_service_that_comes_back_elsewhere_is_found() {
    let mut stack = Stack::start(1);
    let id = stack.upload(&picture());
    stack.wait_state(id, 2);
    // Each in its turn, on another port.
    stack.master.process().kill();
    stack.master = Service::master(stack.kv.endpoint());
    stack.db.process().kill();
    stack.db = Service::db(stack.kv.endpoint());
    stack.storage.process().kill();
    stack.storage = Service::storage(stack.kv.endpoint());
    let id = stack.upload(&picture());
    stack.wait_state(id, 2);
    assert_eq!(picture::pixels(&stack.download(id)), picture::inverse(&picture()));
}

#[test]
fn bug_7_master_outlives_uploads_without_a_picture_and_services_that_are_away() {
    let mut stack = Stack::start(0);
    for _ in 0..3 {
        assert_eq!(ask::post(&stack.master.at("/task")).status, 400);
        assert_eq!(stack.master.upload("/task", b"").status, 400);
    }
    assert_eq!(stack.db.get("/task/0").status, 404);

    stack.storage.process().kill();
    let answer = stack.master.upload("/task", &picture());
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().starts_with("Error uploading image: "),
        "{}",
        answer.text()
    );
    assert_eq!(stack.state(0), 3);

    stack.db.process().kill();
    let answer = stack.master.upload("/task", &picture());
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().starts_with("Error creating task: "),
        "{}",
        answer.text()
    );
    for path in ["/task/next", "/task/0/download", "/task/0/ready"] {
        assert_eq!(stack.master.get(path).status, 500, "{path}");
    }
    assert_eq!(stack.master.post("/task/0/finish").status, 500);
    assert!(stack.master.process().is_alive());
}

#[test]
fn bug_7_a_client_that_goes_away_in_the_middle_leaves_a_task_that_failed() {
    let stack = Stack::start(0);
    let mut stream = ask::connect(&stack.master.url);
    let begin = "POST /task HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 1000000\r\n\r\n\
                 --b\r\ncontent-disposition: form-data; name=\"image\"\r\n\r\n";
    stream.write_all(begin.as_bytes()).expect("master reads");
    stream.write_all(&[1; 5000]).expect("master reads");
    wait_for("the task", || {
        (stack.db.get("/task/0").status == 200).then_some(())
    });
    drop(stream);
    stack.wait_state(0, 3);
    assert_eq!(stack.storage.get("/download/0").status, 404);
}

#[test]
fn bug_8_an_id_that_is_no_number_is_refused_everywhere() {
    let stack = Stack::start(0);
    for id in ["..%2F..%2Fx", "%2e%2e%2fx", "-1", "1e3", "0x1"] {
        for (service, path, posts) in [
            (&stack.storage, "/upload/ID", true),
            (&stack.storage, "/download/ID", false),
            (&stack.db, "/task/ID", false),
            (&stack.db, "/task/ID/ready", true),
            (&stack.db, "/task/ID/finish", true),
            (&stack.master, "/task/ID/download", false),
            (&stack.master, "/task/ID/ready", false),
            (&stack.master, "/task/ID/finish", true),
        ] {
            let path = path.replace("ID", id);
            let answer = if posts {
                service.upload(&path, &picture())
            } else {
                service.get(&path)
            };
            assert_eq!(answer.status, 400, "{path}");
        }
    }
}

#[test]
fn bug_9_names_of_object_members_are_no_routes_and_no_keys() {
    let stack = Stack::start(0);
    assert_eq!(
        stack.kv.get("/toString").pair(),
        (404, "Key not found".to_owned())
    );
    for service in [&stack.db, &stack.storage, &stack.master] {
        for path in ["/toString", "/__proto__", "/task/toString/x"] {
            assert_eq!(service.get(path).status, 404, "{path}");
        }
    }
}

#[test]
fn bug_10_readers_see_one_whole_picture_while_others_upload() {
    let kv = Service::kv();
    let storage = Service::storage(kv.endpoint());
    let pictures: Vec<_> = [1_u8, 2, 3].map(|byte| vec![byte; 700_000]).into();
    storage.upload("/upload/1?picture=input", &pictures[0]);
    let failure = thread::scope(|scope| {
        let writers: Vec<_> = pictures
            .iter()
            .map(|picture| {
                scope.spawn(|| {
                    for _ in 0..15 {
                        assert_eq!(storage.upload("/upload/1?picture=input", picture).status, 200);
                    }
                })
            })
            .collect();
        let mut failure = None;
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let seen = storage.get("/download/1").body;
            if !pictures.contains(&seen) {
                failure = Some((seen.len(), seen.first().copied()));
            }
        }
        failure
    });
    assert_eq!(failure, None);
}

#[test]
fn bug_11_the_page_of_an_error_is_no_picture() {
    let kv = Service::kv();
    let storage = Fake::start(|request| match request.method {
        Method::Get if request.path.starts_with("/download") => {
            Reply::text(500, "<h1>storage is out of order</h1>")
        }
        _ => Reply::text(200, ""),
    });
    let register = |key: &str, value: &str| {
        let body = format!(r#"{{"value":"{value}"}}"#);
        ask::post_body(&kv.at(key), "application/json", body);
    };
    register("/storageendpoint", &storage.endpoint);
    let db = Service::db(kv.endpoint());
    let _master = Service::master(kv.endpoint());
    db.post("/task");
    db.post("/task/0/ready");
    let worker = Process::start("worker", &[kv.endpoint()], &[("MICRO_WORKER_PAUSE", "0.05")]);
    let failure = worker.line("\tfailed: download: 500 ");
    assert!(failure.contains("out of order"));
    wait_for("the task to fail", || {
        db.get("/task/0").text().contains(r#""state":3"#).then_some(())
    });
    assert!(
        !storage.asked().iter().any(|line| line.contains("/upload/")),
        "{:?}",
        storage.asked()
    );
}

#[test]
fn bug_11_a_bad_picture_is_tried_three_times_and_good_ones_go_on() {
    let stack = Stack::start(1);
    let bad = [b"<html>not a picture</html>".to_vec(), picture()[..200].to_vec()];
    let bad: Vec<_> = bad.iter().map(|picture| stack.upload(picture)).collect();
    let good = stack.upload(&picture());
    stack.wait_state(good, 2);
    for id in bad {
        stack.wait_state(id, 3);
        assert_eq!(
            stack.master.get(&format!("/task/{id}/ready")).pair(),
            (200, "false".to_owned())
        );
        let line = format!("Working on task {id}");
        let tries = stack.workers[0]
            .lines()
            .iter()
            .filter(|other| **other == line)
            .count();
        assert_eq!(tries, 3);
    }
    assert_eq!(stack.master.get("/task/next").status, 404);
}

#[test]
fn bug_12_the_page_shows_no_result_before_there_is_one() {
    let mut stack = Stack::start(0);
    let ui = Service::ui(stack.kv.endpoint());
    let id = stack.upload(&picture());
    let page = || ui.get(&format!("/?taskId={id}")).text();
    for _ in 0..2 {
        assert!(page().contains("NO RESULT FOUND!") && !page().contains("base64,iVBOR"));
        let _ = stack.master.get("/task/next");
    }
    let failed = stack.upload(b"no picture");
    stack.add_worker();
    stack.wait_state(failed, 3);
    stack.wait_state(id, 2);
    assert!(page().contains("base64,iVBOR") && !page().contains("NO RESULT FOUND!"));
    let failed = ui.get(&format!("/?taskId={failed}")).text();
    assert!(failed.contains("NO RESULT FOUND!") && failed.contains("failed"));
}
