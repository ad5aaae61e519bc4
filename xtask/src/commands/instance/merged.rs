//! The consoles of several instances as one: what they wrote so far by its time, then each line as it comes.
//!
//! A thread for each instance reads its log; instances that come later, or are started again, are found by looking. It
//! ends when none of them runs.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use launcher::log::{Entry, Reader, Watch};
use launcher::time::Timestamp;
use launcher::{InstanceName, Instances};
use serde_json::json;

use super::instances;
use crate::commands::stack;
use crate::failure::Failure;
use crate::printer::Printer;

/// How often new instances are looked for: nothing tells that there is one.
const LOOK: Duration = Duration::from_millis(500);

/// Colours of names, one after the other: cyan, yellow, green, magenta, blue, red.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Where the time of day is in `2026-11-21T15:00:00.123Z`.
const TIME_OF_DAY: std::ops::Range<usize> = 11..23;

/// Which instances.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    /// Those of all stacks.
    Stacks,
    /// Those of a stack.
    Stack(String),
    /// These.
    Names(Vec<InstanceName>),
}

/// What is shown, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// Whether it goes on until all have ended.
    pub(super) follow: bool,
    /// Only what is not older.
    pub(super) since: Option<Timestamp>,
    /// Only so many of the last lines.
    pub(super) tail: Option<usize>,
    /// The whole time, not that of the day alone.
    pub(super) timestamps: bool,
    pub(super) json: bool,
}

/// Shows all consoles until all have ended; gives whether somebody read them to the end.
pub(crate) fn follow(selection: &Selection, printer: &Printer) -> Result<bool, Failure> {
    let options = Options {
        follow: true,
        ..Options::default()
    };
    show(selection, options, printer)
}

/// Shows consoles; gives whether somebody read them to the end.
pub(super) fn show(selection: &Selection, options: Options, printer: &Printer) -> Result<bool, Failure> {
    let instances = instances()?;
    let mut output = Output::new(selection.stack(), options, printer);
    let mut history = Vec::new();
    let mut logs = HashMap::new();
    for name in selection.names()? {
        // One that is removed just now has nothing to say.
        let Ok(mut log) = Log::open(&instances, &name) else {
            continue;
        };
        let entries = log.reader.entries().unwrap_or_default();
        history.extend(entries.into_iter().map(|entry| (name.clone(), entry)));
        output.widen(&name);
        logs.insert(name, log);
    }
    history.sort_by_key(|(_, entry)| entry.at);
    let is_read = output.history(history);
    if !output.options.follow || !is_read {
        return Ok(is_read);
    }
    let (sender, receiver) = mpsc::channel();
    let mut active = logs.len();
    // Of those that have ended, how far they were read.
    let mut ended: HashMap<InstanceName, Option<Reader>> = HashMap::new();
    for (name, log) in logs {
        ended.insert(name.clone(), None);
        log.follow(name, sender.clone());
    }
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(Message::Entry(name, entry)) => {
                if !output.take(&name, &entry) {
                    return Ok(false);
                }
                continue;
            }
            Ok(Message::End(name, reader)) => {
                ended.insert(name, Some(reader));
                active -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
        }
        for name in selection.names()? {
            let runs = instances
                .see(&name)
                .is_ok_and(|seen| seen.state.phase.is_supervised());
            if !runs || matches!(ended.get(&name), Some(None)) {
                continue;
            }
            if let Ok(mut log) = Log::open(&instances, &name) {
                if let Some(Some(reader)) = ended.insert(name.clone(), None) {
                    log.reader = reader;
                }
                log.follow(name, sender.clone());
                active += 1;
            }
        }
        if active == 0 {
            return Ok(true);
        }
    }
}

/// What a thread that follows a log says.
enum Message {
    /// The guest wrote something.
    Entry(InstanceName, Entry),
    /// It ended; so far its log was read.
    End(InstanceName, Reader),
}

impl Selection {
    fn names(&self) -> Result<Vec<InstanceName>, Failure> {
        let members = |stack: Option<&str>| {
            let mut members = stack::all()?;
            members.retain(|member| stack.is_none_or(|stack| member.stack == stack));
            Ok(members.into_iter().map(|member| member.seen.name).collect())
        };
        match self {
            Self::Stacks => members(None),
            Self::Stack(stack) => members(Some(stack)),
            Self::Names(names) => Ok(names.clone()),
        }
    }

    fn stack(&self) -> Option<&str> {
        match self {
            Self::Stack(stack) => Some(stack),
            Self::Stacks | Self::Names(_) => None,
        }
    }
}

/// The log of one instance.
struct Log {
    instances: Instances,
    reader: Reader,
    watch: Watch,
}

impl Log {
    fn open(instances: &Instances, name: &InstanceName) -> io::Result<Self> {
        let folder = instances.see(name).map_err(io::Error::other)?.folder;
        // The watch first, so that nothing comes between unseen.
        let watch = Watch::new(&folder)?;
        Ok(Self {
            instances: instances.clone(),
            reader: Reader::open(&folder)?,
            watch,
        })
    }

    /// Sends what comes from now on, to the instance's end.
    fn follow(mut self, name: InstanceName, sender: Sender<Message>) {
        thread::spawn(move || {
            loop {
                // Looked at first: what the guest wrote before its end is read after it.
                let seen = self.instances.see(&name);
                let goes_on = seen.is_ok_and(|seen| seen.state.phase.is_supervised());
                let mut is_read = true;
                let read = self.reader.each(|entry| {
                    is_read &= sender.send(Message::Entry(name.clone(), entry)).is_ok();
                });
                if !goes_on || !is_read || read.is_err() || self.watch.wait().is_err() {
                    break;
                }
            }
            // Where nobody listens any more, nobody needs it.
            let _ = sender.send(Message::End(name, self.reader));
        });
    }
}

/// Prints lines.
struct Output<'a> {
    options: Options,
    printer: &'a Printer,
    /// What all names begin with, which is not shown.
    prefix: String,
    width: usize,
    /// For each name its place among them, and the beginning of its line.
    seen: HashMap<InstanceName, (usize, Vec<u8>)>,
}

impl<'a> Output<'a> {
    fn new(stack: Option<&str>, options: Options, printer: &'a Printer) -> Self {
        Self {
            options,
            printer,
            prefix: stack.map_or_else(String::new, |stack| format!("{stack}-")),
            width: 0,
            seen: HashMap::new(),
        }
    }

    fn short<'n>(&self, name: &'n InstanceName) -> &'n str {
        name.as_str().strip_prefix(&self.prefix).unwrap_or(name.as_str())
    }

    fn widen(&mut self, name: &InstanceName) {
        self.width = self.width.max(self.short(name).len());
    }

    /// Prints what was written before; gives whether somebody reads it.
    fn history(&mut self, entries: Vec<(InstanceName, Entry)>) -> bool {
        let mut lines = Vec::new();
        for (name, entry) in entries {
            if self.options.since.is_none_or(|since| entry.at >= since) {
                lines.extend(self.line(&name, &entry));
            }
        }
        let first = self
            .options
            .tail
            .map_or(0, |tail| lines.len().saturating_sub(tail));
        self.printer.bytes(&lines[first..].concat())
    }

    /// Prints one more record; gives whether somebody reads it.
    fn take(&mut self, name: &InstanceName, entry: &Entry) -> bool {
        self.widen(name);
        self.line(name, entry)
            .is_none_or(|line| self.printer.bytes(&line))
    }

    /// The line that a record ends, if it ends one.
    fn line(&mut self, name: &InstanceName, entry: &Entry) -> Option<Vec<u8>> {
        let place = self.seen.len();
        let (place, begin) = self.seen.entry(name.clone()).or_insert((place, Vec::new()));
        begin.extend_from_slice(&entry.text);
        if !entry.ends_line {
            return None;
        }
        let (place, text) = (*place, std::mem::take(begin));
        let at = entry.at.to_string();
        if self.options.json {
            let text = String::from_utf8_lossy(&text);
            let line = json!({ "name": name.as_str(), "at": at, "text": text });
            return Some(format!("{line}\n").into_bytes());
        }
        let at = match self.options.timestamps {
            true => at.as_str(),
            false => &at[TIME_OF_DAY],
        };
        let label = format!("{:width$}", self.short(name), width = self.width);
        let label = match self.printer.has_colours() {
            true => format!("\x1b[{}m{label}\x1b[0m", COLOURS[place % COLOURS.len()]),
            false => label,
        };
        let mut line = format!("{label}  {at}  ").into_bytes();
        line.extend(text);
        line.push(b'\n');
        Some(line)
    }
}
