//! The guest toolchain is found or provided, and never half of it.

use std::{fs, thread};

use crate::machine::{Machine, rustc, write_toolchain};
use builder::event::{Event, Unit};
use builder::toolchain::{Defect, Origin, Status, ToolchainError, probe};

#[test]
fn lets_rustup_install_by_this_very_command_and_only_once() {
    let machine = Machine::with_rustup("1.85.0");
    let toolchain = machine.provide().unwrap();
    assert_eq!(toolchain.origin(), Origin::Rustup);
    assert_eq!(toolchain.sysroot(), machine.path("rustup/installed"));
    assert_eq!(
        machine.log(),
        "rustup which --toolchain 1.85.0 rustc\n\
         rustup toolchain install 1.85.0 --profile minimal --component rust-src,llvm-tools --no-self-update\n\
         rustup which --toolchain 1.85.0 rustc\n"
    );
    machine.provide().unwrap();
    assert_eq!(machine.log().matches("install").count(), 1);
}

#[test]
fn never_lets_rustup_install_where_the_user_forbids_it() {
    let mut machine = Machine::with_rustup("1.85.0");
    machine.environment.rustup_may_install = false;
    let error = machine.provide().unwrap_err();
    assert!(!machine.log().contains("install"), "{}", machine.log());
    assert_eq!(
        error.to_string(),
        "cannot provide the guest toolchain (Rust 1.85.0); rustup: it may not install, by `RUSTUP_AUTO_INSTALL=0`; \
         packages: no `apt-get` on this machine"
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("`rustup toolchain install 1.85.0 --profile minimal --component rust-src,llvm-tools`"),
        "{hint}"
    );
}

#[test]
fn uses_what_rustup_has_even_where_it_may_not_install() {
    let mut machine = Machine::with_rustup("1.85.0");
    machine.environment.rustup_may_install = false;
    machine.environment.offline = true;
    write_toolchain(&machine.path("rustup/installed"), "1.85.0");
    assert_eq!(machine.provide().unwrap().origin(), Origin::Rustup);
}

#[test]
fn has_rustup_complete_a_toolchain_that_lacks_components() {
    let machine = Machine::with_rustup("1.85.0");
    write_toolchain(&machine.path("rustup/installed"), "1.85.0");
    let lacking = machine.path("rustup/installed/lib/rustlib/src/rust/library/std/Cargo.toml");
    fs::remove_file(&lacking).unwrap();
    machine.program(
        "rustup",
        r#"case "$1" in which) echo @/rustup/installed/bin/rustc;; *) /bin/cp -R @/delivery/toolchain/. @/rustup/installed;; esac"#,
    );
    machine.provide().unwrap();
    assert!(lacking.exists());
}

#[test]
fn refuses_another_version_wherever_it_comes_from() {
    let machine = Machine::with_rustup("1.86.0");
    let error = machine.provide().unwrap_err().to_string();
    assert!(
        error.contains("its compiler is Rust 1.86.0, needed is 1.85.0"),
        "{error}"
    );

    let machine = Machine::with_apt();
    machine.deliver("rustc-web", &[("usr/bin/rustc", &rustc("1.85.1"))]);
    let error = machine.provide().unwrap_err();
    assert!(
        matches!(&error, ToolchainError::Unfit { defect: Defect::Version(found), .. } if found == "1.85.1")
    );
    assert!(!machine.unpacked().exists());

    let mut machine = Machine::bare();
    write_toolchain(&machine.path("mine"), "1.84.0");
    machine.environment.guest_toolchain = Some(machine.path("mine"));
    let error = machine.provide().unwrap_err();
    assert!(
        matches!(&error, ToolchainError::Named { defect: Defect::Version(found), .. } if found == "1.84.0")
    );
}

#[test]
fn looks_at_nothing_else_when_the_user_names_one() {
    let mut machine = Machine::with_rustup("1.85.0");
    write_toolchain(&machine.path("mine"), "1.85.0");
    machine.environment.guest_toolchain = Some(machine.path("mine"));
    assert_eq!(machine.provide().unwrap().origin(), Origin::Named);
    assert_eq!(machine.log(), "");
}

#[test]
fn unpacks_the_exact_version_and_only_what_is_needed() {
    let machine = Machine::with_apt();
    let toolchain = machine.provide().unwrap();
    assert_eq!(toolchain.origin(), Origin::Packages);
    assert!(machine.log().contains(
        "apt-get download rustc-web=1.85.0+dfsg3-1 libstd-rust-web-1.85=1.85.0+dfsg3-1 \
         libstd-rust-web-dev=1.85.0+dfsg3-1 rust-web-src=1.85.0+dfsg3-1 libllvm19 llvm-19 lld-19 libedit2\n"
    ));
    assert!(toolchain.library_source().join("std/Cargo.toml").exists());
    assert!(toolchain.tool("rust-lld").exists());
    let libraries = machine.unpacked().join("usr/lib/x86_64-linux-gnu");
    assert!(
        toolchain
            .library_path()
            .to_str()
            .unwrap()
            .contains(libraries.to_str().unwrap())
    );
    for unneeded in [
        "usr/share",
        "usr/src/rustc-1.85.0/src",
        "usr/lib/llvm-19/bin/llvm-exegesis",
    ] {
        assert!(!machine.unpacked().join(unneeded).exists(), "{unneeded}");
    }
    assert!(!machine.path("cache/toolchain/downloads").exists());
}

#[test]
fn takes_the_packages_of_ubuntu_too() {
    let machine = Machine::with_apt_of_ubuntu();
    let toolchain = machine.provide().unwrap();
    assert_eq!(toolchain.sysroot(), machine.unpacked().join("usr/lib/rust-1.85"));
    assert!(toolchain.library_source().join("std/Cargo.toml").exists());
    assert!(toolchain.tool("llvm-objcopy").exists());
    let libraries = toolchain.library_path().into_string().unwrap();
    assert!(libraries.contains("rust-1.85/lib:"), "{libraries}");
    assert!(libraries.ends_with("x86_64-linux-gnu"), "{libraries}");
}

#[test]
fn downloads_nothing_the_second_time() {
    let machine = Machine::with_apt();
    machine.provide().unwrap();
    fs::remove_file(machine.path("log")).unwrap();
    machine.provide().unwrap();
    assert_eq!(machine.log(), "");
}

#[test]
fn two_runs_at_once_download_once() {
    let machine = Machine::with_apt();
    thread::scope(|scope| {
        let runs = [
            scope.spawn(|| machine.provide()),
            scope.spawn(|| machine.provide()),
        ];
        for run in runs {
            run.join().unwrap().unwrap();
        }
    });
    assert_eq!(machine.log().matches("fetched rustc-web").count(), 1);
}

#[test]
fn an_interrupted_download_is_resumed_and_leaves_no_toolchain() {
    let machine = Machine::with_apt();
    fs::rename(machine.path("delivery/lld-19_1_amd64.deb"), machine.path("kept")).unwrap();
    let error = machine.provide().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot download packages of the guest toolchain"
    );
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("E: Failed to fetch lld-19_1_amd64.deb"), "{cause}");
    assert!(!machine.unpacked().exists());

    fs::rename(machine.path("kept"), machine.path("delivery/lld-19_1_amd64.deb")).unwrap();
    machine.provide().unwrap();
    assert_eq!(machine.log().matches("fetched rustc-web").count(), 1);
}

#[test]
fn an_interrupted_unpacking_leaves_no_toolchain() {
    let machine = Machine::with_apt();
    // What a run leaves that was killed while it unpacked.
    let partial = machine.path("cache/toolchain/1.85.0-packages.partial");
    fs::create_dir_all(partial.join("usr/bin")).unwrap();
    fs::write(partial.join("usr/bin/stale"), "").unwrap();
    // Half of a package, and a tool that fails behind it.
    machine.program(
        "dpkg-deb",
        r#"case "$2" in *lld*) /usr/bin/head -c 700 "$2"; exit 2;; *) /bin/cat "$2";; esac"#,
    );
    machine.provide().unwrap_err();
    assert!(!machine.unpacked().exists());
    assert!(!partial.exists());

    machine.program("dpkg-deb", r#"/bin/cat "$2""#);
    machine.provide().unwrap();
    assert!(!machine.unpacked().join("usr/bin/stale").exists());
}

#[test]
fn a_damaged_toolchain_in_the_cache_is_replaced() {
    let machine = Machine::with_apt();
    let rustc = machine.provide().unwrap().rustc();
    fs::remove_file(&rustc).unwrap();
    machine.provide().unwrap();
    assert!(rustc.exists());
}

#[test]
fn a_machine_without_package_lists_fetches_them_first() {
    let machine = Machine::with_apt();
    fs::rename(machine.path("lists"), machine.path("later")).unwrap();
    machine.provide().unwrap();
    assert_eq!(machine.log().matches(" update\n").count(), 1, "{}", machine.log());
}

#[test]
fn says_so_when_the_distribution_has_no_such_version() {
    let machine = Machine::with_apt();
    fs::remove_file(machine.path("lists")).unwrap();
    fs::write(
        machine.path("later"),
        " rustc | 1.63.0+dfsg1-2 | http://mirror/debian main amd64 Packages\n",
    )
    .unwrap();
    let error = machine.provide().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot provide the guest toolchain (Rust 1.85.0); rustup: it is not on this machine; \
         packages: apt knows no version 1.85.0 of `rustc`"
    );
    assert!(error.hint().unwrap().contains("rustup toolchain install 1.85.0"));
}

#[test]
fn offline_fetches_nothing_and_says_so() {
    let mut machine = Machine::with_apt();
    machine.environment.offline = true;
    assert!(matches!(machine.provide().unwrap_err(), ToolchainError::Offline));
    assert_eq!(machine.log(), "");
}

#[test]
fn a_file_that_would_leave_the_folder_is_not_written() {
    let machine = Machine::with_apt();
    let file = fs::File::create(machine.path("delivery/lld-19_1_amd64.deb")).unwrap();
    let mut tar = tar::Builder::new(file);
    for name in [
        "usr/lib/llvm-19/bin/lld",
        "usr/lib/x86_64-linux-gnu/../../../../escaped.so",
    ] {
        let mut header = tar::Header::new_gnu();
        // `set_path` would refuse the second name.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(0);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append(&header, &[][..]).unwrap();
    }
    tar.finish().unwrap();
    machine.provide().unwrap();
    assert!(!machine.path("cache/toolchain/escaped.so").exists());
    assert!(!machine.unpacked().join("escaped.so").exists());
}

#[test]
fn probing_changes_nothing() {
    let machine = Machine::with_apt();
    let status = machine.with_session(probe);
    assert!(
        matches!(
            status,
            Status::WillBeProvided {
                origin: Origin::Packages
            }
        ),
        "{status:?}"
    );
    assert!(!machine.path("cache").exists());
    assert_eq!(machine.log(), "");
    machine.provide().unwrap();
    let status = machine.with_session(probe);
    assert!(
        matches!(
            status,
            Status::Ready {
                origin: Origin::Packages,
                ..
            }
        ),
        "{status:?}"
    );
    let status = Machine::bare().with_session(probe);
    assert!(
        matches!(status, Status::Unavailable(ToolchainError::NoSource { .. })),
        "{status:?}"
    );
}

#[test]
fn tells_its_progress() {
    let machine = Machine::with_apt();
    machine.provide().unwrap();
    let events = machine.events.into_inner().unwrap();
    let unpacked = events.iter().filter_map(|event| match event {
        Event::Progress {
            unit: Unit::Packages,
            done,
            total: Some(8),
            ..
        } => Some(*done),
        _ => None,
    });
    assert_eq!(unpacked.max(), Some(8));
    assert!(matches!(events.last(), Some(Event::Finished { .. })));
}
