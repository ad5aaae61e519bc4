//! How facts about packages are shown, as text and as JSON.

use std::fmt::Write as _;
use std::path::PathBuf;

use builder::repository::{Entry, Listed as Found};

use crate::failure::causes;

pub(crate) use crate::commands::image::view::{count, size};

/// A package in a table: name, version, size, title.
pub(crate) fn row(entry: &Entry) -> [String; 4] {
    let manifest = &entry.manifest;
    [
        manifest.name.to_string(),
        entry.version(),
        size(entry.bytes),
        plain(&manifest.title),
    ]
}

/// Text that is safe on a terminal, in one line: whoever made the package chose it.
fn plain(text: &str) -> String {
    builder::inspect::shown(text.as_bytes())
}

/// An error and its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        let _ = write!(text, ": {cause}");
    }
    text
}

/// What is known of a package, as `show --json` and `search --json` print it.
#[derive(serde::Serialize)]
pub(crate) struct Package<'a> {
    name: &'a str,
    /// `null` if it has none.
    version: Option<String>,
    title: &'a str,
    author: &'a str,
    description: Option<&'a str>,
    require: Vec<String>,
    /// The roles of its services, whose programs are in it.
    roles: Vec<&'a str>,
    /// The names of its boot sets.
    config_sets: Vec<&'a str>,
    bytes: u64,
    digest: String,
    archive: PathBuf,
}

impl<'a> Package<'a> {
    pub(crate) fn new(entry: &'a Entry) -> Self {
        let manifest = &entry.manifest;
        Self {
            name: manifest.name.as_str(),
            version: manifest.version.as_ref().map(ToString::to_string),
            title: &manifest.title,
            author: &manifest.author,
            description: manifest.description.as_deref(),
            require: manifest.require.iter().map(ToString::to_string).collect(),
            roles: manifest
                .services
                .iter()
                .map(|service| service.role.as_str())
                .collect(),
            config_sets: manifest.sets.keys().map(String::as_str).collect(),
            bytes: entry.bytes,
            digest: entry.digest.to_string(),
            archive: entry.archive(),
        }
    }
}

/// A package as `list --json` prints it.
#[derive(serde::Serialize)]
pub(crate) struct Listed<'a> {
    name: &'a str,
    version: &'a str,
    package: Option<Package<'a>>,
    problem: Option<String>,
}

impl<'a> Listed<'a> {
    pub(crate) fn new(found: &'a Found) -> Self {
        let entry = found.entry.as_ref();
        Self {
            name: &found.name,
            version: &found.version,
            package: entry.ok().map(Package::new),
            problem: entry.err().map(|error| with_causes(error)),
        }
    }
}

/// A package as `verify --json` prints it.
#[derive(serde::Serialize)]
pub(crate) struct Verified<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    /// `null` if it is intact.
    pub(crate) problem: Option<String>,
}

impl<'a> Verified<'a> {
    pub(crate) fn new(found: &'a Found, problem: Option<String>) -> Self {
        Self {
            name: &found.name,
            version: &found.version,
            problem,
        }
    }
}

/// What is known of a package, as text: a fact in each line.
pub(crate) fn show(entry: &Entry) -> String {
    let facts = Package::new(entry);
    let mut text = String::new();
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<12} {}", plain(value));
        }
    };
    fact("package", facts.name);
    fact("version", facts.version.as_deref().unwrap_or("(none)"));
    fact("title", facts.title);
    fact("author", facts.author);
    fact("description", facts.description.unwrap_or_default());
    fact("requires", &facts.require.join(" "));
    fact("roles", &facts.roles.join(" "));
    fact("boot sets", &facts.config_sets.join(" "));
    fact(
        "archive",
        &format!("{}, {}", facts.archive.display(), size(facts.bytes)),
    );
    fact("digest", &facts.digest);
    text
}
