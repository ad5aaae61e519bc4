//! Single values of a manifest, each checked where it stands.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::error::{ManifestError, Source};
use super::fields::{Pairs, Text};
use super::pattern;
use super::version::{PackageName, Requirement, Version};
use crate::tree::ImagePath;

/// The largest disk that a manifest may ask for. The container's tables, which are made up front, have 128 MiB
/// then.
const MAX_SIZE: u64 = 1 << 40;

pub(super) fn name(source: &Source, text: &Text) -> Result<PackageName, ManifestError> {
    let hint = "a name has at most 64 letters, digits, `-`, `_` or `.`, and starts with a letter or a digit";
    PackageName::new(&text.value).ok_or_else(|| {
        source
            .wrong_word(text, format!("`{}` is no name", text.value))
            .with_hint(hint.to_owned())
    })
}

/// A version. One that cannot be compared is one of Capstan's, which takes any text.
pub(super) fn version(source: &Source, text: &Text) -> Option<Version> {
    let version = Version::new(text.value.trim());
    if version.is_none() {
        let hint = "write up to three numbers, like `1.2.3`; without a version, it satisfies no range";
        let message = format!("`{}` is no version that can be compared", text.value);
        source.warn(text, message, Some(hint.to_owned()));
    }
    version
}

/// `name` or `name@range`.
pub(super) fn requirement(source: &Source, text: &Text) -> Result<Requirement, ManifestError> {
    let (bare, range) = match text.value.split_once('@') {
        None => (text.value.as_str(), None),
        Some((bare, range)) => (bare, Some(range)),
    };
    let word = Text {
        value: bare.trim().to_owned(),
        span: text.span,
    };
    let range = match range.map(str::parse) {
        None => None,
        Some(Ok(range)) => Some(range),
        Some(Err(error)) => {
            return Err(source
                .wrong_word(
                    text,
                    format!("`{}` names no range of versions: {error}", text.value),
                )
                .with_hint("write it like `name@^1.2`, `name@>=1, <3` or `name@=1.0.2`".to_owned()));
        }
    };
    Ok(Requirement {
        name: name(source, &word)?,
        range,
        place: source.place_of(text),
    })
}

/// A relative path that stays in the folder which it starts from.
pub(super) fn inside(source: &Source, text: &Text) -> Result<PathBuf, ManifestError> {
    let path = Path::new(&text.value);
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if text.value.is_empty() || text.value.contains('\0') || !path.components().all(plain) {
        return Err(source
            .wrong_word(
                text,
                format!("`{}` is no path inside this project", text.value.escape_debug()),
            )
            .with_hint("write a relative path without `..`".to_owned()));
    }
    Ok(path
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect())
}

/// A path or a pattern of paths that stay in the folder which it starts from.
pub(super) fn file_source(source: &Source, text: &Text) -> Result<PathBuf, ManifestError> {
    let path = inside(source, text)?;
    match pattern::Source::new(&path) {
        Ok(_) => Ok(path),
        Err(error) => {
            Err(source.wrong_word(text, format!("`{}` is no pattern: {}", text.value, error.kind())))
        }
    }
}

/// A path in the image; `None` for its root.
pub(super) fn destination(source: &Source, text: &Text) -> Result<Option<ImagePath>, ManifestError> {
    if text.value == "/" {
        return Ok(None);
    }
    let path = ImagePath::new(text.value.as_bytes());
    path.map(Some)
        .map_err(|error| source.wrong_word(text, error.to_string()))
}

/// Permissions.
pub(super) fn mode(source: &Source, text: &Text) -> Result<u16, ManifestError> {
    match u16::from_str_radix(&text.value, 8) {
        Ok(mode) if mode <= 0o7777 && !text.value.starts_with('+') => Ok(mode),
        _ => Err(source
            .wrong_word(text, format!("`{}` are no permissions", text.value))
            .with_hint("write them in octal, like `0644`".to_owned())),
    }
}

/// YAML's `true` and `false`.
pub(super) fn flag(source: &Source, text: Option<&Text>) -> Result<bool, ManifestError> {
    match text.map(|text| (text, text.value.as_str())) {
        None | Some((_, "false")) => Ok(false),
        Some((_, "true")) => Ok(true),
        Some((text, other)) => {
            Err(source.wrong_word(text, format!("`{other}` is neither `true` nor `false`")))
        }
    }
}

pub(super) fn environment(source: &Source, pairs: &Pairs) -> Result<BTreeMap<String, String>, ManifestError> {
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

/// A command, split into words.
pub(super) fn command(source: &Source, text: &Text) -> Result<Vec<String>, ManifestError> {
    let words =
        shell_words::split(&text.value).map_err(|_| source.wrong_word(text, "a quote is not terminated"))?;
    if words.first().is_none_or(String::is_empty) {
        return Err(source.wrong_word(text, "`bootcmd` is empty"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(source.wrong_word(text, "`bootcmd` holds a NUL"));
    }
    Ok(words)
}

/// A number of bytes, with `K`, `M`, `G` or `T` (powers of 1024) behind it, then maybe `B` or `iB`.
pub(super) fn size(source: &Source, text: &Text) -> Result<u64, ManifestError> {
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
