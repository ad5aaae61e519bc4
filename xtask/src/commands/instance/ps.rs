//! `cargo xtask ps`.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use launcher::Error;

use super::facts::{Facts, short};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::table::{Align, Table};

/// Arguments of `ps`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask ps
  cargo xtask ps -a --json
  cargo xtask ps --filter label=team=shop       those with this label; label=team, with any value of it

On a terminal that is too narrow, columns in which nothing is said are left out, others are cut; --json has all.

States: created, running, paused (the host's disk is full), restarting, exited.")]
pub(crate) struct Args {
    /// List those that have ended, too
    #[arg(short, long)]
    all: bool,

    /// List only what this holds for; all, if it is given several times
    #[arg(long, value_name = "label=KEY[=VALUE]")]
    filter: Vec<Filter>,

    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Which instances are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    key: String,
    /// Any, if it is `None`.
    value: Option<String>,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = text.strip_prefix("label=").filter(|label| !label.is_empty());
        let label = label.ok_or("a filter has the form `label=KEY` or `label=KEY=VALUE`")?;
        let (key, value) = match label.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (label, None),
        };
        Ok(Self {
            key: key.to_owned(),
            value,
        })
    }
}

impl Filter {
    fn holds(&self, facts: &Facts) -> bool {
        let value = facts.labels.get(&self.key);
        value.is_some_and(|value| self.value.as_ref().is_none_or(|wanted| wanted == value))
    }
}

pub(crate) fn run(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let instances = super::instances()?;
    let mut listed = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for name in instances.names()? {
        match instances.see(&name) {
            Ok(seen) if args.all || seen.state.phase.is_supervised() => listed.push(Facts::of(&seen)),
            // It ended a moment ago, or another one removes it.
            Ok(_) | Err(Error::NoInstance { .. }) => {}
            Err(error) => {
                printer.failure(&error.into());
                code = ExitCode::FAILURE;
            }
        }
    }
    listed.retain(|facts| args.filter.iter().all(|filter| filter.holds(facts)));
    if args.json {
        printer.json(&listed);
    } else {
        printer.table(table(&listed));
    }
    Ok(code)
}

/// Forwards as `run -f` takes them: without the address that it takes by itself.
fn ports(forwards: &[String]) -> String {
    let own = format!("{}:", Ipv4Addr::LOCALHOST);
    let short = |forward: &String| forward.strip_prefix(&own).unwrap_or(forward).to_owned();
    forwards.iter().map(short).collect::<Vec<_>>().join(" ")
}

fn table(listed: &[Facts]) -> Table<11> {
    let left = |name| (name, Align::Left);
    let right = |name| (name, Align::Right);
    let mut table = Table::new([
        left("NAME"),
        left("IMAGE"),
        left("ROLE"),
        left("STATE"),
        left("IP"),
        left("PORTS"),
        right("MEMORY"),
        right("CPUS"),
        right("AGE"),
        left("EXIT"),
        right("RESTARTS"),
    ]);
    for facts in listed {
        let address = facts.address.as_deref().unwrap_or_default();
        table.row([
            facts.name.clone(),
            facts.image.clone(),
            facts.role.clone(),
            facts.state.to_owned(),
            address.split('/').next().unwrap_or_default().to_owned(),
            ports(&facts.forwards),
            format!("{}M", facts.memory_mib),
            facts.cpus.to_string(),
            short(Duration::from_secs(facts.age)),
            facts.exit(),
            facts.restarts.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_a_label_and_perhaps_its_value() {
        let parse = |text: &str| {
            text.parse::<Filter>()
                .ok()
                .map(|filter| (filter.key, filter.value))
        };
        let label = |key: &str, value: Option<&str>| Some((key.to_owned(), value.map(str::to_owned)));
        assert_eq!(parse("label=team"), label("team", None));
        assert_eq!(parse("label=team=shop"), label("team", Some("shop")));
        assert_eq!(parse("label=team="), label("team", Some("")));
        assert_eq!(parse("label=a=b=c"), label("a", Some("b=c")));
        for wrong in ["", "label", "label=", "name=kv"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ports_are_shown_as_they_are_asked_for() {
        let forwards = ["127.0.0.1:8080:80", "10.0.0.1:53:53/udp"].map(str::to_owned);
        assert_eq!(ports(&forwards), "8080:80 10.0.0.1:53:53/udp");
    }
}
