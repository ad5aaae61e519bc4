//! The commands on instances: one module for each, and what they share.

pub(crate) mod attach;
mod facts;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod supervise;
pub(crate) mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use launcher::{Error, InstanceName, Instances};
use serde::Serialize;
use serde_json::json;

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

/// Instances that a command is for.
#[derive(Debug, clap::Args)]
struct Names {
    /// The instances
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
    ) -> ExitCode {
        let mut code = None;
        let mut list = Vec::new();
        for name in &self.names {
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
        code.unwrap_or(ExitCode::SUCCESS)
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
