//! How a guest can end, and the exit code that each end has.

use alloc::string::String;
use core::fmt;

/// Why a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The program returned from `main` or called `exit`; the code is its own.
    Exit,
    /// The program panicked.
    Panic,
    /// The program aborted.
    Abort,
    /// An allocation failed.
    OutOfMemory,
    /// The CPU raised an exception: page fault, general protection, invalid opcode, divide error, ...
    Fault,
    /// The kernel itself panicked.
    Kernel,
    /// The loader could not start the program: damaged image, no memory, bad boot configuration.
    Boot,
    /// The image has no such role.
    NoSuchRole,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Exit,
        Self::Panic,
        Self::Abort,
        Self::OutOfMemory,
        Self::Fault,
        Self::Kernel,
        Self::Boot,
        Self::NoSuchRole,
    ];

    /// The word for it on the control channel.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Panic => "panic",
            Self::Abort => "abort",
            Self::OutOfMemory => "out-of-memory",
            Self::Fault => "fault",
            Self::Kernel => "kernel",
            Self::Boot => "boot",
            Self::NoSuchRole => "no-such-role",
        }
    }

    /// The exit code that an end for this reason has, where the program does not choose it. They follow what
    /// shells, Rust and container tools use: 101 for a panic, 128 + signal number for an abort (6), an
    /// out-of-memory kill (9) and a fault (11), 126 and 127 for a command that cannot be started or found.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Exit => 0,
            Self::Panic => 101,
            Self::Abort => 134,
            Self::OutOfMemory => 137,
            Self::Fault => 139,
            Self::Kernel => 70,
            Self::Boot => 126,
            Self::NoSuchRole => 127,
        }
    }
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestEnd {
    /// Why.
    pub reason: Reason,
    /// The exit code, 0 to 255.
    pub code: u8,
    /// More about it, on one line; may be empty.
    pub detail: String,
}

impl GuestEnd {
    /// An end whose code is its reason's.
    #[must_use]
    pub const fn because(reason: Reason, detail: String) -> Self {
        Self {
            reason,
            code: reason.code(),
            detail,
        }
    }
}

impl fmt::Display for GuestEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Exit => write!(f, "exited with {}", self.code)?,
            Reason::Panic => f.write_str("the program panicked")?,
            Reason::Abort => f.write_str("the program aborted")?,
            Reason::OutOfMemory => f.write_str("out of memory")?,
            Reason::Fault => f.write_str("the program made the CPU fault")?,
            Reason::Kernel => f.write_str("the kernel panicked")?,
            Reason::Boot => f.write_str("the image could not be started")?,
            Reason::NoSuchRole => f.write_str("the image has no such role")?,
        }
        if self.detail.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.detail)
        }
    }
}
