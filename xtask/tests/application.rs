//! The example application as a stack of virtual machines: pictures in, inverted pictures out, whatever is killed.
//!
//! Run by `cargo xtask test`, or alone, after `cargo xtask compose node-micro`, by
//! `cargo test --release -p xtask --test application -- --ignored`. What the services answer to what is tested on the
//! host, in `services/suite`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use hermitage_suite::{ask, picture, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a worker has for a task, in seconds: far longer than one takes, and a killed one's is waited for.
const LEASE: &str = "10";

/// A user with a stack. What runs when the test ends is removed.
struct User {
    folder: TempDir,
}

impl User {
    /// A user whose stack is the one that is shipped, but for its name and the lease.
    fn new() -> Self {
        let user = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/node-micro/stack.yaml");
        let shipped = fs::read_to_string(shipped).unwrap();
        fs::create_dir(user.folder.path().join("pictures")).unwrap();
        fs::write(user.stack(), format!("image: node-micro\n{shipped}")).unwrap();
        let lease = format!("command: db kv\n    env: {{ MICRO_DB_LEASE: {LEASE} }}");
        user.edit("command: db kv", &lease);
        user
    }

    fn stack(&self) -> PathBuf {
        self.folder.path().join("pictures/stack.yaml")
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.stack()).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(self.stack(), text.replacen(from, to, 1)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .env("HERMITAGE_ROOT", self.folder.path().join("root"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that succeeds; gives what it wrote to stdout.
    #[track_caller]
    fn xtask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that fails; gives what it wrote to stderr.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// `up -d`; for each instance what was done.
    #[track_caller]
    fn up(&self, more: &[&str]) -> Vec<(String, String)> {
        let stack = self.stack();
        let up = ["up", "-d", "--json", stack.to_str().unwrap()];
        let done: Value = serde_json::from_str(&self.xtask(&[&up, more].concat())).unwrap();
        let instances = done["instances"].as_array().unwrap().iter();
        let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
        instances
            .map(|line| (word(line, "name"), word(line, "action")))
            .collect()
    }

    fn facts(&self, name: &str) -> Value {
        let list: Value = serde_json::from_str(&self.xtask(&["ps", "-a", "--json"])).unwrap();
        let mut list = list.as_array().unwrap().iter();
        let found = list.find(|facts| facts["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}")).clone()
    }

    /// Kills a machine as if its host had, and waits until another took its place.
    fn kill_machine(&self, name: &str) {
        let before = self.facts(name);
        let pid = i32::try_from(before["qemu_pid"].as_i64().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        wait_for(&format!("{name} to come back"), || {
            let now = self.facts(name);
            (now["restarts"].as_i64() > before["restarts"].as_i64() && now["state"] == "running")
                .then_some(())
        });
    }

    /// The URL of a service's forwarded port.
    fn url(&self, name: &str) -> String {
        let forward = self.facts(name)["forwards"][0].as_str().unwrap().to_owned();
        let (host, _) = forward.rsplit_once(':').unwrap();
        format!("http://{host}")
    }

    fn logs(&self, name: &str) -> String {
        self.xtask(&["logs", name])
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if thread::panicking() {
            let logs = self.command(&["logs"]).output().unwrap();
            eprintln!("{}", String::from_utf8_lossy(&logs.stdout));
        }
        let _ = self.command(&["down"]).output();
    }
}

/// Uploads pictures at once; the ids of their tasks.
fn upload(master: &str, pictures: &[Vec<u8>]) -> Vec<String> {
    let upload = |picture| {
        let answer = ask::upload(&format!("{master}/task"), picture);
        assert_eq!(answer.pair(), (200, String::new()));
        answer.field("task-id").unwrap().to_owned()
    };
    thread::scope(|scope| {
        let uploads: Vec<_> = pictures
            .iter()
            .map(|picture| scope.spawn(move || upload(picture)))
            .collect();
        uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
    })
}

/// Waits until tasks are finished, each with the right result.
fn check(master: &str, ids: &[String], pictures: &[Vec<u8>]) {
    assert_eq!(ids.len(), pictures.len());
    for (id, picture) in ids.iter().zip(pictures) {
        let is_ready = || ask::get(&format!("{master}/task/{id}/ready")).text() == "true";
        wait_for(&format!("task {id}"), || is_ready().then_some(()));
        let result = ask::get(&format!("{master}/task/{id}/download")).body;
        assert!(picture::pixels(&result) == picture::inverse(picture), "task {id}");
    }
}

fn pictures(seeds: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    seeds
        .map(|seed| picture::noise(seed, "160x120", "png24"))
        .collect()
}

#[test]
#[ignore = "boots virtual machines"]
fn pictures_go_in_and_inverted_pictures_come_out() {
    let user = User::new();
    let done = user.up(&["--scale", "worker=3"]);
    assert_eq!(done.len(), 8);
    assert!(done.iter().all(|(_, action)| action == "created"), "{done:?}");
    let master = user.url("pictures-master-1");

    // Twenty at once: each is finished once.
    let twenty = pictures(0..20);
    check(&master, &upload(&master, &twenty), &twenty);
    let tasks: Value = serde_json::from_str(&ask::get(&format!("{master}/tasks")).text()).unwrap();
    let tasks = tasks["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 20);
    assert!(tasks.iter().all(|task| task["tries"] == 1), "{tasks:?}");
    let page = ask::get(&format!("{}/?taskId=0", user.url("pictures-ui-1"))).text();
    assert!(page.contains("data:image/png;base64,iVBOR"), "{page}");

    // A worker is killed with a task in its hands: another one finishes it, and the worker comes back.
    user.xtask(&["scale", "worker=1"]);
    let large = [picture::noise(1, "1200x900", "png24")];
    let id = upload(&master, &large);
    let line = format!("Working on task {}\n", id[0]);
    wait_for(&line, || {
        user.logs("pictures-worker-1").contains(&line).then_some(())
    });
    user.kill_machine("pictures-worker-1");
    check(&master, &id, &large);

    // More workers and fewer of them while there is work: nothing is lost.
    let some = pictures(20..40);
    let ids = upload(&master, &some);
    user.xtask(&["scale", "worker=5"]);
    user.xtask(&["scale", "worker=1"]);
    check(&master, &ids, &some);

    // Without kv those who know each other work on; a kv that is back learns of all of them.
    user.kill_machine("pictures-kv-1");
    wait_for("registrations", || {
        let log = user.logs("pictures-kv-1");
        let again = log.rsplit("server is listening").next().unwrap();
        let keys = ["dbendpoint=", "storageendpoint=", "masterendpoint="];
        keys.iter().all(|key| again.contains(key)).then_some(())
    });
    user.xtask(&["restart", "worker"]);
    let one = pictures(40..41);
    check(&master, &upload(&master, &one), &one);

    // What is as it should be is left alone; what is not is made anew.
    let pids = || ["pictures-db-1", "pictures-ui-1"].map(|name| user.facts(name)["qemu_pid"].clone());
    let before = pids();
    assert!(user.up(&[]).iter().all(|(_, action)| action == "kept"));
    assert_eq!(pids(), before);
    user.edit(
        "command: ui kv\n    memory: 48M",
        "command: ui kv\n    memory: 64M",
    );
    for (name, action) in user.up(&[]) {
        assert_eq!(action == "replaced", name == "pictures-ui-1", "{name}: {action}");
    }
    assert_eq!(pids()[0], before[0]);
    assert_ne!(pids()[1], before[1]);

    // What cannot be is said, and the others run on.
    let error = user.fails(1, &["scale", "wrker=2"]);
    assert!(error.contains("has no service `wrker`"), "{error}");
    let taken = master.trim_start_matches("http://127.0.0.1:");
    user.edit("\"0:80\"", &format!("\"{taken}:80\""));
    let error = user.fails(125, &["up", "-d", user.stack().to_str().unwrap()]);
    assert!(
        error.contains(&format!("port {taken} of 127.0.0.1 is in use")),
        "{error}"
    );
    assert_eq!(user.facts("pictures-db-1")["qemu_pid"], before[0]);

    // What is kept, and who keeps it.
    let list: Value = serde_json::from_str(&user.xtask(&["volume", "ls", "--json"])).unwrap();
    for (volume, name) in list.as_array().unwrap().iter().zip(["db", "storage"]) {
        assert_eq!(volume["name"], format!("pictures-{name}"));
        assert_eq!(volume["users"][0]["instance"], format!("pictures-{name}-1"));
    }

    // Nothing stays.
    user.xtask(&["down", "--volumes"]);
    assert_eq!(user.xtask(&["ps", "-a", "--json"]).trim(), "[]");
    assert_eq!(user.xtask(&["volume", "ls", "--json"]).trim(), "[]");
    assert!(!user.folder.path().join("root/networks/pictures").exists());
    let error = user.fails(1, &["down"]);
    assert!(error.contains("there is no such stack"), "{error}");
}

#[test]
#[ignore = "boots virtual machines"]
fn a_storage_that_is_full_says_so_keeps_what_it_has_and_takes_more_when_it_has_room() {
    let user = User::new();
    user.edit("storage: { size: 1G }", "storage: { size: 8M }");
    user.up(&["--scale", "worker=0"]);
    let master = user.url("pictures-master-1");
    let try_upload = |picture| ask::upload(&format!("{master}/task"), picture);
    let is_refused = |picture| {
        let (status, text) = try_upload(picture).pair();
        assert!(
            status == 500 && text.contains("Storage is full"),
            "{status} {text}"
        );
    };

    let all = pictures(0..100);
    let mut ids = Vec::new();
    for picture in &all {
        let answer = try_upload(picture);
        if answer.status != 200 {
            break;
        }
        ids.push(answer.field("task-id").unwrap().to_owned());
    }
    let (kept, rest) = all.split_at(ids.len());
    // Three eighths of 8 MiB, and a picture has some 60 KB.
    assert!(kept.len() > 40 && rest.len() > 10, "{}", kept.len());
    is_refused(&rest[0]);

    let are_there = || {
        for (id, picture) in ids.iter().zip(kept) {
            let input = ask::get(&format!("{master}/task/{id}/download?picture=input"));
            assert!(input.body == *picture, "task {id}");
        }
    };
    are_there();
    user.kill_machine("pictures-storage-1");
    wait_for("storage", || {
        let answer = ask::get(&format!("{master}/task/{}/download?picture=input", ids[0]));
        (answer.status == 200).then_some(())
    });
    are_there();
    is_refused(&rest[0]);

    user.xtask(&["volume", "resize", "pictures-storage", "64M"]);
    user.xtask(&["restart", "pictures-storage-1"]);
    wait_for("room", || {
        let answer = try_upload(&rest[0]);
        (answer.status == 200).then(|| ids.push(answer.field("task-id").unwrap().to_owned()))
    });
    user.xtask(&["scale", "worker=1"]);
    check(&master, &ids, &all[..ids.len()]);
}

#[test]
#[ignore = "boots virtual machines"]
fn what_was_acknowledged_outlives_power_cuts_and_is_on_clones_of_snapshots() {
    let mut cuts = Command::new(env!("CARGO_BIN_EXE_xtask"));
    cuts.args(["bench", "volume", "--cuts", "10", "--json"])
        .stdin(Stdio::null());
    let output = cuts.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |key: &str| seen[key].as_u64().unwrap();
    assert!(count("acknowledged") >= 10, "{seen}");
    assert_eq!(count("results"), count("acknowledged"));
    assert!(count("on_clones") > 0, "{seen}");
}
