//! Stories of files: those of the image are there for `std::fs`, however large, in any machine.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use launcher::{Entry, MachineType, RunRequest};

use super::lan::User;
use super::tcp::Listening;
use super::{cut_off, image, probe, request, seen};

const BIG: u64 = 1 << 30;

/// What is not zero of the large file: a piece at the start of each stretch, so that the file takes no room on the host.
const STRETCH: u64 = 1 << 20;
const PIECE: u64 = 10_000;

/// The large file's byte at an offset.
fn byte(offset: u64) -> u8 {
    let (stretch, within) = (offset / STRETCH, offset % STRETCH);
    if within < PIECE {
        (stretch * 31 + within * 7 + within / 256) as u8 | 1
    } else {
        0
    }
}

fn range(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length).map(byte).collect()
}

/// The probe's image with files; composed once.
fn with_files() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let package = tempfile::tempdir().unwrap();
        let deep = package.path().join("srv/deep");
        fs::create_dir_all(&deep).unwrap();
        let srv = package.path().join("srv");
        fs::write(srv.join("hello.txt"), "hello, file\n").unwrap();
        fs::write(srv.join("empty"), "").unwrap();
        for at in 0..299 {
            fs::write(deep.join(at.to_string()), at.to_string().repeat(500)).unwrap();
        }
        symlink("../hello.txt", deep.join("link")).unwrap();
        let big = File::create(srv.join("big")).unwrap();
        big.set_len(BIG).unwrap();
        for start in (0..BIG).step_by(STRETCH as usize) {
            big.write_all_at(&range(start, PIECE), start).unwrap();
        }
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("with-files");
        let image = probe::compose_probe_with(package.path(), "[{ source: srv, destination: /srv }]", &out)
            .unwrap_or_else(|error| panic!("cannot compose the probe: {error:?}"));
        // Its zeros need no room on the host; where there is no such tool, they have it.
        let _ = Command::new("fallocate").arg("--dig-holes").arg(&image).status();
        image
    })
}

#[test]
#[ignore = "boots virtual machines"]
fn std_finds_the_files_of_the_image_in_any_machine() {
    let direct = |machine| RunRequest {
        machine,
        ..request(with_files(), Entry::Direct, "probe files")
    };
    let from_disk = request(with_files(), Entry::Disk, "probe files");
    for request in [
        direct(MachineType::Pc),
        direct(MachineType::Q35),
        direct(MachineType::Microvm),
        from_disk,
    ] {
        let seen = seen(&request);
        let (said, rest) = seen.console.split_once('\n').unwrap();
        assert!(
            said.starts_with("files: no volume is mounted at `/data`"),
            "{seen:?}"
        );
        assert_eq!(rest, "all is as it should be\n", "{seen:?}");
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_file_of_1_gib_is_served_by_range_in_a_small_machine() {
    for memory in ["128M", "24M"] {
        let guest = Listening::start(RunRequest {
            memory: memory.parse().unwrap(),
            ..request(with_files(), Entry::Direct, "probe serve-file /srv/big")
        });
        let mut streams = [guest.connect(), guest.connect()];
        // Places that repeat in each run; the first and the last bytes among them.
        let mut random = 1_u64;
        let mut places = vec![(0, 1), (BIG - 1, 1), (BIG - 300_000, 300_000)];
        places.extend((0..60).map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Near where a piece begins or ends, so that what is not zero is seen.
            let begin = (random >> 34) % (BIG / STRETCH - 2) * STRETCH;
            (begin + (random >> 20) % (2 * PIECE), (random >> 7) % 200_000)
        }));
        for (at, (offset, length)) in places.into_iter().enumerate() {
            let stream = &mut streams[at % 2];
            writeln!(stream, "{offset} {length}").unwrap();
            let mut answer = vec![0; length as usize];
            stream.read_exact(&mut answer).unwrap();
            assert!(
                answer == range(offset, length),
                "{memory}: {length} bytes at {offset}"
            );
        }
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_volume_and_the_image_are_read_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("beside.raw");
    File::create(&volume).unwrap().set_len(64 << 20).unwrap();
    let seen = seen(&RunRequest {
        volumes: vec![volume.to_str().unwrap().parse().unwrap()],
        ..request(
            with_files(),
            Entry::Direct,
            "probe file-speed /srv/big beside 4194304",
        )
    });
    assert_eq!(seen.exit.code(), 0, "{seen:?}");
    assert_eq!(seen.console.lines().count(), 6, "{seen:?}");
}

/// A raw volume in a folder, as `--volume` names it.
fn volume(folder: &Path, name: &str, size: u64) -> PathBuf {
    let volume = folder.join(name);
    File::create(&volume).unwrap().set_len(size).unwrap();
    volume
}

/// Runs the probe with a volume at `/data`.
fn with_data(volume: &Path, command: &str) -> RunRequest {
    RunRequest {
        volumes: vec![format!("{}:/data", volume.display()).parse().unwrap()],
        ..request(image(), Entry::Direct, command)
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn files_on_a_volume_outlive_guests_that_end_and_that_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let kept = volume(folder.path(), "kept.raw", 64 << 20);
    outlive(|end| RunRequest {
        volumes: vec![kept.to_str().unwrap().parse().unwrap()],
        ..request(image(), Entry::Direct, &format!("probe data kept {end}"))
    });
    // And where the program knows nothing of the volume.
    let other = volume(folder.path(), "other.raw", 64 << 20);
    outlive(|end| with_data(&other, &format!("probe data /data {end}")));
}

fn outlive(request: impl Fn(&str) -> RunRequest) {
    for boot in 0..4 {
        if boot % 2 == 0 {
            let seen = seen(&request("end"));
            assert_eq!(seen.console, format!("boot {boot}\n"), "{seen:?}");
            assert_eq!(seen.exit.code(), 0, "{seen:?}");
            continue;
        }
        let said = cut_off(&request("cut"), |line| line == "safe");
        assert_eq!(said[0], format!("boot {boot}"), "{said:?}");
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_stack_mounts_its_volume_and_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let stack = folder.path().join("diary/stack.yaml");
    fs::create_dir(folder.path().join("diary")).unwrap();
    let services = format!(
        "image: {}
volumes:
  kept: {{ size: 64M }}
services:
  probe: {{ command: probe data /data end, volumes: [kept:/data], restart: no }}
",
        image().display()
    );
    fs::write(&stack, services).unwrap();
    let user = User::new();
    for boot in 0..2 {
        user.does(&["up", "-d", stack.to_str().unwrap()]);
        user.does(&["wait", "diary-probe-1"]);
        let said = user.does(&["logs", "diary-probe-1"]);
        assert!(said.ends_with(&format!("boot {boot}\n")), "{said}");
        user.does(&["down", stack.to_str().unwrap()]);
    }
}

#[test]
#[ignore = "boots virtual machines"]
fn a_full_volume_is_said_loses_nothing_and_has_more_room_when_it_grew() {
    let folder = tempfile::tempdir().unwrap();
    let data = volume(folder.path(), "data.raw", 32 << 20);
    let files = |before: usize| {
        let seen = seen(&RunRequest {
            memory: "64M".parse().unwrap(),
            ..with_data(&data, "probe full")
        });
        assert_eq!(seen.exit.code(), 0, "{seen:?}");
        let (said, rest) = seen.console.split_once('\n').unwrap();
        assert_eq!(rest, "it goes on\n", "{seen:?}");
        let count = said
            .strip_prefix(&format!("{before} files were there, "))
            .unwrap();
        count.strip_suffix(" are").unwrap().parse::<usize>().unwrap()
    };
    let small = files(0);
    assert!((18..32).contains(&small), "{small} files of 1 MB on 32 MiB");
    // More than 64 MiB, and the folder has it at the next mount.
    File::options()
        .write(true)
        .open(&data)
        .unwrap()
        .set_len(128 << 20)
        .unwrap();
    let large = files(small);
    assert!((90..128).contains(&large), "{large} files of 1 MB on 128 MiB");
}

#[test]
#[ignore = "boots virtual machines"]
fn what_cannot_be_mounted_at_data_ends_the_guest_before_its_program() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |volume: &Path, suffix: &str, words: &str| {
        let before = fs::read(volume).unwrap();
        let seen = seen(&RunRequest {
            volumes: vec![format!("{}:/data{suffix}", volume.display()).parse().unwrap()],
            ..request(image(), Entry::Direct, "probe hello")
        });
        assert_eq!(seen.exit.code(), 126, "{seen:?}");
        assert!(
            seen.console.starts_with("boot: `/data`: ") && seen.console.contains(words),
            "{seen:?}"
        );
        assert_eq!(seen.console.lines().count(), 1, "{seen:?}");
        assert!(fs::read(volume).unwrap() == before, "{words}: it was written");
    };
    let foreign = volume(folder.path(), "foreign.raw", 16 << 20);
    fs::write(&foreign, vec![7; 16 << 20]).unwrap();
    refused(&foreign, "", "the volume holds no folder, or a damaged one");
    let small = volume(folder.path(), "small.raw", 1 << 20);
    refused(&small, "", "the volume is too small for a folder");
    let fresh = volume(folder.path(), "fresh.raw", 16 << 20);
    refused(&fresh, ":ro", "attached with `:ro`");
    // A folder whose volume was cut off.
    let seen = seen(&with_data(&fresh, "probe hello"));
    assert_eq!(
        (seen.exit.code(), seen.console.as_str()),
        (0, "hello\n"),
        "{seen:?}"
    );
    File::options()
        .write(true)
        .open(&fresh)
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    refused(&fresh, "", "the volume is smaller than the folder on it");
}
