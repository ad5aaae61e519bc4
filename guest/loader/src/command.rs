//! Which boot configuration counts, and what it says to run.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use hermitage_boot::BootConfig;
use hermitage_boot::config::{DecodeError, HEADER, encoded_length, split_command_line};
use hermitage_erofs::reader::ReadAt;

use crate::disk;
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

/// A boot configuration, in both of its forms: the loader reads one, the program gets the other.
#[derive(Debug)]
pub struct Command {
    /// What it says.
    pub config: BootConfig,
    /// Its bytes.
    pub encoded: Vec<u8>,
}

impl Command {
    /// Decodes what a source holds; `None` where it holds nothing.
    ///
    /// # Errors
    /// What is there is damaged.
    pub fn decode(source: Source, encoded: Vec<u8>) -> Result<Option<Self>, Error> {
        match BootConfig::decode(&encoded) {
            Ok(config) => Ok(Some(Self { config, encoded })),
            Err(DecodeError::Absent) => Ok(None),
            Err(error) => Err(Error::Config(source, error)),
        }
    }

    /// What a command line gives: its words are the command. `None` if it has none.
    ///
    /// # Errors
    /// A quote is open, or there are more words than a guest takes.
    pub fn from_line(line: &[u8]) -> Result<Option<Self>, Error> {
        let line = core::str::from_utf8(line).map_err(|_| Error::CommandLineText)?;
        let arguments = split_command_line(line).map_err(|_| Error::UnterminatedQuote)?;
        if arguments.is_empty() {
            return Ok(None);
        }
        let config = BootConfig {
            arguments,
            ..BootConfig::default()
        };
        let encoded = config.encode().map_err(Error::CommandTooLarge)?;
        Ok(Some(Self { config, encoded }))
    }

    /// What a disk's partition holds; `None` if that is nothing. Reads no more of it than there is.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub fn read<D: ReadAt<Error = disk::Error>>(partition: &D) -> Result<Option<Self>, Error> {
        let mut header = [0; HEADER];
        partition.read_at(0, &mut header)?;
        let length = match encoded_length(&header) {
            Ok(length) => length,
            Err(DecodeError::Absent) => return Ok(None),
            Err(error) => return Err(Error::Config(Source::Disk, error)),
        };
        let mut encoded = vec![0; length];
        partition.read_at(0, &mut encoded)?;
        Self::decode(Source::Disk, encoded)
    }

    /// The role that is to run.
    ///
    /// # Errors
    /// None is named, or one that can be no file's name.
    pub fn role(&self) -> Result<&[u8], Error> {
        let role = self.config.role().ok_or(Error::NoRole { roles: String::new() })?;
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
}

/// Text of bytes that may be any, on one line.
#[must_use]
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().collect()
}

/// Roles as a list for a message.
#[must_use]
pub fn list(roles: &[Vec<u8>]) -> String {
    if roles.is_empty() {
        return String::from("none");
    }
    let names: Vec<_> = roles.iter().map(|role| lossy(role)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(role: &[u8]) -> Command {
        let config = BootConfig {
            arguments: vec![role.to_vec(), b"x".to_vec()],
            ..BootConfig::default()
        };
        Command {
            config,
            encoded: Vec::new(),
        }
    }

    /// A partition that holds some bytes and then zeros.
    struct Memory(Vec<u8>);

    impl ReadAt for Memory {
        type Error = disk::Error;

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), disk::Error> {
            let bytes = self
                .0
                .iter()
                .copied()
                .chain(core::iter::repeat(0))
                .skip(offset as usize);
            buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            Ok(())
        }
    }

    #[test]
    fn takes_the_first_word_as_the_role() {
        assert_eq!(command(b"kv").role().unwrap(), b"kv");
        let empty = Command {
            config: BootConfig::default(),
            encoded: Vec::new(),
        };
        assert!(matches!(empty.role(), Err(Error::NoRole { .. })));
    }

    #[test]
    fn refuses_roles_that_are_no_file_names() {
        for bad in [&b""[..], b"../x", b"a/b", b"/", b".", b"..", &[b'x'; 256]] {
            let role = command(bad);
            assert!(matches!(role.role(), Err(Error::BadRole(_))), "{}", lossy(bad));
        }
    }

    #[test]
    fn splits_a_command_line_and_refuses_an_open_quote() {
        let words = |line| {
            Command::from_line(line)
                .unwrap()
                .map(|command| command.config.arguments)
        };
        assert_eq!(
            words(b"kv 'a b' c"),
            Some(vec![b"kv".to_vec(), b"a b".to_vec(), b"c".to_vec()])
        );
        assert_eq!(words(b"  "), None);
        assert!(matches!(
            Command::from_line(b"kv 'open"),
            Err(Error::UnterminatedQuote)
        ));
        assert!(matches!(
            Command::from_line(b"kv \xff\xfe"),
            Err(Error::CommandLineText)
        ));
        let many = b"x ".repeat(10_000);
        assert!(matches!(
            Command::from_line(&many),
            Err(Error::CommandTooLarge(_))
        ));
    }

    #[test]
    fn reads_from_a_partition_what_was_written_to_it() {
        let encoded = command(b"kv").config.encode().unwrap();
        let read = Command::read(&Memory(encoded.clone())).unwrap().unwrap();
        assert_eq!(read.encoded, encoded);
        assert_eq!(read.role().unwrap(), b"kv");
    }

    #[test]
    fn tells_an_absent_configuration_from_a_damaged_one() {
        assert!(matches!(Command::read(&Memory(Vec::new())), Ok(None)));
        assert!(matches!(Command::decode(Source::FwCfg, vec![0; 64]), Ok(None)));
        let damaged = Command::read(&Memory(vec![1; 64]));
        assert!(matches!(
            damaged,
            Err(Error::Config(Source::Disk, DecodeError::Magic))
        ));
        let mut flipped = command(b"kv").config.encode().unwrap();
        flipped[24] ^= 1;
        let damaged = Command::read(&Memory(flipped));
        assert!(matches!(
            damaged,
            Err(Error::Config(Source::Disk, DecodeError::Checksum))
        ));
    }
}
