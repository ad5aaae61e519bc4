//! The memory map: which physical memory is RAM.
//!
//! Firmware gives entries in any order, adjacent, overlapping, not on page boundaries. [`MemoryMap`] is what may
//! be used of them: sorted, disjoint, whole pages. It lives in an array, because the heap is placed by it.

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Most regions of RAM that are kept. A PC has two to four; a firmware that splits its memory into more than this
/// loses some, never gains any.
const MAX_REGIONS: usize = 32;

/// The type of an entry that is RAM, in the BIOS's, multiboot's and PVH's maps alike.
const TYPE_RAM: u32 = 1;

/// An entry of a firmware's memory map.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// 1 is RAM, all else is not to be touched.
    pub kind: u32,
}

/// A stretch of RAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// First byte after it.
    pub end: u64,
}

impl Region {
    /// Its bytes.
    #[must_use]
    pub fn length(self) -> u64 {
        self.end - self.start
    }
}

/// The RAM of a machine.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    regions: [Region; MAX_REGIONS],
    count: usize,
}

impl MemoryMap {
    /// Makes a map of a firmware's entries. Where RAM and something else overlap, it is not RAM.
    pub fn new(entries: impl Iterator<Item = Entry> + Clone) -> Self {
        let mut map = Self::default();
        for entry in entries.clone().filter(|entry| entry.kind == TYPE_RAM) {
            let start = entry.base.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
            let end = entry.base.saturating_add(entry.length) / PAGE * PAGE;
            if start < end {
                map.add(Region { start, end });
            }
        }
        for entry in entries.filter(|entry| entry.kind != TYPE_RAM && entry.length != 0) {
            let start = entry.base / PAGE * PAGE;
            let end = entry.base.saturating_add(entry.length);
            map.remove(Region {
                start,
                end: end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX),
            });
        }
        map
    }

    /// The regions, in order of their addresses.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions[..self.count]
    }

    /// The region that holds an address.
    #[must_use]
    pub fn region_at(&self, address: u64) -> Option<Region> {
        let holds = |region: &&Region| (region.start..region.end).contains(&address);
        self.regions().iter().find(holds).copied()
    }

    /// What of the RAM lies from an address on.
    pub fn above(&self, address: u64) -> impl Iterator<Item = Region> + Clone + '_ {
        self.regions()
            .iter()
            .filter(move |region| region.end > address)
            .map(move |region| Region {
                start: region.start.max(address),
                end: region.end,
            })
    }

    /// First byte after the last region.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.regions().last().map_or(0, |region| region.end)
    }

    /// All RAM, in bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.regions().iter().map(|region| region.length()).sum()
    }

    /// Adds a region, merged with those that it touches.
    fn add(&mut self, mut region: Region) {
        let mut kept = 0;
        for index in 0..self.count {
            let other = self.regions[index];
            if other.start <= region.end && region.start <= other.end {
                region = Region {
                    start: region.start.min(other.start),
                    end: region.end.max(other.end),
                };
            } else {
                self.regions[kept] = other;
                kept += 1;
            }
        }
        self.count = kept;
        self.insert(region);
    }

    fn insert(&mut self, region: Region) {
        if self.count < MAX_REGIONS {
            self.regions[self.count] = region;
            self.count += 1;
            self.regions[..self.count].sort_unstable_by_key(|region| region.start);
        }
    }

    fn remove(&mut self, hole: Region) {
        let before = self.clone();
        self.count = 0;
        for region in before.regions() {
            let left = Region {
                start: region.start,
                end: region.end.min(hole.start),
            };
            let right = Region {
                start: region.start.max(hole.end),
                end: region.end,
            };
            for part in [left, right] {
                if part.start < part.end {
                    self.insert(part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(u64, u64, u32)]) -> Vec<(u64, u64)> {
        let entries = entries
            .iter()
            .map(|&(base, length, kind)| Entry { base, length, kind });
        let map = MemoryMap::new(entries);
        map.regions()
            .iter()
            .map(|region| (region.start, region.end))
            .collect()
    }

    #[test]
    fn sorts_and_merges_what_touches() {
        let entries = [
            (0x30_0000, 0x10_0000, 1),
            (0, 0x9_fc00, 1),
            (0x10_0000, 0x20_0000, 1),
        ];
        assert_eq!(map(&entries), [(0, 0x9_f000), (0x10_0000, 0x40_0000)]);
    }

    #[test]
    fn takes_reserved_memory_out_of_ram_that_it_overlaps() {
        let entries = [
            (0x10_0000, 0x10_0000, 1),
            (0x18_0800, 0x800, 2),
            (0xfe00_0000, 0x1000, 2),
        ];
        assert_eq!(map(&entries), [(0x10_0000, 0x18_0000), (0x18_1000, 0x20_0000)]);
    }

    #[test]
    fn drops_what_is_smaller_than_a_page_or_beyond_the_end() {
        let entries = [
            (0x1001, 0x1ffe, 1),
            (u64::MAX - 10, u64::MAX, 1),
            (0x5000, 0, 1),
            (0x6000, 0x1000, 1),
        ];
        assert_eq!(map(&entries), [(0x6000, 0x7000)]);
    }

    #[test]
    fn survives_more_entries_than_it_keeps() {
        let entries: Vec<_> = (0..1000).map(|index| (index * 0x4000, 0x1000, 1)).collect();
        assert_eq!(map(&entries).len(), MAX_REGIONS);
    }

    #[test]
    fn gives_what_lies_above_an_address() {
        let entries = [
            Entry {
                base: 0x1000,
                length: 0x3000,
                kind: 1,
            },
            Entry {
                base: 0x8000,
                length: 0x1000,
                kind: 1,
            },
        ];
        let map = MemoryMap::new(entries.into_iter());
        let above: Vec<_> = map.above(0x2000).collect();
        assert_eq!(
            above,
            [
                Region {
                    start: 0x2000,
                    end: 0x4000
                },
                Region {
                    start: 0x8000,
                    end: 0x9000
                }
            ]
        );
        assert_eq!(map.region_at(0x4000), None);
    }
}
