//! Which files of packages are in an image: patterns, ignore files, folders of Capstan's, and who may override whom.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use builder::gather::{GatherError, gather};
use builder::manifest::Manifest;
use builder::tree::{NodeKind, Tree};

/// A folder with these files, each of which holds its own path.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    folder
}

fn package(folder: &Path, rest: &str) -> Manifest {
    let text = format!("name: app\ntitle: t\nauthor: a\n{rest}\n");
    Manifest::parse(&folder.join("package.yaml"), text).unwrap_or_else(|error| panic!("{error}"))
}

fn collect(packages: &[Manifest]) -> Result<Tree, GatherError> {
    gather(packages, &BTreeMap::new())
}

/// Paths of all but the directories.
fn paths(tree: &Tree) -> Vec<String> {
    let files = tree.iter().filter(|(_, node)| node.kind != NodeKind::Directory);
    files.map(|(path, _)| path.to_string()).collect()
}

/// What one entry of `files` brings.
fn brings(folder: &Path, source: &str) -> Vec<String> {
    let rest = format!("files: [{{ source: '{source}', destination: /d }}]");
    paths(&collect(&[package(folder, &rest)]).unwrap())
}

/// What is printed for a mistake, advice included.
fn shown(folder: &Path, packages: &[Manifest]) -> String {
    let error = collect(packages).unwrap_err();
    let hint = error
        .hint()
        .map(|hint| format!("\nhint: {hint}"))
        .unwrap_or_default();
    format!("{error}{hint}").replace(&folder.display().to_string(), "p")
}

#[test]
fn patterns_pick_files_and_keep_their_paths_below_the_part_without_signs() {
    let files = [
        "a/x.png",
        "a/y.txt",
        "a/b/z.png",
        "a/b/c/w.PNG",
        "a/b/c/v.png",
        "x.png",
    ];
    let folder = folder(&files);
    symlink("x.png", folder.path().join("a/link.png")).unwrap();
    let brings = |source| brings(folder.path(), source);
    assert_eq!(brings("a/*.png"), ["/d/link.png", "/d/x.png"]);
    assert_eq!(
        brings("a/**/*.png"),
        ["/d/b/c/v.png", "/d/b/z.png", "/d/link.png", "/d/x.png"]
    );
    assert_eq!(brings("a/b/**").len(), 3);
    assert_eq!(brings("*.png"), ["/d/x.png"]);
    assert_eq!(brings("a/{x,y}.*"), ["/d/x.png", "/d/y.txt"]);
    assert_eq!(brings("a/?.[t]xt"), ["/d/y.txt"]);
    assert_eq!(brings("a/b/c"), ["/d/v.png", "/d/w.PNG"]);
    assert_eq!(brings("a/x.png"), ["/d"]);
}

#[test]
fn ignore_files_hold_for_folders_and_patterns_and_are_never_brought() {
    let folder = folder(&[
        "s/a.log",
        "s/b.txt",
        "s/deep/c.log",
        "s/deep/keep.log",
        "s/out/d.txt",
    ]);
    let root = folder.path();
    fs::write(root.join(".hermitageignore"), "*.log\nout/\n").unwrap();
    fs::write(root.join("s/deep/.capstanignore"), "!keep.log\n").unwrap();
    fs::write(root.join("s/.gitignore"), "b.txt\n").unwrap();
    let all = ["/d/.gitignore", "/d/b.txt", "/d/deep/keep.log"];
    assert_eq!(brings(root, "s"), all);
    assert_eq!(brings(root, "s/**"), all);
    let rest = "files: [{ source: s/out, destination: /d }]";
    assert_eq!(
        shown(root, &[package(root, rest)]),
        "`s/out` is left out by an ignore file
 --> p/package.yaml:4:19
  |
4 | files: [{ source: s/out, destination: /d }]
  |                   ^^^^^"
    );
}

#[test]
fn an_entry_that_brings_nothing_is_shown_in_its_place() {
    let folder = folder(&["site/index.html"]);
    let root = folder.path();
    let wrong = |source: &str, destination: &str| {
        let rest = format!("files: [{{ source: {source}, destination: {destination} }}]");
        shown(root, &[package(root, &rest)])
    };
    assert_eq!(
        wrong("stie", "/d"),
        "`stie` is not in the package's folder
 --> p/package.yaml:4:19
  |
4 | files: [{ source: stie, destination: /d }]
  |                   ^^^^
hint: did you mean `site`?"
    );
    assert!(wrong("site/**/*.png", "/d").starts_with("`site/**/*.png` fits no file\n"));
    symlink("/etc", root.join("link")).unwrap();
    for source in ["link/passwd", "link/*"] {
        assert!(wrong(source, "/d").starts_with(&format!("`{source}` lies behind a symbolic link\n")));
    }
    assert!(wrong("link", "/").starts_with("`link` is no folder, and so"));
    assert!(wrong("site/index.html", "/").starts_with("`site/index.html` is no folder, and so"));
}

#[test]
fn a_folder_of_capstans_is_brought_whole_but_for_its_meta() {
    let folder = folder(&[
        "etc/app.conf",
        "run.sh",
        "deep/meta/data",
        "meta/package.yaml",
        "meta/run.yaml",
    ]);
    let root = folder.path();
    let text = "name: old\ntitle: t\nauthor: a\nplatform: Ubuntu-14.04\nbinary: { x86: y }\ncreated: 2018-01-01 10:00\n";
    fs::write(root.join("meta/package.yaml"), text).unwrap();
    fs::write(
        root.join("meta/run.yaml"),
        "runtime: native\nconfig_set:\n  default:\n    bootcmd: run.sh -v\n    env: { PORT: 9000 }\n",
    )
    .unwrap();
    let manifest = Manifest::read(&Manifest::find(root).unwrap()).unwrap();
    assert_eq!((&*manifest.folder, &manifest.warnings[..]), (root, &[][..]));
    assert_eq!(manifest.sets["default"].environment["PORT"], "9000");
    let tree = collect(std::slice::from_ref(&manifest)).unwrap();
    assert_eq!(paths(&tree), ["/deep/meta/data", "/etc/app.conf", "/run.sh"]);
    // The folder may be reached through a link.
    let link = tempfile::tempdir().unwrap();
    symlink(root, link.path().join("old")).unwrap();
    let linked = Manifest::read(&link.path().join("old/meta/package.yaml")).unwrap();
    assert_eq!(paths(&collect(&[linked]).unwrap()), paths(&tree));
}

#[test]
fn a_path_of_two_packages_names_both_unless_the_later_overrides() {
    let folder = folder(&["etc/conf", "dir/x"]);
    let root = folder.path();
    let brings = |name: &str, rest: &str| Manifest {
        name: builder::manifest::PackageName::new(name).unwrap(),
        ..package(root, rest)
    };
    let entry = "source: etc/conf, destination: /etc/conf";
    let lib = || brings("lib", &format!("files: [{{ {entry} }}]"));
    assert_eq!(
        shown(root, &[lib(), brings("app", &format!("files: [{{ {entry} }}]"))]),
        "`/etc/conf` is brought by both files entry `etc/conf` of `lib` and files entry `etc/conf` of `app`
hint: remove one of them, move it elsewhere, or write `override: true` at the entry of `files` that is to win"
    );
    for rest in [
        format!("files: [{{ {entry}, override: true }}]"),
        format!("override: true\nfiles: [{{ {entry} }}]"),
    ] {
        let tree = collect(&[lib(), brings("app", &rest)]).unwrap();
        let (_, node) = tree.iter().last().unwrap();
        assert_eq!(*node.origin, *"files entry `etc/conf` of `app`");
    }
    // A folder takes no file's place, nor the other way round.
    let over = "files: [{ source: dir, destination: /etc/conf, override: true }]";
    assert!(collect(&[lib(), brings("app", over)]).is_err());
    let over = "files: [{ source: dir/x, destination: /etc, override: true }]";
    assert!(collect(&[lib(), brings("app", over)]).is_err());
}
