//! What a service is told at launch: its argument and its environment variables.
//!
//! | variable | of | meaning |
//! | --- | --- | --- |
//! | `MICRO_<SERVICE>_PORT`, then `PORT` | all but worker | port to listen on; 0 takes a free one |
//! | `MICRO_KEYVALUESTORE_ENDPOINT` | all but kv | `host:port` of kv, if it is no argument |
//! | `MICRO_ADVERTISE` | db, storage, master | `host` or `host:port` under which others reach this service |
//! | others | | in the module of the service that reads them |
//!
//! A variable that is empty counts as not set, as in the original.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::str::FromStr;
use std::time::Duration;

use crate::address::Endpoint;

/// Where kv listens if nobody says otherwise.
pub const KV_PORT: u16 = 9000;

/// A setting that does not hold what it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A variable's value makes no sense.
    #[error("environment variable `{variable}` is not {expected}: `{value}`")]
    Variable {
        /// Its name.
        variable: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        value: String,
    },
    /// The arguments are not what the service takes.
    #[error("{fault}\nusage: {usage}")]
    Usage {
        /// What is wrong.
        fault: String,
        /// How it is right.
        usage: &'static str,
    },
}

/// A program's arguments and environment; a value, so that tests can make it up.
#[derive(Clone, Debug)]
pub struct Settings {
    arguments: Vec<String>,
    environment: HashMap<OsString, OsString>,
}

impl Settings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let arguments = std::env::args_os().skip(1);
        Self {
            arguments: arguments
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            environment: std::env::vars_os().collect(),
        }
    }

    /// Made up ones.
    #[must_use]
    pub fn new(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self {
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: environment
                .iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }

    /// The value of a variable, if it is set to something.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let value = self
            .environment
            .get(OsStr::new(name))
            .filter(|value| !value.is_empty())?;
        Some(value.to_string_lossy().into_owned())
    }

    /// The value of a variable, read as a `T`.
    ///
    /// # Errors
    /// It is set, and is no `T`.
    pub fn parsed<T: FromStr>(&self, name: &str, expected: &'static str) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.variable(name) else {
            return Ok(None);
        };
        match value.trim().parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(SettingsError::Variable {
                variable: name.to_owned(),
                expected,
                value,
            }),
        }
    }

    /// The port to listen on: the service's own variable comes before `PORT`, that before the default.
    ///
    /// # Errors
    /// The variable that counts is not a port.
    pub fn port(&self, service: &str, default: u16) -> Result<u16, SettingsError> {
        let expected = "a port (0 to 65535)";
        if let Some(port) = self.parsed(&format!("MICRO_{service}_PORT"), expected)? {
            return Ok(port);
        }
        Ok(self.parsed("PORT", expected)?.unwrap_or(default))
    }

    /// A number of bytes, told in MiB.
    ///
    /// # Errors
    /// The variable is not such a number.
    pub fn mebibytes(&self, name: &str, default: usize) -> Result<usize, SettingsError> {
        let most = usize::MAX >> 20;
        let told: Option<usize> = self.parsed(name, "a number of MiB")?;
        Ok(told.map_or(default, |told| told.min(most) << 20))
    }

    /// A time, told in seconds, fractions allowed.
    ///
    /// # Errors
    /// The variable is not such a time.
    pub fn seconds(&self, name: &str, default: Duration) -> Result<Duration, SettingsError> {
        let expected = "a number of seconds";
        let Some(seconds) = self.parsed::<f64>(name, expected)? else {
            return Ok(default);
        };
        Duration::try_from_secs_f64(seconds).map_err(|_| SettingsError::Variable {
            variable: name.to_owned(),
            expected,
            value: seconds.to_string(),
        })
    }

    /// An endpoint that a variable names.
    ///
    /// # Errors
    /// It names none.
    pub fn endpoint(&self, name: &str, default_port: u16) -> Result<Option<Endpoint>, SettingsError> {
        let Some(value) = self.variable(name) else {
            return Ok(None);
        };
        match Endpoint::parse(&value, default_port) {
            Some(endpoint) => Ok(Some(endpoint)),
            None => Err(SettingsError::Variable {
                variable: name.to_owned(),
                expected: "`host:port`",
                value,
            }),
        }
    }

    /// The endpoint of kv: the only argument, else `MICRO_KEYVALUESTORE_ENDPOINT`.
    ///
    /// # Errors
    /// There is neither, or it is no endpoint, or there are more arguments.
    pub fn kv(&self, usage: &'static str) -> Result<Endpoint, SettingsError> {
        let fault = |fault: String| SettingsError::Usage { fault, usage };
        match self.arguments.as_slice() {
            [] => self
                .endpoint("MICRO_KEYVALUESTORE_ENDPOINT", KV_PORT)?
                .ok_or_else(|| {
                    fault(
                        "no key-value store: neither an argument nor `MICRO_KEYVALUESTORE_ENDPOINT`"
                            .to_owned(),
                    )
                }),
            [argument] => Endpoint::parse(argument, KV_PORT)
                .ok_or_else(|| fault(format!("not an endpoint (`host:port`): `{argument}`"))),
            [_, argument, ..] => Err(fault(format!("one argument too many: `{argument}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_variable_comes_before_port_that_before_the_default() {
        for (environment, port) in [
            (&[] as &[(&str, &str)], 9001),
            (&[("PORT", "81")], 81),
            (&[("PORT", "81"), ("MICRO_DB_PORT", "82")], 82),
            (&[("PORT", "81"), ("MICRO_DB_PORT", "")], 81),
            (&[("MICRO_UI_PORT", "82")], 9001),
        ] {
            assert_eq!(Settings::new(&[], environment).port("DB", 9001), Ok(port));
        }
    }

    #[test]
    fn a_bad_value_is_named_with_its_variable() {
        for value in ["http", "65536", "-1", "9000x"] {
            let settings = Settings::new(&[], &[("PORT", value)]);
            let error = settings.port("DB", 9001).unwrap_err().to_string();
            assert!(error.contains("`PORT`") && error.contains(value), "{error}");
        }
        for value in ["-1", "NaN", "1e999", "soon"] {
            let settings = Settings::new(&[], &[("T", value)]);
            assert!(settings.seconds("T", Duration::ZERO).is_err(), "{value}");
        }
        assert_eq!(
            Settings::new(&[], &[("T", "0.5")]).seconds("T", Duration::ZERO),
            Ok(Duration::from_millis(500))
        );
    }

    #[test]
    fn the_argument_comes_before_the_variable() {
        let variable = ("MICRO_KEYVALUESTORE_ENDPOINT", "b");
        let kv = |arguments: &[&str], environment: &[(&str, &str)]| {
            Settings::new(arguments, environment)
                .kv("db KV")
                .map(|kv| kv.to_string())
        };
        assert_eq!(kv(&["a:1"], &[variable]).as_deref(), Ok("a:1"));
        assert_eq!(kv(&["a"], &[]).as_deref(), Ok("a:9000"));
        assert_eq!(kv(&[], &[variable]).as_deref(), Ok("b:9000"));
        for arguments in [&[] as &[&str], &["a", "b"], &[":1"]] {
            let error = kv(arguments, &[]).unwrap_err().to_string();
            assert!(error.ends_with("\nusage: db KV"), "{error}");
        }
    }
}
