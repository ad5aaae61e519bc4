//! The reader on damaged images: whatever byte or block is wrong, it ends with a value or an error, after a bounded
//! number of reads, and asks for nothing outside the image.

use std::cell::Cell;
use std::io;

use hermitage_erofs::debug;
use hermitage_erofs::format::{BLOCK, RawDirent, RawInode};
use hermitage_erofs::reader::{Error, FileSystem, ReadAt};
use hermitage_erofs::writer::{self, Content, Item, ItemKind, Plan, WriteAt};

/// More reads than any walk through the small image below needs, even one that a damaged inode makes longer: the
/// largest file that fits into it is read in a few pieces.
const MAX_READS: usize = 20_000;

/// Bytes that are read and counted.
struct Counted<'a> {
    bytes: &'a [u8],
    reads: Cell<usize>,
}

impl ReadAt for Counted<'_> {
    type Error = &'static str;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Self::Error> {
        self.reads.set(self.reads.get() + 1);
        assert!(self.reads.get() < MAX_READS, "the reader does not come to an end");
        let end = offset
            .checked_add(buffer.len() as u64)
            .filter(|end| *end <= self.bytes.len() as u64);
        assert!(
            end.is_some(),
            "{} bytes at {offset} are asked for, outside the image",
            buffer.len()
        );
        buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

struct Memory(std::cell::RefCell<Vec<u8>>);

impl WriteAt for Memory {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut memory = self.0.borrow_mut();
        let end = offset as usize + bytes.len();
        if memory.len() < end {
            memory.resize(end, 0);
        }
        memory[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }
}

/// Files whose content is their item's number.
struct Numbers(Vec<u64>);

impl Content for Numbers {
    type Reader = io::Take<io::Repeat>;

    fn open(&self, item: usize) -> io::Result<Self::Reader> {
        Ok(io::Read::take(io::repeat(item as u8), self.0[item]))
    }
}

/// A small image with everything in it: directories in blocks and inline, plain and inline files, links.
fn image() -> Vec<u8> {
    let mut items = Vec::new();
    let mut sizes = Vec::new();
    let mut add = |path: String, kind: ItemKind<'static>| {
        sizes.push(if let ItemKind::File(size) = kind { size } else { 0 });
        let (path, permissions) = (path.into_bytes().leak(), 0o755);
        items.push(Item {
            path,
            kind,
            permissions,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nsec: 0,
        });
    };
    add(String::new(), ItemKind::Directory);
    add("bin".into(), ItemKind::Directory);
    add("bin/kv".into(), ItemKind::File(20_000));
    add("bin/link".into(), ItemKind::Symlink(b"../bin/./kv"));
    add("loop".into(), ItemKind::Symlink(b"/loop"));
    add("large".into(), ItemKind::Directory);
    for n in 0..25 {
        add(format!("large/{n:0200}"), ItemKind::File(n * 10));
    }
    let plan = Plan::new(items).unwrap();
    let memory = Memory(vec![].into());
    let written = writer::write(&plan, "test", &memory, &Numbers(sizes), &mut |_| ()).unwrap();
    let mut bytes = memory.0.into_inner();
    bytes.resize(written.size() as usize, 0);
    bytes
}

/// Does with an image what the loader, the launcher and the tests do with one.
fn use_it(bytes: &[u8]) -> Result<String, Error<&'static str>> {
    let files = FileSystem::open(Counted {
        bytes,
        reads: Cell::new(0),
    })?;
    for path in [
        &b"bin/kv"[..],
        b"bin/link",
        b"loop",
        b"large/nothing",
        b"../bin/../large/0",
    ] {
        if let Ok(inode) = files.resolve(path) {
            let mut buffer = vec![0; 1000];
            let _ = files.read(&inode, 15_900, &mut buffer);
            let _ = files.read(&inode, u64::MAX, &mut buffer);
            let _ = files.read_link(&inode);
            if let Ok(entries) = files.read_dir(&inode) {
                let _ = entries.count();
            }
        }
    }
    debug::dump(&files)
}

/// Blocks that are not files' content.
fn metadata_blocks(bytes: &[u8]) -> usize {
    let files = FileSystem::open(Counted {
        bytes,
        reads: Cell::new(0),
    })
    .unwrap();
    files.resolve(b"bin/kv").unwrap().raw().start_block as usize
}

#[test]
fn any_byte_of_the_metadata_may_be_wrong() {
    let mut bytes = image();
    let intact = use_it(&bytes).unwrap();
    assert_eq!(intact.lines().count(), 31, "{intact}");
    let metadata = metadata_blocks(&bytes) * BLOCK;
    assert!((5 * BLOCK..bytes.len()).contains(&metadata));
    let mut noticed = 0;
    for place in 0..metadata {
        // Most bytes are padding: one pattern is enough for those.
        let patterns: &[u8] = if bytes[place] == 0 {
            &[0xff]
        } else {
            &[0x01, 0x80, 0xff]
        };
        for pattern in patterns {
            bytes[place] ^= pattern;
            let found = use_it(&bytes);
            noticed += usize::from(found.as_ref() != Ok(&intact));
            let in_superblock = (1024..BLOCK).contains(&place);
            assert!(
                !in_superblock || found.is_err(),
                "byte {place} is covered by the checksum"
            );
            bytes[place] ^= pattern;
        }
    }
    assert!(
        noticed > 10_000,
        "only {noticed} changes made a difference: the test proves little"
    );
}

#[test]
fn any_block_may_be_overwritten() {
    let bytes = image();
    let intact = use_it(&bytes).unwrap();
    let junk: Vec<u8> = (0..BLOCK as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for block in 0..bytes.len() / BLOCK {
        let other = bytes[(block + 1) * BLOCK % bytes.len()..][..BLOCK].to_vec();
        for content in [&vec![0; BLOCK], &vec![0xff; BLOCK], &junk, &other] {
            let mut damaged = bytes.clone();
            damaged[block * BLOCK..][..BLOCK].copy_from_slice(content);
            assert!(
                use_it(&damaged).as_ref() != Ok(&intact) || damaged == bytes,
                "block {block}"
            );
        }
    }
}

#[test]
fn an_image_may_end_anywhere() {
    let bytes = image();
    // The device says so itself here, as every real one does.
    struct Short<'a>(&'a [u8]);
    impl ReadAt for Short<'_> {
        type Error = &'static str;
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Self::Error> {
            let bytes = self
                .0
                .get(offset as usize..)
                .and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(bytes.ok_or("the end")?);
            Ok(())
        }
    }
    for end in (0..bytes.len()).step_by(509) {
        let dump = FileSystem::open(Short(&bytes[..end])).and_then(|files| debug::dump(&files));
        assert_eq!(dump, Err(Error::Device("the end")), "{end} bytes");
    }
}

#[test]
fn a_directory_that_contains_itself_is_seen() {
    let mut bytes = image();
    let files = FileSystem::open(Counted {
        bytes: &bytes,
        reads: Cell::new(0),
    })
    .unwrap();
    let (bin, root) = (files.resolve(b"bin").unwrap().nid(), files.root().unwrap().nid());
    // The root's only block: its entries are `.`, `..`, `bin`, `large`, `loop`. Let `bin` be the root again.
    let block = RawInode::decode(bytes[BLOCK..][..64].try_into().unwrap())
        .unwrap()
        .start_block as usize
        * BLOCK;
    let entry = block + 2 * 12;
    let mut dirent = RawDirent::decode(bytes[entry..][..12].try_into().unwrap());
    assert_eq!(dirent.nid, bin);
    dirent.nid = root;
    bytes[entry..][..12].copy_from_slice(&dirent.encode());
    let error = use_it(&bytes).unwrap_err().to_string();
    assert_eq!(error, "file system is damaged: a directory is reached twice");
}

#[test]
fn an_inode_that_claims_more_than_there_is_is_refused() {
    let intact = image();
    let files = FileSystem::open(Counted {
        bytes: &intact,
        reads: Cell::new(0),
    })
    .unwrap();
    let kv = files.resolve(b"bin/kv").unwrap();
    let place = kv.nid() as usize * 32;
    for change in [
        (|raw| raw.size = u64::MAX) as fn(&mut RawInode),
        |raw| raw.size = 1 << 40,
        |raw| raw.start_block = u32::MAX,
        |raw| raw.start_block = 0,
        |raw| raw.size += 1 << 16,
        |raw| raw.mode = 0o060_644,
    ] {
        let mut raw = kv.raw().clone();
        change(&mut raw);
        let mut bytes = intact.clone();
        bytes[place..place + 64].copy_from_slice(&raw.encode());
        let files = FileSystem::open(Counted {
            bytes: &bytes,
            reads: Cell::new(0),
        })
        .unwrap();
        assert!(
            matches!(files.resolve(b"bin/kv"), Err(Error::Damaged(_))),
            "{raw:?}"
        );
    }
}
