//! From a raw manifest to a checked one.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use marked_yaml::Marker;

use super::error::{ManifestError, Source};
use super::raw::{Pairs, RawConfig, RawFileRule, RawManifest, RawService, Text};
use super::{Command, FileRule, Manifest, PackageName, Service};
use crate::suggest::suggest;
use crate::tree::ImagePath;

/// The largest disk that a manifest may ask for. The container's tables, which are made up front, have 128 MiB
/// then.
const MAX_SIZE: u64 = 1 << 40;

pub(super) fn check(source: &Source, folder: PathBuf, raw: RawManifest) -> Result<Manifest, ManifestError> {
    let whole = Text {
        value: String::new(),
        span: marked_yaml::Span::new_blank(),
    };
    let required = |field: Option<Text>, key: &str| match field {
        None => Err(source.wrong_word(&whole, format!("a manifest needs `{key}`"))),
        Some(text) if text.value.trim().is_empty() => {
            Err(source.wrong_word(&text, format!("`{key}` is empty")))
        }
        Some(text) => Ok(text),
    };
    let name = required(raw.name, "name")?;
    let name = PackageName::new(&name.value).ok_or_else(|| not_a_name(source, &name))?;
    let services = services(source, raw.services)?;
    let files = raw
        .files
        .into_iter()
        .map(|rule| file_rule(source, rule))
        .collect::<Result<Vec<_>, _>>()?;
    let env = environment(source, &raw.env)?;
    let sets = config_sets(source, &env, &raw.config_set)?;
    let default = match raw.config_set_default {
        Some(wanted) => {
            let names: Vec<_> = sets.iter().map(|(name, _)| name.as_str()).collect();
            let found = sets.iter().find(|(name, _)| *name == wanted.value);
            let (_, command) = found.ok_or_else(|| {
                source
                    .wrong_word(&wanted, format!("no `config_set` is named `{}`", wanted.value))
                    .with_hint(suggest(&wanted.value, &names))
            })?;
            Some(command.clone())
        }
        None => match (sets.as_slice(), services.as_slice()) {
            ([(_, command)], _) => Some(command.clone()),
            ([], [service]) => Some(Command {
                arguments: vec![service.role.clone()],
                environment: env,
            }),
            _ => None,
        },
    };
    // Whatever a folder of `files` brings may be a role, too.
    if files.is_empty() {
        let roles: Vec<_> = services.iter().map(|service| service.role.as_str()).collect();
        for ((_, raw), (_, command)) in raw.config_set.iter().zip(&sets) {
            let role = command.arguments.first().map_or("", String::as_str);
            if !roles.contains(&role) {
                return Err(source
                    .wrong_word(&raw.bootcmd, format!("no service has the role `{role}`"))
                    .with_hint(suggest(role, &roles)));
            }
        }
    }
    Ok(Manifest {
        folder,
        name,
        title: required(raw.title, "title")?.value,
        author: required(raw.author, "author")?.value,
        version: raw.version.map(|text| text.value),
        description: raw.description.map(|text| text.value),
        services,
        files,
        default,
        size: raw.size.map(|text| size(source, &text)).transpose()?,
    })
}

fn not_a_name(source: &Source, text: &Text) -> ManifestError {
    let hint = "a name has at most 64 letters, digits, `-`, `_` or `.`, and starts with a letter or a digit";
    source
        .wrong_word(text, format!("`{}` is no name", text.value))
        .with_hint(hint.to_owned())
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
        for name in [&bin, &role] {
            PackageName::new(&name.value).ok_or_else(|| not_a_name(source, name))?;
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

/// A relative path that stays in the folder which it starts from.
fn inside(source: &Source, text: &Text) -> Result<PathBuf, ManifestError> {
    let path = Path::new(&text.value);
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if text.value.is_empty() || !path.components().all(plain) {
        return Err(source
            .wrong_word(text, format!("`{}` is no path inside this project", text.value))
            .with_hint("write a relative path without `..`".to_owned()));
    }
    Ok(path
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect())
}

fn file_rule(source: &Source, raw: RawFileRule) -> Result<FileRule, ManifestError> {
    let mode = raw.mode.map(|text| match u16::from_str_radix(&text.value, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(source
            .wrong_word(&text, format!("`{}` are no permissions", text.value))
            .with_hint("write them in octal, like `0644`".to_owned())),
    });
    Ok(FileRule {
        source: inside(source, &raw.source)?,
        destination: ImagePath::new(raw.destination.value.as_bytes())
            .map_err(|error| source.wrong_word(&raw.destination, error.to_string()))?,
        mode: mode.transpose()?,
    })
}

fn environment(source: &Source, pairs: &Pairs) -> Result<BTreeMap<String, String>, ManifestError> {
    let mut environment = BTreeMap::new();
    for (name, value) in pairs {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            return Err(source.wrong_word(
                name,
                format!("`{}` is no name of a variable", name.value.escape_debug()),
            ));
        }
        if value.value.contains('\0') {
            return Err(source.wrong_word(value, format!("the value of `{}` holds a NUL", name.value)));
        }
        environment.insert(name.value.clone(), value.value.clone());
    }
    Ok(environment)
}

/// The commands of `config_set`; `env` of the package holds for all of them.
fn config_sets(
    source: &Source,
    env: &BTreeMap<String, String>,
    raw: &[(Text, RawConfig)],
) -> Result<Vec<(String, Command)>, ManifestError> {
    let set = |(name, config): &(Text, RawConfig)| {
        let words = shell_words::split(&config.bootcmd.value)
            .map_err(|_| source.wrong_word(&config.bootcmd, "a quote is not terminated"))?;
        if words.is_empty() {
            return Err(source.wrong_word(&config.bootcmd, "`bootcmd` is empty"));
        }
        let mut environment = env.clone();
        environment.extend(self::environment(source, &config.env)?);
        Ok((
            name.value.clone(),
            Command {
                arguments: words,
                environment,
            },
        ))
    };
    raw.iter().map(set).collect()
}

/// A number of bytes, with `K`, `M`, `G` or `T` (powers of 1024) behind it, then maybe `B` or `iB`.
fn size(source: &Source, text: &Text) -> Result<u64, ManifestError> {
    let digits = text
        .value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.value.len());
    let (number, unit) = text.value.split_at(digits);
    let unit = unit.trim().to_ascii_uppercase();
    let unit = unit
        .strip_suffix("IB")
        .or(unit.strip_suffix('B'))
        .unwrap_or(&unit);
    let shift = match unit {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let bytes = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    bytes
        .filter(|bytes| (1..=MAX_SIZE).contains(bytes))
        .ok_or_else(|| {
            source
                .wrong_word(text, format!("`{}` is no size of a disk", text.value))
                .with_hint("write a number and a unit, like `64M` or `2G`, up to `1T`".to_owned())
        })
}
