//! Package archives: from whoever built the package, or stands between.

use std::fs;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use builder::archive::Limits;
use builder::archive::read::read;
use builder::archive::unpack::Folder;
use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

/// Bytes of a tar file's header, and of what each entry is filled up to.
const BLOCK: usize = 512;

/// Much less than the real ones, so that small inputs reach them.
const LIMITS: Limits = Limits {
    entries: 64,
    names: 4 << 10,
    bytes: 1 << 20,
    ratio: 50,
    small: 64 << 10,
};

/// Links that are followed one behind another, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// An archive is unpacked within the limits and the folder, or refused; so is one whose maker summed its headers.
pub(crate) fn check(input: &[u8]) {
    unpack(input);
    unpack(&summed(input));
}

fn unpack(input: &[u8]) {
    let Ok(above) = tempfile::tempdir() else {
        return;
    };
    let folder = above.path().join("folder");
    let Ok(mut target) = Folder::create(&folder) else {
        return;
    };
    let result = read(input, &mut target, &LIMITS);
    let beside = fs::read_dir(above.path()).into_iter().flatten().count();
    assert_eq!(beside, 1, "something lies beside the folder");
    let mut found = Found::default();
    found.walk(&folder, &folder);
    assert!(found.entries <= LIMITS.entries);
    assert!(found.bytes <= LIMITS.bytes + (64 << 10), "{} bytes", found.bytes);
    if let Ok(contents) = result {
        assert_eq!((contents.files, contents.bytes), (found.files, found.bytes));
    }
}

/// What lies in a folder.
#[derive(Default)]
struct Found {
    entries: usize,
    files: usize,
    bytes: u64,
}

impl Found {
    fn walk(&mut self, root: &Path, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            self.entries += 1;
            let path = entry.path();
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            if metadata.is_dir() {
                self.walk(root, &path);
            } else if metadata.is_symlink() {
                stays(root, &path);
            } else {
                assert!(metadata.is_file(), "`{}` is a special file", path.display());
                self.files += 1;
                self.bytes += metadata.len();
            }
        }
    }
}

/// Follows a link as a guest does, whose root the folder is, and refuses to go above that root.
fn stays(root: &Path, link: &Path) {
    let mut here: Vec<PathBuf> = Vec::new();
    let inner = link.strip_prefix(root).unwrap_or(link);
    let mut left: Vec<PathBuf> = inner.iter().rev().map(PathBuf::from).collect();
    let mut links = 0;
    while let Some(name) = left.pop() {
        match name.components().next() {
            Some(Component::RootDir) => here.clear(),
            Some(Component::ParentDir) => {
                let is_root = here.pop().is_none();
                assert!(!is_root, "`{}` leaves the folder", link.display());
            }
            Some(Component::Normal(_)) => {
                here.push(name);
                let path = root.join(here.iter().collect::<PathBuf>());
                let Ok(target) = fs::read_link(&path) else {
                    continue;
                };
                links += 1;
                if links > MAX_LINKS {
                    return;
                }
                here.pop();
                left.extend(target.iter().rev().map(PathBuf::from));
            }
            _ => {}
        }
    }
}

/// The archive with right sums in its headers: random mistakes would seldom get beyond a wrong one.
fn summed(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut at = 0_usize;
    while let Some(block) = at.checked_add(BLOCK).and_then(|end| bytes.get_mut(at..end)) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let header = Header::from_byte_slice(block);
        let size = header.entry_size().unwrap_or(0);
        let mut header = header.clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let blocks = usize::try_from(size).unwrap_or(usize::MAX).div_ceil(BLOCK);
        at = at.saturating_add(blocks.saturating_add(1).saturating_mul(BLOCK));
    }
    bytes
}

/// Adds an entry with any name, which the tar crate would not write.
fn put(archive: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, target: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.name[..path.len()].copy_from_slice(path.as_bytes());
        gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
    }
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    // Into memory.
    let _ = archive.append(&header, content);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    use EntryType::{
        Block, Char, Directory, Fifo, GNULongLink, GNULongName, Link, Regular, Symlink, XHeader,
    };
    const LONG: &[u8] = &[b'n'; 200];
    type Entry = (EntryType, &'static str, &'static str, &'static [u8]);
    let manifest: Entry = (
        Regular,
        "meta/package.yaml",
        "",
        b"name: kv\ntitle: KV\nauthor: us\n",
    );
    let archives: [&[Entry]; 6] = [
        &[
            manifest,
            (Directory, "bin/", "", b""),
            (Regular, "bin/kv", "", b"\x7fELF program"),
            (Symlink, "bin/link", "kv", b""),
        ],
        // Ways out.
        &[
            (Regular, "../up", "", b"x"),
            (Regular, "/root", "", b"x"),
            (Symlink, "a/b/out", "../../..", b""),
            (Regular, "a/b/out/x", "", b"x"),
        ],
        // Links through links.
        &[
            (Directory, "p/q", "", b""),
            (Symlink, "p/here", ".", b""),
            (Symlink, "p/q/up", "../here/q", b""),
            (Symlink, "root", "/", b""),
            (Symlink, "etc", "/p/q", b""),
            (Symlink, "x", "root/../..", b""),
        ],
        // What is no file.
        &[
            (Link, "hard", "bin/kv", b""),
            (Char, "null", "", b""),
            (Block, "disk", "", b""),
            (Fifo, "pipe", "", b""),
        ],
        // Names that are longer than a header, of the next entry.
        &[
            (GNULongName, "././@LongLink", "", LONG),
            (Regular, "short", "", b"x"),
            (GNULongLink, "././@LongLink", "", LONG),
            (Symlink, "link", "short", b""),
            (XHeader, "pax", "", b"18 path=some/path\n"),
            (Regular, "other", "", b"y"),
            (XHeader, "pax", "", b"12 size=999\n"),
            (Regular, "sized", "", b"z"),
        ],
        // A bomb, when it is packed.
        &[(Regular, "zeros", "", &[0; 100_000])],
    ];
    let plain = archives.map(|entries| {
        let mut archive = Builder::new(Vec::new());
        for (kind, path, target, content) in entries {
            put(&mut archive, *kind, path, target, content);
        }
        archive.into_inner().unwrap_or_default()
    });
    let packed = plain.iter().map(|bytes| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Into memory.
        let _ = encoder.write_all(bytes);
        encoder.finish().unwrap_or_default()
    });
    let packed: Vec<_> = packed.collect();
    plain.into_iter().take(5).chain(packed).collect()
}
