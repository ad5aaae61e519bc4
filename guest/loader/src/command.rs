//! Which boot configuration counts, and what it says to run.

use alloc::string::String;
use alloc::vec::Vec;

use hermitage_boot::BootConfig;
use hermitage_boot::config::{DecodeError, split_command_line};

use crate::error::Error;

/// Most bytes of a role's name: what a file system takes.
const MAX_ROLE: usize = 255;

/// Where a boot configuration came from, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// QEMU's fw_cfg.
    FwCfg,
    /// The boot protocol's command line.
    CommandLine,
    /// The disk's `boot-config` partition.
    Disk,
}

impl Source {
    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FwCfg => "fw_cfg",
            Self::CommandLine => "the command line",
            Self::Disk => "partition `boot-config`",
        }
    }
}

/// Decodes what a source holds; `None` where it holds nothing.
///
/// # Errors
/// What is there is damaged.
pub fn decode(source: Source, bytes: &[u8]) -> Result<Option<BootConfig>, Error> {
    match BootConfig::decode(bytes) {
        Ok(config) => Ok(Some(config)),
        Err(DecodeError::Absent) => Ok(None),
        Err(error) => Err(Error::Config(source, error)),
    }
}

/// The configuration that a command line gives: its words are the command. `None` if it has none.
///
/// # Errors
/// A quote is open, or there are more words than a guest takes.
pub fn from_command_line(line: &[u8]) -> Result<Option<BootConfig>, Error> {
    let line = core::str::from_utf8(line).map_err(|_| Error::CommandLineText)?;
    let arguments = split_command_line(line).map_err(|_| Error::UnterminatedQuote)?;
    Ok((!arguments.is_empty()).then(|| BootConfig {
        arguments,
        ..BootConfig::default()
    }))
}

/// The role that a configuration names.
///
/// # Errors
/// It names none, or one that can be no file's name.
pub fn role(config: &BootConfig) -> Result<&[u8], Error> {
    let role = config.role().ok_or(Error::NoRole { roles: String::new() })?;
    let is_name = !role.is_empty()
        && role.len() <= MAX_ROLE
        && !matches!(role, b"." | b"..")
        && !role.iter().any(|byte| matches!(byte, b'/' | 0));
    if is_name {
        Ok(role)
    } else {
        Err(Error::BadRole(lossy(role)))
    }
}

/// Text of bytes that may be any, on one line.
#[must_use]
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().collect()
}

/// Roles as a list for a message.
#[must_use]
pub fn list(roles: &[Vec<u8>]) -> String {
    let names: Vec<_> = roles.iter().map(|role| lossy(role)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn config(role: &[u8]) -> BootConfig {
        BootConfig {
            arguments: vec![role.to_vec(), b"x".to_vec()],
            ..BootConfig::default()
        }
    }

    #[test]
    fn takes_the_first_word_as_the_role() {
        assert_eq!(role(&config(b"kv")).unwrap(), b"kv");
        assert!(matches!(role(&BootConfig::default()), Err(Error::NoRole { .. })));
    }

    #[test]
    fn refuses_roles_that_are_no_file_names() {
        for bad in [&b""[..], b"../x", b"a/b", b"/", b".", b"..", &[b'x'; 256]] {
            assert!(
                matches!(role(&config(bad)), Err(Error::BadRole(_))),
                "{}",
                lossy(bad)
            );
        }
    }

    #[test]
    fn splits_a_command_line_and_refuses_an_open_quote() {
        let words = |line| from_command_line(line).unwrap().map(|config| config.arguments);
        assert_eq!(
            words(b"kv 'a b' c"),
            Some(vec![b"kv".to_vec(), b"a b".to_vec(), b"c".to_vec()])
        );
        assert_eq!(words(b"  "), None);
        assert!(matches!(
            from_command_line(b"kv 'open"),
            Err(Error::UnterminatedQuote)
        ));
        assert!(matches!(
            from_command_line(b"kv \xff\xfe"),
            Err(Error::CommandLineText)
        ));
    }

    #[test]
    fn tells_an_absent_configuration_from_a_damaged_one() {
        assert!(matches!(decode(Source::Disk, &[0; 64]), Ok(None)));
        let damaged = decode(Source::Disk, &[1; 64]);
        assert!(matches!(
            damaged,
            Err(Error::Config(Source::Disk, DecodeError::Magic))
        ));
    }
}
