//! Boot sets, settled: each with the command and the environment that it inherits.

use std::collections::{BTreeMap, BTreeSet};

use hermitage_boot::sets::MAX_SETS;
use hermitage_boot::{BootConfig, BootSets};

use super::ResolveError;
use crate::manifest::{Base, BootSet, Manifest, Place};

/// What the image of these packages starts by itself, and what it can start by name.
pub(super) fn settle(packages: &[Manifest]) -> Result<(Option<BootConfig>, BootSets), ResolveError> {
    let count = packages.iter().map(|package| package.sets.len()).sum();
    if count > MAX_SETS {
        return Err(ResolveError::TooManySets { count, max: MAX_SETS });
    }
    let mut all = BootSets::new();
    let last = packages.len() - 1;
    for (at, package) in packages.iter().enumerate() {
        for set in package.sets.keys() {
            let name = if at == last {
                set.clone()
            } else {
                full_name(package, set)
            };
            all.insert(name, inherited(packages, package, set)?);
        }
    }
    Ok((default(packages, &packages[last], &all), all))
}

/// The package's own choice; else its only boot set; else the only service.
fn default(packages: &[Manifest], package: &Manifest, all: &BootSets) -> Option<BootConfig> {
    if let Some(name) = &package.default_set {
        return all.get(name).cloned();
    }
    let mut names = package.sets.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => return all.get(only).cloned(),
        (Some(_), Some(_)) => return None,
        (None, _) => {}
    }
    // A package's own service comes before those of the packages that it requires.
    let own = package.services.iter();
    let others = packages.iter().flat_map(|package| &package.services);
    let roles: Vec<_> = match package.services.is_empty() {
        true => others.map(|service| &service.role).collect(),
        false => own.map(|service| &service.role).collect(),
    };
    match roles.as_slice() {
        [role] => Some(config(std::slice::from_ref(*role), &package.environment)),
        _ => None,
    }
}

/// The command and the environment of a boot set. What a set says counts before what its package says, and what is
/// near before what a base says.
fn inherited(packages: &[Manifest], package: &Manifest, name: &str) -> Result<BootConfig, ResolveError> {
    let mut way: Vec<(&Manifest, &BootSet)> = vec![];
    let mut names: Vec<String> = vec![];
    let mut seen = BTreeSet::new();
    let mut next = Some((package, name));
    while let Some((package, name)) = next {
        names.push(full_name(package, name));
        // The first is there, and the others were found.
        let set = &package.sets[name];
        if !seen.insert((&package.name, name)) {
            let place = way.last().and_then(|(_, set)| set.base.as_ref());
            return Err(ResolveError::BaseCycle {
                chain: names.join(" -> "),
                place: Box::new(place.map_or_else(Place::default, |base| base.place.clone())),
            });
        }
        way.push((package, set));
        next = set.base.as_ref().map(|base| find(packages, base)).transpose()?;
    }
    let command = way.iter().find_map(|(_, set)| set.command.as_deref());
    let mut environment = BTreeMap::new();
    environment.extend(
        way.iter()
            .rev()
            .flat_map(|(package, _)| package.environment.clone()),
    );
    environment.extend(way.iter().rev().flat_map(|(_, set)| set.environment.clone()));
    Ok(config(command.unwrap_or_default(), &environment))
}

/// The boot set that a base names.
fn find<'a>(packages: &'a [Manifest], base: &'a Base) -> Result<(&'a Manifest, &'a str), ResolveError> {
    let package = packages.iter().find(|package| package.name == base.package);
    match package.filter(|package| package.sets.contains_key(&base.set)) {
        Some(package) => Ok((package, &base.set)),
        None => Err(ResolveError::NoBase {
            package: base.package.clone(),
            set: base.set.clone(),
            place: Box::new(base.place.clone()),
            known: packages
                .iter()
                .flat_map(|package| package.sets.keys().map(|set| full_name(package, set)))
                .collect(),
        }),
    }
}

fn full_name(package: &Manifest, set: &str) -> String {
    format!("{}:{set}", package.name)
}

fn config(command: &[String], environment: &BTreeMap<String, String>) -> BootConfig {
    let entry = |(name, value): (&String, &String)| format!("{name}={value}").into_bytes();
    BootConfig {
        arguments: command.iter().map(|word| word.clone().into_bytes()).collect(),
        environment: environment.iter().map(entry).collect(),
        ..BootConfig::default()
    }
}
