//! `cargo xtask completions`: a script for the user's shell, which then asks `complete-words` for what may follow.
//!
//! Users type `cargo xtask`, so what is completed is `cargo`: the script takes the words behind `xtask`, and leaves
//! all others to the completion of `cargo` that was there before. Flags, commands and their values are clap's business;
//! names of images, instances and packages are looked up here, at each question.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, CommandFactory as _, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate, complete};
use launcher::volume::{VolumeName, Volumes};

use crate::cli::Cli;
use crate::commands::run::request::composed;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::workspace;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Install:
  bash   cargo xtask completions bash > ~/.local/share/hermitage.bash; echo '. ~/.local/share/hermitage.bash' >> ~/.bashrc
  zsh    cargo xtask completions zsh > ~/.hermitage.zsh; echo '. ~/.hermitage.zsh' >> ~/.zshrc    (behind `compinit`)
  fish   cargo xtask completions fish > ~/.config/fish/conf.d/hermitage.fish

The script names the program in this workspace's target folder; without it nothing is completed.")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The shells that there are scripts for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("completions/cargo.bash"),
            Self::Zsh => include_str!("completions/cargo.zsh"),
            Self::Fish => include_str!("completions/cargo.fish"),
        }
    }
}

/// What a script has in place of the path of this program.
const PROGRAM: &str = "@PROGRAM@";

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let program = env::current_exe()
        .map_err(|error| Failure::Failed(format!("this program's own path is not known: {error}")))?;
    let program = program.display().to_string();
    // The same quoting is understood by all three.
    let script = args
        .shell
        .script()
        .replace(PROGRAM, &shell_words::quote(&program));
    printer.data(&script);
    Ok(ExitCode::SUCCESS)
}

/// Arguments of `complete-words`, which the scripts run.
#[derive(Debug, clap::Args)]
pub(crate) struct Words {
    /// `xtask` and the words behind it; the last one, which may be empty, is to be completed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Prints what the last word may become, one on each line, with a tab and words about it where there are some.
pub(crate) fn complete_words(args: &Words, printer: &Printer) -> ExitCode {
    let Some(last) = args.words.len().checked_sub(1) else {
        return ExitCode::SUCCESS;
    };
    let mut command = with_names(Cli::command());
    let folder = env::current_dir().ok();
    // A line that clap cannot follow is one that nothing is known about.
    let candidates = complete(&mut command, args.words.clone(), last, folder.as_deref()).unwrap_or_default();
    let mut text = String::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.is_hide_set()) {
        let value = candidate.get_value().to_string_lossy();
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        match help.lines().next() {
            Some(help) => writeln!(text, "{value}\t{help}"),
            None => writeln!(text, "{value}"),
        }
        .unwrap_or_else(|_| unreachable!("a string takes all text"));
    }
    printer.data(&text);
    ExitCode::SUCCESS
}

/// Commands whose `NAME` is an instance.
const OF_INSTANCES: [&str; 13] = [
    "attach", "inspect", "kill", "logs", "ps", "rename", "restart", "rm", "start", "stats", "stop", "top",
    "wait",
];

/// Tells clap where names come from.
fn with_names(command: clap::Command) -> clap::Command {
    let commands: Vec<String> = command
        .get_subcommands()
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    commands.into_iter().fold(command, |command, name| {
        command.mut_subcommand(&name, |subcommand| {
            let of_instances = OF_INSTANCES.contains(&name.as_str());
            with_names(subcommand).mut_args(|argument| name_of(argument, of_instances))
        })
    })
}

/// An argument with the names that its value may be, by what its help calls the value.
fn name_of(argument: Arg, of_instances: bool) -> Arg {
    let called = argument.get_value_names().and_then(|names| names.first());
    let is = |name: &str| called.is_some_and(|called| called.eq_ignore_ascii_case(name));
    let is_image = is("IMAGE");
    let is_package = is("PACKAGE");
    if is("VOLUME@SNAPSHOT") {
        return argument.add(ArgValueCandidates::new(snapshots));
    }
    if is("VOLUME[@SNAPSHOT]") {
        return argument.add(ArgValueCandidates::new(|| {
            volumes().into_iter().chain(snapshots()).collect()
        }));
    }
    if is("VOLUME") || is("VOLUME[:LABEL][:ro]") {
        return argument.add(ArgValueCandidates::new(volumes));
    }
    let is_instance =
        is("INSTANCE") || (of_instances && (is("NAME") || is("NAMES") || argument.is_positional()));
    match (is_image, is_package, is_instance) {
        (true, ..) => argument.add(ArgValueCandidates::new(images)),
        (_, true, _) => argument.add(ArgValueCandidates::new(packages)),
        (.., true) => argument.add(ArgValueCandidates::new(instances)),
        _ => argument,
    }
}

fn images() -> Vec<CompletionCandidate> {
    candidates(composed(&workspace::root().join("images")))
}

fn packages() -> Vec<CompletionCandidate> {
    candidates(folders(&workspace::root().join("manifests")))
}

fn instances() -> Vec<CompletionCandidate> {
    let root = launcher::environment::root();
    candidates(root.map_or_else(Vec::new, |root| folders(&root.join("instances"))))
}

fn volumes() -> Vec<CompletionCandidate> {
    let names = known_volumes().map_or_else(Vec::new, |(_, names)| names);
    candidates(names.iter().map(ToString::to_string).collect())
}

fn snapshots() -> Vec<CompletionCandidate> {
    let Some((volumes, names)) = known_volumes() else {
        return Vec::new();
    };
    let snapshots = names
        .iter()
        .flat_map(|name| volumes.snapshots(name).unwrap_or_default());
    candidates(
        snapshots
            .map(|snapshot| format!("{}@{}", snapshot.volume, snapshot.name))
            .collect(),
    )
}

fn known_volumes() -> Option<(Volumes, Vec<VolumeName>)> {
    let volumes = Volumes::new(&launcher::environment::root()?);
    let names = volumes.names().ok()?;
    Some((volumes, names))
}

fn candidates(names: Vec<String>) -> Vec<CompletionCandidate> {
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Names of the folders in a folder, in order; none where there is none.
fn folders(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}
