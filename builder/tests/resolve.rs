//! Which packages an image is made of, in which order, and how it is told that there is no such set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use builder::manifest::{Manifest, PackageName};
use builder::resolve::{PackageSource, Resolution, ResolveError, Siblings, SourceError, resolve};

/// Packages in memory.
#[derive(Default)]
struct Shelf(Vec<Manifest>);

impl PackageSource for Shelf {
    fn names(&self) -> Vec<PackageName> {
        self.0.iter().map(|manifest| manifest.name.clone()).collect()
    }

    fn candidates(&self, name: &PackageName) -> Result<Vec<Manifest>, SourceError> {
        Ok(self
            .0
            .iter()
            .filter(|manifest| manifest.name == *name)
            .cloned()
            .collect())
    }
}

/// `name 1.2: other@^1, third`
fn package(line: &str) -> Manifest {
    let (head, require) = line.split_once(':').unwrap_or((line, ""));
    let (name, version) = head.split_once(' ').unwrap_or((head, ""));
    let version = match version {
        "" => String::new(),
        version => format!("version: {version}\n"),
    };
    with(name, &format!("{version}require: [{require}]\n"))
}

fn with(name: &str, rest: &str) -> Manifest {
    let text = format!("name: {name}\ntitle: t\nauthor: a\n{rest}");
    Manifest::parse(Path::new(&format!("{name}/package.yaml")), text)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn shelf(lines: &[&str]) -> Shelf {
    Shelf(lines.iter().map(|line| package(line)).collect())
}

/// `b 1.2, app`
fn order(resolution: &Resolution) -> String {
    let packages = resolution.packages().iter();
    let names = packages.map(|package| match &package.version {
        Some(version) => format!("{} {version}", package.name),
        None => package.name.to_string(),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn solve(root: &str, lines: &[&str]) -> Result<String, ResolveError> {
    resolve(package(root), &[&shelf(lines)]).map(|resolution| order(&resolution))
}

/// What is printed, advice included.
fn shown(error: &ResolveError) -> String {
    let hint = error
        .hint()
        .map(|hint| format!("\nhint: {hint}"))
        .unwrap_or_default();
    format!("{error}{hint}")
}

#[test]
fn dependencies_come_first_and_each_once() {
    let found = solve("app: a, b", &["a: c", "b: c, d", "c: d", "d", "other"]);
    assert_eq!(found.unwrap(), "d, c, a, b, app");
}

#[test]
fn the_newest_version_that_fits_all_ranges_is_taken() {
    let lib = ["lib 1.0", "lib 1.9", "lib 1.10", "lib 2", "lib 3.0.0-rc.1"];
    let solve = |root: &str, more: &[&str]| solve(root, &[&lib, more].concat()).unwrap();
    assert_eq!(solve("app: lib", &[]), "lib 3.0.0-rc.1, app");
    assert_eq!(solve("app: lib@^1", &[]), "lib 1.10, app");
    assert_eq!(solve("app: 'lib@>=1, <1.10'", &[]), "lib 1.9, app");
    assert_eq!(solve("app: lib@=1.0.0", &[]), "lib 1.0, app");
    // What was taken is given up again where it does not go together with the rest.
    assert_eq!(solve("app: lib, a", &["a: lib@^1"]), "lib 1.10, a, app");
    assert_eq!(
        solve("app: a, b", &["a 2: lib@^2", "a 1: lib@^1", "b: lib@^1"]),
        "lib 1.10, a 1, b, app"
    );
    // Without a version, a package does for whoever asks for none.
    assert_eq!(solve("app: plain", &["plain"]), "plain, app");
}

#[test]
fn the_first_source_is_preferred_where_it_fits() {
    let (near, far) = (shelf(&["lib 1"]), shelf(&["lib 1", "lib 2", "lib 3"]));
    let order = |root: &str| order(&resolve(package(root), &[&near, &far]).unwrap());
    assert_eq!(order("app: lib"), "lib 1, app");
    assert_eq!(order("app: lib@>=2"), "lib 3, app");
}

#[test]
fn a_package_that_is_missing_is_shown_with_its_chain_and_the_likely_one() {
    let error = solve("app: a", &["a 1.0: lbi@^1", "lib"]).unwrap_err();
    assert_eq!(
        shown(&error),
        "there is no package `lbi`: `app -> a 1.0 -> lbi@^1`
 --> a/package.yaml:5:12
  |
5 | require: [ lbi@^1]
  |            ^^^^^^
hint: did you mean `lib`?"
    );
}

#[test]
fn a_cycle_is_shown_once_around() {
    let chain = |root: &str, lines: &[&str]| match solve(root, lines).unwrap_err() {
        ResolveError::Cycle { chain, .. } => chain,
        other => panic!("{other}"),
    };
    assert_eq!(
        chain("node-micro: a", &["a: b", "b: a"]),
        "node-micro -> a -> b -> a"
    );
    assert_eq!(chain("app: app", &[]), "app -> app");
    assert_eq!(chain("app: a", &["a: app"]), "app -> a -> app");
    assert_eq!(
        chain("app: a, b", &["a: c", "b: c", "c: b"]),
        "app -> a -> c -> b -> c"
    );
    let error = solve("node-micro: a", &["a: b", "b: a"]).unwrap_err();
    assert_eq!(
        shown(&error),
        "packages require each other: `node-micro -> a -> b -> a`
 --> b/package.yaml:4:12
  |
4 | require: [ a]
  |            ^
hint: remove one of these requirements"
    );
    // An older version that closes no circle will do.
    assert_eq!(
        solve("app: a", &["a: b", "b 2: a", "b 1"]).unwrap(),
        "b 1, a, app"
    );
}

#[test]
fn ranges_that_exclude_each_other_are_shown_with_all_chains() {
    let error = solve(
        "app: a, b",
        &["a 1.2: lib@^2", "b 0.3: lib@^1", "lib 1.0.0", "lib 2.1.0"],
    )
    .unwrap_err();
    assert_eq!(
        shown(&error),
        "no version of `lib` satisfies all who require it; there is 2.1.0, 1.0.0
  app -> a 1.2 -> lib@^2
  app -> b 0.3 -> lib@^1
 --> b/package.yaml:5:12
  |
5 | require: [ lib@^1]
  |            ^^^^^^
hint: change one of these ranges, or add a version that fits"
    );
    let error = solve("app: lib@^1", &["lib"]).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "no version of `lib` satisfies all who require it; there is one without a version\n"
        )
    );
}

#[test]
fn a_role_of_two_packages_names_both() {
    let kv = |name| with(name, "services: [services/kv]\n");
    let error = resolve(
        with("app", "require: [a, b]\n"),
        &[&Shelf(vec![kv("a"), kv("b")])],
    )
    .unwrap_err();
    assert_eq!(
        shown(&error),
        "the role `kv` is brought by both package `a` and package `b`
hint: give one of the two services another `role`"
    );
}

#[test]
fn a_boot_set_has_what_its_base_has_and_more() {
    let base = with(
        "base",
        "files: [{ source: bin, destination: /bin }]
env: { A: package, B: package }
config_set:
  start: { bootcmd: serve -v, env: { B: set, C: set } }
  other: { bootcmd: other }
",
    );
    let app = with(
        "app",
        "require: [base]
env: { A: app }
config_set:
  own: { base: 'base:start', env: { C: own } }
  again: { base: 'app:own', bootcmd: again, env: { D: again } }
config_set_default: again
",
    );
    let resolution = resolve(app, &[&Shelf(vec![base])]).unwrap();
    let names: Vec<_> = resolution.sets().keys().collect();
    assert_eq!(names, ["again", "base:other", "base:start", "own"]);
    let text = |config: &hermitage_boot::BootConfig| {
        let words = [config.arguments.join(&b' '), config.environment.join(&b' ')];
        words.map(|words| String::from_utf8(words).unwrap()).join(" | ")
    };
    assert_eq!(
        text(&resolution.sets()["base:start"]),
        "serve -v | A=package B=set C=set"
    );
    assert_eq!(text(&resolution.sets()["own"]), "serve -v | A=app B=set C=own");
    assert_eq!(
        text(&resolution.sets()["again"]),
        "again | A=app B=set C=own D=again"
    );
    assert_eq!(resolution.default(), Some(&resolution.sets()["again"]));
}

#[test]
fn a_base_that_is_missing_or_its_own_is_shown_in_its_place() {
    let app = |base: &str| {
        let rest =
            format!("config_set:\n  one: {{ bootcmd: x, base: '{base}' }}\n  two: {{ base: 'app:one' }}\n");
        let files = "files: [{ source: bin, destination: /bin }]";
        shown(&Resolution::alone(with("app", &format!("{files}\n{rest}"))).unwrap_err())
    };
    assert_eq!(
        app("app:tow"),
        "there is no boot set `app:tow`
 --> app/package.yaml:6:28
  |
6 |   one: { bootcmd: x, base: 'app:tow' }
  |                            ^^^^^^^^^
hint: did you mean `app:two`?"
    );
    assert_eq!(
        app("app:two"),
        "boot sets start from each other: `app:one -> app:two -> app:one`
 --> app/package.yaml:7:16
  |
7 |   two: { base: 'app:one' }
  |                ^^^^^^^^^
hint: give one of them a `bootcmd` instead of its `base`"
    );
}

#[test]
fn siblings_are_the_folders_beside_a_package() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, name: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("name: {name}\ntitle: t\nauthor: a\n")).unwrap();
    };
    write("app/package.yaml", "app");
    write("lib/package.yaml", "lib");
    write("old/meta/package.yaml", "old");
    write("renamed/package.yaml", "other");
    write("broken/package.yaml", "[");
    let siblings = Siblings::of(&folder.path().join("app"));
    let names: Vec<_> = siblings.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["app", "broken", "lib", "old", "renamed"]);
    let resolution = resolve(package("app: lib, old"), &[&siblings]).unwrap();
    assert_eq!(order(&resolution), "lib, old, app");
    assert_eq!(resolution.packages()[1].folder, folder.path().join("old"));
    assert!(matches!(
        resolve(package("app: renamed"), &[&siblings]),
        Err(ResolveError::Missing { .. })
    ));
    assert!(matches!(
        resolve(package("app: broken"), &[&siblings]),
        Err(ResolveError::Source { .. })
    ));
}

/// All ways to choose at most one version of each package, the best that is a resolution; by trying them all.
fn oracle(root: &Manifest, all: &[Manifest]) -> Option<String> {
    let mut versions: BTreeMap<&PackageName, Vec<&Manifest>> = BTreeMap::new();
    for manifest in all {
        versions.entry(&manifest.name).or_default().push(manifest);
    }
    let mut choices: Vec<BTreeMap<&PackageName, &Manifest>> = vec![BTreeMap::from([(&root.name, root)])];
    for (name, versions) in &versions {
        let with: Vec<_> = choices
            .iter()
            .flat_map(|choice| {
                versions.iter().map(move |version| {
                    let mut choice = choice.clone();
                    choice.insert(name, version);
                    choice
                })
            })
            .collect();
        choices.extend(with);
    }
    let found = choices
        .iter()
        .filter_map(|choice| rank(root, choice).map(|rank| (rank, choice)));
    let (_, best) = found.max_by(|(a, _), (b, _)| a.cmp(b))?;
    let packages = ordered(root, best);
    let names = packages.iter().map(|package| match &package.version {
        Some(version) => format!("{} {version}", package.name),
        None => package.name.to_string(),
    });
    Some(names.collect::<Vec<_>>().join(", "))
}

/// The versions of a choice in the order in which packages are found; `None` if the choice is no resolution.
fn rank(
    root: &Manifest,
    choice: &BTreeMap<&PackageName, &Manifest>,
) -> Option<Vec<builder::manifest::Version>> {
    let (mut found, mut rank) = (vec![&root.name], vec![]);
    let mut at = 0;
    while at < found.len() {
        for requirement in &choice[found[at]].require {
            let other = choice.get(&requirement.name)?;
            if !requirement.fits(other.version.as_ref()) {
                return None;
            }
            if !found.contains(&&requirement.name) {
                found.push(&other.name);
                rank.push(other.version.clone().unwrap());
            }
        }
        at += 1;
    }
    // What nobody requires is no part of it, and may require what is not there.
    if found.len() != choice.len() {
        return None;
    }
    let acyclic = choice
        .keys()
        .all(|name| !reaches(choice, name, name, &mut BTreeSet::new()));
    acyclic.then_some(rank)
}

fn reaches<'a>(
    choice: &BTreeMap<&PackageName, &'a Manifest>,
    from: &PackageName,
    to: &PackageName,
    seen: &mut BTreeSet<&'a PackageName>,
) -> bool {
    choice[from].require.iter().any(|requirement| {
        requirement.name == *to
            || seen.insert(&requirement.name) && reaches(choice, &requirement.name, to, seen)
    })
}

fn ordered<'a>(root: &'a Manifest, choice: &BTreeMap<&PackageName, &'a Manifest>) -> Vec<&'a Manifest> {
    let mut order: Vec<&Manifest> = vec![];
    for requirement in &root.require {
        for package in ordered(choice[&requirement.name], choice) {
            if order.iter().all(|there| there.name != package.name) {
                order.push(package);
            }
        }
    }
    order.push(root);
    order
}

#[test]
fn the_search_finds_what_trying_everything_finds() {
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        // Knuth's MMIX generator: the same cases on every machine.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut solved, mut refused) = (0, 0);
    for case in 0..3000 {
        let names = ["a", "b", "c", "d", "e"];
        let mut require = |own: usize| {
            let mut parts = vec![];
            // Sparse, and circles seldom.
            for (at, name) in names.iter().enumerate() {
                let likely = if own == usize::MAX || at > own { 45 } else { 6 };
                if at == own || random(100) >= likely {
                    continue;
                }
                let ranges = ["", "@1", "@2", "@>=2", "@<3", "@=3.0.0"];
                parts.push(format!("'{name}{}'", ranges[random(6) as usize]));
            }
            parts.join(", ")
        };
        let mut all = vec![];
        for (own, name) in names.iter().enumerate() {
            for version in 1..=3 {
                // The last of a package's versions may be missing, and so may all.
                let line = format!("{name} {version}: {}", require(own));
                if (case + own * 7 + version) % 5 != 0 {
                    all.push(package(&line));
                }
            }
        }
        let root = package(&format!("app: {}", require(usize::MAX)));
        let expected = oracle(&root, &all);
        let found = resolve(root, &[&Shelf(all)]);
        match &expected {
            Some(_) => solved += 1,
            None => refused += 1,
        }
        assert_eq!(
            found.ok().map(|resolution| order(&resolution)),
            expected,
            "case {case}"
        );
    }
    assert!(
        solved > 500 && refused > 500,
        "{solved} {refused}: the test proves little"
    );
}
