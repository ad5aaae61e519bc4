//! The tasks: which is next, who has which, what becomes of them.
//!
//! ```text
//! created --ready--> ready --next--> leased --finish--> finished
//!    |                 ^               |
//!    |                 `-- fewer than `MAX_TRIES` tries --+-- fail, or the lease ends
//!    `-- fail ------------------------------> failed <----'
//! ```
//! Failure paths: whatever is not drawn is refused with [`Refusal::Conflict`] and changes nothing, except that a
//! request whose reply was lost may be sent again: `ready` of a ready task, `finish` of a finished one by the lease
//! that finished it. Nothing changes, either, when it cannot be kept.
//!
//! Each operation takes O(log n) of the tasks that wait or are leased; how many are finished makes no difference.
//! Time is a value given by the caller.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use hermitage_micro::task::State;

use crate::keep::{Keep, Record};

/// A task that a worker got this often and did not finish is failed: a picture that ends its workers would
/// otherwise end them for ever.
pub(crate) const MAX_TRIES: u32 = 3;

/// Most tasks. Of each, 24 bytes stay in memory for ever: 24 MB, of a guest with 64 MB.
const MAX_TASKS: u64 = 1_000_000;

/// Why a request changes nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There is no such task.
    Unknown,
    /// The task is in a state, or leased to another, so that this cannot happen to it.
    Conflict(State),
    /// There are as many tasks as there may be.
    Full,
    /// The change could not be kept.
    Keep(io::Error),
}

/// A task in memory.
#[derive(Clone, Copy, Debug)]
struct Task {
    record: Record,
    /// When its lease ends, if it is leased.
    ends: Duration,
}

/// All tasks; the id of each is its place.
pub(crate) struct Tasks {
    keep: Box<dyn Keep>,
    tasks: Vec<Task>,
    ready: BTreeSet<u64>,
    /// Those that are leased, by the ends of their leases.
    leased: BTreeSet<(Duration, u64)>,
    counts: [u64; State::ALL.len()],
    lease: Duration,
}

impl Tasks {
    /// Those that were kept. A lease does not outlive a restart: its holder finishes in time, or another is asked.
    pub(crate) fn load(mut keep: Box<dyn Keep>, lease: Duration, now: Duration) -> io::Result<Self> {
        let mut kept = keep.load()?;
        kept.sort_unstable_by_key(|(id, _)| *id);
        let mut tasks = Self {
            keep,
            tasks: Vec::new(),
            ready: BTreeSet::new(),
            leased: BTreeSet::new(),
            counts: [0; State::ALL.len()],
            lease,
        };
        for (id, record) in kept {
            if id != tasks.tasks.len() as u64 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("task {} is missing", tasks.tasks.len()),
                ));
            }
            tasks.enter(id, record, now + lease);
        }
        Ok(tasks)
    }

    /// A new task.
    pub(crate) fn create(&mut self) -> Result<u64, Refusal> {
        let id = self.tasks.len() as u64;
        if id >= MAX_TASKS {
            return Err(Refusal::Full);
        }
        let record = Record {
            state: State::Created,
            tries: 0,
        };
        self.keep.save(id, record).map_err(Refusal::Keep)?;
        self.enter(id, record, Duration::ZERO);
        Ok(id)
    }

    /// A task's picture is stored.
    pub(crate) fn ready(&mut self, id: u64, now: Duration) -> Result<(), Refusal> {
        self.expire(now);
        let record = self.get(id, now)?;
        match record.state {
            State::Ready => Ok(()),
            State::Created => self.change(id, State::Ready, record.tries, Duration::ZERO),
            state => Err(Refusal::Conflict(state)),
        }
    }

    /// Leases the ready task with the lowest id; also tells which of its leases this is.
    pub(crate) fn next(&mut self, now: Duration) -> Result<Option<(u64, u32)>, Refusal> {
        self.expire(now);
        let Some(&id) = self.ready.first() else {
            return Ok(None);
        };
        let tries = self.get(id, now)?.tries + 1;
        self.change(id, State::Leased, tries, now + self.lease)?;
        Ok(Some((id, tries)))
    }

    /// A task is done. Without `lease`, which the original's workers do not know, whoever has the task is meant.
    pub(crate) fn finish(&mut self, id: u64, lease: Option<u32>, now: Duration) -> Result<(), Refusal> {
        self.expire(now);
        let record = self.get(id, now)?;
        if lease.is_some_and(|lease| lease != record.tries) {
            return Err(Refusal::Conflict(record.state));
        }
        match record.state {
            State::Finished => Ok(()),
            State::Leased => self.change(id, State::Finished, record.tries, Duration::ZERO),
            state => Err(Refusal::Conflict(state)),
        }
    }

    /// A try has failed; or a task that was created gets no picture.
    pub(crate) fn fail(&mut self, id: u64, lease: Option<u32>, now: Duration) -> Result<(), Refusal> {
        self.expire(now);
        let record = self.get(id, now)?;
        match record.state {
            State::Created => self.change(id, State::Failed, record.tries, Duration::ZERO),
            State::Leased if lease.is_none_or(|lease| lease == record.tries) => {
                self.change(id, after_a_try(record.tries), record.tries, Duration::ZERO)
            }
            state => Err(Refusal::Conflict(state)),
        }
    }

    /// What is known of a task.
    pub(crate) fn get(&mut self, id: u64, now: Duration) -> Result<Record, Refusal> {
        self.expire(now);
        let place = usize::try_from(id).map_err(|_| Refusal::Unknown)?;
        self.tasks
            .get(place)
            .map(|task| task.record)
            .ok_or(Refusal::Unknown)
    }

    /// At most `most` tasks, the newest first, from the one before `before`.
    pub(crate) fn list(&mut self, before: Option<u64>, most: usize, now: Duration) -> Vec<(u64, Record)> {
        self.expire(now);
        let count = self.tasks.len() as u64;
        let end = before.map_or(count, |before| before.min(count));
        let ids = (0..end).rev().take(most);
        ids.filter_map(|id| Some((id, self.get(id, now).ok()?))).collect()
    }

    /// How many tasks are in each state, in the order of `State::ALL`.
    pub(crate) fn counts(&mut self, now: Duration) -> [u64; State::ALL.len()] {
        self.expire(now);
        self.counts
    }

    /// Ends the leases that are over.
    fn expire(&mut self, now: Duration) {
        while let Some(&(ends, id)) = self.leased.first() {
            if ends > now {
                break;
            }
            let tries = self.tasks[place(id)].record.tries;
            // If this cannot be kept, the task is leased after a restart, and that lease ends, too.
            if self
                .change(id, after_a_try(tries), tries, Duration::ZERO)
                .is_err()
            {
                break;
            }
        }
    }

    /// Keeps a change, then makes it.
    fn change(&mut self, id: u64, state: State, tries: u32, ends: Duration) -> Result<(), Refusal> {
        let record = Record { state, tries };
        self.keep.save(id, record).map_err(Refusal::Keep)?;
        let old = self.tasks[place(id)];
        self.counts[index(old.record.state)] -= 1;
        match old.record.state {
            State::Ready => self.ready.remove(&id),
            State::Leased => self.leased.remove(&(old.ends, id)),
            _ => false,
        };
        self.enter(id, record, ends);
        Ok(())
    }

    /// Enters a task where it is looked for.
    fn enter(&mut self, id: u64, record: Record, ends: Duration) {
        match record.state {
            State::Ready => self.ready.insert(id),
            State::Leased => self.leased.insert((ends, id)),
            _ => false,
        };
        self.counts[index(record.state)] += 1;
        let task = Task { record, ends };
        match self.tasks.get_mut(place(id)) {
            Some(place) => *place = task,
            None => self.tasks.push(task),
        }
    }
}

fn after_a_try(tries: u32) -> State {
    if tries < MAX_TRIES {
        State::Ready
    } else {
        State::Failed
    }
}

/// The place of a task that is known.
fn place(id: u64) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

fn index(state: State) -> usize {
    State::ALL
        .iter()
        .position(|&other| other == state)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::Memory;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    const LEASE: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn tasks() -> Tasks {
        Tasks::load(Box::new(Memory), LEASE, at(0)).unwrap()
    }

    fn with_ready(count: u64) -> Tasks {
        let mut tasks = tasks();
        for id in 0..count {
            assert_eq!(tasks.create().unwrap(), id);
            tasks.ready(id, at(0)).unwrap();
        }
        tasks
    }

    fn state(tasks: &mut Tasks, id: u64, now: u64) -> State {
        tasks.get(id, at(now)).unwrap().state
    }

    #[test]
    fn hands_out_the_lowest_ready_id_and_each_once() {
        let mut tasks = with_ready(3);
        tasks.create().unwrap();
        let handed: Vec<_> = (0..4).map(|_| tasks.next(at(0)).unwrap()).collect();
        assert_eq!(handed, [Some((0, 1)), Some((1, 1)), Some((2, 1)), None]);
    }

    #[test]
    fn a_lease_that_ends_makes_the_task_ready_and_no_sooner() {
        let mut tasks = with_ready(1);
        assert_eq!(tasks.next(at(1)).unwrap(), Some((0, 1)));
        assert_eq!(state(&mut tasks, 0, 20), State::Leased);
        assert_eq!(tasks.next(at(20)).unwrap(), None);
        assert_eq!(state(&mut tasks, 0, 21), State::Ready);
        assert_eq!(tasks.next(at(21)).unwrap(), Some((0, 2)));
    }

    #[test]
    fn bug_3_a_late_worker_does_not_finish_what_another_has() {
        let mut tasks = with_ready(1);
        tasks.next(at(0)).unwrap();
        // Over, and nobody has it: not finished by the old lease, nor by somebody who does not say which.
        for lease in [Some(1), None] {
            assert!(matches!(
                tasks.finish(0, lease, at(20)),
                Err(Refusal::Conflict(State::Ready))
            ));
        }
        tasks.next(at(20)).unwrap();
        for late in [tasks.finish(0, Some(1), at(21)), tasks.fail(0, Some(1), at(21))] {
            assert!(matches!(late, Err(Refusal::Conflict(State::Leased))));
        }
        tasks.finish(0, Some(2), at(22)).unwrap();
        assert!(tasks.finish(0, Some(1), at(23)).is_err());
        // Its reply was lost: it asks again.
        tasks.finish(0, Some(2), at(23)).unwrap();
        assert_eq!(state(&mut tasks, 0, 100), State::Finished);
    }

    #[test]
    fn bug_3_ready_does_not_reopen_a_task() {
        let mut tasks = with_ready(1);
        tasks.ready(0, at(0)).unwrap();
        tasks.next(at(0)).unwrap();
        assert!(matches!(
            tasks.ready(0, at(1)),
            Err(Refusal::Conflict(State::Leased))
        ));
        tasks.finish(0, None, at(1)).unwrap();
        assert!(matches!(
            tasks.ready(0, at(2)),
            Err(Refusal::Conflict(State::Finished))
        ));
        assert_eq!(tasks.next(at(50)).unwrap(), None);
    }

    #[test]
    fn bug_11_a_task_is_tried_three_times() {
        let mut tasks = with_ready(2);
        for lease in 1..=MAX_TRIES {
            assert_eq!(tasks.next(at(0)).unwrap(), Some((0, lease)));
            tasks.fail(0, Some(lease), at(0)).unwrap();
        }
        assert_eq!(state(&mut tasks, 0, 0), State::Failed);
        // By leases that end, as when the picture ends its workers.
        for lease in 1..=u64::from(MAX_TRIES) {
            assert!(tasks.next(at(20 * lease)).unwrap().is_some());
        }
        assert_eq!(
            state(&mut tasks, 1, 20 + 20 * u64::from(MAX_TRIES)),
            State::Failed
        );
        assert_eq!(tasks.next(at(1000)).unwrap(), None);
        for id in [0, 1] {
            assert!(tasks.finish(id, None, at(1000)).is_err() && tasks.ready(id, at(1000)).is_err());
        }
        assert_eq!(tasks.counts(at(1000)), [0, 0, 0, 0, 2]);
    }

    #[test]
    fn a_task_whose_picture_never_came_fails() {
        let mut tasks = tasks();
        tasks.create().unwrap();
        assert!(matches!(
            tasks.finish(0, None, at(0)),
            Err(Refusal::Conflict(State::Created))
        ));
        tasks.fail(0, None, at(0)).unwrap();
        assert!(tasks.ready(0, at(0)).is_err());
        assert!(matches!(tasks.ready(1, at(0)), Err(Refusal::Unknown)));
    }

    #[test]
    fn lists_the_newest_first_in_pages() {
        let mut tasks = with_ready(5);
        let mut ids = |before, most| -> Vec<u64> {
            tasks
                .list(before, most, at(0))
                .iter()
                .map(|(id, _)| *id)
                .collect()
        };
        assert_eq!(ids(None, 2), [4, 3]);
        assert_eq!(ids(Some(3), 10), [2, 1, 0]);
        assert!(ids(Some(0), 10).is_empty());
        assert_eq!(ids(Some(u64::MAX), 1), [4]);
    }

    /// The original looks through all tasks for the next: with 20 times the finished tasks it takes 20 times as
    /// long. Here it must not take 10 times as long.
    #[test]
    fn bug_13_the_next_task_costs_no_more_with_many_that_are_finished() {
        let time = |finished: u64| {
            let mut tasks = with_ready(finished + 500);
            for _ in 0..finished {
                let (id, lease) = tasks.next(at(0)).unwrap().unwrap();
                tasks.finish(id, Some(lease), at(0)).unwrap();
            }
            // The best of ten batches: now and then a list grows, which is paid for by all before it.
            let batch = |tasks: &mut Tasks| {
                let begin = Instant::now();
                for _ in 0..50 {
                    tasks.next(at(0)).unwrap().unwrap();
                }
                begin.elapsed()
            };
            (0..10).map(|_| batch(&mut tasks)).min().unwrap_or_default()
        };
        // The best of some runs: a busy machine makes one slow.
        let best = |finished| (0..5).map(|_| time(finished)).min().unwrap_or_default();
        let (few, many) = (best(20_000), best(400_000));
        assert!(many < few * 10, "{few:?}, {many:?}");
    }

    /// Keeps tasks beside the test, and fails from some call on.
    #[derive(Clone, Default)]
    struct Disk {
        saved: Arc<Mutex<Vec<(u64, Record)>>>,
        full: Arc<Mutex<bool>>,
    }

    impl Keep for Disk {
        fn describe(&self) -> String {
            "on a disk".to_owned()
        }

        fn load(&mut self) -> io::Result<Vec<(u64, Record)>> {
            Ok(self.saved.lock().unwrap().clone())
        }

        fn save(&mut self, id: u64, record: Record) -> io::Result<()> {
            if *self.full.lock().unwrap() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let mut saved = self.saved.lock().unwrap();
            saved.retain(|(other, _)| *other != id);
            saved.push((id, record));
            Ok(())
        }
    }

    #[test]
    fn bug_14_what_was_kept_is_there_after_a_restart() {
        let disk = Disk::default();
        let start = || Tasks::load(Box::new(disk.clone()), LEASE, at(0)).unwrap();
        let mut tasks = start();
        for id in 0..4 {
            tasks.create().unwrap();
            if id > 0 {
                tasks.ready(id, at(0)).unwrap();
            }
        }
        tasks.next(at(0)).unwrap();
        tasks.finish(1, Some(1), at(0)).unwrap();
        tasks.next(at(0)).unwrap();
        drop(tasks);

        let mut tasks = start();
        let states: Vec<_> = (0..4).map(|id| state(&mut tasks, id, 0)).collect();
        assert_eq!(
            states,
            [State::Created, State::Finished, State::Leased, State::Ready]
        );
        assert_eq!(tasks.next(at(0)).unwrap(), Some((3, 1)));
        // The holder of a lease may still finish.
        tasks.finish(2, Some(1), at(1)).unwrap();
        assert_eq!(tasks.create().unwrap(), 4);
    }

    #[test]
    fn what_cannot_be_kept_does_not_happen() {
        let disk = Disk::default();
        let mut tasks = Tasks::load(Box::new(disk.clone()), LEASE, at(0)).unwrap();
        tasks.create().unwrap();
        tasks.ready(0, at(0)).unwrap();
        *disk.full.lock().unwrap() = true;
        assert!(matches!(tasks.create(), Err(Refusal::Keep(_))));
        assert!(matches!(tasks.next(at(0)), Err(Refusal::Keep(_))));
        assert_eq!(state(&mut tasks, 0, 0), State::Ready);
        *disk.full.lock().unwrap() = false;
        assert_eq!(tasks.next(at(0)).unwrap(), Some((0, 1)));
        assert_eq!(tasks.create().unwrap(), 1);
    }
}
