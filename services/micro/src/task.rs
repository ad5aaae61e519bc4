//! Tasks, as the services speak of them.

use std::fmt;

use serde_json::{Value, json};

/// The header field of replies that tells the id of the task that was created.
pub const ID_FIELD: &str = "task-id";

/// The header field in which db tells, with the next task, which of its leases this is: 1 for the first. A worker
/// that gives it back as the parameter `lease` of its requests cannot finish, or overwrite, what another has leased
/// since.
pub const LEASE_FIELD: &str = "task-lease";

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has an id; its picture is not stored yet.
    Created,
    /// It waits for a worker.
    Ready,
    /// A worker has it, until its lease ends.
    Leased,
    /// Its result is stored.
    Finished,
    /// It was tried too often, or its picture never came.
    Failed,
}

impl State {
    /// All states, in order.
    pub const ALL: [Self; 5] = [
        Self::Created,
        Self::Ready,
        Self::Leased,
        Self::Finished,
        Self::Failed,
    ];

    /// The number on the wire. The original knows -1 to 2.
    #[must_use]
    pub fn number(self) -> i8 {
        match self {
            Self::Created => -1,
            Self::Ready => 0,
            Self::Leased => 1,
            Self::Finished => 2,
            Self::Failed => 3,
        }
    }

    /// The state of a number.
    #[must_use]
    pub fn of_number(number: i64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|state| i64::from(state.number()) == number)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Finished => "finished",
            Self::Failed => "failed",
        })
    }
}

/// What db says of a task: its text on the wire. (A map's keys would be sorted; the order is the original's.)
#[must_use]
pub fn to_json(id: u64, state: State) -> String {
    format!(r#"{{"id":{id},"state":{}}}"#, state.number())
}

/// What a list says of a task.
#[must_use]
pub fn to_list_entry(id: u64, state: State, tries: u32) -> Value {
    json!({ "id": id, "state": state.number(), "name": state.to_string(), "tries": tries })
}

/// Reads what db says of a task. A task with a negative id is none.
#[must_use]
pub fn of_json(text: &str) -> Option<(u64, State)> {
    of_value(&serde_json::from_str(text).ok()?)
}

/// Reads a task out of a list, or by itself.
#[must_use]
pub fn of_value(value: &Value) -> Option<(u64, State)> {
    Some((
        value.get("id")?.as_u64()?,
        State::of_number(value.get("state")?.as_i64()?)?,
    ))
}

/// The id that a segment of a path names: digits alone, no sign, no path.
#[must_use]
pub fn parse_id(segment: &str) -> Option<u64> {
    let digits = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| segment.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_the_same_after_the_wire() {
        for state in State::ALL {
            assert_eq!(of_json(&to_json(7, state)), Some((7, state)));
            assert_eq!(of_value(&to_list_entry(7, state, 1)), Some((7, state)));
        }
        assert_eq!(to_json(7, State::Leased), r#"{"id":7,"state":1}"#);
        assert_eq!(of_json(r#"{"id":-1,"state":0}"#), None);
        assert_eq!(of_json("<html>"), None);
    }

    /// Bug 8 of the original.
    #[test]
    fn bug_8_ids_are_numbers() {
        assert_eq!(parse_id("0"), Some(0));
        assert_eq!(parse_id("18446744073709551615"), Some(u64::MAX));
        for segment in [
            "",
            "+1",
            "-1",
            "1.0",
            "0x1",
            "..%2F..%2Fx",
            "18446744073709551616",
            "١",
        ] {
            assert_eq!(parse_id(segment), None, "{segment}");
        }
    }
}
