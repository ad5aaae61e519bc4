//! Pictures: of each task its input and its result.
//!
//! A picture comes in as a [`Draft`], which nobody sees until it is committed: readers never meet half a picture, and
//! one whose upload breaks leaves nothing behind. [`place`] decides, at the commit, what it is and whether it may
//! take another's place.

use std::io::{self, Read};

/// Which picture of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What the user uploaded.
    Input,
    /// What a worker made of it.
    Result,
}

/// What is there of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The input is there.
    pub(crate) input: bool,
    /// The result is there, from this lease of the task; 0 if its worker did not say.
    pub(crate) result: Option<u32>,
}

/// What an upload says of itself. The original's services say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) kind: Option<Kind>,
    /// The lease under which a result was made.
    pub(crate) lease: Option<u32>,
}

/// What becomes of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// It is the input. A result that is there was of an earlier input, and goes.
    Input,
    /// It is the result, of this lease.
    Result(u32),
    /// There is a result already, and nobody knows which of the two is newer. Both were made of the same input by the
    /// same rule: the first stays, and its late twin is acknowledged.
    Twin,
    /// Another worker, which has leased the task since, has stored its result.
    Late,
}

/// Decides what becomes of an upload: bugs 2 and 3 of the original.
pub(crate) fn place(claim: Claim, held: Held) -> Placement {
    match (claim.kind, held.result) {
        (Some(Kind::Input), _) => Placement::Input,
        (None, _) if !held.input => Placement::Input,
        (_, None) => Placement::Result(claim.lease.unwrap_or(0)),
        (_, Some(stored)) => match claim.lease {
            None => Placement::Twin,
            Some(lease) if lease < stored => Placement::Late,
            Some(lease) => Placement::Result(lease),
        },
    }
}

/// A picture that can be read.
pub(crate) struct Picture {
    /// In bytes.
    pub(crate) length: u64,
    pub(crate) source: Box<dyn Read + Send>,
}

/// Where pictures are.
pub(crate) trait Pictures: Send + Sync {
    /// What it is, for people: `in memory, at most 512 MiB`.
    fn describe(&self) -> String;

    /// Begins a picture. An error of kind `StorageFull` says that there is no room, here and in a draft.
    fn begin(&self) -> io::Result<Box<dyn Draft + '_>>;

    /// A picture, as it was at this moment, to its end; `None` if it is not there.
    fn open(&self, id: u64, kind: Kind) -> io::Result<Option<Picture>>;
}

/// A picture that comes in. Dropped, it leaves nothing.
pub(crate) trait Draft {
    /// Adds bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Puts the picture where [`place`] says, at once and for all. When this returns, it is safe.
    fn commit(self: Box<Self>, id: u64, claim: Claim) -> io::Result<Placement>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bug_2_the_first_picture_is_the_input_and_the_next_its_result() {
        let nobody = Claim::default();
        let held = |input, result| Held { input, result };
        assert_eq!(place(nobody, held(false, None)), Placement::Input);
        assert_eq!(place(nobody, held(true, None)), Placement::Result(0));
        assert_eq!(place(nobody, held(true, Some(0))), Placement::Twin);
        assert_eq!(place(nobody, held(true, Some(2))), Placement::Twin);
    }

    #[test]
    fn bug_3_a_late_result_does_not_take_the_place_of_a_newer_one() {
        let of_lease = |lease| Claim {
            kind: Some(Kind::Result),
            lease: Some(lease),
        };
        let held = |result| Held {
            input: true,
            result: Some(result),
        };
        assert_eq!(place(of_lease(1), held(2)), Placement::Late);
        assert_eq!(place(of_lease(2), held(2)), Placement::Result(2));
        assert_eq!(place(of_lease(2), held(1)), Placement::Result(2));
        assert_eq!(place(of_lease(1), held(0)), Placement::Result(1));
    }

    #[test]
    fn an_input_begins_a_task_anew() {
        let input = Claim {
            kind: Some(Kind::Input),
            lease: None,
        };
        let held = Held {
            input: true,
            result: Some(3),
        };
        assert_eq!(place(input, held), Placement::Input);
    }
}
