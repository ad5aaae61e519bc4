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
",
    );
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
        "hint: known are `name`, `title`, `author`, `version`, `description`, `require`, `services`, `files`, \
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
