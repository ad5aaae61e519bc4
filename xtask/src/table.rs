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

impl<const N: usize> fmt::Display for Table<N> {
    /// Lines without trailing spaces, each with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = self.columns.map(|(name, _)| name.to_owned());
        let lines = || std::iter::once(&heading).chain(&self.rows);
        let widths: [usize; N] = std::array::from_fn(|column| {
            let width = |cells: &[String; N]| cells[column].chars().count();
            lines().map(width).max().unwrap_or(0)
        });
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
}
