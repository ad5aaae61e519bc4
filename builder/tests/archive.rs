//! Archives: what is written can be read, and what others wrote cannot do harm.

use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;

use builder::archive::read::{Discard, Sink};
use builder::archive::unpack::Folder;
use builder::archive::{ArchiveError, Compression, Contents, Limits, read, write};
use builder::gather::gather;
use builder::manifest::Manifest;
use builder::tree::Tree;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

const MANIFEST: &str = "name: kv\ntitle: KV\nauthor: us\nversion: 1.0\n";

/// What an archive holds, as lines.
#[derive(Debug, Default)]
struct Lines(Vec<String>);

impl Sink for Lines {
    fn folder(&mut self, path: &[u8]) -> io::Result<()> {
        self.0.push(format!("{}/", path.escape_ascii()));
        Ok(())
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.0
            .push(format!("{} -> {}", path.escape_ascii(), target.escape_ascii()));
        Ok(())
    }

    fn file(&mut self, path: &[u8], mode: u16) -> io::Result<()> {
        self.0.push(format!("{} {mode:o} ", path.escape_ascii()));
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        let last = self.0.last_mut().unwrap();
        last.push_str(&String::from_utf8_lossy(bytes));
        Ok(())
    }
}

/// An archive that is put together entry by entry, as an attacker would.
struct Made(Builder<Vec<u8>>);

impl Made {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// An entry with any name, which the tar crate would not write.
    fn raw(mut self, kind: EntryType, path: &str, target: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str) -> Self {
        self.raw(EntryType::Regular, path, "", b"content")
    }

    fn folder(self, path: &str) -> Self {
        self.raw(EntryType::Directory, path, "", b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Symlink, path, target, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    /// Unpacks it, into a folder in a folder in which nothing else may appear.
    fn unpack(self) -> Result<Contents, String> {
        let bytes = self.bytes();
        let above = tempfile::tempdir().unwrap();
        let mut folder = Folder::create(&above.path().join("folder")).unwrap();
        let result = read::read(bytes.as_slice(), &mut folder, &Limits::default());
        let names: Vec<_> = fs::read_dir(above.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let discarded = read::read(bytes.as_slice(), &mut Discard, &Limits::default());
        assert_eq!(
            discarded.map_err(|error| error.to_string()),
            result.as_ref().map(Clone::clone).map_err(ToString::to_string)
        );
        result.map_err(|error| error.to_string())
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A package with all that a tree may have.
fn tree(folder: &Path) -> Tree {
    fs::create_dir_all(folder.join("site/empty")).unwrap();
    fs::create_dir_all(folder.join("site").join("n".repeat(200))).unwrap();
    fs::write(folder.join("site/index.html"), "<html>").unwrap();
    fs::write(folder.join("site/secret"), "hush").unwrap();
    fs::write(
        folder.join("site").join("n".repeat(200)).join("m".repeat(255)),
        "long",
    )
    .unwrap();
    symlink("./index.html", folder.join("site/link")).unwrap();
    symlink("x".repeat(300), folder.join("site/far")).unwrap();
    let text = "name: kv\ntitle: KV\nauthor: us\nfiles:\n  - source: site\n    destination: /site\n  \
                - source: site/secret\n    destination: /etc/secret\n    mode: 0600\n";
    let path = folder.join("package.yaml");
    fs::write(&path, text).unwrap();
    gather(&[Manifest::read(&path).unwrap()], &Default::default()).unwrap()
}

#[test]
fn equal_trees_have_equal_archives_and_all_of_them_comes_back() {
    for compression in [Compression::Gzip, Compression::Plain] {
        let archives = [(); 2].map(|()| {
            let folder = tempfile::tempdir().unwrap();
            let mut bytes = Vec::new();
            write(&mut bytes, compression, &tree(folder.path()), MANIFEST, None).unwrap();
            bytes
        });
        assert!(archives[0] == archives[1]);
        let mut lines = Lines::default();
        let contents = read::read(archives[0].as_slice(), &mut lines, &Limits::default()).unwrap();
        assert_eq!(contents.manifest.as_deref(), Some(MANIFEST));
        assert_eq!((contents.files, contents.bytes), (4, 18));
        assert!(!contents.plain_modes);
        let (n, m, x) = ("n".repeat(200), "m".repeat(255), "x".repeat(300));
        assert_eq!(
            lines.0,
            [
                "etc/".to_owned(),
                "etc/secret 600 hush".to_owned(),
                "site/".to_owned(),
                "site/empty/".to_owned(),
                format!("site/far -> {x}"),
                "site/index.html 644 <html>".to_owned(),
                "site/link -> ./index.html".to_owned(),
                format!("site/{n}/"),
                format!("site/{n}/{m} 644 long"),
                "site/secret 644 hush".to_owned(),
            ]
        );
    }
}

#[test]
fn the_tar_program_reads_what_is_written_and_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(folder.path());
    let archive = folder.path().join("kv.mpm");
    write(
        fs::File::create(&archive).unwrap(),
        Compression::Gzip,
        &tree,
        MANIFEST,
        None,
    )
    .unwrap();
    let tar = |arguments: &[&str]| {
        let output = std::process::Command::new("tar")
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(tar(&["-tzf", "kv.mpm"]).starts_with("meta/package.yaml\netc\netc/secret\nsite\n"));
    fs::create_dir(folder.path().join("out")).unwrap();
    tar(&["-xzf", "kv.mpm", "-C", "out"]);
    // Not `ustar`: its names end at 255 bytes, and tar refuses to write those of the tree that are longer.
    for format in ["gnu", "pax"] {
        tar(&["--format", format, "-C", "out", "-cf", "again.tar", "."]);
        let mut lines = Lines::default();
        let file = fs::File::open(folder.path().join("again.tar")).unwrap();
        let contents = read::read(file, &mut lines, &Limits::default());
        assert_eq!(contents.unwrap().manifest.as_deref(), Some(MANIFEST), "{format}");
        assert!(
            lines.0.contains(&"site/link -> ./index.html".to_owned()),
            "{lines:?}"
        );
    }
}

#[test]
fn names_with_and_without_a_slash_or_a_dot_before_them_are_the_same() {
    for (path, folder) in [("bin/kv", "bin"), ("/bin/kv", "/bin/"), ("./bin/kv", "./bin")] {
        let mut lines = Lines::default();
        let bytes = Made::new().folder("./").folder(folder).file(path).bytes();
        read::read(bytes.as_slice(), &mut lines, &Limits::default()).unwrap();
        assert_eq!(lines.0, ["bin/", "bin/kv 644 content"]);
    }
}

#[test]
fn nothing_leaves_the_folder() {
    let fault = |made: Made| made.unpack().unwrap_err();
    let out = "leaves the archive, or is no path that a file can have";
    assert_eq!(fault(Made::new().file("../x")), format!("`../x` {out}"));
    assert_eq!(fault(Made::new().file("a/../../x")), format!("`a/../../x` {out}"));
    assert_eq!(fault(Made::new().file("a/..")), format!("`a/..` {out}"));
    assert_eq!(fault(Made::new().link("/", "x")), format!("`/` {out}"));
    // The way out is a link that is followed.
    for target in ["/tmp", "..", "../x", "a/../..", "./..", "/..", "/../tmp"] {
        let error = fault(Made::new().link("out", target).file("out/x"));
        let either = ["out of the archive", "lies in something that is a symbolic link"];
        assert!(either.iter().any(|end| error.ends_with(end)), "{target}: {error}");
        let error = fault(Made::new().link("out", target));
        assert!(error.ends_with("out of the archive"), "{target}: {error}");
    }
    assert_eq!(
        fault(Made::new().folder("real").link("out", "real").file("out/x")),
        "`out/x` lies in something that is a symbolic link"
    );
    // A link to a link, which leads further up than it says.
    let error = fault(
        Made::new()
            .folder("p/q")
            .link("p/here", ".")
            .link("x", "p/here/../.."),
    );
    assert!(error.ends_with("out of the archive"), "{error}");
}

#[test]
fn links_within_the_archive_are_taken() {
    let made = Made::new()
        .file("usr/lib/libx.so.1")
        .link("usr/lib/libx.so", "libx.so.1")
        .link("usr/bin/up", "../lib/libx.so")
        .link("lib", "/usr/lib")
        .link("root", "/")
        .link("through", "/lib/whatever")
        .link("nowhere", "is/not/there");
    assert_eq!(made.unpack().unwrap().files, 1);
}

#[test]
fn what_is_no_file_folder_or_link_is_refused() {
    for (kind, name) in [
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
        (EntryType::GNUSparse, "a sparse file"),
        (EntryType::new(b'V'), "of an unknown kind"),
    ] {
        let error = Made::new()
            .file("a")
            .raw(kind, "b", "a", b"")
            .unpack()
            .unwrap_err();
        assert_eq!(
            error,
            format!("`b` is {name}; an archive has files, folders and symbolic links")
        );
    }
}

#[test]
fn each_path_is_there_once() {
    let twice = |made: Made| assert_eq!(made.unpack().unwrap_err(), "`a` is there twice");
    twice(Made::new().file("a").file("a"));
    twice(Made::new().file("a").link("a", "b"));
    twice(Made::new().folder("a").folder("a"));
    twice(Made::new().folder("a").link("a", "b"));
    twice(Made::new().file("a/b").file("a"));
    assert_eq!(
        Made::new().file("a").file("a/b").unpack().unwrap_err(),
        "`a/b` lies in something that is a file"
    );
    // Made for what lies in it, then told of.
    Made::new().file("a/b").folder("a").unpack().unwrap();
}

#[test]
fn what_is_said_of_the_package_is_no_file_of_it() {
    let mut lines = Lines::default();
    let bytes = Made::new()
        .raw(EntryType::Regular, "/meta/package.yaml", "", MANIFEST.as_bytes())
        .raw(EntryType::Regular, "/meta/run.yaml", "", b"runtime: native\n")
        .file("/meta/other")
        .file("/metal")
        .bytes();
    let contents = read::read(bytes.as_slice(), &mut lines, &Limits::default()).unwrap();
    assert_eq!(lines.0, ["metal 644 content"]);
    assert_eq!(contents.manifest.as_deref(), Some(MANIFEST));
    assert_eq!(contents.run.as_deref(), Some("runtime: native\n"));
}

#[test]
fn every_limit_ends_the_reading() {
    let limits = Limits {
        entries: 3,
        names: 20,
        bytes: 100_000,
        ratio: 10,
        small: 10_000,
    };
    let read = |bytes: &[u8], limits: &Limits| match read::read(bytes, &mut Discard, limits) {
        Err(ArchiveError::Limit { what, max }) => format!("{max} {what}"),
        other => format!("{other:?}"),
    };
    let three = Made::new().file("a").file("b/c").bytes();
    assert!(read(&three, &limits).starts_with("Ok"));
    let four = Made::new().file("a").file("b/c").file("d").bytes();
    assert_eq!(read(&four, &limits), "3 entries");
    let long = Made::new().file("0123456789").file("abcdefghijk").bytes();
    assert_eq!(read(&long, &limits), "20 bytes of names");
    let large = Made::new()
        .raw(EntryType::Regular, "a", "", &[1; 200_000])
        .bytes();
    let too_large = "bytes when it is unpacked, too many for its size";
    assert_eq!(read(&large, &limits), format!("100000 {too_large}"));
    // 50,000 zeros become some hundred bytes: with 10 times that, the limit is the one for small archives.
    let bomb = gzip(&Made::new().raw(EntryType::Regular, "a", "", &[0; 50_000]).bytes());
    assert!(bomb.len() < 1_000);
    assert_eq!(read(&bomb, &limits), format!("10000 {too_large}"));
    let fine = Limits {
        small: 60_000,
        ..limits
    };
    assert!(read(&bomb, &fine).starts_with("Ok"));
    let name = Made::new().raw(EntryType::GNULongName, "././@LongLink", "", &[b'n'; 40_000]);
    assert_eq!(read(&name.file("x").bytes(), &limits), "32768 bytes of a name");
}

/// Gzip of endless zeros behind a header that claims 7 GB.
#[test]
fn a_bomb_is_cut_off_before_it_is_large() {
    struct Zeros(u64);
    impl Read for Zeros {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            let length = (buffer.len() as u64).min(self.0);
            self.0 -= length;
            Ok(length as usize)
        }
    }
    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(7 << 30);
    header.set_cksum();
    let bomb = flate2::read::GzEncoder::new(
        header.as_bytes().chain(Zeros(600 << 20)),
        flate2::Compression::fast(),
    );
    let error = read::read(bomb, &mut Discard, &Limits::default()).unwrap_err();
    assert!(matches!(error, ArchiveError::Limit { .. }), "{error}");
}

#[test]
fn a_damaged_or_cut_off_archive_is_told_from_a_whole_one() {
    let plain = Made::new().file("a").file("b").bytes();
    let packed = gzip(&plain);
    let read = |bytes: &[u8]| read::read(bytes, &mut Discard, &Limits::default());
    assert!(read(&plain).is_ok() && read(&packed).is_ok());
    for end in 1..packed.len() {
        let error = read(&packed[..end]).unwrap_err();
        assert!(
            matches!(error, ArchiveError::CutOff | ArchiveError::Damaged(_)),
            "{end}: {error}"
        );
    }
    assert!(matches!(read(&plain[..515]).unwrap_err(), ArchiveError::CutOff));
    let mut wrong = packed.clone();
    let last = wrong.len() - 5;
    wrong[last] ^= 1;
    assert!(
        matches!(read(&wrong).unwrap_err(), ArchiveError::Damaged(_)),
        "its checksum is not read"
    );
    assert!(matches!(
        read(b"no archive").unwrap_err(),
        ArchiveError::CutOff | ArchiveError::Damaged(_)
    ));
}

#[test]
fn what_is_wrong_with_a_file_that_is_no_archive_is_said_without_its_bytes() {
    let file = "\x1b[2Jsecret\n".repeat(100);
    let error = read::read(file.as_bytes(), &mut Discard, &Limits::default()).unwrap_err();
    let ArchiveError::Damaged(cause) = &error else {
        panic!("{error}");
    };
    let text = format!("{error}: {cause}");
    assert!(!text.contains("secret") && !text.contains('\x1b'), "{text}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_no_part_of_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(folder.path());
    for text in ["short", "longer than it was"] {
        fs::write(folder.path().join("site/index.html"), text).unwrap();
        let error = write(io::sink(), Compression::Plain, &tree, MANIFEST, None).unwrap_err();
        assert!(matches!(error, ArchiveError::Source { .. }), "{error}");
    }
}

#[test]
fn a_full_disk_is_not_the_fault_of_what_is_packed() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(folder.path());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let error = write(full, Compression::Plain, &tree, MANIFEST, None).unwrap_err();
    assert!(matches!(error, ArchiveError::Write(_)), "{error}");
    // The manifest, `/etc`, the header of `/etc/secret`: a block each, two for the manifest.
    let mut room = [0_u8; 4 * 512];
    let error = write(&mut room[..], Compression::Plain, &tree, MANIFEST, None).unwrap_err();
    assert!(matches!(error, ArchiveError::Write(_)), "{error}");
}
