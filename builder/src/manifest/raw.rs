//! Manifests as they lie in the file, before anything is checked. What the fields mean is told in `keys`.

use marked_yaml::types::Node;

use super::error::{ManifestError, Source};
use super::fields::{Fields, Pairs, Text, root, text};
use super::keys;

/// A package of Hermitage: what is compiled for it, which files it has, what its image starts.
#[derive(Debug, Default)]
pub(super) struct RawManifest {
    pub(super) name: Option<Text>,
    pub(super) title: Option<Text>,
    pub(super) author: Option<Text>,
    pub(super) version: Option<Text>,
    pub(super) description: Option<Text>,
    pub(super) require: Vec<Text>,
    pub(super) services: Vec<RawService>,
    pub(super) files: Vec<RawFileRule>,
    pub(super) volumes: Vec<Text>,
    pub(super) r#override: Option<Text>,
    pub(super) env: Pairs,
    pub(super) config_set: Pairs<RawConfig>,
    pub(super) config_set_default: Option<Text>,
    pub(super) size: Option<Text>,
}

/// A program that is compiled for the package.
#[derive(Debug)]
pub(super) struct RawService {
    pub(super) crate_dir: Text,
    pub(super) bin: Option<Text>,
    pub(super) features: Vec<Text>,
    pub(super) role: Option<Text>,
}

/// Files that are put into the image.
#[derive(Debug)]
pub(super) struct RawFileRule {
    pub(super) source: Text,
    pub(super) destination: Text,
    pub(super) mode: Option<Text>,
    pub(super) r#override: Option<Text>,
}

/// A command and its environment.
#[derive(Debug)]
pub(super) struct RawConfig {
    pub(super) bootcmd: Option<Text>,
    pub(super) env: Pairs,
    pub(super) base: Option<Text>,
}

/// Capstan's `meta/run.yaml`.
#[derive(Debug)]
pub(super) struct RawRun {
    pub(super) runtime: Option<Text>,
    pub(super) config_set: Pairs<RawConfig>,
    pub(super) config_set_default: Option<Text>,
}

impl RawManifest {
    /// Reads a manifest.
    pub(super) fn parse(source: &Source) -> Result<Self, ManifestError> {
        let root = root(source)?;
        let fields = Fields::new(source, &root, &keys::MANIFEST)?;
        Ok(Self {
            name: fields.text("name")?,
            title: fields.text("title")?,
            author: fields.text("author")?,
            version: fields.text("version")?,
            description: fields.text("description")?,
            require: fields.texts("require")?,
            services: fields.list("services", |node| RawService::parse(source, node))?,
            files: fields.list("files", |node| RawFileRule::parse(source, node))?,
            volumes: fields.texts("volumes")?,
            r#override: fields.text("override")?,
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
        let fields = Fields::new(source, node, &keys::SERVICE)?;
        Ok(Self {
            crate_dir: fields.required("crate")?,
            bin: fields.text("bin")?,
            features: fields.texts("features")?,
            role: fields.text("role")?,
        })
    }
}

impl RawFileRule {
    fn parse(source: &Source, node: &Node) -> Result<Self, ManifestError> {
        let fields = Fields::new(source, node, &keys::FILE_RULE)?;
        Ok(Self {
            source: fields.required("source")?,
            destination: fields.required("destination")?,
            mode: fields.text("mode")?,
            r#override: fields.text("override")?,
        })
    }
}

impl RawConfig {
    fn parse(source: &Source, node: &Node) -> Result<Self, ManifestError> {
        let fields = Fields::new(source, node, &keys::CONFIG)?;
        let config = Self {
            bootcmd: fields.text("bootcmd")?,
            env: fields.pairs("env")?,
            base: fields.text("base")?,
        };
        if config.bootcmd.is_none() && config.base.is_none() {
            return Err(fields.wrong("a boot set needs `bootcmd` or `base`".to_owned()));
        }
        Ok(config)
    }
}

impl RawRun {
    /// Reads a `run.yaml`.
    pub(super) fn parse(source: &Source) -> Result<Self, ManifestError> {
        let root = root(source)?;
        let fields = Fields::new(source, &root, &keys::RUN)?;
        Ok(Self {
            runtime: fields.text("runtime")?,
            config_set: fields.map("config_set", |node| RawConfig::parse(source, node))?,
            config_set_default: fields.text("config_set_default")?,
        })
    }
}
