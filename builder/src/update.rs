//! Brings an image that is there up to date, by writing what changed into it.
//!
//! Whenever it is stopped, the image holds the old tree or the new one. It decides, too, when a fresh composition is
//! better: that is [`crate::compose`]'s. Start at `update`.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hermitage_disk::device::Slice;
use hermitage_disk::layout::{ROOT, SECTOR};
use hermitage_disk::lock::{self, Lock};
use hermitage_disk::qcow2::{Access, Qcow2};
use hermitage_disk::table::Table;
use hermitage_disk::{BlockDevice, Image, open_image};
use hermitage_erofs::writer::{
    self, Base, Changes, Content as _, Durable, ItemKind, Obstacle, Update, WriteAt, compare_paths,
};

use crate::cache::CacheError;
use crate::compose::ComposeError;
use crate::event::{Event, Observer};
use crate::image::{Boot, ImageError, Sources, VOLUME, items};
use crate::index::{self, Index};
use crate::tree::{NodeKind, Stat, Tree};

/// How old a file's last change must be, at the time when the tree was gathered, for its stat to be trusted later: two
/// changes within one tick of the clock that stamps files, 10 ms at most, have the same time.
const SETTLED: Duration = Duration::from_millis(50);

/// What an update did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Updated {
    /// Paths that have other content, another target, another mode, or another kind.
    pub changed: usize,
    /// Paths that were not there.
    pub added: usize,
    /// Paths that are there no more.
    pub removed: usize,
    /// Bytes that were written into the image.
    pub written: u64,
}

/// What is to be brought up to date, and to what.
pub(crate) struct Request<'a> {
    pub(crate) image: &'a Path,
    pub(crate) tree: &'a Tree,
    /// When it was gathered.
    pub(crate) gathered: SystemTime,
    pub(crate) boot: &'a Boot<'a>,
    /// Whether files are read even if their stat says that they did not change.
    pub(crate) checksum: bool,
}

/// How it ended.
pub(crate) enum Outcome {
    /// The image is up to date; the digest of all that the disk holds.
    Done(Updated, blake3::Hash),
    /// The image is as it was: it is to be composed afresh, for a reason.
    Afresh(&'static str),
}

/// What is known of the image that is there.
pub(crate) struct Known {
    index: Index,
    /// Whether the index was beside it; otherwise all of the image was read.
    indexed: bool,
    disk_size: u64,
}

impl Known {
    /// Looks at an image: what is in it, or why it is to be composed afresh. The caller holds the lock of its path.
    pub(crate) fn find(path: &Path, boot: &Boot<'_>, size: Option<u64>) -> Result<Self, &'static str> {
        const DAMAGED: &str = "the old image is damaged";
        if !path.exists() {
            return Err("there is no image yet");
        }
        let image = open_image(path).map_err(|_| DAMAGED)?;
        let disk_size = image.device().size();
        if size.is_some_and(|size| size / SECTOR * SECTOR != disk_size) {
            return Err("the manifest asks for another size");
        }
        if !boot.is_in(&image).unwrap_or(false) {
            return Err("the loader or the boot configuration changed");
        }
        let (index, indexed) = know(&image, path).ok_or(DAMAGED)?;
        Ok(Self {
            index,
            indexed,
            disk_size,
        })
    }
}

/// Brings an image up to date. The caller holds the lock of its path.
pub(crate) fn update<D: BlockDevice>(
    request: &Request<'_>,
    known: Known,
    observer: &dyn Observer,
    wrap: impl FnOnce(Qcow2) -> D,
) -> Result<Outcome, ComposeError> {
    let path = request.image;
    let in_image = |source| ComposeError::Image {
        path: path.to_owned(),
        source,
    };
    let Known {
        mut index,
        indexed,
        disk_size,
    } = known;
    let digests = digests(request, &index, observer).map_err(in_image)?;
    let stats = || trusted(request.tree, request.gathered);
    let is_index_right = indexed && stats().eq(index.stats.iter().copied());
    // Of a large tree, they are much memory.
    index.stats = Vec::new();
    let file_system = |error: writer::Error| in_image(error.into());
    let update = Update::new(&index.base, items(request.tree), digests).map_err(file_system)?;
    let Changes {
        changed,
        added,
        removed,
    } = update.changes();
    let mut updated = Updated {
        changed,
        added,
        removed,
        written: 0,
    };
    if update.changes().is_empty() {
        let base = index.base;
        let digest = request.boot.digest(&update.digest(), disk_size);
        if !is_index_right {
            let mut index = index::Writer::new(path)?;
            base.nodes().for_each(|placed| index.add(&placed));
            note(index.finish(&base.superblock, stats()), observer);
        }
        return Ok(Outcome::Done(updated, digest));
    }

    let _lock = lock(path)?;
    let device = wrap(Qcow2::open(path, Access::Write)?);
    let table = Table::read(&device).map_err(|error| in_image(error.into()))?;
    let Some(extent) = table.extent(&ROOT) else {
        return Ok(Outcome::Afresh("the old image is damaged"));
    };
    match update.obstacle(extent.size) {
        Some(Obstacle::Holes) => {
            return Ok(Outcome::Afresh(
                "the update would leave too many holes: compacted",
            ));
        }
        Some(Obstacle::Room) => return Ok(Outcome::Afresh("the update has no room in the image")),
        None => {}
    }
    let slice = Slice::new(&device, extent.start, extent.size).map_err(|error| in_image(error.into()))?;
    let root = Root {
        slice,
        written: Cell::new(0),
    };
    Index::remove(path)?;
    // Nobody asks for the old tree any more, and of a large one two would be much memory.
    drop(index);
    let mut index = index::Writer::new(path)?;
    let sources = Sources::new(request.tree, observer);
    let written = update
        .write(VOLUME, &root, &sources, &mut |placed| index.add(placed))
        .map_err(file_system)?;
    updated.written = root.written.get();
    note(index.finish(&written.superblock, stats()), observer);
    let digest = request.boot.digest(&written.digest, disk_size);
    Ok(Outcome::Done(updated, digest))
}

/// What is known of an image, and whether an index told so; `None` if the image is damaged.
fn know(image: &Image, path: &Path) -> Option<(Index, bool)> {
    let files = image.root().ok()?;
    if let Some(index) = Index::load(path, files.superblock()) {
        return Some((index, true));
    }
    let index = Index {
        base: Base::read(&files).ok()?,
        stats: Vec::new(),
    };
    Some((index, false))
}

/// Tells of an index that could not be written: the image is complete without it, and the next update takes longer.
pub(crate) fn note(index: Result<(), CacheError>, observer: &dyn Observer) {
    if let Err(error) = index {
        observer.event(&Event::Note(format!("the image has no index: {error}")));
    }
}

/// The stats of the tree's files, where they changed long enough before the tree was gathered.
pub(crate) fn trusted(tree: &Tree, gathered: SystemTime) -> impl Iterator<Item = Option<Stat>> {
    let limit = gathered.checked_sub(SETTLED).unwrap_or(UNIX_EPOCH);
    let limit = limit.duration_since(UNIX_EPOCH).unwrap_or_default();
    let limit = i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
    tree.iter().filter_map(move |(_, node)| match node.kind {
        NodeKind::File { stat, .. } => Some((stat.ctime.max(stat.mtime) < limit).then_some(stat)),
        _ => None,
    })
}

/// The digest of each file: from the index if its stat is as it was, or else from its content. Tree and index are both
/// in the order of paths.
fn digests(
    request: &Request<'_>,
    index: &Index,
    observer: &dyn Observer,
) -> Result<Vec<Option<blake3::Hash>>, ImageError> {
    let sources = Sources::new(request.tree, observer);
    let files = index.base.nodes();
    let files = files.filter(|placed| matches!(placed.item.kind, ItemKind::File(_)));
    let stats = index.stats.iter().copied().chain(std::iter::repeat(None));
    let mut old = files.zip(stats).peekable();
    let mut digests = Vec::new();
    for (number, (path, node)) in request.tree.iter().enumerate() {
        let NodeKind::File { size, stat, .. } = node.kind else {
            digests.push(None);
            continue;
        };
        let bytes = path.as_bytes();
        while old
            .next_if(|(placed, _)| compare_paths(placed.item.path, bytes).is_lt())
            .is_some()
        {}
        let there = old.next_if(|(placed, _)| placed.item.path == bytes);
        let same = there.filter(|(placed, known)| {
            !request.checksum && *known == Some(stat) && placed.item.kind == ItemKind::File(size)
        });
        let digest = match same.and_then(|(placed, _)| placed.digest) {
            Some(digest) => digest,
            None => hash(&sources, number).map_err(|source| writer::Error::Read {
                path: path.to_string().into(),
                source,
            })?,
        };
        digests.push(Some(digest));
    }
    Ok(digests)
}

fn hash(sources: &Sources<'_>, number: usize) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(sources.open(number)?)?;
    Ok(hasher.finalize())
}

/// Takes the lock of one who changes the image.
fn lock(path: &Path) -> Result<Lock, ComposeError> {
    lock::exclude(path).map_err(|error| match error {
        hermitage_disk::Error::InUse { path } => ComposeError::InUse { path },
        error => error.into(),
    })
}

/// The root partition, and how much was written into it.
struct Root<'a> {
    slice: Slice<'a>,
    written: Cell<u64>,
}

impl WriteAt for Root<'_> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.written.set(self.written.get() + bytes.len() as u64);
        self.slice.write_at(offset, bytes)
    }
}

impl Durable for Root<'_> {
    fn flush(&self) -> io::Result<()> {
        self.slice.flush()
    }
}
