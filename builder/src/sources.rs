//! Lays the packages of a guest build side by side, in a workspace made for it: links to their sources, and manifests
//! that need nothing outside.
//!
//! Why: cargo names a package that lies outside of the workspace's root by its absolute path. That name goes into the
//! name of every symbol, and from there into the order of functions in what is built, so that two machines would get
//! different bytes from the same sources. Inside the root, packages are named by their relative path.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::cache::{self, CacheError, failed};

/// Why the packages cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A file could not be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A manifest is no TOML.
    #[error("cannot read `{}`", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// A manifest says something that we do not understand.
    #[error("`{}`: {reason}", path.display())]
    Unsupported {
        /// The manifest.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
}

/// Lays out `packages`, and all packages that they depend on by path, in `folder`; the profile and the lock file are
/// those of `workspace`. Gives the manifest to build. What has not changed is not touched, so that cargo finds
/// nothing to do.
pub(crate) fn lay_out(
    folder: &Path,
    workspace: &Path,
    packages: &[PathBuf],
) -> Result<PathBuf, SourcesError> {
    let mut layout = Layout::default();
    let members = packages
        .iter()
        .map(|package| layout.add(package, Role::Member))
        .collect::<Result<Vec<_>, _>>()?;
    let others = layout
        .packages
        .keys()
        .filter(|name| !members.contains(name))
        .cloned();

    let mut root = Table::new();
    root.insert(
        "workspace".to_owned(),
        Value::Table(Table::from_iter([
            ("resolver".to_owned(), Value::from("3")),
            ("exclude".to_owned(), others.collect::<Vec<_>>().into()),
            ("members".to_owned(), members.into()),
        ])),
    );
    if let Some(profile) = read(&workspace.join("Cargo.toml"))?.remove("profile") {
        root.insert("profile".to_owned(), profile);
    }
    let manifest = folder.join("Cargo.toml");
    write(&manifest, &root.to_string())?;
    let lock = workspace.join("Cargo.lock");
    write(
        &folder.join("Cargo.lock"),
        &fs::read_to_string(&lock).map_err(failed("read", &lock))?,
    )?;
    for (name, package) in &layout.packages {
        package.link(&folder.join(name))?;
    }
    Ok(manifest)
}

/// Packages by their names.
#[derive(Default)]
struct Layout {
    packages: BTreeMap<String, Package>,
}

/// What the lock file holds of a package: all of a member's dependencies, those for its tests and the optional ones
/// too; of a dependency's only what is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Member,
    Dependency,
}

struct Package {
    folder: PathBuf,
    manifest: Table,
}

impl Layout {
    /// Adds the package in `folder`, and those that it depends on by path; gives its name.
    fn add(&mut self, folder: &Path, role: Role) -> Result<String, SourcesError> {
        let path = folder.join("Cargo.toml");
        let mut manifest = read(&path)?;
        let (root, shared) = workspace_of(folder)?;
        let unsupported = |reason: &str| SourcesError::Unsupported {
            path: path.clone(),
            reason: reason.to_owned(),
        };

        let Some(Value::Table(package)) = manifest.get_mut("package") else {
            return Err(unsupported("it has no `[package]`"));
        };
        for (key, value) in package.iter_mut().filter(|(_, value)| is_inherited(value)) {
            let inherited = shared.get("package").and_then(|package| package.get(key));
            *value = inherited
                .ok_or_else(|| unsupported(&format!("`{key}` is not in the workspace")))?
                .clone();
        }
        let name = package
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if name.is_empty() || self.packages.contains_key(&name) {
            return Ok(name);
        }

        // The workspace around them has these.
        manifest.remove("workspace");
        manifest.remove("profile");
        if role == Role::Dependency {
            manifest.remove("dev-dependencies");
        }
        if manifest.get("lints").is_some_and(is_inherited) {
            manifest.remove("lints");
        }
        for (dependency, value) in dependencies(&mut manifest) {
            let mut base = folder;
            if is_inherited(value) {
                let known = shared.get("dependencies").and_then(|known| known.get(dependency));
                let known =
                    known.ok_or_else(|| unsupported(&format!("`{dependency}` is not in the workspace")))?;
                inherit(value, known);
                base = &root;
            }
            if let Some(path) = value.get_mut("path") {
                let folder = base.join(path.as_str().unwrap_or_default());
                let folder = folder.canonicalize().map_err(failed("read", &folder))?;
                *path = format!("../{}", self.add(&folder, Role::Dependency)?).into();
            }
        }
        let package = Package {
            folder: folder.to_owned(),
            manifest,
        };
        self.packages.insert(name.clone(), package);
        Ok(name)
    }
}

impl Package {
    /// Makes the folder look like the package: our manifest, links to everything else.
    fn link(&self, folder: &Path) -> Result<(), SourcesError> {
        write(&folder.join("Cargo.toml"), &self.manifest.to_string())?;
        let wanted: BTreeMap<_, _> = entries(&self.folder)?
            .into_iter()
            .filter(|(name, _)| {
                !is_own(name) && name != "target" && !name.as_encoded_bytes().starts_with(b".")
            })
            .collect();
        for (name, path) in entries(folder)? {
            if !is_own(&name) && fs::read_link(&path).ok().as_ref() != wanted.get(&name) {
                cache::remove(&path)?;
            }
        }
        for (name, source) in &wanted {
            let link = folder.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(source, &link).map_err(failed("create", &link))?;
            }
        }
        Ok(())
    }
}

/// Whether we write this file ourselves.
fn is_own(name: &OsStr) -> bool {
    name == "Cargo.toml" || name == "Cargo.lock"
}

fn entries(folder: &Path) -> Result<BTreeMap<OsString, PathBuf>, CacheError> {
    fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| (entry.file_name(), entry.path())))
                .collect()
        })
        .map_err(failed("read", folder))
}

fn read(manifest: &Path) -> Result<Table, SourcesError> {
    let text = fs::read_to_string(manifest).map_err(failed("read", manifest))?;
    text.parse().map_err(|source| SourcesError::Manifest {
        path: manifest.to_owned(),
        source: Box::new(source),
    })
}

/// Writes the file if it has another content.
fn write(file: &Path, content: &str) -> Result<(), CacheError> {
    if fs::read_to_string(file).is_ok_and(|known| known == content) {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
    }
    fs::write(file, content).map_err(failed("write", file))
}

/// The root of the workspace that a package belongs to, and the `[workspace]` there; its own folder and nothing, if it
/// belongs to none.
fn workspace_of(folder: &Path) -> Result<(PathBuf, Table), SourcesError> {
    for root in folder.ancestors() {
        let manifest = root.join("Cargo.toml");
        if manifest.exists() {
            if let Some(Value::Table(workspace)) = read(&manifest)?.remove("workspace") {
                return Ok((root.to_owned(), workspace));
            }
        }
    }
    Ok((folder.to_owned(), Table::new()))
}

/// Whether a value is `{ workspace = true, .. }`: given in the workspace's root.
fn is_inherited(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// Gives a dependency what the workspace says of it, besides what it says itself.
fn inherit(dependency: &mut Value, shared: &Value) {
    let mut merged = match shared {
        Value::Table(table) => table.clone(),
        version => Table::from_iter([("version".to_owned(), version.clone())]),
    };
    for (key, own) in dependency.as_table().into_iter().flatten() {
        match (key.as_str(), merged.get_mut(key)) {
            ("workspace", _) => {}
            ("features", Some(Value::Array(features))) => {
                features.extend(own.as_array().into_iter().flatten().cloned());
            }
            _ => {
                merged.insert(key.clone(), own.clone());
            }
        }
    }
    *dependency = Value::Table(merged);
}

/// All dependencies of a manifest, with their names: general ones, those of build scripts, of tests, of some targets.
fn dependencies(manifest: &mut Table) -> Vec<(&String, &mut Value)> {
    let mut found = Vec::new();
    for (key, value) in manifest.iter_mut() {
        match (key.as_str(), value) {
            ("dependencies" | "build-dependencies" | "dev-dependencies", Value::Table(table)) => {
                found.extend(table.iter_mut());
            }
            ("target", Value::Table(targets)) => {
                let tables = targets.iter_mut().filter_map(|(_, target)| target.as_table_mut());
                found.extend(tables.flat_map(dependencies));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_package(folder: &Path, manifest: &str) {
        write(&folder.join("Cargo.toml"), manifest).unwrap();
        write(&folder.join("src/lib.rs"), "").unwrap();
    }

    /// Two workspaces: `guest` with a package that depends on one of the outer workspace, which inherits.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let path = |name: &str| tree.path().join(name);
        write(
            &path("Cargo.toml"),
            "[workspace]\nmembers = [\"formats/*\"]\n[workspace.package]\nversion = \"1.2.3\"\n\
             [workspace.dependencies]\ncrc = { version = \"3\", features = [\"a\"] }\n",
        )
        .unwrap();
        write(
            &path("guest/Cargo.toml"),
            "[workspace]\n[profile.release]\nlto = true\n",
        )
        .unwrap();
        write(&path("guest/Cargo.lock"), "version = 4\n").unwrap();
        write_package(
            &path("guest/loader"),
            "[package]\nname = \"loader\"\n[dependencies]\nboot = { path = \"../../formats/boot\" }\n",
        );
        write_package(
            &path("formats/boot"),
            "[package]\nname = \"boot\"\nversion.workspace = true\n[lints]\nworkspace = true\n\
             [dependencies]\ncrc = { workspace = true, features = [\"b\"] }\n[dev-dependencies]\ntempfile = \"3\"\n",
        );
        tree
    }

    fn lay_out_tree(tree: &Path) -> PathBuf {
        lay_out(
            &tree.join("out"),
            &tree.join("guest"),
            &[tree.join("guest/loader")],
        )
        .unwrap()
    }

    #[test]
    fn manifests_need_nothing_from_outside() {
        let tree = tree();
        let root = read(&lay_out_tree(tree.path())).unwrap();
        let expected = "[workspace]\nresolver = \"3\"\nmembers = [\"loader\"]\nexclude = [\"boot\"]\n[profile.release]\nlto = true\n";
        assert_eq!(root, expected.parse().unwrap());
        let loader = read(&tree.path().join("out/loader/Cargo.toml")).unwrap();
        assert_eq!(loader["dependencies"]["boot"]["path"].as_str(), Some("../boot"));
        let boot = read(&tree.path().join("out/boot/Cargo.toml")).unwrap();
        let expected = "[package]\nname = \"boot\"\nversion = \"1.2.3\"\n[dependencies.crc]\nversion = \"3\"\nfeatures = [\"a\", \"b\"]\n";
        assert_eq!(boot, expected.parse().unwrap());
        assert!(tree.path().join("out/boot/src/lib.rs").exists());
    }

    #[test]
    fn the_same_sources_elsewhere_give_the_same_manifests() {
        let (one, two) = (tree(), tree());
        for name in ["Cargo.toml", "Cargo.lock", "loader/Cargo.toml", "boot/Cargo.toml"] {
            let text = |tree: &tempfile::TempDir| {
                lay_out_tree(tree.path());
                fs::read_to_string(tree.path().join("out").join(name)).unwrap()
            };
            assert_eq!(text(&one), text(&two), "{name}");
        }
    }

    #[test]
    fn what_is_gone_from_a_package_is_gone_from_its_place() {
        let tree = tree();
        let file = tree.path().join("formats/boot/build.rs");
        fs::write(&file, "").unwrap();
        lay_out_tree(tree.path());
        assert!(tree.path().join("out/boot/build.rs").exists());
        fs::remove_file(file).unwrap();
        lay_out_tree(tree.path());
        assert!(fs::symlink_metadata(tree.path().join("out/boot/build.rs")).is_err());
    }
}
