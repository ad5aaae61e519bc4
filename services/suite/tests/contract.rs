//! Every route of the contract, service by service. `SUITE_<SERVICE>` points each at another server, which may know
//! tasks and keys already: nothing here takes it for empty.

use hermitage_suite::ask::{self, Answer};
use hermitage_suite::picture;
use hermitage_suite::stack::{Service, Stack};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn ok() -> (u16, String) {
    (200, String::new())
}

#[test]
fn kv_stores_json_and_forms_with_or_without_a_trailing_slash() {
    let kv = Service::kv();
    let key = format!("suite{}", std::process::id());
    assert_eq!(
        kv.get(&format!("/{key}")).pair(),
        (404, "Key not found".to_owned())
    );
    let json = ask::post_body(&kv.at(&format!("/{key}")), JSON, r#"{"value":"10.0.0.1:9001"}"#);
    assert_eq!(json.pair(), ok());
    for path in [format!("/{key}"), format!("/{key}/")] {
        assert_eq!(kv.get(&path).pair(), (200, "10.0.0.1:9001".to_owned()));
    }
    let form = ask::post_body(&kv.at(&format!("/{key}/")), FORM, "value=10.0.0.2%3A9001");
    assert_eq!(form.pair(), ok());
    assert_eq!(
        kv.get(&format!("/{key}")).pair(),
        (200, "10.0.0.2:9001".to_owned())
    );
}

/// Takes all tasks that are ready, so that the next one is the test's.
fn drain(db: &Service) {
    while db.get("/task/next").status == 200 {}
}

#[test]
fn db_creates_hands_out_and_finishes_tasks() {
    let kv = Service::kv();
    let db = Service::db(kv.endpoint());
    drain(&db);
    assert_eq!(
        db.get("/task/next").pair(),
        (404, r#"{"id":-1,"state":0}"#.to_owned())
    );
    let created = db.post("/task");
    let id: u64 = created.text().parse().expect("an id is a number");
    assert_eq!(created.status, 200);
    assert_eq!(db.post("/task").text(), (id + 1).to_string());
    let state = |id: u64, state: i8| (200, format!(r#"{{"id":{id},"state":{state}}}"#));
    let task = |id: u64| db.get(&format!("/task/{id}")).pair();
    assert_eq!(task(id), state(id, -1));
    // Ready in the wrong order: the lowest comes first nevertheless.
    assert_eq!(db.post(&format!("/task/{}/ready", id + 1)).pair(), ok());
    assert_eq!(db.post(&format!("/task/{id}/ready")).pair(), ok());
    assert_eq!(task(id), state(id, 0));
    for next in [id, id + 1] {
        assert_eq!(db.get("/task/next").pair(), state(next, 1));
        assert_eq!(task(next), state(next, 1));
    }
    assert_eq!(db.get("/task/next").status, 404);
    assert_eq!(db.post(&format!("/task/{id}/finish")).pair(), ok());
    assert_eq!(task(id), state(id, 2));
    let unknown = (404, "Task not found".to_owned());
    assert_eq!(task(id + 1_000_000), unknown);
    for change in ["ready", "finish"] {
        assert_eq!(db.post(&format!("/task/{}/{change}", id + 1_000_000)).status, 404);
    }
}

#[test]
fn storage_gives_back_what_it_was_given() {
    let kv = Service::kv();
    let storage = Service::storage(kv.endpoint());
    let id = 1_000_000 + u64::from(std::process::id());
    assert_eq!(storage.get(&format!("/download/{id}")).status, 404);
    let picture = picture::noise(1, "20x10", "png24");
    assert_eq!(storage.upload(&format!("/upload/{id}"), &picture).pair(), ok());
    let answer = storage.get(&format!("/download/{id}"));
    assert_eq!((answer.status, &answer.body), (200, &picture));
    assert_eq!(answer.field("content-type"), Some("image/png"));
    let disposition = format!("attachment; filename=\"{id}.png\"");
    assert_eq!(answer.field("content-disposition"), Some(disposition.as_str()));
}

/// What is no upload of a picture.
fn no_pictures(url: &str) -> Vec<Answer> {
    vec![
        ask::post(url),
        ask::post_body(url, JSON, r#"{"image":"x"}"#),
        ask::upload_part(
            url,
            "content-disposition: form-data; name=\"file\"; filename=\"a.png\"",
            b"x",
        ),
        ask::post_body(url, "multipart/form-data", "--x\r\n"),
    ]
}

#[test]
fn storage_and_master_refuse_an_upload_without_a_picture() {
    let stack = Stack::start(0);
    for answer in no_pictures(&stack.storage.at("/upload/7")) {
        assert_eq!(answer.status, 400);
        assert!(answer.text().starts_with("Image not found"), "{}", answer.text());
    }
    for answer in no_pictures(&stack.master.at("/task")) {
        assert_eq!(answer.status, 400);
    }
}

#[test]
fn a_part_that_is_named_image_is_a_picture_without_a_file_name_too() {
    let stack = Stack::start(0);
    let picture = picture::noise(2, "9x9", "png24");
    let head = "Content-Disposition: form-data; name=\"image\"\r\nContent-Type: application/octet-stream";
    let id = 2_000_000 + u64::from(std::process::id());
    assert_eq!(
        ask::upload_part(&stack.storage.at(&format!("/upload/{id}")), head, &picture).pair(),
        ok()
    );
    assert_eq!(stack.storage.get(&format!("/download/{id}")).body, picture);
    assert_eq!(
        ask::upload_part(&stack.master.at("/task"), head, &picture).pair(),
        ok()
    );
}

/// The whole way, as the original's clients and workers go it.
#[test]
fn master_takes_a_picture_hands_it_out_and_gives_the_result() {
    let stack = Stack::start(0);
    drain(&stack.db);
    let (input, result) = (
        picture::noise(3, "9x9", "png24"),
        picture::noise(4, "9x9", "png24"),
    );
    assert_eq!(stack.master.upload("/task", &input).pair(), ok());

    let next = stack.master.get("/task/next");
    let task: serde_json::Value = serde_json::from_str(&next.text()).expect("a task is JSON");
    let id = task["id"].as_u64().expect("a task has an id");
    assert_eq!(next.pair(), (200, format!(r#"{{"id":{id},"state":1}}"#)));
    assert_eq!(
        stack.master.get("/task/next").pair(),
        (404, r#"{"id":-1,"state":0}"#.to_owned())
    );

    let download = || stack.master.get(&format!("/task/{id}/download"));
    let ready = || stack.master.get(&format!("/task/{id}/ready")).pair();
    assert_eq!(download().body, input);
    assert_eq!(download().field("content-type"), Some("image/png"));
    assert_eq!(ready(), (200, "false".to_owned()));
    assert_eq!(
        stack.storage.upload(&format!("/upload/{id}"), &result).pair(),
        ok()
    );
    assert_eq!(stack.master.post(&format!("/task/{id}/finish")).pair(), ok());
    assert_eq!(ready(), (200, "true".to_owned()));
    assert_eq!(download().body, result);

    for path in ["download", "ready"] {
        assert_eq!(stack.master.get(&format!("/task/9999999/{path}")).status, 404);
    }
    assert_eq!(stack.master.post("/task/9999999/finish").status, 404);
}

#[test]
fn ui_shows_the_form_and_the_result_inlined() {
    let mut stack = Stack::start(1);
    let ui = Service::ui(stack.kv.endpoint());
    let form = ui.get("/upload").text();
    assert!(
        form.contains("enctype=\"multipart/form-data\"") && form.contains("name=\"image\""),
        "{form}"
    );
    for path in ["/", "/?taskId=9999999", "/?taskId=x"] {
        let answer = ui.get(path);
        assert!(
            answer.status == 200 && answer.text().contains("NO RESULT FOUND!"),
            "{path}"
        );
    }
    let answer = ui.upload("/upload", &picture::noise(5, "9x9", "png24"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = newest(&stack.db);
    stack.wait_state(id, 2);
    let page = ui.get(&format!("/?taskId={id}")).text();
    assert!(
        page.contains("data:image/png;base64,iVBOR") && !page.contains("NO RESULT FOUND!"),
        "{page}"
    );
    assert!(stack.workers[0].is_alive());
}

#[test]
fn ui_tells_why_an_upload_failed() {
    let kv = Service::kv();
    let ui = Service::ui(kv.endpoint());
    let answer = ui.upload("/upload", b"picture");
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().starts_with("Error uploading image: "),
        "{}",
        answer.text()
    );
}

/// The id of the newest task.
fn newest(db: &Service) -> u64 {
    let mut id = 0;
    while db.get(&format!("/task/{}", id + 1)).status == 200 {
        id += 1;
    }
    id
}
