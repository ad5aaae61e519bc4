//! The keys of a manifest: what is known, what each is for, and of which kind. Unknown keys are told by these tables,
//! and `docs/package.schema.json`, with which editors complete manifests, is made of them.

use serde_json::{Map, Value, json};

/// A mapping and its keys.
pub(super) struct Mapping {
    /// What it is, in a message.
    pub(super) what: &'static str,
    about: &'static str,
    required: &'static [&'static str],
    keys: &'static [Key],
}

/// A key: its name, the kind of its value, what it is for.
struct Key(&'static str, Kind, &'static str);

enum Kind {
    /// A scalar, taken as it was written.
    Text,
    /// Text that fits a regular expression.
    Like(&'static str),
    Flag,
    Texts,
    /// Texts by name.
    Pairs,
    List(&'static Mapping),
    /// Mappings, or texts that stand for them.
    ShortList(&'static Mapping),
    /// Mappings by name.
    Map(&'static Mapping),
    Any,
}

pub(super) static MANIFEST: Mapping = Mapping {
    what: "a manifest",
    about: "A package of Hermitage: what is compiled for it, which files it has, what its image starts.",
    required: &["name", "title", "author"],
    keys: &[
        Key(
            "name",
            Kind::Like("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
            "Name of the package and of its image.",
        ),
        Key("title", Kind::Text, "What people call it."),
        Key("author", Kind::Text, "Who made it."),
        Key(
            "version",
            Kind::Text,
            "Its version: up to three numbers with dots between them (`1`, `0.1`, `1.2.3`), or a semantic version.",
        ),
        Key("description", Kind::Text, "What it is for."),
        Key(
            "require",
            Kind::Texts,
            "Packages whose files and services are put into the image, too: `name`, or `name@range` with a range of \
             versions such as `^1.2`, `>=1, <3`, `~0.4` or `=1.0.2`.",
        ),
        Key(
            "services",
            Kind::ShortList(&SERVICE),
            "Programs that are compiled for it; a crate's folder alone will do.",
        ),
        Key(
            "files",
            Kind::List(&FILE_RULE),
            "Files that are put into the image as they are.",
        ),
        Key(
            "volumes",
            Kind::Texts,
            "Where its services have volumes, as `std::fs` finds them: `/data` is the one place. `run --volume NAME:/data` \
             mounts one there before `main`.",
        ),
        Key(
            "override",
            Kind::Flag,
            "Whether all its files may take the place of files that the packages it requires bring.",
        ),
        Key("env", Kind::Pairs, "Environment of each of its commands."),
        Key(
            "config_set",
            Kind::Map(&CONFIG),
            "Boot sets: commands by name. `run --boot NAME` starts one.",
        ),
        Key(
            "config_set_default",
            Kind::Text,
            "The boot set that the image starts by itself; otherwise its only boot set, or else its only service.",
        ),
        Key(
            "size",
            Kind::Like("^[0-9]+ *([KMGTkmgt]([iI]?[bB])?)?$"),
            "Bytes of the disk, such as `64M` or `2G`; otherwise four times what the content needs, at least 64 MiB.",
        ),
        Key("binary", Kind::Any, "Capstan's; read over."),
        Key("created", Kind::Any, "Capstan's; read over."),
        Key("platform", Kind::Any, "Capstan's; read over."),
    ],
};

pub(super) static SERVICE: Mapping = Mapping {
    what: "a service",
    about: "A program that is compiled for the package.",
    required: &["crate"],
    keys: &[
        Key(
            "crate",
            Kind::Text,
            "The folder of its crate, from the root of the workspace.",
        ),
        Key(
            "bin",
            Kind::Text,
            "The binary of that crate; otherwise the folder's name.",
        ),
        Key("features", Kind::Texts, "Features of the crate to switch on."),
        Key(
            "role",
            Kind::Text,
            "The first word of a command that starts it, `/bin/<role>` in the image; otherwise the binary's name.",
        ),
    ],
};

pub(super) static FILE_RULE: Mapping = Mapping {
    what: "an entry of `files`",
    about: "Files that are put into the image.",
    required: &["source", "destination"],
    keys: &[
        Key(
            "source",
            Kind::Text,
            "A file, symbolic link or folder, from the package's folder; or a pattern: `*` and `?` within a name, `**` \
             for any folders, `{a,b}`, `[a-z]`. A pattern's files keep their paths behind the part without such signs.",
        ),
        Key(
            "destination",
            Kind::Text,
            "Where it lies in the image; of a folder or a pattern, where what is below it lies. `/` is the whole image.",
        ),
        Key(
            "mode",
            Kind::Like("^[0-7]+$"),
            "Permissions of its files, in octal; otherwise 0755 for what its owner may run, and 0644 for the rest.",
        ),
        Key(
            "override",
            Kind::Flag,
            "Whether its files may take the place of files that were brought before.",
        ),
    ],
};

pub(super) static CONFIG: Mapping = Mapping {
    what: "a boot set",
    about: "A command and its environment; it has a `bootcmd`, a `base` or both.",
    required: &[],
    keys: &[
        Key(
            "bootcmd",
            Kind::Text,
            "The role and its arguments, split by the rules of the shell; otherwise that of `base`.",
        ),
        Key(
            "env",
            Kind::Pairs,
            "Environment, added to that of `base` and of the package, or in its place.",
        ),
        Key(
            "base",
            Kind::Like("^[^:]+:[^:]+$"),
            "The boot set, `package:set`, whose command and environment this one starts from.",
        ),
    ],
};

pub(super) static RUN: Mapping = Mapping {
    what: "a `run.yaml`",
    about: "Boot sets of a Capstan package.",
    required: &[],
    keys: &[
        Key("runtime", Kind::Text, "`native`."),
        Key("config_set", Kind::Map(&CONFIG), "Boot sets: commands by name."),
        Key("config_set_default", Kind::Text, "The boot set that is started."),
    ],
};

impl Mapping {
    /// The names of its keys.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|Key(name, ..)| *name).collect()
    }

    fn schema(&self) -> Value {
        let property = |Key(name, kind, about): &Key| {
            let mut schema = kind.schema();
            if let Value::Object(schema) = &mut schema {
                schema.insert("description".to_owned(), json!(about));
            }
            ((*name).to_owned(), schema)
        };
        json!({
            "type": "object",
            "description": self.about,
            "required": self.required,
            "additionalProperties": false,
            "properties": self.keys.iter().map(property).collect::<Map<_, _>>(),
        })
    }
}

impl Kind {
    fn schema(&self) -> Value {
        let scalar = json!({ "type": ["string", "number", "boolean"] });
        match self {
            Self::Text => scalar,
            // A pattern holds for strings alone: `size: 1000` is a number to an editor.
            Self::Like(pattern) => json!({ "type": ["string", "number"], "pattern": pattern }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Texts => json!({ "type": "array", "items": scalar }),
            Self::Pairs => json!({ "type": "object", "additionalProperties": scalar }),
            Self::List(mapping) => json!({ "type": "array", "items": mapping.schema() }),
            Self::ShortList(mapping) => {
                json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, mapping.schema()] } })
            }
            Self::Map(mapping) => json!({ "type": "object", "additionalProperties": mapping.schema() }),
            Self::Any => json!({}),
        }
    }
}

/// The JSON schema of `package.yaml` (draft 2020-12), as it lies in `docs/package.schema.json`.
#[must_use]
pub fn schema() -> Value {
    let mut schema = MANIFEST.schema();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("package.yaml");
    schema
}
