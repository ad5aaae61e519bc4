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
    // Nothing is left beside the volumes.
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
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
