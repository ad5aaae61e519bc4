//! Same inputs, same bytes: whoever composes, where, when, and in which order the files were made.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use builder::compose::{ComposeRequest, Mode, compose};
use builder::event::Silent;
use builder::image::LoaderArtifacts;
use builder::manifest::Manifest;
use builder::resolve::{Siblings, resolve};

/// Digest of the image that is made of [`write`]'s packages and a stand-in for the loader. It changes with the format
/// of images alone, and then on purpose.
const DIGEST: &str = "4ef1a4a1f0f248ed29cbb89f9b195a1bde632b702ef03a7f3f45e099a52cfd6b";

/// Where the other user's process finds the packages.
const FOLDER: &str = "HERMITAGE_TEST_FOLDER";

/// Writes two packages; what is given must not matter.
fn write(folder: &Path, reversed: bool, umask: u32, age: Duration) {
    let mut files: Vec<(String, Vec<u8>)> = (0..40_u32)
        .map(|n| {
            (
                format!("app/site/{}/{n}.html", n % 5),
                vec![n as u8; (n * n * 97) as usize],
            )
        })
        .collect();
    files.extend([
        ("app/package.yaml".into(), APP.into()),
        (
            "lib/meta/package.yaml".into(),
            "name: lib\ntitle: t\nauthor: a\nversion: 1.2\n".into(),
        ),
        (
            "lib/meta/run.yaml".into(),
            "config_set: { z: { bootcmd: run }, a: { bootcmd: run -a } }\n".into(),
        ),
        ("lib/bin/run".into(), b"#!run".to_vec()),
        ("lib/etc/skipped.log".into(), b"log".to_vec()),
        ("lib/.capstanignore".into(), "*.log\n".into()),
    ]);
    if reversed {
        files.reverse();
    }
    for (name, content) in files {
        let path = folder.join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let mode = if name.ends_with("/run") { 0o777 } else { 0o666 };
        fs::set_permissions(&path, Permissions::from_mode(mode & !umask)).unwrap();
        let file = File::options().read(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    symlink("0/0.html", folder.join("app/site/index.html")).unwrap();
}

const APP: &str = "
name: app
title: An application
author: us
require: [lib@^1]
files: [{ source: site, destination: /srv/www }, { source: 'site/*/1*.html', destination: /ones, mode: 0600 }]
env: { B: 2, A: 1 }
config_set: { serve: { base: 'lib:a' }, all: { bootcmd: run, env: { Z: 26, C: 3 } } }
config_set_default: serve
";

/// Composes `app`; the image, and the digest that was told.
fn composed(folder: &Path) -> (PathBuf, String) {
    let manifest = Manifest::read(&folder.join("app/package.yaml")).unwrap();
    let siblings = Siblings::of(&manifest.folder);
    let request = ComposeRequest {
        resolution: &resolve(manifest, &[&siblings]).unwrap(),
        out_dir: &folder.join("images"),
        loader: &LoaderArtifacts {
            elf: vec![0xee; 20_001],
            boot_code: [0x90; 440],
        },
        binaries: &BTreeMap::new(),
        mode: Mode::Fresh,
    };
    let report = compose(&request, &Silent).unwrap();
    (report.path, report.digest)
}

#[test]
fn folder_umask_times_and_order_do_not_reach_the_image_whose_digest_is_pinned() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let other = &two.path().join("another folder/deeper");
    write(one.path(), false, 0o022, Duration::ZERO);
    write(other, true, 0o077, Duration::from_secs(86_400 * 400));
    let ((first, digest), (second, other_digest)) = (composed(one.path()), composed(other));
    assert!(fs::read(first).unwrap() == fs::read(second).unwrap());
    assert_eq!(digest, other_digest);
    assert_eq!(
        digest, DIGEST,
        "the format of images changed, or an image depends on where it is made"
    );
}

#[test]
fn the_user_does_not_reach_the_image() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), false, 0o022, Duration::ZERO);
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can become another user: nothing was compared");
        return;
    }
    // `nobody`, whose files they are then.
    let (user, group) = (65534, 65534);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let mut left = vec![folder.path().to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() && !path.is_symlink() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        std::os::unix::fs::lchown(&path, Some(user), Some(group)).unwrap();
    }
    chown(folder.path(), Some(user), Some(group)).unwrap();
    // The test's program may lie where the other user cannot reach it.
    let program = folder.path().join("test");
    fs::copy("/proc/self/exe", &program).unwrap();
    let output = Command::new(&program)
        .args([
            "--exact",
            "composes_in_the_process_of_another_user",
            "--ignored",
            "--nocapture",
        ])
        .current_dir("/")
        .env(FOLDER, folder.path())
        .uid(user)
        .gid(group)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains(&format!("digest {DIGEST}")), "{text}");
}

#[test]
#[ignore = "is started by `the_user_does_not_reach_the_image`"]
fn composes_in_the_process_of_another_user() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    println!("digest {}", composed(Path::new(&folder)).1);
}
