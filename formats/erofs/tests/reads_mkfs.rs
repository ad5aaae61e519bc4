//! The reader reads what `mkfs.erofs`, the format's own tool, has written.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};
use std::process::Command;

use hermitage_erofs::format::Kind;
use hermitage_erofs::reader::{Error, FileSystem, ReadAt};

struct Raw(File);

impl ReadAt for Raw {
    type Error = std::io::Error;

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read_exact_at(buffer, offset)
    }
}

#[test]
fn reads_what_mkfs_erofs_writes() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("many")).unwrap();
    for n in 0..3000 {
        fs::write(tree.join(format!("many/{n:0200}")), n.to_string()).unwrap();
    }
    let sizes = [0, 1, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 100_000];
    for size in sizes {
        let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        fs::write(tree.join(size.to_string()), content).unwrap();
    }
    symlink("many/../100000", tree.join("link")).unwrap();
    symlink("/link", tree.join("link-to-link")).unwrap();
    symlink("loop", tree.join("loop")).unwrap();

    let image = folder.path().join("image");
    let status = Command::new("mkfs.erofs")
        .args(["--quiet", "-x-1", "-Eforce-inode-extended"])
        .args([&image, &tree])
        .status()
        .expect("mkfs.erofs (package erofs-utils) is needed");
    assert!(status.success());

    let files = FileSystem::open(Raw(File::open(image).unwrap())).unwrap();
    for size in sizes {
        let inode = files.resolve(size.to_string().as_bytes()).unwrap();
        assert_eq!((inode.kind(), inode.size()), (Kind::File, size));
        let mut content = vec![0xff; size as usize + 10];
        assert_eq!(files.read(&inode, 0, &mut content).unwrap(), size as usize);
        assert!(
            content[..size as usize]
                .iter()
                .enumerate()
                .all(|(n, byte)| *byte == (n % 251) as u8)
        );
        if size > 4000 {
            let mut middle = [0; 64];
            assert_eq!(
                files.read(&inode, 3990, &mut middle).unwrap(),
                64.min(size as usize - 3990)
            );
            assert_eq!(middle[0], (3990 % 251) as u8);
        }
    }
    let many = files.resolve(b"/many").unwrap();
    let names: Vec<_> = files
        .read_dir(&many)
        .unwrap()
        .map(|entry| entry.unwrap().name)
        .collect();
    assert_eq!(names.len(), 3000);
    assert!(names.is_sorted());
    for n in 0..3000 {
        let inode = files.resolve(format!("/many//./{n:0200}").as_bytes()).unwrap();
        assert_eq!(inode.size(), n.to_string().len() as u64);
    }
    assert_eq!(files.resolve(b"link-to-link").unwrap().size(), 100_000);
    assert_eq!(
        files.resolve(b"../../link/../many/..").unwrap_err().to_string(),
        "not a directory"
    );
    assert_eq!(files.resolve(b"many/../..").unwrap(), files.root().unwrap());
    assert!(matches!(files.resolve(b"loop"), Err(Error::TooManyLinks)));
    assert!(matches!(files.resolve(b"many/nothing"), Err(Error::NotFound)));
    let link = files.resolve_link(b"link").unwrap();
    assert_eq!(files.read_link(&link).unwrap(), b"many/../100000");
}
