//! What a shell completes of `cargo xtask`, asked through the script that users install.

use std::fs;
use std::path::Path;
use std::process::Command;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

fn script(shell: &str) -> String {
    let output = Command::new(XTASK).args(["completions", shell]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers at the end of a line.
fn bash(root: &Path, line: &str) -> Vec<String> {
    let file = root.join("script.bash");
    fs::write(&file, script("bash")).unwrap();
    // As bash calls a completion function; `_cargo` stands for the one that comes with cargo.
    let driver = r#"
        _cargo() { COMPREPLY=(build); }
        complete -F _cargo cargo
        . "$1"
        . "$1"
        COMP_LINE=$2 COMP_POINT=${#2}
        read -ra COMP_WORDS <<<"$2"
        [[ $2 == *' ' ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        [[ $(complete -p cargo) == *_hermitage_cargo* ]] || exit 1
        _hermitage_cargo
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut command = Command::new("bash");
    command
        .args(["--norc", "-c", driver, "bash"])
        .arg(&file)
        .arg(line);
    let output = command.env("HERMITAGE_ROOT", root).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn completes_commands_flags_values_and_names() {
    let root = tempfile::tempdir().unwrap();
    for name in ["kv", "kv-2", "db"] {
        fs::create_dir_all(root.path().join("instances").join(name)).unwrap();
    }
    for arguments in [&["create", "data", "-s", "1M"][..], &["snapshot", "data", "old"]] {
        let mut command = Command::new(XTASK);
        command
            .arg("volume")
            .args(arguments)
            .env("HERMITAGE_ROOT", root.path());
        assert!(command.output().unwrap().status.success());
    }
    for (line, expected) in [
        ("cargo xtask comp", &["compose", "completions"][..]),
        ("cargo xtask run --mach", &["--machine"]),
        ("cargo xtask run --machine ", &["pc", "q35", "microvm"]),
        ("cargo xtask run --machine=q", &["q35"]),
        ("cargo xtask compose k", &["kv"]),
        ("cargo xtask stop k", &["kv", "kv-2"]),
        ("cargo xtask stop nothing", &[""]),
        ("cargo xtask volume rm d", &["data", "data@old"]),
        ("cargo xtask volume restore d", &["data@old"]),
        ("cargo xtask run --volume d", &["data"]),
    ] {
        assert_eq!(bash(root.path(), line), expected, "{line:?}");
    }
}

#[test]
fn leaves_all_else_of_cargo_to_its_own_completion() {
    let root = tempfile::tempdir().unwrap();
    for line in ["cargo b", "cargo build --", "cargo xt"] {
        assert_eq!(bash(root.path(), line), ["build"], "{line:?}");
    }
}

#[test]
fn each_script_names_this_program() {
    for shell in ["bash", "zsh", "fish"] {
        let script = script(shell);
        assert!(script.contains(&format!("program={XTASK}")) || script.contains(&format!("program {XTASK}")));
        assert!(!script.contains("@PROGRAM@"));
    }
}
