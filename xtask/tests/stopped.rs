//! Compositions that are stopped from outside: killed at any moment, or out of room. The old image is intact, or the
//! new one is complete, and the next run leaves no temporary file.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

/// How often a composition is killed, each time later than before.
const KILLS: u32 = 12;

/// A package of files alone, and its image.
struct Package(tempfile::TempDir);

impl Package {
    fn new() -> Self {
        let package = Self(tempfile::tempdir().unwrap());
        fs::create_dir(package.path().join("files")).unwrap();
        package.fill(0);
        let manifest = "name: bench\ntitle: t\nauthor: a\nfiles:\n  - source: files\n    destination: /srv\n";
        fs::write(package.path().join("package.yaml"), manifest).unwrap();
        package
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Gives every other file another content: more, and an update would leave so many holes that none is made.
    fn fill(&self, byte: u8) {
        for n in 0..200 {
            let byte = if n % 2 == 0 { byte } else { 0 };
            let content = vec![byte.wrapping_add(n as u8); 200 * n];
            fs::write(self.path().join(format!("files/{n}")), content).unwrap();
        }
    }

    /// The command that composes it, without anything to compile.
    fn command(&self, step: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["bench", "compose-step", step]).arg(self.path());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn compose(&self, step: &str) {
        let output = self.command(step).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.has_no_leftovers();
    }

    fn has_no_leftovers(&self) {
        for entry in fs::read_dir(self.path().join("images/bench")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let known = ["bench.qcow2", "bench.qcow2.index", "bench.qcow2.lock"];
            assert!(known.contains(&name.as_str()), "`{name}` stayed");
        }
    }

    /// The digest of a whole image, whose every part is in order.
    fn digest(&self) -> String {
        let image = self.path().join("images/bench/bench.qcow2");
        let tool = |arguments: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
                .arg("image")
                .args(arguments)
                .arg(&image)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        // Its loader is no real one, which `verify` does not ask for.
        tool(&["verify"]);
        let info = tool(&["info", "--json"]);
        let line = info.lines().find(|line| line.contains("\"digest\"")).unwrap();
        line.to_owned()
    }
}

#[test]
fn killed_at_any_moment_the_image_holds_the_old_tree_or_the_new_one() {
    for step in ["fresh", "update"] {
        let package = Package::new();
        package.compose("fresh");
        let old = package.digest();
        package.fill(100);
        let begin = Instant::now();
        package.compose(step);
        let (whole, new) = (begin.elapsed(), package.digest());
        assert_ne!(old, new);
        let (mut killed, mut round) = (0, 0);
        while killed < KILLS {
            // The moment that a process of this length may be killed at, and a little beyond its end.
            let moment = whole * (round % KILLS) / (KILLS - 2);
            package.fill(0);
            package.compose("fresh");
            package.fill(100);
            let mut child = package.command(step).spawn().unwrap();
            thread::sleep(moment);
            child.kill().unwrap();
            killed += u32::from(!child.wait().unwrap().success());
            let found = package.digest();
            assert!(found == old || found == new, "killed after {moment:?}: {found}");
            package.compose("update");
            assert_eq!(package.digest(), new, "killed after {moment:?}");
            round += 1;
            assert!(round < 10 * KILLS, "compositions end before they can be killed");
        }
    }
}

/// Runs a command whose files may not grow beyond some blocks of 512 bytes: what a full disk does, without one.
fn limited(command: &Command, blocks: u64) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .unwrap()
}

#[test]
fn without_room_the_old_image_stays_and_no_temporary_file() {
    let package = Package::new();
    package.compose("fresh");
    let old = package.digest();
    let image = fs::metadata(package.path().join("images/bench/bench.qcow2")).unwrap();
    package.fill(100);
    let blocks = image.len() / 512;
    for part in 0..8 {
        let output = limited(&package.command("fresh"), blocks * part / 8);
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.starts_with("error: cannot "), "{stderr}");
        assert!(stderr.contains("File too large"), "{stderr}");
        package.has_no_leftovers();
        assert_eq!(package.digest(), old);
    }
    package.compose("fresh");
    assert_ne!(package.digest(), old);
}
