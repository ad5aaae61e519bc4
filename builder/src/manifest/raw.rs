//! Manifests as they lie in the file: which keys there are, what each is for, and of which kind.
//!
//! The comments on the keys are what editors show: `docs/package.schema.json` is made of them (see `schema`).

use marked_yaml::types::Node;

use super::error::{ManifestError, Source};
use super::fields::{Fields, Pairs, Text, root, text};

/// A package of Hermitage: what is compiled for it, which files it has, what its image starts.
#[derive(Debug, Default)]
pub(super) struct RawManifest {
    /// Name of the package and of its image: letters, digits, `-`, `_` and `.`.
    pub(super) name: Option<Text>,
    /// What people call it.
    pub(super) title: Option<Text>,
    /// Who made it.
    pub(super) author: Option<Text>,
    /// Its version: up to three numbers with dots between them (`1`, `0.1`, `1.2.3`), or a semantic version.
    pub(super) version: Option<Text>,
    /// What it is for.
    pub(super) description: Option<Text>,
    /// Packages whose files and services are put into the image, too: `name`, or `name@range` with a range of
    /// versions such as `^1.2`, `>=1, <3`, `~0.4` or `=1.0.2`.
    pub(super) require: Vec<Text>,
    /// Programs that are compiled for it: a crate's folder from the root of the workspace, or a mapping.
    pub(super) services: Vec<RawService>,
    /// Files that are put into the image as they are.
    pub(super) files: Vec<RawFileRule>,
    /// Whether all its files may take the place of files that the packages it requires bring.
    pub(super) r#override: Option<Text>,
    /// Environment of each of its commands.
    pub(super) env: Pairs,
    /// Boot sets: commands by name; `run --boot NAME` starts one.
    pub(super) config_set: Pairs<RawConfig>,
    /// The boot set that the image starts by itself. Without it: the only boot set, or else the only service.
    pub(super) config_set_default: Option<Text>,
    /// Bytes of the disk, such as `64M` or `2G`. Without it: four times what the content needs, at least 64 MiB.
    pub(super) size: Option<Text>,
}

/// A program that is compiled for the package.
#[derive(Debug)]
pub(super) struct RawService {
    /// The folder of its crate, from the root of the workspace.
    pub(super) crate_dir: Text,
    /// The binary of that crate; without it, the folder's name.
    pub(super) bin: Option<Text>,
    /// Features of the crate that are switched on.
    pub(super) features: Vec<Text>,
    /// The first word of a command that starts it; it lies at `/bin/<role>`. Without it, the binary's name.
    pub(super) role: Option<Text>,
}

/// Files that are put into the image.
#[derive(Debug)]
pub(super) struct RawFileRule {
    /// A file, symbolic link or folder, from the package's folder; or a pattern: `*` and `?` in one name, `**` for any
    /// number of folders, `{a,b}`, `[a-z]`. A pattern's files keep their paths behind its first part without such signs.
    pub(super) source: Text,
    /// Where it lies in the image; of a pattern or a folder, the folder that its files lie in. `/` is the whole image.
    pub(super) destination: Text,
    /// Permissions of its files, in octal. Without it: 0755 for what its owner may run, else 0644.
    pub(super) mode: Option<Text>,
    /// Whether its files may take the place of files that the packages it requires bring.
    pub(super) r#override: Option<Text>,
}

/// A command and its environment.
#[derive(Debug)]
pub(super) struct RawConfig {
    /// The role and its arguments, split by the rules of the shell. Without it, that of `base`.
    pub(super) bootcmd: Option<Text>,
    /// Environment, added to that of `base` and of the package, or in its place.
    pub(super) env: Pairs,
    /// A boot set, `package:set`, whose command and environment this one starts from.
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
    /// Its keys, in the order in which they are listed.
    pub(super) const KEYS: [&str; 16] = [
        "name",
        "title",
        "author",
        "version",
        "description",
        "require",
        "services",
        "files",
        "override",
        "env",
        "config_set",
        "config_set_default",
        "size",
        // Capstan's, which are read over.
        "binary",
        "created",
        "platform",
    ];

    /// Reads a manifest.
    pub(super) fn parse(source: &Source) -> Result<Self, ManifestError> {
        let root = root(source)?;
        let fields = Fields::new(source, &root, "a manifest", &Self::KEYS)?;
        Ok(Self {
            name: fields.text("name")?,
            title: fields.text("title")?,
            author: fields.text("author")?,
            version: fields.text("version")?,
            description: fields.text("description")?,
            require: fields.texts("require")?,
            services: fields.list("services", |node| RawService::parse(source, node))?,
            files: fields.list("files", |node| RawFileRule::parse(source, node))?,
            r#override: fields.text("override")?,
            env: fields.pairs("env")?,
            config_set: fields.map("config_set", |node| RawConfig::parse(source, node))?,
            config_set_default: fields.text("config_set_default")?,
            size: fields.text("size")?,
        })
    }
}

impl RawService {
    pub(super) const KEYS: [&str; 4] = ["crate", "bin", "features", "role"];

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
        let fields = Fields::new(source, node, "a service", &Self::KEYS)?;
        Ok(Self {
            crate_dir: fields.required("crate")?,
            bin: fields.text("bin")?,
            features: fields.texts("features")?,
            role: fields.text("role")?,
        })
    }
}

impl RawFileRule {
    pub(super) const KEYS: [&str; 4] = ["source", "destination", "mode", "override"];

    fn parse(source: &Source, node: &Node) -> Result<Self, ManifestError> {
        let fields = Fields::new(source, node, "an entry of `files`", &Self::KEYS)?;
        Ok(Self {
            source: fields.required("source")?,
            destination: fields.required("destination")?,
            mode: fields.text("mode")?,
            r#override: fields.text("override")?,
        })
    }
}

impl RawConfig {
    pub(super) const KEYS: [&str; 3] = ["bootcmd", "env", "base"];

    fn parse(source: &Source, node: &Node) -> Result<Self, ManifestError> {
        let fields = Fields::new(source, node, "a configuration", &Self::KEYS)?;
        let config = Self {
            bootcmd: fields.text("bootcmd")?,
            env: fields.pairs("env")?,
            base: fields.text("base")?,
        };
        if config.bootcmd.is_none() && config.base.is_none() {
            return Err(fields.wrong("a configuration needs `bootcmd` or `base`".to_owned()));
        }
        Ok(config)
    }
}

impl RawRun {
    /// Reads a `run.yaml`.
    pub(super) fn parse(source: &Source) -> Result<Self, ManifestError> {
        let root = root(source)?;
        let fields = Fields::new(
            source,
            &root,
            "a `run.yaml`",
            &["runtime", "config_set", "config_set_default"],
        )?;
        Ok(Self {
            runtime: fields.text("runtime")?,
            config_set: fields.map("config_set", |node| RawConfig::parse(source, node))?,
            config_set_default: fields.text("config_set_default")?,
        })
    }
}
