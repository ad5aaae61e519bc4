//! The compile stages do what is needed, and nothing twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use builder::cargo::CargoError;
use builder::event::{Event, Outcome, Stage};
use builder::libhermit::{Libhermit, LibhermitError};
use builder::service::{ServiceBinary, ServiceError, ServiceSpec, build_services};
use builder::toolchain::GuestToolchain;

use crate::machine::{Machine, write_toolchain};

/// A machine with a toolchain, a workspace with the services `kv` and `web`, and a cargo that makes what it is asked
/// for: the programs hold what `content` in the machine's folder says.
fn machine() -> Machine {
    let mut machine = Machine::bare();
    let sysroot = machine.path("sysroot");
    write_toolchain(&sysroot, "1.85.0");
    machine.environment.guest_toolchain = Some(sysroot);
    machine.program("cargo", CARGO);
    machine.environment.cargo = machine.path("bin/cargo");
    machine.tool("llvm-strip", r#"/bin/cp "$4" "$3""#);
    machine.tool("llvm-nm", "echo a.o:; echo memcpy; echo sys_exit");
    machine.tool("llvm-objcopy", r#"/bin/cp "$2" "$3"; /bin/cat "${1#*=}" >> "$3""#);
    machine.file("content", "program 1");
    for name in ["kv", "web"] {
        machine.file(&format!("services/{name}/Cargo.toml"), "");
    }
    machine.file("Cargo.toml", "[workspace]\n");
    machine.file(
        "guest/kernel/Cargo.toml",
        "[workspace]\n[package]\nname = \"pin\"\n",
    );
    machine.file("guest/kernel/src/lib.rs", "");
    machine.file("guest/kernel/Cargo.lock", "");
    machine.file(
        "guest/kernel/patches/0001-fix.patch",
        "--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1 +1 @@\n-old\n+new\n",
    );
    machine.file("registry/hermit-kernel/src/lib.rs", "old\n");
    machine.file(
        "registry/hermit-kernel/Cargo.toml",
        "[package]\nname = \"hermit-kernel\"\n",
    );
    machine.file(
        "guest/std/patches/0001-fix.patch",
        "--- a/std/Cargo.toml\n+++ b/std/Cargo.toml\n@@ -0,0 +1 @@\n+patched\n",
    );
    for source in ["formats/boot", "formats/erofs", "guest/files"] {
        machine.file(&format!("{source}/src/lib.rs"), "");
    }
    machine.file("guest/libhermit/Cargo.lock", "");
    machine.file("guest/libhermit/wraps.txt", "# why\nsys_exit\n");
    machine.file(
        "guest/libhermit/Cargo.toml",
        "[workspace]\n[package]\nname = \"libhermit\"\n[dependencies]\n\
         hermit-kernel = { path = \"../../target/guest/hermit-kernel\" }\n",
    );
    machine
}

/// Answers `metadata` with two services or the kernel's place, `build` with the messages that cargo writes.
const CARGO: &str = r##"/usr/bin/env > @/env
package() { echo "{\"name\":\"$1\",\"manifest_path\":\"@/$2/Cargo.toml\",\"targets\":[{\"name\":\"$1\",\"kind\":[\"bin\"]}]}"; }
artifact() { echo "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"$1\",\"kind\":[\"$2\"]},\"filenames\":[\"$3\"],\"executable\":$4}"; }
case "$*" in
metadata*guest/kernel*) echo "{\"packages\":[$(package hermit-kernel registry/hermit-kernel)]}";;
metadata*) echo "{\"packages\":[$(package kv services/kv),$(package web services/web)]}";;
build*libhermit/source*) echo archive > @/libhermit.a; artifact hermit staticlib @/libhermit.a null;;
build*) [ ! -e @/broken ] || { /bin/cat @/broken >&2; exit 101; }
  for name in kv web; do case "$*" in *"--bin $name"*)
    /bin/cp @/content @/made-$name; artifact $name bin @/made-$name "\"@/made-$name\"";; esac; done
  echo '{"reason":"build-finished","success":true}';;
esac"##;

fn spec(name: &str) -> ServiceSpec {
    ServiceSpec {
        crate_dir: PathBuf::from("services").join(name),
        bin: name.to_owned(),
        features: Vec::new(),
        mounts_data: false,
    }
}

fn libhermit(machine: &Machine) -> Result<Libhermit, LibhermitError> {
    machine.with_session(|session| Libhermit::build(session, &GuestToolchain::provide(session).unwrap()))
}

fn build(machine: &Machine, services: &[ServiceSpec]) -> Result<Vec<ServiceBinary>, ServiceError> {
    let libhermit = libhermit(machine).unwrap();
    machine.with_session(|session| {
        let toolchain = GuestToolchain::provide(session).unwrap();
        build_services(session, &toolchain, &libhermit, services)
    })
}

fn builds(machine: &Machine) -> Vec<String> {
    let log = machine.log();
    let builds = log.lines().filter(|line| line.starts_with("cargo build"));
    builds.map(str::to_owned).collect()
}

/// How the last run of a stage ended.
fn outcome(machine: &Machine, wanted: Stage) -> Option<Outcome> {
    let events = machine.events.lock().unwrap();
    events.iter().rev().find_map(|event| match event {
        Event::Finished { stage, outcome, .. } if *stage == wanted => Some(*outcome),
        _ => None,
    })
}

#[test]
fn one_call_of_cargo_compiles_all_services() {
    let machine = machine();
    let features = vec!["fast".to_owned()];
    let binaries = build(
        &machine,
        &[
            spec("kv"),
            ServiceSpec {
                features,
                ..spec("web")
            },
        ],
    )
    .unwrap();
    assert_eq!(binaries.len(), 2);
    assert_eq!(binaries[0].size, "program 1".len() as u64);
    let builds = builds(&machine);
    let [_, services] = builds.as_slice() else {
        panic!("{builds:?}");
    };
    assert!(
        services.contains(" --package kv --bin kv --package web --bin web --features web/fast"),
        "{services}"
    );
}

#[test]
fn the_stock_kernel_has_nothing_of_ours_and_its_services_are_built_apart() {
    let machine = machine();
    build(&machine, &[spec("kv")]).unwrap();
    let ours = libhermit(&machine).unwrap();
    let built = machine.with_session(|session| {
        let toolchain = GuestToolchain::provide(session).unwrap();
        let stock = Libhermit::stock(session, &toolchain).unwrap();
        assert_ne!(stock.archive, ours.archive);
        assert_eq!(stock.wraps, [""; 0]);
        assert_eq!(stock.library, toolchain.library_source());
        build_services(session, &toolchain, &stock, &[spec("kv")]).unwrap()
    });
    assert!(
        built[0].path.ends_with("target/guest/stock/services/kv/kv"),
        "{built:?}"
    );
    let builds = builds(&machine);
    let [_, _, kernel, services] = builds.as_slice() else {
        panic!("{builds:?}");
    };
    assert!(
        kernel.contains("target/guest/stock/libhermit/source/Cargo.toml"),
        "{kernel}"
    );
    assert!(
        services.contains("target/guest/stock/build") && !services.contains("--wrap"),
        "{services}"
    );
    assert_eq!(
        fs::read_to_string(machine.path("registry/hermit-kernel/src/lib.rs")).unwrap(),
        "old\n"
    );
}

#[test]
fn only_the_services_themselves_are_linked_with_libhermit() {
    let machine = machine();
    build(&machine, &[spec("kv")]).unwrap();
    let archive = libhermit(&machine).unwrap().archive;
    let name = archive.file_name().unwrap().to_str().unwrap();
    let flags = format!(
        "profile.release.package.kv.rustflags=[\"-Clink-arg=target/guest/link/{name}\",\
         \"-Clink-arg=--build-id=none\",\"-Clink-arg=--wrap=sys_exit\"]"
    );
    assert!(builds(&machine)[1].contains(&flags), "{}", builds(&machine)[1]);
    let environment = fs::read_to_string(machine.path("env")).unwrap();
    let for_all = environment
        .lines()
        .find(|line| line.starts_with("CARGO_ENCODED_RUSTFLAGS="))
        .unwrap();
    assert!(!for_all.contains("link"), "{for_all}");
}

#[test]
fn the_outer_cargo_does_not_reach_the_guests_build() {
    let machine = machine();
    build(&machine, &[spec("kv")]).unwrap();
    let environment = fs::read_to_string(machine.path("env")).unwrap();
    let value = |name: &str| {
        environment
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let sysroot = machine.path("sysroot").display().to_string();
    assert!(
        std::env::var("CARGO_MANIFEST_DIR").is_ok(),
        "cargo runs this test"
    );
    assert_eq!(value("CARGO_MANIFEST_DIR"), None);
    assert_eq!(value("RUSTC_BOOTSTRAP"), Some("1"));
    assert_eq!(value("RUSTC"), Some(&*format!("{sysroot}/bin/rustc")));
    assert!(value("PATH").unwrap().starts_with(&format!("{sysroot}/bin:")));
    assert_eq!(value("LD_LIBRARY_PATH"), Some(""));
}

#[test]
fn what_the_compiler_says_is_shown_unchanged() {
    let machine = machine();
    let said = "error[E0425]: cannot find value `x` in this scope\n --> services/kv/src/main.rs:2:5\n\nerror: could not compile `kv`";
    machine.file("broken", said);
    let error = build(&machine, &[spec("kv")]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot build kv: `cargo build --quiet --release --locked"),
        "{text}"
    );
    assert!(text.ends_with(&format!("failed\n{said}")), "{text}");
}

#[test]
fn names_what_is_missing() {
    let mut machine = machine();
    let error = build(
        &machine,
        &[ServiceSpec {
            bin: "kv2".to_owned(),
            ..spec("kv")
        }],
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "package `kv` has no binary `kv2`");
    assert!(error.hint().unwrap().contains("name = \"kv2\""));
    let error = build(&machine, &[spec("nothing")]).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("services/nothing` is no crate of this workspace"),
        "{error}"
    );
    machine.environment.cargo = machine.path("bin/no-cargo");
    let error = build(&machine, &[spec("kv")]).unwrap_err();
    assert!(
        matches!(error, ServiceError::Cargo(CargoError::Missing)),
        "{error}"
    );
}

#[test]
fn an_old_binary_that_comes_back_is_stripped_again() {
    let machine = machine();
    let content = |path: &Path| fs::read_to_string(path).unwrap();
    for program in ["program 1", "program 2", "program 1"] {
        machine.file("content", program);
        let binaries = build(&machine, &[spec("kv")]).unwrap();
        assert_eq!(content(&binaries[0].path), program);
        assert_eq!(outcome(&machine, Stage::Services), Some(Outcome::Done));
    }
    build(&machine, &[spec("kv")]).unwrap();
    assert_eq!(outcome(&machine, Stage::Services), Some(Outcome::Cached));
}

#[test]
fn libhermit_is_built_from_patched_sources_with_its_own_symbols_renamed() {
    let machine = machine();
    let libhermit = libhermit(&machine).unwrap();
    assert_eq!(
        fs::read_to_string(libhermit.library.join("std/Cargo.toml")).unwrap(),
        "patched\n"
    );
    assert_eq!(
        fs::read_to_string(libhermit.archive).unwrap(),
        "archive\nmemcpy hermit_memcpy\n"
    );
    let patched = machine.path("target/guest/libhermit/source/hermit-kernel/src/lib.rs");
    assert_eq!(fs::read_to_string(patched).unwrap(), "new\n");
}

#[test]
fn libhermit_is_built_once_for_the_same_inputs_and_anew_for_others() {
    let machine = machine();
    let first = libhermit(&machine).unwrap().archive;
    assert_eq!(libhermit(&machine).unwrap().archive, first);
    assert_eq!(builds(&machine).len(), 1);
    for input in [
        "guest/libhermit/src/lib.rs",
        "formats/boot/src/lib.rs",
        "formats/erofs/src/lib.rs",
        "guest/files/src/lib.rs",
        "guest/kernel/patches/0001-fix.patch",
    ] {
        let known = fs::read_to_string(machine.path(input)).unwrap_or_default();
        machine.file(input, &format!("Why: another.\n{known}"));
        let other = libhermit(&machine).unwrap().archive;
        assert_ne!(other, first, "{input}");
        machine.file(input, &known);
        fs::remove_file(machine.path("guest/libhermit/src/lib.rs")).unwrap_or_default();
    }
    assert_eq!(libhermit(&machine).unwrap().archive, first);
    assert_eq!(builds(&machine).len(), 6);
}

#[test]
fn two_runs_at_once_build_libhermit_once() {
    let machine = machine();
    thread::scope(|scope| {
        let runs = [
            scope.spawn(|| libhermit(&machine)),
            scope.spawn(|| libhermit(&machine)),
        ];
        let [one, two] = runs.map(|run| run.join().unwrap().unwrap().archive);
        assert_eq!(one, two);
    });
    assert_eq!(builds(&machine).len(), 1);
}

#[test]
fn a_patch_that_does_not_fit_stops_the_build() {
    let machine = machine();
    machine.file("registry/hermit-kernel/src/lib.rs", "another release\n");
    let error = libhermit(&machine).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("0001-fix.patch` does not apply: `src/lib.rs`"),
        "{cause}"
    );
    assert!(builds(&machine).is_empty());
}
