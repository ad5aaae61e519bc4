//! The repository of packages: what is in it, and how it comes out again.

mod home;

use std::fs;

use builder::archive::{Compression, write};
use builder::event::Silent;
use builder::gather::gather;
use builder::manifest::{Manifest, PackageName, Version};
use builder::repository::RepositoryError;
use builder::resolve::{PackageSource as _, resolve};

use home::{Home, manifest};

#[test]
fn versions_of_a_package_live_side_by_side_and_the_newest_comes_first() {
    let place = Home::new();
    for version in ["0.9", "0.10", "0.2.1"] {
        let archive = place.archive("in", &manifest("base", version), version);
        assert!(!place.import(&archive).unwrap());
        assert!(place.import(&archive).unwrap(), "the same again");
    }
    assert_eq!(place.listed(), ["base@0.10.0", "base@0.9.0", "base@0.2.1"]);
    let name = PackageName::new("base").unwrap();
    let find = |version: Option<&str>| {
        let version = version.map(|version| Version::new(version).unwrap());
        place
            .repository
            .find(&name, version.as_ref())
            .map(|entry| entry.version())
    };
    assert_eq!(find(None).unwrap(), "0.10");
    assert_eq!(find(Some("0.2.1")).unwrap(), "0.2.1");
    assert_eq!(
        find(Some("3")).unwrap_err().to_string(),
        "there is no package `base@3` in the repository"
    );
    let removed = place
        .repository
        .remove(&name, Version::new("0.9.0").as_ref(), &Silent);
    assert_eq!(removed.unwrap(), ["base@0.9.0"]);
    place.repository.remove(&name, None, &Silent).unwrap();
    assert!(place.listed().is_empty());
    assert!(!place.path("root/packages/base").exists());
}

#[test]
fn other_content_of_the_same_version_is_refused_unless_it_is_to_replace() {
    let place = Home::new();
    place
        .import(&place.archive("in", &manifest("base", "1"), "one"))
        .unwrap();
    let other = place.archive("in", &manifest("base", "1.0"), "two");
    let error = place.import(&other).unwrap_err();
    assert!(matches!(error, RepositoryError::Exists { .. }), "{error}");
    let replaced = place.repository.import(&other, true, &Silent).unwrap();
    assert!(!replaced.unchanged);
    assert!(place.repository.verify(&replaced.entry).is_none());
    let names = fs::read_dir(place.path("root/packages")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["base"]);
}

#[test]
fn a_wrong_digest_beside_an_archive_keeps_it_out() {
    let place = Home::new();
    let archive = place.archive("in", &manifest("base", "1"), "one");
    let digest = archive.with_extension("digest");
    fs::write(&digest, format!("blake3:{}\n", blake3::hash(b"other"))).unwrap();
    let error = place.import(&archive).unwrap_err();
    assert!(matches!(error, RepositoryError::Digest { .. }), "{error}");
    fs::write(&digest, "nonsense").unwrap();
    let error = place.import(&archive).unwrap_err();
    assert!(matches!(error, RepositoryError::NoDigest(_)), "{error}");
    assert!(place.listed().is_empty());
    fs::remove_file(&digest).unwrap();
    place.import(&archive).unwrap();
}

#[test]
fn what_is_damaged_is_told_and_does_not_hide_the_rest() {
    let place = Home::new();
    for name in ["one", "two", "three"] {
        place
            .import(&place.archive("in", &manifest(name, "1"), name))
            .unwrap();
    }
    let folder = |name: &str| place.path("root/packages").join(name).join("1.0.0");
    fs::write(folder("one").join("digest"), "nonsense").unwrap();
    let mut bytes = fs::read(folder("two").join("package.mpm")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(folder("two").join("package.mpm"), bytes).unwrap();
    // What a killed run left, and what is none of ours.
    fs::create_dir(place.path("root/packages/.incoming.partial")).unwrap();
    fs::create_dir(place.path("root/packages/odd")).unwrap();
    assert_eq!(place.listed(), ["one@1.0.0 broken", "three@1.0.0", "two@1.0.0"]);
    let listed = place.repository.list().unwrap();
    let problems: Vec<_> = listed
        .iter()
        .filter_map(|listed| place.repository.verify(listed.entry.as_ref().ok()?))
        .collect();
    assert!(
        matches!(problems[..], [RepositoryError::Digest { .. }]),
        "{problems:?}"
    );
    place
        .import(&place.archive("in", &manifest("four", "1"), "4"))
        .unwrap();
    assert!(!place.path("root/packages/.incoming.partial").exists());
    let name = PackageName::new("one").unwrap();
    place.repository.remove(&name, None, &Silent).unwrap();
}

#[test]
fn two_imports_at_once_do_not_disturb_each_other() {
    let place = Home::new();
    let archives: Vec<_> = (0..4)
        .map(|n| place.archive(&format!("in{n}"), &manifest("base", &n.to_string()), "x"))
        .collect();
    std::thread::scope(|scope| {
        for archive in &archives {
            scope.spawn(|| (0..5).for_each(|_| assert!(place.import(archive).is_ok())));
        }
    });
    assert_eq!(
        place.listed(),
        ["base@3.0.0", "base@2.0.0", "base@1.0.0", "base@0.0.0"]
    );
}

#[test]
fn the_most_relevant_package_is_found_first() {
    let place = Home::new();
    for (name, title, description) in [
        ("node", "A runtime", "x"),
        ("node-micro", "Small", "x"),
        ("supernode", "Large", "x"),
        ("a", "Node for all", "x"),
        ("b", "Nodeless", "x"),
        ("c", "Other", "like a NODE"),
        ("d", "Other", "nothing"),
    ] {
        let text =
            format!("name: {name}\ntitle: {title}\nauthor: us\ndescription: {description}\nversion: 1\n");
        place.import(&place.archive("in", &text, name)).unwrap();
    }
    place
        .import(&place.archive("in", &manifest("node", "2"), "2"))
        .unwrap();
    let search = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let found = place.repository.search(&words).unwrap();
        let names = found
            .iter()
            .map(|entry| format!("{}@{}", entry.manifest.name, entry.version()));
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        search(&["Node"]),
        ["node@2", "node-micro@1", "supernode@1", "a@1", "b@1", "c@1"]
    );
    assert_eq!(search(&["node", "small"]), ["node-micro@1"]);
    assert_eq!(search(&["small node"]), ["node-micro@1"]);
    assert!(search(&["node", "nowhere"]).is_empty());
}

#[test]
fn a_package_from_the_repository_is_composed_as_it_was_built() {
    let place = Home::new();
    place
        .import(&place.archive("in", &manifest("base", "1.2"), "plain"))
        .unwrap();
    let app = "name: app\ntitle: App\nauthor: us\nrequire:\n  - base@^1\n";
    fs::write(place.path("package.yaml"), app).unwrap();
    let app = Manifest::read(&place.path("package.yaml")).unwrap();
    let resolution = resolve(app, &[&place.repository]).unwrap();
    resolution.provide(&[&place.repository]).unwrap();
    let tree = gather(resolution.packages(), &Default::default()).unwrap();
    let paths: Vec<_> = tree
        .iter()
        .map(|(path, node)| format!("{path} {:o}", node.mode))
        .collect();
    assert_eq!(paths, ["/etc 755", "/etc/motd 644"]);
    assert_eq!(place.repository.names(), [PackageName::new("base").unwrap()]);
}

#[test]
fn permissions_and_programs_come_with_the_archive() {
    let place = Home::new();
    let source = place.path("source");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("key"), "k").unwrap();
    fs::write(source.join("kv"), "program").unwrap();
    let text = format!(
        "{}services:\n  - services/kv\nfiles:\n  - source: key\n    destination: /etc/key\n    mode: 0600\n",
        manifest("kv", "1")
    );
    fs::write(source.join("package.yaml"), &text).unwrap();
    let package = Manifest::read(&source.join("package.yaml")).unwrap();
    let binaries = [("kv".to_owned(), source.join("kv"))].into();
    let tree = gather(&[package], &binaries).unwrap();
    let archive = place.path("kv.mpm");
    write(
        fs::File::create(&archive).unwrap(),
        Compression::Plain,
        &tree,
        &text,
        None,
    )
    .unwrap();
    place.import(&archive).unwrap();
    let candidates = place
        .repository
        .candidates(&PackageName::new("kv").unwrap())
        .unwrap();
    assert!(candidates[0].services.is_empty());
    place.repository.provide(&candidates[0]).unwrap();
    let again = gather(&candidates, &Default::default()).unwrap();
    let shape = |tree: &builder::tree::Tree| {
        let nodes = tree.iter().map(|(path, node)| format!("{path} {:o}", node.mode));
        nodes.collect::<Vec<_>>()
    };
    assert_eq!(shape(&again), shape(&tree));
    assert_eq!(
        shape(&tree),
        ["/bin 755", "/bin/kv 755", "/etc 755", "/etc/key 600"]
    );

    let empty = gather(&[], &Default::default()).unwrap();
    write(
        fs::File::create(&archive).unwrap(),
        Compression::Plain,
        &empty,
        &text,
        None,
    )
    .unwrap();
    let error = place.import(&archive).unwrap_err();
    assert!(matches!(error, RepositoryError::NoProgram { .. }), "{error}");
}

#[test]
fn a_name_in_an_archive_is_no_pattern_and_an_ignore_file_there_is_a_file() {
    let place = Home::new();
    let archive = place.path("odd.mpm");
    let text = manifest("odd", "1");
    // Common permissions, and such as are kept path by path.
    for mode in [0o644, 0o600] {
        let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
        let mut put = |path: &str, content: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            if path.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
            }
            builder
                .append_data(&mut header, path, content.as_bytes())
                .unwrap();
        };
        put("meta/package.yaml", &text);
        for name in [
            "*",
            ".hermitageignore",
            "[a].js",
            "[empty]/",
            "back\\slash",
            "{b}",
        ] {
            let content = if name.ends_with('/') { "" } else { "*" };
            put(&format!("site/{name}"), content);
        }
        drop(builder.into_inner().unwrap());
        place.repository.import(&archive, true, &Silent).unwrap();
        let candidates = place
            .repository
            .candidates(&PackageName::new("odd").unwrap())
            .unwrap();
        place.repository.provide(&candidates[0]).unwrap();
        let tree = gather(&candidates, &Default::default()).unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_string()).collect();
        let names = [
            "",
            "/*",
            "/.hermitageignore",
            "/[a].js",
            "/[empty]",
            "/back\\slash",
            "/{b}",
        ];
        assert_eq!(paths, names.map(|name| format!("/site{name}")), "{mode:o}");
    }
}
