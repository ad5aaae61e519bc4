//! What a user sees of `cargo xtask package`. What it does is in the builder's `archive.rs` and `repository.rs`.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs `package` in a folder that holds the repository and the cache, too; exit code, stdout, stderr.
fn package(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("package")
        .args(arguments)
        .current_dir(folder)
        .env("HERMITAGE_ROOT", folder.join("root"))
        .env("HERMITAGE_CACHE", folder.join("cache"))
        .env_remove("HERMITAGE_PACKAGES")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What a successful command has on stdout and stderr.
fn done(folder: &Path, arguments: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = package(folder, arguments);
    assert_eq!(code, 0, "{stderr}");
    (stdout, stderr)
}

/// A folder with the package `web`, which has a file.
fn web() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().join("web");
    fs::create_dir(&web).unwrap();
    let text = "name: web\ntitle: Web pages\nauthor: us\nversion: 1.2.0\n\
                files:\n  - source: index.html\n    destination: /site/index.html\n";
    fs::write(web.join("package.yaml"), text).unwrap();
    fs::write(web.join("index.html"), "<html>").unwrap();
    folder
}

#[test]
fn each_subcommand_has_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "init", "build", "import", "list", "search", "show", "rm", "verify", "pull",
    ] {
        let (stdout, _) = done(folder.path(), &[command, "--help"]);
        let example = format!("\n  cargo xtask package {command}");
        assert!(stdout.contains(&example), "{stdout}");
    }
}

#[test]
fn a_package_goes_from_its_folder_into_the_repository_and_out_of_it() {
    let folder = web();
    let folder = folder.path();
    let (stdout, stderr) = done(folder, &["build", "./web"]);
    assert_eq!(stdout, "");
    let digest = fs::read_to_string(folder.join("web.digest")).unwrap();
    let size = fs::metadata(folder.join("web.mpm")).unwrap().len();
    assert_eq!(stderr, format!("./web.mpm: {size} B, 1 file, {digest}"));

    let imported = format!("web@1.2.0: {size} B\n");
    assert_eq!(done(folder, &["import", "web.mpm"]), (String::new(), imported));
    // The folder gives the same archive again.
    assert_eq!(
        done(folder, &["import", "web"]).1,
        "web@1.2.0: is there already\n"
    );
    let table = format!("name  version   size  title\nweb   1.2.0    {size} B  Web pages\n");
    assert_eq!(done(folder, &["list"]).0, table);
    assert_eq!(done(folder, &["search", "PAGES"]).0, table);
    let (stdout, stderr) = done(folder, &["search", "nothing"]);
    assert_eq!(stdout, "name  version  size  title\n");
    assert_eq!(stderr, "no package has all of these words\n");
    assert_eq!(done(folder, &["search", "nothing", "--json"]).0, "[]\n");
    let archive = folder.join("root/packages/web/1.2.0/package.mpm");
    assert_eq!(
        done(folder, &["show", "web"]).0,
        format!(
            "package      web\nversion      1.2.0\ntitle        Web pages\nauthor       us\n\
             archive      {}, {size} B\ndigest       {digest}",
            archive.display()
        )
    );
    let (json, _) = done(folder, &["show", "web@1.2", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["digest"], digest.trim());
    assert_eq!(done(folder, &["verify"]).0, "web@1.2.0: intact\n");

    let mut bytes = fs::read(&archive).unwrap();
    bytes[30] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let (code, stdout, stderr) = package(folder, &["verify", "web"]);
    assert!(
        stdout.contains("is damaged or was changed: its digest is blake3:"),
        "{stdout}"
    );
    assert_eq!(
        (code, stderr.as_str()),
        (1, "error: 1 of 1 package cannot be used\n")
    );
    assert_eq!(done(folder, &["rm", "web"]).1, "web@1.2.0: removed\n");
    assert_eq!(done(folder, &["list", "--json"]).0, "[]\n");
    assert_eq!(
        package(folder, &["show", "web"]),
        (
            1,
            String::new(),
            "error: there is no package `web` in the repository\n  \
             hint: `cargo xtask package import` or `pull` brings packages\n"
                .to_owned()
        )
    );
}

#[test]
fn a_pull_from_a_folder_says_what_was_not_checked() {
    let folder = web();
    let folder = folder.path();
    done(folder, &["build", "./web", "-o", "."]);
    let digest = fs::read_to_string(folder.join("web.digest")).unwrap();
    let size = fs::metadata(folder.join("web.mpm")).unwrap().len();
    fs::remove_file(folder.join("web.digest")).unwrap();
    let pull = |arguments: &[&str]| package(folder, &[&["pull"], arguments].concat());
    assert_eq!(
        pull(&["web@^1", "--from", "."]),
        (
            0,
            String::new(),
            format!("web@1.2.0: {size} B\nnot checked: the source has no digest; what came is {digest}")
        )
    );
    assert_eq!(
        pull(&["web@^2", "--from", "."]),
        (
            1,
            String::new(),
            "error: `.` has `web@^2` as 1.2.0, which does not fit\n".to_owned()
        )
    );
    assert_eq!(
        pull(&["web", "--from", "https://127.0.0.1"]),
        (
            1,
            String::new(),
            "error: `https://127.0.0.1` is no folder, and no address that begins with `http://`\n  \
             hint: there is no https here; digests say whether all is well\n"
                .to_owned()
        )
    );
    assert_eq!(pull(&["web"]).0, 2);
}

#[test]
fn init_asks_nothing_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (stdout, stderr) = done(folder.path(), &["init", "shop"]);
    assert_eq!(
        (stdout.as_str(), stderr.as_str()),
        ("", "shop/package.yaml: written\n")
    );
    done(folder.path(), &["build", "./shop"]);
    done(&folder.path().join("shop"), &["build", "."]);
    assert_eq!(
        package(folder.path(), &["init", "shop"]),
        (
            1,
            String::new(),
            "error: `shop/package.yaml` is there already\n  hint: nothing is replaced: remove it first\n"
                .to_owned()
        )
    );
}
