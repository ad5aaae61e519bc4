//! How a run ended: [`GuestExit`], derived from all that was seen of it.

use std::fmt;

use hermitage_boot::GuestEnd;
use serde::{Deserialize, Serialize};

use crate::error::{Error, with_causes};
use crate::monitor::Shutdown;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestExit {
    /// The guest said how it ended.
    Ended(GuestEnd),
    /// The guest ended the machine with a status, without a word about why.
    Status(u8),
    /// The guest reset the machine without saying why; a triple fault is such a reset.
    Reset,
    /// The guest switched the machine off without saying why.
    PowerOff,
    /// QEMU was told to end, as somebody asked.
    Stopped,
    /// QEMU was killed, as somebody asked, or since it did not end when it was told to.
    Killed,
    /// QEMU itself was killed, or failed; its last words, if any.
    Lost(String),
}

impl GuestExit {
    /// The code of an end that nobody explained: the launcher, not the guest, says that.
    pub const UNEXPLAINED: u8 = 125;

    /// The code of a guest that was stopped, as for a program that SIGTERM ended.
    pub const STOPPED: u8 = 143;

    /// The code of a guest that was killed, as for a program that SIGKILL ended.
    pub const KILLED: u8 = 137;

    /// The end of a run that could not begin.
    pub(crate) fn not_started(error: &Error) -> Self {
        Self::Lost(with_causes(error))
    }

    /// The exit code: the guest's own wherever there is one.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Ended(end) => end.code,
            Self::Status(code) => *code,
            Self::Reset | Self::PowerOff | Self::Lost(_) => Self::UNEXPLAINED,
            Self::Stopped => Self::STOPPED,
            Self::Killed => Self::KILLED,
        }
    }

    /// The reason in one word, as it is kept and printed as JSON.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Ended(end) => end.reason.word(),
            Self::Status(_) => "exit",
            Self::Reset => "reset",
            Self::PowerOff => "power-off",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Lost(_) => "lost",
        }
    }
}

/// How a run ended, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The exit code.
    pub code: u8,
    /// [`GuestExit::reason`].
    pub reason: String,
    /// [`GuestExit`] in words.
    pub text: String,
}

impl From<&GuestExit> for End {
    fn from(exit: &GuestExit) -> Self {
        Self {
            code: exit.code(),
            reason: exit.reason().to_owned(),
            text: exit.to_string(),
        }
    }
}

impl fmt::Display for GuestExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(end) => end.fmt(f),
            Self::Status(code) => write!(f, "exited with {code}"),
            Self::Reset => {
                f.write_str("the guest reset the machine without saying why, as a triple fault does")
            }
            Self::PowerOff => f.write_str("the guest switched the machine off without saying why"),
            Self::Stopped => f.write_str("stopped"),
            Self::Killed => f.write_str("killed"),
            Self::Lost(words) => f.write_str(words),
        }
    }
}

/// What was seen of a run that is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The last `end` record of the control channel.
    pub(crate) end: Option<GuestEnd>,
    /// QEMU's exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended QEMU.
    pub(crate) signal: Option<i32>,
    /// Whether we asked guest or QEMU to end.
    pub(crate) stopped: bool,
    /// Whether we killed QEMU.
    pub(crate) killed: bool,
    /// Why QEMU says that the machine was shut down.
    pub(crate) shutdown: Option<Shutdown>,
    /// What QEMU wrote to stderr.
    pub(crate) words: String,
}

impl Evidence {
    /// Decides how the run ended. The guest's own word counts most.
    pub(crate) fn judge(self) -> GuestExit {
        if let Some(end) = self.end {
            return GuestExit::Ended(end);
        }
        if self.killed {
            return GuestExit::Killed;
        }
        if self.stopped {
            return GuestExit::Stopped;
        }
        let words = self.words.trim();
        match (self.code, self.signal) {
            (Some(0), _) if self.shutdown == Some(Shutdown::Reset) => GuestExit::Reset,
            (Some(0), _) => GuestExit::PowerOff,
            // 1 is also how QEMU itself fails, but never without words.
            (Some(1), _) if !words.is_empty() => GuestExit::Lost(format!("QEMU failed: {words}")),
            // isa-debug-exit: (code << 1) | 1, of which 8 bits are left.
            (Some(status), _) if status & 1 == 1 => GuestExit::Status((status >> 1) as u8),
            (Some(status), _) => GuestExit::Lost(format!("QEMU ended with status {status}: {words}")),
            (None, Some(signal)) => GuestExit::Lost(format!("QEMU was ended by signal {signal}")),
            (None, None) => GuestExit::Lost("QEMU ended in an unknown way".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hermitage_boot::Reason;

    #[test]
    fn the_guests_word_counts_most_then_its_status() {
        let end = GuestEnd::because(Reason::OutOfMemory, "4096 bytes".to_owned());
        let seen = |code: i32| Evidence {
            code: Some(code),
            ..Evidence::default()
        };
        let table = [
            (
                Evidence {
                    end: Some(end.clone()),
                    ..seen(0)
                },
                GuestExit::Ended(end.clone()),
                137,
            ),
            (
                Evidence {
                    end: Some(end.clone()),
                    stopped: true,
                    ..seen(0)
                },
                GuestExit::Ended(end),
                137,
            ),
            (seen(0), GuestExit::PowerOff, 125),
            (
                Evidence {
                    shutdown: Some(Shutdown::Reset),
                    ..seen(0)
                },
                GuestExit::Reset,
                125,
            ),
            (seen(1), GuestExit::Status(0), 0),
            (seen((101 << 1) | 1), GuestExit::Status(101), 101),
            (
                Evidence {
                    words: "no such device\n".to_owned(),
                    ..seen(1)
                },
                GuestExit::Lost("QEMU failed: no such device".to_owned()),
                125,
            ),
            (
                Evidence {
                    stopped: true,
                    ..seen(0)
                },
                GuestExit::Stopped,
                143,
            ),
            (
                Evidence {
                    signal: Some(9),
                    stopped: true,
                    killed: true,
                    ..Evidence::default()
                },
                GuestExit::Killed,
                137,
            ),
            (
                Evidence {
                    signal: Some(9),
                    ..Evidence::default()
                },
                GuestExit::Lost("QEMU was ended by signal 9".to_owned()),
                125,
            ),
        ];
        for (evidence, exit, code) in table {
            let judged = evidence.clone().judge();
            assert_eq!(judged, exit, "{evidence:?}");
            assert_eq!(judged.code(), code, "{evidence:?}");
        }
    }
}
