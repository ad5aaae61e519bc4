//! `cargo xtask demo`: the whole way once, on whatever machine this is.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hermitage_boot::control::mark;
use launcher::{Forward, Machine, RunRequest};

use crate::failure::Failure;
use crate::host;
use crate::printer::Printer;
use crate::table::{Align, Table};

/// Port of kv in the guest.
const KV_PORT: u16 = 9000;

/// How long a boot may take: hundreds of times what it takes on two busy cores without KVM.
const BOOT_DEADLINE: Duration = Duration::from_secs(60);

/// How long a request may take, in seconds.
const REQUEST_DEADLINE: u64 = 10;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  cargo xtask demo

The first run provides what is missing: QEMU (through apt, as root), the guest toolchain, the kernel. Later runs
find all that and take a second.")]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let mut times = Times::default();
    times.measure("tools of the host", || Ok(host::ensure(&[host::QEMU], printer)?))?;
    let image = times.measure("image composed", || super::compose::compose("kv", printer))?;

    let request = RunRequest {
        forwards: vec![Forward::tcp_from_any_port(KV_PORT)],
        trace: true,
        ..RunRequest::new(image.path, instance_name()?)
    };
    let launch = launcher::plan(&request)?;
    if let Some(why) = launch.fallback() {
        printer.note(&format!("using tcg, which is slower: {why}"));
    }
    let root = launcher::environment::root().ok_or_else(|| {
        Failure::Usage("neither HERMITAGE_ROOT nor HOME says where instances are kept".to_owned())
    })?;
    let machine = launch.start(&root, io::sink())?;
    let stopped = converse(&machine, &mut times, printer);
    if let (Err(_), Ok(console)) = (&stopped, machine.console()) {
        printer.warn(&format!(
            "the guest's console:\n{}",
            String::from_utf8_lossy(&console)
        ));
    }
    stopped?;
    times.measure("machine stopped", || {
        machine.stop();
        Ok(())
    })?;
    printer.data(&times.table());
    Ok(ExitCode::SUCCESS)
}

/// A name of this process, so that two demonstrations do not meet.
fn instance_name() -> Result<launcher::InstanceName, Failure> {
    let name = format!("demo-{}", std::process::id());
    name.parse()
        .map_err(|error: launcher::units::ParseError| Failure::Failed(error.to_string()))
}

/// Stores a value in the machine's kv, and reads it.
fn converse(machine: &Machine, times: &mut Times, printer: &Printer) -> Result<(), Failure> {
    let listening = machine.wait_mark(mark::LISTEN, BOOT_DEADLINE)?;
    times.add("kv listens, since QEMU's start", listening.at - machine.started());
    let forward = machine.spec().forwards.first();
    let address = forward
        .map(|forward| forward.host.to_string())
        .unwrap_or_default();
    let url = format!("http://{address}/greeting");
    let value = "hello from a unikernel";

    let body = serde_json::json!({ "value": value }).to_string();
    printer.note(&format!("$ curl --json '{body}' {url}"));
    let request = minreq::post(&url)
        .with_header("content-type", "application/json")
        .with_body(body);
    times.measure("key stored", || answer(request))?;
    times.add("first answer, since QEMU's start", machine.started().elapsed());

    printer.note(&format!("$ curl {url}"));
    let found = times.measure("key read", || answer(minreq::get(&url)))?;
    printer.note(&found);
    if found == value {
        Ok(())
    } else {
        Err(Failure::Failed(format!(
            "kv answered `{found}` where `{value}` was stored"
        )))
    }
}

fn answer(request: minreq::Request) -> Result<String, Failure> {
    let failed = |error: minreq::Error| Failure::Failed(format!("kv does not answer: {error}"));
    let response = request.with_timeout(REQUEST_DEADLINE).send().map_err(failed)?;
    let text = response.as_str().map_err(failed)?;
    match response.status_code {
        200 => Ok(text.to_owned()),
        status => Err(Failure::Failed(format!("kv answered {status}: {text}"))),
    }
}

/// What took how long.
#[derive(Default)]
struct Times {
    rows: Vec<(&'static str, Duration)>,
}

impl Times {
    fn add(&mut self, what: &'static str, time: Duration) {
        self.rows.push((what, time));
    }

    fn measure<T>(
        &mut self,
        what: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let begin = Instant::now();
        let value = work()?;
        self.add(what, begin.elapsed());
        Ok(value)
    }

    fn table(&self) -> String {
        let mut table = Table::new([("what", Align::Left), ("ms", Align::Right)]);
        for (what, time) in &self.rows {
            table.row([(*what).to_owned(), format!("{:.1}", time.as_secs_f64() * 1e3)]);
        }
        table.to_string()
    }
}
