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
    /// Columns that are not shown.
    hidden: [bool; N],
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [(&'static str, Align); N]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
            hidden: [false; N],
        }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

/// Cells that say nothing.
const NOTHING: [&str; 3] = ["", "-", "0"];

/// Least characters of a column that is made narrower, so that one can still guess what is in it.
const NARROWEST: usize = 5;

impl<const N: usize> Table<N> {
    /// The table for a terminal that is so wide. Where it would not fit, columns in which nothing is said go first; then
    /// the widest are cut. The first one, by whose cells a user names things, stays whole.
    pub(crate) fn within(mut self, width: usize) -> Self {
        for column in (1..N).rev() {
            if self.width() <= width {
                return self;
            }
            let mut cells = self.rows.iter().map(|cells| cells[column].as_str());
            self.hidden[column] = cells.all(|cell| NOTHING.contains(&cell));
        }
        let mut widths = self.widths();
        for _ in width..self.width() {
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

    /// How wide the lines are.
    fn width(&self) -> usize {
        let shown = self.hidden.iter().filter(|hidden| !**hidden).count();
        // Two spaces between columns.
        self.widths().iter().sum::<usize>() + 2 * shown.saturating_sub(1)
    }

    fn widths(&self) -> [usize; N] {
        std::array::from_fn(|column| {
            if self.hidden[column] {
                return 0;
            }
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
            for (column, cell) in cells
                .iter()
                .enumerate()
                .filter(|(column, _)| !self.hidden[*column])
            {
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
    #[test]
    fn columns_that_say_nothing_go_before_others_are_cut() {
        let mut table = Table::new([
            ("NAME", Align::Left),
            ("PORTS", Align::Left),
            ("EXIT", Align::Left),
            ("RESTARTS", Align::Right),
        ]);
        table.row(["kv", "8080:9000", "", "0"].map(str::to_owned));
        assert!(table.to_string().contains("RESTARTS"));
        assert_eq!(
            table.clone().within(25).to_string(),
            "NAME  PORTS      EXIT\nkv    8080:9000\n"
        );
        assert_eq!(
            table.clone().within(20).to_string(),
            "NAME  PORTS\nkv    8080:9000\n"
        );
        table.row(["db", "", "0", "2"].map(str::to_owned));
        assert!(table.within(25).to_string().contains("RESTARTS"));
    }
}
