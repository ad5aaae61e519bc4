//! Stories of kv in a virtual machine: it serves by both ways in, and in the memory that we promise.
//!
//! Run by `cargo xtask test`, or alone, after `cargo xtask compose kv`, by
//! `cargo test --release -p xtask --test kv -- --ignored`. What kv answers to what is tested on the host, in its crate.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hermitage_boot::Reason;
use hermitage_boot::control::mark;
use launcher::{AcceleratorChoice, Entry, Forward, GuestExit, Machine, RunRequest};

/// Time for a boot; it takes 0.2 s on a quiet machine without KVM.
const BOOT_DEADLINE: Duration = Duration::from_secs(30);

/// Time for a request, in seconds; it takes 10 ms. Shorter than kv's patience with silent clients: one that waits until
/// kv gives those up is late.
const REQUEST_DEADLINE: u64 = 20;

/// The least memory that we promise to be enough; docs/performance.md says how much less it takes today.
const LEAST_MEMORY: &str = "32M";

/// A kv that runs. Its machine ends, and its files go, when the test ends, also by a failure.
struct Kv {
    machine: Machine,
    address: SocketAddrV4,
    console: Console,
    _root: tempfile::TempDir,
}

/// What the guest wrote to its console.
#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Console {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

fn image() -> PathBuf {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/kv/kv.qcow2");
    assert!(image.exists(), "no image: `cargo xtask compose kv` first");
    image
}

impl Kv {
    fn boot(change: impl FnOnce(&mut RunRequest)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut request = RunRequest {
            accelerator: AcceleratorChoice::Auto,
            forwards: vec![Forward::tcp_from_any_port(9000)],
            trace: true,
            ..RunRequest::new(image(), "kv".parse().unwrap())
        };
        change(&mut request);
        let console = Console::default();
        let machine = launcher::plan(&request)
            .unwrap()
            .start(root.path(), console.clone())
            .unwrap();
        if let Err(error) = machine.wait_mark(mark::LISTEN, BOOT_DEADLINE) {
            panic!("{error}; console:\n{}", console.text());
        }
        let address = machine.spec().forwards[0].host;
        Self {
            machine,
            address,
            console,
            _root: root,
        }
    }

    fn url(&self, key: &str) -> String {
        format!("http://{}/{key}", self.address)
    }

    fn ask(&self, request: minreq::Request) -> (u16, String) {
        let reply = request.with_timeout(REQUEST_DEADLINE).send();
        let reply = reply.unwrap_or_else(|error| panic!("{error}; console:\n{}", self.console.text()));
        (reply.status_code, reply.as_str().unwrap().to_owned())
    }

    fn get(&self, key: &str) -> (u16, String) {
        self.ask(minreq::get(self.url(key)))
    }

    fn put(&self, key: &str, value: &str) {
        let body = serde_json::json!({ "value": value }).to_string();
        let request = minreq::post(self.url(key)).with_header("content-type", "application/json");
        assert_eq!(self.ask(request.with_body(body)), (200, String::new()));
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn stores_and_reads_by_both_ways_in_and_prints_each_line() {
    for entry in [Entry::Direct, Entry::Disk] {
        let kv = Kv::boot(|request| request.entry = entry);
        assert_eq!(
            kv.get("dbendpoint"),
            (404, "Key not found".to_owned()),
            "{entry:?}"
        );
        kv.put("dbendpoint", "10.0.2.15:9001");
        assert_eq!(
            kv.get("dbendpoint"),
            (200, "10.0.2.15:9001".to_owned()),
            "{entry:?}"
        );
        // It hears that it is to stop, and ends by itself.
        let exit = kv.machine.stop();
        assert!(
            matches!(&exit, GuestExit::Ended(end) if end.reason == Reason::Exit && end.code == 0),
            "{entry:?}: {exit:?}"
        );
        let text = kv.console.text().replace('\r', "");
        assert_eq!(
            text, "server is listening on 9000\ndbendpoint=10.0.2.15:9001\nserver is stopped\n",
            "{entry:?}"
        );
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn listens_on_the_port_that_its_environment_names() {
    let kv = Kv::boot(|request| {
        request.environment = vec![
            "PORT=8001".parse().unwrap(),
            "MICRO_KEYVALUESTORE_PORT=8002".parse().unwrap(),
        ];
        request.forwards = vec![Forward::tcp_from_any_port(8002)];
    });
    assert_eq!(kv.get(""), (200, "ok".to_owned()));
}

#[test]
#[ignore = "boots virtual machines"]
fn a_bad_port_ends_the_guest_with_its_message_and_its_code() {
    ends_with(78, "`PORT` is not a port", |request| {
        request.environment = vec!["PORT=http".parse().unwrap()];
    });
}

#[test]
#[ignore = "boots virtual machines"]
fn a_volume_that_is_to_be_mounted_needs_a_program_that_mounts_it() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("notes.raw");
    fs::write(&volume, vec![0; 16 << 20]).unwrap();
    ends_with(126, "needs `volumes: [/data]` in `package.yaml`", |request| {
        request.volumes = vec![format!("{}:/data", volume.display()).parse().unwrap()];
    });
    assert!(
        fs::read(&volume).unwrap() == vec![0; 16 << 20],
        "it was written to"
    );
}

/// Boots a kv that ends by itself, with this code and these words.
#[track_caller]
fn ends_with(code: u8, words: &str, change: impl FnOnce(&mut RunRequest)) {
    let root = tempfile::tempdir().unwrap();
    let mut request = RunRequest::new(image(), "kv".parse().unwrap());
    change(&mut request);
    let console = Console::default();
    let machine = launcher::plan(&request)
        .unwrap()
        .start(root.path(), console.clone())
        .unwrap();
    let exit = machine.wait_for(BOOT_DEADLINE).expect("the guest ends");
    assert_eq!(exit.code(), code, "{exit:?}");
    assert!(console.text().contains(words), "{}", console.text());
}

#[test]
#[ignore = "boots virtual machines"]
fn serves_many_clients_and_survives_rude_ones_in_the_least_memory() {
    let kv = Kv::boot(|request| {
        request.memory = LEAST_MEMORY.parse().unwrap();
        request.entry = Entry::Disk;
    });
    // Connections are made one after the other: QEMU's network lets two wait, and the host makes more of them wait for
    // seconds, twice as long each time.
    let clients: Vec<_> = (0..20).map(|_| Client::connect(&kv)).collect();
    thread::scope(|scope| {
        for (number, mut client) in clients.into_iter().enumerate() {
            scope.spawn(move || {
                for round in 0..10 {
                    let (key, value) = (format!("key{number}"), format!("{round}"));
                    assert_eq!(client.put(&key, &value), (200, String::new()));
                    assert_eq!(client.get(&key), (200, value));
                }
            });
        }
    });
    // Claims more than there is memory, hangs up in the middle, says nothing; more often than kv has workers.
    let requests: [&[u8]; 3] = [
        b"POST /k HTTP/1.1\r\ncontent-length: 4294967296\r\n\r\n",
        b"GET /k HT",
        b"",
    ];
    for _ in 0..25 {
        for request in requests {
            let mut stream = TcpStream::connect(kv.address).unwrap();
            stream.write_all(request).unwrap();
            drop(stream);
            assert_eq!(kv.get("key0"), (200, "9".to_owned()));
        }
    }
    // Many at a time, each in the middle of the largest body: what they take is not what kv needs to go on.
    let greedy: Vec<_> = (0..40)
        .map(|_| {
            let Client(mut stream) = Client::connect(&kv);
            let head = b"POST /k HTTP/1.1\r\ncontent-length: 16000\r\n\r\n";
            stream.get_mut().write_all(head).unwrap();
            stream.get_mut().write_all(&[b'x'; 15_000]).unwrap();
            stream
        })
        .collect();
    assert_eq!(kv.get("key0"), (200, "9".to_owned()));
    drop(greedy);
    assert_eq!(kv.get("key0"), (200, "9".to_owned()));
}

/// A client that keeps its connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(kv: &Kv) -> Self {
        let stream = TcpStream::connect(kv.address).unwrap();
        let deadline = Duration::from_secs(REQUEST_DEADLINE);
        stream.set_read_timeout(Some(deadline)).unwrap();
        let mut client = Self(BufReader::new(stream));
        assert_eq!(client.get(""), (200, "ok".to_owned()));
        client
    }

    fn get(&mut self, key: &str) -> (u16, String) {
        self.ask(&format!("GET /{key} HTTP/1.1\r\n\r\n"))
    }

    fn put(&mut self, key: &str, value: &str) -> (u16, String) {
        let body = serde_json::json!({ "value": value }).to_string();
        let length = body.len();
        self.ask(&format!(
            "POST /{key} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    fn ask(&mut self, request: &str) -> (u16, String) {
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut length) = (0, 0);
        for line in self.0.by_ref().lines() {
            let line = line.unwrap();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

/// Instances of a user of the command line. Those that run when the test ends are killed.
struct Instances(tempfile::TempDir);

impl Instances {
    fn xtask(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(arguments).env("HERMITAGE_ROOT", self.0.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn facts(&self, name: &str) -> serde_json::Value {
        let (_, list) = self.xtask(&["inspect", "--json", name]);
        serde_json::from_str::<serde_json::Value>(&list).unwrap()[0].clone()
    }

    /// Waits for an answer on the instance's first port.
    fn wait_for_answer(&self, name: &str) {
        let forward = self.facts(name)["forwards"][0].as_str().unwrap().to_owned();
        let (address, _) = forward.rsplit_once(':').unwrap();
        let deadline = Instant::now() + BOOT_DEADLINE;
        while minreq::get(format!("http://{address}/"))
            .with_timeout(1)
            .send()
            .is_err()
        {
            assert!(Instant::now() < deadline, "no answer; {}", self.facts(name));
        }
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        let _ = self.xtask(&["rm", "-f", "kv"]);
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn an_instance_in_the_background_serves_ends_and_serves_again() {
    let instances = Instances(tempfile::tempdir().unwrap());
    let image = image();
    let run = [
        "run",
        "-d",
        "--name",
        "kv",
        "-f",
        "0:9000",
        image.to_str().unwrap(),
    ];
    assert_eq!(instances.xtask(&run), (Some(0), "kv\n".to_owned()));
    instances.wait_for_answer("kv");
    let (_, log) = instances.xtask(&["logs", "kv"]);
    assert!(log.contains("server is listening on 9000"), "{log}");
    assert_eq!(instances.xtask(&["stop", "kv"]).0, Some(0));
    let before = instances.facts("kv");
    assert_eq!(before["state"], "exited", "{before}");
    assert_eq!(instances.xtask(&["start", "kv"]), (Some(0), "kv\n".to_owned()));
    instances.wait_for_answer("kv");
    let after = instances.facts("kv");
    assert_eq!(after["forwards"], before["forwards"]);
    assert_eq!(after["mac"], before["mac"]);
    assert_eq!(instances.xtask(&["rm", "-f", "kv"]).0, Some(0));
}
