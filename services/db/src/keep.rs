//! Where tasks are kept, beside the memory in which they are found.
//!
//! A [`Keep`] is told of each change before it is acknowledged, and gives everything back at the next start.

use std::io;

use hermitage_micro::task::State;
use hermitage_micro::volume::{self, failed};
use redb::{Database, ReadableTable as _, TableDefinition};

/// Label of the volume that tasks are kept on, where it is attached.
pub(crate) const VOLUME: &str = "db";

/// Bytes of the data base that stay in memory. The tasks are there anyway: it is read at the start alone.
const CACHE: usize = 1 << 20;

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

/// Keeps tasks in a data base on a volume.
pub(crate) struct OnVolume {
    base: Database,
}

/// State on the wire and number of tries, by the task's id.
const TASKS: TableDefinition<'_, u64, (i8, u32)> = TableDefinition::new("tasks");

impl OnVolume {
    /// On the volume [`VOLUME`]; `None` if it is not attached.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        Ok(volume::data_base(VOLUME, CACHE)?.map(|(base, _)| Self { base }))
    }
}

impl Keep for OnVolume {
    fn describe(&self) -> String {
        format!("on the volume `{VOLUME}`")
    }

    fn load(&mut self) -> io::Result<Vec<(u64, Record)>> {
        // The table is there from now on.
        let write = self.base.begin_write().map_err(failed)?;
        let records = read(&write.open_table(TASKS).map_err(failed)?)?;
        write.commit().map_err(failed)?;
        Ok(records)
    }

    fn save(&mut self, id: u64, record: Record) -> io::Result<()> {
        let write = self.base.begin_write().map_err(failed)?;
        write
            .open_table(TASKS)
            .map_err(failed)?
            .insert(id, (record.state.number(), record.tries))
            .map_err(failed)?;
        // On the disk when it returns: redb's default.
        write.commit().map_err(failed)
    }
}

fn read(table: &redb::Table<'_, u64, (i8, u32)>) -> io::Result<Vec<(u64, Record)>> {
    let rows = table.iter().map_err(failed)?;
    let records = rows.map(|row| {
        let (id, value) = row.map_err(failed)?;
        let (state, tries) = value.value();
        let state = State::of_number(state.into()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("task {} has no state", id.value()),
            )
        })?;
        Ok((id.value(), Record { state, tries }))
    });
    records.collect()
}
