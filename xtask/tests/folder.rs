//! The files in a volume's folder, brought from the host and looked at there: `volume import`, `ls`, `cat`, `cp`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn volume(root: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("volume")
        .args(arguments)
        .env("HERMITAGE_ROOT", root)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The copies that lie beside the volumes.
fn copies(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("volumes")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".partial")).collect()
}

#[test]
fn a_folder_goes_to_a_volume_and_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (root, from, to) = (
        folder.path().join("root"),
        folder.path().join("from"),
        folder.path().join("to"),
    );
    let big: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::create_dir_all(from.join("sub/empty")).unwrap();
    fs::write(from.join("note"), "hello\n").unwrap();
    fs::write(from.join("sub/big"), &big).unwrap();

    let text = |path: &Path| path.to_str().unwrap().to_owned();
    assert_eq!(
        said(&volume(&root, &["import", "notes", &text(&from)])),
        "notes\n"
    );
    assert_eq!(said(&volume(&root, &["cat", "notes:/note"])), "hello\n");
    assert!(volume(&root, &["cat", "notes:sub/big"]).stdout == big);
    let listed = said(&volume(&root, &["ls", "notes"]));
    assert!(
        listed.contains("  note\n") && listed.contains("  sub/\n"),
        "{listed}"
    );

    // A snapshot has files, too.
    said(&volume(&root, &["snapshot", "notes", "before"]));
    said(&volume(&root, &["cp", "notes@before:/", &text(&to)]));
    assert_eq!(fs::read_to_string(to.join("note")).unwrap(), "hello\n");
    assert!(fs::read(to.join("sub/big")).unwrap() == big);
    assert!(to.join("sub/empty").is_dir());
    assert_eq!(copies(&root), [""; 0], "nothing is left beside the volumes");
}

#[test]
fn the_copy_of_a_command_that_was_killed_goes_with_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (root, from) = (folder.path().join("root"), folder.path().join("from"));
    fs::create_dir(&from).unwrap();
    said(&volume(&root, &["import", "notes", from.to_str().unwrap()]));
    let mut killed = Command::new("true").spawn().unwrap();
    killed.wait().unwrap();
    let names = [killed.id(), std::process::id()].map(|pid| format!("..{pid}.partial"));
    for name in &names {
        fs::write(root.join("volumes").join(name), "half").unwrap();
    }
    said(&volume(&root, &["ls", "notes:/"]));
    // That of a process that runs stays.
    assert_eq!(copies(&root), names[1..]);
}

#[test]
fn what_is_damaged_is_said_and_the_rest_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (root, from, to) = (
        folder.path().join("root"),
        folder.path().join("from"),
        folder.path().join("to"),
    );
    fs::create_dir(&from).unwrap();
    fs::write(from.join("damaged"), "what a bit flips in").unwrap();
    fs::write(from.join("whole"), "what no bit flips in").unwrap();
    said(&volume(&root, &["import", "notes", from.to_str().unwrap()]));
    let file = root.join("volumes/notes.qcow2");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes
        .windows(19)
        .position(|bytes| bytes == b"what a bit flips in");
    bytes[at.unwrap() + 3] ^= 1;
    fs::write(&file, bytes).unwrap();
    for arguments in [
        ["cat", "notes:/damaged"].as_slice(),
        &["cp", "notes:/", to.to_str().unwrap()],
    ] {
        let output = volume(&root, arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{error}");
        assert!(error.contains("damaged on the volume"), "{error}");
    }
    assert_eq!(
        said(&volume(&root, &["cat", "notes:/whole"])),
        "what no bit flips in"
    );
}

#[test]
fn what_cannot_be_shown_says_why() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    said(&volume(root, &["create", "new", "-s", "16M"]));
    for (arguments, words) in [
        (&["ls", "new:/"][..], "`new`: the volume holds no folder"),
        (&["cat", "none:/a"], "there is no volume `none`"),
        (&["cp", "new:/", "/"], "`/`: it is there already"),
        (&["import", "other", "/nothing/here"], "`/nothing/here`"),
    ] {
        let output = volume(root, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn a_file_or_folder_of_the_host_is_put_on_a_volume() {
    let folder = tempfile::tempdir().unwrap();
    let (root, from) = (folder.path().join("root"), folder.path().join("from"));
    fs::create_dir_all(from.join("sub")).unwrap();
    fs::write(from.join("sub/a"), "one\n").unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    said(&volume(&root, &["create", "notes", "-s", "16M"]));
    // To a volume that nothing was written to yet; under a new name; into a folder; over a file that is there.
    said(&volume(&root, &["cp", &text(&from), "notes:/"]));
    assert_eq!(said(&volume(&root, &["cat", "notes:/from/sub/a"])), "one\n");
    said(&volume(&root, &["snapshot", "notes", "before"]));
    said(&volume(&root, &["cp", &text(&from.join("sub/a")), "notes:/b"]));
    fs::write(from.join("sub/a"), "2\n").unwrap();
    fs::write(from.join("sub/c"), "three\n").unwrap();
    said(&volume(&root, &["cp", &text(&from.join("sub")), "notes:/from/"]));
    for (path, content) in [
        ("/b", "one\n"),
        ("/from/sub/a", "2\n"),
        ("/from/sub/c", "three\n"),
    ] {
        assert_eq!(
            said(&volume(&root, &["cat", &format!("notes:{path}")])),
            content,
            "{path}"
        );
    }
    // What was is what it was.
    assert_eq!(
        said(&volume(&root, &["cat", "notes@before:/from/sub/a"])),
        "one\n"
    );
    assert!(!volume(&root, &["cat", "notes@before:/b"]).status.success());

    // What does not fit changes nothing.
    let big = folder.path().join("big");
    fs::write(&big, vec![1; 20 << 20]).unwrap();
    let output = volume(&root, &["cp", &text(&big), "notes:/b"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && words.contains("No space left"),
        "{words}"
    );
    assert_eq!(said(&volume(&root, &["cat", "notes:/b"])), "one\n");
    for (arguments, words) in [
        (["cp", "notes:/b", "notes:/c"], "are both on volumes"),
        (["cp", "./b", "./c"], "neither `./b` nor `./c`"),
        (["cp", "/nothing/here", "notes:/c"], "`/nothing/here`"),
        (["cp", &text(&big), "notes:/none/"], "No such file"),
        (["cp", &text(&big), "notes@before:/"], "a snapshot, which stays"),
    ] {
        let output = volume(&root, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words),
            "{arguments:?}: {said}"
        );
    }
    assert_eq!(copies(&root), [""; 0], "nothing is left beside the volumes");
}

#[test]
fn a_folder_has_what_its_volume_has_more() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let big = folder.path().join("big");
    fs::write(&big, vec![7; 100 << 20]).unwrap();
    let big = big.to_str().unwrap();
    said(&volume(&root, &["create", "notes", "-s", "64M"]));
    assert!(!volume(&root, &["cp", big, "notes:/big"]).status.success());
    said(&volume(&root, &["resize", "notes", "256M"]));
    said(&volume(&root, &["cp", big, "notes:/big"]));
    assert!(volume(&root, &["cat", "notes:/big"]).stdout == vec![7; 100 << 20]);
}
