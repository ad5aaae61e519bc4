//! What we ask of apt: which versions of a package there are, and the files of some. No root is needed: nothing is
//! installed, and where the machine has no package lists, we keep our own in the cache.
//!
//! apt itself verifies signatures and hashes; a file that was downloaded and verified is not downloaded again.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, CacheError, failed};
use crate::event::{Event, Observer, Stage, Unit};
use crate::process::{self, Invocation, Output, ProcessError, Watch};

/// Where our own package lists lie in the cache.
pub(super) const LISTS: &str = "toolchain/apt";

/// apt's programs on this machine.
#[derive(Debug)]
pub(super) struct Apt {
    get: PathBuf,
    cache: PathBuf,
    pub(super) dpkg_deb: PathBuf,
    /// Options for every call: our own package lists, where the machine has none.
    options: Vec<String>,
}

/// A version of a package, as apt knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
}

/// A file that apt would download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// The name that it gets.
    pub(super) file: String,
    /// Its size in bytes.
    pub(super) size: u64,
}

impl Remote {
    /// The package: file names are `<package>_<version>_<architecture>.deb`.
    pub(super) fn package(&self) -> &str {
        self.file.split('_').next().unwrap_or(&self.file)
    }
}

impl Apt {
    /// Looks for apt's programs. An error says which is missing, as a fragment of a sentence.
    pub(super) fn find(path: &OsStr) -> Result<Self, String> {
        let find =
            |name: &str| process::find(name, path).ok_or_else(|| format!("no `{name}` on this machine"));
        Ok(Self {
            get: find("apt-get")?,
            cache: find("apt-cache")?,
            dpkg_deb: find("dpkg-deb")?,
            options: Vec::new(),
        })
    }

    /// Fetches the package lists: the machine's own as root; otherwise into a folder of ours.
    pub(super) fn update(&mut self, cache: &Cache, observer: &dyn Observer) -> Result<(), AptError> {
        if !rustix::process::geteuid().is_root() {
            let folder = cache.path(LISTS);
            let lists = folder.join("lists");
            fs::create_dir_all(lists.join("partial")).map_err(failed("create", &folder))?;
            self.options = vec![
                "-o".to_owned(),
                format!("Dir::State::Lists={}", lists.display()),
                "-o".to_owned(),
                format!("Dir::Cache={}", folder.display()),
            ];
        }
        self.get().arg("update").run(observer)?;
        Ok(())
    }

    /// All versions of these packages, in apt's order; packages that do not exist are left out.
    pub(super) fn versions(&self, names: &[&str], observer: &dyn Observer) -> Result<Vec<Package>, AptError> {
        let output = self.cache().arg("madison").args(names).run(observer)?;
        Ok(parse_madison(&output.text()))
    }

    /// The packages that this version depends on.
    pub(super) fn depends(&self, package: &Package, observer: &dyn Observer) -> Result<String, AptError> {
        let wanted = format!("{}={}", package.name, package.version);
        let output = self.cache().arg("show").arg(wanted).run(observer)?;
        let text = output.text();
        let depends = text.lines().find_map(|line| line.strip_prefix("Depends: "));
        Ok(depends.unwrap_or_default().to_owned())
    }

    /// What this machine would have to download to install `name`: it and all that it needs, less what is there.
    pub(super) fn missing_for(&self, name: &str, observer: &dyn Observer) -> Result<Vec<Remote>, AptError> {
        let output = self
            .get()
            .args(["--print-uris", "--yes", "-qq", "--no-install-recommends"])
            // Nothing is changed, so no lock is needed, which only root could take.
            .args(["-o", "Debug::NoLocking=1", "install", name])
            .run(observer)?;
        Ok(parse_uris(&output))
    }

    /// Downloads the packages (`name` or `name=version`) into `folder`, and gives the files.
    pub(super) fn download(
        &self,
        packages: &[String],
        folder: &Path,
        observer: &dyn Observer,
    ) -> Result<Vec<Remote>, AptError> {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let listed = self
            .get()
            .args(["download", "--print-uris"])
            .args(packages)
            .run(observer)?;
        let mut files = parse_uris(&listed);
        // The largest first: whoever unpacks several at once is then done soonest.
        files.sort_by_key(|file| Reverse(file.size));
        let total = files.iter().map(|file| file.size).sum();
        self.get()
            .arg("download")
            .args(packages)
            .directory(folder)
            .watch(observer, |watch| {
                if matches!(watch, Watch::Tick) {
                    observer.event(&Event::Progress {
                        stage: Stage::Toolchain,
                        unit: Unit::Bytes,
                        done: files.iter().map(|file| downloaded(file, folder)).sum(),
                        total: Some(total),
                        current: "download".to_owned(),
                    });
                }
            })?;
        Ok(files)
    }

    fn get(&self) -> Invocation {
        Invocation::new(&self.get).args(&self.options).env("LC_ALL", "C")
    }

    fn cache(&self) -> Invocation {
        Invocation::new(&self.cache)
            .args(&self.options)
            .env("LC_ALL", "C")
    }
}

/// Why apt gave no result.
#[derive(Debug)]
pub(super) enum AptError {
    Process(ProcessError),
    Cache(CacheError),
}

impl From<ProcessError> for AptError {
    fn from(error: ProcessError) -> Self {
        Self::Process(error)
    }
}

impl From<CacheError> for AptError {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

fn downloaded(file: &Remote, folder: &Path) -> u64 {
    let size = folder
        .join(&file.file)
        .metadata()
        .map_or(0, |metadata| metadata.len());
    size.min(file.size)
}

/// Lines of `name | version | source`; a package in several sources has as many lines.
fn parse_madison(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for line in text.lines() {
        let mut columns = line.split('|').map(str::trim);
        if let (Some(name), Some(version), Some(source)) = (columns.next(), columns.next(), columns.next()) {
            let package = Package {
                name: name.to_owned(),
                version: version.to_owned(),
            };
            if !source.ends_with(" Sources") && !packages.contains(&package) {
                packages.push(package);
            }
        }
    }
    packages
}

/// Lines of `'URI' file size hash`.
fn parse_uris(output: &Output) -> Vec<Remote> {
    let remote = |line: &str| {
        let mut words = line.strip_prefix('\'')?.split_whitespace().skip(1);
        Some(Remote {
            file: words.next()?.to_owned(),
            size: words.next()?.parse().ok()?,
        })
    };
    output.text().lines().filter_map(remote).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_version_once_and_no_sources() {
        let text = " rustc-web | 1.96.0+dfsg1-1~deb12u2 | http://mirror/security bookworm-security/main amd64 Packages\n \
                     rustc-web | 1.85.0+dfsg3-1~deb12u3 | http://mirror/debian bookworm/main amd64 Packages\n \
                     rustc-web | 1.85.0+dfsg3-1~deb12u3 | http://other/debian bookworm/main amd64 Packages\n \
                     rustc-web | 1.85.0+dfsg3-1~deb12u3 | http://mirror/debian bookworm/main Sources\n";
        let versions: Vec<_> = parse_madison(text)
            .into_iter()
            .map(|package| package.version)
            .collect();
        assert_eq!(versions, ["1.96.0+dfsg1-1~deb12u2", "1.85.0+dfsg3-1~deb12u3"]);
    }

    #[test]
    fn reads_file_names_and_sizes() {
        let stdout = b"'http://mirror/pool/lld-19_19.1.7-3%7edeb12u1_amd64.deb' lld-19_1%3a19.1.7-3~deb12u1_amd64.deb 1367372 SHA256:41\n";
        let files = parse_uris(&Output {
            stdout: stdout.to_vec(),
            stderr: Vec::new(),
        });
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].package(), "lld-19");
        assert_eq!(files[0].size, 1_367_372);
    }
}
