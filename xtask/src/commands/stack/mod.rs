//! The commands on stacks: one module for each, and what they share.

pub(crate) mod down;
pub(crate) mod scale;
pub(crate) mod up;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hermitage_micro::address::Endpoint;
use hermitage_micro::directory::Service;
use stack::manifest::FILE;
use stack::member::{Member, members};
use stack::{Event, Runner, Stack};

use super::compose;
use super::instance::{instances, root, start};
use super::run::request::find_image;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::workspace;

/// A number of instances, as the command line says it: `worker=3`.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    service: String,
    replicas: u16,
}

impl std::str::FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=');
        let scale = parts.and_then(|(service, number)| {
            Some(Self {
                service: service.to_owned(),
                replicas: number.parse().ok()?,
            })
        });
        scale.ok_or_else(|| "it has the form SERVICE=NUMBER, such as `worker=3`".to_owned())
    }
}

/// Reads the stack of a package, which is given by its name or by a path to its folder or file.
pub(crate) fn read(package: &str) -> Result<Stack, Failure> {
    match compose::is_path(package) {
        true => read_file(&file_at(package)),
        // A package that is not there is another fault than one without a stack.
        false => read_file(&compose::manifest(&workspace::root(), package)?.with_file_name(FILE)),
    }
}

/// The file of a stack that is given by a path to it or to its folder. Either may be gone: then a name without an
/// extension is the folder's.
fn file_at(path: &str) -> PathBuf {
    let path = PathBuf::from(path);
    let is_file = path.is_file() || path.extension().is_some() && !path.is_dir();
    let path = if is_file { path } else { path.join(FILE) };
    std::path::absolute(&path).unwrap_or(path)
}

/// The name of a stack, which is that of its file's folder.
fn name_of(file: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default();
    folder.to_string_lossy().into_owned()
}

fn read_file(path: &Path) -> Result<Stack, Failure> {
    Ok(Stack::read(path, &name_of(path))?)
}

/// The image of a stack; composed, if it is not there.
pub(crate) fn image(stack: &Stack, printer: &Printer) -> Result<PathBuf, Failure> {
    let name = stack.image.as_deref().unwrap_or(stack.name.as_str());
    match find_image(name) {
        Err(Failure::NoImage { .. }) => {
            let package = match &stack.image {
                Some(image) => image.clone(),
                None => stack.path.parent().unwrap_or(&stack.path).display().to_string(),
            };
            Ok(compose::compose(&package, printer)?.path)
        }
        found => Ok(found?.0),
    }
}

/// The name of the one stack that there is, unless one is given, as for [`read`].
fn named(stack: Option<&String>) -> Result<String, Failure> {
    if let Some(stack) = stack {
        return Ok(match compose::is_path(stack) {
            true => name_of(&file_at(stack)),
            false => stack.clone(),
        });
    }
    let stacks: BTreeSet<_> = all()?.into_iter().map(|member| member.stack).collect();
    let stacks: Vec<_> = stacks.into_iter().collect();
    match stacks.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::NoStack { running: stacks }),
        _ => Err(Failure::Usage(format!(
            "which stack? there are `{}`",
            stacks.join("`, `")
        ))),
    }
}

/// The members of all stacks.
pub(crate) fn all() -> Result<Vec<Member>, Failure> {
    Ok(members(&instances()?)?)
}

/// The members of a stack, of which there are some.
fn of(name: &str) -> Result<Vec<Member>, Failure> {
    let (own, others): (Vec<_>, Vec<_>) = all()?.into_iter().partition(|member| member.stack == name);
    if own.is_empty() {
        let running: BTreeSet<_> = others.into_iter().map(|member| member.stack).collect();
        let running = running.into_iter().collect();
        return Err(Failure::NoStack { running });
    }
    Ok(own)
}

/// Where a master is that runs among these, as this host reaches it.
pub(crate) fn master(members: &[Member]) -> Option<Endpoint> {
    let runs = |member: &&Member| member.service == "master" && member.seen.state.phase.is_supervised();
    let forwards = members
        .iter()
        .filter(runs)
        .flat_map(|member| &member.seen.state.forwards);
    let mut addresses = forwards.filter(|forward| forward.guest_port == Service::Master.default_port());
    let address = addresses.next()?.host;
    Some(Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
    })
}

/// Calls `work` with what runs stacks and says what it does.
fn run<T>(
    printer: &Printer,
    work: impl FnOnce(&Runner<'_>) -> Result<T, stack::RunError>,
) -> Result<T, Failure> {
    let runner = Runner {
        root: &root()?,
        supervisor: &start::supervisor,
        observer: &|event| say(&event, printer),
    };
    Ok(work(&runner)?)
}

fn say(event: &Event, printer: &Printer) {
    printer.note(&match event {
        Event::Fallback(why) => format!("using tcg, which is slower: {why}"),
        Event::Made(name) => format!("volume {name}: made"),
        Event::VolumeRemoved(name) => format!("volume {name}: removed"),
        Event::Started(name) => format!("{name}: started"),
        Event::Ready(name, time) => format!("{name}: ready after {:.2} s", time.as_secs_f64()),
        Event::Stopped(name) => format!("{name}: stopped"),
        Event::Removed(name) => format!("{name}: removed"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_has_the_name_of_its_folder_also_of_one_that_is_gone() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("v1.2")).unwrap();
        std::fs::create_dir(root.path().join("there")).unwrap();
        std::fs::write(root.path().join("there/plain"), "").unwrap();
        for (path, name) in [
            ("there", "there"),
            ("there/plain", "there"),
            ("v1.2", "v1.2"),
            ("gone", "gone"),
            ("gone/stack.yaml", "gone"),
        ] {
            let path = root.path().join(path);
            assert_eq!(name_of(&file_at(path.to_str().unwrap())), name, "{path:?}");
        }
    }
}
