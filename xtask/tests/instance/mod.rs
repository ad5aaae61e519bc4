//! What a user sees of the commands on instances, with a stand-in for the guest.

mod readers;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::stand_in::Step;
use crate::user::{READY, User, is_used, wait_until};

#[test]
fn an_instance_in_the_background_is_listed_read_stopped_started_and_removed() {
    let user = User::with_guest(&READY);
    assert_eq!(user.detach(&["-f", "0:80"]).ok(), "stand-in\n");
    let facts = user.facts("stand-in");
    assert_eq!(facts["state"], "running");
    assert_eq!(facts["role"], "stand-in");
    let ports = facts["forwards"].clone();
    assert!(!ports[0].as_str().unwrap().contains(":0:"), "{ports}");
    let table = user.xtask(&["ps"]).ok();
    assert!(table.starts_with("NAME"), "{table}");
    assert!(table.contains("\nstand-in "), "{table}");
    wait_until("it is ready", || {
        user.xtask(&["logs", "stand-in"]).ok() == "ready\n"
    });

    let stop = user.xtask(&["stop", "stand-in"]);
    assert_eq!(
        (stop.stdout.as_str(), stop.stderr.as_str()),
        ("stand-in\n", "stand-in: switched off\n")
    );
    assert_eq!(user.xtask(&["ps"]).ok().lines().count(), 1);
    let exit = user.facts("stand-in");
    assert_eq!(
        (exit["exit"]["code"].as_i64(), exit["exit"]["reason"].as_str()),
        (Some(143), Some("stopped"))
    );
    assert_eq!(user.xtask(&["wait", "stand-in"]).code, Some(143));

    assert_eq!(user.xtask(&["start", "stand-in"]).ok(), "stand-in\n");
    assert_eq!(user.facts("stand-in")["forwards"], ports);
    user.xtask(&["rm", "stand-in"])
        .fails_with(125, &["instance `stand-in` is running, in process", "hint: "]);
    assert_eq!(user.xtask(&["rm", "-f", "stand-in"]).ok(), "stand-in\n");
    assert!(!user.instance("stand-in").exists());
}

#[test]
fn names_are_numbered_unless_they_are_given() {
    let user = User::with_guest(&READY);
    assert_eq!(user.detach(&[]).ok(), "stand-in\n");
    assert_eq!(user.detach(&[]).ok(), "stand-in-2\n");
    user.detach(&["--name", "stand-in"])
        .fails_with(125, &["instance `stand-in` is running", "hint: "]);
    user.xtask(&["kill", "stand-in", "stand-in-2"]).ok();
    user.detach(&["--name", "stand-in"]).fails_with(
        125,
        &[
            "there is an instance `stand-in` already",
            "start stand-in",
            "rm stand-in",
            "--replace",
        ],
    );
    assert_eq!(
        user.detach(&["--name", "stand-in", "--replace"]).ok(),
        "stand-in\n"
    );
    user.detach(&["--name", "stand-in", "--replace"])
        .fails_with(125, &["instance `stand-in` is running"]);
}

#[test]
fn many_runs_at_once_each_get_a_name_of_their_own() {
    const RUNS: usize = 12;
    let user = User::with_guest(&[Step::Control("end exit 3 \n"), Step::Exit(3)]);
    let mut names: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = (0..RUNS).map(|_| scope.spawn(|| user.detach(&[]).ok())).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    names.sort();
    names.dedup();
    assert_eq!(names.len(), RUNS, "{names:?}");
    for name in names {
        assert_eq!(user.xtask(&["wait", name.trim()]).code, Some(3));
    }
    let list = user.xtask(&["ps", "-a"]).ok();
    assert_eq!(list.lines().count(), 1 + RUNS, "{list}");
}

#[test]
fn ps_tells_the_truth_whoever_was_killed() {
    for process in ["supervisor_pid", "qemu_pid"] {
        let user = User::with_guest(&READY);
        user.detach(&["--name", "kv"]).ok();
        user.kill("kv", process);
        wait_until("it is seen to have ended", || {
            user.facts("kv")["state"] == "exited"
        });
        let exit = &user.facts("kv")["exit"];
        assert_eq!(
            (exit["code"].as_i64(), exit["reason"].as_str()),
            (Some(125), Some("lost")),
            "{process}"
        );
        wait_until("nothing of it runs", || !is_used(&user.instance("kv")));
        assert_eq!(user.xtask(&["wait", "kv"]).code, Some(125));
        user.xtask(&["start", "kv"]).ok();
        assert_eq!(user.facts("kv")["state"], "running");
    }
}

#[test]
fn what_is_to_be_removed_is_removed_and_a_failed_start_leaves_nothing() {
    let user = User::with_guest(&[
        Step::Console("out\n"),
        Step::Control("end exit 3 \n"),
        Step::Exit(3),
    ]);
    user.detach(&["--rm", "--name", "kv"]).ok();
    wait_until("it is removed", || !user.instance("kv").exists());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let failed = user.detach(&["--name", "kv", "-f", &format!("{port}:80")]);
    failed.fails_with(125, &["is in use by another process", "hint: "]);
    assert_eq!(failed.stdout, "");
    assert!(!user.instance("kv").exists());
}

/// A guest that says two words, and a third when it is asked to stop.
const POLITE: [Step<'_>; 6] = [
    Step::Control("hears stop\n"),
    Step::Console("one\ntwo\n"),
    Step::Listen,
    Step::Console("bye\n"),
    Step::Control("end exit 0 \n"),
    Step::Exit(0),
];

#[test]
fn the_followed_logs_of_a_stack_are_one_with_names_and_times_also_of_who_comes_later() {
    let user = User::with_guest(&POLITE);
    let start = |service: &str| {
        let name = format!("shop-{service}-1");
        let service = format!("hermitage/service={service}");
        let labels = ["hermitage/stack=shop", &service, "hermitage/stack-file=/shop"];
        let labels = labels.iter().flat_map(|label| ["--label", label]);
        let more: Vec<_> = ["--name", &name].into_iter().chain(labels).collect();
        user.detach(&more).ok();
    };
    start("a");
    user.detach(&["--name", "nobodys"]).ok();
    let mut follow = user
        .command(&["logs", "-f", "shop"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let reading = thread::spawn({
        let (stdout, lines) = (follow.stdout.take().unwrap(), Arc::clone(&lines));
        move || {
            for line in BufReader::new(stdout).lines() {
                lines.lock().unwrap().push(line.unwrap());
            }
        }
    });
    // Name and text of each line; between them stands the time of day.
    let said = || -> Vec<(String, String)> {
        let lines = lines.lock().unwrap();
        let parts = lines.iter().map(|line| {
            let [name, time, text] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            assert_eq!((time.len(), &time[2..3], &time[8..9]), (12, ":", "."), "{line}");
            (name.to_owned(), text.to_owned())
        });
        parts.collect()
    };
    let of = |name: &str| -> Vec<String> {
        let said = said().into_iter().filter(|(whose, _)| whose == name);
        said.map(|(_, text)| text).collect()
    };
    wait_until("the first one is heard", || of("a-1") == ["one", "two"]);
    start("bb");
    wait_until("the one who came later is heard", || of("bb-1") == ["one", "two"]);
    for name in ["shop-a-1", "shop-bb-1"] {
        wait_until("it hears", || user.facts(name)["hears_stop"] == true);
        user.xtask(&["stop", "-t", "60", name]).ok();
    }
    assert!(follow.wait().unwrap().success());
    reading.join().unwrap();
    assert_eq!(of("a-1"), ["one", "two", "bye"]);
    assert_eq!(of("bb-1"), ["one", "two", "bye"]);
    assert_eq!(said().len(), 6, "nobody else is heard");
}

#[test]
fn labels_are_noted_and_found_by() {
    let user = User::with_guest(&READY);
    user.detach(&["--name", "a", "--label", "team=shop", "--label", "tier=1"])
        .ok();
    user.detach(&["--name", "b", "--label", "team=ads"]).ok();
    let listed = |filters: &[&str]| -> Vec<String> {
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        let arguments: Vec<_> = ["ps"].into_iter().chain(filters).collect();
        let table = user.xtask(&arguments).ok();
        let names = table.lines().skip(1).filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect()
    };
    assert_eq!(listed(&["label=team"]), ["a", "b"]);
    assert_eq!(listed(&["label=team=shop"]), ["a"]);
    assert_eq!(listed(&["label=team", "label=tier=1"]), ["a"]);
    assert_eq!(listed(&["label=team=shop", "label=team=ads"]), [""; 0]);
    assert_eq!(user.facts("a")["labels"]["team"], "shop");
    let inspect = user.xtask(&["inspect", "a"]).ok();
    assert!(inspect.contains("labels          team=shop, tier=1"), "{inspect}");
    user.xtask(&["ps", "--filter", "team=shop"])
        .fails_with(2, &["a filter has the form `label=KEY` or `label=KEY=VALUE`"]);
}

#[test]
fn a_followed_log_ends_with_the_instance_and_has_times_for_who_wants_them() {
    let user = User::with_guest(&POLITE);
    user.detach(&["--name", "kv"]).ok();
    let follow = user
        .command(&["logs", "-f", "kv"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("it has said what it has to say", || {
        user.xtask(&["logs", "kv"]).ok() == "one\ntwo\n"
    });
    wait_until("it hears", || user.facts("kv")["hears_stop"] == true);
    let stop = user.xtask(&["stop", "-t", "60", "kv"]);
    assert_eq!(stop.stderr, "kv: the guest ended: exited with 0\n");
    let followed = follow.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(followed.stdout).unwrap(), "one\ntwo\nbye\n");
    assert_eq!(user.xtask(&["logs", "--tail", "1", "kv"]).ok(), "bye\n");
    let timed = user.xtask(&["logs", "-t", "--tail", "1", "kv"]).ok();
    let (time, text) = timed.split_once(' ').unwrap();
    assert!(
        time.parse::<launcher::time::Timestamp>().is_ok() && text == "bye\n",
        "{timed}"
    );
    assert_eq!(
        user.xtask(&["logs", "--since", "2100-01-01T00:00:00Z", "kv"])
            .ok(),
        ""
    );
}

#[test]
fn wrong_names_are_refused_in_words() {
    let user = User::with_guest(&READY);
    let long = "x".repeat(300);
    for name in ["..", "../kv", "a/b", "", ".hidden", &long] {
        user.detach(&["--name", name])
            .fails_with(2, &["is not a name of an instance; a name has up to 63"]);
        user.xtask(&["rm", "-f", name])
            .fails_with(2, &["is not a name of an instance"]);
    }
    for command in [
        "stop", "kill", "start", "restart", "rm", "inspect", "attach", "wait", "logs",
    ] {
        user.xtask(&[command, "nothing"])
            .fails_with(1, &["there is no instance `nothing`", "hint: "]);
    }
    assert!(!user.folder().join("root").exists());
}

#[test]
fn an_image_that_changed_under_an_ended_instance_is_refused() {
    let user = User::with_guest(&[Step::Exit(0)]);
    user.detach(&["--name", "kv"]).ok();
    user.xtask(&["wait", "kv"]).ok();
    user.xtask(&["start", "kv"]).ok();
    user.xtask(&["wait", "kv"]).ok();
    fs::remove_file(&user.image).unwrap();
    user.xtask(&["start", "kv"])
        .fails_with(126, &["of instance `kv` is gone", "hint: "]);
    let inspect = user.xtask(&["inspect", "kv"]).ok();
    assert!(inspect.contains("exit            0 (exit)"), "{inspect}");
}

#[test]
fn a_full_disk_is_seen_and_the_guest_goes_on_when_there_is_room() {
    // A QEMU that says what one says whose disk is full, as long as there is no file `room` beside it.
    const SCRIPT: &str = r#"#!/bin/bash
room=${0%/*}/room
for argument; do
    case $argument in socket,id=monitor,fd=*) monitor=${argument##*=} ;; esac
done
say() { echo "$1" >&$monitor; }
say '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}'
while read -r line <&$monitor; do
    case $line in
        *quit*) exit 0 ;;
        *cont*)
            say '{"event": "RESUME"}'
            [ -e "$room" ] || say '{"event": "BLOCK_IO_ERROR", "data": {"action": "stop", "nospace": true}}'
            ;;
    esac
    say '{"return": {}}'
done
"#;
    let user = User::with_guest(&READY);
    let bin = user.folder().join("bin");
    fs::create_dir(&bin).unwrap();
    let qemu = bin.join("qemu-system-x86_64");
    fs::write(&qemu, SCRIPT).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let run = [
        "run",
        "-d",
        "--accel",
        "tcg",
        "--name",
        "kv",
        user.image.to_str().unwrap(),
    ];
    let output = user.command(&run).env("PATH", &bin).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    wait_until("it is paused", || user.facts("kv")["state"] == "paused");
    fs::write(bin.join("room"), "").unwrap();
    wait_until("it goes on", || user.facts("kv")["state"] == "running");
    user.xtask(&["stop", "kv"]).ok();
}
