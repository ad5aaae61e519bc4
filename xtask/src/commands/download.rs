//! `cargo xtask download`: results of the example application, as files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hermitage_micro::Client;
use hermitage_micro::address::Endpoint;
use hermitage_micro::client::Response;
use hermitage_micro::task::{self, State};
use serde_json::Value;

use super::upload::{self, Target};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::table::{Align, Table};

/// Tasks that master is asked for at a time.
const PAGE: usize = 500;

/// Arguments of `download`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask download 7                        writes 7.png
  cargo xtask download --all -o inverted        every result that is there

A task that has no result yet is an error if it is named, and left out with --all.")]
pub(crate) struct Args {
    /// Ids of tasks
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    ids: Vec<u64>,

    /// Every task that is finished
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    target: Target,

    /// Folder for the files; it is made if it is not there
    #[arg(short, long, default_value = ".", value_name = "FOLDER")]
    output: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A result that is a file now.
#[derive(serde::Serialize)]
struct Downloaded {
    task: u64,
    bytes: u64,
    file: PathBuf,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let master = Master {
        client: Client::default(),
        endpoint: args.target.find()?,
    };
    fs::create_dir_all(&args.output).map_err(|error| cannot_write(&args.output, &error))?;
    let ids = if args.all {
        let (finished, others) = master.all()?;
        if others > 0 {
            printer.note(&format!("{others} tasks have no result"));
        }
        finished
    } else {
        args.ids.clone()
    };
    let bar = upload::bar(0, printer);
    let mut downloaded = Vec::new();
    for (done, id) in ids.iter().enumerate() {
        bar.set_message(format!("{}/{} results", done + 1, ids.len()));
        let file = args.output.join(format!("{id}.png"));
        let bytes = master.download(*id, &file, args.all, &bar)?;
        downloaded.push(Downloaded {
            task: *id,
            bytes,
            file,
        });
    }
    bar.finish_and_clear();
    if args.json {
        printer.json(&downloaded);
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        ("task", Align::Right),
        ("bytes", Align::Right),
        ("file", Align::Left),
    ];
    let mut table = Table::new(columns);
    for Downloaded { task, bytes, file } in &downloaded {
        table.row([task.to_string(), bytes.to_string(), file.display().to_string()]);
    }
    printer.data(&table.to_string());
    Ok(ExitCode::SUCCESS)
}

struct Master {
    client: Client,
    endpoint: Endpoint,
}

impl Master {
    fn get(&self, path: &str) -> Result<Response, Failure> {
        let failed = |error| Failure::Failed(format!("master at {} does not answer: {error}", self.endpoint));
        self.client.get(&self.endpoint.url(path)).map_err(failed)
    }

    fn text(&self, path: &str) -> Result<(u16, String), Failure> {
        let response = self.get(path)?;
        let status = response.status();
        let failed = |error| Failure::Failed(format!("master at {} broke off: {error}", self.endpoint));
        Ok((status, response.text().map_err(failed)?))
    }

    /// The tasks that are finished, and how many are not.
    fn all(&self) -> Result<(Vec<u64>, usize), Failure> {
        let (mut finished, mut others) = (Vec::new(), 0);
        let mut before = String::new();
        loop {
            let (status, text) = self.text(&format!("/tasks?limit={PAGE}{before}"))?;
            if status == 404 {
                return self.all_one_by_one();
            }
            let Some(tasks) = parse(&text).filter(|_| status == 200) else {
                return Err(Failure::Failed(format!(
                    "master gives no list of tasks: {status} {text:.200}"
                )));
            };
            let Some((last, _)) = tasks.last() else {
                finished.reverse();
                return Ok((finished, others));
            };
            before = format!("&before={last}");
            for (id, state) in tasks {
                match state {
                    State::Finished => finished.push(id),
                    _ => others += 1,
                }
            }
        }
    }

    /// As [`Self::all`], of the original's master, which keeps no list.
    fn all_one_by_one(&self) -> Result<(Vec<u64>, usize), Failure> {
        let (mut finished, mut others) = (Vec::new(), 0);
        for id in 0.. {
            match self.text(&format!("/task/{id}/ready"))? {
                (200, text) if text.trim() == "true" => finished.push(id),
                (200, _) => others += 1,
                _ => break,
            }
        }
        Ok((finished, others))
    }

    /// Writes a result to a file, under another name until it is whole.
    fn download(
        &self,
        id: u64,
        file: &Path,
        known_finished: bool,
        bar: &indicatif::ProgressBar,
    ) -> Result<u64, Failure> {
        if !known_finished {
            match self.text(&format!("/task/{id}/ready"))? {
                (200, text) if text.trim() == "true" => {}
                (200, _) => return Err(Failure::Failed(format!("task {id} has no result yet"))),
                (_, text) => return Err(Failure::Failed(format!("task {id}: {text}"))),
            }
        }
        let response = self.get(&format!("/task/{id}/download"))?;
        if response.status() != 200 {
            let status = response.status();
            let text = response.text().unwrap_or_default();
            return Err(Failure::Failed(format!(
                "task {id} is not downloaded: {status} {text}"
            )));
        }
        bar.inc_length(response.length().unwrap_or(0));
        let folder = file.parent().unwrap_or(Path::new("."));
        let failed = |error: &io::Error| cannot_write(file, error);
        let mut partial = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
        let mut source = bar.wrap_read(response.into_reader());
        let bytes = io::copy(&mut source, &mut partial).map_err(|error| failed(&error))?;
        // A temporary file is its owner's alone; this one is to be as any other.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(partial.path(), mode).map_err(|error| failed(&error))?;
        partial.persist(file).map_err(|error| failed(&error.error))?;
        Ok(bytes)
    }
}

fn parse(text: &str) -> Option<Vec<(u64, State)>> {
    let list: Value = serde_json::from_str(text).ok()?;
    let tasks = list.get("tasks")?.as_array()?;
    Some(tasks.iter().filter_map(task::of_value).collect())
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot write `{}`: {error}", path.display()))
}
