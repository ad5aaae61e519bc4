//! Why a boot fails, in words for the console and the launcher, and the reason that each failure ends the guest
//! with.

use alloc::string::String;
use core::fmt;

use hermitage_boot::Reason;
use hermitage_boot::config::{DecodeError, EncodeError};
use hermitage_erofs::reader;

use crate::command::Source;
use crate::disk;
use crate::gpt;

const MIB: u64 = 1 << 20;

/// Why a program cannot be started.
#[derive(Debug)]
pub enum Error {
    /// Started in a way that is none of ours; the number is what eax held.
    Protocol(u32),
    /// Too little RAM for what is to be started; both in bytes.
    Memory {
        /// What there is.
        have: u64,
        /// What there is not.
        lacking: u64,
    },
    /// No virtio block device.
    NoDisk,
    /// Virtio block devices, but none that can be driven.
    UnusableDisk,
    /// Memory-mapped virtio devices that are not virtio 1.0.
    LegacyDevices,
    /// Disks, but no image on them: what is wrong with the first one.
    NoImage(gpt::Error),
    /// The disk cannot be read.
    Disk(disk::Error),
    /// The boot configuration is damaged.
    Config(Source, DecodeError),
    /// A command line that is not UTF-8.
    CommandLineText,
    /// A command line whose last quote is open.
    UnterminatedQuote,
    /// More words than a guest takes, or more bytes.
    CommandTooLarge(EncodeError),
    /// Nothing says which role to run.
    NoRole {
        /// Those that there are.
        roles: String,
    },
    /// A role whose name can be no file's.
    BadRole(String),
    /// A role that the image does not have.
    NoSuchRole {
        /// The one that was asked for.
        role: String,
        /// Those that there are.
        roles: String,
    },
    /// The image's file system; what was read, and why it failed.
    FileSystem(String, reader::Error<disk::Error>),
    /// The role's program is not what it should be.
    Program(String, &'static str),
    /// Nothing gives random numbers.
    NoEntropy,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(magic) => write!(f, "started by an unknown boot protocol (eax {magic:#x})"),
            Self::Memory { have, lacking } => {
                // Firmware keeps some of what the machine was given: the next whole number is what was asked for.
                let have = have.div_ceil(MIB);
                write!(f, "too little memory: have {have} MiB, need {}", have + lacking.div_ceil(MIB))?;
                f.write_str(" MiB")
            }
            Self::NoDisk => f.write_str("no virtio disk found; add one with `-drive file=IMAGE,if=virtio`"),
            Self::UnusableDisk => f.write_str("the virtio disk does not work; it needs virtio 1.0 (no `disable-modern=on`)"),
            Self::LegacyDevices => f.write_str(
                "the virtio devices are in their legacy form; add `-global virtio-mmio.force-legacy=false`",
            ),
            Self::NoImage(why) => write!(f, "no image found: {why}"),
            Self::Disk(error) => error.fmt(f),
            Self::Config(source, error) => write!(f, "{}: {error}", source.name()),
            Self::CommandLineText => f.write_str("the command line is not UTF-8"),
            Self::UnterminatedQuote => f.write_str("the command line has a quote that is not terminated"),
            Self::CommandTooLarge(why) => write!(f, "the command line: {why}"),
            Self::NoRole { roles } => write!(f, "no role is given; the image has: {roles}"),
            Self::BadRole(role) => write!(f, "`{role}` cannot be a role: a role is the name of a file in /bin"),
            Self::NoSuchRole { role, roles } => write!(f, "no role `{role}`; the image has: {roles}"),
            Self::FileSystem(what, error) => write!(f, "{what}: {error}"),
            Self::Program(role, what) => write!(f, "program `{role}` cannot be run: {what}"),
            Self::NoEntropy => f.write_str(
                "no source of entropy: the CPU has neither RDSEED nor RDRAND; add `-device virtio-rng-pci` or \
                 choose another CPU",
            ),
        }
    }
}

impl core::error::Error for Error {}

impl From<disk::Error> for Error {
    fn from(error: disk::Error) -> Self {
        Self::Disk(error)
    }
}

impl Error {
    /// What the guest ends with.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoSuchRole { .. } => Reason::NoSuchRole,
            _ => Reason::Boot,
        }
    }
}
