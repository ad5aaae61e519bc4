//! Points in time as they are kept and shown: UTC, RFC 3339, milliseconds.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use crate::units::{ParseError, serialized_as_text};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(SystemTime);

serialized_as_text!(Timestamp);

impl Timestamp {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now())
    }

    /// The time from then to now; none where the clock was set back.
    #[must_use]
    pub fn age(self) -> Duration {
        self.0.elapsed().unwrap_or_default()
    }

    /// The time from `earlier` to this.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0).unwrap_or_default()
    }

    /// The point that a user means by a time (`2026-11-21T15:00:00Z`, UTC) or by how long it is ago (`90s`, `2h 5m`).
    ///
    /// # Errors
    /// It is neither, or too long ago for this clock.
    pub fn parse_since(text: &str) -> Result<Self, ParseError> {
        if let Ok(time) = text.parse() {
            return Ok(time);
        }
        let ago = humantime::parse_duration(text).ok();
        let time = ago.and_then(|ago| SystemTime::now().checked_sub(ago));
        time.map(Self).ok_or_else(|| {
            let expected = "give a duration such as `10m`, or a time such as `2026-11-21T15:00:00Z`";
            ParseError::new(text, "is no time", expected)
        })
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(time)
    }
}

impl FromStr for Timestamp {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "a time is in UTC, as `2026-11-21T15:00:00Z`";
        humantime::parse_rfc3339_weak(text)
            .map(Self)
            .map_err(|_| ParseError::new(text, "is no time", expected))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        let text = "2026-11-21T15:00:00.123Z";
        let time: Timestamp = text.parse().unwrap();
        assert_eq!(time.to_string(), text);
        for text in ["", "now", "2026-13-01T00:00:00Z", "15:00"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn since_is_a_time_or_a_duration() {
        let hour = Timestamp::parse_since("1h").unwrap().age();
        assert!(hour >= Duration::from_secs(3600) && hour < Duration::from_secs(3700));
        let exact = Timestamp::parse_since("2026-11-21T15:00:00Z").unwrap();
        assert_eq!(exact.to_string(), "2026-11-21T15:00:00.000Z");
        for text in ["", "yesterday", "-1h", "5"] {
            let error = Timestamp::parse_since(text).unwrap_err().to_string();
            assert!(error.contains("such as `10m`"), "{text}: {error}");
        }
    }
}
