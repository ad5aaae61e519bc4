use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::error::{Error, Result};
use super::superblock::Base;
use super::tree::{How, Tree};
use super::{Bytes, mount};

/// A disk that loses, when the power goes, any of the sectors that were written since the last flush.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Sectors>>);

#[derive(Default)]
struct Sectors {
    stable: Vec<u8>,
    now: Vec<u8>,
    /// First bytes of the sectors that were written since the last flush.
    unsafe_sectors: Vec<usize>,
    fails: bool,
}

const SECTOR: usize = 512;

impl Disk {
    fn new(size: usize) -> Self {
        let disk = Self::default();
        disk.0.lock().unwrap().stable = vec![0; size];
        disk.0.lock().unwrap().now = vec![0; size];
        disk
    }

    /// The disk after a power cut: each sector that was not flushed is the old or the new.
    fn cut(&self, random: &mut Random) -> Self {
        let sectors = self.0.lock().unwrap();
        let mut stable = sectors.stable.clone();
        let kept = random.below(4);
        for &at in &sectors.unsafe_sectors {
            if random.below(4) < kept {
                stable[at..at + SECTOR].copy_from_slice(&sectors.now[at..at + SECTOR]);
            }
        }
        let disk = Self::default();
        disk.0.lock().unwrap().now.clone_from(&stable);
        disk.0.lock().unwrap().stable = stable;
        disk
    }
}

impl Bytes for Disk {
    fn size(&self) -> u64 {
        self.0.lock().unwrap().now.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let sectors = self.0.lock().unwrap();
        buffer.copy_from_slice(&sectors.now[offset as usize..][..buffer.len()]);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut sectors = self.0.lock().unwrap();
        if sectors.fails {
            return Err(io::Error::other("the disk failed"));
        }
        let (begin, end) = (offset as usize, offset as usize + bytes.len());
        sectors.now[begin..end].copy_from_slice(bytes);
        sectors
            .unsafe_sectors
            .extend((begin / SECTOR * SECTOR..end).step_by(SECTOR));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut sectors = self.0.lock().unwrap();
        let Sectors {
            stable,
            now,
            unsafe_sectors,
            ..
        } = &mut *sectors;
        for at in unsafe_sectors.drain(..) {
            stable[at..at + SECTOR].copy_from_slice(&now[at..at + SECTOR]);
        }
        Ok(())
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % end
    }
}

/// What a tree should be: directories have no content.
type Model = BTreeMap<String, Option<Vec<u8>>>;

fn parent_is_directory(model: &Model, path: &str) -> bool {
    match path.rsplit_once('/') {
        Some(("", _)) | None => true,
        Some((parent, _)) => matches!(model.get(parent), Some(None)),
    }
}

fn is_empty(model: &Model, path: &str) -> bool {
    !model.keys().any(|other| other.starts_with(&format!("{path}/")))
}

fn content(tree: &Tree) -> Model {
    try_content(tree).unwrap()
}

fn try_content(tree: &Tree) -> Result<Model> {
    let mut model = Model::new();
    let mut left = vec![(String::new(), tree.stat(b"/")?.inode)];
    while let Some((path, inode)) = left.pop() {
        for (name, node) in tree.list(inode)? {
            let path = format!("{path}/{}", String::from_utf8(name).unwrap());
            if node.is_directory {
                left.push((path.clone(), node.inode));
                model.insert(path, None);
            } else {
                // One byte more than there is.
                let mut bytes = vec![0xaa; node.size as usize + 1];
                assert_eq!(tree.read(node.inode, 0, &mut bytes)? as u64, node.size);
                bytes.pop();
                model.insert(path, Some(bytes));
            }
        }
    }
    Ok(model)
}

const PATHS: [&str; 9] = ["/a", "/b", "/d", "/e", "/d/a", "/d/b", "/d/e", "/e/a", "/d/e/a"];

/// One change, by the tree and by the model; whether both agree on what came of it.
fn step(tree: &Tree, model: &mut Model, random: &mut Random) {
    let path = PATHS[random.below(PATHS.len())];
    let bytes = path.as_bytes();
    let there = model.get(path).cloned();
    let parent = parent_is_directory(model, path);
    match random.below(7) {
        0..=2 => {
            let offset = random.below(90_000);
            let data: Vec<u8> = (0..random.below(70_000)).map(|at| (at + offset) as u8).collect();
            let how = How {
                create: true,
                write: true,
                truncate: random.below(4) == 0,
                exclusive: random.below(8) == 0,
            };
            let opened = tree.open_file(bytes, how);
            let is_right = match &there {
                Some(_) if how.exclusive => opened == Err(Error::EXISTS),
                Some(None) => opened == Err(Error::IS_A_DIRECTORY),
                None if !parent => opened.is_err(),
                _ => opened.is_ok(),
            };
            assert!(is_right, "{path}: {opened:?}");
            let Ok(inode) = opened else { return };
            tree.write(inode, Some(offset as u64), &data).unwrap();
            tree.close(inode).unwrap();
            let mut now = there.flatten().unwrap_or_default();
            if how.truncate {
                now.clear();
            }
            if !data.is_empty() {
                now.resize(now.len().max(offset + data.len()), 0);
                now[offset..][..data.len()].copy_from_slice(&data);
            }
            model.insert(path.to_owned(), Some(now));
        }
        3 => {
            let made = tree.make_directory(bytes);
            assert_eq!(made.is_ok(), there.is_none() && parent, "{path}: {made:?}");
            if made.is_ok() {
                model.insert(path.to_owned(), None);
            }
        }
        4 => {
            let directory = random.below(2) == 0;
            let removed = tree.remove(bytes, directory);
            let expected = match &there {
                None => removed.is_err(),
                Some(Some(_)) if directory => removed == Err(Error::NOT_A_DIRECTORY),
                Some(None) if !directory => removed == Err(Error::IS_A_DIRECTORY),
                Some(None) if !is_empty(model, path) => removed == Err(Error::NOT_EMPTY),
                _ => removed.is_ok(),
            };
            assert!(expected, "{path}: {removed:?}");
            if removed.is_ok() {
                model.remove(path);
            }
        }
        5 => {
            let Some(Some(mut now)) = there else { return };
            let size = random.below(150_000);
            let inode = tree.open_file(bytes, How::default()).unwrap();
            tree.set_len(inode, size as u64).unwrap();
            tree.close(inode).unwrap();
            now.resize(size, 0);
            model.insert(path.to_owned(), Some(now));
        }
        _ => {
            let new = PATHS[random.below(PATHS.len())];
            rename(tree, model, path, new);
        }
    }
}

fn rename(tree: &Tree, model: &mut Model, old: &str, new: &str) {
    let renamed = tree.rename(old.as_bytes(), new.as_bytes());
    let may = match (model.get(old), model.get(new)) {
        (None, _) => false,
        _ if !parent_is_directory(model, new) => false,
        _ if old == new => true,
        (Some(None), _) if new.starts_with(&format!("{old}/")) => false,
        (Some(None), Some(None)) => is_empty(model, new),
        (Some(None), Some(Some(_))) | (Some(Some(_)), Some(None)) => false,
        _ => true,
    };
    assert_eq!(renamed.is_ok(), may, "{old} to {new}: {renamed:?}");
    if may && old != new {
        let moved: Vec<_> = model
            .keys()
            .filter(|path| *path == old || path.starts_with(&format!("{old}/")))
            .cloned()
            .collect();
        for path in moved {
            let what = model.remove(&path).unwrap();
            model.insert(format!("{new}{}", &path[old.len()..]), what);
        }
    }
}

#[test]
fn any_calls_do_what_they_say_and_are_there_when_it_is_opened_again() {
    let mut random = Random(1);
    let disk = Disk::new(16 << 20);
    let mut model = Model::new();
    for _ in 0..10 {
        let tree = Tree::open(disk.clone()).unwrap();
        assert_eq!(content(&tree), model);
        for _ in 0..60 {
            step(&tree, &mut model, &mut random);
        }
        assert_eq!(content(&tree), model);
    }
}

#[test]
fn after_a_power_cut_it_is_as_it_was_at_a_moment_since_the_last_sync() {
    let mut random = Random(7);
    let mut disk = Disk::new(16 << 20);
    let mut model = Model::new();
    for round in 0..60 {
        let tree = Tree::open(disk.clone()).unwrap();
        assert_eq!(content(&tree), model, "round {round}");
        let mut moments = vec![model.clone()];
        for _ in 0..random.below(25) {
            step(&tree, &mut model, &mut random);
            moments.push(model.clone());
            if random.below(6) == 0 {
                tree.sync().unwrap();
                moments.drain(..moments.len() - 1);
            }
        }
        disk = disk.cut(&mut random);
        // What the machine would still have written is for nothing: it is off.
        drop(tree);
        let tree = Tree::open(disk.clone()).unwrap();
        let found = content(&tree);
        assert!(moments.contains(&found), "round {round}");
        model = found;
    }
}

#[test]
fn a_file_that_is_removed_while_it_is_open_is_there_until_it_is_closed() -> Result<()> {
    let disk = Disk::new(16 << 20);
    let how = How {
        create: true,
        write: true,
        ..How::default()
    };
    let tree = Tree::open(disk.clone()).unwrap();
    let inode = tree.open_file(b"/gone", how)?;
    tree.write(inode, None, b"still here")?;
    tree.remove(b"/gone", false)?;
    assert_eq!(tree.stat(b"/gone"), Err(Error::NOT_FOUND));
    let mut bytes = [0; 10];
    tree.read(inode, 0, &mut bytes)?;
    assert_eq!(&bytes, b"still here");
    tree.sync()?;
    // The power goes; whoever comes next cleans up.
    let tree = Tree::open(disk.cut(&mut Random(1))).unwrap();
    assert_eq!(tree.stat_inode(inode), Err(Error::IO));
    Ok(())
}

#[test]
fn a_full_volume_takes_no_more_and_loses_nothing() -> Result<()> {
    let disk = Disk::new(16 << 20);
    let tree = Tree::open(disk.clone()).unwrap();
    let how = How {
        create: true,
        write: true,
        ..How::default()
    };
    let piece = vec![7; 100_000];
    for _ in 0..3 {
        let mut files: usize = 0;
        let full = loop {
            let inode = tree.open_file(files.to_string().as_bytes(), how)?;
            let written = tree.write(inode, None, &piece);
            tree.close(inode)?;
            if let Err(error) = written {
                break error;
            }
            files += 1;
        };
        eprintln!("{files} {full:?}");
        assert_eq!(full, Error::FULL);
        assert!(files > 60, "{files} files of 100 KB on 16 MiB");
        tree.sync()?;
        for at in 0..files {
            assert_eq!(tree.stat(at.to_string().as_bytes())?.size, 100_000);
        }
        for at in 0..=files {
            tree.remove(at.to_string().as_bytes(), false)?;
        }
        tree.sync()?;
    }
    assert!(content(&tree).is_empty());
    Ok(())
}

#[test]
fn a_disk_that_fails_is_said_and_what_was_synced_is_there() -> Result<()> {
    let disk = Disk::new(16 << 20);
    let tree = Tree::open(disk.clone()).unwrap();
    tree.make_directory(b"/kept")?;
    tree.sync()?;
    disk.0.lock().unwrap().fails = true;
    tree.make_directory(b"/lost")?;
    assert_eq!(tree.sync(), Err(Error::IO));
    assert_eq!(
        tree.sync().and_then(|()| tree.stat(b"/lost").map(drop)),
        Err(Error::IO)
    );
    drop(tree);
    disk.0.lock().unwrap().fails = false;
    let tree = Tree::open(disk.clone()).unwrap();
    assert_eq!(content(&tree).into_keys().collect::<Vec<_>>(), ["/kept"]);
    Ok(())
}

#[test]
fn what_is_no_folder_is_refused_and_not_written() {
    let disk = Disk::new(1 << 20);
    disk.write_at(b"HERMFILE", 0).unwrap();
    let before = disk.0.lock().unwrap().now.clone();
    let error = Tree::open(disk.clone()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    assert!(disk.0.lock().unwrap().now == before);

    // A folder whose sector is damaged.
    let disk = Disk::new(16 << 20);
    drop(Tree::open(disk.clone()).unwrap());
    disk.write_at(&[1], 9).unwrap();
    assert_eq!(Tree::open(disk).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_folder_of_the_version_before_is_said_to_be_one() {
    let disk = Disk::new(16 << 20);
    let base = Base::on(disk.clone()).unwrap();
    let facts = redb::TableDefinition::<&str, u64>::new("facts");
    let data_base = redb::Database::builder()
        .create_with_backend(base.clone())
        .unwrap();
    let write = data_base.begin_write().unwrap();
    write.open_table(facts).unwrap().insert("version", 1).unwrap();
    write.commit().unwrap();
    // As a folder is made.
    base.cut();
    drop(data_base);
    base.take_all().unwrap();
    let error = Tree::open(disk).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("another version"), "{error}");
}

/// redb panics on some of its own pages when they are damaged, which ends a guest as an error that nobody takes does.
#[test]
fn what_is_damaged_is_as_it_was_or_an_error() {
    let mut random = Random(3);
    let disk = Disk::new(8 << 20);
    let tree = Tree::open(disk.clone()).unwrap();
    let how = How {
        create: true,
        write: true,
        ..How::default()
    };
    // Without holes: behind the first one it is not known what lacks.
    for directory in ["/a", "/b"] {
        tree.make_directory(directory.as_bytes()).unwrap();
        for number in 0..20 {
            let path = format!("{directory}/{number}");
            let data: Vec<u8> = (0..random.below(90_000)).map(|at| (at + number) as u8).collect();
            let inode = tree.open_file(path.as_bytes(), how).unwrap();
            tree.write(inode, None, &data).unwrap();
            tree.close(inode).unwrap();
        }
    }
    let model = content(&tree);
    // Closed: redb looks at all of its sums only after a power cut.
    drop(tree);
    let whole = disk.0.lock().unwrap().now.clone();
    // Behind redb's header: when the last commit's end is damaged, it takes the one before. And not where it keeps what
    // its tables are: it panics there, and once more when it cleans up, which would end the tests.
    let holds_tables = |at: usize| {
        let page = &whole[at / 4096 * 4096..][..4096];
        let names: [&[u8]; 2] = [b"orphans", b"allocator"];
        names
            .iter()
            .any(|name| page.windows(name.len()).any(|bytes| bytes == *name))
    };
    let pages: Vec<_> = (2 * 4096..whole.len())
        .step_by(4096)
        .filter(|page| !holds_tables(*page))
        .collect();
    let used: Vec<_> = pages
        .iter()
        .flat_map(|page| *page..page + 4096)
        .filter(|at| whole[*at] != 0)
        .collect();
    let damaged = |at: usize, bit: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        let disk = Disk::default();
        disk.0.lock().unwrap().stable.clone_from(&bytes);
        disk.0.lock().unwrap().now = bytes;
        disk
    };
    let mut seen = 0;
    for _ in 0..300 {
        let disk = damaged(used[random.below(used.len())], random.below(8));
        let found = std::panic::catch_unwind(|| {
            let tree = Tree::open(disk).ok()?;
            try_content(&tree).ok()
        });
        match found {
            Ok(Some(found)) => assert!(found == model),
            Ok(None) | Err(_) => seen += 1,
        }
    }
    // Of what has bytes, most is what redb replaced.
    assert!(seen > 20, "{seen} of 300 were seen");
}

#[test]
fn a_damaged_file_can_be_removed_and_its_place_written_again() -> Result<()> {
    let disk = Disk::new(8 << 20);
    let how = How {
        create: true,
        write: true,
        ..How::default()
    };
    let tree = Tree::open(disk.clone()).unwrap();
    let inode = tree.open_file(b"/file", how)?;
    let content = b"what nobody else has on this disk".repeat(300);
    tree.write(inode, None, &content)?;
    tree.close(inode)?;
    drop(tree);
    let mut sectors = disk.0.lock().unwrap();
    let at = sectors
        .now
        .windows(content.len())
        .position(|bytes| bytes == content)
        .unwrap();
    sectors.now[at + 5000] ^= 1;
    drop(sectors);
    let tree = Tree::open(disk).unwrap();
    let inode = tree.open_file(b"/file", how)?;
    let mut bytes = [0; 100];
    // What lies beside it is whole; what would be kept of the damaged part is not said to be.
    assert_eq!(tree.read(inode, 0, &mut bytes), Ok(100));
    assert_eq!(bytes, content[..100]);
    assert_eq!(tree.read(inode, 4950, &mut bytes), Err(Error::IO));
    assert_eq!(tree.write(inode, Some(4950), b"new"), Err(Error::IO));
    assert_eq!(tree.set_len(inode, 4950), Err(Error::IO));
    tree.write(inode, Some(0), &content)?;
    tree.read(inode, 4950, &mut bytes)?;
    assert_eq!(bytes, content[4950..][..100]);
    tree.close(inode)?;
    tree.remove(b"/file", false)
}

#[test]
fn on_the_host_there_is_none_without_a_folder_of_volumes() {
    // Tests have no such variable.
    assert_eq!(mount("data").unwrap_err().kind(), io::ErrorKind::NotFound);
}
