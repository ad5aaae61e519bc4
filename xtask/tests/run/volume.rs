//! What a user sees of volumes, with a stand-in for the guest; `qemu-io` writes in its place.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::user::{READY, User};

const MEGABYTE: u64 = 1 << 20;

fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text} {output:?}");
    text
}

impl User {
    fn volume(&self, arguments: &[&str]) -> String {
        self.xtask(&[&["volume"], arguments].concat()).ok()
    }

    fn volumes(&self) -> PathBuf {
        self.folder().join("root/volumes")
    }

    fn file(&self, name: &str) -> String {
        let file = self.volumes().join(format!("{name}.qcow2"));
        file.to_str().unwrap().to_owned()
    }

    /// Fills the first megabyte of a volume.
    fn write(&self, name: &str, byte: u8) {
        let command = format!("write -q -P {byte} 0 1M");
        tool("qemu-io", &["-f", "qcow2", "-c", &command, &self.file(name)]);
    }

    /// The byte that the first megabyte of a volume or a snapshot is full of.
    fn read(&self, point: &str) -> u8 {
        let file = self.folder().join("exported.raw");
        self.volume(&["export", point, file.to_str().unwrap(), "--format", "raw"]);
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(bytes[..MEGABYTE as usize].iter().all(|byte| *byte == bytes[0]));
        bytes[0]
    }

    fn volume_facts(&self, name: &str) -> Value {
        let list: Value = serde_json::from_str(&self.volume(&["inspect", name])).unwrap();
        list[0].clone()
    }

    /// Files in the folder of volumes with this extension.
    fn count(&self, extension: &str) -> usize {
        let entries = fs::read_dir(self.volumes()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .count()
    }
}

fn user() -> User {
    User::with_guest(&READY)
}

#[test]
fn a_volume_has_one_writer_at_a_time_and_the_holder_is_named() {
    let user = user();
    assert_eq!(
        user.xtask(&["volume", "create", "data", "-s", "64M"]).ok(),
        "data\n"
    );
    user.xtask(&["volume", "create", "data", "-s", "1M"])
        .fails_with(125, &["there is a volume `data` already", "hint: "]);
    user.detach(&["--name", "first", "--volume", "data"]).ok();
    user.detach(&["--name", "second", "--volume", "data"]).fails_with(
        125,
        &[
            "volume `data` is attached to instance `first`, which runs",
            "stop first",
        ],
    );
    let table = user.xtask(&["volume", "ls"]).ok();
    assert!(
        table.lines().nth(1).unwrap().starts_with("data  64.0M"),
        "{table}"
    );
    assert!(table.contains("first"), "{table}");
    user.detach(&["--name", "second", "--volume", "data:ro"])
        .fails_with(
            125,
            &["volume `data` is attached to instance `first`, which runs"],
        );
    user.xtask(&["volume", "rm", "data"])
        .fails_with(125, &["is attached to instance `first`"]);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    user.xtask(&["volume", "cp", file, "data:/"])
        .fails_with(125, &["is attached to instance `first`"]);
    user.xtask(&["kill", "first"]).ok();
    for name in ["second", "third"] {
        user.detach(&["--name", name, "--volume", "data:ro"]).ok();
    }
    assert!(user.volume(&["ls"]).contains("second:ro, third:ro"));
    user.detach(&["--name", "fourth", "--volume", "data"]).fails_with(
        125,
        &["volume `data` is attached to instance `second`, which runs"],
    );
    user.xtask(&["kill", "second", "third"]).ok();
    user.xtask(&["rm", "second", "third"]).ok();
    user.xtask(&["volume", "move", "data", "old"]).ok();
    user.detach(&["--name", "second", "--volume", "data"])
        .fails_with(2, &["there is no volume `data`", "volume create data"]);
    user.xtask(&["volume", "rm", "old"]).ok();
    assert_eq!(user.xtask(&["volume", "ls", "--json"]).ok(), "[]\n");
}

#[test]
fn snapshots_clones_and_volumes_do_not_disturb_each_other() {
    let user = user();
    user.volume(&["create", "db", "-s", "8M"]);
    user.write("db", 1);
    assert_eq!(user.volume(&["snapshot", "db", "one"]), "db@one\n");
    user.write("db", 2);
    assert_eq!(user.volume(&["snapshot", "db", "two"]), "db@two\n");
    user.write("db", 3);
    assert_eq!(user.volume(&["clone", "db@one", "from-one"]), "from-one\n");
    assert_eq!(user.volume(&["clone", "db", "now"]), "now\n");
    user.write("from-one", 11);
    user.write("db", 4);
    let seen = ["db@one", "db@two", "db", "from-one", "now"].map(|point| user.read(point));
    assert_eq!(seen, [1, 2, 4, 11, 3]);
    let table = user.volume(&["snapshots", "db"]);
    let names: Vec<_> = table
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(names, ["SNAPSHOT", "db@one", "db@two"]);

    // Back, and what is removed takes nothing from the others.
    assert_eq!(user.volume(&["restore", "db@one"]), "db\n");
    assert_eq!(user.read("db"), 1);
    user.xtask(&["volume", "rm", "db"])
        .fails_with(125, &["volume `db` has snapshots: `one`, `two`", "--snapshots"]);
    user.volume(&["move", "db", "old"]);
    assert_eq!(user.read("old@two"), 2);
    user.volume(&["rm", "old@one"]);
    user.volume(&["rm", "--snapshots", "old"]);
    assert_eq!([user.read("from-one"), user.read("now")], [11, 3]);
    // A file that nobody shares stands alone again.
    user.volume(&["rm", "now"]);
    assert_eq!((user.read("from-one"), user.count("layer")), (11, 0));
    tool("qemu-img", &["check", "-q", &user.file("from-one")]);
    user.volume(&["rm", "from-one"]);
    assert_eq!(user.volume(&["ls", "--json"]), "[]\n");
    assert_eq!(
        fs::read_dir(user.volumes()).unwrap().count(),
        1,
        "but for the lock"
    );
}

#[test]
fn a_volume_that_a_guest_has_is_kept_cloned_and_made_larger_while_it_runs() {
    let user = user();
    user.volume(&["create", "db", "-s", "8M"]);
    user.write("db", 7);
    user.detach(&["--name", "guest", "--volume", "db"]).ok();
    for name in ["one", "two"] {
        user.volume(&["snapshot", "db", name]);
    }
    user.volume(&["clone", "db", "copy"]);
    assert_eq!(user.volume_facts("db")["snapshots"].as_array().unwrap().len(), 2);
    // It reads below what it writes: each file of the chain, and no other in its place.
    let stats = user.xtask(&["stats", "--no-stream", "--json", "guest"]);
    let stats: serde_json::Value = serde_json::from_str(&stats.stdout).unwrap();
    let open: Vec<u64> = fs::read_dir(format!("/proc/{}/fd", stats[0]["qemu_pid"]))
        .unwrap()
        .filter_map(|file| Some(fs::metadata(file.unwrap().path()).ok()?.ino()))
        .collect();
    let layers = fs::read_dir(user.volumes())
        .unwrap()
        .map(|file| file.unwrap().path());
    let layers = layers.filter(|path| path.extension().is_some_and(|extension| extension == "layer"));
    let chain: Vec<_> = layers.chain([user.file("db").into()]).collect();
    assert_eq!(chain.len(), 4);
    for file in chain {
        assert!(
            open.contains(&fs::metadata(&file).unwrap().ino()),
            "{file:?} is not open"
        );
    }
    assert_eq!(user.count("next"), 0);
    // The machine writes to the newest file, and holds no other against writers.
    for file in [user.file("db"), user.file("copy")] {
        let write = ["-f", "qcow2", "-c", "write -q 0 1k", &file];
        let output = Command::new("qemu-io").args(write).output().unwrap();
        let locked = String::from_utf8_lossy(&output.stderr).contains("lock");
        assert_eq!(locked, file == user.file("db"), "{output:?}");
    }
    user.volume(&["resize", "db", "16M"]);
    assert_eq!(user.volume_facts("db")["size_bytes"], 16 * MEGABYTE);
    user.volume(&["rm", "db@one"]);
    assert_eq!(user.read("db@two"), 7);
    for refused in [
        &["resize", "db", "4M", "--shrink"][..],
        &["restore", "db@two"],
        &["rm", "--snapshots", "db"],
        &["move", "db", "other"],
        &["export", "db", "/no/such"],
    ] {
        let seen = user.xtask(&[&["volume"], refused].concat());
        assert!(seen.code.is_some_and(|code| code != 0), "{refused:?} {seen:?}");
        assert!(
            seen.stderr.contains("instance `guest`") || seen.stderr.contains("cannot get smaller"),
            "{seen:?}"
        );
    }
    user.xtask(&["kill", "guest"]).ok();
    // It finds what it left, and what is not needed any more is put together.
    user.xtask(&["start", "guest"]).ok();
    user.xtask(&["kill", "guest"]).ok();
    user.volume(&["rm", "db@two"]);
    user.volume(&["rm", "copy"]);
    assert_eq!((user.read("db"), user.count("layer")), (7, 0));
    tool("qemu-img", &["check", "-q", &user.file("db")]);
}

#[test]
fn a_volume_has_the_size_that_it_is_given() {
    let user = user();
    user.volume(&["create", "db", "-s", "8M"]);
    user.write("db", 5);
    user.volume(&["resize", "db", "1G"]);
    assert_eq!(user.volume_facts("db")["size_bytes"], 1024 * MEGABYTE);
    user.xtask(&["volume", "resize", "db", "2M"]).fails_with(
        2,
        &["volume `db` has 1073741824 bytes; 2097152 are fewer", "--shrink"],
    );
    user.volume(&["resize", "--shrink", "db", "2M"]);
    assert_eq!(user.read("db"), 5);
    user.volume(&["snapshot", "db", "small"]);
    user.volume(&["resize", "db", "4M"]);
    user.xtask(&["volume", "resize", "--shrink", "db", "2M"])
        .fails_with(2, &["cannot get smaller"]);
    user.volume(&["rm", "db@small"]);
    assert_eq!(
        (user.read("db"), user.volume_facts("db")["size_bytes"].as_u64()),
        (5, Some(4 * MEGABYTE))
    );
}

#[test]
fn disks_come_in_from_other_formats_and_go_out() {
    let user = user();
    let at = |name: &str| user.folder().join(name).to_str().unwrap().to_owned();
    fs::write(at("disk.raw"), vec![9; 2 << 20]).unwrap();
    for format in ["qcow2", "vmdk", "vdi", "vhdx"] {
        let file = at(&format!("disk.{format}"));
        tool(
            "qemu-img",
            &["convert", "-f", "raw", "-O", format, &at("disk.raw"), &file],
        );
        user.volume(&["import", format, &file]);
        assert_eq!(user.read(format), 9, "{format}");
    }
    user.volume(&["export", "vdi", &at("out.qcow2")]);
    tool("qemu-img", &["compare", &at("out.qcow2"), &at("disk.raw")]);
    user.xtask(&["volume", "export", "vdi", &at("out.qcow2")])
        .fails_with(125, &["is there already"]);

    // Nothing of this host comes in with them.
    tool(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            &at("disk.raw"),
            "-F",
            "raw",
            &at("bad.qcow2"),
        ],
    );
    let flat = [
        "convert",
        "-f",
        "raw",
        "-O",
        "vmdk",
        "-o",
        "subformat=monolithicFlat",
    ];
    tool(
        "qemu-img",
        &[&flat[..], &[&at("disk.raw"), &at("bad.vmdk")]].concat(),
    );
    fs::write(at("disk"), [0; 512]).unwrap();
    for (file, words) in [
        ("bad.qcow2", "refers to another file, `"),
        ("bad.vmdk", "refers to another file, `"),
        ("disk", "in no format that its name would tell"),
        ("missing.raw", "cannot be opened"),
        (".", "is a folder"),
        ("disk.raw/x", "cannot be opened"),
    ] {
        user.xtask(&["volume", "import", "bad", &at(file)])
            .fails_with(2, &[words]);
    }
    fs::write(at("torn.vmdk"), "KDMV").unwrap();
    user.xtask(&["volume", "import", "bad", &at("torn.vmdk")])
        .fails_with(125, &["cannot read `", "torn.vmdk`: "]);
    user.volume(&["import", "plain", &at("disk"), "--format", "raw"]);
    assert_eq!((user.count("qcow2"), user.count("partial")), (5, 0));
}

#[test]
fn a_command_that_is_killed_leaves_no_half_of_a_volume() {
    let user = user();
    user.volume(&["create", "db", "-s", "8M"]);
    let file = user.folder().join("disk.raw");
    fs::write(&file, vec![8; 32 << 20]).unwrap();
    let mut import = user
        .command(&["volume", "import", "big", file.to_str().unwrap()])
        .spawn()
        .unwrap();
    // In the middle, or on a fast machine at the end.
    crate::user::wait_until("it is at it", || {
        user.count("partial") == 1 || import.try_wait().unwrap().is_some()
    });
    import.kill().unwrap();
    import.wait().unwrap();
    if user.xtask(&["volume", "inspect", "big"]).code == Some(0) {
        assert_eq!(user.read("big"), 8);
    }
    // What it left goes with the next volume that is made.
    user.volume(&["create", "other", "-s", "8M"]);
    assert_eq!(user.count("partial"), 0);
}

#[test]
fn what_a_machine_wrote_is_kept_when_the_command_that_made_a_snapshot_is_killed() {
    let user = user();
    user.volume(&["create", "db", "-s", "8M"]);
    user.write("db", 6);
    // As it is when the machine has gone on with the new file, and the command is killed then.
    let at = |name: &str| user.volumes().join(name).to_str().unwrap().to_owned();
    fs::hard_link(user.file("db"), at("18a.layer")).unwrap();
    let overlay = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "18a.layer"];
    tool("qemu-img", &[&overlay[..], &[&at(".db.18a.next")]].concat());
    let write = ["-f", "qcow2", "-c", "write -q -P 7 0 1M", &at(".db.18a.next")];
    tool("qemu-io", &write);
    // Whoever comes next puts it right.
    user.volume(&["snapshot", "db", "now"]);
    assert_eq!(
        (user.read("db"), user.read("db@now"), user.count("next")),
        (7, 7, 0)
    );
}

#[test]
fn two_commands_at_once_do_one_after_the_other() {
    let user = user();
    user.volume(&["create", "db", "-s", "8M"]);
    user.write("db", 6);
    thread::scope(|scope| {
        for number in 0..4 {
            let user = &user;
            scope.spawn(move || user.volume(&["snapshot", "db", &number.to_string()]));
            scope.spawn(move || user.volume(&["clone", "db", &format!("db{number}")]));
        }
    });
    for number in 0..4 {
        assert_eq!(user.read(&format!("db@{number}")), 6);
        assert_eq!(user.read(&format!("db{number}")), 6);
    }
    let made: Vec<_> = thread::scope(|scope| {
        let make = || user.xtask(&["volume", "create", "one", "-s", "1M"]).code;
        let makers: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    assert_eq!(
        made.iter().filter(|code| **code == Some(0)).count(),
        1,
        "{made:?}"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let user = user();
    user.volume(&["create", "db", "-s", "8M"]);
    for (arguments, code, words) in [
        (&["snapshot", "no"][..], 2, "there is no volume `no`"),
        (&["snapshots", "no"], 2, "there is no volume `no`"),
        (&["clone", "db@no", "x"], 2, "volume `db` has no snapshot `no`"),
        (&["restore", "db@no"], 2, "volume `db` has no snapshot `no`"),
        (&["restore", "db"], 2, "`db` is a volume"),
        (&["rm", "db@no"], 2, "volume `db` has no snapshot `no`"),
        (&["clone", "db", "db"], 125, "there is a volume `db` already"),
        (
            &["resize", "db", "1000001"],
            2,
            "a volume cannot have 1000001 bytes",
        ),
        (
            &["export", "db", "/no/such/folder"],
            125,
            "cannot export `/no/such/folder`",
        ),
    ] {
        user.xtask(&[&["volume"], arguments].concat())
            .fails_with(code, &[words]);
    }
    // One that is raw: a file that somebody put there.
    fs::write(user.volumes().join("plain.raw"), [0; 512]).unwrap();
    user.xtask(&["volume", "snapshot", "plain"])
        .fails_with(2, &["is raw", "volume import"]);
    assert!(Path::new(&user.file("db")).exists());
    assert_eq!(user.count("layer"), 0);
}
