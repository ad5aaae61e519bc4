//! What a user sees of `cargo xtask compose` when something is wrong with the package. That composed images boot is
//! in `boot.rs`.

use std::fs;
use std::process::Command;

/// Runs `compose` in a folder; exit code and stderr. Nothing is ever on stdout.
fn compose(folder: &std::path::Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("compose")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.stdout.is_empty());
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn what_is_wrong_is_shown_in_its_place_and_nothing_is_built() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("shop")).unwrap();
    let text = "name: shop\ntitle: Shop\nauthor: us\nsize: lots\n";
    fs::write(folder.path().join("shop/package.yaml"), text).unwrap();
    let (code, stderr) = compose(folder.path(), &["./shop"]);
    assert_eq!(
        stderr,
        "error: `lots` is no size of a disk
 --> ./shop/package.yaml:4:7
  |
4 | size: lots
  |       ^^^^
  hint: write a number and a unit, like `64M` or `2G`, up to `1T`
"
    );
    assert_eq!(code, 1);
}

#[test]
fn a_file_that_is_missing_is_told_before_anything_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("shop")).unwrap();
    fs::write(folder.path().join("shop/motd"), "").unwrap();
    let text = "name: shop\ntitle: Shop\nauthor: us\nservices: [services/kv]\n\
                files:\n  - source: mtod\n    destination: /etc/motd\n";
    fs::write(folder.path().join("shop/package.yaml"), text).unwrap();
    let (code, stderr) = compose(folder.path(), &["./shop"]);
    assert_eq!(
        stderr,
        "error: `mtod` is not in the package's folder
 --> ./shop/package.yaml:6:13
  |
6 |   - source: mtod
  |             ^^^^
  hint: did you mean `motd`?
"
    );
    assert_eq!(code, 1);
}

#[test]
fn a_package_that_is_not_there_is_named_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stderr) = compose(folder.path(), &["vk"]);
    assert!(
        stderr.starts_with("error: there is no package `vk`\n  hint: "),
        "{stderr}"
    );
    assert!(stderr.contains("`kv`"), "{stderr}");
    assert_eq!(code, 1);
}

#[test]
fn a_package_is_needed() {
    let (code, stderr) = compose(std::env::temp_dir().as_path(), &[]);
    assert!(stderr.contains("<PACKAGE>"), "{stderr}");
    assert_eq!(code, 2);
}
