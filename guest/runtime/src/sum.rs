//! Sums of what is kept in a data base: redb looks at its own after a power cut alone.

use xxhash_rust::xxh64::xxh64;

/// 32 bits of the XXH64 of some bytes, seeded with a number that says whose they are: what is elsewhere than it was put has
/// another.
#[must_use]
pub fn sum(number: u64, bytes: &[u8]) -> u32 {
    xxh64(bytes, number) as u32
}
