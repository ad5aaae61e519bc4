use super::*;

use hermitage_boot::BootConfig;

use crate::exit::GuestExit;
use crate::time::Timestamp;

/// An image that says nothing of what it holds but its identity.
fn image(folder: &Path, name: &str, identity: u8) -> PathBuf {
    image_with(folder, name, identity, &BootConfig::default())
}

/// The same, with a default of its own.
fn image_with(folder: &Path, name: &str, identity: u8, config: &BootConfig) -> PathBuf {
    use hermitage_disk::{BlockDevice as _, layout, qcow2::Qcow2, table};
    let path = folder.join(name);
    let _older = fs::remove_file(&path);
    let disk = Qcow2::create(&path, 2 << 20).unwrap();
    table::write(&disk, &[0; table::BOOT_CODE], [identity; 16]).unwrap();
    let start = layout::BOOT_CONFIG.first * layout::SECTOR;
    disk.write_at(start, &config.encode().unwrap()).unwrap();
    disk.flush().unwrap();
    path
}

/// A root with an image in it.
struct Root {
    folder: tempfile::TempDir,
    image: PathBuf,
}

impl Root {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), "image.qcow2", 7);
        Self { folder, image }
    }

    fn instances(&self) -> Instances {
        Instances::below(self.folder.path()).unwrap()
    }

    fn launch(&self, name: &str) -> Launch {
        let request = RunRequest {
            command: Some("kv".to_owned()),
            entry: crate::Entry::Disk,
            accelerator: crate::AcceleratorChoice::Tcg,
            ..RunRequest::new(&self.image, name.parse().unwrap())
        };
        crate::plan(&request).unwrap()
    }

    fn create(&self, name: &str, remove: bool) -> Result<Instance, Error> {
        let options = Options {
            remove,
            ..Options::default()
        };
        self.instances().create(&self.launch(name), options)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("instances")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn name(text: &str) -> InstanceName {
    text.parse().unwrap()
}

#[test]
fn an_instance_is_its_owners_until_that_one_lets_go() {
    let root = Root::new();
    let first = root.create("kv", false).unwrap();
    let error = root.create("kv", false).unwrap_err();
    assert!(matches!(error, Error::Running { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("`kv`"), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "{said}");
    let refused = [
        root.instances().open(&name("kv")).map(drop),
        root.instances().discard(&name("kv")),
        root.instances().rename(&name("kv"), &name("db")),
    ];
    assert!(
        refused
            .iter()
            .all(|done| matches!(done, Err(Error::Running { .. }))),
        "{refused:?}"
    );
    drop(first);
    let error = root.create("kv", false).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let again = root.instances().open(&name("kv")).unwrap();
    assert_eq!(again.state().phase, Phase::Created);
    again.remove().unwrap();
    assert!(root.files().is_empty());
}

#[test]
fn what_a_killed_owner_was_to_remove_is_no_obstacle() {
    let root = Root::new();
    drop(root.create("kv", true).unwrap());
    assert!(root.create("kv", false).is_ok());
    // A creation that was killed, in a process that is no more.
    let left = root.folder.path().join("instances/.unfinished-4194305-0");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("lock"), "").unwrap();
    let _other = root.create("db", false).unwrap();
    assert_eq!(root.files(), ["db", "kv"]);
}

#[test]
fn names_are_numbered_where_they_are_taken() {
    let root = Root::new();
    let instances = root.instances();
    assert_eq!(instances.free_name(&name("kv")).as_str(), "kv");
    let _kept: Vec<_> = ["kv", "kv-3"]
        .map(|name| root.create(name, false).unwrap())
        .into();
    assert_eq!(instances.free_name(&name("kv")).as_str(), "kv-2");
    let long = name(&"x".repeat(InstanceName::MAX_LENGTH));
    let _long = root.create(long.as_str(), false).unwrap();
    let numbered = instances.free_name(&long);
    assert_eq!(numbered.as_str().len(), InstanceName::MAX_LENGTH);
    assert!(numbered.as_str().ends_with("x-2"), "{numbered}");
    assert_eq!(numbered.as_str().parse(), Ok(numbered.clone()));
}

#[test]
fn a_renamed_instance_keeps_what_its_name_gave_it() {
    let root = Root::new();
    let mac = root.create("kv", false).unwrap().record().request.mac;
    drop(root.create("db", false).unwrap());
    let instances = root.instances();
    let taken = instances.rename(&name("kv"), &name("db")).unwrap_err();
    assert!(matches!(taken, Error::Exists { .. }), "{taken}");
    instances.rename(&name("kv"), &name("old")).unwrap();
    let seen = instances.see(&name("old")).unwrap();
    assert_eq!(seen.record.request.name, name("old"));
    assert!(mac.is_some() && seen.record.request.mac == mac);
    let gone = instances.see(&name("kv")).unwrap_err();
    assert!(matches!(gone, Error::NoInstance { .. }), "{gone}");
}

#[test]
fn the_truth_is_seen_through_what_a_killed_supervisor_left() {
    let root = Root::new();
    let mut instance = root.create("kv", false).unwrap();
    let phase = || root.instances().see(&name("kv")).unwrap().state.phase;
    let spec = root.launch("spec").spec().clone();
    let write = |instance: &mut Instance, phase, supervisor: Option<ProcessId>| {
        let change = |state: &mut State| {
            state.start(None, &spec);
            state.phase = phase;
            state.supervisor = supervisor;
        };
        instance.change(change).unwrap();
    };
    let own = ProcessId::own().unwrap();
    let dead = {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        child.wait().unwrap();
        id
    };
    for (written, supervisor, seen) in [
        (Phase::Running, Some(own.clone()), Phase::Running),
        (Phase::Running, Some(dead.clone()), Phase::Exited),
        (Phase::Paused, Some(dead.clone()), Phase::Exited),
        (Phase::Restarting, Some(dead), Phase::Exited),
        (Phase::Running, None, Phase::Exited),
    ] {
        write(&mut instance, written, supervisor);
        assert_eq!(phase(), seen, "{written:?}");
    }
    let state = root.instances().see(&name("kv")).unwrap().state;
    let end = state.end.unwrap();
    assert_eq!((end.code, end.reason.as_str()), (125, "lost"));
    assert_eq!(state.ended, None);
    // A word that was written is not judged again.
    instance
        .change(|state| state.finish(Phase::Exited, &GuestExit::Status(3)))
        .unwrap();
    drop(instance);
    let state = root.instances().see(&name("kv")).unwrap().state;
    assert_eq!(state.end.unwrap().code, 3);
    assert!(state.ended.is_some_and(|ended| ended <= Timestamp::now()));
}

#[test]
fn damaged_files_are_named_and_the_instance_can_be_removed() {
    let root = Root::new();
    let folder = root.create("kv", false).unwrap().folder().to_owned();
    let instances = root.instances();
    let whole = fs::read_to_string(folder.join("instance.json")).unwrap();
    for text in ["", "{", "[]", &whole.replace("\"format\": 1", "\"format\": 99")] {
        fs::write(folder.join("instance.json"), text).unwrap();
        let error = instances.see(&name("kv")).unwrap_err();
        assert!(error.to_string().contains("instance.json"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("rm")), "{error}");
    }
    assert_eq!(instances.names().unwrap(), [name("kv")]);
    instances.discard(&name("kv")).unwrap();
    assert!(root.files().is_empty());
}

#[test]
fn an_image_that_changed_or_went_is_refused() {
    let root = Root::new();
    let instance = root.create("kv", false).unwrap();
    instance.plan().unwrap();
    // A copy holds the same, whatever its file is.
    let copy = fs::read(&root.image).unwrap();
    fs::remove_file(&root.image).unwrap();
    let error = instance.plan().unwrap_err();
    assert!(matches!(error, Error::ImageGone { .. }), "{error}");
    fs::write(&root.image, copy).unwrap();
    instance.plan().unwrap();
    fs::remove_file(&root.image).unwrap();
    image(root.folder.path(), "image.qcow2", 8);
    let error = instance.plan().unwrap_err();
    assert!(matches!(error, Error::ImageChanged { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("rm kv")), "{error}");
}

#[test]
fn that_an_image_changed_comes_before_what_it_lacks() {
    let root = Root::new();
    let config = BootConfig {
        arguments: vec![b"kv".to_vec()],
        ..BootConfig::default()
    };
    image_with(root.folder.path(), "image.qcow2", 7, &config);
    let request = RunRequest {
        command: None,
        ..root.launch("kv").request().clone()
    };
    let launch = crate::plan(&request).unwrap();
    let instance = root.instances().create(&launch, Options::default()).unwrap();
    // It has no default command.
    image(root.folder.path(), "image.qcow2", 8);
    let error = instance.plan().unwrap_err();
    assert!(matches!(error, Error::ImageChanged { .. }), "{error}");
}

#[test]
fn names_the_instances_on_an_image_and_no_other() {
    let root = Root::new();
    let other = image(root.folder.path(), "other.qcow2", 8);
    let spec = root.launch("spec").spec().clone();
    let start = |name: &str| {
        let mut instance = root.create(name, false).unwrap();
        hermitage_disk::create_overlay(&root.image, &instance.folder().join(file::DISK)).unwrap();
        let own = ProcessId::own().ok();
        let change = |state: &mut State| {
            state.start(None, &spec);
            state.supervisor = own;
        };
        instance.change(change).unwrap();
        instance
    };
    let _running = [start("kv"), start("a")];
    let mut ended = start("ended");
    ended
        .change(|state| state.finish(Phase::Exited, &GuestExit::Stopped))
        .unwrap();
    let on = |image: &Path| instances_on(root.folder.path(), image);
    let users = Users {
        running: vec!["a".to_owned(), "kv".to_owned()],
        stopped: vec!["ended".to_owned()],
    };
    assert_eq!(on(&root.image), users);
    assert_eq!(on(&other), Users::default());
    let nothing = instances_on(&root.folder.path().join("nothing"), &root.image);
    assert_eq!(nothing, Users::default());
}

#[test]
fn many_creations_of_one_name_make_one_instance() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let root = Root::new();
    let (inside, runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let run = || {
        while runs.load(SeqCst) < 100 {
            let Ok(instance) = root.create("kv", false) else {
                continue;
            };
            assert_eq!(inside.fetch_add(1, SeqCst), 0);
            std::thread::yield_now();
            assert!(instance.folder().join("lock").exists());
            inside.fetch_sub(1, SeqCst);
            runs.fetch_add(1, SeqCst);
            instance.remove().unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(run);
        }
    });
    assert!(root.files().is_empty());
}
