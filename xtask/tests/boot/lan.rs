//! A story of guests on a rootless LAN, told through the commands of a user: the network's process is `xtask` itself. Of
//! the guests one shares its memory with the network, and one has a socket.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{DEADLINE, image};

/// A user with networks and guests of their own, which end with the test.
pub(super) struct User(TempDir);

impl User {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn xtask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .env("HERMITAGE_ROOT", self.0.path())
            .stdin(Stdio::null());
        command
    }

    /// A folder with a QEMU that has no vhost-user; the value of `PATH` with it.
    fn path_of_older_qemu(&self) -> OsString {
        let folder = self.0.path().join("older");
        fs::create_dir(&folder).unwrap();
        let program = folder.join("qemu-system-x86_64");
        let path = std::env::var_os("PATH").unwrap();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *vhost-user*) echo \"no 'vhost-user' here\" >&2; exit 1;; esac\n\
             PATH='{}' exec qemu-system-x86_64 \"$@\"\n",
            path.to_str().unwrap()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let folders = [folder].into_iter().chain(std::env::split_paths(&path));
        std::env::join_paths(folders).unwrap()
    }

    /// What a command wrote, which must succeed.
    pub(super) fn does(&self, arguments: &[&str]) -> String {
        let output = self.xtask(arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// What a command says that must fail.
    fn cannot(&self, arguments: &[&str]) -> String {
        let output = self.xtask(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        text(&output.stderr)
    }

    pub(super) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.does(arguments)).unwrap()
    }

    /// Starts a guest in the background.
    pub(super) fn start(&self, name: &str, more: &[&str], command: &str) {
        let image = image().to_str().unwrap();
        let run = [
            "run", "-d", "--json", "--accel", "tcg", "-e", command, image, name,
        ];
        let started = self.json(&[&run[..], more].concat());
        assert_eq!(started["name"], name, "{started}");
        assert_eq!(started["state"], "running", "{started}");
    }

    /// The ports of this host that lead to a guest.
    pub(super) fn ports(&self, guest: &str) -> Vec<u16> {
        let instances = self.json(&["ps", "--json"]);
        let mut instances = instances.as_array().unwrap().iter();
        let instance = instances.find(|instance| instance["name"] == guest).unwrap();
        let forwards = instance["forwards"].as_array().unwrap().iter();
        let port = |forward: &Value| forward.as_str()?.split(':').nth(1)?.parse().ok();
        forwards.map(|forward| port(forward).unwrap()).collect()
    }

    /// Runs a guest to its end; what it wrote to its console.
    fn run(&self, network: &str, command: &str) -> String {
        let image = image().to_str().unwrap();
        let run = ["run", "--rm", "--accel", "tcg", "-n", network, "-e", command];
        self.does(&[&run[..], &[image, "caller"]].concat())
    }

    /// What `network inspect` says of a guest.
    fn member(&self, network: &str, guest: &str) -> Option<Value> {
        let network = self.json(&["network", "inspect", "--json", network]);
        let mut guests = network["guests"].as_array().unwrap().iter();
        guests.find(|member| member["name"] == guest).cloned()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let Ok(instances) = std::fs::read_dir(self.0.path().join("instances")) else {
            return;
        };
        for name in instances.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            self.xtask(&["rm", "--force", &name]);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until something is there.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "no {what} within {DEADLINE:?}");
        thread::yield_now();
    }
}

/// What a guest that echoes answers at a port of this host.
fn echo(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"hello").ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

/// Asks a guest that echoes at a port of this host by a datagram, until one comes back: any may be lost.
fn echo_datagram(port: u16) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut answer = [0; 8];
    let length = until("datagram back", || {
        socket.send(b"hello").ok()?;
        socket.recv(&mut answer).ok()
    });
    assert_eq!(&answer[..length], b"hello");
}

/// An address of this machine that is not loopback's: to guests it is the world.
fn world() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let connected = socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9));
    connected.expect("a machine with a network");
    socket.local_addr().unwrap().ip()
}

/// Sends the next one who connects what it sent.
fn answer_one(address: IpAddr) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut word = String::new();
        stream.read_to_string(&mut word).unwrap();
        stream.write_all(word.as_bytes()).unwrap();
    });
    (port, answering)
}

#[test]
#[ignore = "boots virtual machines"]
fn guests_of_a_lan_find_each_other_by_name_and_outlive_its_process() {
    let user = User::new();
    user.does(&[
        "network",
        "create",
        "app",
        "--subnet",
        "10.91.0.0/24",
        "--host-access",
    ]);
    let on_app = ["-n", "lan:app", "--alias", "echo"];
    let forwards = ["-f", "0:9000", "-f", "0:9000/udp"];
    user.start(
        "first",
        &[&on_app[..], &forwards, &["--card", "vhost-user"]].concat(),
        "probe echo-both",
    );
    user.start(
        "second",
        &[&on_app[..], &["--card", "socket"]].concat(),
        "probe echo-all",
    );
    let first = user.member("app", "first").unwrap();
    let second = user.member("app", "second").unwrap();
    assert_eq!(
        (first["address"].as_str(), second["address"].as_str()),
        (Some("10.91.0.2"), Some("10.91.0.3"))
    );

    // By its name, by a name that both have, and the host by the gateway's address.
    let answered = "10.91.0.4 was answered: word\n";
    assert_eq!(
        user.run("lan:app", "probe call first.app.internal:9000 word"),
        answered
    );
    assert_eq!(user.run("lan:app", "probe call echo:9000 word"), answered);
    let (port, answering) = answer_one(Ipv4Addr::LOCALHOST.into());
    assert_eq!(
        user.run("lan:app", &format!("probe call 10.91.0.1:{port} word")),
        answered
    );
    answering.join().unwrap();

    // Another network, with the same addresses: its guests see their own, and the world.
    user.does(&["network", "create", "twin", "--subnet", "10.91.0.0/24"]);
    user.start("third", &["-n", "lan:twin"], "probe echo-all");
    assert_eq!(user.member("twin", "third").unwrap()["address"], first["address"]);
    let answered_twin = "10.91.0.3 was answered: word\n";
    assert_eq!(
        user.run("lan:twin", "probe call 10.91.0.2:9000 word"),
        answered_twin
    );
    let older = user.path_of_older_qemu();
    let run = ["run", "--rm", "-n", "lan:twin", "-e", "probe resolve first"];
    let mut run = user.command(&[&run[..], &[image().to_str().unwrap()]].concat());
    let output = run.env("PATH", older).output().unwrap();
    assert_eq!(text(&output.stdout), "no such name\n");
    let said = text(&output.stderr);
    assert!(
        said.contains("slower than vhost-user: QEMU failed: no 'vhost-user' here\n"),
        "{said}"
    );
    let (port, answering) = answer_one(world());
    let out = format!("probe call {}:{port} word", world());
    assert_eq!(user.run("lan:twin", &out), answered_twin);
    answering.join().unwrap();

    // The network has counted what both sent and were given.
    let stats = user.json(&["stats", "--no-stream", "--json", "first", "second"]);
    for row in stats.as_array().unwrap() {
        assert!(row["sent_bytes"].as_u64().unwrap() > 100, "{row}");
        assert!(row["received_bytes"].as_u64().unwrap() > 100, "{row}");
    }

    // Nobody takes what is another's.
    let image = image().to_str().unwrap();
    let thief =
        |what: [&str; 2]| user.cannot(&["run", "--rm", "-n", "lan:app", what[0], what[1], image, "thief"]);
    let error = thief(["--mac", first["mac"].as_str().unwrap()]);
    assert!(error.contains("is `first`'s"), "{error}");
    let error = thief(["--ip", "10.91.0.2/24"]);
    assert!(error.contains("10.91.0.2"), "{error}");
    let error = thief(["--ip", "10.91.0.9/16"]);
    assert!(error.contains("give it as `--ip 10.91.0.9/24`"), "{error}");
    let error = user.cannot(&["network", "rm", "app"]);
    assert!(error.contains("`first`, `second`"), "{error}");

    // The network's process is killed: another one serves the same guests.
    let ports = user.ports("first");
    let port = ports[0];
    assert_eq!(until("answer", || echo(port)), "hello");
    echo_datagram(ports[1]);
    let process = |user: &User| {
        let process = user.json(&["network", "inspect", "--json", "app"])["process"].as_i64();
        process.map(|id| i32::try_from(id).unwrap())
    };
    let killed = process(&user).unwrap();
    kill_process(Pid::from_raw(killed).unwrap(), Signal::KILL).unwrap();
    until("new process", || process(&user).filter(|&id| id != killed));
    assert_eq!(until("answer", || echo(port)), "hello");
    until("second guest", || user.member("app", "second"));
    assert_eq!(user.run("lan:app", "probe call second:9000 word"), answered);

    // A restart changes no address.
    user.does(&["restart", "--time", "0", "second"]);
    assert_eq!(
        user.member("app", "second").unwrap()["address"],
        second["address"]
    );
    assert_eq!(user.run("lan:app", "probe call second:9000 word"), answered);
}
