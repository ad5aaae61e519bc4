//! A short run of every fuzz target: the same inputs each time.

use hermitage_fuzz::target;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Memory that a process of tests may have: many times what they need, and far less than what a wrong length asks for.
const MEMORY: u64 = 4 << 30;

fn run(name: &str, mutations: u64) {
    let limit = Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    // Where the system refuses a limit, what holds without one is checked.
    let _ = setrlimit(Resource::As, limit);
    target(name).unwrap().run(mutations);
}

#[test]
fn a_file_system_of_any_bytes_is_read_or_refused() {
    run("erofs", 20_000);
}

#[test]
fn an_index_of_any_bytes_is_a_tree_or_none() {
    run("base", 50_000);
}

#[test]
fn an_image_of_any_bytes_is_opened_or_refused() {
    run("disk", 500);
}

#[test]
fn a_boot_configuration_of_any_bytes_is_read_or_refused() {
    run("boot-config", 100_000);
}

#[test]
fn a_guest_may_say_anything() {
    run("control", 100_000);
}

#[test]
fn a_manifest_of_any_bytes_is_read_or_refused_with_a_place() {
    run("manifest", 3_000);
}

#[test]
fn an_archive_of_any_bytes_stays_in_its_folder_or_is_refused() {
    run("archive", 5_000);
}

#[test]
fn a_guest_may_send_any_frame() {
    run("network", 20_000);
}
