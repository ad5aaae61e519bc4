//! `cargo xtask upload`: pictures to the example application, many at once.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hermitage_micro::address::Endpoint;
use hermitage_micro::directory::{Directory, Service};
use hermitage_micro::{Client, form, task};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::stack;
use crate::failure::Failure;
use crate::printer::{Printer, Verbosity};
use crate::table::{Align, Table};

/// Endings of the names of pictures in a folder, in lower case.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Most uploads at a time: master serves 32 connections, and workers need some.
const MAX_JOBS: u64 = 24;

/// kv's port, if nobody says otherwise.
const KV_PORT: u16 = 9000;

/// Arguments of `upload`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask upload photograph.jpg
  cargo xtask upload -j 8 ~/Pictures            all PNG and JPEG files in there
  cargo xtask upload --kv 10.0.2.2:9000 -n 20 photograph.jpg

stdout has a line for each picture: the id of its task, and the file.")]
pub(crate) struct Args {
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    target: Target,

    /// Uploads at a time
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=MAX_JOBS))]
    jobs: u64,

    /// Upload each picture so often
    #[arg(short = 'n', long, default_value_t = 1, value_name = "N")]
    times: usize,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where the application is.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The key-value store, which knows where master is [default: that of the stack that runs, or 127.0.0.1:9000]
    #[arg(long, value_name = "HOST:PORT", value_parser = endpoint(KV_PORT))]
    kv: Option<Endpoint>,

    /// master itself; the key-value store is not asked
    #[arg(long, value_name = "HOST:PORT", value_parser = endpoint(Service::Master.default_port()))]
    master: Option<Endpoint>,
}

/// Reads an endpoint.
fn endpoint(port: u16) -> impl Fn(&str) -> Result<Endpoint, String> + Clone + Send + Sync + 'static {
    move |text| Endpoint::parse(text, port).ok_or_else(|| "not `host:port`".to_owned())
}

impl Target {
    /// Where master is.
    pub(super) fn find(&self) -> Result<Endpoint, Failure> {
        if let Some(master) = &self.master {
            return Ok(master.clone());
        }
        let kv = match &self.kv {
            Some(kv) => kv.clone(),
            None => match stack::master(&stack::all()?) {
                Some(master) => return Ok(master),
                None => Endpoint {
                    host: "127.0.0.1".to_owned(),
                    port: KV_PORT,
                },
            },
        };
        let found = Directory::new(kv.clone()).find(Service::Master);
        found.map_err(|error| Failure::Failed(format!("no master by the key-value store {kv}: {error}")))
    }
}

/// A picture that was uploaded.
#[derive(serde::Serialize)]
struct Uploaded {
    /// Of its task; the original's master does not tell it.
    task: Option<u64>,
    file: PathBuf,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let files = pictures(&args.paths)?;
    let master = args.target.find()?;
    let files: Vec<_> = (0..args.times).flat_map(|_| files.clone()).collect();
    let bar = bar(files.iter().map(|(_, length)| length).sum(), printer);
    bar.set_message(format!("0/{} pictures", files.len()));

    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                let client = Client::default();
                while let Some((file, _)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = upload(&client, &master, file, &bar);
                    let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    results.push((file, result));
                    bar.set_message(format!("{}/{} pictures", results.len(), files.len()));
                }
            });
        }
    });
    bar.finish_and_clear();

    let results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut uploaded = Vec::new();
    let mut failed = 0;
    for (file, result) in results {
        match result {
            Ok(task) => uploaded.push(Uploaded {
                task,
                file: file.clone(),
            }),
            Err(fault) => {
                failed += 1;
                printer.warn(&format!("error: `{}` was not uploaded: {fault}", file.display()));
            }
        }
    }
    uploaded.sort_by_key(|uploaded| uploaded.task);
    print(&uploaded, args.json, printer);
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::Failed(format!(
            "{failed} of {} were not uploaded",
            files.len()
        ))),
    }
}

fn print(uploaded: &[Uploaded], json: bool, printer: &Printer) {
    if json {
        return printer.json(&uploaded);
    }
    let mut table = Table::new([("task", Align::Right), ("file", Align::Left)]);
    for Uploaded { task, file } in uploaded {
        let task = task.map_or("?".to_owned(), |task| task.to_string());
        table.row([task, file.display().to_string()]);
    }
    printer.data(&table.to_string());
}

/// Uploads a file; the id of its task.
fn upload(client: &Client, master: &Endpoint, file: &Path, bar: &ProgressBar) -> Result<Option<u64>, String> {
    let source = File::open(file).map_err(|error| error.to_string())?;
    let mut source = bar.wrap_read(source);
    let response = form::send_picture("picture", &mut source, |content| {
        client.post(&master.url("/task"), Some(content))
    });
    let response = response.map_err(|error| error.to_string())?;
    let id = response.field(task::ID_FIELD).and_then(task::parse_id);
    match response.status() {
        200 => Ok(id),
        status => {
            let mut text = String::new();
            // What it says beside the status helps, but is not needed.
            let _ = response.into_reader().take(1000).read_to_string(&mut text);
            Err(format!("{status} {text}"))
        }
    }
}

/// The pictures that paths name, and their lengths.
fn pictures(paths: &[PathBuf]) -> Result<Vec<(PathBuf, u64)>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |error| Failure::Failed(format!("cannot read `{}`: {error}", path.display()));
        let meta = fs::metadata(path).map_err(failed)?;
        if meta.is_dir() {
            let before = files.len();
            walk(path, &mut files).map_err(failed)?;
            if files.len() == before {
                let path = path.display();
                return Err(Failure::Failed(format!("no PNG and no JPEG in `{path}`")));
            }
        } else {
            files.push((path.clone(), meta.len()));
        }
    }
    Ok(files)
}

/// The pictures of a folder and those in it, in the order of their names. Links to folders are not followed: they may
/// lead back.
fn walk(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let ending = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        if entry.file_type()?.is_dir() {
            walk(&path, files)?;
        } else if ENDINGS.contains(&ending.as_str()) {
            let length = fs::metadata(&path)?.len();
            files.push((path, length));
        }
    }
    Ok(())
}

/// A bar of bytes, on a terminal alone.
pub(super) fn bar(bytes: u64, printer: &Printer) -> ProgressBar {
    let target = match printer.verbosity() {
        Verbosity::Quiet => ProgressDrawTarget::hidden(),
        Verbosity::Normal | Verbosity::Verbose => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template("[{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {wide_msg}");
    // Only a template that is wrong here fails; a plain bar serves then.
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style.progress_chars("=> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_the_pictures_in_it_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "12").unwrap();
            path
        };
        let [b, a, c] = ["b.png", "a/x.JPG", "c.jpeg"].map(write);
        write("notes.txt");
        let found = pictures(&[folder.path().to_owned(), folder.path().join("notes.txt")]).unwrap();
        let expected = [a, b, c, folder.path().join("notes.txt")].map(|path| (path, 2));
        assert_eq!(found, expected);
        let empty = tempfile::tempdir().unwrap();
        assert!(pictures(&[empty.path().to_owned()]).is_err());
        assert!(pictures(&[empty.path().join("none.png")]).is_err());
    }
}
