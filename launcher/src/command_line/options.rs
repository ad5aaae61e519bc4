//! QEMU's notation for options: the one place where values are escaped.

use std::fmt;

/// The value of a QEMU option: a first word, then `key=value` pairs.
pub(super) struct Options {
    pub(super) text: String,
}

impl Options {
    pub(super) fn of(first: &str) -> Self {
        Self { text: escaped(first) }
    }

    pub(super) fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(key);
        self.text.push('=');
        self.text.push_str(&escaped(&value.to_string()));
        self
    }
}

/// A comma in a value is doubled; nothing else is special to QEMU.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_commas_in_values() {
        let options = Options::of("a,b").with("file", "x,y=z");
        assert_eq!(options.text, "a,,b,file=x,,y=z");
    }

    #[test]
    fn starts_with_a_pair_where_there_is_no_first_word() {
        let options = Options::of("").with("id", "disk").with("read-only", "on");
        assert_eq!(options.text, "id=disk,read-only=on");
    }
}
