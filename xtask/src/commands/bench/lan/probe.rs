//! The image of `guest/probe`, a program with one subcommand for each property. The tests in virtual machines use it too.

use std::path::{Path, PathBuf};

use builder::compose::{ComposeRequest, Mode, compose};
use builder::environment::Environment;
use builder::event::Silent;
use builder::libhermit::Libhermit;
use builder::loader::build_loader;
use builder::manifest::Manifest;
use builder::resolve::Resolution;
use builder::service::{ServiceSpec, build_services};
use builder::session::Session;
use builder::toolchain::GuestToolchain;

/// Composes it in a folder. Its default is `probe hello` with `MODE=default`.
pub(crate) fn compose_probe(out_dir: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    compose_probe_with(&root().join("guest/probe"), "[]", out_dir)
}

fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The same, with `files` of the folder `package`, as a manifest names them.
pub(crate) fn compose_probe_with(
    package: &Path,
    files: &str,
    out_dir: &Path,
) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let session = |workspace: PathBuf| Session {
        workspace,
        environment: Environment::read(),
        observer: &Silent,
    };
    let main = session(root().to_owned());
    let toolchain = GuestToolchain::provide(&main)?;
    let libhermit = Libhermit::build(&main, &toolchain)?;
    let loader = build_loader(&main, &toolchain)?;
    // The probe is a workspace of its own.
    let crate_dir = root().join("guest/probe");
    let spec = ServiceSpec {
        crate_dir: crate_dir.clone(),
        bin: "probe".to_owned(),
        features: vec![],
        mounts_data: true,
    };
    let built = build_services(&session(crate_dir), &toolchain, &libhermit, &[spec])?;
    let binaries = built
        .into_iter()
        .map(|binary| (binary.name, binary.path))
        .collect();
    let text = format!(
        "{{ name: probe, title: Probe, author: Hermitage, services: [probe], files: {files}, \
           config_set: {{ hello: {{ bootcmd: probe hello, env: {{ MODE: default }} }} }} }}"
    );
    let manifest = Manifest::parse(&package.join("package.yaml"), text)?;
    let request = ComposeRequest {
        resolution: &Resolution::alone(manifest)?,
        out_dir,
        loader: &loader,
        binaries: &binaries,
        mode: Mode::Fresh,
    };
    Ok(compose(&request, &Silent)?.path)
}
