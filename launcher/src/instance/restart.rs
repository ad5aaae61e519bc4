//! When an instance that has ended is started again by itself, and after how long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::exit::GuestExit;
use crate::units::{ParseError, serialized_as_text};

/// When an instance is started again by itself. Never, if it was stopped or killed on request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it failed: any end but an exit with 0; at most so often in a row, if there is a number.
    OnFailure(Option<u32>),
    /// However it ended.
    Always,
}

serialized_as_text!(RestartPolicy);

/// The pause before the first restart; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: a service whose database is gone for an hour is back a minute after it.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A run that lasted as long was a success; what fails after it is a new failure, and pauses begin anew.
const STABLE: Duration = Duration::from_secs(10);

/// How often in a row an instance was started again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Restarts {
    in_a_row: u32,
}

impl Restarts {
    /// The pause before the next start, after a run of `time` that ended so; `None` if there is to be none.
    pub(crate) fn pause(
        &mut self,
        policy: RestartPolicy,
        exit: &GuestExit,
        time: Duration,
    ) -> Option<Duration> {
        if time >= STABLE {
            self.in_a_row = 0;
        }
        let again = match policy {
            // Somebody wanted it to end, if only by closing what it writes to.
            _ if matches!(exit, GuestExit::Stopped | GuestExit::Killed) => false,
            RestartPolicy::No => false,
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure(most) => {
                exit.code() != 0 && most.is_none_or(|most| self.in_a_row < most)
            }
        };
        let factor = 1_u32.checked_shl(self.in_a_row).unwrap_or(u32::MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        again.then(|| FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE))
    }
}

impl FromStr for RestartPolicy {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (word, number) = match text.split_once(':') {
            Some((word, number)) => (word, Some(number)),
            None => (text, None),
        };
        let fault = |fault| {
            let expected = "a policy is `no`, `on-failure`, `on-failure:N` or `always`";
            ParseError::new(text, fault, expected)
        };
        match (word, number) {
            ("no", None) => Ok(Self::No),
            ("always", None) => Ok(Self::Always),
            ("on-failure", None) => Ok(Self::OnFailure(None)),
            ("on-failure", Some(number)) => {
                let most = number.parse().map_err(|_| fault("has no number of restarts"))?;
                Ok(Self::OnFailure(Some(most)))
            }
            _ => Err(fault("is no restart policy")),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::OnFailure(None) => f.write_str("on-failure"),
            Self::OnFailure(Some(most)) => write!(f, "on-failure:{most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    fn pauses(policy: &str, exit: &GuestExit, times: &[Duration]) -> Vec<Option<u128>> {
        let policy = policy.parse().unwrap();
        let mut restarts = Restarts::default();
        let pause = |time: &Duration| restarts.pause(policy, exit, *time).map(|pause| pause.as_millis());
        times.iter().map(pause).collect()
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_good_run() {
        let failed = GuestExit::Status(1);
        let all = pauses("always", &failed, &[SHORT; 50]);
        assert_eq!(all[..4], [Some(100), Some(200), Some(400), Some(800)]);
        assert_eq!(all[9..12], [Some(51_200), Some(60_000), Some(60_000)]);
        assert_eq!(all[49], Some(60_000));
        assert_eq!(
            pauses("always", &failed, &[SHORT, SHORT, STABLE, SHORT]),
            [Some(100), Some(200), Some(100), Some(200)]
        );
    }

    #[test]
    fn what_is_started_again_is_what_the_policy_says() {
        let (good, bad) = (GuestExit::Status(0), GuestExit::Reset);
        assert_eq!(pauses("no", &bad, &[SHORT]), [None]);
        assert_eq!(pauses("always", &good, &[SHORT]), [Some(100)]);
        assert_eq!(pauses("on-failure", &good, &[SHORT]), [None]);
        assert_eq!(
            pauses("on-failure:2", &bad, &[SHORT; 3]),
            [Some(100), Some(200), None]
        );
        assert_eq!(pauses("on-failure:0", &bad, &[SHORT]), [None]);
        for asked in [GuestExit::Stopped, GuestExit::Killed] {
            assert_eq!(pauses("always", &asked, &[SHORT]), [None]);
        }
    }

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["no", "always", "on-failure", "on-failure:3"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "yes",
            "no:1",
            "always:3",
            "on-failure:",
            "on-failure:-1",
            "on-failure:x",
        ] {
            let error = text.parse::<RestartPolicy>().unwrap_err().to_string();
            assert!(error.contains("`on-failure:N`"), "{text}: {error}");
        }
    }
}
