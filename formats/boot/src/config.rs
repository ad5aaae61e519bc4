//! The boot configuration: what a guest is told at its start.
//!
//! Bytes (little endian), as they lie in fw_cfg, in the disk's boot-config partition and in guest memory:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `HERMBOOT` |
//! | 8 | 2 | version, [`VERSION`] |
//! | 10 | 2 | reserved, 0 |
//! | 12 | 4 | length of the records in bytes |
//! | 16 | 4 | CRC-32C (iSCSI) of the records |
//! | 20 | - | records: tag u16, length u32, data |
//!
//! An area that starts with eight zero bytes holds no configuration ([`DecodeError::Absent`]).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;

use crate::address::StaticAddress;

/// Version of the encoding. 1: arguments, environment, flags, TSC frequency; addresses later, which a reader that
/// knows none refuses by their tags.
pub const VERSION: u16 = 1;

/// Most arguments that a guest takes, its role included. Far beyond any real command line, and small enough
/// that the pointer array stays in one allocation of 32 KiB.
pub const MAX_ARGUMENTS: usize = 4096;

/// Most bytes of an encoded configuration, header included: the size of the disk's boot-config partition.
/// An environment of 64 KiB and as many arguments fit with room to spare.
pub const MAX_ENCODED: usize = 256 * 1024;

/// Most name servers that a guest is told: as many as any resolver asks (`MAXNS` of glibc).
pub const MAX_NAME_SERVERS: usize = 3;

const MAGIC: &[u8; 8] = b"HERMBOOT";
/// Bytes of the header, before the records.
pub const HEADER: usize = 20;

pub(crate) const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

const TAG_ARGUMENT: u16 = 1;
const TAG_ENVIRONMENT: u16 = 2;
const TAG_FLAGS: u16 = 3;
const TAG_TSC_KHZ: u16 = 4;
const TAG_ADDRESS: u16 = 5;
const TAG_NAME_SERVER: u16 = 6;

const FLAG_VERBOSE: u32 = 1 << 0;
const FLAG_TRACE: u32 = 1 << 1;

/// What a guest is told at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootConfig {
    /// The command: the role first, which names the program `/bin/<role>`, then its arguments.
    /// Any bytes but NUL.
    pub arguments: Vec<Vec<u8>>,
    /// The environment, each entry `KEY=VALUE`, any bytes but NUL.
    pub environment: Vec<Vec<u8>>,
    /// Whether loader and kernel print what they do to the console.
    pub verbose: bool,
    /// Whether the guest writes time marks to the control channel.
    pub trace: bool,
    /// Frequency of the time-stamp counter in kHz, when the launcher knows it; saves its measurement.
    pub tsc_khz: Option<u32>,
    /// The network card's address; leased by DHCP if `None`.
    pub address: Option<StaticAddress>,
    /// The name servers to ask, in this order; those of the lease if there are none.
    pub name_servers: Vec<Ipv4Addr>,
}

/// Why a configuration cannot be encoded: it breaks a limit that the guest holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// More than [`MAX_ARGUMENTS`] arguments.
    TooManyArguments(usize),
    /// More than [`MAX_ENCODED`] bytes.
    TooLarge(usize),
    /// More than [`MAX_SETS`](crate::sets::MAX_SETS) boot sets.
    TooManySets(usize),
    /// A NUL byte in an argument or an environment entry, which C strings cannot carry. The entry's text is
    /// given, lossily.
    Nul(String),
    /// An environment entry without `=`, or with an empty name.
    NotAnAssignment(String),
    /// More than [`MAX_NAME_SERVERS`] name servers.
    TooManyNameServers(usize),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyArguments(n) => write!(f, "{n} arguments; a guest takes at most {MAX_ARGUMENTS}"),
            Self::TooLarge(n) => {
                write!(
                    f,
                    "arguments and environment need {n} bytes; a guest takes at most {MAX_ENCODED}"
                )
            }
            Self::TooManySets(n) => {
                write!(f, "{n} boot sets; an image has at most {}", crate::sets::MAX_SETS)
            }
            Self::Nul(text) => write!(f, "a NUL byte in `{}`", text.escape_debug()),
            Self::TooManyNameServers(n) => {
                write!(f, "{n} name servers; a guest takes at most {MAX_NAME_SERVERS}")
            }
            Self::NotAnAssignment(text) => {
                write!(
                    f,
                    "environment entry `{}` is not of the form KEY=VALUE",
                    text.escape_debug()
                )
            }
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why bytes are no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Nothing is there: the area starts with zeros.
    Absent,
    /// The magic is not ours.
    Magic,
    /// A version that this code does not know.
    Version(u16),
    /// The area ends before the records do.
    Truncated,
    /// The checksum does not match.
    Checksum,
    /// A record that is malformed, or of a tag that this code does not know.
    Record(u16),
    /// A limit is broken: arguments, boot sets or size.
    Limit,
    /// Boot sets that are not as they are written: names out of order, more or fewer than said.
    Sets,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no boot configuration"),
            Self::Magic => f.write_str("boot configuration does not start with its magic"),
            Self::Version(v) => write!(f, "boot configuration has version {v}, known is {VERSION}"),
            Self::Truncated => f.write_str("boot configuration is cut off"),
            Self::Checksum => f.write_str("boot configuration is damaged: its checksum does not match"),
            Self::Record(tag) => write!(f, "boot configuration has a bad record, tag {tag}"),
            Self::Limit => f.write_str("boot configuration is larger than a guest takes"),
            Self::Sets => f.write_str("boot sets are not in order"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A command line that does not follow the shell's rules: a quote is open at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnterminatedQuote;

impl fmt::Display for UnterminatedQuote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quote is not terminated")
    }
}

impl core::error::Error for UnterminatedQuote {}

/// Splits a command line into arguments by the rules of the POSIX shell (words, quotes, backslashes; no
/// expansion).
///
/// # Errors
/// A quote that is open at the end.
pub fn split_command_line(line: &str) -> Result<Vec<Vec<u8>>, UnterminatedQuote> {
    let words = shell_words::split(line).map_err(|_| UnterminatedQuote)?;
    Ok(words.into_iter().map(String::into_bytes).collect())
}

impl BootConfig {
    /// The role: the first word of the command.
    #[must_use]
    pub fn role(&self) -> Option<&[u8]> {
        self.arguments.first().map(Vec::as_slice)
    }

    /// Encodes the configuration.
    ///
    /// # Errors
    /// A limit that is broken, or an entry that a guest cannot take.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        if self.arguments.len() > MAX_ARGUMENTS {
            return Err(EncodeError::TooManyArguments(self.arguments.len()));
        }
        let mut records = Vec::new();
        for argument in &self.arguments {
            refuse_nul(argument)?;
            push(&mut records, TAG_ARGUMENT, argument);
        }
        for entry in &self.environment {
            refuse_nul(entry)?;
            if !is_assignment(entry) {
                return Err(EncodeError::NotAnAssignment(lossy(entry)));
            }
            push(&mut records, TAG_ENVIRONMENT, entry);
        }
        let mut flags = 0;
        if self.verbose {
            flags |= FLAG_VERBOSE;
        }
        if self.trace {
            flags |= FLAG_TRACE;
        }
        if flags != 0 {
            push(&mut records, TAG_FLAGS, &flags.to_le_bytes());
        }
        if let Some(khz) = self.tsc_khz {
            push(&mut records, TAG_TSC_KHZ, &khz.to_le_bytes());
        }
        if let Some(address) = &self.address {
            push(&mut records, TAG_ADDRESS, &address.encode());
        }
        if self.name_servers.len() > MAX_NAME_SERVERS {
            return Err(EncodeError::TooManyNameServers(self.name_servers.len()));
        }
        for server in &self.name_servers {
            push(&mut records, TAG_NAME_SERVER, &server.octets());
        }

        let size = HEADER + records.len();
        if size > MAX_ENCODED {
            return Err(EncodeError::TooLarge(size));
        }
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        // At most MAX_ENCODED, checked above.
        bytes.extend_from_slice(&(records.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&CRC32C.checksum(&records).to_le_bytes());
        bytes.extend_from_slice(&records);
        Ok(bytes)
    }

    /// Decodes a configuration from the start of `area`; what follows it is ignored.
    ///
    /// # Errors
    /// [`DecodeError::Absent`] where nothing was written yet, another where the bytes are damaged or newer.
    pub fn decode(area: &[u8]) -> Result<Self, DecodeError> {
        let header = area.first_chunk().ok_or(DecodeError::Truncated)?;
        let length = encoded_length(header)?;
        let mut records = area.get(HEADER..length).ok_or(DecodeError::Truncated)?;
        if CRC32C.checksum(records) != u32_at(header, 16) {
            return Err(DecodeError::Checksum);
        }

        let mut config = Self::default();
        while !records.is_empty() {
            let (tag, data, rest) = split_record(records).ok_or(DecodeError::Truncated)?;
            records = rest;
            match tag {
                TAG_ARGUMENT if config.arguments.len() == MAX_ARGUMENTS => return Err(DecodeError::Limit),
                TAG_ARGUMENT | TAG_ENVIRONMENT if data.contains(&0) => return Err(DecodeError::Record(tag)),
                TAG_ARGUMENT => config.arguments.push(data.to_vec()),
                TAG_ENVIRONMENT if !is_assignment(data) => return Err(DecodeError::Record(tag)),
                TAG_ENVIRONMENT => config.environment.push(data.to_vec()),
                TAG_FLAGS if data.len() == 4 => {
                    let flags = u32_at(data, 0);
                    config.verbose = flags & FLAG_VERBOSE != 0;
                    config.trace = flags & FLAG_TRACE != 0;
                }
                TAG_TSC_KHZ if data.len() == 4 => config.tsc_khz = Some(u32_at(data, 0)),
                TAG_ADDRESS => {
                    let address = StaticAddress::decode(data).ok_or(DecodeError::Record(tag))?;
                    config.address = Some(address);
                }
                TAG_NAME_SERVER if config.name_servers.len() == MAX_NAME_SERVERS => {
                    return Err(DecodeError::Limit);
                }
                TAG_NAME_SERVER => {
                    let octets: [u8; 4] = data.try_into().map_err(|_| DecodeError::Record(tag))?;
                    config.name_servers.push(octets.into());
                }
                _ => return Err(DecodeError::Record(tag)),
            }
        }
        Ok(config)
    }
}

/// Bytes of the configuration that starts with this header, header included: how much to read of an area.
///
/// # Errors
/// [`DecodeError::Absent`] where nothing was written yet, another where the header is none of ours.
pub fn encoded_length(header: &[u8; HEADER]) -> Result<usize, DecodeError> {
    if header[..8] == [0; 8] {
        return Err(DecodeError::Absent);
    }
    if &header[..8] != MAGIC {
        return Err(DecodeError::Magic);
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let length = u32_at(header, 12) as usize;
    if length > MAX_ENCODED - HEADER {
        return Err(DecodeError::Limit);
    }
    Ok(HEADER + length)
}

fn push(records: &mut Vec<u8>, tag: u16, data: &[u8]) {
    records.extend_from_slice(&tag.to_le_bytes());
    // A length beyond u32 makes the whole too large, which `encode` refuses; the cast cannot mislead anyone.
    records.extend_from_slice(&(data.len() as u32).to_le_bytes());
    records.extend_from_slice(data);
}

fn split_record(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let tag = u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?);
    let length = u32::from_le_bytes(bytes.get(2..6)?.try_into().ok()?) as usize;
    let (data, rest) = bytes.get(6..)?.split_at_checked(length)?;
    Some((tag, data, rest))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn is_assignment(entry: &[u8]) -> bool {
    entry
        .iter()
        .position(|&byte| byte == b'=')
        .is_some_and(|at| at > 0)
}

fn refuse_nul(entry: &[u8]) -> Result<(), EncodeError> {
    if entry.contains(&0) {
        Err(EncodeError::Nul(lossy(entry)))
    } else {
        Ok(())
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn sample() -> BootConfig {
        BootConfig {
            arguments: vec![
                b"db".to_vec(),
                b"a b".to_vec(),
                b"\"quote's\"\n\xff".to_vec(),
                vec![],
            ],
            environment: vec![
                b"PORT=9001".to_vec(),
                [b"BIG=".as_slice(), &[b'x'; 65536]].concat(),
            ],
            verbose: true,
            trace: false,
            tsc_khz: Some(2_100_000),
            address: Some(StaticAddress {
                cidr: "192.168.7.2/24".parse().unwrap(),
                gateway: Some(Ipv4Addr::new(192, 168, 7, 1)),
            }),
            name_servers: vec![Ipv4Addr::new(192, 168, 7, 1), Ipv4Addr::new(9, 9, 9, 9)],
        }
    }

    #[test]
    fn decodes_what_it_encoded_and_ignores_what_follows() {
        let mut bytes = sample().encode().unwrap();
        bytes.extend_from_slice(&[0xaa; 512]);
        assert_eq!(BootConfig::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn refuses_every_flipped_byte_and_every_cut() {
        let bytes = BootConfig {
            environment: vec![b"A=1".to_vec()],
            ..sample()
        }
        .encode()
        .unwrap();
        assert!(BootConfig::decode(&bytes).is_ok());
        for at in (0..bytes.len()).filter(|at| !(10..12).contains(at)) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(BootConfig::decode(&damaged).is_err(), "byte {at}");
        }
        for end in 0..bytes.len() {
            assert!(BootConfig::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn tells_an_empty_area_from_a_damaged_one() {
        assert_eq!(BootConfig::decode(&[0; 64]), Err(DecodeError::Absent));
        assert_eq!(BootConfig::decode(&[1; 64]), Err(DecodeError::Magic));
    }

    #[test]
    fn refuses_what_a_guest_cannot_take() {
        let encode = |config: BootConfig| config.encode().unwrap_err();
        let arguments = vec![vec![b'x']; 10_000];
        assert_eq!(
            encode(BootConfig {
                arguments,
                ..Default::default()
            }),
            EncodeError::TooManyArguments(10_000)
        );
        let environment = vec![[b"K=".as_slice(), &vec![b'x'; MAX_ENCODED]].concat()];
        assert!(matches!(
            encode(BootConfig {
                environment,
                ..Default::default()
            }),
            EncodeError::TooLarge(_)
        ));
        let arguments = vec![b"a\0b".to_vec()];
        assert!(matches!(
            encode(BootConfig {
                arguments,
                ..Default::default()
            }),
            EncodeError::Nul(_)
        ));
        let environment = vec![b"=x".to_vec()];
        assert!(matches!(
            encode(BootConfig {
                environment,
                ..Default::default()
            }),
            EncodeError::NotAnAssignment(_)
        ));
        let name_servers = vec![Ipv4Addr::LOCALHOST; MAX_NAME_SERVERS + 1];
        assert_eq!(
            encode(BootConfig {
                name_servers,
                ..Default::default()
            }),
            EncodeError::TooManyNameServers(MAX_NAME_SERVERS + 1)
        );
    }

    #[test]
    fn splits_a_command_line_by_shell_rules() {
        let words = split_command_line("db 'a b' \"c\nd\" e\\ f ''").unwrap();
        assert_eq!(words, [&b"db"[..], b"a b", b"c\nd", b"e f", b""]);
        assert_eq!(split_command_line("db 'open"), Err(UnterminatedQuote));
    }
}
