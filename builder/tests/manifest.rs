//! What a manifest says, and how its mistakes are shown.

use std::path::Path;

use builder::manifest::{Manifest, ManifestError};
use builder::resolve::Resolution;
use builder::tree::ImagePath;

const HEAD: &str = "name: kv\ntitle: Store\nauthor: us\n";

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(Path::new("p/package.yaml"), text.to_owned())
}

/// The manifest that starts with the required keys, whose fourth line is the first one given.
fn good(rest: &str) -> Manifest {
    parse(&format!("{HEAD}{rest}")).unwrap_or_else(|error| panic!("{error}"))
}

/// What is printed for a mistake, advice included.
fn shown(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let hint = error
        .hint()
        .map(|hint| format!("\nhint: {hint}"))
        .unwrap_or_default();
    format!("{error}{hint}")
}

/// The message and the place of a mistake behind the required keys.
fn wrong(rest: &str) -> (String, usize, usize) {
    match parse(&format!("{HEAD}{rest}")) {
        Err(ManifestError::Wrong(found)) => (found.message, found.place.line, found.place.column),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_manifest_is_read() {
    let manifest = good(
        "version: 0.10
description: >
  folded
  text
services:
  - services/db
  - crate: services/kv
    bin: key-value
    features: [a, b]
    role: kv
files:
  - source: ./site
    destination: /srv/www
    mode: 0640
env: { PORT: 9000, A: package }
config_set:
  serve:
    bootcmd: kv --name 'two words'
    env: { A: set }
  other:
    bootcmd: db
config_set_default: serve
size: 128M
volumes: [/data]
",
    );
    assert!(manifest.mounts_data);
    assert_eq!(manifest.name.as_str(), "kv");
    assert_eq!(manifest.folder, Path::new("p"));
    assert_eq!(
        manifest.version.as_ref().map(ToString::to_string).as_deref(),
        Some("0.10"),
        "a scalar is text as it was written"
    );
    assert_eq!(manifest.description.as_deref(), Some("folded text\n"));
    let services: Vec<_> = manifest
        .services
        .iter()
        .map(|s| (s.crate_dir.to_str().unwrap(), &*s.bin, &*s.role))
        .collect();
    assert_eq!(
        services,
        [("services/db", "db", "db"), ("services/kv", "key-value", "kv")]
    );
    assert_eq!(manifest.services[1].features, ["a", "b"]);
    assert_eq!(manifest.files[0].source, Path::new("site"));
    assert_eq!(manifest.files[0].destination, ImagePath::new(b"/srv/www").ok());
    assert_eq!(manifest.files[0].mode, Some(0o640));
    assert_eq!(manifest.size, Some(128 << 20));
    let resolution = Resolution::alone(manifest).unwrap();
    let default = resolution.default().unwrap();
    assert_eq!(default.arguments, [&b"kv"[..], b"--name", b"two words"]);
    assert_eq!(default.environment, [&b"A=set"[..], b"PORT=9000"]);
    assert_eq!(resolution.sets().keys().collect::<Vec<_>>(), ["other", "serve"]);
}

#[test]
fn a_lone_service_or_configuration_is_the_default() {
    let default = |rest| {
        let resolution = Resolution::alone(good(rest)).unwrap();
        let words = resolution.default()?.arguments.join(&b' ');
        Some(String::from_utf8(words).unwrap())
    };
    assert_eq!(default("services: [services/kv]\n").as_deref(), Some("kv"));
    assert_eq!(default("services: [services/kv, services/db]\n"), None);
    assert_eq!(
        default("services: [a/kv]\nconfig_set: { x: { bootcmd: kv -v } }\n").as_deref(),
        Some("kv -v")
    );
    assert_eq!(default(""), None);
}

#[test]
fn an_unknown_key_is_a_warning_in_its_place_with_the_likely_one() {
    let warned = |rest: &str| {
        let manifest = good(rest);
        let [warning] = &manifest.warnings[..] else {
            panic!("{:?}", manifest.warnings);
        };
        format!("{warning}\nhint: {}", warning.hint.as_ref().unwrap())
    };
    assert_eq!(
        warned("services:\n  - crate: services/kv\n    rôle: kv\n"),
        "unknown key `rôle` in a service
 --> p/package.yaml:6:5
  |
6 |     rôle: kv
  |     ^^^^
hint: did you mean `role`?"
    );
    assert_eq!(
        warned("vresion: 1\n"),
        "unknown key `vresion` in a manifest
 --> p/package.yaml:4:1
  |
4 | vresion: 1
  | ^^^^^^^
hint: did you mean `version`?"
    );
    assert!(warned("xyzzy: 1\n").ends_with(
        "hint: known are `name`, `title`, `author`, `version`, `description`, `require`, `services`, `files`, `volumes`, \
        `override`, `env`, `config_set`, `config_set_default`, `size`, `binary`, `created`, `platform`"
    ));
    let many: String = (0..1000).map(|n| format!("x{n}: 1\n")).collect();
    assert_eq!(good(&many).warnings.len(), 32);
}

#[test]
fn each_mistake_has_its_place() {
    let cases = [
        (
            "services: services/kv\n",
            "`services` is a list, this is text",
            4,
            11,
        ),
        ("version: [1]\n", "`version` is text, this is a list", 4, 10),
        ("env: [A]\n", "`env` is a mapping, this is a list", 4, 6),
        ("name: again\n", "`name` is there twice, first on line 1", 4, 1),
        ("services:\n- role: kv\n", "a service needs `crate`", 5, 3),
        (
            "services: [/abs]\n",
            "`/abs` is no path inside this project",
            4,
            12,
        ),
        (
            "services: [../kv]\n",
            "`../kv` is no path inside this project",
            4,
            12,
        ),
        (
            "services: [a/kv, b/kv]\n",
            "the role `kv` is there twice, first on line 4",
            4,
            18,
        ),
        ("services:\n- crate: a\n  role: a/b\n", "`a/b` is no name", 6, 9),
        (
            "files:\n- source: a\n  destination: /a\n  mode: 888\n",
            "`888` are no permissions",
            7,
            9,
        ),
        (
            "files:\n- source: a\n",
            "an entry of `files` needs `destination`",
            5,
            3,
        ),
        ("env: { A=B: 1 }\n", "`A=B` is no name of a variable", 4, 8),
        (
            "config_set: { a: { bootcmd: \"x 'y\" } }\n",
            "a quote is not terminated",
            4,
            29,
        ),
        (
            "config_set: { a: { bootcmd: '' } }\n",
            "`bootcmd` is empty",
            4,
            29,
        ),
        ("config_set_default: a\n", "no `config_set` is named `a`", 4, 21),
        (
            "services: [kv]\nconfig_set: { a: { bootcmd: kw } }\n",
            "no service has the role `kw`",
            5,
            29,
        ),
        ("size: 2X\n", "`2X` is no size of a disk", 4, 7),
        (
            "size: 99999999999999999999\n",
            "`99999999999999999999` is no size of a disk",
            4,
            7,
        ),
        ("size: 0\n", "`0` is no size of a disk", 4, 7),
        (
            "volumes: [/data, /var/lib]\n",
            "a volume cannot be mounted at `/var/lib`",
            4,
            18,
        ),
    ];
    for (rest, message, line, column) in cases {
        assert_eq!(wrong(rest), (message.to_owned(), line, column), "{rest}");
    }
}

#[test]
fn required_keys_must_be_there_and_not_empty() {
    for (key, others) in [
        ("name", "title: t\nauthor: a\n"),
        ("title", "name: n\nauthor: a\n"),
        ("author", "name: n\ntitle: t\n"),
    ] {
        assert!(
            shown(others).starts_with(&format!("a manifest needs `{key}`\n")),
            "{}",
            shown(others)
        );
        for empty in ["''", "", "'  '"] {
            let text = shown(&format!("{others}{key}: {empty}\n"));
            assert!(text.starts_with(&format!("`{key}` is empty\n")), "{text}");
        }
    }
}

#[test]
fn what_is_no_yaml_is_shown_in_its_place() {
    for text in [
        "",
        "- a\n",
        "name: [\n",
        "a: b: c\n",
        "\t\n",
        "name: !!str x\n",
        "a: &x 1\n",
        "{}}",
        "? [a]\n: b\n",
    ] {
        let error = shown(text);
        assert!(error.contains("--> p/package.yaml:"), "{text:?}: {error}");
    }
}

#[test]
fn any_bytes_are_a_manifest_or_a_mistake() {
    // The tokens of YAML in every order of four: quotes, flows, comments, documents, tabs, carriage returns.
    let tokens = [
        "name: x\n",
        "- ",
        "{",
        "]",
        "'",
        "\"",
        "|",
        "\t",
        "\r",
        "# c",
        "---\n",
        "é",
        "\0",
        "? ",
        "*a",
        "services:\n",
    ];
    for a in tokens {
        for b in tokens {
            for c in tokens {
                for d in tokens {
                    let _ = parse(&format!("{a}{b}{c}{d}")).map_err(|error| error.to_string());
                }
            }
        }
    }
}

#[test]
fn the_whole_of_a_manifest_with_packages_is_read() {
    let manifest = good(
        "version: 1.2
require: [lib, 'other@>=1, <3', third@1.2]
files:
  - { source: 'a/**/*.png', destination: /, override: true }
  - { source: b, destination: b }
config_set:
  own: { base: 'lib:start' }
",
    );
    let require: Vec<_> = manifest.require.iter().map(ToString::to_string).collect();
    assert_eq!(require, ["lib", "other@>=1, <3", "third@^1.2"]);
    let overrides: Vec<_> = manifest.files.iter().map(|rule| rule.overrides).collect();
    assert_eq!(overrides, [true, false]);
    assert_eq!(manifest.files[0].destination, None);
    let base = manifest.sets["own"].base.as_ref().unwrap();
    assert_eq!((base.package.as_str(), &*base.set), ("lib", "start"));
    let manifest = good("override: true\nrequire:\nenv:\nfiles: [{ source: b, destination: b }]\n");
    assert!(manifest.files[0].overrides);
}

#[test]
fn each_mistake_about_packages_and_boot_sets_is_shown() {
    let cases = [
        (
            "require: [lib, 'lib@^1']\n",
            "`lib` is required twice, first on line 4
 --> p/package.yaml:4:16
  |
4 | require: [lib, 'lib@^1']
  |                ^^^^^^^^
hint: write one range with a comma, like `name@>=1, <3`",
        ),
        (
            "require:\n  - lib@^x\n",
            "`lib@^x` names no range of versions: unexpected character 'x' while parsing major version number
 --> p/package.yaml:5:5
  |
5 |   - lib@^x
  |     ^^^^^^
hint: write it like `name@^1.2`, `name@>=1, <3` or `name@=1.0.2`",
        ),
        (
            "require: [a/b]\n",
            "`a/b` is no name
 --> p/package.yaml:4:11
  |
4 | require: [a/b]
  |           ^^^
hint: a name has at most 64 letters, digits, `-`, `_` or `.`, and starts with a letter or a digit",
        ),
        (
            "config_set:\n  a: { bootcmd: x }\n  b: { bootcmd: y }\n  a: { bootcmd: z }\n",
            "`a` is there twice, first on line 5
 --> p/package.yaml:7:3
  |
7 |   a: { bootcmd: z }
  |   ^",
        ),
        (
            "config_set:\n  a: { env: { B: 1 } }\n",
            "a boot set needs `bootcmd` or `base`
 --> p/package.yaml:5:8
  |
5 |   a: { env: { B: 1 } }
  |        ^",
        ),
        (
            "config_set: { a: { base: lib } }\n",
            "`lib` names no boot set of a package
 --> p/package.yaml:4:26
  |
4 | config_set: { a: { base: lib } }
  |                          ^^^
hint: write it like `package:set`",
        ),
        (
            "config_set: { 'a:b': { bootcmd: x } }\n",
            "`a:b` is no name of a boot set
 --> p/package.yaml:4:15
  |
4 | config_set: { 'a:b': { bootcmd: x } }
  |               ^^^^^
hint: a name has at most 64 bytes, and no `:`",
        ),
        (
            "files: [{ source: 'a[', destination: b }]\n",
            "`a[` is no pattern: unclosed character class; missing ']'
 --> p/package.yaml:4:19
  |
4 | files: [{ source: 'a[', destination: b }]
  |                   ^^^^",
        ),
        (
            "override: yes\n",
            "`yes` is neither `true` nor `false`
 --> p/package.yaml:4:11
  |
4 | override: yes
  |           ^^^",
        ),
    ];
    for (rest, expected) in cases {
        assert_eq!(shown(&format!("{HEAD}{rest}")), expected);
    }
}

#[test]
fn a_version_that_cannot_be_compared_is_a_warning() {
    let manifest = good("version: trunk\n");
    assert_eq!(manifest.version, None);
    assert_eq!(
        manifest.warnings[0].message,
        "`trunk` is no version that can be compared"
    );
}

fn capstan(package: &str, run: &str) -> Result<Manifest, ManifestError> {
    let manifest = Manifest::parse(Path::new("p/meta/package.yaml"), format!("{HEAD}{package}"))?;
    manifest.with_run(Path::new("p/meta/run.yaml"), run.to_owned())
}

#[test]
fn a_run_yaml_is_read_and_its_mistakes_are_shown() {
    let sets = "config_set:\n  a: { bootcmd: /app }\n";
    let manifest = capstan(
        "",
        &format!("runtime: node\n{sets}config_set_default: a\nmain: x\n"),
    )
    .unwrap();
    assert_eq!(manifest.folder, Path::new("p"));
    assert_eq!(manifest.default_set.as_deref(), Some("a"));
    let warnings: Vec<_> = manifest.warnings.iter().map(|found| &*found.message).collect();
    assert_eq!(
        warnings,
        [
            "unknown key `main` in a `run.yaml`",
            "the runtime `node` is not taken, only `native`"
        ]
    );
    let shown = |package: &str, run: &str| capstan(package, run).unwrap_err().to_string();
    assert_eq!(
        shown(
            "",
            &format!("{sets}  b: {{ bootcmd: x }}\n  a: {{ bootcmd: y }}\n")
        ),
        "`a` is there twice, first on line 2
 --> p/meta/run.yaml:4:3
  |
4 |   a: { bootcmd: y }
  |   ^"
    );
    assert!(
        shown(sets, sets).starts_with("there are boot sets in `package.yaml`, too\n --> p/meta/run.yaml:2:3")
    );
    assert!(shown("", "config_set_default: b\n").starts_with("no `config_set` is named `b`\n"));
}

#[test]
fn depth_and_size_are_bounded() {
    for deep in ["- ", "-\t", "- - ? ", "[", "{a: ", "a:\n "] {
        let _ = parse(&deep.repeat(50_000));
    }
    let text = shown(&format!("{HEAD}files:\n  {}a\n", "- ".repeat(17)));
    assert!(
        text.starts_with("lists are nested too deeply\n --> p/package.yaml:5:1\n"),
        "{text}"
    );
    let large = "#".repeat((256 << 10) + 1);
    assert!(matches!(parse(&large), Err(ManifestError::TooLarge { .. })));
}

#[test]
fn the_schema_in_docs_is_that_of_the_reader() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/package.schema.json");
    let schema = serde_json::to_string_pretty(&builder::manifest::schema()).unwrap() + "\n";
    if std::env::var_os("HERMITAGE_BLESS").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == schema,
        "docs/package.schema.json is stale: HERMITAGE_BLESS=1 writes it"
    );
}
