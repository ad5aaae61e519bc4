//! `cargo xtask logs`.

use std::collections::VecDeque;
use std::process::ExitCode;

use launcher::instance::{Pinned, State};
use launcher::log::{Entry, Reader};
use launcher::time::Timestamp;
use launcher::{Error, InstanceName, Instances};
use serde_json::json;

use super::merged::{self, Selection};
use crate::commands::stack;
use crate::failure::Failure;
use crate::printer::{self, Printer};

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask logs kv
  cargo xtask logs -f -t --tail 10 kv
  cargo xtask logs --since 10m kv
  cargo xtask logs -f worker                    all workers of a stack
  cargo xtask logs -f                           all instances of all stacks

What one guest wrote is printed byte for byte, on stdout; the lines of several have names and times before them.")]
pub(crate) struct Args {
    /// The instance; a service or a stack, for all its instances; all of all stacks, if there is none
    name: Option<InstanceName>,

    /// Go on with what the guest writes, until it ends
    #[arg(short, long)]
    follow: bool,

    /// Only what is not older: a duration such as 10m, or a time such as 2026-11-21T15:00:00Z
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_since)]
    since: Option<Timestamp>,

    /// Only so many of the last lines
    #[arg(long, value_name = "N")]
    tail: Option<usize>,

    /// Put the time before each line: UTC, milliseconds
    #[arg(short, long)]
    timestamps: bool,

    /// Print each record as a line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    if args.follow {
        printer::end_when_unread();
    }
    let instances = super::instances()?;
    let selection = match &args.name {
        None => Selection::Stacks,
        Some(name) => match super::resolve(name)?.as_slice() {
            [one] if one == name => return show(args, one, &instances, printer),
            // Also those that a stack has later.
            _ if stack::all()?.iter().any(|member| member.stack == name.as_str()) => {
                Selection::Stack(name.to_string())
            }
            names => Selection::Names(names.to_vec()),
        },
    };
    let options = merged::Options {
        follow: args.follow,
        since: args.since,
        tail: args.tail,
        timestamps: args.timestamps,
        json: args.json,
    };
    merged::show(&selection, options, printer)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the console of one instance.
fn show(
    args: &Args,
    name: &InstanceName,
    instances: &Instances,
    printer: &Printer,
) -> Result<ExitCode, Failure> {
    let seen = instances.see(name)?;
    let fault = |source| Error::Io {
        step: "read the log in",
        path: seen.folder.clone(),
        source,
    };
    // It may be renamed while it is followed.
    let folder = Pinned::new(&seen.folder).map_err(fault)?;
    // Before the log is read, so that nothing comes between unseen.
    let watch = launcher::log::Watch::new(&folder.path()).map_err(fault)?;
    let mut reader = Reader::open(&folder.path()).map_err(fault)?;
    let mut output = Output {
        args,
        printer,
        at_line_start: true,
        is_read: true,
    };
    let mut last = Last::new(args.tail);
    let since = |entry: &Entry| args.since.is_none_or(|since| entry.at >= since);
    reader
        .each(|entry| {
            let wanted = Some(entry).filter(|entry| since(entry));
            if let Some(entry) = wanted.and_then(|entry| last.push(entry)) {
                output.print(&entry);
            }
        })
        .map_err(fault)?;
    last.entries.drain(..).for_each(|entry| output.print(&entry));
    while args.follow && output.is_read {
        // Looked at first: what the guest wrote before its end is read after it.
        let goes_on = State::now(&folder.path()).is_ok_and(|state| state.phase.is_supervised());
        reader.each(|entry| output.print(&entry)).map_err(fault)?;
        if !goes_on {
            break;
        }
        watch.wait().map_err(fault)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Holds back the last lines, if it is they alone that are wanted.
struct Last {
    entries: VecDeque<Entry>,
    /// Lines that `entries` hold.
    lines: usize,
    most: Option<usize>,
}

impl Last {
    fn new(most: Option<usize>) -> Self {
        Self {
            entries: VecDeque::new(),
            lines: 0,
            most,
        }
    }

    /// Takes a record; gives it back if all are wanted.
    fn push(&mut self, entry: Entry) -> Option<Entry> {
        let Some(most) = self.most else { return Some(entry) };
        // A line begins after the end of another.
        let begins = self.entries.back().is_none_or(|last| last.ends_line);
        self.lines += usize::from(begins);
        self.entries.push_back(entry);
        while self.lines > most {
            let ended = self.entries.pop_front().is_none_or(|first| first.ends_line);
            self.lines -= usize::from(ended || self.entries.is_empty());
        }
        None
    }
}

/// Prints records.
struct Output<'a> {
    args: &'a Args,
    printer: &'a Printer,
    at_line_start: bool,
    /// Whether somebody reads what is printed.
    is_read: bool,
}

impl Output<'_> {
    fn print(&mut self, entry: &Entry) {
        let mut bytes = Vec::new();
        if self.args.json {
            let text = String::from_utf8_lossy(&entry.text);
            let line = json!({ "at": entry.at.to_string(), "text": text, "ends_line": entry.ends_line });
            bytes = format!("{line}\n").into_bytes();
        } else {
            if self.args.timestamps && self.at_line_start {
                bytes = format!("{} ", entry.at).into_bytes();
            }
            bytes.extend(entry.raw());
            self.at_line_start = entry.ends_line;
        }
        self.is_read &= self.printer.bytes(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(most: usize, lines: &[(&str, bool)]) -> String {
        let mut last = Last::new(Some(most));
        for &(text, ends_line) in lines {
            let at = "2026-11-21T15:00:00Z".parse().unwrap();
            let text = text.as_bytes().to_vec();
            assert_eq!(last.push(Entry { at, text, ends_line }), None);
        }
        let bytes = last.entries.iter().flat_map(Entry::raw).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_last_lines_are_whole_lines() {
        let lines = [("one", true), ("tw", false), ("o", true), ("three", true)];
        assert_eq!(last(0, &lines), "");
        assert_eq!(last(1, &lines), "three\n");
        assert_eq!(last(2, &lines), "two\nthree\n");
        assert_eq!(last(9, &lines), "one\ntwo\nthree\n");
        assert_eq!(last(1, &[("one", true), ("$ ", false)]), "$ ");
        assert_eq!(last(2, &[("one", true), ("$ ", false)]), "one\n$ ");
    }
}
