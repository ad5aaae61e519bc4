//! The rows of the data base, each with the sum of its parts and its key.

use std::io;

use hermitage_micro::volume;
use redb::TableDefinition;

use super::VOLUME;

/// A picture's number and its length in bytes.
pub(super) type Stored = (u64, u64);

/// A result's lease, 0 of an input; what is stored; the sum of both.
pub(super) type Row = (u32, Stored, u32);

/// Inputs, by the task's id.
pub(super) const INPUTS: TableDefinition<'_, u64, Row> = TableDefinition::new("inputs");
/// Results, by the task's id.
pub(super) const RESULTS: TableDefinition<'_, u64, Row> = TableDefinition::new("results");
/// Pieces with their sums, by the picture's number and their place in it.
pub(super) const PIECES: TableDefinition<'_, (u64, u32), (&[u8], u32)> = TableDefinition::new("pieces");

pub(super) fn row(id: u64, lease: u32, stored: Stored) -> Row {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&lease.to_le_bytes());
    bytes[4..12].copy_from_slice(&stored.0.to_le_bytes());
    bytes[12..].copy_from_slice(&stored.1.to_le_bytes());
    (lease, stored, volume::sum(id, &bytes))
}

/// The lease and what is stored, if they are what was put there.
pub(super) fn whole(id: u64, found: Row) -> io::Result<(u32, Stored)> {
    let (lease, stored, _) = found;
    if row(id, lease, stored) == found {
        Ok((lease, stored))
    } else {
        Err(volume::damaged(VOLUME, &format!("what there is of task {id}")))
    }
}

pub(super) fn sum_of_piece((number, place): (u64, u32), bytes: &[u8]) -> u32 {
    volume::sum(number.rotate_left(32) ^ u64::from(place), bytes)
}
