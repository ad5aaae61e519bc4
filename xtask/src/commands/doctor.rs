//! `cargo xtask doctor`.

use std::fs::OpenOptions;
use std::process::ExitCode;

use builder::environment::Environment;
use builder::event::{Event, Observer, Silent};
use builder::session::Session;
use builder::toolchain::{self, GuestToolchain};
use launcher::accelerator::{self, AcceleratorChoice};
use launcher::qemu::{Qemu, Version};
use serde::Serialize;

use crate::failure::Failure;
use crate::host::{self, Tool};
use crate::printer::Printer;
use crate::table::{Align, Table};
use crate::workspace;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask doctor --fix")]
pub(crate) struct Args {
    /// Install what is missing: through apt, as root
    #[arg(long)]
    fix: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It is there and can be used.
    Ready,
    /// It is not there, and comes by itself on first use.
    Later,
    /// It is needed and not there, or cannot be used.
    Missing,
    /// It is not there, and only adds speed.
    Absent,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Later => "on first use",
            Self::Missing => "MISSING",
            Self::Absent => "absent (optional)",
        }
    }
}

/// What is said of one thing.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    purpose: &'static str,
    state: State,
    /// Version, place, or what is wrong.
    detail: String,
    /// What the user can do; empty where nothing needs to be done.
    advice: String,
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    if args.fix {
        host::ensure(&host::TOOLS, printer)?;
        let observer = |event: &Event| {
            if let Event::Note(text) = event {
                printer.note(text);
            }
        };
        GuestToolchain::provide(&session(&observer))?;
    }
    let findings = examine();
    if args.json {
        printer.json(&findings);
    } else {
        printer.data(&table(&findings).to_string());
    }
    let healthy = findings.iter().all(|finding| finding.state != State::Missing);
    Ok(ExitCode::from(u8::from(!healthy)))
}

fn table(findings: &[Finding]) -> Table<4> {
    let mut table = Table::new(["what", "state", "found", "what to do"].map(|name| (name, Align::Left)));
    for finding in findings {
        table.row([
            finding.name.to_owned(),
            finding.state.word().to_owned(),
            finding.detail.clone(),
            finding.advice.clone(),
        ]);
    }
    table
}

fn examine() -> Vec<Finding> {
    let mut findings = vec![guest_toolchain(), qemu()];
    findings.extend(host::TOOLS[1..].iter().copied().map(tool));
    findings.push(kvm());
    findings.push(device("vhost-net", "/dev/vhost-net", "faster network, as root"));
    findings.push(device("tun", "/dev/net/tun", "tap networks, as root"));
    findings
}

fn session(observer: &dyn Observer) -> Session<'_> {
    Session {
        workspace: workspace::root(),
        environment: Environment::read(),
        observer,
    }
}

fn guest_toolchain() -> Finding {
    let (state, detail, advice) = match toolchain::probe(&session(&Silent)) {
        toolchain::Status::Ready { origin, .. } => (
            State::Ready,
            format!("Rust {}, {origin}", toolchain::VERSION),
            String::new(),
        ),
        toolchain::Status::WillBeProvided { origin } => (
            State::Later,
            format!("Rust {}, {origin}", toolchain::VERSION),
            String::new(),
        ),
        toolchain::Status::Unavailable(error) => (
            State::Missing,
            error.to_string(),
            error.hint().unwrap_or_default(),
        ),
    };
    Finding {
        name: "guest toolchain",
        purpose: "compiles for guests",
        state,
        detail,
        advice,
    }
}

fn qemu() -> Finding {
    let tool = host::QEMU;
    let (state, detail, advice) = match Qemu::find().and_then(|qemu| qemu.version()) {
        Ok(version) => (
            State::Ready,
            format!("{version} (at least {})", Version::MIN),
            String::new(),
        ),
        Err(launcher::Error::NoQemu { .. }) => (State::Missing, String::new(), host::install_line(&[tool])),
        Err(error) => (
            State::Missing,
            error.to_string(),
            "install a newer QEMU".to_owned(),
        ),
    };
    Finding {
        name: tool.program,
        purpose: tool.purpose,
        state,
        detail,
        advice,
    }
}

fn tool(tool: Tool) -> Finding {
    let install = || host::install_line(&[tool]);
    let (state, detail, advice) = match host::find(tool.program, &host::search_path()) {
        None => (State::Missing, String::new(), install()),
        Some(program) => match host::version(&program) {
            Ok(version) => (State::Ready, version, String::new()),
            Err(defect) => (State::Missing, defect, install()),
        },
    };
    Finding {
        name: tool.program,
        purpose: tool.purpose,
        state,
        detail,
        advice,
    }
}

fn kvm() -> Finding {
    let chosen = accelerator::choose(AcceleratorChoice::Auto, &accelerator::detect());
    let (state, detail, advice) = match chosen {
        Ok((_, None)) => (State::Ready, "works".to_owned(), String::new()),
        Ok((_, Some(why))) => (State::Absent, why.to_string(), why.hint().to_owned()),
        Err(error) => (State::Absent, error.to_string(), String::new()),
    };
    Finding {
        name: "kvm",
        purpose: "runs guests in hardware",
        state,
        detail,
        advice,
    }
}

fn device(name: &'static str, path: &'static str, purpose: &'static str) -> Finding {
    let (state, detail) = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => (State::Ready, format!("`{path}` opens")),
        Err(error) => (State::Absent, format!("`{path}`: {}", error.kind())),
    };
    Finding {
        name,
        purpose,
        state,
        detail,
        advice: String::new(),
    }
}
