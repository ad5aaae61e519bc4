//! Composition that is stopped: by a device that fails at each of its operations in turn, by a process that dies, by
//! another one that composes the same image.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hermitage_erofs::writer::ItemKind;

use super::*;
use crate::event::Silent;
use crate::folder::{self, Found};
use crate::manifest::{BootSet, Manifest};
use crate::tree::Stat;

/// A device that fails from one of its reads, writes and barriers on.
#[derive(Debug)]
struct Failing {
    device: Qcow2,
    left: Arc<AtomicUsize>,
}

impl Failing {
    fn step(&self) -> io::Result<()> {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

impl BlockDevice for Failing {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.step()?;
        self.device.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        self.device.write_at(offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.step()?;
        self.device.flush()
    }
}

/// A package of one service and a folder of files.
struct Package {
    folder: tempfile::TempDir,
    manifest: Manifest,
    loader: LoaderArtifacts,
    binaries: BTreeMap<String, PathBuf>,
}

impl Package {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("files")).unwrap();
        for n in 0..300 {
            fs::write(path.join(format!("files/{n}")), vec![n as u8; n * 60]).unwrap();
        }
        fs::write(path.join("kv"), vec![1; 3_000_000]).unwrap();
        let text =
            "{name: kv, title: t, author: a, services: [kv], files: [{source: files, destination: /files}]}";
        let manifest = Manifest::parse(&path.join("package.yaml"), text.to_owned()).unwrap();
        let binaries = [("kv".into(), path.join("kv"))].into();
        let loader = LoaderArtifacts {
            elf: vec![2; 10_000],
            boot_code: [3; 440],
        };
        Self {
            folder,
            manifest,
            loader,
            binaries,
        }
    }

    fn compose(&self, operations: usize) -> (Result<ComposeReport, ComposeError>, usize) {
        self.compose_as(Mode::Fresh, operations)
    }

    fn compose_as(&self, mode: Mode, operations: usize) -> (Result<ComposeReport, ComposeError>, usize) {
        let out_dir = &self.out_dir();
        let (loader, binaries) = (&self.loader, &self.binaries);
        let request = ComposeRequest {
            resolution: &self.resolution(),
            out_dir,
            loader,
            binaries,
            mode,
        };
        let left = Arc::new(AtomicUsize::new(operations));
        let result = compose_on(&request, &Silent, |device| Failing {
            device,
            left: left.clone(),
        });
        (result, operations - left.load(Ordering::Relaxed))
    }

    fn resolution(&self) -> Resolution {
        Resolution::alone(self.manifest.clone()).unwrap()
    }

    fn out_dir(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    fn image(&self) -> PathBuf {
        self.out_dir().join("kv/kv.qcow2")
    }

    /// Names of all that lies beside the image.
    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.out_dir().join("kv")).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_failure_of_any_operation_leaves_the_old_image_and_no_temporary_file() {
    let package = Package::new();
    let (report, operations) = package.compose(usize::MAX);
    let old = (report.unwrap().digest, fs::read(package.image()).unwrap());
    assert!(
        operations > 15,
        "only {operations} operations: the test proves little"
    );

    fs::write(package.folder.path().join("kv"), vec![9; 3_000_001]).unwrap();
    for stop in 0..operations {
        let (result, _) = package.compose(stop);
        let error = result.expect_err("the new image has as many operations as the old one");
        let text = error.to_string();
        assert!(
            text.starts_with("cannot compose `") && text.ends_with("kv.qcow2`"),
            "{text}"
        );
        assert!(
            fs::read(package.image()).unwrap() == old.1,
            "after {stop} operations"
        );
        assert_eq!(
            package.leftovers(),
            ["kv.qcow2", "kv.qcow2.index", "kv.qcow2.lock"],
            "after {stop} operations"
        );
    }
    assert_ne!(package.compose(operations).0.unwrap().digest, old.0);
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let package = Package::new();
    fs::create_dir_all(package.out_dir().join("kv")).unwrap();
    fs::write(package.out_dir().join("kv/kv.qcow2.partial"), "half an image").unwrap();
    package.compose(usize::MAX).0.unwrap();
    assert_eq!(
        package.leftovers(),
        ["kv.qcow2", "kv.qcow2.index", "kv.qcow2.lock"]
    );
}

#[test]
fn a_source_that_vanishes_or_is_no_file_is_named() {
    let mut package = Package::new();
    package.manifest.files[0].source = "nothing".into();
    let error = package.compose(usize::MAX).0.unwrap_err().to_string();
    assert!(
        error.starts_with("`nothing` is not in the package's folder\n"),
        "{error}"
    );
    let pipe = package.folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&pipe).unwrap();
    package.manifest.files[0].source = "socket".into();
    let error = package.compose(usize::MAX).0.unwrap_err().to_string();
    assert!(error.ends_with("is a device, a pipe or a socket"), "{error}");
    package.manifest.files.clear();
    package.binaries.clear();
    assert_eq!(
        package.compose(usize::MAX).0.unwrap_err().to_string(),
        "no program for the role `kv`"
    );
}

#[test]
fn two_runs_at_once_take_turns() {
    let package = Package::new();
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let digest = package.compose(usize::MAX).0.unwrap().digest;
                reports.lock().unwrap().push(digest);
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    assert!(reports.len() == 4 && reports.iter().all(|digest| *digest == reports[0]));
    assert_eq!(
        package.leftovers(),
        ["kv.qcow2", "kv.qcow2.index", "kv.qcow2.lock"]
    );
}

#[test]
fn a_disk_that_the_manifest_makes_too_small_is_refused() {
    let mut package = Package::new();
    package.manifest.size = Some(2 << 20);
    let error = package.compose(usize::MAX).0.unwrap_err();
    let ComposeError::Image {
        source: ImageError::DiskSize { needed, size },
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(size, 2 << 20);
    package.manifest.size = Some(needed);
    package.compose(usize::MAX).0.unwrap();
}

impl Package {
    fn update(&self) -> ComposeReport {
        let mode = Mode::Update { checksum: false };
        self.compose_as(mode, usize::MAX).0.unwrap()
    }

    /// How many paths an update changed, added and removed.
    fn counts(&self) -> (usize, usize, usize) {
        let updated = self.update().updated.expect("the image is changed in place");
        (updated.changed, updated.added, updated.removed)
    }

    /// The tree in the image, as text.
    fn tree(&self) -> String {
        let image = hermitage_disk::open_image(&self.image()).unwrap();
        hermitage_erofs::debug::dump(&image.root().unwrap()).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    /// What the host says of a file.
    fn stat(&self, name: &str) -> Stat {
        match folder::look(&self.file(name)).unwrap() {
            Found::File { stat, .. } => stat,
            found => panic!("{found:?}"),
        }
    }

    /// Makes changes of every kind: 4 changed, 2 added, 1 removed.
    fn change(&self) {
        fs::write(self.file("100"), "other").unwrap();
        fs::write(self.file("101"), vec![7; 200_000]).unwrap();
        fs::set_permissions(self.file("102"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(self.file("link")).unwrap();
        std::os::unix::fs::symlink("there", self.file("link")).unwrap();
        fs::create_dir(self.file("new")).unwrap();
        fs::write(self.file("new/file"), vec![8; 50_000]).unwrap();
        fs::remove_file(self.file("103")).unwrap();
    }

    /// A package with a symbolic link, composed.
    fn composed() -> Self {
        let package = Self::new();
        std::os::unix::fs::symlink("here", package.file("link")).unwrap();
        package.compose(usize::MAX).0.unwrap();
        package
    }
}

#[test]
fn an_update_gives_the_tree_and_the_digest_of_a_fresh_composition() {
    let package = Package::composed();
    package.change();
    let report = package.update();
    let updated = report.updated.unwrap();
    assert_eq!((updated.changed, updated.added, updated.removed), (4, 2, 1));
    assert!(
        (200_000..400_000).contains(&updated.written),
        "{}",
        updated.written
    );
    let tree = package.tree();
    let fresh = package.compose(usize::MAX).0.unwrap();
    assert_eq!(fresh.updated, None);
    assert_eq!(report.digest, fresh.digest);
    assert_eq!(tree, package.tree());
}

#[test]
fn nothing_to_do_writes_nothing() {
    let package = Package::composed();
    package.change();
    package.update();
    let old = (
        fs::read(package.image()).unwrap(),
        fs::metadata(package.image()).unwrap(),
    );
    let (report, operations) = package.compose_as(Mode::Update { checksum: true }, 100);
    assert_eq!(report.unwrap().updated, Some(Updated::default()));
    assert_eq!(operations, 0);
    assert!(fs::read(package.image()).unwrap() == old.0);
    assert_eq!(
        fs::metadata(package.image()).unwrap().modified().unwrap(),
        old.1.modified().unwrap()
    );
}

#[test]
fn an_index_that_is_missing_stale_or_damaged_is_rebuilt_from_the_image() {
    let package = Package::composed();
    let index = package.image().with_extension("qcow2.index");
    let stale = fs::read(&index).unwrap();
    fs::write(package.file("1"), "one").unwrap();
    assert_eq!(package.counts(), (1, 0, 0));
    fs::write(&index, &stale).unwrap();
    fs::write(package.file("2"), "two").unwrap();
    assert_eq!(package.counts(), (1, 0, 0), "a stale index");
    let mut damaged = fs::read(&index).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&index, &damaged).unwrap();
    fs::write(package.file("3"), "three").unwrap();
    assert_eq!(package.counts(), (1, 0, 0), "a damaged index");
    fs::remove_file(&index).unwrap();
    assert_eq!(package.counts(), (0, 0, 0), "no index");
    assert!(index.exists());
    let digest = package.update().digest;
    assert_eq!(digest, package.compose(usize::MAX).0.unwrap().digest);
}

#[test]
fn stat_is_trusted_unless_checksums_are_asked_for() {
    let package = Package::composed();
    // As if the clock had stood still while somebody wrote into the file.
    fs::write(package.file("99"), vec![1; 99 * 60]).unwrap();
    let image = hermitage_disk::open_image(&package.image()).unwrap();
    let mut index = Index::load(&package.image(), image.root().unwrap().superblock()).unwrap();
    let stat = package.stat("99");
    let files = index
        .base
        .nodes()
        .filter(|placed| matches!(placed.item.kind, ItemKind::File(_)));
    let number = files
        .map(|placed| placed.item.path.to_vec())
        .position(|path| path == b"files/99")
        .unwrap();
    index.stats[number] = Some(stat);
    let save = || {
        let mut writer = index::Writer::new(&package.image()).unwrap();
        index.base.nodes().for_each(|placed| writer.add(&placed));
        let stats = index.stats.iter().copied();
        writer.finish(&index.base.superblock, stats).unwrap();
    };
    save();
    assert_eq!(package.counts(), (0, 0, 0));
    save();
    let report = package
        .compose_as(Mode::Update { checksum: true }, usize::MAX)
        .0
        .unwrap();
    assert_eq!(report.updated.unwrap().changed, 1);
}

#[test]
fn the_stat_of_a_file_that_changed_just_now_is_not_trusted() {
    let package = Package::composed();
    let mut manifest = package.manifest.clone();
    manifest.services.clear();
    manifest.files[0].source = "files/5".into();
    let tree = gather(&[manifest], &BTreeMap::new()).unwrap();
    let changed = fs::metadata(package.file("5")).unwrap();
    let changed = std::time::UNIX_EPOCH + Duration::new(changed.ctime() as u64, changed.ctime_nsec() as u32);
    assert_eq!(
        update::trusted(&tree, changed + Duration::from_millis(20)).collect::<Vec<_>>(),
        [None]
    );
    let stat = package.stat("5");
    assert_eq!(
        update::trusted(&tree, changed + Duration::from_secs(1)).collect::<Vec<_>>(),
        [Some(stat)]
    );
}

#[test]
fn an_update_that_fails_at_any_operation_leaves_the_old_tree_and_can_be_repeated() {
    let package = Package::composed();
    let old = package.tree();
    let image = fs::read(package.image()).unwrap();
    package.change();
    let whole = {
        let (report, operations) = package.compose_as(Mode::Update { checksum: false }, 1000);
        report.unwrap();
        (package.tree(), operations)
    };
    assert!(whole.1 > 5, "only {} operations: the test proves little", whole.1);
    fs::write(package.image(), &image).unwrap();
    // The last operation is a barrier: with it alone missing, the new tree is there already.
    for stop in 0..whole.1 - 1 {
        let (result, _) = package.compose_as(Mode::Update { checksum: false }, stop);
        assert!(result.is_err());
        assert_eq!(package.tree(), old, "after {stop} operations");
    }
    assert_eq!(package.counts(), (4, 2, 1));
    assert_eq!(package.tree(), whole.0);
}

#[test]
fn what_cannot_be_changed_in_place_is_composed_afresh_and_said() {
    let mut package = Package::new();
    let notes = |package: &Package| {
        let notes = Mutex::new(Vec::new());
        let observer = |event: &Event| {
            if let Event::Note(text) = event {
                notes.lock().unwrap().push(text.clone());
            }
        };
        let request = ComposeRequest {
            resolution: &package.resolution(),
            out_dir: &package.out_dir(),
            loader: &package.loader,
            binaries: &package.binaries,
            mode: Mode::Update { checksum: false },
        };
        assert_eq!(compose(&request, &observer).unwrap().updated, None);
        notes.into_inner().unwrap().concat()
    };
    assert_eq!(notes(&package), "composing `kv` afresh: there is no image yet");
    let boot = "composing `kv` afresh: the loader or the boot configuration changed";
    package.loader.elf[9_999] = 3;
    assert_eq!(notes(&package), boot);
    package.manifest.environment.insert("PORT".into(), "9000".into());
    assert_eq!(notes(&package), boot);
    let set = BootSet {
        command: Some(vec!["kv".into()]),
        ..BootSet::default()
    };
    let sets = ["a", "b"].map(|name| (name.to_owned(), set.clone()));
    package.manifest.sets.extend(sets);
    package.manifest.default_set = Some("a".into());
    assert_eq!(notes(&package), boot);
    package.manifest.size = Some(128 << 20);
    assert_eq!(
        notes(&package),
        "composing `kv` afresh: the manifest asks for another size"
    );
    assert_eq!(package.counts(), (0, 0, 0));
    for n in 0..300 {
        fs::remove_file(package.file(&n.to_string())).unwrap();
    }
    fs::write(package.folder.path().join("kv"), vec![1; 1000]).unwrap();
    let holes = "composing `kv` afresh: the update would leave too many holes: compacted";
    assert_eq!(notes(&package), holes);
    fs::write(package.folder.path().join("kv"), vec![1; 120 << 20]).unwrap();
    assert_eq!(package.counts(), (1, 0, 0));
    fs::write(package.folder.path().join("kv"), vec![2; 120 << 20]).unwrap();
    assert_eq!(
        notes(&package),
        "composing `kv` afresh: the update has no room in the image"
    );
    fs::write(package.image(), "no image").unwrap();
    assert_eq!(notes(&package), "composing `kv` afresh: the old image is damaged");
}
