//! `cargo xtask package`: packages as files, and the repository that keeps them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use builder::archive::Compression;
use builder::cache::Cache;
use builder::environment::{Environment, PACKAGES};
use builder::event::Event;
use builder::event::Observer as _;
use builder::manifest::{Manifest, PackageName, Place, Requirement, Version};
use builder::repository::pull::{self, Options, Origin};
use builder::repository::{self, BuildError, Imported, Repository};
use builder::session::Session;
use clap::Subcommand;

use crate::failure::Failure;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::table::{Align, Table};
use crate::workspace;

mod view;

/// Arguments of `package`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask package build kv
  cargo xtask package import kv.mpm
  cargo xtask package search store

Packages are kept in packages/ of $HERMITAGE_ROOT [default: ~/.hermitage]. `compose` takes from there what a
package requires and manifests/ does not have.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first package.yaml
    #[command(after_help = "Example:\n  cargo xtask package init manifests/web")]
    Init {
        /// Folder of the package; made if it is not there
        #[arg(default_value = ".")]
        folder: PathBuf,

        /// Name of the package [default: that of the folder]
        #[arg(long, value_parser = parse_name)]
        name: Option<PackageName>,
    },
    /// Make the archive of a package: its files, and the compiled programs of its services
    #[command(after_help = "\
Example:
  cargo xtask package build kv -o shared/packages

Beside NAME.mpm are written NAME.yaml and NAME.digest. A folder with such files is a source for
`package pull`, as it is or behind a web server. Equal packages give equal archives.")]
    Build {
        /// Package: the name of a folder in manifests/, or a path
        #[arg(default_value = "./")]
        package: String,

        /// Folder to write to
        #[arg(short, long, default_value = ".")]
        output: PathBuf,

        /// Write a plain tar file, without gzip
        #[arg(long)]
        plain: bool,
    },
    /// Take a package into the repository
    #[command(after_help = "\
Example:
  cargo xtask package import kv.mpm

Of an archive, the manifest in it counts, or else NAME.yaml beside it; NAME.digest beside it is checked.
A folder is a package, which is built, or one with archives, such as $CAPSTAN_ROOT.")]
    Import {
        /// Archive or folder
        #[arg(value_name = "ARCHIVE|FOLDER")]
        from: PathBuf,

        /// Replace a package of the same name and version
        #[arg(long)]
        force: bool,
    },
    /// List the packages in the repository
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  cargo xtask package list --json"
    )]
    List {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Find packages by words in their names, titles and descriptions
    #[command(after_help = "\
Example:
  cargo xtask package search key store

All words must be there. First come packages of which a word is the name, then the start of the name,
in the name, a word of the title, in the title, in the description.")]
    Search {
        /// Words
        #[arg(required = true)]
        words: Vec<String>,

        /// Print the packages as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a package is
    #[command(after_help = "Example:\n  cargo xtask package show kv@1.2.0")]
    Show {
        /// Package, the newest version of it unless one is given
        #[arg(value_name = "NAME[@VERSION]", value_parser = parse_versioned)]
        package: Versioned,

        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a package from the repository, all versions of it unless one is given
    #[command(after_help = "Example:\n  cargo xtask package rm kv@1.2.0")]
    Rm {
        /// Package
        #[arg(value_name = "NAME[@VERSION]", value_parser = parse_versioned)]
        package: Versioned,
    },
    /// Check archives against their digests; the exit code is 1 if one is not what it was
    #[command(after_help = "Example:\n  cargo xtask package verify")]
    Verify {
        /// Package; all of them if none is given
        #[arg(value_parser = parse_name)]
        name: Option<PackageName>,

        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring a package from a folder or a web server
    #[command(after_help = "\
Example:
  cargo xtask package pull kv@^1.2 --from http://127.0.0.1:8000

Asked for are BASE/packages/NAME.yaml, NAME.digest and NAME.mpm. A download that is cut off is gone on with
by the next pull, if the source has a digest. HERMITAGE_PACKAGES is taken if --from is not given.")]
    Pull {
        /// Package, and the versions that do
        #[arg(value_name = "NAME[@RANGE]", value_parser = parse_requirement)]
        package: Requirement,

        /// Folder, or address that begins with http://
        #[arg(long, value_name = "FOLDER|URL")]
        from: Option<String>,

        /// Replace a package of the same name and version
        #[arg(long)]
        force: bool,
    },
}

/// A package, and maybe one version of it.
#[derive(Clone, Debug)]
struct Versioned {
    name: PackageName,
    version: Option<Version>,
}

fn parse_name(text: &str) -> Result<PackageName, &'static str> {
    PackageName::new(text)
        .ok_or("a name has at most 64 letters, digits, `-`, `_` or `.`, the first a letter or a digit")
}

fn parse_versioned(text: &str) -> Result<Versioned, &'static str> {
    let (name, version) = match text.split_once('@') {
        None => (text, None),
        Some((name, version)) => {
            let version = Version::new(version).ok_or("a version is up to three numbers, such as `1.2.0`")?;
            (name, Some(version))
        }
    };
    let name = parse_name(name)?;
    Ok(Versioned { name, version })
}

fn parse_requirement(text: &str) -> Result<Requirement, String> {
    let (name, range) = match text.split_once('@') {
        None => (text, None),
        Some((name, range)) => {
            let range = range
                .parse()
                .map_err(|error| format!("`{range}` is no range: {error}"))?;
            (name, Some(range))
        }
    };
    Ok(Requirement {
        name: parse_name(name)?,
        range,
        place: Place::default(),
    })
}

/// The user's repository; `None` if nothing says where it is.
pub(super) fn repository(environment: &Environment) -> Option<Repository> {
    let cache = Cache::new(environment).ok()?;
    launcher::environment::root().map(|root| Repository::new(&root, cache))
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let environment = Environment::read();
    let progress = &Progress::new(printer);
    let repository = || {
        repository(&environment).ok_or_else(|| {
            Failure::Usage("neither HERMITAGE_ROOT nor HOME says where packages are kept".to_owned())
        })
    };
    match &args.command {
        Command::Init { folder, name } => {
            let path = repository::init(folder, name.as_ref())?;
            printer.note(&format!("{}: written", path.display()));
        }
        Command::Build {
            package,
            output,
            plain,
        } => build(package, output, *plain, &environment, progress, printer)?,
        Command::Import { from, force } => {
            import(from, *force, &repository()?, &environment, progress, printer)?;
        }
        Command::List { json } => list(*json, &repository()?, printer)?,
        Command::Search { words, json } => {
            let found = repository()?.search(words)?;
            if *json {
                let found: Vec<_> = found.iter().map(view::Package::new).collect();
                printer.json(&found);
            } else {
                let mut table = table();
                found.iter().for_each(|entry| table.row(view::row(entry)));
                printer.data(&table.to_string());
                if found.is_empty() {
                    printer.note("no package has all of these words");
                }
            }
        }
        Command::Show { package, json } => {
            let entry = repository()?.find(&package.name, package.version.as_ref())?;
            match json {
                true => printer.json(&view::Package::new(&entry)),
                false => printer.data(&view::show(&entry)),
            }
        }
        Command::Rm { package } => {
            for removed in repository()?.remove(&package.name, package.version.as_ref(), progress)? {
                printer.note(&format!("{removed}: removed"));
            }
        }
        Command::Verify { name, json } => verify(name.as_ref(), *json, &repository()?, printer)?,
        Command::Pull { package, from, force } => {
            let from = from.as_ref().or(environment.packages.as_ref());
            let from = from.ok_or_else(|| {
                Failure::Usage(format!(
                    "give `--from FOLDER` or `--from http://...`, or set `{PACKAGES}`"
                ))
            })?;
            let options = Options {
                replace: *force,
                offline: environment.offline,
                ..Options::default()
            };
            let pulled = repository()?.pull(package, &Origin::parse(from)?, options, progress)?;
            say(&pulled.imported, printer);
            if !pulled.checked {
                let digest = pulled.imported.entry.digest;
                printer.note(&format!(
                    "not checked: the source has no digest; what came is {digest}"
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn build(
    package: &str,
    output: &Path,
    plain: bool,
    environment: &Environment,
    progress: &Progress<'_>,
    printer: &Printer,
) -> Result<(), Failure> {
    let compression = match plain {
        true => Compression::Plain,
        false => Compression::Gzip,
    };
    let manifest = super::compose::manifest(&workspace::root(), package)?;
    let built = repository::build(&session(environment, progress), &manifest, output, compression)?;
    printer.note(&format!(
        "{}: {}, {}, {}",
        workspace::shown(&built.archive).display(),
        view::size(built.bytes),
        view::count(built.files, "file"),
        built.digest
    ));
    Ok(())
}

fn session<'a>(environment: &Environment, progress: &'a Progress<'_>) -> Session<'a> {
    Session {
        workspace: workspace::root(),
        environment: environment.clone(),
        observer: progress,
    }
}

fn import(
    from: &Path,
    force: bool,
    repository: &Repository,
    environment: &Environment,
    progress: &Progress<'_>,
    printer: &Printer,
) -> Result<(), Failure> {
    if !from.is_dir() {
        say(&repository.import(from, force, progress)?, printer);
        return Ok(());
    }
    if let Some(manifest) = Manifest::find(from) {
        let folder = tempfile::tempdir()
            .map_err(|error| Failure::Failed(format!("cannot make a temporary folder: {error}")))?;
        let session = session(environment, progress);
        let built = repository::build(&session, &manifest, folder.path(), Compression::Gzip)?;
        say(&repository.import(&built.archive, force, progress)?, printer);
        return Ok(());
    }
    let archives = pull::archives(from)?;
    if archives.is_empty() {
        let from = from.display();
        return Err(Failure::Failed(format!(
            "`{from}` has neither a package.yaml nor archives"
        )));
    }
    // What is wrong with one is no reason to leave the others.
    let mut failed = 0;
    for archive in &archives {
        match repository.import(archive, force, progress) {
            Ok(imported) => say(&imported, printer),
            Err(error) => {
                printer.failure(&error.into());
                failed += 1;
            }
        }
    }
    match failed {
        0 => Ok(()),
        n => Err(Failure::Failed(format!(
            "{n} of {} could not be imported",
            view::count(archives.len(), "archive")
        ))),
    }
}

/// `kv@1.2.0: 1.4 MB`
fn say(imported: &Imported, printer: &Printer) {
    let entry = &imported.entry;
    let what = match imported.unchanged {
        true => "is there already".to_owned(),
        false => view::size(entry.bytes),
    };
    printer.note(&format!("{}@{}: {what}", entry.manifest.name, entry.version()));
    for warning in &entry.manifest.warnings {
        Progress::new(printer).event(&Event::Warning(warning.clone()));
    }
}

fn table() -> Table<4> {
    Table::new([
        ("name", Align::Left),
        ("version", Align::Left),
        ("size", Align::Right),
        ("title", Align::Left),
    ])
}

fn list(json: bool, repository: &Repository, printer: &Printer) -> Result<(), Failure> {
    let listed = repository.list()?;
    if json {
        let listed: Vec<_> = listed.iter().map(view::Listed::new).collect();
        printer.json(&listed);
        return Ok(());
    }
    let mut table = table();
    for listed in &listed {
        match &listed.entry {
            Ok(entry) => table.row(view::row(entry)),
            Err(error) => {
                let (name, version) = (listed.name.clone(), listed.version.clone());
                printer.warn(&format!("{name}@{version}: {error}"));
                table.row([name, version, "-".to_owned(), "(cannot be read)".to_owned()]);
            }
        }
    }
    printer.data(&table.to_string());
    Ok(())
}

fn verify(
    name: Option<&PackageName>,
    json: bool,
    repository: &Repository,
    printer: &Printer,
) -> Result<(), Failure> {
    let listed = match name {
        Some(name) => repository.versions(name.as_str())?,
        None => repository.list()?,
    };
    if let (Some(name), true) = (name, listed.is_empty()) {
        repository.find(name, None)?;
    }
    let checked: Vec<_> = listed
        .iter()
        .map(|listed| {
            let problem = match &listed.entry {
                Ok(entry) => repository.verify(entry).map(|error| view::with_causes(&error)),
                Err(error) => Some(view::with_causes(error)),
            };
            view::Verified::new(listed, problem)
        })
        .collect();
    let wrong = checked.iter().filter(|checked| checked.problem.is_some()).count();
    if json {
        printer.json(&checked);
    } else {
        for view::Verified {
            name,
            version,
            problem,
        } in &checked
        {
            let problem = problem.as_deref().unwrap_or("intact");
            printer.data(&format!("{name}@{version}: {problem}\n"));
        }
    }
    match wrong {
        0 => Ok(()),
        n => Err(Failure::Failed(format!(
            "{n} of {} cannot be used",
            view::count(checked.len(), "package")
        ))),
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Package(error) => error.into(),
            error => Self::Build(error),
        }
    }
}
