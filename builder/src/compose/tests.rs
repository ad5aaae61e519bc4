//! Composition that is stopped: by a device that fails at each of its operations in turn, by a process that dies, by
//! another one that composes the same image.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::event::Silent;
use crate::manifest::{PackageName, Service};

/// A device that fails from one of its writes and barriers on.
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
        let service = Service {
            crate_dir: "kv".into(),
            bin: "kv".into(),
            features: vec![],
            role: "kv".into(),
        };
        let files = FileRule {
            source: "files".into(),
            destination: ImagePath::new(b"/files").unwrap(),
            mode: None,
        };
        let manifest = Manifest {
            folder: path.to_owned(),
            name: PackageName::new("kv").unwrap(),
            title: "t".into(),
            author: "a".into(),
            version: None,
            description: None,
            services: vec![service],
            files: vec![files],
            default: None,
            size: None,
        };
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
        let out_dir = &self.out_dir();
        let (manifest, loader, binaries) = (&self.manifest, &self.loader, &self.binaries);
        let request = ComposeRequest {
            manifest,
            out_dir,
            loader,
            binaries,
        };
        let left = Arc::new(AtomicUsize::new(operations));
        let result = compose_on(&request, &Silent, |device| Failing {
            device,
            left: left.clone(),
        });
        (result, operations - left.load(Ordering::Relaxed))
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
fn a_failure_at_any_write_leaves_the_old_image_and_no_temporary_file() {
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
            ["kv.qcow2", "kv.qcow2.lock"],
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
    assert_eq!(package.leftovers(), ["kv.qcow2", "kv.qcow2.lock"]);
}

#[test]
fn a_source_that_vanishes_or_is_no_file_is_named() {
    let mut package = Package::new();
    package.manifest.files[0].source = "nothing".into();
    let error = package.compose(usize::MAX).0.unwrap_err().to_string();
    assert!(
        error.ends_with("nothing`, a source of files entry `nothing`"),
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
    assert_eq!(package.leftovers(), ["kv.qcow2", "kv.qcow2.lock"]);
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
