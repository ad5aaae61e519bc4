//! The boot code's two fields, by which it finds the loader and sees that it is intact.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 434 | code |
//! | 434 | 4 | what makes the wrapping sum of the loader's 32-bit words (little endian) 0 |
//! | 438 | 2 | sectors of the loader |

use std::ops::Range;

use crate::layout::{LOADER, SECTOR};
use crate::table::BOOT_CODE;

const CHECKSUM: Range<usize> = 434..438;
const SECTORS: Range<usize> = 438..BOOT_CODE;

/// Fills the fields in for a loader, which its partition pads with zeros. `None` if it is larger than that.
#[must_use]
pub fn complete(code: &[u8; BOOT_CODE], loader: &[u8]) -> Option<[u8; BOOT_CODE]> {
    let sectors = (loader.len() as u64).div_ceil(SECTOR);
    if LOADER.sectors.is_none_or(|max| sectors > max) {
        return None;
    }
    let mut code = *code;
    code[CHECKSUM].copy_from_slice(&sum(loader).wrapping_neg().to_le_bytes());
    code[SECTORS].copy_from_slice(&u16::try_from(sectors).ok()?.to_le_bytes());
    Some(code)
}

/// The loader, padded to whole sectors, within the bytes of its partition; `None` if it is damaged, or was never
/// there.
#[must_use]
pub fn loader<'a>(code: &[u8; BOOT_CODE], partition: &'a [u8]) -> Option<&'a [u8]> {
    let mut sectors = [0; 2];
    sectors.copy_from_slice(&code[SECTORS]);
    let loader = partition.get(..usize::from(u16::from_le_bytes(sectors)) * SECTOR as usize)?;
    let mut checksum = [0; 4];
    checksum.copy_from_slice(&code[CHECKSUM]);
    let intact = sum(loader).wrapping_add(u32::from_le_bytes(checksum)) == 0;
    (intact && !loader.is_empty()).then_some(loader)
}

fn sum(bytes: &[u8]) -> u32 {
    let word = |chunk: &[u8]| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(word)
    };
    bytes.chunks(4).map(word).fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_comes_back_unless_a_bit_of_it_changed() {
        let bytes: Vec<u8> = (0..5001_u32).map(|n| (n * 7) as u8).collect();
        let code = complete(&[0x90; BOOT_CODE], &bytes).unwrap();
        let mut partition = vec![0; 512 * 1024];
        partition[..5001].copy_from_slice(&bytes);
        assert_eq!(loader(&code, &partition), Some(&partition[..5120]));
        for place in [0, 1, 2, 3, 4999, 5000, 5001, 5119] {
            partition[place] ^= 0x10;
            assert_eq!(loader(&code, &partition), None, "byte {place}");
            partition[place] ^= 0x10;
        }
        assert_eq!(loader(&[0; BOOT_CODE], &partition), None, "no loader at all");
        assert_eq!(
            complete(&code, &vec![0; 512 * 1024 + 1]),
            None,
            "larger than its partition"
        );
    }
}
