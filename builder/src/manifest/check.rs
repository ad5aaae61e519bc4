//! From a raw manifest to a checked one.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use marked_yaml::Marker;

use super::error::{ManifestError, Source};
use super::fields::{Pairs, Text};
use super::raw::{RawConfig, RawFileRule, RawManifest, RawRun, RawService};
use super::values::{self, inside};
use super::{Base, BootSet, FileRule, Manifest, Requirement, Service};
use crate::suggest::suggest;

/// A `package.yaml` of ours.
pub(super) fn check(source: &Source, folder: PathBuf, raw: RawManifest) -> Result<Manifest, ManifestError> {
    let required = |field: Option<Text>, key: &str| match field {
        None => Err(source.wrong_line(1, format!("a manifest needs `{key}`"))),
        Some(text) if text.value.trim().is_empty() => {
            Err(source.wrong_word(&text, format!("`{key}` is empty")))
        }
        Some(text) => Ok(text),
    };
    let name = values::name(source, &required(raw.name, "name")?)?;
    let overrides = values::flag(source, raw.r#override.as_ref())?;
    let rule = |rule| file_rule(source, rule, overrides);
    let mut manifest = Manifest {
        title: required(raw.title, "title")?.value,
        author: required(raw.author, "author")?.value,
        version: raw.version.and_then(|text| values::version(source, &text)),
        description: raw.description.map(|text| text.value),
        require: require(source, &raw.require)?,
        services: services(source, raw.services)?,
        files: raw.files.into_iter().map(rule).collect::<Result<_, _>>()?,
        mounts_data: volumes(source, &raw.volumes)?,
        environment: values::environment(source, &raw.env)?,
        size: raw.size.map(|text| values::size(source, &text)).transpose()?,
        ..Manifest::new(folder, name)
    };
    boot_sets(source, &mut manifest, &raw.config_set, raw.config_set_default)?;
    Ok(manifest)
}

/// Capstan's: without `files`, everything in its folder is its content.
pub(super) fn capstan(
    source: &Source,
    folder: PathBuf,
    mut raw: RawManifest,
) -> Result<Manifest, ManifestError> {
    let sets = std::mem::take(&mut raw.config_set);
    let default = raw.config_set_default.take();
    let overrides = values::flag(source, raw.r#override.as_ref())?;
    let mut manifest = check(source, folder, raw)?;
    if manifest.files.is_empty() {
        manifest.files.push(FileRule {
            overrides,
            ..FileRule::default()
        });
    }
    // Behind the files, which may bring any role.
    boot_sets(source, &mut manifest, &sets, default)?;
    Ok(manifest)
}

/// The `run.yaml` of a Capstan package.
pub(super) fn run(source: &Source, manifest: &mut Manifest) -> Result<(), ManifestError> {
    let raw = RawRun::parse(source)?;
    if let Some(runtime) = raw.runtime.filter(|runtime| runtime.value != "native") {
        let message = format!("the runtime `{}` is not taken, only `native`", runtime.value);
        let hint = "each of its boot sets needs a `bootcmd`".to_owned();
        source.warn(&runtime, message, Some(hint));
    }
    if let (false, Some((name, _))) = (manifest.sets.is_empty(), raw.config_set.first()) {
        return Err(source
            .wrong_word(name, "there are boot sets in `package.yaml`, too")
            .with_hint("keep them in one of the two files".to_owned()));
    }
    boot_sets(source, manifest, &raw.config_set, raw.config_set_default)
}

fn require(source: &Source, raw: &[Text]) -> Result<Vec<Requirement>, ManifestError> {
    let mut lines = HashMap::new();
    let mut require = Vec::new();
    for text in raw {
        let requirement = values::requirement(source, text)?;
        let line = requirement.place.line;
        if let Some(first) = lines.insert(requirement.name.clone(), line) {
            let message = format!("`{}` is required twice, first on line {first}", requirement.name);
            return Err(source
                .wrong_word(text, message)
                .with_hint("write one range with a comma, like `name@>=1, <3`".to_owned()));
        }
        require.push(requirement);
    }
    Ok(require)
}

fn services(source: &Source, raw: Vec<RawService>) -> Result<Vec<Service>, ManifestError> {
    let mut lines = HashMap::new();
    let mut services = Vec::new();
    for RawService {
        crate_dir,
        bin,
        features,
        role,
    } in raw
    {
        let folder = inside(source, &crate_dir)?;
        let last = folder
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let bin = bin.unwrap_or(Text {
            value: last,
            span: crate_dir.span,
        });
        let role = role.unwrap_or_else(|| bin.clone());
        for text in [&bin, &role] {
            values::name(source, text)?;
        }
        let line = role.span.start().map_or(1, Marker::line);
        if let Some(first) = lines.insert(role.value.clone(), line) {
            let message = format!("the role `{}` is there twice, first on line {first}", role.value);
            return Err(source.wrong_word(&role, message));
        }
        services.push(Service {
            crate_dir: folder,
            bin: bin.value,
            features: features.into_iter().map(|text| text.value).collect(),
            role: role.value,
        });
    }
    Ok(services)
}

/// Whether `/data` is among the places, which is all that may be.
fn volumes(source: &Source, raw: &[Text]) -> Result<bool, ManifestError> {
    for text in raw {
        if text.value != "/data" {
            let message = format!("a volume cannot be mounted at `{}`", text.value);
            return Err(source
                .wrong_word(text, message)
                .with_hint("`/data` is the one place where a guest mounts a volume".to_owned()));
        }
    }
    Ok(!raw.is_empty())
}

fn file_rule(source: &Source, raw: RawFileRule, overrides: bool) -> Result<FileRule, ManifestError> {
    let mode = raw.mode.map(|text| values::mode(source, &text)).transpose()?;
    Ok(FileRule {
        source: values::file_source(source, &raw.source)?,
        destination: values::destination(source, &raw.destination)?,
        mode,
        overrides: overrides || values::flag(source, raw.r#override.as_ref())?,
        as_it_is: false,
        place: source.place_of(&raw.source),
    })
}

/// Adds the boot sets of a file, and which of them is the default.
fn boot_sets(
    source: &Source,
    manifest: &mut Manifest,
    raw: &Pairs<RawConfig>,
    default: Option<Text>,
) -> Result<(), ManifestError> {
    for (name, config) in raw {
        if name.value.is_empty() || name.value.contains([':', '\0']) || name.value.len() > 64 {
            return Err(source
                .wrong_word(
                    name,
                    format!("`{}` is no name of a boot set", name.value.escape_debug()),
                )
                .with_hint("a name has at most 64 bytes, and no `:`".to_owned()));
        }
        let set = BootSet {
            command: config
                .bootcmd
                .as_ref()
                .map(|text| values::command(source, text))
                .transpose()?,
            environment: values::environment(source, &config.env)?,
            base: config.base.as_ref().map(|text| base(source, text)).transpose()?,
        };
        manifest.sets.insert(name.value.clone(), set);
    }
    // Whatever files and other packages bring may be a role, too.
    if manifest.files.is_empty() && manifest.require.is_empty() {
        let roles: BTreeSet<_> = manifest
            .services
            .iter()
            .map(|service| service.role.as_str())
            .collect();
        let roles: Vec<_> = roles.into_iter().collect();
        for (name, config) in raw {
            let command = manifest
                .sets
                .get(&name.value)
                .and_then(|set| set.command.as_ref());
            let (Some(bootcmd), Some([role, ..])) = (&config.bootcmd, command.map(Vec::as_slice)) else {
                continue;
            };
            if !roles.contains(&role.as_str()) {
                return Err(source
                    .wrong_word(bootcmd, format!("no service has the role `{role}`"))
                    .with_hint(suggest(role, &roles)));
            }
        }
    }
    if let Some(wanted) = default {
        if !manifest.sets.contains_key(&wanted.value) {
            let names: Vec<_> = manifest.sets.keys().collect();
            return Err(source
                .wrong_word(&wanted, format!("no `config_set` is named `{}`", wanted.value))
                .with_hint(suggest(&wanted.value, &names)));
        }
        manifest.default_set = Some(wanted.value);
    }
    Ok(())
}

/// `package:set`.
fn base(source: &Source, text: &Text) -> Result<Base, ManifestError> {
    let parts = text.value.split_once(':').filter(|(_, set)| !set.is_empty());
    let Some((package, set)) = parts else {
        return Err(source
            .wrong_word(text, format!("`{}` names no boot set of a package", text.value))
            .with_hint("write it like `package:set`".to_owned()));
    };
    let package = Text {
        value: package.to_owned(),
        span: text.span,
    };
    Ok(Base {
        package: values::name(source, &package)?,
        set: set.to_owned(),
        place: source.place_of(text),
    })
}
