//! What a user sees of `cargo xtask image` when something is wrong, and of its help. What it does with images is in the
//! builder's `inspect.rs`.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs `image` in a folder; exit code, stdout, stderr.
fn image(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("image")
        .args(arguments)
        .current_dir(folder)
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
    for command in ["ls", "tree", "cat", "cp", "info", "verify", "export"] {
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
