//! The seal of a program: a checksum in its ELF header, so that the loader starts no damaged one.
//!
//! The file system has no checksums of data, and code of which some bytes are wrong may do anything, hang
//! included. The seal lies in bytes 12 to 15 of the file, which ELF calls padding and nobody reads. It shows damage,
//! not intent; whoever writes images can write seals.
//!
//! It is a Fletcher checksum over 64-bit words, three instructions for eight bytes: a CRC takes ten times as long in a
//! virtual machine without KVM, where neither tables nor the CPU's own instruction are fast.

use core::fmt;

/// Where in the file the seal lies.
const PLACE: core::ops::Range<usize> = 12..16;

/// Why a file is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// It was never sealed, or is too short for it.
    Absent,
    /// It was, and has changed since.
    Broken,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "its file is not sealed",
            Self::Broken => "its file is damaged: its checksum does not match",
        })
    }
}

impl core::error::Error for SealError {}

/// Seals a file, in place. One that is too short to be an ELF file stays as it is.
pub fn seal(file: &mut [u8]) {
    if let Some(sum) = checksum(file) {
        file[PLACE].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Checks a file's seal.
///
/// # Errors
/// It has none, or it is broken.
pub fn check(file: &[u8]) -> Result<(), SealError> {
    match file.get(PLACE) {
        None | Some([0, 0, 0, 0]) => Err(SealError::Absent),
        Some(seal) if checksum(file).is_some_and(|sum| *seal == sum.to_le_bytes()) => Ok(()),
        Some(_) => Err(SealError::Broken),
    }
}

/// The checksum of a file as if its seal were zeros; never 0.
fn checksum(file: &[u8]) -> Option<u32> {
    let (mut head, body) = (*file.first_chunk::<16>()?, &file[16..]);
    head[PLACE].fill(0);
    let words = body.chunks_exact(8);
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());

    let mut sums = (file.len() as u64, 0);
    for part in [&head[..], body, &last] {
        add(&mut sums, part);
    }
    let folded = sums.0 ^ sums.1.rotate_left(17);
    let folded = (folded ^ folded >> 32) as u32;
    Some(folded.max(1))
}

/// Adds the whole words of some bytes to the sum, and to the sum of all sums.
fn add((sum, sum_of_sums): &mut (u64, u64), bytes: &[u8]) {
    for word in bytes.chunks_exact(8) {
        let word = [
            word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
        ];
        *sum = sum.wrapping_add(u64::from_le_bytes(word));
        *sum_of_sums = sum_of_sums.wrapping_add(*sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn file(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 % 253) as u8).collect()
    }

    #[test]
    fn accepts_what_it_sealed_whatever_lay_in_the_seals_place() {
        for length in [16, 17, 23, 24, 4099] {
            let mut file = file(length);
            seal(&mut file);
            assert_eq!(check(&file), Ok(()), "{length}");
            seal(&mut file);
            assert_eq!(check(&file), Ok(()), "{length}");
        }
    }

    #[test]
    fn sees_every_flipped_bit_cut_and_exchange() {
        let mut whole = file(1003);
        seal(&mut whole);
        for bit in (0..whole.len() * 8).filter(|bit| !PLACE.contains(&(bit / 8))) {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&damaged), Err(SealError::Broken), "bit {bit}");
        }
        for end in 16..whole.len() {
            assert_eq!(check(&whole[..end]), Err(SealError::Broken), "cut at {end}");
        }
        let mut exchanged = whole.clone();
        exchanged[512..].rotate_left(64);
        assert_eq!(check(&exchanged), Err(SealError::Broken));
    }

    #[test]
    fn sees_an_overwritten_block() {
        let mut whole = file(64 * 1024);
        seal(&mut whole);
        for block in 0..16 {
            for byte in [0, 0xff, 0x90] {
                let mut damaged = whole.clone();
                damaged[block * 4096..][..4096].fill(byte);
                assert!(check(&damaged).is_err(), "block {block} filled with {byte:#x}");
            }
        }
    }

    #[test]
    fn tells_a_file_without_a_seal() {
        let mut bare = file(100);
        bare[PLACE].fill(0);
        assert_eq!(check(&bare), Err(SealError::Absent));
        assert_eq!(check(b"short"), Err(SealError::Absent));
    }
}
