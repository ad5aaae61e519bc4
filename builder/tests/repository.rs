//! The repository of packages, and packages that come from elsewhere: a folder, a web server on the loopback.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use builder::archive::{Compression, write};
use builder::cache::Cache;
use builder::environment::Environment;
use builder::event::Silent;
use builder::gather::gather;
use builder::manifest::{Manifest, PackageName, Place, Requirement, Version};
use builder::repository::pull::{Options, Origin};
use builder::repository::{Repository, RepositoryError};
use builder::resolve::{PackageSource as _, resolve};

/// A folder with a repository, its cache, and whatever a test puts there.
struct Home {
    folder: tempfile::TempDir,
    repository: Repository,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment {
            cache: Some(folder.path().join("cache")),
            ..Environment::default()
        };
        let cache = Cache::new(&environment).unwrap();
        let repository = Repository::new(&folder.path().join("root"), cache);
        Self { folder, repository }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An archive `<folder>/<name>.mpm` with a file, and its manifest and digest beside it.
    fn archive(&self, folder: &str, manifest: &str, content: &str) -> PathBuf {
        let source = self.path("source");
        let _ = fs::remove_dir_all(&source);
        fs::create_dir_all(source.join("files")).unwrap();
        fs::create_dir_all(self.path(folder)).unwrap();
        fs::write(source.join("files/motd"), content).unwrap();
        let text = format!("{manifest}files:\n  - source: files\n    destination: /etc\n");
        fs::write(source.join("package.yaml"), &text).unwrap();
        let package = Manifest::read(&source.join("package.yaml")).unwrap();
        let path = self.path(folder).join(format!("{}.mpm", package.name));
        let tree = gather(&[package], &Default::default()).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, Compression::Gzip, &tree, &text, None).unwrap();
        fs::write(&path, &bytes).unwrap();
        fs::write(path.with_extension("yaml"), text).unwrap();
        let digest = format!("blake3:{}\n", blake3::hash(&bytes));
        fs::write(path.with_extension("digest"), digest).unwrap();
        path
    }

    fn import(&self, path: &Path) -> Result<bool, RepositoryError> {
        Ok(self.repository.import(path, false, &Silent)?.unchanged)
    }

    fn listed(&self) -> Vec<String> {
        let listed = self.repository.list().unwrap();
        let line = |listed: &builder::repository::Listed| {
            let state = if listed.entry.is_ok() { "" } else { " broken" };
            format!("{}@{}{state}", listed.name, listed.version)
        };
        listed.iter().map(line).collect()
    }
}

fn manifest(name: &str, version: &str) -> String {
    format!("name: {name}\ntitle: The {name}\nauthor: us\nversion: {version}\n")
}

fn requirement(text: &str) -> Requirement {
    let (name, range) = text
        .split_once('@')
        .map_or((text, None), |(name, range)| (name, Some(range)));
    Requirement {
        name: PackageName::new(name).unwrap(),
        range: range.map(|range| range.parse().unwrap()),
        place: Place::default(),
    }
}

#[test]
fn versions_of_a_package_live_side_by_side_and_the_newest_comes_first() {
    let place = Home::new();
    for version in ["0.9", "0.10", "0.2.1"] {
        let archive = place.archive("in", &manifest("base", version), version);
        assert!(!place.import(&archive).unwrap());
        assert!(place.import(&archive).unwrap(), "the same again");
    }
    assert_eq!(place.listed(), ["base@0.10.0", "base@0.9.0", "base@0.2.1"]);
    let name = PackageName::new("base").unwrap();
    let find = |version: Option<&str>| {
        let version = version.map(|version| Version::new(version).unwrap());
        place
            .repository
            .find(&name, version.as_ref())
            .map(|entry| entry.version())
    };
    assert_eq!(find(None).unwrap(), "0.10");
    assert_eq!(find(Some("0.2.1")).unwrap(), "0.2.1");
    assert_eq!(
        find(Some("3")).unwrap_err().to_string(),
        "there is no package `base@3` in the repository"
    );
    let removed = place
        .repository
        .remove(&name, Version::new("0.9.0").as_ref(), &Silent);
    assert_eq!(removed.unwrap(), ["base@0.9.0"]);
    place.repository.remove(&name, None, &Silent).unwrap();
    assert!(place.listed().is_empty());
    assert!(!place.path("root/packages/base").exists());
}

#[test]
fn other_content_of_the_same_version_is_refused_unless_it_is_to_replace() {
    let place = Home::new();
    place
        .import(&place.archive("in", &manifest("base", "1"), "one"))
        .unwrap();
    let other = place.archive("in", &manifest("base", "1.0"), "two");
    let error = place.import(&other).unwrap_err();
    assert!(matches!(error, RepositoryError::Exists { .. }), "{error}");
    let replaced = place.repository.import(&other, true, &Silent).unwrap();
    assert!(!replaced.unchanged);
    assert!(place.repository.verify(&replaced.entry).is_none());
    let names = fs::read_dir(place.path("root/packages")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["base"]);
}

#[test]
fn a_wrong_digest_beside_an_archive_keeps_it_out() {
    let place = Home::new();
    let archive = place.archive("in", &manifest("base", "1"), "one");
    let digest = archive.with_extension("digest");
    fs::write(&digest, format!("blake3:{}\n", blake3::hash(b"other"))).unwrap();
    let error = place.import(&archive).unwrap_err();
    assert!(matches!(error, RepositoryError::Digest { .. }), "{error}");
    fs::write(&digest, "nonsense").unwrap();
    let error = place.import(&archive).unwrap_err();
    assert!(matches!(error, RepositoryError::NoDigest(_)), "{error}");
    assert!(place.listed().is_empty());
    fs::remove_file(&digest).unwrap();
    place.import(&archive).unwrap();
}

#[test]
fn what_is_damaged_is_told_and_does_not_hide_the_rest() {
    let place = Home::new();
    for name in ["one", "two", "three"] {
        place
            .import(&place.archive("in", &manifest(name, "1"), name))
            .unwrap();
    }
    let folder = |name: &str| place.path("root/packages").join(name).join("1.0.0");
    fs::write(folder("one").join("digest"), "nonsense").unwrap();
    let mut bytes = fs::read(folder("two").join("package.mpm")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(folder("two").join("package.mpm"), bytes).unwrap();
    // What a killed run left, and what is none of ours.
    fs::create_dir(place.path("root/packages/.incoming.partial")).unwrap();
    fs::create_dir(place.path("root/packages/odd")).unwrap();
    assert_eq!(place.listed(), ["one@1.0.0 broken", "three@1.0.0", "two@1.0.0"]);
    let listed = place.repository.list().unwrap();
    let problems: Vec<_> = listed
        .iter()
        .filter_map(|listed| place.repository.verify(listed.entry.as_ref().ok()?))
        .collect();
    assert!(
        matches!(problems[..], [RepositoryError::Digest { .. }]),
        "{problems:?}"
    );
    place
        .import(&place.archive("in", &manifest("four", "1"), "4"))
        .unwrap();
    assert!(!place.path("root/packages/.incoming.partial").exists());
    let name = PackageName::new("one").unwrap();
    place.repository.remove(&name, None, &Silent).unwrap();
}

#[test]
fn two_imports_at_once_do_not_disturb_each_other() {
    let place = Home::new();
    let archives: Vec<_> = (0..4)
        .map(|n| place.archive(&format!("in{n}"), &manifest("base", &n.to_string()), "x"))
        .collect();
    std::thread::scope(|scope| {
        for archive in &archives {
            scope.spawn(|| (0..5).for_each(|_| assert!(place.import(archive).is_ok())));
        }
    });
    assert_eq!(
        place.listed(),
        ["base@3.0.0", "base@2.0.0", "base@1.0.0", "base@0.0.0"]
    );
}

#[test]
fn the_most_relevant_package_is_found_first() {
    let place = Home::new();
    for (name, title, description) in [
        ("node", "A runtime", "x"),
        ("node-micro", "Small", "x"),
        ("supernode", "Large", "x"),
        ("a", "Node for all", "x"),
        ("b", "Nodeless", "x"),
        ("c", "Other", "like a NODE"),
        ("d", "Other", "nothing"),
    ] {
        let text =
            format!("name: {name}\ntitle: {title}\nauthor: us\ndescription: {description}\nversion: 1\n");
        place.import(&place.archive("in", &text, name)).unwrap();
    }
    place
        .import(&place.archive("in", &manifest("node", "2"), "2"))
        .unwrap();
    let search = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let found = place.repository.search(&words).unwrap();
        let names = found
            .iter()
            .map(|entry| format!("{}@{}", entry.manifest.name, entry.version()));
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        search(&["Node"]),
        ["node@2", "node-micro@1", "supernode@1", "a@1", "b@1", "c@1"]
    );
    assert_eq!(search(&["node", "small"]), ["node-micro@1"]);
    assert!(search(&["node", "nowhere"]).is_empty());
}

#[test]
fn a_package_from_the_repository_is_composed_as_it_was_built() {
    let place = Home::new();
    place
        .import(&place.archive("in", &manifest("base", "1.2"), "plain"))
        .unwrap();
    let app = "name: app\ntitle: App\nauthor: us\nrequire:\n  - base@^1\n";
    fs::write(place.path("package.yaml"), app).unwrap();
    let app = Manifest::read(&place.path("package.yaml")).unwrap();
    let resolution = resolve(app, &[&place.repository]).unwrap();
    resolution.provide(&[&place.repository]).unwrap();
    let tree = gather(resolution.packages(), &Default::default()).unwrap();
    let paths: Vec<_> = tree
        .iter()
        .map(|(path, node)| format!("{path} {:o}", node.mode))
        .collect();
    assert_eq!(paths, ["/etc 755", "/etc/motd 644"]);
    assert_eq!(place.repository.names(), [PackageName::new("base").unwrap()]);
}

#[test]
fn permissions_and_programs_come_with_the_archive() {
    let place = Home::new();
    let source = place.path("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("key"), "k").unwrap();
    fs::write(source.join("kv"), "program").unwrap();
    let text = format!(
        "{}services:\n  - services/kv\nfiles:\n  - source: key\n    destination: /etc/key\n    mode: 0600\n",
        manifest("kv", "1")
    );
    fs::write(source.join("package.yaml"), &text).unwrap();
    let package = Manifest::read(&source.join("package.yaml")).unwrap();
    let binaries = [("kv".to_owned(), source.join("kv"))].into();
    let tree = gather(&[package], &binaries).unwrap();
    let archive = place.path("kv.mpm");
    write(
        fs::File::create(&archive).unwrap(),
        Compression::Plain,
        &tree,
        &text,
        None,
    )
    .unwrap();
    place.import(&archive).unwrap();
    let candidates = place
        .repository
        .candidates(&PackageName::new("kv").unwrap())
        .unwrap();
    assert!(candidates[0].services.is_empty());
    place.repository.provide(&candidates[0]).unwrap();
    let again = gather(&candidates, &Default::default()).unwrap();
    let shape = |tree: &builder::tree::Tree| {
        let nodes = tree.iter().map(|(path, node)| format!("{path} {:o}", node.mode));
        nodes.collect::<Vec<_>>()
    };
    assert_eq!(shape(&again), shape(&tree));
    assert_eq!(
        shape(&tree),
        ["/bin 755", "/bin/kv 755", "/etc 755", "/etc/key 600"]
    );

    let empty = gather(&[], &Default::default()).unwrap();
    write(
        fs::File::create(&archive).unwrap(),
        Compression::Plain,
        &empty,
        &text,
        None,
    )
    .unwrap();
    let error = place.import(&archive).unwrap_err();
    assert!(matches!(error, RepositoryError::NoProgram { .. }), "{error}");
}

#[test]
fn a_name_in_an_archive_is_no_pattern_and_an_ignore_file_there_is_a_file() {
    let place = Home::new();
    let archive = place.path("odd.mpm");
    let text = manifest("odd", "1");
    // Common permissions, and such as are kept path by path.
    for mode in [0o644, 0o600] {
        let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
        let mut put = |path: &str, content: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            if path.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
            }
            builder
                .append_data(&mut header, path, content.as_bytes())
                .unwrap();
        };
        put("meta/package.yaml", &text);
        for name in [
            "*",
            ".hermitageignore",
            "[a].js",
            "[empty]/",
            "back\\slash",
            "{b}",
        ] {
            let content = if name.ends_with('/') { "" } else { "*" };
            put(&format!("site/{name}"), content);
        }
        drop(builder.into_inner().unwrap());
        place.repository.import(&archive, true, &Silent).unwrap();
        let candidates = place
            .repository
            .candidates(&PackageName::new("odd").unwrap())
            .unwrap();
        place.repository.provide(&candidates[0]).unwrap();
        let tree = gather(&candidates, &Default::default()).unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_string()).collect();
        let names = [
            "",
            "/*",
            "/.hermitageignore",
            "/[a].js",
            "/[empty]",
            "/back\\slash",
            "/{b}",
        ];
        assert_eq!(paths, names.map(|name| format!("/site{name}")), "{mode:o}");
    }
}

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// As it should, ranges included.
    Proper,
    /// Sends everything, whatever was asked for.
    NoRanges,
    /// Closes the connection in the middle of an archive, each time.
    CutsOff,
    /// As `CutsOff`, and knows no ranges.
    CutsOffNoRanges,
    /// Sends half an archive, then nothing.
    Silent,
    /// Has another archive than its digest says.
    Wrong,
}

/// A web server for a folder. It ends with the test's process.
struct Server {
    base: String,
    manner: Arc<Mutex<Manner>>,
    /// Path and range of each request.
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(folder: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            base,
            manner: Arc::new(Mutex::new(manner)),
            log: Arc::default(),
        };
        let (folder, manner, log) = (
            folder.to_owned(),
            Arc::clone(&server.manner),
            Arc::clone(&server.log),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let manner = *manner.lock().unwrap();
                let (folder, log) = (folder.clone(), Arc::clone(&log));
                // A silent answer must not hold up the next one.
                std::thread::spawn(move || answer(stream, &folder, manner, &log));
            }
        });
        server
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn answer(mut stream: TcpStream, folder: &Path, manner: Manner, log: &Mutex<Vec<String>>) {
    let mut input = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)) else {
        return;
    };
    let header = |line: &String| {
        Some(
            line.to_lowercase()
                .strip_prefix("range: bytes=")?
                .trim_end_matches('-')
                .to_owned(),
        )
    };
    let range = lines.iter().find_map(header);
    log.lock().unwrap().push(match &range {
        Some(range) => format!("{path} from {range}"),
        None => path.to_owned(),
    });
    let Ok(mut bytes) = fs::read(folder.join(path.trim_start_matches('/'))) else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let archive = path.ends_with(".mpm");
    if archive && manner == Manner::Wrong {
        bytes[20] ^= 1;
    }
    let ranges = !matches!(manner, Manner::NoRanges | Manner::CutsOffNoRanges);
    let start = range
        .filter(|_| ranges)
        .map_or(0, |range| range.parse::<usize>().unwrap());
    let (total, body) = (bytes.len(), &bytes[start..]);
    let mut head = match start {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}\r\n",
            total - 1
        ),
    };
    if ranges {
        head += "Accept-Ranges: bytes\r\n";
    }
    head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let sent = match manner {
        Manner::CutsOff | Manner::CutsOffNoRanges | Manner::Silent if archive => {
            &body[..body.len().div_ceil(2)]
        }
        _ => body,
    };
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(sent));
    if manner == Manner::Silent && archive {
        // Until the other side goes.
        let mut line = String::new();
        let _ = input.read_line(&mut line);
    }
}

/// A server with `base` 1.5, and how it is pulled.
fn pull(place: &Home, server: &Server, wanted: &str) -> Result<bool, RepositoryError> {
    let options = Options {
        patience: Duration::from_secs(1),
        ..Options::default()
    };
    let origin = Origin::parse(&server.base).unwrap();
    let pulled = place
        .repository
        .pull(&requirement(wanted), &origin, options, &Silent)?;
    assert!(place.repository.verify(&pulled.imported.entry).is_none());
    Ok(pulled.checked)
}

fn served(manner: Manner) -> (Home, Server) {
    let place = Home::new();
    // Content that does not compress, so that there are parts to be cut.
    let content: String = (0..2000)
        .map(|n| blake3::hash(&[n as u8, (n >> 8) as u8]).to_hex().to_string())
        .collect();
    place.archive("web/packages", &manifest("base", "1.5"), &content);
    let server = Server::new(&place.path("web"), manner);
    (place, server)
}

#[test]
fn a_package_is_pulled_with_its_digest_and_not_twice() {
    let (place, server) = served(Manner::Proper);
    assert!(pull(&place, &server, "base@^1.2").unwrap());
    assert_eq!(place.listed(), ["base@1.5.0"]);
    let packages = |suffix: &str| format!("/packages/base{suffix}");
    assert_eq!(
        server.log(),
        [packages(".yaml"), packages(".digest"), packages(".mpm")]
    );
    assert!(pull(&place, &server, "base").unwrap());
    assert_eq!(server.log(), [packages(".yaml"), packages(".digest")]);
    let error = pull(&place, &server, "base@^2").unwrap_err().to_string();
    assert_eq!(
        error,
        format!("`{}` has `base@^2` as 1.5, which does not fit", server.base)
    );
    let error = pull(&place, &server, "other").unwrap_err().to_string();
    assert_eq!(error, format!("`{}` has no package `other`", server.base));
    fs::remove_file(place.path("web/packages/base.mpm")).unwrap();
    place
        .repository
        .remove(&PackageName::new("base").unwrap(), None, &Silent)
        .unwrap();
    let error = pull(&place, &server, "base").unwrap_err();
    assert!(matches!(error, RepositoryError::NotThere { .. }), "{error}");
}

#[test]
fn a_source_without_digests_is_taken_and_said_to_be_unchecked() {
    let (place, server) = served(Manner::Proper);
    fs::remove_file(place.path("web/packages/base.digest")).unwrap();
    assert!(!pull(&place, &server, "base").unwrap());
}

#[test]
fn what_is_cut_off_is_gone_on_with() {
    let (place, server) = served(Manner::CutsOff);
    assert!(pull(&place, &server, "base").unwrap());
    let asked = server.log();
    assert!(asked.len() > 5, "{asked:?}");
    assert!(asked[3].starts_with("/packages/base.mpm from "), "{asked:?}");
}

#[test]
fn the_next_pull_goes_on_where_the_last_one_was_stopped() {
    let (place, server) = served(Manner::Silent);
    *server.manner.lock().unwrap() = Manner::CutsOffNoRanges;
    let error = pull(&place, &server, "base").unwrap_err();
    assert!(matches!(error, RepositoryError::CutOff { .. }), "{error}");
    assert!(place.listed().is_empty());
    server.log();
    *server.manner.lock().unwrap() = Manner::Proper;
    pull(&place, &server, "base").unwrap();
    let asked = server.log();
    assert!(asked[2].starts_with("/packages/base.mpm from "), "{asked:?}");
    // A server that does not know of ranges sends all of it again.
    *server.manner.lock().unwrap() = Manner::CutsOffNoRanges;
    let name = PackageName::new("base").unwrap();
    place.repository.remove(&name, None, &Silent).unwrap();
    pull(&place, &server, "base").unwrap_err();
    *server.manner.lock().unwrap() = Manner::NoRanges;
    pull(&place, &server, "base").unwrap();
    let left = fs::read_dir(place.path("cache/downloads")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().path()).collect();
    assert!(
        left.iter().all(|path| path.extension().unwrap() == "lock"),
        "{left:?}"
    );
}

#[test]
fn a_silent_server_is_not_waited_for_for_ever() {
    let (place, server) = served(Manner::Silent);
    // Ranges would bring half of the rest each time.
    fs::write(place.path("web/packages/base.mpm"), "x").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = Server {
        base: format!("http://{}", listener.local_addr().unwrap()),
        manner: Arc::clone(&server.manner),
        log: Arc::default(),
    };
    let error = pull(&place, &deaf, "base").unwrap_err();
    assert!(matches!(error, RepositoryError::Silent { .. }), "{error}");
    assert!(place.listed().is_empty());
}

#[test]
fn why_a_server_cannot_be_asked_is_said_once() {
    let (place, server) = served(Manner::Proper);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = Server {
        base: format!("http://{}", listener.local_addr().unwrap()),
        manner: Arc::clone(&server.manner),
        log: Arc::default(),
    };
    drop(listener);
    let error = pull(&place, &gone, "base").unwrap_err();
    let cause = std::error::Error::source(&error).expect("a cause");
    assert!(cause.to_string().contains("refused"), "{cause}");
    assert!(cause.source().is_none());
}

#[test]
fn what_is_not_what_its_digest_says_is_not_taken() {
    let (place, server) = served(Manner::Wrong);
    let error = pull(&place, &server, "base").unwrap_err();
    assert!(matches!(error, RepositoryError::Digest { .. }), "{error}");
    assert!(place.listed().is_empty());
    *server.manner.lock().unwrap() = Manner::Proper;
    pull(&place, &server, "base").unwrap();
}

#[test]
fn a_folder_is_a_source_as_a_server_is() {
    let place = Home::new();
    place.archive("other/packages", &manifest("base", "1.5"), "x");
    let pull = |folder: &str, wanted: &str| {
        let origin = Origin::Folder(place.path(folder));
        let pulled = place
            .repository
            .pull(&requirement(wanted), &origin, Options::default(), &Silent);
        pulled.map(|pulled| (pulled.imported.entry.version(), pulled.checked))
    };
    assert_eq!(pull("other", "base@1").unwrap(), ("1.5".to_owned(), true));
    assert_eq!(pull("other/packages", "base").unwrap(), ("1.5".to_owned(), true));
    assert!(pull("other", "base@2").is_err() && pull("other", "none").is_err());
    // Another repository, with several versions.
    let far = Home::new();
    for version in ["2.1", "2.2", "3.0"] {
        far.import(&far.archive("in", &manifest("base", version), version))
            .unwrap();
    }
    let origin = Origin::Folder(far.path("root"));
    let pulled = place
        .repository
        .pull(&requirement("base@^2"), &origin, Options::default(), &Silent);
    assert_eq!(pulled.unwrap().imported.entry.version(), "2.2");
}
