//! Where tasks are kept, beside the memory in which they are found.
//!
//! A [`Keep`] is told of each change before it is acknowledged, and gives everything back at the next start.

use std::io;

use hermitage_micro::task::State;

/// What is kept of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) state: State,
    /// How often it was handed out.
    pub(crate) tries: u32,
}

/// Something that outlives, or does not outlive, the process.
pub(crate) trait Keep: Send {
    /// What it is, for people: `in memory`.
    fn describe(&self) -> String;

    /// All tasks that were saved, in any order.
    fn load(&mut self) -> io::Result<Vec<(u64, Record)>>;

    /// Saves a task in place of what was saved of it before. When this returns, it is safe.
    fn save(&mut self, id: u64, record: Record) -> io::Result<()>;
}

/// Keeps nothing: tasks last as long as the process.
#[derive(Debug, Default)]
pub(crate) struct Memory;

impl Keep for Memory {
    fn describe(&self) -> String {
        "in memory".to_owned()
    }

    fn load(&mut self) -> io::Result<Vec<(u64, Record)>> {
        Ok(Vec::new())
    }

    fn save(&mut self, _: u64, _: Record) -> io::Result<()> {
        Ok(())
    }
}
