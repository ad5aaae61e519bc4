//! A manifest as it lies in the file: every value with its place, no meaning yet.
//!
//! Scalars are text as it was written: `version: 0.10` is `0.10`, not a number.

use marked_yaml::types::{MarkedMappingNode, Node};
use marked_yaml::{LoaderOptions, Span};

use super::error::{ManifestError, Source};
use crate::suggest::suggest;

/// Text and its place.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) span: Span,
}

/// Names and texts, in the order of the file.
pub(super) type Pairs = Vec<(Text, Text)>;

/// `package.yaml`.
#[derive(Debug, Default)]
pub(super) struct RawManifest {
    pub(super) name: Option<Text>,
    pub(super) title: Option<Text>,
    pub(super) author: Option<Text>,
    pub(super) version: Option<Text>,
    pub(super) description: Option<Text>,
    pub(super) services: Vec<RawService>,
    pub(super) files: Vec<RawFileRule>,
    pub(super) env: Pairs,
    pub(super) config_set: Vec<(Text, RawConfig)>,
    pub(super) config_set_default: Option<Text>,
    pub(super) size: Option<Text>,
}

/// An entry of `services`.
#[derive(Debug)]
pub(super) struct RawService {
    pub(super) crate_dir: Text,
    pub(super) bin: Option<Text>,
    pub(super) features: Vec<Text>,
    pub(super) role: Option<Text>,
}

/// An entry of `files`.
#[derive(Debug)]
pub(super) struct RawFileRule {
    pub(super) source: Text,
    pub(super) destination: Text,
    pub(super) mode: Option<Text>,
}

/// An entry of `config_set`.
#[derive(Debug)]
pub(super) struct RawConfig {
    pub(super) bootcmd: Text,
    pub(super) env: Pairs,
}

impl RawManifest {
    /// Reads a manifest.
    pub(super) fn parse(source: &Source) -> Result<Self, ManifestError> {
        let options = LoaderOptions::default().error_on_duplicate_keys(true);
        let root = marked_yaml::parse_yaml_with_options(0, &source.text, options)
            .map_err(|error| source.syntax(&error))?;
        let fields = Fields::new(
            source,
            &root,
            "a manifest",
            &[
                "name",
                "title",
                "author",
                "version",
                "description",
                "services",
                "files",
                "env",
                "config_set",
                "config_set_default",
                "size",
            ],
        )?;
        Ok(Self {
            name: fields.text("name")?,
            title: fields.text("title")?,
            author: fields.text("author")?,
            version: fields.text("version")?,
            description: fields.text("description")?,
            services: fields.list("services", |node| RawService::parse(source, node))?,
            files: fields.list("files", |node| RawFileRule::parse(source, node))?,
            env: fields.pairs("env")?,
            config_set: fields.map("config_set", |node| RawConfig::parse(source, node))?,
            config_set_default: fields.text("config_set_default")?,
            size: fields.text("size")?,
        })
    }
}

impl RawService {
    /// A mapping, or the crate alone.
    fn parse(source: &Source, node: &Node) -> Result<Self, ManifestError> {
        if let Node::Scalar(_) = node {
            return Ok(Self {
                crate_dir: text(source, "an entry of `services`", node)?,
                bin: None,
                features: vec![],
                role: None,
            });
        }
        let fields = Fields::new(source, node, "a service", &["crate", "bin", "features", "role"])?;
        Ok(Self {
            crate_dir: fields.required("crate")?,
            bin: fields.text("bin")?,
            features: fields.list("features", |node| text(source, "an entry of `features`", node))?,
            role: fields.text("role")?,
        })
    }
}

impl RawFileRule {
    fn parse(source: &Source, node: &Node) -> Result<Self, ManifestError> {
        let fields = Fields::new(
            source,
            node,
            "an entry of `files`",
            &["source", "destination", "mode"],
        )?;
        Ok(Self {
            source: fields.required("source")?,
            destination: fields.required("destination")?,
            mode: fields.text("mode")?,
        })
    }
}

impl RawConfig {
    fn parse(source: &Source, node: &Node) -> Result<Self, ManifestError> {
        let fields = Fields::new(source, node, "a configuration", &["bootcmd", "env"])?;
        Ok(Self {
            bootcmd: fields.required("bootcmd")?,
            env: fields.pairs("env")?,
        })
    }
}

/// A mapping whose keys are all known.
struct Fields<'a> {
    source: &'a Source,
    node: &'a MarkedMappingNode,
    what: &'static str,
}

impl<'a> Fields<'a> {
    fn new(
        source: &'a Source,
        node: &'a Node,
        what: &'static str,
        known: &[&str],
    ) -> Result<Self, ManifestError> {
        let Node::Mapping(node) = node else {
            return Err(source.wrong(
                node.span(),
                format!("{what} is a mapping, this is {}", kind(node)),
            ));
        };
        for key in node.keys() {
            if !known.contains(&key.as_str()) {
                let word = Text {
                    value: key.as_str().to_owned(),
                    span: *key.span(),
                };
                let error = source.wrong_word(&word, format!("unknown key `{}` in {what}", word.value));
                return Err(error.with_hint(suggest(&word.value, known)));
            }
        }
        Ok(Self { source, node, what })
    }

    fn text(&self, key: &str) -> Result<Option<Text>, ManifestError> {
        self.node
            .get_node(key)
            .map(|node| text(self.source, &format!("`{key}`"), node))
            .transpose()
    }

    fn required(&self, key: &str) -> Result<Text, ManifestError> {
        self.text(key)?.ok_or_else(|| {
            // The parser says that a mapping starts behind its first key.
            let start = self
                .node
                .keys()
                .next()
                .map_or(self.node.span(), |first| first.span());
            self.source.wrong(start, format!("{} needs `{key}`", self.what))
        })
    }

    fn list<T>(
        &self,
        key: &str,
        entry: impl Fn(&Node) -> Result<T, ManifestError>,
    ) -> Result<Vec<T>, ManifestError> {
        match self.node.get_node(key) {
            None => Ok(vec![]),
            Some(Node::Sequence(nodes)) => nodes.iter().map(entry).collect(),
            Some(node) => Err(self
                .source
                .wrong(node.span(), format!("`{key}` is a list, this is {}", kind(node)))),
        }
    }

    fn map<T>(
        &self,
        key: &str,
        entry: impl Fn(&Node) -> Result<T, ManifestError>,
    ) -> Result<Vec<(Text, T)>, ManifestError> {
        match self.node.get_node(key) {
            None => Ok(vec![]),
            Some(Node::Mapping(nodes)) => {
                let pair = |name: &marked_yaml::types::MarkedScalarNode, node| {
                    let name = Text {
                        value: name.as_str().to_owned(),
                        span: *name.span(),
                    };
                    Ok((name, entry(node)?))
                };
                nodes.iter().map(|(name, node)| pair(name, node)).collect()
            }
            Some(node) => Err(self.source.wrong(
                node.span(),
                format!("`{key}` is a mapping, this is {}", kind(node)),
            )),
        }
    }

    fn pairs(&self, key: &str) -> Result<Pairs, ManifestError> {
        self.map(key, |node| {
            text(self.source, &format!("a value of `{key}`"), node)
        })
    }
}

fn text(source: &Source, what: &str, node: &Node) -> Result<Text, ManifestError> {
    match node {
        Node::Scalar(scalar) => Ok(Text {
            value: scalar.as_str().to_owned(),
            span: *scalar.span(),
        }),
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
