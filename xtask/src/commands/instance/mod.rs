//! The commands on instances: one module for each, and what they share.

pub(crate) mod attach;
pub(crate) mod facts;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod merged;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod supervise;
pub(crate) mod wait;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use launcher::machine::STOP_PATIENCE;
use launcher::{Error, InstanceName, Instances};
use serde::Serialize;
use serde_json::json;
use stack::member::Member;

use super::stack as stacks;
use crate::failure::Failure;
use crate::printer::Printer;

/// The folder of the user's instances.
pub(crate) fn root() -> Result<PathBuf, Failure> {
    launcher::environment::root().ok_or_else(|| {
        Failure::Usage("neither HERMITAGE_ROOT nor HOME says where instances are kept".to_owned())
    })
}

/// The user's instances.
pub(crate) fn instances() -> Result<Instances, Failure> {
    Ok(Instances::below(&root()?)?)
}

/// The time that a guest is given to end.
#[derive(Debug, clap::Args)]
struct Patience {
    /// How many seconds the guest has to end
    #[arg(short, long, value_name = "SECONDS", default_value_t = STOP_PATIENCE.as_secs())]
    time: u64,
}

impl Patience {
    fn time(&self) -> Duration {
        Duration::from_secs(self.time)
    }
}

/// Instances that a command is for.
#[derive(Debug, clap::Args)]
struct Names {
    /// The instances; a service or a stack is all its instances
    #[arg(required = true, value_name = "NAME")]
    names: Vec<InstanceName>,

    /// Print what was done as JSON: a list
    #[arg(long)]
    json: bool,
}

impl Names {
    /// Does something with each, and prints the names of those with which it is done. One that fails holds up no other;
    /// the exit code is that of the first failure.
    fn each<T: Serialize>(
        &self,
        printer: &Printer,
        work: impl Fn(&InstanceName) -> Result<T, Failure>,
    ) -> Result<ExitCode, Failure> {
        let mut code = None;
        let mut list = Vec::new();
        let names = self.names.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        for name in names.iter().flatten() {
            match work(name) {
                Ok(done) if self.json => list.push(json!({ "name": name.as_str(), "done": done })),
                Ok(_) => printer.data(&format!("{name}\n")),
                Err(failure) => {
                    printer.failure(&failure);
                    code.get_or_insert(failure.exit_code());
                    list.push(json!({ "name": name.as_str(), "error": failure.to_string() }));
                }
            }
        }
        if self.json {
            printer.json(&list);
        }
        Ok(code.unwrap_or(ExitCode::SUCCESS))
    }
}

/// The instances that a word means: the one of that name, or else those of the service or stack of that name, or of a
/// stack's service, `node-micro-worker`. A word that means none is given back.
fn resolve(word: &InstanceName) -> Result<Vec<InstanceName>, Failure> {
    match instances()?.see(word) {
        Err(Error::NoInstance { .. }) => {}
        _ => return Ok(vec![word.clone()]),
    }
    let is_meant = |member: &Member| {
        let Member { stack, service, .. } = member;
        word.as_str() == stack || word.as_str() == service || word.as_str() == format!("{stack}-{service}")
    };
    let mut members = stacks::all()?;
    members.retain(is_meant);
    let stacks: BTreeSet<_> = members.iter().map(|member| member.stack.as_str()).collect();
    if stacks.len() > 1 {
        let words: Vec<_> = stacks.iter().map(|stack| format!("`{stack}-{word}`")).collect();
        let words = words.join(" or ");
        return Err(Failure::Usage(format!(
            "`{word}` is a service of several stacks: {words}?"
        )));
    }
    match members.is_empty() {
        true => Ok(vec![word.clone()]),
        false => Ok(members.into_iter().map(|member| member.seen.name).collect()),
    }
}

/// Makes nothing of it that an instance has ended which was to be ended.
fn unless_ended<T>(done: Result<T, Error>) -> Result<Option<T>, Error> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Error::NotRunning { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
