//! Updates give the tree that a fresh file system has, and a stop at any moment leaves the old tree.

mod extracted;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;

use hermitage_erofs::debug;
use hermitage_erofs::format::SUPERBLOCK_OFFSET;
use hermitage_erofs::reader::{FileSystem, ReadAt};
use hermitage_erofs::writer::{
    self, Base, Changes, Content, Durable, Error, Item, ItemKind, Obstacle, Placed, Plan, Update, WriteAt,
    Written,
};

use extracted::{Extracted, extract};

/// Bytes of the device in these tests.
const SIZE: usize = 64 << 20;

/// Memory that may fail from one of its writes and barriers on, and remembers in which order they came.
#[derive(Clone)]
struct Disk {
    bytes: RefCell<Vec<u8>>,
    left: Cell<usize>,
    log: RefCell<Vec<Step>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Write(u64, usize),
    Barrier,
}

impl Disk {
    fn new() -> Self {
        Self {
            bytes: RefCell::new(Vec::new()),
            left: Cell::new(usize::MAX),
            log: RefCell::default(),
        }
    }

    fn step(&self, step: Step) -> io::Result<()> {
        let left = self.left.get().checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        self.left.set(left);
        self.log.borrow_mut().push(step);
        Ok(())
    }

    fn dump(&self) -> String {
        debug::dump(&FileSystem::open(self).unwrap()).unwrap()
    }

    /// Has `fsck.erofs` judge it, and give a tree back.
    fn holds(&self, tree: &Tree) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &*self.bytes.borrow()).unwrap();
        extract(file.path()).is(&tree.expected());
    }
}

impl WriteAt for Disk {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.step(Step::Write(offset, bytes.len()))?;
        let mut disk = self.bytes.borrow_mut();
        let start = offset as usize;
        let end = start + bytes.len();
        if disk.len() < end {
            disk.resize(end.next_multiple_of(4096), 0);
        }
        disk[start..end].copy_from_slice(bytes);
        Ok(())
    }
}

impl Durable for Disk {
    fn flush(&self) -> io::Result<()> {
        self.step(Step::Barrier)
    }
}

impl ReadAt for Disk {
    type Error = io::Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let disk = self.bytes.borrow();
        let bytes = disk.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Node {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
}

/// A tree in memory: what lies at each path, its permissions and time.
#[derive(Clone, Default, PartialEq, Eq)]
struct Tree(BTreeMap<String, (Node, u16, i64)>);

/// What was written, and what the next update starts from.
#[derive(Debug)]
struct Done {
    digest: blake3::Hash,
    base: Base,
}

impl Done {
    fn of(write: impl FnOnce(&mut dyn FnMut(&Placed<'_>)) -> Result<Written, Error>) -> Result<Self, Error> {
        let mut records = Vec::new();
        let Written { digest, superblock } = write(&mut |placed| placed.encode(&mut records))?;
        let base = Base::from_records(superblock, records).unwrap();
        Ok(Self { digest, base })
    }
}

impl Tree {
    fn items(&self) -> Vec<Item<'_>> {
        let item = |(path, value)| {
            let (node, permissions, mtime): &(Node, u16, i64) = value;
            Item {
                path: String::as_bytes(path),
                kind: match node {
                    Node::File(content) => ItemKind::File(content.len() as u64),
                    Node::Directory => ItemKind::Directory,
                    Node::Symlink(target) => ItemKind::Symlink(target),
                },
                permissions: *permissions,
                uid: 0,
                gid: 0,
                mtime: *mtime,
                mtime_nsec: 0,
            }
        };
        self.0.iter().map(item).collect()
    }

    fn digests(&self) -> Vec<Option<blake3::Hash>> {
        let digest = |node: &(Node, u16, i64)| match &node.0 {
            Node::File(content) => Some(blake3::hash(content)),
            _ => None,
        };
        self.0.values().map(digest).collect()
    }

    fn write(&self) -> (Disk, Done) {
        let disk = Disk::new();
        let plan = Plan::new(self.items()).unwrap();
        let done = Done::of(|placed| writer::write(&plan, "test", &disk, &Source(self), placed)).unwrap();
        (disk, done)
    }

    fn plan_update(&self, base: &Base) -> Update<'_> {
        Update::new(base, self.items(), self.digests()).unwrap()
    }

    fn update(&self, base: &Base, disk: &Disk) -> Result<Done, Error> {
        let update = self.plan_update(base);
        Done::of(|placed| update.write("test", disk, &Source(self), placed))
    }

    fn expected(&self) -> Extracted {
        let entry = |(path, (node, permissions, mtime)): (&String, &(Node, u16, i64))| {
            let mode = u32::from(*permissions);
            let (mode, content) = match node {
                Node::File(content) => (0o100_000 | mode, content.clone()),
                Node::Directory => (0o040_000 | mode, vec![]),
                // Linux knows no permissions of links.
                Node::Symlink(target) => (0o120_777, target.clone()),
            };
            (path.into(), (mode, *mtime, content))
        };
        Extracted(self.0.iter().map(entry).collect())
    }

    fn is_in(&self, disk: &Disk) {
        assert_eq!(disk.dump(), self.write().0.dump());
    }

    fn changes(&self, old: &Self) -> Changes {
        Changes {
            changed: self
                .0
                .iter()
                .filter(|(path, node)| old.0.get(*path).is_some_and(|old| old != *node))
                .count(),
            added: self.0.keys().filter(|path| !old.0.contains_key(*path)).count(),
            removed: old.0.keys().filter(|path| !self.0.contains_key(*path)).count(),
        }
    }

    /// Changes something, as `random` says.
    fn mutate(&mut self, random: &mut Random) {
        let paths: Vec<_> = self.0.keys().cloned().collect();
        let path = paths[random.below(paths.len())].clone();
        let content = random.content();
        let (node, permissions, mtime) = self.0.get_mut(&path).unwrap();
        match random.below(10) {
            0..=3 => {
                let folders: Vec<_> = self
                    .0
                    .iter()
                    .filter(|(_, node)| node.0 == Node::Directory)
                    .collect();
                let folder = folders[random.below(folders.len())].0.clone();
                let slash = if folder.is_empty() { "" } else { "/" };
                let long = if random.below(8) == 0 {
                    // The longest name, 255 bytes.
                    251
                } else {
                    random.below(40)
                };
                let path = format!("{folder}{slash}{:04}{}", random.below(10_000), "n".repeat(long));
                let node = match random.below(6) {
                    0 => Node::Directory,
                    1 => Node::Symlink(vec![b't'; random.below(4095) + 1]),
                    _ => Node::File(content),
                };
                self.0.entry(path).or_insert((node, 0o755, 7));
            }
            // All that whoever extracts them needs.
            4 => {
                let least = if *node == Node::Directory { 0o700 } else { 0o600 };
                *permissions = least | random.below(0o100) as u16;
            }
            5 => *mtime = random.below(1000) as i64 - 500,
            6 if !path.is_empty() => {
                let inside = format!("{path}/");
                self.0
                    .retain(|other, _| *other != path && !other.starts_with(&inside));
            }
            _ => match node {
                Node::File(old) => *old = content,
                Node::Symlink(target) => *target = vec![b's'; random.below(4095) + 1],
                Node::Directory => {}
            },
        }
    }
}

struct Source<'a>(&'a Tree);

impl Content for Source<'_> {
    type Reader = io::Cursor<Vec<u8>>;

    fn open(&self, item: usize) -> io::Result<Self::Reader> {
        match self.0.0.values().nth(item) {
            Some((Node::File(content), ..)) => Ok(io::Cursor::new(content.clone())),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Numbers that look random and depend on a seed.
struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % limit as u64) as usize
    }

    /// The content of a file: of critical sizes, and from few kinds, so that equal content happens.
    fn content(&mut self) -> Vec<u8> {
        let sizes = [
            0, 1, 40, 4031, 4032, 4033, 4095, 4096, 4097, 8128, 8129, 20_000, 1_050_000,
        ];
        let size = if self.below(40) == 0 { 12 } else { self.below(12) };
        let mut bytes = vec![0; sizes[size]];
        Self::new(self.below(5) as u64).0.fill(&mut bytes);
        bytes
    }
}

fn random_tree(random: &mut Random, steps: usize) -> Tree {
    let mut tree = Tree::default();
    tree.0.insert(String::new(), (Node::Directory, 0o755, 0));
    (0..steps).for_each(|_| tree.mutate(random));
    tree
}

#[test]
fn random_changes_give_the_tree_that_a_fresh_file_system_has() {
    let mut in_place = 0;
    for seed in 0..12 {
        let random = &mut Random::new(seed);
        let mut tree = random_tree(random, 300);
        let (mut disk, written) = tree.write();
        let mut base = written.base;
        for round in 0..25 {
            let old = tree.clone();
            (0..=random.below(12)).for_each(|_| tree.mutate(random));
            assert_eq!(Base::read(&FileSystem::open(&disk).unwrap()).unwrap(), base);
            let update = tree.plan_update(&base);
            assert_eq!(update.changes(), tree.changes(&old));
            if update.changes().is_empty() {
                continue;
            }
            if update.obstacle(SIZE as u64) == Some(Obstacle::Holes) {
                let (fresh, written) = tree.write();
                (disk, base) = (fresh, written.base);
                continue;
            }
            let written = tree.update(&base, &disk).unwrap();
            let fresh = tree.write();
            assert_eq!(disk.dump(), fresh.0.dump(), "seed {seed}, round {round}");
            assert_eq!(written.digest, fresh.1.digest);
            if round % 5 == 0 {
                disk.holds(&tree);
            }
            base = written.base;
            in_place += 1;
        }
        disk.holds(&tree);
    }
    assert!(in_place > 200, "only {in_place} updates: the test proves little");
}

#[test]
fn a_stop_before_any_write_or_barrier_leaves_the_old_tree() {
    for seed in 0..6 {
        let random = &mut Random::new(100 + seed);
        let mut tree = random_tree(random, 400);
        let (mut disk, written) = tree.write();
        let mut base = written.base;
        for _ in 0..3 {
            let old = disk.dump();
            (0..20).for_each(|_| tree.mutate(random));
            let whole = disk.clone();
            whole.log.borrow_mut().clear();
            let after = tree.update(&base, &whole).unwrap();
            let log = whole.log.borrow().clone();
            // The one sector is written last, between two barriers.
            let commit = Step::Write(SUPERBLOCK_OFFSET, 128);
            assert_eq!(log[log.len() - 3..], [Step::Barrier, commit, Step::Barrier]);
            assert_eq!(
                log.iter()
                    .filter(|step| matches!(step, Step::Write(at, _) if *at < 4096))
                    .count(),
                1
            );
            for stop in 0..log.len() - 1 {
                let stopped = disk.clone();
                stopped.left.set(stop);
                let error = tree.update(&base, &stopped).unwrap_err();
                assert!(matches!(error, Error::Write(_)), "{error}");
                assert_eq!(stopped.dump(), old, "after {stop} operations");
                assert_eq!(Base::read(&FileSystem::open(&stopped).unwrap()).unwrap(), base);
            }
            (disk, base) = (whole, after.base);
            tree.is_in(&disk);
        }
    }
}

#[test]
fn nothing_to_do_writes_nothing() {
    let tree = random_tree(&mut Random::new(1), 300);
    let (_, written) = tree.write();
    assert!(tree.plan_update(&written.base).changes().is_empty());
}

#[test]
fn one_change_among_many_files_writes_little() {
    let mut tree = random_tree(&mut Random::new(2), 3);
    for n in 0..3000 {
        tree.0.insert(
            format!("file-{n:04}"),
            (Node::File(vec![n as u8; 9000 + n]), 0o644, 0),
        );
    }
    let (disk, written) = tree.write();
    tree.0.get_mut("file-0777").unwrap().0 = Node::File(b"changed".to_vec());
    disk.log.borrow_mut().clear();
    tree.update(&written.base, &disk).unwrap();
    let bytes: usize = disk
        .log
        .borrow()
        .iter()
        .map(|step| {
            if let Step::Write(_, length) = step {
                *length
            } else {
                0
            }
        })
        .sum();
    // The root's 3,000 names need 18 blocks.
    assert!(bytes < 22 * 4096, "{bytes} bytes");
    tree.is_in(&disk);
    disk.holds(&tree);
}

#[test]
fn a_file_that_changes_meanwhile_is_named_and_the_old_tree_stays() {
    let mut tree = random_tree(&mut Random::new(3), 20);
    let (disk, written) = tree.write();
    let old = disk.dump();
    tree.0.insert("new".into(), (Node::File(vec![1; 9000]), 0o644, 0));
    let update = || tree.plan_update(&written.base);
    for content in [vec![2; 9000], vec![1; 8999], vec![1; 9001]] {
        let mut other = tree.clone();
        other.0.insert("new".into(), (Node::File(content), 0o644, 0));
        let error = update()
            .write("test", &disk, &Source(&other), &mut |_| ())
            .unwrap_err();
        assert_eq!(error.to_string(), "the file for `/new` changed while it was read");
        assert_eq!(disk.dump(), old);
    }
    tree.update(&written.base, &disk).unwrap();
    tree.is_in(&disk);
}

#[test]
fn holes_and_lack_of_room_are_said_before_anything_is_written() {
    let mut tree = random_tree(&mut Random::new(4), 3);
    for n in 0..500 {
        tree.0.insert(
            format!("{n:03}"),
            (Node::File(vec![n as u8; 20_000 + n]), 0o644, 0),
        );
    }
    let base = tree.write().1.base;
    tree.0
        .insert("new".into(), (Node::File(vec![7; 100_000]), 0o644, 0));
    let size = u64::from(base.superblock.blocks) * 4096;
    assert_eq!(tree.plan_update(&base).obstacle(size), Some(Obstacle::Room));
    assert_eq!(tree.plan_update(&base).obstacle(SIZE as u64), None);
    (0..400).for_each(|n| _ = tree.0.remove(&format!("{n:03}")));
    assert_eq!(
        tree.plan_update(&base).obstacle(SIZE as u64),
        Some(Obstacle::Holes)
    );
}

#[test]
fn a_base_that_cannot_be_true_is_refused() {
    let mut tree = random_tree(&mut Random::new(5), 50);
    let base = tree.write().1.base;
    tree.0.insert("new".into(), (Node::Directory, 0o755, 0));
    let mut outside = base.clone();
    outside.superblock.blocks = 3;
    let error = Update::new(&outside, tree.items(), tree.digests()).unwrap_err();
    assert!(matches!(error, Error::Base), "{error}");
}
