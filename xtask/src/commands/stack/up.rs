//! `cargo xtask up`.

use std::process::ExitCode;
use std::time::Instant;

use launcher::service;
use serde::Serialize;
use serde_json::json;
use stack::Stack;
use stack::plan::{Action, Step};

use super::{Scale, image, of, read, run as run_stack};
use crate::commands::front::{self, Front};
use crate::commands::instance::merged::{self, Selection};
use crate::failure::Failure;
use crate::printer::Printer;

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask up node-micro                     in front: shows all consoles; Ctrl-C stops all
  cargo xtask up -d --scale worker=3 node-micro
  cargo xtask up -d node-micro                  again: changes only what has changed

What runs is made what stack.yaml says: missing instances are started, those whose settings or image
changed are replaced, those that are not wanted are removed. The image is composed if it is missing.")]
pub(crate) struct Args {
    /// Package: the name of a folder in manifests/ with a stack.yaml, or a path to one
    package: String,

    /// Return when all is ready, and print the names of the instances
    #[arg(short, long)]
    detach: bool,

    /// Number of instances of a service, in place of the file's
    #[arg(long, value_name = "SERVICE=N")]
    scale: Vec<Scale>,

    /// Print what was done as JSON: a list
    #[arg(long, requires = "detach")]
    json: bool,
}

/// An instance, as `--json` prints it.
#[derive(Serialize)]
struct Line {
    name: String,
    service: String,
    action: &'static str,
    forwards: Vec<String>,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let mut stack = read(&args.package)?;
    for scale in &args.scale {
        stack.scale(&scale.service, scale.replicas)?;
    }
    let begin = Instant::now();
    let image = image(&stack, printer)?;
    let steps = run_stack(printer, |runner| runner.up(&stack, &image, None))?;
    say_done(&stack, &steps, begin, printer);
    let lines = lines(&stack, &steps)?;
    for line in &lines {
        for forward in &line.forwards {
            printer.note(&format!("{}: forwarding {forward}", line.name));
        }
    }
    if !args.detach {
        return follow(&stack, printer);
    }
    if args.json {
        printer.json(&json!({ "stack": stack.name, "instances": lines }));
    } else {
        lines
            .iter()
            .for_each(|line| printer.data(&format!("{}\n", line.name)));
    }
    Ok(ExitCode::SUCCESS)
}

fn say_done(stack: &Stack, steps: &[Step], begin: Instant, printer: &Printer) {
    let name = &stack.name;
    if steps.iter().all(|step| step.action == Action::Keep) {
        printer.note(&format!("{name}: all as it should be"));
    } else {
        printer.note(&format!(
            "{name}: ready after {:.2} s",
            begin.elapsed().as_secs_f64()
        ));
    }
}

fn lines(stack: &Stack, steps: &[Step]) -> Result<Vec<Line>, Failure> {
    let members = of(stack.name.as_str())?;
    let line = |step: &Step| {
        let member = members
            .iter()
            .find(|member| member.seen.name.as_str() == step.name);
        let forwards = member.map(|member| &member.seen.state.forwards);
        Line {
            name: step.name.clone(),
            service: step.service.clone(),
            action: match step.action {
                Action::Keep => "kept",
                Action::Create => "created",
                Action::Start => "started",
                Action::Replace => "replaced",
                Action::Remove => "removed",
            },
            forwards: forwards.into_iter().flatten().map(ToString::to_string).collect(),
        }
    };
    let wanted = steps.iter().filter(|step| step.action != Action::Remove);
    Ok(wanted.map(line).collect())
}

/// Shows all consoles until everything has ended; a signal stops it, a second one kills it.
fn follow(stack: &Stack, printer: &Printer) -> Result<ExitCode, Failure> {
    let name = stack.name.to_string();
    let services: Vec<_> = stack
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    let show = || {
        let is_read = merged::follow(&Selection::Stack(name.clone()), printer)?;
        if !is_read {
            front::hang_up();
        }
        Ok::<_, Failure>(is_read)
    };
    let stop = || {
        if let Err(failure) = run_stack(printer, |runner| runner.stop(&name, &services)) {
            printer.failure(&failure);
        }
    };
    let kill = || {
        for member in of(&name).into_iter().flatten() {
            // It may have ended meanwhile.
            let _ = service::kill(&member.seen);
        }
    };
    let (shown, signal) = Front::take()?.wait(show, stop, kill);
    shown?;
    match signal {
        Some(signal) => {
            printer.note(&format!("{name}: stopped; `cargo xtask down {name}` removes it"));
            Ok(ExitCode::from(128 + u8::try_from(signal).unwrap_or_default()))
        }
        None => Ok(ExitCode::SUCCESS),
    }
}
