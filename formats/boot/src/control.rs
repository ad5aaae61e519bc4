//! The control channel: lines of ASCII on the guest's second serial port.
//!
//! What a guest writes is a [`Record`]:
//!
//! | line | meaning |
//! | --- | --- |
//! | `khz <n>` | the guest counts time at `n` kHz (time-stamp counter) |
//! | `mark <name> <tsc>` | the guest reached `name` when its time-stamp counter showed `tsc` |
//! | `address <a.b.c.d>/<prefix>` | the guest's network card has this address now, leased or given |
//! | `hears <request>` | from now on the guest acts on this request |
//! | `traffic <received> <sent>` | bytes of the frames that went over the guest's network card since it started |
//! | `end <reason> <code> <detail>` | the guest ends; the last such line counts |
//!
//! What the launcher writes is a [`Request`]:
//!
//! | line | meaning |
//! | --- | --- |
//! | `stop` | end in order, now: finish what is begun, then exit with a code of your own |
//! | `traffic` | say what went over the network card, by such a line |
//!
//! A request that the guest has not said it hears is not made: nobody would wait for its answer in vain. Lines that are
//! none of these are to be ignored, by either side: a newer one may say more.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

use crate::address::Ipv4Cidr;
use crate::end::{GuestEnd, Reason};

/// Most bytes of a line, its newline included; longer lines are cut by the writer and ignored by the reader.
pub const MAX_LINE: usize = 512;

/// Most characters of an end's detail: what [`MAX_LINE`] leaves beside the longest reason and code.
const MAX_DETAIL: usize = 480;

/// The points of a boot that a guest marks when it is asked to trace.
pub mod mark {
    /// The loader's first instruction in long mode.
    pub const LOADER: &str = "loader";
    /// The loader jumps into the kernel.
    pub const KERNEL: &str = "kernel";
    /// The kernel hands over to the program's runtime, just before `main`.
    pub const MAIN: &str = "main";
    /// The program listens on its first TCP port, and has an address: it can be reached.
    pub const LISTEN: &str = "listen";
}

/// One line of the control channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Frequency of the guest's time-stamp counter in kHz.
    Khz(u32),
    /// A point of the boot was reached.
    Mark {
        /// Which, see [`mark`].
        name: String,
        /// The time-stamp counter's value then; under QEMU it counts from the start of the virtual machine.
        tsc: u64,
    },
    /// The address of the guest's network card; the last such line counts, as a lease may be followed by another.
    Address(Ipv4Cidr),
    /// The guest acts on this request from now on.
    Hears(Request),
    /// What went over the guest's network card since it started: the answer to [`Request::Traffic`].
    Traffic {
        /// Bytes of the frames that it received.
        received: u64,
        /// Bytes of the frames that it sent.
        sent: u64,
    },
    /// The guest ends.
    End(GuestEnd),
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Khz(khz) => writeln!(f, "khz {khz}"),
            Self::Mark { name, tsc } => writeln!(f, "mark {name} {tsc}"),
            Self::Address(cidr) => writeln!(f, "address {cidr}"),
            Self::Hears(request) => writeln!(f, "hears {}", request.word()),
            Self::Traffic { received, sent } => writeln!(f, "traffic {received} {sent}"),
            Self::End(end) => write_end(f, end.reason, end.code, &end.detail),
        }
    }
}

/// What the launcher asks of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End in order, now. Asked again, it means the same.
    Stop,
    /// Say what went over the network card.
    Traffic,
}

impl Request {
    /// All requests.
    pub const ALL: [Self; 2] = [Self::Stop, Self::Traffic];

    /// The word for it on the control channel.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Traffic => "traffic",
        }
    }

    /// Reads one line, with or without its newline. `None` if it is none of ours.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let word = line.trim_end_matches(['\r', '\n']);
        Self::ALL.into_iter().find(|request| request.word() == word)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.word())
    }
}

/// Writes the line of a [`Record::End`] without allocating: memory may be what the guest ran out of.
/// The detail is made fit for a line: a panic's message may have several, in any script.
///
/// # Errors
/// Those of `out`.
pub fn write_end(
    out: &mut impl fmt::Write,
    reason: Reason,
    code: u8,
    detail: impl fmt::Display,
) -> fmt::Result {
    write!(out, "end {} {code} ", reason.word())?;
    // Longer ones fail to be written: that is how they are cut.
    let _cut = fmt::Write::write_fmt(
        &mut OneLine {
            out,
            left: MAX_DETAIL,
        },
        format_args!("{detail}"),
    );
    out.write_char('\n')
}

/// Passes on printable ASCII, something visible for all else, and fails when it is full.
struct OneLine<'a, W> {
    out: &'a mut W,
    left: usize,
}

impl<W: fmt::Write> fmt::Write for OneLine<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.out.write_char(match char {
                ' '..='~' => char,
                _ if char.is_control() => ' ',
                _ => '?',
            })?;
        }
        Ok(())
    }
}

impl Record {
    /// Reads one line, with or without its newline. `None` if it is none of ours.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end_matches(['\r', '\n']);
        let (word, rest) = line.split_once(' ')?;
        match word {
            "khz" => Some(Self::Khz(rest.parse().ok()?)),
            "mark" => {
                let (name, tsc) = rest.split_once(' ')?;
                Some(Self::Mark {
                    name: name.to_owned(),
                    tsc: tsc.parse().ok()?,
                })
            }
            "address" => Some(Self::Address(rest.parse().ok()?)),
            "hears" => Some(Self::Hears(Request::parse(rest)?)),
            "traffic" => {
                let (received, sent) = rest.split_once(' ')?;
                Some(Self::Traffic {
                    received: received.parse().ok()?,
                    sent: sent.parse().ok()?,
                })
            }
            "end" => {
                let mut parts = rest.splitn(3, ' ');
                let word = parts.next()?;
                let reason = Reason::ALL.into_iter().find(|reason| reason.word() == word)?;
                let code = parts.next()?.parse().ok()?;
                let detail = parts.next().unwrap_or_default().to_owned();
                Some(Self::End(GuestEnd { reason, code, detail }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn parses_what_it_writes() {
        for reason in Reason::ALL {
            let record = Record::End(GuestEnd {
                reason,
                code: 255,
                detail: "why it was so".to_owned(),
            });
            assert_eq!(Record::parse(&record.to_string()), Some(record));
        }
        for record in [
            Record::Khz(2_100_000),
            Record::Address("10.0.2.15/24".parse().unwrap()),
            Record::Mark {
                name: mark::MAIN.to_owned(),
                tsc: u64::MAX,
            },
            Record::Traffic {
                received: u64::MAX,
                sent: 0,
            },
        ] {
            assert_eq!(Record::parse(&record.to_string()), Some(record));
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_nothing_else_is_one() {
        for request in Request::ALL {
            assert_eq!(Request::parse(&request.to_string()), Some(request));
            let record = Record::Hears(request);
            assert_eq!(Record::parse(&record.to_string()), Some(record));
        }
        for line in ["", "\n", "stop now", "STOP", " stop"] {
            assert_eq!(Request::parse(line), None, "{line:?}");
        }
        assert_eq!(Record::parse("hears nonsense"), None);
    }

    #[test]
    fn writes_any_detail_as_one_line_that_is_read_again() {
        for (detail, read) in [
            ("two\r\nlines", "two  lines"),
            ("gr\u{fc}n", "gr?n"),
            (&"x".repeat(600), &"x".repeat(MAX_DETAIL)),
        ] {
            let mut line = String::new();
            write_end(&mut line, Reason::NoSuchRole, 255, detail).unwrap();
            assert!(line.len() <= MAX_LINE);
            assert_eq!(line.find('\n'), Some(line.len() - 1));
            let Some(Record::End(end)) = Record::parse(&line) else {
                panic!("{line:?} is not read");
            };
            assert_eq!(end.detail, read);
        }
    }

    #[test]
    fn ignores_what_it_does_not_know() {
        for line in [
            "",
            "\n",
            "end",
            "end exit",
            "end exit 256",
            "end surprise 3 x",
            "khz",
            "mark main",
            "address 10.0.2.15",
            "traffic 1",
            "traffic 1 18446744073709551616",
            "traffic 1 -2",
            "noise 1",
        ] {
            assert_eq!(Record::parse(line), None, "{line:?}");
        }
    }
}
