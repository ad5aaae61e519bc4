//! `cargo xtask inspect`.

use std::process::ExitCode;

use launcher::InstanceName;
use launcher::instance::Seen;
use launcher::log::{Entry, Reader};
use serde::Serialize;

use super::facts::Facts;
use super::instances;
use crate::failure::Failure;
use crate::printer::Printer;

/// Lines of the console that are shown: a panic's message and what came before it.
const LAST_LINES: usize = 10;

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask inspect kv
  cargo xtask inspect --json kv kv-2")]
pub(crate) struct Args {
    /// The instances
    #[arg(required = true, value_name = "NAME")]
    names: Vec<InstanceName>,

    /// Print it as JSON: a list
    #[arg(long)]
    json: bool,
}

/// All that is known of an instance.
#[derive(Debug, Serialize)]
struct All {
    #[serde(flatten)]
    facts: Facts,
    command: Option<String>,
    environment: Vec<String>,
    image_identity: String,
    console: Vec<String>,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let mut all = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match instances()?.see(name) {
            Ok(seen) => all.push(All::of(&seen)),
            Err(error) => {
                let failure = error.into();
                printer.failure(&failure);
                code = failure.exit_code();
            }
        }
    }
    if args.json {
        printer.json(&all);
    } else {
        let texts: Vec<_> = all.iter().map(All::text).collect();
        printer.data(&texts.join("\n"));
    }
    Ok(code)
}

impl All {
    fn of(seen: &Seen) -> Self {
        let request = &seen.record.request;
        // A log that cannot be read says nothing; the rest is known all the same.
        let console = Reader::open(&seen.folder).and_then(|mut reader| reader.entries());
        Self {
            facts: Facts::of(seen),
            command: request.command.clone(),
            environment: request.environment.iter().map(ToString::to_string).collect(),
            image_identity: seen.record.image.clone(),
            console: last_lines(&console.unwrap_or_default()),
        }
    }

    fn text(&self) -> String {
        let facts = &self.facts;
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let list = |list: &[String]| {
            if list.is_empty() {
                "-".to_owned()
            } else {
                list.join(", ")
            }
        };
        let labels = facts.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let labels: Vec<_> = labels.collect();
        let exit = facts.exit.as_ref();
        let exit = exit.map(|end| format!("{} ({}): {}", end.code, end.reason, end.text));
        let pid = |pid: Option<u32>| pid.map(|pid| pid.to_string());
        let rows = [
            ("name", facts.name.clone()),
            ("state", facts.state.to_owned()),
            ("exit", or_dash(&exit)),
            ("image", facts.image.clone()),
            ("image identity", self.image_identity.clone()),
            ("role", facts.role.clone()),
            ("command", or_dash(&self.command)),
            ("environment", list(&self.environment)),
            ("labels", list(&labels)),
            ("memory", format!("{} MiB", facts.memory_mib)),
            ("cpus", facts.cpus.to_string()),
            ("mac", or_dash(&facts.mac)),
            ("address", or_dash(&facts.address)),
            ("ports", list(&facts.forwards)),
            ("created", facts.created.clone()),
            ("started", or_dash(&facts.started)),
            ("ended", or_dash(&facts.ended)),
            (
                "restarts",
                format!("{} (policy: {})", facts.restarts, facts.restart_policy),
            ),
            ("qemu", or_dash(&pid(facts.qemu_pid))),
            ("supervisor", or_dash(&pid(facts.supervisor_pid))),
            ("folder", facts.folder.clone()),
        ];
        let mut text: String = rows
            .iter()
            .map(|(name, value)| format!("{name:<16}{value}\n"))
            .collect();
        text += "console, last lines:\n";
        for line in &self.console {
            text += &format!("  {line}\n");
        }
        text
    }
}

/// The last lines of a console; control characters are shown, not obeyed.
fn last_lines(entries: &[Entry]) -> Vec<String> {
    let raw: Vec<u8> = entries.iter().flat_map(Entry::raw).collect();
    let text = String::from_utf8_lossy(&raw);
    let shown = |char: char| match char {
        '\t' => vec!['\t'],
        char if char.is_control() => char.escape_default().collect(),
        char => vec![char],
    };
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    last.iter()
        .map(|line| line.chars().flat_map(shown).collect())
        .collect()
}
