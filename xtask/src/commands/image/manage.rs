//! `image rm` and `image rename`.

use std::collections::BTreeMap;
use std::path::Path;

use builder::images::{Held, ImagesError};
use builder::manifest::PackageName;

use super::find;
use crate::failure::Failure;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::workspace;

/// Removes all of the images, or none if one of them cannot be removed.
pub(super) fn remove(images: &[String], force: bool, printer: &Printer) -> Result<(), Failure> {
    // Each once, however it is written, and always in the same order: who holds an image waits for nobody who waits for
    // it.
    let mut paths = BTreeMap::new();
    for image in images {
        let (path, _) = find(image)?;
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        paths.entry(real).or_insert(path);
    }
    let progress = Progress::new(printer);
    let held = paths.values().map(|path| hold(path, "removed", force, &progress));
    for image in held.collect::<Result<Vec<_>, _>>()? {
        let path = image.path().to_owned();
        image.remove()?;
        printer.note(&format!("{}: removed", path.display()));
    }
    Ok(())
}

/// Gives an image another name.
pub(super) fn rename(image: &str, name: &str, force: bool, printer: &Printer) -> Result<(), Failure> {
    let name = PackageName::new(name).ok_or_else(|| {
        Failure::Usage(format!(
            "`{name}` is no name: at most 64 letters, digits, `-`, `_` or `.`, the first a letter or a digit"
        ))
    })?;
    let (path, _) = find(image)?;
    let progress = Progress::new(printer);
    let new = hold(&path, "renamed", force, &progress)?.rename(&name, &progress)?;
    printer.note(&format!("{}: now {}", path.display(), new.display()));
    Ok(())
}

/// Takes hold of an image on which no instance depends.
fn hold(path: &Path, change: &'static str, force: bool, progress: &Progress<'_>) -> Result<Held, Failure> {
    let held = Held::take(path, progress).map_err(|error| match error {
        ImagesError::InUse(path) => in_use(&path, change),
        error => error.into(),
    })?;
    // While it is held, no instance is made.
    let users = users(path);
    if !users.running.is_empty() {
        return Err(in_use(path, change));
    }
    if !force && !users.stopped.is_empty() {
        return Err(Failure::Needed {
            image: path.to_owned(),
            change,
            instances: users.stopped,
        });
    }
    Ok(held)
}

fn users(image: &Path) -> launcher::Users {
    let root = launcher::environment::root();
    root.map_or_else(launcher::Users::default, |root| {
        launcher::instances_on(&root, image)
    })
}

/// Says which instances run on an image. Whatever else has it open, a machine that was started by hand say, has no name.
pub(in crate::commands) fn in_use(image: &Path, change: &'static str) -> Failure {
    Failure::InUse {
        instances: users(image).running,
        image: workspace::shown(image),
        change,
    }
}
