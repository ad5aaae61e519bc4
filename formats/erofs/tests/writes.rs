//! What the writer writes is judged by `fsck.erofs`, which also gives the tree back for comparison.

mod extracted;

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use hermitage_erofs::debug;
use hermitage_erofs::reader::{FileSystem, ReadAt};
use hermitage_erofs::writer::{self, Content, Item, ItemKind, Plan, WriteAt, Written};

use extracted::{Extracted, extract};

struct Image(File);

impl WriteAt for Image {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

impl ReadAt for Image {
    type Error = io::Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

/// A tree in memory: each item, and the content of files.
#[derive(Clone, Default)]
struct Tree {
    items: Vec<Item<'static>>,
    contents: Vec<Vec<u8>>,
}

impl Tree {
    fn add(&mut self, path: &[u8], kind: ItemKind<'static>, content: Vec<u8>) -> &mut Item<'static> {
        let (path, permissions) = (
            // Items borrow; a test's trees may live as long as it does.
            path.to_vec().leak(),
            if kind == ItemKind::Directory { 0o755 } else { 0o644 },
        );
        self.items.push(Item {
            path,
            kind,
            permissions,
            uid: 0,
            gid: 0,
            mtime: 1,
            mtime_nsec: 0,
        });
        self.contents.push(content);
        self.items.last_mut().unwrap()
    }

    fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) -> &mut Item<'static> {
        let content = content.into();
        self.add(path.as_bytes(), ItemKind::File(content.len() as u64), content)
    }

    fn directory(&mut self, path: &str) -> &mut Item<'static> {
        self.add(path.as_bytes(), ItemKind::Directory, vec![])
    }

    fn link(&mut self, path: &str, target: &str) -> &mut Item<'static> {
        self.add(
            path.as_bytes(),
            ItemKind::Symlink(target.to_owned().leak().as_bytes()),
            vec![],
        )
    }

    fn write(&self, path: &Path) -> Written {
        let plan = Plan::new(self.items.clone()).unwrap();
        let image = Image(File::create_new(path).unwrap());
        image.0.set_len(plan.size()).unwrap();
        let written = writer::write(&plan, "test", &image, self, &mut |_| ()).unwrap();
        image.0.set_len(written.size()).unwrap();
        written
    }
}

impl Content for Tree {
    type Reader = io::Cursor<Vec<u8>>;

    fn open(&self, item: usize) -> io::Result<Self::Reader> {
        Ok(io::Cursor::new(self.contents[item].clone()))
    }
}

fn expected(tree: &Tree) -> Extracted {
    let entry = |(item, content): (&Item<'_>, &Vec<u8>)| {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(item.path));
        let mode = u32::from(item.permissions);
        let value = match &item.kind {
            ItemKind::File(_) => (0o100_000 | mode, item.mtime, content.clone()),
            ItemKind::Directory => (0o040_000 | mode, item.mtime, vec![]),
            // Linux knows no permissions of links.
            ItemKind::Symlink(target) => (0o120_777, item.mtime, target.to_vec()),
        };
        (path, value)
    };
    Extracted(tree.items.iter().zip(&tree.contents).map(entry).collect())
}

/// Writes a tree and has it judged; the image's bytes.
fn judge(tree: &Tree) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    tree.write(&image);
    extract(&image).is(&expected(tree));
    fs::read(image).unwrap()
}

/// Bytes that look random and depend on a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn root() -> Tree {
    let mut tree = Tree::default();
    tree.directory("");
    tree
}

#[test]
fn an_empty_tree_is_a_file_system() {
    judge(&root());
}

#[test]
fn files_of_every_critical_size_come_back() {
    let mut tree = root();
    let sizes = [
        0, 1, 31, 32, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 12_224, 12_225, 524_288, 524_289,
        1_048_575, 1_048_576, 1_048_577, 3_000_000,
    ];
    for size in sizes {
        tree.file(&format!("{size}"), noise(size, size as usize));
    }
    judge(&tree);
}

#[test]
fn large_directories_long_names_and_links_come_back() {
    let mut tree = root();
    for n in 0..3000 {
        tree.file(&format!("many-{n:0250}"), n.to_string());
    }
    for name in ["!", "+", "-", "-a", "..a", ".a", "a", "a.b", "a/b", "A", "\u{e4}"] {
        match name {
            "a" => tree.directory(name),
            _ => tree.file(name, name),
        };
    }
    tree.link("link", "a/b").mtime = -1;
    tree.link("long", &"x".repeat(4095));
    tree.link("inline", &"y".repeat(4032));
    tree.link("plain", &"z".repeat(4033));
    tree.file("old", "before 1970").mtime = -86_400;
    tree.file("odd", "").permissions = 0o511;
    tree.directory("closed").permissions = 0o700;
    let deep = "d/".repeat(200);
    for depth in 1..=200 {
        tree.directory(&deep[..depth * 2 - 1]);
    }
    judge(&tree);
}

#[test]
fn random_trees_come_back_and_read_the_same_through_our_reader() {
    for seed in 0..20 {
        let mut tree = root();
        let mut folders = vec![String::new()];
        let random = noise(seed, 8 * 400);
        for (n, bytes) in random.chunks_exact(8).enumerate() {
            let folder = &folders[usize::from(bytes[0]) % folders.len()];
            let slash = if folder.is_empty() { "" } else { "/" };
            let path = format!("{folder}{slash}{n}-{}", "n".repeat(usize::from(bytes[1]) % 240));
            let size = usize::from(u16::from_le_bytes([bytes[2], bytes[3]])) >> (bytes[4] % 16);
            match bytes[5] % 8 {
                0 if path.len() < 2000 => {
                    tree.directory(&path);
                    folders.push(path);
                }
                1 => _ = tree.link(&path, &"t".repeat(size % 4095 + 1)),
                // A few seeds, so that equal content happens.
                _ => {
                    tree.file(&path, noise(u64::from(bytes[6] % 4), size)).permissions =
                        0o600 | u16::from(bytes[7]);
                }
            }
        }
        let image = judge(&tree);
        let files = FileSystem::open(Bytes(&image)).unwrap();
        let text = debug::dump(&files).unwrap();
        assert_eq!(text.lines().count(), tree.items.len());
        for (item, content) in tree.items.iter().zip(&tree.contents) {
            let inode = files.resolve_link(item.path).unwrap();
            let mut found = vec![0; content.len()];
            if matches!(item.kind, ItemKind::File(_)) {
                assert_eq!(files.read(&inode, 0, &mut found).unwrap(), content.len());
            }
            assert!(found == *content);
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    type Error = ();

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ()> {
        let start = usize::try_from(offset).map_err(drop)?;
        let bytes = start
            .checked_add(buffer.len())
            .and_then(|end| self.0.get(start..end))
            .ok_or(())?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

#[test]
fn equal_content_is_stored_once() {
    let sizes = [10_000, 524_288, 524_289, 5_000_000];
    for size in sizes {
        let mut once = root();
        once.file("a", noise(1, size));
        let mut twice = once.clone();
        twice.file("b", noise(1, size));
        twice.file("c", noise(2, size));
        let (once, twice) = (judge(&once).len(), judge(&twice).len());
        assert!(twice - once < size + 3 * 4096, "{once} {twice}");
    }
}

#[test]
fn what_is_written_depends_neither_on_the_order_of_the_items_nor_on_what_was_there() {
    let mut tree = root();
    for n in 0..500 {
        tree.file(&format!("{n}"), noise(n % 100, 9000 + n as usize % 3));
    }
    let mut reversed = tree.clone();
    reversed.items.reverse();
    reversed.contents.reverse();
    assert!(judge(&tree) == judge(&reversed));
}

#[test]
fn items_that_cannot_be_together_are_named() {
    let error = |build: fn(&mut Tree)| {
        let mut tree = Tree::default();
        build(&mut tree);
        Plan::new(tree.items).unwrap_err().to_string()
    };
    assert_eq!(
        error(|t| {
            t.file("a", "");
            t.directory("a");
        }),
        "two items at `/a`"
    );
    assert_eq!(error(|t| _ = t.file("a/b", "")), "`/a/b` lies in no directory");
    assert_eq!(
        error(|t| {
            t.file("a", "");
            t.file("a/b", "");
        }),
        "`/a/b` lies in no directory"
    );
    assert_eq!(
        error(|t| _ = t.file("..", "")),
        "`/..` is no path that a file system can hold"
    );
    assert_eq!(error(|t| _ = t.file("", "")), "the root is not a directory");
    assert!(error(|t| _ = t.link("a", "")).starts_with("the target of the symbolic link `/a`"));
    assert!(error(|t| _ = t.file(&"n".repeat(256), "")).ends_with("is no path that a file system can hold"));
}

#[test]
fn a_file_that_changes_size_meanwhile_is_named() {
    for size in [10, 2_000_000] {
        for change in [-1, 1] {
            let mut tree = root();
            tree.file("grows", noise(0, size));
            tree.contents[1].resize(size.checked_add_signed(change).unwrap(), 0);
            let plan = Plan::new(tree.items.clone()).unwrap();
            let image = Image(tempfile::tempfile().unwrap());
            let error = writer::write(&plan, "test", &image, &tree, &mut |_| ()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the file for `/grows` changed while it was read"
            );
        }
    }
}

/// Files of which some cannot be opened; the readers must notice that nobody waits for the others.
struct Broken(Tree, usize);

impl Content for Broken {
    type Reader = io::Cursor<Vec<u8>>;

    fn open(&self, item: usize) -> io::Result<Self::Reader> {
        if item >= self.1 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.0.open(item)
    }
}

#[test]
fn the_first_file_that_cannot_be_read_is_named_and_no_thread_waits_for_ever() {
    let mut tree = root();
    for n in 0..40 {
        tree.file(&format!("{n:02}-small"), noise(n, 300_000));
        tree.file(&format!("{n:02}-twin"), noise(0, 3_000_000));
    }
    let plan = Plan::new(tree.items.clone()).unwrap();
    for first in [1, 2, 3, 30, 79] {
        let image = Image(tempfile::tempfile().unwrap());
        let content = Broken(tree.clone(), first);
        let error = writer::write(&plan, "test", &image, &content, &mut |_| ()).unwrap_err();
        let path = String::from_utf8_lossy(tree.items[first].path);
        assert_eq!(error.to_string(), format!("cannot read the file for `/{path}`"));
    }
}

/// A device that fails from one of its writes on.
struct Full(std::cell::Cell<usize>);

impl WriteAt for Full {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        let left = self.0.get().checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        self.0.set(left);
        Ok(())
    }
}

#[test]
fn a_device_that_fails_at_any_write_ends_the_readers_too() {
    let mut tree = root();
    for n in 0..60 {
        tree.file(&format!("{n:02}-small"), noise(n, 300_000));
        tree.file(&format!("{n:02}-twin"), noise(n % 7, 700_000));
    }
    let plan = Plan::new(tree.items.clone()).unwrap();
    let whole = Full(usize::MAX.into());
    writer::write(&plan, "test", &whole, &tree, &mut |_| ()).unwrap();
    let writes = usize::MAX - whole.0.get();
    assert!(writes > 30, "only {writes} writes: the test proves little");
    for stop in 0..writes {
        let error = writer::write(&plan, "test", &Full(stop.into()), &tree, &mut |_| ()).unwrap_err();
        assert!(matches!(error, writer::Error::Write(_)), "{error}");
    }
}
