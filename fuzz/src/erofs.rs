//! The file system: any bytes are read to the end or refused, in a number of steps that their length bounds.

use std::cell::RefCell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::io;

use hermitage_erofs::format::{BLOCK, CHECKSUM_SPAN, Kind, MAX_NAME, SUPERBLOCK_OFFSET, Superblock};
use hermitage_erofs::reader::{Error, FileSystem, Inode, ReadAt};
use hermitage_erofs::writer::{self, Base, Content, Item, ItemKind, Placed, Plan, Update, WriteAt};

/// Longer inputs only take longer.
const MAX_INPUT: usize = 64 << 10;

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    type Error = io::Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.0.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Gives the superblock a checksum that matches, since no mutation finds it.
fn with_checksum(input: &[u8]) -> Vec<u8> {
    let mut bytes = input[..input.len().min(MAX_INPUT)].to_vec();
    let start = SUPERBLOCK_OFFSET as usize;
    if let Some(span) = bytes.get_mut(start..start + CHECKSUM_SPAN) {
        span[4..8].fill(0);
        let checksum = !crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(span);
        span[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// Reads everything in a file system.
pub(crate) fn check(input: &[u8]) {
    let bytes = with_checksum(input);
    let Ok(files) = FileSystem::open(Bytes(&bytes)) else {
        return;
    };
    let _ = walk(&files);
    let _ = files.resolve(b"/bin/kv");
    let _ = files.resolve(b"a/../link/x");
    if let Ok(base) = Base::read(&files) {
        let again = Base::from_records(base.superblock.clone(), base.records().to_vec());
        assert_eq!(again.as_ref(), Some(&base));
    }
}

/// Goes through all that can be reached, each inode once.
pub(crate) fn walk<D: ReadAt>(files: &FileSystem<D>) -> Result<(), Error<D::Error>> {
    let mut seen = HashSet::new();
    let mut left = vec![files.root()?];
    while let Some(inode) = left.pop() {
        if !seen.insert(inode.nid()) {
            continue;
        }
        match inode.kind() {
            Kind::File => read(files, &inode)?,
            Kind::Symlink => assert!(!files.read_link(&inode)?.contains(&0)),
            Kind::Directory => {
                for entry in files.read_dir(&inode)? {
                    let entry = entry?;
                    let name = &entry.name;
                    assert!(!name.is_empty() && name.len() <= MAX_NAME);
                    assert!(!name.contains(&b'/') && !name.contains(&0));
                    assert!(name != b"." && name != b"..");
                    // One that is broken does not hide the others.
                    left.extend(files.inode(entry.nid).ok());
                }
            }
        }
    }
    Ok(())
}

fn read<D: ReadAt>(files: &FileSystem<D>, file: &Inode) -> Result<(), Error<D::Error>> {
    assert!(
        file.size() <= files.size(),
        "a file is larger than its file system"
    );
    let mut buffer = [0; 1 << 14];
    let mut offset = 0;
    loop {
        let length = files.read(file, offset, &mut buffer)?;
        offset += length as u64;
        if length < buffer.len() {
            assert_eq!(offset, file.size());
            return Ok(());
        }
    }
}

/// What an index holds of a tree: any bytes are a tree in order, or none; and an update from them ends.
pub(crate) fn check_base(input: &[u8]) {
    let superblock = Superblock {
        root_nid: 128,
        inodes: 1,
        blocks: 64,
        meta_block: 0,
        uuid: [0; 16],
        volume_name: [0; 16],
    };
    let Some(base) = Base::from_records(superblock, input.to_vec()) else {
        return;
    };
    let paths: Vec<_> = base.nodes().map(|placed| placed.item.path).collect();
    assert!(paths.is_sorted_by(|a, b| writer::compare_paths(a, b).is_lt()));
    let items: Vec<_> = base.nodes().map(|placed| placed.item).collect();
    let digests: Vec<_> = base.nodes().map(|placed| placed.digest).collect();
    let same = Update::new(&base, items, digests);
    assert!(same.is_err() || same.is_ok_and(|update| update.changes().is_empty()));
    let item = Item {
        path: b"new",
        kind: ItemKind::File(5000),
        permissions: 0,
        uid: 0,
        gid: 0,
        mtime: 0,
        mtime_nsec: 0,
    };
    if let Ok(update) = Update::new(&base, vec![item], vec![None]) {
        let _ = update.obstacle(1 << 20);
        let _: Result<_, Infallible> = Ok(update.digest());
    }
}

/// Files of the seeds.
struct Sizes(Vec<u64>);

impl Content for Sizes {
    type Reader = io::Take<io::Repeat>;

    fn open(&self, item: usize) -> io::Result<Self::Reader> {
        Ok(io::Read::take(io::repeat(item as u8), self.0[item]))
    }
}

struct Memory(RefCell<Vec<u8>>);

impl WriteAt for Memory {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut memory = self.0.borrow_mut();
        let end = offset as usize + bytes.len();
        let length = memory.len().max(end.next_multiple_of(BLOCK));
        memory.resize(length, 0);
        memory[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }
}

/// Small file systems with everything in them, and what their indexes hold.
fn images() -> Vec<(Vec<u8>, Base)> {
    let small: &[(&[u8], ItemKind<'_>)] = &[(b"", ItemKind::Directory), (b"a", ItemKind::File(5))];
    let all: &[(&[u8], ItemKind<'_>)] = &[
        (b"", ItemKind::Directory),
        (b"bin", ItemKind::Directory),
        (b"bin/kv", ItemKind::File(9000)),
        (b"bin/other", ItemKind::File(9001)),
        (b"empty", ItemKind::File(0)),
        (b"link", ItemKind::Symlink(b"bin/../bin/kv")),
        (b"loop", ItemKind::Symlink(b"/loop")),
        (b"tail", ItemKind::File(4032)),
        (b"tree", ItemKind::Directory),
        (b"tree/deep", ItemKind::Directory),
        (b"tree/deep/er", ItemKind::Directory),
        (b"tree/deep/er/file", ItemKind::File(4096)),
    ];
    let image = |items: &&[(&[u8], ItemKind<'_>)]| {
        let sizes = items.iter().map(|(_, kind)| match kind {
            ItemKind::File(size) => *size,
            _ => 0,
        });
        let sizes = Sizes(sizes.collect());
        let item = |&(path, kind): &(_, _)| Item {
            path,
            kind,
            permissions: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nsec: 0,
        };
        let plan = Plan::new(items.iter().map(item)).ok()?;
        let memory = Memory(RefCell::default());
        let mut records = Vec::new();
        let placed = &mut |placed: &Placed<'_>| placed.encode(&mut records);
        let written = writer::write(&plan, "seed", &memory, &sizes, placed).ok()?;
        let base = Base::from_records(written.superblock, records)?;
        Some((memory.0.into_inner(), base))
    };
    [small, all].iter().filter_map(image).collect()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    images().into_iter().map(|(image, _)| image).collect()
}

pub(crate) fn base_seeds() -> Vec<Vec<u8>> {
    let bases = images().into_iter().map(|(_, base)| base.records().to_vec());
    // An empty list once was a tree without a root.
    bases.chain([Vec::new()]).collect()
}
