//! Whoever reads what a command prints may have seen enough: nothing hangs then, panics, or is left half done.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::POLITE;
use crate::user::{READY, User, is_used, wait_until};

/// Reads `lines` lines of a command's stdout, and then no more; gives how it ends.
fn end_after(lines: usize, mut command: Command) -> (ExitStatus, String) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..lines {
        assert!(stdout.read_line(&mut line).unwrap() > 0, "{line}");
    }
    drop(stdout);
    end_of(child)
}

fn end_of(mut child: Child) -> (ExitStatus, String) {
    wait_until("it ends", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status, stderr)
}

#[test]
fn commands_that_show_something_end_when_nobody_reads_them() {
    let user = User::with_guest(&POLITE);
    let labels = [
        "hermitage/stack=shop",
        "hermitage/service=kv",
        "hermitage/stack-file=/shop",
    ];
    let labels = labels.iter().flat_map(|label| ["--label", label]);
    let more: Vec<_> = ["--name", "kv"].into_iter().chain(labels).collect();
    user.detach(&more).ok();
    wait_until("it has said what it has to say", || {
        user.xtask(&["logs", "kv"]).ok() == "one\ntwo\n"
    });
    for (lines, command) in [
        (1, &["logs", "-f", "kv"][..]),
        (1, &["logs", "-f", "shop"]),
        (0, &["attach", "kv"]),
        (1, &["stats"]),
        (0, &["ps"]),
        (1, &["ps", "-a", "--json"]),
        (0, &["inspect", "kv"]),
        (0, &["logs", "kv"]),
        (0, &["help"]),
    ] {
        let (status, stderr) = end_after(lines, user.command(command));
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{command:?}");
    }
    assert_eq!(user.facts("kv")["state"], "running");
}

#[test]
fn what_runs_in_front_is_asked_to_stop_when_nobody_reads_it() {
    let user = User::with_guest(&POLITE);
    let (status, _) = end_after(1, user.in_front(&["--name", "kv"]));
    assert_eq!(status.code(), Some(0), "it ended by itself");
    assert!(!user.instance("kv").exists());
    // One that does not hear, and says nothing more.
    let user = User::with_guest(&READY);
    let (status, stderr) = end_after(1, user.in_front(&["--name", "kv"]));
    assert_eq!(status.code(), Some(129), "{stderr}");
    assert!(!user.instance("kv").exists());
}

/// A stack of two services, the second of which waits for the first.
fn stack(user: &User) -> String {
    let file = user.folder().join("shop/stack.yaml");
    fs::create_dir(file.parent().unwrap()).unwrap();
    let image = user.image.display();
    let text = format!("image: {image}\nservices:\n  a: {{}}\n  b: {{ depends_on: [a] }}\n");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_stack_comes_up_whole_when_nobody_reads_what_is_said_of_it() {
    let user = User::with_guest(&READY);
    let stack = stack(&user);
    // As `up -d shop 2>&1 | head -1`, and with `head -0`.
    for lines in [1, 0] {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = user.command(&["up", "-d", &stack]);
        let child = command
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .spawn()
            .unwrap();
        // It has the other end of the pipe, too.
        drop(command);
        let mut said = BufReader::new(reader).lines();
        for _ in 0..lines {
            said.next().unwrap().unwrap();
        }
        drop(said);
        let (status, _) = end_of(child);
        assert_eq!(status.code(), Some(0));
        for name in ["shop-a-1", "shop-b-1"] {
            assert_eq!(user.facts(name)["state"], "running");
        }
        user.xtask(&["down", "shop"]).ok();
    }
}

#[test]
fn a_stack_in_front_is_stopped_when_nobody_reads_it() {
    let user = User::with_guest(&POLITE);
    let (status, stderr) = end_after(1, user.command(&["up", &stack(&user)]));
    assert_eq!(status.code(), Some(129), "{stderr}");
    assert!(stderr.contains("shop: stopped"), "{stderr}");
    for name in ["shop-a-1", "shop-b-1"] {
        assert_eq!(user.facts(name)["state"], "exited");
        assert!(!is_used(&user.instance(name)));
    }
    user.xtask(&["down", "shop"]).ok();
}
