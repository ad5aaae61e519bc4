//! kv over real HTTP on loopback: its contract, and the original's bugs that it must not have.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

const DEADLINE_SECONDS: u64 = 10;

/// A running kv on a free port; ended when the test ends, also by a failure.
struct Kv {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: u16,
}

impl Kv {
    fn start() -> Self {
        let mut child = command()
            .env("PORT", "0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("kv starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("kv prints a line");
        let port = line
            .strip_prefix("server is listening on ")
            .and_then(|port| port.trim_end().parse().ok())
            .unwrap_or_else(|| panic!("unexpected first line {line:?}"));
        Self { child, lines, port }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("kv's output is readable");
        line.trim_end().to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn get(&self, path: &str) -> (u16, String) {
        reply(minreq::get(self.url(path)))
    }

    fn post(&self, path: &str, content_type: &str, body: &str) -> (u16, String) {
        let request = minreq::post(self.url(path)).with_header("Content-Type", content_type);
        reply(request.with_body(body))
    }

    fn put(&self, path: &str, value: &str) {
        let body = serde_json::json!({ "value": value }).to_string();
        assert_eq!(self.post(path, "application/json", &body), (200, String::new()));
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("kv accepts");
        let deadline = std::time::Duration::from_secs(DEADLINE_SECONDS);
        stream
            .set_read_timeout(Some(deadline))
            .expect("a time-out can be set");
        stream
    }

    /// Sends bytes as they are, and reads until kv closes the connection.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("kv reads");
        stream
            .shutdown(Shutdown::Write)
            .expect("half of a connection closes");
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .expect("kv replies in time, then closes");
        text
    }
}

impl Drop for Kv {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.env_remove("MICRO_KEYVALUESTORE_PORT").env_remove("PORT");
    command
}

fn reply(request: minreq::Request) -> (u16, String) {
    let response = request.with_timeout(DEADLINE_SECONDS).send().expect("kv replies");
    let body = response.as_str().expect("replies are text").to_owned();
    (response.status_code, body)
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn stores_json_and_forms_and_logs_each_on_a_line() {
    let mut kv = Kv::start();
    kv.put("/dbendpoint", "10.0.2.15:9001");
    assert_eq!(kv.line(), "dbendpoint=10.0.2.15:9001");
    assert_eq!(kv.get("/dbendpoint"), (200, "10.0.2.15:9001".to_owned()));

    assert_eq!(
        kv.post("/form", FORM, "x=1&value=a%3A1+b&y=2"),
        (200, String::new())
    );
    assert_eq!(kv.line(), "form=a:1 b");
    assert_eq!(kv.get("/form"), (200, "a:1 b".to_owned()));

    let body = r#"{"value":"with parameters"}"#;
    assert_eq!(kv.post("/x", "Application/JSON; charset=utf-8", body).0, 200);
    assert_eq!(kv.line(), "x=with parameters");
}

#[test]
fn a_trailing_slash_makes_no_difference() {
    let kv = Kv::start();
    kv.put("/a/", "1");
    assert_eq!(kv.get("/a"), (200, "1".to_owned()));
    assert_eq!(kv.get("/a/"), (200, "1".to_owned()));
    assert_eq!(kv.get("/a/?query=1"), (200, "1".to_owned()));
}

#[test]
fn keys_are_percent_decoded() {
    let mut kv = Kv::start();
    kv.put("/a%20b%2F%C3%BC", "1");
    assert_eq!(kv.line(), "a b/ü=1");
    assert_eq!(kv.get("/%61%20b%2f%c3%bc"), (200, "1".to_owned()));
    for path in ["/%", "/%zz", "/%ff"] {
        assert!(
            kv.raw(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
                .starts_with("HTTP/1.1 400 ")
        );
    }
}

#[test]
fn a_key_cannot_forge_a_line_of_the_log() {
    let mut kv = Kv::start();
    kv.put("/a%0Amasterendpoint", "1");
    kv.put("/b", "2");
    assert_eq!(kv.line(), "a\\nmasterendpoint=1");
    assert_eq!(kv.line(), "b=2");
}

/// Bug 5 of the original.
#[test]
fn a_key_that_nobody_registered_is_not_found() {
    let kv = Kv::start();
    assert_eq!(kv.get("/nobody"), (404, "Key not found".to_owned()));
    assert_eq!(kv.post("/nobody", JSON, r#"{"value":""}"#).0, 400);
    assert_eq!(kv.get("/nobody"), (404, "Key not found".to_owned()));
}

/// Bug 6 of the original.
#[test]
fn the_newest_registration_wins() {
    let kv = Kv::start();
    for value in ["10.0.0.1:9001", "10.0.0.2:9001"] {
        kv.put("/dbendpoint", value);
        assert_eq!(kv.get("/dbendpoint"), (200, value.to_owned()));
    }
}

/// Bug 9 of the original.
#[test]
fn names_of_object_members_are_keys_like_any_other() {
    let kv = Kv::start();
    for key in ["/toString", "/constructor", "/__proto__", "/hasOwnProperty"] {
        assert_eq!(kv.get(key), (404, "Key not found".to_owned()));
        kv.put(key, "1");
        assert_eq!(kv.get(key), (200, "1".to_owned()));
    }
}

#[test]
fn the_root_is_a_health_check_and_healthz_is_a_key() {
    let kv = Kv::start();
    assert_eq!(kv.get("/"), (200, "ok".to_owned()));
    assert_eq!(kv.get("/healthz").0, 404);
    assert_eq!(kv.get("/a/b").0, 404);
}

#[test]
fn a_body_without_a_value_changes_nothing_and_says_why() {
    let kv = Kv::start();
    kv.put("/key", "kept");
    for (content_type, body, reason) in [
        (JSON, "", "not JSON"),
        (JSON, "{", "not JSON"),
        (JSON, "\u{0}", "not JSON"),
        (JSON, &"[".repeat(10_000), "not JSON"),
        (JSON, "[1]", "not a JSON object"),
        (JSON, "{}", "no `value`"),
        (JSON, r#"{"value":5}"#, "not a string"),
        (JSON, r#"{"value":null}"#, "not a string"),
        (FORM, "", "no field `value`"),
        (FORM, "values=1", "no field `value`"),
        (FORM, "value=", "empty"),
    ] {
        let (status, text) = kv.post("/key", content_type, body);
        assert_eq!(status, 400, "{body:?}");
        assert!(text.contains(reason), "{body:?}: {text}");
    }
    assert_eq!(kv.get("/key"), (200, "kept".to_owned()));
}

#[test]
fn another_method_is_not_allowed_and_head_has_no_body() {
    let kv = Kv::start();
    kv.put("/key", "value");
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let reply =
            kv.raw(format!("{method} /key HTTP/1.1\r\nhost: kv\r\nconnection: close\r\n\r\n").as_bytes());
        assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}");
        assert!(reply.contains("\r\nallow: GET, HEAD, POST\r\n"), "{reply}");
    }
    assert!(kv.raw(b"POST / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let reply = kv.raw(b"HEAD /key HTTP/1.0\r\n\r\n");
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.contains("content-length: 5\r\n"));
    assert!(reply.ends_with("\r\n\r\n"), "{reply}");
}

#[test]
fn a_body_beyond_the_limit_is_refused_whatever_length_is_claimed() {
    let kv = Kv::start();
    let fits = format!(r#"{{"value":"{}"}}"#, "x".repeat(16_000));
    assert_eq!(kv.post("/big", JSON, &fits).0, 200);
    let (status, text) = kv.post("/key", JSON, &"x".repeat(200_000));
    assert_eq!((status, text.as_str()), (413, "body is larger than 16384 bytes"));
    for length in [
        "16385",
        "4294967296",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        let reply = kv.raw(format!("POST /key HTTP/1.1\r\ncontent-length: {length}\r\n\r\n").as_bytes());
        assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    }
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    let chunks = format!(
        "POST /key HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(3)
    );
    assert!(kv.raw(chunks.as_bytes()).starts_with("HTTP/1.1 413 "));
    assert_eq!(kv.get("/key").0, 404);
}

#[test]
fn malformed_requests_are_refused_and_harm_nobody_else() {
    let kv = Kv::start();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    for (request, status) in [
        ("\u{1}\u{2}\r\n\r\n", "400"),
        ("GET\r\n\r\n", "400"),
        ("GET / HTTP/7.0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        ("POST /k HTTP/1.1\r\ncontent-length: -1\r\n\r\n", "400"),
        (
            "POST /k HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "400",
        ),
        (
            "POST /k HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "400",
        ),
        (
            "POST /k HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
            "400",
        ),
        ("POST /k HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", "501"),
        (&long, "431"),
        (&fields, "431"),
    ] {
        let reply = kv.raw(request.as_bytes());
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:.60}: {reply}"
        );
    }
    // Cut off in the head, and in the body.
    for request in ["GET / HT", "POST /k HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc"] {
        assert_eq!(kv.raw(request.as_bytes()), "");
    }
    assert_eq!(kv.get("/").0, 200);
}

#[test]
fn a_connection_serves_request_after_request_also_pipelined_and_chunked() {
    let kv = Kv::start();
    let post = "POST /k HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                9\r\n{\"value\":\r\n4;x=y\r\n\"v\"}\r\n0\r\ntrailer: 1\r\n\r\n";
    let get = "GET /k HTTP/1.1\r\n\r\n";
    let text = kv.raw(
        format!(
            "{post}{}GET /k HTTP/1.1\r\nconnection: close\r\n\r\n",
            get.repeat(3)
        )
        .as_bytes(),
    );
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 5, "{text}");
    assert_eq!(text.matches("\r\n\r\nv").count(), 4, "{text}");
    assert_eq!(text.matches("connection: close").count(), 1, "{text}");
}

#[test]
fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let kv = Kv::start();
    let mut stream = kv.connect();
    stream
        .write_all(
            b"POST /k HTTP/1.1\r\ncontent-length: 13\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        )
        .expect("kv reads");
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).expect("kv gives leave");
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(br#"{"value":"v"}"#).expect("kv reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("kv replies");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}

#[test]
fn more_clients_than_connections_are_all_served() {
    let kv = Kv::start();
    thread::scope(|scope| {
        for client in 0..50 {
            let kv = &kv;
            scope.spawn(move || {
                for round in 0..20 {
                    let key = format!("/k{}", client % 10);
                    kv.put(&key, &format!("{round}"));
                    let (status, value) = kv.get(&key);
                    assert!(status == 200 && value.parse::<u32>().is_ok_and(|value| value < 20));
                }
            });
        }
    });
}

#[test]
fn silent_clients_do_not_keep_others_out() {
    let kv = Kv::start();
    let silent: Vec<_> = (0..20).map(|_| kv.connect()).collect();
    assert_eq!(kv.get("/").0, 200);
    drop(silent);
}

#[test]
fn bad_settings_end_it_with_a_clear_message() {
    let run = |command: &mut Command| {
        let output = command.output().expect("kv starts");
        assert!(output.stdout.is_empty());
        (
            output.status.code(),
            String::from_utf8(output.stderr).expect("text"),
        )
    };
    let (code, text) = run(command().env("MICRO_KEYVALUESTORE_PORT", "http").env("PORT", "0"));
    assert_eq!(code, Some(78));
    assert_eq!(
        text,
        "error: environment variable `MICRO_KEYVALUESTORE_PORT` is not a port (0 to 65535): `http`\n"
    );
    let (code, text) = run(command().arg("surprise").env("PORT", "0"));
    assert_eq!(
        (code, text.as_str()),
        (
            Some(64),
            "error: kv takes no arguments, got `surprise`\nusage: kv\n"
        )
    );

    let kv = Kv::start();
    let (code, text) = run(command().env("PORT", kv.port.to_string()));
    assert_eq!(code, Some(69));
    assert!(
        text.starts_with(&format!("error: cannot listen on port {}: ", kv.port)),
        "{text}"
    );
}
