//! Packages that come from elsewhere: a folder, a web server on the loopback.

mod home;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use builder::event::Silent;
use builder::manifest::{PackageName, Place, Requirement};
use builder::repository::RepositoryError;
use builder::repository::pull::{Options, Origin};

use home::{Home, manifest};

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
    assert_eq!(left.count(), 0);
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
