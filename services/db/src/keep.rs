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

/// State on the wire, number of tries and the sum of both, by the task's id.
type Row = (i8, u32, u32);
const TASKS: TableDefinition<'_, u64, Row> = TableDefinition::new("tasks");

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
            .insert(id, row(id, record.state.number(), record.tries))
            .map_err(failed)?;
        // On the disk when it returns: redb's default.
        write.commit().map_err(failed)
    }
}

fn row(id: u64, state: i8, tries: u32) -> Row {
    let [a, b, c, d] = tries.to_le_bytes();
    (state, tries, volume::sum(id, &[state as u8, a, b, c, d]))
}

fn read(table: &redb::Table<'_, u64, Row>) -> io::Result<Vec<(u64, Record)>> {
    let rows = table.iter().map_err(failed)?;
    let records = rows.map(|found| {
        let (id, value) = found.map_err(failed)?;
        let (id, (state, tries, sum)) = (id.value(), value.value());
        match State::of_number(state.into()) {
            Some(named) if row(id, state, tries).2 == sum => Ok((id, Record { state: named, tries })),
            _ => Err(volume::damaged(VOLUME, &format!("task {id}"))),
        }
    });
    records.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_damaged_on_the_volume_is_said() {
        let backend = redb::backends::InMemoryBackend::new();
        let base = Database::builder().create_with_backend(backend).unwrap();
        let mut keep = OnVolume { base };
        let record = |state| Record { state, tries: 2 };
        keep.save(6, record(State::Ready)).unwrap();
        keep.save(7, record(State::Finished)).unwrap();
        assert_eq!(
            keep.load().unwrap(),
            [(6, record(State::Ready)), (7, record(State::Finished))]
        );
        let (state, tries, sum) = row(7, State::Finished.number(), 2);
        for damaged in [
            (state - 1, tries, sum),
            (state, tries ^ 4, sum),
            row(6, state, tries),
        ] {
            let write = keep.base.begin_write().unwrap();
            write.open_table(TASKS).unwrap().insert(7, damaged).unwrap();
            write.commit().unwrap();
            let error = keep.load().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains("task 7"), "{error}");
        }
    }
}
