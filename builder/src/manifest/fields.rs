//! Mappings of a manifest, read field by field: every value with its place, no meaning yet.
//!
//! Scalars are text as it was written: `version: 0.10` is `0.10`, not a number. A key that is not known is a warning,
//! as Capstan's packages may have keys of their own; what is known must be of the right kind.

use marked_yaml::types::{MarkedMappingNode, MarkedScalarNode, Node};
use marked_yaml::{LoaderOptions, Span};

use super::error::{ManifestError, Source};
use super::keys::Mapping;
use crate::suggest::suggest;

/// Most lists that start on one line, each in the one before it (`- - - a`). A manifest needs one; trees are taken
/// apart by recursion, and in every other way of nesting a level costs more bytes the deeper it is, or the parser has
/// a limit.
const MAX_LISTS: usize = 16;

/// Text and its place.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) span: Span,
}

impl Text {
    pub(super) fn of(scalar: &MarkedScalarNode) -> Self {
        Self {
            value: scalar.as_str().to_owned(),
            span: *scalar.span(),
        }
    }
}

/// Names and values, in the order of the file.
pub(super) type Pairs<T = Text> = Vec<(Text, T)>;

/// The mapping that a file is.
pub(super) fn root(source: &Source) -> Result<Node, ManifestError> {
    let lists = |line: &str| {
        let start = line.split(|c: char| !"- \t".contains(c)).next();
        start.map_or(0, |start| {
            start.split([' ', '\t']).filter(|word| *word == "-").count()
        })
    };
    if let Some(line) = source.text().lines().position(|line| lists(line) > MAX_LISTS) {
        return Err(source.wrong_line(line + 1, "lists are nested too deeply"));
    }
    let options = LoaderOptions::default().error_on_duplicate_keys(true);
    marked_yaml::parse_yaml_with_options(0, source.text(), options).map_err(|error| source.syntax(&error))
}

/// A mapping. Unknown keys have been warned of.
pub(super) struct Fields<'a> {
    source: &'a Source,
    node: &'a MarkedMappingNode,
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(source: &'a Source, node: &'a Node, mapping: &Mapping) -> Result<Self, ManifestError> {
        let (what, known) = (mapping.what, mapping.names());
        let Node::Mapping(node) = node else {
            return Err(source.wrong(
                node.span(),
                format!("{what} is a mapping, this is {}", kind(node)),
            ));
        };
        for key in node.keys().filter(|key| !known.contains(&key.as_str())) {
            let word = Text::of(key);
            let message = format!("unknown key `{}` in {what}", word.value);
            source.warn(&word, message, suggest(&word.value, &known));
        }
        Ok(Self { source, node, what })
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<Text>, ManifestError> {
        let text = |node| text(self.source, &format!("`{key}`"), node);
        self.node.get_node(key).map(text).transpose()
    }

    pub(super) fn required(&self, key: &str) -> Result<Text, ManifestError> {
        self.text(key)?
            .ok_or_else(|| self.wrong(format!("{} needs `{key}`", self.what)))
    }

    /// What is wrong with the mapping as a whole.
    pub(super) fn wrong(&self, message: String) -> ManifestError {
        // The parser says that a mapping starts behind its first key.
        let first = self.node.keys().next().map(MarkedScalarNode::span);
        self.source.wrong(first.unwrap_or(self.node.span()), message)
    }

    pub(super) fn list<T>(
        &self,
        key: &str,
        entry: impl Fn(&Node) -> Result<T, ManifestError>,
    ) -> Result<Vec<T>, ManifestError> {
        match self.node.get_node(key) {
            None => Ok(vec![]),
            Some(Node::Sequence(nodes)) => nodes.iter().map(entry).collect(),
            // `require:` with nothing behind it.
            Some(Node::Scalar(scalar)) if scalar.as_str().is_empty() => Ok(vec![]),
            Some(node) => Err(self
                .source
                .wrong(node.span(), format!("`{key}` is a list, this is {}", kind(node)))),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<Text>, ManifestError> {
        self.list(key, |node| {
            text(self.source, &format!("an entry of `{key}`"), node)
        })
    }

    pub(super) fn map<T>(
        &self,
        key: &str,
        entry: impl Fn(&Node) -> Result<T, ManifestError>,
    ) -> Result<Pairs<T>, ManifestError> {
        match self.node.get_node(key) {
            None => Ok(vec![]),
            Some(Node::Mapping(nodes)) => nodes
                .iter()
                .map(|(name, node)| Ok((Text::of(name), entry(node)?)))
                .collect(),
            Some(Node::Scalar(scalar)) if scalar.as_str().is_empty() => Ok(vec![]),
            Some(node) => Err(self.source.wrong(
                node.span(),
                format!("`{key}` is a mapping, this is {}", kind(node)),
            )),
        }
    }

    pub(super) fn pairs(&self, key: &str) -> Result<Pairs, ManifestError> {
        self.map(key, |node| {
            text(self.source, &format!("a value of `{key}`"), node)
        })
    }
}

pub(super) fn text(source: &Source, what: &str, node: &Node) -> Result<Text, ManifestError> {
    match node {
        Node::Scalar(scalar) => Ok(Text::of(scalar)),
        _ => Err(source.wrong(node.span(), format!("{what} is text, this is {}", kind(node)))),
    }
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::Scalar(_) => "text",
        Node::Mapping(_) => "a mapping",
        Node::Sequence(_) => "a list",
    }
}
