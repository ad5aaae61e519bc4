//! The environment variables that kv reads.

use std::ffi::OsString;

/// kv's own variable, before `PORT`, which all services share.
const PORT_VARIABLES: [&str; 2] = ["MICRO_KEYVALUESTORE_PORT", "PORT"];

const DEFAULT_PORT: u16 = 9000;

/// Keys that may be preset, and the variables that hold their values.
const PRESETS: [(&str, &str); 3] = [
    ("masterendpoint", "MICRO_MASTER_ENDPOINT"),
    ("dbendpoint", "MICRO_DB_ENDPOINT"),
    ("storageendpoint", "MICRO_STORAGE_ENDPOINT"),
];

/// A variable that does not hold what it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable `{variable}` is not a port (0 to 65535): `{value}`")]
pub(crate) struct SettingsError {
    variable: &'static str,
    value: String,
}

/// The port to listen on. A variable that is empty counts as not set, as in the original.
pub(crate) fn port(lookup: impl Fn(&str) -> Option<OsString>) -> Result<u16, SettingsError> {
    for variable in PORT_VARIABLES {
        let Some(value) = lookup(variable).filter(|value| !value.is_empty()) else {
            continue;
        };
        let parsed = value.to_str().and_then(|text| text.trim().parse().ok());
        return parsed.ok_or_else(|| SettingsError {
            variable,
            value: value.to_string_lossy().into_owned(),
        });
    }
    Ok(DEFAULT_PORT)
}

/// What the store holds before anybody registers. A service that registers later wins, as over any other.
pub(crate) fn presets(lookup: impl Fn(&str) -> Option<OsString>) -> Vec<(&'static str, String)> {
    let value = |variable| {
        let value = lookup(variable)?.to_string_lossy().trim().to_owned();
        // The original's ui wants a scheme in the same variable; in the store there is none.
        let value = value.strip_prefix("http://").unwrap_or(&value);
        (!value.is_empty()).then(|| value.to_owned())
    };
    PRESETS
        .into_iter()
        .filter_map(|(key, variable)| Some((key, value(variable)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port_of(environment: &[(&str, &str)]) -> Result<u16, SettingsError> {
        port(|name| {
            let (_, value) = environment.iter().find(|(key, _)| *key == name)?;
            Some(OsString::from(value))
        })
    }

    #[test]
    fn its_own_variable_comes_before_port_that_before_the_default() {
        assert_eq!(port_of(&[]), Ok(9000));
        assert_eq!(port_of(&[("PORT", "81")]), Ok(81));
        assert_eq!(
            port_of(&[("PORT", "81"), ("MICRO_KEYVALUESTORE_PORT", "82")]),
            Ok(82)
        );
        assert_eq!(
            port_of(&[("PORT", "81"), ("MICRO_KEYVALUESTORE_PORT", "")]),
            Ok(81)
        );
    }

    #[test]
    fn endpoints_may_be_preset_without_a_scheme() {
        let presets = presets(|name| match name {
            "MICRO_DB_ENDPOINT" => Some("10.0.0.1:9001".into()),
            "MICRO_MASTER_ENDPOINT" => Some("http://10.0.0.2:9003".into()),
            "MICRO_STORAGE_ENDPOINT" => Some("".into()),
            _ => None,
        });
        let expected = [
            ("masterendpoint", "10.0.0.2:9003".to_owned()),
            ("dbendpoint", "10.0.0.1:9001".to_owned()),
        ];
        assert_eq!(presets, expected);
    }

    #[test]
    fn a_bad_port_is_named_with_its_variable() {
        for value in ["http", "65536", "-1", "9000x"] {
            let error = port_of(&[("PORT", value)]).unwrap_err().to_string();
            assert!(error.contains("`PORT`") && error.contains(value), "{error}");
        }
    }
}
