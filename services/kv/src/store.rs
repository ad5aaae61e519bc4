//! What is stored: values by their keys, in memory, within a bound.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Most bytes of all keys and values. The services of the application need a few hundred; clients must not be
/// able to fill a guest of 32 MB, where a failed allocation ends the machine.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What an entry counts beside its bytes: two string headers, its share of the table, the allocator's rounding.
const ENTRY_OVERHEAD: usize = 128;

/// The store is full; nothing was changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Values by their keys; shared between threads.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: RwLock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    values: HashMap<String, String>,
    bytes: usize,
}

impl Store {
    /// The newest value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.values.get(key).cloned()
    }

    /// Stores a value; an older one of the same key is forgotten.
    pub(crate) fn put(&self, key: &str, value: &str) -> Result<(), Full> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = entries.values.get(key).map_or(0, |old| weight(key, old));
        let bytes = entries.bytes - replaced + weight(key, value);
        if bytes > MAX_BYTES {
            return Err(Full);
        }
        entries.bytes = bytes;
        entries.values.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
}

fn weight(key: &str, value: &str) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_wins() {
        let store = Store::default();
        assert_eq!(store.get("a"), None);
        for value in ["1", "2"] {
            assert_eq!(store.put("a", value), Ok(()));
            assert_eq!(store.get("a").as_deref(), Some(value));
        }
    }

    #[test]
    fn a_full_store_refuses_new_keys_but_keeps_and_replaces_the_old() {
        let store = Store::default();
        let value = "x".repeat(16 * 1024);
        let count = (0..)
            .take_while(|n| store.put(&format!("k{n}"), &value).is_ok())
            .count();
        assert!(count * value.len() > MAX_BYTES * 9 / 10 && count * value.len() <= MAX_BYTES);
        assert_eq!(store.put("other", &value), Err(Full));
        assert_eq!(store.get("other"), None);
        assert_eq!(store.put("k0", "small"), Ok(()));
        assert_eq!(store.get("k0").as_deref(), Some("small"));
        assert_eq!(store.put("other", "small"), Ok(()));
    }
}
