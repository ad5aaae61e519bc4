//! Finds packages by words.
//!
//! Every word must be in a package's name, title or description, in any case. Where it is decides the order; the weights
//! are such that the best place of any word counts more than all lesser ones of it:
//!
//! | where a word is | weight |
//! | --- | --- |
//! | it is the name | 32 |
//! | the name begins with it | 16 |
//! | in the name | 8 |
//! | a word of the title | 4 |
//! | in the title | 2 |
//! | in the description | 1 |
//!
//! Packages of equal weight are in the order of their names.

use super::{Entry, Repository, RepositoryError};

impl Repository {
    /// The packages that have all words, the most relevant first, each in its newest version. Spaces part words, within
    /// one of these, too. No word finds all. What is damaged is not found.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn search(&self, words: &[String]) -> Result<Vec<Entry>, RepositoryError> {
        let mut found: Vec<(u32, Entry)> = Vec::new();
        for entry in self.list()?.into_iter().filter_map(|listed| listed.entry.ok()) {
            // Newer versions come first.
            let newest = found
                .last()
                .is_none_or(|(_, last)| last.manifest.name != entry.manifest.name);
            let words = words.iter().flat_map(|words| words.split_whitespace());
            let weights: Option<Vec<_>> = words.map(|word| weight(&entry, word)).collect();
            if let (true, Some(weights)) = (newest, weights) {
                found.push((weights.iter().sum(), entry));
            }
        }
        // Stable: of equal weight, the names decide.
        found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        Ok(found.into_iter().map(|(_, entry)| entry).collect())
    }
}

/// How much a word says about a package; `None` if it is nowhere.
fn weight(entry: &Entry, word: &str) -> Option<u32> {
    let manifest = &entry.manifest;
    let word = word.to_lowercase();
    let name = manifest.name.as_str().to_lowercase();
    let title = manifest.title.to_lowercase();
    let description = manifest.description.as_deref().unwrap_or_default().to_lowercase();
    let mut words = title.split(|c: char| !c.is_alphanumeric());
    let places = [
        (32, name == word),
        (16, name.starts_with(&word)),
        (8, name.contains(&word)),
        (4, words.any(|other| other == word)),
        (2, title.contains(&word)),
        (1, description.contains(&word)),
    ];
    let weight = places
        .iter()
        .filter(|(_, there)| *there)
        .map(|(weight, _)| weight)
        .sum();
    (weight > 0).then_some(weight)
}
