//! Rows of the table that comes out: a name and a value, a line each.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write as _;

pub struct Report;

impl Report {
    pub fn row(&self, name: &str, value: impl Display) {
        println!("{name}\t{value}");
        // Whoever is killed next has said what it knew.
        let _broken = std::io::stdout().flush();
    }

    /// What happened most, in a row each.
    pub fn worst(&self, name: &str, outcomes: BTreeMap<String, usize>) {
        let mut outcomes: Vec<_> = outcomes.into_iter().collect();
        outcomes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (what, count) in outcomes.into_iter().take(3) {
            println!("# {name}, {count} times: {what}");
        }
    }
}
