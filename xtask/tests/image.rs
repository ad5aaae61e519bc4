//! What a user sees of `cargo xtask image` when something is wrong, and of its help. What it does with images is in the
//! builder's `inspect.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hermitage_disk::qcow2::Qcow2;

/// Runs `image` in a folder; exit code, stdout, stderr.
fn image(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("image")
        .args(arguments)
        .current_dir(folder)
        .env("HERMITAGE_ROOT", folder.join("root"))
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn each_subcommand_has_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "ls", "tree", "cat", "cp", "info", "verify", "export", "rm", "rename",
    ] {
        let (code, stdout, _) = image(folder.path(), &[command, "--help"]);
        assert_eq!(code, 0);
        let example = format!("\n  cargo xtask image {command} ");
        assert!(stdout.contains(&example), "{stdout}");
    }
}

#[test]
fn an_image_that_is_not_there_ends_with_1_and_advice() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["tree", "no-such"][..],
        &["cat", "no-such:/x"],
        &["verify", "no-such"],
    ] {
        let (code, stdout, stderr) = image(folder.path(), arguments);
        assert!(
            stderr.starts_with("error: there is no image `no-such`\n  hint: "),
            "{stderr}"
        );
        assert_eq!((code, stdout.as_str()), (1, ""));
    }
}

#[test]
fn a_path_in_an_image_needs_both_parts() {
    let folder = tempfile::tempdir().unwrap();
    for from in ["kv", ":/bin", "kv:"] {
        let (code, _, stderr) = image(folder.path(), &["cat", from]);
        assert!(stderr.contains("such as `kv:/bin/kv`"), "{stderr}");
        assert_eq!(code, 2);
    }
}

#[test]
fn verify_prints_the_problems_as_data_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.qcow2"), "no image").unwrap();
    let (code, stdout, stderr) = image(folder.path(), &["verify", "bad.qcow2"]);
    assert!(
        stdout.starts_with("container: `bad.qcow2` is not a qcow2 image"),
        "{stdout}"
    );
    assert_eq!(stderr, "error: `bad.qcow2` is damaged: 1 problem\n");
    assert_eq!(code, 1);
}

#[test]
fn a_folder_without_images_has_an_empty_list() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = image(folder.path(), &["ls", "."]);
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (0, "name  roles  on disk  files  composed\n", "")
    );
    assert_eq!(image(folder.path(), &["ls", "--json", "."]).1, "[]\n");
}

/// An image, in a folder of its own.
fn composed(folder: &Path, name: &str) -> PathBuf {
    let own = folder.join("images").join(name);
    fs::create_dir_all(&own).unwrap();
    let path = own.join(format!("{name}.qcow2"));
    Qcow2::create(&path, 1 << 20).unwrap();
    fs::write(own.join(format!("{name}.qcow2.index")), "index").unwrap();
    path
}

/// An instance on an image, as a launcher leaves it; it runs as long as its lock is held.
fn ended_instance(folder: &Path, name: &str, image: &Path) {
    let own = folder.join("root/instances").join(name);
    fs::create_dir_all(&own).unwrap();
    hermitage_disk::create_overlay(image, &own.join(launcher::command_line::file::DISK)).unwrap();
}

#[test]
fn rm_removes_all_of_the_images_with_their_folders() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["kv", "db.1", "web"] {
        composed(folder.path(), name);
    }
    let arguments = [
        "rm",
        "images/kv/kv.qcow2",
        "images/db.1/db.1.qcow2",
        "./images/kv/kv.qcow2",
    ];
    assert_eq!(
        image(folder.path(), &arguments),
        (
            0,
            String::new(),
            "images/db.1/db.1.qcow2: removed\nimages/kv/kv.qcow2: removed\n".to_owned()
        )
    );
    let left: Vec<_> = fs::read_dir(folder.path().join("images"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["web"]);
}

#[test]
fn an_image_that_instances_need_is_neither_removed_nor_renamed_and_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let [kv, db] = ["kv", "db"].map(|name| composed(folder.path(), name));
    for name in ["a", "b"] {
        ended_instance(folder.path(), name, &kv);
    }
    let stderr = |arguments: &[&str]| {
        let (code, stdout, stderr) = image(folder.path(), arguments);
        assert_eq!((code, stdout.as_str()), (1, ""));
        stderr
    };
    let both = ["images/kv/kv.qcow2", "images/db/db.qcow2"];
    assert_eq!(
        stderr(&["rm", both[0], both[1]]),
        "error: `images/kv/kv.qcow2` cannot be removed: it backs the disk of the instances `a`, `b`\n  \
         hint: `--force` does it all the same; what is on that disk is lost then\n"
    );
    assert_eq!(
        stderr(&["rename", both[0], "other"]),
        "error: `images/kv/kv.qcow2` cannot be renamed: it backs the disk of the instances `a`, `b`\n  \
         hint: `--force` does it all the same; what is on that disk is lost then\n"
    );
    // None of the two was removed, though the other one could have been.
    assert!(kv.exists() && db.exists());
    let shared = hermitage_disk::lock::share(&db).unwrap();
    assert_eq!(
        stderr(&["rm", both[1]]),
        "error: `images/db/db.qcow2` cannot be removed: it is in use\n  hint: stop it first\n"
    );
    drop(shared);
    assert_eq!(image(folder.path(), &["rm", "--force", both[0], both[1]]).0, 0);
    assert!(!kv.exists() && !db.exists());
}

#[test]
fn rename_takes_the_folder_along_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["kv", "db"] {
        composed(folder.path(), name);
    }
    let rename = |from: &str, to: &str| {
        image(
            folder.path(),
            &["rename", &format!("images/{from}/{from}.qcow2"), to],
        )
    };
    assert_eq!(
        rename("kv", "db"),
        (
            1,
            String::new(),
            "error: there is an image `images/db/db.qcow2` already\n  \
             hint: remove that one first, or choose another name\n"
                .to_owned()
        )
    );
    assert_eq!(
        rename("kv", "kv-1.2"),
        (
            0,
            String::new(),
            "images/kv/kv.qcow2: now images/kv-1.2/kv-1.2.qcow2\n".to_owned()
        )
    );
    assert!(!folder.path().join("images/kv").exists());
    let (code, _, stderr) = rename("kv-1.2", "a/b");
    assert_eq!(
        (code, stderr.as_str()),
        (
            2,
            "error: `a/b` is no name: at most 64 letters, digits, `-`, `_` or `.`, the first a letter or a digit\n"
        )
    );
}
