//! `--env-file`: a file of environment variables, `NAME=VALUE` on each line.
//!
//! As users know it from containers: a value goes on to the end of its line and has no quotes to take away; empty lines
//! and lines that start with `#` say nothing. A name alone, which elsewhere takes the value of the caller's environment,
//! is an error: what a guest is told is in the file, or on the command line.

use std::fs;
use std::path::Path;

use launcher::units::Variable;

use crate::failure::Failure;

/// Reads a file of variables.
pub(crate) fn read(path: &Path) -> Result<Vec<Variable>, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read `{}`: {error}", path.display())))?;
    parse(&text).map_err(|(line, error)| Failure::Usage(format!("{}:{line}: {error}", path.display())))
}

/// The variables of a text, or the number of a line and what is wrong with it.
fn parse(text: &str) -> Result<Vec<Variable>, (usize, String)> {
    // Some editors put a byte order mark before the first name.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text
        .lines()
        .zip(1..)
        .map(|(line, number)| (line.trim_start(), number));
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, number)| {
            let name = line.split('=').next().unwrap_or_default();
            if name.contains(char::is_whitespace) {
                // Such as `export A=1`, which is a shell's.
                return Err((
                    number,
                    format!("`{name}` is no name of a variable: it has a blank"),
                ));
            }
            let parsed = line.parse();
            parsed.map_err(|error: launcher::units::ParseError| (number, error.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_variable_from_each_line_that_has_one() {
        let text = "\u{feff}A=1\r\n\n# B=2\n  C= x \"y\" # z \nD=\n";
        let variables = parse(text).unwrap();
        let entries: Vec<_> = variables.iter().map(Variable::entry).collect();
        assert_eq!(entries, ["A=1", "C= x \"y\" # z ", "D="]);
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        let (line, error) = parse("A=1\n\nPORT\n").unwrap_err();
        assert_eq!(line, 3);
        assert!(error.contains("`PORT` is not an environment variable"), "{error}");
        let (line, error) = parse("export A=1\n").unwrap_err();
        assert_eq!(
            (line, error.as_str()),
            (1, "`export A` is no name of a variable: it has a blank")
        );
    }
}
