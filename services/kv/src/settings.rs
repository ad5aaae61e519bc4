//! The environment variables that kv reads.

use std::ffi::OsString;

/// kv's own variable, before `PORT`, which all services share.
const PORT_VARIABLES: [&str; 2] = ["MICRO_KEYVALUESTORE_PORT", "PORT"];

const DEFAULT_PORT: u16 = 9000;

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
    fn a_bad_port_is_named_with_its_variable() {
        for value in ["http", "65536", "-1", "9000x"] {
            let error = port_of(&[("PORT", value)]).unwrap_err().to_string();
            assert!(error.contains("`PORT`") && error.contains(value), "{error}");
        }
    }
}
