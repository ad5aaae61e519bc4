//! How facts about images are shown, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use builder::inspect::info::{self, Content};
use builder::inspect::shown;
use hermitage_erofs::format::{BLOCK, Kind};
use hermitage_erofs::reader::Inode;

/// `1.9 MB`
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// `1 file`, `2 files`
pub(crate) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// `3 minutes ago`
pub(crate) fn ago(now: SystemTime, then: SystemTime) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let seconds = now.duration_since(then).unwrap_or(Duration::ZERO).as_secs();
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length);
    unit.map_or("now".to_owned(), |(length, unit)| {
        format!("{} ago", count((seconds / length) as usize, unit))
    })
}

/// `drwxr-xr-x`, as `ls` has it, without set-user-id and the like.
pub(crate) fn mode(inode: &Inode) -> String {
    let kind = match inode.kind() {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
    };
    let bit = |(index, letter): (usize, char)| match inode.permissions() & (0o400_u16 >> index) {
        0 => '-',
        _ => letter,
    };
    std::iter::once(kind)
        .chain("rwxrwxrwx".chars().enumerate().map(bit))
        .collect()
}

/// The roles of an image, safe to be shown.
pub(crate) fn roles(content: &Content) -> Vec<String> {
    content.roles.iter().map(|role| shown(role)).collect()
}

/// An image as `ls --json` prints it.
#[derive(serde::Serialize)]
pub(crate) struct Summary<'a> {
    name: &'a str,
    path: &'a Path,
    roles: Vec<String>,
    bytes_on_disk: u64,
    files: Option<usize>,
    /// Seconds since 1970.
    composed: u64,
    problem: Option<String>,
}

impl<'a> Summary<'a> {
    pub(crate) fn new(image: &'a info::Summary) -> Self {
        let content = image.content.as_ref();
        Self {
            name: &image.name,
            path: &image.path,
            roles: content.map(roles).unwrap_or_default(),
            bytes_on_disk: image.bytes,
            files: content.map(|content| content.files).ok(),
            composed: image
                .composed
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
            problem: content.err().map(ToString::to_string),
        }
    }
}

/// What is known of an image, as `info --json` prints it.
#[derive(serde::Serialize)]
pub(crate) struct Info<'a> {
    name: &'a str,
    path: &'a Path,
    bytes_on_disk: u64,
    disk_size: u64,
    roles: Vec<String>,
    files: usize,
    /// `null` if the image has no default.
    command: Option<Vec<String>>,
    environment: Vec<String>,
    boot_sets: BTreeMap<String, BootSet>,
    partitions: Vec<Partition>,
    file_system: FileSystem,
    digest: &'a str,
}

/// A command that the image has by name.
#[derive(serde::Serialize)]
struct BootSet {
    command: Vec<String>,
    environment: Vec<String>,
}

#[derive(serde::Serialize)]
struct Partition {
    name: &'static str,
    start: u64,
    size: u64,
}

#[derive(serde::Serialize)]
struct FileSystem {
    kind: &'static str,
    label: String,
    block_size: usize,
    blocks: u32,
    inodes: u64,
    uuid: String,
}

impl<'a> Info<'a> {
    pub(crate) fn new(name: &'a str, path: &'a Path, info: &'a info::Info) -> Self {
        let texts = |texts: &[Vec<u8>]| texts.iter().map(|text| shown(text)).collect::<Vec<_>>();
        let default = info.default.as_ref();
        let partition = |partition: &info::PartitionInfo| Partition {
            name: partition.name,
            start: partition.start,
            size: partition.size,
        };
        let superblock = &info.superblock;
        let hex: Vec<_> = superblock.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let uuid = [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]].map(<[_]>::concat);
        let label = superblock.volume_name.split(|byte| *byte == 0).next();
        Self {
            name,
            path,
            bytes_on_disk: info.bytes,
            disk_size: info.disk_size,
            roles: roles(&info.content),
            files: info.content.files,
            command: default.map(|default| texts(&default.arguments)),
            environment: default
                .map(|default| texts(&default.environment))
                .unwrap_or_default(),
            boot_sets: info
                .sets
                .iter()
                .map(|(name, set)| {
                    let set = BootSet {
                        command: texts(&set.arguments),
                        environment: texts(&set.environment),
                    };
                    (shown(name.as_bytes()), set)
                })
                .collect(),
            partitions: info.partitions.iter().map(partition).collect(),
            file_system: FileSystem {
                kind: "erofs",
                label: shown(label.unwrap_or_default()),
                block_size: BLOCK,
                blocks: superblock.blocks,
                inodes: superblock.inodes,
                uuid: uuid.join("-"),
            },
            digest: &info.digest,
        }
    }
}

/// What is known of an image, as text: a fact in each line.
pub(crate) fn info(name: &str, path: &Path, info: &info::Info) -> String {
    let facts = Info::new(name, path, info);
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", format!("{name:<12} {value}").trim_end());
    };
    fact("package", shown(facts.name.as_bytes()));
    fact("file", facts.path.display().to_string());
    fact(
        "disk",
        format!("{}, {} on disk", size(facts.disk_size), size(facts.bytes_on_disk)),
    );
    fact("roles", facts.roles.join(" "));
    let command = facts
        .command
        .map_or("(none)".to_owned(), |words| shell_words::join(&words));
    fact("command", command);
    for (index, entry) in facts.environment.into_iter().enumerate() {
        fact(if index == 0 { "environment" } else { "" }, entry);
    }
    for (index, (name, set)) in facts.boot_sets.into_iter().enumerate() {
        let value = format!("{name:<12} {}", shell_words::join(&set.command));
        fact(if index == 0 { "boot sets" } else { "" }, value);
    }
    for (index, partition) in facts.partitions.iter().enumerate() {
        let Partition {
            name,
            start,
            size: bytes,
        } = partition;
        let value = format!("{name:<12} {:>9} at {start}", size(*bytes));
        fact(if index == 0 { "partitions" } else { "" }, value);
    }
    let FileSystem {
        kind,
        label,
        block_size,
        blocks,
        inodes,
        uuid,
    } = facts.file_system;
    let used = size(u64::from(blocks) * block_size as u64);
    let files = count(facts.files, "file");
    fact(
        "file system",
        format!("{kind} `{label}`, {used}: {blocks} blocks of {block_size}, {inodes} inodes, {files}"),
    );
    fact("", format!("uuid {uuid}"));
    fact("digest", facts.digest.to_owned());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let tell = |seconds| ago(now, now - Duration::from_secs(seconds));
        assert_eq!(tell(0), "now");
        assert_eq!(tell(1), "1 second ago");
        assert_eq!(tell(119), "1 minute ago");
        assert_eq!(tell(7_200), "2 hours ago");
        assert_eq!(tell(900_000), "10 days ago");
        assert_eq!(ago(now, now + Duration::from_secs(5)), "now");
    }
}
