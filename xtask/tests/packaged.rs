//! The story of a package that others share: built once with its programs, imported elsewhere, found, required by another
//! one, composed without its sources, updated, looked into, and run.
//!
//! Run by `cargo xtask test`, or alone by `cargo test --release -p xtask --test packaged -- --ignored`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Time for a boot; it takes 0.2 s on a quiet machine without KVM.
const BOOT_DEADLINE: Duration = Duration::from_secs(90);

/// A folder of somebody who has no sources, and the image that is composed there.
struct Elsewhere {
    folder: tempfile::TempDir,
    name: String,
}

impl Elsewhere {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            // Images are in one folder for all.
            name: format!("story-{}", std::process::id()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("HERMITAGE_ROOT", self.path("root"));
        command.env_remove("HERMITAGE_PACKAGES");
        command
    }

    /// What a command that succeeds prints, on stdout and stderr.
    fn done(&self, arguments: &[&str]) -> (String, String) {
        let output = self.command(arguments).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        (stdout, stderr)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
        let _ = fs::remove_dir_all(images.join(&self.name));
    }
}

/// A machine, which ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            // The launcher ends its machine, then itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_package_is_shared_as_an_archive_and_composed_and_run_without_its_sources() {
    let here = Elsewhere::new();
    let name = here.name.as_str();
    here.done(&["package", "build", "kv", "-o", "shared"]);
    here.done(&["package", "import", "shared/kv.mpm"]);
    let (found, _) = here.done(&["package", "search", "store", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found[0]["name"], "kv");

    here.done(&["package", "init", name]);
    let manifest = here.path(name).join("package.yaml");
    let rest = "require: [kv@^0.1]\nfiles: [{ source: site, destination: /srv }]\n\
                config_set: { serve: { bootcmd: kv } }\n";
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + rest).unwrap();
    let site = here.path(name).join("site");
    fs::create_dir(&site).unwrap();
    fs::write(site.join("one"), "one").unwrap();
    fs::write(site.join("two"), "two").unwrap();
    let package = &format!("./{name}");
    let (_, stderr) = here.done(&["compose", package]);
    assert!(stderr.contains("3 files"), "{stderr}");

    fs::write(site.join("two"), "changed").unwrap();
    fs::write(site.join("three"), "three").unwrap();
    let (_, stderr) = here.done(&["compose", "--update", package]);
    assert!(stderr.contains("1 changed, 1 added, 0 removed"), "{stderr}");
    let (_, stderr) = here.done(&["compose", "--update", package]);
    assert!(stderr.contains("nothing written"), "{stderr}");

    let (_, stderr) = here.done(&["image", "verify", name]);
    assert!(stderr.contains("intact, 4 files, 1 program sealed"), "{stderr}");
    let (tree, _) = here.done(&["image", "tree", name]);
    assert!(tree.contains("three") && tree.contains("kv"), "{tree}");
    assert_eq!(
        here.done(&["image", "cat", &format!("{name}:/srv/two")]).0,
        "changed"
    );
    here.done(&["image", "cp", &format!("{name}:/srv"), "out"]);
    assert_eq!(fs::read_to_string(here.path("out/three")).unwrap(), "three");
    here.done(&["image", "export", name, "--format", "qcow2", "copy.qcow2"]);
    assert_eq!(here.done(&["image", "cat", "copy.qcow2:/srv/one"]).0, "one");

    let mut command = here.command(&["run", name, "-f", "0:9000"]);
    let mut machine = Running(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let console = BufReader::new(machine.0.stdout.take().unwrap());
    let (lines, console_lines) = channel();
    thread::spawn(move || {
        // It ends with the machine, or when the test does.
        let _ = console
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| lines.send(line));
    });
    let mut seen = Vec::new();
    while !seen
        .iter()
        .any(|line: &String| line.contains("listening on 9000"))
    {
        match console_lines.recv_timeout(BOOT_DEADLINE) {
            Ok(line) => seen.push(line),
            Err(error) => panic!("{error}; console: {seen:?}"),
        }
    }
}
