//! The properties of files. What each one does stands beside its name in `main`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Instant;

use hermitage_runtime::Volume;

fn names(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it was to fail"),
        Err(error) => error.kind(),
    }
}

pub fn of_the_image() {
    // What composition put there.
    assert_eq!(fs::read_to_string("/srv/hello.txt").unwrap(), "hello, file\n");
    assert_eq!(
        fs::read_to_string("srv/./deep/../hello.txt").unwrap(),
        "hello, file\n"
    );
    assert_eq!(fs::read("/srv/deep/link").unwrap(), b"hello, file\n");
    assert_eq!(fs::read("/srv/empty").unwrap(), b"");
    assert!(names("/").is_superset(&["bin", "proc", "srv", "tmp"].map(String::from).into()));
    assert_eq!(
        names("/srv"),
        ["big", "deep", "empty", "hello.txt"].map(String::from).into()
    );
    assert_eq!(names("/srv/deep").len(), 300, "and the link");
    for entry in fs::read_dir("/srv").unwrap().map(Result::unwrap) {
        let is_folder = entry.file_name() == "deep";
        assert_eq!(entry.file_type().unwrap().is_dir(), is_folder, "{entry:?}");
        assert_eq!(entry.metadata().unwrap().is_file(), !is_folder, "{entry:?}");
    }
    let metadata = fs::metadata("/srv/hello.txt").unwrap();
    assert!(metadata.is_file() && metadata.len() == 12);
    assert!(fs::symlink_metadata("/srv/deep/link").unwrap().is_symlink());

    let mut file = File::open("/srv/hello.txt").unwrap();
    let mut word = [0; 4];
    assert_eq!(file.seek(SeekFrom::End(-5)).unwrap(), 7);
    file.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"file");
    let mut other = file.try_clone().unwrap();
    assert_eq!(
        other.seek(SeekFrom::Current(-4)).unwrap(),
        7,
        "a clone is at the same place"
    );
    assert_eq!(file.seek(SeekFrom::Start(1000)).unwrap(), 1000);
    assert_eq!(other.read(&mut word).unwrap(), 0);
    assert_eq!(kind(file.seek(SeekFrom::Current(-1001))), ErrorKind::InvalidInput);
    file.sync_all().unwrap();

    // What cannot be says why.
    assert_eq!(kind(File::open("/srv/nothing")), ErrorKind::NotFound);
    assert_eq!(kind(File::open("/srv/hello.txt/x")), ErrorKind::NotADirectory);
    assert_eq!(kind(fs::read_dir("/srv/hello.txt")), ErrorKind::NotADirectory);
    assert_eq!(kind(fs::read("/srv")), ErrorKind::IsADirectory);
    assert_eq!(
        kind(File::create("/srv/hello.txt")),
        ErrorKind::ReadOnlyFilesystem
    );
    assert_eq!(kind(File::create("/srv/new")), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(kind(File::create_new("/srv/empty")), ErrorKind::AlreadyExists);
    assert_eq!(kind(fs::create_dir("/srv/new")), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(kind(fs::remove_file("/srv/empty")), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(
        kind(fs::rename("/srv/empty", "/srv/new")),
        ErrorKind::ReadOnlyFilesystem
    );
    // Nothing is mounted there, which is said once.
    assert_eq!(kind(File::open("/data/new")), ErrorKind::NotFound);
    assert_eq!(kind(File::create("/data/new")), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(kind(fs::create_dir("/data/new")), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(
        kind(fs::rename("/srv/empty", "/tmp/new")),
        ErrorKind::CrossesDevices
    );

    // What is in memory is as before.
    assert_eq!(kind(File::open("/tmp/nothing")), ErrorKind::NotFound);
    fs::write("/tmp/note", "kept for a while").unwrap();
    let mut note = File::open("/srv/../tmp/note").unwrap();
    assert_eq!(note.seek(SeekFrom::Start(9)).unwrap(), 9);
    let mut rest = String::new();
    note.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "a while");
    fs::remove_file("/tmp/note").unwrap();

    // More than the table had at first, all at once, by several threads.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let files: Vec<_> = (0..100)
                    .map(|at| File::open(format!("/srv/deep/{at}")).unwrap())
                    .collect();
                for (at, mut file) in files.into_iter().enumerate() {
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text, at.to_string().repeat(500));
                }
            });
        }
    });
    // Large reads go past what is read ahead for small ones, in the same file at the same time.
    thread::scope(|scope| {
        for thread in 0..6 {
            scope.spawn(move || {
                let mut file = File::open("/srv/big").unwrap();
                for turn in 0..8 {
                    let offset = (thread * 101 + turn * 13) << 20 | thread;
                    for length in [5, 700_001, 100_000] {
                        let mut bytes = vec![1; length];
                        file.seek(SeekFrom::Start(offset)).unwrap();
                        file.read_exact(&mut bytes).unwrap();
                        assert!(
                            (offset..)
                                .map(byte_of_big)
                                .zip(&bytes)
                                .all(|(byte, read)| byte == *read)
                        );
                    }
                }
            });
        }
    });
    println!("all is as it should be");
}

/// What its test wrote to the large file, at an offset.
fn byte_of_big(offset: u64) -> u8 {
    let (stretch, within) = (offset >> 20, offset % (1 << 20));
    if within < 10_000 {
        (stretch * 31 + within * 7 + within / 256) as u8 | 1
    } else {
        0
    }
}

pub fn serve(path: &str) {
    let listener = TcpListener::bind("0.0.0.0:9000").unwrap();
    for stream in listener.incoming().map(Result::unwrap) {
        let path = path.to_owned();
        thread::spawn(move || {
            let mut file = File::open(path).unwrap();
            let mut answers = stream.try_clone().unwrap();
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let (offset, length) = line.split_once(' ').unwrap();
                file.seek(SeekFrom::Start(offset.parse().unwrap())).unwrap();
                let mut range = (&mut file).take(length.parse().unwrap());
                std::io::copy(&mut range, &mut answers).unwrap();
                answers.flush().unwrap();
            }
        });
    }
}

pub fn speed(path: &str, label: &str, length: u64) {
    let report = |what: &str, size: usize, begin: Instant| {
        let seconds = begin.elapsed().as_secs_f64();
        println!("{what} {size}: {:.0} MB/s", length as f64 / seconds / 1e6);
    };
    let volume = Volume::open(label).unwrap();
    for size in [4096, 64 << 10, 1 << 20] {
        let mut buffer = vec![0; size];
        let begin = Instant::now();
        let mut file = File::open(path).unwrap();
        for _ in 0..length / size as u64 {
            file.read_exact(&mut buffer).unwrap();
        }
        report("file", size, begin);
        let begin = Instant::now();
        for at in 0..length / size as u64 {
            volume.read_at(&mut buffer, at * size as u64).unwrap();
        }
        report("volume", size, begin);
    }
}

/// The first boot writes, each further one checks and changes; what is printed is the number of the boot.
pub fn of_a_volume(label: &str, end: &str) {
    let data = Path::new("/data");
    let mounted = hermitage_runtime::folder::mount(label);
    if label == "/data" {
        assert_eq!(
            kind(mounted),
            ErrorKind::AlreadyExists,
            "it is there before `main`"
        );
    } else {
        assert_eq!(mounted.unwrap(), data);
        assert_eq!(
            kind(hermitage_runtime::folder::mount(label)),
            ErrorKind::AlreadyExists
        );
    }
    assert!(names("/").contains("data"));
    let counter = data.join("boots");
    let boots: u64 = fs::read_to_string(&counter).map_or(0, |text| text.parse().unwrap());
    println!("boot {boots}");
    let folder = data.join("deep/er");
    if boots == 0 {
        assert!(names(&data).is_empty());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("big"), pattern(0, 300_000)).unwrap();
    } else {
        assert_eq!(names(&folder), ["big", "log"].map(String::from).into());
        assert!(fs::read(folder.join("big")).unwrap() == pattern(0, 300_000));
        assert_eq!(
            fs::read_to_string(folder.join("log")).unwrap(),
            "again\n".repeat(boots as usize)
        );
    }
    let mut log = File::options()
        .append(true)
        .create(true)
        .open(folder.join("log"))
        .unwrap();
    log.write_all(b"again\n").unwrap();

    // All that can be done with a file.
    let path = data.join("a");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    file.write_all(&pattern(0, 100_000)).unwrap();
    file.seek(SeekFrom::Start(50_000)).unwrap();
    file.write_all(b"middle").unwrap();
    file.set_len(60_000).unwrap();
    file.seek(SeekFrom::End(-10_000)).unwrap();
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).unwrap();
    assert!(rest[..6] == *b"middle" && rest[6..] == pattern(50_006, 9_994));
    fs::rename(&path, data.join("b")).unwrap();
    assert_eq!(kind(File::open(&path)), ErrorKind::NotFound);
    assert_eq!(file.metadata().unwrap().len(), 60_000);
    fs::remove_file(data.join("b")).unwrap();
    file.seek(SeekFrom::Start(50_000)).unwrap();
    file.read_exact(&mut rest[..6]).unwrap();
    assert_eq!(&rest[..6], b"middle", "it is open");
    drop(file);
    assert_eq!(
        kind(fs::remove_dir(data.join("deep"))),
        ErrorKind::DirectoryNotEmpty
    );
    assert_eq!(kind(fs::create_dir(&folder)), ErrorKind::AlreadyExists);
    assert_eq!(
        kind(fs::rename(data.join("deep"), folder.join("x"))),
        ErrorKind::InvalidInput
    );
    assert_eq!(kind(fs::rename(&folder, "/tmp/x")), ErrorKind::CrossesDevices);
    fs::create_dir_all(data.join("gone/with/all")).unwrap();
    fs::write(data.join("gone/with/all/this"), "x").unwrap();
    fs::remove_dir_all(data.join("gone")).unwrap();

    fs::write(&counter, (boots + 1).to_string()).unwrap();
    if end == "cut" {
        File::open(&counter).unwrap().sync_all().unwrap();
        println!("safe");
        // What comes now is lost, or not, when the power goes.
        fs::write(data.join("later"), pattern(0, 10_000)).unwrap();
        fs::remove_file(data.join("later")).unwrap();
        loop {
            thread::park();
        }
    }
}

/// Knows nothing of volumes: `/data` is a folder.
pub fn fill() {
    let data = Path::new("/data");
    let put = |number: usize| {
        let path = data.join(number.to_string());
        let mut file = File::create(path)?;
        file.write_all(&pattern(number, 1_000_000))?;
        file.sync_all()
    };
    // Whoever was here before has filled it.
    let before = names(data).len();
    let mut files = before;
    let full = loop {
        match put(files) {
            Ok(()) => files += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    println!("{before} files were there, {files} are");
    fs::remove_file(data.join(files.to_string())).unwrap();
    for number in 0..files {
        let content = fs::read(data.join(number.to_string())).unwrap();
        assert!(content == pattern(number, 1_000_000), "file {number}");
    }
    // It goes on.
    fs::remove_file(data.join((files - 1).to_string())).unwrap();
    put(files - 1).unwrap();
    println!("it goes on");
}

fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| (at % 251) as u8).collect()
}
