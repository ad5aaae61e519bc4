//! A table of text: columns as wide as they must be. What is aligned here is data, for stdout.

use std::fmt;

/// How a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells under a heading.
#[derive(Clone, Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [(&'static str, Align); N]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

/// Least characters of a column that is made narrower, so that one can still guess what is in it.
const NARROWEST: usize = 5;

impl<const N: usize> Table<N> {
    /// The table for a terminal that is so wide: the widest columns are cut where it would not fit. The first one, by
    /// whose cells a user names things, stays whole.
    pub(crate) fn within(mut self, width: usize) -> Self {
        let mut widths = self.widths();
        // Two spaces between columns.
        while widths.iter().sum::<usize>() + 2 * (N - 1) > width {
            let cuttable = widths.iter_mut().skip(1).filter(|width| **width > NARROWEST);
            match cuttable.max_by_key(|width| **width) {
                Some(widest) => *widest -= 1,
                None => break,
            }
        }
        for cells in &mut self.rows {
            for (cell, width) in cells.iter_mut().zip(widths) {
                if cell.chars().count() > width {
                    *cell = cell.chars().take(width - 1).chain(['…']).collect();
                }
            }
        }
        self
    }

    fn widths(&self) -> [usize; N] {
        std::array::from_fn(|column| {
            let cells = self.rows.iter().map(|cells| cells[column].as_str());
            let cells = cells.chain([self.columns[column].0]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    /// Lines without trailing spaces, each with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = self.columns.map(|(name, _)| name.to_owned());
        let lines = || std::iter::once(&heading).chain(&self.rows);
        let widths = self.widths();
        for cells in lines() {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let width = widths[column];
                line += &match self.columns[column].1 {
                    Align::Left => format!("{cell:width$}  "),
                    Align::Right => format!("{cell:>width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Bytes of memory or of a disk, in the unit in which both are asked for: `64.0M`.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}M", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new([("what", Align::Left), ("ms", Align::Right)]);
        table.row(["disk".to_owned(), "7".to_owned()]);
        table.row(["überall".to_owned(), "1234".to_owned()]);
        assert_eq!(table.to_string(), "what       ms\ndisk        7\nüberall  1234\n");
    }

    #[test]
    fn a_table_is_cut_to_fit_where_it_is_widest_and_keeps_names_whole() {
        let mut table = Table::new([
            ("name", Align::Left),
            ("image", Align::Left),
            ("ip", Align::Right),
        ]);
        let long = "a-very-long-name".to_owned();
        table.row([
            long.clone(),
            "images/of/somewhere".to_owned(),
            "10.0.2.15".to_owned(),
        ]);
        assert!(
            table
                .clone()
                .within(80)
                .to_string()
                .contains("images/of/somewhere")
        );
        let narrow = table.clone().within(40).to_string();
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
        assert!(narrow.contains("images/of/…  10.0.2.15"), "{narrow}");
        // What cannot fit is still there.
        assert!(table.within(10).to_string().contains(&long));
    }
}
